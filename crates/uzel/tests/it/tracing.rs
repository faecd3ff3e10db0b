//! One trace per webhook, through to the last attempt: in the log, in the journal, and in what the provider is told.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use uzel_sandbox::Sandbox;

use crate::world::{KEY, anywhere, setup, until, web};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The real binary with JSON logs; it ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(folder: &Path) -> Serving {
    let child = Command::new(env!("CARGO_BIN_EXE_uzel"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder)
        .env("UZEL_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("UZEL_LOG_JSON", "true")
        .env("RUST_LOG", "info,uzel_server=debug,uzel_engine=debug")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).unwrap())
        .spawn();
    Serving(child.unwrap())
}

/// The log's lines so far. The last may be half written.
fn lines(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log")).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_the_webhook_to_the_attempt_of_its_text() {
    let web = web();
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let _serving = serve(folder);
    let mut address = String::new();
    until("the hub to answer", async || {
        let said = lines(folder).iter().find_map(|line| line["fields"]["address"].as_str().map(str::to_owned));
        address = said.unwrap_or_default();
        !address.is_empty()
    })
    .await;
    let mut setup = setup(&sandbox.url(), &json!({}));
    for connection in setup["connection"].as_array_mut().unwrap() {
        connection["webhook_keys"] = json!([KEY]);
    }
    let url = format!("http://{address}");
    let key = std::fs::read_to_string(folder.join("uzel-data/owner.key")).unwrap();
    let applied =
        web.post(format!("{url}/api/v1/apply")).bearer_auth(key.trim()).json(&json!({ "setup": setup })).send().await.unwrap();
    assert_eq!(applied.status(), 200);

    let body = json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991234567" } } });
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let webhook = web.post(format!("{url}/api/webhook/rkeeper?key={KEY}")).header("traceparent", parent).json(&body);
    assert_eq!(webhook.send().await.unwrap().status(), 200);

    let spans_of_trace = || -> Vec<Value> {
        let all = lines(folder);
        all.iter().map(|line| &line["span"]).filter(|span| span["trace.id"] == TRACE).cloned().collect()
    };
    let mut spans = Vec::new();
    until("the attempt's line", async || {
        spans = spans_of_trace();
        spans.iter().any(|span| span["name"] == "attempt")
    })
    .await;
    for (name, fields) in [
        ("webhook", ["connection.id", "provider"]),
        ("reading", ["entry.id", "provider"]),
        ("attempt", ["command.id", "provider"]),
    ] {
        let span = spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no line of {name}: {spans:?}"));
        assert!(fields.iter().all(|field| span[*field].as_str().is_some_and(|value| !value.is_empty())), "{span}");
    }
    let text = std::fs::read_to_string(folder.join("log")).unwrap();
    assert!(!text.contains("79991234567") && !text.contains(KEY), "no phone and no key in the log: {text}");

    // The provider is told the same trace, and as the span the exchange that the journal keeps.
    let calls: Vec<Value> =
        web.get(format!("{}/_sandbox/smsru/calls", sandbox.url())).send().await.unwrap().json().await.unwrap();
    let told = calls[0]["headers"]["traceparent"].to_string();
    let parts: Vec<&str> = told.trim_matches('"').split('-').collect();
    assert_eq!((parts[1], parts[2].len()), (TRACE, 16), "{told}");
    assert!(!TRACE.starts_with(parts[2]) && parts[2] != "00f067aa0ba902b7", "a span of its own: {told}");
    let db = rusqlite::Connection::open(folder.join("uzel-data/uzel.db")).unwrap();
    let exchange =
        || db.query_row("SELECT lower(hex(id)) FROM exchange WHERE trace = ?1", [TRACE], |row| row.get::<_, String>(0));
    until("the attempt in the journal", async || exchange().is_ok()).await;
    assert_eq!(&exchange().unwrap()[16..], parts[2]);
}
