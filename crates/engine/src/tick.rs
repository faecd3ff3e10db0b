//! What happens by the clock: polls for what was missed, statuses of messages, daily checks of subscriptions; and the calls
//! that a person asks for (health, subscribe, authorise).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;
use uzel_model::{
    CallError, Client, Id,
    port::{Cost, Delivery, Messages},
};
use uzel_store::{Change, Cursor, Notice, Source, StoreError};

use crate::{Engine, Link, ProviderLabel, chain, endpoint, lost, outward::Call, read, recipient::notices, rhythm, status, watch};

const STATUSES_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// How long after its sending a message is asked about.
const STATUSES_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Messages asked about in one turn.
const STATUSES_MAX: usize = 1_000;
/// What costs the store more to tell is asked less often.
const ABOUT_EVERY: Duration = Duration::from_secs(15);
/// So many waiting webhooks about points are counted at the most.
const WAITING_COUNTED_MAX: usize = 10_000;
/// Between two looks for what nodes that are gone were sending, where there may be several.
const TAKE_BACK_EVERY: Duration = Duration::from_secs(2);
/// Between two looks for devices that nobody uses any more.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// Between two looks for chains that stand since a hub stopped.
const GO_ON_EVERY: Duration = Duration::from_secs(60);
/// A node that is gone keeps a turn no longer than this. One that takes longer may meet another: its cursor tells them apart.
const TURN_HOLD_MAX: Duration = Duration::from_secs(120);
/// Between two rounds of forgetting; within a round a portion goes with each beat.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);
/// What could not be had at once is tried for again.
const PURGE_AGAIN: Duration = Duration::from_secs(60);
const PURGE_HOLD: Duration = Duration::from_secs(60);
const PURGED_MAX: usize = 1_000;
const DAY: Duration = Duration::from_secs(86_400);
const RHYTHMS_EVERY: Duration = Duration::from_secs(60);
const CHECK_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// The first check comes soon after the start, or a hub that is started every day would never make one.
const CHECK_FIRST: SignedDuration = SignedDuration::from_mins(10);
/// Pages of one poll in a row: the rest waits for the next turn.
const PAGES_MAX: usize = 20;

/// When each connection's turns come.
#[derive(Default)]
struct Turns {
    next: HashMap<(Id, &'static str), Timestamp>,
    /// A slow turn must not be overtaken by the next: both would begin at the same cursor.
    under_way: Arc<Mutex<HashSet<(Id, &'static str)>>>,
}

/// A turn under way, until it ends in whatever way.
struct Turn {
    what: (Id, &'static str),
    under_way: Arc<Mutex<HashSet<(Id, &'static str)>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.what);
    }
}

impl Turns {
    /// Whether it is time; the first time is now, but for checks.
    fn due(&mut self, now: Timestamp, link: Id, what: &'static str, every: SignedDuration) -> bool {
        match self.next.get_mut(&(link, what)) {
            // A clock that was set back must not keep a turn waiting longer than its rhythm.
            Some(next) if now < *next && *next <= now + every => false,
            Some(next) => {
                *next = now + every;
                true
            }
            None => {
                self.next
                    .insert((link, what), now + if matches!(what, "check" | "balance" | "token") { CHECK_FIRST } else { every });
                what == "poll"
            }
        }
    }

    /// Does a turn in a task of its own, unless the last one has not ended.
    fn take<F: Future<Output = ()> + Send + 'static>(
        &self,
        engine: &Arc<Engine>,
        link: &Arc<Link>,
        what: &'static str,
        every: SignedDuration,
        work: impl FnOnce(Arc<Engine>, Arc<Link>) -> F,
    ) {
        if !self.under_way.lock().insert((link.id, what)) {
            return;
        }
        let turn = Turn { what: (link.id, what), under_way: self.under_way.clone() };
        let work = work(engine.clone(), link.clone());
        let engine = engine.clone();
        // Never cut short: a renewed login whose saving was cancelled would be lost. Each call has its deadline.
        engine.tasks.clone().spawn(async move {
            // Other nodes have turns too; a clock that runs a little faster must not skip every second one.
            let hold = (engine.options.call_timeout * PAGES_MAX as u32).min(TURN_HOLD_MAX);
            match engine
                .take(format!("{what}/{}", turn.what.0), Duration::try_from(every * 9 / 10).unwrap_or_default(), hold)
                .await
            {
                Ok(Some(taken)) => {
                    work.await;
                    engine.give_back(taken).await;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(what, "a turn cannot be taken now: {error}"),
            }
            drop(turn);
        });
    }
}

pub(crate) async fn run(engine: Arc<Engine>) {
    let mut turns = Turns::default();
    let mut rhythms_kept = Instant::now();
    let mut asked_about = None;
    let mut taken_back = Instant::now();
    let mut gone_on: Option<Instant> = None;
    let mut devices_swept: Option<Instant> = None;
    let mut purge_at: Option<Instant> = None;
    let mut told = Instant::now();
    let mut beat = tokio::time::interval(Duration::from_secs(1));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = engine.stop.cancelled() => return keep_rhythms(&engine).await,
            _ = beat.tick() => {}
        }
        measure(&engine).await;
        if asked_about.is_none_or(|at: Instant| at.elapsed() >= ABOUT_EVERY) {
            asked_about = Some(Instant::now());
            measure_store(&engine).await;
        }
        if rhythms_kept.elapsed() >= RHYTHMS_EVERY {
            rhythms_kept = Instant::now();
            keep_rhythms(&engine).await;
        }
        if taken_back.elapsed() >= if engine.store.shared() { TAKE_BACK_EVERY } else { TAKE_BACK_EVERY * 15 } {
            taken_back = Instant::now();
            match engine.take_back_late().await {
                Ok((0, 0)) => {}
                Ok((again, unknown)) => {
                    // Their chains go on.
                    gone_on = gone_on.filter(|_| unknown == 0);
                    tracing::warn!(
                        commands.again = again,
                        commands.unknown = unknown,
                        "took back what was being sent for longer than its lease"
                    );
                }
                Err(error) => tracing::debug!("what nodes left behind cannot be taken back yet: {error}"),
            }
        }
        if told.elapsed() >= notices::EVERY {
            told = Instant::now();
            notices::tell_all(&engine).await;
        }
        if gone_on.is_none_or(|at| at.elapsed() >= GO_ON_EVERY) {
            gone_on = Some(Instant::now());
            if let Err(error) = chain::go_on(&engine).await {
                tracing::warn!("chains that stand since a hub stopped cannot go on yet: {error}");
            }
        }
        if devices_swept.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            devices_swept = Some(Instant::now());
            if let Err(error) = engine.sweep_devices().await {
                tracing::warn!("devices that nobody uses cannot be forgotten yet: {error}");
            }
        }
        if purge_at.is_none_or(|at| Instant::now() >= at) {
            purge_at = Some(Instant::now() + purge_all(&engine).await);
        }
        let now = engine.clock.now();
        let world = engine.world();
        // In one order, so that a simulated hub does the same again.
        let mut links: Vec<&Arc<Link>> = world.links.values().filter(|link| !link.paused).collect();
        links.sort_unstable_by_key(|link| link.id);
        for link in links {
            if let Some(polls) = link.connector.polls().filter(|_| link.poll)
                && let every = SignedDuration::from_secs(i64::from(polls.every_s().max(1)))
                && turns.due(now, link.id, "poll", every)
            {
                turns.take(&engine, link, "poll", every, |engine, link| async move { poll(&engine, &link).await });
            }
            if link.connector.messages().is_some_and(Messages::can_be_asked)
                && turns.due(now, link.id, "statuses", STATUSES_EVERY)
            {
                turns.take(
                    &engine,
                    link,
                    "statuses",
                    STATUSES_EVERY,
                    |engine, link| async move { statuses(&engine, &link).await },
                );
            }
            if link.connector.messages().is_some_and(Messages::can_find) && turns.due(now, link.id, "lost", STATUSES_EVERY) {
                turns.take(&engine, link, "lost", STATUSES_EVERY, |engine, link| async move { lost::look(&engine, &link).await });
            }
            if link.connector.balance().is_some() && turns.due(now, link.id, "balance", watch::BALANCE_EVERY) {
                let every = watch::BALANCE_EVERY;
                turns.take(&engine, link, "balance", every, |engine, link| async move { watch::balance(&engine, &link).await });
            }
            if turns.due(now, link.id, "token", CHECK_EVERY) {
                turns.take(&engine, link, "token", CHECK_EVERY, |engine, link| async move { watch::token(&engine, &link).await });
            }
            if link.connector.subscription().is_some() && turns.due(now, link.id, "check", CHECK_EVERY) {
                turns.take(&engine, link, "check", CHECK_EVERY, |engine, link| async move { check(&engine, &link).await });
            }
        }
    }
}

/// Forgets a portion of what is older than the hub's time, and of what is older than that of a merchant; how long until it is
/// looked for again.
async fn purge_all(engine: &Engine) -> Duration {
    let keep = engine.options.keep;
    let mut pause = match keep {
        Some(keep) => purge(engine, None, keep).await,
        None => PURGE_EVERY,
    };
    let world = engine.world();
    let mut sooner: Vec<(Id, Duration)> = world
        .merchants
        .iter()
        .filter_map(|(id, (_, merchant))| Some((*id, DAY * merchant.keep_days?)))
        .filter(|(_, own)| keep.is_none_or(|keep| *own < keep))
        .collect();
    // In one order, so that a simulated hub does the same again.
    sooner.sort_unstable();
    for (merchant, keep) in sooner {
        pause = pause.min(purge(engine, Some(merchant), keep).await);
    }
    pause
}

async fn purge(engine: &Engine, merchant: Option<Id>, keep: Duration) -> Duration {
    let before = SignedDuration::try_from(keep).ok().and_then(|keep| engine.clock.now().checked_sub(keep).ok());
    let Some(before) = before else { return PURGE_EVERY };
    let purged = async {
        let Some(taken) = engine.take("purge".to_owned(), Duration::ZERO, PURGE_HOLD).await? else { return Ok(0) };
        let gone = match merchant {
            None => engine.store.purge(before, PURGED_MAX).await,
            Some(merchant) => engine.store.purge_merchant(merchant, before, PURGED_MAX).await,
        };
        engine.give_back(taken).await;
        gone
    };
    match purged.await {
        Ok(0) => PURGE_EVERY,
        // There may be more.
        Ok(_) => Duration::ZERO,
        // Somebody worked with all of it.
        Err(StoreError::Busy) => PURGE_AGAIN,
        Err(error) => {
            tracing::warn!("what is older than its time cannot be forgotten yet: {error}");
            PURGE_EVERY
        }
    }
}

async fn keep_rhythms(engine: &Engine) {
    let kept = async {
        engine.rhythms.keep(engine.store.as_ref()).await?;
        if engine.store.shared() {
            // Webhooks come to other nodes too.
            engine.rhythms.hear(engine.store.rhythms().await?);
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = kept.await {
        tracing::warn!("how often webhooks come cannot be kept yet: {error}");
    }
}

/// What is not counted as it happens.
async fn measure(engine: &Engine) {
    let lag = engine.lag().await;
    engine.metrics.store_up.set(lag.is_ok().into());
    if let Ok(lag) = lag {
        engine.metrics.oldest_waiting_seconds.set(lag.as_secs() as i64);
    }
    if let Ok(counts) = engine.store.counts().await {
        engine.metrics.stand(&counts);
    }
    if let Ok((count, since)) = engine.store.publishing().await {
        engine.metrics.unpublished_events.set(count as i64);
        let age = since.map_or(0, |since| engine.clock.now().as_millisecond() - since.as_millisecond());
        engine.metrics.oldest_unpublished_seconds.set(age.max(0) as f64 / 1e3);
    }
    let world = engine.world();
    for provider in engine.providers {
        let of_provider = world.links.values().filter(|link| link.provider.id == provider.id);
        let mut links = of_provider.peekable();
        if links.peek().is_some() {
            let open = links.filter(|link| engine.open_breaker(link.id).is_some()).count();
            engine.metrics.breakers_open.get_or_create(&ProviderLabel { provider: provider.id }).set(open as i64);
        }
    }
}

/// What is told of the store itself, and how far this machine's clock is from its.
async fn measure_store(engine: &Engine) {
    if let Ok(about) = engine.store.about().await {
        engine.metrics.nodes.set(about.nodes.into());
        engine.metrics.store_size_bytes.set(about.bytes as i64);
    }
    let world = engine.world();
    let hear = world.endpoints.values().filter(|endpoint| endpoint.hears_of_points());
    let hear: Vec<Id> = hear.map(|endpoint| endpoint.id()).collect();
    if let Ok(count) = engine.store.waiting_of(hear, endpoint::LOYALTY, WAITING_COUNTED_MAX).await {
        engine.metrics.loyalty_waits(count);
    }
    let asked_at = engine.clock.machine();
    if let Ok(Some(told)) = engine.store.clock().await {
        // The answer is about as old as half of what it took.
        let here = asked_at.as_microsecond().midpoint(engine.clock.machine().as_microsecond());
        engine.metrics.clock_offset_seconds.set((here - told.as_microsecond()) as f64 / 1e6);
    }
}

pub(crate) fn new_trace() -> String {
    format!("{:032x}", rand::random::<u128>() | 1)
}

/// Reads what was missed. Bodies and cursor are committed together; each body is then read like a webhook.
async fn poll(engine: &Engine, link: &Arc<Link>) {
    let Some(polls) = link.connector.polls() else { return };
    let since = link.since.unwrap_or_else(|| engine.clock.now());
    for _ in 0..PAGES_MAX {
        let trace = new_trace();
        let call = Call::new(engine, link, &trace);
        let Ok(cursor) = engine.store.cursor(link.id).await else { return };
        let page = match polls.poll(&Client::new(&call), cursor.as_deref(), since).await {
            Ok(page) => page,
            Err(error) => return report(engine, link, "poll", error, call).await,
        };
        let now = engine.clock.now();
        let more = page.more;
        let entries =
            page.bodies.into_iter().map(|body| engine.entry(link, read::told("", body, now), Source::Poll, trace.clone()));
        let entries: Vec<_> = entries.collect();
        let exchanges = if entries.is_empty() { Vec::new() } else { call.into_exchanges() };
        let change = Change {
            entries,
            cursor: Some(Cursor { connection: link.id, was: cursor, next: page.next }),
            exchanges,
            now: Some(now),
            ..Change::default()
        };
        match engine.store.apply(change).await {
            Ok(_) => {}
            // Another node has polled from the same place meanwhile.
            Err(StoreError::Conflict) => return,
            Err(error) => return tracing::warn!(connection.id = %link.id, "what a poll brought cannot be written: {error}"),
        }
        if !more || engine.stop.is_cancelled() {
            return;
        }
    }
}

/// Asks what became of messages sent a while ago, a hundred at a time. One that stays without an end is given up after some
/// days: else such messages would in time be all that is asked about.
async fn statuses(engine: &Engine, link: &Arc<Link>) {
    let Some(messages) = link.connector.messages() else { return };
    let now = engine.clock.now();
    let (after, before) = (now - STATUSES_FOR, now - SignedDuration::from_mins(2));
    let Ok(ids) = engine.store.undelivered(link.id, after, before, STATUSES_MAX).await else { return };
    for ids in ids.chunks(100) {
        let trace = new_trace();
        let call = Call::new(engine, link, &trace);
        let found = match messages.statuses(&Client::new(&call), ids).await {
            Ok(found) => found,
            Err(error) => return report(engine, link, "statuses", error, call).await,
        };
        let news: Vec<_> = found.into_iter().filter(|news| news.state != Delivery::OnTheWay).collect();
        // Read like what comes in by webhook: by whichever road the news come, the same follows.
        let told = (!news.is_empty()).then(|| engine.entry(link, status::request(&news, now), Source::Poll, trace.clone()));
        let entries = told.into_iter().collect();
        let change = Change { entries, exchanges: call.into_exchanges(), now: Some(now), ..Change::default() };
        if let Err(error) = engine.store.apply(change).await {
            return tracing::warn!(connection.id = %link.id, "message statuses cannot be written: {error}");
        }
        if engine.stop.is_cancelled() {
            return;
        }
    }
}

async fn check(engine: &Engine, link: &Arc<Link>) {
    let (Some(subscription), Some(url)) = (link.connector.subscription(), engine.registered_url(link)) else { return };
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    match subscription.check(&Client::new(&call), &url).await {
        Ok(None) => {}
        Ok(Some(wrong)) => tell(engine, link, "subscription", wrong).await,
        Err(error) => report(engine, link, "check", error, call).await,
    }
}

pub(crate) async fn report(engine: &Engine, link: &Link, what: &'static str, error: CallError, call: Call<'_>) {
    let text = link.without_secrets(&error.to_string());
    tracing::warn!(trace.id = call.trace(), connection.id = %link.id, what, "a scheduled call failed: {text}");
    let kind = if matches!(error, CallError::Unauthorized(_)) { "unauthorized" } else { what };
    let notice = Notice { merchant: link.merchant, connection: link.id, kind: kind.to_owned(), text };
    let change =
        Change { notices: vec![notice], exchanges: call.into_exchanges(), now: Some(engine.clock.now()), ..Change::default() };
    if let Err(error) = engine.store.apply(change).await {
        tracing::warn!("a notice cannot be written: {error}");
    }
}

pub(crate) async fn tell(engine: &Engine, link: &Link, kind: &str, text: String) {
    let text = link.without_secrets(&text);
    let notice = Notice { merchant: link.merchant, connection: link.id, kind: kind.to_owned(), text };
    let change = Change { notices: vec![notice], now: Some(engine.clock.now()), ..Change::default() };
    if let Err(error) = engine.store.apply(change).await {
        tracing::warn!("a notice cannot be written: {error}");
    }
}

pub(crate) async fn health(engine: &Engine, link: &Arc<Link>) -> Result<String, String> {
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    let client = Client::new(&call);
    let mut told = Vec::new();
    if let Some(login) = link.connector.login() {
        call.session(login, None).await.map_err(|error| error.to_string())?;
        told.push("the login is good".to_owned());
    }
    if let Some(health) = link.connector.health() {
        match health.health(&client).await {
            Ok(None) => told.push("the provider says that all is well".to_owned()),
            Ok(Some(wrong)) => return Err(wrong),
            Err(error) => return Err(error.to_string()),
        }
    }
    if let Some(balance) = link.connector.balance() {
        let money = balance.balance(&client).await.map_err(|error| error.to_string())?;
        told.push(format!("balance {money}"));
    }
    if let Some(loyalty) = link.connector.loyalty() {
        loyalty.probe(&client).await.map_err(|error| error.to_string())?;
        told.push("the programme answers".to_owned());
        // It is asked each time: nothing waits for its webhooks.
        return Ok(told.join("; "));
    }
    let subscription = link.connector.subscription();
    if let (Some(subscription), Some(url)) = (subscription, engine.registered_url(link)) {
        match subscription.check(&client, &url).await {
            Ok(None) => told.push("our webhook stands".to_owned()),
            Ok(Some(wrong)) => return Err(wrong),
            Err(error) => return Err(error.to_string()),
        }
        return Ok(told.join("; "));
    }
    if subscription.is_some() {
        let why = if engine.options.public_url.is_some() { "the hub did not register it" } else { "`public_url` is not set" };
        told.push(format!("whether the webhook is set at the provider is not checked: {why}"));
    }
    if let Some(open) = engine.open_breaker(link.id) {
        return Err(format!("calls fail since {}: {}", open.since, open.reason));
    }
    // The provider tells nothing of our webhook, or cannot be asked: what is left is how its webhooks come.
    match rhythm::judge(engine.rhythm(link.id), engine.clock.now()) {
        _ if !link.connector.keyed() => {}
        Ok(well) => told.insert(0, well),
        Err(ill) => {
            told.insert(0, ill);
            return Err(told.join("; "));
        }
    }
    Ok(if told.is_empty() { "set up; the provider tells nothing about itself".to_owned() } else { told.join("; ") })
}

pub(crate) async fn subscribe(engine: &Engine, link: &Arc<Link>, url: &str) -> Result<(), String> {
    let subscription =
        link.connector.subscription().ok_or("this provider takes no subscription by API: set the URL in its cabinet")?;
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    subscription.subscribe(&Client::new(&call), url).await.map_err(|error| error.to_string())
}

pub(crate) async fn authorize(
    engine: &Engine,
    link: &Arc<Link>,
    query: &[(String, String)],
    redirect_url: &str,
) -> Result<(), String> {
    let authorization = link.connector.authorization().ok_or("this provider needs no login in a browser")?;
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    let session = authorization.finish(&Client::new(&call), query, redirect_url).await.map_err(|error| error.to_string())?;
    call.adopt(session).await.map_err(|error| error.to_string())
}

pub(crate) async fn cost(engine: &Engine, link: &Arc<Link>, phone: &str, text: &str) -> Result<Cost, String> {
    let costs = link.connector.costs().ok_or("this provider tells no prices")?;
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    costs.cost(&Client::new(&call), phone, text).await.map_err(|error| error.to_string())
}

pub(crate) async fn balance(engine: &Engine, link: &Arc<Link>) -> Result<String, String> {
    let balance = link.connector.balance().ok_or("this provider tells no balance")?;
    let trace = new_trace();
    let call = Call::new(engine, link, &trace);
    balance.balance(&Client::new(&call)).await.map_err(|error| error.to_string())
}
