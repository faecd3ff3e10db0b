//! Parameters of a call: the query, and JSON, a form or parts, in which nested things are JSON as text.

use serde_json::{Map, Value};

use crate::wire::{self, Call};

pub(super) struct Fields {
    named: Map<String, Value>,
    file: Option<Vec<u8>>,
}

impl Fields {
    pub(super) fn of(call: &Call) -> Fields {
        let kind = call.header("content-type").to_owned();
        let mut fields = Fields { named: wire::object(wire::pairs(call.query.as_bytes())), file: None };
        if let Some(boundary) = kind.split("boundary=").nth(1) {
            fields.parts(boundary.trim().trim_matches('"'), &call.body);
        } else if kind.starts_with("application/json") {
            fields.named.extend(call.json().and_then(|body| body.as_object().cloned()).unwrap_or_default());
        } else {
            fields.named.extend(wire::object(wire::pairs(&call.body)));
        }
        fields
    }

    fn parts(&mut self, boundary: &str, body: &[u8]) {
        for part in split(body, format!("--{boundary}").as_bytes()) {
            let Some(end) = find(part, b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&part[..end]).into_owned();
            let content = &part[end + 4..];
            let content = content.strip_suffix(b"\r\n").unwrap_or(content);
            if head.contains("filename=") {
                self.file = Some(content.to_vec());
                continue;
            }
            let name = head.split("name=\"").nth(1).and_then(|rest| rest.split('"').next());
            if let Some(name) = name {
                self.named.insert(name.to_owned(), String::from_utf8_lossy(content).into_owned().into());
            }
        }
    }

    /// A parameter as text, whatever its type.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.named.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// A parameter that is an object or a list, or JSON as text.
    pub(super) fn json(&self, name: &str) -> Option<Value> {
        match self.named.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }

    pub(super) fn file(&self) -> Option<&[u8]> {
        self.file.as_deref().filter(|file| !file.is_empty())
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

fn split<'a>(mut body: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(place) = find(body, by) {
        parts.push(&body[..place]);
        body = &body[place + by.len()..];
    }
    parts.push(body);
    parts
}
