//! What a customer has: lots of points, each with the time from which and until which it can be spent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Points of one earning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    /// The store's number: older lots have smaller ones.
    pub id: i64,
    /// What is left of it.
    pub left: i64,
    /// From when on it can be spent; until then it is promised only.
    pub active_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Lot {
    fn taken(&self, points: i64) -> Taken {
        Taken { lot: self.id, points, expires_at: self.expires_at }
    }

    fn can_be_spent(&self, at: Timestamp) -> bool {
        self.left > 0 && self.active_at <= at && self.expires_at.is_none_or(|end| end > at)
    }
}

/// So many points of a lot, and what is needed to make it again: a lot of which nothing is left is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub lot: i64,
    pub points: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A customer's points. What was taken back beyond what was there is a debt, which the next points pay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub lots: Vec<Lot>,
    pub debt: i64,
}

impl Account {
    /// What can be spent now; below zero where more was taken back than was there.
    pub fn balance(&self, at: Timestamp) -> i64 {
        let there: i64 = self.lots.iter().filter(|lot| lot.can_be_spent(at)).map(|lot| lot.left).sum();
        there - self.debt
    }

    /// What will be there later.
    pub fn promised(&self, at: Timestamp) -> i64 {
        self.lots.iter().filter(|lot| lot.active_at > at).map(|lot| lot.left).sum()
    }

    /// Adds points. A debt is paid of what can be spent at once; of what comes later when it comes ([`Self::settle`]). Gives what
    /// paid it.
    pub fn grant(&mut self, lot: Lot, at: Timestamp) -> Vec<Taken> {
        self.lots.push(lot);
        self.settle(at)
    }

    /// Pays a debt of what can be spent now. Gives what was taken of which lot.
    pub fn settle(&mut self, at: Timestamp) -> Vec<Taken> {
        let taken = self.take(self.debt, at);
        self.debt -= taken.iter().map(|taken| taken.points).sum::<i64>();
        taken
    }

    /// Spends so many points, or what there is: what expires first goes first, then what is older.
    pub fn spend(&mut self, points: i64, at: Timestamp) -> Vec<Taken> {
        self.take(points.min(self.balance(at)), at)
    }

    fn take(&mut self, points: i64, at: Timestamp) -> Vec<Taken> {
        let mut wanted = points.max(0);
        let mut order: Vec<usize> = (0..self.lots.len()).filter(|place| self.lots[*place].can_be_spent(at)).collect();
        order.sort_by_key(|place| (self.lots[*place].expires_at.unwrap_or(Timestamp::MAX), self.lots[*place].id));
        let mut taken = Vec::new();
        for place in order {
            let lot = &mut self.lots[place];
            let points = lot.left.min(wanted);
            if points == 0 {
                break;
            }
            lot.left -= points;
            wanted -= points;
            taken.push(lot.taken(points));
        }
        taken
    }

    /// Gives points back to where they came from, to the newest of those first; `spent` is what was taken and is not given back
    /// yet, in the order in which it was taken. What has expired meanwhile is given back too, and expires again.
    pub fn give_back(&mut self, points: i64, spent: &[Taken], at: Timestamp) -> Vec<Taken> {
        let mut wanted = points.max(0);
        let mut given = Vec::new();
        for taken in spent.iter().rev() {
            let points = taken.points.min(wanted);
            if points == 0 {
                continue;
            }
            match self.lots.iter_mut().find(|lot| lot.id == taken.lot) {
                Some(lot) => lot.left += points,
                // It could be spent, so it can be again.
                None => self.lots.push(Lot { id: taken.lot, left: points, active_at: at, expires_at: taken.expires_at }),
            }
            wanted -= points;
            given.push(Taken { points, ..*taken });
        }
        self.settle(at);
        given
    }

    /// Takes earned points away again: first of their own lots, the newest before the others, then of other lots, then as a debt.
    pub fn revoke(&mut self, points: i64, own: &[i64], at: Timestamp) -> Vec<Taken> {
        let mut taken = Vec::new();
        let mut wanted = points.max(0);
        // Also what is promised only: it will not come.
        for own in own.iter().rev() {
            let lot = self.lots.iter_mut().find(|lot| lot.id == *own && lot.expires_at.is_none_or(|end| end > at));
            let Some(lot) = lot else { continue };
            let points = lot.left.min(wanted);
            if points > 0 {
                lot.left -= points;
                wanted -= points;
                taken.push(lot.taken(points));
            }
        }
        let others = self.take(wanted, at);
        wanted -= others.iter().map(|taken| taken.points).sum::<i64>();
        taken.extend(others);
        self.debt += wanted;
        taken
    }

    /// Takes out what has expired. Gives what it was.
    pub fn expire(&mut self, at: Timestamp) -> Vec<Taken> {
        let over = self.lots.iter_mut().filter(|lot| lot.left > 0 && lot.expires_at.is_some_and(|end| end <= at));
        over.map(|lot| {
            let points = std::mem::take(&mut lot.left);
            lot.taken(points)
        })
        .collect()
    }

    /// Forgets lots of which nothing is left.
    pub fn forget_empty(&mut self) {
        self.lots.retain(|lot| lot.left > 0);
    }
}
