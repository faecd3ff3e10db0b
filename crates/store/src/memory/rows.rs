//! What is kept, and the laws of it in plain words: who is first of a key, what a change does, whose lease holds.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque, btree_map};

use uzel_model::{Address, Channel, Event, Id, Job, Price, Timestamp, id::Kind, port::Delivery, signature::fingerprint};

use super::setup::AnswerRow;
use crate::{
    Applied, Audit, Change, Command, CommandState, Consent, Contact, Entry, EntryState, Envelope, Exchange, KeyRow, Leased,
    NewCommand, NewEvent, Notice, Once, OpenBreaker, Part, PhoneHash, Refusal, Review, Rhythm, Settlement, SetupRow,
    SetupVersion, ShortLink, Source, Step, StoreError, Verdict,
    chain::{Purse, stopped},
};

/// An entry, its place in the order of coming, and what became of it.
pub(super) struct EntryRow {
    pub(super) entry: Entry,
    pub(super) arrival: i64,
    pub(super) state: EntryState,
    pub(super) notes: Vec<String>,
}

pub(super) struct EventRow {
    pub(super) event: Event,
    pub(super) pending: bool,
}

pub(super) struct CommandRow {
    pub(super) command: Command,
    pub(super) entry: Option<Id>,
    pub(super) order_key: String,
    pub(super) subject: String,
    /// Never *sending*: that is what `sending` says.
    pub(super) state: CommandState,
    pub(super) next_at: Timestamp,
    pub(super) reason: Option<String>,
    pub(super) provider_id: Option<String>,
    pub(super) exchanges: Vec<Exchange>,
}

pub(super) struct Message {
    pub(super) command: Id,
    pub(super) at: Timestamp,
    pub(super) state: Delivery,
    pub(super) code: String,
    /// By which channel it went, and through which provider.
    pub(super) way: Option<(Channel, String)>,
    pub(super) price: Option<Price>,
}

/// Merchant, day, outlet, source, channel, and what is counted.
pub(super) type CountKey = (Id, i32, Option<Id>, Id, Channel, String);
/// Day, merchant, connection and kind of a notice.
type NoticeKey = (i64, Id, Id, String);

#[derive(Default)]
pub(super) struct Rows {
    pub(super) entries: BTreeMap<Id, EntryRow>,
    pub(super) arrivals: i64,
    /// By arrival, and until when a node means to read it.
    pub(super) unread: BTreeMap<i64, (Id, Timestamp)>,
    seen: BTreeSet<[u8; 16]>,
    pub(super) events: BTreeMap<Id, EventRow>,
    pub(super) commands: BTreeMap<Id, CommandRow>,
    pub(super) waiting: BTreeSet<Id>,
    /// The lease of each, and until when it holds.
    pub(super) sending: BTreeMap<Id, (i64, Timestamp)>,
    /// Why some of those are not to be tried again.
    pub(super) sending_off: BTreeMap<Id, String>,
    /// The provider's ids of some of those, which statuses have told.
    pub(super) told: BTreeMap<Id, String>,
    leases: i64,
    called_off: HashMap<String, (i64, String)>,
    pub(super) references: HashMap<String, BTreeSet<Id>>,
    pub(super) slots: BTreeMap<[u8; 16], (Timestamp, Id)>,
    pub(super) sent: BTreeMap<(Id, String), Message>,
    /// By the command that follows: which one it follows, and why.
    pub(super) steps: BTreeMap<Id, (Id, String)>,
    /// Where news stand of messages that are not known, and since when.
    pub(super) early: BTreeMap<(Id, String, Id), i64>,
    pub(super) spent: BTreeMap<(Purse, String), (i64, i64)>,
    pub(super) contacts: HashMap<(Id, String), (Contact, Timestamp)>,
    /// When messages to an address came back, in milliseconds since 1970.
    pub(super) bounces: HashMap<(Id, String), Vec<i64>>,
    /// When people last wrote, by merchant, address and connection.
    pub(super) heard: HashMap<(Id, String, Id), Timestamp>,
    pub(super) exchanges: BTreeMap<Id, Exchange>,
    /// With when people were told.
    pub(super) notices: BTreeMap<NoticeKey, (Notice, Option<Timestamp>)>,
    pub(super) setup: BTreeMap<Id, SetupRow>,
    pub(super) keys: BTreeMap<Vec<u8>, KeyRow>,
    /// Newest first.
    pub(super) versions: BTreeMap<Id, VecDeque<SetupVersion>>,
    pub(super) removed: BTreeSet<Id>,
    pub(super) audit: BTreeMap<Id, Audit>,
    pub(super) answers: BTreeMap<[u8; 16], AnswerRow>,
    pub(super) codes: BTreeMap<Id, super::code::CodeRow>,
    pub(super) envelopes: BTreeMap<Id, Envelope>,
    pub(super) sessions: BTreeMap<Id, Vec<u8>>,
    pub(super) cursors: BTreeMap<Id, String>,
    pub(super) refusals: HashMap<String, VecDeque<Refusal>>,
    pub(super) breakers: BTreeMap<Id, OpenBreaker>,
    pub(super) rhythms: BTreeMap<Id, Rhythm>,
    pub(super) claims: HashMap<String, Vec<u8>>,
    pub(super) onces: BTreeMap<[u8; 16], Once>,
    pub(super) publish: bool,
    /// The feed: events in the order in which they became whole.
    pub(super) feed: Vec<Id>,
    pub(super) opted_out: HashMap<(Id, [u8; 32]), Timestamp>,
    pub(super) phones: Option<PhoneHash>,
    /// What people said about messages, in the order in which it was written down.
    pub(super) words: Vec<Consent>,
    pub(super) links: BTreeMap<[u8; 16], ShortLink>,
    pub(super) reviews: BTreeMap<Id, Review>,
    pub(super) review_counts: HashMap<CountKey, i64>,
    pub(super) unpublished: BTreeMap<i64, Id>,
    published: i64,
    pub(super) turns: HashMap<String, (i64, Timestamp, Timestamp)>,
    pub(super) tokens: i64,
    pub(super) moments: HashMap<String, VecDeque<i64>>,
    pub(super) points: super::loyalty::Points,
}

impl Rows {
    pub(super) fn append(&mut self, entry: Entry) -> Result<(), StoreError> {
        if self.entries.contains_key(&entry.id) {
            return Err(StoreError::Failed("there is such an entry".to_owned()));
        }
        self.arrivals += 1;
        let state = if entry.source == Source::Question { EntryState::Read } else { EntryState::Unread };
        if state == EntryState::Unread {
            self.unread.insert(self.arrivals, (entry.id, Timestamp::MIN));
        }
        self.entries.insert(entry.id, EntryRow { entry, arrival: self.arrivals, state, notes: Vec::new() });
        Ok(())
    }

    /// Entries that no node means to read, the oldest first; they are this node's until then.
    pub(super) fn hand_out(&mut self, now: Timestamp, until: Timestamp, limit: usize) -> Vec<Entry> {
        let free = self.unread.values_mut().filter(|(_, until)| *until <= now).take(limit);
        free.map(|(entry, held)| {
            *held = until;
            self.entries[entry].entry.clone()
        })
        .collect()
    }

    /// Whole or not at all: what can conflict goes first.
    pub(super) fn apply(&mut self, change: Change, clock: Timestamp) -> Result<Applied, StoreError> {
        let now = change.now.unwrap_or(Timestamp::UNIX_EPOCH);
        let lost = |settlement: &Settlement| self.sending.get(&settlement.command).map(|held| held.0) != Some(settlement.lease);
        let unread = |entry: Id| self.entries.get(&entry).is_some_and(|row| row.state == EntryState::Unread);
        let taken = |verdict: &Verdict| {
            let connection = verdict.exchange.connection;
            verdict.provider_id.as_ref().is_some_and(|id| self.sent.contains_key(&(connection, id.clone())))
        };
        let unknown = |command: Id| self.commands.get(&command).is_some_and(|row| row.state == CommandState::Unknown);
        if change.settlement.as_ref().is_some_and(lost)
            || change.mark.as_ref().is_some_and(|mark| !mark.again && !unread(mark.entry))
            || change.follow.as_ref().is_some_and(|follow| !unknown(follow.after) || self.is_followed(follow.after))
            || change.verdict.as_ref().is_some_and(|verdict| !unknown(verdict.command) || taken(verdict))
            || change.cursor.as_ref().is_some_and(|cursor| self.cursors.get(&cursor.connection) != cursor.was.as_ref())
            || change.left_review.as_ref().is_some_and(|left| !self.may_leave(left))
            || change.review_reply.as_ref().is_some_and(|reply| !self.may_reply(reply))
            || change.once.as_ref().is_some_and(|once| self.onces.get(&once.key).is_some_and(|known| known.until > now))
            || change.told.as_ref().is_some_and(|told| !self.may_tell(told))
            || change.loyalty.as_ref().is_some_and(|loyalty| !self.may_move_points(loyalty, now))
        {
            return Err(StoreError::Conflict);
        }
        let mut applied = Applied::default();
        let refused = change.opt_out_words();
        let mut held = None;
        if let Some(settlement) = change.settlement {
            let call = settlement.exchanges.last().cloned();
            (held, applied.read_again) = self.settle(settlement, change.step.as_ref());
            for part in change.parts {
                applied.read_again += self.end_part(part, call.as_ref(), change.step.as_ref());
            }
        }
        if let Some(verdict) = change.verdict {
            self.judge(verdict);
        }
        if let Some(follow) = change.follow {
            self.steps.insert(follow.next.command, (follow.after, follow.next.why));
        }
        if let Some(once) = change.once {
            self.onces.insert(once.key, once);
        }
        for entry in change.entries {
            self.append(entry)?;
        }
        if let Some(told) = change.told {
            self.tell_notices(told);
        }
        let told_statuses = !change.statuses.is_empty();
        for new in change.events {
            self.tell(new, &mut applied);
        }
        let asked_by = change.mark.as_ref().map(|mark| mark.entry);
        for mut new in change.commands {
            if let (Some(next), Some(reason)) = (change.step.as_ref().and_then(|step| step.next.as_ref()), &held)
                && next.command == new.command.id
            {
                (new.held, new.slot) = (Some(reason.clone()), None);
            }
            let entry = match new.command.event {
                Some(event) => self.events.get(&event).map(|row| row.event.entry),
                // What is read makes a question without an event.
                None => asked_by,
            };
            self.queue(new, entry);
            applied.queued += 1;
        }
        if let Some(new) = change.resolved {
            self.resolve(new, &mut applied);
        }
        if let Some(mark) = change.mark {
            self.mark(mark, &applied, told_statuses);
        }
        for heard in change.heard {
            let last = self.heard.entry((heard.merchant, heard.who, heard.connection)).or_insert(heard.at);
            *last = heard.at.max(*last);
        }
        for (connection, news) in change.statuses {
            self.recognise(connection, &news, now);
            self.news(connection, &news, now);
        }
        applied.read_again += self.keep_early(change.early, now);
        if let Some(cursor) = change.cursor {
            self.cursors.insert(cursor.connection, cursor.next);
        }
        if let Some(connection) = change.ends_login.filter(|_| applied.new_events > 0) {
            self.sessions.remove(&connection);
        }
        for word in refused.into_iter().chain(change.words) {
            self.put_word(word);
        }
        change.links.into_iter().for_each(|link| self.add_link(link));
        change.link_news.iter().for_each(|(code, news)| self.hear(*code, news));
        if let Some(left) = &change.left_review {
            self.leave(left);
        }
        if let Some(reply) = change.review_reply {
            self.reply(reply);
        }
        if let Some(loyalty) = change.loyalty {
            self.move_points(*loyalty);
        }
        for notice in change.notices {
            let day = change.now.unwrap_or(clock).as_second().div_euclid(86_400);
            self.notices.entry((day, notice.merchant, notice.connection, notice.kind.clone())).or_insert((notice, None));
        }
        self.exchanges.extend(change.exchanges.into_iter().map(|exchange| (exchange.id, exchange)));
        Ok(applied)
    }

    /// How a lease ended that holds. Gives why it was called off meanwhile, and how many entries are unread again.
    fn settle(&mut self, settlement: Settlement, step: Option<&Step>) -> (Option<String>, u32) {
        let id = settlement.command;
        self.sending.remove(&id);
        let called_off = self.sending_off.remove(&id);
        let settlement = settlement.after(called_off.clone(), self.told.remove(&id)).into_owned();
        let row = self.commands.get_mut(&id).expect("what is being sent is a command");
        row.command.attempts += u32::from(settlement.counts);
        row.next_at = settlement.retry_at.unwrap_or(row.next_at);
        row.reason = settlement.reason;
        let mut taken = None;
        if let (CommandState::Done, Some(provider_id), Some(last)) =
            (settlement.state, &settlement.provider_id, settlement.exchanges.last())
        {
            let way = step.map(|step| (step.channel, last.provider.clone()));
            let message = Message { command: id, at: last.at, state: Delivery::OnTheWay, code: String::new(), way, price: None };
            let place = (last.connection, provider_id.clone());
            if let btree_map::Entry::Vacant(free) = self.sent.entry(place.clone()) {
                free.insert(message);
                taken = Some(place);
            }
        }
        row.provider_id = settlement.provider_id.or(row.provider_id.take());
        row.exchanges.extend(settlement.exchanges);
        if let Some(entry) = row.entry {
            for value in settlement.refs {
                self.references.entry(value).or_default().insert(entry);
            }
        }
        if settlement.frees_slot {
            self.slots.retain(|_, (_, command)| *command != id);
        }
        self.stands(id, settlement.state);
        if let Some(step) = step {
            self.follows(id, settlement.state, step, called_off.is_some());
        }
        let read_again = taken.map_or(0, |(connection, provider_id)| {
            self.taken(connection, &provider_id, step.and_then(|step| step.price.as_ref()))
        });
        (called_off, read_again)
    }

    /// A message that ends with its batch. Gives how many entries are unread again.
    fn end_part(&mut self, part: Part, call: Option<&Exchange>, step: Option<&Step>) -> u32 {
        let Some(row) = self.commands.get_mut(&part.command).filter(|row| row.state == CommandState::Waiting) else { return 0 };
        (row.reason, row.provider_id) = (part.reason, part.provider_id.clone());
        self.stands(part.command, part.state);
        let (Some(provider_id), Some(call), CommandState::Done) = (part.provider_id, call, part.state) else { return 0 };
        let way = step.map(|step| (step.channel, call.provider.clone()));
        let (command, state) = (part.command, Delivery::OnTheWay);
        let btree_map::Entry::Vacant(free) = self.sent.entry((call.connection, provider_id.clone())) else { return 0 };
        free.insert(Message { command, at: call.at, state, code: String::new(), way, price: None });
        self.taken(call.connection, &provider_id, None)
    }

    /// How a command ended whose outcome was unknown.
    fn judge(&mut self, verdict: Verdict) {
        let row = self.commands.get_mut(&verdict.command).expect("it was just found");
        row.reason = Some(verdict.reason);
        if let Some(provider_id) = verdict.provider_id {
            let (id, at) = (verdict.command, verdict.exchange.at);
            let message = Message { command: id, at, state: Delivery::OnTheWay, code: String::new(), way: None, price: None };
            self.sent.insert((verdict.exchange.connection, provider_id.clone()), message);
            row.provider_id = Some(provider_id);
        }
        row.exchanges.push(verdict.exchange);
        if verdict.state == CommandState::Dead {
            self.slots.retain(|_, (_, command)| *command != verdict.command);
        }
        self.stands(verdict.command, verdict.state);
    }

    /// Puts a command into a state.
    pub(super) fn stands(&mut self, id: Id, state: CommandState) {
        let Some(row) = self.commands.get_mut(&id) else { return };
        row.state = state;
        if state != CommandState::Waiting {
            self.waiting.remove(&id);
        }
        let unresolved = matches!(state, CommandState::Dead | CommandState::Unknown | CommandState::Held);
        if let Some(event) = row.command.event.filter(|_| unresolved && matches!(row.command.job, Job::LookUp { .. }))
            && self.events.get(&event).is_some_and(|row| row.pending)
        {
            self.publish_soon(event);
        }
    }

    fn publish_soon(&mut self, event: Id) {
        if !self.feed.contains(&event) {
            self.feed.push(event);
        }
        if self.publish {
            self.published += 1;
            self.unpublished.insert(self.published, event);
        }
    }

    fn tell(&mut self, new: NewEvent, applied: &mut Applied) {
        let event = &new.event;
        for value in event.refs.iter().chain(event.phone.as_ref().map(|phone| &phone.e164)) {
            self.references.entry(value.clone()).or_default().insert(event.entry);
        }
        if !self.seen.insert(fingerprint([event.connection.as_bytes().as_slice(), event.key.as_bytes()])) {
            applied.duplicates += 1;
            return;
        }
        applied.new_events += 1;
        self.events.insert(event.id, EventRow { event: event.clone(), pending: new.pending });
        self.follow(new, applied);
    }

    /// A look-up has ended; nothing follows where the event was called off meanwhile.
    fn resolve(&mut self, new: NewEvent, applied: &mut Applied) {
        let Some(row) = self.events.get_mut(&new.event.id).filter(|row| row.pending) else { return };
        *row = EventRow { event: new.event.clone(), pending: new.pending };
        if let Some(phone) = &new.event.phone {
            self.references.entry(phone.e164.clone()).or_default().insert(new.event.entry);
        }
        self.follow(new, applied);
    }

    fn follow(&mut self, new: NewEvent, applied: &mut Applied) {
        if !new.pending {
            self.publish_soon(new.event.id);
        }
        if let Some(reason) = &new.call_off {
            self.call_off(&new.event, reason);
        }
        for command in new.commands {
            self.queue(command, Some(new.event.entry));
            applied.queued += 1;
        }
    }

    /// What waits for an event's subject is held back; what came before it and is read later will be too.
    fn call_off(&mut self, event: &Event, reason: &str) {
        let subject = format!("{}/{}", event.connection, event.subject);
        let arrival = self.entries.get(&event.entry).map_or(0, |row| row.arrival);
        let word = self.called_off.entry(subject.clone()).or_insert((arrival, reason.to_owned()));
        word.0 = word.0.max(arrival);
        let open = |row: &CommandRow| matches!(row.state, CommandState::Waiting | CommandState::Dead);
        let found = self.commands.iter().filter(|(_, row)| open(row) && row.subject == subject);
        for (id, event) in found.map(|(id, row)| (*id, row.command.event)).collect::<Vec<_>>() {
            self.close(event);
            // What is being sent cannot be called off, only its being tried again.
            if self.sending.contains_key(&id) {
                self.sending_off.insert(id, reason.to_owned());
                continue;
            }
            self.commands.get_mut(&id).expect("it was just found").reason = Some(reason.to_owned());
            self.slots.retain(|_, (_, command)| *command != id);
            self.stands(id, CommandState::Held);
        }
    }

    /// An event that waits for a look-up waits no more: it is told as it is.
    pub(super) fn close(&mut self, event: Option<Id>) {
        let Some(event) = event else { return };
        if let Some(row) = self.events.get_mut(&event).filter(|row| row.pending) {
            row.pending = false;
            self.publish_soon(event);
        }
    }

    fn queue(&mut self, new: NewCommand, entry: Option<Id>) {
        let id = new.command.id;
        let subject = format!("{}/{}", new.command.source, new.subject);
        let arrival = entry.and_then(|entry| Some(self.entries.get(&entry)?.arrival));
        let called_off = self.called_off.get(&subject).filter(|(at, _)| arrival.is_some_and(|arrival| arrival < *at));
        let called_off = called_off.map(|(_, reason)| reason.clone());
        if called_off.is_some() {
            self.close(new.command.event);
        }
        let mut held = new.held.or(called_off);
        if let (None, Some(slot)) = (&held, new.slot) {
            for slot in slot.all() {
                let is_free = |key: &[u8; 16]| self.slots.get(key).is_none_or(|(until, _)| *until <= new.command.due_at);
                let Some(key) = slot.keys().find(is_free) else {
                    self.slots.retain(|_, (_, command)| *command != id);
                    held = Some(slot.reason.clone());
                    break;
                };
                self.slots.insert(key, (slot.until, id));
            }
        }
        let state = if held.is_some() { CommandState::Held } else { CommandState::Waiting };
        if state == CommandState::Waiting {
            self.waiting.insert(id);
        }
        let row = CommandRow {
            next_at: new.command.due_at,
            command: new.command,
            entry,
            order_key: new.ordering_key,
            subject,
            state,
            reason: held,
            provider_id: None,
            exchanges: Vec::new(),
        };
        self.commands.insert(id, row);
    }

    fn mark(&mut self, mark: crate::Mark, applied: &Applied, told_statuses: bool) {
        let Some(row) = self.entries.get_mut(&mark.entry) else { return };
        let told_nothing = applied.new_events == 0 && applied.duplicates > 0 && !told_statuses;
        row.state = match (mark.state, row.state) {
            // Read again, and all of it was known: it stays what it was.
            (EntryState::Read, before @ (EntryState::Read | EntryState::Duplicate)) if told_nothing => before,
            (EntryState::Read, _) if told_nothing => EntryState::Duplicate,
            (state, _) => state,
        };
        row.notes = mark.notes;
        self.unread.remove(&row.arrival);
        for value in mark.refs {
            self.references.entry(value).or_default().insert(mark.entry);
        }
    }

    /// What may be tried of a connection, by when. Of each key one command may go: what has been tried goes first, then what is
    /// due first.
    fn next(&self, connection: Id) -> Vec<(Timestamp, Id)> {
        let mut firsts: HashMap<&str, (bool, Timestamp, &CommandRow)> = HashMap::new();
        for id in &self.waiting {
            let row = &self.commands[id];
            let begun = row.command.attempts > 0 || self.sending.contains_key(id);
            let rank = (!begun, row.command.due_at, row);
            // Of two that are due together the one that was queued first.
            let first = firsts.entry(&row.order_key).or_insert(rank);
            if (rank.0, rank.1) < (first.0, first.1) {
                *first = rank;
            }
        }
        let rows = firsts.into_values().map(|(.., row)| (row.next_at, row.command.id, row.command.connection));
        let free = rows.filter(|(_, id, of)| *of == connection && !self.sending.contains_key(id));
        let mut next: Vec<_> = free.map(|(at, id, _)| (at, id)).collect();
        next.sort_unstable();
        next
    }

    pub(super) fn next_at(&self, connection: Id) -> Option<Timestamp> {
        self.next(connection).first().map(|(at, _)| *at)
    }

    pub(super) fn lease(&mut self, now: Timestamp, until: Timestamp, shares: &[(Id, usize)], limit: usize) -> Leased {
        let mut leased = Leased::default();
        for (connection, share) in shares {
            let room = (*share).min(limit - leased.commands.len());
            let due = self.next(*connection).into_iter().filter(|(at, _)| *at <= now).take(room);
            let due: Vec<Id> = due.map(|(_, id)| id).collect();
            let all = due.len() < room;
            for id in due {
                self.leases += 1;
                self.sending.insert(id, (self.leases, until));
                let mut command = self.commands[&id].command.clone();
                command.lease = self.leases;
                if let Some(to) = command.job.address().map(Address::key) {
                    command.contact = self.contact_of(command.merchant, &to);
                }
                leased.commands.push(command);
            }
            let next_at = if all { self.next_at(*connection) } else { Some(now) };
            leased.next_at = leased.next_at.into_iter().chain(next_at).min();
        }
        leased
    }

    /// Takes back what has been *sending* for longer than its lease.
    pub(super) fn recover(&mut self, clock: Timestamp, now: Timestamp) -> (u64, u64) {
        let over: Vec<Id> = self.sending.iter().filter(|(_, (_, until))| *until <= clock).map(|(id, _)| *id).collect();
        let (mut again, mut unknown) = (0, 0);
        for id in over {
            self.sending.remove(&id);
            let called_off = self.sending_off.remove(&id);
            let told = self.told.remove(&id);
            let Some(row) = self.commands.get_mut(&id) else { continue };
            if row.command.job.repeatable() && called_off.is_some() {
                row.reason = called_off;
                self.stands(id, CommandState::Held);
            } else if row.command.job.repeatable() {
                row.next_at = now;
                again += 1;
            } else {
                row.reason = Some(stopped(called_off.is_some()));
                self.stands(id, CommandState::Unknown);
                match told {
                    Some(provider_id) => self.end_lost(id, &provider_id, now),
                    None => unknown += 1,
                }
            }
        }
        (again, unknown)
    }

    /// Forgets an entry and what followed from it.
    pub(super) fn forget(&mut self, id: Id) {
        self.entries.remove(&id);
        self.events.retain(|_, row| row.event.entry != id);
        self.commands.retain(|_, row| row.entry != Some(id));
        for entries in self.references.values_mut() {
            entries.remove(&id);
        }
        let commands = &self.commands;
        self.sent.retain(|_, message| commands.contains_key(&message.command));
        self.slots.retain(|_, (_, command)| commands.contains_key(command));
        self.steps.retain(|command, _| commands.contains_key(command));
    }

    /// The entry whose timeline a thing stands in.
    pub(super) fn entry_of(&self, thing: Id) -> Option<Id> {
        match thing.kind() {
            Kind::Entry => Some(thing),
            Kind::Event => Some(self.events.get(&thing)?.event.entry),
            Kind::Command => self.commands.get(&thing)?.entry,
            Kind::Attempt => self.commands.values().find(|row| row.exchanges.iter().any(|exchange| exchange.id == thing))?.entry,
            _ => None,
        }
    }
}
