//! What a node does because others work on the same store: it goes by the store's clock, hears what they did, and takes in turn
//! what one node at a time may do.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::{sync::broadcast::error::RecvError, time::Instant};
use uzel_model::Id;
use uzel_store::{News, StoreError};

use crate::Engine;

/// Between two looks at the store's clock.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);
/// A machine's clock that is further off is worth a word.
const CLOCK_OFF: SignedDuration = SignedDuration::from_secs(2);
/// Between two tries to take what another node holds.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Something taken from the other nodes, to be given back.
pub(crate) struct Taken {
    name: String,
    token: i64,
}

impl Engine {
    /// Goes by the clock of a shared store from now on.
    pub(crate) async fn follow_clock(&self) -> Result<(), StoreError> {
        let (asked, machine) = (Instant::now(), self.clock.machine());
        let Some(told) = self.store.clock().await? else { return Ok(()) };
        // It was told somewhere between the question and the answer.
        let half = SignedDuration::try_from(asked.elapsed() / 2).unwrap_or_default();
        let ahead = self.clock.follow(told, machine.checked_add(half).unwrap_or(machine));
        Id::clock_ahead(ahead.as_millis() as i64);
        if ahead.abs() > CLOCK_OFF {
            tracing::warn!(
                clock.ahead_ms = ahead.as_millis() as i64,
                "this machine's clock is wrong: the hub goes by the database's"
            );
        }
        Ok(())
    }

    /// Takes what one node at a time may do, if none has done so within `every`.
    pub(crate) async fn take(&self, name: String, every: Duration, hold: Duration) -> Result<Option<Taken>, StoreError> {
        let token = self.store.take(&name, self.clock.now(), every.as_millis() as i64, hold.as_millis() as i64).await?;
        Ok(token.map(|token| Taken { name, token }))
    }

    /// The same, waiting for whoever holds it.
    pub(crate) async fn take_soon(&self, name: &str, hold: Duration, patience: Duration) -> Result<Option<Taken>, StoreError> {
        let began = Instant::now();
        loop {
            let taken = self.take(name.to_owned(), Duration::ZERO, hold).await?;
            if taken.is_some() || began.elapsed() > patience {
                return Ok(taken);
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    }

    /// Whoever is gone cannot give back: then it is free when its time is over.
    pub(crate) async fn give_back(&self, taken: Taken) {
        if let Err(error) = self.store.give_back(&taken.name, taken.token).await {
            tracing::debug!("{} is given back when its time is over: {error}", taken.name);
        }
    }
}

/// Follows the store's clock, and takes up what other nodes tell.
pub(crate) async fn run(engine: Arc<Engine>) {
    let mut news = engine.store.news();
    let mut follow = tokio::time::interval(FOLLOW_EVERY);
    loop {
        let told = tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            told = news.recv() => told,
            _ = follow.tick() => {
                if let Err(error) = engine.follow_clock().await {
                    tracing::debug!("the store's clock cannot be read now: {error}");
                }
                continue;
            }
        };
        match told {
            Ok(news) => take_up(&engine, news).await,
            Err(RecvError::Lagged(_)) => {
                for news in [News::Setup, News::Breakers, News::Due] {
                    take_up(&engine, news).await;
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn take_up(engine: &Engine, news: News) {
    let done = match news {
        News::Due => {
            engine.due.notify_one();
            Ok(())
        }
        News::Setup => {
            engine.forget_logins();
            engine.reload().await
        }
        News::Login(connection) => {
            engine.forget_login(Some(connection));
            Ok(())
        }
        News::Breakers => engine.store.breakers().await.map(|open| engine.outward.breakers.take_over(open)),
    };
    if let Err(error) = done {
        tracing::warn!("what another node did cannot be taken up yet: {error}");
    }
}
