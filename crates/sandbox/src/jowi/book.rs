//! The programme's book: accounts, and operations under the caller's ids.

use serde_json::{Value, json};

use crate::wire;

/// Why an operation is not done: JOWi's number and words.
pub(super) struct Refused(pub(super) u16, pub(super) &'static str);

pub(super) struct Book {
    pub(super) accounts: Vec<Value>,
    pub(super) operations: Vec<Value>,
}

impl Default for Book {
    /// The account of the sample.
    fn default() -> Book {
        let sample: Value =
            serde_json::from_str(include_str!("../../samples/jowi/loyalty-account-response.json")).unwrap_or_default();
        let mut account = sample["account"].clone();
        account["code"] = json!("481516");
        Book { accounts: vec![account], operations: Vec::new() }
    }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// A number that a request gives as number or text.
fn given(body: &Value, name: &str) -> Option<i64> {
    wire::number(Some(&body[name]))
}

impl Book {
    pub(super) fn put(&mut self, accounts: Vec<Value>) {
        self.accounts = accounts;
    }

    pub(super) fn find(&self, by: &str, value: &str) -> Option<&Value> {
        self.accounts.iter().find(|account| match by {
            "phone" => digits(account["phone"].as_str().unwrap_or_default()) == digits(value) && !digits(value).is_empty(),
            "card" => account["card_number"] == value,
            _ => account["code"] == value,
        })
    }

    pub(super) fn operation(&self, id: &str) -> Option<&Value> {
        self.operations.iter().find(|operation| operation["operation_id"] == id)
    }

    fn account(&mut self, id: &Value) -> Result<&mut Value, Refused> {
        let account = self.accounts.iter_mut().find(|account| account["account_id"] == *id && id.is_string());
        let account = account.ok_or(Refused(404, "account not found"))?;
        if account["status"].as_str().is_some_and(|status| status != "active") {
            return Err(Refused(423, "account is blocked"));
        }
        Ok(account)
    }

    /// Moves points of an account and keeps what was done.
    fn moved(&mut self, id: &str, kind: &str, account: &Value, points: i64, of: Option<&str>) -> Result<Value, Refused> {
        let balance = &mut self.account(account)?["balance"];
        let mut after = 0;
        for name in ["points", "available_points"] {
            after = wire::number(Some(&balance[name])).unwrap_or_default() + points;
            balance[name] = json!(after);
        }
        let operation = json!({
            "id": format!("op-{}", 9001 + self.operations.len()), "operation_id": id, "type": kind, "points": points.abs(),
            "state": "committed", "balance_after": after, "created_at": jiff::Timestamp::now().to_string(),
            "account_id": account, "moved": points, "of": of,
        });
        self.operations.push(operation.clone());
        Ok(operation)
    }

    /// What is paid by points earns nothing.
    pub(super) fn accrue(&mut self, id: &str, body: &Value) -> Result<Value, Refused> {
        let account = self.account(&body["account_id"])?;
        let percent = wire::number(Some(&account["program"]["accrual_percent"])).unwrap_or_default();
        if !body["restaurant_id"].is_string() || !body["receipt_id"].is_string() || !body["occurred_at"].is_string() {
            return Err(Refused(27, "restaurant_id, receipt_id or occurred_at is missing"));
        }
        let (Some(amount), Some(by_points)) = (given(body, "amount_sum"), given(body, "paid_by_points")) else {
            return Err(Refused(27, "amount_sum or paid_by_points is no number"));
        };
        let points = (amount - by_points).max(0) * percent / 100;
        self.moved(id, "accrual", &body["account_id"], points, None)
    }

    pub(super) fn redeem(&mut self, id: &str, body: &Value) -> Result<Value, Refused> {
        let account = self.account(&body["account_id"])?;
        let available = wire::number(Some(&account["balance"]["available_points"])).unwrap_or_default();
        let share = wire::number(Some(&account["program"]["max_redeem_percent"])).unwrap_or(100);
        let (Some(points), Some(sum)) = (given(body, "points").filter(|points| *points > 0), given(body, "receipt_sum")) else {
            return Err(Refused(27, "points or receipt_sum is no number"));
        };
        if points > available {
            return Err(Refused(402, "not enough points"));
        }
        if points > sum * share / 100 {
            return Err(Refused(27, "more points than the programme allows"));
        }
        self.moved(id, "redemption", &body["account_id"], -points, None)
    }

    pub(super) fn reverse(&mut self, id: &str, of: &str) -> Result<Value, Refused> {
        let operation = self.operation(of).cloned().ok_or(Refused(404, "operation not found"))?;
        if operation["type"] == "reversal" || operation["state"] != "committed" {
            return Err(Refused(27, "operation cannot be reversed"));
        }
        let moved = operation["moved"].as_i64().unwrap_or_default();
        let reversal = self.moved(id, "reversal", &operation["account_id"], -moved, Some(of))?;
        self.state(of, "reversed");
        Ok(reversal)
    }

    fn state(&mut self, id: &str, state: &str) {
        for operation in self.operations.iter_mut().filter(|operation| operation["operation_id"] == id) {
            operation["state"] = json!(state);
        }
    }

    /// The operation waits for a decision.
    pub(super) fn undecided(&mut self, id: &str) {
        self.state(id, "pending");
    }

    /// All that waits is decided for good.
    pub(super) fn decide(&mut self) {
        for operation in self.operations.iter_mut().filter(|operation| operation["state"] == "pending") {
            operation["state"] = json!("committed");
        }
    }
}
