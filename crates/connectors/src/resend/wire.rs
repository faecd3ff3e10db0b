//! Resend's words: states of an e-mail, times, and what its refusals mean.

use serde::Deserialize;
use uzel_model::{CallError, Refusal, Reply, Timestamp, port::Delivery};

/// A refusal. Behind a failure of their front stands no JSON: then the status is all there is.
#[derive(Debug, Default, Deserialize)]
struct Refused {
    #[serde(default)]
    name: String,
    #[serde(default)]
    message: String,
}

/// What an answer that is no success means for the e-mail.
pub(super) fn refused(reply: &Reply, now: Timestamp) -> CallError {
    let Refused { name, message } = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = if name.is_empty() { format!("http {}", reply.status) } else { name.clone() };
    let reason = if message.is_empty() { format!("Resend answers {}", reply.status) } else { format!("{code}: {message}") };
    let refusal = match (reply.status, name.as_str()) {
        (_, "daily_quota_exceeded" | "monthly_quota_exceeded") => Refusal::Account,
        (429, _) => return CallError::Later { reason, at: reply.retry_at(now) },
        (_, "concurrent_idempotent_requests" | "resource_locked") => return CallError::Later { reason, at: None },
        // A wrong sender's address is the merchant's to mend, and no e-mail's fault.
        (401 | 403, _) | (_, "invalid_from_address") => Refusal::Account,
        (_, "invalid_idempotent_request") => Refusal::OtherWords,
        (_, "invalid_idempotency_key" | "not_found" | "method_not_allowed") => Refusal::Ours,
        (404 | 405 | 409, _) => Refusal::Ours,
        _ => Refusal::Command,
    };
    CallError::refused(refusal, code, reason)
}

/// What the last event of an e-mail, or the type of a webhook without `email.`, says of it. `None`: it says nothing of a state.
pub(super) fn state(event: &str) -> Option<Delivery> {
    Some(match event {
        "queued" | "scheduled" | "sent" | "delivery_delayed" => Delivery::OnTheWay,
        // Who complains has it.
        "delivered" | "complained" => Delivery::Delivered,
        "opened" | "clicked" => Delivery::Read,
        "bounced" | "failed" | "suppressed" | "canceled" => Delivery::Failed,
        _ => return None,
    })
}

/// A time in RFC 3339, or as `2023-04-03 22:13:42.674981+00`.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    text.parse().or_else(|_| format!("{}:00", text.replacen(' ', "T", 1)).parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_each_of_their_forms() {
        let wanted: Timestamp = "2023-04-03T22:13:42.674981Z".parse().unwrap();
        for text in ["2023-04-03T22:13:42.674981Z", "2023-04-03 22:13:42.674981+00", "2023-04-03T22:13:42.674981+00:00"] {
            assert_eq!(time(text), Some(wanted), "{text}");
        }
        assert_eq!(time("yesterday"), None);
    }
}
