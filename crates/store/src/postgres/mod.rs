//! The store on a PostgreSQL server, shared by any number of nodes.
//!
//! Nodes agree by what stands in the database and by its clock; no node leads. What waits to be written is committed in
//! groups, as far as possible in statements that take a whole group at once. A session that is left in the middle of a
//! transaction (its node is frozen, or gone) is ended by the server soon, so that its locks hold nobody up.

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
mod fsck;
mod generate;
mod handover;
mod heard;
mod journal;
mod lanes;
mod ledger;
mod looks;
mod lost;
mod loyalty;
mod nodes;
mod notices;
mod outbox;
mod pages;
mod partitions;
#[cfg(test)]
mod plans;
mod publication;
mod purge;
mod removal;
mod review;
mod sealed;
mod setup;
mod timeline;
mod told;
mod turns;
mod watch;
mod work;

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock, atomic::AtomicI32},
    time::Duration,
};

use async_trait::async_trait;
use deadpool_postgres::{Hook, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Transaction};
pub(crate) use generate::Generator;
use handover::Handover;
use lanes::Lanes;
use looks::Looks;
pub use nodes::Migration;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch as watched};
use tokio_postgres::{IsolationLevel, Row, types::FromSqlOwned};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use uzel_model::{
    Event, Id, Timestamp,
    id::Kind,
    loyalty::{self as points, Wallet},
};

use crate::{
    About, Applied, Audit, AuditFilter, Begun, Cancelled, Change, CodeLimit, CodeTry, CommandFilter, CommandState, Consent,
    Contact, Counts, Entry, Erased, ErasurePlace, EventFilter, Exchange, FeedFrom, FeedPage, Figures, FiguresOf, Health,
    JournalFilter, JournalRow, KeptAnswer, Leased, LedgerFilter, LoyaltyAudit, LoyaltyLook, LoyaltySeen, Message, NewCode, News,
    Notice, Once, OpenBreaker, OptOut, PhoneHash, PointsFigures, PointsOf, Refusal, Rekeying, Review, ReviewCount, ReviewFilter,
    Rhythm, Sealed, Setup, SetupVersion, ShortLink, Spent, Stats, Store, StoreError, StoredEvent, Timeline, TimelineCommand,
    Untold, WalletFilter,
};

/// The schema, step by step: numbers, names, and what each does. Each says in its first line, as `-- needs 1`, the least step
/// that a program must know to work on beside it.
pub(crate) const STEPS: &[(u32, &str, &str)] = &[
    (1, "first", include_str!("migrations/1_first.sql")),
    (2, "setup", include_str!("migrations/2_setup.sql")),
    (3, "feed", include_str!("migrations/3_feed.sql")),
    (4, "called_off", include_str!("migrations/4_called_off.sql")),
    (5, "envelope", include_str!("migrations/5_envelope.sql")),
    (6, "reviews", include_str!("migrations/6_reviews.sql")),
    (7, "code", include_str!("migrations/7_code.sql")),
    (8, "heard", include_str!("migrations/8_heard.sql")),
    (9, "told", include_str!("migrations/9_told.sql")),
    (10, "chain", include_str!("migrations/10_chain.sql")),
    (11, "notice_told", include_str!("migrations/11_notice_told.sql")),
    (12, "loyalty", include_str!("migrations/12_loyalty.sql")),
    (13, "bounce", include_str!("migrations/13_bounce.sql")),
];

/// Where the server is, and how this node works with it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=require`.
    pub url: String,
    /// What people know this node by.
    pub node: String,
    /// How long a node that took entries may take to read them, before others do.
    pub reading_lease: Duration,
    /// After so long in the middle of a transaction the server ends a session.
    pub idle_in_transaction: Duration,
    /// Connections for queries; writing has a few of its own.
    pub readers: usize,
    /// Apply migrations that are missing, instead of refusing to start.
    pub migrate: bool,
}

impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL carries a password.
        f.debug_struct("PostgresOptions").field("node", &self.node).finish_non_exhaustive()
    }
}

impl PostgresOptions {
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            node: "node".to_owned(),
            reading_lease: Duration::from_secs(10),
            idle_in_transaction: Duration::from_secs(5),
            readers: 6,
            migrate: true,
        }
    }
}

/// What the parts of the store share.
struct Core {
    options: PostgresOptions,
    /// Connections for what runs all day, for other things that are written, and for what is asked: so that queries never keep an
    /// answer waiting.
    lanes: Pool,
    writers: Pool,
    readers: Pool,
    node: Uuid,
    handover: Handover,
    news: broadcast::Sender<News>,
    /// Counts commits, of whatever node, by which events became whole.
    events: watched::Sender<u64>,
    phones: OnceLock<PhoneHash>,
    /// What this node has done since its last word to the others.
    told: nodes::Told,
    /// Leases whose answers were lost.
    lost_batches: Mutex<Vec<(Uuid, std::time::Instant)>>,
    /// The least step that a program must know to work on this database, as the last look found it.
    needs: AtomicI32,
    stop: CancellationToken,
    stats: Arc<Stats>,
}

/// The store on a server.
pub struct Postgres {
    core: Arc<Core>,
    lanes: Lanes,
    looks: Looks,
}

impl Postgres {
    /// Connects, and brings the schema up to date where that is allowed.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let server = nodes::server(&options)?;
        let core = Arc::new(Core {
            lanes: pool(&server, lanes::CONNECTIONS, nodes::prepare_session(&options, lanes::SESSION))?,
            writers: pool(&server, lanes::WRITERS, nodes::prepare_session(&options, ""))?,
            readers: pool(&server, options.readers, nodes::prepare_session(&options, ""))?,
            node: Uuid::now_v7(),
            handover: Handover::default(),
            news: broadcast::Sender::new(1_024),
            events: watched::Sender::new(0),
            phones: OnceLock::new(),
            told: nodes::Told::default(),
            lost_batches: Mutex::default(),
            needs: AtomicI32::new(0),
            stop: CancellationToken::new(),
            stats: Arc::default(),
            options,
        });
        nodes::own_sessions([&core.writer().await?, &core.reader().await?]).await?;
        nodes::migrate(&mut core.writer().await?, core.options.migrate).await?;
        let mut client = core.reader().await?;
        copy::refuse_unfinished(&client).await?;
        partitions::ahead(&mut client).await?;
        drop(client);
        let (lanes, looks) = (Lanes::start(&core), Looks::start(&core));
        nodes::start(&core);
        Ok(Self { core, lanes, looks })
    }
}

impl Postgres {
    /// The steps of the schema as the server has them, and those that it lacks; nothing is changed.
    pub async fn migrations(options: &PostgresOptions) -> Result<Vec<Migration>, StoreError> {
        nodes::migrations(options).await
    }
}

impl Core {
    async fn reader(&self) -> Result<Object, StoreError> {
        self.readers.get().await.map_err(no_connection)
    }

    async fn lane(&self) -> Result<Object, StoreError> {
        self.lanes.get().await.map_err(no_connection)
    }

    async fn writer(&self) -> Result<Object, StoreError> {
        self.writers.get().await.map_err(no_connection)
    }

    /// Events have become whole.
    fn told_events(&self) {
        self.events.send_modify(|commits| *commits += 1);
        self.told.events();
    }
}

/// Connections to a server, each told `session` first.
fn pool(server: &nodes::Server, size: usize, session: Hook) -> Result<Pool, StoreError> {
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let config = server.config.clone();
    let manager = match nodes::tls(server)? {
        Some(tls) => Manager::from_config(config, tls, manager),
        None => Manager::from_config(config, tokio_postgres::NoTls, manager),
    };
    Pool::builder(manager)
        .max_size(size)
        .runtime(deadpool_postgres::Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(5)))
        .create_timeout(Some(Duration::from_secs(5)))
        .recycle_timeout(Some(Duration::from_secs(5)))
        .post_create(session)
        .build()
        .map_err(|error| StoreError::Failed(error.to_string()))
}

fn no_connection(error: deadpool_postgres::PoolError) -> StoreError {
    match error {
        deadpool_postgres::PoolError::Timeout(_) => StoreError::Busy,
        error => StoreError::Failed(format!("no connection to the database: {}", words(&error))),
    }
}

fn failed(error: tokio_postgres::Error) -> StoreError {
    StoreError::Failed(words(&error))
}

/// An error with what lies behind it; the library's own words say little.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// One view of the data for several queries.
async fn snapshot(client: &mut Object) -> Result<Transaction<'_>, StoreError> {
    let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    begin.start().await.map_err(failed)
}

fn uuid(id: Id) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// A column that cannot be read as what it should be is an error, not a panic.
fn get<T: FromSqlOwned>(row: &Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(failed)
}

fn id(kind: Kind, row: &Row, column: usize) -> Result<Id, StoreError> {
    Ok(Id::from_bytes(kind, *get::<Uuid>(row, column)?.as_bytes()))
}

fn maybe_id(kind: Kind, row: &Row, column: usize) -> Result<Option<Id>, StoreError> {
    Ok(get::<Option<Uuid>>(row, column)?.map(|uuid| Id::from_bytes(kind, *uuid.as_bytes())))
}

/// A text column that holds JSON of ours.
fn doc<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Result<T, StoreError> {
    let text: &str = row.try_get(column).map_err(failed)?;
    serde_json::from_str(text).map_err(|error| StoreError::Failed(format!("a stored document cannot be decoded: {error}")))
}

#[async_trait]
impl Store for Postgres {
    fn appended(&self) -> Arc<Notify> {
        self.core.handover.appended.clone()
    }

    async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        nodes::may_work(&self.core)?;
        self.lanes.append(entry).await
    }

    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        nodes::may_work(&self.core)?;
        handover::unread(&self.core, limit).await
    }

    async fn entry(&self, entry: Id) -> Result<Option<Entry>, StoreError> {
        journal::entry(&self.core.reader().await?, entry).await
    }

    async fn apply_all(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>> {
        self.lanes.apply(changes).await
    }

    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError> {
        nodes::may_work(&self.core)?;
        outbox::lease(&self.core, now, &shares, limit, lease_ms).await
    }

    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        outbox::recover(&self.core, now).await
    }

    async fn event(&self, event: Id) -> Result<Option<Event>, StoreError> {
        journal::event(&self.core.reader().await?, event).await
    }

    async fn told_to(
        &self,
        merchant: Id,
        way_out: Id,
        after: Id,
        limit: usize,
    ) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError> {
        told::after(&self.core.reader().await?, merchant, way_out, after, limit).await
    }

    async fn put_words(&self, words: Vec<Consent>) -> Result<Vec<bool>, StoreError> {
        let mut tries = 0;
        loop {
            let ended = consent::put_all(&self.core, &words).await;
            if !lanes::again(&ended, &mut tries) {
                return ended.map_err(StoreError::from);
            }
        }
    }

    async fn words(&self, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>, StoreError> {
        consent::list(&self.core.reader().await?, merchant, address, limit).await
    }

    async fn contact(&self, merchant: Id, address: &str) -> Result<Contact, StoreError> {
        let client = self.core.reader().await?;
        if let Some((contact, _)) = consent::contact_of(&client, merchant, address).await? {
            return Ok(contact);
        }
        let hash = self.core.phones.get().map(|hash| hash(merchant, address));
        let erased_at = match hash {
            Some(hash) => consent::erased_at(&client, merchant, &hash).await?,
            None => None,
        };
        Ok(Contact { opted_out: erased_at.is_some(), ..Contact::default() })
    }

    async fn opt_outs(&self, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>, StoreError> {
        consent::opt_outs(&self.core.reader().await?, merchant, after, limit).await
    }

    async fn short_link(&self, code: [u8; 16]) -> Result<Option<(ShortLink, Option<Review>)>, StoreError> {
        let client = self.core.reader().await?;
        let Some(link) = review::link(&client, code).await? else { return Ok(None) };
        let left = match link.review {
            Some(id) => review::review(&client, id).await?,
            None => None,
        };
        Ok(Some((link, left)))
    }

    async fn review(&self, id: Id) -> Result<Option<Review>, StoreError> {
        review::review(&self.core.reader().await?, id).await
    }

    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        review::list(&self.core.reader().await?, &filter).await
    }

    async fn review_counts(&self, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>, StoreError> {
        review::counts(&self.core.reader().await?, merchant, from, to).await
    }

    async fn setup(&self) -> Result<Setup, StoreError> {
        setup::load(&mut self.core.reader().await?).await
    }

    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        nodes::may_work(&self.core)?;
        setup::put(&self.core, &setup).await?;
        if !setup.removes.is_empty() {
            removal::hold_all(&self.core).await;
        }
        Ok(())
    }

    async fn setup_versions(&self, id: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError> {
        audit::versions(&self.core.reader().await?, id, limit).await
    }

    async fn touch_keys(&self, used: Vec<(String, Timestamp)>) -> Result<(), StoreError> {
        setup::touch_keys(&self.core.writer().await?, &used).await
    }

    async fn put_audit(&self, rows: Vec<Audit>) -> Result<(), StoreError> {
        let mut client = self.core.writer().await?;
        let work = client.build_transaction().start().await.map_err(failed)?;
        audit::put(&work, &rows).await?;
        work.commit().await.map_err(failed)
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Audit>, StoreError> {
        audit::list(&self.core.reader().await?, &filter).await
    }

    async fn begin(
        &self,
        key: [u8; 16],
        body: [u8; 16],
        now: Timestamp,
        hold_ms: i64,
        keep_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        answer::begin(&self.core.writer().await?, key, body, now, hold_ms, keep_until).await
    }

    async fn end(&self, key: [u8; 16], answer: Option<KeptAnswer>) -> Result<(), StoreError> {
        answer::end(&self.core.writer().await?, key, answer.as_ref()).await
    }

    async fn put_code(&self, new: NewCode, limits: Vec<CodeLimit>) -> Result<Option<Timestamp>, StoreError> {
        code::put(&mut self.core.writer().await?, &new, &limits).await
    }

    async fn try_code(&self, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>, StoreError> {
        code::try_one(&self.core.writer().await?, code, now, tries_max).await
    }

    async fn spend_code(&self, code: Id) -> Result<bool, StoreError> {
        code::spend(&self.core.writer().await?, code).await
    }

    async fn sealed(&self) -> Result<Sealed, StoreError> {
        sealed::load(&mut self.core.reader().await?).await
    }

    async fn rekey(&self, change: Rekeying) -> Result<(), StoreError> {
        sealed::rekey(&self.core, &change).await
    }

    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
        setup::session(&self.core.reader().await?, connection).await
    }

    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError> {
        setup::put_session(&self.core.writer().await?, connection, &sealed).await?;
        self.core.told.login(connection);
        Ok(())
    }

    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError> {
        setup::cursor(&self.core.reader().await?, connection).await
    }

    async fn last_heard(&self, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>, StoreError> {
        heard::last(&self.core.reader().await?, merchant, connection, who).await
    }

    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        watch::undelivered(&self.core.reader().await?, connection, after, before, limit).await
    }

    async fn messages(&self, connection: Id, provider_ids: Vec<String>) -> Result<Vec<Message>, StoreError> {
        chain::messages(&self.core.reader().await?, connection, &provider_ids).await
    }

    async fn costs(&self, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError> {
        chain::costs(&self.core.reader().await?, merchant, month).await
    }

    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
        pages::list(&mut self.core.reader().await?, &filter).await
    }

    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError> {
        timeline::of(&mut self.core.reader().await?, id).await
    }

    async fn command(&self, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
        timeline::command(&mut self.core.reader().await?, id).await
    }

    async fn exchange(&self, id: Id) -> Result<Option<Exchange>, StoreError> {
        timeline::exchange(&self.core.reader().await?, id).await
    }

    async fn dead(
        &self,
        provider: Option<String>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<Id>, StoreError> {
        journal::dead(&self.core.reader().await?, provider.as_deref(), from, to).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        journal::counts(&mut self.core.reader().await?).await
    }

    async fn health(&self, connections: Vec<Id>) -> Result<Health, StoreError> {
        nodes::may_work(&self.core)?;
        journal::health(&self.core.reader().await?, &connections).await
    }

    async fn notices(&self, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
        setup::notices(&self.core.reader().await?, merchant, limit).await
    }

    async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        notices::untold(&self.core.reader().await?, limit).await
    }

    async fn tellings(&self, merchant: Id, since: Timestamp) -> Result<u64, StoreError> {
        notices::tellings(&self.core.reader().await?, merchant, since).await
    }

    async fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>, StoreError> {
        notices::noticed(&self.core.reader().await?, merchant, connection, kind).await
    }

    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        fsck::check(&mut self.core.writer().await?, repair).await
    }

    async fn writable(&self) -> Result<(), StoreError> {
        nodes::writable(&self.core).await
    }

    async fn close(&self) {
        self.lanes.close().await;
        self.looks.close().await;
        self.core.stop.cancel();
        nodes::leave(&self.core).await;
        self.core.lanes.close();
        self.core.writers.close();
        self.core.readers.close();
    }

    async fn put_refusals(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        watch::put_refusals(&mut self.core.writer().await?, &refusals).await
    }

    async fn refusals(&self, place: &str) -> Result<Vec<Refusal>, StoreError> {
        watch::refusals(&self.core.reader().await?, place).await
    }

    async fn put_breaker(&self, connection: Id, open: Option<OpenBreaker>) -> Result<(), StoreError> {
        watch::put_breaker(&self.core.writer().await?, connection, open.as_ref()).await?;
        self.core.told.breakers();
        Ok(())
    }

    async fn breakers(&self) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
        watch::breakers(&self.core.reader().await?).await
    }

    async fn put_rhythms(&self, rhythms: Vec<(Id, Rhythm)>) -> Result<(), StoreError> {
        watch::put_rhythms(&mut self.core.writer().await?, &rhythms).await
    }

    async fn rhythms(&self) -> Result<Vec<(Id, Rhythm)>, StoreError> {
        watch::rhythms(&self.core.reader().await?).await
    }

    fn shared(&self) -> bool {
        true
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.core.news.subscribe()
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        nodes::clock(&self.core.reader().await?).await.map(Some)
    }

    async fn take(&self, name: &str, now: Timestamp, every_ms: i64, hold_ms: i64) -> Result<Option<i64>, StoreError> {
        turns::take(&self.core.writer().await?, name, now, every_ms, hold_ms).await
    }

    async fn give_back(&self, name: &str, token: i64) -> Result<(), StoreError> {
        turns::give_back(&self.core.writer().await?, name, token).await
    }

    async fn moments(
        &self,
        names: &[String],
        change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
    ) -> Result<(), StoreError> {
        turns::moments(&mut self.core.writer().await?, names, change).await
    }

    async fn once(&self, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
        turns::once(&self.core.reader().await?, key).await
    }

    async fn publish(&self, on: bool) -> Result<(), StoreError> {
        publication::switch(&mut self.core.writer().await?, on).await
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        publication::unpublished(&self.core.reader().await?, limit).await
    }

    async fn published(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        publication::published(&self.core.writer().await?, &numbers).await
    }

    async fn publishing(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        publication::waiting(&self.core.reader().await?).await
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        purge::purge(&mut self.core.writer().await?, None, before, limit).await
    }

    async fn purge_merchant(&self, merchant: Id, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        purge::purge(&mut self.core.writer().await?, Some(merchant), before, limit).await
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        events::page(&mut self.core.reader().await?, &filter).await
    }

    async fn feed(&self, merchant: Option<Id>, kinds: Vec<String>, from: FeedFrom, limit: usize) -> Result<FeedPage, StoreError> {
        events::feed(&mut self.core.reader().await?, merchant, &kinds, from, limit).await
    }

    fn told(&self) -> watched::Receiver<u64> {
        self.core.events.subscribe()
    }

    async fn commands(&self, filter: CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
        commands::page(&mut self.core.reader().await?, &filter).await
    }

    async fn figures(&self, of: FiguresOf) -> Result<Figures, StoreError> {
        figures::count(&mut self.core.reader().await?, &of).await
    }

    async fn points_figures(&self, of: PointsOf) -> Result<PointsFigures, StoreError> {
        figures::points(&mut self.core.reader().await?, &of).await
    }

    async fn waiting_of(&self, connections: Vec<Id>, kind: &str, limit: usize) -> Result<u64, StoreError> {
        figures::waiting(&self.core.reader().await?, &connections, kind, limit).await
    }

    async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
        commands::cancel(&self.core, command, reason).await
    }

    fn hash_phones_by(&self, hash: PhoneHash) {
        // The first one stays: an opt-out is found by the hash under which it was kept.
        self.core.phones.get_or_init(|| hash);
    }

    async fn erase(&self, merchant: Id, phone: &str, place: ErasurePlace, limit: usize) -> Result<Erased, StoreError> {
        erase::portion(&self.core, merchant, phone, place, limit).await
    }

    async fn loyalty(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        nodes::may_work(&self.core)?;
        self.looks.look(look).await
    }

    async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<points::Entry>, StoreError> {
        ledger::page(&self.core.reader().await?, &filter).await
    }

    async fn wallets(&self, filter: WalletFilter) -> Result<Vec<Wallet>, StoreError> {
        ledger::wallets(&self.core.reader().await?, &filter).await
    }

    async fn wallets_due(&self, now: Timestamp, without: Vec<Id>, limit: usize) -> Result<Vec<Wallet>, StoreError> {
        ledger::due(&self.core.reader().await?, now, &without, limit).await
    }

    async fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit, StoreError> {
        ledger::check(&mut self.core.reader().await?, merchant, after, limit).await
    }

    async fn about(&self) -> Result<About, StoreError> {
        nodes::about(&self.core.reader().await?).await
    }

    fn stats(&self) -> Option<Arc<Stats>> {
        Some(self.core.stats.clone())
    }
}
