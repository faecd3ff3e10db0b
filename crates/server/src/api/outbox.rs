//! The platform's outbox of webhooks: a view of the commands that tell a merchant's endpoints.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{Id, check::Fault, id::Kind};
use uzel_store::{CommandFilter, CommandState, TimelineCommand};

use super::{
    mask::mask_value,
    route::{Answered, Ask, ById, reply},
    setup::outlets::Done,
};
use crate::{App, Problem};

const ROWS: usize = 50;
const ROWS_MAX: usize = 200;
/// Commands of one endpoint that are looked at where a type is asked for, and rows of a page while they are counted.
const LOOK_MAX: usize = 1_000;
/// Pages of one endpoint that are counted.
const PAGES_MAX: usize = 50;

/// What became of a webhook, in the platform's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum OutboxStatus {
    /// It waits for its time, or for its next try.
    Pending,
    /// It is being sent.
    Sending,
    /// It was taken.
    Sent,
    /// It is held back, as while the endpoint is disabled, or nobody knows what became of it.
    Failed,
    /// Nobody took it.
    Dead,
}

fn status(state: CommandState) -> OutboxStatus {
    match state {
        CommandState::Waiting => OutboxStatus::Pending,
        CommandState::Sending => OutboxStatus::Sending,
        CommandState::Done => OutboxStatus::Sent,
        CommandState::Held | CommandState::Unknown => OutboxStatus::Failed,
        CommandState::Dead => OutboxStatus::Dead,
    }
}

fn states(status: Option<OutboxStatus>) -> Vec<Option<CommandState>> {
    match status {
        None => vec![None],
        Some(OutboxStatus::Pending) => vec![Some(CommandState::Waiting)],
        Some(OutboxStatus::Sending) => vec![Some(CommandState::Sending)],
        Some(OutboxStatus::Sent) => vec![Some(CommandState::Done)],
        Some(OutboxStatus::Failed) => vec![Some(CommandState::Held), Some(CommandState::Unknown)],
        Some(OutboxStatus::Dead) => vec![Some(CommandState::Dead)],
    }
}

/// Which webhooks.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OutboxQuery {
    /// What became of them.
    status: Option<OutboxStatus>,
    /// Type of their events, for instance `loyalty.committed`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Made from then on.
    since: Option<Timestamp>,
    /// Rows of the answer, 50 by default.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<usize>,
}

/// A webhook to one of the merchant's endpoints.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutboxRow {
    /// Its id; `POST …/outbox/{id}/retry` sends it again.
    id: Id,
    /// Whose it is.
    merchant_id: Id,
    /// The endpoint that it goes to.
    endpoint_id: Id,
    /// The event, as `X-Event-Id` names it.
    event_id: Option<Id>,
    /// Type of the event.
    event_type: String,
    /// The event's data, personal data masked.
    payload: Value,
    /// What became of it.
    status: OutboxStatus,
    /// How often it was tried.
    retries: u32,
    /// When it is tried next, while it waits.
    next_retry_at: Option<Timestamp>,
    /// Why it is in this state.
    last_error: Option<String>,
    /// When it was made.
    created_at: Timestamp,
}

fn made_at(id: Id) -> Timestamp {
    Timestamp::from_millisecond(id.ordinal() >> 12).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Endpoints of a merchant.
fn endpoints(app: &App, merchant: Id) -> Vec<Id> {
    app.engine.world().endpoints_of(merchant).map(|endpoint| endpoint.id()).collect()
}

fn filter(merchant: Id, endpoint: Id, limit: usize) -> CommandFilter {
    CommandFilter {
        merchant: Some(merchant),
        connection: Some(endpoint),
        state: None,
        event: None,
        from: None,
        to: None,
        before: None,
        limit,
    }
}

async fn shown(app: &App, merchant: Id, command: TimelineCommand) -> Result<OutboxRow, Problem> {
    let event = match command.event {
        Some(id) => app.engine.store.event(id).await?,
        None => None,
    };
    let (event_type, mut payload) = event.map_or_else(Default::default, |event| (event.kind.clone(), json!(event.data)));
    mask_value(&mut payload);
    let waits = command.state == CommandState::Waiting;
    Ok(OutboxRow {
        id: command.id,
        merchant_id: merchant,
        endpoint_id: command.connection,
        event_id: command.event,
        event_type,
        payload,
        status: status(command.state),
        retries: command.attempts,
        next_retry_at: waits.then_some(command.next_at),
        last_error: command.reason,
        created_at: made_at(command.id),
    })
}

pub(super) async fn list(ask: Ask<ById, OutboxQuery>) -> Answered<Vec<OutboxRow>> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let limit = query.limit.unwrap_or(ROWS);
    if !(1..=ROWS_MAX).contains(&limit) {
        return Err(Problem::unreadable("query", Fault::new("limit", format!("must be 1 to {ROWS_MAX}, not {limit}"))));
    }
    let look = if query.kind.is_some() { LOOK_MAX } else { limit };
    let mut commands = Vec::new();
    for endpoint in endpoints(&app, merchant) {
        for state in states(query.status) {
            let filter = CommandFilter { state, from: query.since, ..filter(merchant, endpoint, look) };
            commands.extend(app.engine.store.commands(filter).await?.into_iter().map(|(_, command)| command));
        }
    }
    commands.sort_by_key(|command| std::cmp::Reverse(command.id.ordinal()));
    let mut rows = Vec::new();
    for command in commands {
        if rows.len() == limit {
            break;
        }
        let row = shown(&app, merchant, command).await?;
        if query.kind.as_ref().is_none_or(|kind| *kind == row.event_type) {
            rows.push(row);
        }
    }
    reply(rows)
}

/// From when on.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SinceQuery {
    /// Made from then on.
    since: Option<Timestamp>,
}

/// How many webhooks stand how.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutboxStats {
    /// Whose they are.
    merchant_id: Id,
    /// From when on they were counted.
    since: Option<Timestamp>,
    /// How many, by what became of them.
    counts: BTreeMap<OutboxStatus, u64>,
    /// When the newest that nobody took was made.
    last_dead_at: Option<Timestamp>,
}

pub(super) async fn stats(ask: Ask<ById, SinceQuery>) -> Answered<OutboxStats> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let mut counts = BTreeMap::new();
    let mut last_dead_at = None;
    for endpoint in endpoints(&app, merchant) {
        let mut before = None;
        for _ in 0..PAGES_MAX {
            let filter = CommandFilter { from: query.since, before, ..filter(merchant, endpoint, LOOK_MAX) };
            let page = app.engine.store.commands(filter).await?;
            for (_, command) in &page {
                *counts.entry(status(command.state)).or_insert(0) += 1;
                if command.state == CommandState::Dead {
                    last_dead_at = last_dead_at.max(Some(made_at(command.id)));
                }
            }
            before = page.last().map(|(_, command)| command.id);
            if page.len() < LOOK_MAX {
                break;
            }
        }
    }
    reply(OutboxStats { merchant_id: merchant, since: query.since, counts, last_dead_at })
}

/// A webhook in a merchant's outbox.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RowPath {
    /// The merchant, by id or slug.
    id: String,
    /// The row's id.
    command: String,
}

pub(super) async fn retry(ask: Ask<RowPath>) -> Answered<Done> {
    let Ask { app, caller, path, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let missing = || Problem::not_found("no such webhook");
    let id: Id = path.command.parse().map_err(|_| missing())?;
    if id.kind() != Kind::Command {
        return Err(missing());
    }
    let (_, command) = app.engine.store.command(id).await?.filter(|(of, _)| *of == merchant).ok_or_else(missing)?;
    let endpoint = app.engine.endpoint(&command.connection.to_string(), Some(merchant)).ok_or_else(missing)?;
    if endpoint.is_disabled() {
        return Err(Problem::conflict("its endpoint is disabled: enable it first"));
    }
    let event = match command.event {
        Some(event) => app.engine.store.event(event).await?,
        None => None,
    };
    let event = event.ok_or_else(|| Problem::conflict("its event is not kept any more"))?;
    app.engine.redeliver(&endpoint, &event).await?;
    app.engine.audit(caller.holder.name(), "outbox.retry", Some(merchant), endpoint.id(), json!({ "command": id })).await?;
    reply(Done { ok: true })
}

/// What was queued again.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Queued {
    /// `true`.
    ok: bool,
    /// How many webhooks are sent again.
    updated: u64,
}

pub(super) async fn retry_all(ask: Ask<ById>) -> Answered<Queued> {
    let Ask { app, caller, path, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    recovered(&app, caller.holder.name(), merchant, Timestamp::UNIX_EPOCH).await
}

/// From when on.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(example = json!({ "since": "2026-11-24T00:00:00Z" }))]
pub(super) struct SinceBody {
    /// Of events from then on.
    since: Timestamp,
}

pub(super) async fn retry_since(ask: Ask<ById, (), SinceBody>) -> Answered<Queued> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    recovered(&app, caller.holder.name(), merchant, body.since).await
}

/// Sends again what is dead or held back, to every endpoint that takes webhooks.
async fn recovered(app: &App, by: &str, merchant: Id, since: Timestamp) -> Answered<Queued> {
    let mut updated = 0;
    for id in endpoints(app, merchant) {
        let Some(endpoint) = app.engine.endpoint(&id.to_string(), Some(merchant)).filter(|found| !found.is_disabled()) else {
            continue;
        };
        // One request to an endpoint looks at so many events, and says where to go on.
        let mut from = Some(since.max(Timestamp::from_second(1).unwrap_or(since)));
        while let Some(since) = from {
            let queued = app.engine.recover_endpoint(&endpoint, since, false).await?;
            updated += queued.queued;
            from = queued.more_since.filter(|next| *next > since);
        }
        app.engine.audit(by, "endpoint.recover", Some(merchant), id, json!({ "since": since })).await?;
    }
    reply(Queued { ok: true, updated })
}

/// How long.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(example = json!({}))]
pub(super) struct PauseBody {
    /// Not taken: a pause lasts until it is resumed.
    minutes: Option<f64>,
    /// Not taken: a pause lasts until it is resumed.
    until: Option<String>,
}

pub(super) async fn pause(ask: Ask<ById, (), PauseBody>) -> Answered<Done> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let given = [("/minutes", body.minutes.is_some()), ("/until", body.until.is_some())];
    if let Some((field, _)) = given.into_iter().find(|(_, given)| *given) {
        let why = "a pause lasts until `POST …/outbox/resume`: leave it out";
        return Err(Problem::invalid(vec![Fault::new(field, why)]));
    }
    app.engine.pause_endpoints(merchant, true, caller.holder.name()).await?;
    reply(Done { ok: true })
}

pub(super) async fn resume(ask: Ask<ById>) -> Answered<Done> {
    let Ask { app, caller, path, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    app.engine.pause_endpoints(merchant, false, caller.holder.name()).await?;
    reply(Done { ok: true })
}
