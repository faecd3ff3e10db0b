//! An event as others get it: CloudEvents 1.0 in JSON, the whole of it described in `docs/nats.md`.
//!
//! The form is a promise to programs of other people: fields may be added, and none may change its meaning.

use serde::Serialize;
use serde_json::Value;

use crate::{
    Event, Id, Timestamp,
    phone::{Kind as PhoneKind, PhoneError},
};

/// The media type of one event in one body.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// An event with what it is called by others.
#[derive(Debug, Clone, Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: Id,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    merchant: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlet: Option<&'a str>,
    provider: &'a str,
    traceparent: String,
    weakkey: bool,
    history: bool,
    data: Data<'a>,
}

#[derive(Debug, Clone, Serialize)]
struct Data<'a> {
    key: &'a str,
    entry: Id,
    refs: &'a [String],
    person: Person<'a>,
    /// What the connector read; `null` where it was too large to be published.
    details: Option<&'a Value>,
    #[serde(skip_serializing_if = "is_false")]
    cut: bool,
}

#[derive(Debug, Clone, Serialize)]
struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_kind: Option<&'a PhoneKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_error: Option<PhoneError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl<'a> CloudEvent<'a> {
    /// `merchant` and `outlet`: their slugs, which people know them by.
    pub fn of(event: &'a Event, merchant: &'a str, outlet: Option<&'a str>) -> Self {
        let phone = event.phone.as_ref();
        Self {
            specversion: "1.0",
            id: event.id,
            source: format!("/merchants/{}/connections/{}", event.merchant, event.connection),
            kind: &event.kind,
            subject: &event.subject,
            time: event.at,
            datacontenttype: "application/json",
            merchant,
            outlet,
            provider: &event.provider,
            traceparent: traceparent(event),
            weakkey: event.weak_key,
            history: event.history,
            data: Data {
                key: &event.key,
                entry: event.entry,
                refs: &event.refs,
                person: Person {
                    name: event.name.as_deref(),
                    phone: phone.map(|phone| phone.e164.as_str()),
                    phone_kind: phone.map(|phone| &phone.kind),
                    phone_error: event.phone_error,
                    email: event.email.as_deref(),
                },
                details: Some(&event.data),
                cut: false,
            },
        }
    }

    /// The event without the connector's data: what is left where the whole is larger than a message may be.
    pub fn cut(mut self) -> Self {
        self.data.details = None;
        self.data.cut = true;
        self
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, flags and a value that came as JSON are JSON")
    }
}

/// The event's place in its trace (W3C Trace Context): its span is the random half of its id.
pub fn traceparent(event: &Event) -> String {
    format!("00-{}-{}-01", event.trace, hex::encode(&event.id.as_bytes()[8..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::Kind;

    fn event() -> Event {
        let id = |kind, number: u8| Id::from_bytes(kind, [number; 16]);
        Event {
            id: id(Kind::Event, 1),
            merchant: id(Kind::Merchant, 2),
            connection: id(Kind::Connection, 3),
            provider: "rkeeper".to_owned(),
            outlet: Some(id(Kind::Outlet, 4)),
            kind: "order.completed".to_owned(),
            subject: "order/5001".to_owned(),
            key: "order/5001/completed".to_owned(),
            weak_key: false,
            at: "2026-11-24T10:00:00Z".parse().unwrap(),
            name: Some("Иван".to_owned()),
            phone: crate::phone::read_text("+79991234567", "RU").ok(),
            phone_error: None,
            email: Some("ivan@example.com".to_owned()),
            refs: vec!["5001".to_owned()],
            data: json!({ "sum": "1500.00" }),
            history: false,
            entry: id(Kind::Entry, 5),
            trace: "0af7651916cd43dd8448eb211c80319c".to_owned(),
        }
    }

    /// Names as the specification wants them, and the whole in the form that is promised.
    #[test]
    fn an_event_is_told_in_the_form_that_the_documents_promise() {
        let event = event();
        let whole: Value = serde_json::from_slice(&CloudEvent::of(&event, "m", Some("o")).to_json()).unwrap();
        let wanted = json!({
            "specversion": "1.0",
            "id": "evt_01040g2081040g2081040g2081",
            "source": "/merchants/mer_02081040g2081040g2081040g2/connections/con_030c1g60r30c1g60r30c1g60r3",
            "type": "order.completed",
            "subject": "order/5001",
            "time": "2026-11-24T10:00:00Z",
            "datacontenttype": "application/json",
            "merchant": "m",
            "outlet": "o",
            "provider": "rkeeper",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-0101010101010101-01",
            "weakkey": false,
            "history": false,
            "data": {
                "key": "order/5001/completed",
                "entry": "inb_050m2ga1850m2ga1850m2ga185",
                "refs": ["5001"],
                "person": { "name": "Иван", "phone": "+79991234567", "phone_kind": "mobile", "email": "ivan@example.com" },
                "details": { "sum": "1500.00" }
            }
        });
        assert_eq!(whole, wanted, "{whole:#}");
        let lawful =
            |name: &String| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) && name.len() <= 20;
        assert!(whole.as_object().unwrap().keys().all(lawful), "names of attributes are a-z and 0-9, twenty at the most");
    }

    #[test]
    fn what_is_cut_says_so_and_keeps_all_but_the_connectors_data() {
        let mut event = event();
        event.phone = None;
        event.phone_error = crate::phone::read_text("12", "RU").err();
        let cut: Value = serde_json::from_slice(&CloudEvent::of(&event, "m", None).cut().to_json()).unwrap();
        assert_eq!((&cut["data"]["details"], &cut["data"]["cut"]), (&Value::Null, &json!(true)));
        assert_eq!((cut.get("outlet"), &cut["data"]["key"]), (None, &json!("order/5001/completed")));
        assert!(cut["data"]["person"]["phone_error"].is_string(), "{cut}");
    }
}
