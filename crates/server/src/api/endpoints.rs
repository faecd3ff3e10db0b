//! Endpoints: where the merchant's own software receives webhooks, and what can be done with them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uzel_engine::{
    Endpoint,
    endpoint::{EndpointKey, EndpointView, Recovered, RotateRequest, TestOutcome},
    setup::EndpointPart,
};
use uzel_model::{Timestamp, check::Fault};

use super::{
    caller::Caller,
    page::Page,
    part::Patch,
    route::{Answered, Ask, ById, Reply, reply},
    setup::OfMerchant,
};
use crate::{App, Problem};

/// An endpoint that this caller sees.
fn seen(app: &App, caller: &Caller, id: &str) -> Result<Arc<Endpoint>, Problem> {
    app.engine.endpoint(id, caller.merchant).ok_or_else(|| Problem::not_found("no such endpoint"))
}

pub(super) async fn list(ask: Ask<(), OfMerchant>) -> Answered<Page<EndpointView>> {
    let Ask { app, caller, query, .. } = ask;
    let scope = caller.scope(&app, query.merchant())?;
    let world = app.engine.world();
    let seen = world.all_endpoints().into_iter().filter(|endpoint| scope.is_none_or(|own| own == endpoint.merchant()));
    reply(Page::whole(seen.map(|endpoint| endpoint.view(&app.engine)).collect()))
}

/// With the version that `If-Match` may name.
fn shown(app: &App, view: EndpointView) -> Reply<EndpointView> {
    let version = app.engine.world().rows.get(&view.id).map_or(0, |row| row.version);
    Reply::new(view).version(version)
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<EndpointView> {
    let endpoint = seen(&ask.app, &ask.caller, &ask.path.id)?;
    Ok(shown(&ask.app, endpoint.view(&ask.app.engine)))
}

/// An endpoint to be made; a key of one merchant need not name it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(example = json!({ "merchant": "cafe", "slug": "shop", "url": "https://shop.example/hooks/uzel", "events": ["order.*"] }))]
pub(super) struct NewEndpoint(#[schemars(with = "EndpointPart")] Map<String, Value>);

/// Sets one up; its secret is in this answer and in no other.
pub(super) async fn create(ask: Ask<(), (), NewEndpoint>) -> Answered<EndpointView> {
    let Ask { app, caller, body: NewEndpoint(mut part), .. } = ask;
    if let Some(own) = caller.merchant {
        let given = part.entry("merchant").or_insert_with(|| json!(own)).as_str().unwrap_or_default();
        caller
            .merchant(&app, given)
            .map_err(|_| Problem::invalid(vec![Fault::new("/merchant", format!("no merchant `{given}`"))]))?;
    }
    let made = app.engine.create_endpoint(Value::Object(part), caller.holder.name()).await?.map_err(Problem::invalid)?;
    let path = format!("/api/v1/endpoints/{}", made.id);
    Ok(shown(&app, made).at(&path))
}

pub(super) async fn change(ask: Ask<ById, (), Patch<EndpointPart>>) -> Answered<EndpointView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let endpoint = seen(&app, &caller, &path.id)?;
    let changed = app.engine.change_endpoint(endpoint.id(), body.into_value(), version, caller.holder.name()).await?;
    Ok(shown(&app, changed))
}

pub(super) async fn remove(ask: Ask<ById>) -> Answered<()> {
    let version = ask.if_match()?;
    let endpoint = seen(&ask.app, &ask.caller, &ask.path.id)?;
    ask.app.engine.remove_endpoint(endpoint.id(), version, ask.caller.holder.name()).await?;
    reply(())
}

/// Puts a new signing key first; its secret is in this answer and in no other.
pub(super) async fn rotate(ask: Ask<ById, (), RotateRequest>) -> Answered<EndpointKey> {
    let Ask { app, caller, path, body, .. } = ask;
    let endpoint = seen(&app, &caller, &path.id)?;
    let key = app.engine.rotate_endpoint(endpoint.id(), body, caller.holder.name()).await?;
    reply(key.map_err(Problem::invalid)?)
}

pub(super) async fn enable(ask: Ask<ById>) -> Answered<EndpointView> {
    let Ask { app, caller, path, .. } = ask;
    let endpoint = seen(&app, &caller, &path.id)?;
    app.engine.enable_endpoint(endpoint.id(), caller.holder.name()).await?;
    reply(seen(&app, &caller, &path.id)?.view(&app.engine))
}

/// What is sent to try it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "type": "order.completed" }))]
pub(super) struct TestRequest {
    /// A type of event of which a sample is sent; `test.ping` if not set.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Sends a test at once, and tells what the endpoint answered.
pub(super) async fn test(ask: Ask<ById, (), TestRequest>) -> Answered<TestOutcome> {
    let Ask { app, caller, path, body, .. } = ask;
    let endpoint = seen(&app, &caller, &path.id)?;
    reply(app.engine.test_endpoint(&endpoint, body.kind).await.map_err(Problem::failed)?)
}

/// What is queued again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "since": "2026-11-24T00:00:00Z" }))]
pub(super) struct RecoverRequest {
    /// Of events from then on.
    since: Timestamp,
    /// Also what was delivered, and what came before the endpoint was set up.
    #[serde(default)]
    all: bool,
}

/// Queues again what never got there.
pub(super) async fn recover(ask: Ask<ById, (), RecoverRequest>) -> Answered<Recovered> {
    let Ask { app, caller, path, body, .. } = ask;
    let endpoint = seen(&app, &caller, &path.id)?;
    if endpoint.is_disabled() {
        return Err(Problem::conflict("it is disabled: enable it first"));
    }
    let recovered = app.engine.recover_endpoint(&endpoint, body.since, body.all).await?;
    let detail = json!({ "since": body.since, "all": body.all });
    app.engine.audit(caller.holder.name(), "endpoint.recover", Some(endpoint.merchant()), endpoint.id(), detail).await?;
    reply(recovered)
}
