//! One sale or refund, whichever of its four shapes came.

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use uzel_model::{Happening, Person, event::kind};

use crate::tree;

/// Evotor's tills are Russian; nothing names a currency.
const CURRENCY: &str = "RUB";
/// Lines that an event carries.
const LINES_MAX: usize = 500;
const ID_MAX: usize = 100;

/// What all shapes have.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub id: String,
    pub refund: bool,
    /// Of a refund: the sale that it takes back.
    pub base: Option<String>,
    pub number: Option<String>,
    pub store: Option<String>,
    pub device: Option<String>,
    at: Option<Timestamp>,
    /// In kopecks, without a sign.
    sum: Option<i64>,
    name: Option<String>,
    phones: Vec<Value>,
    emails: Vec<Value>,
    /// What our application on the till wrote into the document.
    extras: Value,
    receipt_number: Option<String>,
    register_number: Option<String>,
    fiscal_sign: Option<String>,
    staff: Option<String>,
    items: Vec<Value>,
}

impl Document {
    /// A document as the cloud's API of today tells it.
    pub(super) fn v2(document: &Value) -> Result<Self, String> {
        let body = &document["body"];
        let printed = &body["pos_print_results"][0];
        let base = Self::of(document, &document["id"])?;
        Ok(Self {
            base: id(&body["base_document_id"]),
            store: id(&document["store_id"]),
            device: id(&document["device_id"]),
            at: tree::moment(&document["close_date"]),
            sum: kopecks(&body["result_sum"]),
            phones: [&body["customer_phone"]].into_iter().filter(|phone| !tree::is_blank(phone)).cloned().collect(),
            emails: tree::emails(body, &[&["customer_email"]]),
            receipt_number: tree::text(&printed["fiscal_document_number"]),
            register_number: tree::text(&printed["kkt_reg_number"]),
            fiscal_sign: tree::text(&printed["fiscal_sign_doc_number"]),
            staff: id(&document["close_user_id"]),
            items: lines(&body["positions"], "product_id", "product_name", "quantity", "result_sum"),
            ..base
        })
    }

    /// The older shape: a list of what was done at the till, in which the buyer's phone stands at the beginning or at the end.
    pub(super) fn v1(document: &Value) -> Result<Self, String> {
        let done = document["transactions"].as_array().map_or(&[][..], Vec::as_slice);
        let ends = || ["DOCUMENT_CLOSE", "DOCUMENT_OPEN"].into_iter().flat_map(|kind| of_kind(done, kind));
        let positions: Vec<Value> = of_kind(done, "REGISTER_POSITION").cloned().collect();
        let base = Self::of(document, &document["uuid"])?;
        Ok(Self {
            base: ends().find_map(|end| id(&end["baseDocumentUUID"])),
            store: id(&document["storeUuid"]),
            device: id(&document["deviceUuid"]),
            at: tree::moment(&document["closeDate"]),
            sum: kopecks(&document["closeResultSum"]),
            name: ends().find_map(|end| tree::text(&end["clientName"])),
            phones: ends().map(|end| &end["clientPhone"]).filter(|phone| !tree::is_blank(phone)).cloned().collect(),
            receipt_number: of_kind(done, "DOCUMENT_CLOSE_FPRINT").find_map(|printed| tree::text(&printed["documentNumber"])),
            staff: id(&document["closeUserUuid"]),
            items: lines(&Value::Array(positions), "commodityUuid", "commodityName", "quantity", "resultSum"),
            ..base
        })
    }

    /// A receipt: without the buyer, and of a refund without its sale.
    pub(super) fn receipt(data: &Value) -> Result<Self, String> {
        let base = Self::of(data, &data["id"])?;
        Ok(Self {
            store: id(&data["storeId"]),
            device: id(&data["deviceId"]),
            at: tree::moment(&data["dateTime"]),
            sum: kopecks(&data["totalAmount"]),
            staff: id(&data["employeeId"]),
            items: lines(&data["items"], "id", "name", "quantity", "sumPrice"),
            ..base
        })
    }

    /// What another program passes on.
    pub(super) fn private(kind: &str, data: &Value) -> Result<Self, String> {
        let refund = match kind {
            "receipt.sell" => false,
            "receipt.payback" => true,
            _ => return Err(format!("{kind}: nothing follows")),
        };
        let first = |names: &[&str]| names.iter().find_map(|name| id(&data[*name]));
        Ok(Self {
            id: first(&["uuid", "id"]).ok_or("no uuid in the receipt: nothing follows")?,
            refund,
            base: first(&["baseDocumentUUID", "base_document_id", "baseDocumentId"]),
            number: tree::text(&data["number"]),
            store: first(&["storeUuid", "storeId", "store_id"]),
            device: first(&["deviceUuid", "deviceId", "device_id"]),
            at: tree::moment(&data["dateTime"]),
            sum: kopecks(&data["total"]),
            phones: tree::phones(data, &[&["phone"], &["clientPhone"], &["customerPhone"]]),
            extras: json!([data, data["extras"]]),
            ..Self::default()
        })
    }

    /// What stands in the same places in all shapes of Evotor's own.
    fn of(document: &Value, named: &Value) -> Result<Self, String> {
        let refund = match document["type"].as_str() {
            Some("SELL") => false,
            Some("PAYBACK") => true,
            Some(kind) => return Err(format!("{kind}: nothing follows")),
            None => return Err("no type in the document: nothing follows".to_owned()),
        };
        Ok(Self {
            id: id(named).ok_or("no id in the document: nothing follows")?,
            refund,
            number: tree::text(&document["number"]),
            extras: document["extras"].clone(),
            ..Self::default()
        })
    }

    /// A text that our application wrote, below whatever name: the cloud puts the application's id above it.
    fn extra(&self, names: &[&str]) -> Option<String> {
        let below: Vec<&Value> = match &self.extras {
            Value::Object(members) => members.values().collect(),
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let places = || std::iter::once(&self.extras).chain(below.iter().copied()).filter(|place| place.is_object());
        names.iter().find_map(|name| places().find_map(|place| tree::text(&place[*name])))
    }

    /// The event, or why none follows.
    pub(super) fn happening(self) -> Result<Happening, String> {
        let order = match (self.refund, &self.base) {
            (false, _) => self.id.clone(),
            (true, Some(base)) => base.clone(),
            (true, None) => return Err(format!("refund {} names no sale: nothing is taken back", self.id)),
        };
        let (kind, key) = match self.refund {
            false => (kind::ORDER_COMPLETED, format!("order/{order}/completed")),
            true => (kind::ORDER_REFUNDED, format!("order/{order}/refunded/{}", self.id)),
        };
        let (customer, hold) = (self.extra(&["customerId", "customer_id"]), self.extra(&["holdId", "hold_id"]));
        let mut phones = self.phones.clone();
        phones.extend(self.extra(&["phone", "customerPhone"]).map(Value::String));
        let printed = self.sum.map(|sum| Decimal::new(sum, 2).normalize().to_string());
        let mut data = tree::object([
            ("order_id", Some(order.clone())),
            // As the requirement has tills name it that ask by themselves.
            ("till_order_id", Some(format!("evotor_{order}"))),
            ("document_id", Some(self.id.clone())),
            ("number", self.number.clone()),
            ("status", Some(if self.refund { "PAYBACK" } else { "SELL" }.to_owned())),
            ("sum", printed.clone()),
            ("eligible_sum", printed),
            ("currency", Some(CURRENCY.to_owned())),
            ("customer", customer),
            ("hold_id", hold),
            ("store_id", self.store),
            ("device_id", self.device),
            ("receipt_number", self.receipt_number.clone()),
            ("register_number", self.register_number),
            ("fiscal_sign_code", self.fiscal_sign),
            ("staff_id", self.staff),
        ]);
        data["sum_minor"] = json!(self.sum);
        data["eligible_sum_minor"] = json!(self.sum);
        data["items"] = Value::Array(self.items);
        let mut refs: Vec<String> = self.number.into_iter().chain(self.receipt_number).chain([self.id, order.clone()]).collect();
        refs.dedup();
        Ok(Happening {
            key: Some(key),
            kind,
            subject: format!("order/{order}"),
            at: self.at,
            person: Person { name: self.name, phones, emails: self.emails },
            refs,
            data,
            look_up: None,
        })
    }
}

/// Ids look like UUIDs and are none: the case of their letters matters.
fn id(value: &Value) -> Option<String> {
    tree::text(value).filter(|id| id.len() <= ID_MAX)
}

fn of_kind<'a>(done: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    done.iter().filter(move |step| step["type"] == kind)
}

/// What was paid or given back: refunds stand below zero in the older shape.
fn kopecks(value: &Value) -> Option<i64> {
    tree::minor(value).and_then(i64::checked_abs)
}

fn lines(positions: &Value, product: &str, name: &str, count: &str, sum: &str) -> Vec<Value> {
    let positions = positions.as_array().map_or(&[][..], Vec::as_slice).iter().take(LINES_MAX);
    let line = |line: &Value| {
        let count = tree::decimal(&line[count]).map(|count| count.trim_start_matches('-').to_owned());
        json!({ "product_id": id(&line[product]), "title": tree::text(&line[name]), "count": count, "sum_minor": kopecks(&line[sum]) })
    };
    positions.map(line).collect()
}
