//! The heart of the desk: what stands, what is asked and the moment give what is written and answered. No clock, no store.

mod commit;
mod other;
mod purse;
mod quote;
mod refund;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use uzel_model::{
    Id,
    id::Kind as IdKind,
    loyalty::{Account, Wallet},
    words::Language,
};
use uzel_store::LoyaltyChange;

pub(crate) use self::{
    commit::{SAME_ORDER, answer as committed, commit, has_earned, mark, promo_of, receipt_of},
    other::{adjust, cancel, sweep},
    purse::{Cause, Purse, of_lots},
    quote::{TOKEN_HOLD, TOKEN_KEPT, nothing_now, quote},
    refund::refund,
};
use super::{ProgrammeRule, reading::Fact};

/// What stands around a decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) merchant: Id,
    pub(crate) rule: &'a ProgrammeRule,
    pub(crate) now: Timestamp,
    pub(crate) language: Language,
    pub(crate) currency: &'a str,
    pub(crate) outlet: Option<Id>,
    /// The outlet's kind of till.
    pub(crate) channel: &'a str,
    /// There, 0 is Sunday.
    pub(crate) weekday: u8,
    pub(crate) staff: Option<&'a str>,
    pub(crate) request: Option<&'a str>,
    pub(crate) authenticated: bool,
    pub(crate) by: &'a str,
    /// Whether anybody wants to hear of quotes.
    pub(crate) tells_quotes: bool,
    /// And of what happens to single lots.
    pub(crate) tells_lots: bool,
}

/// What is written, told and answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decided {
    pub(crate) change: LoyaltyChange,
    /// What events are made of.
    pub(crate) facts: Vec<Fact>,
    pub(crate) answer: Value,
}

impl Decided {
    /// An answer upon which nothing is written.
    fn only(answer: impl Serialize) -> Self {
        Self { answer: body(answer), ..Self::default() }
    }
}

/// A new customer, without points.
pub(crate) fn new_wallet(merchant: Id, customer: Option<&str>, now: Timestamp) -> Wallet {
    let id = Id::new(IdKind::Customer);
    Wallet {
        id,
        merchant,
        version: 0,
        customer: customer.map_or_else(|| id.to_string(), str::to_owned),
        phone: None,
        name: None,
        level: None,
        referred_by: None,
        receipts: 0,
        account: Account::default(),
        last_lot: 0,
        booked_at: now,
        holds: Vec::new(),
        moves: Vec::new(),
        preview_days: 0,
        club: None,
        made_at: now,
    }
}

/// The body of an answer.
fn body(answer: impl Serialize) -> Value {
    serde_json::to_value(answer).expect("texts and numbers are JSON")
}
