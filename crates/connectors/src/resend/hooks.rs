//! Webhooks: what became of e-mails. They come late, twice and in any order.

use serde_json::Value;
use uzel_model::{
    Address, Malformed, Reading, Refusal,
    connector::{Choice, StatusNews},
    message::read_email,
};

use super::{messages::COMMAND_TAG, wire};
use crate::tree;

pub(super) fn read(body: &Value) -> Result<Reading, Malformed> {
    let kind = body["type"].as_str().ok_or_else(|| Malformed::new("`type` is missing, or no text"))?;
    let mut reading = Reading::default();
    let event = kind.strip_prefix("email.").unwrap_or_default();
    let Some(state) = wire::state(event) else {
        let start: String = kind.chars().take(60).collect();
        reading.skip(format!("«{start}» says nothing of an e-mail that was sent"));
        return Ok(reading);
    };
    let data = &body["data"];
    let id = tree::text(&data["email_id"]).filter(|id| id.len() <= 100);
    let id = id.ok_or_else(|| Malformed::new("`data.email_id` is missing"))?;
    let (code, refusal, is_final) = judged(event, data);
    let at = body["created_at"].as_str().and_then(wire::time);
    let key = data["tags"][COMMAND_TAG].as_str().map(str::to_owned);
    // Three of these within thirty days, and the hub gives the mailbox up.
    let bounced = event == "bounced" && data["bounce"]["type"] == "Transient";
    reading.statuses.push(StatusNews { at, refusal, bounced, key, ..StatusNews::new(id, state, &code) });
    if is_final {
        match mailbox(data) {
            // An automatic answer of the mailbox or of its owner: from now on nothing goes there.
            Some(email) => reading.choices.push(Choice {
                who: Address::Email(email),
                wants: false,
                how: format!("Resend says of an e-mail to this address: {code}"),
                at,
            }),
            None => reading.skip(format!("{code}: it has several receivers, or none: whose it is is not told")),
        }
    }
    Ok(reading)
}

/// The provider's own word, why it will not come, and whether anything further to this mailbox is in vain or unwanted.
fn judged(event: &str, data: &Value) -> (String, Option<Refusal>, bool) {
    let word = |value: &Value| tree::text(value).map(|text| text.chars().take(60).collect::<String>()).unwrap_or_default();
    match event {
        "bounced" => {
            let (kind, part) = (word(&data["bounce"]["type"]), word(&data["bounce"]["subType"]));
            let code = ["bounced", &kind, &part].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
            (code, Some(Refusal::NotHere), kind == "Permanent")
        }
        "suppressed" => {
            let why = word(&data["suppressed"]["reason"]);
            let code = if why.is_empty() { event.to_owned() } else { format!("{event}/{why}") };
            (code, Some(Refusal::NotHere), true)
        }
        "complained" => (event.to_owned(), None, true),
        "failed" => {
            let why = word(&data["failed"]["reason"]);
            let refusal = if why.contains("quota") { Refusal::Account } else { Refusal::Command };
            (if why.is_empty() { event.to_owned() } else { format!("{event}/{why}") }, Some(refusal), false)
        }
        "canceled" => (event.to_owned(), Some(Refusal::Command), false),
        _ => (event.to_owned(), None, false),
    }
}

/// The one mailbox that it went to, also out of `Name <mailbox>`.
fn mailbox(data: &Value) -> Option<String> {
    let to = match &data["to"] {
        Value::Array(to) if to.len() == 1 => to[0].as_str()?,
        Value::String(to) => to,
        _ => return None,
    };
    let bare = to.rsplit_once('<').map_or(to, |(_, rest)| rest.trim_end().trim_end_matches('>'));
    read_email(bare).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uzel_model::port::Delivery;

    use super::*;

    fn told(kind: &str, more: Value) -> Reading {
        let mut data = json!({ "email_id": "e1", "to": ["Иван <Ivan@Example.com>"], "tags": { "uzel_command": "cmd_1" } });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(&json!({ "type": kind, "created_at": "2026-11-22T09:15:05.000Z", "data": data })).unwrap()
    }

    #[test]
    fn every_event_is_read_by_what_it_means_for_the_mail_and_for_the_mailbox() {
        use Delivery::{Delivered, Failed, OnTheWay, Read};
        let none = || json!({});
        let bounce = |kind: &str| json!({ "bounce": { "type": kind, "subType": "General", "diagnosticCode": "550" } });
        for (kind, more, state, code, refusal, ends) in [
            ("email.sent", none(), OnTheWay, "sent", None, false),
            ("email.scheduled", none(), OnTheWay, "scheduled", None, false),
            ("email.delivery_delayed", none(), OnTheWay, "delivery_delayed", None, false),
            ("email.delivered", none(), Delivered, "delivered", None, false),
            ("email.opened", none(), Read, "opened", None, false),
            ("email.clicked", none(), Read, "clicked", None, false),
            ("email.bounced", bounce("Permanent"), Failed, "bounced/Permanent/General", Some(Refusal::NotHere), true),
            ("email.bounced", bounce("Transient"), Failed, "bounced/Transient/General", Some(Refusal::NotHere), false),
            ("email.bounced", json!({ "bounce": [] }), Failed, "bounced", Some(Refusal::NotHere), false),
            (
                "email.suppressed",
                json!({ "suppressed": { "reason": "previous_bounce" } }),
                Failed,
                "suppressed/previous_bounce",
                Some(Refusal::NotHere),
                true,
            ),
            ("email.complained", none(), Delivered, "complained", None, true),
            (
                "email.failed",
                json!({ "failed": { "reason": "reached_daily_quota" } }),
                Failed,
                "failed/reached_daily_quota",
                Some(Refusal::Account),
                false,
            ),
            ("email.failed", none(), Failed, "failed", Some(Refusal::Command), false),
        ] {
            let reading = told(kind, more);
            let news = &reading.statuses[0];
            assert_eq!((news.provider_id.as_str(), news.state, news.code.as_str(), news.refusal), ("e1", state, code, refusal));
            assert_eq!(news.key.as_deref(), Some("cmd_1"));
            let who: Vec<&Address> = reading.choices.iter().filter(|choice| !choice.wants).map(|choice| &choice.who).collect();
            let wanted = Address::Email("ivan@example.com".to_owned());
            assert_eq!(who, if ends { vec![&wanted] } else { vec![] }, "{kind}");
        }
    }

    #[test]
    fn what_tells_of_no_mail_of_ours_is_noted_and_what_cannot_be_read_is_a_dead_letter() {
        for kind in ["email.received", "contact.created", "domain.updated", "suppression.added", "something.new"] {
            let reading = read(&json!({ "type": kind, "data": { "email_id": "e1" } })).unwrap();
            assert_eq!((reading.statuses.len(), reading.choices.len(), reading.skipped.len()), (0, 0, 1), "{kind}");
        }
        for body in [json!({}), json!([]), json!({ "type": 7 }), json!({ "type": "email.delivered", "data": null })] {
            assert!(read(&body).is_err(), "{body}");
        }
        // Of several receivers nobody knows whose mailbox it was.
        let reading = told("email.complained", json!({ "to": ["a@example.com", "b@example.com"] }));
        assert_eq!((reading.choices.len(), reading.skipped.len(), reading.statuses.len()), (0, 1, 1));
    }
}
