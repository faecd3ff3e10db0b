//! What a provider tells of the account with it, whom it writes to no more, and proofs that a phone is in somebody's hand.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CallError, Client};

/// The account at a provider: money, limits and senders in one look.
#[async_trait]
pub trait Account: Send + Sync {
    async fn account(&self, client: &Client<'_>) -> Result<Standing, CallError>;
}

/// How an account stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Standing {
    /// Money left, as decimal text.
    pub balance: Option<String>,
    /// ISO 4217.
    pub currency: Option<&'static str>,
    /// How much may be done in a time, and how much of it is used.
    pub limits: Vec<Limit>,
    /// Names and numbers that messages may come from.
    pub senders: Vec<String>,
}

/// What may be done in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Limit {
    /// Of what: `messages_a_day`, `free_messages_a_day`.
    pub what: &'static str,
    /// Nothing where there is no limit.
    pub total: Option<u64>,
    /// Of the present time.
    pub used: u64,
}

/// The list of phones that a provider writes to no more.
#[async_trait]
pub trait StopList: Send + Sync {
    async fn list(&self, client: &Client<'_>) -> Result<Vec<Stopped>, CallError>;
    /// Puts an E.164 phone on it; one that is there gets the new note.
    async fn add(&self, client: &Client<'_>, phone: &str, note: &str) -> Result<(), CallError>;
    async fn remove(&self, client: &Client<'_>, phone: &str) -> Result<(), CallError>;
}

/// A phone on a stop list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stopped {
    /// As the provider prints it.
    pub phone: String,
    /// Why, as somebody wrote there.
    pub note: Option<String>,
}

/// Proving a phone by a call: the person calls a number that is made for this, and the provider says whether they did.
#[async_trait]
pub trait CallChecks: Send + Sync {
    /// Begins for an E.164 phone.
    async fn begin(&self, client: &Client<'_>, phone: &str) -> Result<CallCheck, CallError>;
    async fn state(&self, client: &Client<'_>, id: &str) -> Result<CallCheckState, CallError>;
}

/// A check that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CallCheck {
    /// The provider's id of it.
    pub id: String,
    /// The number to call from the phone that is to be proved; the call costs nothing.
    pub call: String,
    /// The same for people.
    pub call_pretty: String,
    /// Within so many seconds.
    pub valid_s: u32,
}

/// How a check stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallCheckState {
    /// Nobody has called yet.
    Waiting,
    /// The call came from that phone.
    Confirmed,
    /// Its time is over, or there is no such check.
    Ended,
}
