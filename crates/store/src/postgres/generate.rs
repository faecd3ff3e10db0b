//! The store on a server, filled by COPY. What ended long ago is written as it stands in the end, not by way of the tables that it
//! went through.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    pin::pin,
};

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use uuid::Uuid;
use uzel_model::{Event, Timestamp, signature::fingerprint};

use super::{
    Postgres, PostgresOptions, failed,
    journal::text,
    partitions, uuid,
    work::{self, ExchangeRow, Gathered},
};
use crate::{
    CommandState, EntryState, Mark, Store, StoreError,
    generate::{Past, Text},
    numbers::{command_number, command_tally, entry_number, entry_tally, key, source_number, subject},
    ready::EntryRow,
};

/// The values of one row.
type Row<'a> = Vec<Box<dyn ToSql + Sync + Send + 'a>>;

macro_rules! row {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value) as Box<dyn ToSql + Sync + Send + '_>),*] };
}

/// Hashes fall anywhere in their index: so many are put in order and written at once.
const GATHERED: usize = 1_000_000;

/// The tables that it fills.
const TABLES: &str = "inbox, outcome, event, command, exchange, reference, seen, sent, waiting, trouble";

/// Fills one database.
pub(crate) struct Generator {
    store: Postgres,
    client: Object,
    seen: Vec<Uuid>,
    references: BTreeSet<(i64, Uuid)>,
    /// Ordering keys of what waits.
    waiting: HashSet<i64>,
    tally: HashMap<&'static str, i64>,
}

impl Generator {
    pub(crate) async fn open(options: PostgresOptions, from: Timestamp, to: Timestamp) -> Result<Self, StoreError> {
        let store = Postgres::open(options).await?;
        let mut client = store.core.writer().await?;
        client
            .batch_execute("SET synchronous_commit = off; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            .await
            .map_err(failed)?;
        partitions::cover(&mut client, from, to).await?;
        let (seen, references, waiting, tally) = Default::default();
        Ok(Self { store, client, seen, references, waiting, tally })
    }

    pub(crate) async fn write(&mut self, pasts: &[Past]) -> Result<(), StoreError> {
        for past in pasts {
            self.gather(past)?;
        }
        let work = self.client.build_transaction().start().await.map_err(failed)?;
        put_entries(&work, pasts).await?;
        put_events(&work, pasts).await?;
        put_texts(&work, pasts).await?;
        if self.references.len() >= GATHERED {
            put_references(&work, &std::mem::take(&mut self.references)).await?;
        }
        work.commit().await.map_err(failed)
    }

    /// What is written later: hashes, and counts.
    fn gather(&mut self, past: &Past) -> Result<(), StoreError> {
        *self.tally.entry(entry_tally(state(past))).or_default() += 1;
        let Some(event) = &past.event else { return Ok(()) };
        self.seen.push(seen(event));
        let entry = uuid(past.entry.id);
        let mut found_by: Vec<&str> = event.refs.iter().map(String::as_str).collect();
        found_by.extend(event.phone.as_ref().map(|phone| phone.e164.as_str()));
        let about = subject(event.connection, &event.subject);
        if let Some(Text { settlement, .. }) = &past.text {
            found_by.extend(settlement.refs.iter().map(String::as_str));
            found_by.push(&about);
            *self.tally.entry(command_tally(settlement.state)).or_default() += 1;
        }
        self.references.extend(found_by.into_iter().map(|text| (key(text), entry)));
        if let Some(text) = past.text.as_ref().filter(|_| past.waits())
            && !self.waiting.insert(key(&text.ordering_key))
        {
            return Err(StoreError::Failed("two of one ordering key wait: only one can be generated".to_owned()));
        }
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        self.seen.sort_unstable();
        let work = self.client.build_transaction().start().await.map_err(failed)?;
        copy(&work, "seen", &[("key", Type::UUID)], self.seen.iter().map(|key| row![key])).await?;
        put_references(&work, &self.references).await?;
        let mut counts = Gathered::default();
        self.tally.iter().for_each(|(what, by)| counts.count(*what, *by));
        work::write_gathered(&work, counts, 0).await?;
        work.commit().await.map_err(failed)?;
        // As a server does by itself in time.
        self.client.batch_execute(&format!("VACUUM (ANALYZE) {TABLES}")).await.map_err(failed)?;
        drop(self.client);
        self.store.close().await;
        Ok(())
    }
}

fn state(past: &Past) -> EntryState {
    if past.event.is_some() { EntryState::Read } else { EntryState::Dead }
}

fn seen(event: &Event) -> Uuid {
    Uuid::from_bytes(fingerprint([event.connection.as_bytes().as_slice(), event.key.as_bytes()]))
}

/// Rows of one table.
async fn copy<'a>(
    work: &Transaction<'_>,
    table: &str,
    columns: &[(&str, Type)],
    rows: impl Iterator<Item = Row<'a>>,
) -> Result<(), StoreError> {
    let (names, types): (Vec<&str>, Vec<Type>) = columns.iter().cloned().unzip();
    let sql = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let mut writer = pin!(BinaryCopyInWriter::new(work.copy_in(&sql).await.map_err(failed)?, &types));
    for row in rows {
        writer.as_mut().write_raw(row).await.map_err(failed)?;
    }
    writer.finish().await.map_err(failed).map(drop)
}

async fn put_references(work: &Transaction<'_>, references: &BTreeSet<(i64, Uuid)>) -> Result<(), StoreError> {
    let columns = [("key", Type::INT8), ("entry", Type::UUID)];
    copy(work, "reference", &columns, references.iter().map(|(key, entry)| row![key, entry])).await
}

/// What came, and what became of it where it was not simply read.
async fn put_entries(work: &Transaction<'_>, pasts: &[Past]) -> Result<(), StoreError> {
    let rows: Vec<EntryRow> = pasts.iter().map(|past| past.entry.clone().into()).collect();
    let columns = [
        ("id", Type::UUID),
        ("merchant", Type::UUID),
        ("connection", Type::UUID),
        ("provider", Type::TEXT),
        ("source", Type::INT2),
        ("trace", Type::TEXT),
        ("method", Type::TEXT),
        ("path", Type::TEXT),
        ("query", Type::TEXT),
        ("headers", Type::TEXT),
        ("body", Type::BYTEA),
        ("received_at", Type::TIMESTAMPTZ),
        ("peer", Type::TEXT),
        ("proof", Type::TEXT),
        ("answer", Type::TEXT),
    ];
    let inbox = rows.iter().map(|EntryRow { entry, query, headers }| {
        let request = &entry.request;
        row![
            uuid(entry.id),
            uuid(entry.merchant),
            uuid(entry.connection),
            text(&entry.provider),
            i16::from(source_number(entry.source)),
            text(&entry.trace),
            text(&request.method),
            text(&request.path),
            text(query),
            text(headers),
            &request.body[..],
            request.received_at,
            request.peer.map(|peer| peer.to_string()),
            request.key.as_deref().map(text),
            text(&entry.answer),
        ]
    });
    copy(work, "inbox", &columns, inbox).await?;
    let columns = [("entry", Type::UUID), ("state", Type::INT2), ("notes", Type::TEXT)];
    let marks: Vec<Mark> = pasts.iter().filter_map(|past| past.reading().mark).collect();
    let outcomes = marks.iter().filter(|mark| mark.state != EntryState::Read);
    let outcomes = outcomes
        .map(|mark| row![uuid(mark.entry), i16::from(entry_number(mark.state)), text(&mark.notes.join("\n")).into_owned()]);
    copy(work, "outcome", &columns, outcomes).await
}

async fn put_events(work: &Transaction<'_>, pasts: &[Past]) -> Result<(), StoreError> {
    let columns = [
        ("id", Type::UUID),
        ("entry", Type::UUID),
        ("pending", Type::BOOL),
        ("doc", Type::TEXT),
        ("merchant", Type::UUID),
        ("connection", Type::UUID),
        ("kind", Type::TEXT),
        // Told before anybody asked.
        ("place", Type::INT8),
    ];
    let events = pasts.iter().filter_map(|past| past.event.as_ref());
    let events = events.map(|event| {
        let doc = serde_json::to_string(event).expect("an event is JSON");
        let (merchant, connection) = (uuid(event.merchant), uuid(event.connection));
        row![uuid(event.id), uuid(event.entry), false, doc, merchant, connection, text(&event.kind), 0_i64]
    });
    copy(work, "event", &columns, events).await
}

/// Commands as they ended, or as they wait.
async fn put_texts(work: &Transaction<'_>, pasts: &[Past]) -> Result<(), StoreError> {
    let texts: Vec<(&Event, &Text)> = pasts.iter().filter_map(|past| Some((past.event.as_ref()?, past.text.as_ref()?))).collect();
    put_commands(work, &texts).await?;
    let columns = [
        ("command", Type::UUID),
        ("connection", Type::UUID),
        ("order_key", Type::INT8),
        ("subject_key", Type::INT8),
        ("due_at", Type::TIMESTAMPTZ),
        ("next_at", Type::TIMESTAMPTZ),
        ("attempts", Type::INT4),
        ("behind", Type::BOOL),
    ];
    let of = |state: fn(CommandState) -> bool| texts.iter().filter(move |(_, text)| state(text.settlement.state));
    let waiting = of(|state| state == CommandState::Waiting).map(|(event, text)| {
        let Text { command, ordering_key, settlement } = text;
        let next_at = settlement.retry_at.unwrap_or(command.due_at);
        row![
            uuid(command.id),
            uuid(command.connection),
            key(ordering_key),
            subject_key(event),
            command.due_at,
            next_at,
            i32::from(settlement.counts),
            false,
        ]
    });
    copy(work, "waiting", &columns, waiting).await?;
    let columns = [("command", Type::UUID), ("entry", Type::UUID), ("subject_key", Type::INT8), ("state", Type::INT2)];
    let trouble = of(|state| !matches!(state, CommandState::Waiting | CommandState::Done)).map(|(event, text)| {
        let state = i16::from(command_number(text.settlement.state));
        row![uuid(text.command.id), uuid(event.entry), subject_key(event), state]
    });
    copy(work, "trouble", &columns, trouble).await?;
    let columns = [
        ("connection", Type::UUID),
        ("provider_id", Type::TEXT),
        ("command", Type::UUID),
        ("at", Type::TIMESTAMPTZ),
        ("state", Type::INT2),
    ];
    let sent = of(|state| state == CommandState::Done).filter_map(|(_, text)| {
        let (provider_id, exchange) = (text.settlement.provider_id.as_deref()?, text.settlement.exchanges.last()?);
        Some(row![uuid(exchange.connection), provider_id, uuid(text.command.id), exchange.at, 0_i16])
    });
    copy(work, "sent", &columns, sent).await?;
    let exchanges = texts.iter().flat_map(|(_, text)| {
        text.settlement.exchanges.iter().map(|exchange| ExchangeRow {
            exchange: exchange.clone(),
            command: Some(uuid(text.command.id)),
            attempt: text.settlement.counts.into(),
            retry_at: text.settlement.retry_at,
        })
    });
    let exchanges: Vec<ExchangeRow> = exchanges.collect();
    Ok(work::put_exchanges(work, &exchanges).await?)
}

fn subject_key(event: &Event) -> i64 {
    key(&subject(event.connection, &event.subject))
}

async fn put_commands(work: &Transaction<'_>, texts: &[(&Event, &Text)]) -> Result<(), StoreError> {
    let columns = [
        ("id", Type::UUID),
        ("merchant", Type::UUID),
        ("connection", Type::UUID),
        ("source", Type::UUID),
        ("flow", Type::UUID),
        ("event", Type::UUID),
        ("entry", Type::UUID),
        ("job", Type::TEXT),
        ("repeatable", Type::BOOL),
        ("state", Type::INT2),
        ("due_at", Type::TIMESTAMPTZ),
        ("latest_at", Type::TIMESTAMPTZ),
        ("order_key", Type::INT8),
        ("subject_key", Type::INT8),
        ("attempts", Type::INT4),
        ("reason", Type::TEXT),
        ("provider_id", Type::TEXT),
        ("trace", Type::TEXT),
    ];
    let commands = texts.iter().map(|(event, Text { command, ordering_key, settlement })| {
        row![
            uuid(command.id),
            uuid(command.merchant),
            uuid(command.connection),
            uuid(command.source),
            command.flow.map(uuid),
            command.event.map(uuid),
            uuid(event.entry),
            serde_json::to_string(&command.job).expect("a job is JSON"),
            command.job.repeatable(),
            i16::from(command_number(settlement.state)),
            command.due_at,
            command.latest_at,
            key(ordering_key),
            subject_key(event),
            i32::from(settlement.counts),
            settlement.reason.as_deref(),
            settlement.provider_id.as_deref(),
            text(&command.trace),
        ]
    });
    copy(work, "command", &columns, commands).await
}
