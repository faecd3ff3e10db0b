//! The inbox: what came, and what stands in it.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Row;
use uuid::Uuid;
use uzel_model::{Bytes, Event, Id, Request, Timestamp, id::Kind};

use super::{doc, failed, get, id, uuid};
use crate::{
    CommandState, Counts, Entry, EntryState, Health, Source, StoreError,
    numbers::{command_state, entry_state, entry_tally, source, source_number},
    ready::EntryRow,
};

/// The columns of an entry, as [`read_entry`] takes them.
pub(super) const ENTRY: &str =
    "id, merchant, connection, provider, source, trace, method, path, query, headers, body, received_at, peer, proof, answer";

/// Entries, their marks and their count, in one statement.
pub(crate) const APPEND: &str = "WITH came AS (
        INSERT INTO inbox (id, merchant, connection, provider, source, trace, method, path, query, headers, body, received_at,
            peer, proof, answer)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::smallint[], $6::text[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::bytea[], $12::timestamptz[], $13::text[], $14::text[], $15::text[])),
    open AS (
        INSERT INTO unread (entry, until)
        SELECT entry, coalesce(clock_timestamp() + $17 * interval '1 millisecond', '-infinity')
        FROM unnest($1::uuid[], $5::smallint[]) AS e (entry, source) WHERE source <> 2)
    INSERT INTO tally (what, shard, count) SELECT what, $16, by FROM unnest($18::text[], $19::bigint[]) AS t (what, by)
    ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count";

/// A text without what PostgreSQL refuses in texts. In a document the same stands as an escape, which is refused by whoever
/// looks into the document: there [`looked_into`] takes it out.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// A column of JSON, to be looked into by a statement.
macro_rules! looked_into {
    ($column:literal) => {
        concat!("replace(", $column, r", '\u0000', '\ufffd')::json")
    };
}
pub(super) use looked_into;

/// Appends entries, unread; `held` says how long this node may take to read them, or that anybody may.
pub(super) async fn append(
    client: &impl GenericClient,
    rows: &[&EntryRow],
    held: Option<Duration>,
    shard: i32,
) -> Result<(), tokio_postgres::Error> {
    let ids = |read: fn(&Entry) -> Id| -> Vec<Uuid> { rows.iter().map(|row| uuid(read(&row.entry))).collect() };
    let texts = |read: fn(&EntryRow) -> &str| -> Vec<Cow<'_, str>> { rows.iter().map(|row| text(read(row))).collect() };
    let sources: Vec<i16> = rows.iter().map(|row| source_number(row.entry.source).into()).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|row| &row.entry.request.body[..]).collect();
    let received: Vec<Timestamp> = rows.iter().map(|row| row.entry.request.received_at).collect();
    let peers: Vec<Option<String>> = rows.iter().map(|row| row.entry.request.peer.map(|peer| peer.to_string())).collect();
    let proofs: Vec<Option<Cow<'_, str>>> = rows.iter().map(|row| row.entry.request.key.as_deref().map(text)).collect();
    let mut counts: HashMap<&str, i64> = HashMap::new();
    for row in rows {
        let state = if row.entry.source == Source::Question { EntryState::Read } else { EntryState::Unread };
        *counts.entry(entry_tally(state)).or_default() += 1;
    }
    let mut counts: Vec<(&str, i64)> = counts.into_iter().collect();
    counts.sort_unstable();
    let (what, by): (Vec<&str>, Vec<i64>) = counts.into_iter().unzip();
    let statement = client.prepare_cached(APPEND).await?;
    client
        .execute(
            &statement,
            &[
                &ids(|entry| entry.id),
                &ids(|entry| entry.merchant),
                &ids(|entry| entry.connection),
                &texts(|row| &row.entry.provider),
                &sources,
                &texts(|row| &row.entry.trace),
                &texts(|row| &row.entry.request.method),
                &texts(|row| &row.entry.request.path),
                &texts(|row| &row.query),
                &texts(|row| &row.headers),
                &bodies,
                &received,
                &peers,
                &proofs,
                &texts(|row| &row.entry.answer),
                &shard,
                &held.map(|held| held.as_millis() as f64),
                &what,
                &by,
            ],
        )
        .await?;
    Ok(())
}

pub(super) fn read_entry(row: &Row) -> Result<Entry, StoreError> {
    Ok(Entry {
        id: id(Kind::Entry, row, 0)?,
        merchant: id(Kind::Merchant, row, 1)?,
        connection: id(Kind::Connection, row, 2)?,
        provider: get(row, 3)?,
        source: source(get::<i16>(row, 4)? as u8),
        trace: get(row, 5)?,
        answer: get(row, 14)?,
        request: Request {
            method: get(row, 6)?,
            path: get(row, 7)?,
            query: doc(row, 8)?,
            headers: doc(row, 9)?,
            body: Bytes::from(get::<Vec<u8>>(row, 10)?),
            received_at: get(row, 11)?,
            peer: get::<Option<String>>(row, 12)?.and_then(|peer| peer.parse().ok()),
            key: get(row, 13)?,
        },
    })
}

pub(super) async fn entry(client: &impl GenericClient, entry: Id) -> Result<Option<Entry>, StoreError> {
    let statement = client.prepare_cached(&format!("SELECT {ENTRY} FROM inbox WHERE id = $1")).await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(entry)]).await.map_err(failed)?;
    row.map(|row| read_entry(&row)).transpose()
}

pub(super) async fn event(client: &impl GenericClient, event: Id) -> Result<Option<Event>, StoreError> {
    let statement = client.prepare_cached("SELECT doc FROM event WHERE id = $1").await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(event)]).await.map_err(failed)?;
    row.map(|row| doc(&row, 0)).transpose()
}

/// As SQL over `inbox j`: the number of an entry's state.
pub(super) const STATE: &str = "CASE WHEN EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.id) THEN 0::smallint
     ELSE coalesce((SELECT o.state FROM outcome o WHERE o.entry = j.id), 1::smallint) END";

pub(super) async fn state_of(client: &impl GenericClient, entry: Uuid) -> Result<EntryState, StoreError> {
    let statement = client.prepare_cached(&format!("SELECT {STATE} FROM inbox j WHERE j.id = $1")).await.map_err(failed)?;
    let row = client.query_one(&statement, &[&entry]).await.map_err(failed)?;
    Ok(entry_state(get::<i16>(&row, 0)? as u8))
}

/// Entries that are dead themselves or led to a dead command.
pub(super) const DEAD: &str = "SELECT entry FROM outcome WHERE state = 3 UNION SELECT entry FROM trouble WHERE state = 3";

/// Of one provider: that it came from, or whose call is dead.
pub(super) async fn dead(
    client: &impl GenericClient,
    provider: Option<&str>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<Id>, StoreError> {
    let statement = client
        .prepare_cached(&format!(
            "SELECT j.id FROM inbox j WHERE j.id IN ({DEAD}) AND ($2::timestamptz IS NULL OR j.received_at >= $2)
             AND ($3::timestamptz IS NULL OR j.received_at < $3)
             AND ($1::text IS NULL OR j.provider = $1 OR EXISTS (SELECT 1 FROM command c JOIN setup s ON s.id = c.connection
                  WHERE c.entry = j.id AND c.state = 3 AND {doc} ->> 'provider' = $1)) ORDER BY j.id",
            doc = looked_into!("s.doc")
        ))
        .await
        .map_err(failed)?;
    let rows = client.query(&statement, &[&provider.map(text), &from, &to]).await.map_err(failed)?;
    rows.iter().map(|row| id(Kind::Entry, row, 0)).collect()
}

pub(super) async fn counts(client: &mut Object) -> Result<Counts, StoreError> {
    let work = super::snapshot(client).await?;
    let tally = work
        .prepare_cached("SELECT what, sum(count)::bigint FROM tally GROUP BY what HAVING sum(count) > 0 ORDER BY what")
        .await
        .map_err(failed)?;
    let mut counts = Counts::default();
    for row in work.query(&tally, &[]).await.map_err(failed)? {
        let (what, count) = (get::<String>(&row, 0)?, get::<i64>(&row, 1)?.unsigned_abs());
        match what.split_once('/') {
            Some(("entry", number)) => counts.entries.extend(number.parse().ok().map(|number| (entry_state(number), count))),
            Some(("command", number)) => counts.commands.extend(number.parse().ok().map(|number| (command_state(number), count))),
            Some(("held", reason)) => counts.held.push((reason.to_owned(), count)),
            _ => {}
        }
    }
    let sending = work.query_one("SELECT count(*) FROM sending", &[]).await.map_err(failed)?;
    let sending = get::<i64>(&sending, 0)?.unsigned_abs();
    work.commit().await.map_err(failed)?;
    if sending > 0 {
        counts
            .commands
            .iter_mut()
            .filter(|(state, _)| *state == CommandState::Waiting)
            .for_each(|(_, count)| *count = count.saturating_sub(sending));
        counts.commands.push((CommandState::Sending, sending));
    }
    counts.held.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(counts)
}

pub(super) async fn health(client: &impl GenericClient, connections: &[Id]) -> Result<Health, StoreError> {
    let connections: Vec<Uuid> = connections.iter().copied().map(uuid).collect();
    let next = client.prepare_cached(super::outbox::NEXT).await.map_err(failed)?;
    let oldest_due_at = get(&client.query_one(&next, &[&connections]).await.map_err(failed)?, 0)?;
    let unread = client
        .prepare_cached("SELECT received_at FROM inbox WHERE id = (SELECT entry FROM unread ORDER BY entry LIMIT 1)")
        .await
        .map_err(failed)?;
    let oldest_unread_at = client.query_opt(&unread, &[]).await.map_err(failed)?.map(|row| get(&row, 0)).transpose()?;
    Ok(Health { oldest_unread_at, oldest_due_at })
}
