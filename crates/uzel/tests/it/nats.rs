//! Events out: what a consumer that somebody else wrote gets, whatever happens to the server or to the hub.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use async_nats::jetstream::{
    self, AckKind, Context,
    consumer::{AckPolicy, pull},
    stream::Config,
};
use futures::StreamExt;
use serde_json::{Value, json};
use uzel_model::Secret;

use crate::{
    binary::Binary,
    commands::setup,
    nats_server::{BOTH, Nats, Sync, installed},
    oauth,
    world::{KEY, World, until, web},
};

pub(crate) async fn jetstream(nats: &Nats) -> Context {
    jetstream::new(async_nats::connect(nats.url()).await.unwrap())
}

/// A hub that publishes to this server, with everything set up and no text ever sent.
pub(crate) async fn world(nats: &Nats) -> World {
    World::tuned(|settings| settings.nats = Some(Secret::new(nats.url()))).await
}

fn order(id: u32, status: &str) -> Value {
    json!({ "order": { "id": id, "status": status, "sum": "640.50", "customer": { "phone": "+79991110001", "name": "Иван" } } })
}

async fn post(world: &World, body: &Value) {
    assert_eq!(world.post("rkeeper", body).await.status(), 200);
}

async fn all_read(world: &World) {
    until("all to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        counts["entries"].as_array().unwrap().iter().all(|pair| pair[0] != "unread" || pair[1] == 0)
    })
    .await;
}

/// One message as a consumer gets it.
#[derive(Debug, Clone)]
struct Got {
    subject: String,
    headers: BTreeMap<String, String>,
    event: Value,
}

impl Got {
    fn id(&self) -> &str {
        self.event["id"].as_str().unwrap()
    }
}

/// A durable consumer of the stock client; takes messages until it has so many different events.
async fn consume(nats: &Nats, name: &str, events: usize) -> Vec<Got> {
    let jetstream = jetstream(nats).await;
    until("the stream", async || jetstream.get_stream("UZEL").await.is_ok()).await;
    let stream = jetstream.get_stream("UZEL").await.unwrap();
    let config = pull::Config { durable_name: Some(name.to_owned()), ack_policy: AckPolicy::Explicit, ..Default::default() };
    let consumer = stream.get_or_create_consumer(name, config).await.unwrap();
    let mut got: Vec<Got> = Vec::new();
    let mut ids = BTreeSet::new();
    let mut messages = consumer.messages().await.unwrap();
    while ids.len() < events {
        let next = tokio::time::timeout(Duration::from_secs(60), messages.next()).await;
        let message = next.unwrap_or_else(|_| panic!("only {} of {events} events came", ids.len())).unwrap().unwrap();
        let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
        got.push(Got {
            subject: message.subject.to_string(),
            headers: headers.map(|(name, values)| (name.to_string(), values[0].to_string())).collect(),
            event: serde_json::from_slice(&message.payload).unwrap(),
        });
        ids.insert(got.last().unwrap().id().to_owned());
        message.ack_with(AckKind::Ack).await.unwrap();
    }
    got
}

/// All ids of events that the hub has, by the journal of its store.
async fn all_events(world: &World) -> BTreeSet<String> {
    let docs = world.texts_of("SELECT doc FROM event").await;
    docs.iter().map(|doc| serde_json::from_str::<Value>(doc).unwrap()["id"].as_str().unwrap().to_owned()).collect()
}

fn ids(got: &[Got]) -> BTreeSet<String> {
    got.iter().map(|got| got.id().to_owned()).collect()
}

/// Checks that of every order its completion came before its cancellation, as they were told; gives how many orders came.
fn in_order(got: &[Got]) -> usize {
    let mut seen = BTreeSet::new();
    let mut by_subject: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for got in got.iter().filter(|got| seen.insert(got.id())) {
        by_subject.entry(got.event["subject"].as_str().unwrap()).or_default().push(got.event["type"].as_str().unwrap());
    }
    let wrong = by_subject.iter().find(|(_, types)| **types != ["order.completed", "order.cancelled"]);
    assert_eq!(wrong, None);
    by_subject.len()
}

/// What differs each time, by its name.
fn plain(got: &Got) -> Value {
    let mut value = json!({ "subject": got.subject, "headers": got.headers, "event": got.event });
    let event = &got.event;
    let mut text = value.to_string();
    let trace = event["traceparent"].as_str().unwrap();
    let connection = event["source"].as_str().unwrap().rsplit('/').next().unwrap();
    let merchant = event["source"].as_str().unwrap().split('/').nth(2).unwrap();
    for (found, name) in [
        (event["id"].as_str().unwrap(), "<evt>"),
        (event["data"]["entry"].as_str().unwrap(), "<inb>"),
        (event["time"].as_str().unwrap(), "<time>"),
        (connection, "<con>"),
        (merchant, "<mer>"),
        (trace, "<traceparent>"),
    ] {
        text = text.replace(found, name);
    }
    value = serde_json::from_str(&text).unwrap();
    if value["headers"].get("Nats-Expected-Last-Msg-Id").is_some() {
        value["headers"]["Nats-Expected-Last-Msg-Id"] = json!("<the one before>");
    }
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_reaches_a_consumer_of_the_stock_client_in_the_order_of_its_subject() {
    for sync in BOTH {
        let nats = Nats::start(sync);
        let world = world(&nats).await;
        // In rounds, so that of every order both things are told, one after the other.
        for status in ["Выполнен", "Отменен"] {
            let told = (0..100).map(async |id| post(&world, &order(id, status)).await);
            futures::future::join_all(told).await;
            all_read(&world).await;
        }
        let got = consume(&nats, "theirs", 200).await;
        assert_eq!((got.len(), ids(&got)), (200, all_events(&world).await));
        for got in &got {
            assert_eq!(got.headers["Nats-Msg-Id"], got.id());
            assert_eq!(got.subject, format!("uzel.events.m.{}", got.event["type"].as_str().unwrap()));
        }
        assert_eq!(in_order(&got), 100);
        let first = got.iter().find(|got| got.event["subject"] == "order/7").unwrap();
        let mut first = plain(first);
        first["headers"].as_object_mut().unwrap().remove("Nats-Expected-Last-Msg-Id");
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
            insta::assert_json_snapshot!("nats__event", first);
        });
        until("nothing to wait", async || world.hub.engine.store.publishing().await.unwrap().0 == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_python_gets_all_events() {
    let nats = Nats::start(Sync::Default);
    let world = world(&nats).await;
    for id in 0..50 {
        post(&world, &order(id, "Выполнен")).await;
    }
    until("all to be published", async || {
        all_events(&world).await.len() == 50 && world.hub.engine.store.publishing().await.unwrap().0 == 0
    })
    .await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/nats_consumer.py");
    let out = Command::new(installed("python")).args([script, &nats.url(), "50"]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let lines: Vec<Value> =
        String::from_utf8(out.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: BTreeSet<String> = lines.iter().map(|line| line["event"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((lines.len(), ids), (50, all_events(&world).await));
    assert_eq!(lines[0]["headers"]["Content-Type"], "application/cloudevents+json");
    assert_eq!(lines[0]["event"]["specversion"], "1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_again_and_again_delays_and_loses_nothing() {
    for sync in BOTH {
        let nats = Nats::start(sync);
        // Nobody is there when the hub starts.
        nats.kill();
        let world = world(&nats).await;
        for number in 0..500 {
            post(&world, &order(number / 2, if number % 2 == 0 { "Выполнен" } else { "Отменен" })).await;
            match number % 200 {
                50 => nats.start_again(),
                199 => nats.kill(),
                _ => {}
            }
        }
        assert!(
            world
                .web
                .get(format!("{}/metrics", world.hub.url()))
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .contains("uzel_nats_up")
        );
        all_read(&world).await;
        nats.kill();
        for number in 500..1_000 {
            post(&world, &order(number / 2, if number % 2 == 0 { "Выполнен" } else { "Отменен" })).await;
        }
        all_read(&world).await;
        // In the middle of what is under way, until nothing is.
        let waiting = async || world.hub.engine.store.publishing().await.unwrap().0;
        let mut before = waiting().await;
        assert!(before >= 500);
        while before > 0 {
            nats.start_again();
            until("some to be published", async || waiting().await < before).await;
            nats.kill();
            before = waiting().await;
        }
        nats.start_again();
        let got = consume(&nats, "theirs", 1_000).await;
        assert_eq!(ids(&got), all_events(&world).await);
        assert_eq!(in_order(&got), 500);
        // What came again came under its own id, and no other.
        assert!(got.iter().all(|got| got.headers["Nats-Msg-Id"] == got.id()));
        until("nothing to wait", async || world.hub.engine.store.publishing().await.unwrap().0 == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_dies_between_publishing_and_marking_publishes_again_under_the_same_ids() {
    let nats = Nats::start(Sync::Default);
    let world = world(&nats).await;
    for id in 0..20 {
        post(&world, &order(id, "Выполнен")).await;
    }
    let before = consume(&nats, "before", 20).await;
    until("all to be marked", async || world.hub.engine.store.publishing().await.unwrap().0 == 0).await;
    let file = world.data().join("uzel.db");
    let world = world
        .restart(async |_, _| {
            // As a process leaves it that was killed before it could mark what was acknowledged.
            let db = rusqlite::Connection::open(&file).unwrap();
            assert_eq!(db.execute("INSERT INTO unpublished (event) SELECT ordinal FROM event", []).unwrap(), 20);
        })
        .await;
    until("all to be marked again", async || world.hub.engine.store.publishing().await.unwrap().0 == 0).await;
    let mut stream = jetstream(&nats).await.get_stream("UZEL").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 20, "repeats are known by their ids");
    assert_eq!(ids(&consume(&nats, "after", 20).await), ids(&before));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_guest_is_looked_up_is_published_once_with_the_phone() {
    let nats = Nats::start(Sync::Default);
    let world = world(&nats).await;
    oauth::deal(&world, 9001).await;
    oauth::won(&world, 9001).await;
    world.quiet().await;
    let got = consume(&nats, "theirs", 1).await;
    let person = &got[0].event["data"]["person"];
    assert_eq!((got.len(), &got[0].event["type"], &person["phone"]), (1, &json!("deal.won"), &json!("+79994449001")));
    until("nothing to wait", async || world.hub.engine.store.publishing().await.unwrap().0 == 0).await;
    let mut stream = jetstream(&nats).await.get_stream("UZEL").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_somebody_made_is_used_as_it_is_or_not_at_all() {
    let nats = Nats::start(Sync::Default);
    let jetstream = jetstream(&nats).await;
    let own = |subjects: &[&str]| Config {
        name: "UZEL".to_owned(),
        subjects: subjects.iter().map(|subject| (*subject).to_owned()).collect(),
        max_age: Duration::from_secs(3_600),
        ..Config::default()
    };
    jetstream.create_stream(own(&["uzel.events.other.>"])).await.unwrap();
    let world = world(&nats).await;
    post(&world, &order(1, "Выполнен")).await;
    until("the event to wait", async || world.hub.engine.store.publishing().await.unwrap().0 == 1).await;
    // Not those of its other streams, which it may have made by now.
    jetstream.update_stream(own(&["uzel.events.>", "theirs"])).await.unwrap();
    assert_eq!(consume(&nats, "theirs", 1).await.len(), 1);
    // Others write to it as well: that stops nothing.
    for id in 2..60 {
        jetstream.publish("theirs", "noise".into()).await.unwrap().await.unwrap();
        post(&world, &order(id, "Выполнен")).await;
    }
    until("nothing to wait", async || {
        all_events(&world).await.len() == 59 && world.hub.engine.store.publishing().await.unwrap().0 == 0
    })
    .await;
    let stream = jetstream.get_stream("UZEL").await.unwrap();
    let config = &stream.cached_info().config;
    assert_eq!((config.max_age, config.subjects.len()), (Duration::from_secs(3_600), 2), "nothing of it was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_for_a_message_goes_without_its_details_and_stops_nothing() {
    let nats = Nats::with(Sync::Default, "max_payload: 4096");
    let world = world(&nats).await;
    let mut large = order(1, "Выполнен");
    large["order"]["restaurantName"] = json!("x".repeat(5_000));
    post(&world, &large).await;
    post(&world, &order(2, "Выполнен")).await;
    let got = consume(&nats, "theirs", 2).await;
    let cut: Vec<bool> =
        got.iter().map(|got| got.event["data"]["cut"] == true && got.event["data"]["details"].is_null()).collect();
    assert_eq!(cut, [true, false], "{}", got[0].event);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_used_and_never_told_and_what_is_kept_for_nobody_can_be_ended() {
    let more = "authorization { user: \"hub\", password: \"s3cret-word\" }";
    let nats = Nats::with(Sync::Default, more);
    let right = nats.url().replace("nats://", "nats://hub:s3cret-word@");
    let wrong = nats.url().replace("nats://", "nats://hub:wr0ng-word@");
    let mut binary =
        Binary::new(&[("UZEL_NATS", &right), ("RUST_LOG", "debug"), ("THE_KEY", "A1B2C3D4-1111-2222-3333-444455556666")]);
    let texts = uzel_sandbox::Sandbox::start(crate::world::anywhere()).await.unwrap();
    binary.serve(&[]).await;
    binary.write("setup.toml", &setup(&texts.url()));
    let order_to = async |binary: &Binary, id: u32| {
        let url = format!("{}/api/webhook/rkeeper?key={KEY}", binary.url());
        assert_eq!(web().post(url).json(&order(id, "Выполнен")).send().await.unwrap().status(), 200);
    };
    let figure = async |binary: &Binary, name: &str| {
        let page = web().get(format!("{}/metrics", binary.url())).send().await.unwrap().text().await.unwrap();
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        line.rsplit(' ').next().unwrap_or_default().parse::<i64>().unwrap_or(-1)
    };
    let ran = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    until("the server to take events", async || figure(&binary, "uzel_nats_up ").await == 1).await;
    order_to(&binary, 1).await;
    let refused = binary.uzel(&["nats", "off"]);
    assert!(refused.code == 1 && refused.err.contains("`nats` is set"), "{}", refused.err);
    binary.signal("-TERM");

    binary.unset("UZEL_NATS");
    binary.set("UZEL_NATS", &wrong);
    binary.serve(&[]).await;
    order_to(&binary, 2).await;
    until("the refusal to be told", async || binary.log().contains("NATS does not take part")).await;
    binary.signal("-TERM");

    binary.unset("UZEL_NATS");
    binary.serve(&[]).await;
    until("what is kept for nobody to be told", async || binary.log().contains("uzel nats off")).await;
    assert_eq!(binary.asked(&["nats", "off"]), json!({ "publish": false, "forgotten": 1 }));
    order_to(&binary, 3).await;
    assert_eq!(binary.asked(&["nats", "off"]), json!({ "publish": false, "forgotten": 0 }));
    binary.signal("-TERM");
    let log = binary.log();
    assert!(!log.contains("s3cret-word") && !log.contains("wr0ng-word"), "a password is in the log");
}
