//! Reading events as they come, for whoever waits for them.

use std::time::Duration;

use tokio::time::Instant;
use uzel_model::Id;
use uzel_store::{Cancelled, FeedFrom, FeedPage, StoreError};

use crate::Engine;

/// What has been committed on a shared store is told only when all that began before it has ended: looked for again this soon,
/// and more and more seldom while nothing comes.
const AGAIN_FIRST: Duration = Duration::from_millis(20);
const AGAIN_LAST: Duration = Duration::from_secs(5);

impl Engine {
    /// The next events of the feed; where there are none, those that come within `wait`.
    pub async fn next_events(
        &self,
        merchant: Option<Id>,
        kinds: &[String],
        mut from: FeedFrom,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        let deadline = Instant::now() + wait;
        let mut told = self.store.told();
        let mut pause = AGAIN_FIRST;
        loop {
            told.mark_unchanged();
            let page = self.store.feed(merchant, kinds.to_vec(), from, limit).await?;
            if !page.events.is_empty() || Instant::now() >= deadline || self.stop.is_cancelled() {
                return Ok(page);
            }
            from = FeedFrom::After(page.cursor);
            if page.more {
                continue;
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                // Its end would be the store's, which the next look tells.
                _ = told.changed() => pause = AGAIN_FIRST,
                () = tokio::time::sleep_until(deadline.min(Instant::now() + pause)) => pause = (pause * 2).min(AGAIN_LAST),
            }
        }
    }

    /// Holds a command back for this reason, if it still waits.
    pub async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
        let cancelled = self.store.cancel(command, reason).await?;
        // The next of its key may be due, and the event of a look-up is whole now.
        self.due.notify_one();
        self.told.notify_one();
        Ok(cancelled)
    }
}
