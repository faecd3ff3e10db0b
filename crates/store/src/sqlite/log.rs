//! The write-ahead log: a thread of its own carries it over to the database file, so that the writer need not stop for it.
//!
//! The log has to begin anew from time to time, in the same file: a sync of what is written over something is quick, while one of a
//! file that grows waits for the file system's own journal (on ext4 0.1 ms against 12 ms in every tenth). SQLite begins it anew when
//! all of it is carried over and nobody reads from it, which under load never is by itself. So when little is left to carry over
//! the thread holds the writer up for that.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, Result};

use super::{failed, open, spawn};
use crate::StoreError;

/// After so many pages the log is carried over: pages that are written often go once for many times, and the disk is not
/// busy with them for long. What the writer syncs meanwhile waits for the disk: with 1,024 the slowest of a hundred commits
/// of points took twice as long.
const PORTION: u32 = 256;
/// With so many pages (16 MiB) the log begins anew as soon as that takes no time.
const PAGES: u32 = 4_096;
/// So many may be left to carry over while the writer waits: 2 or 3 ms.
const LAST_PAGES: u32 = 64;
/// With so many the writer waits whatever is left: it is faster than the disk.
const PAGES_MAX: u32 = 16_384;
/// How long the writer may be held up since somebody still reads from the log.
const READERS_PATIENCE: Duration = Duration::from_millis(10);

/// What the writer and the thread that carries its log over share.
#[derive(Default)]
pub(super) struct Log {
    pages: AtomicU32,
    writing: Mutex<()>,
}

impl Log {
    /// Starts the thread, which ends with this writer's connection.
    pub(super) fn start(path: &Path, writer: &mut Connection) -> std::result::Result<Arc<Self>, StoreError> {
        let db = open(path, true)?;
        db.busy_timeout(READERS_PATIENCE).map_err(failed)?;
        let log = Arc::new(Self::default());
        let (grown, told) = sync_channel(1);
        writer.wal_hook(Some(log.clone().watch(grown))).map_err(failed)?;
        let shared = log.clone();
        spawn("checkpoint", move || {
            while told.recv().is_ok() {
                if let Err(error) = shared.carry_over(&db) {
                    tracing::warn!("the log cannot be carried over to the database file now: {error}");
                }
            }
        })?;
        Ok(log)
    }

    /// What is written is written while this is held.
    pub(super) fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock()
    }

    /// After each commit: how many pages the log has by now.
    fn watch(self: Arc<Self>, grown: SyncSender<()>) -> impl FnMut(&mut rusqlite::hooks::Wal, i32) -> Result<()> + Send {
        let mut told_at = 0;
        move |_, pages| {
            let pages = pages.unsigned_abs();
            self.pages.store(pages, Ordering::Relaxed);
            // Fewer than before: it has begun anew.
            told_at = told_at.min(pages);
            if pages - told_at >= PORTION {
                told_at = pages;
                // It is told already, or at work.
                grown.try_send(()).unwrap_or_default();
            }
            Ok(())
        }
    }

    fn carry_over(&self, db: &Connection) -> Result<()> {
        let mut before = None;
        loop {
            let carried = checkpoint(db, "PASSIVE")?;
            let pages = self.pages.load(Ordering::Relaxed);
            // Somebody reads what the log held long ago: nothing newer may be carried over yet.
            let is_kept = before.replace(carried) == Some(carried);
            if pages < PAGES || is_kept {
                return Ok(());
            }
            if pages.saturating_sub(carried) <= LAST_PAGES || pages >= PAGES_MAX {
                let _pause = self.writing();
                checkpoint(db, "RESTART")?;
                return Ok(());
            }
        }
    }
}

/// How many pages of the log stand in the database file now.
fn checkpoint(db: &Connection, mode: &str) -> Result<u32> {
    db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, i64>(2)).map(|carried| carried.max(0) as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

    use super::*;

    /// Writes without a pause until the log begins anew; how many pages it had.
    fn write_until_anew(writer: &Connection, log: &Log) -> u32 {
        let mut longest = 0;
        for _ in 0..2_000 {
            let _writing = log.writing();
            writer.execute("INSERT INTO filled VALUES (zeroblob(262144))", []).unwrap();
            let pages = log.pages.load(Ordering::Relaxed);
            if pages < longest {
                return longest;
            }
            longest = pages;
        }
        panic!("the log has {longest} pages and does not begin anew");
    }

    #[test]
    fn the_log_begins_anew_while_it_is_written_all_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uzel.db");
        let mut writer = open(&path, true).unwrap();
        let log = Log::start(&path, &mut writer).unwrap();
        writer.execute_batch("CREATE TABLE filled (bytes BLOB)").unwrap();
        assert!(write_until_anew(&writer, &log) > 0);
        assert!(write_until_anew(&writer, &log) > 0);

        // Whoever looks at an old state keeps it from that, and holds nobody up.
        let reader = open(&path, false).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM filled").unwrap();
        for _ in 0..2 * PAGES / 64 {
            let _writing = log.writing();
            writer.execute("INSERT INTO filled VALUES (zeroblob(262144))", []).unwrap();
        }
        assert!(log.pages.load(Ordering::Relaxed) > PAGES);
        reader.execute_batch("COMMIT").unwrap();
        assert!(write_until_anew(&writer, &log) > PAGES);
    }
}
