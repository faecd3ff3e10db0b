//! Keys that only read: what they may not do, and what they are not shown.

use uzel_model::{Id, id::Kind};
use uzel_store::{KeyRow, Setup};

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
    };
    engine.store.put_setup(Setup { keys: vec![row], ..Setup::default() }).await.unwrap();
    engine.reload().await.unwrap();
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
