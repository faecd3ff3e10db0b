//! Endpoints: where the merchant's own software receives webhooks, and what can be done with them.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::{
    Endpoint,
    endpoint::{EndpointKey, EndpointView, Recovered, RotateRequest, TestOutcome},
};
use uzel_model::{Timestamp, check::Fault};

use super::{
    caller::Caller,
    read::{Body, Path},
};
use crate::{App, Problem};

/// An endpoint that this caller sees.
fn seen(app: &App, caller: &Caller, id: &str) -> Result<Arc<Endpoint>, Problem> {
    app.engine.endpoint(id, caller.merchant).ok_or_else(|| Problem::not_found("no such endpoint"))
}

/// The same for whoever may change it; to others such paths do not exist.
fn owned(app: &App, caller: &Caller, id: &str) -> Result<Arc<Endpoint>, Problem> {
    owner(caller)?;
    seen(app, caller, id)
}

fn owner(caller: &Caller) -> Result<(), Problem> {
    if caller.is_owner() { Ok(()) } else { Err(Problem::not_found("no such path for this key")) }
}

pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Json<Vec<EndpointView>> {
    let world = app.engine.world();
    let seen = world.all_endpoints().into_iter().filter(|endpoint| caller.sees(endpoint.merchant()));
    Json(seen.map(|endpoint| endpoint.view(&app.engine)).collect())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<EndpointView>, Problem> {
    let endpoint = seen(&app, &caller, &id)?;
    Ok(Json(endpoint.view(&app.engine)))
}

/// Sets one up; its secret is in this answer and in no other.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(mut part): Body<Value>,
) -> Result<(StatusCode, Json<EndpointView>), Problem> {
    owner(&caller)?;
    if let (Some(own), Some(part)) = (caller.merchant, part.as_object_mut()) {
        let given = part.entry("merchant").or_insert_with(|| json!(own.to_string()));
        caller.merchant(&app, given.as_str().unwrap_or_default())?;
    }
    let made = app.engine.create_endpoint(part).await?.map_err(Problem::invalid)?;
    Ok((StatusCode::CREATED, Json(made)))
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(patch): Body<Value>,
) -> Result<Json<EndpointView>, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    let changed = app.engine.change_endpoint(endpoint.id(), patch).await?.map_err(Problem::invalid)?;
    Ok(Json(changed))
}

pub(super) async fn remove(State(app): State<Arc<App>>, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    app.engine.remove_endpoint(endpoint.id()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a new signing key first; its secret is in this answer and in no other.
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<RotateRequest>,
) -> Result<Json<EndpointKey>, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    let key = app.engine.rotate_endpoint(endpoint.id(), request).await?.map_err(Problem::invalid)?;
    Ok(Json(key))
}

pub(super) async fn enable(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<EndpointView>, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    app.engine.enable_endpoint(endpoint.id()).await?;
    Ok(Json(seen(&app, &caller, &id)?.view(&app.engine)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    /// A type of event of which a sample is sent; `test.ping` if not set.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Sends a test at once, and tells what the endpoint answered.
pub(super) async fn test(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(test): Body<Test>,
) -> Result<Json<TestOutcome>, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    let outcome = app.engine.test_endpoint(&endpoint, test.kind).await.map_err(Problem::failed)?;
    Ok(Json(outcome))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recover {
    since: Timestamp,
    /// Also what was delivered, and what came before the endpoint was set up.
    #[serde(default)]
    all: bool,
}

/// Queues again what never got there.
pub(super) async fn recover(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(request): Body<Recover>,
) -> Result<Json<Recovered>, Problem> {
    let endpoint = owned(&app, &caller, &id)?;
    if endpoint.is_disabled() {
        return Err(Problem::invalid(vec![Fault::new("", "it is disabled: enable it first")]));
    }
    Ok(Json(app.engine.recover_endpoint(&endpoint, request.since, request.all).await?))
}
