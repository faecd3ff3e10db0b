//! `migrate`: which steps of the schema the database has, and the taking of those that it lacks, without a hub.

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::Args;
use uzel_store::{Migration, Postgres, PostgresOptions, Sqlite, Store};

use super::{DATABASE, say};
use crate::{hub::Folder, master::Source, settings::Settings};

#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Take the steps that are missing.
    #[arg(long)]
    apply: bool,
}

/// Exit status 1 where steps are missing and were only shown.
pub(super) async fn run(settings: &Settings, args: &MigrateArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let server = settings.postgres().context("database")?;
    let file = settings.data.join(DATABASE);
    let mut steps = known(server.as_ref(), &file).await?;
    if args.apply && steps.iter().any(|step| !step.applied) {
        match server.clone() {
            // Nodes may work meanwhile: steps never take away what the version before needs.
            Some(options) => {
                let store = Postgres::open(PostgresOptions { migrate: true, ..options }).await.context("the database")?;
                store.close().await;
            }
            None => {
                let folder = Folder::open(&settings.data)?;
                // A database without its key would be taken for one whose key was lost.
                if !file.exists() {
                    Source::of(settings, &folder.path).make()?;
                }
                Sqlite::migrate(&file)?;
            }
        }
        steps = known(server.as_ref(), &file).await?;
    }
    say(&if as_json { serde_json::to_string_pretty(&steps)? } else { shown(&steps) })?;
    Ok(if steps.iter().all(|step| step.applied) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn known(server: Option<&PostgresOptions>, file: &Path) -> anyhow::Result<Vec<Migration>> {
    Ok(match server {
        Some(options) => Postgres::migrations(options).await.context("the database")?,
        None => Sqlite::migrations(file).context("the database")?,
    })
}

fn shown(steps: &[Migration]) -> String {
    let mut page = String::new();
    for step in steps {
        let when = match (step.applied, step.applied_at) {
            (true, Some(at)) => format!("applied {at:.0}"),
            (true, None) => "applied".to_owned(),
            (false, _) => "missing".to_owned(),
        };
        page += &format!("{:>4}  {:<20} {when}\n", step.number, step.name);
    }
    let missing = steps.iter().filter(|step| !step.applied).count();
    page + &match missing {
        0 => "The database is up to date.".to_owned(),
        missing => format!("Missing: {missing}. `uzel migrate --apply` takes them; a start of the hub does so too."),
    }
}
