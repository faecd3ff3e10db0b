//! The store as a model: what a store shared by nodes must do, in memory and in plain words. It keeps nothing and serves tests
//! only: the contract runs over it, and the simulation of the engine's loops runs on it.

mod chain;
mod code;
mod figures;
mod look;
mod lost;
mod loyalty;
mod notices;
mod people;
mod reviews;
mod rows;
mod sealed;
mod setup;

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use jiff::SignedDuration;
use parking_lot::Mutex;
use rows::Rows;
use tokio::sync::{Notify, broadcast, watch};
use uzel_model::{
    Event, Id, Timestamp,
    loyalty::{self as points, Wallet},
};

use crate::{
    About, Applied, Audit, AuditFilter, Begun, Cancelled, Change, CodeLimit, CodeTry, CommandFilter, CommandState, Consent,
    Contact, Counts, Entry, Erased, ErasurePlace, EventFilter, Exchange, FeedFrom, FeedPage, Figures, FiguresOf, Health,
    JournalFilter, JournalRow, KeptAnswer, Leased, LedgerFilter, LoyaltyAudit, LoyaltyLook, LoyaltySeen, Message, NewCode, News,
    Notice, Once, OpenBreaker, OptOut, PhoneHash, PointsFigures, PointsOf, Refusal, Rekeying, Review, ReviewCount, ReviewFilter,
    Rhythm, Sealed, Setup, SetupVersion, ShortLink, Spent, Store, StoreError, StoredEvent, Timeline, TimelineCommand, Untold,
    WalletFilter,
};

/// How long a node that took entries may take to read them, before others do.
const READING_LEASE: SignedDuration = SignedDuration::from_secs(10);
/// Of a place so many refusals are kept.
const REFUSALS_MAX: usize = 20;

/// The store's own clock.
type Clock = dyn Fn() -> Timestamp + Send + Sync;

/// One node's side of a store in memory.
pub struct Memory {
    rows: Arc<Mutex<Rows>>,
    clock: Arc<Clock>,
    news: broadcast::Sender<News>,
    appended: Arc<Notify>,
    told: Arc<watch::Sender<u64>>,
}

impl Memory {
    /// An empty store that goes by this clock.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let (news, told) = (broadcast::Sender::new(1_024), Arc::new(watch::Sender::new(0)));
        Self { rows: Arc::default(), clock: Arc::new(clock), news, appended: Arc::default(), told }
    }

    /// The same store, as one more node sees it.
    pub fn node(&self) -> Self {
        let (rows, clock, news) = (self.rows.clone(), self.clock.clone(), self.news.clone());
        Self { rows, clock, news, appended: Arc::default(), told: self.told.clone() }
    }

    /// Wakes this node's reader where entries lie that nobody means to read. A node has to look now and then: whoever meant to
    /// read them may be gone.
    pub fn look(&self) {
        let now = (self.clock)();
        if self.rows.lock().unread.values().any(|(_, until)| *until <= now) {
            self.appended.notify_one();
        }
    }

    fn tell(&self, news: News) {
        // Nobody may be listening.
        drop(self.news.send(news));
    }
}

#[async_trait]
impl Store for Memory {
    fn appended(&self) -> Arc<Notify> {
        self.appended.clone()
    }

    async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        self.rows.lock().append(entry)?;
        self.appended.notify_one();
        Ok(())
    }

    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let now = (self.clock)();
        Ok(self.rows.lock().hand_out(now, now + READING_LEASE, limit))
    }

    async fn entry(&self, id: Id) -> Result<Option<Entry>, StoreError> {
        Ok(self.rows.lock().entries.get(&id).map(|row| row.entry.clone()))
    }

    async fn apply_all(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>> {
        let now = (self.clock)();
        let brings = changes.iter().any(|change| !change.entries.is_empty());
        let applied: Vec<_> = {
            let mut rows = self.rows.lock();
            changes.into_iter().map(|change| rows.apply(change, now)).collect()
        };
        if brings || applied.iter().flatten().any(|applied| applied.read_again > 0) {
            self.appended.notify_one();
        }
        if applied.iter().flatten().any(|applied| applied.queued > 0) {
            self.tell(News::Due);
        }
        self.told.send_modify(|changes| *changes += 1);
        applied
    }

    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError> {
        let until = (self.clock)() + SignedDuration::from_millis(lease_ms);
        Ok(self.rows.lock().lease(now, until, &shares, limit))
    }

    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let mut rows = self.rows.lock();
        let taken_back = rows.recover((self.clock)(), now);
        rows.hold_removed();
        Ok(taken_back)
    }

    async fn event(&self, id: Id) -> Result<Option<Event>, StoreError> {
        Ok(self.rows.lock().events.get(&id).map(|row| row.event.clone()))
    }

    async fn told_to(
        &self,
        merchant: Id,
        way_out: Id,
        after: Id,
        limit: usize,
    ) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError> {
        let rows = self.rows.lock();
        let events = rows.events.values().map(|row| &row.event);
        let events = events.filter(|event| event.merchant == merchant && event.id.ordinal() > after.ordinal()).take(limit);
        let states = |event: &Event| {
            let of_event = rows.commands.values().filter(|row| row.command.event == Some(event.id));
            of_event.filter(|row| row.command.connection == way_out).map(|row| row.state).collect()
        };
        Ok(events.map(|event| (event.clone(), states(event))).collect())
    }

    async fn put_words(&self, words: Vec<Consent>) -> Result<Vec<bool>, StoreError> {
        let mut rows = self.rows.lock();
        Ok(words.into_iter().map(|word| rows.put_word(word)).collect())
    }

    async fn words(&self, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>, StoreError> {
        Ok(self.rows.lock().words_of(merchant, address, limit))
    }

    async fn contact(&self, merchant: Id, address: &str) -> Result<Contact, StoreError> {
        Ok(self.rows.lock().contact_of(merchant, address))
    }

    async fn opt_outs(&self, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>, StoreError> {
        Ok(self.rows.lock().opt_outs_of(merchant, after, limit))
    }

    async fn short_link(&self, code: [u8; 16]) -> Result<Option<(ShortLink, Option<Review>)>, StoreError> {
        Ok(self.rows.lock().short_link(code))
    }

    async fn review(&self, id: Id) -> Result<Option<Review>, StoreError> {
        Ok(self.rows.lock().reviews.get(&id).cloned())
    }

    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        Ok(self.rows.lock().reviews_of(&filter))
    }

    async fn review_counts(&self, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>, StoreError> {
        Ok(self.rows.lock().review_counts_of(merchant, from, to))
    }

    async fn setup(&self) -> Result<Setup, StoreError> {
        let rows = self.rows.lock();
        let (setup, keys) = (rows.setup.values().cloned().collect(), rows.keys.values().cloned().collect());
        Ok(Setup { rows: setup, keys, envelopes: rows.envelopes.values().cloned().collect(), ..Setup::default() })
    }

    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        let now = (self.clock)();
        self.rows.lock().put_setup(setup, now)?;
        self.tell(News::Setup);
        Ok(())
    }

    async fn setup_versions(&self, id: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError> {
        Ok(self.rows.lock().versions.get(&id).into_iter().flatten().take(limit).cloned().collect())
    }

    async fn touch_keys(&self, used: Vec<(String, Timestamp)>) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        for (id, at) in used {
            let of_id = rows.keys.values_mut().filter(|key| key.id == id);
            of_id.for_each(|key| key.last_used_at = key.last_used_at.max(Some(at)));
        }
        Ok(())
    }

    async fn put_audit(&self, rows: Vec<Audit>) -> Result<(), StoreError> {
        let now = (self.clock)();
        self.rows.lock().put_audit(rows, now);
        Ok(())
    }

    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Audit>, StoreError> {
        Ok(self.rows.lock().audit(&filter))
    }

    async fn begin(
        &self,
        key: [u8; 16],
        body: [u8; 16],
        now: Timestamp,
        hold_ms: i64,
        keep_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        Ok(self.rows.lock().begin(key, body, now, hold_ms, keep_until))
    }

    async fn end(&self, key: [u8; 16], answer: Option<KeptAnswer>) -> Result<(), StoreError> {
        self.rows.lock().end(key, answer);
        Ok(())
    }

    async fn put_code(&self, new: NewCode, limits: Vec<CodeLimit>) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.rows.lock().put_code(new, &limits))
    }

    async fn try_code(&self, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>, StoreError> {
        Ok(self.rows.lock().try_code(code, now, tries_max))
    }

    async fn spend_code(&self, code: Id) -> Result<bool, StoreError> {
        Ok(self.rows.lock().spend_code(code))
    }

    async fn sealed(&self) -> Result<Sealed, StoreError> {
        Ok(self.rows.lock().sealed())
    }

    async fn rekey(&self, change: Rekeying) -> Result<(), StoreError> {
        self.rows.lock().rekey(change)?;
        self.tell(News::Setup);
        Ok(())
    }

    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.lock().sessions.get(&connection).cloned())
    }

    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.rows.lock().sessions.insert(connection, sealed);
        self.tell(News::Login(connection));
        Ok(())
    }

    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError> {
        Ok(self.rows.lock().cursors.get(&connection).cloned())
    }

    async fn last_heard(&self, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.rows.lock().heard.get(&(merchant, who.to_owned(), connection)).copied())
    }

    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.rows.lock().undelivered(connection, after, before, limit))
    }

    async fn messages(&self, connection: Id, provider_ids: Vec<String>) -> Result<Vec<Message>, StoreError> {
        Ok(self.rows.lock().messages(connection, &provider_ids))
    }

    async fn costs(&self, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError> {
        Ok(self.rows.lock().costs(merchant, month))
    }

    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
        Ok(self.rows.lock().journal(&filter))
    }

    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError> {
        Ok(self.rows.lock().timeline(id))
    }

    async fn command(&self, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
        let rows = self.rows.lock();
        Ok(rows.commands.get(&id).map(|row| (row.command.merchant, rows.shown(row))))
    }

    async fn dead(
        &self,
        provider: Option<String>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<Id>, StoreError> {
        Ok(self.rows.lock().dead(provider.as_deref(), from, to))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.rows.lock().counts())
    }

    async fn health(&self, connections: Vec<Id>) -> Result<Health, StoreError> {
        let rows = self.rows.lock();
        let oldest = rows.unread.values().next().map(|(id, _)| rows.entries[id].entry.request.received_at);
        Ok(Health { oldest_unread_at: oldest, oldest_due_at: connections.iter().filter_map(|link| rows.next_at(*link)).min() })
    }

    async fn notices(&self, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
        let rows = self.rows.lock();
        let all = rows.notices.values().rev().map(|(notice, _)| notice);
        let of = all.filter(|notice| merchant.is_none_or(|merchant| notice.merchant == merchant));
        Ok(of.take(limit).cloned().collect())
    }

    async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        Ok(self.rows.lock().untold(limit))
    }

    async fn tellings(&self, merchant: Id, since: Timestamp) -> Result<u64, StoreError> {
        Ok(self.rows.lock().tellings(merchant, since))
    }

    async fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>, StoreError> {
        Ok(self.rows.lock().noticed(merchant, connection, kind))
    }

    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        Ok(self.rows.lock().check(repair))
    }

    async fn writable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}

    async fn exchange(&self, id: Id) -> Result<Option<Exchange>, StoreError> {
        let rows = self.rows.lock();
        let of_commands = || rows.commands.values().flat_map(|row| &row.exchanges).find(|exchange| exchange.id == id);
        Ok(rows.exchanges.get(&id).or_else(of_commands).cloned())
    }

    async fn put_refusals(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        for refusal in refusals {
            let of_place = rows.refusals.entry(refusal.place.clone()).or_default();
            of_place.push_front(refusal);
            of_place.truncate(REFUSALS_MAX);
        }
        Ok(())
    }

    async fn refusals(&self, place: &str) -> Result<Vec<Refusal>, StoreError> {
        Ok(self.rows.lock().refusals.get(place).into_iter().flatten().cloned().collect())
    }

    async fn put_breaker(&self, connection: Id, open: Option<OpenBreaker>) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        match open {
            Some(open) => drop(rows.breakers.insert(connection, open)),
            None => drop(rows.breakers.remove(&connection)),
        }
        drop(rows);
        self.tell(News::Breakers);
        Ok(())
    }

    async fn breakers(&self) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
        Ok(self.rows.lock().breakers.iter().map(|(link, open)| (*link, open.clone())).collect())
    }

    async fn put_rhythms(&self, rhythms: Vec<(Id, Rhythm)>) -> Result<(), StoreError> {
        self.rows.lock().rhythms.extend(rhythms);
        Ok(())
    }

    async fn rhythms(&self) -> Result<Vec<(Id, Rhythm)>, StoreError> {
        Ok(self.rows.lock().rhythms.iter().map(|(link, rhythm)| (*link, *rhythm)).collect())
    }

    fn shared(&self) -> bool {
        true
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(Some((self.clock)()))
    }

    async fn take(&self, name: &str, now: Timestamp, every_ms: i64, hold_ms: i64) -> Result<Option<i64>, StoreError> {
        let clock = (self.clock)();
        let mut rows = self.rows.lock();
        let every = SignedDuration::from_millis(every_ms);
        if rows.turns.get(name).is_some_and(|(_, taken_at, until)| *until > clock || *taken_at + every > now) {
            return Ok(None);
        }
        rows.tokens += 1;
        let token = rows.tokens;
        rows.turns.insert(name.to_owned(), (token, now, clock + SignedDuration::from_millis(hold_ms)));
        Ok(Some(token))
    }

    async fn give_back(&self, name: &str, token: i64) -> Result<(), StoreError> {
        let clock = (self.clock)();
        if let Some(turn) = self.rows.lock().turns.get_mut(name).filter(|turn| turn.0 == token) {
            turn.2 = clock;
        }
        Ok(())
    }

    async fn moments(
        &self,
        names: &[String],
        change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
    ) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        let mut windows: Vec<_> = names.iter().map(|name| rows.moments.remove(name).unwrap_or_default()).collect();
        change((self.clock)().as_millisecond(), &mut windows);
        rows.moments.extend(names.iter().cloned().zip(windows));
        Ok(())
    }

    async fn once(&self, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
        Ok(self.rows.lock().onces.get(&key).cloned())
    }

    async fn publish(&self, on: bool) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        rows.publish = on;
        if !on {
            rows.unpublished.clear();
        }
        Ok(())
    }

    async fn unpublished(&self, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        let rows = self.rows.lock();
        let events = rows.unpublished.iter().filter_map(|(number, id)| Some((*number, rows.events.get(id)?.event.clone())));
        Ok(events.take(limit).collect())
    }

    async fn published(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        self.rows.lock().unpublished.retain(|number, _| !numbers.contains(number));
        Ok(())
    }

    async fn publishing(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        let rows = self.rows.lock();
        let first = rows.unpublished.values().next().and_then(|id| rows.events.get(id));
        let since = first.and_then(|row| Some(rows.entries.get(&row.event.entry)?.entry.request.received_at));
        Ok((rows.unpublished.len() as u64, since))
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut rows = self.rows.lock();
        rows.purge_points(None, before, (self.clock)());
        Ok(rows.purge(None, before, limit))
    }

    async fn purge_merchant(&self, merchant: Id, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut rows = self.rows.lock();
        rows.purge_points(Some(merchant), before, (self.clock)());
        Ok(rows.purge(Some(merchant), before, limit))
    }

    async fn about(&self) -> Result<About, StoreError> {
        Ok(About { kind: "memory", version: String::new(), schema: 0, schema_known: 0, bytes: 0, nodes: 1 })
    }

    async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(self.rows.lock().events_of(&filter))
    }

    async fn feed(&self, merchant: Option<Id>, kinds: Vec<String>, from: FeedFrom, limit: usize) -> Result<FeedPage, StoreError> {
        Ok(self.rows.lock().feed_from(merchant, &kinds, from, limit))
    }

    fn told(&self) -> watch::Receiver<u64> {
        self.told.subscribe()
    }

    async fn commands(&self, filter: CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
        Ok(self.rows.lock().commands_of(&filter))
    }

    async fn figures(&self, of: FiguresOf) -> Result<Figures, StoreError> {
        Ok(self.rows.lock().figures(&of))
    }

    async fn points_figures(&self, of: PointsOf) -> Result<PointsFigures, StoreError> {
        Ok(self.rows.lock().points_figures(&of))
    }

    async fn waiting_of(&self, connections: Vec<Id>, kind: &str, limit: usize) -> Result<u64, StoreError> {
        Ok(self.rows.lock().waiting_of(&connections, kind, limit))
    }

    async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
        let cancelled = self.rows.lock().cancel(command, reason);
        self.told.send_modify(|changes| *changes += 1);
        Ok(cancelled)
    }

    fn hash_phones_by(&self, hash: PhoneHash) {
        self.rows.lock().phones.get_or_insert(hash);
    }

    async fn erase(&self, merchant: Id, phone: &str, _: ErasurePlace, _: usize) -> Result<Erased, StoreError> {
        let erased = self.rows.lock().erase(merchant, phone);
        self.told.send_modify(|changes| *changes += 1);
        erased
    }

    async fn loyalty(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        Ok(self.rows.lock().loyalty(&look))
    }

    async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<points::Entry>, StoreError> {
        Ok(self.rows.lock().ledger(&filter))
    }

    async fn wallets(&self, filter: WalletFilter) -> Result<Vec<Wallet>, StoreError> {
        Ok(self.rows.lock().wallets(&filter))
    }

    async fn wallets_due(&self, now: Timestamp, without: Vec<Id>, limit: usize) -> Result<Vec<Wallet>, StoreError> {
        Ok(self.rows.lock().wallets_due(now, &without, limit))
    }

    async fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit, StoreError> {
        Ok(self.rows.lock().audit_loyalty(merchant, after, limit))
    }
}
