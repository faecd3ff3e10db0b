//! When the next call may begin, by the limits that a provider sets.
//!
//! Providers count the calls of the last second or minute, so the calls of that time are what is remembered here: a bucket
//! that fills up steadily would let twice the limit through in its first period. A turn that is near is reserved; one that
//! is far is not waited for, since a waiting call stands as *sending* and holds a place that others could use.
//!
//! Nodes of a shared store remember these calls together, by the store's clock: so that all of them keep a limit as one would.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use tokio::time::Instant;
use uzel_model::{
    CallError, Id,
    connector::{Rate, Scope},
};
use uzel_store::StoreError;

use crate::{Engine, Link};

/// As long as this a call may wait where it holds a place.
const PATIENCE: Duration = Duration::from_secs(1);

/// Beyond each period, since some calls are longer on their way than others and the provider counts when they come.
const SLACK: Duration = Duration::from_millis(20);

/// Above so many calls a second each node keeps a limit by itself.
const SHARED_PER_S_MAX: u32 = 1_000;

/// How long a call can wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It holds a place: it waits a moment, or comes back.
    Shortly,
    /// It holds none (a poll, a person's question).
    UpTo(Duration),
}

/// Moments of late calls, in milliseconds.
type Window = VecDeque<i64>;

/// The calls of late, by who shares a limit, and the connections whose turn is far.
pub(crate) struct Limits {
    began: Instant,
    windows: Mutex<HashMap<String, Window>>,
    far: Mutex<HashMap<Id, Instant>>,
    /// Connections whose provider asks to be left alone, by the hub's clock.
    alone: Mutex<HashMap<Id, Timestamp>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { began: Instant::now(), windows: Mutex::default(), far: Mutex::default(), alone: Mutex::default() }
    }
}

/// How long until a turn, which is taken where it is near.
type Turn = Result<Duration, Duration>;

impl Limits {
    /// Whether calls of this connection would have to come back.
    pub(crate) fn is_full(&self, link: Id, now: Timestamp) -> bool {
        let mut alone = self.alone.lock();
        match alone.get(&link) {
            Some(until) if now < *until => return true,
            Some(_) => drop(alone.remove(&link)),
            None => {}
        }
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

    /// No command's call of this connection begins before a moment.
    pub(crate) fn leave_alone(&self, link: Id, until: Timestamp) {
        self.alone.lock().insert(link, until);
    }

    /// No call of this connection begins before that.
    pub(crate) fn rest(&self, link: Id, time: Duration) {
        self.far.lock().insert(link, Instant::now() + time);
    }

    /// Waits for the turn of one call, or says when to come back. Nothing has been sent by then.
    pub(crate) async fn admit(&self, engine: &Engine, link: &Link, waits: Waits) -> Result<(), CallError> {
        let rates: Vec<(String, Rate)> = link.connector.rates().into_iter().map(|rate| (name(link, &rate.scope), rate)).collect();
        if rates.is_empty() {
            return Ok(());
        }
        let deadline = match waits {
            Waits::Shortly => Instant::now(),
            Waits::UpTo(time) => Instant::now() + time,
        };
        loop {
            let now = Instant::now();
            let turn = self.turn(engine, &rates).await;
            match turn.map_err(|error| CallError::Unreachable(format!("the limits of calls cannot be looked at: {error}")))? {
                Ok(wait) => {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    return Ok(());
                }
                Err(wait) if now + wait < deadline => {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(wait) => {}
                        () = engine.stop.cancelled() => return Err(later(engine, wait)),
                    }
                }
                Err(wait) => {
                    self.far.lock().insert(link.id, now + wait - PATIENCE);
                    return Err(later(engine, wait));
                }
            }
        }
    }

    async fn turn(&self, engine: &Engine, rates: &[(String, Rate)]) -> Result<Turn, StoreError> {
        // Several limits of one scope count the same calls.
        let mut names: Vec<String> = rates.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let limits: Vec<(usize, &Rate)> =
            rates.iter().filter_map(|(name, rate)| Some((names.binary_search(name).ok()?, rate))).collect();
        // What is remembered together is written with every call: a limit beyond what all nodes make is not worth that.
        if !engine.store.shared() || rates.iter().all(|(_, rate)| rate.calls / rate.period_s.max(1) > SHARED_PER_S_MAX) {
            return Ok(self.local(&names, &limits, self.began.elapsed().as_millis() as i64));
        }
        let mut turn = Ok(Duration::ZERO);
        engine.store.moments(&names, &mut |now_ms, windows| turn = reserve(windows, &limits, now_ms)).await?;
        Ok(turn)
    }

    fn local(&self, names: &[String], limits: &[(usize, &Rate)], now_ms: i64) -> Turn {
        let mut kept = self.windows.lock();
        let mut windows: Vec<Window> = names.iter().map(|name| kept.remove(name).unwrap_or_default()).collect();
        let turn = reserve(&mut windows, limits, now_ms);
        kept.extend(names.iter().cloned().zip(windows));
        turn
    }
}

/// Takes the next turn by all limits at once if it is near; else nothing is taken. Each limit names its window.
fn reserve(windows: &mut [Window], limits: &[(usize, &Rate)], now_ms: i64) -> Turn {
    let turn = limits.iter().filter_map(|(window, rate)| earliest(&windows[*window], rate)).fold(now_ms, i64::max);
    let wait = Duration::from_millis((turn - now_ms).unsigned_abs());
    if wait > PATIENCE {
        return Err(wait);
    }
    for (place, window) in windows.iter_mut().enumerate() {
        let of_window = limits.iter().filter(|(own, _)| *own == place);
        if let Some(kept) = of_window.map(|(_, rate)| rate.calls.max(1) as usize).max() {
            window.push_back(turn);
            window.drain(..window.len().saturating_sub(kept));
        }
    }
    Ok(wait)
}

/// A connection's own limit is kept by its id, the others by what shares them.
fn name(link: &Link, scope: &Scope) -> String {
    match scope {
        Scope::Connection => link.id.to_string(),
        Scope::Account(account) => format!("{}/{account}", link.provider.id),
        Scope::Address => link.provider.id.to_owned(),
    }
}

/// When one more call fits: as soon as the call that is `calls` back is a whole period old. Turns are given in order.
fn earliest(window: &Window, rate: &Rate) -> Option<i64> {
    let last = *window.back()?;
    let back = window.len().checked_sub(rate.calls.max(1) as usize).and_then(|place| window.get(place));
    let period = Duration::from_secs(u64::from(rate.period_s)) + SLACK;
    Some(back.map_or(last, |oldest| (oldest + period.as_millis() as i64).max(last)))
}

fn later(engine: &Engine, wait: Duration) -> CallError {
    CallError::Later {
        reason: "the provider's limit of calls is reached: nothing was sent".to_owned(),
        at: engine.clock.now().checked_add(SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which calls go that come as soon as they may.
    fn turns(rates: &[Rate], calls: usize) -> Vec<i64> {
        let limits: Vec<(usize, &Rate)> = rates.iter().map(|rate| (0, rate)).collect();
        let (mut windows, mut now_ms, mut turns) = ([Window::new()], 0, Vec::new());
        while turns.len() < calls {
            match reserve(&mut windows, &limits, now_ms) {
                Ok(wait) => turns.push((now_ms + wait.as_millis() as i64) / 1_000),
                Err(far) => now_ms += far.as_millis() as i64,
            }
        }
        turns
    }

    #[test]
    fn no_period_ever_holds_more_calls_than_it_may() {
        let five = Rate::per_second(Scope::Address, 5);
        let seconds = turns(std::slice::from_ref(&five), 11);
        assert_eq!(seconds, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
        // 200 a minute are used up after forty seconds of 5 a second; the rest of the minute is silent.
        let both = turns(&[five, Rate::per_minute(Scope::Address, 200)], 401);
        assert_eq!((both[199], both[200], both[204], both[205], both[400]), (39, 60, 60, 61, 120));
        for (place, turn) in both.iter().enumerate().skip(200) {
            assert!(turn - both[place - 200] >= 60, "call {place}");
        }
    }

    #[test]
    fn a_call_that_one_limit_refuses_is_not_counted_by_another() {
        let limits = Limits::default();
        let integration = Rate::per_second(Scope::Account("integration".to_owned()), 7);
        let account = Rate::per_minute(Scope::Account("own".to_owned()), 1);
        let by = |own: &str| limits.local(&[own.to_owned(), "shared".to_owned()], &[(0, &account), (1, &integration)], 0);
        assert_eq!(by("a"), Ok(Duration::ZERO));
        for _ in 0..20 {
            assert_eq!(by("a"), Err(Duration::from_secs(60) + SLACK));
        }
        assert_eq!(by("b"), Ok(Duration::ZERO));
    }
}
