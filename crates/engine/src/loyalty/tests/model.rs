//! The desk once more, in the plainest words: each lot by itself, sums by hand. It shares nothing with the desk.

use std::collections::HashMap;

const HOUR_MS: i64 = 3_600_000;
const NEVER: i64 = i64::MAX;

#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) earn_bps: i64,
    pub(super) limit_bps: i64,
    pub(super) earn_cap: i64,
    pub(super) redeem_cap: i64,
    pub(super) delay_days: i64,
    pub(super) ttl_days: i64,
    pub(super) both: bool,
    pub(super) reserve: bool,
}

#[derive(Default)]
pub(super) struct Person {
    /// What is left, from when, until when.
    lots: Vec<(i64, i64, i64)>,
    debt: i64,
    seen_at: i64,
    /// Hold, whether it spends, order, points, until when.
    held: Vec<(String, bool, String, i64, i64)>,
    /// Whether spent, points, when.
    moves: Vec<(bool, i64, i64)>,
    /// By lot, what has expired of it.
    gone: HashMap<usize, i64>,
}

impl Person {
    fn usable(&self, now: i64) -> Vec<usize> {
        let mut usable: Vec<usize> = (0..self.lots.len())
            .filter(|lot| self.lots[*lot].0 > 0 && self.lots[*lot].1 <= now && self.lots[*lot].2 > now)
            .collect();
        usable.sort_by_key(|lot| (self.lots[*lot].2, *lot));
        usable
    }

    fn take(&mut self, mut points: i64, now: i64) -> Vec<(usize, i64)> {
        let mut taken = Vec::new();
        for lot in self.usable(now) {
            let part = points.min(self.lots[lot].0);
            if part > 0 {
                self.lots[lot].0 -= part;
                points -= part;
                taken.push((lot, part));
            }
        }
        taken
    }

    fn pay_debt(&mut self, now: i64) {
        let paid: i64 = self.take(self.debt, now).iter().map(|(_, points)| points).sum();
        self.debt -= paid;
    }

    pub(super) fn pass(&mut self, now: i64) {
        let mut moments: Vec<i64> = self.lots.iter().map(|lot| lot.1).filter(|at| *at > self.seen_at && *at <= now).collect();
        moments.sort_unstable();
        moments.into_iter().for_each(|moment| self.pay_debt(moment));
        self.expire(now);
        self.seen_at = now;
    }

    fn expire(&mut self, now: i64) {
        for (place, lot) in self.lots.iter_mut().enumerate().filter(|(_, lot)| lot.2 <= now) {
            *self.gone.entry(place).or_default() += std::mem::take(&mut lot.0);
        }
    }

    fn take_away(&mut self, points: i64, own: &[usize], now: i64) {
        let mut rest = points;
        for lot in own.iter().rev().filter(|lot| self.lots[**lot].2 > now).copied().collect::<Vec<_>>() {
            let part = self.lots[lot].0.min(rest);
            self.lots[lot].0 -= part;
            rest -= part;
        }
        let others: i64 = self.take(rest, now).iter().map(|taken| taken.1).sum();
        self.debt += rest - others;
    }

    pub(super) fn balance(&self, now: i64) -> i64 {
        self.usable(now).into_iter().map(|lot| self.lots[lot].0).sum::<i64>() - self.debt
    }

    fn today(&self, spent: bool, now: i64) -> i64 {
        self.moves.iter().filter(|it| it.0 == spent && it.2 > now - 24 * HOUR_MS).map(|it| it.1).sum()
    }
}

#[derive(Default)]
struct Order {
    base: i64,
    redeemed: i64,
    earned: i64,
    refunded: i64,
    restored: i64,
    revoked: i64,
    spent: Vec<(usize, i64)>,
    lots: Vec<usize>,
    /// The sum that it has earned by.
    earning: i64,
    lapsed: i64,
    holds: Vec<String>,
}

/// What a quote promised.
struct Promise {
    customer: String,
    spends: bool,
    points: i64,
    limit: i64,
    base: i64,
}

pub(super) struct Model {
    pub(super) rules: Rules,
    pub(super) people: HashMap<String, Person>,
    orders: HashMap<String, Order>,
    promises: HashMap<String, Promise>,
}

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, people: HashMap::new(), orders: HashMap::new(), promises: HashMap::new() }
    }

    pub(super) fn give(&mut self, customer: &str, points: i64, now: i64) {
        let until = if self.rules.ttl_days > 0 { now + self.rules.ttl_days * 24 * HOUR_MS } else { NEVER };
        let person = self.people.entry(customer.to_owned()).or_default();
        person.pass(now);
        person.lots.push((points, now, until));
        person.pay_debt(now);
    }

    /// Points, and whether there is a hold: it gets this name.
    pub(super) fn quote(
        &mut self,
        spends: bool,
        customer: &str,
        order: &str,
        total: i64,
        now: i64,
        hold: Option<&str>,
    ) -> (i64, bool) {
        let rules = self.rules;
        let person = self.people.entry(customer.to_owned()).or_default();
        let (redeemed, earned) = self.orders.get(order).map_or((0, 0), |order| (order.redeemed, order.earned));
        let held = |own: bool| {
            let spending = person.held.iter().filter(|held| held.1 && held.4 > now && (held.2 == order) == own);
            spending.map(|held| held.3).sum::<i64>()
        };
        let free = person.balance(now) - if rules.reserve { held(false) } else { 0 };
        let cap = if spends { rules.redeem_cap } else { rules.earn_cap } - person.today(spends, now);
        let apart = !rules.both && if spends { earned > 0 } else { redeemed > 0 };
        let (limit, had) = match spends {
            true => (total * rules.limit_bps / 10_000, redeemed),
            false => ((total - redeemed - held(true)).max(0) * rules.earn_bps / 10_000, earned),
        };
        if apart || cap <= 0 || spends && limit <= had && had > 0 {
            return (0, false);
        }
        let points = if spends { free.min(limit - had).min(cap) } else { (limit - had).min(cap) };
        if points <= 0 && !(spends && free <= 0) {
            return (0, false);
        }
        let points = points.max(0);
        if let Some(hold) = hold {
            person.held.retain(|held| held.1 != spends || held.2 != order);
            person.held.push((hold.to_owned(), spends, order.to_owned(), points, now + 24 * HOUR_MS));
            self.promises.insert(hold.to_owned(), Promise { customer: customer.to_owned(), spends, points, limit, base: total });
        }
        (points, true)
    }

    /// Whether the order's receipt came of this hold.
    pub(super) fn has(&self, order: &str, hold: &str) -> bool {
        self.orders.get(order).is_some_and(|order| order.holds.iter().any(|known| known == hold))
    }

    /// What the order has moved: spent, earned.
    pub(super) fn commit(&mut self, hold: &str, order: &str, now: i64) -> (i64, i64) {
        let promise = &self.promises[hold];
        let rules = self.rules;
        let person = self.people.get_mut(&promise.customer).unwrap();
        person.pass(now);
        let receipt = self.orders.entry(order.to_owned()).or_default();
        let (had, other) = if promise.spends { (receipt.redeemed, receipt.earned) } else { (receipt.earned, receipt.redeemed) };
        let cap = if promise.spends { rules.redeem_cap } else { rules.earn_cap } - person.today(promise.spends, now);
        let most = match promise.spends {
            true => promise.points.min(promise.limit - had),
            false => (promise.base - other).max(0) * rules.earn_bps / 10_000 - had,
        };
        let wanted = most.min(cap).max(0);
        let wanted = if rules.both || other == 0 { wanted } else { 0 };
        if promise.spends {
            let taken = person.take(wanted.min(person.balance(now)), now);
            let points = taken.iter().map(|taken| taken.1).sum();
            receipt.redeemed += points;
            receipt.spent.extend(taken);
            if points > 0 {
                person.moves.push((true, points, now));
                let whole = (receipt.earning - receipt.redeemed).max(0) * rules.earn_bps / 10_000;
                let excess = if receipt.refunded == 0 { (receipt.earned - whole).max(0) } else { 0 };
                person.take_away(excess, &receipt.lots, now);
                receipt.earned -= excess;
            }
        } else if wanted > 0 {
            let from = now + rules.delay_days * 24 * HOUR_MS;
            person.lots.push((wanted, from, if rules.ttl_days > 0 { from + rules.ttl_days * 24 * HOUR_MS } else { NEVER }));
            receipt.lots.push(person.lots.len() - 1);
            receipt.earning = promise.base;
            receipt.earned += wanted;
            person.moves.push((false, wanted, now));
            person.pay_debt(now);
        }
        receipt.base = receipt.base.max(promise.base);
        receipt.holds.push(hold.to_owned());
        person.held.retain(|held| held.0 != hold);
        (receipt.redeemed, receipt.earned)
    }

    pub(super) fn cancel(&mut self, hold: &str, now: i64) {
        let person = self.people.get_mut(&self.promises[hold].customer).unwrap();
        person.pass(now);
        person.held.retain(|held| held.0 != hold);
    }

    /// Points given back, and taken away.
    pub(super) fn refund(&mut self, order: &str, total: i64, now: i64) -> (i64, i64) {
        let receipt = self.orders.get_mut(order).unwrap();
        let whole = receipt.base;
        let customer = self.promises[&receipt.holds[0]].customer.clone();
        let person = self.people.get_mut(&customer).unwrap();
        person.pass(now);
        receipt.refunded = (receipt.refunded + total).min(whole);
        let part = |points: i64| if whole == 0 { points } else { (2 * points * receipt.refunded + whole) / (2 * whole) };
        let back = (part(receipt.redeemed) - receipt.restored).max(0);
        let away = (part(receipt.earned) - receipt.revoked).max(0);
        (receipt.restored, receipt.revoked) = (receipt.restored + back, receipt.revoked + away);
        let mut rest = back;
        while let Some((lot, points)) = receipt.spent.pop() {
            let given = points.min(rest);
            person.lots[lot].0 += given;
            rest -= given;
            if given < points {
                receipt.spent.push((lot, points - given));
                break;
            }
        }
        person.pay_debt(now);
        person.expire(now);
        let gone: i64 = receipt.lots.iter().filter_map(|lot| person.gone.get(lot)).sum();
        let lapsed = (gone - receipt.lapsed).clamp(0, away);
        receipt.lapsed += lapsed;
        person.take_away(away - lapsed, &receipt.lots, now);
        (back, away - lapsed)
    }
}
