//! A server as one end of a copy.

use deadpool_postgres::{GenericClient, Object};
use futures::{TryStreamExt, pin_mut};
use tokio::sync::mpsc::Sender;
use tokio_postgres::{
    Row as Found,
    types::{FromSqlOwned, ToSql},
};
use uuid::Uuid;
use uzel_model::Timestamp;

use super::{PostgresOptions, events, failed, fsck, get, no_connection, nodes, partitions, pool};
use crate::{
    StoreError,
    copy::{
        row::{Portion, Row, Value},
        tables::{Holds, POSTGRES_LEFT, POSTGRES_MADE, TABLES, Table},
        unfinished,
    },
};

/// One for the copy, one for the lock that keeps others away.
const CONNECTIONS: usize = 2;

/// A database on a server, which no node works on.
pub(crate) struct Server {
    client: Object,
    /// Whoever holds it copies; on the source, nobody starts meanwhile.
    _lock: Object,
}

/// A copy that was broken off is no store.
pub(super) async fn refuse_unfinished(client: &impl GenericClient) -> Result<(), StoreError> {
    match marked(client).await? {
        Some(mark) => Err(StoreError::Failed(unfinished(&mark))),
        None => Ok(()),
    }
}

async fn marked(client: &impl GenericClient) -> Result<Option<String>, StoreError> {
    let found = client.query_opt("SELECT value FROM claim WHERE name = 'copy'", &[]).await.map_err(failed)?;
    found.map(|row| Ok(String::from_utf8_lossy(&get::<Vec<u8>>(&row, 0)?).into_owned())).transpose()
}

/// The beginning of the week after that of a moment, in milliseconds since 1970.
pub(crate) fn next_week(at_ms: i64) -> i64 {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::MAX);
    partitions::start_of(partitions::week_of(at) + 1).as_millisecond()
}

impl Server {
    /// To be read, in one view of it.
    pub(crate) async fn source(options: &PostgresOptions) -> Result<Self, StoreError> {
        let (client, lock) = connect(options).await?;
        let there = client.query_one("SELECT to_regclass('migration') IS NOT NULL", &[]).await.map_err(failed)?;
        if !get::<bool>(&there, 0)? {
            return Err(StoreError::Failed("it is no database of Uzel".to_owned()));
        }
        let done: i32 = get(&client.query_one("SELECT coalesce(max(number), 0) FROM migration", &[]).await.map_err(failed)?, 0)?;
        if done != nodes::NEWEST {
            return Err(StoreError::Failed(format!(
                "its schema is of version {done}, not {}: run `uzel migrate --apply`",
                nodes::NEWEST
            )));
        }
        refuse_unfinished(&client).await?;
        // Whoever starts takes the same lock, and waits.
        alone(&lock, &[3, 0]).await?;
        nobody_works(&client).await?;
        everything_in_order(&client).await?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(failed)?;
        Ok(Self { client, _lock: lock })
    }

    /// To be filled; steps of the schema that are missing are taken where that is allowed.
    pub(crate) async fn target(options: &PostgresOptions) -> Result<Self, StoreError> {
        let (mut client, lock) = connect(options).await?;
        nodes::migrate(&mut client, options.migrate).await?;
        alone(&lock, &[3]).await?;
        nobody_works(&client).await?;
        partitions::ahead(&mut client).await?;
        // What is lost by a crash of the server is copied anew: the mark stays.
        client.batch_execute("SET synchronous_commit = off").await.map_err(failed)?;
        Ok(Self { client, _lock: lock })
    }

    /// Makes the partitions of these moments' weeks.
    pub(crate) async fn cover(&mut self, moments_ms: &[i64]) -> Result<(), StoreError> {
        for at_ms in moments_ms {
            if let Ok(at) = Timestamp::from_millisecond(*at_ms) {
                partitions::cover(&mut self.client, at, at).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn mark(&self) -> Result<Option<String>, StoreError> {
        marked(&self.client).await
    }

    /// On disk when this returns, and all that was written before.
    pub(crate) async fn set_mark(&self, mark: Option<String>) -> Result<(), StoreError> {
        self.client.batch_execute("SET synchronous_commit = on").await.map_err(failed)?;
        match mark {
            Some(mark) => self.client.execute("INSERT INTO claim VALUES ('copy', $1)", &[&mark.as_bytes()]).await,
            None => self.client.execute("DELETE FROM claim WHERE name = 'copy'", &[]).await,
        }
        .map_err(failed)?;
        self.client.batch_execute("SET synchronous_commit = off").await.map_err(failed)
    }

    /// Begins anew.
    pub(crate) async fn clear(&self) -> Result<(), StoreError> {
        let tables: Vec<&str> = TABLES.iter().map(|table| table.name).chain(POSTGRES_MADE.iter().copied()).collect();
        let left: Vec<&str> = POSTGRES_LEFT.iter().copied().filter(|table| *table != "node").collect();
        let sql = format!("TRUNCATE {}, {}", tables.join(", "), left.join(", "));
        self.client.batch_execute(&sql).await.map_err(failed)
    }

    /// How many rows the tables hold.
    pub(crate) async fn count(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let mut counts = Vec::new();
        for table in TABLES {
            let from = table.postgres.from.filter(|_| table.name == "claim").unwrap_or(table.name);
            let found = self.client.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.map_err(failed)?;
            counts.push((table.name, get::<i64>(&found, 0)?.unsigned_abs()));
        }
        Ok(counts)
    }

    pub(crate) async fn read(&self, table: &'static Table, rows: Sender<Vec<Row>>) -> Result<(), StoreError> {
        let mut portion = Portion::default();
        let found = self.client.query_raw(&select(table), std::iter::empty::<i32>()).await.map_err(failed)?;
        pin_mut!(found);
        while let Some(found) = found.try_next().await.map_err(failed)? {
            let values = table.columns.iter().enumerate().map(|(place, column)| decode(column.holds, &found, place));
            let row: Row = values.collect::<Result<_, _>>()?;
            if let Some(full) = portion.add(row)
                && rows.send(full).await.is_err()
            {
                return Ok(());
            }
        }
        if let Some(rest) = portion.rest() {
            // Nobody waits for it any more where the other end has failed, which tells why.
            drop(rows.send(rest).await);
        }
        Ok(())
    }

    pub(crate) async fn write(&self, table: &'static Table, rows: Vec<Row>) -> Result<(), StoreError> {
        let statement = self.client.prepare_cached(&insert(table)).await.map_err(failed)?;
        let columns = table.columns.iter().enumerate().map(|(place, column)| encode(column.holds, &rows, place));
        let columns: Vec<Box<dyn ToSql + Sync + Send + '_>> = columns.collect::<Result<_, _>>()?;
        let columns: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &columns).await.map(drop).map_err(failed)
    }

    /// Counts what was written, and lets the server know how much it is.
    pub(crate) async fn finish(&mut self) -> Result<(), StoreError> {
        let work = self.client.build_transaction().start().await.map_err(failed)?;
        work.batch_execute(fsck::RECOUNT).await.map_err(failed)?;
        events::go_on(&work).await?;
        work.commit().await.map_err(failed)?;
        self.client.batch_execute("ANALYZE").await.map_err(failed)
    }

    /// Also within the one view of a source.
    pub(crate) async fn laws(&self) -> Result<Vec<String>, StoreError> {
        fsck::look(&self.client, false).await
    }
}

async fn connect(options: &PostgresOptions) -> Result<(Object, Object), StoreError> {
    let session = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '10s'";
    let pool = pool(&nodes::server(options)?, CONNECTIONS, nodes::told_first(session.to_owned()))?;
    let clients = (pool.get().await.map_err(no_connection)?, pool.get().await.map_err(no_connection)?);
    nodes::own_sessions([&clients.0, &clients.1]).await?;
    Ok(clients)
}

/// Takes these locks as long as the connection stands.
async fn alone(lock: &Object, locks: &[i32]) -> Result<(), StoreError> {
    for place in locks {
        let taken = lock.query_one("SELECT pg_try_advisory_lock(2054841707, $1)", &[place]).await.map_err(failed)?;
        if !get::<bool>(&taken, 0)? {
            return Err(StoreError::Failed(
                "somebody else copies it, or a hub is starting on it: wait until that has ended".to_owned(),
            ));
        }
    }
    Ok(())
}

async fn nobody_works(client: &Object) -> Result<(), StoreError> {
    let nodes = client
        .query("SELECT name FROM node WHERE seen_at > clock_timestamp() - interval '30 seconds' ORDER BY name", &[])
        .await
        .map_err(failed)?;
    let names: Vec<String> = nodes.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Ok(());
    }
    Err(StoreError::Failed(format!(
        "hubs work on it ({}): stop them first. One that was killed counts as stopped after 30 s",
        names.join(", ")
    )))
}

/// SQLite reads entries in their order, and so keeps no word of a cancellation for what came before it.
async fn everything_in_order(client: &Object) -> Result<(), StoreError> {
    let before = client
        .query_one(
            "SELECT count(*) FROM unread u JOIN inbox j ON j.id = u.entry WHERE j.arrival < (SELECT max(arrival) FROM called_off)",
            &[],
        )
        .await
        .map_err(failed)?;
    match get::<i64>(&before, 0)? {
        0 => Ok(()),
        count => Err(StoreError::Failed(format!(
            "{count} entries that came before a cancellation are still unread: start a hub on it until they are read, then copy"
        ))),
    }
}

fn select(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| match column.postgres {
        Some(sql) => sql.to_owned(),
        None => format!("t.{}", column.name),
    });
    let columns: Vec<String> = columns.collect();
    let from = table.postgres.from.map_or_else(|| format!("{} t", table.name), str::to_owned);
    let order = table.postgres.order.map_or_else(String::new, |order| format!(" ORDER BY {order}"));
    format!("SELECT {} FROM {from}{order}", columns.join(", "))
}

fn decode(holds: Holds, row: &Found, place: usize) -> Result<Value, StoreError> {
    fn value<T: FromSqlOwned>(row: &Found, place: usize, keep: impl FnOnce(T) -> Value) -> Result<Value, StoreError> {
        Ok(get::<Option<T>>(row, place)?.map_or(Value::Null, keep))
    }
    match holds {
        Holds::Own(_) | Holds::Of(_) | Holds::Whole(_) | Holds::Id => {
            value::<Uuid>(row, place, |uuid| Value::Id(*uuid.as_bytes()))
        }
        Holds::Text | Holds::Event => value(row, place, Value::Text),
        Holds::Bytes => value(row, place, Value::Bytes),
        Holds::Time => value::<Timestamp>(row, place, |at| Value::Number(at.as_millisecond())),
        Holds::Flag => value::<bool>(row, place, |flag| Value::Number(flag.into())),
        Holds::Small => value::<i16>(row, place, |number| Value::Number(number.into())),
        Holds::Int => value::<i32>(row, place, |number| Value::Number(number.into())),
        Holds::Big => value(row, place, Value::Number),
        Holds::Place => value(row, place, Value::Place),
    }
}

fn type_of(holds: Holds) -> &'static str {
    match holds {
        Holds::Own(_) | Holds::Of(_) | Holds::Whole(_) | Holds::Id => "uuid",
        Holds::Text | Holds::Event => "text",
        Holds::Bytes => "bytea",
        Holds::Time => "timestamptz",
        Holds::Flag => "boolean",
        Holds::Small => "smallint",
        Holds::Int => "integer",
        Holds::Big | Holds::Place => "bigint",
    }
}

/// The values of one column, as an array.
fn encode<'a>(holds: Holds, rows: &'a [Row], place: usize) -> Result<Box<dyn ToSql + Sync + Send + 'a>, StoreError> {
    fn array<'a, T: ToSql + Sync + Send + 'a>(
        rows: &'a [Row],
        place: usize,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Box<dyn ToSql + Sync + Send + 'a>, StoreError> {
        let value = |row: &'a Row| match &row[place] {
            Value::Null => Ok(None),
            value => read(value)
                .map(Some)
                .ok_or_else(|| StoreError::Failed("a value is beyond what the other store can hold".to_owned())),
        };
        Ok(Box::new(rows.iter().map(value).collect::<Result<Vec<Option<T>>, _>>()?))
    }
    fn number<T: TryFrom<i64>>(value: &Value) -> Option<T> {
        match value {
            Value::Number(number) | Value::Place(number) => (*number).try_into().ok(),
            _ => None,
        }
    }
    match holds {
        Holds::Own(_) | Holds::Of(_) | Holds::Whole(_) | Holds::Id => array(rows, place, |value| match value {
            Value::Id(id) => Some(Uuid::from_bytes(*id)),
            _ => None,
        }),
        Holds::Text | Holds::Event => array(rows, place, |value| match value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        }),
        Holds::Bytes => array(rows, place, |value| match value {
            Value::Bytes(bytes) => Some(bytes.as_slice()),
            _ => None,
        }),
        Holds::Time => array(rows, place, |value| Timestamp::from_millisecond(number(value)?).ok()),
        Holds::Flag => array(rows, place, |value| Some(number::<i64>(value)? != 0)),
        Holds::Small => array(rows, place, number::<i16>),
        Holds::Int => array(rows, place, number::<i32>),
        Holds::Big | Holds::Place => array(rows, place, number::<i64>),
    }
}

/// One statement for a whole portion.
fn insert(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let names = names.join(", ");
    let arrays: Vec<String> =
        table.columns.iter().enumerate().map(|(place, column)| format!("${}::{}[]", place + 1, type_of(column.holds))).collect();
    let rows =
        format!("WITH r AS MATERIALIZED (SELECT * FROM unnest({}) WITH ORDINALITY AS r ({names}, nth))", arrays.join(", "));
    match table.postgres.write {
        Some(write) => format!("{rows} {write}"),
        None => format!("{rows} INSERT INTO {} ({names}) SELECT {names} FROM r ORDER BY nth", table.name),
    }
}
