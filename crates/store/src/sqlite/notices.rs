//! Notices that people are still to be told of, and how often they were told.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{id, ms};
use crate::{Notice, Told, Untold, numbers::kind_of};

pub(super) fn untold(db: &Connection, limit: usize) -> Result<Vec<Untold>> {
    db.prepare_cached(
        "SELECT merchant, connection, kind, text, day, (SELECT s.kind FROM setup s WHERE s.id = connection)
         FROM notice WHERE told_at IS NULL ORDER BY notice.merchant, notice.day, notice.connection, notice.kind LIMIT ?1",
    )?
    .query_map([limit as i64], |row| {
        let notice = Notice {
            merchant: id(Kind::Merchant, 0, row)?,
            connection: id(row.get_ref(5)?.as_str_or_null()?.map_or(Kind::Connection, kind_of), 1, row)?,
            kind: row.get(2)?,
            text: row.get(3)?,
        };
        Ok(Untold { notice, day: row.get(4)? })
    })?
    .collect()
}

pub(super) fn tellings(db: &Connection, merchant: Id, since: Timestamp) -> Result<u64> {
    let sql = "SELECT count(DISTINCT told_at) FROM notice WHERE merchant = ?1 AND told_at > ?2";
    let count: i64 = db.prepare_cached(sql)?.query_row(params![merchant.as_bytes(), ms(since)], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn noticed(db: &Connection, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT max(day) FROM notice WHERE merchant = ?1 AND connection = ?2 AND kind = ?3")?
        .query_row(params![merchant.as_bytes(), connection.as_bytes(), kind], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}

/// Whether nobody was told of any of them yet.
pub(super) fn tell(db: &Connection, told: &Told) -> Result<bool> {
    let untold = "SELECT 1 FROM notice WHERE merchant = ?1 AND connection = ?2 AND kind = ?3 AND day = ?4 AND told_at IS NULL";
    for (connection, kind, day) in &told.notices {
        if !db.prepare_cached(untold)?.exists(params![told.merchant.as_bytes(), connection.as_bytes(), kind, day])? {
            return Ok(false);
        }
    }
    for (connection, kind, day) in &told.notices {
        db.prepare_cached("UPDATE notice SET told_at = ?5 WHERE merchant = ?1 AND connection = ?2 AND kind = ?3 AND day = ?4")?
            .execute(params![told.merchant.as_bytes(), connection.as_bytes(), kind, day, ms(told.at)])?;
    }
    Ok(true)
}
