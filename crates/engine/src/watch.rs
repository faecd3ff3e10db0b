//! What runs out: money at a provider, and keys that end. People are told once, not every time that somebody looks.

use std::sync::Arc;

use jiff::SignedDuration;
use rust_decimal::Decimal;
use uzel_model::Client;
use uzel_store::StoreError;

use crate::{Engine, Link, outward::Call, tick};

/// How often money is looked at.
pub(crate) const BALANCE_EVERY: SignedDuration = SignedDuration::from_mins(30);
/// A key that is about to end is told of again after so many days.
const TOKEN_AGAIN_DAYS: i64 = 7;

const LOW: &str = "low_balance";
const WELL: &str = "balance_well";
const TOKEN: &str = "token_ends";

/// Reads an amount as people and providers write it: `500`, `12.50`.
pub(crate) fn amount(text: &str) -> Option<Decimal> {
    text.trim().parse().ok()
}

/// Asks for the money left, shows it as a figure, and tells people when it falls below the connection's limit, once until it has
/// risen again.
pub(crate) async fn balance(engine: &Engine, link: &Arc<Link>) {
    let Some(port) = link.connector.balance() else { return };
    let trace = tick::new_trace();
    let call = Call::new(engine, link, &trace);
    let told = match port.balance(&Client::new(&call)).await {
        Ok(told) => told,
        Err(error) => return tick::report(engine, link, "balance", error, call).await,
    };
    let Some(left) = amount(&told) else { return };
    engine.metrics.balance(link.provider.id, link.id, &told);
    let Some(limit) = link.low_balance else { return };
    let judged = async {
        let last = |kind| engine.store.noticed(link.merchant, link.id, kind);
        // Both on one day: whichever was last, nothing of either kind can be told twice that day.
        let is_low = last(LOW).await? > last(WELL).await?;
        let text = format!("{}: {told} left, the limit is {limit}", link.provider.name);
        match left < limit {
            true if !is_low => tick::tell(engine, link, LOW, text).await,
            false if is_low => tick::tell(engine, link, WELL, text).await,
            _ => {}
        }
        Ok::<_, StoreError>(())
    };
    if let Err(error) = judged.await {
        tracing::warn!(connection.id = %link.id, "whether money runs out cannot be told yet: {error}");
    }
}

/// Tells people of a key or login that is about to end, or has ended.
pub(crate) async fn token(engine: &Engine, link: &Arc<Link>) {
    let Some(text) = engine.login_ends(link).await else { return };
    let today = engine.clock.now().as_second().div_euclid(86_400);
    match engine.store.noticed(link.merchant, link.id, TOKEN).await {
        Ok(last) if last.is_none_or(|day| today - day >= TOKEN_AGAIN_DAYS) => tick::tell(engine, link, TOKEN, text).await,
        Ok(_) => {}
        Err(error) => tracing::warn!(connection.id = %link.id, "whether a key ends cannot be told yet: {error}"),
    }
}
