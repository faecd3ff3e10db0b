//! Reading orders, as Poster tells of them when it is asked.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uzel_model::{Bytes, Happening, Malformed, Person, Reading, event::kind};

use super::{Poster, wire};
use crate::tree;

/// Lines of an order that an event carries.
const LINES_MAX: usize = 500;

/// An answer about an order as a body that can be read again.
pub(super) fn told(what: &str, found: &Value, more: Value) -> Bytes {
    let mut body = json!({ "told": what });
    body[what] = found.clone();
    body["type"] = more;
    Bytes::from(body.to_string())
}

impl Poster {
    pub(super) fn read_told(&self, body: &Value) -> Result<Reading, Malformed> {
        let read = match body["told"].as_str() {
            Some("transaction") => self.order(&body["transaction"]),
            Some("incoming_order") => incoming(&body["incoming_order"], &body["type"]),
            _ => return Err(Malformed::new("neither an order nor an incoming order was told of")),
        };
        let mut reading = Reading::default();
        match read {
            Ok(happening) => reading.happenings.push(happening),
            Err(why) => reading.skip(why),
        }
        Ok(reading)
    }

    /// What an order says, or why nothing follows from it.
    pub(super) fn order(&self, order: &Value) -> Result<Happening, String> {
        let id = wire::id(&order["transaction_id"]).ok_or("no transaction_id in the order: nothing follows")?;
        let spot = wire::id(&order["spot_id"]);
        if !self.spot_ids.is_empty() && !spot.as_ref().is_some_and(|spot| self.spot_ids.contains(spot)) {
            return Err(format!("order {id} is of spot {}: this connection reads others", spot.as_deref().unwrap_or("-")));
        }
        let (kind, word) = match State::of(order) {
            State::Open => return Err(format!("order {id} is not closed yet: nothing follows")),
            State::Unpaid => return Err(format!("order {id} was closed without payment: nothing follows")),
            State::Closed => (kind::ORDER_COMPLETED, "completed"),
            State::Returned | State::Removed => (kind::ORDER_CANCELLED, "cancelled"),
        };
        let completed = kind == kind::ORDER_COMPLETED;
        let closed_at = tree::integer(&order["date_close"]).filter(|ms| *ms > 0);
        let client = wire::id(&order["client_id"]);
        let phones: Vec<Value> =
            Some(&order["client_phone"]).filter(|phone| !tree::is_blank(phone)).cloned().into_iter().collect();
        let look_up = client.as_ref().filter(|_| completed && phones.is_empty()).map(|client| json!({ "client": client }));
        Ok(Happening {
            key: Some(format!("order/{id}/{word}")),
            kind,
            subject: format!("order/{id}"),
            at: closed_at.filter(|_| completed).and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            person: Person { name: tree::text(&order["client_firstname"]), phones, emails: Vec::new() },
            refs: vec![id.clone()],
            data: self.data(order, &id, spot, client),
            look_up,
        })
    }

    /// `sum` is what the order came to after discounts, by whatever means it was paid; `eligible_sum` the money in it.
    fn data(&self, order: &Value, id: &str, spot: Option<String>, client: Option<String>) -> Value {
        let means = ["payed_sum", "payed_bonus", "payed_cert", "payed_third_party", "payed_ewallet"];
        let paid: Option<i64> = means.iter().map(|name| minor(&order[*name]).unwrap_or(0)).try_fold(0, i64::checked_add);
        let money = minor(&order["payed_sum"]);
        let mut data = tree::object([
            ("order_id", Some(id.to_owned())),
            ("number", Some(id.to_owned())),
            // The order's id on the till itself: the moment at which it was opened, in milliseconds.
            ("till_order_id", wire::id(&order["date_start"])),
            ("status", tree::text(&order["status"])),
            ("sum", paid.map(main)),
            ("eligible_sum", money.map(main)),
            ("currency", self.currency.as_ref().map(|currency| currency.to_ascii_uppercase())),
            ("customer", client),
            ("card_number", tree::text(&order["card_number"]).filter(|card| card != "0")),
            ("spot_id", spot),
            ("type", tree::integer(&order["service_mode"]).and_then(service).map(str::to_owned)),
            ("staff", tree::text(&order["name"])),
        ]);
        data["sum_minor"] = json!(paid);
        data["eligible_sum_minor"] = json!(money);
        data["bonus_minor"] = json!(minor(&order["payed_bonus"]));
        let lines = order["products"].as_array().map_or(&[][..], Vec::as_slice).iter().take(LINES_MAX);
        data["items"] = lines
            .map(|line| {
                json!({ "product_id": wire::id(&line["product_id"]), "count": tree::decimal(&line["num"]), "sum_minor": minor(&line["payed_sum"]) })
            })
            .collect();
        data
    }
}

/// How an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Closed,
    /// The guest has left, it was on the house, the waiter was mistaken.
    Unpaid,
    /// Its receipt was taken back.
    Returned,
    Removed,
}

impl State {
    pub(super) fn of(order: &Value) -> Self {
        let number = |name: &str| tree::integer(&order[name]);
        match (number("status"), number("processing_status")) {
            (Some(3), _) | (_, Some(70)) => Self::Removed,
            _ if number("print_fiscal") == Some(2) => Self::Returned,
            (Some(2), _) | (_, Some(60)) if number("pay_type") == Some(0) => Self::Unpaid,
            (Some(2), _) | (_, Some(60)) => Self::Closed,
            _ => Self::Open,
        }
    }
}

/// A sum in kopecks, whole or with zeros behind a point.
fn minor(value: &Value) -> Option<i64> {
    let sum: Decimal = tree::decimal(value)?.parse().ok()?;
    sum.is_integer().then(|| i64::try_from(sum).ok())?
}

/// The same in main units.
fn main(minor: i64) -> String {
    Decimal::new(minor, 2).normalize().to_string()
}

fn service(mode: i64) -> Option<&'static str> {
    match mode {
        1 => Some("in_house"),
        2 => Some("take_away"),
        3 => Some("delivery"),
        _ => None,
    }
}

/// An order or a reservation that was made outside the till.
fn incoming(order: &Value, told_type: &Value) -> Result<Happening, String> {
    let id = wire::id(&order["incoming_order_id"]).ok_or("no incoming_order_id: nothing follows")?;
    let reservation = [&order["type"], told_type].into_iter().find_map(tree::integer) == Some(2);
    let status = tree::text(&order["status"]);
    let (kind, key) = match (reservation, status.as_deref()) {
        (true, _) => {
            let version = tree::text(&order["updated_at"]).or_else(|| status.clone()).unwrap_or_default();
            (kind::RESERVATION_CHANGED, format!("reservation/{id}/{version}"))
        }
        (false, Some("7")) => (kind::ORDER_CANCELLED, format!("incoming_order/{id}/cancelled")),
        (false, status) => {
            let status = status.unwrap_or("-");
            return Err(format!("incoming order {id} has status {status}: what is sold of it is told of as an order"));
        }
    };
    Ok(Happening {
        key: Some(key),
        kind,
        subject: format!("incoming_order/{id}"),
        at: None,
        person: Person {
            name: tree::text(&order["first_name"]),
            phones: tree::phones(order, &[&["phone"]]),
            emails: tree::emails(order, &[&["email"]]),
        },
        refs: [Some(id.clone()), wire::id(&order["transaction_id"])].into_iter().flatten().collect(),
        data: tree::object([
            ("incoming_order_id", Some(id)),
            ("status", status),
            ("order_id", wire::id(&order["transaction_id"])),
            ("customer", wire::id(&order["client_id"])),
            ("spot_id", wire::id(&order["spot_id"])),
            ("guests", tree::text(&order["guests_count"])),
            ("start", tree::text(&order["date_reservation"])),
        ]),
        look_up: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_stands_as_its_numbers_say() {
        let state = |order: Value| State::of(&order);
        assert_eq!(state(json!({ "status": "1", "pay_type": "0" })), State::Open);
        assert_eq!(state(json!({ "status": "2", "pay_type": "3" })), State::Closed);
        assert_eq!(state(json!({ "status": 2, "pay_type": 0, "reason": 1 })), State::Unpaid);
        assert_eq!(state(json!({ "status": "2", "pay_type": "1", "print_fiscal": "2" })), State::Returned);
        assert_eq!(state(json!({ "status": "3", "pay_type": "1" })), State::Removed);
        assert_eq!(state(json!({ "status": "1", "processing_status": "60", "pay_type": "1" })), State::Closed);
        assert_eq!(state(json!({ "status": "2", "processing_status": "70", "pay_type": "1" })), State::Removed);
        assert_eq!(state(json!([])), State::Open);
    }

    #[test]
    fn sums_are_whole_kopecks() {
        assert_eq!((minor(&json!("2750")), minor(&json!(2750)), minor(&json!("2750.00"))), (Some(2750), Some(2750), Some(2750)));
        assert_eq!((minor(&json!("27.5")), minor(&json!("")), minor(&json!(null)), minor(&json!([]))), (None, None, None, None));
        assert_eq!((main(2750), main(5), main(0)), ("27.5".to_owned(), "0.05".to_owned(), "0".to_owned()));
    }
}
