//! What a PostgreSQL server can reach at the most: pgbench, each client inserting one row and waiting until it is durable.

use std::{io::Write, process::Command, time::Duration};

use anyhow::{Context, ensure};
use tempfile::NamedTempFile;

use super::{hubs::Database, load::Outcome};

/// A body as large as a webhook's, under a key of its own.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS uzel_bench_ceiling (key uuid PRIMARY KEY, body text NOT NULL);";
const INSERT: &str = "INSERT INTO uzel_bench_ceiling VALUES (gen_random_uuid(), 'BODY');";
const GONE: &str = "DROP TABLE uzel_bench_ceiling;";

/// What it came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ceiling {
    pub(crate) per_s: f64,
    pub(crate) mean_ms: f64,
}

/// Rows of about 900 bytes, one a transaction.
pub(crate) async fn single_inserts(database: &Database, clients: usize, time: Duration) -> anyhow::Result<Ceiling> {
    let told = inserts(database, clients, time, &[]).await?;
    let number = |name: &str| -> anyhow::Result<f64> {
        let line =
            told.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("pgbench told no{name}: {told}"))?;
        line.split_whitespace().next().unwrap_or_default().parse().with_context(|| format!("pgbench told {line}"))
    };
    Ok(Ceiling { per_s: number("tps = ")?, mean_ms: number("latency average = ")? })
}

/// The same, due at this mean rate whether or not earlier ones have ended; latency counts from when one was due.
pub(crate) async fn at_rate(database: &Database, clients: usize, time: Duration, per_s: f64) -> anyhow::Result<Outcome> {
    let logs = tempfile::tempdir().context("a folder for pgbench's logs")?;
    let (rate, prefix) = (format!("--rate={per_s}"), format!("--log-prefix={}", logs.path().join("log").display()));
    inserts(database, clients, time, &["--log", &rate, &prefix]).await?;
    let mut micros = Vec::new();
    for file in std::fs::read_dir(logs.path())? {
        // A line for each: client, number, microseconds, and more.
        for line in std::fs::read_to_string(file?.path())?.lines() {
            micros.push(line.split(' ').nth(2).context("pgbench's log")?.parse().with_context(|| format!("its line {line}"))?);
        }
    }
    Ok(Outcome::of(micros, time))
}

async fn inserts(database: &Database, clients: usize, time: Duration, more: &[&str]) -> anyhow::Result<String> {
    run(database.program("pgbench")?, TABLE, &["-t", "1"]).await?;
    let (seconds, clients, threads) = (time.as_secs().max(1).to_string(), clients.to_string(), clients.min(2).to_string());
    let arguments = [&["-M", "prepared", "-c", &clients, "-j", &threads, "-T", &seconds], more].concat();
    let told = run(database.program("pgbench")?, &INSERT.replace("BODY", &"x".repeat(900)), &arguments).await;
    run(database.program("pgbench")?, GONE, &["-t", "1"]).await?;
    told
}

/// Runs pgbench with one script; what it says.
async fn run(command: Command, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut file = NamedTempFile::new()?;
    file.write_all(script.as_bytes())?;
    let mut command = tokio::process::Command::from(command);
    command.args(arguments).arg("-n").arg("-f").arg(file.path()).kill_on_drop(true);
    let out = command.output().await.context("pgbench")?;
    ensure!(out.status.success(), "pgbench: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
