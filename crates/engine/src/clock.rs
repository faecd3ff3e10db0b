//! The clock that everything in the engine reads. On a shared store it follows the store's, by which all nodes agree. Tests
//! and the demo may move it, or put a simulated machine in the place of the real one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A larger error is a clock that was wrong: it is put right at once, even backwards.
const STEP_US: i64 = 1_000_000;
/// Of a smaller error, which may be the network's, this part is mended at a time.
const PART: i64 = 4;

#[derive(Debug, Clone, Default)]
pub struct Clock {
    ahead_ms: Arc<AtomicI64>,
    store: Arc<Followed>,
    simulated: Option<Arc<Simulated>>,
}

/// A machine whose clock goes by the runtime's time, which tests stop and move, and whose chance can be repeated.
#[derive(Debug)]
struct Simulated {
    start: Timestamp,
    since: Instant,
    chance: AtomicU64,
}

/// How the store's clock stands to the machine's.
#[derive(Debug, Default)]
struct Followed {
    on: AtomicBool,
    ahead_us: AtomicI64,
    /// The latest that was told, so that a small correction never tells an earlier moment.
    latest_us: AtomicI64,
}

impl Clock {
    pub fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead_ms.load(Relaxed));
        let now = self.store.now(self.machine());
        now.checked_add(ahead).unwrap_or(now)
    }

    /// Of a simulated machine, whose clock shows `start` now; the same seed gives the same chance.
    pub fn simulated(start: Timestamp, seed: u64) -> Self {
        let simulated = Simulated { start, since: Instant::now(), chance: AtomicU64::new(seed) };
        Self { simulated: Some(Arc::new(simulated)), ..Self::default() }
    }

    pub(crate) fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    /// The machine's clock, whatever the store says.
    pub(crate) fn machine(&self) -> Timestamp {
        let Some(simulated) = &self.simulated else { return Timestamp::now() };
        let passed = SignedDuration::try_from(simulated.since.elapsed()).unwrap_or_default();
        simulated.start.checked_add(passed).unwrap_or(simulated.start)
    }

    /// A number from 0 to 1, so that what failed together does not come back together.
    pub(crate) fn chance(&self) -> f64 {
        let Some(simulated) = &self.simulated else { return rand::random() };
        // Steps of the golden ratio fall evenly, and that is all that is asked of them.
        (simulated.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Moves this clock ahead of the machine's.
    pub fn advance(&self, by: SignedDuration) {
        self.ahead_ms.fetch_add(by.as_millis() as i64, Relaxed);
    }

    /// Goes by what the store's clock told at this moment of the machine's clock. Gives how far it is ahead of the machine's.
    pub(crate) fn follow(&self, told: Timestamp, machine: Timestamp) -> SignedDuration {
        let measured = told.as_microsecond() - machine.as_microsecond();
        self.store.follow(measured);
        SignedDuration::from_micros(measured)
    }
}

impl Followed {
    fn now(&self, machine: Timestamp) -> Timestamp {
        if !self.on.load(Relaxed) {
            return machine;
        }
        let now = machine.as_microsecond() + self.ahead_us.load(Relaxed);
        let latest = self.latest_us.fetch_max(now, Relaxed);
        let now = if (1..=STEP_US).contains(&latest.saturating_sub(now)) {
            latest
        } else {
            self.latest_us.store(now, Relaxed);
            now
        };
        Timestamp::from_microsecond(now).unwrap_or(machine)
    }

    fn follow(&self, measured: i64) {
        let error = measured - self.ahead_us.load(Relaxed);
        if error.abs() > STEP_US || !self.on.load(Relaxed) {
            self.ahead_us.store(measured, Relaxed);
            self.latest_us.store(i64::MIN, Relaxed);
            self.on.store(true, Relaxed);
        } else {
            self.ahead_us.fetch_add(error / PART, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap()
    }

    #[test]
    fn a_small_correction_never_tells_an_earlier_moment_and_a_wrong_clock_is_put_right_at_once() {
        let clock = Followed::default();
        assert_eq!(clock.now(at(7)), at(7), "nothing is followed yet");
        clock.follow(400_000);
        assert_eq!(clock.now(at(1_000)), at(1_400));
        // A quarter of the error at a time; until the new course has caught up, the clock stands.
        clock.follow(0);
        assert_eq!(clock.now(at(1_001)), at(1_400));
        assert_eq!(clock.now(at(1_101)), at(1_401));
        clock.follow(-180_000_000);
        assert_eq!(clock.now(at(180_500)), at(500));
        clock.follow(0);
        assert_eq!(clock.now(at(180_501)), at(180_501));
    }
}
