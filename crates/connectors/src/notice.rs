//! What a push notice says, in the room that it has.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Every push service takes as many bytes.
pub(crate) const BYTES_MAX: usize = 3_000;
const TITLE_CHARS_MAX: usize = 200;

/// Written without padding, read with and without it.
pub(crate) const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Either alphabet of base64: browsers' libraries differ.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text.trim().replace('+', "-").replace('/', "_")).ok()
}

/// A title that leaves room for the words.
pub(crate) fn title(text: &str) -> String {
    text.chars().take(TITLE_CHARS_MAX).collect()
}

/// The message with as much of the text as there is room for. `made` gives the bytes of the whole message with a text in it.
pub(crate) fn fit(text: &str, made: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let whole = made(text);
    if whole.len() <= BYTES_MAX {
        return whole;
    }
    // A character may be escaped to several bytes: how many fit is sought, not reckoned.
    let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let cut = |chars: usize| made(&format!("{}…", &text[..ends[chars]]));
    let (mut fits, mut too_long) = (0, ends.len());
    while fits + 1 < too_long {
        let middle = usize::midpoint(fits, too_long);
        match cut(middle).len() <= BYTES_MAX {
            true => fits = middle,
            false => too_long = middle,
        }
    }
    cut(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_text_is_cut_at_a_letter_and_what_is_escaped_counts_as_it_is_sent() {
        let made = |text: &str| json!({ "body": text, "link": "https://hub.example" }).to_string().into_bytes();
        assert_eq!(fit("Выручка", made), made("Выручка"));
        for long in ["ы".repeat(5_000), "\u{1}".repeat(5_000), "\"".repeat(2_900), "😀".repeat(751)] {
            let fitted = fit(&long, made);
            assert!((BYTES_MAX - 8..=BYTES_MAX).contains(&fitted.len()), "{}", fitted.len());
            let read: serde_json::Value = serde_json::from_slice(&fitted).unwrap();
            assert!(read["body"].as_str().unwrap().ends_with('…'));
        }
    }

    #[test]
    fn both_alphabets_of_base64_are_read_with_padding_and_without() {
        for text in ["-_8", "-_8=", "+/8", "+/8=", " -_8= "] {
            assert_eq!(decode(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(decode("-_8!"), None);
    }
}
