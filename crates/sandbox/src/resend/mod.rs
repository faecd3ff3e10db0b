//! Resend: e-mails with a memory of idempotency keys, limits in headers, and webhooks signed by Svix.
//!
//! Any key `re_…` is taken, but `re_suspended`; `re_sending` may only send. Receivers at `resend.dev` bounce, complain or are
//! suppressed by their name (`bounced@resend.dev`); whoever stands in `suppressions` is suppressed.

mod rules;

use std::collections::{BTreeMap, HashMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use self::rules::{Refusal, refused};
use crate::Provider;
use crate::cases::Case;
use crate::limit::Window;
use crate::wire::{self, Answer, Call};

const KEPT_MS: i64 = 24 * 3_600_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// What signs webhooks.
    webhook_secret: String,
    /// Domains that may be written from; null takes every domain.
    domains: Option<Vec<String>>,
    /// 429 `rate_limit_exceeded` beyond so many calls in a second.
    per_second: Option<u32>,
    /// 429 `daily_quota_exceeded` beyond so many e-mails.
    daily_quota: Option<u64>,
    /// 422 `validation_error` for e-mails to these addresses.
    invalid_to: Vec<String>,
    /// 409 for every key, as if the first request under it were still running.
    still_running: bool,
    /// The next that is asked: so many milliseconds are added to the age of all keys.
    aged_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            webhook_secret: "whsec_Kpjh/OtoRYswQhc0tKZa0eXUc1nZJtmm".to_owned(),
            domains: Some(vec!["mail.example.com".to_owned(), "example.com".to_owned()]),
            per_second: None,
            daily_quota: None,
            invalid_to: Vec::new(),
            still_running: false,
            aged_ms: 0,
        }
    }
}

/// What was answered under a key.
struct Kept {
    body: Vec<u8>,
    at_ms: i64,
    answer: Value,
}

#[derive(Default)]
struct State {
    settings: Settings,
    keys: HashMap<String, Kept>,
    /// Whole, with `id` and `last_event`, oldest first.
    emails: Vec<Value>,
    suppressions: Vec<String>,
    calls: Window,
    forget: bool,
}

#[derive(Default)]
pub(crate) struct Resend(Mutex<State>);

impl State {
    fn accept(&mut self, email: &Value, to: &[&str]) -> Value {
        let id = wire::uuid();
        let first = rules::bare(to.first().copied().unwrap_or_default()).to_lowercase();
        let event = match first.split_once('@') {
            _ if self.suppressions.contains(&first) => "suppressed",
            Some((name, "resend.dev")) if ["bounced", "complained", "suppressed"].contains(&name) => name,
            _ => "delivered",
        };
        let mut kept = email.clone();
        kept["id"] = json!(id);
        kept["object"] = json!("email");
        kept["to"] = json!(to);
        kept["last_event"] = json!(event);
        // Their own form, which is not RFC 3339.
        kept["created_at"] = json!("2026-11-22 09:15:00.894981+00");
        if !self.forget {
            self.emails.push(kept);
        }
        json!({"id": id})
    }

    fn within_quota(&self, more: usize) -> Result<(), Refusal> {
        let beyond = self.settings.daily_quota.is_some_and(|quota| (self.emails.len() + more) as u64 > quota);
        let what = "You have reached your daily email sending quota.";
        if beyond { Err((429, "daily_quota_exceeded", what.to_owned())) } else { Ok(()) }
    }

    /// What is wrong with an e-mail, and else its receivers.
    fn judge<'a>(&self, email: &'a Value, batch: bool) -> Result<Vec<&'a str>, Refusal> {
        let to = rules::judge(email, self.settings.domains.as_deref(), batch)?;
        match to.iter().find(|to| self.settings.invalid_to.iter().any(|invalid| invalid == rules::bare(to))) {
            Some(to) => Err((422, "validation_error", format!("Invalid `to` field: {to} takes no e-mail."))),
            None => Ok(to),
        }
    }

    fn send(&mut self, body: &Value) -> Result<Value, Refusal> {
        let to = self.judge(body, false)?;
        self.within_quota(1)?;
        Ok(self.accept(body, &to))
    }

    fn batch(&mut self, body: &Value, permissive: bool) -> Result<Value, Refusal> {
        let emails = body.as_array().filter(|emails| (1..=100).contains(&emails.len()));
        let what = "The batch must be an array of 1 to 100 emails.";
        let emails = emails.ok_or_else(|| (422, "validation_error", what.to_owned()))?;
        self.within_quota(emails.len())?;
        let judged: Vec<_> = emails.iter().map(|email| self.judge(email, true)).collect();
        if let Some(Err(refusal)) = judged.iter().find(|judged| judged.is_err()).filter(|_| !permissive) {
            return Err(refusal.clone());
        }
        let (mut data, mut errors) = (Vec::new(), Vec::new());
        for (index, (email, judged)) in emails.iter().zip(judged).enumerate() {
            match judged {
                Ok(to) => data.push(self.accept(email, &to)),
                Err((.., message)) => errors.push(json!({"index": index, "message": message})),
            }
        }
        Ok(if permissive { json!({"data": data, "errors": errors}) } else { json!({"data": data}) })
    }

    /// What was answered under this key, what is refused under it, or nothing yet.
    fn known(&mut self, key: &str, body: &[u8], now_ms: i64) -> Option<Result<Value, Refusal>> {
        let aged_ms = self.settings.aged_ms;
        self.keys.retain(|_, kept| kept.at_ms + KEPT_MS > now_ms + aged_ms);
        let refuse = |status, name, what: &str| Some(Err((status, name, what.to_owned())));
        if key.len() > 256 {
            return refuse(400, "invalid_idempotency_key", "The key must be between 1-256 chars");
        }
        if self.settings.still_running {
            let what = "Same idempotency key used while original request is still in progress";
            return refuse(409, "concurrent_idempotent_requests", what);
        }
        let kept = self.keys.get(key)?;
        if kept.body != body {
            let what = "Same idempotency key used with a different request payload";
            return refuse(409, "invalid_idempotent_request", what);
        }
        Some(Ok(kept.answer.clone()))
    }
}

impl Resend {
    fn post(&self, call: &Call, batch: bool) -> Result<Value, Refusal> {
        let now_ms = wire::now_ms();
        let mut state = self.0.lock();
        let key = call.header("idempotency-key");
        if let Some(known) = (!key.is_empty()).then(|| state.known(key, &call.body, now_ms)).flatten() {
            return known;
        }
        let body = call.json().ok_or_else(|| (400, "validation_error", "The body is not JSON".to_owned()))?;
        let answer = match batch {
            false => state.send(&body)?,
            true => state.batch(&body, call.header("x-batch-validation") == "permissive")?,
        };
        // Only what was taken is remembered.
        if !key.is_empty() {
            state.keys.insert(key.to_owned(), Kept { body: call.body.to_vec(), at_ms: now_ms, answer: answer.clone() });
        }
        Ok(answer)
    }

    fn dispatch(&self, call: &Call) -> Result<Value, Refusal> {
        let refuse = |status, name, what: &str| Err((status, name, what.to_owned()));
        let key = call.bearer().unwrap_or_default();
        match key {
            "" => return refuse(401, "missing_api_key", "Missing API key in the authorization header"),
            "re_suspended" => return refuse(403, "suspended_api_key", "This API key is suspended"),
            key if !key.starts_with("re_") => return refuse(403, "invalid_api_key", "API key is invalid"),
            _ => {}
        }
        let (method, segments) = (call.method.as_str(), call.segments());
        if key == "re_sending" && method != "POST" {
            return refuse(401, "restricted_api_key", "This API key is restricted to only send emails");
        }
        match (method, &segments[..]) {
            ("POST", ["emails"]) => self.post(call, false),
            ("POST", ["emails", "batch"]) => self.post(call, true),
            ("GET", ["emails", id]) => {
                let state = self.0.lock();
                let found = state.emails.iter().find(|email| email["id"] == **id);
                found.cloned().ok_or_else(|| (404, "not_found", "Email not found".to_owned()))
            }
            ("GET", ["domains"]) => {
                let domains = self.0.lock().settings.domains.clone().unwrap_or_default();
                let domains = domains.iter().map(|name| json!({"name": name, "status": "verified"}));
                Ok(json!({"object": "list", "data": domains.collect::<Vec<_>>()}))
            }
            (_, ["emails" | "domains", ..]) => refuse(405, "method_not_allowed", "Method is not allowed"),
            _ => refuse(404, "not_found", "The requested endpoint does not exist"),
        }
    }

    /// A webhook as Svix sends it; `options` choose event, e-mail, secrets and age.
    fn webhook(&self, options: &Value) -> Result<Case, String> {
        let state = self.0.lock();
        let text = |name: &str| options.get(name).and_then(Value::as_str);
        let event = text("event").unwrap_or("delivered");
        let wanted = text("email_id");
        let email = state.emails.iter().rev().find(|email| wanted.is_none_or(|id| email["id"] == id));
        let id = wanted.or(email.and_then(|email| email["id"].as_str())).ok_or("no e-mail was accepted")?;
        let mut data = json!({
            "created_at": "2026-11-22T09:15:00.894Z", "email_id": id,
            "from": email.map(|email| &email["from"]), "to": email.map(|email| &email["to"]), "subject": email.map(|email| &email["subject"]),
        });
        // An array when it is sent, an object when it comes back.
        let tags = email.and_then(|email| email["tags"].as_array()).into_iter().flatten();
        data["tags"] = tags
            .map(|tag| (tag["name"].as_str().unwrap_or_default().to_owned(), tag["value"].clone()))
            .collect::<Map<_, _>>()
            .into();
        if let Some(more) = options.get("data").and_then(Value::as_object) {
            data.as_object_mut().ok_or("no object")?.extend(more.clone());
        }
        let created_at = text("created_at").map_or_else(|| jiff::Timestamp::now().to_string(), str::to_owned);
        let body = json!({"type": format!("email.{event}"), "created_at": created_at, "data": data}).to_string();
        let age_s = options.get("age_s").and_then(Value::as_i64).unwrap_or(0);
        let (message, time) =
            (text("svix_id").map_or_else(|| format!("msg_{}", wire::plain_uuid()), str::to_owned), wire::now() - age_s);
        // While a secret is rotated both sign.
        let secrets = [text("secret").unwrap_or(&state.settings.webhook_secret)].into_iter().chain(text("old_secret"));
        let signatures: Vec<String> = secrets.map(|secret| sign(secret, &message, time, &body)).collect::<Result<_, _>>()?;
        let names = if text("names") == Some("webhook") { "webhook" } else { "svix" };
        Ok(Case {
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            headers: vec![
                (format!("{names}-id"), message),
                (format!("{names}-timestamp"), time.to_string()),
                (format!("{names}-signature"), signatures.join(" ")),
            ],
            body: body.into_bytes(),
            ..Case::default()
        })
    }
}

fn sign(secret: &str, id: &str, time: i64, body: &str) -> Result<String, String> {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).map_err(|error| error.to_string())?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{time}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

impl Provider for Resend {
    fn answer(&self, call: &Call) -> Answer {
        let limit = self.0.lock().settings.per_second;
        let fits = limit.is_none_or(|limit| self.0.lock().calls.fits(wire::now_ms(), 1_000, limit));
        let mut answer = match fits.then(|| self.dispatch(call)) {
            None => self.limited(),
            Some(Ok(body)) => Answer::json(200, &body),
            Some(Err(refusal)) => refused(&refusal),
        };
        let shown = limit.unwrap_or(5);
        answer.headers.extend([
            ("ratelimit-limit", shown.to_string()),
            ("ratelimit-remaining", if fits { shown - 1 } else { 0 }.to_string()),
            ("ratelimit-reset", "1".to_owned()),
        ]);
        if !fits {
            answer.headers.push(("retry-after", "1".to_owned()));
        }
        answer
    }

    fn failure(&self, status: u16) -> Answer {
        let (name, message) = match status {
            401 => ("missing_api_key", "Missing API key in the authorization header"),
            403 => ("invalid_api_key", "API key is invalid"),
            404 => ("not_found", "The requested endpoint does not exist"),
            429 => ("rate_limit_exceeded", "Too many requests. You can only make 5 requests per second."),
            400 | 402..=499 => ("validation_error", "Something is wrong with the request"),
            503 => ("service_unavailable", "The service is not available"),
            _ => ("internal_server_error", "An unexpected error occurred"),
        };
        refused(&(status, name, message.to_owned()))
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        let mut state = self.0.lock();
        match what {
            "suppressions" => Some(serde_json::from_value(body.clone()).map_err(|error| error.to_string()).map(|given| {
                state.suppressions = given;
                body
            })),
            // By id: what `GET /emails/{id}` says from now on.
            "events" => {
                let given: Result<BTreeMap<String, String>, _> = serde_json::from_value(body.clone());
                Some(given.map_err(|error| error.to_string()).map(|given| {
                    for email in &mut state.emails {
                        if let Some(event) = email["id"].as_str().and_then(|id| given.get(id)) {
                            email["last_event"] = json!(event);
                        }
                    }
                    body
                }))
            }
            _ => None,
        }
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "accepted" => Some(json!(state.emails)),
            "suppressions" => Some(json!(state.suppressions)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        let state = self.0.lock();
        counts.insert("accepted".to_owned(), json!(state.emails.len()));
        counts.insert("keys".to_owned(), json!(state.keys.len()));
    }

    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        (name == "webhook").then(|| self.webhook(options).map(|case| vec![case]))
    }

    fn keep(&self, keep: bool) {
        self.0.lock().forget = !keep;
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
