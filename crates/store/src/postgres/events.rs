//! Events for people and programs: pages of them, newest first, and the feed.
//!
//! A place in the feed is the number of the transaction that made an event whole. Events of one subject are made so by one
//! transaction after another, since each has the subject's lock before it has a number.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Object, Transaction};
use jiff::SignedDuration;
use uuid::Uuid;
use uzel_model::{Event, Id, Timestamp, id::Kind};

use super::{doc, failed, get, lanes::Fault, partitions::least_id, uuid};
use crate::{
    EventFilter, FeedCursor, FeedFrom, FeedPage, StoreError, StoredEvent,
    feed::{LOOKED_AT, PAGE_MAX, is_wanted},
    numbers::{key, subject},
};

/// The place of what this transaction makes whole.
pub(super) const PLACE: &str = "(SELECT pg_current_xact_id()::text::bigint + added FROM feed_base)";
/// Before it every place is settled.
const HORIZON: &str = "(SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + added FROM feed_base)";
/// The next rows of the feed: at most `$3` after the place `($1, $2)`.
pub(crate) const FEED: &str = "SELECT e.place, e.id, ($4::uuid IS NULL OR e.merchant = $4), e.kind FROM event e
    WHERE e.place IS NOT NULL AND (e.place, e.id) > ($1::bigint, $2::uuid)
    AND e.place < (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint + added FROM feed_base)
    ORDER BY e.place, e.id LIMIT $3";

/// Among so many of the newest events a page of all merchants is looked for first.
const NEWEST: i64 = 2_000;
/// So much earlier than wanted the feed begins at a moment: ids are made before the transactions in which events are told.
const EARLIER: SignedDuration = SignedDuration::from_secs(10);
/// The first events of a moment, of which the one that was told first gives the place. Some may have waited for a look-up.
const FIRST: i64 = 1_000;

/// Events that are whole by now are told, if they were not before.
pub(super) async fn tell(work: &Transaction<'_>, events: &[Uuid]) -> Result<(), Fault> {
    if !events.is_empty() {
        let sql = format!("UPDATE event SET place = {PLACE} WHERE id = ANY($1) AND place IS NULL");
        work.execute(&work.prepare_cached(&sql).await?, &[&events]).await?;
    }
    Ok(())
}

/// Where the database was moved to a server whose transactions have lower numbers, places go on from the highest one.
pub(super) async fn go_on(work: &Transaction<'_>) -> Result<(), StoreError> {
    let sql = "UPDATE feed_base SET added = last.place + 1 - pg_current_xact_id()::text::bigint
        FROM (SELECT max(place) AS place FROM event WHERE place IS NOT NULL) AS last
        WHERE last.place >= pg_current_xact_id()::text::bigint + added";
    work.execute(sql, &[]).await.map_err(failed).map(drop)
}

/// Which ids a page may have: from the first on and below the second.
pub(super) fn bounds(from: Option<Timestamp>, to: Option<Timestamp>, before: Option<Id>) -> (Uuid, Uuid) {
    let ceiling = to.map_or(Uuid::max(), least_id).min(before.map_or(Uuid::max(), uuid));
    (from.map_or(Uuid::nil(), least_id), ceiling)
}

/// The connections of a merchant or of all, or the named one.
pub(super) async fn connections(
    work: &impl GenericClient,
    merchant: Option<Id>,
    connection: Option<Id>,
) -> Result<Vec<Uuid>, StoreError> {
    if let Some(connection) = connection {
        return Ok(vec![uuid(connection)]);
    }
    let statement = work
        .prepare_cached("SELECT id FROM setup WHERE kind IN ('connection', 'programme') AND ($1::uuid IS NULL OR merchant = $1) ORDER BY id")
        .await
        .map_err(failed)?;
    let rows = work.query(&statement, &[&merchant.map(uuid)]).await.map_err(failed)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

pub(super) async fn page(client: &mut Object, filter: &EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
    let work = super::snapshot(client).await?;
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let ids = match &filter.subject {
        Some(subject) => of_subject(&work, filter, subject, limit).await?,
        None => newest(&work, filter, limit).await?,
    };
    let mut found = load(&work, &ids).await?;
    work.commit().await.map_err(failed)?;
    let stored = ids.iter().filter_map(|id| found.remove(id));
    // A connection that was named may be another merchant's.
    let own = stored.filter(|stored| filter.merchant.is_none_or(|merchant| merchant == stored.event.merchant));
    Ok(own.filter(|stored| is_wanted(&filter.kinds, &stored.event.kind)).collect())
}

/// Of every connection and kind the newest, merged.
async fn newest(work: &Transaction<'_>, filter: &EventFilter, limit: usize) -> Result<Vec<Uuid>, StoreError> {
    let (floor, ceiling) = bounds(filter.from, filter.to, filter.before);
    if filter.merchant.is_none() && filter.connection.is_none() {
        let statement = work
            .prepare_cached("SELECT id, kind FROM event WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3")
            .await
            .map_err(failed)?;
        let rows = if filter.kinds.is_empty() { limit as i64 } else { NEWEST };
        let mut ids = Vec::new();
        for row in work.query(&statement, &[&floor, &ceiling, &rows]).await.map_err(failed)? {
            if is_wanted(&filter.kinds, &get::<Option<String>>(&row, 1)?.unwrap_or_default()) {
                ids.push(get(&row, 0)?);
            }
        }
        ids.truncate(limit);
        if ids.len() == limit || filter.kinds.is_empty() {
            return Ok(ids);
        }
    }
    let of = connections(work, filter.merchant, filter.connection).await?;
    // Kinds are found by steps in the index.
    let kinds = work
        .prepare_cached(
            "WITH RECURSIVE k (connection, kind) AS (
                 SELECT c, (SELECT min(e.kind) FROM event e WHERE e.connection = c) FROM unnest($1::uuid[]) AS c
                 UNION ALL SELECT k.connection,
                     (SELECT min(e.kind) FROM event e WHERE e.connection = k.connection AND e.kind > k.kind)
                 FROM k WHERE k.kind IS NOT NULL)
             SELECT connection, kind FROM k WHERE kind IS NOT NULL",
        )
        .await
        .map_err(failed)?;
    let (mut links, mut names) = (Vec::new(), Vec::new());
    for row in work.query(&kinds, &[&of]).await.map_err(failed)? {
        let kind: String = get(&row, 1)?;
        if is_wanted(&filter.kinds, &kind) {
            links.push(get::<Uuid>(&row, 0)?);
            names.push(kind);
        }
    }
    let statement = work
        .prepare_cached(
            "SELECT e.id FROM unnest($1::uuid[], $2::text[]) AS k (connection, kind) CROSS JOIN LATERAL (
                 SELECT id FROM event WHERE connection = k.connection AND kind = k.kind AND id >= $3 AND id < $4
                 ORDER BY id DESC LIMIT $5) AS e
             ORDER BY e.id DESC LIMIT $5",
        )
        .await
        .map_err(failed)?;
    let rows = work.query(&statement, &[&links, &names, &floor, &ceiling, &(limit as i64)]).await.map_err(failed)?;
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Events of a subject: found by the reference of their entries, whichever connection told of it.
async fn of_subject(work: &Transaction<'_>, filter: &EventFilter, wanted: &str, limit: usize) -> Result<Vec<Uuid>, StoreError> {
    let (floor, ceiling) = bounds(filter.from, filter.to, filter.before);
    let of = connections(work, filter.merchant, filter.connection).await?;
    let keys: Vec<i64> =
        of.into_iter().map(|id| key(&subject(Id::from_bytes(Kind::Connection, *id.as_bytes()), wanted))).collect();
    let kinds: Vec<String> = filter.kinds.iter().map(|kind| kind.replace('*', "%")).collect();
    let statement = work
        .prepare_cached(
            "SELECT e.id FROM event e WHERE e.entry IN (SELECT entry FROM reference WHERE key = ANY($1)) AND e.id >= $2
             AND e.id < $3 AND e.doc::json ->> 'subject' = $4 AND (cardinality($5::text[]) = 0 OR e.kind LIKE ANY($5))
             ORDER BY e.id DESC LIMIT $6",
        )
        .await
        .map_err(failed)?;
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&keys, &floor, &ceiling, &super::journal::text(wanted), &kinds, &(limit as i64)];
    work.query(&statement, &values).await.map_err(failed)?.iter().map(|row| get(row, 0)).collect()
}

async fn load(work: &Transaction<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, StoredEvent>, StoreError> {
    let statement = work.prepare_cached("SELECT id, doc, pending FROM event WHERE id = ANY($1)").await.map_err(failed)?;
    let rows = work.query(&statement, &[&ids]).await.map_err(failed)?;
    rows.iter().map(|row| Ok((get(row, 0)?, StoredEvent { event: doc::<Event>(row, 1)?, pending: get(row, 2)? }))).collect()
}

/// The next of the feed. Each look goes through a bounded number of rows, and the cursor moves on past those that are not wanted.
pub(super) async fn feed(
    client: &mut Object,
    merchant: Option<Id>,
    kinds: &[String],
    from: FeedFrom,
    limit: usize,
) -> Result<FeedPage, StoreError> {
    let work = super::snapshot(client).await?;
    let limit = limit.clamp(1, PAGE_MAX);
    let (number, event) = match from {
        FeedFrom::After(FeedCursor { number, event: Some(event) }) => (number, Uuid::from_bytes(event)),
        FeedFrom::After(_) => {
            return Err(StoreError::Failed("this cursor is of another database: read on from a time".to_owned()));
        }
        FeedFrom::Time(at) => (start(&work, at).await?, Uuid::max()),
        FeedFrom::Now => (horizon(&work).await? - 1, Uuid::max()),
    };
    let cursor = FeedCursor { number, event: Some(*event.as_bytes()) };
    let mut page = FeedPage { events: Vec::new(), cursor, more: false };
    let looked_at = if merchant.is_none() && kinds.is_empty() { limit } else { LOOKED_AT };
    let statement = work.prepare_cached(FEED).await.map_err(failed)?;
    let rows = work.query(&statement, &[&number, &event, &(looked_at as i64), &merchant.map(uuid)]).await.map_err(failed)?;
    page.more = rows.len() == looked_at;
    let mut ids: Vec<Uuid> = Vec::new();
    for row in &rows {
        let id: Uuid = get(row, 1)?;
        page.cursor = FeedCursor { number: get(row, 0)?, event: Some(*id.as_bytes()) };
        if get(row, 2)? && is_wanted(kinds, &get::<Option<String>>(row, 3)?.unwrap_or_default()) {
            ids.push(id);
            if ids.len() == limit {
                page.more = true;
                break;
            }
        }
    }
    let mut found = load(&work, &ids).await?;
    work.commit().await.map_err(failed)?;
    page.events = ids.iter().filter_map(|id| found.remove(id)).map(|stored| StoredEvent { pending: false, ..stored }).collect();
    Ok(page)
}

async fn horizon(work: &Transaction<'_>) -> Result<i64, StoreError> {
    let statement = work.prepare_cached(&format!("SELECT {HORIZON}")).await.map_err(failed)?;
    get(&work.query_one(&statement, &[]).await.map_err(failed)?, 0)
}

/// The place before which nothing was told since a moment.
async fn start(work: &Transaction<'_>, at: Timestamp) -> Result<i64, StoreError> {
    let statement = work
        .prepare_cached(
            "SELECT min(place) FROM (SELECT place FROM event WHERE id >= $1 AND place IS NOT NULL ORDER BY id LIMIT $2) AS e",
        )
        .await
        .map_err(failed)?;
    let first = least_id(at.saturating_sub(EARLIER).unwrap_or(Timestamp::MIN));
    let place: Option<i64> = get(&work.query_one(&statement, &[&first, &FIRST]).await.map_err(failed)?, 0)?;
    match place {
        Some(place) => Ok(place - 1),
        None => Ok(horizon(work).await? - 1),
    }
}
