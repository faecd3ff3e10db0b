//! Bodies that set something up. What they may hold is told by the part of a setup file that they stand for; they are judged as
//! such a file is, so that every fault is named at once.

use std::{borrow::Cow, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is to be made.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent, bound = "")]
pub(super) struct New<P> {
    fields: Map<String, Value>,
    #[serde(skip)]
    part: PhantomData<P>,
}

/// What a change names: any of the fields that it was made with; `null` takes one away (RFC 7396).
#[derive(Debug, Deserialize)]
#[serde(transparent, bound = "")]
pub(super) struct Patch<P> {
    fields: Map<String, Value>,
    #[serde(skip)]
    part: PhantomData<P>,
}

impl<P> Patch<P> {
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.fields)
    }
}

impl<P: JsonSchema> JsonSchema for New<P> {
    fn schema_name() -> Cow<'static, str> {
        format!("New{}", word::<P>()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = P::json_schema(generator);
        let required = schema.get("required").cloned().unwrap_or_default();
        let mut fields = schema.remove("properties").and_then(|fields| fields.as_object().cloned()).unwrap_or_default();
        // What is `null` is taken for what is not there.
        for (name, field) in &mut fields {
            if required.as_array().is_none_or(|names| names.iter().all(|needed| needed != name)) {
                // Generators take no list and no object for the default of what may be `null`.
                let default = field.get("default").filter(|value| !value.is_array() && !value.is_object()).cloned();
                *field = or_null(field.take());
                if let Some(default) = default {
                    field["default"] = default;
                }
            }
        }
        schema.insert("properties".to_owned(), Value::Object(fields));
        // A part that takes in another cannot deny unknown names by itself.
        schema.insert("additionalProperties".to_owned(), json!(false));
        schema
    }
}

impl<P: JsonSchema> JsonSchema for Patch<P> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}Change", word::<P>()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = P::json_schema(generator);
        let required = schema.remove("required").unwrap_or_default();
        let examples = schema.remove("examples").unwrap_or_default();
        let mut fields = schema.remove("properties").and_then(|fields| fields.as_object().cloned()).unwrap_or_default();
        // What a thing is called and whose it is stays as it is.
        fields.retain(|name, _| !["slug", "merchant", "provider"].contains(&name.as_str()));
        for (name, field) in &mut fields {
            if required.as_array().is_none_or(|names| names.iter().all(|needed| needed != name)) {
                *field = or_null(field.take());
            }
        }
        let shown = examples[0].as_object().cloned().unwrap_or_default();
        let shown: Map<String, Value> = shown.into_iter().filter(|(name, _)| fields.contains_key(name)).take(1).collect();
        schema.insert("properties".to_owned(), Value::Object(fields));
        schema.insert("additionalProperties".to_owned(), json!(false));
        schema.insert("examples".to_owned(), json!([shown]));
        schema.insert(
            "description".to_owned(),
            json!("What changes: any of these fields; `null` takes one away, and what is not named stays (RFC 7396)."),
        );
        schema
    }
}

/// `Merchant` of `MerchantPart`, `Outlet` of `NewOutlet`.
fn word<P: JsonSchema>() -> String {
    P::schema_name().trim_end_matches("Part").trim_start_matches("New").to_owned()
}

fn or_null(mut field: Value) -> Value {
    let null = |kinds: &Value| kinds == "null" || kinds.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "null"));
    let told = field["anyOf"].as_array().is_some_and(|choices| choices.iter().any(|choice| null(&choice["type"])));
    if told || null(&field["type"]) {
        return field;
    }
    let Some(fields) = field.as_object_mut() else { return field };
    fields.remove("default");
    let description = fields.remove("description");
    let mut either = json!({ "anyOf": [field, { "type": "null" }] });
    if let Some(description) = description {
        either["description"] = description;
    }
    either
}
