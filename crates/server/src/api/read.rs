//! Paths, queries and bodies read into structs; what is wrong with them is told as a problem that names the field.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, path::ErrorKind, rejection::PathRejection},
    http::{HeaderMap, header, request::Parts},
};
use serde::de::DeserializeOwned;
use uzel_model::check::{Fault, pointer, unread};

use crate::Problem;

/// The variable parts of the path.
pub(crate) struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(found)) => Ok(Self(found)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => Err(match error.into_kind() {
                ErrorKind::DeserializeError { key, message, .. } => Problem::unreadable("path", Fault::new(key, message)),
                ErrorKind::InvalidUtf8InPathParam { key } => Problem::unreadable("path", Fault::new(key, "is no text in UTF-8")),
                kind => Problem::unreadable("path", Fault::new("", kind.to_string())),
            }),
            Err(rejection) => Err(Problem::unreadable("path", Fault::new("", rejection.body_text()))),
        }
    }
}

/// The query.
pub(crate) struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        // Nothing that is kept holds one, and not every store can be asked for it.
        if let Some((name, _)) = pairs.into_iter().find(|(_, value)| value.contains('\0')) {
            return Err(Problem::unreadable("query", Fault::new(name, "holds a zero byte")));
        }
        let reader = serde_urlencoded::Deserializer::new(pairs);
        serde_path_to_error::deserialize(reader).map(Self).map_err(|error| {
            let field = pointer(error.path());
            Problem::unreadable("query", Fault::new(field.trim_start_matches('/'), error.inner().to_string()))
        })
    }
}

/// Refuses what says that it is no JSON.
pub(crate) fn json_type(head: &HeaderMap) -> Result<(), Problem> {
    let kind = head.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    let kind = kind.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim());
    match kind {
        Some(kind) if kind != "application/json" && !kind.ends_with("+json") => Err(Problem::no_json()),
        _ => Ok(()),
    }
}

/// Refuses what says that it is no CSV.
pub(crate) fn csv_type(head: &HeaderMap) -> Result<(), Problem> {
    let kind = head.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim() {
        "text/csv" | "text/plain" => Ok(()),
        _ => Err(Problem::no_csv()),
    }
}

/// A body that is one text.
pub(crate) fn text<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Problem::bad_request(format!("the body is no text in UTF-8 (line {line}): save the file as CSV in UTF-8"))
    })?;
    serde_json::from_value(text.into()).map_err(|error| Problem::bad_request(error.to_string()))
}

/// A body up to a size.
pub(crate) async fn bytes(body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    axum::body::to_bytes(body, bytes_max).await.map_err(|error| {
        let long = std::error::Error::source(&error).is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
        if long {
            Problem::too_large_for(bytes_max)
        } else {
            Problem::bad_request("the connection broke before the body was whole")
        }
    })
}

/// A JSON object; nothing counts as `{}`.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { bytes };
    // A list would be read as the fields in their order.
    if text.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid(vec![Fault::new("", "must be an object, not a list")]));
    }
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| match error.inner().classify() {
        serde_json::error::Category::Data => Problem::invalid(vec![unread(pointer(error.path()), error.inner())]),
        _ => Problem::bad_request(format!("the body is not JSON: {}", error.inner())),
    })?;
    reader.end().map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// What stands for no body.
pub(crate) fn nothing<T: DeserializeOwned>() -> T {
    serde_json::from_value(serde_json::Value::Null).expect("only `()` is read from no body")
}
