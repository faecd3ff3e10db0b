//! What a store counts while it writes, for whoever operates it: plain numbers without a lock, read whenever somebody asks.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// How values are spread over steps that are fixed.
#[derive(Debug)]
pub struct Spread {
    steps: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// In millionths.
    sum: AtomicU64,
}

impl Spread {
    /// Steps go upward; what is above the last is counted apart.
    pub fn new(steps: &'static [f64]) -> Self {
        Self { steps, counts: (0..=steps.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    pub fn add(&self, value: f64) {
        let step = self.steps.partition_point(|step| *step < value);
        self.counts[step].fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    pub fn sum(&self) -> f64 {
        self.sum.load(Relaxed) as f64 / 1e6
    }

    /// Each step with how many values were in it; the last is without end.
    pub fn counts(&self) -> Vec<(f64, u64)> {
        let ends = self.steps.iter().copied().chain([f64::INFINITY]);
        ends.zip(self.counts.iter().map(|count| count.load(Relaxed))).collect()
    }
}

/// What is written in groups of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What somebody waits for, where one writer takes all of it.
    First,
    /// Entries to be answered.
    Entries,
    /// Commands that are taken or have ended.
    Calls,
    /// What was read out of entries.
    Readings,
}

impl Lane {
    pub const ALL: [Self; 4] = [Self::First, Self::Entries, Self::Calls, Self::Readings];

    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Entries => "entries",
            Self::Calls => "calls",
            Self::Readings => "readings",
        }
    }
}

/// The groups of one lane.
#[derive(Debug)]
pub struct LaneStats {
    /// How long a group took, from its first statement to the end of its commit.
    pub seconds: Spread,
    /// How many pieces of work a group held.
    pub pieces: Spread,
    /// Groups that were not committed; their pieces are tried alone, or told so.
    pub failures: AtomicU64,
}

/// All that a store counts. Lanes that a store does not have stay empty.
#[derive(Debug)]
pub struct Stats {
    lanes: [LaneStats; Lane::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        let lane = |_| LaneStats {
            seconds: Spread::new(&[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            pieces: Spread::new(&[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0]),
            failures: AtomicU64::new(0),
        };
        Self { lanes: Lane::ALL.map(lane) }
    }
}

impl Stats {
    /// A group has ended.
    pub fn group(&self, lane: Lane, pieces: usize, took: Duration, committed: bool) {
        let stats = self.of(lane);
        stats.seconds.add(took.as_secs_f64());
        stats.pieces.add(pieces as f64);
        if !committed {
            stats.failures.fetch_add(1, Relaxed);
        }
    }

    pub fn of(&self, lane: Lane) -> &LaneStats {
        &self.lanes[lane as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_step_belongs_to_it_and_one_above_the_last_is_not_lost() {
        let spread = Spread::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 7.0] {
            spread.add(value);
        }
        assert_eq!(spread.counts(), [(1.0, 2), (2.0, 1), (f64::INFINITY, 1)]);
        assert!((spread.sum() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_group_that_failed_is_counted_in_its_lane_alone() {
        let stats = Stats::default();
        stats.group(Lane::Calls, 3, Duration::from_millis(2), false);
        let failures = Lane::ALL.map(|lane| stats.of(lane).failures.load(Relaxed));
        assert_eq!(failures, [0, 0, 1, 0]);
    }
}
