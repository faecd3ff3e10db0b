//! What the loyalty desk is asked and what endpoints are told of it, by the names of the points platform.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use uzel_model::event::kind;

use super::{Metrics, ResultLabel};
use crate::loyalty::LoyaltyError;

/// What an endpoint is told of, and what became of it.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EventLabel {
    r#type: &'static str,
    result: &'static str,
}

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
    events: Family<EventLabel, Counter>,
    pending: Gauge,
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
        registry.register("loyalty_outbox_events", "Tries at webhooks of loyalty events by type and result", self.events.clone());
        registry.register(
            "loyalty_outbox_pending",
            "Webhooks of loyalty events that wait or are being sent",
            self.pending.clone(),
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

    /// Counts a try at telling an endpoint of a loyalty event of this kind.
    pub(crate) fn told_loyalty(&self, event: &str, outcome: &str) {
        let (counter, result) = match outcome {
            "ok" => (&self.loyalty.sent, "sent"),
            "dead" => (&self.loyalty.dead, "dead"),
            _ => (&self.loyalty.failed, "failed"),
        };
        counter.inc();
        let r#type = kind::ALL.iter().copied().find(|known| *known == event).unwrap_or("other");
        self.loyalty.events.get_or_create(&EventLabel { r#type, result }).inc();
    }

    /// Shows how many such webhooks wait.
    pub(crate) fn loyalty_waits(&self, webhooks: u64) {
        self.loyalty.pending.set(webhooks as i64);
    }
}
