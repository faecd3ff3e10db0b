//! When people wrote: some channels let a merchant say anything for a while after that.

use uzel_model::{Id, Timestamp};

/// A person wrote to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub merchant: Id,
    pub connection: Id,
    /// The key of their address.
    pub who: String,
    pub at: Timestamp,
}
