//! The webhook of a merchant's settings, as the points platform of the requirement has it: one endpoint like any other, told of
//! loyalty events by their bare payloads, with two secrets of which a switch chooses.

use std::sync::Arc;

use serde_json::{Value, json};
use uzel_model::{Id, Secret, Timestamp, check::Fault, webhook::SigningKey};

use super::{Endpoint, EndpointDoc, Hidden, KeyDoc};
use crate::{Engine, setup::Unchanged};

/// Slug of the endpoint.
const SLUG: &str = "loyalty-webhook";
/// What the platform tells; it says nothing of quotes.
const EVENTS: [&str; 6] = [
    "loyalty.committed",
    "loyalty.refunded",
    "loyalty.earn.*",
    "loyalty.earnlot.*",
    "loyalty.points_ttl.preview",
    "loyalty.expired",
];

/// What is set of it; nothing: it stays as it is. An empty `url` takes the endpoint away, an empty `secret_next` that secret.
#[derive(Debug, Default)]
pub struct Webhook {
    pub url: Option<String>,
    pub secret: Option<Secret>,
    pub key_id: Option<String>,
    pub secret_next: Option<Secret>,
    pub key_id_next: Option<String>,
    pub use_next: Option<bool>,
}

/// It as it is shown: no secret, and no value of the URL's query.
#[derive(Debug, Default)]
pub struct WebhookView {
    pub url: Option<String>,
    pub key_id: Option<String>,
    pub secret_issued: bool,
    pub key_id_next: Option<String>,
    pub secret_next_issued: bool,
    pub use_next: bool,
}

impl Webhook {
    /// What is wrong with it, by the platform's names.
    fn faults(&self, there: Option<&Endpoint>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (field, secret) in [("/webhookSecret", &self.secret), ("/webhookSecretNext", &self.secret_next)] {
            let given = secret.as_ref().filter(|secret| !secret.expose().is_empty());
            let judged = given.map(|secret| SigningKey::of_text(secret.clone(), &[0; 32]));
            faults.extend(judged.and_then(Result::err).map(|why| Fault::new(field, why)));
        }
        for (field, name) in [("/webhookKeyId", &self.key_id), ("/webhookKeyIdNext", &self.key_id_next)] {
            let right = |name: &String| name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_graphic());
            if !name.as_ref().is_none_or(right) {
                faults.push(Fault::new(field, "must be visible ASCII of 100 characters at the most"));
            }
        }
        let given = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| !secret.expose().is_empty());
        if there.is_none() {
            match &self.url {
                Some(_) if !given(&self.secret) => {
                    faults.push(Fault::new("/webhookSecret", "is needed with the first `webhookUrl`: it signs"));
                }
                None if given(&self.secret) || given(&self.secret_next) => {
                    faults.push(Fault::new("/webhookUrl", "is needed with the first secret"));
                }
                _ => {}
            }
        }
        let stands = self.secret_next.is_none() && there.is_some_and(|there| there.doc.keys.iter().any(|key| key.next));
        if self.use_next == Some(true) && !stands && !given(&self.secret_next) {
            faults.push(Fault::new("/useWebhookNext", "there is no next secret: give `webhookSecretNext`"));
        }
        faults
    }

    /// Puts the keys in their places: the one that signs for loyalty stands last.
    fn put(self, doc: &mut EndpointDoc, hidden: &mut Hidden, now: Timestamp) {
        let using_next = doc.keys.last().is_some_and(|key| key.next);
        for (next, secret, name) in [(false, self.secret, self.key_id), (true, self.secret_next, self.key_id_next)] {
            match secret {
                Some(secret) if secret.expose().is_empty() => doc.keys.retain(|key| !(next && key.next)),
                Some(secret) => {
                    let same = |key: &KeyDoc| hidden.keys.get(&key.id).is_some_and(|(known, _)| known == secret.expose());
                    let before = doc.keys.iter().find(|key| key.next == next).cloned();
                    if !before.as_ref().is_some_and(same) {
                        doc.keys.retain(|key| key.next != next);
                        let id = hidden.add_key(Some(&secret));
                        let name = before.and_then(|key| key.name);
                        doc.keys.push(KeyDoc { name, next, ..KeyDoc::new(id, now) });
                    }
                }
                None => {}
            }
            if let (Some(name), Some(key)) = (name, doc.keys.iter_mut().find(|key| key.next == next)) {
                key.name = Some(name).filter(|name| !name.is_empty());
            }
        }
        let use_next = self.use_next.unwrap_or(using_next);
        doc.keys.sort_by_key(|key| key.next == use_next);
        hidden.keys.retain(|id, _| doc.keys.iter().any(|key| key.id == *id));
    }
}

impl Engine {
    /// The webhook of a merchant's settings.
    pub fn platform_webhook(&self, merchant: Id) -> WebhookView {
        let Some(endpoint) = self.endpoint(SLUG, Some(merchant)) else { return WebhookView::default() };
        let key = |next: bool| endpoint.doc.keys.iter().find(|key| key.next == next);
        WebhookView {
            url: Some(endpoint.view(self).rule.url),
            key_id: key(false).and_then(|key| key.name.clone()),
            secret_issued: key(false).is_some(),
            key_id_next: key(true).and_then(|key| key.name.clone()),
            secret_next_issued: key(true).is_some(),
            use_next: endpoint.doc.keys.last().is_some_and(|key| key.next),
        }
    }

    /// Makes, changes or takes away the webhook of a merchant's settings, by the road of all endpoints.
    pub async fn set_platform_webhook(self: &Arc<Self>, merchant: Id, hook: Webhook, by: &str) -> Result<(), Unchanged> {
        let there = self.endpoint(SLUG, Some(merchant));
        match (&there, hook.url.as_deref()) {
            (None, Some("")) => return Ok(()),
            (Some(there), Some("")) => return self.remove_endpoint(there.id(), None, by).await,
            _ => {}
        }
        let faults = hook.faults(there.as_deref());
        if !faults.is_empty() {
            return Err(Unchanged::Faults(faults));
        }
        let renamed = |faults: Vec<Fault>| {
            let renamed = |fault: Fault| Fault::new(fault.pointer.replace("/url", "/webhookUrl"), fault.detail);
            Unchanged::Faults(faults.into_iter().map(renamed).collect())
        };
        let id = match (there, hook.url.as_deref()) {
            (None, None) => return Ok(()),
            (None, Some(url)) => {
                // The platform's webhooks are the bare payload.
                let part = json!({
                    "merchant": merchant, "slug": SLUG, "url": url, "events": EVENTS, "template": "{{ event.data }}",
                    "timeout_ms": 10_000,
                });
                self.create_endpoint(part, by).await?.map_err(renamed)?.id
            }
            (Some(there), Some(url)) if ![&there.doc.rule.url, &there.view(self).rule.url].contains(&&url.to_owned()) => {
                match self.change_endpoint(there.id(), json!({ "url": url }), None, by).await {
                    Err(Unchanged::Faults(faults)) => return Err(renamed(faults)),
                    changed => changed?.id,
                }
            }
            (Some(there), _) => there.id(),
        };
        let names = [hook.key_id.is_some(), hook.key_id_next.is_some(), hook.use_next.is_some()];
        if hook.secret.is_none() && hook.secret_next.is_none() && names == [false; 3] {
            return Ok(());
        }
        let now = self.clock.now();
        let hook = Webhook { secret: hook.secret.filter(|secret| !secret.expose().is_empty()), ..hook };
        self.alter(id, by, "endpoint.rotate", move |doc, hidden| hook.put(doc, hidden, now)).await?;
        Ok(())
    }

    /// Stops or goes on with what goes to a merchant's endpoints; tells how many there are.
    pub async fn pause_endpoints(self: &Arc<Self>, merchant: Id, paused: bool, by: &str) -> Result<usize, Unchanged> {
        let ids: Vec<Id> = self.world().endpoints_of(merchant).map(|endpoint| endpoint.id()).collect();
        for id in &ids {
            let patch: Value = json!({ "paused": paused });
            self.change_endpoint(*id, patch, None, by).await?;
        }
        Ok(ids.len())
    }
}
