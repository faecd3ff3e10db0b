//! Quotes, commits, cancellations, refunds and customers' codes.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderName, StatusCode};
use jiff::SignedDuration;
use serde_json::{Map, Value, json};
use uzel_engine::loyalty::{
    CommitAsk, CustomerAsk, LoyaltyAnswer, LoyaltyAsk, LoyaltyError, LoyaltyProgramme, QuoteAsk, RefundAsk,
};
use uzel_model::{loyalty::Kind, signature::fingerprint};
use uzel_store::{Begun, KeptAnswer};

use super::{
    Answer, Answered, bridge,
    call::{self, Call},
    fields::Fields,
    limits::{Counted, Room, admit},
    proof::{Named, Needs, Proof, TILL, prove},
    refusal::Refusal,
    token,
};
use crate::App;

/// A quote is answered within this, unless the programme is an outside one and says otherwise.
const QUOTE_MS: u64 = 800;
/// What moves points may take longer: nobody sells at another price for it.
const COMMIT: Duration = Duration::from_secs(5);
const KEY_BYTES_MAX: usize = 255;
const CUSTOMER_CHARS_MAX: usize = 200;
const CODE_TTL_S: std::ops::RangeInclusive<i64> = 10..=86_400;
/// A signature that asked for a code gets the same code for longer than it is good.
const CODE_KEPT: SignedDuration = SignedDuration::from_mins(15);
const CODE_HOLD_MS: i64 = 10_000;
const CONTEXT: &[u8] = b"customer code";

pub(super) const QUOTE: Needs =
    Needs { roles: TILL, signed: Some(bridge::QUOTE), strict: true, may_be_open: true, counted: Counted::Quote };
pub(super) const COMMITS: Needs =
    Needs { roles: TILL, signed: Some(bridge::COMMIT), strict: true, may_be_open: true, counted: Counted::Commit };
const REFUND: Needs =
    Needs { roles: TILL, signed: Some(bridge::REFUND), strict: true, may_be_open: false, counted: Counted::Refund };
const QR: Needs = Needs { roles: TILL, signed: Some(bridge::QR), strict: true, may_be_open: false, counted: Counted::Code };
const CANCEL: Needs = Needs { roles: TILL, signed: Some(&[]), strict: false, may_be_open: false, counted: Counted::Cancel };

/// A body that was read, of a caller who was proved.
pub(super) struct Proved {
    pub(super) proof: Proof,
    pub(super) body: Map<String, Value>,
}

/// Reads the body and proves the caller.
pub(super) async fn read(app: &App, call: &mut Call, needs: Needs, room: &mut Option<Room>) -> Result<Proved, Refusal> {
    let bytes = call.bytes(app).await?;
    let body = call::object(&bytes)?;
    let proof = prove(app, call, needs, Named::within(&body), (&bytes, &body))?;
    let staff = body.get("staffId").and_then(Value::as_str).filter(|staff| !staff.is_empty());
    admit(app, call, &proof, (needs.counted, staff), room)?;
    Ok(Proved { proof, body })
}

/// What is the same in every question. `jti`: what is journalled instead of a customer's token.
fn ask(call: &Call, proof: &Proof, body: &Map<String, Value>, jti: Option<&str>) -> Result<LoyaltyAsk, Refusal> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let journalled = match jti {
        Some(jti) => {
            let mut body = body.clone();
            body.insert("userToken".to_owned(), json!(jti));
            serde_json::to_vec(&body)
        }
        None => serde_json::to_vec(body),
    };
    Ok(LoyaltyAsk {
        merchant: proof.merchant,
        outlet: proof.outlet,
        staff: text("staffId"),
        language: call.language,
        key: own_key(call)?,
        signature: proof.signature.clone(),
        request_id: text("requestId").or_else(|| Some(call.request_id.clone())),
        authenticated: proof.authenticated,
        by: proof.by.clone(),
        request: call.request(journalled.expect("what was read as JSON is JSON")),
        trace: call.trace(),
    })
}

/// `Idempotency-Key`.
fn own_key(call: &Call) -> Result<Option<String>, Refusal> {
    let Some(given) = call.head.get("idempotency-key") else { return Ok(None) };
    let key = given.to_str().map(str::trim).unwrap_or_default();
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Refusal::bad(format!("Idempotency-Key must have 1 to {KEY_BYTES_MAX} visible ASCII signs")));
    }
    Ok(Some(key.to_owned()))
}

fn programme(app: &App, call: &Call, proof: &Proof) -> Result<Arc<LoyaltyProgramme>, Refusal> {
    let found = app.engine.world().programme_of(proof.merchant).cloned();
    found.ok_or_else(|| Refusal::of(&LoyaltyError::NoProgramme, call.language))
}

pub(super) async fn quote(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, QUOTE, room).await?;
    quote_as(app, call, &proof, &body, None).await
}

/// `mode`: what is meant where the body says nothing.
pub(super) async fn quote_as(
    app: &Arc<App>,
    call: &Call,
    proof: &Proof,
    body: &Map<String, Value>,
    mode: Option<Kind>,
) -> Answered {
    let mut fields = Fields::new(body);
    let given = body.get("mode").filter(|mode| !mode.is_null());
    let kind = match given.map(|given| given.as_str().map(str::to_ascii_lowercase)) {
        Some(Some(word)) if word == "redeem" => Some(Kind::Redeem),
        Some(Some(word)) if word == "earn" => Some(Kind::Earn),
        None => mode,
        Some(_) => None,
    };
    if kind.is_none() {
        fields.fault("mode must be one of the following values: redeem, earn");
    }
    fields.text("merchantId");
    let user = fields.text("userToken");
    let mut question = QuoteAsk {
        kind: kind.unwrap_or(Kind::Redeem),
        customer: CustomerAsk::Plain(String::new()),
        order: fields.text("orderId"),
        total: fields.number("total"),
        eligible: fields.number("eligibleTotal"),
        category: fields.optional("category"),
        promo_code: fields.optional("promoCode"),
    };
    for name in ["outletId", "staffId", "requestId"] {
        fields.optional(name);
    }
    fields.end()?;
    let programme = programme(app, call, proof)?;
    question.customer = customer(app, call, &programme, proof, user)?;
    let patience_ms = programme.rule.club.as_ref().map_or(QUOTE_MS, |club| u64::from(club.patience_ms));
    let jti = match &question.customer {
        CustomerAsk::Token { jti, .. } => Some(jti.as_str()),
        CustomerAsk::Plain(_) => None,
    };
    let ask = ask(call, proof, body, jti)?;
    let answer = app.engine.loyalty_quote(ask, question, Duration::from_millis(patience_ms)).await;
    done(call, answer)
}

/// Who buys: by their code, or by their id.
fn customer(app: &App, call: &Call, programme: &LoyaltyProgramme, proof: &Proof, user: String) -> Result<CustomerAsk, Refusal> {
    if token::is_token(&user) {
        let world = app.engine.world();
        let id = proof.merchant.to_string();
        let slug = world.merchants.get(&proof.merchant).map_or("", |(slug, _)| slug.as_str());
        let read = token::verify(&user, &programme.qr_keys, &[&id, slug], call.at);
        return read.map_err(|bad| Refusal::of_token(bad, call.language));
    }
    if programme.rule.require_jwt_for_quote {
        return Err(Refusal::of(&LoyaltyError::TokenRequired, call.language));
    }
    Ok(CustomerAsk::Plain(user))
}

fn done(call: &Call, answer: Result<LoyaltyAnswer, LoyaltyError>) -> Answered {
    match answer {
        Ok(answer) => Ok(Answer::new(StatusCode::CREATED, answer.body)),
        Err(error) => Err(Refusal::of(&error, call.language)),
    }
}

/// The same, signed as the merchant's webhooks of loyalty events are, or by the secret that the till itself signs by.
fn signed(app: &App, call: &Call, proof: &Proof, answer: Result<LoyaltyAnswer, LoyaltyError>) -> Answered {
    let mut answer = done(call, answer)?;
    let shared = proof.shared.as_ref().map(|(of, secret)| (*of, secret));
    let world = app.engine.world();
    let shared = shared.or_else(|| world.bridge_secret(proof.merchant, proof.outlet));
    let signed = world.sign_loyalty_answer(proof.merchant, shared, app.engine.clock.now(), answer.body.as_bytes());
    if let Some(signed) = signed {
        let merchant = proof.merchant.to_string();
        answer.head = [
            ("x-loyalty-signature", signed.signature),
            ("x-signature-timestamp", signed.timestamp_s.to_string()),
            ("x-signature-key-id", signed.key_id),
            ("x-merchant-id", merchant),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), value))
        .into();
    }
    Ok(answer)
}

pub(super) async fn commit(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, COMMITS, room).await?;
    commit_as(app, call, &proof, &body).await
}

pub(super) async fn commit_as(app: &Arc<App>, call: &Call, proof: &Proof, body: &Map<String, Value>) -> Answered {
    let mut fields = Fields::new(body);
    fields.text("merchantId");
    let question = CommitAsk {
        hold: fields.text("holdId"),
        order: fields.text("orderId"),
        receipt_number: fields.optional("receiptNumber"),
        promo_code: fields.optional("promoCode"),
    };
    for name in ["outletId", "staffId", "requestId", "provider"] {
        fields.optional(name);
    }
    fields.end()?;
    programme(app, call, proof)?;
    let ask = ask(call, proof, body, None)?;
    let answer = app.engine.loyalty_commit(ask, question, COMMIT).await;
    signed(app, call, proof, answer)
}

/// The platform's body names the hold only; a key of the whole hub must name the merchant too, and so must a bridge.
pub(super) async fn cancel(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, CANCEL, room).await?;
    let hold = body.get("holdId").and_then(Value::as_str).filter(|hold| !hold.is_empty());
    let hold = hold.ok_or_else(|| Refusal::bad("holdId required"))?.to_owned();
    programme(app, call, &proof)?;
    let ask = ask(call, &proof, &body, None)?;
    let answer = app.engine.loyalty_cancel(ask, hold, COMMIT).await;
    done(call, answer)
}

pub(super) async fn refund(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, REFUND, room).await?;
    let mut fields = Fields::new(&body);
    fields.text("merchantId");
    let question = RefundAsk {
        order: fields.text("orderId"),
        total: fields.number("refundTotal"),
        eligible: fields.optional_number("refundEligibleTotal"),
    };
    for name in ["outletId", "staffId", "requestId"] {
        fields.optional(name);
    }
    fields.end()?;
    programme(app, call, &proof)?;
    let ask = ask(call, &proof, &body, None)?;
    let answer = app.engine.loyalty_refund(ask, question, COMMIT).await;
    signed(app, call, &proof, answer)
}

/// A code for a customer. Nothing is written of it, but that a signature asked for it.
pub(super) async fn qr(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let Proved { proof, body } = read(app, call, QR, room).await?;
    let mut fields = Fields::new(&body);
    let customer = fields.text("customerId");
    // What no quote would take makes no code.
    if customer.chars().count() > CUSTOMER_CHARS_MAX {
        fields.fault(format!("customerId must be shorter than or equal to {CUSTOMER_CHARS_MAX} characters"));
    }
    fields.optional("merchantId");
    let asked_s = fields.optional_number("ttlSec");
    if asked_s.is_some_and(|ttl_s| ttl_s < *CODE_TTL_S.start()) {
        fields.fault(format!("ttlSec must not be less than {}", CODE_TTL_S.start()));
    }
    if asked_s.is_some_and(|ttl_s| ttl_s > *CODE_TTL_S.end()) {
        fields.fault(format!("ttlSec must not be greater than {}", CODE_TTL_S.end()));
    }
    fields.end()?;
    let programme = programme(app, call, &proof)?;
    let Some(key) = programme.qr_keys.first() else { return Err(Refusal::of(&LoyaltyError::NoProgramme, call.language)) };
    let ttl_s = asked_s.unwrap_or_else(|| i64::from(programme.rule.points.qr_ttl_s));
    let make = || {
        let token = token::issue(key, &customer, &proof.merchant.to_string(), call.at, ttl_s);
        json!({ "token": token, "ttl": ttl_s }).to_string()
    };
    let body = match &proof.signature {
        Some(signature) => once(app, call, signature, make).await?,
        None => make(),
    };
    Ok(Answer::new(StatusCode::CREATED, body))
}

/// What a signature was answered with, or from now on is.
async fn once(app: &App, call: &Call, signature: &str, make: impl FnOnce() -> String) -> Result<String, Refusal> {
    let key = fingerprint([CONTEXT, signature.as_bytes()]);
    let until = call.at.saturating_add(CODE_KEPT).unwrap_or(call.at);
    match app.engine.store.begin(key, key, call.at, CODE_HOLD_MS, until).await? {
        Begun::New => {
            let body = make();
            let kept = KeptAnswer { status: StatusCode::CREATED.as_u16(), body: app.engine.vault.seal(CONTEXT, body.as_bytes()) };
            app.engine.store.end(key, Some(kept)).await?;
            Ok(body)
        }
        Begun::Done(kept) => {
            let plain = app.engine.vault.open(CONTEXT, &kept.body).map_err(|_| Refusal::internal())?;
            String::from_utf8(plain).map_err(|_| Refusal::internal())
        }
        Begun::Running | Begun::Other => Err(Refusal::in_progress()),
    }
}
