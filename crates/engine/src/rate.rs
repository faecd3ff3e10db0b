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

/// Beyond each period, since some calls are longer on their way than others and the provider counts when they come.
const SLACK: Duration = Duration::from_millis(20);

/// How long a call can wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It holds a place: it waits a moment, or comes back.
    Shortly,
    /// It holds none (a poll, a person's question).
    UpTo(Duration),
}

/// Who shares a limit: its owner, and the provider's own word for it.
type Shared = (String, Scope);

/// The calls of late, by who shares a limit, and the connections whose turn is far.
#[derive(Default)]
pub(crate) struct Limits {
    windows: Mutex<HashMap<Shared, VecDeque<Instant>>>,
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
        let rates: Vec<(Shared, Rate)> =
            link.connector.rates().into_iter().map(|rate| ((owner(link, &rate.scope), rate.scope.clone()), rate)).collect();
        let deadline = match waits {
            Waits::Shortly => Instant::now(),
            Waits::UpTo(time) => Instant::now() + time,
        };
        loop {
            let now = Instant::now();
            match self.reserve(&rates, now) {
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
    fn reserve(&self, rates: &[(Shared, Rate)], now: Instant) -> Result<Instant, Instant> {
        let mut windows = self.windows.lock();
        let turns = rates.iter().filter_map(|(shared, rate)| earliest(windows.get(shared)?, rate));
        let turn = turns.fold(now, Instant::max);
        if turn > now + PATIENCE {
            return Err(turn);
        }
        for (place, (shared, _)) in rates.iter().enumerate() {
            // Several limits of one scope count the same calls.
            if !rates[..place].iter().any(|(known, _)| known == shared) {
                let same = rates.iter().filter(|(other, _)| other == shared);
                let kept = same.map(|(_, rate)| rate.calls.max(1) as usize).max().unwrap_or(1);
                let window = windows.entry(shared.clone()).or_default();
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
    Some(back.map_or(last, |oldest| (*oldest + Duration::from_secs(u64::from(rate.period_s)) + SLACK).max(last)))
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

    fn rates(rates: &[Rate]) -> Vec<(Shared, Rate)> {
        rates.iter().map(|rate| (("p".to_owned(), rate.scope.clone()), rate.clone())).collect()
    }

    /// The seconds at which calls go that come as soon as they may.
    fn turns(limits: &Limits, rates: &[(Shared, Rate)], start: Instant, calls: usize) -> Vec<u64> {
        let mut now = start;
        let mut turns = Vec::new();
        while turns.len() < calls {
            match limits.reserve(rates, now) {
                Ok(turn) => turns.push((turn - start).as_secs()),
                Err(far) => now = far,
            }
        }
        turns
    }

    #[test]
    fn no_period_ever_holds_more_calls_than_it_may() {
        let start = Instant::now();
        let five = Rate::per_second(Scope::Address, 5);
        let seconds = turns(&Limits::default(), &rates(std::slice::from_ref(&five)), start, 11);
        assert_eq!(seconds, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
        // 200 a minute are used up after forty seconds of 5 a second; the rest of the minute is silent.
        let both = rates(&[five, Rate::per_minute(Scope::Address, 200)]);
        let both = turns(&Limits::default(), &both, start, 401);
        assert_eq!((both[199], both[200], both[204], both[205], both[400]), (39, 60, 60, 61, 120));
        for (place, turn) in both.iter().enumerate().skip(200) {
            assert!(turn - both[place - 200] >= 60, "call {place}");
        }
    }

    #[test]
    fn a_call_that_one_limit_refuses_is_not_counted_by_another() {
        let (limits, now) = (Limits::default(), Instant::now());
        let integration = Rate::per_second(Scope::Account("integration".to_owned()), 7);
        let account = |name: &str| Rate::per_minute(Scope::Account(name.to_owned()), 1);
        let (one, other) = (rates(&[integration.clone(), account("a")]), rates(&[integration, account("b")]));
        assert_eq!(limits.reserve(&one, now), Ok(now));
        for _ in 0..20 {
            assert_eq!(limits.reserve(&one, now), Err(now + Duration::from_secs(60) + SLACK));
        }
        assert_eq!(limits.reserve(&other, now), Ok(now));
    }
}
