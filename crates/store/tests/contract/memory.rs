//! The model of a store, on which the engine's loops are simulated.

use std::sync::Arc;

use uzel_store::{Memory, Store};

/// A new store, and what goes with it when the test ends.
pub(super) async fn open() -> (Arc<dyn Store>, ()) {
    (Arc::new(Memory::new(jiff::Timestamp::now)), ())
}

#[path = "answers.rs"]
mod answers;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
