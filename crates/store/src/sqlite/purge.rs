//! Retention: what is older than its time goes, a portion at a time.

use rusqlite::{Connection, Result};
use uzel_model::Timestamp;

use super::tally::Tally;

pub(super) fn purge(_db: &Connection, _before: Timestamp, _limit: usize, _tally: &mut Tally) -> Result<u64> {
    Ok(0)
}
