//! A customer's wallet while a decision is made: whatever is done to the points stands in the ledger at the same time, so that the
//! balance is the sum of the entries.

use jiff::{SignedDuration, Timestamp};
use uzel_model::{
    Id,
    event::kind,
    id::Kind as IdKind,
    loyalty::{Book, Entry, Kind, Lot, Move, MoveKind, Taken, Wallet},
};

use super::Ground;
use crate::loyalty::reading::{Fact, activated, expired, lots_moved, preview};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// What a movement follows from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cause<'a> {
    /// As in [`Entry::cause`].
    pub(crate) of: String,
    pub(crate) order: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
}

impl Cause<'_> {
    pub(crate) fn new(of: impl Into<String>) -> Self {
        Self { of: of.into(), order: None, reason: None }
    }
}

pub(crate) struct Purse<'a> {
    ground: &'a Ground<'a>,
    pub(crate) wallet: Wallet,
    /// Never before what is booked, also where a clock was set back.
    pub(crate) at: Timestamp,
    entries: Vec<Entry>,
    pub(crate) facts: Vec<Fact>,
    /// What can be spent, by the entries.
    balance: i64,
}

impl<'a> Purse<'a> {
    /// Opens a wallet, with all booked that time has done to it.
    pub(crate) fn open(ground: &'a Ground<'a>, wallet: Wallet) -> Self {
        let at = ground.now.max(wallet.booked_at);
        let balance = wallet.balance();
        let mut purse = Self { ground, wallet, at, entries: Vec::new(), facts: Vec::new(), balance };
        purse.advance();
        purse
    }

    pub(crate) fn balance(&self) -> i64 {
        self.balance
    }

    /// Points that become the customer's; after so many days, where there are any. Gives their lot.
    pub(crate) fn grant(&mut self, kind: MoveKind, points: i64, delay_days: u32, life: Life, cause: &Cause<'_>) -> i64 {
        let days = |from: Timestamp, days: u32| from.saturating_add(DAY * days as i32).unwrap_or(Timestamp::MAX);
        let active_at = days(self.at, delay_days);
        let ttl = self.ground.rule.points.points_ttl_days;
        let expires_at = match life {
            Life::OfProgramme => ttl.map(|ttl| days(active_at, ttl)),
            Life::Days(own) => Some(days(active_at, own)),
            Life::Until(at) => Some(at),
        };
        self.wallet.last_lot += 1;
        let lot = self.wallet.last_lot;
        let to = if delay_days > 0 { Book::Promised } else { Book::Spendable };
        self.wallet.account.grant(Lot { id: lot, left: points, active_at, expires_at }, self.at);
        let left = self.wallet.account.lots.last().map_or(0, |lot| lot.left);
        let put = (left > 0).then_some(Taken { lot, points: left, expires_at });
        self.post(kind, (Book::Issued, to), points, cause, put.into_iter().collect());
        lot
    }

    /// Spends so many points, or what there is. Gives of which lots.
    pub(crate) fn spend(&mut self, points: i64, cause: &Cause<'_>) -> Vec<Taken> {
        self.take(MoveKind::Redeem, Book::Redeemed, points, cause)
    }

    /// Takes points out of circulation: so many, or what there is.
    pub(crate) fn withdraw(&mut self, points: i64, cause: &Cause<'_>) -> i64 {
        sum(&self.take(MoveKind::Adjust, Book::Issued, points, cause))
    }

    fn take(&mut self, kind: MoveKind, to: Book, points: i64, cause: &Cause<'_>) -> Vec<Taken> {
        let taken = self.wallet.account.spend(points, self.at);
        self.post(kind, (Book::Spendable, to), sum(&taken), cause, taken.clone());
        taken
    }

    /// Gives spent points back; what is not given back stays in `spent`.
    pub(crate) fn give_back(&mut self, points: i64, spent: &mut Vec<Taken>, cause: &Cause<'_>) {
        let before = self.wallet.account.lots.clone();
        let given = self.wallet.account.give_back(points, spent, self.at);
        let mut rest = sum(&given);
        for taken in spent.iter_mut().rev() {
            let back = taken.points.min(rest);
            (taken.points, rest) = (taken.points - back, rest - back);
        }
        spent.retain(|taken| taken.points > 0);
        let put = moved(&before, &self.wallet.account.lots);
        self.post(MoveKind::Refund, (Book::Redeemed, Book::Spendable), sum(&given), cause, put);
        // What expired while it was spent.
        self.expire(self.at);
    }

    /// Takes earned points back: of their own lots, also what is promised only, then of others, then as a debt.
    pub(crate) fn revoke(&mut self, points: i64, own: &[Taken], cause: &Cause<'_>) {
        let before = self.wallet.account.lots.clone();
        let own: Vec<i64> = own.iter().map(|taken| taken.lot).collect();
        let promised = |lot: &i64| before.iter().any(|known| known.id == *lot && known.active_at > self.at);
        let promised: Vec<i64> = own.iter().copied().filter(promised).collect();
        self.wallet.account.revoke(points, &own, self.at);
        let (of_promise, others): (Vec<Taken>, Vec<Taken>) =
            moved(&before, &self.wallet.account.lots).into_iter().partition(|taken| promised.contains(&taken.lot));
        let unpromised = sum(&of_promise);
        self.post(MoveKind::Refund, (Book::Promised, Book::Issued), unpromised, cause, of_promise);
        self.post(MoveKind::Refund, (Book::Spendable, Book::Issued), points - unpromised, cause, others);
    }

    /// Points of these lots that have expired just now.
    pub(crate) fn expired_of(&self, lots: &[Taken]) -> i64 {
        let expired = self.entries.iter().filter(|entry| entry.kind == MoveKind::Expire);
        of_lots(expired, lots).iter().map(|taken| taken.points).sum()
    }

    /// Remembers a movement, for caps and pauses.
    pub(crate) fn note(&mut self, kind: Kind, points: i64) {
        self.wallet.moves.push(Move { kind, points, at: self.at });
    }

    /// Lets a hold go.
    pub(crate) fn release(&mut self, hold: Id) {
        self.wallet.holds.retain(|held| held.hold != hold);
    }

    /// Points of one kind within the last 24 hours.
    pub(crate) fn moved_today(&self, kind: Kind) -> i64 {
        moved_today(&self.wallet, kind, self.at)
    }

    /// The wallet as it is to be written, its new entries, and what is to be told.
    pub(crate) fn close(mut self) -> (Wallet, Vec<Entry>, Vec<Fact>) {
        self.wallet.account.forget_empty();
        self.wallet.preview_days = self.ground.rule.preview_days;
        let last = |kind| self.wallet.moves.iter().rposition(|of: &Move| of.kind == kind);
        let lasts = [last(Kind::Redeem), last(Kind::Earn)];
        let since = self.at - DAY;
        let mut place = 0;
        self.wallet.moves.retain(|of| {
            place += 1;
            of.at > since || lasts.contains(&Some(place - 1))
        });
        debug_assert_eq!(self.balance, self.wallet.balance(), "the balance is the sum of the entries");
        (self.wallet, self.entries, self.facts)
    }

    /// Books what time has done since the last time.
    fn advance(&mut self) {
        let (from, to) = (self.wallet.booked_at, self.at);
        let between = |at: &Timestamp| *at > from && *at <= to;
        let lots = self.wallet.account.lots.iter().filter(|lot| lot.left > 0);
        let mut moments: Vec<Timestamp> =
            lots.flat_map(|lot| [Some(lot.active_at), lot.expires_at]).flatten().filter(|at| between(at)).collect();
        moments.sort_unstable();
        moments.dedup();
        for moment in moments {
            self.activate(moment);
            self.expire(moment);
        }
        let soon = self.wallet.account.lots.iter().filter(|lot| lot.left > 0);
        let soon: Vec<&Lot> = soon.filter(|lot| self.wallet.preview_at(lot).is_some_and(|at| between(&at))).collect();
        let told = preview(&self.wallet, &soon, self.ground.rule.points.points_ttl_days, self.at);
        self.facts.extend(told);
        self.wallet.booked_at = to;
    }

    fn activate(&mut self, moment: Timestamp) {
        let account = &mut self.wallet.account;
        let came: Vec<Lot> = account.lots.iter().filter(|lot| lot.left > 0 && lot.active_at == moment).cloned().collect();
        if came.is_empty() {
            return;
        }
        account.settle(moment);
        for lot in came {
            let left = self.wallet.account.lots.iter().find(|now| now.id == lot.id).map_or(0, |now| now.left);
            let put = (left > 0).then_some(Taken { lot: lot.id, points: left, expires_at: lot.expires_at });
            let movement = (Book::Promised, Book::Spendable);
            self.post(MoveKind::Activate, movement, lot.left, &Cause::new("time"), put.into_iter().collect());
            self.facts.push(activated(&self.wallet, &lot, moment, self.ground.outlet));
        }
    }

    fn expire(&mut self, moment: Timestamp) {
        let gone = self.wallet.account.expire(moment);
        let points = sum(&gone);
        let first = self.entries.len();
        self.post(MoveKind::Expire, (Book::Spendable, Book::Expired), points, &Cause::new("time"), gone);
        if let Some(entry) = self.entries.get(first) {
            self.facts.push(expired(&self.wallet, entry.id, points, moment, self.at));
        }
    }

    fn post(&mut self, kind: MoveKind, (from, to): (Book, Book), points: i64, cause: &Cause<'_>, lots: Vec<Taken>) {
        if points <= 0 {
            return;
        }
        let mut entry = Entry {
            id: Id::new(IdKind::Points),
            merchant: self.wallet.merchant,
            wallet: self.wallet.id,
            kind,
            from,
            to,
            points,
            balance: 0,
            cause: cause.of.clone(),
            order: cause.order.map(str::to_owned),
            outlet: self.ground.outlet,
            staff: self.ground.staff.map(str::to_owned),
            reason: cause.reason.map(str::to_owned),
            lots,
            at: self.at,
        };
        self.balance += entry.effect(Book::Spendable);
        entry.balance = self.balance;
        if self.ground.tells_lots {
            self.facts.extend(lots_moved(&self.wallet, &entry));
        }
        self.entries.push(entry);
    }

    /// A fact of this customer.
    pub(crate) fn tell(&mut self, kind: &'static str, key: String, order: Option<&str>, data: serde_json::Value) {
        let refs = order.map(str::to_owned);
        let mut fact = Fact::of(&self.wallet, kind, key, self.at, data);
        fact.refs.extend(refs);
        if let Some(order) = order {
            fact.subject = format!("order/{order}");
        }
        fact.outlet = self.ground.outlet;
        debug_assert!(kind::ALL.contains(&kind));
        self.facts.push(fact);
    }
}

/// How long points live.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Life {
    OfProgramme,
    Days(u32),
    Until(Timestamp),
}

/// Points of one kind that went within 24 hours before a moment.
pub(super) fn moved_today(wallet: &Wallet, kind: Kind, at: Timestamp) -> i64 {
    let since = at - DAY;
    wallet.moves.iter().filter(|of| of.kind == kind && of.at > since).map(|of| of.points).sum()
}

/// What movements did to some lots.
pub(crate) fn of_lots<'a>(entries: impl Iterator<Item = &'a Entry>, lots: &[Taken]) -> Vec<Taken> {
    let moved = entries.flat_map(|entry| &entry.lots).filter(|moved| lots.iter().any(|lot| lot.lot == moved.lot));
    moved.copied().collect()
}

fn sum(taken: &[Taken]) -> i64 {
    taken.iter().map(|taken| taken.points).sum()
}

/// How much each lot has changed, whichever way.
fn moved(before: &[Lot], after: &[Lot]) -> Vec<Taken> {
    let left = |lots: &[Lot], id: i64| lots.iter().find(|lot| lot.id == id).map_or(0, |lot| lot.left);
    let all = after.iter().chain(before.iter().filter(|lot| after.iter().all(|now| now.id != lot.id)));
    all.map(|lot| Taken { lot: lot.id, points: (left(after, lot.id) - left(before, lot.id)).abs(), expires_at: lot.expires_at })
        .filter(|taken| taken.points > 0)
        .collect()
}
