//! What people see of the store: the sync log, one entry's timeline, counts, health.

use serde::Serialize;
use serde_json::Value;
use uzel_model::{Event, Id, Timestamp, port::Delivery};

use crate::{CommandState, EntryState, Exchange};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Direction {
    #[serde(rename = "IN")]
    In,
    #[serde(rename = "OUT")]
    Out,
}

/// One line of the sync log, with the fields that the requirement names.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRow {
    pub id: Id,
    pub at: Timestamp,
    pub merchant_id: Id,
    pub integration_id: Id,
    pub provider: String,
    pub direction: Direction,
    pub endpoint: String,
    /// `ok` or `error`.
    pub status: &'static str,
    /// Finer than `status`: unread, read, duplicate, dead; done, retry, unknown, dead, failed.
    pub state: String,
    pub request: String,
    pub response: String,
    pub error: Option<String>,
    pub retry_count: u32,
    pub next_retry_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct JournalFilter {
    pub merchant: Option<Id>,
    /// One connection, or one endpoint.
    pub way_out: Option<Id>,
    pub provider: Option<String>,
    /// Phone, order number or provider's id, exactly as journalled.
    pub reference: Option<String>,
    pub status: Option<String>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only entries older than this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// All that followed from one entry.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    pub entry: Id,
    pub received_at: Timestamp,
    pub provider: String,
    pub connection: Id,
    pub merchant: Id,
    pub source: crate::Source,
    pub method: String,
    pub target: String,
    pub proof: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: String,
    /// What it was answered with.
    pub answer: String,
    pub state: EntryState,
    pub notes: Vec<String>,
    pub trace: String,
    pub events: Vec<Event>,
    pub commands: Vec<TimelineCommand>,
}

#[derive(Debug, Clone, Serialize)]
pub struct TimelineCommand {
    pub id: Id,
    pub event: Option<Id>,
    pub connection: Id,
    pub flow: Option<Id>,
    pub job: Value,
    pub state: CommandState,
    pub reason: Option<String>,
    pub due_at: Timestamp,
    pub next_at: Timestamp,
    pub attempts: u32,
    pub provider_id: Option<String>,
    /// What the provider said became of a message, and its code for that.
    pub delivery: Option<Delivery>,
    pub delivery_code: Option<String>,
    pub exchanges: Vec<Exchange>,
}

/// How many rows stand in which state.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    pub entries: Vec<(EntryState, u64)>,
    pub commands: Vec<(CommandState, u64)>,
    /// Reasons of held commands.
    pub held: Vec<(String, u64)>,
}

/// What readiness is judged by.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Health {
    pub oldest_unread_at: Option<Timestamp>,
    pub oldest_due_at: Option<Timestamp>,
}
