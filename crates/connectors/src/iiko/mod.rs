//! iiko: orders of restaurants and deliveries, told by the Cloud API and by order sources (SOI).
//!
//! Docs: <https://api-ru.iiko.services/docs>. The body is an array of events of any kind; the guest's phone stands beside
//! the customer, not in it, and table orders mostly have none; Delivered and Closed both come for one order; every
//! call is a POST, and times have no zone (`eventTime` is UTC). Nobody documents in which header `authToken` travels.

mod guests;
mod login;
mod polls;
mod reading;
mod subscription;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uzel_model::{
    CallError, Client, Connector, Malformed, Outgoing, Provider, Reading, Refusal, Rejection, Reply, Request, Secret,
    connector::{Rate, Scope},
    port::{Guests, Login, Polls, Subscription},
    signature,
};

pub(crate) const PROVIDER: Provider = Provider::new::<Iiko>("iiko", "iiko").with_words(include_str!("words.toml"));

const TOKEN_HEADERS: &[&str] = &["authtoken", "x-auth-token", "x-iiko-webhook-token"];
const FINAL: [&str; 3] = ["Delivered", "Closed", "Cancelled"];

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Iiko {
    /// API login (API key), from iikoWeb, "Cloud API settings"; needed for anything that the hub asks of iiko.
    #[garde(skip)]
    api_login: Option<Secret>,
    /// Application's id, if you made an application in the portal of the Cloud API.
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    app_id: Option<String>,
    /// The application's client secret.
    #[garde(skip)]
    client_secret: Option<Secret>,
    /// Id of the organisation, to read missed orders and to register the webhook.
    #[garde(inner(length(chars, min = 1, max = 100)))]
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
    #[garde(length(chars, min = 1))]
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
        for event in events {
            match self.read(event) {
                Ok(happening) => reading.happenings.push(happening),
                Err(why) => reading.skip(why),
            }
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
        vec![Rate::per_second(scope, self.calls_per_s)]
    }
}

impl Iiko {
    fn may_ask(&self) -> bool {
        self.api_login.is_some()
    }

    pub(super) async fn ask(&self, client: &Client<'_>, path: &str, body: &Value) -> Result<Reply, CallError> {
        client.send(self.post(path, body).reads()).await
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Outgoing {
        Outgoing::new("POST", format!("{}{path}", self.base_url.trim_end_matches('/'))).json(body)
    }

    pub(super) fn organization(&self) -> Result<&str, CallError> {
        let missing = || CallError::refused(Refusal::Ours, "organization_id", "the organisation's id is not set");
        self.organization_id.as_deref().ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn a_wrong_token_is_refused_and_a_missing_one_is_not() {
        let iiko = PROVIDER.open(json!({ "auth_token": "tkn-7f2" })).unwrap();
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
}
