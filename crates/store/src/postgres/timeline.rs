//! All that followed from one entry of the inbox, found by any id in it.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Object, Transaction};
use serde_json::Value;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;
use uzel_model::{Event, Id, id::Kind, price};

use super::{doc, failed, get, id, journal, maybe_id, uuid};
use crate::{
    CommandState, Exchange, StoreError, Timeline, TimelineCommand,
    chain::delivery,
    numbers::{command_state, way_out, way_out_of},
};

const EXCHANGE: &str = "id, merchant, connection, provider, at, endpoint, request, response, error, duration_ms, trace";

pub(super) async fn of(client: &mut Object, id: Id) -> Result<Option<Timeline>, StoreError> {
    let work = super::snapshot(client).await?;
    let timeline = find(&work, id).await;
    work.commit().await.map_err(failed)?;
    timeline
}

async fn find(work: &Transaction<'_>, thing: Id) -> Result<Option<Timeline>, StoreError> {
    let Some(entry_id) = entry_of(work, thing).await? else { return Ok(None) };
    let Some(entry) = journal::entry(work, entry_id).await? else { return Ok(None) };
    let own = uuid(entry_id);
    let outcome = work.prepare_cached("SELECT notes FROM outcome WHERE entry = $1").await.map_err(failed)?;
    let notes: Option<String> =
        work.query_opt(&outcome, &[&own]).await.map_err(failed)?.map(|row| get(&row, 0)).transpose()?.flatten();
    let events = work.prepare_cached("SELECT doc FROM event WHERE entry = $1 ORDER BY id").await.map_err(failed)?;
    let events: Vec<Event> =
        work.query(&events, &[&own]).await.map_err(failed)?.iter().map(|row| doc(row, 0)).collect::<Result<_, _>>()?;
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
        state: journal::state_of(work, own).await?,
        notes: notes.map(|notes| notes.lines().map(str::to_owned).collect()).unwrap_or_default(),
        trace: entry.trace,
        events,
        commands: commands_of(work, own).await?,
    }))
}

/// The entry whose timeline a thing stands in.
async fn entry_of(work: &Transaction<'_>, thing: Id) -> Result<Option<Id>, StoreError> {
    let sql = match thing.kind() {
        Kind::Entry => return Ok(Some(thing)),
        Kind::Event => "SELECT entry FROM event WHERE id = $1",
        Kind::Command => "SELECT entry FROM command WHERE id = $1",
        Kind::Attempt => "SELECT c.entry FROM exchange x JOIN command c ON c.id = x.command WHERE x.id = $1",
        _ => return Ok(None),
    };
    let statement = work.prepare_cached(sql).await.map_err(failed)?;
    let row = work.query_opt(&statement, &[&uuid(thing)]).await.map_err(failed)?;
    Ok(row.map(|row| super::maybe_id(Kind::Entry, &row, 0)).transpose()?.flatten())
}

async fn commands_of(work: &Transaction<'_>, entry: Uuid) -> Result<Vec<TimelineCommand>, StoreError> {
    Ok(commands(work, "c.entry = $1", entry).await?.into_iter().map(|(_, command)| command).collect())
}

/// One command, and the merchant whose it is; also one that belongs to no entry.
pub(super) async fn command(client: &mut Object, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
    let work = super::snapshot(client).await?;
    let found = commands(&work, "c.id = $1", uuid(id)).await?.pop();
    work.commit().await.map_err(failed)?;
    Ok(found)
}

/// Commands, oldest first, without their exchanges, and whose each is.
pub(super) async fn rows(
    work: &Transaction<'_>,
    which: &str,
    of: &(impl ToSql + Sync),
) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
    let sql = format!(
        "SELECT c.id, c.event, c.connection, c.flow, c.job, c.state, c.reason, c.due_at, coalesce(w.next_at, c.due_at),
             c.attempts, c.provider_id, s.state, s.code, EXISTS (SELECT 1 FROM sending x WHERE x.command = c.id), c.merchant,
             s.cost_micro, s.currency, f.after, f.why
         FROM command c LEFT JOIN waiting w ON w.command = c.id LEFT JOIN step f ON f.command = c.id
         LEFT JOIN sent s ON s.connection = c.connection AND s.provider_id = c.provider_id WHERE {which} ORDER BY c.id"
    );
    let statement = work.prepare_cached(&sql).await.map_err(failed)?;
    let mut found = Vec::new();
    for row in work.query(&statement, &[of]).await.map_err(failed)? {
        found.push((id(Kind::Merchant, &row, 14)?, read_command(&row)?));
    }
    Ok(found)
}

/// The same with their exchanges.
async fn commands(work: &Transaction<'_>, which: &str, of: Uuid) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
    let mut found = rows(work, which, &of).await?;
    let ids: Vec<Uuid> = found.iter().map(|(_, command)| uuid(command.id)).collect();
    let exchanges = work
        .prepare_cached(&format!("SELECT {EXCHANGE}, command FROM exchange WHERE command = ANY($1) ORDER BY id"))
        .await
        .map_err(failed)?;
    let mut of_command: HashMap<Uuid, Vec<Exchange>> = HashMap::new();
    for row in work.query(&exchanges, &[&ids]).await.map_err(failed)? {
        of_command.entry(get(&row, 11)?).or_default().push(read_exchange(&row)?);
    }
    for (_, command) in &mut found {
        command.exchanges = of_command.remove(&uuid(command.id)).unwrap_or_default();
    }
    Ok(found)
}

fn read_command(row: &Row) -> Result<TimelineCommand, StoreError> {
    let job: Value = doc(row, 4)?;
    Ok(TimelineCommand {
        id: id(Kind::Command, row, 0)?,
        event: maybe_id(Kind::Event, row, 1)?,
        connection: id(way_out_of(&job), row, 2)?,
        flow: maybe_id(Kind::Flow, row, 3)?,
        job,
        state: if get(row, 13)? { CommandState::Sending } else { command_state(get::<i16>(row, 5)? as u8) },
        reason: get(row, 6)?,
        due_at: get(row, 7)?,
        next_at: get(row, 8)?,
        attempts: get::<i32>(row, 9)?.unsigned_abs(),
        provider_id: get(row, 10)?,
        delivery: get::<Option<i16>>(row, 11)?.map(|state| delivery(state.into())),
        delivery_code: get(row, 12)?,
        cost: get::<Option<i64>>(row, 15)?.map(price::text),
        currency: get(row, 16)?,
        after: maybe_id(Kind::Command, row, 17)?,
        why: get(row, 18)?,
        exchanges: Vec::new(),
    })
}

pub(super) async fn exchange(client: &impl GenericClient, id: Id) -> Result<Option<Exchange>, StoreError> {
    let statement = client.prepare_cached(&format!("SELECT {EXCHANGE} FROM exchange WHERE id = $1")).await.map_err(failed)?;
    let row = client.query_opt(&statement, &[&uuid(id)]).await.map_err(failed)?;
    row.map(|row| read_exchange(&row)).transpose()
}

fn read_exchange(row: &Row) -> Result<Exchange, StoreError> {
    Ok(Exchange {
        id: id(Kind::Attempt, row, 0)?,
        merchant: id(Kind::Merchant, row, 1)?,
        connection: id(way_out(&get::<String>(row, 3)?), row, 2)?,
        provider: get(row, 3)?,
        at: get(row, 4)?,
        endpoint: get(row, 5)?,
        request: get(row, 6)?,
        response: get(row, 7)?,
        error: get(row, 8)?,
        duration_ms: get(row, 9)?,
        trace: get(row, 10)?,
    })
}
