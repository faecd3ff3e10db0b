//! The rhythm of webhooks: where a provider tells nothing about itself, a silence far beyond the usual is what shows that its
//! webhook is gone.
//!
//! Kept in memory, since every webhook moves it; written to the store now and then. A kill costs a minute of it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uzel_model::Id;
use uzel_store::{Rhythm, Store, StoreError};

use crate::Engine;

/// A shorter acquaintance does not know nights and days off.
const KNOWN_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
const KNOWN_AFTER_COUNT: u64 = 20;
/// A silence below this alarms nobody.
const SILENCE_MIN_MS: i64 = 3_600_000;
/// Half of the longest silence is forgotten in so many milliseconds (30 days).
const FORGOTTEN_MS: f64 = 30.0 * 86_400_000.0;
/// Each gap counts for a sixteenth of the usual one.
const WEIGHT: i64 = 16;

#[derive(Default)]
struct Known {
    rhythms: HashMap<Id, (Rhythm, bool)>,
}

#[derive(Default)]
pub(crate) struct Rhythms(Mutex<Known>);

impl Rhythms {
    pub(crate) fn load(&self, kept: Vec<(Id, Rhythm)>) {
        self.0.lock().rhythms.extend(kept.into_iter().map(|(link, rhythm)| (link, (rhythm, false))));
    }

    /// What all nodes together know: the last webhook may have come to another.
    pub(crate) fn hear(&self, kept: Vec<(Id, Rhythm)>) {
        let mut known = self.0.lock();
        for (link, theirs) in kept {
            let (own, _) = known.rhythms.entry(link).or_insert((theirs, false));
            own.last_at = own.last_at.max(theirs.last_at);
            own.first_at = own.first_at.min(theirs.first_at);
        }
    }

    fn seen(&self, link: Id, at: Timestamp) {
        let mut known = self.0.lock();
        let (rhythm, changed) = known.rhythms.entry(link).or_insert_with(|| (first(at), true));
        if rhythm.count > 0 {
            beat(rhythm, at);
        }
        rhythm.count += 1;
        *changed = true;
    }

    fn of(&self, link: Id) -> Option<Rhythm> {
        self.0.lock().rhythms.get(&link).map(|(rhythm, _)| *rhythm)
    }

    /// Writes what has changed since the last time.
    pub(crate) async fn keep(&self, store: &dyn Store) -> Result<(), StoreError> {
        let changed: Vec<(Id, Rhythm)> = {
            let mut known = self.0.lock();
            let changed = known.rhythms.iter_mut().filter(|(_, (_, changed))| *changed);
            changed
                .map(|(link, (rhythm, changed))| {
                    *changed = false;
                    (*link, *rhythm)
                })
                .collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let links: Vec<Id> = changed.iter().map(|(link, _)| *link).collect();
        store.put_rhythms(changed).await.inspect_err(|_| {
            let mut known = self.0.lock();
            for link in links {
                known.rhythms.entry(link).and_modify(|(_, changed)| *changed = true);
            }
        })
    }
}

fn first(at: Timestamp) -> Rhythm {
    Rhythm { first_at: at, last_at: at, count: 0, gap_ms: 0, longest_ms: 0 }
}

fn beat(rhythm: &mut Rhythm, at: Timestamp) {
    let gap = (at.as_millisecond() - rhythm.last_at.as_millisecond()).max(0);
    rhythm.gap_ms = if rhythm.count == 1 { gap } else { rhythm.gap_ms + (gap - rhythm.gap_ms) / WEIGHT };
    let kept = 1.0 - 0.5 * (gap as f64 / FORGOTTEN_MS).min(1.0);
    rhythm.longest_ms = ((rhythm.longest_ms as f64 * kept) as i64).max(gap);
    rhythm.last_at = rhythm.last_at.max(at);
}

/// Whether the silence is within the rhythm; both ways it says what is known.
pub(crate) fn judge(rhythm: Option<Rhythm>, now: Timestamp) -> Result<String, String> {
    let Some(rhythm) = rhythm else { return Ok("no webhook has come yet".to_owned()) };
    let silence = (now.as_millisecond() - rhythm.last_at.as_millisecond()).max(0);
    let last = format!("the last webhook came {} ago", words(silence));
    if rhythm.count < KNOWN_AFTER_COUNT || rhythm.last_at.duration_since(rhythm.first_at) < KNOWN_AFTER {
        return Ok(format!("{last}; the usual rhythm is known after a week and {KNOWN_AFTER_COUNT} webhooks"));
    }
    let usual = format!("usually one comes every {}", words(rhythm.gap_ms));
    let bearable = SILENCE_MIN_MS.max(2 * rhythm.longest_ms).max(10 * rhythm.gap_ms);
    if silence <= bearable {
        return Ok(format!("{last}; {usual}"));
    }
    Err(format!(
        "{last}, though {usual} and the longest silence lately was {}: look whether the webhook is still set at the provider",
        words(rhythm.longest_ms)
    ))
}

fn words(ms: i64) -> String {
    let s = ms / 1_000;
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

impl Engine {
    /// A webhook of this connection has been accepted.
    pub fn seen(&self, link: Id) {
        self.rhythms.seen(link, self.clock.now());
    }

    /// How often its webhooks come.
    pub fn rhythm(&self, link: Id) -> Option<Rhythm> {
        self.rhythms.of(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A café: a webhook every ten minutes from nine to nine, closed on Mondays, until a Sunday's end.
    fn cafe(days: i64) -> (Rhythm, Timestamp) {
        let monday: Timestamp = "2026-11-02T00:00:00Z".parse().unwrap();
        let moments = (0..days).filter(|day| day % 7 != 0).flat_map(|day| (0..72).map(move |turn| day * 1_440 + 540 + turn * 10));
        let mut moments = moments.map(|minutes| monday + SignedDuration::from_mins(minutes));
        let mut rhythm = first(moments.next().unwrap());
        rhythm.count = 1;
        let mut last = rhythm.last_at;
        for at in moments {
            beat(&mut rhythm, at);
            rhythm.count += 1;
            last = at;
        }
        (rhythm, last)
    }

    #[test]
    fn a_silence_far_beyond_the_rhythm_is_ill_and_a_night_or_a_day_off_is_not() {
        let (rhythm, last) = cafe(21);
        for hours in [0, 12, 36] {
            assert!(judge(Some(rhythm), last + SignedDuration::from_hours(hours)).is_ok(), "{hours}");
        }
        let ill = judge(Some(rhythm), last + SignedDuration::from_hours(100)).unwrap_err();
        assert!(ill.starts_with("the last webhook came 4 days ago, though usually one comes every "), "{ill}");
    }

    #[test]
    fn nothing_is_judged_before_the_rhythm_is_known() {
        let (rhythm, last) = cafe(5);
        assert!(judge(Some(rhythm), last + SignedDuration::from_hours(1_000)).is_ok());
        assert!(judge(None, last).is_ok());
    }

    #[test]
    fn an_old_silence_is_forgotten() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut rhythm = Rhythm { first_at: start, last_at: start, count: 1, gap_ms: 0, longest_ms: 0 };
        let month_off = start + SignedDuration::from_hours(30 * 24);
        beat(&mut rhythm, month_off);
        let longest = rhythm.longest_ms;
        for hour in 1..=120 * 24 {
            beat(&mut rhythm, month_off + SignedDuration::from_hours(hour));
        }
        assert!(rhythm.longest_ms < longest / 6, "{} of {longest}", rhythm.longest_ms);
    }
}
