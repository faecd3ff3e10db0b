//! Recipients from outside: set up, told of notices once and in their language, by the next way where one refuses.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_model::{Id, id::Kind};
use uzel_store::{Change, Notice, Told};

use crate::world::{World, until};

pub(crate) const TOKEN: &str = "7000000001:AAtestTokenOfTheStandIn0123456789abc";
pub(crate) const CHAT: i64 = 4_503_599_627_370_497;

/// A café whose owner is reached by a bot, then by SMS.
pub(crate) fn cafe(sandbox: &str) -> Value {
    json!({
        "merchant": [{ "slug": "cafe", "name": "Ёж & Co", "language": "ru" }],
        "outlet": [{ "merchant": "cafe", "slug": "arbat", "zone": "Europe/Moscow" }, { "merchant": "cafe", "slug": "tverskaya", "zone": "Europe/Moscow" }],
        "connection": [
            { "merchant": "cafe", "slug": "bot", "provider": "telegram", "settings": { "base_url": format!("{sandbox}/telegram"), "bot_token": TOKEN } },
            { "merchant": "cafe", "slug": "texts", "provider": "smsru", "settings": { "base_url": format!("{sandbox}/smsru"), "api_id": "A1B2C3D4-1111-2222-3333-444455556666" } },
            { "merchant": "cafe", "outlet": "arbat", "slug": "till", "provider": "rkeeper" },
        ],
        "recipient": [{ "merchant": "cafe", "slug": "anna", "name": "Анна", "addresses": [{ "via": "bot" }, { "via": "texts", "to": "8 999 000-11-22" }] }]
    })
}

/// The café, with Anna's chat bound.
pub(crate) async fn bound() -> World {
    let world = World::reachable().await;
    world.apply(&cafe(&world.sandbox.url())).await;
    let (status, answer) = world.ask("/api/v1/connections/bot/subscribe", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    bind(&world, "anna", CHAT).await;
    world
}

/// The code of a new link.
pub(crate) async fn code(world: &World, recipient: &str) -> String {
    let (status, answer) = world.ask(&format!("/api/v1/recipients/{recipient}/link"), &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    let url = answer["url"].as_str().unwrap();
    url.strip_prefix("https://t.me/hub_demo_bot?start=").expect("a link to the bot").to_owned()
}

/// A person writes to the bot.
pub(crate) async fn says(world: &World, chat: i64, update: i64, text: &str) {
    let told = world.told_by("telegram", "start", &json!({ "chat": chat, "update_id": update, "text": text })).await;
    assert_eq!(told["status"], 200, "{told}");
    world.quiet().await;
}

async fn bind(world: &World, recipient: &str, chat: i64) {
    let code = code(world, recipient).await;
    says(world, chat, 1, &format!("/start {code}")).await;
    until("the chat to be bound", async || bound_of(world, recipient).await == 1).await;
}

pub(crate) async fn bound_of(world: &World, recipient: &str) -> usize {
    world.api(&format!("/api/v1/recipients/{recipient}")).await["bound"].as_array().unwrap().len()
}

/// Texts that came to chats, as (chat, text).
pub(crate) async fn chats(world: &World) -> Vec<(i64, String)> {
    let messages = world.shown("telegram/messages").await;
    let of = |message: &Value| (message["chat"]["id"].as_i64().unwrap(), message["text"].as_str().unwrap_or_default().to_owned());
    messages.as_array().unwrap().iter().map(of).collect()
}

async fn told_of(world: &World, what: &str) -> Vec<String> {
    let chats = chats(world).await;
    chats.into_iter().filter(|(chat, text)| *chat == CHAT && text.contains(what)).map(|(_, text)| text).collect()
}

fn id_of(world: &World, slug: &str) -> (Id, Id) {
    let link = world.hub.engine.world().connection(slug).unwrap().clone();
    (link.merchant, link.id)
}

async fn notice(world: &World, slug: &str, kind: &str, text: &str) {
    let (merchant, connection) = id_of(world, slug);
    let notice = Notice { merchant, connection, kind: kind.to_owned(), text: text.to_owned() };
    let change = Change { notices: vec![notice], now: Some(world.hub.engine.clock.now()), ..Change::default() };
    world.hub.engine.store.apply(change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_reaches_each_person_once_and_several_come_in_one_message() {
    let world = bound().await;
    notice(&world, "texts", "account", "SMS.ru: 201 no money; of +7 999 111-22-33 <b>").await;
    notice(&world, "till", "refused", "401").await;
    until("the notice", async || !told_of(&world, "аккаунту").await.is_empty()).await;
    let told = told_of(&world, "Ёж & Co").await.pop().unwrap();
    for wanted in ["texts (SMS.ru)", "проверьте деньги", "till (r_keeper)", "201 no money", "<b>"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(!told.contains("111"), "a guest's phone has no place in a messenger: {told}");
    // The same on the same day is no news; something else is.
    notice(&world, "texts", "account", "again").await;
    notice(&world, "texts", "unknown", "lost").await;
    until("the next notice", async || !told_of(&world, "неизвестно").await.is_empty()).await;
    assert_eq!(told_of(&world, "аккаунту").await.len(), 1);
    assert!(world.texts().await.is_empty(), "the best way took it");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_way_refuses_the_next_is_taken_and_whoever_blocked_the_bot_is_unbound() {
    let world = bound().await;
    world.control("telegram/settings", &json!({ "blocked": [CHAT] })).await;
    notice(&world, "till", "disconnected", "gone").await;
    until("the text", async || !world.texts().await.is_empty()).await;
    let (to, text) = world.texts().await.pop().unwrap();
    assert_eq!(to, "79990001122");
    assert!(text.contains("till"), "{text}");
    until("the chat to be unbound", async || bound_of(&world, "anna").await == 0).await;
    world.quiet().await;
    assert_eq!(world.commands("dead").await, 1);
    // A way that cannot be used says nothing of itself again and again.
    let own = world.api("/api/v1/notices").await;
    assert_eq!(own.as_array().unwrap().len(), 1, "{own}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_is_silent_for_minutes_is_left_for_the_next() {
    let world = bound().await;
    world.control("telegram/faults", &json!({ "kind": "status", "status": 503, "for_ms": 600_000 })).await;
    notice(&world, "till", "disconnected", "gone").await;
    world.in_time("the text", async || !world.texts().await.is_empty()).await;
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_ten_messages_an_hour_and_then_what_was_gathered_in_one() {
    let world = bound().await;
    let (merchant, connection) = id_of(&world, "texts");
    let now = world.hub.engine.clock.now();
    let day = now.as_second().div_euclid(86_400);
    for nth in 0..10 {
        let kind = format!("kind{nth}");
        let notices = vec![Notice { merchant, connection, kind: kind.clone(), text: String::new() }];
        let at = now - SignedDuration::from_secs(nth + 1);
        let told = Some(Told { merchant, notices: vec![(connection, kind, day)], at });
        for change in
            [Change { notices, now: Some(now), ..Change::default() }, Change { told, now: Some(now), ..Change::default() }]
        {
            world.hub.engine.store.apply(change).await.unwrap();
        }
    }
    for nth in 0..12 {
        notice(&world, "till", &format!("other{nth}"), "x").await;
    }
    // Of another merchant nothing is held back.
    let other = json!({
        "merchant": [{ "slug": "bar", "language": "en" }],
        "connection": [{ "merchant": "bar", "slug": "text", "provider": "log" }, { "merchant": "bar", "slug": "tap", "provider": "rkeeper" }],
        "recipient": [{ "merchant": "bar", "slug": "bob", "addresses": [{ "via": "text", "to": "+79990003344" }] }]
    });
    world.apply(&other).await;
    notice(&world, "tap", "refused", "401").await;
    until("the neighbour's notice", async || world.commands("done").await >= 3).await;
    assert!(told_of(&world, "внимани").await.is_empty());
    world.pass(61);
    until("what was gathered", async || !told_of(&world, "и ещё 2").await.is_empty()).await;
    assert_eq!(told_of(&world, "внимани").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_hear_of_their_outlets_only_and_only_what_they_want() {
    let world = bound().await;
    let more = json!({ "recipient": [
        { "merchant": "cafe", "slug": "boris", "language": "uz", "outlets": ["tverskaya"], "addresses": [{ "via": "texts", "to": "+79990002222" }] },
        { "merchant": "cafe", "slug": "vera", "language": "en", "outlets": ["arbat"], "addresses": [{ "via": "texts", "to": "+79990003333" }] },
        { "merchant": "cafe", "slug": "gleb", "wants": ["comments"], "addresses": [{ "via": "texts", "to": "+79990004444" }] },
    ] });
    world.apply(&more).await;
    notice(&world, "till", "disconnected", "gone").await;
    until("the text", async || !world.texts().await.is_empty()).await;
    world.quiet().await;
    let texts = world.texts().await;
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(texts[0].0, "79990003333");
    assert!(texts[0].1.contains("the provider switched the connection off"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_is_made_changed_and_taken_away_and_nobody_takes_a_bound_chat_away_by_a_file() {
    let world = bound().await;
    world.apply(&cafe(&world.sandbox.url())).await;
    assert_eq!(bound_of(&world, "anna").await, 1);
    let shown = world.api("/api/v1/recipients/anna").await;
    assert_eq!(shown["addresses"][1]["to"], "+79990001122");
    assert_eq!(shown["wants"], json!(["notices", "comments"]));
    assert!(!shown.to_string().contains(&CHAT.to_string()), "{shown}");
    let key = world.hub.owner_key().unwrap();
    let url = format!("{}/api/v1/recipients/anna", world.hub.url());
    let change = json!({ "digest_hour": 8, "name": null });
    let changed: Value = world.web.patch(&url).bearer_auth(&key).json(&change).send().await.unwrap().json().await.unwrap();
    assert_eq!((&changed["digest_hour"], &changed["name"]), (&json!(8), &Value::Null), "{changed}");
    assert_eq!(changed["bound"].as_array().unwrap().len(), 1);
    // What is named cannot be taken away.
    for needed in ["connections/texts", "connections/bot"] {
        let url = format!("{}/api/v1/{needed}", world.hub.url());
        assert_eq!(world.web.delete(&url).bearer_auth(&key).send().await.unwrap().status(), 409, "{needed}");
    }
    // With the way goes what was bound by it.
    let change = json!({ "addresses": [{ "via": "texts", "to": "+79990001122" }] });
    let changed: Value = world.web.patch(&url).bearer_auth(&key).json(&change).send().await.unwrap().json().await.unwrap();
    assert_eq!(changed["bound"], json!([]));
    let (status, answer) = world.ask("/api/v1/recipients/anna/link", &json!({})).await;
    assert_eq!(status, 409, "{answer}");
    assert!(world.web.delete(&url).bearer_auth(&key).send().await.unwrap().status().is_success());
    assert_eq!(world.web.get(&url).bearer_auth(&key).send().await.unwrap().status(), 404);
    let acts: Vec<String> = world.texts_of("SELECT action FROM audit").await;
    for act in ["recipient.create", "recipient.link", "recipient.bind", "recipient.change", "recipient.remove"] {
        assert!(acts.iter().any(|known| known == act), "{act}: {acts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_recipient_is_told_by_field() {
    let world = bound().await;
    let wrong = json!({
        "merchant": "cafe", "slug": "Anna B", "language": "de", "zone": "Moscow", "digest_hour": 24, "outlets": ["nowhere"],
        "addresses": [
            { "via": "nothing" }, { "via": "till", "to": "+79990001122" }, { "via": "texts" }, { "via": "texts", "to": "anna@example.com" },
            { "via": "bot", "to": "12345" }, { "via": "texts", "to": "+79990001122" }, { "via": "texts", "to": "+79990001122" }
        ]
    });
    let (status, answer) = world.ask("/api/v1/recipients", &wrong).await;
    assert_eq!(status, 422, "{answer}");
    let places: Vec<&str> = answer["errors"].as_array().unwrap().iter().filter_map(|fault| fault["pointer"].as_str()).collect();
    for place in [
        "/slug",
        "/language",
        "/zone",
        "/digest_hour",
        "/outlets/0",
        "/addresses/0/via",
        "/addresses/1/via",
        "/addresses/2/to",
        "/addresses/3/to",
        "/addresses/4/to",
        "/addresses/6",
    ] {
        assert!(places.contains(&place), "{place}: {answer}");
    }
    for (wrong, place) in [
        (json!({ "merchant": "cafe", "slug": "b", "wants": ["all"] }), "/wants/0"),
        (json!({ "merchant": "cafe", "slug": "b", "wants": "notices" }), "/wants"),
        (
            json!({ "merchant": "cafe", "slug": "b", "addresses": [{ "via": "texts", "phone": "+79990001122" }] }),
            "/addresses/0/phone",
        ),
        (json!({ "merchant": "cafe", "slug": "b", "bound": [] }), "/bound"),
        (json!({ "merchant": "cafe", "slug": "b", "digest_hour": "9" }), "/digest_hour"),
    ] {
        let (status, answer) = world.ask("/api/v1/recipients", &wrong).await;
        assert_eq!(status, 422, "{wrong}: {answer}");
        assert_eq!(answer["errors"][0]["pointer"], place, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_balance_is_told_once_until_it_has_risen() {
    let world = bound().await;
    let mut setup = cafe(&world.sandbox.url());
    setup["connection"][1]["low_balance"] = json!("500");
    world.apply(&setup).await;
    world.control("smsru/settings", &json!({ "balance": 499.99 })).await;
    world.in_steps(SignedDuration::from_mins(10), "the notice", async || !world.notices("low_balance").await.is_empty()).await;
    until("the message", async || !told_of(&world, "осталось мало денег").await.is_empty()).await;
    // Two days later it is as low as before: nothing is said of it again.
    let asked = world.calls("smsru", "/my/balance").await.len();
    world.pass(2 * 24 * 60);
    world
        .in_steps(SignedDuration::from_mins(30), "more looks", async || {
            world.calls("smsru", "/my/balance").await.len() >= asked + 2
        })
        .await;
    assert_eq!(world.notices("low_balance").await.len(), 1);
    world.control("smsru/settings", &json!({ "balance": 5_000 })).await;
    world
        .in_steps(SignedDuration::from_mins(10), "it to be well", async || !world.notices("balance_well").await.is_empty())
        .await;
    world.pass(24 * 60);
    world.control("smsru/settings", &json!({ "balance": 12 })).await;
    world
        .in_steps(SignedDuration::from_mins(10), "the next notice", async || world.notices("low_balance").await.len() == 2)
        .await;
    let metrics = world.web.get(format!("{}/metrics", world.hub.url())).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("uzel_balance_lowest{provider=\"smsru\"} 12"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_cannot_be_watched_is_refused() {
    let world = bound().await;
    for (slug, amount, why) in [("texts", "much", "is no amount"), ("till", "500", "tells no balance")] {
        let mut setup = cafe(&world.sandbox.url());
        let place = setup["connection"].as_array().unwrap().iter().position(|link| link["slug"] == slug).unwrap();
        setup["connection"][place]["low_balance"] = json!(amount);
        let (status, answer) = world.ask("/api/v1/apply", &json!({ "setup": setup })).await;
        assert_eq!(status, 422, "{answer}");
        let fault = &answer["errors"][0];
        assert_eq!(fault["pointer"], format!("/connection/{place}/low_balance"), "{answer}");
        assert!(fault["detail"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[test]
fn a_recipient_s_id_is_told_by_its_prefix() {
    assert!(Id::new(Kind::Recipient).to_string().starts_with("rcp_"));
}
