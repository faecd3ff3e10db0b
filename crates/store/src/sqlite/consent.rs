//! What people said about messages.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Id, Timestamp};

use super::{doc, ms, setup, time};
use crate::{Consent, Contact, OptOut, PhoneHash, consent::weigh};

fn contact(row: &Row<'_>) -> Result<(Contact, Timestamp)> {
    let contact = Contact { opted_out: row.get(0)?, consented: row.get(1)?, refused: row.get(2)?, agreed: row.get(3)? };
    Ok((contact, time(4, row)?))
}

pub(super) fn contact_of(db: &Connection, merchant: Id, address: &str) -> Result<Option<(Contact, Timestamp)>> {
    db.prepare_cached("SELECT opted_out, consented, refused, agreed, at FROM contact WHERE merchant = ?1 AND phone = ?2")?
        .query_row(params![merchant.as_bytes(), address], contact)
        .optional()
}

/// Writes a word down, and what follows from it. Whether anything does: not from one that is known, nor where a later one stands.
pub(super) fn put(db: &Connection, word: &Consent, phones: Option<&PhoneHash>) -> Result<bool> {
    let text = serde_json::to_string(word).expect("texts and times are JSON");
    let new = db
        .prepare_cached("INSERT OR IGNORE INTO consent (key, merchant, address, at, doc) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![word.key, word.merchant.as_bytes(), word.address, ms(word.at), text])?;
    if new == 0 {
        return Ok(false);
    }
    let hash = phones.map(|hash| hash(word.merchant, &word.address));
    let erased_at = hash.map(|hash| setup::opted_out_at(db, word.merchant, &hash)).transpose()?.flatten();
    let erased_at = erased_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    let Some((contact, at)) = weigh(contact_of(db, word.merchant, &word.address)?, erased_at, word) else { return Ok(false) };
    if let Some(hash) = hash {
        // The row of the contact says it from now on.
        db.prepare_cached("DELETE FROM opted_out WHERE merchant = ?1 AND hash = ?2")?
            .execute(params![word.merchant.as_bytes(), hash])?;
    }
    db.prepare_cached(
        "INSERT INTO contact (merchant, phone, opted_out, consented, proof, at, refused, agreed) VALUES (?1,?2,?3,?4,?5,?6,?7,?8)
         ON CONFLICT DO UPDATE SET opted_out = excluded.opted_out, consented = excluded.consented, proof = excluded.proof,
             at = excluded.at, refused = excluded.refused, agreed = excluded.agreed",
    )?
    .execute(params![
        word.merchant.as_bytes(),
        word.address,
        contact.opted_out,
        contact.consented,
        word.text,
        ms(at),
        contact.refused,
        contact.agreed
    ])?;
    Ok(true)
}

/// Newest first.
pub(super) fn list(db: &Connection, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>> {
    db.prepare_cached("SELECT doc, key FROM consent WHERE merchant = ?1 AND address = ?2 ORDER BY at DESC, key LIMIT ?3")?
        .query_map(params![merchant.as_bytes(), address, limit as i64], |row| {
            let address = address.to_owned();
            Ok(Consent { key: row.get(1)?, merchant, address, ..doc(0, row)? })
        })?
        .collect()
}

pub(super) fn opt_outs(db: &Connection, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>> {
    db.prepare_cached(
        "SELECT opted_out, consented, refused, agreed, at, phone FROM contact
         WHERE merchant = ?1 AND phone > ?2 AND (opted_out OR refused <> 0) ORDER BY phone LIMIT ?3",
    )?
    .query_map(params![merchant.as_bytes(), after, limit as i64], |row| {
        let (contact, since) = contact(row)?;
        let channels = (!contact.opted_out).then(|| contact.refused_channels());
        Ok(OptOut { address: row.get(5)?, channels, since })
    })?
    .collect()
}

pub(super) fn forget(db: &Connection, merchant: Id, address: &str) -> Result<()> {
    db.prepare_cached("DELETE FROM consent WHERE merchant = ?1 AND address = ?2")?
        .execute(params![merchant.as_bytes(), address])
        .map(drop)
}
