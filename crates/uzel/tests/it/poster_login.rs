//! How the hub comes by Poster's token: the owner's browser, the application's webhook; and how it loses it.

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::{Value, json};

use crate::{
    poster::{TOKEN, holds, order, set_up, told},
    world::{World, until},
};

/// A hub whose connection has no token yet.
async fn world() -> World {
    let world = World::reachable().await;
    set_up(&world, json!({ "settings": { "access_token": null } })).await;
    world
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Opens the page that begins a login; gives where it leads, and the browser's cookie.
async fn begin(world: &World) -> (String, String) {
    let (status, answer) = world.ask("/api/v1/connections/till/login", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let answer = browser().get(answer["url"].as_str().unwrap()).send().await.unwrap();
    let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
    (header(LOCATION), header(SET_COOKIE).split(';').next().unwrap().to_owned())
}

/// The owner allows it at Poster: where Poster sends the browser.
async fn allow(page: &str) -> String {
    browser().get(page).send().await.unwrap().headers()[LOCATION].to_str().unwrap().to_owned()
}

async fn come_back(url: &str, cookie: &str) -> u16 {
    browser().get(url).header(COOKIE, cookie).send().await.unwrap().status().as_u16()
}

/// Whether the connection's token is good: an order is asked for, and told.
async fn works(world: &World) {
    holds(world, &[order(16776, json!({}))]).await;
    assert_eq!(told(world, json!({})).await["status"], 200);
    world.in_time("the order", async || world.texts().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_allows_access_in_a_browser_and_no_state_comes_back() {
    let world = world().await;
    let (page, cookie) = begin(&world).await;
    let back = allow(&page).await;
    assert!(!back.contains("state="), "{back}");
    assert_eq!(come_back(&back, "uzel_login=another").await, 400, "another browser");
    assert_eq!(come_back(&back, &cookie).await, 200);
    assert_eq!(come_back(&back, &cookie).await, 400, "it was used");
    works(&world).await;
    let tokens = world.calls("poster", "/api/dash.getTransaction").await;
    assert!(!world.newest("poster").await.to_string().contains("700001:"), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_took_too_long_or_is_of_another_account_gives_nothing() {
    let world = world().await;
    let (page, cookie) = begin(&world).await;
    let back = allow(&page).await;
    world.pass(21);
    assert_eq!(come_back(&back, &cookie).await, 400, "it took too long");
    for account in ["other-cafe", "evil.example%2F", ""] {
        let (page, cookie) = begin(&world).await;
        let back = allow(&page).await.replace("account=demo-cafe", &format!("account={account}"));
        assert_eq!(come_back(&back, &cookie).await, 502, "{account}");
    }
    assert_eq!(world.shown("poster/summary").await["exchanges"], 0, "no code was given away");
}

/// What Poster sends when the owner connects or removes the application.
fn application(action: &str, more: Value) -> Value {
    let mut options = json!({ "object": "application", "object_id": 1234, "action": action });
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_poster_hands_over_is_kept_and_never_journalled() {
    let world = world().await;
    let data = json!({ "user_id": "4", "access_token": TOKEN });
    // Nothing of this is ours: unsigned, another application, another account, long ago.
    assert_eq!(told(&world, application("added", json!({ "data": data, "verify": "0" }))).await["status"], 401);
    for more in [
        json!({ "data": data, "object_id": 99 }),
        json!({ "data": data, "account": "other-cafe" }),
        json!({ "data": data, "time": "1760000000" }),
    ] {
        assert_eq!(told(&world, application("added", more)).await["status"], 200);
    }
    let doctor = async || world.api("/api/v1/connections/till/health").await;
    assert_eq!(doctor().await["healthy"], false, "there is no token yet");
    assert_eq!(told(&world, application("added", json!({ "data": data }))).await["status"], 200);
    assert_eq!(doctor().await["healthy"], true, "{}", doctor().await);
    works(&world).await;
    for row in world.api("/api/v1/journal?provider=poster&limit=1000").await.as_array().unwrap() {
        let whole = world.api(&format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap())).await;
        assert!(!whole.to_string().contains("5d41402abc4b2a76b9719d911017c592"), "{whole}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_removed_ends_the_login_and_an_old_removal_does_not() {
    let world = world().await;
    told(&world, application("added", json!({ "data": { "user_id": "4", "access_token": TOKEN } }))).await;
    works(&world).await;
    told(&world, application("removed", json!({ "time": "1760000000" }))).await;
    told(&world, application("removed", json!({ "object_id": 99 }))).await;
    world.quiet().await;
    assert_eq!(world.notices("disconnected").await.len(), 0);
    told(&world, application("removed", json!({}))).await;
    until("the notice", async || world.notices("disconnected").await.len() == 1).await;
    world.quiet().await;
    assert_eq!(world.api("/api/v1/connections/till/health").await["healthy"], false);
}
