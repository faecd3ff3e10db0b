//! How a message is put into a body whose form is agreed upon elsewhere: JSON with `{places}` that are filled.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uzel_model::{Outbound, message::Template};

use super::wire;

/// What may stand in a body.
const PLACES: [&str; 6] = ["sender", "phone", "text", "template", "language", "components"];

/// A body with places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Mapping(Value);

impl From<Mapping> for String {
    fn from(mapping: Mapping) -> Self {
        mapping.0.to_string()
    }
}

impl TryFrom<String> for Mapping {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let body: Value = serde_json::from_str(&text).map_err(|error| format!("is not JSON: {error}"))?;
        if !body.is_object() {
            return Err("must be a JSON object, such as {\"destination\": \"{phone}\", \"text\": \"{text}\"}".to_owned());
        }
        let mut unknown = Vec::new();
        each_text(&body, &mut |text| {
            unknown.extend(places(text).into_iter().filter(|place| !PLACES.contains(place)).map(str::to_owned))
        });
        match unknown.first() {
            Some(place) => {
                Err(format!("`{{{place}}}` is no place: {} are", PLACES.map(|place| format!("{{{place}}}")).join(", ")))
            }
            None => Ok(Self(body)),
        }
    }
}

impl Mapping {
    /// The body of a message from this sender. A text that is nothing but a place takes what stands for it as it is, a list too.
    pub(super) fn fill(&self, sender: &str, phone: &str, message: Outbound<'_>) -> Value {
        let template = message.content.template.as_ref();
        let named = |part: fn(&Template) -> &str| template.map_or(Value::Null, |template| part(template).into());
        let value = |place: &str| match place {
            "sender" => sender.into(),
            "phone" => wire::digits(phone).into(),
            "text" => message.content.text.as_str().into(),
            "template" => named(|template| &template.name),
            "language" => named(|template| &template.language),
            _ => Value::Array(template.map_or_else(Vec::new, |template| template.components.clone())),
        };
        fill(&self.0, &value)
    }
}

fn fill(body: &Value, value: &dyn Fn(&str) -> Value) -> Value {
    match body {
        Value::String(text) => match (&*places(text), text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'))) {
            ([place], Some(whole)) if *place == whole => value(place),
            (found, _) => {
                // What is filled in is not looked through for places once more.
                let (mut filled, mut rest) = (String::new(), text.as_str());
                for place in found {
                    let (before, after) = rest.split_once(&format!("{{{place}}}")).expect("it was found there");
                    filled.push_str(before);
                    filled.push_str(&match value(place) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    });
                    rest = after;
                }
                Value::String(filled + rest)
            }
        },
        Value::Array(items) => items.iter().map(|item| fill(item, value)).collect(),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (name.clone(), fill(member, value))).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The names of the places in a text, in order. Braces around anything but a name are the text's own.
fn places(text: &str) -> Vec<&str> {
    let is_name = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split('{').skip(1).filter_map(|part| part.split_once('}').map(|(name, _)| name)).filter(is_name).collect()
}

fn each_text(body: &Value, see: &mut dyn FnMut(&str)) {
    match body {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(members) => members.values().for_each(|member| each_text(member, see)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uzel_model::{Address, Content};

    use super::*;

    fn filled(mapping: &Value, content: &Content) -> Value {
        let to = Address::Phone("+79990001122".to_owned());
        let mapping = Mapping::try_from(mapping.to_string()).unwrap();
        mapping.fill("12", "+79990001122", Outbound { to: &to, content, key: "k" })
    }

    #[test]
    fn places_are_filled_once_and_a_list_stays_a_list() {
        let components = vec![json!({ "type": "body" })];
        let template = Template { name: "review".to_owned(), language: "ru".to_owned(), components: components.clone() };
        let content = Content { template: Some(template), ..Content::text("{phone} says \"hi\"") };
        let mapping = json!({ "to": "tel:{phone}", "from": "{sender}", "t": ["{text}", "{text}!", 5, null],
            "c": "{components}", "n": "{template}/{language}", "own": "{ }{Äh}" });
        let wanted = json!({ "to": "tel:79990001122", "from": "12", "t": ["{phone} says \"hi\"", "{phone} says \"hi\"!", 5, null],
            "c": components, "n": "review/ru", "own": "{ }{Äh}" });
        assert_eq!(filled(&mapping, &content), wanted);
        assert_eq!(
            filled(&json!({ "n": "{template}", "c": "{components}" }), &Content::text("x")),
            json!({ "n": null, "c": [] })
        );
    }

    #[test]
    fn a_mapping_that_cannot_be_filled_is_refused_with_the_reason() {
        for (wrong, why) in [
            ("", "not JSON"),
            ("[]", "object"),
            ("7", "object"),
            (r#"{"a":{"b":["{who}"]}}"#, "`{who}` is no place: {sender}, {phone}"),
        ] {
            let error = Mapping::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
