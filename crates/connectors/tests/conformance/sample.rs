//! Settings made of a schema, and the requests in `fixtures/`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use uzel_connectors::PROVIDERS;
use uzel_model::{Bytes, Connector, Provider, Request, Timestamp};

pub(crate) fn properties(provider: &Provider) -> Map<String, Value> {
    provider.schema().as_value()["properties"].as_object().cloned().unwrap_or_default()
}

/// Whether a property is of this type, `null` beside it or not.
pub(crate) fn is(property: &Value, kind: &str) -> bool {
    property["type"] == kind || property["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
}

pub(crate) fn is_secret(property: &Value) -> bool {
    property["writeOnly"] == true
}

/// What a property's example, default or plain text is lengthened and cut from.
fn stem(name: &str, property: &Value) -> String {
    let example = property["examples"][0].as_str().or(property["default"].as_str());
    example.map_or_else(|| format!("{name}-example"), str::to_owned)
}

/// A text of this many characters. It grows and shrinks at its front, so that what an example ends with stays.
pub(crate) fn text(name: &str, property: &Value, chars: usize) -> String {
    let stem: Vec<char> = stem(name, property).chars().collect();
    let filler = std::iter::repeat_n('x', chars.saturating_sub(stem.len()));
    filler.chain(stem[stem.len().saturating_sub(chars)..].iter().copied()).collect()
}

/// A value that the schema allows.
pub(crate) fn value(name: &str, property: &Value) -> Value {
    if let Some(default) = property.get("default").filter(|default| !default.is_null()) {
        return default.clone();
    }
    if is(property, "string") {
        let length = stem(name, property).chars().count() as u64;
        let (least, most) = (property["minLength"].as_u64().unwrap_or(0), property["maxLength"].as_u64().unwrap_or(u64::MAX));
        json!(text(name, property, length.clamp(least, most) as usize))
    } else if is(property, "integer") {
        json!(property["minimum"].as_i64().unwrap_or(0).max(7).min(property["maximum"].as_i64().unwrap_or(i64::MAX)))
    } else if is(property, "array") {
        let items = property["minItems"].as_u64().unwrap_or(1) as usize;
        Value::Array(vec![value(name, &property["items"]); items])
    } else {
        json!(true)
    }
}

/// The settings that `fixtures/` was made with, where it names some.
fn given(provider: &Provider) -> Map<String, Value> {
    let file = folder(provider).join("settings.json");
    std::fs::read(file).map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default()
}

/// Only what must be set.
pub(crate) fn least(provider: &Provider) -> Map<String, Value> {
    let schema = provider.schema();
    let required: Vec<Value> = schema.as_value()["required"].as_array().cloned().unwrap_or_default();
    let known = properties(provider);
    known
        .iter()
        .filter(|(name, _)| required.contains(&json!(name)))
        .map(|(name, property)| (name.clone(), value(name, property)))
        .collect()
}

/// Everything set.
pub(crate) fn full(provider: &Provider) -> Map<String, Value> {
    let mut settings: Map<String, Value> =
        properties(provider).iter().map(|(name, property)| (name.clone(), value(name, property))).collect();
    settings.extend(given(provider));
    settings
}

/// A connector with everything set.
pub(crate) fn open(provider: &Provider) -> Box<dyn Connector> {
    provider.open(Value::Object(full(provider))).unwrap()
}

/// Every connector with everything set, and with as little as can be.
pub(crate) fn connectors() -> Vec<Box<dyn Connector>> {
    PROVIDERS.iter().flat_map(|provider| [open(provider), provider.open(Value::Object(least(provider))).unwrap()]).collect()
}

fn folder(provider: &Provider) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(provider.id)
}

/// The provider's requests, as they come to a connector when no key of the hub came with them.
pub(crate) fn fixtures(provider: &Provider) -> Vec<(String, Request)> {
    let files = std::fs::read_dir(folder(provider)).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "http")).collect();
    files.sort();
    files.iter().map(|file| (file.display().to_string(), request(&std::fs::read(file).unwrap()))).collect()
}

/// Reads raw HTTP.
fn request(raw: &[u8]) -> Request {
    let end = raw.windows(4).position(|part| part == b"\r\n\r\n").expect("a blank line ends the head");
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut query: Vec<(String, String)> = serde_urlencoded::from_str(query).unwrap();
    query.retain(|(name, _)| name != "key");
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    let headers: Vec<(String, String)> = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    // A signature that names a time is good at that time only.
    let signed_at = headers.iter().find(|(name, _)| name.ends_with("-timestamp")).and_then(|(_, time)| time.parse().ok());
    Request {
        method: method.to_owned(),
        path: String::new(),
        query,
        headers,
        body: Bytes::copy_from_slice(&raw[end + 4..]),
        received_at: Timestamp::from_second(signed_at.unwrap_or_default()).unwrap(),
        peer: None,
        key: None,
    }
}

/// The same request, with a key of the hub.
pub(crate) fn keyed(request: &Request) -> Request {
    Request { key: Some("key_1".to_owned()), ..request.clone() }
}
