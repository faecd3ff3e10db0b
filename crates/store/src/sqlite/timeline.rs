//! All that followed from one entry of the inbox, found by any id in it.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde_json::Value;
use uzel_model::{Event, Id, id::Kind, price};

use super::{doc, id, journal, maybe_id, time};
use crate::chain::delivery;
use crate::numbers::{command_state, way_out, way_out_of};
use crate::{CommandState, Exchange, Timeline, TimelineCommand};

const EXCHANGE: &str = "id, merchant, connection, provider, at, endpoint, request, response, error, duration_ms, trace";

const COMMAND: &str = "SELECT c.id, c.event, c.connection, c.flow, c.job, c.state, c.reason, c.due_at, c.next_at, c.attempts,
    c.provider_id, s.state, s.code, EXISTS (SELECT 1 FROM sending WHERE command = c.ordinal), c.merchant, s.cost_micro, s.currency,
    (SELECT b.id FROM command b WHERE b.ordinal = f.after), f.why FROM command c
    LEFT JOIN sent s ON s.connection = c.connection AND s.provider_id = c.provider_id
    LEFT JOIN step f ON f.command = c.ordinal";

pub(super) fn of(db: &Connection, id: Id) -> Result<Option<Timeline>> {
    let Some(entry_id) = entry_of(db, id)? else { return Ok(None) };
    let Some(entry) = journal::entry(db, entry_id)? else { return Ok(None) };
    let ordinal = entry_id.ordinal();
    let notes: Option<String> = db
        .prepare_cached("SELECT notes FROM outcome WHERE entry = ?1")?
        .query_row([ordinal], |row| row.get(0))
        .optional()?
        .flatten();
    let events: Vec<Event> = db
        .prepare_cached("SELECT doc FROM event WHERE entry = ?1 ORDER BY ordinal")?
        .query_map([ordinal], |row| doc(0, row))?
        .collect::<Result<_>>()?;
    let commands = commands_of(db, ordinal)?;
    let target: Vec<String> = entry.request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(Some(Timeline {
        entry: entry.id,
        received_at: entry.request.received_at,
        provider: entry.provider,
        connection: entry.connection,
        merchant: entry.merchant,
        source: entry.source,
        method: entry.request.method,
        target: if target.is_empty() { entry.request.path } else { format!("{}?{}", entry.request.path, target.join("&")) },
        proof: entry.request.key,
        headers: entry.request.headers,
        body: String::from_utf8_lossy(&entry.request.body).into_owned(),
        answer: entry.answer,
        state: journal::state_of(db, ordinal)?,
        notes: notes.map(|notes| notes.lines().map(str::to_owned).collect()).unwrap_or_default(),
        trace: entry.trace,
        events,
        commands,
    }))
}

/// The entry whose timeline a thing stands in.
fn entry_of(db: &Connection, thing: Id) -> Result<Option<Id>> {
    let entry = match thing.kind() {
        Kind::Entry => return Ok(Some(thing)),
        Kind::Event => "SELECT entry FROM event WHERE ordinal = ?1",
        Kind::Command => "SELECT entry FROM command WHERE ordinal = ?1",
        Kind::Attempt => "SELECT c.entry FROM exchange x JOIN command c ON c.ordinal = x.command WHERE x.ordinal = ?1",
        _ => return Ok(None),
    };
    db.prepare_cached(&format!("SELECT id FROM inbox WHERE ordinal = ({entry})"))?
        .query_row([thing.ordinal()], |row| id(Kind::Entry, 0, row))
        .optional()
}

fn commands_of(db: &Connection, entry: i64) -> Result<Vec<TimelineCommand>> {
    let mut commands: Vec<TimelineCommand> = db
        .prepare_cached(&format!("{COMMAND} WHERE c.entry = ?1 ORDER BY c.ordinal"))?
        .query_map([entry], read_command)?
        .collect::<Result<_>>()?;
    for command in &mut commands {
        command.exchanges = exchanges_of(db, command.id)?;
    }
    Ok(commands)
}

/// One command, and whose it is: those that were asked for belong to no entry.
pub(super) fn command(db: &Connection, command: Id) -> Result<Option<(Id, TimelineCommand)>> {
    let found = db
        .prepare_cached(&format!("{COMMAND} WHERE c.ordinal = ?1 AND c.id = ?2"))?
        .query_row(params![command.ordinal(), command.as_bytes()], |row| Ok((id(Kind::Merchant, 14, row)?, read_command(row)?)))
        .optional()?;
    let Some((merchant, mut found)) = found else { return Ok(None) };
    found.exchanges = exchanges_of(db, command)?;
    Ok(Some((merchant, found)))
}

/// Commands and whose they are, in the order of their ordinals as given, without their exchanges.
pub(super) fn commands(db: &Connection, ordinals: &[i64]) -> Result<Vec<(Id, TimelineCommand)>> {
    let mut one = db.prepare_cached(&format!("{COMMAND} WHERE c.ordinal = ?1"))?;
    let read = |row: &Row<'_>| Ok((id(Kind::Merchant, 14, row)?, read_command(row)?));
    ordinals.iter().map(|ordinal| one.query_row([ordinal], read)).collect()
}

fn read_command(row: &Row<'_>) -> Result<TimelineCommand> {
    let job: Value = doc(4, row)?;
    Ok(TimelineCommand {
        id: id(Kind::Command, 0, row)?,
        event: maybe_id(Kind::Event, 1, row)?,
        connection: id(way_out_of(&job), 2, row)?,
        flow: maybe_id(Kind::Flow, 3, row)?,
        job,
        state: if row.get(13)? { CommandState::Sending } else { command_state(row.get(5)?) },
        reason: row.get(6)?,
        due_at: time(7, row)?,
        next_at: time(8, row)?,
        attempts: row.get(9)?,
        provider_id: row.get(10)?,
        delivery: row.get::<_, Option<i64>>(11)?.map(delivery),
        delivery_code: row.get(12)?,
        cost: row.get::<_, Option<i64>>(15)?.map(price::text),
        currency: row.get(16)?,
        after: maybe_id(Kind::Command, 17, row)?,
        why: row.get(18)?,
        exchanges: Vec::new(),
    })
}

fn exchanges_of(db: &Connection, command: Id) -> Result<Vec<Exchange>> {
    db.prepare_cached(&format!("SELECT {EXCHANGE} FROM exchange WHERE command = ?1 ORDER BY ordinal"))?
        .query_map([command.ordinal()], read_exchange)?
        .collect()
}

pub(super) fn exchange(db: &Connection, id: Id) -> Result<Option<Exchange>> {
    db.prepare_cached(&format!("SELECT {EXCHANGE} FROM exchange WHERE ordinal = ?1"))?
        .query_row([id.ordinal()], read_exchange)
        .optional()
}

fn read_exchange(row: &Row<'_>) -> Result<Exchange> {
    Ok(Exchange {
        id: id(Kind::Attempt, 0, row)?,
        merchant: id(Kind::Merchant, 1, row)?,
        connection: id(way_out(row.get_ref(3)?.as_str()?), 2, row)?,
        provider: row.get(3)?,
        at: time(4, row)?,
        endpoint: row.get(5)?,
        request: row.get(6)?,
        response: row.get(7)?,
        error: row.get(8)?,
        duration_ms: row.get(9)?,
        trace: row.get(10)?,
    })
}
