//! The inbox, and what stands in it.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Bytes, Event, Id, Request, id::Kind};

use super::{
    doc, id, ms, outbox,
    tally::{self, Tally},
    time,
};
use crate::{
    CommandState, Counts, Entry, EntryState, Health, Source,
    numbers::{command_state, entry_number, entry_state, entry_tally, source, source_number},
    ready::EntryRow,
};

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
pub(super) const STATE: &str = "CASE WHEN EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.ordinal) THEN 0
     ELSE ifnull((SELECT o.state FROM outcome o WHERE o.entry = j.ordinal), 1) END";

pub(super) fn state_of(db: &Connection, entry: i64) -> Result<EntryState> {
    db.prepare_cached(&format!("SELECT {STATE} FROM inbox j WHERE j.ordinal = ?1"))?
        .query_row([entry], |row| row.get(0).map(entry_state))
}

/// Entries that are dead themselves or led to a dead command.
pub(super) const DEAD: &str = "SELECT entry FROM outcome WHERE state = 3
     UNION SELECT entry FROM command INDEXED BY command_trouble WHERE state >= 3 AND state = 3";

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
