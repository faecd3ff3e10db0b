//! A defined answer, always: each question of a till on each path, while the outside programme is slow, down, refusing or lying, or the
//! store cannot write. In time, and with a reason that a cashier can read in their language.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    jowi,
    loyalty::{Answer, Shop},
    world::{World, until},
};

const PHONE: &str = "+998901234567";
const PATIENCE_MS: u64 = 800;
/// What a quote may take beside it.
const MORE_MS: u64 = 150;
/// How long a commit is tried.
const COMMIT_MS: u64 = 5_000;
const QUOTES: [&str; 4] =
    ["/loyalty/quote", "/integrations/modulkassa/quote", "/integrations/poster/quote", "/integrations/evotor/quote"];
const COMMITS: [&str; 4] =
    ["/loyalty/commit", "/integrations/modulkassa/commit", "/integrations/poster/commit", "/integrations/evotor/commit"];
const LANGUAGES: [&str; 3] = ["ru", "uz", "en"];

/// A shop whose points JOWi Club keeps.
async fn club_shop(patience_ms: u64) -> Shop {
    let world = World::bare(Parts::default(), |_| {}).await;
    world
        .apply(&json!({
            "merchant": [{ "slug": "m", "country": "UZ" }],
            "connection": [jowi::connection(&world.sandbox.url())],
            "programme": [{ "merchant": "m", "unit": "rouble", "club": { "connection": "jowi", "patience_ms": patience_ms } }],
        }))
        .await;
    let mut shop = Shop { world, key: String::new() };
    shop.key = shop.new_key("m", "till").await;
    shop
}

fn question(mode: &str, customer: &str, order: &str) -> Value {
    json!({ "mode": mode, "merchantId": "m", "userToken": customer, "orderId": order, "total": 50_000, "eligibleTotal": 50_000 })
}

/// A quote's answer, that came in time.
async fn quoted(shop: &Shop, path: &str, language: &str, body: &Value) -> Value {
    let began = Instant::now();
    let answer = shop.with(path, &[("accept-language", language)], body).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(PATIENCE_MS + MORE_MS), "{path}, {language}: {took:?}");
    assert_eq!(answer.status, 201, "{path}: {}", answer.text);
    answer.body
}

/// What a cashier reads is a sentence of theirs.
#[track_caller]
fn is_readable(message: &Value, language: &str) {
    let text = message.as_str().unwrap_or_default();
    let cyrillic = text.chars().any(|letter| ('а'..='я').contains(&letter));
    assert!(text.chars().count() > 10 && cyrillic == (language == "ru"), "{language}: {message}");
}

/// No points now, the whole sum to pay, and why.
#[track_caller]
fn says_no(answer: &Value, mode: &str, language: &str) {
    is_readable(&answer["message"], language);
    match mode {
        "redeem" => assert_eq!(
            (&answer["canRedeem"], &answer["discountToApply"], &answer["pointsToBurn"], &answer["finalPayable"]),
            (&json!(false), &json!(0), &json!(0), &json!(50_000)),
            "{answer}"
        ),
        _ => assert_eq!((&answer["canEarn"], &answer["pointsToEarn"]), (&json!(false), &json!(0)), "{answer}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_programme_does_each_question_on_each_path_is_answered_in_time_and_in_words() {
    let shop = club_shop(PATIENCE_MS).await;
    let world = &shop.world;
    let status = |status: u16| json!({ "kind": "status", "status": status });
    let kind = |kind: &str| json!({ "kind": kind });
    let cases = [
        ("slow", json!({ "kind": "latency", "latency_ms": 3_000 }), "none"),
        ("500", status(500), "none"),
        ("503", status(503), "none"),
        ("429", status(429), "none"),
        ("401", status(401), "none"),
        ("404", status(404), "none"),
        ("402", status(402), "none"),
        ("423", status(423), "none"),
        ("HTML", kind("garbage"), "none"),
        ("cut", kind("cut_before"), "none"),
        ("another's account", json!([]), "account"),
        ("status 1 and nothing", json!([]), "empty"),
    ];
    for (case, (what, fault, lie)) in cases.into_iter().enumerate() {
        for (place, path) in QUOTES.iter().enumerate() {
            let language = LANGUAGES[(case + place) % LANGUAGES.len()];
            let mode = ["redeem", "earn"][(case + place) % 2];
            world.control("jowi/settings", &json!({ "lie": lie })).await;
            world.control("jowi/faults", &fault).await;
            let answer = quoted(&shop, path, language, &question(mode, PHONE, &format!("{what}-{place}"))).await;
            says_no(&answer, mode, language);
            let note = &answer["loyalty"];
            // Without a note the store was too slow to keep what was learnt: it is the deadline's own answer.
            if !note.is_null() {
                let told = (&note["applied"], &note["message_for_cashier"]);
                assert_eq!(told, (&json!(false), &answer["message"]), "{what}: {answer}");
            }
            // Well in between, it is not left alone.
            world.control("jowi/settings", &json!({ "lie": "none" })).await;
            world.control("jowi/faults", &json!([])).await;
            is_well(&shop).await;
        }
    }
    assert_eq!(world.shown("jowi/operations").await, json!([]), "no question has moved a point");
}

/// Until the programme answers a till again.
async fn is_well(shop: &Shop) {
    let well = async || shop.with(QUOTES[0], &[], &question("earn", PHONE, "well")).await.body["loyalty"].is_null();
    until("an answer again", well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_cannot_be_gives_no_discount_that_is_not_there() {
    let shop = club_shop(5_000).await;
    let known = shop.world.shown("jowi/accounts").await[0].clone();
    let is_unreadable = |answer: &Value| answer["loyalty"]["detail"] == "unreadable";
    type Right = Box<dyn Fn(&Value) -> bool>;
    let no_points: fn(&Value) -> bool = |answer| answer["loyalty"].is_null() && answer["discountToApply"] == 0;
    let cases: Vec<(&str, Value, Right)> = vec![
        ("negative", json!({ "points": -500, "available_points": -500, "point_value_sum": 1 }), Box::new(no_points)),
        ("a part of one", json!({ "points": "0.99", "point_value_sum": 1 }), Box::new(no_points)),
        ("more than a number holds", json!({ "points": 1e30, "point_value_sum": 1 }), Box::new(is_unreadable)),
        ("more than anything holds", json!({ "points": "9".repeat(400), "point_value_sum": 1 }), Box::new(is_unreadable)),
        ("a point that is worth all", json!({ "points": 5, "point_value_sum": 1e17 }), Box::new(is_unreadable)),
        ("a point that is worth much", json!({ "points": 5, "point_value_sum": 90_000 }), Box::new(no_points)),
        ("a point that is worth nothing", json!({ "points": 5, "point_value_sum": 0 }), Box::new(is_unreadable)),
        ("a point below nothing", json!({ "points": 5, "point_value_sum": -1 }), Box::new(is_unreadable)),
        ("a word", json!({ "points": "many" }), Box::new(is_unreadable)),
        ("null", Value::Null, Box::new(is_unreadable)),
        ("a list", json!([15_400]), Box::new(is_unreadable)),
    ];
    for (place, (what, balance, right)) in cases.into_iter().enumerate() {
        let mut account = known.clone();
        account["balance"] = balance;
        shop.world.control("jowi/accounts", &json!([account])).await;
        let asked = question("redeem", PHONE, &format!("o{place}"));
        let answer = shop.with(QUOTES[place % 4], &[("accept-language", "en")], &asked).await.body;
        assert!(right(&answer), "{what}: {answer}");
        says_no(&answer, "redeem", "en");
        shop.world.control("jowi/accounts", &json!([known])).await;
        is_well(&shop).await;
    }
    // Very much, and still a number: no more than the programme allows of this purchase.
    let mut rich = known.clone();
    rich["balance"] =
        json!({ "points": "9000000000000000000.0", "available_points": 9_000_000_000_000_000_000_i64, "point_value_sum": 1 });
    rich["program"]["max_redeem_percent"] = json!(100_000);
    shop.world.control("jowi/accounts", &json!([rich])).await;
    let answer = shop.post(QUOTES[0], &question("redeem", PHONE, "rich")).await.body;
    assert_eq!((&answer["discountToApply"], &answer["finalPayable"]), (&json!(50_000), &json!(0)), "{answer}");
}

/// The embedded store's file is held by somebody else, so that nothing can be written.
fn locked(shop: &Shop) -> rusqlite::Connection {
    let lock = rusqlite::Connection::open(shop.world.data().join("uzel.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

async fn put_off(shop: &Shop, path: &str, language: &str, body: &Value) -> Answer {
    let began = Instant::now();
    let answer = shop.with(path, &[("accept-language", language), ("idempotency-key", path)], body).await;
    assert!(began.elapsed() < Duration::from_millis(COMMIT_MS + MORE_MS), "{path}: {:?}", began.elapsed());
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"), "{path}: {}", answer.text);
    is_readable(&answer.body["message"], language);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nothing_can_be_written_each_path_says_so_in_time_and_nothing_is_lost() {
    let own = Shop::new(json!({})).await;
    own.give("C-1", 100_000).await;
    let outside = club_shop(PATIENCE_MS).await;
    let (own, outside) = (&own, &outside);
    let mut holds = Vec::new();
    for (place, path) in QUOTES.iter().enumerate() {
        let order = format!("before-{place}");
        let of_own = quoted(own, path, "ru", &question("redeem", "C-1", &order)).await;
        let of_club = quoted(outside, path, "ru", &question("earn", PHONE, &order)).await;
        let commit = |quote: &Value| json!({ "merchantId": "m", "holdId": quote["holdId"], "orderId": order });
        holds.push((commit(&of_own), commit(&of_club)));
    }
    let locks = [locked(own), locked(outside)];
    for (place, language) in LANGUAGES.iter().enumerate() {
        let (path, order) = (QUOTES[place + 1], format!("during-{place}"));
        let (first, second) = (question("redeem", "C-1", &order), question("redeem", PHONE, &order));
        let (of_own, of_club) = tokio::join!(quoted(own, path, language, &first), quoted(outside, path, language, &second));
        for answer in [of_own, of_club] {
            says_no(&answer, "redeem", language);
            assert!(answer["holdId"].is_null(), "{answer}");
        }
    }
    let waiting =
        COMMITS.iter().zip(LANGUAGES.iter().cycle()).zip(&holds).map(|((path, language), (of_own, of_club))| async move {
            tokio::join!(put_off(own, path, language, of_own), put_off(outside, path, language, of_club))
        });
    futures::future::join_all(waiting).await;
    for lock in locks {
        lock.execute_batch("ROLLBACK").unwrap();
    }
    for (path, (of_own, of_club)) in COMMITS.iter().zip(&holds) {
        for (shop, body) in [(own, of_own), (outside, of_club)] {
            let done = shop.with(path, &[("idempotency-key", *path)], body).await;
            assert_eq!((done.status, &done.body["ok"]), (201, &json!(true)), "{}", done.text);
        }
    }
    own.is_sound().await;
    let over = async || outside.world.commands("waiting").await + outside.world.commands("sending").await == 0;
    outside.world.in_steps(jiff::SignedDuration::from_mins(10), "all to be told", over).await;
    let told = outside.world.shown("jowi/operations").await;
    let accruals = told.as_array().unwrap().iter().filter(|operation| operation["type"] == "accrual").count();
    assert_eq!(accruals, QUOTES.len(), "each purchase once: {told}");
}
