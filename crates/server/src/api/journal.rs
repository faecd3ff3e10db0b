//! The sync log: rows, one entry's timeline, replay.

use std::sync::Arc;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{Id, check::Fault, phone, webhook};
use uzel_store::{JournalFilter, JournalRow, Timeline};

use super::{
    caller::{Caller, Owner},
    mask::{mask_text, mask_value},
    read::{Body, Path, Query},
};
use crate::{App, Problem};

/// What rows can be listed by: how it went, what became of an entry, and what became of its commands.
const STATUSES: [&str; 9] = ["ok", "error", "unread", "read", "duplicate", "dead", "unknown", "held", "waiting"];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    merchant: Option<String>,
    provider: Option<String>,
    /// An endpoint, by id or slug: what was sent to it.
    endpoint: Option<String>,
    phone: Option<String>,
    /// Order number or provider's id.
    order: Option<String>,
    status: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    /// Only rows older than this entry.
    before: Option<Id>,
    limit: Option<usize>,
    /// Shows phones and bodies whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<JournalRow>>, Problem> {
    let merchant = match (&filter.merchant, caller.merchant) {
        (_, Some(own)) => Some(own),
        (Some(named), None) => Some(caller.merchant(&app, named)?),
        (None, None) => None,
    };
    let country =
        merchant.and_then(|merchant| app.engine.world().merchants.get(&merchant).map(|(_, merchant)| merchant.country.clone()));
    let reference = match &filter.phone {
        Some(text) => {
            let phone = phone::read_text(text, country.as_deref().unwrap_or("RU"))
                .map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
            Some(phone.e164)
        }
        None => filter.order.clone(),
    };
    if let Some(status) = filter.status.as_deref().filter(|status| !STATUSES.contains(status)) {
        return Err(Problem::unreadable(
            "query",
            Fault::new("status", format!("`{status}` is no status: {} are", STATUSES.join(", "))),
        ));
    }
    if let Some(provider) = filter.provider.as_deref()
        && provider != webhook::PROVIDER_ID
        && !app.engine.providers.iter().any(|known| known.id == provider)
    {
        return Err(Problem::unreadable(
            "query",
            Fault::new("provider", format!("`{provider}` is no provider: `uzel providers list` names them")),
        ));
    }
    if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
        return Err(Problem::unreadable("query", Fault::new("from", "is not before `to`: nothing could be between them")));
    }
    let endpoint = filter.endpoint.as_deref().map(|name| {
        app.engine
            .endpoint(name, merchant)
            .ok_or_else(|| Problem::unreadable("query", Fault::new("endpoint", "there is none of this name")))
    });
    let shows_all = filter.unmasked && caller.is_owner();
    let filter = JournalFilter {
        merchant,
        way_out: endpoint.transpose()?.map(|endpoint| endpoint.id()),
        provider: filter.provider,
        reference,
        status: filter.status,
        from: filter.from,
        to: filter.to,
        before: filter.before,
        limit: filter.limit.unwrap_or(50),
    };
    let mut rows = app.engine.store.journal(filter).await?;
    if !shows_all {
        for row in &mut rows {
            for text in [&mut row.endpoint, &mut row.request, &mut row.response].into_iter().chain(&mut row.error) {
                *text = mask_text(text);
            }
        }
    }
    Ok(Json(rows))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Masking {
    #[serde(default)]
    pub unmasked: bool,
}

/// The entry that a path names.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    id: Id,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(Named { id }): Path<Named>,
    Query(masking): Query<Masking>,
) -> Result<Json<Value>, Problem> {
    let timeline: Option<Timeline> = app.engine.store.timeline(id).await?;
    let mut value = match timeline {
        Some(timeline) if caller.sees(timeline.merchant) => json!(timeline),
        Some(_) => return Err(Problem::not_found("no such entry")),
        // A call of a poll or a check follows from no entry: it is shown by itself.
        None => match app.engine.store.exchange(id).await?.filter(|exchange| caller.sees(exchange.merchant)) {
            Some(exchange) => json!({ "exchange": exchange }),
            None => return Err(Problem::not_found("no such entry")),
        },
    };
    if !(masking.unmasked && caller.is_owner()) {
        mask_value(&mut value);
    }
    Ok(Json(value))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// One entry …
    entry: Option<Id>,
    /// … or all dead ones, of a provider and a time range where given.
    #[serde(default)]
    dead: bool,
    provider: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    /// Only counts.
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn replay(State(app): State<Arc<App>>, _: Owner, Body(replay): Body<Replay>) -> Result<Json<Value>, Problem> {
    let entries = match (replay.entry, replay.dead) {
        (Some(entry), false) => vec![entry],
        (None, true) => app.engine.store.dead(replay.provider, replay.from, replay.to).await?,
        _ => return Err(Problem::bad_request("name one `entry`, or say `dead: true`")),
    };
    let mut outcomes = Vec::new();
    if !replay.dry_run {
        for entry in &entries {
            let outcome = app.engine.replay(*entry).await?.ok_or_else(|| Problem::not_found("no such entry"))?;
            outcomes.push(json!({ "entry": entry, "outcome": outcome }));
        }
    }
    Ok(Json(json!({ "count": entries.len(), "outcomes": outcomes })))
}
