//! What nodes take in turn, what they remember together, and what only the first may put.

use std::collections::VecDeque;

use deadpool_postgres::{GenericClient, Object};
use uuid::Uuid;
use uzel_model::{Timestamp, id::Kind};

use super::{failed, get, id};
use crate::{Once, StoreError};

pub(super) async fn take(
    client: &impl GenericClient,
    name: &str,
    now: Timestamp,
    every_ms: i64,
    hold_ms: i64,
) -> Result<Option<i64>, StoreError> {
    let statement = client
        .prepare_cached(
            "INSERT INTO turn (name, token, taken_at, until)
             VALUES ($1, nextval('turn_token'), $4, clock_timestamp() + $3 * interval '1 millisecond')
             ON CONFLICT (name) DO UPDATE SET token = excluded.token, taken_at = excluded.taken_at, until = excluded.until
             WHERE turn.until <= clock_timestamp()
                 AND turn.taken_at + $2 * interval '1 millisecond' <= $4 RETURNING token",
        )
        .await
        .map_err(failed)?;
    let taken = client.query_opt(&statement, &[&name, &(every_ms as f64), &(hold_ms as f64), &now]).await.map_err(failed)?;
    taken.map(|row| get(&row, 0)).transpose()
}

pub(super) async fn give_back(client: &impl GenericClient, name: &str, token: i64) -> Result<(), StoreError> {
    let statement = client
        .prepare_cached("UPDATE turn SET until = clock_timestamp() WHERE name = $1 AND token = $2")
        .await
        .map_err(failed)?;
    client.execute(&statement, &[&name, &token]).await.map_err(failed).map(drop)
}

/// Nothing of it need survive a crash of the server: so its commits do not wait for the disk.
pub(super) async fn moments(
    client: &mut Object,
    names: &[String],
    change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
) -> Result<(), StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    work.batch_execute("SET LOCAL synchronous_commit = off").await.map_err(failed)?;
    // In one order, so that two that share several names do not wait for each other.
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let put = work
        .prepare_cached(
            "INSERT INTO moment SELECT name, '{}' FROM unnest($1::text[]) AS name ORDER BY name ON CONFLICT DO NOTHING",
        )
        .await
        .map_err(failed)?;
    work.execute(&put, &[&sorted]).await.map_err(failed)?;
    let lock = work
        .prepare_cached("SELECT name, at_ms FROM moment WHERE name = ANY($1) ORDER BY name FOR UPDATE")
        .await
        .map_err(failed)?;
    let mut windows = vec![VecDeque::new(); names.len()];
    for row in work.query(&lock, &[&sorted]).await.map_err(failed)? {
        let (name, at_ms): (String, Vec<i64>) = (get(&row, 0)?, get(&row, 1)?);
        names.iter().zip(&mut windows).filter(|(own, _)| **own == name).for_each(|(_, window)| *window = at_ms.clone().into());
    }
    let clock = work.prepare_cached("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").await.map_err(failed)?;
    let now_ms = get(&work.query_one(&clock, &[]).await.map_err(failed)?, 0)?;
    let before = windows.clone();
    change(now_ms, &mut windows);
    let write = work.prepare_cached("UPDATE moment SET at_ms = $2 WHERE name = $1").await.map_err(failed)?;
    for ((name, window), before) in names.iter().zip(&windows).zip(&before) {
        if window != before {
            let at_ms: Vec<i64> = window.iter().copied().collect();
            work.execute(&write, &[name, &at_ms]).await.map_err(failed)?;
        }
    }
    work.commit().await.map_err(failed)
}

pub(super) async fn once(client: &impl GenericClient, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
    let statement = client.prepare_cached("SELECT command, body, until FROM once WHERE key = $1").await.map_err(failed)?;
    let Some(row) = client.query_opt(&statement, &[&Uuid::from_bytes(key)]).await.map_err(failed)? else { return Ok(None) };
    let body = *get::<Uuid>(&row, 1)?.as_bytes();
    Ok(Some(Once { key, body, command: id(Kind::Command, &row, 0)?, until: get(&row, 2)? }))
}
