//! Connections that are pointed elsewhere: what was made for the old place never goes to the new one.

use serde_json::{Value, json};
use uzel_engine::setup::Leniency;
use uzel_model::Id;
use uzel_sandbox::Sandbox;
use uzel_store::Change;

use crate::{
    oauth,
    world::{World, anywhere, setup, until},
};

/// The setup with the amoCRM connection at this stand-in.
fn at(world: &World, amocrm: &Sandbox) -> Value {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][3]["settings"] = oauth::settings(&amocrm.url());
    setup
}

async fn id(world: &World, slug: &str) -> Id {
    world.link(slug).await["id"].as_str().unwrap().parse().unwrap()
}

async fn has_login(world: &World) -> bool {
    world.hub.engine.store.session(id(world, "amocrm").await).await.unwrap().is_some()
}

/// All that another stand-in was told by the hub.
async fn told(world: &World, other: &Sandbox) -> String {
    world.web.get(format!("{}/_sandbox/amocrm/calls", other.url())).send().await.unwrap().text().await.unwrap()
}

/// What applying a setup would end, of the connections that it ends something of.
async fn ends(world: &World, setup: &Value) -> Vec<(String, Vec<String>)> {
    let plan = world.hub.engine.plan(setup, Leniency { short_keys: true }).await.unwrap().unwrap();
    let differences = plan.differences.into_iter().filter(|difference| !difference.ends.is_empty());
    differences.map(|difference| (difference.name, difference.ends)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_does_not_follow_a_connection_to_another_host() {
    let world = oauth::authorized().await;
    oauth::deal(&world, 9001).await;
    oauth::won(&world, 9001).await;
    world.quiet().await;
    let token = world.calls("amocrm", "/api/v4/leads").await[0]["headers"]["authorization"].as_str().unwrap().to_owned();
    let other = Sandbox::start(anywhere()).await.unwrap();
    let moved = at(&world, &other);
    assert_eq!(ends(&world, &moved).await, [("amocrm".to_owned(), vec!["login".to_owned()])]);
    assert!(has_login(&world).await, "a look changes nothing");
    world.apply(&moved).await;
    assert!(!has_login(&world).await);
    oauth::won(&world, 9002).await;
    until("the want of a login to be told", async || world.notices("unauthorized").await.len() == 1).await;
    let calls = told(&world, &other).await;
    assert!(!calls.contains(token.strip_prefix("Bearer ").unwrap()), "{calls}");
    // Whoever may log in at the new place does so.
    oauth::log_in(&world, "code-of-the-new-place").await;
    assert!(has_login(&world).await && told(&world, &other).await.contains("code-of-the-new-place"));
    assert_eq!(ends(&world, &moved).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_being_renewed_ends_with_the_move() {
    let world = oauth::authorized().await;
    world.pass(25 * 60);
    let slow = json!({ "kind": "latency", "latency_ms": 700, "path": "/oauth2/access_token" });
    world.control("amocrm/faults", &slow).await;
    oauth::deal(&world, 9001).await;
    oauth::won(&world, 9001).await;
    until("the renewal", async || world.calls("amocrm", "/oauth2/access_token").await.len() == 2).await;
    let other = Sandbox::start(anywhere()).await.unwrap();
    world.apply(&at(&world, &other)).await;
    until("the want of a login to be told", async || {
        world.pass(1);
        world.notices("unauthorized").await.len() == 1
    })
    .await;
    assert!(!has_login(&world).await, "what the renewal brought is void too");
    let calls = told(&world, &other).await;
    assert!(!calls.contains("Bearer") && !calls.contains("refresh_token"), "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_the_new_setup_does_not_give_do_not_follow() {
    let world = oauth::authorized().await;
    let other = Sandbox::start(anywhere()).await.unwrap();
    let mut moved = at(&world, &other);
    moved["connection"][3]["settings"].as_object_mut().unwrap().remove("client_secret");
    world.apply(&moved).await;
    let connection = id(&world, "amocrm").await;
    let rows = world.hub.engine.store.setup().await.unwrap().rows;
    assert_eq!(rows.into_iter().find(|row| row.id == connection).unwrap().sealed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_in_a_list_goes_with_another_provider_and_stays_with_another_setting() {
    let world = World::new(json!({})).await;
    let store = &world.hub.engine.store;
    let connection = id(&world, "yclients").await;
    store.put_session(connection, vec![1]).await.unwrap();
    store
        .apply(Change {
            cursor: Some(uzel_store::Cursor { connection, was: None, next: "page 7".to_owned() }),
            ..Change::default()
        })
        .await
        .unwrap();
    let kept = async || (store.session(connection).await.unwrap(), store.cursor(connection).await.unwrap());
    let mut changed = setup(&world.sandbox.url(), &json!({}));
    let before = kept().await;
    changed["connection"][2]["settings"] = json!({ "poll_every_s": 60, "time_zone": "Europe/Moscow" });
    assert_eq!(ends(&world, &changed).await, []);
    world.apply(&changed).await;
    assert_eq!(kept().await, before);
    changed["connection"][2]["settings"] = json!({ "base_url": world.sandbox.url() });
    world.apply(&changed).await;
    assert_eq!(kept().await, (None, before.1), "at another address the same records are read on");
    changed["connection"][2]["provider"] = json!("iiko");
    changed["connection"][2]["settings"] = json!({});
    changed["connection"][2]["webhook_keys"] = json!([]);
    assert_eq!(ends(&world, &changed).await, [("yclients".to_owned(), vec!["login".to_owned(), "cursor".to_owned()])]);
    world.apply(&changed).await;
    assert_eq!(kept().await, (None, None));
}
