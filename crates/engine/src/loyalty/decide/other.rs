//! Cancelling a hold, points by a person, and what time does to a wallet.

use serde_json::json;
use uzel_model::{
    check::Fault,
    event::kind,
    loyalty::{Hold, HoldState, MoveKind, Wallet},
};
use uzel_store::LoyaltySeen;

use super::{Cause, Decided, Ground, Purse, body, purse::Life};
use crate::loyalty::{AdjustAsk, Adjusted, Cancelled, LoyaltyError};

/// Lets a hold go. One that is over may be cancelled all the same.
pub(crate) fn cancel(ground: &Ground<'_>, seen: &LoyaltySeen) -> Result<Decided, LoyaltyError> {
    let hold = seen.hold.as_ref().ok_or(LoyaltyError::HoldNotFound)?;
    if !matches!(hold.state, HoldState::Pending | HoldState::Expired) {
        return Err(LoyaltyError::HoldFinished);
    }
    let wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
    let mut purse = Purse::open(ground, wallet);
    purse.release(hold.id);
    let (wallet, ledger, facts) = purse.close();
    let mut decided = Decided { answer: body(Cancelled { ok: true }), facts, ..Decided::default() };
    decided.change.wallets.push(wallet);
    decided.change.holds.push(Hold { state: HoldState::Cancelled, ..hold.clone() });
    decided.change.ledger = ledger;
    Ok(decided)
}

/// Gives points, or takes so many as there are. `cause`: as in [`uzel_model::loyalty::Entry::cause`].
pub(crate) fn adjust(ground: &Ground<'_>, wallet: Wallet, ask: &AdjustAsk, cause: &str) -> Result<Decided, LoyaltyError> {
    let mut purse = Purse::open(ground, wallet);
    let cause = Cause { of: cause.to_owned(), order: None, reason: Some(&ask.reason) };
    let points = match ask.points {
        given @ 1.. => {
            let life = ask.expires_at.map_or(Life::OfProgramme, Life::Until);
            purse.grant(MoveKind::Adjust, given, 0, life, &cause);
            given
        }
        taken => -purse.withdraw(-taken, &cause),
    };
    if points == 0 {
        return Err(LoyaltyError::Malformed(vec![Fault::new("/points", "there is nothing to take")]));
    }
    let told = json!({
        "merchantId": ground.merchant, "customerId": purse.wallet.customer, "points": points, "reason": ask.reason,
        "balance": purse.balance(), "createdAt": purse.at,
    });
    // A wallet that is written again has another version.
    let key = format!("adjusted/{}/{}/{}", purse.wallet.id, purse.wallet.version, purse.at.as_microsecond());
    purse.tell(kind::LOYALTY_ADJUSTED, key, None, told);
    let answer = Adjusted { ok: true, customer_id: purse.wallet.customer.clone(), points, balance: purse.balance() };
    let (wallet, ledger, facts) = purse.close();
    let mut decided = Decided { answer: body(answer), facts, ..Decided::default() };
    decided.change.wallets.push(wallet);
    decided.change.ledger = ledger;
    Ok(decided)
}

/// What time has done to a wallet since it was last written: lots that can be spent or have expired, holds that have ended (those
/// among `holds` that are still pending end with it).
pub(crate) fn sweep(ground: &Ground<'_>, wallet: &Wallet, holds: &[Hold]) -> Decided {
    let mut purse = Purse::open(ground, wallet.clone());
    let at = purse.at;
    purse.wallet.holds.retain(|held| held.until.is_none_or(|until| until > at));
    let (wallet, ledger, facts) = purse.close();
    let mut decided = Decided { facts, ..Decided::default() };
    let ended = holds.iter().filter(|hold| hold.state == HoldState::Pending && hold.until.is_some_and(|until| until <= at));
    decided.change.holds = ended.map(|hold| Hold { state: HoldState::Expired, ..hold.clone() }).collect();
    decided.change.wallets.push(wallet);
    decided.change.ledger = ledger;
    decided
}
