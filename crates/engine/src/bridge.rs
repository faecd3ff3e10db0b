//! Secrets by which an outlet's bridge signs what it sends; those of a merchant's programme are for outlets that have none. Two are good at once while a till is moved from one to the other.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uzel_model::{Id, Secret, check::Fault, id::Kind};
use uzel_store::{Setup, SetupRow, StoreError};

use crate::{
    Engine, Vault,
    setup::{Plan, Unchanged},
};

/// A secret that is brought must be as hard to guess as ours.
const SECRET_CHARS_MIN: usize = 24;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Current,
    Next,
}

/// When the secrets were issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

/// The secrets themselves, sealed in the outlet's row.
#[derive(Default, Serialize, Deserialize)]
struct Secrets {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// What else the row hides.
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Engine {
    /// Makes a secret, which is shown now and never again. The current one is replaced at once; a next one is good beside it.
    pub async fn issue_bridge_secret(self: &Arc<Self>, outlet: Id, which: Which, by: &str) -> Result<Secret, Unchanged> {
        let secret = Vault::new_key("brs_");
        let action = match which {
            Which::Current => "bridge_secret.issue",
            Which::Next => "bridge_secret.issue_next",
        };
        self.put_bridge_secret(outlet, which, &secret, action, by).await?;
        Ok(secret)
    }

    /// Takes over a secret that a bridge has already.
    pub async fn import_bridge_secret(
        self: &Arc<Self>,
        outlet: Id,
        which: Which,
        secret: &Secret,
        by: &str,
    ) -> Result<(), Unchanged> {
        let (action, field) = match which {
            Which::Current => ("bridge_secret.import", "/bridgeSecret"),
            Which::Next => ("bridge_secret.import_next", "/bridgeSecretNext"),
        };
        if secret.expose().chars().count() < SECRET_CHARS_MIN {
            let detail = format!("is too short: at least {SECRET_CHARS_MIN} characters, so that nobody guesses it");
            return Err(Unchanged::Faults(vec![Fault::new(field, detail)]));
        }
        self.put_bridge_secret(outlet, which, secret, action, by).await
    }

    async fn put_bridge_secret(
        self: &Arc<Self>,
        outlet: Id,
        which: Which,
        secret: &Secret,
        action: &str,
        by: &str,
    ) -> Result<(), Unchanged> {
        let now = self.clock.now();
        self.change_bridge(outlet, action, by, |secrets, issued| {
            let (place, at) = match which {
                Which::Current => (&mut secrets.current, &mut issued.current_at),
                Which::Next => (&mut secrets.next, &mut issued.next_at),
            };
            *place = Some(secret.expose().to_owned());
            *at = Some(now);
            Ok(())
        })
        .await
    }

    pub async fn remove_bridge_secret(self: &Arc<Self>, outlet: Id, which: Which, by: &str) -> Result<(), Unchanged> {
        let action = match which {
            Which::Current => "bridge_secret.remove",
            Which::Next => "bridge_secret.remove_next",
        };
        self.change_bridge(outlet, action, by, |secrets, issued| {
            match which {
                Which::Current => (secrets.current, issued.current_at) = (None, None),
                Which::Next => (secrets.next, issued.next_at) = (None, None),
            }
            Ok(())
        })
        .await
    }

    /// The next one becomes the current one: the till has been moved.
    pub async fn promote_bridge_secret(self: &Arc<Self>, outlet: Id, by: &str) -> Result<(), Unchanged> {
        self.change_bridge(outlet, "bridge_secret.promote", by, |secrets, issued| {
            let next =
                secrets.next.take().ok_or_else(|| Unchanged::InUse("there is no next secret: issue one first".to_owned()))?;
            secrets.current = Some(next);
            issued.current_at = issued.next_at.take();
            Ok(())
        })
        .await
    }

    /// Says what kind of till an outlet has, and when it was heard of.
    pub async fn set_pos(
        self: &Arc<Self>,
        outlet: Id,
        kind: &str,
        seen_at: Option<Timestamp>,
        by: &str,
    ) -> Result<(), Unchanged> {
        loop {
            let before = self.store.setup().await?;
            let row = outlet_row(&before, outlet)?;
            let mut doc = row.doc.clone();
            doc["pos_type"] = json!(kind);
            if let Some(at) = seen_at {
                doc["pos_seen_at"] = json!(at);
            }
            let audit = self.audit_row(by, "outlet.change", row.merchant, outlet, json!({ "fields": ["pos_type"] }));
            let expects = vec![(outlet, row.version)];
            let setup = Setup { rows: vec![SetupRow { doc, ..row }], expects, audit: vec![audit], ..Setup::default() };
            match self.carry_out(Plan::of(setup, before)).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
    }

    async fn change_bridge(
        self: &Arc<Self>,
        outlet: Id,
        action: &str,
        by: &str,
        change: impl Fn(&mut Secrets, &mut Issued) -> Result<(), Unchanged>,
    ) -> Result<(), Unchanged> {
        loop {
            let before = self.store.setup().await?;
            let row = outlet_row(&before, outlet)?;
            let mut secrets = match (&row.sealed, row.merchant) {
                (Some(sealed), Some(merchant)) => {
                    let plain = self.vault.unseal_settings(merchant, outlet, sealed);
                    let plain = plain.map_err(|error| StoreError::Failed(error.to_string()))?;
                    serde_json::from_value(plain.into()).unwrap_or_default()
                }
                _ => Secrets::default(),
            };
            let mut issued: Issued = serde_json::from_value(row.doc["bridge"].clone()).unwrap_or_default();
            change(&mut secrets, &mut issued)?;
            let mut doc = row.doc.clone();
            doc["bridge"] = json!(issued);
            let audit = self.audit_row(by, action, row.merchant, outlet, json!({}));
            let expects = vec![(outlet, row.version)];
            let sealed = self.seal_row(&before, &row, json!(secrets)).await?;
            let row = SetupRow { doc, sealed, ..row };
            let setup = Setup { rows: vec![row], expects, audit: vec![audit], ..Setup::default() };
            match self.carry_out(Plan::of(setup, before)).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done?),
            }
        }
    }
}

/// The secrets of an outlet's row, the current one first.
pub(crate) fn secrets(row: &SetupRow, vault: &Vault) -> Result<Vec<Secret>, String> {
    let (Some(sealed), Some(merchant)) = (&row.sealed, row.merchant) else { return Ok(Vec::new()) };
    let plain = vault.unseal_settings(merchant, row.id, sealed);
    let plain = plain.map_err(|error| format!("its bridge secrets cannot be read: {error}"))?;
    let secrets: Secrets = serde_json::from_value(plain.into()).unwrap_or_default();
    Ok([secrets.current, secrets.next].into_iter().flatten().map(Secret::new).collect())
}

fn outlet_row(setup: &Setup, outlet: Id) -> Result<SetupRow, Unchanged> {
    let keeps = |row: &&SetupRow| row.id == outlet && matches!(row.id.kind(), Kind::Outlet | Kind::Programme);
    let found = setup.rows.iter().find(keeps);
    found.cloned().ok_or(Unchanged::Missing)
}
