//! Connections that a till's own program registers (`POST /integrations/{provider}/register`): its words become settings.
//!
//! What is wrong is told as JSON Schema validators tell it, since programs show it to people as it is: the place is the
//! instance's path, or the schema's where the instance's is empty.

use serde_json::{Map, Value};

use crate::{Provider, check::Fault};

/// One member of the body that registers a connection. Members that no field names are dropped.
#[derive(Debug, Clone, Copy)]
pub struct RegistrationField {
    /// Its name in the body.
    pub name: &'static str,
    /// The setting that it becomes; `None`: it is looked at and dropped.
    pub setting: Option<&'static str>,
    pub kind: RegistrationKind,
    pub required: bool,
}

/// What a member must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationKind {
    Text,
    /// A list; its texts and numbers, and the ids of its objects, become the setting.
    Ids,
}

impl RegistrationField {
    pub const fn text(name: &'static str, setting: Option<&'static str>) -> Self {
        Self { name, setting, kind: RegistrationKind::Text, required: false }
    }

    pub const fn ids(name: &'static str, setting: &'static str) -> Self {
        Self { name, setting: Some(setting), kind: RegistrationKind::Ids, required: false }
    }

    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// What is wrong with the member's kind.
    fn fault(&self, value: &Value) -> Option<&'static str> {
        match self.kind {
            RegistrationKind::Text => (!value.is_string()).then_some("must be string"),
            RegistrationKind::Ids => (!value.is_array()).then_some("must be array"),
        }
    }

    fn setting(&self, value: &Value) -> Value {
        match self.kind {
            RegistrationKind::Text => value.clone(),
            RegistrationKind::Ids => value.as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(id).collect(),
        }
    }
}

/// A text, a number, or the id of an object.
fn id(item: &Value) -> Option<Value> {
    match item {
        Value::String(text) => Some(Value::String(text.clone())),
        Value::Number(number) => Some(Value::String(number.to_string())),
        Value::Object(members) => members.get("id").or_else(|| members.get("uuid")).filter(|id| id.is_string()).cloned(),
        _ => None,
    }
}

impl Provider {
    pub const fn with_registration(mut self, fields: &'static [RegistrationField]) -> Self {
        self.registered = fields;
        self
    }

    /// Whether a till's program may register a connection to it.
    pub fn registers(&self) -> bool {
        !self.registered.is_empty()
    }

    /// The settings that the body of a registration gives, or everything that is wrong with it. What it gives still goes through
    /// [`Provider::open`], like settings from anywhere.
    pub fn registration(&self, config: &Value) -> Result<Value, Vec<Fault>> {
        if !self.registers() {
            return Err(vec![Fault::new("#", format!("{} is not registered in this way", self.name))]);
        }
        let Some(members) = config.as_object() else { return Err(vec![Fault::new("#/type", "must be object")]) };
        let missing = self.registered.iter().filter(|field| field.required && !members.contains_key(field.name));
        let missing = missing.map(|field| Fault::new("#/required", format!("must have required property '{}'", field.name)));
        let wrong = self.registered.iter().filter_map(|field| {
            let detail = field.fault(members.get(field.name)?)?;
            Some(Fault::new(format!("/{}", field.name), detail))
        });
        let faults: Vec<Fault> = missing.chain(wrong).collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        let known = self.registered.iter().filter_map(|field| {
            let setting = field.setting(members.get(field.name)?);
            Some((field.setting?.to_owned(), setting))
        });
        Ok(Value::Object(known.collect::<Map<_, _>>()))
    }
}
