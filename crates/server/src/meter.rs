//! Counts the calls of those who have a right to make them, in a table of fixed size and without a lock.
//!
//! Each caller has a cell in each of two rows, chosen by two parts of one hash. A cell holds the moment at which it is empty again:
//! how far ahead of now that lies says how much has been used up (the generic cell rate algorithm). A call is one too many only where
//! both of its cells are full. So whoever floods fills one cell of each row, and another caller is held up only where both cells are
//! the same: one in sixty million. Each node counts by itself.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

const CELLS: usize = 1 << 13;
const WINDOW_US: u64 = 60_000_000;

/// The cells of all callers.
pub(crate) struct Meter {
    /// Microseconds after the start, at which the cell is empty again.
    rows: [Box<[AtomicU64]>; 2],
    /// Keyed anew at each start, so that nobody can choose whose cells to fall into.
    hasher: RandomState,
    start: Instant,
}

/// What is left of a minute's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) per_minute: u32,
    pub(crate) calls: u32,
    /// So long until all of it is there again.
    pub(crate) full_in_s: u32,
}

/// It is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) per_minute: u32,
    pub(crate) retry_after_s: u32,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let row = || (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { rows: [row(), row()], hasher: RandomState::new(), start: Instant::now() }
    }

    /// Takes one call from a budget that fills up steadily, and may be spent all at once.
    pub(crate) fn take(&self, who: &impl Hash, per_minute: u32) -> Result<Left, Spent> {
        self.take_at(who, per_minute, self.start.elapsed().as_micros() as u64)
    }

    fn take_at(&self, who: &impl Hash, per_minute: u32, now: u64) -> Result<Left, Spent> {
        let each = (WINDOW_US / u64::from(per_minute.max(1))).max(1);
        let hash = self.hasher.hash_one(who);
        let cells = [&self.rows[0][hash as usize % CELLS], &self.rows[1][(hash >> 32) as usize % CELLS]];
        let takes = |empty_at: u64| Some(empty_at.max(now) + each).filter(|next| *next <= now + WINDOW_US);
        let taken =
            cells.map(|cell| cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, takes).map(|was| was.max(now) + each));
        let seconds = |micros: u64| micros.div_ceil(1_000_000).max(1) as u32;
        match taken {
            [Err(one), Err(other)] => Err(Spent { per_minute, retry_after_s: seconds(one.min(other) + each - WINDOW_US - now) }),
            [one, other] => {
                let used = one.into_iter().chain(other).min().unwrap_or(now) - now;
                Ok(Left { per_minute, calls: ((WINDOW_US - used) / each) as u32, full_in_s: seconds(used) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_may_be_spent_at_once_and_fills_up_steadily() {
        let meter = Meter::new();
        let left = |calls, full_in_s| Ok(Left { per_minute: 20, calls, full_in_s });
        assert_eq!(meter.take_at(&"a", 20, 5), left(19, 3));
        let later: Vec<_> = (1..20).map(|_| meter.take_at(&"a", 20, 5)).collect();
        assert_eq!(later.last(), Some(&left(0, 60)));
        assert_eq!(meter.take_at(&"a", 20, 5), Err(Spent { per_minute: 20, retry_after_s: 3 }));
        assert_eq!(meter.take_at(&"a", 20, 3_000_005), left(0, 60));
        assert!(meter.take_at(&"a", 20, 3_000_005).is_err());
        assert_eq!(meter.take_at(&"b", 20, 3_000_005), left(19, 3), "another has its own");
        assert_eq!(meter.take_at(&"a", 20, 600_000_000), left(19, 3));
    }

    #[test]
    fn a_large_budget_is_counted_to_the_call() {
        let meter = Meter::new();
        assert_eq!((0..70_000).filter(|_| meter.take_at(&"chain", 60_000, 7).is_ok()).count(), 60_000);
        assert_eq!(meter.take_at(&"all", u32::MAX, 7).map(|left| left.per_minute), Ok(u32::MAX));
    }

    #[test]
    fn ten_floods_hold_up_none_of_a_thousand_others() {
        let meter = Meter::new();
        for flood in 0..10 {
            while meter.take_at(&("flood", flood), 30, 0).is_ok() {}
        }
        let refused = (0..1_000).filter(|other| meter.take_at(&("other", other), 30, 1).is_err()).count();
        // One row alone would hold up one of them in this many runs: always; both together in one of a thousand.
        assert!(refused <= 1, "{refused}: two rows of cells keep them apart");
    }
}
