//! What a digest says, in numbers.

use std::collections::BTreeMap;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{Date, Weekday},
    tz::TimeZone,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{
    Id,
    event::kind,
    loyalty::{Book, MoveKind, Unit},
    price,
};
use uzel_store::{CommandState, CostFigure, Figures, PointsFigures, ReviewCount};

/// Events that are somebody's visit.
const VISITS: [&str; 3] = [kind::ORDER_COMPLETED, kind::VISIT_COMPLETED, kind::DEAL_WON];
/// Events of this kind are told each by its name.
const BONUSES: &str = "loyalty.";

/// How long a stretch a digest is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    Day,
    /// From Monday to Sunday.
    Week,
}

/// The stretch of one digest: whole days in a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub span: Span,
    pub first: Date,
}

impl Period {
    /// The day, or the week in which it is.
    pub fn with(span: Span, day: Date) -> Self {
        let back = match span {
            Span::Day => 0,
            Span::Week => i64::from(day.weekday().since(Weekday::Monday)),
        };
        Self { span, first: day.saturating_sub(back.days()) }
    }

    pub(super) fn days(&self) -> i64 {
        match self.span {
            Span::Day => 1,
            Span::Week => 7,
        }
    }

    pub fn last(&self) -> Date {
        self.first.saturating_add((self.days() - 1).days())
    }

    /// From its first moment to the first after it.
    pub(super) fn moments(&self, zone: &TimeZone) -> (Timestamp, Timestamp) {
        (start(self.first, zone), start(self.first.saturating_add(self.days().days()), zone))
    }

    /// The same days of the week before.
    pub(super) fn week_before(&self) -> Self {
        Self { first: self.first.saturating_sub(7.days()), ..*self }
    }
}

fn start(day: Date, zone: &TimeZone) -> Timestamp {
    day.to_zoned(zone.clone()).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

/// A digest of one merchant.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Digest {
    /// Whose it is.
    pub merchant: Id,
    /// The merchant's name.
    pub name: String,
    /// A day or a week.
    pub span: Span,
    /// The first day.
    #[schemars(with = "String")]
    pub first: Date,
    /// The last day.
    #[schemars(with = "String")]
    pub last: Date,
    /// Of these days.
    pub zone: String,
    /// Visits, orders and deals that were completed.
    pub visits: u64,
    /// The same a week before.
    pub visits_before: u64,
    /// By hour of a day, or by day of a week.
    pub bars: Vec<Bar>,
    /// Messages that flows sent.
    pub sent: u64,
    /// Messages of flows that are still to go.
    pub waiting: u64,
    /// Requests for a review of visits of these days.
    pub asked: u64,
    /// How many of those were opened.
    pub opened: u64,
    /// Reviews that came of them: with one star, two, … five.
    pub stars: [u64; 5],
    /// Reviews with a comment for the owner.
    pub comments: u64,
    /// Events of the loyalty programme, by kind.
    pub bonuses: BTreeMap<String, u64>,
    /// What points did; nothing where the hub keeps none for the merchant.
    pub points: Option<Points>,
    /// Messages that did not go.
    pub dead: u64,
    /// Messages of which nobody knows whether they went.
    pub unknown: u64,
    /// Messages that were held back, by reason.
    pub held: BTreeMap<String, u64>,
    /// What messages cost that were sent in these days, by currency, as far as providers tell.
    pub costs: Vec<Spending>,
}

/// What points of a programme did, in sums by its ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Points {
    /// What one point stands for.
    pub unit: Unit,
    /// What stands after a sum for people.
    pub currency: String,
    /// For receipts.
    pub earned: i64,
    /// By a person, a promo code, a referral or an import.
    pub given: i64,
    /// By receipts.
    pub spent: i64,
    /// Spent ones, back to customers by refunds.
    pub returned: i64,
    /// Earned ones taken back by refunds, and what a person took.
    pub revoked: i64,
    /// When their time was over.
    pub expired: i64,
    /// Customers who joined, wherever.
    pub joined: u64,
}

impl Points {
    /// `here`: whether an outlet's movements count.
    pub(super) fn of(moved: &PointsFigures, unit: Unit, currency: String, here: impl Fn(Option<Id>) -> bool) -> Self {
        let mut points = Self { unit, currency, joined: moved.joined, ..Self::default() };
        for figure in moved.sums.iter().filter(|figure| here(figure.outlet)) {
            let sum = match (figure.kind, figure.from, figure.to) {
                (MoveKind::Earn, ..) => &mut points.earned,
                (MoveKind::Redeem, ..) => &mut points.spent,
                (MoveKind::Expire, ..) => &mut points.expired,
                (MoveKind::Refund, Book::Redeemed, _) => &mut points.returned,
                (MoveKind::Refund | MoveKind::Adjust, _, Book::Issued) => &mut points.revoked,
                (MoveKind::Adjust | MoveKind::Campaign | MoveKind::Referral, ..) => &mut points.given,
                // They were counted when they were earned.
                (MoveKind::Activate | MoveKind::Refund, ..) => continue,
            };
            *sum += figure.points;
        }
        points
    }
}

/// What messages cost in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Spending {
    /// ISO 4217.
    pub currency: String,
    /// Decimal text.
    pub cost: String,
    /// How many messages whose cost is known.
    pub messages: u64,
}

impl Spending {
    fn of(figure: &CostFigure) -> Self {
        Self { currency: figure.currency.clone(), cost: price::text(figure.micro), messages: figure.count }
    }
}

/// One bar of the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bar {
    /// Hour of the day, or day of the week from 1 (Monday) on.
    pub at: i8,
    /// Visits then.
    pub visits: u64,
    /// Visits a week before.
    pub before: u64,
}

/// What must be counted for a digest.
pub(super) fn kinds() -> Vec<String> {
    VISITS.into_iter().chain(kind::ALL.iter().copied().filter(|kind| kind.starts_with(BONUSES))).map(str::to_owned).collect()
}

impl Digest {
    pub(super) fn of(merchant: Id, name: &str, period: Period, zone: &TimeZone, now: &Figures, before: &Figures) -> Self {
        let count = |matches: &dyn Fn(&uzel_store::MessageFigure) -> bool| -> u64 {
            now.messages.iter().filter(|figure| matches(figure)).map(|figure| figure.count).sum()
        };
        let mut digest = Self {
            merchant,
            name: name.to_owned(),
            span: period.span,
            first: period.first,
            last: period.last(),
            zone: zone.iana_name().unwrap_or("UTC").to_owned(),
            visits: visits(now),
            visits_before: visits(before),
            bars: bars(period, zone, now, before),
            sent: count(&|figure| figure.of_flow && figure.state == CommandState::Done),
            waiting: count(&|figure| figure.of_flow && figure.state == CommandState::Waiting),
            asked: 0,
            opened: 0,
            stars: [0; 5],
            comments: 0,
            bonuses: BTreeMap::new(),
            points: None,
            dead: count(&|figure| figure.state == CommandState::Dead),
            unknown: count(&|figure| figure.state == CommandState::Unknown),
            held: BTreeMap::new(),
            costs: now.costs.iter().map(Spending::of).collect(),
        };
        for figure in now.events.iter().filter(|figure| figure.kind.starts_with(BONUSES)) {
            *digest.bonuses.entry(figure.kind.clone()).or_default() += figure.count;
        }
        for figure in now.messages.iter().filter(|figure| figure.state == CommandState::Held) {
            *digest.held.entry(figure.reason.clone()).or_default() += figure.count;
        }
        digest
    }

    /// What became of requests for a review.
    pub(super) fn hear(&mut self, count: &ReviewCount) {
        let number = count.count.max(0).unsigned_abs();
        match count.what.as_str() {
            "sent" => self.asked += number,
            "opened" => self.opened += number,
            "comment" => self.comments += number,
            what => {
                let stars = what.strip_prefix("stars/").and_then(|stars| stars.parse::<usize>().ok());
                if let Some(of) = stars.and_then(|stars| self.stars.get_mut(stars.checked_sub(1)?)) {
                    *of += number;
                }
            }
        }
    }

    pub(super) fn reviews(&self) -> u64 {
        self.stars.iter().sum()
    }

    /// Tenths of the mean of all stars, rounded; nothing without reviews.
    pub(super) fn mean_tenths(&self) -> Option<u64> {
        let sum: u64 = self.stars.iter().zip(1..).map(|(count, stars)| count * stars).sum();
        let reviews = self.reviews();
        (reviews > 0).then(|| (sum * 10 + reviews / 2) / reviews)
    }
}

/// Days since 1970, as review requests count them.
pub(super) fn day_number(day: Date) -> i32 {
    (day - Date::constant(1970, 1, 1)).get_days()
}

fn visits(figures: &Figures) -> u64 {
    figures.events.iter().filter(|figure| VISITS.contains(&figure.kind.as_str())).map(|figure| figure.count).sum()
}

fn bars(period: Period, zone: &TimeZone, now: &Figures, before: &Figures) -> Vec<Bar> {
    let places = match period.span {
        Span::Day => 0..24,
        Span::Week => 1..8,
    };
    let by_place = |figures: &Figures| {
        let mut counts = BTreeMap::<i8, u64>::new();
        for figure in figures.events.iter().filter(|figure| VISITS.contains(&figure.kind.as_str())) {
            // A quarter lies within one hour of any zone.
            let local = zone.to_datetime(figure.at + SignedDuration::from_mins(7));
            let place = match period.span {
                Span::Day => local.hour(),
                Span::Week => local.weekday().to_monday_one_offset(),
            };
            *counts.entry(place).or_default() += figure.count;
        }
        counts
    };
    let (now, before) = (by_place(now), by_place(before));
    let of = |counts: &BTreeMap<i8, u64>, place| counts.get(&place).copied().unwrap_or_default();
    places.map(|at| Bar { at, visits: of(&now, at), before: of(&before, at) }).collect()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_week_begins_on_monday_and_a_day_is_as_long_as_its_zone_makes_it() {
        let week = Period::with(Span::Week, date(2026, 11, 29));
        assert_eq!((week.first, week.last()), (date(2026, 11, 23), date(2026, 11, 29)));
        assert_eq!(week.week_before().first, date(2026, 11, 16));
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let (from, to) = Period::with(Span::Day, date(2026, 10, 25)).moments(&berlin);
        assert_eq!((to - from).total(jiff::Unit::Hour).unwrap(), 25.0);
        assert_eq!(day_number(date(2026, 11, 27)), 20_784);
    }
}
