//! Notifications of JOWi Club. That they exist is assumed. Their signature does not cover the body, so a body is a hint only: it
//! says that an account should be asked for again, and nothing of value follows from it.

use serde_json::{Value, json};
use uzel_model::{Bytes, Happening, Malformed, Person, Reading, Request, Timestamp, event::kind};

use crate::tree;

const EVENTS: [&str; 4] = ["loyalty.accrued", "loyalty.redeemed", "loyalty.reversed", "loyalty.level_changed"];

/// The body without what proves it.
pub(super) fn without_proof(request: &Request) -> Option<Bytes> {
    let mut body = request.json().ok()?;
    let members = body.as_object_mut()?;
    let proof = ["api_key", "sig"].map(|name| members.remove(name));
    proof.iter().any(Option::is_some).then(|| body.to_string().into())
}

pub(super) fn read(body: &Value) -> Result<Reading, Malformed> {
    if !body.is_object() {
        return Err(Malformed::new("an object was expected"));
    }
    let text = |name: &str| tree::text(&body[name]);
    let event = text("event").ok_or_else(|| Malformed::new("event is missing"))?;
    let id = text("event_id").ok_or_else(|| Malformed::new("event_id is missing: a repeat could not be told"))?;
    let mut reading = Reading::default();
    if !EVENTS.contains(&event.as_str()) {
        reading.skip(format!("«{event}» is no news of an account: nothing follows"));
        return Ok(reading);
    }
    let Some(account) = text("account_id") else {
        return Err(Malformed::new("account_id is missing"));
    };
    let operation = text("operation_id");
    reading.happenings.push(Happening {
        key: Some(format!("event/{id}")),
        kind: kind::LOYALTY_ACCOUNT_CHANGED,
        subject: format!("account/{account}"),
        at: text("occurred_at").and_then(|at| at.parse::<Timestamp>().ok()),
        person: Person::default(),
        refs: [Some(account.clone()), operation.clone()].into_iter().flatten().collect(),
        // Points and balance of the body are left out: whoever wants to know them asks.
        data: json!({ "what": event, "account": account, "operation": operation }),
        look_up: None,
    });
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn nothing_of_value_is_read_of_a_body() {
        let body = json!({ "event_id": 17, "event": "loyalty.accrued", "occurred_at": "2026-01-05T14:35:01+05:00",
            "account_id": "acc-1", "operation_id": null, "points": 1e9, "balance_after": "999999.0" });
        let happening = &read(&body).unwrap().happenings[0];
        assert_eq!(happening.key.as_deref(), Some("event/17"));
        assert_eq!(happening.data, json!({ "what": "loyalty.accrued", "account": "acc-1", "operation": null }));
        assert_eq!(happening.at, Some("2026-01-05T09:35:01Z".parse().unwrap()));
    }

    #[test]
    fn what_cannot_be_told_apart_or_asked_for_is_a_dead_letter() {
        for body in [
            json!([]),
            json!("loyalty.accrued"),
            json!({ "event": "loyalty.accrued", "account_id": "a" }),
            json!({ "event": "loyalty.accrued", "event_id": "", "account_id": "a" }),
            json!({ "event": "loyalty.accrued", "event_id": "e", "account_id": {} }),
            json!({ "event_id": "e" }),
        ] {
            assert!(read(&body).is_err(), "{body}");
        }
        let other = read(&json!({ "event": "loyalty.birthday", "event_id": "e" })).unwrap();
        assert_eq!((other.happenings.len(), other.skipped.len()), (0, 1));
    }

    #[test]
    fn the_proof_is_not_kept() {
        let kept = without_proof(&testing::post("application/json", r#"{"api_key":"k","sig":"s","event":"e"}"#)).unwrap();
        assert_eq!(&kept[..], br#"{"event":"e"}"#);
        assert_eq!(without_proof(&testing::post("application/json", r#"{"event":"e"}"#)), None);
    }
}
