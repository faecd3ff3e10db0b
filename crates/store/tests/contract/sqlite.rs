//! The embedded store.

use std::sync::Arc;

use uzel_model::{Id, id::Kind};
use uzel_store::{Sqlite, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ByHand) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(Sqlite::open(&folder.path().join("uzel.db")).unwrap()), ByHand(folder))
}

/// What is done behind the store's back.
pub(super) struct ByHand(tempfile::TempDir);

impl ByHand {
    /// Another node of the same store: of a file there is one.
    async fn node(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        store.clone()
    }

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

    async fn one_point_more(&self) -> bool {
        self.run("UPDATE wallet SET balance = balance + 1")
    }
}

#[tokio::test]
async fn what_was_set_up_before_changes_were_kept_is_its_first_version() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("uzel.db");
    let old = rusqlite::Connection::open(&file).unwrap();
    for step in [
        include_str!("../../src/sqlite/migrations/1_first.sql"),
        include_str!("../../src/sqlite/migrations/2_publish.sql"),
        include_str!("../../src/sqlite/migrations/3_journal.sql"),
    ] {
        old.execute_batch(step).unwrap();
    }
    let merchant = Id::new(Kind::Merchant);
    old.execute("INSERT INTO setup VALUES (?1, 'merchant', NULL, 'm', '{\"a\":1}', NULL)", [merchant.as_bytes()]).unwrap();
    old.execute("INSERT INTO access_key VALUES (x'01', 'key_1', NULL, 'owner', 0)", []).unwrap();
    old.execute_batch("PRAGMA user_version = 3").unwrap();
    drop(old);
    super::is_its_first_version(&Sqlite::open(&file).unwrap(), merchant).await;
}

#[path = "answers.rs"]
mod answers;
#[path = "codes.rs"]
mod codes;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
