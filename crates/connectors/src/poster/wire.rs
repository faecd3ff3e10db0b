//! How Poster is asked, and how it words its answers: refusals come with HTTP 200, in four shapes.

use serde_json::Value;
use uzel_model::{CallError, Outgoing, Refusal, Reply};

use super::Poster;
use crate::tree;

impl Poster {
    /// A read of the API; the login puts the token behind the query.
    pub(super) fn get(&self, method: &str, query: &[(&str, &str)]) -> Outgoing {
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        Outgoing::new("GET", format!("{}/api/{method}?{query}", self.base_url.trim_end_matches('/')))
    }
}

/// What stands under `response`, or what the refusal means.
pub(super) fn answer(reply: &Reply) -> Result<Value, CallError> {
    let body: Value = match reply.status {
        0..300 => reply.json()?,
        _ => serde_json::from_slice(&reply.body).unwrap_or_default(),
    };
    let error = &body["error"];
    let code = [&error["code"], error, &body["code"], &body["response"]["err_code"]].into_iter().find_map(tree::integer);
    if reply.status < 300 && code.is_none_or(|code| code == 0) && body.get("response").is_some() {
        return Ok(body["response"].clone());
    }
    let said = [&error["message"], &body["message"], &body["error_message"]].into_iter().find_map(tree::text);
    match code {
        Some(code) => Err(refusal(code, said)),
        None if reply.status < 300 => Err(CallError::Unreadable("response is missing in the answer".to_owned())),
        None => {
            let whose = if reply.status == 403 { Refusal::Account } else { Refusal::Command };
            Err(CallError::refused(whose, reply.status, format!("Poster answered {}", reply.status)))
        }
    }
}

fn refusal(code: i64, said: Option<String>) -> CallError {
    let said = said.map_or_else(|| format!("Poster answered with code {code}"), |said| format!("{said} (code {code})"));
    let account = |what: &str| CallError::refused(Refusal::Account, code, format!("{what}: {said}"));
    match code {
        10..=12 => CallError::Unauthorized(format!("Poster does not take the access token, connect the account again: {said}")),
        20 | 54 | 153 => account("the application lacks a right"),
        142 | 143 => account("the application's ID or secret is wrong"),
        700 => account("the tariff of the account does not allow it"),
        1 | 44 => CallError::Later { reason: said, at: None },
        _ => CallError::refused(Refusal::Command, code, said),
    }
}

/// The first of a list, or the thing itself; `None` where there is none (`false`, `[]`).
pub(super) fn one(response: &Value) -> Option<&Value> {
    let found = response.as_array().map_or(Some(response), |found| found.first());
    found.filter(|found| found.is_object())
}

/// An id of digits, as text; 0 stands for none.
pub(super) fn id(value: &Value) -> Option<String> {
    tree::integer(value).filter(|id| *id > 0).map(|id| id.to_string())
}
