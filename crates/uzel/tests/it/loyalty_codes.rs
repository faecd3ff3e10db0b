//! Customers' codes and bridges' signatures, from outside: once only, rotated without a gap, never in the journal.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::loyalty::{Answer, Shop, quote, signed};

impl Shop {
    async fn code(&self, customer: &str) -> String {
        let answer = self.post("/loyalty/qr", &json!({ "customerId": customer, "merchantId": "m" })).await;
        assert_eq!((answer.status, &answer.body["ttl"]), (201, &json!(60)), "{}", answer.text);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn secret(&self, path: &str) -> String {
        let (status, made) = self.world.ask(path, &json!({})).await;
        let wanted = if path.starts_with("/api/") { 200 } else { 201 };
        assert_eq!(status, wanted, "{made}");
        made["secret"].as_str().unwrap().to_owned()
    }

    /// Signed by a bridge, and by nobody else.
    pub(crate) async fn by_bridge(&self, path: &str, secret: &str, body: &str) -> Answer {
        let signature = signed(secret, self.world.clock.now().as_second(), body);
        self.raw(Method::POST, path, &[("x-bridge-signature", &signature)], body.to_owned()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_one_purchase_and_stands_nowhere() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-42", 100).await;
    let token = shop.code("C-42").await;
    let quoted = shop.quote("redeem", &token, "O-1", 100).await;
    assert_eq!(quoted.given(201)["pointsToBurn"], 50);
    // While its hold stands the same code gets the same figures, even for another sum.
    let again = shop.quote("earn", &token, "O-1", 70).await;
    assert_eq!(again.text, quoted.text);
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "O-1" });
    shop.post("/loyalty/commit", &commit).await.given(201);
    shop.quote("redeem", &token, "O-2", 100).await.refused(400, "QR токен уже использован. Попросите клиента обновить QR.");
    shop.world.pass(3);
    shop.quote("redeem", &token, "O-2", 100).await.refused(400, "JWTExpired: \"exp\" claim timestamp check failed");

    let journal = shop.world.texts_of("SELECT CAST(request AS TEXT) FROM exchange").await.join(" ");
    let listed = shop.world.api("/api/v1/journal?limit=200&unmasked=true").await.to_string();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!listed.contains(signature) && !journal.contains(signature), "the token is journalled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_another_merchant_or_key_is_refused_and_rotation_leaves_no_gap() {
    let shop = Shop::new(json!({ "require_jwt_for_quote": true })).await;
    shop.give("C-42", 100).await;
    shop.quote("redeem", "C-42", "O-1", 100).await.refused(400, "JWT required for quote");
    let other = format!("Bearer {}", shop.new_key("n", "till").await);
    let head = [("authorization", other.as_str())];
    let made = shop.raw(Method::POST, "/loyalty/qr", &head, json!({ "customerId": "C-42" }).to_string()).await;
    let foreign = made.body["token"].as_str().unwrap().to_owned();
    shop.quote("redeem", &foreign, "O-1", 100).await.refused(400, "Bad QR token");

    let token = shop.code("C-42").await;
    let parts: Vec<&str> = token.split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let mut forged = claims.clone();
    forged["sub"] = json!("C-1");
    let body = URL_SAFE_NO_PAD.encode(forged.to_string());
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for bad in [format!("{}.{body}.{}", parts[0], parts[2]), format!("{none}.{}.{}", parts[1], parts[2]), format!("{token}A")] {
        shop.quote("redeem", &bad, "O-1", 100).await.refused(400, "Bad QR token");
    }

    let (status, rotated) = shop.world.ask("/api/v1/merchants/m/programme/qr-keys", &json!({})).await;
    assert_eq!(status, 200, "{rotated}");
    let newer = shop.code("C-42").await;
    for token in [&token, &newer] {
        let quoted = shop.quote("redeem", token, "O-1", 100).await.given(201);
        assert_eq!(quoted["canRedeem"], true, "{quoted}");
    }
    let oldest = shop.code("C-42").await;
    for _ in 0..2 {
        assert_eq!(shop.world.ask("/api/v1/merchants/m/programme/qr-keys", &json!({})).await.0, 200);
    }
    shop.quote("redeem", &oldest, "O-2", 100).await.refused(400, "Bad QR token");

    for (ttl, message) in
        [(json!(9), "ttlSec must not be less than 10"), (json!(1_000_000), "ttlSec must not be greater than 86400")]
    {
        shop.post("/loyalty/qr", &json!({ "customerId": "C-42", "ttlSec": ttl })).await.refused(400, message);
    }
    shop.post("/loyalty/qr", &json!({ "merchantId": "m" })).await.refused(400, "customerId must be a string");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_signs_with_the_outlets_current_or_next_secret_raw_or_canonical() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 1_000).await;
    let current = shop.secret("/merchants/m/outlets/o/bridge-secret").await;
    let next = shop.secret("/merchants/m/outlets/o/bridge-secret/next").await;
    let of_merchant = shop.secret("/api/v1/merchants/m/programme/bridge-secret").await;
    for (place, secret) in [&current, &next].into_iter().enumerate() {
        let body = quote("redeem", "C-1", &format!("O-{place}"), 100).to_string();
        let answer = shop.by_bridge("/loyalty/quote", secret, &body).await;
        assert_eq!(answer.given(201)["canRedeem"], true, "{}", answer.text);
    }
    // The platform's own way: what was sent with blanks is signed without them, in its order.
    let sent = r#"{ "orderId": "O-7", "mode": "redeem", "total": 100.0, "eligibleTotal": 100, "merchantId": "m", "userToken": "C-1", "outletId": "o", "x": 1 }"#;
    let canonical =
        r#"{"mode":"redeem","merchantId":"m","userToken":"C-1","orderId":"O-7","total":100,"eligibleTotal":100,"outletId":"o"}"#;
    let signature = signed(&current, shop.world.clock.now().as_second(), canonical);
    let answer = shop.raw(Method::POST, "/loyalty/quote", &[("x-bridge-signature", &signature)], sent).await;
    let hold = answer.given(201)["holdId"].clone();
    assert_eq!(hold, "[hld]");

    // The outlet has secrets of its own, so the merchant's is not good there; `o2` has none.
    let body = quote("redeem", "C-1", "O-3", 100).to_string();
    shop.by_bridge("/loyalty/quote", &of_merchant, &body).await.refused(401, "Invalid bridge signature");
    let body = body.replace("\"outletId\":\"o\"", "\"outletId\":\"o2\"");
    shop.by_bridge("/loyalty/quote", &current, &body).await.refused(401, "Invalid bridge signature");
    assert_eq!(shop.by_bridge("/loyalty/quote", &of_merchant, &body).await.status, 201);

    // A commit and a refund need not name the outlet.
    let commit = json!({ "merchantId": "m", "holdId": answer.body["holdId"], "orderId": "O-7" }).to_string();
    let done = shop.by_bridge("/loyalty/commit", &next, &commit).await;
    assert_eq!(done.given(201)["redeemApplied"], 50);
    let refund = json!({ "merchantId": "m", "orderId": "O-7", "refundTotal": 100 }).to_string();
    assert_eq!(shop.by_bridge("/loyalty/refund", &current, &refund).await.given(201)["pointsRestored"], 50);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_even_where_none_is_needed_and_a_missing_one_where_it_is() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 1_000).await;
    let secret = shop.secret("/merchants/m/outlets/o/bridge-secret").await;
    let now = shop.world.clock.now().as_second();
    let bodies = [
        ("/loyalty/quote", quote("redeem", "C-1", "O-1", 100)),
        ("/loyalty/commit", json!({ "merchantId": "m", "holdId": "h", "orderId": "O-1", "outletId": "o" })),
        ("/loyalty/refund", json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 1, "outletId": "o" })),
        ("/loyalty/qr", json!({ "merchantId": "m", "customerId": "C-1", "outletId": "o" })),
    ];
    for (path, body) in &bodies {
        let text = body.to_string();
        for wrong in [
            signed("another-secret-of-24-characters", now, &text),
            signed(&secret, now - 301, &text),
            signed(&secret, now + 301, &text),
            signed(&secret, now, &format!("{text} ")),
            "v1,ts=,sig=".to_owned(),
            "nonsense".to_owned(),
        ] {
            let answer = shop.with(path, &[("x-bridge-signature", &wrong)], body).await;
            if answer.status == 429 {
                continue;
            }
            answer.refused(401, "Invalid bridge signature");
        }
    }
    shop.world.apply(&json!({ "programme": [{ "merchant": "m", "unit": "rouble", "require_bridge_sig": true }] })).await;
    for (path, body) in &bodies {
        shop.post(path, body).await.refused(401, "Invalid bridge signature");
    }
    assert_eq!(shop.by_bridge("/loyalty/quote", &secret, &bodies[0].1.to_string()).await.status, 201);
    assert_eq!(shop.balance("C-1").await, 1_000, "what only looks needs no signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_spent_by_its_first_use() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 1_000).await;
    let secret = shop.secret("/merchants/m/outlets/o/bridge-secret").await;
    let now = shop.world.clock.now().as_second();
    let body = json!({ "merchantId": "m", "customerId": "C-1", "outletId": "o" }).to_string();
    let signature = signed(&secret, now, &body);
    let head = [("x-bridge-signature", signature.as_str())];
    let first = shop.raw(Method::POST, "/loyalty/qr", &head, body.clone()).await;
    let again = shop.raw(Method::POST, "/loyalty/qr", &head, body).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));

    let body = quote("redeem", "C-1", "O-1", 100).to_string();
    let signature = signed(&secret, now, &body);
    let head = [("x-bridge-signature", signature.as_str())];
    let quoted = shop.raw(Method::POST, "/loyalty/quote", &head, body.clone()).await;
    assert_eq!(shop.raw(Method::POST, "/loyalty/quote", &head, body).await.text, quoted.text);
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "O-1" }).to_string();
    shop.by_bridge("/loyalty/commit", &secret, &commit).await.given(201);

    let refund = json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 40 }).to_string();
    let signature = signed(&secret, now, &refund);
    let key = |key| [("x-bridge-signature", signature.as_str()), ("idempotency-key", key)];
    let one = shop.raw(Method::POST, "/loyalty/refund", &key("one"), refund.clone()).await;
    let two = shop.raw(Method::POST, "/loyalty/refund", &key("two"), refund).await;
    assert_eq!((one.status, &one.text), (two.status, &two.text), "whatever key comes with it");
    assert_eq!(shop.balance("C-1").await, 970);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_verifies_answers_by_the_secret_that_it_signs_by_where_no_endpoint_has_one() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 1_000).await;
    let of_merchant = shop.secret("/api/v1/merchants/m/programme/bridge-secret").await;
    let current = shop.secret("/merchants/m/outlets/o/bridge-secret").await;
    let next = shop.secret("/merchants/m/outlets/o/bridge-secret/next").await;
    let is_by = |answer: &Answer, secret: &str, of: &str| {
        assert_eq!(answer.status, 201, "{}", answer.text);
        let at_s: i64 = answer.header("x-signature-timestamp").parse().unwrap();
        assert_eq!(answer.header("x-loyalty-signature"), signed(secret, at_s, &answer.text));
        assert!(answer.header("x-signature-key-id").starts_with(of), "{:?}", answer.head);
        assert!(answer.header("x-merchant-id").starts_with("mer_"), "{:?}", answer.head);
    };
    // A till that was moved to the next secret knows that one only.
    for (order, secret) in [("O-1", &current), ("O-2", &next)] {
        let hold = shop.quote("redeem", "C-1", order, 50).await.body["holdId"].clone();
        let commit = json!({ "merchantId": "m", "holdId": hold, "orderId": order }).to_string();
        is_by(&shop.by_bridge("/loyalty/commit", secret, &commit).await, secret, "out_");
        let refund = json!({ "merchantId": "m", "orderId": order, "refundTotal": 50 }).to_string();
        is_by(&shop.by_bridge("/loyalty/refund", secret, &refund).await, secret, "out_");
    }
    // A till with a key names its outlet, or has the merchant's own secret.
    let hold = shop.quote("redeem", "C-1", "O-3", 50).await.body["holdId"].clone();
    let commit = json!({ "merchantId": "m", "holdId": hold, "orderId": "O-3", "outletId": "o" });
    is_by(&shop.post("/loyalty/commit", &commit).await, &current, "out_");
    let refund = json!({ "merchantId": "m", "orderId": "O-3", "refundTotal": 50 });
    is_by(&shop.post("/loyalty/refund", &refund).await, &of_merchant, "mer_");
    // An answer's signature opens nothing: the same construction, another body.
    let answer = shop.post("/loyalty/refund", &json!({ "merchantId": "m", "orderId": "O-3", "refundTotal": 0 })).await;
    let head = [("x-bridge-signature", answer.header("x-loyalty-signature"))];
    shop.raw(Method::POST, "/loyalty/refund", &head, answer.text.clone()).await.refused(401, "Invalid bridge signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_for_another_merchant_is_refused_in_the_cashiers_language() {
    let key = json!([{ "kid": "k1", "secret": "qr-test-secret-of-24-signs-or-more" }]);
    let shop = Shop::new(json!({ "qr_keys": key })).await;
    shop.world.apply(&json!({ "programme": [{ "merchant": "n", "qr_keys": key }] })).await;
    let other = format!("Bearer {}", shop.new_key("n", "till").await);
    let made = shop.raw(Method::POST, "/loyalty/qr", &[("authorization", &other)], r#"{"customerId":"C-42"}"#).await;
    let foreign = made.body["token"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
    for (language, words) in [
        ("ru", "QR выписан для другого мерчанта"),
        ("uz", "QR kod boshqa savdogar uchun berilgan"),
        ("en", "The QR code was issued for another merchant"),
    ] {
        let body = quote("redeem", &foreign, "O-1", 100);
        shop.with("/loyalty/quote", &[("accept-language", language)], &body).await.refused(400, words);
    }
}
