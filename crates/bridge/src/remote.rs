//! The hub as the bridge sees it: every call is signed and bounded in time, and what comes back is either the hub's answer or none.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{secret::Secret, settings::Settings, sign};

const CONNECT_TIME: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// After a call that could not even be connected, others do not wait for the same so long.
const DOWN_TIME: Duration = Duration::from_secs(3);
/// A `Date` counts whole seconds, and an answer takes time to come.
const CLOCK_TOLERANCE_S: i64 = 5;
/// How far off a signature's time may be: the hub takes 300 s.
const WINDOW_S: i64 = 300;

/// Headers of the hub's answer that a till may want.
const PASSED_ON: [&str; 12] = [
    "content-type",
    "content-language",
    "retry-after",
    "x-request-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-loyalty-signature",
    "x-signature-timestamp",
    "x-signature-key-id",
    "x-merchant-id",
    "idempotent-replayed",
];

/// An answer to a till.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Reply {
    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What is asked of the hub.
pub(crate) struct Ask<'a> {
    /// `quote`, `commit` …: the last part of the path.
    pub call: &'static str,
    pub body: &'a str,
    pub key: Option<&'a str>,
    pub staff_key: Option<&'a str>,
    pub language: &'a str,
    pub request_id: Option<&'a str>,
}

/// What a call came to.
pub(crate) enum Came {
    /// The hub has decided: done, or refused for good.
    Answer(Reply),
    /// Nobody knows, or the hub asks to come again: the same may be sent again.
    Failed(Failure),
}

pub(crate) struct Failure {
    pub reason: String,
    pub reach: Reach,
    /// How long the hub asks to wait.
    pub wait: Option<Duration>,
    /// What came, where it was the hub's.
    pub reply: Option<Reply>,
}

/// Which calls would fare the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Call,
    Line,
    /// The hub has had too many: of all, or of this buyer.
    Both,
}

impl Failure {
    fn of_line(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), reach: Reach::Line, wait: None, reply: None }
    }
}

/// How the line is, for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    pub answered_at: Option<jiff::Timestamp>,
    pub failed_at: Option<jiff::Timestamp>,
    pub failure: Option<String>,
    down_until: Option<Instant>,
}

impl Line {
    /// `None` until something was asked.
    pub(crate) fn is_up(&self) -> Option<bool> {
        (self.answered_at.is_some() || self.failed_at.is_some()).then_some(self.failure.is_none())
    }
}

pub(crate) struct Remote {
    http: reqwest::Client,
    base: String,
    secrets: Vec<Secret>,
    staff_key: Option<Secret>,
    /// Which of the secrets was right the last time.
    right: AtomicUsize,
    /// What the hub's clock shows beyond this machine's.
    clock_offset_s: AtomicI64,
    /// The time that each body was last signed with: no two calls may have the same signature, since the hub takes the second for
    /// the first one's repeat.
    signed: Mutex<HashMap<[u8; 32], i64>>,
    line: Mutex<Line>,
}

impl Remote {
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIME)
            .pool_idle_timeout(Duration::from_secs(20))
            .tcp_keepalive(Duration::from_secs(15))
            .user_agent(concat!("UzelBridge/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            base: settings.hub_url()?,
            secrets: settings.secret.iter().chain(&settings.next_secret).cloned().collect(),
            staff_key: settings.staff_key.clone(),
            right: AtomicUsize::new(0),
            clock_offset_s: AtomicI64::new(0),
            signed: Mutex::default(),
            line: Mutex::default(),
        })
    }

    pub(crate) fn line(&self) -> Line {
        self.line.lock().clone()
    }

    /// Why a call would not even be connected, as one of a moment ago was not.
    pub(crate) fn is_down(&self) -> Option<String> {
        let line = self.line.lock();
        let until = line.down_until?;
        (Instant::now() < until).then(|| line.failure.clone().unwrap_or_default())
    }

    pub(crate) fn clock_offset_s(&self) -> i64 {
        self.clock_offset_s.load(Ordering::Relaxed)
    }

    /// Whether the hub took the second of two secrets the last time.
    pub(crate) fn uses_next_secret(&self) -> bool {
        self.right.load(Ordering::Relaxed) == 1
    }

    /// One call within this time, whatever happens.
    pub(crate) async fn call(&self, ask: &Ask<'_>, total: Duration) -> Came {
        let came = match tokio::time::timeout(total, self.with_each_secret(ask)).await {
            Ok(came) => came,
            Err(_) => Came::Failed(Failure::of_line(format!("the hub did not answer within {} ms", total.as_millis()))),
        };
        self.note(&came);
        came
    }

    fn note(&self, came: &Came) {
        let mut line = self.line.lock();
        match came {
            Came::Answer(_) | Came::Failed(Failure { reply: Some(_), .. }) => {
                line.answered_at = Some(jiff::Timestamp::now());
                line.failure = None;
                line.down_until = None;
            }
            Came::Failed(failure) => {
                line.failed_at = Some(jiff::Timestamp::now());
                line.failure = Some(failure.reason.clone());
            }
        }
    }

    async fn with_each_secret(&self, ask: &Ask<'_>) -> Came {
        let count = self.secrets.len().max(1);
        let first = self.right.load(Ordering::Relaxed);
        let mut came = Came::Failed(Failure::of_line("nothing was tried"));
        for step in 0..count {
            let index = (first + step) % count;
            let before = self.clock_offset_s();
            came = self.once(ask, index).await;
            let refused = |came: &Came| matches!(came, Came::Answer(reply) if reply.status == 401);
            if refused(&came) && (self.clock_offset_s() - before).abs() > CLOCK_TOLERANCE_S {
                // The clock of this machine was off: the hub's own time is known now.
                came = self.once(ask, index).await;
            }
            if !refused(&came) {
                if matches!(came, Came::Answer(_)) {
                    self.right.store(index, Ordering::Relaxed);
                }
                return came;
            }
        }
        came
    }

    async fn once(&self, ask: &Ask<'_>, secret: usize) -> Came {
        let mut request = self
            .http
            .request(Method::POST, format!("{}/loyalty/{}", self.base, ask.call))
            .header("content-type", "application/json")
            .header("accept-language", ask.language);
        let headers = [
            ("idempotency-key", ask.key),
            ("x-request-id", ask.request_id),
            ("x-staff-key", ask.staff_key.or(self.staff_key.as_ref().map(Secret::expose))),
        ];
        for (name, value) in headers {
            if let Some(mut value) = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                value.set_sensitive(name == "x-staff-key");
                request = request.header(name, value);
            }
        }
        if let Some(secret) = self.secrets.get(secret) {
            request = request.header("x-bridge-signature", sign::signature(secret, self.time_for(ask.body), ask.body.as_bytes()));
        }
        match receive(request.body(ask.body.to_owned())).await {
            Err(error) => {
                if error.is_connect() {
                    self.line.lock().down_until = Some(Instant::now() + DOWN_TIME);
                }
                Came::Failed(Failure::of_line(told(&error)))
            }
            Ok((status, headers, body)) => self.judge(ask.call, status, &headers, body),
        }
    }

    /// The seconds to sign with, by the hub's clock: never the same twice for the same bytes.
    fn time_for(&self, body: &str) -> i64 {
        let now = jiff::Timestamp::now().as_second() + self.clock_offset_s();
        let mut signed = self.signed.lock();
        if signed.len() > 4_096 {
            signed.retain(|_, at| now - *at <= WINDOW_S);
        }
        let at = signed.entry(Sha256::digest(body.as_bytes()).into()).or_insert(i64::MIN);
        *at = if *at >= now && *at < now + WINDOW_S / 2 { *at + 1 } else { now };
        *at
    }

    fn judge(&self, call: &str, status: StatusCode, headers: &HeaderMap, body: Option<Bytes>) -> Came {
        let not_the_hubs = || {
            Came::Failed(Failure::of_line(format!(
                "what answered ({status}) is not the hub: its address may be wrong, or the line wants a login"
            )))
        };
        let Some(body) = body else { return not_the_hubs() };
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        if !json.is_object() && !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            return not_the_hubs();
        }
        if json.is_object() {
            self.learn_time(headers);
        }
        let passed = |name: &&'static str| Some((HeaderName::from_static(name), headers.get(*name)?.clone()));
        let headers_passed = PASSED_ON.iter().filter_map(passed).collect();
        let reply = Reply { status: status.as_u16(), headers: headers_passed, body };
        let wait = headers.get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
        match status.as_u16() {
            200..300 if fits(call, &json) => Came::Answer(reply),
            200..400 => not_the_hubs(),
            408 | 425 | 429 => Came::Failed(Failure {
                reason: format!("the hub asks to come again later ({})", status.as_u16()),
                reach: Reach::Both,
                wait,
                reply: Some(reply),
            }),
            // The same call is being carried out at this moment.
            409 if wait.is_some() => Came::Failed(Failure {
                reason: "the hub is at this call already".into(),
                reach: Reach::Call,
                wait,
                reply: Some(reply),
            }),
            400..500 => Came::Answer(reply),
            code => Came::Failed(Failure {
                reason: format!("the hub answers {code}"),
                reach: if (502..=504).contains(&code) { Reach::Line } else { Reach::Call },
                wait,
                reply: json.is_object().then_some(reply),
            }),
        }
    }

    fn learn_time(&self, headers: &HeaderMap) {
        let date = headers.get("date").and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()) else {
            return;
        };
        let offset = date.as_second() - jiff::Timestamp::now().as_second();
        let offset = if offset.abs() <= CLOCK_TOLERANCE_S { 0 } else { offset };
        if self.clock_offset_s.swap(offset, Ordering::Relaxed) != offset && offset.abs() > WINDOW_S {
            tracing::warn!(offset_s = offset, "this machine's clock is off: calls are signed by the hub's");
        }
    }

    /// Points of a buyer; `None` where the hub does not tell. Only a staff key may look: a signature is over a body.
    pub(crate) async fn balance(&self, merchant: &str, customer: &str, total: Duration) -> Option<u64> {
        let mut url = reqwest::Url::parse(&self.base).ok()?;
        url.path_segments_mut().ok()?.pop_if_empty().extend(["loyalty", "balance", merchant, customer]);
        let request = self.http.get(url).header("x-staff-key", self.staff_key.as_ref()?.expose());
        let (status, _, body) = tokio::time::timeout(total, receive(request)).await.ok()?.ok()?;
        let json: Value = serde_json::from_slice(&body?).ok()?;
        json.get("balance").filter(|_| status.is_success())?.as_i64().map(|points| u64::try_from(points).unwrap_or(0))
    }

    /// Whether the hub answers at all, and within how many milliseconds.
    pub(crate) async fn health(&self, total: Duration) -> Result<u128, String> {
        let began = Instant::now();
        let asked = receive(self.http.get(format!("{}/healthz", self.base)));
        let (status, headers, _) = tokio::time::timeout(total, asked)
            .await
            .map_err(|_| format!("it did not answer within {} ms", total.as_millis()))?
            .map_err(|error| told(&error))?;
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        self.learn_time(&headers);
        Ok(began.elapsed().as_millis())
    }
}

/// Whether a good answer to this call can be the hub's: a sale may not be taken for done because some page was delivered.
fn fits(call: &str, json: &Value) -> bool {
    match call {
        "quote" => json["canRedeem"].is_boolean() || json["canEarn"].is_boolean(),
        "qr" => json["token"].is_string(),
        _ => json["ok"] == Value::Bool(true),
    }
}

/// Status, headers and body; no body where it is too large.
async fn receive(request: reqwest::RequestBuilder) -> Result<(StatusCode, HeaderMap, Option<Bytes>), reqwest::Error> {
    let mut response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok((status, headers, None));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, headers, Some(body.freeze())))
}

/// What is said of a failed call: never its URL.
fn told(error: &reqwest::Error) -> String {
    let what = match () {
        () if error.is_timeout() => "the hub is not reached in time",
        () if error.is_connect() => "the hub is not reached",
        () => "the connection to the hub broke",
    };
    let mut source = std::error::Error::source(error);
    let mut deepest = String::new();
    while let Some(cause) = source {
        deepest = cause.to_string();
        source = cause.source();
    }
    if deepest.is_empty() { what.to_owned() } else { format!("{what}: {deepest}") }
}
