//! What people and providers say of messages: when somebody last wrote, and that a message was taken whose answer was lost.

use uzel_model::{connector::StatusNews, port::Delivery};
use uzel_store::{ErasurePlace, Heard};

use super::*;

const PHONE: &str = "+79991234567";

fn at(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

impl World {
    async fn heard_from(&self, connection: Id, who: &str, at: Timestamp) {
        let heard = vec![Heard { merchant: self.merchant, connection, who: who.to_owned(), at }];
        self.store.apply(Change { heard, now: Some(now()), ..Change::default() }).await.unwrap();
    }

    async fn last(&self, who: &str) -> Option<Timestamp> {
        self.store.last_heard(self.merchant, self.link, who).await.unwrap()
    }

    /// A status of a message of this key, and how the command stands after it.
    async fn known_after(
        &self,
        command: Id,
        connection: Id,
        state: Delivery,
    ) -> (CommandState, Option<String>, Option<Delivery>) {
        let news = StatusNews { key: Some(command.to_string()), ..StatusNews::new("wamid.1", state, "a") };
        self.store.apply(Change { statuses: vec![(connection, news)], now: Some(now()), ..Change::default() }).await.unwrap();
        self.stands(command).await
    }

    async fn stands(&self, command: Id) -> (CommandState, Option<String>, Option<Delivery>) {
        let (_, shown) = self.store.command(command).await.unwrap().unwrap();
        (shown.state, shown.provider_id, shown.delivery)
    }

    async fn sending(&self, key: &str) -> Command {
        self.read(key, |event| vec![self.command(event, key, now())]).await;
        self.lease(now()).await.remove(0)
    }

    async fn lose(&self, command: &Command) {
        let settlement = Settlement { exchanges: vec![self.exchange()], ..Self::settlement(command, CommandState::Unknown) };
        self.settle(settlement).await.unwrap();
    }
}

#[tokio::test]
async fn it_is_remembered_when_somebody_last_wrote_to_a_connection() {
    let world = world().await;
    assert_eq!(world.last(PHONE).await, None);
    for (told, known) in [(at(1), at(1)), (at(3), at(3)), (at(2), at(3))] {
        world.heard_from(world.link, PHONE, told).await;
        assert_eq!(world.last(PHONE).await, Some(known), "what is told late changes nothing");
    }
    world.heard_from(Id::new(Kind::Connection), PHONE, at(9)).await;
    world.heard_from(world.link, "chat/7", at(8)).await;
    assert_eq!((world.last(PHONE).await, world.last("chat/7").await), (Some(at(3)), Some(at(8))));
    assert_eq!(world.store.last_heard(Id::new(Kind::Merchant), world.link, PHONE).await.unwrap(), None);
}

#[tokio::test]
async fn who_wrote_is_forgotten_in_time_and_when_the_person_is_erased() {
    let world = world().await;
    for (who, hours) in [("old", -1), (PHONE, 1), ("+79990000000", 1)] {
        world.heard_from(world.link, who, at(hours)).await;
    }
    while world.store.purge_merchant(Id::new(Kind::Merchant), at(9), 10).await.unwrap() > 0 {}
    assert_eq!(world.last("old").await, Some(at(-1)), "another merchant's time is not this one's");
    while world.store.purge(now(), 10).await.unwrap() > 0 {}
    assert_eq!((world.last("old").await, world.last(PHONE).await), (None, Some(at(1))));
    world.store.hash_phones_by(Arc::new(|_, _| [7; 32]));
    let mut place = Some(ErasurePlace::default());
    while let Some(here) = place {
        place = world.store.erase(world.merchant, PHONE, here, 10).await.unwrap().next;
    }
    assert_eq!((world.last(PHONE).await, world.last("+79990000000").await), (None, Some(at(1))));
}

#[tokio::test]
async fn a_status_with_the_commands_key_ends_what_is_unknown_as_done() {
    use CommandState::{Done, Unknown};
    for state in [Delivery::OnTheWay, Delivery::Delivered, Delivery::Failed] {
        let world = world().await;
        let command = world.sending("a").await;
        world.lose(&command).await;
        assert_eq!(world.stands(command.id).await, (Unknown, None, None));
        let stranger = Id::new(Kind::Connection);
        assert_eq!(world.known_after(command.id, stranger, state).await.0, Unknown, "it went by another connection");
        let known = (Done, Some("wamid.1".to_owned()), Some(state));
        for _ in 0..2 {
            assert_eq!(world.known_after(command.id, world.link, state).await, known);
        }
        let counts = world.store.counts().await.unwrap();
        assert!(!counts.commands.iter().any(|(state, count)| *state == Unknown && *count > 0), "{counts:?}");
        assert!(world.store.fsck(false).await.unwrap().is_empty());
        assert_eq!(world.store.recover(at(1)).await.unwrap(), (0, 0));
    }
}

#[tokio::test]
async fn a_status_that_comes_before_the_call_has_ended_counts_if_its_answer_is_lost() {
    use CommandState::{Dead, Done, Waiting};
    let world = world().await;
    let command = world.sending("lost").await;
    world.known_after(command.id, world.link, Delivery::OnTheWay).await;
    world.lose(&command).await;
    let (state, provider_id, _) = world.stands(command.id).await;
    assert_eq!((state, provider_id.as_deref()), (Done, Some("wamid.1")));
    // Whatever else the answer says counts.
    for (key, ends) in [("refused", Dead), ("again", Waiting)] {
        let command = world.sending(key).await;
        world.known_after(command.id, world.link, Delivery::Failed).await;
        world.settle(Settlement { retry_at: Some(at(1)), ..World::settlement(&command, ends) }).await.unwrap();
        assert_eq!(world.stands(command.id).await.0, ends);
    }
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_status_that_came_before_whoever_sent_it_died_is_not_forgotten() {
    let world = world().await;
    world.read("a", |event| vec![world.command(event, "a", now())]).await;
    let command = world.store.lease(now(), vec![(world.link, 10)], 10, 1_000).await.unwrap().commands.remove(0);
    world.known_after(command.id, world.link, Delivery::OnTheWay).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    // Leases end by the store's own clock.
    while world.stands(command.id).await.0 != CommandState::Done {
        assert!(Instant::now() < deadline, "{:?}", world.stands(command.id).await);
        assert_eq!(world.store.recover(at(1)).await.unwrap(), (0, 0));
    }
    assert_eq!(world.stands(command.id).await.1.as_deref(), Some("wamid.1"));
    let counts = world.store.counts().await.unwrap();
    assert!(!counts.commands.iter().any(|(state, count)| *state == CommandState::Unknown && *count > 0), "{counts:?}");
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_status_for_nobody_or_with_a_strange_key_changes_nothing() {
    let world = world().await;
    let command = world.sending("a").await;
    world.lose(&command).await;
    for key in ["", "msg_01JD9X5ZP4", "cmd_", &Id::new(Kind::Command).to_string(), &Id::new(Kind::Event).to_string()] {
        let news = StatusNews { key: Some(key.to_owned()), ..StatusNews::new("wamid.2", Delivery::Read, "read") };
        world.store.apply(Change { statuses: vec![(world.link, news)], ..Change::default() }).await.unwrap();
        assert_eq!(world.stands(command.id).await.0, CommandState::Unknown, "{key}");
    }
}
