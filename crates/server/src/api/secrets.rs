//! The keys that seal secrets: shown by fingerprints, and changed over the machine's own socket only.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::{Master, RotateError, Rotated};
use uzel_model::Secret;

use super::{
    caller::{Holder, Owner},
    read::Body,
};
use crate::{App, Problem};

pub(super) async fn show(State(app): State<Arc<App>>, _: Owner) -> Json<Value> {
    Json(json!({ "master_key": app.engine.vault.fingerprint() }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    new_master_key: Secret,
    /// Fingerprint of the one that it replaces.
    #[serde(default)]
    was: Option<String>,
    #[serde(default)]
    data_keys: bool,
}

/// Whoever could do this from afar could lock the operator out: a key of the API is not enough.
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    Owner(caller): Owner,
    Body(rotation): Body<Rotation>,
) -> Result<Json<Rotated>, Problem> {
    if caller.holder != Holder::Socket {
        return Err(Problem::not_found("the master key is changed on the hub's own machine: `uzel secrets rotate`"));
    }
    let master = Master::new(&rotation.new_master_key).map_err(|wrong| Problem::bad_request(wrong.to_string()))?;
    let done = app.engine.rotate(master, rotation.was, rotation.data_keys).await;
    done.map(Json).map_err(|error| match error {
        RotateError::Store(error) => error.into(),
        wrong => Problem::bad_request(wrong.to_string()),
    })
}
