//! Telegram's Bot API: messages to chats, updates by webhook or by asking, and the refusals that bots meet.
//!
//! Any token of the right form is taken but one with `wrong` in it (401); one of another form is 404, as there.

mod form;
mod html;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::form::Fields;
use crate::Provider;
use crate::cases::{self, Case};
use crate::wire::{self, Answer, Call};

const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The bot's name.
    username: String,
    /// Chats whose person has blocked the bot.
    blocked: BTreeSet<i64>,
    /// Chats that there are not.
    unknown: BTreeSet<i64>,
    /// Groups that have moved, by their old number.
    moved: BTreeMap<i64, i64>,
    /// Seconds that every call is put off by, as Telegram does to a bot that writes too much; 0: none.
    retry_after: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            username: "hub_demo_bot".to_owned(),
            blocked: BTreeSet::new(),
            unknown: BTreeSet::new(),
            moved: BTreeMap::new(),
            retry_after: 0,
        }
    }
}

#[derive(Default)]
struct State {
    settings: Settings,
    messages: Vec<Value>,
    updates: VecDeque<Value>,
    webhook: Option<Webhook>,
    last_message: i64,
}

#[derive(Clone, Serialize)]
struct Webhook {
    url: String,
    secret_token: String,
    allowed_updates: Value,
}

#[derive(Default)]
pub(crate) struct Telegram(Mutex<State>);

/// What was asked for; or a code, a description and parameters.
type Reply = Result<Value, (u16, String, Value)>;

fn refusal(code: u16, description: &str) -> (u16, String, Value) {
    (code, description.to_owned(), Value::Null)
}

fn bad(description: &str) -> (u16, String, Value) {
    refusal(400, &format!("Bad Request: {description}"))
}

fn refused((code, description, parameters): (u16, String, Value)) -> Answer {
    let mut body = json!({"ok": false, "error_code": code, "description": description});
    let wait = parameters["retry_after"].as_i64();
    if !parameters.is_null() {
        body["parameters"] = parameters;
    }
    let mut answer = Answer::json(code, &body);
    answer.headers.extend(wait.map(|wait| ("Retry-After", wait.to_string())));
    answer
}

fn too_many(wait: i64) -> (u16, String, Value) {
    (429, format!("Too Many Requests: retry after {wait}"), json!({"retry_after": wait}))
}

/// `7000000001` of `7000000001:AA…`.
fn bot_of(token: &str) -> Option<i64> {
    let (bot, secret) = token.split_once(':')?;
    let well = secret.len() >= 6 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    bot.parse().ok().filter(|_| well)
}

impl State {
    fn me(&self, bot: i64) -> Value {
        json!({"id": bot, "is_bot": true, "first_name": "Hub", "username": self.settings.username})
    }

    /// The chat of a call, where the bot may write.
    fn chat(&self, fields: &Fields) -> Result<i64, (u16, String, Value)> {
        let given = fields.text("chat_id").ok_or_else(|| bad("chat_id is empty"))?;
        let chat: i64 = given.parse().map_err(|_| bad("chat not found"))?;
        if let Some(to) = self.settings.moved.get(&chat) {
            let said = "Bad Request: group chat was upgraded to a supergroup chat".to_owned();
            return Err((400, said, json!({"migrate_to_chat_id": to})));
        }
        match chat {
            chat if self.settings.unknown.contains(&chat) || chat == 0 => Err(bad("chat not found")),
            chat if self.settings.blocked.contains(&chat) => Err(refusal(403, "Forbidden: bot was blocked by the user")),
            chat => Ok(chat),
        }
    }

    fn send(&mut self, bot: i64, fields: &Fields, what: &str) -> Reply {
        let chat = self.chat(fields)?;
        let file = match what {
            "sendmessage" => None,
            _ => Some(fields.file().ok_or_else(|| {
                bad(if what == "sendphoto" { "there is no photo in the request" } else { "there is no document in the request" })
            })?),
        };
        let (name, most) = if file.is_some() { ("caption", CAPTION_MAX) } else { ("text", TEXT_MAX) };
        let written = fields.text(name).unwrap_or_default();
        let text = match fields.text("parse_mode").as_deref() {
            None | Some("") => written,
            Some("HTML") => html::plain(&written).map_err(|why| bad(&format!("can't parse entities: {why}")))?,
            Some(_) => return Err(bad("unsupported parse_mode")),
        };
        if file.is_none() && text.trim().is_empty() {
            return Err(bad("message text is empty"));
        }
        if text.encode_utf16().count() > most {
            return Err(bad(if file.is_some() { "message caption is too long" } else { "message is too long" }));
        }
        if let Some(markup) = fields.json("reply_markup") {
            check_buttons(&markup)?;
        }
        self.last_message += 1;
        let kind = if chat < 0 { "supergroup" } else { "private" };
        let mut message = json!({
            "message_id": self.last_message, "from": self.me(bot), "chat": {"id": chat, "type": kind, "first_name": "Анна"},
            "date": wire::now(),
        });
        message[name] = json!(text);
        if let Some(file) = file {
            let about = json!({"file_id": "f1", "file_unique_id": "u1", "file_size": file.len(), "width": 640, "height": 400});
            match what {
                "sendphoto" => message["photo"] = json!([about]),
                _ => message["document"] = about,
            }
        }
        let mut kept = message.clone();
        kept["silent"] = json!(fields.text("disable_notification").as_deref() == Some("true"));
        kept["reply_markup"] = fields.json("reply_markup").unwrap_or_default();
        self.messages.push(kept);
        Ok(message)
    }

    fn set_webhook(&mut self, fields: &Fields) -> Reply {
        let url = fields.text("url").unwrap_or_default();
        if url.is_empty() {
            self.webhook = None;
            return Ok(json!(true));
        }
        // The real one wants https; stand-ins and hubs on one machine have none.
        if !url.starts_with("http") {
            return Err(bad("bad webhook: An HTTPS URL must be provided for webhook"));
        }
        let secret_token = fields.text("secret_token").unwrap_or_default();
        if secret_token.len() > 256 || !secret_token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
            return Err(bad("secret token contains unallowed characters"));
        }
        let before = self.webhook.take().map(|webhook| webhook.allowed_updates).unwrap_or_default();
        let allowed_updates = fields.json("allowed_updates").unwrap_or(before);
        self.webhook = Some(Webhook { url, secret_token, allowed_updates });
        Ok(json!(true))
    }

    fn webhook_info(&self) -> Value {
        let url = self.webhook.as_ref().map_or("", |webhook| webhook.url.as_str());
        let mut info = json!({"url": url, "has_custom_certificate": false, "pending_update_count": self.updates.len(), "max_connections": 40});
        if let Some(webhook) = self.webhook.as_ref().filter(|webhook| !webhook.allowed_updates.is_null()) {
            info["allowed_updates"] = webhook.allowed_updates.clone();
        }
        info
    }

    fn get_updates(&mut self, fields: &Fields) -> Reply {
        if self.webhook.is_some() {
            let why =
                "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first";
            return Err(refusal(409, why));
        }
        let number = |name: &str| fields.text(name).and_then(|value| value.parse::<i64>().ok());
        let offset = number("offset").unwrap_or(0);
        // Asking from a number on confirms all before it.
        self.updates.retain(|update| update["update_id"].as_i64().unwrap_or_default() >= offset);
        let limit = number("limit").unwrap_or(100).clamp(1, 100) as usize;
        Ok(self.updates.iter().take(limit).cloned().collect())
    }

    fn call(&mut self, token: &str, method: &str, call: &Call) -> Reply {
        let bot = bot_of(token).ok_or_else(|| refusal(404, "Not Found"))?;
        if token.contains("wrong") {
            return Err(refusal(401, "Unauthorized"));
        }
        if self.settings.retry_after > 0 {
            return Err(too_many(self.settings.retry_after));
        }
        let fields = Fields::of(call);
        match method {
            "getme" => Ok(self.me(bot)),
            "sendmessage" | "sendphoto" | "senddocument" => self.send(bot, &fields, method),
            "setwebhook" => self.set_webhook(&fields),
            "deletewebhook" => {
                self.webhook = None;
                Ok(json!(true))
            }
            "getwebhookinfo" => Ok(self.webhook_info()),
            "getupdates" => self.get_updates(&fields),
            "answercallbackquery" => Ok(json!(true)),
            _ => Err(refusal(404, "Not Found")),
        }
    }
}

fn check_buttons(markup: &Value) -> Result<(), (u16, String, Value)> {
    let rows = markup["inline_keyboard"].as_array().into_iter().flatten();
    for button in rows.flat_map(|row| row.as_array().into_iter().flatten()) {
        if button["text"].as_str().is_none_or(str::is_empty) {
            return Err(bad("inline keyboard button text must be non-empty"));
        }
        if button["url"].as_str().is_some_and(|url| !url.starts_with("http")) {
            return Err(bad("inline keyboard button URL is invalid: Wrong HTTP URL"));
        }
    }
    Ok(())
}

impl Provider for Telegram {
    fn answer(&self, call: &Call) -> Answer {
        let segments = call.segments();
        let [bot, method] = segments.as_slice() else { return self.failure(404) };
        let Some(token) = bot.strip_prefix("bot") else { return self.failure(404) };
        // A colon may come escaped.
        let token = token.replace("%3A", ":").replace("%3a", ":");
        match self.0.lock().call(&token, &method.to_lowercase(), call) {
            Ok(result) => Answer::json(200, &json!({"ok": true, "result": result})),
            Err(why) => refused(why),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        refused(match status {
            401 => refusal(401, "Unauthorized"),
            403 => refusal(403, "Forbidden: user is deactivated"),
            404 => refusal(404, "Not Found"),
            429 => too_many(17),
            500.. => refusal(status, "Internal Server Error"),
            _ => refusal(status, "Bad Request: something is wrong"),
        })
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    /// Updates wait until they are asked for.
    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        (what == "updates").then(|| {
            wire::objects(body).map(|updates| {
                let all = json!(updates);
                self.0.lock().updates = updates.into();
                all
            })
        })
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        match what {
            "messages" => Some(json!(state.messages)),
            "updates" => Some(json!(state.updates)),
            "webhook" => Some(json!(state.webhook)),
            _ => None,
        }
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("messages".to_owned(), json!(self.0.lock().messages.len()));
    }

    /// An update, with the secret of the webhook: `text`, `chat` and `update_id` choose others than the sample's.
    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        let mut case = cases::case("telegram", name)?;
        let mut update: Value = serde_json::from_slice(&case.body).ok()?;
        if !options["update_id"].is_null() {
            update["update_id"] = options["update_id"].clone();
        }
        for part in ["message", "my_chat_member"] {
            if !update[part].is_object() {
                continue;
            }
            if !options["chat"].is_null() {
                update[part]["chat"]["id"] = options["chat"].clone();
                update[part]["from"]["id"] = options["chat"].clone();
            }
            if !options["text"].is_null() {
                update[part]["text"] = options["text"].clone();
            }
        }
        case.body = update.to_string().into_bytes();
        let secret = self.0.lock().webhook.as_ref().map(|webhook| webhook.secret_token.clone());
        case.headers.extend(secret.map(|secret| ("X-Telegram-Bot-Api-Secret-Token".to_owned(), secret)));
        Some(Ok(vec![case]))
    }

    fn destinations(&self) -> Vec<String> {
        self.0.lock().webhook.iter().map(|webhook| webhook.url.clone()).collect()
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
