//! Phones: what people and programs write where a phone belongs, brought to E.164.
//!
//! Our own steps come before the library's: they know that 12 digits beginning 998 are an Uzbek number also in a Russian
//! outlet, that one field may hold two numbers, and that `+8…` is a slip of the hand. A number is never guessed: what fits no
//! rule is a typed error.

use rlibphonenumber::{NumberLengthType, PhoneNumber, PhoneNumberType, ValidationError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

/// A number that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phone {
    /// `+79991234567`.
    pub e164: String,
    /// Where it belongs, two letters; empty where unknown.
    pub region: String,
    /// What kind of line it is.
    pub kind: Kind,
    /// Extension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ext: Option<String>,
    /// A slip of the hand was mended.
    pub repaired: bool,
}

/// What kind of line a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PhoneKind")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema)]
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
            (None, Some(real)) if real.fract() == 0.0 && (1.0..1e15).contains(&real) => read_text(&format!("{real:.0}"), region),
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
    // Zero-width characters and marks of direction come along with what is copied from a page.
    let invisible = |c| matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
    let mut chars = raw.nfkc().filter(|c| !invisible(*c));
    let text: String = chars.by_ref().take(FIELD_CHARS_MAX).collect();
    // Not cut off and read: the cut may fall inside a number and leave another person's.
    if chars.next().is_some() {
        return Err(PhoneError::NotANumber);
    }
    let text = text.trim().trim_start_matches('\'').to_lowercase().replace("или", ";");
    if exponent(&text) {
        return Err(PhoneError::Invalid);
    }
    let mut parts: Vec<String> = Vec::new();
    for part in text.split([',', ';', '/', '\n']).map(str::trim).filter(|part| !part.is_empty()) {
        match parts.last_mut() {
            // `;ext=12` and `, доб. 12` belong to the number before them.
            Some(before) if part.starts_with("ext") || part.starts_with("доб") => *before = format!("{before} {part}"),
            _ => parts.push(part.to_owned()),
        }
    }
    let mut found: Option<Phone> = None;
    let mut worst = PhoneError::Empty;
    for part in &parts {
        match one(part, region) {
            Ok(phone) if phone.kind == Kind::Mobile => return Ok(phone),
            Ok(phone) if found.as_ref().is_none_or(|before| before.kind == Kind::Unknown) => found = Some(phone),
            Err(error) if worst == PhoneError::Empty => worst = error,
            Ok(_) | Err(_) => {}
        }
    }
    found.ok_or(worst)
}

/// `7,99912E+10`, as spreadsheets write long numbers: digits are lost, and those left over may make someone else's number.
fn exponent(text: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit();
    text.match_indices('e')
        .any(|(at, _)| text[..at].ends_with(digit) && text[at + 1..].trim_start_matches(['+', '-']).starts_with(digit))
}

/// Hidden digits. An `x` counts only outside of words, in Latin and in Cyrillic: a name such as Михаил hides nothing.
fn hidden(number: &str) -> bool {
    let mut words = number.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    number.contains(['*', '•']) || words.any(|word| word.chars().all(|c| matches!(c, 'x' | 'х')))
}

fn one(part: &str, region: &str) -> Result<Phone, PhoneError> {
    let part = part.trim_start_matches("tel:");
    let chat = part.strip_suffix("@c.us").or_else(|| part.strip_suffix("@s.whatsapp.net"));
    let part = chat.filter(|before| before.bytes().all(|byte| byte.is_ascii_digit())).unwrap_or(part);
    let (number, ext) = extension(part);
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    if number.trim_matches(['-', '‐', '–', '—', ' ']).is_empty() {
        return Err(PhoneError::Empty);
    }
    if !digits.is_empty() && hidden(number) {
        return Err(PhoneError::Masked);
    }
    if digits.is_empty() || (digits.len() < 7 && number.chars().any(char::is_alphabetic)) {
        return Err(PhoneError::NotANumber);
    }
    let plus = number.chars().find(|c| *c == '+' || c.is_ascii_digit()) == Some('+');
    let phone = if plus { with_plus(&digits, region)? } else { without_plus(&digits, region)? };
    Ok(Phone { ext, ..phone })
}

/// Cuts off an extension: `доб. 12`, `ext. 12`, `#12`, `x12`.
fn extension(part: &str) -> (&str, Option<String>) {
    let cut = |mark: &&str| {
        let (head, tail) = part.rsplit_once(mark)?;
        let tail = tail.trim_start_matches(['=', ':', ' ', '.']);
        // After fewer digits an `x` hides one rather than begins an extension.
        let enough = head.bytes().filter(u8::is_ascii_digit).count() >= if *mark == "x" { 9 } else { 7 };
        let whole = (1..=6).contains(&tail.len()) && tail.bytes().all(|byte| byte.is_ascii_digit());
        (enough && whole).then(|| (head, Some(tail.to_owned())))
    };
    ["доб.", "доб", "ext.", "ext", "#", "x"].iter().find_map(cut).unwrap_or((part, None))
}

fn with_plus(digits: &str, region: &str) -> Result<Phone, PhoneError> {
    if let (Some(rest), 11, "RU" | "KZ") = (digits.strip_prefix('8'), digits.len(), region)
        && let Ok(phone) = international(&format!("7{rest}"), false)
    {
        return Ok(Phone { repaired: true, ..phone });
    }
    international(digits, true)
}

fn without_plus(digits: &str, region: &str) -> Result<Phone, PhoneError> {
    let count = digits.len();
    let starts = |codes: &[&str]| codes.iter().any(|code| digits.starts_with(code));
    // Each with: was it mended, does it name its country.
    let mut tries: Vec<(String, bool, bool)> = Vec::new();
    let abroad = if matches!(region, "RU" | "KZ" | "BY" | "TJ" | "TM") { ("810", 13) } else { ("00", 0) };
    if let Some(rest) = digits.strip_prefix(abroad.0).filter(|_| count >= abroad.1) {
        tries.push((rest.to_owned(), false, true));
    }
    // The count of digits tells these from Russian numbers, which are shorter.
    if (count == 12 && starts(&["998", "375", "996", "992", "994", "995"])) || (count == 11 && starts(&["374", "993"])) {
        tries.push((digits.to_owned(), false, true));
    }
    match (region, count) {
        ("RU" | "KZ", 11) if starts(&["7"]) => tries.push((digits.to_owned(), false, true)),
        ("UZ", 11) if starts(&["79", "89"]) => tries.push((format!("7{}", &digits[1..]), true, false)),
        ("UZ", 13) if starts(&["8998"]) => tries.push((digits[1..].to_owned(), true, false)),
        ("UZ", 10) if starts(&["8"]) => tries.push((format!("998{}", &digits[1..]), true, false)),
        _ => {}
    }
    let plan = PLANS.iter().find(|plan| plan.0 == region);
    if let Some((_, code, national, trunk, _)) = plan {
        let rest = digits.strip_prefix(trunk).filter(|rest| rest.len() == *national);
        if let Some(rest) = rest.or((count == *national).then_some(digits)) {
            tries.push((format!("{code}{rest}"), false, false));
        }
    }
    // Only where no rule spoke: `8 131 …` mistyped in Russia is no Japanese number.
    if tries.is_empty() && count >= 11 {
        tries.push((digits.to_owned(), false, false));
    }
    let longest = plan.map_or(15, |plan| plan.2);
    let mut worst = if count > longest { PhoneError::TooLong } else { PhoneError::TooShort };
    let mut possible = None;
    for (number, repaired, coded) in tries {
        match international(&number, coded) {
            Ok(phone) if phone.kind == Kind::Unknown => possible = possible.or(Some(Phone { repaired, ..phone })),
            Ok(phone) => return Ok(Phone { repaired, ..phone }),
            Err(error) => worst = error,
        }
    }
    possible.ok_or(worst)
}

/// Region, country code, digits of a national number, trunk prefix, first national digits in use: a number beginning with
/// another is of no new range but a dummy, such as `+7 000 …`.
#[rustfmt::skip]
const PLANS: [(&str, &str, usize, &str, &str); 10] = [
    ("RU", "7", 10, "8", "3489"),      ("KZ", "7", 10, "8", "7"),
    ("UZ", "998", 9, "", "2356789"),   ("KG", "996", 9, "0", "2356789"),
    ("TJ", "992", 9, "", "012345789"), ("BY", "375", 9, "80", "12348"),
    ("AM", "374", 8, "0", "12345789"), ("AZ", "994", 9, "0", "1245679"),
    ("GE", "995", 9, "0", "3457"),     ("TM", "993", 8, "8", "1234567"),
];

/// The country in which the number may be of a range newer than the metadata.
fn newer_range(digits: &str) -> Option<&'static str> {
    PLANS.iter().find_map(|(region, code, national, _, used)| {
        let rest = digits.strip_prefix(code)?;
        (rest.len() == *national && used.contains(&rest[..1])).then_some(*region)
    })
}

/// A number with its country code, judged by the numbering plans; `newer`: one of a range that they do not know may pass.
fn international(digits: &str, newer: bool) -> Result<Phone, PhoneError> {
    if !(7..16).contains(&digits.len()) {
        return Err(if digits.len() < 7 { PhoneError::TooShort } else { PhoneError::TooLong });
    }
    let number = PhoneNumber::parse(format!("+{digits}"), None).map_err(|_| PhoneError::Invalid)?;
    match number.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) => {}
        Ok(NumberLengthType::IsPossibleLocalOnly) | Err(ValidationError::TooShort) => return Err(PhoneError::TooShort),
        Err(ValidationError::TooLong) => return Err(PhoneError::TooLong),
        Err(_) => return Err(PhoneError::Invalid),
    }
    // The library may have read a trunk prefix out of it: then what it judged is not what was written.
    if number.to_string() != format!("+{digits}") {
        return Err(PhoneError::Invalid);
    }
    let region = match number.is_valid() {
        true => number.get_region_code().map(|region| region.to_string()).unwrap_or_default(),
        false => newer_range(digits).filter(|_| newer).ok_or(PhoneError::Invalid)?.to_owned(),
    };
    let kind = match number.get_type() {
        PhoneNumberType::Mobile | PhoneNumberType::FixedLineOrMobile => Kind::Mobile,
        PhoneNumberType::FixedLine => Kind::Landline,
        PhoneNumberType::TollFree => Kind::TollFree,
        PhoneNumberType::PremiumRate | PhoneNumberType::SharedCost => Kind::Premium,
        PhoneNumberType::PersonalNumber => Kind::Personal,
        PhoneNumberType::VoIP => Kind::Voip,
        _ => Kind::Unknown,
    };
    Ok(Phone { e164: format!("+{digits}"), region, kind, ext: None, repaired: false })
}

impl Phone {
    /// Without the plus, as most providers want it.
    pub fn digits(&self) -> &str {
        self.e164.trim_start_matches('+')
    }

    pub fn takes_sms(&self) -> bool {
        self.kind == Kind::Mobile
    }

    /// For tenants who allow numbers of ranges that the numbering plans do not name.
    pub fn takes_sms_if_unknown(&self) -> bool {
        matches!(self.kind, Kind::Mobile | Kind::Unknown)
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

/// The digits of a number without the code of its country, where people leave it out or write it otherwise.
pub(crate) fn national_digits(e164: &str) -> String {
    let all: String = e164.chars().filter(char::is_ascii_digit).collect();
    let national = PLANS.iter().find_map(|(_, code, length, ..)| all.strip_prefix(code).filter(|rest| rest.len() == *length));
    national.unwrap_or(&all).to_owned()
}

/// Loads the numbering plans, so that the first request need not wait for them.
pub fn warm_up() {
    drop(read_text("+79991234567", "RU"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_cases_of_the_rule_book_come_out_as_it_says() {
        let cases = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/phones/cases.json"));
        for case in serde_json::from_str::<Vec<Value>>(cases).unwrap() {
            let got = match read(&case["raw"], case["region"].as_str().unwrap()) {
                Ok(phone) => serde_json::json!([phone.e164, phone.kind, null]),
                Err(error) => serde_json::json!([null, null, error]),
            };
            assert_eq!(got, serde_json::json!([case["e164"], case["kind"], case["error"]]), "{case}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn slips_doubles_and_names_are_read_in_spite_of_themselves() {
        for (raw, region) in [
            ("+89991234567", "RU"), ("89991234567", "UZ"), ("8 (812) 123-45-67, +7 999 123-45-67", "RU"),
            ("+7 999 123 45 67 или 8 999 765 43 21", "RU"), ("+7 999 123-45-67 Михаил", "RU"), ("Alex 8 999 123 45 67", "RU"),
            ("＋７９９９１２３４５６７", "RU"), ("'79991234567", "RU"), ("79991234567@c.us", "RU"), ("00 7 999 123 45 67", "UZ"),
        ] {
            assert_eq!(read_text(raw, region).unwrap().e164, "+79991234567", "{raw}");
        }
        assert_eq!(read_text("810 998 90 123 45 67", "RU").unwrap().e164, "+998901234567");
        assert_eq!(read(&serde_json::json!(79991234567.0), "RU").unwrap().e164, "+79991234567");
        assert_eq!(read(&serde_json::json!([{ "value": "" }, { "value": "89991234567" }]), "RU").unwrap().e164, "+79991234567");
        assert_eq!(mask("+79991234567"), "+7999***4567");
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_hidden_or_beyond_repair_is_refused_whatever_its_digits_would_make() {
        use PhoneError::*;
        let long = format!("{}84951234567", "-".repeat(190));
        for (raw, region, error) in [
            ("7,99912E+10", "RU", Invalid), ("7.799912E+10", "UZ", Invalid), ("7,901234567e10", "UZ", Invalid),
            ("+7 000 123-45-67", "RU", Invalid), ("+71111111111", "RU", Invalid), ("8 799 123 45 67", "RU", Invalid),
            ("8 131 234 56 78", "RU", Invalid), ("+7 999 123-XX-67", "RU", Masked), ("+7999123ХХ67", "RU", Masked),
            ("+7999123x567", "RU", Masked), ("+7 999 •••-45-67", "RU", Masked), ("—", "RU", Empty), ("-", "RU", Empty),
            ("901234567", "RU", TooShort), ("9991234567", "UZ", TooLong), ("Мария 12", "RU", NotANumber), (&long, "RU", NotANumber),
        ] {
            assert_eq!(read_text(raw, region), Err(error), "{raw}");
        }
    }

    #[test]
    fn an_extension_is_kept_however_it_is_set_off() {
        for raw in ["tel:+74951234567;ext=12", "+7 495 123-45-67, доб. 12", "84951234567x12", "84951234567#12"] {
            let phone = read_text(raw, "RU").unwrap();
            assert_eq!((phone.e164.as_str(), phone.ext.as_deref()), ("+74951234567", Some("12")), "{raw}");
        }
    }

    #[test]
    fn a_range_the_plans_do_not_name_is_unknown_where_its_country_code_stands() {
        let phone = read_text("+7 799 123 45 67", "RU").unwrap();
        assert_eq!((phone.kind, phone.region.as_str(), phone.takes_sms()), (Kind::Unknown, "KZ", false));
        assert!(phone.takes_sms_if_unknown());
        assert_eq!(read_text("+7 799 123 45 67, +7 495 123-45-67", "RU").unwrap().kind, Kind::Landline);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![".{0,60}", "[-+0-9xхEe*#.,;/доб extили]{0,40}"], region in "[A-Z]{2}") {
            drop(read_text(&text, &region));
        }

        #[test]
        fn every_way_of_writing_a_number_gives_the_same_and_reading_it_again_changes_nothing(
            plan in prop::sample::select(PLANS.to_vec()), digits in "[0-9]{10}", mobile: bool,
            gap in prop::sample::select(vec!["", " ", "-", "\u{a0}", "\u{2011}", "\u{2013}", ") "]),
        ) {
            let (region, code, length, trunk, _) = plan;
            // Without this most draws are in no range, above all of mobiles.
            let prefix = match region { "RU" => "9", "KZ" => "70", "UZ" => "90", "KG" | "GE" => "55", _ => "" };
            let national = format!("{}{digits}", if mobile { prefix } else { "" })[..length].to_owned();
            let (head, tail) = national.split_at(3);
            let Ok(phone) = read_text(&format!("+{code}{gap}{head}{gap}{tail}"), region) else { return Ok(()) };
            prop_assert_eq!(&read_text(&phone.e164, "DE").unwrap(), &phone);
            if phone.kind != Kind::Unknown && phone.region == region {
                for text in [format!("{code}{gap}{head}{gap}{tail}"), format!("{trunk}{head}{gap}{tail}"), national.clone()] {
                    prop_assert_eq!(&read_text(&text, region).unwrap(), &phone, "{}", text);
                }
            }
        }
    }
}
