//! A merchant's settings by the names of the points platform of the requirement: its own paths keep working, the programme is the
//! hub's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uzel_engine::{bridge::Which, endpoint::Webhook, loyalty::LoyaltyError};
use uzel_model::{Id, Secret, check::Fault};

use super::{
    programmes::{id_of, set},
    route::{Answered, Ask, ById, reply},
};
use crate::{App, Problem};

/// A merchant's settings, by the platform's names. What is not named stays; other fields are told in `ignored`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(example = json!({ "earnBps": 500, "redeemLimitBps": 5000, "qrTtlSec": 120, "requireBridgeSig": true }))]
pub(super) struct SettingsRequest {
    /// Points for a purchase, in hundredths of a percent.
    earn_bps: u32,
    /// How much points may pay, in hundredths of a percent.
    redeem_limit_bps: u32,
    /// Seconds that a customer's code stands.
    #[serde(default)]
    qr_ttl_sec: Option<u32>,
    /// Seconds from one spending to the next.
    #[serde(default)]
    redeem_cooldown_sec: Option<u32>,
    /// Seconds from one earning to the next.
    #[serde(default)]
    earn_cooldown_sec: Option<u32>,
    /// Points that may be spent in 24 hours; 0: any number.
    #[serde(default)]
    redeem_daily_cap: Option<i64>,
    /// Points that may be earned in 24 hours; 0: any number.
    #[serde(default)]
    earn_daily_cap: Option<i64>,
    /// A quote needs the customer's code.
    #[serde(default)]
    require_jwt_for_quote: Option<bool>,
    /// Every question needs a signature.
    #[serde(default)]
    require_bridge_sig: Option<bool>,
    /// Every question needs a staff key or a signature.
    #[serde(default)]
    require_staff_key: Option<bool>,
    /// The merchant's own bridge secret, of 24 characters or more.
    #[serde(default)]
    bridge_secret: Option<String>,
    /// The next one.
    #[serde(default)]
    bridge_secret_next: Option<String>,
    /// Rules: a list, or an object with `rules`.
    #[serde(default)]
    rules_json: Option<Value>,
    /// Days after which points expire; 0: never.
    #[serde(default)]
    points_ttl_days: Option<u32>,
    /// Days after which points can be spent.
    #[serde(default)]
    earn_delay_days: Option<u32>,
    /// Where webhooks of loyalty events go: makes or changes the endpoint `loyalty-webhook`; an empty text takes it away.
    #[serde(default)]
    webhook_url: Option<String>,
    /// Signs them (`X-Loyalty-Signature`): 16 to 256 visible characters. It is kept sealed and never shown.
    #[serde(default)]
    webhook_secret: Option<String>,
    /// Its name, as `X-Signature-Key-Id` tells it.
    #[serde(default)]
    webhook_key_id: Option<String>,
    /// The next secret; an empty text takes it away.
    #[serde(default)]
    webhook_secret_next: Option<String>,
    /// Its name.
    #[serde(default)]
    webhook_key_id_next: Option<String>,
    /// Signs by the next secret.
    #[serde(default)]
    use_webhook_next: Option<bool>,
    /// What else came.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A merchant's settings, by the platform's names.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SettingsView {
    /// Whose they are.
    merchant_id: Id,
    /// Points for a purchase, in hundredths of a percent.
    earn_bps: u32,
    /// How much points may pay, in hundredths of a percent.
    redeem_limit_bps: u32,
    /// Seconds that a customer's code stands.
    qr_ttl_sec: u32,
    /// Seconds from one spending to the next.
    redeem_cooldown_sec: u32,
    /// Seconds from one earning to the next.
    earn_cooldown_sec: u32,
    /// Points that may be spent in 24 hours; 0: any number.
    redeem_daily_cap: i64,
    /// Points that may be earned in 24 hours; 0: any number.
    earn_daily_cap: i64,
    /// A quote needs the customer's code.
    require_jwt_for_quote: bool,
    /// Every question needs a signature.
    require_bridge_sig: bool,
    /// Every question needs a staff key or a signature.
    require_staff_key: bool,
    /// Whether the merchant has a bridge secret of its own.
    bridge_secret_issued: bool,
    /// Whether there is a next one.
    bridge_secret_next_issued: bool,
    /// Rules, the last that fits wins.
    rules_json: Vec<Map<String, Value>>,
    /// Days after which points expire; 0: never.
    points_ttl_days: u32,
    /// Days after which points can be spent.
    earn_delay_days: u32,
    /// Where webhooks of loyalty events go, the values of its query masked.
    webhook_url: Option<String>,
    /// Name of the secret that signs them.
    webhook_key_id: Option<String>,
    /// Whether there is a secret that signs them.
    webhook_secret_issued: bool,
    /// Name of the next secret.
    webhook_key_id_next: Option<String>,
    /// Whether there is a next secret.
    webhook_secret_next_issued: bool,
    /// Whether the next secret signs.
    use_webhook_next: bool,
    /// Fields of the request that the hub has elsewhere or does not know.
    ignored: Vec<String>,
}

fn view(app: &App, merchant: Id, ignored: Vec<String>) -> Result<SettingsView, Problem> {
    let world = app.engine.world();
    let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
    let hook = app.engine.platform_webhook(merchant);
    let (rule, points) = (&programme.rule, &programme.rule.points);
    Ok(SettingsView {
        merchant_id: merchant,
        earn_bps: points.earn_bps,
        redeem_limit_bps: points.redeem_limit_bps,
        qr_ttl_sec: points.qr_ttl_s,
        redeem_cooldown_sec: points.redeem_cooldown_s,
        earn_cooldown_sec: points.earn_cooldown_s,
        redeem_daily_cap: points.redeem_daily_cap.unwrap_or(0),
        earn_daily_cap: points.earn_daily_cap.unwrap_or(0),
        require_jwt_for_quote: rule.require_jwt_for_quote,
        require_bridge_sig: rule.require_bridge_sig,
        require_staff_key: rule.require_staff_key,
        bridge_secret_issued: programme.bridge_issued.current_at.is_some(),
        bridge_secret_next_issued: programme.bridge_issued.next_at.is_some(),
        rules_json: points.rules.iter().filter_map(|rule| renamed(json!(rule), camel).as_object().cloned()).collect(),
        points_ttl_days: points.points_ttl_days.unwrap_or(0),
        earn_delay_days: points.earn_delay_days,
        webhook_url: hook.url,
        webhook_key_id: hook.key_id,
        webhook_secret_issued: hook.secret_issued,
        webhook_key_id_next: hook.key_id_next,
        webhook_secret_next_issued: hook.secret_next_issued,
        use_webhook_next: hook.use_next,
        ignored,
    })
}

/// Names within a value in the other form.
fn renamed(value: Value, form: fn(&str) -> String) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (form(&name), renamed(value, form))).collect(),
        Value::Array(items) => items.into_iter().map(|item| renamed(item, form)).collect(),
        other => other,
    }
}

pub(crate) fn camel(name: &str) -> String {
    let mut up = false;
    let signs = name.chars().filter_map(|sign| {
        let was = std::mem::replace(&mut up, sign == '_');
        (sign != '_').then(|| if was { sign.to_ascii_uppercase() } else { sign })
    });
    signs.collect()
}

fn snake(name: &str) -> String {
    let parts =
        name.chars().flat_map(|sign| sign.is_ascii_uppercase().then_some('_').into_iter().chain([sign.to_ascii_lowercase()]));
    parts.collect()
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<SettingsView> {
    let merchant = ask.caller.merchant(&ask.app, &ask.path.id)?;
    reply(view(&ask.app, merchant, Vec::new())?)
}

pub(super) async fn put(ask: Ask<ById, (), SettingsRequest>) -> Answered<SettingsView> {
    let version = ask.if_match()?;
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let mut ignored: Vec<String> = body.others.keys().cloned().collect();
    let off = |given: i64| if given == 0 { Value::Null } else { json!(given) };
    let named = [
        ("earn_bps", Some(json!(body.earn_bps))),
        ("redeem_limit_bps", Some(json!(body.redeem_limit_bps))),
        ("qr_ttl_s", body.qr_ttl_sec.map(|given| json!(given))),
        ("redeem_cooldown_s", body.redeem_cooldown_sec.map(|given| json!(given))),
        ("earn_cooldown_s", body.earn_cooldown_sec.map(|given| json!(given))),
        ("redeem_daily_cap", body.redeem_daily_cap.map(off)),
        ("earn_daily_cap", body.earn_daily_cap.map(off)),
        ("require_jwt_for_quote", body.require_jwt_for_quote.map(|given| json!(given))),
        ("require_bridge_sig", body.require_bridge_sig.map(|given| json!(given))),
        ("require_staff_key", body.require_staff_key.map(|given| json!(given))),
        ("points_ttl_days", body.points_ttl_days.map(|given| off(given.into()))),
        ("earn_delay_days", body.earn_delay_days.map(|given| json!(given))),
        ("rules", body.rules_json.map(|given| rules(given, &mut ignored)).transpose()?),
    ];
    let patch: Map<String, Value> = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    set(&app, &caller, merchant, patch, version).await?;
    for (secret, which) in [(body.bridge_secret, Which::Current), (body.bridge_secret_next, Which::Next)] {
        if let (Some(secret), Some(id)) = (secret.filter(|secret| !secret.is_empty()), id_of(&app, merchant)) {
            app.engine.import_bridge_secret(id, which, &Secret::new(secret), caller.holder.name()).await?;
        }
    }
    let hook = Webhook {
        url: body.webhook_url,
        secret: body.webhook_secret.map(Secret::new),
        key_id: body.webhook_key_id,
        secret_next: body.webhook_secret_next.map(Secret::new),
        key_id_next: body.webhook_key_id_next,
        use_next: body.use_webhook_next,
    };
    app.engine.set_platform_webhook(merchant, hook, caller.holder.name()).await?;
    reply(view(&app, merchant, ignored)?)
}

/// The list of rules; what stands beside it is told.
fn rules(given: Value, ignored: &mut Vec<String>) -> Result<Value, Problem> {
    let wrong = || Problem::invalid(vec![Fault::new("/rulesJson", "must be a list of rules, or an object with `rules`")]);
    match given {
        Value::Array(_) => Ok(renamed(given, snake)),
        Value::Null => Ok(json!([])),
        Value::Object(mut fields) => {
            let rules = fields.remove("rules").unwrap_or_else(|| json!([]));
            ignored.extend(fields.keys().map(|name| format!("rulesJson.{name}")));
            if rules.is_array() { Ok(renamed(rules, snake)) } else { Err(wrong()) }
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_by_the_platforms_names() {
        let rule = json!({ "if": { "weekday_in": [0], "min_eligible": 5 }, "then": { "earn_bps": 1 } });
        let told = json!({ "if": { "weekdayIn": [0], "minEligible": 5 }, "then": { "earnBps": 1 } });
        assert_eq!((renamed(rule.clone(), camel), renamed(told.clone(), snake)), (told, rule));
    }
}
