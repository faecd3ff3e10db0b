//! Requests by what they are for and how they ended, and how long webhooks took to be accepted.

use std::{array, collections::HashSet, sync::Arc, time::Duration};

use parking_lot::RwLock;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet},
    metrics::{MetricType, counter::Counter, family::Family},
    registry::Registry,
};
use uzel_store::Spread;

use super::lanes::encode;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Webhook,
    Api,
    /// A login in a browser.
    Login,
    /// Health, readiness and metrics.
    Watch,
    Other,
}

const ROUTES: [&str; 5] = ["webhook", "api", "login", "watch", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Route {
    pub fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/metrics" => Self::Watch,
            _ if path.starts_with("/api/webhook/") || path.starts_with("/hooks/") => Self::Webhook,
            _ if path.starts_with("/api/v1/") => Self::Api,
            _ if path.starts_with("/oauth/") => Self::Login,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    route: &'static str,
    status: &'static str,
}

/// An answer by the names of the points platform of the requirement.
#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AnswerLabel {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

/// Methods that are told apart; whatever else a client makes up is `OTHER`.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Every counter is there from the start: counting is one addition.
#[derive(Debug)]
pub struct Http {
    answers: Family<AnswerLabel, Counter>,
    /// The patterns of routes that were answered: as many as there are routes.
    patterns: RwLock<HashSet<Arc<str>>>,
    family: Family<Label, Counter>,
    requests: [[Counter; STATUSES.len()]; ROUTES.len()],
    accepting: Arc<Accepting>,
}

/// How long webhooks took, from the whole request to the answer.
#[derive(Debug)]
struct Accepting(Spread);

impl Default for Http {
    fn default() -> Self {
        let family: Family<Label, Counter> = Family::default();
        let requests = array::from_fn(|route| {
            array::from_fn(|status| family.get_or_create(&Label { route: ROUTES[route], status: STATUSES[status] }).clone())
        });
        let steps = &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
        let accepting = Arc::new(Accepting(Spread::new(steps)));
        Self { answers: Family::default(), patterns: RwLock::default(), family, requests, accepting }
    }
}

impl Http {
    pub fn answered(&self, route: Route, status: u16) {
        let class = usize::from(status / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[route as usize][class].inc();
    }

    /// Counts an answer by its route's pattern, such as `/loyalty/quote`; `None`: no route serves the path.
    pub fn answered_at(&self, method: &str, pattern: Option<&str>, status: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("OTHER");
        let pattern = pattern.unwrap_or("unknown");
        let known = self.patterns.read().get(pattern).cloned();
        let route = known.unwrap_or_else(|| {
            let new: Arc<str> = pattern.into();
            self.patterns.write().insert(new.clone());
            new
        });
        self.answers.get_or_create(&AnswerLabel { method, route, status }).inc();
    }

    /// A webhook was journalled and is about to be answered.
    pub fn accepted(&self, took: Duration) {
        self.accepting.0.add(took.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Answers by method, route and status", self.answers.clone());
        registry.register("uzel_http_requests", "Requests by what they are for and how they ended", self.family.clone());
        registry.register_collector(Box::new(self.accepting.clone()));
    }
}

impl Collector for Accepting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "How long webhooks took to be proved and journalled";
        let page = encoder.encode_descriptor("uzel_accept_duration_seconds", help, None, MetricType::Histogram)?;
        EncodeMetric::encode(&Shown(&self.0), page)
    }
}

struct Shown<'a>(&'a Spread);

impl EncodeMetric for Shown<'_> {
    fn encode(&self, mut encoder: prometheus_client::encoding::MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encode::<NoLabelSet>(self.0, &mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_what_a_request_is_for() {
        let paths = ["/api/webhook/iiko", "/hooks/con_1/x", "/api/v1/journal", "/oauth/amocrm/start", "/readyz", "/robots.txt"];
        let routes = paths.map(|path| ROUTES[Route::of(path) as usize]);
        assert_eq!(routes, ["webhook", "webhook", "api", "login", "watch", "other"]);
    }
}
