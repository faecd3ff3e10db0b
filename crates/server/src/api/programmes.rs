//! Loyalty programmes: what a merchant's points are worth, the keys of customers' codes, the merchant's own bridge secrets.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uzel_engine::{
    bridge::{Issued, Which},
    loyalty::{LoyaltyError, ProgrammeRule, QrKeyDoc},
    setup::{Thing, Unchanged},
};
use uzel_model::{Id, check::Fault, words::Language};

use super::{
    caller::Caller,
    route::{Answered, Ask, ById, Reply, reply},
};
use crate::{App, Problem};

impl From<LoyaltyError> for Problem {
    fn from(error: LoyaltyError) -> Self {
        let says = error.says(Language::En);
        match error {
            LoyaltyError::NoProgramme => Self::not_found(says),
            LoyaltyError::WalletNotFound => Self::not_found("no such customer"),
            LoyaltyError::Malformed(faults) => Self::invalid(faults),
            LoyaltyError::KeyReused => Self::invalid(vec![Fault::new("Idempotency-Key", says)]),
            LoyaltyError::Again(why) => {
                tracing::warn!("points cannot be had now: {why}");
                Self::busy(says)
            }
            _ => Self::conflict(says),
        }
    }
}

/// What a programme says.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Rule(Map<String, Value>);

impl JsonSchema for Rule {
    fn schema_name() -> Cow<'static, str> {
        "ProgrammeChange".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ProgrammeRule::json_schema(generator);
        schema.insert("description".to_owned(), json!("What a programme says."));
        schema.insert("examples".to_owned(), json!([{ "earn_bps": 500, "redeem_limit_bps": 3000, "points_ttl_days": 365 }]));
        schema
    }
}

/// A merchant's loyalty programme.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProgrammeView {
    /// Its id.
    id: Id,
    /// Whose it is.
    merchant: Id,
    /// What it says.
    rule: Value,
    /// Keys of customers' codes: the first signs, all are good.
    qr_keys: Vec<QrKeyView>,
    /// When the merchant's own bridge secret was issued.
    bridge_secret_at: Option<Timestamp>,
    /// When the next one was issued, to be promoted.
    bridge_secret_next_at: Option<Timestamp>,
    /// What is dangerous about it.
    dangers: Vec<String>,
    /// Counts up with every change.
    version: i64,
}

/// A key of customers' codes, without itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct QrKeyView {
    /// Its name in a code's header.
    kid: String,
    /// When it was made.
    made_at: Timestamp,
}

impl From<QrKeyDoc> for QrKeyView {
    fn from(key: QrKeyDoc) -> Self {
        Self { kid: key.kid, made_at: key.made_at }
    }
}

fn dangers(rule: &ProgrammeRule) -> Vec<String> {
    let open = "open_loyalty: whoever finds the hub's address quotes and commits, without a key or a signature";
    rule.open_loyalty.then(|| open.to_owned()).into_iter().collect()
}

/// The id of a merchant's programme.
pub(super) fn id_of(app: &App, merchant: Id) -> Option<Id> {
    app.engine.world().programme_of(merchant).map(|programme| programme.id)
}

fn missing() -> Problem {
    Problem::from(LoyaltyError::NoProgramme)
}

fn view(app: &App, merchant: Id) -> Result<Reply<ProgrammeView>, Problem> {
    let world = app.engine.world();
    let programme = world.programme_of(merchant).ok_or_else(missing)?;
    let row = world.rows.get(&programme.id).ok_or_else(missing)?;
    let keys: Vec<QrKeyDoc> = serde_json::from_value(row.doc["qr"].clone()).unwrap_or_default();
    let Issued { current_at, next_at } = programme.bridge_issued.clone();
    let view = ProgrammeView {
        id: programme.id,
        merchant,
        rule: json!(programme.rule),
        qr_keys: keys.into_iter().map(QrKeyView::from).collect(),
        bridge_secret_at: current_at,
        bridge_secret_next_at: next_at,
        dangers: dangers(&programme.rule),
        version: row.version,
    };
    Ok(Reply::new(view).version(row.version))
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<ProgrammeView> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    view(&ask.app, merchant)
}

/// Makes the programme, or makes it what is given: what is not named is as it is by default.
pub(super) async fn put(ask: Ask<ById, (), Rule>) -> Answered<ProgrammeView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let now = app.engine.world().programme_of(merchant).map(|programme| json!(programme.rule));
    let names = now.iter().flat_map(|rule| rule.as_object().into_iter().flat_map(Map::keys).cloned());
    let mut patch: Map<String, Value> = names.map(|name| (name, Value::Null)).collect();
    patch.extend(body.0);
    set(&app, &caller, merchant, patch, version).await?;
    view(&app, merchant)
}

pub(super) async fn change(ask: Ask<ById, (), Rule>) -> Answered<ProgrammeView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    id_of(&app, merchant).ok_or_else(missing)?;
    set(&app, &caller, merchant, body.0, version).await?;
    view(&app, merchant)
}

/// Changes a programme, or makes one of what is named.
pub(super) async fn set(
    app: &std::sync::Arc<App>,
    caller: &Caller,
    merchant: Id,
    patch: Map<String, Value>,
    version: Option<i64>,
) -> Result<(), Problem> {
    let by = caller.holder.name();
    match id_of(app, merchant) {
        Some(id) => app.engine.change(id, &Value::Object(patch), version, by).await?,
        None if version.is_some() => return Err(Unchanged::Changed.into()),
        None => {
            let slug = app.engine.world().merchants.get(&merchant).map(|(slug, _)| slug.clone()).unwrap_or_default();
            let mut part: Map<String, Value> = patch.into_iter().filter(|(_, value)| !value.is_null()).collect();
            part.insert("merchant".to_owned(), json!(slug));
            app.engine.create(Thing::Programme, Value::Object(part), by).await?
        }
    };
    Ok(())
}

/// Makes a new key of customers' codes; the one before stays good until the next time.
pub(super) async fn rotate(ask: Ask<ById>) -> Answered<QrKeyView> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    let made = ask.app.engine.rotate_qr_key(merchant, ask.caller.holder.name()).await?;
    reply(made.into())
}

/// A secret, shown once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BridgeSecretView {
    /// The secret itself.
    secret: String,
}

async fn issue_one(ask: Ask<ById>, which: Which) -> Answered<BridgeSecretView> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    let id = id_of(&ask.app, merchant).ok_or_else(missing)?;
    let secret = ask.app.engine.issue_bridge_secret(id, which, ask.caller.holder.name()).await?;
    reply(BridgeSecretView { secret: secret.expose().to_owned() })
}

pub(super) async fn issue(ask: Ask<ById>) -> Answered<BridgeSecretView> {
    issue_one(ask, Which::Current).await
}

pub(super) async fn issue_next(ask: Ask<ById>) -> Answered<BridgeSecretView> {
    issue_one(ask, Which::Next).await
}

async fn withdraw_one(ask: Ask<ById>, which: Which) -> Answered<()> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    let id = id_of(&ask.app, merchant).ok_or_else(missing)?;
    ask.app.engine.remove_bridge_secret(id, which, ask.caller.holder.name()).await?;
    reply(())
}

pub(super) async fn withdraw(ask: Ask<ById>) -> Answered<()> {
    withdraw_one(ask, Which::Current).await
}

pub(super) async fn withdraw_next(ask: Ask<ById>) -> Answered<()> {
    withdraw_one(ask, Which::Next).await
}

pub(super) async fn promote(ask: Ask<ById>) -> Answered<ProgrammeView> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    let id = id_of(&ask.app, merchant).ok_or_else(missing)?;
    ask.app.engine.promote_bridge_secret(id, ask.caller.holder.name()).await?;
    view(&ask.app, merchant)
}
