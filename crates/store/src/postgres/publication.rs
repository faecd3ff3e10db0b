//! Events that are still to be published.

use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Event, Timestamp};

use super::{doc, failed, get};
use crate::StoreError;

pub(super) async fn switch(client: &mut Object, on: bool) -> Result<(), StoreError> {
    // A transaction of the library's: one that is left half done in the text of a statement would stay with the connection.
    let work = client.build_transaction().start().await.map_err(failed)?;
    let sql = if on {
        "INSERT INTO flag VALUES ('publish') ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM flag WHERE name = 'publish'; DELETE FROM unpublished"
    };
    work.batch_execute(sql).await.map_err(failed)?;
    work.commit().await.map_err(failed)
}

pub(super) async fn unpublished(client: &impl GenericClient, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
    let statement = client
        .prepare_cached("SELECT u.number, e.doc FROM unpublished u JOIN event e ON e.id = u.event ORDER BY u.number LIMIT $1")
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&(limit as i64)]).await.map_err(failed)?;
    rows.iter().map(|row| Ok((get(row, 0)?, doc(row, 1)?))).collect()
}

pub(super) async fn published(client: &impl GenericClient, numbers: &[i64]) -> Result<(), StoreError> {
    let statement = client.prepare_cached("DELETE FROM unpublished WHERE number = ANY($1)").await.map_err(failed)?;
    client.execute(&statement, &[&numbers]).await.map_err(failed).map(drop)
}

pub(super) async fn waiting(client: &impl GenericClient) -> Result<(u64, Option<Timestamp>), StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT (SELECT count(*) FROM unpublished), (SELECT j.received_at FROM unpublished u JOIN event e ON e.id = u.event
                 JOIN inbox j ON j.id = e.entry ORDER BY u.number LIMIT 1)",
        )
        .await
        .map_err(failed)?;
    let row = client.query_one(&statement, &[]).await.map_err(failed)?;
    Ok((get::<i64>(&row, 0)?.unsigned_abs(), get(&row, 1)?))
}
