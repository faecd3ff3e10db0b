//! `backup` and `restore`: the embedded database as one file, taken while the hub works, and put back where none does.

use std::{
    fs::{self, File, OpenOptions},
    io::{IsTerminal, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use serde_json::json;
use uzel_store::{Copied, Sqlite};

use super::{DATABASE, say};
use crate::{hub::Folder, master::Source, settings::Settings};

const ON_A_SERVER: &str = "this hub's database is a PostgreSQL server: use pg_dump and pg_restore (docs/operations.md tells how)";

pub(super) fn backup(settings: &Settings, to: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    ensure!(settings.database.is_none(), "{ON_A_SERVER}");
    let database = settings.data.join(DATABASE);
    ensure!(database.exists(), "no hub in {}: there is nothing to copy", settings.data.display());
    ensure!(!to.exists(), "{} is there already: name another file", to.display());
    let part = Part::new(to)?;
    let bar = bar("pages")?;
    let copied = Sqlite::backup(&database, &part.path, &mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    })
    .context("the copy")?;
    bar.finish_and_clear();
    part.becomes(to)?;
    tell("Copied to", to, &copied, as_json)?;
    if !as_json {
        say(
            "The master key is not in it: keep a copy of master.key elsewhere. Without it the secrets of connections are lost; with \
             it and this file they are open.",
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn restore(settings: &Settings, from: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    ensure!(settings.database.is_none(), "{ON_A_SERVER}");
    ensure!(from.is_file(), "{}: no such file", from.display());
    let folder = Folder::open(&settings.data)?;
    let database = folder.path.join(DATABASE);
    let part = Part::new(&database)?;
    copy(from, &part.path).with_context(|| format!("copying {}", from.display()))?;
    // The copy is judged, not what it was copied from: nothing that is put in place has not been read.
    let copied = Sqlite::look(&part.path).with_context(|| from.display().to_string())?;
    let kept = set_aside(&database)?;
    part.becomes(&database)?;
    tell("Restored to", &database, &copied, as_json)?;
    if !as_json {
        if let Some(kept) = kept {
            say(&format!("What was there before is kept as {}.", kept.display()))?;
        }
        if let Source::File(key) = Source::of(settings, &folder.path)
            && !key.exists()
        {
            say(&format!("Put the master key back before the start: {} is missing.", key.display()))?;
        }
        if copied.open > 0 {
            say(&format!(
                "Texts and other commands that wait in it: {}. They go out at the start, also those that went since the copy was made: \
                 see \"Backup and restore\" in docs/operations.md first.",
                copied.open
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A file that is being written, beside the one that it becomes. Gone if it never does.
struct Part {
    path: PathBuf,
}

impl Part {
    /// Readable by nobody else: the journal holds people's phones.
    fn new(to: &Path) -> anyhow::Result<Self> {
        let mut name = to.file_name().context("the name of a file is missing")?.to_owned();
        name.push(".part");
        let path = to.with_file_name(name);
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{}: if it is left from a copy that was broken off, remove it", path.display()))?;
        Ok(Self { path })
    }

    fn becomes(self, to: &Path) -> anyhow::Result<()> {
        if to.exists() {
            bail!("{} is there already: name another file", to.display());
        }
        fs::rename(&self.path, to)?;
        let folder = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all().context("the folder of the copy")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it has become the file there is nothing under this name.
        drop(fs::remove_file(&self.path));
        for log in ["-wal", "-shm", "-journal"] {
            drop(fs::remove_file(beside(&self.path, log)));
        }
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Gives the database that is there, with its logs, another name.
fn set_aside(database: &Path) -> anyhow::Result<Option<PathBuf>> {
    if !database.exists() {
        return Ok(None);
    }
    let kept = beside(database, &format!(".before-{}", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
    for ending in ["", "-wal", "-shm"] {
        match fs::rename(beside(database, ending), beside(&kept, ending)) {
            Err(error) if !ending.is_empty() && error.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed.with_context(|| format!("keeping {}", database.display()))?,
        }
    }
    Ok(Some(kept))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (mut from, mut to) = (File::open(from)?, OpenOptions::new().write(true).open(to)?);
    let bar = bar("MiB")?;
    bar.set_length(from.metadata()?.len() >> 20);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            read => to.write_all(&buffer[..read])?,
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(to.sync_all()?)
}

/// For a person at a terminal.
fn bar(of: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.set_style(ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {of}, {{eta}} left"))?);
    Ok(bar)
}

fn tell(done: &str, file: &Path, copied: &Copied, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return say(&serde_json::to_string_pretty(&json!({ "file": file, "holds": copied }))?);
    }
    say(&format!(
        "{done} {}, checked: {} entries, {} events, {} commands ({} still to go out), {:.1} MB.",
        file.display(),
        copied.entries,
        copied.events,
        copied.commands,
        copied.open,
        copied.bytes as f64 / 1e6
    ))
}
