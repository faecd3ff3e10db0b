//! Who changed what, and how rows of the setup stood before.

use rusqlite::{Connection, Result, ToSql, params};
use uzel_model::{Id, id::Kind};

use super::{NOW, doc, id, maybe_id, ms, time};
use crate::{
    Audit, AuditFilter, SetupVersion,
    setup::{AUDIT_DAYS, VERSIONS_MAX, changed_by},
};

pub(super) fn put(db: &Connection, rows: &[Audit]) -> Result<()> {
    for row in rows {
        db.prepare_cached("INSERT OR IGNORE INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
            row.id.ordinal(),
            row.id.as_bytes(),
            ms(row.at),
            row.merchant.map(|merchant| *merchant.as_bytes()),
            row.by,
            row.action,
            row.object,
            row.detail.to_string(),
        ])?;
    }
    match rows.iter().map(|row| ms(row.at)).max() {
        Some(newest) => forget(db, newest),
        None => Ok(()),
    }
}

/// What is too old goes: by the newest change's time, but never by one that is still to come.
fn forget(db: &Connection, newest: i64) -> Result<()> {
    let before: i64 = db
        .prepare_cached(&format!("SELECT min(?1, {NOW}) - ?2"))?
        .query_row([newest, AUDIT_DAYS * 86_400_000], |row| row.get(0))?;
    for sql in [
        "DELETE FROM audit WHERE at < ?1",
        "DELETE FROM setup_version WHERE id IN (SELECT id FROM removed WHERE at < ?1)",
        "DELETE FROM removed WHERE at < ?1",
    ] {
        db.prepare_cached(sql)?.execute([before])?;
    }
    Ok(())
}

/// Newest first.
pub(super) fn list(db: &Connection, filter: &AuditFilter) -> Result<Vec<Audit>> {
    let (merchant, before) = (filter.merchant.map(|merchant| *merchant.as_bytes()), filter.before.map(|before| before.ordinal()));
    let limit = filter.limit as i64;
    let mut sql = "SELECT id, at, merchant, who, action, object, detail FROM audit WHERE true".to_owned();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    for (condition, value) in [
        (" AND merchant = ?", merchant.as_ref().map(|value| value as &dyn ToSql)),
        (" AND object = ?", filter.object.as_ref().map(|value| value as &dyn ToSql)),
        (" AND ordinal < ?", before.as_ref().map(|value| value as &dyn ToSql)),
        (" ORDER BY ordinal DESC LIMIT ?", Some(&limit as &dyn ToSql)),
    ] {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    }
    db.prepare_cached(&sql)?
        .query_map(values.as_slice(), |row| {
            Ok(Audit {
                id: id(Kind::Audit, 0, row)?,
                at: time(1, row)?,
                merchant: maybe_id(Kind::Merchant, 2, row)?,
                by: row.get(3)?,
                action: row.get(4)?,
                object: row.get(5)?,
                detail: doc(6, row)?,
            })
        })?
        .collect()
}

/// Keeps how a row stands from now on.
pub(super) fn put_version(db: &Connection, row: &crate::SetupRow, version: i64, audit: &[Audit]) -> Result<()> {
    let (by, at) = changed_by(audit, row.id);
    db.prepare_cached(&format!("INSERT INTO setup_version VALUES (?1, ?2, ifnull(?3, {NOW}), ?4, ?5, ?6)"))?.execute(params![
        row.id.as_bytes(),
        version,
        at.map(ms),
        by,
        row.slug,
        row.doc.to_string()
    ])?;
    db.prepare_cached("DELETE FROM setup_version WHERE id = ?1 AND version <= ?2")?
        .execute(params![row.id.as_bytes(), version - VERSIONS_MAX])?;
    Ok(())
}

/// Newest first.
pub(super) fn versions(db: &Connection, row: Id, limit: usize) -> Result<Vec<SetupVersion>> {
    db.prepare_cached("SELECT version, at, who, slug, doc FROM setup_version WHERE id = ?1 ORDER BY version DESC LIMIT ?2")?
        .query_map(params![row.as_bytes(), limit as i64], |row| {
            Ok(SetupVersion { version: row.get(0)?, at: time(1, row)?, by: row.get(2)?, slug: row.get(3)?, doc: doc(4, row)? })
        })?
        .collect()
}
