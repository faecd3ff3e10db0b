//! What tills' providers may send that no document shows: each verified request is answered as received and kept byte for byte; what
//! cannot be read becomes a dead letter, and nothing is caused by it.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uzel::hub::Parts;

use crate::{
    evotor, modulkassa, poster,
    world::{KEY, World, until},
};

const PROVIDERS: [&str; 3] = ["evotor", "modulkassa", "poster"];
const MIB: usize = 1 << 20;

/// A hub with a connection to each till's provider, polled.
async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let sandbox = world.sandbox.url();
    let till = |provider: &str, settings: Value| json!({ "merchant": "m", "slug": provider, "provider": provider, "poll": provider != "modulkassa", "webhook_keys": [KEY], "settings": settings });
    let mut evotor = evotor::settings(&sandbox);
    evotor["poll_every_s"] = json!(60);
    let mut poster = poster::settings(&sandbox);
    poster["poll_every_s"] = json!(60);
    // Its webhooks are proved by the key alone, as are those of the others.
    poster.as_object_mut().unwrap().remove("application_secret");
    poster.as_object_mut().unwrap().remove("application_id");
    let connections = [till("evotor", evotor), till("modulkassa", modulkassa::settings(&sandbox)), till("poster", poster)];
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": connections })).await;
    world
}

/// A good body about one sale.
fn good(provider: &str, id: &Value) -> Value {
    match provider {
        "evotor" => {
            json!({ "type": "SELL", "id": id, "store_id": "S", "device_id": "D", "close_date": "2026-11-28T09:00:00.000+0000",
            "user_id": "01-000000000000042", "body": { "result_sum": 400.5, "customer_phone": "+79991234567", "имя": "Анна" } })
        }
        "modulkassa" => json!({ "docId": id, "status": "SUCCESS", "комментарий": "Анна" }),
        _ => {
            json!({ "account": "demo-cafe", "account_number": "700001", "object": "transaction", "object_id": id, "action": "closed",
            "time": "1760000000", "verify": "00", "имя": "Анна" })
        }
    }
}

fn bodies(provider: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = |value: Value| value.to_string().into_bytes();
    let plain = good(provider, &json!("1001")).to_string();
    let windows_1251: Vec<u8> = plain.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(0xcc)).collect();
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(plain.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    vec![
        ("null", b"null".to_vec()),
        ("a number", b"42".to_vec()),
        ("a text", b"\"text\"".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("an empty array", b"[]".to_vec()),
        ("an array in an array", text(json!([[good(provider, &json!("1002"))]]))),
        ("half of it", plain.as_bytes()[..40].to_vec()),
        ("a page", b"<html><body>404</body></html>".to_vec()),
        ("zero bytes", vec![0; 32]),
        ("Windows-1251", windows_1251),
        ("UTF-16", utf_16),
        ("a deep nest", "[".repeat(50_000).into_bytes()),
        ("the id as null", text(good(provider, &Value::Null))),
        ("the id as an array", text(good(provider, &json!([1003])))),
        ("the id as an object", text(good(provider, &json!({ "id": 1004 })))),
        ("the id as a path", text(good(provider, &json!("../../1005?x=1")))),
        ("the id as a huge number", plain.replace("\"1001\"", &"9".repeat(400)).into_bytes()),
        ("a form", b"object=transaction&object_id=1&docId=".to_vec()),
        ("half a MiB of blanks", vec![b' '; MIB / 2]),
    ]
}

fn address(world: &World, provider: &str) -> String {
    format!("{}/api/webhook/{provider}?key={KEY}", world.hub.url())
}

async fn post(world: &World, provider: &str, body: Vec<u8>) -> (u16, String) {
    let request = world.web.post(address(world, provider)).header("content-type", "application/json").body(body);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn entries(world: &World, provider: &str) -> Vec<Value> {
    let rows = world.api(&format!("/api/v1/journal?provider={provider}&limit=1000")).await;
    rows.as_array().unwrap().iter().filter(|row| row["direction"] == "IN").cloned().collect()
}

async fn events(world: &World, provider: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for row in entries(world, provider).await {
        let entry = world.api(&format!("/api/v1/journal/{}", row["id"].as_str().unwrap())).await;
        events.extend(entry["events"].as_array().unwrap().clone());
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_verified_and_cannot_be_read_is_answered_as_received_and_causes_nothing() {
    let world = world().await;
    for provider in PROVIDERS {
        let accepted = match provider {
            "evotor" => "{}",
            "modulkassa" => r#"{"ok":true}"#,
            _ => r#"{"status":"accept"}"#,
        };
        let mut taken = 0;
        for (what, body) in bodies(provider) {
            let size = body.len();
            let told = post(&world, provider, body.clone()).await;
            assert_eq!(told, (200, accepted.to_owned()), "{provider}, {what}");
            if provider == "poster" && body.trim_ascii().is_empty() {
                // Its console tries the address so.
                continue;
            }
            taken += 1;
            until("it to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
            let entry = world.newest(provider).await;
            let kept = entry["body"].as_str().unwrap_or_default();
            assert!(size > MIB / 4 || kept == String::from_utf8_lossy(&body), "{provider}, {what}: kept as it came");
            let says_why = !entry["notes"].as_array().unwrap().is_empty() || !entry["reason"].is_null();
            let told = entry["events"].as_array().is_some_and(|events| !events.is_empty());
            assert!(says_why || told || entry["state"] == "dead", "{provider}, {what}: {entry}");
        }
        assert_eq!(entries(&world, provider).await.len(), taken, "{provider}");
        // An id of Evotor may be anything: it is told as it came, and asked for by nobody.
        let told: Vec<Value> = events(&world, provider).await.iter().map(|event| event["subject"].clone()).collect();
        let wanted: &[&str] = if provider == "evotor" { &["order/../../1005?x=1"] } else { &[] };
        assert_eq!(told, wanted, "{provider}");
    }
    let ready = world.web.get(format!("{}/readyz", world.hub.url())).send().await.unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_never_ends_is_refused_and_not_kept() {
    let world = world().await;
    for provider in PROVIDERS {
        let told = world.web.post(address(&world, provider)).body(vec![b' '; 10 * MIB + 1]).send().await;
        // The hub may have closed the connection before all was sent.
        assert!(told.is_err() || told.is_ok_and(|answer| answer.status() == 413), "{provider}");
        let mut stream = tokio::net::TcpStream::connect(world.hub.address).await.unwrap();
        let head =
            format!("POST /api/webhook/{provider}?key={KEY} HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{{\"type\":");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 2"), "{provider}: half a connection is no webhook");
        assert_eq!(entries(&world, provider).await, [] as [Value; 0], "{provider}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_whose_clock_is_hours_off_is_told_of_once_all_the_same() {
    let world = world().await;
    let hours = |hours: i64| world.clock.now().checked_add(SignedDuration::from_hours(hours)).unwrap();
    let sent = |at: Timestamp| at.as_second().to_string();
    // Poster does not show the orders at first: how long it is asked hangs on our clock, not on its own.
    let orders = [poster::order(1, json!({ "date_close": hours(7).as_millisecond().to_string() })), poster::order(2, json!({}))];
    world.control("poster/transactions", &json!([])).await;
    for (id, off) in [(1, 7), (2, -7), (2, -7), (1, 7)] {
        let mut body = good("poster", &json!(id));
        body["time"] = json!(sent(hours(off)));
        assert_eq!(post(&world, "poster", body.to_string().into_bytes()).await.0, 200);
    }
    until("it to be asked", async || world.calls("poster", "/api/dash.getTransaction").await.len() >= 2).await;
    world.control("poster/transactions", &json!(orders)).await;
    let completed = async || {
        let all = world.api("/api/v1/events?type=order.completed").await;
        all.as_array().unwrap().len()
    };
    world.in_steps(SignedDuration::from_secs(6), "both orders", async || completed().await == 2).await;
    // Evotor's documents bring the till's own time, in whatever order.
    for (id, off) in [("E-1", 9), ("E-2", -9), ("E-1", 9)] {
        let mut body = good("evotor", &json!(id));
        body["close_date"] = json!(hours(off).strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string());
        assert_eq!(post(&world, "evotor", body.to_string().into_bytes()).await.0, 200);
    }
    world.quiet().await;
    assert_eq!(completed().await, 4, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_get_a_page_in_place_of_an_answer_go_on_where_they_were_and_read_every_store() {
    let world = world().await;
    let stores: Vec<Value> = (0..7).map(|store| json!({ "id": format!("STORE-{store}"), "name": "A" })).collect();
    world.control("evotor/stores", &json!(stores)).await;
    world.control("evotor/settings", &json!({ "page_size": 2 })).await;
    // The first turn only finds out where "now" is.
    let began = async || !world.calls("evotor", "/stores/STORE-6/documents").await.is_empty();
    world.in_time("the last of seven stores, two on a page", began).await;
    let at = world.clock.now().checked_add(SignedDuration::from_mins(1)).unwrap();
    let documents: Vec<Value> = (0..7)
        .map(|store| {
            let mut body = good("evotor", &json!(format!("E-{store}")));
            body["store_id"] = json!(format!("STORE-{store}"));
            body["close_date"] = json!(at.strftime("%Y-%m-%dT%H:%M:%S.000+0000").to_string());
            body
        })
        .collect();
    let orders: Vec<Value> =
        (1..=3).map(|id| poster::order(id, json!({ "date_close": at.as_millisecond().to_string() }))).collect();
    let faults = json!([
        { "kind": "garbage", "calls": 2 }, { "kind": "cut_after" }, { "kind": "status", "status": 502 }, { "kind": "garbage", "calls": 2 },
    ]);
    for provider in ["evotor", "poster"] {
        world.control(&format!("{provider}/faults"), &faults).await;
    }
    world.control("evotor/documents", &json!(documents)).await;
    world.control("poster/transactions", &json!(orders)).await;
    let told = async || {
        let all = world.api("/api/v1/events?type=order.completed&limit=1000").await;
        all.as_array().unwrap().len()
    };
    world.in_steps(SignedDuration::from_secs(61), "all of them", async || told().await == 10).await;
    world.quiet().await;
    assert_eq!(told().await, 10, "each once");
}
