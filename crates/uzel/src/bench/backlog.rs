//! A backlog that grows: what an event costs then, how much memory the hub needs, and how long a start takes.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    hubs::{Hubs, On},
    load::{Load, Until, Wire},
    rounded,
    stub::Stub,
};

/// The load is posted in so many parts, each measured by itself.
const PARTS: u64 = 10;

pub(crate) async fn run(on: &On, connections: usize, events: u64) -> anyhow::Result<Value> {
    ensure!((PARTS..10_000_000).contains(&events), "--events: from 10 to ten million, as there are phones that begin with +7999");
    let stub = Stub::start(0).await?;
    let mut hubs = Hubs::start(on).await?;
    hubs.apply(&super::delivery_setup(&stub, "1d")).await?;
    let load = hubs.webhook(0);
    let mut per_s = Vec::new();
    for _ in 0..PARTS {
        let began = Instant::now();
        let posted = load.closed(connections, Until::Count(events / PARTS)).await?;
        hubs.first().read().await?;
        per_s.push((posted.accepted as f64 / began.elapsed().as_secs_f64()).round());
    }
    let waiting = hubs.first().count("commands", "waiting").await?;
    ensure!(waiting == events / PARTS * PARTS, "{waiting} texts wait");
    let memory = hubs.memory_mib();
    let mib = hubs.store_mib()?;

    let began = Instant::now();
    hubs.first_mut().kill()?;
    let first = first_answer(&load, began).await?;
    let (one, last) = (per_s.first().copied().unwrap_or_default(), per_s.last().copied().unwrap_or_default());
    Ok(json!({
        "store": on.store.word(), "nodes": on.nodes, "waiting": waiting, "events_per_s_by_part": per_s, "last_part_to_first": rounded(last / one),
        "memory_mib": memory, "database_mib": mib, "start_to_first_2xx_ms": rounded(first),
    }))
}

/// How many milliseconds after this moment a webhook is answered 2xx.
pub(super) async fn first_answer(load: &std::sync::Arc<Load>, began: Instant) -> anyhow::Result<f64> {
    let deadline = began + std::time::Duration::from_secs(60);
    loop {
        ensure!(Instant::now() < deadline, "the hub does not come back");
        if let Ok(mut wire) = Wire::open(load).await {
            let ok = wire.send(load.take(), Instant::now()).await.context("the first request after the start")?;
            ensure!(ok, "the first request after the start was refused");
            return Ok(began.elapsed().as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(std::time::Duration::from_micros(500)).await;
    }
}
