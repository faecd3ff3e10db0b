//! Events that are still to be published.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::StoreError;
use deadpool_postgres::{GenericClient, Object};
use uzel_model::{Event, Timestamp};

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn switch(client: &mut Object, on: bool) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn unpublished(client: &impl GenericClient, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
    not_yet()
}
pub(super) async fn published(client: &impl GenericClient, numbers: &[i64]) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn waiting(client: &impl GenericClient) -> Result<(u64, Option<Timestamp>), StoreError> {
    not_yet()
}
