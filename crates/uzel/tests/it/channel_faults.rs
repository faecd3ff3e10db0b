//! Chats, devices and WhatsApp by Exolve from outside: whatever goes wrong on the way, and what is done about it. (SMS, e-mail and
//! WhatsApp by Meta have such tests of their own.)

use jiff::Timestamp;
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    asked::ask,
    conformance,
    world::{World, until},
};

/// A connection, whom it writes to, and the path of the call that does.
struct Way {
    slug: &'static str,
    to: String,
    path: &'static str,
    /// The same message twice is better than none.
    repeatable: bool,
}

async fn world() -> (World, Vec<Way>) {
    let world = World::bare(Parts::default(), |_| {}).await;
    let sandbox = world.sandbox.url();
    let connection =
        |slug: &str, settings: Value| json!({ "merchant": "m", "slug": slug, "provider": slug, "settings": settings });
    let of = |slug: &str| json!(conformance::settings(uzel_connectors::provider(slug).unwrap(), &sandbox));
    let exolve =
        json!({ "api_key": "key-of-exolve", "sender_id": "S1", "send_url": format!("{sandbox}/whatsappexolve/any/path") });
    let connections = [
        connection("telegram", of("telegram")),
        connection("webpush", of("webpush")),
        connection("fcm", of("fcm")),
        connection("whatsappexolve", exolve),
    ];
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": connections })).await;
    let mut browser = world.shown("webpush/subscription").await;
    browser["endpoint"] = json!(format!("{sandbox}/webpush/wpush/v2/one"));
    let way = |slug, to: &str, path, repeatable| Way { slug, to: to.to_owned(), path, repeatable };
    let ways = vec![
        way("telegram", "7000000001", "/bot", true),
        way("webpush", &browser.to_string(), "/wpush", true),
        way("fcm", crate::push::TOKEN, "/v1/projects", true),
        way("whatsappexolve", "+79995550001", "/any/path", false),
    ];
    (world, ways)
}

/// Push services refuse whoever lives in another time.
async fn pass(world: &World, minutes: i64) {
    let ahead_s = world.clock.now().duration_since(Timestamp::now()).as_secs() + minutes * 60;
    for slug in ["webpush", "fcm"] {
        world.control(&format!("{slug}/settings"), &json!({ "clock_ahead_s": ahead_s })).await;
    }
    world.pass(minutes);
}

async fn command(world: &World, id: &str) -> Value {
    world.api(&format!("/api/v1/commands/{id}")).await
}

/// Sends by a connection whose provider fails so once. Gives the command as it stands after the first try.
async fn send(world: &World, way: &Way, key: &str, fault: &Value) -> Value {
    let mut fault = fault.clone();
    fault["path"] = json!(way.path);
    world.control(&format!("{}/faults", way.slug), &fault).await;
    let body = json!({ "merchant": "m", "connection": way.slug, "to": way.to, "text": key, "ground": "service" });
    let (status, queued) = ask(world, Some(key), &body).await;
    assert_eq!(status, 202, "{queued}");
    let id = queued["id"].as_str().unwrap().to_owned();
    until("the first try", async || {
        let shown = command(world, &id).await;
        shown["attempts"] != 0 || shown["state"] == "unknown"
    })
    .await;
    command(world, &id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_did_not_do_is_done_later_and_what_it_may_have_done_only_where_that_does_no_harm() {
    let (world, ways) = world().await;
    for way in &ways {
        for (number, fault) in [
            json!({ "kind": "rate_limit", "retry_after": 120 }),
            json!({ "kind": "rate_limit" }),
            json!({ "kind": "status", "status": 429 }),
            json!({ "kind": "status", "status": 503 }),
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("later {} {number}", way.slug);
            let tried = send(&world, way, &key, &fault).await;
            if number == 0 {
                let next_at: Timestamp = tried["next_at"].as_str().unwrap().parse().unwrap();
                let wait_s = next_at.duration_since(world.clock.now()).as_secs();
                assert!((100..=125).contains(&wait_s), "{key}: {wait_s} s: {tried}");
            }
            pass(&world, 3).await;
            world.quiet().await;
            let shown = command(&world, tried["id"].as_str().unwrap()).await;
            assert_eq!((&shown["state"], &shown["attempts"]), (&json!("done"), &json!(2)), "{key}, {fault}: {shown}");
        }
        for (number, fault) in [
            json!({ "kind": "cut_after" }),
            json!({ "kind": "cut_before" }),
            json!({ "kind": "latency", "latency_ms": 4_000 }),
            json!({ "kind": "status", "status": 500 }),
            json!({ "kind": "garbage" }),
        ]
        .into_iter()
        .enumerate()
        {
            let key = format!("lost {} {number}", way.slug);
            let tried = send(&world, way, &key, &fault).await;
            pass(&world, 3).await;
            world.quiet().await;
            let shown = command(&world, tried["id"].as_str().unwrap()).await;
            let wanted = if way.repeatable { ("done", 2) } else { ("unknown", 1) };
            assert_eq!((&shown["state"], &shown["attempts"]), (&json!(wanted.0), &json!(wanted.1)), "{key}, {fault}: {shown}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_good_keeps_messages_waiting_and_tells_the_merchant_once() {
    let (world, ways) = world().await;
    world.begin_before_midnight();
    pass(&world, 0).await;
    for way in &ways {
        let fault = json!({ "kind": "status", "status": 401, "calls": 9 });
        let first = send(&world, way, &format!("one {}", way.slug), &fault).await;
        let again = async || command(&world, first["id"].as_str().unwrap()).await;
        pass(&world, 11).await;
        until("the second try", async || again().await["attempts"].as_u64().unwrap() > 1).await;
        assert_eq!(again().await["state"], "waiting", "{}: {first}", way.slug);
        let id = world.link(way.slug).await["id"].clone();
        let notices = world.api("/api/v1/notices").await;
        let own = notices.as_array().unwrap().iter().filter(|notice| notice["connection"] == id).count();
        assert_eq!(own, 1, "{}: {notices}", way.slug);
    }
}
