//! No secret shows: not in `Debug`, not in the schema, not in what is said of wrong settings, not in what is journalled.

use serde_json::{Map, Value, json};
use uzel_connectors::PROVIDERS;
use uzel_model::Provider;

use crate::sample::{fixtures, full, is_secret, keyed, open, properties};

const MARK: &str = "s3cr3t-that-nobody-may-see";
const NUMBER: u64 = 918_273_645_546;

fn secrets(provider: &Provider) -> Vec<String> {
    properties(provider).into_iter().filter(|(_, property)| is_secret(property)).map(|(name, _)| name).collect()
}

fn marked(provider: &Provider) -> Map<String, Value> {
    let mut settings = full(provider);
    settings.extend(secrets(provider).into_iter().map(|name| (name, json!(MARK))));
    settings
}

#[test]
fn a_secret_shows_neither_in_debug_nor_in_the_schema() {
    for provider in PROVIDERS {
        let connector = provider.open(Value::Object(marked(provider))).unwrap();
        assert!(!format!("{connector:?} {connector:#?}").contains(MARK), "{provider:?}");
        for (name, property) in properties(provider) {
            let shown = ["default", "examples", "const", "enum"].iter().any(|word| !property[*word].is_null());
            assert!(!is_secret(&property) || !shown, "{provider:?}: the schema gives a value of {name}");
        }
    }
}

#[test]
fn what_is_said_of_wrong_settings_shows_no_secret() {
    for provider in PROVIDERS {
        let said = |settings: Map<String, Value>| {
            let faults = provider.open(Value::Object(settings)).unwrap_err();
            let said = format!("{faults:?}");
            assert!(!said.contains(MARK) && !said.contains(&NUMBER.to_string()), "{provider:?}: {said}");
        };
        let with = |name: &str, value: Value| {
            let mut settings = marked(provider);
            settings.insert(name.to_owned(), value);
            settings
        };
        // Another setting is wrong …
        said(with("no_such_setting", json!(1)));
        for (name, _) in properties(provider) {
            said(with(&name, json!({ "wrong": [[1.5]] })));
        }
        // … or the secret itself is given as what it is not.
        for name in secrets(provider) {
            for value in [json!(NUMBER), json!([MARK]), json!({ MARK: NUMBER }), json!(NUMBER as f64 + 0.5)] {
                said(with(&name, value));
            }
        }
    }
}

#[test]
fn what_is_journalled_holds_no_secret_of_the_settings() {
    for provider in PROVIDERS {
        let connector = open(provider);
        let settings = full(provider);
        for (file, request) in fixtures(provider) {
            let request = keyed(&request);
            let kept = connector.scrub(&request).unwrap_or(request.body.clone());
            let kept = String::from_utf8_lossy(&kept);
            for secret in secrets(provider).iter().filter_map(|name| settings[name].as_str()) {
                assert!(!kept.contains(secret), "{file}");
            }
        }
    }
}
