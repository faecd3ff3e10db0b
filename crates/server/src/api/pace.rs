//! How fast one key may ask: a budget that fills up steadily, told by the headers `RateLimit-Policy` and `RateLimit` (IETF draft
//! "RateLimit header fields for HTTP"). Each node counts by itself.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::caller::Holder;
use crate::{
    Problem,
    meter::{Left, Meter},
};

const WINDOW_S: u32 = 60;

/// The budgets of all keys.
pub(crate) struct Pace {
    per_minute: u32,
    meter: Meter,
}

/// What is left to a caller; nothing is told where there is no limit.
pub(crate) struct Room(Option<Left>);

impl Pace {
    /// With 0 nobody is slowed.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, meter: Meter::new() }
    }

    /// Takes one request from a key's budget. The machine's own socket has none.
    pub(crate) fn admit(&self, holder: &Holder) -> Result<Room, Problem> {
        let (Holder::Key { hash, .. }, 1..) = (holder, self.per_minute) else { return Ok(Room(None)) };
        let taken = self.meter.take(hash, self.per_minute);
        taken.map(|left| Room(Some(left))).map_err(|spent| Problem::too_many_requests(spent.retry_after_s))
    }
}

impl Room {
    pub(crate) fn tell(&self, head: &mut HeaderMap) {
        if let Some(left) = &self.0 {
            tell(left, head);
        }
    }
}

/// What is left of a key's budget.
pub(crate) fn tell(left: &Left, head: &mut HeaderMap) {
    let told = [
        ("ratelimit-policy", format!("\"key\";q={};w={WINDOW_S}", left.per_minute)),
        ("ratelimit", format!("\"key\";r={};t={}", left.calls, left.full_in_s)),
    ];
    for (name, value) in told {
        head.extend(HeaderValue::from_str(&value).ok().map(|value| (HeaderName::from_static(name), value)));
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
        let left = pace.admit(&key("b")).unwrap_or_else(|_| panic!("has its own")).0;
        assert_eq!(left.map(|left| left.calls), Some(2));
        assert!((0..100).all(|_| pace.admit(&Holder::Socket).is_ok()));
        assert!((0..100).all(|_| Pace::new(0).admit(&key("a")).is_ok()));
    }
}
