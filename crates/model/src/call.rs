//! Calling outward: what a connector hands to the hub's one client, and how a call can fail.
//!
//! A connector never opens a socket. It builds an [`Outgoing`], gives it to the [`Client`], and reads the [`Reply`]. The
//! engine's transport holds all policy: deadline, rate, breaker, login, body limits, journalling.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Timestamp;

/// A request to a provider.
#[derive(Clone)]
pub struct Outgoing {
    pub method: &'static str,
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// A read: may be sent again whatever became of it.
    pub repeatable: bool,
    /// A login of its own: no session is applied and bodies are not journalled.
    pub login: bool,
    /// The address came from a stranger (a browser's subscription). Whoever knows its path may use it, so the journal has its
    /// host only; and without TLS it is called only where the operator names the network.
    pub strangers: bool,
    /// Its query carries credentials, or names people: it is kept nowhere.
    pub private_query: bool,
    /// The connector reads 429 itself: some providers say by it that a quota is used up.
    pub reads_429: bool,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some providers put a secret into the path.
        let host: Vec<&str> = self.url.split(['/', '?']).take(3).collect();
        write!(f, "{} {}/…", self.method, host.join("/"))
    }
}

impl Outgoing {
    pub fn new(method: &'static str, url: impl Into<String>) -> Self {
        let repeatable = method == "GET";
        Self {
            method,
            url: url.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeatable,
            login: false,
            reads_429: false,
            strangers: false,
            private_query: false,
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn json(self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("a wire struct has text keys only");
        let mut outgoing = self.header("content-type", "application/json");
        outgoing.body = body.into();
        outgoing
    }

    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let body = serde_urlencoded::to_string(pairs).expect("pairs of texts are a form");
        let mut outgoing = self.header("content-type", "application/x-www-form-urlencoded");
        outgoing.body = body.into();
        outgoing
    }

    /// Marks a call that only reads, whatever its method.
    pub fn reads(mut self) -> Self {
        self.repeatable = true;
        self
    }

    pub fn logs_in(mut self) -> Self {
        self.login = true;
        self
    }

    /// Marks an address that a stranger gave.
    pub fn to_a_stranger(mut self) -> Self {
        self.strangers = true;
        self
    }

    /// Marks a query that nobody may see.
    pub fn hides_query(mut self) -> Self {
        self.private_query = true;
        self
    }

    /// The address as it may be kept: `https://push.example.net/***`, `https://api.example/accounts?***`.
    pub fn shown_url(&self) -> String {
        if let Some((address, _)) = self.url.split_once('?').filter(|_| self.private_query) {
            return format!("{address}?***");
        }
        match self.url.split_once("://").filter(|_| self.strangers) {
            Some((scheme, rest)) => format!("{scheme}://{}/***", rest.split(['/', '?', '#']).next().unwrap_or_default()),
            None => self.url.clone(),
        }
    }

    pub fn reads_429(mut self) -> Self {
        self.reads_429 = true;
        self
    }
}

/// What the provider answered.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Reply {
    /// Reads the body as JSON; an answer that cannot be read leaves the outcome open.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, CallError> {
        let mut reader = serde_json::Deserializer::from_slice(&self.body);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| CallError::Unreadable(error.to_string()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// When the provider wants us back: `Retry-After`, or `X-RateLimit-Reset` in seconds from now, of a day at the most.
    pub fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        let value = self.header("retry-after").or_else(|| self.header("x-ratelimit-reset"))?.trim();
        let at = match value.parse::<i64>() {
            Ok(wait_s) => now.checked_add(SignedDuration::from_secs(wait_s)).ok()?,
            Err(_) => jiff::fmt::rfc2822::parse(value).ok()?.timestamp(),
        };
        (now..=now + SignedDuration::from_hours(24)).contains(&at).then_some(at)
    }
}

/// Why a call did not do what was asked, sorted by what the engine does next.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent, or the provider says it did nothing: try again later.
    #[error("{0}")]
    Unreachable(String),
    /// The provider wants us to come back, at a time if it names one.
    #[error("{reason}")]
    Later { reason: String, at: Option<Timestamp> },
    /// It was sent and no answer came: only a repeatable call may be sent again.
    #[error("{0}")]
    Lost(String),
    /// The login is not good (any more).
    #[error("{0}")]
    Unauthorized(String),
    /// The provider said no.
    #[error("{reason}")]
    Refused { refusal: Refusal, code: String, reason: String },
    /// An answer that we do not understand: for a read it is a fault, for anything else the outcome is unknown.
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

/// Whom a refusal concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// This one command: a wrong number, no route.
    Command,
    /// The whole account (no money, wrong key): the merchant must act; the queue is kept and tried again later.
    Account,
    /// The person does not want messages: an opt-out.
    OptOut,
    /// The person cannot be reached by this channel (now): another one may reach them.
    NotHere,
    /// It had been accepted before: the repeat proves it.
    Already,
    /// What the merchant wrote is not taken (a forbidden word): this command ends, and the merchant is told.
    Content,
    /// We built a wrong request.
    Ours,
    /// Its key came before with other words: what was sent then may have reached the person.
    OtherWords,
}

impl CallError {
    pub fn refused(refusal: Refusal, code: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::Refused { refusal, code: code.to_string(), reason: reason.into() }
    }
}

/// Carries exchanges; implemented by the engine.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request and gives any answer with a status below 300 or a 4xx that is the connector's to read (400,
    /// 402–428). 401, 429 (but for [`Outgoing::reads_429`]) and 5xx have become errors; a redirect is never followed.
    async fn exchange(&self, outgoing: Outgoing) -> Result<Reply, CallError>;
    fn now(&self) -> Timestamp;
}

/// The one way outward for connectors.
pub struct Client<'a> {
    transport: &'a dyn Transport,
}

impl<'a> Client<'a> {
    pub fn new(transport: &'a dyn Transport) -> Self {
        Self { transport }
    }

    pub fn now(&self) -> Timestamp {
        self.transport.now()
    }

    pub async fn send(&self, outgoing: Outgoing) -> Result<Reply, CallError> {
        self.transport.exchange(outgoing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_names_the_time_of_the_next_try_in_seconds_or_as_a_date() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |value: &str| {
            let headers = vec![("Retry-After".to_owned(), value.to_owned())];
            Reply { status: 429, headers, body: Bytes::new() }.retry_at(now).map(|at| at.to_string())
        };
        assert_eq!(at("30").as_deref(), Some("2026-11-24T12:00:30Z"));
        assert_eq!(at("Tue, 24 Nov 2026 12:05:00 GMT").as_deref(), Some("2026-11-24T12:05:00Z"));
        for odd in
            ["", "-1", "soon", "86401", "9223372036854775807", "Tue, 24 Nov 2026 11:00:00 GMT", "Fri, 27 Nov 2026 12:00:00 GMT"]
        {
            assert_eq!(at(odd), None, "{odd}");
        }
    }
}
