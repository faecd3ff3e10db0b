//! The methods of the API, as far as a till's orders and guests go.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value, json};

use super::{State, fields, fine, refused};
use crate::wire::{self, Answer, Call};

/// Whether a member holds this id, as a number or as a text.
fn has(item: &Value, name: &str, id: Option<i64>) -> bool {
    id.is_some() && wire::number(item.get(name)) == id
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn yes(call: &Call, name: &str) -> bool {
    call.asked(name).is_some_and(|value| value == "true" || value == "1")
}

/// The order as one of these methods tells it.
fn shown(order: &Value, call: &Call) -> Value {
    let mut order = order.clone();
    if let Some(members) = order.as_object_mut() {
        for (member, asked) in
            [("products", "include_products"), ("history", "include_history"), ("delivery", "include_delivery")]
        {
            if !yes(call, asked) {
                members.remove(member);
            }
        }
    }
    order
}

/// Texts that hold numbers, as numbers.
fn numbers(mut value: Value) -> Value {
    for member in value.as_object_mut().into_iter().flat_map(|members| members.values_mut()) {
        match wire::number(Some(member)) {
            Some(number) => *member = json!(number),
            None if member.is_array() => {
                let items = member.as_array_mut().into_iter().flatten();
                items.for_each(|item| *item = numbers(item.take()));
            }
            None => {}
        }
    }
    value
}

impl State {
    pub(super) fn api(&mut self, method: &str, name: &str, call: &Call) -> Answer {
        match (method, name) {
            ("GET", "dash.getTransaction") => self.transaction(call),
            ("GET", "dash.getTransactions") => self.transactions(call),
            ("GET", "dash.getTransactionProducts") => self.part(call, "products"),
            ("GET", "dash.getTransactionHistory") => self.part(call, "history"),
            ("GET", "transactions.getTransactions") => self.pages(call),
            ("GET", "clients.getClient") => self.client(call),
            ("GET", "clients.getClients") => self.clients(call),
            ("POST", "clients.createClient") => self.create_client(&fields(call)),
            ("POST", "clients.updateClient") => self.update_client(&fields(call)),
            ("POST", "clients.removeClient") => self.remove_client(&fields(call)),
            ("POST", "clients.changeClientBonus") => self.change_bonus(&fields(call)),
            ("GET", "incomingOrders.getIncomingOrder") => {
                let id = wire::number(call.asked("incoming_order_id").map(Value::String).as_ref());
                match self.incoming_orders.iter().find(|order| has(order, "incoming_order_id", id)) {
                    Some(order) => fine(order),
                    None => fine(&json!(false)),
                }
            }
            ("GET", "incomingOrders.getIncomingOrders") => fine(&json!(self.incoming_orders)),
            ("POST", "incomingOrders.createIncomingOrder") => self.create_order(&fields(call)),
            ("POST", "transactions.closeTransaction") => self.change(&fields(call), |order| {
                order["status"] = json!("2");
                order["date_close"] = json!(wire::now_ms().to_string());
            }),
            ("POST", "transactions.removeTransaction") => self.change(&fields(call), |order| order["status"] = json!("3")),
            ("POST", "transactions.changeFiscalStatus") => self.change(&fields(call), |order| order["print_fiscal"] = json!("2")),
            ("GET", "access.getSpots") => fine(&json!(self.spots)),
            ("GET", "access.getTablets") => fine(&json!([{"tablet_id": "1", "tablet_name": "Касса", "spot_id": "1"}])),
            ("GET", "settings.getAllSettings") => fine(&json!({
                "COMPANY_ID": self.settings.account, "company_name": "Кофейня на Примерной", "company_type": "1",
                "timezones": self.settings.time_zone, "lang": "ru",
                "currency": {"currency_id": "1", "currency_name": self.settings.currency, "currency_code": self.settings.currency,
                    "currency_symbol": "¤", "currency_code_iso": self.settings.currency},
            })),
            _ => refused(30, "Unknown method"),
        }
    }

    fn find(&self, call: &Call) -> Option<&Value> {
        let id = wire::number(call.asked("transaction_id").map(Value::String).as_ref());
        self.transactions.iter().find(|order| has(order, "transaction_id", id))
    }

    fn transaction(&mut self, call: &Call) -> Answer {
        if call.asked("transaction_id").is_none_or(|id| id.is_empty()) {
            return refused(34, "transaction_id is empty");
        }
        let Some(order) = self.find(call) else { return fine(&json!([])) };
        let mut order = shown(order, call);
        if self.settings.reads_behind > 0 {
            self.settings.reads_behind -= 1;
            (order["status"], order["date_close"], order["print_fiscal"]) = (json!("1"), json!("0"), json!("0"));
        }
        fine(&json!([order]))
    }

    /// Orders of days, in the account's own zone.
    fn transactions(&self, call: &Call) -> Answer {
        let zone = TimeZone::get(&self.settings.time_zone).unwrap_or(TimeZone::UTC);
        let date = |text: String| jiff::civil::Date::strptime("%Y%m%d", text).ok();
        let today = Timestamp::now().to_zoned(zone.clone()).date();
        let first = call.asked("dateFrom").map_or(Some(today), date);
        let last = call.asked("dateTo").map_or(Some(today), date);
        let (Some(first), Some(last)) = (first, last) else { return refused(155, "Bad date") };
        if first.until(last).is_ok_and(|span| span.get_days() > 2) {
            return refused(52, "The range of dates is above 3 days");
        }
        let status = wire::number(call.asked("status").map(Value::String).as_ref()).filter(|status| *status > 0);
        let fits = |order: &&Value| {
            let moment =
                ["date_close", "date_start"].into_iter().filter_map(|name| wire::number(order.get(name))).find(|ms| *ms > 0);
            let day = moment.and_then(|ms| Timestamp::from_millisecond(ms).ok()).map(|at| at.to_zoned(zone.clone()).date());
            day.is_some_and(|day| first <= day && day <= last) && (status.is_none() || has(order, "status", status))
        };
        let orders: Vec<Value> = self.transactions.iter().filter(fits).map(|order| shown(order, call)).collect();
        fine(&json!(orders))
    }

    fn part(&self, call: &Call, name: &str) -> Answer {
        let order = self.find(call);
        fine(order.map(|order| &order[name]).filter(|part| part.is_array()).unwrap_or(&json!([])))
    }

    /// The same orders as pages, with numbers for numbers.
    fn pages(&self, call: &Call) -> Answer {
        let asked = |name: &str, otherwise: i64| {
            let given = wire::number(call.asked(name).map(Value::String).as_ref());
            usize::try_from(given.unwrap_or(otherwise)).unwrap_or(1).max(1)
        };
        let (per_page, page) = (asked("per_page", 100).min(1_000), asked("page", 1));
        let data: Vec<Value> =
            self.transactions.iter().skip((page - 1) * per_page).take(per_page).cloned().map(numbers).collect();
        fine(
            &json!({"count": self.transactions.len(), "page": {"per_page": per_page, "page": page, "count": data.len()}, "data": data}),
        )
    }

    fn client(&self, call: &Call) -> Answer {
        let id = wire::number(call.asked("client_id").map(Value::String).as_ref());
        let found: Vec<&Value> = self.clients.iter().filter(|client| has(client, "client_id", id)).collect();
        fine(&json!(found))
    }

    fn clients(&self, call: &Call) -> Answer {
        let phone = call.asked("phone").map(|phone| digits(&phone));
        let fits = |client: &&Value| {
            let known = client["phone_number"].as_str().map(digits).unwrap_or_default();
            phone.as_ref().is_none_or(|phone| *phone == known)
        };
        let asked = |name: &str| wire::number(call.asked(name).map(Value::String).as_ref()).and_then(|n| usize::try_from(n).ok());
        let (offset, num) = (asked("offset").unwrap_or(0), asked("num").unwrap_or(usize::MAX));
        let found: Vec<&Value> = self.clients.iter().filter(fits).skip(offset).take(num).collect();
        fine(&json!(found))
    }

    fn client_of(&mut self, given: &Map<String, Value>) -> Option<&mut Value> {
        let id = wire::number(given.get("client_id"));
        self.clients.iter_mut().find(|client| has(client, "client_id", id))
    }

    fn create_client(&mut self, given: &Map<String, Value>) -> Answer {
        let text = |name: &str| given.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        for name in ["client_name", "client_groups_id_client"] {
            if text(name).is_none_or(|value| value.is_empty()) {
                return refused(34, &format!("{name} is empty"));
            }
        }
        let phone = text("phone").unwrap_or_default();
        let same = |client: &Value| client["phone_number"].as_str().is_some_and(|known| known == digits(&phone));
        if !phone.is_empty() && self.clients.iter().any(same) {
            return refused(99, "A client with this phone exists");
        }
        let id = 4082 + self.clients.len();
        self.clients.push(json!({
            "client_id": id.to_string(), "firstname": text("client_name"), "lastname": "", "phone": phone, "phone_number": digits(&phone),
            "email": text("email").unwrap_or_default(), "client_groups_id": text("client_groups_id_client"), "bonus": "0",
            "card_number": text("card_number").unwrap_or_default(), "birthday": "0000-00-00", "loyalty_type": "1", "delete": "0",
        }));
        fine(&json!(id))
    }

    fn update_client(&mut self, given: &Map<String, Value>) -> Answer {
        let Some(client) = self.client_of(given) else { return refused(32, "Client was not found") };
        for (name, value) in given.iter().filter(|(name, _)| *name != "client_id") {
            let name = if name == "client_name" { "firstname" } else { name.as_str() };
            client[name] = value.clone();
        }
        fine(&json!(wire::number(given.get("client_id"))))
    }

    fn remove_client(&mut self, given: &Map<String, Value>) -> Answer {
        let id = wire::number(given.get("client_id"));
        let before = self.clients.len();
        self.clients.retain(|client| !has(client, "client_id", id));
        if self.clients.len() < before { fine(&json!(true)) } else { refused(32, "Client was not found") }
    }

    fn change_bonus(&mut self, given: &Map<String, Value>) -> Answer {
        let Some(count) = wire::number(given.get("count")) else { return refused(34, "count is empty") };
        let Some(client) = self.client_of(given) else { return refused(32, "Client was not found") };
        if wire::number(client.get("loyalty_type")) != Some(1) {
            return refused(153, "The client's group has no points");
        }
        // Balances are shown in kopecks, changes in main units.
        let bonus = wire::number(client.get("bonus")).unwrap_or(0) + count * 100;
        client["bonus"] = json!(bonus.to_string());
        fine(&json!(bonus / 100))
    }

    fn create_order(&mut self, given: &Map<String, Value>) -> Answer {
        let whom = given.get("client_id").or_else(|| given.get("phone"));
        let has_products = given.get("products").and_then(Value::as_array).is_some_and(|products| !products.is_empty());
        if given.get("spot_id").is_none() || whom.is_none() || !has_products {
            return refused(49, "A required field is missing");
        }
        let spot = wire::number(given.get("spot_id"));
        if !self.spots.iter().any(|known| has(known, "spot_id", spot)) {
            return refused(50, "Spot was not found");
        }
        let id = 7 + self.incoming_orders.len();
        let phone = given.get("phone").and_then(Value::as_str).map(digits);
        let order = json!({
            "incoming_order_id": id, "type": 1, "spot_id": spot, "status": 0, "client_id": wire::number(given.get("client_id")).unwrap_or(0),
            "first_name": given.get("first_name"), "last_name": given.get("last_name"), "phone": phone, "comment": given.get("comment"),
            "transaction_id": null, "products": given.get("products"),
        });
        self.incoming_orders.push(order.clone());
        fine(&order)
    }

    /// A change of an order: these methods word their refusals in the answer itself.
    fn change(&mut self, given: &Map<String, Value>, change: impl FnOnce(&mut Value)) -> Answer {
        let id = wire::number(given.get("transaction_id"));
        let code = match self.transactions.iter_mut().find(|order| has(order, "transaction_id", id)) {
            Some(order) => {
                change(order);
                0
            }
            None => 42,
        };
        fine(&json!({ "err_code": code }))
    }
}
