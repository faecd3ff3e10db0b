//! The two forms of SMS.ru's answers, JSON and lines, and the parameters of its calls.

use serde_json::{Map, Value, json};

use super::rules;
use crate::wire::{self, Answer, Call};

/// The parameters of a call, query and form together.
pub(super) struct Params(pub(super) Vec<(String, String)>);

impl Params {
    pub(super) fn of(call: &Call) -> Params {
        let mut pairs = wire::pairs(call.query.as_bytes());
        pairs.extend(wire::pairs(&call.body));
        Params(pairs)
    }

    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// An answer before it is written as JSON or as lines.
pub(super) struct Reply {
    pub(super) code: i64,
    pub(super) fields: Map<String, Value>,
    pub(super) lines: Vec<String>,
}

impl Reply {
    pub(super) fn ok(fields: Value, lines: Vec<String>) -> Reply {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Reply { code: 100, fields, lines }
    }

    pub(super) fn error(code: i64) -> Reply {
        Reply { code, fields: Map::new(), lines: Vec::new() }
    }

    pub(super) fn write(mut self, as_json: bool) -> Answer {
        if !as_json {
            self.lines.insert(0, self.code.to_string());
            return Answer::new(200, "text/plain; charset=utf-8", self.lines.join("\n"));
        }
        let fine = self.code == 100;
        let mut body = Map::new();
        body.insert("status".to_owned(), json!(if fine { "OK" } else { "ERROR" }));
        body.insert("status_code".to_owned(), json!(self.code));
        if !fine {
            body.insert("status_text".to_owned(), json!(rules::text(self.code)));
        }
        body.extend(self.fields);
        Answer::json(200, &Value::Object(body))
    }
}

/// PHP writes an empty object as an empty array.
pub(super) fn php(object: Map<String, Value>) -> Value {
    if object.is_empty() { json!([]) } else { Value::Object(object) }
}

pub(super) fn refused(code: i64) -> Value {
    json!({"status": "ERROR", "status_code": code, "status_text": rules::text(code)})
}

/// Numbers with their texts, or the code that refuses the whole call.
pub(super) fn recipients(params: &Params) -> Result<Vec<(&str, &str)>, i64> {
    let mut list = Vec::new();
    for (key, text) in &params.0 {
        let inside = key.strip_prefix("to[").or_else(|| key.strip_prefix("multi["));
        if let Some(number) = inside.and_then(|rest| rest.strip_suffix(']')) {
            list.push((number, text.as_str()));
        }
    }
    if list.is_empty() {
        let (msg, text) = (params.get("msg"), params.get("text"));
        let text = if msg.is_empty() { text } else { msg };
        let to = params.get("to").split(',').map(str::trim);
        list.extend(to.filter(|number| !number.is_empty()).map(|number| (number, text)));
        if !list.is_empty() && text.trim().is_empty() {
            return Err(203);
        }
    }
    match list.len() {
        0 => Err(202),
        1..=100 => Ok(list),
        _ => Err(213),
    }
}
