//! Mail that came back though the next may not: often enough, and the address counts as one that does not work, until its person says
//! otherwise. The rule that every store follows.

use uzel_model::{Id, Timestamp, signature::fingerprint};

use crate::{Consent, ConsentHow, ConsentPurpose};

/// So often within so long: what Resend's own advice comes to.
const ENOUGH: usize = 3;
const DAYS: i64 = 30;

/// The moments that count when mail has come back once more, and whether they are enough. What was before the person's last word, at
/// `word_at`, does not count. All in milliseconds since 1970.
pub(crate) fn one_more(before: &[i64], now: i64, word_at: Option<i64>) -> (Vec<i64>, bool) {
    let since = word_at.unwrap_or(i64::MIN).max(now - DAYS * 86_400_000);
    let moments: Vec<i64> = before.iter().copied().filter(|at| *at > since).chain([now]).collect();
    let enough = moments.len() >= ENOUGH;
    (moments, enough)
}

/// The word by which nothing goes to the address any more. `code`: what the provider said the last time.
pub(crate) fn given_up(merchant: Id, address: &str, code: &str, at: Timestamp) -> Consent {
    Consent {
        key: fingerprint([b"bounced".as_slice(), merchant.as_bytes(), address.as_bytes(), &at.as_millisecond().to_be_bytes()]),
        merchant,
        address: address.to_owned(),
        channel: None,
        purpose: ConsentPurpose::Marketing,
        granted: false,
        how: ConsentHow::Provider,
        text: format!("messages to this address came back {ENOUGH} times within {DAYS} days, the last time as {code}"),
        by: "hub".to_owned(),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_within_thirty_days_are_enough_and_a_word_begins_the_count_anew() {
        let day = |number: i64| number * 86_400_000;
        assert_eq!(one_more(&[], day(1), None), (vec![day(1)], false));
        assert_eq!(one_more(&[day(1)], day(20), None), (vec![day(1), day(20)], false));
        assert!(one_more(&[day(1), day(20)], day(30), None).1);
        assert_eq!(one_more(&[day(1), day(20)], day(31), None), (vec![day(20), day(31)], false));
        assert_eq!(one_more(&[day(1), day(20)], day(25), Some(day(20))), (vec![day(25)], false));
    }
}
