//! Keys that only read: what they may not do, and what they are not shown.

use serde_json::{Value, json};
use uzel_model::{Id, id::Kind};
use uzel_store::{Change, Exchange, KeyRow, Notice, Setup};

use crate::{oauth, world::World};

const READER: &str = "reader-key-of-this-merchant";

/// Puts an API key of a merchant; a key that is there already changes its role.
async fn key(world: &World, merchant: &str, key: &str, role: &str) {
    let engine = &world.hub.engine;
    let row = KeyRow {
        hash: engine.vault.key_hash("api", key),
        id: Id::new(Kind::Key).to_string(),
        of: engine.world().merchant(merchant),
        about: role.to_owned(),
        webhook: false,
        label: String::new(),
        made_at: engine.clock.now(),
        expires_at: None,
        last_used_at: None,
    };
    engine.store.put_setup(Setup { keys: vec![row], ..Setup::default() }).await.unwrap();
    engine.reload().await.unwrap();
}

/// What the API shows to the holder of a key.
async fn shown(world: &World, key: &str, path: &str) -> Value {
    let answer = world.web.get(format!("{}{path}", world.hub.url())).bearer_auth(key).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let mut answer: Value = answer.json().await.unwrap();
    if answer["items"].is_array() { answer["items"].take() } else { answer }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_reads_neither_begins_nor_ends_a_login() {
    let world = oauth::authorized().await;
    key(&world, "m", READER, "reader").await;
    assert_eq!(oauth::start(&world.hub.url(), "amocrm", READER).await.status(), 404);
    // Begun as an owner, ended when the key only reads.
    key(&world, "m", READER, "owner").await;
    let state = oauth::begin_at(&world.hub.url(), READER).await;
    key(&world, "m", READER, "reader").await;
    assert_eq!(oauth::come_back(&world, "amocrm", &state, "another-code", oauth::HOST).await.status(), 404);
    assert_eq!(world.calls("amocrm", "/oauth2/access_token").await.len(), 1, "the code was not traded in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_with_many_notices_hides_nobodys() {
    let world = World::new(json!({})).await;
    world.apply(&json!({ "merchant": [{ "slug": "other" }] })).await;
    key(&world, "other", "key-of-the-other-merchant", "owner").await;
    let engine = &world.hub.engine;
    let (m, other) = (engine.world().merchant("m").unwrap(), engine.world().merchant("other").unwrap());
    let notice = |merchant, connection, kind: String| Notice { merchant, connection, kind, text: String::new() };
    // On each of two days one comes after many.
    for at in 0..2 {
        let mut notices: Vec<_> = (0..200).map(|n| notice(m, Id::new(Kind::Connection), format!("k{n}"))).collect();
        notices.push(notice(other, Id::new(Kind::Connection), format!("own-{at}")));
        engine.store.apply(Change { notices, now: Some(engine.clock.now()), ..Change::default() }).await.unwrap();
        world.pass(24 * 60);
    }
    let told = shown(&world, "key-of-the-other-merchant", "/api/v1/notices").await;
    let mut kinds: Vec<_> = told.as_array().unwrap().iter().map(|notice| notice["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["own-0", "own-1"], "and nobody else's");
    assert_eq!(world.api("/api/v1/notices").await.as_array().unwrap().len(), 200, "the hub's owner sees the newest of all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_in_an_address_an_error_or_a_notice_is_masked_for_a_key_that_only_reads() {
    let world = World::new(json!({})).await;
    key(&world, "m", READER, "reader").await;
    let engine = &world.hub.engine;
    let (merchant, connection) = (engine.world().merchant("m").unwrap(), engine.world().connection("iiko").unwrap().id);
    let told = Exchange {
        id: Id::new(Kind::Attempt),
        merchant,
        connection,
        provider: "iiko".to_owned(),
        at: engine.clock.now(),
        endpoint: "GET https://provider.example/guests?q=%2279991234567%22".to_owned(),
        request: String::new(),
        response: "400 ".to_owned(),
        error: Some("no guest has +79991234567".to_owned()),
        duration_ms: 1,
        trace: "t".to_owned(),
    };
    let path = format!("/api/v1/journal/{}", told.id);
    let notice = Notice { merchant, connection, kind: "fault".to_owned(), text: "no guest has 79991234567".to_owned() };
    let now = Some(engine.clock.now());
    engine.store.apply(Change { exchanges: vec![told], notices: vec![notice], now, ..Change::default() }).await.unwrap();
    for path in ["/api/v1/journal", "/api/v1/journal?unmasked=true", &path, &format!("{path}?unmasked=true"), "/api/v1/notices"] {
        let seen = shown(&world, READER, path).await.to_string();
        assert!(seen.contains("7999***4567") && !seen.contains("79991234567"), "{path}: {seen}");
    }
    for path in ["/api/v1/journal?unmasked=true", &format!("{path}?unmasked=true")] {
        let seen = world.api(path).await.to_string();
        assert_eq!(seen.matches("79991234567").count(), 2, "an owner may see both: {seen}");
    }
}
