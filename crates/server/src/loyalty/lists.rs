//! What a till and a mini-application look up: balances, movements, settings, outlets, staff, consent.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use uzel_engine::{
    Role,
    consent::NewWord,
    loyalty::{LoyaltyError, TransactionsAsk},
};
use uzel_model::{Address, Id};
use uzel_store::{ConsentHow, ConsentPurpose};

use super::{
    Answer, Answered,
    call::Call,
    desk::{Proved, read},
    fields::Fields,
    limits::{Counted, Room, admit},
    proof::{LOOK, Named, Needs, Proof, TILL, prove},
    refusal::{Refusal, iso},
};
use crate::App;

/// A body is what a bridge signs, so none of these is signed.
const LOOKS: Needs = Needs { roles: LOOK, signed: None, strict: false, may_be_open: false, counted: Counted::Look };
const CONSENT: Needs = Needs { roles: TILL, signed: Some(&[]), strict: false, may_be_open: false, counted: Counted::Consent };
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;
const WORDS_MAX: usize = 50;

fn look(app: &App, call: &Call, counted: Counted, merchant: Option<&str>, room: &mut Option<Room>) -> Result<Proof, Refusal> {
    let proof = prove(app, call, LOOKS, Named { merchant, outlet: None }, (b"", &Map::new()))?;
    admit(app, call, &proof, (counted, call.query("staffId")), room)?;
    Ok(proof)
}

/// The same where the path names the merchant.
fn look_at(app: &App, call: &Call, room: &mut Option<Room>) -> Result<Proof, Refusal> {
    look(app, call, LOOKS.counted, Some(call.named("merchant")), room)
}

fn told(body: &impl serde::Serialize) -> Answered {
    Ok(Answer::json(StatusCode::OK, body))
}

pub(super) async fn balance(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look_at(app, call, room)?;
    let found = app.engine.loyalty_balance(proof.merchant, call.named("customer")).await;
    told(&found.map_err(|error| Refusal::of(&error, call.language))?)
}

pub(super) async fn transactions(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look(app, call, LOOKS.counted, call.query("merchantId"), room)?;
    let limit = match call.query("limit").map(str::parse::<i64>) {
        None => LIMIT_DEFAULT,
        Some(Ok(limit)) => usize::try_from(limit.max(1)).unwrap_or(LIMIT_MAX).min(LIMIT_MAX),
        Some(Err(_)) => return Err(Refusal::bad("limit must be an integer number")),
    };
    let text = |name: &str| call.query(name).map(str::to_owned);
    if call.query.iter().any(|(_, value)| value.contains('\0')) {
        return Err(Refusal::bad("the query must not contain a zero byte"));
    }
    let outlet = call.query("outletId").map(|name| outlet_of(app, proof.merchant, name));
    if outlet == Some(None) {
        return told(&json!({ "items": [], "nextBefore": null, "nextCursor": null }));
    }
    let ask = TransactionsAsk {
        customer: text("customerId"),
        limit,
        before: text("before"),
        outlet: outlet.flatten(),
        staff: text("staffId"),
    };
    let found = app.engine.loyalty_transactions(proof.merchant, ask).await;
    told(&found.map_err(|error| Refusal::of(&error, call.language))?)
}

fn outlet_of(app: &App, merchant: Id, name: &str) -> Option<Id> {
    let world = app.engine.world();
    let mut outlets = world.outlets.iter().filter(|(_, (of, ..))| *of == merchant);
    outlets.find(|(id, (_, slug, _))| slug == name || id.to_string() == name).map(|(id, _)| *id)
}

/// What a mini-application needs to know.
pub(super) async fn settings(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look_at(app, call, room)?;
    let world = app.engine.world();
    let programme = world.programme_of(proof.merchant).ok_or(LoyaltyError::NoProgramme);
    let rule = &programme.map_err(|error| Refusal::of(&error, call.language))?.rule;
    told(&json!({
        "merchantId": proof.merchant, "qrTtlSec": rule.points.qr_ttl_s, "unit": rule.points.unit, "earnBps": rule.points.earn_bps,
        "redeemLimitBps": rule.points.redeem_limit_bps, "requireJwtForQuote": rule.require_jwt_for_quote,
        "requireBridgeSig": rule.require_bridge_sig, "requireStaffKey": rule.require_staff_key,
    }))
}

pub(super) async fn outlets(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look_at(app, call, room)?;
    let world = app.engine.world();
    let own = world.outlets.iter().filter(|(_, (of, ..))| *of == proof.merchant);
    let mut rows: Vec<Value> = own
        .map(|(id, (_, slug, outlet))| json!({ "id": id, "slug": slug, "name": outlet.name, "posType": outlet.pos_type }))
        .collect();
    rows.sort_by_key(|row| (row["name"].to_string(), row["id"].to_string()));
    told(&rows)
}

/// Who may be named by a staff key: the merchant's keys of tills.
pub(super) async fn staff(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look_at(app, call, room)?;
    let world = app.engine.world();
    let keys = world.api_keys().filter(|key| key.of == Some(proof.merchant) && key.role == Role::Till && key.is_good(call.at));
    let mut keys: Vec<_> = keys.collect();
    keys.sort_by(|one, other| one.id.cmp(&other.id));
    let rows: Vec<Value> = keys.iter().map(|key| json!({ "id": key.id, "login": key.label, "role": "CASHIER" })).collect();
    told(&rows)
}

/// The phone by which a customer gets messages.
async fn phone_of(app: &App, call: &Call, merchant: Id, customer: &str) -> Result<Option<Address>, Refusal> {
    let found = app.engine.customer(merchant, customer).await.map_err(|error| Refusal::of(&error, call.language))?;
    Ok(found.phone.map(Address::Phone))
}

/// Whether a customer has agreed to messages: the hub's own record of it.
pub(super) async fn consent(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let proof = look(app, call, CONSENT.counted, call.query("merchantId"), room)?;
    let customer = call.query("customerId").ok_or_else(|| Refusal::bad("customerId must be a string"))?;
    let address = phone_of(app, call, proof.merchant, customer).await?;
    let Some(address) = address else { return told(&json!({ "granted": false })) };
    let contact = app.engine.store.contact(proof.merchant, &address.key()).await?;
    let granted = contact.consented && !contact.opted_out;
    let words = app.engine.store.words(proof.merchant, &address.key(), WORDS_MAX).await?;
    let given_at = words.iter().find(|word| word.granted && word.purpose == ConsentPurpose::Marketing).map(|word| iso(word.at));
    match given_at.filter(|_| granted) {
        Some(at) => told(&json!({ "granted": true, "consentAt": at })),
        None => told(&json!({ "granted": granted })),
    }
}

/// Writes down what a customer says about messages, at the till.
pub(super) async fn record_consent(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, CONSENT, room).await?;
    let mut fields = Fields::new(&body);
    fields.text("merchantId");
    let customer = fields.text("customerId");
    let granted = fields.flag("granted");
    fields.end()?;
    let address = phone_of(app, call, proof.merchant, &customer).await?;
    let address = address.ok_or_else(|| Refusal::bad("the customer has no phone: there is nobody to write to"))?;
    let word = NewWord {
        merchant: proof.merchant,
        address,
        channel: None,
        purpose: ConsentPurpose::Marketing,
        granted,
        how: ConsentHow::Till,
        text: format!("{} ({})", call.path, call.request_id),
        by: proof.by.clone(),
    };
    app.engine.record_word(word).await?;
    app.engine.audit(&proof.by, "consent.record", Some(proof.merchant), &customer, json!({ "granted": granted })).await?;
    Ok(Answer::json(StatusCode::CREATED, &json!({ "ok": true })))
}
