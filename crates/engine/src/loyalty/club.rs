//! Outside loyalty programmes, asked while a cashier waits.
//!
//! A question is asked once, within what is left of the cashier's patience, and never stands in the way of a sale. The call itself
//! goes on after that to its own end, so that it is journalled and what it did is known. A programme that has not answered three
//! times in a row is left alone for half a minute: the cashier is told at once.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};
use uzel_model::{
    CallError, Client, Id,
    port::{
        Loyalty,
        loyalty::{Account, AccountKey, Declined, Operation, OperationState, Redemption, Reversal, Told},
    },
};
use uzel_store::{Change, Notice};

use crate::{Engine, Link, breaker, outward::Call};

/// So many times in a row without an answer, and it is left alone.
const MISSES_MAX: u32 = 3;
const LEFT_ALONE: Duration = Duration::from_secs(30);

/// What became of a cashier's question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard<T> {
    Yes(T),
    /// The programme says no.
    No(Declined),
    /// Nothing was learnt in time.
    Nothing(Silence),
}

/// Why nothing was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It was asked, and did not answer in time.
    Slow,
    /// It could not be reached, or said that it cannot now.
    Down,
    /// It has not answered lately, and was not asked.
    LeftAlone,
    /// Nobody understands what it answered.
    Unreadable,
    /// It does not know us (any more).
    Unauthorized,
}

impl Silence {
    pub fn word(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Down => "down",
            Self::LeftAlone => "left_alone",
            Self::Unreadable => "unreadable",
            Self::Unauthorized => "unauthorized",
        }
    }
}

impl<T> Heard<T> {
    fn word(&self) -> &'static str {
        match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::Nothing(silence) => silence.word(),
        }
    }
}

/// How each programme has fared lately at tills.
#[derive(Default)]
pub(crate) struct Clubs(Mutex<HashMap<Id, Misses>>);

#[derive(Default)]
struct Misses {
    in_a_row: u32,
    until: Option<Instant>,
}

impl Clubs {
    fn is_left_alone(&self, link: Id) -> bool {
        self.0.lock().get(&link).is_some_and(|misses| misses.until.is_some_and(|until| Instant::now() < until))
    }

    /// What a question came to. One of many at the same time that gets an answer shows that the programme is there.
    fn note(&self, link: Id, missed: bool) {
        let mut clubs = self.0.lock();
        if !missed {
            clubs.remove(&link);
            return;
        }
        let misses = clubs.entry(link).or_default();
        misses.in_a_row += 1;
        if misses.in_a_row >= MISSES_MAX {
            misses.until = Some(Instant::now() + LEFT_ALONE);
        }
    }
}

enum Ask {
    Account(AccountKey),
    Redeem(Box<Redemption>),
    Reverse(Box<Reversal>),
}

enum Got {
    Account(Box<Account>),
    Operation(Operation),
}

impl Engine {
    /// An account as the programme has it now, asked for until then.
    pub async fn club_account(self: &Arc<Self>, link: &Arc<Link>, by: AccountKey, trace: &str, until: Instant) -> Heard<Account> {
        match ask(self, link, Ask::Account(by), trace, until).await {
            Heard::Yes(Got::Account(account)) => Heard::Yes(*account),
            Heard::Yes(Got::Operation(_)) => Heard::Nothing(Silence::Unreadable),
            Heard::No(declined) => Heard::No(declined),
            Heard::Nothing(silence) => Heard::Nothing(silence),
        }
    }

    /// Takes points. Only a yes is one: whatever else comes back, the points may have been taken all the same, and a `Release` that
    /// was queued before finds that out.
    pub async fn club_redeem(
        self: &Arc<Self>,
        link: &Arc<Link>,
        redemption: Redemption,
        trace: &str,
        until: Instant,
    ) -> Heard<Operation> {
        match ask(self, link, Ask::Redeem(Box::new(redemption)), trace, until).await {
            Heard::Yes(Got::Operation(operation)) if operation.state == OperationState::Committed => Heard::Yes(operation),
            // Not decided, or told of something that is no redemption any more.
            Heard::Yes(_) => Heard::Nothing(Silence::Unreadable),
            Heard::No(declined) => Heard::No(declined),
            Heard::Nothing(silence) => Heard::Nothing(silence),
        }
    }
}

impl Engine {
    /// Takes an operation back while a till waits.
    pub(super) async fn club_reverse(
        self: &Arc<Self>,
        link: &Arc<Link>,
        reversal: Reversal,
        trace: &str,
        until: Instant,
    ) -> Heard<()> {
        match ask(self, link, Ask::Reverse(Box::new(reversal)), trace, until).await {
            Heard::Yes(_) => Heard::Yes(()),
            Heard::No(declined) => Heard::No(declined),
            Heard::Nothing(silence) => Heard::Nothing(silence),
        }
    }
}

async fn ask(engine: &Arc<Engine>, link: &Arc<Link>, ask: Ask, trace: &str, until: Instant) -> Heard<Got> {
    let heard = asked(engine, link, ask, trace, until).await;
    let left_alone = matches!(heard, Heard::Nothing(Silence::LeftAlone));
    if !left_alone {
        engine.clubs.note(link.id, matches!(heard, Heard::Nothing(_)));
    }
    engine.metrics.clubs.asked(link.provider.id, heard.word());
    heard
}

async fn asked(engine: &Arc<Engine>, link: &Arc<Link>, ask: Ask, trace: &str, until: Instant) -> Heard<Got> {
    if link.paused || engine.clubs.is_left_alone(link.id) || engine.outward.breakers.allowance(link.id, 0) == 0 {
        return Heard::Nothing(Silence::LeftAlone);
    }
    let (tell, told) = oneshot::channel();
    let (own, link, trace) = (engine.clone(), link.clone(), trace.to_owned());
    engine.tasks.spawn(async move { to_the_end(&own, &link, ask, &trace, tell).await });
    match tokio::time::timeout_at(until, told).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(_)) => Heard::Nothing(Silence::Down),
        Err(_) => Heard::Nothing(Silence::Slow),
    }
}

/// Makes the call, tells whoever still waits, and journals it.
async fn to_the_end(engine: &Engine, link: &Link, ask: Ask, trace: &str, tell: oneshot::Sender<Heard<Got>>) {
    let call = Call::new(engine, link, trace).in_place(None);
    let failure = |_| Err(CallError::Unreadable("the connector failed on it: this is a fault of the hub".to_owned()));
    let outcome = AssertUnwindSafe(put(link, ask, &Client::new(&call))).catch_unwind().await.unwrap_or_else(failure);
    let error = outcome.as_ref().err().cloned();
    let heard = match outcome {
        Ok(Ok(got)) => Heard::Yes(got),
        Ok(Err(declined)) => Heard::No(declined),
        Err(error) => Heard::Nothing(silence(&error)),
    };
    // Nobody may be waiting any more.
    drop(tell.send(heard));
    if call.has_tried() {
        breaker::note(engine, link, error.as_ref()).await;
    }
    let mut change = Change { now: Some(engine.clock.now()), ..Change::default() };
    if let Some(error @ CallError::Unauthorized(_)) = &error {
        let text = link.without_secrets(&format!("{}: {error}", link.provider.name));
        let notice = Notice { merchant: link.merchant, connection: link.id, kind: "unauthorized".to_owned(), text };
        change.notices.push(notice);
    }
    change.exchanges = call.into_exchanges();
    if let (Some(error), Some(last)) = (&error, change.exchanges.last_mut()) {
        last.error = last.error.take().or_else(|| Some(link.without_secrets(&error.to_string())));
    }
    if let Err(error) = engine.store.apply(change).await {
        tracing::warn!(connection.id = %link.id, "a call for a till cannot be journalled: {error}");
    }
}

async fn put(link: &Link, ask: Ask, client: &Client<'_>) -> Told<Got> {
    let port = port(link)?;
    Ok(match ask {
        Ask::Account(by) => port.account(client, &by).await?.map(|account| Got::Account(Box::new(account))),
        Ask::Redeem(redemption) => port.redeem(client, &redemption).await?.map(Got::Operation),
        Ask::Reverse(reversal) => port.reverse(client, &reversal).await?.map(Got::Operation),
    })
}

pub(super) fn port(link: &Link) -> Result<&dyn Loyalty, CallError> {
    let lacks = || CallError::refused(uzel_model::Refusal::Ours, "no_port", "this provider keeps no points");
    link.connector.loyalty().ok_or_else(lacks)
}

fn silence(error: &CallError) -> Silence {
    match error {
        CallError::Unreachable(_) | CallError::Later { .. } | CallError::Lost(_) => Silence::Down,
        CallError::Unauthorized(_) => Silence::Unauthorized,
        CallError::Refused { .. } | CallError::Unreadable(_) => Silence::Unreadable,
    }
}
