//! Several nodes on one database and one NATS server are broken in every way that a night may bring, under load; then what they
//! answered "ok" to is counted.
//!
//! The judges share no code with the hub: they read the database by their own SQL and the stream by the stock client, and count
//! what the provider got.

mod faults;
mod history;
mod judge;
mod nodes;
mod order;
mod orders;
mod post;
mod provider;
mod stream;

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};
use uzel_servers::{Nats, Options, Postgres, Sync};

use self::{
    nodes::{Nodes, Servers},
    orders::STUCK,
    post::{Posted, post_all},
    provider::Provider,
};
use super::rounded;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// A node is killed, and started again.
    Kill,
    /// A node stands still for longer than its leases, and goes on.
    Freeze,
    /// The database ends at once, and is started again.
    Restart,
    /// All sessions of the database are ended.
    Drop,
    /// Others take nearly all connections of the database.
    Pool,
    /// Others lock the tables, until all connections of the nodes wait.
    Block,
    /// The NATS server is killed, and started again.
    Nats,
    /// A node's clock is minutes ahead or behind.
    Clock,
    /// All of them, mixed.
    All,
}

/// So long nothing may stand still afterwards, however slow the machine is.
const STANDSTILL: Duration = Duration::from_secs(60);
/// Of a mix the short ones come first.
const FAULTS: [Fault; 8] =
    [Fault::Kill, Fault::Nats, Fault::Restart, Fault::Drop, Fault::Block, Fault::Clock, Fault::Pool, Fault::Freeze];

pub(crate) async fn run(fault: Fault, nodes: usize, events: u64, seed: u64, time: Duration) -> anyhow::Result<Value> {
    ensure!((1..1_000_000).contains(&events), "--events: from 1 to a million");
    ensure!((1..=16).contains(&nodes), "--nodes: from 1 to 16");
    let mut random = StdRng::seed_from_u64(seed);
    let options = Options { max_connections: 20 + 20 * nodes as u32, ..Options::default() };
    let servers = Servers { postgres: Arc::new(Postgres::start_with(&options)?), nats: Arc::new(Nats::start(Sync::Default)?) };
    let provider = Provider::start(events).await?;
    let mut nodes = Nodes::start(&servers, nodes).await?;
    nodes.set_up(&provider).await?;
    history::record(&connect(&servers).await?).await?;
    let posted = Posted::new(events);
    let mut posters = post_all(&nodes.addresses(), &posted, time);
    let progress = ProgressBar::new(events);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} webhooks, {msg}").context("the bar's own template")?);
    let mut done: Vec<&str> = Vec::new();
    // Of a mix each kind comes once before any comes again, however short the run is.
    let once = if fault == Fault::All { FAULTS.len() } else { 1 };
    while posted.taken_up() < events || done.len() < once {
        if let Some(ended) = posters.try_join_next() {
            ended??;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1_200))).await;
        let fault = if fault == Fault::All { FAULTS[done.len() % FAULTS.len()] } else { fault };
        progress.set_message(format!("{} faults", done.len()));
        progress.set_position(posted.taken_up());
        done.push(nodes.suffer(fault, &servers, &mut random).await.with_context(|| format!("seed {seed}, {fault:?}"))?);
    }
    while let Some(ended) = posters.join_next().await {
        ended??;
    }
    progress.finish_and_clear();
    nodes.heal().await?;
    let quiet = Instant::now();
    let client = connect(&servers).await?;
    others_end(&client, &provider).await.with_context(|| format!("seed {seed}"))?;
    let others_s = quiet.elapsed().as_secs_f64();
    provider.free();
    nodes.quiet().await?;
    let called_s = quiet.elapsed().as_secs_f64();
    stream::published(&client).await.with_context(|| format!("seed {seed}"))?;
    let quiet_s = quiet.elapsed().as_secs_f64();
    let found = nodes.fsck().await?;
    ensure!(found["found"] == json!([]), "seed {seed}: fsck finds {found}");
    let verdict = judge::judge(&client, &posted, &provider).await.with_context(|| format!("seed {seed}"))?;
    let stream = stream::judge(&client, &servers.nats.url()).await.with_context(|| format!("seed {seed}"))?;
    Ok(json!({
        "seed": seed, "fault": format!("{fault:?}").to_lowercase(), "faults": done, "nodes": nodes.count(), "events": events,
        "seconds": rounded(posted.began.elapsed().as_secs_f64()), "seconds_to_quiet": rounded(quiet_s),
        "of_them": { "all_but_one_guest": rounded(others_s), "all_calls": rounded(called_s) },
        "refused": posted.refused.load(Ordering::Relaxed), "longest_without_2xx_s": rounded(posted.silence_s()),
        "fsck": "clean", "verdict": verdict, "stream": stream,
    }))
}

/// A session of ours beside the hub's.
async fn connect(servers: &Servers) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(&servers.postgres.url(), NoTls).await?;
    // Its end is told by the client's next query.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// One key that cannot be sent holds none of the others back: they all end while it waits.
async fn others_end(client: &Client, provider: &Provider) -> anyhow::Result<()> {
    let (mut left, mut moved) = ((0, 0), Instant::now());
    loop {
        let unread: i64 = client.query_one("SELECT count(*) FROM unread", &[]).await?.try_get(0)?;
        let others = client
            .query(
                "SELECT c.job::json ->> 'phone', (w.next_at - clock_timestamp())::text
                 FROM waiting w JOIN command c ON c.id = w.command WHERE c.job::json ->> 'phone' <> $1",
                &[&orders::phone(STUCK)],
            )
            .await?;
        if unread == 0 && others.is_empty() {
            return Ok(());
        }
        if left != (unread, others.len()) {
            (left, moved) = ((unread, others.len()), Instant::now());
        }
        if moved.elapsed() > STANDSTILL {
            let mut waits = String::new();
            for row in &others {
                let (phone, due): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
                waits += &format!("\n{phone} may be written to in {due}");
            }
            let keys = history::read(client, provider).await?;
            let one =
                keys.iter().find(|(guest, _)| others.first().is_some_and(|row| row.get::<_, &str>(0) == orders::phone(**guest)));
            let one = one.map_or(String::new(), |(guest, key)| format!("\nguest {guest}:\n{key}"));
            bail!("one guest cannot be written to, and {unread} entries and {} texts to others wait:{waits}{one}", others.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
