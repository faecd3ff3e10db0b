//! The server and its nodes: connecting, migrations, the word to the others, the list of nodes.
#![allow(unused_variables, dead_code, reason = "being written")]

use std::sync::Arc;

use deadpool_postgres::{GenericClient, Hook};
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;
use uzel_model::{Id, Timestamp};

use super::{Core, PostgresOptions};
use crate::{About, News, StoreError};

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}

/// What this node has done and the others should know: gathered, and told at most every few milliseconds.
#[derive(Default)]
pub(super) struct Told;

impl Told {
    pub(super) fn due(&self) {}
    pub(super) fn setup(&self) {}
    pub(super) fn login(&self, connection: Id) {}
    pub(super) fn breakers(&self) {}
}

pub(super) fn config(options: &PostgresOptions) -> Result<Config, StoreError> {
    not_yet()
}
pub(super) fn tls(config: &Config) -> Result<Option<MakeRustlsConnect>, StoreError> {
    not_yet()
}
/// What every new session is told.
pub(super) fn prepare_session(options: &PostgresOptions) -> Hook {
    Hook::async_fn(|client, _| Box::pin(async move { Ok(()) }))
}
pub(super) async fn migrate(core: &Core) -> Result<(), StoreError> {
    not_yet()
}
/// Listens to the other nodes, tells them, keeps this node's row, looks for entries of nodes that are gone, makes partitions.
pub(super) fn start(core: &Arc<Core>) {}
pub(super) async fn leave(core: &Core) {}
pub(super) async fn writable(core: &Core) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn clock(client: &impl GenericClient) -> Result<Timestamp, StoreError> {
    not_yet()
}
pub(super) async fn about(client: &impl GenericClient) -> Result<About, StoreError> {
    not_yet()
}
