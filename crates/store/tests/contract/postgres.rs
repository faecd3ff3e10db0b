//! The store on a server: each case has a database of its own.

use std::sync::Arc;

use uzel_model::{Id, id::Kind};
use uzel_store::{Postgres, PostgresOptions, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ByHand) {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    (Arc::new(Postgres::open(PostgresOptions::new(&url)).await.unwrap()), ByHand(url))
}

/// What is done behind the store's back.
pub(super) struct ByHand(String);

impl ByHand {
    /// Another node of the same store.
    async fn node(&self, _: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Postgres::open(PostgresOptions::new(&self.0)).await.unwrap())
    }

    async fn run(&self, sql: &str) -> bool {
        let (client, connection) = tokio_postgres::connect(&self.0, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        true
    }

    async fn one_key_for_all(&self) -> bool {
        self.run("UPDATE command SET order_key = 7; UPDATE waiting SET order_key = 7").await
    }

    async fn forget_first_event(&self) -> bool {
        self.run("DELETE FROM event WHERE id = (SELECT id FROM event ORDER BY id LIMIT 1)").await
    }

    async fn one_point_more(&self) -> bool {
        self.run("UPDATE wallet SET balance = balance + 1").await
    }
}

#[tokio::test]
async fn what_was_set_up_before_changes_were_kept_is_its_first_version() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let (old, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    old.batch_execute(include_str!("../../src/postgres/migrations/1_first.sql")).await.unwrap();
    let merchant = Id::new(Kind::Merchant);
    old.batch_execute(&format!(
        "CREATE TABLE migration
             (number integer PRIMARY KEY, name text NOT NULL, needs integer NOT NULL, applied_at timestamptz NOT NULL);
         INSERT INTO migration VALUES (1, 'first', 1, now());
         INSERT INTO setup VALUES ('{}', 'merchant', NULL, 'm', '{{\"a\":1}}', NULL);
         INSERT INTO access_key VALUES ('\\x01', 'key_1', NULL, 'owner', false)",
        uuid::Uuid::from_bytes(*merchant.as_bytes())
    ))
    .await
    .unwrap();
    super::is_its_first_version(&Postgres::open(PostgresOptions::new(&url)).await.unwrap(), merchant).await;
    connection.abort();
}

#[path = "answers.rs"]
mod answers;
#[path = "codes.rs"]
mod codes;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
