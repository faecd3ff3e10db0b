//! What is kept beside the journal to watch over connections: refused requests, open breakers, how often webhooks come,
//! messages whose fate is open.

use std::borrow::Cow;

use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{doc, failed, get, id, journal::text, uuid};
use crate::{OpenBreaker, Refusal, Rhythm, StoreError, numbers::kind_of};

/// So many refusals of a place are kept.
const REFUSALS_KEPT: i64 = 20;

pub(super) async fn put_refusals(client: &mut Object, refusals: &[Refusal]) -> Result<(), StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    let put = work.prepare_cached("INSERT INTO refusal (place, doc) VALUES ($1, $2)").await.map_err(failed)?;
    let trim = work
        .prepare_cached(
            "DELETE FROM refusal WHERE place = $1 AND number <=
                 (SELECT number FROM refusal WHERE place = $1 ORDER BY number DESC OFFSET $2 LIMIT 1)",
        )
        .await
        .map_err(failed)?;
    for refusal in refusals {
        let doc = serde_json::to_string(refusal).expect("a refusal is JSON");
        work.execute(&put, &[&text(&refusal.place), &doc]).await.map_err(failed)?;
    }
    let places: std::collections::BTreeSet<Cow<'_, str>> = refusals.iter().map(|refusal| text(&refusal.place)).collect();
    for place in places {
        work.execute(&trim, &[&place, &REFUSALS_KEPT]).await.map_err(failed)?;
    }
    work.commit().await.map_err(failed)
}

/// Newest first.
pub(super) async fn refusals(client: &impl GenericClient, place: &str) -> Result<Vec<Refusal>, StoreError> {
    let statement =
        client.prepare_cached("SELECT doc FROM refusal WHERE place = $1 ORDER BY number DESC LIMIT $2").await.map_err(failed)?;
    client.query(&statement, &[&text(place), &REFUSALS_KEPT]).await.map_err(failed)?.iter().map(|row| doc(row, 0)).collect()
}

pub(super) async fn put_breaker(
    client: &impl GenericClient,
    connection: Id,
    open: Option<&OpenBreaker>,
) -> Result<(), StoreError> {
    match open {
        Some(open) => {
            let statement = client
                .prepare_cached(
                    "INSERT INTO breaker VALUES ($1, $2, $3) ON CONFLICT (connection) DO UPDATE
                     SET since = excluded.since, reason = excluded.reason",
                )
                .await
                .map_err(failed)?;
            client.execute(&statement, &[&uuid(connection), &open.since, &text(&open.reason)]).await.map_err(failed)?;
        }
        None => {
            let statement = client.prepare_cached("DELETE FROM breaker WHERE connection = $1").await.map_err(failed)?;
            client.execute(&statement, &[&uuid(connection)]).await.map_err(failed)?;
        }
    }
    Ok(())
}

pub(super) async fn breakers(client: &impl GenericClient) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
    let rows = client
        .query("SELECT connection, since, reason, (SELECT kind FROM setup WHERE id = connection) FROM breaker", &[])
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let kind = get::<Option<String>>(row, 3)?.map_or(Kind::Connection, |word| kind_of(&word));
            Ok((id(kind, row, 0)?, OpenBreaker { since: get(row, 1)?, reason: get(row, 2)? }))
        })
        .collect()
}

/// Each node knows only the webhooks that came to it: what stands is what all of them know together, with the longest of their
/// silences, which alarms rather too late than for nothing.
pub(super) async fn put_rhythms(client: &mut Object, rhythms: &[(Id, Rhythm)]) -> Result<(), StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    let put = work
        .prepare_cached(
            "INSERT INTO rhythm VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (connection) DO UPDATE
             SET first_at = least(rhythm.first_at, excluded.first_at), last_at = greatest(rhythm.last_at, excluded.last_at),
                 count = greatest(rhythm.count, excluded.count), longest_ms = greatest(rhythm.longest_ms, excluded.longest_ms),
                 gap_ms = coalesce(least(nullif(rhythm.gap_ms, 0), nullif(excluded.gap_ms, 0)), 0)",
        )
        .await
        .map_err(failed)?;
    let mut sorted: Vec<&(Id, Rhythm)> = rhythms.iter().collect();
    sorted.sort_by_key(|(connection, _)| *connection);
    for (connection, rhythm) in sorted {
        let count = rhythm.count as i64;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&uuid(*connection), &rhythm.first_at, &rhythm.last_at, &count, &rhythm.gap_ms, &rhythm.longest_ms];
        work.execute(&put, &values).await.map_err(failed)?;
    }
    work.commit().await.map_err(failed)
}

pub(super) async fn rhythms(client: &impl GenericClient) -> Result<Vec<(Id, Rhythm)>, StoreError> {
    let rows =
        client.query("SELECT connection, first_at, last_at, count, gap_ms, longest_ms FROM rhythm", &[]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            let rhythm = Rhythm {
                first_at: get(row, 1)?,
                last_at: get(row, 2)?,
                count: get::<i64>(row, 3)? as u64,
                gap_ms: get(row, 4)?,
                longest_ms: get(row, 5)?,
            };
            Ok((id(Kind::Connection, row, 0)?, rhythm))
        })
        .collect()
}

pub(super) async fn undelivered(
    client: &impl GenericClient,
    connection: Id,
    after: Timestamp,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    let statement = client
        .prepare_cached(
            "SELECT provider_id FROM sent WHERE connection = $1 AND state = 0 AND at >= $2 AND at < $3 ORDER BY at LIMIT $4",
        )
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&uuid(connection), &after, &before, &(limit as i64)]).await.map_err(failed)?;
    rows.iter().map(|row| get(row, 0)).collect()
}
