//! What is to be written, with its documents made out.

use uzel_model::Job;

use crate::{Change, Entry, LoyaltyChange, NewEvent};

/// An entry with its lists written out, so that whoever writes it need not.
pub(crate) struct EntryRow {
    pub(crate) entry: Entry,
    pub(crate) query: String,
    pub(crate) headers: String,
}

impl From<Entry> for EntryRow {
    fn from(entry: Entry) -> Self {
        let json = |pairs: &Vec<(String, String)>| serde_json::to_string(pairs).expect("pairs of texts are JSON");
        Self { query: json(&entry.request.query), headers: json(&entry.request.headers), entry }
    }
}

impl EntryRow {
    pub(crate) fn bytes(&self) -> usize {
        self.entry.request.body.len() + self.headers.len() + self.query.len()
    }
}

/// A change with its documents written out, so that whoever writes it need not.
pub(crate) struct Ready {
    pub(crate) change: Change,
    pub(crate) entries: Vec<EntryRow>,
    pub(crate) events: Vec<Documents>,
    pub(crate) resolved: Option<Documents>,
    pub(crate) jobs: Vec<String>,
    pub(crate) points: PointDocuments,
}

/// The documents of what moves points, in the order of the change.
#[derive(Default)]
pub(crate) struct PointDocuments {
    pub(crate) wallets: Vec<String>,
    pub(crate) holds: Vec<String>,
    pub(crate) receipts: Vec<String>,
    /// Of each movement, where there are any.
    pub(crate) lots: Vec<Option<String>>,
}

impl PointDocuments {
    fn of(change: &LoyaltyChange) -> Self {
        let json = |row: serde_json::Result<String>| row.expect("what moves points is JSON");
        let lots = change.ledger.iter().map(|entry| (!entry.lots.is_empty()).then(|| json(serde_json::to_string(&entry.lots))));
        Self {
            wallets: change.wallets.iter().map(|wallet| json(serde_json::to_string(wallet))).collect(),
            holds: change.holds.iter().map(|hold| json(serde_json::to_string(hold))).collect(),
            receipts: change.receipts.iter().map(|receipt| json(serde_json::to_string(receipt))).collect(),
            lots: lots.collect(),
        }
    }
}

/// An event's document and its commands' jobs.
pub(crate) struct Documents {
    pub(crate) event: String,
    pub(crate) jobs: Vec<String>,
}

impl Documents {
    fn of(new: &NewEvent) -> Self {
        Self {
            event: serde_json::to_string(&new.event).expect("an event is JSON"),
            jobs: new.commands.iter().map(|new| job(&new.command.job)).collect(),
        }
    }
}

fn job(job: &Job) -> String {
    serde_json::to_string(job).expect("a job is JSON")
}

impl From<Change> for Ready {
    fn from(mut change: Change) -> Self {
        Self {
            entries: std::mem::take(&mut change.entries).into_iter().map(EntryRow::from).collect(),
            events: change.events.iter().map(Documents::of).collect(),
            resolved: change.resolved.as_ref().map(Documents::of),
            jobs: change.commands.iter().map(|new| job(&new.command.job)).collect(),
            points: change.loyalty.as_deref().map(PointDocuments::of).unwrap_or_default(),
            change,
        }
    }
}
