//! Moments as people give them on the command line: a day counts from its beginning in UTC.

use jiff::civil::Date;

/// A day is written out as a moment; what is none goes to the hub as it is, which tells what is wrong with it.
pub(super) fn read(text: &str) -> Result<String, std::convert::Infallible> {
    // A day and nothing more: a longer text would be read as one with its time left out.
    let day = text.parse::<Date>().ok().filter(|day| day.to_string() == text);
    Ok(day.map_or_else(|| text.to_owned(), |day| format!("{day}T00:00:00Z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning_in_utc_and_all_else_stays_as_it_is() {
        for (given, wanted) in [
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("2028-02-29", "2028-02-29T00:00:00Z"),
            ("2026-11-24T05:06:07Z", "2026-11-24T05:06:07Z"),
            ("2026-11-24T05:06:07+03:00", "2026-11-24T05:06:07+03:00"),
            ("2026-02-30", "2026-02-30"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(read(given), Ok(wanted.to_owned()), "{given}");
        }
    }
}
