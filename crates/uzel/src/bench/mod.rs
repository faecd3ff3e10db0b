//! `uzel bench`: figures of this machine, measured beside a bare harness in the same run.
//!
//! Everything runs in this process, the load generator included, so that only the ratios tell something about the hub.

mod ceiling;
mod load;

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use ceiling::Ceiling;
use clap::{Args, Subcommand};
use load::{Load, Outcome, Until};
use serde_json::{Value, json};
use uzel_engine::setup::Leniency;
use uzel_sandbox::Sandbox;
use uzel_store::{CommandState, Counts, EntryState};

use crate::{
    commands::say,
    hub::{Hub, Parts},
    settings::Settings,
};

/// In the benchmark every webhook key is this one.
const KEY: &str = "bench-key";
/// The open loop runs at this share of the rate reached in the closed loop.
const SHARE: f64 = 0.7;

#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
    /// How long each run lasts.
    #[arg(long, global = true, default_value_t = 5)]
    seconds: u64,
    /// Connections of the load generator.
    #[arg(long, global = true, default_value_t = 64)]
    connections: usize,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Webhooks accepted durably, beside the ceiling harness.
    Intake,
    /// From a webhook to the text at the provider's stand-in.
    Delivery {
        /// How many webhooks are posted.
        #[arg(long, default_value_t = 20_000)]
        events: u64,
    },
}

pub async fn run(options: &Options, as_json: bool) -> anyhow::Result<ExitCode> {
    ensure!(options.seconds > 0 && options.connections > 0, "--seconds and --connections must be above 0");
    let folder = tempfile::Builder::new().prefix("uzel-bench-").tempdir().context("a temporary folder")?;
    let settings = Settings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        data: folder.path().join("hub"),
        allow_networks: vec!["127.0.0.0/8".to_owned()],
        ..Settings::default()
    };
    let hub = Hub::start(&settings, Parts::default()).await?;
    let figures = match options.what {
        What::Intake => intake(&hub, &folder, options).await,
        What::Delivery { events } => delivery(&hub, options.connections, events).await,
    };
    hub.stop().await?;
    let figures = figures?;
    say(&if as_json { figures.to_string() } else { serde_json::to_string_pretty(&figures)? })?;
    Ok(ExitCode::SUCCESS)
}

/// A merchant with an rkeeper connection.
fn setup() -> Value {
    json!({
        "merchant": [{ "slug": "bench", "name": "Bench", "language": "ru", "country": "RU" }],
        "outlet": [{ "merchant": "bench", "slug": "outlet", "name": "Outlet", "zone": "Europe/Moscow" }],
        "connection": [{ "merchant": "bench", "outlet": "outlet", "slug": "rkeeper", "provider": "rkeeper", "settings": {}, "webhook_keys": [KEY] }]
    })
}

/// An order of about 900 bytes; `#` stands for the digits that change.
fn order(id: &str) -> String {
    let order = json!({ "order": {
        "id": id, "status": "Completed", "customer": { "name": "Guest", "phone": "+7999#######" }, "comment": "x".repeat(770)
    } });
    order.to_string()
}

/// The webhook of the hub's rkeeper connection.
fn webhook(hub: &Hub) -> std::sync::Arc<Load> {
    Load::new(hub.address, &format!("/api/webhook/rkeeper?key={KEY}"), "", &order("############"))
}

async fn intake(hub: &Hub, folder: &tempfile::TempDir, options: &Options) -> anyhow::Result<Value> {
    hub.apply(&setup(), Leniency { short_keys: true }).await?;
    let ceiling = Ceiling::start(folder.path()).await?;
    // The number changes in the path here, so that one signature fits all and the load generator need not sign.
    let body = order("000000000000").replace('#', "0");
    let bare =
        Load::new(ceiling.address, "/############", &format!("x-signature: {}\r\n", ceiling::sign(body.as_bytes())), &body);
    let ours = webhook(hub);
    let time = Duration::from_secs(options.seconds);
    let mut taken = 0;

    let mut runs = Vec::new();
    for connections in [1, options.connections] {
        let ceiling = bare.closed(connections, Until::Time(time)).await?;
        let own = ours.closed(connections, Until::Time(time)).await?;
        taken += own.accepted;
        let unread = until_quiet(hub).await?;
        let mut figures = compare(&ceiling, &own);
        figures["hub"]["unread_at_the_end"] = json!(unread);
        runs.push((ceiling.per_s(), own.per_s(), figures));
    }
    let (ceiling_per_s, own_per_s) = runs.last().map_or((0.0, 0.0), |run| (run.0, run.1));
    let ceiling = bare.open(options.connections, time, ceiling_per_s * SHARE).await?;
    let own = ours.open(options.connections, time, own_per_s * SHARE).await?;
    taken += own.accepted;
    until_quiet(hub).await?;

    let journalled: u64 = hub.engine.store.counts().await?.entries.iter().map(|(_, count)| count).sum();
    ensure!(journalled >= taken, "{taken} requests were answered 2xx, but only {journalled} are journalled");
    let closed: Vec<Value> = runs.into_iter().map(|run| run.2).collect();
    Ok(json!({
        "one_connection": closed.first(), "all_connections": closed.last(), "open_loop_at_70_percent": compare(&ceiling, &own),
        "connections": options.connections, "answered_2xx": taken, "journalled": journalled,
    }))
}

fn compare(ceiling: &Outcome, own: &Outcome) -> Value {
    let ratio = |own: f64, ceiling: f64| rounded(own / ceiling.max(f64::MIN_POSITIVE));
    json!({
        "ceiling": figures(ceiling), "hub": figures(own),
        "hub_to_ceiling": {
            "per_s": ratio(own.per_s(), ceiling.per_s()),
            "p50": ratio(own.quantile(0.5), ceiling.quantile(0.5)),
            "p99": ratio(own.quantile(0.99), ceiling.quantile(0.99)),
        }
    })
}

fn figures(outcome: &Outcome) -> Value {
    json!({
        "per_s": outcome.per_s().round(), "p50_ms": rounded(outcome.quantile(0.5)), "p99_ms": rounded(outcome.quantile(0.99)),
        "refused": outcome.refused,
    })
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Waits until the hub has read and sent all; gives how many entries were unread before.
async fn until_quiet(hub: &Hub) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(180);
    let mut before = None;
    while Instant::now() < deadline {
        let counts = hub.engine.store.counts().await?;
        let unread = counts.entries.iter().filter(|(state, _)| *state == EntryState::Unread).map(|(_, count)| count).sum();
        let before = *before.get_or_insert(unread);
        if unread == 0 && open(&counts) == 0 {
            return Ok(before);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the hub has not become quiet in three minutes")
}

fn open(counts: &Counts) -> u64 {
    let open = counts.commands.iter().filter(|(state, _)| matches!(state, CommandState::Waiting | CommandState::Sending));
    open.map(|(_, count)| count).sum()
}

async fn delivery(hub: &Hub, connections: usize, events: u64) -> anyhow::Result<Value> {
    ensure!(events <= 10_000_000, "--events: there are only ten million phones that begin with +7999");
    let sandbox = Sandbox::start(SocketAddr::from(([127, 0, 0, 1], 0))).await.context("the stand-ins cannot listen")?;
    let web = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/_sandbox/smsru/settings", sandbox.url());
    web.put(url).json(&json!({ "record": false })).send().await?.error_for_status()?;
    let mut setup = setup();
    let sms = json!({ "base_url": format!("{}/smsru", sandbox.url()), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 100_000 });
    if let Some(list) = setup["connection"].as_array_mut() {
        list.push(json!({ "merchant": "bench", "outlet": "outlet", "slug": "sms", "provider": "smsru", "settings": sms }));
    }
    setup["flow"] = json!([{
        "merchant": "bench", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "the benchmark",
        "via": "sms", "text": "Thank you!", "delay": "0s", "latest": "3650d"
    }]);
    hub.apply(&setup, Leniency { short_keys: true }).await?;

    let began = Instant::now();
    let posted = webhook(hub).closed(connections, Until::Count(events)).await?;
    until_quiet(hub).await?;
    let elapsed = began.elapsed();
    let counts = hub.engine.store.counts().await?;
    let made: u64 = counts.commands.iter().map(|(_, count)| count).sum();
    ensure!(made >= posted.accepted, "{} webhooks were accepted, but only {made} commands were made", posted.accepted);
    Ok(json!({
        "events": posted.accepted, "refused": posted.refused, "accepted_per_s": posted.per_s().round(),
        "delivered_per_s": (posted.accepted as f64 / elapsed.as_secs_f64()).round(), "seconds": rounded(elapsed.as_secs_f64()),
        "connections": connections, "commands": counts.commands, "held": counts.held,
    }))
}
