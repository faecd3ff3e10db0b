//! YCLIENTS' bookings and clients: lists with filters, one of them, and changes.

use serde_json::{Map, Value, json};

use super::{Reply, State, fine, is, not_found};
use crate::wire::{self, Call};

pub(super) fn deleted(record: &Value) -> bool {
    record["deleted"].as_bool().unwrap_or_else(|| is(&record["deleted"], 1))
}

pub(super) fn record_fits(record: &Value, query: &Map<String, Value>) -> bool {
    let text = |name: &str| query.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    // Times are compared as local texts: `2026-09-14T13:00:24`, or only the day.
    let cut = |field: &str, length: usize| {
        let value = record[field].as_str().unwrap_or_default();
        value.get(..length).unwrap_or(value).replace(' ', "T")
    };
    let from = |name: &str, field: &str, length| text(name).is_none_or(|from| cut(field, length).as_str() >= from);
    let to = |name: &str, field: &str, length| text(name).is_none_or(|to| cut(field, length).as_str() <= to);
    let id = |name: &str, value: &Value| wire::number(query.get(name)).is_none_or(|id| is(value, id));
    from("changed_after", "last_change_date", 19)
        && to("changed_before", "last_change_date", 19)
        && from("start_date", "date", 10)
        && to("end_date", "date", 10)
        && from("c_start_date", "create_date", 10)
        && to("c_end_date", "create_date", 10)
        && id("staff_id", &record["staff_id"])
        && id("client_id", &record["client"]["id"])
        && id("created_user_id", &record["created_user_id"])
        && (text("with_deleted") == Some("1") || !deleted(record))
}

impl State {
    pub(super) fn records(&self, company: i64, query: &Map<String, Value>) -> Reply {
        let own = self.records.iter().filter(|record| is(&record["company_id"], company));
        let fit: Vec<&Value> = own.filter(|record| record_fits(record, query)).collect();
        let page = wire::number(query.get("page")).unwrap_or(1).max(1);
        let count = wire::number(query.get("count")).unwrap_or(50).clamp(1, 300);
        let start = usize::try_from((page - 1).saturating_mul(count)).unwrap_or(usize::MAX);
        let shown = fit.iter().skip(start).take(usize::try_from(count).unwrap_or(50));
        let shown: Vec<&&Value> = shown.collect();
        if shown.is_empty() && self.settings.empty_is_404 {
            return Err(not_found());
        }
        Ok((200, json!(shown), json!({"page": page, "total_count": fit.len()})))
    }

    pub(super) fn record(&mut self, call: &Call, company: i64, id: &str) -> Reply {
        let id: i64 = id.parse().map_err(|_| not_found())?;
        let record = self.records.iter_mut().find(|record| is(&record["company_id"], company) && is(&record["id"], id));
        let record = record.ok_or_else(not_found)?;
        let changed = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S+0000").to_string();
        match call.method.as_str() {
            "GET" => fine(200, record.clone()),
            "PUT" => {
                if let Some(Value::Object(new)) = call.json() {
                    let attendance = new.get("attendance").cloned();
                    for (name, value) in new {
                        record[name] = value;
                    }
                    if let Some(attendance) = attendance {
                        record["visit_attendance"] = attendance;
                    }
                    record["last_change_date"] = json!(changed);
                }
                fine(201, record.clone())
            }
            "DELETE" => {
                record["deleted"] = json!(true);
                record["last_change_date"] = json!(changed);
                fine(204, Value::Null)
            }
            _ => Err(not_found()),
        }
    }

    /// A client without `company_id` belongs to every branch, so that a test need not write it down.
    pub(super) fn client(&self, company: i64, id: &str) -> Reply {
        let id: i64 = id.parse().map_err(|_| not_found())?;
        let client = self.clients.iter().find(|client| {
            let own = client.get("company_id").is_none_or(|known| is(known, company));
            own && is(&client["id"], id)
        });
        fine(200, client.cloned().ok_or_else(not_found)?)
    }

    /// A visit holds the records that share its number.
    pub(super) fn visit(&self, id: &str) -> Reply {
        let id: i64 = id.parse().map_err(|_| not_found())?;
        let records: Vec<&Value> = self.records.iter().filter(|record| is(&record["visit_id"], id)).collect();
        let first = records.first().ok_or_else(not_found)?;
        fine(
            200,
            json!({
                "attendance": first["visit_attendance"], "datetime": first["datetime"],
                "comment": first["comment"], "records": records,
            }),
        )
    }
}
