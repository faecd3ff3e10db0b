//! What is set up: merchants, outlets, connections, flows, keys; and what is known of people and logins.

use rusqlite::{Connection, OptionalExtension, Result, params, types::FromSql};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{doc, id, maybe_id, ms};
use crate::{
    Contact, KeyRow, Notice, Setup, SetupRow,
    numbers::{kind_of, kind_word},
};

pub(super) fn load(db: &Connection) -> Result<Setup> {
    let rows = db
        .prepare("SELECT kind, id, merchant, slug, doc, sealed FROM setup ORDER BY id")?
        .query_map([], |row| {
            Ok(SetupRow {
                id: id(kind_of(row.get_ref(0)?.as_str()?), 1, row)?,
                merchant: maybe_id(Kind::Merchant, 2, row)?,
                slug: row.get(3)?,
                doc: doc(4, row)?,
                sealed: row.get(5)?,
            })
        })?
        .collect::<Result<_>>()?;
    let keys = db
        .prepare("SELECT hash, id, owner, about, webhook FROM access_key")?
        .query_map([], |row| {
            let webhook: bool = row.get(4)?;
            let of = maybe_id(if webhook { Kind::Connection } else { Kind::Merchant }, 2, row)?;
            Ok(KeyRow { hash: row.get(0)?, id: row.get(1)?, of, about: row.get(3)?, webhook })
        })?
        .collect::<Result<_>>()?;
    Ok(Setup { rows, keys, ..Setup::default() })
}

/// Puts rows and keys; what is not named stays as it was.
pub(super) fn put(db: &Connection, setup: &Setup) -> Result<()> {
    for row in &setup.rows {
        db.prepare_cached(
            "INSERT INTO setup (id, kind, merchant, slug, doc, sealed) VALUES (?1,?2,?3,?4,?5,?6)
             ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, doc = excluded.doc, sealed = excluded.sealed",
        )?
        .execute(params![
            row.id.as_bytes(),
            kind_word(row.id.kind()),
            row.merchant.map(|merchant| *merchant.as_bytes()),
            row.slug,
            row.doc.to_string(),
            row.sealed
        ])?;
    }
    for key in &setup.keys {
        db.prepare_cached("INSERT OR REPLACE INTO access_key (hash, id, owner, about, webhook) VALUES (?1,?2,?3,?4,?5)")?
            .execute(params![key.hash, key.id, key.of.map(|of| *of.as_bytes()), key.about, key.webhook])?;
    }
    for (sql, connections) in [
        ("DELETE FROM session WHERE connection = ?1", &setup.ends_logins),
        ("DELETE FROM cursor WHERE connection = ?1", &setup.ends_cursors),
    ] {
        for connection in connections {
            db.prepare_cached(sql)?.execute([connection.as_bytes()])?;
        }
    }
    Ok(())
}

pub(super) fn one<T: FromSql>(db: &Connection, sql: &str, connection: Id) -> Result<Option<T>> {
    db.prepare_cached(sql)?.query_row([connection.as_bytes()], |row| row.get(0)).optional()
}

pub(super) fn claim(db: &Connection, name: &str, value: &[u8]) -> Result<Vec<u8>> {
    db.prepare_cached("INSERT OR IGNORE INTO claim VALUES (?1, ?2)")?.execute(params![name, value])?;
    db.prepare_cached("SELECT value FROM claim WHERE name = ?1")?.query_row([name], |row| row.get(0))
}

pub(super) fn put_session(db: &Connection, connection: Id, sealed: &[u8]) -> Result<()> {
    db.prepare_cached("INSERT INTO session VALUES (?1, ?2) ON CONFLICT DO UPDATE SET sealed = excluded.sealed")?
        .execute(params![connection.as_bytes(), sealed])?;
    Ok(())
}

pub(super) fn contact(db: &Connection, merchant: Id, phone: &str) -> Result<Contact> {
    let found = db
        .prepare_cached("SELECT opted_out, consented FROM contact WHERE merchant = ?1 AND phone = ?2")?
        .query_row(params![merchant.as_bytes(), phone], |row| Ok(Contact { opted_out: row.get(0)?, consented: row.get(1)? }))
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// Records a consent, or its withdrawal. People may come back, so a consent ends an earlier opt-out; against a later one it
/// counts for nothing, whenever it is recorded.
pub(super) fn put_consent(db: &Connection, merchant: Id, phone: &str, granted: bool, proof: &str, at: Timestamp) -> Result<bool> {
    let recorded = db
        .prepare_cached(
            "INSERT INTO contact (merchant, phone, opted_out, consented, proof, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET opted_out = excluded.opted_out, consented = excluded.consented, proof = excluded.proof,
             at = max(contact.at, excluded.at)
         WHERE excluded.opted_out OR excluded.at >= contact.at",
        )?
        .execute(params![merchant.as_bytes(), phone, !granted, granted, proof, ms(at)])?;
    Ok(recorded > 0)
}

/// The newest notices. The limit counts those of the merchant, or a neighbour with many would hide them.
pub(super) fn notices(db: &Connection, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>> {
    db.prepare(
        "SELECT merchant, connection, kind, text, (SELECT s.kind FROM setup s WHERE s.id = connection) FROM notice WHERE ?1 IS NULL OR merchant = ?1 ORDER BY day DESC LIMIT ?2",
    )?
    .query_map(params![merchant.map(|merchant| *merchant.as_bytes()), limit as i64], |row| {
        Ok(Notice {
            merchant: id(Kind::Merchant, 0, row)?,
            connection: id(row.get_ref(4)?.as_str_or_null()?.map_or(Kind::Connection, kind_of), 1, row)?,
            kind: row.get(2)?,
            text: row.get(3)?,
        })
    })?
    .collect()
}
