//! What is kept beside the journal to watch over connections.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::{OpenBreaker, Refusal, Rhythm, StoreError};
use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Id, Timestamp};

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn put_refusals(client: &mut Object, refusals: &[Refusal]) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn refusals(client: &impl GenericClient, place: &str) -> Result<Vec<Refusal>, StoreError> {
    not_yet()
}
pub(super) async fn put_breaker(
    client: &impl GenericClient,
    connection: Id,
    open: Option<&OpenBreaker>,
) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn breakers(client: &impl GenericClient) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
    not_yet()
}
pub(super) async fn put_rhythms(client: &mut Object, rhythms: &[(Id, Rhythm)]) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn rhythms(client: &impl GenericClient) -> Result<Vec<(Id, Rhythm)>, StoreError> {
    not_yet()
}
pub(super) async fn undelivered(
    client: &impl GenericClient,
    connection: Id,
    after: Timestamp,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    not_yet()
}
