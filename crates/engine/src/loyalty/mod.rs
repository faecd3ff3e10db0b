//! The loyalty desk: quotes, commits, refunds, customers, the ledger of points.
//!
//! Its heart is pure ([`decide`]): what stands, what is asked and the moment give what is written and answered. Around it the engine
//! reads what stands, and commits rows, journal and answer in one change; where another till was faster it reads and decides again.
//!
//! The server verifies keys, signatures and customers' codes before it asks: [`crate::World::programme_of`] has the keys of the codes,
//! [`crate::World::bridge_secrets`] those of the outlets.

mod ask;
pub mod club;
pub mod club_jobs;
mod error;
pub(crate) mod programme;

use std::{sync::Arc, time::Duration};

pub use ask::{
    AdjustAsk, Adjusted, Balance, Cancelled, CommitAsk, Committed, CustomerAsk, CustomerPatch, CustomerView, EarnQuote,
    ImportReport, ImportRow, LoyaltyAnswer, LoyaltyAsk, NewCustomer, QuoteAsk, RedeemQuote, RefundAsk, Refunded, Transaction,
    Transactions, TransactionsAsk,
};
pub use error::LoyaltyError;
pub use programme::{
    Club, Limit, Limits, LoyaltyProgramme, Offline, ProgrammeRule, PromoCode, PromoLimit, PromoStatus, QrKey, QrKeyDoc, Referral,
};
use uzel_model::Id;
use uzel_store::{LoyaltyAudit, WalletFilter};

use crate::Engine;

impl Engine {
    /// What a purchase may spend or would earn. At the deadline, or with a store that does not answer, the answer is "no points
    /// now", without a hold: the sale goes on.
    pub async fn loyalty_quote(
        self: &Arc<Self>,
        _ask: LoyaltyAsk,
        _quote: QuoteAsk,
        _deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Moves what a quote holds.
    pub async fn loyalty_commit(
        self: &Arc<Self>,
        _ask: LoyaltyAsk,
        _commit: CommitAsk,
        _deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Lets a hold go.
    pub async fn loyalty_cancel(
        self: &Arc<Self>,
        _ask: LoyaltyAsk,
        _hold: String,
        _deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Gives back and takes away what a part of an order's receipt moved.
    pub async fn loyalty_refund(
        self: &Arc<Self>,
        _ask: LoyaltyAsk,
        _refund: RefundAsk,
        _deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Gives or takes points, by a person with a reason: audited under [`LoyaltyAsk::by`].
    pub async fn loyalty_adjust(self: &Arc<Self>, _ask: LoyaltyAsk, _adjust: AdjustAsk) -> Result<LoyaltyAnswer, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// A customer's points. `customer` as in [`CustomerAsk::Plain`].
    pub async fn loyalty_balance(&self, _merchant: Id, _customer: &str) -> Result<Balance, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    pub async fn loyalty_transactions(&self, _merchant: Id, _ask: TransactionsAsk) -> Result<Transactions, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    pub async fn create_customer(
        self: &Arc<Self>,
        _merchant: Id,
        _new: NewCustomer,
        _by: &str,
    ) -> Result<CustomerView, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    pub async fn change_customer(
        self: &Arc<Self>,
        _merchant: Id,
        _customer: &str,
        _patch: CustomerPatch,
        _by: &str,
    ) -> Result<CustomerView, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    pub async fn customer(&self, _merchant: Id, _customer: &str) -> Result<CustomerView, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// In the order of their ids.
    pub async fn customers(&self, _filter: WalletFilter) -> Result<Vec<CustomerView>, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Takes customers and their points from elsewhere. A line that was taken is taken once, however often it comes; with `dry` it is
    /// only said what would be done.
    pub async fn import_customers(
        self: &Arc<Self>,
        _merchant: Id,
        _rows: Vec<ImportRow>,
        _dry: bool,
        _by: &str,
    ) -> Result<ImportReport, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }

    /// Holds every wallet against the ledger, portion by portion.
    pub async fn audit_loyalty(&self, _merchant: Option<Id>) -> Result<LoyaltyAudit, LoyaltyError> {
        Err(LoyaltyError::NoProgramme)
    }
}
