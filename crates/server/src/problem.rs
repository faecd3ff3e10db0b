//! Error bodies by RFC 9457.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use uzel_model::check::Fault;
use uzel_store::StoreError;

/// An error, as the API tells it.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// Every kind of problem there is: the last part of `type`.
    pub const KINDS: [&str; 11] = [
        "not-found",
        "unauthorized",
        "bad-request",
        "unsupported-media-type",
        "method-not-allowed",
        "too-many-failures",
        "too-large",
        "too-slow",
        "invalid",
        "provider",
        "busy",
    ];

    fn new(status: StatusCode, slug: &str, title: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(Self::KINDS.contains(&slug), "a kind without a row in the documents");
        Self {
            kind: format!("/problems/{slug}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A key is needed",
            "send `Authorization: Bearer` with a key of the hub",
        )
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", detail)
    }

    /// A path or a query that cannot be read, with the field that is wrong.
    pub(crate) fn unreadable(part: &str, fault: Fault) -> Self {
        Self { errors: vec![fault], ..Self::bad_request(format!("the {part} cannot be read")) }
    }

    pub(crate) fn no_json() -> Self {
        let detail = "send the body as `Content-Type: application/json`";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body is not JSON", detail)
    }

    pub(crate) fn method_not_allowed() -> Self {
        let detail = "this path has other methods: `Allow` names them";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Not with this method", detail)
    }

    /// Somebody without a right key has tried too often.
    pub(crate) fn too_many_failures(retry_after_s: u32) -> Self {
        let detail = format!(
            "too many requests with wrong keys came from this address; a right key is always let in; try again in {retry_after_s} s"
        );
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-failures", "Too many wrong keys", detail);
        Self { retry_after_s: Some(retry_after_s), ..problem }
    }

    pub fn too_large() -> Self {
        Self::too_large_for(crate::BODY_BYTES_MAX)
    }

    pub(crate) fn too_large_for(bytes_max: usize) -> Self {
        let detail = format!("a request may carry {bytes_max} bytes at the most");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The request is too large", detail)
    }

    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The request did not come in time", "send it again, faster")
    }

    pub fn invalid(errors: Vec<Fault>) -> Self {
        let detail = format!("nothing was changed; faults: {}", errors.len());
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Some values are wrong", detail) }
    }

    pub fn failed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "provider", "The provider did not do it", detail)
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "The hub cannot take this now", detail);
        Self { retry_after_s: Some(1), ..problem }
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
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
