//! The demo's day: bodies as the providers send them, and what must come of them.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::Scene;

/// Each of these phones gets exactly one text.
pub(super) const EXPECTED: &[&str] = &[
    "79991110001", // café: delivered, repeated, then closed
    "79991110003", // café: two overlapping arrays …
    "79991110004",
    "79991110005",
    "79991120001", // restaurant: done
    "79991120002", // restaurant: delivered, with an earlier status arriving later
    "79991130001", // salon: came, told four times
    "79991140001", // shop: won, phone asked for by API
    "79991140002", // shop: the second deal of one body
];

/// Why texts were held back, and how many.
pub(super) const HELD: &[(&str, u64)] = &[("asked_recently", 1), ("cancelled", 1), ("not_mobile", 1)];

pub(super) struct Deals {
    pub leads: Value,
    pub contacts: Value,
}

/// What amoCRM's stand-in knows.
pub(super) fn deals() -> Deals {
    let lead = |id: i64, contact: i64| json!({ "id": id, "status_id": 142, "_embedded": { "contacts": [{ "id": contact, "is_main": true }] } });
    let contact = |id: i64, phone: &str| {
        json!({ "id": id, "name": "Анна", "custom_fields_values": [
            { "field_code": "PHONE", "field_name": "Телефон", "values": [{ "value": phone, "enum_code": "MOB" }] }] })
    };
    Deals {
        leads: json!([lead(9001, 501), lead(9002, 502)]),
        contacts: json!([contact(501, "8 (999) 114-00-01"), contact(502, "+7 999 114-00-02, доб. 5")]),
    }
}

pub(super) fn scenes(now: Timestamp) -> Vec<Scene> {
    let mut scenes = cafe(now);
    scenes.extend(restaurant());
    scenes.extend(salon(now));
    scenes.extend(shop());
    scenes
}

fn posted(provider: &'static str, body: &Value) -> Scene {
    Scene { provider, content_type: "application/json", body: body.to_string() }
}

fn cafe(now: Timestamp) -> Vec<Scene> {
    let time = now.strftime("%Y-%m-%d %H:%M:%S.000").to_string();
    let event = |order: u32, status: &str, phone: &str| {
        json!({
            "eventType": "DeliveryOrderUpdate", "eventTime": time,
            "organizationId": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9", "correlationId": format!("00000000-0000-4000-8000-{order:012}"),
            "eventInfo": {
                "id": format!("11111111-0000-4000-8000-{order:012}"), "organizationId": "7bc05553-4b68-44e8-b7bc-37be63c6d9e9",
                "timestamp": now.as_millisecond(), "creationStatus": "Success", "errorInfo": null,
                "order": {
                    "phone": phone, "customer": { "type": "one-time", "name": "Иван" }, "status": status, "number": order,
                    "sum": 1520.5, "items": [], "courierInfo": { "courier": { "id": "c", "name": "Пётр", "phone": "+79995550000" } }
                }
            }
        })
    };
    let first = json!([event(1, "Delivered", "+79991110001")]);
    vec![
        posted("iiko", &json!([event(1, "OnWay", "+79991110001")])),
        posted("iiko", &first),
        posted("iiko", &first),
        posted("iiko", &json!([event(1, "Closed", "+79991110001")])),
        // Cancelled before the text is due.
        posted("iiko", &json!([event(2, "Delivered", "+79991110002")])),
        posted("iiko", &json!([event(2, "Cancelled", "+79991110002")])),
        posted("iiko", &json!([event(3, "Closed", "+79991110003"), event(4, "Closed", "+79991110004")])),
        posted("iiko", &json!([event(4, "Closed", "+79991110004"), event(5, "Closed", "+79991110005")])),
        // A landline takes no SMS.
        posted("iiko", &json!([event(6, "Delivered", "+7 (812) 123-45-67")])),
        // Nobody to write to; the courier is not the guest.
        posted("iiko", &json!([event(7, "Delivered", "")])),
    ]
}

fn restaurant() -> Vec<Scene> {
    let push =
        |id: u32, status: &str, phone: &str| json!({ "order": { "id": id, "status": status, "customer": { "phone": phone } } });
    vec![
        posted("rkeeper", &push(1, "Готовится", "79991120001")),
        posted("rkeeper", &push(1, "ВЫПОЛНЕН", "8 999 112 00 01")),
        posted("rkeeper", &push(2, "Доставлен", "79991120002")),
        posted("rkeeper", &push(2, "Собран", "79991120002")),
        posted("rkeeper", &push(3, "Отменён", "79991120003")),
        // A number of another country: SMS.ru refuses it.
        posted("rkeeper", &push(4, "Выполнен", "998901234567")),
    ]
}

fn salon(now: Timestamp) -> Vec<Scene> {
    let local = now.to_zoned(TimeZone::get("Europe/Moscow").unwrap_or(TimeZone::UTC));
    let datetime = local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let record = |id: u32, attendance: i32, deleted: bool, phone: &str| {
        json!({
            "company_id": 4564, "resource": "record", "resource_id": id, "status": "update",
            "data": {
                "id": id, "company_id": 4564, "visit_id": id + 50_000, "visit_attendance": attendance, "attendance": attendance,
                "deleted": deleted, "datetime": datetime, "client": { "id": 789, "name": "Мария", "phone": phone },
                "services": [{ "id": 1, "title": "Стрижка", "cost": 1500 }], "staff": { "id": 9, "name": "Анна" }, "custom_fields": []
            }
        })
    };
    let came = record(1, 1, false, "+79991130001");
    vec![
        posted("yclients", &record(1, 2, false, "+79991130001")),
        posted("yclients", &came),
        posted("yclients", &came),
        posted("yclients", &came),
        posted("yclients", &came),
        posted("yclients", &record(2, -1, false, "+79991130002")),
        posted("yclients", &record(3, 1, true, "+79991130003")),
        // The café's guest had a haircut, too: asked once is enough.
        posted("yclients", &record(4, 1, false, "+79991110001")),
    ]
}

fn shop() -> Vec<Scene> {
    let form = |leads: &[(u32, u32)]| {
        let mut body = String::from("account[subdomain]=example&account[id]=9931001");
        for (place, (id, status)) in leads.iter().enumerate() {
            body.push_str(&format!(
                "&leads[status][{place}][id]={id}&leads[status][{place}][status_id]={status}&leads[status][{place}][price]="
            ));
        }
        Scene { provider: "amocrm", content_type: "application/x-www-form-urlencoded", body }
    };
    vec![form(&[(9001, 142)]), form(&[(9003, 143), (9002, 142)]), form(&[(9001, 142)]), form(&[(9004, 9_931_852)])]
}
