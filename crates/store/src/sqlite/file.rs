//! The database's file as a whole: which steps of the schema it has, a copy of it while a hub works, and what a copy holds.

use std::{fs, path::Path};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension,
    backup::{Backup, StepResult},
};

use super::{STEPS, Sqlite, failed, migrate, open};
use crate::{Migration, StoreError};

/// Pages that are copied between two words about the progress.
const PAGES: i32 = 4_096;

/// What a copy of the database holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    pub bytes: u64,
    pub entries: u64,
    pub events: u64,
    pub commands: u64,
    /// Commands that were waiting or being sent: where the copy is put in place, they go out from it.
    pub open: u64,
}

impl Sqlite {
    /// The steps of the schema as the file has them, and those that it lacks; nothing is changed.
    pub fn migrations(path: &Path) -> Result<Vec<Migration>, StoreError> {
        let done = if path.exists() { version(&open_existing(path)?)? } else { 0 };
        let step = |place: usize| {
            let name = STEPS.get(place).map_or("of a newer program", |(name, _)| name).to_owned();
            Migration { number: place as u32 + 1, name, applied: place < done, applied_at: None }
        };
        Ok((0..STEPS.len().max(done)).map(step).collect())
    }

    /// Fails where the file lacks a step of the schema; nothing is changed.
    pub fn is_up_to_date(path: &Path) -> Result<(), StoreError> {
        let missing = Self::migrations(path)?.into_iter().find(|step| !step.applied);
        missing.map_or(Ok(()), |step| Err(crate::lacks(step.number, &step.name)))
    }

    /// Takes the steps that are missing. No hub may work on the file.
    pub fn migrate(path: &Path) -> Result<(), StoreError> {
        migrate(&open(path, true)?)
    }

    /// Copies the database as it is at this moment into a new file, also while a hub works on it; `told` hears how many pages
    /// of how many are done. The copy is checked, and is on disk when this returns.
    pub fn backup(from: &Path, to: &Path, told: &mut dyn FnMut(u64, u64)) -> Result<Copied, StoreError> {
        let source = open_existing(from)?;
        // One view of it: else every page that the hub writes meanwhile would begin the copy anew.
        source.execute_batch("PRAGMA query_only=ON; BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1;").map_err(failed)?;
        let mut copy = Connection::open(to).map_err(failed)?;
        {
            let backup = Backup::new(&source, &mut copy).map_err(failed)?;
            loop {
                let step = backup.step(PAGES).map_err(failed)?;
                let progress = backup.progress();
                let (all, left) = (u64::from(progress.pagecount.unsigned_abs()), u64::from(progress.remaining.unsigned_abs()));
                told(all - left.min(all), all);
                match step {
                    StepResult::Done => break,
                    StepResult::More => {}
                    other => return Err(StoreError::Failed(format!("the database is held by somebody else ({other:?})"))),
                }
            }
        }
        // One file, without a log beside it.
        copy.query_row("PRAGMA journal_mode=DELETE", [], |_| Ok(())).map_err(failed)?;
        drop(copy);
        let copied = Self::look(to)?;
        let synced = fs::File::open(to).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(copied)
    }

    /// Checks a copy that nobody works on, and tells what it holds.
    pub fn look(path: &Path) -> Result<Copied, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        let not_ours = || StoreError::Failed("it is no database of Uzel".to_owned());
        let ours = db.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'inbox'", [], |_| Ok(())).optional();
        ours.map_err(|_| not_ours())?.ok_or_else(not_ours)?;
        let done = version(&db)?;
        if done > STEPS.len() {
            return Err(StoreError::Failed(format!("it is of version {done}, newer than this program's {}", STEPS.len())));
        }
        let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            return Err(StoreError::Failed(format!("it is damaged: {found}")));
        }
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs).map_err(failed);
        Ok(Copied {
            bytes: count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
            entries: count("SELECT count(*) FROM inbox")?,
            events: count("SELECT count(*) FROM event")?,
            commands: count("SELECT count(*) FROM command")?,
            open: count("SELECT count(*) FROM command WHERE state IN (0, 1)")?,
        })
    }
}

fn open_existing(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(failed)?;
    Ok(connection)
}

pub(super) fn version(connection: &Connection) -> Result<usize, StoreError> {
    let done: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    Ok(done as usize)
}
