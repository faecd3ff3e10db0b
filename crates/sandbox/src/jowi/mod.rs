//! JOWi Club: accounts, operations and notifications of the loyalty programme (`/v3/loyalty/…`), and where OAuth gives tokens
//! (`/oauth/token`). Nothing of it is published: this follows the dossier's assumptions, in the manner of JOWi's public API.
//!
//! `accounts` can be put and shown; `operations` are shown. The settings choose how answers are written (numbers as text, refusals
//! with HTTP 200 or with their own status, repeats as good news or as 409) and how the programme lies.

mod book;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::book::{Book, Refused};
use crate::Provider;
use crate::token::Tokens;
use crate::wire::{self, Answer, Call};

/// Keys with their secrets: the dossier's vectors.
const KEYS: [(&str, &str); 2] = [("demo-api-key-0001", "demo-api-secret-0001"), ("abc", "def")];
const CLIENT: (&str, &str) = ("demo-client", "demo-client-secret");
const TOKEN_S: i64 = 3600;

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Repeats {
    /// The stored operation, as if it had just been done.
    #[default]
    AsGood,
    /// Error 409 with the stored operation.
    As409,
    /// Error 409 and nothing else.
    Bare409,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Lie {
    #[default]
    None,
    /// Another guest's account.
    Account,
    /// Another operation than was asked for.
    Operation,
    /// Another number of points than was moved.
    Points,
    /// Status 1 with nothing beside it.
    Empty,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    numbers_as_text: bool,
    /// Refusals have their number as HTTP status, not 200.
    http_errors: bool,
    repeats: Repeats,
    lie: Lie,
    /// Operations are not decided at once.
    pending: bool,
}

#[derive(Default)]
struct State {
    settings: Settings,
    book: Book,
    tokens: Tokens,
}

#[derive(Default)]
pub(crate) struct Jowi(Mutex<State>);

/// The first ten and the last five letters of the hash.
fn sig(key: &str, secret: &str) -> String {
    let hash = hex::encode(Sha256::digest(format!("{key}{secret}")));
    let (head, tail) = (hash.chars().take(10), hash.chars().skip(hash.len() - 5));
    head.chain(tail).collect()
}

fn is_known(key: &str, given: &str) -> bool {
    KEYS.iter().any(|(known, secret)| *known == key && sig(known, secret) == given)
}

fn error(status: u16, number: u16, message: &str) -> Answer {
    Answer::json(status, &json!({"status": 0, "error": number, "message": message}))
}

impl State {
    fn refuse(&self, number: u16, message: &str) -> Answer {
        error(if self.settings.http_errors { number } else { 200 }, number, message)
    }

    fn good(&self, name: &str, value: Value) -> Answer {
        let value = if self.settings.lie == Lie::Empty { Value::Null } else { value };
        let body = json!({"status": 1, name: value});
        Answer::json(200, &if self.settings.numbers_as_text { as_text(body) } else { body })
    }

    /// By token, or by key and signature: of a GET in the query, of a POST in the body.
    fn lets_in(&self, call: &Call, body: &Value) -> bool {
        if let Some(token) = call.bearer() {
            return self.tokens.good(token);
        }
        let given = |name: &str| match call.method.as_str() {
            "GET" => call.asked(name).unwrap_or_default(),
            _ => body[name].as_str().unwrap_or_default().to_owned(),
        };
        is_known(&given("api_key"), &given("sig"))
    }

    fn account(&self, call: &Call) -> Answer {
        let asked = ["phone", "card", "code"].iter().find_map(|name| Some((*name, call.asked(name)?)));
        let Some((name, value)) = asked else {
            return self.refuse(27, "phone, card or code is missing");
        };
        let Some(account) = self.book.find(name, &value) else {
            return self.refuse(404, "account not found");
        };
        let mut shown = account.clone();
        if self.settings.lie == Lie::Account {
            shown["phone"] = json!("+998907777777");
            shown["card_number"] = json!("2900007777777");
        }
        // The code is for the till's eyes only.
        if let Some(members) = shown.as_object_mut() {
            members.remove("code");
        }
        self.good("account", shown)
    }

    fn shown(&self, operation: &Value) -> Value {
        let mut operation = operation.clone();
        match self.settings.lie {
            Lie::Operation => operation["operation_id"] = json!(wire::uuid()),
            Lie::Points => operation["points"] = json!(operation["points"].as_i64().unwrap_or_default() + 1),
            Lie::None | Lie::Account | Lie::Empty => {}
        }
        operation
    }

    /// Does an operation once; a repeat gives what is stored.
    fn operate(&mut self, body: &Value, work: impl FnOnce(&mut Book, &str) -> Result<Value, Refused>) -> Answer {
        let Some(id) = body["operation_id"].as_str().filter(|id| id.len() == 36).map(str::to_owned) else {
            return self.refuse(27, "operation_id is no UUID");
        };
        if let Some(stored) = self.book.operation(&id) {
            let stored = self.shown(stored);
            let status = if self.settings.http_errors { 409 } else { 200 };
            return match self.settings.repeats {
                Repeats::AsGood => self.good("operation", stored),
                Repeats::As409 => {
                    Answer::json(status, &json!({"status": 0, "error": 409, "message": "duplicate", "operation": stored}))
                }
                Repeats::Bare409 => error(status, 409, "duplicate"),
            };
        }
        match work(&mut self.book, &id) {
            Ok(mut operation) => {
                if self.settings.pending {
                    self.book.undecided(&id);
                    operation["state"] = json!("pending");
                }
                let shown = self.shown(&operation);
                self.good("operation", shown)
            }
            Err(Refused(number, message)) => self.refuse(number, message),
        }
    }
}

/// Every number as text with a decimal, as JOWi prints sums.
fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_i64() => json!(format!("{number}.0")),
        Value::Array(items) => items.into_iter().map(as_text).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, as_text(value))).collect(),
        other => other,
    }
}

impl Jowi {
    fn token(&self, call: &Call) -> Answer {
        let form = Value::Object(wire::object(wire::pairs(&call.body)));
        let right =
            form["grant_type"] == "client_credentials" && form["client_id"] == CLIENT.0 && form["client_secret"] == CLIENT.1;
        if !right {
            return Answer::json(401, &json!({"error": "invalid_client"}));
        }
        let token = wire::plain_uuid();
        self.0.lock().tokens.add(token.clone(), TOKEN_S);
        Answer::json(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": TOKEN_S}))
    }
}

impl Provider for Jowi {
    fn answer(&self, call: &Call) -> Answer {
        let segments = call.segments();
        if let ("POST", ["oauth", "token"]) = (call.method.as_str(), segments.as_slice()) {
            return self.token(call);
        }
        let ["v3", "loyalty", rest @ ..] = segments.as_slice() else {
            return Answer::new(404, "text/html", "<html><body><h1>404 Not Found</h1></body></html>");
        };
        let body = call.json().unwrap_or_default();
        let mut state = self.0.lock();
        if !state.lets_in(call, &body) {
            return error(401, 401, "wrong api_key or sig");
        }
        match (call.method.as_str(), rest) {
            ("GET", ["accounts"]) => state.account(call),
            ("POST", ["accruals"]) => state.operate(&body, |book, id| book.accrue(id, &body)),
            ("POST", ["redemptions"]) => state.operate(&body, |book, id| book.redeem(id, &body)),
            ("GET", ["operations", id]) => match state.book.operation(id).map(|operation| state.shown(operation)) {
                Some(operation) => state.good("operation", operation),
                None => state.refuse(404, "operation not found"),
            },
            ("POST", ["operations", of, "reverse"]) => state.operate(&body, |book, id| book.reverse(id, of)),
            _ => state.refuse(404, "no such method"),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        error(status, status, "failure")
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path == "/oauth/token"
    }

    fn expire_tokens(&self) {
        self.0.lock().tokens.clear();
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        let all = wire::merge(&mut state.settings, patch)?;
        if !state.settings.pending {
            state.book.decide();
        }
        Ok(all)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        (what == "accounts").then(|| {
            let accounts = wire::objects(body)?;
            self.0.lock().book.put(accounts.clone());
            Ok(json!(accounts))
        })
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "accounts" => Some(json!(state.book.accounts)),
            "operations" => Some(json!(state.book.operations)),
            _ => None,
        }
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_dossier_s() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../samples/jowi/signature-vectors.json")).unwrap();
        for vector in vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            assert_eq!(sig(text("api_key"), text("api_secret")), text("sig"));
            assert!(is_known(text("api_key"), text("sig")));
        }
        assert!(!is_known("abc", "bef57ec7f5c4722") && !is_known("", ""));
    }
}
