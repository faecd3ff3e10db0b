//! Events that are still to be published, in the order of their commits.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Event, Id, Timestamp, id::Kind};

use super::{doc, id, time};

pub(super) fn switch(db: &Connection, on: bool) -> Result<()> {
    if on {
        db.execute("INSERT OR IGNORE INTO flag VALUES ('publish')", [])?;
    } else {
        db.execute_batch("DELETE FROM flag WHERE name = 'publish'; DELETE FROM unpublished;")?;
    }
    Ok(())
}

/// An event that is whole by now. Twice is no harm: its id is the same.
pub(super) fn add(db: &Connection, event: Id) -> Result<()> {
    db.prepare_cached("INSERT INTO unpublished (event) SELECT ?1 FROM flag WHERE name = 'publish'")?
        .execute([event.ordinal()])?;
    Ok(())
}

/// The event whose look-up came to nothing: it is told without what was looked for. A look-up goes where the event came from.
pub(super) fn add_unresolved(db: &Connection, command: i64) -> Result<()> {
    let event = db
        .prepare_cached(
            "SELECT event FROM command WHERE ordinal = ?1 AND repeatable AND connection = source AND event IS NOT NULL",
        )?
        .query_row([command], |row| id(Kind::Event, 0, row))
        .optional()?;
    let Some(event) = event else { return Ok(()) };
    let pending = db.prepare_cached("SELECT 1 FROM event WHERE ordinal = ?1 AND pending")?.exists([event.ordinal()])?;
    if pending { add(db, event) } else { Ok(()) }
}

pub(super) fn unpublished(db: &Connection, limit: usize) -> Result<Vec<(i64, Event)>> {
    db.prepare_cached(
        "SELECT number, doc FROM unpublished JOIN event ON event.ordinal = unpublished.event ORDER BY number LIMIT ?1",
    )?
    .query_map([limit as i64], |row| Ok((row.get(0)?, doc(1, row)?)))?
    .collect()
}

pub(super) fn published(db: &Connection, numbers: &[i64]) -> Result<()> {
    for number in numbers {
        db.prepare_cached("DELETE FROM unpublished WHERE number = ?1")?.execute(params![number])?;
    }
    Ok(())
}

pub(super) fn waiting(db: &Connection) -> Result<(u64, Option<Timestamp>)> {
    let count: i64 = db.query_row("SELECT count(*) FROM unpublished", [], |row| row.get(0))?;
    let since = db
        .prepare_cached(
            "SELECT j.received_at FROM unpublished u JOIN event e ON e.ordinal = u.event JOIN inbox j ON j.ordinal = e.entry
             ORDER BY u.number LIMIT 1",
        )?
        .query_row([], |row| time(0, row))
        .optional()?;
    Ok((count as u64, since))
}
