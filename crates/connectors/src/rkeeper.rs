//! r_keeper (UCS): orders of a restaurant, pushed by r_keeper Delivery and by White Server.
//!
//! Docs: <https://docs.rkeeper.ru/delivery/vneshnee-api-dlya-push-uvedomlenij-156074728.html>,
//! <https://docs.rkeeper.ru/ws/sobytijnaya-model-raboty-83200598.html>. A push is whatever the restaurant's template says,
//! so there is no schema to read by, only places to look at; names of statuses can be edited by the restaurant;
//! White Server spells `Complited` and tells no phone, which is then asked of the Delivery API.

use async_trait::async_trait;
use garde::Validate;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    CallError, Client, Connector, Happening, Malformed, Outgoing, Person, Provider, Reading, Refusal, Request, Secret,
    event::kind,
    port::{Found, Guests, Login, Session},
};

use crate::{form, tree};

pub(crate) const PROVIDER: Provider =
    Provider::new::<Rkeeper>("rkeeper", "r_keeper").with_words(include_str!("rkeeper.words.toml"));

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rkeeper {
    /// Names of the statuses that mean "completed", as your restaurant calls them.
    #[serde(default = "completed_statuses")]
    #[garde(length(min = 1, max = 50))]
    #[schemars(length(min = 1, max = 50))]
    completed_statuses: Vec<String>,
    /// Names of the statuses that mean "cancelled". A text that has not gone yet is then not sent.
    #[serde(default = "cancelled_statuses")]
    #[garde(length(max = 50))]
    #[schemars(length(max = 50))]
    cancelled_statuses: Vec<String>,
    /// The template's own condition lets only completed orders through: a push without a status counts as completed.
    #[serde(default)]
    #[garde(skip)]
    template_filters_by_status: bool,
    /// From the admin panel (Integrations, API connection), to ask for the guest's phone where a push has none.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schemars(length(min = 1, max = 200))]
    client_id: Option<String>,
    /// The secret from the same page as the client ID. It is kept encrypted and not shown again.
    #[garde(skip)]
    client_secret: Option<Secret>,
    /// Where the Delivery API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
    /// Where the Delivery API gives its tokens.
    #[serde(default = "auth_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    auth_url: String,
}

fn completed_statuses() -> Vec<String> {
    ["Выполнен", "Доставлен", "Завершен", "Completed", "Delivered", "Complited", "IssuedOut"].map(str::to_owned).into()
}

fn cancelled_statuses() -> Vec<String> {
    ["Отменен", "Cancelled", "Canceled"].map(str::to_owned).into()
}

fn base_url() -> String {
    "https://delivery.ucs.ru".to_owned()
}

fn auth_url() -> String {
    "https://auth-delivery.ucs.ru".to_owned()
}

impl Connector for Rkeeper {
    fn credential_headers(&self) -> &'static [&'static str] {
        &["token", "x-auth-token"]
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = body(request)?;
        let orders = match &body {
            Value::Array(orders) => orders.as_slice(),
            Value::Object(_) => std::slice::from_ref(&body),
            _ => return Err(Malformed::new("neither an order nor a list of orders was in the body")),
        };
        if orders.is_empty() {
            return Err(Malformed::new("an empty list: an order was expected"));
        }
        let mut reading = Reading::default();
        for order in orders {
            match self.read(order) {
                Ok(happening) => reading.happenings.push(happening),
                Err(why) => reading.skip(why),
            }
        }
        Ok(reading)
    }

    fn guests(&self) -> Option<&dyn Guests> {
        self.client().map(|_| self as &dyn Guests)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.client().map(|_| self as &dyn Login)
    }
}

impl Rkeeper {
    fn client(&self) -> Option<(&str, &Secret)> {
        self.client_id.as_deref().zip(self.client_secret.as_ref())
    }

    /// What one order's body says, or why nothing follows from it.
    fn read(&self, body: &Value) -> Result<Happening, String> {
        if !body.is_object() {
            return Err("not an order: an object was expected".to_owned());
        }
        let ids = all(body, IDS, |id| tree::text(id).filter(|id| id.len() <= 100).map(|id| plain_id(&id)));
        let phones = all(body, PHONES, |phone| (!tree::is_blank(phone)).then(|| phone.clone()));
        let status = all(body, STATUSES, named).into_iter().next();
        let (kind, word) = match &status {
            Some(status) if listed(&self.completed_statuses, status) => (kind::ORDER_COMPLETED, "completed"),
            Some(status) if listed(&self.cancelled_statuses, status) => (kind::ORDER_CANCELLED, "cancelled"),
            Some(status) => return Err(format!("status «{status}» is not final: nothing follows")),
            None if !self.template_filters_by_status => {
                return Err("no status in the body, and the settings do not say that the template filters by status".to_owned());
            }
            None if phones.is_empty() && ids.is_empty() => {
                return Err("neither a status, an order's id nor a phone in the body".to_owned());
            }
            None => (kind::ORDER_COMPLETED, "completed"),
        };
        // The Delivery API finds orders by their number; a GUID is tried where there is no number.
        let asked = ids.iter().find(|id| id.bytes().all(|byte| byte.is_ascii_digit())).or(ids.first()).filter(|id| safe(id));
        let looks_up = kind == kind::ORDER_COMPLETED && self.client().is_some();
        let id = ids.first();
        Ok(Happening {
            key: id.map(|id| format!("order/{id}/{word}")),
            kind,
            subject: format!("order/{}", id.map_or("-", String::as_str)),
            at: all(body, TIMES, |time| tree::text(time)?.parse::<Timestamp>().ok()).into_iter().next(),
            person: Person { name: name(body), phones, emails: Vec::new() },
            data: tree::object([
                ("status", status),
                ("sum", all(body, SUMS, tree::decimal).into_iter().next()),
                ("restaurant", all(body, RESTAURANTS, tree::text).into_iter().next()),
            ]),
            look_up: asked.filter(|_| looks_up).map(|id| json!({ "order": id })),
            refs: ids,
        })
    }
}

#[async_trait]
impl Guests for Rkeeper {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let Some(id) = tree::text(&what["order"]).filter(|id| safe(id)) else {
            return Err(CallError::refused(Refusal::Ours, "order", "a look-up needs the order's id"));
        };
        let reply = client
            .send(Outgoing::new("GET", format!("{}/orders/api/v1/orders/{id}", self.base_url.trim_end_matches('/'))))
            .await?;
        if reply.status == 404 {
            return Ok(Found::Nobody(format!("r_keeper Delivery does not know order {id}")));
        }
        if reply.status == 403 {
            return Err(CallError::refused(Refusal::Account, 403, "r_keeper Delivery does not let this connection read orders"));
        }
        let answer: Value =
            if reply.status < 300 { reply.json()? } else { serde_json::from_slice(&reply.body).unwrap_or_default() };
        let result = &answer["result"];
        if reply.status >= 300 || !result.is_object() {
            let code = tree::text(&answer["code"]).unwrap_or_else(|| reply.status.to_string());
            let reason = tree::text(&answer["msg"]).unwrap_or_else(|| "the answer holds no order".to_owned());
            return Err(match code.starts_with("ERR_EXTERNAL") {
                true => CallError::Later { reason: format!("{code}: {reason}"), at: None },
                false => CallError::refused(Refusal::Command, code, reason),
            });
        }
        let phones = all(result, PHONES, |phone| (!tree::is_blank(phone)).then(|| phone.clone()));
        if phones.is_empty() {
            return Ok(Found::Nobody(format!("order {id} names no phone")));
        }
        Ok(Found::Person(Person { name: name(result), phones, emails: tree::emails(result, &[&["guest", "email"]]) }))
    }
}

#[async_trait]
impl Login for Rkeeper {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        let Some((id, secret)) = self.client() else {
            return Err(CallError::Unauthorized("client ID and client secret of the Delivery API are not set".to_owned()));
        };
        // The document writes `scopes`, OAuth writes `scope`: both are sent.
        let form = [
            ("client_id", id),
            ("client_secret", secret.expose()),
            ("grant_type", "client_credentials"),
            ("scope", "orders"),
            ("scopes", "orders"),
        ];
        let url = format!("{}/connect/token", self.auth_url.trim_end_matches('/'));
        let reply = client.send(Outgoing::new("POST", url).form(&form).reads().logs_in()).await?;
        if reply.status >= 300 {
            let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
            let error = tree::text(&answer["error"]).unwrap_or_else(|| reply.status.to_string());
            return Err(CallError::Unauthorized(format!("r_keeper Delivery refused the client ID or secret: {error}")));
        }
        let answer: Value = reply.json()?;
        let access = tree::text(&answer["access_token"])
            .ok_or_else(|| CallError::Unreadable("access_token is missing in the answer".to_owned()))?;
        let lasts = tree::integer(&answer["expires_in"]).unwrap_or(3600).clamp(120, 86_400);
        let expires_at = client.now().checked_add(SignedDuration::from_secs(lasts - 60)).ok();
        Ok(Session { access: Secret::new(access), refresh: None, expires_at })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }
}

/// Places, in the order in which they are tried. Inside `result` (the Delivery API's own shape) and `response` (White
/// Server's events) the same places are tried again.
type Places = &'static [&'static [&'static str]];

const PHONES: Places = &[
    &["order", "customer", "phone"],
    &["order", "client", "phone"],
    &["customer", "phone"],
    &["client", "phone"],
    &["phone"],
    &["order", "guest", "phone"],
    &["guest", "phone"],
    &["phone_number"],
    &["order", "phone"],
    &["guestPhone"],
];
const STATUSES: Places =
    &[&["order", "status"], &["order", "orderStatusName"], &["status"], &["orderStatusName"], &["orderStatus"], &["state"]];
const IDS: Places = &[
    &["order", "id"],
    &["order", "orderId"],
    &["orderId"],
    &["originalOrderId"],
    &["id"],
    &["order_id"],
    &["orderGuid"],
    &["number"],
];
const NAMES: Places = &[
    &["order", "customer", "name"],
    &["order", "client", "name"],
    &["customer", "name"],
    &["client", "name"],
    &["order", "guest", "firstName"],
    &["guest", "firstName"],
    &["guestmeta", "name"],
];
const SUMS: Places = &[&["order", "amount"], &["amount"], &["order", "sum"], &["sum"]];
const RESTAURANTS: Places = &[&["order", "restaurantName"], &["restaurantName"], &["restaurant"]];
const TIMES: Places = &[
    &["order", "completedAt"],
    &["completedAt"],
    &["responseEventCommon", "dateTimeServerReceiveEventFromAgent"],
    &["order", "updatedAt"],
    &["updatedAt"],
];

/// Everything that can be read at the places, each thing once.
fn all<T: PartialEq>(body: &Value, places: Places, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let mut found = Vec::new();
    for body in [body, &body["result"], &body["response"]] {
        for thing in places.iter().filter_map(|place| read(tree::at(body, place))) {
            if !found.contains(&thing) {
                found.push(thing);
            }
        }
    }
    found
}

fn name(body: &Value) -> Option<String> {
    all(body, NAMES, tree::text).into_iter().next()
}

/// A status is a text, or an object that names it.
fn named(status: &Value) -> Option<String> {
    tree::text(status).or_else(|| tree::text(&status["name"])).or_else(|| tree::text(&status["value"]))
}

/// GUIDs come in either case, with braces or without.
fn plain_id(id: &str) -> String {
    let bare = id.trim_start_matches('{').trim_end_matches('}');
    let guid = bare.len() == 36 && bare.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if guid { bare.to_ascii_lowercase() } else { id.to_owned() }
}

/// Whether an id of a stranger's making may stand in a URL's path.
fn safe(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn listed(statuses: &[String], status: &str) -> bool {
    let fold = |text: &str| text.trim().to_lowercase().replace('ё', "е");
    statuses.iter().any(|known| fold(known) == fold(status))
}

fn body(request: &Request) -> Result<Value, Malformed> {
    let body = request.body.trim_ascii();
    let form = request.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("x-www-form-urlencoded"));
    match body.first() {
        Some(b'<') => {
            Err(Malformed::new("the body is XML, as the till or White Server v1 sends it: only JSON and forms are read"))
        }
        Some(first) if form && !b"{[".contains(first) => match body.contains(&b'=') {
            true => form::read(body),
            false => Err(Malformed::new("the body is called a form but is none")),
        },
        _ => request.json(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn read(settings: Value, body: &str) -> Result<Reading, Malformed> {
        PROVIDER.open(settings).unwrap().parse(&testing::post("application/json", body))
    }

    #[test]
    fn one_order_has_one_key_whoever_tells_it() {
        let push = read(json!({}), r#"{"order":{"id":"59707","status":" выполнен "}}"#).unwrap();
        let event = r#"{"responseEventCommon":{"eventGuid":"e1","dateTimeServerReceiveEventFromAgent":"2026-09-14T11:36:51.7032158+03:00"},
            "response":{"originalOrderId":"59707","orderGuid":"{0A1B2C3D-0000-4000-8000-0000000000F1}","status":{"value":"Complited"}}}"#;
        let event = read(json!({ "client_id": "a", "client_secret": "b" }), event).unwrap();
        assert_eq!(push.happenings[0].key.as_deref(), Some("order/59707/completed"));
        assert_eq!(event.happenings[0].key, push.happenings[0].key);
        assert_eq!(event.happenings[0].refs, ["59707", "0a1b2c3d-0000-4000-8000-0000000000f1"]);
        assert_eq!(event.happenings[0].look_up, Some(json!({ "order": "59707" })));
        assert_eq!(event.happenings[0].at, Some("2026-09-14T08:36:51.7032158Z".parse().unwrap()));
    }

    #[test]
    fn statuses_are_the_restaurants_own() {
        let body = r#"{"orderId":1,"status":{"id":7,"name":"ЗАВЕРШЁН"},"phone":79990002201}"#;
        assert_eq!(read(json!({}), body).unwrap().happenings[0].person.phones, [json!(79990002201u64)]);
        let renamed = read(json!({ "completed_statuses": ["Отдан"] }), body).unwrap();
        assert_eq!(renamed.skipped, ["status «ЗАВЕРШЁН» is not final: nothing follows"]);
    }

    #[test]
    fn no_status_counts_only_where_the_template_filters() {
        let body = r#"[{"order_id":59714,"phone":"+79990002208"},{},7]"#;
        assert_eq!(read(json!({}), body).unwrap().happenings, []);
        let reading = read(json!({ "template_filters_by_status": true }), body).unwrap();
        assert_eq!(reading.happenings[0].key.as_deref(), Some("order/59714/completed"));
        assert_eq!(reading.skipped.len(), 2);
    }

    #[test]
    fn what_is_no_order_is_a_dead_letter() {
        for body in ["", "ok", "<Event/>", "[]"] {
            assert!(read(json!({}), body).is_err(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_phone_is_asked_of_the_delivery_api() {
        let rkeeper = PROVIDER.open(json!({ "client_id": "a", "client_secret": "b" })).unwrap();
        let script = testing::Script::new(&[
            (200, r#"{"access_token":"jwt","expires_in":3600}"#),
            (200, r#"{"result":{"orderId":"59707","guest":{"phone":"79990002201","firstName":"Мария"}}}"#),
            (200, r#"{"code":"ERR_EXTERNAL_ERROR_WS","msg":"WS Error"}"#),
        ]);
        let client = Client::new(&script);
        rkeeper.login().unwrap().renew(&client, None).await.unwrap();
        let guests = rkeeper.guests().unwrap();
        let found = guests.look_up(&client, &json!({ "order": "59707" })).await.unwrap();
        assert_eq!(
            found,
            Found::Person(Person { name: Some("Мария".into()), phones: vec![json!("79990002201")], emails: Vec::new() })
        );
        assert!(matches!(guests.look_up(&client, &json!({ "order": "59707" })).await, Err(CallError::Later { .. })));
        assert!(guests.look_up(&client, &json!({ "order": "../admin" })).await.is_err());
        assert_eq!(script.sent()[1].url, "https://delivery.ucs.ru/orders/api/v1/orders/59707");
    }
}
