//! Setting up by a file, as a user runs it.

use std::{path::Path, process::Command};

use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_changes_nothing_and_every_fault_is_told_with_its_place() {
    let world = World::new(json!({})).await;
    let before = world.api("/api/v1/connections").await;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let told = Command::new(env!("CARGO_BIN_EXE_uzel"))
        .current_dir(&fixtures)
        .arg("--data")
        .arg(world.data())
        .args(["apply", "setup_with_faults.toml"])
        .output()
        .unwrap();
    assert_eq!(told.status.code(), Some(2));
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_snapshot!("setup_with_faults", String::from_utf8(told.stdout).unwrap());
    });
    assert_eq!(world.api("/api/v1/connections").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_twice_changes_nothing() {
    let world = World::new(json!({})).await;
    let setup = crate::world::setup(&world.sandbox.url(), &json!({}));
    let leniency = uzel_engine::setup::Leniency { short_keys: true };
    let plan = world.hub.engine.plan(&setup, leniency).await.unwrap().unwrap();
    assert!(plan.differences.iter().all(|difference| difference.what == "same"), "{:?}", plan.differences);
    let mut changed = setup.clone();
    changed["flow"][0]["delay"] = json!("2h");
    changed["connection"][4]["settings"]["api_id"] = json!("another-key-of-sms-ru");
    let plan = world.hub.engine.plan(&changed, leniency).await.unwrap().unwrap();
    let differences: Vec<_> = plan.differences.iter().filter(|difference| difference.what == "changed").collect();
    assert_eq!(differences.iter().map(|difference| difference.fields.join(",")).collect::<Vec<_>>(), ["secrets", "delay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_lies_open_in_the_data_folder() {
    let world = World::new(json!({})).await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991234567" } } })).await;
    world.quiet().await;
    for name in ["uzel.db", "uzel.db-wal"] {
        let bytes = std::fs::read(world.data().join(name)).unwrap();
        for secret in ["A1B2C3D4-1111-2222-3333-444455556666", crate::world::KEY, "long-lived"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} lies open in {name}");
        }
    }
}
