//! One node's way to the store: each call may be late, fail before it is committed, or fail after (then the caller does not know
//! what became of it). A frozen node's calls wait; a dead node's are never heard of again.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::{Notify, broadcast, watch};
use uzel_model::{
    Event, Id, Timestamp,
    loyalty::{self as points, Wallet},
    port::Delivery,
};
use uzel_store::{
    About, Applied, Audit, AuditFilter, Begun, Cancelled, Change, CodeLimit, CodeTry, CommandFilter, CommandState, Consent,
    Contact, Counts, Entry, EntryState, Erased, ErasurePlace, EventFilter, Exchange, FeedFrom, FeedPage, Figures, FiguresOf,
    Health, JournalFilter, JournalRow, KeptAnswer, Leased, LedgerFilter, LoyaltyAudit, LoyaltyLook, LoyaltySeen, Memory, Message,
    NewCode, News, Notice, Once, OpenBreaker, OptOut, PhoneHash, PointsFigures, PointsOf, Refusal, Rekeying, Review, ReviewCount,
    ReviewFilter, Rhythm, Sealed, Settlement, Setup, SetupVersion, ShortLink, Spent, Store, StoreError, StoredEvent, Timeline,
    TimelineCommand, Untold, WalletFilter,
};

use crate::world::{Life, World};

pub(crate) struct NodeStore {
    inner: Memory,
    world: Arc<World>,
    life: Arc<Life>,
}

impl NodeStore {
    pub(crate) fn new(world: &Arc<World>, life: &Arc<Life>) -> Self {
        Self { inner: world.store.node(), world: world.clone(), life: life.clone() }
    }

    /// What a store does by itself: looks for entries that nobody reads.
    pub(crate) async fn looks(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            self.life.running().await;
            if !self.world.is_down(&self.world.store_down) {
                self.inner.look();
            }
        }
    }

    async fn call<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let failed = |when: &str| {
            self.note(|| format!("{what} fails {when}"));
            Err(StoreError::Failed(format!("simulated: {when}")))
        };
        self.life.running().await;
        if self.world.is_calm() {
            return work.await;
        }
        let weather = &self.world.weather;
        let chance = self.world.chance(self.life.number, what);
        let is_slow = chance % 1_000 < weather.slow;
        if is_slow {
            tokio::time::sleep(Duration::from_millis((chance >> 20) % 400)).await;
        }
        if self.world.is_down(&self.world.store_down) || (chance >> 10) % 1_000 < weather.fails {
            return failed("before");
        }
        let done = work.await;
        if is_slow {
            tokio::time::sleep(Duration::from_millis((chance >> 30) % 400)).await;
        }
        self.life.running().await;
        if (chance >> 40) % 1_000 < weather.fails_after {
            return failed("after");
        }
        done
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.world.note(|| format!("life {}: {}", self.life.number, what()));
    }

    /// Writes down what a committed change did.
    fn committed(&self, told: &Told) {
        let mut ledger = self.world.ledger.lock();
        ledger.appended.extend(&told.appended);
        for (subject, entry) in &told.called_off {
            let place = ledger.place();
            ledger.called_off.push((subject.clone(), *entry, place));
            self.note(|| format!("{subject} is called off by {entry}"));
        }
        for (command, text) in &told.queued {
            let place = ledger.place();
            ledger.queued.entry(*command).or_insert(place);
            self.note(|| format!("{command} is queued: {text}"));
        }
        if let Some(settlement) = &told.settlement {
            let reason = settlement.reason.as_deref().unwrap_or_default();
            self.note(|| format!("{} is settled: {:?} {reason}", settlement.command, settlement.state));
            ledger.settled(settlement);
        }
        for provider_id in &told.arrived {
            let place = ledger.place();
            ledger.arrived.entry(provider_id.clone()).or_insert(place);
            self.note(|| format!("{provider_id} has arrived"));
        }
        if let Some((entry, state)) = &told.marked {
            self.note(|| format!("{entry} is {state:?}"));
        }
    }

    /// Finds out of whom the leases were that have been taken back.
    async fn taken_back(&self) -> Result<(), StoreError> {
        let held: Vec<Id> = self.world.ledger.lock().holders.keys().copied().collect();
        for id in held {
            let state = self.inner.command(id).await?.map(|(_, command)| command.state);
            if state != Some(CommandState::Sending) {
                self.note(|| format!("{id} is taken back: {state:?}"));
                self.world.ledger.lock().taken_back(id, state);
            }
        }
        Ok(())
    }
}

/// What is written down of a change.
struct Told {
    appended: Vec<Id>,
    called_off: Vec<(String, Id)>,
    queued: Vec<(Id, String)>,
    settlement: Option<Settlement>,
    arrived: Vec<String>,
    marked: Option<(Id, EntryState)>,
}

impl Told {
    fn of(change: &Change) -> Self {
        let events = || change.events.iter().chain(&change.resolved);
        let off = events().filter(|new| new.call_off.is_some());
        let queued = events().flat_map(|new| &new.commands).chain(&change.commands);
        Self {
            appended: change.entries.iter().map(|entry| entry.id).collect(),
            called_off: off.map(|new| (new.event.subject.clone(), new.event.entry)).collect(),
            queued: queued.map(|new| (new.command.id, format!("{} {}", new.command.job.name(), new.subject))).collect(),
            settlement: change.settlement.clone(),
            arrived: change
                .statuses
                .iter()
                .filter(|(_, news)| news.state == Delivery::Delivered)
                .map(|(_, news)| news.provider_id.clone())
                .collect(),
            marked: change.mark.as_ref().map(|mark| (mark.entry, mark.state)),
        }
    }
}

/// Passes calls on, with all that may happen to them.
macro_rules! pass {
    ($self:ident, $name:ident ( $($given:expr),* )) => { $self.call(stringify!($name), $self.inner.$name($($given),*)).await };
}

#[async_trait]
impl Store for NodeStore {
    fn appended(&self) -> Arc<Notify> {
        self.inner.appended()
    }
    async fn append(&self, entry: Entry) -> Result<(), StoreError> {
        let id = entry.id;
        let work = async {
            self.inner.append(entry).await?;
            self.world.ledger.lock().appended.push(id);
            self.note(|| format!("{id} is appended"));
            Ok(())
        };
        self.call("append", work).await
    }
    async fn unread(&self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        pass!(self, unread(limit))
    }
    async fn entry(&self, id: Id) -> Result<Option<Entry>, StoreError> {
        pass!(self, entry(id))
    }
    async fn apply_all(&self, changes: Vec<Change>) -> Vec<Result<Applied, StoreError>> {
        let count = changes.len();
        let told: Vec<Told> = changes.iter().map(Told::of).collect();
        let work = async {
            let applied = self.inner.apply_all(changes).await;
            let done = told.iter().zip(&applied).filter(|(_, applied)| applied.is_ok());
            done.for_each(|(told, _)| self.committed(told));
            Ok(applied)
        };
        self.call("apply", work).await.unwrap_or_else(|error| vec![Err(error); count])
    }
    async fn lease(&self, now: Timestamp, shares: Vec<(Id, usize)>, limit: usize, lease_ms: i64) -> Result<Leased, StoreError> {
        let work = async {
            let leased = self.inner.lease(now, shares, limit, lease_ms).await?;
            for command in &leased.commands {
                self.note(|| format!("{} is leased: {:?}", command.id, command.job));
            }
            self.world.ledger.lock().leased(&leased.commands);
            Ok(leased)
        };
        self.call("lease", work).await
    }
    async fn recover(&self, now: Timestamp) -> Result<(u64, u64), StoreError> {
        let work = async {
            let (again, unknown) = self.inner.recover(now).await?;
            if again + unknown > 0 {
                self.taken_back().await?;
            }
            Ok((again, unknown))
        };
        self.call("recover", work).await
    }
    async fn event(&self, id: Id) -> Result<Option<Event>, StoreError> {
        pass!(self, event(id))
    }
    async fn told_to(
        &self,
        merchant: Id,
        way_out: Id,
        after: Id,
        limit: usize,
    ) -> Result<Vec<(Event, Vec<CommandState>)>, StoreError> {
        pass!(self, told_to(merchant, way_out, after, limit))
    }
    async fn put_words(&self, words: Vec<Consent>) -> Result<Vec<bool>, StoreError> {
        pass!(self, put_words(words))
    }
    async fn words(&self, merchant: Id, address: &str, limit: usize) -> Result<Vec<Consent>, StoreError> {
        pass!(self, words(merchant, address, limit))
    }
    async fn contact(&self, merchant: Id, address: &str) -> Result<Contact, StoreError> {
        pass!(self, contact(merchant, address))
    }
    async fn opt_outs(&self, merchant: Id, after: &str, limit: usize) -> Result<Vec<OptOut>, StoreError> {
        pass!(self, opt_outs(merchant, after, limit))
    }
    async fn short_link(&self, code: [u8; 16]) -> Result<Option<(ShortLink, Option<Review>)>, StoreError> {
        pass!(self, short_link(code))
    }
    async fn review(&self, id: Id) -> Result<Option<Review>, StoreError> {
        pass!(self, review(id))
    }
    async fn reviews(&self, filter: ReviewFilter) -> Result<Vec<Review>, StoreError> {
        pass!(self, reviews(filter))
    }
    async fn review_counts(&self, merchant: Id, from: i32, to: i32) -> Result<Vec<ReviewCount>, StoreError> {
        pass!(self, review_counts(merchant, from, to))
    }
    /// Every process gets its own number among the settings: by it the provider knows who calls.
    async fn setup(&self) -> Result<Setup, StoreError> {
        let mut setup = pass!(self, setup())?;
        for row in &mut setup.rows {
            if let Some(settings) = row.doc.get_mut("settings") {
                settings["life"] = self.life.number.into();
            }
        }
        Ok(setup)
    }
    async fn put_setup(&self, setup: Setup) -> Result<(), StoreError> {
        pass!(self, put_setup(setup))
    }
    async fn setup_versions(&self, id: Id, limit: usize) -> Result<Vec<SetupVersion>, StoreError> {
        pass!(self, setup_versions(id, limit))
    }
    async fn touch_keys(&self, used: Vec<(String, Timestamp)>) -> Result<(), StoreError> {
        pass!(self, touch_keys(used))
    }
    async fn put_audit(&self, rows: Vec<Audit>) -> Result<(), StoreError> {
        pass!(self, put_audit(rows))
    }
    async fn audit(&self, filter: AuditFilter) -> Result<Vec<Audit>, StoreError> {
        pass!(self, audit(filter))
    }
    async fn begin(
        &self,
        key: [u8; 16],
        body: [u8; 16],
        now: Timestamp,
        hold_ms: i64,
        keep_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        pass!(self, begin(key, body, now, hold_ms, keep_until))
    }
    async fn end(&self, key: [u8; 16], answer: Option<KeptAnswer>) -> Result<(), StoreError> {
        pass!(self, end(key, answer))
    }
    async fn put_code(&self, new: NewCode, limits: Vec<CodeLimit>) -> Result<Option<Timestamp>, StoreError> {
        pass!(self, put_code(new, limits))
    }
    async fn try_code(&self, code: Id, now: Timestamp, tries_max: u32) -> Result<Option<CodeTry>, StoreError> {
        pass!(self, try_code(code, now, tries_max))
    }
    async fn spend_code(&self, code: Id) -> Result<bool, StoreError> {
        pass!(self, spend_code(code))
    }
    async fn sealed(&self) -> Result<Sealed, StoreError> {
        pass!(self, sealed())
    }
    async fn rekey(&self, change: Rekeying) -> Result<(), StoreError> {
        pass!(self, rekey(change))
    }
    async fn session(&self, connection: Id) -> Result<Option<Vec<u8>>, StoreError> {
        pass!(self, session(connection))
    }
    async fn put_session(&self, connection: Id, sealed: Vec<u8>) -> Result<(), StoreError> {
        pass!(self, put_session(connection, sealed))
    }
    async fn messages(&self, connection: Id, provider_ids: Vec<String>) -> Result<Vec<Message>, StoreError> {
        pass!(self, messages(connection, provider_ids))
    }
    async fn costs(&self, merchant: Id, month: &str) -> Result<Vec<Spent>, StoreError> {
        pass!(self, costs(merchant, month))
    }
    async fn cursor(&self, connection: Id) -> Result<Option<String>, StoreError> {
        pass!(self, cursor(connection))
    }
    async fn last_heard(&self, merchant: Id, connection: Id, who: &str) -> Result<Option<Timestamp>, StoreError> {
        pass!(self, last_heard(merchant, connection, who))
    }
    async fn undelivered(
        &self,
        connection: Id,
        after: Timestamp,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        pass!(self, undelivered(connection, after, before, limit))
    }
    async fn journal(&self, filter: JournalFilter) -> Result<Vec<JournalRow>, StoreError> {
        pass!(self, journal(filter))
    }
    async fn timeline(&self, id: Id) -> Result<Option<Timeline>, StoreError> {
        pass!(self, timeline(id))
    }
    async fn command(&self, id: Id) -> Result<Option<(Id, TimelineCommand)>, StoreError> {
        pass!(self, command(id))
    }
    async fn dead(
        &self,
        provider: Option<String>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<Id>, StoreError> {
        pass!(self, dead(provider, from, to))
    }
    async fn counts(&self) -> Result<Counts, StoreError> {
        pass!(self, counts())
    }
    async fn health(&self, connections: Vec<Id>) -> Result<Health, StoreError> {
        pass!(self, health(connections))
    }
    async fn notices(&self, merchant: Option<Id>, limit: usize) -> Result<Vec<Notice>, StoreError> {
        pass!(self, notices(merchant, limit))
    }
    async fn untold(&self, limit: usize) -> Result<Vec<Untold>, StoreError> {
        pass!(self, untold(limit))
    }
    async fn tellings(&self, merchant: Id, since: Timestamp) -> Result<u64, StoreError> {
        pass!(self, tellings(merchant, since))
    }
    async fn noticed(&self, merchant: Id, connection: Id, kind: &str) -> Result<Option<i64>, StoreError> {
        pass!(self, noticed(merchant, connection, kind))
    }
    async fn fsck(&self, repair: bool) -> Result<Vec<String>, StoreError> {
        pass!(self, fsck(repair))
    }
    async fn writable(&self) -> Result<(), StoreError> {
        pass!(self, writable())
    }
    async fn close(&self) {}
    async fn exchange(&self, id: Id) -> Result<Option<Exchange>, StoreError> {
        pass!(self, exchange(id))
    }
    async fn put_refusals(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        pass!(self, put_refusals(refusals))
    }
    async fn refusals(&self, place: &str) -> Result<Vec<Refusal>, StoreError> {
        pass!(self, refusals(place))
    }
    async fn put_breaker(&self, connection: Id, open: Option<OpenBreaker>) -> Result<(), StoreError> {
        pass!(self, put_breaker(connection, open))
    }
    async fn breakers(&self) -> Result<Vec<(Id, OpenBreaker)>, StoreError> {
        pass!(self, breakers())
    }
    async fn put_rhythms(&self, rhythms: Vec<(Id, Rhythm)>) -> Result<(), StoreError> {
        pass!(self, put_rhythms(rhythms))
    }
    async fn rhythms(&self) -> Result<Vec<(Id, Rhythm)>, StoreError> {
        pass!(self, rhythms())
    }
    fn shared(&self) -> bool {
        true
    }
    fn news(&self) -> broadcast::Receiver<News> {
        self.inner.news()
    }
    async fn clock(&self) -> Result<Option<Timestamp>, StoreError> {
        pass!(self, clock())
    }
    async fn take(&self, name: &str, now: Timestamp, every_ms: i64, hold_ms: i64) -> Result<Option<i64>, StoreError> {
        pass!(self, take(name, now, every_ms, hold_ms))
    }
    async fn give_back(&self, name: &str, token: i64) -> Result<(), StoreError> {
        pass!(self, give_back(name, token))
    }
    async fn moments(
        &self,
        names: &[String],
        change: &mut (dyn for<'a> FnMut(i64, &'a mut [VecDeque<i64>]) + Send),
    ) -> Result<(), StoreError> {
        pass!(self, moments(names, change))
    }
    async fn once(&self, key: [u8; 16]) -> Result<Option<Once>, StoreError> {
        pass!(self, once(key))
    }
    async fn publish(&self, on: bool) -> Result<(), StoreError> {
        pass!(self, publish(on))
    }
    async fn unpublished(&self, limit: usize) -> Result<Vec<(i64, Event)>, StoreError> {
        pass!(self, unpublished(limit))
    }
    async fn published(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        pass!(self, published(numbers))
    }
    async fn publishing(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        pass!(self, publishing())
    }
    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        pass!(self, purge(before, limit))
    }
    async fn purge_merchant(&self, merchant: Id, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        pass!(self, purge_merchant(merchant, before, limit))
    }
    async fn events(&self, filter: EventFilter) -> Result<Vec<StoredEvent>, StoreError> {
        pass!(self, events(filter))
    }
    async fn feed(&self, merchant: Option<Id>, kinds: Vec<String>, from: FeedFrom, limit: usize) -> Result<FeedPage, StoreError> {
        pass!(self, feed(merchant, kinds, from, limit))
    }
    fn told(&self) -> watch::Receiver<u64> {
        self.inner.told()
    }
    async fn commands(&self, filter: CommandFilter) -> Result<Vec<(Id, TimelineCommand)>, StoreError> {
        pass!(self, commands(filter))
    }
    async fn figures(&self, of: FiguresOf) -> Result<Figures, StoreError> {
        pass!(self, figures(of))
    }
    async fn waiting_of(&self, connections: Vec<Id>, kind: &str, limit: usize) -> Result<u64, StoreError> {
        pass!(self, waiting_of(connections, kind, limit))
    }
    async fn cancel(&self, command: Id, reason: &str) -> Result<Cancelled, StoreError> {
        pass!(self, cancel(command, reason))
    }
    fn hash_phones_by(&self, hash: PhoneHash) {
        self.inner.hash_phones_by(hash);
    }
    async fn erase(&self, merchant: Id, phone: &str, place: ErasurePlace, limit: usize) -> Result<Erased, StoreError> {
        pass!(self, erase(merchant, phone, place, limit))
    }
    async fn about(&self) -> Result<About, StoreError> {
        pass!(self, about())
    }
    async fn loyalty(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        pass!(self, loyalty(look))
    }
    async fn ledger(&self, filter: LedgerFilter) -> Result<Vec<points::Entry>, StoreError> {
        pass!(self, ledger(filter))
    }
    async fn wallets(&self, filter: WalletFilter) -> Result<Vec<Wallet>, StoreError> {
        pass!(self, wallets(filter))
    }
    async fn points_figures(&self, of: PointsOf) -> Result<PointsFigures, StoreError> {
        pass!(self, points_figures(of))
    }
    async fn wallets_due(&self, now: Timestamp, without: Vec<Id>, limit: usize) -> Result<Vec<Wallet>, StoreError> {
        pass!(self, wallets_due(now, without, limit))
    }
    async fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit, StoreError> {
        pass!(self, audit_loyalty(merchant, after, limit))
    }
}
