//! The inbox, and the journal as people read it.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Bytes, Event, Id, Request, id::Kind};

use super::{
    doc, id, ms, outbox,
    reference::FOUND,
    tally::{self, Tally},
    time,
};
use crate::numbers::{command_state, entry_number, entry_state, entry_tally, entry_word, key};
use crate::ready::EntryRow;
use crate::{CommandState, Counts, Direction, Entry, EntryState, Health, JournalFilter, JournalRow, Source};

const ENTRY: &str =
    "id, merchant, connection, provider, source, trace, method, path, query, headers, body, received_at, peer, proof, answer";

pub(super) fn insert(db: &Connection, row: &EntryRow, tally: &mut Tally) -> Result<()> {
    let EntryRow { entry, query, headers } = row;
    let request = &entry.request;
    db.prepare_cached(
        "INSERT INTO inbox (ordinal, id, merchant, connection, provider, source, trace, method, path, query, headers, body,
         received_at, peer, proof, answer) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
    )?
    .execute(params![
        entry.id.ordinal(),
        entry.id.as_bytes(),
        entry.merchant.as_bytes(),
        entry.connection.as_bytes(),
        entry.provider,
        source_number(entry.source),
        entry.trace,
        request.method,
        request.path,
        query,
        headers,
        &request.body[..],
        ms(request.received_at),
        request.peer.map(|peer| peer.to_string()),
        request.key,
        entry.answer,
    ])?;
    let state = if entry.source == Source::Question { EntryState::Read } else { EntryState::Unread };
    if state == EntryState::Unread {
        db.prepare_cached("INSERT INTO unread VALUES (?1)")?.execute([entry.id.ordinal()])?;
    }
    tally.add(entry_tally(state), 1);
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
        answer: row.get(14)?,
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

/// An unread row, or why it cannot be decoded: one such row must not keep the others from being read.
pub(super) struct Unread {
    pub(super) ordinal: i64,
    pub(super) entry: std::result::Result<Entry, String>,
}

pub(super) fn unread(db: &Connection, limit: usize) -> Result<Vec<Unread>> {
    db.prepare_cached(&format!(
        "SELECT {ENTRY}, ordinal FROM inbox WHERE ordinal IN (SELECT entry FROM unread ORDER BY entry LIMIT ?1) ORDER BY ordinal"
    ))?
    .query_map([limit as i64], |row| {
        Ok(Unread { ordinal: row.get(15)?, entry: read_entry(row).map_err(|error| error.to_string()) })
    })?
    .collect()
}

/// Rows that cannot be decoded become dead letters.
pub(super) fn bury(db: &Connection, rows: &[(i64, String)], tally: &mut Tally) -> Result<()> {
    for (ordinal, why) in rows {
        if db.prepare_cached("DELETE FROM unread WHERE entry = ?1")?.execute([ordinal])? == 1 {
            db.prepare_cached("INSERT INTO outcome VALUES (?1, ?2, ?3)")?.execute(params![
                ordinal,
                entry_number(EntryState::Dead),
                format!("the stored row cannot be decoded: {why}")
            ])?;
            tally.shift(entry_tally(EntryState::Unread), entry_tally(EntryState::Dead));
        }
    }
    Ok(())
}

pub(super) fn entry(db: &Connection, entry: Id) -> Result<Option<Entry>> {
    db.prepare_cached(&format!("SELECT {ENTRY} FROM inbox WHERE ordinal = ?1 AND id = ?2"))?
        .query_row(params![entry.ordinal(), entry.as_bytes()], read_entry)
        .optional()
}

pub(super) fn event(db: &Connection, event: Id) -> Result<Option<Event>> {
    db.prepare_cached("SELECT doc FROM event WHERE ordinal = ?1")?.query_row([event.ordinal()], |row| doc(0, row)).optional()
}

/// The entry that an event was read from.
pub(super) fn entry_of(db: &Connection, event: Id) -> Result<Option<i64>> {
    db.prepare_cached("SELECT entry FROM event WHERE ordinal = ?1")?.query_row([event.ordinal()], |row| row.get(0)).optional()
}

/// As SQL over `inbox j`: the number of an entry's state.
const STATE: &str = "CASE WHEN EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.ordinal) THEN 0
     ELSE ifnull((SELECT o.state FROM outcome o WHERE o.entry = j.ordinal), 1) END";

pub(super) fn state_of(db: &Connection, entry: i64) -> Result<EntryState> {
    db.prepare_cached(&format!("SELECT {STATE} FROM inbox j WHERE j.ordinal = ?1"))?
        .query_row([entry], |row| row.get(0).map(entry_state))
}

/// The newest rows of what came and what went out, merged by time.
pub(super) fn list(db: &Connection, filter: &JournalFilter) -> Result<Vec<JournalRow>> {
    let limit = filter.limit.clamp(1, 1000);
    let mut rows = incoming(db, filter, limit)?;
    rows.extend(outgoing(db, filter, limit)?);
    rows.sort_by_key(|row| (std::cmp::Reverse(row.at), std::cmp::Reverse(*row.id.as_bytes())));
    rows.truncate(limit);
    Ok(rows)
}

/// The conditions that both halves share; every value is bound, so that no text of a user becomes SQL.
/// `at` is the column of the time, `found_by` how rows are found by a reference.
fn conditions(filter: &JournalFilter, at: &str, found_by: &str) -> (String, Vec<Box<dyn rusqlite::ToSql>>) {
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
        add(found_by, Box::new(key(reference)));
    }
    if let Some(from) = filter.from {
        add(&format!("j.{at} >= ?"), Box::new(ms(from)));
    }
    if let Some(to) = filter.to {
        add(&format!("j.{at} < ?"), Box::new(ms(to)));
    }
    if let Some(before) = filter.before {
        add("j.ordinal < ?", Box::new(before.ordinal()));
    }
    (sql, values)
}

fn incoming(db: &Connection, filter: &JournalFilter, limit: usize) -> Result<Vec<JournalRow>> {
    let (mut sql, values) = conditions(filter, "received_at", &format!("j.ordinal IN ({FOUND})"));
    match filter.status.as_deref() {
        Some("error") => sql.push_str(" AND j.ordinal IN (SELECT entry FROM outcome WHERE state = 3)"),
        // An entry is found by what became of it, and by what became of its commands.
        Some("dead") => sql.push_str(&format!(" AND j.ordinal IN ({DEAD})")),
        Some("unknown") => sql.push_str(" AND j.ordinal IN (SELECT entry FROM command WHERE state = 4)"),
        Some("held") => sql.push_str(" AND j.ordinal IN (SELECT entry FROM command WHERE state = 5)"),
        Some("waiting") => sql.push_str(" AND EXISTS (SELECT 1 FROM command c WHERE c.entry = j.ordinal AND c.state = 0)"),
        Some("ok") => sql.push_str(" AND j.ordinal NOT IN (SELECT entry FROM outcome WHERE state = 3)"),
        Some("unread") => sql.push_str(" AND j.ordinal IN (SELECT entry FROM unread)"),
        Some("read") => sql.push_str(&format!(" AND {STATE} = 1")),
        Some("duplicate") => sql.push_str(" AND j.ordinal IN (SELECT entry FROM outcome WHERE state = 2)"),
        Some(_) => return Ok(Vec::new()),
        None => {}
    }
    let values: Vec<&dyn rusqlite::ToSql> = values.iter().map(AsRef::as_ref).collect();
    db.prepare(&format!(
        "SELECT j.id, j.received_at, j.merchant, j.connection, j.provider, j.method, j.path, substr(j.body, 1, 4096), {STATE},
             (SELECT o.notes FROM outcome o WHERE o.entry = j.ordinal), j.answer FROM inbox j {sql} ORDER BY j.ordinal DESC LIMIT {limit}"
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
            response: row.get(10)?,
            error: if state == EntryState::Dead { notes } else { None },
            retry_count: 0,
            next_retry_at: None,
        })
    })?
    .collect()
}

fn outgoing(db: &Connection, filter: &JournalFilter, limit: usize) -> Result<Vec<JournalRow>> {
    let found_by = format!("j.command IN (SELECT ordinal FROM command WHERE entry IN ({FOUND}))");
    let (mut sql, values) = conditions(filter, "at", &found_by);
    match filter.status.as_deref() {
        Some("error") => sql.push_str(" AND j.error IS NOT NULL"),
        Some("ok") => sql.push_str(" AND j.error IS NULL"),
        Some("dead") => sql.push_str(" AND j.command IN (SELECT ordinal FROM command WHERE state = 3)"),
        Some("unknown") => sql.push_str(" AND j.command IN (SELECT ordinal FROM command WHERE state = 4)"),
        Some(_) => return Ok(Vec::new()),
        None => {}
    }
    let values: Vec<&dyn rusqlite::ToSql> = values.iter().map(AsRef::as_ref).collect();
    db
        .prepare(&format!(
            "SELECT j.id, j.at, j.merchant, j.connection, j.provider, j.endpoint, j.request, j.response, j.error, j.attempt, j.next_retry_at,
             (SELECT c.state FROM command c WHERE c.ordinal = j.command) FROM exchange j {sql} ORDER BY j.ordinal DESC LIMIT {limit}"
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
                state: match (&error, next_retry_at, row.get::<_, Option<u8>>(11)?.map(command_state)) {
                    (None, ..) => "done",
                    (_, Some(_), _) => "retry",
                    (_, _, Some(CommandState::Unknown)) => "unknown",
                    (_, _, Some(CommandState::Dead)) => "dead",
                    _ => "failed",
                }
                .to_owned(),
                request: row.get(6)?,
                response: row.get(7)?,
                error,
                retry_count: (attempt - 1).max(0) as u32,
                next_retry_at: next_retry_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()),
            })
        })?
        .collect()
}

/// Entries that are dead themselves or led to a dead command.
const DEAD: &str = "SELECT entry FROM outcome WHERE state = 3 UNION SELECT entry FROM command WHERE state = 3";

/// Of one provider: that it came from, or whose call is dead.
pub(super) fn dead(
    db: &Connection,
    provider: Option<&str>,
    from: Option<jiff::Timestamp>,
    to: Option<jiff::Timestamp>,
) -> Result<Vec<Id>> {
    db.prepare_cached(&format!(
        "SELECT j.id FROM inbox j WHERE j.ordinal IN ({DEAD}) AND j.received_at >= ?2 AND j.received_at < ?3
         AND (?1 IS NULL OR j.provider = ?1 OR EXISTS (SELECT 1 FROM command c JOIN setup s ON s.id = c.connection
              WHERE c.entry = j.ordinal AND c.state = 3 AND s.doc ->> 'provider' = ?1)) ORDER BY j.ordinal"
    ))?
    .query_map(params![provider, from.map_or(i64::MIN, ms), to.map_or(i64::MAX, ms)], |row| id(Kind::Entry, 0, row))?
    .collect()
}

pub(super) fn counts(db: &Connection) -> Result<Counts> {
    let known = |kind| -> Result<Vec<(u8, u64)>> {
        Ok(tally::counts(db, kind)?.into_iter().filter_map(|(number, count)| Some((number.parse().ok()?, count))).collect())
    };
    let entries = known("entry")?.into_iter().map(|(number, count)| (entry_state(number), count)).collect();
    let sending: i64 = db.prepare_cached("SELECT count(*) FROM sending")?.query_row([], |row| row.get(0))?;
    let mut commands: Vec<(CommandState, u64)> =
        known("command")?.into_iter().map(|(number, count)| (command_state(number), count)).collect();
    if sending > 0 {
        commands.iter_mut().filter(|(state, _)| *state == CommandState::Waiting).for_each(|(_, count)| *count -= sending as u64);
        commands.push((CommandState::Sending, sending as u64));
    }
    let mut held = tally::counts(db, "held")?;
    held.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(Counts { entries, commands, held })
}

pub(super) fn health(db: &Connection, connections: &[Id]) -> Result<Health> {
    let mut oldest_due_at = None;
    for connection in connections {
        oldest_due_at = outbox::soonest(oldest_due_at, outbox::next_of(db, *connection)?);
    }
    let oldest_unread_at = db
        .prepare_cached("SELECT received_at FROM inbox WHERE ordinal = (SELECT min(entry) FROM unread)")?
        .query_row([], |row| time(0, row))
        .optional()?;
    Ok(Health { oldest_unread_at, oldest_due_at })
}
