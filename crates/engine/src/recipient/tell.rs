//! Telling a merchant's people something: one message each, by their best way; where that way refuses, or is silent for minutes, by
//! the next.

use jiff::{SignedDuration, Timestamp};
use uzel_model::{
    Address, CallError, Content, Id, Job, Refusal,
    connector::ChatTurn,
    id::Kind,
    port::{Elsewhere, Messages},
};
use uzel_store::{Change, Command, CommandState, Contact, NewCommand};

use super::{Recipient, chat};
use crate::{Engine, Link, call::Outcome, tick};

/// A way that is silent for so long is left for the next.
const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// What is told later than this is no news any more.
const LATEST: SignedDuration = SignedDuration::from_hours(24);

/// The message to one person; nothing where they have no way to be reached. Ways that are known to be down come last.
pub fn command(engine: &Engine, recipient: &Recipient, content: Content, now: Timestamp) -> Option<NewCommand> {
    let mut ways = recipient.ways(&engine.world());
    ways.sort_by_key(|(link, _)| engine.open_breaker(link.id).is_some());
    let mut ways = ways.into_iter();
    let (link, to) = ways.next()?;
    let otherwise = ways.map(|(link, to)| Elsewhere { connection: link.id, to }).collect();
    let latest_at = now.saturating_add(LATEST).ok();
    Some(new(&link, to, content.into(), otherwise, latest_at, tick::new_trace(), now))
}

/// What a person is told by this way; by the others, one after another, where it fails.
pub(crate) fn new(
    link: &Link,
    to: Address,
    content: Box<Content>,
    otherwise: Vec<Elsewhere>,
    latest_at: Option<Timestamp>,
    trace: String,
    now: Timestamp,
) -> NewCommand {
    let id = Id::new(Kind::Command);
    let ordering_key = format!("{}/{}", link.id, to.key());
    let repeatable = link.connector.messages().is_some_and(Messages::repeatable);
    let command = Command {
        id,
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job: Job::Tell { to, content, repeatable, otherwise },
        due_at: now,
        latest_at,
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace,
    };
    NewCommand { command, ordering_key, subject: format!("command/{id}"), held: None, slot: None }
}

/// After a failure: the same by the next way, where this one said no, or has been silent for too long. Whoever cannot be reached at
/// an address that they bound has left it.
pub(crate) fn elsewhere(
    engine: &Engine,
    link: &Link,
    command: &Command,
    error: &CallError,
    outcome: Outcome,
    change: &mut Change,
) -> Outcome {
    let now = engine.clock.now();
    if let (CallError::Refused { refusal: Refusal::NotHere, .. }, Some((of @ (Address::Chat(_) | Address::Device(_)), _))) =
        (error, command.job.message())
    {
        change.commands.push(chat::command(link, None, of.clone(), ChatTurn::Left, command.trace.clone(), now));
    }
    let Job::Tell { content, otherwise, .. } = &command.job else { return outcome };
    let said_no = matches!(error, CallError::Refused { .. } | CallError::Unauthorized(_));
    let gives_up = said_no || outcome.state != CommandState::Waiting || now > command.due_at + PATIENCE;
    if outcome.state == CommandState::Done || !gives_up {
        return outcome;
    }
    let world = engine.world();
    let mut ways = otherwise.iter();
    let next = ways.find_map(|way| {
        let link = world.links.get(&way.connection).filter(|link| !link.paused)?;
        link.connector.messages().filter(|messages| messages.channel().takes(&way.to))?;
        Some((link, way.to.clone()))
    });
    let Some((link, to)) = next else { return outcome };
    let rest = ways.cloned().collect();
    change.commands.push(new(link, to, content.clone(), rest, command.latest_at, command.trace.clone(), now));
    if outcome.state == CommandState::Waiting {
        return Outcome { retry_at: None, label: "dead", state: CommandState::Dead, ..outcome };
    }
    outcome
}
