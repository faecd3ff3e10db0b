//! The store as a model: what a store shared by nodes must do, in memory and in plain words. It keeps nothing and serves tests
//! only: the contract runs over it, and the simulation of the engine's loops runs on it.

mod look;
mod rows;

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use jiff::SignedDuration;
use parking_lot::Mutex;
use rows::Rows;
use tokio::sync::{Notify, broadcast};
use uzel_model::{Event, Id, Timestamp};

use crate::{
    About, Applied, Change, CommandState, Contact, Counts, Entry, EntryState, Exchange, Health, JournalFilter, JournalRow,
    Leased, News, Notice, Once, OpenBreaker, Refusal, Rhythm, Setup, Store, StoreError, Timeline, TimelineCommand,
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
}

impl Memory {
    /// An empty store that goes by this clock.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { rows: Arc::default(), clock: Arc::new(clock), news: broadcast::Sender::new(1_024), appended: Arc::default() }
    }

    /// The same store, as one more node sees it.
    pub fn node(&self) -> Self {
        Self { rows: self.rows.clone(), clock: self.clock.clone(), news: self.news.clone(), appended: Arc::default() }
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
        if brings {
            self.appended.notify_one();
        }
        if applied.iter().flatten().any(|applied| applied.queued > 0) {
            self.tell(News::Due);
        }
        applied
    }

    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError> {
        let until = (self.clock)() + SignedDuration::from_millis(lease_ms);
        Ok(self.rows.lock().lease(now, until, &shares, limit))
    }

    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        Ok(self.rows.lock().recover((self.clock)(), now))
    }

    async fn event(&self, id: Id) -> Result<Option<Event>, StoreError> {
        Ok(self.rows.lock().events.get(&id).map(|row| row.event.clone()))
    }

    async fn told(
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

    async fn put_consent(&self, merchant: Id, phone: &str, granted: bool, _: &str, at: Timestamp) -> Result<bool, StoreError> {
        let mut rows = self.rows.lock();
        let known = rows.contacts.entry((merchant, phone.to_owned())).or_insert((Contact::default(), Timestamp::MIN));
        if granted && at < known.1 {
            return Ok(false);
        }
        *known = (Contact { opted_out: !granted, consented: granted }, at.max(known.1));
        Ok(true)
    }

    async fn setup(&self) -> Result<Setup, StoreError> {
        let rows = self.rows.lock();
        let (setup, keys) = (rows.setup.values().cloned().collect(), rows.keys.values().cloned().collect());
        Ok(Setup { rows: setup, keys, ..Setup::default() })
    }

    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        let mut rows = self.rows.lock();
        rows.setup.extend(setup.rows.into_iter().map(|row| (row.id, row)));
        rows.keys.extend(setup.keys.into_iter().map(|key| (key.hash.clone(), key)));
        setup.ends_logins.iter().for_each(|link| drop(rows.sessions.remove(link)));
        setup.ends_cursors.iter().for_each(|link| drop(rows.cursors.remove(link)));
        drop(rows);
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

    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.rows.lock().undelivered(connection, after, before, limit))
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
        let of = rows.notices.values().rev().filter(|notice| merchant.is_none_or(|merchant| notice.merchant == merchant));
        Ok(of.take(limit).cloned().collect())
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

    async fn claim(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.rows.lock().claims.entry(name.to_owned()).or_insert_with(|| value.to_owned()).clone())
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
        let waits = |id: Id| rows.waiting.iter().any(|command| rows.commands[command].entry == Some(id));
        let told =
            |id: Id| rows.unpublished.values().any(|event| rows.events.get(event).is_some_and(|row| row.event.entry == id));
        let old = rows.entries.values().filter(|row| row.entry.request.received_at < before && row.state != EntryState::Unread);
        let gone: Vec<Id> = old.map(|row| row.entry.id).filter(|id| !waits(*id) && !told(*id)).take(limit).collect();
        gone.iter().for_each(|id| rows.forget(*id));
        rows.exchanges.retain(|_, exchange| exchange.at >= before);
        let waits = |state| state == CommandState::Waiting;
        rows.commands.retain(|_, row| row.entry.is_some() || row.command.due_at >= before || waits(row.state));
        Ok(gone.len() as u64)
    }

    async fn about(&self) -> Result<About, StoreError> {
        Ok(About { kind: "memory", version: String::new(), schema: 0, schema_known: 0, bytes: 0, nodes: 1 })
    }
}
