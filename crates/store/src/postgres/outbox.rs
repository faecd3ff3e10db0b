//! The outbox: what waits, in which order, and what is being sent.
#![allow(unused_variables, reason = "being written")]

use uzel_model::{Id, Timestamp};

use super::Core;
use crate::{Leased, StoreError};

pub(super) async fn lease(
    core: &Core,
    now: Timestamp,
    shares: &[(Id, usize)],
    limit: usize,
    lease_ms: i64,
) -> Result<Leased, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}

pub(super) async fn recover(core: &Core, now: Timestamp) -> Result<(u64, u64), StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
