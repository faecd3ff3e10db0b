//! Sends what is kept: one call at a time, the oldest first, for as long as the line takes them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    bridge::{Bridge, now_ms},
    queue::{Next, pause},
    record::{Call, Kept, LocalHold, Told, Trouble},
    remote::{Ask, Came, Failure, Reach, Reply},
    wire::{self, Commit, Mode},
};

/// The longest rest of the line: one call a minute tells when it is back.
const REST_MAX: Duration = Duration::from_secs(60);
/// The longest that the hub is believed when it asks to wait.
const WAIT_MAX: Duration = Duration::from_secs(600);
/// Where the disk takes nothing, what was sent stays in the queue and is sent again under the same key.
const DISK_PAUSE: Duration = Duration::from_secs(30);

/// The rest of the whole line after calls that failed as any other would have.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    until: Option<Instant>,
    failures: u32,
}

impl Rest {
    fn begin(&mut self, now: Instant, wait: Option<Duration>) {
        self.failures += 1;
        self.until = Some(now + wait.map_or_else(|| pause(self.failures, REST_MAX), |wait| wait.min(WAIT_MAX)));
    }

    /// Whether there was one.
    pub(crate) fn end(&mut self) -> bool {
        self.failures = 0;
        self.until.take().is_some()
    }
}

/// Until the task is stopped. A fault inside must not leave what is kept where it is.
pub(crate) async fn run_for_ever(bridge: Arc<Bridge>) {
    loop {
        let mut sending = tokio::task::JoinSet::new();
        sending.spawn(run(bridge.clone()));
        sending.join_next().await;
        tracing::error!("the sender failed inside: it begins anew");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn run(bridge: Arc<Bridge>) {
    loop {
        let resting = bridge.rest.lock().until.filter(|until| *until > Instant::now());
        let next = match resting {
            Some(until) => Next::At(until),
            None => bridge.queue(|queue| queue.next(Instant::now(), now_ms())).await,
        };
        match next {
            Next::Send(send) => attempt(&bridge, send.0, send.1).await,
            Next::At(at) => {
                idle(&bridge);
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = bridge.wake.notified() => {}
                }
            }
            Next::Nothing => {
                idle(&bridge);
                bridge.wake.notified().await;
            }
        }
    }
}

fn idle(bridge: &Bridge) {
    bridge.rounds.send_modify(|rounds| *rounds += 1);
}

/// What one try came to.
enum Outcome {
    Done(Option<Told>),
    Trouble(Trouble),
    Failed(Failure),
}

async fn attempt(bridge: &Bridge, kept: Kept, hold: Option<String>) {
    let turn = bridge.turn(&kept.order).await;
    let id = kept.id.clone();
    if !bridge.queue(move |queue| queue.waits(&id)).await {
        return;
    }
    let outcome = match &kept.quote {
        None => settle(&kept, send(bridge, &kept, kept.call.name(), &kept.body).await),
        Some(sold) => sell(bridge, &kept, sold, hold).await,
    };
    let (call, id, now) = (kept.call.name(), kept.id.clone(), Instant::now());
    let written = match outcome {
        Outcome::Done(told) => {
            bridge.metrics.sent(call, "done");
            bridge.rest.lock().end();
            bridge.queue(move |queue| queue.done(&id, told, now_ms())).await
        }
        Outcome::Trouble(trouble) => {
            bridge.metrics.sent(call, "person");
            tracing::error!(id, call, status = trouble.status, "a kept call needs a person: {}", trouble.reason);
            bridge.rest.lock().end();
            bridge.queue(move |queue| queue.trouble(&id, trouble)).await
        }
        Outcome::Failed(failure) => {
            bridge.metrics.sent(call, "failed");
            tracing::info!(id, call, "a kept call did not go, and is tried again: {}", failure.reason);
            if failure.reach != Reach::Call {
                bridge.rest.lock().begin(now, failure.wait);
            }
            let wait = match failure.reach {
                // The rest of the line is enough.
                Reach::Line => Some(Duration::ZERO),
                // After it another call goes first.
                Reach::Call | Reach::Both => failure.wait.map(|wait| wait.min(WAIT_MAX)),
            };
            bridge.queue(move |queue| queue.put_off(&id, failure.reason, now, wait)).await;
            Ok(())
        }
    };
    if let Err(error) = written {
        tracing::warn!("what became of a kept call cannot be written, so it is sent again under its key: {error}");
        let id = kept.id.clone();
        bridge.queue(move |queue| queue.put_off(&id, error.to_string(), now, Some(DISK_PAUSE))).await;
    }
    drop(turn);
}

async fn send(bridge: &Bridge, kept: &Kept, call: &'static str, body: &str) -> Came {
    let ask = Ask {
        call,
        body,
        key: Some(kept.key.as_str()).filter(|_| matches!(call, "commit" | "refund")),
        staff_key: kept.staff_key.as_deref(),
        language: kept.language.as_deref().unwrap_or(bridge.settings.language.tag()),
        request_id: None,
    };
    bridge.remote.call(&ask, bridge.settings.commit_timeout()).await
}

fn settle(kept: &Kept, came: Came) -> Outcome {
    match came {
        Came::Failed(failure) => Outcome::Failed(failure),
        Came::Answer(reply) if reply.is_ok() => match (kept.promised, applied(&reply)) {
            (Some(promised), applied) if applied < promised => {
                Outcome::Trouble(trouble(Some(reply.status), loss(promised, applied), true))
            }
            _ => Outcome::Done(None),
        },
        // A hold that is gone, or was used, is what a cancellation is for; a refund of an order without points has nothing to do.
        Came::Answer(Reply { status: 400 | 404 | 409, .. }) if kept.call == Call::Cancel => Outcome::Done(None),
        Came::Answer(reply) if kept.call == Call::Refund && reply.status == 400 && message(&reply) == "Receipt not found" => {
            Outcome::Done(None)
        }
        Came::Answer(reply) => Outcome::Trouble(refused(kept.call.name(), &reply)),
    }
}

/// A sale that was made without the hub: it is asked for a quote, and its hold is committed.
async fn sell(bridge: &Bridge, kept: &Kept, sold: &LocalHold, hold: Option<String>) -> Outcome {
    let hold = match hold {
        Some(hold) => hold,
        None => match send(bridge, kept, "quote", &sold.body).await {
            Came::Failed(failure) => return Outcome::Failed(failure),
            Came::Answer(reply) if !reply.is_ok() => return Outcome::Trouble(refused("quote", &reply)),
            Came::Answer(reply) => {
                let answer = reply.json();
                let agreed = if sold.mode == Mode::Earn { &answer["canEarn"] } else { &answer["canRedeem"] };
                let Some(hold) = answer["holdId"].as_str().filter(|_| *agreed == json!(true)).map(str::to_owned) else {
                    let (done, why) = (promise(sold, 0), message(&reply));
                    return Outcome::Trouble(trouble(Some(reply.status), format!("{done}; the hub says: {why}"), true));
                };
                // Before it is used: a commit that is repeated must be of the same hold.
                let (id, own) = (kept.id.clone(), hold.clone());
                if let Err(error) = bridge.queue(move |queue| queue.held(&id, own)).await {
                    let reason = error.to_string();
                    return Outcome::Failed(Failure { reason, reach: Reach::Call, wait: Some(DISK_PAUSE), reply: None });
                }
                hold
            }
        },
    };
    let mut commit: Commit = match serde_json::from_str(&kept.body) {
        Ok(commit) => commit,
        Err(error) => return Outcome::Trouble(trouble(None, format!("the kept commit cannot be read: {error}"), false)),
    };
    commit.hold_id = hold;
    match send(bridge, kept, "commit", &wire::bytes(&commit)).await {
        Came::Answer(reply) if reply.is_ok() => {
            let applied = applied(&reply);
            if sold.mode == Mode::Redeem && applied < sold.promised {
                return Outcome::Trouble(trouble(Some(reply.status), promise(sold, applied), true));
            }
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            Outcome::Done(Some(Told { key: kept.key.clone(), at_ms: now_ms(), status: reply.status, body }))
        }
        came => settle(kept, came),
    }
}

/// What a buyer was promised, and what came of it.
fn promise(sold: &LocalHold, applied: u64) -> String {
    match sold.mode {
        Mode::Earn => format!("{} points were promised without the hub, and {applied} were credited", sold.promised),
        Mode::Redeem => loss(sold.promised, applied),
    }
}

fn loss(promised: u64, applied: u64) -> String {
    let lost = promised.saturating_sub(applied);
    format!(
        "a discount of {promised} was given while the line was down, and {applied} points were there to pay it: {lost} is the shop's loss"
    )
}

fn applied(reply: &Reply) -> u64 {
    reply.json()["redeemApplied"].as_u64().unwrap_or_default()
}

fn refused(call: &str, reply: &Reply) -> Trouble {
    trouble(Some(reply.status), format!("the hub refused the {call}: {}", message(reply)), false)
}

fn trouble(status: Option<u16>, reason: String, settled: bool) -> Trouble {
    Trouble { status, reason, at_ms: now_ms(), settled }
}

/// What the hub says of it, cut where it is long.
fn message(reply: &Reply) -> String {
    let answer = reply.json();
    let text = answer["message"].as_str().or(answer["detail"].as_str()).unwrap_or("no reason given");
    text.chars().take(300).collect()
}
