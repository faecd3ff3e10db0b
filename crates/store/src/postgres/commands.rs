//! Commands for people: pages of them, newest first, and how one is called off.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::types::ToSql;
use uuid::Uuid;
use uzel_model::{Id, id::Kind};

use super::{
    Core, events, failed, get,
    journal::text,
    lanes::{self, Fault},
    maybe_id,
    outbox::{self, Ended},
    timeline, uuid,
    work::{self, Gathered},
};
use crate::{
    Cancelled, CommandFilter, CommandState, StoreError, TimelineCommand,
    feed::PAGE_MAX,
    numbers::{command_number, command_state},
};

/// Where commands of a state stand together, they are looked through; else each connection's newest are found by its index.
pub(super) async fn page(client: &mut Object, filter: &CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
    let work = super::snapshot(client).await?;
    let limit = filter.limit.clamp(1, PAGE_MAX) as i64;
    let (floor, ceiling) = events::bounds(filter.from, filter.to, filter.before);
    let mut conditions = "c.id >= $2 AND c.id < $3".to_owned();
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(limit), Box::new(floor), Box::new(ceiling)];
    let mut add = |condition: &str, value: Option<Uuid>| {
        if let Some(value) = value {
            values.push(Box::new(value));
            conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
        }
    };
    add("c.merchant = ?", filter.merchant.map(uuid));
    add("c.connection = ?", filter.connection.map(uuid));
    add("c.entry = (SELECT entry FROM event WHERE id = ?)", filter.event.map(uuid));
    add("c.event = ?", filter.event.map(uuid));
    let not_sending = "NOT EXISTS (SELECT 1 FROM sending s WHERE s.command = c.id)";
    let (rows, together) = match filter.state {
        None => ("command c WHERE".to_owned(), false),
        Some(CommandState::Done) => ("command c WHERE c.state = 2 AND".to_owned(), false),
        Some(CommandState::Sending) => ("sending x JOIN command c ON c.id = x.command WHERE".to_owned(), true),
        Some(CommandState::Waiting) => (format!("waiting x JOIN command c ON c.id = x.command WHERE {not_sending} AND"), true),
        Some(state) => {
            (format!("trouble x JOIN command c ON c.id = x.command WHERE x.state = {} AND", command_number(state)), true)
        }
    };
    let everybody = filter.merchant.is_none() && filter.connection.is_none();
    let newest = if filter.event.is_some() || together || everybody {
        format!("SELECT c.id FROM {rows} {conditions} ORDER BY c.id DESC LIMIT $1")
    } else {
        values.push(Box::new(events::connections(&work, filter.merchant, filter.connection).await?));
        format!(
            "SELECT c.id FROM unnest(${}::uuid[]) AS of (connection) CROSS JOIN LATERAL (
                 SELECT c.id FROM {rows} c.connection = of.connection AND {conditions} ORDER BY c.id DESC LIMIT $1) AS c
             ORDER BY c.id DESC LIMIT $1",
            values.len()
        )
    };
    let statement = work.prepare_cached(&newest).await.map_err(failed)?;
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect();
    let ids =
        work.query(&statement, &values).await.map_err(failed)?.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    let mut found = timeline::rows(&work, "c.id = ANY($1)", &ids).await?;
    work.commit().await.map_err(failed)?;
    found.reverse();
    Ok(found)
}

/// Holds a command back that waits; the next of its key steps forward, and its slot is free again.
pub(super) async fn cancel(core: &Core, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
    let mut tries = 0;
    loop {
        let ended = try_cancel(core, command, reason).await;
        if !lanes::again(&ended, &mut tries) {
            return ended.map_err(StoreError::from);
        }
    }
}

async fn try_cancel(core: &Core, command: Id, reason: &str) -> Result<Cancelled, Fault> {
    let mut client = core.writer().await?;
    let work = client.build_transaction().start().await?;
    lock(&work, &[uuid(command)]).await?;
    let mut gathered = Gathered::default();
    let held = hold_back(&work, &[uuid(command)], reason, &mut gathered).await?;
    let told = gathered.tells();
    work::write_gathered(&work, gathered, lanes::shard(core, lanes::LEASES)).await?;
    let state = work.prepare_cached("SELECT state, EXISTS (SELECT 1 FROM sending WHERE command = id) FROM command WHERE id = $1");
    let state = work.query_opt(&state.await?, &[&uuid(command)]).await?;
    work.commit().await?;
    if told {
        core.told_events();
    }
    if held == 1 {
        // The next of its key may be due.
        core.told.due();
        return Ok(Cancelled::Held);
    }
    Ok(match state {
        None => Cancelled::Unknown,
        Some(row) if get(&row, 1)? => Cancelled::Sending,
        Some(row) => Cancelled::Ended(command_state(get::<i16>(&row, 0)? as u8)),
    })
}

/// Takes the locks of commands' ordering keys and subjects: nobody else steps forward or tells an event meanwhile.
pub(super) async fn lock(work: &Transaction<'_>, commands: &[Uuid]) -> Result<(), Fault> {
    let statement = work.prepare_cached("SELECT order_key, subject_key FROM command WHERE id = ANY($1)").await?;
    let mut keys: Vec<i64> = Vec::new();
    for row in work.query(&statement, &[&commands]).await? {
        keys.extend([get::<i64>(&row, 0)?, get(&row, 1)?]);
    }
    work::lock_keys(work, keys).await
}

/// Holds back those of some commands that wait and are not being sent, and gives how many. Their keys are locked. The event of a
/// look-up is told as it is.
pub(super) async fn hold_back(
    work: &Transaction<'_>,
    commands: &[Uuid],
    reason: &str,
    gathered: &mut Gathered,
) -> Result<u64, Fault> {
    outbox::hold(work, commands).await?;
    let statement = work
        .prepare_cached(
            "UPDATE command c SET state = $2, reason = $3 WHERE c.id = ANY($1) AND c.state = 0
             AND EXISTS (SELECT 1 FROM waiting w WHERE w.command = c.id) AND NOT EXISTS (SELECT 1 FROM sending s WHERE s.command = c.id)
             RETURNING c.id, c.entry, c.order_key, c.subject_key, CASE WHEN c.repeatable THEN c.event END",
        )
        .await?;
    let held = i16::from(command_number(CommandState::Held));
    let mut leaving = Vec::new();
    for row in work.query(&statement, &[&commands, &held, &text(reason)]).await? {
        let (command, entry, order_key, subject_key) = (get(&row, 0)?, get(&row, 1)?, get(&row, 2)?, get(&row, 3)?);
        let reason = Some(reason.to_owned());
        leaving.push(Ended { command, entry, order_key, subject_key, state: CommandState::Held, reason });
        if let Some(event) = maybe_id(Kind::Event, &row, 4)? {
            let close = work.prepare_cached("UPDATE event SET pending = false WHERE id = $1 AND pending").await?;
            if work.execute(&close, &[&uuid(event)]).await? == 1 {
                gathered.publish(uuid(event));
            }
        }
    }
    let ids: Vec<Uuid> = leaving.iter().map(|ended| ended.command).collect();
    let free = work.prepare_cached("DELETE FROM slot WHERE command = ANY($1)").await?;
    work.execute(&free, &[&ids]).await?;
    outbox::leave(work, &leaving, gathered).await?;
    Ok(leaving.len() as u64)
}
