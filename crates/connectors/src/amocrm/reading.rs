//! Reading webhooks: which deals a body tells of, and whose phone stands in it.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use uzel_model::{Happening, Malformed, Person, Reading, event::kind};

use super::Amocrm;
use crate::tree;

/// The same in every pipeline of every account.
pub(super) const WON: i64 = 142;
pub(super) const LOST: i64 = 143;

impl Amocrm {
    pub(super) fn read(&self, body: &Value) -> Result<Reading, Malformed> {
        let bodies = match body {
            Value::Array(bodies) => bodies.as_slice(),
            body => std::slice::from_ref(body),
        };
        let mut reading = Reading::default();
        for body in bodies {
            self.read_one(body, &mut reading);
        }
        if reading.happenings.is_empty() && reading.skipped.is_empty() {
            return Err(Malformed::new("neither deals nor contacts in the body"));
        }
        Ok(reading)
    }

    fn read_one(&self, body: &Value, reading: &mut Reading) {
        let Some(entities) = body.as_object() else {
            return;
        };
        let contacts: Vec<&Value> = entries(&body["contacts"]).into_iter().map(|(_, contact)| contact).collect();
        let deals = entries(&body["leads"]);
        let owners = Owners::of(&contacts, deals.len());
        for (action, deal) in &deals {
            match self.happening(body, action, deal, &owners) {
                Ok(happening) => reading.happenings.push(happening),
                Err(why) => reading.skip(why),
            }
        }
        for (entity, actions) in entities {
            let told = match entity.as_str() {
                "leads" => deals.is_empty(),
                "contacts" => deals.is_empty(),
                "account" => false,
                _ => true,
            };
            if told && !tree::is_blank(actions) && (actions.is_object() || actions.is_array()) {
                let names: Vec<&str> = actions.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).take(5).collect();
                reading.skip(format!("{entity} ({}): no deal is told of, nothing follows", names.join(", ")));
            }
        }
    }

    fn happening(&self, body: &Value, action: &str, deal: &Value, owners: &Owners<'_>) -> Result<Happening, String> {
        let id = tree::text(&deal["id"]).or_else(|| tree::text(deal)).filter(|id| id.len() <= 64);
        let called = id.as_deref().unwrap_or("without an id");
        match action {
            "status" => {}
            "update" | "add" if self.read_updates => {}
            _ => {
                return Err(format!("deal {called}: «{action}» is not a change of status, nothing follows"));
            }
        }
        let status = tree::text(&deal["status_id"]);
        let (kind, word) = match tree::integer(&deal["status_id"]) {
            Some(WON) => (kind::DEAL_WON, "won"),
            Some(LOST) => (kind::DEAL_LOST, "lost"),
            _ => {
                let status = status.as_deref().unwrap_or("-");
                return Err(format!("deal {called}: status {status} is neither won (142) nor lost (143), nothing follows"));
            }
        };

        let main = &deal["main_contact"];
        let owner = owners.owner(id.as_deref());
        let mut phones: Vec<Value> = Some(&main["phone"]).filter(|phone| !tree::is_blank(phone)).cloned().into_iter().collect();
        let mut emails = tree::emails(main, &[&["email"]]);
        if let Some(contact) = owner {
            emails.extend(email_fields(&contact["custom_fields_values"]));
            emails.extend(email_fields(&contact["custom_fields"]));
            phones.extend(self.phones(&contact["custom_fields_values"]));
            phones.extend(self.phones(&contact["custom_fields"]));
            phones.extend(Some(&contact["phone"]).filter(|phone| !tree::is_blank(phone)).cloned());
        }
        let account = [tree::at(body, &["account", "id"]), &deal["account_id"], tree::at(body, &["account", "subdomain"])];
        let account = account.into_iter().find_map(tree::text).map(|account| account + "/").unwrap_or_default();
        let asked = tree::integer(&deal["id"]).filter(|_| kind == kind::DEAL_WON && self.calls());
        let at = [&deal["last_modified"], &deal["updated_at"]].into_iter().find_map(tree::integer).filter(|second| *second > 0);
        Ok(Happening {
            key: id.as_ref().map(|id| format!("lead/{account}{id}/{word}")),
            kind,
            subject: format!("deal/{}", id.as_deref().unwrap_or("-")),
            at: at.and_then(|second| Timestamp::from_second(second).ok()),
            person: Person { name: name(main).or_else(|| name(owner?)), phones, emails },
            refs: id.into_iter().collect(),
            data: tree::object([
                ("status", status),
                ("pipeline", tree::text(&deal["pipeline_id"])),
                ("sum", tree::decimal(&deal["price"])),
                ("name", tree::text(&deal["name"])),
            ]),
            look_up: asked.map(|id| json!({ "lead": id })),
        })
    }

    /// A contact's phones, in the order of the settings; what the codes do not name follows, and fax never does.
    pub(super) fn phones(&self, fields: &Value) -> Vec<Value> {
        let mut phones: Vec<(usize, Value)> = Vec::new();
        for field in items(fields).into_iter().filter(|field| is_phone(field)) {
            for value in items(&field["values"]) {
                let code = tree::text(&value["enum_code"]).or_else(|| tree::text(&value["enum"])).unwrap_or_default();
                let phone = if value.is_object() { &value["value"] } else { value };
                if !tree::is_blank(phone) && !code.eq_ignore_ascii_case("FAX") {
                    let place = self.phone_order.iter().position(|known| known.eq_ignore_ascii_case(&code));
                    phones.push((place.unwrap_or(usize::MAX), phone.clone()));
                }
            }
        }
        phones.sort_by_key(|(place, _)| *place);
        phones.into_iter().map(|(_, phone)| phone).collect()
    }
}

pub(super) fn name(contact: &Value) -> Option<String> {
    tree::text(&contact["first_name"]).or_else(|| tree::text(&contact["name"]))
}

/// Whose the contacts of one body are: found once for all its deals, since a body may hold thousands of both.
struct Owners<'a> {
    by_deal: HashMap<String, &'a Value>,
    /// A contact that names no deal is the deal's if both are alone in the body.
    alone: Option<&'a Value>,
}

impl<'a> Owners<'a> {
    /// The first contact that names a deal is its own. A company never is a person to write to.
    fn of(contacts: &[&'a Value], deals: usize) -> Self {
        let company = |contact: &Value| tree::text(&contact["type"]).is_some_and(|kind| kind.eq_ignore_ascii_case("company"));
        let mut by_deal = HashMap::new();
        for &contact in contacts.iter().filter(|contact| !company(contact)) {
            let links = &contact["linked_leads_id"];
            let names = links.as_object().into_iter().flatten().map(|(name, _)| name.clone());
            let linked =
                items(links).into_iter().filter_map(|link| [link, &link["ID"], &link["id"]].into_iter().find_map(tree::text));
            for deal in names.chain(linked) {
                by_deal.entry(deal).or_insert(contact);
            }
        }
        let alone = match contacts {
            [contact] if deals == 1 && !company(contact) && tree::is_blank(&contact["linked_leads_id"]) => Some(*contact),
            _ => None,
        };
        Self { by_deal, alone }
    }

    fn owner(&self, deal: Option<&str>) -> Option<&'a Value> {
        self.alone.or_else(|| self.by_deal.get(deal?).copied())
    }
}

/// A contact's e-mail addresses, in their order.
pub(super) fn email_fields(fields: &Value) -> Vec<Value> {
    let named = |field: &&Value| {
        let codes = [&field["field_code"], &field["code"]].into_iter().filter_map(tree::text);
        let mut names = codes.chain([&field["field_name"], &field["name"]].into_iter().filter_map(tree::text));
        names.any(|name| ["email", "e-mail"].contains(&name.to_lowercase().as_str()))
    };
    let values = items(fields).into_iter().filter(named).flat_map(|field| items(&field["values"]));
    values
        .map(|value| if value.is_object() { &value["value"] } else { value })
        .filter(|email| !tree::is_blank(email))
        .cloned()
        .collect()
}

fn is_phone(field: &Value) -> bool {
    let codes = [&field["field_code"], &field["code"]];
    let names = [&field["field_name"], &field["name"]];
    codes.into_iter().filter_map(tree::text).any(|code| code.eq_ignore_ascii_case("PHONE"))
        || names.into_iter().filter_map(tree::text).any(|name| {
            let name = name.to_lowercase();
            ["телефон", "phone", "мобильный телефон"].contains(&name.as_str())
        })
}

/// Entities by action: `{status: [{…}]}`, `{status: {"0": {…}}}`, `{status: {…}}` without an index, `{delete: "7"}`.
fn entries(actions: &Value) -> Vec<(&str, &Value)> {
    let mut entries = Vec::new();
    for (action, told) in actions.as_object().into_iter().flatten() {
        match told {
            Value::Object(fields) if ["id", "status_id", "type"].iter().any(|name| fields.contains_key(*name)) => {
                entries.push((action.as_str(), told));
            }
            Value::Object(_) | Value::Array(_) => entries.extend(items(told).into_iter().map(|entry| (action.as_str(), entry))),
            Value::Null => {}
            bare => entries.push((action.as_str(), bare)),
        }
    }
    entries
}

/// Members of a list, or of an object with numbers for names, in order.
fn items(list: &Value) -> Vec<&Value> {
    match list {
        Value::Array(items) => items.iter().collect(),
        Value::Object(members) => {
            let mut items: Vec<(u64, &Value)> =
                members.iter().map(|(place, item)| (place.parse().unwrap_or(u64::MAX), item)).collect();
            items.sort_by_key(|(place, _)| *place);
            items.into_iter().map(|(_, item)| item).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn read(settings: Value, kind: &str, body: &str) -> Result<Reading, Malformed> {
        super::super::PROVIDER.open(settings).unwrap().parse(&testing::post(kind, body))
    }

    #[test]
    fn a_won_deal_is_looked_up_where_the_account_can_be_called() {
        let body = "leads[status][0][id]=40331001&leads[status][0][status_id]=142&leads[status][0][price]=15000\
            &leads[status][0][last_modified]=1789380000&leads[status][0][account_id]=9931001&account[subdomain]=example";
        let reading = read(json!({ "host": "example.amocrm.ru", "long_lived_token": "t" }), FORM, body).unwrap();
        let deal = &reading.happenings[0];
        assert_eq!(deal.key.as_deref(), Some("lead/9931001/40331001/won"));
        assert_eq!(deal.subject, "deal/40331001");
        assert_eq!(deal.look_up, Some(json!({ "lead": 40331001 })));
        assert_eq!(deal.data, json!({ "status": "142", "sum": "15000" }));
        assert_eq!(deal.at, Timestamp::from_second(1789380000).ok());
        assert_eq!(read(json!({}), FORM, body).unwrap().happenings[0].look_up, None);
    }

    #[test]
    fn every_deal_is_read_for_itself() {
        let body = "leads[status][0][id]=1&leads[status][0][status_id]=7&leads[status][1][id]=2&leads[status][1][status_id]=143\
            &leads[status][10][id]=3&leads[status][10][status_id]=142&leads[delete]=4&leads[update][0][id]=5&leads[update][0][status_id]=142";
        let reading = read(json!({}), "text/plain", body).unwrap();
        let kinds: Vec<&str> = reading.happenings.iter().map(|happening| happening.kind).collect();
        assert_eq!(kinds, [kind::DEAL_LOST, kind::DEAL_WON]);
        assert_eq!(reading.happenings[1].key.as_deref(), Some("lead/3/won"));
        assert_eq!(reading.skipped.len(), 3, "{:?}", reading.skipped);
        assert_eq!(read(json!({ "read_updates": true }), FORM, body).unwrap().happenings.len(), 3);
    }

    #[test]
    fn a_contact_is_the_deals_only_if_it_says_so_or_both_are_alone() {
        let body = |deals: Value, contact: Value| {
            json!({ "leads": { "status": deals }, "contacts": { "update": [contact] } }).to_string()
        };
        let deal = |id: u64| json!({ "id": id, "status_id": "142" });
        let phones = |body: String| read(json!({}), "application/json", &body).unwrap().happenings[0].person.phones.len();
        let contact = json!({ "id": 9, "phone": "+79990004402" });
        assert_eq!(phones(body(json!([deal(1)]), contact.clone())), 1);
        assert_eq!(phones(body(json!([deal(1), deal(2)]), contact)), 0);
        let linked = json!({ "id": 9, "phone": "+79990004402", "linked_leads_id": { "1": { "ID": "1" } } });
        assert_eq!(phones(body(json!({ "0": deal(1), "1": deal(2) }), linked.clone())), 1);
        assert_eq!(phones(body(json!({ "id": 2, "status_id": 142 }), linked)), 0);
        let company = json!({ "id": 9, "phone": "+79990004402", "type": "company" });
        assert_eq!(phones(body(json!([deal(1)]), company)), 0);
    }

    #[test]
    fn each_of_thousands_of_deals_finds_its_own_contact() {
        let all = 0..8_000_u32;
        let deals: Vec<Value> = all.clone().map(|id| json!({ "id": id, "status_id": 142 })).collect();
        let contacts: Vec<Value> =
            all.rev().map(|id| json!({ "phone": format!("+7999{id:07}"), "linked_leads_id": [id] })).collect();
        let body = json!({ "leads": { "status": deals }, "contacts": { "update": contacts } }).to_string();
        let reading = read(json!({}), "application/json", &body).unwrap();
        assert_eq!(reading.happenings.len(), 8_000);
        for (id, happening) in reading.happenings.iter().enumerate() {
            assert_eq!(happening.person.phones, [json!(format!("+7999{id:07}"))]);
        }
    }

    #[test]
    fn a_body_of_something_else_is_told_from_a_broken_one() {
        let reading = read(json!({}), FORM, "contacts[delete][0][id]=1&contacts[delete][0][type]=company&account[id]=2").unwrap();
        assert_eq!(reading.skipped, ["contacts (delete): no deal is told of, nothing follows"]);
        for body in ["", "hello", "account[id]=2", "{}", "[]", "[1]"] {
            assert!(read(json!({}), "", body).is_err(), "{body}");
        }
        assert!(read(json!({}), "application/json", "leads[status][0][id]=1").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in "(leads|contacts)(\\[(status|update|0|id|status_id)\\]){0,4}=(142|143|x|)(&(leads|contacts)(\\[(status|update|0|id|status_id|custom_fields|values)\\]){0,4}=(142|PHONE|)){0,6}") {
            drop(read(json!({}), FORM, &body));
        }
    }
}
