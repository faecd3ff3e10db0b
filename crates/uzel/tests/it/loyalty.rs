//! The loyalty desk as a till sees it: quotes, commits, refunds, whole answers in the platform's words.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use uzel::{hub::Parts, settings::Settings};

use crate::world::World;

/// Merchants `m` and `n`, each with a programme; `m` has outlets `o` and `o2`, and a key of a till.
pub(crate) struct Shop {
    pub world: World,
    pub key: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub status: u16,
    pub text: String,
    pub body: Value,
    pub head: reqwest::header::HeaderMap,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn refused(&self, status: u16, message: &str) {
        assert_eq!((self.status, self.body["message"].as_str()), (status, Some(message)), "{}", self.text);
        assert_eq!(self.body["statusCode"], status);
    }

    /// The body of an answer that was given, without ids and times.
    #[track_caller]
    pub(crate) fn given(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        plain(self.body.clone())
    }
}

/// The same whatever ids and times were made.
pub(crate) fn plain(value: Value) -> Value {
    let is_id = |text: &str| {
        text.split_once('_').is_some_and(|(kind, rest)| {
            kind.len() == 3 && rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    };
    match value {
        Value::String(text) if is_id(&text) => json!(format!("[{}]", &text[..3])),
        Value::String(text) if text.starts_with("req_") => json!("[request]"),
        Value::String(text) if text.parse::<jiff::Timestamp>().is_ok() => json!("[time]"),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, plain(value))).collect::<Map<_, _>>().into(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

/// As a bridge signs.
pub(crate) fn signed(secret: &str, at_s: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at_s}.{body}").as_bytes());
    format!("v1,ts={at_s},sig={}", STANDARD.encode(mac.finalize().into_bytes()))
}

impl Shop {
    pub(crate) async fn new(programme: Value) -> Self {
        Self::tuned(programme, |_| {}).await
    }

    /// The same with settings of the operator's own.
    pub(crate) async fn tuned(programme: Value, tweak: impl FnOnce(&mut Settings)) -> Self {
        let world = World::bare(Parts::default(), tweak).await;
        let mut own = json!({ "merchant": "m", "unit": "rouble" });
        own.as_object_mut().unwrap().extend(programme.as_object().unwrap().clone());
        let setup = json!({
            "merchant": [{ "slug": "m", "name": "Кафе", "language": "ru", "country": "RU" }, { "slug": "n", "country": "UZ" }],
            "outlet": [
                { "merchant": "m", "slug": "o", "name": "На Арбате", "zone": "Europe/Moscow", "pos_type": "PC_POS" },
                { "merchant": "m", "slug": "o2", "name": "У моста", "zone": "Europe/Moscow" },
                { "merchant": "n", "slug": "o", "name": "Markaz", "zone": "Asia/Tashkent" },
            ],
            "connection": [{ "merchant": "m", "slug": "rkeeper", "provider": "rkeeper", "settings": {} }],
            "programme": [own, { "merchant": "n" }],
        });
        world.apply(&setup).await;
        let mut shop = Self { world, key: String::new() };
        shop.key = shop.new_key("m", "till").await;
        shop
    }

    pub(crate) async fn new_key(&self, merchant: &str, role: &str) -> String {
        let (status, made) = self.world.ask("/api/v1/keys", &json!({ "merchant": merchant, "role": role })).await;
        assert!((200..300).contains(&status), "{made}");
        made["key"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn raw(&self, method: Method, path: &str, head: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
        let mut request = self.world.web.request(method, format!("{}{path}", self.world.hub.url())).body(body);
        for (name, value) in head {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, head) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        Answer { status, body: serde_json::from_str(&text).unwrap_or_default(), text, head }
    }

    /// By the till's key, with more headers.
    pub(crate) async fn with(&self, path: &str, head: &[(&str, &str)], body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        let head: Vec<(&str, &str)> = [("authorization", bearer.as_str())].into_iter().chain(head.iter().copied()).collect();
        self.raw(Method::POST, path, &head, body.to_string()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.with(path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let bearer = format!("Bearer {}", self.key);
        self.raw(Method::GET, path, &[("authorization", &bearer)], "").await
    }

    /// Makes a customer with so many points.
    pub(crate) async fn give(&self, customer: &str, points: i64) {
        let (status, made) = self.world.ask("/api/v1/merchants/m/customers", &json!({ "customer": customer })).await;
        assert_eq!(status, 201, "{made}");
        if points > 0 {
            let path = format!("/api/v1/merchants/m/customers/{customer}/adjust");
            let (status, given) = self.world.ask(&path, &json!({ "points": points, "reason": "the test" })).await;
            assert_eq!((status, &given["balance"]), (200, &json!(points)), "{given}");
        }
    }

    pub(crate) async fn balance(&self, customer: &str) -> i64 {
        let answer = self.get(&format!("/loyalty/balance/m/{customer}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["balance"].as_i64().unwrap()
    }

    pub(crate) async fn quote(&self, mode: &str, customer: &str, order: &str, total: i64) -> Answer {
        self.post("/loyalty/quote", &quote(mode, customer, order, total)).await
    }

    /// Quotes and commits; gives the commit's answer.
    pub(crate) async fn buy(&self, mode: &str, customer: &str, order: &str, total: i64) -> Answer {
        let quoted = self.quote(mode, customer, order, total).await;
        let hold = quoted.body["holdId"].as_str().unwrap_or_else(|| panic!("no hold: {}", quoted.text)).to_owned();
        self.post("/loyalty/commit", &json!({ "merchantId": "m", "holdId": hold, "orderId": order })).await
    }

    /// The audit of points finds nothing.
    pub(crate) async fn is_sound(&self) {
        let (status, proof) = self.world.ask("/api/v1/loyalty/audit", &json!({})).await;
        assert_eq!((status, &proof["findings"]), (200, &json!([])), "{proof}");
    }
}

pub(crate) fn quote(mode: &str, customer: &str, order: &str, total: i64) -> Value {
    json!({
        "mode": mode, "merchantId": "m", "userToken": customer, "orderId": order, "total": total, "eligibleTotal": total,
        "outletId": "o", "staffId": "anna",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_is_quoted_committed_and_refunded_in_the_platforms_words() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-42", 150).await;
    let quoted = shop.quote("redeem", "C-42", "ORD-1", 200).await;
    let wanted = json!({
        "canRedeem": true, "discountToApply": 100, "pointsToBurn": 100, "finalPayable": 100, "holdId": "[hld]",
        "message": "Списываем 100 ₽, к оплате 100 ₽",
    });
    assert_eq!(quoted.given(201), wanted);
    let commit = json!({ "merchantId": "m", "holdId": quoted.body["holdId"], "orderId": "ORD-1", "receiptNumber": "R-15" });
    let done = shop.post("/loyalty/commit", &commit).await;
    assert_eq!(done.given(201), json!({ "ok": true, "receiptId": "[rct]", "redeemApplied": 100, "earnApplied": 0 }));
    let again = shop.post("/loyalty/commit", &commit).await.given(201);
    assert_eq!(again["alreadyCommitted"], true, "{again}");
    assert_eq!(shop.balance("C-42").await, 50);

    // One order may earn as well: of what was paid in money.
    let earned = shop.buy("EARN", "C-42", "ORD-1", 200).await.given(201);
    assert_eq!((&earned["redeemApplied"], &earned["earnApplied"]), (&json!(100), &json!(5)), "{earned}");

    let half = json!({ "merchantId": "m", "orderId": "ORD-1", "refundTotal": 100.9 });
    let refunded = shop.post("/loyalty/refund", &half).await.given(201);
    assert_eq!(refunded, json!({ "ok": true, "share": 0.5, "pointsRestored": 50, "pointsRevoked": 3 }));
    // Never more than the whole.
    let more =
        shop.post("/loyalty/refund", &json!({ "merchantId": "m", "orderId": "ORD-1", "refundTotal": 1_000 })).await.given(201);
    assert_eq!((&more["pointsRestored"], &more["pointsRevoked"]), (&json!(50), &json!(2)), "{more}");
    assert_eq!(shop.balance("C-42").await, 150);

    let told = shop.get("/api/v1/loyalty/transactions?merchantId=m&customerId=C-42").await.given(200);
    assert_eq!(told["items"][0]["type"], "REFUND");
    let spent = told["items"].as_array().unwrap().iter().find(|item| item["type"] == "REDEEM").unwrap();
    let wanted = json!({
        "id": "[pnt]", "type": "REDEEM", "amount": -100, "orderId": "ORD-1", "customerId": "C-42", "createdAt": "[time]",
        "outletId": "[out]", "outletPosType": "PC_POS", "outletLastSeenAt": "[time]", "staffId": "anna",
    });
    let mut spent = spent.clone();
    spent["id"] = wanted["id"].clone();
    assert_eq!(*spent.as_object().unwrap(), *wanted.as_object().unwrap());
    assert!(told["nextBefore"].is_null() && told["nextCursor"].is_null(), "{told}");
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_movement_is_lost_or_told_twice_between_two_pages() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 500).await;
    for order in 0..7 {
        assert_eq!(shop.buy("redeem", "C-1", &format!("O-{order}"), 20).await.status, 201);
    }
    let mut seen = Vec::new();
    let mut path = "/loyalty/transactions?merchantId=m&customerId=C-1&limit=3".to_owned();
    loop {
        let page = shop.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["nextBefore"].as_str() else { break };
        path = format!("/loyalty/transactions?merchantId=m&customerId=C-1&limit=3&before={next}");
    }
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (8, 8));
    let at = shop.get("/loyalty/transactions?merchantId=m&before=yesterday").await;
    assert_eq!(at.status, 400, "{}", at.text);
    assert_eq!(shop.get("/loyalty/transactions?merchantId=m&outletId=nowhere").await.given(200)["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_platforms_words() {
    let shop = Shop::new(json!({ "redeem_cooldown_s": 60, "redeem_daily_cap": 120, "hold_ttl_s": 60 })).await;
    shop.give("C-1", 1_000).await;
    shop.give("C-2", 0).await;
    let quoted = |answer: Answer| answer.given(201);
    let nothing = quoted(shop.quote("redeem", "C-2", "O-1", 100).await);
    assert_eq!((&nothing["canRedeem"], &nothing["holdId"]), (&json!(false), &json!("[hld]")), "an empty hold");
    assert_eq!(nothing["message"], "Недостаточно баллов для списания.");
    assert_eq!(quoted(shop.quote("earn", "C-2", "O-1", 3).await)["message"], "Сумма слишком мала для начисления.");

    shop.buy("redeem", "C-1", "O-2", 200).await.given(201);
    let waits = quoted(shop.quote("redeem", "C-1", "O-3", 200).await);
    assert!(waits["message"].as_str().unwrap().starts_with("Кулдаун на списание: подождите "), "{waits}");
    assert!(waits["holdId"].is_null() && waits["canRedeem"] == false, "{waits}");
    shop.world.pass(2);
    let full = quoted(shop.quote("redeem", "C-1", "O-2", 200).await);
    assert_eq!(full["message"], "По этому заказу уже списаны максимальные баллы.");
    shop.buy("redeem", "C-1", "O-4", 40).await.given(201);
    shop.world.pass(2);
    assert_eq!(quoted(shop.quote("redeem", "C-1", "O-5", 200).await)["message"], "Дневной лимит списаний исчерпан.");

    let commit = |hold: &str| json!({ "merchantId": "m", "holdId": hold, "orderId": "O-9" });
    shop.post("/loyalty/commit", &commit("hold-7")).await.refused(400, "Hold not found");
    shop.post("/loyalty/cancel", &json!({ "holdId": "hold-7" })).await.refused(400, "Hold not found");
    shop.post("/loyalty/cancel", &json!({})).await.refused(400, "holdId required");
    shop.post("/loyalty/refund", &json!({ "merchantId": "m", "orderId": "O-9", "refundTotal": 1 }))
        .await
        .refused(400, "Receipt not found");

    let held = shop.quote("earn", "C-2", "O-6", 100).await.body["holdId"].as_str().unwrap().to_owned();
    shop.post("/loyalty/cancel", &json!({ "holdId": held })).await.given(201);
    shop.post("/loyalty/commit", &commit(&held)).await.refused(409, "Hold already finished");
    let late = shop.quote("earn", "C-2", "O-7", 100).await.body["holdId"].as_str().unwrap().to_owned();
    shop.world.pass(2);
    shop.post("/loyalty/commit", &commit(&late)).await.refused(400, "Hold expired. Обновите QR в мини-аппе и повторите.");

    let error = shop.with("/loyalty/commit", &[("x-request-id", "req_mine")], &commit("hold-7")).await;
    assert_eq!(error.header("x-request-id"), "req_mine");
    assert_eq!(error.body["requestId"], "req_mine");
    let told = json!({
        "error": "Bad Request", "message": "Hold not found", "statusCode": 400, "requestId": "[request]", "path": "/loyalty/commit",
        "timestamp": "[time]",
    });
    assert_eq!(plain(error.body), told);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_another_merchant_is_not_seen() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 100).await;
    let hold = shop.quote("redeem", "C-1", "O-1", 100).await.body["holdId"].clone();
    let other = format!("Bearer {}", shop.new_key("n", "till").await);
    let commit = json!({ "merchantId": "n", "holdId": hold, "orderId": "O-1" });
    let head = [("authorization", other.as_str())];
    shop.raw(Method::POST, "/loyalty/commit", &head, commit.to_string()).await.refused(400, "Hold not found");
    shop.raw(Method::POST, "/loyalty/cancel", &head, json!({ "holdId": hold }).to_string()).await.refused(400, "Hold not found");
    let mut own = commit.clone();
    own["merchantId"] = json!("m");
    shop.raw(Method::POST, "/loyalty/commit", &head, own.to_string()).await.refused(403, "this key is of another merchant");
    assert_eq!(shop.balance("C-1").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_got_no_answer_repeats_and_gets_the_same_one() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 300).await;
    let hold = shop.quote("redeem", "C-1", "O-1", 100).await.body["holdId"].clone();
    let commit = json!({ "merchantId": "m", "holdId": hold, "orderId": "O-1" });
    let key = [("idempotency-key", "commit:m:O-1")];
    let first = shop.with("/loyalty/commit", &key, &commit).await;
    let again = shop.with("/loyalty/commit", &key, &commit).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text), "byte for byte");
    let mut other = commit.clone();
    other["orderId"] = json!("O-2");
    shop.with("/loyalty/commit", &key, &other).await.refused(422, "Этот Idempotency-Key уже использован с другим телом запроса");
    assert_eq!(shop.balance("C-1").await, 250);

    let refund = json!({ "merchantId": "m", "orderId": "O-1", "refundTotal": 60 });
    let key = [("idempotency-key", "refund:m:O-1:60")];
    let (one, two) = tokio::join!(shop.with("/loyalty/refund", &key, &refund), shop.with("/loyalty/refund", &key, &refund));
    assert_eq!((one.status, &one.text), (two.status, &two.text), "at once as well");
    assert_eq!(shop.balance("C-1").await, 280);
    shop.with("/loyalty/refund", &[("idempotency-key", "")], &refund).await;
    let long = "x".repeat(300);
    assert_eq!(shop.with("/loyalty/refund", &[("idempotency-key", &long)], &refund).await.status, 400);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tills_with_one_card_at_once_spend_what_there_is() {
    let shop = Shop::new(json!({ "redeem_limit_bps": 10_000 })).await;
    shop.give("C-1", 100).await;
    let tills = (0..10).map(|till| {
        let shop = &shop;
        async move {
            let order = format!("O-{till}");
            let quoted = shop.quote("redeem", "C-1", &order, 30).await;
            assert_eq!(quoted.status, 201, "{}", quoted.text);
            let Some(hold) = quoted.body["holdId"].as_str() else { return 0 };
            let commit = json!({ "merchantId": "m", "holdId": hold, "orderId": order });
            let done = shop.post("/loyalty/commit", &commit).await;
            assert_eq!(done.status, 201, "{}", done.text);
            done.body["redeemApplied"].as_i64().unwrap()
        }
    });
    let spent: i64 = futures::future::join_all(tills).await.into_iter().sum();
    assert_eq!((spent, shop.balance("C-1").await), (100, 0));
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_till_sends_wrongly_is_told_by_field() {
    let shop = Shop::new(json!({})).await;
    shop.post(
        "/loyalty/quote",
        &json!({ "merchantId": "m", "mode": "borrow", "userToken": "C", "orderId": "O", "total": -1, "eligibleTotal": 1 }),
    )
    .await
    .refused(400, "mode must be one of the following values: redeem, earn; total must not be less than 0");
    shop.post("/loyalty/quote", &json!({})).await.refused(
        400,
        "mode must be one of the following values: redeem, earn; merchantId must be a string; userToken must be a string; orderId must \
         be a string; total must be a number conforming to the specified constraints; eligibleTotal must be a number conforming to the \
         specified constraints",
    );
    shop.post("/loyalty/commit", &json!({ "merchantId": "m", "holdId": [1], "orderId": null }))
        .await
        .refused(400, "holdId must be a string; orderId must be a string");
    let bearer = format!("Bearer {}", shop.key);
    let head = [("authorization", bearer.as_str())];
    for path in ["/loyalty/quote", "/loyalty/commit", "/loyalty/refund", "/loyalty/qr", "/loyalty/cancel", "/loyalty/consent"] {
        let sent = |body: Vec<u8>| shop.raw(Method::POST, path, &head, body);
        for (body, status) in [
            (Vec::new(), 400),
            (b"[]".to_vec(), 400),
            (b"null".to_vec(), 400),
            (b"\"m\"".to_vec(), 400),
            (b"<html>".to_vec(), 400),
            (b"{\"merchantId\":\"m\"".to_vec(), 400),
            (b"{\"merchantId\":\"\xff\xfe\"}".to_vec(), 400),
            (b"{\"merchantId\":\"m\",\"orderId\":\"\\u0000\",\"holdId\":\"\\u0000\",\"customerId\":\"\\u0000\"}".to_vec(), 400),
            (vec![b' '; 100 << 10], 413),
        ] {
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let answer = sent(body).await;
            assert_eq!(answer.status, status, "{path} {start}: {}", answer.text);
            assert!(
                answer.body["message"].is_string() && answer.body["requestId"].is_string(),
                "{path} {start}: {}",
                answer.text
            );
        }
    }
    // Of a huge one not all is read: whoever goes on sending meets a closed connection.
    let huge = shop.world.web.post(format!("{}/loyalty/quote", shop.world.hub.url())).body(vec![b' '; 10 << 20]).send().await;
    assert!(huge.map_or_else(|error| error.is_request(), |answer| answer.status() == 413));
    let strings = json!({ "merchantId": "m", "orderId": "O", "refundTotal": "12" });
    shop.post("/loyalty/refund", &strings)
        .await
        .refused(400, "refundTotal must be a number conforming to the specified constraints");
    let wrong = shop.raw(Method::PUT, "/loyalty/quote", &head, "{}").await;
    assert_eq!((wrong.status, &wrong.body["error"]), (405, &json!("Method Not Allowed")));
    // Unknown fields mean nothing, fractions are rounded down.
    let mut odd = quote("Redeem", "C-9", "O", 1);
    odd["total"] = json!(99.99);
    odd["nonsense"] = json!({ "a": [1] });
    assert_eq!(shop.post("/loyalty/quote", &odd).await.given(201)["finalPayable"], 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cashier_reads_their_own_language() {
    let shop = Shop::new(json!({})).await;
    for (language, words) in [
        ("uz-UZ, ru;q=0.5", "Yechish uchun ball yetarli emas."),
        ("en", "There are no points to spend."),
        ("de", "Недостаточно баллов для списания."),
    ] {
        let body = quote("redeem", "C-1", "O-1", 100);
        let answer = shop.with("/loyalty/quote", &[("accept-language", language)], &body).await;
        assert_eq!(answer.given(201)["message"], words, "{language}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_commit_and_refund_are_signed_as_webhooks_are() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 100).await;
    let bare = shop.buy("redeem", "C-1", "O-1", 50).await;
    assert_eq!((bare.status, bare.header("x-loyalty-signature")), (201, ""), "nobody has a secret to verify by");
    let endpoint = json!({ "merchant": "m", "slug": "crm", "url": "https://127.0.0.1:9/hook", "events": ["loyalty.*"] });
    let (status, made) = shop.world.ask("/api/v1/endpoints", &endpoint).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["keys"][0]["secret"].as_str().unwrap();
    let done = shop.buy("redeem", "C-1", "O-2", 50).await;
    let refunded = shop.post("/loyalty/refund", &json!({ "merchantId": "m", "orderId": "O-2", "refundTotal": 50 })).await;
    for answer in [done, refunded] {
        assert_eq!(answer.status, 201, "{}", answer.text);
        let at_s: i64 = answer.header("x-signature-timestamp").parse().unwrap();
        assert_eq!(answer.header("x-loyalty-signature"), signed(secret, at_s, &answer.text));
        assert!(answer.header("x-signature-key-id").starts_with("key_"), "{:?}", answer.head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_written_a_quote_says_so_in_time_and_a_commit_is_put_off() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-1", 100).await;
    let hold = shop.quote("redeem", "C-1", "O-1", 100).await.body["holdId"].clone();
    let commit = json!({ "merchantId": "m", "holdId": hold, "orderId": "O-1" });
    // Somebody else holds the file, so that the writer has to wait.
    let lock = rusqlite::Connection::open(shop.world.data().join("uzel.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (quoted, put_off) = tokio::join!(
        shop.quote("redeem", "C-1", "O-2", 100),
        shop.with("/loyalty/commit", &[("idempotency-key", "c-1")], &commit)
    );
    lock.execute_batch("ROLLBACK").unwrap();
    let quoted = quoted.given(201);
    assert!(quoted["canRedeem"] == false && quoted["holdId"].is_null() && quoted["finalPayable"] == 100, "{quoted}");
    assert!(!quoted["message"].as_str().unwrap().is_empty(), "{quoted}");
    put_off.refused(503, "Бонусы сейчас недоступны. Повторите через минуту.");
    assert_eq!(put_off.header("retry-after"), "1");
    let done = shop.with("/loyalty/commit", &[("idempotency-key", "c-1")], &commit).await;
    assert_eq!(done.given(201)["redeemApplied"], 50, "once, whatever became of the first");
    assert_eq!(shop.balance("C-1").await, 50);
    shop.is_sound().await;
}
