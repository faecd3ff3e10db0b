//! What time does to wallets that nobody asks about: points that can be spent or have expired, quotes that have ended.
//!
//! Whatever was due stays due until its wallet has been written, so nothing is remembered between two looks: a hub that dies in
//! between has written some wallets whole, and finds the others again.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::{
    Id,
    loyalty::{Hold, Wallet},
};
use uzel_store::{Change, LoyaltyLook, StoreError};

use super::{
    answer::{ground, whole_ms},
    customers::own_ask,
    decide,
};
use crate::{Engine, World};

/// How often it is looked.
const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(20);
/// Between two looks at the clock: one that was moved must not keep points waiting.
const BEAT: Duration = Duration::from_secs(1);
/// Wallets for which one node takes the turn; where more are due, it is taken again at once.
const PORTION: usize = 1_000;
/// Wallets that are written in one go. What a till asks meanwhile is written right after them, or along with them.
const BATCH: usize = 50;
/// A node that is gone keeps the turn no longer than this. One that is slower may meet another: one of both finds a conflict.
const HOLD: Duration = Duration::from_secs(15);

pub(crate) async fn run(engine: Arc<Engine>) {
    let mut swept_at: Option<Timestamp> = None;
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = engine.stop.cancelled() => return,
            _ = beat.tick() => {}
        }
        if swept_at.is_some_and(|at| engine.clock.now().duration_since(at).abs() < SWEEP_EVERY) {
            continue;
        }
        swept_at = Some(engine.clock.now());
        loop {
            match turn(&engine).await {
                Ok(true) if !engine.stop.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!("points that are due cannot be booked yet: {error}");
                    break;
                }
            }
        }
    }
}

/// Looks through what is due. Says whether there may be more.
async fn turn(engine: &Arc<Engine>) -> Result<bool, StoreError> {
    let world = engine.world();
    if world.programmes().next().is_none() {
        return Ok(false);
    }
    // Of a programme that was taken away nothing is booked.
    let without: Vec<Id> = world.merchants.keys().copied().filter(|merchant| world.programme_of(*merchant).is_none()).collect();
    let now = whole_ms(engine.clock.now());
    // Where nothing is due nothing is written, not even whose turn it is.
    if engine.store.wallets_due(now, without.clone(), 1).await?.is_empty() {
        return Ok(false);
    }
    let Some(taken) = engine.take("loyalty".to_owned(), Duration::ZERO, HOLD).await? else { return Ok(false) };
    let swept = portion(engine, &world, now, without).await;
    engine.give_back(taken).await;
    swept
}

async fn portion(engine: &Engine, world: &World, now: Timestamp, without: Vec<Id>) -> Result<bool, StoreError> {
    let due = engine.store.wallets_due(now, without, PORTION).await?;
    let mut booked = 0;
    for wallets in due.chunks(BATCH) {
        if engine.stop.is_cancelled() {
            break;
        }
        booked += batch(engine, world, wallets, now).await?;
    }
    engine.metrics.swept(booked);
    // Of what nothing could be booked the next look would find the same.
    Ok(due.len() == PORTION && booked > 0)
}

/// Books some wallets, each for itself: one that a till was faster with is looked at the next time. Gives how many were written.
async fn batch(engine: &Engine, world: &World, wallets: &[Wallet], now: Timestamp) -> Result<u64, StoreError> {
    let holds = futures::future::try_join_all(wallets.iter().map(|wallet| ended(engine, wallet, now))).await?;
    let changes = wallets.iter().zip(holds).filter_map(|(wallet, holds)| change(engine, world, wallet, &holds, now));
    let mut booked = 0;
    for outcome in engine.store.apply_all(changes.collect()).await {
        match outcome {
            Ok(_) => booked += 1,
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(booked)
}

/// The holds of a wallet that have ended.
async fn ended(engine: &Engine, wallet: &Wallet, now: Timestamp) -> Result<Vec<Hold>, StoreError> {
    let mut holds = Vec::new();
    for held in wallet.holds.iter().filter(|held| held.until.is_some_and(|until| until <= now)) {
        let look = LoyaltyLook { hold: Some(held.hold), ..LoyaltyLook::new(wallet.merchant, now) };
        holds.extend(engine.store.loyalty(look).await?.hold);
    }
    Ok(holds)
}

fn change(engine: &Engine, world: &World, wallet: &Wallet, holds: &[Hold], now: Timestamp) -> Option<Change> {
    let programme = world.programme_of(wallet.merchant)?;
    let ask = own_ask(wallet.merchant, "time", "/loyalty/due", now, json!({ "customer": wallet.customer }));
    let decided = decide::sweep(&ground(engine, world, programme, &ask), wallet, holds);
    let tells_nothing = decided.facts.is_empty();
    let (mut change, _) = engine.ruled(programme, &ask, decided, Vec::new(), Vec::new());
    if tells_nothing {
        // Nothing happened that anybody would look for: a quote was over.
        change.entries.clear();
    }
    Some(change)
}
