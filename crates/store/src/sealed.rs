//! What is sealed, and by what: the keys that seal lie in the store themselves, each sealed by the master key, which never does.

use uzel_model::Id;

/// Under these names a claim tells the master key, and the one before it.
pub(crate) const MASTER: &str = "master-key";
pub(crate) const MASTER_BEFORE: &str = "master-key-before";

/// What the key in an envelope is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Seals secrets, of one merchant or of the hub.
    Seal,
    /// Hashes keys, so that they are found by their hash.
    Hash,
    /// The new master key, for nodes that were started with the one before.
    Handover,
}

impl Purpose {
    pub(crate) const ALL: [(Self, &'static str); 3] = [(Self::Seal, "seal"), (Self::Hash, "hash"), (Self::Handover, "handover")];

    pub(crate) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(purpose, _)| *purpose == self).map_or("seal", |(_, word)| word)
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(purpose, _)| *purpose)
    }
}

/// A key that is sealed itself. Its id tells when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub id: Id,
    pub purpose: Purpose,
    /// Whose secrets it seals; `None` for the hub's own.
    pub merchant: Option<Id>,
    pub wrapped: Vec<u8>,
}

/// What is sealed beside the settings of connections.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// Tells the master key, and the one before it; `None` where nothing was ever sealed.
    pub check: Option<Vec<u8>>,
    pub check_before: Option<Vec<u8>>,
    /// Logins, by connection.
    pub sessions: Vec<(Id, Vec<u8>)>,
}

/// A change of the keys that seal, whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Rekeying {
    /// What told the master key when this was worked out.
    pub was: Option<Vec<u8>>,
    /// What tells it from now on.
    pub check: Vec<u8>,
    /// All envelopes there were.
    pub known: Vec<Id>,
    /// Envelopes that are new or wrapped anew, and those that go.
    pub envelopes: Vec<Envelope>,
    pub dropped: Vec<Id>,
    /// Settings and logins that are sealed anew.
    pub settings: Vec<Resealed>,
    pub sessions: Vec<Resealed>,
}

/// Sealed bytes of something set up, or of a connection's login, as they were and as they become.
#[derive(Debug, Clone)]
pub struct Resealed {
    pub id: Id,
    pub was: Vec<u8>,
    pub now: Vec<u8>,
}
