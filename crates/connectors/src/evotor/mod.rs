//! Evotor: smart tills with a cloud, which pushes receipts and documents (evotor.ru).
//!
//! Docs: <https://developer.evotor.ru/docs/>. Nothing is signed: a token in `Authorization` proves a request, with `Bearer` before it,
//! `Basic`, or nothing. A receipt has neither phone nor the sale that a refund belongs to, so the hub asks for its document. One sale
//! comes as receipt, as v1 and as v2 document, in any order and more than once; v1 prints sums as texts and refunds below zero.

mod guests;
mod login;
mod orders;
mod polls;
mod private;
mod proof;
mod wire;

use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_model::{
    Bytes, Connector, Intake, Malformed, Provider, Reading, Rejection, Request, Response, Secret, Timestamp,
    connector::{ASKED, Ask, Rate, Scope, Warning},
    port::{Guests, Health, Login, Polls, Session},
    registration::RegistrationField,
};

use crate::tree;
use orders::Document;
use proof::Asked;

pub(crate) const PROVIDER: Provider =
    Provider::new::<Evotor>("evotor", "Evotor").with_words(include_str!("words.toml")).with_registration(&[
        RegistrationField::ids("stores", "stores"),
        RegistrationField::ids("devices", "devices"),
        RegistrationField::text("webhookUrl", None),
        RegistrationField::text("token", Some("cloud_token")),
        RegistrationField::text("userId", Some("user_id")),
    ]);

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Evotor {
    /// Your id at Evotor: two digits, a hyphen and fifteen digits. What the cloud tells of other users is left out.
    #[garde(inner(length(chars, min = 18, max = 18), custom(is_user_id)))]
    #[schemars(length(min = 18, max = 18), example = "01-000000000000042")]
    user_id: Option<String>,
    /// Token of the application, as you typed it at developer.evotor.ru for its webhooks. Not needed where the hub's key is typed there.
    #[garde(skip)]
    application_token: Option<Secret>,
    /// Token that the hub gives Evotor for you when you log in to the application; webhooks of documents bring it. 128 characters at the most.
    #[garde(inner(custom(is_user_token)))]
    user_token: Option<Secret>,
    /// Name by which you log in to the application on the till, if it asks for one.
    #[garde(inner(length(chars, min = 1, max = 100)))]
    #[schemars(length(min = 1, max = 100))]
    login: Option<String>,
    /// Password that goes with the login. Webhooks may bring the two instead of the application's token.
    #[garde(skip)]
    password: Option<Secret>,
    /// Token of the cloud. Evotor sends it when the application is installed; for a private application it is copied by hand.
    #[garde(skip)]
    cloud_token: Option<Secret>,
    /// Secret of a program that passes receipts on in the form `id, timestamp, type, data, signature`.
    #[garde(skip)]
    bridge_secret: Option<Secret>,
    /// Ids of the stores whose receipts are read. Empty: those of all.
    #[serde(default)]
    #[garde(length(max = 100))]
    #[schemars(length(max = 100))]
    stores: Vec<String>,
    /// Ids of the tills whose receipts are read. Empty: those of all.
    #[serde(default)]
    #[garde(length(max = 1_000))]
    #[schemars(length(max = 1_000))]
    devices: Vec<String>,
    /// Send the cloud's token in `X-Authorization`, as older applications do.
    #[serde(default)]
    #[garde(skip)]
    x_authorization: bool,
    /// Seconds between two polls of documents.
    #[serde(default = "poll_every_s")]
    #[garde(range(min = 60, max = 86_400))]
    #[schemars(range(min = 60, max = 86_400))]
    poll_every_s: u32,
    /// Calls a second at the most; Evotor publishes no limit.
    #[serde(default = "calls_per_s")]
    #[garde(range(min = 1, max = 1_000))]
    #[schemars(range(min = 1, max = 1_000))]
    calls_per_s: u32,
    /// Where the cloud's API lives.
    #[serde(default = "base_url")]
    #[garde(length(chars, min = 1))]
    #[schemars(length(min = 1))]
    base_url: String,
}

fn poll_every_s() -> u32 {
    300
}

fn calls_per_s() -> u32 {
    5
}

fn base_url() -> String {
    "https://api.evotor.ru".to_owned()
}

fn is_user_id(id: &str, (): &()) -> garde::Result {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    match id.split_once('-') {
        Some((first, rest)) if digits(first, 2) && digits(rest, 15) => Ok(()),
        _ => Err(garde::Error::new("must be two digits, a hyphen and fifteen digits")),
    }
}

fn is_user_token(token: &Secret, (): &()) -> garde::Result {
    let fits = (1..=128).contains(&token.expose().chars().count());
    if fits { Ok(()) } else { Err(garde::Error::new("must have 1 to 128 characters")) }
}

impl Connector for Evotor {
    fn methods(&self) -> &'static [&'static str] {
        &["POST", "PUT"]
    }

    /// The hub's key, typed at Evotor as the application's token, or one of the tokens of the settings. What is asked in the name of the
    /// application is not believed to whoever has a user's token only.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        let asked = Asked::of(request);
        if !self.proves(request, asked) {
            return Err(if request.header("authorization").is_some() { Rejection::Forged } else { Rejection::Unsigned });
        }
        match (&self.bridge_secret, private::is_form(request)) {
            (Some(secret), true) if !private::is_signed(request, secret) => Err(Rejection::Forged),
            _ => Ok(()),
        }
    }

    /// Who logs in is answered at once and not journalled: the one side brings a password, the other a token.
    fn intake(&self, request: &Request) -> Intake {
        match Asked::of(request) {
            Asked::Create => Intake::Greets(self.created(request)),
            Asked::Verify => Intake::Greets(self.logged_in(request)),
            Asked::Token | Asked::Other => Intake::Tells(Response::ok()),
        }
    }

    fn scrub(&self, request: &Request) -> Option<Bytes> {
        proof::scrub(request)
    }

    fn brings_login(&self, request: &Request) -> Option<Session> {
        self.pushed_login(request)
    }

    fn refuse(&self, request: &Request, _rejection: &Rejection) -> Response {
        let code = if Asked::of(request) == Asked::Other { 1002 } else { 1001 };
        Response::json(401, &json!({ "errors": [{ "code": code }] }))
    }

    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        let mut reading = Reading::default();
        if request.method == ASKED {
            for document in listed(&body) {
                self.tell(Document::v2(document), &mut reading);
            }
            return Ok(reading);
        }
        match &body {
            Value::Array(items) if items.is_empty() => reading.skip("an empty list: nothing follows"),
            Value::Array(items) => items.iter().for_each(|item| self.read(request, item, &mut reading)),
            Value::Object(_) => self.read(request, &body, &mut reading),
            _ => return Err(Malformed::new("neither an object nor a list was in the body")),
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
        self.may_ask().then_some(self)
    }

    fn health(&self) -> Option<&dyn Health> {
        self.may_ask().then_some(self)
    }

    fn rates(&self) -> Vec<Rate> {
        vec![Rate::per_second(Scope::Connection, self.calls_per_s)]
    }
}

/// A login, or what is left of it when its token is taken out.
fn is_only_a_user(item: &Value) -> bool {
    let members = item.as_object().filter(|members| !members.is_empty());
    members.is_some_and(|members| members.keys().all(|name| ["userId", "userUuid", "token"].contains(&name.as_str())))
}

/// What was told when the cloud was asked: one document, or some in the order in which they follow from each other.
fn listed(body: &Value) -> &[Value] {
    body["items"].as_array().map_or(std::slice::from_ref(body), Vec::as_slice)
}

impl Evotor {
    /// Whether there is a cloud token: set, or sent by Evotor to whoever is set up for it.
    fn may_ask(&self) -> bool {
        self.cloud_token.is_some() || self.user_token.is_some()
    }

    /// Reads one thing that came in.
    fn read(&self, request: &Request, item: &Value, reading: &mut Reading) {
        let named =
            [&item["userId"], &item["userUuid"], &item["user_id"], &item["data"]["userId"]].into_iter().find_map(tree::text);
        if let (Some(ours), Some(theirs)) = (&self.user_id, named)
            && *ours != theirs
        {
            return reading.skip("it is of another user of Evotor: nothing follows");
        }
        let kind = tree::text(&item["type"]).unwrap_or_default();
        match kind.as_str() {
            "ReceiptCreated" => self.receipt(request, &item["data"], reading),
            "ApplicationUninstalled" => reading.disconnected = Some("the application was removed at Evotor".to_owned()),
            "SubscriptionTerminated" => reading.warnings.push(Warning {
                kind: "evotor_subscription".to_owned(),
                text: "the subscription to the application has ended at Evotor".to_owned(),
            }),
            _ if private::is_kind(&kind) && item["data"].is_object() => match (&self.bridge_secret, &item["signature"]) {
                (Some(_), Value::String(_)) => self.tell(Document::private(&kind, &item["data"]), reading),
                _ => reading.skip(format!("{kind}: not signed by a secret that is set (bridge_secret): nothing follows")),
            },
            "SELL" | "PAYBACK" if item["transactions"].is_array() => self.pushed(request, Document::v1(item), reading),
            "SELL" | "PAYBACK" if item["body"].is_object() => self.pushed(request, Document::v2(item), reading),
            "" if is_only_a_user(item) => reading.skip("a token of the cloud for this user: it is kept, nothing more follows"),
            "" => reading.skip("neither a receipt nor a document: nothing follows"),
            _ => reading.skip(format!("{kind}: nothing follows")),
        }
    }

    /// A receipt tells neither the guest nor the sale of a refund: its document does.
    fn receipt(&self, request: &Request, data: &Value, reading: &mut Reading) {
        if tree::flag(&data["infoCheck"]) {
            return reading.skip("the receipt is not fiscal (infoCheck): nothing follows");
        }
        let document = match Document::receipt(data) {
            Ok(document) => document,
            Err(why) => return reading.skip(why),
        };
        match self.ask(request, &document) {
            Some(ask) if !self.is_elsewhere(&document) => reading.asks.push(ask),
            _ => self.tell(Ok(document), reading),
        }
    }

    /// A document that came by itself. Of a refund the sale is asked for, too: it must be told before its refund.
    fn pushed(&self, request: &Request, document: Result<Document, String>, reading: &mut Reading) {
        match document {
            Ok(document) if document.refund && document.base.is_some() && !self.is_elsewhere(&document) => {
                match self.ask(request, &document) {
                    Some(ask) => reading.asks.push(ask),
                    None => self.tell(Ok(document), reading),
                }
            }
            document => self.tell(document, reading),
        }
    }

    fn ask(&self, request: &Request, document: &Document) -> Option<Ask> {
        let store = document.store.as_ref().filter(|id| wire::is_plain(id))?;
        if !self.may_ask() || !wire::is_plain(&document.id) {
            return None;
        }
        let told_at = request.received_at.as_second();
        Some(Ask {
            subject: format!("document/{}", document.id),
            refs: document.number.iter().cloned().chain([document.id.clone()]).collect(),
            what: json!({ "document": document.id, "store": store, "told_at": told_at }),
        })
    }

    /// Whether it is of a store or till that this connection does not read.
    fn is_elsewhere(&self, document: &Document) -> bool {
        let left_out =
            |wanted: &[String], id: &Option<String>| !wanted.is_empty() && !id.as_ref().is_some_and(|id| wanted.contains(id));
        left_out(&self.stores, &document.store) || left_out(&self.devices, &document.device)
    }

    fn tell(&self, document: Result<Document, String>, reading: &mut Reading) {
        match document {
            Ok(document) if self.is_elsewhere(&document) => {
                reading.skip(format!("document {} is of a store or till that this connection does not read", document.id));
            }
            Ok(document) => match document.happening() {
                Ok(happening) => reading.happenings.push(happening),
                Err(why) => reading.skip(why),
            },
            Err(why) => reading.skip(why),
        }
    }
}

/// Seconds since the epoch as a moment.
fn second(value: &Value) -> Option<Timestamp> {
    tree::integer(value).and_then(|second| Timestamp::from_second(second).ok())
}
