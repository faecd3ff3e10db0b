//! The keys that seal secrets: shown by fingerprints, and changed over the machine's own socket only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_engine::{Master, RotateError};
use uzel_model::Secret;

use super::{
    caller::Holder,
    route::{Answered, Ask, reply},
};
use crate::Problem;

/// Which master key seals.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SecretsView {
    /// Its fingerprint.
    master_key: String,
}

pub(super) async fn show(ask: Ask) -> Answered<SecretsView> {
    reply(SecretsView { master_key: ask.app.engine.vault.fingerprint() })
}

/// The master key that is to seal from now on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "new_master_key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "data_keys": true }))]
pub(super) struct RotationRequest {
    /// The new one; over the own socket only.
    new_master_key: Secret,
    /// Fingerprint of the one that it replaces.
    #[serde(default)]
    was: Option<String>,
    /// Makes new data keys too, and seals everything anew.
    #[serde(default)]
    data_keys: bool,
}

/// What was changed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct RotatedView(Value);

/// Whoever could do this from afar could lock the operator out: a key of the API is not enough.
pub(super) async fn rotate(ask: Ask<(), (), RotationRequest>) -> Answered<RotatedView> {
    let Ask { app, caller, body: rotation, .. } = ask;
    if caller.holder != Holder::Socket {
        return Err(Problem::not_found("the master key is changed on the hub's own machine: `uzel secrets rotate`"));
    }
    let master = Master::new(&rotation.new_master_key).map_err(|wrong| Problem::bad_request(wrong.to_string()))?;
    let done = app.engine.rotate(master, rotation.was, rotation.data_keys).await.map_err(|error| match error {
        RotateError::Store(error) => error.into(),
        wrong => Problem::bad_request(wrong.to_string()),
    })?;
    let detail = json!({ "data_keys": rotation.data_keys });
    app.engine.audit(caller.holder.name(), "secrets.rotate", None, "hub", detail).await?;
    reply(RotatedView(json!(done)))
}
