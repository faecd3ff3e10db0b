use jiff::Timestamp;
use proptest::prelude::*;

use super::{quote::spoken, *};
use crate::words::Language;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn purchase(eligible: i64) -> Purchase<'static> {
    Purchase { total: eligible, eligible, channel: "PC_POS", category: None, weekday: 1, at: at(1_000) }
}

fn rich(available: i64) -> Standing {
    Standing { available, ..Standing::default() }
}

#[test]
fn half_of_a_purchase_may_be_paid_by_points_and_a_twentieth_comes_back() {
    let programme = Programme::default();
    assert_eq!(programme.redeem(purchase(1_000), &rich(700)), Ok(Offer { points: 500, payable: 500 }));
    assert_eq!(programme.redeem(purchase(1_000), &rich(100)), Ok(Offer { points: 100, payable: 900 }));
    assert_eq!(programme.redeem(purchase(1_000), &rich(0)), Err(Refused::NoPoints));
    assert_eq!(programme.redeem(purchase(1), &rich(10)), Err(Refused::TooSmall));
    assert_eq!(programme.earn(purchase(1_999), &rich(0)).unwrap().points, 99);
    assert_eq!(programme.earn(purchase(19), &rich(0)), Err(Refused::TooSmall));
}

#[test]
fn what_points_have_paid_earns_nothing() {
    let standing = Standing { order_redeemed: 500, order_redeems: true, ..rich(0) };
    assert_eq!(Programme::default().earn(purchase(1_000), &standing), Ok(Offer { points: 25, payable: 500 }));
    let apart = Programme { earn_with_redeem: false, ..Programme::default() };
    assert_eq!(apart.earn(purchase(1_000), &standing), Err(Refused::NotBoth));
}

#[test]
fn caps_pauses_and_the_orders_own_limit_hold() {
    let programme = Programme {
        redeem_daily_cap: Some(300),
        earn_daily_cap: Some(40),
        redeem_cooldown_s: 60,
        earn_cooldown_s: 30,
        ..Programme::default()
    };
    let today = Standing { redeemed_in_24_h: 200, earned_in_24_h: 30, ..rich(700) };
    assert_eq!(programme.redeem(purchase(1_000), &today).unwrap().points, 100);
    assert_eq!(programme.earn(purchase(1_000), &today).unwrap().points, 10);
    let over = Standing { redeemed_in_24_h: 300, earned_in_24_h: 40, ..today };
    assert_eq!(programme.redeem(purchase(1_000), &over), Err(Refused::DailyCap(Kind::Redeem)));
    assert_eq!(programme.earn(purchase(1_000), &over), Err(Refused::DailyCap(Kind::Earn)));
    let hot = Standing { last_redeem_at: Some(at(950)), last_earn_at: Some(at(980)), ..today };
    assert_eq!(programme.redeem(purchase(1_000), &hot), Err(Refused::Cooldown { kind: Kind::Redeem, left_s: 10 }));
    assert_eq!(programme.earn(purchase(1_000), &hot), Err(Refused::Cooldown { kind: Kind::Earn, left_s: 10 }));
    let future = Standing { last_redeem_at: Some(at(9_000)), ..today };
    assert_eq!(programme.redeem(purchase(1_000), &future), Err(Refused::Cooldown { kind: Kind::Redeem, left_s: 60 }));
    let spent = Standing { order_redeemed: 500, order_redeems: true, ..rich(700) };
    assert_eq!(Programme::default().redeem(purchase(1_000), &spent), Err(Refused::OrderLimit));
}

#[test]
fn the_last_rule_that_fits_wins_for_each_rate_and_levels_add_to_it() {
    let programme: Programme = serde_json::from_str(
        r#"{ "earnBps": 500, "redeemLimitBps": 5000,
             "rules": [{ "if": { "channelIn": ["smart"] }, "then": { "earnBps": 1000 } },
                       { "if": { "weekdayIn": [0, 6] }, "then": { "earnBps": 2000, "redeemLimitBps": 10000 } },
                       { "if": { "minEligible": 5000, "categoryIn": ["food"] }, "then": { "earnBps": 100 } }],
             "levels": { "periodDays": 365, "metric": "earn",
                         "levels": [{ "name": "Gold", "threshold": 1000, "benefit": { "earnBps": 300 } },
                                    { "name": "Silver", "threshold": 100, "benefit": { "earnBps": 100 } }] } }"#,
    )
    .unwrap();
    assert_eq!(programme.faults(), []);
    let earned = |purchase: Purchase<'_>, progress| programme.earn(purchase, &Standing { progress, ..rich(0) }).unwrap().points;
    assert_eq!(earned(purchase(1_000), 0), 50);
    assert_eq!(earned(Purchase { channel: "SMART", ..purchase(1_000) }, 0), 100);
    assert_eq!(earned(Purchase { channel: "SMART", weekday: 0, ..purchase(1_000) }, 0), 200);
    assert_eq!(earned(Purchase { weekday: 0, category: Some("food"), ..purchase(5_000) }, 0), 50);
    assert_eq!(earned(purchase(1_000), 150), 60);
    assert_eq!(earned(purchase(1_000), 5_000), 80);
    let sunday = Purchase { weekday: 0, ..purchase(1_000) };
    assert_eq!(programme.redeem(sunday, &rich(5_000)).unwrap().points, 1_000);
}

#[test]
fn the_best_promotion_lowers_the_sum_first() {
    let programme: Programme = serde_json::from_str(
        r#"{ "promotions": [{ "fixed": 100 }, { "percent_bps": 2000 }, { "if": { "category_in": ["tea"] }, "fixed": 5000 }] }"#,
    )
    .unwrap();
    assert_eq!(programme.redeem(purchase(1_000), &rich(9_999)), Ok(Offer { points: 400, payable: 400 }));
    let tea = Purchase { category: Some("Tea"), ..purchase(1_000) };
    assert_eq!(programme.redeem(tea, &rich(9_999)), Err(Refused::TooSmall));
}

#[test]
fn what_is_wrong_with_a_programme_is_told_by_place() {
    let wrong: Programme = serde_json::from_str(
        r#"{ "earn_bps": 10001, "qr_ttl_s": 5, "redeem_daily_cap": -1, "earn_cooldown_s": 100000, "points_ttl_days": 0,
             "rules": [{ "if": { "weekday_in": [7] }, "then": { "earn_bps": 20000 } }], "promotions": [{ "fixed": -5 }] }"#,
    )
    .unwrap();
    let places: Vec<String> = wrong.faults().into_iter().map(|(place, _)| place).collect();
    let wanted = [
        "/earn_bps",
        "/rules/0/then/earn_bps",
        "/redeem_daily_cap",
        "/points_ttl_days",
        "/promotions/0/fixed",
        "/qr_ttl_s",
        "/earn_cooldown_s",
        "/rules/0/if/weekday_in",
    ];
    assert_eq!(places, wanted);
}

#[test]
fn sums_are_said_in_roubles() {
    assert_eq!(spoken(100, Unit::Rouble), "100");
    assert_eq!(spoken(12_345, Unit::Kopeck), "123.45");
    assert_eq!(spoken(-5, Unit::Kopeck), "-0.05");
    let offer = Offer { points: 100, payable: 900 };
    assert_eq!(offer.says(Kind::Redeem, Unit::Rouble, Language::Ru, "₽"), "Списываем 100 ₽, к оплате 900 ₽");
    assert_eq!(offer.says(Kind::Earn, Unit::Rouble, Language::Ru, "₽"), "Начислим 100 баллов после оплаты.");
}

#[test]
fn points_go_in_the_order_in_which_they_would_expire_and_come_back_the_newest_first() {
    let lot = |id, left, expires| Lot { id, left, active_at: at(0), expires_at: Some(at(expires)) };
    let mut account = Account { lots: vec![lot(1, 10, 500), lot(2, 10, 300), lot(3, 10, 400)], debt: 0 };
    let of = |lot, points, expires| Taken { lot, points, expires_at: Some(at(expires)) };
    let spent = account.spend(15, at(100));
    assert_eq!(spent, [of(2, 10, 300), of(3, 5, 400)]);
    // Nothing is left of the second one: it is made again.
    account.forget_empty();
    let given = account.give_back(7, &spent, at(100));
    assert_eq!(given, [of(3, 5, 400), of(2, 2, 300)]);
    assert_eq!(account.balance(at(100)), 22);
    assert_eq!(account.expire(at(350)), [of(2, 2, 300)]);
}

#[test]
fn what_is_taken_back_beyond_the_balance_is_paid_by_the_next_points() {
    let mut account = Account::default();
    account.grant(Lot { id: 1, left: 50, active_at: at(0), expires_at: None }, at(0));
    account.spend(40, at(1));
    account.revoke(50, &[1], at(2));
    assert_eq!((account.balance(at(2)), account.debt), (-40, 40));
    assert_eq!(account.spend(1, at(2)), []);
    account.grant(Lot { id: 2, left: 100, active_at: at(3), expires_at: None }, at(3));
    assert_eq!((account.balance(at(3)), account.debt), (60, 0));
}

/// One step in the life of an account, as it comes.
#[derive(Debug, Clone)]
enum Step {
    Earn {
        points: i64,
        delay_s: i64,
        lives_s: Option<i64>,
    },
    Spend(i64),
    /// A refund of a part of one of the receipts so far.
    Refund {
        receipt: usize,
        base: i64,
    },
    Expire,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..500_i64, 0..50_i64, proptest::option::of(1..200_i64))
            .prop_map(|(points, delay_s, lives_s)| Step::Earn { points, delay_s, lives_s }),
        3 => (0..600_i64).prop_map(Step::Spend),
        3 => (0..40_usize, 0..1_500_i64).prop_map(|(receipt, base)| Step::Refund { receipt, base }),
        1 => Just(Step::Expire),
        2 => (0..40_i64).prop_map(Step::Wait),
    ]
}

/// The same account, each point by itself: whose lot it is of, and where it is.
#[derive(Default)]
struct Reference {
    /// By point: its lot, from when it can be spent, until when.
    here: Vec<(i64, i64, i64)>,
    debt: i64,
}

impl Reference {
    fn can_be_spent(&self, now: i64) -> usize {
        self.here.iter().filter(|(_, from, until)| *from <= now && *until > now).count()
    }

    fn settle(&mut self, now: i64) {
        let points = self.debt.min(self.can_be_spent(now) as i64);
        self.take(points, now);
        self.debt -= points;
    }

    fn take(&mut self, points: i64, now: i64) -> Vec<(i64, i64, i64)> {
        let mut taken = Vec::new();
        for _ in 0..points {
            let first = self.here.iter().enumerate().filter(|(_, point)| point.1 <= now && point.2 > now);
            let Some((place, _)) = first.min_by_key(|(_, (lot, _, until))| (*until, *lot)) else { break };
            taken.push(self.here.remove(place));
        }
        taken
    }

    fn revoke(&mut self, points: i64, own: i64, now: i64) {
        for _ in 0..points {
            let own = self.here.iter().position(|(lot, _, until)| *lot == own && *until > now);
            match own {
                Some(place) => drop(self.here.remove(place)),
                None => self.debt += i64::from(self.take(1, now).is_empty()),
            }
        }
    }
}

/// What one receipt did, to be refunded.
struct Sold {
    receipt: Receipt,
    spent: Vec<Taken>,
    points: Vec<(i64, i64, i64)>,
    lot: i64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, no lot and no debt falls below zero, what can be spent stands beside no debt, the sum of all movements is
    /// what is there, no receipt gives back more than it took, and a model that moves each point by itself agrees.
    #[test]
    fn any_history_keeps_the_laws(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut account, mut model, mut now) = (Account::default(), Reference::default(), 0_i64);
        let (mut sold, mut movements): (Vec<Sold>, i64) = (Vec::new(), 0);
        for (number, step) in steps.into_iter().enumerate() {
            let id = number as i64;
            match step {
                Step::Earn { points, delay_s, lives_s } => {
                    let (from, until) = (now + delay_s, lives_s.map_or(i64::MAX, |lives| now + delay_s + lives));
                    let expires_at = lives_s.map(|_| at(until));
                    account.grant(Lot { id, left: points, active_at: at(from), expires_at }, at(now));
                    model.here.extend((0..points).map(|_| (id, from, until)));
                    model.settle(now);
                    movements += points;
                    let receipt = Receipt { eligible: 1_000, earned: points, ..Receipt::default() };
                    sold.push(Sold { receipt, spent: Vec::new(), points: Vec::new(), lot: id });
                }
                Step::Spend(points) => {
                    let spent = account.spend(points, at(now));
                    let wanted = points.min(model.can_be_spent(now) as i64 - model.debt).max(0);
                    let taken = model.take(wanted, now);
                    let redeemed: i64 = spent.iter().map(|taken| taken.points).sum();
                    prop_assert_eq!(redeemed, taken.len() as i64);
                    movements -= redeemed;
                    let receipt = Receipt { eligible: 1_000, redeemed, ..Receipt::default() };
                    sold.push(Sold { receipt, spent, points: taken, lot: -1 });
                }
                Step::Refund { receipt, base } => {
                    let count = sold.len();
                    let Some(sold) = sold.get_mut(receipt % count.max(1)) else { continue };
                    let refund = sold.receipt.refund(base);
                    sold.receipt = sold.receipt.after(refund);
                    let given = account.give_back(refund.restored, &sold.spent, at(now));
                    prop_assert_eq!(given.iter().map(|given| given.points).sum::<i64>(), refund.restored);
                    for given in given {
                        let taken = sold.spent.iter_mut().find(|taken| taken.lot == given.lot).unwrap();
                        taken.points -= given.points;
                    }
                    model.here.extend(sold.points.split_off(sold.points.len() - refund.restored as usize));
                    model.settle(now);
                    account.revoke(refund.revoked, &[sold.lot], at(now));
                    model.revoke(refund.revoked, sold.lot, now);
                    movements += refund.restored - refund.revoked;
                    let Receipt { eligible, redeemed, earned, refunded, restored, revoked } = sold.receipt;
                    prop_assert!(refunded <= eligible && restored <= redeemed && revoked <= earned);
                    prop_assert!(refunded < eligible || (restored, revoked) == (redeemed, earned));
                }
                Step::Expire => {
                    let gone: i64 = account.expire(at(now)).iter().map(|gone| gone.points).sum();
                    let before = model.here.len();
                    model.here.retain(|(_, _, until)| *until > now);
                    prop_assert_eq!(gone, (before - model.here.len()) as i64);
                    movements -= gone;
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    account.settle(at(now));
                    model.settle(now);
                }
            }
            account.forget_empty();
            prop_assert!(account.debt >= 0 && account.lots.iter().all(|lot| lot.left >= 0));
            prop_assert_eq!(account.debt, model.debt);
            prop_assert_eq!(account.balance(at(now)), model.can_be_spent(now) as i64 - model.debt);
            prop_assert!(account.debt == 0 || account.balance(at(now)) == -account.debt);
            prop_assert_eq!(account.lots.iter().map(|lot| lot.left).sum::<i64>() - account.debt, movements);
        }
    }

    #[test]
    fn many_refunds_come_to_exactly_what_one_would(
        (eligible, redeemed, earned) in (1..1_000_000_i64, 0..500_000_i64, 0..500_000_i64),
        parts in proptest::collection::vec(0..300_000_i64, 1..12),
    ) {
        let sold = Receipt { eligible, redeemed, earned, ..Receipt::default() };
        let mut by_parts = sold;
        for part in &parts {
            by_parts = by_parts.after(by_parts.refund(*part));
        }
        let at_once = sold.after(sold.refund(parts.iter().sum()));
        prop_assert_eq!(by_parts, at_once);
        prop_assert!(by_parts.share_ppm() <= 1_000_000);
    }

    #[test]
    fn no_offer_passes_its_bounds(
        (total, cut, available) in (0..10_000_000_i64, 0..10_000_000_i64, -1_000..10_000_000_i64),
        (earn_bps, redeem_limit_bps) in (0..=10_000_u32, 0..=10_000_u32),
        (spent, cap) in (0..5_000_000_i64, proptest::option::of(0..5_000_000_i64)),
    ) {
        let programme = Programme { earn_bps, redeem_limit_bps, redeem_daily_cap: cap, earn_daily_cap: cap, ..Programme::default() };
        let eligible = (total - cut).max(0);
        let purchase = Purchase { total, ..purchase(eligible) };
        let standing = Standing { order_redeemed: spent, order_redeems: spent > 0, redeemed_in_24_h: spent, ..rich(available) };
        if let Ok(offer) = programme.redeem(purchase, &standing) {
            prop_assert!(offer.points > 0 && offer.points <= available && offer.points + spent <= eligible);
            prop_assert!(offer.payable >= 0 && cap.is_none_or(|cap| offer.points + spent <= cap));
        }
        if let Ok(offer) = programme.earn(purchase, &standing) {
            prop_assert!(offer.points > 0 && offer.points + spent <= eligible && cap.is_none_or(|cap| offer.points <= cap));
        }
    }
}

#[test]
fn a_level_is_the_highest_that_is_reached() {
    let levels = Levels {
        period_days: 365,
        metric: LevelMetric::Transactions,
        levels: [("Silver", 5), ("Gold", 10)]
            .map(|(name, threshold)| Level { name: name.to_owned(), threshold, benefit: Benefit::default() })
            .to_vec(),
    };
    let name = |progress| levels.level(progress).map(|level| level.name.as_str());
    assert_eq!((name(4), name(5), name(12)), (None, Some("Silver"), Some("Gold")));
}

#[test]
fn a_receipt_that_names_one_lot_by_its_number_is_read_as_one_that_names_all() {
    let (id, sums) = (|kind| crate::Id::from_bytes(kind, [1; 16]).to_string(), Receipt::default());
    let row = |lots: serde_json::Value| {
        let mut row = serde_json::json!({
            "id": id(crate::id::Kind::Receipt), "merchant": id(crate::id::Kind::Merchant), "wallet": id(crate::id::Kind::Customer),
            "order": "A", "sums": sums, "holds": [], "at": "2026-11-24T10:00:00Z",
        });
        row.as_object_mut().unwrap().extend(lots.as_object().unwrap().clone());
        serde_json::from_value::<OrderReceipt>(row).unwrap().lots
    };
    assert_eq!(row(serde_json::json!({ "lot": 7 })), [Taken { lot: 7, points: 0, expires_at: None }]);
    assert_eq!(row(serde_json::json!({ "lots": [{ "lot": 7, "points": 5 }] })), [Taken { lot: 7, points: 5, expires_at: None }]);
    assert_eq!(row(serde_json::json!({})), []);
}
