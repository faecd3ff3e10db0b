//! When people wrote.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Timestamp};

use super::{ms, time};
use crate::Heard;

/// What came later stays.
pub(super) fn put(db: &Connection, heard: &Heard) -> Result<()> {
    db.prepare_cached("INSERT INTO heard VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)")?
        .execute(params![heard.merchant.as_bytes(), heard.who, heard.connection.as_bytes(), ms(heard.at)])?;
    Ok(())
}

pub(super) fn last(db: &Connection, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>> {
    db.prepare_cached("SELECT at FROM heard WHERE merchant = ?1 AND who = ?2 AND connection = ?3")?
        .query_row(params![merchant.as_bytes(), who, connection.as_bytes()], |row| time(0, row))
        .optional()
}

/// Forgets one person.
pub(super) fn forget(db: &Connection, merchant: Id, who: &str) -> Result<()> {
    db.execute("DELETE FROM heard WHERE merchant = ?1 AND who = ?2", params![merchant.as_bytes(), who]).map(drop)
}

/// Forgets who wrote before a moment, to a merchant or to all.
pub(super) fn purge(db: &Connection, merchant: Option<Id>, before: Timestamp) -> Result<()> {
    let of = merchant.map(|merchant| *merchant.as_bytes());
    db.execute("DELETE FROM heard WHERE at < ?1 AND (?2 IS NULL OR merchant = ?2)", params![ms(before), of]).map(drop)
}
