//! SMS.ru: 200 for every HTTP answer, codes inside, errors per number below a top-level "OK".
//!
//! Any `api_id` is taken but `wrong` (code 200) and `nomoney` (code 201 for every number).

mod reply;
mod rules;
mod state;

use std::collections::HashMap;

use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::reply::{Params, Reply, php, recipients, refused};
use self::state::{CENTS_PER_SEGMENT, Sending, State, sms_id};
use crate::Provider;
use crate::cases::Case;
use crate::wire::{self, Answer, Call};

#[derive(Default)]
pub(crate) struct SmsRu(Mutex<State>);

impl SmsRu {
    fn send(&self, params: &Params, cost_only: bool) -> Result<Reply, i64> {
        let list = recipients(params)?;
        rules::time(params.get("time"), params.get("daytime") == "1")?;
        rules::user_ip(params.get("ip"))?;
        let call = Sending {
            from: params.get("from"),
            test: params.get("test") == "1",
            translit: params.get("translit") == "1",
            no_money: params.get("api_id") == "nomoney" && !cost_only,
        };
        let (mut entries, mut lines) = (Map::new(), Vec::new());
        let (mut cents, mut count) = (0, 0);
        let mut state = self.0.lock();
        for (given, text) in list {
            let (key, phone) = rules::phone(given);
            if entries.contains_key(&key) {
                continue;
            }
            let entry = if let Some(code) = state.refusal(phone, text, &call) {
                lines.push(code.to_string());
                refused(code)
            } else if cost_only {
                let segments = rules::segments(text, call.translit);
                cents += segments * CENTS_PER_SEGMENT;
                count += segments;
                let cost = format!("{:.2}", (segments * CENTS_PER_SEGMENT) as f64 / 100.0);
                json!({"status": "OK", "status_code": 100, "cost": cost, "sms": segments})
            } else {
                let number = phone.unwrap_or_else(|_| key.parse().unwrap_or(0));
                let id = state.accept(number, text.to_owned(), &call);
                lines.push(id.clone());
                json!({"status": "OK", "status_code": 100, "sms_id": id})
            };
            entries.insert(key, entry);
        }
        if cost_only {
            let total = cents as f64 / 100.0;
            let fields = json!({"sms": php(entries), "total_cost": total, "total_sms": count});
            return Ok(Reply::ok(fields, vec![format!("{total:.2}"), count.to_string()]));
        }
        let balance = if call.no_money { 0.12 } else { state.balance() };
        lines.push(format!("balance={balance:.2}"));
        Ok(Reply::ok(json!({"sms": php(entries), "balance": balance}), lines))
    }

    fn status(&self, params: &Params) -> Result<Reply, i64> {
        let ids: Vec<&str> = params.get("sms_id").split(',').map(str::trim).collect();
        if ids.len() > 100 {
            return Err(213);
        }
        let state = self.0.lock();
        let (mut entries, mut lines) = (Map::new(), Vec::new());
        for id in ids {
            let code = state.state_of(id).unwrap_or(-1);
            let mut entry = refused(code);
            if code != -1 {
                entry["status"] = json!("OK");
                entry["cost"] = json!(CENTS_PER_SEGMENT as f64 / 100.0);
            }
            lines.push(code.to_string());
            entries.insert(id.to_owned(), entry);
        }
        Ok(Reply::ok(json!({"balance": state.balance(), "sms": php(entries)}), lines))
    }

    fn stoplist(&self, what: &str, params: &Params) -> Result<Reply, i64> {
        let mut state = self.0.lock();
        let (phone, _) = rules::phone(params.get("stoplist_phone"));
        match what {
            "add" if phone.is_empty() => return Err(202),
            "add" => {
                let note = params.get("stoplist_text").to_owned();
                state.stoplist.insert(phone, note);
            }
            "del" => {
                state.stoplist.remove(&phone);
            }
            _ => {
                let list = state.stoplist.iter();
                let lines = list.clone().map(|(phone, note)| format!("{phone};{note}")).collect();
                let list = list.map(|(phone, note)| (phone.clone(), json!(note))).collect();
                return Ok(Reply::ok(json!({"stoplist": php(list)}), lines));
            }
        }
        Ok(Reply::ok(json!({}), Vec::new()))
    }

    fn callback(&self, what: &str, params: &Params) -> Result<Reply, i64> {
        let mut state = self.0.lock();
        let url = params.get("url").to_owned();
        match what {
            "add" if !url.starts_with("http://") && !url.starts_with("https://") => return Err(901),
            "add" if !state.callbacks.contains(&url) => state.callbacks.push(url),
            "del" if !state.callbacks.contains(&url) => return Err(902),
            "del" => state.callbacks.retain(|known| *known != url),
            _ => {}
        }
        let list = state.callbacks.clone();
        Ok(Reply::ok(json!({"callback": list}), list))
    }

    fn callcheck(&self, what: &str, params: &Params) -> Result<Reply, i64> {
        let mut state = self.0.lock();
        if what == "add" {
            rules::phone(params.get("phone")).1?;
            let number = 542 + state.checks.len() as u64;
            state.checks.insert(number, wire::now());
            let id = format!("202647-{number}");
            let fields = json!({
                "check_id": id, "call_phone": "78005008275", "call_phone_pretty": "+7 (800) 500-8275",
                "call_phone_html": "<a href=\"callto:78005008275\">+7 (800) 500-8275</a>",
            });
            return Ok(Reply::ok(fields, vec![id, "78005008275".to_owned()]));
        }
        let id = params.get("check_id");
        let made = id.strip_prefix("202647-").and_then(|number| number.parse().ok());
        let made = made.and_then(|number: u64| state.checks.get(&number));
        let code = match (state.check_states.get(id), made) {
            (Some(code), _) => *code,
            // The person has five minutes to call.
            (None, Some(at)) if wire::now() < at + 300 => 400,
            _ => 402,
        };
        let text = rules::check_text(code);
        let fields = json!({"check_status": code.to_string(), "check_status_text": text});
        Ok(Reply::ok(fields, vec![code.to_string()]))
    }

    fn dispatch(&self, call: &Call, params: &Params) -> Result<Reply, i64> {
        let segments = call.segments();
        let [group, what] = segments[..] else {
            return Err(211);
        };
        let changes = matches!((group, what), ("stoplist" | "callback", "add" | "del"));
        if changes && call.method != Method::POST {
            return Err(210);
        }
        let given = |name: &str| !params.get(name).is_empty();
        match params.get("api_id") {
            "" if !given("login") || !given("password") => return Err(200),
            "" if params.get("password") == "wrong" => return Err(301),
            "wrong" => return Err(200),
            _ => {}
        }
        match (group, what) {
            ("sms", "send") => self.send(params, false),
            ("sms", "cost") => self.send(params, true),
            ("sms", "status") => self.status(params),
            ("stoplist", "add" | "del" | "get") => self.stoplist(what, params),
            ("callback", "add" | "del" | "get") => self.callback(what, params),
            ("callcheck", "add" | "status") => self.callcheck(what, params),
            ("auth", "check") => Ok(Reply::ok(json!({}), Vec::new())),
            ("my", "balance") => {
                let balance = self.0.lock().balance();
                Ok(Reply::ok(json!({"balance": balance}), vec![format!("{balance:.2}")]))
            }
            ("my", "limit") => {
                let state = self.0.lock();
                let (limit, used) = (state.settings.daily_limit, state.accepted.to_string());
                // The counter is a text, and null while nothing was sent.
                let shown = (state.accepted > 0).then(|| used.clone());
                let fields = json!({"total_limit": limit, "used_today": shown});
                Ok(Reply::ok(fields, vec![limit.to_string(), used]))
            }
            ("my", "free") => {
                let fields = json!({"total_free": 5, "used_today": Value::Null});
                Ok(Reply::ok(fields, vec!["5".to_owned(), "0".to_owned()]))
            }
            ("my", "senders") => {
                let senders = self.0.lock().settings.senders.clone();
                let senders = senders.unwrap_or_else(|| vec!["Kofeynya".into(), "79990009900".into()]);
                Ok(Reply::ok(json!({"senders": senders}), senders))
            }
            _ => Err(211),
        }
    }

    /// The callback body for these items, in the provider's order and signed.
    fn signed(api_id: &str, items: &[String]) -> Case {
        let mut hasher = Sha256::new();
        hasher.update(api_id);
        let mut body = String::new();
        for (index, item) in items.iter().enumerate() {
            hasher.update(item);
            body.push_str(&format!("data%5B{index}%5D={}&", wire::encode(item)));
        }
        body.push_str(&format!("hash={}", hex::encode(hasher.finalize())));
        Case {
            method: "POST".to_owned(),
            content_type: "application/x-www-form-urlencoded".to_owned(),
            body: body.into_bytes(),
            ..Case::default()
        }
    }
}

impl Provider for SmsRu {
    fn answer(&self, call: &Call) -> Answer {
        let params = Params::of(call);
        let as_json = params.get("json") == "1";
        self.dispatch(call, &params).unwrap_or_else(Reply::error).write(as_json)
    }

    /// Only the front of the service answers with an HTTP error, and then with a page.
    fn failure(&self, status: u16) -> Answer {
        let page = format!("<html><head><title>{status}</title></head><body>{status}</body></html>");
        Answer::new(status, "text/html; charset=utf-8", page)
    }

    fn limited(&self) -> Answer {
        Reply::error(220).write(true)
    }

    fn token_expired(&self) -> Answer {
        Reply::error(300).write(true)
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        let mut state = self.0.lock();
        if patch.get("balance").is_some() {
            state.spent_cents = 0;
        }
        wire::merge(&mut state.settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        if what != "states" && what != "checks" {
            return None;
        }
        let given: Result<HashMap<String, i64>, _> = serde_json::from_value(body.clone());
        Some(given.map_err(|error| error.to_string()).map(|given| {
            let mut state = self.0.lock();
            match what {
                "states" => state.states.extend(given),
                _ => state.check_states.extend(given),
            }
            body
        }))
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "accepted" => Some(json!(
                state
                    .messages
                    .iter()
                    .map(|message| json!({
                        "sms_id": sms_id(message.number), "to": message.to.to_string(),
                        "text": message.text, "from": message.from,
                    }))
                    .collect::<Vec<_>>()
            )),
            "callbacks" => Some(json!(state.callbacks)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        let state = self.0.lock();
        counts.insert("accepted".to_owned(), json!(state.accepted));
        let phones = state.by_phone.iter();
        let phones: Map<String, Value> = phones.map(|(phone, count)| (phone.to_string(), json!(count))).collect();
        counts.insert("phones".to_owned(), json!(phones.len()));
        counts.insert("by_phone".to_owned(), Value::Object(phones));
        counts.insert("balance".to_owned(), json!(state.balance()));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        if name != "callback" {
            return None;
        }
        let mut state = self.0.lock();
        let api_id = options.get("api_id").and_then(Value::as_str);
        let api_id = api_id.unwrap_or(&state.settings.api_id).to_owned();
        let given = options.get("status").and_then(Value::as_i64);
        let now = wire::now();
        let mut items = Vec::new();
        if let Some(ids) = options.get("sms_ids").and_then(Value::as_array) {
            for id in ids.iter().filter_map(Value::as_str) {
                let status = given.or(state.state_of(id)).unwrap_or(103);
                items.push(format!("sms_status\n{id}\n{status}\n{now}"));
            }
        } else if options.get("check_id").is_none() {
            let last = state.reported;
            let waiting = state.messages.iter().filter(|sent| sent.number > last && !sent.test);
            let status = given.unwrap_or(103);
            items.extend(waiting.map(|sent| format!("sms_status\n{}\n{status}\n{now}", sms_id(sent.number))));
            state.reported = state.messages.back().map_or(last, |sent| sent.number);
        }
        if let Some(id) = options.get("check_id").and_then(Value::as_str) {
            let code = options.get("check_status").and_then(Value::as_i64);
            items.push(format!("callcheck_status\n{id}\n{}\n{now}", code.unwrap_or(401)));
        }
        if items.is_empty() {
            return Some(Err("no accepted message is waiting to be reported".to_owned()));
        }
        // One call carries at most a hundred items.
        Some(Ok(items.chunks(100).map(|items| SmsRu::signed(&api_id, items)).collect()))
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().callbacks.clone()
    }

    fn keep(&self, keep: bool) {
        self.0.lock().forget = !keep;
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
