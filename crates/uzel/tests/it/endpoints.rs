//! Endpoints: which events a merchant's software is told of, in which form and order, and how it knows that it is us.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::{Hub, Parts};
use uzel_engine::setup::Leniency;

use crate::{
    binary::Binary,
    commands,
    receiver::{Answer, Got, Receiver},
    world::{KEY, World, setup, until},
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a till tells of an order.
pub(crate) fn order(id: u32, status: &str, sum: &str) -> Value {
    json!({ "order": { "id": id, "status": status, "sum": sum, "customer": { "phone": "+79991234567", "name": "Иван" } } })
}

/// Merchant `m` with an endpoint `shop` that has these rules, and no flow.
pub(crate) async fn with_endpoint(world: &World, receiver: &Receiver, rules: Value) {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup.as_object_mut().unwrap().remove("flow");
    let mut endpoint = json!({ "merchant": "m", "slug": "shop", "url": receiver.url("/hooks"), "secret": SECRET });
    endpoint.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    setup["endpoint"] = json!([endpoint]);
    world.apply(&setup).await;
}

pub(crate) async fn told(rules: Value) -> (World, Receiver) {
    let world = World::bare(Parts::default(), |_| {}).await;
    let receiver = Receiver::start().await;
    with_endpoint(&world, &receiver, rules).await;
    (world, receiver)
}

pub(crate) async fn tell(world: &World, body: &Value) {
    assert_eq!(world.post("rkeeper", body).await.status(), 200);
}

pub(crate) async fn endpoint(world: &World) -> Value {
    world.api("/api/v1/endpoints/shop").await
}

pub(crate) async fn came(receiver: &Receiver, count: usize) -> Vec<Got> {
    until(&format!("{count} webhooks"), async || receiver.count() >= count).await;
    receiver.got()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_once_as_a_cloud_event_whose_signatures_are_good() {
    let (world, receiver) = told(json!({ "headers": { "Authorization": "Bearer of-the-shop" } })).await;
    tell(&world, &order(5001, "Completed", "1500.00")).await;
    tell(&world, &order(5001, "Completed", "1500.00")).await;
    let got = came(&receiver, 1).await.remove(0);
    world.quiet().await;
    assert_eq!(receiver.count(), 1, "the repeat of the till is no news");
    let event = got.json();
    assert_eq!(
        (&event["type"], &event["subject"], &event["merchant"]),
        (&json!("order.completed"), &json!("order/5001"), &json!("m"))
    );
    assert_eq!(event["data"]["person"]["phone"], "+79991234567");
    assert_eq!((got.header("webhook-id"), got.path.as_str()), (event["id"].as_str().unwrap(), "/hooks"));
    assert_eq!(got.header("content-type"), "application/cloudevents+json");
    assert_eq!(got.header("authorization"), "Bearer of-the-shop");
    let sent_s: i64 = got.header("webhook-timestamp").parse().unwrap();
    assert!((world.clock.now().as_second() - sent_s).abs() < 30);
    assert_eq!(got.signatures("v1"), [got.v1(SECRET)]);
    let key = endpoint(&world).await["keys"][0].clone();
    assert!(got.is_signed_by(key["public_key"].as_str().unwrap()));
    assert!(got.header("x-loyalty-signature").is_empty(), "no loyalty event");
    // The journal has it, and no secret.
    let rows = world.api("/api/v1/journal?endpoint=shop").await;
    assert_eq!(rows, world.api("/api/v1/journal?provider=endpoint").await);
    let row = &rows[0];
    assert_eq!(
        (&row["direction"], &row["state"], &row["integrationId"]),
        (&json!("OUT"), &json!("done"), &endpoint(&world).await["id"])
    );
    // Any id of it gives the road from the till to there.
    let timeline = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await;
    assert_eq!((&timeline["commands"][0]["job"]["job"], &timeline["commands"][0]["state"]), (&json!("deliver"), &json!("done")));
    assert_eq!(timeline["commands"][0]["connection"], endpoint(&world).await["id"]);
    let shown = format!("{rows}{timeline}{}", endpoint(&world).await);
    assert!(!shown.contains("of-the-shop") && !shown.contains(&SECRET[6..]), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_events_come_that_its_types_and_its_filter_want() {
    let rules = json!({ "events": ["order.*"], "filter": "event.kind == 'order.cancelled' || double(event.data.sum) > 500.0" });
    let (world, receiver) = told(rules).await;
    tell(&world, &order(1, "Completed", "100.00")).await;
    tell(&world, &order(2, "Completed", "900.00")).await;
    tell(&world, &order(3, "Cancelled", "1.00")).await;
    let visit = json!({ "id": 4, "visit_id": 4, "attendance": 1, "visit_attendance": 1, "client": { "phone": "+79991234567" } });
    let body = json!({ "company_id": 1, "resource": "record", "resource_id": 4, "status": "update", "data": visit });
    assert_eq!(world.post("yclients", &body).await.status(), 200);
    world.quiet().await;
    let mut subjects: Vec<String> = receiver.got().iter().map(Got::subject).collect();
    subjects.sort();
    assert_eq!(subjects, ["order/2", "order/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_makes_the_payload_its_receiver_wants() {
    let template =
        r#"{"nr": {{ event.refs[0] }}, "who": {{ event.name }}, "shop": {{ merchant }}, "table": {{ event.data.table }}}"#;
    let (world, receiver) = told(json!({ "template": template })).await;
    tell(&world, &order(7, "Completed", "10")).await;
    let got = came(&receiver, 1).await.remove(0);
    assert_eq!(got.json(), json!({ "nr": "7", "who": "Иван", "shop": "m", "table": null }));
    assert_eq!((got.header("content-type"), got.signatures("v1")), ("application/json", vec![got.v1(SECRET)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_subject_comes_in_order_and_a_subject_that_fails_holds_no_other() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer_next([Answer::Status(500, "")]);
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    tell(&world, &order(1, "Cancelled", "10")).await;
    tell(&world, &order(2, "Completed", "10")).await;
    let got = came(&receiver, 2).await;
    assert_eq!(got[1].subject(), "order/2");
    world.in_steps(SignedDuration::from_secs(6), "the rest", async || receiver.count() == 4).await;
    let kinds: Vec<Value> =
        receiver.got().iter().filter(|got| got.subject() == "order/1").map(|got| got.json()["type"].clone()).collect();
    assert_eq!(kinds, ["order.completed", "order.completed", "order.cancelled"], "what was cancelled is told all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_order_each_goes_as_soon_as_it_can() {
    let (world, receiver) = told(json!({ "order": "none" })).await;
    receiver.answer_next([Answer::Status(500, "")]);
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    tell(&world, &order(1, "Cancelled", "10")).await;
    let got = came(&receiver, 2).await;
    assert_eq!(got[1].json()["type"], "order.cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_keys_rotate_both_sign_and_then_only_the_new_one() {
    let (world, receiver) = told(json!({ "loyalty_signature": true })).await;
    let old = endpoint(&world).await["keys"][0]["id"].clone();
    let (status, new) = world.ask("/api/v1/endpoints/shop/rotate", &json!({ "overlap_s": 3_600 })).await;
    assert_eq!(status, 200, "{new}");
    let secret = new["secret"].as_str().unwrap();
    tell(&world, &order(1, "Completed", "10")).await;
    let got = came(&receiver, 1).await.remove(0);
    assert_eq!(got.signatures("v1"), [got.v1(secret), got.v1(SECRET)]);
    assert!(got.is_signed_by(new["public_key"].as_str().unwrap()));
    // One signature only has room here: the one that whoever has not changed yet can verify.
    assert_eq!(
        (got.header("x-loyalty-signature"), got.header("x-signature-key-id")),
        (got.loyalty(SECRET).as_str(), old.as_str().unwrap())
    );
    world.pass(61);
    tell(&world, &order(2, "Completed", "10")).await;
    let got = came(&receiver, 2).await.remove(1);
    assert_eq!((got.signatures("v1"), got.signatures("v1a").len()), (vec![got.v1(secret)], 1));
    assert_eq!(got.header("x-loyalty-signature"), got.loyalty(secret));
    assert_eq!(got.header("x-signature-key-id"), new["id"].as_str().unwrap());
    assert_eq!(endpoint(&world).await["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_comes_when_that_has_ended_with_what_was_found_or_without() {
    let (world, receiver) = told(json!({ "filter": "event.kind != 'deal.won' || has(event.data)" })).await;
    crate::oauth::deal(&world, 9001).await;
    world.control("amocrm/faults", &json!({ "kind": "latency", "latency_ms": 700, "path": "/api/v4/contacts" })).await;
    let url = format!("{}/api/webhook/amocrm?key={KEY}", world.hub.url());
    let won = async |id: u32| {
        let deal = format!("leads[status][0][id]={id}&leads[status][0][status_id]=142");
        let posted = world.web.post(&url).header("content-type", "application/x-www-form-urlencoded").body(deal);
        assert_eq!(posted.send().await.unwrap().status(), 200);
    };
    won(9001).await;
    until("the contact to be asked for", async || !world.calls("amocrm", "/api/v4/contacts").await.is_empty()).await;
    assert_eq!(receiver.count(), 0);
    let got = came(&receiver, 1).await.remove(0);
    assert!(got.json()["data"]["person"]["phone"].is_string(), "{}", got.json());
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 404 })).await;
    won(9002).await;
    let got = came(&receiver, 2).await.remove(1);
    assert_eq!((&got.json()["subject"], &got.json()["data"]["person"]["phone"]), (&json!("deal/9002"), &Value::Null));
    world.quiet().await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_sent_at_once_and_its_answer_is_told() {
    let (world, receiver) = told(json!({ "events": ["visit.completed"] })).await;
    let (_, outcome) = world.ask("/api/v1/endpoints/shop/test", &json!({})).await;
    assert_eq!((&outcome["delivered"], outcome["answer"].as_str().unwrap().trim()), (&json!(true), "204"));
    let got = receiver.got().remove(0);
    assert_eq!((&got.json()["type"], got.header("webhook-id")), (&json!("test.ping"), outcome["webhook_id"].as_str().unwrap()));
    assert_eq!(got.signatures("v1"), [got.v1(SECRET)]);
    receiver.answer(Answer::Status(418, ""));
    let (_, outcome) = world.ask("/api/v1/endpoints/shop/test", &json!({ "type": "loyalty.committed" })).await;
    assert_eq!((&outcome["delivered"], &outcome["error"]), (&json!(false), &json!("HTTP 418")));
    let got = receiver.got().remove(1);
    assert_eq!(got.header("x-loyalty-signature"), got.loyalty(SECRET));
    assert_eq!(got.header("x-event-id"), got.header("webhook-id"));
    let shown = world.api(&format!("/api/v1/journal/{}", outcome["exchange"].as_str().unwrap())).await;
    assert_eq!(shown["exchange"]["provider"], "endpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_kept() {
    let (world, receiver) = told(json!({ "rate": { "calls": 2, "period_s": 1 } })).await;
    for id in 0..6 {
        tell(&world, &order(id, "Completed", "10")).await;
    }
    let got = came(&receiver, 6).await;
    assert!(got[5].at - got[0].at >= Duration::from_millis(1_900), "six calls within {:?}", got[5].at - got[0].at);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_sets_endpoints_up_changes_and_removes_them() {
    let (world, receiver) = told(json!({})).await;
    let part = json!({ "merchant": "m", "slug": "crm", "url": receiver.url("/crm?token=of-the-crm"), "headers": { "X-Key": "of-the-header" } });
    let (status, made) = world.ask("/api/v1/endpoints", &part).await;
    assert_eq!((status, made["keys"][0]["secret"].as_str().unwrap().starts_with("whsec_")), (201, true));
    assert_eq!((&made["events"], &made["headers"]), (&json!(["*"]), &json!(["x-key"])));
    assert!(!made.to_string().contains("of-the-crm") && !made.to_string().contains("of-the-header"), "{made}");
    let (status, again) = world.ask("/api/v1/endpoints", &part).await;
    assert_eq!((status, &again["errors"][0]["pointer"]), (422, &json!("/slug")));
    let wrong = json!({ "merchant": "m", "slug": "x", "url": "ftp://x", "events": ["order.eaten"], "filter": "1 +", "template": "{{", "evnts": [] });
    let (_, problem) = world.ask("/api/v1/endpoints", &wrong).await;
    let mut pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/events/0", "/evnts", "/filter", "/template", "/url"], "{problem}");
    let key = world.hub.owner_key().unwrap();
    let at = |id: &str| format!("{}/api/v1/endpoints/{id}", world.hub.url());
    let change = async |patch: Value| -> Value {
        world.web.patch(at("crm")).bearer_auth(&key).json(&patch).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(change(json!({ "events": ["visit.*"], "paused": true })).await["headers"], json!(["x-key"]));
    // Another host must not get what was meant for this one.
    assert_eq!(change(json!({ "url": "https://elsewhere.example/" })).await["headers"], json!([]));
    let removed = world.web.delete(at("crm")).bearer_auth(&key).send().await.unwrap();
    assert_eq!(removed.status(), 204);
    assert_eq!(world.api("/api/v1/endpoints").await.as_array().unwrap().len(), 1);
    assert_eq!(world.ask("/api/v1/endpoints", &part).await.0, 201, "its name is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_tells_everything_at_least_once_under_the_same_ids() {
    let (mut binary, _sandbox) = commands::cafe().await;
    let receiver = Receiver::start().await;
    let file =
        format!("[[endpoint]]\nmerchant = \"cafe\"\nslug = \"shop\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n", receiver.url("/"));
    binary.write("endpoint.toml", &file);
    assert_eq!(binary.uzel(&["apply", "endpoint.toml"]).code, 0);
    // Nobody answers until the hub is killed: what was sent then is sent again.
    receiver.answer(Answer::After(Duration::from_secs(20)));
    for id in 0..30 {
        commands::post(&binary, "rkeeper", &order(id, "Completed", "10").to_string()).await;
    }
    came(&receiver, 5).await;
    binary.signal("-KILL");
    let before: Vec<(String, String)> =
        receiver.got().iter().map(|got| (got.subject(), got.header("webhook-id").to_owned())).collect();
    receiver.answer(Answer::Status(204, ""));
    binary.serve(&[]).await;
    until("every order", async || {
        let mut done: Vec<String> = receiver.got()[before.len()..].iter().map(Got::subject).collect();
        done.sort();
        done.dedup();
        done.len() == 30
    })
    .await;
    for (subject, id) in before {
        assert!(
            receiver.got().iter().filter(|got| got.subject() == subject).all(|got| got.header("webhook-id") == id),
            "{subject}"
        );
    }
    assert_eq!(binary.uzel(&["fsck"]).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_tests_rotates_and_recovers() {
    let (binary, _sandbox): (Binary, _) = commands::cafe().await;
    let receiver = Receiver::start().await;
    binary.write(
        "endpoint.toml",
        &format!("[[endpoint]]\nmerchant = \"cafe\"\nslug = \"shop\"\nurl = \"{}\"\n", receiver.url("/")),
    );
    let applied = binary.uzel(&["apply", "endpoint.toml"]);
    assert!(applied.out.contains("signing secret of endpoint shop, shown this once: whsec_"), "{}", applied.out);
    assert!(!binary.uzel(&["apply", "endpoint.toml"]).out.contains("whsec_"));
    assert!(binary.uzel(&["endpoints", "list"]).out.contains("well"));
    let tested = binary.uzel(&["endpoints", "test", "shop"]);
    assert_eq!((tested.code, tested.out.starts_with("delivered")), (0, true), "{}{}", tested.out, tested.err);
    assert!(binary.uzel(&["endpoints", "rotate", "shop"]).out.contains("whsec_"));
    assert_eq!(binary.asked(&["endpoints", "show", "shop"])["keys"].as_array().unwrap().len(), 2);
    receiver.answer(Answer::Status(410, ""));
    commands::post(&binary, "rkeeper", &order(1, "Completed", "10").to_string()).await;
    until("it to be disabled", async || binary.uzel(&["endpoints", "list"]).out.contains("disabled")).await;
    receiver.answer(Answer::Status(200, ""));
    assert_eq!(binary.uzel(&["endpoints", "enable", "shop"]).code, 0);
    let day = Timestamp::now().strftime("%Y-%m-%d").to_string();
    assert!(binary.uzel(&["endpoints", "recover", "shop", "--since", &day]).out.starts_with("1 of 1 events queued again"));
    came(&receiver, 3).await;
    assert_eq!(binary.uzel(&["endpoints", "remove", "shop"]).code, 0);
    assert_eq!(binary.uzel(&["endpoints", "show", "shop"]).code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_one_node_sets_up_is_told_by_the_other() {
    let world = World::on_postgres().await;
    let receiver = Receiver::start().await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    let file = json!({ "endpoint": [{ "merchant": "m", "slug": "shop", "url": receiver.url("/"), "secret": SECRET }] });
    world.hub.apply(&file, Leniency::default()).await.unwrap();
    until("the other node to hear of it", async || other.engine.endpoint("shop", None).is_some()).await;
    for id in 0..20 {
        let url = format!("{}/api/webhook/rkeeper?key={KEY}", if id % 2 == 0 { world.hub.url() } else { other.url() });
        assert_eq!(world.web.post(url).json(&order(id, "Completed", "10")).send().await.unwrap().status(), 200);
    }
    world.quiet().await;
    assert_eq!(receiver.count(), 20);
    // What one node hears from the endpoint holds for both.
    receiver.answer(Answer::Status(410, ""));
    tell(&world, &order(99, "Completed", "10")).await;
    until("both to know it disabled", async || {
        let disabled = |hub: &Hub| hub.engine.endpoint("shop", None).unwrap().is_disabled();
        disabled(&world.hub) && disabled(&other)
    })
    .await;
    other.stop().await.unwrap();
}
