//! Personal data is masked when it is shown: by shape, since bodies are a provider's own.

use serde_json::{Value, json};
use uzel_engine::review::CODE_CHARS;

/// Masks every text in a document, ids left alone.
pub(super) fn mask_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_text(text),
        Value::Array(items) => items.iter_mut().for_each(mask_value),
        Value::Object(members) => members
            .iter_mut()
            .filter(|(name, _)| !matches!(name.as_str(), "id" | "entry" | "trace" | "key" | "subject"))
            .for_each(|(name, member)| {
                if name == "name" && member.is_string() {
                    *member = json!("***");
                } else {
                    mask_value(member);
                }
            }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks what may be a phone, an e-mail address or the code of a short link in a text.
pub(super) fn mask_text(text: &str) -> String {
    mask_emails(&mask_phones(&mask_codes(text)))
}

/// Takes the codes out of short links: whoever has one may answer for the guest.
fn mask_codes(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = ["/r/", "/u/", "%2Fr%2F", "%2Fu%2F"].iter().filter_map(|way| Some(rest.find(way)? + way.len())).min() {
        let (before, after) = rest.split_at(at);
        masked.push_str(before);
        let code = after.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let is_code = code == CODE_CHARS;
        masked.push_str(if is_code { "***" } else { &after[..code] });
        rest = &after[code..];
    }
    masked + rest
}

/// Takes out of a command what nobody sees, whatever their role: whoever knows a device's address may write to it. Of files only
/// their length is told.
pub(super) fn shorten_job(job: &mut Value) {
    match job {
        Value::Array(items) => items.iter_mut().for_each(shorten_job),
        Value::Object(members) => {
            // Each of its messages shows what it says.
            let is_batch = members.get("job").is_some_and(|job| job == "batch");
            for (name, member) in members {
                match (name.as_str(), &*member) {
                    ("body", Value::String(body)) if is_batch => *member = json!(format!("({} bytes)", body.len())),
                    ("device", Value::String(_)) => *member = json!("device ***"),
                    ("attachments", Value::Array(_)) => {
                        for content in member.as_array_mut().into_iter().flatten().filter_map(|file| file.get_mut("content")) {
                            *content = json!(format!("({} bytes)", content.as_str().unwrap_or_default().len() / 4 * 3));
                        }
                    }
                    _ => shorten_job(member),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Masks what may be a phone in a text: eleven or twelve digits in a row, or any ten and more behind a plus. The digits of an
/// escape such as `%22` stand for a sign and are no part of a number.
fn mask_phones(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = Before::Nothing;
    while let Some(first) = rest.chars().next() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let taken = match escape(rest) {
            Some(sign) => {
                before = Before::of(sign);
                3
            }
            None if digits > 0 => {
                let long = (11..=12).contains(&digits) && !matches!(before, Before::Word);
                let behind_plus = (10..=15).contains(&digits) && matches!(before, Before::Plus);
                before = Before::Word;
                if long || behind_plus {
                    masked.push_str(&rest[..4]);
                    masked.push_str("***");
                    masked.push_str(&rest[digits - 4..digits]);
                    rest = &rest[digits..];
                    continue;
                }
                digits
            }
            None => {
                before = Before::of(first);
                first.len_utf8()
            }
        };
        masked.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    masked
}

/// Masks what may be an e-mail address in a text: of the name before the `@` (or `%40`) the first sign stays.
fn mask_emails(text: &str) -> String {
    let of_name = |sign: char| sign.is_alphanumeric() || "._%+-".contains(sign);
    let of_domain = |sign: char| sign.is_alphanumeric() || ".-".contains(sign);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((place, at)) = ["@", "%40"].iter().filter_map(|at| Some((rest.find(at)?, *at))).min() {
        let (before, after) = (&rest[..place], &rest[place + at.len()..]);
        let name = before.char_indices().rev().take_while(|(_, sign)| of_name(*sign)).last().map_or(place, |(start, _)| start);
        let domain = &after[..after.find(|sign| !of_domain(sign)).unwrap_or(after.len())];
        let is_email = name < place && domain.trim_matches('.').contains('.');
        masked.push_str(if is_email { &before[..name] } else { before });
        if is_email {
            masked.extend(before[name..].chars().next());
            masked.push_str("***");
        }
        masked.push_str(at);
        rest = after;
    }
    masked.push_str(rest);
    masked
}

/// What stands before digits.
enum Before {
    Nothing,
    Plus,
    /// A letter, `_` or `.`: the digits belong to an id or a fraction.
    Word,
}

impl Before {
    fn of(sign: char) -> Self {
        match sign {
            '+' => Self::Plus,
            '_' | '.' => Self::Word,
            _ if sign.is_ascii_alphabetic() => Self::Word,
            _ => Self::Nothing,
        }
    }
}

/// The sign that a text begins with, where it is escaped as in URLs.
fn escape(text: &str) -> Option<char> {
    let hex = text.strip_prefix('%')?.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(hex, 16).ok().map(char::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sees_a_device_or_the_whole_of_a_file() {
        let mut job = json!({
            "job": "send", "device": "token", "attachments": [{ "name": "a.png", "content": "AAAA" }], "otherwise": [{ "to": { "device": "{}" } }]
        });
        shorten_job(&mut job);
        assert_eq!(
            job,
            json!({
                "job": "send", "device": "device ***", "attachments": [{ "name": "a.png", "content": "(3 bytes)" }],
                "otherwise": [{ "to": { "device": "device ***" } }]
            })
        );
    }

    #[test]
    fn phones_in_a_text_are_masked_and_ids_are_not() {
        assert_eq!(mask_text(r#"{"phone":"+79991234567","id":1789380000}"#), r#"{"phone":"+7999***4567","id":1789380000}"#);
        assert_eq!(mask_text("to=79991234567&msg=x"), "to=7999***4567&msg=x");
        assert_eq!(mask_text("inb_79991234567 1.79991234567"), "inb_79991234567 1.79991234567");
    }

    #[test]
    fn mailboxes_in_a_text_are_masked() {
        for (text, masked) in [
            (r#"{"to":["maria.p@example.com"]}"#, r#"{"to":["m***@example.com"]}"#),
            ("Кафе <noreply@mail.example.com>, a@b.c", "Кафе <n***@mail.example.com>, a***@b.c"),
            ("to=ivan%40example.com&x=1", "to=i***%40example.com&x=1"),
            ("@kafe me@home 5 @ 7.50 @", "@kafe me@home 5 @ 7.50 @"),
            ("Иван@пример.рф", "И***@пример.рф"),
        ] {
            assert_eq!(mask_emails(text), masked);
        }
    }

    #[test]
    fn codes_of_short_links_are_masked_and_other_paths_are_not() {
        assert_eq!(mask_text("see https://hub.example/r/aB3dE6gH9k!"), "see https://hub.example/r/***!");
        assert_eq!(mask_text("to=https%3A%2F%2Fhub.example%2Fu%2FaB3dE6gH9k&x"), "to=https%3A%2F%2Fhub.example%2Fu%2F***&x");
        assert_eq!(mask_text("https://g.page/r/CabcEBM/review /r/"), "https://g.page/r/CabcEBM/review /r/");
    }

    #[test]
    fn a_phone_in_a_url_is_masked_behind_an_escape_too() {
        for (url, masked) in [
            ("GET /c?phone=%2B79991234567", "GET /c?phone=%2B7999***4567"),
            ("/c?q=%2279991234567%22", "/c?q=%227999***4567%22"),
            ("/c?q=to%3D79991234567", "/c?q=to%3D7999***4567"),
            ("/c?q=%2b1999123456", "/c?q=%2b1999***3456"),
            ("100%", "100%"),
            ("50%я 79991234567", "50%я 7999***4567"),
        ] {
            assert_eq!(mask_text(url), masked);
        }
    }
}
