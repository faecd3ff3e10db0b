//! Messages whose answer was lost. Where the provider knows the same words again they go once more; where it can be asked they are
//! looked for; and what it tells of a message to the same person, sent at the same time, may be theirs. Else they stay unknown.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Address, CallError, Client, Id, Job, Outbound, connector::StatusNews, id::Kind, port::Delivery, signature};
use uzel_store::{Begun, Change, Command, CommandFilter, CommandState, Exchange, StoreError, TimelineCommand, Verdict};

use crate::{Engine, Link, call::Outcome, outward::Call, tick};

/// How long a lost message is looked for.
const LOOK_FOR: SignedDuration = SignedDuration::from_hours(48);
/// Commands that are made long before they are sent are found all the same.
const MADE_WITHIN: SignedDuration = SignedDuration::from_hours(30 * 24);
/// Of the newest.
const LOOKED_FOR_MAX: usize = 100;
/// What a provider's clock may be behind ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(2);
/// A message that is told by its person and time was taken this long after its call.
const TAKEN_WITHIN: SignedDuration = SignedDuration::from_mins(15);
/// News that do not say when their message was sent come within this.
const NEWS_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// That a message went once more is remembered longer than the provider remembers its words.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The message goes once more, and never again after that, where its connection wants it so.
pub(crate) async fn once_more(engine: &Engine, link: &Link, command: &Command, error: &CallError) -> Option<Outcome> {
    let lost = matches!(error, CallError::Lost(_) | CallError::Unreadable(_));
    if !lost || command.job.repeatable() || command.job.address().is_none() {
        return None;
    }
    let after = link.connector.messages()?.again_after_s()?;
    let now = engine.clock.now();
    let at = now + SignedDuration::from_secs(i64::from(after));
    // Held back as too old it would look as if it had never gone.
    if command.latest_at.is_some_and(|latest| latest < at) {
        return None;
    }
    let key = signature::fingerprint([b"once more".as_slice(), command.id.as_bytes()]);
    let remembered = now + REMEMBERED;
    match engine.store.begin(key, key, now, REMEMBERED.as_millis() as i64, remembered).await {
        Ok(Begun::New) => Some(Outcome::again(at, format!("{error}: the same text goes once more after {after} s"))),
        _ => None,
    }
}

/// Looks for each message of a connection whose answer was lost.
pub(crate) async fn look(engine: &Engine, link: &Arc<Link>) {
    let Some(messages) = link.connector.messages() else { return };
    let now = engine.clock.now();
    for lost in unknown(engine, link.id, now).await {
        let trace = tick::new_trace();
        let call = Call::new(engine, link, &trace);
        let key = lost.id.to_string();
        let Job::Send { to, content, .. } = &lost.job else { continue };
        let found = messages.find(&Client::new(&call), Outbound { to, content, key: &key }, lost.sent_at).await;
        match found {
            Ok(Some(news)) => end(engine, link, &lost, news, "it was found at the provider", call.into_exchanges()).await,
            Ok(None) => {}
            Err(error) => return tick::report(engine, link, "look_for_lost", error, call).await,
        }
        if engine.stop.is_cancelled() {
            return;
        }
    }
}

/// News of messages that may be those whose answer was lost: told by whom they went to, and when.
pub(crate) async fn recognise(engine: &Engine, told: Vec<(Id, StatusNews)>) {
    let now = engine.clock.now();
    let world = engine.world();
    let mut known: BTreeMap<Id, Vec<Lost>> = BTreeMap::new();
    for (connection, news) in told {
        let (Some(to), Some(link)) = (&news.to, world.links.get(&connection)) else { continue };
        let lost = match known.entry(connection) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(unknown(engine, connection, now).await),
        };
        let (moment, within) = match news.sent_at {
            Some(sent_at) => (sent_at, TAKEN_WITHIN),
            None => (news.at.unwrap_or(now), NEWS_WITHIN),
        };
        let fits = |lost: &Lost| {
            let from = lost.sent_at.saturating_sub(CLOCKS_DIFFER).unwrap_or(Timestamp::MIN);
            lost.to() == Some(to) && from <= moment && moment <= lost.sent_at + within
        };
        let mut fitting = lost.iter().filter(|lost| fits(lost));
        // Two of them cannot be told apart.
        if let (Some(lost), None) = (fitting.next(), fitting.next()) {
            end(engine, link, lost, news, "the provider told of a message to the same person at that time", Vec::new()).await;
        }
    }
}

/// A message whose answer was lost.
struct Lost {
    id: Id,
    job: Job,
    sent_at: Timestamp,
}

impl Lost {
    fn to(&self) -> Option<&Address> {
        self.job.address()
    }
}

async fn unknown(engine: &Engine, connection: Id, now: Timestamp) -> Vec<Lost> {
    let filter = CommandFilter {
        merchant: None,
        connection: Some(connection),
        state: Some(CommandState::Unknown),
        event: None,
        from: Some(now - MADE_WITHIN),
        to: None,
        before: None,
        limit: LOOKED_FOR_MAX,
    };
    let mut lost = Vec::new();
    for (_, command) in engine.store.commands(filter).await.unwrap_or_default() {
        // Lists leave out when a command was sent.
        let Ok(Some((_, command))) = engine.store.command(command.id).await else { continue };
        lost.extend(read(command).filter(|lost| lost.sent_at > now - LOOK_FOR));
    }
    lost
}

fn read(command: TimelineCommand) -> Option<Lost> {
    let job: Job = serde_json::from_value(command.job).ok()?;
    let sent_at = command.exchanges.last()?.at;
    job.address()?;
    Some(Lost { id: command.id, job, sent_at })
}

/// It was taken: it is done under the provider's id, and what became of it is known.
async fn end(engine: &Engine, link: &Link, lost: &Lost, news: StatusNews, how: &str, exchanges: Vec<Exchange>) {
    let now = engine.clock.now();
    let exchange = Exchange {
        id: Id::new(Kind::Attempt),
        merchant: link.merchant,
        connection: link.id,
        provider: link.provider.id.to_owned(),
        at: now,
        endpoint: "found again".to_owned(),
        request: news.provider_id.clone(),
        response: news.code.clone(),
        error: None,
        duration_ms: 0,
        trace: tick::new_trace(),
    };
    let verdict = Verdict {
        command: lost.id,
        state: CommandState::Done,
        reason: format!("its answer was lost; {how}"),
        provider_id: Some(news.provider_id.clone()),
        exchange,
    };
    let statuses = if news.state == Delivery::OnTheWay { Vec::new() } else { vec![(link.id, news)] };
    let change = Change { verdict: Some(verdict), statuses, exchanges, now: Some(now), ..Change::default() };
    match engine.store.apply(change).await {
        // It is another command's, or somebody has ended this one meanwhile.
        Ok(_) | Err(StoreError::Conflict) => {}
        Err(error) => tracing::warn!(command.id = %lost.id, "what became of a lost message cannot be written: {error}"),
    }
}
