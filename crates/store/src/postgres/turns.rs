//! What nodes take in turn, and what they remember together.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::{Once, StoreError};
use deadpool_postgres::{GenericClient, Object};
use std::collections::VecDeque;

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn take(
    client: &impl GenericClient,
    name: &str,
    every_ms: i64,
    hold_ms: i64,
) -> Result<Option<i64>, StoreError> {
    not_yet()
}
pub(super) async fn give_back(client: &impl GenericClient, name: &str, token: i64) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn claim(client: &impl GenericClient, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
    not_yet()
}
pub(super) async fn moments(
    client: &mut Object,
    names: &[String],
    change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
) -> Result<(), StoreError> {
    not_yet()
}
pub(super) async fn once(client: &impl GenericClient, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
    not_yet()
}
