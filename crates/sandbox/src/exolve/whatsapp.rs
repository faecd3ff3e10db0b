//! WhatsApp by Exolve [assumed throughout]: one address, a bearer key, and a body like that of SMS.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Shape, error, field, is_phone, stranger, too_short};
use crate::Provider;
use crate::wire::{self, Answer, Call};

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Settings {
    error_shape: Shape,
    /// Who has no WhatsApp.
    not_permitted: Vec<String>,
    /// The templates that were approved; null takes every name but `wrong`.
    templates: Option<Vec<String>>,
}

#[derive(Default)]
struct State {
    settings: Settings,
    accepted: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct ExolveWhatsapp(Mutex<State>);

impl Provider for ExolveWhatsapp {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        let shape = state.settings.error_shape;
        if call.method != hyper::Method::POST {
            return Answer::new(404, "text/plain", "404 page not found");
        }
        if let Some(refused) = stranger(call, shape) {
            return refused;
        }
        let Some(body) = call.json().filter(Value::is_object) else {
            return error(400, shape, "proto: syntax error (line 1:1): unexpected token");
        };
        let (to, template) = (field(&body, "destination"), &body["template"]);
        let approved = |name: &str| match &state.settings.templates {
            Some(known) => known.iter().any(|one| one == name),
            None => name != "wrong",
        };
        let refused = |words: &str| error(400, shape, words);
        match () {
            () if field(&body, "sender_id").is_empty() => return refused(&too_short("SendRequest", "SenderId")),
            () if !is_phone(to) => return refused("incorrect number format"),
            () if template.is_null() && field(&body, "text").is_empty() => return refused(&too_short("SendRequest", "Text")),
            () if !template.is_null() && (field(template, "language").is_empty() || !template["components"].is_array()) => {
                return refused(&too_short("SendRequest", "Template"));
            }
            () if !template.is_null() && !approved(field(template, "name")) => return refused("template not found"),
            () if state.settings.not_permitted.iter().any(|number| number == to) => {
                return refused("destination is not permitted for delivery");
            }
            () => {}
        }
        let id = 77_000_001 + state.accepted.len();
        let mut kept = body.clone();
        kept["message_id"] = json!(id.to_string());
        state.accepted.push(kept);
        Answer::json(200, &json!({"message_id": id.to_string()}))
    }

    fn failure(&self, status: u16) -> Answer {
        error(status, self.0.lock().settings.error_shape, "internal error")
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn show(&self, what: &str) -> Option<Value> {
        (what == "accepted").then(|| json!(self.0.lock().accepted))
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("accepted".to_owned(), json!(self.0.lock().accepted.len()));
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
