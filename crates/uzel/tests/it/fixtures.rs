//! Requests as documents and logs show them, byte for byte over TCP, and the whole of what follows.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{FIXTURE_KEY, World};

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        files.extend(
            std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|end| end == "http")),
        );
    }
    files.sort();
    files
}

/// Sends the bytes as they are and gives status line and body of the answer.
async fn send(world: &World, bytes: &[u8]) -> (String, String) {
    let mut stream = tokio::net::TcpStream::connect(world.hub.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    // The connection is kept open by both sides: the answer's own length says when it is whole.
    while !whole(&answer) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "the hub closed the connection");
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
}

fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
    answer.len() >= head.len() + 4 + length.unwrap_or(0)
}

/// Makes a connection to a provider that the world has none to.
async fn connect(world: &World, provider: &str) {
    if uzel_connectors::provider(provider).is_none() || !world.ask_link(provider).await.is_null() {
        return;
    }
    let known = uzel_connectors::provider(provider).unwrap();
    let settings = crate::conformance::settings(known, &world.sandbox.url());
    let mut connection = json!({ "merchant": "m", "outlet": "o", "slug": provider, "provider": provider, "settings": settings });
    if known.open(connection["settings"].clone()).unwrap().keyed() {
        connection["webhook_keys"] = json!([FIXTURE_KEY]);
    }
    world.apply(&json!({ "connection": [connection] })).await;
}

/// When a signature is good that names its time.
fn signed_at(raw: &[u8]) -> Option<jiff::Timestamp> {
    let raw = String::from_utf8_lossy(raw);
    let time = raw.lines().find_map(|line| line.split_once("-timestamp: ")).map(|(_, time)| time.trim().to_owned())?;
    jiff::Timestamp::from_second(time.parse().ok()?).ok()
}

/// What stands in the journal after it, without what differs from run to run.
async fn followed(world: &World) -> Value {
    let rows = world.api("/api/v1/journal").await;
    let entry =
        // The oldest: what a look-up is told comes in after it.
        rows.as_array().unwrap().iter().rfind(|row| row["direction"] == "IN").map(|row| row["id"].as_str().unwrap().to_owned());
    let Some(entry) = entry else { return Value::Null };
    let mut whole = Value::Null;
    // Look-ups are calls of their own: what follows is whole when they have ended.
    crate::world::until("look-ups to end", async || {
        whole = world.api(&format!("/api/v1/journal/{entry}?unmasked=true")).await;
        let open = |command: &Value| {
            command["job"]["job"] == "look_up" && ["waiting", "sending"].iter().any(|state| command["state"] == *state)
        };
        !whole["commands"].as_array().unwrap().iter().any(open)
    })
    .await;
    let events: Vec<Value> = whole["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            // Keys that hold an hour or an id of ours differ from run to run.
            let weak = event["weak_key"] == json!(true) || event["kind"] == "connection.disabled";
            let key = if weak { json!("(of this run)") } else { event["key"].clone() };
            let subject = if event["kind"] == "connection.disabled" { json!("(this connection)") } else { event["subject"].clone() };
            json!({
                "kind": event["kind"], "key": key, "subject": subject, "name": event["name"],
                "phone": event["phone"]["e164"], "phone_error": event["phone_error"], "refs": event["refs"], "data": event["data"],
            })
        })
        .collect();
    let commands: Vec<Value> = whole["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| {
            let mut job = command["job"].clone();
            if let Some(told_at) = job.pointer_mut("/what/told_at").filter(|told_at| told_at.is_number()) {
                // A provider that names no time is told of when it came.
                *told_at = json!("(of this run)");
            }
            json!({ "job": job, "held": command["reason"] })
        })
        .collect();
    json!({ "state": whole["state"], "notes": whole["notes"], "events": events, "commands": commands })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fixture_is_answered_and_read_as_its_snapshot_says() {
    for file in fixtures() {
        // A hub of its own for each: what one told must not be a repeat for the next. The delay keeps all texts waiting.
        let world = World::new(json!({ "delay": "3000d" })).await;
        let provider = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).unwrap();
        connect(&world, &provider).await;
        if let Some(at) = signed_at(&bytes) {
            world.clock.advance(at.duration_since(world.clock.now()));
        }
        let (status, body) = send(&world, &bytes).await;
        crate::world::until("the entry to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
        let name = format!("{provider}__{}", file.file_stem().unwrap().to_string_lossy());
        let told = json!({ "answer": { "status": status, "body": body }, "journal": followed(&world).await });
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
            insta::assert_json_snapshot!(name, told);
        });
        world.hub.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_overlapping_arrays_make_three_events() {
    let world = World::new(json!({ "delay": "3000d" })).await;
    let order = |id: u32| {
        json!({ "eventType": "DeliveryOrderUpdate", "eventTime": "2026-11-24 12:00:00.000", "organizationId": "o", "correlationId": "c",
            "eventInfo": { "id": format!("order-{id}"), "organizationId": "o", "timestamp": 1, "creationStatus": "Success",
                "order": { "phone": format!("+7999111000{id}"), "status": "Delivered", "number": id } } })
    };
    world.post("iiko", &json!([order(1), order(2)])).await;
    world.post("iiko", &json!([order(2), order(3)])).await;
    crate::world::until("three texts to wait", async || world.commands("waiting").await == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_visit_of_a_guest_by_a_body_without_ids_is_a_new_event() {
    let world = World::new(json!({ "delay": "100h" })).await;
    let body = json!({ "resource": { "visit_attendance": 1, "deleted": false, "client": { "phone": "+79991234567" } } });
    world.post("yclients", &body).await;
    world.post("yclients", &body).await;
    crate::world::until("the first visit", async || world.commands("waiting").await == 1).await;
    world.clock.advance(jiff::SignedDuration::from_hours(3));
    world.post("yclients", &body).await;
    crate::world::until("the second visit", async || world.commands("waiting").await == 2).await;
}
