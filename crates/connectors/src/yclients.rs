//! YCLIENTS (abroad: Altegio): records and visits of salons and clinics.
//!
//! Docs: <https://developers.yclients.com>. A webhook is never repeated and never signed, so records are also polled;
//! one click gives up to four identical updates; an empty object comes as `[]`; 2 means that the client confirmed
//! and -1 that they did not come.

use std::fmt;

use async_trait::async_trait;
use garde::Validate;
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Client, Connector, Happening, Malformed, Outgoing, Person, Provider, Reading, Refusal, Rejection, Reply,
    Request, Secret,
    event::kind,
    port::{Found, Guests, Login, Page, Polls, Session, Subscription},
    signature,
};

use crate::tree;

pub(crate) const PROVIDER: Provider = Provider::new::<Yclients>("yclients", "YCLIENTS");

/// More events than this in one request are nobody's.
const EVENTS: usize = 500;
/// As many addresses YCLIENTS keeps for one branch.
const HOOKS: usize = 10;
/// Records read again at each poll, since the service's clock is not ours.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

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
    #[garde(inner(length(min = 1, max = 200)))]
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
    #[garde(length(min = 1))]
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
        partner_token(request)?;
        let mut body = request.json().ok()?;
        body.as_object_mut()?.remove("partner_token");
        Some(body.to_string().into())
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
        for event in events.iter().take(EVENTS) {
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
        (self.may_ask() && self.company_id.is_some()).then_some(self)
    }

    fn subscription(&self) -> Option<&dyn Subscription> {
        (self.may_ask() && self.company_id.is_some()).then_some(self)
    }

    /// All branches share our address: 5 calls a second, and 200 a minute.
    fn rates(&self) -> Vec<uzel_model::connector::Rate> {
        vec![uzel_model::connector::Rate { scope: uzel_model::connector::Scope::Address, per_s: 5 }]
    }
}

/// The partner token that an event of the Marketplace carries.
fn partner_token(request: &Request) -> Option<String> {
    const NAME: &[u8] = b"\"partner_token\"";
    if !request.body.windows(NAME.len()).any(|part| part == NAME) {
        return None;
    }
    let body = request.json().ok()?;
    tree::text(&body["partner_token"])
}

/// What an event of the Marketplace means, if the body is one.
fn marketplace(event: &Value) -> Option<String> {
    if tree::is_blank(&event["application_id"]) {
        return None;
    }
    let name = tree::text(&event["event"]).or_else(|| tree::text(&event["event_type"]))?;
    match name.as_str() {
        "uninstall" => Some("the application was removed from the branch in YCLIENTS Marketplace".to_owned()),
        "freeze" => Some("YCLIENTS Marketplace froze the application: it is not paid for".to_owned()),
        _ => None,
    }
}

impl Yclients {
    fn may_ask(&self) -> bool {
        self.partner_token.is_some()
    }

    fn concerns(&self, event: &Value) -> bool {
        let same = |ours: Option<u64>, theirs: &Value| match (ours, tree::integer(theirs)) {
            (Some(ours), Some(theirs)) => i64::try_from(ours) == Ok(theirs),
            _ => true,
        };
        same(self.application_id, &event["application_id"]) && same(self.company_id, &event["salon_id"])
    }

    /// What one event says, or why nothing follows from it.
    fn read(&self, event: &Value) -> Result<Happening, String> {
        if !event.is_object() {
            return Err("not an event: an object was expected".to_owned());
        }
        let resource = &event["resource"];
        if let Some(name) = resource.as_str().filter(|name| *name != "record") {
            return Err(format!("resource {name}: only records are read"));
        }
        let record =
            [&event["data"], resource, &event["record"], event].into_iter().find(|record| record.is_object()).unwrap_or(event);
        let company = tree::text(&event["company_id"]).or_else(|| tree::text(&record["company_id"]));
        let id = tree::text(&record["id"]).or_else(|| tree::text(&event["resource_id"]));
        let visit = tree::text(&record["visit_id"]).filter(|visit| visit != "0");
        let branch = company.as_deref().unwrap_or("-");
        let by_record = |word: &str| Some(format!("record/{branch}/{}/{word}", id.as_ref()?));

        let deleted = tree::flag(&record["deleted"]) || event["status"].as_str() == Some("delete");
        let (kind, key, status) = if deleted {
            (kind::VISIT_CANCELLED, by_record("deleted"), "deleted")
        } else {
            match attendance(record)? {
                Attendance::Came => {
                    let key = visit.as_ref().map(|visit| format!("visit/{branch}/{visit}"));
                    let key = key.or_else(|| by_record("came"));
                    (kind::VISIT_COMPLETED, key, "came")
                }
                Attendance::Missed => (kind::VISIT_CANCELLED, by_record("missed"), "did not come"),
            }
        };

        let client = [&record["client"], &event["resource"]["client"], &event["record"]["client"], &event["client"]]
            .into_iter()
            .find(|client| client.is_object())
            .unwrap_or(&Value::Null);
        let phones = tree::phones(event, PHONES);
        let client_id = tree::text(&client["id"]).filter(|id| id != "0");
        if kind == kind::VISIT_COMPLETED && phones.is_empty() && client_id.is_none() {
            return Err("the client came, but the record names no client (a walk-in)".to_owned());
        }
        let look_up = client_id
            .zip(company.clone())
            .filter(|_| kind == kind::VISIT_COMPLETED && self.may_ask())
            .filter(|_| phones.iter().all(hidden))
            .map(|(client, company)| json!({ "client": client, "company": company }));

        let services = record["services"].as_array().map_or(&[][..], Vec::as_slice);
        let mut data = tree::object([
            ("status", Some(status.to_owned())),
            ("sum", sum(services)),
            ("staff", tree::text(&record["staff"]["name"])),
            ("number", id.clone()),
            ("company", company),
            ("date", tree::text(&record["date"])),
        ]);
        let titles: Vec<String> = services.iter().filter_map(|service| tree::text(&service["title"])).collect();
        data["items"] = json!(titles);
        let subject = match (&visit, &id) {
            (Some(visit), _) => format!("visit/{visit}"),
            (None, Some(id)) => format!("record/{id}"),
            (None, None) => "visit/-".to_owned(),
        };
        Ok(Happening {
            key,
            kind,
            subject,
            at: self.time(record),
            person: Person { name: tree::text(&client["name"]).or_else(|| tree::text(&client["display_name"])), phones },
            refs: id.into_iter().chain(visit).collect(),
            data,
            look_up,
        })
    }

    /// The time of the visit: offsets in `datetime` are wrong in some accounts, so local `date` goes first.
    fn time(&self, record: &Value) -> Option<Timestamp> {
        let local = tree::text(&record["date"]).and_then(|date| date.parse::<DateTime>().ok());
        if let (Some(local), Some(zone)) = (local, self.zone()) {
            return local.to_zoned(zone).ok().map(|zoned| zoned.timestamp());
        }
        match &record["datetime"] {
            Value::Number(seconds) => Timestamp::from_second(seconds.as_i64()?).ok(),
            time => tree::text(time)?.parse().ok(),
        }
    }

    fn zone(&self) -> Option<TimeZone> {
        TimeZone::get(self.time_zone.as_deref()?).ok()
    }

    fn call(&self, method: &'static str, path: impl fmt::Display) -> Outgoing {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        Outgoing::new(method, url).header("accept", "application/vnd.yclients.v2+json")
    }

    fn company(&self) -> Result<u64, CallError> {
        self.company_id.ok_or_else(|| CallError::refused(Refusal::Ours, "company_id", "the branch's number is not set"))
    }

    fn bearer(&self, user: Option<&str>) -> String {
        let partner = self.partner_token.as_ref().map_or("", Secret::expose);
        match user.filter(|user| !user.is_empty()) {
            Some(user) => format!("Bearer {partner}, User {user}"),
            None => format!("Bearer {partner}"),
        }
    }
}

const PHONES: &[&[&str]] = &[
    &["data", "client", "phone"],
    &["resource", "client", "phone"],
    &["record", "client", "phone"],
    &["client", "phone"],
    &["phone"],
];

/// Whether a phone is absent or masked, as it is for users who may not see phones.
fn hidden(phone: &Value) -> bool {
    tree::text(phone).is_none_or(|phone| phone.contains(['*', 'x', 'X', '•']))
}

enum Attendance {
    Came,
    Missed,
}

/// What the record's own mark and the whole visit's say together.
fn attendance(record: &Value) -> Result<Attendance, String> {
    let marks: Vec<i64> = ["attendance", "visit_attendance"].iter().filter_map(|name| tree::integer(&record[*name])).collect();
    if marks.contains(&1) {
        return match marks.contains(&-1) {
            false => Ok(Attendance::Came),
            true => Err("the record and its visit disagree whether the client came: nothing follows".to_owned()),
        };
    }
    match marks.first() {
        Some(-1) if marks.iter().all(|mark| *mark == -1) => Ok(Attendance::Missed),
        Some(-1) => Err("attendance -1 (client did not come): nothing follows".to_owned()),
        Some(0) => Err("attendance 0 (client is awaited): nothing follows".to_owned()),
        Some(2) => Err("attendance 2 (client confirmed): nothing follows".to_owned()),
        Some(other) => Err(format!("attendance {other} is not known: nothing follows")),
        None => Err("no attendance in the body: nothing follows".to_owned()),
    }
}

fn sum(services: &[Value]) -> Option<String> {
    let costs: Vec<Decimal> = services
        .iter()
        .filter_map(|service| tree::decimal(&service["cost_to_pay"]).or_else(|| tree::decimal(&service["cost"])))
        .filter_map(|cost| cost.parse().ok())
        .collect();
    let sum = costs.iter().try_fold(Decimal::ZERO, |sum, cost| sum.checked_add(*cost))?;
    (!costs.is_empty()).then(|| sum.normalize().to_string())
}

/// The data of an answer, or what the refusal means.
fn data(reply: &Reply) -> Result<Value, CallError> {
    if reply.status < 300 {
        let mut answer: Value = reply.json()?;
        return match answer.get("data") {
            Some(_) if answer["success"] != Value::Bool(false) => Ok(answer["data"].take()),
            Some(_) => Err(refused(reply.status, &answer)),
            None => Ok(answer),
        };
    }
    let answer = serde_json::from_slice(&reply.body).unwrap_or_default();
    Err(refused(reply.status, &answer))
}

fn refused(status: u16, answer: &Value) -> CallError {
    let said = tree::text(&answer["meta"]["message"]).unwrap_or_default();
    let (refusal, meaning) = match status {
        402 => (Refusal::Account, "the branch's licence has expired"),
        403 => (Refusal::Account, "the user has no right to do this"),
        404 => (Refusal::Command, "nothing is found there"),
        422 => (Refusal::Ours, "YCLIENTS does not take the request"),
        _ => (Refusal::Command, "YCLIENTS refused"),
    };
    let mut reason = match said.is_empty() {
        true => meaning.to_owned(),
        false => format!("{meaning}: {said}"),
    };
    if let errors @ Value::Object(_) = &answer["meta"]["errors"] {
        reason = format!("{reason} {errors}");
    }
    CallError::refused(refusal, status, reason)
}

#[async_trait]
impl Guests for Yclients {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let company = tree::integer(&what["company"]).or_else(|| self.company_id.and_then(|id| i64::try_from(id).ok()));
        let Some((company, id)) = company.zip(tree::integer(&what["client"])) else {
            return Err(CallError::refused(Refusal::Ours, "client", "a look-up needs the branch's and the client's numbers"));
        };
        let reply = client.send(self.call("GET", format!("/client/{company}/{id}"))).await?;
        if reply.status == 404 {
            return Ok(Found::Nobody(format!("YCLIENTS does not know client {id}")));
        }
        let guest = data(&reply)?;
        if hidden(&guest["phone"]) {
            return Ok(Found::Nobody(format!(
                "YCLIENTS shows no phone of client {id}: there is none, or the user may not see it"
            )));
        }
        Ok(Found::Person(Person { name: tree::text(&guest["name"]), phones: vec![guest["phone"].clone()] }))
    }
}

#[async_trait]
impl Login for Yclients {
    async fn renew(&self, client: &Client<'_>, _session: Option<&Session>) -> Result<Session, CallError> {
        // A token lives until the password changes.
        let session = |access: Secret| Session { access, refresh: None, expires_at: None };
        if let Some(token) = &self.user_token {
            return Ok(session(token.clone()));
        }
        let Some((login, password)) = self.login.as_deref().zip(self.password.as_ref()) else {
            // An application of the Marketplace has the rights of its installation.
            return Ok(session(Secret::new("")));
        };
        let outgoing = self
            .call("POST", "/auth")
            .header("authorization", self.bearer(None))
            .json(&json!({ "login": login, "password": password.expose() }))
            .reads()
            .logs_in();
        let reply = client.send(outgoing).await?;
        if reply.status >= 400 {
            let answer = serde_json::from_slice(&reply.body).unwrap_or_default();
            let reason = refused(reply.status, &answer).to_string();
            return Err(CallError::Unauthorized(format!("YCLIENTS refused the login or password: {reason}")));
        }
        let user = data(&reply)?;
        let token = tree::text(&user["user_token"])
            .ok_or_else(|| CallError::Unreadable("user_token is missing in the answer".to_owned()))?;
        Ok(session(Secret::new(token)))
    }

    fn apply(&self, session: &Session, outgoing: &mut Outgoing) {
        let bearer = self.bearer(Some(session.access.expose()));
        outgoing.headers.push(("authorization", bearer));
    }
}

/// Where polling stands: changes since when, and within them the next page and when its reading began.
struct Cursor {
    since: Timestamp,
    page: Option<(u32, Timestamp)>,
}

impl Cursor {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let since = words.next()?.parse().ok()?;
        let page = match words.next() {
            Some(page) => Some((page.parse().ok()?, words.next()?.parse().ok()?)),
            None => None,
        };
        Some(Self { since, page })
    }
}

#[async_trait]
impl Polls for Yclients {
    fn every_s(&self) -> u32 {
        self.poll_every_s
    }

    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError> {
        let Some(cursor) = cursor else {
            return Ok(Page { next: since.to_string(), ..Page::default() });
        };
        let Cursor { since, page } = Cursor::read(cursor).unwrap_or(Cursor { since, page: None });
        let (page, began) = page.unwrap_or((1, client.now()));
        let company = self.company()?;
        // Without a zone the hour of UTC is asked for: every branch's clock from Kaliningrad on is ahead of it.
        let zone = self.zone().unwrap_or(TimeZone::UTC);
        let after = since.checked_sub(OVERLAP).unwrap_or(since).to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let count = self.records_per_page;
        let path = format!("/records/{company}?changed_after={after}&with_deleted=1&page={page}&count={count}");
        let reply = client.send(self.call("GET", path)).await?;
        let records = match reply.status {
            404 => Value::Null,
            _ => data(&reply)?,
        };
        let records = match records {
            Value::Array(records) => records,
            Value::Null => Vec::new(),
            _ => return Err(CallError::Unreadable("data is no list of records".to_owned())),
        };
        let more = records.len() >= count as usize;
        let next = match more {
            true => format!("{since} {} {began}", page.saturating_add(1)),
            false => began.to_string(),
        };
        let bodies = records
            .into_iter()
            .map(|record| {
                let status = match tree::flag(&record["deleted"]) {
                    true => "delete",
                    false => "update",
                };
                let event = json!({
                    "company_id": company, "resource": "record", "resource_id": record["id"],
                    "status": status, "data": record,
                });
                Bytes::from(event.to_string())
            })
            .collect();
        Ok(Page { bodies, next, more })
    }
}

#[async_trait]
impl Subscription for Yclients {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError> {
        if let Some(application) = self.application_id {
            let company = self.company()?;
            let body = json!({ "salon_id": company, "application_id": application, "webhook_urls": [url] });
            let reply = client.send(self.marketplace("POST", "/partner/callback").json(&body).reads()).await?;
            return data(&reply).map(|_| ());
        }
        let mut settings = self.hooks(client).await?;
        let mut urls = urls(&settings);
        if !urls.iter().any(|known| known == url) {
            if urls.len() >= HOOKS {
                return Err(CallError::refused(
                    Refusal::Account,
                    "urls",
                    format!("the branch already has {HOOKS} webhook addresses: remove one in YCLIENTS"),
                ));
            }
            urls.push(url.to_owned());
        }
        if !settings.is_object() {
            settings = json!({});
        }
        settings["urls"] = json!(urls);
        settings["active"] = json!(1);
        settings["record"] = json!(1);
        let path = format!("/hooks_settings/{}", self.company()?);
        let reply = client.send(self.call("POST", path).json(&settings).reads()).await?;
        data(&reply).map(|_| ())
    }

    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError> {
        if let Some(application) = self.application_id {
            let path = format!("/salon/{}/application/{application}", self.company()?);
            let reply = client.send(self.marketplace("GET", &path)).await?;
            return match reply.status {
                404 => Ok(Some("the application is not installed in the branch".to_owned())),
                _ => data(&reply).map(|_| None),
            };
        }
        let settings = self.hooks(client).await?;
        let wrong = if !urls(&settings).iter().any(|known| known == url) {
            Some("our address is not among the branch's webhooks")
        } else if !tree::flag(&settings["active"]) {
            Some("webhooks of the branch are switched off")
        } else if !tree::flag(&settings["record"]) {
            Some("webhooks of the branch do not tell of records")
        } else {
            None
        };
        Ok(wrong.map(str::to_owned))
    }
}

impl Yclients {
    /// A call of the Marketplace, which lives beside the API.
    fn marketplace(&self, method: &'static str, path: &str) -> Outgoing {
        let base = self.base_url.trim_end_matches('/');
        let url = format!("{}/marketplace{path}", base.strip_suffix("/api/v1").unwrap_or(base));
        Outgoing::new(method, url).header("accept", "application/vnd.yclients.v2+json")
    }

    async fn hooks(&self, client: &Client<'_>) -> Result<Value, CallError> {
        let path = format!("/hooks_settings/{}", self.company()?);
        data(&client.send(self.call("GET", path)).await?)
    }
}

fn urls(settings: &Value) -> Vec<String> {
    let urls = settings["urls"].as_array().map_or(&[][..], Vec::as_slice);
    urls.iter().filter_map(tree::text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Script};

    fn open(settings: Value) -> Box<dyn Connector> {
        PROVIDER.open(settings).unwrap()
    }

    fn read(settings: Value, body: &Value) -> Reading {
        let request = testing::post("application/json", &body.to_string());
        open(settings).parse(&request).unwrap()
    }

    fn record(more: Value) -> Value {
        let mut record = json!({ "id": 1, "visit_id": "2001", "attendance": 1, "date": "2026-09-14 12:10:00",
            "datetime": "2026-09-14T12:10:00+04:00", "client": { "id": 5, "name": "Мария", "phone": 79990003301u64 } });
        for (name, value) in more.as_object().unwrap() {
            record[name] = value.clone();
        }
        json!({ "company_id": 4564, "resource": "record", "resource_id": 1, "status": "update", "data": record })
    }

    #[test]
    fn attendance_is_read_as_documented() {
        let key = |more| read(json!({}), &record(more)).happenings.first().and_then(|it| it.key.clone());
        assert_eq!(key(json!({})).as_deref(), Some("visit/4564/2001"));
        assert_eq!(key(json!({ "visit_id": null, "attendance": "1" })).as_deref(), Some("record/4564/1/came"));
        assert_eq!(key(json!({ "deleted": 1 })).as_deref(), Some("record/4564/1/deleted"));
        assert_eq!(key(json!({ "attendance": -1 })).as_deref(), Some("record/4564/1/missed"));
        assert_eq!(key(json!({ "visit_attendance": -1 })), None);
        let reading = read(json!({}), &record(json!({ "attendance": 2 })));
        assert_eq!(reading.skipped, ["attendance 2 (client confirmed): nothing follows"]);
        let reading = read(json!({}), &record(json!({ "client": [] })));
        assert_eq!(reading.happenings, []);
    }

    #[test]
    fn the_local_date_goes_before_the_offset() {
        let at = |settings| read(settings, &record(json!({}))).happenings[0].at.unwrap().to_string();
        assert_eq!(at(json!({ "time_zone": "Europe/Moscow" })), "2026-09-14T09:10:00Z");
        assert_eq!(at(json!({})), "2026-09-14T08:10:00Z");
        assert!(PROVIDER.open(json!({ "time_zone": "Mars/Phobos" })).is_err());
    }

    #[test]
    fn one_bad_event_does_not_lose_the_others() {
        let reading = read(json!({}), &json!([7, { "resource": "schedule", "data": [] }, record(json!({})), {}]));
        assert_eq!((reading.happenings.len(), reading.skipped.len()), (1, 3));
        assert_eq!(reading.happenings[0].subject, "visit/2001");
    }

    #[test]
    fn a_masked_phone_is_asked_for() {
        let masked = record(json!({ "client": { "id": 5, "phone": "+7999***3301" } }));
        assert_eq!(read(json!({}), &masked).happenings[0].look_up, None);
        let asked = read(json!({ "partner_token": "p" }), &masked);
        assert_eq!(asked.happenings[0].look_up, Some(json!({ "client": "5", "company": "4564" })));
    }

    #[test]
    fn the_marketplace_is_known_by_the_partner_token() {
        let body = r#"{"salon_id":4564,"application_id":18289,"event_type":"freeze","partner_token":"p"}"#;
        let mut request = testing::post("application/json", body);
        request.key = None;
        let ours = open(json!({ "partner_token": "p", "application_id": 18289 }));
        assert_eq!(ours.verify(&request), Ok(()));
        assert!(ours.parse(&request).unwrap().disconnected.is_some());
        assert!(!String::from_utf8(ours.scrub(&request).unwrap().to_vec()).unwrap().contains("partner_token"));
        assert_eq!(open(json!({ "partner_token": "q" })).verify(&request), Err(Rejection::Forged));
        assert_eq!(open(json!({})).verify(&request), Err(Rejection::Unsigned));
    }

    #[tokio::test]
    async fn changed_records_are_read_page_by_page() {
        let ours = open(json!({ "partner_token": "p", "user_token": "u", "company_id": 4564,
            "time_zone": "Europe/Moscow", "records_per_page": 1 }));
        let script = Script::new(&[
            (200, r#"{"success":true,"data":[{"id":1,"visit_id":2,"attendance":1,"deleted":false}],"meta":{"total_count":1}}"#),
            (404, r#"{"success":false,"data":null,"meta":{"message":"Не найдено"}}"#),
        ]);
        let client = Client::new(&script);
        let polls = ours.polls().unwrap();
        let since: Timestamp = "2026-09-14T09:00:00Z".parse().unwrap();
        let first = polls.poll(&client, None, since).await.unwrap();
        let second = polls.poll(&client, Some(&first.next), since).await.unwrap();
        assert!(second.more && second.bodies.len() == 1);
        let third = polls.poll(&client, Some(&second.next), since).await.unwrap();
        assert_eq!((third.more, third.next.as_str()), (false, "1970-01-01T00:00:00Z"));
        assert!(
            script.sent()[1]
                .url
                .ends_with("/api/v1/records/4564?changed_after=2026-09-14T11:50:00&with_deleted=1&page=2&count=1")
        );
    }

    #[tokio::test]
    async fn an_application_registers_at_the_marketplace() {
        let ours = open(json!({ "partner_token": "p", "company_id": 4564, "application_id": 18289 }));
        let script = Script::new(&[(201, r#"{"success":true,"data":null,"meta":{}}"#)]);
        ours.subscription().unwrap().subscribe(&Client::new(&script), "https://hub.example/h").await.unwrap();
        assert_eq!(script.sent()[0].url, "https://api.yclients.com/marketplace/partner/callback");
    }

    #[tokio::test]
    async fn other_webhooks_of_the_branch_stay() {
        let ours = open(json!({ "partner_token": "p", "user_token": "u", "company_id": 4564 }));
        let script = Script::new(&[
            (200, r#"{"success":true,"data":{"urls":["https://other.example/h"],"active":0,"client":1,"record":0},"meta":[]}"#),
            (201, r#"{"success":true,"data":{},"meta":[]}"#),
        ]);
        ours.subscription().unwrap().subscribe(&Client::new(&script), "https://hub.example/h").await.unwrap();
        let sent: Value = serde_json::from_slice(&script.sent()[1].body).unwrap();
        let wanted =
            json!({ "urls": ["https://other.example/h", "https://hub.example/h"], "active": 1, "client": 1, "record": 1 });
        assert_eq!(sent, wanted);
    }
}
