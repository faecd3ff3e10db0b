//! The outbox: what waits, in which order, and what is being sent.
//!
//! `waiting` holds nothing but commands of state 0, so that it stays small. Of the commands of one ordering key only the first
//! may be tried; the others are `behind` it, and the next one steps forward when it leaves.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use deadpool_postgres::{GenericClient, Object, Transaction};
use tokio_postgres::Row;
use uuid::Uuid;
use uzel_model::{Event, Id, Job, Timestamp, id::Kind};

use super::{
    Core, consent, doc, get, id,
    journal::text,
    lanes::{self, Fault},
    lost, maybe_id, removal, setup, uuid,
    work::{self, Gathered},
};
use crate::{
    Command, CommandState, Contact, Leased, NewCommand, Slot, StoreError,
    chain::stopped,
    numbers::{command_number, command_state, command_tally, key, subject},
};

/// Places in the queue, locked.
pub(crate) const HOLD: &str = "SELECT 1 FROM waiting WHERE command = ANY($1) ORDER BY command FOR UPDATE";

/// Places in the queue of one subject, locked.
pub(crate) const HOLD_SUBJECT: &str = "SELECT 1 FROM waiting WHERE subject_key = $1 ORDER BY command FOR UPDATE";

/// Who is first of some ordering keys.
pub(crate) const FIRSTS: &str =
    "SELECT order_key, command, due_at, attempts FROM waiting WHERE order_key = ANY($1) AND NOT behind";

/// The next of some ordering keys, where nobody is first.
pub(crate) const FORWARD: &str = "UPDATE waiting SET behind = false, next_at = due_at WHERE command IN (
                 SELECT next.command FROM unnest($1::bigint[]) AS k (order_key) CROSS JOIN LATERAL (
                     SELECT command FROM waiting w WHERE w.order_key = k.order_key ORDER BY due_at, command LIMIT 1) AS next
                 WHERE NOT EXISTS (SELECT 1 FROM waiting f WHERE f.order_key = k.order_key AND NOT f.behind))";

/// Of these commands those go behind that were not tried and that somebody of their key is due before.
pub(crate) const BEHIND: &str = "UPDATE waiting w SET behind = true WHERE w.command = ANY($1) AND w.attempts = 0 AND NOT w.behind
             AND EXISTS (SELECT 1 FROM waiting o WHERE o.order_key = w.order_key AND o.due_at < w.due_at) RETURNING w.order_key";

/// What of a queue came before its subject was called off.
pub(crate) const CALLED_OFF: &str =
    "SELECT q.place, o.reason FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS q (subject_key, entry, place)
             JOIN called_off o ON o.subject_key = q.subject_key JOIN inbox j ON j.id = q.entry WHERE j.arrival < o.arrival";

/// Longer than a statement may take.
const STATEMENT_MAX: Duration = Duration::from_secs(70);

/// Taken back at a time.
const RECOVERED_MAX: i64 = 500;

/// A command to be queued, with its job made out.
pub(super) struct Queued {
    new: NewCommand,
    job: String,
    entry: Option<Uuid>,
    order_key: i64,
    subject: String,
    held: Option<String>,
    behind: bool,
}

impl Queued {
    pub(super) fn new(new: &NewCommand, job: &str, entry: Option<Uuid>) -> Self {
        Self {
            job: job.to_owned(),
            entry,
            order_key: key(&new.ordering_key),
            subject: subject(new.command.source, &new.subject),
            held: new.held.clone(),
            behind: false,
            new: new.clone(),
        }
    }
}

impl Queued {
    /// It is held back where it follows a command that was called off: why, by its id.
    pub(super) fn hold(&mut self, held: &HashMap<Id, String>) {
        if let Some(reason) = held.get(&self.new.command.id) {
            self.held.get_or_insert_with(|| reason.clone());
        }
    }
}

/// A command that waits no more.
pub(super) struct Ended {
    pub(super) command: Uuid,
    pub(super) entry: Option<Uuid>,
    pub(super) order_key: i64,
    pub(super) subject_key: i64,
    pub(super) state: CommandState,
    pub(super) reason: Option<String>,
}

/// Queues commands, in their order. Their keys and subjects are locked.
pub(super) async fn queue(work: &Transaction<'_>, mut queue: Vec<Queued>, gathered: &mut Gathered) -> Result<(), Fault> {
    if queue.is_empty() {
        return Ok(());
    }
    hold_called_off(work, &mut queue, gathered).await?;
    take_slots(work, &mut queue).await?;
    step_in(work, &mut queue).await?;
    insert(work, &queue).await?;
    for queued in &queue {
        let state = if queued.held.is_some() { CommandState::Held } else { CommandState::Waiting };
        gathered.count(command_tally(state), 1);
        match (&queued.held, queued.entry) {
            (Some(reason), _) => gathered.count(format!("held/{reason}"), 1),
            (None, Some(entry)) => gathered.find_by(&queued.subject, entry),
            (None, None) => {}
        }
    }
    Ok(())
}

/// What came before its subject was called off, and is read only now (on another node, perhaps), goes no more. An event that was
/// to be looked up for it is told as it is.
async fn hold_called_off(work: &Transaction<'_>, queue: &mut [Queued], gathered: &mut Gathered) -> Result<(), Fault> {
    let subjects: Vec<i64> = queue.iter().map(|queued| key(&queued.subject)).collect();
    let entries: Vec<Option<Uuid>> = queue.iter().map(|queued| queued.entry).collect();
    let statement = work.prepare_cached(CALLED_OFF).await?;
    for row in work.query(&statement, &[&subjects, &entries]).await? {
        if let Some(queued) = queue.get_mut(get::<i64>(&row, 0)? as usize - 1) {
            queued.held.get_or_insert(get(&row, 1)?);
            if let Some(event) = queued.new.command.event {
                let close = work.prepare_cached("UPDATE event SET pending = false WHERE id = $1 AND pending").await?;
                if work.execute(&close, &[&uuid(event)]).await? == 1 {
                    gathered.publish(uuid(event));
                }
            }
        }
    }
    Ok(())
}

/// A place that one command at a time may take: whoever finds it taken is held back.
async fn take_slots(work: &Transaction<'_>, queue: &mut [Queued]) -> Result<(), Fault> {
    let slots: Vec<(usize, Slot)> = queue
        .iter()
        .enumerate()
        .filter(|(_, queued)| queued.held.is_none())
        .filter_map(|(place, queued)| Some((place, queued.new.slot.clone()?)))
        .collect();
    for (place, slot) in slots {
        let (id, due_at) = (uuid(queue[place].new.command.id), queue[place].new.command.due_at);
        for slot in slot.all() {
            if !take_slot(work, slot, id, due_at).await? {
                let free = work.prepare_cached("DELETE FROM slot WHERE command = $1").await?;
                work.execute(&free, &[&id]).await?;
                queue[place].held = Some(slot.reason.clone());
                break;
            }
        }
    }
    Ok(())
}

/// Whether one of a slot's places was free for a command.
async fn take_slot(work: &Transaction<'_>, slot: &Slot, command: Uuid, due_at: Timestamp) -> Result<bool, Fault> {
    let statement = work
        .prepare_cached(
            "INSERT INTO slot (key, until, command) VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE
             SET until = excluded.until, command = excluded.command WHERE slot.until <= $4",
        )
        .await?;
    for key in slot.keys() {
        if work.execute(&statement, &[&Uuid::from_bytes(key), &slot.until, &command, &due_at]).await? == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Who goes first of an ordering key: whoever waits there, but for one that is due later and has not been tried.
async fn step_in(work: &Transaction<'_>, queue: &mut [Queued]) -> Result<(), Fault> {
    enum First {
        Stored { command: Uuid, due_at: Timestamp, attempts: i32 },
        New(usize),
    }
    let keys: HashSet<i64> = queue.iter().filter(|queued| queued.held.is_none()).map(|queued| queued.order_key).collect();
    let keys: Vec<i64> = keys.into_iter().collect();
    let statement = work.prepare_cached(FIRSTS).await?;
    let mut firsts = HashMap::new();
    for row in work.query(&statement, &[&keys]).await? {
        let first = First::Stored { command: get(&row, 1)?, due_at: get(&row, 2)?, attempts: get(&row, 3)? };
        firsts.insert(get::<i64>(&row, 0)?, first);
    }
    for place in 0..queue.len() {
        if queue[place].held.is_some() {
            continue;
        }
        let (order_key, due_at) = (queue[place].order_key, queue[place].new.command.due_at);
        let goes_before = match firsts.get(&order_key) {
            None => true,
            Some(First::New(first)) if due_at < queue[*first].new.command.due_at => {
                queue[*first].behind = true;
                true
            }
            Some(First::Stored { command, due_at: first_due_at, attempts: 0 }) if due_at < *first_due_at => {
                step_back(work, *command).await?
            }
            Some(_) => false,
        };
        queue[place].behind = !goes_before;
        if goes_before {
            firsts.insert(order_key, First::New(place));
        }
    }
    Ok(())
}

/// Locks commands' places in the queue. Whoever takes a mark in `sending` away does this before: a lease has the place first and
/// then the mark, and two that go the other way round would wait for each other.
pub(super) async fn hold(work: &Transaction<'_>, commands: &[Uuid]) -> Result<(), Fault> {
    let statement = work.prepare_cached(HOLD).await?;
    work.query(&statement, &[&commands]).await?;
    Ok(())
}

/// Puts a first command behind, unless it is being sent.
async fn step_back(work: &Transaction<'_>, first: Uuid) -> Result<bool, Fault> {
    // Locked before it is looked at: whoever leases it locks it too.
    let lock = work.prepare_cached("SELECT attempts FROM waiting WHERE command = $1 FOR UPDATE").await?;
    let Some(row) = work.query_opt(&lock, &[&first]).await? else { return Ok(true) };
    let sending = work.prepare_cached("SELECT 1 FROM sending WHERE command = $1").await?;
    if get::<i32>(&row, 0)? > 0 || work.query_opt(&sending, &[&first]).await?.is_some() {
        return Ok(false);
    }
    let back = work.prepare_cached("UPDATE waiting SET behind = true WHERE command = $1").await?;
    work.execute(&back, &[&first]).await?;
    Ok(true)
}

/// Commands wait again that were being sent: to those that were not tried in the end nobody was to step before meanwhile. Their keys
/// are locked.
pub(super) async fn wait_again(work: &Transaction<'_>, commands: &[Uuid]) -> Result<(), Fault> {
    if commands.is_empty() {
        return Ok(());
    }
    let behind = work.prepare_cached(BEHIND).await?;
    let mut keys: Vec<i64> = Vec::new();
    for row in work.query(&behind, &[&commands]).await? {
        keys.push(get(&row, 0)?);
    }
    if !keys.is_empty() {
        let forward = work.prepare_cached(FORWARD).await?;
        work.execute(&forward, &[&keys]).await?;
    }
    Ok(())
}

async fn insert(work: &Transaction<'_>, queue: &[Queued]) -> Result<(), Fault> {
    let ids = |read: fn(&Command) -> Id| -> Vec<Uuid> { queue.iter().map(|queued| uuid(read(&queued.new.command))).collect() };
    let maybe_ids = |read: fn(&Command) -> Option<Id>| -> Vec<Option<Uuid>> {
        queue.iter().map(|queued| read(&queued.new.command).map(uuid)).collect()
    };
    let commands = ids(|command| command.id);
    let connections = ids(|command| command.connection);
    let entries: Vec<Option<Uuid>> = queue.iter().map(|queued| queued.entry).collect();
    let jobs: Vec<&str> = queue.iter().map(|queued| queued.job.as_str()).collect();
    let repeatable: Vec<bool> = queue.iter().map(|queued| queued.new.command.job.repeatable()).collect();
    let held = command_number(CommandState::Held);
    let states: Vec<i16> = queue.iter().map(|queued| if queued.held.is_some() { held.into() } else { 0 }).collect();
    let due: Vec<Timestamp> = queue.iter().map(|queued| queued.new.command.due_at).collect();
    let latest: Vec<Option<Timestamp>> = queue.iter().map(|queued| queued.new.command.latest_at).collect();
    let order_keys: Vec<i64> = queue.iter().map(|queued| queued.order_key).collect();
    let subject_keys: Vec<i64> = queue.iter().map(|queued| key(&queued.subject)).collect();
    let reasons: Vec<Option<String>> =
        queue.iter().map(|queued| queued.held.as_deref().map(|reason| text(reason).into_owned())).collect();
    let traces: Vec<String> = queue.iter().map(|queued| text(&queued.new.command.trace).into_owned()).collect();
    let behind: Vec<bool> = queue.iter().map(|queued| queued.behind).collect();
    let statement = work
        .prepare_cached(
            "INSERT INTO command (id, merchant, connection, source, flow, event, entry, job, repeatable, state, due_at, latest_at,
                 order_key, subject_key, reason, trace)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::uuid[], $7::uuid[], $8::text[],
                 $9::boolean[], $10::smallint[], $11::timestamptz[], $12::timestamptz[], $13::bigint[], $14::bigint[],
                 $15::text[], $16::text[])",
        )
        .await?;
    work.execute(
        &statement,
        &[
            &commands,
            &ids(|command| command.merchant),
            &connections,
            &ids(|command| command.source),
            &maybe_ids(|command| command.flow),
            &maybe_ids(|command| command.event),
            &entries,
            &jobs,
            &repeatable,
            &states,
            &due,
            &latest,
            &order_keys,
            &subject_keys,
            &reasons,
            &traces,
        ],
    )
    .await?;
    let waiting = work
        .prepare_cached(
            "INSERT INTO waiting (command, connection, order_key, subject_key, due_at, next_at, attempts, behind)
             SELECT command, connection, order_key, subject_key, due_at, due_at, 0, behind
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::boolean[], $7::smallint[])
                 AS w (command, connection, order_key, subject_key, due_at, behind, state) WHERE state = 0",
        )
        .await?;
    work.execute(&waiting, &[&commands, &connections, &order_keys, &subject_keys, &due, &behind, &states]).await?;
    let trouble = work
        .prepare_cached(
            "INSERT INTO trouble (command, entry, subject_key, state) SELECT command, entry, subject_key, state
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::smallint[]) AS t (command, entry, subject_key, state)
             WHERE state <> 0",
        )
        .await?;
    work.execute(&trouble, &[&commands, &entries, &subject_keys, &states]).await?;
    Ok(())
}

/// Takes commands that wait no more out of the queue; the next of their keys step forward. Their keys are locked, and their own
/// rows have been written.
pub(super) async fn leave(work: &Transaction<'_>, ended: &[Ended], gathered: &mut Gathered) -> Result<(), Fault> {
    if ended.is_empty() {
        return Ok(());
    }
    let commands: Vec<Uuid> = ended.iter().map(|ended| ended.command).collect();
    let gone = work.prepare_cached("DELETE FROM waiting WHERE command = ANY($1)").await?;
    work.execute(&gone, &[&commands]).await?;
    let keys: HashSet<i64> = ended.iter().map(|ended| ended.order_key).collect();
    let keys: Vec<i64> = keys.into_iter().collect();
    // If somebody is first already, it was one of the others that left.
    let forward = work.prepare_cached(FORWARD).await?;
    work.execute(&forward, &[&keys]).await?;
    let troubled: Vec<&Ended> = ended.iter().filter(|ended| ended.state != CommandState::Done).collect();
    if !troubled.is_empty() {
        let commands: Vec<Uuid> = troubled.iter().map(|ended| ended.command).collect();
        let entries: Vec<Option<Uuid>> = troubled.iter().map(|ended| ended.entry).collect();
        let subject_keys: Vec<i64> = troubled.iter().map(|ended| ended.subject_key).collect();
        let states: Vec<i16> = troubled.iter().map(|ended| command_number(ended.state).into()).collect();
        let statement = work
            .prepare_cached(
                "INSERT INTO trouble (command, entry, subject_key, state)
                 SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::smallint[])",
            )
            .await?;
        work.execute(&statement, &[&commands, &entries, &subject_keys, &states]).await?;
    }
    for ended in ended {
        gathered.shift(command_tally(CommandState::Waiting), command_tally(ended.state));
        if ended.state == CommandState::Held {
            gathered.count(format!("held/{}", ended.reason.as_deref().unwrap_or_default()), 1);
        }
    }
    Ok(())
}

/// What waits for an event's subject is held back, and gives back its slot; what is dead too, so that no replay takes it up.
/// What is being sent cannot be called off, only its being tried again; of a look-up nothing more follows from its event. The
/// word stays, for what came before it and is read later.
pub(super) async fn call_off(work: &Transaction<'_>, event: &Event, reason: &str, gathered: &mut Gathered) -> Result<(), Fault> {
    let subject_key = key(&subject(event.connection, &event.subject));
    let word = work
        .prepare_cached(
            "INSERT INTO called_off (subject_key, arrival, reason, at)
             SELECT $1, arrival, $3, clock_timestamp() FROM inbox WHERE id = $2
             ON CONFLICT (subject_key) DO UPDATE SET arrival = greatest(called_off.arrival, excluded.arrival), at = excluded.at",
        )
        .await?;
    work.execute(&word, &[&subject_key, &uuid(event.entry), &text(reason)]).await?;
    // Locked before it is looked at whether they are being sent: whoever leases them locks them too.
    let hold = work.prepare_cached(HOLD_SUBJECT).await?;
    work.query(&hold, &[&subject_key]).await?;
    let statement = work
        .prepare_cached(
            "SELECT c.id, c.order_key, c.event, EXISTS (SELECT 1 FROM sending s WHERE s.command = c.id), c.state, c.entry
             FROM command c WHERE c.id IN (SELECT command FROM waiting WHERE subject_key = $1 UNION ALL
                 SELECT command FROM trouble WHERE subject_key = $1 AND state = 3)",
        )
        .await?;
    let mut leaving = Vec::new();
    for row in work.query(&statement, &[&subject_key]).await? {
        let command: Uuid = get(&row, 0)?;
        if let Some(event) = get::<Option<Uuid>>(&row, 2)? {
            let close = work.prepare_cached("UPDATE event SET pending = false WHERE id = $1 AND pending").await?;
            if work.execute(&close, &[&event]).await? == 1 {
                gathered.publish(event);
            }
        }
        if get(&row, 3)? {
            let mark = work.prepare_cached("UPDATE sending SET called_off = $2 WHERE command = $1").await?;
            work.execute(&mark, &[&command, &text(reason)]).await?;
            continue;
        }
        let held = i16::from(command_number(CommandState::Held));
        let hold = work.prepare_cached("UPDATE command SET state = $2, reason = $3 WHERE id = $1").await?;
        work.execute(&hold, &[&command, &held, &text(reason)]).await?;
        let free = work.prepare_cached("DELETE FROM slot WHERE command = $1").await?;
        work.execute(&free, &[&command]).await?;
        let before = command_state(get::<i16>(&row, 4)? as u8);
        if before == CommandState::Waiting {
            let (order_key, entry) = (get(&row, 1)?, get(&row, 5)?);
            let reason = Some(reason.to_owned());
            leaving.push(Ended { command, entry, order_key, subject_key, state: CommandState::Held, reason });
        } else {
            let held_now = work.prepare_cached("UPDATE trouble SET state = $2 WHERE command = $1").await?;
            work.execute(&held_now, &[&command, &held]).await?;
            gathered.shift(command_tally(before), command_tally(CommandState::Held));
            gathered.count(format!("held/{reason}"), 1);
        }
    }
    leave(work, &leaving, gathered).await
}

/// Due commands of each connection, oldest first, that nobody holds: taken and marked in one statement. Whoever waits for the
/// same row skips it; whoever saw it before the mark was made finds the mark. Each command is looked up by itself: how many there
/// will be nobody tells the planner, and it would read the whole table for many.
pub(crate) const LEASE: &str = "WITH due AS (
        SELECT w.command, w.attempts, w.next_at, s.place
        FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS s (connection, share, place)
        CROSS JOIN LATERAL (
            SELECT command, attempts, next_at FROM waiting w
            WHERE w.connection = s.connection AND NOT w.behind AND w.next_at <= $3
                AND NOT EXISTS (SELECT 1 FROM sending x WHERE x.command = w.command)
            ORDER BY w.next_at, w.command LIMIT s.share FOR UPDATE OF w SKIP LOCKED) AS w
        ORDER BY s.place, w.next_at, w.command LIMIT $4),
    marked AS (
        INSERT INTO sending (command, lease, until, batch)
        SELECT command, nextval('lease'), clock_timestamp() + $5 * interval '1 millisecond', $6 FROM due
        ON CONFLICT DO NOTHING RETURNING command, lease)
    SELECT c.id, c.merchant, c.connection, c.source, c.flow, c.event, c.job, c.due_at, c.latest_at, due.attempts, c.trace,
        marked.lease, c.entry, c.order_key, c.subject_key, EXISTS (SELECT 1 FROM opted_out)
    FROM marked JOIN due USING (command)
    CROSS JOIN LATERAL (SELECT * FROM command c WHERE c.id = marked.command LIMIT 1) AS c
    ORDER BY due.place, due.next_at, c.id";

/// When the next command of these connections falls due that is not being sent already.
pub(crate) const NEXT: &str = "SELECT min(next_at) FROM unnest($1::uuid[]) AS s (connection) CROSS JOIN LATERAL (
        SELECT next_at FROM waiting w WHERE w.connection = s.connection AND NOT w.behind
            AND NOT EXISTS (SELECT 1 FROM sending x WHERE x.command = w.command)
        ORDER BY w.next_at LIMIT 1) AS w";

pub(super) async fn lease(
    core: &Core,
    now: Timestamp,
    shares: &[(Id, usize)],
    limit: usize,
    lease_ms: i64,
) -> Result<Leased, StoreError> {
    let mut tries = 0;
    loop {
        let ended = lease_due(core, now, shares, limit, lease_ms).await;
        if !lanes::again(&ended, &mut tries) {
            return ended.map_err(StoreError::from);
        }
    }
}

async fn lease_due(core: &Core, now: Timestamp, shares: &[(Id, usize)], limit: usize, lease_ms: i64) -> Result<Leased, Fault> {
    let mut client = core.writer().await?;
    give_back_lost(core, &client).await?;
    let connections: Vec<Uuid> = shares.iter().map(|(connection, _)| uuid(*connection)).collect();
    let room: Vec<i32> = shares.iter().map(|(_, share)| (*share).min(limit) as i32).collect();
    let batch = Uuid::now_v7();
    let leased = take_due(core, &mut client, &connections, &room, now, limit, lease_ms, batch).await;
    // Perhaps they were marked, and an answer is lost: nothing of them is handed out.
    leased.inspect_err(|_| core.lost_batches.lock().push((batch, Instant::now())))
}

#[expect(clippy::too_many_arguments, reason = "the values of one statement")]
async fn take_due(
    core: &Core,
    client: &mut Object,
    connections: &[Uuid],
    room: &[i32],
    now: Timestamp,
    limit: usize,
    lease_ms: i64,
    batch: Uuid,
) -> Result<Leased, Fault> {
    let statement = client.prepare_cached(LEASE).await?;
    let rows = client.query(&statement, &[&connections, &room, &now, &(limit as i64), &(lease_ms as f64), &batch]).await?;
    let mut leased = Leased::default();
    let (mut broken, mut any_erased) = (Vec::new(), false);
    for row in &rows {
        match read(row) {
            Ok(command) => {
                any_erased |= get::<bool>(row, 15)?;
                leased.commands.push(command);
            }
            Err(error) => broken.push((row, error)),
        }
    }
    for (row, error) in broken {
        // It must not keep the others from being sent.
        let work = client.build_transaction().start().await?;
        let reason = Some(format!("the stored row cannot be decoded: {error}"));
        let (entry, order_key, subject_key) = (get(row, 12)?, get(row, 13)?, get(row, 14)?);
        let ended = Ended { command: get(row, 0)?, entry, order_key, subject_key, state: CommandState::Dead, reason };
        end(&work, &[ended], lanes::shard(core, lanes::LEASES)).await?;
        work.commit().await?;
    }
    let unknown = consent::look(client, &mut leased.commands).await?;
    if any_erased {
        look_for_opt_outs(core, client, &mut leased.commands, &unknown).await?;
    }
    let statement = client.prepare_cached(NEXT).await?;
    leased.next_at = get(&client.query_one(&statement, &[&connections]).await?, 0)?;
    Ok(leased)
}

/// Whoever is not known may have been erased: then the phone's hash says whether messages are wanted.
async fn look_for_opt_outs(core: &Core, client: &Object, commands: &mut [Command], places: &[usize]) -> Result<(), Fault> {
    let Some(hash) = core.phones.get().filter(|_| !places.is_empty()) else { return Ok(()) };
    let hashed = places.iter().filter_map(|place| {
        let to = commands[*place].job.address()?;
        Some((*place, hash(commands[*place].merchant, &to.key())))
    });
    let hashed: Vec<(usize, [u8; 32])> = hashed.collect();
    let hashes: Vec<&[u8]> = hashed.iter().map(|(_, hash)| hash.as_slice()).collect();
    let opted_out = setup::opted_out(client, &hashes).await?;
    for (place, hash) in &hashed {
        commands[*place].contact.opted_out = opted_out.iter().any(|known| known == hash);
    }
    Ok(())
}

/// What was marked for this node without its knowing waits again: it was never handed out.
async fn give_back_lost(core: &Core, client: &Object) -> Result<(), Fault> {
    let lost: Vec<Uuid> = core.lost_batches.lock().iter().map(|(batch, _)| *batch).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached("DELETE FROM sending WHERE batch = ANY($1)").await?;
    client.execute(&statement, &[&lost]).await?;
    // The server may still be at it, and mark them only now.
    core.lost_batches.lock().retain(|(_, lost_at)| lost_at.elapsed() < STATEMENT_MAX);
    Ok(())
}

fn read(row: &Row) -> Result<Command, StoreError> {
    let job: Job = doc(row, 6)?;
    Ok(Command {
        id: id(Kind::Command, row, 0)?,
        merchant: id(Kind::Merchant, row, 1)?,
        connection: id(job.way_out(), row, 2)?,
        source: id(Kind::Connection, row, 3)?,
        flow: maybe_id(Kind::Flow, row, 4)?,
        event: maybe_id(Kind::Event, row, 5)?,
        job,
        due_at: get(row, 7)?,
        latest_at: get(row, 8)?,
        attempts: get::<i32>(row, 9)?.unsigned_abs(),
        trace: get(row, 10)?,
        lease: get(row, 11)?,
        contact: Contact::default(),
    })
}

/// Ends commands that are marked as being sent, otherwise than by the end of their call.
async fn end(work: &Transaction<'_>, ended: &[Ended], shard: i32) -> Result<(), Fault> {
    let mut gathered = Gathered::default();
    work::lock_keys(work, ended.iter().map(|ended| ended.order_key)).await?;
    let unmark = work.prepare_cached("DELETE FROM sending WHERE command = $1").await?;
    let write = work.prepare_cached("UPDATE command SET state = $2, reason = $3 WHERE id = $1").await?;
    for ended in ended {
        work.execute(&unmark, &[&ended.command]).await?;
        let reason = ended.reason.as_deref().map(text);
        work.execute(&write, &[&ended.command, &i16::from(command_number(ended.state)), &reason]).await?;
    }
    leave(work, ended, &mut gathered).await?;
    work::write_gathered(work, gathered, shard).await
}

/// Takes back what has been *sending* for longer than its lease, by the server's clock.
pub(super) async fn recover(core: &Core, now: Timestamp) -> Result<(u64, u64), StoreError> {
    let mut tries = 0;
    let taken_back = loop {
        let ended = recover_some(core, now).await;
        if !lanes::again(&ended, &mut tries) {
            break ended.map_err(StoreError::from)?;
        }
    };
    if let Err(error) = removal::hold(core).await {
        tracing::debug!("what waits for a removed connection cannot be held yet: {error}");
    }
    Ok(taken_back)
}

async fn recover_some(core: &Core, now: Timestamp) -> Result<(u64, u64), Fault> {
    let mut client = core.writer().await?;
    let late = client
        .prepare_cached(
            "SELECT s.command, c.repeatable, c.order_key, c.subject_key, c.entry, c.connection
             FROM sending s JOIN command c ON c.id = s.command WHERE s.until <= clock_timestamp() ORDER BY s.command LIMIT $1",
        )
        .await?;
    let rows = client.query(&late, &[&RECOVERED_MAX]).await?;
    if rows.is_empty() {
        return Ok((0, 0));
    }
    let work = client.build_transaction().start().await?;
    let mut keys = Vec::new();
    for row in &rows {
        keys.push(get(row, 2)?);
    }
    work::lock_keys(&work, keys).await?;
    // Settled, or taken back by another node, since: then it is not ours.
    let take = work
        .prepare_cached(
            "DELETE FROM sending WHERE command = ANY($1) AND until <= clock_timestamp() RETURNING command, called_off, told",
        )
        .await?;
    let mut commands = Vec::new();
    for row in &rows {
        commands.push(get::<Uuid>(row, 0)?);
    }
    hold(&work, &commands).await?;
    let mut taken: HashMap<Uuid, (Option<String>, Option<String>)> = HashMap::new();
    for row in work.query(&take, &[&commands]).await? {
        taken.insert(get(&row, 0)?, (get(&row, 1)?, get(&row, 2)?));
    }
    let (mut again, mut ended, mut found, mut unknown) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for row in &rows {
        let command: Uuid = get(row, 0)?;
        let Some((called_off, told)) = taken.remove(&command) else { continue };
        let (state, reason) = match (get(row, 1)?, called_off) {
            (true, None) => {
                again.push(command);
                continue;
            }
            (true, called_off) => (CommandState::Held, called_off),
            (false, called_off) => (CommandState::Unknown, Some(stopped(called_off.is_some()))),
        };
        match told.filter(|_| state == CommandState::Unknown) {
            Some(provider_id) => found.push((get::<Uuid>(row, 5)?, command, provider_id)),
            None => unknown += u64::from(state == CommandState::Unknown),
        }
        let (order_key, subject_key, entry) = (get(row, 2)?, get(row, 3)?, get(row, 4)?);
        ended.push(Ended { command, entry, order_key, subject_key, state, reason });
    }
    if !again.is_empty() {
        let statement = work.prepare_cached("UPDATE waiting SET next_at = $2 WHERE command = ANY($1)").await?;
        work.execute(&statement, &[&again, &now]).await?;
        wait_again(&work, &again).await?;
    }
    if !ended.is_empty() {
        end(&work, &ended, lanes::shard(core, lanes::LEASES)).await?;
    }
    if !found.is_empty() {
        let mut gathered = Gathered::default();
        for (connection, command, provider_id) in &found {
            lost::end(&work, *connection, *command, provider_id, now, &mut gathered).await?;
        }
        work::write_gathered(&work, gathered, lanes::shard(core, lanes::LEASES)).await?;
    }
    work.commit().await?;
    if !again.is_empty() {
        core.told.due();
    }
    Ok((again.len() as u64, unknown))
}
