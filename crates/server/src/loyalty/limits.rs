//! How often tills may ask: the platform's own limits a minute, but counted so that no shop is refused for where it stands.
//!
//! The platform counts by address, path and whatever outlet and cashier a call names; all tills of a chain share an address. Here an
//! address counts for nothing as soon as a call is proved. One till (its key or bridge, outlet and cashier) may ask so many times as
//! often as the platform lets it; a call that names neither outlet nor cashier tells of no till, and only counts for the whole key.
//! No store is asked, and no lock taken.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uzel_model::{Id, words::Language};

use super::{call::Call, proof::Proof, refusal::Refusal};
use crate::{
    App, DoorSettings,
    api::{Holder, tell},
    door,
    meter::{Left, Meter, Spent},
};

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    Quote,
    Commit,
    Cancel,
    Refund,
    Code,
    Look,
    Consent,
    /// For the whole key alone.
    Other,
}

impl Counted {
    /// The platform's own limit a minute. It names none for cancellations, of which there are at the most as many as quotes.
    fn per_minute(self) -> Option<u32> {
        match self {
            Self::Quote | Self::Cancel => Some(120),
            Self::Commit | Self::Consent => Some(30),
            Self::Refund | Self::Code => Some(10),
            Self::Look => Some(60),
            Self::Other => None,
        }
    }
}

/// Who is counted as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who<'a> {
    Key(&'a [u8]),
    /// The outlet whose bridge signed, or the merchant whose own secret did.
    Bridge(Id),
    /// Nobody proved who they are: an open programme.
    Anybody(Id, Option<IpAddr>),
}

/// The budgets of all who ask about points.
pub(crate) struct Limits {
    calls_per_minute: u32,
    rate_factor: u32,
    meter: Meter,
}

/// What is left to a caller.
pub(super) struct Room {
    whole: Option<Left>,
    /// The nearest limit: how many calls it is, how many are left, and in how many seconds all are there again.
    nearest: Option<(u32, u32, u32)>,
}

impl Limits {
    pub(crate) fn new(door: &DoorSettings) -> Self {
        Self { calls_per_minute: door.loyalty_calls_per_minute, rate_factor: door.loyalty_rate_factor, meter: Meter::new() }
    }

    fn admit(&self, who: &Who<'_>, counted: Counted, till: Option<(Option<Id>, Option<&str>)>) -> (Room, Option<Spent>) {
        let spent = |whole, spent: Spent| {
            let nearest = Some((spent.per_minute, 0, spent.retry_after_s));
            (Room { whole, nearest }, Some(spent))
        };
        let per_till = till.zip(counted.per_minute()).filter(|_| self.rate_factor > 0);
        let of_till = per_till
            .map(|(till, per_minute)| self.meter.take(&(who, counted, till), per_minute.saturating_mul(self.rate_factor)));
        let of_till = match of_till.transpose() {
            Ok(left) => left,
            Err(full) => return spent(None, full),
        };
        let whole = (self.calls_per_minute > 0).then(|| self.meter.take(who, self.calls_per_minute));
        match whole.transpose() {
            Ok(whole) => {
                let lefts = [of_till, whole].into_iter().flatten();
                let nearest = lefts.min_by_key(|left| left.calls).map(|left| (left.per_minute, left.calls, left.full_in_s));
                (Room { whole, nearest }, None)
            }
            Err(full) => spent(None, full),
        }
    }
}

/// Takes a call from the caller's budget, and leaves what is left of it in `room`.
pub(super) fn admit(
    app: &App,
    call: &Call,
    proof: &Proof,
    (counted, staff): (Counted, Option<&str>),
    room: &mut Option<Room>,
) -> Result<(), Refusal> {
    let who = match (&proof.holder, &proof.shared) {
        (Some(Holder::Socket), _) => return Ok(()),
        (Some(Holder::Key { hash, .. }), _) => Who::Key(hash),
        (None, Some((of, _))) => Who::Bridge(*of),
        (None, None) => Who::Anybody(proof.merchant, call.peer.map(door::neighbourhood)),
    };
    // What a stranger says of a cashier is no more than a number to count by anew.
    let staff = proof.staff.as_deref().or(staff).filter(|_| proof.authenticated);
    let till = (proof.outlet.is_some() || staff.is_some()).then_some((proof.outlet, staff));
    let (left, spent) = app.limits.admit(&who, counted, till);
    *room = Some(left);
    spent.map_or(Ok(()), |spent| Err(Refusal::too_often(spent.retry_after_s, call.language)))
}

/// For whoever wrote the till, and for the cashier who waits.
pub(super) fn says(retry_after_s: u32, language: Language) -> String {
    match language {
        Language::Ru => format!("Слишком много запросов: подождите {retry_after_s} сек."),
        Language::Uz => format!("So‘rovlar juda ko‘p: {retry_after_s} soniya kuting."),
        Language::En => format!("Too many requests: wait {retry_after_s} s."),
    }
}

impl Room {
    /// By the platform's headers, and by those of the hub's API.
    pub(super) fn tell(&self, head: &mut HeaderMap) {
        if let Some(whole) = &self.whole {
            tell(whole, head);
        }
        let Some((limit, left, reset_s)) = self.nearest else { return };
        for (name, number) in [("x-ratelimit-limit", limit), ("x-ratelimit-remaining", left), ("x-ratelimit-reset", reset_s)] {
            head.insert(HeaderName::from_static(name), HeaderValue::from(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use uzel_model::id::Kind;

    use super::*;

    fn limits(calls_per_minute: u32, rate_factor: u32) -> Limits {
        Limits::new(&DoorSettings {
            loyalty_calls_per_minute: calls_per_minute,
            loyalty_rate_factor: rate_factor,
            ..DoorSettings::default()
        })
    }

    fn taken(limits: &Limits, who: &Who<'_>, counted: Counted, till: Option<(Option<Id>, Option<&str>)>, tries: usize) -> usize {
        (0..tries).filter(|_| limits.admit(who, counted, till).1.is_none()).count()
    }

    #[test]
    fn a_till_has_the_platforms_limits_so_many_times_over_and_each_path_its_own() {
        let limits = limits(0, 1);
        let key = Who::Key(b"k");
        let till = Some((Some(Id::new(Kind::Outlet)), Some("anna")));
        for (counted, most) in [
            (Counted::Quote, 120),
            (Counted::Commit, 30),
            (Counted::Refund, 10),
            (Counted::Code, 10),
            (Counted::Look, 60),
            (Counted::Consent, 30),
            (Counted::Cancel, 120),
        ] {
            assert_eq!(taken(&limits, &key, counted, till, 130), most, "{counted:?}");
        }
        assert_eq!(taken(&limits, &key, Counted::Other, till, 500), 500);
        let other = Some((till.and_then(|(outlet, _)| outlet), Some("boris")));
        assert_eq!(taken(&limits, &key, Counted::Refund, other, 20), 10, "another cashier has their own");
        assert_eq!(taken(&limits, &Who::Key(b"other"), Counted::Refund, till, 20), 10, "and another key");
    }

    #[test]
    fn a_chain_with_one_key_that_names_no_till_has_the_keys_budget() {
        let limits = limits(60_000, 20);
        assert_eq!(taken(&limits, &Who::Key(b"chain"), Counted::Commit, None, 40_000), 40_000);
        // Three thousand tills that name their outlet and cashier, each twice within a moment.
        let outlets: Vec<Id> = (0..1_000).map(|_| Id::new(Kind::Outlet)).collect();
        let refused =
            outlets.iter().flat_map(|outlet| ["a", "b", "c"].map(|staff| (*outlet, staff))).filter(|(outlet, staff)| {
                taken(&limits, &Who::Key(b"other chain"), Counted::Commit, Some((Some(*outlet), Some(staff))), 2) < 2
            });
        assert_eq!(refused.count(), 0);
    }
}
