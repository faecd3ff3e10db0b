//! ModulKassa: documents that are printed in steps, associations that void each other, orders of the till, callbacks.
//!
//! Three pairs of name and password, each for its own door; errors have no body. A document goes one step further with each
//! `step_s` seconds; 0 prints it at once. Documents and orders are samples, come by the API, or from
//! `PUT /_sandbox/modulkassa/{documents,orders}`; a document there may say `failure` (a type) and `check_type`.

mod documents;
mod orders;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Provider;
use crate::cases::Case;
use crate::token::hmac_sha256;
use crate::wire::{self, Answer, Call};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    login: String,
    password: String,
    retail_point_id: String,
    /// The pair that the last association gave.
    user_name: String,
    user_password: String,
    orders_login: String,
    orders_password: String,
    callback_secret: String,
    /// How the till stands, and for how long it has been silent.
    till_state: String,
    silent_s: i64,
    step_s: i64,
    /// Where callbacks go when a sending names no address.
    webhook_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            login: "shop-login@example.com".to_owned(),
            password: "lk-pass".to_owned(),
            retail_point_id: "5b1c2a3d-0000-4000-8000-00000000aa01".to_owned(),
            user_name: "7c9e6679-7425-40de-944b-e07fc1f90ae7".to_owned(),
            user_password: "pw-1-Test".to_owned(),
            orders_login: "orders@example.com".to_owned(),
            orders_password: "orders-pass".to_owned(),
            callback_secret: "cb_test_secret".to_owned(),
            till_state: "READY".to_owned(),
            silent_s: 0,
            step_s: 0,
            webhook_url: None,
        }
    }
}

struct State {
    settings: Settings,
    associations: u64,
    documents: Vec<Value>,
    orders: Vec<Value>,
}

impl Default for State {
    fn default() -> State {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        State {
            settings: Settings::default(),
            associations: 0,
            documents: vec![
                read(include_str!("../../samples/modulkassa/doc_sale_request.json")),
                read(include_str!("../../samples/modulkassa/doc_return_request.json")),
            ],
            orders: vec![read(include_str!("../../samples/modulkassa/order_create_response.json"))],
        }
    }
}

#[derive(Default)]
pub(crate) struct ModulKassa(Mutex<State>);

/// Whether the call brings this pair.
fn brings(call: &Call, name: &str, password: &str) -> bool {
    call.header("authorization") == format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

impl State {
    fn associate(&mut self, call: &Call, point: &str) -> Answer {
        if !brings(call, &self.settings.login, &self.settings.password) {
            return Answer::empty(401);
        }
        if point != self.settings.retail_point_id {
            return Answer::empty(404);
        }
        self.associations += 1;
        self.settings.user_password = format!("pw-{}-{}", self.associations, wire::plain_uuid());
        Answer::json(
            200,
            &json!({"userName": self.settings.user_name, "password": self.settings.user_password, "name": "Магазин на Примерной", "address": "г. Пример, ул. Примерная, 3"}),
        )
    }

    fn fiscal(&mut self, call: &Call, path: &[&str]) -> Answer {
        if let ("POST", ["v1", "associate", point]) = (call.method.as_str(), path) {
            return self.associate(call, point);
        }
        if !brings(call, &self.settings.user_name, &self.settings.user_password) {
            return Answer::empty(401);
        }
        match (call.method.as_str(), path) {
            ("DELETE", ["v1", "associate"]) => {
                self.settings.user_password = wire::plain_uuid();
                Answer::empty(200)
            }
            ("GET", ["v1", "status"]) => self.till(),
            ("POST", ["v1" | "v2", "doc"]) => self.take(call),
            ("GET", ["v1", "doc", id, "status"]) => self.status(id),
            ("PUT", ["v1", "doc", id, "re-queue"]) => self.again(id),
            _ => Answer::empty(404),
        }
    }

    fn till(&self) -> Answer {
        let at = jiff::Timestamp::from_second(wire::now() - self.settings.silent_s).unwrap_or_default();
        let at = (self.settings.till_state != "ASSOCIATED").then(|| at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string());
        Answer::json(200, &json!({"status": self.settings.till_state, "dateTime": at}))
    }
}

impl Provider for ModulKassa {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        match call.segments().as_slice() {
            ["api", "fn", path @ ..] => state.fiscal(call, path),
            ["api", "v2", "retail-point", point, "order", rest @ ..] => state.order(call, point, rest),
            _ => Answer::empty(404),
        }
    }

    /// Errors have no body.
    fn failure(&self, status: u16) -> Answer {
        Answer::empty(status)
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path.starts_with("/api/fn/v1/associate/")
    }

    /// Somebody else associates with the point.
    fn expire_tokens(&self) {
        self.0.lock().settings.user_password = wire::plain_uuid();
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if !["documents", "orders"].contains(&what) {
            return None;
        }
        Some(wire::objects(body).map(|items| {
            let all = json!(items);
            let mut state = self.0.lock();
            match what {
                "documents" => state.documents = items,
                _ => state.orders = items,
            }
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "documents" => Some(json!(state.documents)),
            "orders" => Some(json!(state.orders)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("associations".to_owned(), json!(self.0.lock().associations));
    }

    /// Case `callback`. Options: `document` (its id), `method`, `token` (another one; null: none), `more` (further pairs), `body`.
    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        if name != "callback" {
            return None;
        }
        let state = self.0.lock();
        let id = options["document"].as_str().or_else(|| state.documents.first()?["id"].as_str()).unwrap_or_default();
        let right = hex::encode(hmac_sha256(state.settings.callback_secret.as_bytes(), id.as_bytes()));
        let token = match options.get("token") {
            Some(Value::Null) => None,
            Some(other) => Some(other.as_str().unwrap_or_default().to_owned()),
            None => Some(right),
        };
        let mut pairs = vec![("docId".to_owned(), id.to_owned())];
        pairs.extend(token.map(|token| ("token".to_owned(), token)));
        for (name, value) in options["more"].as_object().into_iter().flatten() {
            pairs.push((name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
        }
        let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", wire::encode(value))).collect();
        let body = options["body"].as_str().unwrap_or_default();
        let case = Case {
            method: options["method"].as_str().unwrap_or("GET").to_owned(),
            content_type: if body.is_empty() { String::new() } else { "application/x-www-form-urlencoded".to_owned() },
            query: query.join("&"),
            body: body.as_bytes().to_vec(),
            ..Case::default()
        };
        Some(Ok(vec![case]))
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().settings.webhook_url.iter().cloned().collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
