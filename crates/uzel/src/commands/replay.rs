//! `replay`: what was journalled is read again through today's code, one entry or all dead letters.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::{ask::Asker, moment, say, show};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// One entry.
    entry: Option<String>,
    /// All dead letters.
    #[arg(long, conflicts_with = "entry")]
    dead: bool,
    #[arg(long)]
    provider: Option<String>,
    /// From this time on (2026-11-24T00:00:00Z), or from the beginning of this day in UTC (2026-11-24).
    #[arg(long, value_parser = moment::read)]
    from: Option<String>,
    /// Until this time, or the beginning of this day in UTC.
    #[arg(long, value_parser = moment::read)]
    to: Option<String>,
    /// Do it without asking after the count.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(asker: &Asker, args: &ReplayArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    if args.entry.is_none() && !args.dead {
        bail!("name an entry, or say --dead for all dead letters");
    }
    let mut request =
        json!({ "entry": args.entry, "dead": args.dead, "provider": args.provider, "from": args.from, "to": args.to });
    if args.dead && !args.yes {
        request["dry_run"] = json!(true);
        let count = asker.post("/api/v1/replay", &request).await?["count"].as_u64().unwrap_or_default();
        say(&format!("{count} dead letters would be read again; say --yes to do it"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = asker.post("/api/v1/replay", &request).await?;
    say(&if as_json { serde_json::to_string_pretty(&answer)? } else { show::replay(&answer) })?;
    Ok(if still_dead(&answer) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many of the entries could not be read this time either.
pub(super) fn still_dead(answer: &Value) -> usize {
    let outcomes = answer["outcomes"].as_array().into_iter().flatten();
    outcomes.filter(|outcome| outcome["outcome"]["dead"].is_string()).count()
}
