//! What goes wrong inside the hub or around it: a port that panics, an asker that leaves, a row that cannot be decoded.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use garde::Validate;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_model::{
    CallError, Channel, Client, Connector, Id, Malformed, Outbound, Provider, Reading, Request,
    id::Kind,
    port::{Messages, Sent},
};
use uzel_store::{Setup, SetupRow, Sqlite, Store, StoreError};

use crate::{
    oauth,
    world::{KEY, World, until},
};

fn order(id: u32) -> Value {
    told(&format!("o{id}"), "Completed", id)
}

fn told(id: &str, status: &str, phone: u32) -> Value {
    json!({ "order": { "id": id, "status": status, "customer": { "name": "G", "phone": format!("+7999{phone:07}") } } })
}

async fn all_read(world: &World) {
    until("everything to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        counts["entries"].as_array().unwrap().iter().all(|pair| pair[0] != "unread" || pair[1] == 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_hangs_up_while_a_login_is_renewed_does_not_lose_it() {
    let world = oauth::authorized().await;
    world.pass(25 * 60);
    let slow = json!({ "kind": "latency", "latency_ms": 800, "path": "/oauth2/access_token" });
    world.control("amocrm/faults", &slow).await;
    let url = format!("{}/api/v1/connections/amocrm/subscribe", world.hub.url());
    let asked = world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).json(&json!({}));
    assert!(asked.timeout(Duration::from_millis(300)).send().await.is_err(), "the asker leaves first");
    // The old refresh token is spent by then.
    until("the renewal", async || world.calls("amocrm", "/oauth2/access_token").await.len() == 2).await;
    oauth::deal(&world, 9001).await;
    oauth::won(&world, 9001).await;
    until("the text", async || world.texts().await.len() == 1).await;
    assert_eq!(world.notices("unauthorized").await, Vec::<Value>::new());
}

#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Boom {}

impl Connector for Boom {
    fn parse(&self, _: &Request) -> Result<Reading, Malformed> {
        panic!("a reader that fails")
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Boom {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    async fn send(&self, _: &Client<'_>, _: Outbound<'_>) -> Result<Sent, CallError> {
        panic!("a port that fails")
    }
}

const BOOM: Provider = Provider::new::<Boom>("boom", "Boom");

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_panics_makes_dead_letters_and_unknown_outcomes_and_takes_no_place_from_others() {
    let mut all = uzel_connectors::PROVIDERS.to_vec();
    all.push(BOOM);
    let world = World::with(json!({}), Parts { providers: Box::leak(all.into_boxed_slice()), ..Parts::default() }).await;
    let flow = |slug: &str, via: &str| {
        json!({ "merchant": "m", "slug": slug, "on": ["order.completed"], "ground": "service", "ground_by": "t", "via": via,
            "text": "x", "latest": "3650d" })
    };
    let boom =
        |slug: &str| json!({ "merchant": "m", "slug": slug, "provider": "boom", "webhook_keys": [format!("{KEY}-{slug}")] });
    world.apply(&json!({ "connection": [boom("b1"), boom("b2")], "flow": [flow("review", "b1"), flow("two", "b2")] })).await;
    for id in 0..60 {
        assert_eq!(world.post("rkeeper", &order(id)).await.status(), 200);
    }
    until("all texts to be unknown", async || world.commands("unknown").await == 120).await;
    let hook = format!("{}/api/webhook/boom?key={KEY}-b1", world.hub.url());
    assert_eq!(world.web.post(hook).json(&json!({})).send().await.unwrap().status(), 200);
    until("the dead letter", async || world.api("/api/v1/journal?status=dead").await.as_array().unwrap().len() == 1).await;
    world.apply(&json!({ "flow": [flow("review", "smsru"), flow("two", "smsru")] })).await;
    assert_eq!(world.post("rkeeper", &order(1_000)).await.status(), 200);
    until("a text by another connection", async || !world.texts().await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_whose_flow_cannot_be_read_waits() {
    let world = World::new(json!({ "ground": "consent", "delay": "1h" })).await;
    assert_eq!(world.post("rkeeper", &order(1)).await.status(), 200);
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    let engine = &world.hub.engine;
    let old = engine.store.setup().await.unwrap().rows.into_iter().find(|row| row.id.kind() == Kind::Flow).unwrap();
    let mut doc = old.doc.clone();
    doc["a_field_of_the_next_version"] = json!(1);
    engine.store.put_setup(Setup { rows: vec![SetupRow { doc, ..old }], ..Setup::default() }).await.unwrap();
    engine.reload().await.unwrap();
    world.pass(61);
    until("the text to be looked at", async || {
        world.newest("rkeeper").await["commands"][0]["reason"] == "its flow cannot be used"
    })
    .await;
    assert_eq!((world.commands("waiting").await, world.texts().await.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_cannot_be_decoded_does_not_keep_others_from_being_read_and_sent() {
    let world = World::new(json!({ "delay": "1h" })).await;
    for id in [1, 2] {
        world.post("rkeeper", &order(id)).await;
    }
    until("two texts to wait", async || world.commands("waiting").await == 2).await;
    let file = world.data().join("uzel.db");
    let world = world
        .restart(async |_, _| {
            let db = rusqlite::Connection::open(&file).unwrap();
            db.execute_batch(
                "UPDATE inbox SET headers = 'x'; INSERT INTO unread SELECT min(ordinal) FROM inbox;
                 UPDATE command SET job = 'x' WHERE ordinal = (SELECT min(ordinal) FROM command);
                 INSERT OR REPLACE INTO tally VALUES ('entry/0', 1), ('entry/1', 1);",
            )
            .unwrap();
        })
        .await;
    world.post("rkeeper", &order(3)).await;
    until("the third text to wait", async || world.commands("waiting").await == 3).await;
    world.pass(61);
    until("two texts", async || world.texts().await.len() == 2).await;
    until("the broken one to be dead", async || world.commands("dead").await == 1).await;
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1["found"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_sends_nothing_for_an_order_that_was_cancelled() {
    let world = World::new(json!({})).await;
    world.post("rkeeper", &told("a", "Completed", 1)).await;
    world.quiet().await;
    let entry: Id = world.newest("rkeeper").await["entry"].as_str().unwrap().parse().unwrap();
    // As if the provider had refused it for good.
    let db = rusqlite::Connection::open(world.data().join("uzel.db")).unwrap();
    db.execute_batch(
        "UPDATE command SET state = 3; DELETE FROM slot; INSERT OR REPLACE INTO tally VALUES ('command/2', 0), ('command/3', 1)",
    )
    .unwrap();
    let before = world.texts().await.len();
    world.post("rkeeper", &told("a", "Cancelled", 1)).await;
    world.quiet().await;
    assert_eq!(world.hub.engine.replay(entry).await.unwrap().unwrap().queued, 0);
    assert_eq!(world.texts().await.len(), before);
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1["found"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn counts_are_of_one_moment() {
    let world = World::new(json!({})).await;
    let engine = world.hub.engine.clone();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let watching: Vec<_> = (0..3)
        .map(|_| {
            let (engine, done) = (engine.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let counts = engine.store.counts().await.unwrap();
                    assert!(counts.commands.iter().all(|(_, count)| *count <= 300), "{counts:?}");
                }
            })
        })
        .collect();
    for round in 0..30 {
        for id in 0..10 {
            world.post("rkeeper", &order(round * 10 + id)).await;
        }
        world.quiet().await;
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in watching {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_start_no_text_goes_before_a_cancellation_that_came_earlier_is_read() {
    let world = World::new(json!({ "delay": "1h" })).await;
    world.post("rkeeper", &told("a", "Completed", 1)).await;
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    let id: Id = world.newest("rkeeper").await["entry"].as_str().unwrap().parse().unwrap();
    let entry = world.hub.engine.store.entry(id).await.unwrap().unwrap();
    let file = world.data().join("uzel.db");
    // What was answered 2xx just before the stop: a burst, and the cancellation behind it.
    let world = world
        .restart(async |_, clock| {
            let store = Sqlite::open(&file).unwrap();
            for number in 0..300 {
                let mut next = entry.clone();
                next.id = Id::new(Kind::Entry);
                let last = number == 299;
                let body = if last { told("a", "Cancelled", 1) } else { told(&format!("b{number}"), "Completed", 100 + number) };
                next.request.body = body.to_string().into();
                store.append(next).await.unwrap();
            }
            store.close().await;
            clock.advance(jiff::SignedDuration::from_mins(61));
        })
        .await;
    all_read(&world).await;
    world.quiet().await;
    let texts = world.texts().await;
    assert_eq!(texts.len(), 299);
    assert!(!texts.iter().any(|(phone, _)| phone == "79990000001"), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_wait_to_be_written_do_not_keep_out_what_has_none() {
    let world = World::new(json!({})).await;
    world.post("rkeeper", &order(1)).await;
    world.quiet().await;
    let id: Id = world.newest("rkeeper").await["entry"].as_str().unwrap().parse().unwrap();
    let store = world.hub.engine.store.clone();
    let entry = store.entry(id).await.unwrap().unwrap();
    let large = || {
        let (store, mut next) = (store.clone(), entry.clone());
        next.id = Id::new(Kind::Entry);
        next.request.body = vec![b' '; 1 << 20].into();
        tokio::spawn(async move { store.append(next).await })
    };
    // The disk is busy: somebody else holds the file.
    let lock = rusqlite::Connection::open(world.data().join("uzel.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    until("a body to be refused", async || {
        let mut append = large();
        let refused = tokio::time::timeout(Duration::from_millis(20), &mut append).await;
        match refused {
            Ok(ended) => matches!(ended.unwrap(), Err(StoreError::Busy)),
            Err(_) => {
                waiting.push(append);
                false
            }
        }
    })
    .await;
    let mut saved = tokio::spawn({
        let store = store.clone();
        async move { store.put_session(entry.connection, vec![1]).await }
    });
    let early = tokio::time::timeout(Duration::from_millis(100), &mut saved).await;
    assert!(early.is_err(), "it waits for its turn, it is not refused: {early:?}");
    lock.execute_batch("ROLLBACK").unwrap();
    saved.await.unwrap().unwrap();
    for append in waiting {
        append.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_unknown_fate_and_a_dead_one_are_found_by_their_status_and_the_dead_one_is_replayed() {
    let world = World::new(json!({})).await;
    for (id, fault) in [(1, "cut_after"), (2, "none")] {
        if fault == "cut_after" {
            world.control("smsru/faults", &json!([{ "kind": fault, "path": "/sms/send" }])).await;
        }
        world.post("rkeeper", &order(id)).await;
        world.quiet().await;
    }
    let rows = async |status: &str| world.api(&format!("/api/v1/journal?status={status}")).await;
    let unknown = rows("unknown").await;
    let shown: Vec<_> = unknown.as_array().unwrap().iter().map(|row| (&row["direction"], &row["state"])).collect();
    assert_eq!(shown, [(&json!("OUT"), &json!("unknown")), (&json!("IN"), &json!("read"))], "{unknown}");
    assert_eq!(world.notices("unknown").await.len(), 1);
    // As if the provider had refused the second for good.
    let db = rusqlite::Connection::open(world.data().join("uzel.db")).unwrap();
    db.execute_batch(
        "UPDATE command SET state = 3 WHERE state = 2; DELETE FROM slot;
         INSERT OR REPLACE INTO tally VALUES ('command/2', 0), ('command/3', 1)",
    )
    .unwrap();
    assert_eq!(rows("dead").await.as_array().unwrap().len(), 2);
    for (provider, count) in [("rkeeper", 1), ("smsru", 1), ("iiko", 0)] {
        let asked = json!({ "dead": true, "provider": provider, "dry_run": true });
        assert_eq!(world.ask("/api/v1/replay", &asked).await.1["count"], count, "{provider}");
    }
    let before = world.texts().await.len();
    let (status, outcome) = world.ask("/api/v1/replay", &json!({ "dead": true, "provider": "smsru" })).await;
    assert_eq!((status, &outcome["outcomes"][0]["outcome"]["queued"]), (200, &json!(1)), "{outcome}");
    until("the dead text to go again", async || world.texts().await.len() == before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_cannot_journal_is_not_ready_until_it_can_again() {
    let world = World::new(json!({})).await;
    let lock = rusqlite::Connection::open(world.data().join("uzel.db")).unwrap();
    // Nothing can be written as long as the table is not there.
    lock.execute_batch("ALTER TABLE unread RENAME TO hidden").unwrap();
    assert_eq!(world.post("rkeeper", &order(1)).await.status(), 503);
    lock.execute_batch("ALTER TABLE hidden RENAME TO unread").unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ready = || world.web.get(format!("{}/readyz", world.hub.url())).send();
    assert_eq!(ready().await.unwrap().status(), 503);
    lock.execute_batch("ROLLBACK").unwrap();
    assert_eq!(ready().await.unwrap().status(), 200);
    assert_eq!(world.post("rkeeper", &order(1)).await.status(), 200);
}
