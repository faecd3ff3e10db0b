//! Checks a JSON value against the JSON Schema that was derived from a settings struct, and lists every fault at once.
//!
//! It knows what derived schemas of settings say (`type`, `properties`, `required`, `additionalProperties`, `items`, `enum`,
//! `const`, `anyOf`, `oneOf`, `$ref`, lengths, ranges) and nothing else; deserialising afterwards stays the judge.

use serde_json::Value;

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Fault {
    /// JSON pointer to the place.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl Fault {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A pointer of a deserialiser's path.
pub fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{key}"),
        Segment::Enum { variant } => format!("{pointer}/{variant}"),
        Segment::Unknown => pointer,
    })
}

/// What a deserialiser says of a value, without line and column: the pointer says the place, also of what is missing.
pub fn unread(pointer: String, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    match text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(name) => Fault::new(format!("{pointer}/{name}"), "is missing"),
        None => Fault::new(pointer, text),
    }
}

/// Every fault of the value.
pub fn faults(schema: &Value, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    walk(schema, schema, value, "", &mut faults);
    faults
}

fn walk(root: &Value, schema: &Value, value: &Value, at: &str, faults: &mut Vec<Fault>) {
    let schema = match schema.get("$ref").and_then(Value::as_str).and_then(|path| root.pointer(path.trim_start_matches('#'))) {
        Some(target) => target,
        None => schema,
    };
    for choices in ["anyOf", "oneOf"].iter().filter_map(|name| schema[*name].as_array()) {
        // An enum whose variants are described is a choice of constants: all of them are named, not the first.
        if let Some(known) = constants(choices) {
            one_of(&known, value, at, faults);
            continue;
        }
        let tries: Vec<Vec<Fault>> = choices
            .iter()
            .map(|choice| {
                let mut found = Vec::new();
                walk(root, choice, value, at, &mut found);
                found
            })
            .collect();
        // The choice that fits best speaks, so that a fault deep inside is named rather than the whole refused.
        if let Some(best) = tries.into_iter().min_by_key(|found| (found.iter().any(|fault| fault.pointer == at), found.len())) {
            faults.extend(best);
        }
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        return one_of(&known.iter().collect::<Vec<_>>(), value, at, faults);
    }
    if let Some(only) = schema.get("const").filter(|only| *only != value) {
        return faults.push(Fault::new(at, format!("must be {only}, not {}", short(value))));
    }
    if !fits(&schema["type"], value) {
        // A secret written without quotes is a number, and stays a secret.
        let given = if schema["writeOnly"] == true { kind(value) } else { short(value) };
        return faults.push(Fault::new(at, format!("must be {}, not {given}", wanted(&schema["type"]))));
    }
    match value {
        Value::Object(members) => {
            let properties = schema["properties"].as_object();
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !members.contains_key(name) {
                    faults.push(Fault::new(format!("{at}/{name}"), "is missing"));
                }
            }
            for (name, member) in members {
                let place = format!("{at}/{name}");
                match (properties.and_then(|known| known.get(name)), &schema["additionalProperties"]) {
                    (Some(inner), _) => walk(root, inner, member, &place, faults),
                    (None, Value::Bool(false)) => {
                        let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                        faults.push(Fault::new(place, format!("is not known here: {} are", known.join(", "))));
                    }
                    (None, inner @ Value::Object(_)) => walk(root, inner, member, &place, faults),
                    (None, _) => {}
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                walk(root, &schema["items"], item, &format!("{at}/{place}"), faults);
            }
            limit(schema, "minItems", items.len() as f64, at, "at least", "entries", faults);
            limit(schema, "maxItems", items.len() as f64, at, "at most", "entries", faults);
        }
        Value::String(text) => {
            limit(schema, "minLength", text.chars().count() as f64, at, "at least", "characters", faults);
            limit(schema, "maxLength", text.chars().count() as f64, at, "at most", "characters", faults);
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            limit(schema, "minimum", number, at, "at least", "", faults);
            limit(schema, "maximum", number, at, "at most", "", faults);
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// The values of a choice in which nothing but values stands.
fn constants(choices: &[Value]) -> Option<Vec<&Value>> {
    let values = choices.iter().map(|choice| match (choice.get("const"), choice["enum"].as_array()) {
        (Some(only), _) => Some(vec![only]),
        (None, Some(several)) => Some(several.iter().collect()),
        (None, None) => None,
    });
    values.collect::<Option<Vec<_>>>().map(|values| values.concat())
}

fn one_of(known: &[&Value], value: &Value, at: &str, faults: &mut Vec<Fault>) {
    if !known.contains(&value) {
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        faults.push(Fault::new(at, format!("must be one of {}, not {}", known.join(", "), short(value))));
    }
}

fn limit(schema: &Value, name: &str, found: f64, at: &str, words: &str, unit: &str, faults: &mut Vec<Fault>) {
    let Some(bound) = schema[name].as_f64() else { return };
    let broken = if name.starts_with("min") { found < bound } else { found > bound };
    if broken {
        faults.push(Fault::new(at, format!("must be {words} {bound} {unit}").trim_end().to_owned()));
    }
}

fn fits(kind: &Value, value: &Value) -> bool {
    match kind {
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => true,
        },
        Value::Array(kinds) => kinds.iter().any(|kind| fits(kind, value)),
        _ => true,
    }
}

fn wanted(kind: &Value) -> String {
    let word = |kind: &Value| match kind.as_str().unwrap_or_default() {
        "boolean" => "true or false".to_owned(),
        "integer" => "a whole number".to_owned(),
        "string" => "a text".to_owned(),
        "array" => "a list".to_owned(),
        "object" => "a table of settings".to_owned(),
        other => other.to_owned(),
    };
    match kind {
        Value::Array(kinds) => kinds.iter().filter(|kind| *kind != "null").map(word).collect::<Vec<_>>().join(" or "),
        kind => word(kind),
    }
}

/// What was given, without giving away what may be a secret.
fn short(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) | Value::Null => value.to_string(),
        value => kind(value),
    }
}

/// What kind of thing was given.
fn kind(value: &Value) -> String {
    let kind = match value {
        Value::String(text) if text.is_empty() => "an empty text",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Null => "nothing",
    };
    kind.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(schemars::JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[expect(dead_code, reason = "only its schema is looked at")]
    enum Ground {
        /// Described.
        Consent,
        /// Described as well.
        Service,
        Plain,
        Bare,
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Settings {
        ground: Ground,
        other: Option<Ground>,
    }

    #[test]
    fn every_choice_is_named_when_none_was_made() {
        let schema = schemars::schema_for!(Settings).to_value();
        assert_eq!(faults(&schema, &json!({ "ground": "bare", "other": null })), []);
        assert_eq!(faults(&schema, &json!({ "ground": "service", "other": "consent" })), []);
        let told = faults(&schema, &json!({ "ground": "servce", "other": 5 }));
        for (fault, (place, given)) in told.iter().zip([("/ground", "a text"), ("/other", "5")]) {
            assert_eq!(fault.pointer, place);
            assert!(fault.detail.ends_with(&format!(", not {given}")), "{fault:?}");
            for choice in ["consent", "service", "plain", "bare"] {
                assert!(fault.detail.contains(&format!("\"{choice}\"")), "{fault:?}");
            }
        }
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
