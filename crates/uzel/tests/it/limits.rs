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
