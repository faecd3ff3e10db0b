//! The loyalty desk: quotes, commits, refunds, customers, the ledger of points.
//!
//! Its heart is pure ([`decide`]): what stands, what is asked and the moment give what is written and answered. Around it the engine
//! reads what stands, and commits rows, journal and answer in one change; where another till was faster it reads and decides again.
//!
//! The server verifies keys, signatures and customers' codes before it asks: [`crate::World::programme_of`] has the keys of the codes,
//! [`crate::World::bridge_secrets`] those of the outlets.

mod answer;
mod ask;
pub mod club;
pub mod club_jobs;
mod club_quote;
pub mod club_words;
mod customers;
mod decide;
mod error;
mod import;
mod outside;
mod outside_sale;
mod points;
pub(crate) mod programme;
mod reading;
mod sweep;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use uzel_model::{
    Id,
    check::Fault,
    id::Kind as IdKind,
    loyalty::{Book, Entry, Wallet},
};
use uzel_store::{LedgerFilter, LoyaltyAudit, LoyaltyLook};

use self::answer::{Question, who};
pub(crate) use self::{
    answer::{Turns, currency},
    points::{earns, take as take_points, wanted},
    reading::{SOURCE, follow},
    sweep::run as sweep,
};
pub use self::{
    ask::{
        AdjustAsk, Adjusted, Balance, Cancelled, CommitAsk, Committed, CustomerAsk, CustomerPatch, CustomerView, EarnQuote,
        ImportFault, ImportReport, ImportRow, LoyaltyAnswer, LoyaltyAsk, NewCustomer, QuoteAsk, RedeemQuote, RefundAsk, Refunded,
        Transaction, Transactions, TransactionsAsk,
    },
    error::LoyaltyError,
    programme::{
        Club, Limit, Limits, LoyaltyProgramme, Offline, ProgrammeRule, PromoCode, PromoLimit, PromoStatus, QrKey, QrKeyDoc,
        Referral,
    },
};
use crate::Engine;

/// What a quote takes beside the patience with an outside programme: what was learnt in time is decided and written.
const AFTER_PATIENCE: Duration = Duration::from_millis(120);
/// Movements of a page.
const PAGE_MAX: usize = 100;
const PAGE: usize = 20;
/// Wallets that are held against the ledger in one go.
const AUDITED_MAX: usize = 500;
/// A person can wait longer than a till.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// What a purchase may spend or would earn. At the deadline, or with a store that does not answer, the answer is "no points
    /// now", without a hold: the sale goes on.
    pub async fn loyalty_quote(
        self: &Arc<Self>,
        ask: LoyaltyAsk,
        quote: QuoteAsk,
        deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        let language = ask.language;
        let deadline = self.club_patience(ask.merchant).map_or(deadline, |patience| deadline.max(patience + AFTER_PATIENCE));
        let answered = self.in_time(ask, Question::Quote(quote.clone()), deadline).await;
        self.metrics.loyalty("quote", answered.as_ref().err());
        match answered {
            Err(LoyaltyError::Again(why)) => {
                tracing::warn!("a quote is answered without points: {why}");
                Ok(LoyaltyAnswer { body: decide::nothing_now(&quote, language).to_string(), repeated: false })
            }
            answered => answered,
        }
    }

    /// Moves what a quote holds.
    pub async fn loyalty_commit(
        self: &Arc<Self>,
        ask: LoyaltyAsk,
        commit: CommitAsk,
        deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        let answered = self.in_time(ask, Question::Commit(commit), deadline).await;
        self.metrics.loyalty("commit", answered.as_ref().err());
        answered
    }

    /// Lets a hold go.
    pub async fn loyalty_cancel(
        self: &Arc<Self>,
        ask: LoyaltyAsk,
        hold: String,
        deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        self.in_time(ask, Question::Cancel(hold), deadline).await
    }

    /// Gives back and takes away what a part of an order's receipt moved.
    pub async fn loyalty_refund(
        self: &Arc<Self>,
        ask: LoyaltyAsk,
        refund: RefundAsk,
        deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        let answered = self.in_time(ask, Question::Refund(refund), deadline).await;
        self.metrics.loyalty("refund", answered.as_ref().err());
        answered
    }

    /// Gives or takes points, by a person with a reason: audited under [`LoyaltyAsk::by`].
    pub async fn loyalty_adjust(self: &Arc<Self>, ask: LoyaltyAsk, adjust: AdjustAsk) -> Result<LoyaltyAnswer, LoyaltyError> {
        if adjust.expires_at.is_some_and(|at| at <= self.clock.now()) {
            return Err(LoyaltyError::Malformed(vec![Fault::new("/expires_at", "has passed already")]));
        }
        let (merchant, by) = (ask.merchant, ask.by.clone());
        let detail = serde_json::json!({ "points": adjust.points, "reason": adjust.reason });
        let customer = adjust.customer.clone();
        let answered = self.in_time(ask, Question::Adjust(adjust), PATIENCE).await?;
        if !answered.repeated {
            self.audit(&by, "points.adjust", Some(merchant), customer, detail).await?;
        }
        Ok(answered)
    }

    /// A customer's points. `customer` as in [`CustomerAsk::Plain`].
    pub async fn loyalty_balance(self: &Arc<Self>, merchant: Id, customer: &str) -> Result<Balance, LoyaltyError> {
        if let Some(balance) = self.club_balance(merchant, customer).await? {
            return Ok(balance);
        }
        let wallet = self.wallet(merchant, customer).await?;
        let now = self.clock.now().max(wallet.booked_at);
        Ok(Balance {
            merchant_id: merchant.to_string(),
            customer_id: wallet.customer,
            balance: wallet.account.balance(now),
            promised: wallet.account.promised(now),
        })
    }

    /// Movements of points, newest first.
    pub async fn loyalty_transactions(&self, merchant: Id, ask: TransactionsAsk) -> Result<Transactions, LoyaltyError> {
        let wallet = match &ask.customer {
            Some(customer) => Some(self.wallet(merchant, customer).await?),
            None => None,
        };
        let (mut before, mut before_at) = (None, None);
        if let Some(text) = ask.before.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
            match (text.parse::<Id>(), text.parse::<Timestamp>()) {
                (Ok(id), _) if id.kind() == IdKind::Points => before = Some(id),
                (_, Ok(at)) => before_at = Some(at),
                _ => {
                    let wrong = "is neither a time by RFC 3339 nor a cursor of a page";
                    return Err(LoyaltyError::Malformed(vec![Fault::new("/before", wrong)]));
                }
            }
        }
        let limit = if ask.limit == 0 { PAGE } else { ask.limit.min(PAGE_MAX) };
        let mut filter = LedgerFilter {
            merchant: Some(merchant),
            wallet: wallet.as_ref().map(|wallet| wallet.id),
            outlet: ask.outlet,
            staff: ask.staff,
            before,
            before_at,
            limit: limit + 1,
        };
        let mut found = self.store.ledger(filter.clone()).await?;
        let mut more = found.len() > limit;
        // To the end of a moment, since a time is where the next page begins.
        while more && found[limit - 1..].iter().all(|entry| entry.at == found[limit - 1].at) {
            (filter.before, filter.limit) = (found.last().map(|entry| entry.id), PAGE_MAX);
            let next = self.store.ledger(filter.clone()).await?;
            more = next.len() == PAGE_MAX;
            found.extend(next);
        }
        if let Some(last) = found.get(limit - 1).map(|entry| entry.at) {
            let end = found.iter().rposition(|entry| entry.at == last).map_or(limit, |place| place + 1);
            more = more || found.len() > end;
            found.truncate(end);
        }
        let items = self.told(merchant, wallet, found).await?;
        let last = items.last().filter(|_| more);
        Ok(Transactions { next_before: last.map(|item| item.created_at), next_cursor: last.map(|item| item.id.clone()), items })
    }

    /// Movements as the platform tells them.
    async fn told(&self, merchant: Id, wallet: Option<Wallet>, entries: Vec<Entry>) -> Result<Vec<Transaction>, LoyaltyError> {
        let world = self.world();
        let mut names = std::collections::HashMap::new();
        names.extend(wallet.map(|wallet| (wallet.id, wallet.customer)));
        let mut seen = std::collections::HashMap::new();
        let mut items = Vec::with_capacity(entries.len());
        for entry in entries {
            let customer = match names.get(&entry.wallet) {
                Some(known) => String::clone(known),
                None => {
                    let who = Some(uzel_store::Who::Id(entry.wallet));
                    let found = self.store.loyalty(LoyaltyLook { who, ..LoyaltyLook::new(merchant, entry.at) }).await?.wallet;
                    let found = found.map_or_else(|| entry.wallet.to_string(), |wallet| wallet.customer);
                    names.insert(entry.wallet, found.clone());
                    found
                }
            };
            if let Some(outlet) = entry.outlet.filter(|outlet| !seen.contains_key(outlet)) {
                seen.insert(outlet, self.outlet_seen_at(merchant, outlet).await?);
            }
            let outlet = entry.outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, _, outlet)| outlet);
            items.push(Transaction {
                id: entry.id.to_string(),
                kind: entry.kind,
                amount: entry.effect(Book::Spendable) + entry.effect(Book::Promised),
                order_id: entry.order,
                customer_id: customer,
                created_at: entry.at,
                outlet_id: entry.outlet.map(|outlet| outlet.to_string()),
                outlet_pos_type: outlet.map(|outlet| outlet.pos_type.clone()),
                outlet_last_seen_at: entry.outlet.and_then(|outlet| seen.get(&outlet).copied().flatten()),
                staff_id: entry.staff,
            });
        }
        Ok(items)
    }

    /// When an outlet's till was last heard of: as somebody said, or when it last moved points.
    pub async fn outlet_seen_at(&self, merchant: Id, outlet: Id) -> Result<Option<Timestamp>, uzel_store::StoreError> {
        let said = self.world().outlets.get(&outlet).and_then(|(_, _, outlet)| outlet.pos_seen_at);
        let filter = LedgerFilter { merchant: Some(merchant), outlet: Some(outlet), limit: 1, ..LedgerFilter::default() };
        let moved = self.store.ledger(filter).await?.first().map(|entry| entry.at);
        Ok(said.max(moved))
    }

    /// A customer's wallet.
    async fn wallet(&self, merchant: Id, customer: &str) -> Result<Wallet, LoyaltyError> {
        let world = self.world();
        world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        let who = who(&world, merchant, customer)?;
        let look = LoyaltyLook { who: Some(who), ..LoyaltyLook::new(merchant, self.clock.now()) };
        self.store.loyalty(look).await?.wallet.ok_or(LoyaltyError::WalletNotFound)
    }

    /// Holds every wallet against the ledger.
    pub async fn audit_loyalty(&self, merchant: Option<Id>) -> Result<LoyaltyAudit, LoyaltyError> {
        let mut all = LoyaltyAudit::default();
        loop {
            let portion = self.store.audit_loyalty(merchant, all.next, AUDITED_MAX).await?;
            all.wallets += portion.wallets;
            all.entries += portion.entries;
            all.findings.extend(portion.findings);
            all.next = portion.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
    }
}
