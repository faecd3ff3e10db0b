//! What is sealed, and the keys that seal it.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, id::Kind};

use super::{id, maybe_id};
use crate::{
    Envelope, Purpose, Rekeying, Resealed, Sealed,
    sealed::{MASTER, MASTER_BEFORE},
};

pub(super) fn envelopes(db: &Connection) -> Result<Vec<Envelope>> {
    db.prepare("SELECT id, purpose, merchant, wrapped FROM envelope ORDER BY id")?
        .query_map([], |row| {
            let word = row.get_ref(1)?.as_str()?;
            let purpose = Purpose::of(word).ok_or(rusqlite::Error::InvalidQuery)?;
            Ok(Envelope {
                id: id(Kind::Key, 0, row)?,
                purpose,
                merchant: maybe_id(Kind::Merchant, 2, row)?,
                wrapped: row.get(3)?,
            })
        })?
        .collect()
}

fn claimed(db: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM claim WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

fn claim(db: &Connection, name: &str, value: &[u8]) -> Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO claim VALUES (?1, ?2)")?.execute(params![name, value]).map(drop)
}

pub(super) fn load(db: &Connection) -> Result<Sealed> {
    let sessions = db
        .prepare("SELECT connection, sealed FROM session")?
        .query_map([], |row| Ok((id(Kind::Connection, 0, row)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    Ok(Sealed { check: claimed(db, MASTER)?, check_before: claimed(db, MASTER_BEFORE)?, sessions })
}

/// Looks whether all is as it was, and only then writes. Gives whether it did.
pub(super) fn rekey(db: &Connection, change: &Rekeying) -> Result<bool> {
    let mut known = change.known.clone();
    known.sort_unstable();
    let there: Vec<Id> = envelopes(db)?.iter().map(|envelope| envelope.id).collect();
    if claimed(db, MASTER)? != change.was || there != known {
        return Ok(false);
    }
    let tables = [
        ("SELECT sealed = ?2 FROM setup WHERE id = ?1", "UPDATE setup SET sealed = ?2 WHERE id = ?1", &change.settings),
        (
            "SELECT sealed = ?2 FROM session WHERE connection = ?1",
            "UPDATE session SET sealed = ?2 WHERE connection = ?1",
            &change.sessions,
        ),
    ];
    for (look, _, rows) in tables {
        for Resealed { id, was, .. } in rows {
            let same: Option<Option<bool>> =
                db.prepare_cached(look)?.query_row(params![id.as_bytes(), was], |row| row.get(0)).optional()?;
            if same.flatten() != Some(true) {
                return Ok(false);
            }
        }
    }
    for (_, write, rows) in tables {
        for Resealed { id, now, .. } in rows {
            db.prepare_cached(write)?.execute(params![id.as_bytes(), now])?;
        }
    }
    for envelope in &change.envelopes {
        let merchant = envelope.merchant.map(|merchant| *merchant.as_bytes());
        db.prepare_cached("INSERT OR REPLACE INTO envelope (id, purpose, merchant, wrapped) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![envelope.id.as_bytes(), envelope.purpose.word(), merchant, envelope.wrapped])?;
    }
    for gone in &change.dropped {
        db.prepare_cached("DELETE FROM envelope WHERE id = ?1")?.execute([gone.as_bytes()])?;
    }
    if let Some(was) = change.was.as_ref().filter(|was| **was != change.check) {
        claim(db, MASTER_BEFORE, was)?;
    }
    claim(db, MASTER, &change.check)?;
    Ok(true)
}
