//! The inbox, and the journal as people read it.
#![allow(unused_variables, reason = "being written")]

use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Event, Id, Timestamp};

use crate::{Counts, Entry, Health, JournalFilter, JournalRow, StoreError};

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}

/// The columns of an entry, as [`read_entry`] takes them.
pub(super) const ENTRY: &str =
    "id, merchant, connection, provider, source, trace, method, path, query, headers, body, received_at, peer, proof, answer";

pub(super) fn read_entry(row: &tokio_postgres::Row) -> Result<Entry, StoreError> {
    not_yet()
}
pub(super) async fn entry(client: &impl GenericClient, entry: Id) -> Result<Option<Entry>, StoreError> {
    not_yet()
}
pub(super) async fn event(client: &impl GenericClient, event: Id) -> Result<Option<Event>, StoreError> {
    not_yet()
}
pub(super) async fn list(client: &mut Object, filter: &JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
    not_yet()
}
pub(super) async fn dead(
    client: &impl GenericClient,
    provider: Option<&str>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<Id>, StoreError> {
    not_yet()
}
pub(super) async fn counts(client: &mut Object) -> Result<Counts, StoreError> {
    not_yet()
}
pub(super) async fn health(client: &impl GenericClient, connections: &[Id]) -> Result<Health, StoreError> {
    not_yet()
}

/// A text without what PostgreSQL refuses in texts.
pub(super) fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

pub(super) async fn append(
    client: &impl GenericClient,
    rows: &[&crate::ready::EntryRow],
    held: Option<std::time::Duration>,
    shard: i32,
) -> Result<(), tokio_postgres::Error> {
    Ok(())
}
