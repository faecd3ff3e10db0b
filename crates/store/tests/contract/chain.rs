//! Chains of messages: what follows, what news change of it, and what messages cost.

use jiff::SignedDuration;
use uzel_model::{
    Address, Channel, Content, Event, Id, Job, Price, Refusal,
    connector::StatusNews,
    id::Kind,
    port::{Cost, Delivery},
};
use uzel_store::{
    Applied, Change, Command, CommandState, CostFigure, Early, EntryState, FiguresOf, Follow, Mark, NewCommand, Next, STOPPED,
    Settlement, Slot, Step, StoreError, TimelineCommand,
};

use super::{World, now, world};

const SLOT: [u8; 16] = [7; 16];

/// A message to a phone with a place of its own, so that whoever holds it can be told.
fn with_slot(mut new: NewCommand) -> NewCommand {
    new.slot = Some(Slot {
        key: SLOT,
        until: now() + SignedDuration::from_hours(240),
        reason: "asked_recently".to_owned(),
        places: 1,
        also: None,
    });
    new
}

async fn first(world: &World, key: &str) -> (Event, Command) {
    let event = world.read(key, |event| vec![with_slot(world.command(event, "first", now()))]).await;
    (event, world.lease(now()).await.remove(0))
}

fn priced(micro: i64) -> Option<Price> {
    Some(Price { micro, currency: "RUB".to_owned() })
}

/// The end of a first message, with what follows it in ten minutes.
async fn end(
    world: &World,
    event: &Event,
    command: &Command,
    state: CommandState,
    price: Option<Price>,
) -> Result<Id, StoreError> {
    let due_at = if state == CommandState::Done { now() + SignedDuration::from_mins(10) } else { now() };
    let next = world.command(event, "second", due_at);
    let id = next.command.id;
    let exchange = world.exchange();
    let settlement = Settlement {
        provider_id: (state == CommandState::Done).then(|| "p-1".to_owned()),
        exchanges: vec![exchange],
        ..World::settlement(command, state)
    };
    let step = Step { channel: Channel::Whatsapp, price, next: Some(Next { command: id, why: "in case".to_owned() }) };
    let change =
        Change { settlement: Some(settlement), step: Some(step), commands: vec![next], now: Some(now()), ..Change::default() };
    world.store.apply(change).await.map(|_| id)
}

async fn tell(world: &World, news: StatusNews) {
    let statuses = vec![(world.link, news)];
    world.store.apply(Change { statuses, now: Some(now()), ..Change::default() }).await.unwrap();
}

fn told(state: Delivery) -> StatusNews {
    StatusNews::new("p-1", state, "code")
}

async fn shown(world: &World, id: Id) -> TimelineCommand {
    world.store.command(id).await.unwrap().expect("it is there").1
}

/// Whether somebody may take the place of the chain.
async fn is_free(world: &World, key: &str) -> bool {
    let event = world.read(key, |event| vec![with_slot(world.command(event, key, now()))]).await;
    let timeline = world.store.timeline(event.id).await.unwrap().unwrap();
    timeline.commands[0].state == CommandState::Waiting
}

async fn is_sound(world: &World) {
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn what_follows_a_message_waits_and_tells_what_it_follows() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let next = shown(&world, next).await;
    assert_eq!((next.state, next.after, next.why.as_deref()), (CommandState::Waiting, Some(command.id), Some("in case")));
    assert_eq!(shown(&world, command.id).await.after, None);
    assert!(world.lease(now()).await.is_empty());
    assert_eq!(world.lease(now() + SignedDuration::from_mins(10)).await.len(), 1);
    is_sound(&world).await;
}

#[tokio::test]
async fn a_settlement_that_is_late_queues_nothing() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    assert!(matches!(end(&world, &event, &command, CommandState::Done, None).await, Err(StoreError::Conflict)));
    let timeline = world.store.timeline(event.id).await.unwrap().unwrap();
    assert_eq!(timeline.commands.len(), 2);
}

#[tokio::test]
async fn a_message_that_has_arrived_holds_back_what_was_to_follow() {
    for state in [Delivery::Delivered, Delivery::Read] {
        let world = world().await;
        let (event, command) = first(&world, "k").await;
        let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
        tell(&world, told(state)).await;
        let next = shown(&world, next).await;
        assert_eq!((next.state, next.reason.as_deref()), (CommandState::Held, Some("delivered")), "{state:?}");
        assert!(world.lease(now() + SignedDuration::from_hours(1)).await.is_empty());
        assert!(!is_free(&world, "other").await, "somebody was asked");
        is_sound(&world).await;
    }
}

#[tokio::test]
async fn a_message_that_failed_later_makes_what_follows_due_at_once() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    tell(&world, told(Delivery::OnTheWay)).await;
    assert!(world.lease(now()).await.is_empty());
    tell(&world, told(Delivery::Failed)).await;
    let leased = world.lease(now()).await;
    assert_eq!(leased.iter().map(|command| command.id).collect::<Vec<_>>(), [next]);
    assert_eq!(shown(&world, next).await.why.as_deref(), Some("in case; it failed with code"));
    // The place has gone over: whoever ends without having asked anybody gives it back.
    assert!(!is_free(&world, "other").await);
    let dead = Settlement { frees_slot: true, ..World::settlement(&leased[0], CommandState::Dead) };
    world.settle(dead).await.unwrap();
    assert!(is_free(&world, "third").await);
    is_sound(&world).await;
}

#[tokio::test]
async fn a_failure_after_all_steps_gives_the_place_back() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let leased = world.lease(now() + SignedDuration::from_mins(10)).await.remove(0);
    assert_eq!(leased.id, next);
    world.settle(World::settlement(&leased, CommandState::Dead)).await.unwrap();
    assert!(!is_free(&world, "other").await, "the first may still arrive");
    tell(&world, told(Delivery::Failed)).await;
    assert!(is_free(&world, "third").await);
    is_sound(&world).await;
}

#[tokio::test]
async fn a_step_that_ends_badly_hands_its_place_on() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    end(&world, &event, &command, CommandState::Dead, None).await.unwrap();
    assert!(!is_free(&world, "other").await);
    let leased = world.lease(now()).await.remove(0);
    world.settle(Settlement { frees_slot: true, ..World::settlement(&leased, CommandState::Dead) }).await.unwrap();
    assert!(is_free(&world, "third").await);
    is_sound(&world).await;
}

#[tokio::test]
async fn what_is_being_sent_when_the_message_before_arrives_is_not_tried_again() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let leased = world.lease(now() + SignedDuration::from_mins(10)).await.remove(0);
    tell(&world, told(Delivery::Delivered)).await;
    let again = Settlement { retry_at: Some(now()), ..World::settlement(&leased, CommandState::Waiting) };
    world.settle(again).await.unwrap();
    let next = shown(&world, next).await;
    assert_eq!((next.state, next.reason.as_deref()), (CommandState::Held, Some("delivered")));
    is_sound(&world).await;
}

#[tokio::test]
async fn a_cancellation_calls_all_steps_off_also_one_that_is_queued_only_then() {
    for under_way in [false, true] {
        let world = world().await;
        let (event, command) = first(&world, "k").await;
        let cancel = async || {
            let mut entry = world.entry();
            entry.id = Id::new(Kind::Entry);
            world.store.append(entry.clone()).await.unwrap();
            let cancelled = Event { kind: "order.cancelled".to_owned(), ..world.event(entry.id, "cancelled") };
            let cancelled = uzel_store::NewEvent {
                event: cancelled,
                commands: Vec::new(),
                call_off: Some("cancelled".to_owned()),
                pending: false,
            };
            world.store.apply(Change { events: vec![cancelled], now: Some(now()), ..Change::default() }).await.unwrap();
        };
        if under_way {
            cancel().await;
        }
        let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
        if !under_way {
            cancel().await;
        }
        let next = shown(&world, next).await;
        assert_eq!((next.state, next.reason.as_deref()), (CommandState::Held, Some("cancelled")), "under way: {under_way}");
        assert!(world.lease(now() + SignedDuration::from_hours(1)).await.is_empty());
        is_sound(&world).await;
    }
}

#[tokio::test]
async fn whoever_wants_no_messages_is_told_by_a_status_too() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let next = end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    tell(&world, StatusNews { refusal: Some(Refusal::OptOut), ..told(Delivery::Failed) }).await;
    let next = shown(&world, next).await;
    assert_eq!((next.state, next.reason.as_deref()), (CommandState::Held, Some("opt_out")));
    world.read("later", |event| vec![world.command(event, "later", now())]).await;
    assert!(world.lease(now()).await.remove(0).contact.opted_out);
    is_sound(&world).await;
}

#[tokio::test]
async fn a_final_state_is_never_left_but_what_was_delivered_may_be_read() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let mut seen = Vec::new();
    for state in
        [Delivery::Delivered, Delivery::Failed, Delivery::OnTheWay, Delivery::Read, Delivery::Delivered, Delivery::Failed]
    {
        tell(&world, told(state)).await;
        seen.push(shown(&world, command.id).await.delivery.unwrap());
    }
    use Delivery::{Delivered, Read};
    assert_eq!(seen, [Delivered, Delivered, Delivered, Read, Read, Read]);
}

#[tokio::test]
async fn messages_are_found_by_the_provider_s_ids() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let find = async || world.store.messages(world.link, vec!["p-1".to_owned(), "p-2".to_owned()]).await.unwrap();
    assert!(find().await.is_empty());
    end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let found = find().await;
    let told: Vec<_> = found.iter().map(|message| (message.command, message.event, message.state)).collect();
    assert_eq!(told, [(command.id, Some(event.id), Delivery::OnTheWay)]);
    assert!(world.store.messages(Id::new(Kind::Connection), vec!["p-1".to_owned()]).await.unwrap().is_empty());
}

/// An entry that tells of a message.
async fn news_entry(world: &World) -> (Id, Applied) {
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    assert!(world.store.unread(10).await.unwrap().iter().any(|unread| unread.id == entry.id));
    let mark =
        Mark { entry: entry.id, again: false, state: EntryState::Read, notes: vec!["not known".to_owned()], refs: Vec::new() };
    let early = vec![Early { connection: world.link, provider_id: "p-1".to_owned(), entry: entry.id }];
    let change = Change { mark: Some(mark), early, now: Some(now()), ..Change::default() };
    (entry.id, world.store.apply(change).await.unwrap())
}

async fn unread(world: &World) -> Vec<Id> {
    world.store.unread(10).await.unwrap().into_iter().map(|entry| entry.id).collect()
}

#[tokio::test]
async fn news_of_a_message_that_is_not_known_yet_are_read_again_when_it_is() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    let (entry, applied) = news_entry(&world).await;
    assert_eq!(applied.read_again, 0);
    assert!(unread(&world).await.is_empty());
    end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    assert_eq!(unread(&world).await, [entry]);
    let counts = world.store.counts().await.unwrap();
    assert!(counts.entries.contains(&(EntryState::Unread, 1)), "{counts:?}");
    // Once.
    let mark = Mark { entry, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
    world.store.apply(Change { mark: Some(mark), ..Change::default() }).await.unwrap();
    assert!(unread(&world).await.is_empty());
    is_sound(&world).await;
}

#[tokio::test]
async fn news_of_a_message_that_has_become_known_while_they_were_read_are_read_again_at_once() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    end(&world, &event, &command, CommandState::Done, None).await.unwrap();
    let (entry, applied) = news_entry(&world).await;
    assert_eq!(applied.read_again, 1);
    assert_eq!(unread(&world).await, [entry]);
    is_sound(&world).await;
}

#[tokio::test]
async fn what_messages_cost_is_added_up_by_month_and_kept_when_they_are_forgotten() {
    let world = world().await;
    // Without a place, which would keep its entry.
    let event = world.read("k", |event| vec![world.command(event, "first", now())]).await;
    let command = world.lease(now()).await.remove(0);
    end(&world, &event, &command, CommandState::Done, priced(4_500)).await.unwrap();
    let costs = async || {
        let rows = world.store.costs(world.merchant, "2026-11").await.unwrap();
        rows.into_iter().map(|row| (row.channel, row.provider, row.currency, row.micro, row.messages)).collect::<Vec<_>>()
    };
    let sum = |micro| vec![("whatsapp".to_owned(), "test".to_owned(), "RUB".to_owned(), micro, 1)];
    assert_eq!(costs().await, sum(4_500));
    let told = |cost: &str| {
        let cost = Some(Cost { cost: cost.to_owned(), currency: "rub".into(), segments: 1 });
        StatusNews { cost, ..told(Delivery::Delivered) }
    };
    // What is told last counts, and once.
    for cost in ["3.20", "3.20", "no sum"] {
        tell(&world, told(cost)).await;
        assert_eq!(costs().await, sum(3_200_000), "{cost}");
    }
    let shown = shown(&world, command.id).await;
    assert_eq!((shown.cost.as_deref(), shown.currency.as_deref()), (Some("3.2"), Some("RUB")));
    let figures = async |from: jiff::Timestamp, to: jiff::Timestamp| {
        let of = FiguresOf { connections: vec![world.link], kinds: Vec::new(), from, to };
        world.store.figures(of).await.unwrap().costs
    };
    let day = SignedDuration::from_hours(24);
    let sum_of_day = [CostFigure { currency: "RUB".to_owned(), micro: 3_200_000, count: 1 }];
    assert_eq!(figures(now() - day, now() + day).await, sum_of_day);
    assert_eq!(figures(now() + day, now() + day * 2).await, []);
    assert!(world.store.costs(world.merchant, "2026-12").await.unwrap().is_empty());
    assert!(world.store.costs(Id::new(Kind::Merchant), "2026-11").await.unwrap().is_empty());
    let mut gone = 1;
    while gone > 0 {
        gone = world.store.purge(jiff::Timestamp::now(), 100).await.unwrap();
    }
    assert!(world.store.command(command.id).await.unwrap().is_none());
    assert_eq!(costs().await, sum(3_200_000));
    is_sound(&world).await;
}

#[tokio::test]
async fn an_address_other_than_a_phone_is_sent_to_as_well() {
    let world = world().await;
    let (event, command) = first(&world, "k").await;
    end(&world, &event, &command, CommandState::Dead, None).await.unwrap();
    let mut mail = world.command(&event, "mail", now());
    mail.command.job = Job::Send {
        to: Address::Email("maria@example.com".to_owned()),
        content: Content { subject: Some("Hi".to_owned()), ..Content::text("mail") }.into(),
        consent: false,
        repeatable: true,
        batch: None,
    };
    world.store.apply(Change { commands: vec![mail], ..Change::default() }).await.unwrap();
    let leased = world.lease(now()).await;
    assert_eq!(leased.len(), 2);
    assert!(leased.iter().any(|command| command.job.address() == Some(&Address::Email("maria@example.com".to_owned()))));
}

#[tokio::test]
async fn a_message_that_its_hub_left_while_sending_is_followed_once_and_only_while_it_is_unknown() {
    let world = world().await;
    let follow = async |after: Id, event: &Event, name: &str| {
        let next = world.command(event, name, now());
        let id = next.command.id;
        let follow = Follow { after, next: Next { command: id, why: "the hub stopped".to_owned() } };
        let change = Change { follow: Some(follow), commands: vec![next], now: Some(now()), ..Change::default() };
        world.store.apply(change).await.map(|_| id)
    };
    let event = world.read("k", |event| vec![world.command(event, "first", now())]).await;
    let command = world.store.lease(now(), vec![(world.link, 1)], 1, 1).await.unwrap().commands.remove(0);
    assert!(matches!(follow(command.id, &event, "early").await, Err(StoreError::Conflict)), "it is being sent");
    let later = now() + SignedDuration::from_mins(1);
    let mut taken_back = (0, 0);
    while taken_back == (0, 0) {
        taken_back = world.store.recover(later).await.unwrap();
    }
    assert_eq!(taken_back, (0, 1));
    assert_eq!(shown(&world, command.id).await.reason.as_deref(), Some(STOPPED));
    let next = follow(command.id, &event, "second").await.unwrap();
    let stands = shown(&world, next).await;
    assert_eq!(
        (stands.state, stands.after, stands.why.as_deref()),
        (CommandState::Waiting, Some(command.id), Some("the hub stopped"))
    );
    assert!(matches!(follow(command.id, &event, "third").await, Err(StoreError::Conflict)));
    assert!(matches!(follow(next, &event, "fourth").await, Err(StoreError::Conflict)));
    assert_eq!(world.store.timeline(event.id).await.unwrap().unwrap().commands.len(), 2);
    is_sound(&world).await;
}
