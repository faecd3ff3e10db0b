//! Codes by which people prove an address.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{id, ms, time};
use crate::{
    CodeLimit, CodeTry, NewCode,
    code::{FORGOTTEN, KEPT},
};

/// Keeps a code, if all limits allow it; else gives when they do.
pub(super) fn put(db: &Connection, code: &NewCode, limits: &[CodeLimit]) -> Result<Option<Timestamp>> {
    let over = code.made_at.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
    db.prepare_cached("DELETE FROM code WHERE id IN (SELECT id FROM code WHERE made_at < ?1 LIMIT ?2)")?
        .execute([ms(over), FORGOTTEN])?;
    let (merchant, to) = (code.merchant.as_bytes(), code.to);
    let mut wait_until: Option<Timestamp> = None;
    for limit in limits {
        // The one that has to be past the period for one more to fit.
        let sql = match limit.per_address {
            true => {
                "SELECT made_at FROM code WHERE merchant = ?1 AND made_at > ?2 AND to_hash = ?4 ORDER BY made_at DESC LIMIT 1 OFFSET ?3"
            }
            false => {
                "SELECT made_at FROM code WHERE merchant = ?1 AND made_at > ?2 AND ?4 NOT NULL ORDER BY made_at DESC LIMIT 1 OFFSET ?3"
            }
        };
        let full: Option<Timestamp> = db
            .prepare_cached(sql)?
            .query_row(params![merchant, ms(limit.since(code.made_at)), limit.codes - 1, to], |row| time(0, row))
            .optional()?;
        wait_until = wait_until.max(full.map(|made_at| made_at + limit.period));
    }
    if wait_until.is_none() {
        db.prepare_cached("INSERT INTO code VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0)")?.execute(params![
            code.id.as_bytes(),
            merchant,
            to,
            code.hash,
            ms(code.made_at),
            ms(code.ends_at)
        ])?;
    }
    Ok(wait_until)
}

/// Counts a try; nothing where the code has ended, was used, or has had all its tries.
pub(super) fn try_one(db: &Connection, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>> {
    db.prepare_cached(
        "UPDATE code SET tries = tries + 1 WHERE id = ?1 AND NOT used AND tries < ?3 AND ends_at > ?2
         RETURNING merchant, to_hash, hash, ?3 - tries",
    )?
    .query_row(params![code.as_bytes(), ms(now), tries_max], |row| {
        Ok(CodeTry { merchant: id(Kind::Merchant, 0, row)?, to: row.get(1)?, hash: row.get(2)?, left: row.get(3)? })
    })
    .optional()
}

/// Of many who use a code one does.
pub(super) fn spend(db: &Connection, code: Id) -> Result<bool> {
    let spent = db.prepare_cached("UPDATE code SET used = 1 WHERE id = ?1 AND NOT used")?.execute([code.as_bytes()])?;
    Ok(spent == 1)
}
