//! The OpenAPI document from outside: whole, without loose ends, and what it shows as an example is one.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::World;

async fn document(world: &World) -> Value {
    world.web.get(format!("{}/openapi.json", world.hub.url())).send().await.unwrap().json().await.unwrap()
}

/// Operations with their names: `POST /api/v1/keys`.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
        })
        .collect()
}

/// Every object below a value, with its place.
fn objects<'a>(value: &'a Value, place: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) => {
            found.push((place.to_owned(), value));
            fields.iter().for_each(|(name, value)| objects(value, &format!("{place}/{name}"), found));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| objects(value, &format!("{place}/{at}"), found)),
        _ => {}
    }
}

/// A schema of the document that can be checked by itself.
fn checker(document: &Value, schema: &Value) -> jsonschema::Validator {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
}

#[track_caller]
fn fits(document: &Value, schema: &Value, value: &Value, what: &str) {
    let faults: Vec<String> =
        checker(document, schema).iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{what}: {value}: {faults:?}");
}

fn named<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"].as_str().map_or(schema, |place| document.pointer(&place[1..]).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_has_no_loose_ends() {
    let world = World::new(json!({})).await;
    let document = document(&world).await;
    let mut found = Vec::new();
    objects(&document, "", &mut found);
    for (place, object) in &found {
        if let Some(target) = object["$ref"].as_str() {
            assert!(document.pointer(&target[1..]).is_some(), "{place} leads to {target}, which is not there");
        }
    }
    let tags: BTreeSet<&str> = document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name} has the id of another operation");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{name}");
        let answers = operation["responses"].as_object().unwrap();
        assert_eq!(answers.keys().filter(|status| status.starts_with('2')).count(), 1, "{name}");
        for status in ["400", "401", "403", "429", "500", "503"] {
            assert!(answers.contains_key(status), "{name} says nothing of {status}");
        }
        let parts = name.split(['{', '}']).skip(1).step_by(2);
        let told: Vec<&str> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|part| part["in"] == "path")
            .map(|part| part["name"].as_str().unwrap())
            .collect();
        assert_eq!(parts.collect::<BTreeSet<_>>(), told.into_iter().collect(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_and_every_shape_is_described() {
    let world = World::new(json!({})).await;
    let document = document(&world).await;
    let mut bare = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if schema["description"].as_str().unwrap_or_default().is_empty() {
            bare.push(name.clone());
        }
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            if schema["description"].as_str().unwrap_or_default().is_empty() {
                bare.push(format!("{name}.{field}"));
            }
        }
    }
    for (name, operation) in operations(&document) {
        for part in operation["parameters"].as_array().unwrap() {
            assert!(part["description"].is_string(), "{name}: {part}");
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            assert!(!answer["description"].as_str().unwrap().is_empty(), "{name} {status}");
            assert!(status == "204" || answer["content"].is_object(), "{name} {status}");
        }
    }
    assert!(bare.is_empty(), "{bare:?}");
}

/// What a schema shows as an example, in place or under its name.
fn examples<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    named(document, schema)["examples"].as_array().into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_of_bodies_fit_their_schemas_and_the_hub_can_read_them() {
    let world = World::new(json!({})).await;
    let document = document(&world).await;
    for (name, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        if body.is_null() {
            continue;
        }
        let shown = examples(&document, body);
        assert!(!shown.is_empty(), "{name} shows no example of its body");
        let (method, path) = name.split_once(' ').unwrap();
        let at = path.replace("{id}", "nobody").replace("{outlet}", "nowhere").replace("{version}", "1");
        for example in shown {
            fits(&document, body, example, &name);
            let request = world.web.request(method.parse().unwrap(), format!("{}{at}", world.hub.url()));
            let request = request.bearer_auth(world.hub.owner_key().unwrap()).header("idempotency-key", "example").json(example);
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            // What it names may not be there; it was read all the same.
            assert!(
                !answer.to_string().contains("unknown field") && !answer.to_string().contains("missing field"),
                "{name}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_can_be_asked_for_is_refused() {
    let world = World::new(json!({})).await;
    let key = world.hub.owner_key().unwrap();
    for (path, pointer) in [("audit?object=%00", "object"), ("journal?order=a%00b", "order"), ("events?subject=%00", "subject")] {
        let answer = world.web.get(format!("{}/api/v1/{path}", world.hub.url())).bearer_auth(&key).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["errors"][0]["pointer"], pointer);
    }
    let replay = world.web.post(format!("{}/api/v1/replay", world.hub.url())).bearer_auth(&key);
    let answer = replay.json(&json!({ "dead": true, "provider": "\0" })).send().await.unwrap();
    assert_eq!(answer.status(), 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_problem_that_is_shown_has_the_shape_of_one_and_a_page() {
    let world = World::new(json!({})).await;
    let document = document(&world).await;
    let mut kinds = BTreeSet::new();
    for (name, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap().iter().filter(|(status, _)| !status.starts_with('2'))
        {
            // The platform's own paths have its form.
            if answer["content"]["application/json"].is_object() {
                assert!(name.contains(" /merchants"), "{name} {status}");
                continue;
            }
            let content = &answer["content"]["application/problem+json"];
            let examples = content["examples"].as_object().unwrap();
            assert!(!examples.is_empty(), "{name} {status}");
            for example in examples.values().map(|example| &example["value"]) {
                fits(&document, &content["schema"], example, &name);
                assert_eq!(example["status"].to_string(), *status, "{name}");
                kinds.insert(example["type"].as_str().unwrap());
            }
        }
    }
    assert!(kinds.len() > 12, "{kinds:?}");
    for kind in kinds {
        let page = world.web.get(format!("{}{kind}", world.hub.url())).send().await.unwrap();
        assert_eq!(page.status(), 200, "{kind}");
        assert!(page.text().await.unwrap().contains(&format!("<code>{kind}</code>")), "{kind}");
    }
}
