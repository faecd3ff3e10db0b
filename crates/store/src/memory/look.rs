//! What people see of it, and the check of its laws.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uzel_model::{Id, Price, Timestamp, port::Delivery};

use super::rows::{CommandRow, EntryRow, Rows};
use crate::{CommandState, Counts, Direction, EntryState, JournalFilter, JournalRow, Timeline, TimelineCommand, numbers};

impl Rows {
    pub(super) fn counts(&self) -> Counts {
        let (mut entries, mut commands, mut held) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for row in self.entries.values() {
            entries.entry(numbers::entry_number(row.state)).or_insert((row.state, 0)).1 += 1;
        }
        for (id, row) in &self.commands {
            let sending = self.sending.contains_key(id);
            let state = if sending { CommandState::Sending } else { row.state };
            commands.entry((numbers::command_number(state), sending)).or_insert((state, 0)).1 += 1;
            if state == CommandState::Held {
                *held.entry(row.reason.clone().unwrap_or_default()).or_insert(0) += 1;
            }
        }
        let held = held.into_iter().collect();
        Counts { entries: entries.into_values().collect(), commands: commands.into_values().collect(), held }
    }

    pub(super) fn undelivered(&self, connection: Id, after: Timestamp, before: Timestamp, limit: usize) -> Vec<String> {
        let open = self.sent.iter().filter(|((link, _), row)| {
            *link == connection && row.state == Delivery::OnTheWay && (after..before).contains(&row.at)
        });
        let mut open: Vec<_> = open.map(|((_, id), row)| (row.at, id.clone())).collect();
        open.sort_unstable();
        open.into_iter().map(|(_, id)| id).take(limit).collect()
    }

    /// The lines of what came; those of what went are for the stores that people use.
    pub(super) fn journal(&self, filter: &JournalFilter) -> Vec<JournalRow> {
        let found = filter.reference.as_ref().map(|value| self.references.get(value).cloned().unwrap_or_default());
        let wanted = |row: &&EntryRow| {
            found.as_ref().is_none_or(|found: &BTreeSet<Id>| found.contains(&row.entry.id))
                && filter.provider.as_ref().is_none_or(|provider| *provider == row.entry.provider)
                && filter.merchant.is_none_or(|merchant| merchant == row.entry.merchant)
                && filter.connection.is_none_or(|connection| connection == row.entry.connection)
                && filter.before.is_none_or(|before| row.entry.id < before)
                && filter.state.is_none_or(|state| match state {
                    EntryState::Dead => row.state == state || self.led_to_dead(row.entry.id),
                    state => row.state == state,
                })
        };
        let rows = self.entries.values().rev().filter(wanted).map(|row| JournalRow {
            id: row.entry.id,
            at: row.entry.request.received_at,
            merchant_id: row.entry.merchant,
            integration_id: row.entry.connection,
            provider: row.entry.provider.clone(),
            direction: Direction::In,
            endpoint: row.entry.request.path.clone(),
            status: if row.state == EntryState::Dead { "error" } else { "ok" },
            state: numbers::entry_word(row.state).to_owned(),
            request: String::from_utf8_lossy(&row.entry.request.body).into_owned(),
            response: row.entry.answer.clone(),
            error: None,
            retry_count: 0,
            next_retry_at: None,
        });
        rows.take(filter.limit).collect()
    }

    fn led_to_dead(&self, entry: Id) -> bool {
        self.commands.values().any(|row| row.entry == Some(entry) && row.state == CommandState::Dead)
    }

    pub(super) fn dead(&self, provider: Option<&str>, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<Id> {
        let dead = self.entries.values().filter(|row| {
            let at = row.entry.request.received_at;
            (row.state == EntryState::Dead || self.led_to_dead(row.entry.id))
                && from.is_none_or(|from| at >= from)
                && to.is_none_or(|to| at < to)
                && provider.is_none_or(|provider| row.entry.provider == provider)
        });
        dead.map(|row| row.entry.id).collect()
    }

    pub(super) fn shown(&self, row: &CommandRow) -> TimelineCommand {
        let command = &row.command;
        let message = row.provider_id.as_ref().and_then(|id| self.sent.get(&(command.connection, id.clone())));
        TimelineCommand {
            id: command.id,
            event: command.event,
            connection: command.connection,
            flow: command.flow,
            job: serde_json::to_value(&command.job).unwrap_or(Value::Null),
            state: if self.sending.contains_key(&command.id) { CommandState::Sending } else { row.state },
            reason: row.reason.clone(),
            due_at: command.due_at,
            next_at: row.next_at,
            attempts: command.attempts,
            provider_id: row.provider_id.clone(),
            delivery: message.map(|message| message.state),
            delivery_code: message.map(|message| message.code.clone()).filter(|code| !code.is_empty()),
            cost: message.and_then(|message| message.price.as_ref()).map(Price::text),
            currency: message.and_then(|message| message.price.as_ref()).map(|price| price.currency.clone()),
            after: self.steps.get(&command.id).map(|(after, _)| *after),
            why: self.steps.get(&command.id).map(|(_, why)| why.clone()),
            exchanges: row.exchanges.clone(),
        }
    }

    pub(super) fn timeline(&self, id: Id) -> Option<Timeline> {
        let row = self.entries.get(&self.entry_of(id)?)?;
        let entry = &row.entry;
        Some(Timeline {
            entry: entry.id,
            received_at: entry.request.received_at,
            provider: entry.provider.clone(),
            connection: entry.connection,
            merchant: entry.merchant,
            source: entry.source,
            method: entry.request.method.clone(),
            target: entry.request.path.clone(),
            proof: entry.request.key.clone(),
            headers: entry.request.headers.clone(),
            body: String::from_utf8_lossy(&entry.request.body).into_owned(),
            answer: entry.answer.clone(),
            state: row.state,
            notes: row.notes.clone(),
            trace: entry.trace.clone(),
            events: self.events.values().map(|row| &row.event).filter(|event| event.entry == entry.id).cloned().collect(),
            commands: self.commands.values().filter(|row| row.entry == Some(entry.id)).map(|row| self.shown(row)).collect(),
        })
    }

    /// What breaks the laws of the rows; most of those that a database must be checked for cannot be broken here.
    pub(super) fn check(&mut self, repair: bool) -> Vec<String> {
        let waits = |row: &&CommandRow| row.state == CommandState::Waiting;
        let open = |entry: Id| {
            let lives =
                |row: &CommandRow| matches!(row.state, CommandState::Waiting | CommandState::Dead | CommandState::Unknown);
            self.commands.values().any(|row| row.entry == Some(entry) && lives(row))
        };
        let known = |link: &Id| self.setup.contains_key(link) || self.removed.contains(link);
        let connected = |id: &&Id| known(&self.commands[*id].command.connection);
        let stray: Vec<Id> = self.waiting.iter().filter(|id| !connected(id)).copied().collect();
        let idle = self.sending.keys().filter(|id| !self.waiting.contains(id)).count();
        let hidden = self.commands.values().filter(waits).filter(|row| !self.waiting.contains(&row.command.id)).count();
        let pending = self.events.values().filter(|row| row.pending && !open(row.event.entry)).count();
        let slots = self.slots.values().filter(|(_, id)| !self.commands.contains_key(id)).count();
        let laws = [
            ("commands that wait but have no connection", stray.len()),
            ("commands that are being sent though they do not wait", idle),
            ("commands that wait and are not found", hidden),
            ("events that wait for a look-up which is not under way", pending),
            ("slots taken by commands that do not exist", slots),
            ("customers whose points are not what their movements come to", self.broken_wallets()),
        ];
        if repair {
            stray.into_iter().for_each(|id| self.stands(id, CommandState::Dead));
        }
        laws.into_iter().filter(|(_, count)| *count > 0).map(|(law, count)| format!("{count} {law}")).collect()
    }
}
