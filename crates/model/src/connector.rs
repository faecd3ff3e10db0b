//! What a connector is. Three things only: the settings struct is the connector; [`Connector`] reads; ports call.
//!
//! `verify`, `intake`, `parse`, `answer` and `refuse` are pure: they can be fuzzed, snapshotted and replayed.

use std::{fmt, net::IpAddr};

use bytes::Bytes;
use garde::Validate;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Address, Happening, Refusal, Secret, Timestamp,
    check::{self, Fault},
    port::{
        Account, Authorization, Balance, CallChecks, Cost, Costs, Delivery, Guests, Health, Invites, Login, Loyalty, Messages,
        Polls, Session, StopList, Subscription,
    },
    registration::RegistrationField,
};

/// A provider: one row of the list `PROVIDERS`.
#[derive(Clone, Copy)]
pub struct Provider {
    /// `[a-z0-9]+`, used in paths.
    pub id: &'static str,
    pub name: &'static str,
    open: Open,
    schema: fn() -> Schema,
    pub(crate) words: &'static str,
    pub(crate) registered: &'static [RegistrationField],
    /// Variables that set up a connection of merchant `default`.
    pub variables: Variables,
}

/// Variables of the environment that make a connection of merchant `default`, by the names that people know them by.
#[derive(Debug, Clone, Copy)]
pub struct Variables {
    /// The connection's slug.
    pub slug: &'static str,
    /// Name, and the setting that it gives. Without any of these nothing is set up; some without the others are a fault.
    pub needed: &'static [(&'static str, &'static str)],
    pub optional: &'static [(&'static str, &'static str)],
}

type Open = fn(Value) -> Result<Box<dyn Connector>, Vec<Fault>>;

impl Provider {
    pub const fn new<C>(id: &'static str, name: &'static str) -> Self
    where
        C: Connector + DeserializeOwned + JsonSchema + Validate<Context = ()> + 'static,
    {
        Self {
            id,
            name,
            open: open::<C>,
            schema: || schemars::schema_for!(C),
            words: "",
            registered: &[],
            variables: Variables { slug: "", needed: &[], optional: &[] },
        }
    }

    pub const fn with_variables(mut self, variables: Variables) -> Self {
        self.variables = variables;
        self
    }

    /// What the settings struct says of itself, without words for people: all that the hub itself looks at.
    pub fn shape(&self) -> Schema {
        (self.schema)()
    }

    /// Makes a connector of settings, or lists everything that is wrong with them.
    pub fn open(&self, settings: Value) -> Result<Box<dyn Connector>, Vec<Fault>> {
        (self.open)(settings)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Provider({})", self.id)
    }
}

fn open<C>(settings: Value) -> Result<Box<dyn Connector>, Vec<Fault>>
where
    C: Connector + DeserializeOwned + JsonSchema + Validate<Context = ()> + 'static,
{
    let faults = check::faults(schemars::schema_for!(C).as_value(), &settings);
    if !faults.is_empty() {
        return Err(faults);
    }
    let connector: C = serde_path_to_error::deserialize(settings)
        .map_err(|error| vec![Fault::new(check::pointer(error.path()), error.inner().to_string())])?;
    match connector.validate() {
        Ok(()) => Ok(Box::new(connector)),
        Err(report) => Err(report
            .iter()
            .map(|(path, error)| Fault::new(format!("/{}", path.to_string().replace('.', "/")), error.message().to_string()))
            .collect()),
    }
}

/// A configured link to one provider: its fields are its settings.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Headers, beside `X-Api-Key` and `Authorization`, in which this provider puts secrets. The hub looks for its
    /// webhook key in them and takes them out before anything is journalled.
    fn credential_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Parameters of the query, beside `key`, in which this provider puts secrets: they are never journalled.
    fn credential_parameters(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether this provider's requests carry the hub's webhook key in the path, below the connection's address.
    fn key_in_path(&self) -> bool {
        false
    }

    /// Secrets that are made of those of the settings and travel in calls (a signature that never changes): they are taken out of
    /// all that is kept, as those are.
    fn made_secrets(&self) -> Vec<Secret> {
        Vec::new()
    }

    /// The HTTP methods of its requests; others are not let in.
    fn methods(&self) -> &'static [&'static str] {
        &["POST"]
    }

    /// Whether its requests are proved by a webhook key of the hub; then one is made when the connection is set up.
    fn keyed(&self) -> bool {
        true
    }

    /// Tells a provider's request from a stranger's. By default the hub's webhook key is what proves it.
    fn verify(&self, request: &Request) -> Result<(), Rejection> {
        if request.key.is_some() { Ok(()) } else { Err(Rejection::Unsigned) }
    }

    /// What kind of call it is, told cheaply: the reading comes later.
    fn intake(&self, _request: &Request) -> Intake {
        Intake::Tells(Response::ok())
    }

    /// Takes secrets out of the body before it is journalled; `None`: there are none.
    fn scrub(&self, _request: &Request) -> Option<Bytes> {
        None
    }

    /// The login that a verified request brings: kept sealed before the request is journalled without it ([`Self::scrub`]).
    fn brings_login(&self, _request: &Request) -> Option<Session> {
        None
    }

    /// Reads a verified request. Pure, so that a journalled request can be read again.
    fn parse(&self, request: &Request) -> Result<Reading, Malformed>;

    /// Refuses in the provider's words.
    fn refuse(&self, _request: &Request, rejection: &Rejection) -> Response {
        Response::json(401, &json!({ "error": rejection.to_string() }))
    }

    fn messages(&self) -> Option<&dyn Messages> {
        None
    }
    fn guests(&self) -> Option<&dyn Guests> {
        None
    }
    fn invites(&self) -> Option<&dyn Invites> {
        None
    }
    fn balance(&self) -> Option<&dyn Balance> {
        None
    }
    fn costs(&self) -> Option<&dyn Costs> {
        None
    }
    fn account(&self) -> Option<&dyn Account> {
        None
    }
    fn health(&self) -> Option<&dyn Health> {
        None
    }
    fn stop_list(&self) -> Option<&dyn StopList> {
        None
    }
    fn call_checks(&self) -> Option<&dyn CallChecks> {
        None
    }
    fn loyalty(&self) -> Option<&dyn Loyalty> {
        None
    }
    fn login(&self) -> Option<&dyn Login> {
        None
    }
    fn polls(&self) -> Option<&dyn Polls> {
        None
    }
    fn subscription(&self) -> Option<&dyn Subscription> {
        None
    }
    fn authorization(&self) -> Option<&dyn Authorization> {
        None
    }

    /// When a token in its settings ends, as the token itself says: unproven, and good for a warning only.
    fn token_ends_at(&self) -> Option<Timestamp> {
        None
    }

    /// Whose limits a call counts against, and how many calls each allows. All hold at once.
    fn rates(&self) -> Vec<Rate> {
        vec![Rate::per_second(Scope::Connection, 50)]
    }
}

/// A limit on calls outward: so many in any period of this length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    pub scope: Scope,
    pub calls: u32,
    pub period_s: u32,
}

impl Rate {
    pub const fn per_second(scope: Scope, calls: u32) -> Self {
        Self { scope, calls, period_s: 1 }
    }

    pub const fn per_minute(scope: Scope, calls: u32) -> Self {
        Self { scope, calls, period_s: 60 }
    }
}

/// Who shares a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    Connection,
    /// All connections with this account or application at the provider.
    Account(String),
    /// All calls from our address to this provider.
    Address,
}

/// A request as it came in.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: String,
    /// As it came: `/api/webhook/{provider}`, `/hooks/{connection}` or something below that.
    pub path: String,
    /// Decoded pairs, in order.
    pub query: Vec<(String, String)>,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub received_at: Timestamp,
    pub peer: Option<IpAddr>,
    /// The id of the hub's webhook key that came with it, if a right one did.
    pub key: Option<String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; the error names the place.
    pub fn json(&self) -> Result<Value, Malformed> {
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(Malformed::new("the body is empty: JSON was expected"));
        }
        serde_json::from_slice(body).map_err(|error| Malformed(format!("the body is not JSON: {error}")))
    }
}

/// What goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl Response {
    pub fn ok() -> Self {
        Self { status: 200, content_type: "application/json", body: Bytes::from_static(b"{}") }
    }

    pub fn text(status: u16, body: &'static str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: Bytes::from_static(body.as_bytes()) }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", body: body.to_string().into() }
    }
}

/// The method of what a poll or a look-up brought: no request that comes in has it.
pub const ASKED: &str = "POLL";

/// What kind of call a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// It tells: journalled, answered with this, read afterwards.
    Tells(Response),
    /// It greets (a challenge, a probe): answered, nothing to journal.
    Greets(Response),
}

/// As many reasons are noted of one request; what can be read of it is read whole.
const SKIPPED_MAX: usize = 1_000;

/// What a request said.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reading {
    pub happenings: Vec<Happening>,
    /// What was in it that no event follows from, and why: shown in the journal.
    pub skipped: Vec<String>,
    /// Statuses of messages sent earlier.
    pub statuses: Vec<StatusNews>,
    /// What people told the provider about messages.
    pub choices: Vec<Choice>,
    /// What people did in chats with the merchant.
    pub chats: Vec<ChatNews>,
    /// What the provider must be asked before it is known what happened.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
    /// The provider says that this connection is switched off (an application removed, a hook disabled).
    pub disconnected: Option<String>,
    /// What the merchant should know of the account or its templates.
    pub warnings: Vec<Warning>,
}

/// A thing that a request only names: it is looked up ([`Guests::look_up`]), and what is told of it
/// ([`crate::port::Found::Told`]) is read like a webhook.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ask {
    /// What it is about (`order/5001`): calls of one subject are made one after another.
    pub subject: String,
    /// Numbers that people search by.
    pub refs: Vec<String>,
    /// The job's own words, read by the port.
    pub what: Value,
}

/// Something that a provider tells of a merchant's account there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What it is about, for programs; the same thing is told once a day.
    pub kind: String,
    /// What has happened, for people.
    pub text: String,
}

/// News of a message sent earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusNews {
    pub provider_id: String,
    pub state: Delivery,
    /// The provider's own word or number.
    pub code: String,
    pub at: Option<Timestamp>,
    /// Why it will not come, where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// It came back, and might not another time (a mailbox that is full). An address of which that is told often counts as one that
    /// does not work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounced: bool,
    /// What it cost, where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// The command's own key, where the provider gives it back: it tells of a message whose answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whom the message went to, where that is told: it tells of a message whose answer was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
    /// When the message was sent, where that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
}

impl StatusNews {
    pub fn new(provider_id: impl Into<String>, state: Delivery, code: impl fmt::Display) -> Self {
        Self {
            provider_id: provider_id.into(),
            state,
            code: code.to_string(),
            at: None,
            refusal: None,
            bounced: false,
            cost: None,
            key: None,
            to: None,
            sent_at: None,
        }
    }
}

/// What a person told the provider about messages from this merchant, by a button or a setting there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Choice {
    pub who: Address,
    /// Whether they want messages.
    pub wants: bool,
    /// How they said it, for the record.
    pub how: String,
    pub at: Option<Timestamp>,
}

/// What somebody did in a chat with the merchant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChatNews {
    /// The provider's own id of it: the same for every repeat, for ever.
    pub key: String,
    pub of: Address,
    pub turn: ChatTurn,
    pub at: Option<Timestamp>,
}

/// What somebody did in a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "turn", rename_all = "snake_case")]
pub enum ChatTurn {
    /// Opened it, with the code of a link or without.
    Came { code: Option<String> },
    /// Asked for no more messages.
    Stopped,
    /// Cannot be written to any more: blocked the merchant, is gone.
    Left,
    /// The chat has another address from now on.
    Moved { to: Address },
}

impl ChatTurn {
    pub fn word(&self) -> &'static str {
        match self {
            Self::Came { .. } => "came",
            Self::Stopped => "stopped",
            Self::Left => "left",
            Self::Moved { .. } => "moved",
        }
    }
}

impl Reading {
    /// Notes what no event follows from. A body of nothing but nonsense must not become a note larger than itself.
    pub fn skip(&mut self, why: impl Into<String>) {
        match self.skipped.len() {
            0..SKIPPED_MAX => self.skipped.push(why.into()),
            SKIPPED_MAX => self.skipped.push("there was more that nothing follows from; it is not noted".to_owned()),
            _ => {}
        }
    }
}

/// A stranger's request: refused, counted, never journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("no key or signature came with the request")]
    Unsigned,
    #[error("the key or signature is wrong")]
    Forged,
}

/// A verified request that cannot be read: a dead letter, answered as received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Malformed {
    pub fn new(what: impl fmt::Display) -> Self {
        Self(what.to_string())
    }
}
