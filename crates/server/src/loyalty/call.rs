//! A call as it came: its head, its body, and what is the same for every answer.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, Path, Request as HttpRequest},
    http::{HeaderMap, header, request::Parts},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use uzel_model::{Request, words::Language};

use super::refusal::{Refusal, request_id};
use crate::{App, Local, api};

/// A question of a till is small.
const BODY_BYTES_MAX: usize = 64 << 10;
/// What of the head is journalled: none of it lets anybody in.
const KEPT_HEADERS: [&str; 4] = ["accept-language", "content-type", "user-agent", "x-request-id"];

/// A call.
pub(super) struct Call {
    pub(super) method: String,
    /// As it came.
    pub(super) path: String,
    /// Variable parts of the path.
    pub(super) named: HashMap<String, String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) head: HeaderMap,
    pub(super) peer: Option<IpAddr>,
    /// It came over the machine's own socket.
    pub(super) local: bool,
    pub(super) request_id: String,
    pub(super) language: Language,
    pub(super) at: Timestamp,
    /// Shared by nobody; a body alone cannot be.
    body: Mutex<Option<Body>>,
}

impl Call {
    pub(super) async fn of(app: &Arc<App>, request: HttpRequest) -> Self {
        let (mut parts, body): (Parts, Body) = request.into_parts();
        let named = Path::<HashMap<String, String>>::from_request_parts(&mut parts, app).await.map(|Path(named)| named);
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        Self {
            request_id: request_id(&parts.headers),
            language: text("accept-language").map_or(Language::Ru, language),
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            named: named.unwrap_or_default(),
            query: form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect(),
            peer: app.door.client(&parts.headers, &parts.extensions),
            local: parts.extensions.get::<Local>().is_some(),
            at: app.engine.clock.now(),
            head: parts.headers,
            body: Mutex::new(Some(body)),
        }
    }

    /// A header's text; a repeated one is its first.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name).map(|value| value.to_str().unwrap_or_default().trim())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// A part of the path; nothing where it cannot be read.
    pub(super) fn named(&self, name: &str) -> &str {
        self.named.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The body of a question.
    pub(super) async fn bytes(&mut self, app: &App) -> Result<Bytes, Refusal> {
        self.bytes_up_to(app, BODY_BYTES_MAX).await
    }

    pub(super) async fn bytes_up_to(&mut self, app: &App, bytes_max: usize) -> Result<Bytes, Refusal> {
        let declared = self.header("content-length").and_then(|length| length.parse::<usize>().ok());
        if declared.is_some_and(|length| length > bytes_max) {
            return Err(Refusal::too_large(bytes_max));
        }
        let reading = api::body(self.body.get_mut().take().unwrap_or_default(), bytes_max);
        Ok(tokio::time::timeout(app.door.patience(), reading).await.map_err(|_| Refusal::too_slow())??)
    }

    /// As it is journalled, with this body: without anything that lets somebody in.
    pub(super) fn request(&self, body: Vec<u8>) -> Request {
        let kept = KEPT_HEADERS.iter().filter_map(|name| self.header(name).map(|value| ((*name).to_owned(), value.to_owned())));
        Request {
            method: self.method.clone(),
            path: self.path.clone(),
            query: Vec::new(),
            headers: kept.collect(),
            body: body.into(),
            received_at: self.at,
            peer: self.peer,
            key: None,
        }
    }

    /// The same with the head and query as they came, for a connector.
    pub(super) fn whole(&self, body: Bytes) -> Request {
        let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Request {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.head.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            body,
            received_at: self.at,
            peer: self.peer,
            key: None,
        }
    }

    /// The trace that the till began, or a new one.
    pub(super) fn trace(&self) -> String {
        crate::intake::trace_of(self.header("traceparent"))
    }
}

/// A JSON object; nothing counts as `{}`.
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Refusal::bad("the body must be a JSON object")),
        Err(error) if std::str::from_utf8(text).is_err() => Err(Refusal::bad(format!("the body is no text in UTF-8: {error}"))),
        Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
    }
}

/// The first of the languages asked for that the hub speaks; else the platform's own.
fn language(accepted: &str) -> Language {
    let mut wanted: Vec<(f32, Language)> = accepted
        .split(',')
        .filter_map(|part| {
            let (range, weight) = part.split_once(';').unwrap_or((part, "q=1"));
            let weight: f32 = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
            let language = range.trim().split('-').next().unwrap_or_default().to_ascii_lowercase().parse().ok()?;
            (weight > 0.0).then_some((weight, language))
        })
        .collect();
    wanted.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    wanted.first().map_or(Language::Ru, |(_, language)| *language)
}

/// The header of the content type of every answer.
pub(super) const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json; charset=utf-8");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_language_that_the_hub_speaks_is_taken() {
        for (accepted, wanted) in [
            ("uz", Language::Uz),
            ("uz-Latn-UZ,ru;q=0.9", Language::Uz),
            ("de, en;q=0.5, ru;q=0.8", Language::Ru),
            ("fr;q=1, en;q=0.1", Language::En),
            ("EN-US", Language::En),
            ("uz;q=0, en;q=0.3", Language::En),
            ("*", Language::Ru),
            ("", Language::Ru),
            (";;q=,,", Language::Ru),
        ] {
            assert_eq!(language(accepted), wanted, "{accepted}");
        }
    }

    #[test]
    fn a_body_is_an_object_or_its_fault_is_told() {
        assert!(object(b" \n").unwrap().is_empty());
        assert_eq!(object("\u{feff}{\"a\":1}".as_bytes()).unwrap()["a"], 1);
        for (body, told) in [
            (b"[]".as_slice(), "the body must be a JSON object"),
            (b"null", "the body must be a JSON object"),
            (b"\"x\"", "the body must be a JSON object"),
        ] {
            assert_eq!(object(body), Err(Refusal::bad(told)));
        }
        assert!(object(b"<html>").is_err() && object(b"{\"a\":1").is_err());
        assert!(object(b"{\"a\":\"\xff\"}").is_err(), "no UTF-8");
    }
}
