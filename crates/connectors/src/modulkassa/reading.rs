//! Callbacks, which name a document, and what is told of the document when it is asked for.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use uzel_model::{Bytes, Happening, Malformed, Person, Reading, Request, connector::Ask, event::kind};

use super::{ModulKassa, is_plain};
use crate::{form, tree};

/// ModulKassa's tills are Russian; nothing names a currency.
const CURRENCY: &str = "RUB";

/// What a callback's address or body names.
#[derive(Debug, Default)]
pub(super) struct Callback {
    pub document: Option<String>,
    pub token: Option<String>,
}

impl Callback {
    pub(super) fn of(request: &Request) -> Self {
        // The address is the shop's own; a body may come besides, and says nothing of the proof.
        let first =
            |names: &[&str]| names.iter().find_map(|name| request.query(name)).map(str::to_owned).filter(|text| !text.is_empty());
        Self { document: first(&["docId", "doc_id"]), token: first(&["token"]) }
    }
}

impl ModulKassa {
    pub(super) fn read(&self, request: &Request) -> Result<Reading, Malformed> {
        let mut reading = Reading::default();
        let in_address = Callback::of(request).document;
        let id = match in_address {
            Some(id) => Some(id),
            None => {
                let body = body(request)?;
                ["docId", "doc_id", "id"].into_iter().find_map(|name| tree::text(&body[name]))
            }
        };
        let Some(id) = id else {
            reading.skip("it names no document (docId): nothing follows");
            return Ok(reading);
        };
        if !is_plain(&id) {
            return Err(Malformed::new("docId must be letters, digits and hyphens, 100 of them at the most"));
        }
        if !self.may_ask() {
            reading.skip(format!("document {id}: without access ModulKassa cannot be asked about it"));
            return Ok(reading);
        }
        // What the shop wrote into the address is believed where the hub's key proves all of it; a token proves the id alone.
        let more = |name: &str| request.query(name).filter(|text| request.key.is_some() && (1..=100).contains(&text.len()));
        let what = json!({
            "document": id, "told_at": request.received_at.as_second(),
            "order": more("order"), "till_order": more("tillOrder"), "customer": more("customer"), "hold": more("hold"),
        });
        let refs = more("order").map(str::to_owned).into_iter().chain([id.clone()]).collect();
        reading.asks.push(Ask { subject: format!("document/{id}"), refs, what });
        Ok(reading)
    }
}

/// The body of a callback: JSON, a form, or none.
fn body(request: &Request) -> Result<Value, Malformed> {
    let bytes = request.body.trim_ascii();
    if bytes.is_empty() {
        return Err(Malformed::new("neither the address nor a body names a document (docId)"));
    }
    let kind = request.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let body = match kind.contains("x-www-form-urlencoded") && !b"{[".contains(&bytes[0]) {
        true => form::read(bytes)?,
        false => request.json()?,
    };
    if body.is_object() { Ok(body) } else { Err(Malformed::new("not a callback: an object was expected")) }
}

/// An answer about a document as a body that can be read again.
pub(super) fn answered(what: &Value, status: &Value, order: &Value) -> Bytes {
    Bytes::from(json!({ "asked": what, "document": status, "till_order": order }).to_string())
}

/// Reads what a document became.
pub(super) fn told(body: &Value) -> Result<Reading, Malformed> {
    let id = tree::text(&body["asked"]["document"]).ok_or_else(|| Malformed::new("no document was told of"))?;
    let mut reading = Reading::default();
    match happening(&id, body) {
        Ok(happening) => reading.happenings.push(happening),
        Err(why) => reading.skip(why),
    }
    Ok(reading)
}

fn happening(id: &str, body: &Value) -> Result<Happening, String> {
    let (asked, info, till_order) = (&body["asked"], &body["document"]["fiscalInfo"], &body["till_order"]);
    if !info.is_object() {
        return Err(format!("document {id} has no receipt: nothing follows"));
    }
    let shop_order = tree::text(&asked["order"]);
    let (kind, order, key) = match info["checkType"].as_str() {
        Some("SALE") => {
            let order = shop_order.unwrap_or_else(|| id.to_owned());
            (kind::ORDER_COMPLETED, order.clone(), format!("order/{order}/completed"))
        }
        Some("RETURN") => {
            let Some(order) = shop_order else {
                return Err(format!("return {id}: its callback names no order (order=…), so nothing is taken back"));
            };
            let key = format!("order/{order}/refunded/{id}");
            (kind::ORDER_REFUNDED, order, key)
        }
        other => return Err(format!("document {id}, {}: nothing follows", other.unwrap_or("no checkType"))),
    };
    let sum = tree::minor(&info["sum"]).and_then(i64::checked_abs);
    let printed = sum.map(|sum| Decimal::new(sum, 2).normalize().to_string());
    let number = tree::text(&info["fnDocNumber"]);
    let contact = &till_order["customerContact"];
    let is_email = contact.as_str().is_some_and(|contact| contact.contains('@'));
    let contacts = |email: bool| (is_email == email && !tree::is_blank(contact)).then(|| contact.clone()).into_iter().collect();
    let mut data = tree::object([
        ("order_id", Some(order.clone())),
        ("document_id", Some(id.to_owned())),
        ("number", number.clone()),
        ("status", tree::text(&body["document"]["status"])),
        ("sum", printed.clone()),
        ("eligible_sum", printed),
        ("currency", Some(CURRENCY.to_owned())),
        ("customer", tree::text(&asked["customer"])),
        ("hold_id", tree::text(&asked["hold"])),
        ("device_id", tree::text(&info["kktNumber"])),
        ("receipt_number", number.clone()),
        ("register_number", tree::text(&info["ecrRegistrationNumber"])),
        ("fiscal_sign_code", tree::text(&info["fnDocMark"])),
    ]);
    data["sum_minor"] = json!(sum);
    data["eligible_sum_minor"] = json!(sum);
    let mut refs: Vec<String> = number.into_iter().chain([id.to_owned(), order.clone()]).collect();
    refs.dedup();
    Ok(Happening {
        key: Some(key),
        kind,
        subject: format!("order/{order}"),
        at: tree::moment(&info["date"]),
        person: Person {
            name: tree::text(&till_order["clientInformation"]["name"]),
            phones: contacts(false),
            emails: contacts(true),
        },
        refs,
        data,
        look_up: None,
    })
}
