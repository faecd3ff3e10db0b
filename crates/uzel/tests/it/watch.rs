//! Watching over connections: breakers that outlive a restart, and silences that are told from nights.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_engine::setup::Leniency;

use crate::world::{World, until};

impl World {
    /// A figure of the metrics page; 0 where it does not stand there.
    async fn figure(&self, name: &str) -> u64 {
        let page = self.web.get(format!("{}/metrics", self.hub.url())).send().await.unwrap().text().await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    async fn served(&self, order: u32) {
        let customer = json!({ "phone": format!("+7999{order:07}") });
        let body = json!({ "order": { "id": order, "status": "Выполнен", "customer": customer } });
        assert_eq!(self.post("rkeeper", &body).await.status(), 200);
    }
}

async fn calls(web: &reqwest::Client, sandbox: &uzel_sandbox::Sandbox) -> u64 {
    let url = format!("{}/_sandbox/smsru/calls", sandbox.url());
    web.get(url).send().await.unwrap().json::<Vec<Value>>().await.unwrap().len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_while_the_provider_is_down_begins_with_one_try_and_not_with_a_burst() {
    let world = World::new(json!({})).await;
    let mut setup = crate::world::setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["calls_per_s"] = json!(10_000);
    world.hub.apply(&setup, Leniency { short_keys: true }).await.unwrap();
    // Slow to refuse, so that calls which begin together are seen together.
    world.control("smsru/faults", &json!({ "kind": "status", "status": 503, "latency_ms": 500, "calls": 100_000 })).await;
    for order in 0..60 {
        world.served(order).await;
    }
    until("the breaker to open", async || !world.link("smsru").await["breaker"].is_null()).await;
    until("the metric", async || world.figure("uzel_breaker_open{provider=\"smsru\"}").await == 1).await;
    assert!(world.link("rkeeper").await["breaker"].is_null());
    let opened = world.link("smsru").await["breaker"].clone();
    assert_eq!(opened["reason"], "the provider answers 503: not available");

    let web = world.web.clone();
    let mut before = 0;
    let world = world
        .restart(async |sandbox, clock| {
            clock.advance(SignedDuration::from_hours(2));
            before = calls(&web, sandbox).await;
        })
        .await;
    assert_eq!(world.link("smsru").await["breaker"], opened, "it stands as it stood");
    let retries = "uzel_attempts_total{provider=\"smsru\",endpoint=\"send\",result=\"retry\"}";
    until("a try to end", async || world.figure(retries).await >= 1).await;
    let called = calls(&world.web, &world.sandbox).await - before;
    assert!(called < 8, "{called} calls began before the first had shown whether the provider is back");

    // The stand-in is well again: one call succeeds, the breaker closes, and the rest goes out.
    world.web.delete(format!("{}/_sandbox/smsru", world.sandbox.url())).send().await.unwrap();
    until("all texts", async || {
        world.clock.advance(SignedDuration::from_mins(10));
        world.texts().await.len() == 60
    })
    .await;
    assert!(world.link("smsru").await["breaker"].is_null());
    let world = world.restart(async |_, _| {}).await;
    assert!(world.link("smsru").await["breaker"].is_null(), "that it closed is kept as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_webhooks_stay_away_far_longer_than_usual_is_ill() {
    let world = World::new(json!({ "delay": "10000h" })).await;
    let health = async |world: &World, slug: &str| world.api(&format!("/api/v1/connections/{slug}/health")).await;
    assert_eq!(health(&world, "rkeeper").await["detail"], "no webhook has come yet");
    for order in 0..96 {
        world.served(order).await;
        world.clock.advance(SignedDuration::from_hours(2));
    }
    let well = health(&world, "rkeeper").await;
    assert_eq!((well["healthy"].clone(), well["webhooks"]["count"].clone()), (json!(true), json!(96)), "{well}");
    assert_eq!(well["detail"], "the last webhook came 2 h ago; usually one comes every 2 h");

    world.clock.advance(SignedDuration::from_hours(40));
    let ill = health(&world, "rkeeper").await;
    assert_eq!(ill["healthy"], false, "{ill}");
    // A restart forgets nothing of it.
    let world = world.restart(async |_, _| {}).await;
    assert_eq!(health(&world, "rkeeper").await["detail"], ill["detail"]);
    world.served(1_000).await;
    assert_eq!(health(&world, "rkeeper").await["healthy"], true);
    let unasked = health(&world, "amocrm").await["detail"].to_string();
    assert!(unasked.contains("`public_url` is not set"), "what is not checked is said: {unasked}");
}
