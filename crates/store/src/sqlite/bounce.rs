//! Mail that came back, counted by address.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Timestamp};

use super::{consent, doc, ms};
use crate::{
    PhoneHash,
    bounce::{given_up, one_more},
};

pub(super) fn count(
    db: &Connection,
    merchant: Id,
    address: &str,
    code: &str,
    now: i64,
    phones: Option<&PhoneHash>,
) -> Result<()> {
    let person = params![merchant.as_bytes(), address];
    let before: Option<Vec<i64>> = db
        .prepare_cached("SELECT moments FROM bounce WHERE merchant = ?1 AND address = ?2")?
        .query_row(person, |row| doc(0, row))
        .optional()?;
    let word_at = consent::contact_of(db, merchant, address)?.map(|(_, at)| ms(at));
    let (moments, enough) = one_more(&before.unwrap_or_default(), now, word_at);
    if enough {
        let at = Timestamp::from_millisecond(now).unwrap_or_default();
        consent::put(db, &given_up(merchant, address, code, at), phones)?;
        return forget(db, merchant, address);
    }
    let moments = serde_json::to_string(&moments).expect("numbers are JSON");
    db.prepare_cached("INSERT OR REPLACE INTO bounce (merchant, address, at, moments) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![merchant.as_bytes(), address, now, moments])
        .map(drop)
}

pub(super) fn forget(db: &Connection, merchant: Id, address: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM bounce WHERE merchant = ?1 AND address = ?2")?
        .execute(params![merchant.as_bytes(), address])
        .map(drop)
}

/// Forgets what came back last before a moment, to a merchant or to all.
pub(super) fn purge(db: &Connection, merchant: Option<Id>, before: Timestamp) -> Result<()> {
    let of = merchant.map(|merchant| *merchant.as_bytes());
    db.execute("DELETE FROM bounce WHERE at < ?1 AND (?2 IS NULL OR merchant = ?2)", params![ms(before), of]).map(drop)
}
