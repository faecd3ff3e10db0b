//! What strangers, broken clients and floods send, byte for byte over TCP, and the whole of what is answered.

use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::{KEY, World, until};

/// Sends these bytes and gives the whole answer, without the time of day.
async fn exchange(world: &World, parts: Vec<Vec<u8>>, hangs_up: bool) -> String {
    let stream = TcpStream::connect(world.hub.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    // The hub may answer, and close, before all is written.
    let writer = tokio::spawn(async move {
        for part in parts {
            if writing.write_all(&part).await.is_err() {
                break;
            }
        }
        if hangs_up {
            writing.shutdown().await.ok();
        }
        writing
    });
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !whole(&answer) {
        match reading.read(&mut buffer).await {
            Ok(read @ 1..) => answer.extend_from_slice(&buffer[..read]),
            _ => break,
        }
    }
    drop(reading);
    drop(writer.await.unwrap());
    let answer = String::from_utf8(answer).unwrap();
    answer.split("\r\n").filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n")
}

/// Whether an answer has come to the end that its own length tells.
fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(usize::MAX)
}

/// A webhook with this body; the connection ends with the answer.
fn webhook(provider: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "POST /api/webhook/{provider}?key={KEY} HTTP/1.1\r\nHost: hub\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn snapshot(name: &str, told: Map<String, Value>) {
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_json_snapshot!(name, told);
    });
}

async fn all_read(world: &World) {
    until("the entry to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
}

/// An order or visit with a phone, as this provider tells of it, with one value replaced.
fn body_of(provider: &str, phone: &Value, id: &Value) -> Value {
    match provider {
        "iiko" => json!([{ "eventType": "DeliveryOrderUpdate", "organizationId": "o",
            "eventInfo": { "id": id, "creationStatus": "Success", "order": { "status": "Closed", "phone": phone, "customer": { "name": "Мария" } } } }]),
        "rkeeper" => json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Мария" } } }),
        "yclients" => json!({ "company_id": 1, "resource": "record", "resource_id": id, "status": "update",
            "data": { "id": id, "visit_id": id, "attendance": 1, "visit_attendance": 1, "client": { "phone": phone, "name": "Мария" } } }),
        _ => {
            json!({ "leads": { "status": [{ "id": id, "status_id": "142" }] }, "contacts": { "update": [{ "phone": phone, "name": "Мария" }] } })
        }
    }
}

/// Bodies that no document shows, by what is wrong with them.
fn bodies(provider: &str) -> Vec<(&'static str, Vec<u8>)> {
    let phone = json!("+79991234567");
    let text = |value: Value| value.to_string().into_bytes();
    let russian = body_of(provider, &phone, &json!(1)).to_string();
    let windows_1251: Vec<u8> = russian.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(0xcc)).collect();
    let utf_16: Vec<u8> = [0xfeff].into_iter().chain(russian.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    vec![
        ("empty", Vec::new()),
        ("null", b"null".to_vec()),
        ("a number", b"42".to_vec()),
        ("a text", b"\"text\"".to_vec()),
        ("an empty array", b"[]".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("an array in an array", text(json!([[body_of(provider, &phone, &json!(2))]]))),
        ("half of it", text(body_of(provider, &phone, &json!(3)))[..40].to_vec()),
        ("a page", b"<html><body>404</body></html>".to_vec()),
        ("zero bytes", vec![0; 32]),
        ("Windows-1251", windows_1251),
        ("UTF-16", utf_16),
        ("a byte order mark", ["\u{feff}".as_bytes(), &text(body_of(provider, &phone, &json!(4)))].concat()),
        ("a deep nest", "[".repeat(50_000).into_bytes()),
        ("the id as a text", text(body_of(provider, &phone, &json!("5")))),
        ("the id as null", text(body_of(provider, &json!("+79991234568"), &Value::Null))),
        ("the id as an array", text(body_of(provider, &json!("+79991234569"), &json!([6])))),
        ("the phone as a number", text(body_of(provider, &json!(79_991_234_567_u64), &json!(7)))),
        ("the phone as a float", text(body_of(provider, &json!(7.999_123_456_7e10), &json!(8)))),
        ("the phone as null", text(body_of(provider, &Value::Null, &json!(9)))),
        ("the phone as an array", text(body_of(provider, &json!(["+79991234567"]), &json!(10)))),
        ("the phone as an object", text(body_of(provider, &json!({ "number": "+79991234567" }), &json!(11)))),
        (
            "the phone as a huge number",
            body_of(provider, &json!(0), &json!(12))
                .to_string()
                .replace("\"phone\":0", &format!("\"phone\":{}", "9".repeat(400)))
                .into_bytes(),
        ),
        ("a percent that is none", b"leads[status][0][id]=%zz&leads[status][0][status_id]=142&x=%".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_no_document_shows_are_answered_as_received_and_kept() {
    for provider in ["iiko", "rkeeper", "yclients", "amocrm"] {
        let world = World::new(json!({ "delay": "1h" })).await;
        let mut told = Map::new();
        for (what, body) in bodies(provider) {
            let kind = if what == "a percent that is none" { "application/x-www-form-urlencoded" } else { "application/json" };
            let answer = exchange(&world, vec![webhook(provider, kind, &body)], false).await;
            all_read(&world).await;
            let entry = world.newest(provider).await;
            assert_eq!(entry["body"].as_str().unwrap(), String::from_utf8_lossy(&body), "{provider}, {what}: kept as it came");
            let list = |name: &str| entry[name].as_array().unwrap().clone();
            let events: Vec<Value> = list("events")
                .iter()
                .map(|event| json!([event["kind"], event["weak_key"], event["phone"]["e164"], event["phone_error"]]))
                .collect();
            told.insert(
                what.to_owned(),
                json!({ "answer": answer, "state": entry["state"], "notes": entry["notes"], "events": events }),
            );
        }
        let kept = world
            .api("/api/v1/journal?limit=1000")
            .await
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["direction"] == "IN")
            .count();
        assert_eq!(kept, bodies(provider).len());
        snapshot(&format!("bounds__{provider}"), told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_or_broken_are_refused_and_not_kept() {
    let world = World::new(json!({})).await;
    let target = format!("/api/webhook/rkeeper?key={KEY}");
    let head = |start: &str, more: &str| format!("{start}\r\nHost: hub\r\n{more}\r\n").into_bytes();
    let post = |more: &str| head(&format!("POST {target} HTTP/1.1"), more);
    let mib = vec![b' '; 1 << 20];
    let chunk = [format!("{:x}\r\n", mib.len()).as_bytes(), &mib, b"\r\n"].concat();
    let mut told = Map::new();
    for (what, parts) in [
        ("10 MiB, declared", [vec![post("Content-Length: 10485760\r\n")], vec![mib.clone(); 10]].concat()),
        (
            "10 MiB, in chunks",
            [vec![post("Transfer-Encoding: chunked\r\n")], vec![chunk; 10], vec![b"0\r\n\r\n".to_vec()]].concat(),
        ),
        ("10 MiB that never come", vec![post("Content-Length: 10485760\r\n")]),
        ("half a body", vec![post("Content-Length: 100\r\n"), b"{\"order\":".to_vec()]),
        ("half a head", vec![b"POST /api/webhook/rkeeper HTTP/1.1\r\nHo".to_vec()]),
        ("chunks that are none", vec![post("Transfer-Encoding: chunked\r\n"), b"zz\r\n".to_vec()]),
        ("a length that is none", vec![post("Content-Length: many\r\n")]),
        ("no HTTP", vec![b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()]),
        (
            "a key that is none",
            vec![head("POST /api/webhook/rkeeper?key=%ff%fe HTTP/1.1", "Content-Length: 0\r\nConnection: close\r\n")],
        ),
        ("no key", vec![head("POST /api/webhook/rkeeper HTTP/1.1", "Content-Length: 0\r\nConnection: close\r\n")]),
        (
            "no such provider",
            vec![head(&format!("POST /api/webhook/nobody?key={KEY} HTTP/1.1"), "Content-Length: 0\r\nConnection: close\r\n")],
        ),
        ("no such connection", vec![head("POST /hooks/con_1 HTTP/1.1", "Content-Length: 0\r\nConnection: close\r\n")]),
        ("no such path", vec![head("GET /nothing HTTP/1.1", "Connection: close\r\n")]),
    ] {
        let answer = exchange(&world, parts, what.starts_with("half")).await;
        assert!(!answer.contains("HTTP/1.1 2"), "{what}: {answer}");
        told.insert(what.to_owned(), json!(answer));
    }
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
    snapshot("bounds__refused", told);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_too_much_waits_to_be_written_the_answer_is_503_and_what_was_taken_is_written() {
    let world = World::new(json!({})).await;
    let engine = &world.hub.engine;
    let link = engine.world().connection("rkeeper").unwrap().clone();
    // Somebody else holds the file for a moment, so that the writer has to wait.
    let lock = rusqlite::Connection::open(world.data().join("uzel.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let request = uzel_model::Request {
        method: "POST".to_owned(),
        path: String::new(),
        query: Vec::new(),
        headers: Vec::new(),
        body: "{}".into(),
        received_at: world.clock.now(),
        peer: None,
        key: None,
    };
    // More than may wait; each is a request whose client waits for its answer.
    let waiting: Vec<_> = (0..12_000)
        .map(|_| {
            let (engine, link, request) = (engine.clone(), link.clone(), request.clone());
            tokio::spawn(async move { engine.accept(&link, request, &uzel_model::Response::ok(), "t".to_owned()).await.is_ok() })
        })
        .collect();
    until("the queue to be full", async || waiting.iter().any(|task| task.is_finished())).await;
    let answer = exchange(&world, vec![webhook("rkeeper", "application/json", b"{}")], false).await;
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    let mut taken = 0;
    for task in waiting {
        taken += usize::from(task.await.unwrap());
    }
    let mut told = Map::new();
    told.insert("too much waits".to_owned(), json!(answer));
    snapshot("bounds__busy", told);
    all_read(&world).await;
    let counts = world.api("/api/v1/counts").await;
    let kept: u64 = counts["entries"].as_array().unwrap().iter().map(|pair| pair[1].as_u64().unwrap()).sum();
    assert!(taken > 0 && taken < 12_000 && kept == taken as u64, "{taken} were taken, {kept} are kept");
    // Afterwards there is room again.
    assert_eq!(world.post("rkeeper", &json!({})).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_go_on_is_let_go() {
    let world = World::tuned(|settings| settings.request_timeout_ms = 200).await;
    let whole =
        webhook("rkeeper", "application/json", br#"{"order":{"id":1,"status":"Completed","customer":{"phone":"+79991234567"}}}"#);
    let kept_open = String::from_utf8(whole.clone()).unwrap().replace("Connection: close\r\n", "").into_bytes();
    let cut = whole.len() - 10;
    for (what, sent, wanted) in [
        ("nothing at all", &b""[..], ""),
        ("half a head", &whole[..40], ""),
        ("a body that stops", &whole[..cut], "HTTP/1.1 408 Request Timeout"),
        ("one request, and then nothing", &kept_open[..], "HTTP/1.1 200 OK"),
    ] {
        let mut stream = TcpStream::connect(world.hub.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        // The hub ends the connection; else this would wait for ever.
        let read = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        read.unwrap_or_else(|_| panic!("{what}: the connection stays open")).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert_eq!(answer.lines().next().unwrap_or_default(), wanted, "{what}");
    }
    until("the one whole request", async || world.api("/api/v1/journal?provider=rkeeper").await.as_array().unwrap().len() == 1)
        .await;
}
