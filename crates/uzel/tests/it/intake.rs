//! The road in: strangers, bad bodies, limits.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{KEY, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_and_leaves_no_trace_in_the_inbox() {
    let world = World::new(json!({})).await;
    for query in ["", "?key=", "?key=wrong-key-of-twenty-four-chars", "?other=1"] {
        let url = format!("{}/api/webhook/rkeeper{query}", world.hub.url());
        assert_eq!(world.web.post(url).body("{}").send().await.unwrap().status(), 401, "{query}");
    }
    // A key of one provider is no key of another.
    assert_eq!(world.web.post(format!("{}/api/webhook/nobody?key={KEY}", world.hub.url())).send().await.unwrap().status(), 404);
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_come_in_any_of_its_places_and_is_never_journalled() {
    let world = World::new(json!({})).await;
    let url = format!("{}/api/webhook/rkeeper", world.hub.url());
    for (name, value) in [
        ("x-api-key", KEY.to_owned()),
        ("authorization", format!("Bearer {KEY}")),
        ("authorization", KEY.to_owned()),
        ("token", KEY.to_owned()),
    ] {
        assert_eq!(world.web.post(&url).header(name, value).body("{}").send().await.unwrap().status(), 200, "{name}");
    }
    world.quiet().await;
    for row in world.api("/api/v1/journal").await.as_array().unwrap() {
        let whole = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await;
        assert!(!whole.to_string().contains(KEY), "{whole}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_become_dead_letters_and_lose_nothing() {
    let world = World::new(json!({})).await;
    let url = |provider: &str| format!("{}/api/webhook/{provider}?key={KEY}", world.hub.url());
    let deep = "[".repeat(100_000);
    for provider in ["iiko", "rkeeper", "yclients", "amocrm"] {
        for body in ["", "null", "[]", "\"text\"", "{", "\u{feff}{}", "{\"order\":[1]}", "[null,1]", deep.as_str()] {
            let answer = world
                .web
                .post(url(provider))
                .header("content-type", "application/json")
                .body(body.to_owned())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 200, "{provider}");
        }
        let answer = world.web.post(url(provider)).body(vec![0xff, 0xfe, 0x00]).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{provider}");
    }
    world.quiet().await;
    let rows = world.api("/api/v1/journal?limit=1000").await;
    assert_eq!(rows.as_array().map(Vec::len), Some(40), "{rows}");
    assert_eq!(world.commands("waiting").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_the_provider_does_not_use_is_refused_with_405_and_not_journalled() {
    use reqwest::Method;
    let world = World::new(json!({})).await;
    let try_it = async |method: &Method, path: &str| {
        world.web.request(method.clone(), format!("{}{path}", world.hub.url())).send().await.unwrap()
    };
    let till = format!("/hooks/{}?key={KEY}", world.link("iiko").await["id"].as_str().unwrap());
    let (rkeeper, amocrm) = (format!("/api/webhook/rkeeper?key={KEY}"), format!("/api/webhook/amocrm?key={KEY}"));
    for (path, allow) in [(&rkeeper, "POST"), (&till, "POST"), (&amocrm, "POST, GET")] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD, Method::PATCH, Method::OPTIONS] {
            if allow.contains(method.as_str()) {
                continue;
            }
            let answer = try_it(&method, path).await;
            assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, allow), "{method} {path}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{method} {path}");
        }
    }
    let problem: serde_json::Value = try_it(&Method::PUT, &rkeeper).await.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/method-not-allowed");
    // Who has no key learns nothing of methods.
    assert_eq!(try_it(&Method::GET, "/api/webhook/rkeeper").await.status(), 401);
    // amoCRM's and SMS.ru's own GETs are let in.
    assert_eq!(try_it(&Method::GET, &amocrm).await.status(), 200);
    let texts = world.link("smsru").await["id"].as_str().unwrap().to_owned();
    assert_eq!(try_it(&Method::GET, &format!("/hooks/{texts}")).await.text().await.unwrap(), "100");
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
    let page = try_it(&Method::GET, "/metrics").await.text().await.unwrap();
    assert!(page.contains("pos_requests_total{provider=\"RKEEPER\",endpoint=\"webhook\",result=\"method\"} 7"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_refused_with_413() {
    let world = World::new(json!({})).await;
    let url = format!("{}/api/webhook/rkeeper?key={KEY}", world.hub.url());
    let answer = world.web.post(url).body(vec![b' '; 10 << 20]).send().await;
    // The hub may close the connection before the client has written all of it.
    if let Ok(answer) = answer {
        assert_eq!(answer.status(), 413);
    }
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_is_not_journalled() {
    let world = World::new(json!({})).await;
    let mut stream = tokio::net::TcpStream::connect(world.hub.address).await.unwrap();
    let head = format!("POST /api/webhook/rkeeper?key={KEY} HTTP/1.1\r\nHost: hub\r\nContent-Length: 100\r\n\r\n{{\"order\":");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok();
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    assert_eq!(world.api("/api/v1/journal").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_leaves_either_nothing_or_an_entry_that_is_read() {
    let world = World::new(json!({ "delay": "1h" })).await;
    for order in 0..50 {
        let body = json!({ "order": { "id": order, "status": "Выполнен", "customer": { "phone": "+79991234567" } } }).to_string();
        let head = format!("POST /api/webhook/rkeeper?key={KEY} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut stream = tokio::net::TcpStream::connect(world.hub.address).await.unwrap();
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    crate::world::until("all entries to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_health_and_metrics_are_told() {
    let world = World::new(json!({})).await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991234567" } } })).await;
    world.quiet().await;
    let get = async |path: &str| world.web.get(format!("{}{path}", world.hub.url())).send().await.unwrap();
    assert_eq!(get("/healthz").await.status(), 200);
    assert_eq!(get("/readyz").await.status(), 200);
    let page = get("/metrics").await.text().await.unwrap();
    for line in [
        "pos_webhooks_total{provider=\"RKEEPER\"} 1",
        "pos_requests_total{provider=\"RKEEPER\",endpoint=\"webhook\",result=\"ok\"} 1",
        "uzel_http_requests_total{route=\"webhook\",status=\"2xx\"} 1",
        "uzel_accept_duration_seconds_count 1",
        "uzel_accept_duration_seconds_bucket{le=\"+Inf\"} 1",
    ] {
        assert!(page.contains(line), "{page}");
    }
    // Each store has its own lane for what somebody waits for.
    let group = |lane: &str| page.contains(&format!("uzel_store_group_duration_seconds_bucket{{le=\"+Inf\",lane=\"{lane}\"}} "));
    assert!(group("first") || group("entries"), "{page}");
    let mut page = String::new();
    crate::world::until("what is taken once a second", async || {
        page = get("/metrics").await.text().await.unwrap();
        ["uzel_entries{state=\"read\"} 1", "uzel_commands{state=\"done\"} 1", "uzel_commands{state=\"unknown\"} 0"]
            .iter()
            .all(|line| page.contains(line))
    })
    .await;
    // Whatever stands on the page stands in the documents.
    let documents = include_str!("../../../../docs/operations.md");
    let names: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        let told = ["", "_total", "_info"].iter().any(|end| documents.contains(&format!("`{name}{end}`")));
        assert!(told, "{name}");
    }
    assert_eq!(get("/api/v1/journal").await.status(), 401, "closed without a key");
}
