//! What is taken out of the setup, and what belonged to it.

use rusqlite::{Connection, Result, params};
use uzel_model::{Id, id::Kind};

use super::{NOW, events, outbox, tally::Tally};
use crate::{CommandState, Setup};

/// Ordering keys that one portion looks at, and commands of each that it holds.
const KEYS: i64 = 200;
const COMMANDS: i64 = 200;

/// Takes a row out, and what belongs to it but for its commands: see [`hold`].
pub(super) fn remove(db: &Connection, row: Id) -> Result<()> {
    if db.prepare_cached("DELETE FROM setup WHERE id = ?1")?.execute([row.as_bytes()])? == 0 {
        return Ok(());
    }
    db.prepare_cached(&format!("INSERT OR REPLACE INTO removed VALUES (?1, {NOW})"))?.execute([row.as_bytes()])?;
    db.prepare_cached("DELETE FROM access_key WHERE owner = ?1")?.execute([row.as_bytes()])?;
    db.prepare_cached("DELETE FROM refusal WHERE place = ?1")?.execute([row.to_string()])?;
    Ok(())
}

/// What is kept for connections that are gone; also what was brought for them since.
pub(super) fn sweep(db: &Connection) -> Result<()> {
    for table in ["session", "cursor", "breaker", "rhythm"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE connection IN (SELECT id FROM removed)"))?.execute([])?;
    }
    Ok(())
}

/// Holds a portion of what waits for connections that are gone, but for what is being sent. Gives how many were held: while
/// there are some, there may be more. A command whose key is led by one of another connection has to wait until it leads.
pub(super) fn hold(db: &Connection, tally: &mut Tally) -> Result<usize> {
    let keys: Vec<([u8; 16], i64)> = db
        .prepare_cached(
            "SELECT r.id, first.order_key FROM removed r
             CROSS JOIN command first INDEXED BY command_due ON first.connection = r.id AND first.state = 0 AND first.behind = 0
             WHERE EXISTS (SELECT 1 FROM command c INDEXED BY command_order WHERE c.order_key = first.order_key AND c.state = 0
                 AND c.connection = r.id AND c.ordinal NOT IN (SELECT command FROM sending)) LIMIT ?1",
        )?
        .query_map([KEYS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    let mut held = 0;
    for (connection, order_key) in keys {
        held += hold_key(db, connection, order_key, tally)?;
    }
    Ok(held)
}

fn hold_key(db: &Connection, connection: [u8; 16], order_key: i64, tally: &mut Tally) -> Result<usize> {
    // The last first: then none steps forward only to be held next.
    let waiting: Vec<(i64, Option<[u8; 16]>)> = db
        .prepare_cached(
            "SELECT ordinal, event FROM command INDEXED BY command_order WHERE order_key = ?1 AND state = 0 AND connection = ?2
             AND ordinal NOT IN (SELECT command FROM sending) ORDER BY due_at DESC, ordinal DESC LIMIT ?3",
        )?
        .query_map(params![order_key, connection, COMMANDS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    for (command, event) in &waiting {
        if let Some(event) = event {
            events::close(db, Id::from_bytes(Kind::Event, *event))?;
        }
        outbox::hold_back(db, *command, order_key, CommandState::Waiting, Setup::REMOVED, tally)?;
    }
    Ok(waiting.len())
}
