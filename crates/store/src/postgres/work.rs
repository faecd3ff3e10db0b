//! Changes: what the loops commit, many of them in one transaction.
//!
//! Two transactions that touch the same ordering key, or the same subject, go one after another: each takes an advisory lock
//! for every key it will touch, all at once and in order, before it looks at anything. So a key has always one first command,
//! on however many nodes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use deadpool_postgres::{GenericClient, Object, Transaction};
use futures::try_join;
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use uzel_model::{Event, Id, Price, Timestamp, signature::fingerprint};

use super::{
    Core, chain, consent, events, get, heard,
    journal::{self, text},
    lanes::Fault,
    lost, loyalty, notices,
    outbox::{self, Ended, Queued},
    purge, review, uuid,
};
use crate::{
    Applied, Change, CommandState, EntryState, Exchange, Mark, NewEvent, Part, Settlement, Source, Step, StoreError, Verdict,
    chain::Purse,
    numbers::{command_number, command_tally, entry_number, entry_state, entry_tally, key, subject},
    ready::{Documents, EntryRow, Ready},
};

/// The class of our advisory locks.
const LOCKS: i32 = 0x757a_656c;
/// So many of them there are: the server's table of locks has few thousand places. Two keys may share one.
const LOCKS_MAX: i64 = 4_096;

/// Whether a change cannot be committed in one go with others: it looks at what others of the group write, or may conflict
/// after something has been written.
pub(super) fn stands_alone(ready: &Ready) -> bool {
    let change = &ready.change;
    change.resolved.is_some()
        || change.cursor.is_some()
        || change.once.is_some()
        || change.told.is_some()
        || change.verdict.is_some()
        || change.follow.is_some()
        || change.left_review.is_some()
        || change.review_reply.is_some()
        // What the desk of points did is journalled to be read; whether it may be written is known before anything is.
        || change.loyalty.is_none() && ready.entries.iter().any(|row| row.entry.source != Source::Question)
        || loyalty::stands_alone(change)
        || !change.commands.is_empty()
        || !change.parts.is_empty()
        || change.mark.as_ref().is_some_and(|mark| mark.again)
        || change.mark.is_some() && change.settlement.is_some()
        || change.events.iter().any(|event| event.call_off.is_some())
}

/// What one transaction gathers, to be written in few statements at its end.
#[derive(Default)]
pub(super) struct Gathered {
    tally: HashMap<String, i64>,
    references: BTreeSet<(i64, Uuid)>,
    /// Events that are whole, in their order, and those among them that have no place in the feed yet.
    publish: Vec<Uuid>,
    tell: Vec<Uuid>,
    queue: Vec<Queued>,
    exchanges: Vec<ExchangeRow>,
    /// What messages cost: sums and how many messages, by purse and currency.
    pub(super) spent: BTreeMap<(Purse, String), (i64, i64)>,
    /// Entries that are unread again.
    pub(super) read_again: u32,
    /// Something that waited is due at once.
    pub(super) wakes: bool,
}

/// An exchange, and whose it is.
pub(super) struct ExchangeRow {
    pub(super) exchange: Exchange,
    pub(super) command: Option<Uuid>,
    pub(super) attempt: i32,
    pub(super) retry_at: Option<Timestamp>,
}

impl Gathered {
    pub(super) fn count(&mut self, what: impl Into<String>, by: i64) {
        *self.tally.entry(what.into()).or_default() += by;
    }

    /// A row leaves one state for another.
    pub(super) fn shift(&mut self, from: &str, to: &str) {
        self.count(from, -1);
        self.count(to, 1);
    }

    pub(super) fn find_by(&mut self, text: &str, entry: Uuid) {
        self.references.insert((key(text), entry));
    }
}

/// Commits changes together; each alone may be a conflict.
pub(super) async fn commit(core: &Core, run: &[&Ready], shard: i32) -> Result<Vec<Result<Applied, StoreError>>, Fault> {
    let mut client = core.lane().await?;
    let mut locks = locks(&client, run).await?;
    loop {
        let work = client.build_transaction().start().await?;
        if run.iter().any(|ready| reopens(&ready.change)) {
            work.batch_execute(purge::REOPENING_SHARED).await?;
        }
        lock(&work, &locks).await?;
        // What is to be called off may have come since: its keys are locked as well, or all is begun again.
        let mut keys = called_off_keys(&work, run).await?;
        keys.extend(ending_keys(&work, run).await?);
        keys.extend(chain::keys(&work, run.iter().map(|ready| &ready.change)).await?);
        let more: BTreeSet<i64> = keys.difference(&locks).copied().collect();
        if more.is_empty() {
            return carry_out(core, work, run, shard).await;
        }
        work.rollback().await?;
        locks.extend(more);
    }
}

/// Whether something old may wait again: a replay, or commands that follow from an event told before.
fn reopens(change: &Change) -> bool {
    change.mark.as_ref().is_some_and(|mark| mark.again) || change.commands.iter().any(|new| new.command.event.is_some())
}

async fn carry_out(
    core: &Core,
    work: Transaction<'_>,
    run: &[&Ready],
    shard: i32,
) -> Result<Vec<Result<Applied, StoreError>>, Fault> {
    let mut outcomes: Vec<Result<Applied, StoreError>> = run.iter().map(|_| Ok(Applied::default())).collect();
    let (late, mut meanwhile) = fence(&work, run).await?;
    for place in late {
        outcomes[place] = Err(StoreError::Conflict);
    }
    if let (&[_], Err(_)) = (run, &outcomes[0]) {
        work.rollback().await?;
        return Ok(outcomes);
    }
    let mut gathered = Gathered::default();
    if let &[Ready { change: Change { verdict: Some(verdict), .. }, .. }] = run
        && !judge(&work, verdict, &mut gathered).await?
    {
        work.rollback().await?;
        return Ok(vec![Err(StoreError::Conflict)]);
    }
    if let &[Ready { change: Change { follow: Some(follow), .. }, .. }] = run
        && !chain::go_on(&work, follow).await?
    {
        work.rollback().await?;
        return Ok(vec![Err(StoreError::Conflict)]);
    }
    let going: Vec<(usize, &Ready)> =
        run.iter().enumerate().filter(|(place, _)| outcomes[*place].is_ok()).map(|(place, ready)| (place, *ready)).collect();
    let mut settlements: Vec<(Cow<'_, Settlement>, Option<&Step>)> = Vec::new();
    let mut parts = Vec::new();
    // What follows a command that was called off is called off too.
    let mut held = HashMap::new();
    for change in going.iter().map(|(_, ready)| &ready.change) {
        let Some(settlement) = &change.settlement else { continue };
        let (called_off, told) = meanwhile.remove(&uuid(settlement.command)).unwrap_or_default();
        let step = change.step.as_ref();
        held.extend(step.and_then(|step| step.next.as_ref()).and_then(|next| Some((next.command, called_off.clone()?))));
        settlements.push((settlement.after(called_off, told), step));
        let call = settlement.exchanges.last();
        parts.extend(change.parts.iter().filter_map(|part| Some((part, call?, step))));
    }
    if !settlements.is_empty() {
        settle(&work, &settlements, &parts, &held, &mut gathered).await?;
    }
    let mut entries: Vec<&EntryRow> = Vec::new();
    for (_, ready) in &going {
        entries.extend(&ready.entries);
    }
    // What this node is to read goes to its reader in memory.
    let bytes = entries.iter().map(|row| row.entry.request.body.len()).sum();
    let is_ours = core.handover.has_room(entries.len(), bytes);
    let append = async {
        if entries.is_empty() {
            return Ok(());
        }
        let reading_lease = is_ours.then_some(core.options.reading_lease);
        journal::append(&work, &entries, reading_lease, shard).await.map_err(Fault::from)
    };
    try_join!(append, loyalty::write(&work, &going))?;
    let mut applied: Vec<Applied> = going.iter().map(|_| Applied::default()).collect();
    add_events(&work, &going, &mut applied, &mut gathered).await?;
    for ((_, ready), applied) in going.iter().zip(&mut applied) {
        one_by_one(core, &work, ready, applied, &mut gathered).await?;
    }
    mark_read(&work, &going, &applied, &mut gathered).await?;
    for (change, applied) in going.iter().map(|(_, ready)| &ready.change).zip(&mut applied) {
        let before = gathered.read_again;
        chain::keep_early(&work, &change.early, change.now.unwrap_or(Timestamp::UNIX_EPOCH), &mut gathered).await?;
        applied.read_again += gathered.read_again - before;
    }
    let mut queued = std::mem::take(&mut gathered.queue);
    queued.iter_mut().for_each(|queued| queued.hold(&held));
    let (due, unread) = (!queued.is_empty() || gathered.wakes, gathered.read_again > 0);
    outbox::queue(&work, queued, &mut gathered).await?;
    for link in going.iter().flat_map(|(_, ready)| &ready.change.links) {
        review::add(&work, link).await?;
    }
    let told = gathered.tells();
    write_gathered(&work, gathered, shard).await?;
    work.commit().await?;
    if due {
        core.told.due();
    }
    if told {
        core.told_events();
    }
    for ((place, ready), applied) in going.into_iter().zip(applied) {
        if let Some(connection) = ready.change.ends_login.filter(|_| applied.new_events > 0) {
            core.told.login(connection);
        }
        outcomes[place] = Ok(applied);
    }
    let mut to_read = entries.into_iter().map(|row| &row.entry).filter(|entry| entry.source != Source::Question).peekable();
    let came = to_read.peek().is_some();
    if came && is_ours {
        core.handover.push(to_read.cloned());
    }
    if unread || came && !is_ours {
        core.handover.left_some();
    }
    Ok(outcomes)
}

/// The locks of all keys that these changes will touch, as far as they tell.
async fn locks(client: &Object, run: &[&Ready]) -> Result<BTreeSet<i64>, Fault> {
    let mut locks = BTreeSet::new();
    let mut ended = Vec::new();
    for ready in run {
        let change = &ready.change;
        // Also of one that waits again and was not tried: others may step before it.
        let moves = |settlement: &&Settlement| settlement.state != CommandState::Waiting || !settlement.counts;
        if let Some(settlement) = change.settlement.as_ref().filter(moves) {
            ended.push(uuid(settlement.command));
        }
        ended.extend(change.parts.iter().map(|part| uuid(part.command)));
        chain::locks(change, &mut locks);
        let events = change.events.iter().chain(&change.resolved);
        locks.extend(events.clone().map(|new| key(&subject(new.event.connection, &new.event.subject))));
        for new in events.flat_map(|new| &new.commands).chain(&change.commands) {
            locks.insert(key(&new.ordering_key));
            locks.insert(key(&subject(new.command.source, &new.subject)));
        }
    }
    if !ended.is_empty() {
        let statement = client.prepare_cached("SELECT order_key FROM waiting WHERE command = ANY($1)").await?;
        for row in client.query(&statement, &[&ended]).await? {
            locks.insert(get(&row, 0)?);
        }
    }
    Ok(locks)
}

async fn lock(work: &Transaction<'_>, keys: &BTreeSet<i64>) -> Result<(), Fault> {
    let places: BTreeSet<i32> = keys.iter().map(|key| key.rem_euclid(LOCKS_MAX) as i32).collect();
    if places.is_empty() {
        return Ok(());
    }
    let places: Vec<i32> = places.into_iter().collect();
    let statement =
        work.prepare_cached("SELECT count(pg_advisory_xact_lock($1, place)) FROM unnest($2::integer[]) AS place").await?;
    work.query(&statement, &[&LOCKS, &places]).await?;
    Ok(())
}

pub(super) async fn lock_keys(work: &Transaction<'_>, keys: impl IntoIterator<Item = i64>) -> Result<(), Fault> {
    lock(work, &keys.into_iter().collect()).await
}

/// Ordering keys of what the events of these changes call off.
async fn called_off_keys(work: &Transaction<'_>, run: &[&Ready]) -> Result<BTreeSet<i64>, Fault> {
    let events = run.iter().flat_map(|ready| ready.change.events.iter().chain(&ready.change.resolved));
    let subjects: Vec<i64> =
        events.filter(|new| new.call_off.is_some()).map(|new| key(&subject(new.event.connection, &new.event.subject))).collect();
    if subjects.is_empty() {
        return Ok(BTreeSet::new());
    }
    let statement = work.prepare_cached("SELECT order_key FROM waiting WHERE subject_key = ANY($1)").await?;
    work.query(&statement, &[&subjects]).await?.iter().map(|row| Ok(get(row, 0)?)).collect()
}

/// Ordering keys of what is to be tried again and was called off meanwhile: it ends. From here on none of it is called off.
async fn ending_keys(work: &Transaction<'_>, run: &[&Ready]) -> Result<Vec<i64>, Fault> {
    let settlements = run.iter().filter_map(|ready| ready.change.settlement.as_ref());
    let again: Vec<Uuid> =
        settlements.filter(|ended| ended.state == CommandState::Waiting).map(|ended| uuid(ended.command)).collect();
    if again.is_empty() {
        return Ok(Vec::new());
    }
    outbox::hold(work, &again).await?;
    let statement = work
        .prepare_cached(
            "SELECT w.order_key FROM sending s JOIN waiting w ON w.command = s.command
             WHERE s.command = ANY($1) AND s.called_off IS NOT NULL",
        )
        .await?;
    work.query(&statement, &[&again]).await?.iter().map(|row| Ok(get(row, 0)?)).collect()
}

/// What came of a command while it was being sent: why it was called off, and the provider's id that a status told.
type Meanwhile = (Option<String>, Option<String>);

/// Takes what only one may take. Gives the places of the changes that came too late, and what came of commands while they were
/// being sent.
async fn fence(work: &Transaction<'_>, run: &[&Ready]) -> Result<(Vec<usize>, HashMap<Uuid, Meanwhile>), Fault> {
    let (mut late, mut meanwhile) = (Vec::new(), HashMap::new());
    let settlements: Vec<(usize, &Settlement)> =
        run.iter().enumerate().filter_map(|(place, ready)| Some((place, ready.change.settlement.as_ref()?))).collect();
    if !settlements.is_empty() {
        let commands: Vec<Uuid> = settlements.iter().map(|(_, settlement)| uuid(settlement.command)).collect();
        let leases: Vec<i64> = settlements.iter().map(|(_, settlement)| settlement.lease).collect();
        outbox::hold(work, &commands).await?;
        let statement = work
            .prepare_cached(
                "DELETE FROM sending USING unnest($1::uuid[], $2::bigint[]) AS ended (command, lease)
                 WHERE sending.command = ended.command AND sending.lease = ended.lease
                 RETURNING sending.command, sending.lease, sending.called_off, sending.told",
            )
            .await?;
        let mut held = HashSet::new();
        for row in work.query(&statement, &[&commands, &leases]).await? {
            let command: Uuid = get(&row, 0)?;
            held.insert((command, get::<i64>(&row, 1)?));
            meanwhile.insert(command, (get(&row, 2)?, get(&row, 3)?));
        }
        let lost = settlements.iter().filter(|(_, ended)| !held.remove(&(uuid(ended.command), ended.lease)));
        late.extend(lost.map(|(place, _)| *place));
    }
    let marks: Vec<(usize, Uuid)> = run
        .iter()
        .enumerate()
        .filter_map(|(place, ready)| ready.change.mark.as_ref().filter(|mark| !mark.again).map(|mark| (place, uuid(mark.entry))))
        .collect();
    if !marks.is_empty() {
        let entries: Vec<Uuid> = marks.iter().map(|(_, entry)| *entry).collect();
        let statement = work.prepare_cached("DELETE FROM unread WHERE entry = ANY($1) RETURNING entry").await?;
        let mut taken = HashSet::new();
        for row in work.query(&statement, &[&entries]).await? {
            taken.insert(get::<Uuid>(&row, 0)?);
        }
        late.extend(marks.iter().filter(|(_, entry)| !taken.remove(entry)).map(|(place, _)| *place));
    }
    // Such changes stand alone.
    for (place, ready) in run.iter().enumerate() {
        let change = &ready.change;
        if !move_cursor(work, change).await?
            || !put_once(work, change).await?
            || !take_review(work, change).await?
            || !notices::tell(work, change).await?
        {
            late.push(place);
        }
    }
    late.extend(loyalty::fence(work, run).await?);
    Ok((late, meanwhile))
}

async fn move_cursor(work: &Transaction<'_>, change: &Change) -> Result<bool, Fault> {
    let Some(cursor) = &change.cursor else { return Ok(true) };
    let connection = uuid(cursor.connection);
    let moved = match &cursor.was {
        Some(was) => {
            let statement = work.prepare_cached("UPDATE cursor SET value = $2 WHERE connection = $1 AND value = $3").await?;
            work.execute(&statement, &[&connection, &text(&cursor.next), &text(was)]).await?
        }
        None => {
            let statement = work.prepare_cached("INSERT INTO cursor VALUES ($1, $2) ON CONFLICT DO NOTHING").await?;
            work.execute(&statement, &[&connection, &text(&cursor.next)]).await?
        }
    };
    Ok(moved == 1)
}

/// Whether a review, and what it was answered, stand as they were seen.
async fn take_review(work: &Transaction<'_>, change: &Change) -> Result<bool, Fault> {
    if let Some(left) = &change.left_review
        && !review::leave(work, left).await?
    {
        return Ok(false);
    }
    match &change.review_reply {
        Some(reply) => review::reply(work, reply).await,
        None => Ok(true),
    }
}

async fn put_once(work: &Transaction<'_>, change: &Change) -> Result<bool, Fault> {
    let Some(once) = &change.once else { return Ok(true) };
    let now = change.now.unwrap_or(Timestamp::UNIX_EPOCH);
    let free = work.prepare_cached("DELETE FROM once WHERE key = $1 AND until <= $2").await?;
    let (key, body) = (Uuid::from_bytes(once.key), Uuid::from_bytes(once.body));
    work.execute(&free, &[&key, &now]).await?;
    let put = work.prepare_cached("INSERT INTO once VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING").await?;
    Ok(work.execute(&put, &[&key, &body, &uuid(once.command), &once.until]).await? == 1)
}

/// Ends of calls.
async fn settle(
    work: &Transaction<'_>,
    called: &[(Cow<'_, Settlement>, Option<&Step>)],
    parts: &[(&Part, &Exchange, Option<&Step>)],
    held: &HashMap<Id, String>,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let settlements: Vec<&Settlement> = called.iter().map(|(settlement, _)| settlement.as_ref()).collect();
    let steps = called.iter().map(|(_, step)| *step);
    let commands: Vec<Uuid> = settlements.iter().map(|ended| uuid(ended.command)).collect();
    let states: Vec<i16> = settlements.iter().map(|ended| command_number(ended.state).into()).collect();
    let reasons: Vec<Option<String>> =
        settlements.iter().map(|ended| ended.reason.as_deref().map(|reason| text(reason).into_owned())).collect();
    let provider_ids: Vec<Option<String>> =
        settlements.iter().map(|ended| ended.provider_id.as_deref().map(|id| text(id).into_owned())).collect();
    let counted: Vec<i32> = settlements.iter().map(|ended| ended.counts.into()).collect();
    let retries: Vec<Option<Timestamp>> = settlements.iter().map(|ended| ended.retry_at).collect();
    let statement = work
        .prepare_cached(
            "UPDATE command c SET state = e.state, reason = e.reason, provider_id = coalesce(e.provider_id, c.provider_id),
                 attempts = c.attempts + e.counted
             FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::integer[])
                 AS e (command, state, reason, provider_id, counted)
             WHERE c.id = e.command RETURNING c.id, c.entry, c.order_key, c.subject_key, c.attempts",
        )
        .await?;
    let mut rows = HashMap::new();
    for row in work.query(&statement, &[&commands, &states, &reasons, &provider_ids, &counted]).await? {
        let facts: (Option<Uuid>, i64, i64, i32) = (get(&row, 1)?, get(&row, 2)?, get(&row, 3)?, get(&row, 4)?);
        rows.insert(get::<Uuid>(&row, 0)?, facts);
    }
    let mut ended = Vec::new();
    let (mut sent, mut freed, mut again) = (Sent::default(), Vec::new(), (Vec::new(), Vec::new(), Vec::new()));
    for (((settlement, step), command), retry_at) in settlements.iter().zip(steps).zip(&commands).zip(&retries) {
        let Some((entry, order_key, subject_key, attempts)) = rows.get(command).copied() else {
            return Err(StoreError::Failed("a command that was being sent does not exist".to_owned()).into());
        };
        for exchange in &settlement.exchanges {
            let exchange = exchange.clone();
            gathered.exchanges.push(ExchangeRow { exchange, command: Some(*command), attempt: attempts, retry_at: *retry_at });
        }
        if let Some(entry) = entry {
            settlement.refs.iter().for_each(|value| gathered.find_by(value, entry));
        }
        if settlement.frees_slot {
            freed.push(*command);
        }
        if let (CommandState::Done, Some(provider_id), Some(exchange)) =
            (settlement.state, &settlement.provider_id, settlement.exchanges.last())
        {
            sent.push(exchange, text(provider_id).into_owned(), *command, step);
        }
        if settlement.state == CommandState::Waiting {
            again.0.push(*command);
            again.1.push(*retry_at);
            again.2.push(attempts);
        } else {
            let reason = settlement.reason.clone();
            ended.push(Ended { command: *command, entry, order_key, subject_key, state: settlement.state, reason });
        }
    }
    for (part, call, step) in parts {
        ended.extend(end_part(work, part, call, *step, &mut sent).await?);
    }
    if !again.0.is_empty() {
        let statement = work
            .prepare_cached(
                "UPDATE waiting w SET next_at = coalesce(e.next_at, w.next_at), attempts = e.attempts
                 FROM unnest($1::uuid[], $2::timestamptz[], $3::integer[]) AS e (command, next_at, attempts)
                 WHERE w.command = e.command",
            )
            .await?;
        work.execute(&statement, &[&again.0, &again.1, &again.2]).await?;
        let untried: Vec<Uuid> =
            again.0.iter().zip(&again.2).filter(|(_, attempts)| **attempts == 0).map(|(command, _)| *command).collect();
        outbox::wait_again(work, &untried).await?;
    }
    if !freed.is_empty() {
        let statement = work.prepare_cached("DELETE FROM slot WHERE command = ANY($1)").await?;
        work.execute(&statement, &[&freed]).await?;
    }
    sent.write(work, gathered).await?;
    for (settlement, step) in called.iter().filter_map(|(settlement, step)| Some((settlement, (*step)?))) {
        let is_held = step.next.as_ref().is_some_and(|next| held.contains_key(&next.command));
        chain::follow(work, settlement, step, is_held).await?;
    }
    tell_unresolved(work, &ended, gathered).await?;
    outbox::leave(work, &ended, gathered).await
}

/// A message that ends with its batch; it waits behind it, and steps forward no more.
async fn end_part<'a>(
    work: &Transaction<'_>,
    part: &Part,
    call: &Exchange,
    step: Option<&'a Step>,
    sent: &mut Sent<'a>,
) -> Result<Option<Ended>, Fault> {
    let end = work
        .prepare_cached(
            "UPDATE command SET state = $2, reason = $3, provider_id = $4 WHERE id = $1 AND state = 0
             RETURNING entry, order_key, subject_key",
        )
        .await?;
    let command = uuid(part.command);
    let provider_id = part.provider_id.as_deref().map(text);
    let values: [&(dyn ToSql + Sync); 4] =
        [&command, &i16::from(command_number(part.state)), &part.reason.as_deref().map(text), &provider_id];
    let Some(row) = work.query_opt(&end, &values).await? else { return Ok(None) };
    if let Some(provider_id) = provider_id.filter(|_| part.state == CommandState::Done) {
        sent.push(call, provider_id.into_owned(), command, step);
    }
    let (entry, order_key, subject_key) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?);
    Ok(Some(Ended { command, entry, order_key, subject_key, state: part.state, reason: part.reason.clone() }))
}

/// Whether the command's outcome was unknown, and the message is no other command's; if so, it is what was found out.
async fn judge(work: &Transaction<'_>, verdict: &Verdict, gathered: &mut Gathered) -> Result<bool, Fault> {
    let (command, state) = (uuid(verdict.command), i16::from(command_number(verdict.state)));
    let end = work
        .prepare_cached(
            "UPDATE command SET state = $2, reason = $3, provider_id = coalesce($4, provider_id) WHERE id = $1 AND state = 4
             RETURNING attempts",
        )
        .await?;
    let provider_id = verdict.provider_id.as_deref().map(text);
    let Some(row) = work.query_opt(&end, &[&command, &state, &text(&verdict.reason), &provider_id]).await? else {
        return Ok(false);
    };
    if let Some(provider_id) = provider_id {
        let put = work
            .prepare_cached(
                "INSERT INTO sent (connection, provider_id, command, at, state) VALUES ($1, $2, $3, $4, 0) ON CONFLICT DO NOTHING",
            )
            .await?;
        let connection = uuid(verdict.exchange.connection);
        if work.execute(&put, &[&connection, &provider_id, &command, &verdict.exchange.at]).await? == 0 {
            return Ok(false);
        }
    }
    let list = if verdict.state == CommandState::Dead {
        "UPDATE trouble SET state = 3 WHERE command = $1"
    } else {
        "DELETE FROM trouble WHERE command = $1"
    };
    work.execute(list, &[&command]).await?;
    if verdict.state == CommandState::Dead {
        work.execute("DELETE FROM slot WHERE command = $1", &[&command]).await?;
    }
    gathered.shift(command_tally(CommandState::Unknown), command_tally(verdict.state));
    let (exchange, attempt) = (verdict.exchange.clone(), get(&row, 0)?);
    gathered.exchanges.push(ExchangeRow { exchange, command: Some(command), attempt, retry_at: None });
    Ok(true)
}

/// Messages that a provider took.
#[derive(Default)]
struct Sent<'a> {
    ids: Vec<Id>,
    connections: Vec<Uuid>,
    provider_ids: Vec<String>,
    commands: Vec<Uuid>,
    at: Vec<Timestamp>,
    channels: Vec<Option<&'static str>>,
    providers: Vec<Option<String>>,
    prices: Vec<Option<&'a Price>>,
}

impl<'a> Sent<'a> {
    fn push(&mut self, exchange: &Exchange, provider_id: String, command: Uuid, step: Option<&'a Step>) {
        self.ids.push(exchange.connection);
        self.connections.push(uuid(exchange.connection));
        self.provider_ids.push(provider_id);
        self.commands.push(command);
        self.at.push(exchange.at);
        self.channels.push(step.map(|step| step.channel.name()));
        self.providers.push(step.map(|_| exchange.provider.clone()));
        self.prices.push(step.and_then(|step| step.price.as_ref()));
    }

    async fn write(&self, work: &Transaction<'_>, gathered: &mut Gathered) -> Result<(), Fault> {
        if self.commands.is_empty() {
            return Ok(());
        }
        let statement = work
            .prepare_cached(
                "INSERT INTO sent (connection, provider_id, command, at, state, channel, provider)
                 SELECT connection, provider_id, command, at, 0, channel, provider
                 FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[])
                     AS s (connection, provider_id, command, at, channel, provider)
                 ON CONFLICT DO NOTHING RETURNING connection, provider_id",
            )
            .await?;
        let values: [&(dyn ToSql + Sync); 6] =
            [&self.connections, &self.provider_ids, &self.commands, &self.at, &self.channels, &self.providers];
        let mut put = HashSet::new();
        for row in work.query(&statement, &values).await? {
            put.insert((get::<Uuid>(&row, 0)?, get::<String>(&row, 1)?));
        }
        for ((connection, provider_id), price) in self.ids.iter().zip(&self.provider_ids).zip(&self.prices) {
            if let Some(price) = price.filter(|_| put.contains(&(uuid(*connection), provider_id.clone()))) {
                chain::spend(work, *connection, provider_id, price, gathered).await?;
            }
        }
        chain::known(work, &self.connections, &self.provider_ids, gathered).await
    }
}

/// The events whose look-ups came to nothing: they are told without what was looked for.
async fn tell_unresolved(work: &Transaction<'_>, ended: &[Ended], gathered: &mut Gathered) -> Result<(), Fault> {
    let failed: Vec<Uuid> = ended.iter().filter(|ended| ended.state != CommandState::Done).map(|ended| ended.command).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let statement = work
        .prepare_cached(
            "SELECT e.id FROM command c JOIN event e ON e.id = c.event AND e.pending WHERE c.id = ANY($1) AND c.repeatable
                 AND c.connection = c.source",
        )
        .await?;
    for row in work.query(&statement, &[&failed]).await? {
        gathered.publish(get(&row, 0)?);
    }
    Ok(())
}

/// Events that nobody has told before, with what follows from them.
async fn add_events(
    work: &Transaction<'_>,
    going: &[(usize, &Ready)],
    applied: &mut [Applied],
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let key_of = |event: &Event| Uuid::from_bytes(fingerprint([event.connection.as_bytes().as_slice(), event.key.as_bytes()]));
    // In order, so that two transactions with the same keys wait for each other and do not block each other.
    let keys: BTreeSet<Uuid> = going.iter().flat_map(|(_, ready)| &ready.change.events).map(|new| key_of(&new.event)).collect();
    if keys.is_empty() {
        return Ok(());
    }
    let keys: Vec<Uuid> = keys.into_iter().collect();
    let statement = work
        .prepare_cached("INSERT INTO seen SELECT key FROM unnest($1::uuid[]) AS key ON CONFLICT DO NOTHING RETURNING key")
        .await?;
    let mut new_keys = HashSet::new();
    for row in work.query(&statement, &[&keys]).await? {
        new_keys.insert(get::<Uuid>(&row, 0)?);
    }
    let (mut ids, mut entries, mut pending, mut docs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut merchants, mut connections, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    let mut called_off = Vec::new();
    for ((_, ready), applied) in going.iter().zip(applied) {
        for (new, documents) in ready.change.events.iter().zip(&ready.events) {
            let event = &new.event;
            // Repeats too are found by whom they are about.
            for value in event.refs.iter().chain(event.phone.as_ref().map(|phone| &phone.e164)) {
                gathered.find_by(value, uuid(event.entry));
            }
            if !new_keys.remove(&key_of(event)) {
                applied.duplicates += 1;
                continue;
            }
            applied.new_events += 1;
            ids.push(uuid(event.id));
            entries.push(uuid(event.entry));
            pending.push(new.pending);
            docs.push(documents.event.as_str());
            merchants.push(uuid(event.merchant));
            connections.push(uuid(event.connection));
            kinds.push(text(&event.kind));
            gathered.find_by(&subject(event.connection, &event.subject), uuid(event.entry));
            if !new.pending {
                gathered.publish.push(uuid(event.id));
            }
            called_off.extend(new.call_off.as_deref().map(|reason| (event, reason)));
            follow(new, documents, applied, gathered);
        }
    }
    if !ids.is_empty() {
        let sql = format!(
            "INSERT INTO event (id, entry, pending, doc, merchant, connection, kind, place)
             SELECT e.*, CASE WHEN NOT e.pending THEN {} END
             FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::text[], $5::uuid[], $6::uuid[], $7::text[])
                 AS e (id, entry, pending, doc, merchant, connection, kind)",
            events::PLACE
        );
        let statement = work.prepare_cached(&sql).await?;
        work.execute(&statement, &[&ids, &entries, &pending, &docs, &merchants, &connections, &kinds]).await?;
    }
    for (event, reason) in called_off {
        outbox::call_off(work, event, reason, gathered).await?;
    }
    Ok(())
}

fn follow(new: &NewEvent, documents: &Documents, applied: &mut Applied, gathered: &mut Gathered) {
    for (command, job) in new.commands.iter().zip(&documents.jobs) {
        gathered.queue.push(Queued::new(command, job, Some(uuid(new.event.entry))));
        applied.queued += 1;
    }
}

impl Gathered {
    /// An event of a look-up that is whole by now.
    pub(super) fn publish(&mut self, event: Uuid) {
        self.publish.push(event);
        self.tell.push(event);
    }

    /// Whether any event is whole by now.
    pub(super) fn tells(&self) -> bool {
        !self.publish.is_empty()
    }
}

/// What comes rarely, and is written for each change by itself.
async fn one_by_one(
    core: &Core,
    work: &Transaction<'_>,
    ready: &Ready,
    applied: &mut Applied,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let change = &ready.change;
    for (command, job) in change.commands.iter().zip(&ready.jobs) {
        let entry = match (command.command.event, &change.mark) {
            (Some(event), _) => entry_of(work, event).await?,
            // What is read makes a question without an event.
            (None, mark) => mark.as_ref().map(|mark| uuid(mark.entry)),
        };
        gathered.queue.push(Queued::new(command, job, entry));
        applied.queued += 1;
    }
    if let (Some(new), Some(documents)) = (&change.resolved, &ready.resolved) {
        resolve(work, new, documents, applied, gathered).await?;
    }
    heard::put(work, &change.heard).await?;
    let now = change.now.unwrap_or(Timestamp::UNIX_EPOCH);
    for (connection, news) in &change.statuses {
        lost::recognise(work, *connection, news, now, gathered).await?;
        chain::news(work, *connection, news, now, core.phones.get(), gathered).await?;
    }
    if let Some(connection) = change.ends_login.filter(|_| applied.new_events > 0) {
        let statement = work.prepare_cached("DELETE FROM session WHERE connection = $1").await?;
        work.execute(&statement, &[&uuid(connection)]).await?;
    }
    for word in change.opt_out_words().iter().chain(&change.words) {
        consent::put(work, word, core.phones.get()).await?;
    }
    for (code, news) in &change.link_news {
        review::hear(work, *code, news).await?;
    }
    for notice in &change.notices {
        let day = now.as_millisecond().div_euclid(86_400_000) as i32;
        let statement =
            work.prepare_cached("INSERT INTO notice VALUES ($1, $2, $3, $4, $5, NULL) ON CONFLICT DO NOTHING").await?;
        let (merchant, connection) = (uuid(notice.merchant), uuid(notice.connection));
        work.execute(&statement, &[&merchant, &connection, &text(&notice.kind), &day, &text(&notice.text)]).await?;
    }
    gathered.exchanges.extend(change.exchanges.iter().map(|exchange| ExchangeRow {
        exchange: exchange.clone(),
        command: None,
        attempt: 1,
        retry_at: None,
    }));
    Ok(())
}

/// The entry that an event was read from.
async fn entry_of(work: &Transaction<'_>, event: Id) -> Result<Option<Uuid>, Fault> {
    let statement = work.prepare_cached("SELECT entry FROM event WHERE id = $1").await?;
    Ok(work.query_opt(&statement, &[&uuid(event)]).await?.map(|row| get(&row, 0)).transpose()?)
}

/// The event of a look-up, with what was found: its document is replaced and its commands follow, unless the event was called
/// off meanwhile.
async fn resolve(
    work: &Transaction<'_>,
    new: &NewEvent,
    documents: &Documents,
    applied: &mut Applied,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let statement = work.prepare_cached("UPDATE event SET doc = $2, pending = $3 WHERE id = $1 AND pending").await?;
    if work.execute(&statement, &[&uuid(new.event.id), &documents.event, &new.pending]).await? == 0 {
        return Ok(());
    }
    if let Some(phone) = &new.event.phone {
        gathered.find_by(&phone.e164, uuid(new.event.entry));
    }
    if !new.pending {
        gathered.publish(uuid(new.event.id));
    }
    if let Some(reason) = &new.call_off {
        outbox::call_off(work, &new.event, reason, gathered).await?;
    }
    follow(new, documents, applied, gathered);
    Ok(())
}

/// What became of the entries that were read.
async fn mark_read(
    work: &Transaction<'_>,
    going: &[(usize, &Ready)],
    applied: &[Applied],
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let (mut entries, mut states, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for ((_, ready), applied) in going.iter().zip(applied) {
        let change = &ready.change;
        let Some(mark) = &change.mark else { continue };
        let entry = uuid(mark.entry);
        let before = if mark.again { before(work, mark).await? } else { EntryState::Unread };
        let told_nothing = applied.new_events == 0 && applied.duplicates > 0 && change.statuses.is_empty();
        let state = match (mark.state, before) {
            // Read again, and all of it was known: it stays what it was.
            (EntryState::Read, EntryState::Read | EntryState::Duplicate) if told_nothing => before,
            (EntryState::Read, _) if told_nothing => EntryState::Duplicate,
            (state, _) => state,
        };
        if state != EntryState::Read || !mark.notes.is_empty() {
            entries.push(entry);
            states.push(i16::from(entry_number(state)));
            notes.push((!mark.notes.is_empty()).then(|| text(&mark.notes.join("\n")).into_owned()));
        }
        gathered.shift(entry_tally(before), entry_tally(state));
        mark.refs.iter().for_each(|value| gathered.find_by(value, entry));
    }
    if !entries.is_empty() {
        let statement = work
            .prepare_cached(
                "INSERT INTO outcome (entry, state, notes) SELECT entry, state, notes
                 FROM unnest($1::uuid[], $2::smallint[], $3::text[]) AS o (entry, state, notes)",
            )
            .await?;
        work.execute(&statement, &[&entries, &states, &notes]).await?;
    }
    Ok(())
}

/// What an entry was that is read again; it is nothing now.
async fn before(work: &Transaction<'_>, mark: &Mark) -> Result<EntryState, Fault> {
    let entry = uuid(mark.entry);
    // One replay at a time: the second finds what the first has made of it.
    lock_keys(work, [i64::from_be_bytes(*mark.entry.as_bytes().last_chunk().expect("16 bytes hold 8"))]).await?;
    let unread = work.prepare_cached("DELETE FROM unread WHERE entry = $1").await?;
    let outcome = work.prepare_cached("DELETE FROM outcome WHERE entry = $1 RETURNING state").await?;
    let was_unread = work.execute(&unread, &[&entry]).await? == 1;
    let outcome = work.query_opt(&outcome, &[&entry]).await?.map(|row| get::<i16>(&row, 0)).transpose()?;
    Ok(match outcome {
        _ if was_unread => EntryState::Unread,
        Some(number) => entry_state(number as u8),
        None => EntryState::Read,
    })
}

/// What was gathered, in a statement each.
pub(super) async fn write_gathered(work: &Transaction<'_>, mut gathered: Gathered, shard: i32) -> Result<(), Fault> {
    chain::write_spent(work, &mut gathered).await?;
    put_exchanges(work, &gathered.exchanges).await?;
    events::tell(work, &gathered.tell).await?;
    if !gathered.references.is_empty() {
        let (keys, entries): (Vec<i64>, Vec<Uuid>) = gathered.references.into_iter().unzip();
        let statement = work
            .prepare_cached(
                "INSERT INTO reference SELECT key, entry FROM unnest($1::bigint[], $2::uuid[]) AS r (key, entry)
                 ON CONFLICT DO NOTHING",
            )
            .await?;
        work.execute(&statement, &[&keys, &entries]).await?;
    }
    if !gathered.publish.is_empty() {
        let statement = work
            .prepare_cached(
                "INSERT INTO unpublished (event) SELECT event FROM unnest($1::uuid[]) WITH ORDINALITY AS e (event, place)
                 WHERE EXISTS (SELECT 1 FROM flag WHERE name = 'publish') ORDER BY place",
            )
            .await?;
        work.execute(&statement, &[&gathered.publish]).await?;
    }
    write_tally(work, gathered.tally, shard).await
}

async fn write_tally(work: &Transaction<'_>, tally: HashMap<String, i64>, shard: i32) -> Result<(), Fault> {
    let mut counts: Vec<(String, i64)> = tally.into_iter().filter(|(_, by)| *by != 0).collect();
    if counts.is_empty() {
        return Ok(());
    }
    counts.sort();
    let (what, by): (Vec<String>, Vec<i64>) = counts.into_iter().map(|(what, by)| (text(&what).into_owned(), by)).unzip();
    let statement = work
        .prepare_cached(
            "INSERT INTO tally (what, shard, count) SELECT what, $1, by FROM unnest($2::text[], $3::bigint[]) AS t (what, by)
             ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count",
        )
        .await?;
    work.execute(&statement, &[&shard, &what, &by]).await?;
    Ok(())
}

pub(super) async fn put_exchanges(work: &Transaction<'_>, rows: &[ExchangeRow]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let column =
        |read: fn(&Exchange) -> &str| -> Vec<String> { rows.iter().map(|row| text(read(&row.exchange)).into_owned()).collect() };
    let ids: Vec<Uuid> = rows.iter().map(|row| uuid(row.exchange.id)).collect();
    let commands: Vec<Option<Uuid>> = rows.iter().map(|row| row.command).collect();
    let at: Vec<Timestamp> = rows.iter().map(|row| row.exchange.at).collect();
    let merchants: Vec<Uuid> = rows.iter().map(|row| uuid(row.exchange.merchant)).collect();
    let connections: Vec<Uuid> = rows.iter().map(|row| uuid(row.exchange.connection)).collect();
    let errors: Vec<Option<String>> =
        rows.iter().map(|row| row.exchange.error.as_deref().map(|error| text(error).into_owned())).collect();
    let durations: Vec<i64> = rows.iter().map(|row| row.exchange.duration_ms).collect();
    let attempts: Vec<i32> = rows.iter().map(|row| row.attempt).collect();
    let retries: Vec<Option<Timestamp>> = rows.iter().map(|row| row.retry_at).collect();
    let statement = work
        .prepare_cached(
            "INSERT INTO exchange (id, command, at, merchant, connection, provider, endpoint, request, response, error,
                 duration_ms, attempt, next_retry_at, trace)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $7::text[],
                 $8::text[], $9::text[], $10::text[], $11::bigint[], $12::integer[], $13::timestamptz[], $14::text[])",
        )
        .await?;
    work.execute(
        &statement,
        &[
            &ids,
            &commands,
            &at,
            &merchants,
            &connections,
            &column(|exchange| &exchange.provider),
            &column(|exchange| &exchange.endpoint),
            &column(|exchange| &exchange.request),
            &column(|exchange| &exchange.response),
            &errors,
            &durations,
            &attempts,
            &retries,
            &column(|exchange| &exchange.trace),
        ],
    )
    .await?;
    Ok(())
}
