//! What both ways of sending have in common: the call, four shapes of errors, ids, enums as names or numbers.

use serde_json::Value;
use uzel_model::{CallError, Client, Outgoing, Refusal, Reply, Secret, port::Delivery};

use crate::tree;

/// What is shown of an error that is no JSON.
const ERROR_CHARS_MAX: usize = 200;

/// Makes a call; an answer that refuses is an error.
pub(super) async fn call(client: &Client<'_>, key: &Secret, url: String, body: &Value, reads: bool) -> Result<Value, CallError> {
    let outgoing = Outgoing::new("POST", url).header("authorization", format!("Bearer {}", key.expose())).json(body);
    let reply = client.send(if reads { outgoing.reads() } else { outgoing }).await?;
    if reply.status >= 400 {
        return Err(refused(&reply));
    }
    reply.json()
}

/// What an answer of 4xx means. What the login is not good for has become an error before.
fn refused(reply: &Reply) -> CallError {
    let said = message(&reply.body);
    let words = said.to_lowercase();
    let has = |part: &str| words.contains(part);
    let refusal = match reply.status {
        404 => Refusal::Ours,
        402 | 403 => Refusal::Account,
        // A trial account reaches the owner's own phone only.
        _ if has("customer has not signed") => Refusal::Account,
        _ if has("destination is not permitted") => Refusal::NotHere,
        // The service's own check of the fields: we built a wrong request.
        _ if has("value length") || has("value must") => Refusal::Ours,
        _ => Refusal::Command,
    };
    let reason = match said.is_empty() {
        true => format!("Exolve answers {}", reply.status),
        false => format!("Exolve answers {}: {said}", reply.status),
    };
    CallError::refused(refusal, format!("http {}", reply.status), reason)
}

/// `{"error":{"message":…}}`, `{"error":…}`, `{"message":…}`, or plain text.
fn message(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let json: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let told = [&json["error"]["message"], &json["error"], &json["message"]].into_iter().find_map(Value::as_str);
    told.unwrap_or(&text).trim().chars().take(ERROR_CHARS_MAX).collect()
}

/// A message's id: 64 bits, printed as text or as a number, kept as text. `{"success":true,"messageId":…}` has been told of.
pub(super) fn id(answer: &Value) -> Option<String> {
    let id = |value: &Value| tree::text(value).filter(|id| id.len() <= 100 && id.bytes().any(|byte| byte != b'0'));
    id(&answer["message_id"]).or_else(|| id(&answer["messageId"]))
}

/// Eleven digits without a plus: with one the number is refused, and billed all the same in some services.
pub(super) fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

pub(super) fn is_incoming(message: &Value) -> bool {
    named(&message["direction"], "DIRECTION_", &["INCOMING", "OUTGOING"]).as_deref() == Some("INCOMING")
}

/// An enum's word without what all of its words begin with; numbers count from one.
fn named(value: &Value, prefix: &str, words: &[&str]) -> Option<String> {
    if let Some(number) = tree::integer(value) {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        return words.get(place).map(|word| (*word).to_owned());
    }
    let word = value.as_str()?.trim();
    (!word.is_empty()).then(|| word.strip_prefix(prefix).unwrap_or(word).to_owned())
}

/// What became of a message, and Exolve's word for it. Of the two states that are told the one that says the end counts.
pub(super) fn state(message: &Value) -> Option<(Delivery, String, Option<Refusal>)> {
    let delivery = named(
        &message["delivery_status"],
        "DELIVERY_STATUS_",
        &["QUEUED", "TRANSMITTED", "DELIVERED", "FAILED", "RETRIES_EXCEEDED", "PROHIBITED"],
    );
    let whole =
        named(&message["status"], "STATUS_", &["QUEUED", "TRANSMITTED", "DELIVERED", "FAILED", "UNDERFUNDED", "PROHIBITED"]);
    let read = |word: String| {
        let (state, refusal) = match word.as_str() {
            "DELIVERED" => (Delivery::Delivered, None),
            "READ" => (Delivery::Read, None),
            "FAILED" | "RETRIES_EXCEEDED" => (Delivery::Failed, Some(Refusal::NotHere)),
            // The operators want a text, or its sender, agreed on beforehand.
            "PROHIBITED" => (Delivery::Failed, Some(Refusal::Content)),
            // Our account has no money; nobody blames the person.
            "UNDERFUNDED" => (Delivery::Failed, Some(Refusal::Account)),
            _ => (Delivery::OnTheWay, None),
        };
        (state, word, refusal)
    };
    let told: Vec<_> = [delivery, whole].into_iter().flatten().map(read).collect();
    let end = told.iter().find(|(state, ..)| *state != Delivery::OnTheWay);
    // "No money" says more than the bare "failed" beside it.
    let why = told.iter().find(|(_, _, refusal)| matches!(refusal, Some(Refusal::Account)));
    why.or(end).or(told.first()).cloned()
}
