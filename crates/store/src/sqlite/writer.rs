//! The writer: one thread that commits whatever is waiting, in groups, with one fsync each.
//!
//! Work waits in two lanes. What somebody waits for (an entry to be answered, a call to be settled) goes first; readings
//! of entries fill up what room is left, a portion in every so many groups, so that neither lane can starve the other.
//! Nothing waits for a timer.
//!
//! A group of readings alone is not synced: should the power fail, its entries are unread again. Whatever is done upon what
//! was read begins with a lease, whose group is synced, and with it all that was written before.

use std::{cell::Cell, collections::VecDeque, sync::OnceLock, time::Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{failed, fresh::Fresh, journal, log::Log, tally::Tally, work};
use crate::{
    Applied, Lane, PhoneHash, Stats, StoreError,
    ready::{EntryRow, Ready},
};

/// What may wait for the writer; above it callers are told to come back. What brings no body (the end of a call, a renewed
/// login) still finds room when bodies do not.
const WAITING_MAX: usize = 8_192;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Tasks that one transaction may hold.
const GROUP_MAX: usize = 1_024;

/// With so many tasks in the first lane, a reading goes along only with every so many groups.
const CROWD: usize = 16;
const READING_EVERY: u32 = 3;
/// Readings that one transaction may hold when nothing else waits.
const READINGS_ALONE: usize = 8;

type Work = Box<dyn FnMut(&Connection, &mut Tally) -> Result<(), StoreError> + Send>;

/// A piece of work, and whom to tell when the transaction it was part of has ended. Callers may be gone by then.
pub(super) enum Task {
    Append { row: Box<EntryRow>, ended: oneshot::Sender<Result<(), StoreError>> },
    Apply { changes: Vec<Ready>, ended: oneshot::Sender<Vec<Result<Applied, StoreError>>> },
    Other { work: Work, ended: oneshot::Sender<Result<(), StoreError>> },
}

/// What a task came to, if its transaction commits.
enum Outcome {
    Done,
    Applied(Vec<Result<Applied, StoreError>>),
}

impl Task {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { row, .. } => row.bytes(),
            Self::Apply { .. } | Self::Other { .. } => 0,
        }
    }

    fn run(&mut self, db: &Connection, phones: Option<&PhoneHash>, tally: &mut Tally) -> Result<Outcome, StoreError> {
        match self {
            Self::Append { row, .. } => journal::insert(db, row, tally).map_err(failed).map(|()| Outcome::Done),
            Self::Apply { changes, .. } => {
                let applied = changes.iter().map(|change| apply(db, change, phones, tally)).collect::<Result<_, _>>()?;
                Ok(Outcome::Applied(applied))
            }
            Self::Other { work, .. } => work(db, tally).map(|()| Outcome::Done),
        }
    }

    /// What has been committed is handed to the reader, and the caller is told.
    fn end(self, outcome: Outcome, fresh: &Fresh) {
        match (self, outcome) {
            (Self::Append { row, ended }, _) => {
                fresh.push(row.entry);
                drop(ended.send(Ok(())));
            }
            (Self::Apply { changes, ended }, Outcome::Applied(applied)) => {
                if changes.iter().any(|ready| ready.change.may_tell()) {
                    fresh.events();
                }
                if applied.iter().flatten().any(|applied| applied.read_again > 0) {
                    fresh.on_disk();
                }
                // What a conflict brought is not on disk.
                let kept = changes.into_iter().zip(&applied).filter(|(_, applied)| applied.is_ok());
                kept.flat_map(|(ready, _)| ready.entries).for_each(|row| fresh.push(row.entry));
                drop(ended.send(applied));
            }
            (Self::Other { ended, .. }, _) => drop(ended.send(Ok(()))),
            (Self::Apply { .. }, Outcome::Done) => {}
        }
    }

    /// One piece of work that cannot be done must not take the others with it: each is tried in a transaction of its own.
    fn alone(mut self, commits: &Commits<'_>, fresh: &Fresh) {
        let (db, phones) = (commits.db, commits.phones.get());
        match &mut self {
            Self::Apply { changes, .. } => {
                let alone = |change| commits.commit(true, |tally| apply(db, change, phones, tally)).unwrap_or_else(Err);
                let applied: Vec<_> = changes.iter().map(alone).collect();
                self.end(Outcome::Applied(applied), fresh);
            }
            Self::Append { .. } | Self::Other { .. } => match (commits.commit(true, |tally| self.run(db, phones, tally)), self) {
                (Ok(outcome), task) => task.end(outcome, fresh),
                (Err(error), Self::Append { ended, .. } | Self::Other { ended, .. }) => drop(ended.send(Err(error))),
                (Err(_), Self::Apply { .. }) => {}
            },
        }
    }
}

/// A conflict is the answer to one change; a failure ends the transaction.
fn apply(
    db: &Connection,
    change: &Ready,
    phones: Option<&PhoneHash>,
    tally: &mut Tally,
) -> Result<Result<Applied, StoreError>, StoreError> {
    match work::apply(db, change, phones, tally) {
        Err(StoreError::Conflict) => Ok(Err(StoreError::Conflict)),
        Err(error) => Err(error),
        Ok(applied) => Ok(Ok(applied)),
    }
}

#[derive(Default)]
struct Lanes {
    first: VecDeque<Task>,
    later: VecDeque<Task>,
    bytes: usize,
    /// Groups since one had a reading in it.
    without_reading: u32,
    closed: bool,
}

/// What one transaction is to do.
struct Group {
    tasks: Vec<Task>,
    /// Somebody waits for it to be on disk.
    sync: bool,
}

/// The way to the writer.
#[derive(Default)]
pub(super) struct Queue {
    lanes: Mutex<Lanes>,
    filled: Condvar,
}

impl Queue {
    pub(super) fn first(&self, task: Task) -> Result<(), StoreError> {
        self.push(task, |lanes| &mut lanes.first)
    }

    pub(super) fn later(&self, task: Task) -> Result<(), StoreError> {
        self.push(task, |lanes| &mut lanes.later)
    }

    fn push(&self, task: Task, lane: impl Fn(&mut Lanes) -> &mut VecDeque<Task>) -> Result<(), StoreError> {
        let mut lanes = self.lanes.lock();
        if lanes.closed {
            return Err(closed());
        }
        let bytes = task.bytes();
        let full = match bytes {
            0 => lane(&mut lanes).len() >= 2 * WAITING_MAX,
            _ => lane(&mut lanes).len() >= WAITING_MAX || lanes.bytes > WAITING_BYTES_MAX,
        };
        if full {
            return Err(StoreError::Busy);
        }
        lanes.bytes += bytes;
        lane(&mut lanes).push_back(task);
        drop(lanes);
        self.filled.notify_one();
        Ok(())
    }

    /// What is waiting is still written.
    pub(super) fn close(&self) {
        self.lanes.lock().closed = true;
        self.filled.notify_one();
    }

    /// Whether work is still taken.
    pub(super) fn is_open(&self) -> Result<(), StoreError> {
        if self.lanes.lock().closed { Err(closed()) } else { Ok(()) }
    }

    /// Nobody will write any more: whoever waits is told so.
    fn abandon(&self) {
        let mut lanes = self.lanes.lock();
        lanes.closed = true;
        lanes.first.clear();
        lanes.later.clear();
    }

    /// Waits for work; `None` when there will be no more.
    fn next(&self) -> Option<Group> {
        let mut lanes = self.lanes.lock();
        while lanes.first.is_empty() && lanes.later.is_empty() {
            if lanes.closed {
                return None;
            }
            self.filled.wait(&mut lanes);
        }
        let crowded = lanes.first.len() >= CROWD;
        let count = lanes.first.len().min(GROUP_MAX);
        let mut tasks: Vec<Task> = lanes.first.drain(..count).collect();
        // A reading is many changes already.
        let room = match (tasks.is_empty(), crowded && lanes.without_reading < READING_EVERY) {
            (true, _) => READINGS_ALONE,
            (false, false) => 1,
            (false, true) => 0,
        };
        let readings = lanes.later.len().min(room);
        lanes.without_reading = if readings > 0 { 0 } else { lanes.without_reading + 1 };
        let sync = !tasks.is_empty();
        tasks.extend(lanes.later.drain(..readings));
        lanes.bytes -= tasks.iter().map(Task::bytes).sum::<usize>();
        Some(Group { tasks, sync })
    }
}

/// Writes until the queue is closed and empty.
pub(super) fn run(db: &Connection, queue: &Queue, fresh: &Fresh, log: &Log, stats: &Stats, phones: &OnceLock<PhoneHash>) {
    let _leaving = Leaving(queue);
    let commits = Commits { db, phones, log, synced: Cell::new(true), lost: Cell::new(false) };
    while let Some(Group { mut tasks, sync }) = queue.next() {
        let began = Instant::now();
        let outcomes = commits
            .commit(sync, |tally| tasks.iter_mut().map(|task| task.run(db, phones.get(), tally)).collect::<Result<Vec<_>, _>>());
        let lane = if sync { Lane::First } else { Lane::Readings };
        stats.group(lane, tasks.len(), began.elapsed(), outcomes.is_ok());
        match outcomes {
            Ok(outcomes) => tasks.into_iter().zip(outcomes).for_each(|(task, outcome)| task.end(outcome, fresh)),
            Err(_) if commits.lost.get() => {
                tracing::error!(
                    "the disk did not keep what it was given: nothing more is written until the hub is started again"
                );
                return;
            }
            Err(_) => tasks.into_iter().for_each(|task| task.alone(&commits, fresh)),
        }
        fresh.wake();
    }
}

/// However the writer ends, by a panic too, nobody waits for it afterwards.
struct Leaving<'a>(&'a Queue);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the store is closed".to_owned())
}

/// The database, and whether its commits wait for the disk.
struct Commits<'a> {
    db: &'a Connection,
    log: &'a Log,
    /// How phones are hashed of people who were erased.
    phones: &'a OnceLock<PhoneHash>,
    synced: Cell<bool>,
    /// The disk failed to sync. What it holds is then known to nobody, and a second try would seem to succeed.
    lost: Cell<bool>,
}

impl Commits<'_> {
    /// One transaction: all of the work, or nothing. With `sync` it is on disk when this returns.
    fn commit<T>(&self, sync: bool, work: impl FnOnce(&mut Tally) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let db = self.db;
        if sync != self.synced.get() {
            db.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" }).map_err(failed)?;
            self.synced.set(sync);
        }
        let mut tally = Tally::default();
        let _writing = self.log.writing();
        db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(failed)?;
        let result = work(&mut tally).and_then(|outcome| {
            tally.write(db).map_err(failed)?;
            db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(|error| {
                let code = error.sqlite_error().map(|error| error.extended_code);
                self.lost.set(self.lost.get() || code == Some(rusqlite::ffi::SQLITE_IOERR_FSYNC));
                failed(error)
            })?;
            Ok(outcome)
        });
        if result.is_err() && !db.is_autocommit() {
            db.execute_batch("ROLLBACK").map_err(failed)?;
        }
        result
    }
}
