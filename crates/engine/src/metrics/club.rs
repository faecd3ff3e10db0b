//! Outside loyalty programmes: how tills' questions end, and what was given while a programme did not answer.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Label {
    provider: &'static str,
    result: &'static str,
}

#[derive(Debug, Default)]
pub(crate) struct Clubs {
    asked: Family<Label, Counter>,
    offline_minor: Family<Label, Counter>,
}

impl Clubs {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("uzel_loyalty_outside_asked", "Tills' questions to outside programmes", self.asked.clone());
        registry.register(
            "uzel_loyalty_offline_minor",
            "Minor units taken off while a programme did not answer: given, settled later, and lost",
            self.offline_minor.clone(),
        );
    }

    pub(crate) fn asked(&self, provider: &'static str, result: &'static str) {
        self.asked.get_or_create(&Label { provider, result }).inc();
    }

    pub(crate) fn offline(&self, provider: &'static str, result: &'static str, minor: i64) {
        self.offline_minor.get_or_create(&Label { provider, result }).inc_by(minor.unsigned_abs());
    }
}
