//! A call as the stand-ins see it, and the answer they give.

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(crate) struct Call {
    pub(crate) method: Method,
    /// Below the provider: `/sms/send`.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The token of `Authorization: Bearer …`, whatever the case of that word.
    pub(crate) fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization");
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// The path cut at its slashes.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|part| !part.is_empty()).collect()
    }

    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// One value of the query.
    pub(crate) fn asked(&self, name: &str) -> Option<String> {
        pairs(self.query.as_bytes()).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn json(status: u16, body: &Value) -> Answer {
        Answer::typed(status, "application/json; charset=utf-8", body)
    }

    pub(crate) fn typed(status: u16, content_type: &'static str, body: &Value) -> Answer {
        Answer::new(status, content_type, body.to_string())
    }

    pub(crate) fn empty(status: u16) -> Answer {
        Answer::new(status, "", Vec::new())
    }
}

/// Reads urlencoded pairs; bytes that are not UTF-8 become the replacement character.
pub(crate) fn pairs(text: &[u8]) -> Vec<(String, String)> {
    text.split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=');
            let (key, value) = match at {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &pair[..0]),
            };
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digits = (ahead.next(), ahead.next());
                let value = match digits {
                    (Some(high), Some(low)) => (high as char)
                        .to_digit(16)
                        .zip((low as char).to_digit(16))
                        .and_then(|(high, low)| u8::try_from(high * 16 + low).ok()),
                    _ => None,
                };
                match value {
                    Some(value) => {
                        bytes.push(value);
                        rest = ahead;
                    }
                    None => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Percent-encodes for a form or a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Lays the patch's fields over the present settings; a field that does not exist is an error, so that a typing
/// mistake in a test does not pass for a setting that has no effect.
pub(crate) fn merge<T: Serialize + DeserializeOwned>(present: &mut T, patch: &Value) -> Result<Value, String> {
    let mut all = serde_json::to_value(&*present).map_err(|error| error.to_string())?;
    match (all.as_object_mut(), patch) {
        (Some(all), Value::Object(patch)) => {
            all.extend(patch.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        _ => return Err("settings are an object".to_owned()),
    }
    *present = serde_json::from_value(all.clone()).map_err(|error| error.to_string())?;
    Ok(all)
}

/// Takes an array of objects, as the collections of the control are put.
pub(crate) fn objects(body: Value) -> Result<Vec<Value>, String> {
    match body {
        Value::Array(items) if items.iter().all(Value::is_object) => Ok(items),
        item @ Value::Object(_) => Ok(vec![item]),
        _ => Err("expected an array of objects".to_owned()),
    }
}

/// Pairs as an object of texts; a name that comes again gives an array.
pub(crate) fn object(pairs: Vec<(String, String)>) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in pairs {
        match out.get_mut(&key) {
            None => {
                out.insert(key, Value::String(value));
            }
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => {
                let earlier = first.take();
                *first = Value::Array(vec![earlier, Value::String(value)]);
            }
        }
    }
    out
}

/// Numbers and texts that hold numbers, as providers mix them.
pub(crate) fn number(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The response part of a sample that shows a request and its answer.
pub(crate) fn sample_body(text: &str) -> Value {
    let sample: Value = serde_json::from_str(text).unwrap_or_default();
    let answer = sample.get("response").unwrap_or(&sample);
    answer.get("body").cloned().unwrap_or_default()
}

pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Without the hyphens.
pub(crate) fn plain_uuid() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}
