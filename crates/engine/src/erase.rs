//! Erasure of one person: everything of a merchant's that is kept of an address, in portions, until nothing is left.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::Instant;
use uzel_model::{
    Address, Id,
    message::read_email,
    phone::{self, PhoneError},
};
use uzel_store::{Erased, ErasurePlace, PhoneHash, StoreError};

use crate::{Engine, Vault};

/// Entries that one portion blanks, and rows that it looks through.
const PORTION: usize = 200;
/// Between two rounds, where something was at work.
const AGAIN: Duration = Duration::from_secs(1);

/// What an erasure did, and what it could not reach.
#[derive(Debug, Clone, Serialize)]
pub struct Erasure {
    #[serde(flatten)]
    pub erased: Erased,
    /// In words for people.
    pub not_reached: Vec<String>,
}

/// Why nothing, or not all, was erased.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ErasureError {
    #[error("this is no phone: {0}")]
    Phone(#[from] PhoneError),
    #[error("it {0}")]
    Address(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How phones are hashed of people who were erased.
pub(crate) fn phone_hash(vault: &Vault) -> PhoneHash {
    let vault = vault.clone();
    Arc::new(move |merchant, phone| {
        let hash = vault.key_hash(&format!("opt-out/{merchant}"), phone);
        hash.try_into().expect("a keyed hash has 32 bytes")
    })
}

impl Engine {
    /// Erases what is kept of a merchant's person by this phone, mailbox or chat (`chat/` and its number). What is at work meanwhile is waited for, as long as a call may take. Done to
    /// its end even when whoever asked for it goes away.
    pub async fn erase(self: &Arc<Self>, merchant: Id, address: &str) -> Result<Erasure, ErasureError> {
        let country = self.world().merchants.get(&merchant).map_or("RU".to_owned(), |(_, merchant)| merchant.country.clone());
        let key = match address.trim().strip_prefix("chat/") {
            Some(chat) => {
                let chat = chat.parse().map_err(|_| ErasureError::Address("is no chat: its number is missing".to_owned()))?;
                Address::Chat(chat).key()
            }
            None if address.contains('@') => read_email(address).map_err(ErasureError::Address)?,
            None => phone::read_text(address, &country)?.e164,
        };
        let engine = self.clone();
        let work = self.to_the_end(async move { engine.erase_all(merchant, &key).await });
        let erased = work.await.map_err(StoreError::Failed)??;
        tracing::info!(
            merchant.id = %merchant,
            entries = erased.entries,
            commands = erased.commands,
            "a person was erased"
        );
        Ok(Erasure { not_reached: self.not_reached(&erased), erased })
    }

    async fn erase_all(&self, merchant: Id, key: &str) -> Result<Erased, StoreError> {
        let patience = Instant::now() + self.options.call_timeout + self.options.lease_margin;
        let mut all = Erased::default();
        loop {
            let mut place = Some(ErasurePlace::default());
            all.busy = 0;
            while let Some(here) = place {
                let erased = self.store.erase(merchant, key, here, PORTION).await?;
                all.add(&erased);
                place = erased.next;
                // What was held back lets others step forward, and what waited to be looked up is told.
                self.due.notify_one();
                self.told.notify_one();
            }
            if all.busy == 0 || Instant::now() >= patience {
                return Ok(all);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(all),
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    fn not_reached(&self, erased: &Erased) -> Vec<String> {
        let mut left = vec![
            "backups made before: whoever puts one in place must erase again".to_owned(),
            "what providers and other programs were sent before".to_owned(),
            "free space in the database's files, until it is used again or `VACUUM` is run".to_owned(),
        ];
        if self.options.nats.is_some() {
            left.push("events that were published to NATS before: they stay in the stream as long as it keeps them".to_owned());
        }
        if erased.busy > 0 {
            left.push(format!("{} calls or requests that are still at work: erase again later", erased.busy));
        }
        left
    }
}
