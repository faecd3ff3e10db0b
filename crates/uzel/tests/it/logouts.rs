//! Logins that last: begun in a browser, renewed, and ended by the provider.

use serde_json::{Value, json};
use uzel_engine::setup::Leniency;

use crate::world::{World, setup, until};

const CLIENT: &str = "5e1f2a3b-0000-4000-8000-00000000c1d0";

async fn token_calls(world: &World) -> usize {
    let url = format!("{}/_sandbox/amocrm/calls", world.sandbox.url());
    let calls: Vec<Value> = world.web.get(url).send().await.unwrap().json().await.unwrap();
    calls.iter().filter(|call| call["path"].as_str().unwrap().contains("/oauth2/")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_the_provider_ended_is_forgotten_and_not_tried_again() {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][3]["settings"] = json!({ "base_url": format!("{}/amocrm", world.sandbox.url()),
        "client_id": CLIENT, "client_secret": "cs_example_amo_1" });
    world.hub.apply(&setup, Leniency { short_keys: true }).await.unwrap();

    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let start = format!("{}/oauth/amocrm/start?connection=amocrm", world.hub.url());
    let start = browser.get(start).bearer_auth(world.hub.owner_key().unwrap()).send().await.unwrap();
    let window = reqwest::Url::parse(start.headers()["location"].to_str().unwrap()).unwrap();
    let state = window.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let back = format!("{}/oauth/amocrm/callback?code=c1&referer=example.amocrm.ru&state={state}", world.hub.url());
    assert_eq!(browser.get(&back).send().await.unwrap().status(), 200);
    assert_eq!(browser.get(&back).send().await.unwrap().status(), 400, "a state works once");

    let won = |id: u32| json!({ "leads": { "status": [{ "id": id, "status_id": 142 }] }, "account": { "id": 9931001 } });
    world.post("amocrm", &won(40331001)).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1, "the login works");
    let calls = token_calls(&world).await;

    let case = json!({ "url": format!("{}/hooks/amocrm", world.hub.url()), "options": { "client_uuid": CLIENT, "client_secret": "cs_example_amo_1" } });
    let sent =
        world.web.post(format!("{}/_sandbox/amocrm/send/disable_hook", world.sandbox.url())).json(&case).send().await.unwrap();
    assert!(sent.status().is_success(), "{}", sent.text().await.unwrap());
    until("the notice", async || world.api("/api/v1/notices").await.to_string().contains("disconnected")).await;

    world.post("amocrm", &won(40331002)).await;
    let waits = async || {
        let rows = world.api("/api/v1/journal").await.to_string();
        world.commands("waiting").await == 1 && rows.contains("connections login")
            || world.api("/api/v1/notices").await.to_string().contains("connections login")
    };
    until("the look-up to say that a person must log in", waits).await;
    assert_eq!(token_calls(&world).await, calls, "a dead login is not tried");
}
