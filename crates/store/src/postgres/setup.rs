//! What is set up, and what is known of people and logins.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::{Notice, Setup, StoreError};
use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Id, Timestamp};

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn load(client: &impl GenericClient) -> Result<Setup, StoreError> {
    not_yet()
}
pub(super) async fn put(client: &mut Object, setup: &Setup) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn session(client: &impl GenericClient, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
    not_yet()
}
pub(super) async fn put_session(client: &impl GenericClient, connection: Id, sealed: &[u8]) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn cursor(client: &impl GenericClient, connection: Id) -> Result<Option<String>, StoreError> {
    not_yet()
}
pub(super) async fn put_consent(
    client: &impl GenericClient,
    merchant: Id,
    phone: &str,
    granted: bool,
    proof: &str,
    at: Timestamp,
) -> Result<bool, StoreError> {
    not_yet()
}
pub(super) async fn notices(client: &impl GenericClient, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
    not_yet()
}
