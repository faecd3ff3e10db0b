//! `GetList`: what came in and was not told, what became of messages, and those whose answer was lost.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Outbound,
    connector::StatusNews,
    port::{Page, Polls},
};

use super::{events, sms::ExolveSms, wire};
use crate::cursor::Cursor;

/// Rows of one page: below the 2,000 that Exolve gives, so that an answer stays within a megabyte.
const PAGE: usize = 500;
/// Pages of one look at what became of messages.
const PAGES_MAX: usize = 20;
const INCOMING: u8 = 1;
const OUTGOING: u8 = 2;
/// How long Exolve may take to list what it took, and by how much its clock may be behind.
const AROUND: SignedDuration = SignedDuration::from_mins(2);
const LISTED_WITHIN: SignedDuration = SignedDuration::from_mins(15);

impl ExolveSms {
    async fn list(&self, client: &Client<'_>, mut filter: Value, page: usize) -> Result<Vec<Value>, CallError> {
        filter["limit"] = json!(PAGE);
        filter["offset"] = json!(page * PAGE);
        let answer = self.call(client, "GetList", &filter, true).await?;
        match &answer["messages"] {
            Value::Array(rows) => Ok(rows.clone()),
            // An empty list is left out by such services.
            Value::Null if answer.is_object() => Ok(Vec::new()),
            _ => Err(CallError::Unreadable("messages is no list".to_owned())),
        }
    }

    /// What became of these messages. Exolve takes one id a question: a few are asked for one by one, many are looked for in the list
    /// of what was sent in the last two days.
    pub(super) async fn statuses_of(&self, client: &Client<'_>, ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        let mut found = Vec::new();
        let mut take = |rows: &[Value]| {
            let news =
                rows.iter().filter_map(|row| events::news(&wire::id(row)?, row)).filter(|news| ids.contains(&news.provider_id));
            found.extend(news);
        };
        if ids.len() <= 5 {
            for id in ids {
                take(&self.list(client, json!({ "message_id": id }), 0).await?);
            }
            return Ok(found);
        }
        let since = client.now().saturating_sub(SignedDuration::from_hours(48)).unwrap_or(Timestamp::MIN);
        let filter = json!({ "direction": [OUTGOING], "date_gte": since.to_string() });
        for page in 0..PAGES_MAX {
            let rows = self.list(client, filter.clone(), page).await?;
            take(&rows);
            if rows.len() < PAGE {
                break;
            }
        }
        Ok(found)
    }

    /// The message with these words to this phone that was taken at about that time.
    pub(super) async fn find_sent(
        &self,
        client: &Client<'_>,
        message: Outbound<'_>,
        sent_at: Timestamp,
    ) -> Result<Option<StatusNews>, CallError> {
        let phone = message.phone()?;
        let from = sent_at.saturating_sub(AROUND).unwrap_or(Timestamp::MIN);
        let to = sent_at.saturating_add(LISTED_WITHIN).unwrap_or(Timestamp::MAX);
        let filter = json!({
            "direction": [OUTGOING], "receiver": wire::digits(phone), "date_gte": from.to_string(), "date_lte": to.to_string(),
        });
        let rows = self.list(client, filter, 0).await?;
        let fits = |row: &&Value| {
            let receiver = row["receiver"].as_str().and_then(events::to_phone);
            receiver.as_deref() == Some(phone)
                && !wire::is_incoming(row)
                && row["text"].as_str().is_none_or(|text| text.trim() == message.content.text.trim())
        };
        let mut fitting = rows.iter().filter(fits);
        let (Some(row), None) = (fitting.next(), fitting.next()) else { return Ok(None) };
        Ok(wire::id(row).and_then(|id| events::news(&id, row)))
    }
}

#[async_trait]
impl Polls for ExolveSms {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    /// What people wrote; what became of our messages is asked for elsewhere.
    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else {
            return Ok(Page { next: since.to_string(), ..Page::default() });
        };
        let (cursor, now) = (Cursor::read(cursor, since), client.now());
        let filter = json!({ "direction": [INCOMING], "date_gte": cursor.from().to_string() });
        let page = usize::try_from(cursor.page()).unwrap_or(usize::MAX / PAGE).saturating_sub(1);
        let rows = self.list(client, filter, page).await?;
        let more = rows.len() >= PAGE;
        let bodies = if rows.is_empty() { Vec::new() } else { vec![json!({ "messages": rows }).to_string().into()] };
        Ok(Page { bodies, next: cursor.next(more, now).to_string(), more })
    }
}
