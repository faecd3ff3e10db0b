//! Logins that last: renewed once for all who wait, saved before use, and asked of a person when they are dead.

use serde_json::{Value, json};
use uzel::hub::Parts;

use uzel_sandbox::Sandbox;

use crate::{
    binary::Binary,
    oauth,
    world::{KEY, World, anywhere, setup, until},
};

const ORGANIZATION: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";

pub(crate) fn order(id: u32, phone: &Value) -> Value {
    json!({ "id": format!("00000000-0000-4000-8000-{id:012}"), "organizationId": ORGANIZATION, "creationStatus": "Success",
        "order": { "status": "Closed", "phone": phone, "number": id } })
}

/// A webhook that tells of these orders and names no phone, so that each is asked for.
async fn tell(world: &World, ids: std::ops::Range<u32>) {
    assert_eq!(world.post("iiko", &told(ids)).await.status(), 200);
}

pub(crate) fn told(ids: std::ops::Range<u32>) -> Value {
    let told = ids.map(|id| {
        let info = order(id, &Value::Null);
        json!({ "eventType": "DeliveryOrderUpdate", "organizationId": ORGANIZATION, "eventInfo": info })
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_in_the_middle_is_renewed_once_for_all_calls_under_way() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
    world.apply(&setup).await;
    let orders: Vec<Value> = (0..20).map(|id| order(id, &json!(format!("+7999333{id:04}")))).collect();
    world.control("iiko/orders", &json!(orders)).await;

    tell(&world, 0..1).await;
    world.quiet().await;
    assert_eq!(world.shown("iiko/summary").await["tokens"], 1);

    // The refusal of the first call comes late: by then the tokens of all the others are refused, too.
    world.control("iiko/faults", &json!({ "kind": "token_expiry", "latency_ms": 400 })).await;
    tell(&world, 1..20).await;
    world.quiet().await;
    let refused = world.calls("iiko", "/api/1/deliveries/by_id").await.iter().filter(|call| call["status"] == 401).count();
    assert!(refused > 1, "{refused} calls were refused: nothing was concurrent");
    assert_eq!(world.shown("iiko/summary").await["tokens"], 2, "all that were refused wait for one renewal");
    assert_eq!(world.texts().await.len(), 20);
    // Each call was repeated at once, as part of the same try.
    assert_eq!(world.commands("done").await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_when_its_time_is_over_before_anybody_refuses_it() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{}/iiko", world.sandbox.url()), "api_login": "login-of-the-cafe", "calls_per_s": 1_000 });
    world.apply(&setup).await;
    world.control("iiko/orders", &json!([order(1, &json!("+79993330001")), order(2, &json!("+79993330002"))])).await;
    tell(&world, 1..2).await;
    world.quiet().await;
    world.pass(51);
    tell(&world, 2..3).await;
    world.quiet().await;
    assert_eq!(world.shown("iiko/summary").await["tokens"], 2);
    assert!(world.calls("iiko", "/").await.iter().all(|call| call["status"] == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_works_once_is_used_once_and_the_new_one_after_it() {
    let world = oauth::authorized().await;
    for (round, id) in (1..).zip([9001, 9002, 9003]) {
        oauth::deal(&world, id).await;
        // An hour before the end of the day that amoCRM gives, nothing is renewed; after it, once.
        world.pass(23 * 60);
        oauth::won(&world, id).await;
        world.quiet().await;
        assert_eq!(world.shown("amocrm/summary").await["refreshes"], round - 1);
        world.pass(2 * 60);
        oauth::deal(&world, id + 100).await;
        oauth::won(&world, id + 100).await;
        world.quiet().await;
        assert_eq!(world.shown("amocrm/summary").await["refreshes"], round);
    }
    assert_eq!(world.texts().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_login_keeps_the_queue_and_raises_one_notice_until_a_person_logs_in_again() {
    let world = oauth::authorized().await;
    // The stand-in forgets every token, as if the owner had taken the access away.
    let reset = world.web.delete(format!("{}/_sandbox/amocrm", world.sandbox.url())).send().await.unwrap();
    assert!(reset.status().is_success());
    for id in [9001, 9002] {
        oauth::deal(&world, id).await;
        oauth::won(&world, id).await;
    }
    until("both to be refused", async || world.notices("unauthorized").await.len() == 1 && world.commands("waiting").await == 2)
        .await;
    world.pass(6);
    until("another try", async || world.calls("amocrm", "/oauth2/access_token").await.len() >= 3).await;
    assert_eq!(world.notices("unauthorized").await.len(), 1, "it is told once");
    assert_eq!((world.commands("dead").await, world.texts().await.len()), (0, 0));

    oauth::log_in(&world, "another-code").await;
    world.in_time("both texts", async || world.texts().await.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_lived_token_that_is_refused_is_replaced_by_applying_another() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][3]["settings"]["long_lived_token"] = json!("a-token-that-was-taken-back");
    world.apply(&setup).await;
    oauth::deal(&world, 9001).await;
    oauth::won(&world, 9001).await;
    until("the notice", async || world.notices("unauthorized").await.len() == 1).await;
    assert!(!world.notices("unauthorized").await[0].to_string().contains("taken-back"), "a notice holds no secret");
    assert_eq!(world.commands("waiting").await, 1);
    setup["connection"][3]["settings"]["long_lived_token"] = json!("long-lived");
    world.apply(&setup).await;
    world.in_time("the text", async || world.texts().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_right_after_a_renewal_still_has_the_new_login() {
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let mut binary = Binary::new(&[]).reachable();
    let mut setup = setup(&sandbox.url(), &json!({}));
    setup["connection"][3]["settings"] = oauth::settings(&sandbox.url());
    // The key of the fixtures is too short for a file.
    for connection in setup["connection"].as_array_mut().unwrap() {
        connection["webhook_keys"] = json!([KEY]);
    }
    binary.write("setup.toml", &toml::to_string(&setup).unwrap());
    binary.serve(&[]).await;
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    oauth::log_in_at(&binary.url(), &binary.owner_key(), "the-code").await;

    // The first look-up finds its token expired; the second, with the new one, hangs, and there the hub dies.
    let control = async |path: &str, body: Value| {
        let answer = binary.web.put(format!("{}/_sandbox/{path}", sandbox.url())).json(&body).send().await.unwrap();
        assert!(answer.status().is_success());
    };
    let contact = json!({ "id": 1, "name": "Анна", "custom_fields_values": [{ "field_code": "PHONE", "values": [{ "value": "+79994449001" }] }] });
    control("amocrm/contacts", json!([contact])).await;
    control(
        "amocrm/leads",
        json!([{ "id": 9001, "status_id": 142, "_embedded": { "contacts": [{ "id": 1, "is_main": true }] } }]),
    )
    .await;
    let faults = json!([{ "kind": "token_expiry", "path": "/api/v4/leads" }, { "kind": "latency", "latency_ms": 20_000, "path": "/api/v4/leads" }]);
    control("amocrm/faults", faults).await;
    let shown = async |path: &str| -> Value {
        reqwest::get(format!("{}/_sandbox/{path}", sandbox.url())).await.unwrap().json().await.unwrap()
    };
    let url = format!("{}/api/webhook/amocrm?key={KEY}", binary.url());
    let won = "leads[status][0][id]=9001&leads[status][0][status_id]=142";
    let form = "application/x-www-form-urlencoded";
    assert_eq!(binary.web.post(url).header("content-type", form).body(won).send().await.unwrap().status(), 200);
    let leads = async || {
        let calls = shown("amocrm/calls").await;
        calls.as_array().unwrap().iter().filter(|call| call["path"] == "/api/v4/leads/9001").count()
    };
    until("the call with the new token", async || leads().await == 2).await;
    binary.signal("-KILL");
    binary.serve(&[]).await;
    until("the text", async || shown("smsru/accepted").await.as_array().unwrap().len() == 1).await;
    assert_eq!(shown("amocrm/summary").await["refreshes"], 1, "the new token was saved before its first use");
}
