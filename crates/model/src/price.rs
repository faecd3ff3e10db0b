//! Prices of messages: parts of kopecks, so in millionths of the currency's unit, and never in floats.

use crate::port::Cost;

/// A sum in millionths of a currency's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    pub micro: i64,
    /// ISO 4217.
    pub currency: String,
}

impl Price {
    /// What a provider told: decimal text, with a point or a comma. `None` where that is no sum; what is less than a millionth is
    /// rounded, a half up.
    pub fn read(cost: &Cost) -> Option<Self> {
        let micro = micro(&cost.cost)?;
        Some(Self { micro, currency: cost.currency.trim().to_uppercase() })
    }

    /// Decimal text without zeros at its end.
    pub fn text(&self) -> String {
        text(self.micro)
    }
}

/// Millionths as decimal text, without zeros at its end.
pub fn text(micro: i64) -> String {
    let (sign, size) = (if micro < 0 { "-" } else { "" }, micro.unsigned_abs());
    let (whole, rest) = (size / 1_000_000, size % 1_000_000);
    let digits = format!("{rest:06}");
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{digits}") }
}

fn micro(decimal: &str) -> Option<i64> {
    let decimal = decimal.trim();
    let (size, sign) = decimal.strip_prefix('-').map_or((decimal, 1), |size| (size, -1));
    let (whole, rest) = size.split_once(['.', ',']).unwrap_or((size, ""));
    if whole.is_empty() || !whole.bytes().chain(rest.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let kept: String = rest.chars().chain("000000".chars()).take(6).collect();
    let half_up = i64::from(rest.as_bytes().get(6).is_some_and(|digit| *digit >= b'5'));
    let whole: i64 = whole.parse().ok()?;
    let size = whole.checked_mul(1_000_000)?.checked_add(kept.parse().ok()?)?.checked_add(half_up)?;
    Some(sign * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_to_a_millionth_and_printed_as_short_as_can_be() {
        for (told, micro, shown) in [
            ("2.50", 2_500_000, "2.5"),
            ("3", 3_000_000, "3"),
            ("0,0045", 4_500, "0.0045"),
            ("0.0000005", 1, "0.000001"),
            ("-1.25", -1_250_000, "-1.25"),
            ("0", 0, "0"),
        ] {
            let price = Price::read(&Cost { cost: told.to_owned(), currency: "rub".into(), segments: 1 }).unwrap();
            assert_eq!((price.micro, price.text().as_str(), price.currency.as_str()), (micro, shown, "RUB"), "{told}");
        }
    }

    #[test]
    fn what_is_no_sum_is_no_price() {
        for told in ["", ".5", "1e3", "1.2.3", "five", "99999999999999999999", "1 000"] {
            assert_eq!(Price::read(&Cost { cost: told.to_owned(), currency: "RUB".into(), segments: 1 }), None, "{told}");
        }
    }
}
