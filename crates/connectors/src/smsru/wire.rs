//! Calls of SMS.ru, and what its codes mean.

use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;
use uzel_model::{CallError, Client, Outgoing, Refusal, port::Delivery};

use super::SmsRu;
use crate::tree;

impl SmsRu {
    /// Makes a call; an answer that refuses as a whole is an error.
    pub(super) async fn call(
        &self,
        client: &Client<'_>,
        path: &str,
        fields: &[(&str, &str)],
        reads: bool,
    ) -> Result<Value, CallError> {
        // In the body, never in the URL: URLs end up in logs.
        let mut form = vec![("api_id", self.api_id.expose()), ("json", "1")];
        form.extend_from_slice(fields);
        let outgoing = Outgoing::new("POST", format!("{}{path}", self.base_url.trim_end_matches('/'))).form(&form);
        let reply = client.send(if reads { outgoing.reads() } else { outgoing }).await?;
        if reply.status >= 400 {
            let reason = "SMS.ru does not take the request";
            return Err(CallError::refused(Refusal::Ours, format!("http {}", reply.status), reason));
        }
        let answer: Value = reply.json()?;
        match code(&answer)? {
            // All below 200 is on its way; the entries say more.
            100..=199 => Ok(answer),
            code => Err(refused(code, &answer, client.now())),
        }
    }
}

pub(super) fn code(entry: &Value) -> Result<i64, CallError> {
    tree::integer(&entry["status_code"]).ok_or_else(|| CallError::Unreadable("status_code is missing in the answer".to_owned()))
}

/// What a code that is no success means for the message.
pub(super) fn refused(code: i64, entry: &Value, now: Timestamp) -> CallError {
    let reason = match tree::text(&entry["status_text"]) {
        Some(text) => format!("{code}: {text}"),
        None => format!("SMS.ru answered with code {code}"),
    };
    let refusal = match code {
        200 | 201 | 300..=305 => Refusal::Account,
        209 | 215 => Refusal::OptOut,
        231 | 232 => Refusal::Already,
        216 => Refusal::Content,
        203 | 205 | 208 | 210..=213 | 507 | 901 | 902 => Refusal::Ours,
        206 | 230 => return CallError::Later { reason, at: next_day(now) },
        233 | 508 => return CallError::Later { reason, at: now.checked_add(SignedDuration::from_mins(10)).ok() },
        220 | 500..=599 => return CallError::Later { reason, at: None },
        201..=399 => Refusal::Command,
        _ => return CallError::Unreadable(reason),
    };
    CallError::refused(refusal, code, reason)
}

/// Daily limits begin anew at midnight in Moscow.
fn next_day(now: Timestamp) -> Option<Timestamp> {
    let moscow = TimeZone::get("Europe/Moscow").ok()?;
    let tomorrow = now.to_zoned(moscow).date().checked_add(1.day()).ok()?;
    let midnight = tomorrow.to_zoned(TimeZone::get("Europe/Moscow").ok()?).ok()?;
    Some(midnight.timestamp())
}

/// What a delivery state means. "Not found" (-1) stays open: a message may be asked for before it is listed.
pub(super) fn state(code: i64) -> Delivery {
    match code {
        103 | 110 => Delivery::Delivered,
        104..=108 | 150 | 200..=399 => Delivery::Failed,
        _ => Delivery::OnTheWay,
    }
}

pub(super) fn digits(phone: &str) -> String {
    phone.chars().filter(char::is_ascii_digit).collect()
}

/// The digits of a number as SMS.ru prints it: mostly `7…`, but `8…` and ten digits have been seen.
pub(super) fn digits_at_home(number: &str) -> String {
    let digits = digits(number);
    match (digits.len(), digits.strip_prefix('8')) {
        (11, Some(national)) => format!("7{national}"),
        (10, _) => format!("7{digits}"),
        _ => digits,
    }
}
