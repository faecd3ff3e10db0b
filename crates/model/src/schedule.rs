//! When things happen: quiet hours, backoff.

use jiff::{SignedDuration, Timestamp, civil::Time, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// Hours of a day in which no message goes out, in the outlet's zone. `from` may lie after `to`: 21:00–10:00 spans the night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    pub from: Time,
    pub to: Time,
}

impl QuietHours {
    /// The earliest moment at or after `at` that is not quiet.
    pub fn next_open(&self, at: Timestamp, zone: &TimeZone) -> Timestamp {
        let local = jiff::Zoned::new(at, zone.clone());
        let time = local.time();
        let quiet = if self.from <= self.to { self.from <= time && time < self.to } else { time >= self.from || time < self.to };
        if !quiet {
            return at;
        }
        let day = if time < self.to { local.date() } else { local.date().tomorrow().unwrap_or(local.date()) };
        day.to_datetime(self.to).to_zoned(zone.clone()).map_or(at, |opening| opening.timestamp())
    }
}

/// Exponential backoff with full jitter: a wait drawn evenly below 1 s, 2 s, 4 s … up to the cap.
///
/// `random` is even in 0..1. The floor keeps a retry from following at once.
pub fn backoff(attempt: u32, cap: SignedDuration, random: f64) -> SignedDuration {
    let ceiling_ms = 1_000_i64.saturating_mul(1 << attempt.min(20)).min(cap.as_millis() as i64);
    SignedDuration::from_millis((ceiling_ms as f64 * random) as i64 + 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_message_of_the_night_waits_for_the_morning_of_the_outlet() {
        let zone = TimeZone::get("Asia/Tashkent").unwrap();
        let quiet = QuietHours { from: "21:00".parse().unwrap(), to: "10:00".parse().unwrap() };
        assert_eq!(quiet.next_open(at("2026-11-24T15:59:59Z"), &zone), at("2026-11-24T15:59:59Z"));
        assert_eq!(quiet.next_open(at("2026-11-24T16:00:00Z"), &zone), at("2026-11-25T05:00:00Z"));
        assert_eq!(quiet.next_open(at("2026-11-24T20:00:00Z"), &zone), at("2026-11-25T05:00:00Z"));
        assert_eq!(quiet.next_open(at("2026-11-25T05:00:00Z"), &zone), at("2026-11-25T05:00:00Z"));
    }

    #[test]
    fn a_backoff_grows_to_its_cap() {
        let cap = SignedDuration::from_secs(3600);
        assert!(backoff(0, cap, 0.99) < SignedDuration::from_secs(2));
        assert!(backoff(30, cap, 0.99) <= SignedDuration::from_secs(3601));
    }
}
