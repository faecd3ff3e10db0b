//! Outside loyalty programmes: somebody else keeps the accounts, the hub asks and tells.
//!
//! Points are whole units of the programme; sums are minor units of the shop's currency (tiyin, kopecks). Every operation carries
//! an id of ours, a UUID, which is its idempotency key: the same id again must give the stored operation.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CallError, Client, Id, Timestamp, signature};

/// What an outside programme says: its answer, or that it says no. That nothing could be learnt is the [`CallError`] around it.
pub type Told<T> = Result<Result<T, Declined>, CallError>;

/// An outside loyalty programme.
#[async_trait]
pub trait Loyalty: Send + Sync {
    /// Whether an operation may be sent again when nobody knows what became of it: the provider knows our ids.
    fn repeatable(&self) -> bool {
        false
    }
    /// Makes the cheapest call that shows whether the programme answers us.
    async fn probe(&self, client: &Client<'_>) -> Result<(), CallError>;
    /// An account as it stands now.
    async fn account(&self, client: &Client<'_>, by: &AccountKey) -> Told<Account>;
    /// Tells of a purchase that earns.
    async fn accrue(&self, client: &Client<'_>, accrual: &Accrual) -> Told<Operation>;
    /// Takes points, at once or not at all.
    async fn redeem(&self, client: &Client<'_>, redemption: &Redemption) -> Told<Operation>;
    /// What became of an operation, by our id of it; [`Why::NotFound`]: the programme has no such operation.
    async fn operation(&self, client: &Client<'_>, operation: &str) -> Told<Operation>;
    /// Takes an operation back whole.
    async fn reverse(&self, client: &Client<'_>, reversal: &Reversal) -> Told<Operation>;
}

/// How a guest is named at a till.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountKey {
    /// E.164.
    Phone(String),
    /// The number of a card, as it is read.
    Card(String),
    /// A short-lived code that the programme's application shows.
    Code(String),
}

/// What a programme gives for a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Points, to be spent later.
    Bonus,
    /// A share of the price at once: 500 is 5 %.
    Discount { bps: u32 },
}

/// An account at an outside programme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The programme's own id of it.
    pub id: String,
    pub name: Option<String>,
    pub scheme: Scheme,
    /// What a purchase earns: 500 is 5 %.
    pub accrual_bps: u32,
    /// Which share of a purchase points may pay; 10 000 where the programme sets no limit.
    pub redeem_max_bps: u32,
    /// All points, those that cannot be spent yet included.
    pub points: i64,
    /// Points that can be spent now; never below zero.
    pub available: i64,
    /// What one point is worth, in minor units; above zero.
    pub point_minor: i64,
}

/// A purchase that earns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accrual {
    /// Our id of the operation.
    pub operation: String,
    /// The programme's id of the account; empty where it is not known yet.
    pub account: String,
    /// How the guest is named, where the account is to be asked for first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<AccountKey>,
    /// The receipt, as the merchant knows it.
    pub receipt: String,
    /// What was bought, in minor units.
    pub sum_minor: i64,
    /// What of it points have paid, in minor units.
    pub by_points_minor: i64,
    /// When it was bought.
    pub at: Timestamp,
    /// What was bought, where that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
}

/// A line of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// How many, or how much, in thousandths.
    pub quantity_milli: i64,
    /// The whole line, in minor units.
    pub sum_minor: i64,
}

/// Points to be spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redemption {
    /// Our id of the operation.
    pub operation: String,
    /// The programme's id of the account.
    pub account: String,
    /// The receipt, as the merchant knows it.
    pub receipt: String,
    /// How many; above zero.
    pub points: i64,
    /// What they take off, in minor units.
    pub worth_minor: i64,
    /// The whole receipt before points, in minor units.
    pub sum_minor: i64,
    /// What the guest says or shows, where the programme asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<String>,
}

/// An operation to be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reversal {
    /// Our id of the reversal itself.
    pub operation: String,
    /// Our id of what is taken back.
    pub of: String,
    /// Why, for the programme's records.
    pub reason: String,
}

impl Reversal {
    /// The one reversal of an operation: asked for twice, it is the same.
    pub fn of(operation: &str, reason: &str) -> Self {
        Self { operation: operation_id("reversal", operation.as_bytes()), of: operation.to_owned(), reason: reason.to_owned() }
    }
}

/// Which way points went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    Accrual,
    Redemption,
    Reversal,
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationState {
    /// The programme has it, and has not decided.
    Pending,
    Committed,
    /// It was done and taken back.
    Reversed,
    /// It was not done and will not be.
    Failed,
}

/// An operation as the programme has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The programme's own id of it.
    pub id: String,
    /// Our id.
    pub operation: String,
    pub kind: OperationKind,
    pub state: OperationState,
    /// How many points it moved, whichever way.
    pub points: i64,
    /// What the account holds after it, where that is told.
    pub balance_after: Option<i64>,
}

/// The programme's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    pub why: Why,
    /// In the programme's words.
    pub reason: String,
}

/// Why a programme says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No such account or operation: sell without it.
    NotFound,
    NotEnough,
    Blocked,
    Other,
}

/// An operation's id that follows from what it is for: made again it is the same, so that what is done twice here is done once
/// there.
pub fn operation_id(what: &str, cause: &[u8]) -> String {
    let mut bytes = signature::fingerprint([b"loyalty operation".as_slice(), what.as_bytes(), cause]);
    // A UUID of version 8 (RFC 9562), whose other bits are ours.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    uuid::Uuid::from_bytes(bytes).to_string()
}

/// The same, of something of ours.
pub fn operation_of(what: &str, cause: Id) -> String {
    operation_id(what, cause.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_s_id_is_a_uuid_that_follows_from_its_cause() {
        let id = operation_id("accrual", b"receipt 1");
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 8);
        assert_eq!(id, operation_id("accrual", b"receipt 1"));
        assert_ne!(id, operation_id("redemption", b"receipt 1"));
        assert_eq!(Reversal::of(&id, "a").operation, Reversal::of(&id, "b").operation);
        assert_ne!(Reversal::of(&id, "a").operation, id);
    }
}
