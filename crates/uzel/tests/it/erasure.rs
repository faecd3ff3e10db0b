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
    let page = engine
        .next_events(
            Some(own),
            &[],
            FeedFrom::Time(world.clock.now() - SignedDuration::from_hours(1)),
            10,
            std::time::Duration::ZERO,
        )
        .await
        .unwrap();
    let entries: Vec<Id> = page.events.iter().map(|stored| stored.event.entry).collect();

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
