//! The points platform's own administration: what an integrator who sends `X-Admin-Key` finds below `/merchants/*`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    loyalty::{Answer, Shop},
    receiver::{Got, Receiver},
    world::until,
};

/// The shop with the hub owner's key.
struct Admin<'a> {
    shop: &'a Shop,
    key: String,
}

impl Admin<'_> {
    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.shop.raw(method, path, &[("x-admin-key", self.key.as_str())], body).await
    }

    async fn done(&self, method: Method, path: &str, body: Value, status: u16) -> Value {
        let answer = self.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        answer.body
    }
}

fn admin(shop: &Shop) -> Admin<'_> {
    Admin { shop, key: shop.world.hub.owner_key().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn merchants_and_outlets_are_made_changed_and_taken_away_by_the_platforms_paths() {
    let shop = Shop::new(json!({})).await;
    let admin = admin(&shop);
    let made = admin.done(Method::POST, "/merchants", json!({ "name": "Чайхана", "email": "dropped@example.com" }), 201).await;
    let merchant = made["id"].as_str().unwrap();
    let at = format!("/merchants/{merchant}");
    let renamed = admin.done(Method::PUT, &at, json!({ "name": "Чайхана №1" }), 200).await;
    assert_eq!((&renamed["name"], &renamed["slug"]), (&json!("Чайхана №1"), &made["slug"]));
    let all = admin.done(Method::GET, "/merchants", Value::Null, 200).await;
    assert!(all.as_array().unwrap().iter().any(|row| row["id"] == made["id"]), "{all}");

    let outlets = format!("{at}/outlets");
    let outlet = admin.done(Method::POST, &outlets, json!({ "name": "On Arbat", "address": "Arbat 1" }), 201).await;
    let of = format!("{outlets}/{}", outlet["id"].as_str().unwrap());
    assert_eq!((&outlet["address"], &outlet["status"], &outlet["hidden"]), (&json!("Arbat 1"), &json!("ACTIVE"), &json!(false)));
    assert!(outlet["createdAt"].is_string() && outlet["updatedAt"].is_string(), "{outlet}");
    let changed = admin.done(Method::PUT, &of, json!({ "address": "", "hidden": true }), 200).await;
    assert_eq!((&changed["name"], &changed["address"], &changed["hidden"]), (&json!("On Arbat"), &Value::Null, &json!(true)));
    let idle = admin.done(Method::PUT, &format!("{of}/status"), json!({ "status": "inactive" }), 200).await;
    assert_eq!((&idle["status"], &idle["hidden"]), (&json!("INACTIVE"), &json!(true)));
    let listed = admin.done(Method::GET, &outlets, Value::Null, 200).await;
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(admin.done(Method::DELETE, &of, Value::Null, 200).await, json!({ "ok": true }));
    assert_eq!(admin.done(Method::DELETE, &at, Value::Null, 200).await, json!({ "ok": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_below_merchants_have_the_platforms_form_and_those_of_the_api_its_own() {
    let shop = Shop::new(json!({})).await;
    let admin = admin(&shop);
    for (method, path, body, status) in [
        (Method::GET, "/merchants/nobody/outlets", Value::Null, 404),
        (Method::GET, "/merchants/m/nothing", Value::Null, 404),
        (Method::PATCH, "/merchants/m/settings", json!({}), 405),
        (Method::PUT, "/merchants/m/outlets/o/status", json!({ "status": "AWAY" }), 400),
        (Method::POST, "/merchants/m/outlets", json!({ "name": 7 }), 400),
        (Method::POST, "/merchants/m/outbox/pause", json!({ "minutes": 5 }), 400),
    ] {
        let answer = admin.ask(method, path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        let names: Vec<&str> = answer.body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names.len(), 6, "{path}: {}", answer.text);
        assert_eq!((&answer.body["statusCode"], &answer.body["path"]), (&json!(status), &json!(path)));
        assert_eq!(answer.header("x-request-id"), answer.body["requestId"].as_str().unwrap());
    }
    let stranger = shop.raw(Method::GET, "/merchants", &[("x-admin-key", "wrong"), ("x-request-id", "mine")], "").await;
    assert_eq!((stranger.status, &stranger.body["requestId"]), (401, &json!("mine")));
    let own = admin.ask(Method::GET, "/api/v1/merchants/nobody", Value::Null).await;
    assert_eq!((own.status, &own.body["type"]), (404, &json!("/problems/not-found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchants_settings_set_up_a_signed_webhook_whose_secrets_rotate() {
    let shop = Shop::new(json!({})).await;
    let admin = admin(&shop);
    let receiver = Receiver::start().await;
    let at = "/merchants/m/settings";
    let with = |more: Value| {
        let mut settings = json!({ "earnBps": 500, "redeemLimitBps": 5000 });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let (current, next) = ("whsec_test_loyalty", "whsec_test_loyalty_next");
    let url = receiver.url("/hooks");
    let bare = admin.ask(Method::PUT, at, with(json!({ "webhookUrl": url }))).await;
    assert_eq!(bare.status, 400, "nothing to sign by: {}", bare.text);
    let private = with(json!({ "webhookUrl": "https://10.0.0.1/", "webhookSecret": current }));
    let private = admin.ask(Method::PUT, at, private).await;
    assert_eq!(private.status, 400, "an operator's matter: {}", private.text);
    assert!(private.body["message"].as_str().unwrap().contains("webhookUrl"), "{}", private.text);

    let set = with(json!({ "webhookUrl": url, "webhookSecret": current, "webhookKeyId": "key-1" }));
    let set = admin.done(Method::PUT, at, set, 200).await;
    assert_eq!((&set["webhookUrl"], &set["webhookKeyId"], &set["ignored"]), (&json!(url), &json!("key-1"), &json!([])));
    assert!(!set.to_string().contains(current), "{set}");
    shop.buy("earn", "C-42", "ORD-1", 1_000).await;
    let committed = async |order: &str| {
        let told = |got: &Got| got.json()["receiptId"].is_string() && got.json()["orderId"] == order;
        until(&format!("the bare payload of {order}"), async || receiver.got().iter().any(told)).await;
        receiver.got().into_iter().find(told).unwrap()
    };
    let signed = |got: &Got, secret: &str, key: &str| {
        let wanted = got.loyalty(secret);
        assert_eq!((got.header("x-loyalty-signature"), got.header("x-signature-key-id")), (wanted.as_str(), key));
    };
    signed(&committed("ORD-1").await, current, "key-1");

    let none = admin.ask(Method::PUT, at, with(json!({ "useWebhookNext": true }))).await;
    assert_eq!(none.status, 400, "{}", none.text);
    let moved = with(json!({ "webhookSecretNext": next, "webhookKeyIdNext": "key-2", "useWebhookNext": true }));
    let moved = admin.done(Method::PUT, at, moved, 200).await;
    assert_eq!(
        (&moved["useWebhookNext"], &moved["webhookKeyId"], &moved["webhookKeyIdNext"]),
        (&json!(true), &json!("key-1"), &json!("key-2"))
    );
    shop.buy("earn", "C-42", "ORD-2", 1_000).await;
    signed(&committed("ORD-2").await, next, "key-2");
    // What is shown can be sent back, and changes nothing.
    let shown = admin.done(Method::GET, at, Value::Null, 200).await;
    admin.done(Method::PUT, at, shown.clone(), 200).await;
    assert_eq!(admin.done(Method::GET, at, Value::Null, 200).await, shown);
    let back = admin.done(Method::PUT, at, with(json!({ "useWebhookNext": false })), 200).await;
    assert_eq!(back["useWebhookNext"], false);

    let rows = admin.done(Method::GET, "/merchants/m/outbox?status=SENT&type=loyalty.committed", Value::Null, 200).await;
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    assert_eq!(rows[0]["payload"]["orderId"], "ORD-2");
    let outlets = admin.done(Method::GET, "/merchants/m/outlets", Value::Null, 200).await;
    let seen = outlets.as_array().unwrap().iter().filter(|outlet| outlet["posLastSeenAt"].is_string()).count();
    assert_eq!(seen, 1, "commits touch it: {outlets}");

    assert_eq!(admin.done(Method::POST, "/merchants/m/outbox/pause", Value::Null, 201).await, json!({ "ok": true }));
    shop.buy("earn", "C-42", "ORD-3", 1_000).await;
    let waiting = "/merchants/m/outbox?status=PENDING&type=loyalty.committed";
    let waits = async || admin.done(Method::GET, waiting, Value::Null, 200).await;
    until("the webhook of ORD-3 waits", async || waits().await[0]["payload"]["orderId"] == "ORD-3").await;
    let waits = waits().await;
    let row = waits[0]["id"].as_str().unwrap();
    let retried = admin.done(Method::POST, &format!("/merchants/m/outbox/{row}/retry"), Value::Null, 201).await;
    assert_eq!(retried, json!({ "ok": true }), "it waits already");
    let all = admin.done(Method::POST, "/merchants/m/outbox/retryAll", Value::Null, 201).await;
    assert_eq!(all, json!({ "ok": true, "updated": 0 }));
    let since = admin.done(Method::POST, "/merchants/m/outbox/retrySince", json!({ "since": "2020-01-01T00:00:00Z" }), 201).await;
    assert_eq!(since["updated"], 0);
    admin.done(Method::POST, "/merchants/m/outbox/resume", Value::Null, 201).await;
    committed("ORD-3").await;
    let stats = admin.done(Method::GET, "/merchants/m/outbox/stats", Value::Null, 200).await;
    assert!(stats["counts"].is_object() && stats["lastDeadAt"].is_null(), "{stats}");
    let gone = admin.done(Method::PUT, at, with(json!({ "webhookUrl": "" })), 200).await;
    assert_eq!((&gone["webhookUrl"], &gone["webhookSecretIssued"]), (&Value::Null, &json!(false)));
}
