//! The inbox, and the journal as people read it.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Bytes, Event, Id, Request, id::Kind};

use super::{doc, id, ms, time};
use crate::{CommandState, Counts, Direction, Entry, EntryState, Health, JournalFilter, JournalRow, Source};

const ENTRY: &str =
    "id, merchant, connection, provider, source, trace, method, path, query, headers, body, received_at, peer, proof";

pub(super) fn insert(connection: &Connection, entry: &Entry) -> Result<()> {
    let request = &entry.request;
    let json = |pairs: &Vec<(String, String)>| serde_json::to_string(pairs).expect("pairs of texts are JSON");
    connection
        .prepare_cached(
            "INSERT INTO inbox (id, merchant, connection, provider, source, trace, method, path, query, headers, body,
             received_at, peer, proof, state) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
        )?
        .execute(params![
            entry.id.as_bytes(),
            entry.merchant.as_bytes(),
            entry.connection.as_bytes(),
            entry.provider,
            source_number(entry.source),
            entry.trace,
            request.method,
            request.path,
            json(&request.query),
            json(&request.headers),
            &request.body[..],
            ms(request.received_at),
            request.peer.map(|peer| peer.to_string()),
            request.key,
            if entry.source == Source::Question { 1 } else { 0 },
        ])?;
    Ok(())
}

fn source_number(source: Source) -> i64 {
    match source {
        Source::Webhook => 0,
        Source::Poll => 1,
        Source::Question => 2,
    }
}

fn source(number: i64) -> Source {
    match number {
        1 => Source::Poll,
        2 => Source::Question,
        _ => Source::Webhook,
    }
}

fn read_entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        id: id(Kind::Entry, 0, row)?,
        merchant: id(Kind::Merchant, 1, row)?,
        connection: id(Kind::Connection, 2, row)?,
        provider: row.get(3)?,
        source: source(row.get(4)?),
        trace: row.get(5)?,
        request: Request {
            method: row.get(6)?,
            path: row.get(7)?,
            query: doc(8, row)?,
            headers: doc(9, row)?,
            body: Bytes::from(row.get::<_, Vec<u8>>(10)?),
            received_at: time(11, row)?,
            peer: row.get::<_, Option<String>>(12)?.and_then(|peer| peer.parse().ok()),
            key: row.get(13)?,
        },
    })
}

pub(super) fn unread(connection: &Connection, limit: usize) -> Result<Vec<Entry>> {
    connection
        .prepare_cached(&format!("SELECT {ENTRY} FROM inbox INDEXED BY inbox_unread WHERE state = 0 ORDER BY id LIMIT ?1"))?
        .query_map([limit as i64], read_entry)?
        .collect()
}

pub(super) fn entry(connection: &Connection, entry: Id) -> Result<Option<Entry>> {
    connection
        .prepare_cached(&format!("SELECT {ENTRY} FROM inbox WHERE id = ?1"))?
        .query_row([entry.as_bytes()], read_entry)
        .optional()
}

pub(super) fn event(connection: &Connection, event: Id) -> Result<Option<Event>> {
    connection.prepare_cached("SELECT doc FROM event WHERE id = ?1")?.query_row([event.as_bytes()], |row| doc(0, row)).optional()
}

pub(super) fn entry_state(number: i64) -> EntryState {
    match number {
        0 => EntryState::Unread,
        1 => EntryState::Read,
        2 => EntryState::Duplicate,
        _ => EntryState::Dead,
    }
}

fn entry_word(state: EntryState) -> &'static str {
    match state {
        EntryState::Unread => "unread",
        EntryState::Read => "read",
        EntryState::Duplicate => "duplicate",
        EntryState::Dead => "dead",
    }
}

/// The newest rows of what came and what went out, merged by time.
pub(super) fn list(connection: &Connection, filter: &JournalFilter) -> Result<Vec<JournalRow>> {
    let limit = filter.limit.clamp(1, 1000);
    let mut rows = incoming(connection, filter, limit)?;
    rows.extend(outgoing(connection, filter, limit)?);
    rows.sort_by_key(|row| (std::cmp::Reverse(row.at), std::cmp::Reverse(*row.id.as_bytes())));
    rows.truncate(limit);
    Ok(rows)
}

/// The conditions that both halves share; every value is bound, so that no text of a user becomes SQL.
fn conditions(filter: &JournalFilter, at: &str) -> (String, Vec<Box<dyn rusqlite::ToSql>>) {
    let mut sql = String::from("WHERE 1");
    let mut values: Vec<Box<dyn rusqlite::ToSql>> = Vec::new();
    let mut add = |condition: &str, value: Box<dyn rusqlite::ToSql>| {
        values.push(value);
        sql.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", values.len()))));
    };
    if let Some(merchant) = filter.merchant {
        add("j.merchant = ?", Box::new(*merchant.as_bytes()));
    }
    if let Some(provider) = &filter.provider {
        add("j.provider = ?", Box::new(provider.clone()));
    }
    if let Some(reference) = &filter.reference {
        add("j.id IN (SELECT id FROM reference WHERE value = ? AND merchant = j.merchant)", Box::new(reference.clone()));
    }
    if let Some(from) = filter.from {
        add(&format!("j.{at} >= ?"), Box::new(ms(from)));
    }
    if let Some(to) = filter.to {
        add(&format!("j.{at} < ?"), Box::new(ms(to)));
    }
    if let Some(before) = filter.before {
        add("j.id < ?", Box::new(*before.as_bytes()));
    }
    (sql, values)
}

fn incoming(connection: &Connection, filter: &JournalFilter, limit: usize) -> Result<Vec<JournalRow>> {
    let (mut sql, values) = conditions(filter, "received_at");
    match filter.status.as_deref() {
        Some("error" | "dead") => sql.push_str(" AND j.state = 3"),
        Some("ok") => sql.push_str(" AND j.state <> 3"),
        Some("unread") => sql.push_str(" AND j.state = 0"),
        Some("read") => sql.push_str(" AND j.state = 1"),
        Some("duplicate") => sql.push_str(" AND j.state = 2"),
        Some(_) => return Ok(Vec::new()),
        None => {}
    }
    let values: Vec<&dyn rusqlite::ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection
        .prepare(&format!(
            "SELECT j.id, j.received_at, j.merchant, j.connection, j.provider, j.method, j.path, substr(j.body, 1, 4096), j.state, j.notes
             FROM inbox j {sql} ORDER BY j.id DESC LIMIT {limit}"
        ))?
        .query_map(&values[..], |row| {
            let state = entry_state(row.get(8)?);
            let notes: Option<String> = row.get(9)?;
            Ok(JournalRow {
                id: id(Kind::Entry, 0, row)?,
                at: time(1, row)?,
                merchant_id: id(Kind::Merchant, 2, row)?,
                integration_id: id(Kind::Connection, 3, row)?,
                provider: row.get(4)?,
                direction: Direction::In,
                endpoint: format!("{} {}", row.get::<_, String>(5)?, row.get::<_, String>(6)?),
                status: if state == EntryState::Dead { "error" } else { "ok" },
                state: entry_word(state).to_owned(),
                request: String::from_utf8_lossy(row.get_ref(7)?.as_bytes_or_null()?.unwrap_or_default()).into_owned(),
                response: String::new(),
                error: if state == EntryState::Dead { notes } else { None },
                retry_count: 0,
                next_retry_at: None,
            })
        })?
        .collect()
}

fn outgoing(connection: &Connection, filter: &JournalFilter, limit: usize) -> Result<Vec<JournalRow>> {
    let (mut sql, values) = conditions(filter, "at");
    match filter.status.as_deref() {
        Some("error") => sql.push_str(" AND j.error IS NOT NULL"),
        Some("ok") => sql.push_str(" AND j.error IS NULL"),
        Some(_) => return Ok(Vec::new()),
        None => {}
    }
    let values: Vec<&dyn rusqlite::ToSql> = values.iter().map(AsRef::as_ref).collect();
    connection
        .prepare(&format!(
            "SELECT j.id, j.at, j.merchant, j.connection, j.provider, j.endpoint, j.request, j.response, j.error, j.attempt, j.next_retry_at
             FROM exchange j {sql} ORDER BY j.id DESC LIMIT {limit}"
        ))?
        .query_map(&values[..], |row| {
            let error: Option<String> = row.get(8)?;
            let next_retry_at: Option<i64> = row.get(10)?;
            let attempt: i64 = row.get(9)?;
            Ok(JournalRow {
                id: id(Kind::Attempt, 0, row)?,
                at: time(1, row)?,
                merchant_id: id(Kind::Merchant, 2, row)?,
                integration_id: id(Kind::Connection, 3, row)?,
                provider: row.get(4)?,
                direction: Direction::Out,
                endpoint: row.get(5)?,
                status: if error.is_some() { "error" } else { "ok" },
                state: if error.is_none() { "done" } else if next_retry_at.is_some() { "retry" } else { "failed" }.to_owned(),
                request: row.get(6)?,
                response: row.get(7)?,
                error,
                retry_count: (attempt - 1).max(0) as u32,
                next_retry_at: next_retry_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()),
            })
        })?
        .collect()
}

pub(super) fn dead(
    connection: &Connection,
    provider: Option<&str>,
    from: Option<jiff::Timestamp>,
    to: Option<jiff::Timestamp>,
) -> Result<Vec<Id>> {
    connection
        .prepare_cached(
            "SELECT id FROM inbox INDEXED BY inbox_dead WHERE state = 3 AND (?1 IS NULL OR provider = ?1)
             AND received_at >= ?2 AND received_at < ?3 ORDER BY id",
        )?
        .query_map(params![provider, from.map_or(i64::MIN, ms), to.map_or(i64::MAX, ms)], |row| id(Kind::Entry, 0, row))?
        .collect()
}

pub(super) fn command_state(number: i64) -> CommandState {
    match number {
        0 => CommandState::Waiting,
        1 => CommandState::Sending,
        2 => CommandState::Done,
        3 => CommandState::Dead,
        4 => CommandState::Unknown,
        _ => CommandState::Held,
    }
}

pub(super) fn counts(connection: &Connection) -> Result<Counts> {
    let entries = connection
        .prepare("SELECT state, count(*) FROM inbox GROUP BY state")?
        .query_map([], |row| Ok((entry_state(row.get(0)?), row.get::<_, i64>(1)? as u64)))?
        .collect::<Result<_>>()?;
    let commands = connection
        .prepare("SELECT state, count(*) FROM command GROUP BY state")?
        .query_map([], |row| Ok((command_state(row.get(0)?), row.get::<_, i64>(1)? as u64)))?
        .collect::<Result<_>>()?;
    let held = connection
        .prepare("SELECT reason, count(*) FROM command WHERE state = 5 GROUP BY reason ORDER BY 2 DESC")?
        .query_map([], |row| Ok((row.get::<_, Option<String>>(0)?.unwrap_or_default(), row.get::<_, i64>(1)? as u64)))?
        .collect::<Result<_>>()?;
    Ok(Counts { entries, commands, held })
}

pub(super) fn health(connection: &Connection) -> Result<Health> {
    let moment = |sql: &str| -> Result<Option<jiff::Timestamp>> {
        let at: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.flatten();
        Ok(at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()))
    };
    Ok(Health {
        oldest_unread_at: moment("SELECT received_at FROM inbox INDEXED BY inbox_unread WHERE state = 0 ORDER BY id LIMIT 1")?,
        oldest_due_at: moment(
            "SELECT min(next_at) FROM command INDEXED BY command_due WHERE state = 0 AND connection IN (SELECT id FROM setup)",
        )?,
    })
}
