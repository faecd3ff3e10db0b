//! Webhooks: who signed them, and what is to be asked after each.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use uzel_model::{
    Happening, Malformed, Person, Reading, Request, Secret, connector::Ask, event::kind, port::Session, signature::md5_hex,
};

use super::{Poster, TOKEN, is_token, wire};
use crate::tree;

/// Poster repeats what was not taken for two days; a login, or its end, that was told longer ago is somebody else's repeat.
const TOLD_FOR: SignedDuration = SignedDuration::from_hours(72);

/// Operations at the till by which an order stays open.
const OPEN: [&str; 9] =
    ["open", "comment", "print", "sendtokitchen", "additem", "settable", "changeitemcount", "deleteitem", "setclient"];

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
            "transaction" => self.read_transaction(request, hook, &id, &action, &mut reading),
            "incoming_order" => match action.as_str() {
                "removed" => reading.skip(format!("incoming order {id} was removed: nothing follows")),
                _ => {
                    let what = json!({ "incoming_order": id, "type": data(hook)["type"], "told_at": told_at(request) });
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

    fn read_transaction(&self, request: &Request, hook: &Value, id: &str, action: &str, reading: &mut Reading) {
        let done = tree::text(&data(hook)["transactions_history"]["type_history"]);
        match (action, done.as_deref()) {
            ("added", _) => reading.skip(format!("order {id} was opened: nothing follows")),
            ("removed", _) => reading.happenings.push(removed(id)),
            ("changed", Some(done)) if OPEN.contains(&done) => reading.skip(format!("order {id}: {done}, nothing follows")),
            // Whatever it says, the order itself says how it stands.
            _ => self.ask(reading, "order", id, json!({ "transaction": id, "told_at": told_at(request) })),
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
        let token = tree::text(&data(&hook)[TOKEN]).filter(|token| is_token(token))?;
        Some(self.session(Secret::new(token), request.received_at))
    }
}

/// When it came, by the hub's clock: Poster's own may be hours off, and how long an order is asked for hangs on it.
fn told_at(request: &Request) -> i64 {
    request.received_at.as_second()
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

#[cfg(test)]
mod tests {
    use uzel_model::{Connector, Rejection};

    use super::{super::PROVIDER, *};
    use crate::testing;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn poster(settings: Value) -> Box<dyn Connector> {
        let mut all =
            json!({ "application_id": "1234", "application_secret": SECRET, "access_token": "700001:5d41402abc4b2a76" });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        PROVIDER.open(all).unwrap()
    }

    fn request(body: &str) -> Request {
        Request { key: None, ..testing::post("application/json", body) }
    }

    #[test]
    fn the_signatures_of_the_documents_are_right_and_of_nothing_else() {
        // Each was confirmed by Poster's own kits.
        for (body, verify) in [
            (
                r#""account":"demo-cafe","object":"transaction","object_id":16776,"action":"closed""#,
                "38d4cf3993d89f2e0d184b30f9bd6a8c",
            ),
            (
                r#""account":"demo-cafe","object":"transaction","object_id":"16776","action":"closed","data":"""#,
                "38D4CF3993D89F2E0D184B30F9BD6A8C",
            ),
            (
                r#""account":"demo-cafe","object":"client_ewallet","object_id":42,"action":"changed","data":"{\"value_relative\":-5000,\"value_absolute\":15000}""#,
                "2844ac3202e49700383e3356292eee3b",
            ),
            (
                r#""account":"demo-cafe","object":"client_ewallet","object_id":42,"action":"changed","data":{"value_relative":-5000,"value_absolute":15000}"#,
                "2844ac3202e49700383e3356292eee3b",
            ),
            (
                r#""account":"кафе","object":"client","object_id":5,"action":"changed","data":"{\"name\":\"Иван \\u0418\"}""#,
                "f279ffcdf6ab867b5b8fed75bcb0212d",
            ),
        ] {
            let signed = format!(r#"{{{body},"time":"1760000000","verify":"{verify}"}}"#);
            assert_eq!(poster(json!({})).verify(&request(&signed)), Ok(()), "{signed}");
            let other = poster(json!({ "application_secret": "another" }));
            assert_eq!(other.verify(&request(&signed)), Err(Rejection::Forged));
            for (name, value) in
                [("1760000000", "1760000001"), ("changed", "closed"), ("closed", "removed"), (verify, "0"), ("object_id", "o")]
            {
                let changed = signed.replace(name, value);
                if changed != signed {
                    assert_eq!(poster(json!({})).verify(&request(&changed)), Err(Rejection::Forged), "{changed}");
                }
            }
            let keyed = Request { key: Some("key".to_owned()), ..request(&signed.replace(verify, "0")) };
            assert_eq!(poster(json!({})).verify(&keyed), Err(Rejection::Forged), "a key does not make up for it");
        }
        assert_eq!(poster(json!({})).verify(&request("{}")), Err(Rejection::Unsigned));
    }

    #[test]
    fn a_token_handed_over_is_taken_out_of_the_body_and_only_of_our_account() {
        let body = r#"{"account":"demo-cafe","object":"application","object_id":1234,"action":"added","time":"100","verify":"v","data":"{\"user_id\":\"4\",\"access_token\":\"700001:5d41402abc4b2a76\"}"}"#;
        let ours = poster(json!({ "account": "demo-cafe" }));
        assert_eq!(ours.brings_login(&request(body)).unwrap().access.expose(), "700001:5d41402abc4b2a76");
        let kept = String::from_utf8(ours.scrub(&request(body)).unwrap().to_vec()).unwrap();
        assert!(!kept.contains("5d41402abc4b2a76") && kept.contains("demo-cafe"), "{kept}");
        for changed in [
            body.replace("demo-cafe", "other-cafe"),
            body.replace("1234", "99"),
            body.replace("added", "removed"),
            body.replace(r#""verify":"v","#, ""),
            body.replace("700001:", "https://evil/"),
            body.replace(r#""100""#, r#""-300000""#),
        ] {
            assert!(ours.brings_login(&request(&changed)).is_none(), "{changed}");
        }
        assert!(poster(json!({})).brings_login(&request(body)).is_none(), "no account is set");
        // However it is written, it is kept of no body.
        for body in [r#"{"access\u005ftoken":"700001:5d41402abc4b2a76""#, r#"[{"access_token":"700001:5d41402abc4b2a76"}]"#] {
            assert!(!String::from_utf8_lossy(&ours.scrub(&request(body)).unwrap()).contains("5d41402abc4b2a76"), "{body}");
        }
    }
}
