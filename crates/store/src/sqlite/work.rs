//! Changes and leases: what the loops commit.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Id, Job, Timestamp, id::Kind, port::Delivery, signature::fingerprint};

use super::{doc, failed, id, journal, maybe_id, ms, setup, time};
use crate::{
    Applied, Change, Command, CommandState, Contact, EntryState, Exchange, Mark, NewCommand, NewEvent, Notice, Settlement,
    StoreError,
};

pub(super) fn apply(db: &Connection, change: &Change) -> std::result::Result<Applied, StoreError> {
    // What can conflict goes first: nothing has been written when it does.
    if let Some(settlement) = &change.settlement
        && !settle(db, settlement).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    write(db, change).map_err(failed)
}

fn write(db: &Connection, change: &Change) -> Result<Applied> {
    let mut applied = Applied::default();
    for entry in &change.entries {
        journal::insert(db, entry)?;
    }
    for event in &change.events {
        add_event(db, event, &mut applied)?;
    }
    for command in &change.commands {
        queue(db, command)?;
        applied.queued += 1;
    }
    if let Some(event) = &change.resolved {
        resolve(db, event, &mut applied)?;
    }
    if let Some(mark) = &change.mark {
        mark_entry(db, mark, &applied, change)?;
    }
    for (connection, news) in &change.statuses {
        let state = match news.state {
            Delivery::OnTheWay => 0,
            Delivery::Delivered => 1,
            Delivery::Failed => 2,
        };
        // A final state is never left: states may come out of order.
        db.prepare_cached("UPDATE sent SET state = ?3, code = ?4 WHERE connection = ?1 AND provider_id = ?2 AND state = 0")?
            .execute(params![connection.as_bytes(), news.provider_id, state, news.code])?;
    }
    if let Some((connection, value)) = &change.cursor {
        db.prepare_cached("INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
            .execute(params![connection.as_bytes(), value])?;
    }
    let now = change.now.map_or(0, ms);
    for (merchant, phone) in &change.opt_outs {
        db.prepare_cached(
            "INSERT INTO contact (merchant, phone, opted_out, at) VALUES (?1, ?2, 1, ?3)
             ON CONFLICT DO UPDATE SET opted_out = 1, at = excluded.at",
        )?
        .execute(params![merchant.as_bytes(), phone, now])?;
    }
    for notice in &change.notices {
        put_notice(db, notice, now)?;
    }
    for exchange in &change.exchanges {
        put_exchange(db, exchange, None, 1, None)?;
    }
    Ok(applied)
}

fn put_notice(db: &Connection, notice: &Notice, now: i64) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO notice VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        notice.merchant.as_bytes(),
        notice.connection.as_bytes(),
        notice.kind,
        now / 86_400_000,
        notice.text
    ])?;
    Ok(())
}

fn add_event(db: &Connection, new: &NewEvent, applied: &mut Applied) -> Result<()> {
    let event = &new.event;
    let key = fingerprint([event.connection.as_bytes().as_slice(), event.key.as_bytes()]);
    if db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1)")?.execute([key])? == 0 {
        applied.duplicates += 1;
        return Ok(());
    }
    applied.new_events += 1;
    db.prepare_cached("INSERT INTO event (id, entry, merchant, kind, pending, doc) VALUES (?1,?2,?3,?4,?5,?6)")?.execute(
        params![
            event.id.as_bytes(),
            event.entry.as_bytes(),
            event.merchant.as_bytes(),
            event.kind,
            new.pending,
            serde_json::to_string(event).expect("an event is JSON")
        ],
    )?;
    for value in event.refs.iter().chain(event.phone.as_ref().map(|phone| &phone.e164)) {
        refer(db, event.merchant, value, event.entry)?;
    }
    follow(db, new, applied)
}

fn follow(db: &Connection, new: &NewEvent, applied: &mut Applied) -> Result<()> {
    if let Some(reason) = &new.call_off {
        call_off(db, new, reason)?;
    }
    for command in &new.commands {
        queue(db, command)?;
        applied.queued += 1;
    }
    Ok(())
}

fn call_off(db: &Connection, new: &NewEvent, reason: &str) -> Result<()> {
    let connection = new.event.connection;
    let subject = format!("{connection}/{}", new.event.subject);
    let called: Vec<[u8; 16]> = db
        .prepare_cached("SELECT id FROM command WHERE state = 0 AND subject = ?1")?
        .query_map([&subject], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for command in called {
        db.prepare_cached("UPDATE command SET state = 5, reason = ?2 WHERE id = ?1")?.execute(params![command, reason])?;
        db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
        db.prepare_cached("UPDATE event SET pending = 0 WHERE pending AND id = (SELECT event FROM command WHERE id = ?1)")?
            .execute([command])?;
    }
    // A look-up under way cannot be called off, but nothing more follows from its event.
    db.prepare_cached(
        "UPDATE event SET pending = 0 WHERE pending AND id IN
         (SELECT event FROM command INDEXED BY command_sending WHERE state = 1 AND subject = ?1)",
    )?
    .execute([&subject])?;
    Ok(())
}

/// The event of a look-up, with what was found: its document is replaced and its commands follow, unless the event was called
/// off meanwhile.
fn resolve(db: &Connection, new: &NewEvent, applied: &mut Applied) -> Result<()> {
    let event = &new.event;
    let open = db.prepare_cached("UPDATE event SET doc = ?2, pending = ?3 WHERE id = ?1 AND pending")?.execute(params![
        event.id.as_bytes(),
        serde_json::to_string(event).expect("an event is JSON"),
        new.pending
    ])?;
    if open == 0 {
        return Ok(());
    }
    if let Some(phone) = &event.phone {
        refer(db, event.merchant, &phone.e164, event.entry)?;
    }
    follow(db, new, applied)
}

fn refer(db: &Connection, merchant: Id, value: &str, id: Id) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO reference VALUES (?1, ?2, ?3)")?.execute(params![
        merchant.as_bytes(),
        value,
        id.as_bytes()
    ])?;
    Ok(())
}

fn queue(db: &Connection, new: &NewCommand) -> Result<()> {
    let command = &new.command;
    let mut held = new.held.clone();
    if let (None, Some(slot)) = (&held, &new.slot) {
        let taken = db
            .prepare_cached(
                "INSERT INTO slot (key, until, command) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET until = excluded.until, command = excluded.command WHERE slot.until <= ?4",
            )?
            .execute(params![slot.key, ms(slot.until), command.id.as_bytes(), ms(command.due_at)])?
            == 0;
        if taken {
            held = Some(slot.reason.clone());
        }
    }
    let state = if held.is_some() { CommandState::Held } else { CommandState::Waiting };
    db.prepare_cached(
        "INSERT INTO command (id, merchant, connection, flow, event, job, repeatable, state, due_at, next_at, latest_at,
         ordering_key, subject, reason, trace) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?9,?10,?11,?12,?13,?14)",
    )?
    .execute(params![
        command.id.as_bytes(),
        command.merchant.as_bytes(),
        command.connection.as_bytes(),
        command.flow.map(|flow| *flow.as_bytes()),
        command.event.map(|event| *event.as_bytes()),
        serde_json::to_string(&command.job).expect("a job is JSON"),
        command.job.repeatable(),
        state_number(state),
        ms(command.due_at),
        command.latest_at.map(ms),
        command.ordering_key.as_bytes(),
        command.subject,
        held,
        command.trace,
    ])?;
    Ok(())
}

pub(super) fn state_number(state: CommandState) -> i64 {
    match state {
        CommandState::Waiting => 0,
        CommandState::Sending => 1,
        CommandState::Done => 2,
        CommandState::Dead => 3,
        CommandState::Unknown => 4,
        CommandState::Held => 5,
    }
}

fn mark_entry(db: &Connection, mark: &Mark, applied: &Applied, change: &Change) -> Result<()> {
    let known_before = applied.new_events == 0 && applied.duplicates > 0 && change.statuses.is_empty();
    let state = match mark.state {
        EntryState::Read if known_before => 2,
        EntryState::Read => 1,
        EntryState::Duplicate => 2,
        EntryState::Dead => 3,
        EntryState::Unread => 0,
    };
    let notes = (!mark.notes.is_empty()).then(|| mark.notes.join("\n"));
    db.prepare_cached("UPDATE inbox SET state = ?2, notes = ?3 WHERE id = ?1")?.execute(params![
        mark.entry.as_bytes(),
        state,
        notes
    ])?;
    if let Some(event) = change.events.first() {
        for value in &mark.refs {
            refer(db, event.event.merchant, value, mark.entry)?;
        }
    }
    Ok(())
}

/// Whether the lease still held.
fn settle(db: &Connection, settlement: &Settlement) -> Result<bool> {
    let command = settlement.command.as_bytes();
    let held = db
        .prepare_cached(
            "SELECT attempts, ordering_key, merchant, connection FROM command WHERE id = ?1 AND state = 1 AND lease = ?2",
        )?
        .query_row(params![command, settlement.lease], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?, row.get::<_, [u8; 16]>(2)?, row.get::<_, [u8; 16]>(3)?))
        })
        .optional()?;
    let Some((attempts, ordering_key, merchant, connection)) = held else { return Ok(false) };
    let attempts = attempts + i64::from(settlement.counts);
    let retry_at = settlement.retry_at.map(ms);
    db.prepare_cached(
        "UPDATE command SET state = ?2, next_at = coalesce(?3, next_at), reason = ?4, provider_id = coalesce(?5, provider_id),
         attempts = ?6, lease_until = NULL WHERE id = ?1",
    )?
    .execute(params![
        command,
        state_number(settlement.state),
        retry_at,
        settlement.reason,
        settlement.provider_id,
        attempts
    ])?;
    let merchant = Id::from_bytes(Kind::Merchant, merchant);
    for exchange in &settlement.exchanges {
        put_exchange(db, exchange, Some(settlement.command), attempts, retry_at)?;
        for value in &settlement.refs {
            refer(db, merchant, value, exchange.id)?;
        }
    }
    if settlement.frees_slot {
        db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    }
    if let (CommandState::Done, Some(provider_id), Some(exchange)) =
        (settlement.state, &settlement.provider_id, settlement.exchanges.last())
    {
        db.prepare_cached("INSERT OR IGNORE INTO sent (connection, provider_id, command, at, state) VALUES (?1, ?2, ?3, ?4, 0)")?
            .execute(params![connection, provider_id, command, ms(exchange.at)])?;
    }
    if settlement.state != CommandState::Waiting {
        // The next of this key need not wait for the time it was put off to.
        db.prepare_cached(
            "UPDATE command SET next_at = due_at WHERE id = (SELECT id FROM command WHERE ordering_key = ?1 AND state <= 1
             ORDER BY due_at, id LIMIT 1) AND state = 0 AND attempts = 0",
        )?
        .execute([ordering_key])?;
    }
    Ok(true)
}

fn put_exchange(db: &Connection, exchange: &Exchange, command: Option<Id>, attempt: i64, retry_at: Option<i64>) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO exchange (id, command, at, merchant, connection, provider, endpoint, request, response, error, duration_ms,
         attempt, next_retry_at, trace) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    )?
    .execute(params![
        exchange.id.as_bytes(),
        command.map(|command| *command.as_bytes()),
        ms(exchange.at),
        exchange.merchant.as_bytes(),
        exchange.connection.as_bytes(),
        exchange.provider,
        exchange.endpoint,
        exchange.request,
        exchange.response,
        exchange.error,
        exchange.duration_ms,
        attempt,
        retry_at,
        exchange.trace,
    ])?;
    Ok(())
}

const COMMAND: &str =
    "id, merchant, connection, flow, event, job, due_at, latest_at, ordering_key, subject, attempts, lease, trace";

fn read_command(row: &Row<'_>) -> Result<Command> {
    Ok(Command {
        id: id(Kind::Command, 0, row)?,
        merchant: id(Kind::Merchant, 1, row)?,
        connection: id(Kind::Connection, 2, row)?,
        flow: maybe_id(Kind::Flow, 3, row)?,
        event: maybe_id(Kind::Event, 4, row)?,
        job: doc(5, row)?,
        due_at: time(6, row)?,
        latest_at: row.get::<_, Option<i64>>(7)?.and_then(|at| Timestamp::from_millisecond(at).ok()),
        ordering_key: String::from_utf8_lossy(row.get_ref(8)?.as_blob()?).into_owned(),
        subject: row.get(9)?,
        attempts: row.get(10)?,
        contact: Contact::default(),
        lease: row.get(11)?,
        trace: row.get(12)?,
    })
}

/// Takes due commands of each connection, oldest first. A command whose key has an earlier one unfinished is put off.
pub(super) fn lease(
    db: &Connection,
    now: Timestamp,
    shares: &[(Id, usize)],
    limit: usize,
    lease_ms: i64,
) -> Result<Vec<Command>> {
    let mut leased = Vec::new();
    for (connection, share) in shares {
        let due: Vec<([u8; 16], Vec<u8>)> = db
            .prepare_cached(
                "SELECT id, ordering_key FROM command INDEXED BY command_due
                 WHERE state = 0 AND connection = ?1 AND next_at <= ?2 ORDER BY next_at, id LIMIT ?3",
            )?
            .query_map(params![connection.as_bytes(), ms(now), (*share).min(limit - leased.len()) as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?
            .collect::<Result<_>>()?;
        for (command, key) in due {
            if let Some(command) = lease_one(db, now, command, &key, lease_ms)? {
                leased.push(command);
            }
        }
    }
    Ok(leased)
}

fn lease_one(db: &Connection, now: Timestamp, command: [u8; 16], key: &[u8], lease_ms: i64) -> Result<Option<Command>> {
    let (first, next_at): ([u8; 16], i64) = db
        .prepare_cached(
            "SELECT id, next_at FROM command INDEXED BY command_order WHERE ordering_key = ?1 AND state <= 1 ORDER BY due_at, id LIMIT 1",
        )?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if first != command {
        // Behind one that is being sent now: look again soon; its settling calls this one earlier.
        let later = next_at.max(ms(now) + 1_000);
        db.prepare_cached("UPDATE command SET next_at = ?2 WHERE id = ?1")?.execute(params![command, later])?;
        return Ok(None);
    }
    let mut command = db
        .prepare_cached(&format!(
            "UPDATE command SET state = 1, lease = lease + 1, lease_until = ?2 WHERE id = ?1 RETURNING {COMMAND}"
        ))?
        .query_row(params![command, ms(now) + lease_ms], read_command)?;
    if let Job::Send { phone, .. } = &command.job {
        command.contact = setup::contact(db, command.merchant, phone)?;
    }
    Ok(Some(command))
}

pub(super) fn recover(db: &Connection, now: Timestamp) -> Result<(u64, u64)> {
    let again = db.execute("UPDATE command SET state = 0, next_at = ?1 WHERE state = 1 AND repeatable", [ms(now)])?;
    let unknown = db.execute(
        "UPDATE command SET state = 4, reason = 'the hub stopped while this was being sent: what the provider did is not known' WHERE state = 1",
        [],
    )?;
    Ok((again as u64, unknown as u64))
}

pub(super) fn next_due(db: &Connection, connections: &[Id]) -> Result<Option<Timestamp>> {
    let mut next = None;
    for connection in connections {
        let due: Option<i64> = db
            .prepare_cached("SELECT min(next_at) FROM command INDEXED BY command_due WHERE state = 0 AND connection = ?1")?
            .query_row([connection.as_bytes()], |row| row.get(0))?;
        next = match (next, due) {
            (Some(next), Some(due)) => Some(std::cmp::min(next, due)),
            (next, due) => next.or(due),
        };
    }
    Ok(next.and_then(|at| Timestamp::from_millisecond(at).ok()))
}

pub(super) fn undelivered(
    db: &Connection,
    connection: Id,
    after: Timestamp,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<String>> {
    db.prepare_cached(
        "SELECT provider_id FROM sent INDEXED BY sent_open WHERE connection = ?1 AND state = 0 AND at >= ?2 AND at < ?3
         ORDER BY at LIMIT ?4",
    )?
    .query_map(params![connection.as_bytes(), ms(after), ms(before), limit as i64], |row| row.get(0))?
    .collect()
}
