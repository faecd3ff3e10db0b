//! People: what they have said about messages, and their right to be forgotten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::ErasureError;
use uzel_model::{Id, check::Fault, phone, signature};

use super::route::{Answered, Ask, ById, reply};
use crate::{App, Problem};

/// A person's word about messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "merchant": "cafe", "phone": "+79991234567", "granted": true, "proof": "form at the counter, 2026-11-24" }))]
pub(super) struct ConsentRequest {
    /// By id or slug.
    merchant: String,
    /// Whose word it is.
    phone: String,
    /// Whether messages are allowed.
    granted: bool,
    /// How and where it was given.
    proof: String,
}

/// What was recorded.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConsentView {
    /// Masked.
    phone: String,
    /// Whether messages are allowed.
    granted: bool,
    /// Stands for the phone in the audit log.
    record: String,
}

pub(super) async fn consent(ask: Ask<(), (), ConsentRequest>) -> Answered<ConsentView> {
    let Ask { app, caller, body: consent, .. } = ask;
    let merchant = caller.merchant(&app, &consent.merchant)?;
    let phone = read_phone(&app, merchant, &consent.phone)?;
    let now = app.engine.clock.now();
    if !app.engine.store.put_consent(merchant, &phone.e164, consent.granted, &consent.proof, now).await? {
        return Err(Problem::bad_request("a word of a later time stands: is the hub's clock right?"));
    }
    let record = signature::sha256_hex([phone.e164.as_bytes()])[..16].to_owned();
    let detail = json!({ "granted": consent.granted });
    app.engine.audit(caller.holder.name(), "consent.record", Some(merchant), &record, detail).await?;
    reply(ConsentView { phone: phone.masked(), granted: consent.granted, record })
}

/// Who is to be forgotten.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "phone": "+79991234567" }))]
pub(super) struct ErasureRequest {
    /// Of the person.
    phone: String,
}

/// What was blanked or deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErasureView {
    /// Entries of the journal.
    entries: u64,
    /// Events.
    events: u64,
    /// Commands.
    commands: u64,
    /// Calls that were kept.
    exchanges: u64,
    /// What was known about the person.
    contacts: u64,
    /// Refused requests.
    refusals: u64,
    /// Calls under way and entries that nobody has read yet, which are left: ask again later.
    busy: u64,
    /// What no erasure here reaches, in words.
    not_reached: Vec<String>,
}

/// Forgets one person: bodies, names and phones go, numbers, times and ids stay.
pub(super) async fn erase(ask: Ask<ById, (), ErasureRequest>) -> Answered<ErasureView> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let done = app.engine.erase(merchant, &body.phone).await.map_err(|error| match error {
        ErasureError::Phone(error) => Problem::invalid(vec![Fault::new("/phone", error.to_string())]),
        ErasureError::Store(error) => Problem::from(error),
    })?;
    let erased = done.erased;
    // Who it was is not written down again.
    let detail = json!({ "entries": erased.entries, "commands": erased.commands });
    app.engine.audit(caller.holder.name(), "person.erase", Some(merchant), merchant, detail).await?;
    reply(ErasureView {
        entries: erased.entries,
        events: erased.events,
        commands: erased.commands,
        exchanges: erased.exchanges,
        contacts: erased.contacts,
        refusals: erased.refusals,
        busy: erased.busy,
        not_reached: done.not_reached,
    })
}

fn read_phone(app: &App, merchant: Id, text: &str) -> Result<phone::Phone, Problem> {
    let world = app.engine.world();
    let country = world.merchants.get(&merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    phone::read_text(text, country).map_err(|error| Problem::unreadable("body", Fault::new("/phone", error.to_string())))
}
