//! What a receipt only names: its document, and of a refund the sale's.

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{
    Bytes, CallError, Client, Refusal,
    port::{Found, Guests, Health},
};

use super::{
    Evotor, second,
    wire::{self, answer},
};
use crate::tree;

/// The cloud may be behind its own webhooks: for so long a document that is told of is asked for again.
const LAG: SignedDuration = SignedDuration::from_mins(10);

#[async_trait]
impl Guests for Evotor {
    async fn look_up(&self, client: &Client<'_>, what: &Value) -> Result<Found, CallError> {
        let plain = |name: &str| tree::text(&what[name]).filter(|id| wire::is_plain(id));
        let (Some(store), Some(id)) = (plain("store"), plain("document")) else {
            return Err(CallError::refused(Refusal::Ours, "look_up", "a look-up needs the ids of a store and of a document"));
        };
        let Some(document) = self.document(client, &store, &id).await? else {
            return match again_at(client.now(), &what["told_at"]) {
                Some(at) => Err(CallError::Later { reason: format!("Evotor does not show document {id} yet"), at: Some(at) }),
                None => Ok(Found::Nobody(format!("Evotor does not know document {id} (any more)"))),
            };
        };
        let base = tree::text(&document["body"]["base_document_id"]).filter(|base| wire::is_plain(base) && *base != id);
        let sale = match base.filter(|_| document["type"] == "PAYBACK") {
            Some(base) => self.document(client, &store, &base).await?,
            None => None,
        };
        let told: Vec<Value> = sale.into_iter().chain([document]).collect();
        Ok(Found::Told(Bytes::from(json!({ "items": told }).to_string())))
    }
}

#[async_trait]
impl Health for Evotor {
    async fn health(&self, client: &Client<'_>) -> Result<Option<String>, CallError> {
        let known = self.known_stores(client).await?;
        let missing = self.stores.iter().find(|store| !known.contains(store));
        Ok(missing.map(|store| format!("Evotor does not know store {store}")))
    }
}

impl Evotor {
    /// A document as the cloud keeps it; `None`: it knows no such document.
    async fn document(&self, client: &Client<'_>, store: &str, id: &str) -> Result<Option<Value>, CallError> {
        let reply = client.send(self.get(&format!("stores/{store}/documents/{id}"), &[])).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let document = answer(&reply)?;
        match tree::text(&document["id"]).as_deref() == Some(id) {
            true => Ok(Some(document)),
            false => Err(CallError::Unreadable(format!("asked for document {id}, another one was told"))),
        }
    }
}

/// When to ask once more: soon at first, then every minute, while the webhook is young.
fn again_at(now: Timestamp, told_at: &Value) -> Option<Timestamp> {
    let age = now.duration_since(second(told_at)?);
    let wait_s = match age {
        age if age > LAG => return None,
        age if age < SignedDuration::from_secs(60) => 5,
        _ => 60,
    };
    now.checked_add(SignedDuration::from_secs(wait_s)).ok()
}
