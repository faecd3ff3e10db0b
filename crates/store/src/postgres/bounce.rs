//! Mail that came back, counted by address.

use deadpool_postgres::Transaction;
use uzel_model::{Id, Timestamp};

use super::{consent, doc, journal::text, lanes::Fault, uuid};
use crate::{
    PhoneHash, StoreError,
    bounce::{given_up, one_more},
};

pub(super) async fn count(
    work: &Transaction<'_>,
    merchant: Id,
    address: &str,
    code: &str,
    now: Timestamp,
    phones: Option<&PhoneHash>,
) -> Result<(), Fault> {
    let address = text(address);
    // There is a row to be locked: what came back to one address is counted one after another.
    let first = work.prepare_cached("INSERT INTO bounce VALUES ($1, $2, $3, '[]') ON CONFLICT DO NOTHING").await?;
    work.execute(&first, &[&uuid(merchant), &address, &now]).await?;
    let find = work.prepare_cached("SELECT moments FROM bounce WHERE merchant = $1 AND address = $2 FOR UPDATE").await?;
    let before: Vec<i64> = doc(&work.query_one(&find, &[&uuid(merchant), &address]).await?, 0)?;
    let word_at = consent::contact_of(work, merchant, &address).await?.map(|(_, at)| at.as_millisecond());
    let (moments, enough) = one_more(&before, now.as_millisecond(), word_at);
    if enough {
        consent::put(work, &given_up(merchant, &address, code, now), phones).await?;
        return forget(work, merchant, &address).await;
    }
    let moments = serde_json::to_string(&moments).expect("numbers are JSON");
    let put = work.prepare_cached("UPDATE bounce SET at = $3, moments = $4 WHERE merchant = $1 AND address = $2").await?;
    work.execute(&put, &[&uuid(merchant), &address, &now, &moments]).await?;
    Ok(())
}

pub(super) async fn forget(work: &Transaction<'_>, merchant: Id, address: &str) -> Result<(), Fault> {
    work.execute("DELETE FROM bounce WHERE merchant = $1 AND address = $2", &[&uuid(merchant), &address]).await?;
    Ok(())
}

/// Forgets what came back last before a moment, to a merchant or to all.
pub(super) async fn purge(work: &Transaction<'_>, merchant: Option<Id>, before: Timestamp) -> Result<(), StoreError> {
    let sql = "DELETE FROM bounce WHERE at < $1 AND ($2::uuid IS NULL OR merchant = $2)";
    work.execute(sql, &[&before, &merchant.map(uuid)]).await.map_err(super::failed)?;
    Ok(())
}
