//! What entries are found by. See the tables `reference` and `reference_new`.

use rusqlite::{Connection, Result};

use crate::numbers::key;

/// So many new references are put into the index at once.
const GATHERED: i64 = 4_096;
/// A part of the index holds so many: few pages to write, and few parts to look into.
const PART: i64 = 65_536;

/// The entries of a reference, as SQL: its key is bound to the `?`.
pub(super) const FOUND: &str = "WITH RECURSIVE parts (part) AS
     (SELECT min(part) FROM reference UNION ALL SELECT part + 1 FROM parts WHERE part < (SELECT max(part) FROM reference)), found (key) AS (SELECT ?)
     SELECT r.entry FROM found CROSS JOIN parts CROSS JOIN reference r ON r.part = parts.part AND r.key = found.key
     UNION SELECT n.entry FROM found CROSS JOIN reference_new n ON n.key = found.key";

pub(super) fn add(db: &Connection, text: &str, entry: i64) -> Result<()> {
    db.prepare_cached("INSERT INTO reference_new (key, entry) VALUES (?1, ?2)")?.execute([key(text), entry])?;
    keep_in_order(db)
}

/// After a reference has been added: once enough are gathered, they are put into the index.
pub(super) fn keep_in_order(db: &Connection) -> Result<()> {
    // The numbers begin anew each time the table is emptied.
    if db.last_insert_rowid() >= GATHERED { put_in_order(db) } else { Ok(()) }
}

fn put_in_order(db: &Connection) -> Result<()> {
    let part: i64 = db.prepare_cached("SELECT ifnull(max(part), 0) FROM reference")?.query_row([], |row| row.get(0))?;
    let held: i64 = db.prepare_cached("SELECT count(*) FROM reference WHERE part = ?1")?.query_row([part], |row| row.get(0))?;
    let part = if held >= PART { part + 1 } else { part };
    db.prepare_cached("INSERT OR IGNORE INTO reference SELECT ?1, key, entry FROM reference_new ORDER BY key, entry")?
        .execute([part])?;
    db.prepare_cached("DELETE FROM reference_new")?.execute([])?;
    Ok(())
}
