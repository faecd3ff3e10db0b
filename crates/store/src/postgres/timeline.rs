//! All that followed from one entry of the inbox, found by any id in it.
#![allow(unused_variables, dead_code, reason = "being written")]

use crate::{Exchange, StoreError, Timeline, TimelineCommand};
use deadpool_postgres::{GenericClient, Object};
use uzel_model::Id;

fn not_yet<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("being written".to_owned()))
}
pub(super) async fn of(client: &mut Object, id: Id) -> Result<Option<Timeline>, StoreError> {
    not_yet()
}
/// One command, and the merchant whose it is; also one that belongs to no entry.
pub(super) async fn command(client: &mut Object, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
    not_yet()
}
pub(super) async fn exchange(client: &impl GenericClient, id: Id) -> Result<Option<Exchange>, StoreError> {
    not_yet()
}
