//! Circuit breakers: a provider that is not there is not called over and over, but tried now and then by one call.
//!
//! That a breaker has opened, and that it closed, is kept in the store: people see it, and a start while the provider is down
//! begins with one try, not with a burst.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use uzel_model::{CallError, Id, Timestamp};
use uzel_store::{OpenBreaker, StoreError};

use crate::{Engine, Link};

/// This many failures in a row open the breaker.
const FAILURES_MAX: u32 = 5;

/// How a connection has fared lately.
#[derive(Default)]
struct Breaker {
    failures: u32,
    /// No call begins before this; after it one at a time, until one succeeds.
    paused_until: Option<Instant>,
    open: Option<OpenBreaker>,
    /// That it is open stands in the store, so that other nodes know of it, and may tell that it has closed.
    kept: bool,
}

#[derive(Default)]
pub(crate) struct Breakers {
    by_link: Mutex<HashMap<Id, Breaker>>,
    /// Held while one is written, so that what is written last is what stands.
    keeping: tokio::sync::Mutex<()>,
}

impl Breakers {
    /// Those that stood open when the hub last stopped: the first call has to show whether the provider is back.
    pub(crate) fn load(&self, open: Vec<(Id, OpenBreaker)>) {
        let loaded = open
            .into_iter()
            .map(|(link, open)| (link, Breaker { failures: FAILURES_MAX, paused_until: None, open: Some(open), kept: true }));
        self.by_link.lock().extend(loaded);
    }

    /// What stands open in the store, on whichever node it opened: what closed elsewhere closes here.
    pub(crate) fn take_over(&self, open: Vec<(Id, OpenBreaker)>) {
        let mut breakers = self.by_link.lock();
        breakers.retain(|link, breaker| breaker.open.is_none() || !breaker.kept || open.iter().any(|(known, _)| known == link));
        for (link, open) in open {
            let breaker = breakers.entry(link).or_default();
            if breaker.open.is_some() {
                breaker.kept = true;
            } else {
                *breaker = Breaker { failures: FAILURES_MAX, paused_until: None, open: Some(open), kept: true };
            }
        }
    }

    /// How many calls of this connection may begin: none while its breaker pauses, one to try whether it is back.
    pub(crate) fn allowance(&self, link: Id, under_way: usize) -> usize {
        match self.by_link.lock().get(&link) {
            Some(Breaker { paused_until: Some(until), .. }) if Instant::now() < *until => 0,
            Some(Breaker { open: Some(_), .. }) => 1_usize.saturating_sub(under_way),
            _ => usize::MAX,
        }
    }

    /// Whether the breaker opened or closed by this. Only what says that the provider is not there counts.
    fn count(&self, link: &Link, error: Option<&CallError>, now: Timestamp) -> bool {
        let mut breakers = self.by_link.lock();
        let breaker = breakers.entry(link.id).or_default();
        match error {
            // Calls that were under way when it opened say nothing new.
            Some(_) if breaker.paused_until.is_some_and(|until| Instant::now() < until) => false,
            Some(error @ (CallError::Unreachable(_) | CallError::Lost(_))) => {
                breaker.failures += 1;
                if breaker.failures < FAILURES_MAX {
                    return false;
                }
                let pause = Duration::from_millis(250 << (breaker.failures - FAILURES_MAX).min(7));
                breaker.paused_until = Some(Instant::now() + pause);
                let opens = breaker.open.is_none();
                // As exactly as the store keeps it.
                let since = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
                breaker.open.get_or_insert_with(|| OpenBreaker { since, reason: link.without_secrets(&error.to_string()) });
                opens
            }
            _ => std::mem::take(breaker).open.is_some(),
        }
    }

    fn kept(&self, link: Id, opened: bool) {
        if let Some(breaker) = self.by_link.lock().get_mut(&link) {
            breaker.kept = opened;
        }
    }

    fn open(&self, link: Id) -> Option<OpenBreaker> {
        self.by_link.lock().get(&link)?.open.clone()
    }
}

/// Tells the breaker how a call ended, and keeps it when it opens or closes.
pub(crate) async fn note(engine: &Engine, link: &Link, error: Option<&CallError>) {
    let breakers = &engine.outward.breakers;
    if !breakers.count(link, error, engine.clock.now()) {
        return;
    }
    let _keeping = breakers.keeping.lock().await;
    let open = breakers.open(link.id);
    match &open {
        Some(open) => tracing::warn!(connection.id = %link.id, "calls fail and are made one at a time: {}", open.reason),
        None => tracing::info!(connection.id = %link.id, "calls succeed again"),
    }
    let opened = open.is_some();
    match engine.store.put_breaker(link.id, open).await {
        Ok(()) => breakers.kept(link.id, opened),
        Err(error) => tracing::warn!(connection.id = %link.id, "the state of a breaker cannot be kept: {error}"),
    }
}

impl Engine {
    /// Forgets how it fared: a person says that it is well again.
    pub(crate) async fn close_breaker(&self, link: Id) -> Result<(), StoreError> {
        let breakers = &self.outward.breakers;
        let _keeping = breakers.keeping.lock().await;
        breakers.by_link.lock().remove(&link);
        self.store.put_breaker(link, None).await
    }

    /// Since when and why calls of a connection fail, while they do.
    pub fn open_breaker(&self, link: Id) -> Option<OpenBreaker> {
        self.outward.breakers.open(link)
    }
}
