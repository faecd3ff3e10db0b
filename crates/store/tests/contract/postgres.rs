//! The store on a server: each case has a database of its own.

use std::sync::Arc;

use uzel_store::{Postgres, PostgresOptions, Store};

pub(super) async fn open() -> (Arc<dyn Store>, ()) {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    (Arc::new(Postgres::open(PostgresOptions::new(&url)).await.unwrap()), ())
}

#[path = "answers.rs"]
mod answers;
#[path = "setup.rs"]
mod setup;
#[path = "suite.rs"]
mod suite;
