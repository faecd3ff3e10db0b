//! The hub is killed at random moments under load; then what it answered "ok" to is counted.
//!
//! The checker shares no code with the hub: it reads the database file by its own SQL and counts what the stub got.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    driven::Driven,
    load::{Load, Wire},
    rounded,
    stub::Stub,
};

/// Calls that the hub may have under way, each of which a kill may leave unknown.
const IN_FLIGHT_MAX: u64 = 64;

/// Numbers that were answered 2xx.
struct Accepted(Vec<AtomicBool>);

pub(crate) async fn run(connections: usize, kills: u32, events: u64, seed: u64) -> anyhow::Result<Value> {
    ensure!((1..10_000_000).contains(&events), "--events: from 1 to ten million, as there are phones that begin with +7999");
    let mut random = StdRng::seed_from_u64(seed);
    let stub = Stub::start(events as usize).await?;
    let mut hub = Driven::start().await?;
    hub.apply(&super::delivery_setup(&stub, "0s")).await?;
    let accepted = Arc::new(Accepted((0..events).map(|_| AtomicBool::new(false)).collect()));
    let began = Instant::now();
    let load = super::webhook(vec![hub.address], "", 0);
    let posters = post_all(&load, &accepted, connections, events);
    let progress = ProgressBar::new(u64::from(kills));
    progress.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} kills, {msg}").context("the bar's own template")?);

    // Kills are spread over the whole load: each after its share of the requests, a little before or after.
    for kill in 0..u64::from(kills) {
        let share = events * (kill + 1) / (u64::from(kills) + 1);
        while load.next() < share {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..50))).await;
        hub.kill()?;
        hub.answers().await?;
        progress.set_message(format!("{} requests", load.next()));
        progress.inc(1);
    }
    posters.join_all().await.into_iter().collect::<anyhow::Result<()>>()?;
    progress.finish_and_clear();
    hub.quiet().await?;
    let seconds = began.elapsed().as_secs_f64();
    let found = hub.post("/api/v1/fsck", &json!({})).await?;
    ensure!(found["found"] == json!([]), "fsck finds: {found}");
    let verdict = judge(&hub.data()?.join("uzel.db"), &accepted, &stub, kills)?;
    Ok(json!({
        "seed": seed, "kills": kills, "seconds": rounded(seconds), "fsck": "clean", "memory_mib": hub.memory_mib(),
        "verdict": verdict,
    }))
}

/// Posts every number once, however often the hub goes away.
fn post_all(load: &Arc<Load>, accepted: &Arc<Accepted>, connections: usize, events: u64) -> JoinSet<anyhow::Result<()>> {
    let mut posters = JoinSet::new();
    for _ in 0..connections {
        let (load, accepted) = (load.clone(), accepted.clone());
        posters.spawn(async move {
            let mut wire = None;
            loop {
                let number = load.take();
                let Some(answered) = accepted.0.get(number as usize).filter(|_| number < events) else { return Ok(()) };
                if wire.is_none() {
                    wire = Some(connect(&load).await?);
                }
                let Some(open) = &mut wire else { continue };
                match open.send(number, Instant::now()).await {
                    Ok(ok) => answered.store(ok, Ordering::Relaxed),
                    Err(_) => wire = None,
                }
            }
        });
    }
    posters
}

/// Knocks until the hub is back.
async fn connect(load: &Arc<Load>) -> anyhow::Result<Wire> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Wire::open(load).await {
            Ok(wire) => return Ok(wire),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// Every 2xx is in the inbox; every order there led to its text once or stands as unknown; none twice.
fn judge(file: &Path, accepted: &Accepted, stub: &Stub, kills: u32) -> anyhow::Result<Value> {
    let db = rusqlite::Connection::open(file)?;
    let numbers = |sql: &str| -> anyhow::Result<HashSet<u64>> {
        let mut rows = db.prepare(sql)?;
        let numbers = rows.query_map([], |row| row.get::<_, String>(0))?;
        numbers.map(|number| Ok(number?.parse()?)).collect()
    };
    let journalled = numbers("SELECT json_extract(body, '$.order.id') FROM inbox")?;
    let unknown = numbers("SELECT substr(json_extract(job, '$.phone'), -7) FROM command WHERE state = 4")?;
    let mut sums = [0_u64; 2];
    for (number, answered) in accepted.0.iter().enumerate() {
        let (number, answered) = (number as u64, answered.load(Ordering::Relaxed));
        let times = stub.arrivals.times(number);
        ensure!(!answered || journalled.contains(&number), "order {number} was answered 2xx and is not in the inbox");
        ensure!(times <= 1, "the text of order {number} was sent {times} times");
        let settled = times == 1 || unknown.contains(&number) || !journalled.contains(&number);
        ensure!(settled, "order {number} is in the inbox, but its text is neither sent nor unknown");
        sums[0] += u64::from(answered);
        sums[1] += u64::from(times);
    }
    let unknown = unknown.len() as u64;
    ensure!(unknown <= u64::from(kills) * IN_FLIGHT_MAX, "{unknown} texts are unknown after {kills} kills");
    Ok(json!({
        "answered_2xx": sums[0], "journalled": journalled.len(), "sent_once": sums[1], "sent_twice": 0, "unknown": unknown,
        "unknown_max": u64::from(kills) * IN_FLIGHT_MAX,
    }))
}
