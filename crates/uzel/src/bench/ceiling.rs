//! The ceiling: what a server can reach on this machine that does nothing but check a signature and keep three rows.
//!
//! The same HTTP server as the hub's, an HMAC over the body, and three inserted rows in one group-committed SQLite transaction.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context;
use axum::{
    Router,
    extract::{Path as UrlPath, State},
    http::{HeaderMap, StatusCode},
    routing::post,
    serve::ListenerExt,
};
use bytes::Bytes;
use rusqlite::Connection;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use uzel_model::signature;

/// The key that the load generator signs with.
const KEY: &[u8] = b"the key of the ceiling harness";
/// No more requests than this share one commit.
const GROUP: usize = 1_024;

const SCHEMA: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-16384;
    CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE event (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, entry INTEGER NOT NULL) STRICT;
    CREATE TABLE command (id INTEGER PRIMARY KEY, event INTEGER NOT NULL, state TEXT NOT NULL) STRICT;";

/// One request on its way to the writer, with whom to tell that it is kept.
struct Row {
    key: String,
    body: Bytes,
    kept: oneshot::Sender<()>,
}

/// The running harness; its port closes when this is dropped.
pub(crate) struct Ceiling {
    pub(crate) address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ceiling {
    /// Starts on a free port with its rows in this folder.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(folder.join("ceiling.db")).context("the ceiling's rows")?;
        connection.execute_batch(SCHEMA).context("the ceiling's tables")?;
        let (rows, received) = mpsc::channel();
        thread::Builder::new().name("ceiling-writer".to_owned()).spawn(move || write(connection, &received))?;
        let router = Router::new().route("/{key}", post(take)).with_state(Arc::new(rows));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        // Answers are small: they must not wait for more of them.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, task })
    }
}

/// The signature that this body has to come with.
pub(crate) fn sign(body: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let nibbles = signature::hmac_sha256(KEY, body).into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
    nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
}

async fn take(
    State(rows): State<Arc<mpsc::Sender<Row>>>,
    UrlPath(key): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let given = headers.get("x-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !signature::equal(&sign(&body), given) {
        return StatusCode::UNAUTHORIZED;
    }
    let (kept, told) = oneshot::channel();
    if rows.send(Row { key, body, kept }).is_err() || told.await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    StatusCode::OK
}

/// Groups by what is waiting; ends when nobody can send any more, or with the first failure.
fn write(mut connection: Connection, received: &mpsc::Receiver<Row>) {
    while let Ok(first) = received.recv() {
        let group: Vec<Row> = std::iter::once(first).chain(received.try_iter().take(GROUP - 1)).collect();
        if let Err(error) = keep(&mut connection, &group) {
            tracing::error!(%error, "the ceiling harness cannot write");
            return;
        }
        for row in group {
            // Who hung up need not be told.
            row.kept.send(()).ok();
        }
    }
}

fn keep(connection: &mut Connection, group: &[Row]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut entry = transaction.prepare_cached("INSERT INTO entry (body) VALUES (?1)")?;
        let mut event = transaction.prepare_cached("INSERT INTO event (key, entry) VALUES (?1, ?2)")?;
        let mut command = transaction.prepare_cached("INSERT INTO command (event, state) VALUES (?1, 'waiting')")?;
        for row in group {
            let entry = entry.insert((row.body.as_ref(),))?;
            let event = event.insert((&row.key, entry))?;
            command.insert((event,))?;
        }
    }
    transaction.commit()
}
