//! Erasure of one person, and retention of one merchant, by the whole hub.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_engine::ErasureError;
use uzel_model::Id;
use uzel_store::{EntryState, FeedFrom, JournalFilter};

use crate::world::{World, setup, until};

const PHONE: &str = "+79991234567";
/// The ways in which the number below stands in what comes.
const DIGITS: [&[u8]; 2] = [b"9991234567", b"999) 123-45-67"];

fn merchant(world: &World) -> Id {
    world.hub.engine.world().merchant("m").unwrap()
}

fn order(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Мария Петровна" } } })
}

async fn texts_at_the_provider(world: &World) -> usize {
    world.texts().await.len()
}

/// Every file of the hub's data, read as bytes.
fn bytes_of(world: &World) -> Vec<u8> {
    let files = std::fs::read_dir(world.data()).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    files.flat_map(|path| std::fs::read(path).unwrap()).collect()
}

fn finds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn what_is_left_of_an_erased_person_names_them_nowhere() {
    let world = World::new(json!({ "delay": "2h" })).await;
    for (id, phone) in [(1, "8 (999) 123-45-67"), (2, PHONE), (3, "+79990000001")] {
        assert!(world.post("rkeeper", &order(id, phone)).await.status().is_success());
    }
    let engine = world.hub.engine.clone();
    let counts = async || engine.store.counts().await.unwrap();
    until("all is read", async || counts().await.entries == [(EntryState::Read, 3)]).await;
    let own = merchant(&world);
    let since = FeedFrom::Time(world.clock.now() - SignedDuration::from_hours(1));
    let events = async || engine.next_events(Some(own), &[], since, 10, std::time::Duration::ZERO).await.unwrap().events;
    // On PostgreSQL the feed waits for transactions that are open elsewhere.
    until("the events", async || events().await.len() == 3).await;
    let entries: Vec<Id> = events().await.iter().map(|stored| stored.event.entry).collect();

    assert!(matches!(engine.erase(own, "nobody").await, Err(ErasureError::Phone(_))));
    let erasure = engine.erase(own, "8 999 123-45-67").await.unwrap();
    assert_eq!((erasure.erased.entries, erasure.erased.events, erasure.erased.commands), (2, 2, 2), "{erasure:?}");
    assert!(erasure.not_reached.iter().any(|left| left.contains("backups")), "{erasure:?}");
    assert_eq!(counts().await.held, [("erased".to_owned(), 2)]);
    assert_eq!(engine.erase(own, PHONE).await.unwrap().erased.entries, 0);

    // A replay of what was erased says so, and makes nothing.
    let mut said = Vec::new();
    for entry in entries {
        said.push(engine.replay(entry).await.unwrap().unwrap().dead);
    }
    assert_eq!(said.iter().flatten().filter(|why| why.contains("erased")).count(), 2, "{said:?}");
    let by_phone = JournalFilter { reference: Some(PHONE.to_owned()), limit: 10, ..JournalFilter::default() };
    assert!(engine.store.journal(by_phone).await.unwrap().is_empty());
    world.pass(180);
    until("the other guest's text", async || texts_at_the_provider(&world).await == 1).await;
    assert_eq!(engine.store.fsck(false).await.unwrap(), [] as [String; 0]);

    let kept = ["SELECT doc FROM event", "SELECT job FROM command", "SELECT request FROM exchange", "SELECT headers FROM inbox"];
    for sql in kept {
        let texts = world.texts_of(sql).await;
        assert!(!texts.iter().any(|text| text.contains("1234567") || text.contains("(999)")), "{sql}: {texts:?}");
    }
}

#[tokio::test]
async fn the_files_do_not_hold_the_number_after_a_vacuum() {
    let world = World::new(json!({ "delay": "2h" })).await;
    for id in 1..40 {
        assert!(world.post("rkeeper", &order(id, "8 (999) 123-45-67")).await.status().is_success());
    }
    let engine = world.hub.engine.clone();
    until("all is read", async || engine.store.counts().await.unwrap().entries == [(EntryState::Read, 39)]).await;
    let own = merchant(&world);
    assert!(engine.store.put_consent(own, PHONE, false, "by word of mouth", world.clock.now()).await.unwrap());
    let before = bytes_of(&world);
    assert!(DIGITS.iter().all(|digits| finds(&before, digits)) && finds(&before, "Петровна".as_bytes()));
    let erasure = engine.erase(own, PHONE).await.unwrap();
    assert_eq!((erasure.erased.entries, erasure.erased.contacts), (39, 1));
    drop(engine);
    let file = world.data().join("uzel.db");
    let vacuum = async |_: &_, _: &_| rusqlite::Connection::open(&file).unwrap().execute_batch("VACUUM").unwrap();
    let world = world.restart(vacuum).await;
    let after = bytes_of(&world);
    for digits in DIGITS {
        assert!(!finds(&after, digits), "{}", String::from_utf8_lossy(digits));
    }
    assert!(!finds(&after, "Петровна".as_bytes()));
}

#[tokio::test]
async fn who_wanted_no_messages_and_was_erased_gets_none_when_the_phone_comes_again() {
    let world = World::new(json!({})).await;
    let (engine, own) = (world.hub.engine.clone(), merchant(&world));
    assert!(engine.store.put_consent(own, PHONE, false, "by word of mouth", world.clock.now()).await.unwrap());
    assert_eq!(engine.erase(own, PHONE).await.unwrap().erased.contacts, 1);
    assert!(world.texts_of("SELECT phone FROM contact").await.is_empty());
    world.post("rkeeper", &order(1, PHONE)).await;
    until("the text is held back", async || engine.store.counts().await.unwrap().held == [("opt_out".to_owned(), 1)]).await;
    assert_eq!(texts_at_the_provider(&world).await, 0);
}

#[tokio::test]
async fn a_merchant_may_be_kept_for_less_long_than_the_hub_keeps() {
    let world = World::new(json!({})).await;
    let mut file = setup(&world.sandbox.url(), &json!({}));
    file["merchant"][0]["keep_days"] = json!(7);
    world.apply(&file).await;
    world.post("rkeeper", &order(1, "+79990000001")).await;
    let engine = world.hub.engine.clone();
    until("it is read and sent", async || texts_at_the_provider(&world).await == 1).await;
    let entries = async || {
        let counts = engine.store.counts().await.unwrap();
        counts.entries.iter().map(|(_, count)| *count).sum::<u64>()
    };
    assert_eq!(entries().await, 1);
    world.pass(60 * 24 * 8);
    let world = world.restart(async |_, _| {}).await;
    let engine = world.hub.engine.clone();
    until("it is forgotten", async || engine.store.counts().await.unwrap().entries.is_empty()).await;
}

/// A merchant that writes by mail and to chats, both to the journal.
async fn world_of_mails() -> World {
    let world = World::bare(uzel::hub::Parts::default(), |_| {}).await;
    let mut file = setup(&world.sandbox.url(), &json!({ "via": "mail", "delay": "2h" }));
    for (slug, channel) in [("mail", "email"), ("chat", "telegram")] {
        let link = json!({ "merchant": "m", "slug": slug, "provider": "log", "settings": { "channel": channel } });
        file["connection"].as_array_mut().unwrap().push(link);
    }
    world.apply(&file).await;
    world
}

async fn visit(world: &World, id: u32, client: Value) {
    let body = json!({ "company_id": 4564, "resource": "record", "resource_id": id, "status": "update", "data": {
        "id": id, "visit_id": id, "visit_attendance": 1, "attendance": 1, "deleted": false, "date": "2026-11-24 12:10:00",
        "services": [{ "title": "Стрижка" }], "client": client } });
    assert_eq!(world.post("yclients", &body).await.status(), 200);
}

const KEPT: [&str; 6] = [
    "SELECT doc FROM event",
    "SELECT job FROM command",
    "SELECT request FROM exchange",
    "SELECT phone FROM contact",
    "SELECT doc FROM consent",
    "SELECT address FROM bounce",
];

#[tokio::test]
async fn a_mailbox_is_erased_as_a_phone_is_and_one_that_only_looks_like_it_stays() {
    let world = world_of_mails().await;
    visit(&world, 1, json!({ "id": 1, "name": "Мария", "email": "Maria.P@Example.com" })).await;
    visit(&world, 2, json!({ "id": 2, "name": "Анна", "email": "anna.maria.p@example.com" })).await;
    visit(&world, 3, json!({ "id": 3, "name": "Мария", "phone": "+79990000003", "email": "maria.p@example.com" })).await;
    until("three mails to wait", async || world.commands("waiting").await == 3).await;
    let own = json!({ "merchant": "m", "email": "maria.p@example.com", "granted": false, "proof": "Мария said so" });
    let others = json!({ "merchant": "m", "email": "anna.maria.p@example.com", "granted": true, "proof": "Анна said so" });
    for word in [&own, &others] {
        assert_eq!(world.ask("/api/v1/consents", word).await.0, 200);
    }
    let erase = async |body: Value| world.ask("/api/v1/merchants/m/erasures", &body).await;
    let (status, erased) = erase(json!({ "email": " Maria.P@example.com" })).await;
    assert_eq!(
        (status, &erased["entries"], &erased["commands"], &erased["contacts"]),
        (200, &json!(2), &json!(2), &json!(1)),
        "{erased}"
    );
    for sql in KEPT {
        let texts = world.texts_of(sql).await;
        let named =
            |text: &String| text.to_lowercase().replace("anna.maria.p@", "").contains("maria.p") || text.contains("Мария");
        assert!(!texts.iter().any(named), "{sql}: {texts:?}");
    }
    assert!(world.texts_of("SELECT doc FROM event").await.iter().any(|text| text.contains("anna.maria.p@example.com")));
    assert_eq!(erase(json!({ "email": "maria.p@example.com" })).await.1["entries"], 0);
    // Who wanted none gets none when the mailbox comes again.
    visit(&world, 4, json!({ "id": 4, "name": "М", "email": "maria.p@example.com" })).await;
    until("the mail to wait", async || world.commands("waiting").await == 2).await;
    world.pass(121);
    until("the other's mail to go", async || (world.commands("done").await, world.commands("waiting").await) == (1, 0)).await;
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["erased", 2], ["opt_out", 1]]));
    for (body, pointer) in [
        (json!({}), "/phone"),
        (json!({ "phone": "+79990000001", "email": "a@b.example" }), "/phone"),
        (json!({ "email": "nobody" }), "/email"),
        (json!({ "email": "@" }), "/email"),
        (json!({ "phone": "a@b.example" }), "/phone"),
        (json!({ "chat": "one" }), "/chat"),
    ] {
        let (status, answer) = erase(body.clone()).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}: {answer}");
    }
}

#[tokio::test]
async fn a_chat_is_erased_by_its_whole_number() {
    let world = world_of_mails().await;
    for (key, chat) in [("a", "5120042"), ("b", "51200421"), ("c", "-5120042")] {
        let text =
            json!({ "merchant": "m", "channel": "telegram", "to": chat, "text": format!("to {key}"), "ground": "service" });
        let (status, answer) = crate::asked::ask(&world, Some(key), &text).await;
        assert_eq!(status, 202, "{answer}");
    }
    world.quiet().await;
    let (status, erased) = world.ask("/api/v1/merchants/m/erasures", &json!({ "chat": 5_120_042 })).await;
    assert_eq!((status, &erased["commands"]), (200, &json!(1)), "{erased}");
    let mut jobs = world.texts_of("SELECT job FROM command").await;
    jobs.retain(|job| job.contains("to a") || job.contains("5120042"));
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    let sent = world.texts_of("SELECT request FROM exchange").await;
    assert!(!sent.iter().any(|text| text.contains("to a")) && sent.iter().any(|text| text.contains("to c")), "{sent:?}");
}
