//! What became of an order, and whose it was.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uzel_model::{
    CallError, Client, Person, Refusal,
    port::{Found, Guests},
};

use super::{
    Poster,
    orders::{State, told},
    wire::{self, answer, one},
};
use crate::tree;

/// The API may be behind the webhook: for so long an order that is told of is asked for again.
const LAG: SignedDuration = SignedDuration::from_mins(10);

#[async_trait]
impl Guests for Poster {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let id = |name: &str| wire::id(&what[name]);
        match (id("transaction"), id("incoming_order"), id("client")) {
            (Some(id), _, _) => self.order_of(client, &id, &what["told_at"]).await,
            (None, Some(id), _) => {
                let query = [("incoming_order_id", id.as_str())];
                let response = answer(&client.send(self.get("incomingOrders.getIncomingOrder", &query)).await?)?;
                Ok(match one(&response) {
                    Some(order) => Found::Told(told("incoming_order", order, what["type"].clone())),
                    None => Found::Nobody(format!("Poster does not know incoming order {id} (any more)")),
                })
            }
            (None, None, Some(id)) => self.client_of(client, &id).await,
            _ => Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs the id of an order or of a client")),
        }
    }
}

impl Poster {
    async fn order_of(&self, client: &Client<'_>, id: &str, told_at: &Value) -> Result<Found, CallError> {
        let query = [("transaction_id", id), ("include_products", "true")];
        let response = answer(&client.send(self.get("dash.getTransaction", &query)).await?)?;
        let order = one(&response);
        if let Some(order) = order
            && wire::id(&order["transaction_id"]).as_deref() != Some(id)
        {
            return Err(CallError::Unreadable(format!("asked for order {id}, another one was told")));
        }
        match order.filter(|order| State::of(order) != State::Open) {
            Some(order) => Ok(Found::Told(told("transaction", order, Value::Null))),
            None => match (again_at(client.now(), told_at), order) {
                (Some(at), _) => {
                    Err(CallError::Later { reason: format!("Poster does not show order {id} as closed yet"), at: Some(at) })
                }
                (None, Some(_)) => Ok(Found::Nobody(format!("order {id} is still open: nothing follows"))),
                (None, None) => Ok(Found::Nobody(format!("Poster does not know order {id} (any more)"))),
            },
        }
    }

    async fn client_of(&self, client: &Client<'_>, id: &str) -> Result<Found, CallError> {
        let response = answer(&client.send(self.get("clients.getClient", &[("client_id", id)])).await?)?;
        let nobody = |why: &str| Ok(Found::Nobody(format!("client {id} {why}")));
        let Some(guest) = one(&response) else { return nobody("is not known to Poster (any more)") };
        if tree::flag(&guest["delete"]) {
            return nobody("was deleted in Poster");
        }
        let mut phones = tree::phones(guest, &[&["phone"], &["phone_number"]]);
        phones.retain(|phone| !tree::is_blank(phone));
        let emails = tree::emails(guest, &[&["email"]]);
        if phones.is_empty() && emails.is_empty() {
            return nobody("has no phone in Poster");
        }
        Ok(Found::Person(Person { name: tree::text(&guest["firstname"]), phones, emails }))
    }
}

/// When to ask once more: soon at first, then every minute, while the webhook is young.
fn again_at(now: Timestamp, told_at: &Value) -> Option<Timestamp> {
    let told_at = tree::integer(told_at).and_then(|second| Timestamp::from_second(second).ok())?;
    let age = now.duration_since(told_at);
    let wait_s = match age {
        age if age > LAG => return None,
        age if age < SignedDuration::from_secs(60) => 5,
        _ => 60,
    };
    now.checked_add(SignedDuration::from_secs(wait_s)).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    #[tokio::test]
    async fn an_order_that_is_behind_its_webhook_is_asked_for_again_for_ten_minutes() {
        let poster = PROVIDER.open(json!({ "access_token": "700001:5d41402abc4b2a76" })).unwrap();
        let open = r#"{"response":[{"transaction_id":"7","status":"1"}]}"#;
        let script = Script::new(&[
            (200, open),
            (200, r#"{"response":[]}"#),
            (200, open),
            (200, r#"{"response":false}"#),
            (200, r#"{"response":[{"transaction_id":"8","status":"2"}]}"#),
            (200, "<html>"),
        ]);
        let (client, guests) = (Client::new(&script), poster.guests().unwrap());
        let look =
            async |told_at: i64| guests.look_up(&client, &json!({ "transaction": "7", "told_at": told_at.to_string() })).await;
        // The script's clock stands at 0.
        let at = |outcome: Result<Found, CallError>| match outcome {
            Err(CallError::Later { at, .. }) => at.unwrap().as_second(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at(look(0).await), 5);
        assert_eq!(at(look(-120).await), 60);
        assert!(matches!(look(-601).await, Ok(Found::Nobody(why)) if why.contains("still open")));
        assert!(matches!(look(-601).await, Ok(Found::Nobody(why)) if why.contains("does not know")));
        assert!(matches!(look(-601).await, Err(CallError::Unreadable(_))), "it is another order");
        assert!(matches!(look(-601).await, Err(CallError::Unreadable(_))));
    }
}
