//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, one writer thread with group commit, a few readers.
//!
//! Whatever is waiting when the writer is free is written in one transaction and one fsync; nothing waits for a timer.
//! Work already handed to the writer is written even when its caller has gone.

mod fsck;
mod journal;
mod setup;
mod timeline;
mod work;

use std::{
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::{Notify, mpsc, oneshot};
use uzel_model::{Event, Id, Timestamp, id::Kind};

use crate::{
    Applied, Change, Command, Counts, Entry, Exchange, Health, JournalFilter, JournalRow, Notice, Setup, Store, StoreError,
    Timeline,
};

/// What may wait for the writer; above it callers are told to come back.
const WAITING_MAX: usize = 8_192;
/// What one transaction may hold.
const GROUP_MAX: usize = 1_024;
const READERS: usize = 4;

type Work = Box<dyn FnMut(&Connection) -> Result<(), StoreError> + Send>;

/// A piece of work, and how to tell its caller that the transaction it was part of has ended.
struct Task {
    work: Work,
    /// It brings entries to be read: the reader is woken, whether or not the caller is still there.
    appends: bool,
    ended: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// The embedded store.
pub struct Sqlite {
    tasks: Mutex<Option<mpsc::Sender<Task>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    appended: Arc<Notify>,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    path: std::path::PathBuf,
}

impl Readers {
    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path, false)?,
        };
        let answer = query(&connection).map_err(failed);
        let mut idle = self.idle.lock();
        if idle.len() < READERS {
            idle.push(connection);
        }
        answer
    }
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

fn open(path: &Path, writes: bool) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(128);
    let pragmas = if writes {
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;"
    } else {
        "PRAGMA query_only=ON; PRAGMA cache_size=-2048;"
    };
    connection.execute_batch(pragmas).map_err(failed)?;
    Ok(connection)
}

impl Sqlite {
    /// Opens or makes the database file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = open(path, true)?;
        migrate(&connection)?;
        let (tasks, waiting) = mpsc::channel(WAITING_MAX);
        let appended = Arc::new(Notify::new());
        let writer = thread::Builder::new()
            .name("journal".to_owned())
            .spawn({
                let appended = appended.clone();
                move || write_groups(&connection, waiting, &appended)
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        let readers = Readers { idle: Mutex::new(Vec::new()), path: path.to_owned() };
        Ok(Self { tasks: Mutex::new(Some(tasks)), writer: Mutex::new(Some(writer)), readers: Arc::new(readers), appended })
    }

    /// Hands work to the writer and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        appends: bool,
        mut work: impl FnMut(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (tell, told) = oneshot::channel();
        let outcome = Arc::new(Mutex::new(None));
        let kept = outcome.clone();
        let task = Task {
            appends,
            work: Box::new(move |connection| {
                *kept.lock() = Some(work(connection)?);
                Ok(())
            }),
            ended: Box::new(move |result| {
                // A caller that has gone does not need to be told.
                drop(tell.send(result));
            }),
        };
        let tasks = self.tasks.lock().clone().ok_or_else(|| StoreError::Failed("the store is closed".to_owned()))?;
        tasks.try_send(task).map_err(|_| StoreError::Busy)?;
        told.await.map_err(|_| StoreError::Failed("the writer has ended".to_owned()))??;
        let done = outcome.lock().take();
        done.ok_or_else(|| StoreError::Failed("the writer left no outcome".to_owned()))
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = self.readers.clone();
        tokio::task::spawn_blocking(move || readers.read(query)).await.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

fn migrate(connection: &Connection) -> Result<(), StoreError> {
    const STEPS: [&str; 1] = [include_str!("schema.sql")];
    let done: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let done = done as usize;
    if done > STEPS.len() {
        return Err(StoreError::Failed(format!(
            "the database is of version {done}, newer than this program's {}: use the newer program",
            STEPS.len()
        )));
    }
    for (place, step) in STEPS.iter().enumerate().skip(done) {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version={}; COMMIT;", place + 1))
            .map_err(failed)?;
    }
    Ok(())
}

fn write_groups(connection: &Connection, mut waiting: mpsc::Receiver<Task>, appended: &Notify) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while let Some(first) = waiting.blocking_recv() {
        group.push(first);
        while group.len() < GROUP_MAX {
            match waiting.try_recv() {
                Ok(task) => group.push(task),
                Err(_) => break,
            }
        }
        let appends = group.iter().any(|task| task.appends);
        match commit(connection, &mut group) {
            Ok(()) => group.drain(..).for_each(|task| (task.ended)(Ok(()))),
            // One piece of work that cannot be done must not take the others with it.
            Err(_) => {
                for mut task in group.drain(..) {
                    let result = commit(connection, std::slice::from_mut(&mut task));
                    (task.ended)(result);
                }
            }
        }
        if appends {
            appended.notify_one();
        }
    }
}

fn commit(connection: &Connection, group: &mut [Task]) -> Result<(), StoreError> {
    connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([])).map_err(failed)?;
    let result = group
        .iter_mut()
        .try_for_each(|task| (task.work)(connection))
        .and_then(|()| connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).map_err(failed));
    if let Err(error) = result {
        if !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK").map_err(failed)?;
        }
        return Err(error);
    }
    Ok(())
}

/// Milliseconds since 1970.
fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

fn time(column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millisecond(row.get(column)?).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn id(kind: Kind, column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<Id> {
    Ok(Id::from_bytes(kind, row.get(column)?))
}

fn maybe_id(kind: Kind, column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Id>> {
    Ok(row.get::<_, Option<[u8; 16]>>(column)?.map(|bytes| Id::from_bytes(kind, bytes)))
}

/// A text column that holds JSON of ours.
fn doc<T: serde::de::DeserializeOwned>(column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

#[async_trait]
impl Store for Sqlite {
    fn appended(&self) -> Arc<Notify> {
        self.appended.clone()
    }

    async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        self.write(true, move |connection| journal::insert(connection, &entry).map_err(failed)).await
    }

    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.read(move |connection| journal::unread(connection, limit)).await
    }

    async fn entry(&self, entry: Id) -> Result<Option<Entry>, StoreError> {
        self.read(move |connection| journal::entry(connection, entry)).await
    }

    async fn apply(&self, change: Change) -> Result<Applied, StoreError> {
        self.write(!change.entries.is_empty(), move |connection| work::apply(connection, &change)).await
    }

    async fn lease(
        &self,
        now: Timestamp,
        shares: Vec<(Id, usize)>,
        limit: usize,
        lease_ms: i64,
    ) -> Result<Vec<Command>, StoreError> {
        self.write(false, move |connection| work::lease(connection, now, &shares, limit, lease_ms).map_err(failed)).await
    }

    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        self.write(false, move |connection| work::recover(connection, now).map_err(failed)).await
    }

    async fn next_due(&self, connections: Vec<Id>) -> Result<Option<Timestamp>, StoreError> {
        self.read(move |db| work::next_due(db, &connections)).await
    }

    async fn event(&self, event: Id) -> Result<Option<Event>, StoreError> {
        self.read(move |connection| journal::event(connection, event)).await
    }

    async fn put_consent(&self, merchant: Id, phone: &str, granted: bool, proof: &str, at: Timestamp) -> Result<(), StoreError> {
        let (phone, proof) = (phone.to_owned(), proof.to_owned());
        self.write(false, move |connection| setup::put_consent(connection, merchant, &phone, granted, &proof, at).map_err(failed))
            .await
    }

    async fn setup(&self) -> Result<Setup, StoreError> {
        self.read(setup::load).await
    }

    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        self.write(false, move |connection| setup::put(connection, &setup).map_err(failed)).await
    }

    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |db| setup::one(db, "SELECT sealed FROM session WHERE connection = ?1", connection)).await
    }

    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.write(false, move |db| setup::put_session(db, connection, &sealed).map_err(failed)).await
    }

    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError> {
        self.read(move |db| setup::one(db, "SELECT value FROM cursor WHERE connection = ?1", connection)).await
    }

    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.read(move |db| work::undelivered(db, connection, after, before, limit)).await
    }

    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
        self.read(move |connection| journal::list(connection, &filter)).await
    }

    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError> {
        self.read(move |connection| timeline::of(connection, id)).await
    }

    async fn exchange(&self, id: Id) -> Result<Option<Exchange>, StoreError> {
        self.read(move |connection| timeline::exchange(connection, id)).await
    }

    async fn dead(
        &self,
        provider: Option<String>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<Id>, StoreError> {
        self.read(move |connection| journal::dead(connection, provider.as_deref(), from, to)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(journal::counts).await
    }

    async fn health(&self) -> Result<Health, StoreError> {
        self.read(journal::health).await
    }

    async fn notices(&self, limit: usize) -> Result<Vec<Notice>, StoreError> {
        self.read(move |connection| setup::notices(connection, limit)).await
    }

    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        self.write(false, move |connection| fsck::check(connection, repair).map_err(failed)).await
    }

    async fn close(&self) {
        self.tasks.lock().take();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && tokio::task::spawn_blocking(move || writer.join()).await.is_err()
        {
            tracing::error!("the journal's writer ended badly");
        }
    }
}
