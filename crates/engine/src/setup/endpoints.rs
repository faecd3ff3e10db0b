//! Endpoints in a setup file.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{Secret, id::Kind, webhook::SigningKey};

use super::Planner;
use crate::endpoint::{EndpointDoc, EndpointRule, Hidden, KeyDoc, OVERLAP, header_faults};

/// A URL of the merchant's own software that receives webhooks.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
pub struct EndpointPart {
    /// The merchant, by its slug; the API takes an id as well.
    pub merchant: String,
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    /// Headers beside the hub's own, for instance `authorization`. They are kept as secrets.
    #[serde(default, skip_serializing)]
    pub headers: BTreeMap<String, Secret>,
    /// A signing secret of your own: `whsec_` and 24 to 64 bytes in base64. Without one the hub makes it.
    #[serde(default, skip_serializing)]
    pub secret: Option<Secret>,
    #[serde(flatten)]
    pub rule: EndpointRule,
}

impl Planner<'_> {
    pub(super) fn endpoint(&mut self, at: &str, part: &EndpointPart) {
        let merchant = self.merchant(&format!("{at}/merchant"), &part.merchant);
        self.slug(&format!("{at}/slug"), &part.slug);
        for (field, fault) in part.rule.faults(&self.engine.options.networks) {
            self.fault(&format!("{at}/{field}"), fault);
        }
        for fault in header_faults(part.headers.iter()) {
            self.fault(&format!("{at}{}", fault.pointer), fault.detail);
        }
        if let Some(Err(why)) = part.secret.as_ref().map(|secret| SigningKey::new(secret.clone(), &[0; 32])) {
            self.fault(&format!("{at}/secret"), why);
        }
        let before = self.find(Kind::Endpoint, Some(merchant), &part.slug).cloned();
        let stored = before.and_then(|row| {
            let hidden = Hidden::open(&row, &self.engine.vault);
            Some((serde_json::from_value::<EndpointDoc>(row.doc).ok()?, hidden))
        });
        let now = self.engine.clock.now();
        let (doc, mut hidden) = match stored {
            Some((_, Err(why))) => return self.fault(at, why),
            Some((before, Ok(mut hidden))) => {
                let mut doc = EndpointDoc { rule: part.rule.clone(), ..before.clone() };
                // Whoever set that up means it to be called.
                doc.disabled = before.disabled.filter(|_| before.rule.url == part.rule.url);
                let current = doc.keys.first().and_then(|key| hidden.keys.get(&key.id)).map(|(secret, _)| secret.clone());
                if let Some(secret) = part.secret.as_ref().filter(|secret| current.as_deref() != Some(secret.expose())) {
                    doc.rotate(&mut hidden, Some(secret), now, OVERLAP);
                }
                (doc, hidden)
            }
            None => {
                let mut hidden = Hidden::default();
                let id = hidden.add_key(part.secret.as_ref());
                if part.secret.is_none() {
                    self.plan
                        .secrets
                        .extend(hidden.keys.get(&id).map(|(secret, _)| (part.slug.clone(), Secret::new(secret.as_str()))));
                }
                let keys = vec![KeyDoc::new(id, now)];
                (EndpointDoc { rule: part.rule.clone(), made_at: now, keys, disabled: None }, hidden)
            }
        };
        hidden.headers =
            part.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.expose().to_owned())).collect();
        let Value::Object(hidden) = json!(hidden) else { return };
        self.put(Kind::Endpoint, "endpoint", Some(merchant), &part.slug, json!(doc), Some(hidden));
    }
}
