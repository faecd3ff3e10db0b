//! `/api/v1`: what commands and integrators ask of the hub.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::{Link, Role, setup::Leniency};
use uzel_model::{Id, phone, signature};
use uzel_store::{Counts, JournalFilter, JournalRow, Notice, Timeline};

use crate::{App, Caller, Local, Problem};

/// Whose key came with the request.
pub(crate) fn caller(app: &App, headers: &HeaderMap, local: bool) -> Result<Caller, Problem> {
    if local {
        return Ok(Caller { merchant: None, owner: true });
    }
    let key = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .ok_or_else(Problem::unauthorized)?;
    let (merchant, role) = app.engine.world().by_api_key(&app.engine.vault, key.trim()).ok_or_else(Problem::unauthorized)?;
    Ok(Caller { merchant, owner: role == Role::Owner })
}

/// An owner of the whole hub.
fn owner(app: &App, headers: &HeaderMap, local: Option<Extension<Local>>) -> Result<Caller, Problem> {
    let caller = caller(app, headers, local.is_some())?;
    if caller.owner && caller.merchant.is_none() { Ok(caller) } else { Err(Problem::not_found("no such path for this key")) }
}

type IfLocal = Option<Extension<Local>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JournalQuery {
    merchant: Option<String>,
    provider: Option<String>,
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

pub(crate) async fn journal(
    State(app): State<Arc<App>>,
    Query(query): Query<JournalQuery>,
    headers: HeaderMap,
    local: IfLocal,
) -> Result<Json<Vec<JournalRow>>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let merchant = match (&query.merchant, caller.merchant) {
        (_, Some(own)) => Some(own),
        (Some(named), None) => Some(app.engine.world().merchant(named).ok_or_else(|| Problem::not_found("no such merchant"))?),
        (None, None) => None,
    };
    let country =
        merchant.and_then(|merchant| app.engine.world().merchants.get(&merchant).map(|(_, merchant)| merchant.country.clone()));
    let reference = match &query.phone {
        Some(text) => {
            let phone = phone::read_text(text, country.as_deref().unwrap_or("RU"))
                .map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
            Some(phone.e164)
        }
        None => query.order.clone(),
    };
    let filter = JournalFilter {
        merchant,
        provider: query.provider,
        reference,
        status: query.status,
        from: query.from,
        to: query.to,
        before: query.before,
        limit: query.limit.unwrap_or(50),
    };
    let mut rows = app.engine.store.journal(filter).await?;
    if !(query.unmasked && caller.owner) {
        for row in &mut rows {
            row.request = mask_text(&row.request);
            row.response = mask_text(&row.response);
        }
    }
    Ok(Json(rows))
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Masking {
    #[serde(default)]
    unmasked: bool,
}

pub(crate) async fn timeline(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(masking): Query<Masking>,
    headers: HeaderMap,
    local: IfLocal,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let id: Id = id.parse().map_err(|error: uzel_model::id::NoId| Problem::bad_request(error.to_string()))?;
    let own = |merchant: Id| caller.merchant.is_none_or(|own| own == merchant);
    let timeline: Option<Timeline> = app.engine.store.timeline(id).await?;
    let mut value = match timeline {
        Some(timeline) if own(timeline.merchant) => json!(timeline),
        Some(_) => return Err(Problem::not_found("no such entry")),
        // A call of a poll or a check follows from no entry: it is shown by itself.
        None => match app.engine.store.exchange(id).await?.filter(|exchange| own(exchange.merchant)) {
            Some(exchange) => json!({ "exchange": exchange }),
            None => return Err(Problem::not_found("no such entry")),
        },
    };
    if !(masking.unmasked && caller.owner) {
        mask_value(&mut value);
    }
    Ok(Json(value))
}

/// Masks every text in a document, ids left alone.
fn mask_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_text(text),
        Value::Array(items) => items.iter_mut().for_each(mask_value),
        Value::Object(members) => members
            .iter_mut()
            .filter(|(name, _)| !matches!(name.as_str(), "id" | "entry" | "trace" | "key" | "subject"))
            .for_each(|(name, member)| {
                if name == "name" && member.is_string() {
                    *member = json!("***");
                } else {
                    mask_value(member);
                }
            }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks what may be a phone in a text: eleven or twelve digits in a row, or any ten and more behind a plus.
fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[start..].bytes().take_while(u8::is_ascii_digit).count();
        let plus = rest[..start].ends_with('+') || rest[..start].to_ascii_lowercase().ends_with("%2b");
        let whole = !rest[..start].ends_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.') || plus;
        masked.push_str(&rest[..start]);
        let run = &rest[start..start + digits];
        if whole && ((11..=12).contains(&digits) || (plus && (10..=15).contains(&digits))) {
            masked.push_str(&run[..4]);
            masked.push_str("***");
            masked.push_str(&run[digits - 4..]);
        } else {
            masked.push_str(run);
        }
        rest = &rest[start + digits..];
    }
    masked.push_str(rest);
    masked
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
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

pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
    Json(replay): Json<Replay>,
) -> Result<Json<Value>, Problem> {
    owner(&app, &headers, local)?;
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

pub(crate) async fn counts(State(app): State<Arc<App>>, headers: HeaderMap, local: IfLocal) -> Result<Json<Counts>, Problem> {
    owner(&app, &headers, local)?;
    Ok(Json(app.engine.store.counts().await?))
}

pub(crate) async fn notices(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
) -> Result<Json<Vec<Notice>>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let mut notices = app.engine.store.notices(200).await?;
    notices.retain(|notice| caller.merchant.is_none_or(|merchant| merchant == notice.merchant));
    Ok(Json(notices))
}

pub(crate) async fn providers(State(app): State<Arc<App>>, headers: HeaderMap, local: IfLocal) -> Result<Json<Value>, Problem> {
    caller(&app, &headers, local.is_some())?;
    let list: Vec<Value> = app
        .engine
        .providers
        .iter()
        .map(|provider| json!({ "id": provider.id, "name": provider.name, "schema": provider.schema() }))
        .collect();
    Ok(Json(json!(list)))
}

pub(crate) async fn connections(State(app): State<Arc<App>>, headers: HeaderMap, local: IfLocal) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let world = app.engine.world();
    let mut list: Vec<Value> = world
        .links
        .values()
        .filter(|link| caller.merchant.is_none_or(|merchant| merchant == link.merchant))
        .map(|link| {
            json!({
                "id": link.id, "slug": link.slug, "provider": link.provider.id, "merchant": link.merchant, "paused": link.paused,
                "polls": link.poll, "hook": format!("/hooks/{}", link.id),
            })
        })
        .collect();
    list.sort_by_key(|link| link["id"].to_string());
    Ok(Json(json!(list)))
}

fn link(app: &App, caller: Caller, id: &str) -> Result<Arc<Link>, Problem> {
    let world = app.engine.world();
    world
        .connection(id)
        .filter(|link| caller.merchant.is_none_or(|merchant| merchant == link.merchant))
        .cloned()
        .ok_or_else(|| Problem::not_found("no such connection"))
}

pub(crate) async fn health(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    local: IfLocal,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let link = link(&app, caller, &id)?;
    Ok(Json(match app.engine.health(&link).await {
        Ok(detail) => json!({ "healthy": true, "detail": detail }),
        Err(detail) => json!({ "healthy": false, "detail": detail }),
    }))
}

pub(crate) async fn balance(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    local: IfLocal,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let link = link(&app, caller, &id)?;
    let balance = app.engine.balance(&link).await.map_err(Problem::failed)?;
    Ok(Json(json!({ "balance": balance })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    phone: String,
    text: String,
}

pub(crate) async fn cost(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    local: IfLocal,
    Json(asked): Json<Text>,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let link = link(&app, caller, &id)?;
    let phone = phone::read_text(&asked.phone, &link.country).map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
    let cost = app.engine.cost(&link, &phone.e164, &asked.text).await.map_err(Problem::failed)?;
    Ok(Json(json!(cost)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Subscribe {
    /// The URL to register; by default the hub's public address with this connection's hook.
    url: Option<String>,
}

pub(crate) async fn subscribe(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    local: IfLocal,
    Json(subscribe): Json<Subscribe>,
) -> Result<Json<Value>, Problem> {
    let caller = owner(&app, &headers, local)?;
    let link = link(&app, caller, &id)?;
    app.engine.subscribe(&link, subscribe.url).await.map_err(Problem::failed)?;
    Ok(Json(json!({ "subscribed": true })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apply {
    setup: Value,
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn apply(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
    Json(apply): Json<Apply>,
) -> Result<Json<Value>, Problem> {
    owner(&app, &headers, local)?;
    let mut plan = app.engine.plan(&apply.setup, Leniency::default()).await?.map_err(Problem::invalid)?;
    if apply.dry_run {
        plan.keys.clear();
        return Ok(Json(json!(plan)));
    }
    let told = json!(plan);
    app.engine.carry_out(plan).await?;
    Ok(Json(told))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DryRun {
    /// A journal entry …
    entry: Option<Id>,
    /// … or a body as it would come in to a connection.
    connection: Option<String>,
    body: Option<String>,
    content_type: Option<String>,
}

pub(crate) async fn dry_run(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
    Json(run): Json<DryRun>,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let told = match (run.entry, run.connection, run.body) {
        (Some(entry), None, None) => {
            let entry = app
                .engine
                .store
                .entry(entry)
                .await?
                .filter(|entry| caller.merchant.is_none_or(|merchant| merchant == entry.merchant))
                .ok_or_else(|| Problem::not_found("no such entry"))?;
            let mut told = app.engine.dry_run(&entry);
            mask_value(&mut told);
            told
        }
        (None, Some(connection), Some(body)) => {
            let link = link(&app, caller, &connection)?;
            let content_type = run.content_type.unwrap_or_else(|| "application/json".to_owned());
            app.engine.dry_run_body(&link, body, content_type)
        }
        _ => return Err(Problem::bad_request("name an `entry`, or a `connection` and a `body`")),
    };
    Ok(Json(told))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Consent {
    merchant: String,
    phone: String,
    granted: bool,
    /// How and where it was given.
    proof: String,
}

pub(crate) async fn consent(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
    Json(consent): Json<Consent>,
) -> Result<Json<Value>, Problem> {
    let caller = caller(&app, &headers, local.is_some())?;
    let world = app.engine.world();
    let merchant = world
        .merchant(&consent.merchant)
        .filter(|merchant| caller.merchant.is_none_or(|own| own == *merchant))
        .ok_or_else(|| Problem::not_found("no such merchant"))?;
    let country = world.merchants.get(&merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    let phone = phone::read_text(&consent.phone, country).map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
    app.engine.store.put_consent(merchant, &phone.e164, consent.granted, &consent.proof, app.engine.clock.now()).await?;
    Ok(Json(
        json!({ "phone": phone.masked(), "granted": consent.granted, "record": signature::sha256_hex([phone.e164.as_bytes()])[..16] }),
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fsck {
    #[serde(default)]
    repair: bool,
}

pub(crate) async fn fsck(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    local: IfLocal,
    Json(fsck): Json<Fsck>,
) -> Result<Json<Value>, Problem> {
    owner(&app, &headers, local)?;
    Ok(Json(json!({ "found": app.engine.store.fsck(fsck.repair).await? })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_in_a_text_are_masked_and_ids_are_not() {
        assert_eq!(mask_text(r#"{"phone":"+79991234567","id":1789380000}"#), r#"{"phone":"+7999***4567","id":1789380000}"#);
        assert_eq!(mask_text("to=79991234567&msg=x"), "to=7999***4567&msg=x");
    }
}
