//! The schema and the reader of settings give the same verdict, at every edge.

use serde_json::{Map, Value, json};
use uzel_connectors::PROVIDERS;
use uzel_model::Provider;

use crate::sample::{full, is, is_secret, least, properties, text};

/// The words of JSON Schema that the hub's own check knows. Another word would promise what nobody checks.
const KNOWN: [&str; 26] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "x-title",
    "x-help",
    "default",
    "examples",
    "format",
    "writeOnly",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];

fn words(schema: &Value, found: &mut Vec<String>) {
    let Value::Object(members) = schema else { return };
    for (word, inner) in members {
        found.push(word.clone());
        match word.as_str() {
            "properties" | "$defs" => inner.as_object().into_iter().flatten().for_each(|(_, inner)| words(inner, found)),
            "anyOf" | "oneOf" => inner.as_array().into_iter().flatten().for_each(|inner| words(inner, found)),
            "default" | "examples" | "enum" | "const" | "x-title" | "x-help" => {}
            _ => words(inner, found),
        }
    }
}

/// Values at, and just beyond, what a property's schema says.
fn edges(name: &str, property: &Value) -> Vec<Value> {
    let mut edges =
        vec![json!(null), json!(true), json!(-1), json!(7), json!(1.5), json!([]), json!({}), json!([7]), json!([[]])];
    if is(property, "string") {
        for bound in ["minLength", "maxLength"].into_iter().filter_map(|bound| property[bound].as_u64()) {
            for chars in [bound.saturating_sub(1), bound, bound + 1] {
                edges.push(json!(text(name, property, chars as usize)));
                // Characters are counted, not bytes. What has an example is more than a text: its letters matter.
                edges.extend(property["examples"].is_null().then(|| json!("ы".repeat(chars as usize))));
            }
        }
    } else {
        edges.push(json!("text"));
    }
    for bound in ["minimum", "maximum"].into_iter().filter_map(|bound| property[bound].as_i64()) {
        edges.extend([json!(bound - 1), json!(bound), json!(bound + 1)]);
    }
    for bound in ["minItems", "maxItems"].into_iter().filter_map(|bound| property[bound].as_u64()) {
        for items in [bound.saturating_sub(1), bound, bound + 1] {
            edges.push(json!(vec!["text"; items as usize]));
        }
    }
    edges
}

fn opens(provider: &Provider, settings: &Value) -> bool {
    provider.open(settings.clone()).is_ok()
}

#[test]
fn every_schema_is_valid_and_says_only_what_the_hub_checks() {
    for provider in PROVIDERS {
        let schema = provider.schema().to_value();
        assert!(schema["$schema"].as_str().unwrap().contains("2020-12"), "{provider:?}");
        assert!(jsonschema::meta::validate(&schema).is_ok(), "{provider:?}");
        let mut found = Vec::new();
        words(&schema, &mut found);
        let strange: Vec<&String> = found.iter().filter(|word| !KNOWN.contains(&word.as_str())).collect();
        assert!(strange.is_empty(), "{provider:?}: {strange:?}");
        for (name, property) in properties(provider) {
            assert!(property["description"].is_string(), "{provider:?}: {name} has no label");
        }
    }
}

#[test]
fn schema_and_reader_agree_at_every_edge() {
    for provider in PROVIDERS {
        let schema = jsonschema::validator_for(&provider.schema().to_value()).unwrap();
        let agree = |settings: &Map<String, Value>, what: &str| {
            let settings = Value::Object(settings.clone());
            let (by_schema, by_reader) = (schema.is_valid(&settings), opens(provider, &settings));
            assert_eq!(by_schema, by_reader, "{provider:?}: {what}; faults: {:?}", provider.open(settings).err());
            by_reader
        };
        let (least, full) = (least(provider), full(provider));
        assert!(agree(&least, "only what must be set"));
        assert!(agree(&full, "everything set"));
        for base in [&least, &full] {
            let with = |name: &str, value: &Value| {
                let mut settings = base.clone();
                settings.insert(name.to_owned(), value.clone());
                settings
            };
            assert!(!agree(&with("no_such_setting", &json!(1)), "a setting that is not known"));
            for (name, property) in properties(provider) {
                for edge in edges(&name, &property) {
                    agree(&with(&name, &edge), &format!("{name} = {edge}"));
                }
                let mut without = base.clone();
                without.remove(&name);
                assert_eq!(agree(&without, &format!("no {name}")), !least.contains_key(&name), "{provider:?}: {name}");
            }
        }
        for odd in [json!(null), json!([]), json!("text"), json!(7)] {
            assert!(!schema.is_valid(&odd) && !opens(provider, &odd), "{provider:?}: {odd}");
        }
    }
}

#[test]
fn a_default_of_the_schema_is_what_the_reader_takes() {
    for provider in PROVIDERS {
        let defaults: Map<String, Value> = properties(provider)
            .into_iter()
            .filter_map(|(name, property)| Some((name, property.get("default")?.clone())))
            .collect();
        let mut told = least(provider);
        told.extend(defaults);
        let (silent, told) =
            (provider.open(Value::Object(least(provider))).unwrap(), provider.open(Value::Object(told)).unwrap());
        assert_eq!(format!("{silent:?}"), format!("{told:?}"), "{provider:?}");
    }
}

#[test]
fn every_secret_can_be_told_from_other_settings() {
    for provider in PROVIDERS {
        for (name, property) in properties(provider) {
            let called = ["secret", "password", "token", "api_id", "api_login"].iter().any(|word| name.ends_with(word));
            assert!(!called || is_secret(&property), "{provider:?}: {name} sounds like a secret and is none");
        }
    }
}
