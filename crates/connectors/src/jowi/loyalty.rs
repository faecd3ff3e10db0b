//! Accounts and operations. Our ids are JOWi's idempotency keys: a repeat gives the stored operation.

use async_trait::async_trait;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};
use uzel_model::{
    CallError, Client, Outgoing, Timestamp,
    port::{
        Loyalty,
        loyalty::{Account, AccountKey, Accrual, Operation, OperationKind, OperationState, Redemption, Reversal, Told},
    },
};

use super::{Jowi, wire};

/// Uzbekistan's time: the same all year.
const TASHKENT: Offset = Offset::constant(5);
/// A card that nobody has.
const NOBODY: &str = "0";

#[async_trait]
impl Loyalty for Jowi {
    fn repeatable(&self) -> bool {
        true
    }

    async fn probe(&self, client: &Client<'_>) -> Result<(), CallError> {
        let reply = client.send(self.get("/accounts", &[("card", NOBODY)])).await?;
        // That there is no such card is an answer as well.
        wire::answer(&reply, false).map(drop)
    }

    async fn account(&self, client: &Client<'_>, by: &AccountKey) -> Told<Account> {
        let question = match by {
            AccountKey::Phone(phone) => ("phone", phone.as_str()),
            AccountKey::Card(card) => ("card", card.as_str()),
            AccountKey::Code(code) => ("code", code.as_str()),
        };
        let reply = client.send(self.get("/accounts", &[question])).await?;
        match wire::answer(&reply, false)? {
            Ok(body) => wire::account(&body, by),
            Err(declined) => Ok(Err(declined)),
        }
    }

    async fn accrue(&self, client: &Client<'_>, accrual: &Accrual) -> Told<Operation> {
        let lines = accrual.lines.iter().map(|line| {
            json!({ "name": line.name, "quantity": wire::quantity(line.quantity_milli), "amount_sum": wire::sum(line.sum_minor) })
        });
        let body = object(json!({
            "operation_id": accrual.operation,
            "account_id": accrual.account,
            "restaurant_id": self.restaurant_id,
            "receipt_id": accrual.receipt,
            "amount_sum": wire::sum(accrual.sum_minor),
            "paid_by_points": wire::sum(accrual.by_points_minor),
            "occurred_at": moment(accrual.at),
            "items": lines.collect::<Vec<_>>(),
        }));
        let told = self.operate(client, self.post("/accruals", body), &accrual.operation).await?;
        expect(told, OperationKind::Accrual, &accrual.operation)
    }

    async fn redeem(&self, client: &Client<'_>, redemption: &Redemption) -> Told<Operation> {
        let body = object(json!({
            "operation_id": redemption.operation,
            "account_id": redemption.account,
            "restaurant_id": self.restaurant_id,
            "receipt_id": redemption.receipt,
            "points": redemption.points,
            "receipt_sum": wire::sum(redemption.sum_minor),
            "confirm_code": redemption.confirmation,
        }));
        let told = self.operate(client, self.post("/redemptions", body), &redemption.operation).await?;
        let told = expect(told, OperationKind::Redemption, &redemption.operation)?;
        match told {
            Ok(operation) if operation.state == OperationState::Committed && operation.points != redemption.points => {
                Err(CallError::Unreadable("another number of points was taken than was asked for".to_owned()))
            }
            told => Ok(told),
        }
    }

    async fn operation(&self, client: &Client<'_>, operation: &str) -> Told<Operation> {
        let reply = client.send(self.get(&format!("/operations/{operation}"), &[])).await?;
        match wire::answer(&reply, false)? {
            Ok(body) => {
                let told = wire::operation(&body)?;
                if told.operation == operation { Ok(Ok(told)) } else { Err(another()) }
            }
            Err(declined) => Ok(Err(declined)),
        }
    }

    async fn reverse(&self, client: &Client<'_>, reversal: &Reversal) -> Told<Operation> {
        let body = object(json!({ "operation_id": reversal.operation, "reason": reversal.reason }));
        let outgoing = self.post(&format!("/operations/{}/reverse", reversal.of), body);
        let told = self.operate(client, outgoing, &reversal.operation).await?;
        match told {
            // Instead of the reversal it may be told what was reversed.
            Ok(operation) if operation.operation == reversal.of && operation.state == OperationState::Reversed => {
                Ok(Ok(Operation { kind: OperationKind::Reversal, state: OperationState::Committed, ..operation }))
            }
            told => expect(told, OperationKind::Reversal, &reversal.operation),
        }
    }
}

impl Jowi {
    /// Sends what changes something. Where only that it is known comes back, what became of it is asked for.
    async fn operate(&self, client: &Client<'_>, outgoing: Outgoing, operation: &str) -> Told<Operation> {
        let reply = client.send(outgoing).await?;
        if wire::is_known(&reply) {
            return self.operation(client, operation).await;
        }
        match wire::answer(&reply, true)? {
            Ok(body) => wire::operation(&body).map(Ok),
            Err(declined) => Ok(Err(declined)),
        }
    }
}

/// Only what was asked for is an answer.
fn expect(told: Result<Operation, uzel_model::port::loyalty::Declined>, kind: OperationKind, id: &str) -> Told<Operation> {
    match told {
        Ok(operation) if operation.kind != kind || operation.operation != id => Err(another()),
        told => Ok(told),
    }
}

fn another() -> CallError {
    CallError::Unreadable("another operation came back than was asked for".to_owned())
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TASHKENT.to_time_zone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const OPERATION: &str = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";
    const DONE: &str = r#"{"status":1,"operation":{"id":"op-9001","operation_id":"1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed","type":"accrual","points":4000,"state":"committed","balance_after":19400}}"#;

    fn jowi() -> Jowi {
        let settings = json!({ "api_key": "demo-api-key-0001", "api_secret": "demo-api-secret-0001",
            "restaurant_id": "3f0a1b2c-0000-4000-8000-000000000001" });
        serde_json::from_value(settings).unwrap()
    }

    fn accrual() -> Accrual {
        Accrual {
            operation: OPERATION.to_owned(),
            account: "acc-000123".to_owned(),
            by: None,
            receipt: "shop-1/2026-01-05/147".to_owned(),
            sum_minor: 8_000_000,
            by_points_minor: 0,
            at: "2026-01-05T09:35:00Z".parse().unwrap(),
            lines: vec![uzel_model::port::loyalty::Line {
                name: "Плов".to_owned(), quantity_milli: 2_000, sum_minor: 8_000_000
            }],
        }
    }

    /// The members of a body, without what proves the call.
    fn body(outgoing: &Outgoing) -> Value {
        let mut body: Value = serde_json::from_slice(&outgoing.body).unwrap();
        let members = body.as_object_mut().unwrap();
        assert_eq!(members.remove("api_key").unwrap(), "demo-api-key-0001");
        assert_eq!(members.remove("sig").unwrap(), "c57a33f2e70595a");
        body
    }

    #[tokio::test]
    async fn an_accrual_and_a_redemption_are_sent_as_the_samples_show() {
        let sample: Value = serde_json::from_str(include_str!("../../../../fixtures/jowi/accrual.json")).unwrap();
        let script = testing::Script::new(&[(200, DONE), (200, r#"{"status":0,"error":402,"message":"not enough points"}"#)]);
        let client = Client::new(&script);
        let told = jowi().accrue(&client, &accrual()).await.unwrap().unwrap();
        assert_eq!((told.id.as_str(), told.points, told.balance_after), ("op-9001", 4_000, Some(19_400)));
        assert_eq!(body(&script.sent()[0]), sample);
        assert!(!script.sent()[0].repeatable, "its answer may be lost after the work");

        let sample: Value = serde_json::from_str(include_str!("../../../../fixtures/jowi/redemption.json")).unwrap();
        let redemption = Redemption {
            operation: "2c9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed".to_owned(),
            account: "acc-000123".to_owned(),
            receipt: "shop-1/2026-01-05/148".to_owned(),
            points: 10_000,
            worth_minor: 1_000_000,
            sum_minor: 5_000_000,
            confirmation: None,
        };
        assert!(jowi().redeem(&client, &redemption).await.unwrap().is_err());
        assert_eq!(body(&script.sent()[1]), sample);
        assert_eq!(script.sent()[1].url, "https://api.jowi.club/v3/loyalty/redemptions");
    }

    #[tokio::test]
    async fn another_operation_than_ours_is_no_answer() {
        for (from, to) in [
            ("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "00000000-bbfd-4b2d-9b5d-ab8dfbbd4bed"),
            ("accrual", "redemption"),
            ("accrual", "gift"),
            ("\"points\":4000", "\"points\":\"x\""),
        ] {
            let script = testing::Script::new(&[(200, &DONE.replace(from, to))]);
            let told = jowi().accrue(&Client::new(&script), &accrual()).await;
            assert!(matches!(told, Err(CallError::Unreadable(_))), "{to}");
        }
    }

    #[tokio::test]
    async fn what_is_only_said_to_be_known_is_asked_for() {
        let script = testing::Script::new(&[(409, r#"{"status":0,"error":409,"message":"duplicate"}"#), (200, DONE)]);
        let told = jowi().accrue(&Client::new(&script), &accrual()).await.unwrap().unwrap();
        assert_eq!(told.state, OperationState::Committed);
        let asked = format!("https://api.jowi.club/v3/loyalty/operations/{OPERATION}?");
        assert!(script.sent()[1].url.starts_with(&asked));
    }

    #[tokio::test]
    async fn what_was_reversed_before_is_reversed() {
        let known = DONE.replace("committed", "reversed");
        let script = testing::Script::new(&[(200, &known)]);
        let told = jowi().reverse(&Client::new(&script), &Reversal::of(OPERATION, "refund")).await.unwrap().unwrap();
        assert_eq!((told.kind, told.state), (OperationKind::Reversal, OperationState::Committed));
    }
}
