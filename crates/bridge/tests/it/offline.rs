//! Quotes while the line is down, and what is promised by them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    hub::{Hub, Mood},
    world::{Bridge, commit, quote, until},
};

#[tokio::test]
async fn a_quote_without_the_line_is_a_refusal_that_the_cashier_can_read() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    for (language, words) in [("ru", "Нет связи"), ("uz-UZ,ru;q=0.5", "aloqa yo‘q"), ("en", "No line"), ("fr", "Нет связи")]
    {
        let (status, answer) =
            bridge.post_with("/quote", &[("accept-language", language)], quote("redeem", "O-1").to_string()).await;
        assert_eq!(status, 201);
        assert_eq!(
            (
                answer["canRedeem"].clone(),
                answer["discountToApply"].clone(),
                answer["finalPayable"].clone(),
                answer["holdId"].clone()
            ),
            (json!(false), json!(0), json!(1000), Value::Null)
        );
        assert!(answer["message"].as_str().unwrap().contains(words), "{language}: {answer}");
    }
    let (status, answer) = bridge.post("/quote", &quote("earn", "O-1")).await;
    assert_eq!((status, answer["canEarn"].clone(), answer["pointsToEarn"].clone()), (201, json!(false), json!(0)));
    assert_eq!(bridge.post("/qr", &json!({ "customerId": "C-42" })).await.0, 503);
}

#[tokio::test]
async fn a_quote_is_answered_in_time_whatever_the_hub_does() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "quote_timeout_ms = 400").await;
    for mood in [
        Mood::Slow(Duration::from_secs(30)),
        Mood::Cut,
        Mood::Garbage,
        Mood::Lost,
        Mood::Page(200),
        Mood::Page(404),
        Mood::Redirect,
        Mood::Says(503, "", json!({ "statusCode": 503 })),
        Mood::Says(429, "", json!({ "statusCode": 429 })),
        Mood::Says(201, "", json!({ "ok": true })),
    ] {
        let name = format!("{mood:?}");
        hub.mood(mood);
        let began = Instant::now();
        let (status, answer) = bridge.post("/quote", &quote("redeem", "O-1")).await;
        assert_eq!((status, answer["canRedeem"].clone(), answer["offline"].clone()), (201, json!(false), json!(true)), "{name}");
        assert!(began.elapsed() < Duration::from_millis(2_000), "{name}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn points_that_were_promised_without_the_line_are_credited_when_it_is_back() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "[offline]\nquotes = 'earn'\nearn_bps = 1000").await;
    hub.stop().await;
    let (status, answer) = bridge.post("/quote", &quote("earn", "O-1")).await;
    assert_eq!((status, answer["canEarn"].clone(), answer["pointsToEarn"].clone()), (201, json!(true), json!(100)), "{answer}");
    assert_eq!(bridge.post("/quote", &quote("redeem", "O-1")).await.1["canRedeem"], false);
    let code = json!({ "mode": "earn", "userToken": "a.b.c", "orderId": "O-9", "total": 10, "eligibleTotal": 10 });
    assert_eq!(bridge.post("/quote", &code).await.1["canEarn"], false, "a code is spent by its first use");
    // The hold outlives the program.
    bridge.restart().await;
    let sale = json!({ "holdId": answer["holdId"], "orderId": "O-1" });
    let (status, first) = bridge.post("/commit", &sale).await;
    assert_eq!((status, first["queued"].clone()), (202, json!(true)), "{first}");
    assert_eq!(bridge.post("/commit", &sale).await, (202, first));
    let other = bridge.post_with("/commit", &[("idempotency-key", "another")], sale.to_string()).await;
    assert_eq!(other.0, 400, "one hold is committed once: {other:?}");
    assert_eq!(bridge.post("/commit", &json!({ "holdId": "off-unknown", "orderId": "O-2" })).await.0, 400);

    // The hub's answer to the quote comes, and the program dies before the commit.
    hub.listen().await;
    bridge.drained().await;
    assert_eq!(hub.seen("/loyalty/quote").len(), 1);
    assert_eq!(hub.state.lock().committed["O-1"], 1);
    let sent = hub.seen("/loyalty/commit").pop().unwrap().json();
    assert_eq!((sent["holdId"].clone(), sent["orderId"].clone()), (json!("hold-0"), json!("O-1")));
    // The till asks once more, and is told what the hub said.
    let (status, answer) = bridge.post("/commit", &sale).await;
    assert_eq!((status, answer["receiptId"].clone()), (201, json!("r-O-1")));
    bridge.restart().await;
    assert_eq!(bridge.post("/commit", &sale).await.0, 201);
    assert_eq!(hub.seen("/loyalty/commit").len(), 1);
}

#[tokio::test]
async fn a_sale_made_without_the_line_is_committed_once_though_answers_are_lost_and_the_program_is_killed() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "[offline]\nquotes = 'earn'").await;
    hub.stop().await;
    let hold = bridge.post("/quote", &quote("earn", "O-1")).await.1["holdId"].clone();
    assert_eq!(bridge.post("/commit", &json!({ "holdId": hold, "orderId": "O-1" })).await.0, 202);
    hub.mood_of("/loyalty/commit", Mood::Lost);
    hub.listen().await;
    until("the commit to be tried", async || {
        bridge.post("/queue/flush", &json!({})).await;
        !hub.seen("/loyalty/commit").is_empty()
    })
    .await;
    bridge.restart().await;
    hub.mood_of("/loyalty/commit", Mood::Well);
    bridge.drained().await;
    let commits: std::collections::HashSet<String> = hub.seen("/loyalty/commit").iter().map(|call| call.body.clone()).collect();
    assert_eq!(commits.len(), 1, "each repeat is of the same hold: {commits:?}");
    assert_eq!(hub.seen("/loyalty/quote").len(), 1);
    assert_eq!(hub.state.lock().committed["O-1"], 1);
}

#[tokio::test]
async fn spending_without_the_line_keeps_to_its_limit_and_its_loss_is_shown() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "staff_key = 'stf'\n[offline]\nredeem_max = 120").await;
    let redeem = async |order: &str| bridge.post("/quote", &quote("redeem", order)).await.1;
    hub.state.lock().balance = 200;
    assert_eq!(redeem("O-0").await["offline"], Value::Null);
    until("the balance to be known", async || !hub.state.lock().seen.iter().all(|call| !call.path.contains("/balance/"))).await;
    hub.stop().await;
    let first = redeem("O-1").await;
    assert_eq!((first["pointsToBurn"].clone(), first["finalPayable"].clone()), (json!(120), json!(880)), "{first}");
    let second = redeem("O-2").await;
    assert_eq!(second["pointsToBurn"], 80, "what was promised is not there twice: {second}");
    assert_eq!(redeem("O-3").await["canRedeem"], false);
    assert_eq!(bridge.post("/cancel", &json!({ "holdId": second["holdId"] })).await.0, 201);
    assert_eq!(redeem("O-3").await["pointsToBurn"], 80);
    let mut stranger = quote("redeem", "O-4");
    stranger["userToken"] = json!("C-43");
    assert_eq!(bridge.post("/quote", &stranger).await.1["canRedeem"], false);
    assert_eq!(bridge.post("/quote", &quote("earn", "O-4")).await.1["canEarn"], false);

    let sale = json!({ "holdId": first["holdId"], "orderId": "O-1" });
    assert_eq!(bridge.post("/commit", &sale).await.0, 202);
    assert_eq!(bridge.post("/cancel", &json!({ "holdId": first["holdId"] })).await.0, 409);
    hub.state.lock().redeem_applied_max = 50;
    hub.listen().await;
    let troubled = bridge.troubled(1).await;
    let reason = troubled[0]["reason"].as_str().unwrap();
    assert!(reason.contains("120") && reason.contains("70 is the shop's loss"), "{reason}");
    let id = troubled[0]["id"].as_str().unwrap();
    let retried = bridge.run(&["queue", "retry", id]);
    assert!(retried.code == 1 && retried.err.contains("done at the hub"), "{retried:?}");
    assert_eq!(bridge.run(&["queue", "drop", id]).code, 0);
    assert_eq!(hub.state.lock().committed["O-1"], 1);
}

#[tokio::test]
async fn a_promise_that_the_hub_does_not_keep_is_put_before_a_person() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "[offline]\nquotes = 'earn'").await;
    hub.stop().await;
    let hold = bridge.post("/quote", &quote("earn", "O-1")).await.1["holdId"].clone();
    assert_eq!(bridge.post("/commit", &json!({ "holdId": hold, "orderId": "O-1" })).await.0, 202);
    hub.mood(Mood::Says(
        201,
        "",
        json!({ "canEarn": false, "pointsToEarn": 0, "message": "Дневной лимит начислений исчерпан." }),
    ));
    hub.listen().await;
    let troubled = bridge.troubled(1).await;
    let reason = troubled[0]["reason"].as_str().unwrap();
    assert!(reason.contains("50 points were promised") && reason.contains("Дневной лимит"), "{reason}");
    assert!(hub.seen("/loyalty/commit").is_empty());
}

#[tokio::test]
async fn a_hold_of_the_hub_is_cancelled_there_when_the_line_is_back_but_not_behind_its_commit() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    assert_eq!(bridge.post("/cancel", &json!({ "holdId": "h-O-1" })).await.0, 409);
    assert_eq!(bridge.post("/cancel", &json!({ "holdId": "h-O-2" })).await.0, 202);
    hub.listen().await;
    bridge.drained().await;
    assert_eq!(hub.state.lock().cancelled, ["h-O-2"]);
}
