//! Connections that a till's program registers: its words become settings that open, and every fault is told at once.

use serde_json::{Value, json};
use uzel_connectors::{PROVIDERS, provider};

/// The settings, or the faults as people are shown them.
fn register(id: &str, config: &Value) -> Result<Value, String> {
    let faults = |faults: Vec<uzel_model::check::Fault>| {
        faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("; ")
    };
    provider(id).unwrap().registration(config).map_err(faults)
}

#[test]
fn the_faults_of_a_registration_are_told_all_at_once_in_the_words_that_programs_know() {
    for (id, config, wanted) in [
        ("modulkassa", json!({}), "#/required must have required property 'apiKey'"),
        ("modulkassa", json!({ "apiKey": 7, "baseUrl": null }), "/apiKey must be string; /baseUrl must be string"),
        ("modulkassa", json!([]), "#/type must be object"),
        ("poster", json!({ "appId": 1 }), "#/required must have required property 'appSecret'; /appId must be string"),
        ("evotor", json!({ "stores": "a", "webhookUrl": [] }), "/stores must be array; /webhookUrl must be string"),
        ("evotor", json!(null), "#/type must be object"),
    ] {
        assert_eq!(register(id, &config), Err(wanted.to_owned()), "{id} {config}");
    }
    assert!(register("iiko", &json!({})).unwrap_err().contains("not registered in this way"));
}

#[test]
fn a_registration_gives_settings_that_open_and_drops_what_it_does_not_know() {
    for (id, config, wanted) in [
        (
            "modulkassa",
            json!({ "apiKey": "k", "baseUrl": "https://x.example", "else": 1 }),
            json!({ "api_key": "k", "base_url": "https://x.example" }),
        ),
        ("poster", json!({ "appId": "1234", "appSecret": "s" }), json!({ "application_id": "1234", "application_secret": "s" })),
        ("evotor", json!({}), json!({})),
        (
            "evotor",
            json!({ "stores": ["S-1", 7, { "id": "S-2", "name": "x" }, null], "devices": [], "webhookUrl": "https://x.example", "note": {} }),
            json!({ "stores": ["S-1", "7", "S-2"], "devices": [] }),
        ),
    ] {
        let settings = register(id, &config).unwrap();
        assert_eq!(settings, wanted, "{id}");
        assert!(provider(id).unwrap().open(settings).is_ok(), "{id}");
    }
    for provider in PROVIDERS.iter().filter(|provider| provider.registers()) {
        for odd in [json!(null), json!(7), json!("text"), json!([{}])] {
            assert!(provider.registration(&odd).is_err(), "{provider:?} {odd}");
        }
    }
}
