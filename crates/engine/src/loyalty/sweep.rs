//! What time does to wallets that nobody asks about: points that can be spent or have expired, quotes that have ended.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::loyalty::Wallet;
use uzel_store::{LoyaltyLook, StoreError};

use super::{
    answer::{ground, whole_ms},
    customers::own_ask,
    decide::{self, Decided},
};
use crate::Engine;

/// How often it is looked.
pub(crate) const SWEEP_EVERY: SignedDuration = SignedDuration::from_secs(20);
/// Wallets of one portion; where there were so many, the next follows with the next beat.
const PORTION: usize = 200;
/// A node that is gone keeps the turn no longer than this.
const HOLD: Duration = Duration::from_secs(120);

/// Looks through what is due. Says whether there may be more.
pub(crate) async fn run(engine: &Arc<Engine>) -> bool {
    if engine.world().programmes().next().is_none() {
        return false;
    }
    let swept = async {
        let Some(taken) = engine.take("loyalty".to_owned(), Duration::ZERO, HOLD).await? else { return Ok(0) };
        let swept = portion(engine).await;
        engine.give_back(taken).await;
        swept
    };
    match swept.await {
        Ok(count) => count == PORTION,
        Err(error) => {
            tracing::warn!("points that are due cannot be booked yet: {error}");
            false
        }
    }
}

async fn portion(engine: &Arc<Engine>) -> Result<usize, StoreError> {
    let now = whole_ms(engine.clock.now());
    let due = engine.store.wallets_due(now, PORTION).await?;
    let count = due.len();
    for wallet in due {
        if engine.stop.is_cancelled() {
            break;
        }
        match one(engine, &wallet, now).await {
            // A till was faster: what it wrote is looked at the next time.
            Ok(()) | Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

async fn one(engine: &Engine, wallet: &Wallet, now: Timestamp) -> Result<(), StoreError> {
    let world = engine.world();
    // Of a programme that was taken away nothing is booked.
    let Some(programme) = world.programme_of(wallet.merchant) else { return Ok(()) };
    let mut holds = Vec::new();
    let ended = wallet.holds.iter().filter(|held| held.until.is_some_and(|until| until <= now));
    for held in ended {
        let look = LoyaltyLook { hold: Some(held.hold), ..LoyaltyLook::new(wallet.merchant, now) };
        holds.extend(engine.store.loyalty(look).await?.hold);
    }
    let ask = own_ask(wallet.merchant, "time", "/loyalty/due", now, json!({ "customer": wallet.customer }));
    let ground = ground(engine, &world, programme, &ask);
    let decided = decide::sweep(&ground, wallet, &holds);
    match decided.facts.is_empty() {
        // Nothing happened that anybody would look for: a quote was over.
        true => put_quietly(engine, decided).await,
        false => engine.put_decided(programme, &ask, decided, Vec::new()).await.map(drop),
    }
}

async fn put_quietly(engine: &Engine, decided: Decided) -> Result<(), StoreError> {
    let change = uzel_store::Change {
        loyalty: Some(Box::new(decided.change)),
        now: Some(engine.clock.now()),
        ..uzel_store::Change::default()
    };
    engine.store.apply(change).await.map(drop)
}
