//! The embedded store.

use std::sync::Arc;

use uzel_store::{Sqlite, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ByHand) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(Sqlite::open(&folder.path().join("uzel.db")).unwrap()), ByHand(folder))
}

/// What is done behind the store's back.
pub(super) struct ByHand(tempfile::TempDir);

impl ByHand {
    fn run(&self, sql: &str) -> bool {
        rusqlite::Connection::open(self.0.path().join("uzel.db")).unwrap().execute_batch(sql).unwrap();
        true
    }

    async fn one_key_for_all(&self) -> bool {
        self.run("UPDATE command SET order_key = 7")
    }

    async fn forget_first_event(&self) -> bool {
        self.run("DELETE FROM event WHERE ordinal = (SELECT min(ordinal) FROM event)")
    }
}

#[path = "suite.rs"]
mod suite;
