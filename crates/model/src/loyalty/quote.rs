//! What a purchase may spend and earn.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Unit,
    programme::{Programme, share},
};
use crate::words::Language;

/// Which way points go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Redeem,
    Earn,
}

/// What is bought. Sums are units of the programme.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Purchase<'a> {
    pub total: i64,
    /// What points may pay and are given for; not more than the total.
    pub eligible: i64,
    /// The outlet's kind of till; `VIRTUAL` without one.
    pub channel: &'a str,
    pub category: Option<&'a str>,
    /// At the outlet, 0 is Sunday.
    pub weekday: u8,
    pub at: Timestamp,
}

/// How the customer stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// What can be spent, less what other quotes keep.
    pub available: i64,
    pub redeemed_in_24_h: i64,
    pub earned_in_24_h: i64,
    pub last_redeem_at: Option<Timestamp>,
    pub last_earn_at: Option<Timestamp>,
    /// What the levels count.
    pub progress: i64,
    /// What receipts of the same order have spent.
    pub order_redeemed: i64,
    /// And earned.
    pub order_earned: i64,
    /// Receipts of the same order have spent or earned.
    pub order_redeems: bool,
    pub order_earns: bool,
    /// A receipt that came in has earned for the order.
    pub is_earned: bool,
}

/// What can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// To be spent, or to be earned.
    pub points: i64,
    /// What is left to pay in money.
    pub payable: i64,
}

/// Why nothing can be had. What [`Self::keeps_hold`] says of it is still a quote that can be committed, for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    Cooldown {
        kind: Kind,
        left_s: i64,
    },
    DailyCap(Kind),
    /// The order's receipts have spent all that it may.
    OrderLimit,
    /// The programme does not let one order spend and earn.
    NotBoth,
    NoPoints,
    TooSmall,
    /// A receipt that came in has earned for the order.
    Earned,
}

impl Programme {
    /// What points may pay of a purchase.
    pub fn redeem(&self, purchase: Purchase<'_>, standing: &Standing) -> Result<Offer, Refused> {
        if standing.order_earns && !self.earn_with_redeem {
            return Err(Refused::NotBoth);
        }
        cooled(Kind::Redeem, standing.last_redeem_at, self.redeem_cooldown_s, purchase.at)?;
        let purchase = self.promoted(purchase);
        let (_, limit_bps) = self.rates(&purchase, standing.progress);
        let rest = share(purchase.eligible, limit_bps) - standing.order_redeemed;
        if rest <= 0 && standing.order_redeemed > 0 {
            return Err(Refused::OrderLimit);
        }
        let left_today = self.redeem_daily_cap.map(|cap| cap - standing.redeemed_in_24_h);
        if left_today.is_some_and(|left| left <= 0) {
            return Err(Refused::DailyCap(Kind::Redeem));
        }
        let points = standing.available.min(rest).min(left_today.unwrap_or(i64::MAX));
        if points <= 0 {
            return Err(if standing.available <= 0 { Refused::NoPoints } else { Refused::TooSmall });
        }
        Ok(Offer { points, payable: purchase.total - points })
    }

    /// What a purchase earns. What is paid by points earns nothing.
    pub fn earn(&self, purchase: Purchase<'_>, standing: &Standing) -> Result<Offer, Refused> {
        if standing.order_redeems && !self.earn_with_redeem {
            return Err(Refused::NotBoth);
        }
        if standing.is_earned {
            return Err(Refused::Earned);
        }
        cooled(Kind::Earn, standing.last_earn_at, self.earn_cooldown_s, purchase.at)?;
        let left_today = self.earn_daily_cap.map(|cap| cap - standing.earned_in_24_h);
        if left_today.is_some_and(|left| left <= 0) {
            return Err(Refused::DailyCap(Kind::Earn));
        }
        let purchase = self.promoted(purchase);
        let (earn_bps, _) = self.rates(&purchase, standing.progress);
        let paid = (purchase.eligible - standing.order_redeemed).max(0);
        let points = (share(paid, earn_bps) - standing.order_earned).min(left_today.unwrap_or(i64::MAX));
        if points <= 0 {
            return Err(Refused::TooSmall);
        }
        Ok(Offer { points, payable: purchase.total - standing.order_redeemed })
    }
}

fn cooled(kind: Kind, last: Option<Timestamp>, pause_s: u32, now: Timestamp) -> Result<(), Refused> {
    let Some(last) = last.filter(|_| pause_s > 0) else { return Ok(()) };
    // A movement in the future is a clock that was set back: the pause is never longer than itself.
    let passed_s = now.duration_since(last).as_secs().max(0);
    let left_s = i64::from(pause_s) - passed_s;
    if left_s > 0 { Err(Refused::Cooldown { kind, left_s }) } else { Ok(()) }
}

impl Refused {
    /// Whether a quote comes of it all the same, of no points.
    pub fn keeps_hold(self) -> bool {
        matches!(self, Self::NoPoints)
    }

    /// For the cashier. The Russian is the platform's own wording.
    pub fn says(self, language: Language) -> String {
        match (self, language) {
            (Self::Cooldown { kind: Kind::Redeem, left_s }, Language::Ru) => {
                format!("Кулдаун на списание: подождите {left_s} сек.")
            }
            (Self::Cooldown { kind: Kind::Earn, left_s }, Language::Ru) => {
                format!("Кулдаун на начисление: подождите {left_s} сек.")
            }
            (Self::Cooldown { kind: Kind::Redeem, left_s }, Language::Uz) => {
                format!("Ballarni yechish orasida tanaffus: {left_s} soniya kuting.")
            }
            (Self::Cooldown { kind: Kind::Earn, left_s }, Language::Uz) => {
                format!("Ball berish orasida tanaffus: {left_s} soniya kuting.")
            }
            (Self::Cooldown { kind: Kind::Redeem, left_s }, Language::En) => {
                format!("Points can be spent again in {left_s} s.")
            }
            (Self::Cooldown { kind: Kind::Earn, left_s }, Language::En) => format!("Points can be earned again in {left_s} s."),
            (Self::DailyCap(Kind::Redeem), Language::Ru) => "Дневной лимит списаний исчерпан.".to_owned(),
            (Self::DailyCap(Kind::Earn), Language::Ru) => "Дневной лимит начислений исчерпан.".to_owned(),
            (Self::DailyCap(Kind::Redeem), Language::Uz) => "Ballarni yechishning kunlik chegarasiga yetildi.".to_owned(),
            (Self::DailyCap(Kind::Earn), Language::Uz) => "Ball berishning kunlik chegarasiga yetildi.".to_owned(),
            (Self::DailyCap(Kind::Redeem), Language::En) => "Today's limit of points to spend is reached.".to_owned(),
            (Self::DailyCap(Kind::Earn), Language::En) => "Today's limit of points to earn is reached.".to_owned(),
            (Self::OrderLimit, Language::Ru) => "По этому заказу уже списаны максимальные баллы.".to_owned(),
            (Self::OrderLimit, Language::Uz) => "Bu buyurtma bo‘yicha eng ko‘p ball allaqachon yechilgan.".to_owned(),
            (Self::OrderLimit, Language::En) => "This order has spent all the points it may.".to_owned(),
            (Self::NotBoth, Language::Ru) => "Нельзя одновременно начислять и списывать баллы в одном чеке.".to_owned(),
            (Self::NotBoth, Language::Uz) => "Bitta chekda ham ball berib, ham yechib bo‘lmaydi.".to_owned(),
            (Self::NotBoth, Language::En) => "One receipt cannot both earn and spend points.".to_owned(),
            (Self::NoPoints, Language::Ru) => "Недостаточно баллов для списания.".to_owned(),
            (Self::NoPoints, Language::Uz) => "Yechish uchun ball yetarli emas.".to_owned(),
            (Self::NoPoints, Language::En) => "There are no points to spend.".to_owned(),
            (Self::TooSmall, Language::Ru) => "Сумма слишком мала для начисления.".to_owned(),
            (Self::TooSmall, Language::Uz) => "Ball berish uchun summa juda kichik.".to_owned(),
            (Self::TooSmall, Language::En) => "The sum is too small for points.".to_owned(),
            (Self::Earned, Language::Ru) => "По чеку этого заказа баллы уже начислены.".to_owned(),
            (Self::Earned, Language::Uz) => "Bu buyurtma cheki bo‘yicha ball allaqachon berilgan.".to_owned(),
            (Self::Earned, Language::En) => "The receipt of this order has earned its points already.".to_owned(),
        }
    }
}

impl Offer {
    /// For the cashier: what is spent and left to pay, or what will be earned.
    pub fn says(self, kind: Kind, unit: Unit, language: Language, currency: &str) -> String {
        let points = spoken(self.points, unit);
        let payable = spoken(self.payable, unit);
        match (kind, language) {
            (Kind::Redeem, Language::Ru) => format!("Списываем {points} {currency}, к оплате {payable} {currency}"),
            (Kind::Redeem, Language::Uz) => format!("{points} {currency} yechiladi, to‘lash kerak: {payable} {currency}"),
            (Kind::Redeem, Language::En) => format!("{points} {currency} off, to pay: {payable} {currency}"),
            (Kind::Earn, Language::Ru) => format!("Начислим {points} баллов после оплаты."),
            (Kind::Earn, Language::Uz) => format!("To‘lovdan keyin {points} ball beriladi."),
            (Kind::Earn, Language::En) => format!("{points} points will be earned after payment."),
        }
    }
}

/// Units as people say them: roubles, with kopecks only where there are some.
pub(super) fn spoken(units: i64, unit: Unit) -> String {
    let minor = i128::from(units) * i128::from(unit.minor());
    let (whole, rest) = (minor / 100, (minor % 100).abs());
    let sign = if minor < 0 && whole == 0 { "-" } else { "" };
    if rest == 0 { format!("{whole}") } else { format!("{sign}{whole}.{rest:02}") }
}
