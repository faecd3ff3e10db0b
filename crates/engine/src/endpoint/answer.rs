//! Answers to tills, signed as the merchant's webhooks of loyalty events are: the merchant's software verifies both by one secret.

use jiff::Timestamp;
use uzel_model::Id;

use crate::World;

/// Any event of points, as an endpoint may listen to it.
const COMMITTED: &str = uzel_model::event::kind::LOYALTY_COMMITTED;

/// The three headers by which an answer is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedAnswer {
    /// `X-Loyalty-Signature`
    pub signature: String,
    /// `X-Signature-Timestamp`
    pub timestamp_s: i64,
    /// `X-Signature-Key-Id`
    pub key_id: String,
}

impl World {
    /// Signs the bytes of an answer by the merchant's first endpoint that is told of commits: by the older of its keys while two are
    /// good, as its webhooks are. Without such an endpoint nobody has a secret to verify by.
    pub fn sign_loyalty_answer(&self, merchant: Id, now: Timestamp, body: &[u8]) -> Option<SignedAnswer> {
        let told = |pattern: &String| super::rule::matches(pattern, COMMITTED);
        let endpoints = self.endpoints_of(merchant).filter(|endpoint| !endpoint.is_disabled());
        let endpoint =
            endpoints.filter(|endpoint| endpoint.doc.rule.events.iter().any(told)).min_by_key(|endpoint| endpoint.id())?;
        let (doc, key) = endpoint.signing(now).pop()?;
        let timestamp_s = now.as_second();
        Some(SignedAnswer { signature: key.loyalty(timestamp_s, body), timestamp_s, key_id: doc.id.to_string() })
    }
}
