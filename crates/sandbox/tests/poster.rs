//! Poster's rules that a hub is most likely to get wrong: refusals with HTTP 200 in five shapes, codes that work once, days of the
//! account's zone.

mod stage;

use serde_json::{Value, json};
use stage::{Hub, client, json_of, start};

const TOKEN: &str = "700001:5d41402abc4b2a76b9719d911017c592";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn get(url: &str, query: &str) -> Value {
    json_of(client().get(format!("{url}/poster/api/{query}"))).await
}

#[tokio::test]
async fn poster_refuses_with_http_200_in_five_shapes() {
    let sandbox = start().await;
    let url = sandbox.url();
    assert_eq!(get(&url, "access.getSpots").await["error"]["code"], 10);
    assert_eq!(get(&url, "access.getSpots?token=700001:0").await["error"]["code"], 11);
    assert_eq!(get(&url, &format!("incomingOrders.getIncomingOrder?incoming_order_id=9&token={TOKEN}")).await["response"], false);
    assert_eq!(get(&url, &format!("dash.getTransaction?transaction_id=9&token={TOKEN}")).await["response"], json!([]));
    let remove = client().post(format!("{url}/poster/api/transactions.removeTransaction?token={TOKEN}"));
    assert_eq!(json_of(remove.form(&[("transaction_id", "9")])).await["response"]["err_code"], 42);
    let manage = |verify: &str| {
        let form = json!({"application_id": "1234", "application_secret": SECRET, "code": "c0ffee00c0ffee00c0ffee00c0ffee00", "verify": verify});
        json_of(client().post(format!("{url}/poster/api/v2/auth/manage")).json(&form))
    };
    assert_eq!((manage("0").await["error"].clone(), manage("").await["field"].clone()), (json!(142), json!("verify")));
    // The vector of the documents.
    let granted = manage("6eb5c7373cae2f0b9160cc8a384723ab").await;
    let token = granted["access_token"].as_str().expect("a token");
    assert_eq!(get(&url, &format!("access.getSpots?token={token}")).await["response"][0]["spot_id"], "1");
}

#[tokio::test]
async fn poster_takes_a_code_once_from_a_multipart_form_with_the_address_it_was_sent_to() {
    let sandbox = start().await;
    let url = sandbox.url();
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let code = async || {
        let query = "application_id=1234&response_type=code&redirect_uri=http://hub.example/back";
        let answer = browser.get(format!("{url}/poster/api/auth?{query}")).send().await.expect("answers");
        let back = answer.headers()["location"].to_str().expect("text").to_owned();
        assert!(back.starts_with("http://hub.example/back?code=") && back.ends_with("&account=demo-cafe"), "{back}");
        back["http://hub.example/back?code=".len()..].split('&').next().expect("a code").to_owned()
    };
    let trade = async |code: &str, redirect: &str| {
        let fields = [
            ("application_id", "1234"),
            ("application_secret", SECRET),
            ("grant_type", "authorization_code"),
            ("redirect_uri", redirect),
            ("code", code),
        ];
        let part =
            |(name, value): &(&str, &str)| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        let body = format!("{}--b--\r\n", fields.iter().map(part).collect::<String>());
        let call = client().post(format!("{url}/poster/api/v2/auth/access_token"));
        json_of(call.header("content-type", "multipart/form-data; boundary=b").body(body)).await
    };
    let first = code().await;
    assert_eq!(trade(&first, "http://other.example/back").await["error_type"], "OAuthException");
    assert_eq!(trade(&first, "http://hub.example/back").await["error_type"], "OAuthException", "it was used");
    let granted = trade(&code().await, "http://hub.example/back").await;
    assert_eq!(granted["account_number"], "700001");
    let form = client().post(format!("{url}/poster/api/v2/auth/access_token")).form(&[("code", "x")]);
    assert_eq!(json_of(form).await["error_type"], "OAuthException", "no other form is taken");
}

#[tokio::test]
async fn poster_tells_orders_of_days_in_the_accounts_zone_of_three_days_at_the_most() {
    let sandbox = start().await;
    let url = sandbox.url();
    let asked = async |first: &str, last: &str| {
        get(&url, &format!("dash.getTransactions?dateFrom={first}&dateTo={last}&token={TOKEN}")).await
    };
    // The sample's order was closed at 08:53:20 UTC of 9 October.
    assert_eq!(asked("20251009", "20251009").await["response"][0]["transaction_id"], "16776");
    assert_eq!(asked("20251010", "20251012").await["response"], json!([]));
    assert_eq!(asked("20251007", "20251010").await["error"]["code"], 52);
    assert_eq!(asked("2025-10-07", "20251010").await["error"]["code"], 155);
    let pages = get(&url, &format!("transactions.getTransactions?token={TOKEN}")).await;
    assert_eq!(pages["response"]["data"][0]["payed_sum"], 2750, "a number here");
}

#[tokio::test]
async fn poster_signs_what_it_sends() {
    let sandbox = start().await;
    let (hub, url) = (Hub::start("{}").await, sandbox.url());
    let send = async |options: Value| {
        let mut options = options;
        options["url"] = json!(hub.url());
        json_of(client().post(format!("{url}/_sandbox/poster/send/webhook")).json(&options)).await;
        let got = hub.last();
        serde_json::from_str::<Value>(got.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
    };
    // Vectors that npm's `joinposter-api` confirms.
    let closed = send(json!({"time": "1760000000"})).await;
    assert_eq!(closed["verify"], "38d4cf3993d89f2e0d184b30f9bd6a8c");
    let incoming =
        json!({"object": "incoming_order", "object_id": 7, "action": "added", "time": "1760000000", "data": {"type": 1}});
    let incoming = send(incoming).await;
    assert_eq!((&incoming["verify"], &incoming["data"]), (&json!("f5b824f6e6c570990fb8291411c4df46"), &json!("{\"type\":1}")));
}
