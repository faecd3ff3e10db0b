//! Messages to single people by channel: which connection sends, and what each field may say.

use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    asked::ask,
    commands::cafe,
    world::{World, setup, until},
};

fn text(channel: &str, to: &str) -> Value {
    json!({ "merchant": "m", "channel": channel, "to": to, "text": "Готово", "ground": "service" })
}

fn with(mut body: Value, change: &Value) -> Value {
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    body
}

/// The world's merchant, with the journal standing for some channels beside SMS.ru.
async fn world() -> World {
    let world = World::new(json!({})).await;
    let log = |slug: &str, channel: &str| json!({ "merchant": "m", "slug": slug, "provider": "log", "settings": { "channel": channel } });
    let logs =
        [log("log-sms", "sms"), log("log-whatsapp", "whatsapp"), log("log-email", "email"), log("log-telegram", "telegram")];
    world.apply(&json!({ "connection": logs })).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_channel_the_first_connection_sends_that_reaches_people_and_is_not_paused() {
    let world = world().await;
    let sms = world.link("smsru").await["id"].clone();
    let (status, answer) = ask(&world, Some("1"), &text("sms", "8 999 111-00-01")).await;
    assert_eq!((status, &answer["connection"], &answer["dev"]), (202, &sms, &Value::Null), "{answer}");
    world.quiet().await;
    assert_eq!(world.texts().await, [("79991110001".to_owned(), "Готово".to_owned())]);

    // Forced to another, which is told: nobody gets it.
    let log = world.link("log-sms").await["id"].clone();
    let (status, answer) = ask(&world, Some("2"), &with(text("sms", "+79991110001"), &json!({ "provider": "log" }))).await;
    assert_eq!((status, &answer["connection"], &answer["dev"]), (202, &log, &json!(true)));
    let id = world.link("smsru").await["id"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(&format!("/api/v1/connections/{id}/pause"), &json!({})).await.0, 200);
    let (status, answer) = ask(&world, Some("3"), &text("sms", "+79991110001")).await;
    assert_eq!((status, &answer["connection"], &answer["dev"]), (202, &log, &json!(true)));
    until("both to be journalled", async || world.commands("done").await == 3).await;
    assert_eq!(world.texts().await.len(), 1);

    let channels = world.api("/api/v1/merchants/m/channels").await;
    let state =
        |place: usize| [&channels[place]["channel"], &channels[place]["ready"], &channels[place]["dev"], &channels[place]["why"]];
    assert_eq!(state(0), [&json!("sms"), &json!(false), &json!(true), &json!("its messages go to the journal only")]);
    let slugs: Vec<&str> =
        channels[0]["connections"].as_array().unwrap().iter().map(|link| link["slug"].as_str().unwrap()).collect();
    assert_eq!(slugs, ["smsru", "log-sms"]);
    assert_eq!(channels[0]["connections"][0]["why"], "it is paused");
    assert_eq!(
        state(4),
        [&json!("push"), &json!(false), &json!(false), &json!("no connection of this merchant sends by `push`: set one up")]
    );
    assert_eq!(world.api("/api/v1/merchants/nobody/channels").await["status"], 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_channel_takes_its_own_kind_of_address_and_content() {
    let world = world().await;
    let template = json!({ "name": "review_request", "language": "ru", "components": [{ "type": "body", "parameters": [{ "type": "text", "text": "Кофейня" }] }] });
    for (key, body) in [
        ("whatsapp", text("whatsapp", "+79991110001")),
        (
            "template",
            json!({ "merchant": "m", "channel": "whatsapp", "to": "79991110001", "template": template, "ground": "service" }),
        ),
        ("email", with(text("email", " Ivan@Example.com "), &json!({ "subject": "Чек", "html": "<p>Чек</p>" }))),
        ("telegram", text("telegram", "7000000001")),
        (
            "named",
            json!({ "merchant": "m", "connection": "log-email", "channel": "email", "provider": "log", "to": "a@example.com",
            "subject": "x", "text": "x", "ground": "service" }),
        ),
    ] {
        let (status, answer) = ask(&world, Some(key), &body).await;
        assert_eq!((status, &answer["dev"]), (202, &json!(true)), "{key}: {answer}");
        let shown = world.api(&format!("/api/v1/commands/{}?unmasked=true", answer["id"].as_str().unwrap())).await;
        match key {
            "template" => assert_eq!(shown["job"]["template"], template),
            "email" => {
                assert_eq!((&shown["job"]["email"], &shown["job"]["subject"]), (&json!("ivan@example.com"), &json!("Чек")))
            }
            "telegram" => assert_eq!(shown["job"]["chat"], 7_000_000_001_i64),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_message_is_told_with_its_field() {
    let world = world().await;
    let email = with(text("email", "ivan@example.com"), &json!({ "subject": "Чек" }));
    let file = |name: &str, kind: &str, content: &str| json!([{ "name": name, "media_type": kind, "content": content }]);
    for (body, place) in [
        (text("push", "token"), "/channel"),
        (text("pigeon", "x"), "/channel"),
        (with(text("sms", "+79991110001"), &json!({ "provider": "resend" })), "/provider"),
        (with(text("sms", "+79991110001"), &json!({ "provider": "nobody" })), "/provider"),
        (with(text("sms", "+79991110001"), &json!({ "connection": "log-email" })), "/channel"),
        (with(text("sms", "+79991110001"), &json!({ "connection": "smsru", "provider": "log" })), "/provider"),
        (text("sms", "ivan@example.com"), "/to"),
        (with(email.clone(), &json!({ "to": "+79991110001" })), "/to"),
        (text("telegram", "@ivan"), "/to"),
        (text("email", "ivan@example.com"), "/subject"),
        (with(email.clone(), &json!({ "subject": "two\nlines" })), "/subject"),
        (with(email.clone(), &json!({ "subject": "я".repeat(500) })), "/subject"),
        (with(email.clone(), &json!({ "subject": 7 })), "/subject"),
        (with(email.clone(), &json!({ "html": " " })), "/html"),
        (with(text("sms", "+79991110001"), &json!({ "html": "<p>" })), "/html"),
        (with(text("sms", "+79991110001"), &json!({ "subject": "x" })), "/subject"),
        (with(email.clone(), &json!({ "template": { "name": "a", "language": "ru" } })), "/template"),
        (with(text("whatsapp", "+79991110001"), &json!({ "template": { "name": " ", "language": "ru" } })), "/template/name"),
        (with(text("whatsapp", "+79991110001"), &json!({ "template": { "name": "a" } })), "/template/language"),
        (
            with(text("whatsapp", "+79991110001"), &json!({ "template": { "name": "a", "language": "ru", "components": [[]] } })),
            "/template/components/0",
        ),
        (with(email.clone(), &json!({ "attachments": file("../a", "text/plain", "YQ==") })), "/attachments/0/name"),
        (with(email.clone(), &json!({ "attachments": file("a", "text", "YQ==") })), "/attachments/0/media_type"),
        (with(email.clone(), &json!({ "attachments": file("a", "text/plain", "no base64") })), "/attachments/0/content"),
        (with(email.clone(), &json!({ "attachments": {} })), "/attachments"),
        (with(email.clone(), &json!({ "text": "", "html": null })), "/text"),
        (with(email.clone(), &json!({ "text": null })), "/text"),
    ] {
        let (status, problem) = ask(&world, Some("k"), &body).await;
        let places: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!((status, &places[..]), (422, &[place][..]), "{body}: {problem}");
    }
    assert_eq!(world.commands("waiting").await + world.commands("done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_people_sees_neither_their_phones_nor_their_mailboxes() {
    let world = world().await;
    let body = with(text("email", "ivan.petrov@example.com"), &json!({ "subject": "Чек", "text": "To ivan.petrov@example.com" }));
    let id = ask(&world, Some("k"), &body).await.1["id"].as_str().unwrap().to_owned();
    let masked = world.api(&format!("/api/v1/commands/{id}")).await.to_string();
    assert!(masked.contains("i***@example.com") && !masked.contains("petrov"), "{masked}");
    let whole = world.api(&format!("/api/v1/commands/{id}?unmasked=true")).await.to_string();
    assert!(whole.contains("ivan.petrov@example.com"), "{whole}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sends_by_channel_or_by_connection() {
    let (binary, sandbox) = cafe().await;
    let sent = binary.uzel(&["send", "sms", "--merchant", "cafe", "--to", "+79991110001", "--text", "by channel"]);
    assert!(sent.code == 0 && sent.out.contains("waiting"), "{}{}", sent.out, sent.err);
    let sent = binary.uzel(&["send", "--merchant", "cafe", "--via", "texts", "--to", "+79991110002", "--text", "by connection"]);
    assert_eq!(sent.code, 0, "{}", sent.err);
    until("both texts", async || {
        let texts = binary.web.get(format!("{}/_sandbox/smsru/accepted", sandbox.url())).send().await.unwrap();
        texts.json::<Value>().await.unwrap().as_array().unwrap().len() == 2
    })
    .await;
    for wrong in [
        &["send", "--merchant", "cafe", "--to", "+79991110001", "--text", "x"][..],
        &["send", "pigeon", "--to", "x", "--text", "x"],
        &["send", "sms", "--to", "+79991110001"],
        &["send", "whatsapp", "--to", "+79991110001", "--template", "a"],
    ] {
        assert_eq!(binary.uzel(wrong).code, 2, "{wrong:?}");
    }
    let page = binary.uzel(&["channels", "--merchant", "cafe"]);
    assert!(
        page.out.starts_with("sms       ready\n  * texts") && page.out.contains("email     -  no connection"),
        "{}",
        page.out
    );
    let money = binary.uzel(&["connections", "balance", "texts"]);
    assert!(money.code == 0 && money.out.starts_with("left at the provider: "), "{}{}", money.out, money.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_merchant_s_connections_are_not_chosen() {
    let world = World::bare(Parts::default(), |_| {}).await;
    world.apply(&setup(&world.sandbox.url(), &json!({}))).await;
    world.apply(&json!({ "merchant": [{ "slug": "other" }] })).await;
    let (status, problem) = ask(&world, Some("k"), &with(text("sms", "+79991110001"), &json!({ "merchant": "other" }))).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/channel")), "{problem}");
}
