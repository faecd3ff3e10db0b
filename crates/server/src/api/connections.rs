//! What a connection can be asked: how it is, money, costs, subscriptions, refusals, logins.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{phone, port::Messages};
use uzel_store::Refusal;

use super::{
    journal::Masking,
    mask::mask_text,
    page::Page,
    route::{Answered, Ask, ById, reply},
};
use crate::{Problem, oauth};

/// How a connection is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HealthView {
    /// Whether calls work.
    healthy: bool,
    /// What the provider says, or what is wrong.
    detail: String,
    /// How often its webhooks come.
    webhooks: Option<Webhooks>,
    /// Why its calls are held back for now, and since when.
    breaker: Option<Value>,
}

/// How often webhooks come.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Webhooks {
    /// How many came.
    count: u64,
    /// When the latest one came.
    last_at: jiff::Timestamp,
    /// Seconds between two of them, lately.
    usual_gap_s: i64,
    /// Seconds of the longest silence, of which old ones count less.
    longest_gap_s: i64,
}

pub(super) async fn health(ask: Ask<ById>) -> Answered<HealthView> {
    let Ask { app, caller, path, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let judged = app.engine.health(&link).await;
    let healthy = judged.is_ok();
    let (Ok(detail) | Err(detail)) = judged;
    let webhooks = app.engine.rhythm(link.id).map(|rhythm| Webhooks {
        count: rhythm.count,
        last_at: rhythm.last_at,
        usual_gap_s: rhythm.gap_ms / 1_000,
        longest_gap_s: rhythm.longest_ms / 1_000,
    });
    reply(HealthView { healthy, detail, webhooks, breaker: app.engine.open_breaker(link.id).map(|open| json!(open)) })
}

/// The money left at a provider.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct BalanceView {
    /// As the provider tells it.
    balance: Value,
}

pub(super) async fn balance(ask: Ask<ById>) -> Answered<BalanceView> {
    let link = ask.caller.connection(&ask.app, &ask.path.id)?;
    let balance = ask.app.engine.balance(&link).await.map_err(Problem::failed)?;
    reply(BalanceView { balance: json!(balance) })
}

/// What a browser subscribes with.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PushKeyView {
    /// A point of P-256 in 65 bytes, as base64url.
    public_key: String,
}

pub(super) async fn push_key(ask: Ask<ById>) -> Answered<PushKeyView> {
    let link = ask.caller.connection(&ask.app, &ask.path.id)?;
    let key = link.connector.messages().and_then(Messages::public_key);
    let key = key.ok_or_else(|| Problem::bad_request(format!("{} needs no such key", link.provider.name)))?;
    reply(PushKeyView { public_key: key.map_err(|error| Problem::failed(error.to_string()))? })
}

/// A text whose cost is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "phone": "+79991234567", "text": "Thank you!" }))]
pub(super) struct CostRequest {
    /// Who is to get it.
    phone: String,
    /// What is to be sent.
    text: String,
}

/// What a text would cost, as the provider tells it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct CostView(Value);

pub(super) async fn cost(ask: Ask<ById, (), CostRequest>) -> Answered<CostView> {
    let Ask { app, caller, path, body, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let phone = phone::read_text(&body.phone, &link.country).map_err(|error| Problem::bad_request(format!("phone: {error}")))?;
    let cost = app.engine.cost(&link, phone.e164, body.text).await.map_err(Problem::failed)?;
    reply(CostView(json!(cost)))
}

/// Where the provider is to send its webhooks.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "url": "https://hub.example.org/hooks/con_01k2m3?key=…" }))]
pub(super) struct SubscribeRequest {
    /// The URL to register; by default the hub's public address with this connection's hook.
    url: Option<String>,
}

/// The provider was told where to send.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Subscribed {
    /// It was.
    subscribed: bool,
}

pub(super) async fn subscribe(ask: Ask<ById, (), SubscribeRequest>) -> Answered<Subscribed> {
    let Ask { app, caller, path, body, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    app.engine.subscribe(&link, body.url).await.map_err(Problem::failed)?;
    app.engine.audit(caller.holder.name(), "connection.subscribe", Some(link.merchant), link.id, json!({})).await?;
    reply(Subscribed { subscribed: true })
}

/// Requests that were refused, newest first.
pub(super) async fn refusals(ask: Ask<ById, Masking>) -> Answered<Page<Refusal>> {
    let Ask { app, caller, path, query, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let refusals = app.engine.store.refusals(&link.id.to_string()).await?;
    reply(Page::whole(shown(refusals, query.unmasked && caller.is_owner())))
}

pub(super) fn shown(mut refusals: Vec<Refusal>, unmasked: bool) -> Vec<Refusal> {
    if !unmasked {
        for refusal in &mut refusals {
            refusal.body = mask_text(&refusal.body);
        }
    }
    refusals
}

/// What a person opens in a browser, once.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LoginView {
    /// To be opened in a browser, once.
    url: String,
    /// How long it works, in seconds.
    valid_s: i64,
}

pub(super) async fn login(ask: Ask<ById>) -> Answered<LoginView> {
    let Ask { app, caller, path, .. } = ask;
    let link = caller.connection(&app, &path.id)?;
    let url = oauth::begin(&app, &caller, &link)?;
    app.engine.audit(caller.holder.name(), "connection.login", Some(link.merchant), link.id, json!({})).await?;
    reply(LoginView { url, valid_s: oauth::CODE_LIFE.as_secs() })
}
