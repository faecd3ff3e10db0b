//! What Resend takes: an e-mail's fields, and its words for a refusal.

use serde_json::{Value, json};

use crate::wire::Answer;

/// Status, name and message of a refusal.
pub(super) type Refusal = (u16, &'static str, String);

pub(super) fn refused((status, name, message): &Refusal) -> Answer {
    Answer::json(*status, &json!({"statusCode": status, "name": name, "message": message}))
}

/// A text, or texts, in an array of at most fifty.
fn addresses(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(one) => Some(vec![one]),
        Value::Array(many) if (1..=50).contains(&many.len()) => many.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// The address in `Name <address>`, or the text itself.
pub(super) fn bare(address: &str) -> &str {
    match address.rsplit_once('<') {
        Some((_, rest)) => rest.trim_end_matches('>').trim(),
        None => address.trim(),
    }
}

fn is_address(text: &str) -> bool {
    bare(text).split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty() && domain.contains('.') && !domain.contains(['@', ' ']) && !name.contains(' ')
    })
}

/// What is wrong with an e-mail, and else its receivers. `batch`: without attachments and times.
pub(super) fn judge<'a>(email: &'a Value, domains: Option<&[String]>, batch: bool) -> Result<Vec<&'a str>, Refusal> {
    let missing = |field: &str| (422, "missing_required_field", format!("Missing `{field}` field."));
    let invalid = |what: String| (422, "validation_error", what);
    let form = "The email address needs to follow the `email@example.com` or `Name <email@example.com>` format.";
    let from = email["from"].as_str().ok_or_else(|| missing("from"))?;
    if !is_address(from) {
        return Err((422, "invalid_from_address", format!("Invalid `from` field. {form}")));
    }
    let to = addresses(&email["to"]).ok_or_else(|| missing("to"))?;
    if !to.iter().all(|to| is_address(to)) {
        return Err(invalid(format!("Invalid `to` field. {form}")));
    }
    if email["subject"].as_str().is_none_or(str::is_empty) {
        return Err(missing("subject"));
    }
    if !["html", "text"].iter().any(|body| email[*body].as_str().is_some_and(|text| !text.is_empty())) {
        return Err(missing("html"));
    }
    for header in email["headers"].as_object().into_iter().flatten() {
        if !header.1.is_string() {
            return Err((422, "invalid_parameter", format!("Invalid header `{}`.", header.0)));
        }
    }
    let plain = |text: &str| {
        !text.is_empty() && text.len() <= 256 && text.bytes().all(|sign| sign.is_ascii_alphanumeric() || b"_-".contains(&sign))
    };
    for tag in email["tags"].as_array().into_iter().flatten() {
        if !["name", "value"].iter().all(|part| tag[*part].as_str().is_some_and(plain)) {
            return Err(invalid("Tags should only contain ASCII letters, numbers, underscores, or dashes.".to_owned()));
        }
    }
    let files = email["attachments"].as_array().map_or(&[] as &[Value], Vec::as_slice);
    if batch && (!files.is_empty() || !email["scheduled_at"].is_null()) {
        return Err(invalid("Attachments and scheduled_at are not supported in batch emails.".to_owned()));
    }
    for file in files {
        let content = file["content"]
            .as_str()
            .map(|content| base64::Engine::decode(&base64::engine::general_purpose::STANDARD, content).is_ok());
        if file["filename"].as_str().is_none() || content.unwrap_or_else(|| file["path"].is_string()) == false {
            return Err((422, "invalid_attachment", "Attachment must have either a `content` or `path`.".to_owned()));
        }
    }
    let domain = bare(from).rsplit_once('@').map_or("", |(_, domain)| domain);
    if domains.is_some_and(|known| !known.iter().any(|known| known == domain)) {
        let what =
            format!("The {domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains");
        return Err((403, "validation_error", what));
    }
    Ok(to)
}
