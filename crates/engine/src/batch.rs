//! Batches: messages that go together, by one call under one key.
//!
//! Each message of a batch is a command of its own, which waits behind the command of the batch. What is sent was written down when
//! the batch was made, so every try sends the same bytes. When the call has ended its messages end with it, in one transaction. Where
//! the provider refuses the whole, nothing has gone: each message then goes by itself. Where a batch ended otherwise its messages
//! follow it: none goes that may have gone before.

use jiff::SignedDuration;
use uzel_model::{CallError, Client, Id, Job, Refusal, Timestamp, port::Messages};
use uzel_store::{Change, Command, CommandState, Part, Step, TimelineCommand};

use crate::{Engine, Link, call::Outcome};

/// Why a batch is dead of which nothing has gone.
const APART: &str = "refused as a whole, so each of its messages goes by itself: ";
/// Why a batch that was tried is not tried again.
pub(crate) const TOO_LATE: &str = "it was tried before, and it is too late to try again: whether it has gone is not known";

/// What stands before a batch, and before a message that was to go with one.
pub(crate) async fn before(engine: &Engine, command: &Command) -> Option<Outcome> {
    match &command.job {
        Job::Batch { body: None, .. } => {
            let why = "each of its messages goes by itself".to_owned();
            Some(Outcome::ended(CommandState::Done, Some(why), "ok"))
        }
        Job::Batch { .. } => {
            let is_late = is_late(command, engine.clock.now());
            (is_late && command.attempts == 0).then(|| Outcome::held("too_old"))
        }
        Job::Send { batch: Some(batch), .. } => match engine.store.command(*batch).await {
            Ok(found) => after(engine, *batch, found.map(|(_, batch)| batch)),
            Err(error) => Some(later(engine, format!("what became of its batch cannot be read: {error}"))),
        },
        _ => None,
    }
}

/// Whether a batch may not go any more.
pub(crate) fn is_late(command: &Command, now: Timestamp) -> bool {
    matches!(command.job, Job::Batch { .. }) && command.latest_at.is_some_and(|latest| latest < now)
}

/// What a message comes to that waits no longer behind its batch; `None`: it goes by itself.
fn after(engine: &Engine, id: Id, batch: Option<TimelineCommand>) -> Option<Outcome> {
    let unknown = |why: &str| Some(Outcome::ended(CommandState::Unknown, Some(why.to_owned()), "unknown"));
    let Some(batch) = batch else { return unknown("its batch is gone from the journal") };
    let reason = batch.reason.unwrap_or_default();
    match batch.state {
        CommandState::Waiting | CommandState::Sending => Some(later(engine, format!("it goes with its batch {id}"))),
        CommandState::Dead if reason.starts_with(APART) => None,
        CommandState::Dead => Some(Outcome::ended(CommandState::Dead, Some(reason), "dead")),
        // Whatever the provider answered to it was a refusal, so none has gone.
        CommandState::Held if batch.exchanges.iter().all(|call| call.response.starts_with('4')) => Some(Outcome::held(&reason)),
        CommandState::Held => unknown(&format!("its batch was tried before it was held back ({reason})")),
        CommandState::Unknown => unknown(&reason),
        // Its messages ended with it.
        CommandState::Done => unknown("its batch does not tell of it"),
    }
}

fn later(engine: &Engine, why: String) -> Outcome {
    Outcome { counts: false, ..Outcome::again(engine.clock.now() + SignedDuration::from_secs(5), why) }
}

/// Makes the one call. Gives for each message that goes what became of it.
pub(crate) async fn send(link: &Link, command: &Command, client: &Client<'_>) -> Result<Vec<Result<String, String>>, CallError> {
    let Job::Batch { body: Some(body), .. } = &command.job else {
        return Err(CallError::refused(Refusal::Ours, "no_body", "there is nothing to send"));
    };
    let Some(batches) = link.connector.messages().and_then(Messages::batches) else {
        return Err(CallError::refused(Refusal::Ours, "no_port", "this provider takes no batches"));
    };
    let count = going(&command.job).count();
    let taken = batches.send_all(client, body, count, &command.id.to_string()).await?;
    if taken.len() == count {
        return Ok(taken);
    }
    Err(CallError::Unreadable(format!("the answer tells of {} messages, and {count} were sent", taken.len())))
}

/// The messages of a batch that go.
fn going(job: &Job) -> impl Iterator<Item = Id> {
    let (messages, held) = match job {
        Job::Batch { messages, held, .. } => (messages.as_slice(), held.as_slice()),
        _ => (&[] as &[Id], &[] as &[Id]),
    };
    messages.iter().filter(move |id| !held.contains(id)).copied()
}

/// Ends each message with its batch.
pub(crate) fn taken(link: &Link, command: &Command, results: Vec<Result<String, String>>, change: &mut Change) -> Outcome {
    let refused = results.iter().filter(|result| result.is_err()).count();
    let ended = |(command, result): (Id, Result<String, String>)| match result {
        Ok(provider_id) => Part { command, state: CommandState::Done, reason: None, provider_id: Some(provider_id) },
        Err(why) => Part { command, state: CommandState::Dead, reason: Some(link.without_secrets(&why)), provider_id: None },
    };
    change.parts = going(&command.job).zip(results).map(ended).collect();
    change.step = link.connector.messages().map(|messages| Step { channel: messages.channel(), price: None, next: None });
    let reason = (refused > 0).then(|| format!("{refused} of its {} messages were refused", change.parts.len()));
    Outcome::ended(CommandState::Done, reason, "ok")
}

/// The provider takes none of it, for what stands in it: then none has gone, and what is wrong with which is found one by one.
pub(crate) fn apart(command: &Command, error: &CallError) -> Option<Outcome> {
    match (&command.job, error) {
        (
            Job::Batch { .. },
            CallError::Refused { refusal: Refusal::Command | Refusal::Content | Refusal::NotHere, reason, .. },
        ) => Some(Outcome::ended(CommandState::Dead, Some(format!("{APART}{reason}")), "dead")),
        _ => None,
    }
}
