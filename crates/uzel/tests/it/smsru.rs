//! SMS.ru from outside: what became of texts, money, and each way in which it says no.

use serde_json::{Value, json};

use crate::world::{World, setup, until};

const API_ID: &str = "A1B2C3D4-1111-2222-3333-444455556666";

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

/// Tells of guests with ids in this range, each with a phone of their own.
async fn serve(world: &World, ids: std::ops::Range<u32>) {
    for id in ids {
        assert_eq!(world.post("rkeeper", &served(id, &phone(id))).await.status(), 200);
    }
}

fn phone(id: u32) -> String {
    format!("+7999555{id:04}")
}

/// The text of one guest, as its timeline shows it.
async fn text_of(world: &World, id: u32) -> Value {
    let phone = phone(id).replace('+', "%2B");
    let rows = world.api(&format!("/api/v1/journal?provider=rkeeper&phone={phone}")).await;
    let entry = rows.as_array().unwrap().iter().find(|row| row["direction"] == "IN").expect("the guest's entry");
    let timeline = world.api(&format!("/api/v1/journal/{}?unmasked=true", entry["id"].as_str().unwrap())).await;
    timeline["commands"].as_array().unwrap().last().expect("a command").clone()
}

async fn hook(world: &World) -> String {
    let connections = world.api("/api/v1/connections").await;
    let link = connections.as_array().unwrap().iter().find(|link| link["slug"] == "smsru").unwrap();
    format!("{}{}", world.hub.url(), link["hook"].as_str().unwrap())
}

/// Has SMS.ru call back with a status of these messages.
async fn call_back(world: &World, ids: &[&str], status: i64) {
    let options = json!({ "url": hook(world).await, "sms_ids": ids, "status": status });
    assert_eq!(world.told_by("smsru", "callback", &options).await["body"], "100");
    world.quiet().await;
}

/// Lets SMS.ru refuse every text to each number of this account with a code, or take them again.
async fn account(world: &World, api_id: &str) {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["api_id"] = json!(api_id);
    world.apply(&setup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_text_is_asked_for_and_shown() {
    let world = World::new(json!({})).await;
    serve(&world, 1..3).await;
    world.quiet().await;
    let (one, other) = (text_of(&world, 1).await, text_of(&world, 2).await);
    assert_eq!((&one["delivery"], &one["state"]), (&json!("on_the_way"), &json!("done")));
    let states = json!({ one["provider_id"].as_str().unwrap(): 103, other["provider_id"].as_str().unwrap(): 104 });
    world.control("smsru/states", &states).await;
    world.in_time("the statuses", async || text_of(&world, 2).await["delivery"] != "on_the_way").await;
    let (one, other) = (text_of(&world, 1).await, text_of(&world, 2).await);
    assert_eq!((&one["delivery"], &one["delivery_code"]), (&json!("delivered"), &json!("103")));
    assert_eq!((&other["delivery"], &other["delivery_code"]), (&json!("failed"), &json!("104")));
    // What is known for good is not asked for again.
    let asked = world.calls("smsru", "/sms/status").await.len();
    serve(&world, 3..4).await;
    world.quiet().await;
    world.in_time("another question", async || world.calls("smsru", "/sms/status").await.len() > asked).await;
    let last = world.calls("smsru", "/sms/status").await.pop().unwrap();
    assert!(!last["body"].as_str().unwrap().contains(one["provider_id"].as_str().unwrap()), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_arrive_do_not_keep_others_from_being_asked_about() {
    let world = World::new(json!({})).await;
    with_rate(&world, 1_000).await;
    serve(&world, 0..120).await;
    world.quiet().await;
    let mut states = serde_json::Map::new();
    for message in world.shown("smsru/accepted").await.as_array().unwrap() {
        let arrives = message["to"].as_str().unwrap() >= "79995550100";
        states.insert(message["sms_id"].as_str().unwrap().to_owned(), json!(if arrives { 103 } else { 102 }));
    }
    world.control("smsru/states", &json!(states)).await;
    world.in_time("the last to be known", async || text_of(&world, 119).await["delivery"] == "delivered").await;
    assert_eq!(text_of(&world, 0).await["delivery"], "on_the_way");
    // After some days nobody asks about the others any more.
    world.pass(8 * 24 * 60);
    serve(&world, 120..121).await;
    world.quiet().await;
    let asked = world.calls("smsru", "/sms/status").await.len();
    world.in_time("another question", async || world.calls("smsru", "/sms/status").await.len() > asked).await;
    let last = world.calls("smsru", "/sms/status").await.pop().unwrap();
    let one = text_of(&world, 120).await["provider_id"].as_str().unwrap().to_owned();
    assert!(last["body"].as_str().unwrap().ends_with(&format!("sms_id={one}")), "{last}");
}

async fn with_rate(world: &World, calls_per_s: u32) {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["calls_per_s"] = json!(calls_per_s);
    world.apply(&setup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_final_status_stays_whatever_callbacks_tell_later_again_or_of_strangers() {
    let world = World::new(json!({})).await;
    serve(&world, 1..3).await;
    world.quiet().await;
    let ids = [text_of(&world, 1).await, text_of(&world, 2).await].map(|text| text["provider_id"].as_str().unwrap().to_owned());
    let state = async |id: u32| {
        let text = text_of(&world, id).await;
        (text["delivery"].as_str().unwrap().to_owned(), text["delivery_code"].as_str().unwrap_or_default().to_owned())
    };
    call_back(&world, &[&ids[0]], 102).await;
    assert_eq!(state(1).await.0, "on_the_way");
    call_back(&world, &[&ids[0]], 103).await;
    // "On its way" comes after "delivered", then the same again, then something that cannot be true any more.
    for late in [102, 103, 105] {
        call_back(&world, &[&ids[0]], late).await;
        assert_eq!(state(1).await, ("delivered".to_owned(), "103".to_owned()), "{late}");
    }
    call_back(&world, &[&ids[1], "202647-9999999"], 108).await;
    assert_eq!(state(2).await, ("failed".to_owned(), "108".to_owned()));
    let texts = world.texts().await.len();
    assert_eq!((texts, world.commands("done").await), (2, 2), "news of a message sends nothing");
    let rows = world.api("/api/v1/journal?provider=smsru&limit=1000").await;
    assert!(!rows.to_string().contains(API_ID), "no row holds the account's key: {rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balance_is_told_as_it_is_printed_or_not_at_all() {
    let world = World::new(json!({})).await;
    world.control("smsru/settings", &json!({ "balance": 4762.58 })).await;
    assert_eq!(world.api("/api/v1/connections/smsru/balance").await["balance"], "4762.58");
    assert_eq!(world.api("/api/v1/connections/smsru/health").await["healthy"], true);
    for fault in ["garbage", "cut_after", "rate_limit"] {
        world.control("smsru/faults", &json!({ "kind": fault, "path": "/my/balance" })).await;
        let key = world.hub.owner_key().unwrap();
        let url = format!("{}/api/v1/connections/smsru/balance", world.hub.url());
        let answer = world.web.get(url).bearer_auth(key).send().await.unwrap();
        assert_eq!(answer.status(), 502, "{fault}");
        assert!(!answer.text().await.unwrap().contains("4762"), "{fault}");
        world.control("smsru/faults", &json!({ "kind": fault, "path": "/my/balance" })).await;
        assert_eq!(world.api("/api/v1/connections/smsru/health").await["healthy"], false, "{fault}");
    }
    account(&world, "wrong").await;
    let health = world.api("/api/v1/connections/smsru/health").await;
    assert!(health["healthy"] == false && health["detail"].as_str().unwrap().contains("200"), "{health}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_on_the_stop_list_gets_nothing_more_and_others_do() {
    let world = World::new(json!({})).await;
    let body = [("api_id", API_ID), ("json", "1"), ("stoplist_phone", "79995550001"), ("stoplist_text", "asked us")];
    let added = world.web.post(format!("{}/smsru/stoplist/add", world.sandbox.url())).form(&body).send().await.unwrap();
    assert!(added.text().await.unwrap().contains("\"OK\""));
    // A second text to the same person waits behind the first.
    world.post("rkeeper", &served(1, &phone(1))).await;
    world.quiet().await;
    let sent = world.calls("smsru", "/sms/send").await.len();
    world.post("rkeeper", &served(2, &phone(1))).await;
    world.post("rkeeper", &served(3, &phone(3))).await;
    world.quiet().await;
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["opt_out", 2]]));
    assert_eq!(world.texts().await.iter().map(|(phone, _)| &phone[..]).collect::<Vec<_>>(), ["79995550003"]);
    assert_eq!(
        world.calls("smsru", "/sms/send").await.len(),
        sent + 1,
        "SMS.ru is not asked a second time about a person who opted out"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_a_number_below_an_ok_is_an_error() {
    // A text of nine parts is too long for SMS.ru (205), and that is the merchant's template's fault.
    let world = World::new(json!({ "text": "длинно ".repeat(100) })).await;
    serve(&world, 1..2).await;
    world.quiet().await;
    let call = world.calls("smsru", "/sms/send").await.pop().unwrap();
    assert_eq!(call["status"], 200, "SMS.ru refuses with 200");
    let text = text_of(&world, 1).await;
    assert_eq!((&text["state"], world.texts().await.len()), (&json!("dead"), 0), "{text}");
    assert!(text["reason"].as_str().unwrap().contains("205"), "{text}");
    let out = world.api("/api/v1/journal?provider=smsru&status=error").await;
    assert_eq!(out.as_array().unwrap().len(), 1, "the journal shows it as an error: {out}");
    assert_eq!(world.notices("fault").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_cannot_pay_or_log_in_keeps_the_queue_and_tells_the_merchant_once() {
    for (api_id, code) in [("nomoney", "201"), ("wrong", "200")] {
        let world = World::new(json!({})).await;
        world.begin_before_midnight();
        account(&world, api_id).await;
        serve(&world, 1..6).await;
        let refused = async || world.calls("smsru", "/sms/send").await.len();
        until("five refusals", async || refused().await == 5 && world.commands("waiting").await == 5).await;
        world.pass(11);
        until("five more", async || refused().await == 10 && world.commands("waiting").await == 5).await;
        let notices = world.notices("account").await;
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0]["text"].as_str().unwrap().contains(code), "{notices:?}");
        assert_eq!((world.texts().await.len(), world.commands("dead").await), (0, 0));
        account(&world, API_ID).await;
        world.pass(11);
        until("all five", async || world.texts().await.len() == 5).await;
        world.quiet().await;
        assert_eq!(world.commands("done").await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_error_of_the_account_keeps_the_queue_too() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "token_expiry", "calls": 1 })).await;
    serve(&world, 1..2).await;
    until("the refusal", async || world.notices("account").await.len() == 1).await;
    assert_eq!((world.commands("waiting").await, world.texts().await.len()), (1, 0));
    world.pass(11);
    until("the text", async || world.texts().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_text_was_taken_before_means_done_only_after_a_try_of_ours() {
    let world = World::new(json!({})).await;
    world.control("smsru/settings", &json!({ "duplicate_guard": true })).await;
    // A gateway says 503 although SMS.ru took the text: the stand-in is given it by the test, as that first try.
    world.control("smsru/faults", &json!({ "kind": "status", "status": 503, "calls": 1 })).await;
    let taken = async |phone: &str| {
        let form = [("api_id", API_ID), ("json", "1"), ("to", phone), ("msg", "Иван: Кафе")];
        let answer = world.web.post(format!("{}/smsru/sms/send", world.sandbox.url())).form(&form).send().await.unwrap();
        answer.text().await.unwrap()
    };
    serve(&world, 1..2).await;
    until("the first try", async || !world.calls("smsru", "/sms/send").await.is_empty()).await;
    assert!(taken("79995550001").await.contains("sms_id"));
    world.quiet().await;
    let text = text_of(&world, 1).await;
    assert_eq!((&text["state"], world.texts().await.len()), (&json!("done"), 1), "{text}");
    assert!(text["reason"].as_str().unwrap().contains("231"), "{text}");

    // Without a try of ours before it, the same refusal proves nothing of our text.
    assert!(taken("79995550002").await.contains("sms_id"));
    serve(&world, 2..3).await;
    world.quiet().await;
    let text = text_of(&world, 2).await;
    assert_eq!((&text["state"], world.texts().await.len()), (&json!("dead"), 2), "{text}");
}
