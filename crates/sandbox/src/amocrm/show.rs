//! How amoCRM words its answers: pages, problems, and which deals and contacts pass a filter.

use serde_json::{Map, Value, json};

use crate::wire::{self, Answer};

const WON: i64 = 142;

pub(super) fn hal(status: u16, body: &Value) -> Answer {
    Answer::typed(status, "application/hal+json", body)
}

pub(super) fn problem(status: u16, title: &str, detail: &str) -> Answer {
    let kind = format!("https://httpstatus.es/{status}");
    let body = json!({"title": title, "type": kind, "status": status, "detail": detail});
    Answer::typed(status, "application/problem+json", &body)
}

/// The OAuth refusal of the sample, with another hint where another one fits.
pub(super) fn oauth_problem(status: u16, hint: &str) -> Answer {
    let sample = include_str!("../../samples/amocrm/oauth_refresh_reused_401.json");
    let mut body = wire::sample_body(sample);
    body["hint"] = json!(hint);
    body["status"] = json!(status);
    Answer::typed(status, "application/problem+json", &body)
}

pub(super) fn find(items: &[Value], id: &str) -> Option<Value> {
    let id: i64 = id.parse().ok()?;
    items.iter().find(|item| wire::number(item.get("id")) == Some(id)).cloned()
}

/// A page of a collection; an empty one is 204 without a body.
pub(super) fn page(name: &str, items: &[Value], query: &Map<String, Value>) -> Answer {
    let page = wire::number(query.get("page")).unwrap_or(1).max(1);
    let limit = wire::number(query.get("limit")).unwrap_or(50).clamp(1, 500);
    let start = usize::try_from((page - 1).saturating_mul(limit)).unwrap_or(usize::MAX);
    let limit = usize::try_from(limit).unwrap_or(50);
    let shown: Vec<&Value> = items.iter().skip(start).take(limit).collect();
    if shown.is_empty() {
        return Answer::empty(204);
    }
    let mut links = json!({"self": {"href": format!("/api/v4/{name}?page={page}&limit={limit}")}});
    if items.len() > start.saturating_add(limit) {
        let next = format!("/api/v4/{name}?page={}&limit={limit}", page + 1);
        links["next"] = json!({ "href": next });
    }
    hal(200, &json!({"_page": page, "_links": links, "_embedded": {name: shown}}))
}

/// Contacts and links are shown only to those who ask for them.
pub(super) fn with(mut item: Value, query: &Map<String, Value>, part: &str) -> Value {
    let asked = query.get("with").and_then(Value::as_str).unwrap_or_default();
    if !asked.split(',').any(|name| name.trim() == part)
        && let Some(embedded) = item.get_mut("_embedded").and_then(Value::as_object_mut)
    {
        embedded.remove(part);
    }
    item
}

/// Deals that pass the filters of the reconciliation.
pub(super) fn lead_fits(lead: &Value, query: &Map<String, Value>) -> bool {
    let is = |filter: &str, field: &str| {
        wire::number(query.get(filter)).is_none_or(|value| wire::number(lead.get(field)) == Some(value))
    };
    let at_least = |filter: &str, field: &str| {
        let value = wire::number(lead.get(field));
        wire::number(query.get(filter)).is_none_or(|least| value.is_some_and(|value| value >= least))
    };
    let at_most = |filter: &str, field: &str| {
        let value = wire::number(lead.get(field));
        wire::number(query.get(filter)).is_none_or(|most| value.is_some_and(|value| value <= most))
    };
    is("filter[statuses][0][pipeline_id]", "pipeline_id")
        && is("filter[statuses][0][status_id]", "status_id")
        && at_least("filter[closed_at][from]", "closed_at")
        && at_most("filter[closed_at][to]", "closed_at")
        && at_least("filter[updated_at][from]", "updated_at")
        && at_most("filter[updated_at][to]", "updated_at")
}

pub(super) fn contact_fits(contact: &Value, query: &Map<String, Value>) -> bool {
    let Some(asked) = query.get("query").and_then(Value::as_str) else {
        return true;
    };
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let number = digits(asked);
    // The last ten digits, because cards hold 8…, +7… and bare numbers alike.
    let tail = number.get(number.len().saturating_sub(10)..).unwrap_or_default();
    let text = contact.to_string();
    let fields = contact["custom_fields_values"].as_array().into_iter().flatten();
    let mut values = fields.flat_map(|field| field["values"].as_array().into_iter().flatten());
    text.contains(asked)
        || (tail.len() == 10 && values.any(|value| digits(value["value"].as_str().unwrap_or_default()).ends_with(tail)))
}

pub(super) fn links(lead: &Value) -> Vec<Value> {
    let contacts = lead["_embedded"]["contacts"].as_array().into_iter().flatten();
    let link = |contact: &Value| {
        json!({
            "to_entity_id": contact["id"], "to_entity_type": "contacts",
            "metadata": {"main_contact": contact["is_main"]},
        })
    };
    contacts.map(link).collect()
}

pub(super) fn pipelines() -> Value {
    let statuses = json!([
        {"id": 9_931_852, "name": "Первичный контакт", "pipeline_id": 53218},
        {"id": 9_931_855, "name": "Переговоры", "pipeline_id": 53218},
        {"id": WON, "name": "Успешно реализовано", "pipeline_id": 53218},
        {"id": WON + 1, "name": "Закрыто и не реализовано", "pipeline_id": 53218},
    ]);
    let pipeline = json!({
        "id": 53218, "name": "Воронка", "is_main": true, "_embedded": {"statuses": statuses},
    });
    json!({"_total_items": 1, "_embedded": {"pipelines": [pipeline]}})
}

pub(super) fn validation(path: &str) -> Answer {
    let body = json!({
        "validation-errors": [{"request_id": "0", "errors": [{
            "code": "InvalidType", "path": path, "detail": "This value is not valid.",
        }]}],
        "title": "Bad Request", "type": "https://httpstatus.es/400", "status": 400,
        "detail": "Request validation failed",
    });
    Answer::typed(400, "application/problem+json", &body)
}
