//! What a replay takes up again beside reading the entry anew: calls that its events led to and that are dead.
//!
//! What is done, unknown, held back or still under way is never queued a second time.

use jiff::Timestamp;
use uzel_model::{Event, Id, Job, signature::fingerprint};
use uzel_store::{Change, CommandState, NewCommand, NewEvent, Slot, StoreError, Timeline, TimelineCommand};

use crate::{Engine, Link, World, read};

/// Queues anew what is dead of an entry's calls, and gives how many.
pub(crate) async fn dead_calls(engine: &Engine, entry: Id) -> Result<u32, StoreError> {
    let Some(timeline) = engine.store.timeline(entry).await? else { return Ok(0) };
    let world = engine.world();
    let Some(link) = world.links.get(&timeline.connection) else { return Ok(0) };
    let now = engine.clock.now();
    let mut queued = 0;
    for event in &timeline.events {
        let of_event: Vec<&TimelineCommand> = commands(&timeline, event).collect();
        let look_up = look_up(link, event, &of_event, now);
        let pending = look_up.is_some();
        let mut commands = look_up.map_or_else(|| texts(&world, link, event, &of_event, now), |command| vec![command]);
        commands.extend(webhooks(&world, event, &of_event, pending, now));
        if commands.is_empty() {
            continue;
        }
        let new = NewEvent { event: event.clone(), commands, call_off: None, pending };
        let change = if pending {
            Change { resolved: Some(new), now: Some(now), ..Change::default() }
        } else {
            Change { commands: new.commands, now: Some(now), ..Change::default() }
        };
        queued += engine.store.apply(change).await?.queued;
    }
    Ok(queued)
}

fn commands<'a>(timeline: &'a Timeline, event: &Event) -> impl Iterator<Item = &'a TimelineCommand> {
    let event = event.id;
    timeline.commands.iter().filter(move |command| command.event == Some(event))
}

/// The look-up at which a chain of look-ups died.
fn look_up(link: &Link, event: &Event, of_event: &[&TimelineCommand], now: Timestamp) -> Option<NewCommand> {
    let last = of_event.last().filter(|last| last.state == CommandState::Dead)?;
    let Ok(Job::LookUp { what }) = serde_json::from_value(last.job.clone()) else { return None };
    Some(once(read::look_up(link, event, what, now), last.id))
}

/// The texts of flows of which nothing but dead commands is left, decided by today's rules.
fn texts(world: &World, link: &Link, event: &Event, of_event: &[&TimelineCommand], now: Timestamp) -> Vec<NewCommand> {
    let mut notes = Vec::new();
    let decided = read::decide(world, link, event, now, &mut notes);
    decided
        .into_iter()
        .filter_map(|new| {
            let mut before = of_event.iter().filter(|old| old.flow.is_some() && old.flow == new.command.flow);
            let all_dead = before.clone().all(|old| old.state == CommandState::Dead);
            let last = before.next_back().filter(|_| all_dead)?;
            Some(once(new, last.id))
        })
        .collect()
}

/// Webhooks of which nothing but dead commands is left, to endpoints that still take any.
fn webhooks(world: &World, event: &Event, of_event: &[&TimelineCommand], pending: bool, now: Timestamp) -> Vec<NewCommand> {
    let endpoints = world.endpoints_of(event.merchant);
    endpoints
        .filter_map(|endpoint| {
            let mut before = of_event.iter().filter(|old| old.connection == endpoint.id());
            let all_dead = before.clone().all(|old| old.state == CommandState::Dead);
            let last = before.next_back().filter(|_| all_dead)?;
            Some(once(endpoint.command(event, pending, now), last.id))
        })
        .collect()
}

/// Two replays at the same moment take a dead command up once.
fn once(mut new: NewCommand, dead: Id) -> NewCommand {
    new.slot.get_or_insert_with(|| Slot {
        key: fingerprint([b"again".as_slice(), dead.as_bytes()]),
        places: 1,
        also: None,
        until: Timestamp::MAX,
        reason: "replayed already".to_owned(),
    });
    new
}
