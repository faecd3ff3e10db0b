//! When the next call may begin, by the limits that a provider sets.
//!
//! Providers count the calls of the last second or minute, so the calls of that time are what is remembered here: a bucket
//! that fills up steadily would let twice the limit through in its first period. A turn that is near is reserved; one that
//! is far is not waited for, since a waiting call stands as *sending* and holds a place that others could use.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use parking_lot::Mutex;
use uzel_model::{
    CallError, Id,
    connector::{Rate, Scope},
};

use crate::{Engine, Link};

/// As long as this a call may wait where it holds a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a call can wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It holds a place: it waits a moment, or comes back.
    Shortly,
    /// It holds none (a poll, a person's question).
    UpTo(Duration),
}

/// The calls of late, by who shares a limit, and the connections whose turn is far.
#[derive(Default)]
pub(crate) struct Limits {
    windows: Mutex<HashMap<(String, Scope), VecDeque<Instant>>>,
    far: Mutex<HashMap<Id, Instant>>,
}

impl Limits {
    /// Whether calls of this connection would have to come back.
    pub(crate) fn is_full(&self, link: Id) -> bool {
        let mut far = self.far.lock();
        match far.get(&link) {
            Some(until) if Instant::now() < *until => true,
            Some(_) => {
                far.remove(&link);
                false
            }
            None => false,
        }
    }

    /// Waits for the turn of one call, or says when to come back. Nothing has been sent by then.
    pub(crate) async fn admit(&self, engine: &Engine, link: &Link, waits: Waits) -> Result<(), CallError> {
        let rates = link.connector.rates();
        let deadline = match waits {
            Waits::Shortly => Instant::now(),
            Waits::UpTo(time) => Instant::now() + time,
        };
        loop {
            let now = Instant::now();
            match self.reserve(link, &rates, now) {
                Ok(turn) if turn <= now => return Ok(()),
                Ok(turn) => {
                    tokio::time::sleep_until(turn.into()).await;
                    return Ok(());
                }
                Err(turn) if turn < deadline => {
                    tokio::select! {
                        () = tokio::time::sleep_until(turn.into()) => {}
                        () = engine.stop.cancelled() => return Err(later(engine, turn, now)),
                    }
                }
                Err(turn) => {
                    self.far.lock().insert(link.id, turn - PATIENCE);
                    return Err(later(engine, turn, now));
                }
            }
        }
    }

    /// Takes the next turn by all limits at once if it is near; else nothing is taken.
    fn reserve(&self, link: &Link, rates: &[Rate], now: Instant) -> Result<Instant, Instant> {
        let keys: Vec<_> = rates.iter().map(|rate| (owner(link, &rate.scope), rate.scope.clone())).collect();
        let mut windows = self.windows.lock();
        let turns = rates.iter().zip(&keys).filter_map(|(rate, key)| earliest(windows.get(key)?, rate));
        let turn = turns.fold(now, Instant::max);
        if turn > now + PATIENCE {
            return Err(turn);
        }
        for (place, key) in keys.iter().enumerate() {
            // Several limits of one scope count the same calls.
            if !keys[..place].contains(key) {
                let same = rates.iter().filter(|rate| rate.scope == rates[place].scope);
                let kept = same.map(|rate| rate.calls.max(1) as usize).max().unwrap_or(1);
                let window = windows.entry(key.clone()).or_default();
                window.push_back(turn);
                window.drain(..window.len().saturating_sub(kept));
            }
        }
        Ok(turn)
    }
}

/// A connection's own limit is kept by its id, the others by what shares them.
fn owner(link: &Link, scope: &Scope) -> String {
    match scope {
        Scope::Connection => link.id.to_string(),
        Scope::Account(_) | Scope::Address => link.provider.id.to_owned(),
    }
}

/// When one more call fits: as soon as the call that is `calls` back is a whole period old. Turns are given in order.
fn earliest(window: &VecDeque<Instant>, rate: &Rate) -> Option<Instant> {
    let last = *window.back()?;
    let back = window.len().checked_sub(rate.calls.max(1) as usize).and_then(|place| window.get(place));
    Some(back.map_or(last, |oldest| (*oldest + Duration::from_secs(u64::from(rate.period_s))).max(last)))
}

fn later(engine: &Engine, turn: Instant, now: Instant) -> CallError {
    let wait = SignedDuration::from_millis(turn.saturating_duration_since(now).as_millis() as i64);
    CallError::Later {
        reason: "the provider's limit of calls is reached: nothing was sent".to_owned(),
        at: engine.clock.now().checked_add(wait).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rates: &[Rate], calls: usize) -> Vec<u64> {
        let mut window = VecDeque::new();
        let start = Instant::now();
        for _ in 0..calls {
            let turn = rates.iter().filter_map(|rate| earliest(&window, rate)).fold(start, Instant::max);
            window.push_back(turn);
        }
        window.iter().map(|turn| (*turn - start).as_secs()).collect()
    }

    #[test]
    fn no_period_ever_holds_more_calls_than_it_may() {
        let five = Rate::per_second(Scope::Address, 5);
        assert_eq!(turns(std::slice::from_ref(&five), 11), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
        // 200 a minute are used up after forty seconds of 5 a second; the rest of the minute is silent.
        let both = turns(&[five, Rate::per_minute(Scope::Address, 200)], 401);
        assert_eq!((both[199], both[200], both[204], both[205], both[400]), (39, 60, 60, 61, 120));
        for (place, turn) in both.iter().enumerate().skip(200) {
            assert!(turn - both[place - 200] >= 60, "call {place}");
        }
    }
}
