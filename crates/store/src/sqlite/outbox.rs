//! The outbox: what waits, in which order, and what is being sent.
//!
//! Of the commands of one ordering key only the first stands in the index of what is due; the others are `behind` it, and
//! the next one steps forward when it leaves. So a key with many commands costs no more than one with few.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Event, Id, Job, Timestamp, id::Kind};

use super::{doc, events, id, lost, maybe_id, ms, reference, setup, tally::Tally, work};
use crate::{
    Command, CommandState, Contact, Leased, NewCommand, PhoneHash,
    chain::stopped,
    numbers::{command_number, command_state, command_tally, key, subject},
};

pub(super) fn queue(db: &Connection, new: &NewCommand, job: &str, entry: Option<i64>, tally: &mut Tally) -> Result<()> {
    let command = &new.command;
    let (ordinal, due_at) = (command.id.ordinal(), ms(command.due_at));
    let mut held = new.held.clone();
    if let (None, Some(slot)) = (&held, &new.slot)
        && let Some(reason) = work::take_slots(db, slot, ordinal, due_at)?
    {
        held = Some(reason.to_owned());
    }
    let order_key = key(&new.ordering_key);
    let behind = held.is_none() && !step_in(db, order_key, due_at)?;
    let state = if held.is_some() { CommandState::Held } else { CommandState::Waiting };
    db.prepare_cached(
        "INSERT INTO command (ordinal, id, merchant, connection, source, flow, event, entry, job, repeatable, state, behind, due_at,
         next_at, latest_at, order_key, subject_key, reason, trace)
         VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?13,?14,?15,?16,?17,?18)",
    )?
    .execute(params![
        ordinal,
        command.id.as_bytes(),
        command.merchant.as_bytes(),
        command.connection.as_bytes(),
        command.source.as_bytes(),
        command.flow.map(|flow| *flow.as_bytes()),
        command.event.map(|event| *event.as_bytes()),
        entry,
        job,
        command.job.repeatable(),
        command_number(state),
        behind,
        due_at,
        command.latest_at.map(ms),
        order_key,
        key(&subject(command.source, &new.subject)),
        held,
        command.trace,
    ])?;
    if let Some(entry) = entry {
        reference::add(db, &subject(command.source, &new.subject), entry)?;
    }
    tally.add(command_tally(state), 1);
    if let Some(reason) = held {
        tally.add(format!("held/{reason}"), 1);
    }
    Ok(())
}

/// Whether a new command of this key goes first: nothing waits there, or what does is due later and has not been tried.
fn step_in(db: &Connection, order_key: i64, due_at: i64) -> Result<bool> {
    let first: Option<(i64, i64, i64)> = db
        .prepare_cached(
            "SELECT ordinal, due_at, attempts FROM command INDEXED BY command_order WHERE order_key = ?1 AND state = 0
             AND behind = 0 LIMIT 1",
        )?
        .query_row([order_key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((first, first_due_at, attempts)) = first else { return Ok(true) };
    let goes_before = due_at < first_due_at && attempts == 0 && !is_being_sent(db, first)?;
    if goes_before {
        db.prepare_cached("UPDATE command SET behind = 1 WHERE ordinal = ?1")?.execute([first])?;
    }
    Ok(goes_before)
}

/// A command waits again that was being sent and was not tried in the end: nobody was to step before it meanwhile.
pub(super) fn wait_again(db: &Connection, command: i64, order_key: i64) -> Result<()> {
    let next: Option<i64> = db
        .prepare_cached(
            "SELECT ordinal FROM command INDEXED BY command_order WHERE order_key = ?1 AND state = 0
             AND due_at < (SELECT due_at FROM command WHERE ordinal = ?2) ORDER BY due_at, ordinal LIMIT 1",
        )?
        .query_row([order_key, command], |row| row.get(0))
        .optional()?;
    if let Some(next) = next {
        db.prepare_cached("UPDATE command SET behind = 1 WHERE ordinal = ?1")?.execute([command])?;
        db.prepare_cached("UPDATE command SET behind = 0, next_at = due_at WHERE ordinal = ?1")?.execute([next])?;
    }
    Ok(())
}

fn has_first(db: &Connection, order_key: i64) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM command INDEXED BY command_order WHERE order_key = ?1 AND state = 0 AND behind = 0")?
        .exists([order_key])
}

fn is_being_sent(db: &Connection, command: i64) -> Result<bool> {
    db.prepare_cached("SELECT 1 FROM sending WHERE command = ?1")?.exists([command])
}

/// A command waits no more: the next of its key steps forward.
pub(super) fn left(db: &Connection, order_key: i64, state: CommandState, reason: Option<&str>, tally: &mut Tally) -> Result<()> {
    let next: Option<(i64, bool)> = db
        .prepare_cached(
            "SELECT ordinal, behind FROM command INDEXED BY command_order WHERE order_key = ?1 AND state = 0
             ORDER BY due_at, ordinal LIMIT 1",
        )?
        .query_row([order_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // If somebody is first already, it was one of the others that left.
    if let Some((next, true)) = next
        && !has_first(db, order_key)?
    {
        db.prepare_cached("UPDATE command SET behind = 0, next_at = due_at WHERE ordinal = ?1")?.execute([next])?;
    }
    tally.shift(command_tally(CommandState::Waiting), command_tally(state));
    if state == CommandState::Held {
        tally.add(format!("held/{}", reason.unwrap_or_default()), 1);
    }
    Ok(())
}

/// What waits for an event's subject is held back, and gives back its slot; what is dead too, so that no replay takes it up.
/// What is being sent cannot be called off, only its being tried again; of a look-up nothing more follows from its event.
pub(super) fn call_off(db: &Connection, event: &Event, reason: &str, tally: &mut Tally) -> Result<()> {
    // An entry may tell of several subjects: those of its commands are looked at too.
    let found: Vec<(i64, i64, Option<Id>, bool, u8)> = db
        .prepare_cached(&format!(
            "SELECT ordinal, order_key, event, EXISTS (SELECT 1 FROM sending WHERE command = ordinal), state
             FROM command INDEXED BY command_entry WHERE entry IN ({FOUND}) AND subject_key = ?1 AND state IN (0, 3)",
            FOUND = reference::FOUND.replace('?', "?1")
        ))?
        .query_map([key(&subject(event.connection, &event.subject))], |row| {
            Ok((row.get(0)?, row.get(1)?, maybe_id(Kind::Event, 2, row)?, row.get(3)?, row.get(4)?))
        })?
        .collect::<Result<_>>()?;
    for (command, order_key, led_to_it, being_sent, before) in found {
        if let Some(event) = led_to_it {
            events::close(db, event)?;
        }
        if being_sent {
            db.prepare_cached("UPDATE sending SET called_off = ?2 WHERE command = ?1")?.execute(params![command, reason])?;
        } else {
            hold_back(db, command, order_key, command_state(before), reason, tally)?;
        }
    }
    Ok(())
}

/// Holds a command back that waits or is dead, and gives back its slot.
pub(super) fn hold_back(
    db: &Connection,
    command: i64,
    order_key: i64,
    before: CommandState,
    reason: &str,
    tally: &mut Tally,
) -> Result<()> {
    db.prepare_cached("UPDATE command SET state = 5, reason = ?2 WHERE ordinal = ?1")?.execute(params![command, reason])?;
    db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    if before == CommandState::Waiting {
        return left(db, order_key, CommandState::Held, Some(reason), tally);
    }
    tally.shift(command_tally(before), command_tally(CommandState::Held));
    tally.add(format!("held/{reason}"), 1);
    Ok(())
}

/// Takes due commands of each connection, oldest first.
pub(super) fn lease(
    db: &Connection,
    now: Timestamp,
    shares: &[(Id, usize)],
    limit: usize,
    lease_ms: i64,
    phones: Option<&PhoneHash>,
    tally: &mut Tally,
) -> Result<Leased> {
    let mut leased = Leased::default();
    for (connection, share) in shares {
        let room = (*share).min(limit - leased.commands.len());
        let due: Vec<(i64, i64, Result<Command>)> = db
            .prepare_cached(
                "SELECT id, merchant, connection, source, flow, event, job, due_at, latest_at, attempts, trace, ordinal, order_key
                 FROM command INDEXED BY command_due WHERE state = 0 AND behind = 0 AND connection = ?1 AND next_at <= ?2
                 AND ordinal NOT IN (SELECT command FROM sending) ORDER BY next_at, ordinal LIMIT ?3",
            )?
            .query_map(params![connection.as_bytes(), ms(now), room as i64], |row| {
                Ok((row.get(11)?, row.get(12)?, read(row)))
            })?
            .collect::<Result<_>>()?;
        let all = due.len() < room;
        for (ordinal, order_key, command) in due {
            let mut command = match command {
                Ok(command) => command,
                Err(error) => {
                    // It must not keep the others from being sent.
                    let why = format!("the stored row cannot be decoded: {error}");
                    db.execute("UPDATE command SET state = 3, reason = ?2 WHERE ordinal = ?1", params![ordinal, why])?;
                    left(db, order_key, CommandState::Dead, Some(&why), tally)?;
                    continue;
                }
            };
            command.lease = Id::new(Kind::Attempt).ordinal();
            mark_sending(db, command.id, command.lease, ms(now) + lease_ms)?;
            if let Some(to) = command.job.address() {
                command.contact = setup::contact(db, command.merchant, &to.key(), phones)?;
            }
            leased.commands.push(command);
        }
        let next_at = if all { next_of(db, *connection)? } else { Some(now) };
        leased.next_at = soonest(leased.next_at, next_at);
    }
    Ok(leased)
}

/// From now on it is being sent.
pub(super) fn mark_sending(db: &Connection, command: Id, lease: i64, until: i64) -> Result<()> {
    db.prepare_cached("INSERT INTO sending (command, lease, until) VALUES (?1, ?2, ?3)")?
        .execute([command.ordinal(), lease, until])
        .map(drop)
}

fn read(row: &Row<'_>) -> Result<Command> {
    let job: Job = doc(6, row)?;
    Ok(Command {
        id: id(Kind::Command, 0, row)?,
        merchant: id(Kind::Merchant, 1, row)?,
        connection: id(job.way_out(), 2, row)?,
        source: id(Kind::Connection, 3, row)?,
        flow: maybe_id(Kind::Flow, 4, row)?,
        event: maybe_id(Kind::Event, 5, row)?,
        job,
        due_at: super::time(7, row)?,
        latest_at: row.get::<_, Option<i64>>(8)?.and_then(|at| Timestamp::from_millisecond(at).ok()),
        attempts: row.get(9)?,
        trace: row.get(10)?,
        contact: Contact::default(),
        lease: 0,
    })
}

pub(super) fn soonest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// When the next command of a connection falls due that is not being sent already.
pub(super) fn next_of(db: &Connection, connection: Id) -> Result<Option<Timestamp>> {
    db.prepare_cached(
        "SELECT next_at FROM command INDEXED BY command_due WHERE state = 0 AND behind = 0 AND connection = ?1
         AND ordinal NOT IN (SELECT command FROM sending) ORDER BY next_at LIMIT 1",
    )?
    .query_row([connection.as_bytes()], |row| super::time(0, row))
    .optional()
}

/// Leases of an earlier process are over: it held the data folder's lock, and is dead.
pub(super) fn end_leases(db: &Connection) -> Result<()> {
    db.execute("UPDATE sending SET until = 0", []).map(drop)
}

/// Takes back what has been *sending* for longer than its lease.
pub(super) fn recover(db: &Connection, now: Timestamp, tally: &mut Tally) -> Result<(u64, u64)> {
    type LeftOver = (i64, bool, i64, Option<String>, Option<String>, [u8; 16], u32);
    let left_over: Vec<LeftOver> = db
        .prepare_cached(
            "SELECT c.ordinal, c.repeatable, c.order_key, called_off, told, c.connection, c.attempts FROM sending CROSS JOIN command c ON c.ordinal = command
             WHERE until <= ?1 ORDER BY c.ordinal",
        )?
        .query_map([ms(now)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?))
        })?
        .collect::<Result<_>>()?;
    db.execute("DELETE FROM sending WHERE until <= ?1", [ms(now)])?;
    let (mut again, mut unknown) = (0, 0);
    for (command, repeatable, order_key, called_off, told, connection, attempts) in left_over {
        let (state, reason) = match (repeatable, called_off) {
            (true, None) => {
                db.execute("UPDATE command SET next_at = ?2 WHERE ordinal = ?1", [command, ms(now)])?;
                if attempts == 0 {
                    wait_again(db, command, order_key)?;
                }
                again += 1;
                continue;
            }
            (true, Some(reason)) => (CommandState::Held, reason),
            (false, called_off) => (CommandState::Unknown, stopped(called_off.is_some())),
        };
        db.execute(
            "UPDATE command SET state = ?2, reason = ?3 WHERE ordinal = ?1",
            params![command, command_number(state), reason],
        )?;
        left(db, order_key, state, Some(&reason), tally)?;
        match told.filter(|_| state == CommandState::Unknown) {
            Some(provider_id) => lost::end(db, connection, command, &provider_id, ms(now), tally)?,
            None => unknown += u64::from(state == CommandState::Unknown),
        }
    }
    Ok((again, unknown))
}
