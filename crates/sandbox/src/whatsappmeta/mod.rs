//! WhatsApp by Meta's Cloud API: a 200 means "taken into work"; what became of a message comes by webhook, often a failure.
//!
//! Any bearer token is taken but `wrong`, and a few ids of numbers. Webhooks are sent when the control says so, signed with the app
//! secret of the settings: the documents' own samples, and cases that are made of the state and the options:
//!
//! - `statuses` of the accepted messages; `message_ids`, `statuses`, `code`, `callback_data`, `batch` choose others.
//! - `inbound`: a person writes; `from`, `name`, `type`, `text`, `payload`, `id`, `timestamp`, `phone_number_id`.
//! - `preference`: a person stops or resumes marketing messages; `from`, `value`.
//! - `template_status`: `name`, `language`, `event`, `reason`.
//! - `verify`: the greeting of an address; `challenge`, `verify_token`.

mod hooks;
mod rules;
mod state;

use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use self::rules::{Failure, fail};
use self::state::State;
use crate::Provider;
use crate::cases::Case;
use crate::wire::{self, Answer, Call};

#[derive(Default)]
pub(crate) struct WhatsApp(Mutex<State>);

impl WhatsApp {
    fn dispatch(&self, call: &Call) -> Result<Value, Failure> {
        match call.bearer() {
            None | Some("") => return Err(fail(401, 190, "An access token is required to request this resource.")),
            Some("wrong") => return Err(fail(401, 190, "Invalid OAuth access token - Cannot parse access token")),
            Some(_) => {}
        }
        let segments = call.segments();
        let ["v17.0" | "v18.0" | "v19.0" | "v20.0" | "v21.0" | "v22.0" | "v23.0" | "v24.0" | "v25.0", id, what] = segments[..]
        else {
            return Err(fail(400, 2500, "Unknown path components"));
        };
        let mut state = self.0.lock();
        let (numbers, account) = (&state.settings.phone_number_ids, &state.settings.waba_id);
        match (&call.method, what) {
            (&Method::POST, "messages") if numbers.iter().any(|known| known == id) => {
                let body = call.json().filter(Value::is_object);
                let body = body.ok_or_else(|| fail(400, 100, "(#100) The parameter messaging_product is required."))?;
                if body["status"] == "read" {
                    return Ok(json!({"success": true}));
                }
                state.send(id, &body)
            }
            (&Method::GET, "message_templates") if account == id => {
                let name = call.asked("name");
                let found = state.templates.iter().filter(|template| name.as_ref().is_none_or(|name| *name == template["name"]));
                Ok(json!({"data": found.collect::<Vec<_>>(), "paging": {"cursors": {"before": "MAZDZD", "after": "MjQZD"}}}))
            }
            (&Method::POST, "subscribed_apps") if account == id => {
                let body = call.json().unwrap_or_default();
                state.callback = body["override_callback_uri"].as_str().map(str::to_owned);
                if state.callback.is_some() && body["verify_token"].as_str().is_none_or(str::is_empty) {
                    return Err(fail(400, 100, "(#100) Param verify_token must be non-empty"));
                }
                Ok(json!({"success": true}))
            }
            (&Method::GET, "subscribed_apps") if account == id => {
                let mut app = json!({"whatsapp_business_api_data": {"id": "67084", "name": "Hub", "link": "https://www.facebook.com/games/?app_id=67084"}});
                if let Some(url) = &state.callback {
                    app["override_callback_uri"] = json!(url);
                }
                Ok(json!({"data": [app]}))
            }
            _ => {
                let message = format!(
                    "Unsupported request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions"
                );
                Err(fail(400, 100, &message).with_subcode(33))
            }
        }
    }
}

impl Provider for WhatsApp {
    fn answer(&self, call: &Call) -> Answer {
        match self.dispatch(call) {
            Ok(body) => Answer::json(200, &body),
            Err(failure) => failure.write(),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        let (code, message) = match status {
            401 => (190, "Error validating access token: the session has been invalidated"),
            403 => (10, "(#10) Application does not have permission for this action"),
            429 => (4, "(#4) Application request limit reached"),
            500.. => (2, "Service temporarily unavailable"),
            _ => (100, "(#100) Invalid parameter"),
        };
        fail(status, code, message).write()
    }

    fn limited(&self) -> Answer {
        fail(400, 130_429, "(#130429) Rate limit hit").write()
    }

    fn token_expired(&self) -> Answer {
        let message = "Error validating access token: Session has expired on Sunday, 22-Nov-26 01:00:00 PST.";
        fail(401, 190, message).with_subcode(463).write()
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if what != "templates" {
            return None;
        }
        Some(wire::objects(body).map(|templates| {
            let shown = json!(templates);
            self.0.lock().templates = templates;
            shown
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "accepted" => Some(json!(state.messages.iter().map(state::Message::shown).collect::<Vec<_>>())),
            "templates" => Some(json!(state.templates)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        let state = self.0.lock();
        counts.insert("accepted".to_owned(), json!(state.accepted));
        counts.insert("phones".to_owned(), json!(state.by_phone.len()));
        counts.insert("by_phone".to_owned(), json!(state.by_phone));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        hooks::make(&mut self.0.lock(), name, options)
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().callback.iter().cloned().collect()
    }

    fn keep(&self, keep: bool) {
        self.0.lock().forget = !keep;
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
