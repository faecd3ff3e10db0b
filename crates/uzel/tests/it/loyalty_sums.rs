//! What an owner's digest says of bonuses: sums by the ledger, each merchant's in its own unit and words.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{loyalty::Shop, world::until};

/// The digest of today at a merchant's own zone.
async fn digest(shop: &Shop, merchant: &str, zone: &str, query: &str) -> Value {
    let today = shop.world.clock.now().in_tz(zone).unwrap().date();
    shop.world.api(&format!("/api/v1/merchants/{merchant}/digest?day={today}{query}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_digest_tells_what_became_of_points_and_mixes_no_two_merchants() {
    let shop = Shop::new(json!({ "earn_bps": 1_000 })).await;
    let adjust = async |merchant: &str, customer: &str, body: Value| {
        let (status, done) = shop.world.ask(&format!("/api/v1/merchants/{merchant}/customers/{customer}/adjust"), &body).await;
        assert_eq!(status, 200, "{done}");
    };
    shop.give("C-1", 1_300).await;
    shop.give("C-2", 0).await;
    shop.buy("redeem", "C-1", "O-1", 400).await.given(201);
    shop.buy("earn", "C-1", "O-2", 1_000).await.given(201);
    for order in ["O-1", "O-2"] {
        let back = json!({ "merchantId": "m", "orderId": order, "refundTotal": 100 });
        shop.post("/loyalty/refund", &back).await.given(201);
    }
    adjust("m", "C-1", json!({ "points": -7, "reason": "a mistake" })).await;
    let soon = shop.world.clock.now() + SignedDuration::from_secs(30);
    adjust("m", "C-2", json!({ "points": 30, "reason": "for a minute", "expires_at": soon })).await;
    // The other merchant counts kopecks, and says so‘m.
    let (status, made) = shop.world.ask("/api/v1/merchants/n/customers", &json!({ "customer": "C-1" })).await;
    assert_eq!(status, 201, "{made}");
    adjust("n", "C-1", json!({ "points": 123_450, "reason": "a gift" })).await;
    shop.world.pass(1);
    let figures = async || digest(&shop, "m", "Europe/Moscow", "").await["figures"]["points"].clone();
    until("points to expire", async || figures().await["expired"] == 30).await;

    let wanted = json!({
        "unit": "rouble", "currency": "₽", "earned": 100, "given": 1_330, "spent": 200, "returned": 50, "revoked": 17, "expired": 30,
        "joined": 2,
    });
    assert_eq!(figures().await, wanted);
    let week = digest(&shop, "m", "Europe/Moscow", "&span=week&language=en").await;
    assert_eq!(week["figures"]["points"], wanted);
    for said in ["Bonuses earned: 100\u{a0}₽", "Bonuses given: 1\u{a0}330\u{a0}₽", "Bonuses expired: 30\u{a0}₽", "New members: 2"]
    {
        assert!(week["text"].as_str().unwrap().contains(said), "{said}: {}", week["text"]);
    }
    let ru = digest(&shop, "m", "Europe/Moscow", "&language=ru").await["text"].as_str().unwrap().to_owned();
    for said in
        ["Бонусы потрачены: 200\u{a0}₽", "Бонусы возвращены: 50\u{a0}₽", "Бонусы отозваны: 17\u{a0}₽", "Новые участники: 2"]
    {
        assert!(ru.contains(said), "{said}: {ru}");
    }
    assert!(!ru.contains("committed"), "sums, not counts of events: {ru}");
    let other = digest(&shop, "n", "Asia/Tashkent", "&language=uz").await;
    let points = &other["figures"]["points"];
    assert_eq!((&points["given"], &points["joined"], &points["spent"]), (&json!(123_450), &json!(1), &json!(0)), "{other}");
    assert!(other["text"].as_str().unwrap().contains("Bonuslar sovg‘a qilindi: 1\u{a0}234,50\u{a0}so‘m"), "{}", other["text"]);
    // Of another day there is nothing.
    let before = shop.world.api("/api/v1/merchants/m/digest?day=2020-01-01&language=en").await;
    assert_eq!(before["figures"]["points"]["joined"], 0);
    assert!(!before["text"].as_str().unwrap().contains("Bonuses"), "{}", before["text"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_of_one_outlet_is_told_the_sums_of_that_outlet() {
    let shop = Shop::new(json!({ "earn_bps": 1_000 })).await;
    shop.give("C-1", 0).await;
    shop.buy("earn", "C-1", "O-1", 1_000).await.given(201);
    let engine = &shop.world.hub.engine;
    let (merchant, zone) = (engine.world().merchant("m").unwrap(), jiff::tz::TimeZone::UTC);
    let today = uzel_engine::Period::with(uzel_engine::Span::Week, shop.world.clock.now().to_zoned(zone.clone()).date());
    let earned = async |outlets: &[&str]| {
        let outlets: Vec<String> = outlets.iter().map(|outlet| (*outlet).to_owned()).collect();
        engine.digest(merchant, today, &zone, &outlets).await.unwrap().points.unwrap().earned
    };
    assert_eq!((earned(&[]).await, earned(&["o"]).await, earned(&["o2"]).await), (100, 100, 0));
}
