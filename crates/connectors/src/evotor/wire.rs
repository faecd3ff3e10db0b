//! How the cloud is asked, and how it words its answers.

use serde_json::Value;
use uzel_model::{CallError, Outgoing, Refusal, Reply};

use super::Evotor;
use crate::tree;

const MEDIA_TYPE: &str = "application/vnd.evotor.v2+json";

impl Evotor {
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Outgoing {
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        let mark = if query.is_empty() { "" } else { "?" };
        Outgoing::new("GET", format!("{}/{path}{mark}{query}", self.base_url.trim_end_matches('/'))).header("accept", MEDIA_TYPE)
    }
}

/// The answer, or what the refusal means.
pub(super) fn answer(reply: &Reply) -> Result<Value, CallError> {
    if reply.status < 300 {
        return reply.json();
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let said = tree::text(&body["message"]).unwrap_or_else(|| format!("Evotor answered {}", reply.status));
    let account = |what: &str| CallError::refused(Refusal::Account, reply.status, format!("{what}: {said}"));
    Err(match reply.status {
        402 => account("the subscription to the application is not paid"),
        403 => account("the application lacks a right"),
        _ => CallError::refused(Refusal::Command, reply.status, said),
    })
}

/// What stands under `items`.
pub(super) fn items(answer: &Value) -> Result<&[Value], CallError> {
    let items = answer["items"].as_array().map(Vec::as_slice);
    items.ok_or_else(|| CallError::Unreadable("items is missing in the answer".to_owned()))
}

/// Where the next page begins.
pub(super) fn next_page(answer: &Value) -> Option<String> {
    tree::text(&answer["paging"]["next_cursor"])
}

/// Whether an id of a stranger's making may stand in a URL's path. Their letters' case matters.
pub(super) fn is_plain(id: &str) -> bool {
    (1..=100).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
