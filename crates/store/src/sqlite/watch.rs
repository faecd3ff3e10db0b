//! What is kept beside the journal to watch over connections: refused requests, open breakers, how often webhooks come.

use rusqlite::{Connection, Result, params};
use uzel_model::{Id, id::Kind};

use super::{doc, id, ms, time};
use crate::{OpenBreaker, Refusal, Rhythm, numbers::kind_of};

/// So many refusals of a place are kept.
const REFUSALS_KEPT: i64 = 20;

pub(super) fn put_refusals(db: &Connection, refusals: &[Refusal]) -> Result<()> {
    for refusal in refusals {
        let text = serde_json::to_string(refusal).expect("a refusal is JSON");
        db.prepare_cached("INSERT INTO refusal SELECT ?1, ifnull(max(ordinal), 0) + 1, ?2 FROM refusal WHERE place = ?1")?
            .execute(params![refusal.place, text])?;
        db.prepare_cached(
            "DELETE FROM refusal WHERE place = ?1 AND ordinal <= (SELECT max(ordinal) FROM refusal WHERE place = ?1) - ?2",
        )?
        .execute(params![refusal.place, REFUSALS_KEPT])?;
    }
    Ok(())
}

/// Newest first.
pub(super) fn refusals(db: &Connection, place: &str) -> Result<Vec<Refusal>> {
    db.prepare_cached("SELECT doc FROM refusal WHERE place = ?1 ORDER BY ordinal DESC")?
        .query_map([place], |row| doc(0, row))?
        .collect()
}

pub(super) fn put_breaker(db: &Connection, connection: Id, open: Option<&OpenBreaker>) -> Result<()> {
    match open {
        Some(open) => db.prepare_cached("INSERT OR REPLACE INTO breaker VALUES (?1, ?2, ?3)")?.execute(params![
            connection.as_bytes(),
            ms(open.since),
            open.reason
        ])?,
        None => db.prepare_cached("DELETE FROM breaker WHERE connection = ?1")?.execute([connection.as_bytes()])?,
    };
    Ok(())
}

pub(super) fn breakers(db: &Connection) -> Result<Vec<(Id, OpenBreaker)>> {
    db.prepare("SELECT connection, since, reason, (SELECT kind FROM setup WHERE id = connection) FROM breaker")?
        .query_map([], |row| {
            let kind = row.get_ref(3)?.as_str_or_null()?.map_or(Kind::Connection, kind_of);
            Ok((id(kind, 0, row)?, OpenBreaker { since: time(1, row)?, reason: row.get(2)? }))
        })?
        .collect()
}

pub(super) fn put_rhythms(db: &Connection, rhythms: &[(Id, Rhythm)]) -> Result<()> {
    for (connection, rhythm) in rhythms {
        db.prepare_cached("INSERT OR REPLACE INTO rhythm VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
            connection.as_bytes(),
            ms(rhythm.first_at),
            ms(rhythm.last_at),
            rhythm.count as i64,
            rhythm.gap_ms,
            rhythm.longest_ms
        ])?;
    }
    Ok(())
}

pub(super) fn rhythms(db: &Connection) -> Result<Vec<(Id, Rhythm)>> {
    db.prepare("SELECT connection, first_at, last_at, count, gap_ms, longest_ms FROM rhythm")?
        .query_map([], |row| {
            let rhythm = Rhythm {
                first_at: time(1, row)?,
                last_at: time(2, row)?,
                count: row.get::<_, i64>(3)? as u64,
                gap_ms: row.get(4)?,
                longest_ms: row.get(5)?,
            };
            Ok((id(Kind::Connection, 0, row)?, rhythm))
        })?
        .collect()
}
