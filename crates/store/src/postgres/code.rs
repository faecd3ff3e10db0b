//! Codes by which people prove an address.

use deadpool_postgres::{GenericClient, Object};
use uuid::Uuid;
use uzel_model::{Id, Timestamp, id::Kind};

use super::{failed, get, id, uuid};
use crate::{
    CodeLimit, CodeTry, NewCode, StoreError,
    code::{FORGOTTEN, KEPT},
};

/// The first number of a merchant's lock.
const LOCK: i32 = 0x0c0d;

/// Keeps a code, if all limits allow it; else gives when they do. Of one merchant one after another, so that none is counted past.
pub(super) async fn put(client: &mut Object, code: &NewCode, limits: &[CodeLimit]) -> Result<Option<Timestamp>, StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    let (merchant, to) = (uuid(code.merchant), Uuid::from_bytes(code.to));
    let lock = "SELECT pg_advisory_xact_lock($1, hashtext($2::uuid::text))";
    work.execute(lock, &[&LOCK, &merchant]).await.map_err(failed)?;
    let over = code.made_at.checked_sub(KEPT).unwrap_or(Timestamp::MIN);
    let forget = "DELETE FROM code WHERE id IN (SELECT id FROM code WHERE merchant = $1 AND made_at < $2 LIMIT $3)";
    work.execute(forget, &[&merchant, &over, &FORGOTTEN]).await.map_err(failed)?;
    let mut wait_until: Option<Timestamp> = None;
    for limit in limits {
        // The one that has to be past the period for one more to fit.
        let look = "SELECT made_at FROM code WHERE merchant = $1 AND made_at > $2 AND ($5 OR to_hash = $4)
             ORDER BY made_at DESC LIMIT 1 OFFSET $3";
        let (since, offset, anybody) = (limit.since(code.made_at), i64::from(limit.codes - 1), !limit.per_address);
        let full = work.query_opt(look, &[&merchant, &since, &offset, &to, &anybody]).await.map_err(failed)?;
        let full: Option<Timestamp> = full.map(|row| get(&row, 0)).transpose()?;
        wait_until = wait_until.max(full.map(|made_at| made_at + limit.period));
    }
    if wait_until.is_none() {
        let insert = "INSERT INTO code VALUES ($1, $2, $3, $4, $5, $6, 0, false)";
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&uuid(code.id), &merchant, &to, &code.hash, &code.made_at, &code.ends_at];
        work.execute(insert, &row).await.map_err(failed)?;
    }
    work.commit().await.map_err(failed)?;
    Ok(wait_until)
}

/// Counts a try; nothing where the code has ended, was used, or has had all its tries.
pub(super) async fn try_one(
    client: &impl GenericClient,
    code: Id,
    now: Timestamp,
    tries_max: u32,
) -> Result<Option<CodeTry>, StoreError> {
    let take = "UPDATE code SET tries = tries + 1 WHERE id = $1 AND NOT used AND tries < $3 AND ends_at > $2
         RETURNING merchant, to_hash, hash, $3 - tries";
    let tried = client.query_opt(take, &[&uuid(code), &now, &(tries_max as i32)]).await.map_err(failed)?;
    tried
        .map(|row| {
            Ok(CodeTry {
                merchant: id(Kind::Merchant, &row, 0)?,
                to: *get::<Uuid>(&row, 1)?.as_bytes(),
                hash: get(&row, 2)?,
                left: get::<i32>(&row, 3)?.unsigned_abs(),
            })
        })
        .transpose()
}

/// Of many who use a code one does.
pub(super) async fn spend(client: &impl GenericClient, code: Id) -> Result<bool, StoreError> {
    let spend = "UPDATE code SET used = true WHERE id = $1 AND NOT used";
    Ok(client.execute(spend, &[&uuid(code)]).await.map_err(failed)? == 1)
}
