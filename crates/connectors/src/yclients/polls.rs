//! Records that no webhook told of.

use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Client,
    port::{Page, Polls},
};

use super::{Yclients, wire::data};
use crate::{cursor::Cursor, tree};

#[async_trait]
impl Polls for Yclients {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else {
            return Ok(Page { next: since.to_string(), ..Page::default() });
        };
        let cursor = Cursor::read(cursor, since);
        let page = cursor.page();
        let company = self.company()?;
        // Without a zone the hour of UTC is asked for: every branch's clock from Kaliningrad on is ahead of it.
        let zone = self.zone().unwrap_or(TimeZone::UTC);
        let after = cursor.from().to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let count = self.records_per_page;
        let path = format!("/records/{company}?changed_after={after}&with_deleted=1&page={page}&count={count}");
        let reply = client.send(self.call("GET", path)).await?;
        let records = match reply.status {
            404 => Value::Null,
            _ => data(&reply)?,
        };
        let records = match records {
            Value::Array(records) => records,
            Value::Null => Vec::new(),
            _ => return Err(CallError::Unreadable("data is no list of records".to_owned())),
        };
        let more = records.len() >= count as usize;
        let next = cursor.next(more, client.now()).to_string();
        let bodies = records
            .into_iter()
            .map(|record| {
                let status = match tree::flag(&record["deleted"]) {
                    true => "delete",
                    false => "update",
                };
                let event = json!({
                    "company_id": company, "resource": "record", "resource_id": record["id"],
                    "status": status, "data": record,
                });
                Bytes::from(event.to_string())
            })
            .collect();
        Ok(Page { bodies, next, more })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    #[tokio::test]
    async fn changed_records_are_read_page_by_page() {
        let ours = PROVIDER
            .open(json!({ "partner_token": "p", "user_token": "u", "company_id": 4564,
            "time_zone": "Europe/Moscow", "records_per_page": 1 }))
            .unwrap();
        let script = Script::new(&[
            (200, r#"{"success":true,"data":[{"id":1,"visit_id":2,"attendance":1,"deleted":false}],"meta":{"total_count":1}}"#),
            (404, r#"{"success":false,"data":null,"meta":{"message":"Не найдено"}}"#),
        ]);
        let client = Client::new(&script);
        let polls = ours.polls().unwrap();
        let since: Timestamp = "2026-09-14T09:00:00Z".parse().unwrap();
        let first = polls.poll(&client, None, since).await.unwrap();
        let second = polls.poll(&client, Some(&first.next), since).await.unwrap();
        assert!(second.more && second.bodies.len() == 1);
        let third = polls.poll(&client, Some(&second.next), since).await.unwrap();
        assert_eq!((third.more, third.next.as_str()), (false, "1970-01-01T00:00:00Z"));
        assert!(
            script.sent()[1]
                .url
                .ends_with("/api/v1/records/4564?changed_after=2026-09-14T11:50:00&with_deleted=1&page=2&count=1")
        );
    }
}
