//! What Meta's stand-in remembers, and whether it takes a message.

use std::collections::{BTreeMap, HashMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rules::{self, Failure, fail, refuse};
use crate::limit::Window;
use crate::wire;

const KEPT: usize = 1_000_000;
/// Free words are taken so long after a person has written.
const WINDOW_S: i64 = 24 * 3_600;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The key of webhooks' signatures.
    pub(super) app_secret: String,
    pub(super) verify_token: String,
    pub(super) waba_id: String,
    pub(super) phone_number_ids: Vec<String>,
    /// Messages a second from one number; beyond it code 130429.
    pub(super) messages_per_s: u32,
    /// So many messages to one person at once; each counts until `pair_every_ms` have passed. Beyond it code 131056.
    pub(super) pair_burst: i64,
    pub(super) pair_every_ms: i64,
    /// Whether free words fail with 131047 where the person has not written within a day.
    pub(super) window: bool,
    /// Phones, and the code of the status with which messages to them fail.
    pub(super) failing: BTreeMap<String, i64>,
    /// Phones that WhatsApp knows by other digits.
    pub(super) wa_ids: BTreeMap<String, String>,
    /// Where set, a test number: code 131030 for anybody else.
    pub(super) recipients: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            app_secret: "0f5c1d7e9a3b48c6b2d41e6f7a8095cd".to_owned(),
            verify_token: "my-verify-token".to_owned(),
            waba_id: "102290129340398".to_owned(),
            phone_number_ids: vec!["106540352242922".to_owned()],
            messages_per_s: 80,
            pair_burst: 45,
            pair_every_ms: 6_000,
            window: true,
            failing: BTreeMap::new(),
            wa_ids: BTreeMap::new(),
            recipients: None,
        }
    }
}

pub(super) struct Message {
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) phone_number_id: String,
    /// As WhatsApp knows the person: digits, or an id of a user.
    pub(super) to: String,
    kind: String,
    text: String,
    template: Option<Value>,
    pub(super) callback_data: Option<String>,
    /// The code with which it fails.
    pub(super) failure: Option<i64>,
}

impl Message {
    pub(super) fn shown(&self) -> Value {
        json!({
            "id": self.id, "from": self.phone_number_id, "to": self.to, "type": self.kind, "text": self.text,
            "template": self.template, "biz_opaque_callback_data": self.callback_data, "fails_with": self.failure,
        })
    }
}

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) templates: Vec<Value>,
    pub(super) accepted: u64,
    pub(super) forget: bool,
    pub(super) messages: VecDeque<Message>,
    pub(super) by_phone: HashMap<String, u32>,
    /// When each person last wrote, by the number that they wrote to.
    pub(super) wrote: HashMap<(String, String), i64>,
    pub(super) callback: Option<String>,
    /// Statuses up to this message have been told.
    pub(super) reported: u64,
    pub(super) inbound: u64,
    calls: HashMap<String, Window>,
    /// Until when messages to a person use up their burst.
    pairs: HashMap<(String, String), i64>,
}

impl Default for State {
    fn default() -> State {
        let body = json!({"type": "BODY", "text": "Спасибо, что были в {{1}}! Как всё прошло?"});
        let buttons =
            json!({"type": "BUTTONS", "buttons": [{"type": "URL", "text": "Оценить", "url": "https://otz.example/{{1}}"}]});
        let review = |language: &str, category: &str| {
            json!({"id": "1689556908129832", "name": "review_request", "language": language, "category": category,
                "status": "APPROVED", "components": [body, buttons]})
        };
        let hello = json!({"id": "1689556908129833", "name": "hello_world", "language": "en_US", "category": "UTILITY",
            "status": "APPROVED", "components": [{"type": "BODY", "text": "Welcome and congratulations!!"}]});
        State {
            settings: Settings::default(),
            templates: vec![review("ru", "MARKETING"), review("uz", "UTILITY"), hello],
            accepted: 0,
            forget: false,
            messages: VecDeque::new(),
            by_phone: HashMap::new(),
            wrote: HashMap::new(),
            callback: None,
            reported: 0,
            inbound: 0,
            calls: HashMap::new(),
            pairs: HashMap::new(),
        }
    }
}

impl State {
    pub(super) fn send(&mut self, from: &str, body: &Value) -> Result<Value, Failure> {
        if body["messaging_product"] != "whatsapp" {
            return Err(fail(400, 100, "(#100) The parameter messaging_product is required."));
        }
        let given = body["to"].as_str().or(body["recipient"].as_str()).unwrap_or_default();
        let user = body["to"].is_null() && given.contains('.');
        let phone = if user { Some(given.to_owned()) } else { rules::phone(given) };
        let phone = phone.ok_or_else(|| fail(400, 100, "(#100) The parameter to is required."))?;
        let kind = body["type"].as_str().unwrap_or("text").to_owned();
        let template = (kind == "template").then(|| self.template(&body["template"])).transpose()?;
        let text = match &template {
            Some((_, text)) => text.clone(),
            None => rules::text(&kind, body)?,
        };
        let now = wire::now_ms();
        if self.settings.recipients.as_ref().is_some_and(|known| !known.contains(&phone)) {
            let details =
                "Recipient phone number not in allowed list: Add recipient phone number to recipient list and try again.";
            return Err(refuse(131_030, "Recipient phone number not in allowed list", details));
        }
        if !self.calls.entry(from.to_owned()).or_default().fits(now, 1_000, self.settings.messages_per_s) {
            let details = "Message failed to send because there were too many messages sent from this phone number in a short period of time";
            return Err(refuse(130_429, "Rate limit hit", details));
        }
        self.pair(from, &phone, now)?;
        let wa_id = self.settings.wa_ids.get(&phone).unwrap_or(&phone).clone();
        let wrote = self.wrote.get(&(from.to_owned(), wa_id.clone())).copied().unwrap_or(i64::MIN);
        let closed = self.settings.window && template.is_none() && wrote < wire::now() - WINDOW_S;
        let failure = self.settings.failing.get(&phone).copied().or(closed.then_some(131_047));
        let id = format!("wamid.{}", STANDARD.encode(format!("{phone}/{}", wire::plain_uuid())));
        self.accepted += 1;
        *self.by_phone.entry(phone.clone()).or_default() += 1;
        if !self.forget {
            if self.messages.len() == KEPT {
                self.messages.pop_front();
            }
            self.messages.push_back(Message {
                number: self.accepted,
                id: id.clone(),
                phone_number_id: from.to_owned(),
                to: wa_id.clone(),
                kind,
                text,
                template: template.as_ref().map(|_| body["template"].clone()),
                callback_data: body["biz_opaque_callback_data"].as_str().map(str::to_owned),
                failure,
            });
        }
        let contact = if user { json!({"input": given, "user_id": given}) } else { json!({"input": given, "wa_id": wa_id}) };
        let mut message = json!({"id": id});
        if template.is_some() {
            message["message_status"] = json!("accepted");
        }
        Ok(json!({"messaging_product": "whatsapp", "contacts": [contact], "messages": [message]}))
    }

    /// The approved template, and what it says when it is filled.
    fn template(&self, sent: &Value) -> Result<(Value, String), Failure> {
        let (name, language) = (sent["name"].as_str().unwrap_or_default(), sent["language"]["code"].as_str().unwrap_or_default());
        if name.is_empty() || language.is_empty() {
            return Err(refuse(
                131_008,
                "Required parameter is missing",
                "template['name'] and template['language']['code'] are required.",
            ));
        }
        let known = self.templates.iter().find(|known| known["name"] == name && known["language"] == language);
        let missing = || {
            refuse(
                132_001,
                "Template name does not exist in the translation",
                format!("template name ({name}) does not exist in {language}"),
            )
        };
        let known = known.ok_or_else(missing)?;
        match known["status"].as_str() {
            Some("APPROVED") => {}
            Some("PAUSED") => return Err(refuse(132_015, "Template is Paused", format!("template ({name}) is paused"))),
            Some("DISABLED") => return Err(refuse(132_016, "Template is Disabled", format!("template ({name}) is disabled"))),
            _ => return Err(missing()),
        }
        Ok((known.clone(), rules::fill(known, sent)?))
    }

    /// A person can be sent a burst, which is paid back by waiting.
    fn pair(&mut self, from: &str, phone: &str, now: i64) -> Result<(), Failure> {
        let used_until = self.pairs.entry((from.to_owned(), phone.to_owned())).or_default();
        let next = (*used_until).max(now) + self.settings.pair_every_ms;
        if next - now > self.settings.pair_burst * self.settings.pair_every_ms {
            let details = "Message failed to send because there were too many messages sent from this phone number to the same phone number in a short period of time.";
            return Err(refuse(131_056, "(Business Account, Consumer Account) pair rate limit hit", details));
        }
        *used_until = next;
        Ok(())
    }
}
