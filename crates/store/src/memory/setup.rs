//! What is set up, who changed it and how it stood before, and what requests under callers' own keys came to.

use jiff::SignedDuration;
use uzel_model::{Id, Timestamp};

use super::rows::Rows;
use crate::{
    Audit, AuditFilter, Begun, CommandState, KeptAnswer, KeyRow, Setup, SetupRow, SetupVersion, StoreError,
    setup::{AUDIT_DAYS, VERSIONS_MAX, changed_by},
};

/// A request under a caller's own key; without an answer while it is being done.
pub(super) struct AnswerRow {
    body: [u8; 16],
    held_until: Timestamp,
    until: Timestamp,
    answer: Option<KeptAnswer>,
}

impl Rows {
    /// Whole or not at all: what can conflict goes first.
    pub(super) fn put_setup(&mut self, setup: Setup, now: Timestamp) -> Result<(), StoreError> {
        let version = |id: &Id| self.setup.get(id).map_or(0, |row| row.version);
        let moves = |id: &Id| setup.removes.contains(id) || setup.rows.iter().any(|row| row.id == *id);
        let taken = |row: &SetupRow| {
            let same =
                |known: &SetupRow| (known.id.kind(), known.merchant, &known.slug) == (row.id.kind(), row.merchant, &row.slug);
            self.setup.values().any(|known| same(known) && !moves(&known.id))
        };
        if setup.expects.iter().any(|(id, expected)| version(id) != *expected) || setup.rows.iter().any(taken) {
            return Err(StoreError::Conflict);
        }
        setup.removes.iter().for_each(|id| self.remove(*id));
        self.keys.retain(|_, key| !setup.removes_keys.contains(&key.id));
        for row in setup.rows {
            self.put_row(row, &setup.audit, now);
        }
        for key in setup.keys {
            let used = self.keys.get(&key.hash).and_then(|known| known.last_used_at);
            let key = KeyRow { last_used_at: key.last_used_at.max(used), ..key };
            self.keys.insert(key.hash.clone(), key);
        }
        setup.ends_logins.iter().for_each(|link| drop(self.sessions.remove(link)));
        setup.ends_cursors.iter().for_each(|link| drop(self.cursors.remove(link)));
        self.put_audit(setup.audit, now);
        self.hold_removed();
        Ok(())
    }

    fn put_row(&mut self, row: SetupRow, audit: &[Audit], now: Timestamp) {
        let same = |known: &SetupRow| known.slug == row.slug && known.doc == row.doc && known.sealed == row.sealed;
        if self.setup.get(&row.id).is_some_and(same) {
            return;
        }
        let (by, at) = changed_by(audit, row.id);
        let versions = self.versions.entry(row.id).or_default();
        let version = versions.front().map_or(1, |newest: &SetupVersion| newest.version + 1);
        let (by, at, slug, doc) = (by.to_owned(), at.unwrap_or(now), row.slug.clone(), row.doc.clone());
        versions.push_front(SetupVersion { version, at, by, slug, doc });
        versions.truncate(VERSIONS_MAX as usize);
        self.removed.remove(&row.id);
        self.setup.insert(row.id, SetupRow { version, ..row });
    }

    fn remove(&mut self, id: Id) {
        if self.setup.remove(&id).is_none() {
            return;
        }
        self.removed.insert(id);
        self.keys.retain(|_, key| key.of != Some(id));
        self.sessions.remove(&id);
        self.cursors.remove(&id);
        self.breakers.remove(&id);
        self.rhythms.remove(&id);
        self.refusals.remove(&id.to_string());
    }

    /// Holds what waits for connections that are gone, but for what is being sent.
    pub(super) fn hold_removed(&mut self) {
        let gone = |id: &&Id| self.removed.contains(&self.commands[*id].command.connection) && !self.sending.contains_key(id);
        let waiting: Vec<Id> = self.waiting.iter().filter(gone).copied().collect();
        for id in waiting {
            let row = self.commands.get_mut(&id).expect("what waits is a command");
            row.reason = Some(Setup::REMOVED.to_owned());
            let event = row.command.event;
            self.close(event);
            self.slots.retain(|_, (_, command)| *command != id);
            self.stands(id, CommandState::Held);
        }
    }

    pub(super) fn put_audit(&mut self, rows: Vec<Audit>, now: Timestamp) {
        let newest = rows.iter().map(|row| row.at).max();
        for row in rows {
            self.audit.entry(row.id).or_insert(row);
        }
        if let Some(newest) = newest {
            let before = newest.min(now) - SignedDuration::from_hours(24 * AUDIT_DAYS);
            self.audit.retain(|_, row| row.at >= before);
        }
    }

    pub(super) fn audit(&self, filter: &AuditFilter) -> Vec<Audit> {
        let wanted = |row: &&Audit| {
            filter.merchant.is_none_or(|merchant| row.merchant == Some(merchant))
                && filter.object.as_ref().is_none_or(|object| row.object == *object)
                && filter.before.is_none_or(|before| row.id < before)
        };
        self.audit.values().rev().filter(wanted).take(filter.limit).cloned().collect()
    }

    pub(super) fn begin(&mut self, key: [u8; 16], body: [u8; 16], now: Timestamp, hold_ms: i64, keep_until: Timestamp) -> Begun {
        match self.answers.get(&key).filter(|known| known.until > now) {
            Some(known) if known.body != body => return Begun::Other,
            Some(AnswerRow { answer: Some(answer), .. }) => return Begun::Done(answer.clone()),
            Some(known) if known.held_until > now => return Begun::Running,
            _ => {}
        }
        let held_until = now + SignedDuration::from_millis(hold_ms);
        self.answers.insert(key, AnswerRow { body, held_until, until: keep_until, answer: None });
        Begun::New
    }

    pub(super) fn end(&mut self, key: [u8; 16], answer: Option<KeptAnswer>) {
        if let Some(row) = self.answers.get_mut(&key).filter(|row| row.answer.is_none()) {
            match answer {
                Some(answer) => row.answer = Some(answer),
                None => drop(self.answers.remove(&key)),
            }
        }
    }
}
