//! What a provider limits: how often it is called, and which senders it takes.

use serde_json::{Value, json};
use uzel_engine::setup::Leniency;

use crate::world::{World, setup};

fn served(id: u32) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": format!("+7999111000{id}"), "name": "Иван" } } })
}

/// A world whose SMS.ru connection has these settings besides.
async fn world(more: Value) -> World {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.hub.apply(&setup, Leniency { short_keys: true }).await.unwrap();
    world
}

/// All commands that the journal knows of.
async fn commands(world: &World) -> Vec<Value> {
    let rows = world.api("/api/v1/journal?status=read").await;
    let mut commands = Vec::new();
    for row in rows.as_array().unwrap() {
        let whole = world.api(&format!("/api/v1/journal/{}", row["id"].as_str().unwrap())).await;
        commands.extend(whole["commands"].as_array().unwrap().clone());
    }
    commands
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_turn_is_far_comes_back_without_having_been_tried() {
    let world = world(json!({ "calls_per_s": 1 })).await;
    for id in 0..5 {
        world.post("rkeeper", &served(id)).await;
    }
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 5);
    for command in commands(&world).await {
        assert_eq!((&command["attempts"], command["exchanges"].as_array().unwrap().len()), (&json!(1), 1), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_goes_without_a_sender_that_the_operator_does_not_know_and_the_merchant_is_told() {
    let world = world(json!({ "from": "Kofeynya" })).await;
    world.control("smsru/settings", &json!({ "unregistered": { "Kofeynya": ["79991110001"] } })).await;
    world.post("rkeeper", &served(1)).await;
    world.post("rkeeper", &served(2)).await;
    world.quiet().await;
    let url = format!("{}/_sandbox/smsru/accepted", world.sandbox.url());
    let accepted: Vec<Value> = world.web.get(url).send().await.unwrap().json().await.unwrap();
    let mut from: Vec<(&str, &str)> =
        accepted.iter().map(|text| (text["to"].as_str().unwrap(), text["from"].as_str().unwrap())).collect();
    from.sort_unstable();
    assert_eq!(from, [("79991110001", ""), ("79991110002", "Kofeynya")]);
    let notices = world.api("/api/v1/notices").await;
    assert!(notices.as_array().unwrap().iter().any(|notice| notice["kind"] == "remark"), "{notices}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_price_of_a_text_is_told_and_nothing_is_sent() {
    let world = World::new(json!({})).await;
    let url = format!("{}/api/v1/connections/smsru/cost", world.hub.url());
    let ask = async |phone: &str| {
        let body = json!({ "phone": phone, "text": "Привет" });
        world.web.post(&url).bearer_auth(world.hub.owner_key().unwrap()).json(&body).send().await.unwrap()
    };
    let cost: Value = ask("8 999 111-00-01").await.json().await.unwrap();
    assert_eq!(cost, json!({ "cost": "3.20", "currency": "RUB", "segments": 1 }));
    assert_eq!(ask("12").await.status(), 400);
    assert!(world.texts().await.is_empty());
}
