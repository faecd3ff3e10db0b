//! Devices at rest: whoever knows a device's address may write to it, so it lies nowhere as it is; and what nobody uses is forgotten.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_engine::Master;
use uzel_model::{Address, id::Kind};
use uzel_store::Setup;

use crate::{
    push::{TOKEN, browser, devices, messages, pass_to_tomorrow, register, serve, sleep_for, world},
    world::{World, until},
};

/// All that the store keeps as text.
const KEPT: [&str; 6] = [
    "SELECT doc FROM setup",
    "SELECT doc FROM setup_version",
    "SELECT job FROM command",
    "SELECT request FROM exchange",
    "SELECT endpoint FROM exchange",
    "SELECT detail FROM audit",
];

async fn lies_open(world: &World, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for sql in KEPT {
        let texts = world.texts_of(sql).await;
        found.extend(texts.into_iter().filter(|text| words.iter().any(|word| text.contains(word))));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_s_address_lies_sealed_and_is_used_before_and_after_the_keys_are_changed() {
    let world = world("webpush").await;
    let device = browser(&world, "a-capability-of-anna").await;
    let auth = device["keys"]["auth"].as_str().unwrap().to_owned();
    assert_eq!(register(&world, "anna", "webpush", &device).await.0, 200);
    serve(&world, 1..3).await;
    pass_to_tomorrow(&world, 9).await;
    until("the digest", async || messages(&world, "webpush").await.len() == 1).await;
    world.quiet().await;
    let words = ["a-capability-of-anna", auth.as_str(), "p256dh"];
    assert_eq!(lies_open(&world, &words).await, [] as [String; 0]);
    // Another master key and other keys that seal; then a new start.
    let next = Master::make();
    let sealed = async || {
        let rows = world.hub.engine.store.setup().await.unwrap().rows;
        rows.into_iter().find(|row| row.id.kind() == Kind::Recipient).unwrap().sealed.unwrap()
    };
    let before = sealed().await;
    let done = world.hub.engine.rotate(Master::new(&next).unwrap(), None, true).await.unwrap();
    assert_eq!(done.unopened, 0, "{done:?}");
    assert_ne!(sealed().await, before);
    std::fs::write(world.data().join("master.key"), next.expose()).unwrap();
    let world = world.restart(async |_, _| {}).await;
    pass_to_tomorrow(&world, 9).await;
    until("the next digest", async || messages(&world, "webpush").await.len() == 2).await;
    assert_eq!(messages(&world, "webpush").await[1]["token"], "a-capability-of-anna");
    assert_eq!(lies_open(&world, &words).await, [] as [String; 0]);
    // A setup file that is applied again takes no device away.
    assert_eq!(devices(&world, "anna").await.len(), 1);
    world.apply(&crate::push::with_anna(&world.sandbox.url(), "webpush")).await;
    assert_eq!(devices(&world, "anna").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_open_is_sealed_at_the_next_start() {
    let world = world("fcm").await;
    let engine = world.hub.engine.clone();
    let setup = engine.store.setup().await.unwrap();
    let mut row = setup.rows.into_iter().find(|row| row.id.kind() == Kind::Recipient).unwrap();
    let at = world.clock.now();
    row.doc["bound"] = json!([{ "via": "fcm", "to": Address::Device(TOKEN.to_owned()), "at": at }]);
    let expects = vec![(row.id, row.version)];
    engine.store.put_setup(Setup { rows: vec![row], expects, ..Setup::default() }).await.unwrap();
    drop(engine);
    let open = async |world: &World| world.texts_of("SELECT doc FROM setup").await.iter().any(|doc| doc.contains(TOKEN));
    assert!(open(&world).await);
    let world = world.restart(async |_, _| {}).await;
    until("it to be sealed", async || !open(&world).await).await;
    assert_eq!(devices(&world, "anna").await.len(), 1);
    pass_to_tomorrow(&world, 9).await;
    until("the digest", async || messages(&world, "fcm").await.len() == 1).await;
    assert_eq!(messages(&world, "fcm").await[0]["token"], TOKEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_not_registered_for_two_months_is_forgotten() {
    let world = world("webpush").await;
    let (old, other) = (browser(&world, "old").await, browser(&world, "other").await);
    for device in [&old, &other] {
        assert_eq!(register(&world, "anna", "webpush", device).await.0, 200);
    }
    let world = world.restart(async |sandbox, clock| sleep_for(sandbox, clock, 40 * 24).await).await;
    assert_eq!(register(&world, "anna", "webpush", &other).await.0, 200);
    assert_eq!(devices(&world, "anna").await.len(), 2);
    let world = world.restart(async |sandbox, clock| sleep_for(sandbox, clock, 22 * 24).await).await;
    until("one to be forgotten", async || devices(&world, "anna").await.len() == 1).await;
    let sealed: Vec<Value> = devices(&world, "anna").await;
    assert!(
        sealed[0]["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
            > world.clock.now() - SignedDuration::from_hours(30 * 24)
    );
    let rows = world.hub.engine.store.setup().await.unwrap().rows;
    let row = rows.into_iter().find(|row| row.id.kind() == Kind::Recipient).unwrap();
    assert_eq!(row.doc["bound"].as_array().unwrap().len(), 1);
}
