//! The embedded store.

use std::sync::Arc;

use uzel_store::{Sqlite, Store};

/// A new store, and what goes with it when the test ends.
pub(super) async fn open() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(Sqlite::open(&folder.path().join("uzel.db")).unwrap()), folder)
}

#[path = "answers.rs"]
mod answers;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
