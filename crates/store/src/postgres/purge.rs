//! Retention: what is older than its time goes: a whole week at once where nothing in it is open, else row by row.

use deadpool_postgres::{GenericClient, Object, Transaction};
use uuid::Uuid;
use uzel_model::Timestamp;

use super::{
    failed, get,
    partitions::{TABLES, least_id, name, start_of, week_of},
};
use crate::StoreError;

/// Of `inbox j` from before `$1`: nobody has still to read it, and nothing of it waits, or waits to be told.
const OVER: &str = "NOT EXISTS (SELECT 1 FROM unread u WHERE u.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM command c JOIN waiting w ON w.command = c.id WHERE c.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM event e JOIN unpublished p ON p.event = e.id WHERE e.entry = j.id)
    AND NOT EXISTS (SELECT 1 FROM command c JOIN slot s ON s.command = c.id WHERE c.entry = j.id AND s.until > $1)";

pub(super) async fn purge(client: &mut Object, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    work.batch_execute("SET LOCAL lock_timeout = '2s'").await.map_err(failed)?;
    let gone = match drop_week(&work, before).await? {
        0 => delete(&work, before, limit).await?,
        dropped => dropped,
    };
    work.commit().await.map_err(failed)?;
    Ok(gone)
}

/// Drops the oldest week if its time is over and nothing in it is open.
async fn drop_week(work: &Transaction<'_>, before: Timestamp) -> Result<u64, StoreError> {
    let oldest = work
        .query_opt(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'inbox'::regclass AND c.relname ~ '^inbox_[0-9]{4}w[0-9]{2}$' ORDER BY 1 LIMIT 1",
            &[],
        )
        .await
        .map_err(failed)?;
    let Some(oldest) = oldest.map(|row| get::<String>(&row, 0)).transpose()? else { return Ok(0) };
    // The newest week whose time is wholly over is looked back from, since names tell no moment.
    let mut week = week_of(before) - 1;
    let found = (0..2_000).find_map(|_| {
        let here = week;
        week -= 1;
        (name("inbox", here) == oldest).then_some(here)
    });
    let Some(week) = found else { return Ok(0) };
    let range: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&before, &least_id(start_of(week + 1))];
    let open = work
        .query_one(
            &format!(
                "SELECT EXISTS (SELECT 1 FROM {oldest} j WHERE j.received_at >= $1 OR NOT ({OVER}))
                     OR EXISTS (SELECT 1 FROM waiting WHERE command < $2) OR EXISTS (SELECT 1 FROM sending WHERE command < $2)"
            ),
            &range,
        )
        .await
        .map_err(failed)?;
    if get(&open, 0)? {
        return Ok(0);
    }
    let events = work
        .query_one(&format!("SELECT EXISTS (SELECT 1 FROM {} e JOIN unpublished p ON p.event = e.id)", name("event", week)), &[])
        .await
        .map_err(failed)?;
    if get(&events, 0)? {
        return Ok(0);
    }
    let count: i64 = get(&work.query_one(&format!("SELECT count(*) FROM {oldest}"), &[]).await.map_err(failed)?, 0)?;
    // What followed in a later week from an entry of this one goes with it.
    let end = least_id(start_of(week + 1));
    let later = work.query("SELECT id FROM command WHERE id >= $1 AND entry < $1", &[&end]).await.map_err(failed)?;
    let later: Vec<Uuid> = later.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let (outcome, command) = (name("outcome", week), name("command", week));
    let gone =
        format!("(SELECT id, state, reason FROM {command} UNION ALL SELECT id, state, reason FROM command WHERE id = ANY($1))");
    let count_out = format!(
        "INSERT INTO tally SELECT what, 0, -count(*) FROM (
             SELECT 'entry/' || coalesce(o.state, 1) AS what FROM {oldest} j LEFT JOIN {outcome} o ON o.entry = j.id
             UNION ALL SELECT 'command/' || state FROM {gone} c
             UNION ALL SELECT 'held/' || coalesce(reason, '') FROM {gone} c WHERE state = 5) t
             WHERE $1::uuid[] IS NOT NULL GROUP BY what
         ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count"
    );
    work.execute(&count_out, &[&later]).await.map_err(failed)?;
    for table in ["trouble", "slot", "sent"] {
        let sql = format!("DELETE FROM {table} WHERE command IN (SELECT id FROM {gone} c)");
        work.execute(&sql, &[&later]).await.map_err(failed)?;
    }
    let exchanges = format!("DELETE FROM exchange WHERE id >= $2 AND command IN (SELECT id FROM {gone} c)");
    work.execute(&exchanges, &[&later, &end]).await.map_err(failed)?;
    work.execute("DELETE FROM event WHERE id >= $1 AND entry < $1", &[&end]).await.map_err(failed)?;
    work.execute("DELETE FROM command WHERE id = ANY($1)", &[&later]).await.map_err(failed)?;
    for table in TABLES {
        work.batch_execute(&format!("DROP TABLE IF EXISTS {}", name(table, week))).await.map_err(failed)?;
    }
    Ok(count.unsigned_abs().max(1))
}

/// Deletes entries and what followed from them, and commands and exchanges that followed from none.
async fn delete(work: &Transaction<'_>, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
    let (bound, limit) = (least_id(before), limit as i64);
    let entries = work
        .prepare_cached(&format!(
            "SELECT j.id FROM inbox j WHERE j.id < $2 AND j.received_at < $1 AND {OVER} ORDER BY j.id LIMIT $3 FOR UPDATE SKIP LOCKED"
        ))
        .await
        .map_err(failed)?;
    let mut over: Vec<Uuid> = Vec::new();
    for row in work.query(&entries, &[&before, &bound, &limit]).await.map_err(failed)? {
        over.push(get(&row, 0)?);
    }
    let commands = work
        .prepare_cached(
            "SELECT c.id FROM command c WHERE c.entry = ANY($1) UNION ALL
             (SELECT c.id FROM command c WHERE c.id < $2 AND c.entry IS NULL AND c.state <> 0 AND c.due_at < $3 LIMIT $4)",
        )
        .await
        .map_err(failed)?;
    let mut ended: Vec<Uuid> = Vec::new();
    for row in work.query(&commands, &[&over, &bound, &before, &limit]).await.map_err(failed)? {
        ended.push(get(&row, 0)?);
    }
    let count = work
        .prepare_cached(
            "INSERT INTO tally SELECT what, 0, -count(*) FROM (
                 SELECT 'entry/' || coalesce(o.state, 1) AS what FROM unnest($1::uuid[]) AS e (id) LEFT JOIN outcome o ON o.entry = e.id
                 UNION ALL SELECT 'command/' || state FROM command WHERE id = ANY($2)
                 UNION ALL SELECT 'held/' || coalesce(reason, '') FROM command WHERE id = ANY($2) AND state = 5) t GROUP BY what
             ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count",
        )
        .await
        .map_err(failed)?;
    work.execute(&count, &[&over, &ended]).await.map_err(failed)?;
    let mut gone = over.len() as u64;
    for sql in [
        "DELETE FROM trouble WHERE command = ANY($1)",
        "DELETE FROM slot WHERE command = ANY($1)",
        "DELETE FROM sent WHERE command = ANY($1)",
        "DELETE FROM exchange WHERE command = ANY($1)",
        "DELETE FROM command WHERE id = ANY($1)",
    ] {
        let statement = work.prepare_cached(sql).await.map_err(failed)?;
        work.execute(&statement, &[&ended]).await.map_err(failed)?;
    }
    for sql in [
        "DELETE FROM event WHERE entry = ANY($1)",
        "DELETE FROM outcome WHERE entry = ANY($1)",
        "DELETE FROM reference WHERE entry = ANY($1)",
        "DELETE FROM inbox WHERE id = ANY($1)",
    ] {
        let statement = work.prepare_cached(sql).await.map_err(failed)?;
        work.execute(&statement, &[&over]).await.map_err(failed)?;
    }
    let exchanges = work
        .prepare_cached(
            "DELETE FROM exchange WHERE id IN (SELECT id FROM exchange WHERE id < $1 AND command IS NULL AND at < $2 LIMIT $3)",
        )
        .await
        .map_err(failed)?;
    gone += work.execute(&exchanges, &[&bound, &before, &limit]).await.map_err(failed)?;
    if gone == 0 {
        let day = before.as_millisecond().div_euclid(86_400_000) as i32;
        work.execute("DELETE FROM notice WHERE day < $1", &[&day]).await.map_err(failed)?;
        work.execute("DELETE FROM slot WHERE until < $1", &[&before]).await.map_err(failed)?;
    }
    Ok(gone)
}
