//! What is sealed, and the keys that seal it.

use uzel_model::Id;

use super::rows::Rows;
use crate::{
    Rekeying, Resealed, Sealed, StoreError,
    sealed::{MASTER, MASTER_BEFORE},
};

impl Rows {
    pub(super) fn sealed(&self) -> Sealed {
        let claimed = |name: &str| self.claims.get(name).cloned();
        let sessions = self.sessions.iter().map(|(link, sealed)| (*link, sealed.clone())).collect();
        Sealed { check: claimed(MASTER), check_before: claimed(MASTER_BEFORE), sessions }
    }

    pub(super) fn rekey(&mut self, change: Rekeying) -> Result<(), StoreError> {
        let mut known = change.known.clone();
        known.sort_unstable();
        let settings = |row: &Resealed| self.setup.get(&row.id).is_some_and(|now| now.sealed.as_ref() == Some(&row.was));
        let session = |row: &Resealed| self.sessions.get(&row.id) == Some(&row.was);
        let same = self.claims.get(MASTER) == change.was.as_ref()
            && self.envelopes.keys().copied().collect::<Vec<Id>>() == known
            && change.settings.iter().all(settings)
            && change.sessions.iter().all(session);
        if !same {
            return Err(StoreError::Conflict);
        }
        for Resealed { id, now, .. } in change.settings {
            self.setup.entry(id).and_modify(|row| row.sealed = Some(now));
        }
        for Resealed { id, now, .. } in change.sessions {
            self.sessions.insert(id, now);
        }
        self.envelopes.extend(change.envelopes.into_iter().map(|envelope| (envelope.id, envelope)));
        change.dropped.iter().for_each(|id| drop(self.envelopes.remove(id)));
        if let Some(was) = change.was.filter(|was| *was != change.check) {
            self.claims.insert(MASTER_BEFORE.to_owned(), was);
        }
        self.claims.insert(MASTER.to_owned(), change.check);
        Ok(())
    }
}
