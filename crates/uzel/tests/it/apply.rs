//! Setting up by a file, as a user runs it.

use std::{path::Path, process::Command};

use serde_json::{Value, json};
use uzel::hub::Parts;

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

/// Plans the setup of the tests with changes, and gives every fault as a pointer and what is said of it.
async fn told(world: &World, change: impl FnOnce(&mut Value)) -> Vec<(String, String)> {
    let mut setup = crate::world::setup(&world.sandbox.url(), &json!({}));
    change(&mut setup);
    let leniency = uzel_engine::setup::Leniency { short_keys: true };
    let faults = world.hub.engine.plan(&setup, leniency).await.unwrap().map_or_else(|faults| faults, |_| Vec::new());
    faults.into_iter().map(|fault| (fault.pointer, fault.detail)).collect()
}

#[track_caller]
fn assert_told(told: &[(String, String)], wanted: &[(&str, &str)]) {
    let same = told.len() == wanted.len()
        && wanted.iter().all(|(place, words)| told.iter().any(|(pointer, detail)| pointer == place && detail.contains(words)));
    assert!(same, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_work_is_refused_with_the_file() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let faults = told(&world, |setup| {
        setup["flow"][0]["via"] = json!("iiko");
        setup["connection"][1]["poll"] = json!(true);
        setup["connection"][2]["poll"] = json!(true);
        setup["connection"][3]["settings"]["base_url"] = json!("localhost:8080");
        setup["connection"][3]["settings"]["oauth_url"] = json!("www.amocrm.ru/oauth");
    })
    .await;
    assert_told(
        &faults,
        &[
            ("/connection/1/poll", "nothing to poll"),
            ("/connection/2/poll", "nothing to poll"),
            ("/connection/3/settings/base_url", "is no URL"),
            ("/connection/3/settings/oauth_url", "is no URL"),
            ("/flow/0/via", "`iiko` sends no messages"),
        ],
    );
    world.apply(&crate::world::setup(&world.sandbox.url(), &json!({}))).await;
    // The same of a connection that is no longer in the file.
    let faults = told(&world, |setup| {
        setup["connection"] = json!([]);
        setup["flow"][0]["via"] = json!("iiko");
    })
    .await;
    assert_told(&faults, &[("/flow/0/via", "`iiko` sends no messages")]);
    assert_told(&told(&world, |setup| setup["connection"] = json!([])).await, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_row_is_found_by_those_that_name_it_and_all_its_faults_are_told() {
    for world in [World::bare(Parts::default(), |_| {}).await, World::new(json!({})).await] {
        let faults = told(&world, |setup| {
            setup["merchant"][0]["nmae"] = json!("Aurora");
            setup["merchant"][0]["language"] = json!("de");
            setup["outlet"][0]["contry"] = json!("RU");
            setup["outlet"][0]["zone"] = json!("Europe/Moskow");
            setup["connection"][1]["provider"] = json!("rkeper");
            setup["connection"][1]["since"] = json!("last week");
            setup["connection"][4]["puased"] = json!(true);
            setup["connection"][4]["settings"]["api_id"] = json!(5);
            setup["flow"][0]["ground"] = json!("servce");
            setup["flow"][0]["delay"] = json!("2 hours");
            setup["flow"][0]["text"] = json!("{{ name|shout }}");
        })
        .await;
        assert_told(
            &faults,
            &[
                ("/merchant/0/nmae", "is not known here"),
                ("/merchant/0/language", "must be"),
                ("/outlet/0/contry", "is not known here"),
                ("/outlet/0/zone", "is no time zone"),
                ("/connection/1/provider", "`rkeper` is not known"),
                ("/connection/1/since", "is no time"),
                ("/connection/4/puased", "is not known here"),
                ("/connection/4/settings/api_id", "must be a text"),
                ("/flow/0/ground", r#"must be one of "consent", "service""#),
                ("/flow/0/delay", "is no duration"),
                ("/flow/0/text", "shout"),
            ],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_merchant_that_is_not_there_are_checked_all_the_same() {
    let world = World::new(json!({})).await;
    let faults = told(&world, |setup| {
        setup["connection"][4]["merchant"] = json!("n");
        setup["connection"][4]["settings"]["api_id"] = json!("");
        setup["flow"][0]["merchant"] = json!("n");
        setup["flow"][0]["on"] = json!([]);
    })
    .await;
    assert_told(
        &faults,
        &[
            ("/connection/4/merchant", "no merchant `n`"),
            ("/connection/4/settings/api_id", "must be at least"),
            ("/flow/0/merchant", "no merchant `n`"),
            ("/flow/0/on", "at least one"),
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_stands_twice_is_told_where_it_stands() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let faults = told(&world, |setup| {
        setup["merchant"].as_array_mut().unwrap().push(json!({ "slug": "n" }));
        // Another merchant may have an outlet of this name.
        setup["outlet"].as_array_mut().unwrap().push(json!({ "merchant": "n", "slug": "o", "zone": "Asia/Tashkent" }));
        let flow = setup["flow"][0].clone();
        setup["flow"].as_array_mut().unwrap().push(flow);
    })
    .await;
    assert_told(&faults, &[("/flow/1/slug", "`review` stands twice: flow[0]")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_place_of_a_list_hides_no_row() {
    let world = World::bare(Parts::default(), |_| {}).await;
    let faults = told(&world, |setup| {
        setup["merchant"] = setup["merchant"][0].clone();
        setup["merchant"]["nmae"] = json!("Aurora");
    })
    .await;
    assert_told(&faults, &[("/merchant", "must be a list, not a table"), ("/merchant/0/nmae", "is not known here")]);
}
