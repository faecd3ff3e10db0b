//! Whether a schedule kept what the hub promises: judged by what was seen from outside and by the rows that are left.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::Ordering,
};

use uzel_model::{Event, Id, event::kind, port::Delivery};
use uzel_store::{CommandState, EntryState, Store, TimelineCommand};

use crate::{
    schedule::{FLOWS, flow_id},
    world::{Effect, Ledger, World},
};

/// Everything that is broken, in words.
pub(crate) async fn judge(world: &World) -> Vec<String> {
    let mut rows = Rows::default();
    let appended = world.ledger.lock().appended.clone();
    for (arrival, entry) in appended.iter().enumerate() {
        let Some(timeline) = world.store.timeline(*entry).await.unwrap() else {
            rows.broken.push(format!("{entry} was committed and is not there"));
            continue;
        };
        if timeline.state == EntryState::Unread && arrival < world.quiet_after.load(Ordering::Relaxed) {
            rows.broken.push(format!("{entry} is unread"));
        }
        rows.arrivals.insert(*entry, arrival);
        rows.events.extend(timeline.events);
        rows.commands.extend(timeline.commands.into_iter().map(|command| (command.id, command)));
    }
    rows.broken.extend(world.store.fsck(false).await.unwrap());
    let ledger = world.ledger.lock();
    rows.broken.extend(ledger.broken.clone());
    let lost = ledger.accepted.iter().filter(|(entry, _)| !rows.arrivals.contains_key(entry));
    rows.broken.extend(lost.map(|(entry, _)| format!("{entry} was answered ok and is not in the inbox")));
    rows.keys(&ledger.told());
    rows.flows();
    rows.ends(&ledger.effects);
    if world.must_know.load(Ordering::Relaxed) {
        rows.known();
    }
    rows.order(&ledger);
    rows.chains(&ledger);
    rows.call_offs(&ledger);
    rows.broken
}

#[derive(Default)]
struct Rows {
    arrivals: HashMap<Id, usize>,
    events: Vec<Event>,
    commands: BTreeMap<Id, TimelineCommand>,
    broken: Vec<String>,
}

impl Rows {
    /// Everything that was told is an event, once.
    fn keys(&mut self, told: &BTreeSet<String>) {
        let mut known = BTreeSet::new();
        for event in &self.events {
            if !known.insert(event.key.clone()) {
                self.broken.push(format!("two events of the key {}", event.key));
            }
        }
        self.broken.extend(told.difference(&known).map(|key| format!("{key} was answered ok and nothing is known of it")));
    }

    /// An event whose phone is known makes one command per flow.
    fn flows(&mut self) {
        for event in self.events.iter().filter(|event| event.kind == kind::ORDER_COMPLETED) {
            for name in FLOWS {
                let of_event = self.commands.values().filter(|command| command.event == Some(event.id));
                let begun = of_event.filter(|command| command.after.is_none());
                let count = begun.filter(|command| command.flow == Some(flow_id(name))).count();
                if count != usize::from(event.phone.is_some()) {
                    let known = if event.phone.is_some() { "known" } else { "unknown" };
                    self.broken.push(format!("{}, its phone {known}, has {count} commands of the flow {name}", event.key));
                }
            }
        }
    }

    /// Every command has ended, and was done as often as it says.
    fn ends(&mut self, effects: &[Effect]) {
        for (id, command) in &self.commands {
            let count = effects.iter().filter(|effect| effect.command == *id).count();
            let may = match command.state {
                CommandState::Waiting | CommandState::Sending => {
                    self.broken.push(format!("{id} still waits"));
                    continue;
                }
                CommandState::Done => usize::from(command.flow.is_some())..=1,
                CommandState::Dead | CommandState::Held => 0..=0,
                CommandState::Unknown => 0..=1,
            };
            if !may.contains(&count) {
                self.broken.push(format!("{id} is {:?} and was sent {count} times", command.state));
            }
        }
        let mut asked = BTreeSet::new();
        for effect in effects.iter().filter(|effect| effect.text.starts_with("once ")) {
            if !asked.insert(&effect.phone) {
                self.broken.push(format!("{} was written to twice by a flow that does so once a day", effect.phone));
            }
        }
    }

    /// Nothing is in doubt without a reason.
    fn known(&mut self) {
        let unknown = self.commands.values().filter(|command| command.state == CommandState::Unknown);
        self.broken.extend(unknown.map(|command| format!("{} is unknown, and nothing was lost", command.id)));
    }

    /// Of one ordering key what was queued goes one after another, in its order.
    fn order(&mut self, ledger: &Ledger) {
        let done: Vec<(&Effect, &TimelineCommand)> = ledger
            .effects
            .iter()
            .filter_map(|effect| Some((effect, self.commands.get(&effect.command)?)))
            .filter(|(_, command)| command.state == CommandState::Done)
            .collect();
        for (place, (first, one)) in done.iter().enumerate() {
            let same_key =
                |second: &Effect, other: &TimelineCommand| second.phone == first.phone && other.connection == one.connection;
            for (second, other) in done[place + 1..].iter().filter(|(second, other)| same_key(second, other)) {
                let ended = ledger.ended[&one.id].0;
                if ledger.leases[&other.id].iter().any(|leased| (first.place..ended).contains(leased)) || second.place < ended {
                    self.broken.push(format!("{} was taken up while {} of the same key was sent", other.id, one.id));
                }
                let leased = ledger.leases[&one.id][0];
                // What follows in a chain may have become due sooner since.
                let has_place = other.after.is_none() && ledger.queued[&other.id] < leased;
                if has_place && (other.due_at, other.id) < (one.due_at, one.id) {
                    self.broken.push(format!("{} went before {}, which was to go first", one.id, other.id));
                }
            }
        }
    }

    /// A message goes by the next step once, and only where the one before has not brought it.
    fn chains(&mut self, ledger: &Ledger) {
        let mut followed = BTreeSet::new();
        let mut broken = Vec::new();
        for next in self.commands.values() {
            let Some(before) = next.after.and_then(|after| self.commands.get(&after)) else { continue };
            if !followed.insert(before.id) {
                broken.push(format!("{} is followed by two", before.id));
            }
            if next.flow != Some(flow_id("chain")) || next.event != before.event {
                broken.push(format!("{} follows {}, which is of no chain", next.id, before.id));
            }
            let was_sent = ledger.effects.iter().any(|effect| effect.command == next.id);
            // What is dead may have been called off since.
            if was_sent && matches!(before.state, CommandState::Unknown | CommandState::Waiting | CommandState::Sending) {
                broken.push(format!("{} was sent though {} is {:?}", next.id, before.id, before.state));
            }
            // What was being sent at that moment cannot be called back.
            let arrived = before.provider_id.as_ref().and_then(|id| ledger.arrived.get(id));
            let late = |at: &u64| ledger.leases.get(&next.id).is_some_and(|leases| leases.iter().any(|leased| leased > at));
            if before.delivery == Some(Delivery::Delivered) && was_sent && arrived.is_some_and(late) {
                broken.push(format!("{} was sent though {} had arrived", next.id, before.id));
            }
        }
        self.broken.extend(broken);
    }

    /// What was called off is not taken up after that, if it came before the word.
    fn call_offs(&mut self, ledger: &Ledger) {
        // A repeat of the word is dropped, so it calls nothing off.
        let new = |by: &Id, subject: &str| {
            self.events.iter().any(|event| event.entry == *by && event.kind == kind::ORDER_CANCELLED && event.subject == subject)
        };
        for (subject, by, at) in ledger.called_off.iter().filter(|(subject, by, _)| new(by, subject)) {
            let before = |event: &&Event| event.subject == *subject && self.arrivals.get(&event.entry) < self.arrivals.get(by);
            for event in self.events.iter().filter(before) {
                let of_event = self.commands.values().filter(|command| command.event == Some(event.id));
                // What was being sent at that moment cannot be called off, but is not tried again.
                let later = |id: &Id| ledger.leases.get(id).is_some_and(|leases| leases.iter().any(|leased| leased > at));
                let taken = of_event.map(|command| command.id).filter(later);
                self.broken.extend(taken.map(|id| format!("{id} was taken up though {subject} had been called off")));
            }
        }
    }
}
