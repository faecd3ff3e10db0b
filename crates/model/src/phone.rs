//! Phones: what people and programs write where a phone belongs, brought to E.164.
//!
//! Our own steps come before the library's: they know that 12 digits beginning 998 are an Uzbek number also in a Russian
//! outlet, that one field may hold two numbers, and that `+8…` is a slip of the hand. A number is never guessed: what fits no
//! rule is a typed error.

use rlibphonenumber::{PhoneNumber, PhoneNumberType, ValidationError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

/// A number that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phone {
    /// `+79991234567`.
    pub e164: String,
    /// Where it belongs, two letters; empty where unknown.
    pub region: String,
    pub kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext: Option<String>,
    /// A slip of the hand was mended.
    pub repaired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Mobile,
    Landline,
    TollFree,
    Premium,
    Personal,
    Voip,
    /// Possible, but in no range that the numbering plans name.
    Unknown,
}

/// Why a text is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhoneError {
    #[error("empty")]
    Empty,
    #[error("masked")]
    Masked,
    #[error("not a number")]
    NotANumber,
    #[error("too short")]
    TooShort,
    #[error("too long")]
    TooLong,
    #[error("invalid")]
    Invalid,
    #[error("ambiguous")]
    Ambiguous,
}

/// What a field may hold at the most; more is no phone.
const FIELD_CHARS_MAX: usize = 200;

/// Reads whatever a provider put where a phone belongs. `region` is the outlet's country.
pub fn read(raw: &Value, region: &str) -> Result<Phone, PhoneError> {
    match raw {
        Value::Null | Value::Bool(_) => Err(PhoneError::Empty),
        Value::String(text) => read_text(text, region),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(whole), _) => read_text(&whole.to_string(), region),
            // A whole number that was printed as a float; never with an exponent.
            (None, Some(float)) if float.fract() == 0.0 && (1.0..1e15).contains(&float) => read_text(&format!("{float:.0}"), region),
            _ => Err(PhoneError::Invalid),
        },
        Value::Array(items) => first(items, region),
        Value::Object(members) => first(["value", "number", "phone"].iter().filter_map(|name| members.get(*name)), region),
    }
}

/// The first that is a number; else the first error that is more than "empty".
pub fn first<'a>(raw: impl IntoIterator<Item = &'a Value>, region: &str) -> Result<Phone, PhoneError> {
    let mut worst = PhoneError::Empty;
    for value in raw {
        match read(value, region) {
            Ok(phone) => return Ok(phone),
            Err(error) if worst == PhoneError::Empty => worst = error,
            Err(_) => {}
        }
    }
    Err(worst)
}

/// Reads a text with one number or several: the first mobile wins, else the first number.
pub fn read_text(raw: &str, region: &str) -> Result<Phone, PhoneError> {
    let text: String = raw.nfkc().filter(|c| !invisible(*c)).take(FIELD_CHARS_MAX).collect();
    let text = text.trim().trim_start_matches('\'').to_lowercase().replace("или", ";");
    let mut found: Option<Phone> = None;
    let mut worst = PhoneError::Empty;
    for part in text.split([',', ';', '/', '\n']).map(str::trim) {
        // `;ext=12` has been cut from its number by the split above: what is left is no number of its own.
        if part.is_empty() || part.starts_with("ext") {
            continue;
        }
        match one(part, region) {
            Ok(phone) if phone.kind == Kind::Mobile => return Ok(phone),
            Ok(phone) => found = found.or(Some(phone)),
            Err(error) if worst == PhoneError::Empty => worst = error,
            Err(_) => {}
        }
    }
    found.ok_or(worst)
}

/// Zero-width characters and marks of direction.
fn invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

fn one(part: &str, region: &str) -> Result<Phone, PhoneError> {
    let part = part.trim_start_matches("tel:");
    let part = part.strip_suffix("@c.us").or_else(|| part.strip_suffix("@s.whatsapp.net")).unwrap_or(part);
    let (number, ext) = extension(part);
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    if number.trim_matches(['-', ' ']).is_empty() {
        return Err(PhoneError::Empty);
    }
    if !digits.is_empty() && number.contains(['*', 'x', '•', 'х']) {
        return Err(PhoneError::Masked);
    }
    if digits.is_empty() || (digits.len() < 7 && number.chars().any(char::is_alphabetic)) {
        return Err(PhoneError::NotANumber);
    }
    let plus = number.chars().find(|c| *c == '+' || c.is_ascii_digit()) == Some('+');
    let mut phone = if plus { with_plus(&digits, region)? } else { without_plus(&digits, region)? };
    phone.ext = ext;
    Ok(phone)
}

/// Cuts off an extension: `доб. 12`, `ext. 12`, `#12`, `x12`.
fn extension(part: &str) -> (&str, Option<String>) {
    for mark in ["доб.", "доб", "ext.", "ext", "#", "x"] {
        if let Some(at) = part.rfind(mark) {
            let tail = part[at + mark.len()..].trim_start_matches(['=', ':', ' ', '.']);
            let head = &part[..at];
            let enough = head.bytes().filter(u8::is_ascii_digit).count() >= 7;
            if enough && (1..=6).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_digit()) {
                return (head, Some(tail.to_owned()));
            }
        }
    }
    (part, None)
}

fn with_plus(digits: &str, region: &str) -> Result<Phone, PhoneError> {
    if let (Some(rest), 11, "RU" | "KZ") = (digits.strip_prefix('8'), digits.len(), region)
        && let Ok(phone) = international(&format!("7{rest}"))
    {
        return Ok(Phone { repaired: true, ..phone });
    }
    international(digits)
}

fn without_plus(digits: &str, region: &str) -> Result<Phone, PhoneError> {
    let count = digits.len();
    let mut tries: Vec<(String, bool)> = Vec::new();
    let mut take = |number: String, repaired: bool| tries.push((number, repaired));
    if let Some(rest) = digits.strip_prefix("810").filter(|_| count >= 13) {
        take(rest.to_owned(), false);
    }
    if let Some(rest) = digits.strip_prefix("00") {
        take(rest.to_owned(), false);
    }
    let foreign = match count {
        12 => ["998", "375", "996", "992", "994", "995"].iter().any(|code| digits.starts_with(code)),
        11 => ["374", "993"].iter().any(|code| digits.starts_with(code)),
        _ => false,
    };
    if foreign {
        take(digits.to_owned(), false);
    }
    match (region, count) {
        ("RU" | "KZ", 11) if digits.starts_with('8') => take(format!("7{}", &digits[1..]), false),
        ("RU" | "KZ", 11) if digits.starts_with('7') => take(digits.to_owned(), false),
        ("RU" | "KZ", 10) => take(format!("7{digits}"), false),
        ("UZ", 9) => take(format!("998{digits}"), false),
        ("UZ", 11) if digits.starts_with("79") || digits.starts_with("89") => take(format!("7{}", &digits[1..]), true),
        ("UZ", 13) if digits.starts_with("8998") => take(digits[1..].to_owned(), true),
        ("UZ", 10) if digits.starts_with('8') => take(format!("998{}", &digits[1..]), true),
        _ => {}
    }
    if let Some((code, national, trunk)) = plan(region) {
        let rest = digits.strip_prefix(trunk).filter(|_| !trunk.is_empty() && count == national + trunk.len());
        if let Some(rest) = rest.or((count == national).then_some(digits)) {
            take(format!("{code}{rest}"), false);
        }
    }
    if count >= 11 {
        take(digits.to_owned(), false);
    }
    let mut worst = if count > 15 { PhoneError::TooLong } else { PhoneError::TooShort };
    let mut possible = None;
    for (number, repaired) in tries {
        match international(&number) {
            Ok(phone) if phone.kind == Kind::Unknown => possible = possible.or(Some(Phone { repaired, ..phone })),
            Ok(phone) => return Ok(Phone { repaired, ..phone }),
            Err(error) => worst = error,
        }
    }
    possible.ok_or(worst)
}

/// Country code, length of the national number, trunk prefix.
fn plan(region: &str) -> Option<(&'static str, usize, &'static str)> {
    Some(match region {
        "KG" => ("996", 9, "0"),
        "TJ" => ("992", 9, ""),
        "BY" => ("375", 9, "80"),
        "AM" => ("374", 8, "0"),
        "AZ" => ("994", 9, "0"),
        "GE" => ("995", 9, "0"),
        "TM" => ("993", 8, "8"),
        _ => return None,
    })
}

/// A number with its country code, judged by the numbering plans.
fn international(digits: &str) -> Result<Phone, PhoneError> {
    match digits.len() {
        0..7 => return Err(PhoneError::TooShort),
        16.. => return Err(PhoneError::TooLong),
        _ => {}
    }
    let number = PhoneNumber::parse(format!("+{digits}"), None).map_err(|_| PhoneError::Invalid)?;
    let phone = |kind, region: String| Phone { e164: format!("+{digits}"), region, kind, ext: None, repaired: false };
    match number.is_possible_with_reason() {
        Err(ValidationError::TooShort) => return Err(PhoneError::TooShort),
        Err(ValidationError::TooLong) => return Err(PhoneError::TooLong),
        Err(_) => return Err(PhoneError::Invalid),
        Ok(_) => {}
    }
    // The library may have read a trunk prefix out of it: then what it judged is not what was written.
    if number.to_string() != format!("+{digits}") || !number.is_valid() {
        return Err(PhoneError::Invalid);
    }
    let region = number.get_region_code().map(|region| region.to_string()).unwrap_or_default();
    let kind = match number.get_type() {
        PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile => Kind::Mobile,
        PhoneNumberType::FixedLine => Kind::Landline,
        PhoneNumberType::TollFree => Kind::TollFree,
        PhoneNumberType::PremiumRate | PhoneNumberType::SharedCost => Kind::Premium,
        PhoneNumberType::PersonalNumber => Kind::Personal,
        PhoneNumberType::VoIP => Kind::Voip,
        _ => Kind::Unknown,
    };
    Ok(phone(kind, region))
}

impl Phone {
    /// Without the plus, as most providers want it.
    pub fn digits(&self) -> &str {
        self.e164.trim_start_matches('+')
    }

    pub fn takes_sms(&self) -> bool {
        self.kind == Kind::Mobile
    }

    pub fn masked(&self) -> String {
        mask(&self.e164)
    }
}

/// `+79991234567` → `+7999***4567`.
pub fn mask(e164: &str) -> String {
    match (e164.get(..5), e164.len().checked_sub(4).and_then(|at| e164.get(at..))) {
        (Some(head), Some(tail)) if e164.len() > 9 => format!("{head}***{tail}"),
        _ => "***".to_owned(),
    }
}

/// Loads the numbering plans, so that the first request need not wait for them.
pub fn warm_up() {
    drop(read_text("+79991234567", "RU"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_cases_of_the_rule_book_come_out_as_it_says() {
        let cases: Vec<Value> = serde_json::from_str(include_str!("../../../fixtures/phones/cases.json")).unwrap();
        for case in cases {
            let got = serde_json::to_value(match read(&case["raw"], case["region"].as_str().unwrap()) {
                Ok(phone) => serde_json::json!({ "raw": case["raw"], "region": case["region"], "e164": phone.e164, "kind": phone.kind }),
                Err(error) => serde_json::json!({ "raw": case["raw"], "region": case["region"], "error": error }),
            });
            assert_eq!(got.unwrap(), case);
        }
    }

    #[test]
    fn slips_and_doubles_are_read_and_what_is_beyond_repair_is_refused() {
        let e164 = |raw: &str, region: &str| read_text(raw, region).map(|phone| phone.e164);
        assert_eq!(e164("+89991234567", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("89991234567", "UZ").unwrap(), "+79991234567");
        assert_eq!(e164("8 (812) 123-45-67, +7 999 123-45-67", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("+7 999 123 45 67 или 8 999 765 43 21", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("+7 999 123-45-67 Мария", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("＋７９９９１２３４５６７", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("tel:+79991234567;ext=5", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("79991234567@c.us", "RU").unwrap(), "+79991234567");
        assert_eq!(e164("-", "RU"), Err(PhoneError::Empty));
        assert!(e164("7,99912E+10", "RU").is_err());
        assert!(e164("901234567", "RU").is_err());
        assert_eq!(read(&serde_json::json!(79991234567.0), "RU").unwrap().e164, "+79991234567");
        assert_eq!(read(&serde_json::json!([{ "value": "" }, { "value": "89991234567" }]), "RU").unwrap().e164, "+79991234567");
        assert_eq!(mask("+79991234567"), "+7999***4567");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", region in "[A-Z]{2}") {
            drop(read_text(&text, &region));
        }

        #[test]
        fn every_way_of_writing_a_mobile_gives_the_same_number(rest in 0u32..10_000_000, space in "[ \u{a0}-]?") {
            let tail = format!("{rest:07}");
            let (one, two, three) = (&tail[..3], &tail[3..5], &tail[5..]);
            let e164 = format!("+7999{tail}");
            for text in [
                format!("+7{space}(999){space}{one}{space}{two}{space}{three}"),
                format!("8999{tail}"), format!("7999{tail}"), format!("999{tail}"), e164.clone(),
            ] {
                prop_assert_eq!(&read_text(&text, "RU").unwrap().e164, &e164, "{}", text);
            }
        }
    }
}
