//! Reading events: what each says of an order, a reservation or a stop list, and whom not to write to.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Value, json};
use uzel_model::{Happening, Person, event::kind};

use super::Iiko;
use crate::tree;

impl Iiko {
    /// What one event says, or why nothing follows from it.
    pub(super) fn read(&self, event: &Value) -> Result<Happening, String> {
        if !event.is_object() {
            return Err("not an event: an object was expected".to_owned());
        }
        if event["iikoOrderDetails"].is_object() {
            return self.source_order(event);
        }
        match event["eventType"].as_str() {
            Some("DeliveryOrderUpdate") | None => self.order(event, false),
            Some("TableOrderUpdate") => self.order(event, true),
            Some("ReserveUpdate") => reserve(event),
            Some("StopListUpdate") => stop_list(event),
            Some(name @ ("DeliveryOrderError" | "TableOrderError" | "ReserveError")) => {
                let error = &event["eventInfo"]["errorInfo"];
                let code = tree::text(&error["code"]).unwrap_or_default();
                let said = tree::text(&error["message"]).unwrap_or_default();
                Err(format!("{name} {code} {said}: iiko could not carry out a command, nothing follows"))
            }
            Some(name) => Err(format!("{name}: events of this type are not read")),
        }
    }

    fn order(&self, event: &Value, table: bool) -> Result<Happening, String> {
        let info = &event["eventInfo"];
        let nested = [&info["order"], &event["order"], &event["deliveryOrder"]].into_iter().find(|order| order.is_object());
        let order = nested.or(Some(event).filter(|event| event["status"].is_string()));
        if let Some(made) = tree::text(&info["creationStatus"]).filter(|made| made != "Success") {
            return Err(format!("creationStatus {made}: the order does not stand yet, nothing follows"));
        }
        let order = order.ok_or("no order in the body: nothing follows")?;
        let status = tree::text(&order["status"]).ok_or("no status in the order: nothing follows")?;
        let gone = tree::flag(&order["isDeleted"]);
        let (kind, word) = match status.as_str() {
            _ if gone => (kind::ORDER_CANCELLED, "cancelled"),
            "Delivered" | "Closed" | "Finished" => (kind::ORDER_COMPLETED, "completed"),
            "Cancelled" | "Deleted" => (kind::ORDER_CANCELLED, "cancelled"),
            _ => return Err(format!("status {status} is not final: nothing follows")),
        };
        if kind == kind::ORDER_COMPLETED
            && let Some(why) = self.unwelcome(order)
        {
            return Err(why);
        }
        let organization = organization(event);
        let id = [&info["id"], &order["id"]].into_iter().find_map(uuid);
        let phones = tree::phones(event, PHONES);
        let customer = uuid(&order["customer"]["id"]);
        let what = if table { customer.map(|id| ("customer", id)) } else { id.clone().map(|id| ("order", id)) };
        let look_up = what.filter(|_| kind == kind::ORDER_COMPLETED && phones.iter().all(tree::is_blank));
        let number = tree::text(&order["number"]);
        let mut data = tree::object([
            ("status", Some(if gone { "Deleted".to_owned() } else { status })),
            ("sum", tree::decimal(&order["sum"])),
            ("number", number.clone()),
            ("type", Some(if table { "table" } else { "delivery" }.to_owned())),
            ("order_type", tree::text(&order["orderType"]["name"])),
            ("restaurant", tree::text(&order["conception"]["name"])),
            ("source", tree::text(&order["sourceKey"])),
            ("cancel_cause", tree::text(&order["cancelInfo"]["cause"]["name"])),
            ("staff", tree::text(&order["waiter"]["name"])),
        ]);
        data["items"] = json!(items(order));
        Ok(Happening {
            key: key(&organization, &id, word),
            kind,
            subject: format!("order/{}", id.as_deref().unwrap_or("-")),
            at: utc(&event["eventTime"]),
            person: Person { name: name(event, order), phones, emails: tree::emails(order, &[&["customer", "email"]]) },
            refs: number.into_iter().chain(tree::text(&info["externalNumber"])).chain(id).collect(),
            data,
            look_up: look_up.and_then(|(name, id)| self.asked(name, &id, organization.as_deref())),
        })
    }

    /// The older road: notifications of an order source (SOI), which name no guest.
    fn source_order(&self, event: &Value) -> Result<Happening, String> {
        let details = &event["iikoOrderDetails"];
        let status = tree::text(&details["orderStatus"]).ok_or("no orderStatus in the body: nothing follows")?;
        let (kind, word) = match status.to_ascii_uppercase().as_str() {
            "DELIVERED" | "CLOSED" => (kind::ORDER_COMPLETED, "completed"),
            "CANCELLED" | "CANCELED" => (kind::ORDER_CANCELLED, "cancelled"),
            _ => return Err(format!("status {status} is not final: nothing follows")),
        };
        let completed = kind == kind::ORDER_COMPLETED;
        if completed && self.skip_problem_orders && !tree::is_blank(&details["problem"]) {
            return Err("the order has a problem: nobody is asked for a review".to_owned());
        }
        let organization = uuid(&event["transactionDetails"]["organizationId"]);
        let id = uuid(&details["iikoOrderId"]);
        let number = tree::text(&details["iikoOrderNumber"]);
        let external = tree::text(&event["orderExternalId"]);
        let key = key(&organization, &id, word)
            .or_else(|| Some(format!("order/{}/external/{}/{word}", organization.as_deref().unwrap_or("-"), external.as_ref()?)));
        let look_up = id.as_ref().filter(|_| completed);
        let look_up = look_up.and_then(|id| self.asked("order", id, organization.as_deref()));
        Ok(Happening {
            key,
            kind,
            subject: format!("order/{}", id.as_ref().or(external.as_ref()).map_or("-", String::as_str)),
            at: None,
            person: Person::default(),
            data: tree::object([
                ("status", Some(status)),
                ("sum", tree::decimal(&details["orderAmount"])),
                ("number", number.clone()),
                ("type", Some("delivery".to_owned())),
                ("order_type", tree::text(&details["orderType"])),
                ("restaurant", tree::text(&details["restaurantName"])),
            ]),
            refs: number.into_iter().chain(external).chain(id).collect(),
            look_up,
        })
    }

    /// The words of a look-up, where the hub may ask and knows whom.
    fn asked(&self, name: &str, id: &str, organization: Option<&str>) -> Option<Value> {
        let organization = organization.or(self.organization_id.as_deref())?;
        self.may_ask().then(|| json!({ name: id, "organization": organization }))
    }

    /// Why the guest of an order is not to be written to.
    pub(super) fn unwelcome(&self, order: &Value) -> Option<String> {
        if self.skip_problem_orders && tree::flag(&order["problem"]["hasProblem"]) {
            let said = tree::text(&order["problem"]["description"]).map_or(String::new(), |said| format!(" ({said})"));
            return Some(format!("the order has a problem{said}: nobody is asked for a review"));
        }
        if self.skip_blacklisted && tree::flag(&order["customer"]["inBlacklist"]) {
            return Some("the guest is in the restaurant's black list".to_owned());
        }
        let payments = order["payments"].as_array().map_or(&[][..], Vec::as_slice);
        let places = [&order["sourceKey"], &order["orderType"]["name"], &order["marketingSource"]["name"]];
        let one_time = Some(&order["customer"]["name"]).filter(|_| order["customer"]["type"].as_str() == Some("one-time"));
        let names = places.into_iter().chain(one_time).chain(payments.iter().map(|payment| &payment["paymentType"]["name"]));
        let known: Vec<String> = self.aggregators.iter().map(|name| name.trim().to_lowercase()).collect();
        names
            .filter_map(tree::text)
            .find(|name| known.iter().any(|known| !known.is_empty() && name.to_lowercase().contains(known)))
            .map(|name| format!("an order of an aggregator ({name}): its phone is not the guest's"))
    }
}

/// Where the guest's phone stands: the service's own places first, then those that integrations were seen to use. Phones
/// of couriers, waiters and operators stand elsewhere and are never read.
const PHONES: &[&[&str]] = &[
    &["eventInfo", "order", "phone"],
    &["eventInfo", "order", "customer", "phone"],
    &["eventInfo", "reserve", "phone"],
    &["order", "phone"],
    &["order", "customer", "phone"],
    &["deliveryOrder", "customer", "phone"],
    &["deliveryOrder", "phone"],
    &["customer", "phone"],
    &["phone"],
];

fn organization(event: &Value) -> Option<String> {
    uuid(&event["organizationId"]).or_else(|| uuid(&event["eventInfo"]["organizationId"]))
}

fn key(organization: &Option<String>, id: &Option<String>, word: &str) -> Option<String> {
    Some(format!("order/{}/{}/{word}", organization.as_deref().unwrap_or("-"), id.as_ref()?))
}

pub(super) fn uuid(value: &Value) -> Option<String> {
    tree::text(value).filter(|id| id.len() <= 100).map(|id| id.to_ascii_lowercase())
}

fn name(event: &Value, order: &Value) -> Option<String> {
    let places = [&order["customer"]["name"], &event["customer"]["name"]];
    places.into_iter().find_map(tree::text)
}

fn items(order: &Value) -> Vec<String> {
    let items = order["items"].as_array().map_or(&[][..], Vec::as_slice);
    let left = items.iter().filter(|item| tree::is_blank(&item["deleted"]) || item["deleted"] == Value::Bool(false));
    left.filter_map(|item| {
        let parts = [&item["product"]["name"], &item["primaryComponent"]["product"]["name"], &item["service"]["name"]];
        parts.into_iter().find_map(tree::text)
    })
    .take(50)
    .collect()
}

/// A time of iiko: UTC where it names no zone.
fn utc(time: &Value) -> Option<Timestamp> {
    let text = tree::text(time)?;
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

fn reserve(event: &Value) -> Result<Happening, String> {
    let info = &event["eventInfo"];
    let reserve = &info["reserve"];
    if !reserve.is_object() {
        let made = tree::text(&info["creationStatus"]).unwrap_or_default();
        return Err(format!("no reserve in the body (creationStatus {made}): nothing follows"));
    }
    let id = uuid(&info["id"]);
    let moment = [&info["timestamp"], &event["correlationId"], &event["eventTime"]].into_iter().find_map(tree::text);
    let deleted = tree::flag(&info["isDeleted"]);
    let status = if deleted { Some("Deleted".to_owned()) } else { tree::text(&reserve["status"]) };
    Ok(Happening {
        key: id.as_ref().zip(moment).map(|(id, moment)| format!("reserve/{id}/{moment}")),
        kind: kind::RESERVATION_CHANGED,
        subject: format!("reserve/{}", id.as_deref().unwrap_or("-")),
        at: utc(&event["eventTime"]),
        person: Person {
            name: tree::text(&reserve["customer"]["name"]),
            phones: tree::phones(event, PHONES),
            emails: tree::emails(reserve, &[&["customer", "email"]]),
        },
        refs: tree::text(&info["externalNumber"]).into_iter().chain(id).collect(),
        data: tree::object([
            ("status", status),
            ("guests", tree::text(&reserve["guestsCount"])),
            ("start", tree::text(&reserve["estimatedStartTime"])),
            ("cancel_reason", tree::text(&reserve["cancelReason"])),
        ]),
        look_up: None,
    })
}

fn stop_list(event: &Value) -> Result<Happening, String> {
    let organization = organization(event);
    let groups = event["eventInfo"]["terminalGroupsStopListsUpdates"].as_array().map_or(&[][..], Vec::as_slice);
    let groups: Vec<String> = groups.iter().filter_map(|group| uuid(&group["id"])).collect();
    Ok(Happening {
        key: uuid(&event["correlationId"]).map(|id| format!("stop/{id}")),
        kind: kind::STOCK_CHANGED,
        subject: format!("stop/{}", organization.as_deref().unwrap_or("-")),
        at: utc(&event["eventTime"]),
        person: Person::default(),
        refs: groups.clone(),
        data: json!({ "organization": organization, "terminal_groups": groups }),
        look_up: None,
    })
}

#[cfg(test)]
mod tests {
    use uzel_model::Reading;

    use super::{super::PROVIDER, *};
    use crate::testing;

    const ORG: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

    fn event(kind: &str, order: Value) -> Value {
        json!({ "eventType": kind, "eventTime": "2026-09-14 12:31:14.150", "organizationId": ORG, "correlationId": "c1",
            "eventInfo": { "id": "A-1", "timestamp": 1, "creationStatus": "Success", "order": order } })
    }

    fn read(settings: Value, body: &Value) -> Reading {
        PROVIDER.open(settings).unwrap().parse(&testing::post("application/json", &body.to_string())).unwrap()
    }

    #[test]
    fn delivered_and_closed_are_one_event() {
        let order = |status| {
            json!({ "status": status, "phone": "+79990001122", "sum": 1520.50, "number": 51,
            "operator": { "phone": "+79990009900" }, "courierInfo": { "courier": { "phone": "+79990009901" } } })
        };
        let body = json!([
            event("DeliveryOrderUpdate", order("Delivered")),
            7,
            event("PersonalShift", json!(null)),
            event("DeliveryOrderUpdate", order("Closed")),
            event("DeliveryOrderUpdate", order("OnWay"))
        ]);
        let reading = read(json!({}), &body);
        assert_eq!((reading.happenings.len(), reading.skipped.len()), (2, 3));
        let [one, other] = &reading.happenings[..] else { panic!() };
        assert_eq!(one.key.as_deref(), Some("order/7bc05553-4b68-44e8-b7bc-37be63c6d9e9/a-1/completed"));
        assert_eq!(one.key, other.key);
        assert_eq!(one.person.phones, [json!("+79990001122")]);
        assert_eq!(one.at.unwrap().to_string(), "2026-09-14T12:31:14.15Z");
        assert_eq!((&one.data["sum"], &one.refs[0][..]), (&json!("1520.5"), "51"));
    }

    #[test]
    fn whom_not_to_ask_is_a_setting() {
        let aggregator =
            event("DeliveryOrderUpdate", json!({ "status": "Closed", "phone": "+79280000036", "sourceKey": "yandex_food" }));
        assert!(read(json!({}), &aggregator).skipped[0].contains("aggregator"));
        assert_eq!(read(json!({ "aggregators": [] }), &aggregator).happenings.len(), 1);
        let problem =
            event("DeliveryOrderUpdate", json!({ "status": "Closed", "problem": { "hasProblem": true }, "phone": "1" }));
        assert_eq!(read(json!({}), &problem).happenings.len(), 0);
        assert_eq!(read(json!({ "skip_problem_orders": false }), &problem).happenings.len(), 1);
    }

    #[test]
    fn a_missing_phone_is_looked_up() {
        let table = event(
            "TableOrderUpdate",
            json!({ "status": "Closed", "phone": null, "waiter": { "phone": "+79990009902" },
            "customer": { "type": "regular", "id": "G-1", "name": "Пётр" } }),
        );
        assert_eq!(read(json!({}), &table).happenings[0].look_up, None);
        let happening = &read(json!({ "api_login": "l" }), &table).happenings[0];
        assert_eq!(happening.look_up, Some(json!({ "customer": "g-1", "organization": ORG })));
        assert_eq!(happening.person.phones, [] as [Value; 0]);
        let soi = json!({ "transactionDetails": { "organizationId": ORG }, "iikoOrderDetails": { "iikoOrderId": "A-1", "orderStatus": "DELIVERED" } });
        let happening = &read(json!({ "api_login": "l" }), &soi).happenings[0];
        assert_eq!(happening.look_up, Some(json!({ "order": "a-1", "organization": ORG })));
        assert_eq!(
            happening.key,
            read(json!({}), &event("DeliveryOrderUpdate", json!({ "status": "Closed" }))).happenings[0].key
        );
    }
}
