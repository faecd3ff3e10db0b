//! What people see of the store: the sync log, one entry's timeline, counts, health.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uzel_model::{Event, Id, Timestamp, port::Delivery};

use crate::{CommandState, EntryState, Exchange};

/// Which way a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Direction {
    /// Somebody called the hub, or was asked by a poll.
    #[serde(rename = "IN")]
    In,
    /// The hub called a provider.
    #[serde(rename = "OUT")]
    Out,
}

/// One line of the sync log, with the fields that the requirement names.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JournalRow {
    /// Of an entry (`inb_…`) or of an attempt (`att_…`).
    pub id: Id,
    /// When it came, or went.
    pub at: Timestamp,
    /// Whose it is.
    pub merchant_id: Id,
    /// The connection.
    pub integration_id: Id,
    /// Id of the provider, for instance `iiko`.
    pub provider: String,
    /// Which way it went.
    pub direction: Direction,
    /// Path of what came; method and address of what went, secrets masked.
    pub endpoint: String,
    /// `ok` or `error`.
    pub status: &'static str,
    /// Finer than `status`: unread, read, duplicate, dead; done, retry, unknown, dead, failed.
    pub state: String,
    /// Body that came or was sent, secrets masked.
    pub request: String,
    /// What was answered.
    pub response: String,
    /// What was wrong.
    pub error: Option<String>,
    /// How many attempts were made before this one.
    pub retry_count: u32,
    /// When it is tried again.
    pub next_retry_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Default)]
pub struct JournalFilter {
    pub merchant: Option<Id>,
    pub provider: Option<String>,
    /// Phone, order number or provider's id, exactly as journalled.
    pub reference: Option<String>,
    pub status: Option<String>,
    pub connection: Option<Id>,
    /// Only what came, in this state; *dead* is also what led to a dead command.
    pub state: Option<EntryState>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    /// Only entries older than this one.
    pub before: Option<Id>,
    pub limit: usize,
}

/// All that followed from one entry.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Timeline {
    /// The entry.
    pub entry: Id,
    /// When it came.
    pub received_at: Timestamp,
    /// Id of the provider, for instance `iiko`.
    pub provider: String,
    /// The connection that it came by.
    pub connection: Id,
    /// Whose it is.
    pub merchant: Id,
    /// How it came.
    pub source: crate::Source,
    /// Of HTTP.
    pub method: String,
    /// Path and query, without credentials.
    pub target: String,
    /// Id of the key that matched.
    pub proof: Option<String>,
    /// Names and values, without credentials.
    pub headers: Vec<(String, String)>,
    /// As it came, credentials taken out; bytes that are no text are replaced.
    pub body: String,
    /// What it was answered with.
    pub answer: String,
    /// What became of it.
    pub state: EntryState,
    /// What the reader had to say.
    pub notes: Vec<String>,
    /// One trace from the webhook to the last attempt (W3C trace id, 32 hex digits).
    pub trace: String,
    /// What was read out of it.
    pub events: Vec<Event>,
    /// What followed from that.
    pub commands: Vec<TimelineCommand>,
}

/// One call that was to be made, and what became of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TimelineCommand {
    /// The command.
    pub id: Id,
    /// The event that led to it.
    pub event: Option<Id>,
    /// The connection that it goes by.
    pub connection: Id,
    /// The flow that wanted it.
    pub flow: Option<Id>,
    /// What is asked of the provider.
    #[schemars(with = "uzel_model::Job")]
    pub job: Value,
    /// What became of it.
    pub state: CommandState,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// When it should go.
    pub due_at: Timestamp,
    /// When it is tried next, while it waits.
    pub next_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// The provider's id of what was made.
    pub provider_id: Option<String>,
    /// What the provider said became of a message.
    pub delivery: Option<Delivery>,
    /// The provider's code for that.
    pub delivery_code: Option<String>,
    /// What the message cost, decimal text.
    pub cost: Option<String>,
    /// ISO 4217.
    pub currency: Option<String>,
    /// The message that this one follows, in case that reaches nobody.
    pub after: Option<Id>,
    /// Why it follows.
    pub why: Option<String>,
    /// What was sent and answered; lists of commands leave it out.
    pub exchanges: Vec<Exchange>,
}

/// How many rows stand in which state.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Counts {
    /// Entries by state.
    pub entries: Vec<(EntryState, u64)>,
    /// Commands by state.
    pub commands: Vec<(CommandState, u64)>,
    /// Reasons of held commands.
    pub held: Vec<(String, u64)>,
}

/// What readiness is judged by.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Health {
    /// When the oldest entry came that nobody has read.
    pub oldest_unread_at: Option<Timestamp>,
    /// When the oldest command was due that waits.
    pub oldest_due_at: Option<Timestamp>,
}
