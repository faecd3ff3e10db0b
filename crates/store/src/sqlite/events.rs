//! Events for people and programs: pages of them, newest first, and the feed.
//!
//! The feed's numbers are drawn by the one writer when an event is whole, so that they stand in the order of commits.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Event, Id, Timestamp, id::Kind};

use super::{doc, ms, publication, reference::FOUND};
use crate::{
    EventFilter, FeedCursor, FeedFrom, FeedPage, StoredEvent,
    feed::{LOOKED_AT, PAGE_MAX, is_wanted},
    numbers::{key, subject},
};

/// Among so many of the newest events a page of all merchants is looked for first.
const NEWEST: i64 = 2_000;

/// The next place in the feed.
pub(super) fn next_number() -> i64 {
    Id::new(Kind::Event).ordinal()
}

/// An event of a look-up is whole by now: it is told, if it was not before.
pub(super) fn tell(db: &Connection, event: Id) -> Result<()> {
    db.prepare_cached("UPDATE event SET number = ?2 WHERE ordinal = ?1 AND number IS NULL")?
        .execute([event.ordinal(), next_number()])?;
    publication::add(db, event)
}

/// The event whose look-up came to nothing: it is told without what was looked for.
pub(super) fn tell_unresolved(db: &Connection, command: i64) -> Result<()> {
    let event = db
        .prepare_cached(
            "SELECT event FROM command WHERE ordinal = ?1 AND repeatable AND connection = source
             AND event IS NOT NULL",
        )?
        .query_row([command], |row| super::id(Kind::Event, 0, row))
        .optional()?;
    let Some(event) = event else { return Ok(()) };
    let pending = db.prepare_cached("SELECT 1 FROM event WHERE ordinal = ?1 AND pending")?.exists([event.ordinal()])?;
    if pending { tell(db, event) } else { Ok(()) }
}

/// What waits for a look-up waits no more: it is told as it is.
pub(super) fn close(db: &Connection, event: Id) -> Result<()> {
    let open = db.prepare_cached("UPDATE event SET pending = 0 WHERE ordinal = ?1 AND pending")?.execute([event.ordinal()])?;
    if open == 1 { tell(db, event) } else { Ok(()) }
}

/// The first ordinal of a moment.
pub(super) fn ordinal_at(at: Timestamp) -> i64 {
    ms(at).clamp(0, i64::MAX >> 12) << 12
}

/// Which ordinals a page may have: above the first and below the second.
pub(super) fn bounds(from: Option<Timestamp>, to: Option<Timestamp>, before: Option<Id>) -> (i64, i64) {
    let ceiling = to.map_or(i64::MAX, ordinal_at).min(before.map_or(i64::MAX, |before| before.ordinal()));
    (from.map_or(-1, |from| ordinal_at(from) - 1), ceiling)
}

/// The connections of a merchant or of all, or the named one.
pub(super) fn connections(db: &Connection, merchant: Option<Id>, connection: Option<Id>) -> Result<Vec<[u8; 16]>> {
    if let Some(connection) = connection {
        return Ok(vec![*connection.as_bytes()]);
    }
    db.prepare_cached("SELECT id FROM setup WHERE kind IN ('connection', 'programme') AND (?1 IS NULL OR merchant = ?1) ORDER BY id")?
        .query_map([merchant.map(|merchant| *merchant.as_bytes())], |row| row.get(0))?
        .collect()
}

pub(super) fn page(db: &Connection, filter: &EventFilter) -> Result<Vec<StoredEvent>> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let (floor, ceiling) = bounds(filter.from, filter.to, filter.before);
    if let Some(subject) = &filter.subject {
        return of_subject(db, filter, subject, (floor, ceiling), limit);
    }
    if filter.merchant.is_none() && filter.connection.is_none() {
        let newest: Vec<i64> = db
            .prepare_cached("SELECT ordinal, kind FROM event WHERE ordinal > ?1 AND ordinal < ?2 ORDER BY ordinal DESC LIMIT ?3")?
            .query_map([floor, ceiling, if filter.kinds.is_empty() { limit as i64 } else { NEWEST }], |row| {
                Ok((row.get(0)?, is_wanted(&filter.kinds, row.get_ref(1)?.as_str_or_null()?.unwrap_or_default())))
            })?
            .filter_map(|row| row.map(|(ordinal, wanted)| wanted.then_some(ordinal)).transpose())
            .take(limit)
            .collect::<Result<_>>()?;
        if newest.len() == limit || filter.kinds.is_empty() {
            return load(db, &newest, filter);
        }
    }
    // Of every connection and kind the newest; only what is newer than the last of a full page can still come into it.
    let mut found = BTreeSet::new();
    for connection in connections(db, filter.merchant, filter.connection)? {
        for kind in kinds_of(db, &connection)?.into_iter().filter(|kind| is_wanted(&filter.kinds, kind)) {
            let floor = if found.len() == limit { found.first().copied().unwrap_or(floor) } else { floor };
            let mut newest = db.prepare_cached(
                "SELECT ordinal FROM event INDEXED BY event_kind WHERE connection = ?1 AND kind = ?2 AND ordinal > ?3
                 AND ordinal < ?4 ORDER BY ordinal DESC LIMIT ?5",
            )?;
            let rows = newest.query_map(params![connection, kind, floor, ceiling, limit as i64], |row| row.get::<_, i64>(0))?;
            for ordinal in rows {
                found.insert(ordinal?);
            }
            while found.len() > limit {
                found.pop_first();
            }
        }
    }
    load(db, &found.into_iter().rev().collect::<Vec<_>>(), filter)
}

/// The kinds that a connection's events have, each found by a step in the index.
fn kinds_of(db: &Connection, connection: &[u8; 16]) -> Result<Vec<String>> {
    db.prepare_cached(
        "WITH RECURSIVE k (kind) AS (
             SELECT min(kind) FROM event INDEXED BY event_kind WHERE connection = ?1
             UNION ALL SELECT (SELECT min(kind) FROM event INDEXED BY event_kind WHERE connection = ?1 AND kind > k.kind)
             FROM k WHERE k.kind IS NOT NULL)
         SELECT kind FROM k WHERE kind IS NOT NULL",
    )?
    .query_map([connection], |row| row.get(0))?
    .collect()
}

/// Events of a subject: found by the reference of their entries, whichever connection told of it.
fn of_subject(
    db: &Connection,
    filter: &EventFilter,
    wanted: &str,
    (floor, ceiling): (i64, i64),
    limit: usize,
) -> Result<Vec<StoredEvent>> {
    let mut ordinals = BTreeSet::new();
    for connection in connections(db, filter.merchant, filter.connection)? {
        let key = key(&subject(Id::from_bytes(Kind::Connection, connection), wanted));
        let mut found = db.prepare_cached(&format!(
            "SELECT ordinal FROM event WHERE entry IN ({}) AND ordinal > ?2 AND ordinal < ?3",
            FOUND.replace('?', "?1")
        ))?;
        for ordinal in found.query_map([key, floor, ceiling], |row| row.get::<_, i64>(0))? {
            ordinals.insert(ordinal?);
        }
    }
    let mut events = Vec::new();
    for ordinal in ordinals.into_iter().rev() {
        let event = load(db, &[ordinal], filter)?.pop();
        events.extend(event.filter(|stored| stored.event.subject == wanted && is_wanted(&filter.kinds, &stored.event.kind)));
        if events.len() == limit {
            break;
        }
    }
    Ok(events)
}

fn load(db: &Connection, ordinals: &[i64], filter: &EventFilter) -> Result<Vec<StoredEvent>> {
    let mut one = db.prepare_cached("SELECT doc, pending FROM event WHERE ordinal = ?1")?;
    let mut events = Vec::with_capacity(ordinals.len());
    for ordinal in ordinals {
        let stored = one.query_row([ordinal], |row| Ok(StoredEvent { event: doc(0, row)?, pending: row.get(1)? })).optional()?;
        // A connection that was named may be another merchant's.
        events.extend(stored.filter(|stored| filter.merchant.is_none_or(|merchant| merchant == stored.event.merchant)));
    }
    Ok(events)
}

/// The next of the feed. Each look goes through a bounded number of rows, and the cursor moves on past those that are not wanted.
pub(super) fn feed(db: &Connection, merchant: Option<Id>, kinds: &[String], from: FeedFrom, limit: usize) -> Result<FeedPage> {
    let limit = limit.clamp(1, PAGE_MAX);
    let after = match from {
        FeedFrom::After(cursor) => cursor.number,
        FeedFrom::Time(at) => ordinal_at(at) - 1,
        FeedFrom::Now => db
            .prepare_cached("SELECT max(number) FROM event INDEXED BY event_number WHERE number IS NOT NULL")?
            .query_row([], |row| row.get::<_, Option<i64>>(0))?
            .unwrap_or_default(),
    };
    let looked_at = if merchant.is_none() && kinds.is_empty() { limit } else { LOOKED_AT };
    let own = merchant.map(|merchant| *merchant.as_bytes());
    let mut page = FeedPage { events: Vec::new(), cursor: FeedCursor { number: after, event: None }, more: false };
    let mut rows = db.prepare_cached(
        "SELECT number, (?3 IS NULL OR merchant = ?3), kind, ordinal FROM event INDEXED BY event_number
         WHERE number IS NOT NULL AND number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let mut one = db.prepare_cached("SELECT doc FROM event WHERE ordinal = ?1")?;
    let mut rows = rows.query(params![after, looked_at as i64, own])?;
    let mut looked = 0;
    while let Some(row) = rows.next()? {
        looked += 1;
        page.cursor.number = row.get(0)?;
        if row.get(1)? && is_wanted(kinds, row.get_ref(2)?.as_str_or_null()?.unwrap_or_default()) {
            let event: Event = one.query_row([row.get::<_, i64>(3)?], |row| doc(0, row))?;
            page.events.push(StoredEvent { event, pending: false });
            if page.events.len() == limit {
                page.more = true;
                return Ok(page);
            }
        }
    }
    page.more = looked == looked_at;
    Ok(page)
}
