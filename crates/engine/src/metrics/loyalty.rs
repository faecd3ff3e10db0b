//! What the loyalty desk is asked and what endpoints are told of it, by the names of the points platform.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Metrics, ResultLabel};
use crate::loyalty::LoyaltyError;

/// Questions and their outcomes.
#[derive(Debug, Default)]
pub(super) struct Loyalty {
    quotes: Family<ResultLabel, Counter>,
    commits: Family<ResultLabel, Counter>,
    refunds: Family<ResultLabel, Counter>,
    sent: Counter,
    failed: Counter,
    dead: Counter,
    swept: Counter,
}

impl Loyalty {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("loyalty_quote_requests", "Quotes by result", self.quotes.clone());
        registry.register("loyalty_commit_requests", "Commits by result", self.commits.clone());
        registry.register("loyalty_refund_requests", "Refunds by result", self.refunds.clone());
        registry.register("loyalty_outbox_sent", "Webhooks of loyalty events that were taken", self.sent.clone());
        registry.register("loyalty_outbox_failed", "Tries at webhooks of loyalty events that failed", self.failed.clone());
        registry.register("loyalty_outbox_dead", "Webhooks of loyalty events that were given up", self.dead.clone());
        registry.register(
            "uzel_loyalty_swept",
            "Wallets in which points became spendable, expired or were held no longer",
            self.swept.clone(),
        );
    }
}

impl Metrics {
    /// Counts a question to the loyalty desk: `quote`, `commit` or `refund`.
    pub(crate) fn loyalty(&self, question: &str, error: Option<&LoyaltyError>) {
        let result = ResultLabel { result: if error.is_some() { "error" } else { "ok" } };
        let family = match question {
            "quote" => &self.loyalty.quotes,
            "commit" => &self.loyalty.commits,
            _ => &self.loyalty.refunds,
        };
        family.get_or_create(&result).inc();
    }

    /// Counts wallets to which time has done something.
    pub(crate) fn swept(&self, wallets: u64) {
        self.loyalty.swept.inc_by(wallets);
    }

    /// Counts a try at telling an endpoint of a loyalty event.
    pub(crate) fn told_loyalty(&self, outcome: &str) {
        match outcome {
            "ok" => self.loyalty.sent.inc(),
            "dead" => self.loyalty.dead.inc(),
            _ => self.loyalty.failed.inc(),
        };
    }
}
