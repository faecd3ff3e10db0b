//! A merchant's programme: rates, caps, pauses, levels, promotions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{quote::Purchase, receipt::Earning};

/// Hundredths of a percent in the whole.
pub(super) const WHOLE_BPS: i64 = 10_000;

/// What one point and one unit of a `total` stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// One minor unit: a kopeck, a tiyin.
    #[default]
    Kopeck,
    /// A hundred of them: a rouble, a soum.
    Rouble,
}

impl Unit {
    /// Minor units in one unit.
    pub fn minor(self) -> i64 {
        match self {
            Self::Kopeck => 1,
            Self::Rouble => 100,
        }
    }
}

/// A programme as a person writes it. The platform's own names are read too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Programme {
    /// What one point and one unit of a `total` stand for: `kopeck` or `rouble`.
    pub unit: Unit,
    /// Points for a purchase, in hundredths of a percent of its eligible sum.
    #[serde(alias = "earnBps")]
    pub earn_bps: u32,
    /// How much of the eligible sum points may pay, in hundredths of a percent.
    #[serde(alias = "redeemLimitBps")]
    pub redeem_limit_bps: u32,
    /// Points that a customer may earn in 24 hours.
    #[serde(alias = "earnDailyCap", skip_serializing_if = "Option::is_none")]
    pub earn_daily_cap: Option<i64>,
    /// Points that a customer may spend in 24 hours.
    #[serde(alias = "redeemDailyCap", skip_serializing_if = "Option::is_none")]
    pub redeem_daily_cap: Option<i64>,
    /// Seconds from one earning to the next.
    #[serde(alias = "earnCooldownSec")]
    pub earn_cooldown_s: u32,
    /// Seconds from one spending to the next.
    #[serde(alias = "redeemCooldownSec")]
    pub redeem_cooldown_s: u32,
    /// After so many days earned points can be spent.
    #[serde(alias = "earnDelayDays")]
    pub earn_delay_days: u32,
    /// After so many days points expire; never if not set.
    #[serde(alias = "pointsTtlDays", skip_serializing_if = "Option::is_none")]
    pub points_ttl_days: Option<u32>,
    /// Whether one order may both spend and earn.
    pub earn_with_redeem: bool,
    /// Whether a quote keeps its points from other quotes until it ends.
    pub reserve: bool,
    /// Seconds that a quote stands.
    pub hold_ttl_s: u32,
    /// Seconds that a customer's code stands.
    #[serde(alias = "qrTtlSec")]
    pub qr_ttl_s: u32,
    /// Other rates under conditions. The last that fits wins, for each rate by itself.
    pub rules: Vec<Rule>,
    /// Better rates for better customers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
    /// What lowers the sum before points are counted. The best for the customer wins.
    pub promotions: Vec<Promotion>,
}

impl Default for Programme {
    fn default() -> Self {
        Self {
            unit: Unit::Kopeck,
            earn_bps: 500,
            redeem_limit_bps: 5_000,
            earn_daily_cap: None,
            redeem_daily_cap: None,
            earn_cooldown_s: 0,
            redeem_cooldown_s: 0,
            earn_delay_days: 0,
            points_ttl_days: None,
            earn_with_redeem: true,
            reserve: true,
            hold_ttl_s: 86_400,
            qr_ttl_s: 60,
            rules: Vec::new(),
            levels: None,
            promotions: Vec::new(),
        }
    }
}

/// Other rates under a condition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// When it holds.
    #[serde(rename = "if", default)]
    pub condition: Condition,
    /// The rates then.
    #[serde(rename = "then")]
    pub rates: Rates,
}

/// What must all hold; what is left out holds always.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// Kinds of tills: `PC_POS`, `SMART`, `VIRTUAL`.
    #[serde(alias = "channelIn", skip_serializing_if = "Option::is_none")]
    pub channel_in: Option<Vec<String>>,
    /// Days of the week at the outlet, 0 is Sunday.
    #[serde(alias = "weekdayIn", skip_serializing_if = "Option::is_none")]
    pub weekday_in: Option<Vec<u8>>,
    /// From this eligible sum on, in units.
    #[serde(alias = "minEligible", skip_serializing_if = "Option::is_none")]
    pub min_eligible: Option<i64>,
    /// Categories of the purchase.
    #[serde(alias = "categoryIn", skip_serializing_if = "Option::is_none")]
    pub category_in: Option<Vec<String>>,
}

impl Condition {
    fn holds(&self, purchase: &Purchase<'_>) -> bool {
        let among = |list: &Option<Vec<String>>, word: Option<&str>| {
            list.as_ref().is_none_or(|list| word.is_some_and(|word| list.iter().any(|known| known.eq_ignore_ascii_case(word))))
        };
        among(&self.channel_in, Some(purchase.channel))
            && among(&self.category_in, purchase.category)
            && self.weekday_in.as_ref().is_none_or(|days| days.contains(&purchase.weekday))
            && self.min_eligible.is_none_or(|least| purchase.eligible >= least)
    }
}

/// Rates that replace those of the programme.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// Points for a purchase, in hundredths of a percent.
    #[serde(alias = "earnBps", skip_serializing_if = "Option::is_none")]
    pub earn_bps: Option<u32>,
    /// How much points may pay, in hundredths of a percent.
    #[serde(alias = "redeemLimitBps", skip_serializing_if = "Option::is_none")]
    pub redeem_limit_bps: Option<u32>,
}

/// Levels of customers, by what they have bought.
/// Levels of customers, by what they have done in a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// How far back is counted, in days.
    #[serde(alias = "periodDays")]
    pub period_days: u32,
    /// What is counted.
    pub metric: LevelMetric,
    /// In any order.
    pub levels: Vec<Level>,
}

/// What levels count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LevelMetric {
    /// Points earned.
    Earn,
    /// Points spent.
    Redeem,
    /// Receipts.
    Transactions,
}

/// A level of customers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// As people call it.
    pub name: String,
    /// From so much of the metric on.
    pub threshold: i64,
    /// What it adds to the rates.
    #[serde(default)]
    pub benefit: Benefit,
}

/// What a level adds to the rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Benefit {
    /// More points for a purchase, in hundredths of a percent.
    #[serde(alias = "earnBps")]
    pub earn_bps: u32,
    /// So much more may be paid by points, in hundredths of a percent.
    #[serde(alias = "redeemLimitBps")]
    pub redeem_limit_bps: u32,
}

impl Levels {
    /// The highest that is reached.
    pub fn level(&self, progress: i64) -> Option<&Level> {
        self.levels.iter().filter(|level| level.threshold <= progress).max_by_key(|level| level.threshold)
    }
}

/// What lowers a sum before points are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Promotion {
    /// As people call it.
    #[serde(default)]
    pub name: String,
    /// When it holds.
    #[serde(rename = "if", default)]
    pub condition: Condition,
    /// Off the eligible sum, in units.
    #[serde(default)]
    pub fixed: i64,
    /// Off the eligible sum, in hundredths of a percent.
    #[serde(default)]
    pub percent_bps: u32,
}

impl Promotion {
    fn discount(&self, purchase: &Purchase<'_>) -> i64 {
        if !self.condition.holds(purchase) {
            return 0;
        }
        let percent = share(purchase.eligible, i64::from(self.percent_bps));
        self.fixed.max(percent).clamp(0, purchase.eligible)
    }
}

/// A part of a sum, rounded down.
pub(super) fn share(sum: i64, bps: i64) -> i64 {
    let part = i128::from(sum) * i128::from(bps.clamp(0, WHOLE_BPS)) / i128::from(WHOLE_BPS);
    i64::try_from(part).unwrap_or(i64::MAX)
}

impl Programme {
    /// Everything that is wrong with it, by JSON pointer.
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut bps = |place: String, bps: Option<u32>| {
            if bps.is_some_and(|bps| i64::from(bps) > WHOLE_BPS) {
                faults.push((place, "must be from 0 to 10000 (hundredths of a percent)".to_owned()));
            }
        };
        bps("/earn_bps".to_owned(), Some(self.earn_bps));
        bps("/redeem_limit_bps".to_owned(), Some(self.redeem_limit_bps));
        for (place, rule) in self.rules.iter().enumerate() {
            bps(format!("/rules/{place}/then/earn_bps"), rule.rates.earn_bps);
            bps(format!("/rules/{place}/then/redeem_limit_bps"), rule.rates.redeem_limit_bps);
        }
        for (place, promotion) in self.promotions.iter().enumerate() {
            bps(format!("/promotions/{place}/percent_bps"), Some(promotion.percent_bps));
        }
        let mut least = |place: String, value: i64, least: i64| {
            if value < least {
                faults.push((place, format!("must be {least} or more, not {value}")));
            }
        };
        least("/earn_daily_cap".to_owned(), self.earn_daily_cap.unwrap_or(0), 0);
        least("/redeem_daily_cap".to_owned(), self.redeem_daily_cap.unwrap_or(0), 0);
        least("/hold_ttl_s".to_owned(), i64::from(self.hold_ttl_s), 1);
        least("/points_ttl_days".to_owned(), i64::from(self.points_ttl_days.unwrap_or(1)), 1);
        for (place, promotion) in self.promotions.iter().enumerate() {
            least(format!("/promotions/{place}/fixed"), promotion.fixed, 0);
        }
        if !(15..=600).contains(&self.qr_ttl_s) {
            faults.push(("/qr_ttl_s".to_owned(), format!("must be from 15 to 600, not {}", self.qr_ttl_s)));
        }
        let pauses = [("/earn_cooldown_s", self.earn_cooldown_s), ("/redeem_cooldown_s", self.redeem_cooldown_s)];
        for (place, _) in pauses.iter().filter(|(_, pause)| *pause > 86_400) {
            faults.push(((*place).to_owned(), "must be a day (86400) at the most".to_owned()));
        }
        let conditions =
            self.rules.iter().map(|rule| &rule.condition).enumerate().map(|(place, condition)| ("rules", place, condition));
        let others = self.promotions.iter().map(|promotion| &promotion.condition).enumerate();
        for (list, place, condition) in conditions.chain(others.map(|(place, condition)| ("promotions", place, condition))) {
            if condition.weekday_in.iter().flatten().any(|day| *day > 6) {
                faults.push((format!("/{list}/{place}/if/weekday_in"), "days are 0 (Sunday) to 6 (Saturday)".to_owned()));
            }
        }
        faults
    }

    /// The purchase after the best promotion.
    pub fn promoted<'a>(&self, purchase: Purchase<'a>) -> Purchase<'a> {
        let discount = self.promotions.iter().map(|promotion| promotion.discount(&purchase)).max().unwrap_or(0);
        Purchase { total: (purchase.total - discount).max(0), eligible: purchase.eligible - discount, ..purchase }
    }

    /// What points may pay of a whole order, in units: of a purchase of a customer with so much of the levels' metric.
    pub fn order_limit(&self, purchase: Purchase<'_>, progress: i64) -> i64 {
        let purchase = self.promoted(purchase);
        share(purchase.eligible, self.rates(&purchase, progress).1)
    }

    /// By what a purchase of a customer with so much of the levels' metric earns.
    pub fn earning(&self, purchase: Purchase<'_>, progress: i64) -> Earning {
        let purchase = self.promoted(purchase);
        Earning { eligible: purchase.eligible, bps: self.rates(&purchase, progress).0 }
    }

    /// The rates for a purchase of a customer with so much of the levels' metric: to earn, and to pay by points.
    pub(super) fn rates(&self, purchase: &Purchase<'_>, progress: i64) -> (i64, i64) {
        let (mut earn, mut redeem) = (self.earn_bps, self.redeem_limit_bps);
        for rule in self.rules.iter().filter(|rule| rule.condition.holds(purchase)) {
            earn = rule.rates.earn_bps.unwrap_or(earn);
            redeem = rule.rates.redeem_limit_bps.unwrap_or(redeem);
        }
        let benefit =
            self.levels.as_ref().and_then(|levels| levels.level(progress)).map_or(Benefit::default(), |level| level.benefit);
        let with = |rate: u32, more: u32| (i64::from(rate) + i64::from(more)).min(WHOLE_BPS);
        (with(earn, benefit.earn_bps), with(redeem, benefit.redeem_limit_bps))
    }
}
