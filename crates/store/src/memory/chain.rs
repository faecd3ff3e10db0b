//! Chains of messages: what follows a settlement, what news of a message change, and what messages cost.

use uzel_model::{Id, Price, Refusal, Timestamp, connector::StatusNews, port::Delivery};

use super::rows::Rows;
use crate::{
    CommandState, Early, EntryState, Message, Spent, Step,
    bounce::{given_up, one_more},
    chain::{DELIVERED, EARLY_FOR_MS, OPT_OUT, Purse, becomes, month, shift},
    consent::refused,
};

impl Rows {
    /// Notes which command follows a settled one.
    pub(super) fn follows(&mut self, settled: Id, ends: CommandState, step: &Step, is_held: bool) {
        let Some(next) = &step.next else { return };
        self.steps.insert(next.command, (settled, next.why.clone()));
        if ends == CommandState::Dead && !is_held {
            self.move_slot(settled, next.command);
        }
    }

    pub(super) fn is_followed(&self, command: Id) -> bool {
        self.steps.values().any(|(after, _)| *after == command)
    }

    fn move_slot(&mut self, from: Id, to: Id) {
        self.slots.values_mut().filter(|(_, command)| *command == from).for_each(|(_, command)| *command = to);
    }

    fn free_slot(&mut self, of: Id) {
        self.slots.retain(|_, (_, command)| *command != of);
    }

    /// A message is known from now on: news of it that came before are read again.
    pub(super) fn taken(&mut self, connection: Id, provider_id: &str, price: Option<&Price>) -> u32 {
        if let Some(price) = price {
            self.spend(connection, provider_id, price);
        }
        let of_it = |(link, id, _): &&(Id, String, Id)| *link == connection && id == provider_id;
        let found: Vec<_> = self.early.keys().filter(of_it).cloned().collect();
        self.early.retain(|key, _| !found.contains(key));
        found.into_iter().map(|(.., entry)| u32::from(self.read_again(entry))).sum()
    }

    /// Keeps where news stand of messages that are not known. Where one has become known meanwhile, they are read again.
    pub(super) fn keep_early(&mut self, early: Vec<Early>, now: Timestamp) -> u32 {
        let mut again = 0;
        for Early { connection, provider_id, entry } in early {
            self.early.retain(|_, at| *at >= now.as_millisecond() - EARLY_FOR_MS);
            if self.sent.contains_key(&(connection, provider_id.clone())) {
                again += u32::from(self.read_again(entry));
            } else {
                self.early.entry((connection, provider_id, entry)).or_insert(now.as_millisecond());
            }
        }
        again
    }

    fn read_again(&mut self, entry: Id) -> bool {
        let Some(row) = self.entries.get_mut(&entry).filter(|row| row.state != EntryState::Unread) else { return false };
        (row.state, row.notes) = (EntryState::Unread, Vec::new());
        self.unread.insert(row.arrival, (entry, Timestamp::MIN));
        true
    }

    /// What became of a message, and of what was to follow it.
    pub(super) fn news(&mut self, connection: Id, news: &StatusNews, now: Timestamp) {
        let place = (connection, news.provider_id.clone());
        if !self.sent.contains_key(&place) {
            return;
        }
        if let Some(price) = news.cost.as_ref().and_then(Price::read) {
            self.spend(connection, &news.provider_id, &price);
        }
        let Some(message) = self.sent.get_mut(&place) else { return };
        let Some(state) = becomes(message.state, news.state) else { return };
        (message.state, message.code) = (state, news.code.clone());
        let (command, has_failed) = (message.command, state == Delivery::Failed);
        let wants_none = news.refusal == Some(Refusal::OptOut);
        let receiver = self.commands.get(&command).and_then(|row| Some((row.command.merchant, row.command.job.address()?.key())));
        if let Some((merchant, to)) = receiver {
            if wants_none {
                self.put_word(refused(merchant, &to, now));
            }
            if news.bounced && has_failed {
                self.bounced(merchant, to, &news.code, now);
            }
        }
        let next = self.steps.iter().find(|(_, (after, _))| *after == command).map(|(next, _)| *next);
        let Some(next) = next else {
            // A message that reached nobody has asked nobody.
            if has_failed {
                self.free_slot(command);
            }
            return;
        };
        let Some(next_state) = self.commands.get(&next).map(|row| row.state) else { return };
        let waits = next_state == CommandState::Waiting;
        let is_being_sent = self.sending.contains_key(&next);
        if has_failed && !wants_none {
            if matches!(next_state, CommandState::Dead | CommandState::Held) {
                self.free_slot(command);
            } else {
                self.move_slot(command, next);
            }
            if waits
                && !is_being_sent
                && let Some(row) = self.commands.get_mut(&next)
            {
                row.command.due_at = row.command.due_at.min(now);
                row.next_at = row.next_at.min(now);
                if let Some((_, why)) = self.steps.get_mut(&next) {
                    why.push_str(&format!("; it failed with {}", news.code));
                }
            }
            return;
        }
        let reason = if wants_none { OPT_OUT } else { DELIVERED };
        if waits && is_being_sent {
            self.sending_off.insert(next, reason.to_owned());
        } else if waits && let Some(row) = self.commands.get_mut(&next) {
            row.reason = Some(reason.to_owned());
            self.free_slot(next);
            self.stands(next, CommandState::Held);
        }
    }

    /// A message came back: often enough, and its address is given up.
    fn bounced(&mut self, merchant: Id, to: String, code: &str, now: Timestamp) {
        let word_at = self.contacts.get(&(merchant, to.clone())).map(|(_, at)| at.as_millisecond());
        let before = self.bounces.remove(&(merchant, to.clone())).unwrap_or_default();
        let (moments, enough) = one_more(&before, now.as_millisecond(), word_at);
        if enough {
            self.put_word(given_up(merchant, &to, code, now));
        } else {
            self.bounces.insert((merchant, to), moments);
        }
    }

    fn spend(&mut self, connection: Id, provider_id: &str, price: &Price) {
        let Some(message) = self.sent.get_mut(&(connection, provider_id.to_owned())) else { return };
        let Some(row) = self.commands.get(&message.command) else { return };
        let (channel, provider) =
            message.way.clone().map_or_else(Default::default, |(channel, provider)| (channel.name(), provider));
        let purse = Purse {
            merchant: row.command.merchant,
            month: month(message.at),
            flow: row.command.flow.map(|flow| flow.to_string()).unwrap_or_default(),
            channel: channel.to_owned(),
            provider,
        };
        for (currency, micro, messages) in shift(message.price.as_ref(), price) {
            let sum = self.spent.entry((purse.clone(), currency)).or_default();
            *sum = (sum.0 + micro, sum.1 + messages);
        }
        message.price = Some(price.clone());
    }

    pub(super) fn messages(&self, connection: Id, provider_ids: &[String]) -> Vec<Message> {
        let known = |provider_id: &String| {
            let message = self.sent.get(&(connection, provider_id.clone()))?;
            let command = &self.commands.get(&message.command)?.command;
            let (flow, event, state) = (command.flow, command.event, message.state);
            Some(Message { provider_id: provider_id.clone(), command: command.id, flow, event, state })
        };
        provider_ids.iter().filter_map(known).collect()
    }

    pub(super) fn costs(&self, merchant: Id, month: &str) -> Vec<Spent> {
        let of_month = self
            .spent
            .iter()
            .filter(|((purse, _), (_, messages))| purse.merchant == merchant && purse.month == month && *messages > 0);
        of_month
            .map(|((purse, currency), (micro, messages))| Spent {
                flow: purse.flow.parse().ok(),
                channel: purse.channel.clone(),
                provider: purse.provider.clone(),
                currency: currency.clone(),
                micro: *micro,
                messages: messages.unsigned_abs(),
            })
            .collect()
    }
}
