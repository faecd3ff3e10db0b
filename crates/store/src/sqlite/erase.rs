//! Erasure of one person, a portion at a time: looked for beside the writer, which then blanks what was found.
//!
//! First what is found by the phone's reference, with all that followed from it; then every row of the merchant that names the
//! number in whatever way it is written; at last contacts, refused requests and notices. What is at work (a call under way, an
//! entry nobody has read) is left and counted.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{Event, Id, Job, Named, id::Kind};

use super::{
    Sqlite, bounce, commands, consent, doc, events, failed, heard, ledger, open, reference::FOUND, review, tally::Tally,
};
use crate::{CommandState, Refusal};
use crate::{
    ERASED, Erased, ErasurePlace, StoreError,
    erasure::{NOTE, REASON, hash, is_own},
    numbers::{command_state, key},
};

/// A portion of an erasure: what is to be blanked, and where the next one begins.
#[derive(Default)]
struct Portion {
    entries: Vec<i64>,
    /// Those that follow from no entry.
    commands: Vec<i64>,
    exchanges: Vec<i64>,
    /// Customers.
    wallets: Vec<Id>,
    /// Contacts and what else is no part of the journal.
    rest: bool,
    busy: u64,
    next: Option<ErasurePlace>,
}

/// The stages, in their order; between the first and the last each looks through the rows of one connection after another.
const BY_REFERENCE: usize = 0;
const TABLES: [&str; 3] = ["inbox", "command", "exchange"];
const REST: usize = TABLES.len() + 1;

impl Sqlite {
    pub(super) async fn erase_portion(
        &self,
        merchant: Id,
        phone: &str,
        place: ErasurePlace,
        limit: usize,
    ) -> Result<Erased, StoreError> {
        let named = Named::new(phone);
        let hash = hash(self.phones.get(), merchant, phone)?;
        let portion = self
            .read({
                let named = named.clone();
                move |db| find(db, merchant, &named, place, limit.max(1))
            })
            .await?;
        let next = portion.next;
        let erased = self
            .write(move |db, tally| {
                // What is overwritten is to be gone from the file's pages too.
                db.pragma_update(None, "secure_delete", "ON")?;
                let erased = blank(db, merchant, &named, &portion, hash, tally);
                db.pragma_update(None, "secure_delete", "OFF")?;
                erased
            })
            .await?;
        self.fresh.told.send_modify(|groups| *groups += 1);
        if next.is_none() {
            let path = self.readers.path.clone();
            // The log still holds what stood there. Whoever reads at this moment keeps it: it goes with a later checkpoint.
            let emptied = tokio::task::spawn_blocking(move || {
                let db = open(&path, true)?;
                db.execute_batch("PRAGMA busy_timeout=100").map_err(failed)?;
                db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)
            });
            if let Ok(Err(error)) = emptied.await {
                tracing::info!("the log keeps for now what was erased: {error}");
            }
        }
        Ok(erased)
    }
}

fn number(row: Option<[u8; 16]>) -> i64 {
    row.map_or(-1, |bytes| i64::from_be_bytes(*bytes.first_chunk().expect("16 bytes hold 8")))
}

fn row(number: i64) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Some(bytes)
}

fn find(db: &Connection, merchant: Id, phone: &Named, place: ErasurePlace, limit: usize) -> Result<Portion> {
    match place.stage {
        BY_REFERENCE => by_reference(db, merchant, phone, place, limit),
        REST => Ok(Portion { rest: true, wallets: ledger::of_person(db, merchant, phone)?, ..Portion::default() }),
        stage => look_through(db, TABLES[stage - 1], merchant, phone, place, limit),
    }
}

fn by_reference(db: &Connection, merchant: Id, phone: &Named, place: ErasurePlace, limit: usize) -> Result<Portion> {
    let entries: Vec<i64> = db
        .prepare_cached(&format!(
            "SELECT j.ordinal FROM inbox j WHERE j.ordinal IN ({}) AND j.ordinal > ?2 AND j.merchant = ?3 ORDER BY j.ordinal LIMIT ?4",
            FOUND.replace('?', "?1")
        ))?
        .query_map(params![key(phone.key()), number(place.row), merchant.as_bytes(), limit as i64], |row| row.get(0))?
        .collect::<Result<_>>()?;
    let next = match entries.last().filter(|_| entries.len() == limit) {
        Some(last) => ErasurePlace { row: row(*last), ..place },
        None => ErasurePlace { stage: place.stage + 1, ..ErasurePlace::default() },
    };
    Ok(Portion { entries, next: Some(next), ..Portion::default() })
}

/// Looks through the next rows of one of the merchant's connections.
fn look_through(
    db: &Connection,
    table: &'static str,
    merchant: Id,
    phone: &Named,
    place: ErasurePlace,
    limit: usize,
) -> Result<Portion> {
    let mut portion = Portion::default();
    let connection =
        events::connections(db, Some(merchant), None)?.into_iter().find(|id| place.connection.is_none_or(|at| *id >= at));
    let Some(connection) = connection else {
        portion.next = Some(ErasurePlace { stage: place.stage + 1, ..ErasurePlace::default() });
        return Ok(portion);
    };
    let after = if place.connection == Some(connection) { number(place.row) } else { -1 };
    let (only, texts) = match table {
        "inbox" => ("1", "body, query, headers, path, answer"),
        "command" => ("entry IS NULL", "job, reason"),
        _ => ("command IS NULL", "request, response, endpoint, error"),
    };
    let mut rows = db.prepare_cached(&format!(
        "SELECT ordinal, {only}, {texts} FROM {table} INDEXED BY {table}_connection WHERE connection = ?1 AND ordinal > ?2
         ORDER BY ordinal LIMIT ?3"
    ))?;
    let columns = rows.column_count();
    let mut rows = rows.query(params![connection, after, limit as i64])?;
    let (mut looked, mut last) = (0, after);
    while let Some(row) = rows.next()? {
        (looked, last) = (looked + 1, row.get(0)?);
        if !row.get::<_, bool>(1)? {
            continue;
        }
        let named = (2..columns).map(|column| is_in(phone, row, column)).collect::<Result<Vec<_>>>()?.contains(&true);
        match table {
            "inbox" if named || what_followed_names(db, last, phone)? => {
                if db.prepare_cached("SELECT 1 FROM unread WHERE entry = ?1")?.exists([last])? {
                    portion.busy += 1;
                } else {
                    portion.entries.push(last);
                }
            }
            "command" if named => portion.commands.push(last),
            "exchange" if named => portion.exchanges.push(last),
            _ => {}
        }
    }
    portion.next = Some(if looked == limit {
        ErasurePlace { connection: Some(connection), row: row(last), ..place }
    } else {
        ErasurePlace { connection: after_id(connection), row: None, ..place }
    });
    Ok(portion)
}

/// The least id that comes after another.
fn after_id(id: [u8; 16]) -> Option<[u8; 16]> {
    Some(u128::from_be_bytes(id).saturating_add(1).to_be_bytes())
}

fn is_in(phone: &Named, row: &Row<'_>, column: usize) -> Result<bool> {
    Ok(row.get_ref(column)?.as_bytes_or_null()?.is_some_and(|bytes| phone.is_in(&String::from_utf8_lossy(bytes))))
}

/// Whether an entry's events, commands, their exchanges or its notes name the number.
fn what_followed_names(db: &Connection, entry: i64, phone: &Named) -> Result<bool> {
    let mut texts = db.prepare_cached(
        "SELECT doc FROM event WHERE entry = ?1 UNION ALL SELECT notes FROM outcome WHERE entry = ?1
         UNION ALL SELECT job || ifnull(reason, '') FROM command INDEXED BY command_entry WHERE entry = ?1
         UNION ALL SELECT x.request || x.response || x.endpoint || ifnull(x.error, '') FROM command c INDEXED BY command_entry
             CROSS JOIN exchange x ON x.command = c.ordinal WHERE c.entry = ?1",
    )?;
    let mut rows = texts.query([entry])?;
    while let Some(row) = rows.next()? {
        if is_in(phone, row, 0)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn blank(db: &Connection, merchant: Id, phone: &Named, portion: &Portion, hash: [u8; 32], tally: &mut Tally) -> Result<Erased> {
    let mut erased = Erased { busy: portion.busy, next: portion.next, ..Erased::default() };
    for entry in &portion.entries {
        blank_entry(db, *entry, phone, &mut erased, tally)?;
    }
    for command in &portion.commands {
        blank_command(db, *command, phone, &mut erased, tally)?;
    }
    for exchange in &portion.exchanges {
        erased.exchanges += blank_exchanges(db, "ordinal", *exchange)?;
    }
    erased.wallets = ledger::forget(db, &portion.wallets, phone)?;
    if portion.rest {
        forget_rest(db, merchant, phone, hash, &mut erased)?;
    }
    Ok(erased)
}

fn blank_entry(db: &Connection, entry: i64, phone: &Named, erased: &mut Erased, tally: &mut Tally) -> Result<()> {
    let commands: Vec<(i64, Option<[u8; 16]>, String, bool)> = db
        .prepare_cached(
            "SELECT ordinal, event, job, EXISTS (SELECT 1 FROM sending WHERE command = ordinal)
             FROM command INDEXED BY command_entry WHERE entry = ?1",
        )?
        .query_map([entry], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_>>()?;
    let events: Vec<(i64, Event)> = db
        .prepare_cached("SELECT ordinal, doc FROM event WHERE entry = ?1")?
        .query_map([entry], |row| Ok((row.get(0)?, doc(1, row)?)))?
        .collect::<Result<_>>()?;
    // A body may tell of many people: of its events those stay as they are that have another's phone.
    let (own, others): (Vec<_>, Vec<_>) = events.into_iter().partition(|(_, event)| is_own(event, phone));
    let of_others = |event: Option<[u8; 16]>| others.iter().any(|(_, other)| Some(*other.id.as_bytes()) == event);
    let commands: Vec<_> = commands.into_iter().filter(|(_, event, job, _)| phone.is_in(job) || !of_others(*event)).collect();
    let under_way = commands.iter().filter(|(.., sending)| *sending).count();
    if under_way > 0 {
        erased.busy += under_way as u64;
        return Ok(());
    }
    for (command, ..) in commands {
        blank_command(db, command, phone, erased, tally)?;
    }
    for (ordinal, mut event) in own {
        event.forget_person(phone);
        let text = serde_json::to_string(&event).expect("an event is JSON");
        db.prepare_cached("UPDATE event SET doc = ?2 WHERE ordinal = ?1")?.execute(params![ordinal, text])?;
        erased.events += 1;
    }
    blank_poll(db, entry, erased)?;
    db.prepare_cached("UPDATE outcome SET notes = ?2 WHERE entry = ?1")?.execute(params![entry, NOTE])?;
    for sql in [
        "DELETE FROM reference WHERE key = ?1 AND entry = ?2 AND part IN (SELECT DISTINCT part FROM reference)",
        "DELETE FROM reference_new WHERE key = ?1 AND entry = ?2",
    ] {
        db.prepare_cached(sql)?.execute([key(phone.key()), entry])?;
    }
    erased.entries += db
        .prepare_cached(
            "UPDATE inbox SET method = ?2, path = '', query = '[]', headers = '[]', body = x'', answer = '', peer = NULL
             WHERE ordinal = ?1 AND method <> ?2",
        )?
        .execute(params![entry, ERASED])? as u64;
    Ok(())
}

/// What was asked and answered when a poll brought the entry: kept with the connection, by the poll's trace.
fn blank_poll(db: &Connection, entry: i64, erased: &mut Erased) -> Result<()> {
    /// A page of a poll takes no longer.
    const POLL_MS: i64 = 600_000;
    let exchanges: Vec<i64> = db
        .prepare_cached(
            "SELECT x.ordinal FROM inbox j CROSS JOIN exchange x INDEXED BY exchange_connection ON x.connection = j.connection
             AND x.ordinal BETWEEN j.ordinal - ?2 AND j.ordinal + ?2 AND x.trace = j.trace AND x.command IS NULL
             WHERE j.ordinal = ?1 AND j.source = 1",
        )?
        .query_map([entry, POLL_MS << 12], |row| row.get(0))?
        .collect::<Result<_>>()?;
    for exchange in exchanges {
        erased.exchanges += blank_exchanges(db, "ordinal", exchange)?;
    }
    Ok(())
}

/// A command that waits is held back; whatever it was to say, or said, goes.
fn blank_command(db: &Connection, command: i64, phone: &Named, erased: &mut Erased, tally: &mut Tally) -> Result<()> {
    let found: Option<(u8, Result<Job>, Option<String>, bool)> = db
        .prepare_cached(
            "SELECT state, job, reason, EXISTS (SELECT 1 FROM sending WHERE command = ordinal) FROM command WHERE ordinal = ?1",
        )?
        .query_row([command], |row| Ok((row.get(0)?, doc(1, row), row.get(2)?, row.get(3)?)))
        .optional()?;
    let Some((state, job, reason, sending)) = found else { return Ok(()) };
    if sending {
        erased.busy += 1;
        return Ok(());
    }
    let waits = command_state(state) == CommandState::Waiting;
    if waits {
        commands::hold(db, command, REASON, tally)?;
    }
    let job = job.map_or_else(
        // Nobody can read it: nobody will make anything of it.
        |_| "null".to_owned(),
        |mut job| {
            job.forget_person(phone);
            serde_json::to_string(&job).expect("a job is JSON")
        },
    );
    let reason = if waits { Some(REASON.to_owned()) } else { reason };
    // Reasons of what is held are words of ours, and are counted.
    let reason = reason.map(|reason| if phone.is_in(&reason) { NOTE.to_owned() } else { reason });
    // The ordering key is a hash of the phone.
    db.prepare_cached("UPDATE command SET job = ?2, reason = ?3, order_key = 0 WHERE ordinal = ?1")?
        .execute(params![command, job, reason])?;
    db.prepare_cached("DELETE FROM slot WHERE command = ?1")?.execute([command])?;
    erased.commands += 1;
    erased.exchanges += blank_exchanges(db, "command", command)?;
    Ok(())
}

fn blank_exchanges(db: &Connection, column: &str, value: i64) -> Result<u64> {
    let blanked = db
        .prepare_cached(&format!(
            "UPDATE exchange SET request = '', response = '', endpoint = ?2, error = CASE WHEN error IS NOT NULL THEN ?3 END
             WHERE {column} = ?1 AND endpoint <> ?2"
        ))?
        .execute(params![value, ERASED, NOTE])?;
    Ok(blanked as u64)
}

/// The contact, refused requests, notices. Of an opt-out the keyed hash stays.
fn forget_rest(db: &Connection, merchant: Id, phone: &Named, hash: [u8; 32], erased: &mut Erased) -> Result<()> {
    let contact: Option<(bool, i64)> = db
        .prepare_cached("SELECT opted_out, at FROM contact WHERE merchant = ?1 AND phone = ?2")?
        .query_row(params![merchant.as_bytes(), phone.key()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((opted_out, at)) = contact {
        if opted_out {
            db.prepare_cached("INSERT INTO opted_out VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET at = max(at, excluded.at)")?
                .execute(params![merchant.as_bytes(), hash, at])?;
        }
        erased.contacts += db
            .prepare_cached("DELETE FROM contact WHERE merchant = ?1 AND phone = ?2")?
            .execute(params![merchant.as_bytes(), phone.key()])? as u64;
    }
    consent::forget(db, merchant, phone.key())?;
    review::forget(db, merchant, phone.key())?;
    heard::forget(db, merchant, phone.key())?;
    bounce::forget(db, merchant, phone.key())?;
    let own: Vec<String> = events::connections(db, Some(merchant), None)?
        .into_iter()
        .map(|id| Id::from_bytes(Kind::Connection, id).to_string())
        .collect();
    let refusals: Vec<(String, i64, Refusal)> = db
        .prepare("SELECT place, ordinal, doc FROM refusal")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, doc(2, row)?)))?
        .collect::<Result<_>>()?;
    for (place, ordinal, refusal) in refusals {
        // What came to no connection is nobody's.
        let reachable = own.contains(&place) || place.parse::<Id>().is_err();
        if reachable && serde_json::to_string(&refusal).is_ok_and(|text| phone.is_in(&text)) {
            erased.refusals +=
                db.execute("DELETE FROM refusal WHERE place = ?1 AND ordinal = ?2", params![place, ordinal])? as u64;
        }
    }
    let notices: Vec<(i64, String)> = db
        .prepare("SELECT rowid, text FROM notice WHERE merchant = ?1")?
        .query_map([merchant.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    for (notice, text) in notices {
        if phone.is_in(&text) {
            db.execute("DELETE FROM notice WHERE rowid = ?1", [notice])?;
        }
    }
    Ok(())
}
