//! Points that JOWi Club keeps, as tills see them: quotes, commits and refunds of the hub's own paths, whatever JOWi Club does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    jowi,
    world::{World, free_port, until},
};

const PHONE: &str = "+998901234567";

async fn world(club: Value) -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let mut club = club;
    club["connection"] = json!("jowi");
    world
        .apply(&json!({
            "merchant": [{ "slug": "m", "country": "UZ" }],
            "connection": [jowi::connection(&world.sandbox.url())],
            "programme": [{ "merchant": "m", "unit": "rouble", "club": club }],
        }))
        .await;
    world
}

impl World {
    /// Asks the desk; gives the status and the answer.
    async fn desk(&self, what: &str, body: Value) -> (u16, Value) {
        let mut body = body;
        body["merchantId"] = json!("m");
        let post = self.web.post(format!("{}/loyalty/{what}", self.hub.url())).bearer_auth(self.hub.owner_key().unwrap());
        let answer = post.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn quote(&self, mode: &str, order: &str, total: i64) -> Value {
        let body = json!({ "mode": mode, "userToken": PHONE, "orderId": order, "total": total, "eligibleTotal": total });
        let (status, answer) = self.desk("quote", body).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    async fn commit(&self, quote: &Value, order: &str) -> Value {
        let (status, answer) = self.desk("commit", json!({ "holdId": quote["holdId"], "orderId": order })).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    async fn left(&self) -> i64 {
        self.shown("jowi/accounts").await[0]["balance"]["points"].as_i64().unwrap()
    }

    async fn left_is(&self, points: i64) {
        until(&format!("{points} points"), async || self.left().await == points).await;
    }

    async fn done_there(&self, kind: &str) -> usize {
        let operations = self.shown("jowi/operations").await;
        operations.as_array().unwrap().iter().filter(|operation| operation["type"] == kind).count()
    }

    /// Until JOWi Club is asked again, and answers.
    async fn well_again(&self) {
        self.control("jowi/faults", &json!([])).await;
        let balance = format!("/loyalty/balance/m/{}", PHONE.replace('+', "%2B"));
        until("an answer", async || self.api(&balance).await["balance"].is_i64() && self.left_alone(&balance).await).await;
    }

    async fn left_alone(&self, balance: &str) -> bool {
        let before = self.calls("jowi", "/v3/loyalty/accounts").await.len();
        self.api(balance).await;
        self.calls("jowi", "/v3/loyalty/accounts").await.len() > before
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_pays_by_points_and_the_purchase_is_told_once() {
    let world = world(json!({ "patience_ms": 3_000 })).await;
    let quote = world.quote("redeem", "o1", 50_000).await;
    assert_eq!(
        (&quote["canRedeem"], &quote["discountToApply"], &quote["pointsToBurn"], &quote["finalPayable"]),
        (&json!(true), &json!(15_000), &json!(15_000), &json!(35_000)),
        "30 % of it: {quote}"
    );
    assert_eq!(world.left().await, 400, "they are taken before a receipt shows them");
    // A till that got no answer asks again.
    assert_eq!(world.quote("redeem", "o1", 50_000).await, quote);
    assert_eq!(world.done_there("redemption").await, 1);
    let earn = world.quote("earn", "o1", 50_000).await;
    assert_eq!(earn["pointsToEarn"], 1_750, "what points pay earns nothing: {earn}");
    let committed = world.commit(&quote, "o1").await;
    assert_eq!((&committed["redeemApplied"], &committed["ok"]), (&json!(15_000), &json!(true)));
    let both = world.commit(&earn, "o1").await;
    assert_eq!((&both["redeemApplied"], &both["earnApplied"]), (&json!(15_000), &json!(1_750)));
    world.left_is(2_150).await;
    assert_eq!(world.commit(&quote, "o1").await["alreadyCommitted"], true);
    // The end of the quote gives nothing back.
    world.pass(32);
    world.quiet().await;
    assert_eq!((world.left().await, world.done_there("accrual").await, world.done_there("reversal").await), (2_150, 1, 0));
    let told = world.shown("jowi/calls").await;
    let accrual = told.as_array().unwrap().iter().find(|call| call["path"] == "/v3/loyalty/accruals").unwrap();
    let accrual: Value = serde_json::from_str(accrual["body"].as_str().unwrap()).unwrap();
    assert_eq!((&accrual["amount_sum"], &accrual["paid_by_points"]), (&json!(50_000), &json!(15_000)));
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_a_sale_that_never_was_are_given_back() {
    let world = world(json!({ "patience_ms": 3_000 })).await;
    let cancelled = world.quote("redeem", "o1", 50_000).await;
    assert_eq!(world.desk("cancel", json!({ "holdId": cancelled["holdId"] })).await.0, 201);
    world.left_is(15_400).await;
    // Another sum of the same order takes the place of the first.
    world.quote("redeem", "o2", 10_000).await;
    assert_eq!(world.left().await, 12_400);
    let second = world.quote("redeem", "o2", 20_000).await;
    assert_eq!((world.left().await, &second["discountToApply"]), (9_400, &json!(6_000)));
    // Nobody commits it.
    world.pass(32);
    world.left_is(15_400).await;
    let (status, late) = world.desk("commit", json!({ "holdId": second["holdId"], "orderId": "o2" })).await;
    assert_eq!(status, 400, "{late}");
    world.quiet().await;
    assert_eq!((world.left().await, world.done_there("accrual").await), (15_400, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_that_does_not_answer_stops_no_sale_and_hears_of_it_later_once() {
    let faults = [
        json!({ "kind": "latency", "latency_ms": 2_500, "for_ms": 600_000 }),
        json!({ "kind": "status", "status": 500, "for_ms": 600_000 }),
        json!({ "kind": "status", "status": 401, "for_ms": 600_000 }),
        json!({ "kind": "status", "status": 429, "for_ms": 600_000 }),
        json!({ "kind": "garbage", "for_ms": 600_000 }),
        json!({ "kind": "cut_before", "for_ms": 600_000 }),
    ];
    for fault in faults {
        let world = world(json!({})).await;
        world.control("jowi/faults", &fault).await;
        let began = Instant::now();
        let quote = world.quote("redeem", "o1", 80_000).await;
        assert!(began.elapsed() < Duration::from_millis(950), "{fault}: {:?}", began.elapsed());
        assert_eq!(
            (&quote["canRedeem"], &quote["discountToApply"], &quote["finalPayable"]),
            (&json!(false), &json!(0), &json!(80_000))
        );
        let note = &quote["loyalty"];
        assert_eq!(
            (&note["applied"], &note["degraded"], &note["reason"], &note["message_for_cashier"]),
            (
                &json!(false),
                &json!(true),
                &json!("provider_unavailable"),
                &json!("JOWi Club недоступен: чек будет пробит без бонусов, начисление отправим позже")
            ),
            "{fault}: {quote}"
        );
        assert_eq!(quote["message"], note["message_for_cashier"]);
        world.commit(&quote, "o1").await;
        world.control("jowi/faults", &json!([])).await;
        world.in_time("the purchase to be told", async || world.left().await == 19_400).await;
        let operations = world.shown("jowi/operations").await;
        assert_eq!(operations[0]["operation_id"], note["deferred_operation_id"], "{fault}");
        world.in_time("all to be over", async || world.commands("waiting").await + world.commands("sending").await == 0).await;
        assert_eq!((world.left().await, world.done_there("accrual").await), (19_400, 1), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_that_cannot_be_reached_hears_of_the_sale_when_it_can() {
    let world = world(json!({})).await;
    let mut away = jowi::connection(&world.sandbox.url());
    away["settings"]["base_url"] = json!(format!("http://127.0.0.1:{}", free_port()));
    let secrets = away["settings"].clone();
    world.apply(&json!({ "connection": [away] })).await;
    for order in ["o1", "o2", "o3", "o4"] {
        let quote = world.quote("earn", order, 80_000).await;
        assert_eq!((&quote["canEarn"], &quote["loyalty"]["degraded"]), (&json!(false), &json!(true)), "{quote}");
        world.commit(&quote, order).await;
    }
    let mut back = jowi::connection(&world.sandbox.url());
    back["settings"]["api_key"] = secrets["api_key"].clone();
    world.apply(&json!({ "connection": [back] })).await;
    world.in_time("all four", async || world.left().await == 15_400 + 4 * 4_000).await;
    assert_eq!(world.done_there("accrual").await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_programme_refuses_the_cashier_reads_and_the_sale_goes_on() {
    let world = world(json!({ "patience_ms": 3_000 })).await;
    for (path, status, reason, holds) in [
        ("/v3/loyalty/accounts", 404, "not_found", false),
        ("/v3/loyalty/accounts", 423, "blocked", false),
        ("/v3/loyalty/redemptions", 402, "not_enough", true),
    ] {
        world.control("jowi/faults", &json!({ "kind": "status", "status": status, "path": path })).await;
        let quote = world.quote("redeem", &format!("o{status}"), 50_000).await;
        assert_eq!((&quote["canRedeem"], &quote["finalPayable"]), (&json!(false), &json!(50_000)), "{quote}");
        assert_eq!((&quote["loyalty"]["reason"], &quote["loyalty"]["degraded"]), (&json!(reason), &json!(false)), "{quote}");
        assert_eq!(quote["holdId"].is_string(), holds, "{quote}");
        assert!(quote["message"].as_str().unwrap().contains("JOWi Club"), "{quote}");
    }
    let stranger = json!({ "mode": "redeem", "userToken": "+998935550011", "orderId": "o1", "total": 1, "eligibleTotal": 1 });
    assert_eq!(world.desk("quote", stranger).await.1["loyalty"]["reason"], "not_found");
    assert_eq!(world.left().await, 15_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclear_redemption_gives_no_discount_and_its_points_come_back() {
    let world = world(json!({})).await;
    world.control("jowi/faults", &json!({ "kind": "latency", "latency_ms": 2_000, "path": "/v3/loyalty/redemptions" })).await;
    let quote = world.quote("redeem", "o1", 50_000).await;
    assert_eq!((&quote["canRedeem"], &quote["loyalty"]["degraded"]), (&json!(false), &json!(true)), "{quote}");
    assert_eq!(world.left().await, 400, "they were taken all the same");
    world.commit(&quote, "o1").await;
    world.left_is(400 + 2_500).await;
    world
        .in_steps(jiff::SignedDuration::from_mins(10), "the points to come back", async || world.left().await == 15_400 + 2_500)
        .await;
    assert_eq!((world.done_there("redemption").await, world.done_there("reversal").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_may_let_a_little_be_spent_while_the_programme_does_not_answer() {
    let world = world(json!({ "offline_limit": 1_000, "offline_hours": 2 })).await;
    world.quote("earn", "o0", 100).await;
    let down = json!({ "kind": "status", "status": 503, "for_ms": 600_000 });
    world.control("jowi/faults", &down).await;
    let quote = world.quote("redeem", "o1", 50_000).await;
    assert_eq!((&quote["canRedeem"], &quote["discountToApply"]), (&json!(true), &json!(1_000)), "{quote}");
    assert_eq!((&quote["loyalty"]["offline"], &quote["loyalty"]["applied"]), (&json!(true), &json!(true)), "{quote}");
    world.commit(&quote, "o1").await;
    assert_eq!(world.quote("redeem", "o2", 50_000).await["discountToApply"], 0, "no more than that until it is settled");
    world.control("jowi/faults", &json!([])).await;
    world.in_time("it to be settled", async || world.left().await == 15_400 - 1_000 + 2_450).await;
    // Too long ago.
    world.pass(3 * 60);
    world.control("jowi/faults", &down).await;
    assert_eq!(world.quote("redeem", "o3", 50_000).await["discountToApply"], 0);
    // What is not there when it is asked for is a loss, and is shown as one.
    world.well_again().await;
    world.quote("earn", "o4", 100).await;
    world.control("jowi/faults", &down).await;
    let quote = world.quote("redeem", "o5", 50_000).await;
    assert_eq!(quote["discountToApply"], 1_000, "{quote}");
    let mut account = world.shown("jowi/accounts").await[0].clone();
    account["balance"] = json!({ "points": 10, "available_points": 10, "point_value_sum": 1 });
    world.control("jowi/accounts", &json!([account])).await;
    world.commit(&quote, "o5").await;
    world.control("jowi/faults", &json!([])).await;
    world.in_time("the loss", async || !world.notices("loyalty").await.is_empty()).await;
    assert!(world.notices("loyalty").await[0]["text"].as_str().unwrap().contains("a loss of 1000"));
}

/// The programme is back, but what was spent without it could not be told yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_without_the_programme_counts_until_it_is_settled() {
    let world = world(json!({ "offline_limit": 1_000, "patience_ms": 3_000 })).await;
    let balance = format!("/loyalty/balance/m/{}", PHONE.replace('+', "%2B"));
    world.quote("earn", "o0", 100).await;
    let down = json!({ "kind": "status", "status": 503, "for_ms": 600_000 });
    world.control("jowi/faults", &down).await;
    let quote = world.quote("redeem", "o1", 50_000).await;
    assert_eq!(quote["discountToApply"], 1_000, "{quote}");
    world.commit(&quote, "o1").await;
    let mut unsettled = down.clone();
    unsettled["path"] = json!("/v3/loyalty/redemptions");
    world.control("jowi/faults", &unsettled).await;
    until("the programme to be asked", async || world.left_alone(&balance).await).await;
    assert_eq!(world.left().await, 15_400, "it knows nothing of them");
    assert_eq!(world.api(&balance).await["balance"], 15_400 - 1_000);
    world.quote("earn", "o2", 100).await;
    world.control("jowi/faults", &down).await;
    assert_eq!(world.quote("redeem", "o3", 50_000).await["discountToApply"], 0, "the limit is used up");
    world.control("jowi/faults", &json!([])).await;
    world.in_time("it to be settled", async || world.left().await == 15_400 - 1_000 + 2_450).await;
    world.well_again().await;
    assert_eq!(world.api(&balance).await["balance"], 15_400 - 1_000 + 2_450);
    world.quote("earn", "o4", 100).await;
    world.control("jowi/faults", &down).await;
    assert_eq!(world.quote("redeem", "o5", 50_000).await["discountToApply"], 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_takes_back_what_was_told_and_tells_the_rest_anew() {
    let world = world(json!({ "patience_ms": 3_000 })).await;
    let quote = world.quote("redeem", "o1", 50_000).await;
    world.quote("earn", "o1", 50_000).await;
    world.commit(&quote, "o1").await;
    world.left_is(2_150).await;
    let (status, half) = world.desk("refund", json!({ "orderId": "o1", "refundTotal": 25_000 })).await;
    assert_eq!((status, &half["pointsRestored"]), (201, &json!(7_500)), "{half}");
    let told = async |accruals: usize, redemptions: usize, reversals: usize| {
        until("all to be told", async || {
            let done =
                [world.done_there("accrual").await, world.done_there("redemption").await, world.done_there("reversal").await];
            done == [accruals, redemptions, reversals]
        })
        .await;
    };
    told(2, 2, 2).await;
    // 17 500 of what is left were paid in money.
    assert_eq!(world.left().await, 15_400 - 7_500 + 875);
    let (_, rest) = world.desk("refund", json!({ "orderId": "o1", "refundTotal": 50_000 })).await;
    assert_eq!(rest["pointsRestored"], 7_500, "never more than the whole: {rest}");
    told(2, 2, 4).await;
    assert_eq!(world.left().await, 15_400);
    assert_eq!(world.desk("refund", json!({ "orderId": "o1", "refundTotal": 1 })).await.1["pointsRestored"], 0);
    assert_eq!(world.commands("dead").await, 0);
}
