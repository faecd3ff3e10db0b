//! The weeks that the journal is cut into, by the time in its ids: a week is dropped at once when its time is over.

use deadpool_postgres::{GenericClient, Object};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{failed, get};
use crate::StoreError;

/// The tables that are cut, each by its own id or its entry's.
pub(super) const TABLES: [&str; 6] = ["inbox", "outcome", "event", "command", "exchange", "reference"];

const WEEK_S: i64 = 7 * 86_400;
/// 1970 began on a Thursday; weeks begin on a Monday.
const FIRST_MONDAY_S: i64 = 4 * 86_400;
/// Weeks that are made before they are needed.
const AHEAD: i64 = 4;

/// Makes the partitions of last week, this week and the next ones. Whether all are there now.
pub(super) async fn ahead(client: &mut Object) -> Result<bool, StoreError> {
    let now: Timestamp = get(&client.query_one("SELECT clock_timestamp()", &[]).await.map_err(failed)?, 0)?;
    let weeks = SignedDuration::from_secs(WEEK_S);
    cover(client, now - weeks, now + SignedDuration::from_secs(WEEK_S * AHEAD)).await
}

/// Makes the partitions of all weeks from one moment to another, where they are missing. Ids of a clock that is far off go to
/// a partition for the rest. False where somebody was in the way of one.
pub(super) async fn cover(client: &mut Object, from: Timestamp, to: Timestamp) -> Result<bool, StoreError> {
    let known = client
        .query("SELECT relname::text FROM pg_class WHERE relispartition AND pg_table_is_visible(oid)", &[])
        .await
        .map_err(failed)?;
    let known: Vec<String> = known.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
    let mut missing = Vec::new();
    for table in TABLES {
        let rest = format!("{table}_rest");
        if !known.contains(&rest) {
            missing.push(format!("CREATE TABLE IF NOT EXISTS {rest} PARTITION OF {table} DEFAULT"));
        }
        for week in week_of(from)..=week_of(to) {
            let name = name(table, week);
            if !known.contains(&name) {
                let filled = if table == "command" { " WITH (fillfactor = 85)" } else { "" };
                let (start, end) = (bound(week), bound(week + 1));
                missing.push(format!(
                    "CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ('{start}') TO ('{end}'){filled}"
                ));
            }
        }
    }
    let mut all = true;
    for sql in missing {
        match make(client, &sql).await {
            // Rows of that week are in the partition for the rest already: there they stay, and are found.
            Err(error) if error.code() == Some(&SqlState::CHECK_VIOLATION) => {
                tracing::warn!("a week of the journal stays uncut, since rows of it are there already: {sql}");
            }
            // Another node makes it, or a reader is in the way: the next look makes it, weeks before it is needed.
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => all = false,
            made => made.map_err(failed)?,
        }
    }
    Ok(all)
}

async fn make(client: &mut Object, sql: &str) -> Result<(), tokio_postgres::Error> {
    let work = client.build_transaction().start().await?;
    // The other nodes are waited for, since nobody waits for us yet. While a lock on a table is waited for, all who write to the
    // table wait behind it: not for long.
    work.batch_execute("SELECT pg_advisory_xact_lock(2054841707, 1); SET LOCAL lock_timeout = '100ms'").await?;
    work.batch_execute(sql).await?;
    work.commit().await
}

/// Weeks since the first Monday.
pub(super) fn week_of(at: Timestamp) -> i64 {
    (at.as_second() - FIRST_MONDAY_S).div_euclid(WEEK_S)
}

pub(super) fn start_of(week: i64) -> Timestamp {
    Timestamp::from_second(FIRST_MONDAY_S + week * WEEK_S).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The least id of a moment.
pub(super) fn least_id(at: Timestamp) -> Uuid {
    Uuid::from_u128((at.as_millisecond().max(0) as u128) << 80)
}

fn bound(week: i64) -> Uuid {
    least_id(start_of(week))
}

/// `inbox_2026w48`, by the ISO week.
pub(super) fn name(table: &str, week: i64) -> String {
    let date = start_of(week).to_zoned(jiff::tz::TimeZone::UTC).date().iso_week_date();
    format!("{table}_{}w{:02}", date.year(), date.week())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_a_monday_and_are_named_by_their_iso_number() {
        let at: Timestamp = "2026-11-25T06:00:00Z".parse().unwrap();
        assert_eq!(start_of(week_of(at)).to_string(), "2026-11-23T00:00:00Z");
        assert_eq!(name("inbox", week_of(at)), "inbox_2026w48");
        let new_year: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(name("event", week_of(new_year)), "event_2026w53");
    }
}
