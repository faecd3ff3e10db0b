//! Retention: what is older than its time goes.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::StoreError;
use deadpool_postgres::Object;
use uzel_model::Timestamp;

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn purge(client: &mut Object, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    not_yet()
}
