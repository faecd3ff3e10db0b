//! The journal as people read it: the newest rows of what came and what went out, merged by time.
//!
//! Of a provider or a merchant that is seldom heard of, each connection's newest rows are found by its index. A time bounds the
//! ids that are looked at, and with them the weeks.

use deadpool_postgres::{GenericClient, Object, Transaction};
use jiff::SignedDuration;
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;
use uzel_model::{Timestamp, id::Kind};

use super::{
    failed, get, id,
    journal::{DEAD, STATE, looked_into, text},
    partitions::least_id,
    uuid,
};
use crate::{
    CommandState, Direction, EntryState, JournalFilter, JournalRow, StoreError,
    numbers::{command_state, entry_number, entry_state, entry_word, key, way_out},
};

/// Ids may stand so far from the time of their rows: a question is kept when it is answered, and clocks are set.
const DISORDER: SignedDuration = SignedDuration::from_hours(1);

/// Either half of the journal.
struct Half {
    table: &'static str,
    /// When it happened.
    at: &'static str,
    columns: String,
    /// How rows are found by a reference, whose key is bound to the `?`.
    found_by: &'static str,
    read: fn(&Row) -> Result<JournalRow, StoreError>,
}

/// The newest rows of what came and what went out, merged by time.
pub(super) async fn list(client: &mut Object, filter: &JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
    let limit = filter.limit.clamp(1, 1_000);
    let work = super::snapshot(client).await?;
    let connections = connections(&work, filter).await?;
    let mut rows = Vec::new();
    for (half, status) in [(incoming(), incoming_status(filter)), (outgoing(), outgoing_status(filter))] {
        let of_state = match (filter.state, half.table) {
            (None, _) => String::new(),
            (Some(state), "inbox") => of_state(state),
            (Some(_), _) => continue,
        };
        if let Some(status) = status {
            rows.extend(page(&work, &half, &(status + &of_state), filter, connections.as_deref(), limit as i64).await?);
        }
    }
    work.commit().await.map_err(failed)?;
    // By the place that a cursor names, so that pages lose and repeat nothing.
    rows.sort_by_key(|row| std::cmp::Reverse(*row.id.as_bytes()));
    rows.truncate(limit);
    Ok(rows)
}

/// The connections of the merchant and the provider, where the filter names one.
async fn connections(work: &Transaction<'_>, filter: &JournalFilter) -> Result<Option<Vec<Uuid>>, StoreError> {
    // By a reference few rows are found: no index need help.
    let everybody = filter.merchant.is_none() && filter.provider.is_none() && filter.connection.is_none();
    // The dead are few: each is found by itself.
    if everybody || filter.reference.is_some() || filter.state == Some(EntryState::Dead) {
        return Ok(None);
    }
    if let Some(connection) = filter.connection {
        return Ok(Some(vec![uuid(connection)]));
    }
    let statement = work
        .prepare_cached(concat!(
            "SELECT id FROM setup WHERE kind IN ('connection', 'endpoint', 'programme') AND ($1::uuid IS NULL OR merchant = $1)
             AND ($2::text IS NULL OR CASE kind WHEN 'programme' THEN 'loyalty' ELSE coalesce(",
            looked_into!("doc"),
            " ->> 'provider', 'endpoint') END = $2)",
        ))
        .await
        .map_err(failed)?;
    let provider = filter.provider.as_deref().map(text);
    let rows = work.query(&statement, &[&filter.merchant.map(uuid), &provider]).await.map_err(failed)?;
    rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>().map(Some)
}

async fn page(
    work: &Transaction<'_>,
    half: &Half,
    status: &str,
    filter: &JournalFilter,
    connections: Option<&[Uuid]>,
    limit: i64,
) -> Result<Vec<JournalRow>, StoreError> {
    let Half { table, at, columns, found_by, read } = half;
    let mut conditions = String::new();
    let mut values: Vec<Box<dyn ToSql + Sync + Send>> = vec![Box::new(limit)];
    let mut add = |condition: &str, value: Box<dyn ToSql + Sync + Send>| {
        values.push(value);
        conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("${}", values.len()))));
    };
    // A connection may have had another provider before.
    if let Some(merchant) = filter.merchant {
        add("j.merchant = ?", Box::new(uuid(merchant)));
    }
    if let Some(connection) = filter.connection {
        add("j.connection = ?", Box::new(uuid(connection)));
    }
    if let Some(provider) = &filter.provider {
        add("j.provider = ?", Box::new(text(provider).into_owned()));
    }
    if let Some(reference) = &filter.reference {
        add(found_by, Box::new(key(reference)));
    }
    if let Some(from) = filter.from {
        add(&format!("j.{at} >= ?"), Box::new(from));
        add("j.id >= ?", Box::new(least_id(from.saturating_sub(DISORDER).unwrap_or(Timestamp::MIN))));
    }
    if let Some(to) = filter.to {
        add(&format!("j.{at} < ?"), Box::new(to));
        add("j.id < ?", Box::new(least_id(to.saturating_add(DISORDER).unwrap_or(Timestamp::MAX))));
    }
    if let Some(before) = filter.before {
        add("j.id < ?", Box::new(uuid(before)));
    }
    if filter.state == Some(EntryState::Dead) {
        let dead = the_dead(&format!("{conditions}{status}"));
        conditions.push_str(&dead);
    }
    if let Some(connections) = connections {
        values.push(Box::new(connections.to_vec()));
    }
    let newest = match connections {
        None => format!("SELECT j.* FROM {table} j WHERE true{conditions}{status} ORDER BY j.id DESC LIMIT $1"),
        // As a range, and in the order of connections: only the index of both gives that. For an equality the planner may walk the
        // whole table by its ids instead, in the hope that every other row is of the connection.
        Some(_) => format!(
            "SELECT j.* FROM unnest(${}::uuid[]) AS c (connection) CROSS JOIN LATERAL (SELECT j.* FROM {table} j
                 WHERE j.connection >= c.connection AND j.connection <= c.connection{conditions}{status}
                 ORDER BY j.connection DESC, j.id DESC LIMIT $1) AS j
             ORDER BY j.id DESC LIMIT $1",
            values.len()
        ),
    };
    let sql = format!("SELECT {columns} FROM ({newest}) AS j ORDER BY j.id DESC");
    let statement = work.prepare_cached(&sql).await.map_err(failed)?;
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value.as_ref() as &(dyn ToSql + Sync)).collect();
    work.query(&statement, &values).await.map_err(failed)?.iter().map(read).collect()
}

fn incoming() -> Half {
    Half {
        table: "inbox",
        at: "received_at",
        columns: format!(
            "j.id, j.received_at, j.merchant, j.connection, j.provider, j.method, j.path, substr(j.body, 1, 4096), {STATE},
             (SELECT o.notes FROM outcome o WHERE o.entry = j.id), j.answer"
        ),
        found_by: "j.id IN (SELECT entry FROM reference WHERE key = ?)",
        read: |row| {
            let state = entry_state(get::<i16>(row, 8)? as u8);
            let notes: Option<String> = get(row, 9)?;
            Ok(JournalRow {
                id: id(Kind::Entry, row, 0)?,
                at: get(row, 1)?,
                merchant_id: id(Kind::Merchant, row, 2)?,
                integration_id: id(Kind::Connection, row, 3)?,
                provider: get(row, 4)?,
                direction: Direction::In,
                endpoint: format!("{} {}", get::<String>(row, 5)?, get::<String>(row, 6)?),
                status: if state == EntryState::Dead { "error" } else { "ok" },
                state: entry_word(state).to_owned(),
                request: String::from_utf8_lossy(&get::<Vec<u8>>(row, 7)?).into_owned(),
                response: get(row, 10)?,
                error: if state == EntryState::Dead { notes } else { None },
                retry_count: 0,
                next_retry_at: None,
            })
        },
    }
}

/// Entries in a state, as a condition.
fn of_state(state: EntryState) -> String {
    match state {
        // Looked for by their own indexes: see `the_dead`.
        EntryState::Dead => String::new(),
        EntryState::Unread => " AND j.id IN (SELECT entry FROM unread)".to_owned(),
        state => format!(" AND {STATE} = {}", entry_number(state)),
    }
}

/// As a condition: the newest entries under others that are dead themselves or led to a dead command. Both stand in indexes of
/// their own, in the order of entries.
fn the_dead(conditions: &str) -> String {
    let own = conditions.replace("j.", "x.");
    let of = |rows: &str| {
        format!(
            "SELECT entry FROM (SELECT DISTINCT d.entry FROM {rows} d JOIN inbox x ON x.id = d.entry WHERE d.state = 3{own}
             ORDER BY d.entry DESC LIMIT $1) AS {rows}"
        )
    };
    format!(" AND j.id IN ({} UNION {})", of("outcome"), of("trouble"))
}

/// As a condition; `None` where no entry can have that status. An entry is found by what became of it, and by what became of
/// its commands.
fn incoming_status(filter: &JournalFilter) -> Option<String> {
    let of_commands = |state: u8| format!(" AND j.id IN (SELECT entry FROM trouble WHERE state = {state})");
    Some(match filter.status.as_deref() {
        None => String::new(),
        Some("error") => " AND j.id IN (SELECT entry FROM outcome WHERE state = 3)".to_owned(),
        Some("dead") => format!(" AND j.id IN ({DEAD})"),
        Some("unknown") => of_commands(4),
        Some("held") => of_commands(5),
        Some("waiting") => {
            " AND j.id IN (SELECT c.entry FROM waiting w JOIN command c ON c.id = w.command WHERE c.entry IS NOT NULL)".to_owned()
        }
        Some("ok") => " AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.entry = j.id AND o.state = 3)".to_owned(),
        Some("unread") => " AND j.id IN (SELECT entry FROM unread)".to_owned(),
        Some("read") => format!(" AND {STATE} = 1"),
        Some("duplicate") => " AND j.id IN (SELECT entry FROM outcome WHERE state = 2)".to_owned(),
        Some(_) => return None,
    })
}

fn outgoing() -> Half {
    Half {
        table: "exchange",
        at: "at",
        columns: "j.id, j.at, j.merchant, j.connection, j.provider, j.endpoint, j.request, j.response, j.error, j.attempt,
             j.next_retry_at, (SELECT c.state FROM command c WHERE c.id = j.command)"
            .to_owned(),
        found_by: "j.command IN (SELECT c.id FROM command c WHERE c.entry IN (SELECT entry FROM reference WHERE key = ?))",
        read: |row| {
            let error: Option<String> = get(row, 8)?;
            let next_retry_at: Option<Timestamp> = get(row, 10)?;
            let state = get::<Option<i16>>(row, 11)?.map(|number| command_state(number as u8));
            Ok(JournalRow {
                id: id(Kind::Attempt, row, 0)?,
                at: get(row, 1)?,
                merchant_id: id(Kind::Merchant, row, 2)?,
                integration_id: id(way_out(&get::<String>(row, 4)?), row, 3)?,
                provider: get(row, 4)?,
                direction: Direction::Out,
                endpoint: get(row, 5)?,
                status: if error.is_some() { "error" } else { "ok" },
                state: match (&error, next_retry_at, state) {
                    (None, ..) => "done",
                    (_, Some(_), _) => "retry",
                    (_, _, Some(CommandState::Unknown)) => "unknown",
                    (_, _, Some(CommandState::Dead)) => "dead",
                    _ => "failed",
                }
                .to_owned(),
                request: get(row, 6)?,
                response: get(row, 7)?,
                error,
                retry_count: (get::<i32>(row, 9)? - 1).max(0).unsigned_abs(),
                next_retry_at,
            })
        },
    }
}

fn outgoing_status(filter: &JournalFilter) -> Option<String> {
    let of_command = |state: u8| format!(" AND j.command IN (SELECT command FROM trouble WHERE state = {state})");
    Some(match filter.status.as_deref() {
        None => String::new(),
        Some("error") => " AND j.error IS NOT NULL".to_owned(),
        Some("ok") => " AND j.error IS NULL".to_owned(),
        Some("dead") => of_command(3),
        Some("unknown") => of_command(4),
        Some(_) => return None,
    })
}
