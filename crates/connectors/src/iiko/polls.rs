//! Orders that no webhook told of.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::{
    Bytes, CallError, Client,
    port::{Page, Polls},
};

use super::{
    FINAL, Iiko,
    reading::uuid,
    wire::{answer, print},
};
use crate::tree;

/// As far back as `by_revision` reaches (three hours), with room for clocks that differ.
const REVISIONS: SignedDuration = SignedDuration::from_mins(175);
/// A start that lies further back is not "now" with a clock that differs.
const EARLIER: SignedDuration = SignedDuration::from_mins(5);

#[async_trait]
impl Polls for Iiko {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let organization = self.organization()?;
        if cursor.is_none() && since < client.now().checked_sub(EARLIER).unwrap_or(since) {
            // An earlier start was asked for: its time is a revision, too.
            return Ok(Page { next: since.as_millisecond().to_string(), more: true, ..Page::default() });
        }
        let oldest = client.now().checked_sub(REVISIONS).unwrap_or(since).as_millisecond();
        let start = cursor.and_then(|cursor| cursor.parse::<i64>().ok());
        let body = json!({ "startRevision": start.unwrap_or(oldest), "organizationIds": [organization] });
        let mut reply = self.ask(client, "/api/1/deliveries/by_revision", &body).await?;
        if let (400, Some(start)) = (reply.status, start) {
            // Revisions are kept for three hours; after a longer silence orders are asked for by their date. Dates are
            // local to the terminal: a day's room covers every zone.
            let last = Timestamp::from_millisecond(start).ok().filter(|last| *last < client.now());
            let from = last.unwrap_or(since).max(client.now().checked_sub(SignedDuration::from_hours(6 * 24)).unwrap_or(since));
            let from = from.checked_sub(SignedDuration::from_hours(24)).unwrap_or(from);
            let body = json!({ "organizationIds": [organization], "deliveryDateFrom": print(from), "statuses": FINAL });
            reply = self.ask(client, "/api/1/deliveries/by_delivery_date_and_status", &body).await?;
        }
        let answer = answer(&reply)?;
        let next = tree::integer(&answer["maxRevision"])
            .ok_or_else(|| CallError::Unreadable("maxRevision is missing in the answer".to_owned()))?;
        let mut bodies = Vec::new();
        let organizations = answer["ordersByOrganizations"].as_array().map_or(&[][..], Vec::as_slice);
        for group in organizations.iter().filter(|_| start.is_some()) {
            for info in group["orders"].as_array().map_or(&[][..], Vec::as_slice) {
                let time = tree::integer(&info["timestamp"]).and_then(|ms| Timestamp::from_millisecond(ms).ok());
                let event = json!([{
                    "eventType": "DeliveryOrderUpdate",
                    "eventTime": time.map(print),
                    "organizationId": uuid(&group["organizationId"]).or_else(|| uuid(&info["organizationId"])),
                    "eventInfo": info,
                }]);
                bodies.push(Bytes::from(event.to_string()));
            }
        }
        Ok(Page { bodies, next: next.to_string(), more: false })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::{self, Script};

    const ORG: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

    #[tokio::test]
    async fn after_a_long_silence_orders_are_read_by_date() {
        let iiko = PROVIDER.open(json!({ "api_login": "l", "organization_id": ORG })).unwrap();
        let answer = json!({ "maxRevision": 1789389601000u64, "ordersByOrganizations": [
            { "organizationId": ORG, "orders": [{ "id": "a-1", "timestamp": 1789389601000u64, "creationStatus": "Success", "order": { "status": "Closed" } }] }] });
        let script = Script::new(&[(200, &answer.to_string()), (400, "{}"), (200, &answer.to_string())]);
        let client = Client::new(&script);
        let polls = iiko.polls().unwrap();
        let first = polls.poll(&client, None, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!((first.bodies.len(), &first.next[..]), (0, "1789389601000"));
        let page = polls.poll(&client, Some(&first.next), Timestamp::UNIX_EPOCH).await.unwrap();
        let body = String::from_utf8(page.bodies[0].to_vec()).unwrap();
        let reading = iiko.parse(&testing::post("application/json", &body)).unwrap();
        assert_eq!(reading.happenings[0].at.unwrap().as_millisecond(), 1789389601000);
        assert!(script.sent()[2].url.ends_with("/by_delivery_date_and_status"));
    }
}
