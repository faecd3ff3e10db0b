//! What no till may make of points: two that ask and commit in any order, time that passes between, people and files beside them.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::loyalty::{Answer, Shop, quote};

async fn commit(shop: &Shop, hold: &Value, order: &str) -> Answer {
    shop.post("/loyalty/commit", &json!({ "merchantId": "m", "holdId": hold, "orderId": order })).await
}

async fn refund(shop: &Shop, order: &str, total: i64) -> Value {
    let body = json!({ "merchantId": "m", "orderId": order, "refundTotal": total });
    shop.post("/loyalty/refund", &body).await.given(201)
}

#[track_caller]
fn moved(answer: &Answer) -> (i64, i64) {
    assert_eq!(answer.status, 201, "{}", answer.text);
    (answer.body["redeemApplied"].as_i64().unwrap(), answer.body["earnApplied"].as_i64().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_earns_for_what_is_paid_in_money_in_whatever_order_it_is_asked_and_committed() {
    let shop = Shop::new(json!({ "earn_bps": 1_000 })).await;
    shop.give("C-1", 10_000).await;
    let hold = async |mode: &str, order: &str| shop.quote(mode, "C-1", order, 1_000).await.body["holdId"].clone();
    let (earns, spends) = (hold("earn", "A").await, hold("redeem", "A").await);
    assert_eq!(moved(&commit(&shop, &earns, "A").await), (0, 100));
    assert_eq!(moved(&commit(&shop, &spends, "A").await), (500, 50), "what points pay earns nothing");
    assert_eq!(shop.balance("C-1").await, 9_550);
    let (earns, spends) = (hold("earn", "B").await, hold("redeem", "B").await);
    assert_eq!(moved(&commit(&shop, &spends, "B").await), (500, 0));
    assert_eq!(moved(&commit(&shop, &earns, "B").await), (500, 50));
    // The till showed both, and the guest spends nothing.
    let (spends, earns) = (hold("redeem", "D").await, hold("earn", "D").await);
    assert_eq!(moved(&commit(&shop, &earns, "D").await), (0, 100), "all was paid in money");
    let let_go = shop.post("/loyalty/cancel", &json!({ "merchantId": "m", "holdId": spends })).await;
    assert_eq!(let_go.status, 201);
    for order in ["A", "B", "D"] {
        assert_eq!(refund(&shop, order, 1_000).await["share"], 1.0);
    }
    assert_eq!(shop.balance("C-1").await, 10_000);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_have_expired_are_not_taken_once_more_by_a_refund() {
    let shop = Shop::new(json!({ "earn_bps": 1_000, "points_ttl_days": 1, "redeem_limit_bps": 10_000 })).await;
    shop.give("C-1", 0).await;
    assert_eq!(moved(&shop.buy("earn", "C-1", "A", 1_000).await), (0, 100));
    assert_eq!(moved(&shop.buy("redeem", "C-1", "B", 40).await), (40, 0));
    shop.world.clock.advance(SignedDuration::from_hours(25));
    assert_eq!(shop.balance("C-1").await, 0, "60 have expired");
    let part = refund(&shop, "A", 500).await;
    assert_eq!(part, json!({ "ok": true, "share": 0.5, "pointsRestored": 0, "pointsRevoked": 0 }));
    let rest = refund(&shop, "A", 500).await;
    assert_eq!((&rest["pointsRevoked"], shop.balance("C-1").await), (&json!(40), -40), "what was spent is owed");
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_files_and_time_do_to_points_is_no_sale_that_a_limit_counts() {
    let limits = json!({ "customer": { "count": 2, "period_s": 3_600 }, "merchant": { "count": 20, "period_s": 3_600 } });
    let shop = Shop::new(json!({ "limits": limits })).await;
    let lines: String = (0..300).map(|number| format!("C-{number},10\n")).collect();
    let owner = format!("Bearer {}", shop.new_key("m", "owner").await);
    let head = [("authorization", owner.as_str()), ("content-type", "text/csv")];
    let brought = shop.raw(reqwest::Method::POST, "/api/v1/loyalty/import", &head, format!("customer,balance\n{lines}")).await;
    assert_eq!((brought.status, &brought.body["made"]), (200, &json!(300)), "{}", brought.text);
    for _ in 0..3 {
        let path = "/api/v1/merchants/m/customers/C-1/adjust";
        assert_eq!(shop.world.ask(path, &json!({ "points": 1, "reason": "the test" })).await.0, 200);
    }
    for order in ["A", "B"] {
        assert_eq!(shop.buy("earn", "C-1", order, 1_000).await.status, 201);
    }
    shop.buy("earn", "C-1", "C", 1_000).await.refused(429, "Антифрод: превышен лимит операций (customer=2/2)");
    assert_eq!(shop.buy("earn", "C-2", "D", 1_000).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_the_code_that_its_quote_named_goes_through_where_the_code_is_used_up() {
    let shop = Shop::new(json!({ "promo_codes": [{ "code": "WINTER", "limit": "ONCE_TOTAL", "points_amount": 200 }] })).await;
    let named = async |customer: &str, order: &str| {
        let mut body = quote("earn", customer, order, 1_000);
        body["promoCode"] = json!("winter");
        shop.post("/loyalty/quote", &body).await.body["holdId"].clone()
    };
    let (first, second) = (named("C-1", "A").await, named("C-2", "B").await);
    assert_eq!(commit(&shop, &first, "A").await.status, 201);
    let body = json!({ "merchantId": "m", "holdId": second, "orderId": "B", "promoCode": "WINTER" });
    shop.post("/loyalty/commit", &body).await.refused(400, "Промокод недоступен");
    assert_eq!(moved(&commit(&shop, &second, "B").await), (0, 50));
    assert_eq!((shop.balance("C-1").await, shop.balance("C-2").await), (250, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_brought_by_whom_they_have_brought_and_a_blank_makes_no_other_customer() {
    let shop = Shop::new(json!({ "referral": { "points": 100, "points_for_new": 50 } })).await;
    let customers = "/api/v1/merchants/m/customers";
    shop.give("C-1", 0).await;
    for (new, by) in [("C-2", "C-1"), ("C-3", "C-2")] {
        let (status, made) = shop.world.ask(customers, &json!({ "customer": new, "referred_by": by })).await;
        assert_eq!(status, 201, "{made}");
    }
    let owner = format!("Bearer {}", shop.new_key("m", "owner").await);
    let head = [("authorization", owner.as_str()), ("content-type", "application/json")];
    let patch = json!({ "referred_by": "C-3" }).to_string();
    let refused = shop.raw(reqwest::Method::PATCH, &format!("{customers}/C-1"), &head, patch).await;
    assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!("/referred_by")), "{}", refused.text);
    assert_eq!(moved(&shop.buy("earn", " C-2\n", "A", 1_000).await), (0, 50));
    assert_eq!((shop.balance("C-1").await, shop.balance("C-2").await), (100, 100));
    let listed = shop.raw(reqwest::Method::GET, customers, &head, "").await;
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 3, "{}", listed.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_tells_in_a_dry_run_of_phones_and_lines_that_it_would_not_take() {
    let shop = Shop::new(json!({})).await;
    let made = json!({ "customer": "C-1", "phone": "+79031234567" });
    assert_eq!(shop.world.ask("/api/v1/merchants/m/customers", &made).await.0, 201);
    shop.give("C-2", 0).await;
    let owner = format!("Bearer {}", shop.new_key("m", "owner").await);
    let head = [("authorization", owner.as_str()), ("content-type", "text/csv")];
    let file = "customer,phone,name,balance\nC-1,+79031234568,,5\nC-2,+79031234567,,5\nC-3,,\"Анна\nПетрова\",5\nC-4,,,5\n";
    for dry in ["true", "false"] {
        let path = format!("/api/v1/loyalty/import?dry_run={dry}");
        let told = shop.raw(reqwest::Method::POST, &path, &head, file).await;
        let faults: Vec<(u64, Option<&str>)> = told.body["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(|fault| (fault["line"].as_u64().unwrap(), fault["column"].as_str()))
            .collect();
        assert_eq!(
            (faults, &told.body["taken"]),
            (vec![(2, Some("phone")), (3, Some("phone")), (4, None), (5, Some("phone"))], &json!(false)),
            "{}",
            told.text
        );
    }
    assert_eq!(shop.balance("C-2").await, 0);
    let found = shop.raw(reqwest::Method::GET, "/api/v1/merchants/m/customers?phone=8%20903%20123-45-67", &head, "").await;
    assert_eq!(found.body["items"][0]["customer"], "C-1", "{}", found.text);
}
