//! The journal as people read it: the newest rows of what came and what went out, merged by time.
//!
//! Of a provider or a merchant that is seldom heard of, each connection's newest rows are found by its index. A time is found
//! by halving, since both tables stand in the order of time: no page costs a look at all that lies between.

use rusqlite::{Connection, OptionalExtension, Result, Row, ToSql};
use uzel_model::id::Kind;

use super::{id, journal, ms, reference::FOUND, time};
use crate::{
    CommandState, Direction, EntryState, JournalFilter, JournalRow,
    numbers::{command_state, entry_number, entry_state, entry_word, key, way_out},
};

/// Among so many of the newest rows a page is looked for first.
const NEWEST: i64 = 2_000;
/// Rows may stand so far from their place in the order of time: a question is kept when it is answered, and clocks are set.
const DISORDER_MS: i64 = 3_600_000;

/// Either half of the journal.
struct Half {
    table: &'static str,
    by_connection: &'static str,
    /// When it happened.
    at: &'static str,
    columns: String,
    read: fn(&Row<'_>) -> Result<JournalRow>,
}

pub(super) fn list(db: &Connection, filter: &JournalFilter) -> Result<Vec<JournalRow>> {
    let limit = filter.limit.clamp(1, 1000);
    let mut rows = Vec::new();
    if let Some(mut status) = incoming_status(filter.status.as_deref()) {
        status.push_str(&filter.state.map(of_state).unwrap_or_default());
        let found_by = format!("j.ordinal IN ({FOUND})");
        rows.extend(newest(db, &incoming(), filter, &status, &found_by, limit)?);
    }
    if let Some(status) = outgoing_status(filter.status.as_deref()).filter(|_| filter.state.is_none()) {
        let found_by = format!("j.command IN (SELECT ordinal FROM command WHERE entry IN ({FOUND}))");
        rows.extend(newest(db, &outgoing(), filter, &status, &found_by, limit)?);
    }
    // By the place that a cursor names, so that pages lose and repeat nothing.
    rows.sort_by_key(|row| std::cmp::Reverse(row.id.ordinal()));
    rows.truncate(limit);
    Ok(rows)
}

/// The first place in a table from which on no row is older than a moment. Rows are taken to stand in the order of time.
pub(super) fn place(db: &Connection, table: &str, at: &str, ms: i64) -> Result<i64> {
    let ends = |what: &str| -> Result<Option<i64>> {
        db.prepare_cached(&format!("SELECT {what}(ordinal) FROM {table}"))?.query_row([], |row| row.get(0))
    };
    let (Some(mut low), Some(high)) = (ends("min")?, ends("max")?) else { return Ok(0) };
    let mut high = high + 1;
    let mut look =
        db.prepare_cached(&format!("SELECT ordinal, {at} FROM {table} WHERE ordinal >= ?1 ORDER BY ordinal LIMIT 1"))?;
    while low < high {
        let middle = low + (high - low) / 2;
        match look.query_row([middle], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()? {
            Some((ordinal, found)) if found < ms => low = ordinal + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// A query of one half: conditions with their values, of which the first is the floor and the second a connection.
struct Query<'a> {
    half: &'a Half,
    conditions: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Query<'_> {
    fn rows(&mut self, db: &Connection, floor: i64, connection: Option<&[u8; 16]>, limit: usize) -> Result<Vec<JournalRow>> {
        let Half { table, by_connection, columns, read, .. } = self.half;
        let scope = match connection {
            Some(_) => format!("INDEXED BY {by_connection} WHERE j.connection = ?2 AND"),
            None => "WHERE".to_owned(),
        };
        self.values[0] = Box::new(floor);
        self.values[1] = Box::new(connection.copied());
        let values: Vec<&dyn ToSql> = self.values.iter().map(AsRef::as_ref).collect();
        let sql = format!(
            "SELECT {columns} FROM {table} j {scope} j.ordinal > ?1{} ORDER BY j.ordinal DESC LIMIT {limit}",
            self.conditions
        );
        let mut statement = db.prepare_cached(&sql)?;
        // Where no connection is named, the second value stands nowhere; it is bound all the same if later ones are.
        let wanted = statement.parameter_count();
        statement.query_map(&values[..wanted], *read)?.collect()
    }
}

/// The newest rows of one half. Every value is bound, so that no text of a user becomes SQL.
fn newest(
    db: &Connection,
    half: &Half,
    filter: &JournalFilter,
    status: &str,
    found_by: &str,
    limit: usize,
) -> Result<Vec<JournalRow>> {
    let mut query = Query { half, conditions: status.to_owned(), values: vec![Box::new(0), Box::new(None::<[u8; 16]>)] };
    let mut add = |condition: &str, value: Box<dyn ToSql>| {
        query.values.push(value);
        query.conditions.push_str(&format!(" AND {}", condition.replace('?', &format!("?{}", query.values.len()))));
    };
    if let Some(merchant) = filter.merchant {
        add("j.merchant = ?", Box::new(*merchant.as_bytes()));
    }
    if let Some(connection) = filter.connection {
        add("j.connection = ?", Box::new(*connection.as_bytes()));
    }
    if let Some(provider) = &filter.provider {
        add("j.provider = ?", Box::new(provider.clone()));
    }
    if let Some(reference) = &filter.reference {
        add(found_by, Box::new(key(reference)));
    }
    let mut floor = -1;
    if let Some(from) = filter.from {
        add(&format!("j.{} >= ?", half.at), Box::new(ms(from)));
        floor = place(db, half.table, half.at, ms(from).saturating_sub(DISORDER_MS))? - 1;
    }
    let mut ceiling = filter.before.map(|before| before.ordinal());
    if let Some(to) = filter.to {
        add(&format!("j.{} < ?", half.at), Box::new(ms(to)));
        let end = place(db, half.table, half.at, ms(to).saturating_add(DISORDER_MS))?;
        ceiling = Some(ceiling.map_or(end, |ceiling| ceiling.min(end)));
    }
    if let Some(ceiling) = ceiling {
        add("j.ordinal < ?", Box::new(ceiling));
    }
    if filter.state == Some(EntryState::Dead) {
        let dead = the_dead(&query.conditions, limit);
        query.conditions.push_str(&dead);
        return query.rows(db, floor, None, limit);
    }
    let everybody = filter.merchant.is_none() && filter.provider.is_none() && filter.connection.is_none();
    if everybody || filter.reference.is_some() || status.contains(" IN (") {
        return query.rows(db, floor, None, limit);
    }
    let near: Option<i64> = db
        .prepare_cached(&format!(
            "SELECT ordinal FROM {} WHERE ordinal < ?1 ORDER BY ordinal DESC LIMIT 1 OFFSET ?2",
            half.table
        ))?
        .query_row([ceiling.unwrap_or(i64::MAX), NEWEST], |row| row.get(0))
        .optional()?;
    let mut rows = query.rows(db, floor.max(near.unwrap_or(-1)), None, limit)?;
    if rows.len() == limit || near.is_none_or(|near| near <= floor) {
        return Ok(rows);
    }
    rows.clear();
    for connection in connections(db, filter)? {
        // Only what is newer than the last of a full page can still come into it.
        let last = rows.get(limit - 1).map_or(floor, |row: &JournalRow| row.id.ordinal());
        rows.extend(query.rows(db, floor.max(last), Some(&connection), limit)?);
        rows.sort_by_key(|row| std::cmp::Reverse(row.id.ordinal()));
        rows.truncate(limit);
    }
    Ok(rows)
}

fn connections(db: &Connection, filter: &JournalFilter) -> Result<Vec<[u8; 16]>> {
    if let Some(connection) = filter.connection {
        return Ok(vec![*connection.as_bytes()]);
    }
    db.prepare_cached(
        "SELECT id FROM setup WHERE kind IN ('connection', 'endpoint', 'programme') AND (?1 IS NULL OR merchant = ?1)
         AND (?2 IS NULL OR CASE kind WHEN 'programme' THEN 'loyalty' ELSE ifnull(doc ->> 'provider', 'endpoint') END = ?2)",
    )?
    .query_map((filter.merchant.map(|merchant| *merchant.as_bytes()), &filter.provider), |row| row.get(0))?
    .collect()
}

fn incoming() -> Half {
    Half {
        table: "inbox",
        by_connection: "inbox_connection",
        at: "received_at",
        columns: format!(
            "j.id, j.received_at, j.merchant, j.connection, j.provider, j.method, j.path, substr(j.body, 1, 4096), {},
             (SELECT o.notes FROM outcome o WHERE o.entry = j.ordinal), j.answer",
            journal::STATE
        ),
        read: |row| {
            let state = entry_state(row.get(8)?);
            let notes: Option<String> = row.get(9)?;
            Ok(JournalRow {
                id: id(Kind::Entry, 0, row)?,
                at: time(1, row)?,
                merchant_id: id(Kind::Merchant, 2, row)?,
                integration_id: id(Kind::Connection, 3, row)?,
                provider: row.get(4)?,
                direction: Direction::In,
                endpoint: format!("{} {}", row.get::<_, String>(5)?, row.get::<_, String>(6)?),
                status: if state == EntryState::Dead { "error" } else { "ok" },
                state: entry_word(state).to_owned(),
                request: String::from_utf8_lossy(row.get_ref(7)?.as_bytes_or_null()?.unwrap_or_default()).into_owned(),
                response: row.get(10)?,
                error: if state == EntryState::Dead { notes } else { None },
                retry_count: 0,
                next_retry_at: None,
            })
        },
    }
}

/// As SQL.
fn of_state(state: EntryState) -> String {
    match state {
        // Looked for by their own indexes: see `the_dead`.
        EntryState::Dead => String::new(),
        EntryState::Unread => " AND j.ordinal IN (SELECT entry FROM unread)".to_owned(),
        state => format!(" AND {} = {}", journal::STATE, entry_number(state)),
    }
}

/// As SQL: the newest entries under these conditions that are dead themselves or led to a dead command. Both stand in indexes of
/// their own, in the order of entries.
fn the_dead(conditions: &str, limit: usize) -> String {
    let own = format!("x.ordinal > ?1{}", conditions.replace("j.", "x."));
    let of = |rows: &str, index: &str| {
        format!(
            "SELECT * FROM (SELECT DISTINCT d.entry FROM {rows} d INDEXED BY {index} CROSS JOIN inbox x ON x.ordinal = d.entry
             WHERE d.state = 3 AND {own} ORDER BY d.entry DESC LIMIT {limit})"
        )
    };
    format!(" AND j.ordinal IN ({} UNION {})", of("outcome", "outcome_dead"), of("command", "command_dead"))
}

/// As SQL; nothing where no row can be of this status. Commands in trouble are found by an index that must be named together with
/// its own condition: by itself SQLite does not see that the state of some is above.
fn incoming_status(status: Option<&str>) -> Option<String> {
    Some(match status {
        None => String::new(),
        Some("error") => " AND j.ordinal IN (SELECT entry FROM outcome WHERE state = 3)".to_owned(),
        // An entry is found by what became of it, and by what became of its commands.
        Some("dead") => format!(" AND j.ordinal IN ({})", journal::DEAD),
        Some("unknown") => {
            " AND j.ordinal IN (SELECT entry FROM command INDEXED BY command_trouble WHERE state >= 3 AND state = 4)".to_owned()
        }
        Some("held") => {
            " AND j.ordinal IN (SELECT entry FROM command INDEXED BY command_trouble WHERE state >= 3 AND state = 5)".to_owned()
        }
        Some("waiting") => " AND EXISTS (SELECT 1 FROM command c WHERE c.entry = j.ordinal AND c.state = 0)".to_owned(),
        Some("ok") => " AND NOT EXISTS (SELECT 1 FROM outcome o WHERE o.entry = j.ordinal AND o.state = 3)".to_owned(),
        Some("unread") => " AND j.ordinal IN (SELECT entry FROM unread)".to_owned(),
        Some("read") => format!(" AND {} = 1", journal::STATE),
        Some("duplicate") => " AND j.ordinal IN (SELECT entry FROM outcome WHERE state = 2)".to_owned(),
        Some(_) => return None,
    })
}

fn outgoing() -> Half {
    Half {
        table: "exchange",
        by_connection: "exchange_connection",
        at: "at",
        columns: "j.id, j.at, j.merchant, j.connection, j.provider, j.endpoint, j.request, j.response, j.error, j.attempt,
             j.next_retry_at, (SELECT c.state FROM command c WHERE c.ordinal = j.command)"
            .to_owned(),
        read: |row| {
            let error: Option<String> = row.get(8)?;
            let next_retry_at: Option<i64> = row.get(10)?;
            let attempt: i64 = row.get(9)?;
            Ok(JournalRow {
                id: id(Kind::Attempt, 0, row)?,
                at: time(1, row)?,
                merchant_id: id(Kind::Merchant, 2, row)?,
                integration_id: id(way_out(row.get_ref(4)?.as_str()?), 3, row)?,
                provider: row.get(4)?,
                direction: Direction::Out,
                endpoint: row.get(5)?,
                status: if error.is_some() { "error" } else { "ok" },
                state: match (&error, next_retry_at, row.get::<_, Option<u8>>(11)?.map(command_state)) {
                    (None, ..) => "done",
                    (_, Some(_), _) => "retry",
                    (_, _, Some(CommandState::Unknown)) => "unknown",
                    (_, _, Some(CommandState::Dead)) => "dead",
                    _ => "failed",
                }
                .to_owned(),
                request: row.get(6)?,
                response: row.get(7)?,
                error,
                retry_count: (attempt - 1).max(0) as u32,
                next_retry_at: next_retry_at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok()),
            })
        },
    }
}

fn outgoing_status(status: Option<&str>) -> Option<String> {
    Some(match status {
        None => String::new(),
        Some("error") => " AND j.error IS NOT NULL".to_owned(),
        Some("ok") => " AND j.error IS NULL".to_owned(),
        Some("dead") => {
            " AND j.command IN (SELECT ordinal FROM command INDEXED BY command_trouble WHERE state >= 3 AND state = 3)".to_owned()
        }
        Some("unknown") => {
            " AND j.command IN (SELECT ordinal FROM command INDEXED BY command_trouble WHERE state >= 3 AND state = 4)".to_owned()
        }
        Some(_) => return None,
    })
}
