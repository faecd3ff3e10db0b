//! Deals whose closing no webhook told of: webhooks get lost, and amoCRM switches them off.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Client, Outgoing,
    port::{Page, Polls},
};

use super::{Amocrm, api::read};
use crate::{cursor::Cursor, tree};

/// As many deals as amoCRM wants to be asked for at once.
const DEALS: u32 = 250;

#[async_trait]
impl Polls for Amocrm {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else {
            return Ok(Page { next: since.to_string(), ..Page::default() });
        };
        let cursor = Cursor::read(cursor, since);
        // All that was closed: asking for a status needs the account's pipelines, and lost deals call texts off.
        let (from, page) = (cursor.from().as_second().to_string(), cursor.page().to_string());
        let limit = DEALS.to_string();
        let query = [("filter[closed_at][from]", &from), ("limit", &limit), ("page", &page)];
        let query = serde_urlencoded::to_string(query).unwrap_or_default();
        let reply = client.send(Outgoing::new("GET", format!("{}/api/v4/leads?{query}", self.base()))).await?;
        let answer = read(client, &reply)?.unwrap_or_default();
        let deals = match tree::at(&answer, &["_embedded", "leads"]) {
            Value::Array(deals) => deals.as_slice(),
            Value::Null if answer.is_null() => &[],
            _ => return Err(CallError::Unreadable("the answer holds no list of deals".to_owned())),
        };
        let more = !tree::is_blank(tree::at(&answer, &["_links", "next", "href"])) && !deals.is_empty();
        let next = cursor.next(more, client.now()).to_string();
        Ok(Page { bodies: deals.iter().map(as_told).collect(), next, more })
    }
}

/// A deal as a webhook would tell of it, so that both have one key.
fn as_told(deal: &Value) -> Bytes {
    let told = json!({
        "leads": { "status": [{
            "id": deal["id"], "name": deal["name"], "status_id": deal["status_id"], "pipeline_id": deal["pipeline_id"],
            "price": deal["price"], "account_id": deal["account_id"], "last_modified": deal["closed_at"],
        }] },
        "account": { "id": deal["account_id"] },
    });
    Bytes::from(told.to_string())
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::{self, Script};

    #[tokio::test]
    async fn a_deal_found_by_a_poll_has_the_key_of_its_webhook() {
        let amocrm = PROVIDER.open(json!({ "host": "example.amocrm.ru", "long_lived_token": "t" })).unwrap();
        let deal = |id: u32, status: u32| {
            json!({ "id": id, "name": "Сделка", "price": 15000, "status_id": status, "pipeline_id": 53218,
                "closed_at": 1789380000, "updated_at": 1789390000, "account_id": 9931001 })
        };
        let first = json!({ "_links": { "next": { "href": "https://…" } }, "_embedded": { "leads": [deal(40331001, 142)] } });
        let second = json!({ "_links": {}, "_embedded": { "leads": [deal(40331002, 143)] } });
        let script = Script::new(&[(200, &first.to_string()), (200, &second.to_string()), (204, "")]);
        let (client, polls) = (Client::new(&script), amocrm.polls().unwrap());
        let since: Timestamp = "2026-09-14T09:00:00Z".parse().unwrap();

        let start = polls.poll(&client, None, since).await.unwrap();
        assert_eq!((start.bodies.len(), start.next.as_str(), start.more), (0, "2026-09-14T09:00:00Z", false));
        let page = polls.poll(&client, Some(&start.next), since).await.unwrap();
        let body = String::from_utf8(page.bodies[0].to_vec()).unwrap();
        let polled = amocrm.parse(&testing::post("application/json", &body)).unwrap().happenings.remove(0);
        let form = "leads[status][0][id]=40331001&leads[status][0][name]=Сделка&leads[status][0][status_id]=142\
            &leads[status][0][pipeline_id]=53218&leads[status][0][price]=15000&leads[status][0][last_modified]=1789380000\
            &account[subdomain]=example&account[id]=9931001";
        let told = amocrm.parse(&testing::post("application/x-www-form-urlencoded", form)).unwrap().happenings.remove(0);
        assert_eq!(polled, told);

        let rest = polls.poll(&client, Some(&page.next), since).await.unwrap();
        assert_eq!((page.more, rest.more, rest.next.as_str()), (true, false, "1970-01-01T00:00:00Z"));
        assert!(polls.poll(&client, Some(&rest.next), since).await.unwrap().bodies.is_empty());
        let asked = script.sent()[1].url.clone();
        assert!(asked.ends_with("/api/v4/leads?filter%5Bclosed_at%5D%5Bfrom%5D=1789375800&limit=250&page=2"), "{asked}");
    }
}
