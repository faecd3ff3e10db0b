//! Batches: messages that wait behind the command that sends them all, and end with it.

use uzel_model::{Channel, Id, Job, connector::StatusNews, id::Kind, port::Delivery};
use uzel_store::{Change, Command, CommandState, Early, EntryState, Mark, NewCommand, Part, Settlement, Step};

use super::{World, now, world};

/// A batch of three messages, queued; gives the ids of these.
async fn batch(world: &World) -> Vec<Id> {
    let event = world.event(Id::new(Kind::Entry), "none");
    let alone = |key: &str| {
        let mut new = world.command(&event, key, now());
        new.command.event = None;
        NewCommand { ordering_key: "batch".to_owned(), subject: new.command.id.to_string(), ..new }
    };
    let mut first = alone("batch");
    let messages: Vec<NewCommand> = ["a", "b", "c"].map(alone).into();
    let ids: Vec<Id> = messages.iter().map(|new| new.command.id).collect();
    first.command.job = Job::Batch { messages: ids.clone(), held: Vec::new(), body: Some("[]".to_owned()) };
    let change = Change { commands: [vec![first], messages].concat(), now: Some(now()), ..Change::default() };
    world.store.apply(change).await.unwrap();
    ids
}

fn done(world: &World, batch: &Command, parts: Vec<Part>) -> Change {
    let settlement = Settlement { exchanges: vec![world.exchange()], ..World::settlement(batch, CommandState::Done) };
    let step = Some(Step { channel: Channel::Email, price: None, next: None });
    Change { settlement: Some(settlement), step, parts, now: Some(now()), ..Change::default() }
}

fn taken(command: Id, provider_id: &str) -> Part {
    Part { command, state: CommandState::Done, reason: None, provider_id: Some(provider_id.to_owned()) }
}

async fn state(world: &World, id: Id) -> (CommandState, Option<String>, Option<Delivery>) {
    let (_, command) = world.store.command(id).await.unwrap().unwrap();
    (command.state, command.provider_id, command.delivery)
}

async fn is_sound(world: &World) {
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn messages_end_with_their_batch_and_each_has_an_id_of_its_own() {
    let world = world().await;
    let ids = batch(&world).await;
    let leased = world.lease(now()).await;
    assert!(matches!(&leased[..], [Command { job: Job::Batch { .. }, .. }]), "they wait behind it: {leased:?}");
    // News of the second come before its id is known.
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let news = StatusNews::new("p-2", Delivery::Delivered, "delivered");
    let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
    let early = vec![Early { connection: world.link, provider_id: "p-2".to_owned(), entry: entry.id }];
    let change =
        Change { mark: Some(mark), early, statuses: vec![(world.link, news.clone())], now: Some(now()), ..Change::default() };
    world.store.apply(change).await.unwrap();

    let refused =
        Part { command: ids[2], state: CommandState::Dead, reason: Some("no such mailbox".to_owned()), provider_id: None };
    let parts = vec![taken(ids[0], "p-1"), taken(ids[1], "p-2"), refused];
    world.store.apply(done(&world, &leased[0], parts)).await.unwrap();
    let unread: Vec<Id> = world.store.unread(10).await.unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(unread, [entry.id], "what was told of the second is read again");
    world.store.apply(Change { statuses: vec![(world.link, news)], now: Some(now()), ..Change::default() }).await.unwrap();
    assert_eq!(state(&world, ids[0]).await, (CommandState::Done, Some("p-1".to_owned()), Some(Delivery::OnTheWay)));
    assert_eq!(state(&world, ids[1]).await, (CommandState::Done, Some("p-2".to_owned()), Some(Delivery::Delivered)));
    assert_eq!(state(&world, ids[2]).await, (CommandState::Dead, None, None));
    assert!(world.lease(now()).await.is_empty(), "none goes by itself");
    let messages = world.store.messages(world.link, vec!["p-1".to_owned(), "p-2".to_owned()]).await.unwrap();
    let of: Vec<Id> = messages.iter().map(|message| message.command).collect();
    assert!(of.len() == 2 && of.contains(&ids[0]) && of.contains(&ids[1]), "{messages:?}");
    is_sound(&world).await;
}

#[tokio::test]
async fn a_batch_that_ends_late_ends_no_message_and_one_that_tells_of_none_lets_them_go() {
    let world = world().await;
    let ids = batch(&world).await;
    let leased = world.lease(now()).await.remove(0);
    let late = Command { lease: leased.lease + 1_000, ..leased.clone() };
    assert!(world.store.apply(done(&world, &late, vec![taken(ids[0], "p-1")])).await.is_err());
    assert_eq!(state(&world, ids[0]).await.0, CommandState::Waiting);
    // A message that was called off meanwhile stays so.
    world.store.cancel(ids[1], "called off").await.unwrap();
    world.store.apply(done(&world, &leased, vec![taken(ids[1], "p-2")])).await.unwrap();
    assert_eq!(state(&world, ids[1]).await, (CommandState::Held, None, None));
    // The others step forward one after another.
    for id in [ids[0], ids[2]] {
        let next = world.lease(now()).await;
        assert_eq!(next.iter().map(|command| command.id).collect::<Vec<_>>(), [id]);
        world.settle(World::settlement(&next[0], CommandState::Done)).await.unwrap();
    }
    is_sound(&world).await;
}
