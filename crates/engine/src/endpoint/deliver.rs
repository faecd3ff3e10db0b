//! One try at telling an endpoint of an event, and what becomes of it.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use tokio::time::Instant;
use uzel_model::{CallError, Job, Outgoing, Reply};
use uzel_store::{Change, Command, CommandState, Notice};

use super::{Disabled, Endpoint, LOYALTY};
use crate::{
    Engine, breaker,
    call::{Outcome, finish},
    outward::Call,
};

/// How long after each failure it is tried again; the last holds for all that follow.
const RETRIES: [SignedDuration; 9] = [
    SignedDuration::from_secs(5),
    SignedDuration::from_secs(30),
    SignedDuration::from_mins(2),
    SignedDuration::from_mins(10),
    SignedDuration::from_mins(30),
    SignedDuration::from_hours(1),
    SignedDuration::from_hours(2),
    SignedDuration::from_hours(4),
    SignedDuration::from_hours(6),
];
/// After this a webhook that nobody took is dead.
const HORIZON: SignedDuration = SignedDuration::from_hours(72);
/// No longer than that is waited for what an endpoint asks for.
const ASKED_MAX: SignedDuration = SignedDuration::from_hours(24);
/// As long as that the whole endpoint is left alone where it asks for it.
const REST_MAX: Duration = Duration::from_secs(3_600);

/// One try.
pub(crate) async fn attempt(engine: &Arc<Engine>, endpoint: &Arc<Endpoint>, command: &Command, lease_until: Option<Instant>) {
    let mut change = Change { now: Some(engine.clock.now()), ..Change::default() };
    let call = Call::new(engine, &endpoint.link, &command.trace).in_place(lease_until).received_by(&endpoint.receiver);
    let outcome = match request(engine, endpoint, command, &mut change).await {
        Ok((outgoing, kind)) => {
            let outcome = send(engine, endpoint, command, &call, &outgoing, &mut change).await;
            if kind.starts_with(LOYALTY) && call.has_tried() {
                engine.metrics.told_loyalty(&kind, outcome.label);
            }
            outcome
        }
        Err(outcome) => outcome,
    };
    let has_tried = call.has_tried();
    finish(engine, &endpoint.link, command, outcome, has_tried, call.into_exchanges(), change).await;
}

/// What is to be sent, and the kind of event that it tells; or what becomes of the command without it.
async fn request(
    engine: &Engine,
    endpoint: &Endpoint,
    command: &Command,
    change: &mut Change,
) -> Result<(Outgoing, String), Outcome> {
    if let Some(closed) = endpoint.closed() {
        return Err(Outcome::held(closed));
    }
    let now = engine.clock.now();
    let again = |pause: SignedDuration, why: &str| Outcome { counts: false, ..Outcome::again(now + pause, why.to_owned()) };
    let after_look_up = matches!(command.job, Job::Deliver { after_look_up: true });
    // Looked at before the event is read, so that what has been found by then stands in it.
    if after_look_up && is_looked_up(engine, command).await {
        // The longer it has taken, the less often it is looked at.
        let waited = now.duration_since(command.due_at);
        let pause = (waited / 2).clamp(SignedDuration::from_millis(250), SignedDuration::from_mins(10));
        return Err(again(pause, "something of its event is still being looked up"));
    }
    let found = match command.event {
        Some(event) => {
            engine.store.event(event).await.map_err(|_| again(SignedDuration::from_secs(5), "the event cannot be read"))?
        }
        None => None,
    };
    let Some(event) = found else {
        return Err(Outcome::ended(CommandState::Dead, Some("its event is there no more".to_owned()), "dead"));
    };
    if after_look_up {
        match endpoint.wants(&event) {
            Ok(true) => {}
            Ok(false) => return Err(Outcome::ended(CommandState::Done, Some("its filter does not want it".to_owned()), "ok")),
            Err(why) => return Err(Outcome::ended(CommandState::Done, Some(why), "ok")),
        }
    }
    let outgoing = endpoint.request(&engine.world(), &event, now);
    outgoing.map(|outgoing| (outgoing, event.kind)).map_err(|why| {
        change.notices.push(notice(endpoint, "payload", why.clone()));
        Outcome::ended(CommandState::Dead, Some(why), "dead")
    })
}

async fn is_looked_up(engine: &Engine, command: &Command) -> bool {
    let Ok(timeline) = engine.store.timeline(command.id).await else { return true };
    let open = |state| matches!(state, CommandState::Waiting | CommandState::Sending);
    let commands = timeline.iter().flat_map(|timeline| &timeline.commands);
    let mut of_event = commands.filter(|other| other.event == command.event);
    of_event.any(|command| command.job["job"] == "look_up" && open(command.state))
}

async fn send(
    engine: &Arc<Engine>,
    endpoint: &Arc<Endpoint>,
    command: &Command,
    call: &Call<'_>,
    outgoing: &Outgoing,
    change: &mut Change,
) -> Outcome {
    let now = engine.clock.now();
    let answered = call.deliver(outgoing).await;
    if !call.has_tried() {
        // It was not its turn: that says nothing of the endpoint.
        let at = if let Err(CallError::Later { at: Some(at), .. }) = &answered { *at } else { now };
        let at = at.max(now + SignedDuration::from_millis(200));
        return Outcome::again(at, answered.err().map_or_else(String::new, |error| error.to_string()));
    }
    let failure = match &answered {
        Ok(reply) if (200..300).contains(&reply.status) => None,
        Ok(reply) => Some(words(reply.status)),
        Err(error) => Some(error.to_string()),
    };
    let missed = failure.clone().map(CallError::Unreachable);
    breaker::note(engine, &endpoint.link, missed.as_ref()).await;
    let Some(reason) = failure else { return Outcome::ended(CommandState::Done, None, "ok") };
    if let Some(why) = gives_up(engine, endpoint, answered.as_ref().ok(), &reason) {
        let why = endpoint.link.without_secrets(&why);
        let told = notice(endpoint, "endpoint_disabled", format!("nothing is sent to it any more: {why}"));
        match engine.close_endpoint(told, Disabled { reason: why, at: now }).await {
            Ok(()) => return Outcome { counts: true, ..Outcome::held("endpoint_disabled") },
            Err(error) => tracing::warn!(endpoint.id = %endpoint.link.id, "an endpoint cannot be disabled yet: {error}"),
        }
    }
    let own = RETRIES[(command.attempts as usize).min(RETRIES.len() - 1)];
    let own = own + SignedDuration::from_millis((own.as_millis() as f64 * 0.1 * engine.clock.chance()) as i64);
    let asked = answered.as_ref().ok().and_then(|reply| asked_for(reply, now)).map(|asked| asked.min(ASKED_MAX));
    if let (Some(asked), Ok(Reply { status: 429 | 502 | 503 | 504, .. })) = (asked, &answered) {
        engine.outward.limits.rest(endpoint.link.id, asked.unsigned_abs().min(REST_MAX));
    }
    let at = now + asked.map_or(own, |asked| asked.max(own));
    if at > command.due_at.saturating_add(HORIZON).unwrap_or(Timestamp::MAX) {
        change.notices.push(notice(endpoint, "undelivered", format!("a webhook was given up: {reason}")));
        return Outcome::ended(CommandState::Dead, Some(format!("given up after {} h: {reason}", HORIZON.as_hours())), "dead");
    }
    Outcome::again(at, reason)
}

/// Why an endpoint is to get nothing any more.
fn gives_up(engine: &Engine, endpoint: &Endpoint, reply: Option<&Reply>, reason: &str) -> Option<String> {
    if reply.is_some_and(|reply| reply.status == 410) {
        return Some("it answers 410: it wants no more".to_owned());
    }
    let open = engine.open_breaker(endpoint.link.id)?;
    let failing = engine.clock.now().duration_since(open.since);
    let patience = SignedDuration::try_from(engine.options.endpoint_patience).unwrap_or(SignedDuration::MAX);
    (failing >= patience).then(|| format!("all calls have failed since {}: {reason}", open.since))
}

fn words(status: u16) -> String {
    match status {
        300..=399 => format!("the endpoint answers {status}: redirects are not followed"),
        _ => format!("the endpoint answers {status}"),
    }
}

/// How long the endpoint wants to be left alone (`Retry-After`, in seconds or as a date).
fn asked_for(reply: &Reply, now: Timestamp) -> Option<SignedDuration> {
    let asked = reply.header("retry-after")?.trim();
    let seconds = asked.parse::<u32>().ok().map(|seconds| SignedDuration::from_secs(seconds.into()));
    let until = || Some(rfc2822::DateTimeParser::new().parse_timestamp(asked).ok()?.duration_since(now));
    seconds.or_else(until).filter(|asked| asked.is_positive())
}

fn notice(endpoint: &Endpoint, kind: &str, text: String) -> Notice {
    let text = format!("endpoint {}: {}", endpoint.slug(), endpoint.link.without_secrets(&text));
    Notice { merchant: endpoint.link.merchant, connection: endpoint.link.id, kind: kind.to_owned(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_endpoint_asks_for_is_read_in_seconds_and_as_a_date() {
        let now = "2026-11-24T10:00:00Z".parse().unwrap();
        let asked = |value: &str| {
            let headers = vec![("Retry-After".to_owned(), value.to_owned())];
            asked_for(&Reply { status: 503, headers, body: Default::default() }, now).map(|asked| asked.as_secs())
        };
        assert_eq!(asked(" 120 "), Some(120));
        assert_eq!(asked("Tue, 24 Nov 2026 10:01:00 GMT"), Some(60));
        for nothing in ["Tue, 24 Nov 2026 09:00:00 GMT", "soon", "0", "-5", ""] {
            assert_eq!(asked(nothing), None, "{nothing}");
        }
    }
}
