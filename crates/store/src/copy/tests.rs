//! The lists against both schemas.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{Holds, POSTGRES_LEFT, POSTGRES_MADE, POSTGRES_OWN, SQLITE_LEFT, SQLITE_MADE, TABLES, Table, Thing, Way};
use crate::{postgres, sqlite};

type Schema = BTreeMap<String, BTreeSet<String>>;

/// What the lists say of a store: of each table that is copied the columns, and of others nothing but the name.
fn listed(others: &[&[&str]], way: fn(&Table) -> &Way, name: fn(Holds, &'static str) -> Vec<&'static str>) -> Schema {
    let mut listed: Schema = others.iter().flat_map(|names| *names).map(|name| ((*name).to_owned(), BTreeSet::new())).collect();
    for table in TABLES {
        let columns = table.columns.iter().flat_map(|column| name(column.holds, column.name));
        let columns = columns.chain(way(table).made.iter().copied()).map(str::to_owned).collect();
        assert!(listed.insert(table.name.to_owned(), columns).is_none(), "{} is listed twice", table.name);
    }
    listed
}

/// Of tables that are not copied the columns are nobody's business.
fn only_copied(mut schema: Schema) -> Schema {
    for (table, columns) in &mut schema {
        if !TABLES.iter().any(|copied| copied.name == table) {
            columns.clear();
        }
    }
    schema
}

#[test]
fn every_table_and_column_of_sqlite_is_copied_or_is_known_to_be_made_or_left() {
    let db = rusqlite::Connection::open_in_memory().unwrap();
    for (_, step) in sqlite::STEPS {
        db.execute_batch(step).unwrap();
    }
    let mut schema = Schema::new();
    let mut query =
        db.prepare("SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'").unwrap();
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    for (table, column) in rows.map(Result::unwrap) {
        schema.entry(table).or_default().insert(column);
    }
    // An event's id stands in its document only, and its place in the feed is made anew.
    let name = |holds, name| if matches!(holds, Holds::Own(Thing::Event) | Holds::Place) { vec![] } else { vec![name] };
    assert_eq!(only_copied(schema), listed(&[SQLITE_MADE, SQLITE_LEFT], |table| &table.sqlite, name));
}

#[tokio::test]
async fn every_table_and_column_of_postgresql_is_copied_or_is_known_to_be_made_or_left() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let store = postgres::Postgres::open(postgres::PostgresOptions::new(&url)).await.unwrap();
    crate::Store::close(&store).await;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let rows = client
        .query(
            "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
                 AND NOT a.attisdropped",
            &[],
        )
        .await
        .unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let mut schema = Schema::new();
    for row in rows {
        schema.entry(row.get(0)).or_default().insert(row.get(1));
    }
    // Where a command stands in the queue is kept in a table of its own.
    let name = |_, name| if matches!(name, "behind" | "next_at") { vec![] } else { vec![name] };
    assert_eq!(only_copied(schema), listed(&[POSTGRES_MADE, POSTGRES_LEFT, POSTGRES_OWN], |table| &table.postgres, name));
}
