//! How often tills may ask: whole answers at the limit, and who is never held up by another.

use reqwest::Method;
use serde_json::{Value, json};

use crate::loyalty::{Answer, Shop, plain, quote};

/// A shop where a till may ask as often as the platform lets it.
async fn strict(programme: Value) -> Shop {
    Shop::tuned(programme, |settings| settings.loyalty_rate_factor = 1).await
}

fn refund(outlet: Option<&str>, staff: Option<&str>) -> Value {
    let mut body = json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 1 });
    for (name, value) in [("outletId", outlet), ("staffId", staff)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    body
}

fn number(answer: &Answer, name: &str) -> u32 {
    answer.header(name).parse().unwrap_or_else(|_| panic!("{name}: {:?}", answer.head))
}

/// Asks until it is refused; gives how often it was let in, and the refusal.
async fn spend(mut ask: impl AsyncFnMut() -> Answer) -> (usize, Answer) {
    for taken in 0..200 {
        let answer = ask().await;
        if answer.status == 429 {
            return (taken, answer);
        }
    }
    panic!("never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_asks_too_often_is_told_how_long_to_wait_and_no_other_is_held_up() {
    let shop = strict(json!({})).await;
    let first = shop.post("/loyalty/refund", &refund(Some("o"), Some("anna"))).await;
    first.refused(400, "Receipt not found");
    assert_eq!((number(&first, "x-ratelimit-limit"), number(&first, "x-ratelimit-remaining")), (10, 9));
    assert!((1..=6).contains(&number(&first, "x-ratelimit-reset")), "{:?}", first.head);
    assert_eq!(first.header("ratelimit-policy"), "\"key\";q=60000;w=60");

    let (taken, refused) = spend(async || shop.post("/loyalty/refund", &refund(Some("o"), Some("anna"))).await).await;
    assert!((9..=15).contains(&taken), "{taken}");
    let wait_s = number(&refused, "retry-after");
    assert!((1..=6).contains(&wait_s), "{wait_s}");
    let head = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"].map(|name| number(&refused, name));
    assert_eq!(head, [10, 0, wait_s]);
    let wanted = json!({
        "error": "InternalError", "message": format!("Слишком много запросов: подождите {wait_s} сек."), "statusCode": 429,
        "requestId": "[request]", "path": "/loyalty/refund", "timestamp": "[time]",
    });
    assert_eq!(plain(refused.body), wanted);

    // Another cashier, another outlet, another key, another path; and whoever names no till.
    for body in [refund(Some("o"), Some("boris")), refund(Some("o2"), Some("anna")), refund(None, None)] {
        assert_eq!(shop.post("/loyalty/refund", &body).await.status, 400, "{body}");
    }
    let other = shop.new_key("m", "till").await;
    let sent = refund(Some("o"), Some("anna")).to_string();
    assert_eq!(shop.raw(Method::POST, "/loyalty/refund", &[("x-api-key", &other)], sent).await.status, 400);
    assert_eq!(shop.quote("earn", "C-1", "O-1", 100).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cashier_reads_how_long_to_wait_in_their_language() {
    let shop = strict(json!({})).await;
    spend(async || shop.post("/loyalty/refund", &refund(Some("o"), None)).await).await;
    for (language, begins) in [("uz", "So‘rovlar juda ko‘p: "), ("en", "Too many requests: wait ")] {
        let head = [("accept-language", language)];
        let (_, refused) = spend(async || shop.with("/loyalty/refund", &head, &refund(Some("o"), None)).await).await;
        assert!(refused.body["message"].as_str().unwrap().starts_with(begins), "{}", refused.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_is_counted_by_its_outlet_whatever_cashiers_it_makes_up() {
    let shop = Shop::tuned(json!({}), |settings| {
        settings.loyalty_rate_factor = 1;
        settings.loyalty_calls_per_minute = 15;
    })
    .await;
    let secret = shop.secret("/merchants/m/outlets/o/bridge-secret").await;
    let other = shop.secret("/merchants/m/outlets/o2/bridge-secret").await;
    let mut cashier = 0;
    let (taken, refused) = spend(async || {
        cashier += 1;
        shop.by_bridge("/loyalty/refund", &secret, &refund(Some("o"), Some(&cashier.to_string())).to_string()).await
    })
    .await;
    assert!((15..=25).contains(&taken), "{taken}");
    assert_eq!(number(&refused, "x-ratelimit-limit"), 15);
    let answer = shop.by_bridge("/loyalty/refund", &other, &refund(Some("o2"), None).to_string()).await;
    answer.refused(400, "Receipt not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_counted_by_address_and_holds_up_nobody_who_does() {
    let shop = Shop::tuned(json!({ "open_loyalty": true }), |settings| {
        settings.loyalty_calls_per_minute = 10;
        settings.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    shop.give("C-1", 100).await;
    let mut order = 0;
    let mut ask = async |from: &str| {
        order += 1;
        let mut body = quote("redeem", "C-1", &format!("O-{order}"), 100);
        body["staffId"] = json!(order.to_string());
        shop.raw(Method::POST, "/loyalty/quote", &[("x-forwarded-for", from)], body.to_string()).await
    };
    let (taken, _) = spend(async || ask("203.0.113.9").await).await;
    assert!((10..=20).contains(&taken), "{taken}");
    assert_eq!(ask("203.0.113.10").await.status, 201, "another address");
    // A right key is never refused for the address that it comes from.
    let body = quote("redeem", "C-1", "O-key", 100).to_string();
    let head = [("x-forwarded-for", "203.0.113.9"), ("x-api-key", shop.key.as_str())];
    assert_eq!(shop.raw(Method::POST, "/loyalty/quote", &head, body).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tills_with_one_key_behind_one_address_are_not_refused_by_default() {
    let shop = Shop::new(json!({})).await;
    let tills = (0..16).map(|_| {
        let shop = &shop;
        async move {
            let mut refused = 0;
            for _ in 0..25 {
                refused += usize::from(shop.post("/loyalty/refund", &refund(None, None)).await.status == 429);
            }
            refused
        }
    });
    assert_eq!(futures::future::join_all(tills).await.into_iter().sum::<usize>(), 0);
    let shown = shop.get("/loyalty/settings/m").await;
    assert_eq!((shown.status, number(&shown, "x-ratelimit-limit")), (200, 60_000));
    let unlimited = Shop::tuned(json!({}), |settings| {
        settings.loyalty_rate_factor = 0;
        settings.loyalty_calls_per_minute = 0;
    })
    .await;
    let answer = unlimited.post("/loyalty/refund", &refund(Some("o"), None)).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit"), answer.header("ratelimit")), (400, "", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn movements_that_are_too_many_to_be_true_are_put_off_for_as_long_as_they_count() {
    let shop = Shop::new(json!({ "limits": { "customer": { "count": 2, "period_s": 120 } } })).await;
    shop.give("C-1", 0).await;
    for order in ["O-1", "O-2"] {
        shop.buy("earn", "C-1", order, 100).await.given(201);
    }
    let refused = shop.buy("earn", "C-1", "O-3", 100).await;
    refused.refused(429, "Антифрод: превышен лимит операций (customer=2/2)");
    assert_eq!(refused.body["error"], "InternalError");
    assert!((1..=121).contains(&number(&refused, "retry-after")), "{:?}", refused.head);
}
