//! People: what they have said about messages.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{phone, signature};

use super::{caller::Caller, read::Body};
use crate::{App, Problem};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Consent {
    merchant: String,
    phone: String,
    granted: bool,
    /// How and where it was given.
    proof: String,
}

pub(super) async fn consent(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(consent): Body<Consent>,
) -> Result<Json<Value>, Problem> {
    if !caller.is_owner() {
        return Err(Problem::not_found("no such path for this key"));
    }
    let merchant = caller.merchant(&app, &consent.merchant)?;
    let world = app.engine.world();
    let country = world.merchants.get(&merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    let phone = phone::read_text(&consent.phone, country).map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
    let now = app.engine.clock.now();
    if !app.engine.store.put_consent(merchant, &phone.e164, consent.granted, &consent.proof, now).await? {
        return Err(Problem::bad_request("a word of a later time stands: is the hub's clock right?"));
    }
    Ok(Json(
        json!({ "phone": phone.masked(), "granted": consent.granted, "record": signature::sha256_hex([phone.e164.as_bytes()])[..16] }),
    ))
}
