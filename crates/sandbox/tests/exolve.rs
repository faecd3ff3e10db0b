//! Exolve's stand-in takes the requests that were recorded, answers as was recorded, and refuses what their service refuses. There is
//! no public client that could be run against it.

mod stage;

use serde_json::{Value, json};
use stage::{client, json_of, start};

async fn call(url: &str, method: &str, key: &str, body: &str) -> (u16, String) {
    let post = client().post(format!("{url}/exolvesms/messaging/v1/{method}")).bearer_auth(key);
    let answer = post.header("content-type", "application/json").body(body.to_owned()).send().await.expect("answers");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

async fn take(url: &str, method: &str, body: &str) -> Value {
    let (status, text) = call(url, method, "k", body).await;
    assert_eq!(status, 200, "{method} {body}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

async fn set(url: &str, what: &str, body: &Value) {
    json_of(client().put(format!("{url}/_sandbox/exolvesms/{what}")).json(body)).await;
}

fn names(value: &Value) -> Vec<&String> {
    value.as_object().expect("an object").keys().collect()
}

#[tokio::test]
async fn what_was_recorded_is_taken_and_answered_alike() {
    let sandbox = start().await;
    let url = sandbox.url();
    let recorded: Value = serde_json::from_str(include_str!("../samples/exolvesms/sendsms_response.json")).expect("JSON");
    assert_eq!(take(&url, "SendSMS", include_str!("../samples/exolvesms/sendsms_request.json")).await, recorded);
    take(&url, "SendSMS", include_str!("../samples/exolvesms/sendsms_request_alpha_template.json")).await;

    let recorded: Value = serde_json::from_str(include_str!("../samples/exolvesms/getlist_response.json")).expect("JSON");
    set(&url, "settings", &json!({"delivered_after_ms": 0})).await;
    let found = take(&url, "GetList", include_str!("../samples/exolvesms/getlist_request_one.json")).await;
    let (row, wanted) = (&found["messages"][0], &recorded["messages"][0]);
    assert_eq!(names(row), names(wanted));
    for name in ["message_id", "sender", "receiver", "text", "direction", "delivery_status", "status", "billing_status"] {
        assert_eq!(row[name], wanted[name], "{name}");
    }
    let none = take(&url, "GetList", include_str!("../samples/exolvesms/getlist_request.json")).await;
    assert_eq!(none, json!({"messages": []}), "that was in another year");
    assert_eq!(take(&url, "GetCount", r#"{"direction":[2]}"#).await, json!({"count": "2"}));
    let second = take(&url, "GetList", r#"{"limit":1,"offset":1}"#).await;
    assert_eq!(second["messages"][0]["sender"], "Kofeynya");
}

#[tokio::test]
async fn what_their_service_refuses_is_refused_in_any_of_four_shapes() {
    let sandbox = start().await;
    let url = sandbox.url();
    let message = |number: &str, destination: &str, text: &str| {
        json!({"number": number, "destination": destination, "text": text}).to_string()
    };
    set(&url, "settings", &json!({"not_permitted": ["79990009900"]})).await;
    for (body, words) in [
        (message("79580001122", "+79990001122", "x"), "incorrect number format"),
        (message("79580001122", "89990001122", "x"), "incorrect number format"),
        (message("79580001122", "79990009900", "x"), "destination is not permitted for delivery"),
        (message("79580001122", "79990001122", ""), "SendSMSRequest.Text: value length must be at least 1 bytes"),
        (message("", "79990001122", "x"), "SendSMSRequest.Number: value length"),
        (message("74951234567", "79990001122", "x"), "number is not permitted"),
        (json!({"number": 79_580_001_122_i64, "destination": "79990001122", "text": "x"}).to_string(), "SendSMSRequest.Number"),
        ("<html>".to_owned(), "proto: syntax error"),
    ] {
        for shape in ["nested", "flat", "message", "plain"] {
            set(&url, "settings", &json!({"error_shape": shape})).await;
            let (status, text) = call(&url, "SendSMS", "k", &body).await;
            assert!(status == 400 && text.contains(words), "{shape} {body}: {status} {text}");
            let told: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let at = match shape {
                "nested" => &told["error"]["message"],
                "flat" => &told["error"],
                "message" => &told["message"],
                _ => continue,
            };
            assert!(at.as_str().is_some_and(|text| text.contains(words)), "{shape}: {told}");
        }
    }
    set(&url, "settings", &json!({"confirmed": "79990001122"})).await;
    let trial = call(&url, "SendSMS", "k", &message("79580001122", "79990001123", "x")).await;
    assert!(trial.1.contains("customer has not signed"), "{trial:?}");
    for (key, wanted) in [("", 401), ("wrong", 401), ("forbidden", 403)] {
        assert_eq!(call(&url, "GetList", key, "{}").await.0, wanted, "{key}");
    }
    assert_eq!(call(&url, "SendSms", "k", "{}").await, (404, "404 page not found".to_owned()));
    for body in [
        r#"{"direction":2}"#,
        r#"{"date_from":"2026-11-22T06:00:00Z"}"#,
        r#"{"limit":2001}"#,
        r#"{"date_gte":"yesterday"}"#,
        "[]",
    ] {
        assert_eq!(call(&url, "GetList", "k", body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn whatsapp_takes_the_assumed_body_and_knows_its_templates() {
    let sandbox = start().await;
    let url = format!("{}/whatsappexolve/send", sandbox.url());
    let post = async |body: Value| {
        let answer = client().post(&url).bearer_auth("k").json(&body).send().await.expect("answers");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let template = |name: &str| json!({"name": name, "language": "ru", "components": []});
    let to = |rest: Value| {
        let mut body = json!({"sender_id": "S1", "destination": "79990001122"});
        body.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
        body
    };
    assert_eq!(post(to(json!({"text": "Hi"}))).await, (200, json!({"message_id": "77000001"})));
    assert_eq!(post(to(json!({"template": template("review_request")}))).await.0, 200);
    for body in [
        to(json!({"template": template("wrong")})),
        to(json!({"template": {"name": "review_request"}})),
        to(json!({"text": ""})),
        to(json!({"sender_id": "", "text": "Hi"})),
        to(json!({"destination": "+79990001122", "text": "Hi"})),
        json!([]),
    ] {
        assert_eq!(post(body.clone()).await.0, 400, "{body}");
    }
}
