//! Poster: a token in the query, refusals with HTTP 200 in five shapes, numbers as texts, webhooks signed by MD5.
//!
//! One account, which an application may be connected to. Orders, clients and incoming orders are samples or come from
//! `PUT /_sandbox/poster/{transactions,clients,incoming_orders}`. Case `webhook` signs what its options say.

mod api;
mod hooks;
mod oauth;

use std::collections::{HashMap, HashSet};

use md5::{Digest, Md5};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Provider;
use crate::cases::Case;
use crate::wire::{self, Answer, Call};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    account: String,
    account_number: String,
    application_id: i64,
    application_secret: String,
    /// The account's key of a personal integration.
    access_token: String,
    /// Where the account's days begin and end.
    time_zone: String,
    currency: String,
    /// So many reads still show an order as open that is closed.
    reads_behind: u32,
    /// Where webhooks go when a sending names no address.
    webhook_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            account: "demo-cafe".to_owned(),
            account_number: "700001".to_owned(),
            application_id: 1234,
            application_secret: "0123456789abcdef0123456789abcdef".to_owned(),
            access_token: "700001:5d41402abc4b2a76b9719d911017c592".to_owned(),
            time_zone: "Europe/Moscow".to_owned(),
            currency: "RUB".to_owned(),
            reads_behind: 0,
            webhook_url: None,
        }
    }
}

struct State {
    settings: Settings,
    /// Tokens that were given out.
    tokens: HashSet<String>,
    expired: HashSet<String>,
    /// Codes that were given out, each with the address that it was sent to.
    codes: HashMap<String, String>,
    transactions: Vec<Value>,
    clients: Vec<Value>,
    incoming_orders: Vec<Value>,
    spots: Vec<Value>,
    exchanges: u64,
}

impl Default for State {
    fn default() -> State {
        let list = |text: &str| {
            let sample: Value = serde_json::from_str(text).unwrap_or_default();
            match &sample["response"] {
                Value::Array(items) => items.clone(),
                item => vec![item.clone()],
            }
        };
        State {
            settings: Settings::default(),
            tokens: HashSet::new(),
            expired: HashSet::new(),
            codes: HashMap::new(),
            transactions: list(include_str!("../../samples/poster/get_transaction_response.json")),
            clients: list(include_str!("../../samples/poster/get_client_response.json")),
            incoming_orders: list(include_str!("../../samples/poster/get_incoming_order_response.json")),
            spots: list(include_str!("../../samples/poster/get_spots_response.json")),
            exchanges: 0,
        }
    }
}

#[derive(Default)]
pub(crate) struct Poster(Mutex<State>);

fn md5(text: &str) -> String {
    hex::encode(Md5::digest(text.as_bytes()))
}

/// The usual refusal: its code stands in the body, the status says nothing.
fn refused(code: i64, message: &str) -> Answer {
    Answer::json(200, &json!({"error": {"code": code, "message": message}}))
}

fn fine(response: &Value) -> Answer {
    Answer::json(200, &json!({ "response": response }))
}

/// The fields of a body: a form, multipart or JSON.
fn fields(call: &Call) -> Map<String, Value> {
    let kind = call.header("content-type").to_ascii_lowercase();
    if kind.contains("json") {
        return call.json().and_then(|body| body.as_object().cloned()).unwrap_or_default();
    }
    if !kind.contains("multipart/form-data") {
        return wire::object(wire::pairs(&call.body));
    }
    let text = String::from_utf8_lossy(&call.body);
    let Some((_, boundary)) = call.header("content-type").split_once("boundary=") else { return Map::new() };
    let part = |part: &str| {
        let (head, body) = part.split_once("\r\n\r\n")?;
        let (_, name) = head.split_once("name=\"")?;
        let (name, _) = name.split_once('"')?;
        Some((name.to_owned(), Value::String(body.strip_suffix("\r\n").unwrap_or(body).to_owned())))
    };
    text.split(&format!("--{}", boundary.trim_matches('"'))).filter_map(part).collect()
}

impl State {
    /// The refusal of a token, if it is no good.
    fn without_right(&self, call: &Call) -> Option<Answer> {
        let Some(token) = call.asked("token").filter(|token| !token.is_empty()) else {
            return Some(refused(10, "No access token"));
        };
        if self.expired.contains(&token) {
            return Some(refused(12, "Access token has expired"));
        }
        let known = token == self.settings.access_token || self.tokens.contains(&token);
        if known { None } else { Some(refused(11, "Bad access token")) }
    }
}

impl Provider for Poster {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        match (call.method.as_str(), call.segments().as_slice()) {
            ("GET", ["api", "auth"]) => state.consent(call),
            ("POST", ["api", "v2", "auth", "access_token"]) => state.access_token(call),
            ("POST", ["api", "v2", "auth", "manage"]) => state.manage(call),
            (method, ["api", name]) => match state.without_right(call) {
                Some(refusal) => refusal,
                None => state.api(method, name, call),
            },
            _ => self.failure(404),
        }
    }

    /// What goes wrong before Poster's own code: a page.
    fn failure(&self, status: u16) -> Answer {
        Answer::new(status, "text/html; charset=utf-8", format!("<html><body><h1>{status}</h1></body></html>"))
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path.starts_with("/api/v2/auth/")
    }

    fn expire_tokens(&self) {
        let mut state = self.0.lock();
        let tokens: Vec<String> = state.tokens.drain().collect();
        state.expired.extend(tokens);
        let own = state.settings.access_token.clone();
        state.expired.insert(own);
    }

    fn token_expired(&self) -> Answer {
        refused(12, "Access token has expired")
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if !["transactions", "clients", "incoming_orders", "spots"].contains(&what) {
            return None;
        }
        Some(wire::objects(body).map(|items| {
            let all = json!(items);
            let mut state = self.0.lock();
            match what {
                "transactions" => state.transactions = items,
                "clients" => state.clients = items,
                "incoming_orders" => state.incoming_orders = items,
                _ => state.spots = items,
            }
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "transactions" => Some(json!(state.transactions)),
            "clients" => Some(json!(state.clients)),
            "incoming_orders" => Some(json!(state.incoming_orders)),
            "spots" => Some(json!(state.spots)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("exchanges".to_owned(), json!(self.0.lock().exchanges));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        let state = self.0.lock();
        match name {
            "webhook" => Some(hooks::webhook(&state.settings, options).map(|case| vec![case])),
            "proxied" => Some(hooks::proxied(&state.settings, options).map(|case| vec![case])),
            _ => None,
        }
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().settings.webhook_url.iter().cloned().collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
