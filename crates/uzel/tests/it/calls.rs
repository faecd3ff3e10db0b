//! The call side: a provider that is down, too slow or too busy, order, fairness, and outcomes that nobody knows.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uzel_sandbox::Sandbox;

use crate::world::{World, free_port, setup, until};

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

fn phone(id: u32) -> String {
    format!("+7999666{id:04}")
}

async fn serve(world: &World, ids: std::ops::Range<u32>) {
    for id in ids {
        assert_eq!(world.post("rkeeper", &served(id, &phone(id))).await.status(), 200);
    }
}

/// Merchant `m` with these settings of SMS.ru beside the usual ones.
async fn with_smsru(world: &World, rules: Value, settings: Value) {
    let mut setup = setup(&world.sandbox.url(), &rules);
    setup["connection"][4]["settings"].as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    world.apply(&setup).await;
}

/// How often each person was written to.
async fn by_phone(world: &World) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for (phone, _) in world.texts().await {
        *count.entry(phone).or_default() += 1;
    }
    count
}

fn sends(calls: &[Value]) -> Vec<i64> {
    calls.iter().map(|call| call["at_ms"].as_i64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_down_is_left_alone_and_gets_everything_once_when_it_is_back() {
    let world = World::new(json!({})).await;
    with_smsru(&world, json!({}), json!({ "calls_per_s": 1_000 })).await;
    world.control("smsru/faults", &json!({ "kind": "status", "status": 503, "for_ms": 3_000 })).await;
    serve(&world, 0..30).await;
    until("all texts", async || world.texts().await.len() >= 30).await;
    world.quiet().await;
    assert!(by_phone(&world).await.values().all(|count| *count == 1));
    let failed = world.calls("smsru", "/sms/send").await.iter().filter(|call| call["status"] == 503).count();
    // Those that were under way when it opened, and then one try after another.
    assert!((5..=42).contains(&failed), "{failed} calls while the provider was down");
    // Closed again: what comes now goes at once.
    let before = world.calls("smsru", "/sms/send").await.len();
    serve(&world, 30..60).await;
    until("thirty more", async || world.texts().await.len() >= 60).await;
    assert_eq!(world.calls("smsru", "/sms/send").await.len(), before + 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_while_nobody_listens_at_the_providers_address() {
    let world = World::new(json!({})).await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    with_smsru(&world, json!({}), json!({ "base_url": format!("http://{address}/smsru") })).await;
    serve(&world, 0..10).await;
    until("some failures", async || {
        world.api("/api/v1/journal?provider=smsru&status=error").await.as_array().unwrap().len() >= 5
    })
    .await;
    let back = Sandbox::start(address).await.unwrap();
    let url = format!("{}/_sandbox/smsru/accepted", back.url());
    let texts = async || world.web.get(&url).send().await.unwrap().json::<Vec<Value>>().await.unwrap();
    until("all texts", async || texts().await.len() >= 10).await;
    world.quiet().await;
    assert_eq!((texts().await.len(), world.commands("done").await), (10, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_account_share_its_rate() {
    let world = World::new(json!({})).await;
    with_smsru(&world, json!({}), json!({ "calls_per_s": 10 })).await;
    let mut other = setup(&world.sandbox.url(), &json!({}));
    for part in other.as_object_mut().unwrap().values_mut().flat_map(|parts| parts.as_array_mut().unwrap()) {
        let name = if part["merchant"].is_null() { "slug" } else { "merchant" };
        part[name] = json!("b");
        part.as_object_mut().unwrap().remove("webhook_keys");
        if part["provider"] == "rkeeper" {
            part["webhook_keys"] = json!(["another-key-of-twenty-four-characters"]);
        }
    }
    other["connection"][4]["settings"]["calls_per_s"] = json!(10);
    world.apply(&other).await;
    for id in 0..20 {
        let body = served(id, &phone(id + 100));
        let url = format!("{}/api/webhook/rkeeper?key=another-key-of-twenty-four-characters", world.hub.url());
        assert_eq!(world.web.post(url).json(&body).send().await.unwrap().status(), 200);
    }
    serve(&world, 0..20).await;
    until("all texts", async || world.texts().await.len() == 40).await;
    let at = sends(&world.calls("smsru", "/sms/send").await);
    // Ten may go at once, the other thirty at ten a second.
    assert!(at[39] - at[0] >= 2_700, "forty calls within {} ms", at[39] - at[0]);
    for (place, start) in at.iter().enumerate() {
        let within = at[place..].iter().take_while(|later| **later - start < 1_000).count();
        assert!(within <= 21, "{within} calls within a second");
    }
}

/// Merchant `b` with a till and an account of its own; gives the address of its webhook.
async fn second_merchant(world: &World) -> String {
    let key = "another-key-of-twenty-four-characters";
    let sandbox = world.sandbox.url();
    let setup = json!({
        "merchant": [{ "slug": "b" }],
        "connection": [
            { "merchant": "b", "slug": "till", "provider": "rkeeper", "webhook_keys": [key] },
            { "merchant": "b", "slug": "texts", "provider": "smsru", "settings": { "base_url": format!("{sandbox}/smsru"), "api_id": "account-of-b" } },
        ],
        "flow": [{ "merchant": "b", "slug": "review", "on": ["order.completed"], "ground": "service", "ground_by": "the test", "via": "texts", "text": "b" }],
    });
    world.apply(&setup).await;
    format!("{}/api/webhook/rkeeper?key={key}", world.hub.url())
}

/// Two thousand guests of merchant `m`, told in four requests.
async fn flood(world: &World) {
    for part in 0..4 {
        let orders = (0..500).map(|place| {
            let id = part * 500 + place;
            json!({ "eventType": "DeliveryOrderUpdate", "organizationId": "o", "eventInfo": {
                "id": format!("order-{id}"), "creationStatus": "Success", "order": { "phone": phone(id), "status": "Closed", "number": id } } })
        });
        assert_eq!(world.post("iiko", &orders.collect()).await.status(), 200);
    }
    until("the flood to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_merchant_does_not_delay_the_text_of_another() {
    let world = World::new(json!({})).await;
    let url = second_merchant(&world).await;
    flood(&world).await;
    assert_eq!(world.web.post(url).json(&served(1, "+79997770001")).send().await.unwrap().status(), 200);
    until("the text of the other", async || by_phone(&world).await.contains_key("79997770001")).await;
    let waiting = world.commands("waiting").await;
    assert!(waiting > 1_500, "the flood had been sent first: {waiting} wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_does_not_delay_the_text_of_another_merchant() {
    let world = World::new(json!({})).await;
    let url = second_merchant(&world).await;
    // Another stand-in, so that only this merchant's provider hangs: each call ends only by the hub's own deadline.
    let hanging = Sandbox::start(crate::world::anywhere()).await.unwrap();
    let control = format!("{}/_sandbox/smsru", hanging.url());
    let fault = json!({ "kind": "latency", "latency_ms": 20_000, "for_ms": 600_000 });
    world.web.put(format!("{control}/faults")).json(&fault).send().await.unwrap();
    with_smsru(&world, json!({}), json!({ "base_url": format!("{}/smsru", hanging.url()), "calls_per_s": 1_000 })).await;
    flood(&world).await;
    let hangs = async || {
        world.web.get(format!("{control}/summary")).send().await.unwrap().json::<Value>().await.unwrap()["calls"].clone()
    };
    until("the provider to hang", async || hangs().await != 0).await;
    let began = std::time::Instant::now();
    assert_eq!(world.web.post(url).json(&served(1, "+79997770001")).send().await.unwrap().status(), 200);
    until("the text of the other", async || by_phone(&world).await.contains_key("79997770001")).await;
    assert!(
        began.elapsed() < std::time::Duration::from_secs(2),
        "{:?}: a hanging call ends after three seconds",
        began.elapsed()
    );
    assert!(world.commands("waiting").await > 1_800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_says_when_to_come_back_is_left_alone_until_then() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "status", "status": 429, "retry_after": 120 })).await;
    serve(&world, 0..1).await;
    let command = async || world.newest("rkeeper").await["commands"][0].clone();
    until("the first try", async || command().await["attempts"] == 1).await;
    let put_off = command().await;
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let wait = time(&put_off["next_at"]).duration_since(time(&put_off["exchanges"][0]["at"]));
    assert!((119..=122).contains(&wait.as_secs()), "{wait:?}");
    world.pass(1);
    assert_eq!(world.texts().await.len(), 0);
    world.pass(1);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
    // Without a time it is tried again after a while of our own; that it is busy does not count as being down.
    world.control("smsru/faults", &json!({ "kind": "status", "status": 429, "calls": 7 })).await;
    serve(&world, 1..8).await;
    world.quiet().await;
    assert_eq!(by_phone(&world).await.values().sum::<usize>(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_to_one_phone_go_one_after_another_in_their_order() {
    let world = World::new(json!({ "text": "{{ event.subject }}", "delay": "1h" })).await;
    for id in 1..=4 {
        world.post("rkeeper", &served(id, &phone(0))).await;
        until("the text to wait", async || world.commands("waiting").await == u64::from(id)).await;
    }
    world.post("rkeeper", &served(5, &phone(5))).await;
    until("all to wait", async || world.commands("waiting").await == 5).await;
    // The first fails twice: its followers wait for it, somebody else does not.
    world.control("smsru/faults", &json!({ "kind": "rate_limit", "calls": 2 })).await;
    world.pass(61);
    world.quiet().await;
    let to_first: Vec<String> =
        world.texts().await.into_iter().filter(|(to, _)| to == &phone(0)[1..]).map(|(_, text)| text).collect();
    assert_eq!(to_first, ["order/1", "order/2", "order/3", "order/4"]);
    assert_eq!(world.texts().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_head_does_not_hold_the_others_of_its_key_back() {
    // Only the first text is too long for SMS.ru, which kills it.
    let text = "{% if event.subject == 'order/1' %}{% for part in range(120) %}длинно {% endfor %}{% endif %}{{ event.subject }}";
    let world = World::new(json!({ "text": text, "delay": "1h" })).await;
    for id in 1..=3 {
        world.post("rkeeper", &served(id, &phone(0))).await;
        until("the text to wait", async || world.commands("waiting").await == u64::from(id)).await;
    }
    world.pass(61);
    world.quiet().await;
    assert_eq!((world.commands("dead").await, world.commands("done").await), (1, 2));
    assert_eq!(world.texts().await.into_iter().map(|(_, text)| text).collect::<Vec<_>>(), ["order/2", "order/3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_nobody_knows_is_never_sent_again() {
    let world = World::new(json!({ "text": "{{ event.subject }}" })).await;
    for fault in ["cut_after", "cut_before", "garbage"] {
        world.control("smsru/faults", &json!({ "kind": fault, "path": "/sms/send" })).await;
        let known = world.commands("unknown").await;
        world.post("rkeeper", &served(known as u32, &phone(0))).await;
        until("the unknown outcome", async || world.commands("unknown").await == known + 1).await;
    }
    let sent = async || world.calls("smsru", "/sms/send").await.len();
    assert_eq!(sent().await, 3);
    // Not by a repeat, not by a replay, not by time, and not by another start.
    for id in 0..3 {
        world.post("rkeeper", &served(id, &phone(0))).await;
    }
    world.quiet().await;
    for row in world.api("/api/v1/journal?provider=rkeeper").await.as_array().unwrap() {
        let (status, answer) = world.ask("/api/v1/replay", &json!({ "entry": row["id"] })).await;
        assert_eq!((status, &answer["outcomes"][0]["outcome"]["queued"]), (200, &json!(0)), "{answer}");
    }
    world.pass(24 * 60);
    let world = world.restart(async |_, _| {}).await;
    // The next text to the same person is not held up by them.
    world.post("rkeeper", &served(9, &phone(0))).await;
    world.quiet().await;
    assert_eq!((world.commands("unknown").await, world.calls("smsru", "/sms/send").await.len()), (3, 4));
}
