//! Retention: what is older than its time goes, a portion at a time.
//!
//! What may go is looked for beside the writer, which then only takes it out. Places are remembered from portion to portion, so
//! that what is kept for good reason is not looked at again before the next round. References lie in parts, by their hashes:
//! once all entries of a part have had their turn, what points to nothing is taken out of it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Result, params};
use uzel_model::{Id, Timestamp};

use super::{Sqlite, events, heard, loyalty, ms, pages, review, tally::Tally};
use crate::{
    EntryState, StoreError,
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
    hold: [u8; 16],
}

/// Before all references of a part: hashes may be negative.
const FIRST: (i64, i64) = (i64::MIN, i64::MIN);

impl Default for Place {
    fn default() -> Self {
        Self { entry: 0, command: 0, exchange: 0, part: 0, reference: FIRST, hold: [0; 16] }
    }
}

/// How far the rounds of the hub, and of merchants whose entries are kept for less long, have come.
pub(super) type Places = HashMap<Option<Id>, Place>;

impl Sqlite {
    pub(super) async fn purge_portion(&self, merchant: Option<Id>, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        loop {
            let place = self.purged.lock().get(&merchant).copied().unwrap_or_default();
            let portion = self.read(move |db| find(db, merchant, before, limit.max(1), place)).await?;
            let (last, next) = (portion.last, portion.next);
            let went = if portion.is_empty() { 0 } else { self.write(move |db, tally| delete(db, &portion, tally)).await? };
            if last {
                // Answers and tokens that are over: few, since whatever is put in takes some out.
                while self.write(move |db, _| loyalty::forget_ended(db, limit.max(1))).await? {}
            }
            self.purged.lock().insert(merchant, if last { Place::default() } else { next });
            if last {
                self.write(move |db, _| end_round(db, merchant, before)).await?;
            }
            if went > 0 || last {
                return Ok(went);
            }
        }
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
    holds: Vec<[u8; 16]>,
    /// Events that wait to be published were looked at up to this number.
    publishing: i64,
    /// Nothing older is left: the next portion begins anew.
    pub(super) last: bool,
    pub(super) next: Place,
}

impl Portion {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.commands.is_empty()
            && self.exchanges.is_empty()
            && self.references.is_empty()
            && self.holds.is_empty()
    }
}

/// A slot that holds beyond the time keeps its command, and that its entry.
const NO_SLOT: &str = "NOT EXISTS (SELECT 1 FROM slot s WHERE s.command = c.ordinal AND s.until > ?2)";

/// What may go of a merchant or of all, up to so many of each kind. Looks only.
pub(super) fn find(db: &Connection, merchant: Option<Id>, before: Timestamp, limit: usize, place: Place) -> Result<Portion> {
    let (before_at, before) = (before, ms(before));
    let publishing = db.query_row("SELECT ifnull(max(number), 0) FROM unpublished", [], |row| row.get(0))?;
    let own = merchant.map(|merchant| events::connections(db, Some(merchant), None)).transpose()?;
    let scope = own.as_deref();
    let (entry, entries) = look(
        db,
        ("inbox", scope, before, pages::place(db, "inbox", "received_at", before)?),
        (place.entry, limit),
        &format!(
            "SELECT j.ordinal FROM inbox j WHERE j.ordinal IN (SELECT value FROM json_each(?1)) AND j.received_at < ?2
             AND NOT EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.ordinal)
             AND NOT EXISTS (SELECT 1 FROM command c WHERE c.entry = j.ordinal AND (c.state = 0 OR NOT {NO_SLOT}))
             AND j.ordinal NOT IN (SELECT e.entry FROM unpublished u CROSS JOIN event e ON e.ordinal = u.event)
             ORDER BY j.ordinal LIMIT ?3"
        ),
    )?;
    let (command, commands) = look(
        db,
        // When it fell due says little of when it was made; its ordinal does.
        ("command", scope, before, before << 12),
        (place.command, limit),
        &format!(
            "SELECT c.ordinal FROM command c WHERE c.ordinal IN (SELECT value FROM json_each(?1)) AND c.due_at < ?2
             AND +c.entry IS NULL AND c.state <> 0 AND {NO_SLOT} ORDER BY c.ordinal LIMIT ?3"
        ),
    )?;
    let (exchange, exchanges) = look(
        db,
        ("exchange", scope, before, pages::place(db, "exchange", "at", before)?),
        (place.exchange, limit),
        "SELECT ordinal FROM exchange WHERE ordinal IN (SELECT value FROM json_each(?1)) AND at < ?2 AND command IS NULL
         ORDER BY ordinal LIMIT ?3",
    )?;
    let holds = loyalty::ended_holds(db, merchant, before_at, place.hold, limit)?;
    let more_holds = holds.last().filter(|_| holds.len() == limit).copied();
    let mut portion = Portion {
        entries,
        commands,
        exchanges,
        part: place.part,
        references: Vec::new(),
        holds,
        publishing,
        last: false,
        next: Place {
            entry: entry.unwrap_or(place.entry),
            command: command.unwrap_or(place.command),
            exchange: exchange.unwrap_or(place.exchange),
            hold: more_holds.unwrap_or(place.hold),
            ..place
        },
    };
    let swept = sweep(db, &mut portion, merchant, place, limit * REFERENCES)?;
    portion.last = entry.is_none() && command.is_none() && exchange.is_none() && more_holds.is_none() && swept;
    Ok(portion)
}

/// Looks at the next rows of a table, or of some connections in it, from before a moment and a place. Gives how far it came,
/// unless there were none.
fn look(
    db: &Connection,
    (table, scope, before, end): (&'static str, Option<&[[u8; 16]]>, i64, i64),
    (after, limit): (i64, usize),
    sql: &str,
) -> Result<(Option<i64>, Vec<i64>)> {
    let rows = (limit * LOOKED_AT) as i64;
    let mut next = Vec::new();
    match scope {
        None => {
            let sql = format!("SELECT ordinal FROM {table} WHERE ordinal > ?1 AND ordinal < ?2 ORDER BY ordinal LIMIT ?3");
            let mut all = db.prepare_cached(&sql)?;
            next = all.query_map([after, end, rows], |row| row.get(0))?.collect::<Result<Vec<i64>>>()?;
        }
        Some(connections) => {
            let mut of = db.prepare_cached(&format!(
                "SELECT ordinal FROM {table} INDEXED BY {table}_connection WHERE connection = ?4 AND ordinal > ?1 AND ordinal < ?2
                 ORDER BY ordinal LIMIT ?3"
            ))?;
            for connection in connections {
                for ordinal in of.query_map(params![after, end, rows, connection], |row| row.get(0))? {
                    next.push(ordinal?);
                }
            }
            next.sort_unstable();
            next.truncate(limit * LOOKED_AT);
        }
    }
    let Some(upto) = next.last().copied() else { return Ok((None, Vec::new())) };
    let next = serde_json::to_string(&next).expect("numbers are JSON");
    let found: Vec<i64> =
        db.prepare_cached(sql)?.query_map(params![next, before, limit as i64], |row| row.get(0))?.collect::<Result<_>>()?;
    let upto = found.last().filter(|_| found.len() == limit).copied().unwrap_or(upto);
    Ok((Some(upto), found))
}

/// Looks for references to nothing in the next part whose entries have all had their turn; whether there is no such part.
fn sweep(db: &Connection, portion: &mut Portion, merchant: Option<Id>, place: Place, limit: usize) -> Result<bool> {
    // The last part is still being filled.
    let part: Option<i64> = db
        .prepare_cached("SELECT part FROM reference WHERE part >= ?1 AND part < (SELECT max(part) FROM reference) LIMIT 1")?
        .query_row([place.part], |row| row.get(0))
        .optional()?;
    let Some(part) = part else { return Ok(true) };
    let newest: i64 =
        db.prepare_cached("SELECT max(entry) FROM reference WHERE part = ?1")?.query_row([part], |row| row.get(0))?;
    // An earlier round, or an earlier hub, may have taken them. Of one merchant nothing says how far its entries reach: what points
    // to nothing is looked for in every part.
    let purged: i64 = db.prepare_cached("SELECT ifnull(max(place), 0) FROM purged")?.query_row([], |row| row.get(0))?;
    if merchant.is_none() && newest > place.entry.max(purged) {
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
        ("DELETE FROM step WHERE command IN (SELECT value FROM json_each(?1))", &commands),
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
    for hold in &portion.holds {
        db.prepare_cached("DELETE FROM wallet_hold WHERE id = ?1")?.execute([hold])?;
    }
    if let Some(newest) = entries.last()
        && db.prepare_cached("UPDATE purged SET place = max(place, ?1)")?.execute([newest])? == 0
    {
        db.prepare_cached("INSERT INTO purged VALUES (?1)")?.execute([newest])?;
    }
    Ok((entries.len() + portion.commands.len() + portion.exchanges.len() + portion.holds.len()) as u64)
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

/// Notices from before a day, and what was to be published and is gone: none of ours, since what waits to be published is kept.
fn end_round(db: &Connection, merchant: Option<Id>, before: Timestamp) -> Result<()> {
    review::purge(db, merchant, before)?;
    let of = merchant.map(|merchant| *merchant.as_bytes());
    let notices = "DELETE FROM notice WHERE day < ?1 AND (?2 IS NULL OR merchant = ?2)";
    db.execute(notices, params![ms(before) / 86_400_000, of])?;
    heard::purge(db, merchant, before)?;
    if merchant.is_some() {
        return Ok(());
    }
    db.execute("DELETE FROM unpublished AS u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.ordinal = u.event)", []).map(drop)
}
