//! YCLIENTS (abroad: Altegio): records and visits of salons and clinics.
//!
//! Docs: <https://developers.yclients.com>. A webhook is never repeated and never signed, so records are also polled;
//! one click gives up to four identical updates; an empty object comes as `[]`; 2 means that the client confirmed
//! and -1 that they did not come.

mod guests;
mod login;
mod polls;
mod reading;
mod subscription;
mod wire;

use std::fmt;

use garde::Validate;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use uzel_model::{
    Bytes, CallError, Connector, Malformed, Outgoing, Provider, Reading, Refusal, Rejection, Request, Secret,
    connector::{Rate, Scope},
    port::{Guests, Login, Polls, Subscription},
    signature,
};

use self::reading::marketplace;
use crate::{scrub, tree};

pub(crate) const PROVIDER: Provider = Provider::new::<Yclients>("yclients", "YCLIENTS").with_words(include_str!("words.toml"));

/// The name under which events of the Marketplace carry our partner token.
const TOKEN: &str = "partner_token";

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Yclients {
    /// Partner token, from the developer's account; needed for anything that the hub asks of YCLIENTS.
    #[garde(skip)]
    partner_token: Option<Secret>,
    /// User token; or give a login and a password below.
    #[garde(skip)]
    user_token: Option<Secret>,
    /// Login (phone or e-mail) of a user who may see clients' phones.
    #[garde(inner(length(chars, min = 1, max = 200)))]
    #[schemars(length(min = 1, max = 200))]
    login: Option<String>,
    /// Password of that user.
    #[garde(skip)]
    password: Option<Secret>,
    /// Number of the branch, to poll its records and to register the webhook.
    #[garde(skip)]
    company_id: Option<u64>,
    /// Number of the application in the Marketplace. Branches without webhooks from before 2022 get them only so.
    #[garde(skip)]
    application_id: Option<u64>,
    /// Time zone of the branch, such as Europe/Moscow.
    #[garde(custom(known_zone))]
    #[schemars(example = "Europe/Moscow")]
    time_zone: Option<String>,
    /// Seconds between two polls of changed records.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 30, max = 86_400))]
    #[schemars(range(min = 30, max = 86_400))]
    poll_every_s: u32,
    /// Records in one answer when polling.
    #[serde(default = "records_per_page")]
    #[garde(range(min = 1, max = 300))]
    #[schemars(range(min = 1, max = 300))]
    records_per_page: u32,
    /// Where the API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn poll_every_s() -> u32 {
    600
}

fn records_per_page() -> u32 {
    200
}

fn base_url() -> String {
    "https://api.yclients.com/api/v1".to_owned()
}

fn known_zone(name: &Option<String>, _: &()) -> garde::Result {
    match name.as_deref().map(TimeZone::get) {
        Some(Err(_)) => Err(garde::Error::new("is no time zone that is known: write it as Europe/Moscow")),
        _ => Ok(()),
    }
}

impl Connector for Yclients {
    /// The hub's key, or for events of the Marketplace our partner token in the body.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        let told = partner_token(request);
        match (told, &self.partner_token) {
            (Some(told), Some(ours)) if signature::equal(&told, ours.expose()) => Ok(()),
            (Some(_), Some(_)) => Err(Rejection::Forged),
            _ if request.key.is_some() => Ok(()),
            _ => Err(Rejection::Unsigned),
        }
    }

    fn scrub(&self, request: &Request) -> Option<Bytes> {
        scrub::without(request, TOKEN)
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        let events = match &body {
            Value::Array(events) => events.as_slice(),
            Value::Object(_) => std::slice::from_ref(&body),
            _ => {
                return Err(Malformed::new("neither an event nor a list of events was in the body"));
            }
        };
        if events.is_empty() {
            return Err(Malformed::new("an empty list: an event was expected"));
        }
        let mut reading = Reading::default();
        for event in events {
            if let Some(news) = marketplace(event) {
                match self.concerns(event) {
                    true => reading.disconnected = Some(news),
                    false => reading.skip("a Marketplace event of another application or branch"),
                }
                continue;
            }
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
        (self.may_ask() && self.company_id.is_some()).then_some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        (self.may_ask() && self.company_id.is_some()).then_some(self)
    }

    /// YCLIENTS counts calls by our address, over all branches.
    fn rates(&self) -> Vec<Rate> {
        vec![Rate::per_second(Scope::Address, 5), Rate::per_minute(Scope::Address, 200)]
    }
}

/// The partner token that an event of the Marketplace carries.
fn partner_token(request: &Request) -> Option<String> {
    scrub::mark(&request.body, TOKEN)?;
    let body = request.json().ok()?;
    tree::text(&body[TOKEN])
}

impl Yclients {
    fn may_ask(&self) -> bool {
        self.partner_token.is_some()
    }

    fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(self.time_zone.as_deref()?).ok()
    }

    pub(super) fn call(&self, method: &'static str, path: impl fmt::Display) -> Outgoing {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        Outgoing::new(method, url).header("accept", "application/vnd.yclients.v2+json")
    }

    pub(super) fn company(&self) -> Result<u64, CallError> {
        self.company_id.ok_or_else(|| CallError::refused(Refusal::Ours, "company_id", "the branch's number is not set"))
    }

    pub(super) fn bearer(&self, user: Option<&str>) -> String {
        let partner = self.partner_token.as_ref().map_or("", Secret::expose);
        match user.filter(|user| !user.is_empty()) {
            Some(user) => format!("Bearer {partner}, User {user}"),
            None => format!("Bearer {partner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn the_marketplace_is_known_by_the_partner_token() {
        let body = r#"{"salon_id":4564,"application_id":18289,"event_type":"freeze","partner_token":"p"}"#;
        let mut request = testing::post("application/json", body);
        request.key = None;
        let ours = PROVIDER.open(json!({ "partner_token": "p", "application_id": 18289 })).unwrap();
        assert_eq!(ours.verify(&request), Ok(()));
        assert!(ours.parse(&request).unwrap().disconnected.is_some());
        assert!(!String::from_utf8(ours.scrub(&request).unwrap().to_vec()).unwrap().contains("partner_token"));
        assert_eq!(PROVIDER.open(json!({ "partner_token": "q" })).unwrap().verify(&request), Err(Rejection::Forged));
        assert_eq!(PROVIDER.open(json!({})).unwrap().verify(&request), Err(Rejection::Unsigned));
    }

    #[test]
    fn the_partner_token_is_kept_of_no_body_however_it_is_written() {
        let ours = PROVIDER.open(json!({ "partner_token": "p-secret" })).unwrap();
        for body in [
            r#"[{"resource":"record","partner_token":"p-secret"},{"data":{"partner_token":["p-secret"]}}]"#,
            r#"{"partner\u005ftoken":"p-secret"}"#,
            r#"{"partner_token":"x","partner_token":"p-secret"}"#,
            r#"{"event":"freeze","partner_token":"p-secret""#,
            r#"{"partner\u005ftoken":"p-secret""#,
            r#"{"payload":"{\"partner_token\":\"p-secret\"}"}"#,
            "partner_token=p-secret&event=freeze",
        ] {
            let kept = ours.scrub(&testing::post("application/json", body)).expect(body);
            assert!(!String::from_utf8_lossy(&kept).contains("p-secret"), "{body}");
        }
        // What stands before it tells what came; a body without it is kept as it is.
        let broken = testing::post("application/json", r#"{"event":"freeze","partner_token":"p-secret""#);
        assert_eq!(ours.scrub(&broken).unwrap(), r#"{"event":"freeze","***"#);
        assert_eq!(ours.scrub(&testing::post("application/json", r#"{"comment":"\u0022\u0418"}"#)), None);
    }
}
