//! The bare harness of the road out: it leases, posts and settles rows of the same size, and does nothing else.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use anyhow::Context;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::{sync::oneshot, task::JoinSet};

const GROUP: usize = 1_024;
/// As many calls under way as the hub allows itself.
const WORKERS: usize = 64;

const SCHEMA: &str = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-16384;
    CREATE TABLE work (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, job TEXT NOT NULL) STRICT;
    CREATE INDEX work_due ON work (id) WHERE state = 0;
    CREATE TABLE exchange (id INTEGER PRIMARY KEY, work INTEGER NOT NULL, request TEXT NOT NULL, response TEXT NOT NULL) STRICT;";

enum Task {
    Lease(oneshot::Sender<Option<(i64, String)>>),
    Settle { work: i64, request: String, response: String, settled: oneshot::Sender<()> },
}

/// Sends so many rows to the stub; how many a second.
pub(crate) async fn run(folder: &Path, url: String, rows: u64) -> anyhow::Result<f64> {
    let mut db = Connection::open(folder.join("bare.db")).context("the bare harness's rows")?;
    db.execute_batch(SCHEMA)?;
    let transaction = db.transaction()?;
    for row in 0..rows {
        let form = format!("api_id=A1B2C3D4-1111-2222-3333-444455556666&json=1&to=7999{row:07}&msg=Thank+you%21");
        transaction.execute("INSERT INTO work (state, job) VALUES (0, ?1)", [form])?;
    }
    transaction.commit()?;
    let (tasks, waiting) = mpsc::channel();
    thread::Builder::new().name("bare-writer".to_owned()).spawn(move || write(db, &waiting))?;
    let tasks = Arc::new(tasks);
    let web = reqwest::Client::builder().no_proxy().build()?;
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work(tasks.clone(), web.clone(), url.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}

async fn work(tasks: Arc<mpsc::Sender<Task>>, web: reqwest::Client, url: String) -> anyhow::Result<()> {
    loop {
        let (tell, leased) = oneshot::channel();
        tasks.send(Task::Lease(tell)).context("the writer has ended")?;
        let Some((work, request)) = leased.await? else { return Ok(()) };
        let post = web.post(&url).header("content-type", "application/x-www-form-urlencoded").body(request.clone());
        let response = post.send().await?.text().await?;
        let (settled, told) = oneshot::channel();
        tasks.send(Task::Settle { work, request, response, settled }).context("the writer has ended")?;
        told.await?;
    }
}

fn write(mut db: Connection, waiting: &mpsc::Receiver<Task>) {
    while let Ok(first) = waiting.recv() {
        let group: Vec<Task> = std::iter::once(first).chain(waiting.try_iter().take(GROUP - 1)).collect();
        if let Err(error) = keep(&mut db, group) {
            tracing::error!(%error, "the bare harness cannot write");
            return;
        }
    }
}

fn keep(db: &mut Connection, group: Vec<Task>) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    // Told after the commit: who hung up need not be told.
    let mut told: Vec<Box<dyn FnOnce()>> = Vec::with_capacity(group.len());
    for task in group {
        match task {
            Task::Lease(tell) => {
                let row = transaction
                    .prepare_cached(
                        "UPDATE work SET state = 1 WHERE id = (SELECT id FROM work WHERE state = 0 ORDER BY id LIMIT 1) RETURNING id, job",
                    )?
                    .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                told.push(Box::new(move || drop(tell.send(row))));
            }
            Task::Settle { work, request, response, settled } => {
                transaction.prepare_cached("UPDATE work SET state = 2 WHERE id = ?1")?.execute([work])?;
                transaction
                    .prepare_cached("INSERT INTO exchange (work, request, response) VALUES (?1, ?2, ?3)")?
                    .execute(params![work, request, response])?;
                told.push(Box::new(move || settled.send(()).unwrap_or_default()));
            }
        }
    }
    transaction.commit()?;
    told.into_iter().for_each(|tell| tell());
    Ok(())
}
