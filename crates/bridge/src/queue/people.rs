//! The queue as people see it, and what they may do to it.

use serde_json::{Value, json};

use super::{Entry, Queue, when};
use crate::{journal::JournalError, record::Line};

/// The id under which a damaged file stands in the list.
pub(crate) const DAMAGE_ID: &str = "damage";

#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub waiting: usize,
    pub person: usize,
    pub oldest_s: i64,
    pub max: usize,
    pub bytes: u64,
    pub broken: Option<String>,
}

/// Why a person's wish was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WishError {
    #[error("no call in the queue is called {0}")]
    Unknown(String),
    #[error("{0} waits for the line, not for a person: it is tried again by itself")]
    Waits(String),
    #[error("{0} is done at the hub: there is nothing to try again, only to drop")]
    Settled(String),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl Queue {
    /// A person wants a call tried again, under the same key.
    pub(crate) fn again(&mut self, id: &str) -> Result<(), WishError> {
        self.wished(id, true)?;
        Ok(self.write(Line::Again { id: id.to_owned() })?)
    }

    /// A person lets a call go.
    pub(crate) fn let_go(&mut self, id: &str) -> Result<(), WishError> {
        if id == DAMAGE_ID && self.damage.is_some() {
            return Ok(self.write(Line::Acknowledged)?);
        }
        self.wished(id, false)?;
        Ok(self.write(Line::Dropped { id: id.to_owned() })?)
    }

    fn wished(&mut self, id: &str, again: bool) -> Result<(), WishError> {
        match self.entry(id).map(|entry| &entry.trouble) {
            None => Err(WishError::Unknown(id.to_owned())),
            Some(None) => Err(WishError::Waits(id.to_owned())),
            Some(Some(trouble)) if again && trouble.settled => Err(WishError::Settled(id.to_owned())),
            Some(Some(_)) => Ok(()),
        }
    }

    /// Ids of what waits for a person and can be tried again.
    pub(crate) fn retriable(&self) -> Vec<String> {
        let wants = |entry: &&Entry| entry.trouble.as_ref().is_some_and(|trouble| !trouble.settled);
        self.entries.values().filter(wants).map(|entry| entry.kept.id.clone()).collect()
    }

    pub(crate) fn counts(&self, now_ms: i64) -> Counts {
        let waiting = self.entries.values().filter(|entry| entry.trouble.is_none());
        Counts {
            waiting: waiting.clone().count(),
            person: self.entries.values().filter(|entry| entry.trouble.is_some()).count() + usize::from(self.damage.is_some()),
            oldest_s: waiting.map(|entry| (now_ms - entry.kept.at_ms).max(0) / 1000).max().unwrap_or_default(),
            max: self.max,
            bytes: self.journal.bytes(),
            broken: self.journal.broken().map(str::to_owned),
        }
    }

    /// The calls as people see them: no buyer, no key, no body.
    pub(crate) fn list(&self) -> Vec<Value> {
        let damage = self.damage.iter().map(|(bytes, kept)| {
            json!({
                "id": DAMAGE_ID, "state": "person",
                "reason": format!("{bytes} bytes of the queue cannot be read; the file as it was is kept as {kept}"),
            })
        });
        let calls = self.in_order().map(|(entry, is_free)| {
            let trouble = entry.trouble.as_ref();
            let reason = trouble.map(|trouble| &trouble.reason).or(entry.last.as_ref()).unwrap_or(&entry.kept.reason);
            json!({
                "id": entry.kept.id,
                "state": if trouble.is_some() { "person" } else { "waiting" },
                "call": entry.kept.call.name(),
                "orderId": entry.kept.order,
                "since": when(entry.kept.at_ms),
                "tries": entry.tries,
                "status": trouble.and_then(|trouble| trouble.status),
                "settled": trouble.is_some_and(|trouble| trouble.settled),
                "soldOffline": entry.kept.quote.is_some(),
                "behind": trouble.is_none() && !is_free,
                "reason": reason,
            })
        });
        damage.chain(calls).collect()
    }
}
