//! The control and the faults, over real connections.

mod stage;

use serde_json::{Value, json};
use stage::{Hub, client, json_of, start};

#[tokio::test]
async fn calls_are_listed_newest_last() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    for path in ["auth/check?api_id=k&json=1", "my/balance?api_id=k&json=1"] {
        client.get(format!("{url}/smsru/{path}")).send().await.expect("answers");
    }
    let calls = json_of(client.get(format!("{url}/_sandbox/smsru/calls"))).await;
    assert_eq!(calls[0]["path"], "/auth/check");
    assert_eq!(calls[1]["path"], "/my/balance");
    assert_eq!(calls[1]["query"], json!({"api_id": "k", "json": "1"}));
    assert_eq!(calls[1]["status"], 200);
    let later = json_of(client.get(format!("{url}/_sandbox/smsru/calls?since=1"))).await;
    assert_eq!(later.as_array().map(Vec::len), Some(1));
}

async fn send(client: &reqwest::Client, url: &str) -> Result<Value, reqwest::Error> {
    let form = "api_id=k&json=1&to=79990001122&msg=Hi";
    let request = client.post(format!("{url}/smsru/sms/send")).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.send().await?.json().await
}

async fn accepted(client: &reqwest::Client, url: &str) -> Value {
    json_of(client.get(format!("{url}/_sandbox/smsru/summary"))).await["accepted"].clone()
}

#[tokio::test]
async fn a_cut_before_the_work_loses_the_message_and_one_after_keeps_it() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    let faults = json!([{"kind": "cut_before"}, {"kind": "cut_after", "path": "/sms/send"}]);
    json_of(client.put(format!("{url}/_sandbox/smsru/faults")).json(&faults)).await;
    assert!(send(&client, &url).await.is_err());
    assert_eq!(accepted(&client, &url).await, 0);
    assert!(send(&client, &url).await.is_err());
    assert_eq!(accepted(&client, &url).await, 1);
    assert!(send(&client, &url).await.is_ok());
    let calls = json_of(client.get(format!("{url}/_sandbox/smsru/calls"))).await;
    let statuses: Vec<&Value> = (0..3).map(|index| &calls[index]["status"]).collect();
    assert_eq!(statuses, [0, 0, 200]);
}

#[tokio::test]
async fn garbage_and_a_status_leave_the_work_undone() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    let faults = json!([{"kind": "garbage"}, {"kind": "status", "status": 503, "retry_after": 7}]);
    json_of(client.put(format!("{url}/_sandbox/smsru/faults")).json(&faults)).await;
    assert!(send(&client, &url).await.is_err_and(|error| error.is_decode()));
    let answer = client.get(format!("{url}/smsru/sms/send?api_id=k&to=79990001122&msg=x"));
    let answer = answer.send().await.expect("answers");
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert_eq!(accepted(&client, &url).await, 0);
}

#[tokio::test]
async fn without_recording_calls_are_still_counted() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    let settings = client.put(format!("{url}/_sandbox/smsru/settings"));
    let settings = json_of(settings.json(&json!({"record": false}))).await;
    assert_eq!(settings["record"], false);
    send(&client, &url).await.expect("answers");
    let calls = json_of(client.get(format!("{url}/_sandbox/smsru/calls"))).await;
    assert_eq!(calls, json!([]));
    let summary = json_of(client.get(format!("{url}/_sandbox/smsru/summary"))).await;
    assert_eq!((&summary["calls"], &summary["accepted"]), (&json!(1), &json!(1)));
    assert_eq!(summary["by_phone"]["79990001122"], 1);
}

#[tokio::test]
async fn a_setting_that_does_not_exist_is_refused() {
    let sandbox = start().await;
    let url = format!("{}/_sandbox/iiko/settings", sandbox.url());
    let answer = client().put(url).json(&json!({"tokenseconds": 1})).send().await;
    assert_eq!(answer.expect("answers").status(), 400);
}

#[tokio::test]
async fn every_case_can_be_sent() {
    let sandbox = start().await;
    let hub = Hub::start("ok").await;
    let client = client();
    for info in uzel_sandbox::CASES {
        // These tell of accepted messages, and there are none; or are signed at the moment of their sending.
        if matches!(
            (info.provider, info.name),
            (_, "callback") | ("resend" | "poster" | "evotor", "webhook") | (_, "proxied" | "private")
        ) {
            continue;
        }
        let url = format!("{}/_sandbox/{}/send/{}", sandbox.url(), info.provider, info.name);
        let sent = json_of(client.post(url).json(&json!({"url": hub.url()}))).await;
        assert_eq!(sent["status"], 200, "{} {}: {sent}", info.provider, info.name);
        assert_eq!(sent["body"], "ok");
        let case = uzel_sandbox::case(info.provider, info.name).expect("is listed");
        let got = hub.last();
        let body = String::from_utf8(case.body).expect("is text");
        // What can be chosen in an update is put into the sample, which is then printed anew.
        let printed = got.rsplit("\n").next().and_then(|got| serde_json::from_str::<Value>(got).ok());
        let is_same =
            got.ends_with(&body) || printed.is_some_and(|got| serde_json::from_str::<Value>(&body).is_ok_and(|body| body == got));
        assert!(is_same, "{} {}: {got}", info.provider, info.name);
        assert!(got.starts_with(&case.method));
    }
}

#[tokio::test]
async fn texts_are_replaced_in_forms_too() {
    let sandbox = start().await;
    let hub = Hub::start("ok").await;
    let url = format!("{}/_sandbox/amocrm/send/webhook_contact_update", sandbox.url());
    let replace = json!({"+7 (999) 000-44-01": "+7 (999) 111-22-33"});
    let body = json!({"url": hub.url(), "replace": replace});
    json_of(client().post(url).json(&body)).await;
    assert!(hub.last().contains("111-22-33"), "{}", hub.last());
}

#[tokio::test]
async fn late_answers_are_late_only_for_the_calls_asked_for() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    let fault = json!({"kind": "latency", "latency_ms": 300, "calls": 1, "path": "/sms/"});
    json_of(client.put(format!("{url}/_sandbox/smsru/faults")).json(&fault)).await;
    let balance = client.get(format!("{url}/smsru/my/balance?api_id=k&json=1"));
    json_of(balance).await;
    let begin = std::time::Instant::now();
    send(&client, &url).await.expect("answers");
    assert!(begin.elapsed().as_millis() >= 300);
    let left = json_of(client.get(format!("{url}/_sandbox/smsru/faults"))).await;
    assert_eq!(left, json!([]));
}

#[tokio::test]
async fn a_caller_who_does_not_wait_for_a_late_answer_has_sent_all_the_same() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    let fault = json!({"kind": "latency", "latency_ms": 60_000});
    json_of(client.put(format!("{url}/_sandbox/smsru/faults")).json(&fault)).await;
    let call = send(&client, &url);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), call).await.is_err());
    assert_eq!(accepted(&client, &url).await, 1);
}

#[tokio::test]
async fn a_reset_goes_back_to_the_start() {
    let sandbox = start().await;
    let (client, url) = (client(), sandbox.url());
    send(&client, &url).await.expect("answers");
    let fault = json!({"kind": "garbage", "for_ms": 60_000});
    json_of(client.put(format!("{url}/_sandbox/smsru/faults")).json(&fault)).await;
    let reset = client.delete(format!("{url}/_sandbox/smsru")).send().await.expect("answers");
    assert_eq!(reset.status(), 204);
    assert_eq!(accepted(&client, &url).await, 0);
    let sent = send(&client, &url).await.expect("answers");
    assert_eq!(sent["sms"]["79990001122"]["sms_id"], "202647-1000001");
}
