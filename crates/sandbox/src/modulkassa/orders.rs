//! Orders that a till hands out.

use serde_json::{Value, json};

use super::{State, brings};
use crate::wire::{self, Answer, Call};

impl State {
    pub(super) fn order(&mut self, call: &Call, point: &str, rest: &[&str]) -> Answer {
        if !brings(call, &self.settings.orders_login, &self.settings.orders_password) {
            return Answer::empty(401);
        }
        if point != self.settings.retail_point_id {
            return Answer::empty(404);
        }
        let place = |orders: &[Value], id: &str| orders.iter().position(|order| order["id"] == *id);
        match (call.method.as_str(), rest) {
            ("GET", []) => Answer::json(200, &json!({"data": self.orders, "pos": 0, "total_count": self.orders.len()})),
            ("GET", [id]) => match place(&self.orders, id) {
                Some(found) => Answer::json(200, &self.orders[found]),
                None => Answer::empty(404),
            },
            ("POST", []) => {
                let Some(mut order) = call.json().filter(is_good) else { return Answer::empty(400) };
                if self.orders.iter().any(|known| known["documentNumber"] == order["documentNumber"]) {
                    return Answer::empty(409);
                }
                order["id"] = json!(wire::uuid());
                self.orders.push(order.clone());
                Answer::json(200, &order)
            }
            ("PUT", []) => {
                let Some(order) = call.json().filter(is_good) else { return Answer::empty(400) };
                match place(&self.orders, order["id"].as_str().unwrap_or_default()) {
                    Some(found) => {
                        self.orders[found] = order.clone();
                        Answer::json(200, &order)
                    }
                    None => Answer::empty(404),
                }
            }
            ("DELETE", [id]) => match place(&self.orders, id) {
                Some(found) => {
                    self.orders.remove(found);
                    Answer::empty(200)
                }
                None => Answer::empty(404),
            },
            _ => Answer::empty(404),
        }
    }
}

fn is_good(order: &Value) -> bool {
    let filled = |name: &str| order[name].as_str().is_some_and(|text| !text.is_empty());
    let kind = ["SALE", "RETURN"].iter().any(|kind| order["documentType"] == **kind);
    let line = |line: &Value| line["price"].is_number() && line["quantity"].is_number() && line["measure"].is_string();
    let lines = order["inventPositions"].as_array();
    filled("documentNumber") && filled("documentDateTime") && kind && lines.is_some_and(|lines| lines.iter().all(line))
}
