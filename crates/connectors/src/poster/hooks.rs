//! Webhooks: who signed them, and what is to be asked after each.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use uzel_model::{
    Happening, Malformed, Person, Reading, Request, Secret,
    connector::Ask,
    event::kind,
    port::Session,
    signature::md5_hex,
};

use super::{Poster, TOKEN, wire};
use crate::tree;

/// Poster repeats what was not taken for two days; a login, or its end, that was told longer ago is somebody else's repeat.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(72);

/// Operations at the till by which an order stays open.
const OPEN: [&str; 10] = [
    "open",
    "comment",
    "print",
    "sendtokitchen",
    "additem",
    "settable",
    "changeitemcount",
    "deleteitem",
    "setclient",
    "changeprice",
];

/// The signature that came, in lower case.
pub(super) fn signature(request: &Request) -> Option<String> {
    let hook = request.json().ok()?;
    tree::text(&hook["verify"]).map(|verify| verify.to_ascii_lowercase())
}

/// The signatures that would be right. `data` is signed as the text that it is; an empty one is signed by some of Poster's kits and
/// left out by others; of an object nobody says what is signed, so its bytes are tried, and then its shortest text.
pub(super) fn signatures(request: &Request, secret: &Secret) -> Vec<String> {
    let Ok(hook) = request.json() else { return Vec::new() };
    let part = |name: &str| plain(&hook[name]);
    let (Some(account), Some(object), Some(id), Some(action), Some(time)) =
        (part("account"), part("object"), part("object_id"), part("action"), part("time"))
    else {
        return Vec::new();
    };
    let signed = |data: Option<&str>| {
        let mut parts = vec![account.as_str(), &object, &id, &action];
        parts.extend(data);
        parts.extend([time.as_str(), secret.expose()]);
        md5_hex([parts.join(";").as_bytes()])
    };
    match &hook["data"] {
        Value::Null => vec![signed(None)],
        Value::String(data) if data.is_empty() => vec![signed(None), signed(Some(""))],
        Value::String(data) => vec![signed(Some(data))],
        data => {
            let raw = raw_data(request);
            raw.iter().chain([&data.to_string()]).map(|data| signed(Some(data))).collect()
        }
    }
}

/// A text as it is, or a number as it is printed.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The bytes of `data` as they stand in the body.
fn raw_data(request: &Request) -> Option<String> {
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
    }
    serde_json::from_slice::<Data<'_>>(&request.body).ok().map(|found| found.data.get().to_owned())
}

/// `data` holds JSON within a text.
fn data(hook: &Value) -> Value {
    match &hook["data"] {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        data => data.clone(),
    }
}

impl Poster {
    pub(super) fn read_hook(&self, request: &Request, hook: &Value) -> Result<Reading, Malformed> {
        let mut reading = Reading::default();
        if self.application_secret.is_some() && tree::is_blank(&hook["verify"]) {
            reading.skip("it is not signed, so Poster did not send it: nothing follows");
            return Ok(reading);
        }
        let member = |name: &str| {
            tree::text(&hook[name]).ok_or_else(|| Malformed::new(format!("{name} is missing: not a webhook of Poster")))
        };
        let (object, action) = (member("object")?, member("action")?);
        if !self.concerns(hook) {
            reading.skip("it is of another account: nothing follows");
            return Ok(reading);
        }
        if object == "application" {
            self.read_application(request, hook, &action, &mut reading);
            return Ok(reading);
        }
        let id = wire::id(&hook["object_id"]).ok_or_else(|| Malformed::new("object_id is no number above 0"))?;
        match object.as_str() {
            "transaction" => self.read_transaction(hook, &id, &action, &mut reading),
            "incoming_order" => match action.as_str() {
                "removed" => reading.skip(format!("incoming order {id} was removed: nothing follows")),
                _ => {
                    let what = json!({ "incoming_order": id, "type": data(hook)["type"], "told_at": hook["time"] });
                    self.ask(&mut reading, "incoming_order", &id, what);
                }
            },
            "stock" => reading.happenings.push(stock(hook, &id)),
            "client" | "client_payed_sum" | "client_ewallet" | "clients_group" => {
                reading.skip(format!("{object} {action}: a guest is looked up when an order names them, nothing follows"));
            }
            _ => reading.skip(format!("{object} {action}: webhooks of this kind are not read")),
        }
        Ok(reading)
    }

    fn read_transaction(&self, hook: &Value, id: &str, action: &str, reading: &mut Reading) {
        let done = tree::text(&data(hook)["transactions_history"]["type_history"]);
        match (action, done.as_deref()) {
            ("added", _) => reading.skip(format!("order {id} was opened: nothing follows")),
            ("removed", _) => reading.happenings.push(removed(id)),
            ("changed", Some(done)) if OPEN.contains(&done) => reading.skip(format!("order {id}: {done}, nothing follows")),
            // Whatever it says, the order itself says how it stands.
            _ => self.ask(reading, "order", id, json!({ "transaction": id, "told_at": hook["time"] })),
        }
    }

    fn ask(&self, reading: &mut Reading, what_kind: &str, id: &str, what: Value) {
        match self.may_ask() {
            true => reading.asks.push(Ask { subject: format!("{what_kind}/{id}"), refs: vec![id.to_owned()], what }),
            false => reading.skip(format!("{what_kind} {id}: without an access token Poster cannot be asked about it")),
        }
    }

    fn read_application(&self, request: &Request, hook: &Value, action: &str, reading: &mut Reading) {
        let ours = self.application_id.as_deref().is_none_or(|ours| tree::text(&hook["object_id"]).as_deref() == Some(ours));
        match action {
            _ if !ours => reading.skip("it is about another application: nothing follows"),
            _ if !is_fresh(request, hook) => reading.skip(format!("application {action}: told too long ago, nothing follows")),
            "removed" => reading.disconnected = Some("the application was removed in Poster".to_owned()),
            "added" if self.account.is_none() => {
                reading.skip("the application was connected; set `account` to let Poster hand over access in this way");
            }
            _ => reading.skip(format!("application {action}: nothing follows")),
        }
    }

    /// The token that Poster hands over when the owner connects the application. Only where the settings name the account: the
    /// address is one for all accounts that install it.
    pub(super) fn pushed_login(&self, request: &Request) -> Option<Session> {
        scrub_mark(request)?;
        let hook = request.json().ok()?;
        let is = |name: &str, wanted: &str| tree::text(&hook[name]).as_deref() == Some(wanted);
        let ours = is("object", "application") && is("action", "added") && is("account", self.account.as_deref()?);
        let signed = self.application().is_some_and(|(id, _)| is("object_id", id)) && !tree::is_blank(&hook["verify"]);
        if !ours || !signed || !is_fresh(request, &hook) {
            return None;
        }
        let token = tree::text(&data(&hook)[TOKEN]).map(Secret::new)?;
        super::token(&token, &()).is_ok().then(|| self.session(token, request.received_at))
    }
}

fn scrub_mark(request: &Request) -> Option<usize> {
    crate::scrub::mark(&request.body, TOKEN)
}

fn is_fresh(request: &Request, hook: &Value) -> bool {
    let told_at = tree::integer(&hook["time"]).and_then(|second| Timestamp::from_second(second).ok());
    told_at.is_some_and(|at| request.received_at.duration_since(at) < TOLD_FOR)
}

/// An order that was deleted: it cannot be asked about any more.
fn removed(id: &str) -> Happening {
    Happening {
        key: Some(format!("order/{id}/cancelled")),
        kind: kind::ORDER_CANCELLED,
        subject: format!("order/{id}"),
        at: None,
        person: Person::default(),
        refs: vec![id.to_owned()],
        data: json!({ "status": "removed", "order_id": id }),
        look_up: None,
    }
}

fn stock(hook: &Value, id: &str) -> Happening {
    let told = data(hook);
    let member = |name: &str| tree::text(&told[name]);
    let printed = |name: &str| member(name).unwrap_or_else(|| "-".to_owned());
    let time = tree::text(&hook["time"]).unwrap_or_default();
    Happening {
        // The thing has no id of its own: the same amount told at the same second is the same news.
        key: Some(format!("stock/{id}/{}/{}/{time}", printed("storage_id"), printed("value_absolute"))),
        kind: kind::STOCK_CHANGED,
        subject: format!("stock/{id}"),
        at: tree::integer(&hook["time"]).and_then(|second| Timestamp::from_second(second).ok()),
        person: Person::default(),
        refs: member("element_id").into_iter().collect(),
        data: tree::object([
            ("element_type", member("type")),
            ("element_id", member("element_id")),
            ("storage_id", member("storage_id")),
            ("change_count", tree::decimal(&told["value_relative"])),
            ("left_count", tree::decimal(&told["value_absolute"])),
        ]),
        look_up: None,
    }
}
