//! Random histories of tills, held against the model: with one till every answer, with four at once every answer that moved
//! something, in the order in which the journal has them, and what all comes to.

use std::sync::Arc;

use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uzel_model::{Id, loyalty::Kind};
use uzel_store::JournalFilter;

use super::{
    super::{AdjustAsk, LoyaltyAsk, LoyaltyError, NewCustomer, RefundAsk},
    SOON, ask, body, commit_of, hub,
    model::{Model, Rules},
    quote_of,
};
use crate::Engine;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn sum(&mut self, end: u64) -> i64 {
        i64::try_from(self.below(end)).unwrap()
    }
}

/// What tills share: quotes with their orders.
#[derive(Default)]
struct Shared {
    holds: Vec<(String, String)>,
}

const CUSTOMERS: u64 = 2;

fn rules(dice: &mut Dice) -> Rules {
    let cap = |dice: &mut Dice| if dice.below(3) == 0 { dice.sum(700) } else { 1_000_000 };
    Rules {
        earn_bps: dice.sum(10_001),
        limit_bps: dice.sum(10_001),
        earn_cap: cap(dice),
        redeem_cap: cap(dice),
        delay_days: dice.sum(2),
        ttl_days: dice.sum(3),
        both: dice.below(4) > 0,
        reserve: dice.below(2) > 0,
    }
}

fn rule(rules: Rules) -> Value {
    let ttl = (rules.ttl_days > 0).then_some(rules.ttl_days);
    json!({
        "earn_bps": rules.earn_bps, "redeem_limit_bps": rules.limit_bps, "earn_daily_cap": rules.earn_cap,
        "redeem_daily_cap": rules.redeem_cap, "earn_delay_days": rules.delay_days, "points_ttl_days": ttl,
        "earn_with_redeem": rules.both, "reserve": rules.reserve,
    })
}

/// One till asks one thing.
async fn one(engine: &Arc<Engine>, merchant: Id, dice: &mut Dice, shared: &Mutex<Shared>, number: u64) {
    let customer = format!("C-{}", dice.below(CUSTOMERS));
    let order = format!("{customer}/{}", dice.below(4));
    let hold = {
        let holds = &shared.lock().holds;
        (!holds.is_empty()).then(|| holds[dice.below(holds.len() as u64) as usize].clone())
    };
    let of =
        |op: Value| LoyaltyAsk { key: Some(format!("k{number}")), ..ask(engine, merchant, json!({ "n": number, "op": op })) };
    let twice = dice.below(3) == 0;
    let (answered, again) = match (dice.below(10), hold) {
        (0..=3, _) | (_, None) => {
            let (spends, total) = (dice.below(2) == 0, dice.sum(2_000));
            let kind = if spends { Kind::Redeem } else { Kind::Earn };
            let op = json!({ "quote": spends, "customer": customer, "order": order, "total": total });
            let answered = engine.loyalty_quote(of(op), quote_of(kind, &customer, &order, total), SOON).await;
            if let Ok(answer) = &answered
                && let Some(hold) = body(answer)["holdId"].as_str()
            {
                shared.lock().holds.push((hold.to_owned(), order.clone()));
            }
            (answered, None)
        }
        (4..=7, Some((hold, order))) => {
            let op = json!({ "commit": hold, "order": order });
            let ask = || engine.loyalty_commit(of(op.clone()), commit_of(&json!(hold), &order), SOON);
            // A till that got no answer asks again, even at the same moment.
            if twice { futures::join!(ask(), async { Some(ask().await) }) } else { (ask().await, None) }
        }
        (8, Some((hold, _))) => (engine.loyalty_cancel(of(json!({ "cancel": hold })), hold.clone(), SOON).await, None),
        (_, Some((_, order))) => {
            let total = dice.sum(1_500);
            let op = json!({ "refund": order, "total": total });
            let refund = || RefundAsk { order: order.clone(), total, eligible: None };
            let ask = || engine.loyalty_refund(of(op.clone()), refund(), SOON);
            if twice { futures::join!(ask(), async { Some(ask().await) }) } else { (ask().await, None) }
        }
    };
    if let (Ok(one), Some(Ok(other))) = (&answered, &again) {
        let plain = |answer| {
            let mut plain = body(answer);
            plain.as_object_mut().unwrap().remove("alreadyCommitted");
            plain
        };
        assert_eq!(plain(one), plain(other), "a repeat gets the same answer");
    }
    assert!(!matches!(answered, Err(LoyaltyError::Again(_))), "{answered:?}");
}

/// Everything that was decided, in the order of the journal, held against the model. `whole`: also what moved nothing.
async fn compare(engine: &Arc<Engine>, merchant: Id, model: &mut Model, whole: bool) {
    let filter = JournalFilter { merchant: Some(merchant), limit: 100_000, ..JournalFilter::default() };
    let mut ids: Vec<Id> = engine.store.journal(filter).await.unwrap().into_iter().map(|row| row.id).collect();
    ids.sort_unstable();
    let mut latest = 0;
    for id in ids {
        let entry = engine.store.entry(id).await.unwrap().unwrap();
        let asked: Value = serde_json::from_slice(&entry.request.body).unwrap();
        let answer: Value = serde_json::from_str(entry.answer.lines().next().unwrap()).unwrap();
        // Decided at some moment after it was asked, and not before what stands.
        latest = entry.request.received_at.as_millisecond().max(latest);
        let (op, now) = (&asked["op"], latest);
        let text = |name: &str| op[name].as_str().unwrap_or_default();
        let number = |value: &Value| value.as_i64().unwrap_or(-1);
        if answer["error"].is_string() || model.has(text("order"), text("commit")) {
            continue;
        }
        if op["give"].is_i64() {
            model.give(text("customer"), number(&op["give"]), now);
        } else if op["quote"].is_boolean() {
            let hold = answer["holdId"].as_str();
            if hold.is_some() || whole {
                let spends = op["quote"] == true;
                let wanted = model.quote(spends, text("customer"), text("order"), number(&op["total"]), now, hold);
                let points = if spends { &answer["pointsToBurn"] } else { &answer["pointsToEarn"] };
                assert_eq!((number(points), hold.is_some()), wanted, "{op} {answer}");
            }
        } else if op["commit"].is_string() {
            let wanted = model.commit(text("commit"), text("order"), now);
            assert_eq!((number(&answer["redeemApplied"]), number(&answer["earnApplied"])), wanted, "{op} {answer}");
        } else if op["cancel"].is_string() {
            model.cancel(text("cancel"), now);
        } else if op["refund"].is_string() {
            let moved = (number(&answer["pointsRestored"]), number(&answer["pointsRevoked"]));
            if whole || answer["share"] != 0.0 || moved != (0, 0) {
                assert_eq!(moved, model.refund(text("refund"), number(&op["total"]), now), "{op} {answer}");
            }
        }
    }
    let now = engine.clock.now();
    for (customer, person) in &mut model.people {
        let told = engine.loyalty_balance(merchant, customer).await;
        let told = told.map_or(0, |balance| balance.balance);
        person.pass(now.as_millisecond());
        assert_eq!(told, person.balance(now.as_millisecond()), "{customer}");
    }
    assert_eq!(engine.audit_loyalty(None).await.unwrap().findings, []);
}

async fn history(seed: u64, tills: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        dice.below(2);
    }
    let rules = rules(&mut dice);
    let (engine, merchant) = hub(rule(rules)).await;
    for number in 0..CUSTOMERS {
        let customer = format!("C-{number}");
        engine
            .create_customer(merchant, NewCustomer { customer: Some(customer.clone()), ..Default::default() }, "k")
            .await
            .unwrap();
        let points = 1 + dice.sum(1_000);
        let of = ask(&engine, merchant, json!({ "op": { "give": points, "customer": customer } }));
        engine.loyalty_adjust(of, AdjustAsk { customer, points, reason: "a gift".to_owned(), expires_at: None }).await.unwrap();
    }
    let shared = Arc::new(Mutex::new(Shared::default()));
    for part in 0..4 {
        let work = (0..tills).map(|till| {
            let (engine, shared) = (engine.clone(), shared.clone());
            let mut dice = Dice(dice.below(u64::MAX) | 1);
            tokio::spawn(async move {
                for step in 0..40 / tills / 2 {
                    one(&engine, merchant, &mut dice, &shared, (part * 100 + till) * 100 + step).await;
                }
            })
        });
        for till in work.collect::<Vec<_>>() {
            till.await.unwrap();
        }
        // Never just at the end of a day: each answer belongs to a moment some milliseconds before its row.
        engine.clock.advance(SignedDuration::from_hours(7));
    }
    compare(&engine, merchant, &mut Model::new(rules), tills == 1).await;
}

/// `UZEL_DESK_COUNT` says how many.
fn count(usual: u64) -> u64 {
    let given = std::env::vars().find(|(known, _)| known == "UZEL_DESK_COUNT");
    given.map_or(usual, |(_, count)| count.parse().expect("a whole number"))
}

#[tokio::test]
async fn one_till_gets_from_the_desk_what_the_model_says() {
    for seed in 0..count(300) {
        history(seed, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn four_tills_at_once_get_what_the_model_says_in_some_order() {
    for seed in 0..count(300) {
        history(1_000_000 + seed, 4).await;
    }
}
