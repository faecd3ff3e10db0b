//! Our address at the providers: registered beside others', told to, and missed when it is gone.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::{World, setup, until};

const ORGANIZATION: &str = "7bc05553-4b68-44e8-b7bc-37be63c6d9e9";
const BRANCH: u32 = 4564;

/// A hub that may ask each provider to call it.
async fn asking() -> World {
    let world = World::reachable().await;
    let sandbox = world.sandbox.url();
    let mut setup = setup(&sandbox, &json!({ "delay": "1h" }));
    setup["connection"][0]["settings"] =
        json!({ "base_url": format!("{sandbox}/iiko"), "api_login": "login-of-the-cafe", "organization_id": ORGANIZATION });
    setup["connection"][2]["settings"] = json!({
        "base_url": format!("{sandbox}/yclients/api/v1"), "partner_token": "partner-token", "user_token": "utok_example",
        "company_id": BRANCH,
    });
    world.apply(&setup).await;
    world
}

async fn subscribe(world: &World, connection: &str) {
    let (status, answer) = world.ask(&format!("/api/v1/connections/{connection}/subscribe"), &json!({})).await;
    assert_eq!(status, 200, "{connection}: {answer}");
}

async fn health(world: &World, connection: &str) -> Value {
    world.api(&format!("/api/v1/connections/{connection}/health")).await
}

/// The address that is ours among these.
fn ours(world: &World, urls: &Value) -> String {
    let text = urls.to_string();
    let start = text.find(&format!("{}/hooks/con_", world.hub.url())).expect("our address is registered");
    text[start..].split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_sends_to_the_registered_address_is_accepted_and_read() {
    let world = asking().await;
    for (provider, shown, case) in [
        ("iiko", "iiko/webhooks", "webhook_delivery_delivered"),
        ("amocrm", "amocrm/webhooks", "webhook_status_won"),
        ("yclients", "yclients/hooks", "webhook_record_came"),
    ] {
        subscribe(&world, provider).await;
        let url = ours(&world, &world.shown(shown).await);
        // Without an address of the test's, the stand-in sends to where it was told to.
        let told = world.told_by(provider, case, &json!({})).await;
        assert_eq!((&told["status"], &told["sent"]), (&json!(200), &json!(1)), "{provider}: {told}");
        until("the entry", async || world.api(&format!("/api/v1/journal?provider={provider}&status=read")).await != json!([]))
            .await;
        let entry = world.newest(provider).await;
        assert_eq!(entry["events"].as_array().unwrap().len(), 1, "{entry}");
        let key = url.split("key=").nth(1).unwrap();
        assert!(!entry.to_string().contains(key), "the key of the address is not journalled");
        // The same once more changes nothing there.
        subscribe(&world, provider).await;
        assert_eq!(world.shown(shown).await.to_string().matches("/hooks/con_").count(), 1, "{provider}");
        assert_eq!(health(&world, provider).await["healthy"], true, "{provider}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_the_marketplace_is_well_after_subscribing_and_ill_once_it_is_removed() {
    let world = asking().await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "delay": "1h" }));
    setup["connection"][2]["settings"] = json!({
        "base_url": format!("{}/yclients/api/v1", world.sandbox.url()), "partner_token": "partner-token",
        "company_id": BRANCH, "application_id": 18289,
    });
    world.apply(&setup).await;
    subscribe(&world, "yclients").await;
    ours(&world, &world.shown("yclients/installed").await);
    let judged = health(&world, "yclients").await;
    assert_eq!(judged["healthy"], true, "{judged}");
    let remove = format!("{}/yclients/marketplace/salon/{BRANCH}/application/18289/uninstall", world.sandbox.url());
    assert_eq!(world.web.post(remove).bearer_auth("partner-token").send().await.unwrap().status(), 200);
    let judged = health(&world, "yclients").await;
    assert!(judged["healthy"] == false && judged["detail"].as_str().unwrap().contains("not installed"), "{judged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_of_sms_ru_come_to_the_registered_address_and_prove_themselves() {
    let world = asking().await;
    subscribe(&world, "smsru").await;
    ours(&world, &world.shown("smsru/callbacks").await);
    let one = world.told_by("smsru", "callback_one", &json!({})).await;
    assert_eq!((&one["status"], &one["body"]), (&json!(200), &json!("100")), "{one}");
    let probe = world.told_by("smsru", "callback_probe", &json!({})).await;
    assert_eq!((&probe["status"], &probe["body"]), (&json!(200), &json!("100")), "{probe}");
    let forged = world.told_by("smsru", "callback", &json!({ "sms_ids": ["202647-1000001"], "api_id": "another-account" })).await;
    assert_eq!(forged["status"], 401, "{forged}");
    until("one entry", async || world.api("/api/v1/journal?provider=smsru&status=read").await.as_array().unwrap().len() == 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_addresses_of_others_stay_when_ours_is_registered() {
    let world = asking().await;
    let others = ["https://crm.example/hook", "https://bot.example/hook"];
    let url = format!("{}/yclients/api/v1/hooks_settings/{BRANCH}", world.sandbox.url());
    let put = async |urls: Value| {
        let request = world.web.post(&url).header("authorization", "Bearer partner-token, User utok_example");
        let body = json!({ "urls": urls, "active": 1, "client": 1, "record": 0 });
        let answer = request.header("accept", "application/vnd.yclients.v2+json").json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    };
    put(json!(others)).await;
    subscribe(&world, "yclients").await;
    let hooks = world.shown("yclients/hooks").await[BRANCH.to_string()].clone();
    let urls: Vec<&str> = hooks["urls"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((urls.len(), &urls[..2]), (3, &others[..]));
    assert_eq!((&hooks["client"], &hooks["record"]), (&json!(1), &json!(1)), "what others are told stays, records are added");

    // Ten are as many as fit: nobody's address is pushed out for ours.
    put((0..10).map(|place| format!("https://{place}.example/hook")).collect()).await;
    let (status, answer) = world.ask("/api/v1/connections/yclients/subscribe", &json!({})).await;
    assert_eq!(status, 502);
    assert!(answer["detail"].as_str().unwrap().contains("10 webhook addresses"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_the_daily_check_notice_an_address_that_is_gone_or_switched_off() {
    let world = asking().await;
    for provider in ["iiko", "amocrm", "yclients", "smsru"] {
        subscribe(&world, provider).await;
        let stands = health(&world, provider).await;
        assert!(stands["healthy"] == true && stands["detail"].to_string().contains("our webhook stands"), "{provider}: {stands}");
    }

    // amoCRM switches off what it could not reach; somebody switches off the branch's webhooks.
    let mut hooks = world.shown("amocrm/webhooks").await;
    hooks[0]["disabled"] = json!(true);
    world.control("amocrm/webhooks", &hooks).await;
    let mut settings = world.shown("yclients/hooks").await[BRANCH.to_string()].clone();
    settings["active"] = json!(0);
    let url = format!("{}/yclients/api/v1/hooks_settings/{BRANCH}", world.sandbox.url());
    let request = world.web.post(&url).header("authorization", "Bearer partner-token, User utok_example").json(&settings);
    assert!(request.send().await.unwrap().status().is_success());
    for provider in ["amocrm", "yclients"] {
        let off = health(&world, provider).await;
        assert!(off["healthy"] == false && off["detail"].to_string().contains("switched"), "{provider}: {off}");
    }

    // Somebody else takes the restaurant's only address; amoCRM and YCLIENTS forget theirs; SMS.ru's is removed.
    let reset = async |provider: &str| {
        let answer = world.web.delete(format!("{}/_sandbox/{provider}", world.sandbox.url())).send().await.unwrap();
        assert!(answer.status().is_success());
    };
    for provider in ["iiko", "amocrm", "yclients", "smsru"] {
        reset(provider).await;
    }
    for provider in ["iiko", "amocrm", "yclients", "smsru"] {
        let after = health(&world, provider).await;
        assert_eq!(after["healthy"], false, "{provider}: {after}");
    }
    assert_eq!(world.notices("subscription").await.len(), 0);
    let hours = SignedDuration::from_hours(5);
    world.in_steps(hours, "the daily check", async || world.notices("subscription").await.len() == 4).await;
    let unsubscribed = world.hub.engine.world().links.values().filter(|link| link.provider.id == "rkeeper").count();
    assert_eq!(unsubscribed, 1, "r_keeper has no such call, so nobody complains of it");

    // Registered again, nothing new is told on the next day.
    for provider in ["iiko", "amocrm", "yclients", "smsru"] {
        subscribe(&world, provider).await;
    }
    let checks = async || {
        let paths = [("iiko", "/api/1/webhooks/settings"), ("amocrm", "/api/v4/webhooks"), ("smsru", "/callback/get")];
        let mut checks = Vec::new();
        for (provider, path) in paths {
            checks.push(world.calls(provider, path).await.len());
        }
        checks
    };
    let before = checks().await;
    let more = async || checks().await.iter().zip(&before).all(|(now, before)| now > before);
    world.in_steps(hours, "the next check", more).await;
    assert_eq!(world.notices("subscription").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_person_set_in_the_cabinet_is_not_missed() {
    let world = asking().await;
    for provider in ["iiko", "amocrm", "yclients", "smsru"] {
        let told = health(&world, provider).await;
        assert!(told["healthy"] == true && !told["detail"].to_string().contains("our webhook"), "{provider}: {told}");
    }
    // Only r_keeper's is registered by nobody's call; of the others one is, so that the check is known to have been made.
    subscribe(&world, "smsru").await;
    let checked = async || !world.calls("smsru", "/callback/get").await.is_empty();
    world.in_steps(SignedDuration::from_hours(5), "the check", checked).await;
    for (provider, path) in
        [("iiko", "/api/1/webhooks/settings"), ("amocrm", "/api/v4/webhooks"), ("yclients", "/api/v1/hooks_settings")]
    {
        assert_eq!(world.calls(provider, path).await.len(), 0, "{provider}");
    }
    assert_eq!(world.notices("subscription").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_address_nothing_is_registered_and_the_reason_is_told() {
    let world = World::new(json!({})).await;
    let (status, answer) = world.ask("/api/v1/connections/smsru/subscribe", &json!({})).await;
    assert_eq!(status, 502);
    assert!(answer["detail"].as_str().unwrap().contains("public_url"), "{answer}");
    let (status, answer) = world.ask("/api/v1/connections/rkeeper/subscribe", &json!({ "url": "https://hub.example/x" })).await;
    assert_eq!(status, 502);
    assert!(answer["detail"].as_str().unwrap().contains("cabinet"), "{answer}");
    assert_eq!(world.shown("smsru/callbacks").await, json!([]));
}
