//! From a webhook to the text at the provider.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Options, SHARE, delivery_setup,
    hubs::Hubs,
    load::{self, Until},
    own, pgbench, rounded,
    stub::Stub,
};

pub(super) async fn run(hubs: &Hubs, options: &Options, events: u64) -> anyhow::Result<Value> {
    let hub = hubs.first();
    let time = Duration::from_secs(options.seconds);
    // Room for the open loop, should it be as fast as any hub was ever seen.
    let phones = (events + 50_000 * options.seconds).min(10_000_000);
    ensure!(events < phones, "--events: there are only ten million phones that begin with +7999");
    let ceiling = match &hubs.database {
        Some(database) => pgbench::single_inserts(database, options.connections, time).await?.per_s,
        None => bare(&Stub::start(phones as usize).await?, events).await?,
    };
    let stub = Stub::start(phones as usize).await?;
    hubs.apply(&delivery_setup(&stub, "0s")).await?;
    let load = hubs.webhook(phones as usize);

    let began = Instant::now();
    let posted = load.closed(options.connections, Until::Count(events)).await?;
    hub.quiet().await?;
    let delivered_per_s = posted.accepted as f64 / began.elapsed().as_secs_f64();
    let sent = stub.arrivals.all();
    ensure!(sent >= posted.accepted, "{} webhooks were accepted, but only {sent} texts were sent", posted.accepted);

    let first = load.next();
    let open = load.open(options.connections, time, delivered_per_s * SHARE).await?;
    hub.quiet().await?;
    let mut micros: Vec<u32> = (first..load.next())
        .filter_map(|number| Some(stub.arrivals.at(number)?.saturating_duration_since(load.started(number)?)))
        .map(|latency| u32::try_from(latency.as_micros()).unwrap_or(u32::MAX))
        .collect();
    micros.sort_unstable();
    let (name, to) = match hubs.database {
        Some(_) => ("pgbench_inserts_per_s", "hub_to_pgbench"),
        None => ("bare_per_s", "hub_to_bare"),
    };
    let mut told = json!({
        "store": hubs.store.word(), "nodes": hubs.count(),
        "events": posted.accepted, "refused": posted.refused, "accepted_per_s": posted.per_s().round(),
        "delivered_per_s": delivered_per_s.round(),
        "open_loop_at_70_percent": {
            "per_s": open.per_s().round(), "arrived": micros.len(),
            "end_to_end_p50_ms": load::quantile(&micros, 0.5), "end_to_end_p99_ms": load::quantile(&micros, 0.99),
        },
        "connections": options.connections, "memory_mib": hubs.memory_mib(),
    });
    told[name] = json!(ceiling.round());
    told[to] = json!(rounded(delivered_per_s / ceiling));
    Ok(told)
}

/// How many rows a second the bare harness brings to the stub.
async fn bare(stub: &Stub, rows: u64) -> anyhow::Result<f64> {
    let url = format!("http://{}/sms/send", stub.address);
    let harness = own(&["bench", "bare", &url, &rows.to_string(), "--json"])?;
    let output = harness.wait_with_output().await?;
    ensure!(output.status.success(), "the bare harness failed");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    told["per_s"].as_f64().context("the bare harness tells no rate")
}
