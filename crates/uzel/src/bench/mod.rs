//! `uzel bench`: figures of this machine, measured beside bare harnesses in the same run.
//!
//! The hub, the harnesses and the load generator are processes of their own on one machine, so that only the ratios tell
//! something about the hub.

mod backlog;
mod bare;
mod ceiling;
mod chaos;
mod driven;
mod load;
mod stub;
mod torture;

use std::{
    net::SocketAddr,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use ceiling::Ceiling;
use clap::{Args, Subcommand};
use driven::Driven;
use load::{Load, Outcome, Until};
use serde_json::{Value, json};
use stub::Stub;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::commands::say;

/// In the benchmark every webhook key is this one.
const KEY: &str = "the-key-of-the-benchmark-only";
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
    /// A hub that runs already on this machine (127.0.0.1:8080), instead of one in a temporary folder. Merchant `bench` is
    /// set up there, and its entries stay.
    #[arg(long, global = true, requires = "key")]
    hub: Option<SocketAddr>,
    /// The owner key of that hub.
    #[arg(long, global = true)]
    key: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Webhooks accepted durably, beside the ceiling harness.
    Intake,
    /// From a webhook to the text at the provider, beside a harness that only leases, posts and settles.
    Delivery {
        /// How many webhooks are posted in the closed loop.
        #[arg(long, default_value_t = 20_000)]
        events: u64,
    },
    /// Lets texts wait for tomorrow, more and more of them: what an event costs then, memory, and how long a start takes.
    Backlog {
        /// Posted in ten parts.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
    },
    /// Kills the hub at random moments under load, and shows that nothing was lost and nothing sent twice.
    Torture {
        #[arg(long, default_value_t = 20)]
        kills: u32,
        #[arg(long, default_value_t = 20_000)]
        events: u64,
        /// Gives the moments of an earlier run again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Breaks nodes and servers under load, and shows that nothing was lost and nothing done twice. PostgreSQL and NATS are started here.
    Chaos {
        #[arg(long, value_enum, default_value_t = chaos::Fault::All)]
        fault: chaos::Fault,
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        #[arg(long, default_value_t = 2_000)]
        events: u64,
        /// Gives the faults of an earlier run again.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Serves the ceiling harness until it is ended; its address is the first line.
    #[command(hide = true)]
    Ceiling,
    /// Sends rows to a URL by the bare harness of the road out.
    #[command(hide = true)]
    Bare { url: String, rows: u64 },
}

pub async fn run(options: &Options, as_json: bool) -> anyhow::Result<ExitCode> {
    ensure!(options.seconds > 0 && options.connections > 0, "--seconds and --connections must be above 0");
    let figures = match &options.what {
        What::Intake => intake(&hub(options).await?, options).await?,
        What::Delivery { events } => delivery(&hub(options).await?, options, *events).await?,
        What::Backlog { events } => {
            ensure!(options.hub.is_none(), "only a hub of its own is loaded like this: leave --hub away");
            backlog::run(options.connections, *events).await?
        }
        What::Torture { kills, events, seed } => {
            ensure!(options.hub.is_none(), "only a hub of its own is tortured: leave --hub away");
            let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
            torture::run(options.connections, *kills, *events, seed).await?
        }
        What::Chaos { fault, nodes, events, seed } => {
            ensure!(options.hub.is_none(), "only nodes of its own are broken: leave --hub away");
            let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
            chaos::run(*fault, *nodes, *events, seed, Duration::from_secs(options.seconds.max(15))).await?
        }
        What::Ceiling => return serve_ceiling().await,
        What::Bare { url, rows } => {
            let folder = tempfile::Builder::new().prefix("uzel-bare-").tempdir()?;
            json!({ "per_s": bare::run(folder.path(), url.clone(), *rows).await? })
        }
    };
    say(&if as_json { figures.to_string() } else { serde_json::to_string_pretty(&figures)? })?;
    Ok(ExitCode::SUCCESS)
}

async fn hub(options: &Options) -> anyhow::Result<Driven> {
    match (options.hub, &options.key) {
        (Some(address), Some(key)) => Driven::running(address, key).await,
        _ => Driven::start().await,
    }
}

async fn serve_ceiling() -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("uzel-ceiling-").tempdir()?;
    let ceiling = Ceiling::start(folder.path()).await?;
    say(&ceiling.address.to_string())?;
    std::future::pending().await
}

/// This program in another process, which ends with the returned handle.
fn own(arguments: &[&str]) -> anyhow::Result<tokio::process::Child> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).kill_on_drop(true);
    command.spawn().context("starting a harness")
}

/// A merchant with an rkeeper connection.
fn setup() -> Value {
    json!({
        "merchant": [{ "slug": "bench", "name": "Bench", "language": "ru", "country": "RU" }],
        "outlet": [{ "merchant": "bench", "slug": "outlet", "name": "Outlet", "zone": "Europe/Moscow" }],
        "connection": [{ "merchant": "bench", "outlet": "outlet", "slug": "rkeeper", "provider": "rkeeper", "settings": {}, "webhook_keys": [KEY] }]
    })
}

/// The same, and a flow that thanks every guest by the stub, so long after the visit.
async fn set_up_delivery(hub: &Driven, stub: &Stub, delay: &str) -> anyhow::Result<()> {
    let mut setup = setup();
    let sms = json!({ "base_url": format!("http://{}", stub.address), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 100_000 });
    if let Some(list) = setup["connection"].as_array_mut() {
        list.push(json!({ "merchant": "bench", "outlet": "outlet", "slug": "sms", "provider": "smsru", "settings": sms }));
    }
    setup["flow"] = json!([{
        "merchant": "bench", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "the benchmark",
        "via": "sms", "text": "Thank you!", "delay": delay, "latest": "3650d"
    }]);
    hub.apply(&setup).await
}

/// An order of about 900 bytes; `#` stands for the digits that change.
fn order(id: &str) -> String {
    let order = json!({ "order": {
        "id": id, "status": "Completed", "customer": { "name": "Guest", "phone": "+7999#######" }, "comment": "x".repeat(770)
    } });
    order.to_string()
}

/// The webhook of the hub's rkeeper connection.
fn webhook(hub: &Driven, noted: usize) -> Arc<Load> {
    Load::new(hub.address, &format!("/api/webhook/rkeeper?key={KEY}"), "", &order("############"), noted)
}

async fn intake(hub: &Driven, options: &Options) -> anyhow::Result<Value> {
    hub.apply(&setup()).await?;
    let idle = hub.memory_mib();
    let before = journalled(hub).await?;
    let mut harness = own(&["bench", "ceiling"])?;
    let mut lines = BufReader::new(harness.stdout.take().context("the harness's output")?).lines();
    let address: SocketAddr = lines.next_line().await?.context("the harness did not start")?.parse()?;
    // The number changes in the path here, so that one signature fits all and the load generator need not sign.
    let body = order("000000000000").replace('#', "0");
    let bare = Load::new(address, "/############", &format!("x-signature: {}\r\n", ceiling::sign(body.as_bytes())), &body, 0);
    let ours = webhook(hub, 0);
    let time = Duration::from_secs(options.seconds);
    let mut taken = 0;

    let mut closed = Vec::new();
    let mut rate = 0.0;
    for connections in [1, options.connections] {
        let ceiling = bare.closed(connections, Until::Time(time)).await?;
        let own = ours.closed(connections, Until::Time(time)).await?;
        taken += own.accepted;
        let mut figures = compare(&ceiling, &own);
        figures["hub"]["unread_at_the_end"] = json!(hub.quiet().await?);
        rate = own.per_s();
        closed.push(figures);
    }
    // Both at one rate, which the hub can keep: else the latencies could not be compared.
    let ceiling = bare.open(options.connections, time, rate * SHARE).await?;
    let own = ours.open(options.connections, time, rate * SHARE).await?;
    taken += own.accepted;
    hub.quiet().await?;

    let journalled = journalled(hub).await? - before;
    ensure!(journalled >= taken, "{taken} requests were answered 2xx, but only {journalled} are journalled");
    Ok(json!({
        "one_connection": closed.first(), "all_connections": closed.last(), "open_loop_at_70_percent_of_the_hub": compare(&ceiling, &own),
        "connections": options.connections, "answered_2xx": taken, "journalled": journalled,
        "memory_mib": { "idle": idle.map(|idle| idle["now"].clone()), "after": hub.memory_mib() },
    }))
}

async fn journalled(hub: &Driven) -> anyhow::Result<u64> {
    let mut all = 0;
    for state in ["unread", "read", "duplicate", "dead"] {
        all += hub.count("entries", state).await?;
    }
    Ok(all)
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

async fn delivery(hub: &Driven, options: &Options, events: u64) -> anyhow::Result<Value> {
    let time = Duration::from_secs(options.seconds);
    // Room for the open loop, should it be as fast as any hub was ever seen.
    let phones = (events + 50_000 * options.seconds).min(10_000_000);
    ensure!(events < phones, "--events: there are only ten million phones that begin with +7999");
    let bare = bare(&Stub::start(phones as usize).await?, events).await?;
    let stub = Stub::start(phones as usize).await?;
    set_up_delivery(hub, &stub, "0s").await?;
    let load = webhook(hub, phones as usize);

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
    Ok(json!({
        "events": posted.accepted, "refused": posted.refused, "accepted_per_s": posted.per_s().round(),
        "delivered_per_s": delivered_per_s.round(), "bare_per_s": bare.round(), "hub_to_bare": rounded(delivered_per_s / bare),
        "open_loop_at_70_percent": {
            "per_s": open.per_s().round(), "arrived": micros.len(),
            "end_to_end_p50_ms": load::quantile(&micros, 0.5), "end_to_end_p99_ms": load::quantile(&micros, 0.99),
        },
        "connections": options.connections, "memory_mib": hub.memory_mib(),
    }))
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
