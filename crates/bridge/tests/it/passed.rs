//! With the line up: what goes to the hub and what comes back.

use std::time::Duration;

use serde_json::json;

use crate::{
    hub::{Hub, Mood},
    world::{Bridge, commit, quote, until},
};

#[tokio::test]
async fn a_quote_is_signed_in_canonical_form_and_answered_byte_for_byte() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "staff_key = 'stf_1'\nlanguage = 'uz'").await;
    let till = r#"{"outletId":null,"orderId":"Заказ №7","unknown":[1],"total":1000.9,"userToken":"C-42","eligibleTotal":1000,"mode":"Redeem"}"#;
    let (status, answer) = bridge.post_with("/quote", &[], till).await;
    assert_eq!((status, answer["pointsToBurn"].clone()), (201, json!(500)));
    let seen = hub.last();
    assert_eq!(
        seen.body,
        r#"{"mode":"redeem","merchantId":"M-1","userToken":"C-42","orderId":"Заказ №7","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#
    );
    assert_eq!(seen.headers["x-staff-key"], "stf_1");
    assert_eq!(seen.headers["accept-language"], "uz");
    assert!(seen.headers["x-request-id"].starts_with("req_"));
    assert!(!seen.headers.contains_key("idempotency-key"));

    // What the till says itself goes before the settings; bytes of the answer are not touched.
    let odd = json!({ "canEarn": false, "message": "нет" });
    hub.mood(Mood::Says(201, "retry-after: 7", odd.clone()));
    let headers = [("x-staff-key", "stf_2"), ("accept-language", "en"), ("x-request-id", "req_k1")];
    let response = bridge
        .web
        .post(format!("{}/loyalty/quote", bridge.url()))
        .headers(headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
        .body(quote("earn", "O-1").to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(response.headers()["retry-after"], "7");
    assert_eq!(response.text().await.unwrap(), odd.to_string());
    let seen = hub.last();
    for (name, value) in headers {
        assert_eq!(seen.headers[name], value);
    }
}

#[tokio::test]
async fn refusals_of_the_hub_reach_the_till_as_they_are_and_are_not_kept() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    for status in [400, 403, 404, 409, 422] {
        let error = json!({ "statusCode": status, "message": "Hold already finished" });
        hub.mood(Mood::Says(status, "", error.clone()));
        for (path, body) in [
            ("/quote", quote("earn", "O-1")),
            ("/commit", commit("O-1")),
            ("/refund", json!({ "orderId": "O-1", "refundTotal": 5 })),
            ("/cancel", json!({ "holdId": "h" })),
            ("/qr", json!({ "customerId": "C-42" })),
        ] {
            assert_eq!(bridge.post(path, &body).await, (status, error.clone()), "{path}");
        }
    }
    let status = bridge.get("/queue/status").await;
    assert_eq!((status["waiting"].clone(), status["person"].clone()), (json!(0), json!(0)));
}

#[tokio::test]
async fn keys_can_stand_in_a_header_whatever_the_order_is_called() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    let key = || hub.last().headers["idempotency-key"].clone();
    assert_eq!(bridge.post("/commit", &commit("Заказ №7")).await.0, 201);
    assert_eq!(key(), "commit:M-1:%D0%97%D0%B0%D0%BA%D0%B0%D0%B7%20%E2%84%967:h-%D0%97%D0%B0%D0%BA%D0%B0%D0%B7%20%E2%84%967");
    assert_eq!(bridge.post("/commit", &commit(&"я".repeat(400))).await.0, 201);
    assert!(key().starts_with("commit:sha256:"), "{}", key());
    bridge.post_with("/commit", &[("idempotency-key", "my-own")], commit("O-2").to_string()).await;
    assert_eq!(key(), "my-own");
    bridge.post_with("/commit", &[("idempotency-key", "ключ")], commit("O-3").to_string()).await;
    assert_eq!(key(), "%D0%BA%D0%BB%D1%8E%D1%87");
}

#[tokio::test]
async fn two_refunds_of_one_sum_both_count_and_a_named_one_counts_once() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "").await;
    let refund = json!({ "orderId": "O-1", "refundTotal": 250 });
    // At the same moment, in the same second: the hub must see two calls.
    let (one, two) = tokio::join!(bridge.post("/refund", &refund), bridge.post("/refund", &refund));
    assert_eq!((one.0, two.0), (201, 201));
    let named = json!({ "orderId": "O-1", "refundTotal": 250, "refundId": "check-7" });
    for _ in 0..3 {
        assert_eq!(bridge.post("/refund", &named).await.0, 201);
    }
    assert_eq!(hub.state.lock().refunded["O-1"], [250, 250, 250]);
    assert_eq!(hub.last().body, r#"{"merchantId":"M-1","orderId":"O-1","refundTotal":250}"#);
    assert_eq!(hub.last().headers["idempotency-key"], "refund:M-1:O-1:check-7");
}

#[tokio::test]
async fn the_next_secret_is_tried_where_the_hub_refuses_the_first() {
    let hub = Hub::start().await;
    let mut bridge = Bridge::new(&hub, "");
    bridge.set(&hub.url(), "secret = 'brg_test_secret_0001'\nnext_secret = 'brg_test_secret_0002'", "");
    bridge.start().await;
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 201);
    hub.state.lock().secret = "brg_test_secret_0002".into();
    assert_eq!(bridge.post("/commit", &commit("O-2")).await.0, 201);
    assert_eq!(hub.seen("/loyalty/commit").len(), 3);
    // From now on it is the first to be tried.
    assert_eq!(bridge.post("/commit", &commit("O-3")).await.0, 201);
    assert_eq!(hub.seen("/loyalty/commit").len(), 4);
    assert_eq!(bridge.get("/health").await["hub"]["usesNextSecret"], true);
    hub.state.lock().secret = "another".into();
    let (status, answer) = bridge.post("/commit", &commit("O-4")).await;
    assert_eq!((status, answer["message"].clone()), (401, json!("Invalid bridge signature")));
}

#[tokio::test]
async fn a_clock_that_is_off_is_noticed_and_calls_are_signed_by_the_hubs() {
    let hub = Hub::start().await;
    hub.state.lock().clock_offset_s = 5 * 3600;
    let bridge = Bridge::started(&hub, "").await;
    assert_eq!(bridge.post("/commit", &commit("O-1")).await.0, 201);
    assert_eq!(hub.seen("/loyalty/commit").len(), 2);
    assert_eq!(bridge.post("/commit", &commit("O-2")).await.0, 201);
    assert_eq!(hub.seen("/loyalty/commit").len(), 3);
    let offset = bridge.get("/health").await["hub"]["clockOffsetSeconds"].as_i64().unwrap();
    assert!((offset - 18_000).abs() <= 2, "{offset}");
}

#[tokio::test]
async fn a_till_that_hangs_up_does_not_cut_its_call_in_two() {
    let hub = Hub::start().await;
    let bridge = Bridge::started(&hub, "commit_timeout_ms = 600").await;
    hub.mood(Mood::Slow(Duration::from_secs(20)));
    let asked = bridge.web.post(format!("{}/refund", bridge.url())).timeout(Duration::from_millis(200));
    let refund = json!({ "orderId": "O-1", "refundTotal": 250, "refundId": "r-1" });
    assert!(asked.body(refund.to_string()).send().await.is_err());
    until("the call to be kept", async || bridge.get("/queue/status").await["waiting"] == 1).await;
    hub.mood(Mood::Well);
    bridge.drained().await;
    assert_eq!(bridge.post("/refund", &refund).await.0, 201);
    assert_eq!(hub.state.lock().refunded["O-1"], [250]);
}
