//! Two hubs on one database.

use serde_json::{Value, json};
use uzel::hub::{Hub, Parts};

use crate::{
    logins,
    world::{KEY, World, setup, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_what_is_set_up_and_send_each_text_once() {
    let world = World::on_postgres().await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    let order =
        |id: u32| json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
    for id in 0..40 {
        // The repeat of an order comes to the other node.
        let mut urls = [world.hub.url(), other.url()];
        urls.rotate_left(id as usize % 2);
        for url in urls {
            let answer = world.web.post(format!("{url}/api/webhook/rkeeper?key={KEY}")).json(&order(id)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    }
    world.quiet().await;
    let mut texts = world.texts().await;
    texts.sort();
    texts.dedup();
    assert_eq!((texts.len(), world.texts().await.len()), (40, 40));
    // What is set up on one node is used by the other, without a start.
    let text = json!({ "text": "Changed: {{ name or 'guest' }}" });
    world.apply(&setup(&world.sandbox.url(), &text)).await;
    until("the other node to hear of it", async || {
        other.engine.world().flows.values().any(|flow| flow.doc.text.starts_with("Changed"))
    })
    .await;
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_master_key_does_not_start_and_harms_nothing() {
    let world = World::on_postgres().await;
    let mut settings = world.beside();
    settings.master_key_file = None;
    let error = format!("{:#}", Hub::start(&settings, Parts::default()).await.err().unwrap());
    assert!(error.contains("the master key is not the one that sealed what is stored"), "{error}");
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Completed", "customer": { "phone": "+79990000001" } } })).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_start_together_on_an_empty_database_one_makes_what_is_made_once() {
    let world = World::on_postgres().await;
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let node = |name: &str| {
        let mut settings = world.beside();
        settings.data = settings.data.join(name);
        settings.database = Some(uzel_model::Secret::new(url.clone()));
        settings
    };
    let (one, other) = (node("one"), node("other"));
    let (one, other) = tokio::join!(Hub::start(&one, Parts::default()), Hub::start(&other, Parts::default()));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!([one.owner_key().is_ok(), other.owner_key().is_ok()].iter().filter(|made| **made).count(), 1);
    assert_eq!(one.engine.world().merchants.len(), 1);
    one.stop().await.unwrap();
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_both_nodes_find_refused_is_renewed_by_one_of_them() {
    let world = World::on_postgres().await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
    world.apply(&setup).await;
    let orders: Vec<Value> = (0..60).map(|id| logins::order(id, &json!(format!("+7999333{id:04}")))).collect();
    world.control("iiko/orders", &json!(orders)).await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    let tell = async |hub: &Hub, ids: std::ops::Range<u32>| {
        let url = format!("{}/api/webhook/iiko?key={KEY}", hub.url());
        assert_eq!(world.web.post(url).json(&logins::told(ids)).send().await.unwrap().status(), 200);
    };
    // Both find no login yet, and then both find theirs refused.
    for (round, ids) in [(1, [0..15, 15..30]), (2, [30..45, 45..60])] {
        let [one, two] = ids;
        tokio::join!(tell(&world.hub, one), tell(&other, two));
        world.quiet().await;
        assert_eq!(world.shown("iiko/summary").await["tokens"], round);
        world.control("iiko/faults", &json!({ "kind": "token_expiry", "latency_ms": 300 })).await;
    }
    assert_eq!(world.texts().await.len(), 60);
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_together_keep_a_limit_that_one_would_keep() {
    const PER_S: usize = 10;
    let world = World::on_postgres().await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["calls_per_s"] = json!(PER_S);
    world.apply(&setup).await;
    let other = Hub::start(&world.beside(), Parts::default()).await.unwrap();
    for id in 0..50 {
        let order = json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
        let url = if id % 2 == 0 { world.hub.url() } else { other.url() };
        world.web.post(format!("{url}/api/webhook/rkeeper?key={KEY}")).json(&order).send().await.unwrap();
    }
    world.quiet().await;
    let calls = world.calls("smsru", "/sms/send").await;
    let mut at_ms: Vec<i64> = calls.iter().map(|call| call["at_ms"].as_i64().unwrap()).collect();
    at_ms.sort_unstable();
    assert_eq!(at_ms.len(), 50);
    // As the provider counts: in no second more than there may be, but for a call that was a little longer on its way.
    let most = at_ms.iter().map(|from| at_ms.iter().filter(|at| (*from..from + 980).contains(*at)).count()).max().unwrap();
    assert!(most <= PER_S, "{most} calls in a second: {at_ms:?}");
    other.stop().await.unwrap();
}
