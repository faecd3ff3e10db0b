//! Documents: what is refused, and the steps in which the till prints the rest.

use serde_json::{Value, json};

use super::State;
use crate::wire::{self, Answer, Call};

const STEPS: [&str; 5] = ["QUEUED", "PENDING", "PRINTED", "WAIT_FOR_CALLBACK", "COMPLETED"];
const VAT_TAGS: [i64; 12] = [1102, 1103, 1104, 1105, 1106, 1107, 1109, 1110, 1111, 1112, 1113, 1114];
const PAYMENTS: [&str; 5] = ["CARD", "CASH", "PREPAID", "POSTPAY", "OTHER"];

impl State {
    pub(super) fn take(&mut self, call: &Call) -> Answer {
        let Some(mut document) = call.json().filter(is_good) else { return Answer::empty(400) };
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        // The same id once more makes no second receipt.
        if !self.documents.iter().any(|known| known["id"] == *id) {
            document["taken_at"] = json!(wire::now());
            self.documents.push(document);
        }
        self.status(&id)
    }

    pub(super) fn status(&self, id: &str) -> Answer {
        match self.documents.iter().find(|document| document["id"] == *id) {
            Some(document) => Answer::json(200, &self.state_of(document)),
            None => Answer::empty(404),
        }
    }

    /// Only what failed is put into the queue again.
    pub(super) fn again(&mut self, id: &str) -> Answer {
        let Some(document) = self.documents.iter_mut().find(|document| document["id"] == *id) else { return Answer::empty(404) };
        let Some(members) = document.as_object_mut().filter(|members| members.contains_key("failure")) else {
            return Answer::empty(400);
        };
        members.remove("failure");
        members.insert("taken_at".to_owned(), json!(wire::now()));
        self.status(id)
    }

    fn state_of(&self, document: &Value) -> Value {
        let age = wire::now() - document["taken_at"].as_i64().unwrap_or(0);
        let step = match self.settings.step_s {
            step if step > 0 => usize::try_from(age / step).unwrap_or(0).min(STEPS.len() - 1),
            _ => STEPS.len() - 1,
        };
        let failure = document["failure"].as_str();
        let status = if failure.is_some() { "FAILED" } else { STEPS[step] };
        let printed = failure.is_none() && step >= 2;
        json!({
            "status": status, "fnState": self.settings.till_state, "message": "",
            "fiscalInfo": if printed { receipt(document) } else { Value::Null },
            "failureInfo": failure.map(|kind| json!({"type": kind, "message": "Срок действия ФН истёк"})),
            "timeStatusChanged": "2025-10-09T11:53:42+03:00",
        })
    }
}

fn receipt(document: &Value) -> Value {
    let sum: f64 = list(&document["moneyPositions"]).iter().filter_map(|money| money["sum"].as_f64()).sum();
    let kind = document["docType"].as_str().unwrap_or_default();
    let kind = match kind {
        "BUY" => "PURCHASE",
        "BUY_RETURN" => "RETURN_PURCHASE",
        kind => kind,
    };
    let sum = format!("{sum:.2}");
    json!({
        "shiftNumber": 29, "checkNumber": 77, "kktNumber": "199036001576", "fnNumber": "9999078900000823", "fnDocNumber": 63,
        "fnDocMark": 3_705_514_822_u64, "date": document.get("printed_at").cloned().unwrap_or_else(|| json!("2025-10-09T08:53:40.000+0000")),
        "sum": if document["sum_as_number"] == true { json!(sum.parse::<f64>().unwrap_or_default()) } else { json!(sum) },
        "checkType": document.get("check_type").cloned().unwrap_or_else(|| json!(kind)),
        "qr": format!("t=20251009T115340&s={sum}&fn=9999078900000823&i=63&fp=3705514822&n=1"),
        "ecrRegistrationNumber": "0000000000012345",
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What ModulKassa's document says of a document; a refusal does not say what is wrong.
fn is_good(document: &Value) -> bool {
    let text = |name: &str| document[name].as_str();
    let filled = |name: &str| text(name).is_some_and(|text| !text.is_empty());
    let number = |value: &Value| value.as_f64();
    let kind = text("docType").is_some_and(|kind| ["SALE", "RETURN", "BUY", "BUY_RETURN"].contains(&kind));
    let when = text("checkoutDateTime").is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok());
    let line = |line: &Value| {
        line["name"].as_str().is_some_and(|name| !name.is_empty())
            && number(&line["price"]).is_some_and(|price| price >= 0.0)
            && number(&line["quantity"]).is_some_and(|count| count > 0.0)
            && line["vatTag"].as_i64().is_some_and(|tag| VAT_TAGS.contains(&tag))
    };
    let money = |money: &Value| {
        money["paymentType"].as_str().is_some_and(|kind| PAYMENTS.contains(&kind))
            && number(&money["sum"]).is_some_and(|sum| sum >= 0.0)
    };
    let (lines, payments) = (list(&document["inventPositions"]), list(&document["moneyPositions"]));
    let worth = |line: &Value| {
        number(&line["price"]).unwrap_or(0.0) * number(&line["quantity"]).unwrap_or(0.0) - number(&line["discSum"]).unwrap_or(0.0)
    };
    let (goods, paid): (f64, f64) =
        (lines.iter().map(worth).sum(), payments.iter().filter_map(|money| number(&money["sum"])).sum());
    let long = [("textToPrint", 3_000), ("cashierName", 64), ("cashierPosition", 64)];
    let short = long.iter().all(|(name, most)| text(name).is_none_or(|text| text.chars().count() <= *most));
    filled("id")
        && filled("docNum")
        && kind
        && when
        && document["email"].is_string()
        && short
        && !lines.is_empty()
        && !payments.is_empty()
        && lines.iter().all(line)
        && payments.iter().all(money)
        && (goods - paid).abs() < 0.005
}
