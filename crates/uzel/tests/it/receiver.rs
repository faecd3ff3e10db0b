//! A merchant's own software that receives webhooks: bytes over TCP, using nothing of ours.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn subject(&self) -> String {
        self.json()["subject"].as_str().unwrap().to_owned()
    }

    /// The items of `webhook-signature` with this version.
    pub(crate) fn signatures(&self, version: &str) -> Vec<String> {
        let items = self.header("webhook-signature").split(' ').filter_map(|item| item.split_once(','));
        items.filter(|(known, _)| *known == version).map(|(_, made)| made.to_owned()).collect()
    }

    fn signed(&self) -> Vec<u8> {
        let head = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp"));
        [head.as_bytes(), &self.body].concat()
    }

    /// What `v1` must be by this secret.
    pub(crate) fn v1(&self, secret: &str) -> String {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        hmac(&key, &self.signed())
    }

    /// Whether a `v1a` is good by this public key.
    pub(crate) fn is_signed_by(&self, public: &str) -> bool {
        let key = STANDARD.decode(public.strip_prefix("whpk_").unwrap()).unwrap();
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
        self.signatures("v1a").iter().any(|made| key.verify(&self.signed(), &STANDARD.decode(made).unwrap()).is_ok())
    }

    /// What `X-Loyalty-Signature` must be by this secret.
    pub(crate) fn loyalty(&self, secret: &str) -> String {
        let ts = self.header("x-signature-timestamp");
        format!("v1,ts={ts},sig={}", hmac(secret.as_bytes(), &[format!("{ts}.").as_bytes(), &self.body].concat()))
    }
}

fn hmac(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    STANDARD.encode(mac.finalize().into_bytes())
}

/// What is answered to whatever comes next.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and, below it, whole header lines.
    Status(u16, &'static str),
    After(Duration),
    /// The connection is cut when all has come.
    Cut,
    /// 200 and a body that never ends.
    Endless,
}

pub(crate) struct Receiver {
    pub address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    next: Arc<Mutex<VecDeque<Answer>>>,
    always: Arc<Mutex<Answer>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = Self {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            next: Arc::default(),
            always: Arc::new(Mutex::new(Answer::Status(204, ""))),
        };
        let (got, next, always) = (own.got.clone(), own.next.clone(), own.always.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (got, next, always) = (got.clone(), next.clone(), always.clone());
                tokio::spawn(async move {
                    // A client that goes away is no matter of ours.
                    drop(serve(stream, &got, &next, &always).await);
                });
            }
        });
        own
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.got.lock().len()
    }

    /// Answers this to all that comes from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.always.lock() = answer;
    }

    /// Answers this to the next ones, in their order.
    pub(crate) fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.next.lock().extend(answers);
    }
}

async fn serve(
    stream: TcpStream,
    got: &Mutex<Vec<Got>>,
    next: &Mutex<VecDeque<Answer>>,
    always: &Mutex<Answer>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        got.lock().push(Got { path, headers, body, at: Instant::now() });
        let answer = next.lock().pop_front().unwrap_or_else(|| always.lock().clone());
        match answer {
            Answer::Status(status, lines) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{lines}\r\n");
                stream.write_all(answer.as_bytes()).await?;
            }
            Answer::After(pause) => {
                tokio::time::sleep(pause).await;
                stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await?;
            }
            Answer::Cut => return Ok(()),
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                loop {
                    stream.write_all(chunk.as_bytes()).await?;
                }
            }
        }
    }
}
