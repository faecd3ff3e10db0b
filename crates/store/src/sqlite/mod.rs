//! The embedded store: SQLite in WAL mode with `synchronous=FULL`, one writer thread with group commit, a few readers.
//!
//! Work already handed to the writer is written even when its caller has gone.

mod answer;
mod audit;
mod bounce;
mod chain;
mod code;
mod commands;
mod consent;
pub(crate) mod copy;
mod erase;
mod events;
mod figures;
mod file;
mod fresh;
mod fsck;
mod generate;
mod heard;
mod journal;
mod ledger;
mod log;
mod looks;
mod lost;
mod loyalty;
mod notices;
mod outbox;
mod pages;
#[cfg(test)]
mod plans;
mod publication;
mod purge;
mod reference;
mod removal;
mod review;
mod sealed;
mod setup;
mod tally;
mod timeline;
mod told;
mod watch;
mod work;
mod writer;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
pub use file::Copied;
use fresh::{Fresh, Next};
pub(crate) use generate::Generator;
use log::Log;
use looks::Looks;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tally::Tally;
use tokio::sync::{Notify, Semaphore, broadcast, oneshot, watch as watched};
use uzel_model::{
    Event, Id, Timestamp,
    id::Kind,
    loyalty::{self as points, Wallet},
};
use writer::{Queue, Task};

use crate::{
    About, Applied, Audit, AuditFilter, Begun, Cancelled, Change, CodeLimit, CodeTry, CommandFilter, CommandState, Consent,
    Contact, Counts, Entry, Erased, ErasurePlace, EventFilter, Exchange, FeedFrom, FeedPage, Figures, FiguresOf, Health,
    JournalFilter, JournalRow, KeptAnswer, Leased, LedgerFilter, LoyaltyAudit, LoyaltyLook, LoyaltySeen, Message, NewCode, News,
    Notice, Once, OpenBreaker, OptOut, PhoneHash, PointsFigures, PointsOf, Refusal, Rekeying, Review, ReviewCount, ReviewFilter,
    Rhythm, Sealed, Setup, SetupVersion, ShortLink, Spent, Stats, Store, StoreError, StoredEvent, Timeline, TimelineCommand,
    Untold, WalletFilter,
};

/// Connections that are kept for queries, and queries at a time; more wait.
const READERS: usize = 4;
const QUERIES_MAX: usize = 8;

/// The embedded store.
pub struct Sqlite {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Arc<Readers>,
    looks: Looks,
    fresh: Arc<Fresh>,
    stats: Arc<Stats>,
    /// Nobody else works on the file: nothing is ever told.
    news: broadcast::Sender<News>,
    purged: Mutex<purge::Places>,
    phones: Arc<OnceLock<PhoneHash>>,
}

/// Leaves its answer where whoever asks looks for it: what runs it is the same for all.
type Query = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

struct Readers {
    idle: Mutex<Vec<Connection>>,
    room: Semaphore,
    path: std::path::PathBuf,
}

impl Readers {
    fn read(&self, query: Query) -> Result<(), StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open(&self.path, false)?,
        };
        // One transaction: what a query of several statements sees belongs together.
        let done = connection.unchecked_transaction().and_then(|snapshot| {
            query(&snapshot)?;
            snapshot.finish()
        });
        let mut idle = self.idle.lock();
        if idle.len() < READERS {
            idle.push(connection);
        }
        done.map_err(failed)
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
    // Else a statement with `LIMIT ?` is compiled anew whenever it is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(failed)?;
    let pragmas = if writes {
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=16000; PRAGMA cache_size=-16384;"
    } else {
        "PRAGMA query_only=ON; PRAGMA cache_size=-2048;"
    };
    connection.execute_batch(pragmas).map_err(failed)?;
    Ok(connection)
}

impl Sqlite {
    /// Opens or makes the database file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut connection = open(path, true)?;
        migrate(&connection)?;
        copy::refuse_unfinished(&connection)?;
        start_ids_after(&connection).map_err(failed)?;
        outbox::end_leases(&connection).map_err(failed)?;
        let (queue, fresh, stats) = (Arc::new(Queue::default()), Arc::new(Fresh::new()), Arc::new(Stats::default()));
        let log = Log::start(path, &mut connection)?;
        let phones: Arc<OnceLock<PhoneHash>> = Arc::default();
        let writer = spawn("journal", {
            let (queue, fresh, stats) = (queue.clone(), fresh.clone(), stats.clone());
            let phones = phones.clone();
            move || writer::run(&connection, &queue, &fresh, &log, &stats, &phones)
        })?;
        let readers = Readers { idle: Mutex::new(Vec::new()), room: Semaphore::new(QUERIES_MAX), path: path.to_owned() };
        let (writer, news) = (Mutex::new(Some(writer)), broadcast::Sender::new(1));
        let (readers, purged) = (Arc::new(readers), Mutex::default());
        let looks = Looks::start(path.to_owned())?;
        Ok(Self { queue, writer, readers, looks, fresh, stats, news, purged, phones })
    }

    /// Hands work to the writer and waits until it is durable.
    async fn write<T: Send + 'static>(
        &self,
        mut work: impl FnMut(&Connection, &mut Tally) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (ended, told) = oneshot::channel();
        let outcome = Arc::new(Mutex::new(None));
        let kept = outcome.clone();
        let work = Box::new(move |db: &Connection, tally: &mut Tally| {
            *kept.lock() = Some(work(db, tally).map_err(failed)?);
            Ok(())
        });
        self.queue.first(Task::Other { work, ended })?;
        told.await.map_err(|_| writer_gone())??;
        let done = outcome.lock().take();
        done.ok_or_else(|| StoreError::Failed("the writer left no outcome".to_owned()))
    }

    /// Holds all that waits for connections that are gone. If that fails, the next look at what is late goes on with it.
    async fn hold_removed(&self) {
        loop {
            match self.write(removal::hold).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!("what waits for a removed connection cannot be held yet: {error}");
                    return;
                }
            }
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = Arc::new(Mutex::new(None));
        let kept = answer.clone();
        self.run(Box::new(move |db| {
            *kept.lock() = Some(query(db)?);
            Ok(())
        }))
        .await?;
        let answer = answer.lock().take();
        answer.ok_or_else(|| StoreError::Failed("the query left no answer".to_owned()))
    }

    async fn run(&self, query: Query) -> Result<(), StoreError> {
        let readers = self.readers.clone();
        let _place = self.readers.room.acquire().await.map_err(|error| StoreError::Failed(error.to_string()))?;
        tokio::task::spawn_blocking(move || readers.read(query)).await.map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

/// The schema, step by step.
pub(crate) const STEPS: &[(&str, &str)] = &[
    ("first", include_str!("migrations/1_first.sql")),
    ("publish", include_str!("migrations/2_publish.sql")),
    ("journal", include_str!("migrations/3_journal.sql")),
    ("setup", include_str!("migrations/4_setup.sql")),
    ("feed", include_str!("migrations/5_feed.sql")),
    ("called_off", include_str!("migrations/6_called_off.sql")),
    ("envelope", include_str!("migrations/7_envelope.sql")),
    ("reviews", include_str!("migrations/8_reviews.sql")),
    ("code", include_str!("migrations/9_code.sql")),
    ("heard", include_str!("migrations/10_heard.sql")),
    ("told", include_str!("migrations/11_told.sql")),
    ("chain", include_str!("migrations/12_chain.sql")),
    ("notice_told", include_str!("migrations/13_notice_told.sql")),
    ("loyalty", include_str!("migrations/14_loyalty.sql")),
    ("bounce", include_str!("migrations/15_bounce.sql")),
];

fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let done: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let done = done as usize;
    if done > STEPS.len() {
        return Err(StoreError::Failed(format!(
            "the database is of version {done}, newer than this program's {}: use the newer program",
            STEPS.len()
        )));
    }
    for (place, (_, step)) in STEPS.iter().enumerate().skip(done) {
        connection
            .execute_batch(&format!("BEGIN IMMEDIATE; {step} PRAGMA user_version={}; COMMIT;", place + 1))
            .map_err(failed)?;
    }
    Ok(())
}

/// No new id may come before a stored one, even if the clock has been put back since.
fn start_ids_after(connection: &Connection) -> rusqlite::Result<()> {
    let of = |table: &str| format!("SELECT max(ordinal) FROM {table}");
    let told = "SELECT max(number) FROM event INDEXED BY event_number WHERE number IS NOT NULL".to_owned();
    for sql in ["inbox", "event", "command", "exchange", "audit"].map(of).into_iter().chain([told]) {
        let latest: Option<i64> = connection.query_row(&sql, [], |row| row.get(0))?;
        Id::start_after(latest.unwrap_or_default());
    }
    if let Some(newest) = loyalty::newest(connection)? {
        Id::start_after(newest.ordinal());
    }
    Ok(())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| StoreError::Failed(error.to_string()))
}

fn writer_gone() -> StoreError {
    StoreError::Failed("the writer has ended".to_owned())
}

/// Milliseconds since 1970.
fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// This moment as SQL tells it, in the same milliseconds.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

fn time(column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millisecond(row.get(column)?).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn maybe_time(column: usize, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|at| Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH)))
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
        self.fresh.appended.clone()
    }

    async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        let (ended, told) = oneshot::channel();
        self.queue.first(Task::Append { row: Box::new(entry.into()), ended })?;
        told.await.map_err(|_| writer_gone())?
    }

    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match self.fresh.take(limit) {
            Next::Here(entries) => Ok(entries),
            Next::OnDisk => {
                let page = self.read(move |connection| journal::unread(connection, limit)).await;
                if page.as_ref().map_or(true, |page| page.len() == limit) {
                    self.fresh.more_on_disk();
                }
                let (good, bad): (Vec<_>, Vec<_>) = page?.into_iter().partition(|entry| entry.entry.is_ok());
                let bad: Vec<_> = bad.into_iter().filter_map(|bad| Some((bad.ordinal, bad.entry.err()?))).collect();
                if !bad.is_empty() {
                    self.write(move |connection, tally| journal::bury(connection, &bad, tally)).await?;
                }
                Ok(good.into_iter().filter_map(|good| good.entry.ok()).collect())
            }
        }
    }

    async fn entry(&self, entry: Id) -> Result<Option<Entry>, StoreError> {
        self.read(move |connection| journal::entry(connection, entry)).await
    }

    async fn apply_all(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>> {
        let count = changes.len();
        let reads = changes.iter().all(|change| change.mark.as_ref().is_some_and(|mark| !mark.again));
        let (ended, told) = oneshot::channel();
        let task = Task::Apply { changes: changes.into_iter().map(Into::into).collect(), ended };
        let handed = if reads { self.queue.later(task) } else { self.queue.first(task) };
        match handed {
            Ok(()) => told.await.unwrap_or_else(|_| vec![Err(writer_gone()); count]),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError> {
        let phones = self.phones.clone();
        self.write(move |connection, tally| outbox::lease(connection, now, &shares, limit, lease_ms, phones.get(), tally)).await
    }

    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        self.write(move |db, tally| {
            let taken_back = outbox::recover(db, now, tally)?;
            removal::sweep(db)?;
            removal::hold(db, tally)?;
            Ok(taken_back)
        })
        .await
    }

    async fn event(&self, event: Id) -> Result<Option<Event>, StoreError> {
        self.read(move |connection| journal::event(connection, event)).await
    }

    async fn told_to(
        &self,
        merchant: Id,
        way_out: Id,
        after: Id,
        limit: usize,
    ) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError> {
        self.read(move |db| told::after(db, merchant, way_out, after, limit)).await
    }

    async fn put_words(&self, words: Vec<Consent>) -> Result<Vec<bool>, StoreError> {
        let phones = self.phones.clone();
        self.write(move |db, _| words.iter().map(|word| consent::put(db, word, phones.get())).collect()).await
    }

    async fn words(&self, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>, StoreError> {
        let address = address.to_owned();
        self.read(move |db| consent::list(db, merchant, &address, limit)).await
    }

    async fn contact(&self, merchant: Id, address: &str) -> Result<Contact, StoreError> {
        let (phones, address) = (self.phones.clone(), address.to_owned());
        self.read(move |db| setup::contact(db, merchant, &address, phones.get())).await
    }

    async fn opt_outs(&self, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>, StoreError> {
        let after = after.to_owned();
        self.read(move |db| consent::opt_outs(db, merchant, &after, limit)).await
    }

    async fn short_link(&self, code: [u8; 16]) -> Result<Option<(ShortLink, Option<Review>)>, StoreError> {
        self.read(move |db| {
            let Some(link) = review::link(db, code)? else { return Ok(None) };
            let left = link.review.map(|id| review::review(db, id)).transpose()?.flatten();
            Ok(Some((link, left)))
        })
        .await
    }

    async fn review(&self, id: Id) -> Result<Option<Review>, StoreError> {
        self.read(move |db| review::review(db, id)).await
    }

    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        self.read(move |db| review::list(db, &filter)).await
    }

    async fn review_counts(&self, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>, StoreError> {
        self.read(move |db| review::counts(db, merchant, from, to)).await
    }

    async fn setup(&self) -> Result<Setup, StoreError> {
        self.read(setup::load).await
    }

    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        let removes = !setup.removes.is_empty();
        if !self.write(move |db, _| setup::put(db, &setup)).await? {
            return Err(StoreError::Conflict);
        }
        if removes {
            self.hold_removed().await;
        }
        Ok(())
    }

    async fn setup_versions(&self, id: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError> {
        self.read(move |db| audit::versions(db, id, limit)).await
    }

    async fn touch_keys(&self, used: Vec<(String, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |db, _| setup::touch_keys(db, &used)).await
    }

    async fn put_audit(&self, rows: Vec<Audit>) -> Result<(), StoreError> {
        self.write(move |db, _| audit::put(db, &rows)).await
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Audit>, StoreError> {
        self.read(move |db| audit::list(db, &filter)).await
    }

    async fn begin(
        &self,
        key: [u8; 16],
        body: [u8; 16],
        now: Timestamp,
        hold_ms: i64,
        keep_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        self.write(move |db, _| answer::begin(db, key, body, now, hold_ms, keep_until)).await
    }

    async fn end(&self, key: [u8; 16], answer: Option<KeptAnswer>) -> Result<(), StoreError> {
        self.write(move |db, _| answer::end(db, key, answer.as_ref())).await
    }

    async fn put_code(&self, new: NewCode, limits: Vec<CodeLimit>) -> Result<Option<Timestamp>, StoreError> {
        self.write(move |db, _| code::put(db, &new, &limits)).await
    }

    async fn try_code(&self, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>, StoreError> {
        self.write(move |db, _| code::try_one(db, code, now, tries_max)).await
    }

    async fn spend_code(&self, code: Id) -> Result<bool, StoreError> {
        self.write(move |db, _| code::spend(db, code)).await
    }

    async fn sealed(&self) -> Result<Sealed, StoreError> {
        self.read(sealed::load).await
    }

    async fn rekey(&self, change: Rekeying) -> Result<(), StoreError> {
        let done = self.write(move |db, _| sealed::rekey(db, &change)).await?;
        if done { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(move |db| setup::one(db, "SELECT sealed FROM session WHERE connection = ?1", connection)).await
    }

    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.write(move |db, _| setup::put_session(db, connection, &sealed)).await
    }

    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError> {
        self.read(move |db| setup::one(db, "SELECT value FROM cursor WHERE connection = ?1", connection)).await
    }

    async fn last_heard(&self, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>, StoreError> {
        let who = who.to_owned();
        self.read(move |db| heard::last(db, merchant, connection, &who)).await
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

    async fn messages(&self, connection: Id, provider_ids: Vec<String>) -> Result<Vec<Message>, StoreError> {
        self.read(move |db| chain::messages(db, connection, &provider_ids)).await
    }

    async fn costs(&self, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError> {
        let month = month.to_owned();
        self.read(move |db| chain::costs(db, merchant, &month)).await
    }

    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
        self.read(move |connection| pages::list(connection, &filter)).await
    }

    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError> {
        self.read(move |connection| timeline::of(connection, id)).await
    }

    async fn command(&self, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
        self.read(move |connection| timeline::command(connection, id)).await
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

    async fn health(&self, connections: Vec<Id>) -> Result<Health, StoreError> {
        self.queue.is_open()?;
        self.read(move |db| journal::health(db, &connections)).await
    }

    async fn notices(&self, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
        self.read(move |connection| setup::notices(connection, merchant, limit)).await
    }

    async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        self.read(move |connection| notices::untold(connection, limit)).await
    }

    async fn tellings(&self, merchant: Id, since: Timestamp) -> Result<u64, StoreError> {
        self.read(move |connection| notices::tellings(connection, merchant, since)).await
    }

    async fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>, StoreError> {
        let kind = kind.to_owned();
        self.read(move |db| notices::noticed(db, merchant, connection, &kind)).await
    }

    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        // Looked at beside the writer: it takes long, and webhooks are to be answered meanwhile.
        let found = self.read(|connection| fsck::check(connection, false)).await?;
        if found.is_empty() || !repair {
            return Ok(found);
        }
        self.write(move |connection, tally| {
            // What the same transaction has changed so far belongs to the counts that are checked.
            std::mem::take(tally).write(connection)?;
            fsck::check(connection, true)
        })
        .await
    }

    async fn writable(&self) -> Result<(), StoreError> {
        // Something that goes to disk and changes nothing.
        self.write(|connection, _| {
            let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            connection.pragma_update(None, "user_version", version)
        })
        .await
    }

    async fn close(&self) {
        self.queue.close();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && tokio::task::spawn_blocking(move || writer.join()).await.is_err()
        {
            tracing::error!("the journal's writer ended badly");
        }
    }

    async fn put_refusals(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        self.write(move |db, _| watch::put_refusals(db, &refusals)).await
    }

    async fn refusals(&self, place: &str) -> Result<Vec<Refusal>, StoreError> {
        let place = place.to_owned();
        self.read(move |db| watch::refusals(db, &place)).await
    }

    async fn put_breaker(&self, connection: Id, open: Option<OpenBreaker>) -> Result<(), StoreError> {
        self.write(move |db, _| watch::put_breaker(db, connection, open.as_ref())).await
    }

    async fn breakers(&self) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
        self.read(watch::breakers).await
    }

    async fn put_rhythms(&self, rhythms: Vec<(Id, Rhythm)>) -> Result<(), StoreError> {
        self.write(move |db, _| watch::put_rhythms(db, &rhythms)).await
    }

    async fn rhythms(&self) -> Result<Vec<(Id, Rhythm)>, StoreError> {
        self.read(watch::rhythms).await
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    async fn once(&self, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
        self.read(move |db| work::once(db, key)).await
    }

    async fn publish(&self, on: bool) -> Result<(), StoreError> {
        self.write(move |db, _| publication::switch(db, on)).await
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        self.read(move |db| publication::unpublished(db, limit)).await
    }

    async fn published(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        self.write(move |db, _| publication::published(db, &numbers)).await
    }

    async fn publishing(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        self.read(publication::waiting).await
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.purge_portion(None, before, limit).await
    }

    async fn purge_merchant(&self, merchant: Id, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.purge_portion(Some(merchant), before, limit).await
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(move |db| events::page(db, &filter)).await
    }

    async fn feed(&self, merchant: Option<Id>, kinds: Vec<String>, from: FeedFrom, limit: usize) -> Result<FeedPage, StoreError> {
        self.read(move |db| events::feed(db, merchant, &kinds, from, limit)).await
    }

    fn told(&self) -> watched::Receiver<u64> {
        self.fresh.told.subscribe()
    }

    async fn commands(&self, filter: CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
        self.read(move |db| commands::page(db, &filter)).await
    }

    async fn figures(&self, of: FiguresOf) -> Result<Figures, StoreError> {
        self.read(move |db| figures::count(db, &of)).await
    }

    async fn points_figures(&self, of: PointsOf) -> Result<PointsFigures, StoreError> {
        self.read(move |db| figures::points(db, &of)).await
    }

    async fn waiting_of(&self, connections: Vec<Id>, kind: &str, limit: usize) -> Result<u64, StoreError> {
        let kind = kind.to_owned();
        self.read(move |db| figures::waiting(db, &connections, &kind, limit)).await
    }

    async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
        let reason = reason.to_owned();
        let cancelled = self.write(move |db, tally| commands::cancel(db, command, &reason, tally)).await;
        self.fresh.told.send_modify(|groups| *groups += 1);
        cancelled
    }

    fn hash_phones_by(&self, hash: PhoneHash) {
        // The first one stays: an opt-out is found by the hash under which it was kept.
        self.phones.get_or_init(|| hash);
    }

    async fn erase(&self, merchant: Id, phone: &str, place: ErasurePlace, limit: usize) -> Result<Erased, StoreError> {
        self.erase_portion(merchant, phone, place, limit).await
    }

    async fn loyalty(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        self.looks.look(look).await
    }

    async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<points::Entry>, StoreError> {
        self.read(move |db| ledger::page(db, &filter)).await
    }

    async fn wallets(&self, filter: WalletFilter) -> Result<Vec<Wallet>, StoreError> {
        self.read(move |db| ledger::wallets(db, &filter)).await
    }

    async fn wallets_due(&self, now: Timestamp, without: Vec<Id>, limit: usize) -> Result<Vec<Wallet>, StoreError> {
        self.read(move |db| loyalty::due(db, now, &without, limit)).await
    }

    async fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit, StoreError> {
        self.read(move |db| ledger::check(db, merchant, after, limit)).await
    }

    async fn about(&self) -> Result<About, StoreError> {
        self.read(|db| {
            let schema = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let bytes: i64 =
                db.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| row.get(0))?;
            let version = rusqlite::version().to_owned();
            Ok(About { kind: "SQLite", version, schema, schema_known: STEPS.len() as u32, bytes: bytes as u64, nodes: 1 })
        })
        .await
    }

    fn stats(&self) -> Option<Arc<Stats>> {
        Some(self.stats.clone())
    }
}
