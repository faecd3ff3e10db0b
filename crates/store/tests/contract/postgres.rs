//! The store on a server: each case has a database of its own.

use std::sync::Arc;

use uzel_store::{Postgres, PostgresOptions, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ByHand) {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    (Arc::new(Postgres::open(PostgresOptions::new(&url)).await.unwrap()), ByHand(url))
}

/// What is done behind the store's back.
pub(super) struct ByHand(String);

impl ByHand {
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
}

#[path = "suite.rs"]
mod suite;
