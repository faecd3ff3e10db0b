//! When keys were used last: gathered, and written once a minute. What a power cut takes of it is no loss.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;
use uzel_engine::Engine;

const WRITES_APART: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Used(Mutex<HashMap<String, Timestamp>>);

impl Used {
    pub(crate) fn note(&self, key: &str, now: Timestamp) {
        let mut used = self.0.lock();
        match used.get_mut(key) {
            Some(at) => *at = now,
            None => drop(used.insert(key.to_owned(), now)),
        }
    }

    /// Writes until the hub stops, and once more then.
    pub(crate) async fn write(self: Arc<Self>, engine: Arc<Engine>, mut stopped: watch::Receiver<bool>) {
        loop {
            let over = tokio::time::timeout(WRITES_APART, stopped.wait_for(|stop| *stop)).await.is_ok();
            let used: Vec<_> = std::mem::take(&mut *self.0.lock()).into_iter().collect();
            if !used.is_empty()
                && let Err(error) = engine.store.touch_keys(used).await
            {
                tracing::debug!("when keys were used cannot be written: {error}");
            }
            if over {
                return;
            }
        }
    }
}
