//! The embedded store, filled by its own code in one transaction without a log.

use std::path::Path;

use rusqlite::Connection;

use super::{failed, journal, open, outbox, tally::Tally, work};
use crate::{Change, StoreError, generate::Past, ready::EntryRow};

/// In MiB: hashes of ten million events, and what is being put in order.
const CACHE: i64 = 1_024;

/// Fills one database file.
pub(crate) struct Generator {
    db: Connection,
    tally: Tally,
    leases: i64,
}

impl Generator {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let db = open(path, true)?;
        db.execute_batch(&format!(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-{}; BEGIN IMMEDIATE;",
            CACHE * 1_024
        ))
        .map_err(failed)?;
        Ok(Self { db, tally: Tally::default(), leases: 0 })
    }

    pub(crate) fn write(&mut self, pasts: Vec<Past>) -> Result<(), StoreError> {
        for past in pasts {
            let reading = past.reading();
            journal::insert(&self.db, &EntryRow::from(past.entry), &mut self.tally).map_err(failed)?;
            work::apply(&self.db, &reading.into(), None, &mut self.tally)?;
            if let Some(text) = past.text {
                self.leases += 1;
                outbox::mark_sending(&self.db, text.command.id, self.leases, 0).map_err(failed)?;
                let mut settlement = text.settlement;
                settlement.lease = self.leases;
                let end = Change { settlement: Some(settlement), ..Change::default() };
                work::apply(&self.db, &end.into(), None, &mut self.tally)?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), StoreError> {
        self.tally.write(&self.db).map_err(failed)?;
        // The switch to a log syncs the file.
        self.db.execute_batch("COMMIT; PRAGMA synchronous=FULL; PRAGMA locking_mode=NORMAL;").map_err(failed)?;
        self.db.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).map_err(failed)?;
        self.db.close().map_err(|(_, error)| failed(error))
    }
}
