//! How fast one key may ask: a budget that fills up steadily, told by the headers `RateLimit-Policy` and `RateLimit` (IETF draft
//! "RateLimit header fields for HTTP"). Each node counts by itself.

use std::{collections::HashMap, time::Instant};

use axum::http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;

use super::caller::Holder;
use crate::Problem;

const WINDOW_S: u32 = 60;
/// Keys that are remembered at once: beyond that those go whose budget is full again.
const KEYS_MAX: usize = 10_000;

/// The budgets of all keys.
pub(crate) struct Pace {
    per_minute: u32,
    budgets: Mutex<HashMap<Vec<u8>, Budget>>,
}

struct Budget {
    left: f64,
    at: Instant,
}

/// What is left to a caller; nothing is told where there is no limit.
pub(crate) struct Room {
    per_minute: u32,
    left: Option<u32>,
}

impl Pace {
    /// With 0 nobody is slowed.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, budgets: Mutex::default() }
    }

    /// Takes one request from a key's budget. The machine's own socket has none.
    pub(crate) fn admit(&self, holder: &Holder) -> Result<Room, Problem> {
        let (Holder::Key { hash, .. }, 1..) = (holder, self.per_minute) else {
            return Ok(Room { per_minute: self.per_minute, left: None });
        };
        let full = f64::from(self.per_minute);
        let per_s = full / f64::from(WINDOW_S);
        let now = Instant::now();
        let mut budgets = self.budgets.lock();
        if budgets.len() >= KEYS_MAX && !budgets.contains_key(hash) {
            budgets.retain(|_, budget| budget.left + now.duration_since(budget.at).as_secs_f64() * per_s < full);
        }
        let budget = budgets.entry(hash.clone()).or_insert(Budget { left: full, at: now });
        budget.left = (budget.left + now.duration_since(budget.at).as_secs_f64() * per_s).min(full);
        budget.at = now;
        if budget.left < 1.0 {
            return Err(Problem::too_many_requests(((1.0 - budget.left) / per_s).ceil().max(1.0) as u32));
        }
        budget.left -= 1.0;
        Ok(Room { per_minute: self.per_minute, left: Some(budget.left as u32) })
    }
}

impl Room {
    pub(crate) fn tell(&self, head: &mut HeaderMap) {
        let Some(left) = self.left else { return };
        let reset_s = u64::from(self.per_minute - left) * u64::from(WINDOW_S) / u64::from(self.per_minute);
        let told = [
            ("ratelimit-policy", format!("\"key\";q={};w={WINDOW_S}", self.per_minute)),
            ("ratelimit", format!("\"key\";r={left};t={reset_s}")),
        ];
        for (name, value) in told {
            head.extend(HeaderValue::from_str(&value).ok().map(|value| (axum::http::HeaderName::from_static(name), value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_spends_its_own_budget_and_no_other() {
        let pace = Pace::new(3);
        let key = |name: &str| Holder::Key { hash: name.as_bytes().to_vec(), id: name.to_owned() };
        assert!((0..3).all(|_| pace.admit(&key("a")).is_ok()));
        assert!(pace.admit(&key("a")).is_err());
        assert_eq!(pace.admit(&key("b")).unwrap_or_else(|_| panic!("has its own")).left, Some(2));
        assert!((0..100).all(|_| pace.admit(&Holder::Socket).is_ok()));
        assert!((0..100).all(|_| Pace::new(0).admit(&key("a")).is_ok()));
    }
}
