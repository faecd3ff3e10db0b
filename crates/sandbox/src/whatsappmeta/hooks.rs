//! What the stand-in sends: signed over its bytes, with everything escaped that is not ASCII, as Meta does it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::rules::title;
use super::state::State;
use crate::cases::{self, Case};
use crate::token::hmac_sha256;
use crate::wire;

/// One webhook carries at most so many statuses here; Meta may take any number.
const BATCH: usize = 100;

pub(super) fn make(state: &mut State, name: &str, options: &Value) -> Option<Result<Vec<Case>, String>> {
    let text = |option: &str, other: &str| options[option].as_str().unwrap_or(other).to_owned();
    Some(match name {
        "statuses" => statuses(state, options),
        "inbound" => Ok(vec![inbound(state, options)]),
        "preference" => {
            let wa_id = text("from", "79990001122");
            let preference = json!({"wa_id": wa_id, "detail": "User requested to change marketing messages",
                "category": "marketing_messages", "value": text("value", "stop"), "timestamp": wire::now()});
            let contact = contact(&wa_id, "Иван");
            let number = number(state, options);
            let value = json!({"messaging_product": "whatsapp", "metadata": metadata(&number), "contacts": [contact],
                "user_preferences": [preference]});
            Ok(vec![signed(state, &body(state, "user_preferences", &[value]))])
        }
        "template_status" => {
            let value = json!({"event": text("event", "PAUSED"), "message_template_id": 1_689_556_908_129_832_i64,
                "message_template_name": text("name", "review_request"), "message_template_language": text("language", "ru"),
                "reason": text("reason", "NONE"), "message_template_category": "MARKETING"});
            Ok(vec![signed(state, &body(state, "message_template_status_update", &[value]))])
        }
        "verify" => {
            let token = text("verify_token", &state.settings.verify_token);
            let (challenge, token) = (wire::encode(&text("challenge", "1158201444")), wire::encode(&token));
            let query = format!("hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}");
            Ok(vec![Case { method: "GET".to_owned(), query, ..Case::default() }])
        }
        sample => {
            let case = cases::case("whatsappmeta", sample)?;
            if case.method == "GET" {
                return None;
            }
            let replace: BTreeMap<String, String> = serde_json::from_value(options["replace"].clone()).unwrap_or_default();
            let case = case.replaced(&replace);
            Ok(vec![signed_bytes(state, case.body)])
        }
    })
}

/// Statuses of the messages that were taken since the last time, or of those with these ids. Without `statuses` each goes its way:
/// sent and delivered, or failed. Each in a webhook of its own, or, with `batch`, many in one.
fn statuses(state: &mut State, options: &Value) -> Result<Vec<Case>, String> {
    let list = |name: &str| -> Option<Vec<String>> { serde_json::from_value(options[name].clone()).ok() };
    let (ids, words) = (list("message_ids"), list("statuses"));
    let code = options["code"].as_i64();
    let mut told = Vec::new();
    let mut tell = |id: &str, number: &str, to: &str, data: Option<&str>, failure: Option<i64>| {
        let failure = code.or(failure);
        let way = match failure {
            Some(_) => vec!["failed".to_owned()],
            None => vec!["sent".to_owned(), "delivered".to_owned()],
        };
        for word in words.as_ref().unwrap_or(&way) {
            told.push((number.to_owned(), to.to_owned(), status(id, to, word, data, failure)));
        }
    };
    match ids {
        Some(ids) => {
            for id in ids {
                match state.messages.iter().find(|message| message.id == id) {
                    Some(message) => {
                        let data = message.callback_data.as_deref();
                        tell(&id, &message.phone_number_id, &message.to, data, message.failure);
                    }
                    // A message of somebody else.
                    None => tell(&id, &number(state, options), "79990001122", options["callback_data"].as_str(), None),
                }
            }
        }
        None => {
            for message in state.messages.iter().filter(|message| message.number > state.reported) {
                let data = message.callback_data.as_deref();
                tell(&message.id, &message.phone_number_id, &message.to, data, message.failure);
            }
            state.reported = state.messages.back().map_or(state.reported, |message| message.number);
        }
    }
    if told.is_empty() {
        return Err("no accepted message is waiting to be reported".to_owned());
    }
    let values = told.into_iter().map(|(number, to, status)| {
        json!({"messaging_product": "whatsapp", "metadata": metadata(&number), "contacts": [contact(&to, "Иван")], "statuses": [status]})
    });
    let values: Vec<Value> = values.collect();
    let each = if options["batch"] == true { BATCH } else { 1 };
    Ok(values.chunks(each).map(|values| signed(state, &body(state, "messages", values))).collect())
}

fn status(id: &str, to: &str, word: &str, data: Option<&str>, failure: Option<i64>) -> Value {
    let mut status = json!({"id": id, "status": word, "timestamp": wire::now().to_string(), "recipient_id": to});
    if let Some(data) = data {
        status["biz_opaque_callback_data"] = json!(data);
    }
    match word {
        "failed" => {
            let code = failure.unwrap_or(131_026);
            status["errors"] = json!([{"code": code, "title": title(code), "message": title(code),
                "error_data": {"details": format!("Message failed to send: {}", title(code))},
                "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"}]);
        }
        "sent" | "delivered" => {
            status["pricing"] = json!({"billable": true, "pricing_model": "PMP", "category": "utility", "type": "regular"});
        }
        _ => {}
    }
    status
}

/// A message of a person, which opens the window for free words.
fn inbound(state: &mut State, options: &Value) -> Case {
    let text = |option: &str, other: &str| options[option].as_str().unwrap_or(other).to_owned();
    let (from, number) = (text("from", "79990001122"), number(state, options));
    state.inbound += 1;
    let id = text("id", &format!("wamid.inbound-{}", state.inbound));
    let (kind, said) = (text("type", "text"), text("text", "Спасибо, всё отлично 👍"));
    let content = match kind.as_str() {
        "text" => json!({"body": said}),
        "button" => json!({"payload": text("payload", "RATE_5"), "text": said}),
        "interactive" => json!({"type": "button_reply", "button_reply": {"id": text("payload", "RATE_5"), "title": said}}),
        _ => json!({"id": "1003383421387256", "mime_type": "image/jpeg", "sha256": "x", "caption": said}),
    };
    let at = options["timestamp"].as_i64().unwrap_or_else(wire::now);
    let mut message = json!({"from": from, "from_user_id": user(&from), "id": id, "timestamp": at.to_string(), "type": kind});
    message[kind.as_str()] = content;
    state.wrote.insert((number.clone(), from.clone()), at);
    let value = json!({"messaging_product": "whatsapp", "metadata": metadata(&number),
        "contacts": [contact(&from, &text("name", "Иван"))], "messages": [message]});
    signed(state, &body(state, "messages", &[value]))
}

fn number(state: &State, options: &Value) -> String {
    let first = state.settings.phone_number_ids.first();
    options["phone_number_id"].as_str().or(first.map(String::as_str)).unwrap_or_default().to_owned()
}

fn metadata(number: &str) -> Value {
    json!({"display_phone_number": "79991112233", "phone_number_id": number})
}

fn contact(wa_id: &str, name: &str) -> Value {
    json!({"profile": {"name": name}, "wa_id": wa_id, "user_id": user(wa_id)})
}

/// The id by which WhatsApp knows a person towards one business.
fn user(wa_id: &str) -> String {
    format!("RU.1349{wa_id}")
}

/// An entry for each value: readers have to look at all of them.
fn body(state: &State, field: &str, values: &[Value]) -> Value {
    let entries = values.iter().map(|value| {
        let changes = [json!({"value": value, "field": field})];
        json!({"id": state.settings.waba_id, "changes": changes})
    });
    json!({"object": "whatsapp_business_account", "entry": entries.collect::<Vec<_>>()})
}

fn signed(state: &State, body: &Value) -> Case {
    let mut escaped = String::new();
    for letter in body.to_string().chars() {
        match letter {
            '/' => escaped.push_str("\\/"),
            letter if letter.is_ascii() => escaped.push(letter),
            letter => {
                let mut units = [0; 2];
                letter.encode_utf16(&mut units).iter().for_each(|unit| escaped.push_str(&format!("\\u{unit:04x}")));
            }
        }
    }
    signed_bytes(state, escaped.into_bytes())
}

fn signed_bytes(state: &State, body: Vec<u8>) -> Case {
    let signature = hex::encode(hmac_sha256(state.settings.app_secret.as_bytes(), &body));
    Case {
        method: "POST".to_owned(),
        content_type: "application/json".to_owned(),
        headers: vec![
            ("User-Agent".to_owned(), "facebookexternalua".to_owned()),
            ("X-Hub-Signature-256".to_owned(), format!("sha256={signature}")),
        ],
        body,
        ..Case::default()
    }
}
