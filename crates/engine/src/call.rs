//! The call loop: leases due commands, makes each call once, settles what became of it.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Instrument;
use uzel_model::{
    Address, CallError, Client, Event, Id, Job, Outbound, Price, Refusal, Timestamp as At,
    connector::ChatTurn,
    id::Kind,
    phone,
    port::{
        Found, Messages, Sent,
        loyalty::{Declined, Operation},
    },
    schedule::backoff,
};
use uzel_store::{Change, Command, CommandState, Exchange, Leased, NewEvent, Notice, Settlement, Source, Step, StoreError};

use crate::{
    Engine, Link, RequestLabel, batch, breaker, chain, code,
    endpoint::deliver,
    flow::Ground,
    lane::Lane,
    lost, loyalty,
    loyalty::club_jobs,
    outward::Call,
    read,
    recipient::{chat, device, tell},
    review, trace, window,
};

/// Looked at again within this, since breakers close and clocks move.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Where nothing waits at all, news of other nodes wake this one.
const LONGEST_IDLE: Duration = Duration::from_secs(5);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_hours(1);
/// After this a command that could not be made is dead.
const HORIZON: SignedDuration = SignedDuration::from_hours(72);

/// What is under way, by connection.
#[derive(Default)]
struct Flight {
    total: AtomicUsize,
    by_link: Mutex<HashMap<Id, usize>>,
}

/// A call's place among those under way: given back however the call ends.
struct Place {
    engine: Arc<Engine>,
    flight: Arc<Flight>,
    link: Id,
}

impl Place {
    fn take(engine: &Arc<Engine>, flight: &Arc<Flight>, link: Id) -> Self {
        flight.total.fetch_add(1, Ordering::AcqRel);
        engine.under_way.fetch_add(1, Ordering::AcqRel);
        *flight.by_link.lock().entry(link).or_default() += 1;
        Self { engine: engine.clone(), flight: flight.clone(), link }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.flight.by_link.lock().get_mut(&self.link) {
            *count -= 1;
        }
        self.flight.total.fetch_sub(1, Ordering::AcqRel);
        self.engine.under_way.fetch_sub(1, Ordering::AcqRel);
        self.engine.due.notify_one();
    }
}

pub(crate) async fn run(engine: Arc<Engine>, lane: Lane) {
    // What came before the start may call off what waits: it is read first.
    tokio::select! {
        biased;
        () = engine.caught_up.cancelled() => {}
        () = engine.stop.cancelled() => return,
    }
    let flight = Arc::new(Flight::default());
    let mut turn = 0_usize;
    while !engine.stop.is_cancelled() {
        let free = lane.in_flight_max() - flight.total.load(Ordering::Acquire);
        let shares = if free == 0 { Vec::new() } else { shares(&engine, lane, &flight, turn) };
        turn = turn.wrapping_add(1);
        let count = lane.links(&engine.world()).count();
        if shares.is_empty() {
            // Where there is nobody to call, only a change of what is set up brings something to do.
            wait(&engine, lane, if count == 0 { Duration::MAX } else { LONGEST_WAIT }).await;
            continue;
        }
        // Of a connection that is left out nobody tells when its turn comes.
        let all = shares.len() == count;
        let lease = engine.options.call_timeout + engine.options.lease_margin;
        // Where this node is the only one, nobody takes anything over.
        let lease_until = engine.store.shared().then(|| Instant::now() + lease);
        let lease_ms = lease.as_millis() as i64;
        let Leased { commands: leased, next_at } = match engine.store.lease(engine.clock.now(), shares, free, lease_ms).await {
            Ok(leased) => leased,
            Err(error) => {
                tracing::warn!("due commands cannot be leased yet: {error}");
                wait(&engine, lane, Duration::from_millis(500)).await;
                continue;
            }
        };
        for command in leased {
            let place = Place::take(&engine, &flight, command.connection);
            let task = engine.clone();
            engine.tasks.spawn(async move {
                let span = trace::attempt(&task, &command);
                attempt(&task, command, lease_until).instrument(span).await;
                drop(place);
            });
        }
        let idle = if engine.store.shared() && all { LONGEST_IDLE } else { LONGEST_WAIT };
        let pause = next_at.map_or(idle, |at| until(&engine, at));
        if !pause.is_zero() {
            wait(&engine, lane, pause).await;
        }
    }
}

async fn wait(engine: &Engine, lane: Lane, pause: Duration) {
    tokio::select! {
        biased;
        () = lane.due(engine).notified() => {}
        () = engine.stop.cancelled() => {}
        () = tokio::time::sleep(pause), if pause < Duration::MAX => {}
    }
}

fn until(engine: &Engine, at: Timestamp) -> Duration {
    // Not less than that: what is looked for a moment too early is not there yet.
    let us = at.as_microsecond() - engine.clock.now().as_microsecond();
    Duration::from_micros(us.max(0) as u64).min(LONGEST_WAIT)
}

/// How many calls each connection may begin now. The order turns, so that none is always first.
fn shares(engine: &Engine, lane: Lane, flight: &Flight, turn: usize) -> Vec<(Id, usize)> {
    let world = engine.world();
    let by_link = flight.by_link.lock();
    let now = engine.clock.now();
    let mut shares: Vec<(Id, usize)> = lane
        .links(&world)
        .filter(|link| !engine.outward.limits.is_full(link.id, now))
        .map(|link| {
            let under_way = by_link.get(&link.id).copied().unwrap_or_default();
            (link.id, engine.outward.breakers.allowance(link.id, under_way).min(lane.per_link_max().saturating_sub(under_way)))
        })
        .filter(|(_, share)| *share > 0)
        .collect();
    shares.sort_by_key(|(link, _)| *link);
    if !shares.is_empty() {
        let start = turn % shares.len();
        shares.rotate_left(start);
    }
    shares
}

/// What a try came to.
pub(crate) struct Outcome {
    pub(crate) state: CommandState,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) reason: Option<String>,
    pub(crate) provider_id: Option<String>,
    pub(crate) counts: bool,
    pub(crate) frees_slot: bool,
    /// It waits for the merchant: where the flow has another step, that goes instead.
    pub(crate) gives_way: bool,
    pub(crate) label: &'static str,
}

impl Outcome {
    pub(crate) fn ended(state: CommandState, reason: Option<String>, label: &'static str) -> Self {
        Self { state, retry_at: None, reason, provider_id: None, counts: true, frees_slot: false, gives_way: false, label }
    }

    pub(crate) fn held(reason: &str) -> Self {
        Self { counts: false, frees_slot: true, ..Self::ended(CommandState::Held, Some(reason.to_owned()), "held") }
    }

    pub(crate) fn again(at: Timestamp, reason: String) -> Self {
        Self { retry_at: Some(at), ..Self::ended(CommandState::Waiting, Some(reason), "retry") }
    }
}

/// One try at one command.
async fn attempt(engine: &Arc<Engine>, command: Command, lease_until: Option<Instant>) {
    let world = engine.world();
    if let Some(endpoint) = world.endpoints.get(&command.connection).cloned() {
        return deliver::attempt(engine, &endpoint, &command, lease_until).await;
    }
    let Some(link) = world.links.get(&command.connection).cloned() else {
        // Taken away between lease and try: it waits until the connection can be used again.
        let at = engine.clock.now() + SignedDuration::from_mins(1);
        let outcome = Outcome { counts: false, ..Outcome::again(at, "its connection cannot be used".to_owned()) };
        let settlement = settlement(&command, outcome, Vec::new());
        return settle(engine, Change { settlement: Some(settlement), ..Change::default() }).await;
    };
    let mut change = Change { now: Some(engine.clock.now()), ..Change::default() };
    let call = Call::new(engine, &link, &command.trace).in_place(lease_until);
    let (outcome, chain) = match chain::of(engine, &link, &command).await {
        // What follows a message is known before it goes: afterwards nothing may fail.
        Err(error) => {
            let at = engine.clock.now() + SignedDuration::from_secs(5);
            (Outcome { counts: false, ..Outcome::again(at, format!("its flow's steps cannot be read: {error}")) }, None)
        }
        Ok(Some(chain)) if chain.has_arrived() => (Outcome::held("delivered"), None),
        Ok(_) if let Some(outcome) = batch::before(engine, &command).await => (outcome, None),
        Ok(chain) => match before(engine, &link, &command) {
            Some(outcome) => (outcome, None),
            None if let Some(outcome) = said_by_phone(engine, &link, &command).await => (outcome, None),
            None if let Some(why) = forgotten(&link, &command, engine.clock.now()) => {
                (failed(engine, &link, &command, CallError::Lost(why.to_owned()), &mut change), chain)
            }
            None => match (club_jobs::before(engine, &command).await, &command.job) {
                (Some(outcome), _) => (outcome, None),
                (None, Job::Chat { of, turn }) => (chat::take_up(engine, &link, &command, of, turn, &mut change).await, None),
                (None, Job::Points { points }) => (loyalty::take_points(engine, &link, &command, points).await, None),
                _ => (make(engine, &link, &command, &call, &mut change).await, chain),
            },
        },
    };
    let mut outcome = outcome;
    let has_tried = call.has_tried();
    if let Some(chain) = chain {
        chain.follow(engine, &link, &command, has_tried, &mut outcome, &mut change);
    }
    let mut exchanges = call.into_exchanges();
    if exchanges.is_empty() && outcome.state == CommandState::Done && calls(&command.job) {
        let told = told_nobody(&link, &command, engine.clock.now());
        log_text(engine, &command, told.id);
        exchanges.push(told);
    }
    finish(engine, &link, &command, outcome, has_tried, exchanges, change).await;
}

/// Whether a job calls somebody, and so must have left a trace.
fn calls(job: &Job) -> bool {
    !matches!(job, Job::Chat { .. } | Job::Points { .. } | Job::Release { .. } | Job::Batch { .. })
}

/// Writes what a try came to, with its exchanges.
pub(crate) async fn finish(
    engine: &Engine,
    link: &Link,
    command: &Command,
    mut outcome: Outcome,
    has_tried: bool,
    mut exchanges: Vec<Exchange>,
    mut change: Change,
) {
    // Only what went out is an attempt; a refusal of the provider proves something only after one.
    outcome.counts &= has_tried || outcome.state != CommandState::Waiting;
    let label = RequestLabel { provider: link.provider.id, endpoint: command.job.name(), result: outcome.label };
    engine.metrics.attempts.get_or_create(&label).inc();
    tracing::debug!(result = outcome.label, "a try has ended");
    if outcome.counts
        && !matches!(outcome.state, CommandState::Done)
        && let Some(last) = exchanges.last_mut()
    {
        last.error = last.error.take().or_else(|| outcome.reason.as_deref().map(|reason| link.without_secrets(reason)));
    }
    // A provider's words may repeat what it was sent.
    outcome.reason = outcome.reason.map(|reason| link.without_secrets(&reason));
    if outcome.state == CommandState::Done {
        change.link_news.extend(review::sent(&engine.world(), link, command, engine.clock.now()));
    }
    let mut settlement = settlement(command, outcome, exchanges);
    // The place that a chain holds goes over to its next step.
    settlement.frees_slot &= change.step.as_ref().is_none_or(|step| step.next.is_none());
    change.settlement = Some(settlement);
    settle(engine, change).await;
}

fn settlement(command: &Command, outcome: Outcome, exchanges: Vec<Exchange>) -> Settlement {
    Settlement {
        command: command.id,
        lease: command.lease,
        state: outcome.state,
        retry_at: outcome.retry_at,
        reason: outcome.reason,
        refs: outcome.provider_id.iter().cloned().collect(),
        provider_id: outcome.provider_id,
        exchanges,
        counts: outcome.counts,
        // A text that never went has asked nobody.
        frees_slot: outcome.frees_slot || outcome.state == CommandState::Dead,
    }
}

/// Writes how it ended. Until that is written the command stands as *sending*; giving up would make it unknown.
async fn settle(engine: &Engine, change: Change) {
    let mut pause = Duration::from_millis(20);
    loop {
        match engine.store.apply(change.clone()).await {
            Ok(_) => {
                if change.resolved.is_some() {
                    engine.told.notify_one();
                }
                if !change.commands.is_empty() {
                    engine.due.notify_one();
                }
                return;
            }
            Err(StoreError::Conflict) => return tracing::warn!("a command was taken over while it was being sent"),
            Err(error) if engine.stop.is_cancelled() && pause > Duration::from_secs(2) => {
                return tracing::error!("how a call ended could not be written: {error}");
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// What stands before every message: the person's word, its age, quiet hours.
fn before(engine: &Engine, link: &Link, command: &Command) -> Option<Outcome> {
    let now = engine.clock.now();
    let too_old = || command.latest_at.is_some_and(|latest| latest < now).then(|| Outcome::held("too_old"));
    let Job::Send { consent, content, .. } = &command.job else { return command.job.message().and_then(|_| too_old()) };
    // Somebody has asked for a code, whatever they think of other messages.
    let asked_for = content.code.is_some();
    let flow = command.flow.and_then(|id| engine.world().flow(id).cloned());
    if command.flow.is_some() && flow.is_none() {
        // Its rules cannot be read now: without them nothing may go.
        let at = now + SignedDuration::from_mins(1);
        return Some(Outcome { counts: false, ..Outcome::again(at, "its flow cannot be used".to_owned()) });
    }
    let channel = link.connector.messages().map(|messages| messages.channel());
    if command.contact.refuses(channel) && !asked_for {
        return Some(Outcome::held("opt_out"));
    }
    let needs_consent = *consent || flow.as_ref().is_some_and(|flow| flow.doc.ground == Ground::Consent);
    if needs_consent && !command.contact.agrees(channel) {
        return Some(Outcome::held("no_consent"));
    }
    if let Some(held) = too_old() {
        return Some(held);
    }
    let zone = command_zone(engine, link, command);
    let open_at = flow.map_or(now, |flow| flow.open_at(now, &zone));
    (open_at > now).then(|| Outcome { counts: false, ..Outcome::again(open_at, "quiet hours".to_owned()) })
}

/// What the guest has said by their phone, where a message goes to another address of theirs: its event tells whose it is.
async fn said_by_phone(engine: &Engine, link: &Link, command: &Command) -> Option<Outcome> {
    let Job::Send { to, content, .. } = &command.job else { return None };
    if matches!(to, Address::Phone(_)) || content.code.is_some() {
        return None;
    }
    let event = command.event?;
    let channel = link.connector.messages().map(|messages| messages.channel());
    let refuses = async {
        let phone = engine.store.event(event).await?.and_then(|event| event.phone);
        let Some(phone) = phone else { return Ok(false) };
        Ok::<_, StoreError>(engine.store.contact(command.merchant, &phone.e164).await?.refuses(channel))
    };
    match refuses.await {
        Ok(false) => None,
        Ok(true) => Some(Outcome::held("opt_out")),
        Err(error) => {
            let at = engine.clock.now() + SignedDuration::from_secs(5);
            Some(Outcome { counts: false, ..Outcome::again(at, format!("what the guest said cannot be read: {error}")) })
        }
    }
}

/// Why a message is not sent again.
const FORGOTTEN: &str = "it was tried before, and its provider knows its key no longer: sent again it might come twice";

/// Why a repeat may not go: it would be a new message to the provider, or comes too late. What was never tried is no repeat.
fn forgotten(link: &Link, command: &Command, now: Timestamp) -> Option<&'static str> {
    if command.attempts == 0 || !matches!(command.job, Job::Send { .. } | Job::Batch { .. }) {
        return None;
    }
    if batch::is_late(command, now) {
        return Some(batch::TOO_LATE);
    }
    let known_for = link.connector.messages().and_then(Messages::known_for);
    let until = known_for.and_then(|known_for| command.due_at.checked_add(known_for).ok());
    until.is_some_and(|until| until < now).then_some(FORGOTTEN)
}

/// The zone of the outlet that the visit was to.
fn command_zone(engine: &Engine, link: &Link, command: &Command) -> jiff::tz::TimeZone {
    let world = engine.world();
    let origin = world.origin(command.merchant, command.source, None);
    origin.map_or_else(|| link.zone.clone(), |origin| origin.zone.into_owned())
}

async fn make(engine: &Arc<Engine>, link: &Arc<Link>, command: &Command, call: &Call<'_>, change: &mut Change) -> Outcome {
    // A port that panics has perhaps sent something: as with any answer that nobody understands.
    let failure = |_| Err(CallError::Unreadable("the connector failed on it: this is a fault of the hub".to_owned()));
    let result = AssertUnwindSafe(ask(link, command, call)).catch_unwind().await.unwrap_or_else(failure);
    // A call that waits for its turn says nothing of the provider.
    if call.has_tried() {
        breaker::note(engine, link, result.as_ref().err()).await;
    }
    match result {
        Ok(Made::Sent(sent)) => {
            if let Some(remark) = sent.remark {
                let text = link.without_secrets(&format!("{}: {remark}", link.provider.name));
                change.notices.push(Notice { merchant: link.merchant, connection: link.id, kind: "remark".to_owned(), text });
            }
            if let Some(messages) = link.connector.messages() {
                let price = sent.cost.as_ref().and_then(Price::read);
                change.step = Some(Step { channel: messages.channel(), price, next: None });
            }
            if let (Some(to), Some((of, _))) = (sent.moved_to, command.job.message()) {
                let turn = ChatTurn::Moved { to };
                let now = engine.clock.now();
                change.commands.push(chat::command(link, None, of.clone(), turn, command.trace.clone(), now));
            }
            Outcome { provider_id: Some(sent.provider_id), ..Outcome::ended(CommandState::Done, None, "ok") }
        }
        Ok(Made::Batch(results)) => batch::taken(link, command, results, change),
        Ok(Made::Found(found)) => looked_up(engine, link, command, found, change).await,
        Ok(Made::Told(told)) => club_jobs::ended(engine, link, command, told, change),
        Err(error) if let Some(outcome) = batch::apart(command, &error) => outcome,
        Err(error) => match lost::once_more(engine, link, command, &error).await {
            Some(outcome) => outcome,
            None => {
                let outcome = failed(engine, link, command, error.clone(), change);
                club_jobs::given_up(engine, link, command, &outcome, change);
                tell::elsewhere(engine, link, command, &error, outcome, change)
            }
        },
    }
}

async fn ask(link: &Link, command: &Command, call: &Call<'_>) -> Result<Made, CallError> {
    let client = Client::new(call);
    match &command.job {
        Job::Send { to, content, .. } | Job::Tell { to, content, .. } => match link.connector.messages() {
            Some(messages) if messages.channel().takes(to) => {
                let key = command.id.to_string();
                let (content, secret) = code::opened(call.engine, command, content)?;
                call.hide(secret.clone());
                let content = window::fit(call.engine, link, messages, command, to, &content).await;
                let to = device::open(call.engine, link, to).await?;
                let sent = messages.send(&client, Outbound { to: &to, content: &content, key: &key }).await;
                match secret {
                    Some(secret) => sent.map(Made::Sent).map_err(|error| code::without(error, &secret)),
                    None => sent.map(Made::Sent),
                }
            }
            Some(_) => Err(CallError::refused(Refusal::Ours, "address", "this channel does not take such an address")),
            None => Err(CallError::refused(Refusal::Ours, "no_port", "this provider sends no messages")),
        },
        Job::Batch { .. } => batch::send(link, command, &client).await.map(Made::Batch),
        Job::LookUp { what } => match link.connector.guests() {
            Some(guests) => guests.look_up(&client, what).await.map(Made::Found),
            None => Err(CallError::refused(Refusal::Ours, "no_port", "this provider looks nobody up")),
        },
        Job::Deliver { .. } => Err(CallError::refused(Refusal::Ours, "no_port", "webhooks go to endpoints only")),
        Job::Chat { .. } => Err(CallError::refused(Refusal::Ours, "no_port", "a chat is not called")),
        Job::Accrue { .. } | Job::Redeem { .. } | Job::Release { .. } | Job::Reverse { .. } => {
            club_jobs::make(link, &command.job, &client).await.map(Made::Told)
        }
        Job::Points { .. } => Err(CallError::refused(Refusal::Ours, "no_port", "points are booked by the hub itself")),
    }
}

enum Made {
    Sent(Sent),
    /// Of each message of a batch: the provider's id, or why it was not taken.
    Batch(Vec<Result<String, String>>),
    Found(Found),
    /// What a loyalty programme has to say.
    Told(Result<Operation, Declined>),
}

/// A look-up ended: the event gets its phone and the flows run, or one more call is queued.
async fn looked_up(engine: &Engine, link: &Link, command: &Command, found: Found, change: &mut Change) -> Outcome {
    let mut reason = None;
    if let Found::Told(body) = &found {
        let request = read::told("", body.clone(), engine.clock.now());
        change.entries.push(engine.entry(link, request, Source::Poll, command.trace.clone()));
    }
    if command.event.is_none() {
        return match found {
            Found::Told(_) => Outcome::ended(CommandState::Done, None, "ok"),
            Found::Nobody(why) => Outcome::ended(CommandState::Done, Some(why), "ok"),
            Found::Person(_) | Found::Next(_) => {
                Outcome::ended(CommandState::Dead, Some("it was looked up for no event".to_owned()), "dead")
            }
        };
    }
    let event = match command.event {
        Some(event) => engine.store.event(event).await.ok().flatten(),
        None => None,
    };
    let Some(mut event) = event else {
        return Outcome::again(engine.clock.now() + SignedDuration::from_secs(5), "the event cannot be read".to_owned());
    };
    let now = engine.clock.now();
    let resolved = match found {
        Found::Next(what) => {
            let commands = vec![read::look_up(link, &event, what, now)];
            NewEvent { event, commands, call_off: None, pending: true }
        }
        Found::Nobody(why) => {
            reason = Some(why);
            NewEvent { event, commands: Vec::new(), call_off: None, pending: false }
        }
        // What is told is an entry of its own.
        Found::Told(_) => NewEvent { event, commands: Vec::new(), call_off: None, pending: false },
        Found::Person(person) => {
            name_person(&mut event, person, &link.country);
            let mut notes = Vec::new();
            let commands = read::decide(&engine.world(), link, &event, now, &mut notes);
            reason = (!notes.is_empty()).then(|| notes.join("; "));
            NewEvent { event, commands, call_off: None, pending: false }
        }
    };
    change.links = review::made(&engine.world(), [&resolved], now);
    change.resolved = Some(resolved);
    Outcome::ended(CommandState::Done, reason, "ok")
}

fn name_person(event: &mut Event, person: uzel_model::Person, country: &str) {
    let phone = phone::first(&person.phones, country);
    event.phone_error = phone.as_ref().err().copied();
    event.phone = phone.ok();
    event.email = person.email().or(event.email.take());
    event.name = person.name.or(event.name.take());
}

fn failed(engine: &Engine, link: &Link, command: &Command, error: CallError, change: &mut Change) -> Outcome {
    let now = engine.clock.now();
    let reason = error.to_string();
    let later = |at: At, reason: String| {
        if at > command.due_at.saturating_add(HORIZON).unwrap_or(At::MAX) {
            Outcome::ended(CommandState::Dead, Some(format!("given up after {} h: {reason}", HORIZON.as_hours())), "dead")
        } else {
            Outcome::again(at, reason)
        }
    };
    let soon = || now + backoff(command.attempts, BACKOFF_MAX, engine.clock.chance());
    let mut notice = |kind: &str| {
        let text = link.without_secrets(&format!("{}: {reason}", link.provider.name));
        change.notices.push(Notice { merchant: link.merchant, connection: link.id, kind: kind.to_owned(), text });
    };
    match error {
        CallError::Unreachable(_) => later(soon(), reason),
        CallError::Later { at, .. } => later(at.unwrap_or_else(soon).max(now + SignedDuration::from_millis(200)), reason),
        CallError::Lost(_) | CallError::Unreadable(_) if command.job.repeatable() && forgotten(link, command, now).is_none() => {
            later(soon(), reason)
        }
        CallError::Lost(_) | CallError::Unreadable(_) => {
            notice("unknown");
            Outcome::ended(CommandState::Unknown, Some(reason), "unknown")
        }
        CallError::Unauthorized(_) => {
            notice("unauthorized");
            later(now + SignedDuration::from_mins(5), reason)
        }
        CallError::Refused { refusal: Refusal::Account, .. } => {
            notice("account");
            Outcome { gives_way: true, ..later(now + SignedDuration::from_mins(10), reason) }
        }
        CallError::Refused { refusal: Refusal::OptOut, .. } => {
            change.opt_outs.extend(command.job.address().map(|to| (command.merchant, to.key())));
            Outcome { counts: true, ..Outcome::held("opt_out") }
        }
        // The provider has seen this text before: after a try of ours that proves it, else it is somebody else's.
        CallError::Refused { refusal: Refusal::Already, .. } if command.attempts > 0 => {
            Outcome::ended(CommandState::Done, Some(reason), "ok")
        }
        CallError::Refused { refusal: Refusal::Content, .. } => {
            notice("content");
            Outcome::ended(CommandState::Dead, Some(reason), "dead")
        }
        // A setting was changed between two tries.
        CallError::Refused { refusal: Refusal::OtherWords, .. } if command.attempts > 0 => {
            notice("unknown");
            Outcome::ended(CommandState::Unknown, Some(reason), "unknown")
        }
        CallError::Refused { refusal: Refusal::Ours | Refusal::OtherWords, .. } => {
            notice("fault");
            Outcome::ended(CommandState::Dead, Some(reason), "dead")
        }
        CallError::Refused { .. } => Outcome::ended(CommandState::Dead, Some(reason), "dead"),
    }
}

/// Nothing was called: the journal keeps the text itself.
fn told_nobody(link: &Link, command: &Command, at: Timestamp) -> Exchange {
    let request = match command.job.message() {
        Some((_, content)) => content.text.clone(),
        None => command.job.name().to_owned(),
    };
    Exchange {
        id: Id::new(Kind::Attempt),
        merchant: link.merchant,
        connection: link.id,
        provider: link.provider.id.to_owned(),
        at,
        endpoint: "journal".to_owned(),
        request,
        response: "dev_logged".to_owned(),
        error: None,
        duration_ms: 0,
        trace: command.trace.clone(),
    }
}

/// The id is the journal's: `journal show` gives all that led to the text.
fn log_text(engine: &Engine, command: &Command, journal: Id) {
    let Some((to, content)) = command.job.message() else { return };
    let masked = to.masked();
    if engine.options.print_texts {
        let Ok((content, _)) = code::opened(engine, command, content) else { return };
        tracing::warn!(journal.id = %journal, to = masked, text = content.text, "development mode: this text was NOT sent");
    } else {
        tracing::warn!(journal.id = %journal, to = masked, "no messages are sent: the text is in the journal only");
    }
}
