//! Connections: which there are, how they are, and what can be done with them.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::phone;
use uzel_store::Refusal;

use super::{
    caller::{Caller, Owner},
    journal::Masking,
    mask::mask_text,
    read::{Body, Path, Query},
};
use crate::{App, Problem, oauth};

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Json<Value> {
    let world = app.engine.world();
    let mut links: Vec<_> = world.links.values().filter(|link| caller.sees(link.merchant)).collect();
    links.sort_by_key(|link| link.id);
    let list = links.into_iter().map(|link| {
        json!({
            "id": link.id, "slug": link.slug, "provider": link.provider.id, "merchant": link.merchant,
            "merchant_slug": world.merchants.get(&link.merchant).map(|(slug, _)| slug), "paused": link.paused,
            "polls": link.poll, "hook": format!("/hooks/{}", link.id), "breaker": app.engine.open_breaker(link.id),
        })
    });
    Json(list.collect())
}

pub(super) async fn health(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let link = caller.connection(&app, &id)?;
    let judged = app.engine.health(&link).await;
    let healthy = judged.is_ok();
    let (Ok(detail) | Err(detail)) = judged;
    let webhooks = app.engine.rhythm(link.id).map(|rhythm| {
        json!({
            "count": rhythm.count, "last_at": rhythm.last_at, "usual_gap_s": rhythm.gap_ms / 1_000,
            "longest_gap_s": rhythm.longest_ms / 1_000,
        })
    });
    Ok(Json(json!({ "healthy": healthy, "detail": detail, "webhooks": webhooks, "breaker": app.engine.open_breaker(link.id) })))
}

pub(super) async fn balance(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let link = caller.connection(&app, &id)?;
    let balance = app.engine.balance(&link).await.map_err(Problem::failed)?;
    Ok(Json(json!({ "balance": balance })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    phone: String,
    text: String,
}

pub(super) async fn cost(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(asked): Body<Text>,
) -> Result<Json<Value>, Problem> {
    let link = caller.connection(&app, &id)?;
    let phone = phone::read_text(&asked.phone, &link.country).map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
    let cost = app.engine.cost(&link, phone.e164, asked.text).await.map_err(Problem::failed)?;
    Ok(Json(json!(cost)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    /// The URL to register; by default the hub's public address with this connection's hook.
    url: Option<String>,
}

pub(super) async fn subscribe(
    State(app): State<Arc<App>>,
    Owner(caller): Owner,
    Path(id): Path<String>,
    Body(subscribe): Body<Subscribe>,
) -> Result<Json<Value>, Problem> {
    let link = caller.connection(&app, &id)?;
    app.engine.subscribe(&link, subscribe.url).await.map_err(Problem::failed)?;
    Ok(Json(json!({ "subscribed": true })))
}

/// Requests that were refused, newest first.
pub(super) async fn refusals(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(masking): Query<Masking>,
) -> Result<Json<Vec<Refusal>>, Problem> {
    let link = caller.connection(&app, &id)?;
    let refusals = app.engine.store.refusals(&link.id.to_string()).await?;
    Ok(Json(shown(refusals, masking.unmasked && caller.is_owner())))
}

pub(super) fn shown(mut refusals: Vec<Refusal>, unmasked: bool) -> Vec<Refusal> {
    if !unmasked {
        for refusal in &mut refusals {
            refusal.body = mask_text(&refusal.body);
        }
    }
    refusals
}

/// Gives the URL that a person opens in a browser, once, to log the connection in.
pub(super) async fn login(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    if !caller.is_owner() {
        return Err(Problem::not_found("no such path for this key"));
    }
    let link = caller.connection(&app, &id)?;
    let url = oauth::begin(&app, &caller, &link)?;
    Ok(Json(json!({ "url": url, "valid_s": oauth::CODE_LIFE.as_secs() })))
}
