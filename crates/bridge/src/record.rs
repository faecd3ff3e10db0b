//! What stands in the queue's file.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::wire::Mode;

/// A call that must reach the hub.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub id: String,
    pub call: Call,
    /// The `Idempotency-Key` under which it is sent, every time.
    pub key: String,
    /// Calls of one order go one after another.
    pub order: String,
    /// The bytes to sign and send.
    pub body: String,
    /// The till's own staff key and language, where it gave any.
    pub staff_key: Option<String>,
    pub language: Option<String>,
    /// Why it was kept: what the till was told.
    pub reason: String,
    pub at_ms: i64,
    /// What the hub's own quote let the till take off, as far as it is known: it may find less there when it commits.
    #[serde(default)]
    pub promised: Option<u64>,
    /// The quote that was answered without the hub: it is asked first, and its hold committed.
    pub quote: Option<LocalHold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    Commit,
    Refund,
    Cancel,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Refund => "refund",
            Self::Cancel => "cancel",
        }
    }
}

/// What a till was promised without the hub.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LocalHold {
    pub id: String,
    pub mode: Mode,
    /// The quote's bytes, to ask the hub when it is back.
    pub body: String,
    pub user: String,
    /// Points to credit, or to spend.
    pub promised: u64,
    pub at_ms: i64,
}

/// Why a call waits for a person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// What the hub answered, if it did.
    pub status: Option<u16>,
    pub reason: String,
    pub at_ms: i64,
    /// The hub has done it: there is nothing to try again, but something to know.
    pub settled: bool,
}

/// What a till is told again of a sale that was made without the hub.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Told {
    pub key: String,
    pub at_ms: i64,
    pub status: u16,
    pub body: String,
}

/// One line of the file.
#[derive(Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(crate) enum Line {
    Put {
        kept: Box<Kept>,
    },
    /// The hub's own hold for a sale that was made without it.
    Held {
        id: String,
        hold: String,
    },
    Done {
        id: String,
        told: Option<Told>,
    },
    Trouble {
        id: String,
        trouble: Trouble,
    },
    /// A person wants it tried again.
    Again {
        id: String,
    },
    /// Let go by a person.
    Dropped {
        id: String,
    },
    Hold {
        hold: LocalHold,
    },
    Unhold {
        id: String,
    },
    Told {
        told: Told,
    },
    /// Bytes of the file that could not be read, and where they are kept.
    Damage {
        bytes: usize,
        kept: String,
        at_ms: i64,
    },
    Acknowledged,
}

impl Line {
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("a line is always JSON"))
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
