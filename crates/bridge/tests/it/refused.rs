//! What the bridge itself refuses.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    hub::Hub,
    world::{Bridge, commit, quote},
};

#[tokio::test]
async fn a_bad_body_is_told_by_its_field_and_never_reaches_the_hub() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    for (path, body, told) in [
        ("/quote", "".to_owned(), "the body is empty: it must be a JSON object"),
        ("/quote", "[1]".into(), "the body must be a JSON object"),
        ("/quote", "null".into(), "the body must be a JSON object"),
        ("/commit", r#"{"holdId":7,"orderId":null}"#.into(), "holdId must be a string; orderId is missing"),
        ("/refund", r#"{"orderId":"O","refundTotal":"250"}"#.into(), "refundTotal must be a number"),
        ("/refund", r#"{"orderId":"O","refundTotal":-1}"#.into(), "refundTotal must not be less than 0"),
        ("/cancel", "{}".into(), "holdId is missing"),
        ("/qr", r#"{"customerId":["C"]}"#.into(), "customerId must be a string"),
    ] {
        let (status, answer) = bridge.post_with(path, &[("x-request-id", "req_7")], body.clone()).await;
        assert_eq!((status, answer["message"].as_str().unwrap()), (400, told), "{path} {body}");
        assert_eq!(
            (answer["statusCode"].clone(), answer["requestId"].clone(), answer["path"].clone()),
            (json!(400), json!("req_7"), json!(path))
        );
    }
    let (status, answer) = bridge.post_with("/commit", &[], &b"{\"holdId\":\"\xcf\xf0\"}"[..]).await;
    assert_eq!((status, answer["message"].as_str().unwrap()), (400, "the body is not UTF-8"));
    assert_eq!(bridge.post_with("/commit", &[], vec![b' '; 100 << 10]).await.0, 413);
    // So much is not even read: the connection is closed, and the bridge goes on.
    drop(bridge.web.post(format!("{}/commit", bridge.url())).body(vec![b' '; 10 << 20]).send().await);
    assert_eq!(bridge.post("/nothing", &json!({})).await.0, 404);
    assert_eq!(bridge.web.get(format!("{}/commit", bridge.url())).send().await.unwrap().status(), 405);
    assert!(hub.state.lock().seen.is_empty());
}

#[tokio::test]
async fn a_web_page_cannot_make_a_browser_call_the_bridge() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    let sale = commit("O-1").to_string();
    assert_eq!(bridge.post_with("/commit", &[("origin", "https://evil.example")], sale.clone()).await.0, 403);
    assert_eq!(bridge.post_with("/commit", &[("host", "evil.example:18080")], sale.clone()).await.0, 403);
    assert_eq!(bridge.post_with("/commit", &[("host", "localhost:18080")], sale).await.0, 201);
    assert_eq!(hub.state.lock().seen.len(), 1);
}

#[tokio::test]
async fn with_a_key_for_tills_nobody_else_is_served() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "till_key = 'a-key-of-the-tills'").await;
    let sale = commit("O-1").to_string();
    assert_eq!(bridge.post_with("/commit", &[], sale.clone()).await.0, 401);
    assert_eq!(bridge.post_with("/commit", &[("x-till-key", "a-key-of-the-tillz")], sale.clone()).await.0, 401);
    assert_eq!(bridge.post_with("/commit", &[("x-till-key", "a-key-of-the-tills")], sale).await.0, 201);
    assert_eq!(bridge.get("/health").await["ok"], true);
    assert_eq!(bridge.get("/config").await["statusCode"], 401);
    assert_eq!(bridge.run(&["queue", "list"]).out.trim(), "nothing waits");
}

// The command asks the hub of this process while the test waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_shown_or_logged() {
    let mut hub = Hub::start().await;
    let bridge =
        Bridge::started(&hub, "staff_key = 'stf_hidden'\nnext_secret = 'brg_hidden'\ntill_key = 'till_hidden_0001'").await;
    hub.stop().await;
    let key = [("x-till-key", "till_hidden_0001")];
    let sale = commit("O-1").to_string();
    assert_eq!(bridge.post_with("/commit", &key, sale).await.0, 202);
    assert_eq!(bridge.post_with("/quote", &key, quote("earn", "O-2").to_string()).await.0, 201);
    let mut shown = bridge.log();
    for path in ["/config", "/health", "/metrics", "/queue/list", "/queue/status", "/ready"] {
        let asked = bridge.web.get(format!("{}{path}", bridge.url())).header(key[0].0, key[0].1).send().await.unwrap();
        assert!(asked.status().is_success(), "{path}");
        shown.push_str(&asked.text().await.unwrap());
    }
    shown.push_str(&bridge.run(&["queue", "list"]).out);
    shown.push_str(&bridge.run(&["check"]).out);
    for secret in ["hidden", "brg_test_secret", "C-42"] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
    assert!(shown.contains("uzel_bridge_queue_calls{state=\"waiting\"} 1"), "{shown}");
    assert!(shown.contains("uzel_bridge_requests_total{call=\"quote\",result=\"offline\"} 1"), "{shown}");
}

#[tokio::test]
async fn what_is_not_http_harms_nobody() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    for bytes in
        [&b"\x16\x03\x01\x02\x00"[..], b"POST /commit HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", b"\r\n\r\n\0\0"]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", bridge.port)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    assert_eq!(bridge.get("/health").await["ok"], Value::Bool(true));
}
