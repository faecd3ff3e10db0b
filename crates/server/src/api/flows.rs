//! Setups and flows: what is applied, and what a flow would do.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::setup::Leniency;
use uzel_model::Id;

use super::{
    caller::{Caller, Owner},
    mask::mask_value,
    read::Body,
};
use crate::{App, Problem};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Apply {
    setup: Value,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn apply(State(app): State<Arc<App>>, _: Owner, Body(apply): Body<Apply>) -> Result<Json<Value>, Problem> {
    if apply.dry_run {
        let mut plan = app.engine.plan(&apply.setup, Leniency::default()).await?.map_err(Problem::invalid)?;
        plan.keys.clear();
        return Ok(Json(json!(plan)));
    }
    let plan = app.engine.apply(&apply.setup, Leniency::default()).await?.map_err(Problem::invalid)?;
    Ok(Json(json!(plan)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DryRun {
    /// A journal entry …
    entry: Option<Id>,
    /// … or a body as it would come in to a connection.
    connection: Option<String>,
    body: Option<String>,
    content_type: Option<String>,
}

pub(super) async fn dry_run(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(run): Body<DryRun>,
) -> Result<Json<Value>, Problem> {
    let mut told = match (run.entry, run.connection, run.body) {
        (Some(entry), None, None) => {
            let entry = app
                .engine
                .store
                .entry(entry)
                .await?
                .filter(|entry| caller.sees(entry.merchant))
                .ok_or_else(|| Problem::not_found("no such entry"))?;
            app.engine.dry_run(&entry)
        }
        (None, Some(connection), Some(body)) => {
            let link = caller.connection(&app, &connection)?;
            let content_type = run.content_type.unwrap_or_else(|| "application/json".to_owned());
            app.engine.dry_run_body(&link, body, content_type)
        }
        _ => return Err(Problem::bad_request("name an `entry`, or a `connection` and a `body`")),
    };
    mask_value(&mut told);
    Ok(Json(told))
}
