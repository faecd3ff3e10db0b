//! The read loop: takes what nobody has read yet, and commits what follows from it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use uzel_model::{
    Bytes, Event, Happening, Id, Job, Request,
    connector::{ASKED, ChatNews, Reading, StatusNews},
    event::kind,
    id::Kind,
    phone, signature,
};
use uzel_store::{Change, Command, Contact, Entry, EntryState, Mark, NewCommand, NewEvent, Notice, Source, StoreError};

use crate::{
    Engine, Link, ProviderLabel, World, chain, consent, endpoint,
    flow::{Decision, Place},
    lost, loyalty, recipient, review,
    status::{self, Known},
    trace, window,
    world::Origin,
};

/// Entries read in one go: small enough that a request to be answered never waits long behind them.
const PORTION: usize = 64;
/// For so long something is looked up.
const LOOKED_FOR: SignedDuration = SignedDuration::from_hours(72);
/// What is said of an entry whose person was erased.
pub(crate) const ERASED: &str = "its content was erased";
/// Portions under way: while one is written, the next is read.
const PORTIONS: usize = 2;

pub(crate) async fn run(engine: Arc<Engine>) {
    let appended = engine.store.appended();
    let start = Id::new(Kind::Entry).ordinal();
    // Read, but refused by the store: kept until it takes them.
    let mut left: Vec<Entry> = Vec::new();
    while !engine.stop.is_cancelled() {
        if left.is_empty() {
            let unread = engine.store.unread(PORTION * PORTIONS).await;
            // The oldest come first.
            if unread.as_ref().is_ok_and(|entries| entries.first().is_none_or(|first| first.id.ordinal() > start)) {
                engine.caught_up.cancel();
            }
            match unread {
                Ok(entries) if entries.is_empty() => {
                    tokio::select! {
                        biased;
                        () = appended.notified() => {}
                        () = engine.stop.cancelled() => return,
                    }
                    continue;
                }
                Ok(entries) => left = entries,
                Err(error) => {
                    tracing::error!("the inbox cannot be read: {error}");
                    pause(&engine).await;
                }
            }
        }
        left = read_all(&engine, left).await;
        if !left.is_empty() {
            pause(&engine).await;
        }
    }
}

/// The store refuses for the moment; come back soon.
async fn pause(engine: &Engine) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
        () = engine.stop.cancelled() => {}
    }
}

/// Reads entries, portion by portion; gives back those whose change could not be committed.
async fn read_all(engine: &Engine, mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut portions = Vec::new();
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(PORTION));
        portions.push(std::mem::replace(&mut entries, rest));
    }
    let read = futures::stream::iter(portions).map(|portion| read_portion(engine, portion)).buffered(PORTIONS);
    read.collect::<Vec<_>>().await.concat()
}

async fn read_portion(engine: &Engine, entries: Vec<Entry>) -> Vec<Entry> {
    let world = engine.world();
    let now = engine.clock.now();
    let known = match status::known(engine.store.as_ref(), &world, &entries).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!("messages cannot be looked for yet: {error}");
            return entries;
        }
    };
    let changes = entries.iter().map(|entry| {
        let change = trace::reading(entry).in_scope(|| {
            let change = change(&world, entry, &known, now);
            tracing::debug!(events = change.events.len(), "an entry is read");
            change
        });
        if let Some(link) = world.links.get(&entry.connection) {
            let label = ProviderLabel { provider: link.provider.id };
            engine.metrics.events.get_or_create(&label).inc_by(change.events.len() as u64);
        }
        change
    });
    let changes: Vec<Change> = changes.collect();
    let ended: Vec<Option<Id>> = changes.iter().map(|change| change.ends_login).collect();
    let named = changes.iter().flat_map(|change| &change.statuses).filter(|(_, news)| news.to.is_some());
    let named: Vec<(Id, StatusNews)> = named.cloned().collect();
    // What waits for a message's fate may be due now.
    let hastens = changes.iter().any(|change| !change.statuses.is_empty());
    let outcomes = engine.store.apply_all(changes).await;
    let (mut queued, mut told) = (0, 0);
    let mut left = Vec::new();
    for ((entry, ended), outcome) in entries.into_iter().zip(ended).zip(outcomes) {
        match outcome {
            Ok(applied) => {
                queued += applied.queued;
                told += applied.new_events;
                engine.forget_login(ended);
            }
            // Somebody has read it meanwhile.
            Err(StoreError::Conflict) => {}
            Err(error) => {
                tracing::warn!(trace.id = entry.trace, entry.id = %entry.id, "what was read cannot be written yet: {error}");
                left.push(entry);
            }
        }
    }
    if queued > 0 || hastens {
        engine.due.notify_one();
    }
    if told > 0 {
        engine.told.notify_one();
    }
    lost::recognise(engine, named).await;
    left
}

/// Everything that follows from an entry. The same entry in the same world gives the same keys.
///
/// What panics on the way (a reader, a flow's condition) makes a dead letter, not a dead hub.
pub(crate) fn change(world: &World, entry: &Entry, known: &Known, now: Timestamp) -> Change {
    std::panic::catch_unwind(AssertUnwindSafe(|| read(world, entry, known, now))).unwrap_or_else(|_| {
        let notes = vec!["reading it failed: this is a fault of the hub".to_owned()];
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Dead, notes, refs: Vec::new() };
        Change { mark: Some(mark), now: Some(now), ..Change::default() }
    })
}

fn read(world: &World, entry: &Entry, known: &Known, now: Timestamp) -> Change {
    let mut change = Change { now: Some(now), ..Change::default() };
    let mut mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
    match world.links.get(&entry.connection) {
        _ if entry.is_erased() => mark.notes.push(ERASED.to_owned()),
        _ if entry.provider == review::SOURCE => review::follow(world, entry, now, &mut mark, &mut change),
        _ if entry.provider == loyalty::SOURCE => loyalty::follow(world, entry, now, &mut mark, &mut change),
        None => {
            mark.state = EntryState::Dead;
            mark.notes.push("its connection does not exist or cannot be used".to_owned());
        }
        Some(link) => match status::parse(link.connector.as_ref(), entry) {
            Err(malformed) => {
                mark.state = EntryState::Dead;
                mark.notes.push(malformed.to_string());
            }
            Ok(reading) => follow(world, link, entry, reading, known, now, &mut mark, &mut change),
        },
    }
    change.links = review::made(world, &change.events, now);
    change.mark = Some(mark);
    change
}

#[expect(clippy::too_many_arguments, reason = "what is read, in what it is read, and what is made of it")]
fn follow(
    world: &World,
    link: &Link,
    entry: &Entry,
    reading: Reading,
    known: &Known,
    now: Timestamp,
    mark: &mut Mark,
    change: &mut Change,
) {
    mark.notes.extend(reading.skipped);
    change.words = consent::chosen(link, entry, reading.choices);
    for happening in reading.happenings {
        let new = event(world, link, entry, happening, now, &mut mark.notes);
        if let Some(word) = consent::said(entry, &new.event) {
            mark.notes.push(format!("wants no messages any more: {}", word.text));
            change.words.push(word);
        }
        change.events.push(new);
    }
    for news in reading.chats {
        change.events.push(chat(world, link, entry, news, now, &mut mark.notes));
    }
    for ask in reading.asks {
        mark.refs.extend(ask.refs);
        change.commands.push(asked(link, entry, ask.subject, ask.what, now));
    }
    status::follow(world, link, entry, reading.statuses, known, mark, change);
    if let Some(why) = reading.disconnected {
        let happening = Happening {
            key: Some(format!("disabled/{}", entry.id)),
            kind: kind::CONNECTION_DISABLED,
            subject: format!("connection/{}", link.id),
            at: None,
            person: Default::default(),
            refs: Vec::new(),
            data: serde_json::json!({ "reason": why }),
            look_up: None,
        };
        change.events.push(event(world, link, entry, happening, now, &mut mark.notes));
        // A refresh token that is dead by now would be tried for ever.
        change.ends_login = Some(link.id);
        change.notices.push(Notice { merchant: link.merchant, connection: link.id, kind: "disconnected".to_owned(), text: why });
    }
    for warning in reading.warnings {
        let text = format!("{}: {}", link.provider.name, warning.text);
        change.notices.push(Notice { merchant: link.merchant, connection: link.id, kind: warning.kind, text });
    }
    change.heard.extend(change.events.iter().filter_map(|new| window::heard(&new.event, now)));
    for new in &mut change.events {
        let told = endpoint::told(world, new, now, &mut mark.notes);
        new.commands.extend(told);
    }
}

/// What a person did in a chat: an event, and the command that takes it up.
fn chat(world: &World, link: &Link, entry: &Entry, news: ChatNews, now: Timestamp, notes: &mut Vec<String>) -> NewEvent {
    let happening = Happening {
        key: Some(news.key),
        kind: kind::CHAT_CHANGED,
        subject: news.of.key(),
        at: news.at,
        person: Default::default(),
        refs: Vec::new(),
        data: serde_json::json!({ "turn": news.turn.word() }),
        look_up: None,
    };
    let mut new = event(world, link, entry, happening, now, notes);
    let command = recipient::chat::command(link, Some(new.event.id), news.of, news.turn, new.event.trace.clone(), now);
    new.commands.push(command);
    new
}

fn event(world: &World, link: &Link, entry: &Entry, happening: Happening, now: Timestamp, notes: &mut Vec<String>) -> NewEvent {
    let phone = phone::first(&happening.person.phones, &link.country);
    let email = happening.person.email();
    let weak_key = happening.key.is_none();
    let received_at = entry.request.received_at;
    let key = happening.key.unwrap_or_else(|| {
        // Hashed, since keys are shown where phones are masked.
        let whom = phone
            .as_ref()
            .map_or_else(|_| "-".to_owned(), |phone| signature::sha256_hex([phone.e164.as_bytes()])[..16].to_owned());
        let hour = received_at.as_second() / 3_600;
        format!("weak/{whom}/{}/{}/{hour}", happening.kind, happening.data["status"])
    });
    if weak_key {
        notes.push("weak key: the body carries no id, so repeats are told by phone, status and hour".to_owned());
    }
    let event = Event {
        id: Id::new(Kind::Event),
        merchant: link.merchant,
        connection: link.id,
        provider: link.provider.id.to_owned(),
        outlet: link.outlet,
        kind: happening.kind.to_owned(),
        subject: happening.subject,
        key,
        weak_key,
        at: happening.at.unwrap_or(received_at),
        name: happening.person.name,
        phone_error: phone.as_ref().err().copied(),
        email,
        phone: phone.ok(),
        refs: happening.refs,
        data: happening.data,
        history: entry.source == Source::Poll && happening.at.is_some_and(|at| at < link.made_at),
        entry: entry.id,
        trace: entry.trace.clone(),
    };
    // Without an id nobody knows what was cancelled.
    let call_off = !weak_key && matches!(event.kind.as_str(), kind::ORDER_CANCELLED | kind::VISIT_CANCELLED | kind::DEAL_LOST);
    let call_off = call_off.then(|| "cancelled".to_owned());
    match happening.look_up {
        Some(what) if event.phone.is_none() && link.connector.guests().is_some() && wanted(world, &event) => {
            let commands = vec![look_up(link, &event, what, now)];
            NewEvent { event, commands, call_off, pending: true }
        }
        _ => {
            let commands = decide(world, link, &event, now, notes);
            NewEvent { event, commands, call_off, pending: false }
        }
    }
}

/// Whether any flow would do something with the phone, or any endpoint is told of it.
fn wanted(world: &World, event: &Event) -> bool {
    world.flows_of(event.merchant).any(|flow| flow.listens(event))
        || endpoint::wanted(world, event)
        || world.links.get(&event.connection).is_some_and(|link| loyalty::wanted(world, link, event))
}

pub(crate) fn look_up(link: &Link, event: &Event, what: serde_json::Value, now: Timestamp) -> NewCommand {
    let command = Command {
        id: Id::new(Kind::Command),
        merchant: event.merchant,
        connection: link.id,
        flow: None,
        event: Some(event.id),
        job: Job::LookUp { what },
        due_at: now,
        latest_at: now.saturating_add(LOOKED_FOR).ok(),
        source: event.connection,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: event.trace.clone(),
    };
    let ordering_key = format!("{}/{}", link.id, event.subject);
    NewCommand { command, ordering_key, subject: event.subject.clone(), held: None, slot: None }
}

/// What a provider told when it was asked, as a request that can be read like one that came in.
pub(crate) fn told(path: &str, body: Bytes, received_at: Timestamp) -> Request {
    Request {
        method: ASKED.to_owned(),
        path: path.to_owned(),
        query: Vec::new(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body,
        received_at,
        peer: None,
        key: None,
    }
}

/// Asks for what an entry only names. What is told of it becomes an entry of the same trace.
fn asked(link: &Link, entry: &Entry, subject: String, what: serde_json::Value, now: Timestamp) -> NewCommand {
    let command = Command {
        id: Id::new(Kind::Command),
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job: Job::LookUp { what },
        due_at: now,
        latest_at: now.saturating_add(LOOKED_FOR).ok(),
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: entry.trace.clone(),
    };
    // A subject of its own: an event that calls off what waits for an order must not call off the question what became of it.
    let subject = format!("asked/{subject}");
    NewCommand { command, ordering_key: format!("{}/{subject}", link.id), subject, held: None, slot: None }
}

/// What the flows make of an event of a connection, one command each at the most; and the points that it earns.
pub(crate) fn decide(world: &World, link: &Link, event: &Event, now: Timestamp, notes: &mut Vec<String>) -> Vec<NewCommand> {
    let mut commands = decide_at(world, &Origin::of(link), event, now, notes);
    commands.extend(loyalty::earns(world, link, event, now));
    commands
}

/// What the flows make of an event from there.
pub(crate) fn decide_at(
    world: &World,
    origin: &Origin<'_>,
    event: &Event,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Vec<NewCommand> {
    let mut commands = Vec::new();
    for flow in world.flows_of(event.merchant).filter(|flow| flow.listens(event)) {
        let ways = chain::ways(world, flow);
        let place = Place {
            zone: &origin.zone,
            outlet: origin.outlet_name,
            outlet_slug: world.slugs(event).1,
            source: origin.slug,
            public_url: world.public_url.as_deref(),
            ways: &ways,
            now,
        };
        match flow.decide(event, place) {
            Decision::Command(command, skipped) => {
                notes.extend(skipped);
                commands.push(*command);
            }
            Decision::Nothing(why) => notes.extend(why),
        }
    }
    commands
}
