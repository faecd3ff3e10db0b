//! What a merchant is told of providers: schemas, abilities and set-up steps, in three languages, with the real addresses.

use serde_json::{Value, json};

use crate::{
    binary::Binary,
    world::{KEY, World},
};

const HUB: &str = "https://hub.example";

async fn world() -> World {
    World::tuned(|settings| settings.public_url = Some(HUB.to_owned())).await
}

macro_rules! snapshot {
    ($name:expr, $value:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
            insta::assert_json_snapshot!($name, $value);
        })
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_are_told_with_schema_abilities_steps_and_the_address_to_paste() {
    let world = world().await;
    let mut told = world.api("/api/v1/providers").await.as_array().unwrap().clone();
    let alone = world.api("/api/v1/providers/iiko").await;
    assert!(told.contains(&alone), "one is shown as it is listed");
    for provider in &mut told {
        let schema = provider.as_object_mut().unwrap().remove("schema").unwrap();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            for words in ["x-title", "x-help"] {
                for language in ["ru", "uz", "en"] {
                    assert!(property[words][language].is_string(), "{}: {name} {words} {language}", provider["id"]);
                }
            }
        }
    }
    snapshot!("providers", told);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setup_of_a_connection_names_its_own_address_and_shows_no_key() {
    let world = world().await;
    let mut told = Vec::new();
    for slug in ["iiko", "rkeeper", "yclients", "amocrm", "smsru"] {
        let id = world.api(&format!("/api/v1/connections/{slug}")).await["id"].as_str().unwrap().to_owned();
        let setup = world.api(&format!("/api/v1/connections/{slug}/setup")).await;
        let text = setup.to_string();
        assert!(!text.contains(KEY) && !text.contains("demo-key") && !text.contains("long-lived\""), "{text}");
        for language in ["ru", "uz", "en"] {
            let steps = setup["steps"][language].to_string();
            assert!(steps.contains(&format!("{HUB}/hooks/{id}")), "{slug} {language}: {steps}");
        }
        let on = |view: &Value| (view["on"] == true).then(|| view["ability"].clone());
        let on: Vec<Value> = setup["abilities"].as_array().unwrap().iter().filter_map(on).collect();
        told.push(json!({ "connection": slug, "language": setup["language"], "hook": setup["hook"].as_str().unwrap().replace(&id, "con_…"), "on": on }));
        if slug == "iiko" {
            let setup: Value = serde_json::from_str(&text.replace(&id, "con_…")).unwrap();
            snapshot!("setup__iiko", setup);
        }
    }
    snapshot!("setup", told);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_of_the_setup_lets_the_provider_in_with_the_key_in_its_place() {
    let world = world().await;
    let order = json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991110001" } } });
    let hook = world.api("/api/v1/connections/rkeeper/setup").await["hook"].as_str().unwrap().to_owned();
    let shared = world.api("/api/v1/providers/rkeeper").await["hook"].as_str().unwrap().to_owned();
    for hook in [hook, shared] {
        let here = hook.replace(HUB, &world.hub.url());
        assert_eq!(world.web.post(&here).json(&order).send().await.unwrap().status(), 401, "YOUR_KEY is no key");
        let answer = world.web.post(here.replace("YOUR_KEY", KEY)).json(&order).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{hook}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_the_steps_in_the_language_that_is_asked_for() {
    let binary = Binary::new(&[("UZEL_PUBLIC_URL", HUB)]);
    for (language, word) in [("ru", "Войдите в iikoWeb"), ("uz", "iikoWeb’ga"), ("en", "Sign in to iikoWeb")] {
        let told = binary.uzel(&["providers", "steps", "iiko", "--language", language]).out;
        assert!(told.contains(word) && told.starts_with("1. ") && told.contains("\n2. "), "{told}");
        assert!(told.contains(&format!("{HUB}/api/webhook/iiko?key=YOUR_KEY")), "{told}");
    }
    assert!(binary.uzel(&["providers", "steps", "iiko"]).out.contains("Sign in"));
    let listed = binary.uzel(&["providers", "list"]).out;
    assert!(listed.lines().any(|line| line.starts_with("smsru") && line.contains("messages, balance, costs")), "{listed}");
    let schema = binary.asked(&["providers", "schema", "smsru"]);
    assert_eq!(schema["properties"]["from"]["x-title"]["uz"], "Yuboruvchi nomi");
    assert_eq!(binary.uzel(&["providers", "steps", "nobody"]).code, 1);
    assert_eq!(binary.uzel(&["providers", "steps", "iiko", "--language", "de"]).code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_tells_what_is_left_to_do_for_a_connection_in_the_merchants_language() {
    let mut binary = Binary::new(&[("UZEL_PUBLIC_URL", HUB)]);
    binary.write(
        "setup.toml",
        "[[merchant]]\nslug = 'm'\nlanguage = 'uz'\n[[connection]]\nmerchant = 'm'\nslug = 'kitchen'\nprovider = 'iiko'\n",
    );
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    binary.serve(&[]).await;
    let told = binary.uzel(&["connections", "setup", "kitchen"]).out;
    assert!(told.contains("yes  Xizmat yuboradigan") && told.contains("(api_login + organization_id)"), "{told}");
    assert!(told.contains("\n2. iikoWeb’ga") && told.contains(&format!("{HUB}/hooks/con_")), "{told}");
    let told = binary.uzel(&["connections", "setup", "kitchen", "--language", "ru"]).out;
    assert!(told.contains("\n2. Войдите в iikoWeb"), "{told}");
}
