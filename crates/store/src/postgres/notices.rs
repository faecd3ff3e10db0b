//! Notices that people are still to be told of, and how often they were told.

use deadpool_postgres::{GenericClient, Transaction};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{failed, get, id, journal::text, lanes::Fault, uuid};
use crate::{Change, Notice, StoreError, Untold, numbers::kind_of};

pub(super) async fn untold(client: &impl GenericClient, limit: usize) -> Result<Vec<Untold>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT merchant, connection, kind, text, day, (SELECT s.kind FROM setup s WHERE s.id = connection)
             FROM notice WHERE told_at IS NULL ORDER BY notice.merchant, notice.day, notice.connection, notice.kind LIMIT $1",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&(limit as i64)]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let notice = Notice {
                merchant: id(Kind::Merchant, row, 0)?,
                connection: id(get::<Option<String>>(row, 5)?.map_or(Kind::Connection, |word| kind_of(&word)), row, 1)?,
                kind: get(row, 2)?,
                text: get(row, 3)?,
            };
            Ok(Untold { notice, day: get::<i32>(row, 4)?.into() })
        })
        .collect()
}

pub(super) async fn tellings(client: &impl GenericClient, merchant: Id, since: Timestamp) -> Result<u64, StoreError> {
    let sql = "SELECT count(DISTINCT told_at) FROM notice WHERE merchant = $1 AND told_at > $2";
    let statement = client.prepare_cached(sql).await.map_err(failed)?;
    let row = client.query_one(&statement, &[&uuid(merchant), &since]).await.map_err(failed)?;
    Ok(get::<i64>(&row, 0)?.unsigned_abs())
}

pub(super) async fn noticed(
    client: &impl GenericClient,
    merchant: Id,
    connection: Id,
    kind: &str,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT max(day) FROM notice WHERE merchant = $1 AND connection = $2 AND kind = $3";
    let statement = client.prepare_cached(sql).await.map_err(failed)?;
    let row = client.query_one(&statement, &[&uuid(merchant), &uuid(connection), &text(kind)]).await.map_err(failed)?;
    Ok(get::<Option<i32>>(&row, 0)?.map(i64::from))
}

/// Whether nobody was told of any of them yet.
pub(super) async fn tell(work: &Transaction<'_>, change: &Change) -> Result<bool, Fault> {
    let Some(told) = &change.told else { return Ok(true) };
    let sql =
        "UPDATE notice SET told_at = $5 WHERE merchant = $1 AND connection = $2 AND kind = $3 AND day = $4 AND told_at IS NULL";
    let statement = work.prepare_cached(sql).await?;
    for (connection, kind, day) in &told.notices {
        let day = *day as i32;
        let marked = work.execute(&statement, &[&uuid(told.merchant), &uuid(*connection), &text(kind), &day, &told.at]).await?;
        if marked == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
