//! From a webhook to a review request, and what stands between.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::{World, until};

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_who_was_served_gets_one_text_however_often_it_is_told() {
    let world = World::new(json!({})).await;
    for _ in 0..3 {
        assert_eq!(world.post("rkeeper", &served(1, "8 999 123-45-67")).await.status(), 200);
    }
    world.quiet().await;
    assert_eq!(world.texts().await, [("79991234567".to_owned(), "Иван: Кафе".to_owned())]);
    let rows = world.api("/api/v1/journal?phone=%2B79991234567").await;
    assert!(rows.as_array().unwrap().iter().any(|row| row["direction"] == "OUT" && row["status"] == "ok"), "{rows}");
    let all = rows.to_string();
    assert!(!all.contains("79991234567") && !all.contains("A1B2C3D4"), "phones and secrets are masked: {all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_calls_its_text_off_and_a_guest_is_asked_once_in_n_days() {
    let world = World::new(json!({ "delay": "1h", "once_in_days": 14 })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Отменен", "customer": { "phone": "+79991110001" } } })).await;
    world.post("rkeeper", &served(2, "+79991110002")).await;
    world.post("rkeeper", &served(3, "+79991110002")).await;
    until("three commands", async || world.commands("waiting").await == 1 && world.commands("held").await == 2).await;
    assert!(world.texts().await.is_empty(), "nothing goes before its time");
    world.clock.advance(SignedDuration::from_mins(61));
    world.quiet().await;
    let phones: Vec<String> = world.texts().await.into_iter().map(|(phone, _)| phone).collect();
    assert_eq!(phones, ["79991110002"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_became_too_old_is_held_back() {
    let world = World::new(json!({ "delay": "1h", "latest": "24h" })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    until("the command", async || world.commands("waiting").await == 1).await;
    world.clock.advance(SignedDuration::from_hours(30));
    world.quiet().await;
    assert!(world.texts().await.is_empty());
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["too_old", 1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deal_without_a_phone_is_looked_up_by_calls_of_their_own() {
    let world = World::new(json!({})).await;
    world
        .control(
            "amocrm/leads",
            &json!([{ "id": 9001, "status_id": 142, "_embedded": { "contacts": [{ "id": 501, "is_main": true }] } }]),
        )
        .await;
    let values = json!([{ "value": "8 (999) 114-00-01", "enum_code": "MOB" }]);
    let contact = json!([{ "id": 501, "name": "Анна", "custom_fields_values": [{ "field_code": "PHONE", "values": values }] }]);
    world.control("amocrm/contacts", &contact).await;
    let body = "leads[status][0][id]=9001&leads[status][0][status_id]=142&account[id]=1";
    let url = format!("{}/api/webhook/amocrm?key={}", world.hub.url(), crate::world::KEY);
    let form = "application/x-www-form-urlencoded";
    assert_eq!(world.web.post(url).header("content-type", form).body(body).send().await.unwrap().status(), 200);
    world.quiet().await;
    assert_eq!(world.texts().await, [("79991140001".to_owned(), "Анна: Кафе".to_owned())]);
    assert_eq!(world.commands("done").await, 3, "the lead, the contact, the text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_gets_the_text_when_it_is_back() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "status", "status": 503, "calls": 3 })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_whose_answer_was_lost_is_unknown_and_not_sent_again() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "cut_after", "calls": 1 })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    world.quiet().await;
    assert_eq!((world.commands("unknown").await, world.texts().await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_answer_to_a_send_is_unknown() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "garbage", "calls": 1 })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    world.quiet().await;
    assert_eq!(world.commands("unknown").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_read_again_by_a_replay_and_nothing_is_sent_twice() {
    let world = World::new(json!({})).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    let url = format!("{}/api/webhook/rkeeper?key={}", world.hub.url(), crate::world::KEY);
    let answer = world.web.post(url).header("content-type", "application/json").body("{ no json").send().await.unwrap();
    assert_eq!(answer.status(), 200, "a verified request is answered as received");
    world.quiet().await;
    let replay = async |body: Value| -> Value {
        let url = format!("{}/api/v1/replay", world.hub.url());
        world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).json(&body).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(replay(json!({ "dead": true, "dry_run": true })).await["count"], 1);
    let again = replay(json!({ "dead": true })).await;
    assert!(again["outcomes"][0]["outcome"]["dead"].is_string(), "{again}");
    let rows = world.api("/api/v1/journal?status=read").await;
    let entry = rows[0]["id"].clone();
    assert_eq!(replay(json!({ "entry": entry })).await["outcomes"][0]["outcome"]["known_events"], 1);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
}
