//! Retention: what is older than its time goes, a portion at a time.
//!
//! What may go is looked for beside the writer, which then only takes it out. Places are remembered from portion to portion, so
//! that what is kept for good reason is not looked at again before the next round. References lie in parts, by their hashes:
//! once all entries of a part have had their turn, what points to nothing is taken out of it.

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::Timestamp;

use super::{ms, pages, tally::Tally};
use crate::{
    EntryState,
    numbers::{command_state, command_tally, entry_state, entry_tally},
};

/// Rows that one portion looks at, for each that it may take.
const LOOKED_AT: usize = 4;
/// References that one portion takes out, for each entry.
const REFERENCES: usize = 6;

/// How far a round has come: the ordinals that have been looked at, and the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    entry: i64,
    command: i64,
    exchange: i64,
    part: i64,
    reference: (i64, i64),
}

/// Before all references of a part: hashes may be negative.
const FIRST: (i64, i64) = (i64::MIN, i64::MIN);

impl Default for Place {
    fn default() -> Self {
        Self { entry: 0, command: 0, exchange: 0, part: 0, reference: FIRST }
    }
}

/// A portion of what is over.
pub(super) struct Portion {
    entries: Vec<i64>,
    /// Those that follow from no entry.
    commands: Vec<i64>,
    exchanges: Vec<i64>,
    part: i64,
    references: Vec<(i64, i64)>,
    /// Events that wait to be published were looked at up to this number.
    publishing: i64,
    /// Nothing older is left: the next portion begins anew.
    pub(super) last: bool,
    pub(super) next: Place,
}

impl Portion {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.commands.is_empty() && self.exchanges.is_empty() && self.references.is_empty()
    }
}

/// A slot that holds beyond the time keeps its command, and that its entry.
const NO_SLOT: &str = "NOT EXISTS (SELECT 1 FROM slot s WHERE s.command = c.ordinal AND s.until > ?3)";

/// What may go, up to so many of each kind. Looks only.
pub(super) fn find(db: &Connection, before: Timestamp, limit: usize, place: Place) -> Result<Portion> {
    let before = ms(before);
    let publishing = db.query_row("SELECT ifnull(max(number), 0) FROM unpublished", [], |row| row.get(0))?;
    let (entry, entries) = look(
        db,
        ("inbox", before, pages::place(db, "inbox", "received_at", before)?),
        (place.entry, limit),
        &format!(
            "SELECT j.ordinal FROM inbox j WHERE j.ordinal > ?1 AND j.ordinal <= ?2 AND j.received_at < ?3
             AND NOT EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.ordinal)
             AND NOT EXISTS (SELECT 1 FROM command c WHERE c.entry = j.ordinal AND (c.state = 0 OR NOT {NO_SLOT}))
             AND j.ordinal NOT IN (SELECT e.entry FROM unpublished u CROSS JOIN event e ON e.ordinal = u.event)
             ORDER BY j.ordinal LIMIT ?4"
        ),
    )?;
    let (command, commands) = look(
        db,
        // When it fell due says little of when it was made; its ordinal does.
        ("command", before, before << 12),
        (place.command, limit),
        &format!(
            "SELECT c.ordinal FROM command c WHERE c.ordinal > ?1 AND c.ordinal <= ?2 AND c.due_at < ?3 AND +c.entry IS NULL
             AND c.state <> 0 AND {NO_SLOT} ORDER BY c.ordinal LIMIT ?4"
        ),
    )?;
    let (exchange, exchanges) = look(
        db,
        ("exchange", before, pages::place(db, "exchange", "at", before)?),
        (place.exchange, limit),
        "SELECT ordinal FROM exchange WHERE ordinal > ?1 AND ordinal <= ?2 AND at < ?3 AND command IS NULL ORDER BY ordinal LIMIT ?4",
    )?;
    let mut portion = Portion {
        entries,
        commands,
        exchanges,
        part: place.part,
        references: Vec::new(),
        publishing,
        last: false,
        next: Place {
            entry: entry.unwrap_or(place.entry),
            command: command.unwrap_or(place.command),
            exchange: exchange.unwrap_or(place.exchange),
            ..place
        },
    };
    let swept = sweep(db, &mut portion, place, limit * REFERENCES)?;
    portion.last = entry.is_none() && command.is_none() && exchange.is_none() && swept;
    Ok(portion)
}

/// Looks at the next rows of a table from before a moment and a place. Gives how far it came, unless there were none.
fn look(
    db: &Connection,
    (table, before, end): (&'static str, i64, i64),
    (after, limit): (i64, usize),
    sql: &str,
) -> Result<(Option<i64>, Vec<i64>)> {
    let rows = limit * LOOKED_AT;
    let upto: Option<i64> = db
        .prepare_cached(&format!(
            "SELECT max(ordinal) FROM (SELECT ordinal FROM {table} WHERE ordinal > ?1 AND ordinal < ?2 ORDER BY ordinal LIMIT ?3)"
        ))?
        .query_row(params![after, end, rows as i64], |row| row.get(0))?;
    let Some(upto) = upto else { return Ok((None, Vec::new())) };
    let found: Vec<i64> = db
        .prepare_cached(sql)?
        .query_map(params![after, upto, before, limit as i64], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let upto = found.last().filter(|_| found.len() == limit).copied().unwrap_or(upto);
    Ok((Some(upto), found))
}

/// Looks for references to nothing in the next part whose entries have all had their turn; whether there is no such part.
fn sweep(db: &Connection, portion: &mut Portion, place: Place, limit: usize) -> Result<bool> {
    // The last part is still being filled.
    let part: Option<i64> = db
        .prepare_cached("SELECT part FROM reference WHERE part >= ?1 AND part < (SELECT max(part) FROM reference) LIMIT 1")?
        .query_row([place.part], |row| row.get(0))
        .optional()?;
    let Some(part) = part else { return Ok(true) };
    let newest: i64 =
        db.prepare_cached("SELECT max(entry) FROM reference WHERE part = ?1")?.query_row([part], |row| row.get(0))?;
    // An earlier round, or an earlier hub, may have taken them.
    let purged: i64 = db.prepare_cached("SELECT ifnull(max(place), 0) FROM purged")?.query_row([], |row| row.get(0))?;
    if newest > place.entry.max(purged) {
        return Ok(true);
    }
    let (key, entry) = if part == place.part { place.reference } else { FIRST };
    portion.references = db
        .prepare_cached(
            "SELECT key, entry FROM reference r WHERE part = ?1 AND (key, entry) > (?2, ?3)
             AND NOT EXISTS (SELECT 1 FROM inbox j WHERE j.ordinal = r.entry) ORDER BY key, entry LIMIT ?4",
        )?
        .query_map([part, key, entry, limit as i64], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    portion.part = part;
    match portion.references.last() {
        Some(last) if portion.references.len() == limit => (portion.next.part, portion.next.reference) = (part, *last),
        _ => (portion.next.part, portion.next.reference) = (part + 1, FIRST),
    }
    Ok(false)
}

/// Takes a portion out, but for what has come to life since it was looked at. Gives how many entries, and commands and
/// exchanges without one, went.
pub(super) fn delete(db: &Connection, portion: &Portion, tally: &mut Tally) -> Result<u64> {
    let list = |ordinals: &[i64]| serde_json::to_string(ordinals).expect("numbers are JSON");
    let numbers = |sql: &str, values: &[&dyn rusqlite::ToSql]| -> Result<Vec<i64>> {
        db.prepare_cached(sql)?.query_map(values, |row| row.get(0))?.collect()
    };
    let entries = numbers(
        "SELECT value FROM json_each(?1) g WHERE EXISTS (SELECT 1 FROM inbox j WHERE j.ordinal = g.value)
         AND NOT EXISTS (SELECT 1 FROM unread u WHERE u.entry = g.value)
         AND NOT EXISTS (SELECT 1 FROM command c WHERE c.entry = g.value AND c.state = 0)
         AND g.value NOT IN (SELECT e.entry FROM unpublished u CROSS JOIN event e ON e.ordinal = u.event WHERE u.number > ?2)",
        &[&list(&portion.entries), &portion.publishing],
    )?;
    let going = list(&entries);
    let commands = numbers(
        "SELECT c.ordinal FROM json_each(?1) g CROSS JOIN command c ON c.entry = g.value
         UNION ALL SELECT c.ordinal FROM json_each(?2) g CROSS JOIN command c ON c.ordinal = g.value WHERE c.state <> 0",
        &[&going, &list(&portion.commands)],
    )?;
    count(db, &going, entries.len(), &list(&commands), tally)?;
    for (sql, rows) in [
        (
            "DELETE FROM sent WHERE (connection, provider_id) IN (SELECT c.connection, c.provider_id FROM json_each(?1) g
             CROSS JOIN command c ON c.ordinal = g.value WHERE c.provider_id IS NOT NULL)",
            &commands,
        ),
        ("DELETE FROM slot WHERE command IN (SELECT value FROM json_each(?1))", &commands),
        ("DELETE FROM exchange WHERE command IN (SELECT value FROM json_each(?1))", &commands),
        ("DELETE FROM exchange WHERE ordinal IN (SELECT value FROM json_each(?1))", &portion.exchanges),
        ("DELETE FROM command WHERE ordinal IN (SELECT value FROM json_each(?1))", &commands),
        ("DELETE FROM event WHERE entry IN (SELECT value FROM json_each(?1))", &entries),
        ("DELETE FROM outcome WHERE entry IN (SELECT value FROM json_each(?1))", &entries),
        ("DELETE FROM inbox WHERE ordinal IN (SELECT value FROM json_each(?1))", &entries),
    ] {
        if !rows.is_empty() {
            db.prepare_cached(sql)?.execute([list(rows)])?;
        }
    }
    let mut reference = db.prepare_cached("DELETE FROM reference WHERE part = ?1 AND key = ?2 AND entry = ?3")?;
    for (key, entry) in &portion.references {
        reference.execute([portion.part, *key, *entry])?;
    }
    if let Some(newest) = entries.last()
        && db.prepare_cached("UPDATE purged SET place = max(place, ?1)")?.execute([newest])? == 0
    {
        db.prepare_cached("INSERT INTO purged VALUES (?1)")?.execute([newest])?;
    }
    Ok((entries.len() + portion.commands.len() + portion.exchanges.len()) as u64)
}

/// What goes is no longer counted.
fn count(db: &Connection, entries: &str, all: usize, commands: &str, tally: &mut Tally) -> Result<()> {
    let mut read = all as i64;
    let mut states =
        db.prepare_cached("SELECT o.state, count(*) FROM json_each(?1) g CROSS JOIN outcome o ON o.entry = g.value GROUP BY 1")?;
    let mut rows = states.query([entries])?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(1)?;
        read -= count;
        tally.add(entry_tally(entry_state(row.get(0)?)), -count);
    }
    tally.add(entry_tally(EntryState::Read), -read);
    let mut states = db.prepare_cached(
        "SELECT c.state, CASE c.state WHEN 5 THEN ifnull(c.reason, '') END, count(*) FROM json_each(?1) g
         CROSS JOIN command c ON c.ordinal = g.value GROUP BY 1, 2",
    )?;
    let mut rows = states.query([commands])?;
    while let Some(row) = rows.next()? {
        let count: i64 = row.get(2)?;
        tally.add(command_tally(command_state(row.get(0)?)), -count);
        if let Some(reason) = row.get::<_, Option<String>>(1)? {
            tally.add(format!("held/{reason}"), -count);
        }
    }
    Ok(())
}

/// Notices from before a day.
pub(super) fn notices(db: &Connection, before: Timestamp) -> Result<()> {
    db.execute("DELETE FROM notice WHERE day < ?1", [ms(before) / 86_400_000]).map(drop)
}
