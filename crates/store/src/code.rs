//! Codes by which people prove that an address is theirs. The store keeps hashes, counts tries, and never sees a code.

use jiff::SignedDuration;
use uzel_model::{Id, Timestamp};

/// Codes are forgotten so long after they were made.
pub(crate) const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Of those so many go with each that is made.
pub(crate) const FORGOTTEN: i64 = 100;

/// A code that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCode {
    pub id: Id,
    pub merchant: Id,
    /// Keyed hash of whom it goes to.
    pub to: [u8; 16],
    /// Keyed hash of the code with all that it is bound to.
    pub hash: Vec<u8>,
    pub made_at: Timestamp,
    pub ends_at: Timestamp,
}

/// So many codes in any such time, to one address or of one merchant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLimit {
    pub per_address: bool,
    pub codes: u32,
    pub period: SignedDuration,
}

impl CodeLimit {
    /// The moment after which codes count.
    pub(crate) fn since(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.period).unwrap_or(Timestamp::MIN)
    }
}

/// A try at a code, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeTry {
    pub merchant: Id,
    pub to: [u8; 16],
    pub hash: Vec<u8>,
    /// How many tries are left after this one.
    pub left: u32,
}
