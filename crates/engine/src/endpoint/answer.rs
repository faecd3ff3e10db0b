//! Answers to tills, signed as the merchant's webhooks of loyalty events are: the merchant's software verifies both by one secret.
//! A merchant without such webhooks shares another secret with its tills: that of their bridge.

use jiff::Timestamp;
use uzel_model::{Id, Secret, webhook};

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
    /// good, as its webhooks are. Without such an endpoint it is signed by a secret that the till has, with its owner's id for the
    /// key's. Where there is neither, nobody could verify it.
    pub fn sign_loyalty_answer(
        &self,
        merchant: Id,
        shared: Option<(Id, &Secret)>,
        now: Timestamp,
        body: &[u8],
    ) -> Option<SignedAnswer> {
        let told = |pattern: &String| super::rule::matches(pattern, COMMITTED);
        let endpoints = self.endpoints_of(merchant).filter(|endpoint| !endpoint.is_disabled());
        let endpoint =
            endpoints.filter(|endpoint| endpoint.doc.rule.events.iter().any(told)).min_by_key(|endpoint| endpoint.id());
        let timestamp_s = now.as_second();
        let of_endpoint = endpoint.and_then(|endpoint| endpoint.signing(now).pop());
        let of_endpoint = of_endpoint.map(|(doc, key)| (doc.told(), key.loyalty(timestamp_s, body)));
        let signed =
            of_endpoint.or_else(|| shared.map(|(of, secret)| (of.to_string(), webhook::loyalty(secret, timestamp_s, body))));
        signed.map(|(key_id, signature)| SignedAnswer { signature, timestamp_s, key_id })
    }
}
