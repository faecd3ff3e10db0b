//! How YCLIENTS words its answers.

use serde_json::Value;
use uzel_model::{CallError, Refusal, Reply};

use crate::tree;

/// The data of an answer, or what the refusal means.
pub(super) fn data(reply: &Reply) -> Result<Value, CallError> {
    if reply.status < 300 {
        let mut answer: Value = reply.json()?;
        return match answer.get("data") {
            Some(_) if answer["success"] != Value::Bool(false) => Ok(answer["data"].take()),
            Some(_) => Err(refused(reply.status, &answer)),
            None => Ok(answer),
        };
    }
    let answer = serde_json::from_slice(&reply.body).unwrap_or_default();
    Err(refused(reply.status, &answer))
}

pub(super) fn refused(status: u16, answer: &Value) -> CallError {
    let said = tree::text(&answer["meta"]["message"]).unwrap_or_default();
    let (refusal, meaning) = match status {
        402 => (Refusal::Account, "the branch's licence has expired"),
        403 => (Refusal::Account, "the user has no right to do this"),
        404 => (Refusal::Command, "nothing is found there"),
        422 => (Refusal::Ours, "YCLIENTS does not take the request"),
        _ => (Refusal::Command, "YCLIENTS refused"),
    };
    let mut reason = match said.is_empty() {
        true => meaning.to_owned(),
        false => format!("{meaning}: {said}"),
    };
    if let errors @ Value::Object(_) = &answer["meta"]["errors"] {
        reason = format!("{reason} {errors}");
    }
    CallError::refused(refusal, status, reason)
}
