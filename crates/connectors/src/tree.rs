//! Reading loosely typed JSON: providers print numbers as texts, flags as 0 and 1, and empty objects as lists.

use jiff::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Map, Value};

/// The value at a path of names and indices; `Null` where there is none.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, step| match value {
        Value::Array(items) => step.parse().ok().and_then(|place: usize| items.get(place)).unwrap_or(&Value::Null),
        value => &value[*step],
    })
}

/// A text or number as text; `None` when empty, null or of another kind.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A whole number, also when it comes as text.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `true`, 1 and "1" are yes.
pub(crate) fn flag(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        value => integer(value) == Some(1),
    }
}

/// What stands at the paths, in order, leaving out what is absent.
pub(crate) fn phones(value: &Value, paths: &[&[&str]]) -> Vec<Value> {
    paths.iter().map(|path| at(value, path)).filter(|phone| !phone.is_null()).cloned().collect()
}

/// The same of e-mail addresses; empty texts are left out too.
pub(crate) fn emails(value: &Value, paths: &[&[&str]]) -> Vec<Value> {
    paths.iter().map(|path| at(value, path)).filter(|email| !is_blank(email)).cloned().collect()
}

/// Whether nothing stands there.
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// A sum as decimal text without zeros at its end, whether it came as number or text.
pub(crate) fn decimal(value: &Value) -> Option<String> {
    let sum: Decimal = text(value)?.replace(',', ".").parse().ok()?;
    Some(sum.normalize().to_string())
}

/// A sum in main units, as number or text, in hundredths of them: half of one away from zero.
pub(crate) fn minor(value: &Value) -> Option<i64> {
    let sum: Decimal = decimal(value)?.parse().ok()?;
    let sum = sum.checked_mul(Decimal::ONE_HUNDRED)?;
    i64::try_from(sum.round_dp_with_strategy(0, RoundingStrategy::MidpointAwayFromZero)).ok()
}

/// A time with an offset, whose colon some leave out.
pub(crate) fn moment(value: &Value) -> Option<Timestamp> {
    let text = text(value)?;
    text.parse().ok().or_else(|| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", &text).ok())
}

/// An object of the texts that there are.
pub(crate) fn object<const N: usize>(members: [(&str, Option<String>); N]) -> Value {
    let members = members.into_iter().filter_map(|(name, text)| Some((name.to_owned(), Value::String(text?))));
    Value::Object(members.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sums_are_hundredths_whatever_they_are_printed_as() {
        for (value, wanted) in [
            (json!(400.5), Some(40_050)),
            (json!("400.5"), Some(40_050)),
            (json!("-400,50"), Some(-40_050)),
            (json!(0.005), Some(1)),
            (json!(0), Some(0)),
            (json!(null), None),
            (json!("x"), None),
            (json!(1e300), None),
            (json!([1]), None),
        ] {
            assert_eq!(minor(&value), wanted, "{value}");
        }
    }

    #[test]
    fn times_have_an_offset_with_or_without_a_colon() {
        let at = moment(&json!("2025-10-09T08:53:20.000+0000"));
        assert_eq!(at, moment(&json!("2025-10-09T11:53:20+03:00")));
        assert_eq!((at.unwrap().as_second(), moment(&json!(7)), moment(&json!("2025-10-09"))), (1_760_000_000, None, None));
    }
}
