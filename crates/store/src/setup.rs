//! What is set up, who changed it and how it stood before, and what requests under callers' own keys came to.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uzel_model::{Id, Timestamp};

use crate::Envelope;

/// A merchant, outlet, connection, flow, endpoint or recipient as stored: its document and its sealed secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct SetupRow {
    pub id: Id,
    pub merchant: Option<Id>,
    pub slug: String,
    pub doc: Value,
    pub sealed: Option<Vec<u8>>,
    /// Counts up with every change; 0 for a row that is not stored yet. The store counts: what is put here is not looked at.
    pub version: i64,
}

/// An API key or a webhook key: its keyed hash only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    pub hash: Vec<u8>,
    pub id: String,
    /// Connection of a webhook key; merchant of an API key; `None` for the hub's owner.
    pub of: Option<Id>,
    /// Provider of a webhook key, role of an API key.
    pub about: String,
    pub webhook: bool,
    /// What people call it.
    pub label: String,
    /// The start of 1970 where nobody knows.
    pub made_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Never goes back, whatever is put.
    pub last_used_at: Option<Timestamp>,
}

/// All that is set up, or what is to be changed of it.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    pub rows: Vec<SetupRow>,
    pub keys: Vec<KeyRow>,
    /// The keys that seal; loaded with all else, put by [`Store::rekey`](crate::Store::rekey) only.
    pub envelopes: Vec<Envelope>,
    /// Connections whose login is void, and those whose cursor is; never loaded.
    pub ends_logins: Vec<Id>,
    pub ends_cursors: Vec<Id>,
    /// Rows that go; never loaded. What belongs to a row goes with it: its keys, and of a connection its session, cursor,
    /// breaker, rhythm and refusals. What waits for a connection is held with the reason [`Setup::REMOVED`]; what is being
    /// sent ends as it ends, and is held where it would be tried again.
    pub removes: Vec<Id>,
    /// Ids of keys that go; never loaded.
    pub removes_keys: Vec<String>,
    /// Versions that rows must have when this is put (0: must not be there), else it is a conflict; never loaded.
    pub expects: Vec<(Id, i64)>,
    /// Written in the same transaction; never loaded.
    pub audit: Vec<Audit>,
}

impl Setup {
    /// Why commands of a connection that was removed are held.
    pub const REMOVED: &str = "removed";
}

/// Who changed what.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Audit {
    /// Later changes have greater ids.
    pub id: Id,
    /// When it was changed.
    pub at: Timestamp,
    /// Whose it is; nothing for what belongs to the hub itself.
    pub merchant: Option<Id>,
    /// Id of the key that was used, `local` for the machine's own socket, `hub` for what the hub did by itself.
    pub by: String,
    /// What was done: `connection.change`, `key.create`…
    pub action: String,
    /// Id of what was changed.
    pub object: String,
    /// Names of the fields that changed and what people may see of them; never a secret.
    pub detail: Value,
}

/// Which changes are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only changes of this merchant's things.
    pub merchant: Option<Id>,
    pub object: Option<String>,
    /// Only changes before this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// How a row of the setup stood since a change, without its secrets.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SetupVersion {
    /// Counts up from 1 with every change.
    pub version: i64,
    /// When it was changed to this.
    pub at: Timestamp,
    /// Who changed it: as in the audit log.
    pub by: String,
    /// Its unique name.
    pub slug: String,
    /// What was set, secrets left out.
    pub doc: Value,
}

/// So many versions of a row are kept.
pub(crate) const VERSIONS_MAX: i64 = 100;
/// So long changes are remembered, and rows that are gone, with their versions.
pub(crate) const AUDIT_DAYS: i64 = 400;

/// Who changed a row, and when, as far as the changes that are written along tell it.
pub(crate) fn changed_by(audit: &[Audit], row: Id) -> (&str, Option<Timestamp>) {
    let object = row.to_string();
    let found = audit.iter().find(|audit| audit.object == object);
    found.map_or(("hub", None), |audit| (&audit.by, Some(audit.at)))
}

/// What a request under a caller's own key came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It is this caller's to do.
    New,
    /// The same is being done now.
    Running,
    /// The key stands for another request.
    Other,
    Done(KeptAnswer),
}

/// The answer that a request was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Of HTTP.
    pub status: u16,
    /// Sealed: an answer may show a key once.
    pub body: Vec<u8>,
}
