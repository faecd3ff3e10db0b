//! `uzel bench`: figures of this machine, measured beside bare harnesses in the same run.
//!
//! The hub, the harnesses and the load generator are processes of their own on one machine, so that only the ratios tell
//! something about the hub.

mod backlog;
mod bare;
mod ceiling;
mod chaos;
mod delivery;
mod driven;
mod expiry;
mod hubs;
mod intake;
mod journal;
mod load;
mod loyalty;
mod pgbench;
mod purchases;
mod stub;
mod torture;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use ceiling::Ceiling;
use clap::{Args, Subcommand};
use hubs::{Hubs, On};
use load::Load;
use serde_json::{Value, json};
use stub::Stub;

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
    /// Webhooks accepted durably, beside the ceiling harness, or pgbench's single inserts.
    Intake {
        #[command(flatten)]
        on: On,
    },
    /// From a webhook to the text at the provider, beside a harness that only leases, posts and settles, or pgbench's single inserts.
    Delivery {
        #[command(flatten)]
        on: On,
        /// How many webhooks are posted in the closed loop.
        #[arg(long, default_value_t = 20_000)]
        events: u64,
    },
    /// Lets texts wait for tomorrow, more and more of them: what an event costs then, memory, and how long a start takes.
    Backlog {
        #[command(flatten)]
        on: On,
        /// Posted in ten parts.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
    },
    /// A journal of many months: starts, look-ups, pages, and what accepting costs beside retention. It is generated first.
    Journal {
        #[command(flatten)]
        on: On,
        /// Entries to be generated, of about 500 bytes each with all that follows from them.
        #[arg(long, default_value_t = 1_000_000)]
        rows: u64,
        /// Keeps the journal in this folder, or takes the one that is there. Each run of it forgets some of the oldest entries.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Quotes and commits of a loyalty programme, of one busy merchant and of many, beside the ceiling harness, or pgbench's single
    /// inserts.
    Loyalty {
        #[command(flatten)]
        on: On,
        /// They are made first, each with one purchase.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
        customers: u32,
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
        merchants: u32,
    },
    /// Lets the points of all customers expire at one moment: how fast that is booked, and what quotes cost meanwhile.
    Expiry {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
        customers: u32,
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
    /// Kills nodes at random moments while tills sell, and shows that no point was lost or made.
    Purchases {
        #[command(flatten)]
        on: On,
        #[arg(long, default_value_t = 10)]
        kills: u32,
        #[arg(long, default_value_t = 5_000)]
        orders: u64,
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
        What::Intake { on } => intake::run(&hubs(on, options).await?, options).await?,
        What::Delivery { on, events } => delivery::run(&hubs(on, options).await?, options, *events).await?,
        What::Backlog { on, events } => {
            ensure!(options.hub.is_none(), "only a hub of its own is loaded like this: leave --hub away");
            backlog::run(on, options.connections, *events).await?
        }
        What::Journal { on, rows, keep } => {
            ensure!(options.hub.is_none(), "only a hub of its own is filled like this: leave --hub away");
            let told = journal::run(on, options, *rows, keep.clone()).await?;
            say(&if as_json { told.to_string() } else { journal::table(&told) })?;
            return Ok(ExitCode::SUCCESS);
        }
        What::Loyalty { on, customers, merchants } => {
            loyalty::run(&hubs(on, options).await?, options, *customers, *merchants).await?
        }
        What::Expiry { on, customers } => expiry::run(&hubs(on, options).await?, options, *customers).await?,
        What::Torture { kills, events, seed } => {
            ensure!(options.hub.is_none(), "only a hub of its own is tortured: leave --hub away");
            let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
            torture::run(options.connections, *kills, *events, seed).await?
        }
        What::Purchases { on, kills, orders, seed } => {
            ensure!(options.hub.is_none(), "only a hub of its own is killed: leave --hub away");
            let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
            purchases::run(Hubs::start(on).await?, *kills, *orders, seed).await?
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

async fn hubs(on: &On, options: &Options) -> anyhow::Result<Hubs> {
    match (options.hub, &options.key) {
        (Some(address), Some(key)) => Hubs::running(address, key, on).await,
        _ => Hubs::start(on).await,
    }
}

async fn serve_ceiling() -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("uzel-ceiling-").tempdir()?;
    let ceiling = Ceiling::start(folder.path()).await?;
    say(&ceiling.address.to_string())?;
    // Whoever started it keeps its input open: then its folder goes with it, however that one ends.
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(ExitCode::SUCCESS)
}

/// This program in another process, which ends when its input does: with the returned handle.
fn own(arguments: &[&str]) -> anyhow::Result<tokio::process::Child> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
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
fn delivery_setup(stub: &Stub, delay: &str) -> Value {
    let mut setup = setup();
    let sms = json!({ "base_url": format!("http://{}", stub.address), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 100_000 });
    if let Some(list) = setup["connection"].as_array_mut() {
        list.push(json!({ "merchant": "bench", "outlet": "outlet", "slug": "sms", "provider": "smsru", "settings": sms }));
    }
    setup["flow"] = json!([{
        "merchant": "bench", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "the benchmark",
        "via": "sms", "text": "Thank you!", "delay": delay, "latest": "3650d"
    }]);
    setup
}

/// An order of about 900 bytes; `#` stands for the digits that change.
fn order(id: &str) -> String {
    let order = json!({ "order": {
        "id": id, "status": "Completed", "customer": { "name": "Guest", "phone": "+7999#######" }, "comment": "x".repeat(770)
    } });
    order.to_string()
}

/// The webhook of the rkeeper connection; `run` stands before the running number.
fn webhook(addresses: Vec<SocketAddr>, run: &str, noted: usize) -> Arc<Load> {
    Load::spread(addresses, &format!("/api/webhook/rkeeper?key={KEY}"), "", &order(&format!("{run}############")), noted)
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
