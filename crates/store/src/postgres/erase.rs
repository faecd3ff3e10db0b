//! Erasure of one person, a portion at a time.
//!
//! First what is found by the phone's reference, with all that followed from it; then every row of the merchant that names the
//! number in whatever way it is written; at last contacts, refused requests and notices. What is at work (a call under way, an
//! entry nobody has read) is left and counted.

use deadpool_postgres::{GenericClient, Object, Transaction};
use uuid::Uuid;
use uzel_model::{Event, Id, Job, Named, Timestamp, id::Kind};

use super::{
    Core, bounce, commands, consent, doc, events, failed, get, heard, id,
    journal::text,
    lanes::{self, Fault},
    ledger, review, uuid,
    work::{self, Gathered},
};
use crate::{
    ERASED, Erased, ErasurePlace, Refusal, StoreError,
    erasure::{NOTE, REASON, hash, is_own},
    numbers::key,
};

/// A portion of an erasure: what is to be blanked, and where the next one begins.
#[derive(Default)]
struct Portion {
    entries: Vec<Uuid>,
    /// Those that follow from no entry.
    commands: Vec<Uuid>,
    exchanges: Vec<Uuid>,
    /// Contacts and what else is no part of the journal.
    rest: bool,
    busy: u64,
    next: Option<ErasurePlace>,
}

/// The stages, in their order; between the first and the last each looks through the rows of one connection after another.
const BY_REFERENCE: usize = 0;
const TABLES: [&str; 3] = ["inbox", "command", "exchange"];
const REST: usize = TABLES.len() + 1;

pub(super) async fn portion(
    core: &Core,
    merchant: Id,
    phone: &str,
    place: ErasurePlace,
    limit: usize,
) -> Result<Erased, StoreError> {
    let (hash, named) = (hash(core.phones.get(), merchant, phone)?, Named::new(phone));
    let portion = find(&mut core.reader().await?, merchant, &named, place, limit.max(1)).await?;
    let mut tries = 0;
    loop {
        let ended = blank(core, merchant, &named, &portion, &hash).await;
        if !lanes::again(&ended, &mut tries) {
            return ended.map_err(StoreError::from);
        }
    }
}

async fn find(
    client: &mut Object,
    merchant: Id,
    phone: &Named,
    place: ErasurePlace,
    limit: usize,
) -> Result<Portion, StoreError> {
    let work = super::snapshot(client).await?;
    let portion = match place.stage {
        BY_REFERENCE => by_reference(&work, merchant, phone, place, limit).await,
        REST => Ok(Portion { rest: true, ..Portion::default() }),
        stage => look_through(&work, TABLES[stage - 1], merchant, phone, place, limit).await,
    };
    work.commit().await.map_err(failed)?;
    portion
}

async fn by_reference(
    work: &Transaction<'_>,
    merchant: Id,
    phone: &Named,
    place: ErasurePlace,
    limit: usize,
) -> Result<Portion, StoreError> {
    let statement = work
        .prepare_cached(
            "SELECT j.id FROM reference r JOIN inbox j ON j.id = r.entry WHERE r.key = $1 AND r.entry > $2 AND j.merchant = $3
             ORDER BY j.id LIMIT $4",
        )
        .await
        .map_err(failed)?;
    let after = place.row.map_or(Uuid::nil(), Uuid::from_bytes);
    let rows = work.query(&statement, &[&key(phone.key()), &after, &uuid(merchant), &(limit as i64)]).await.map_err(failed)?;
    let entries = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    let next = match entries.last().filter(|_| entries.len() == limit) {
        Some(last) => ErasurePlace { row: Some(*last.as_bytes()), ..place },
        None => ErasurePlace { stage: place.stage + 1, ..ErasurePlace::default() },
    };
    Ok(Portion { entries, next: Some(next), ..Portion::default() })
}

/// As SQL: whether a text names the person: by the digits `$3` with whatever stands between them (`$4`), or by the pattern `$3`.
fn names(person: &Named, text: &str) -> String {
    if person.digits().is_some() {
        format!("position($3 IN translate({text}, $4, '')) > 0")
    } else {
        format!("(replace(replace(lower({text}), '%40', '@'), '%2b', '+') ~ $3 AND $4::text IS NOT NULL)")
    }
}

/// Looks through the next rows of one of the merchant's connections. The server looks: bodies need not come here for it.
async fn look_through(
    work: &Transaction<'_>,
    table: &'static str,
    merchant: Id,
    phone: &Named,
    place: ErasurePlace,
    limit: usize,
) -> Result<Portion, StoreError> {
    let mut portion = Portion::default();
    let after = place.connection.map_or(Uuid::nil(), Uuid::from_bytes);
    let connection = events::connections(work, Some(merchant), None).await?.into_iter().find(|id| *id >= after);
    let Some(connection) = connection else {
        portion.next = Some(ErasurePlace { stage: place.stage + 1, ..ErasurePlace::default() });
        return Ok(portion);
    };
    let row = place.row.filter(|_| connection == after).map_or(Uuid::nil(), Uuid::from_bytes);
    let next = format!("SELECT t.* FROM {table} t WHERE t.connection = $1 AND t.id > $2 ORDER BY t.id LIMIT $5");
    let names = |text: &str| names(phone, text);
    let pattern = phone.pattern();
    let wanted = phone.digits().or(pattern.as_deref()).unwrap_or_default();
    let (named, busy) = match table {
        "inbox" => (
            format!(
                "{} OR EXISTS (SELECT 1 FROM event e WHERE e.entry = t.id AND {})
                 OR EXISTS (SELECT 1 FROM outcome o WHERE o.entry = t.id AND {})
                 OR EXISTS (SELECT 1 FROM command c LEFT JOIN exchange x ON x.command = c.id WHERE c.entry = t.id AND {})",
                names("encode(t.body, 'escape') || t.query || t.headers || t.path || t.answer"),
                names("e.doc"),
                names("coalesce(o.notes, '')"),
                names(
                    "c.job || coalesce(c.reason, '') || coalesce(x.request || x.response || x.endpoint, '') || coalesce(x.error, '')"
                ),
            ),
            "EXISTS (SELECT 1 FROM unread u WHERE u.entry = t.id)",
        ),
        "command" => (format!("t.entry IS NULL AND {}", names("t.job || coalesce(t.reason, '')")), "false"),
        _ => (
            format!("t.command IS NULL AND {}", names("t.request || t.response || t.endpoint || coalesce(t.error, '')")),
            "false",
        ),
    };
    let statement =
        work.prepare_cached(&format!("SELECT t.id, ({named}), {busy} FROM ({next}) AS t ORDER BY t.id")).await.map_err(failed)?;
    let rows = work.query(&statement, &[&connection, &row, &wanted, &Named::BETWEEN, &(limit as i64)]).await.map_err(failed)?;
    let found = match table {
        "inbox" => &mut portion.entries,
        "command" => &mut portion.commands,
        _ => &mut portion.exchanges,
    };
    let mut last = row;
    for row in &rows {
        last = get(row, 0)?;
        match (get(row, 1)?, get(row, 2)?) {
            (true, true) => portion.busy += 1,
            (true, false) => found.push(last),
            (false, _) => {}
        }
    }
    portion.next = Some(if rows.len() == limit {
        ErasurePlace { connection: Some(*connection.as_bytes()), row: Some(*last.as_bytes()), ..place }
    } else {
        let following = connection.as_u128().saturating_add(1).to_be_bytes();
        ErasurePlace { connection: Some(following), row: None, ..place }
    });
    Ok(portion)
}

async fn blank(core: &Core, merchant: Id, phone: &Named, portion: &Portion, hash: &[u8; 32]) -> Result<Erased, Fault> {
    let mut erased = Erased { busy: portion.busy, next: portion.next, ..Erased::default() };
    let mut client = core.writer().await?;
    let work = client.build_transaction().start().await?;
    let mut gathered = Gathered::default();
    let followed = work.prepare_cached("SELECT id FROM command WHERE entry = ANY($1) OR id = ANY($2)").await?;
    let mut all: Vec<Uuid> = Vec::new();
    for row in work.query(&followed, &[&portion.entries, &portion.commands]).await? {
        all.push(get(&row, 0)?);
    }
    commands::lock(&work, &all).await?;
    for entry in &portion.entries {
        blank_entry(&work, *entry, phone, &mut erased, &mut gathered).await?;
    }
    blank_commands(&work, &portion.commands, phone, &mut erased, &mut gathered).await?;
    erased.exchanges += blank_exchanges(&work, "id", &portion.exchanges).await?;
    if portion.rest {
        forget_rest(&work, merchant, phone, hash, &mut erased).await?;
    }
    let told = gathered.tells();
    work::write_gathered(&work, gathered, lanes::shard(core, lanes::LEASES)).await?;
    work.commit().await?;
    if told {
        core.told_events();
    }
    if erased.commands > 0 {
        core.told.due();
    }
    Ok(erased)
}

async fn blank_entry(
    work: &Transaction<'_>,
    entry: Uuid,
    phone: &Named,
    erased: &mut Erased,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    let statement = work.prepare_cached("SELECT doc FROM event WHERE entry = $1").await?;
    let found = work.query(&statement, &[&entry]).await?;
    let found = found.iter().map(|row| doc::<Event>(row, 0)).collect::<Result<Vec<_>, _>>()?;
    // A body may tell of many people: of its events those stay as they are that have another's phone.
    let (own, others): (Vec<Event>, Vec<Event>) = found.into_iter().partition(|event| is_own(event, phone));
    let others: Vec<Uuid> = others.iter().map(|event| uuid(event.id)).collect();
    let statement = work
        .prepare_cached(
            "SELECT id, job, event = ANY($2) IS TRUE, EXISTS (SELECT 1 FROM sending s WHERE s.command = id) FROM command
             WHERE entry = $1",
        )
        .await?;
    let (mut followed, mut under_way) = (Vec::new(), 0);
    for row in work.query(&statement, &[&entry, &others]).await? {
        let (job, of_other, sending): (String, bool, bool) = (get(&row, 1)?, get(&row, 2)?, get(&row, 3)?);
        if phone.is_in(&job) || !of_other {
            followed.push(get::<Uuid>(&row, 0)?);
            under_way += u64::from(sending);
        }
    }
    if under_way > 0 {
        erased.busy += under_way;
        return Ok(());
    }
    blank_commands(work, &followed, phone, erased, gathered).await?;
    for mut event in own {
        event.forget_person(phone);
        let text = serde_json::to_string(&event).expect("an event is JSON");
        let statement = work.prepare_cached("UPDATE event SET doc = $2 WHERE id = $1").await?;
        erased.events += work.execute(&statement, &[&uuid(event.id), &text]).await?;
    }
    // What was asked and answered when a poll brought it: kept with the connection, by the poll's trace. A page takes no longer
    // than ten minutes, and ids begin with the time.
    let poll = work
        .prepare_cached(
            "SELECT x.id FROM inbox j JOIN exchange x ON x.connection = j.connection AND x.trace = j.trace AND x.command IS NULL
             AND x.id BETWEEN $2 AND $3 WHERE j.id = $1 AND j.source = 1",
        )
        .await?;
    let ten_minutes = 600_000_u128 << 80;
    let (from, to) = (entry.as_u128().saturating_sub(ten_minutes), entry.as_u128().saturating_add(ten_minutes));
    let rows = work.query(&poll, &[&entry, &Uuid::from_u128(from), &Uuid::from_u128(to)]).await?;
    let exchanges = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    erased.exchanges += blank_exchanges(work, "id", &exchanges).await?;
    let note = work.prepare_cached("UPDATE outcome SET notes = $2 WHERE entry = $1").await?;
    work.execute(&note, &[&entry, &NOTE]).await?;
    let reference = work.prepare_cached("DELETE FROM reference WHERE key = $1 AND entry = $2").await?;
    work.execute(&reference, &[&key(phone.key()), &entry]).await?;
    let statement = work
        .prepare_cached(
            "UPDATE inbox SET method = $2, path = '', query = '[]', headers = '[]', body = '', answer = '', peer = NULL
             WHERE id = $1 AND method <> $2",
        )
        .await?;
    erased.entries += work.execute(&statement, &[&entry, &ERASED]).await?;
    Ok(())
}

/// Commands that wait are held back; whatever they were to say, or said, goes.
async fn blank_commands(
    work: &Transaction<'_>,
    ids: &[Uuid],
    phone: &Named,
    erased: &mut Erased,
    gathered: &mut Gathered,
) -> Result<(), Fault> {
    if ids.is_empty() {
        return Ok(());
    }
    commands::hold_back(work, ids, REASON, gathered).await?;
    let statement = work
        .prepare_cached(
            "SELECT id, job, reason, EXISTS (SELECT 1 FROM sending s WHERE s.command = id) FROM command WHERE id = ANY($1)",
        )
        .await?;
    for row in work.query(&statement, &[&ids]).await? {
        if get(&row, 3)? {
            erased.busy += 1;
            continue;
        }
        let (command, reason): (Uuid, Option<String>) = (get(&row, 0)?, get(&row, 2)?);
        let job = doc::<Job>(&row, 1).map_or_else(
            // Nobody can read it: nobody will make anything of it.
            |_| "null".to_owned(),
            |mut job| {
                job.forget_person(phone);
                serde_json::to_string(&job).expect("a job is JSON")
            },
        );
        let reason = reason.map(|reason| if phone.is_in(&reason) { NOTE.to_owned() } else { reason });
        // The ordering key is a hash of the phone.
        let blank = work.prepare_cached("UPDATE command SET job = $2, reason = $3, order_key = 0 WHERE id = $1").await?;
        erased.commands += work.execute(&blank, &[&command, &job, &reason.as_deref().map(text)]).await?;
        let free = work.prepare_cached("DELETE FROM slot WHERE command = $1").await?;
        work.execute(&free, &[&command]).await?;
        erased.exchanges += blank_exchanges(work, "command", &[command]).await?;
    }
    Ok(())
}

async fn blank_exchanges(work: &Transaction<'_>, column: &str, values: &[Uuid]) -> Result<u64, Fault> {
    let sql = format!(
        "UPDATE exchange SET request = '', response = '', endpoint = $2, error = CASE WHEN error IS NOT NULL THEN $3 END
         WHERE {column} = ANY($1) AND endpoint <> $2"
    );
    Ok(work.execute(&work.prepare_cached(&sql).await?, &[&values, &ERASED, &NOTE]).await?)
}

/// The contact, refused requests, notices. Of an opt-out the keyed hash stays.
async fn forget_rest(
    work: &Transaction<'_>,
    merchant: Id,
    phone: &Named,
    hash: &[u8; 32],
    erased: &mut Erased,
) -> Result<(), Fault> {
    let contact = work.prepare_cached("DELETE FROM contact WHERE merchant = $1 AND phone = $2 RETURNING opted_out, at").await?;
    if let Some(row) = work.query_opt(&contact, &[&uuid(merchant), &phone.key()]).await? {
        erased.contacts += 1;
        if get(&row, 0)? {
            let keep = work
                .prepare_cached(
                    "INSERT INTO opted_out VALUES ($1, $2, $3)
                     ON CONFLICT (merchant, hash) DO UPDATE SET at = greatest(opted_out.at, excluded.at)",
                )
                .await?;
            work.execute(&keep, &[&uuid(merchant), &hash.as_slice(), &get::<Timestamp>(&row, 1)?]).await?;
        }
    }
    consent::forget(work, merchant, phone.key()).await?;
    review::forget(work, merchant, phone.key()).await?;
    heard::forget(work, merchant, phone.key()).await?;
    bounce::forget(work, merchant, phone.key()).await?;
    erased.wallets = ledger::forget(work, merchant, phone).await?;
    let own: Vec<String> = events::connections(work, Some(merchant), None)
        .await?
        .into_iter()
        .map(|id| Id::from_bytes(Kind::Connection, *id.as_bytes()).to_string())
        .collect();
    for row in work.query("SELECT number, place, doc FROM refusal", &[]).await? {
        let (number, place, refusal): (i64, String, Refusal) = (get(&row, 0)?, get(&row, 1)?, doc(&row, 2)?);
        // What came to no connection is nobody's.
        let reachable = own.contains(&place) || place.parse::<Id>().is_err();
        if reachable && serde_json::to_string(&refusal).is_ok_and(|text| phone.is_in(&text)) {
            erased.refusals += work.execute("DELETE FROM refusal WHERE number = $1", &[&number]).await?;
        }
    }
    let notices = "SELECT connection, kind, day, text FROM notice WHERE merchant = $1";
    for row in work.query(notices, &[&uuid(merchant)]).await? {
        if phone.is_in(&get::<String>(&row, 3)?) {
            let (connection, kind, day) = (id(Kind::Connection, &row, 0)?, get::<String>(&row, 1)?, get::<i32>(&row, 2)?);
            let sql = "DELETE FROM notice WHERE merchant = $1 AND connection = $2 AND kind = $3 AND day = $4";
            work.execute(sql, &[&uuid(merchant), &uuid(connection), &kind, &day]).await?;
        }
    }
    Ok(())
}
