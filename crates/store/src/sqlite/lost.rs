//! Messages whose answer was lost, known again by their own key.

use rusqlite::{Connection, Result, params};
use uzel_model::{Id, connector::StatusNews};

use super::tally::Tally;
use crate::{
    CommandState,
    lost::{TAKEN, command},
    numbers::{command_number, command_tally},
};

/// Ends the command whose key the status brings as done if its outcome is unknown. While it is being sent, its answer counts.
pub(super) fn recognise(db: &Connection, connection: Id, news: &StatusNews, now: i64, tally: &mut Tally) -> Result<()> {
    let Some(command) = command(news).map(|command| command.ordinal()) else { return Ok(()) };
    db.prepare_cached(
        "UPDATE sending SET told = ?2 WHERE command = ?1
         AND EXISTS (SELECT 1 FROM command WHERE ordinal = ?1 AND connection = ?3)",
    )?
    .execute(params![command, news.provider_id, connection.as_bytes()])?;
    end(db, *connection.as_bytes(), command, &news.provider_id, now, tally)
}

/// Ends a command of unknown outcome as done, under the provider's id.
pub(super) fn end(
    db: &Connection,
    connection: [u8; 16],
    command: i64,
    provider_id: &str,
    now: i64,
    tally: &mut Tally,
) -> Result<()> {
    let (unknown, done) = (CommandState::Unknown, CommandState::Done);
    let ended = db
        .prepare_cached(
            "UPDATE command SET state = ?2, reason = ?3, provider_id = ?4 WHERE ordinal = ?1 AND connection = ?5 AND state = ?6",
        )?
        .execute(params![command, command_number(done), TAKEN, provider_id, connection, command_number(unknown)])?;
    if ended > 0 {
        tally.shift(command_tally(unknown), command_tally(done));
        db.prepare_cached("INSERT OR IGNORE INTO sent (connection, provider_id, command, at, state) VALUES (?1, ?2, ?3, ?4, 0)")?
            .execute(params![connection, provider_id, command, now])?;
    }
    Ok(())
}
