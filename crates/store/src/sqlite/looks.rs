//! Looks at points, of which there may be thousands a second: one thread with a connection of its own answers all that waits in
//! one transaction, so that a look costs little more than its rows.

use std::{
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{failed, loyalty, open, spawn};
use crate::{LoyaltyLook, LoyaltySeen, StoreError};

/// Looks that may wait; above it callers are told to come back.
const WAITING_MAX: usize = 8_192;
/// Looks that one transaction answers.
const GROUP_MAX: usize = 256;

struct Ask {
    look: Box<LoyaltyLook>,
    told: oneshot::Sender<Result<LoyaltySeen, StoreError>>,
}

/// The way to the thread, which ends with it.
pub(super) struct Looks(SyncSender<Ask>);

impl Looks {
    pub(super) fn start(path: PathBuf) -> Result<Self, StoreError> {
        let (asks, waiting) = sync_channel(WAITING_MAX);
        let db = open(&path, false)?;
        spawn("looks", move || run(&db, &waiting))?;
        Ok(Self(asks))
    }

    pub(super) async fn look(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        let (told, answer) = oneshot::channel();
        let gone = || StoreError::Failed("nobody looks at points any more".to_owned());
        match self.0.try_send(Ask { look: Box::new(look), told }) {
            Ok(()) => answer.await.map_err(|_| gone())?,
            Err(TrySendError::Full(_)) => Err(StoreError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(gone()),
        }
    }
}

fn run(db: &Connection, waiting: &Receiver<Ask>) {
    while let Ok(first) = waiting.recv() {
        // Whoever has gone need not be answered.
        let asks = std::iter::once(first).chain(waiting.try_iter().take(GROUP_MAX - 1)).filter(|ask| !ask.told.is_closed());
        let asks: Vec<Ask> = asks.collect();
        // All of a look is of one moment; those that come together may share it.
        let began = db.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([])).map_err(failed);
        for Ask { look, told } in asks {
            let seen = began.clone().and_then(|_| loyalty::look(db, &look).map_err(failed));
            drop(told.send(seen));
        }
        if let Err(error) = db.prepare_cached("COMMIT").and_then(|mut end| end.execute([])) {
            tracing::warn!("a transaction that only looked did not end: {error}");
        }
    }
}
