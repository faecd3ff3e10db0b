//! `/integrations/{provider}/…`: the same questions through a till's provider, its registration, its webhook, its health.
//!
//! Whatever came goes on to the desk: key, signature, staff key, `Idempotency-Key`; and the desk's status comes back.

use std::sync::Arc;

use axum::{
    body::to_bytes,
    http::{StatusCode, header},
};
use serde_json::{Map, Value, json};
use uzel_engine::{
    Link, World,
    setup::{Thing, Unchanged},
};
use uzel_model::{Id, Intake, Provider, check::Fault, loyalty::Kind};

use super::{
    Answer, Answered,
    call::{self, Call},
    desk::{self, Proved, read},
    limits::{Counted, Room, admit},
    proof::{LOOK, Named, Needs, OWNER, TILL, prove},
    refusal::Refusal,
};
use crate::{App, BODY_BYTES_MAX, api::camel, intake};

const REGISTER: Needs = Needs { roles: OWNER, signed: None, strict: false, may_be_open: false, counted: Counted::Other };
const WEBHOOK: Needs = Needs { roles: TILL, signed: Some(&[]), strict: false, may_be_open: false, counted: Counted::Other };
const HEALTH: Needs = Needs { roles: LOOK, signed: None, strict: false, may_be_open: false, counted: Counted::Other };

fn provider(app: &App, call: &Call) -> Result<&'static Provider, Refusal> {
    let found = app.engine.providers.iter().find(|provider| provider.id == call.named("provider"));
    found.ok_or_else(|| Refusal::not_found("no such provider"))
}

fn count(app: &App, provider: &'static Provider, endpoint: &'static str, answered: Answered) -> Answered {
    let ok = answered.as_ref().is_ok_and(|answer| answer.status.is_success());
    app.engine.metrics.request(provider.id, endpoint, if ok { "ok" } else { "error" });
    answered
}

pub(super) async fn quote(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let provider = provider(app, call)?;
    let answered = async {
        let Proved { proof, body } = read(app, call, desk::QUOTE, room).await?;
        desk::quote_as(app, call, &proof, &body, Some(Kind::Redeem)).await
    };
    count(app, provider, "quote", answered.await)
}

pub(super) async fn commit(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let provider = provider(app, call)?;
    let answered = async {
        let Proved { proof, body } = read(app, call, desk::COMMITS, room).await?;
        desk::commit_as(app, call, &proof, &body).await
    };
    count(app, provider, "commit", answered.await)
}

pub(super) async fn register(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let provider = provider(app, call)?;
    let answered = async {
        let Proved { proof, mut body } = read(app, call, REGISTER, room).await?;
        body.retain(|name, _| !["merchantId", "outletId"].contains(&name.as_str()));
        let settings =
            provider.registration(&Value::Object(body)).map_err(|faults| invalid(provider, faults.iter().map(said)))?;
        connect(app, provider, proof.merchant, proof.outlet, settings, &proof.by).await
    };
    count(app, provider, "register", answered.await)
}

/// Makes the merchant's connection to a provider, or changes the one that is there.
async fn connect(
    app: &Arc<App>,
    provider: &'static Provider,
    merchant: Id,
    outlet: Option<Id>,
    settings: Value,
    by: &str,
) -> Answered {
    let world = app.engine.world();
    let made = match link_of(&world, provider, merchant, outlet) {
        Some(link) => app.engine.change(link, &json!({ "settings": settings }), None, by).await,
        None => {
            let merchant = world.merchants.get(&merchant).map_or("", |(slug, _)| slug);
            let mut part = json!({ "merchant": merchant, "slug": provider.id, "provider": provider.id, "settings": settings });
            if let Some((_, slug, _)) = outlet.and_then(|outlet| world.outlets.get(&outlet)) {
                part["slug"] = json!(format!("{}-{slug}", provider.id));
                part["outlet"] = json!(slug);
            }
            app.engine.create(Thing::Connection, part, by).await
        }
    };
    match made {
        Ok(made) => {
            let mut body = json!({ "success": true, "integrationId": made.id });
            // Shown now and never again.
            if let Some(key) = made.key {
                body["webhookKey"] = json!(key);
            }
            Ok(Answer::json(StatusCode::CREATED, &body))
        }
        Err(Unchanged::Faults(faults)) => Err(invalid(provider, faults.iter().map(said))),
        Err(other) => Err(other.into()),
    }
}

/// A connection of the merchant to the provider: of the outlet that is named, or else any. Also one that is broken as it is set up.
fn link_of(world: &World, provider: &Provider, merchant: Id, outlet: Option<Id>) -> Option<Id> {
    let rows = world.rows.iter().filter(|(_, row)| row.merchant == Some(merchant) && row.doc["provider"] == provider.id);
    let fits = rows.filter(|(_, row)| outlet.is_none() || row.doc["outlet"] == json!(outlet));
    fits.map(|(id, _)| *id).min()
}

fn invalid(provider: &Provider, faults: impl Iterator<Item = String>) -> Refusal {
    Refusal::bad(format!("{} config invalid: {}", provider.name, faults.collect::<Vec<_>>().join("; ")))
}

fn said(fault: &Fault) -> String {
    let place = fault.pointer.strip_prefix("/settings").map_or_else(|| fault.pointer.clone(), camel);
    format!("{place} {}", fault.detail)
}

/// A provider's webhook: by the connection's own key, or by any proof that a till has.
pub(super) async fn webhook(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let provider = provider(app, call)?;
    let bytes = call.bytes_up_to(app, BODY_BYTES_MAX).await?;
    let mut request = call.whole(bytes.clone());
    let link = match intake::by_key(app, provider.id, &request) {
        Some((link, key)) => {
            request.key = Some(key);
            link
        }
        None => {
            let body = call::object(&bytes).unwrap_or_default();
            let proof = prove(app, call, WEBHOOK, Named::within(&body), (&bytes, &body)).inspect_err(|_| {
                app.engine.metrics.request(provider.id, "webhook", "refused");
            })?;
            admit(app, call, &proof, (WEBHOOK.counted, None), room)?;
            request.key = Some(proof.by);
            let world = app.engine.world();
            let link = link_of(&world, provider, proof.merchant, proof.outlet).and_then(|id| world.links.get(&id).cloned());
            link.ok_or_else(|| Refusal::not_found("no such integration: register it first"))?
        }
    };
    take_in(app, &link, request).await
}

/// The road in of every webhook; what was only told is answered as the platform answers.
async fn take_in(app: &Arc<App>, link: &Arc<Link>, request: uzel_model::Request) -> Answered {
    let tells = matches!(link.connector.intake(&request), Intake::Tells(_));
    let response = intake::receive(app, link.clone(), request).await;
    let (parts, body) = response.into_parts();
    if tells && parts.status.is_success() {
        return Ok(Answer::json(StatusCode::CREATED, &json!({ "ok": true })));
    }
    let body = to_bytes(axum::body::Body::new(body), BODY_BYTES_MAX).await.map_err(|_| Refusal::internal())?;
    let kept = [header::CONTENT_TYPE, header::RETRY_AFTER, header::WWW_AUTHENTICATE];
    let head = kept.into_iter().filter_map(|name| {
        let value = parts.headers.get(&name)?.to_str().ok()?.to_owned();
        Some((name, value))
    });
    Ok(Answer { status: parts.status, body: String::from_utf8_lossy(&body).into_owned(), head: head.collect() })
}

pub(super) async fn health(app: &Arc<App>, call: &mut Call, room: &mut Option<Room>) -> Answered {
    let provider = provider(app, call)?;
    let named = Named { merchant: call.query("merchantId"), outlet: call.query("outletId") };
    let proof = prove(app, call, HEALTH, named, (b"", &Map::new()))?;
    admit(app, call, &proof, (HEALTH.counted, None), room)?;
    let world = app.engine.world();
    let found = link_of(&world, provider, proof.merchant, proof.outlet);
    let broken = |id: Id| world.broken.iter().find(|(broken, _)| *broken == id).map(|(_, why)| why.clone());
    let well = match found.map(|id| (id, world.links.get(&id))) {
        None => Err("no such integration: register it first".to_owned()),
        Some((id, None)) => Err(broken(id).unwrap_or_else(|| "it cannot be used as it is set up".to_owned())),
        Some((_, Some(link))) if link.paused => Err("it is paused".to_owned()),
        Some((_, Some(link))) => app.engine.health(link).await,
    };
    Ok(match well {
        Ok(_) => Answer::json(StatusCode::OK, &json!({ "ok": true })),
        Err(reason) => Answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ok": false, "reason": reason })),
    })
}
