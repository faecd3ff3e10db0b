//! The hub itself: counts, notices, its providers, the store's own check.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_store::{Counts, Notice, Refusal};

use super::{
    caller::{Caller, Owner},
    connections::shown,
    journal::Masking,
    mask::mask_text,
    read::{Body, Path, Query},
};
use crate::{App, Problem};

pub(super) async fn counts(State(app): State<Arc<App>>, _: Owner) -> Result<Json<Counts>, Problem> {
    Ok(Json(app.engine.store.counts().await?))
}

pub(super) async fn notices(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Vec<Notice>>, Problem> {
    let mut notices = app.engine.store.notices(caller.merchant, 200).await?;
    if !caller.is_owner() {
        // A provider's words may repeat the phone that it was given.
        notices.iter_mut().for_each(|notice| notice.text = mask_text(&notice.text));
    }
    Ok(Json(notices))
}

pub(super) async fn providers(State(app): State<Arc<App>>, _: Caller) -> Json<Value> {
    let list = app.engine.providers.iter();
    Json(list.map(|provider| json!({ "id": provider.id, "name": provider.name, "schema": provider.schema() })).collect())
}

/// Requests whose key belongs to no connection, newest first: whose they are nobody knows, so only the hub's owner sees them.
pub(super) async fn refusals(
    State(app): State<Arc<App>>,
    _: Owner,
    Path(id): Path<String>,
    Query(masking): Query<Masking>,
) -> Result<Json<Vec<Refusal>>, Problem> {
    let known = app.engine.providers.iter().find(|provider| provider.id == id);
    let provider = known.ok_or_else(|| Problem::not_found("no such provider"))?;
    Ok(Json(shown(app.engine.store.refusals(provider.id).await?, masking.unmasked)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fsck {
    #[serde(default)]
    repair: bool,
}

pub(super) async fn fsck(State(app): State<Arc<App>>, _: Owner, Body(fsck): Body<Fsck>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "found": app.engine.store.fsck(fsck.repair).await? })))
}
