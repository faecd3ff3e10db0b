//! What people say about messages: by reply words, by a link, by a provider's own settings, by what somebody writes down, and by
//! stop lists.

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_model::{
    Address, CallError, Channel, Client, Connector, Happening, Malformed, Outbound, Person, Provider, Reading, Request,
    connector::Choice,
    event::kind,
    port::{Messages, Sent},
};

use crate::world::{KEY, World, free_port, setup, until};

const PHONE: &str = "+79991234567";

/// A messenger: people write to it, and choose in its settings whether they want messages.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Messenger {}

impl Connector for Messenger {
    fn parse(&self, request: &Request) -> Result<Reading, Malformed> {
        let body = request.json()?;
        let who = Address::Phone(body["from"].as_str().unwrap_or_default().to_owned());
        let mut reading = Reading::default();
        if let Some(text) = body["text"].as_str() {
            reading.happenings.push(Happening {
                key: Some(format!("message/{}", body["id"])),
                kind: kind::MESSAGE_RECEIVED,
                subject: format!("chat/{}", body["from"]),
                at: None,
                person: Person { name: None, phones: vec![body["from"].clone()], ..Person::default() },
                refs: Vec::new(),
                data: json!({ "text": text }),
                look_up: None,
            });
        }
        if let Some(wants) = body["wants"].as_bool() {
            let at = body["at"].as_str().and_then(|at| at.parse().ok());
            reading.choices.push(Choice { who, wants, how: "user_preferences".to_owned(), at });
        }
        Ok(reading)
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Messenger {
    fn channel(&self) -> Channel {
        Channel::Whatsapp
    }

    async fn send(&self, _: &Client<'_>, message: Outbound<'_>) -> Result<Sent, CallError> {
        Ok(Sent::new(message.key))
    }
}

const MESSENGER: Provider = Provider::new::<Messenger>("messenger", "Messenger");

async fn world(rules: Value) -> World {
    let mut all = uzel_connectors::PROVIDERS.to_vec();
    all.push(MESSENGER);
    let parts = Parts { providers: Box::leak(all.into_boxed_slice()), ..Parts::default() };
    let world = World::bare(parts, |settings| {
        settings.listen.set_port(free_port());
        settings.public_url = Some(format!("http://{}", settings.listen));
    })
    .await;
    let mut file = setup(&world.sandbox.url(), &rules);
    let messenger = json!({ "merchant": "m", "slug": "chat", "provider": "messenger", "webhook_keys": [KEY] });
    file["connection"].as_array_mut().unwrap().push(messenger);
    world.apply(&file).await;
    world
}

async fn writes(world: &World, body: &Value) {
    assert_eq!(world.post("messenger", body).await.status(), 200);
    until("it to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        !counts["entries"].as_array().unwrap().iter().any(|pair| pair[0] == "unread" && pair[1] != 0)
    })
    .await;
}

fn served(id: u32) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": PHONE, "name": "Иван" } } })
}

async fn words(world: &World) -> Value {
    world.api("/api/v1/consents?merchant=m&address=%2B79991234567").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_word_ends_messages_at_once_also_those_that_wait() {
    let world = world(json!({ "delay": "1h" })).await;
    world.post("rkeeper", &served(1)).await;
    until("the text waits", async || world.commands("waiting").await == 1).await;
    writes(&world, &json!({ "id": 1, "from": PHONE, "text": "спасибо, стоп машина" })).await;
    assert_eq!(words(&world).await["opted_out"], false);
    writes(&world, &json!({ "id": 2, "from": PHONE, "text": "  To‘xta " })).await;
    let said = words(&world).await;
    let word = &said["words"][0];
    assert_eq!((&said["opted_out"], &word["how"], &word["text"]), (&json!(true), &json!("message"), &json!("To‘xta")));
    assert_eq!((&word["granted"], &word["by"]), (&json!(false), &json!("hub")));
    world.pass(61);
    world.quiet().await;
    assert!(world.texts().await.is_empty());
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["opt_out", 1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_an_old_word_does_not_undo_a_later_one() {
    let world = world(json!({})).await;
    writes(&world, &json!({ "id": 1, "from": PHONE, "text": "STOP" })).await;
    world.pass(10);
    let consent = json!({ "merchant": "m", "phone": PHONE, "granted": true, "how": "till", "proof": "said at the till" });
    assert_eq!(world.ask("/api/v1/consents", &consent).await.0, 200);
    let entry = world.newest("messenger").await["entry"]["id"].as_str().map(str::to_owned);
    let rows = world.api("/api/v1/journal?provider=messenger").await;
    let entry = entry.unwrap_or_else(|| rows[0]["id"].as_str().unwrap().to_owned());
    assert_eq!(world.ask("/api/v1/replay", &json!({ "entry": entry })).await.0, 200);
    let said = words(&world).await;
    assert_eq!((&said["opted_out"], &said["consented"]), (&json!(false), &json!(true)));
    assert_eq!(said["words"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_at_the_provider_counts_and_a_yes_only_where_it_is_later_and_for_its_channel() {
    let world = world(json!({})).await;
    writes(&world, &json!({ "id": 1, "from": PHONE, "wants": false })).await;
    let said = words(&world).await;
    assert_eq!((&said["opted_out"], &said["words"][0]["how"]), (&json!(true), &json!("provider")));
    assert_eq!(said["words"][0]["text"], "Messenger: user_preferences");
    writes(&world, &json!({ "id": 2, "from": PHONE, "wants": true, "at": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(words(&world).await["opted_out"], true);
    world.pass(10);
    writes(&world, &json!({ "id": 3, "from": PHONE, "wants": true })).await;
    assert_eq!(words(&world).await["opted_out"], false);
    world.post("rkeeper", &served(1)).await;
    world.quiet().await;
    assert!(world.texts().await.is_empty(), "they said yes to WhatsApp, and no to all else");
    let command = json!({ "merchant": "m", "via": "chat", "to": PHONE, "text": "Hi", "ground": "consent" });
    let key = world.hub.owner_key().unwrap();
    let url = format!("{}/api/v1/commands", world.hub.url());
    let asked = world.web.post(url).bearer_auth(key).header("idempotency-key", "k").json(&command).send().await.unwrap();
    assert_eq!(asked.status(), 202);
    world.quiet().await;
    assert_eq!(world.commands("done").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_in_a_text_ends_messages_by_one_button_or_one_request() {
    let world = world(json!({ "text": "Привет! {{ unsubscribe }}" })).await;
    world.post("rkeeper", &served(1)).await;
    world.quiet().await;
    let text = world.texts().await[0].1.clone();
    let url = text.split_whitespace().last().unwrap().to_owned();
    assert!(url.contains("/u/"), "{text}");
    let page = async || world.web.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(page().await.contains(">Отписаться</button>"));
    assert_eq!(words(&world).await["opted_out"], false, "to look is not to press");
    let form = [("List-Unsubscribe", "One-Click")];
    for _ in 0..2 {
        let answer = world.web.post(&url).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().contains("«m» больше не будет вам писать"));
    }
    assert!(page().await.contains("«m» больше не будет вам писать"));
    let said = words(&world).await;
    assert_eq!((&said["opted_out"], said["words"].as_array().unwrap().len()), (&json!(true), 1));
    assert_eq!(said["words"][0]["how"], "link");
    world.post("rkeeper", &served(2)).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
    assert_eq!(world.web.post(url.replace("/u/", "/r/")).form(&[("stars", "5")]).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_written_down_with_their_proof_for_phones_and_mailboxes() {
    let world = world(json!({})).await;
    let record = async |body: Value| world.ask("/api/v1/consents", &body).await;
    let email = json!({
        "merchant": "m", "email": " Maria@Example.com ", "granted": true, "channel": "email", "purpose": "marketing", "how": "form",
        "proof": "form on the site, 2026-11-24"
    });
    let (status, recorded) = record(email).await;
    assert_eq!((status, &recorded["email"]), (200, &json!("m***@example.com")), "{recorded}");
    let said = world.api("/api/v1/consents?merchant=m&address=maria@example.com").await;
    assert_eq!((&said["consented"], &said["words"][0]["channel"]), (&json!(false), &json!("email")));
    for (body, place) in [
        (json!({ "merchant": "m", "granted": true, "proof": "x" }), "/phone"),
        (json!({ "merchant": "m", "phone": PHONE, "email": "a@b.c", "granted": true, "proof": "x" }), "/email"),
        (json!({ "merchant": "m", "phone": "a@b.cd", "granted": true, "proof": "x" }), "/phone"),
        (json!({ "merchant": "m", "email": "nobody", "granted": true, "proof": "x" }), "/email"),
        (json!({ "merchant": "m", "phone": PHONE, "granted": true, "proof": " " }), "/proof"),
        (json!({ "merchant": "m", "phone": PHONE, "channel": "email", "granted": true, "proof": "x" }), "/channel"),
        (json!({ "merchant": "m", "phone": PHONE, "channel": "pigeon", "granted": true, "proof": "x" }), "/channel"),
        (json!({ "merchant": "m", "phone": PHONE, "how": "dreamt", "granted": true, "proof": "x" }), "/how"),
    ] {
        let (status, problem) = record(body.clone()).await;
        assert!((400..500).contains(&status), "{body}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], place, "{body}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_list_is_taken_over_line_by_line_and_given_out_again() {
    let world = world(json!({})).await;
    let key = world.hub.owner_key().unwrap();
    let import = async |query: &str, kind: &str, body: Vec<u8>| {
        let url = format!("{}/api/v1/opt-outs/import?merchant=m{query}", world.hub.url());
        let answer = world.web.post(url).bearer_auth(&key).header("content-type", kind).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let list = "\u{feff}Телефон;Канал;Причина\r\n8 (999) 123-45-67;;просил не писать\r\n+79991234567;;\r\nмимо;;\r\n\
                \"maria@example.com\";email;\r\n+79990000001;голубь;\r\n\r\n";
    let (status, tried) = import("&dry_run=true", "text/csv", list.into()).await;
    assert_eq!((status, &tried["added"], &tried["faulty"]), (200, &json!(2), &json!(2)), "{tried}");
    assert_eq!(words(&world).await["opted_out"], false);
    let (_, done) = import("", "text/csv; charset=utf-8", list.into()).await;
    assert_eq!((&done["added"], &done["repeated"]), (&json!(2), &json!(1)), "{done}");
    assert_eq!(done["lines"][0], json!({ "line": 2, "outcome": "added", "address": "+7999***4567", "why": null }));
    assert!(done["lines"][4]["why"].as_str().unwrap().contains("no channel"), "{done}");
    let (_, again) = import("", "text/csv", list.into()).await;
    assert_eq!((&again["added"], &again["known"]), (&json!(0), &json!(2)), "{again}");
    let said = words(&world).await;
    assert_eq!((&said["words"][0]["how"], &said["words"][0]["text"]), (&json!("import"), &json!("просил не писать")));

    let masked = world.api("/api/v1/opt-outs?merchant=m").await;
    assert_eq!(masked[0]["address"], "+7999***4567");
    let whole = world.api("/api/v1/opt-outs?merchant=m&unmasked=true").await;
    assert_eq!((&whole[0]["address"], &whole[0]["channels"]), (&json!(PHONE), &Value::Null));
    assert_eq!((&whole[1]["address"], &whole[1]["channels"]), (&json!("maria@example.com"), &json!(["email"])));

    let windows_1251 = vec![0xd2, 0xe5, 0xeb, b'\n', b'+', b'7'];
    let (status, problem) = import("", "text/csv", windows_1251).await;
    assert_eq!(status, 400);
    assert!(problem["detail"].as_str().unwrap().contains("UTF-8"), "{problem}");
    assert_eq!(import("", "application/json", b"{}".to_vec()).await.0, 415);
    assert_eq!(import("", "text/csv", Vec::new()).await.0, 422);
    assert_eq!(import("", "text/csv", vec![b'1'; 5 << 20]).await.0, 413);
}
