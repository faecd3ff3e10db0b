//! Points: what the loyalty desk reads for one decision, and what a decision writes. The words are `uzel_model::loyalty`'s.

use uzel_model::{
    Id, Timestamp,
    loyalty::{Entry, Hold, OrderReceipt, Wallet},
};

/// Whose wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Id(Id),
    /// By the merchant's own id of the customer.
    Customer(String),
    /// By a phone in E.164.
    Phone(String),
}

/// What a decision wants to know. All of it is read at one moment.
#[derive(Debug, Clone)]
pub struct LoyaltyLook {
    pub merchant: Id,
    /// Whose. Where it is not said: whose the hold is, else whose the receipt of the order is.
    pub who: Option<Who>,
    /// The order; of the hold, where it is not said.
    pub order: Option<String>,
    /// A hold; one of another merchant is not seen.
    pub hold: Option<Id>,
    /// A customer's token: the hold that it was spent for.
    pub token: Option<[u8; 16]>,
    /// Answers that may have been given before, by their keys.
    pub replies: Vec<[u8; 16]>,
    /// What the customer has done since then is counted.
    pub since: Option<Timestamp>,
    /// Uses of this promo code are counted.
    pub promo_code: Option<String>,
    /// Replies and tokens that ended before this are not seen.
    pub now: Timestamp,
}

impl LoyaltyLook {
    pub fn new(merchant: Id, now: Timestamp) -> Self {
        Self {
            merchant,
            who: None,
            order: None,
            hold: None,
            token: None,
            replies: Vec::new(),
            since: None,
            promo_code: None,
            now,
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoyaltySeen {
    /// In any order; those that are not known are missing.
    pub replies: Vec<KeptReply>,
    /// The hold that was asked for, or the token was spent for.
    pub hold: Option<Hold>,
    pub receipt: Option<OrderReceipt>,
    pub wallet: Option<Wallet>,
    pub progress: Progress,
    pub promo: PromoUses,
}

/// What a customer has done in a while, by the ledger and receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Points earned by receipts, less what refunds took back.
    pub earned: i64,
    /// Points spent, less what refunds gave back.
    pub redeemed: i64,
    pub receipts: i64,
}

/// How often a promo code was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromoUses {
    pub all: i64,
    pub by_customer: i64,
    pub last_by_customer_at: Option<Timestamp>,
}

/// An answer that a repeat gets again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReply {
    pub key: [u8; 16],
    /// Hash of what was asked.
    pub body: [u8; 16],
    pub answer: String,
    pub until: Timestamp,
}

/// A customer's token that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpentToken {
    /// Hash of merchant and `jti`.
    pub key: [u8; 16],
    pub hold: Id,
    pub until: Timestamp,
}

/// A promo code that was used for an order: once for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromoUse {
    pub merchant: Id,
    pub code: String,
    pub wallet: Id,
    pub order: String,
    pub at: Timestamp,
    /// How often it had been used when this was decided, by all and by the customer: another count is a conflict.
    pub was: PromoUses,
}

/// What a decision writes. Each wallet, hold and receipt carries the version that it was decided on and is written as the next
/// one; another version is a conflict, as is a key of `replies` or `token` that is there and not over, an order, customer or phone
/// that another row of the merchant has.
#[derive(Debug, Clone, Default)]
pub struct LoyaltyChange {
    pub wallets: Vec<Wallet>,
    pub holds: Vec<Hold>,
    pub receipts: Vec<OrderReceipt>,
    pub ledger: Vec<Entry>,
    pub token: Option<SpentToken>,
    pub replies: Vec<KeptReply>,
    pub promo: Option<PromoUse>,
}

/// Which movements, newest first.
#[derive(Debug, Clone, Default)]
pub struct LedgerFilter {
    pub merchant: Option<Id>,
    pub wallet: Option<Id>,
    pub outlet: Option<Id>,
    pub staff: Option<String>,
    /// Older than this one.
    pub before: Option<Id>,
    /// Older than this moment.
    pub before_at: Option<Timestamp>,
    pub limit: usize,
}

/// Which wallets, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct WalletFilter {
    pub merchant: Option<Id>,
    pub phone: Option<String>,
    pub customer: Option<String>,
    pub after: Option<Id>,
    pub limit: usize,
}

/// A portion of wallets held against the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoyaltyAudit {
    /// Wallets and movements looked at.
    pub wallets: u64,
    pub entries: u64,
    /// What is not as it must be: whose, and what.
    pub findings: Vec<(Id, String)>,
    /// Where the next portion begins after; nothing at the end.
    pub next: Option<Id>,
}
