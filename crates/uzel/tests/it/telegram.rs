//! Telegram from outside: chats that people bind and leave, and a token that stands nowhere.

use serde_json::json;

use crate::{
    recipients::{CHAT, TOKEN, bound, bound_of, cafe, chats, code, says},
    world::{World, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_binds_one_chat_once_and_is_answered_in_the_person_s_language() {
    let world = bound().await;
    let greeted = chats(&world).await;
    assert_eq!(greeted.len(), 1);
    assert!(greeted[0].1.contains("Анна, готово") && greeted[0].1.contains("Ёж & Co"), "{greeted:?}");
    // Used, made up, and none at all.
    let code = code(&world, "anna").await;
    says(&world, CHAT + 1, 2, &format!("/start@hub_demo_bot   {code}")).await;
    says(&world, CHAT + 2, 3, &format!("/start {code}")).await;
    says(&world, CHAT + 3, 4, "/start made-up").await;
    says(&world, CHAT + 4, 5, "/start").await;
    until("the answers", async || chats(&world).await.len() == 5).await;
    assert_eq!(bound_of(&world, "anna").await, 2);
    let told = chats(&world).await;
    let of = |chat: i64| told.iter().find(|(known, _)| *known == chat).map(|(_, text)| text.clone()).unwrap();
    assert!(of(CHAT + 1).contains("готово"), "{told:?}");
    assert!(of(CHAT + 2).contains("уже использована") && of(CHAT + 3).contains("уже использована"), "{told:?}");
    assert!(of(CHAT + 4).contains("пишет сотрудникам"), "{told:?}");
    // The same update again is the same.
    says(&world, CHAT + 4, 5, "/start").await;
    assert_eq!(chats(&world).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_good_for_a_day_and_a_newer_one_voids_it() {
    let world = bound().await;
    let (old, new) = (code(&world, "anna").await, code(&world, "anna").await);
    says(&world, CHAT + 1, 2, &format!("/start {old}")).await;
    assert_eq!(bound_of(&world, "anna").await, 1);
    world.pass(24 * 60 + 1);
    says(&world, CHAT + 1, 3, &format!("/start {new}")).await;
    assert_eq!(bound_of(&world, "anna").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_says_stop_or_blocks_the_bot_is_unbound() {
    let world = bound().await;
    says(&world, CHAT, 2, "/stop").await;
    assert_eq!(bound_of(&world, "anna").await, 0);
    until("the answer", async || chats(&world).await.len() == 2).await;
    assert!(chats(&world).await[1].1.contains("больше не приходят"));
    let code = code(&world, "anna").await;
    says(&world, CHAT, 3, &format!("/start {code}")).await;
    assert_eq!(bound_of(&world, "anna").await, 1);
    world.told_by("telegram", "blocked", &json!({ "chat": CHAT, "update_id": 4 })).await;
    world.quiet().await;
    assert_eq!(bound_of(&world, "anna").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_becomes_a_supergroup_is_followed() {
    let world = bound().await;
    let code = code(&world, "anna").await;
    says(&world, -77, 2, &format!("/start {code}")).await;
    world.control("telegram/settings", &json!({ "moved": { "-77": -1_001_234_567_890_i64 } })).await;
    says(&world, -77, 3, "/start").await;
    until("the new group to be written to", async || chats(&world).await.iter().any(|(chat, _)| *chat == -1_001_234_567_890))
        .await;
    world.quiet().await;
    let rows = world.texts_of("SELECT doc FROM setup WHERE kind = 'recipient'").await;
    assert!(rows[0].contains("-1001234567890") && !rows[0].contains("-77,"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_address_updates_are_asked_for() {
    let world = World::bare(Default::default(), |_| {}).await;
    let mut setup = cafe(&world.sandbox.url());
    setup["connection"][0]["poll"] = json!(true);
    setup["connection"][0]["settings"]["poll_s"] = json!(1);
    world.apply(&setup).await;
    let code = code(&world, "anna").await;
    let update = json!({ "update_id": 11, "message": { "message_id": 1, "date": 1_795_338_800, "from": { "id": 5 },
        "chat": { "id": 5, "type": "private" }, "text": format!("/start {code}") } });
    world.control("telegram/updates", &json!([update])).await;
    until("the chat to be bound", async || bound_of(&world, "anna").await == 1).await;
    until("the update to be confirmed", async || world.shown("telegram/updates").await == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_and_the_secret_stand_nowhere() {
    let world = bound().await;
    says(&world, CHAT, 2, "Привет").await;
    world.control("telegram/faults", &json!({ "kind": "cut_before", "for_ms": 600_000 })).await;
    let health = world.api("/api/v1/connections/bot/health").await;
    assert_eq!(health["healthy"], false, "{health}");
    let secret = world.shown("telegram/webhook").await["secret_token"].as_str().unwrap().to_owned();
    let shown = [
        world.api("/api/v1/journal?limit=1000").await,
        world.newest("telegram").await,
        world.api("/api/v1/connections").await,
        world.api("/api/v1/notices").await,
        health,
    ];
    for secret in [TOKEN, &TOKEN[11..], &secret] {
        assert!(shown.iter().all(|shown| !shown.to_string().contains(secret)), "{shown:?}");
    }
    let rows = world.texts_of("SELECT endpoint FROM exchange").await;
    assert!(!rows.is_empty() && rows.iter().all(|row| !row.contains(&TOKEN[11..])), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_update_is_refused() {
    let world = bound().await;
    let hook = world.link("bot").await["hook"].as_str().unwrap().to_owned();
    let body = json!({ "update_id": 9, "message": { "chat": { "id": CHAT }, "text": "/stop" } });
    for secret in [None, Some("wrong"), Some("")] {
        let mut request = world.web.post(format!("{}{hook}", world.hub.url())).json(&body);
        if let Some(secret) = secret {
            request = request.header("X-Telegram-Bot-Api-Secret-Token", secret);
        }
        assert_eq!(request.send().await.unwrap().status(), 401, "{secret:?}");
    }
    assert_eq!(bound_of(&world, "anna").await, 1);
}
