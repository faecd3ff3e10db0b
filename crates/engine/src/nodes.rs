//! What a node does because others work on the same store: it goes by the store's clock, hears what they did, and takes in turn
//! what one node at a time may do.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use jiff::SignedDuration;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError, error::TryRecvError},
    time::Instant,
};
use uzel_model::Id;
use uzel_store::{News, StoreError};

use crate::Engine;

/// Between two looks at the store's clock.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);
/// Between two looks at whether this machine's clock was moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look at the store's clock that took longer tells too little.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// So far a clock runs from the time that passes only when somebody moves it.
const MOVED: SignedDuration = SignedDuration::from_millis(250);
/// A machine's clock that is further off is worth a word.
const CLOCK_OFF: SignedDuration = SignedDuration::from_secs(2);
/// Between two tries to take what another node holds.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Until what could not be taken up is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Something taken from the other nodes, to be given back.
pub(crate) struct Taken {
    name: String,
    token: i64,
    /// From then on another node may take it.
    pub(crate) until: Instant,
}

impl Engine {
    /// Goes by the clock of a shared store from now on, if it answers within this time.
    pub(crate) async fn follow_clock(&self, patience: Duration) -> Result<(), StoreError> {
        let (asked, machine) = (Instant::now(), self.clock.machine());
        let Some(told) = self.store.clock().await? else { return Ok(()) };
        let took = asked.elapsed();
        if took > patience {
            return Ok(());
        }
        // It was told somewhere between the question and the answer.
        let half = SignedDuration::try_from(took / 2).unwrap_or_default();
        let ahead = self.clock.follow(told, machine.checked_add(half).unwrap_or(machine));
        Id::clock_ahead(ahead.as_millis() as i64);
        let off = ahead.abs() > CLOCK_OFF;
        if off && !self.clock_off.swap(off, Ordering::Relaxed) {
            tracing::warn!(
                clock.ahead_ms = ahead.as_millis() as i64,
                "this machine's clock is wrong: the hub goes by the database's"
            );
        }
        self.clock_off.store(off, Ordering::Relaxed);
        Ok(())
    }

    /// Takes what one node at a time may do, if none has done so within `every`.
    pub(crate) async fn take(&self, name: String, every: Duration, hold: Duration) -> Result<Option<Taken>, StoreError> {
        let until = Instant::now() + hold;
        let token = self.store.take(&name, self.clock.now(), every.as_millis() as i64, hold.as_millis() as i64).await?;
        Ok(token.map(|token| Taken { name, token, until }))
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
    tokio::join!(follow(&engine), listen(&engine, &mut news));
}

/// A clock that somebody moves is followed at once: all that is due goes by it.
async fn follow(engine: &Engine) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut followed, mut seen) = (Instant::now(), (Instant::now(), engine.clock.machine()));
    loop {
        tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let now = (Instant::now(), engine.clock.machine());
        let passed = SignedDuration::try_from(now.0 - seen.0).unwrap_or_default();
        let moved = (now.1.duration_since(seen.1) - passed).abs() > MOVED;
        seen = now;
        if moved || followed.elapsed() >= FOLLOW_EVERY {
            followed = now.0;
            if let Err(error) = engine.follow_clock(LOOK_MAX).await {
                tracing::debug!("the store's clock cannot be read now: {error}");
            }
        }
    }
}

async fn listen(engine: &Engine, news: &mut Receiver<News>) {
    let mut told = Vec::new();
    loop {
        let again = async {
            if told.is_empty() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        };
        let first = tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            first = news.recv() => Some(first),
            () = again => None,
        };
        match first {
            Some(Ok(first)) => add(&mut told, &[first]),
            Some(Err(RecvError::Lagged(_))) => add(&mut told, &ALL),
            Some(Err(RecvError::Closed)) => return,
            None => {}
        }
        // The same told many times is taken up once.
        loop {
            match news.try_recv() {
                Ok(more) => add(&mut told, &[more]),
                Err(TryRecvError::Lagged(_)) => add(&mut told, &ALL),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let mut left = Vec::new();
        for news in told {
            if let Err(error) = take_up(engine, news).await {
                tracing::warn!("what another node did cannot be taken up yet: {error}");
                left.push(news);
            }
        }
        told = left;
    }
}

/// All that may have been missed; with what is set up logins are forgotten too.
const ALL: [News; 3] = [News::Due, News::Setup, News::Breakers];

fn add(told: &mut Vec<News>, more: &[News]) {
    told.extend(more.iter().filter(|news| !told.contains(news)).copied().collect::<Vec<_>>());
}

async fn take_up(engine: &Engine, news: News) -> Result<(), StoreError> {
    match news {
        News::Due => engine.due.notify_one(),
        News::Setup => {
            engine.forget_logins();
            engine.reload().await?;
        }
        News::Login(connection) => engine.forget_login(Some(connection)),
        News::Breakers => engine.outward.breakers.take_over(engine.store.breakers().await?),
    }
    Ok(())
}
