//! The server and its nodes: connecting, migrations, the word to the other nodes, the list of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use deadpool_postgres::{GenericClient, Hook, HookError, Object};
use futures::StreamExt;
use parking_lot::Mutex;
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::{Notify, mpsc};
use tokio_postgres::{
    AsyncMessage, Config, NoTls, SimpleQueryMessage,
    config::{Host, SslMode},
    error::SqlState,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use uzel_model::{Id, Timestamp};

use super::{Core, PostgresOptions, STEPS, events, failed, get, partitions, removal::SWEEP};
use crate::{About, News, StoreError, setup::AUDIT_DAYS};

/// The channel on which nodes tell each other what they did.
pub(super) const CHANNEL: &str = "uzel";
/// The word for events that have become whole: what waits is whoever reads the feed.
const EVENTS: &str = "events";
/// Between two words to the others.
const TELL_EVERY: Duration = Duration::from_millis(20);
const BEAT: Duration = Duration::from_secs(2);
const HOUSEKEEPING: Duration = Duration::from_secs(3_600);
/// Where a reader was in the way.
const HOUSEKEEPING_AGAIN: Duration = Duration::from_secs(60);
/// Between two tries to take a step of the schema.
const MIGRATE_AGAIN: Duration = Duration::from_secs(1);
const CONNECT_AGAIN_MAX: Duration = Duration::from_secs(5);

/// What this node has done and the others should know: gathered, and told a few times a second at the most. It is told beside
/// what is written, not within: the server lets only one transaction at a time commit that tells something.
#[derive(Default)]
pub(super) struct Told {
    words: Mutex<BTreeSet<String>>,
    filled: Notify,
}

impl Told {
    fn tell(&self, word: String) {
        self.words.lock().insert(word);
        self.filled.notify_one();
    }

    pub(super) fn due(&self) {
        self.tell("due".to_owned());
    }

    pub(super) fn login(&self, connection: Id) {
        self.tell(format!("login {connection}"));
    }

    pub(super) fn events(&self) {
        self.tell(EVENTS.to_owned());
    }

    pub(super) fn breakers(&self) {
        self.tell("breakers".to_owned());
    }
}

/// That something was set up, as it is told within what is written.
pub(super) fn setup_word(core: &Core) -> String {
    format!("{} setup", core.node)
}

fn news(word: &str) -> Option<News> {
    match word {
        "due" => Some(News::Due),
        "setup" => Some(News::Setup),
        "breakers" => Some(News::Breakers),
        _ => word.strip_prefix("login ")?.parse().ok().map(News::Login),
    }
}

/// Where the server is, and by whose certificates it is known.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) config: Config,
    /// `sslrootcert`: a file of certificates that are trusted instead of the machine's own.
    roots: Option<PathBuf>,
}

/// The URL, read. What is wrong with it is told without it, since it carries a password.
pub(super) fn server(options: &PostgresOptions) -> Result<Server, StoreError> {
    let (url, roots) = known_options(&options.url)?;
    let mut config: Config = url.parse().map_err(|_| {
        StoreError::Failed("the database's URL is not right: it looks like postgres://user:password@host:5432/name".to_owned())
    })?;
    config
        .application_name("uzel")
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .tcp_user_timeout(Duration::from_secs(10));
    let here =
        config.get_hosts().iter().all(on_this_machine) && config.get_hostaddrs().iter().all(|address| address.is_loopback());
    if !options.url.contains("sslmode=") && here {
        // A server on the same machine often has a certificate that nobody vouches for.
        config.ssl_mode(SslMode::Disable);
    }
    Ok(Server { config, roots })
}

/// Options of other clients, which people bring along in their URLs, put into the words that are known here; and the file of
/// `sslrootcert`. A certificate is always checked together with its name, so that all modes that ask for TLS are one.
fn known_options(url: &str) -> Result<(String, Option<PathBuf>), StoreError> {
    let Some((address, query)) = url.split_once('?') else { return Ok((url.to_owned(), None)) };
    let (mut known, mut roots) = (Vec::new(), None);
    for option in query.split('&') {
        match option.split_once('=').unwrap_or((option, "")) {
            ("sslmode", "verify-full" | "verify-ca") => known.push("sslmode=require".to_owned()),
            ("sslmode", "allow") => known.push("sslmode=prefer".to_owned()),
            ("sslrootcert", "system") => {}
            ("sslrootcert", file) => roots = Some(PathBuf::from(file)),
            (
                name @ ("sslcert" | "sslkey" | "sslcrl" | "sslpassword" | "gssencmode" | "krbsrvname" | "service" | "passfile"),
                _,
            ) => {
                return Err(StoreError::Failed(format!("the database's URL has the option `{name}`, which is not known here")));
            }
            _ => known.push(option.to_owned()),
        }
    }
    let query = known.join("&");
    Ok((if query.is_empty() { address.to_owned() } else { format!("{address}?{query}") }, roots))
}

fn on_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(host) => {
            host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|host: std::net::IpAddr| host.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

/// Nothing where the URL says `sslmode=disable`, or says nothing and the server is on this machine. Else the server's
/// certificate is checked against those that the system trusts, or those of `sslrootcert`.
pub(super) fn tls(server: &Server) -> Result<Option<MakeRustlsConnect>, StoreError> {
    if server.config.get_ssl_mode() == SslMode::Disable {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |error: rustls::Error| StoreError::Failed(format!("TLS to the database: {error}"));
    let tls =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(wrong)?;
    let tls = match &server.roots {
        Some(file) => tls.with_root_certificates(roots(file)?),
        None => {
            let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(wrong)?;
            tls.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    Ok(Some(MakeRustlsConnect::new(tls.with_no_client_auth())))
}

/// The certificates of a PEM file.
fn roots(file: &Path) -> Result<RootCertStore, StoreError> {
    let wrong = |why: String| StoreError::Failed(format!("sslrootcert {}: {why}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        roots.add(certificate.map_err(|error| wrong(error.to_string()))?).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it has no certificate".to_owned())) } else { Ok(roots) }
}

/// What every new session is told. Nothing is answered before it is on disk, whatever the server's default is.
pub(super) fn prepare_session(options: &PostgresOptions, more: &str) -> Hook {
    let sql = format!(
        "{more} SET idle_in_transaction_session_timeout = {}; SET lock_timeout = '10s'; SET statement_timeout = '60s';
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        options.idle_in_transaction.as_millis()
    );
    told_first(sql)
}

pub(super) fn told_first(sql: String) -> Hook {
    Hook::async_fn(move |client, _| {
        let sql = sql.clone();
        Box::pin(async move { client.batch_execute(&sql).await.map_err(HookError::Backend) })
    })
}

/// Whether sessions are ours from end to end. A pooler in transaction mode lends the server's sessions out between two
/// transactions: then nobody hears what nodes tell each other, and prepared statements are another's.
pub(super) async fn own_sessions(clients: [&Object; 2]) -> Result<(), StoreError> {
    // Each says a name of its own; where both are one session behind the pooler, the second one has the last word.
    for (name, client) in clients.iter().enumerate() {
        client.batch_execute(&format!("SET uzel.session = 's{name}'")).await.map_err(failed)?;
    }
    for (name, client) in clients.iter().enumerate() {
        let said = client.simple_query("SELECT current_setting('uzel.session', true)").await.map_err(failed)?;
        let said = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        if said != Some(&*format!("s{name}")) {
            return Err(StoreError::Failed(
                "the database's address leads to a pooler that lends sessions out between transactions (PgBouncer with \
                 pool_mode = transaction): it must be pool_mode = session for this database, or let the hub connect to the server"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// A step of the schema, and when it was taken.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Migration {
    pub number: u32,
    pub name: String,
    pub applied: bool,
    /// SQLite does not keep it.
    pub applied_at: Option<Timestamp>,
}

pub(super) const NEWEST: i32 = STEPS[STEPS.len() - 1].0 as i32;

/// Takes the steps that are missing. An older program may go on beside a newer one as long as the steps it does not know say
/// that they need no newer program.
pub(super) async fn migrate(client: &mut Object, allowed: bool) -> Result<(), StoreError> {
    let mut told = false;
    while !take_steps(client, allowed).await? {
        if !told {
            tracing::warn!("a step of the schema waits for somebody who holds a table (a backup, perhaps); it is tried again");
            told = true;
        }
        tokio::time::sleep(MIGRATE_AGAIN).await;
    }
    Ok(())
}

/// False, and nothing done, where somebody holds a table that a step needs for itself: while it is waited for, all who work with
/// the table wait behind it.
async fn take_steps(client: &mut Object, allowed: bool) -> Result<bool, StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    // Another node's steps take as long as they take; a copy may take longer than anybody waits.
    work.batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0").await.map_err(failed)?;
    let alone = work.batch_execute("SELECT pg_advisory_xact_lock(2054841707, 0); SET LOCAL statement_timeout = 0").await;
    alone.map_err(|error| match error.code() {
        Some(&SqlState::QUERY_CANCELED) => {
            StoreError::Failed("the database is being copied, or migrated: start again when that has ended".to_owned())
        }
        _ => failed(error),
    })?;
    // Looked for first: a role that may only work with the tables may not even ask to make one that is there.
    let there = work.query_one("SELECT to_regclass('migration') IS NOT NULL", &[]).await.map_err(failed)?;
    if !get::<bool>(&there, 0)? {
        work.batch_execute(
            "CREATE TABLE migration
                 (number integer PRIMARY KEY, name text NOT NULL, needs integer NOT NULL, applied_at timestamptz NOT NULL)",
        )
        .await
        .map_err(failed)?;
    }
    let mut done = Vec::new();
    for row in work.query("SELECT number, needs FROM migration", &[]).await.map_err(failed)? {
        let (number, needs): (i32, i32) = (get(&row, 0)?, get(&row, 1)?);
        if needs > NEWEST {
            return Err(too_old(number, needs));
        }
        done.push(number);
    }
    for &(number, name, sql) in STEPS {
        if done.contains(&(number as i32)) {
            continue;
        }
        if !allowed {
            return Err(crate::lacks(number, name));
        }
        work.batch_execute("SET LOCAL lock_timeout = '1s'").await.map_err(failed)?;
        match work.batch_execute(sql).await {
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(false),
            taken => taken.map_err(failed)?,
        }
        let put = "INSERT INTO migration VALUES ($1, $2, $3, clock_timestamp())";
        work.execute(put, &[&(number as i32), &name, &needs(number, sql)]).await.map_err(failed)?;
    }
    events::go_on(&work).await?;
    work.commit().await.map_err(failed)?;
    Ok(true)
}

fn too_old(number: i32, needs: i32) -> StoreError {
    StoreError::Failed(format!(
        "the database is of version {number}, which needs a program that knows version {needs}: this one knows {NEWEST}"
    ))
}

/// Refuses to take up anything new where a newer program has meanwhile taken a step that this one must not work beside.
pub(super) fn may_work(core: &Core) -> Result<(), StoreError> {
    match core.needs.load(Ordering::Relaxed) {
        needs if needs > NEWEST => Err(too_old(needs, needs)),
        _ => Ok(()),
    }
}

/// The least step that a program must know to work on beside this one, as its file says. A step that does not say needs itself.
fn needs(number: u32, sql: &str) -> i32 {
    let said = sql.strip_prefix("-- needs ").and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    said.unwrap_or(number as i32)
}

/// The steps of the schema as the server has them, and those that it lacks.
pub(super) async fn migrations(options: &PostgresOptions) -> Result<Vec<Migration>, StoreError> {
    let (client, connection) = connect(&server(options)?).await?;
    let connection = tokio::spawn(connection);
    let there = client.query_one("SELECT to_regclass('migration') IS NOT NULL", &[]).await.map_err(failed)?;
    let mut migrations: Vec<Migration> = STEPS
        .iter()
        .map(|(number, name, ..)| Migration { number: *number, name: (*name).to_owned(), applied: false, applied_at: None })
        .collect();
    if get(&there, 0)? {
        let rows = client.query("SELECT number, name, applied_at FROM migration ORDER BY number", &[]).await.map_err(failed)?;
        for row in rows {
            let (number, name, applied_at) = (get::<i32>(&row, 0)?.unsigned_abs(), get(&row, 1)?, Some(get(&row, 2)?));
            match migrations.iter_mut().find(|known| known.number == number) {
                Some(known) => (known.applied, known.applied_at) = (true, applied_at),
                None => migrations.push(Migration { number, name, applied: true, applied_at }),
            }
        }
    }
    connection.abort();
    Ok(migrations)
}

type Messages = mpsc::UnboundedReceiver<AsyncMessage>;

/// A connection that hands on what the server says unasked.
async fn connect_to_listen(server: &Server) -> Result<(tokio_postgres::Client, Messages), StoreError> {
    let (said, messages) = mpsc::unbounded_channel();
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = $connection;
            tokio::spawn(async move {
                let mut stream = futures::stream::poll_fn(move |context| connection.poll_message(context));
                while let Some(Ok(message)) = stream.next().await {
                    if said.send(message).is_err() {
                        return;
                    }
                }
            });
        }};
    }
    let client = match tls(server)? {
        Some(tls) => {
            let (client, connection) = server.config.connect(tls).await.map_err(failed)?;
            drive!(connection);
            client
        }
        None => {
            let (client, connection) = server.config.connect(NoTls).await.map_err(failed)?;
            drive!(connection);
            client
        }
    };
    Ok((client, messages))
}

type Driven = futures::future::BoxFuture<'static, Result<(), tokio_postgres::Error>>;

async fn connect(server: &Server) -> Result<(tokio_postgres::Client, Driven), StoreError> {
    Ok(match tls(server)? {
        Some(tls) => {
            let (client, connection) = server.config.connect(tls).await.map_err(failed)?;
            (client, Box::pin(connection) as Driven)
        }
        None => {
            let (client, connection) = server.config.connect(NoTls).await.map_err(failed)?;
            (client, Box::pin(connection) as Driven)
        }
    })
}

/// Listens to the other nodes, tells them, keeps this node's row, looks for entries that nodes left, makes partitions.
pub(super) fn start(core: &Arc<Core>) {
    tokio::spawn(until_stop(core.clone(), listen(core.clone())));
    tokio::spawn(until_stop(core.clone(), tell(core.clone())));
    tokio::spawn(until_stop(core.clone(), beat(core.clone())));
}

async fn until_stop(core: Arc<Core>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = core.stop.cancelled() => {}
    }
}

async fn listen(core: Arc<Core>) {
    let own = format!("{} ", core.node);
    let mut pause = Duration::from_millis(100);
    let mut quiet = true;
    loop {
        let heard = async {
            let (client, messages) = connect_to_listen(&server(&core.options)?).await?;
            client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(failed)?;
            Ok::<_, StoreError>((client, messages))
        };
        match heard.await {
            Ok((client, mut messages)) => {
                if !quiet {
                    tracing::info!("the other nodes are heard again");
                }
                (pause, quiet) = (Duration::from_millis(100), true);
                // What was told meanwhile has been missed: all of it may have happened.
                for news in [News::Setup, News::Breakers, News::Due] {
                    drop(core.news.send(news));
                }
                core.events.send_modify(|changes| *changes += 1);
                while let Some(message) = messages.recv().await {
                    if let AsyncMessage::Notification(told) = message
                        && !told.payload().starts_with(&own)
                        && let Some((_, word)) = told.payload().split_once(' ')
                    {
                        match news(word) {
                            Some(news) => drop(core.news.send(news)),
                            None if word == EVENTS => core.events.send_modify(|changes| *changes += 1),
                            None => {}
                        }
                    }
                }
                drop(client);
            }
            Err(error) if quiet => {
                tracing::warn!("the other nodes are not heard now: {error}");
                quiet = false;
            }
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(CONNECT_AGAIN_MAX);
    }
}

async fn tell(core: Arc<Core>) {
    loop {
        core.told.filled.notified().await;
        let words: Vec<String> = std::mem::take(&mut *core.told.words.lock()).into_iter().collect();
        let payloads: Vec<String> = words.iter().map(|word| format!("{} {word}", core.node)).collect();
        let told = async {
            let client = core.writer().await?;
            let statement = client
                .prepare_cached("SELECT count(pg_notify($1, word)) FROM unnest($2::text[]) AS word")
                .await
                .map_err(failed)?;
            client.query(&statement, &[&CHANNEL, &payloads]).await.map_err(failed)
        };
        if told.await.is_err() {
            // It is told as soon as the server is there again.
            core.told.words.lock().extend(words);
            core.told.filled.notify_one();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(TELL_EVERY).await;
    }
}

async fn beat(core: Arc<Core>) {
    let (mut keeps_house_at, mut failing) = (Instant::now(), false);
    loop {
        let beaten = async {
            seen(&core).await?;
            look_around(&core).await?;
            if keeps_house_at <= Instant::now() {
                let all = keep_house(&core).await?;
                keeps_house_at = Instant::now() + if all { HOUSEKEEPING } else { HOUSEKEEPING_AGAIN };
            }
            Ok::<_, StoreError>(())
        };
        match beaten.await {
            Err(error) if !failing => {
                tracing::warn!("this node's beat fails, others may count it as gone: {error}");
                failing = true;
            }
            Err(error) => tracing::debug!("this node's beat still fails: {error}"),
            Ok(()) if failing => {
                tracing::info!("this node's beat is back");
                failing = false;
            }
            Ok(()) => {}
        }
        tokio::time::sleep(BEAT).await;
    }
}

/// Keeps this node's row: others count it as being at work.
async fn seen(core: &Core) -> Result<(), StoreError> {
    let client = core.writer().await?;
    let statement = client
        .prepare_cached(
            "INSERT INTO node VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp())
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .await
        .map_err(failed)?;
    let version = env!("CARGO_PKG_VERSION");
    client.execute(&statement, &[&core.node, &core.options.node, &version]).await.map_err(failed).map(drop)
}

/// Entries of a node that is gone, or was too slow, are anybody's. In the same breath: whether this program is still new enough.
async fn look_around(core: &Core) -> Result<(), StoreError> {
    let client = core.reader().await?;
    let statement = client
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM unread WHERE until <= clock_timestamp()), (SELECT max(needs) FROM migration)",
        )
        .await
        .map_err(failed)?;
    let seen = client.query_one(&statement, &[]).await.map_err(failed)?;
    if get(&seen, 0)? {
        core.handover.left_some();
    }
    let needs: i32 = get(&seen, 1)?;
    if core.needs.swap(needs, Ordering::Relaxed) != needs && needs > NEWEST {
        let error = too_old(needs, needs);
        tracing::error!("this node takes up nothing new, and ends what it has in hand: {error}; start the new program here too");
    }
    Ok(())
}

/// Whether all of it could be done: else it is tried again soon.
async fn keep_house(core: &Core) -> Result<bool, StoreError> {
    let mut client = core.writer().await?;
    let all = partitions::ahead(&mut client).await?;
    client
        .batch_execute(&format!(
            "DELETE FROM called_off WHERE at < clock_timestamp() - interval '30 days';
             DELETE FROM once WHERE until < clock_timestamp() - interval '1 day';
             DELETE FROM answer WHERE until < clock_timestamp() - interval '1 day';
             DELETE FROM audit WHERE at < clock_timestamp() - interval '{AUDIT_DAYS} days';
             DELETE FROM setup_version
                 WHERE id IN (SELECT id FROM removed WHERE at < clock_timestamp() - interval '{AUDIT_DAYS} days');
             DELETE FROM removed WHERE at < clock_timestamp() - interval '{AUDIT_DAYS} days';
             {SWEEP};
             DELETE FROM node WHERE seen_at < clock_timestamp() - interval '1 day';
             DELETE FROM turn WHERE taken_at < clock_timestamp() - interval '30 days' AND until < clock_timestamp()"
        ))
        .await
        .map_err(failed)?;
    Ok(all)
}

/// What this node meant to read is anybody's, and others do not count it any more.
pub(super) async fn leave(core: &Core) {
    let left = async {
        let client = core.writer().await?;
        let own: Vec<uuid::Uuid> = core.handover.give_up();
        client.execute("UPDATE unread SET until = '-infinity' WHERE entry = ANY($1)", &[&own]).await.map_err(failed)?;
        client.execute("DELETE FROM node WHERE id = $1", &[&core.node]).await.map_err(failed)
    };
    if let Err(error) = left.await {
        tracing::debug!("this node's row stays until it is old: {error}");
    }
}

/// Something that goes to disk and changes nothing.
pub(super) async fn writable(core: &Core) -> Result<(), StoreError> {
    may_work(core)?;
    seen(core).await
}

pub(super) async fn clock(client: &impl GenericClient) -> Result<Timestamp, StoreError> {
    let statement = client.prepare_cached("SELECT clock_timestamp()").await.map_err(failed)?;
    get(&client.query_one(&statement, &[]).await.map_err(failed)?, 0)
}

pub(super) async fn about(client: &impl GenericClient) -> Result<About, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT current_setting('server_version'), (SELECT max(number) FROM migration), pg_database_size(current_database()),
             (SELECT count(*) FROM node WHERE seen_at > clock_timestamp() - interval '30 seconds')",
        )
        .await
        .map_err(failed)?;
    let row = client.query_one(&statement, &[]).await.map_err(failed)?;
    Ok(About {
        kind: "PostgreSQL",
        version: get(&row, 0)?,
        schema: get::<i32>(&row, 1)?.unsigned_abs(),
        schema_known: NEWEST.unsigned_abs(),
        bytes: get::<i64>(&row, 2)?.unsigned_abs(),
        nodes: get::<i64>(&row, 3)? as u32,
    })
}
