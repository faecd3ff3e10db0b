//! What an order has moved, and what refunds take back of it.

use serde::{Deserialize, Serialize};

use super::programme::share;

/// What was committed for an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What points were counted of.
    pub eligible: i64,
    pub redeemed: i64,
    pub earned: i64,
    /// What refunds have come to before.
    pub refunded: i64,
    pub restored: i64,
    pub revoked: i64,
}

/// By what an order earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earning {
    /// The eligible sum, in units.
    pub eligible: i64,
    /// In hundredths of a percent of what of it is paid in money.
    pub bps: i64,
}

impl Earning {
    /// Points of the whole order, where so many units of it are paid by points.
    pub fn points(self, redeemed: i64) -> i64 {
        share((self.eligible - redeemed).max(0), self.bps)
    }
}

/// What a refund comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refund {
    /// What it adds to the refunded sum: less than was asked for where that would pass the receipt.
    pub base: i64,
    /// Points to be given back.
    pub restored: i64,
    /// Points to be taken away.
    pub revoked: i64,
}

impl Receipt {
    /// A refund of so much of the eligible sum. Several add up to exactly what the whole would be, and never to more.
    pub fn refund(&self, base: i64) -> Refund {
        let together = self.refunded.saturating_add(base.max(0)).min(self.eligible.max(self.refunded));
        let of = |points: i64| match self.eligible {
            // Nothing was counted of: the first refund takes all back.
            ..=0 => points,
            eligible => half_up(points, together, eligible),
        };
        Refund {
            base: together - self.refunded,
            restored: (of(self.redeemed) - self.restored).max(0),
            revoked: (of(self.earned) - self.revoked).max(0),
        }
    }

    /// The receipt after it.
    pub fn after(self, refund: Refund) -> Self {
        Self {
            refunded: self.refunded + refund.base,
            restored: self.restored + refund.restored,
            revoked: self.revoked + refund.revoked,
            ..self
        }
    }

    /// The part of the receipt that is refunded, in millionths.
    pub fn share_ppm(&self) -> i64 {
        match self.eligible {
            ..=0 => 1_000_000,
            eligible => half_up(1_000_000, self.refunded.min(eligible), eligible),
        }
    }
}

/// `points × part / whole`, halves up.
fn half_up(points: i64, part: i64, whole: i64) -> i64 {
    let (points, part, whole) = (i128::from(points), i128::from(part), i128::from(whole));
    i64::try_from((2 * points * part + whole) / (2 * whole)).unwrap_or(i64::MAX)
}
