//! Calls that wait for the line, and those that wait for a person. Every change is in the file before it is told.

mod people;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

pub(crate) use people::Counts;
pub(crate) use people::WishError;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    journal::{Journal, JournalError},
    key::Key,
    record::{Call, Kept, Line, LocalHold, Told, Trouble},
};

/// Below this the file is not written anew for what in it is over.
const FILE_BYTES_MIN: u64 = 1 << 20;
/// Holds made here, and answers kept, at most.
const BESIDE_MAX: usize = 10_000;
/// A till that quoted so long ago will not commit.
const HOLD_MS: i64 = 24 * 3_600_000;
const TOLD_MS: i64 = 72 * 3_600_000;
/// The longest time between two tries of one call.
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("as many calls wait as may ({0}): somebody must look at the line, or at what waits for a person")]
    Full(usize),
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// One call in the queue.
pub(crate) struct Entry {
    pub kept: Kept,
    pub hold: Option<String>,
    pub trouble: Option<Trouble>,
    /// Tries since the start.
    pub tries: u32,
    pub due: Instant,
    /// What the last try came to.
    pub last: Option<String>,
}

/// What the sender has to do.
pub(crate) enum Next {
    /// This call, with the hub's hold if it is a sale made without the hub that has one.
    Send(Box<(Kept, Option<String>)>),
    At(Instant),
    Nothing,
}

pub(crate) struct Queue {
    journal: Journal,
    entries: BTreeMap<u64, Entry>,
    ids: HashMap<String, u64>,
    keys: HashMap<String, u64>,
    holds: HashMap<String, LocalHold>,
    told: HashMap<String, Told>,
    damage: Option<(usize, String)>,
    number: u64,
    max: usize,
    keep_ms: i64,
}

impl Queue {
    pub(crate) fn open(path: &Path, key: Key, max: usize, keep_hours: u32, now_ms: i64) -> anyhow::Result<Self> {
        let (journal, found) = Journal::open(path, key)?;
        let mut queue = Self {
            journal,
            entries: BTreeMap::new(),
            ids: HashMap::new(),
            keys: HashMap::new(),
            holds: HashMap::new(),
            told: HashMap::new(),
            damage: None,
            number: 0,
            max,
            keep_ms: i64::from(keep_hours) * 3_600_000,
        };
        for line in &found.lines {
            match Line::read(line) {
                Some(line) => queue.take(line),
                None => {
                    anyhow::bail!("queue {} was written by a newer version of the bridge. Nothing was changed", path.display())
                }
            }
        }
        if found.torn_bytes > 0 {
            tracing::warn!(bytes = found.torn_bytes, "the queue's last line was torn: nobody had been told of it");
        }
        if let Some(damage) = found.damage {
            let kept = damage.kept.display().to_string();
            tracing::error!(bytes = damage.bytes, kept, "part of the queue cannot be read: a person must look at what was sold");
            queue.damage = Some((damage.bytes, kept));
        }
        queue.forget_old(now_ms);
        let lines = queue.lines(now_ms);
        match queue.journal.rewrite(&lines) {
            // A full disk must not keep the bridge from sending what waits; but damage may not be left among what is written next.
            Err(error) if queue.damage.is_none() => tracing::warn!("the queue's file stays as large as it is: {error}"),
            rewritten => rewritten?,
        }
        Ok(queue)
    }

    /// Does to what is in memory what a line says.
    fn take(&mut self, line: Line) {
        match line {
            Line::Put { kept } => {
                if let Some(hold) = &kept.quote {
                    self.holds.remove(&hold.id);
                }
                self.number += 1;
                self.ids.insert(kept.id.clone(), self.number);
                self.keys.insert(kept.key.clone(), self.number);
                let entry = Entry { kept: *kept, hold: None, trouble: None, tries: 0, due: Instant::now(), last: None };
                self.entries.insert(self.number, entry);
            }
            Line::Held { id, hold } => {
                if let Some(entry) = self.entry(&id) {
                    entry.hold = Some(hold);
                }
            }
            Line::Done { id, told } => {
                self.remove(&id);
                if let Some(told) = told {
                    self.told.insert(told.key.clone(), told);
                }
            }
            Line::Trouble { id, trouble } => {
                if let Some(entry) = self.entry(&id) {
                    entry.trouble = Some(trouble);
                }
            }
            Line::Again { id } => {
                if let Some(entry) = self.entry(&id) {
                    entry.trouble = None;
                    // The hub's hold may have run out: it is asked for another.
                    entry.hold = None;
                    entry.tries = 0;
                    entry.due = Instant::now();
                }
            }
            Line::Dropped { id } => self.remove(&id),
            Line::Hold { hold } => {
                self.holds.insert(hold.id.clone(), hold);
            }
            Line::Unhold { id } => {
                self.holds.remove(&id);
            }
            Line::Told { told } => {
                self.told.insert(told.key.clone(), told);
            }
            Line::Damage { bytes, kept, .. } => self.damage = Some((bytes, kept)),
            Line::Acknowledged => self.damage = None,
        }
    }

    fn entry(&mut self, id: &str) -> Option<&mut Entry> {
        self.entries.get_mut(self.ids.get(id)?)
    }

    fn remove(&mut self, id: &str) {
        if let Some(entry) = self.ids.remove(id).and_then(|number| self.entries.remove(&number)) {
            self.keys.remove(&entry.kept.key);
        }
    }

    /// Writes a line, and then does what it says.
    fn write(&mut self, line: Line) -> Result<(), JournalError> {
        self.journal.append(&[line.bytes()])?;
        self.take(line);
        Ok(())
    }

    /// All that still counts, as lines.
    fn lines(&self, now_ms: i64) -> Vec<Zeroizing<Vec<u8>>> {
        let mut lines = Vec::new();
        if let Some((bytes, kept)) = &self.damage {
            lines.push(Line::Damage { bytes: *bytes, kept: kept.clone(), at_ms: now_ms }.bytes());
        }
        for entry in self.entries.values() {
            let id = || entry.kept.id.clone();
            lines.push(Line::Put { kept: Box::new(entry.kept.clone()) }.bytes());
            lines.extend(entry.hold.clone().map(|hold| Line::Held { id: id(), hold }.bytes()));
            lines.extend(entry.trouble.clone().map(|trouble| Line::Trouble { id: id(), trouble }.bytes()));
        }
        lines.extend(self.holds.values().map(|hold| Line::Hold { hold: hold.clone() }.bytes()));
        lines.extend(self.told.values().map(|told| Line::Told { told: told.clone() }.bytes()));
        lines
    }

    fn forget_old(&mut self, now_ms: i64) {
        self.holds.retain(|_, hold| now_ms - hold.at_ms < HOLD_MS);
        self.told.retain(|_, told| now_ms - told.at_ms < TOLD_MS);
    }

    /// Writes the file anew when most of it is over.
    pub(crate) fn tidy(&mut self, now_ms: i64) {
        if self.journal.bytes() < FILE_BYTES_MIN {
            return;
        }
        self.forget_old(now_ms);
        let lines = self.lines(now_ms);
        let live: usize = lines.iter().map(|line| line.len() + 64).sum();
        if live as u64 * 2 < self.journal.bytes()
            && let Err(error) = self.journal.rewrite(&lines)
        {
            tracing::warn!("the queue's file stays as large as it is: {error}");
        }
    }

    /// Keeps a call. When this gives `Ok`, it is on the disk.
    pub(crate) fn put(&mut self, kept: Kept) -> Result<(), QueueError> {
        if self.entries.len() >= self.max {
            return Err(QueueError::Full(self.max));
        }
        Ok(self.write(Line::Put { kept: Box::new(kept) })?)
    }

    pub(crate) fn by_key(&self, key: &str) -> Option<&Entry> {
        self.entries.get(self.keys.get(key)?)
    }

    /// What was answered to a sale that was made without the hub and is done by now.
    pub(crate) fn told(&self, key: &str) -> Option<&Told> {
        self.told.get(key)
    }

    /// Whether a call of this order must wait for one from before: each for those under way, and a refund also for a commit that
    /// a person has not decided on.
    pub(crate) fn is_behind(&self, order: &str, call: Call) -> bool {
        self.entries.values().any(|entry| entry.kept.order == order && holds_back(entry, call))
    }

    /// Whether a commit of this hold is in the queue.
    pub(crate) fn commits(&self, hold: &str) -> bool {
        let member = json!(hold);
        self.entries.values().any(|entry| {
            entry.kept.call == Call::Commit
                && serde_json::from_str::<Value>(&entry.kept.body).is_ok_and(|body| body.get("holdId") == Some(&member))
        })
    }

    pub(crate) fn hold(&mut self, hold: LocalHold) -> Result<(), QueueError> {
        self.forget_old(hold.at_ms);
        if self.holds.len() >= BESIDE_MAX {
            return Err(QueueError::Full(BESIDE_MAX));
        }
        Ok(self.write(Line::Hold { hold })?)
    }

    pub(crate) fn local_hold(&self, id: &str) -> Option<&LocalHold> {
        self.holds.get(id)
    }

    pub(crate) fn unhold(&mut self, id: &str) -> Result<(), JournalError> {
        self.write(Line::Unhold { id: id.to_owned() })
    }

    /// What is to be sent now. Calls that have been tried for too long are put before a person.
    pub(crate) fn next(&mut self, now: Instant, now_ms: i64) -> Next {
        let old: Vec<String> = self
            .entries
            .values()
            // A clock that jumped must not end what was never tried.
            .filter(|entry| entry.trouble.is_none() && entry.tries > 0 && now_ms - entry.kept.at_ms >= self.keep_ms)
            .map(|entry| entry.kept.id.clone())
            .collect();
        for id in old {
            let last = self.entry(&id).and_then(|entry| entry.last.clone()).unwrap_or_default();
            let reason = format!("it was tried for {} hours; at last: {last}", self.keep_ms / 3_600_000);
            if let Err(error) = self.trouble(&id, Trouble { status: None, reason, at_ms: now_ms, settled: false }) {
                tracing::warn!("a call that is too old stays where it is: {error}");
                break;
            }
        }
        let free = || self.in_order().filter(|(entry, is_free)| *is_free && entry.trouble.is_none()).map(|(entry, _)| entry);
        // Of those that are due the least tried, so that one that fails again and again holds no other back; then the oldest.
        match free().filter(|entry| entry.due <= now).min_by_key(|entry| entry.tries) {
            Some(entry) => Next::Send(Box::new((entry.kept.clone(), entry.hold.clone()))),
            None => free().map(|entry| entry.due).min().map_or(Next::Nothing, Next::At),
        }
    }

    /// Whether it still waits to be sent: it may have been dropped, or done by the till itself.
    pub(crate) fn waits(&self, id: &str) -> bool {
        self.ids.get(id).and_then(|number| self.entries.get(number)).is_some_and(|entry| entry.trouble.is_none())
    }

    pub(crate) fn held(&mut self, id: &str, hold: String) -> Result<(), JournalError> {
        self.write(Line::Held { id: id.to_owned(), hold })
    }

    pub(crate) fn done(&mut self, id: &str, told: Option<Told>, now_ms: i64) -> Result<(), JournalError> {
        self.write(Line::Done { id: id.to_owned(), told: told.filter(|_| self.told.len() < BESIDE_MAX) })?;
        self.tidy(now_ms);
        Ok(())
    }

    pub(crate) fn trouble(&mut self, id: &str, trouble: Trouble) -> Result<(), JournalError> {
        self.write(Line::Trouble { id: id.to_owned(), trouble })
    }

    /// It did not go: it is tried again after a pause that doubles.
    pub(crate) fn put_off(&mut self, id: &str, why: String, now: Instant, wait: Option<Duration>) {
        if let Some(entry) = self.entry(id) {
            entry.tries += 1;
            entry.due = now + wait.unwrap_or_else(|| pause(entry.tries, PAUSE_MAX));
            entry.last = Some(why);
        }
    }

    /// All are due at once.
    pub(crate) fn hurry(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.due = entry.due.min(now);
        }
    }

    /// The calls from the oldest on, each with whether none of its order stands before it.
    fn in_order(&self) -> impl Iterator<Item = (&Entry, bool)> {
        // By order: whether one before is under way, and whether a commit before needs a person.
        let mut before: HashMap<&str, (bool, bool)> = HashMap::new();
        self.entries.values().map(move |entry| {
            let (waits, troubled) = before.entry(&entry.kept.order).or_default();
            let is_free = !(*waits || *troubled && entry.kept.call == Call::Refund);
            *waits |= holds_back(entry, Call::Commit);
            *troubled |= holds_back(entry, Call::Refund);
            (entry, is_free)
        })
    }
}

/// Whether an earlier call of the same order holds a later one back.
fn holds_back(earlier: &Entry, later: Call) -> bool {
    match &earlier.trouble {
        None => true,
        Some(trouble) => later == Call::Refund && earlier.kept.call == Call::Commit && !trouble.settled,
    }
}

/// A second, doubled with each try, give or take a quarter.
pub(crate) fn pause(tries: u32, max: Duration) -> Duration {
    let seconds = 2_u64.saturating_pow(tries.saturating_sub(1).min(32));
    Duration::from_secs(seconds).min(max).mul_f64(rand::random_range(0.75..1.25))
}

pub(crate) fn when(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default()
}
