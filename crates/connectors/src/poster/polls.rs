//! Closed orders that no webhook told of.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp, ToSpan, tz::TimeZone};
use serde_json::Value;
use uzel_model::{
    CallError, Client,
    port::{Page, Polls},
};

use super::{Poster, orders::told, wire::answer};
use crate::tree;

/// Read again at each poll, since Poster's clock is not ours.
const OVERLAP: SignedDuration = SignedDuration::from_mins(15);
/// What one turn reads.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// No zone is further from UTC.
const ZONE: SignedDuration = SignedDuration::from_hours(14);

#[async_trait]
impl Polls for Poster {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    /// Days are of the account's own zone, which nobody tells here: every day is asked for that may be meant. An answer of the hub's
    /// client has a limit, so it is one day a call, and without the lines.
    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else { return Ok(Page { next: since.to_string(), ..Page::default() }) };
        let now = client.now();
        let start = cursor.parse::<Timestamp>().unwrap_or(since).min(now);
        let from = start.checked_sub(OVERLAP).unwrap_or(start);
        let end = now.min(start.checked_add(DAY).unwrap_or(now));
        let mut bodies = Vec::new();
        for day in days(from.checked_sub(ZONE).unwrap_or(from), end.checked_add(ZONE).unwrap_or(end)) {
            let query = [("dateFrom", day.as_str()), ("dateTo", &day), ("status", "0")];
            let response = answer(&client.send(self.get("dash.getTransactions", &query)).await?)?;
            let orders = match &response {
                Value::Array(orders) => orders.as_slice(),
                Value::Bool(false) | Value::Null => &[],
                _ => return Err(CallError::Unreadable("the answer holds no list of orders".to_owned())),
            };
            let closed = |order: &&Value| {
                let at = tree::integer(&order["date_close"]).and_then(|ms| Timestamp::from_millisecond(ms).ok());
                at.is_some_and(|at| at >= from && at > Timestamp::UNIX_EPOCH)
            };
            bodies.extend(orders.iter().filter(closed).map(|order| told("transaction", order, Value::Null)));
        }
        Ok(Page { bodies, next: end.to_string(), more: end < now })
    }
}

/// The days between two moments, as Poster writes them.
fn days(first: Timestamp, last: Timestamp) -> Vec<String> {
    let date = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let days = date(first).series(1.day()).take_while(|day| *day <= date(last));
    days.map(|day| day.strftime("%Y%m%d").to_string()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::PROVIDER, *};
    use crate::testing::{self, Script};

    #[tokio::test]
    async fn a_polled_order_has_the_key_of_the_one_that_was_looked_up() {
        let poster = PROVIDER.open(json!({ "access_token": "700001:5d41402abc4b2a76" })).unwrap();
        let order = |id: u32, closed: &str| json!({ "transaction_id": id.to_string(), "date_close": closed, "status": "2", "pay_type": "1" });
        // The script's clock stands at 0.
        let answer = json!({ "response": [order(1, "-60000"), order(2, "60000"), order(3, "0")] }).to_string();
        let script = Script::new(&[(200, &answer), (200, r#"{"response":[]}"#)]);
        let (client, polls) = (Client::new(&script), poster.polls().unwrap());
        let start = polls.poll(&client, None, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!((start.bodies.len(), &start.next[..]), (0, "1970-01-01T00:00:00Z"));
        let page = polls.poll(&client, Some(&start.next), Timestamp::UNIX_EPOCH).await.unwrap();
        let days: Vec<String> = script.sent().iter().map(|sent| sent.url.split_once('?').unwrap().1.to_owned()).collect();
        assert_eq!(days, ["dateFrom=19691231&dateTo=19691231&status=0", "dateFrom=19700101&dateTo=19700101&status=0"]);
        assert_eq!((page.bodies.len(), page.more), (1, false));
        let mut request = testing::post("application/json", std::str::from_utf8(&page.bodies[0]).unwrap());
        request.method = "POLL".to_owned();
        assert_eq!(poster.parse(&request).unwrap().happenings[0].key.as_deref(), Some("order/2/completed"));
    }
}
