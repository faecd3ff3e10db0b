//! What is kept beside the journal to watch over connections.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::Timestamp;

/// A request that was refused: cut short, its credentials taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The connection's id, or the provider where the request told no connection.
    pub place: String,
    /// When it came.
    pub at: Timestamp,
    /// The address that it came from.
    pub peer: Option<IpAddr>,
    /// Of HTTP.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Why it was refused.
    pub reason: String,
    /// What came in the place of a key.
    pub keys: Vec<WrongKey>,
    /// Names in the query; values may be keys in a wrong place.
    pub query: Vec<String>,
    /// Those that carry no secrets whole, of others the name.
    pub headers: Vec<(String, Option<String>)>,
    /// The beginning of the body, credentials taken out.
    pub body: String,
    /// The body was longer.
    pub cut: bool,
}

/// A wrong key, as far as it may be known: enough to see an empty or cut one, and whether it is the same again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrongKey {
    /// In bytes.
    pub length: usize,
    /// Of a keyed hash, 8 digits.
    pub hash: String,
}

/// A breaker that is open: calls of the connection fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OpenBreaker {
    /// Since when calls fail.
    pub since: Timestamp,
    /// Why the last call failed.
    pub reason: String,
}

/// How often webhooks of a connection come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Rhythm {
    /// When the first one came.
    pub first_at: Timestamp,
    /// When the latest one came.
    pub last_at: Timestamp,
    /// How many came.
    pub count: u64,
    /// Milliseconds between two of them, lately.
    pub gap_ms: i64,
    /// Milliseconds of the longest silence, of which old ones count less.
    pub longest_ms: i64,
}
