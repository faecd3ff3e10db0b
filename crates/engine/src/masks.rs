//! Taking secrets out of texts that are kept: in every form in which a text may carry them.

use serde_json::json;

/// Shorter ones would tear texts apart, and are nobody's secret.
const CHARS_MIN: usize = 4;

/// What must not stand in a text. Made once, since texts come often.
#[derive(Default)]
pub(crate) struct Masks(Vec<String>);

impl Masks {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> =
            secrets.into_iter().filter(|secret| secret.chars().count() >= CHARS_MIN).flat_map(forms).collect();
        // The longest first, so that none is torn apart by another that stands within it.
        forms.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        forms.dedup();
        Self(forms)
    }

    /// The text without any of them.
    pub(crate) fn apply(&self, text: &str) -> String {
        let found = self.0.iter().filter(|form| text.contains(form.as_str()));
        found.fold(text.to_owned(), |text, form| text.replace(form.as_str(), "***"))
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masks(***)")
    }
}

/// A secret as it is, as URLs and forms carry it, and as JSON does.
fn forms(secret: &str) -> Vec<String> {
    let quoted = json!(secret).to_string();
    let in_json = &quoted[1..quoted.len() - 1];
    let mut forms = vec![secret.to_owned(), in_json.to_owned(), in_json.replace('/', "\\/")];
    // Everything that is not surely plain; what browsers leave plain in a path; and a form, where a blank is a plus.
    for plain in [&b"-._~"[..], b"-._~!$&'()*+,;=:@", b"-._*"] {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            let escaped = escaped(secret, plain, digits);
            forms.push(escaped.replace("%20", "+"));
            forms.push(escaped);
        }
    }
    forms
}

fn escaped(text: &str, plain: &[u8], digits: &[u8; 16]) -> String {
    let mut escaped = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.extend(['%', char::from(digits[usize::from(byte >> 4)]), char::from(digits[usize::from(byte & 15)])]);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_that_a_url_a_form_or_json_gives_it() {
        let masks = Masks::new(["p/ß \"w+d", "abcdefgh", "efgh", "ab"]);
        for (text, masked) in [
            ("as it is: p/ß \"w+d!", "as it is: ***!"),
            ("?p=p%2F%C3%9F%20%22w%2Bd&q", "?p=***&q"),
            ("?p=p%2f%c3%9f%20%22w%2bd&q", "?p=***&q"),
            ("p=p%2F%C3%9F+%22w%2Bd", "p=***"),
            (r#"{"p":"p/ß \"w+d"}"#, r#"{"p":"***"}"#),
            (r#"{"p":"p\/ß \"w+d"}"#, r#"{"p":"***"}"#),
            ("one within another: abcdefgh, efgh", "one within another: ***, ***"),
            ("a short one tears nothing: ab", "a short one tears nothing: ab"),
        ] {
            assert_eq!(masks.apply(text), masked);
        }
        assert_eq!(Masks::new(["abcdefgh"]).0, ["abcdefgh"], "a form that equals the plain one is not looked for twice");
        assert!(!format!("{masks:?}").contains("efgh"));
    }
}
