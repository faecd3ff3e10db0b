//! What Poster sends: webhooks, and requests of the till's application that its back end passes on.

use serde_json::{Value, json};

use super::{Settings, md5};
use crate::cases::Case;
use crate::wire;

/// A signed webhook. Options: `object`, `object_id`, `action`, `time`, `data` (a text; an object is written as one, unless
/// `data_as_object`), `account`, `account_number`, `secret`, `verify` (another signature; null: none), `more` (further members).
pub(super) fn webhook(settings: &Settings, options: &Value) -> Result<Case, String> {
    let given = |name: &str| options.get(name).filter(|value| !value.is_null()).cloned();
    let mut body = json!({
        "account": given("account").unwrap_or_else(|| json!(settings.account)),
        "object": given("object").unwrap_or_else(|| json!("transaction")),
        "object_id": given("object_id").unwrap_or_else(|| json!(16776)),
        "action": given("action").unwrap_or_else(|| json!("closed")),
        "time": given("time").unwrap_or_else(|| json!(wire::now().to_string())),
        "account_number": given("account_number").unwrap_or_else(|| json!(settings.account_number)),
    });
    let data = given("data");
    let signed_data = match &data {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(data) => Some(data.to_string()),
    };
    let secret = given("secret").unwrap_or_else(|| json!(settings.application_secret));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut parts = ["account", "object", "object_id", "action"].map(|name| text(&body[name])).to_vec();
    parts.extend(signed_data.clone());
    parts.extend([text(&body["time"]), text(&secret)]);
    body["verify"] = match options.get("verify") {
        Some(other) => other.clone(),
        None => json!(md5(&parts.join(";"))),
    };
    if options["data_as_object"] == true {
        body["data"] = data.unwrap_or_default();
    } else if let Some(data) = signed_data {
        body["data"] = json!(data);
    }
    if let (Some(body), Some(Value::Object(more))) = (body.as_object_mut(), options.get("more")) {
        body.extend(more.clone());
    }
    Ok(Case {
        method: "POST".to_owned(),
        content_type: "application/json".to_owned(),
        body: body.to_string().into_bytes(),
        ..Case::default()
    })
}

/// A request of code on the till: signed over the address, the body and the time. Options: `url`, `body`, `time`, `secret`, `spot_id`.
pub(super) fn proxied(settings: &Settings, options: &Value) -> Result<Case, String> {
    let url = options["url"].as_str().ok_or("url is missing: it is signed")?;
    let body = options.get("body").map(Value::to_string).unwrap_or_default();
    let time = wire::number(options.get("time")).unwrap_or_else(wire::now);
    let secret = options["secret"].as_str().unwrap_or(&settings.application_secret);
    let headers = [
        ("X-Poster-Time", time.to_string()),
        ("X-Poster-Signature", md5(&format!("{url}{body}{time}{secret}"))),
        ("X-Poster-Url", settings.account.clone()),
        ("X-Poster-Spot-Id", wire::number(options.get("spot_id")).unwrap_or(1).to_string()),
        ("X-Poster-Tablet-Id", "1".to_owned()),
    ];
    Ok(Case {
        method: if body.is_empty() { "GET" } else { "POST" }.to_owned(),
        content_type: "application/json".to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        body: body.into_bytes(),
        ..Case::default()
    })
}
