//! The rules of WhatsApp's Cloud API that a hub is most likely to get wrong.

mod stage;

use serde_json::{Value, json};
use stage::{Hub, client, json_of, start};

const NUMBER: &str = "106540352242922";

async fn post(url: &str, number: &str, token: &str, body: &Value) -> (u16, Value) {
    let call = client().post(format!("{url}/whatsappmeta/v23.0/{number}/messages")).bearer_auth(token).json(body);
    let answer = call.send().await.expect("answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

fn text(to: &str) -> Value {
    json!({"messaging_product": "whatsapp", "to": to, "text": {"body": "Привет"}, "biz_opaque_callback_data": "key-1"})
}

fn template(language: &str, parameters: &[&str]) -> Value {
    let parameters: Vec<Value> = parameters.iter().map(|text| json!({"type": "text", "text": text})).collect();
    json!({"messaging_product": "whatsapp", "to": "79990001122", "type": "template", "template": {
        "name": "review_request", "language": {"code": language}, "components": [{"type": "body", "parameters": parameters}]}})
}

async fn set(url: &str, settings: &Value) {
    json_of(client().put(format!("{url}/_sandbox/whatsappmeta/settings")).json(settings)).await;
}

/// What the stand-in sends of a case, as JSON, each webhook's signature checked.
async fn told(url: &str, hub: &Hub, case: &str, options: Value) -> Value {
    let mut options = options;
    options["url"] = json!(hub.url());
    let sent = json_of(client().post(format!("{url}/_sandbox/whatsappmeta/send/{case}")).json(&options)).await;
    assert_eq!(sent["body"], "ok", "{sent}");
    let got = hub.last();
    let (head, body) = got.split_once("\r\n\r\n").expect("a head");
    let signature = head.lines().find_map(|line| line.strip_prefix("x-hub-signature-256: sha256=")).expect("a signature");
    let mut mac =
        <hmac::Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(b"0f5c1d7e9a3b48c6b2d41e6f7a8095cd").expect("a key");
    hmac::Mac::update(&mut mac, body.as_bytes());
    assert_eq!(signature, hex::encode(hmac::Mac::finalize(mac).into_bytes()));
    assert!(body.is_ascii() && !body.contains("whatsapp\\u"), "Meta escapes what is not ASCII");
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn whatsapp_refuses_what_meta_would_refuse() {
    let sandbox = start().await;
    let url = sandbox.url();
    let code = async |number: &str, token: &str, body: Value| {
        let (status, answer) = post(&url, number, token, &body).await;
        (status, answer["error"]["code"].as_i64())
    };
    assert_eq!(code(NUMBER, "wrong", text("79990001122")).await, (401, Some(190)));
    assert_eq!(code("79991112233", "t", text("79990001122")).await, (400, Some(100)));
    assert_eq!(code(NUMBER, "t", text("the neighbour")).await, (400, Some(100)));
    assert_eq!(code(NUMBER, "t", json!({"to": "79990001122"})).await, (400, Some(100)));
    assert_eq!(code(NUMBER, "t", json!([])).await, (400, Some(100)));
    let empty = json!({"messaging_product": "whatsapp", "to": "79990001122", "text": {"body": " "}});
    assert_eq!(code(NUMBER, "t", empty).await, (400, Some(131_008)));
    assert_eq!(code(NUMBER, "t", template("ru_RU", &["Кофейня"])).await, (404, Some(132_001)));
    assert_eq!(code(NUMBER, "t", template("ru", &[])).await, (400, Some(132_000)));
    assert_eq!(code(NUMBER, "t", template("ru", &["Кофейня", "2"])).await, (400, Some(132_000)));
    assert_eq!(code(NUMBER, "t", template("ru", &["Кофе\nйня"])).await, (400, Some(132_018)));
    assert_eq!(code(NUMBER, "t", template("ru", &["Кофейня"])).await, (200, None));
    let (_, sent) = post(&url, NUMBER, "t", &text("+7 (999) 000-11-22")).await;
    assert_eq!(sent["contacts"][0], json!({"input": "+7 (999) 000-11-22", "wa_id": "79990001122"}));
    set(&url, &json!({"recipients": ["79990001133"]})).await;
    assert_eq!(code(NUMBER, "t", text("79990001122")).await, (400, Some(131_030)));
}

#[tokio::test]
async fn one_person_s_limit_is_not_the_number_s() {
    let sandbox = start().await;
    let url = sandbox.url();
    set(&url, &json!({"pair_burst": 1, "pair_every_ms": 600_000, "messages_per_s": 1_000})).await;
    assert_eq!(post(&url, NUMBER, "t", &text("79990001122")).await.0, 200);
    assert_eq!(post(&url, NUMBER, "t", &text("79990001122")).await.1["error"]["code"], 131_056);
    assert_eq!(post(&url, NUMBER, "t", &text("79990001133")).await.0, 200);
    set(&url, &json!({"messages_per_s": 0})).await;
    assert_eq!(post(&url, NUMBER, "t", &text("79990001144")).await.1["error"]["code"], 130_429);
}

#[tokio::test]
async fn free_words_fail_later_unless_the_person_has_written() {
    let sandbox = start().await;
    let (hub, url) = (Hub::start("ok").await, sandbox.url());
    let status = |told: &Value| told["entry"][0]["changes"][0]["value"]["statuses"][0].clone();
    assert_eq!(post(&url, NUMBER, "t", &text("79990001122")).await.0, 200);
    let failed = status(&told(&url, &hub, "statuses", json!({})).await);
    assert_eq!((&failed["status"], &failed["errors"][0]["code"]), (&json!("failed"), &json!(131_047)));
    assert_eq!((&failed["biz_opaque_callback_data"], &failed["recipient_id"]), (&json!("key-1"), &json!("79990001122")));
    assert!(failed["timestamp"].is_string());
    let inbound = told(&url, &hub, "inbound", json!({"from": "79990001122"})).await;
    assert_eq!(inbound["entry"][0]["changes"][0]["value"]["messages"][0]["text"]["body"], "Спасибо, всё отлично 👍");
    post(&url, NUMBER, "t", &text("79990001122")).await;
    assert_eq!(status(&told(&url, &hub, "statuses", json!({})).await)["status"], "delivered");
    set(&url, &json!({"failing": {"79990001133": 131_026}})).await;
    post(&url, NUMBER, "t", &text("79990001133")).await;
    assert_eq!(status(&told(&url, &hub, "statuses", json!({})).await)["errors"][0]["code"], 131_026);
    let several =
        told(&url, &hub, "statuses", json!({"message_ids": ["a", "b"], "statuses": ["read", "sent"], "batch": true})).await;
    assert_eq!(several["entry"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn an_address_is_greeted_and_known_after_it_was_set() {
    let sandbox = start().await;
    let (hub, url) = (Hub::start("1158201444").await, sandbox.url());
    let apps = format!("{url}/whatsappmeta/v23.0/102290129340398/subscribed_apps");
    let body = json!({"override_callback_uri": hub.url(), "verify_token": "w"});
    assert_eq!(json_of(client().post(&apps).bearer_auth("t").json(&body)).await["success"], true);
    assert_eq!(json_of(client().get(&apps).bearer_auth("t")).await["data"][0]["override_callback_uri"], hub.url());
    let sent = json_of(client().post(format!("{url}/_sandbox/whatsappmeta/send/verify")).json(&json!({}))).await;
    assert_eq!(sent["body"], "1158201444");
    let line = hub.last().lines().next().unwrap_or_default().to_owned();
    assert!(
        line.starts_with("GET /hook?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=my-verify-token "),
        "{line}"
    );
    let templates = format!("{url}/whatsappmeta/v23.0/102290129340398/message_templates?name=review_request");
    let found = json_of(client().get(templates).bearer_auth("t")).await;
    assert_eq!(found["data"].as_array().map(Vec::len), Some(2));
}
