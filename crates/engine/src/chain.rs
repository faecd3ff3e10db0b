//! Chains: a flow's message goes by the next step where the one before reaches nobody.
//!
//! What follows is queued in the transaction in which a step ends: at once where the step failed, else for when its patience is
//! over. From then on it is a command as any other: news of the message before hold it back or make it due, a cancellation calls
//! it off, and before it goes all is looked at once more.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{
    Event,
    port::{Delivery, Messages},
};
use uzel_store::{Change, Command, CommandState, NewCommand, Next, Step, StoreError};

use crate::{
    Engine, Link, World,
    call::Outcome,
    flow::{Flow, Place, Way},
    review,
    world::Origin,
};

/// A provider that cannot be reached is given up for the next step after so many tries, when its time is over too.
const TRIES_MIN: u32 = 2;

/// A step of a chain that is about to be sent.
pub(crate) struct Chain {
    flow: Arc<Flow>,
    event: Event,
    /// Its place in the flow.
    number: usize,
    /// What became of the message before.
    earlier: Option<Delivery>,
}

/// Of each step of a flow the connection by which it goes.
pub(crate) fn ways(world: &World, flow: &Flow) -> Vec<Option<Way>> {
    let way = |via: &str| {
        let link = world.link_of(flow.merchant, via)?;
        let messages = link.connector.messages()?;
        Some(Way { id: link.id, channel: messages.channel(), repeatable: messages.repeatable() })
    };
    flow.steps.iter().map(|step| way(&step.doc.via)).collect()
}

/// The chain that a command is a step of, if of any.
pub(crate) async fn of(engine: &Engine, link: &Link, command: &Command) -> Result<Option<Chain>, StoreError> {
    let (Some(flow), Some(event)) = (command.flow, command.event) else { return Ok(None) };
    let world = engine.world();
    let Some(flow) = world.flow(flow).filter(|flow| flow.steps.len() > 1) else { return Ok(None) };
    let Some(number) = flow.place_of(&link.slug) else { return Ok(None) };
    let Some(event) = engine.store.event(event).await? else { return Ok(None) };
    let after = engine.store.command(command.id).await?.and_then(|(_, shown)| shown.after);
    let earlier = match after {
        Some(after) => engine.store.command(after).await?.and_then(|(_, shown)| shown.delivery),
        None => None,
    };
    Ok(Some(Chain { flow: flow.clone(), event, number, earlier }))
}

impl Chain {
    /// Whether the message before has arrived meanwhile.
    pub(crate) fn has_arrived(&self) -> bool {
        matches!(self.earlier, Some(Delivery::Delivered | Delivery::Read))
    }

    /// What follows a step that ended so. A step that the merchant must see to first, or whose provider cannot be reached, ends
    /// here where there is another.
    pub(crate) fn follow(
        &self,
        engine: &Engine,
        link: &Link,
        command: &Command,
        has_tried: bool,
        outcome: &mut Outcome,
        change: &mut Change,
    ) {
        let now = engine.clock.now();
        let step = &self.flow.steps[self.number];
        let via = &step.doc.via;
        let reason = || outcome.reason.clone().unwrap_or_default();
        let tells = link.connector.messages().is_some_and(Messages::tells_delivery);
        let (at, why) = match outcome.state {
            CommandState::Done if tells && outcome.provider_id.is_some() => {
                let patience = spoken(step.after);
                (
                    now.saturating_add(step.after).unwrap_or(Timestamp::MAX),
                    format!("in case `{via}` has not delivered it in {patience}"),
                )
            }
            CommandState::Dead => (now, format!("`{via}` did not send it: {}", reason())),
            CommandState::Unknown if self.flow.doc.also_if_unknown => {
                (now, format!("nobody knows whether `{via}` sent it: {}", reason()))
            }
            CommandState::Waiting if outcome.gives_way || self.is_over(command, has_tried, outcome, now) => {
                (now, format!("`{via}` cannot send it now: {}", reason()))
            }
            _ => return,
        };
        let Some((next, skipped)) = self.next(engine, command, at) else { return };
        let Some(next) = next else {
            let notes = skipped.join("; ");
            outcome.reason = Some(outcome.reason.take().map_or_else(|| notes.clone(), |reason| format!("{reason}; {notes}")))
                .filter(|reason| !reason.is_empty());
            return;
        };
        if outcome.state == CommandState::Waiting {
            (outcome.state, outcome.retry_at, outcome.label) = (CommandState::Dead, None, "dead");
        }
        let why = std::iter::once(why).chain(skipped).collect::<Vec<_>>().join("; ");
        change.links.extend(review::made_for(&engine.world(), self.event.outlet, [&next], now));
        self.put(change, link, next, link.without_secrets(&why));
    }

    fn put(&self, change: &mut Change, link: &Link, next: NewCommand, why: String) {
        let Some(messages) = link.connector.messages() else { return };
        let step = change.step.get_or_insert_with(|| Step { channel: messages.channel(), price: None, next: None });
        step.next = Some(Next { command: next.command.id, why });
        change.commands.push(next);
    }

    /// Whether a step has been tried in vain for as long as a message may be under way.
    fn is_over(&self, command: &Command, has_tried: bool, outcome: &Outcome, now: Timestamp) -> bool {
        let tried = has_tried && outcome.counts && command.attempts >= TRIES_MIN;
        tried && command.due_at.saturating_add(self.flow.steps[self.number].after).is_ok_and(|over| over <= now)
    }

    /// Nothing where this is the last step.
    fn next(&self, engine: &Engine, command: &Command, at: Timestamp) -> Option<(Option<NewCommand>, Vec<String>)> {
        if self.number + 1 == self.flow.steps.len() {
            return None;
        }
        let world = engine.world();
        let source = world.origin(command.merchant, command.source, self.event.outlet)?;
        let ways = ways(&world, &self.flow);
        let place = place(&world, &source, &self.event, &ways, engine.clock.now());
        Some(self.flow.next(self.number, command, &self.event, place, at))
    }
}

fn place<'a>(world: &'a World, source: &'a Origin<'a>, event: &Event, ways: &'a [Option<Way>], now: Timestamp) -> Place<'a> {
    Place {
        zone: &source.zone,
        outlet: source.outlet_name,
        outlet_slug: world.slugs(event).1,
        source: source.slug,
        public_url: world.public_url.as_deref(),
        ways,
        now,
    }
}

/// What would go after a command, step by step, where each before it reached nobody.
pub(crate) fn preview(world: &World, event: &Event, command: &Command) -> Vec<Value> {
    let mut steps = Vec::new();
    let source = world.origin(command.merchant, command.source, event.outlet);
    let (Some(flow), Some(source)) = (command.flow.and_then(|id| world.flow(id)), source) else { return steps };
    let ways = ways(world, flow);
    let mut before = command.clone();
    while let Some(number) = world.links.get(&before.connection).and_then(|link| flow.place_of(&link.slug)) {
        let at = before.due_at.saturating_add(flow.steps[number].after).unwrap_or(Timestamp::MAX);
        let place = place(world, &source, event, &ways, before.due_at);
        let (next, skipped) = flow.next(number, &before, event, place, at);
        steps.extend(skipped.into_iter().map(|why| json!({ "skipped": why })));
        let Some(NewCommand { command: next, .. }) = next else { break };
        let via = world.links.get(&next.connection).map(|link| link.slug.clone());
        steps.push(json!({ "via": via, "due_at": next.due_at, "job": next.job }));
        before = next;
    }
    steps
}

/// A duration as people say it.
fn spoken(duration: SignedDuration) -> String {
    match duration.as_secs() {
        seconds if seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}
