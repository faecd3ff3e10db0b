//! The rules of each provider that a hub is most likely to get wrong.

mod stage;

use serde_json::{Value, json};
use stage::{Hub, client, json_of, start};

async fn sms(url: &str, form: &[(&str, &str)]) -> Value {
    let call = client().post(format!("{url}/smsru/sms/send")).form(form);
    json_of(call).await
}

#[tokio::test]
async fn smsru_says_ok_above_a_refused_number() {
    let sandbox = start().await;
    let to = "+79990001122,84993221627,+998901234567";
    let form = [("api_id", "k"), ("json", "1"), ("to", to), ("msg", "Привет")];
    let answer = sms(&sandbox.url(), &form).await;
    assert_eq!(answer["status_code"], 100);
    assert_eq!(answer["sms"]["79990001122"]["sms_id"], "202647-1000001");
    assert_eq!(answer["sms"]["74993221627"]["status_code"], 207);
    assert_eq!(answer["sms"]["998901234567"]["status_code"], 214);
}

#[tokio::test]
async fn smsru_refuses_keys_long_texts_and_repeats() {
    let sandbox = start().await;
    let url = sandbox.url();
    let wrong = sms(&url, &[("api_id", "wrong"), ("json", "1")]).await;
    assert_eq!(wrong["status_code"], 200);
    let long = "я".repeat(8 * 67 + 1);
    let form = [("api_id", "k"), ("json", "1"), ("to", "9990001122"), ("text", &long)];
    assert_eq!(sms(&url, &form).await["sms"]["79990001122"]["status_code"], 205);
    let settings = client().put(format!("{url}/_sandbox/smsru/settings"));
    json_of(settings.json(&json!({"duplicate_guard": true}))).await;
    let form = [("api_id", "k"), ("json", "1"), ("to[79990001122]", "Привет")];
    assert_eq!(sms(&url, &form).await["sms"]["79990001122"]["status_code"], 100);
    assert_eq!(sms(&url, &form).await["sms"]["79990001122"]["status_code"], 231);
}

#[tokio::test]
async fn smsru_answers_lines_without_json() {
    let sandbox = start().await;
    let query = "api_id=k&to=79990001122,74993221627&msg=Hi";
    let call = client().get(format!("{}/smsru/sms/send?{query}", sandbox.url()));
    let text = call.send().await.expect("answers").text().await.expect("a body");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["100", "202647-1000001", "207"]);
    assert!(lines[3].starts_with("balance="));
}

/// The dossier's worked vector: the same items and key must give the same hash.
#[tokio::test]
async fn smsru_signs_its_callbacks() {
    let sandbox = start().await;
    let (hub, url) = (Hub::start("100").await, sandbox.url());
    let form = [("api_id", "k"), ("json", "1"), ("to", "79990001122"), ("msg", "Hi")];
    sms(&url, &form).await;
    let send = client().post(format!("{url}/_sandbox/smsru/send/callback"));
    let sent = json_of(send.json(&json!({"url": hub.url(), "api_id": "secret"}))).await;
    assert_eq!(sent["body"], "100");
    let got = hub.last();
    let body = got.split("\r\n\r\n").nth(1).expect("a body");
    let (data, hash) = body.split_once("&hash=").expect("a hash");
    let item = data.strip_prefix("data%5B0%5D=").expect("an item").replace("%0A", "\n");
    assert!(item.starts_with("sms_status\n202647-1000001\n103\n"), "{item}");
    let expected = <sha2::Sha256 as sha2::Digest>::digest(format!("secret{item}"));
    assert_eq!(hash, hex::encode(expected));
}

async fn iiko(url: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let call = client().post(format!("{url}/iiko{path}")).bearer_auth(token);
    let answer = call.json(body).send().await.expect("answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

const CAFE: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

#[tokio::test]
async fn iiko_takes_a_body_encoded_twice_and_forgets_tokens() {
    let sandbox = start().await;
    let url = sandbox.url();
    let twice = json!("{\"apiLogin\": \"demo\"}");
    let (status, body) = iiko(&url, "/api/1/access_token", "", &twice).await;
    assert_eq!(status, 200);
    let token = body["token"].as_str().expect("a token").to_owned();
    assert_eq!(iiko(&url, "/api/1/organizations", &token, &json!({})).await.0, 200);
    let faults = client().put(format!("{url}/_sandbox/iiko/faults"));
    json_of(faults.json(&json!({"kind": "token_expiry"}))).await;
    assert_eq!(iiko(&url, "/api/1/organizations", &token, &json!({})).await.0, 401);
    let (status, body) = iiko(&url, "/api/1/organizations", &token, &json!({})).await;
    assert_eq!(status, 401);
    assert!(body["errorDescription"].is_string());
}

#[tokio::test]
async fn the_iiko_feed_begins_after_its_revision_and_reaches_back_three_hours() {
    let sandbox = start().await;
    let url = sandbox.url();
    let token = iiko(&url, "/api/1/access_token", "", &json!({"apiLogin": "demo"})).await.1;
    let token = token["token"].as_str().expect("a token").to_owned();
    let now = jiff::Timestamp::now().as_millisecond();
    let orders = json!([{"id": "a", "timestamp": now - 1000}, {"id": "b", "timestamp": now}]);
    json_of(client().put(format!("{url}/_sandbox/iiko/orders")).json(&orders)).await;
    let feed = |start: i64| json!({"startRevision": start, "organizationIds": [CAFE]});
    let path = "/api/1/deliveries/by_revision";
    let (status, body) = iiko(&url, path, &token, &feed(now - 1000)).await;
    assert_eq!((status, &body["maxRevision"]), (200, &json!(now)));
    let found = body["ordersByOrganizations"][0]["orders"].as_array().expect("orders");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["id"], "b");
    assert_eq!(iiko(&url, path, &token, &feed(now - 4 * 3600 * 1000)).await.0, 400);
    let plural = json!({"organizationIds": [CAFE], "orderIds": ["a"]});
    assert_eq!(iiko(&url, "/api/1/deliveries/by_id", &token, &plural).await.0, 400);
}

async fn oauth(url: &str, grant: &str, field: &str, value: &str) -> (u16, Value) {
    let body = json!({
        "client_id": "c", "client_secret": "s", "redirect_uri": "https://hub.example/oauth",
        "grant_type": grant, field: value,
    });
    let call = client().post(format!("{url}/amocrm/oauth2/access_token"));
    let answer = call.json(&body).send().await.expect("answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[tokio::test]
async fn a_refresh_token_works_once() {
    let sandbox = start().await;
    let url = sandbox.url();
    let (status, first) = oauth(&url, "authorization_code", "code", "def1").await;
    assert_eq!(status, 200);
    let refresh = first["refresh_token"].as_str().expect("a token");
    let (status, second) = oauth(&url, "refresh_token", "refresh_token", refresh).await;
    assert_eq!(status, 200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let (status, body) = oauth(&url, "refresh_token", "refresh_token", refresh).await;
    assert_eq!((status, &body["hint"]), (401, &json!("Token has been revoked")));
}

#[tokio::test]
async fn amocrm_shows_contacts_only_when_asked_and_204_for_nothing() {
    let sandbox = start().await;
    let get = |path: &str| {
        let call = client().get(format!("{}/amocrm/api/v4/{path}", sandbox.url()));
        call.bearer_auth("long-lived")
    };
    let lead = json_of(get("leads/40331001?with=contacts,tags")).await;
    assert_eq!(lead["_embedded"]["contacts"][0]["id"], 52_171_001);
    assert!(json_of(get("leads/40331001")).await["_embedded"]["contacts"].is_null());
    assert_eq!(get("contacts/1").send().await.expect("answers").status(), 204);
    let found = json_of(get("contacts?query=79990004401")).await;
    assert_eq!(found["_embedded"]["contacts"][0]["id"], 52_171_001);
    let other = client().get(format!("{}/amocrm/api/v4/account", sandbox.url()));
    assert_eq!(other.send().await.expect("answers").status(), 401);
}

/// The dossier's worked vector.
#[tokio::test]
async fn amocrm_signs_the_disable_hook() {
    let sandbox = start().await;
    let hub = Hub::start("ok").await;
    let send = client().post(format!("{}/_sandbox/amocrm/send/disable_hook", sandbox.url()));
    let body = json!({
        "url": hub.url(), "client_uuid": "5e1f2a3b-0000-4000-8000-00000000c1d0",
        "client_secret": "cs_example_amo_1",
    });
    json_of(send.json(&body)).await;
    let case = uzel_sandbox::case("amocrm", "disable_hook").expect("is listed");
    assert!(hub.last().starts_with(&format!("GET /hook?{} ", case.query)), "{}", hub.last());
}

#[tokio::test]
async fn yclients_wants_both_tokens_in_one_header() {
    let sandbox = start().await;
    let get = |token: &str, path: &str| {
        let call = client().get(format!("{}/yclients/api/v1/{path}", sandbox.url()));
        let call = call.header("accept", "application/vnd.yclients.v2+json");
        call.header("authorization", token)
    };
    let partner = "Bearer ptok";
    let refused = get(partner, "records/4564").send().await.expect("answers");
    assert_eq!(refused.status(), 401);
    let login = client()
        .post(format!("{}/yclients/api/v1/auth?login=7999&password=x", sandbox.url()))
        .header("accept", "application/vnd.yclients.v2+json")
        .header("authorization", partner);
    let user = json_of(login).await["data"]["user_token"].clone();
    let both = format!("{partner}, User {}", user.as_str().expect("a token"));
    let page = json_of(get(&both, "records/4564?changed_after=2026-09-14T11:50:00")).await;
    assert_eq!(page["meta"]["total_count"], 2);
    let later = json_of(get(&both, "records/4564?changed_after=2026-09-15T00:00:00")).await;
    assert_eq!(later["data"], json!([]));
    let client = json_of(get(&both, "client/4564/3301")).await;
    assert_eq!(client["data"]["phone"], 79_990_003_301_i64);
    assert_eq!(get(&both, "record/4564/1").send().await.expect("answers").status(), 404);
}

/// The dossier's worked vector.
#[tokio::test]
async fn yclients_signs_the_redirect_over_the_decoded_bytes() {
    let sandbox = start().await;
    let hub = Hub::start("ok").await;
    let send = client().post(format!("{}/_sandbox/yclients/send/marketplace_install_redirect", sandbox.url()));
    json_of(send.json(&json!({"url": hub.url()}))).await;
    let sign = "167575a051a1fa13d370b8e6963cb4419fdd4ffca02c7336f217f72387b8c64a";
    assert!(hub.last().contains(&format!("user_data_sign={sign}")));
}

#[tokio::test]
async fn yclients_replaces_the_webhook_addresses_and_takes_ten() {
    let sandbox = start().await;
    let url = format!("{}/yclients/api/v1/hooks_settings/4564", sandbox.url());
    let call = |request: reqwest::RequestBuilder| {
        let request = request.header("accept", "application/vnd.yclients.v2+json");
        request.header("authorization", "Bearer ptok, User utok_example")
    };
    let post = |urls: Vec<String>| call(client().post(&url)).json(&json!({"urls": urls, "active": true}));
    let many = (0..11).map(|number| format!("https://hub.example/{number}")).collect();
    assert_eq!(post(many).send().await.expect("answers").status(), 422);
    for address in ["https://one.example", "https://two.example"] {
        assert_eq!(post(vec![address.to_owned()]).send().await.expect("answers").status(), 201);
    }
    let settings = json_of(call(client().get(&url))).await;
    assert_eq!(settings["data"]["urls"], json!(["https://two.example"]));
    assert_eq!(settings["data"]["active"], 1);
}

#[tokio::test]
async fn amocrm_refuses_the_eighth_call_of_a_second_when_told_to() {
    let sandbox = start().await;
    let settings = client().put(format!("{}/_sandbox/amocrm/settings", sandbox.url()));
    json_of(settings.json(&json!({"limit_per_second": 7}))).await;
    let mut statuses = Vec::new();
    let client = client();
    for _ in 0..8 {
        let call = client.get(format!("{}/amocrm/api/v4/account", sandbox.url()));
        let answer = call.bearer_auth("long-lived").send().await.expect("answers");
        statuses.push(answer.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 429]);
}

async fn mail(url: &str, key: &str, body: &Value) -> (u16, Value, String) {
    let call = client().post(format!("{url}/resend/emails")).bearer_auth("re_1").header("idempotency-key", key);
    let answer = call.json(body).send().await.expect("answers");
    let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert!(answer.headers().contains_key("ratelimit-limit") && answer.headers().contains_key("ratelimit-reset"));
    (answer.status().as_u16(), answer.json().await.expect("JSON"), wait)
}

fn letter(to: &str) -> Value {
    json!({"from": "Shop <a@example.com>", "to": [to], "subject": "S", "text": "T"})
}

#[tokio::test]
async fn resend_knows_a_key_for_a_day_and_refuses_another_body_under_it() {
    let sandbox = start().await;
    let url = sandbox.url();
    let (status, first, _) = mail(&url, "k", &letter("a@example.com")).await;
    assert_eq!(status, 200);
    assert_eq!(mail(&url, "k", &letter("a@example.com")).await.1, first);
    let (status, other, _) = mail(&url, "k", &letter("b@example.com")).await;
    assert_eq!((status, &other["name"]), (409, &json!("invalid_idempotent_request")));
    let age = json!({"aged_ms": 24 * 3_600_000});
    json_of(client().put(format!("{url}/_sandbox/resend/settings")).json(&age)).await;
    let (status, again, _) = mail(&url, "k", &letter("a@example.com")).await;
    assert!(status == 200 && again != first, "a second mail");
    // What was refused is not remembered.
    let mut wrong = letter("a@example.com");
    wrong["subject"] = json!("");
    assert_eq!(mail(&url, "l", &wrong).await.1["name"], "missing_required_field");
    assert_eq!(mail(&url, "l", &letter("a@example.com")).await.0, 200);
    assert_eq!(mail(&url, &"k".repeat(257), &letter("a@example.com")).await.1["name"], "invalid_idempotency_key");
}

#[tokio::test]
async fn resend_counts_calls_of_a_second_and_mails_of_a_day() {
    let sandbox = start().await;
    let url = sandbox.url();
    let set = async |settings: Value| {
        json_of(client().put(format!("{url}/_sandbox/resend/settings")).json(&settings)).await;
    };
    set(json!({"per_second": 2})).await;
    let mut statuses = Vec::new();
    for key in ["1", "2", "3"] {
        let (status, _, wait) = mail(&url, key, &letter("a@example.com")).await;
        statuses.push((status, wait));
    }
    assert_eq!(statuses, [(200, String::new()), (200, String::new()), (429, "1".to_owned())]);
    set(json!({"per_second": null, "daily_quota": 2})).await;
    assert_eq!(mail(&url, "4", &letter("a@example.com")).await.1["name"], "daily_quota_exceeded");
}

/// The vector of the dossier is in the fixtures; here the signature is made anew by another program's rule.
#[tokio::test]
async fn resend_signs_its_webhooks_and_gives_tags_back_as_an_object() {
    let sandbox = start().await;
    let (hub, url) = (Hub::start("{}").await, sandbox.url());
    let mut body = letter("bounced@resend.dev");
    body["tags"] = json!([{"name": "kind", "value": "receipt"}]);
    let (_, sent, _) = mail(&url, "k", &body).await;
    let send = client().post(format!("{url}/_sandbox/resend/send/webhook"));
    json_of(send.json(&json!({"url": hub.url(), "event": "bounced"}))).await;
    let got = hub.last();
    let (head, body) = got.split_once("\r\n\r\n").expect("a body");
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    assert!(header("svix-id").starts_with("msg_") && header("svix-signature").starts_with("v1,"), "{head}");
    let told: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&told["type"], &told["data"]["email_id"]), (&json!("email.bounced"), &sent["id"]));
    assert_eq!(told["data"]["tags"], json!({"kind": "receipt"}));
    let shown =
        json_of(client().get(format!("{url}/resend/emails/{}", sent["id"].as_str().expect("an id"))).bearer_auth("re_1")).await;
    assert_eq!(shown["last_event"], "bounced");
}
