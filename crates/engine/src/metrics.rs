//! Figures for Prometheus. Labels come from closed sets: providers, endpoints and outcomes that the code names.

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ProviderLabel {
    pub provider: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct EndpointLabel {
    pub provider: &'static str,
    pub endpoint: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabel {
    pub provider: &'static str,
    pub endpoint: &'static str,
    pub result: &'static str,
}

/// All that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// The seeds' names.
    pub requests: Family<RequestLabel, Counter>,
    pub errors: Family<EndpointLabel, Counter>,
    pub webhooks: Family<ProviderLabel, Counter>,
    /// Ours.
    pub events: Family<ProviderLabel, Counter>,
    pub attempts: Family<RequestLabel, Counter>,
    pub attempt_seconds: Family<ProviderLabel, Histogram>,
    pub oldest_waiting_seconds: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            errors: Family::default(),
            webhooks: Family::default(),
            events: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Family::new_with_constructor(|| Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 30.0])),
            oldest_waiting_seconds: Gauge::default(),
        };
        let registry = &mut metrics.registry;
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
        metrics
    }
}

impl Metrics {
    /// Counts a request and how it ended.
    pub fn request(&self, provider: &'static str, endpoint: &'static str, result: &'static str) {
        self.requests.get_or_create(&RequestLabel { provider, endpoint, result }).inc();
        if result != "ok" {
            self.errors.get_or_create(&EndpointLabel { provider, endpoint }).inc();
        }
    }

    /// The OpenMetrics page.
    pub fn page(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a text takes what is written to it");
        page
    }
}
