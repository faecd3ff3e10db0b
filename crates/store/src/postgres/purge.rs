//! Retention: what is older than its time goes: a whole week at once where nothing in it is open, else row by row.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object, Transaction};
use tokio_postgres::error::SqlState;
use uuid::Uuid;
use uzel_model::{Id, Timestamp};

use super::{
    bounce, events, failed, get, heard, ledger,
    partitions::{TABLES, least_id, name, start_of, week_of},
    review,
};
use crate::StoreError;

/// Of `inbox j` from before `$1`: nobody has still to read it, and nothing of it waits, or waits to be told.
const OVER: &str = "NOT EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM command c JOIN waiting w ON w.command = c.id WHERE c.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM event e JOIN unpublished p ON p.event = e.id WHERE e.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM command c JOIN slot s ON s.command = c.id WHERE c.entry = j.id AND s.until > $1)";

/// Counts in a shard of its own: else the lane whose shard it is would wait until a week is gone.
const SHARD: i32 = -1;
/// While it waits for a lock on a whole table, all others wait behind it: so each wait is shorter than the second after which
/// the server looks for deadlocks, and ends whomever it finds.
const LOCK_TRIES: u32 = 10;
const LOCK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn purge(client: &mut Object, merchant: Option<Id>, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    work.batch_execute("SET LOCAL lock_timeout = '500ms'; SET LOCAL statement_timeout = '15min'").await.map_err(failed)?;
    // A week may take longer than a node's turn; two that purge at once would wait for each other.
    let alone = work.query_one("SELECT pg_try_advisory_xact_lock(2054841707, 2)", &[]).await.map_err(failed)?;
    if !get::<bool>(&alone, 0)? {
        return Ok(0);
    }
    work.batch_execute("SAVEPOINT before_week").await.map_err(failed)?;
    // A week is everybody's.
    let week = if merchant.is_none() { drop_week(&work, before).await? } else { Week::Open };
    let gone = match week {
        Week::Gone(entries) => entries,
        Week::Open => {
            // The week stays: whoever writes to it need not wait for what goes one by one.
            work.batch_execute("ROLLBACK TO SAVEPOINT before_week").await.map_err(failed)?;
            delete(&work, merchant, before, limit).await?
        }
        // Nothing of it is kept, and its locks are given back.
        Week::InUse => return Err(StoreError::Busy),
    };
    work.commit().await.map_err(failed)?;
    Ok(gone)
}

/// Held by whoever looks through a week to drop it; those share it who make old entries and events be looked at again.
const REOPENING: &str = "SELECT pg_advisory_xact_lock(2054841707, 3)";
pub(super) const REOPENING_SHARED: &str = "SELECT pg_advisory_xact_lock_shared(2054841707, 3)";

/// What became of the oldest week.
enum Week {
    Gone(u64),
    /// Its time is not over, or something in it is open.
    Open,
    /// Somebody reads or writes all the time: another time.
    InUse,
}

/// Drops the oldest week if its time is over and nothing in it is open.
async fn drop_week(work: &Transaction<'_>, before: Timestamp) -> Result<Week, StoreError> {
    let oldest = work
        .query_opt(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'inbox'::regclass AND c.relname ~ '^inbox_[0-9]{4}w[0-9]{2}$' ORDER BY 1 LIMIT 1",
            &[],
        )
        .await
        .map_err(failed)?;
    let Some(oldest) = oldest.map(|row| get::<String>(&row, 0)).transpose()? else { return Ok(Week::Open) };
    // The newest week whose time is wholly over is looked back from, since names tell no moment.
    let mut week = week_of(before) - 1;
    let found = (0..2_000).find_map(|_| {
        let here = week;
        week -= 1;
        (name("inbox", here) == oldest).then_some(here)
    });
    let Some(week) = found else { return Ok(Week::Open) };
    let parts = TABLES.map(|table| name(table, week));
    let there = work
        .query_one(
            "SELECT count(*) FROM unnest($1::text[]) AS t (name) WHERE to_regclass(name) IS NOT NULL",
            &[&parts.as_slice()],
        )
        .await
        .map_err(failed)?;
    if get::<i64>(&there, 0)? != parts.len() as i64 {
        // Some of its rows are among the rest: they go one by one.
        return Ok(Week::Open);
    }
    let (start, end) = (least_id(start_of(week)), least_id(start_of(week + 1)));
    // What keeps most weeks is told by two small indexes: without that every portion would look through the whole week, locked.
    let kept = "SELECT EXISTS (SELECT 1 FROM waiting WHERE command < $1) OR EXISTS (SELECT 1 FROM unread WHERE entry < $1)";
    if get(&work.query_one(kept, &[&end]).await.map_err(failed)?, 0)? {
        return Ok(Week::Open);
    }
    let (outcome, event, command) = (name("outcome", week), name("event", week), name("command", week));
    // Nothing of it is read again meanwhile; what is over is not settled either. A lock on the week itself would stop whoever has one
    // on the whole table, and then never let go: each would wait for the other.
    match work.batch_execute(REOPENING).await {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(Week::InUse),
        locked => locked.map_err(failed)?,
    }
    let open = work
        .query_one(
            &format!(
                "SELECT EXISTS (SELECT 1 FROM {oldest} j WHERE j.received_at >= $1 OR NOT ({OVER}))
                     OR EXISTS (SELECT 1 FROM waiting WHERE command < $2) OR EXISTS (SELECT 1 FROM sending WHERE command < $2)
                     OR EXISTS (SELECT 1 FROM {event} e JOIN unpublished p ON p.event = e.id)"
            ),
            &[&before, &end],
        )
        .await
        .map_err(failed)?;
    if get(&open, 0)? {
        return Ok(Week::Open);
    }
    let count: i64 = get(&work.query_one(&format!("SELECT count(*) FROM {oldest}"), &[]).await.map_err(failed)?, 0)?;
    // An entry of a week's last moments is read in the next one; a replay comes even later.
    let late = work
        .query("SELECT id FROM command WHERE entry >= $1 AND entry < $2 AND id >= $2", &[&start, &end])
        .await
        .map_err(failed)?;
    let late = late.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    forget_commands(work, &late).await?;
    for sql in [
        "DELETE FROM event WHERE entry >= $1 AND entry < $2 AND id >= $2",
        "DELETE FROM exchange WHERE command >= $1 AND command < $2 AND id >= $2",
    ] {
        work.execute(sql, &[&start, &end]).await.map_err(failed)?;
    }
    work.batch_execute(&format!(
        "INSERT INTO tally SELECT what, {SHARD}, -count(*) FROM (
             SELECT 'entry/' || coalesce(o.state, 1) AS what FROM {oldest} j LEFT JOIN {outcome} o ON o.entry = j.id
             UNION ALL SELECT 'command/' || state FROM {command}
             UNION ALL SELECT 'held/' || coalesce(reason, '') FROM {command} WHERE state = 5) t GROUP BY what
         ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count;
         DELETE FROM trouble WHERE command IN (SELECT id FROM {command} WHERE state >= 3);
         DELETE FROM slot WHERE command IN (SELECT id FROM {command});
         DELETE FROM step WHERE command IN (SELECT id FROM {command});
         DELETE FROM sent WHERE command IN (SELECT id FROM {command})"
    ))
    .await
    .map_err(failed)?;
    if !lock_all(work).await? {
        return Ok(Week::InUse);
    }
    work.batch_execute(&format!("DROP TABLE {}", parts.join(", "))).await.map_err(failed)?;
    Ok(Week::Gone(count.unsigned_abs().max(1)))
}

/// Takes the tables whose week goes, all or none: whoever held some and waited for others would stop everybody meanwhile.
async fn lock_all(work: &Transaction<'_>) -> Result<bool, StoreError> {
    let tables: Vec<String> = TABLES.iter().map(|table| format!("ONLY {table}")).collect();
    let take = format!("SET LOCAL lock_timeout = '100ms'; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", tables.join(", "));
    for _ in 0..LOCK_TRIES {
        work.batch_execute("SAVEPOINT before_locks").await.map_err(failed)?;
        match work.batch_execute(&take).await {
            Ok(()) => return Ok(true),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                work.batch_execute("ROLLBACK TO SAVEPOINT before_locks").await.map_err(failed)?;
                tokio::time::sleep(LOCK_AGAIN).await;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(false)
}

/// Deletes commands and what followed from them, and takes them out of the counts.
async fn forget_commands(work: &Transaction<'_>, ended: &[Uuid]) -> Result<(), StoreError> {
    let count = format!(
        "INSERT INTO tally SELECT what, {SHARD}, -count(*) FROM (
             SELECT 'command/' || state AS what FROM command WHERE id = ANY($1)
             UNION ALL SELECT 'held/' || coalesce(reason, '') FROM command WHERE id = ANY($1) AND state = 5) t GROUP BY what
         ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count"
    );
    for sql in [
        count.as_str(),
        "DELETE FROM trouble WHERE command = ANY($1)",
        "DELETE FROM slot WHERE command = ANY($1)",
        "DELETE FROM step WHERE command = ANY($1)",
        // By its own key: no index leads from a command to what was sent.
        "DELETE FROM sent s USING command c WHERE c.id = ANY($1) AND s.connection = c.connection
         AND s.provider_id = c.provider_id AND s.command = c.id",
        "DELETE FROM exchange WHERE command = ANY($1)",
        "DELETE FROM command WHERE id = ANY($1)",
    ] {
        let statement = work.prepare_cached(sql).await.map_err(failed)?;
        work.execute(&statement, &[&ended]).await.map_err(failed)?;
    }
    Ok(())
}

/// Deletes entries and what followed from them, and commands and exchanges that followed from none: of a merchant, or of all.
async fn delete(work: &Transaction<'_>, merchant: Option<Id>, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let (bound, limit) = (least_id(before), limit as i64);
    // What stays lies at the beginning: of each of a merchant's connections its oldest are found by its index.
    let own = match merchant {
        Some(_) => Some(events::connections(work, merchant, None).await?),
        None => None,
    };
    let of = |table: &str, conditions: &str, limit: &str, bound: &str| match own {
        None => format!("SELECT t.id FROM {table} t WHERE t.id < {bound} AND {conditions} ORDER BY t.id LIMIT {limit}"),
        Some(_) => format!(
            "SELECT t.id FROM unnest($4::uuid[]) AS c (connection) CROSS JOIN LATERAL (SELECT t.id FROM {table} t
                 WHERE t.connection = c.connection AND t.id < {bound} AND {conditions} ORDER BY t.id LIMIT {limit}) AS t
             ORDER BY t.id LIMIT {limit}"
        ),
    };
    let found = async |sql: String| -> Result<Vec<Uuid>, StoreError> {
        let statement = work.prepare_cached(&sql).await.map_err(failed)?;
        let rows = match &own {
            None => work.query(&statement, &[&before, &bound, &limit]).await,
            Some(own) => work.query(&statement, &[&before, &bound, &limit, own]).await,
        };
        rows.map_err(failed)?.iter().map(|row| get(row, 0)).collect()
    };
    let over = found(of("inbox", &format!("t.received_at < $1 AND {}", OVER.replace("j.id", "t.id")), "$3", "$2")).await?;
    // Locked, unless somebody is at work on them, or has made something of them since.
    let lock = work
        .prepare_cached(&format!("SELECT j.id FROM inbox j WHERE j.id = ANY($2) AND {OVER} ORDER BY j.id FOR UPDATE SKIP LOCKED"))
        .await
        .map_err(failed)?;
    let rows = work.query(&lock, &[&before, &over]).await.map_err(failed)?;
    let over = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    let followed = work.prepare_cached("SELECT id FROM command WHERE entry = ANY($1)").await.map_err(failed)?;
    let rows = work.query(&followed, &[&over]).await.map_err(failed)?;
    let mut ended = rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    ended.extend(found(of("command", "t.entry IS NULL AND t.state <> 0 AND t.due_at < $1", "$3", "$2")).await?);
    forget_commands(work, &ended).await?;
    let mut gone = over.len() as u64;
    let count = format!(
        "INSERT INTO tally SELECT 'entry/' || coalesce(o.state, 1), {SHARD}, -count(*)
         FROM unnest($1::uuid[]) AS e (id) LEFT JOIN outcome o ON o.entry = e.id GROUP BY 1
         ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count"
    );
    for sql in [
        count.as_str(),
        "DELETE FROM event WHERE entry = ANY($1)",
        "DELETE FROM outcome WHERE entry = ANY($1)",
        // References of weeks go with their week: no index leads from an entry to them, and a scan for each portion would take
        // longer than all else. Until then they lead to nothing, which is harmless; see the table `purged`.
        "DELETE FROM reference_rest r USING unnest($1::uuid[]) AS e (id) WHERE r.entry = e.id",
        "DELETE FROM inbox WHERE id = ANY($1)",
    ] {
        let statement = work.prepare_cached(sql).await.map_err(failed)?;
        work.execute(&statement, &[&over]).await.map_err(failed)?;
    }
    if !over.is_empty() || merchant.is_none() {
        let put = "INSERT INTO purged VALUES (true, $1)
             ON CONFLICT (one) DO UPDATE SET before = greatest(purged.before, excluded.before)";
        work.execute(put, &[&bound]).await.map_err(failed)?;
    }
    let exchanges = found(of("exchange", "t.command IS NULL AND t.at < $1", "$3", "$2")).await?;
    let forget = work.prepare_cached("DELETE FROM exchange WHERE id = ANY($1)").await.map_err(failed)?;
    gone += work.execute(&forget, &[&exchanges]).await.map_err(failed)?;
    gone += ledger::purge(work, merchant, before, limit).await?;
    if gone == 0 {
        review::purge(work, merchant, before).await?;
        let day = before.as_millisecond().div_euclid(86_400_000) as i32;
        let notices = "DELETE FROM notice WHERE day < $1 AND ($2::uuid IS NULL OR merchant = $2)";
        work.execute(notices, &[&day, &merchant.map(super::uuid)]).await.map_err(failed)?;
        heard::purge(work, merchant, before).await?;
        bounce::purge(work, merchant, before).await?;
        if merchant.is_none() {
            work.execute("DELETE FROM slot WHERE until < $1", &[&before]).await.map_err(failed)?;
            // Nobody can publish them any more; none of ours: what waits to be published is kept.
            work.execute("DELETE FROM unpublished u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.id = u.event)", &[])
                .await
                .map_err(failed)?;
        }
    }
    Ok(gone)
}
