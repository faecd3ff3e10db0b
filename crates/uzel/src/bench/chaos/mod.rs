//! Several nodes on one database are broken in every way that a night may bring, under load; then what they answered "ok" to is
//! counted.
//!
//! The judge shares no code with the hub: it reads the database by its own SQL and counts what the provider got.

mod judge;
mod nodes;
mod provider;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uzel_servers::{Options, Postgres};

use self::{nodes::Nodes, provider::Provider};
use super::{
    KEY,
    load::{Load, Wire},
    rounded,
};

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
    /// A node's clock is minutes ahead or behind.
    Clock,
    /// All of them, mixed.
    All,
}

const FAULTS: [Fault; 6] = [Fault::Kill, Fault::Freeze, Fault::Restart, Fault::Drop, Fault::Pool, Fault::Clock];
/// Orders of one guest: their texts go one after another.
const ORDERS_A_GUEST: u64 = 4;
const CONNECTIONS: usize = 24;
/// After so long without an answer the next node is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES_FOR: Duration = Duration::from_secs(120);

/// What the load came to so far.
struct Posted {
    accepted: Vec<AtomicBool>,
    next: AtomicU64,
    refused: AtomicU64,
    began: Instant,
    /// When a request was last answered 2xx, and the longest time without one, in milliseconds.
    last_ms: AtomicU64,
    silence_ms: AtomicU64,
}

pub(crate) async fn run(fault: Fault, nodes: usize, events: u64, seed: u64, time: Duration) -> anyhow::Result<Value> {
    ensure!((1..1_000_000).contains(&events), "--events: from 1 to a million");
    ensure!((1..=16).contains(&nodes), "--nodes: from 1 to 16");
    let mut random = StdRng::seed_from_u64(seed);
    let postgres = Arc::new(Postgres::start_with(&Options { max_connections: 20 + 20 * nodes as u32, ..Options::default() })?);
    let provider = Provider::start(events).await?;
    let mut nodes = Nodes::start(&postgres.url(), nodes).await?;
    nodes.set_up(&provider).await?;
    let posted = Arc::new(Posted {
        accepted: (0..events).map(|_| AtomicBool::new(false)).collect(),
        next: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        began: Instant::now(),
        last_ms: AtomicU64::new(0),
        silence_ms: AtomicU64::new(0),
    });
    let mut posters = post_all(&nodes, &posted, time);
    let progress = ProgressBar::new(events);
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} webhooks, {msg}").context("the bar's own template")?);
    let mut done: Vec<&str> = Vec::new();
    let mut turn = 0;
    while posters.try_join_next().is_none() && posted.next.load(Ordering::Relaxed) < events {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1_200))).await;
        // Of a mix each kind comes once before any comes again, however short the run is.
        let fault = if fault == Fault::All { FAULTS[turn % FAULTS.len()] } else { fault };
        turn += 1;
        progress.set_message(format!("{} faults", done.len()));
        progress.set_position(posted.next.load(Ordering::Relaxed).min(events));
        done.push(nodes.suffer(fault, &postgres, &mut random).await?);
    }
    while let Some(ended) = posters.join_next().await {
        ended??;
    }
    progress.finish_and_clear();
    nodes.heal().await?;
    let quiet = Instant::now();
    nodes.quiet().await?;
    let quiet_s = quiet.elapsed().as_secs_f64();
    let found = nodes.fsck().await?;
    ensure!(found["found"] == json!([]), "seed {seed}: fsck finds {found}");
    let verdict = judge::judge(&postgres.url(), &posted.accepted, &provider).await.with_context(|| format!("seed {seed}"))?;
    Ok(json!({
        "seed": seed, "fault": format!("{fault:?}").to_lowercase(), "faults": done, "nodes": nodes.count(), "events": events,
        "seconds": rounded(posted.began.elapsed().as_secs_f64()), "seconds_to_quiet": rounded(quiet_s),
        "refused": posted.refused.load(Ordering::Relaxed),
        "longest_without_2xx_s": rounded(posted.silence_ms.load(Ordering::Relaxed) as f64 / 1_000.0), "fsck": "clean",
        "verdict": verdict,
    }))
}

/// Posts every order, evenly over the time, to one node after another until one takes it.
fn post_all(nodes: &Nodes, posted: &Arc<Posted>, time: Duration) -> JoinSet<anyhow::Result<()>> {
    let body = json!({ "order": {
        "id": "#######", "status": "Completed", "customer": { "name": "Guest", "phone": "+7999@@@@@@@" }, "comment": "x".repeat(300)
    } });
    let loads: Vec<_> = nodes
        .addresses()
        .into_iter()
        .map(|address| (address, format!("/api/webhook/rkeeper?key={KEY}"), body.to_string()))
        .collect();
    let loads = Arc::new(loads);
    let mut posters = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (loads, posted) = (loads.clone(), posted.clone());
        posters.spawn(async move {
            loop {
                let number = posted.next.fetch_add(1, Ordering::Relaxed);
                let Some(accepted) = posted.accepted.get(number as usize) else { return Ok(()) };
                let due = posted.began + time.mul_f64(number as f64 / posted.accepted.len() as f64);
                tokio::time::sleep_until(due.into()).await;
                let deadline = Instant::now() + TRIES_FOR;
                let mut node = number as usize;
                loop {
                    let (address, target, body) = &loads[node % loads.len()];
                    let body = body.replace("@@@@@@@", &format!("{:07}", number / ORDERS_A_GUEST));
                    let load = Load::new(*address, target, "", &body, 0);
                    let asked = async {
                        let mut wire = Wire::open(&load).await?;
                        wire.send(number, Instant::now()).await
                    };
                    if let Ok(Ok(true)) = tokio::time::timeout(PATIENCE, asked).await {
                        accepted.store(true, Ordering::Relaxed);
                        let now_ms = posted.began.elapsed().as_millis() as u64;
                        let last_ms = posted.last_ms.swap(now_ms, Ordering::Relaxed);
                        posted.silence_ms.fetch_max(now_ms.saturating_sub(last_ms), Ordering::Relaxed);
                        break;
                    }
                    posted.refused.fetch_add(1, Ordering::Relaxed);
                    ensure!(Instant::now() < deadline, "order {number} was taken by no node in {TRIES_FOR:?}");
                    node += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
    }
    posters
}
