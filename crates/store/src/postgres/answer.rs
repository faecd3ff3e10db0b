//! What requests under callers' own keys came to.

use deadpool_postgres::GenericClient;
use jiff::SignedDuration;
use uuid::Uuid;
use uzel_model::Timestamp;

use super::{failed, get};
use crate::{Begun, KeptAnswer, StoreError};

pub(super) async fn begin(
    client: &impl GenericClient,
    key: [u8; 16],
    body: [u8; 16],
    now: Timestamp,
    hold_ms: i64,
    keep_until: Timestamp,
) -> Result<Begun, StoreError> {
    let (key, body, held_until) = (Uuid::from_bytes(key), Uuid::from_bytes(body), now + SignedDuration::from_millis(hold_ms));
    // Of many at once the first makes the row, and the others find it.
    let take = client
        .prepare_cached(
            "INSERT INTO answer (key, body, held_until, until) VALUES ($1, $2, $3, $4) ON CONFLICT (key) DO UPDATE
             SET body = excluded.body, held_until = excluded.held_until, until = excluded.until, status = NULL, answer = NULL
             WHERE answer.until <= $5
                 OR answer.status IS NULL AND answer.held_until <= $5 AND answer.body = excluded.body",
        )
        .await
        .map_err(failed)?;
    let look = client.prepare_cached("SELECT body, status, answer FROM answer WHERE key = $1").await.map_err(failed)?;
    loop {
        if client.execute(&take, &[&key, &body, &held_until, &keep_until, &now]).await.map_err(failed)? == 1 {
            return Ok(Begun::New);
        }
        // Where it was given back meanwhile, it is to be had.
        if let Some(row) = client.query_opt(&look, &[&key]).await.map_err(failed)? {
            let status: Option<i32> = get(&row, 1)?;
            return Ok(match status {
                _ if get::<Uuid>(&row, 0)? != body => Begun::Other,
                Some(status) => Begun::Done(KeptAnswer { status: status as u16, body: get(&row, 2)? }),
                None => Begun::Running,
            });
        }
    }
}

pub(super) async fn end(client: &impl GenericClient, key: [u8; 16], answer: Option<&KeptAnswer>) -> Result<(), StoreError> {
    let key = Uuid::from_bytes(key);
    let ended = match answer {
        Some(answer) => {
            let put = "UPDATE answer SET status = $2, answer = $3 WHERE key = $1 AND status IS NULL";
            let put = client.prepare_cached(put).await.map_err(failed)?;
            client.execute(&put, &[&key, &i32::from(answer.status), &answer.body]).await
        }
        None => {
            let free = "DELETE FROM answer WHERE key = $1 AND status IS NULL";
            let free = client.prepare_cached(free).await.map_err(failed)?;
            client.execute(&free, &[&key]).await
        }
    };
    ended.map_err(failed).map(drop)
}
