//! The embedded store as one end of a copy.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rusqlite::{
    Connection, OptionalExtension, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};
use tokio::sync::mpsc::Sender;
use uzel_model::{Id, id::Kind};

use super::{STEPS, failed, file, fsck, migrate, open, reference};
use crate::{
    StoreError,
    copy::{
        row::{Portion, Row, Value},
        tables::{Holds, TABLES, Table, Thing},
        unfinished,
    },
};

/// Weeks of rows that get a partition of their own at the most; what is in others goes to the partition for the rest.
const WEEKS_MAX: usize = 1_000;

/// A database file, which no hub works on.
pub(crate) struct File {
    path: PathBuf,
    db: Arc<Mutex<Connection>>,
}

/// A copy that was broken off is no store.
pub(super) fn refuse_unfinished(db: &Connection) -> Result<(), StoreError> {
    match marked(db)? {
        Some(mark) => Err(StoreError::Failed(unfinished(&mark))),
        None => Ok(()),
    }
}

fn marked(db: &Connection) -> Result<Option<String>, StoreError> {
    let found = db.query_row("SELECT value FROM claim WHERE name = 'copy'", [], |row| row.get::<_, Vec<u8>>(0)).optional();
    Ok(found.map_err(failed)?.map(|mark| String::from_utf8_lossy(&mark).into_owned()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Failed(error.to_string()))?
}

impl File {
    /// Opened to be read, in one view of it.
    pub(crate) fn source(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Failed(format!("{}: no such file", path.display())));
        }
        let db = open(path, false)?;
        let (done, known) = (file::version(&db)?, STEPS.len());
        if done != known {
            return Err(StoreError::Failed(format!("its schema is of version {done}, not {known}: run `uzel migrate --apply`")));
        }
        refuse_unfinished(&db)?;
        db.execute_batch("BEGIN").map_err(failed)?;
        Ok(Self { path: path.to_owned(), db: Arc::new(Mutex::new(db)) })
    }

    /// Opened to be filled, or made.
    pub(crate) fn target(path: &Path) -> Result<Self, StoreError> {
        let db = open(path, true)?;
        migrate(&db)?;
        Ok(Self { path: path.to_owned(), db: Arc::new(Mutex::new(db)) })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = self.db.clone();
        blocking(move || work(&db.lock())).await
    }

    pub(crate) async fn mark(&self) -> Result<Option<String>, StoreError> {
        self.with(marked).await
    }

    pub(crate) async fn set_mark(&self, mark: Option<String>) -> Result<(), StoreError> {
        self.with(move |db| {
            let done = match mark {
                Some(mark) => db.execute("INSERT INTO claim VALUES ('copy', ?1)", [mark.as_bytes()]),
                None => db.execute("DELETE FROM claim WHERE name = 'copy'", []),
            };
            done.map(drop).map_err(failed)
        })
        .await
    }

    /// Begins anew.
    pub(crate) async fn clear(&self) -> Result<(), StoreError> {
        let (path, db) = (self.path.clone(), self.db.clone());
        blocking(move || {
            let mut db = db.lock();
            // Closed before its file goes.
            *db = Connection::open_in_memory().map_err(failed)?;
            for ending in ["", "-wal", "-shm"] {
                let mut name = path.clone().into_os_string();
                name.push(ending);
                match std::fs::remove_file(name) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::Failed(error.to_string()));
                    }
                    _ => {}
                }
            }
            *db = open(&path, true)?;
            migrate(&db)
        })
        .await
    }

    /// How many rows the tables hold.
    pub(crate) async fn count(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        self.with(|db| {
            let count = |table: &'static Table| {
                let from = table.sqlite.from.filter(|_| table.name == "claim").unwrap_or(table.name);
                let rows: i64 = db.query_row(&format!("SELECT count(*) FROM {from}"), [], |row| row.get(0)).map_err(failed)?;
                Ok((table.name, rows.unsigned_abs()))
            };
            TABLES.iter().map(count).collect()
        })
        .await
    }

    /// A moment of each week that rows are of; `next` gives the beginning of the week after that of a moment, in milliseconds
    /// since 1970.
    pub(crate) async fn weeks(&self, next: fn(i64) -> i64) -> Result<Vec<i64>, StoreError> {
        self.with(move |db| {
            let mut weeks = Vec::new();
            for table in ["inbox", "event", "command", "exchange"] {
                let mut first = db.prepare(&format!("SELECT min(ordinal) FROM {table} WHERE ordinal >= ?1")).map_err(failed)?;
                let mut from = 0;
                while let Some(ordinal) = first.query_row([from], |row| row.get::<_, Option<i64>>(0)).map_err(failed)?
                    && weeks.len() < WEEKS_MAX
                {
                    weeks.push(ordinal >> 12);
                    from = next(ordinal >> 12) << 12;
                }
            }
            Ok(weeks)
        })
        .await
    }

    pub(crate) async fn read(&self, table: &'static Table, rows: Sender<Vec<Row>>) -> Result<(), StoreError> {
        self.with(move |db| {
            let mut portion = Portion::default();
            let mut query = db.prepare(&select(table)).map_err(failed)?;
            let mut found = query.query([]).map_err(failed)?;
            while let Some(row) = found.next().map_err(failed)? {
                let values = table.columns.iter().enumerate().map(|(place, column)| {
                    let value = row.get_ref(place).map_err(failed)?;
                    decode(column.holds, value).ok_or_else(|| {
                        StoreError::Failed(format!(
                            "a row of `{}` has a `{}` that leads nowhere or cannot be read: run `uzel fsck` first",
                            table.name, column.name
                        ))
                    })
                });
                let row: Row = values.collect::<Result<_, _>>()?;
                if let Some(full) = portion.add(row)
                    && rows.blocking_send(full).is_err()
                {
                    return Ok(());
                }
            }
            if let Some(rest) = portion.rest() {
                // Nobody waits for it any more where the other end has failed, which tells why.
                drop(rows.blocking_send(rest));
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn write(&self, table: &'static Table, rows: Vec<Row>) -> Result<(), StoreError> {
        self.with(move |db| write(db, table, &rows).map_err(failed)).await
    }

    /// Counts what was written.
    pub(crate) async fn finish(&self) -> Result<(), StoreError> {
        self.with(|db| db.execute(fsck::RECOUNT, []).map(drop).map_err(failed)).await
    }

    pub(crate) async fn laws(&self) -> Result<Vec<String>, StoreError> {
        self.with(|db| fsck::check(db, false).map_err(failed)).await
    }
}

fn table_of(thing: Thing) -> &'static str {
    match thing {
        Thing::Entry => "inbox",
        Thing::Event => "event",
        Thing::Command => "command",
        Thing::Exchange => "exchange",
        Thing::Audit => "audit",
    }
}

/// Where a row's whole id stands: an event's in its document.
fn own_id(thing: Thing) -> &'static str {
    if thing == Thing::Event { "doc ->> 'id'" } else { "id" }
}

fn select(table: &Table) -> String {
    let columns = table.columns.iter().map(|column| match (column.sqlite, column.holds) {
        (Some(sql), _) => sql.to_owned(),
        (None, Holds::Own(thing)) => format!("t.{}", own_id(thing)),
        (None, Holds::Of(thing)) => format!(
            "CASE WHEN t.{name} IS NOT NULL THEN ifnull((SELECT o.{id} FROM {of} o WHERE o.ordinal = t.{name}), 'gone') END",
            name = column.name,
            id = own_id(thing),
            of = table_of(thing)
        ),
        (None, _) => format!("t.{}", column.name),
    });
    let columns: Vec<String> = columns.collect();
    let from = table.sqlite.from.map_or_else(|| format!("{} t", table.name), str::to_owned);
    let order = table.sqlite.order.map_or_else(String::new, |order| format!(" ORDER BY {order}"));
    format!("SELECT {} FROM {from}{order}", columns.join(", "))
}

fn decode(holds: Holds, value: ValueRef<'_>) -> Option<Value> {
    Some(match (holds, value) {
        (_, ValueRef::Null) => Value::Null,
        (Holds::Own(_) | Holds::Of(_) | Holds::Whole(_) | Holds::Id, ValueRef::Blob(bytes)) => Value::Id(bytes.try_into().ok()?),
        (Holds::Own(_) | Holds::Of(_), ValueRef::Text(text)) => {
            Value::Id(*std::str::from_utf8(text).ok()?.parse::<Id>().ok()?.as_bytes())
        }
        // The other end does not take this one sign: it is taken out here, so that both have the same sum.
        (Holds::Text | Holds::Event, ValueRef::Text(text)) => {
            Value::Text(std::str::from_utf8(text).ok()?.replace('\0', "\u{fffd}"))
        }
        (Holds::Place, ValueRef::Integer(number)) => Value::Place(number),
        (Holds::Bytes, ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec()),
        (Holds::Time | Holds::Flag | Holds::Small | Holds::Int | Holds::Big, ValueRef::Integer(number)) => Value::Number(number),
        _ => return None,
    })
}

fn insert(table: &Table) -> String {
    if let Some(sql) = table.sqlite.write {
        return sql.to_owned();
    }
    let columns = table.columns.iter().flat_map(|column| match column.holds {
        Holds::Own(Thing::Event) => vec!["ordinal"],
        Holds::Own(_) => vec!["ordinal", column.name],
        _ => vec![column.name],
    });
    let columns: Vec<&str> = columns.collect();
    let places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
    format!("INSERT INTO {} ({}) VALUES ({})", table.name, columns.join(", "), places.join(", "))
}

/// Writes a portion whole.
fn write(db: &Connection, table: &Table, rows: &[Row]) -> rusqlite::Result<()> {
    let work = db.unchecked_transaction()?;
    let mut insert = work.prepare_cached(&insert(table))?;
    for row in rows {
        let values = table.columns.iter().zip(row).flat_map(|(column, value)| match (column.holds, value) {
            (Holds::Own(Thing::Event) | Holds::Of(_), Value::Id(id)) => vec![ordinal(*id)],
            (Holds::Own(_), Value::Id(id)) => vec![ordinal(*id), plain(value)],
            _ => vec![plain(value)],
        });
        insert.execute(params_from_iter(values))?;
        if table.name == "reference" {
            reference::keep_in_order(&work)?;
        }
    }
    drop(insert);
    work.commit()
}

fn ordinal(id: [u8; 16]) -> ToSqlOutput<'static> {
    ToSqlOutput::from(Id::from_bytes(Kind::Entry, id).ordinal())
}

fn plain(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
        Value::Number(number) | Value::Place(number) => ToSqlOutput::from(*number),
        Value::Id(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id)),
        Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Value::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
    }
}
