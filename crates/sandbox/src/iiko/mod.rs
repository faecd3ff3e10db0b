//! iikoCloud: POST for nearly everything, tokens of one hour, an order feed that reaches back three hours.
//!
//! Any login is taken but `wrong` (401). Orders come from a sample or from `PUT /_sandbox/iiko/orders`.

mod orders;

use std::collections::{HashMap, HashSet};

use hyper::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::orders::by_id;
use crate::Provider;
use crate::token::{self, Tokens};
use crate::wire::{self, Answer, Call};

const ORGANIZATION: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";
const TERMINAL_GROUP: &str = "3c8e2d51-7a40-4f0e-9b61-5d2f0c9a7e14";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    token_seconds: i64,
    /// The organisations of the login.
    organizations: Vec<String>,
    time_zone: String,
    /// Answers 429 to `update_settings` called again within two seconds.
    limit_update_settings: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            token_seconds: 3600,
            organizations: vec![ORGANIZATION.to_owned()],
            time_zone: "Europe/Moscow".to_owned(),
            limit_update_settings: false,
        }
    }
}

struct State {
    settings: Settings,
    tokens: Tokens,
    orders: Vec<Value>,
    tables: Vec<Value>,
    customers: Vec<Value>,
    hooks: HashMap<String, Value>,
    hooks_changed: HashMap<String, i64>,
    commands: HashSet<String>,
    logins: u64,
}

impl Default for State {
    fn default() -> State {
        let order = wire::sample_body(include_str!("../../samples/iiko/api_deliveries_by_id.json"));
        let table: Value = serde_json::from_str(include_str!("../../samples/iiko/webhook_table_closed_regular_customer.json"))
            .unwrap_or_default();
        let customer = wire::sample_body(include_str!("../../samples/iiko/api_customer_info_by_phone.json"));
        State {
            settings: Settings::default(),
            tokens: Tokens::default(),
            orders: order["orders"].as_array().cloned().unwrap_or_default(),
            tables: vec![table[0]["eventInfo"].clone()],
            customers: vec![customer],
            hooks: HashMap::new(),
            hooks_changed: HashMap::new(),
            commands: HashSet::new(),
            logins: 0,
        }
    }
}

#[derive(Default)]
pub(crate) struct Iiko(Mutex<State>);

/// A refusal: status, text, short code.
type Refusal = (u16, String, Option<&'static str>);

fn invalid(text: impl Into<String>) -> Refusal {
    (400, text.into(), None)
}

fn error((status, text, code): Refusal) -> Answer {
    let body = json!({"correlationId": wire::uuid(), "errorDescription": text, "error": code});
    Answer::json(status, &body)
}

fn texts(body: &Value, name: &str) -> Option<Vec<String>> {
    let list = body.get(name)?.as_array()?;
    Some(list.iter().filter_map(|item| Some(item.as_str()?.to_lowercase())).collect())
}

fn organizations(body: &Value) -> Result<Vec<String>, Refusal> {
    match texts(body, "organizationIds") {
        Some(list) if !list.is_empty() => Ok(list),
        _ => Err(invalid("Required property 'organizationIds' not found in JSON.")),
    }
}

fn organization(body: &Value) -> Result<String, Refusal> {
    let id = body.get("organizationId").and_then(Value::as_str);
    id.map(str::to_lowercase).ok_or_else(|| invalid("Required property 'organizationId' not found in JSON."))
}

fn same(value: &Value, ids: &[String]) -> bool {
    value.as_str().is_some_and(|value| ids.iter().any(|id| id.eq_ignore_ascii_case(value)))
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

impl State {
    /// A token for this body. pyiikocloudapi encodes the body twice, and the service takes that.
    fn token(&mut self, body: &Value, second: bool) -> Result<Value, Refusal> {
        let inner = body.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let body = inner.as_ref().unwrap_or(body);
        let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let login = match (second, field("apiKey")) {
            (true, key) if !key.is_empty() => key,
            _ => field("apiLogin"),
        };
        let secret = !second || (!field("appId").is_empty() && !field("clientSecret").is_empty());
        if login.is_empty() || !secret {
            return Err(invalid("Required property not found in JSON."));
        }
        if login == "wrong" || field("clientSecret") == "wrong" {
            return Err((401, format!("Login {login} is not authorized."), None));
        }
        let seconds = self.settings.token_seconds;
        let token = if second {
            let now = wire::now();
            token::jwt(&json!({"sub": login, "iat": now, "exp": now + seconds, "jti": wire::uuid()}))
        } else {
            wire::plain_uuid()
        };
        self.tokens.add(token.clone(), seconds);
        self.logins += 1;
        Ok(json!({"token": token}))
    }

    fn organizations(&self, body: &Value) -> Value {
        let asked = texts(body, "organizationIds").filter(|ids| !ids.is_empty());
        let extended = body["returnAdditionalInfo"].as_bool().unwrap_or(false);
        let known = self.settings.organizations.iter();
        let list: Vec<Value> = known
            .filter(|id| asked.as_ref().is_none_or(|asked| asked.contains(&id.to_lowercase())))
            .map(|id| {
                let mut item = json!({"responseType": "Simple", "id": id, "name": "Кафе Пример", "code": "1"});
                if extended {
                    item["responseType"] = json!("Extended");
                    item["country"] = json!("Россия");
                    item["restaurantAddress"] = json!("Москва, Примерная, 1");
                    item["currencyIsoName"] = json!("RUB");
                    item["countryPhoneCode"] = json!("7");
                    item["version"] = json!("9.2.6");
                    item["isCloud"] = json!(true);
                }
                item
            })
            .collect();
        json!({ "organizations": list })
    }

    fn terminal_groups(&self, body: &Value) -> Result<Value, Refusal> {
        let asked = organizations(body)?;
        let known = self.settings.organizations.iter().filter(|id| asked.contains(&id.to_lowercase()));
        let groups: Vec<Value> = known
            .map(|id| {
                json!({"organizationId": id, "items": [{
                    "id": TERMINAL_GROUP, "organizationId": id, "name": "Кафе Пример",
                    "address": "Москва, Примерная, 1", "timeZone": self.settings.time_zone,
                    "posVersion": "9.2.6",
                }]})
            })
            .collect();
        Ok(json!({"terminalGroups": groups, "terminalGroupsInSleep": []}))
    }

    fn update_settings(&mut self, body: &Value) -> Result<Value, Refusal> {
        let id = organization(body)?;
        let uri = body["webHooksUri"].as_str().unwrap_or_default();
        if !uri.starts_with("http") {
            return Err(invalid("Required property 'webHooksUri' not found in JSON."));
        }
        let now = wire::now_ms();
        let last = self.hooks_changed.insert(id.clone(), now);
        if self.settings.limit_update_settings && last.is_some_and(|last| now - last < 2000) {
            return Err((429, "Too many requests.".to_owned(), None));
        }
        let hook = json!({
            "webHooksUri": uri, "authToken": body["authToken"], "webHooksFilter": body["webHooksFilter"],
        });
        self.hooks.insert(id, hook);
        Ok(json!({}))
    }

    fn hook_settings(&self, body: &Value) -> Result<Value, Refusal> {
        let hook = self.hooks.get(&organization(body)?);
        let mut settings = hook.cloned().unwrap_or_else(|| json!({"webHooksUri": null}));
        settings["apiLoginName"] = json!("sandbox");
        Ok(settings)
    }

    fn customer(&self, body: &Value) -> Result<Value, Refusal> {
        let id = organization(body)?;
        if !self.settings.organizations.iter().any(|known| known.eq_ignore_ascii_case(&id)) {
            let code = Some("Common_OrganizationNotFound");
            return Err((400, "Organization is not found.".to_owned(), code));
        }
        let kind = body["type"].as_str().unwrap_or_default();
        let value = body[kind].as_str().unwrap_or_default();
        if value.is_empty() {
            return Err(invalid("Required property not found in JSON."));
        }
        let card = |customer: &Value, field: &str| {
            let cards = customer["cards"].as_array();
            cards.is_some_and(|cards| cards.iter().any(|card| card[field] == json!(value)))
        };
        let found = self.customers.iter().find(|customer| match kind {
            "phone" => digits(customer["phone"].as_str().unwrap_or_default()) == digits(value),
            "cardTrack" => card(customer, "track"),
            "cardNumber" => card(customer, "number"),
            "id" | "email" => same(&customer[kind], &[value.to_owned()]),
            _ => false,
        });
        found.cloned().ok_or_else(|| {
            let text = format!("There is no user with specified {kind}.");
            (400, text, Some("Validation_IncorrectPhone"))
        })
    }

    fn dispatch(&mut self, call: &Call) -> Result<Value, Refusal> {
        let path = call.path.trim_end_matches('/');
        let short = call.method == Method::GET && path == "/api/1/organizations";
        if call.method != Method::POST && !short {
            return Err((405, "Method not allowed.".to_owned(), None));
        }
        let body = if call.body.is_empty() { Some(json!({})) } else { call.json() };
        let body = body.ok_or_else(|| invalid("Unexpected character in JSON."))?;
        match path {
            "/api/1/access_token" => return self.token(&body, false),
            "/api/v2/access_token" => return self.token(&body, true),
            _ => {}
        }
        if !call.bearer().is_some_and(|token| self.tokens.good(token)) {
            return Err(unauthorized());
        }
        match path {
            "/api/1/organizations" => Ok(self.organizations(&body)),
            "/api/1/terminal_groups" => self.terminal_groups(&body),
            "/api/1/webhooks/settings" => self.hook_settings(&body),
            "/api/1/webhooks/update_settings" => self.update_settings(&body),
            "/api/1/deliveries/by_id" => {
                let orders = by_id(&self.orders, &body, &[organization(&body)?])?;
                Ok(json!({ "orders": orders }))
            }
            // Table orders want the organisations in the plural.
            "/api/1/order/by_id" => {
                let orders = by_id(&self.tables, &body, &organizations(&body)?)?;
                Ok(json!({ "orders": orders }))
            }
            "/api/1/deliveries/by_revision" => self.by_revision(&body),
            "/api/1/deliveries/by_delivery_date_and_status" => self.by_date(&body),
            "/api/1/deliveries/update_order_delivery_status" => self.update_status(&body),
            "/api/1/commands/status" => {
                organization(&body)?;
                let id = body["correlationId"].as_str().unwrap_or_default();
                if self.commands.contains(id) {
                    Ok(json!({"state": "Success"}))
                } else {
                    Err((410, "The command is no longer kept.".to_owned(), None))
                }
            }
            "/api/1/loyalty/iiko/customer/info" => self.customer(&body),
            _ => Err((404, "Not found.".to_owned(), None)),
        }
    }
}

fn unauthorized() -> Refusal {
    (401, "Token is not valid or has expired.".to_owned(), None)
}

impl Provider for Iiko {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        match state.dispatch(call) {
            Err(refusal) => error(refusal),
            Ok(mut body) => {
                let path = call.path.as_str();
                // These two answer without a correlationId.
                if !path.contains("/customer/info") && !path.contains("/commands/status") {
                    let id = wire::uuid();
                    body["correlationId"] = json!(id);
                    if path.ends_with("update_order_delivery_status") {
                        state.commands.insert(id);
                    }
                }
                Answer::json(200, &body)
            }
        }
    }

    fn failure(&self, status: u16) -> Answer {
        match status {
            401 => error(unauthorized()),
            429 => error((429, "Too many requests.".to_owned(), None)),
            408 => error((408, "Operation timed out.".to_owned(), None)),
            _ => error((status, "Internal server error.".to_owned(), None)),
        }
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path.ends_with("/access_token")
    }

    fn expire_tokens(&self) {
        self.0.lock().tokens.clear();
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if !["orders", "table_orders", "customers"].contains(&what) {
            return None;
        }
        let mut items = match wire::objects(body) {
            Ok(items) => items,
            Err(error) => return Some(Err(error)),
        };
        let mut state = self.0.lock();
        for item in items.iter_mut().filter(|_| what != "customers") {
            // So that a test need not write down what it does not care about.
            if item["timestamp"].is_null() {
                item["timestamp"] = json!(wire::now_ms());
            }
            if item["organizationId"].is_null() {
                item["organizationId"] = json!(ORGANIZATION);
            }
        }
        let all = json!(items);
        match what {
            "orders" => state.orders = items,
            "table_orders" => state.tables = items,
            _ => state.customers = items,
        }
        Some(Ok(all))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "orders" => Some(json!(state.orders)),
            "table_orders" => Some(json!(state.tables)),
            "customers" => Some(json!(state.customers)),
            "webhooks" => Some(json!(state.hooks)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("tokens".to_owned(), json!(self.0.lock().logins));
    }

    fn destinations(&self) -> Vec<String> {
        let state = self.0.lock();
        let urls = state.hooks.values().filter_map(|hook| hook["webHooksUri"].as_str());
        urls.map(str::to_owned).collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
