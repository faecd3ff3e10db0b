//! The pure desk: examples, and the laws under any sequence of what tills, people and time do.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use uzel_model::loyalty::{Book, Entry, Hold, HoldState, Kind, MoveKind, OrderReceipt, Programme};
use uzel_store::{LoyaltyLook, LoyaltySeen, Progress, Who};

use super::*;
use crate::loyalty::{AdjustAsk, CommitAsk, CustomerAsk, LoyaltyError, PromoCode, PromoLimit, QuoteAsk, Referral, RefundAsk};

fn start() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn merchant() -> Id {
    Id::from_bytes(IdKind::Merchant, [1; 16])
}

fn look(customer: &str, token: Option<[u8; 16]>) -> LoyaltyLook {
    LoyaltyLook { who: Some(Who::Customer(customer.to_owned())), token, ..LoyaltyLook::new(merchant(), start()) }
}

/// What a store would keep, and a till that asks.
struct Till {
    rule: ProgrammeRule,
    now: Timestamp,
    wallets: BTreeMap<String, Wallet>,
    holds: BTreeMap<Id, Hold>,
    receipts: BTreeMap<String, OrderReceipt>,
    ledger: Vec<Entry>,
    facts: Vec<Fact>,
}

impl Till {
    fn new(rule: ProgrammeRule) -> Self {
        let (wallets, holds, receipts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { rule, now: start(), wallets, holds, receipts, ledger: Vec::new(), facts: Vec::new() }
    }

    fn of(points: Programme) -> Self {
        Self::new(ProgrammeRule { points, ..ProgrammeRule::default() })
    }

    fn seen(&self, customer: Option<&str>, order: Option<&str>, hold: Option<Id>) -> LoyaltySeen {
        let hold = hold.and_then(|hold| self.holds.get(&hold)).cloned();
        let receipt = order.and_then(|order| self.receipts.get(order)).cloned();
        let of = hold.as_ref().map(|hold| hold.wallet).or(receipt.as_ref().map(|receipt| receipt.wallet));
        let wallet = match customer {
            Some(customer) => self.wallets.get(customer),
            None => self.wallets.values().find(|wallet| Some(wallet.id) == of),
        };
        LoyaltySeen { hold, receipt, wallet: wallet.cloned(), ..LoyaltySeen::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&Ground<'_>) -> T) -> T {
        work(&Ground {
            merchant: merchant(),
            rule: &self.rule,
            now: self.now,
            language: Language::Ru,
            currency: "₽",
            outlet: None,
            channel: "VIRTUAL",
            weekday: 1,
            staff: None,
            request: None,
            authenticated: true,
            by: "key_1",
            tells_quotes: true,
            tells_lots: true,
        })
    }

    fn write(&mut self, decided: Decided) -> Value {
        for wallet in decided.change.wallets {
            let wallet = Wallet { version: wallet.version + 1, ..wallet };
            self.wallets.insert(wallet.customer.clone(), wallet);
        }
        self.holds.extend(decided.change.holds.into_iter().map(|hold| (hold.id, hold)));
        self.receipts.extend(decided.change.receipts.into_iter().map(|receipt| (receipt.order.clone(), receipt)));
        self.ledger.extend(decided.change.ledger);
        self.facts.extend(decided.facts);
        decided.answer
    }

    fn quote(&mut self, kind: Kind, customer: &str, order: &str, total: i64) -> Value {
        let (customer_ask, order) = (CustomerAsk::Plain(customer.to_owned()), order.to_owned());
        let ask = QuoteAsk { kind, customer: customer_ask, order, total, eligible: total, category: None, promo_code: None };
        let seen = self.seen(Some(customer), Some(&ask.order), None);
        let decided = self.with(|ground| quote(ground, &look(customer, None), &seen, &ask)).unwrap();
        self.write(decided)
    }

    fn commit(&mut self, hold: &Value, order: &str) -> Result<Value, LoyaltyError> {
        self.commit_with(hold, order, None, LoyaltySeen::default())
    }

    fn commit_with(&mut self, hold: &Value, order: &str, promo: Option<&str>, more: LoyaltySeen) -> Result<Value, LoyaltyError> {
        let hold = hold.as_str().unwrap_or("-").to_owned();
        let seen = self.seen(None, Some(order), hold.parse().ok());
        let seen = LoyaltySeen { promo: more.promo, progress: more.progress, ..seen };
        let ask = CommitAsk { hold, order: order.to_owned(), receipt_number: None, promo_code: promo.map(str::to_owned) };
        let referrer = seen.wallet.as_ref().and_then(|wallet| wallet.referred_by);
        let referrer = referrer.and_then(|id| self.wallets.values().find(|wallet| wallet.id == id)).cloned();
        let decided = self.with(|ground| commit(ground, &seen, referrer.as_ref(), &ask, promo))?;
        Ok(self.write(decided))
    }

    fn refund(&mut self, order: &str, total: i64) -> Result<Value, LoyaltyError> {
        let seen = self.seen(None, Some(order), None);
        let ask = RefundAsk { order: order.to_owned(), total, eligible: None };
        let lots = seen.receipt.as_ref().map(|receipt| receipt.lots.clone()).unwrap_or_default();
        let of = seen.wallet.as_ref().map(|wallet| wallet.id);
        let gone = self.ledger.iter().filter(|entry| Some(entry.wallet) == of && entry.kind == MoveKind::Expire);
        let expired = of_lots(gone, &lots);
        let decided = self.with(|ground| refund(ground, &seen, &expired, &ask))?;
        Ok(self.write(decided))
    }

    fn cancel(&mut self, hold: Id) -> Result<Value, LoyaltyError> {
        let seen = self.seen(None, None, Some(hold));
        let decided = self.with(|ground| cancel(ground, &seen))?;
        Ok(self.write(decided))
    }

    fn adjust(&mut self, customer: &str, points: i64) -> Result<Value, LoyaltyError> {
        let known = self.wallets.get(customer).cloned();
        let wallet = known.unwrap_or_else(|| new_wallet(merchant(), Some(customer), self.now));
        let ask = AdjustAsk { customer: customer.to_owned(), points, reason: "a gift".to_owned(), expires_at: None };
        let decided = self.with(|ground| adjust(ground, wallet, &ask, "person/key_1"))?;
        Ok(self.write(decided))
    }

    fn sweep(&mut self) {
        for wallet in self.wallets.values().cloned().collect::<Vec<_>>() {
            let holds: Vec<Hold> = wallet.holds.iter().filter_map(|held| self.holds.get(&held.hold)).cloned().collect();
            let decided = self.with(|ground| sweep(ground, &wallet, &holds));
            self.write(decided);
        }
    }

    fn wait(&mut self, hours: i64) {
        self.now += SignedDuration::from_hours(hours);
    }

    fn balance(&self, customer: &str) -> i64 {
        self.wallets[customer].balance()
    }

    fn told(&self, kind: &str) -> Vec<&Value> {
        self.facts.iter().filter(|fact| fact.kind == kind).map(|fact| &fact.data).collect()
    }
}

#[test]
fn a_sale_is_quoted_committed_and_repeated_with_the_same_figures() {
    let mut till = Till::of(Programme { unit: uzel_model::loyalty::Unit::Rouble, ..Programme::default() });
    till.adjust("C-42", 100).unwrap();
    let quoted = till.quote(Kind::Redeem, "C-42", "ORD-1", 1_000);
    assert_eq!(quoted["message"], "Списываем 100 ₽, к оплате 900 ₽");
    assert_eq!(
        (&quoted["canRedeem"], &quoted["discountToApply"], &quoted["finalPayable"]),
        (&json!(true), &json!(100), &json!(900))
    );
    let earn = till.quote(Kind::Earn, "C-42", "ORD-1", 1_000);
    assert_eq!(earn["pointsToEarn"], 45, "what points pay earns nothing");
    let done = till.commit(&quoted["holdId"], "ORD-1").unwrap();
    assert_eq!((&done["redeemApplied"], &done["earnApplied"], &done["alreadyCommitted"]), (&json!(100), &json!(0), &Value::Null));
    let both = till.commit(&earn["holdId"], "ORD-1").unwrap();
    assert_eq!((&both["receiptId"], &both["earnApplied"]), (&done["receiptId"], &json!(45)));
    let again = till.commit(&quoted["holdId"], "ORD-1").unwrap();
    assert_eq!((&again["alreadyCommitted"], &again["redeemApplied"]), (&json!(true), &json!(100)));
    assert_eq!(till.commit(&quoted["holdId"], "ORD-2"), Err(LoyaltyError::HoldFinished));
    assert_eq!(till.balance("C-42"), 45);
    let told = till.told("loyalty.committed");
    assert_eq!((told.len(), &told[1]["earnApplied"], &told[1]["redeemApplied"]), (2, &json!(45), &json!(0)));
    let back = till.refund("ORD-1", 500).unwrap();
    assert_eq!(back, json!({ "ok": true, "share": 0.5, "pointsRestored": 50, "pointsRevoked": 23 }));
    let rest = till.refund("ORD-1", 5_000).unwrap();
    assert_eq!(rest, json!({ "ok": true, "share": 0.5, "pointsRestored": 50, "pointsRevoked": 22 }));
    assert_eq!(till.refund("ORD-1", 1).unwrap()["share"], 0.0);
    assert_eq!((till.balance("C-42"), till.refund("ORD-9", 1)), (100, Err(LoyaltyError::ReceiptNotFound)));
    // The lots, each by what became of it.
    let lots = |till: &Till, word: &str| -> Vec<i64> {
        let told = till.told(&format!("loyalty.earnlot.{word}"));
        told.iter().map(|told| told[word].as_i64().unwrap()).collect()
    };
    assert_eq!(
        (lots(&till, "consumed"), lots(&till, "unconsumed"), lots(&till, "revoked")),
        (vec![100], vec![50, 50], vec![23, 22])
    );
    let keys: std::collections::BTreeSet<&String> = till.facts.iter().map(|fact| &fact.key).collect();
    assert_eq!(keys.len(), till.facts.len(), "no two have one key");
}

#[test]
fn a_second_quote_of_an_order_takes_the_place_of_the_first_and_another_order_finds_less() {
    let mut till = Till::of(Programme::default());
    till.adjust("C", 300).unwrap();
    assert_eq!(till.quote(Kind::Redeem, "C", "A", 400)["pointsToBurn"], 200);
    let first = till.quote(Kind::Redeem, "C", "A", 500)["holdId"].clone();
    assert_eq!(till.quote(Kind::Redeem, "C", "B", 500)["pointsToBurn"], 50, "250 are kept for the other order");
    till.commit(&first, "A").unwrap();
    assert_eq!(till.quote(Kind::Redeem, "C", "A", 500)["message"], "По этому заказу уже списаны максимальные баллы.");
    let nothing = Till::of(Programme::default()).quote(Kind::Redeem, "D", "C", 500);
    assert_eq!((nothing["message"].as_str(), nothing["holdId"].is_string()), (Some("Недостаточно баллов для списания."), true));
}

#[test]
fn a_token_is_one_hold_while_that_stands_and_none_later() {
    let mut till = Till::of(Programme::default());
    let expires_at = till.now + SignedDuration::from_secs(60);
    let customer = CustomerAsk::Token { customer: "C".to_owned(), jti: "j".to_owned(), expires_at };
    let ask =
        QuoteAsk { kind: Kind::Earn, customer, order: "A".into(), total: 100, eligible: 100, category: None, promo_code: None };
    let decided = till.with(|ground| quote(ground, &look("C", Some([1; 16])), &LoyaltySeen::default(), &ask)).unwrap();
    let (hold, token) = (decided.change.holds[0].id, decided.change.token.clone().unwrap());
    assert_eq!((token.hold, token.until > expires_at, decided.change.holds[0].until), (hold, true, Some(expires_at)));
    let first = till.write(decided);
    let seen = till.seen(None, None, Some(hold));
    let other = QuoteAsk { kind: Kind::Redeem, total: 999, ..ask.clone() };
    assert_eq!(till.with(|ground| quote(ground, &look("C", Some([1; 16])), &seen, &other)).unwrap().answer, first);
    till.wait(1);
    assert_eq!(till.with(|ground| quote(ground, &look("C", Some([1; 16])), &seen, &other)).unwrap_err(), LoyaltyError::TokenUsed);
    assert_eq!(till.commit(&json!(hold), "A"), Err(LoyaltyError::HoldExpired));
    till.sweep();
    assert_eq!((till.holds[&hold].state, till.wallets["C"].holds.len()), (HoldState::Expired, 0));
}

#[test]
fn delayed_points_are_promised_told_of_activated_warned_of_and_burned() {
    let points = Programme { earn_delay_days: 7, points_ttl_days: Some(30), ..Programme::default() };
    let mut till = Till::of(points);
    let hold = till.quote(Kind::Earn, "C", "A", 1_000)["holdId"].clone();
    assert_eq!(till.commit(&hold, "A").unwrap()["earnApplied"], 50);
    assert_eq!((till.balance("C"), till.wallets["C"].promised()), (0, 50));
    assert_eq!(till.told("loyalty.earn.scheduled")[0]["maturesAt"], json!(start() + SignedDuration::from_hours(7 * 24)));
    till.wait(8 * 24);
    till.sweep();
    assert_eq!((till.balance("C"), till.told("loyalty.earn.activated")[0]["points"].as_i64()), (50, Some(50)));
    till.wait(23 * 24);
    till.sweep();
    assert_eq!(till.told("loyalty.points_ttl.preview")[0]["expiringPoints"], 50);
    till.wait(7 * 24);
    till.sweep();
    assert_eq!((till.balance("C"), till.told("loyalty.expired")[0]["amount"].as_i64()), (0, Some(50)));
    assert_eq!(till.wallets["C"].next_at(), None);
    // Time has taken them: nobody owes them once more.
    assert_eq!(till.refund("A", 600).unwrap(), json!({ "ok": true, "share": 0.6, "pointsRestored": 0, "pointsRevoked": 0 }));
    assert_eq!(till.refund("A", 1_000).unwrap()["pointsRevoked"], 0);
    till.adjust("C", 70).unwrap();
    assert_eq!((till.balance("C"), till.receipts["A"].sums.revoked), (70, 50));
}

#[test]
fn of_what_was_earned_a_refund_takes_only_what_has_not_expired_and_what_was_spent_is_owed() {
    let points = Programme { points_ttl_days: Some(1), redeem_limit_bps: 10_000, ..Programme::default() };
    let mut till = Till::of(points);
    let hold = till.quote(Kind::Earn, "C", "A", 1_000)["holdId"].clone();
    till.commit(&hold, "A").unwrap();
    let hold = till.quote(Kind::Redeem, "C", "B", 20)["holdId"].clone();
    assert_eq!(till.commit(&hold, "B").unwrap()["redeemApplied"], 20);
    till.wait(25);
    // Of 50 points 30 have expired, as the desk sees it while nothing of it is booked yet.
    assert_eq!(till.refund("A", 400).unwrap()["pointsRevoked"], 0);
    till.sweep();
    assert_eq!(till.refund("A", 600).unwrap()["pointsRevoked"], 20);
    assert_eq!(till.balance("C"), -20);
}

#[test]
fn what_points_pay_earns_nothing_in_whatever_order_a_till_asks_and_commits() {
    for (asks_first, commits_first) in
        [(Kind::Earn, Kind::Earn), (Kind::Earn, Kind::Redeem), (Kind::Redeem, Kind::Earn), (Kind::Redeem, Kind::Redeem)]
    {
        for delay in [0, 7] {
            let mut till = Till::of(Programme { earn_bps: 1_000, earn_delay_days: delay, ..Programme::default() });
            till.adjust("C", 1_000).unwrap();
            let other = |kind| if kind == Kind::Earn { Kind::Redeem } else { Kind::Earn };
            let mut quote = |kind| (kind, till.quote(kind, "C", "A", 1_000)["holdId"].clone());
            let holds = [quote(asks_first), quote(other(asks_first))];
            let hold = |kind| &holds.iter().find(|(of, _)| *of == kind).unwrap().1;
            let first = till.commit(hold(commits_first), "A").unwrap();
            let alone = if commits_first == Kind::Earn { (0, 100) } else { (500, 0) };
            assert_eq!((&first["redeemApplied"], &first["earnApplied"]), (&json!(alone.0), &json!(alone.1)));
            let both = till.commit(hold(other(commits_first)), "A").unwrap();
            assert_eq!(
                (&both["redeemApplied"], &both["earnApplied"]),
                (&json!(500), &json!(50)),
                "{asks_first:?} {commits_first:?}"
            );
            let told = till.told("loyalty.committed");
            assert_eq!(told.iter().map(|told| told["earnApplied"].as_i64().unwrap()).sum::<i64>(), 50, "what is told adds up");
            assert_eq!(till.balance("C") + till.wallets["C"].promised(), 550);
            till.refund("A", 1_000).unwrap();
            assert_eq!((till.balance("C"), till.wallets["C"].promised()), (1_000, 0));
        }
    }
}

#[test]
fn a_refund_takes_all_that_an_order_earned_in_parts_and_is_only_promised() {
    let mut till = Till::of(Programme { earn_delay_days: 7, ..Programme::default() });
    for total in [400, 1_000] {
        let hold = till.quote(Kind::Earn, "C", "A", total)["holdId"].clone();
        till.commit(&hold, "A").unwrap();
    }
    assert_eq!(till.wallets["C"].promised(), 50);
    assert_eq!(till.refund("A", 1_000).unwrap()["pointsRevoked"], 50);
    assert_eq!((till.balance("C"), till.wallets["C"].promised()), (0, 0));
}

#[test]
fn promo_codes_first_receipts_and_referrals_give_what_they_promise_once() {
    let code = |limit| PromoCode {
        code: "Winter".to_owned(),
        status: Default::default(),
        limit,
        per_customer: 1,
        cooldown_days: 0,
        require_visit: true,
        visit_lookback_hours: 24,
        points_amount: 30,
        points_expire_in_days: Some(3),
        assign_level: None,
    };
    let referral = Referral { points: 11, points_for_new: 7, min_eligible: 100 };
    let rule = ProgrammeRule {
        referral: Some(referral),
        first_receipt_points: 5,
        promo_codes: vec![code(PromoLimit::OncePerCustomer)],
        ..ProgrammeRule::default()
    };
    let mut till = Till::new(rule);
    till.adjust("friend", 1).unwrap();
    till.adjust("new", 1).unwrap();
    let friend = till.wallets["friend"].id;
    till.wallets.get_mut("new").unwrap().referred_by = Some(friend);
    let visited = LoyaltySeen { progress: Progress { receipts: 1, ..Progress::default() }, ..LoyaltySeen::default() };
    let hold = till.quote(Kind::Earn, "new", "A", 1_000)["holdId"].clone();
    assert_eq!(till.commit_with(&hold, "A", Some("winter "), LoyaltySeen::default()), Err(LoyaltyError::PromoUnavailable));
    till.commit_with(&hold, "A", Some("winter "), visited.clone()).unwrap();
    assert_eq!((till.balance("new"), till.balance("friend")), (1 + 50 + 5 + 7 + 30, 12));
    let used =
        LoyaltySeen { promo: uzel_store::PromoUses { all: 1, by_customer: 1, last_by_customer_at: Some(till.now) }, ..visited };
    let hold = till.quote(Kind::Earn, "new", "B", 1_000)["holdId"].clone();
    assert_eq!(till.commit_with(&hold, "B", Some("WINTER"), used.clone()), Err(LoyaltyError::PromoUnavailable));
    till.commit_with(&hold, "B", Some("nobody knows it"), used).unwrap();
    assert_eq!((till.balance("new"), till.balance("friend")), (93 + 50, 12));
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Quote { kind: Kind, customer: usize, order: usize, total: i64 },
    Commit { hold: usize, order: Option<usize> },
    Cancel(usize),
    Refund { order: usize, total: i64 },
    Adjust { customer: usize, points: i64 },
    Wait(i64),
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(Kind::Redeem), Just(Kind::Earn)];
    prop_oneof![
        6 => (kind, 0..2_usize, 0..8_usize, 0..3_000_i64)
            .prop_map(|(kind, customer, order, total)| Step::Quote { kind, customer, order, total }),
        6 => (0..20_usize, proptest::option::weighted(0.2, 0..8_usize)).prop_map(|(hold, order)| Step::Commit { hold, order }),
        1 => (0..20_usize).prop_map(Step::Cancel),
        3 => (0..8_usize, 0..2_000_i64).prop_map(|(order, total)| Step::Refund { order, total }),
        1 => (0..2_usize, -500..1_500_i64).prop_map(|(customer, points)| Step::Adjust { customer, points }),
        2 => (0..40_i64).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
    ]
}

fn rule() -> impl Strategy<Value = ProgrammeRule> {
    let rates = (0..=10_000_u32, 0..=10_000_u32);
    let caps = (proptest::option::of(0..800_i64), proptest::option::of(0..800_i64));
    let life = (0..3_u32, proptest::option::of(1..5_u32), 0..3_u32);
    let ways = (any::<bool>(), any::<bool>(), 0..20_i64);
    (rates, caps, life, ways).prop_map(|(rates, caps, life, ways)| ProgrammeRule {
        points: Programme {
            earn_bps: rates.0,
            redeem_limit_bps: rates.1,
            earn_daily_cap: caps.0,
            redeem_daily_cap: caps.1,
            earn_delay_days: life.0,
            points_ttl_days: life.1,
            earn_with_redeem: ways.0,
            reserve: ways.1,
            ..Programme::default()
        },
        preview_days: life.2,
        first_receipt_points: ways.2,
        ..ProgrammeRule::default()
    })
}

/// What must hold whatever has happened.
fn check(till: &Till) -> Result<(), TestCaseError> {
    for wallet in till.wallets.values() {
        let own: Vec<&Entry> = till.ledger.iter().filter(|entry| entry.wallet == wallet.id).collect();
        let sum = |book| own.iter().map(|entry| entry.effect(book)).sum::<i64>();
        prop_assert_eq!(sum(Book::Spendable), wallet.balance(), "the balance is the sum of entries");
        prop_assert_eq!(sum(Book::Promised), wallet.promised());
        prop_assert_eq!(own.last().map_or(0, |entry| entry.balance), wallet.balance());
        prop_assert!(wallet.account.debt >= 0 && wallet.account.lots.iter().all(|lot| lot.left > 0));
        prop_assert!(wallet.holds.iter().all(|held| held.points > 0));
        let books = [Book::Spendable, Book::Promised, Book::Issued, Book::Redeemed, Book::Expired];
        prop_assert_eq!(books.into_iter().map(sum).sum::<i64>(), 0);
        for (kind, cap) in [(Kind::Redeem, till.rule.points.redeem_daily_cap), (Kind::Earn, till.rule.points.earn_daily_cap)] {
            let moved = purse::moved_today(wallet, kind, till.now.max(wallet.booked_at));
            prop_assert!(cap.is_none_or(|cap| moved <= cap), "{:?} {} beyond {:?}", kind, moved, cap);
        }
    }
    prop_assert!(till.ledger.iter().all(|entry| entry.points > 0));
    for receipt in till.receipts.values() {
        let sums = receipt.sums;
        prop_assert!(sums.refunded <= sums.eligible && sums.restored <= sums.redeemed && sums.revoked <= sums.earned);
        let spent: i64 = receipt.spent.iter().map(|taken| taken.points).sum();
        prop_assert_eq!(spent, sums.redeemed - sums.restored, "what can be given back is known by its lots");
        let most =
            |kind| receipt.holds.iter().map(|id| &till.holds[id]).filter(|hold| hold.kind == kind).map(|hold| hold.limit).max();
        prop_assert!(sums.redeemed <= most(Kind::Redeem).unwrap_or(0) && sums.earned <= most(Kind::Earn).unwrap_or(0));
        prop_assert!(till.rule.points.earn_with_redeem || sums.redeemed == 0 || sums.earned == 0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any sequence on any programme: no balance but the sum of entries, no receipt beyond its limits, no refund beyond the receipt,
    /// nothing beyond the caps, and a repeat gets the same figures.
    #[test]
    fn any_history_keeps_the_laws(rule in rule(), steps in proptest::collection::vec(step(), 1..60)) {
        let mut till = Till::new(rule);
        let mut holds: Vec<(Value, String)> = Vec::new();
        let name = |customer: usize| format!("C-{customer}");
        for step in steps {
            match step {
                Step::Quote { kind, customer, order, total } => {
                    let order = format!("O-{order}");
                    let answer = till.quote(kind, &name(customer), &order, total);
                    let points = answer["pointsToBurn"].as_i64().or(answer["pointsToEarn"].as_i64()).unwrap();
                    prop_assert!((0..=total).contains(&points));
                    prop_assert!(answer["finalPayable"].as_i64().is_none_or(|payable| payable >= 0));
                    if answer["holdId"].is_string() {
                        holds.push((answer["holdId"].clone(), order));
                    }
                }
                Step::Commit { hold, order } if !holds.is_empty() => {
                    let (hold, own) = holds[hold % holds.len()].clone();
                    let order = order.map_or(own, |order| format!("O-{order}"));
                    let before: i64 = till.wallets.values().map(Wallet::balance).sum();
                    if let Ok(first) = till.commit(&hold, &order) {
                        let again = till.commit(&hold, &order).unwrap();
                        prop_assert_eq!(&again["alreadyCommitted"], &json!(true));
                        for figure in ["receiptId", "redeemApplied", "earnApplied"] {
                            prop_assert_eq!(&first[figure], &again[figure]);
                        }
                    } else {
                        prop_assert_eq!(before, till.wallets.values().map(Wallet::balance).sum::<i64>());
                    }
                }
                Step::Commit { .. } => {}
                Step::Cancel(hold) if !holds.is_empty() => {
                    let id = holds[hold % holds.len()].0.as_str().unwrap().parse().unwrap();
                    if till.cancel(id).is_ok() {
                        prop_assert_eq!(till.cancel(id), Err(LoyaltyError::HoldFinished));
                    }
                }
                Step::Cancel(_) => {}
                Step::Refund { order, total } => {
                    let _known = till.refund(&format!("O-{order}"), total);
                }
                Step::Adjust { customer, points } if points != 0 => {
                    let _done = till.adjust(&name(customer), points);
                }
                Step::Adjust { .. } => {}
                Step::Wait(hours) => till.wait(hours),
                Step::Sweep => till.sweep(),
            }
            check(&till)?;
        }
    }
}
