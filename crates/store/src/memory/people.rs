//! What people and their programs ask for: events and commands by pages, the feed, erasure, retention.

use uzel_model::{Bytes, Id, Named, Timestamp};

use super::rows::{CommandRow, Rows};
use crate::{
    Cancelled, CommandFilter, CommandState, ERASED, EntryState, Erased, EventFilter, FeedCursor, FeedFrom, FeedPage, StoreError,
    StoredEvent, TimelineCommand,
    erasure::{NOTE, REASON, hash, is_own},
    is_wanted,
};

/// Whether an id was made between two moments, and before another one.
fn is_between(id: Id, from: Option<Timestamp>, to: Option<Timestamp>, before: Option<Id>) -> bool {
    let made_at_ms = id.ordinal() >> 12;
    from.is_none_or(|from| made_at_ms >= from.as_millisecond())
        && to.is_none_or(|to| made_at_ms < to.as_millisecond())
        && before.is_none_or(|before| id < before)
}

impl Rows {
    pub(super) fn events_of(&self, filter: &EventFilter) -> Vec<StoredEvent> {
        let rows = self.events.values().rev().filter(|row| {
            let event = &row.event;
            filter.merchant.is_none_or(|merchant| merchant == event.merchant)
                && filter.connection.is_none_or(|connection| connection == event.connection)
                && filter.subject.as_ref().is_none_or(|subject| *subject == event.subject)
                && is_wanted(&filter.kinds, &event.kind)
                && is_between(event.id, filter.from, filter.to, filter.before)
        });
        rows.take(filter.limit).map(|row| StoredEvent { event: row.event.clone(), pending: row.pending }).collect()
    }

    pub(super) fn feed_from(&self, merchant: Option<Id>, kinds: &[String], from: FeedFrom, limit: usize) -> FeedPage {
        let after = match from {
            FeedFrom::After(cursor) => cursor.number as usize,
            FeedFrom::Now => self.feed.len(),
            FeedFrom::Time(at) => {
                let late = |id: &Id| id.ordinal() >> 12 >= at.as_millisecond();
                self.feed.iter().position(late).unwrap_or(self.feed.len())
            }
        };
        let mut page = FeedPage { events: Vec::new(), cursor: FeedCursor { number: after as i64, event: None }, more: false };
        for (place, event) in self.feed.iter().enumerate().skip(after) {
            if page.events.len() == limit {
                page.more = true;
                break;
            }
            page.cursor.number = place as i64 + 1;
            let event = self.events.get(event).map(|row| &row.event);
            let wanted =
                event.filter(|event| merchant.is_none_or(|merchant| merchant == event.merchant) && is_wanted(kinds, &event.kind));
            page.events.extend(wanted.map(|event| StoredEvent { event: event.clone(), pending: false }));
        }
        page
    }

    pub(super) fn commands_of(&self, filter: &CommandFilter) -> Vec<(Id, TimelineCommand)> {
        let rows = self.commands.values().rev().filter(|row| {
            let command = &row.command;
            let state = if self.sending.contains_key(&command.id) { CommandState::Sending } else { row.state };
            filter.merchant.is_none_or(|merchant| merchant == command.merchant)
                && filter.connection.is_none_or(|connection| connection == command.connection)
                && filter.state.is_none_or(|wanted| wanted == state)
                && filter.event.is_none_or(|event| command.event == Some(event))
                && is_between(command.id, filter.from, filter.to, filter.before)
        });
        let shown = |row: &CommandRow| TimelineCommand { exchanges: Vec::new(), ..self.shown(row) };
        rows.take(filter.limit).map(|row| (row.command.merchant, shown(row))).collect()
    }

    pub(super) fn cancel(&mut self, id: Id, reason: &str) -> Cancelled {
        match self.commands.get(&id).map(|row| row.state) {
            None => Cancelled::Unknown,
            Some(_) if self.sending.contains_key(&id) => Cancelled::Sending,
            Some(CommandState::Waiting) => {
                self.hold(id, reason);
                Cancelled::Held
            }
            Some(state) => Cancelled::Ended(state),
        }
    }

    fn hold(&mut self, id: Id, reason: &str) {
        let row = self.commands.get_mut(&id).expect("it was just found");
        row.reason = Some(reason.to_owned());
        let event = row.command.event.filter(|_| row.command.job.repeatable());
        self.slots.retain(|_, (_, command)| *command != id);
        self.close(event);
        self.stands(id, CommandState::Held);
    }

    pub(super) fn opted_out_at(&self, merchant: Id, phone: &str) -> Option<Timestamp> {
        let hash = self.phones.as_ref()?(merchant, phone);
        self.opted_out.get(&(merchant, hash)).copied()
    }

    pub(super) fn forget_opt_out(&mut self, merchant: Id, phone: &str) {
        if let Some(hash) = &self.phones {
            self.opted_out.remove(&(merchant, hash(merchant, phone)));
        }
    }

    /// All at once: here nobody waits for it.
    pub(super) fn erase(&mut self, merchant: Id, phone: &str) -> Result<Erased, StoreError> {
        let (hash, named) = (hash(self.phones.as_ref(), merchant, phone)?, Named::new(phone));
        let mut erased = Erased::default();
        let by_phone = self.references.remove(phone).unwrap_or_default();
        let (own, others) =
            by_phone.into_iter().partition(|id| self.entries.get(id).is_some_and(|row| row.entry.merchant == merchant));
        self.references.insert(phone.to_owned(), others);
        let names = |row: &CommandRow| named.is_in(&serde_json::to_string(&row.command.job).expect("a job is JSON"));
        let mut entries: std::collections::BTreeSet<Id> = own;
        let of_merchant = self.entries.values().filter(|row| row.entry.merchant == merchant && !row.entry.is_erased());
        for row in of_merchant {
            let id = row.entry.id;
            let follows = self.commands.values().any(|row| row.entry == Some(id) && names(row))
                || self
                    .events
                    .values()
                    .any(|row| row.event.entry == id && serde_json::to_string(&row.event).is_ok_and(|event| named.is_in(&event)));
            if follows || named.is_in(&String::from_utf8_lossy(&row.entry.request.body)) {
                entries.insert(id);
            }
        }
        let alone = self.commands.values().filter(|row| row.command.merchant == merchant && row.entry.is_none() && names(row));
        let mut commands: Vec<Id> = alone.map(|row| row.command.id).collect();
        for id in entries {
            let under_way =
                self.commands.values().filter(|row| row.entry == Some(id) && self.sending.contains_key(&row.command.id));
            let under_way = under_way.count() as u64;
            let Some(row) = self.entries.get_mut(&id) else { continue };
            if row.state == EntryState::Unread || under_way > 0 {
                self.references.entry(phone.to_owned()).or_default().insert(id);
                erased.busy += under_way.max(1);
                continue;
            }
            let request = &mut row.entry.request;
            (request.method, request.path, request.body) = (ERASED.to_owned(), String::new(), Bytes::new());
            (request.query, request.headers, request.peer) = (Vec::new(), Vec::new(), None);
            row.entry.answer = String::new();
            row.notes = vec![NOTE.to_owned()];
            erased.entries += 1;
            let mut others = Vec::new();
            for row in self.events.values_mut().filter(|row| row.event.entry == id) {
                if is_own(&row.event, &named) {
                    row.event.forget_person(&named);
                    erased.events += 1;
                } else {
                    others.push(row.event.id);
                }
            }
            let of_others = |row: &CommandRow| row.command.event.is_some_and(|event| others.contains(&event)) && !names(row);
            commands
                .extend(self.commands.values().filter(|row| row.entry == Some(id) && !of_others(row)).map(|row| row.command.id));
        }
        for id in commands {
            if self.sending.contains_key(&id) {
                erased.busy += 1;
                continue;
            }
            if self.commands[&id].state == CommandState::Waiting {
                self.hold(id, REASON);
            }
            let row = self.commands.get_mut(&id).expect("it was just found");
            row.command.job.forget_person(&named);
            row.order_key = String::new();
            for exchange in &mut row.exchanges {
                (exchange.request, exchange.response, exchange.endpoint) = (String::new(), String::new(), ERASED.to_owned());
                erased.exchanges += 1;
            }
            erased.commands += 1;
        }
        for exchange in self.exchanges.values_mut().filter(|exchange| exchange.merchant == merchant) {
            if named.is_in(&exchange.request) || named.is_in(&exchange.response) {
                (exchange.request, exchange.response, exchange.endpoint) = (String::new(), String::new(), ERASED.to_owned());
                erased.exchanges += 1;
            }
        }
        self.forget_reviews(merchant, phone);
        erased.wallets = self.forget_wallets(merchant, &named);
        self.heard.retain(|(of, who, _), _| *of != merchant || who != phone);
        self.bounces.remove(&(merchant, phone.to_owned()));
        if let Some((contact, at)) = self.contacts.remove(&(merchant, phone.to_owned())) {
            erased.contacts += 1;
            if contact.opted_out {
                self.opted_out.insert((merchant, hash), at);
            }
        }
        Ok(erased)
    }

    pub(super) fn purge(&mut self, merchant: Option<Id>, before: Timestamp, limit: usize) -> u64 {
        let is_own = |id: Id| merchant.is_none_or(|merchant| merchant == id);
        let waits = |id: Id| self.waiting.iter().any(|command| self.commands[command].entry == Some(id));
        let told =
            |id: Id| self.unpublished.values().any(|event| self.events.get(event).is_some_and(|row| row.event.entry == id));
        let old = self.entries.values().filter(|row| row.entry.request.received_at < before && row.state != EntryState::Unread);
        let gone = old.filter(|row| is_own(row.entry.merchant)).map(|row| row.entry.id);
        let gone: Vec<Id> = gone.filter(|id| !waits(*id) && !told(*id)).take(limit).collect();
        gone.iter().for_each(|id| self.forget(*id));
        self.purge_reviews(merchant, before);
        self.exchanges.retain(|_, exchange| exchange.at >= before || !is_own(exchange.merchant));
        self.heard.retain(|(of, ..), at| *at >= before || !is_own(*of));
        let late = |moments: &[i64]| moments.iter().any(|at| *at >= before.as_millisecond());
        self.bounces.retain(|(of, _), moments| late(moments) || !is_own(*of));
        let waits = |state| state == CommandState::Waiting;
        self.commands.retain(|_, row| {
            row.entry.is_some() || row.command.due_at >= before || waits(row.state) || !is_own(row.command.merchant)
        });
        gone.len() as u64
    }
}
