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
    // Commands that came by a message belong to no provider either.
    let known = id == "nats" || app.engine.providers.iter().any(|provider| provider.id == id);
    if !known {
        return Err(Problem::not_found("no such provider"));
    }
    Ok(Json(shown(app.engine.store.refusals(&id).await?, masking.unmasked)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nats {
    /// Whether events are kept until they are published.
    publish: bool,
}

/// Ends the publishing of events, for all nodes: it begins again with a node whose settings name a server.
pub(super) async fn nats(State(app): State<Arc<App>>, _: Owner, Body(nats): Body<Nats>) -> Result<Json<Value>, Problem> {
    if nats.publish {
        return Err(Problem::bad_request("set `nats` in the settings and start the hub again: that begins it"));
    }
    if app.engine.options.nats.is_some() {
        return Err(Problem::bad_request(
            "`nats` is set: take it out of the settings of all nodes, start them again, and then end it",
        ));
    }
    let (forgotten, _) = app.engine.store.publishing().await?;
    app.engine.store.publish(false).await?;
    app.engine.metrics.unpublished_events.set(0);
    Ok(Json(json!({ "publish": false, "forgotten": forgotten })))
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
