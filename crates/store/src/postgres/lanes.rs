//! The lanes of what is to be written: entries, ends of calls, readings. Each commits what waits in it in groups: what comes
//! while one group is written is the next. Nothing waits for a timer, and a caller may be gone by the end.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tokio_postgres::error::SqlState;

use super::{Core, failed, journal, looks, loyalty, work};
use crate::{
    Applied, Change, Entry, Lane, StoreError,
    ready::{EntryRow, Ready},
};

/// Connections of the lanes, and of those who look at points.
pub(super) const CONNECTIONS: usize = 3 + looks::AT_ONCE;
/// Connections for leases and single rows.
pub(super) const WRITERS: usize = 4;
/// What runs in lanes is planned once, and goes by indexes however small a table was then. Else the server plans anew for each
/// group whose values let it leave something out, and that takes longer than the work.
pub(super) const SESSION: &str = "SET application_name = 'uzel lanes'; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off;";

/// What may wait in a lane; above it callers are told to come back.
const WAITING_MAX: usize = 8_192;
const WAITING_BYTES_MAX: usize = 64 << 20;
const ENTRIES_MAX: usize = 512;
/// Changes that one transaction may hold: few enough that its locks are held shortly.
const CHANGES_MAX: usize = 128;
/// Tries of a group that others stood in the way of.
const TRIES: usize = 4;

struct Append {
    row: EntryRow,
    ended: oneshot::Sender<Result<(), StoreError>>,
}

struct Apply {
    changes: Vec<Ready>,
    ended: oneshot::Sender<Vec<Result<Applied, StoreError>>>,
}

/// What waits in a lane.
pub(super) struct Queue<T> {
    state: Mutex<Waiting<T>>,
    filled: Notify,
}

struct Waiting<T> {
    tasks: VecDeque<T>,
    bytes: usize,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = Waiting { tasks: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), filled: Notify::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&self, task: T, bytes: usize) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(closed());
        }
        if state.tasks.len() >= WAITING_MAX || state.bytes > WAITING_BYTES_MAX {
            return Err(StoreError::Busy);
        }
        state.bytes += bytes;
        state.tasks.push_back(task);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// What is waiting is still done.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for work; `None` when there will be no more. `size` says how much of the group's room a task takes.
    pub(super) async fn next(&self, room: usize, size: impl Fn(&T) -> (usize, usize)) -> Option<Vec<T>> {
        loop {
            {
                let mut state = self.state.lock();
                let mut group = Vec::new();
                let mut taken = 0;
                while let Some(task) = state.tasks.front() {
                    let (changes, bytes) = size(task);
                    if taken > 0 && taken + changes > room {
                        break;
                    }
                    taken += changes;
                    state.bytes = state.bytes.saturating_sub(bytes);
                    group.extend(state.tasks.pop_front());
                }
                if !group.is_empty() {
                    return Some(group);
                }
                if state.closed {
                    // Others may wait at the same queue.
                    self.filled.notify_one();
                    return None;
                }
            }
            self.filled.notified().await;
        }
    }
}

fn closed() -> StoreError {
    StoreError::Failed("the store is closed".to_owned())
}

pub(super) struct Lanes {
    entries: Arc<Queue<Append>>,
    /// What somebody waits for: ends of calls, polls, replays.
    first: Arc<Queue<Apply>>,
    /// Readings of entries.
    later: Arc<Queue<Apply>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Lanes {
    pub(super) fn start(core: &Arc<Core>) -> Self {
        let lanes = Self { entries: Arc::default(), first: Arc::default(), later: Arc::default(), running: Mutex::default() };
        lanes.running.lock().extend([
            tokio::spawn(append(core.clone(), lanes.entries.clone())),
            tokio::spawn(apply(core.clone(), lanes.first.clone(), CALLS)),
            tokio::spawn(apply(core.clone(), lanes.later.clone(), READINGS)),
        ]);
        lanes
    }

    pub(super) async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        let (ended, told) = oneshot::channel();
        let row = EntryRow::from(entry);
        let bytes = row.bytes();
        self.entries.push(Append { row, ended }, bytes)?;
        told.await.map_err(|_| closed())?
    }

    pub(super) async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>> {
        let count = changes.len();
        let reads = changes.iter().all(|change| change.mark.as_ref().is_some_and(|mark| !mark.again));
        let (ended, told) = oneshot::channel();
        let task = Apply { changes: changes.into_iter().map(Into::into).collect(), ended };
        let lane = if reads { &self.later } else { &self.first };
        match lane.push(task, 0) {
            Ok(()) => told.await.unwrap_or_else(|_| vec![Err(closed()); count]),
            Err(error) => vec![Err(error); count],
        }
    }

    /// Waits until all that was handed over is written.
    pub(super) async fn close(&self) {
        self.entries.close();
        self.first.close();
        self.later.close();
        let running = std::mem::take(&mut *self.running.lock());
        for lane in running {
            if lane.await.is_err() {
                tracing::error!("a lane of the journal ended badly");
            }
        }
    }
}

/// The lanes by their shards of the counts; leases count in one of their own.
const ENTRIES: i32 = 0;
const CALLS: i32 = 1;
const READINGS: i32 = 2;
pub(super) const LEASES: i32 = 3;

/// A shard of the counts for each lane, shared only with few lanes of other nodes.
pub(super) fn shard(core: &Core, lane: i32) -> i32 {
    (core.node.as_u128() & 0xf) as i32 * 4 + lane
}

async fn append(core: Arc<Core>, queue: Arc<Queue<Append>>) {
    while let Some(group) = queue.next(ENTRIES_MAX, |task| (1, task.row.bytes())).await {
        let (rows, waiting): (Vec<EntryRow>, Vec<_>) = group.into_iter().map(|task| (task.row, task.ended)).unzip();
        let began = Instant::now();
        let appended = append_all(&core, &rows).await;
        core.stats.group(Lane::Entries, rows.len(), began.elapsed(), appended.is_ok());
        match appended {
            Ok(held) => {
                hand_over(&core, rows, held);
                waiting.into_iter().for_each(|ended| drop(ended.send(Ok(()))));
            }
            // One that cannot be written must not take the others with it.
            Err(error) if error.is_rows_fault() && rows.len() > 1 => {
                for (row, ended) in rows.into_iter().zip(waiting) {
                    let outcome = append_all(&core, std::slice::from_ref(&row)).await;
                    let outcome = outcome.map(|held| hand_over(&core, vec![row], held));
                    drop(ended.send(outcome.map_err(Into::into)));
                }
            }
            Err(error) => {
                let error = StoreError::from(error);
                waiting.into_iter().for_each(|ended| drop(ended.send(Err(error.clone()))));
            }
        }
    }
}

/// Commits entries in one statement; says whether they are marked as this node's to read.
async fn append_all(core: &Core, rows: &[EntryRow]) -> Result<bool, Fault> {
    let bytes = rows.iter().map(|row| row.entry.request.body.len()).sum();
    let held = core.handover.has_room(rows.len(), bytes);
    let client = core.lane().await?;
    let refs: Vec<&EntryRow> = rows.iter().collect();
    journal::append(&client, &refs, held.then_some(core.options.reading_lease), shard(core, ENTRIES)).await?;
    Ok(held)
}

/// What has been committed goes to this node's reader, or is left for whoever has time.
fn hand_over(core: &Core, rows: Vec<EntryRow>, held: bool) {
    if held {
        let entries = rows.into_iter().map(|row| row.entry);
        core.handover.push(entries.filter(|entry| entry.source != crate::Source::Question));
    } else {
        core.handover.left_some();
    }
}

/// Why a group was not committed.
pub(super) enum Fault {
    Database(tokio_postgres::Error),
    Store(StoreError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) if loyalty::is_taken(&error) => Self::Conflict,
            Fault::Database(error) => failed(error),
            Fault::Store(error) => error,
        }
    }
}

impl Fault {
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            Self::Store(_) => None,
        }
    }

    /// Another transaction stood in the way: the same again may succeed.
    fn is_passing(&self) -> bool {
        // Of statements sent together one may tell of the failure of another: the next try tells what it was.
        let passing = [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::IN_FAILED_SQL_TRANSACTION,
        ];
        self.code().is_some_and(|code| passing.contains(code))
    }

    /// The server refused what a row holds (classes 22 and 23), so that others may pass without it.
    pub(super) fn is_rows_fault(&self) -> bool {
        self.code().is_some_and(|code| code.code().starts_with("22") || code.code().starts_with("23"))
            || matches!(self, Self::Database(error) if error.code().is_none() && !error.is_closed())
    }
}

async fn apply(core: Arc<Core>, queue: Arc<Queue<Apply>>, lane: i32) {
    while let Some(group) = queue.next(CHANGES_MAX, |task| (task.changes.len(), 0)).await {
        let changes: Vec<&Ready> = group.iter().flat_map(|task| &task.changes).collect();
        let mut outcomes = Vec::with_capacity(changes.len());
        for run in runs(&changes) {
            outcomes.extend(apply_run(&core, run, lane).await);
        }
        drop(changes);
        let mut outcomes = outcomes.into_iter();
        for task in group {
            let own = outcomes.by_ref().take(task.changes.len()).collect();
            drop(task.ended.send(own));
        }
    }
}

/// Cuts changes, in their order, into groups that can be committed together: some must stand alone, and no two of a group may
/// write the same points.
fn runs<'a, 'b>(changes: &'b [&'a Ready]) -> Vec<&'b [&'a Ready]> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut points = HashSet::new();
    for (place, change) in changes.iter().enumerate() {
        let keys: Vec<[u8; 16]> = change.change.loyalty.iter().flat_map(|points| points.keys()).collect();
        if keys.iter().any(|key| points.contains(key)) {
            runs.push(&changes[start..place]);
            start = place;
            points.clear();
        }
        points.extend(keys);
        if work::stands_alone(change) {
            runs.push(&changes[start..place]);
            runs.push(&changes[place..=place]);
            start = place + 1;
        } else if place + 1 - start == CHANGES_MAX {
            runs.push(&changes[start..=place]);
            start = place + 1;
        }
    }
    runs.push(&changes[start..]);
    runs.retain(|run| !run.is_empty());
    runs
}

async fn apply_run(core: &Core, run: &[&Ready], lane: i32) -> Vec<Result<Applied, StoreError>> {
    let fault = match try_run(core, run, lane).await {
        Ok(outcomes) => return outcomes,
        Err(fault) => fault,
    };
    if fault.is_rows_fault() && run.len() > 1 {
        let mut outcomes = Vec::with_capacity(run.len());
        for change in run {
            let outcome = try_run(core, &[*change], lane).await;
            outcomes.push(outcome.map_err(StoreError::from).and_then(|mut outcomes| outcomes.pop().unwrap_or(Err(closed()))));
        }
        return outcomes;
    }
    let error = StoreError::from(fault);
    run.iter().map(|_| Err(error.clone())).collect()
}

/// Whether to try again what others stood in the way of.
pub(super) fn again<T>(ended: &Result<T, Fault>, tries: &mut usize) -> bool {
    *tries += 1;
    matches!(ended, Err(fault) if fault.is_passing()) && *tries < TRIES
}

async fn try_run(core: &Core, run: &[&Ready], lane: i32) -> Result<Vec<Result<Applied, StoreError>>, Fault> {
    let mut tries = 0;
    loop {
        let began = Instant::now();
        let ended = work::commit(core, run, shard(core, lane)).await;
        let of = if lane == READINGS { Lane::Readings } else { Lane::Calls };
        core.stats.group(of, run.len(), began.elapsed(), ended.is_ok());
        if !again(&ended, &mut tries) {
            return ended;
        }
    }
}
