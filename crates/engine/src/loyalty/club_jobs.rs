//! What outside loyalty programmes are told later: purchases that earn, points given while a programme did not answer, and what is to
//! be given back.
//!
//! An accrual is sent until it is known to be done, always under one id. A redemption that is unclear is never sent again on the
//! quiet: it is asked for, and taken back where it was done for no sale.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uzel_model::{
    CallError, Client, Id, Job,
    id::Kind,
    loyalty::HoldState,
    port::{
        Loyalty,
        loyalty::{Accrual, Declined, Operation, OperationState, Redemption, Reversal, Told, Why},
    },
    price,
    schedule::backoff,
};
use uzel_store::{Change, Command, CommandState, Contact, LoyaltyLook, NewCommand, Notice, StoreError};

use super::{LoyaltyError, club};
use crate::{Engine, Link, call::Outcome};

/// What a programme has not decided is looked at again, ever more seldom.
const UNDECIDED_MAX: SignedDuration = SignedDuration::from_mins(10);
/// After this what is still undecided goes to a person.
const HORIZON: SignedDuration = SignedDuration::from_hours(72);
/// A redemption may still arrive for so long after it was sent: until then "not found" is no answer.
const MAY_ARRIVE: SignedDuration = SignedDuration::from_mins(10);

/// What is told to a programme later.
#[derive(Debug, Clone, PartialEq)]
pub enum Later {
    /// A purchase that earns.
    Accrue(Accrual),
    /// Points that were given while the programme did not answer.
    Settle { redemption: Redemption, command: Id },
    /// Points that may have been taken, and are to be given back unless this hold was committed by then.
    Release { operation: String, hold: Option<Id>, due_at: Timestamp },
    /// An operation that is to be taken back.
    Reverse { operation: String, reason: String },
}

impl Engine {
    /// Queues what a programme is told later.
    pub async fn club_later(&self, link: &Link, later: Later, trace: &str) -> Result<Id, StoreError> {
        let now = self.clock.now();
        let new = queued(link, later, None, now, trace);
        let id = new.command.id;
        self.store.apply(Change { commands: vec![new], now: Some(now), ..Change::default() }).await?;
        self.due.notify_one();
        Ok(id)
    }
}

/// The commands of one decision about an order, one after another.
pub(super) fn all(
    link: Option<&Arc<Link>>,
    later: Vec<Later>,
    order: &str,
    now: Timestamp,
    trace: &str,
) -> Result<Vec<NewCommand>, LoyaltyError> {
    if later.is_empty() {
        return Ok(Vec::new());
    }
    let link = link.ok_or_else(|| LoyaltyError::Again("the connection to the outside programme cannot be used".to_owned()))?;
    // Of one key the one that is due first goes first.
    let at = |place: usize| now + SignedDuration::from_millis(place as i64);
    Ok(later.into_iter().enumerate().map(|(place, later)| queued(link, later, Some(order), at(place), trace)).collect())
}

/// What commands have given on trust: the connection, and minor units.
pub(super) fn given(commands: &[NewCommand]) -> Vec<(Id, i64)> {
    let given = |new: &NewCommand| match &new.command.job {
        Job::Redeem { redemption, .. } => Some((new.command.connection, redemption.worth_minor)),
        _ => None,
    };
    commands.iter().filter_map(given).collect()
}

impl Engine {
    /// Shows what was given on trust.
    pub(super) fn count_given(&self, given: Vec<(Id, i64)>) {
        let world = self.world();
        for (link, minor) in given {
            if let Some(link) = world.links.get(&link) {
                self.metrics.clubs.offline(link.provider.id, "given", minor);
            }
        }
    }
}

/// The command that tells it. What is about one order goes one after another: nothing is taken back before it is there.
pub(crate) fn queued(link: &Link, later: Later, order: Option<&str>, now: Timestamp, trace: &str) -> NewCommand {
    let repeatable = link.connector.loyalty().is_some_and(Loyalty::repeatable);
    let in_order = |operation: &str| order.map_or_else(|| operation.to_owned(), |order| format!("order/{order}"));
    match later {
        Later::Accrue(accrual) => {
            let key = in_order(&accrual.operation);
            command(link, Job::Accrue { accrual: Box::new(accrual), repeatable }, &key, now, trace)
        }
        Later::Settle { redemption, command: id } => {
            let key = in_order(&redemption.operation);
            command_as(id, link, Job::Redeem { redemption: Box::new(redemption), repeatable }, &key, now, trace)
        }
        // It may have long to wait, and nothing waits for it.
        Later::Release { operation, hold, due_at } => {
            command(link, Job::Release { operation: operation.clone(), hold }, &operation, due_at, trace)
        }
        Later::Reverse { operation, reason } => {
            let reversal = Box::new(Reversal::of(&operation, &reason));
            command(link, Job::Reverse { reversal, repeatable }, &in_order(&operation), now, trace)
        }
    }
}

fn command(link: &Link, job: Job, key: &str, due_at: Timestamp, trace: &str) -> NewCommand {
    command_as(Id::new(Kind::Command), link, job, key, due_at, trace)
}

fn command_as(id: Id, link: &Link, job: Job, key: &str, due_at: Timestamp, trace: &str) -> NewCommand {
    let command = Command {
        id,
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job,
        due_at,
        latest_at: None,
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: trace.to_owned(),
    };
    let subject = format!("loyalty/{}", command.id);
    NewCommand { command, ordering_key: format!("{}/{key}", link.id), subject, held: None, slot: None }
}

/// What is to be known before a call: points whose sale took place stay taken.
pub(crate) async fn before(engine: &Engine, command: &Command) -> Option<Outcome> {
    let Job::Release { hold: Some(hold), .. } = &command.job else { return None };
    let now = engine.clock.now();
    let look = LoyaltyLook { hold: Some(*hold), ..LoyaltyLook::new(command.merchant, now) };
    match engine.store.loyalty(look).await {
        // A sale without a discount has not paid by them: what was taken for it unheard is given back.
        Ok(seen) if seen.hold.as_ref().is_some_and(|hold| hold.state == HoldState::Committed && hold.points > 0) => {
            Some(Outcome::ended(CommandState::Done, Some("the sale took place".to_owned()), "ok"))
        }
        Ok(_) => None,
        Err(error) => {
            let reason = format!("what became of its quote cannot be read: {error}");
            Some(Outcome { counts: false, ..Outcome::again(now + SignedDuration::from_secs(5), reason) })
        }
    }
}

/// Makes the call that a job asks for.
pub(crate) async fn make(link: &Link, job: &Job, client: &Client<'_>) -> Told<Operation> {
    let port = club::port(link)?;
    match job {
        Job::Accrue { accrual, .. } => match accrual.by.as_ref().filter(|_| accrual.account.is_empty()) {
            Some(by) => match port.account(client, by).await? {
                Ok(account) => port.accrue(client, &Accrual { account: account.id, by: None, ..(**accrual).clone() }).await,
                Err(declined) => Ok(Err(declined)),
            },
            None => port.accrue(client, accrual).await,
        },
        Job::Redeem { redemption, .. } => port.redeem(client, redemption).await,
        Job::Release { operation, .. } => port.operation(client, operation).await,
        Job::Reverse { reversal, .. } => port.reverse(client, reversal).await,
        _ => Err(CallError::refused(uzel_model::Refusal::Ours, "no_job", "this is nothing for a loyalty programme")),
    }
}

/// What follows from the programme's answer.
pub(crate) fn ended(
    engine: &Engine,
    link: &Link,
    command: &Command,
    told: Result<Operation, Declined>,
    change: &mut Change,
) -> Outcome {
    let outcome = match told {
        Ok(operation) => found(engine, link, command, operation, change),
        Err(declined) => refused(engine, command, declined),
    };
    given_up(engine, link, command, &outcome, change);
    if let (Job::Redeem { redemption, .. }, CommandState::Done) = (&command.job, outcome.state) {
        engine.metrics.clubs.offline(link.provider.id, "settled", redemption.worth_minor);
    }
    outcome
}

fn found(engine: &Engine, link: &Link, command: &Command, operation: Operation, change: &mut Change) -> Outcome {
    let done = |reason: Option<&str>| Outcome {
        provider_id: Some(operation.id.clone()),
        ..Outcome::ended(CommandState::Done, reason.map(str::to_owned), "ok")
    };
    let now = engine.clock.now();
    match (&command.job, operation.state) {
        (_, OperationState::Pending) => again(engine, command, "the programme has not decided it yet"),
        (Job::Release { operation: id, .. }, OperationState::Committed) => {
            let later = Later::Reverse { operation: id.clone(), reason: "the sale did not take place".to_owned() };
            change.commands.push(queued(link, later, None, now, &command.trace));
            done(Some("the points were taken for no sale: they are given back"))
        }
        (Job::Release { .. }, OperationState::Reversed | OperationState::Failed) => done(Some("no points are taken")),
        (_, OperationState::Committed) => done(None),
        (_, OperationState::Reversed) => done(Some("it was taken back since")),
        (_, OperationState::Failed) => dead("the programme says that it failed"),
    }
}

fn refused(engine: &Engine, command: &Command, declined: Declined) -> Outcome {
    let nothing_there = declined.why == Why::NotFound;
    match &command.job {
        Job::Release { .. } if nothing_there && engine.clock.now() < command.due_at + MAY_ARRIVE => {
            again(engine, command, "the programme knows nothing of it yet")
        }
        Job::Release { .. } | Job::Reverse { .. } if nothing_there => Outcome::ended(
            CommandState::Done,
            Some("the programme knows nothing of it: there is nothing to take back".to_owned()),
            "ok",
        ),
        _ => dead(&declined.reason),
    }
}

fn dead(reason: &str) -> Outcome {
    Outcome::ended(CommandState::Dead, Some(reason.to_owned()), "dead")
}

fn again(engine: &Engine, command: &Command, reason: &str) -> Outcome {
    let now = engine.clock.now();
    if now > command.due_at.saturating_add(HORIZON).unwrap_or(Timestamp::MAX) {
        return dead(&format!("given up after {} h: {reason}", HORIZON.as_hours()));
    }
    Outcome::again(now + backoff(command.attempts, UNDECIDED_MAX, engine.clock.chance()), reason.to_owned())
}

/// What will not be done any more is a person's to do, and points that were given and are not there are the merchant's loss.
pub(crate) fn given_up(engine: &Engine, link: &Link, command: &Command, outcome: &Outcome, change: &mut Change) {
    if outcome.state != CommandState::Dead {
        return;
    }
    let why = outcome.reason.as_deref().unwrap_or_default();
    let text = match &command.job {
        Job::Accrue { accrual, .. } => format!("points for receipt {} were not added: {why}", accrual.receipt),
        Job::Redeem { redemption, .. } if redemption.worth_minor == 0 => {
            format!("points that a refund left spent were not taken again for receipt {}: {why}", redemption.receipt)
        }
        Job::Redeem { redemption, .. } => {
            let lost = redemption.worth_minor;
            engine.metrics.clubs.offline(link.provider.id, "lost", lost);
            format!(
                "points given without a connection for receipt {} were not there, a loss of {}: {why}",
                redemption.receipt,
                price::text(lost.saturating_mul(10_000))
            )
        }
        Job::Release { operation, .. } => format!("whether points of operation {operation} were taken is not known: {why}"),
        Job::Reverse { reversal, .. } => format!("operation {} was not taken back: {why}", reversal.of),
        _ => return,
    };
    let text = link.without_secrets(&format!("{}: {text}", link.provider.name));
    change.notices.push(Notice { merchant: link.merchant, connection: link.id, kind: "loyalty".to_owned(), text });
}
