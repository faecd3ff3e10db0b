//! When people wrote.

use deadpool_postgres::{GenericClient, Transaction};
use uzel_model::{Id, Timestamp};

use super::{failed, get, journal::text, lanes::Fault, uuid};
use crate::{Heard, StoreError};

/// What came later stays. In order, so that two transactions wait for each other and do not block each other.
pub(super) async fn put(work: &Transaction<'_>, heard: &[Heard]) -> Result<(), Fault> {
    let mut heard: Vec<&Heard> = heard.iter().collect();
    heard.sort_by(|one, other| (&one.who, one.connection).cmp(&(&other.who, other.connection)));
    for Heard { merchant, connection, who, at } in heard {
        let statement = work
            .prepare_cached(
                "INSERT INTO heard VALUES ($1, $2, $3, $4)
                 ON CONFLICT (merchant, who, connection) DO UPDATE SET at = greatest(heard.at, excluded.at)",
            )
            .await?;
        work.execute(&statement, &[&uuid(*merchant), &text(who), &uuid(*connection), at]).await?;
    }
    Ok(())
}

pub(super) async fn last(
    client: &impl GenericClient,
    merchant: Id,
    connection: Id,
    who: &str,
) -> Result<Option<Timestamp>, StoreError> {
    let statement = client
        .prepare_cached("SELECT at FROM heard WHERE merchant = $1 AND who = $2 AND connection = $3")
        .await
        .map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(merchant), &text(who), &uuid(connection)]).await.map_err(failed)?;
    row.map(|row| get(&row, 0)).transpose()
}

/// Forgets one person.
pub(super) async fn forget(work: &Transaction<'_>, merchant: Id, who: &str) -> Result<(), Fault> {
    work.execute("DELETE FROM heard WHERE merchant = $1 AND who = $2", &[&uuid(merchant), &who]).await?;
    Ok(())
}

/// Forgets who wrote before a moment, to a merchant or to all.
pub(super) async fn purge(work: &Transaction<'_>, merchant: Option<Id>, before: Timestamp) -> Result<(), StoreError> {
    let sql = "DELETE FROM heard WHERE at < $1 AND ($2::uuid IS NULL OR merchant = $2)";
    work.execute(sql, &[&before, &merchant.map(uuid)]).await.map_err(failed)?;
    Ok(())
}
