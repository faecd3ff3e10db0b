//! What the tests share: a sandbox on a free port, and a receiver for what it sends.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uzel_sandbox::Sandbox;

pub(crate) async fn start() -> Sandbox {
    // The first test to come installs it; the others find it there.
    drop(rustls::crypto::ring::default_provider().install_default());
    let address = "127.0.0.1:0".parse().expect("an address");
    Sandbox::start(address).await.expect("starts")
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

pub(crate) async fn json_of(request: reqwest::RequestBuilder) -> Value {
    let answer = request.send().await.expect("answers");
    let text = answer.text().await.expect("a body");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
}

/// A receiver that answers every request with the same text and keeps the requests.
pub(crate) struct Hub {
    url: String,
    got: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    pub(crate) async fn start(body: &'static str) -> Hub {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&got);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                kept.lock().expect("no panic before").push(request);
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.expect("writes");
            }
        });
        Hub { url, got }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn last(&self) -> String {
        self.got.lock().expect("no panic before").last().cloned().unwrap_or_default()
    }
}

/// Reads one request: its head, and as much of a body as the head announces.
async fn read(stream: &mut tokio::net::TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 16 * 1024];
        let count = stream.read(&mut part).await.expect("reads");
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let announced = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            let announced: usize = announced.map_or(0, |text| text.parse().expect("a number"));
            if bytes.len() >= head.len() + 4 + announced || count == 0 {
                return text;
            }
        }
    }
}
