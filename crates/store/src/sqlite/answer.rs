//! What requests under callers' own keys came to.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::Timestamp;

use super::ms;
use crate::{Begun, KeptAnswer};

/// Of those whose time is over so many go with each that begins.
const FORGOTTEN: i64 = 100;

pub(super) fn begin(
    db: &Connection,
    key: [u8; 16],
    body: [u8; 16],
    now: Timestamp,
    hold_ms: i64,
    keep_until: Timestamp,
) -> Result<Begun> {
    db.prepare_cached("DELETE FROM answer WHERE key IN (SELECT key FROM answer WHERE until <= ?1 LIMIT ?2)")?
        .execute([ms(now), FORGOTTEN])?;
    let known: Option<([u8; 16], i64, Option<KeptAnswer>)> = db
        .prepare_cached("SELECT body, held_until, status, answer FROM answer WHERE key = ?1 AND until > ?2")?
        .query_row(params![key, ms(now)], |row| {
            let status: Option<u16> = row.get(2)?;
            let answer = status.map(|status| Ok::<_, rusqlite::Error>(KeptAnswer { status, body: row.get(3)? })).transpose()?;
            Ok((row.get(0)?, row.get(1)?, answer))
        })
        .optional()?;
    match known {
        Some((other, ..)) if other != body => return Ok(Begun::Other),
        Some((.., Some(answer))) => return Ok(Begun::Done(answer)),
        Some((_, held_until, None)) if held_until > ms(now) => return Ok(Begun::Running),
        _ => {}
    }
    db.prepare_cached("INSERT OR REPLACE INTO answer (key, body, held_until, until) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![key, body, ms(now) + hold_ms, ms(keep_until)])?;
    Ok(Begun::New)
}

pub(super) fn end(db: &Connection, key: [u8; 16], answer: Option<&KeptAnswer>) -> Result<()> {
    match answer {
        Some(answer) => db
            .prepare_cached("UPDATE answer SET status = ?2, answer = ?3 WHERE key = ?1 AND status IS NULL")?
            .execute(params![key, answer.status, answer.body])?,
        None => db.prepare_cached("DELETE FROM answer WHERE key = ?1 AND status IS NULL")?.execute([key])?,
    };
    Ok(())
}
