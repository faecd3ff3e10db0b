//! Whole setups, and what a flow would do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_engine::setup::{Leniency, SetupFile};
use uzel_model::Id;

use super::{
    mask::mask_value,
    route::{Answered, Ask, reply},
};
use crate::Problem;

/// What a setup file says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "setup": { "merchant": [{ "slug": "cafe", "name": "Café", "country": "RU" }] }, "dry_run": true }))]
pub(super) struct ApplyRequest {
    /// What the file says.
    #[schemars(with = "SetupFile")]
    setup: Value,
    /// Only tells what would change.
    #[serde(default)]
    dry_run: bool,
}

/// What was changed, or would be.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct PlanView(Value);

pub(super) async fn apply(ask: Ask<(), (), ApplyRequest>) -> Answered<PlanView> {
    let Ask { app, caller, body, .. } = ask;
    if body.dry_run {
        let mut plan = app.engine.plan(&body.setup, Leniency::default()).await?.map_err(Problem::invalid)?;
        plan.keys.clear();
        return reply(PlanView(json!(plan)));
    }
    let applied = app.engine.apply_as(caller.holder.name(), &body.setup, Leniency::default()).await?;
    reply(PlanView(json!(applied.map_err(Problem::invalid)?)))
}

/// What a flow is tried on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "connection": "till", "body": "{\"order\":{\"id\":\"5001\",\"status\":\"Выполнен\"}}" }))]
pub(super) struct DryRunRequest {
    /// A journal entry …
    entry: Option<Id>,
    /// … or a body as it would come in to a connection.
    connection: Option<String>,
    /// As the provider would send it.
    body: Option<String>,
    /// Of the body; `application/json` where nothing is said.
    content_type: Option<String>,
}

/// What would follow, step by step.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct DryRunView(Value);

pub(super) async fn dry_run(ask: Ask<(), (), DryRunRequest>) -> Answered<DryRunView> {
    let Ask { app, caller, body: run, .. } = ask;
    let mut told = match (run.entry, run.connection, run.body) {
        (Some(entry), None, None) => {
            let entry = app.engine.store.entry(entry).await?.filter(|entry| caller.sees(entry.merchant));
            app.engine.dry_run(&entry.ok_or_else(|| Problem::not_found("no such entry"))?)
        }
        (None, Some(connection), Some(body)) => {
            let link = caller.connection(&app, &connection)?;
            let content_type = run.content_type.unwrap_or_else(|| "application/json".to_owned());
            app.engine.dry_run_body(&link, body, content_type)
        }
        _ => return Err(Problem::bad_request("name an `entry`, or a `connection` and a `body`")),
    };
    mask_value(&mut told);
    reply(DryRunView(told))
}
