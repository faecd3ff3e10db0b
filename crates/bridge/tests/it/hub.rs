//! A scripted hub: it checks signatures by the platform's page, keeps answers by key as the contract says, and counts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the hub does with a call.
#[derive(Debug, Clone)]
pub(crate) enum Mood {
    Well,
    /// Answers so, without doing anything.
    Says(u16, &'static str, Value),
    /// A page of somebody's, with this status.
    Page(u16),
    /// Takes the call, does it, and answers too late.
    Slow(Duration),
    /// Does it, and the connection breaks before the answer.
    Lost,
    /// Closes every connection at once.
    Cut,
    /// Something that is not HTTP.
    Garbage,
    Redirect,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) struct State {
    pub mood: Mood,
    /// Moods of single paths, before that of all.
    moods: HashMap<String, Mood>,
    pub seen: Vec<Seen>,
    /// First answers by key.
    answers: HashMap<String, (String, u16, Value)>,
    /// How often each order was committed, and each refund booked: by key.
    pub committed: BTreeMap<String, u32>,
    pub refunded: BTreeMap<String, Vec<u64>>,
    pub cancelled: Vec<String>,
    pub secret: String,
    /// Signatures that were spent, each with its key: none may come again for another call.
    signatures: HashMap<String, Option<String>>,
    pub clock_offset_s: i64,
    pub balance: i64,
    /// What a commit of a redeem hold takes at most.
    pub redeem_applied_max: u64,
    holds: HashMap<String, Value>,
}

pub(crate) struct Hub {
    pub state: Arc<Mutex<State>>,
    port: u16,
    task: Option<JoinHandle<()>>,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let state = State {
            mood: Mood::Well,
            moods: HashMap::new(),
            seen: Vec::new(),
            answers: HashMap::new(),
            committed: BTreeMap::new(),
            refunded: BTreeMap::new(),
            cancelled: Vec::new(),
            secret: "brg_test_secret_0001".into(),
            signatures: HashMap::new(),
            clock_offset_s: 0,
            balance: 500,
            redeem_applied_max: u64::MAX,
            holds: HashMap::new(),
        };
        let mut hub = Self { state: Arc::new(Mutex::new(state)), port: 0, task: None };
        hub.listen().await;
        hub
    }

    /// Takes calls, on the port from before if there was one.
    pub(crate) async fn listen(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let state = self.state.clone();
        self.task = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(converse(state.clone(), stream));
            }
        }));
    }

    /// Nobody listens any more.
    pub(crate) async fn stop(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        drop(task.await);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state.lock().mood = mood;
    }

    /// For calls of this path alone.
    pub(crate) fn mood_of(&self, path: &str, mood: Mood) {
        self.state.lock().moods.insert(path.to_owned(), mood);
    }

    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.state.lock().seen.iter().filter(|seen| seen.path == path).cloned().collect()
    }

    pub(crate) fn last(&self) -> Seen {
        self.state.lock().seen.last().unwrap().clone()
    }
}

async fn converse(state: Arc<Mutex<State>>, mut stream: TcpStream) {
    let mood = state.lock().mood.clone();
    match mood {
        Mood::Cut => return,
        Mood::Garbage => {
            drop(stream.write_all(b"\x15\x03\x01 what is HTTP?\r\n\r\n").await);
            return;
        }
        _ => {}
    }
    let service = service_fn(move |request| answer(state.clone(), request));
    // Each call meets the mood of its moment.
    drop(hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> std::io::Result<Response<Full<Bytes>>> {
    let path = request.uri().path().to_owned();
    let headers: HashMap<String, String> =
        request.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let seen = Seen { path, headers, body: String::from_utf8(body.to_vec()).unwrap() };
    let (mood, (status, json)) = {
        let mut state = state.lock();
        state.seen.push(seen.clone());
        let mood = state.moods.get(&seen.path).unwrap_or(&state.mood).clone();
        let done = match &mood {
            Mood::Well | Mood::Slow(_) | Mood::Lost => state.act(&seen),
            _ => (200, json!({})),
        };
        (mood, done)
    };
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(state.lock().clock_offset_s);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let with = |status: u16, kind: &str, body: String| {
        Response::builder()
            .status(status)
            .header("content-type", kind)
            .header("date", &date)
            .body(Full::new(body.into()))
            .unwrap()
    };
    Ok(match mood {
        Mood::Page(status) => with(status, "text/html", "<html>Welcome to the Wi-Fi of our mall</html>".into()),
        Mood::Redirect => {
            let mut page = with(302, "text/html", String::new());
            page.headers_mut().insert("location", "http://login.example/".parse().unwrap());
            page
        }
        Mood::Says(status, header, json) => {
            let mut said = with(status, "application/json", json.to_string());
            if let Some((name, value)) = header.split_once(": ") {
                said.headers_mut()
                    .insert(hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            said
        }
        Mood::Slow(time) => {
            tokio::time::sleep(time).await;
            with(status, "application/json", json.to_string())
        }
        Mood::Lost => return Err(std::io::Error::other("the answer is lost")),
        _ => with(status, "application/json; charset=utf-8", json.to_string()),
    })
}

fn error(status: u16, message: &str) -> (u16, Value) {
    (status, json!({ "error": "x", "message": message, "statusCode": status }))
}

impl State {
    fn act(&mut self, seen: &Seen) -> (u16, Value) {
        if seen.path == "/healthz" {
            return (200, json!({ "ok": true }));
        }
        if seen.path.starts_with("/loyalty/balance/") {
            let known = seen.headers.get("x-staff-key").is_some_and(|key| key == "stf");
            let told = json!({ "merchantId": "M-1", "customerId": "C-42", "balance": self.balance });
            return if known { (200, told) } else { error(401, "Invalid staff key") };
        }
        if let Err(why) = self.verify(seen) {
            return error(401, why);
        }
        let body = seen.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let key = seen.headers.get("idempotency-key").cloned();
        if let Some((first, status, answer)) = key.as_ref().and_then(|key| self.answers.get(key)) {
            let same = *first == seen.body;
            return if same { (*status, answer.clone()) } else { error(422, "this key is of another body") };
        }
        let (status, answer) = match seen.path.as_str() {
            "/loyalty/quote" => {
                let hold = format!("hold-{}", self.holds.len());
                self.holds.insert(hold.clone(), body.clone());
                let eligible = body["eligibleTotal"].as_u64().unwrap();
                match body["mode"].as_str() {
                    Some("earn") => {
                        (201, json!({ "canEarn": true, "pointsToEarn": eligible / 20, "holdId": hold, "message": "Начислим" }))
                    }
                    _ => {
                        let points = (eligible / 2).min(u64::try_from(self.balance).unwrap_or(0));
                        (
                            201,
                            json!({ "canRedeem": true, "discountToApply": points, "pointsToBurn": points,
                            "finalPayable": body["total"].as_u64().unwrap() - points, "holdId": hold, "message": "Списываем" }),
                        )
                    }
                }
            }
            "/loyalty/commit" => {
                if text("holdId") == "gone" {
                    return error(400, "Hold not found");
                }
                let quoted = self.holds.get(&text("holdId"));
                let redeem = quoted.filter(|quote| quote["mode"] == "redeem").and_then(|quote| quote["eligibleTotal"].as_u64());
                let applied = redeem.map_or(0, |eligible| eligible.min(self.redeem_applied_max));
                *self.committed.entry(text("orderId")).or_default() += 1;
                (
                    201,
                    json!({ "ok": true, "receiptId": format!("r-{}", text("orderId")), "redeemApplied": applied, "earnApplied": 5 }),
                )
            }
            "/loyalty/refund" => {
                if text("orderId") == "no-points" {
                    return error(400, "Receipt not found");
                }
                self.refunded.entry(text("orderId")).or_default().push(body["refundTotal"].as_u64().unwrap());
                (201, json!({ "ok": true, "share": 0.25, "pointsRestored": 1, "pointsRevoked": 2 }))
            }
            "/loyalty/cancel" => {
                self.cancelled.push(text("holdId"));
                (201, json!({ "ok": true }))
            }
            "/loyalty/qr" => (201, json!({ "token": "a.b.c", "ttl": 60 })),
            _ => error(404, "nothing is here"),
        };
        if let Some(key) = key {
            self.answers.insert(key, (seen.body.clone(), status, answer.clone()));
        }
        (status, answer)
    }

    fn verify(&mut self, seen: &Seen) -> Result<(), &'static str> {
        let header = seen.headers.get("x-bridge-signature").ok_or("no signature")?;
        let members: HashMap<&str, &str> =
            header.strip_prefix("v1,").ok_or("no v1")?.split(',').filter_map(|member| member.split_once('=')).collect();
        let (ts, sig) = (members["ts"], members["sig"]);
        let now = jiff::Timestamp::now().as_second() + self.clock_offset_s;
        if (ts.parse::<i64>().unwrap() - now).abs() > 300 {
            return Err("Invalid bridge signature");
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(format!("{ts}.{}", seen.body).as_bytes());
        mac.verify_slice(&STANDARD.decode(sig).unwrap()).map_err(|_| "Invalid bridge signature")?;
        let key = seen.headers.get("idempotency-key").cloned();
        let first = self.signatures.entry(header.clone()).or_insert_with(|| key.clone());
        assert_eq!(*first, key, "the hub would take this call for a repeat of another: {} {}", seen.path, seen.body);
        Ok(())
    }
}
