//! Personal data is masked when it is shown: by shape, since bodies are a provider's own.

use serde_json::{Value, json};

/// Masks every text in a document, ids left alone.
pub(super) fn mask_value(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_text(text),
        Value::Array(items) => items.iter_mut().for_each(mask_value),
        Value::Object(members) => members
            .iter_mut()
            .filter(|(name, _)| !matches!(name.as_str(), "id" | "entry" | "trace" | "key" | "subject"))
            .for_each(|(name, member)| {
                if name == "name" && member.is_string() {
                    *member = json!("***");
                } else {
                    mask_value(member);
                }
            }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Masks what may be a phone in a text: eleven or twelve digits in a row, or any ten and more behind a plus.
pub(super) fn mask_text(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = rest[start..].bytes().take_while(u8::is_ascii_digit).count();
        let plus = rest[..start].ends_with('+') || rest[..start].to_ascii_lowercase().ends_with("%2b");
        let whole = !rest[..start].ends_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '.') || plus;
        masked.push_str(&rest[..start]);
        let run = &rest[start..start + digits];
        if whole && ((11..=12).contains(&digits) || (plus && (10..=15).contains(&digits))) {
            masked.push_str(&run[..4]);
            masked.push_str("***");
            masked.push_str(&run[digits - 4..]);
        } else {
            masked.push_str(run);
        }
        rest = &rest[start + digits..];
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_in_a_text_are_masked_and_ids_are_not() {
        assert_eq!(mask_text(r#"{"phone":"+79991234567","id":1789380000}"#), r#"{"phone":"+7999***4567","id":1789380000}"#);
        assert_eq!(mask_text("to=79991234567&msg=x"), "to=7999***4567&msg=x");
    }
}
