//! Changes: what the loops commit.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Event, Id, Timestamp, id::Kind, signature::fingerprint};

use super::{
    chain, consent, events, failed, heard, journal, lost, loyalty, ms, notices, outbox, publication, reference, review, setup,
    tally::Tally,
};
use crate::numbers::{command_number, command_tally, entry_number, entry_tally, subject};
use crate::ready::{Documents, Ready};
use crate::{
    Applied, Change, CommandState, EntryState, Exchange, Mark, NewCommand, NewEvent, Notice, Once, Part, PhoneHash, Settlement,
    Step, StoreError, Verdict,
};

pub(super) fn apply(
    db: &Connection,
    ready: &Ready,
    phones: Option<&PhoneHash>,
    tally: &mut Tally,
) -> std::result::Result<Applied, StoreError> {
    let change = &ready.change;
    // What can conflict goes first: nothing has been written when it does.
    if let Some(points) = &change.loyalty
        && !loyalty::may_change(db, points, change.now.map_or(0, ms)).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    let settled = match &change.settlement {
        Some(settlement) => Some(settle(db, settlement, change, tally).map_err(failed)?.ok_or(StoreError::Conflict)?),
        None => None,
    };
    if let Some(verdict) = &change.verdict
        && !judge(db, verdict, tally).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    if let Some(follow) = &change.follow
        && !chain::go_on(db, follow).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    if let Some(mark) = &change.mark
        && !mark.again
        && db
            .prepare_cached("DELETE FROM unread WHERE entry = ?1")
            .and_then(|mut delete| delete.execute([mark.entry.ordinal()]))
            .map_err(failed)?
            == 0
    {
        return Err(StoreError::Conflict);
    }
    if let Some(cursor) = &change.cursor
        && setup::one::<String>(db, "SELECT value FROM cursor WHERE connection = ?1", cursor.connection).map_err(failed)?
            != cursor.was
    {
        return Err(StoreError::Conflict);
    }
    if let Some(once) = &change.once
        && !put_once(db, once, change.now.map_or(0, ms)).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    if let Some(told) = &change.told
        && !notices::tell(db, told).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    if let Some(left) = &change.left_review
        && !review::leave(db, left).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    if let Some(reply) = &change.review_reply
        && !review::reply(db, reply).map_err(failed)?
    {
        return Err(StoreError::Conflict);
    }
    write(db, ready, settled.unwrap_or_default(), phones, tally).map_err(failed)
}

/// What a settlement came to.
#[derive(Default)]
struct Settled {
    /// Why the command was called off while it was being sent.
    called_off: Option<String>,
    read_again: u32,
}

fn write(db: &Connection, ready: &Ready, settled: Settled, phones: Option<&PhoneHash>, tally: &mut Tally) -> Result<Applied> {
    let change = &ready.change;
    let mut applied = Applied { read_again: settled.read_again, ..Applied::default() };
    for row in &ready.entries {
        journal::insert(db, row, tally)?;
    }
    for (event, documents) in change.events.iter().zip(&ready.events) {
        add_event(db, event, documents, &mut applied, tally)?;
    }
    for (command, job) in change.commands.iter().zip(&ready.jobs) {
        let entry = match (command.command.event, &change.mark) {
            (Some(event), _) => journal::entry_of(db, event)?,
            // What is read makes a question without an event.
            (None, mark) => mark.as_ref().map(|mark| mark.entry.ordinal()),
        };
        let command = chain::queued(command, change.step.as_ref(), settled.called_off.as_deref());
        outbox::queue(db, &command, job, entry, tally)?;
        applied.queued += 1;
    }
    if let (Some(event), Some(documents)) = (&change.resolved, &ready.resolved) {
        resolve(db, event, documents, &mut applied, tally)?;
    }
    if let Some(mark) = &change.mark {
        mark_entry(db, mark, &applied, change, tally)?;
    }
    for heard in &change.heard {
        heard::put(db, heard)?;
    }
    for (connection, news) in &change.statuses {
        let now = change.now.map_or(0, ms);
        lost::recognise(db, *connection, news, now, tally)?;
        chain::news(db, *connection, news, now, phones, tally)?;
    }
    applied.read_again += chain::keep_early(db, &change.early, change.now.map_or(0, ms), tally)?;
    if let Some(cursor) = &change.cursor {
        db.prepare_cached("INSERT INTO cursor VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?
            .execute(params![cursor.connection.as_bytes(), cursor.next])?;
    }
    if let Some(connection) = change.ends_login.filter(|_| applied.new_events > 0) {
        db.prepare_cached("DELETE FROM session WHERE connection = ?1")?.execute([connection.as_bytes()])?;
    }
    let now = change.now.map_or(0, ms);
    for word in change.opt_out_words().iter().chain(&change.words) {
        consent::put(db, word, phones)?;
    }
    for link in &change.links {
        review::add(db, link)?;
    }
    for (code, news) in &change.link_news {
        review::hear(db, *code, news)?;
    }
    if let Some(points) = &change.loyalty {
        loyalty::write(db, points, &ready.points, now)?;
    }
    for notice in &change.notices {
        put_notice(db, notice, now)?;
    }
    for exchange in &change.exchanges {
        put_exchange(db, exchange, None, 1, None)?;
    }
    Ok(applied)
}

/// Whether nobody has used the key, or so long ago that it is free again.
fn put_once(db: &Connection, once: &Once, now: i64) -> Result<bool> {
    db.prepare_cached("DELETE FROM once WHERE until <= ?1")?.execute([now])?;
    let put = db.prepare_cached("INSERT OR IGNORE INTO once VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        once.key,
        once.body,
        once.command.as_bytes(),
        ms(once.until)
    ])?;
    Ok(put == 1)
}

pub(super) fn once(db: &Connection, key: [u8; 16]) -> Result<Option<Once>> {
    db.prepare_cached("SELECT body, command, until FROM once WHERE key = ?1")?
        .query_row([key], |row| {
            Ok(Once { key, body: row.get(0)?, command: super::id(Kind::Command, 1, row)?, until: super::time(2, row)? })
        })
        .optional()
}

fn put_notice(db: &Connection, notice: &Notice, now: i64) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO notice VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?.execute(params![
        notice.merchant.as_bytes(),
        notice.connection.as_bytes(),
        notice.kind,
        now / 86_400_000,
        notice.text
    ])?;
    Ok(())
}

fn add_event(db: &Connection, new: &NewEvent, documents: &Documents, applied: &mut Applied, tally: &mut Tally) -> Result<()> {
    let event = &new.event;
    // Repeats too are found by whom they are about.
    for value in event.refs.iter().chain(event.phone.as_ref().map(|phone| &phone.e164)) {
        reference::add(db, value, event.entry.ordinal())?;
    }
    let key = fingerprint([event.connection.as_bytes().as_slice(), event.key.as_bytes()]);
    if db.prepare_cached("INSERT OR IGNORE INTO seen VALUES (?1)")?.execute([key])? == 0 {
        applied.duplicates += 1;
        return Ok(());
    }
    applied.new_events += 1;
    let number = (!new.pending).then(events::next_number);
    db.prepare_cached(
        "INSERT INTO event (ordinal, entry, pending, doc, merchant, connection, kind, number) VALUES (?1,?2,?3,?4,?5,?6,?7,?8)",
    )?
    .execute(params![
        event.id.ordinal(),
        event.entry.ordinal(),
        new.pending,
        documents.event,
        event.merchant.as_bytes(),
        event.connection.as_bytes(),
        event.kind,
        number
    ])?;
    // With a command its subject is put among the references anyway.
    let same = |next: &NewCommand| next.command.source == event.connection && next.subject == event.subject;
    if !new.commands.iter().any(same) {
        reference::add(db, &subject(event.connection, &event.subject), event.entry.ordinal())?;
    }
    if !new.pending {
        publication::add(db, event.id)?;
    }
    follow(db, new, documents, applied, tally)
}

fn follow(db: &Connection, new: &NewEvent, documents: &Documents, applied: &mut Applied, tally: &mut Tally) -> Result<()> {
    if let Some(reason) = &new.call_off {
        outbox::call_off(db, &new.event, reason, tally)?;
    }
    for (command, job) in new.commands.iter().zip(&documents.jobs) {
        outbox::queue(db, command, job, Some(new.event.entry.ordinal()), tally)?;
        applied.queued += 1;
    }
    Ok(())
}

/// The event of a look-up, with what was found: its document is replaced and its commands follow, unless the event was called
/// off meanwhile.
fn resolve(db: &Connection, new: &NewEvent, documents: &Documents, applied: &mut Applied, tally: &mut Tally) -> Result<()> {
    let Event { id, entry, phone, .. } = &new.event;
    let open = db.prepare_cached("UPDATE event SET doc = ?2, pending = ?3 WHERE ordinal = ?1 AND pending")?.execute(params![
        id.ordinal(),
        documents.event,
        new.pending
    ])?;
    if open == 0 {
        return Ok(());
    }
    if let Some(phone) = phone {
        reference::add(db, &phone.e164, entry.ordinal())?;
    }
    if !new.pending {
        events::tell(db, *id)?;
    }
    follow(db, new, documents, applied, tally)
}

fn mark_entry(db: &Connection, mark: &Mark, applied: &Applied, change: &Change, tally: &mut Tally) -> Result<()> {
    let entry = mark.entry.ordinal();
    let before = if mark.again { journal::state_of(db, entry)? } else { EntryState::Unread };
    let told_nothing = applied.new_events == 0 && applied.duplicates > 0 && change.statuses.is_empty();
    let state = match (mark.state, before) {
        // Read again, and all of it was known: it stays what it was.
        (EntryState::Read, EntryState::Read | EntryState::Duplicate) if told_nothing => before,
        (EntryState::Read, _) if told_nothing => EntryState::Duplicate,
        (state, _) => state,
    };
    if mark.again {
        db.prepare_cached("DELETE FROM unread WHERE entry = ?1")?.execute([entry])?;
        db.prepare_cached("DELETE FROM outcome WHERE entry = ?1")?.execute([entry])?;
    }
    if state != EntryState::Read || !mark.notes.is_empty() {
        let notes = (!mark.notes.is_empty()).then(|| mark.notes.join("\n"));
        db.prepare_cached("INSERT INTO outcome VALUES (?1, ?2, ?3)")?.execute(params![entry, entry_number(state), notes])?;
    }
    tally.shift(entry_tally(before), entry_tally(state));
    for value in &mark.refs {
        reference::add(db, value, entry)?;
    }
    Ok(())
}

/// What came of it, if the lease still held.
fn settle(db: &Connection, settlement: &Settlement, change: &Change, tally: &mut Tally) -> Result<Option<Settled>> {
    let step = change.step.as_ref();
    let command = settlement.command.ordinal();
    let held: Option<(Option<String>, Option<String>)> = db
        .prepare_cached("DELETE FROM sending WHERE command = ?1 AND lease = ?2 RETURNING called_off, told")?
        .query_row([command, settlement.lease], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((called_off, told)) = held else { return Ok(None) };
    let mut settled = Settled { called_off, read_again: 0 };
    let settlement = settlement.after(settled.called_off.clone(), told);
    let (attempts, entry, order_key): (i64, Option<i64>, i64) = db
        .prepare_cached("SELECT attempts, entry, order_key FROM command WHERE ordinal = ?1")?
        .query_row([command], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let attempts = attempts + i64::from(settlement.counts);
    let retry_at = settlement.retry_at.map(ms);
    db.prepare_cached(
        "UPDATE command SET state = ?2, next_at = coalesce(?3, next_at), reason = ?4, provider_id = coalesce(?5, provider_id),
         attempts = ?6 WHERE ordinal = ?1",
    )?
    .execute(params![
        command,
        command_number(settlement.state),
        retry_at,
        settlement.reason,
        settlement.provider_id,
        attempts
    ])?;
    for exchange in &settlement.exchanges {
        put_exchange(db, exchange, Some(settlement.command), attempts, retry_at)?;
    }
    if let Some(entry) = entry {
        for value in &settlement.refs {
            reference::add(db, value, entry)?;
        }
    }
    if settlement.frees_slot {
        db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    }
    if let (CommandState::Done, Some(provider_id), Some(exchange)) =
        (settlement.state, &settlement.provider_id, settlement.exchanges.last())
    {
        let way_out = (exchange.connection, exchange.provider.as_str());
        settled.read_again = chain::sent(db, way_out, provider_id, command, exchange.at, step, tally)?;
    }
    for part in &change.parts {
        settled.read_again += end_part(db, part, settlement.exchanges.last(), step, tally)?;
    }
    if let Some(step) = step {
        chain::follow(db, settlement.command, settlement.state, step, settled.called_off.as_deref())?;
    }
    if matches!(settlement.state, CommandState::Dead | CommandState::Unknown | CommandState::Held) {
        events::tell_unresolved(db, command)?;
    }
    if settlement.state == CommandState::Waiting && attempts == 0 {
        outbox::wait_again(db, command, order_key)?;
    }
    if settlement.state != CommandState::Waiting {
        outbox::left(db, order_key, settlement.state, settlement.reason.as_deref(), tally)?;
    }
    Ok(Some(settled))
}

/// A message that ends with its batch; it waits behind it, and steps forward no more. Gives how many entries are unread again.
fn end_part(db: &Connection, part: &Part, call: Option<&Exchange>, step: Option<&Step>, tally: &mut Tally) -> Result<u32> {
    let command = part.command.ordinal();
    let ended = db
        .prepare_cached("UPDATE command SET state = ?2, reason = ?3, provider_id = ?4 WHERE ordinal = ?1 AND state = 0")?
        .execute(params![command, command_number(part.state), part.reason, part.provider_id])?;
    if ended == 0 {
        return Ok(0);
    }
    tally.shift(command_tally(CommandState::Waiting), command_tally(part.state));
    match (&part.provider_id, call) {
        (Some(provider_id), Some(call)) if part.state == CommandState::Done => {
            chain::sent(db, (call.connection, call.provider.as_str()), provider_id, command, call.at, step, tally)
        }
        _ => Ok(0),
    }
}

/// Keeps that a provider took a message.
fn put_sent(db: &Connection, connection: Id, provider_id: &str, command: i64, at: i64) -> Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO sent (connection, provider_id, command, at, state) VALUES (?1, ?2, ?3, ?4, 0)")?
        .execute(params![connection.as_bytes(), provider_id, command, at])?;
    Ok(())
}

/// Whether the command's outcome was unknown, and the message is no other command's.
fn judge(db: &Connection, verdict: &Verdict, tally: &mut Tally) -> Result<bool> {
    let command = verdict.command.ordinal();
    let connection = verdict.exchange.connection;
    if let Some(provider_id) = &verdict.provider_id
        && db
            .prepare_cached("SELECT 1 FROM sent WHERE connection = ?1 AND provider_id = ?2")?
            .exists(params![connection.as_bytes(), provider_id])?
    {
        return Ok(false);
    }
    let attempts: Option<i64> = db
        .prepare_cached(
            "UPDATE command SET state = ?2, reason = ?3, provider_id = coalesce(?4, provider_id) WHERE ordinal = ?1 AND state = 4
             RETURNING attempts",
        )?
        .query_row(params![command, command_number(verdict.state), verdict.reason, verdict.provider_id], |row| row.get(0))
        .optional()?;
    let Some(attempts) = attempts else { return Ok(false) };
    if let Some(provider_id) = &verdict.provider_id {
        put_sent(db, connection, provider_id, command, ms(verdict.exchange.at))?;
    }
    tally.shift(command_tally(CommandState::Unknown), command_tally(verdict.state));
    if verdict.state == CommandState::Dead {
        db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    }
    put_exchange(db, &verdict.exchange, Some(verdict.command), attempts, None)?;
    Ok(true)
}

fn put_exchange(db: &Connection, exchange: &Exchange, command: Option<Id>, attempt: i64, retry_at: Option<i64>) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO exchange (ordinal, id, command, at, merchant, connection, provider, endpoint, request, response, error,
         duration_ms, attempt, next_retry_at, trace) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
    )?
    .execute(params![
        exchange.id.ordinal(),
        exchange.id.as_bytes(),
        command.map(|command| command.ordinal()),
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

/// The slots that a command takes; of one that is taken, why the command is held back.
pub(super) fn take_slots<'a>(db: &Connection, slot: &'a crate::Slot, command: i64, due_at: i64) -> Result<Option<&'a str>> {
    for slot in slot.all() {
        let mut taken = false;
        for key in slot.keys() {
            let took = db
                .prepare_cached(
                    "INSERT INTO slot (key, until, command) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET until = excluded.until, command = excluded.command WHERE slot.until <= ?4",
                )?
                .execute(params![key, ms(slot.until), command, due_at])?;
            taken = took == 1;
            if taken {
                break;
            }
        }
        if !taken {
            db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
            return Ok(Some(&slot.reason));
        }
    }
    Ok(None)
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
