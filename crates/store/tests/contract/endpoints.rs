//! What goes to endpoints: their ids are of their own kind wherever they come back, and each event's fate is told.

use super::*;

impl World {
    /// A row for an endpoint, and a webhook to it about an event.
    async fn endpoint(&self) -> Id {
        let id = Id::new(Kind::Endpoint);
        let row = SetupRow {
            id,
            merchant: Some(self.merchant),
            slug: "e".to_owned(),
            doc: serde_json::json!({}),
            sealed: Some(vec![1]),
            version: 0,
        };
        self.store.put_setup(Setup { rows: vec![row], ..Setup::default() }).await.unwrap();
        id
    }

    fn webhook(&self, event: &Event, endpoint: Id) -> NewCommand {
        let mut new = self.command(event, &event.key, now());
        new.command.connection = endpoint;
        new.command.job = Job::Deliver { after_look_up: false };
        new.subject = format!("webhook/{}", event.id);
        new
    }

    async fn leased(&self, endpoint: Id) -> Vec<Command> {
        self.store.lease(now(), vec![(endpoint, 10)], 10, 60_000).await.unwrap().commands
    }
}

#[tokio::test]
async fn an_endpoint_has_its_own_kind_of_id_wherever_it_comes_back() {
    let world = world().await;
    let endpoint = world.endpoint().await;
    assert!(world.store.setup().await.unwrap().rows.iter().any(|row| row.id == endpoint));
    let event = world.read("k", |event| vec![world.webhook(event, endpoint)]).await;
    let command = world.leased(endpoint).await.remove(0);
    assert_eq!((command.connection, command.source), (endpoint, world.link));
    let exchange = Exchange {
        id: Id::new(Kind::Attempt),
        merchant: world.merchant,
        connection: endpoint,
        provider: "endpoint".to_owned(),
        at: now(),
        endpoint: "POST /".to_owned(),
        request: "{}".to_owned(),
        response: "200".to_owned(),
        error: None,
        duration_ms: 1,
        trace: "t".to_owned(),
    };
    let settlement = Settlement { exchanges: vec![exchange.clone()], ..World::settlement(&command, CommandState::Done) };
    let notice = Notice { merchant: world.merchant, connection: endpoint, kind: "x".to_owned(), text: String::new() };
    let change = Change { settlement: Some(settlement), notices: vec![notice], now: Some(now()), ..Change::default() };
    world.store.apply(change).await.unwrap();
    let timeline = world.store.timeline(event.id).await.unwrap().unwrap();
    assert_eq!((timeline.commands[0].connection, timeline.commands[0].exchanges[0].connection), (endpoint, endpoint));
    assert_eq!(world.store.command(command.id).await.unwrap().unwrap().1.connection, endpoint);
    assert_eq!(world.store.exchange(exchange.id).await.unwrap().unwrap().connection, endpoint);
    assert_eq!(world.store.notices(None, 10).await.unwrap()[0].connection, endpoint);
    world.store.put_breaker(endpoint, Some(OpenBreaker { since: now(), reason: "down".to_owned() })).await.unwrap();
    assert_eq!(world.store.breakers().await.unwrap()[0].0, endpoint);
    let filter = JournalFilter { connection: Some(endpoint), limit: 10, ..JournalFilter::default() };
    assert!(world.store.journal(filter).await.unwrap().iter().all(|row| row.integration_id == endpoint));
}

#[tokio::test]
async fn a_webhook_may_be_sent_twice_and_is_not_called_off_with_its_subject() {
    let world = world().await;
    let endpoint = world.endpoint().await;
    let event = world.read("k", |event| vec![world.webhook(event, endpoint)]).await;
    let command = world.leased(endpoint).await.remove(0);
    let later = now() + SignedDuration::from_secs(61);
    // By the clock of a shared store the lease holds still.
    if !world.store.shared() {
        assert_eq!(world.store.recover(later).await.unwrap(), (1, 0));
        assert_eq!(world.store.lease(later, vec![(endpoint, 10)], 10, 60_000).await.unwrap().commands.len(), 1);
    }
    let cancelled = NewEvent {
        event: world.event(event.entry, "cancelled"),
        commands: Vec::new(),
        call_off: Some("cancelled".to_owned()),
        pending: false,
    };
    world.store.apply(Change { events: vec![cancelled], ..Change::default() }).await.unwrap();
    assert_ne!(world.store.command(command.id).await.unwrap().unwrap().1.state, CommandState::Held);
}

#[tokio::test]
async fn a_webhook_that_is_held_back_does_not_end_the_look_up_of_its_event() {
    let world = world().await;
    let endpoint = world.endpoint().await;
    world.store.publish(true).await.unwrap();
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let event = world.event(entry.id, "k");
    let mut look_up = world.command(&event, "a", now());
    look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
    let commands = vec![look_up, world.webhook(&event, endpoint)];
    let new = NewEvent { event, commands, call_off: None, pending: true };
    world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    let webhook = world.leased(endpoint).await.remove(0);
    world.settle(World::settlement(&webhook, CommandState::Held)).await.unwrap();
    assert!(world.store.unpublished(10).await.unwrap().is_empty(), "it is not whole yet");
    let look_up = world.lease(now()).await.remove(0);
    world.settle(World::settlement(&look_up, CommandState::Dead)).await.unwrap();
    assert_eq!(world.store.unpublished(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn events_are_told_in_their_order_with_what_became_of_them_on_one_way_out() {
    let world = world().await;
    let endpoint = world.endpoint().await;
    let first = world.read("first", |event| vec![world.webhook(event, endpoint), world.command(event, "a", now())]).await;
    let second = world.read("second", |event| vec![world.webhook(event, endpoint)]).await;
    let third = world.read("third", |_| Vec::new()).await;
    let dead = world.leased(endpoint).await.into_iter().find(|command| command.event == Some(first.id)).unwrap();
    world.settle(World::settlement(&dead, CommandState::Dead)).await.unwrap();
    let told = async |after: Id, limit: usize| -> Vec<(Id, Vec<CommandState>)> {
        let told = world.store.told_to(world.merchant, endpoint, after, limit).await.unwrap();
        told.into_iter().map(|(event, states)| (event.id, states)).collect()
    };
    let start = Id::least(Kind::Event, Timestamp::UNIX_EPOCH);
    let [dead, waiting] = [CommandState::Dead, CommandState::Waiting];
    assert_eq!(told(start, 10).await, [(first.id, vec![dead]), (second.id, vec![waiting]), (third.id, vec![])]);
    assert_eq!(told(first.id, 1).await, [(second.id, vec![waiting])]);
    assert_eq!(told(third.id, 10).await, []);
    assert!(world.store.told_to(Id::new(Kind::Merchant), endpoint, start, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_waits_for_endpoints_is_counted_by_the_kind_of_its_event_until_it_is_settled() {
    let world = world().await;
    let endpoint = world.endpoint().await;
    let count = async |kind: &str, limit| world.store.waiting_of(vec![endpoint, world.link], kind, limit).await.unwrap();
    assert_eq!(count("order.", 100).await, 0);
    for key in ["a", "b", "c"] {
        // Each key has one that may go and one behind it.
        world
            .read(key, |event| {
                let behind = world.webhook(event, endpoint);
                vec![world.webhook(event, endpoint), behind]
            })
            .await;
    }
    assert_eq!((count("order.", 100).await, count("loyalty.", 100).await, count("", 4).await), (6, 0, 4));
    assert_eq!(world.store.waiting_of(Vec::new(), "", 100).await.unwrap(), 0);
    let sending = world.leased(endpoint).await;
    assert_eq!((sending.len(), count("order.completed", 100).await), (3, 6), "what is being sent is not done");
    world.settle(World::settlement(&sending[0], CommandState::Done)).await.unwrap();
    world.settle(World::settlement(&sending[1], CommandState::Dead)).await.unwrap();
    assert_eq!(count("order.", 100).await, 4);
}
