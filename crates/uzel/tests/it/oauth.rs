//! A login that begins with a person in a browser, end to end against the stand-in, and its end by the disable hook.

use serde_json::{Value, json};
use uzel_model::{Id, id::Kind};
use uzel_store::{KeyRow, Setup};

use crate::world::{KEY, World, setup};

const CLIENT: &str = "5e1f2a3b-0000-4000-8000-00000000c1d0";
const SECRET: &str = "secret-of-the-integration";
pub(crate) const HOST: &str = "example.amocrm.ru";

/// A hub whose amoCRM connection waits for a login.
async fn waiting_for_login() -> World {
    let world = World::reachable().await;
    let sandbox = world.sandbox.url();
    let mut setup = setup(&sandbox, &json!({}));
    setup["connection"][3]["settings"] = settings(&sandbox);
    world.apply(&setup).await;
    world
}

/// The same after its login.
pub(crate) async fn authorized() -> World {
    let world = waiting_for_login().await;
    log_in(&world, "the-code").await;
    world
}

pub(crate) async fn log_in(world: &World, code: &str) {
    log_in_at(&world.hub.url(), &world.hub.owner_key().unwrap(), code).await;
}

/// The same at a hub of which only the address and the key are known.
pub(crate) async fn log_in_at(hub: &str, key: &str, code: &str) {
    let state = begin_at(hub, key).await;
    let answer = come_back_to(hub, "amocrm", &state, code, HOST).await;
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
}

/// The settings of a connection that waits for a login.
pub(crate) fn settings(sandbox: &str) -> Value {
    json!({ "base_url": format!("{sandbox}/amocrm"), "oauth_url": format!("{sandbox}/amocrm/oauth"), "host": HOST,
        "client_id": CLIENT, "client_secret": SECRET })
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

pub(crate) async fn start(hub: &str, connection: &str, key: &str) -> reqwest::Response {
    let url = format!("{hub}/oauth/amocrm/start?connection={connection}");
    browser().get(url).bearer_auth(key).send().await.unwrap()
}

async fn begin(world: &World) -> String {
    begin_at(&world.hub.url(), &world.hub.owner_key().unwrap()).await
}

/// Begins a login and gives the state that the browser is sent away with.
pub(crate) async fn begin_at(hub: &str, key: &str) -> String {
    let answer = start(hub, "amocrm", key).await;
    assert_eq!(answer.status(), 302);
    let target: reqwest::Url = answer.headers()["location"].to_str().unwrap().parse().unwrap();
    assert!(target.query_pairs().any(|(name, value)| name == "client_id" && value == CLIENT));
    target.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned()
}

pub(crate) async fn come_back(world: &World, provider: &str, state: &str, code: &str, referer: &str) -> reqwest::Response {
    come_back_to(&world.hub.url(), provider, state, code, referer).await
}

/// What amoCRM sends the browser back with.
async fn come_back_to(hub: &str, provider: &str, state: &str, code: &str, referer: &str) -> reqwest::Response {
    let query = [("code", code), ("state", state), ("referer", referer), ("client_id", CLIENT), ("platform", "1")];
    browser().get(format!("{hub}/oauth/{provider}/callback")).query(&query).send().await.unwrap()
}

/// Puts a won deal and its contact beside those the stand-in has.
pub(crate) async fn deal(world: &World, id: u32) {
    let kept = async |what: &str, item: Value| {
        let mut all = world.shown(&format!("amocrm/{what}")).await;
        all.as_array_mut().unwrap().push(item);
        world.control(&format!("amocrm/{what}"), &all).await;
    };
    kept("leads", json!({ "id": id, "status_id": 142, "_embedded": { "contacts": [{ "id": id, "is_main": true }] } })).await;
    let values = json!([{ "value": format!("+7999444{id:04}"), "enum_code": "MOB" }]);
    kept("contacts", json!({ "id": id, "name": "Анна", "custom_fields_values": [{ "field_code": "PHONE", "values": values }] }))
        .await;
}

/// Tells that a deal was won, as amoCRM does: without a phone.
pub(crate) async fn won(world: &World, id: u32) {
    won_at(world, &world.hub.url(), id).await;
}

/// The same told to another node.
pub(crate) async fn won_at(world: &World, hub: &str, id: u32) {
    let body = format!("leads[status][0][id]={id}&leads[status][0][status_id]=142&account[id]=1");
    let url = format!("{hub}/api/webhook/amocrm?key={KEY}");
    let form = "application/x-www-form-urlencoded";
    assert_eq!(world.web.post(url).header("content-type", form).body(body).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_browser_gives_a_session_that_look_ups_work_with() {
    let world = authorized().await;
    let trade = world.calls("amocrm", "/oauth2/access_token").await;
    let body: Value = serde_json::from_str(trade[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["redirect_uri"], format!("{}/oauth/amocrm/callback", world.hub.url()));
    assert_eq!((trade.len(), &body["code"]), (1, &json!("the-code")));
    deal(&world, 9001).await;
    won(&world, 9001).await;
    world.quiet().await;
    assert_eq!(world.texts().await, [("79994449001".to_owned(), "Анна: Кафе".to_owned())]);
    // Neither the tokens nor the secret stand in the journal or lie open in the file.
    let whole = world.newest("amocrm").await.to_string();
    let files = ["uzel.db", "uzel.db-wal"].map(|name| std::fs::read(world.data().join(name)).unwrap()).concat();
    let lies_open =
        |secret: &str| whole.contains(secret) || files.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!lies_open(SECRET) && !lies_open("the-code") && !lies_open("def50200"));
    let token = world.calls("amocrm", "/api/v4/").await[0]["headers"]["authorization"].as_str().unwrap().to_owned();
    assert!(!lies_open(token.strip_prefix("Bearer ").unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_works_once_and_only_for_the_connection_that_it_was_made_for() {
    let world = waiting_for_login().await;
    for state in ["", "a-state-that-nobody-made"] {
        assert_eq!(come_back(&world, "amocrm", state, "code", HOST).await.status(), 400, "{state}");
    }
    let state = begin(&world).await;
    assert_eq!(come_back(&world, "amocrm", &state, "code-1", HOST).await.status(), 200);
    assert_eq!(come_back(&world, "amocrm", &state, "code-2", HOST).await.status(), 400, "it was used");

    let state = begin(&world).await;
    assert_eq!(come_back(&world, "yclients", &state, "code-3", HOST).await.status(), 404, "it is another provider's");

    let state = begin(&world).await;
    world.pass(21);
    assert_eq!(come_back(&world, "amocrm", &state, "code-4", HOST).await.status(), 400, "it took too long");
    assert_eq!(world.shown("amocrm/summary").await["exchanges"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_not_given_to_a_host_that_is_not_the_accounts() {
    let world = waiting_for_login().await;
    for referer in [
        "",
        "evil.example",
        "other.amocrm.ru",
        "example.amocrm.ru:8080",
        "example.amocrm.ru.evil.example",
        "127.0.0.1",
        "me@example.amocrm.ru",
    ] {
        let state = begin(&world).await;
        assert_eq!(come_back(&world, "amocrm", &state, "code", referer).await.status(), 502, "{referer}");
        assert_eq!(
            come_back(&world, "amocrm", &state, "code", HOST).await.status(),
            400,
            "a failed login begins anew: {referer}"
        );
    }
    let state = begin(&world).await;
    let refusal = [("error", "access_denied"), ("state", &state), ("referer", HOST)];
    let answer = browser().get(format!("{}/oauth/amocrm/callback", world.hub.url())).query(&refusal).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(world.shown("amocrm/summary").await["calls"], 0, "nobody was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_begun_only_by_a_key_that_may_touch_the_connection() {
    let world = waiting_for_login().await;
    world.apply(&json!({ "merchant": [{ "slug": "other" }] })).await;
    let engine = &world.hub.engine;
    let key = |slug: &str, key: &str| {
        let of = engine.world().merchant(slug);
        KeyRow {
            hash: engine.vault.key_hash("api", key),
            id: Id::new(Kind::Key).to_string(),
            of,
            about: "owner".to_owned(),
            webhook: false,
            label: String::new(),
            made_at: engine.clock.now(),
            expires_at: None,
            last_used_at: None,
        }
    };
    let keys = vec![key("other", "key-of-the-other-merchant"), key("m", "key-of-this-merchant")];
    engine.store.put_setup(Setup { keys, ..Setup::default() }).await.unwrap();
    engine.reload().await.unwrap();
    assert_eq!(start(&world.hub.url(), "amocrm", "no-such-key").await.status(), 401);
    assert_eq!(start(&world.hub.url(), "amocrm", "key-of-the-other-merchant").await.status(), 404);
    assert_eq!(start(&world.hub.url(), "amocrm", "key-of-this-merchant").await.status(), 302);
    assert_eq!(
        start(&world.hub.url(), "yclients", "key-of-this-merchant").await.status(),
        404,
        "not a connection of this provider"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_disable_hook_is_believed_only_with_its_signature() {
    let world = authorized().await;
    let connections = world.api("/api/v1/connections").await;
    let hook = connections.as_array().unwrap().iter().find(|link| link["slug"] == "amocrm").unwrap()["hook"].clone();
    let url = format!("{}{}", world.hub.url(), hook.as_str().unwrap());
    let off = |secret: &str| json!({ "url": url, "client_uuid": CLIENT, "client_secret": secret });
    let forged = world.told_by("amocrm", "disable_hook", &off("another-secret")).await;
    assert_eq!(forged["status"], 401);
    assert_eq!(
        world
            .api("/api/v1/journal?provider=amocrm")
            .await
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["direction"] == "IN")
            .count(),
        0
    );
    let told = world.told_by("amocrm", "disable_hook", &off(SECRET)).await;
    assert_eq!(told["status"], 200);
    world.quiet().await;
    assert_eq!(world.newest("amocrm").await["events"][0]["kind"], "connection.disabled");
    assert_eq!(world.notices("disconnected").await.len(), 1);
}
