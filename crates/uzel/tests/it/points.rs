//! Points from outside: receipts that earn by themselves, what endpoints and guests are told of it, and what a programme may not say.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_engine::setup::Leniency;

use crate::{
    endpoints::{SECRET, came, order, tell},
    receiver::Receiver,
    world::{World, setup, until},
};

const PHONE: &str = "+79991234567";

/// Merchant `m`, whose till's receipts earn a tenth, and whose software hears of points.
async fn earning(rules: Value) -> (World, Receiver) {
    let world = World::bare(Parts::default(), |_| {}).await;
    let receiver = Receiver::start().await;
    let mut file = setup(&world.sandbox.url(), &json!({ "on": ["loyalty.committed"], "text": "+{{ event.data.earnApplied }}" }));
    let mut programme = json!({ "merchant": "m", "unit": "rouble", "earn_bps": 1_000, "earn_from": ["rkeeper"] });
    programme.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    file["programme"] = json!([programme]);
    file["endpoint"] = json!([{
        "merchant": "m", "slug": "shop", "url": receiver.url("/hooks"), "secret": SECRET, "events": ["loyalty.*"],
        "template": "{{ event.data | tojson }}",
    }]);
    world.apply(&file).await;
    (world, receiver)
}

async fn balance(world: &World) -> i64 {
    let merchant = world.hub.engine.world().merchant("m").unwrap();
    world.hub.engine.loyalty_balance(merchant, PHONE).await.map_or(0, |balance| balance.balance)
}

fn body(got: &crate::receiver::Got) -> Value {
    serde_json::from_slice(&got.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_comes_in_earns_once_and_gives_its_points_back_when_it_is_cancelled() {
    let (world, receiver) = earning(json!({})).await;
    tell(&world, &order(5001, "Completed", "1500.90")).await;
    tell(&world, &order(5001, "Completed", "1500.90")).await;
    let got = came(&receiver, 1).await.remove(0);
    let told = body(&got);
    assert_eq!(
        (&told["earnApplied"], &told["redeemApplied"], &told["orderId"]),
        (&json!(150), &json!(0), &json!("rkeeper:5001"))
    );
    assert_eq!((&told["schemaVersion"], told["receiptId"].as_str().unwrap().starts_with("rct_")), (&json!(1), true));
    for header in ["x-loyalty-signature", "x-signature-timestamp", "x-signature-key-id", "x-merchant-id", "x-event-id"] {
        assert!(!got.header(header).is_empty(), "{header}");
    }
    world.quiet().await;
    assert_eq!((balance(&world).await, receiver.count()), (150, 1));
    until("the guest to be told", async || world.texts().await.iter().any(|(_, text)| text == "+150")).await;
    tell(&world, &order(5001, "Cancelled", "1500.90")).await;
    let got = came(&receiver, 3).await.split_off(1);
    let told = |name: &str| got.iter().map(body).find(|told| !told[name].is_null()).unwrap_or_default();
    assert_eq!((&told("share")["share"], &told("share")["pointsRevoked"]), (&json!(1.0), &json!(150)));
    assert_eq!((&told("lotId")["revoked"], &told("lotId")["orderId"]), (&json!(150), &json!("rkeeper:5001")));
    world.quiet().await;
    assert_eq!(balance(&world).await, 0);
    // Nothing was earned by this one: nothing is taken back.
    tell(&world, &order(5002, "Cancelled", "700")).await;
    world.quiet().await;
    assert_eq!((balance(&world).await, receiver.count(), world.commands("dead").await), (0, 3, 0));
    assert_eq!(world.hub.engine.audit_loyalty(None).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_till_sells_by_itself_earns_once_whichever_comes_first() {
    let (world, _receiver) = earning(json!({})).await;
    let ask = async |what: &str, mut body: Value| {
        body["merchantId"] = json!("m");
        let (status, answer) = world.ask(&format!("/loyalty/{what}"), &body).await;
        assert_eq!(status, 201, "{answer}");
        answer
    };
    let quote = async |mode: &str, order: &str| {
        ask("quote", json!({ "mode": mode, "userToken": PHONE, "orderId": order, "total": 1_500, "eligibleTotal": 1_500 })).await
    };
    let commit = async |quote: &Value, order: &str| ask("commit", json!({ "holdId": quote["holdId"], "orderId": order })).await;
    let is_balance = async |points: i64| {
        world.quiet().await;
        assert_eq!((balance(&world).await, world.commands("dead").await), (points, 0));
    };
    // The till is faster.
    let quoted = quote("earn", "5001").await;
    commit(&quoted, "5001").await;
    tell(&world, &order(5001, "Completed", "1500")).await;
    is_balance(150).await;
    // The receipt is faster: it is the sale that the till has asked for.
    let quoted = quote("earn", "5002").await;
    tell(&world, &order(5002, "Completed", "1500")).await;
    is_balance(300).await;
    let again = commit(&quoted, "5002").await;
    assert_eq!((&again["earnApplied"], &again["alreadyCommitted"]), (&json!(150), &json!(true)));
    is_balance(300).await;
    // Called off as a whole, whoever sold it.
    tell(&world, &order(5001, "Cancelled", "1500")).await;
    is_balance(150).await;
    // A till that only spends: what is paid in money earns.
    let spent = quote("redeem", "5003").await;
    assert_eq!(commit(&spent, "5003").await["redeemApplied"], 150);
    tell(&world, &order(5003, "Completed", "1000")).await;
    is_balance(100).await;
    // The same number days later is another order.
    let quoted = quote("earn", "5004").await;
    commit(&quoted, "5004").await;
    world.pass(49 * 60);
    tell(&world, &order(5004, "Completed", "1000")).await;
    is_balance(100 + 150 + 100).await;
    assert_eq!(world.hub.engine.audit_loyalty(None).await.unwrap().findings, []);
}

/// Points of a customer of merchant `m`.
async fn balance_of(world: &World, customer: &str) -> i64 {
    let merchant = world.hub.engine.world().merchant("m").unwrap();
    world.hub.engine.loyalty_balance(merchant, customer).await.map_or(0, |balance| balance.balance)
}

async fn asked(world: &World, what: &str, mut body: Value) -> Value {
    body["merchantId"] = json!("m");
    let (status, answer) = world.ask(&format!("/loyalty/{what}"), &body).await;
    assert_eq!(status, 201, "{answer}");
    answer
}

async fn quoted(world: &World, mode: &str, customer: &str, order: &str) -> Value {
    let body = json!({ "mode": mode, "userToken": customer, "orderId": order, "total": 1_500, "eligibleTotal": 1_500 });
    asked(world, "quote", body).await
}

async fn committed(world: &World, quote: &Value, order: &str) -> Value {
    asked(world, "commit", json!({ "holdId": quote["holdId"], "orderId": order })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_whose_receipt_names_another_guest_than_its_quote_earns_for_whoever_was_first() {
    let (world, _receiver) = earning(json!({})).await;
    let points = async || {
        world.quiet().await;
        assert_eq!(world.commands("dead").await, 0);
        (balance_of(&world, "C-1").await, balance(&world).await)
    };
    // The receipt is faster: the till's commit is taken, and earns nothing more, as often as it comes.
    let quote = quoted(&world, "earn", "C-1", "5001").await;
    tell(&world, &order(5001, "Completed", "1500")).await;
    assert_eq!(points().await, (0, 150));
    for _ in 0..2 {
        let answer = committed(&world, &quote, "5001").await;
        assert_eq!((&answer["earnApplied"], &answer["alreadyCommitted"]), (&json!(0), &json!(true)));
    }
    assert_eq!(points().await, (0, 150));
    // The commit is faster.
    let quote = quoted(&world, "earn", "C-1", "5002").await;
    assert_eq!(committed(&world, &quote, "5002").await["earnApplied"], 150);
    tell(&world, &order(5002, "Completed", "1500")).await;
    assert_eq!(points().await, (150, 150));
    // A quote that comes after the receipt, as a bridge asks when its line is back, says that there is nothing left to earn.
    tell(&world, &order(5003, "Completed", "1500")).await;
    assert_eq!(points().await, (150, 300));
    let quote = quoted(&world, "earn", PHONE, "5003").await;
    assert_eq!((&quote["canEarn"], &quote["pointsToEarn"], quote.get("holdId")), (&json!(false), &json!(0), None));
    assert_eq!(quote["message"], "По чеку этого заказа баллы уже начислены.");
    // What was given off at the till is paid by points all the same, and a whole cancellation takes both back.
    let quote = quoted(&world, "redeem", "C-1", "5003").await;
    let spent = committed(&world, &quote, "5003").await;
    assert_eq!((&spent["redeemApplied"], spent.get("alreadyCommitted")), (&json!(150), None));
    assert_eq!(points().await, (0, 300));
    tell(&world, &order(5003, "Cancelled", "1500")).await;
    assert_eq!(points().await, (150, 150));
    // The till spends, the receipt earns, and then the till's earn quote comes: once.
    let (spend, earn) = (quoted(&world, "redeem", "C-1", "5004").await, quoted(&world, "earn", "C-1", "5004").await);
    committed(&world, &spend, "5004").await;
    tell(&world, &order(5004, "Completed", "1500")).await;
    assert_eq!(points().await, (0, 300));
    assert_eq!(committed(&world, &earn, "5004").await["earnApplied"], 0);
    assert_eq!(points().await, (0, 300));
    tell(&world, &order(5004, "Cancelled", "1500")).await;
    assert_eq!(points().await, (150, 150));
    // Nothing was sold under this name by the till itself: it has nothing to give back.
    tell(&world, &order(5005, "Completed", "1500")).await;
    assert_eq!(points().await, (150, 300));
    let refund = json!({ "merchantId": "m", "orderId": "5005", "refundTotal": 1_500 });
    let (status, answer) = world.ask("/loyalty/refund", &refund).await;
    assert_eq!((status, &answer["message"]), (400, &json!("Receipt not found")));
    // The same number days later is another order.
    world.pass(49 * 60);
    let quote = quoted(&world, "earn", "C-1", "5005").await;
    assert_eq!(committed(&world, &quote, "5005").await["earnApplied"], 150);
    assert_eq!(points().await, (300, 300));
    assert_eq!(world.hub.engine.audit_loyalty(None).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_earns_once_however_its_receipt_and_its_commit_race() {
    let (world, _receiver) = earning(json!({})).await;
    for number in 6_001..6_021 {
        let name = number.to_string();
        let quote = quoted(&world, "earn", "C-1", &name).await;
        let told = order(number, "Completed", "1500");
        let (_, answer) = tokio::join!(tell(&world, &told), committed(&world, &quote, &name));
        assert!([json!(0), json!(150)].contains(&answer["earnApplied"]), "{answer}");
    }
    world.quiet().await;
    let (till, receipt) = (balance_of(&world, "C-1").await, balance(&world).await);
    assert_eq!((till + receipt, world.commands("dead").await), (20 * 150, 0), "{till} by commits, {receipt} by receipts");
    assert_eq!(world.hub.engine.audit_loyalty(None).await.unwrap().findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn promised_points_come_and_go_by_the_clock_and_each_time_is_told() {
    let (world, receiver) = earning(json!({ "earn_delay_days": 1, "points_ttl_days": 10, "preview_days": 3 })).await;
    tell(&world, &order(5001, "Completed", "1000")).await;
    came(&receiver, 2).await;
    assert_eq!(balance(&world).await, 0);
    let day = SignedDuration::from_hours(24);
    world.in_steps(day, "the points' time", async || receiver.count() >= 5).await;
    let told = receiver.got();
    let [committed, scheduled, activated, preview, expired] = told.iter().map(body).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(committed["earnApplied"], 100);
    assert_eq!((&scheduled["points"], scheduled["maturesAt"].is_string()), (&json!(100), true));
    assert_eq!((&activated["points"], activated["earnLotId"].is_string()), (&json!(100), true));
    assert_eq!(preview["expiringPoints"], 100);
    assert_eq!((&expired["amount"], &expired["mode"]), (&json!(100), &json!("lots")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_is_checked_field_by_field_and_stands_once_for_each_merchant() {
    let (world, _receiver) = earning(json!({})).await;
    let again = |programme: Value| json!({ "programme": [programme] });
    let promo = |code: &str| json!({ "code": code, "points_amount": -1, "assign_level": "Gold" });
    let wrong = json!({ "programme": [
        { "merchant": "m", "earn_bps": 20_000, "earn_from": ["nobody"], "promo_codes": [promo("A"), promo("a ")],
          "qr_keys": [{ "kid": "k", "secret": "short" }], "limits": { "customer": { "count": 0, "period_s": 1 } }, "earnings": 1 },
        { "merchant": "m" },
    ]});
    let faults = world.hub.engine.plan(&wrong, Leniency::default()).await.unwrap().unwrap_err();
    let mut places: Vec<&str> = faults.iter().map(|fault| fault.pointer.as_str()).collect();
    places.sort_unstable();
    let wanted = [
        "/programme/0/earn_bps",
        "/programme/0/earn_from/0",
        "/programme/0/earnings",
        "/programme/0/limits/customer",
        "/programme/0/promo_codes/0/assign_level",
        "/programme/0/promo_codes/0/points_amount",
        "/programme/0/promo_codes/1/assign_level",
        "/programme/0/promo_codes/1/code",
        "/programme/0/promo_codes/1/points_amount",
        "/programme/0/qr_keys/0/secret",
        "/programme/1/merchant",
    ];
    assert_eq!(places, wanted, "{faults:?}");
    let engine = &world.hub.engine;
    let merchant = engine.world().merchant("m").unwrap();
    let key = engine.world().programme_of(merchant).unwrap().qr_keys[0].kid.clone();
    // Applied again, the hub's own key stays; rotated, the old one is still good.
    let same = again(json!({ "merchant": "m", "unit": "rouble", "earn_bps": 1_000, "earn_from": ["rkeeper"] }));
    let plan = engine.plan(&same, Leniency::default()).await.unwrap().unwrap();
    assert_eq!(plan.differences[0].what, "same");
    engine.rotate_qr_key(merchant, "key_1").await.unwrap();
    let kids: Vec<String> = engine.world().programme_of(merchant).unwrap().qr_keys.iter().map(|key| key.kid.clone()).collect();
    assert_eq!((kids.len(), &kids[1]), (2, &key));
    let programme = engine.world().programme_of(merchant).unwrap().id;
    let secret = engine.issue_bridge_secret(programme, uzel_engine::bridge::Which::Current, "key_1").await.unwrap();
    let world_now = engine.world();
    let known = world_now.bridge_secrets(merchant, None);
    assert_eq!((known.len(), known[0].expose()), (1, secret.expose()));
    assert_eq!(world_now.programme_of(merchant).unwrap().qr_keys.len(), 2, "the keys of codes stay");
    engine.change(programme, &json!({ "open_loyalty": true }), None, "key_1").await.unwrap();
    assert!(engine.world().programme_of(merchant).unwrap().rule.open_loyalty);
    let examined = engine.examine(false).await;
    assert!(examined.iter().any(|finding| finding.about == "loyalty"), "{examined:?}");
}
