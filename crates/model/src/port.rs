//! Ports: what a provider can be asked to do. One outbox row is one port call and one idempotency key; a protocol of
//! several steps is several rows.

mod account;
pub mod loyalty;

use std::borrow::Cow;

pub use account::{Account, CallCheck, CallCheckState, CallChecks, Limit, Standing, StopList, Stopped};
use async_trait::async_trait;
use jiff::SignedDuration;
pub use loyalty::Loyalty;
use loyalty::{AccountKey, Accrual, Redemption, Reversal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Address, Bytes, CallError, Channel, Client, Content, Id, Outbound, Outgoing, Person, Reply, Secret, Timestamp,
    connector::{ChatTurn, StatusNews},
    id::Kind,
    named::Named,
};

/// What a command asks of its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Send a message.
    Send {
        /// Whom: a phone, an e-mail address, a chat, a device.
        #[serde(flatten)]
        to: Address,
        #[serde(flatten)]
        content: Box<Content>,
        /// Whether it goes only to people who have agreed; a flow says so itself.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        consent: bool,
        /// The provider takes an idempotency key, or the same message twice is better than none ([`Messages::repeatable`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
        /// The command that sends it together with others, if one does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch: Option<Id>,
    },
    /// Send messages by one call: which, and in what words, was fixed when it was made.
    Batch {
        /// The commands of all messages that were asked for, in their order.
        messages: Vec<Id>,
        /// Those of them that were held back from the start.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        held: Vec<Id>,
        /// What is sent, whole, at each try ([`Batches::body`]). Without it nothing is: each message goes by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<String>,
    },
    /// Tell one of the merchant's own people.
    Tell {
        #[serde(flatten)]
        to: Address,
        #[serde(flatten)]
        content: Box<Content>,
        /// As of a message to a guest.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
        /// How else they are reached, if not so.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        otherwise: Vec<Elsewhere>,
    },
    /// Take up what a person did in a chat: nothing is called.
    Chat {
        #[serde(flatten)]
        of: Address,
        turn: ChatTurn,
    },
    /// Find the guest's phone ([`Guests::look_up`]).
    LookUp {
        /// Whose, in the provider's words.
        what: Value,
    },
    /// Tell an endpoint of the command's event.
    Deliver {
        /// Something of the event is still being looked up: it goes when that has ended, however it ended.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        after_look_up: bool,
    },
    /// Tell an outside loyalty programme of a purchase that earns ([`Loyalty::accrue`]).
    Accrue {
        #[serde(flatten)]
        accrual: Box<Accrual>,
        /// The programme knows our ids ([`Loyalty::repeatable`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
    },
    /// Take the points of what was given at a till while the programme did not answer ([`Loyalty::redeem`]).
    Redeem {
        #[serde(flatten)]
        redemption: Box<Redemption>,
        /// As of an accrual.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
    },
    /// Find out whether points were taken for a sale that never was, and have them given back ([`Loyalty::operation`]).
    Release {
        /// Our id of the redemption.
        operation: String,
        /// The sale's points stay taken if this hold was committed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<Id>,
    },
    /// Take back an operation at an outside loyalty programme ([`Loyalty::reverse`]).
    Reverse {
        #[serde(flatten)]
        reversal: Box<Reversal>,
        /// As of an accrual.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeatable: bool,
    },
    /// Book the points of a receipt that came in: nothing is called.
    Points {
        #[serde(flatten)]
        points: Box<PointsJob>,
    },
}

/// A receipt whose points are booked. Sums are whole units of the merchant's programme.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PointsJob {
    /// By which its receipt is known.
    pub order: String,
    /// Names under which the till may have sold the order by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub till_orders: Vec<String>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Whether it takes points back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refund: bool,
    /// The merchant's own id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// In E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was bought for; of a refund what was given back, and all where that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// What points are given for, where that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eligible: Option<i64>,
    /// A quote that the till has asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The receipt's own number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
}

/// Another way to reach one of the merchant's people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Elsewhere {
    /// The connection that sends.
    pub connection: Id,
    #[serde(flatten)]
    pub to: Address,
}

impl Job {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Send { .. } => "send",
            Self::Batch { .. } => "batch",
            Self::Tell { .. } => "tell",
            Self::Chat { .. } => "chat",
            Self::LookUp { .. } => "look_up",
            Self::Deliver { .. } => "deliver",
            Self::Accrue { .. } => "accrue",
            Self::Redeem { .. } => "redeem",
            Self::Release { .. } => "release",
            Self::Reverse { .. } => "reverse",
            Self::Points { .. } => "points",
        }
    }

    /// Takes out whom it is for and what it says. Ids by which somebody is looked up stay.
    pub fn forget_person(&mut self, phone: &Named) {
        match self {
            Self::Send { to, content, .. } => {
                *to = Address::Phone(String::new());
                content.forget();
            }
            // What is left of it can never be sent.
            Self::Batch { body, .. } => *body = body.take().map(|_| String::new()),
            Self::Tell { to, content, otherwise, .. } => {
                *to = Address::Phone(String::new());
                content.forget();
                otherwise.clear();
            }
            Self::Chat { of, turn } => {
                if phone.is_in(&of.key()) {
                    *of = Address::Phone(String::new());
                    *turn = ChatTurn::Left;
                }
            }
            Self::LookUp { what } => {
                if phone.is_in(&what.to_string()) {
                    *what = Value::Null;
                }
            }
            // It says what the event says.
            Self::Deliver { .. } => {}
            Self::Accrue { accrual, .. } => {
                if matches!(&accrual.by, Some(AccountKey::Phone(of)) if phone.is_in(of)) {
                    accrual.by = None;
                }
            }
            // They name an account at the programme, and nobody by name or phone.
            Self::Redeem { .. } | Self::Release { .. } | Self::Reverse { .. } => {}
            Self::Points { points } => {
                let named = [&mut points.customer, &mut points.name];
                named
                    .into_iter()
                    .filter(|text| text.as_ref().is_some_and(|text| phone.is_in(text)))
                    .for_each(|text| *text = None);
                if points.phone.as_deref() == Some(phone.key()) {
                    (points.phone, points.name) = (None, None);
                }
            }
        }
    }

    /// Whether it may be sent again when nobody knows what became of it.
    pub fn repeatable(&self) -> bool {
        match self {
            Self::Send { repeatable, .. }
            | Self::Tell { repeatable, .. }
            | Self::Accrue { repeatable, .. }
            | Self::Redeem { repeatable, .. }
            | Self::Reverse { repeatable, .. } => *repeatable,
            // A command's points are booked once, however often it comes.
            Self::Chat { .. } | Self::LookUp { .. } | Self::Deliver { .. } | Self::Points { .. } | Self::Release { .. } => true,
            // Who takes batches knows a repeat by its key.
            Self::Batch { .. } => true,
        }
    }

    /// Whom a message to a guest goes to.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Self::Send { to, .. } => Some(to),
            // The merchant's own people are no guests: no word of a guest's stands against it.
            _ => None,
        }
    }

    /// A message, to whomever: where it goes and what it says.
    pub fn message(&self) -> Option<(&Address, &Content)> {
        match self {
            Self::Send { to, content, .. } | Self::Tell { to, content, .. } => Some((to, content)),
            _ => None,
        }
    }

    /// Whether it is for an outside loyalty programme.
    pub fn is_loyalty(&self) -> bool {
        matches!(self, Self::Accrue { .. } | Self::Redeem { .. } | Self::Release { .. } | Self::Reverse { .. })
    }

    /// What the command's way out is: an endpoint, or a connection.
    pub fn way_out(&self) -> Kind {
        if matches!(self, Self::Deliver { .. }) { Kind::Endpoint } else { Kind::Connection }
    }
}

/// Messages to people by one channel.
#[async_trait]
pub trait Messages: Send + Sync {
    fn channel(&self) -> Channel;
    /// Whether a message may be sent again when nobody knows what became of it: the provider takes an idempotency key, or the same
    /// notice twice is better than none.
    fn repeatable(&self) -> bool {
        false
    }
    /// For how long a repeat is known by its key: one that comes later would be a second message. Without it: for ever.
    fn known_for(&self) -> Option<SignedDuration> {
        None
    }
    /// Whether messages go to people, and not only to the journal.
    fn reaches_people(&self) -> bool {
        true
    }
    /// Whether the provider tells later what became of a message; without that, taken is all that can be known.
    fn tells_delivery(&self) -> bool {
        true
    }
    /// After how many seconds a message whose answer was lost may be sent once more, where the provider knows the same words to the
    /// same person again and then says so ([`crate::Refusal::Already`]). `None`: it stays unknown.
    fn again_after_s(&self) -> Option<u32> {
        None
    }
    /// For how many hours after a person has written anything may be said to them; later only what the provider has approved.
    fn reply_window_h(&self) -> Option<u32> {
        None
    }
    /// The templates that the provider has approved, each as its name, a slash and its language. `None`: nobody has said which, and any
    /// may be named.
    fn templates(&self) -> Option<&[String]> {
        None
    }
    /// A device that a person registers, or what is wrong with it: the error names the field, and holds nothing of what stands in it.
    fn device(&self, _given: &str) -> Result<Device, String> {
        Err("this channel reaches no devices".to_owned())
    }
    /// The public key with which a browser asks for notices; `None`: this channel needs none.
    fn public_key(&self) -> Option<Result<String, CallError>> {
        None
    }
    /// Sending many messages by one call; `None`: each goes by itself.
    fn batches(&self) -> Option<&dyn Batches> {
        None
    }
    /// Sends a message to an address of the channel's kind: the template, where it has one.
    async fn send(&self, client: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError>;
    /// Whether the provider can be asked what became of messages ([`Self::statuses`]).
    fn can_be_asked(&self) -> bool {
        false
    }
    /// What became of messages sent earlier, at most 100 ids a call.
    async fn statuses(&self, _client: &Client<'_>, _provider_ids: &[String]) -> Result<Vec<StatusNews>, CallError> {
        Ok(Vec::new())
    }
    /// Whether a message whose answer was lost can be looked for ([`Self::find`]).
    fn can_find(&self) -> bool {
        false
    }
    /// What the provider took for this person, with these words, at about this time; `None` where there is no such message, or more
    /// than one.
    async fn find(
        &self,
        _client: &Client<'_>,
        _message: Outbound<'_>,
        _sent_at: Timestamp,
    ) -> Result<Option<StatusNews>, CallError> {
        Ok(None)
    }
}

/// Many messages in one call, under one key: the same key with the same body gives the first answer, and no message goes twice.
#[async_trait]
pub trait Batches: Send + Sync {
    /// How many messages one call takes.
    fn messages_max(&self) -> usize;
    /// What is sent for these messages. It is kept, so that a repeat is the same to the byte whatever was changed meanwhile.
    fn body(&self, messages: &[Outbound<'_>]) -> Result<String, CallError>;
    /// Sends a body of so many messages. Gives for each, in their order, the provider's id, or why that one was not taken. An
    /// answer that does not tell of each is [`CallError::Unreadable`]; after a refusal of the whole none has gone.
    async fn send_all(
        &self,
        client: &Client<'_>,
        body: &str,
        count: usize,
        key: &str,
    ) -> Result<Vec<Result<String, String>>, CallError>;
}

/// A device as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub address: Address,
    /// What tells it from others: a browser's subscription may come again with other keys.
    pub name: String,
    /// For people: the host of its push service, or the provider's name.
    pub shown: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub provider_id: String,
    /// What the merchant should see to, though the text went (it went under another sender's name).
    pub remark: Option<String>,
    /// What it cost, where the provider says so at once.
    pub cost: Option<Cost>,
    /// Where the person is reached from now on, if the provider says that it is elsewhere.
    pub moved_to: Option<Address>,
}

impl Sent {
    pub fn new(provider_id: impl Into<String>) -> Self {
        Self { provider_id: provider_id.into(), remark: None, cost: None, moved_to: None }
    }
}

/// What became of a message that the provider took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Nobody knows yet.
    OnTheWay,
    /// The person has it.
    Delivered,
    /// The person has opened it.
    Read,
    /// It will not come.
    Failed,
}

/// Looking a guest up.
#[async_trait]
pub trait Guests: Send + Sync {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError>;
}

#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Person(Person),
    /// One more call is needed; it becomes a command of its own.
    Next(Value),
    /// There is nobody to write to, and why.
    Nobody(String),
    /// What happened, in the provider's own words: to be read as if it had come in by webhook.
    Told(Bytes),
}

/// Money left at the provider.
#[async_trait]
pub trait Balance: Send + Sync {
    /// Decimal text in the account's currency, as the provider prints it.
    async fn balance(&self, client: &Client<'_>) -> Result<String, CallError>;
}

/// Whether what stands at the provider, such as a till, does its work.
#[async_trait]
pub trait Health: Send + Sync {
    /// `Ok(None)` when it is well; else what is wrong with it.
    async fn health(&self, client: &Client<'_>) -> Result<Option<String>, CallError>;
}

/// What a text would cost.
#[async_trait]
pub trait Costs: Send + Sync {
    /// The price of this text to an E.164 phone; nothing is sent.
    async fn cost(&self, client: &Client<'_>, phone: &str, text: &str) -> Result<Cost, CallError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Decimal text, as the provider prints it.
    pub cost: String,
    /// ISO 4217.
    pub currency: Cow<'static, str>,
    /// How many messages the text is cut into; 0 where nobody says.
    pub segments: u32,
}

/// A login that lasts. The engine keeps, locks and stores the session; the connector says how to renew and apply it.
#[async_trait]
pub trait Login: Send + Sync {
    /// A new session; `None` where there was none yet. A refresh token that works once is in the old session.
    async fn renew(&self, client: &Client<'_>, session: Option<&Session>) -> Result<Session, CallError>;
    fn apply(&self, session: &Session, outgoing: &mut Outgoing);
    /// Whether a 401 says that the session is no longer good. A 401 that says something else is the port's to read.
    fn is_stale(&self, _reply: &Reply) -> bool {
        true
    }
}

/// What a login gave. Stored sealed.
#[derive(Debug, Clone)]
pub struct Session {
    pub access: Secret,
    pub refresh: Option<Secret>,
    /// When to renew; `None`: when the provider says 401.
    pub expires_at: Option<Timestamp>,
}

/// Reading what was missed.
#[async_trait]
pub trait Polls: Send + Sync {
    fn every_s(&self) -> u32;
    /// A page after the cursor. Without a cursor: no bodies, and the cursor that means "from `since` on".
    async fn poll(&self, client: &Client<'_>, cursor: Option<&str>, since: Timestamp) -> Result<Page, CallError>;
}

/// Bodies to be read as if they had come in by webhook, and where to go on. Both are committed together.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub bodies: Vec<Bytes>,
    pub next: String,
    /// There is more right now.
    pub more: bool,
}

/// Registering our webhook at the provider.
#[async_trait]
pub trait Subscription: Send + Sync {
    async fn subscribe(&self, client: &Client<'_>, url: &str) -> Result<(), CallError>;
    /// `Ok(None)` when it stands; else what is wrong with it.
    async fn check(&self, client: &Client<'_>, url: &str) -> Result<Option<String>, CallError>;
}

/// Binding a chat to one of the merchant's own people: where a chat is no address that anybody can write down.
#[async_trait]
pub trait Invites: Send + Sync {
    /// The link by which a person opens a chat with the merchant and says this code, of letters and digits, there.
    async fn link(&self, client: &Client<'_>, code: &str) -> Result<String, CallError>;
}

/// A login that begins with a person in a browser (OAuth's authorisation code).
#[async_trait]
pub trait Authorization: Send + Sync {
    /// How long a login lasts that is not renewed meanwhile, in days.
    fn lasts_days(&self) -> Option<u32> {
        None
    }
    /// Whether the provider's redirect brings the state back. Else the browser's cookie tells which login it ends.
    fn returns_state(&self) -> bool {
        true
    }
    /// Where to send the owner's browser.
    fn start_url(&self, state: &str, redirect_url: &str) -> String;
    /// Trades what the provider's redirect brought for a session. `query` holds the redirect's own parameters.
    async fn finish(&self, client: &Client<'_>, query: &[(String, String)], redirect_url: &str) -> Result<Session, CallError>;
}
