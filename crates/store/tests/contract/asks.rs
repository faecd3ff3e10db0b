//! What an entry only names: asked for without an event, and told in an entry of its own.

use super::*;

#[tokio::test]
async fn a_question_without_an_event_stands_in_the_timeline_of_its_entry_and_its_answer_is_unread() {
    let world = world().await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let event = world.event(entry.id, "none");
    let mut asked = world.command(&event, "asked/order/1", now());
    asked.command.event = None;
    asked.command.job = Job::LookUp { what: serde_json::json!({ "order": 1 }) };
    let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: vec!["1".to_owned()] };
    let change = Change { mark: Some(mark), commands: vec![asked], now: Some(now()), ..Change::default() };
    assert_eq!(world.store.apply(change).await.unwrap().queued, 1);
    let timeline = world.store.timeline(entry.id).await.unwrap().unwrap();
    let [command] = &timeline.commands[..] else { panic!("{:?}", timeline.commands) };
    assert_eq!((timeline.state, command.event), (EntryState::Read, None));
    let leased = world.lease(now()).await.remove(0);
    assert_eq!(world.store.timeline(leased.id).await.unwrap().unwrap().entry, entry.id, "it is found by the question too");
    // How it ended and what was told are written together.
    let answer = world.entry();
    let settlement = Some(World::settlement(&leased, CommandState::Done));
    let change = Change { entries: vec![answer.clone()], settlement, now: Some(now()), ..Change::default() };
    world.store.apply(change.clone()).await.unwrap();
    let unread: Vec<Id> = world.store.unread(10).await.unwrap().into_iter().map(|entry| entry.id).collect();
    assert_eq!(unread, [answer.id]);
    let again = Change { entries: vec![world.entry()], ..change };
    assert!(matches!(world.store.apply(again).await, Err(StoreError::Conflict)), "an answer that comes too late is dropped");
    assert!(world.store.unread(10).await.unwrap().is_empty());
}
