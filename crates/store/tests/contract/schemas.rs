//! The JSON schemas of what people see of the store.

use schemars::schema_for;
use serde_json::Value;
use uzel_store::{
    About, Audit, Counts, Exchange, Health, JournalRow, Notice, OpenBreaker, Refusal, Rhythm, SetupVersion, Timeline,
    TimelineCommand,
};

/// Fields of objects without a description, by their places.
fn silent(schema: &Value, place: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if property["description"].as_str().is_none() {
            found.push(format!("{place}/{name}"));
        }
    }
    for (name, part) in schema["$defs"].as_object().into_iter().flatten() {
        silent(part, name, found);
    }
}

#[test]
fn every_field_that_people_see_is_described() {
    let mut found = Vec::new();
    for schema in [
        schema_for!(JournalRow),
        schema_for!(Timeline),
        schema_for!(TimelineCommand),
        schema_for!(Exchange),
        schema_for!(Counts),
        schema_for!(Health),
        schema_for!(Notice),
        schema_for!(About),
        schema_for!(Refusal),
        schema_for!(OpenBreaker),
        schema_for!(Rhythm),
        schema_for!(Audit),
        schema_for!(SetupVersion),
    ] {
        let name = schema.as_value()["title"].as_str().unwrap();
        silent(schema.as_value(), name, &mut found);
    }
    assert_eq!(found, [] as [String; 0]);
}

#[test]
fn ids_are_texts_of_a_pattern_and_times_are_dates() {
    let schema = schema_for!(Audit);
    let properties = &schema.as_value()["properties"];
    assert_eq!(properties["id"]["type"], "string");
    assert!(properties["id"]["pattern"].as_str().is_some_and(|pattern| pattern.contains("|aud")));
    assert_eq!(properties["at"]["format"], "date-time");
}
