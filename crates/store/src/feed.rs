//! What is asked of events and commands: pages of them, newest first, and the feed, which tells every event once.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use uzel_model::{Event, Id, Timestamp};

use crate::CommandState;

/// Rows that one look at the feed goes through at the most, where the filter wants few of them.
pub(crate) const LOOKED_AT: usize = 4_096;
/// Rows of one page, at the most.
pub(crate) const PAGE_MAX: usize = 1_000;

/// An event, and whether a look-up for it is still under way (its guest may yet get a phone).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StoredEvent {
    pub event: Event,
    pub pending: bool,
}

/// Which events; times are those at which the hub read them.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    pub merchant: Option<Id>,
    /// Types of events (`order.completed`), or all that begin so (`order.*`); empty: all.
    pub kinds: Vec<String>,
    /// Exactly as in the event: `order/5001`.
    pub subject: Option<String>,
    pub connection: Option<Id>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only events older than this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// Which commands; times are those at which they were made.
#[derive(Debug, Clone, Default)]
pub struct CommandFilter {
    pub merchant: Option<Id>,
    /// The connection that makes the call.
    pub connection: Option<Id>,
    pub state: Option<CommandState>,
    pub event: Option<Id>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only commands older than this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// What became of the wish to call a command off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was waiting, and is held back now.
    Held,
    /// It is being sent: too late.
    Sending,
    /// It had ended so before.
    Ended(CommandState),
    Unknown,
}

/// Whether an event's type is among the wanted ones.
pub fn is_wanted(kinds: &[String], kind: &str) -> bool {
    kinds.is_empty()
        || kinds.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => kind.starts_with(start),
            None => wanted == kind,
        })
}

/// A place in the feed. As text it is opaque, and whoever reads on from it gets what comes after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedCursor {
    pub(crate) number: i64,
    /// Where events of one transaction have one number: the last one's id.
    pub(crate) event: Option<[u8; 16]>,
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number.to_be_bytes();
        let event = self.event.as_ref().map_or(&[][..], |event| event);
        f.write_str(&URL_SAFE_NO_PAD.encode([&[1], &number[..], event].concat()))
    }
}

/// The text is no place in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor of the event feed")]
pub struct NoCursor;

impl FromStr for FeedCursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoCursor)?;
        let (Some((1, rest)), 9 | 25) = (bytes.split_first(), bytes.len()) else { return Err(NoCursor) };
        let (number, event) = rest.split_first_chunk().ok_or(NoCursor)?;
        Ok(Self { number: i64::from_be_bytes(*number), event: event.try_into().ok() })
    }
}

/// From where the feed is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedFrom {
    /// What is told from now on.
    Now,
    /// What was told since a moment; what was told up to ten seconds earlier may come too.
    Time(Timestamp),
    After(FeedCursor),
}

/// What comes next in the feed.
#[derive(Debug, Clone)]
pub struct FeedPage {
    /// Those that are wanted, in the order in which they became whole.
    pub events: Vec<StoredEvent>,
    /// Where to read on, also when there were none.
    pub cursor: FeedCursor,
    /// There may be more already: read on at once.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is_taken_for_one() {
        for event in [None, Some([7; 16])] {
            let cursor = FeedCursor { number: 77 << 40, event };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "AQ", "evt_01jd3q", "AgAAAAAAAAAA", "AQAAAAAAAAAAAA", "%%"] {
            assert_eq!(text.parse::<FeedCursor>(), Err(NoCursor), "{text}");
        }
    }

    #[test]
    fn kinds_are_wanted_exactly_or_by_how_they_begin() {
        let wanted =
            |kinds: &[&str], kind: &str| is_wanted(&kinds.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>(), kind);
        assert!(wanted(&[], "order.completed") && wanted(&["deal.won", "order.*"], "order.completed"));
        assert!(!wanted(&["order.*"], "orders.completed") && !wanted(&["order"], "order.completed"));
    }
}
