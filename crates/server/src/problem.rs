//! Error bodies by RFC 9457.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;
use uzel_engine::Role;
use uzel_model::check::Fault;
use uzel_store::StoreError;

/// An error, as the API tells it (RFC 9457).
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// Path of the page that says what this is and what to do.
    #[serde(rename = "type")]
    kind: String,
    /// What it is called.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong this time.
    detail: String,
    /// Every fault of what was sent, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

/// A kind of problem, as its page tells it.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The last part of `type`.
    pub slug: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    pub when: &'static str,
    pub what_to_do: &'static str,
}

const fn kind(slug: &'static str, status: StatusCode, title: &'static str, when: &'static str, what_to_do: &'static str) -> Kind {
    Kind { slug, status, title, when, what_to_do }
}

impl Problem {
    /// Every kind of problem there is.
    pub const KINDS: [Kind; 19] = [
        kind(
            "not-found",
            StatusCode::NOT_FOUND,
            "Not found",
            "There is no such path or thing, or it belongs to somebody else",
            "Look at the id or slug. A connection's slug works only where one merchant has it; otherwise use its id",
        ),
        kind(
            "unauthorized",
            StatusCode::UNAUTHORIZED,
            "A key is needed",
            "No key came, the hub does not know it, or it has expired",
            "Send `Authorization: Bearer` with a key of the hub",
        ),
        kind(
            "forbidden",
            StatusCode::FORBIDDEN,
            "This key may not do that",
            "The key is good, but its role may not call this route",
            "Use a key with one of the roles that `detail` names",
        ),
        kind(
            "method-not-allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            "Not with this method",
            "The path has other methods",
            "`Allow` names them",
        ),
        kind(
            "unsupported-media-type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body is not JSON",
            "The body's `Content-Type` is not JSON",
            "Send `application/json`, or no type",
        ),
        kind(
            "too-many-failures",
            StatusCode::TOO_MANY_REQUESTS,
            "Too many wrong keys",
            "Too many requests with wrong keys came from this address. A right key is never refused for this",
            "Wait as `Retry-After` says; look at the key",
        ),
        kind(
            "too-many-requests",
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            "This key asks faster than `api_calls_per_minute` allows",
            "Wait as `Retry-After` says; `RateLimit` tells what is left",
        ),
        kind(
            "too-many-codes",
            StatusCode::TOO_MANY_REQUESTS,
            "Too many codes",
            "One address gets one code a minute and five an hour; a merchant has a thousand an hour",
            "Wait as `Retry-After` says; the code that was sent before is still good",
        ),
        kind(
            "bad-request",
            StatusCode::BAD_REQUEST,
            "The request cannot be read",
            "The request cannot be read or makes no sense: no JSON, an unknown field in the query, a wrong id, a phone that is \
             none, two things named where one is wanted, a header that is missing or wrong, a connection that broke",
            "`detail` says what is wrong",
        ),
        kind(
            "too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is too large",
            "A request carries more than its path takes: 1 MiB (1,048,576 bytes), a setup 8 MiB",
            "Send less at a time",
        ),
        kind(
            "too-slow",
            StatusCode::REQUEST_TIMEOUT,
            "The request did not come in time",
            "The body of a request did not come within `request_timeout_ms`",
            "Send it again",
        ),
        kind(
            "invalid",
            StatusCode::UNPROCESSABLE_ENTITY,
            "Some values are wrong",
            "A body or a setup has faults, or an `Idempotency-Key` stands for another request; nothing was changed",
            "`errors` names every fault with its place",
        ),
        kind(
            "in-progress",
            StatusCode::CONFLICT,
            "The same is being done now",
            "A request under the same `Idempotency-Key` has not ended yet",
            "Ask again a little later: the answer will be that of the first",
        ),
        kind(
            "conflict",
            StatusCode::CONFLICT,
            "It is not in a state for this",
            "What is asked for does not go with what has happened meanwhile: a command that was sent cannot be called off, a \
             merchant that still has outlets cannot go",
            "`detail` says how it stands; read it again",
        ),
        kind(
            "no-channel",
            StatusCode::CONFLICT,
            "No channel is configured",
            "A code was asked for, and the merchant has no connection that would bring it to a person: none for this channel, all of it \
             paused, or only the journal. A hub in development (`uzel serve --dev`) prints it instead",
            "`GET /api/v1/merchants/{id}/channels` says what is set up; connect a provider of the channel",
        ),
        kind(
            "changed-meanwhile",
            StatusCode::PRECONDITION_FAILED,
            "Somebody else has changed it",
            "The version that `If-Match` names is not the one that stands",
            "Read it again, look at the difference, and send the new `ETag`",
        ),
        kind(
            "provider",
            StatusCode::BAD_GATEWAY,
            "The provider did not do it",
            "A call to the provider that was asked for did not succeed, or the provider cannot do it",
            "`detail` says what the provider said",
        ),
        kind(
            "internal",
            StatusCode::INTERNAL_SERVER_ERROR,
            "The hub failed",
            "A fault of the hub's own: the log says more",
            "Look at what has been changed, and tell us with the log",
        ),
        kind(
            "busy",
            StatusCode::SERVICE_UNAVAILABLE,
            "The hub cannot take this now",
            "Too much waits to be written, the journal cannot be written, or too many logins are under way. `Retry-After: 1`",
            "Send the same again. If it stays, look at the log and at the disk",
        ),
    ];

    fn new(slug: &str, detail: impl Into<String>) -> Self {
        let kind = Self::KINDS.iter().find(|kind| kind.slug == slug).expect("every kind stands in the table");
        Self {
            kind: format!("/problems/{slug}"),
            title: kind.title,
            status: kind.status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// Its status, what is wrong, and after how many seconds to ask again: for paths that tell errors in other words.
    pub(crate) fn told(&self) -> (StatusCode, &str, Option<u32>) {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, &self.detail, self.retry_after_s)
    }

    /// Every fault by its field, in one line.
    pub(crate) fn faults(&self) -> Option<String> {
        let told = self.errors.iter().map(|fault| format!("{} {}", fault.pointer.trim_start_matches('/'), fault.detail));
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then(|| told.join("; ").trim().to_owned())
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not-found", detail)
    }

    pub fn unauthorized() -> Self {
        Self::new("unauthorized", "send `Authorization: Bearer` with a key of the hub")
    }

    pub(crate) fn expired() -> Self {
        Self::new("unauthorized", "this key has expired: ask its owner for a new one")
    }

    /// The key is good, its role is not enough.
    pub(crate) fn forbidden(role: Role, wanted: &[Role]) -> Self {
        let wanted: Vec<&str> = wanted.iter().map(Role::word).collect();
        Self::new("forbidden", format!("a key with the role `{}` may not: it takes {}", role.word(), wanted.join(", ")))
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new("bad-request", detail)
    }

    /// A path, a query or a header that cannot be read, with the field that is wrong.
    pub(crate) fn unreadable(part: &str, fault: Fault) -> Self {
        Self { errors: vec![fault], ..Self::bad_request(format!("the {part} cannot be read")) }
    }

    pub(crate) fn no_json() -> Self {
        Self::new("unsupported-media-type", "send the body as `Content-Type: application/json`")
    }

    pub(crate) fn no_csv() -> Self {
        Self::new("unsupported-media-type", "send the body as `Content-Type: text/csv`")
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self::new("method-not-allowed", "this path has other methods: `Allow` names them")
    }

    /// Somebody without a right key has tried too often.
    pub(crate) fn too_many_failures(retry_after_s: u32) -> Self {
        let detail = format!(
            "too many requests with wrong keys came from this address; a right key is always let in; try again in {retry_after_s} s"
        );
        Self::new("too-many-failures", detail).retry_after(retry_after_s)
    }

    /// A key asks too fast.
    pub(crate) fn too_many_requests(retry_after_s: u32) -> Self {
        let detail = format!("this key has asked too often within a minute: go on in {retry_after_s} s");
        Self::new("too-many-requests", detail).retry_after(retry_after_s)
    }

    pub(crate) fn too_many_codes(retry_after_s: u32) -> Self {
        Self::new("too-many-codes", format!("enough codes were sent: the next may go in {retry_after_s} s"))
            .retry_after(retry_after_s)
    }

    pub(crate) fn no_channel(detail: impl Into<String>) -> Self {
        Self::new("no-channel", detail)
    }

    pub fn too_large() -> Self {
        Self::too_large_for(crate::BODY_BYTES_MAX)
    }

    pub(crate) fn too_large_for(bytes_max: usize) -> Self {
        Self::new("too-large", format!("a request may carry {bytes_max} bytes at the most"))
    }

    pub fn too_slow() -> Self {
        Self::new("too-slow", "send it again, faster")
    }

    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = format!("nothing was changed; faults: {}", errors.len());
        Self { errors, ..Self::new("invalid", detail) }
    }

    pub(crate) fn in_progress() -> Self {
        Self::new("in-progress", "a request under this key is being carried out: ask again for its answer").retry_after(1)
    }

    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self::new("conflict", detail)
    }

    pub(crate) fn changed_meanwhile() -> Self {
        Self::new("changed-meanwhile", "it has another version by now: read it again")
    }

    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new("provider", detail)
    }

    pub(crate) fn internal() -> Self {
        Self::new("internal", "this failed inside the hub: its log says more")
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new("busy", detail).retry_after(1)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if let StoreError::Failed(why) = &error {
            tracing::error!("the store refuses: {why}");
        }
        // What exactly the disk said is for the log, not for a stranger.
        Self::busy(if matches!(error, StoreError::Busy) {
            "too much is waiting to be written"
        } else {
            "the journal cannot be written"
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after_s = self.retry_after_s;
        let body = serde_json::to_vec(&self).expect("a problem is JSON");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
