//! r_keeper: mostly a sender of pushes; of its APIs only the token and one order of the Delivery API are played.

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::Provider;
use crate::token::{self, Tokens};
use crate::wire::{self, Answer, Call};

struct State {
    tokens: Tokens,
    orders: Vec<Value>,
}

impl Default for State {
    fn default() -> State {
        let order = wire::sample_body(include_str!("../samples/rkeeper/delivery_api_order_by_id.json"));
        State { tokens: Tokens::default(), orders: vec![order["result"].clone()] }
    }
}

#[derive(Default)]
pub(crate) struct Rkeeper(Mutex<State>);

fn error(status: u16, code: &str, text: &str) -> Answer {
    let request = wire::plain_uuid();
    Answer::json(status, &json!({"code": code, "msg": text, "requestId": request, "errors": null}))
}

impl Rkeeper {
    fn token(&self, call: &Call) -> Answer {
        let form = Value::Object(wire::object(wire::pairs(&call.body)));
        let field = |name: &str| form[name].as_str().unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            return Answer::json(400, &json!({"error": "unsupported_grant_type"}));
        }
        let (id, secret) = (field("client_id"), field("client_secret"));
        if id.is_empty() || secret.is_empty() || id == "wrong" || secret == "wrong" {
            return Answer::json(400, &json!({"error": "invalid_client"}));
        }
        let now = wire::now();
        let token = token::jwt(&json!({"client_id": id, "iat": now, "exp": now + 3600, "jti": wire::uuid()}));
        self.0.lock().tokens.add(token.clone(), 3600);
        Answer::json(200, &json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))
    }
}

impl Provider for Rkeeper {
    fn answer(&self, call: &Call) -> Answer {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", ["connect", "token"]) => self.token(call),
            (method, ["orders", "api", "v1", "orders", id]) => {
                let state = self.0.lock();
                if !call.bearer().is_some_and(|token| state.tokens.good(token)) {
                    return self.failure(401);
                }
                // The id is a number in a text, or the guid.
                let order = state.orders.iter().find(|order| {
                    [&order["orderId"], &order["id"]]
                        .iter()
                        .any(|known| known.as_str().is_some_and(|known| known.eq_ignore_ascii_case(id)))
                });
                match order {
                    Some(order) if method == "GET" => Answer::json(200, &json!({"result": order})),
                    Some(_) => self.failure(405),
                    None => error(404, "ERR_NOT_FOUND", "Order not found"),
                }
            }
            _ => error(404, "ERR_NOT_FOUND", "Not found"),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        match status {
            401 => Answer::empty(401),
            _ => error(status, "ERR_EXTERNAL_ERROR_WS", "WS Error"),
        }
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path == "/connect/token"
    }

    fn expire_tokens(&self) {
        self.0.lock().tokens.clear();
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if what != "orders" {
            return None;
        }
        Some(wire::objects(body).map(|orders| {
            let all = json!(orders);
            self.0.lock().orders = orders;
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        (what == "orders").then(|| json!(self.0.lock().orders))
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        match patch.as_object() {
            Some(patch) if patch.is_empty() => Ok(Value::Object(Map::new())),
            _ => Err("r_keeper has no settings but record".to_owned()),
        }
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
