//! iiko: orders of restaurants and deliveries, told by the Cloud API and by order sources (SOI).
//!
//! Docs: <https://api-ru.iiko.services/docs>. The body is an array of events of any kind; the guest's phone stands beside
//! the customer, not in it, and table orders mostly have none; Delivered and Closed both come for one order; every
//! call is a POST, and times have no zone (`eventTime` is UTC). Nobody documents in which header `authToken` travels.

use async_trait::async_trait;
use garde::Validate;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Client, Connector, Happening, Malformed, Outgoing, Person, Provider, Reading, Refusal, Rejection, Reply,
    Request, Secret,
    connector::{Rate, Scope},
    event::kind,
    port::{Found, Guests, Login, Page, Polls, Session, Subscription},
    signature,
};

use crate::tree;

pub(crate) const PROVIDER: Provider = Provider::new::<Iiko>("iiko", "iiko");

/// More events than this in one request are nobody's.
const EVENTS: usize = 500;
const TOKEN_HEADERS: &[&str] = &["authtoken", "x-auth-token", "x-iiko-webhook-token"];
/// As far back as `by_revision` reaches (three hours), with room for clocks that differ.
const REVISIONS: SignedDuration = SignedDuration::from_mins(175);
/// A start that lies further back is not "now" with a clock that differs.
const EARLIER: SignedDuration = SignedDuration::from_mins(5);
const FINAL: [&str; 3] = ["Delivered", "Closed", "Cancelled"];

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Iiko {
    /// API login (API key), from iikoWeb, "Cloud API settings"; needed for anything that the hub asks of iiko.
    #[garde(skip)]
    api_login: Option<Secret>,
    /// Application's id, if you made an application in the portal of the Cloud API.
    #[garde(inner(length(min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    app_id: Option<String>,
    /// The application's client secret.
    #[garde(skip)]
    client_secret: Option<Secret>,
    /// Id of the organisation, to read missed orders and to register the webhook.
    #[garde(inner(length(min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    organization_id: Option<String>,
    /// Token that iiko is to send with every webhook (authToken). A request with another one is refused.
    #[garde(skip)]
    auth_token: Option<Secret>,
    /// Leave out orders on which the restaurant noted a problem.
    #[serde(default = "yes")]
    #[garde(skip)]
    skip_problem_orders: bool,
    /// Leave out guests who are in the restaurant's black list.
    #[serde(default = "yes")]
    #[garde(skip)]
    skip_blacklisted: bool,
    /// Names by which orders of aggregators are known: their phones are not the guest's. Empty: leave none out.
    #[serde(default = "aggregators")]
    #[garde(length(max = 100))]
    #[schemars(length(max = 100))]
    aggregators: Vec<String>,
    /// Seconds between two polls of changed orders.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 30, max = 7_200))]
    #[schemars(range(min = 30, max = 7_200))]
    poll_every_s: u32,
    /// Minutes for which a token of iiko is used; iiko gives it for an hour.
    #[serde(default = "token_minutes")]
    #[garde(range(min = 1, max = 60))]
    #[schemars(range(min = 1, max = 60))]
    token_minutes: u32,
    /// Calls a second at the most; iiko publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 100_000))]
    #[schemars(range(min = 1, max = 100_000))]
    calls_per_s: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn yes() -> bool {
    true
}

fn aggregators() -> Vec<String> {
    [
        "Яндекс.Еда",
        "Яндекс Еда",
        "yandex_food",
        "yandex.food",
        "Деливери",
        "Delivery Club",
        "delivery_club",
        "Купер",
        "kuper",
        "СберМаркет",
        "sbermarket",
        "Uzum Tezkor",
        "Glovo",
        "Wolt",
    ]
    .map(str::to_owned)
    .into()
}

fn poll_every_s() -> u32 {
    180
}

fn token_minutes() -> u32 {
    50
}

fn calls_per_s() -> u32 {
    5
}

fn base_url() -> String {
    "https://api-ru.iiko.services".to_owned()
}

impl Connector for Iiko {
    fn credential_headers(&self) -> &'static [&'static str] {
        TOKEN_HEADERS
    }

    /// The hub's key proves it. A token may come besides: none is fine, a wrong one is not.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.key.is_none() {
            return Err(Rejection::Unsigned);
        }
        let Some(token) = &self.auth_token else { return Ok(()) };
        let wrong = |header: &str| {
            request.header(header).is_some_and(|value| {
                let bearer = value.get(..7).filter(|start| start.eq_ignore_ascii_case("bearer ")).map(|_| &value[7..]);
                !signature::equal(bearer.unwrap_or(value).trim(), token.expose())
            })
        };
        // Where the key did not come in the URL, it is the key that such a header may hold.
        let key_in_url = request.query("key").is_some();
        let key_elsewhere = key_in_url || request.header("x-api-key").is_some() || request.header("authorization").is_some();
        let forged = (key_in_url && wrong("authorization")) || (key_elsewhere && TOKEN_HEADERS.iter().any(|name| wrong(name)));
        if forged { Err(Rejection::Forged) } else { Ok(()) }
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        let events = match &body {
            Value::Array(events) => events.as_slice(),
            Value::Object(_) => std::slice::from_ref(&body),
            _ => return Err(Malformed::new("neither an event nor a list of events was in the body")),
        };
        if events.is_empty() {
            return Err(Malformed::new("an empty list: an event was expected"));
        }
        let mut reading = Reading::default();
        for event in events.iter().take(EVENTS) {
            match self.read(event) {
                Ok(happening) => reading.happenings.push(happening),
                Err(why) => reading.skip(why),
            }
        }
        if events.len() > EVENTS {
            reading.skip(format!("only the first {EVENTS} of {} events were read", events.len()));
        }
        Ok(reading)
    }

    fn guests(&self) -> Option<&dyn Guests> {
        self.may_ask().then_some(self)
    }

    fn login(&self) -> Option<&dyn Login> {
        self.may_ask().then_some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        (self.may_ask() && self.organization_id.is_some()).then_some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        (self.may_ask() && self.organization_id.is_some()).then_some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        let scope = match &self.api_login {
            Some(login) => Scope::Account(signature::sha256_hex([login.expose().as_bytes()])),
            None => Scope::Connection,
        };
        vec![Rate { scope, per_s: self.calls_per_s }]
    }
}

impl Iiko {
    fn may_ask(&self) -> bool {
        self.api_login.is_some()
    }

    /// What one event says, or why nothing follows from it.
    fn read(&self, event: &Value) -> Result<Happening, String> {
        if !event.is_object() {
            return Err("not an event: an object was expected".to_owned());
        }
        if event["iikoOrderDetails"].is_object() {
            return self.source_order(event);
        }
        match event["eventType"].as_str() {
            Some("DeliveryOrderUpdate") | None => self.order(event, false),
            Some("TableOrderUpdate") => self.order(event, true),
            Some("ReserveUpdate") => reserve(event),
            Some("StopListUpdate") => stop_list(event),
            Some(name @ ("DeliveryOrderError" | "TableOrderError" | "ReserveError")) => {
                let error = &event["eventInfo"]["errorInfo"];
                let code = tree::text(&error["code"]).unwrap_or_default();
                let said = tree::text(&error["message"]).unwrap_or_default();
                Err(format!("{name} {code} {said}: iiko could not carry out a command, nothing follows"))
            }
            Some(name) => Err(format!("{name}: events of this type are not read")),
        }
    }

    fn order(&self, event: &Value, table: bool) -> Result<Happening, String> {
        let info = &event["eventInfo"];
        let nested = [&info["order"], &event["order"], &event["deliveryOrder"]].into_iter().find(|order| order.is_object());
        let order = nested.or(Some(event).filter(|event| event["status"].is_string()));
        if let Some(made) = tree::text(&info["creationStatus"]).filter(|made| made != "Success") {
            return Err(format!("creationStatus {made}: the order does not stand yet, nothing follows"));
        }
        let order = order.ok_or("no order in the body: nothing follows")?;
        let status = tree::text(&order["status"]).ok_or("no status in the order: nothing follows")?;
        let gone = tree::flag(&order["isDeleted"]);
        let (kind, word) = match status.as_str() {
            _ if gone => (kind::ORDER_CANCELLED, "cancelled"),
            "Delivered" | "Closed" | "Finished" => (kind::ORDER_COMPLETED, "completed"),
            "Cancelled" | "Deleted" => (kind::ORDER_CANCELLED, "cancelled"),
            _ => return Err(format!("status {status} is not final: nothing follows")),
        };
        if kind == kind::ORDER_COMPLETED
            && let Some(why) = self.unwelcome(order)
        {
            return Err(why);
        }
        let organization = organization(event);
        let id = [&info["id"], &order["id"]].into_iter().find_map(uuid);
        let phones = tree::phones(event, PHONES);
        let customer = uuid(&order["customer"]["id"]);
        let what = if table { customer.map(|id| ("customer", id)) } else { id.clone().map(|id| ("order", id)) };
        let look_up = what.filter(|_| kind == kind::ORDER_COMPLETED && phones.iter().all(tree::is_blank));
        let number = tree::text(&order["number"]);
        let mut data = tree::object([
            ("status", Some(if gone { "Deleted".to_owned() } else { status })),
            ("sum", tree::decimal(&order["sum"])),
            ("number", number.clone()),
            ("type", Some(if table { "table" } else { "delivery" }.to_owned())),
            ("order_type", tree::text(&order["orderType"]["name"])),
            ("restaurant", tree::text(&order["conception"]["name"])),
            ("source", tree::text(&order["sourceKey"])),
            ("cancel_cause", tree::text(&order["cancelInfo"]["cause"]["name"])),
            ("staff", tree::text(&order["waiter"]["name"])),
        ]);
        data["items"] = json!(items(order));
        Ok(Happening {
            key: key(&organization, &id, word),
            kind,
            subject: format!("order/{}", id.as_deref().unwrap_or("-")),
            at: utc(&event["eventTime"]),
            person: Person { name: name(event, order), phones },
            refs: number.into_iter().chain(tree::text(&info["externalNumber"])).chain(id).collect(),
            data,
            look_up: look_up.and_then(|(name, id)| self.asked(name, &id, organization.as_deref())),
        })
    }

    /// The older road: notifications of an order source (SOI), which name no guest.
    fn source_order(&self, event: &Value) -> Result<Happening, String> {
        let details = &event["iikoOrderDetails"];
        let status = tree::text(&details["orderStatus"]).ok_or("no orderStatus in the body: nothing follows")?;
        let (kind, word) = match status.to_ascii_uppercase().as_str() {
            "DELIVERED" | "CLOSED" => (kind::ORDER_COMPLETED, "completed"),
            "CANCELLED" | "CANCELED" => (kind::ORDER_CANCELLED, "cancelled"),
            _ => return Err(format!("status {status} is not final: nothing follows")),
        };
        let completed = kind == kind::ORDER_COMPLETED;
        if completed && self.skip_problem_orders && !tree::is_blank(&details["problem"]) {
            return Err("the order has a problem: nobody is asked for a review".to_owned());
        }
        let organization = uuid(&event["transactionDetails"]["organizationId"]);
        let id = uuid(&details["iikoOrderId"]);
        let number = tree::text(&details["iikoOrderNumber"]);
        let external = tree::text(&event["orderExternalId"]);
        let key = key(&organization, &id, word)
            .or_else(|| Some(format!("order/{}/external/{}/{word}", organization.as_deref().unwrap_or("-"), external.as_ref()?)));
        let look_up = id.as_ref().filter(|_| completed);
        let look_up = look_up.and_then(|id| self.asked("order", id, organization.as_deref()));
        Ok(Happening {
            key,
            kind,
            subject: format!("order/{}", id.as_ref().or(external.as_ref()).map_or("-", String::as_str)),
            at: None,
            person: Person::default(),
            data: tree::object([
                ("status", Some(status)),
                ("sum", tree::decimal(&details["orderAmount"])),
                ("number", number.clone()),
                ("type", Some("delivery".to_owned())),
                ("order_type", tree::text(&details["orderType"])),
                ("restaurant", tree::text(&details["restaurantName"])),
            ]),
            refs: number.into_iter().chain(external).chain(id).collect(),
            look_up,
        })
    }

    /// The words of a look-up, where the hub may ask and knows whom.
    fn asked(&self, name: &str, id: &str, organization: Option<&str>) -> Option<Value> {
        let organization = organization.or(self.organization_id.as_deref())?;
        self.may_ask().then(|| json!({ name: id, "organization": organization }))
    }

    /// Why the guest of an order is not to be written to.
    fn unwelcome(&self, order: &Value) -> Option<String> {
        if self.skip_problem_orders && tree::flag(&order["problem"]["hasProblem"]) {
            let said = tree::text(&order["problem"]["description"]).map_or(String::new(), |said| format!(" ({said})"));
            return Some(format!("the order has a problem{said}: nobody is asked for a review"));
        }
        if self.skip_blacklisted && tree::flag(&order["customer"]["inBlacklist"]) {
            return Some("the guest is in the restaurant's black list".to_owned());
        }
        let payments = order["payments"].as_array().map_or(&[][..], Vec::as_slice);
        let places = [&order["sourceKey"], &order["orderType"]["name"], &order["marketingSource"]["name"]];
        let one_time = Some(&order["customer"]["name"]).filter(|_| order["customer"]["type"].as_str() == Some("one-time"));
        let names = places.into_iter().chain(one_time).chain(payments.iter().map(|payment| &payment["paymentType"]["name"]));
        let known: Vec<String> = self.aggregators.iter().map(|name| name.trim().to_lowercase()).collect();
        names
            .filter_map(tree::text)
            .find(|name| known.iter().any(|known| !known.is_empty() && name.to_lowercase().contains(known)))
            .map(|name| format!("an order of an aggregator ({name}): its phone is not the guest's"))
    }

    async fn ask(&self, client: &Client<'_>, path: &str, body: &Value) -> Result<Reply, CallError> {
        client.send(self.post(path, body).reads()).await
    }

    fn post(&self, path: &str, body: &Value) -> Outgoing {
        Outgoing::new("POST", format!("{}{path}", self.base_url.trim_end_matches('/'))).json(body)
    }

    fn organization(&self) -> Result<&str, CallError> {
        let missing = || CallError::refused(Refusal::Ours, "organization_id", "the organisation's id is not set");
        self.organization_id.as_deref().ok_or_else(missing)
    }
}

/// Where the guest's phone stands: the service's own places first, then those that integrations were seen to use. Phones
/// of couriers, waiters and operators stand elsewhere and are never read.
const PHONES: &[&[&str]] = &[
    &["eventInfo", "order", "phone"],
    &["eventInfo", "order", "customer", "phone"],
    &["eventInfo", "reserve", "phone"],
    &["order", "phone"],
    &["order", "customer", "phone"],
    &["deliveryOrder", "customer", "phone"],
    &["deliveryOrder", "phone"],
    &["customer", "phone"],
    &["phone"],
];

fn organization(event: &Value) -> Option<String> {
    uuid(&event["organizationId"]).or_else(|| uuid(&event["eventInfo"]["organizationId"]))
}

fn key(organization: &Option<String>, id: &Option<String>, word: &str) -> Option<String> {
    Some(format!("order/{}/{}/{word}", organization.as_deref().unwrap_or("-"), id.as_ref()?))
}

fn uuid(value: &Value) -> Option<String> {
    tree::text(value).filter(|id| id.len() <= 100).map(|id| id.to_ascii_lowercase())
}

fn name(event: &Value, order: &Value) -> Option<String> {
    let places = [&order["customer"]["name"], &event["customer"]["name"]];
    places.into_iter().find_map(tree::text)
}

fn items(order: &Value) -> Vec<String> {
    let items = order["items"].as_array().map_or(&[][..], Vec::as_slice);
    let left = items.iter().filter(|item| tree::is_blank(&item["deleted"]) || item["deleted"] == Value::Bool(false));
    left.filter_map(|item| {
        let parts = [&item["product"]["name"], &item["primaryComponent"]["product"]["name"], &item["service"]["name"]];
        parts.into_iter().find_map(tree::text)
    })
    .take(50)
    .collect()
}

/// A time of iiko: UTC where it names no zone.
fn utc(time: &Value) -> Option<Timestamp> {
    let text = tree::text(time)?;
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

fn print(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

fn reserve(event: &Value) -> Result<Happening, String> {
    let info = &event["eventInfo"];
    let reserve = &info["reserve"];
    if !reserve.is_object() {
        let made = tree::text(&info["creationStatus"]).unwrap_or_default();
        return Err(format!("no reserve in the body (creationStatus {made}): nothing follows"));
    }
    let id = uuid(&info["id"]);
    let moment = [&info["timestamp"], &event["correlationId"], &event["eventTime"]].into_iter().find_map(tree::text);
    let deleted = tree::flag(&info["isDeleted"]);
    let status = if deleted { Some("Deleted".to_owned()) } else { tree::text(&reserve["status"]) };
    Ok(Happening {
        key: id.as_ref().zip(moment).map(|(id, moment)| format!("reserve/{id}/{moment}")),
        kind: kind::RESERVATION_CHANGED,
        subject: format!("reserve/{}", id.as_deref().unwrap_or("-")),
        at: utc(&event["eventTime"]),
        person: Person { name: tree::text(&reserve["customer"]["name"]), phones: tree::phones(event, PHONES) },
        refs: tree::text(&info["externalNumber"]).into_iter().chain(id).collect(),
        data: tree::object([
            ("status", status),
            ("guests", tree::text(&reserve["guestsCount"])),
            ("start", tree::text(&reserve["estimatedStartTime"])),
            ("cancel_reason", tree::text(&reserve["cancelReason"])),
        ]),
        look_up: None,
    })
}

fn stop_list(event: &Value) -> Result<Happening, String> {
    let organization = organization(event);
    let groups = event["eventInfo"]["terminalGroupsStopListsUpdates"].as_array().map_or(&[][..], Vec::as_slice);
    let groups: Vec<String> = groups.iter().filter_map(|group| uuid(&group["id"])).collect();
    Ok(Happening {
        key: uuid(&event["correlationId"]).map(|id| format!("stop/{id}")),
        kind: kind::STOCK_CHANGED,
        subject: format!("stop/{}", organization.as_deref().unwrap_or("-")),
        at: utc(&event["eventTime"]),
        person: Person::default(),
        refs: groups.clone(),
        data: json!({ "organization": organization, "terminal_groups": groups }),
        look_up: None,
    })
}

/// The answer, or what the refusal means.
fn answer(reply: &Reply) -> Result<Value, CallError> {
    if reply.status < 300 {
        return reply.json();
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let said = tree::text(&body["errorDescription"]).unwrap_or_else(|| format!("iiko answered {}", reply.status));
    let code = tree::text(&body["error"]).unwrap_or_else(|| reply.status.to_string());
    Err(match reply.status {
        403 => CallError::refused(Refusal::Account, code, format!("the API login lacks a right: {said}")),
        408 => CallError::Later { reason: format!("the restaurant's till did not answer iiko in time: {said}"), at: None },
        _ => CallError::refused(Refusal::Command, code, said),
    })
}

#[async_trait]
impl Guests for Iiko {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let organization = uuid(&what["organization"]).or_else(|| self.organization_id.clone());
        match (organization, uuid(&what["order"]), uuid(&what["customer"])) {
            (Some(organization), Some(order), _) => self.by_order(client, &organization, &order).await,
            (Some(organization), None, Some(customer)) => self.by_customer(client, &organization, &customer).await,
            _ => Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs an organisation and an order or a customer")),
        }
    }
}

impl Iiko {
    async fn by_order(&self, client: &Client<'_>, organization: &str, id: &str) -> Result<Found, CallError> {
        let body = json!({ "organizationId": organization, "orderIds": [id] });
        let answer = answer(&self.ask(client, "/api/1/deliveries/by_id", &body).await?)?;
        let Some(orders) = answer["orders"].as_array() else {
            return Err(CallError::Unreadable("orders is missing in the answer".to_owned()));
        };
        let order = orders.iter().find(|info| uuid(&info["id"]).as_deref() == Some(id)).map(|info| &info["order"]);
        let Some(order) = order.filter(|order| order.is_object()) else {
            return Ok(Found::Nobody(format!("iiko does not know order {id} (any more)")));
        };
        if let Some(why) = self.unwelcome(order) {
            return Ok(Found::Nobody(why));
        }
        let mut phones = tree::phones(order, &[&["phone"], &["customer", "phone"]]);
        phones.retain(|phone| !tree::is_blank(phone));
        match (phones.is_empty(), uuid(&order["customer"]["id"])) {
            (false, _) => Ok(Found::Person(Person { name: tree::text(&order["customer"]["name"]), phones })),
            (true, Some(customer)) => Ok(Found::Next(json!({ "customer": customer, "organization": organization }))),
            (true, None) => Ok(Found::Nobody(format!("order {id} names neither a phone nor a known guest"))),
        }
    }

    async fn by_customer(&self, client: &Client<'_>, organization: &str, id: &str) -> Result<Found, CallError> {
        let body = json!({ "type": "id", "id": id, "organizationId": organization });
        let reply = self.ask(client, "/api/1/loyalty/iiko/customer/info", &body).await?;
        let guest = match answer(&reply) {
            Err(CallError::Refused { reason, .. }) if matches!(reply.status, 400 | 404) => {
                return Ok(Found::Nobody(format!("iiko does not know guest {id}: {reason}")));
            }
            guest => guest?,
        };
        let nobody = |why: &str| Ok(Found::Nobody(format!("guest {id} {why}")));
        if tree::flag(&guest["isDeleted"]) || tree::flag(&guest["anonymized"]) {
            return nobody("is deleted in iiko");
        }
        if tree::integer(&guest["consentStatus"]) == Some(2) {
            return nobody("took back the consent to use personal data");
        }
        if tree::is_blank(&guest["phone"]) {
            return nobody("has no phone in iiko");
        }
        Ok(Found::Person(Person { name: tree::text(&guest["name"]), phones: vec![guest["phone"].clone()] }))
    }
}

#[async_trait]
impl Login for Iiko {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        let login = self.api_login.as_ref().map_or("", Secret::expose);
        let (path, body) = match self.app_id.as_deref().zip(self.client_secret.as_ref()) {
            Some((app, secret)) => {
                ("/api/v2/access_token", json!({ "appId": app, "clientSecret": secret.expose(), "apiKey": login }))
            }
            None => ("/api/1/access_token", json!({ "apiLogin": login })),
        };
        let reply = client.send(self.post(path, &body).reads().logs_in()).await?;
        if matches!(reply.status, 400 | 403 | 404) {
            let said = answer(&reply).err().map_or(String::new(), |error| error.to_string());
            return Err(CallError::Unauthorized(format!("iiko refused the API login: {said}")));
        }
        let token = tree::text(&answer(&reply)?["token"])
            .ok_or_else(|| CallError::Unreadable("token is missing in the answer".to_owned()))?;
        let lasts = SignedDuration::from_mins(i64::from(self.token_minutes));
        Ok(Session { access: Secret::new(token), refresh: None, expires_at: client.now().checked_add(lasts).ok() })
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        outgoing.headers.push(("authorization", format!("Bearer {}", session.access.expose())));
    }
}

#[async_trait]
impl Polls for Iiko {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let organization = self.organization()?;
        if cursor.is_none() && since < client.now().checked_sub(EARLIER).unwrap_or(since) {
            // An earlier start was asked for: its time is a revision, too.
            return Ok(Page { next: since.as_millisecond().to_string(), more: true, ..Page::default() });
        }
        let oldest = client.now().checked_sub(REVISIONS).unwrap_or(since).as_millisecond();
        let start = cursor.and_then(|cursor| cursor.parse::<i64>().ok());
        let body = json!({ "startRevision": start.unwrap_or(oldest), "organizationIds": [organization] });
        let mut reply = self.ask(client, "/api/1/deliveries/by_revision", &body).await?;
        if let (400, Some(start)) = (reply.status, start) {
            // Revisions are kept for three hours; after a longer silence orders are asked for by their date. Dates are
            // local to the terminal: a day's room covers every zone.
            let last = Timestamp::from_millisecond(start).ok().filter(|last| *last < client.now());
            let from = last.unwrap_or(since).max(client.now().checked_sub(SignedDuration::from_hours(6 * 24)).unwrap_or(since));
            let from = from.checked_sub(SignedDuration::from_hours(24)).unwrap_or(from);
            let body = json!({ "organizationIds": [organization], "deliveryDateFrom": print(from), "statuses": FINAL });
            reply = self.ask(client, "/api/1/deliveries/by_delivery_date_and_status", &body).await?;
        }
        let answer = answer(&reply)?;
        let next = tree::integer(&answer["maxRevision"])
            .ok_or_else(|| CallError::Unreadable("maxRevision is missing in the answer".to_owned()))?;
        let mut bodies = Vec::new();
        let organizations = answer["ordersByOrganizations"].as_array().map_or(&[][..], Vec::as_slice);
        for group in organizations.iter().filter(|_| start.is_some()) {
            for info in group["orders"].as_array().map_or(&[][..], Vec::as_slice) {
                let time = tree::integer(&info["timestamp"]).and_then(|ms| Timestamp::from_millisecond(ms).ok());
                let event = json!([{
                    "eventType": "DeliveryOrderUpdate",
                    "eventTime": time.map(print),
                    "organizationId": uuid(&group["organizationId"]).or_else(|| uuid(&info["organizationId"])),
                    "eventInfo": info,
                }]);
                bodies.push(Bytes::from(event.to_string()));
            }
        }
        Ok(Page { bodies, next: next.to_string(), more: false })
    }
}

#[async_trait]
impl Subscription for Iiko {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        let mut body = json!({
            "organizationId": self.organization()?,
            "webHooksUri": url,
            "webHooksFilter": {
                "deliveryOrderFilter": { "orderStatuses": FINAL, "itemStatuses": [], "errors": true },
                "tableOrderFilter": { "orderStatuses": ["Closed", "Deleted"], "itemStatuses": [], "errors": false },
                "reserveFilter": { "updates": true, "errors": false },
                "stopListUpdateFilter": { "updates": true },
            },
        });
        if let Some(token) = &self.auth_token {
            body["authToken"] = json!(token.expose());
        }
        // Setting the same again changes nothing. The body holds a token, but the call needs the session.
        answer(&self.ask(client, "/api/1/webhooks/update_settings", &body).await?).map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        let body = json!({ "organizationId": self.organization()? });
        let settings = answer(&self.ask(client, "/api/1/webhooks/settings", &body).await?)?;
        let told = &settings["webHooksFilter"]["deliveryOrderFilter"]["orderStatuses"];
        let told = told.as_array().map_or(&[][..], Vec::as_slice);
        let missing = FINAL.iter().find(|status| !told.iter().any(|told| told.as_str() == Some(**status)));
        Ok(match tree::text(&settings["webHooksUri"]) {
            None => Some("iiko has no webhook address for this API login".to_owned()),
            Some(known) if known != url => Some("iiko sends webhooks of this API login to another address".to_owned()),
            Some(_) => missing.map(|status| format!("iiko's filter leaves out deliveries with status {status}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Script};

    const ORG: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

    fn open(settings: Value) -> Box<dyn Connector> {
        PROVIDER.open(settings).unwrap()
    }

    fn event(kind: &str, order: Value) -> Value {
        json!({ "eventType": kind, "eventTime": "2026-09-14 12:31:14.150", "organizationId": ORG, "correlationId": "c1",
            "eventInfo": { "id": "A-1", "timestamp": 1, "creationStatus": "Success", "order": order } })
    }

    fn read(settings: Value, body: &Value) -> Reading {
        open(settings).parse(&testing::post("application/json", &body.to_string())).unwrap()
    }

    #[test]
    fn delivered_and_closed_are_one_event() {
        let order = |status| {
            json!({ "status": status, "phone": "+79990001122", "sum": 1520.50, "number": 51,
            "operator": { "phone": "+79990009900" }, "courierInfo": { "courier": { "phone": "+79990009901" } } })
        };
        let body = json!([
            event("DeliveryOrderUpdate", order("Delivered")),
            7,
            event("PersonalShift", json!(null)),
            event("DeliveryOrderUpdate", order("Closed")),
            event("DeliveryOrderUpdate", order("OnWay"))
        ]);
        let reading = read(json!({}), &body);
        assert_eq!((reading.happenings.len(), reading.skipped.len()), (2, 3));
        let [one, other] = &reading.happenings[..] else { panic!() };
        assert_eq!(one.key.as_deref(), Some("order/7bc05553-4b68-44e8-b7bc-37be63c6d9e9/a-1/completed"));
        assert_eq!(one.key, other.key);
        assert_eq!(one.person.phones, [json!("+79990001122")]);
        assert_eq!(one.at.unwrap().to_string(), "2026-09-14T12:31:14.15Z");
        assert_eq!((&one.data["sum"], &one.refs[0][..]), (&json!("1520.5"), "51"));
    }

    #[test]
    fn whom_not_to_ask_is_a_setting() {
        let aggregator =
            event("DeliveryOrderUpdate", json!({ "status": "Closed", "phone": "+79280000036", "sourceKey": "yandex_food" }));
        assert!(read(json!({}), &aggregator).skipped[0].contains("aggregator"));
        assert_eq!(read(json!({ "aggregators": [] }), &aggregator).happenings.len(), 1);
        let problem =
            event("DeliveryOrderUpdate", json!({ "status": "Closed", "problem": { "hasProblem": true }, "phone": "1" }));
        assert_eq!(read(json!({}), &problem).happenings.len(), 0);
        assert_eq!(read(json!({ "skip_problem_orders": false }), &problem).happenings.len(), 1);
    }

    #[test]
    fn a_missing_phone_is_looked_up() {
        let table = event(
            "TableOrderUpdate",
            json!({ "status": "Closed", "phone": null, "waiter": { "phone": "+79990009902" },
            "customer": { "type": "regular", "id": "G-1", "name": "Пётр" } }),
        );
        assert_eq!(read(json!({}), &table).happenings[0].look_up, None);
        let happening = &read(json!({ "api_login": "l" }), &table).happenings[0];
        assert_eq!(happening.look_up, Some(json!({ "customer": "g-1", "organization": ORG })));
        assert_eq!(happening.person.phones, [] as [Value; 0]);
        let soi = json!({ "transactionDetails": { "organizationId": ORG }, "iikoOrderDetails": { "iikoOrderId": "A-1", "orderStatus": "DELIVERED" } });
        let happening = &read(json!({ "api_login": "l" }), &soi).happenings[0];
        assert_eq!(happening.look_up, Some(json!({ "order": "a-1", "organization": ORG })));
        assert_eq!(
            happening.key,
            read(json!({}), &event("DeliveryOrderUpdate", json!({ "status": "Closed" }))).happenings[0].key
        );
    }

    #[test]
    fn a_wrong_token_is_refused_and_a_missing_one_is_not() {
        let iiko = open(json!({ "auth_token": "tkn-7f2" }));
        let verify = |query: Option<&str>, headers: &[(&str, &str)]| {
            let mut request = testing::post("application/json", "[]");
            request.query.extend(query.map(|key| ("key".to_owned(), key.to_owned())));
            request.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            iiko.verify(&request).is_ok()
        };
        assert!(verify(Some("k"), &[]));
        assert!(verify(Some("k"), &[("authorization", "bearer tkn-7f2")]));
        assert!(verify(Some("k"), &[("authtoken", "tkn-7f2")]));
        assert!(!verify(Some("k"), &[("authorization", "Bearer other")]));
        assert!(!verify(Some("k"), &[("x-auth-token", "other")]));
        assert!(verify(None, &[("authorization", "Bearer our-key")]));
        assert!(verify(None, &[("x-auth-token", "our-key")]));
        assert!(!verify(None, &[("x-api-key", "our-key"), ("authtoken", "other")]));
    }

    #[tokio::test]
    async fn a_guest_is_found_by_order_and_then_by_card() {
        let iiko = open(json!({ "api_login": "l" }));
        let script = Script::new(&[
            (200, r#"{"orders":[{"id":"a-1","order":{"status":"Closed","customer":{"id":"g-1"}}}]}"#),
            (200, r#"{"id":"g-1","name":"Мария","phone":"+79990001122","consentStatus":1,"isDeleted":false}"#),
            (400, r#"{"errorDescription":"There is no user","error":"Validation_IncorrectPhone"}"#),
        ]);
        let client = Client::new(&script);
        let guests = iiko.guests().unwrap();
        let next = guests.look_up(&client, &json!({ "order": "a-1", "organization": ORG })).await.unwrap();
        let Found::Next(next) = next else { panic!("{next:?}") };
        let found = guests.look_up(&client, &next).await.unwrap();
        assert!(matches!(found, Found::Person(person) if person.phones == [json!("+79990001122")]));
        assert!(matches!(guests.look_up(&client, &next).await.unwrap(), Found::Nobody(_)));
    }

    #[tokio::test]
    async fn after_a_long_silence_orders_are_read_by_date() {
        let iiko = open(json!({ "api_login": "l", "organization_id": ORG }));
        let answer = json!({ "maxRevision": 1789389601000u64, "ordersByOrganizations": [
            { "organizationId": ORG, "orders": [{ "id": "a-1", "timestamp": 1789389601000u64, "creationStatus": "Success", "order": { "status": "Closed" } }] }] });
        let script = Script::new(&[(200, &answer.to_string()), (400, "{}"), (200, &answer.to_string())]);
        let client = Client::new(&script);
        let polls = iiko.polls().unwrap();
        let first = polls.poll(&client, None, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!((first.bodies.len(), &first.next[..]), (0, "1789389601000"));
        let page = polls.poll(&client, Some(&first.next), Timestamp::UNIX_EPOCH).await.unwrap();
        let body = String::from_utf8(page.bodies[0].to_vec()).unwrap();
        let reading = iiko.parse(&testing::post("application/json", &body)).unwrap();
        assert_eq!(reading.happenings[0].at.unwrap().as_millisecond(), 1789389601000);
        assert!(script.sent()[2].url.ends_with("/by_delivery_date_and_status"));
    }
}
