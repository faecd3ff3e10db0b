//! Erasure of one person: what is asked, what was done, and what stays of a row whose content is erased.

use std::sync::Arc;

use serde::Serialize;
use uzel_model::{Event, Id, Named};

use crate::{Entry, StoreError};

/// What stands in the place of the method of an entry whose content was erased.
pub const ERASED: &str = "ERASED";
/// What such an entry notes, and why a command of it is held back.
pub(crate) const NOTE: &str = "its content was erased";
pub(crate) const REASON: &str = "erased";

/// A keyed hash of a merchant's phone: all that stays of an opt-out whose person was erased.
pub type PhoneHash = Arc<dyn Fn(Id, &str) -> [u8; 32] + Send + Sync>;

/// The hash of a phone, or why nothing can be erased.
pub(crate) fn hash(phones: Option<&PhoneHash>, merchant: Id, phone: &str) -> Result<[u8; 32], StoreError> {
    let hash = phones.ok_or_else(|| StoreError::Failed("nobody has said how phones are hashed".to_owned()))?;
    Ok(hash(merchant, phone))
}

impl Entry {
    /// Whether its content was erased: there is nothing left to read.
    pub fn is_erased(&self) -> bool {
        self.request.method == ERASED
    }
}

/// Whether an event of an entry that tells of a person is theirs: it is, unless it has another's phone, or another's mailbox where a
/// mailbox is erased.
pub(crate) fn is_own(event: &Event, person: &Named) -> bool {
    let names = || serde_json::to_string(event).is_ok_and(|text| person.is_in(&text));
    let anothers = match &event.phone {
        Some(phone) => phone.e164 != person.key(),
        None => person.digits().is_none() && event.email.as_ref().is_some_and(|email| email != person.key()),
    };
    !anothers || names()
}

/// How far an erasure has come. It begins at the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ErasurePlace {
    pub(crate) stage: usize,
    /// Among the merchant's connections, by their ids.
    pub(crate) connection: Option<[u8; 16]>,
    pub(crate) row: Option<[u8; 16]>,
}

/// What one portion of an erasure blanked or deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Erased {
    pub entries: u64,
    pub events: u64,
    pub commands: u64,
    pub exchanges: u64,
    pub contacts: u64,
    /// Customers' names, phones and numbers. Their points stay.
    pub wallets: u64,
    pub refusals: u64,
    /// Calls under way and entries that nobody has read, which are left: come again later.
    pub busy: u64,
    /// Where the next portion begins; nothing when all was looked at.
    #[serde(skip)]
    pub next: Option<ErasurePlace>,
}

impl Erased {
    /// Counts what another portion did.
    pub fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.events += other.events;
        self.commands += other.commands;
        self.exchanges += other.exchanges;
        self.contacts += other.contacts;
        self.wallets += other.wallets;
        self.refusals += other.refusals;
        self.busy += other.busy;
    }
}
