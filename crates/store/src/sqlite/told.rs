//! Which events were told, and what became of them on one way out.

use rusqlite::{Connection, Result, params};
use uzel_model::{Event, Id};

use super::doc;
use crate::{CommandState, numbers::command_state};

pub(super) fn after(
    db: &Connection,
    merchant: Id,
    way_out: Id,
    after: Id,
    limit: usize,
) -> Result<Vec<(Event, Vec<CommandState>)>> {
    let events: Vec<Event> = db
        .prepare_cached("SELECT doc FROM event WHERE ordinal > ?1 AND doc ->> 'merchant' = ?2 ORDER BY ordinal LIMIT ?3")?
        .query_map(params![after.ordinal(), merchant.to_string(), limit as i64], |row| doc(0, row))?
        .collect::<Result<_>>()?;
    let mut states = db.prepare_cached("SELECT state FROM command WHERE entry = ?1 AND event = ?2 AND connection = ?3")?;
    let with_states = events.into_iter().map(|event| {
        let values = params![event.entry.ordinal(), event.id.as_bytes(), way_out.as_bytes()];
        let states = states.query_map(values, |row| Ok(command_state(row.get(0)?)))?.collect::<Result<_>>()?;
        Ok((event, states))
    });
    with_states.collect()
}
