//! Logins in a browser: code and state work once, for one connection, in one browser, and no key stands in a URL.

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};
use uzel_engine::setup::Leniency;

use crate::world::{World, anywhere};

/// A hub with an amoCRM connection that wants a login, and a client that follows no redirects.
async fn world() -> (World, reqwest::Client) {
    let world = World::tuned(|settings| {
        settings.public_url = Some(format!("http://{}", anywhere()));
    })
    .await;
    let amocrm = json!({
        "merchant": "m", "slug": "crm", "provider": "amocrm",
        "settings": { "base_url": format!("{}/amocrm", world.sandbox.url()), "client_id": "c-0000", "client_secret": "s-0000" }
    });
    world.hub.apply(&json!({ "connection": [amocrm] }), Leniency { short_keys: true }).await.unwrap();
    let browser = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    (world, browser)
}

/// The URL's path and query, at the hub's real address.
async fn begin(world: &World, connection: &str) -> (u16, String) {
    let url = format!("{}/api/v1/connections/{connection}/login", world.hub.url());
    let answer = world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let url = body["url"].as_str().unwrap_or_default().to_owned();
    (status, url.find("/oauth").map_or(String::new(), |at| format!("{}{}", world.hub.url(), &url[at..])))
}

fn state_of(answer: &reqwest::Response) -> String {
    let location = reqwest::Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap();
    location.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_opens_the_start_page_once_and_the_state_comes_back_once_in_the_same_browser() {
    let (world, browser) = world().await;
    let (status, start) = begin(&world, "crm").await;
    assert_eq!(status, 200);
    assert!(!start.contains(&world.hub.owner_key().unwrap()));
    let opened = browser.get(&start).send().await.unwrap();
    assert_eq!(opened.status(), 302);
    assert_eq!(browser.get(&start).send().await.unwrap().status(), 400, "a code works once");

    let cookie = opened.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let back = format!("{}/oauth/amocrm/callback?state={}&code=def1&referer=evil.example", world.hub.url(), state_of(&opened));
    let answer = browser.get(&back).header(COOKIE, cookie).send().await.unwrap();
    assert_eq!(answer.status(), 502, "the state was good, the provider's host is judged by the connector");
    assert_eq!(browser.get(&back).header(COOKIE, cookie).send().await.unwrap().status(), 400, "a state works once");

    let opened = browser.get(begin(&world, "crm").await.1).send().await.unwrap();
    let cookie = opened.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let back = format!("{}/oauth/amocrm/callback?state={}&code=def1&referer=shop.amocrm.ru", world.hub.url(), state_of(&opened));
    let answer = browser.get(&back).header(COOKIE, cookie).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());

    let opened = browser.get(begin(&world, "crm").await.1).send().await.unwrap();
    let back = format!("{}/oauth/amocrm/callback?state={}&code=def1", world.hub.url(), state_of(&opened));
    let elsewhere = browser.get(&back).send().await.unwrap().text().await.unwrap();
    assert!(elsewhere.contains("another browser"), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_bound_to_its_connection_and_a_key_in_the_url_opens_nothing() {
    let (world, browser) = world().await;
    let key = world.hub.owner_key().unwrap();
    let by_url = format!("{}/oauth/amocrm/start?connection=crm&api_key={key}", world.hub.url());
    assert_eq!(browser.get(by_url).send().await.unwrap().status(), 400);
    let by_header = format!("{}/oauth/amocrm/start?connection=crm", world.hub.url());
    assert_eq!(browser.get(&by_header).send().await.unwrap().status(), 401);
    assert_eq!(browser.get(&by_header).bearer_auth(&key).send().await.unwrap().status(), 302);
    // A code of amoCRM's connection is none of another provider's.
    let (_, start) = begin(&world, "crm").await;
    assert_eq!(browser.get(start.replace("/oauth/amocrm", "/oauth/yclients")).send().await.unwrap().status(), 404);
    assert_eq!(begin(&world, "rkeeper").await.0, 400, "no login is wanted there");
}
