//! What is set up: merchants, outlets, connections, flows, keys; and what is known of people and logins.

use rusqlite::{Connection, OptionalExtension, Result, params, types::FromSql};
use serde_json::Value;
use uzel_model::{Id, Timestamp, id::Kind};

use super::{audit, doc, id, maybe_id, maybe_time, ms, removal, time};
use crate::{
    Audit, Contact, KeyRow, Notice, PhoneHash, Setup, SetupRow,
    numbers::{kind_of, kind_word},
};

pub(super) fn load(db: &Connection) -> Result<Setup> {
    let rows = db
        .prepare("SELECT kind, id, merchant, slug, doc, sealed, version FROM setup ORDER BY id")?
        .query_map([], |row| {
            Ok(SetupRow {
                id: id(kind_of(row.get_ref(0)?.as_str()?), 1, row)?,
                merchant: maybe_id(Kind::Merchant, 2, row)?,
                slug: row.get(3)?,
                doc: doc(4, row)?,
                sealed: row.get(5)?,
                version: row.get(6)?,
            })
        })?
        .collect::<Result<_>>()?;
    let keys = db
        .prepare("SELECT hash, id, owner, about, webhook, label, made_at, expires_at, last_used_at FROM access_key")?
        .query_map([], |row| {
            let webhook: bool = row.get(4)?;
            Ok(KeyRow {
                hash: row.get(0)?,
                id: row.get(1)?,
                of: maybe_id(if webhook { Kind::Connection } else { Kind::Merchant }, 2, row)?,
                about: row.get(3)?,
                webhook,
                label: row.get(5)?,
                made_at: time(6, row)?,
                expires_at: maybe_time(7, row)?,
                last_used_at: maybe_time(8, row)?,
            })
        })?
        .collect::<Result<_>>()?;
    Ok(Setup { rows, keys, envelopes: super::sealed::envelopes(db)?, ..Setup::default() })
}

/// Whether it was put; else it is a conflict, and nothing has been written.
pub(super) fn put(db: &Connection, setup: &Setup) -> Result<bool> {
    if !holds(db, setup)? {
        return Ok(false);
    }
    for row in &setup.removes {
        removal::remove(db, *row)?;
    }
    removal::sweep(db)?;
    for key in &setup.removes_keys {
        db.prepare_cached("DELETE FROM access_key WHERE id = ?1")?.execute([key])?;
    }
    for row in &setup.rows {
        put_row(db, row, &setup.audit)?;
    }
    for key in &setup.keys {
        put_key(db, key)?;
    }
    for (sql, connections) in [
        ("DELETE FROM session WHERE connection = ?1", &setup.ends_logins),
        ("DELETE FROM cursor WHERE connection = ?1", &setup.ends_cursors),
    ] {
        for connection in connections {
            db.prepare_cached(sql)?.execute([connection.as_bytes()])?;
        }
    }
    audit::put(db, &setup.audit)?;
    Ok(true)
}

/// Whether rows have the versions that are expected, and no other row has a slug that is wanted.
fn holds(db: &Connection, setup: &Setup) -> Result<bool> {
    for (row, expected) in &setup.expects {
        let version: Option<i64> = one(db, "SELECT version FROM setup WHERE id = ?1", *row)?;
        if version.unwrap_or_default() != *expected {
            return Ok(false);
        }
    }
    for row in &setup.rows {
        let of = row.merchant.map(|merchant| *merchant.as_bytes());
        let holder: Option<Id> = db
            .prepare_cached("SELECT id FROM setup WHERE kind = ?1 AND ifnull(merchant, x'') = ifnull(?2, x'') AND slug = ?3")?
            .query_row(params![kind_word(row.id.kind()), of, row.slug], |found| id(row.id.kind(), 0, found))
            .optional()?;
        let goes = |holder: &Id| setup.removes.contains(holder) || setup.rows.iter().any(|row| row.id == *holder);
        if holder.is_some_and(|holder| !goes(&holder)) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn put_row(db: &Connection, row: &SetupRow, audit: &[Audit]) -> Result<()> {
    let before: Option<(i64, bool)> = db
        .prepare_cached("SELECT version, slug, sealed, doc FROM setup WHERE id = ?1")?
        .query_row([row.id.as_bytes()], |before| {
            let (slug, sealed): (String, Option<Vec<u8>>) = (before.get(1)?, before.get(2)?);
            let same = slug == row.slug && sealed == row.sealed && doc::<Value>(3, before)? == row.doc;
            Ok((before.get(0)?, same))
        })
        .optional()?;
    let version = match before {
        Some((_, true)) => return Ok(()),
        Some((version, false)) => version + 1,
        // It may have been there before.
        None => one(db, "SELECT ifnull(max(version), 0) + 1 FROM setup_version WHERE id = ?1", row.id)?.unwrap_or(1),
    };
    db.prepare_cached(
        "INSERT INTO setup (id, kind, merchant, slug, doc, sealed, version) VALUES (?1,?2,?3,?4,?5,?6,?7)
         ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, doc = excluded.doc, sealed = excluded.sealed,
             version = excluded.version",
    )?
    .execute(params![
        row.id.as_bytes(),
        kind_word(row.id.kind()),
        row.merchant.map(|merchant| *merchant.as_bytes()),
        row.slug,
        row.doc.to_string(),
        row.sealed,
        version
    ])?;
    db.prepare_cached("DELETE FROM removed WHERE id = ?1")?.execute([row.id.as_bytes()])?;
    audit::put_version(db, row, version, audit)
}

fn put_key(db: &Connection, key: &KeyRow) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO access_key (hash, id, owner, about, webhook, label, made_at, expires_at, last_used_at)
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9)
         ON CONFLICT (hash) DO UPDATE SET id = excluded.id, owner = excluded.owner, about = excluded.about,
             webhook = excluded.webhook, label = excluded.label, made_at = excluded.made_at, expires_at = excluded.expires_at,
             last_used_at = coalesce(max(last_used_at, excluded.last_used_at), last_used_at, excluded.last_used_at)",
    )?
    .execute(params![
        key.hash,
        key.id,
        key.of.map(|of| *of.as_bytes()),
        key.about,
        key.webhook,
        key.label,
        ms(key.made_at),
        key.expires_at.map(ms),
        key.last_used_at.map(ms)
    ])?;
    Ok(())
}

pub(super) fn touch_keys(db: &Connection, used: &[(String, Timestamp)]) -> Result<()> {
    let mut touch = db.prepare_cached("UPDATE access_key SET last_used_at = max(ifnull(last_used_at, ?2), ?2) WHERE id = ?1")?;
    for (key, at) in used {
        touch.execute(params![key, ms(*at)])?;
    }
    Ok(())
}

pub(super) fn one<T: FromSql>(db: &Connection, sql: &str, connection: Id) -> Result<Option<T>> {
    db.prepare_cached(sql)?.query_row([connection.as_bytes()], |row| row.get(0)).optional()
}

pub(super) fn put_session(db: &Connection, connection: Id, sealed: &[u8]) -> Result<()> {
    db.prepare_cached("INSERT INTO session VALUES (?1, ?2) ON CONFLICT DO UPDATE SET sealed = excluded.sealed")?
        .execute(params![connection.as_bytes(), sealed])?;
    Ok(())
}

/// What is known of a person; of one who was erased only whether no messages were wanted.
pub(super) fn contact(db: &Connection, merchant: Id, phone: &str, phones: Option<&PhoneHash>) -> Result<Contact> {
    let found = db
        .prepare_cached("SELECT opted_out, consented, refused, agreed FROM contact WHERE merchant = ?1 AND phone = ?2")?
        .query_row(params![merchant.as_bytes(), phone], |row| {
            Ok(Contact { opted_out: row.get(0)?, consented: row.get(1)?, refused: row.get(2)?, agreed: row.get(3)? })
        })
        .optional()?;
    if let Some(contact) = found {
        return Ok(contact);
    }
    let opted_out = match phones {
        Some(hash) if db.prepare_cached("SELECT 1 FROM opted_out WHERE merchant = ?1")?.exists([merchant.as_bytes()])? => {
            opted_out_at(db, merchant, &hash(merchant, phone))?.is_some()
        }
        _ => false,
    };
    Ok(Contact { opted_out, ..Contact::default() })
}

pub(super) fn opted_out_at(db: &Connection, merchant: Id, hash: &[u8; 32]) -> Result<Option<i64>> {
    db.prepare_cached("SELECT at FROM opted_out WHERE merchant = ?1 AND hash = ?2")?
        .query_row(params![merchant.as_bytes(), hash], |row| row.get(0))
        .optional()
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
