//! Money left at providers. Of each provider the connection with the least is shown, so that labels stay few.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use uzel_model::Id;

use super::ProviderLabel;

#[derive(Debug, Default)]
pub(super) struct Balances {
    lowest: Family<ProviderLabel, Gauge<f64, AtomicU64>>,
    of_links: Arc<Mutex<HashMap<Id, (&'static str, f64)>>>,
}

impl Balances {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Money left at a provider, in the account's currency: of its connections the one with the least";
        registry.register("uzel_balance_lowest", help, self.lowest.clone());
    }

    pub(super) fn set(&self, provider: &'static str, link: Id, told: &str) {
        let Ok(left) = told.trim().parse::<f64>() else { return };
        let mut of_links = self.of_links.lock();
        of_links.insert(link, (provider, left));
        let own = of_links.values().filter(|(of, _)| *of == provider).map(|(_, left)| *left);
        self.lowest.get_or_create(&ProviderLabel { provider }).set(own.fold(f64::INFINITY, f64::min));
    }
}
