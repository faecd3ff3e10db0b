//! Reading events: which visit took place, and who came.

use jiff::{Timestamp, civil::DateTime};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uzel_model::{Happening, Person, event::kind};

use super::Yclients;
use crate::tree;

impl Yclients {
    pub(super) fn concerns(&self, event: &Value) -> bool {
        let same = |ours: Option<u64>, theirs: &Value| match (ours, tree::integer(theirs)) {
            (Some(ours), Some(theirs)) => i64::try_from(ours) == Ok(theirs),
            _ => true,
        };
        same(self.application_id, &event["application_id"]) && same(self.company_id, &event["salon_id"])
    }

    /// What one event says, or why nothing follows from it.
    pub(super) fn read(&self, event: &Value) -> Result<Happening, String> {
        if !event.is_object() {
            return Err("not an event: an object was expected".to_owned());
        }
        let resource = &event["resource"];
        if let Some(name) = resource.as_str().filter(|name| *name != "record") {
            return Err(format!("resource {name}: only records are read"));
        }
        let record =
            [&event["data"], resource, &event["record"], event].into_iter().find(|record| record.is_object()).unwrap_or(event);
        let company = tree::text(&event["company_id"]).or_else(|| tree::text(&record["company_id"]));
        let id = tree::text(&record["id"]).or_else(|| tree::text(&event["resource_id"]));
        let visit = tree::text(&record["visit_id"]).filter(|visit| visit != "0");
        let branch = company.as_deref().unwrap_or("-");
        let by_record = |word: &str| Some(format!("record/{branch}/{}/{word}", id.as_ref()?));

        let deleted = tree::flag(&record["deleted"]) || event["status"].as_str() == Some("delete");
        let (kind, key, status) = if deleted {
            (kind::VISIT_CANCELLED, by_record("deleted"), "deleted")
        } else {
            match attendance(record)? {
                Attendance::Came => {
                    let key = visit.as_ref().map(|visit| format!("visit/{branch}/{visit}"));
                    let key = key.or_else(|| by_record("came"));
                    (kind::VISIT_COMPLETED, key, "came")
                }
                Attendance::Missed => (kind::VISIT_CANCELLED, by_record("missed"), "did not come"),
            }
        };

        let client = [&record["client"], &event["resource"]["client"], &event["record"]["client"], &event["client"]]
            .into_iter()
            .find(|client| client.is_object())
            .unwrap_or(&Value::Null);
        let phones = tree::phones(event, PHONES);
        let client_id = tree::text(&client["id"]).filter(|id| id != "0");
        if kind == kind::VISIT_COMPLETED && phones.is_empty() && client_id.is_none() {
            return Err("the client came, but the record names no client (a walk-in)".to_owned());
        }
        let look_up = client_id
            .zip(company.clone())
            .filter(|_| kind == kind::VISIT_COMPLETED && self.may_ask())
            .filter(|_| phones.iter().all(hidden))
            .map(|(client, company)| json!({ "client": client, "company": company }));

        let services = record["services"].as_array().map_or(&[][..], Vec::as_slice);
        let mut data = tree::object([
            ("status", Some(status.to_owned())),
            ("sum", sum(services)),
            ("staff", tree::text(&record["staff"]["name"])),
            ("number", id.clone()),
            ("company", company),
            ("date", tree::text(&record["date"])),
        ]);
        let titles: Vec<String> = services.iter().filter_map(|service| tree::text(&service["title"])).collect();
        data["items"] = json!(titles);
        let subject = match (&visit, &id) {
            (Some(visit), _) => format!("visit/{visit}"),
            (None, Some(id)) => format!("record/{id}"),
            (None, None) => "visit/-".to_owned(),
        };
        Ok(Happening {
            key,
            kind,
            subject,
            at: self.time(record),
            person: Person {
                name: tree::text(&client["name"]).or_else(|| tree::text(&client["display_name"])),
                phones,
                emails: tree::emails(client, &[&["email"]]),
            },
            refs: id.into_iter().chain(visit).collect(),
            data,
            look_up,
        })
    }

    /// The time of the visit: offsets in `datetime` are wrong in some accounts, so local `date` goes first.
    fn time(&self, record: &Value) -> Option<Timestamp> {
        let local = tree::text(&record["date"]).and_then(|date| date.parse::<DateTime>().ok());
        if let (Some(local), Some(zone)) = (local, self.zone()) {
            return local.to_zoned(zone).ok().map(|zoned| zoned.timestamp());
        }
        match &record["datetime"] {
            Value::Number(seconds) => Timestamp::from_second(seconds.as_i64()?).ok(),
            time => tree::text(time)?.parse().ok(),
        }
    }
}

/// What an event of the Marketplace means, if the body is one.
pub(super) fn marketplace(event: &Value) -> Option<String> {
    if tree::is_blank(&event["application_id"]) {
        return None;
    }
    let name = tree::text(&event["event"]).or_else(|| tree::text(&event["event_type"]))?;
    match name.as_str() {
        "uninstall" => Some("the application was removed from the branch in YCLIENTS Marketplace".to_owned()),
        "freeze" => Some("YCLIENTS Marketplace froze the application: it is not paid for".to_owned()),
        _ => None,
    }
}

const PHONES: &[&[&str]] = &[
    &["data", "client", "phone"],
    &["resource", "client", "phone"],
    &["record", "client", "phone"],
    &["client", "phone"],
    &["phone"],
];

/// Whether a phone is absent or masked, as it is for users who may not see phones.
pub(super) fn hidden(phone: &Value) -> bool {
    tree::text(phone).is_none_or(|phone| phone.contains(['*', 'x', 'X', '•']))
}

enum Attendance {
    Came,
    Missed,
}

/// What the record's own mark and the whole visit's say together.
fn attendance(record: &Value) -> Result<Attendance, String> {
    let marks: Vec<i64> = ["attendance", "visit_attendance"].iter().filter_map(|name| tree::integer(&record[*name])).collect();
    if marks.contains(&1) {
        return match marks.contains(&-1) {
            false => Ok(Attendance::Came),
            true => Err("the record and its visit disagree whether the client came: nothing follows".to_owned()),
        };
    }
    match marks.first() {
        Some(-1) if marks.iter().all(|mark| *mark == -1) => Ok(Attendance::Missed),
        Some(-1) => Err("attendance -1 (client did not come): nothing follows".to_owned()),
        Some(0) => Err("attendance 0 (client is awaited): nothing follows".to_owned()),
        Some(2) => Err("attendance 2 (client confirmed): nothing follows".to_owned()),
        Some(other) => Err(format!("attendance {other} is not known: nothing follows")),
        None => Err("no attendance in the body: nothing follows".to_owned()),
    }
}

fn sum(services: &[Value]) -> Option<String> {
    let costs: Vec<Decimal> = services
        .iter()
        .filter_map(|service| tree::decimal(&service["cost_to_pay"]).or_else(|| tree::decimal(&service["cost"])))
        .filter_map(|cost| cost.parse().ok())
        .collect();
    let sum = costs.iter().try_fold(Decimal::ZERO, |sum, cost| sum.checked_add(*cost))?;
    (!costs.is_empty()).then(|| sum.normalize().to_string())
}

#[cfg(test)]
mod tests {
    use uzel_model::Reading;

    use super::{super::PROVIDER, *};
    use crate::testing;

    fn read(settings: Value, body: &Value) -> Reading {
        let request = testing::post("application/json", &body.to_string());
        PROVIDER.open(settings).unwrap().parse(&request).unwrap()
    }

    fn record(more: Value) -> Value {
        let mut record = json!({ "id": 1, "visit_id": "2001", "attendance": 1, "date": "2026-09-14 12:10:00",
            "datetime": "2026-09-14T12:10:00+04:00", "client": { "id": 5, "name": "Мария", "phone": 79990003301u64 } });
        for (name, value) in more.as_object().unwrap() {
            record[name] = value.clone();
        }
        json!({ "company_id": 4564, "resource": "record", "resource_id": 1, "status": "update", "data": record })
    }

    #[test]
    fn attendance_is_read_as_documented() {
        let key = |more| read(json!({}), &record(more)).happenings.first().and_then(|it| it.key.clone());
        assert_eq!(key(json!({})).as_deref(), Some("visit/4564/2001"));
        assert_eq!(key(json!({ "visit_id": null, "attendance": "1" })).as_deref(), Some("record/4564/1/came"));
        assert_eq!(key(json!({ "deleted": 1 })).as_deref(), Some("record/4564/1/deleted"));
        assert_eq!(key(json!({ "attendance": -1 })).as_deref(), Some("record/4564/1/missed"));
        assert_eq!(key(json!({ "visit_attendance": -1 })), None);
        let reading = read(json!({}), &record(json!({ "attendance": 2 })));
        assert_eq!(reading.skipped, ["attendance 2 (client confirmed): nothing follows"]);
        let reading = read(json!({}), &record(json!({ "client": [] })));
        assert_eq!(reading.happenings, []);
    }

    #[test]
    fn the_local_date_goes_before_the_offset() {
        let at = |settings| read(settings, &record(json!({}))).happenings[0].at.unwrap().to_string();
        assert_eq!(at(json!({ "time_zone": "Europe/Moscow" })), "2026-09-14T09:10:00Z");
        assert_eq!(at(json!({})), "2026-09-14T08:10:00Z");
        assert!(PROVIDER.open(json!({ "time_zone": "Mars/Phobos" })).is_err());
    }

    #[test]
    fn one_bad_event_does_not_lose_the_others() {
        let reading = read(json!({}), &json!([7, { "resource": "schedule", "data": [] }, record(json!({})), {}]));
        assert_eq!((reading.happenings.len(), reading.skipped.len()), (1, 3));
        assert_eq!(reading.happenings[0].subject, "visit/2001");
    }

    #[test]
    fn a_masked_phone_is_asked_for() {
        let masked = record(json!({ "client": { "id": 5, "phone": "+7999***3301" } }));
        assert_eq!(read(json!({}), &masked).happenings[0].look_up, None);
        let asked = read(json!({ "partner_token": "p" }), &masked);
        assert_eq!(asked.happenings[0].look_up, Some(json!({ "client": "5", "company": "4564" })));
    }
}
