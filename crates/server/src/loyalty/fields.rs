//! Fields of a body, read as the platform reads them: unknown ones mean nothing, every fault is told at once and in its words.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Larger sums are a mistake.
const NUMBER_MAX: f64 = 1e15;
const TEXT_BYTES_MAX: usize = 4_096;

/// A body that is being read.
pub(super) struct Fields<'a> {
    given: &'a Map<String, Value>,
    faults: Vec<String>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(given: &'a Map<String, Value>) -> Self {
        Self { given, faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.given.get(name).filter(|value| !value.is_null())
    }

    fn read_text(&mut self, name: &str, value: &Value) -> String {
        match value.as_str() {
            Some("") => self.fault(format!("{name} should not be empty")),
            Some(text) if text.len() > TEXT_BYTES_MAX => {
                self.fault(format!("{name} must be shorter than or equal to {TEXT_BYTES_MAX} bytes"));
            }
            Some(text) if text.contains('\0') => self.fault(format!("{name} must not contain a zero byte")),
            Some(text) => return text.to_owned(),
            None => self.fault(format!("{name} must be a string")),
        }
        String::new()
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, name: &str) -> String {
        let value = self.get(name).unwrap_or(&Value::Null);
        self.read_text(name, value)
    }

    /// A text; `null` and an empty one count as none.
    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        let value = self.get(name).filter(|value| *value != "")?;
        Some(self.read_text(name, value)).filter(|text| !text.is_empty())
    }

    fn read_number(&mut self, name: &str, value: &Value) -> i64 {
        match value.as_f64() {
            Some(number) if number < 0.0 => self.fault(format!("{name} must not be less than 0")),
            Some(number) if number > NUMBER_MAX => self.fault(format!("{name} must not be greater than {NUMBER_MAX}")),
            // Units are whole: what is below one is no sum.
            Some(number) => return number.floor() as i64,
            None => self.fault(format!("{name} must be a number conforming to the specified constraints")),
        }
        0
    }

    /// A sum that must be there, rounded down.
    pub(super) fn number(&mut self, name: &str) -> i64 {
        let value = self.get(name).unwrap_or(&Value::Null);
        self.read_number(name, value)
    }

    pub(super) fn optional_number(&mut self, name: &str) -> Option<i64> {
        let value = self.get(name)?;
        Some(self.read_number(name, value))
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        let given = self.get(name).and_then(Value::as_bool);
        if given.is_none() {
            self.fault(format!("{name} must be a boolean value"));
        }
        given.unwrap_or_default()
    }

    /// All faults, joined as the platform joins them.
    pub(super) fn end(self) -> Result<(), Refusal> {
        if self.faults.is_empty() { Ok(()) } else { Err(Refusal::bad(self.faults.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_is_told_at_once_and_fractions_are_rounded_down() {
        let given = json!({ "a": 7, "b": "", "c": -0.5, "d": "12", "e": 99.99, "f": null, "g": [1], "h": 1e16, "i": "a\0" });
        let given = given.as_object().unwrap();
        let mut fields = Fields::new(given);
        fields.text("a");
        fields.text("b");
        fields.number("c");
        fields.number("d");
        assert_eq!(fields.number("e"), 99);
        fields.text("f");
        assert_eq!((fields.optional("f"), fields.optional("b"), fields.optional_number("f")), (None, None, None));
        fields.optional("g");
        fields.optional_number("h");
        fields.text("i");
        fields.flag("a");
        let wanted = "a must be a string; b should not be empty; c must not be less than 0; d must be a number conforming to the \
                      specified constraints; f must be a string; g must be a string; h must not be greater than 1000000000000000; \
                      i must not contain a zero byte; a must be a boolean value";
        assert_eq!(fields.end(), Err(Refusal::bad(wanted)));
    }
}
