//! The writer: one thread that commits whatever is waiting, in groups, with one fsync each.
//!
//! Work waits in two lanes. What somebody waits for (an entry to be answered, a call to be settled) goes first; readings
//! of entries fill up what room is left, a portion in every group, so that neither lane can starve the other. Nothing waits
//! for a timer.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc::SyncSender},
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    failed,
    fresh::Fresh,
    journal::{self, EntryRow},
    tally::Tally,
    work::{self, Ready},
};
use crate::{Applied, StoreError};

/// What may wait for the writer; above it callers are told to come back.
const WAITING_MAX: usize = 8_192;
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Tasks that one transaction may hold.
const GROUP_MAX: usize = 1_024;

/// After so many groups the log is carried over to the database file.
const CHECKPOINT_GROUPS: u64 = 128;

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

    fn run(&mut self, db: &Connection, tally: &mut Tally) -> Result<Outcome, StoreError> {
        match self {
            Self::Append { row, .. } => journal::insert(db, row, tally).map_err(failed).map(|()| Outcome::Done),
            Self::Apply { changes, .. } => {
                let applied = changes.iter().map(|change| apply(db, change, tally)).collect::<Result<_, _>>()?;
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
                changes.into_iter().flat_map(|ready| ready.entries).for_each(|row| fresh.push(row.entry));
                drop(ended.send(applied));
            }
            (Self::Other { ended, .. }, _) => drop(ended.send(Ok(()))),
            (Self::Apply { .. }, Outcome::Done) => {}
        }
    }

    /// One piece of work that cannot be done must not take the others with it: each is tried in a transaction of its own.
    fn alone(mut self, db: &Connection, fresh: &Fresh) {
        match &mut self {
            Self::Apply { changes, .. } => {
                let applied: Vec<_> =
                    changes.iter().map(|change| commit(db, |tally| apply(db, change, tally)).unwrap_or_else(Err)).collect();
                self.end(Outcome::Applied(applied), fresh);
            }
            Self::Append { .. } | Self::Other { .. } => match (commit(db, |tally| self.run(db, tally)), self) {
                (Ok(outcome), task) => task.end(outcome, fresh),
                (Err(error), Self::Append { ended, .. } | Self::Other { ended, .. }) => drop(ended.send(Err(error))),
                (Err(_), Self::Apply { .. }) => {}
            },
        }
    }
}

/// A conflict is the answer to one change; a failure ends the transaction.
fn apply(db: &Connection, change: &Ready, tally: &mut Tally) -> Result<Result<Applied, StoreError>, StoreError> {
    match work::apply(db, change, tally) {
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
    closed: bool,
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
            return Err(StoreError::Failed("the store is closed".to_owned()));
        }
        if lane(&mut lanes).len() >= WAITING_MAX || lanes.bytes > WAITING_BYTES_MAX {
            return Err(StoreError::Busy);
        }
        lanes.bytes += task.bytes();
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

    /// Waits for work; `None` when there will be no more.
    fn next(&self) -> Option<Vec<Task>> {
        let mut lanes = self.lanes.lock();
        while lanes.first.is_empty() && lanes.later.is_empty() {
            if lanes.closed {
                return None;
            }
            self.filled.wait(&mut lanes);
        }
        let count = lanes.first.len().min(GROUP_MAX);
        let mut group: Vec<Task> = lanes.first.drain(..count).collect();
        // A reading is many changes already: one of them beside what is urgent.
        let readings = lanes.later.len().min(if group.is_empty() { 8 } else { 1 });
        group.extend(lanes.later.drain(..readings));
        lanes.bytes -= group.iter().map(Task::bytes).sum::<usize>();
        Some(group)
    }
}

/// Writes until the queue is closed and empty. Tells every so many groups that the log has grown.
pub(super) fn run(db: &Connection, queue: &Arc<Queue>, fresh: &Fresh, full: &SyncSender<()>) {
    let mut groups = 0_u64;
    while let Some(mut group) = queue.next() {
        groups += 1;
        if groups.is_multiple_of(CHECKPOINT_GROUPS) {
            // It is told already, or at work.
            full.try_send(()).unwrap_or_default();
        }
        let outcomes = commit(db, |tally| group.iter_mut().map(|task| task.run(db, tally)).collect::<Result<Vec<_>, _>>());
        match outcomes {
            Ok(outcomes) => group.into_iter().zip(outcomes).for_each(|(task, outcome)| task.end(outcome, fresh)),
            Err(_) => group.into_iter().for_each(|task| task.alone(db, fresh)),
        }
        fresh.wake();
    }
}

/// One transaction: all of the work, or nothing.
fn commit<T>(db: &Connection, work: impl FnOnce(&mut Tally) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let mut tally = Tally::default();
    db.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(failed)?;
    let result = work(&mut tally).and_then(|outcome| {
        tally.write(db).map_err(failed)?;
        db.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(failed)?;
        Ok(outcome)
    });
    if result.is_err() && !db.is_autocommit() {
        db.execute_batch("ROLLBACK").map_err(failed)?;
    }
    result
}
