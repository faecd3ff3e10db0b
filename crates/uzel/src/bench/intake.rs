//! Webhooks accepted durably, beside what a bare server reaches on the same store.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use super::{
    Options, SHARE, ceiling,
    driven::Driven,
    hubs::Hubs,
    load::{Load, Outcome, Until},
    order, own, pgbench, rounded, setup,
};

/// What stands beside the hub.
pub(super) enum Beside<'a> {
    /// The harness on SQLite, which ends with its process.
    Harness {
        load: Arc<Load>,
        _process: Child,
    },
    Pgbench(&'a super::hubs::Database),
}

/// Figures of either, with what ratios are made of.
pub(super) struct Measured {
    told: Value,
    pub(super) per_s: f64,
    p50_and_p99: Option<(f64, f64)>,
}

impl From<Outcome> for Measured {
    fn from(outcome: Outcome) -> Self {
        let (p50, p99) = (outcome.quantile(0.5), outcome.quantile(0.99));
        let told = json!({
            "per_s": outcome.per_s().round(), "p50_ms": rounded(p50), "p99_ms": rounded(p99), "refused": outcome.refused,
        });
        Self { told, per_s: outcome.per_s(), p50_and_p99: Some((p50, p99)) }
    }
}

impl<'a> Beside<'a> {
    pub(super) async fn start(hubs: &'a Hubs) -> anyhow::Result<Self> {
        if let Some(database) = &hubs.database {
            return Ok(Self::Pgbench(database));
        }
        let mut harness = own(&["bench", "ceiling"])?;
        let mut lines = BufReader::new(harness.stdout.take().context("the harness's output")?).lines();
        let address: SocketAddr = lines.next_line().await?.context("the harness did not start")?.parse()?;
        // The number changes in the path here, so that one signature fits all and the load generator need not sign.
        let body = order("000000000000").replace('#', "0");
        let signature = format!("x-signature: {}\r\n", ceiling::sign(body.as_bytes()));
        let load = Load::new(address, "/############", &signature, &body, 0);
        Ok(Self::Harness { load, _process: harness })
    }

    pub(super) async fn closed(&self, connections: usize, time: Duration) -> anyhow::Result<Measured> {
        match self {
            Self::Harness { load, .. } => Ok(load.closed(connections, Until::Time(time)).await?.into()),
            Self::Pgbench(database) => {
                let ceiling = pgbench::single_inserts(database, connections, time).await?;
                let told = json!({ "per_s": ceiling.per_s.round(), "mean_ms": rounded(ceiling.mean_ms), "refused": 0 });
                Ok(Measured { told, per_s: ceiling.per_s, p50_and_p99: None })
            }
        }
    }

    /// At an even rate; pgbench's is even in the mean.
    pub(super) async fn open(&self, connections: usize, time: Duration, per_s: f64) -> anyhow::Result<Measured> {
        match self {
            Self::Harness { load, .. } => Ok(load.open(connections, time, per_s).await?.into()),
            Self::Pgbench(database) => Ok(pgbench::at_rate(database, connections, time, per_s).await?.into()),
        }
    }
}

pub(super) async fn run(hubs: &Hubs, options: &Options) -> anyhow::Result<Value> {
    let hub = hubs.first();
    hubs.apply(&setup()).await?;
    let idle = hubs.memory_mib();
    let before = journalled(hub).await?;
    let beside = Beside::start(hubs).await?;
    let ours = hubs.webhook(0);
    let time = Duration::from_secs(options.seconds);
    let mut taken = 0;

    let mut closed = Vec::new();
    let mut rate = 0.0;
    for connections in [1, options.connections] {
        let ceiling = beside.closed(connections, time).await?;
        let own = ours.closed(connections, Until::Time(time)).await?;
        taken += own.accepted;
        rate = own.per_s();
        let mut figures = compare(Some(&ceiling), &own.into());
        let began = Instant::now();
        figures["hub"]["unread_at_the_end"] = json!(hub.quiet().await?);
        figures["hub"]["seconds_to_quiet"] = json!(rounded(began.elapsed().as_secs_f64()));
        closed.push(figures);
    }
    // Both at one rate, which the hub can keep: else the latencies could not be compared.
    let ceiling = beside.open(options.connections, time, rate * SHARE).await?;
    let own = ours.open(options.connections, time, rate * SHARE).await?;
    taken += own.accepted;
    hub.quiet().await?;

    let journalled = journalled(hub).await? - before;
    ensure!(journalled >= taken, "{taken} requests were answered 2xx, but only {journalled} are journalled");
    Ok(json!({
        "store": hubs.store.word(), "nodes": hubs.count(),
        "one_connection": closed.first(), "all_connections": closed.last(),
        "open_loop_at_70_percent_of_the_hub": compare(Some(&ceiling), &own.into()),
        "connections": options.connections, "answered_2xx": taken, "journalled": journalled,
        "memory_mib": { "idle": idle, "after": hubs.memory_mib() },
    }))
}

async fn journalled(hub: &Driven) -> anyhow::Result<u64> {
    let mut all = 0;
    for state in ["unread", "read", "duplicate", "dead"] {
        all += hub.count("entries", state).await?;
    }
    Ok(all)
}

pub(super) fn compare(ceiling: Option<&Measured>, own: &Measured) -> Value {
    let Some(ceiling) = ceiling else { return json!({ "hub": own.told }) };
    let ratio = |own: f64, ceiling: f64| rounded(own / ceiling.max(f64::MIN_POSITIVE));
    let mut ratios = json!({ "per_s": ratio(own.per_s, ceiling.per_s) });
    if let (Some(own), Some(ceiling)) = (own.p50_and_p99, ceiling.p50_and_p99) {
        ratios["p50"] = json!(ratio(own.0, ceiling.0));
        ratios["p99"] = json!(ratio(own.1, ceiling.1));
    }
    json!({ "ceiling": ceiling.told, "hub": own.told, "hub_to_ceiling": ratios })
}
