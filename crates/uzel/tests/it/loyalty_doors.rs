//! Who may ask the loyalty desk: nobody, until they show a key, a staff key or a signature.

use reqwest::Method;
use serde_json::{Value, json};

use crate::loyalty::{Shop, quote};

/// Every path, with a body that would be taken.
fn paths() -> Vec<(Method, &'static str, Value)> {
    let commit = json!({ "merchantId": "m", "holdId": "h", "orderId": "O-1" });
    vec![
        (Method::POST, "/loyalty/quote", quote("redeem", "C-1", "O-1", 100)),
        (Method::POST, "/loyalty/commit", commit.clone()),
        (Method::POST, "/loyalty/cancel", json!({ "holdId": "h", "merchantId": "m" })),
        (Method::POST, "/loyalty/refund", json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 1 })),
        (Method::POST, "/loyalty/qr", json!({ "merchantId": "m", "customerId": "C-1" })),
        (Method::POST, "/loyalty/consent", json!({ "merchantId": "m", "customerId": "C-1", "granted": true })),
        (Method::GET, "/loyalty/consent?merchantId=m&customerId=C-1", Value::Null),
        (Method::GET, "/loyalty/balance/m/C-1", Value::Null),
        (Method::GET, "/loyalty/transactions?merchantId=m", Value::Null),
        (Method::GET, "/loyalty/settings/m", Value::Null),
        (Method::GET, "/loyalty/outlets/m", Value::Null),
        (Method::GET, "/loyalty/staff/m", Value::Null),
        (Method::POST, "/integrations/rkeeper/quote", quote("redeem", "C-1", "O-1", 100)),
        (Method::POST, "/integrations/rkeeper/commit", commit),
        (Method::POST, "/integrations/rkeeper/register", json!({ "merchantId": "m" })),
        (Method::POST, "/integrations/rkeeper/webhook", json!({ "merchantId": "m" })),
        (Method::GET, "/integrations/rkeeper/health?merchantId=m", Value::Null),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_is_closed_and_lets_in_the_roles_of_the_table() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 100).await;
    let mut table = Vec::new();
    for (method, path, body) in paths() {
        for prefix in ["", "/api/v1"] {
            let at = format!("{prefix}{path}");
            let sent = body.to_string();
            let stranger = shop.raw(method.clone(), &at, &[], sent.clone()).await;
            stranger.refused(401, "an API key, X-Staff-Key or X-Bridge-Signature is required");
            let guess = shop.raw(method.clone(), &at, &[("x-api-key", "uzel_guess")], sent).await;
            assert!([401, 429].contains(&guess.status), "{at}: {}", guess.text);
        }
    }
    for role in ["owner", "operator", "till", "reader"] {
        let key = shop.new_key("m", role).await;
        for (method, path, body) in paths() {
            let answer = shop.raw(method.clone(), path, &[("x-api-key", &key)], body.to_string()).await;
            assert!(answer.status != 401 && answer.status != 500, "{method} {path} as {role}: {}", answer.text);
            if answer.status != 403 {
                table.push(format!("{role}: {method} {}", path.split('?').next().unwrap()));
            }
        }
    }
    let of = |role: &str| table.iter().filter(|row| row.starts_with(role)).count();
    assert_eq!((of("owner"), of("operator"), of("till"), of("reader")), (17, 16, 16, 7), "{table:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_of_one_merchant_and_whoever_asks_of_another_learns_nothing() {
    let shop = Shop::new(json!({})).await;
    let other = shop.new_key("n", "owner").await;
    for (method, path, body) in paths() {
        let answer = shop.raw(method.clone(), path, &[("x-api-key", &other)], body.to_string()).await;
        answer.refused(403, "this key is of another merchant");
    }
    let nowhere = quote("redeem", "C-1", "O-1", 1).to_string().replace("\"merchantId\":\"m\"", "\"merchantId\":\"nowhere\"");
    shop.raw(Method::POST, "/loyalty/quote", &[("x-api-key", &other)], nowhere.clone())
        .await
        .refused(403, "this key is of another merchant");
    let whole = format!("Bearer {}", shop.world.hub.owner_key().unwrap());
    let head = [("authorization", whole.as_str())];
    shop.raw(Method::POST, "/loyalty/quote", &head, nowhere).await.refused(404, "Merchant not found");
    let known = shop.world.api("/api/v1/merchants").await.to_string();
    assert!(!known.contains("nowhere"), "no call makes a merchant: {known}");
    // By id as well as by slug.
    let id = shop.world.api("/api/v1/merchants/m").await["id"].as_str().unwrap().to_owned();
    let by_id = quote("redeem", "C-1", "O-1", 1).to_string().replace("\"merchantId\":\"m\"", &format!("\"merchantId\":\"{id}\""));
    assert_eq!(shop.raw(Method::POST, "/loyalty/quote", &[("x-api-key", &shop.key)], by_id).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_programme_may_ask_for_a_staff_key() {
    let shop = Shop::new(json!({ "require_staff_key": true })).await;
    shop.give("C-1", 100).await;
    let body = quote("redeem", "C-1", "O-1", 100);
    shop.post("/loyalty/quote", &body).await.refused(401, "X-Staff-Key or X-Bridge-Signature required");
    let hold = json!({ "merchantId": "m", "holdId": "hld_x" });
    shop.post("/loyalty/cancel", &hold).await.refused(401, "X-Staff-Key or X-Bridge-Signature required");
    let staff = shop.new_key("m", "till").await;
    shop.with("/loyalty/cancel", &[("x-staff-key", &staff)], &hold).await.refused(400, "Hold not found");
    let sent = body.to_string();
    assert_eq!(shop.raw(Method::POST, "/loyalty/quote", &[("x-staff-key", &staff)], sent.clone()).await.status, 201);
    let wrong = shop.raw(Method::POST, "/loyalty/quote", &[("x-staff-key", "sk_test")], sent.clone()).await;
    wrong.refused(401, "Invalid staff key");
    let other = shop.new_key("n", "till").await;
    let wrong = shop.raw(Method::POST, "/loyalty/quote", &[("x-staff-key", &other)], sent).await;
    wrong.refused(403, "this key is of another merchant");
    let named = shop.get("/loyalty/staff/m").await.given(200);
    assert_eq!(
        named,
        json!([{ "id": "[key]", "login": "", "role": "CASHIER" }, { "id": "[key]", "login": "", "role": "CASHIER" }])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_programme_quotes_and_commits_for_anybody_and_nothing_more() {
    let shop = Shop::new(json!({ "open_loyalty": true })).await;
    shop.give("C-1", 100).await;
    let quoted = shop.raw(Method::POST, "/loyalty/quote", &[], quote("redeem", "C-1", "O-1", 100).to_string()).await;
    assert_eq!(quoted.given(201)["pointsToBurn"], 50);
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "O-1" }).to_string();
    let done = shop.raw(Method::POST, "/loyalty/commit", &[], commit).await;
    assert_eq!(done.given(201)["redeemApplied"], 50);
    for (method, path, body) in paths() {
        if path.ends_with("/quote") || path.ends_with("/commit") {
            continue;
        }
        let answer = shop.raw(method, path, &[], body.to_string()).await;
        answer.refused(401, "an API key, X-Staff-Key or X-Bridge-Signature is required");
    }
    // Whoever is not known makes no customers.
    shop.raw(Method::POST, "/loyalty/quote", &[], quote("earn", "C-new", "O-2", 100).to_string()).await;
    let known = shop.world.api("/api/v1/merchants/m/customers").await;
    assert_eq!(known.as_array().unwrap().len(), 1, "{known}");
    // The other merchant's programme is closed.
    let other = quote("redeem", "C-1", "O-1", 1).to_string().replace("\"merchantId\":\"m\"", "\"merchantId\":\"n\"");
    let closed = shop.raw(Method::POST, "/loyalty/quote", &[], other).await;
    closed.refused(401, "an API key, X-Staff-Key or X-Bridge-Signature is required");
    let shown = shop.world.api("/api/v1/merchants/m/programme").await;
    assert!(shown["dangers"][0].as_str().unwrap().starts_with("open_loyalty"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_key_is_let_in_from_an_address_that_guesses() {
    let shop = Shop::new(json!({})).await;
    let body = quote("redeem", "C-1", "O-1", 100).to_string();
    let mut slowed = false;
    for guess in 0..400 {
        let key = format!("guess-{guess}");
        let answer = shop.raw(Method::POST, "/loyalty/quote", &[("x-staff-key", &key)], body.clone()).await;
        slowed |= answer.status == 429 && !answer.header("retry-after").is_empty();
    }
    assert!(slowed);
    assert_eq!(shop.raw(Method::POST, "/loyalty/quote", &[("x-staff-key", &shop.key)], body).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_at_the_till_is_the_hubs_own() {
    let shop = Shop::new(json!({})).await;
    let customer = json!({ "customer": "C-1", "phone": "+79991234567", "name": "Анна" });
    assert_eq!(shop.world.ask("/api/v1/merchants/m/customers", &customer).await.0, 201);
    shop.give("C-2", 0).await;
    let path = "/loyalty/consent?merchantId=m&customerId=C-1";
    assert_eq!(shop.get(path).await.given(200), json!({ "granted": false }));
    let word = |customer: &str, granted| json!({ "merchantId": "m", "customerId": customer, "granted": granted });
    assert_eq!(shop.post("/loyalty/consent", &word("C-1", true)).await.given(201), json!({ "ok": true }));
    assert_eq!(shop.get(path).await.given(200), json!({ "granted": true, "consentAt": "[time]" }));
    assert_eq!(shop.post("/loyalty/consent", &word("C-1", false)).await.status, 201);
    assert_eq!(shop.get(path).await.given(200), json!({ "granted": false }));
    let words = shop.world.api("/api/v1/consents?merchant=m&address=%2B79991234567").await;
    assert_eq!((&words["words"][0]["how"], &words["words"][0]["granted"]), (&json!("till"), &json!(false)), "{words}");
    let nobody = shop.post("/loyalty/consent", &word("C-2", true)).await;
    nobody.refused(400, "the customer has no phone: there is nobody to write to");
}
