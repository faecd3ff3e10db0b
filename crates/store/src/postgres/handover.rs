//! Entries on their way from the lane that appended them to this node's reader, in memory; and those that other nodes left.

use std::{collections::VecDeque, sync::Arc};

use deadpool_postgres::Object;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Core, failed, get, journal, lanes, uuid};
use crate::{
    Entry, EntryState, StoreError,
    numbers::{entry_number, entry_tally},
};

const ENTRIES_MAX: usize = 4_096;
const BYTES_MAX: usize = 16 << 20;

/// What this node has appended and holds for its own reader. What does not fit is left for whoever has time.
pub(super) struct Handover {
    state: Mutex<State>,
    pub(super) appended: Arc<Notify>,
}

struct State {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// There may be entries in the database that nobody means to read.
    left: bool,
}

impl Default for Handover {
    /// After a start nobody knows what was left.
    fn default() -> Self {
        let state = State { entries: VecDeque::new(), bytes: 0, left: true };
        Self { state: Mutex::new(state), appended: Arc::default() }
    }
}

impl Handover {
    /// Whether entries of so many bytes will be held in memory, so that they are marked as this node's.
    pub(super) fn has_room(&self, entries: usize, bytes: usize) -> bool {
        let state = self.state.lock();
        !state.left && state.entries.len() + entries <= ENTRIES_MAX && state.bytes + bytes <= BYTES_MAX
    }

    /// Entries that have been committed as this node's.
    pub(super) fn push(&self, entries: impl Iterator<Item = Entry>) {
        let mut state = self.state.lock();
        for entry in entries {
            state.bytes += entry.request.body.len();
            state.entries.push_back(entry);
        }
        drop(state);
        self.appended.notify_one();
    }

    /// There are entries in the database that nobody means to read.
    pub(super) fn left_some(&self) {
        self.state.lock().left = true;
        self.appended.notify_one();
    }

    /// What is held here and will not be read here any more.
    pub(super) fn give_up(&self) -> Vec<Uuid> {
        let mut state = self.state.lock();
        state.bytes = 0;
        state.entries.drain(..).map(|entry| uuid(entry.id)).collect()
    }

    fn take(&self, limit: usize) -> Option<Vec<Entry>> {
        let mut state = self.state.lock();
        if state.entries.is_empty() && state.left {
            state.left = false;
            return None;
        }
        let count = state.entries.len().min(limit);
        let entries: Vec<Entry> = state.entries.drain(..count).collect();
        state.bytes -= entries.iter().map(|entry| entry.request.body.len()).sum::<usize>();
        Some(entries)
    }
}

/// Takes what is next: from memory, or of what was left in the database.
pub(super) async fn unread(core: &Core, limit: usize) -> Result<Vec<Entry>, StoreError> {
    if let Some(entries) = core.handover.take(limit) {
        return Ok(entries);
    }
    let page = left(core, limit).await;
    if page.as_ref().map_or(true, |page| page.len() == limit) {
        core.handover.state.lock().left = true;
    }
    page
}

/// Marks entries.
pub(super) const MINE: &str =
    "UPDATE unread SET until = clock_timestamp() + $2 * interval '1 millisecond' WHERE entry = ANY(ARRAY(
         SELECT entry FROM unread WHERE until <= clock_timestamp() ORDER BY entry LIMIT $1 FOR UPDATE SKIP LOCKED))
     RETURNING entry";

/// Reads them. In a statement of its own: joined with the marking, the planner would read the whole journal.
pub(super) fn entries() -> String {
    format!("SELECT {} FROM inbox WHERE id = ANY($1) ORDER BY id", journal::ENTRY)
}

/// Marks entries that nobody means to read as this node's for a while.
async fn left(core: &Core, limit: usize) -> Result<Vec<Entry>, StoreError> {
    let mut client = core.writer().await?;
    let mark = client.prepare_cached(MINE).await.map_err(failed)?;
    let lease_ms = core.options.reading_lease.as_millis() as f64;
    let mine = client.query(&mark, &[&(limit as i64), &lease_ms]).await.map_err(failed)?;
    let mine = mine.iter().map(|row| get(row, 0)).collect::<Result<Vec<Uuid>, _>>()?;
    let statement = client.prepare_cached(&entries()).await.map_err(failed)?;
    let rows = client.query(&statement, &[&mine]).await.map_err(failed)?;
    let (mut entries, mut broken) = (Vec::new(), Vec::new());
    for row in &rows {
        match journal::read_entry(row) {
            Ok(entry) => entries.push(entry),
            Err(error) => broken.push((get::<Uuid>(row, 0)?, format!("the stored row cannot be decoded: {error}"))),
        }
    }
    if !broken.is_empty() {
        bury(core, &mut client, &broken).await?;
    }
    Ok(entries)
}

/// Rows that cannot be decoded become dead letters: they must not keep the others from being read.
async fn bury(core: &Core, client: &mut Object, rows: &[(Uuid, String)]) -> Result<(), StoreError> {
    let (entries, notes): (Vec<Uuid>, Vec<&str>) = rows.iter().map(|(entry, why)| (*entry, why.as_str())).unzip();
    let statement = client
        .prepare_cached(
            "WITH taken AS (DELETE FROM unread WHERE entry = ANY($1) RETURNING entry),
                 dead AS (INSERT INTO outcome SELECT taken.entry, $3, d.notes FROM taken
                          JOIN unnest($1::uuid[], $2::text[]) AS d (entry, notes) ON d.entry = taken.entry RETURNING entry)
             INSERT INTO tally SELECT what, $4, by * (SELECT count(*) FROM dead) FROM unnest($5::text[], $6::bigint[]) AS t (what, by)
             ON CONFLICT (what, shard) DO UPDATE SET count = tally.count + excluded.count",
        )
        .await
        .map_err(failed)?;
    let states = [entry_tally(EntryState::Dead), entry_tally(EntryState::Unread)];
    let dead = i16::from(entry_number(EntryState::Dead));
    let shard = lanes::shard(core, lanes::LEASES);
    client.execute(&statement, &[&entries, &notes, &dead, &shard, &&states[..], &&[1_i64, -1][..]]).await.map_err(failed)?;
    Ok(())
}
