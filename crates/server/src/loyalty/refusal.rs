//! Errors as the points platform tells them: `{"error","message","statusCode","requestId","path","timestamp"}`.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde_json::json;
use uzel_engine::{loyalty::LoyaltyError, setup::Unchanged};
use uzel_model::words::Language;
use uzel_store::StoreError;

use super::{limits, token::BadToken};
use crate::{Problem, door::TooMany};

const ID_BYTES_MAX: usize = 128;

/// Why it is not done, before it is known which call it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    retry_after_s: Option<u32>,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_s: None }
    }

    fn after(self, seconds: u32) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// A customer's code is not taken. What a till compares with stands in every language as the platform says it.
    pub(super) fn of_token(bad: BadToken, language: Language) -> Self {
        Self::bad(match (bad, language) {
            (BadToken::Bad, _) => "Bad QR token",
            (BadToken::Expired, _) => "JWTExpired: \"exp\" claim timestamp check failed",
            (BadToken::OtherMerchant, Language::Ru) => "QR выписан для другого мерчанта",
            (BadToken::OtherMerchant, Language::Uz) => "QR kod boshqa savdogar uchun berilgan",
            (BadToken::OtherMerchant, Language::En) => "The QR code was issued for another merchant",
        })
    }

    /// Whoever asks is right, and asks too often.
    pub(super) fn too_often(retry_after_s: u32, language: Language) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, limits::says(retry_after_s, language)).after(retry_after_s)
    }

    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("request entity too large: {bytes_max} bytes at the most"))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time: send it again")
    }

    pub(super) fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path has other methods")
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this failed inside the hub: its log says more")
    }

    pub(super) fn in_progress() -> Self {
        Self::new(StatusCode::CONFLICT, "the same call is being carried out: ask again for its answer").after(1)
    }

    pub(super) fn of(error: &LoyaltyError, language: Language) -> Self {
        let status = match error {
            LoyaltyError::NoProgramme => StatusCode::NOT_FOUND,
            LoyaltyError::HoldFinished | LoyaltyError::Taken(_) => StatusCode::CONFLICT,
            LoyaltyError::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            LoyaltyError::Fraud { .. } => StatusCode::TOO_MANY_REQUESTS,
            LoyaltyError::Again(why) => {
                tracing::warn!("points cannot be had now: {why}");
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::BAD_REQUEST,
        };
        let refusal = Self::new(status, error.says(language));
        match error {
            LoyaltyError::Fraud { retry_after_s, .. } => refusal.after(*retry_after_s),
            LoyaltyError::Again(_) => refusal.after(1),
            _ => refusal,
        }
    }

    /// The name of the status; the platform throws its 429 bare, which it then calls so.
    fn error(&self) -> &'static str {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => "InternalError",
            status => status.canonical_reason().unwrap_or("Error"),
        }
    }

    /// The answer to one call.
    pub(super) fn answer(&self, request_id: &str, path: &str, now: Timestamp) -> Response {
        let body = json!({
            "error": self.error(), "message": self.message, "statusCode": self.status.as_u16(), "requestId": request_id,
            "path": path, "timestamp": iso(now),
        });
        let mut response =
            (self.status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What of a request to the platform's other paths its errors tell.
pub(crate) struct Asked {
    request_id: String,
    path: String,
}

impl Asked {
    pub(crate) fn of(request: &Request) -> Self {
        Self { request_id: request_id(request.headers()), path: request.uri().path().to_owned() }
    }

    /// A problem in the platform's form. Faults of a body are its 400.
    pub(crate) fn refused(&self, problem: Problem, now: Timestamp) -> Response {
        let mut refusal = Refusal::from(problem);
        if refusal.status == StatusCode::UNPROCESSABLE_ENTITY && !refusal.message.contains("Idempotency-Key") {
            refusal.status = StatusCode::BAD_REQUEST;
        }
        let mut response = refusal.answer(&self.request_id, &self.path, now);
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            response.headers_mut().insert("x-request-id", id);
        }
        response
    }
}

/// An error as the points platform tells it.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct PlatformError {
    /// The status in words; `InternalError` with 429.
    error: String,
    /// What is wrong, several faults joined by `; `.
    message: String,
    /// The status.
    status_code: u16,
    /// The same as in the header `X-Request-Id`.
    request_id: String,
    /// What was asked.
    path: String,
    /// When.
    timestamp: String,
}

/// The caller's name for its request, or one of ours.
pub(super) fn request_id(head: &HeaderMap) -> String {
    let given = head.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::trim);
    let given = given.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
    given.map_or_else(|| format!("req_{}", hex::encode(rand::random::<[u8; 10]>())), str::to_owned)
}

/// A time as JavaScript writes it.
pub(super) fn iso(at: Timestamp) -> String {
    format!("{at:.3}")
}

impl From<TooMany> for Refusal {
    fn from(too_many: TooMany) -> Self {
        let message = "too many requests with wrong keys came from this address; a right key is always let in";
        Self::new(StatusCode::TOO_MANY_REQUESTS, message).after(too_many.retry_after_s)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::warn!("the store does not answer: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the hub cannot take this now: try again").after(1)
    }
}

impl From<Unchanged> for Refusal {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Faults(faults) => {
                let all: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect();
                Self::bad(all.join("; "))
            }
            Unchanged::Missing => Self::not_found("Not found"),
            Unchanged::Changed => Self::new(StatusCode::CONFLICT, "it was changed meanwhile: read it again"),
            Unchanged::InUse(why) => Self::new(StatusCode::CONFLICT, why),
            Unchanged::Store(error) => Self::from(error),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        let (status, message, retry_after_s) = problem.told();
        Self { retry_after_s, ..Self::new(status, problem.faults().unwrap_or_else(|| message.to_owned())) }
    }
}
