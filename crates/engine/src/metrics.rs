//! Figures for Prometheus. Labels come from closed sets: providers, endpoints and outcomes that the code names.
//!
//! What stands on the road in takes no lock that anything waits for, and allocates nothing.

mod balance;
mod club;
mod http;
mod lanes;
mod loyalty;
mod process;

use std::{
    fmt::Write,
    sync::{Arc, atomic::AtomicU64},
};

pub use http::Route;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use uzel_model::Id;
use uzel_store::{CommandState, Counts, EntryState, Stats};

/// A gauge of fractions: seconds.
type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProviderLabel {
    pub provider: &'static str,
}

/// A provider as the requirement's figures name it: in capitals.
#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
struct Capitals(&'static str);

impl EncodeLabelValue for Capitals {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.chars().try_for_each(|sign| encoder.write_char(sign.to_ascii_uppercase()))
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TillLabel {
    provider: Capitals,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TillEndpointLabel {
    provider: Capitals,
    endpoint: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TillRequestLabel {
    provider: Capitals,
    endpoint: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabel {
    pub provider: &'static str,
    pub endpoint: &'static str,
    pub result: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct StateLabel {
    pub(crate) state: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The seeds' names.
    requests: Family<TillRequestLabel, Counter>,
    errors: Family<TillEndpointLabel, Counter>,
    webhooks: Family<TillLabel, Counter>,
    /// Ours.
    pub events: Family<ProviderLabel, Counter>,
    pub attempts: Family<RequestLabel, Counter>,
    pub attempt_seconds: Family<ProviderLabel, Histogram>,
    pub oldest_waiting_seconds: Gauge,
    pub breakers_open: Family<ProviderLabel, Gauge>,
    balances: balance::Balances,
    pub(crate) clubs: club::Clubs,
    pub http: http::Http,
    loyalty: loyalty::Loyalty,
    /// The last question to the store was answered.
    pub store_up: Gauge,
    pub store_size_bytes: Gauge,
    pub nodes: Gauge,
    /// The machine's clock beside the store's.
    pub clock_offset_seconds: Seconds,
    pub unpublished_events: Gauge,
    pub oldest_unpublished_seconds: Seconds,
    /// Whether the NATS server answers.
    pub nats_up: Gauge,
    taken_back: [Counter; 2],
    entries: Family<StateLabel, Gauge>,
    commands: Family<StateLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let taken_back: Family<ResultLabel, Counter> = Family::default();
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            errors: Family::default(),
            webhooks: Family::default(),
            events: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(|| Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0])),
            oldest_waiting_seconds: Gauge::default(),
            breakers_open: Family::default(),
            balances: balance::Balances::default(),
            clubs: club::Clubs::default(),
            http: http::Http::default(),
            loyalty: loyalty::Loyalty::default(),
            store_up: Gauge::default(),
            store_size_bytes: Gauge::default(),
            nodes: Gauge::default(),
            clock_offset_seconds: Gauge::default(),
            unpublished_events: Gauge::default(),
            oldest_unpublished_seconds: Gauge::default(),
            taken_back: ["again", "unknown"].map(|result| taken_back.get_or_create(&ResultLabel { result }).clone()),
            nats_up: Gauge::default(),
            entries: Family::default(),
            commands: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("uzel_build", "What runs here", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_collector(Box::new(process::Process::new()));
        metrics.http.register(registry);
        registry.register("uzel_store_up", "Whether the store answered when it was last asked", metrics.store_up.clone());
        registry.register("uzel_store_size_bytes", "What the store takes on disk", metrics.store_size_bytes.clone());
        registry.register("uzel_nodes", "Nodes that have been seen lately on this store", metrics.nodes.clone());
        registry.register(
            "uzel_clock_offset_seconds",
            "How far the machine's clock is ahead of the store's",
            metrics.clock_offset_seconds.clone(),
        );
        registry.register("uzel_unpublished_events", "Events that wait to be published", metrics.unpublished_events.clone());
        registry.register(
            "uzel_oldest_unpublished_seconds",
            "Since when the first of them waits",
            metrics.oldest_unpublished_seconds.clone(),
        );
        registry.register("uzel_leases_taken_back", "Commands whose node did not say how they ended", taken_back);
        registry.register("pos_requests", "Requests by provider, endpoint and result", metrics.requests.clone());
        registry.register("pos_errors", "Requests that ended in an error", metrics.errors.clone());
        registry.register("pos_webhooks", "Webhooks accepted", metrics.webhooks.clone());
        registry.register("uzel_events", "Events made of what came", metrics.events.clone());
        registry.register("uzel_attempts", "Calls to providers", metrics.attempts.clone());
        registry.register("uzel_attempt_duration_seconds", "How long calls to providers took", metrics.attempt_seconds.clone());
        registry.register(
            "uzel_oldest_waiting_seconds",
            "Age of the oldest entry that waits",
            metrics.oldest_waiting_seconds.clone(),
        );
        registry.register("uzel_breaker_open", "Connections whose calls fail", metrics.breakers_open.clone());
        metrics.balances.register(registry);
        metrics.clubs.register(registry);
        metrics.loyalty.register(registry);
        registry.register("uzel_nats_up", "Whether the NATS server takes events", metrics.nats_up.clone());
        registry.register("uzel_entries", "Entries of the inbox by state", metrics.entries.clone());
        registry.register("uzel_commands", "Commands of the outbox by state", metrics.commands.clone());
        metrics
    }
}

impl Metrics {
    /// Shows the money that was left at a provider.
    pub(crate) fn balance(&self, provider: &'static str, link: Id, told: &str) {
        self.balances.set(provider, link, told);
    }

    /// Counts a request and how it ended.
    pub fn request(&self, provider: &'static str, endpoint: &'static str, result: &'static str) {
        let provider = Capitals(provider);
        self.requests.get_or_create(&TillRequestLabel { provider, endpoint, result }).inc();
        if result != "ok" {
            self.errors.get_or_create(&TillEndpointLabel { provider, endpoint }).inc();
        }
    }

    /// Counts a webhook that was accepted.
    pub fn webhook(&self, provider: &'static str) {
        self.webhooks.get_or_create(&TillLabel { provider: Capitals(provider) }).inc();
    }

    /// From now on the page shows what the store counts.
    pub(crate) fn watch(&mut self, stats: Option<Arc<Stats>>) {
        if let Some(stats) = stats {
            self.registry.register_collector(Box::new(lanes::Lanes(stats)));
        }
    }

    /// Leases of nodes that are gone: calls to be made again, and calls of which nobody knows.
    pub fn took_back(&self, again: u64, unknown: u64) {
        for (counter, count) in self.taken_back.iter().zip([again, unknown]) {
            counter.inc_by(count);
        }
    }

    /// How many rows stand in which state; a state that nothing is in is shown as 0.
    pub fn stand(&self, counts: &Counts) {
        const ENTRIES: [(EntryState, &str); 4] = [
            (EntryState::Unread, "unread"),
            (EntryState::Read, "read"),
            (EntryState::Duplicate, "duplicate"),
            (EntryState::Dead, "dead"),
        ];
        const COMMANDS: [(CommandState, &str); 6] = [
            (CommandState::Waiting, "waiting"),
            (CommandState::Sending, "sending"),
            (CommandState::Done, "done"),
            (CommandState::Dead, "dead"),
            (CommandState::Unknown, "unknown"),
            (CommandState::Held, "held"),
        ];
        for (state, name) in ENTRIES {
            let count = counts.entries.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
            self.entries.get_or_create(&StateLabel { state: name }).set(count as i64);
        }
        for (state, name) in COMMANDS {
            let count = counts.commands.iter().find(|(known, _)| *known == state).map_or(0, |(_, count)| *count);
            self.commands.get_or_create(&StateLabel { state: name }).set(count as i64);
        }
    }

    /// The OpenMetrics page.
    pub fn page(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a text takes what is written to it");
        page
    }
}
