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
use uzel_store::{
    Change, Command, CommandFilter, CommandState, Contact, Follow, NewCommand, Next, STOPPED, Step, StoreError, TimelineCommand,
};

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

/// Messages that are looked at of each connection, the newest.
const STOPPED_MAX: usize = 500;
/// Chains that stand for longer are left to people.
const STOPPED_WITHIN: SignedDuration = SignedDuration::from_hours(48);

/// Chains of which a message was being sent when its hub stopped go on, where the flow says so of what is unknown.
pub(crate) async fn go_on(engine: &Engine) -> Result<(), StoreError> {
    let world = engine.world();
    let now = engine.clock.now();
    let mut flows: Vec<&Arc<Flow>> = world.flows.values().collect();
    // In one order, so that a simulated hub does the same again.
    flows.sort_unstable_by_key(|flow| flow.id);
    for flow in flows.into_iter().filter(|flow| flow.steps.len() > 1 && flow.doc.also_if_unknown) {
        // Behind the last step comes nothing.
        for step in &flow.steps[..flow.steps.len() - 1] {
            let Some(link) = world.link_of(flow.merchant, &step.doc.via) else { continue };
            let filter = CommandFilter {
                merchant: None,
                connection: Some(link.id),
                state: Some(CommandState::Unknown),
                event: None,
                from: Some(now - STOPPED_WITHIN),
                to: None,
                before: None,
                limit: STOPPED_MAX,
            };
            let unknown = engine.store.commands(filter).await?.into_iter().map(|(_, command)| command);
            for command in unknown.filter(|known| known.flow == Some(flow.id) && known.reason.as_deref() == Some(STOPPED)) {
                go_on_after(engine, link, flow, command).await?;
            }
        }
    }
    Ok(())
}

async fn go_on_after(engine: &Engine, link: &Link, flow: &Flow, stopped: TimelineCommand) -> Result<(), StoreError> {
    let Some(event) = (match stopped.event {
        Some(event) => engine.store.event(event).await?,
        None => None,
    }) else {
        return Ok(());
    };
    let Ok(job) = serde_json::from_value(stopped.job) else { return Ok(()) };
    let now = engine.clock.now();
    let before = Command {
        id: stopped.id,
        merchant: event.merchant,
        connection: link.id,
        flow: Some(flow.id),
        event: Some(event.id),
        job,
        due_at: stopped.due_at,
        latest_at: Some(flow.latest_at(&event, now)),
        source: event.connection,
        attempts: stopped.attempts,
        contact: Contact::default(),
        lease: 0,
        trace: event.trace.clone(),
    };
    let Some(chain) = of(engine, link, &before).await? else { return Ok(()) };
    let Some((Some(next), skipped)) = chain.next(engine, &before, now) else { return Ok(()) };
    let first = format!("nobody knows whether `{}` sent it: the hub stopped", link.slug);
    let why = std::iter::once(first).chain(skipped).collect::<Vec<_>>().join("; ");
    let links = review::made_for(&engine.world(), event.outlet, [&next], now);
    let follow = Follow { after: before.id, next: Next { command: next.command.id, why: link.without_secrets(&why) } };
    let change = Change { follow: Some(follow), commands: vec![next], links, now: Some(now), ..Change::default() };
    match engine.store.apply(change).await {
        Ok(_) => engine.due.notify_one(),
        // It has gone on, or is known meanwhile.
        Err(StoreError::Conflict) => {}
        Err(error) => return Err(error),
    }
    Ok(())
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
