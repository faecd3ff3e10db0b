//! `copy`: all that a hub holds, from SQLite to PostgreSQL or back, while no hub works on either.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use uzel_model::Secret;
use uzel_store::{CopyReport, Copying, Place};

use super::{DATABASE, say};
use crate::{hub::Folder, settings::Settings};

/// What a small machine copies and reads back, for the estimate.
const ROWS_PER_S: u64 = 10_000;

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// What is copied: a data folder (also as sqlite://FOLDER), or postgres://… Not named: what the settings name, of the other
    /// kind than the target.
    #[arg(long, required_unless_present = "to")]
    from: Option<Named>,
    /// Where to: an empty database or a new folder. Not named: what the settings name, of the other kind than the source.
    #[arg(long)]
    to: Option<Named>,
    /// Clear what a copy has left there that was broken off, and copy anew.
    #[arg(long)]
    again: bool,
}

/// One end, as it was named. The URL carries a password.
#[derive(Debug, Clone)]
enum Named {
    Folder(PathBuf),
    Server(Secret),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Server(Secret::new(text)));
        }
        let path = Path::new(text.strip_prefix("sqlite://").unwrap_or(text));
        if path.as_os_str().is_empty() || path.to_string_lossy().contains("://") {
            return Err("name a data folder, sqlite://FOLDER or postgres://user:password@host:5432/name".to_owned());
        }
        let folder = if path.file_name().is_some_and(|name| name == DATABASE) { path.parent() } else { None };
        let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder }).unwrap_or(path);
        if folder.is_file() {
            return Err("it is a file: name the data folder that it belongs to; `uzel restore` makes one of a backup".to_owned());
        }
        Ok(Self::Folder(folder.to_owned()))
    }
}

impl Named {
    /// What the settings name, of the other kind.
    fn other(&self, settings: &Settings) -> anyhow::Result<Self> {
        match self {
            Self::Server(_) => Ok(Self::Folder(settings.data.clone())),
            Self::Folder(_) => {
                let url = settings.database.clone().context("the settings name no `database`: name it by --from or --to")?;
                Ok(Self::Server(url))
            }
        }
    }

    fn place(&self, settings: &Settings) -> anyhow::Result<Place> {
        Ok(match self {
            Self::Folder(folder) => Place::Sqlite(folder.join(DATABASE)),
            Self::Server(url) => {
                let settings = Settings { database: Some(url.clone()), ..settings.clone() };
                Place::Postgres(settings.postgres()?.context("no database is named")?)
            }
        })
    }

    /// Takes the lock of a folder.
    fn lock(&self) -> anyhow::Result<Option<Folder>> {
        match self {
            Self::Folder(folder) => Folder::open(folder).map(Some),
            Self::Server(_) => Ok(None),
        }
    }
}

/// Exit status 1 where it was not copied, or the target does not hold the same.
pub(super) async fn run(settings: &Settings, args: &CopyArgs, as_json: bool) -> anyhow::Result<ExitCode> {
    let (from, to) = match (&args.from, &args.to) {
        (Some(from), Some(to)) => (from.clone(), to.clone()),
        (Some(from), None) => (from.clone(), from.other(settings)?),
        (None, Some(to)) => (to.other(settings)?, to.clone()),
        (None, None) => bail!("name what to copy by --from"),
    };
    match (&from, &to) {
        (Named::Folder(_), Named::Folder(_)) => bail!("both are SQLite: `uzel backup` and `uzel restore` copy it"),
        (Named::Server(_), Named::Server(_)) => bail!("both are PostgreSQL: pg_dump and pg_restore copy it"),
        (Named::Folder(folder), _) => {
            ensure!(folder.join(DATABASE).exists(), "no hub in {}: there is nothing to copy", folder.display());
        }
        _ => {}
    }
    let (source, target) = (from.place(settings).context("--from")?, to.place(settings).context("--to")?);
    let _source_lock = match from.lock() {
        Ok(lock) => lock,
        // A hub holds it: it is told how long it will have to stand still.
        Err(held) => match uzel_store::rows_to_copy(&source).await {
            Ok(rows) => bail!("{held:#}. It stands still while its {rows} rows are copied: {}", about(rows)),
            Err(_) => return Err(held),
        },
    };
    let _target_lock = to.lock()?;
    let mut window = Window::new()?;
    let began = Instant::now();
    let report = uzel_store::copy(&source, &target, args.again, &mut |step| window.hear(step)).await?;
    window.bar.finish_and_clear();
    tell(&report, began.elapsed(), as_json)?;
    ensure!(report.equal, "the target does not hold what the source holds: no hub starts on it. The source is as it was");
    if !as_json {
        say(&next(settings, &to))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a person at a terminal sees meanwhile.
struct Window {
    bar: ProgressBar,
    rows: u64,
}

impl Window {
    fn new() -> anyhow::Result<Self> {
        let bar = ProgressBar::new(0);
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.set_style(ProgressStyle::with_template("{msg:12} {bar:30} {pos}/{len} rows, {per_sec}, {eta} left")?);
        Ok(Self { bar, rows: 0 })
    }

    fn hear(&mut self, step: Copying) {
        match step {
            Copying::Begun { rows } => {
                let told = format!("From now on nothing may change at the source: {rows} rows, {}.", about(rows));
                // For whoever waits, and no part of the answer: if it cannot be said, the copy goes on.
                drop(writeln!(std::io::stderr(), "{told}"));
                self.rows = rows;
                self.bar.set_length(rows);
            }
            Copying::Written { table, rows } => {
                self.bar.set_message(table);
                self.bar.inc(rows);
            }
            Copying::Checking => {
                self.bar.reset();
                self.bar.set_length(self.rows);
                self.bar.set_message("reading back");
            }
            Copying::Checked { rows } => self.bar.inc(rows),
            Copying::Laws => self.bar.set_message("fsck"),
        }
    }
}

fn about(rows: u64) -> String {
    match rows.div_ceil(ROWS_PER_S) {
        seconds @ 0..120 => format!("about {} s", seconds.max(1)),
        seconds => format!("about {} min", seconds.div_ceil(60)),
    }
}

fn tell(report: &CopyReport, took: Duration, as_json: bool) -> anyhow::Result<()> {
    let seconds = took.as_secs_f64();
    let rows_per_s = (report.rows as f64 / seconds) as u64;
    if as_json {
        let times = json!({ "window_s": seconds, "rows_per_s": rows_per_s, "report": report });
        return say(&serde_json::to_string_pretty(&times)?);
    }
    let mut page = format!("{:<12} {:>12} {:>15}  {:<32}  at the target\n", "table", "rows", "bytes", "sum");
    for table in &report.tables {
        let verdict = if table.equal {
            "the same".to_owned()
        } else {
            format!("NOT the same: {} rows, {} bytes, {}", table.target_rows, table.target_bytes, table.target_sum)
        };
        page += &format!("{:<12} {:>12} {:>15}  {}  {verdict}\n", table.table, table.rows, table.bytes, table.sum);
    }
    for line in &report.found {
        page += &format!("The target's own laws: {line}\n");
    }
    if report.new_ids > 0 {
        page += &format!(
            "{} ids were changed: nodes had made several in one millisecond, of which SQLite allows one.\n",
            report.new_ids
        );
    }
    page += &format!(
        "{} rows, {:.1} MB, copied and read back. The source stood still for {seconds:.1} s ({rows_per_s} rows/s).",
        report.rows,
        report.bytes as f64 / 1e6
    );
    say(&page)
}

/// What is left to be done by hand.
fn next(settings: &Settings, to: &Named) -> String {
    let twice = "Start no hub on the old one any more: what waits would go out twice.";
    match to {
        Named::Server(_) => format!(
            "Now set `database` (UZEL_DATABASE) to it and start the hub. The master key is not in a database: it stays where it is, \
             and a hub in another folder needs a copy of it. {twice}"
        ),
        Named::Folder(folder) => {
            let key = settings.master_key_file.clone().unwrap_or_else(|| folder.join("master.key"));
            let missing = if settings.master_key.is_none() && !key.exists() {
                format!("The master key is not in a database: put it in place before the start, {} is missing. ", key.display())
            } else {
                String::new()
            };
            format!(
                "{missing}Now take `database` (UZEL_DATABASE) out of the settings and start the hub with `data` = \"{}\". {twice}",
                folder.display()
            )
        }
    }
}
