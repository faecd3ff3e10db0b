//! Evotor: receipts and documents in all their shapes, refunds before their sales, tokens, a cloud that is behind or ill.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::world::{KEY, World, setup};

const CLOUD_TOKEN: &str = "0d7e6c1a-2b3c-4d5e-8f90-a1b2c3d4e5f6";
const APPLICATION_TOKEN: &str = "3f1c0de2-6a50-4f0a-9a58-1f2e3d4c5b6a";
const USER_TOKEN: &str = "usr-7d9c1f0b2a5e48d1a0c3";
const STORE: &str = "20251001-5A12-403A-80F6-75C361356826";
const DEVICE: &str = "20251001-D58C-40E0-8051-B53ADFF38860";

pub(crate) fn settings(sandbox: &str) -> Value {
    json!({ "base_url": format!("{sandbox}/evotor"), "user_id": "01-000000000000042", "application_token": APPLICATION_TOKEN,
        "user_token": USER_TOKEN, "cloud_token": CLOUD_TOKEN })
}

/// A hub with a connection `till` to Evotor, and a flow that asks each guest for a review.
async fn world(more: Value) -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let sandbox = world.sandbox.url();
    let mut setup = setup(&sandbox, &json!({}));
    let mut till = json!({ "merchant": "m", "outlet": "o", "slug": "till", "provider": "evotor", "webhook_keys": [KEY],
        "settings": settings(&sandbox) });
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "settings" => till["settings"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
            _ => till[name] = value.clone(),
        }
    }
    till["settings"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    setup["connection"].as_array_mut().unwrap().push(till);
    world.apply(&setup).await;
    world
}

/// A document as the cloud keeps it, closed now.
fn document(id: &str, kind: &str, more: Value) -> Value {
    // Whole seconds: what was closed before the connection was set up is history.
    let at = Timestamp::now().checked_add(SignedDuration::from_secs(2)).unwrap();
    let at = at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string();
    let mut body = json!({ "positions": [{ "product_id": "P-1", "product_name": "Чай", "quantity": 2, "result_sum": 400.5 }],
        "pos_print_results": [{ "fiscal_document_number": 63, "kkt_reg_number": "0000000000012345", "fiscal_sign_doc_number": "3705514822" }],
        "sum": 420.5, "result_sum": 400.5, "customer_phone": "+79990000042" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let extras = body.as_object_mut().unwrap().remove("extras").unwrap_or_else(|| json!({}));
    json!({ "type": kind, "id": id, "extras": extras, "number": 1007, "close_date": at, "time_zone_offset": 10_800_000, "session_number": 12,
        "close_user_id": "U-1", "device_id": DEVICE, "store_id": STORE, "user_id": "01-000000000000042", "body": body, "version": "V2" })
}

fn refund(id: &str, of: &str, sum: f64) -> Value {
    document(id, "PAYBACK", json!({ "base_document_id": of, "result_sum": sum }))
}

async fn holds(world: &World, documents: &[Value]) {
    world.control("evotor/documents", &json!(documents)).await;
}

/// Has the stand-in tell of a document; gives the status of the hub's answer.
async fn told(world: &World, options: Value) -> Value {
    let mut options = options;
    options["url"] = json!(format!("{}/hooks/till/api/v2/receipts", world.hub.url()));
    world.told_by("evotor", "webhook", &options).await["status"].take()
}

/// All events of the till with their data, by the entries that they were read from, oldest first.
async fn events(world: &World) -> Vec<Value> {
    let rows = world.api("/api/v1/journal?provider=evotor&limit=1000").await;
    let mut events = Vec::new();
    for row in rows.as_array().unwrap().iter().rev().filter(|row| row["direction"] == "IN") {
        let entry = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await;
        assert!(!entry.to_string().contains(CLOUD_TOKEN) && !entry.to_string().contains(USER_TOKEN), "{entry}");
        events.extend(entry["events"].as_array().unwrap().clone());
    }
    events
}

/// Kind and key of each.
async fn keys(world: &World) -> Vec<(String, String)> {
    let text = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    events(world).await.iter().map(|event| (text(event, "kind"), text(event, "key"))).collect()
}

fn pairs(wanted: &[(&str, &str)]) -> Vec<(String, String)> {
    wanted.iter().map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sale_that_comes_in_every_shape_and_twice_is_one_event_with_its_sums() {
    let world = world(json!({})).await;
    let extras = json!({ "c0d01a35": { "holdId": "hold-7", "customerId": "C-42" } });
    holds(&world, &[document("DOC-a", "SELL", json!({ "extras": extras }))]).await;
    for shape in ["receipt", "v2", "v1", "receipt", "v1"] {
        assert_eq!(told(&world, json!({ "id": "DOC-a", "as": shape })).await, 200, "{shape}");
        world.quiet().await;
    }
    let events = events(&world).await;
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(
        (&event["kind"], &event["key"], &event["subject"]),
        (&json!("order.completed"), &json!("order/DOC-a/completed"), &json!("order/DOC-a"))
    );
    for (name, wanted) in [
        ("order_id", json!("DOC-a")),
        ("sum", json!("400.5")),
        ("sum_minor", json!(40_050)),
        ("eligible_sum_minor", json!(40_050)),
        ("currency", json!("RUB")),
        ("customer", json!("C-42")),
        ("hold_id", json!("hold-7")),
        ("store_id", json!(STORE)),
        ("device_id", json!(DEVICE)),
        ("receipt_number", json!("63")),
        ("number", json!("1007")),
    ] {
        assert_eq!(event["data"][name], wanted, "{name}: {event}");
    }
    assert_eq!(world.texts().await, [("79990000042".to_owned(), "Hello: Кафе".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_comes_before_its_sale_tells_the_sale_first_and_names_it() {
    let world = world(json!({})).await;
    holds(&world, &[document("S-1", "SELL", json!({})), refund("R-1", "S-1", 100.25), refund("R-2", "S-1", 0.01)]).await;
    for (id, shape) in [("R-1", "receipt"), ("R-1", "v2"), ("R-1", "v1"), ("S-1", "receipt"), ("R-2", "v1"), ("R-2", "v1")] {
        assert_eq!(told(&world, json!({ "id": id, "as": shape })).await, 200);
        world.quiet().await;
    }
    let wanted = [
        ("order.completed", "order/S-1/completed"),
        ("order.refunded", "order/S-1/refunded/R-1"),
        ("order.refunded", "order/S-1/refunded/R-2"),
    ];
    assert_eq!(keys(&world).await, pairs(&wanted));
    let events = events(&world).await;
    assert_eq!((&events[1]["data"]["order_id"], &events[1]["data"]["sum_minor"]), (&json!("S-1"), &json!(10_025)));
    assert_eq!((&events[2]["data"]["sum_minor"], &events[1]["subject"]), (&json!(1), &json!("order/S-1")));
    // A refund of a sale that the cloud does not know is told alone, and one that names no sale takes nothing back.
    holds(&world, &[refund("R-3", "S-9", 5.0), document("R-4", "PAYBACK", json!({}))]).await;
    told(&world, json!({ "id": "R-3" })).await;
    told(&world, json!({ "id": "R-4" })).await;
    world.quiet().await;
    assert_eq!(keys(&world).await[3..], pairs(&[("order.refunded", "order/S-9/refunded/R-3")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whoever_brings_a_right_token_is_let_in() {
    let world = world(json!({ "settings": { "login": "shop1", "password": "not-a-real-one" } })).await;
    holds(&world, &[document("S-1", "SELL", json!({}))]).await;
    for (what, options, wanted) in [
        ("no token", json!({ "token": null }), 401),
        ("an empty one", json!({ "token": "" }), 401),
        ("another one", json!({ "token": "usr-other" }), 401),
        ("the beginning of one", json!({ "token": &USER_TOKEN[..10] }), 401),
        ("the cloud's", json!({ "token": CLOUD_TOKEN }), 401),
        ("the user's", json!({}), 200),
        ("the user's, bare", json!({ "scheme": "" }), 200),
        ("the user's, in lower case", json!({ "scheme": "bearer" }), 200),
        ("the application's", json!({ "token": APPLICATION_TOKEN, "scheme": "Basic" }), 200),
        ("login and password", json!({ "token": "c2hvcDE6bm90LWEtcmVhbC1vbmU=", "scheme": "Basic" }), 200),
        ("the hub's key", json!({ "token": KEY }), 200),
    ] {
        assert_eq!(told(&world, options).await, wanted, "{what}");
    }
    world.quiet().await;
    assert_eq!(keys(&world).await, pairs(&[("order.completed", "order/S-1/completed")]));
    let url = format!("{}/hooks/till/documents", world.hub.url());
    let answer = world.web.put(&url).bearer_auth("other").body("{}").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (401, r#"{"errors":[{"code":1002}]}"#.to_owned()));
    assert_eq!(world.web.get(&url).bearer_auth(USER_TOKEN).send().await.unwrap().status(), 405);
    // Another user's receipts are left out.
    told(&world, json!({ "more": { "userId": "01-000000000000043" } })).await;
    world.quiet().await;
    assert!(world.newest("evotor").await["notes"].to_string().contains("another user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_and_the_cloud_s_token_is_kept_and_never_journalled() {
    let settings = json!({ "cloud_token": null, "login": "shop1", "password": "not-a-real-one" });
    let world = world(json!({ "settings": settings })).await;
    let asked = async |what: &str, more: Value| {
        let url = format!("{}/hooks/till/api/v1/user/{what}", world.hub.url());
        let mut options = json!({ "what": what, "url": url });
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = world.told_by("evotor", "login", &options).await;
        (answer["status"].as_u64().unwrap(), serde_json::from_str::<Value>(answer["body"].as_str().unwrap()).unwrap_or_default())
    };
    let logged_in = json!({ "userId": "01-000000000000042", "token": USER_TOKEN });
    assert_eq!(asked("create", json!({})).await, (200, logged_in.clone()));
    let mut verified = logged_in.clone();
    verified["hasBilling"] = json!(false);
    assert_eq!(asked("verify", json!({})).await, (200, verified));
    let code = |code: u32| json!({ "errors": [{ "code": code }] });
    assert_eq!(asked("verify", json!({ "more": { "password": "wrong" } })).await, (401, code(1006)));
    assert_eq!(asked("verify", json!({ "more": { "userId": "01-000000000000043" } })).await, (409, code(2004)));
    assert_eq!(asked("create", json!({ "more": { "userId": null } })).await.0, 400);
    let older = json!({ "more": { "userId": null, "userUuid": "01-000000000000042" } });
    assert_eq!(asked("create", older).await.1["userUuid"], "01-000000000000042");
    // Whoever has a user's token only asks nothing in the name of the application.
    for what in ["create", "verify", "token"] {
        assert_eq!(asked(what, json!({ "token": USER_TOKEN })).await, (401, code(1001)), "{what}");
    }
    // Without the cloud's token nothing can be asked; when it has come, what waits is told.
    holds(&world, &[document("S-1", "SELL", json!({}))]).await;
    told(&world, json!({ "id": "S-1" })).await;
    crate::world::until("the receipt to be read", async || {
        world.commands("waiting").await + world.commands("sending").await == 1
    })
    .await;
    assert_eq!(asked("token", json!({})).await.0, 200);
    world.in_steps(SignedDuration::from_mins(1), "the document", async || keys(&world).await.len() == 1).await;
    let journal = world.api("/api/v1/journal?provider=evotor&limit=1000").await;
    for row in journal.as_array().unwrap() {
        let entry = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await.to_string();
        assert!(!entry.contains(CLOUD_TOKEN) && !entry.contains(USER_TOKEN) && !entry.contains("not-a-real-one"), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_nonsense_harm_nothing_and_say_why() {
    let world = world(json!({})).await;
    let url = format!("{}/hooks/till/receipts", world.hub.url());
    let post =
        async |body: &str| world.web.put(&url).bearer_auth(USER_TOKEN).body(body.to_owned()).send().await.unwrap().status();
    for body in ["", " ", "{", "7", "null", "<html>", "\u{feff}", "a=b", "\"text\""] {
        assert_eq!(post(body).await, 200, "{body}");
    }
    world.quiet().await;
    let dead = world.api("/api/v1/journal?provider=evotor&status=dead&limit=1000").await.as_array().unwrap().len();
    assert_eq!(dead, 9);
    for body in [
        "{}",
        "[]",
        "[[],7,null]",
        r#"{"type":"SELL"}"#,
        r#"{"type":"SELL","body":[]}"#,
        r#"{"type":"SELL","body":{},"id":null}"#,
        r#"{"type":"SELL","transactions":[]}"#,
        r#"{"type":["SELL"]}"#,
        r#"{"type":"X_REPORT","body":{}}"#,
        r#"{"type":"ReceiptCreated","data":[]}"#,
        r#"{"type":"ReceiptCreated","data":{"type":"SELL","id":"S-1","infoCheck":true}}"#,
        r#"{"type":"ReceiptCreated","data":{"type":"BUY","id":"S-1"}}"#,
        r#"{"items":[{"id":"store"}]}"#,
        r#"{"told":"x","items":[{"type":"SELL","id":"S-7","body":{"result_sum":9}}]}"#,
        r#"{"type":"receipt.sell","data":{"uuid":"S-8","total":5}}"#,
    ] {
        assert_eq!(post(body).await, 200, "{body}");
        world.quiet().await;
        assert!(!world.newest("evotor").await["notes"].as_array().unwrap().is_empty(), "{body}");
    }
    assert!(keys(&world).await.is_empty());
    // Numbers as texts are read; ids that cannot stand in an address are not asked for, and told as they came.
    let odd = json!({ "type": "ReceiptCreated", "data": { "type": "SELL", "id": "../admin?x=1", "storeId": 7, "totalAmount": "12,345", "items": {} } });
    assert_eq!(post(&odd.to_string()).await, 200);
    world.quiet().await;
    let events = events(&world).await;
    assert_eq!((events.len(), &events[0]["data"]["sum_minor"], &events[0]["data"]["store_id"]), (1, &json!(1_235), &json!("7")));
    assert_eq!(world.calls("evotor", "/").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_keeps_the_cloud_from_answering_the_document_is_told_in_the_end() {
    let world = world(json!({})).await;
    let faults = [
        json!({ "kind": "rate_limit", "calls": 1 }),
        json!({ "kind": "status", "status": 500, "calls": 1 }),
        json!({ "kind": "status", "status": 503, "calls": 1 }),
        json!({ "kind": "garbage", "calls": 1 }),
        json!({ "kind": "cut_after", "calls": 1 }),
    ];
    for (place, fault) in faults.iter().enumerate() {
        let id = format!("S-{place}");
        holds(&world, &[document(&id, "SELL", json!({}))]).await;
        world.control("evotor/faults", fault).await;
        told(&world, json!({ "id": id })).await;
        world.in_steps(SignedDuration::from_secs(31), "the document", async || keys(&world).await.len() == place + 1).await;
    }
    // The cloud is behind its own webhooks.
    holds(&world, &[document("S-9", "SELL", json!({}))]).await;
    world.control("evotor/settings", &json!({ "reads_behind": 2 })).await;
    told(&world, json!({ "id": "S-9" })).await;
    world
        .in_steps(SignedDuration::from_secs(6), "the late document", async || keys(&world).await.len() == faults.len() + 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_no_webhook_told_of_are_polled_store_by_store_and_page_by_page() {
    let world = world(json!({ "poll": true, "settings": { "poll_every_s": 60 } })).await;
    world.control("evotor/settings", &json!({ "page_size": 2 })).await;
    world.control("evotor/stores", &json!([{ "id": STORE, "name": "A" }, { "id": "STORE-b", "name": "B" }])).await;
    world.in_time("the first turn", async || !world.calls("evotor", "/stores/STORE-b/documents").await.is_empty()).await;
    let at = |minutes: i64| {
        let at = world.clock.now().checked_add(SignedDuration::from_mins(minutes)).unwrap();
        at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
    };
    let mut documents: Vec<Value> = (0..5).map(|number| document(&format!("S-{number}"), "SELL", json!({}))).collect();
    documents.push(refund("R-1", "S-1", 1.0));
    documents[4]["store_id"] = json!("STORE-b");
    documents.iter_mut().enumerate().for_each(|(place, document)| document["close_date"] = json!(at(i64::from(place == 5))));
    holds(&world, &documents).await;
    world.in_time("the polled documents", async || keys(&world).await.len() == 6).await;
    told(&world, json!({ "id": "S-1" })).await;
    world.quiet().await;
    assert_eq!(keys(&world).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_tills_and_a_program_between_are_read_as_they_are_set_up() {
    let world = world(json!({ "settings": { "devices": [DEVICE], "stores": [STORE], "bridge_secret": "evo_test_secret", "cloud_token": null } })).await;
    let mut elsewhere = document("S-2", "SELL", json!({}));
    elsewhere["device_id"] = json!("another");
    holds(&world, &[document("S-1", "SELL", json!({})), elsewhere]).await;
    told(&world, json!({ "id": "S-1", "as": "v2" })).await;
    told(&world, json!({ "id": "S-2", "as": "v2" })).await;
    let url = format!("{}/hooks/till", world.hub.url());
    let passed_on = async |mut options: Value| {
        options["url"] = json!(url);
        world.told_by("evotor", "private", &options).await["status"].take()
    };
    let data = |more: Value| {
        let mut data =
            json!({ "uuid": "S-5", "total": "99.995", "deviceUuid": DEVICE, "storeUuid": STORE, "phone": "+79990000043" });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    assert_eq!(passed_on(json!({ "data": data(json!({})), "signature": "00" })).await, 401);
    assert_eq!(passed_on(json!({ "data": data(json!({})), "secret": "other" })).await, 401);
    assert_eq!(passed_on(json!({ "data": data(json!({})), "signature": null })).await, 401);
    assert_eq!(passed_on(json!({ "data": data(json!({})) })).await, 200);
    let back = data(json!({ "uuid": "R-5", "total": 10, "baseDocumentUUID": "S-5" }));
    assert_eq!(passed_on(json!({ "type": "receipt.payback", "data": back })).await, 200);
    assert_eq!(passed_on(json!({ "type": "shift.closed", "data": data(json!({})) })).await, 200);
    world.quiet().await;
    let wanted = [
        ("order.completed", "order/S-1/completed"),
        ("order.completed", "order/S-5/completed"),
        ("order.refunded", "order/S-5/refunded/R-5"),
    ];
    assert_eq!(keys(&world).await, pairs(&wanted));
    assert_eq!(events(&world).await[1]["data"]["sum_minor"], 10_000);
}
