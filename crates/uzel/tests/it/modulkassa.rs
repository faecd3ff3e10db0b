//! ModulKassa: callbacks that are hints, documents that are asked for, associations, and how a till is.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::world::{KEY, World, setup};

const PAIR: &str = "7c9e6679-7425-40de-944b-e07fc1f90ae7:pw-1-Test";
const POINT: &str = "5b1c2a3d-0000-4000-8000-00000000aa01";

pub(crate) fn settings(sandbox: &str) -> Value {
    json!({ "base_url": format!("{sandbox}/modulkassa/api/fn"), "orders_url": format!("{sandbox}/modulkassa/api"),
        "api_key": PAIR, "retail_point_id": POINT, "orders_login": "orders@example.com", "orders_password": "orders-pass",
        "callback_secret": "cb_test_secret" })
}

/// A hub with a connection `till` to ModulKassa, and a flow that asks each guest for a review.
async fn world(more: Value) -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let sandbox = world.sandbox.url();
    let mut setup = setup(&sandbox, &json!({}));
    let mut settings = settings(&sandbox);
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let till = json!({ "merchant": "m", "outlet": "o", "slug": "till", "provider": "modulkassa", "webhook_keys": [KEY], "settings": settings });
    setup["connection"].as_array_mut().unwrap().push(till);
    world.apply(&setup).await;
    world
}

/// A document as a shop sends it, printed now.
fn document(id: &str, kind: &str, sum: f64, more: Value) -> Value {
    // Whole seconds: what was closed before the connection was set up is history.
    let at = Timestamp::now().checked_add(SignedDuration::from_secs(2)).unwrap();
    let at = at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string();
    let mut document = json!({ "id": id, "docNum": id, "docType": kind, "email": "+79990000042", "printed_at": at,
        "moneyPositions": [{ "paymentType": "CARD", "sum": sum }] });
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    document
}

async fn holds(world: &World, documents: &[Value]) {
    world.control("modulkassa/documents", &json!(documents)).await;
}

/// Has the stand-in call back; gives the hub's answer.
async fn called_back(world: &World, mut options: Value) -> Value {
    options["url"] = json!(format!("{}/hooks/till", world.hub.url()));
    world.told_by("modulkassa", "callback", &options).await
}

/// The same with the hub's key.
async fn with_key(world: &World, document: &str, more: Value) {
    let mut pairs = more;
    pairs["key"] = json!(KEY);
    let answer = called_back(world, json!({ "document": document, "token": null, "more": pairs })).await;
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!(r#"{"ok":true}"#)));
}

async fn events(world: &World) -> Vec<Value> {
    let rows = world.api("/api/v1/journal?provider=modulkassa&limit=1000").await;
    let mut events = Vec::new();
    for row in rows.as_array().unwrap().iter().rev().filter(|row| row["direction"] == "IN") {
        let entry = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await;
        assert!(!entry.to_string().contains("pw-"), "{entry}");
        events.extend(entry["events"].as_array().unwrap().clone());
    }
    events
}

async fn keys(world: &World) -> Vec<String> {
    events(world).await.iter().map(|event| event["key"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_makes_the_hub_ask_and_what_it_is_told_becomes_one_event_with_sum_and_phone() {
    let world = world(json!({})).await;
    holds(&world, &[document("D-1", "SALE", 400.5, json!({}))]).await;
    let order = world.shown("modulkassa/orders").await[0]["id"].clone();
    let more = json!({ "order": "ORD-1", "customer": "C-42", "hold": "hold-7", "tillOrder": order });
    for _ in 0..3 {
        with_key(&world, "D-1", more.clone()).await;
    }
    world.quiet().await;
    let events = events(&world).await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&event["kind"], &event["key"]), (&json!("order.completed"), &json!("order/ORD-1/completed")));
    for (name, wanted) in [
        ("order_id", json!("ORD-1")),
        ("document_id", json!("D-1")),
        ("sum_minor", json!(40_050)),
        ("eligible_sum_minor", json!(40_050)),
        ("currency", json!("RUB")),
        ("customer", json!("C-42")),
        ("hold_id", json!("hold-7")),
        ("receipt_number", json!("63")),
        ("fiscal_sign_code", json!("3705514822")),
    ] {
        assert_eq!(event["data"][name], wanted, "{name}: {event}");
    }
    assert_eq!(world.texts().await, [("79990000042".to_owned(), "Тестова Анна: Кафе".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_return_takes_back_of_the_order_that_its_callback_names() {
    let world = world(json!({})).await;
    let number = json!({ "sum_as_number": true });
    holds(
        &world,
        &[
            document("D-1", "SALE", 400.5, json!({})),
            document("D-2", "RETURN", 120.1, number),
            document("D-3", "BUY", 1.0, json!({})),
        ],
    )
    .await;
    with_key(&world, "D-2", json!({ "order": "D-1" })).await;
    world.quiet().await;
    with_key(&world, "D-1", json!({})).await;
    with_key(&world, "D-2", json!({})).await;
    with_key(&world, "D-3", json!({})).await;
    world.quiet().await;
    let events = events(&world).await;
    assert_eq!(keys(&world).await, ["order/D-1/refunded/D-2", "order/D-1/completed"]);
    assert_eq!((&events[0]["kind"], &events[0]["data"]["sum_minor"]), (&json!("order.refunded"), &json!(12_010)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_proves_its_own_document_and_nothing_else() {
    let world = world(json!({})).await;
    holds(&world, &[document("D-1", "SALE", 1.0, json!({})), document("D-2", "SALE", 1.0, json!({}))]).await;
    let of_another = "7d8b014dba8ec3353bf149508430f3650f030a48074e56b2fd4c306e5865d92e";
    for (what, options) in [
        ("no token", json!({ "document": "D-1", "token": null })),
        ("an empty one", json!({ "document": "D-1", "token": "" })),
        ("another document's", json!({ "document": "D-1", "token": of_another })),
        ("a key that is none", json!({ "document": "D-1", "token": null, "more": { "key": "wrong" } })),
        ("no document", json!({ "document": "" })),
    ] {
        assert_eq!(called_back(&world, options).await["status"], 401, "{what}");
    }
    assert_eq!(
        called_back(&world, json!({ "document": "D-1", "more": { "order": "ORD-9", "customer": "C-666", "status": "FAILED" } }))
            .await["status"],
        200
    );
    assert_eq!(
        called_back(&world, json!({ "document": "D-2", "method": "POST", "body": "status=SUCCESS&qr=t%3D1&docId=D-1" })).await["status"],
        200
    );
    world.quiet().await;
    // What stands beside the id is believed to nobody who has the token only.
    let mut keys = keys(&world).await;
    keys.sort();
    assert_eq!(keys, ["order/D-1/completed", "order/D-2/completed"]);
    assert!(events(&world).await.iter().all(|event| event["data"]["customer"].is_null()));
    assert_eq!(world.web.put(format!("{}/hooks/till?key={KEY}", world.hub.url())).send().await.unwrap().status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_nonsense_harm_nothing_and_an_unknown_document_causes_nothing() {
    let world = world(json!({})).await;
    holds(&world, &[document("7", "SALE", 1.0, json!({}))]).await;
    let post = async |kind: &str, body: &str| {
        let url = format!("{}/api/webhook/modulkassa?key={KEY}", world.hub.url());
        world.web.post(url).header("content-type", kind).body(body.to_owned()).send().await.unwrap().status()
    };
    let dead = ["", " ", "{", "7", "[]", "null", "<html>", r#"{"docId":"../../v1/associate"}"#, r#"{"docId":"a b"}"#];
    for body in dead {
        assert_eq!(post("application/json", body).await, 200, "{body}");
    }
    world.quiet().await;
    assert_eq!(
        world.api("/api/v1/journal?provider=modulkassa&status=dead&limit=1000").await.as_array().unwrap().len(),
        dead.len()
    );
    for body in [r#"{"event":"payment.succeeded","id":"mk-1"}"#, r#"{"event":"x"}"#, r#"{"docId":["D-1"]}"#, r#"{"docId":null}"#]
    {
        assert_eq!(post("application/json", body).await, 200, "{body}");
    }
    assert_eq!(post("application/x-www-form-urlencoded", "a&b=&=c").await, 200);
    world.quiet().await;
    assert_eq!(keys(&world).await, [] as [&str; 0]);
    // An id as a number.
    assert_eq!(post("application/json", r#"{"doc_id":7}"#).await, 200);
    world.quiet().await;
    assert_eq!(keys(&world).await, ["order/7/completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_asked_for_until_it_is_printed_and_one_that_failed_causes_nothing() {
    let world = world(json!({})).await;
    world.control("modulkassa/settings", &json!({ "step_s": 1 })).await;
    let now = Timestamp::now().as_second();
    let failed = document("D-2", "SALE", 1.0, json!({ "failure": "FN_EXPIRED" }));
    holds(&world, &[document("D-1", "SALE", 1.0, json!({ "taken_at": now })), failed]).await;
    with_key(&world, "D-1", json!({})).await;
    with_key(&world, "D-2", json!({})).await;
    world.in_steps(SignedDuration::from_secs(6), "the printed document", async || keys(&world).await.len() == 1).await;
    let faults = [
        json!({ "kind": "rate_limit", "calls": 1 }),
        json!({ "kind": "status", "status": 500, "calls": 1 }),
        json!({ "kind": "status", "status": 503, "calls": 1 }),
        json!({ "kind": "garbage", "calls": 1 }),
        json!({ "kind": "cut_after", "calls": 1 }),
    ];
    for (place, fault) in faults.iter().enumerate() {
        let id = format!("F-{place}");
        holds(&world, &[document(&id, "SALE", 1.0, json!({}))]).await;
        world.control("modulkassa/faults", fault).await;
        with_key(&world, &id, json!({})).await;
        world.in_steps(SignedDuration::from_secs(31), "the document", async || keys(&world).await.len() == place + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_associates_once_and_does_not_take_a_lost_association_back_by_itself() {
    let world = world(json!({ "api_key": null, "login": "shop-login@example.com", "password": "lk-pass" })).await;
    holds(
        &world,
        &[
            document("D-1", "SALE", 1.0, json!({})),
            document("D-2", "SALE", 1.0, json!({})),
            document("D-3", "SALE", 1.0, json!({})),
        ],
    )
    .await;
    with_key(&world, "D-1", json!({})).await;
    with_key(&world, "D-2", json!({})).await;
    world.quiet().await;
    assert_eq!(keys(&world).await.len(), 2);
    let associations = async || world.calls("modulkassa", "/api/fn/v1/associate/").await.len();
    assert_eq!(associations().await, 1);
    world.control("modulkassa/faults", &json!({ "kind": "token_expiry", "calls": 1 })).await;
    with_key(&world, "D-3", json!({})).await;
    crate::world::until("a notice", async || !world.notices("unauthorized").await.is_empty()).await;
    assert_eq!((associations().await, keys(&world).await.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_till_is_shows_in_the_check_of_the_connection() {
    let world = world(json!({})).await;
    let id = world.link("till").await["id"].as_str().unwrap().to_owned();
    let check = async || world.api(&format!("/api/v1/connections/{id}/health")).await.to_string();
    assert!(check().await.contains("all is well"), "{}", check().await);
    for (settings, said) in [
        (json!({ "silent_s": 3_600 }), "has not reported since"),
        (json!({ "silent_s": 0, "till_state": "ASSOCIATED" }), "never reported"),
        (json!({ "till_state": "FAILED" }), "cannot be read"),
        (json!({ "till_state": "DISABLED" }), "switched off"),
    ] {
        world.control("modulkassa/settings", &settings).await;
        let told = check().await;
        assert!(told.contains(said), "{told}");
    }
}
