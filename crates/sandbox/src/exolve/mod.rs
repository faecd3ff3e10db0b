//! MTS Exolve: SMS as its documents and live clients show it, and WhatsApp as it is assumed until somebody has the contract.
//!
//! The key `wrong` is answered 401, `forbidden` 403; any other is taken.

mod sms;
mod whatsapp;

use serde_json::{Value, json};

pub(crate) use self::sms::ExolveSms;
pub(crate) use self::whatsapp::ExolveWhatsapp;
use crate::wire::{Answer, Call};

/// How errors are written: all four have been seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shape {
    #[default]
    Nested,
    Flat,
    Message,
    Plain,
}

fn error(status: u16, shape: Shape, text: &str) -> Answer {
    match shape {
        Shape::Nested => Answer::json(status, &json!({"error": {"message": text}})),
        Shape::Flat => Answer::json(status, &json!({"error": text})),
        Shape::Message => Answer::json(status, &json!({"message": text, "code": 3})),
        Shape::Plain => Answer::new(status, "text/plain; charset=utf-8", text),
    }
}

/// Why the caller is not let in.
fn stranger(call: &Call, shape: Shape) -> Option<Answer> {
    match call.bearer().unwrap_or_default() {
        "" => Some(error(401, shape, "malformed token")),
        "wrong" => Some(error(401, shape, "incorrect authorization token")),
        "forbidden" => Some(error(403, shape, "access denied")),
        _ => None,
    }
}

/// Eleven digits that begin with 7, and no plus.
fn is_phone(text: &str) -> bool {
    text.len() == 11 && text.starts_with('7') && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A text field; one that is absent, empty or of another kind is what their check of lengths refuses.
fn field<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}

fn too_short(message: &str, field: &str) -> String {
    format!("invalid {message}.{field}: value length must be at least 1 bytes")
}
