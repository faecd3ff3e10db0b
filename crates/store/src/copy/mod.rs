//! Moving all that one store holds into an empty store of the other kind: from SQLite to PostgreSQL, and back.
//!
//! Nobody works on either end meanwhile. Rows go over table by table in portions, in the words of neither store ([`row`]); both
//! ends are described in one list ([`tables`]). The target bears a mark until all of it has been read back and is the same, and
//! no store that bears it can be opened: so a copy that was broken off is never worked on.

mod rename;
pub(crate) mod row;
pub(crate) mod tables;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use rename::Renames;
use row::{Row, Sum};
use serde::Serialize;
use tables::{TABLES, Table};
use tokio::sync::mpsc::{self, Sender};
use uzel_model::Timestamp;

use crate::{
    PostgresOptions, StoreError,
    postgres::copy::{Server, next_week},
    sqlite::copy::File,
};

/// One end of a copy.
#[derive(Debug, Clone)]
pub enum Place {
    /// A database file. Whoever copies holds the lock of its folder.
    Sqlite(PathBuf),
    Postgres(PostgresOptions),
}

/// Why a copy did not go. What the source holds is as it was.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CopyError(String);

/// How far a copy has come.
#[derive(Debug, Clone, Copy)]
pub enum Copying {
    /// Both ends are ready; from now on nothing may change.
    Begun { rows: u64 },
    /// So many more rows were written.
    Written { table: &'static str, rows: u64 },
    /// All is written, and is read back now.
    Checking,
    /// So many more rows were read back.
    Checked { rows: u64 },
    /// The target's own laws are looked at.
    Laws,
}

/// What was copied of one table, and what the target holds of it.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    pub table: &'static str,
    pub rows: u64,
    pub bytes: u64,
    /// Sum of the hashes of all rows, in hex.
    pub sum: String,
    pub target_rows: u64,
    pub target_bytes: u64,
    pub target_sum: String,
    pub equal: bool,
}

/// How a copy ended.
#[derive(Debug, Clone, Serialize)]
pub struct CopyReport {
    pub rows: u64,
    pub bytes: u64,
    /// Ids that were changed, since SQLite allows no two of one moment.
    pub new_ids: u64,
    pub tables: Vec<TableReport>,
    /// What breaks the target's own laws.
    pub found: Vec<String>,
    /// All is there, and in order: the target can be worked on.
    pub equal: bool,
}

/// What is told of a store that bears the mark.
pub(crate) fn unfinished(mark: &str) -> String {
    format!("it is half of a copy, {mark}, which was broken off or did not come out equal: copy again with `uzel copy … --again`")
}

/// A closed set of two; nothing is gained by a trait.
#[expect(clippy::large_enum_variant, reason = "there are two of them at a time")]
enum End {
    File(File),
    Server(Server),
}

macro_rules! either {
    ($end:expr, $inner:ident => $work:expr) => {
        match $end {
            End::File($inner) => $work,
            End::Server($inner) => $work,
        }
    };
}

impl End {
    async fn source(place: &Place) -> Result<Self, StoreError> {
        Ok(match place {
            Place::Sqlite(path) => Self::File(File::source(path)?),
            Place::Postgres(options) => Self::Server(Server::source(options).await?),
        })
    }

    async fn target(place: &Place) -> Result<Self, StoreError> {
        Ok(match place {
            Place::Sqlite(path) => Self::File(File::target(path)?),
            Place::Postgres(options) => Self::Server(Server::target(options).await?),
        })
    }

    async fn read(&self, table: &'static Table, rows: Sender<Vec<Row>>) -> Result<(), StoreError> {
        either!(self, end => end.read(table, rows).await)
    }

    async fn write(&self, table: &'static Table, rows: Vec<Row>) -> Result<(), StoreError> {
        either!(self, end => end.write(table, rows).await)
    }

    async fn count(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        either!(self, end => end.count().await)
    }

    async fn laws(&self) -> Result<Vec<String>, StoreError> {
        either!(self, end => end.laws().await)
    }

    async fn set_mark(&self, mark: Option<String>) -> Result<(), StoreError> {
        either!(self, end => end.set_mark(mark).await)
    }

    async fn finish(&mut self) -> Result<(), StoreError> {
        either!(self, end => end.finish().await)
    }

    /// Nothing but an empty target is taken, or, where that is asked for, what a copy left that was broken off.
    async fn prepare(&self, again: bool) -> Result<(), StoreError> {
        match either!(self, end => end.mark().await)? {
            Some(_) if again => either!(self, end => end.clear().await)?,
            Some(mark) => return Err(StoreError::Failed(unfinished(&mark))),
            None => {}
        }
        let held: Vec<String> = self
            .count()
            .await?
            .into_iter()
            .filter(|(_, rows)| *rows > 0)
            .map(|(table, rows)| format!("{table} {rows}"))
            .collect();
        if !held.is_empty() {
            return Err(StoreError::Failed(format!(
                "it is not empty, and nothing is ever copied over what is there. Rows in it: {}. Name an empty one",
                held.join(", ")
            )));
        }
        Ok(())
    }
}

/// How many rows there are to copy, also while somebody works on them.
pub async fn rows_to_copy(place: &Place) -> Result<u64, CopyError> {
    let at_source = at("the source");
    let source = End::source(place).await.map_err(at_source)?;
    Ok(source.count().await.map_err(at_source)?.iter().map(|(_, rows)| rows).sum())
}

/// Copies all that a store holds into an empty one of the other kind, and reads it back. With `again`, what a copy has left there
/// that was broken off is cleared first.
pub async fn copy(from: &Place, to: &Place, again: bool, told: &mut dyn FnMut(Copying)) -> Result<CopyReport, CopyError> {
    let (at_source, at_target) = (at("the source"), at("the target"));
    let source = End::source(from).await.map_err(at_source)?;
    let mut target = End::target(to).await.map_err(at_target)?;
    target.prepare(again).await.map_err(at_target)?;
    let broken = source.laws().await.map_err(at_source)?;
    if !broken.is_empty() {
        return Err(CopyError(format!(
            "the source is not in order: {}. Run `uzel fsck --repair` on it first",
            broken.join("; ")
        )));
    }
    let rows = source.count().await.map_err(at_source)?.iter().map(|(_, rows)| rows).sum();
    let mark = format!("begun {:.0}", Timestamp::now());
    target.set_mark(Some(mark)).await.map_err(at_target)?;
    told(Copying::Begun { rows });
    let mut renames = match &mut target {
        End::File(_) => Some(Renames::default()),
        End::Server(server) => {
            if let End::File(file) = &source {
                let weeks = file.weeks(next_week).await.map_err(at_source)?;
                server.cover(&weeks).await.map_err(at_target)?;
            }
            None
        }
    };
    let mut sums = Vec::new();
    for table in TABLES {
        sums.push(carry(table, &source, &target, renames.as_mut(), told).await?);
    }
    target.finish().await.map_err(at_target)?;
    told(Copying::Checking);
    let mut tables = Vec::new();
    for (table, sum) in TABLES.iter().zip(sums) {
        tables.push(compare(table, sum, sum_of(table, &target, told).await.map_err(at_target)?));
    }
    told(Copying::Laws);
    let found = target.laws().await.map_err(at_target)?;
    let equal = found.is_empty() && tables.iter().all(|table| table.equal);
    if equal {
        target.set_mark(None).await.map_err(at_target)?;
    }
    Ok(CopyReport {
        rows: tables.iter().map(|table| table.rows).sum(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
        new_ids: renames.map_or(0, |renames| renames.count()),
        tables,
        found,
        equal,
    })
}

/// Says which end an error is of.
fn at(end: &'static str) -> impl Fn(StoreError) -> CopyError + Copy {
    move |error| match error {
        StoreError::Failed(why) => CopyError(format!("{end}: {why}")),
        other => CopyError(format!("{end}: {other}")),
    }
}

/// Carries one table over; while a portion is written, the next ones are read.
async fn carry(
    table: &'static Table,
    source: &End,
    target: &End,
    mut renames: Option<&mut Renames>,
    told: &mut dyn FnMut(Copying),
) -> Result<Sum, CopyError> {
    let (send, mut receive) = mpsc::channel::<Vec<Row>>(2);
    // Where it fails, its end of the channel goes with it, and nobody reads on.
    let writing = async move {
        let mut sum = Sum::default();
        while let Some(mut rows) = receive.recv().await {
            for row in &mut rows {
                if let Some(renames) = &mut renames {
                    renames.apply(table, row);
                }
                sum.add(row);
            }
            let count = rows.len() as u64;
            target.write(table, rows).await?;
            told(Copying::Written { table: table.name, rows: count });
        }
        Ok::<_, StoreError>(sum)
    };
    let (read, written) = tokio::join!(source.read(table, send), writing);
    let sum = written.map_err(at("the target"))?;
    read.map_err(at("the source"))?;
    Ok(sum)
}

async fn sum_of(table: &'static Table, target: &End, told: &mut dyn FnMut(Copying)) -> Result<Sum, StoreError> {
    let (send, mut receive) = mpsc::channel::<Vec<Row>>(2);
    let adding = async {
        let mut sum = Sum::default();
        while let Some(rows) = receive.recv().await {
            rows.iter().for_each(|row| sum.add(row));
            told(Copying::Checked { rows: rows.len() as u64 });
        }
        sum
    };
    let (read, sum) = tokio::join!(target.read(table, send), adding);
    read?;
    Ok(sum)
}

fn compare(table: &Table, source: Sum, target: Sum) -> TableReport {
    TableReport {
        table: table.name,
        rows: source.rows,
        bytes: source.bytes,
        sum: format!("{:032x}", source.hashes),
        target_rows: target.rows,
        target_bytes: target.bytes,
        target_sum: format!("{:032x}", target.hashes),
        equal: source == target,
    }
}
