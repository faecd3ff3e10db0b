//! The durable journals and what the hub must remember, behind one interface.
//!
//! [`Store`] is shaped by what the loops of the engine do, not by tables: append what came, hand out what is unread, commit
//! one [`Change`] whole, lease what is due. SQL stands only below this crate's store folders; no business rule stands here.

mod bounce;
mod chain;
mod code;
mod consent;
mod copy;
mod erasure;
mod feed;
mod figures;
mod generate;
mod heard;
mod lost;
mod loyalty;
#[cfg(feature = "memory")]
mod memory;
mod numbers;
mod postgres;
mod ready;
mod review;
mod sealed;
mod setup;
mod sqlite;
mod stats;
mod view;
mod watch;

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use async_trait::async_trait;
pub use chain::{Early, Follow, Message, Next, STOPPED, Spent, Step};
pub use code::{CodeLimit, CodeTry, NewCode};
pub use consent::{Consent, ConsentHow, ConsentPurpose, Contact, OptOut};
pub use copy::{CopyError, CopyReport, Copying, Place, TableReport, copy, rows_to_copy};
pub use erasure::{ERASED, Erased, ErasurePlace, PhoneHash};
pub use feed::{Cancelled, CommandFilter, EventFilter, FeedCursor, FeedFrom, FeedPage, NoCursor, StoredEvent, is_wanted};
pub use figures::{CostFigure, EventFigure, Figures, FiguresOf, MessageFigure, PointsFigure, PointsFigures, PointsOf};
pub use generate::{Generator, Past, Text};
pub use heard::Heard;
pub use loyalty::{
    KeptReply, LedgerFilter, LoyaltyAudit, LoyaltyChange, LoyaltyLook, LoyaltySeen, Progress, PromoUse, PromoUses, SpentToken,
    WalletFilter, Who,
};
#[cfg(feature = "memory")]
pub use memory::Memory;
pub use postgres::{Migration, Postgres, PostgresOptions};
pub use review::{
    LeftReview, LinkNews, LinkPurpose, MapService, Review, ReviewAnswer, ReviewCount, ReviewFilter, ReviewReply, ShortLink,
};
use schemars::JsonSchema;
pub use sealed::{Envelope, Purpose, Rekeying, Resealed, Sealed};
use serde::{Deserialize, Serialize};
pub use setup::{Audit, AuditFilter, Begun, KeptAnswer, KeyRow, Setup, SetupRow, SetupVersion};
pub use sqlite::{Copied, Sqlite};
pub use stats::{Lane, LaneStats, Spread, Stats};
use tokio::sync::{Notify, broadcast, watch as watched};
use uzel_model::{
    Event, Id, Job, Request, Timestamp,
    connector::StatusNews,
    loyalty::{self as points, Wallet},
};
pub use view::{Counts, Direction, Health, JournalFilter, JournalRow, Timeline, TimelineCommand};
pub use watch::{OpenBreaker, Refusal, Rhythm, WrongKey};

/// Why the store did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too much is waiting to be written: nothing was done, try again.
    #[error("the journal is busy")]
    Busy,
    /// Someone else has done or taken this over meanwhile; nothing was done.
    #[error("somebody else has taken it over")]
    Conflict,
    /// The disk or the server refuses: nothing was done.
    #[error("the journal cannot be written: {0}")]
    Failed(String),
}

/// Why a start is refused that may not take the steps of the schema that are missing.
fn lacks(number: u32, name: &str) -> StoreError {
    StoreError::Failed(format!(
        "the database lacks step {number} ({name}): run `uzel migrate --apply` first, or set `migrate = true`"
    ))
}

/// What became of a law that was found to be broken; `left`: how often it still is, where it was to be mended.
fn fate(can_be_mended: bool, left: Option<i64>) -> String {
    match left {
        Some(0) => "mended".to_owned(),
        Some(left) => format!("{left} left: what is being sent is not touched, look again when that has ended"),
        None if can_be_mended => "can be mended by --repair".to_owned(),
        None => "a person must look".to_owned(),
    }
}

/// A row of the inbox: a verified request, without its credentials.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: Id,
    pub merchant: Id,
    pub connection: Id,
    pub provider: String,
    pub request: Request,
    /// What it was answered with; nothing where the hub asked itself (a poll).
    pub answer: String,
    pub source: Source,
    pub trace: String,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The provider called.
    Webhook,
    /// Asked for by a poll.
    Poll,
    /// Asked and answered: journalled together with its answer.
    Question,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// Nobody has read it yet.
    Unread,
    /// It has been read.
    Read,
    /// All that it told was known before.
    Duplicate,
    /// It cannot be read: a person must look.
    Dead,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// Its time has not come, or it is tried again.
    Waiting,
    /// It is with the provider now.
    Sending,
    /// The provider has confirmed it.
    Done,
    /// It failed for good.
    Dead,
    /// It was sent, and nobody knows what the provider did.
    Unknown,
    /// Held back on purpose, with a reason.
    Held,
}

/// One call that must be made.
#[derive(Debug, Clone)]
pub struct Command {
    pub id: Id,
    pub merchant: Id,
    pub connection: Id,
    pub flow: Option<Id>,
    pub event: Option<Id>,
    pub job: Job,
    /// When it should go; also its place in the order of its key.
    pub due_at: Timestamp,
    /// After this it is held back as `too_old`.
    pub latest_at: Option<Timestamp>,
    /// The connection whose event led to it.
    pub source: Id,
    pub attempts: u32,
    /// What is known of the person it goes to, when it was leased.
    pub contact: Contact,
    /// Fencing token: no two leases have the same.
    pub lease: i64,
    pub trace: String,
}

/// A command to be queued.
#[derive(Debug, Clone)]
pub struct NewCommand {
    pub command: Command,
    /// Commands of one key go one after another.
    pub ordering_key: String,
    /// What it is about at its source, by which it can be called off.
    pub subject: String,
    /// Where set, it is stored as held back, with this reason.
    pub held: Option<String>,
    /// Taken for this command, or the command is held back.
    pub slot: Option<Slot>,
}

/// A place that few commands at a time may take: one review request per phone in N days, so many messages a week.
#[derive(Debug, Clone)]
pub struct Slot {
    pub key: [u8; 16],
    /// How many commands may hold it at once.
    pub places: u8,
    pub until: Timestamp,
    /// Why a command is held back that finds all taken.
    pub reason: String,
    /// Taken as well, or none of the two is.
    pub also: Option<Box<Slot>>,
}

impl Slot {
    /// The keys of its places: the first is its own.
    pub(crate) fn keys(&self) -> impl Iterator<Item = [u8; 16]> {
        let key = self.key;
        (0..self.places.max(1)).map(move |place| {
            let mut key = key;
            key[15] ^= place;
            key
        })
    }

    /// It, and what is taken with it.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |slot| slot.also.as_deref())
    }
}

/// An event to be kept, with what follows from it. A known key drops all of it.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub event: Event,
    pub commands: Vec<NewCommand>,
    /// Waiting commands of the event's subject and connection are called off with this reason; what is being sent at that
    /// moment is not tried again.
    pub call_off: Option<String>,
    /// A look-up was queued: flows run when it is settled.
    pub pending: bool,
}

/// How a leased command ended this time.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub command: Id,
    pub lease: i64,
    pub state: CommandState,
    /// When it is due again, if it waits.
    pub retry_at: Option<Timestamp>,
    pub reason: Option<String>,
    /// The provider's id of what was made.
    pub provider_id: Option<String>,
    /// The exchanges of this attempt.
    pub exchanges: Vec<Exchange>,
    /// What people search this by.
    pub refs: Vec<String>,
    /// Whether this counts as an attempt (a wait for quiet hours does not).
    pub counts: bool,
    /// Gives the slots that this command holds back.
    pub frees_slot: bool,
}

impl Settlement {
    /// What it comes to where the command was called off while it was being sent: what is done or unknown stays so, nothing is
    /// tried again, and no replay takes it up. What is unknown is done where a status has told the provider's id of it.
    fn after(&self, called_off: Option<String>, told: Option<String>) -> Cow<'_, Self> {
        match (self.state, called_off, told) {
            (CommandState::Unknown, _, Some(provider_id)) => Cow::Owned(self.taken(provider_id)),
            (CommandState::Waiting | CommandState::Dead, Some(reason), _) => Cow::Owned(Self {
                state: CommandState::Held,
                retry_at: None,
                reason: Some(reason),
                frees_slot: true,
                ..self.clone()
            }),
            _ => Cow::Borrowed(self),
        }
    }
}

/// One request to a provider and its answer, with secrets taken out.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Exchange {
    /// The attempt.
    pub id: Id,
    /// Whose it is.
    pub merchant: Id,
    /// The connection whose provider was called.
    pub connection: Id,
    /// Id of the provider, for instance `iiko`.
    pub provider: String,
    /// When it was sent.
    pub at: Timestamp,
    /// Method and address that were called, secrets masked.
    pub endpoint: String,
    /// What was sent, secrets masked.
    pub request: String,
    /// What was answered, secrets masked.
    pub response: String,
    /// What went wrong.
    pub error: Option<String>,
    /// Milliseconds from the request to the end of the answer.
    pub duration_ms: i64,
    /// One trace from the webhook to the last attempt (W3C trace id, 32 hex digits).
    pub trace: String,
}

/// What one transaction commits, whole or not at all.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Entries to be appended: those of polls unread, questions as read.
    pub entries: Vec<Entry>,
    /// The entry this was read from, and what became of it. `Read` turns to `Duplicate` when all its events were known.
    pub mark: Option<Mark>,
    pub events: Vec<NewEvent>,
    /// Commands that follow from an event told before (a replay).
    pub commands: Vec<NewCommand>,
    pub statuses: Vec<(Id, StatusNews)>,
    /// People who wrote.
    pub heard: Vec<Heard>,
    pub settlement: Option<Settlement>,
    /// What the settlement says of a message.
    pub step: Option<Step>,
    /// Messages that end with the settled command, since one call was made for all of them.
    pub parts: Vec<Part>,
    pub follow: Option<Follow>,
    /// Where news stand of messages that are not known.
    pub early: Vec<Early>,
    pub verdict: Option<Verdict>,
    /// A look-up has ended: the event with what was found, and the commands that follow.
    pub resolved: Option<NewEvent>,
    /// A poll's place; another one than `was` is a conflict: somebody else has polled meanwhile.
    pub cursor: Option<Cursor>,
    /// The connection whose login is void. Only where an event of this change is new: a replay must not end a login that
    /// was made since.
    pub ends_login: Option<Id>,
    pub opt_outs: Vec<(Id, String)>,
    /// Words of people about messages, with their proof; a known key changes nothing.
    pub words: Vec<Consent>,
    /// Short links in the messages of this change.
    pub links: Vec<ShortLink>,
    /// What became of links, by the hashes of their codes.
    pub link_news: Vec<([u8; 16], LinkNews)>,
    pub left_review: Option<LeftReview>,
    pub review_reply: Option<ReviewReply>,
    pub notices: Vec<Notice>,
    /// Points that move.
    pub loyalty: Option<Box<LoyaltyChange>>,
    /// Exchanges outside any command (polls, checks).
    pub exchanges: Vec<Exchange>,
    /// People are told of these by this change; that they were told before is a conflict.
    pub told: Option<Told>,
    /// The caller's own key; a known one is a conflict, and [`Store::once`] tells what it stands for.
    pub once: Option<Once>,
    pub now: Option<Timestamp>,
}

impl Change {
    /// What providers refused since a person wants no messages, as the words of those people.
    pub(crate) fn opt_out_words(&self) -> Vec<Consent> {
        let at = self.now.unwrap_or(Timestamp::UNIX_EPOCH);
        self.opt_outs.iter().map(|(merchant, address)| consent::refused(*merchant, address, at)).collect()
    }

    /// Whether events may be whole by it.
    pub(crate) fn may_tell(&self) -> bool {
        let failed = |ended: &Settlement| !matches!(ended.state, CommandState::Waiting | CommandState::Done);
        !self.events.is_empty() || self.resolved.is_some() || self.settlement.as_ref().is_some_and(failed)
    }
}

/// A message of a batch, and how it ended with it. One that does not wait any more stays as it is.
#[derive(Debug, Clone)]
pub struct Part {
    pub command: Id,
    /// Done or dead.
    pub state: CommandState,
    pub reason: Option<String>,
    /// The provider's id of the message.
    pub provider_id: Option<String>,
}

/// What was found out of a command whose outcome was unknown; of any other it is a conflict.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub command: Id,
    /// Done or dead. What is dead has asked nobody: its slot is free again.
    pub state: CommandState,
    pub reason: String,
    /// The provider's id of the message, where it was found out; one that is another command's is a conflict.
    pub provider_id: Option<String>,
    /// How the journal tells of it.
    pub exchange: Exchange,
}

/// Where a connection's polls stand: from where, and to where.
#[derive(Debug, Clone)]
pub struct Cursor {
    pub connection: Id,
    pub was: Option<String>,
    pub next: String,
}

/// What was asked for under a caller's own key (an idempotency key), so that a repeat is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    pub key: [u8; 16],
    /// Hash of what was asked: another body under the same key is told apart.
    pub body: [u8; 16],
    pub command: Id,
    pub until: Timestamp,
}

/// What another node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Commands were queued.
    Due,
    /// Something was set up.
    Setup,
    /// A login was made, renewed or ended.
    Login(Id),
    /// A breaker opened or closed.
    Breakers,
}

/// What stands behind the engine, for people.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct About {
    /// `SQLite` or `PostgreSQL`.
    pub kind: &'static str,
    /// The database's own.
    pub version: String,
    /// Number of the newest migration that has been applied.
    pub schema: u32,
    /// Number of the newest migration that this program knows.
    pub schema_known: u32,
    /// Size of the database.
    pub bytes: u64,
    /// Nodes that have been seen lately, this one included.
    pub nodes: u32,
}

#[derive(Debug, Clone)]
pub struct Mark {
    pub entry: Id,
    /// A replay: the entry has been read before. Else an entry that somebody has read meanwhile is a conflict.
    pub again: bool,
    pub state: EntryState,
    pub notes: Vec<String>,
    pub refs: Vec<String>,
}

/// Something a person should know; the same kind for the same thing is told once a day.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Notice {
    /// Whose it is.
    pub merchant: Id,
    /// The connection that it is about.
    pub connection: Id,
    /// What it is about, for programs.
    pub kind: String,
    /// What it is about, for people.
    pub text: String,
}

/// A notice that nobody was told of yet.
#[derive(Debug, Clone)]
pub struct Untold {
    pub notice: Notice,
    /// When it was noticed, in days since 1970.
    pub day: i64,
}

/// Notices of a merchant that people are told of, each by its connection, kind and day.
#[derive(Debug, Clone)]
pub struct Told {
    pub merchant: Id,
    pub notices: Vec<(Id, String, i64)>,
    /// To the millisecond. Those of one moment were told at once.
    pub at: Timestamp,
}

/// What was taken to be sent.
#[derive(Debug, Clone, Default)]
pub struct Leased {
    pub commands: Vec<Command>,
    /// When the next command of these connections falls due, where none was left behind by the limits.
    pub next_at: Option<Timestamp>,
}

/// What a change did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    pub new_events: u32,
    pub duplicates: u32,
    pub queued: u32,
    /// Entries that are unread again, since what they told of is known now.
    pub read_again: u32,
}

/// The store, as the engine sees it. Every method that writes has committed when it returns `Ok`.
#[async_trait]
pub trait Store: Send + Sync {
    /// Notified whenever entries have been appended, also those whose bringer did not wait for the end.
    fn appended(&self) -> Arc<Notify>;
    /// Appends one entry, durably; groups with what else is waiting.
    async fn append(&self, entry: Entry) -> Result<(), StoreError>;
    /// Hands out entries that nobody has read yet, oldest first. Whoever takes them reads them or asks again; an entry that
    /// comes twice is a conflict in [`Store::apply`].
    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError>;
    async fn entry(&self, id: Id) -> Result<Option<Entry>, StoreError>;
    /// Commits changes, each whole or not at all, in their order.
    async fn apply_all(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>>;
    async fn apply(&self, change: Change) -> Result<Applied, StoreError> {
        let ended = self.apply_all(vec![change]).await.pop();
        ended.unwrap_or_else(|| Err(StoreError::Failed("the change has no outcome".to_owned())))
    }
    /// Takes due commands, of each connection at most so many, and marks them *sending*.
    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError>;
    /// Takes back what has been *sending* for longer than its lease, or was left by a process that is known to be dead:
    /// repeatable jobs wait again, others become unknown.
    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError>;
    async fn event(&self, id: Id) -> Result<Option<Event>, StoreError>;
    /// A merchant's events after this one, oldest first, each with the states of what was queued of it for one connection or
    /// endpoint.
    async fn told_to(
        &self,
        merchant: Id,
        way_out: Id,
        after: Id,
        limit: usize,
    ) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError>;
    /// Records a person's word with its proof. A consent ends an opt-out from before it; one from before the opt-out changes
    /// nothing and gives `false`. An opt-out always counts.
    async fn put_consent(
        &self,
        merchant: Id,
        phone: &str,
        granted: bool,
        proof: &str,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let word = Consent {
            key: *Id::new(uzel_model::id::Kind::Attempt).as_bytes(),
            merchant,
            address: phone.to_owned(),
            channel: None,
            purpose: ConsentPurpose::Marketing,
            granted,
            how: ConsentHow::Spoken,
            text: proof.to_owned(),
            by: "hub".to_owned(),
            at,
        };
        Ok(self.put_words(vec![word]).await?.first().copied().unwrap_or_default())
    }
    /// Records words of people with their proof, in their order, all or none. Of each whether anything follows from it: nothing
    /// does where its key is known, or where it allows what a later word does not.
    async fn put_words(&self, words: Vec<Consent>) -> Result<Vec<bool>, StoreError>;
    /// What a merchant's person said, newest first.
    async fn words(&self, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>, StoreError>;
    /// What follows from all that a person said.
    async fn contact(&self, merchant: Id, address: &str) -> Result<Contact, StoreError>;
    /// Whoever wants no messages of a merchant, in the order of their addresses, after this one.
    async fn opt_outs(&self, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>, StoreError>;
    /// A short link by the hash of its code, and the review that was left by it.
    async fn short_link(&self, code: [u8; 16]) -> Result<Option<(ShortLink, Option<Review>)>, StoreError>;
    async fn review(&self, id: Id) -> Result<Option<Review>, StoreError>;
    /// Reviews, newest first.
    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError>;
    /// What became of the links that a merchant made in these days, both included.
    async fn review_counts(&self, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>, StoreError>;

    async fn setup(&self) -> Result<Setup, StoreError>;
    /// Puts rows and keys and takes out what goes; what is not named stays as it was. A row of which nothing changes keeps its
    /// version. A conflict, and nothing is changed, where `expects` does not hold or another row has the slug.
    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError>;
    /// How a row stood, newest first: the last hundred versions, the present one among them. Kept for a while after the row.
    async fn setup_versions(&self, id: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError>;
    /// Moves the moments of last use of keys, by their ids; kept coarse by the caller. Tells nobody.
    async fn touch_keys(&self, used: Vec<(String, Timestamp)>) -> Result<(), StoreError>;
    /// Writes down changes of what no setup row or key holds. One that is there stays.
    async fn put_audit(&self, rows: Vec<Audit>) -> Result<(), StoreError>;
    /// Changes of the last 400 days, newest first.
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Audit>, StoreError>;
    /// Begins a request under a caller's own key, with a hash of what it asks for: exactly one of many at once is `New`. One
    /// that was begun, and neither ended nor given back within `hold_ms`, is `New` again for the same body. After `keep_until`
    /// the key is free.
    async fn begin(
        &self,
        key: [u8; 16],
        body: [u8; 16],
        now: Timestamp,
        hold_ms: i64,
        keep_until: Timestamp,
    ) -> Result<Begun, StoreError>;
    /// Ends it with its answer, or gives the key back (`None`). The first answer stands.
    async fn end(&self, key: [u8; 16], answer: Option<KeptAnswer>) -> Result<(), StoreError>;
    /// Keeps a code, if all limits allow it; else nothing is kept, and it gives the moment at which they do.
    async fn put_code(&self, new: NewCode, limits: Vec<CodeLimit>) -> Result<Option<Timestamp>, StoreError>;
    /// Counts a try at a code, whatever comes of it. Nothing, where it has ended, was used, or has had all its tries: of many
    /// at once no more than these are counted.
    async fn try_code(&self, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>, StoreError>;
    /// Uses a code up; `false`: somebody has.
    async fn spend_code(&self, code: Id) -> Result<bool, StoreError>;
    /// What tells the master key, and the sealed logins.
    async fn sealed(&self) -> Result<Sealed, StoreError>;
    /// Changes the keys that seal; a conflict where what it was worked out from has changed since.
    async fn rekey(&self, change: Rekeying) -> Result<(), StoreError>;
    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError>;
    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError>;
    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError>;
    /// When a person, by the key of their address, last wrote to a connection.
    async fn last_heard(&self, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>, StoreError>;
    /// Messages sent by this connection between two moments whose fate is not known yet.
    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Messages that this connection sent, by the provider's ids; those that are not known are left out.
    async fn messages(&self, connection: Id, provider_ids: Vec<String>) -> Result<Vec<Message>, StoreError>;
    /// What a merchant's messages of a month (`2026-11`, UTC) cost, as far as providers tell.
    async fn costs(&self, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError>;

    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError>;
    /// All that followed from an entry; also found by the id of an event, a command or an attempt in it.
    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError>;
    /// One command, and the merchant whose it is; also one that belongs to no entry.
    async fn command(&self, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError>;
    /// Entries that are dead, or led to a dead command.
    async fn dead(&self, provider: Option<String>, from: Option<Timestamp>, to: Option<Timestamp>)
    -> Result<Vec<Id>, StoreError>;
    async fn counts(&self) -> Result<Counts, StoreError>;
    /// What has waited longest: of entries, and of commands of these connections.
    async fn health(&self, connections: Vec<Id>) -> Result<Health, StoreError>;
    /// The newest notices, of one merchant or of all.
    async fn notices(&self, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError>;
    /// Notices that people are still to be told of, those of a merchant together.
    async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError>;
    /// How often people of a merchant were told of notices since a moment.
    async fn tellings(&self, merchant: Id, since: Timestamp) -> Result<u64, StoreError>;
    /// The last day on which something was noticed of a connection, in days since 1970, as far as notices are kept.
    async fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>, StoreError>;
    /// Checks the store's own laws; with `repair`, mends what can be. Gives what was found.
    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError>;
    /// Whether anything can be written now.
    async fn writable(&self) -> Result<(), StoreError>;
    /// Waits until all that was handed over is written, and closes.
    async fn close(&self);
    /// One exchange by its id: those of polls and checks belong to no entry's timeline.
    async fn exchange(&self, id: Id) -> Result<Option<Exchange>, StoreError>;

    /// Keeps refused requests: of each place the last twenty.
    async fn put_refusals(&self, refusals: Vec<Refusal>) -> Result<(), StoreError>;
    /// Refused requests of a place, newest first.
    async fn refusals(&self, place: &str) -> Result<Vec<Refusal>, StoreError>;
    /// Keeps that a breaker is open, or that it is closed.
    async fn put_breaker(&self, connection: Id, open: Option<OpenBreaker>) -> Result<(), StoreError>;
    /// All breakers that are open.
    async fn breakers(&self) -> Result<Vec<(Id, OpenBreaker)>, StoreError>;
    async fn put_rhythms(&self, rhythms: Vec<(Id, Rhythm)>) -> Result<(), StoreError>;
    async fn rhythms(&self) -> Result<Vec<(Id, Rhythm)>, StoreError>;

    /// Whether other nodes may work on the same store.
    fn shared(&self) -> bool {
        false
    }
    /// What other nodes do; one's own doings may come too. After a gap in listening all of it is told.
    fn news(&self) -> broadcast::Receiver<News>;
    /// The clock by which the nodes of a shared store agree; `None` where there is one node only.
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }
    /// Takes what one node at a time may do, until it is given back or `hold_ms` are over by the store's clock; nothing where
    /// somebody holds it, or took it less than `every_ms` before `now`. Gives a token for [`Store::give_back`].
    async fn take(&self, _name: &str, _now: Timestamp, _every_ms: i64, _hold_ms: i64) -> Result<Option<i64>, StoreError> {
        Ok(Some(0))
    }
    async fn give_back(&self, _name: &str, _token: i64) -> Result<(), StoreError> {
        Ok(())
    }
    /// Changes, under a lock and by the store's clock (milliseconds since 1970), the moments that are remembered under some
    /// names. Kept by a shared store only, and not for ever: what a power cut takes of it is no loss.
    async fn moments(
        &self,
        _names: &[String],
        _change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
    ) -> Result<(), StoreError> {
        Err(StoreError::Failed("this store has one node, which remembers by itself".to_owned()))
    }
    /// What was asked for under a caller's key.
    async fn once(&self, key: [u8; 16]) -> Result<Option<Once>, StoreError>;
    /// From now on events are kept until they are published, or no longer. Holds for all nodes.
    async fn publish(&self, on: bool) -> Result<(), StoreError>;
    /// Events to be published, in their order, with the number of each; empty while nothing is to be published.
    async fn unpublished(&self, limit: usize) -> Result<Vec<(i64, Event)>, StoreError>;
    async fn published(&self, numbers: Vec<i64>) -> Result<(), StoreError>;
    /// How many events wait to be published, and since when the first of them.
    async fn publishing(&self) -> Result<(u64, Option<Timestamp>), StoreError>;
    /// Forgets up to about `limit` entries from before a moment, with all that followed from them, but none that is unread, has
    /// a command that waits, or an event to be published; keys of events are kept for ever. Gives how many went.
    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
    /// The same for one merchant, whose entries are kept for less long.
    async fn purge_merchant(&self, merchant: Id, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
    async fn about(&self) -> Result<About, StoreError>;

    /// Events, newest first.
    async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError>;
    /// What the feed tells next: every event once, when it is whole, those of one subject in their order. Whoever reads on from
    /// a cursor misses nothing and gets nothing twice, on whatever node, also of what was purged or erased meanwhile.
    async fn feed(&self, merchant: Option<Id>, kinds: Vec<String>, from: FeedFrom, limit: usize) -> Result<FeedPage, StoreError>;
    /// Changes whenever events have become whole, on whatever node; the feed may tell them some moments later.
    fn told(&self) -> watched::Receiver<u64>;
    /// Commands and whose they are, newest first, without their exchanges.
    async fn commands(&self, filter: CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError>;
    /// Counts what happened in a stretch of time, by when it was written down.
    async fn figures(&self, of: FiguresOf) -> Result<Figures, StoreError>;
    /// Adds up what a merchant's points did in a stretch of time, by the ledger.
    async fn points_figures(&self, of: PointsOf) -> Result<PointsFigures, StoreError>;
    /// How many commands of these connections wait or are being sent whose event's kind begins so; counted up to `limit`.
    async fn waiting_of(&self, connections: Vec<Id>, kind: &str, limit: usize) -> Result<u64, StoreError>;
    /// Holds a command back for this reason, if it waits.
    async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError>;
    /// How phones are hashed whose persons were erased. Without it no opt-out can be kept.
    fn hash_phones_by(&self, hash: PhoneHash);
    /// Erases a portion of what is kept of a merchant's person: first what is found by the phone, then whatever else names it.
    /// Numbers, times and ids stay; an opt-out stays under the phone's keyed hash.
    async fn erase(&self, merchant: Id, phone: &str, place: ErasurePlace, limit: usize) -> Result<Erased, StoreError>;
    /// What a decision about points needs, as it stood at one moment.
    async fn loyalty(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError>;
    /// Movements of points, newest first.
    async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<points::Entry>, StoreError>;
    /// Customers, in the order of their ids.
    async fn wallets(&self, filter: WalletFilter) -> Result<Vec<Wallet>, StoreError>;
    /// Wallets to which time has something to do, the longest due first; but none of these merchants.
    async fn wallets_due(&self, now: Timestamp, without: Vec<Id>, limit: usize) -> Result<Vec<Wallet>, StoreError>;
    /// Holds wallets after this one against the ledger, up to so many.
    async fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit, StoreError>;
    /// What it counts while it writes; `None` where it counts nothing.
    fn stats(&self) -> Option<Arc<Stats>> {
        None
    }
}
