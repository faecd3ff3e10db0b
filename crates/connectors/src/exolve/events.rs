//! Events, and rows of lists, which look alike: what became of messages, and what people wrote.

use jiff::Timestamp;
use serde_json::{Value, json};
use uzel_model::{Address, Happening, Malformed, Person, Reading, connector::StatusNews, event::kind, phone};

use super::wire;
use crate::tree;

/// Rows of one body.
const ROWS_MAX: usize = 10_000;

/// Reads an event, a list of them, or a page of messages.
pub(super) fn read(body: &Value) -> Result<Reading, Malformed> {
    let mut reading = Reading::default();
    let rows = match body {
        Value::Array(rows) => rows.as_slice(),
        Value::Object(page) if page.get("messages").is_some_and(Value::is_array) => {
            page["messages"].as_array().map_or(&[][..], Vec::as_slice)
        }
        Value::Object(_) => std::slice::from_ref(body),
        _ => return Err(Malformed::new("the body is no event: an object was expected")),
    };
    for row in rows.iter().take(ROWS_MAX) {
        let Some(id) = wire::id(row) else {
            reading.skip("an event without message_id");
            continue;
        };
        if wire::is_incoming(row) {
            match received(&id, row) {
                Some(happening) => reading.happenings.push(happening),
                None => reading.skip(format!("message {id} came in without a text")),
            }
            continue;
        }
        match news(&id, row) {
            Some(news) => reading.statuses.push(news),
            None => reading.skip(format!("message {id}: neither delivery_status nor status is told")),
        }
    }
    if rows.len() > ROWS_MAX {
        reading.skip(format!("more than {ROWS_MAX} events in one body"));
    }
    Ok(reading)
}

/// What became of a message. Its date is when it was sent: whose answer was lost is told by it and by whom it went to.
pub(super) fn news(id: &str, row: &Value) -> Option<StatusNews> {
    let (state, code, refusal) = wire::state(row)?;
    let to = tree::text(&row["receiver"]).and_then(|receiver| to_phone(&receiver)).map(Address::Phone);
    Some(StatusNews { refusal, to, sent_at: date(row), ..StatusNews::new(id, state, code) })
}

pub(super) fn date(row: &Value) -> Option<Timestamp> {
    row["date"].as_str()?.parse().ok()
}

/// Exolve prints numbers as eleven digits without a plus.
pub(super) fn to_phone(receiver: &str) -> Option<String> {
    phone::read_text(&format!("+{}", wire::digits(receiver)), "RU").ok().map(|phone| phone.e164)
}

fn received(id: &str, row: &Value) -> Option<Happening> {
    let text = row["text"].as_str().filter(|text| !text.trim().is_empty())?;
    let sender = tree::text(&row["sender"])?;
    Some(Happening {
        key: Some(format!("received/{id}")),
        kind: kind::MESSAGE_RECEIVED,
        subject: format!("message/{id}"),
        at: date(row),
        person: Person { name: None, phones: vec![json!(to_phone(&sender).unwrap_or(sender))], ..Person::default() },
        refs: vec![id.to_owned()],
        data: json!({ "text": text }),
        look_up: None,
    })
}
