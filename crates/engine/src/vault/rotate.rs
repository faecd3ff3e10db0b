//! A new master key, while everything works: every envelope is wrapped anew, in one transaction.
//!
//! Who works on goes on: the keys that seal stay the same, unless new ones are asked for. Other nodes get the new master key sealed
//! by a key that they hold; a node that is started with the old one is refused.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use uzel_model::{Id, id::Kind};
use uzel_store::{Envelope, Purpose, Rekeying, Resealed, Sealed, Setup, StoreError};

use super::{Master, Place, SESSION, TRIES_MAX, VaultError, key::fingerprint, ring::Ring, ring::envelopes_of};
use crate::Engine;

/// How long one node may change the keys before another node changes what is set up.
const TURN_HOLD: Duration = Duration::from_secs(60);
/// A key that seals nothing any more is kept so long: somebody may be about to write what it sealed.
const KEPT_MS: i64 = 3_600_000;

/// A node that has not heard of a new master key for so long has to be started again.
const HANDOVER: Duration = Duration::from_mins(10);

/// What a rotation did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// Tells the master key that is in use from now on.
    pub master_key: String,
    /// Keys that were wrapped anew, and those that were made.
    pub wrapped: usize,
    pub made: usize,
    /// Settings and logins of connections that were sealed anew.
    pub resealed: usize,
    /// Those that did not open before, and do not now.
    pub unopened: usize,
    /// Nodes that work on the store: each needs the new master key before its next start.
    pub nodes: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("this is the master key that is in use already: nothing was changed")]
    Same,
    #[error("the hub works with another master key than the one that was to be replaced: nothing was changed")]
    NotThis,
    #[error(transparent)]
    Key(#[from] VaultError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Wraps all keys anew. `was` is the fingerprint of the master key that is to be replaced; `data_keys` makes new keys that seal,
    /// and seals everything with them.
    pub async fn rotate(self: &Arc<Self>, master: Master, was: Option<String>, data_keys: bool) -> Result<Rotated, RotateError> {
        let engine = self.clone();
        // Whoever asked may go away; a rotation that has begun is ended.
        let work = async move {
            let _alone = engine.changing.lock().await;
            let taken = engine.take_soon("setup", TURN_HOLD, TURN_HOLD).await?.ok_or(StoreError::Busy)?;
            let done = engine.rotate_alone(&master, was.as_deref(), data_keys).await;
            engine.give_back(taken).await;
            done
        };
        self.to_the_end(work).await.map_err(StoreError::Failed)?
    }

    async fn rotate_alone(self: &Arc<Self>, master: &Master, was: Option<&str>, data_keys: bool) -> Result<Rotated, RotateError> {
        for _ in 0..TRIES_MAX {
            let (setup, sealed) = (self.store.setup().await?, self.store.sealed().await?);
            self.vault.take_up(&setup.envelopes);
            let ring = self.vault.0.load_full();
            if master.check() == ring.check {
                return Err(RotateError::Same);
            }
            if was.is_some_and(|was| was != fingerprint(&ring.check)) {
                return Err(RotateError::NotThis);
            }
            let Rotation { change, next, mut done } = ring.rotation(master, &setup, &sealed, data_keys, self.store.shared())?;
            match self.store.rekey(change).await {
                Err(StoreError::Conflict) => continue,
                // Its answer may have been lost, and not what it did.
                Err(error) if self.store.sealed().await.is_ok_and(|now| now.check.as_ref() == Some(&next.check)) => {
                    tracing::warn!("the new master key is in use although the store complained: {error}");
                }
                written => written?,
            }
            self.vault.0.store(Arc::new(next));
            self.use_stored(&[]).await?;
            self.end_handover_later();
            done.nodes = self.store.about().await.map_or(1, |about| about.nodes);
            return Ok(done);
        }
        Err(StoreError::Conflict.into())
    }
}

/// A new master key that was handed over for long enough.
pub(super) fn handed_over(setup: &Setup) -> Vec<Id> {
    let now_ms = Id::new(Kind::Key).ordinal() >> 12;
    let is_over = |envelope: &&Envelope| {
        envelope.purpose == Purpose::Handover && now_ms - (envelope.id.ordinal() >> 12) >= HANDOVER.as_millis() as i64
    };
    setup.envelopes.iter().filter(is_over).map(|envelope| envelope.id).collect()
}

impl Engine {
    fn end_handover_later(self: &Arc<Self>) {
        if !self.store.shared() {
            return;
        }
        let engine = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                // The next start of any node ends it too.
                () = engine.stop.cancelled() => return,
                () = tokio::time::sleep(HANDOVER) => {}
            }
            let _alone = engine.changing.lock().await;
            if let Err(error) = engine.end_handover().await {
                tracing::warn!("the new master key is handed over until the next start of a node: {error}");
            }
        });
    }

    async fn end_handover(&self) -> Result<(), StoreError> {
        let setup = self.store.setup().await?;
        let (check, dropped) = (self.vault.0.load().check.clone(), handed_over(&setup));
        if dropped.is_empty() {
            return Ok(());
        }
        let known = setup.envelopes.iter().map(|envelope| envelope.id).collect();
        self.store.rekey(Rekeying { was: Some(check.clone()), check, known, dropped, ..Rekeying::default() }).await
    }
}

pub(super) struct Rotation {
    pub(super) change: Rekeying,
    pub(super) next: Ring,
    pub(super) done: Rotated,
}

impl Ring {
    /// Works out what a new master key changes; nothing is changed yet.
    pub(super) fn rotation(
        &self,
        master: &Master,
        setup: &Setup,
        sealed: &Sealed,
        data_keys: bool,
        shared: bool,
    ) -> Result<Rotation, VaultError> {
        let mut next = self.under(master);
        let mut done = Rotated { master_key: master.fingerprint(), ..Rotated::default() };
        let mut change = Rekeying { was: Some(self.check.clone()), check: next.check.clone(), ..Rekeying::default() };
        change.known = setup.envelopes.iter().map(|envelope| envelope.id).collect();
        let merchants: HashSet<Id> = setup.rows.iter().map(|row| row.id).filter(|id| id.kind() == Kind::Merchant).collect();
        for owner in merchants.into_iter().map(Some).chain([None]) {
            if data_keys || !next.current.contains_key(&owner) {
                change.envelopes.push(next.renew(owner));
            }
        }
        done.made = change.envelopes.len();
        self.reseal(&next, setup, sealed, &mut change, &mut done);
        let used = still_used(setup, sealed, &change);
        for envelope in setup.envelopes.iter() {
            let newest = self.current.get(&envelope.merchant).copied().unwrap_or(envelope.id);
            let old_ms = (newest.ordinal() >> 12) - (envelope.id.ordinal() >> 12);
            // What lies under the hub's own keys is not all known here.
            let of_merchant = envelope.purpose == Purpose::Seal && envelope.merchant.is_some();
            let superseded = of_merchant && newest != envelope.id && old_ms.abs() > KEPT_MS;
            if envelope.purpose == Purpose::Handover || superseded && !used.contains(&envelope.id) {
                change.dropped.push(envelope.id);
            } else {
                change.envelopes.push(next.wrapped_anew(envelope).ok_or(VaultError::Unknown)?);
                done.wrapped += 1;
            }
        }
        change.envelopes.extend(shared.then(|| self.hand_over(&next)).flatten());
        done.resealed = change.settings.len() + change.sessions.len();
        Ok(Rotation { change, next, done })
    }

    /// Seals under the newest keys what does not lie there yet.
    fn reseal(&self, next: &Self, setup: &Setup, sealed: &Sealed, change: &mut Rekeying, done: &mut Rotated) {
        let merchants: HashMap<Id, Id> = setup.rows.iter().filter_map(|row| Some((row.id, row.merchant?))).collect();
        for row in &setup.rows {
            let (Some(merchant), Some(was)) = (row.merchant, row.sealed.clone()) else { continue };
            if next.is_current(Some(merchant), &was) {
                continue;
            }
            // Each secret of a row is sealed by itself.
            match self.unseal_settings(merchant, row.id, &was).map(|plain| next.seal_settings(merchant, row.id, &plain)) {
                Ok(now) => change.settings.push(Resealed { id: row.id, was, now }),
                Err(_) => done.unopened += 1,
            }
        }
        for (connection, was) in &sealed.sessions {
            let Some(merchant) = merchants.get(connection).copied() else { continue };
            if next.is_current(Some(merchant), was) {
                continue;
            }
            let place = Place { merchant, connection: *connection, field: SESSION };
            match self.unseal(place, was) {
                Ok(plain) => {
                    let now = next.seal(place, &plain);
                    change.sessions.push(Resealed { id: *connection, was: was.clone(), now });
                }
                Err(_) => done.unopened += 1,
            }
        }
    }
}

/// The envelopes whose keys sealed what stays as it is.
fn still_used(setup: &Setup, sealed: &Sealed, change: &Rekeying) -> HashSet<Id> {
    let settings: HashSet<Id> = change.settings.iter().map(|row| row.id).collect();
    let sessions: HashSet<Id> = change.sessions.iter().map(|row| row.id).collect();
    let rows = setup.rows.iter().filter(|row| !settings.contains(&row.id)).filter_map(|row| row.sealed.as_deref());
    let logins = sealed.sessions.iter().filter(|(link, _)| !sessions.contains(link)).map(|(_, sealed)| sealed.as_slice());
    rows.chain(logins).flat_map(envelopes_of).flatten().collect()
}
