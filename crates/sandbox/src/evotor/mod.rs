//! Evotor's cloud: stores, tills, employees and documents in pages with cursors; webhooks that a token proves and nothing signs.
//!
//! One account. Documents are samples or come from `PUT /_sandbox/evotor/{stores,devices,employees,documents}`, in the shape of
//! version 2. Case `webhook` tells of one of them as a receipt, as version 1 or as version 2.

mod hooks;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Provider;
use crate::cases::Case;
use crate::wire::{self, Answer, Call};

const MEDIA_TYPE: &str = "application/vnd.evotor.v2+json";
const PAGE_MAX: usize = 1_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    user_id: String,
    cloud_token: String,
    application_token: String,
    user_token: String,
    bridge_secret: String,
    /// So many items stand on a page.
    page_size: usize,
    /// So many reads do not show a document yet.
    reads_behind: u32,
    /// Calls in a minute, as the headers tell.
    calls_per_minute: u32,
    /// Whether the subscription is paid, and the right to read documents is given.
    paid: bool,
    may_read_documents: bool,
    /// Where webhooks go when a sending names no address.
    webhook_url: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            user_id: "01-000000000000042".to_owned(),
            cloud_token: "0d7e6c1a-2b3c-4d5e-8f90-a1b2c3d4e5f6".to_owned(),
            application_token: "3f1c0de2-6a50-4f0a-9a58-1f2e3d4c5b6a".to_owned(),
            user_token: "usr-7d9c1f0b2a5e48d1a0c3".to_owned(),
            bridge_secret: "evo_test_secret".to_owned(),
            page_size: 100,
            reads_behind: 0,
            calls_per_minute: 6_000,
            paid: true,
            may_read_documents: true,
            webhook_url: None,
        }
    }
}

struct State {
    settings: Settings,
    expired: bool,
    calls: u64,
    stores: Vec<Value>,
    devices: Vec<Value>,
    employees: Vec<Value>,
    documents: Vec<Value>,
}

impl Default for State {
    fn default() -> State {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let items = |text: &str| read(text)["items"].as_array().cloned().unwrap_or_default();
        State {
            settings: Settings::default(),
            expired: false,
            calls: 0,
            stores: items(include_str!("../../samples/evotor/get_stores_response.json")),
            devices: items(include_str!("../../samples/evotor/get_devices_response.json")),
            employees: items(include_str!("../../samples/evotor/get_employees_response.json")),
            documents: vec![
                read(include_str!("../../samples/evotor/webhook_document_put_v2.json")),
                read(include_str!("../../samples/evotor/document_payback_v2.json")),
            ],
        }
    }
}

#[derive(Default)]
pub(crate) struct Evotor(Mutex<State>);

fn refused(status: u16, message: &str, violations: &Value) -> Answer {
    let mut body = json!({"code": status, "message": message});
    if !violations.is_null() {
        body["violations"] = violations.clone();
    }
    Answer::typed(status, MEDIA_TYPE, &body)
}

fn violation(subject: &str, reason: &str) -> Answer {
    refused(400, "Bad request", &json!([{"reason": reason, "subject": subject}]))
}

impl State {
    fn without_right(&self, call: &Call) -> Option<Answer> {
        let older = call.header("x-authorization");
        let token = if older.is_empty() { call.bearer().unwrap_or_default() } else { older };
        if self.expired || token != self.settings.cloud_token {
            return Some(refused(401, "Unauthorized", &Value::Null));
        }
        if !self.settings.paid {
            return Some(refused(402, "Payment required", &Value::Null));
        }
        let accept = call.header("accept");
        (!accept.is_empty() && accept != "*/*" && accept != MEDIA_TYPE).then(|| refused(406, "Not acceptable", &Value::Null))
    }

    /// A page of these items. A cursor stands for the whole question, so nothing may come beside it.
    fn page(&self, call: &Call, items: Vec<&Value>) -> Answer {
        let start = match call.asked("cursor") {
            Some(_) if wire::pairs(call.query.as_bytes()).len() > 1 => return violation("cursor", "unexpected"),
            Some(cursor) => match cursor.rsplit_once('.').and_then(|(_, place)| place.parse::<usize>().ok()) {
                Some(start) => start,
                None => return violation("cursor", "invalid"),
            },
            None => 0,
        };
        let end = start.saturating_add(self.settings.page_size.clamp(1, PAGE_MAX)).min(items.len());
        let shown: Vec<&Value> = items.get(start..end).unwrap_or_default().to_vec();
        let question = call.asked("cursor").and_then(|cursor| cursor.rsplit_once('.').map(|(question, _)| question.to_owned()));
        let question = question.unwrap_or_else(|| hex::encode(&call.query));
        let paging = if end < items.len() { json!({"next_cursor": format!("{question}.{end}")}) } else { json!({}) };
        Answer::typed(200, MEDIA_TYPE, &json!({"items": shown, "paging": paging}))
    }

    fn documents(&self, call: &Call, store: &str, device: Option<&str>) -> Answer {
        if !self.settings.may_read_documents {
            return refused(403, "Forbidden", &Value::Null);
        }
        // What was asked first stands in the cursor.
        let asked = match call.asked("cursor").and_then(|cursor| cursor.rsplit_once('.').map(|(question, _)| question.to_owned()))
        {
            Some(question) => hex::decode(question).unwrap_or_default(),
            None => call.query.clone().into_bytes(),
        };
        let asked = wire::object(wire::pairs(&asked));
        let mut moments = [i64::MIN, i64::MAX];
        for (moment, name) in moments.iter_mut().zip(["since", "until"]) {
            match asked.get(name) {
                None => {}
                Some(text) => match wire::number(Some(text)) {
                    Some(ms) => *moment = ms,
                    None => return violation(name, "invalid"),
                },
            }
        }
        let types: Vec<&str> =
            asked.get("types").and_then(Value::as_str).map(|types| types.split(',').collect()).unwrap_or_default();
        let fits = |document: &&Value| {
            let at = closed_at(document).unwrap_or(i64::MIN);
            document["store_id"] == *store
                && device.is_none_or(|device| document["device_id"] == *device)
                && (moments[0]..=moments[1]).contains(&at)
                && (types.is_empty() || document["type"].as_str().is_some_and(|kind| types.contains(&kind)))
        };
        let mut found: Vec<&Value> = self.documents.iter().filter(fits).collect();
        found.sort_by_key(|document| closed_at(document));
        self.page(call, found)
    }

    fn document(&mut self, store: &str, id: &str) -> Answer {
        if !self.settings.may_read_documents {
            return refused(403, "Forbidden", &Value::Null);
        }
        if self.settings.reads_behind > 0 {
            self.settings.reads_behind -= 1;
            return self.unknown();
        }
        match self.documents.iter().find(|document| document["id"] == *id && document["store_id"] == *store) {
            Some(document) => Answer::typed(200, MEDIA_TYPE, document),
            None => self.unknown(),
        }
    }

    fn unknown(&self) -> Answer {
        refused(404, "Not found", &Value::Null)
    }

    fn one(&self, items: &[Value], id: &str) -> Answer {
        match items.iter().find(|item| item["id"] == *id) {
            Some(item) => Answer::typed(200, MEDIA_TYPE, item),
            None => self.unknown(),
        }
    }

    fn of_store<'a>(&self, call: &Call, items: &'a [Value]) -> Vec<&'a Value> {
        let store = call.asked("store_id");
        let is_its = |item: &&Value| match &store {
            Some(store) => {
                item["store_id"] == **store || item["stores"].as_array().is_some_and(|stores| stores.contains(&json!(store)))
            }
            None => true,
        };
        items.iter().filter(is_its).collect()
    }

    fn api(&mut self, call: &Call) -> Answer {
        match call.segments().as_slice() {
            ["stores"] => self.page(call, self.stores.iter().collect()),
            ["stores", id] => self.one(&self.stores, id),
            ["devices"] => self.page(call, self.of_store(call, &self.devices)),
            ["devices", id] => self.one(&self.devices, id),
            ["employees"] => self.page(call, self.of_store(call, &self.employees)),
            ["employees", id] => self.one(&self.employees, id),
            ["stores", store, "documents"] => self.documents(call, store, None),
            ["stores", store, "documents", id] => self.document(store, id),
            ["stores", store, "devices", device, "documents"] => self.documents(call, store, Some(device)),
            _ => self.unknown(),
        }
    }
}

/// When a document was closed, in milliseconds.
fn closed_at(document: &Value) -> Option<i64> {
    let at = document["close_date"].as_str()?;
    jiff::Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", at).ok().map(jiff::Timestamp::as_millisecond)
}

impl Provider for Evotor {
    fn answer(&self, call: &Call) -> Answer {
        let mut state = self.0.lock();
        state.calls += 1;
        let mut answer = match state.without_right(call) {
            Some(refusal) => refusal,
            None if call.method != "GET" => refused(405, "Method not allowed", &Value::Null),
            None => state.api(call),
        };
        let left = u64::from(state.settings.calls_per_minute).saturating_sub(state.calls);
        answer.headers.push(("x-ratelimit-limit", state.settings.calls_per_minute.to_string()));
        answer.headers.push(("x-ratelimit-remaining", left.to_string()));
        answer.headers.push(("x-ratelimit-reset", (60 - wire::now().rem_euclid(60)).to_string()));
        answer
    }

    fn failure(&self, status: u16) -> Answer {
        refused(status, "Failed", &Value::Null)
    }

    fn limited(&self) -> Answer {
        let mut answer = refused(429, "Too many requests", &Value::Null);
        answer.headers.push(("x-ratelimit-remaining", "0".to_owned()));
        answer.headers.push(("x-ratelimit-reset", "20".to_owned()));
        answer
    }

    fn expire_tokens(&self) {
        self.0.lock().expired = true;
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        // Another token is a new one.
        state.expired &= patch.get("cloud_token").is_none();
        wire::merge(&mut state.settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if !["stores", "devices", "employees", "documents"].contains(&what) {
            return None;
        }
        Some(wire::objects(body).map(|items| {
            let all = json!(items);
            let mut state = self.0.lock();
            match what {
                "stores" => state.stores = items,
                "devices" => state.devices = items,
                "employees" => state.employees = items,
                _ => state.documents = items,
            }
            all
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "stores" => Some(json!(state.stores)),
            "devices" => Some(json!(state.devices)),
            "employees" => Some(json!(state.employees)),
            "documents" => Some(json!(state.documents)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("documents".to_owned(), json!(self.0.lock().documents.len()));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        let state = self.0.lock();
        let made = match name {
            "webhook" => hooks::told(&state.settings, &state.documents, options),
            "login" => hooks::login(&state.settings, options),
            "private" => hooks::private(&state.settings, options),
            _ => return None,
        };
        Some(made.map(|case| vec![case]))
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().settings.webhook_url.iter().cloned().collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
