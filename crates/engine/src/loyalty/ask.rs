//! What the desk is asked, and what it answers. Names within bodies are the platform's.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Id, Request,
    loyalty::{Kind, MoveKind, Wallet},
    words::Language,
};

use super::club_words::Note;

/// Who asks, and how: the same for every question.
#[derive(Debug, Clone)]
pub struct LoyaltyAsk {
    pub merchant: Id,
    /// Nothing where it is not known: then the merchant's zone and the channel `VIRTUAL` are taken.
    pub outlet: Option<Id>,
    /// As the till names its cashier.
    pub staff: Option<String>,
    /// What the cashier reads.
    pub language: Language,
    /// `Idempotency-Key`.
    pub key: Option<String>,
    /// A bridge's signature that was verified (outlet, time and sum, joined): it is spent by its first use, and gets the first
    /// answer again.
    pub signature: Option<String>,
    /// `X-Request-Id`, or the body's `requestId`.
    pub request_id: Option<String>,
    /// Proved by a key or a signature: only such a caller makes customers.
    pub authenticated: bool,
    /// For the journal and the audit: `key_…`, `bridge/out_…`, `open`.
    pub by: String,
    /// What is journalled: without token, keys and signatures.
    pub request: Request,
    pub trace: String,
}

/// The customer of a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomerAsk {
    /// A token that was verified: it is good for one quote.
    Token { customer: String, jti: String, expires_at: Timestamp },
    /// The merchant's own id of the customer, or a phone with `+`, or our id `cus_…`.
    Plain(String),
}

/// A quote. Sums are whole units of the programme, rounded down.
#[derive(Debug, Clone, PartialEq)]
pub struct QuoteAsk {
    pub kind: Kind,
    pub customer: CustomerAsk,
    pub order: String,
    pub total: i64,
    /// What points may pay and are given for.
    pub eligible: i64,
    pub category: Option<String>,
    /// Used by the commit, unless that names another.
    pub promo_code: Option<String>,
}

/// A commit.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitAsk {
    /// As it was given.
    pub hold: String,
    /// May differ from the quote's: this one counts.
    pub order: String,
    pub receipt_number: Option<String>,
    pub promo_code: Option<String>,
}

/// A refund. Sums are whole units of the programme, rounded down.
#[derive(Debug, Clone, PartialEq)]
pub struct RefundAsk {
    pub order: String,
    pub total: i64,
    pub eligible: Option<i64>,
}

/// Points given or taken by a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustAsk {
    /// As in [`CustomerAsk::Plain`].
    pub customer: String,
    /// Below none: taken.
    pub points: i64,
    pub reason: String,
    /// Until when given points can be spent, where that is not what the programme says.
    pub expires_at: Option<Timestamp>,
}

/// An answer: the body as it was, and will be, given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoyaltyAnswer {
    /// JSON; a repeat gets the same bytes.
    pub body: String,
    /// It is the answer of an earlier call with the same key or signature.
    pub repeated: bool,
}

/// The answer to a quote of points to spend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedeemQuote {
    pub can_redeem: bool,
    /// In units.
    pub discount_to_apply: i64,
    pub points_to_burn: i64,
    /// What is left to pay in money, in units.
    pub final_payable: i64,
    /// For the commit. Without one there is nothing to commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_id: Option<String>,
    /// For the cashier.
    pub message: String,
    /// How it stands with an outside programme that keeps the points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loyalty: Option<Note>,
}

/// The answer to a quote of points to earn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EarnQuote {
    pub can_earn: bool,
    pub points_to_earn: i64,
    /// For the commit. Without one there is nothing to commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_id: Option<String>,
    /// For the cashier.
    pub message: String,
    /// How it stands with an outside programme that keeps the points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loyalty: Option<Note>,
}

/// The answer to a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Committed {
    pub ok: bool,
    /// One for each order.
    pub receipt_id: String,
    /// Of the whole order, in points: may be less than was quoted.
    pub redeem_applied: i64,
    /// Of the whole order, in points.
    pub earn_applied: i64,
    /// This hold was committed before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub already_committed: Option<bool>,
}

/// The answer to a cancellation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    pub ok: bool,
}

/// The answer to a refund.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refunded {
    pub ok: bool,
    /// Of the receipt's eligible sum, 0 to 1: what this refund adds.
    pub share: f64,
    pub points_restored: i64,
    pub points_revoked: i64,
}

/// The answer to an adjustment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adjusted {
    pub ok: bool,
    pub customer_id: String,
    /// What was given (or, below none, taken): no more is taken than is there.
    pub points: i64,
    /// After it.
    pub balance: i64,
}

/// A customer's points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    pub merchant_id: String,
    pub customer_id: String,
    /// What can be spent.
    pub balance: i64,
    /// What was earned and cannot be spent yet.
    pub promised: i64,
}

/// Which movements of points.
#[derive(Debug, Clone, Default)]
pub struct TransactionsAsk {
    pub customer: Option<String>,
    /// 1 to 100.
    pub limit: usize,
    /// A time by RFC 3339, or the `nextBefore` or `nextCursor` of a page.
    pub before: Option<String>,
    pub outlet: Option<Id>,
    pub staff: Option<String>,
}

/// A movement of points, as the platform tells it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transaction {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: MoveKind,
    /// What it did to the customer's points, those included that cannot be spent yet. `ACTIVATE` is none: promised points can be
    /// spent from then on.
    pub amount: i64,
    pub order_id: Option<String>,
    pub customer_id: String,
    pub created_at: Timestamp,
    pub outlet_id: Option<String>,
    pub outlet_pos_type: Option<String>,
    pub outlet_last_seen_at: Option<Timestamp>,
    pub staff_id: Option<String>,
}

/// A page of movements, newest first. A page never ends within a moment, so that none is lost between two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transactions {
    pub items: Vec<Transaction>,
    /// `before` of the next page; nothing at the end.
    pub next_before: Option<Timestamp>,
    pub next_cursor: Option<String>,
}

/// A customer to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewCustomer {
    /// The merchant's own id of the customer; by default the hub's.
    pub customer: Option<String>,
    /// In E.164, or as people of the merchant's country write it.
    pub phone: Option<String>,
    pub name: Option<String>,
    /// Who brought them: a customer's id, phone or `cus_…`.
    pub referred_by: Option<String>,
}

/// What changes of a customer: what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CustomerPatch {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A level of the programme that they have whatever they buy; an empty text takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Only while they have no receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referred_by: Option<String>,
}

/// A customer as people see them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CustomerView {
    pub id: Id,
    pub merchant: Id,
    pub customer: String,
    pub phone: Option<String>,
    pub name: Option<String>,
    /// Given by a person or a promo code; else by what was bought.
    pub level: Option<String>,
    pub balance: i64,
    pub promised: i64,
    pub receipts: u32,
    pub referred_by: Option<Id>,
    pub made_at: Timestamp,
}

impl From<&Wallet> for CustomerView {
    fn from(wallet: &Wallet) -> Self {
        Self {
            id: wallet.id,
            merchant: wallet.merchant,
            customer: wallet.customer.clone(),
            phone: wallet.phone.clone(),
            name: wallet.name.clone(),
            level: wallet.level.clone(),
            balance: wallet.balance(),
            promised: wallet.promised(),
            receipts: wallet.receipts,
            referred_by: wallet.referred_by,
            made_at: wallet.made_at,
        }
    }
}

/// A line of an import: a customer, and points they have from before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ImportRow {
    pub customer: Option<String>,
    pub phone: Option<String>,
    pub name: Option<String>,
    /// In points of the programme, none or more, as people write numbers.
    pub balance: Option<String>,
    pub level: Option<String>,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReport {
    /// Customers that were not there.
    pub made: u64,
    /// Customers that were there and got something new.
    pub changed: u64,
    /// Lines that change nothing: they were imported before.
    pub same: u64,
    /// Points given.
    pub points: i64,
    /// All that is wrong, in the order of lines.
    pub faults: Vec<ImportFault>,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportFault {
    /// Its number, from 1.
    pub row: u64,
    /// The column, where it is one.
    pub column: Option<String>,
    /// What is wrong, and what would be right.
    pub why: String,
}
