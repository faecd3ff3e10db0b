//! Who changed what, and how rows of the setup stood before.

use deadpool_postgres::GenericClient;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use uzel_model::{Id, Timestamp, id::Kind};

use super::{doc, failed, get, id, journal::text, lanes::Fault, maybe_id, uuid};
use crate::{
    Audit, AuditFilter, SetupRow, SetupVersion, StoreError,
    setup::{AUDIT_DAYS, VERSIONS_MAX, changed_by},
};

/// Of those whose time is over so many go with each that is written.
const FORGOTTEN: i64 = 1_000;

pub(super) async fn put(client: &impl GenericClient, rows: &[Audit]) -> Result<(), Fault> {
    let Some(newest) = rows.iter().map(|row| row.at).max() else { return Ok(()) };
    let put = client.prepare_cached("INSERT INTO audit VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING").await?;
    for row in rows {
        let (merchant, detail) = (row.merchant.map(uuid), row.detail.to_string());
        client
            .execute(&put, &[&uuid(row.id), &row.at, &merchant, &text(&row.by), &text(&row.action), &text(&row.object), &detail])
            .await?;
    }
    // By the newest change's time, but never by one that is still to come.
    let forget = client
        .prepare_cached(&format!(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit
                 WHERE at < least($1, clock_timestamp()) - interval '{AUDIT_DAYS} days' LIMIT $2 FOR UPDATE SKIP LOCKED)"
        ))
        .await?;
    client.execute(&forget, &[&newest, &FORGOTTEN]).await?;
    Ok(())
}

/// Newest first.
pub(super) async fn list(client: &impl GenericClient, filter: &AuditFilter) -> Result<Vec<Audit>, StoreError> {
    let (merchant, before, limit) = (filter.merchant.map(uuid), filter.before.map(uuid), filter.limit as i64);
    let mut sql = "SELECT id, at, merchant, who, action, object, detail FROM audit WHERE true".to_owned();
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&limit];
    for (condition, value) in [
        (" AND merchant = $", merchant.as_ref().map(|value| value as &(dyn ToSql + Sync))),
        (" AND object = $", filter.object.as_ref().map(|value| value as &(dyn ToSql + Sync))),
        (" AND id < $", before.as_ref().map(|value| value as &(dyn ToSql + Sync))),
    ] {
        if let Some(value) = value {
            values.push(value);
            sql = format!("{sql}{condition}{}", values.len());
        }
    }
    let statement = client.prepare_cached(&format!("{sql} ORDER BY id DESC LIMIT $1")).await.map_err(failed)?;
    let rows = client.query(&statement, &values).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Audit {
                id: id(Kind::Audit, row, 0)?,
                at: get(row, 1)?,
                merchant: maybe_id(Kind::Merchant, row, 2)?,
                by: get(row, 3)?,
                action: get(row, 4)?,
                object: get(row, 5)?,
                detail: doc(row, 6)?,
            })
        })
        .collect()
}

/// Keeps how rows stand from now on.
pub(super) async fn put_versions(client: &impl GenericClient, rows: &[(&SetupRow, i64)], audit: &[Audit]) -> Result<(), Fault> {
    let ids: Vec<Uuid> = rows.iter().map(|(row, _)| uuid(row.id)).collect();
    let versions: Vec<i64> = rows.iter().map(|(_, version)| *version).collect();
    let changed: Vec<(&str, Option<Timestamp>)> = rows.iter().map(|(row, _)| changed_by(audit, row.id)).collect();
    let by: Vec<String> = changed.iter().map(|(by, _)| text(by).into_owned()).collect();
    let at: Vec<Option<Timestamp>> = changed.iter().map(|(_, at)| *at).collect();
    let slugs: Vec<_> = rows.iter().map(|(row, _)| text(&row.slug)).collect();
    let docs: Vec<String> = rows.iter().map(|(row, _)| row.doc.to_string()).collect();
    let put = client
        .prepare_cached(
            "INSERT INTO setup_version SELECT id, version, coalesce(at, clock_timestamp()), who, slug, doc
             FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])
                 AS v (id, version, at, who, slug, doc)",
        )
        .await?;
    client.execute(&put, &[&ids, &versions, &at, &by, &slugs, &docs]).await?;
    let trim = client
        .prepare_cached(
            "DELETE FROM setup_version v USING unnest($1::uuid[], $2::bigint[]) AS n (id, version)
             WHERE v.id = n.id AND v.version <= n.version - $3",
        )
        .await?;
    client.execute(&trim, &[&ids, &versions, &VERSIONS_MAX]).await?;
    Ok(())
}

/// Newest first.
pub(super) async fn versions(client: &impl GenericClient, row: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError> {
    let statement = client
        .prepare_cached("SELECT version, at, who, slug, doc FROM setup_version WHERE id = $1 ORDER BY version DESC LIMIT $2")
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(row), &(limit as i64)]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(SetupVersion { version: get(row, 0)?, at: get(row, 1)?, by: get(row, 2)?, slug: get(row, 3)?, doc: doc(row, 4)? })
        })
        .collect()
}
