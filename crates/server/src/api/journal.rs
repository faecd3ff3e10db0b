//! The sync log: rows, one entry's timeline, dead letters, replay.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{Id, check::Fault, phone, webhook};
use uzel_store::{JournalFilter, JournalRow, Timeline};

use super::{
    mask::{mask_text, mask_value, shorten_job},
    page::{LIMIT, Page},
    route::{Answered, Ask, reply},
};
use crate::{App, Problem, api::Caller};

/// What rows can be listed by: how it went, what became of an entry, and what became of its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    Error,
    Unread,
    Read,
    Duplicate,
    Dead,
    Unknown,
    Held,
    Waiting,
}

/// Which rows of the journal.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct JournalQuery {
    /// By id or slug.
    merchant: Option<String>,
    /// Id of the provider.
    provider: Option<String>,
    /// By id or slug.
    connection: Option<String>,
    /// An endpoint, by id or slug: what was sent to it.
    endpoint: Option<String>,
    /// Of a person, as it is written there.
    phone: Option<String>,
    /// Order number or provider's id.
    order: Option<String>,
    /// How it went, or what became of it.
    status: Option<Status>,
    /// From then on.
    from: Option<Timestamp>,
    /// Before then.
    to: Option<Timestamp>,
    /// `next` of the page before; only rows older than this one.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows phones and bodies whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

pub(super) async fn list(ask: Ask<(), JournalQuery>) -> Answered<Page<JournalRow>> {
    let Ask { app, caller, query, .. } = ask;
    reply(page(&app, &caller, query).await?)
}

/// Entries that could not be read, or led to a call that can be made no more.
pub(super) async fn dead_letters(ask: Ask<(), JournalQuery>) -> Answered<Page<JournalRow>> {
    let Ask { app, caller, query, .. } = ask;
    reply(page(&app, &caller, JournalQuery { status: Some(Status::Dead), ..query }).await?)
}

async fn page(app: &App, caller: &Caller, query: JournalQuery) -> Result<Page<JournalRow>, Problem> {
    let merchant = caller.scope(app, query.merchant.as_deref())?;
    let connection = query.connection.as_deref().map(|name| caller.connection(app, name)).transpose()?.map(|link| link.id);
    let country =
        merchant.and_then(|merchant| app.engine.world().merchants.get(&merchant).map(|(_, merchant)| merchant.country.clone()));
    let reference = match &query.phone {
        Some(text) => {
            let phone = phone::read_text(text, country.as_deref().unwrap_or("RU"))
                .map_err(|error| Problem::unreadable("query", Fault::new("phone", error.to_string())))?;
            Some(phone.e164)
        }
        None => query.order.clone(),
    };
    if let Some(fault) = query.provider.as_deref().and_then(|provider| unknown(app, provider, "provider")) {
        return Err(Problem::unreadable("query", fault));
    }
    if query.from.zip(query.to).is_some_and(|(from, to)| from >= to) {
        return Err(Problem::unreadable("query", Fault::new("from", "is not before `to`: nothing could be between them")));
    }
    let endpoint = query.endpoint.as_deref().map(|name| {
        app.engine
            .endpoint(name, merchant)
            .ok_or_else(|| Problem::unreadable("query", Fault::new("endpoint", "there is none of this name")))
    });
    let connection = endpoint.transpose()?.map(|endpoint| endpoint.id()).or(connection);
    let limit = LIMIT.read(query.limit)?;
    let filter = JournalFilter {
        merchant,
        provider: query.provider,
        reference,
        status: query.status.and_then(|status| json!(status).as_str().map(str::to_owned)),
        from: query.from,
        to: query.to,
        before: query.before,
        connection,
        limit: limit + 1,
        ..JournalFilter::default()
    };
    let mut rows = app.engine.store.journal(filter).await?;
    if !(query.unmasked && caller.is_owner()) {
        for row in &mut rows {
            for text in [&mut row.endpoint, &mut row.request, &mut row.response].into_iter().chain(&mut row.error) {
                *text = mask_text(text);
            }
        }
    }
    Ok(Page::new(rows, limit, |row| row.id.to_string()))
}

/// What is wrong with a provider that nobody knows.
fn unknown(app: &App, provider: &str, place: &str) -> Option<Fault> {
    let known = provider == webhook::PROVIDER_ID || app.engine.providers.iter().any(|known| known.id == provider);
    (!known).then(|| Fault::new(place, format!("`{provider}` is no provider: `uzel providers list` names them")))
}

/// How personal data is shown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Masking {
    /// Shows phones and bodies whole; owners only.
    #[serde(default)]
    pub unmasked: bool,
}

/// A thing by its id.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ByIdOnly {
    /// Its id.
    pub id: Id,
}

/// An entry with all that followed from it; or a call that followed from none.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct TimelineView(#[schemars(with = "TimelineShape")] Value);

/// The shape of what is shown: masked, it is the same.
#[derive(JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum TimelineShape {
    /// An entry.
    Timeline(Box<Timeline>),
    /// A call of a poll or a check, which follows from no entry.
    Exchange { exchange: Box<uzel_store::Exchange> },
}

pub(super) async fn show(ask: Ask<ByIdOnly, Masking>) -> Answered<TimelineView> {
    let Ask { app, caller, path, query, .. } = ask;
    let timeline: Option<Timeline> = app.engine.store.timeline(path.id).await?;
    let mut value = match timeline {
        Some(timeline) if caller.sees(timeline.merchant) => json!(timeline),
        Some(_) => return Err(Problem::not_found("no such entry")),
        // A call of a poll or a check follows from no entry: it is shown by itself.
        None => match app.engine.store.exchange(path.id).await?.filter(|exchange| caller.sees(exchange.merchant)) {
            Some(exchange) => json!({ "exchange": exchange }),
            None => return Err(Problem::not_found("no such entry")),
        },
    };
    for command in value.get_mut("commands").and_then(Value::as_array_mut).into_iter().flatten() {
        shorten_job(&mut command["job"]);
    }
    if !(query.unmasked && caller.is_owner()) {
        mask_value(&mut value);
    }
    reply(TimelineView(value))
}

/// What is read again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "dead": true, "provider": "rkeeper", "dry_run": true }))]
pub(super) struct ReplayRequest {
    /// One entry …
    entry: Option<Id>,
    /// … or all dead ones, of a provider and a time range where given.
    #[serde(default)]
    dead: bool,
    /// Only of this provider.
    provider: Option<String>,
    /// Only what came from then on.
    from: Option<Timestamp>,
    /// Only what came before then.
    to: Option<Timestamp>,
    /// Only counts.
    #[serde(default)]
    dry_run: bool,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReplayView {
    /// Entries that were read, or would be.
    count: usize,
    /// What came of each.
    outcomes: Vec<ReplayedEntry>,
}

/// What came of one entry.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReplayedEntry {
    /// The entry.
    entry: Id,
    /// What the reader made of it.
    outcome: Value,
}

pub(super) async fn replay(ask: Ask<(), (), ReplayRequest>) -> Answered<ReplayView> {
    let Ask { app, caller, body: replay, .. } = ask;
    let missing = || Problem::not_found("no such entry");
    if let Some(fault) = replay.provider.as_deref().and_then(|provider| unknown(&app, provider, "/provider")) {
        return Err(Problem::invalid(vec![fault]));
    }
    let named = match (replay.entry, replay.dead) {
        (Some(entry), false) => vec![entry],
        (None, true) => app.engine.store.dead(replay.provider, replay.from, replay.to).await?,
        _ => return Err(Problem::bad_request("name one `entry`, or say `dead: true`")),
    };
    let mut entries = Vec::new();
    for entry in named {
        let own =
            caller.merchant.is_none() || app.engine.store.entry(entry).await?.is_some_and(|entry| caller.sees(entry.merchant));
        match (own, replay.entry) {
            (true, _) => entries.push(entry),
            (false, Some(_)) => return Err(missing()),
            (false, None) => {}
        }
    }
    let mut outcomes = Vec::new();
    for entry in entries.iter().filter(|_| !replay.dry_run) {
        let outcome = app.engine.replay(*entry).await?.ok_or_else(missing)?;
        outcomes.push(ReplayedEntry { entry: *entry, outcome: json!(outcome) });
    }
    if !replay.dry_run {
        let object = replay.entry.map_or_else(|| "dead".to_owned(), |entry| entry.to_string());
        let detail = json!({ "count": entries.len() });
        app.engine.audit(caller.holder.name(), "journal.replay", caller.merchant, object, detail).await?;
    }
    reply(ReplayView { count: entries.len(), outcomes })
}
