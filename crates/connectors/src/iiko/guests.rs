//! Whose order it was: asked by the order, then by the guest's card.

use async_trait::async_trait;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Person, Refusal,
    port::{Found, Guests},
};

use super::{Iiko, reading::uuid, wire::answer};
use crate::tree;

#[async_trait]
impl Guests for Iiko {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let organization = uuid(&what["organization"]).or_else(|| self.organization_id.clone());
        match (organization, uuid(&what["order"]), uuid(&what["customer"])) {
            (Some(organization), Some(order), _) => self.by_order(client, &organization, &order).await,
            (Some(organization), None, Some(customer)) => self.by_customer(client, &organization, &customer).await,
            _ => Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs an organisation and an order or a customer")),
        }
    }
}

impl Iiko {
    async fn by_order(&self, client: &Client<'_>, organization: &str, id: &str) -> Result<Found, CallError> {
        let body = json!({ "organizationId": organization, "orderIds": [id] });
        let answer = answer(&self.ask(client, "/api/1/deliveries/by_id", &body).await?)?;
        let Some(orders) = answer["orders"].as_array() else {
            return Err(CallError::Unreadable("orders is missing in the answer".to_owned()));
        };
        let order = orders.iter().find(|info| uuid(&info["id"]).as_deref() == Some(id)).map(|info| &info["order"]);
        let Some(order) = order.filter(|order| order.is_object()) else {
            return Ok(Found::Nobody(format!("iiko does not know order {id} (any more)")));
        };
        if let Some(why) = self.unwelcome(order) {
            return Ok(Found::Nobody(why));
        }
        let mut phones = tree::phones(order, &[&["phone"], &["customer", "phone"]]);
        phones.retain(|phone| !tree::is_blank(phone));
        match (phones.is_empty(), uuid(&order["customer"]["id"])) {
            (false, _) => {
                let emails = tree::emails(order, &[&["customer", "email"]]);
                Ok(Found::Person(Person { name: tree::text(&order["customer"]["name"]), phones, emails }))
            }
            (true, Some(customer)) => Ok(Found::Next(json!({ "customer": customer, "organization": organization }))),
            (true, None) => Ok(Found::Nobody(format!("order {id} names neither a phone nor a known guest"))),
        }
    }

    async fn by_customer(&self, client: &Client<'_>, organization: &str, id: &str) -> Result<Found, CallError> {
        let body = json!({ "type": "id", "id": id, "organizationId": organization });
        let reply = self.ask(client, "/api/1/loyalty/iiko/customer/info", &body).await?;
        let guest = match answer(&reply) {
            Err(CallError::Refused { reason, .. }) if matches!(reply.status, 400 | 404) => {
                return Ok(Found::Nobody(format!("iiko does not know guest {id}: {reason}")));
            }
            guest => guest?,
        };
        let nobody = |why: &str| Ok(Found::Nobody(format!("guest {id} {why}")));
        if tree::flag(&guest["isDeleted"]) || tree::flag(&guest["anonymized"]) {
            return nobody("is deleted in iiko");
        }
        if tree::integer(&guest["consentStatus"]) == Some(2) {
            return nobody("took back the consent to use personal data");
        }
        let emails = tree::emails(&guest, &[&["email"]]);
        if tree::is_blank(&guest["phone"]) && emails.is_empty() {
            return nobody("has no phone in iiko");
        }
        Ok(Found::Person(Person { name: tree::text(&guest["name"]), phones: vec![guest["phone"].clone()], emails }))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::PROVIDER, *};
    use crate::testing::Script;

    const ORG: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

    #[tokio::test]
    async fn a_guest_is_found_by_order_and_then_by_card() {
        let iiko = PROVIDER.open(json!({ "api_login": "l" })).unwrap();
        let script = Script::new(&[
            (200, r#"{"orders":[{"id":"a-1","order":{"status":"Closed","customer":{"id":"g-1"}}}]}"#),
            (200, r#"{"id":"g-1","name":"Мария","phone":"+79990001122","consentStatus":1,"isDeleted":false}"#),
            (400, r#"{"errorDescription":"There is no user","error":"Validation_IncorrectPhone"}"#),
        ]);
        let client = Client::new(&script);
        let guests = iiko.guests().unwrap();
        let next = guests.look_up(&client, &json!({ "order": "a-1", "organization": ORG })).await.unwrap();
        let Found::Next(next) = next else { panic!("{next:?}") };
        let found = guests.look_up(&client, &next).await.unwrap();
        assert!(matches!(found, Found::Person(person) if person.phones == [json!("+79990001122")]));
        assert!(matches!(guests.look_up(&client, &next).await.unwrap(), Found::Nobody(_)));
    }
}
