//! `SendSMS`, `GetList`, `GetCount`, and the events that are sent to the address of the cabinet.

use std::collections::HashMap;

use hyper::Method;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Shape, error, field, is_phone, stranger, too_short};
use crate::Provider;
use crate::cases::Case;
use crate::wire::{self, Answer, Call};

const FIRST_ID: u64 = 439_166_538_239_448_536;
const KEPT: usize = 100_000;
const DELIVERY: [&str; 6] = ["QUEUED", "TRANSMITTED", "DELIVERED", "FAILED", "RETRIES_EXCEEDED", "PROHIBITED"];
const STATUS: [&str; 6] = ["QUEUED", "TRANSMITTED", "DELIVERED", "FAILED", "UNDERFUNDED", "PROHIBITED"];
/// The filters of `GetList`; a field that is none of them is refused, as their gateway does with any it does not know.
const FILTERS: [&str; 13] = [
    "message_id",
    "limit",
    "offset",
    "number",
    "sender",
    "receiver",
    "direction",
    "delivery_status",
    "billing_status",
    "status",
    "date_gte",
    "date_lte",
    "application_uuid",
];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    error_shape: Shape,
    /// Numbers that refuse such messages.
    not_permitted: Vec<String>,
    /// Of a trial account: the only number that is reached.
    confirmed: Option<String>,
    /// Takes the message and leaves its id out of the answer.
    without_id: bool,
    /// Ids as numbers instead of texts.
    ids_as_numbers: bool,
    /// Enums of lists as names; numbers were seen too.
    enums_as_names: bool,
    /// The account has no money: messages are taken and end so.
    underfunded: bool,
    delivered_after_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            error_shape: Shape::default(),
            not_permitted: Vec::new(),
            confirmed: None,
            without_id: false,
            ids_as_numbers: false,
            enums_as_names: false,
            underfunded: false,
            delivered_after_ms: 1000,
        }
    }
}

#[derive(Clone)]
struct Message {
    id: u64,
    incoming: bool,
    sender: String,
    receiver: String,
    text: String,
    at_ms: i64,
    underfunded: bool,
}

#[derive(Default)]
struct State {
    settings: Settings,
    messages: Vec<Message>,
    given: u64,
    forget: bool,
    /// States that a test has set, by id.
    states: HashMap<String, String>,
    reported: u64,
}

#[derive(Default)]
pub(crate) struct ExolveSms(Mutex<State>);

impl State {
    fn take(&mut self, incoming: bool, sender: &str, receiver: &str, text: &str) -> Message {
        let message = Message {
            id: FIRST_ID + self.given,
            incoming,
            sender: sender.to_owned(),
            receiver: receiver.to_owned(),
            text: text.to_owned(),
            at_ms: wire::now_ms(),
            underfunded: self.settings.underfunded && !incoming,
        };
        self.given += 1;
        if !self.forget && self.messages.len() < KEPT {
            self.messages.push(message.clone());
        }
        message
    }

    fn id(&self, message: &Message) -> Value {
        if self.settings.ids_as_numbers { json!(message.id) } else { json!(message.id.to_string()) }
    }

    /// The words of both states.
    fn words(&self, message: &Message) -> (&str, &str) {
        if let Some(word) = self.states.get(&message.id.to_string()) {
            let whole = if word == "RETRIES_EXCEEDED" { "FAILED" } else { word };
            return (if word == "UNDERFUNDED" { "FAILED" } else { word }, whole);
        }
        match message.underfunded {
            true => ("FAILED", "UNDERFUNDED"),
            false if message.incoming || wire::now_ms() >= message.at_ms + self.settings.delivered_after_ms => {
                ("DELIVERED", "DELIVERED")
            }
            false => ("TRANSMITTED", "TRANSMITTED"),
        }
    }

    fn row(&self, message: &Message, names: bool) -> Value {
        let (delivery, status) = self.words(message);
        let word = |prefix: &str, words: &[&str], word: &str| match words.iter().position(|known| *known == word) {
            Some(place) if !names => json!(place + 1),
            _ => json!(format!("{prefix}{word}")),
        };
        let direction = if message.incoming { "INCOMING" } else { "OUTGOING" };
        json!({
            "message_id": self.id(message),
            "application_uuid": "1bd8bfc9-6a12-4b84-9cfe-ba363bbd523e",
            "date": jiff::Timestamp::from_millisecond(message.at_ms).unwrap_or_default().to_string(),
            "number": if message.incoming { &message.receiver } else { &message.sender },
            "sender": message.sender,
            "receiver": message.receiver,
            "text": message.text,
            "direction": word("DIRECTION_", &["INCOMING", "OUTGOING"], direction),
            "segments_count": 1,
            "billing_status": word("BILLING_STATUS_", &["PREBILLED", "BILLED"], "BILLED"),
            "delivery_status": word("DELIVERY_STATUS_", &DELIVERY, delivery),
            "channel": 1,
            "status": word("STATUS_", &STATUS, status),
        })
    }

    fn found(&self, body: &Value) -> Result<Vec<&Message>, String> {
        let filters = body.as_object().ok_or("proto: syntax error")?;
        if let Some(unknown) = filters.keys().find(|name| !FILTERS.contains(&name.as_str())) {
            return Err(format!("proto: unknown field \"{unknown}\""));
        }
        let time = |name: &str| match &body[name] {
            Value::Null => Ok(None),
            value => {
                let time = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
                time.map(|time| Some(time.as_millisecond())).ok_or(format!("proto: invalid value for field {name}"))
            }
        };
        let directions = match &body["direction"] {
            Value::Null => None,
            Value::Array(list) => {
                Some(list.iter().map(|one| *one == json!(1) || *one == json!("DIRECTION_INCOMING")).collect::<Vec<bool>>())
            }
            _ => return Err("proto: invalid value for field direction: an array is expected".to_owned()),
        };
        let (from, to) = (time("date_gte")?, time("date_lte")?);
        let id = wire::number(body.get("message_id"));
        let is = |name: &str, value: &str| body[name].is_null() || body[name] == value;
        let fits = |message: &&Message| {
            id.is_none_or(|id| i64::try_from(message.id) == Ok(id))
                && directions.as_ref().is_none_or(|wanted| wanted.contains(&message.incoming))
                && from.is_none_or(|from| message.at_ms >= from)
                && to.is_none_or(|to| message.at_ms <= to)
                && is("sender", &message.sender)
                && is("receiver", &message.receiver)
                && is("number", if message.incoming { &message.receiver } else { &message.sender })
        };
        Ok(self.messages.iter().filter(fits).collect())
    }
}

impl ExolveSms {
    fn send(&self, body: &Value) -> Answer {
        let mut state = self.0.lock();
        let (sender, to, text) = (field(body, "number"), field(body, "destination"), field(body, "text"));
        let refused = |words: &str| error(400, state.settings.error_shape, words);
        match () {
            () if sender.is_empty() => return refused(&too_short("SendSMSRequest", "Number")),
            () if to.is_empty() => return refused(&too_short("SendSMSRequest", "Destination")),
            () if text.is_empty() => return refused(&too_short("SendSMSRequest", "Text")),
            () if !is_phone(to) => return refused("incorrect number format"),
            // City numbers and 8-800 send no messages.
            () if sender.bytes().all(|byte| byte.is_ascii_digit()) && !(is_phone(sender) && sender.starts_with("79")) => {
                return refused("number is not permitted for sending");
            }
            () if state.settings.confirmed.as_deref().is_some_and(|own| own != to) => {
                return refused("customer has not signed, the number must match your confirmed phone number");
            }
            () if state.settings.not_permitted.iter().any(|number| number == to) => {
                return refused("destination is not permitted for delivery");
            }
            () => {}
        }
        let message = state.take(false, sender, to, text);
        match state.settings.without_id {
            true => Answer::json(200, &json!({})),
            false => Answer::json(200, &json!({"message_id": state.id(&message)})),
        }
    }

    fn list(&self, body: &Value, count: bool) -> Answer {
        let state = self.0.lock();
        let found = match state.found(body) {
            Ok(found) => found,
            Err(why) => return error(400, state.settings.error_shape, &why),
        };
        if count {
            return Answer::json(200, &json!({"count": found.len().to_string()}));
        }
        let number = |name: &str| wire::number(body.get(name)).and_then(|number| usize::try_from(number).ok());
        let (limit, offset) = (number("limit").unwrap_or(100), number("offset").unwrap_or(0));
        if limit > 2000 {
            return error(
                400,
                state.settings.error_shape,
                "invalid GetListRequest.Limit: value must be less than or equal to 2000",
            );
        }
        let rows = found.into_iter().skip(offset).take(limit).map(|message| state.row(message, state.settings.enums_as_names));
        Answer::json(200, &json!({"messages": rows.collect::<Vec<_>>()}))
    }
}

impl Provider for ExolveSms {
    fn answer(&self, call: &Call) -> Answer {
        let shape = self.0.lock().settings.error_shape;
        let segments = call.segments();
        let (&Method::POST, ["messaging", "v1", method]) = (&call.method, &segments[..]) else {
            return Answer::new(404, "text/plain", "404 page not found");
        };
        if let Some(refused) = stranger(call, shape) {
            return refused;
        }
        let Some(body) = call.json() else {
            return error(400, shape, "proto: syntax error (line 1:1): unexpected token");
        };
        match *method {
            "SendSMS" => self.send(&body),
            "GetList" => self.list(&body, false),
            "GetCount" => self.list(&body, true),
            _ => Answer::new(404, "text/plain", "404 page not found"),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        error(status, self.0.lock().settings.error_shape, "internal error")
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn put(&self, what: &str, body: Value) -> Option<Result<Value, String>> {
        match what {
            "states" => {
                let given: Result<HashMap<String, String>, _> = serde_json::from_value(body.clone());
                Some(given.map_err(|error| error.to_string()).map(|given| {
                    self.0.lock().states.extend(given);
                    body
                }))
            }
            // What people wrote, and no event tells of.
            "incoming" => Some(wire::objects(body).map(|rows| {
                let mut state = self.0.lock();
                for row in &rows {
                    state.take(true, field(row, "sender"), field(row, "receiver"), field(row, "text"));
                }
                json!(rows)
            })),
            _ => None,
        }
    }

    fn show(&self, what: &str) -> Option<Value> {
        let state = self.0.lock();
        let sent = state.messages.iter().filter(|message| !message.incoming);
        (what == "accepted").then(|| {
            json!(
                sent.map(|message| json!({
                    "message_id": message.id.to_string(), "to": message.receiver, "text": message.text, "from": message.sender,
                }))
                .collect::<Vec<_>>()
            )
        })
    }

    fn summary(&self, counts: &mut Map<String, Value>) {
        counts.insert("accepted".to_owned(), json!(self.0.lock().given));
    }

    /// `event`: what became of the messages that nothing was told of yet; `message_ids`, `state` and `without_date` choose others.
    fn make_cases(&self, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
        if name != "event" {
            return None;
        }
        let mut state = self.0.lock();
        let ids: Option<Vec<&str>> = options["message_ids"].as_array().map(|ids| ids.iter().filter_map(Value::as_str).collect());
        let last = state.reported;
        let wanted = |message: &&Message| match &ids {
            Some(ids) => ids.contains(&message.id.to_string().as_str()),
            None => !message.incoming && message.id > last,
        };
        let messages: Vec<Message> = state.messages.iter().filter(wanted).cloned().collect();
        let mut events: Vec<Value> = messages.iter().map(|message| state.row(message, true)).collect();
        for id in ids.iter().flatten().filter(|id| !messages.iter().any(|message| message.id.to_string() == **id)) {
            events.push(
                json!({"message_id": id, "direction": "DIRECTION_OUTGOING", "sender": "Kofeynya", "receiver": "79990009900"}),
            );
        }
        if let Some(word) = options["state"].as_str() {
            for event in &mut events {
                event["delivery_status"] = json!(format!("DELIVERY_STATUS_{word}"));
                event["status"] = json!(format!("STATUS_{}", if word == "RETRIES_EXCEEDED" { "FAILED" } else { word }));
            }
        }
        if options["without_date"] == true {
            events.iter_mut().filter_map(Value::as_object_mut).for_each(|event| drop(event.remove("date")));
        }
        if ids.is_none() {
            state.reported = messages.last().map_or(last, |message| message.id);
        }
        if events.is_empty() {
            // The recorded event stands for it.
            return None;
        }
        let case = |event: &Value| Case {
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: event.to_string().into_bytes(),
            ..Case::default()
        };
        Some(Ok(events.iter().map(case).collect()))
    }

    fn keep(&self, keep: bool) {
        self.0.lock().forget = !keep;
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
