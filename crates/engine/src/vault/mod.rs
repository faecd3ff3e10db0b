//! Secrets at rest. Each is sealed by itself under a key of its merchant, bound to merchant, connection and field: moved
//! elsewhere it does not open. Those keys lie in the store, each in an envelope that only the master key opens.

mod key;
mod ring;
mod rotate;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
pub use key::Master;
use ring::Ring;
pub use rotate::{RotateError, Rotated};
use serde_json::{Map, Value};
use uzel_model::{Id, Secret};
use uzel_store::{Envelope, Rekeying, Store, StoreError};
use zeroize::Zeroizing;

/// How often keys are made anew where another node has changed them meanwhile.
const TRIES_MAX: u32 = 5;

/// The keys of a hub. All its copies are one: what one of them takes up, all have.
#[derive(Clone)]
pub struct Vault(Arc<ArcSwap<Ring>>);

/// Why something does not open, or a master key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("the master key is not base64")]
    NoBase64,
    #[error("the master key must be 32 bytes in base64")]
    WrongLength,
    #[error("the master key is not the one that sealed what is stored. Nothing was changed")]
    Wrong,
    #[error(
        "the master key is not the one that sealed what is stored: it is the one from before the last `uzel secrets rotate`. Give \
         this hub the new one. Nothing was changed"
    )]
    Before,
    #[error("one of the keys in the store does not open with the right master key: its row was damaged. Nothing was changed")]
    Damaged,
    #[error(
        "it is sealed by a key that this node does not have: if the master key was changed, start this node again with the new one"
    )]
    Unknown,
    #[error("it was changed or moved since it was sealed: enter it again")]
    Spoilt,
}

/// Why a vault is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Key(#[from] VaultError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where a secret belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub merchant: Id,
    pub connection: Id,
    pub field: &'a str,
}

/// The field of a connection's login.
pub(crate) const SESSION: &str = "session";

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(***)")
    }
}

impl Vault {
    /// The keys of this store, made where it has none yet. With another master key than its own nothing is written.
    pub async fn of(store: &dyn Store, master: &Master) -> Result<Self, OpenError> {
        for _ in 0..TRIES_MAX {
            let (setup, sealed) = (store.setup().await?, store.sealed().await?);
            if let Some(check) = &sealed.check
                && *check != master.check()
            {
                let before = sealed.check_before.as_ref() == Some(&master.check());
                return Err(if before { VaultError::Before } else { VaultError::Wrong }.into());
            }
            // Only where the master key is known to be right can a row be at fault.
            let known = sealed.check.is_some();
            let ring = Ring::of(master, &setup);
            let (ring, made) = ring.map_err(|wrong| if known { wrong } else { VaultError::Wrong })?;
            let dropped = rotate::handed_over(&setup);
            if sealed.check.is_none() || !made.is_empty() || !dropped.is_empty() {
                let first = Rekeying {
                    was: sealed.check,
                    check: master.check(),
                    known: setup.envelopes.iter().map(|envelope| envelope.id).collect(),
                    envelopes: made,
                    dropped,
                    ..Rekeying::default()
                };
                match store.rekey(first).await {
                    Err(StoreError::Conflict) => continue,
                    done => done?,
                }
            }
            return Ok(Self(Arc::new(ArcSwap::from_pointee(ring))));
        }
        Err(StoreError::Conflict.into())
    }

    /// Takes up what other nodes have made, and the new master key if there is one.
    pub(crate) fn take_up(&self, envelopes: &[Envelope]) {
        self.0.rcu(|ring| ring.with(envelopes).map_or_else(|| ring.clone(), Arc::new));
    }

    /// Seals what is the hub's own; only [`Vault::open`] with the same context gives it back.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.load().seal_own(context, plain)
    }

    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.0.load().open_own(context, sealed).map(|plain| plain.to_vec())
    }

    /// Seals one secret of a merchant.
    pub(crate) fn seal_at(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.0.load().seal(place, plain)
    }

    pub(crate) fn open_at(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.0.load().unseal(place, sealed)
    }

    pub(crate) fn unseal_settings(&self, merchant: Id, connection: Id, sealed: &[u8]) -> Result<Map<String, Value>, VaultError> {
        self.0.load().unseal_settings(merchant, connection, sealed)
    }

    /// Seals settings for which there may be no key yet.
    pub(crate) fn sealer(&self) -> Sealer {
        Sealer { ring: (**self.0.load()).clone(), made: Vec::new() }
    }

    /// The keyed hash by which keys are looked up.
    pub fn key_hash(&self, about: &str, key: &str) -> Vec<u8> {
        self.0.load().hash.hmac(format!("{about}\n{key}").as_bytes()).to_vec()
    }

    /// The key in the URL that we register for a connection ourselves: always the same, so that it need not be stored.
    pub fn hook_key(&self, link: &[u8]) -> Secret {
        let mac = self.0.load().hash.hmac(&[b"hook".as_slice(), link].concat());
        Secret::new(hex::encode(&mac[..20]))
    }

    /// A new key with this prefix, of 160 random bits in lower-case hex (one provider lower-cases our URLs).
    pub fn new_key(prefix: &str) -> Secret {
        Secret::new(format!("{prefix}{}", hex::encode(rand::random::<[u8; 20]>())))
    }

    /// Tells which master key is in use.
    pub fn fingerprint(&self) -> String {
        key::fingerprint(&self.0.load().check)
    }
}

/// Seals what is to be stored, and makes keys for merchants that have none. They are used by nobody before they are stored.
pub(crate) struct Sealer {
    ring: Ring,
    made: Vec<Envelope>,
}

impl Sealer {
    /// What a connection hides: each setting is sealed by itself.
    pub(crate) fn settings(&mut self, merchant: Id, connection: Id, settings: &Map<String, Value>) -> Vec<u8> {
        self.made.extend(self.ring.ensure(Some(merchant)));
        self.ring.seal_settings(merchant, connection, settings)
    }

    pub(crate) fn is_current(&self, merchant: Id, sealed: &[u8]) -> bool {
        self.ring.is_current(Some(merchant), sealed)
    }

    /// A merchant has a key from the beginning.
    pub(crate) fn merchant(&mut self, merchant: Id) {
        self.made.extend(self.ring.ensure(Some(merchant)));
    }

    /// What has to be stored before anything that was sealed here: the keys that were made.
    pub(crate) fn made(self, known: &[Envelope]) -> Option<Rekeying> {
        (!self.made.is_empty()).then(|| Rekeying {
            was: Some(self.ring.check.clone()),
            check: self.ring.check.clone(),
            known: known.iter().map(|envelope| envelope.id).collect(),
            envelopes: self.made,
            ..Rekeying::default()
        })
    }
}
