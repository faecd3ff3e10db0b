//! A new master key while the hub works, and what happens with a wrong one.

use std::{fs, path::Path};

use serde_json::{Value, json};
use uzel::{
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_engine::Master;

use crate::{
    binary::Binary,
    world::{World, until},
};

const SETUP: &str = r#"
[[merchant]]
slug = "m"
[[connection]]
merchant = "m"
slug = "till"
provider = "rkeeper"
webhook_keys = ["key-of-at-least-24-characters"]
[[connection]]
merchant = "m"
slug = "texts"
provider = "smsru"
settings = { api_id = "an-api-id", base_url = "http://127.0.0.1:1" }
"#;

async fn working(variables: &[(&'static str, &str)]) -> Binary {
    let mut binary = Binary::new(variables);
    binary.write("setup.toml", SETUP);
    binary.serve(&[]).await;
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    binary
}

async fn takes(binary: &Binary, order: u32) {
    let url = format!("{}/api/webhook/rkeeper?key=key-of-at-least-24-characters", binary.url());
    let body = json!({ "order": { "id": order, "status": "Completed", "customer": { "phone": "+79990000001" } } });
    assert_eq!(binary.web.post(url).json(&body).send().await.unwrap().status(), 200);
}

/// Whether every connection is usable, and the owner key good.
async fn whole(binary: &Binary) {
    let url = format!("{}/api/v1/connections", binary.url());
    let listed: Value = binary
        .web
        .get(url)
        .bearer_auth(binary.owner_key())
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap()
        .json()
        .await
        .unwrap();
    assert!(!listed.to_string().contains("secrets cannot be read"), "{listed}");
    let slugs: Vec<&str> = listed["items"].as_array().unwrap().iter().map(|row| row["slug"].as_str().unwrap()).collect();
    assert!(slugs.contains(&"texts") && slugs.contains(&"till"), "{listed}");
}

/// What the database holds of keys and of all that is set up.
fn kept(binary: &Binary) -> Vec<String> {
    let db = rusqlite::Connection::open(binary.database()).unwrap();
    let all = "SELECT name || hex(value) FROM claim UNION ALL SELECT hex(id) || hex(wrapped) FROM envelope
        UNION ALL SELECT hex(id) || doc || hex(sealed) FROM setup UNION ALL SELECT hex(connection) || hex(sealed) FROM session
        UNION ALL SELECT hex(hash) || id FROM access_key";
    let mut rows = db.prepare(all).unwrap();
    rows.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap().map(|row| row.unwrap().unwrap_or_default()).collect()
}

fn keys_beside(file: &Path) -> Vec<String> {
    let names = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("master.key.")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_key_takes_the_place_of_the_old_one_while_webhooks_come() {
    let mut binary = working(&[]).await;
    let file = binary.path().join("uzel-data/master.key");
    let old = fs::read_to_string(&file).unwrap();
    for (place, more) in [&[][..], &["--data-keys"]].into_iter().enumerate() {
        let (rotated, ()) = tokio::join!(
            async { tokio::task::block_in_place(|| binary.uzel(&[&["secrets", "rotate"], more].concat())) },
            async {
                for order in 0..40 {
                    takes(&binary, place as u32 * 100 + order).await;
                }
            }
        );
        assert_eq!(rotated.code, 0, "{}{}", rotated.out, rotated.err);
        assert!(
            rotated.out.contains("The master key is changed") && rotated.out.contains("holds the new key"),
            "{}",
            rotated.out
        );
        whole(&binary).await;
    }
    let new = fs::read_to_string(&file).unwrap();
    assert_ne!(old, new);
    assert_eq!(keys_beside(&file).len(), 2, "{:?}", keys_beside(&file));
    let told = binary.uzel(&["secrets", "show"]);
    assert!(told.out.contains("is this key"), "{}{}", told.out, told.err);
    binary.signal("-KILL");
    binary.serve(&[]).await;
    whole(&binary).await;
    takes(&binary, 1_000).await;
    binary.signal("-TERM");

    // The old key is known as such; nothing is changed by the try.
    let before = kept(&binary);
    let first = keys_beside(&file).into_iter().next().unwrap();
    fs::copy(file.with_file_name(first), &file).unwrap();
    assert!(before.len() > 5);
    let refused = binary.uzel(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("uzel-data/master.key") && refused.err.contains("is not the one"), "{}", refused.err);
    assert_eq!(kept(&binary), before);
    fs::write(&file, &new).unwrap();
    binary.serve(&[]).await;
    whole(&binary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_without_a_hub_is_done_in_the_data_folder() {
    let mut binary = working(&[]).await;
    binary.signal("-TERM");
    binary.write("next.key", Master::make().expose());
    let rotated = binary.uzel(&["secrets", "rotate", "--new-master-key-file", "next.key"]);
    assert_eq!(rotated.code, 0, "{}{}", rotated.out, rotated.err);
    let file = binary.path().join("uzel-data/master.key");
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), fs::read_to_string(binary.path().join("next.key")).unwrap().trim());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
    let again = binary.uzel(&["secrets", "rotate", "--new-master-key-file", "next.key"]);
    assert!(again.code == 1 && again.err.contains("in use already"), "{}{}", again.out, again.err);
    binary.serve(&[]).await;
    whole(&binary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_cut_short_anywhere_leaves_a_hub_that_starts() {
    let world = World::new(json!({})).await;
    let file = world.data().join("master.key");
    let new = file.with_file_name("master.key.new");
    let next = Master::make();
    // Before anything was wrapped by it: the key in use is the file's.
    fs::write(&new, next.expose()).unwrap();
    let old = fs::read_to_string(&file).unwrap();
    let world = world.restart(async |_, _| {}).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), old);
    // Behind it, before the file is replaced; and between the two names of the replacement.
    world.hub.engine.rotate(Master::new(&next).unwrap(), None, false).await.unwrap();
    let world = world.restart(async |_, _| {}).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), next.expose());
    assert!(!new.exists());
    let after = Master::make();
    fs::write(&new, after.expose()).unwrap();
    world.hub.engine.rotate(Master::new(&after).unwrap(), None, true).await.unwrap();
    let world = world.restart(async |_, _| fs::remove_file(&file).unwrap()).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), after.expose());
    assert_eq!(world.post("rkeeper", &json!({ "order": { "id": 1 } })).await.status(), 200);
    assert!(world.hub.engine.world().broken.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_through_a_rotation_of_another_one_and_starts_again_only_with_the_new_key() {
    let world = World::on_postgres().await;
    let beside = world.beside();
    let own = world.data().with_file_name("own.key");
    fs::copy(world.data().join("master.key"), &own).unwrap();
    let settings = Settings { master_key_file: Some(own.clone()), ..beside };
    let other = Hub::start(&settings, Parts::default()).await.unwrap();
    let next = Master::make();
    let key = || Master::new(&next).unwrap();
    let done = world.hub.engine.rotate(key(), None, true).await.unwrap();
    assert!(done.nodes >= 2 && done.unopened == 0, "{done:?}");
    until("the other node to have the new key", async || other.engine.vault.fingerprint() == key().fingerprint()).await;
    // It makes keys for a new merchant, and both nodes open what it seals.
    let more = json!({ "merchant": [{ "slug": "n" }], "connection": [
        { "merchant": "n", "slug": "texts", "provider": "smsru", "settings": { "api_id": "another" } }] });
    other.apply(&more, uzel_engine::setup::Leniency::default()).await.unwrap();
    until("the first node to have it", async || {
        let world = world.hub.engine.world();
        world.broken.is_empty() && world.merchant("n").is_some_and(|merchant| world.link_of(merchant, "texts").is_some())
    })
    .await;
    assert!(other.engine.world().broken.is_empty());
    other.stop().await.unwrap();
    let error = format!("{:#}", Hub::start(&settings, Parts::default()).await.err().unwrap());
    assert!(
        error.contains(&own.display().to_string()) && error.contains("from before the last `uzel secrets rotate`"),
        "{error}"
    );
    fs::write(&own, next.expose()).unwrap();
    let other = Hub::start(&settings, Parts::default()).await.unwrap();
    assert!(other.engine.world().broken.is_empty());
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_may_come_from_a_command_and_go_over_to_another_one() {
    let key = Master::make();
    let mut binary = Binary::new(&[("UZEL_MASTER_KEY_COMMAND", "echo asking the safe >&2; cat first.key; echo")]);
    binary.write("first.key", key.expose());
    binary.write("setup.toml", SETUP);
    binary.serve(&[]).await;
    assert!(binary.log().contains("asking the safe"), "{}", binary.log());
    assert_eq!(binary.uzel(&["apply", "setup.toml"]).code, 0);
    let bare = binary.uzel(&["secrets", "rotate"]);
    assert!(bare.code == 1 && bare.err.contains("--new-master-key-command"), "{}", bare.err);
    binary.write("second.key", Master::make().expose());
    let rotated = binary.uzel(&["secrets", "rotate", "--new-master-key-command", "cat second.key"]);
    assert!(rotated.code == 0 && rotated.out.contains(r#"master_key_command = ["sh","-c","cat second.key"]"#), "{}", rotated.out);
    binary.signal("-TERM");
    let refused = binary.uzel(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(
        refused.code == 1 && refused.err.contains("`master_key_command`") && refused.err.contains("is not the one"),
        "{}",
        refused.err
    );
    binary.unset("UZEL_MASTER_KEY_COMMAND");
    binary.set("UZEL_MASTER_KEY_COMMAND", "cat second.key");
    binary.serve(&[]).await;
    whole(&binary).await;
    assert!(!binary.log().contains(key.expose()));
    assert!(!binary.path().join("uzel-data/master.key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_gives_no_key_stops_the_start_and_says_why() {
    for (command, words) in [
        ("exit 3", "ended with exit status: 3"),
        ("true", "printed nothing"),
        ("echo 'no key!'", "is not base64"),
        ("head -c 31 /dev/zero | base64", "must be 32 bytes"),
        ("yes", "ended with"),
    ] {
        let binary = Binary::new(&[("UZEL_MASTER_KEY_COMMAND", command)]);
        let refused = binary.uzel(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(refused.code == 1 && refused.err.contains(words), "{command}: {}", refused.err);
    }
    let key = Master::make();
    let binary = Binary::new(&[("UZEL_MASTER_KEY_COMMAND", "true"), ("UZEL_MASTER_KEY", key.expose())]);
    let refused = binary.uzel(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(refused.code == 1 && refused.err.contains("comes from one place"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_master_key_is_changed_on_the_hub_s_own_machine_only() {
    let world = World::new(json!({})).await;
    let url = format!("{}/api/v1/secrets/rotate", world.hub.url());
    let body = json!({ "new_master_key": Master::make().expose() });
    let answer = world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(world.api("/api/v1/secrets").await["master_key"], world.hub.engine.vault.fingerprint());
    let wrong =
        world.hub.engine.rotate(Master::new(&Master::make()).unwrap(), Some("another".to_owned()), false).await.unwrap_err();
    assert!(wrong.to_string().contains("another master key"), "{wrong}");
}
