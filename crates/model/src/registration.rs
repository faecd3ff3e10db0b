//! Connections that a till's own program registers (`POST /integrations/{provider}/register`): its words become settings.
//!
//! What is wrong is told as JSON Schema validators tell it, since programs show it to people as it is: the place is the instance's
//! path, or the schema's where the instance's is empty.

use serde_json::{Map, Value, json};

use crate::{Provider, check::Fault};

/// A member of the body that registers a connection, where it has another name than the setting that it becomes, or must be there
/// though the setting need not.
#[derive(Debug, Clone, Copy)]
pub struct RegistrationField {
    /// Its name in the body.
    pub name: &'static str,
    /// The setting that it becomes.
    pub setting: &'static str,
    pub required: bool,
}

impl RegistrationField {
    pub const fn new(name: &'static str, setting: &'static str) -> Self {
        Self { name, setting, required: false }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

impl Provider {
    /// Names that programs of tills have for its settings, beside the settings' own in either form (`api_key`, `apiKey`).
    pub const fn with_registration(mut self, fields: &'static [RegistrationField]) -> Self {
        self.registered = fields;
        self
    }

    /// The settings that the body of a registration gives, or everything that is wrong with it. Members that mean nothing here are
    /// left out. What is given still goes through [`Provider::open`], like settings from anywhere.
    pub fn registration(&self, body: &Map<String, Value>) -> Result<Map<String, Value>, Vec<Fault>> {
        let shape = json!(self.shape());
        let known = shape["properties"].as_object().cloned().unwrap_or_default();
        let needed: Vec<&str> = shape["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut settings = Map::new();
        let mut faults = Vec::new();
        for (setting, schema) in &known {
            let named = self.registered.iter().find(|field| field.setting == setting);
            let names = [named.map(|field| field.name.to_owned()), Some(setting.clone()), Some(camel(setting))];
            let given = names.iter().flatten().find_map(|name| body.get(name).map(|value| (name, value)));
            match given.filter(|(_, value)| !value.is_null()) {
                Some((name, value)) => {
                    let wanted = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
                    if !is_a(value, wanted) {
                        faults.push(Fault::new(format!("/{name}"), format!("must be {wanted}")));
                    }
                    settings.insert(setting.clone(), value.clone());
                }
                None if needed.contains(&setting.as_str()) || named.is_some_and(|field| field.required) => {
                    let name = named.map_or_else(|| camel(setting), |field| field.name.to_owned());
                    faults.push(Fault::new("#/required", format!("must have required property '{name}'")));
                }
                None => {}
            }
        }
        if faults.is_empty() { Ok(settings) } else { Err(faults) }
    }
}

/// `apiKey` of `api_key`.
pub fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut name, part| {
        let mut signs = part.chars();
        name.extend(signs.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(signs.as_str());
        name
    })
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use garde::Validate;
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;
    use crate::{Connector, Malformed, Reading, Request, Secret};

    #[derive(Debug, Deserialize, JsonSchema, Validate)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Till {
        #[garde(skip)]
        api_key: Secret,
        #[garde(skip)]
        application_id: Option<String>,
        #[garde(skip)]
        #[serde(default)]
        stores: Vec<String>,
    }

    impl Connector for Till {
        fn parse(&self, _: &Request) -> Result<Reading, Malformed> {
            Ok(Reading::default())
        }
    }

    const FIELDS: &[RegistrationField] = &[RegistrationField::new("appId", "application_id").required()];

    #[test]
    fn a_body_becomes_settings_or_every_fault_of_it_is_told() {
        let till = Provider::new::<Till>("till", "Till").with_registration(FIELDS);
        let read = |body: Value| till.registration(body.as_object().unwrap());
        let settings = read(json!({ "apiKey": "k", "appId": "a", "stores": ["s"], "colour": "red", "extra": null })).unwrap();
        assert_eq!(Value::Object(settings), json!({ "api_key": "k", "application_id": "a", "stores": ["s"] }));
        assert!(read(json!({ "api_key": "k", "application_id": "a" })).is_ok(), "by the settings' own names as well");
        let told = |body: Value| {
            let faults = read(body).unwrap_err();
            faults.iter().map(|fault| format!("{} {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("; ")
        };
        let missing = "#/required must have required property 'apiKey'; #/required must have required property 'appId'";
        assert_eq!(told(json!({})), missing);
        assert_eq!(
            told(json!({ "apiKey": 7, "appId": [], "stores": "s" })),
            "/apiKey must be string; /appId must be string; /stores must be array"
        );
    }

    #[test]
    fn names_of_settings_are_told_as_the_platform_writes_them() {
        assert_eq!(["api_key", "base_url", "x", "/app_id"].map(camel), ["apiKey", "baseUrl", "x", "/appId"]);
    }
}
