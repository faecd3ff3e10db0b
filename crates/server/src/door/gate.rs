//! Counts failures in a table of fixed size.
//!
//! Each cell holds a moment: how far ahead of now it lies says how much has been used up (the generic cell rate algorithm).
//! Two that fall into one cell share it. That slows somebody who fails a little more; nobody else can notice, and no flood of
//! addresses can push a counter out.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

const CELLS: usize = 1 << 14;

pub(super) struct Gate {
    /// Milliseconds after the start, at which the cell is empty again.
    cells: Box<[AtomicU64]>,
    /// Keyed anew at each start, so that nobody can choose whose cell to fall into.
    hasher: RandomState,
    start: Instant,
    /// What one failure uses up, and how much there is.
    each_ms: u64,
    burst_ms: u64,
}

impl Gate {
    /// So many failures a minute, which may come all at once.
    pub(super) fn new(per_minute: u32) -> Self {
        let each_ms = 60_000 / u64::from(per_minute.clamp(1, 60_000));
        Self {
            cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            start: Instant::now(),
            each_ms,
            burst_ms: each_ms * u64::from(per_minute.clamp(1, 60_000)),
        }
    }

    /// Counts a failure; gives how many seconds to wait if it was one too many, else 0.
    pub(super) fn failed(&self, who: &impl Hash) -> u32 {
        self.failed_at(who, self.start.elapsed().as_millis() as u64)
    }

    fn failed_at(&self, who: &impl Hash, now_ms: u64) -> u32 {
        let cell = &self.cells[self.hasher.hash_one(who) as usize % CELLS];
        let counted = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |empty_at| {
            let next = empty_at.max(now_ms) + self.each_ms;
            (next <= now_ms + self.burst_ms).then_some(next)
        });
        match counted {
            Ok(_) => 0,
            Err(empty_at) => (empty_at + self.each_ms - self.burst_ms - now_ms).div_ceil(1_000).max(1) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_failures_are_let_through_and_then_one_whenever_its_share_of_the_minute_has_passed() {
        let gate = Gate::new(20);
        assert_eq!((0..30).filter(|_| gate.failed_at(&"a", 5) == 0).count(), 20);
        assert_eq!(gate.failed_at(&"a", 5), 3);
        assert_eq!((0..30).filter(|_| gate.failed_at(&"a", 3_005) == 0).count(), 1);
        assert_eq!((0..30).filter(|_| gate.failed_at(&"a", 600_000) == 0).count(), 20);
    }

    #[test]
    fn a_flood_from_a_million_addresses_neither_grows_the_table_nor_makes_it_forget() {
        let gate = Gate::new(20);
        assert_eq!((0..20).map(|_| gate.failed_at(&"the guesser", 0)).sum::<u32>(), 0);
        for address in 0..1_000_000_u32 {
            gate.failed_at(&address, 1);
        }
        assert_eq!(gate.failed_at(&"the guesser", 2), 3);
        assert_eq!(gate.cells.len(), CELLS);
    }
}
