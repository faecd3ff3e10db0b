//! How many rows stand in which state: counted as they change, since counting them anew would read them all.

use std::{borrow::Cow, collections::HashMap};

use rusqlite::{Connection, Result, params};

/// What one transaction changes.
#[derive(Default)]
pub(super) struct Tally(HashMap<Cow<'static, str>, i64>);

impl Tally {
    pub(super) fn add(&mut self, what: impl Into<Cow<'static, str>>, by: i64) {
        *self.0.entry(what.into()).or_default() += by;
    }

    /// A row leaves one state for another.
    pub(super) fn shift(&mut self, from: &'static str, to: &'static str) {
        self.add(from, -1);
        self.add(to, 1);
    }

    pub(super) fn write(self, db: &Connection) -> Result<()> {
        for (what, by) in self.0.into_iter().filter(|(_, by)| *by != 0) {
            db.prepare_cached("INSERT INTO tally VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + excluded.count")?
                .execute(params![what, by])?;
        }
        Ok(())
    }
}

/// The counts of one kind (`entry`, `command`, `held`), by what follows its name.
pub(super) fn counts(db: &Connection, kind: &str) -> Result<Vec<(String, u64)>> {
    // In the order of texts `0` comes right after `/`.
    db.prepare_cached(
        "SELECT substr(what, length(?1) + 2), count FROM tally WHERE what > ?1 || '/' AND what < ?1 || '0' AND count > 0",
    )?
    .query_map([kind], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64)))?
    .collect()
}
