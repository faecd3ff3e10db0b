//! How iiko words its answers and times.

use jiff::Timestamp;
use serde_json::Value;
use uzel_model::{CallError, Refusal, Reply};

use crate::tree;

/// The answer, or what the refusal means.
pub(super) fn answer(reply: &Reply) -> Result<Value, CallError> {
    if reply.status < 300 {
        return reply.json();
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let said = tree::text(&body["errorDescription"]).unwrap_or_else(|| format!("iiko answered {}", reply.status));
    let code = tree::text(&body["error"]).unwrap_or_else(|| reply.status.to_string());
    Err(match reply.status {
        403 => CallError::refused(Refusal::Account, code, format!("the API login lacks a right: {said}")),
        408 => CallError::Later { reason: format!("the restaurant's till did not answer iiko in time: {said}"), at: None },
        _ => CallError::refused(Refusal::Command, code, said),
    })
}

pub(super) fn print(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}
