//! Keys of the hub: who may call the API, and as what.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_model::{Id, Secret, check::Fault, id::Kind};
use uzel_store::{KeyRow, Setup};

use crate::{Engine, Vault, setup::Unchanged};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The whole hub, all merchants.
    Admin,
    /// All of one merchant, its keys and secrets included.
    Owner,
    /// Sends, repeats, calls off, pauses; sees personal data masked.
    Operator,
    /// Looks, at what is masked.
    Reader,
    /// A till: asks about loyalty, and nothing else.
    Till,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Admin, Self::Owner, Self::Operator, Self::Reader, Self::Till];

    pub fn word(&self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Reader => "reader",
            Self::Till => "till",
        }
    }

    /// As stored. The owner of no merchant is the hub's: keys from before there were others say so.
    pub(crate) fn read(word: &str, of: Option<Id>) -> Self {
        let known = Self::ALL.into_iter().find(|role| role.word() == word);
        match (known, of) {
            (Some(Self::Owner | Self::Admin), None) => Self::Admin,
            // Nobody is let in to more than one merchant by a word in a row.
            (Some(Self::Admin), Some(_)) | (None, _) => Self::Reader,
            (Some(role), _) => role,
        }
    }
}

/// A key as the API looks it up.
#[derive(Debug, Clone)]
pub struct ApiKey {
    pub id: String,
    /// `None`: the whole hub.
    pub of: Option<Id>,
    pub role: Role,
    /// What people call it.
    pub label: String,
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    pub(crate) fn new(row: &KeyRow) -> Self {
        let role = Role::read(&row.about, row.of);
        Self { id: row.id.clone(), of: row.of, role, label: row.label.clone(), expires_at: row.expires_at }
    }

    pub fn is_good(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// `None`: the whole hub.
    pub merchant: Option<Id>,
    pub role: Role,
    pub label: String,
    pub expires_at: Option<Timestamp>,
}

const LABEL_CHARS_MAX: usize = 100;

impl Engine {
    /// Makes a key. It is shown now and never again: only a hash of it is kept.
    pub async fn create_key(self: &Arc<Self>, new: NewKey, by: &str) -> Result<(KeyRow, Secret), Unchanged> {
        let mut faults = Vec::new();
        if (new.role == Role::Admin) != new.merchant.is_none() {
            faults.push(Fault::new("/role", "`admin` is the role of the whole hub, the others are of one merchant"));
        }
        if new.expires_at.is_some_and(|at| at <= self.clock.now()) {
            faults.push(Fault::new("/expires_at", "has passed already"));
        }
        if new.label.chars().count() > LABEL_CHARS_MAX {
            faults.push(Fault::new("/label", format!("may have {LABEL_CHARS_MAX} characters at the most")));
        }
        if !faults.is_empty() {
            return Err(Unchanged::Faults(faults));
        }
        let key = Vault::new_key("uzel_");
        let row = KeyRow {
            hash: self.vault.key_hash("api", key.expose()),
            id: Id::new(Kind::Key).to_string(),
            of: new.merchant,
            about: new.role.word().to_owned(),
            webhook: false,
            label: new.label,
            made_at: self.clock.now(),
            expires_at: new.expires_at,
            last_used_at: None,
        };
        let detail = json!({ "role": new.role, "label": row.label, "expires_at": row.expires_at });
        let audit = self.audit_row(by, "key.create", row.of, &row.id, detail);
        self.put_now(Setup { keys: vec![row.clone()], audit: vec![audit], ..Setup::default() }).await?;
        Ok((row, key))
    }

    /// Makes one more webhook key of a connection: those from before stay good until they are taken away.
    pub async fn create_webhook_key(self: &Arc<Self>, connection: Id, by: &str) -> Result<(KeyRow, Secret), Unchanged> {
        let world = self.world();
        let link = world.links.get(&connection).ok_or(Unchanged::Missing)?;
        let key = Vault::new_key("whk");
        let row = KeyRow {
            hash: self.vault.key_hash(link.provider.id, key.expose()),
            id: Id::new(Kind::Key).to_string(),
            of: Some(connection),
            about: link.provider.id.to_owned(),
            webhook: true,
            label: String::new(),
            made_at: self.clock.now(),
            expires_at: None,
            last_used_at: None,
        };
        let audit = self.audit_row(by, "webhook_key.create", Some(link.merchant), &row.id, json!({ "connection": connection }));
        self.put_now(Setup { keys: vec![row.clone()], audit: vec![audit], ..Setup::default() }).await?;
        Ok((row, key))
    }

    /// Takes a key away: from now on nobody is let in by it.
    pub async fn remove_key(self: &Arc<Self>, row: &KeyRow, merchant: Option<Id>, by: &str) -> Result<(), Unchanged> {
        if !row.webhook && row.of.is_none() {
            let now = self.clock.now();
            let others = self.store.setup().await?.keys;
            let mut others = others.iter().filter(|other| !other.webhook && other.of.is_none() && other.id != row.id);
            if !others.any(|other| ApiKey::new(other).is_good(now)) {
                return Err(Unchanged::InUse("it is the last key of the whole hub: make another first".to_owned()));
            }
        }
        let action = if row.webhook { "webhook_key.remove" } else { "key.remove" };
        let audit = self.audit_row(by, action, merchant, &row.id, json!({ "label": row.label }));
        self.put_now(Setup { removes_keys: vec![row.id.clone()], audit: vec![audit], ..Setup::default() }).await
    }

    /// Puts what does not hang on what stands.
    async fn put_now(self: &Arc<Self>, setup: Setup) -> Result<(), Unchanged> {
        let engine = self.clone();
        let work = async move {
            let _alone = engine.changing.lock().await;
            engine.store.put_setup(setup).await?;
            engine.use_stored(&[]).await
        };
        Ok(self.to_the_end(work).await.map_err(uzel_store::StoreError::Failed)??)
    }
}
