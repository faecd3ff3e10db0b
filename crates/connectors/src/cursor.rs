//! Where a poll by time and page stands: changes since when, and within them the next page and when its reading began.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

/// Read again at each poll, since a service's clock is not ours.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    since: Timestamp,
    page: Option<(u32, Timestamp)>,
}

impl Cursor {
    /// A cursor that was printed earlier; one that cannot be read starts anew at `since`.
    pub(crate) fn read(text: &str, since: Timestamp) -> Self {
        let mut words = text.split(' ');
        let mut parts = || {
            let since = words.next()?.parse().ok()?;
            let page = match words.next() {
                Some(page) => Some((page.parse().ok()?, words.next()?.parse().ok()?)),
                None => None,
            };
            Some(Self { since, page })
        };
        parts().unwrap_or(Self { since, page: None })
    }

    pub(crate) fn page(&self) -> u32 {
        self.page.map_or(1, |(page, _)| page)
    }

    /// From when on changes are asked for.
    pub(crate) fn from(&self) -> Timestamp {
        self.since.checked_sub(OVERLAP).unwrap_or(self.since)
    }

    /// Where to go on: at the next page, or at the time when the reading of these pages began.
    pub(crate) fn next(&self, more: bool, now: Timestamp) -> Self {
        let began = self.page.map_or(now, |(_, began)| began);
        match more {
            true => Self { since: self.since, page: Some((self.page().saturating_add(1), began)) },
            false => Self { since: began, page: None },
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.page {
            Some((page, began)) => write!(f, "{} {page} {began}", self.since),
            None => write!(f, "{}", self.since),
        }
    }
}
