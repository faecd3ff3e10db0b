//! Merchants and outlets at the own paths of the points platform of the requirement (`/merchants/*`): bare lists, `PUT` for a change,
//! `{"ok":true}` for what is gone. What is set up is the hub's, by the road of all else.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uzel_engine::{Stored, setup::Thing};
use uzel_model::{Id, check::Fault, id::Kind};

use super::{
    route::{Answered, Ask, ById, Reply, reply},
    setup::{
        outlets::{Done, OutletPath, OutletView, find, view, views},
        row, rows, stored,
    },
};
use crate::{App, Problem};

/// A merchant, by the platform's names.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PlatformMerchant {
    /// Its id.
    id: Id,
    /// Its unique name, good in every path as well.
    slug: String,
    /// As people call it.
    name: String,
    /// When it was set up.
    created_at: Timestamp,
}

fn merchant_view(id: Id, row: &Stored) -> PlatformMerchant {
    PlatformMerchant {
        id,
        slug: row.slug.clone(),
        name: row.doc["name"].as_str().unwrap_or_default().to_owned(),
        created_at: Timestamp::from_millisecond(id.ordinal() >> 12).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

/// A merchant, as it is made or changed. Other fields are dropped, as the platform does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = json!({ "name": "Café on the corner" }))]
pub(super) struct MerchantBody {
    /// As people call it.
    name: Option<String>,
    /// Unique name of `[a-z0-9-]`; made of the name where it is not given. It stays what it was made with.
    slug: Option<String>,
    /// `ru` (default), `uz` or `en`.
    language: Option<String>,
    /// Country of phones without a code.
    country: Option<String>,
}

/// An outlet, as it is made or changed. Other fields are dropped, as the platform does.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = json!({ "name": "On Arbat", "address": "Arbat 1" }))]
pub(super) struct OutletBody {
    /// As people call it.
    name: Option<String>,
    /// Where it stands, as people write it; an empty text takes it away.
    address: Option<String>,
    /// Not shown to customers.
    hidden: Option<bool>,
    /// Unique name of `[a-z0-9-]`; made of the name where it is not given. It stays what it was made with.
    slug: Option<String>,
    /// Time zone by name. By default that of the merchant's first outlet, else Tashkent's in Uzbekistan and Moscow's elsewhere.
    zone: Option<String>,
}

/// Whether an outlet works.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(example = json!({ "status": "INACTIVE" }))]
pub(super) struct StatusBody {
    /// `ACTIVE` or `INACTIVE`, in any case.
    status: String,
}

/// What was given, by the hub's names.
fn given(fields: [(&str, Option<Value>); 4]) -> Value {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<String, Value>>())
}

/// A slug for a name; one that has no Latin letter gets another.
fn slug(name: &str, word: &str) -> String {
    let low = name.to_ascii_lowercase();
    let parts = low.split(|sign: char| !sign.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let slug: String = parts.collect::<Vec<_>>().join("-").chars().take(40).collect();
    let rest = hex::encode(rand::random::<[u8; 4]>());
    if slug.is_empty() { format!("{word}-{rest}") } else { format!("{}-{rest}", slug.trim_end_matches('-')) }
}

fn name_of(name: Option<&String>) -> Result<String, Problem> {
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    name.ok_or_else(|| Problem::invalid(vec![Fault::new("/name", "must be a text")]))
}

pub(super) async fn merchants(ask: Ask) -> Answered<Vec<PlatformMerchant>> {
    let rows = rows(&ask.app, &ask.caller, Kind::Merchant, None)?;
    reply(rows.iter().map(|(id, row)| merchant_view(*id, row)).collect())
}

pub(super) async fn create_merchant(ask: Ask<(), (), MerchantBody>) -> Answered<PlatformMerchant> {
    let Ask { app, caller, body, .. } = ask;
    let name = if body.slug.is_some() { body.name.clone() } else { Some(name_of(body.name.as_ref())?) };
    let slug = body.slug.unwrap_or_else(|| slug(name.as_deref().unwrap_or_default(), "merchant"));
    let mut part = given([
        ("slug", Some(json!(slug))),
        ("name", name.map(Value::from)),
        ("language", body.language.map(Value::from)),
        ("country", body.country.map(Value::from)),
    ]);
    part.as_object_mut().into_iter().for_each(|part| part.retain(|_, value| !value.is_null()));
    let made = app.engine.create(Thing::Merchant, part, caller.holder.name()).await?;
    Ok(Reply::new(merchant_view(made.id, &stored(&app, made.id)?)).at(&format!("/api/v1/merchants/{}", made.id)))
}

pub(super) async fn change_merchant(ask: Ask<ById, (), MerchantBody>) -> Answered<PlatformMerchant> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = row(&app, &caller, Kind::Merchant, &path.id)?;
    let patch = given([
        ("name", body.name.map(Value::from)),
        ("language", body.language.map(Value::from)),
        ("country", body.country.map(Value::from)),
        ("", None),
    ]);
    app.engine.change(id, &patch, version, caller.holder.name()).await?;
    reply(merchant_view(id, &stored(&app, id)?))
}

pub(super) async fn remove_merchant(ask: Ask<ById>) -> Answered<Done> {
    let version = ask.if_match()?;
    let (id, _) = row(&ask.app, &ask.caller, Kind::Merchant, &ask.path.id)?;
    ask.app.engine.remove(id, version, ask.caller.holder.name()).await?;
    reply(Done { ok: true })
}

pub(super) async fn outlets(ask: Ask<ById>) -> Answered<Vec<OutletView>> {
    let rows = rows(&ask.app, &ask.caller, Kind::Outlet, Some(&ask.path.id))?;
    reply(views(&ask.app, rows).await?)
}

/// The zone of a merchant that names none: the platform knows no zones.
fn zone(app: &App, merchant: Id) -> String {
    let world = app.engine.world();
    let mut outlets: Vec<_> = world.outlets.iter().filter(|(_, (of, _, _))| *of == merchant).collect();
    outlets.sort_by_key(|(id, _)| **id);
    let country = world.merchants.get(&merchant).map(|(_, merchant)| merchant.country.clone()).unwrap_or_default();
    let usual = if country == "UZ" { "Asia/Tashkent" } else { "Europe/Moscow" };
    outlets.first().map_or_else(|| usual.to_owned(), |(_, (_, _, outlet))| outlet.zone.clone())
}

pub(super) async fn create_outlet(ask: Ask<ById, (), OutletBody>) -> Answered<OutletView> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let name = name_of(body.name.as_ref())?;
    let own = app.engine.world().merchants.get(&merchant).map(|(slug, _)| slug.clone()).unwrap_or_default();
    let mut part = given([
        ("slug", Some(json!(body.slug.unwrap_or_else(|| slug(&name, "outlet"))))),
        ("name", Some(json!(name))),
        ("address", body.address.filter(|address| !address.is_empty()).map(Value::from)),
        ("hidden", body.hidden.map(Value::from)),
    ]);
    part["merchant"] = json!(own);
    part["zone"] = json!(body.zone.unwrap_or_else(|| zone(&app, merchant)));
    let made = app.engine.create(Thing::Outlet, part, caller.holder.name()).await?;
    let path = format!("/api/v1/merchants/{merchant}/outlets/{}", made.id);
    Ok(view(&app, made.id, stored(&app, made.id)?).await?.at(&path))
}

pub(super) async fn change_outlet(ask: Ask<OutletPath, (), OutletBody>) -> Answered<OutletView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = find(&app, &caller, &path)?;
    let patch = given([
        ("name", body.name.map(Value::from)),
        ("address", body.address.map(|address| if address.is_empty() { Value::Null } else { address.into() })),
        ("hidden", body.hidden.map(Value::from)),
        ("zone", body.zone.map(Value::from)),
    ]);
    app.engine.change(id, &patch, version, caller.holder.name()).await?;
    view(&app, id, stored(&app, id)?).await
}

pub(super) async fn remove_outlet(ask: Ask<OutletPath>) -> Answered<Done> {
    let version = ask.if_match()?;
    let (id, _) = find(&ask.app, &ask.caller, &ask.path)?;
    ask.app.engine.remove(id, version, ask.caller.holder.name()).await?;
    reply(Done { ok: true })
}

pub(super) async fn status(ask: Ask<OutletPath, (), StatusBody>) -> Answered<OutletView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = find(&app, &caller, &path)?;
    let inactive = match body.status.to_ascii_uppercase().as_str() {
        "ACTIVE" => false,
        "INACTIVE" => true,
        _ => return Err(Problem::invalid(vec![Fault::new("/status", "must be `ACTIVE` or `INACTIVE`")])),
    };
    app.engine.change(id, &json!({ "inactive": inactive }), version, caller.holder.name()).await?;
    view(&app, id, stored(&app, id)?).await
}
