//! `apply`: a setup file is checked whole, and carried out if it has no fault; also before the hub's first start.

use std::{path::Path, process::ExitCode};

use serde_json::{Value, json};

use super::{ask::Asker, places, places::SetupText, say, show};
use crate::{hub::SOCKET, settings::Settings};

/// What would change or has changed, or the problem with it.
type Outcome = Result<Value, Value>;

pub(super) async fn run(settings: &Settings, file: &Path, dry_run: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    let setup = SetupText::read(file)?;
    let value = match setup.value() {
        Ok(value) => value,
        Err(fault) => {
            say(&fault)?;
            return Ok(ExitCode::from(2));
        }
    };
    // On PostgreSQL no file of the store shows that a hub works here.
    let is_there = ["uzel.db", SOCKET].iter().any(|name| settings.data.join(name).exists());
    let outcome = if is_there {
        ask(Asker::new(settings).await?, &value, dry_run).await?
    } else {
        // Tried in a folder that is thrown away: neither a look nor a file with a fault leaves anything behind.
        match ask(Asker::passing(settings).await?, &value, true).await? {
            Ok(_) if !dry_run => ask(Asker::first(settings).await?, &value, false).await?,
            tried => tried,
        }
    };
    tell(&setup, file, &outcome, dry_run, as_json)
}

async fn ask(asker: Asker, setup: &Value, dry_run: bool) -> anyhow::Result<Outcome> {
    let outcome = asker.try_post("/api/v1/apply", &json!({ "setup": setup, "dry_run": dry_run })).await;
    asker.end().await;
    outcome
}

fn tell(setup: &SetupText, file: &Path, outcome: &Outcome, dry_run: bool, as_json: bool) -> anyhow::Result<ExitCode> {
    match outcome {
        Ok(plan) if as_json => say(&serde_json::to_string_pretty(plan)?)?,
        Ok(plan) => say(&show::plan(plan, dry_run))?,
        Err(problem) if as_json => say(&serde_json::to_string_pretty(problem)?)?,
        Err(problem) => {
            for fault in problem["errors"].as_array().into_iter().flatten() {
                let pointer = fault["pointer"].as_str().unwrap_or_default();
                let detail = fault["detail"].as_str().unwrap_or_default();
                say(&format!("{}: {} {detail}", setup.place(pointer), places::dotted(pointer)))?;
            }
            say(&format!("{}: {}", file.display(), problem["detail"].as_str().unwrap_or("nothing was changed")))?;
        }
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
