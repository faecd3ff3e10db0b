//! With the line down: what is kept, and how it is sent when the line is back.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    hub::{Hub, Mood},
    world::{Bridge, commit, quote, until},
};

#[tokio::test]
async fn what_is_sold_while_the_line_is_down_is_sent_once_and_in_order() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    let refund = |sum: u64| json!({ "orderId": "O-1", "refundTotal": sum });
    let mut ids = Vec::new();
    for (path, body) in [
        ("/commit", commit("O-1")),
        ("/refund", refund(100)),
        ("/refund", refund(100)),
        ("/commit", commit("Заказ №2")),
        ("/cancel", json!({ "holdId": "h-3" })),
    ] {
        let (status, answer) = bridge.post(path, &body).await;
        assert_eq!((status, answer["queued"].clone()), (202, json!(true)), "{path}: {answer}");
        let reason = answer["reason"].as_str().unwrap();
        assert!(reason.contains("not reached") || reason.contains("an earlier call of this order"), "{answer}");
        ids.push(answer["id"].clone());
    }
    // A repeat gets the same answer, a refund without a name of its own is another one.
    let (status, answer) = bridge.post("/commit", &commit("O-1")).await;
    assert_eq!((status, answer["id"].clone()), (202, ids[0].clone()));
    assert_ne!(ids[1], ids[2]);
    let mut other = commit("O-1");
    other["receiptNumber"] = json!("R-16");
    assert_eq!(bridge.post("/commit", &other).await.0, 422);
    let status = bridge.get("/queue/status").await;
    assert_eq!((status["waiting"].clone(), status["person"].clone()), (json!(5), json!(0)), "{status}");
    assert_eq!(bridge.get("/ready").await["ready"], true);

    hub.listen().await;
    bridge.drained().await;
    let state = hub.state.lock();
    assert_eq!(state.committed.values().copied().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(state.refunded["O-1"], [100, 100]);
    assert_eq!(state.cancelled, ["h-3"]);
    let paths: Vec<&str> = state.seen.iter().filter(|seen| seen.body.contains("O-1")).map(|seen| seen.path.as_str()).collect();
    assert_eq!(paths, ["/loyalty/commit", "/loyalty/refund", "/loyalty/refund"]);
    assert!(state.seen.iter().any(|call| call.body == r#"{"holdId":"h-3","merchantId":"M-1"}"#));
    // The bytes and the key are those of a call with the line up.
    let first = state.seen.iter().find(|call| call.body.contains("O-1")).unwrap();
    assert_eq!(first.body, r#"{"merchantId":"M-1","holdId":"h-O-1","orderId":"O-1","receiptNumber":"R-15"}"#);
    assert_eq!(first.headers["idempotency-key"], "commit:M-1:O-1:h-O-1");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_under_the_same_key() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    for mood in [Mood::Lost, Mood::Cut, Mood::Garbage, Mood::Page(200), Mood::Page(403), Mood::Page(502), Mood::Redirect] {
        let name = format!("{mood:?}");
        hub.mood(mood);
        let (status, answer) = bridge.post("/commit", &commit(&name)).await;
        assert_eq!((status, answer["queued"].clone()), (202, json!(true)), "{name}: {answer}");
        hub.mood(Mood::Well);
        bridge.drained().await;
        assert_eq!(hub.state.lock().committed[&name], 1, "{name}");
        // The hub's own answer, now that it has one.
        let (status, answer) = bridge.post("/commit", &commit(&name)).await;
        assert_eq!((status, answer["receiptId"].clone()), (201, json!(format!("r-{name}"))));
        assert_eq!(hub.state.lock().committed[&name], 1, "{name}");
    }
}

#[tokio::test]
async fn an_answer_in_the_contracts_form_but_without_its_ok_settles_nothing() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    for (status, odd) in [(200, json!({})), (201, json!({ "ok": false })), (200, json!([])), (200, json!(null))] {
        hub.mood(Mood::Says(status, "", odd.clone()));
        assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202, "{odd}");
    }
    hub.mood(Mood::Well);
    bridge.drained().await;
    assert_eq!(hub.state.lock().committed["O-1"], 1);
}

#[tokio::test]
async fn a_hub_that_is_slow_or_asks_to_wait_gets_the_call_later() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "commit_timeout_ms = 300").await;
    hub.mood(Mood::Slow(Duration::from_secs(2)));
    let (status, answer) = bridge.post("/commit", &commit("slow")).await;
    assert_eq!(status, 202);
    assert!(answer["reason"].as_str().unwrap().contains("300 ms"), "{answer}");
    for status in [429, 500, 503] {
        hub.mood(Mood::Says(status, "retry-after: 600", json!({ "statusCode": status, "message": "later" })));
        let (kept, answer) = bridge.post("/commit", &commit(&status.to_string())).await;
        assert_eq!(kept, 202);
        assert!(answer["reason"].as_str().unwrap().contains(&status.to_string()), "{answer}");
    }
    hub.mood(Mood::Says(409, "retry-after: 1", json!({ "status": 409, "detail": "it is being carried out" })));
    assert_eq!(bridge.post("/commit", &commit("409")).await.0, 202);
    hub.mood(Mood::Well);
    bridge.drained().await;
    assert!(hub.state.lock().committed.values().all(|times| *times == 1));
    assert_eq!(hub.state.lock().committed.len(), 5);
}

#[tokio::test]
async fn one_order_that_fails_alone_holds_no_other_back() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    for order in ["O-1", "O-2", "O-3"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
    }
    hub.mood(Mood::Says(500, "", json!({ "statusCode": 500, "message": "a fault of this call" })));
    hub.listen().await;
    bridge.post("/queue/flush", &json!({})).await;
    until("each to be tried", async || {
        let seen = hub.seen("/loyalty/commit");
        ["O-1", "O-2", "O-3"].iter().all(|order| seen.iter().any(|call| call.body.contains(order)))
    })
    .await;
}

#[tokio::test]
async fn a_live_call_wakes_what_waits() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.mood(Mood::Says(503, "retry-after: 600", json!({ "statusCode": 503 })));
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    until("the sender to rest", async || bridge.log().contains("is tried again")).await;
    hub.mood(Mood::Well);
    assert_eq!(bridge.post("/quote", &quote("earn", "O-2")).await.0, 201);
    until("what waited to be sent", async || hub.state.lock().committed.contains_key("O-1")).await;
}

#[tokio::test]
async fn a_line_that_fails_is_not_asked_without_end() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.mood(Mood::Says(503, "", json!({ "statusCode": 503 })));
    for order in ["O-1", "O-2", "O-3"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let calls = hub.seen("/loyalty/commit").len();
    assert!(calls <= 6, "{calls} calls in a second and a half");
}

#[tokio::test]
async fn the_hub_is_not_asked_again_before_it_wants() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.mood(Mood::Says(503, "retry-after: 600", json!({ "statusCode": 503 })));
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    until("the sender to rest", async || bridge.log().contains("is tried again")).await;
    tokio::time::sleep(Duration::from_millis(2_000)).await;
    // Once for the till, and once more.
    assert_eq!(hub.seen("/loyalty/commit").len(), 2, "{}", bridge.log());
}

#[tokio::test]
async fn a_buyer_who_bought_too_often_holds_no_other_back() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    for order in ["O-1", "O-2"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
    }
    hub.mood(Mood::Says(429, "", json!({ "statusCode": 429, "message": "Антифрод" })));
    hub.listen().await;
    // Within the first pauses of one call, which double, the other one has its turn.
    until("both to be tried", async || {
        let seen = hub.seen("/loyalty/commit");
        ["O-1", "O-2"].iter().all(|order| seen.iter().any(|call| call.body.contains(order)))
    })
    .await;
}

#[tokio::test]
async fn with_the_line_up_again_a_refund_still_goes_behind_the_commit_that_waits() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.mood(Mood::Says(500, "retry-after: 600", json!({ "statusCode": 500 })));
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    until("the sender to put it off", async || bridge.log().contains("is tried again")).await;
    hub.mood(Mood::Well);
    let (status, answer) = bridge.post("/refund", &json!({ "orderId": "O-1", "refundTotal": 5 })).await;
    assert_eq!((status, answer["reason"].clone()), (202, json!("an earlier call of this order waits")));
    assert_eq!(bridge.post("/commit", &commit("O-2")).await.0, 201);
    bridge.drained().await;
    let paths: Vec<String> =
        hub.state.lock().seen.iter().filter(|call| call.body.contains("O-1")).map(|call| call.path.clone()).collect();
    assert!(paths.ends_with(&["/loyalty/commit".into(), "/loyalty/refund".into()]), "{paths:?}");
    assert_eq!(hub.state.lock().refunded["O-1"], [5]);
}

#[tokio::test]
async fn a_kept_cancellation_of_what_is_gone_is_done() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    assert_eq!(bridge.post("/cancel", &json!({ "holdId": "h" })).await.0, 202);
    hub.mood(Mood::Says(409, "", json!({ "statusCode": 409, "message": "Hold already finished" })));
    hub.listen().await;
    bridge.drained().await;
    assert_eq!(bridge.get("/queue/status").await["person"], 0);
}

#[tokio::test]
async fn what_the_hub_refuses_later_is_put_before_a_person_and_never_sent_again_by_itself() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    let gone = json!({ "orderId": "O-1", "holdId": "gone" });
    assert_eq!(bridge.post("/commit", &gone).await.0, 202);
    assert_eq!(bridge.post("/refund", &json!({ "orderId": "O-1", "refundTotal": 5 })).await.0, 202);
    assert_eq!(bridge.post("/refund", &json!({ "orderId": "no-points", "refundTotal": 5 })).await.0, 202);
    assert_eq!(bridge.post("/commit", &commit("O-2")).await.0, 202);
    hub.listen().await;
    let troubled = bridge.troubled(1).await;
    assert_eq!(troubled[0]["status"], 400);
    assert_eq!(troubled[0]["reason"], "the hub refused the commit: Hold not found");
    until("the others to be sent", async || hub.state.lock().committed.contains_key("O-2")).await;
    // The refund waits: once a person tries the commit again, points would be left that should be taken back.
    let list = bridge.get("/queue/list").await;
    let refund = list["items"].as_array().unwrap().iter().find(|item| item["call"] == "refund").unwrap();
    assert_eq!((refund["state"].clone(), refund["behind"].clone()), (json!("waiting"), json!(true)));
    bridge.post("/queue/flush", &json!({})).await;
    let commits = hub.seen("/loyalty/commit").iter().filter(|call| call.body.contains("gone")).count();
    assert_eq!(commits, 1);

    // A till cannot touch it; a person can.
    let id = troubled[0]["id"].as_str().unwrap();
    assert_eq!(bridge.post(&format!("/queue/{id}/drop"), &json!({})).await.0, 403);
    let retried = bridge.run(&["queue", "retry", id]);
    assert_eq!(retried.code, 0, "{retried:?}");
    bridge.troubled(1).await;
    assert_eq!(hub.seen("/loyalty/commit").iter().filter(|call| call.body.contains("gone")).count(), 2);
    let dropped = bridge.run(&["queue", "drop", id]);
    assert_eq!(dropped.code, 0, "{dropped:?}");
    bridge.drained().await;
    assert_eq!(hub.state.lock().refunded["O-1"], [5]);
    assert_eq!(bridge.get("/queue/status").await["person"], 0);
    assert_eq!(bridge.run(&["queue", "drop", id]).code, 1);
}

#[tokio::test]
async fn a_wrong_secret_loses_nothing_and_all_is_tried_again_when_it_is_right() {
    let mut hub = Hub::start().await;
    let mut bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    for order in ["O-1", "O-2", "O-3"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
    }
    hub.state.lock().secret = "brg_test_secret_0002".into();
    hub.listen().await;
    let troubled = bridge.troubled(3).await;
    assert!(troubled.iter().all(|item| item["status"] == 401), "{troubled:?}");
    bridge.kill();
    bridge.set(&hub.url(), "secret = 'brg_test_secret_0002'", "");
    // Without a running bridge the command opens the queue itself.
    let retried = bridge.run(&["queue", "retry", "all", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&retried.out).unwrap()["count"], 3, "{retried:?}");
    bridge.start().await;
    bridge.drained().await;
    assert_eq!(hub.state.lock().committed.len(), 3);
}

#[tokio::test]
async fn the_tills_own_success_takes_a_call_off_the_list() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    hub.stop().await;
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202);
    hub.mood(Mood::Says(409, "", json!({ "statusCode": 409, "message": "Hold already finished" })));
    hub.listen().await;
    bridge.troubled(1).await;
    hub.mood(Mood::Well);
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 201);
    assert_eq!(bridge.get("/queue/status").await["person"], 0);
}

#[tokio::test]
async fn a_full_queue_says_so_and_keeps_what_it_has() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "queue_records_max = 2").await;
    hub.stop().await;
    for order in ["O-1", "O-2"] {
        assert_eq!(bridge.post("/commit", &commit(order)).await.0, 202);
    }
    let (status, answer) = bridge.post("/commit", &commit("O-3")).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("Nothing was kept"), "{answer}");
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 202, "what is kept is still known");
    assert_eq!(bridge.get("/ready").await["ready"], false);
    hub.listen().await;
    bridge.drained().await;
    assert_eq!(hub.state.lock().committed.len(), 2);
    assert_eq!(bridge.post("/commit", &commit("O-3")).await.0, 201);
}

#[tokio::test]
async fn points_that_are_gone_when_a_kept_commit_comes_are_shown_as_a_loss() {
    let mut hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    let answer = bridge.post("/quote", &quote("redeem", "O-1")).await.1;
    assert_eq!(answer["discountToApply"], 500);
    hub.stop().await;
    assert_eq!(bridge.post("/commit", &json!({ "holdId": answer["holdId"], "orderId": "O-1" })).await.0, 202);
    hub.state.lock().redeem_applied_max = 300;
    hub.listen().await;
    let troubled = bridge.troubled(1).await;
    assert!(troubled[0]["reason"].as_str().unwrap().contains("200 is the shop's loss"), "{troubled:?}");
    assert_eq!(hub.state.lock().committed["O-1"], 1);
}
