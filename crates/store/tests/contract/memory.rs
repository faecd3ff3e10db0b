//! The model of a store, on which the engine's loops are simulated.

use std::sync::Arc;

use uzel_store::{Memory, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ByHand) {
    let store = Memory::new(jiff::Timestamp::now);
    let by_hand = ByHand(store.node());
    (Arc::new(store), by_hand)
}

/// Nothing can be done behind its back.
pub(super) struct ByHand(Memory);

impl ByHand {
    /// Another node of the same store.
    async fn node(&self, _: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(self.0.node())
    }

    async fn one_key_for_all(&self) -> bool {
        false
    }

    async fn forget_first_event(&self) -> bool {
        false
    }

    async fn one_point_more(&self) -> bool {
        false
    }
}

#[path = "answers.rs"]
mod answers;
#[path = "codes.rs"]
mod codes;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
