//! Decisions about a sale where an outside programme keeps the points: commits, receipts that come in, refunds, and what is told of
//! them later. No clock, no store, no call.

use serde_json::json;
use uzel_model::{
    Id,
    event::kind,
    id::Kind as IdKind,
    loyalty::{Hold, HoldState, Kind, OrderReceipt, Unsettled, Wallet},
    port::loyalty::{AccountKey, Accrual, Redemption},
};
use uzel_store::LoyaltySeen;

use super::{
    CommitAsk, CustomerAsk, LoyaltyError, QuoteAsk, RefundAsk, Refunded,
    club::{Heard, Silence},
    club_jobs::Later,
    club_quote,
    decide::{Decided, Ground, committed, receipt_of},
    outside::{Learnt, Outside, accrual_of, paid_by_points, quote as quote_of, redemption, redemption_of},
    reading::Fact,
};

/// A decision, and what the programme is told later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ruled {
    pub(crate) decided: Decided,
    pub(crate) later: Vec<Later>,
}

/// Decides a commit. `by`: how the guest can be named to the programme while their account is not known.
pub(crate) fn commit(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: &LoyaltySeen,
    ask: &CommitAsk,
    by: Option<AccountKey>,
) -> Result<Ruled, LoyaltyError> {
    // One without an answer has been promised to nobody.
    let hold = seen.hold.as_ref().filter(|hold| !hold.answer.is_null()).ok_or(LoyaltyError::HoldNotFound)?;
    if let Some(receipt) = seen.receipt.as_ref().filter(|receipt| !receipt.is_mark())
        && (receipt.holds.contains(&hold.id) || receipt.wallet != hold.wallet)
    {
        return Ok(Ruled { decided: only(committed(receipt, true)), ..Ruled::default() });
    }
    match hold.state {
        HoldState::Pending if hold.until.is_some_and(|until| until <= ground.now) => return Err(LoyaltyError::HoldExpired),
        HoldState::Pending => {}
        HoldState::Expired => return Err(LoyaltyError::HoldExpired),
        HoldState::Committed | HoldState::Cancelled => return Err(LoyaltyError::HoldFinished),
    }
    let mut wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
    let (mut receipt, is_new) = receipt_of(ground, seen, hold, ask);
    let mut later = Vec::new();
    let off = hold.answer["discountToApply"].as_i64().unwrap_or_default();
    let (redeemed, earned) = match hold.kind {
        // One order spends once, and earns once.
        Kind::Redeem if receipt.sums.redeemed == 0 => (hold.points, 0),
        Kind::Earn if receipt.sums.earned == 0 && receipt.earned_as.is_none() => (0, hold.points),
        _ => (0, 0),
    };
    receipt.sums.redeemed += redeemed;
    receipt.sums.earned += earned;
    receipt.sums.eligible = receipt.sums.eligible.max(hold.eligible);
    receipt.number = receipt.number.or_else(|| ask.receipt_number.clone());
    // The one that spends comes first: a refund finds its operation by it.
    let place = if redeemed > 0 { 0 } else { receipt.holds.len() };
    receipt.holds.insert(place, hold.id);
    if hold.kind == Kind::Redeem && redeemed == 0 && hold.points > 0 {
        // Taken for nothing: the order has spent before.
        later.push(Later::Release { operation: redemption(hold.id), hold: None, due_at: ground.now });
    }
    if let Some(account) = wallet.club.as_mut().filter(|_| redeemed > 0 && hold.answer["loyalty"]["offline"] == true) {
        let command = Id::new(IdKind::Command);
        account.unsettled.push(Unsettled { command, points: redeemed });
        let redemption = Redemption {
            operation: redemption(hold.id),
            account: account.account.clone(),
            receipt: ask.order.clone(),
            points: redeemed,
            worth_minor: outside.minor(off),
            sum_minor: outside.minor(hold.total),
            confirmation: None,
        };
        later.push(Later::Settle { redemption, command });
    }
    if is_new {
        wallet.receipts += 1;
        let held = wallet.club.as_ref().map_or(0, |account| outside.off(account, paid_by_points(&wallet, seen, &ask.order)));
        let by_points = if hold.kind == Kind::Redeem { off } else { held };
        later.extend(accrual(ground, outside, &wallet, &receipt, by, hold.total, by_points));
    }
    wallet.holds.retain(|held| held.hold != hold.id);
    let told = json!({
        "schemaVersion": 1, "holdId": hold.id, "orderId": ask.order, "customerId": wallet.customer, "merchantId": ground.merchant,
        "redeemApplied": redeemed, "earnApplied": earned, "receiptId": receipt.id, "createdAt": ground.now,
        "outletId": ground.outlet, "staffId": ground.staff, "requestId": ground.request, "receiptNumber": receipt.number,
        "club": outside.club.connection,
    });
    let key = format!("commit/{}/{}", receipt.id, hold.id);
    let mut decided = only(committed(&receipt, false));
    decided.facts.push(of_order(Fact::of(&wallet, kind::LOYALTY_COMMITTED, key, ground.now, told), ground, &ask.order));
    decided.change.wallets.push(wallet);
    decided.change.holds.push(Hold { state: HoldState::Committed, ..hold.clone() });
    decided.change.receipts.push(receipt);
    Ok(Ruled { decided, later })
}

fn of_order(mut fact: Fact, ground: &Ground<'_>, order: &str) -> Fact {
    (fact.subject, fact.outlet) = (format!("order/{order}"), ground.outlet);
    fact.refs.push(order.to_owned());
    fact
}

/// What tells the programme of the order, where it can be told.
fn accrual(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    wallet: &Wallet,
    receipt: &OrderReceipt,
    by: Option<AccountKey>,
    total: i64,
    by_points: i64,
) -> Option<Later> {
    let account = wallet.club.as_ref().map(|account| account.account.clone());
    let by = by.filter(|_| account.is_none());
    (account.is_some() || by.is_some()).then(|| {
        Later::Accrue(Accrual {
            operation: accrual_of(ground.merchant, &receipt.order, receipt.sums.refunded),
            account: account.unwrap_or_default(),
            by,
            receipt: receipt.order.clone(),
            sum_minor: outside.minor(total),
            by_points_minor: outside.minor(by_points),
            at: receipt.at,
            lines: Vec::new(),
        })
    })
}

/// Decides a refund. The programme takes operations back only whole: of a part that stays it is told anew.
pub(crate) fn refund(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: &LoyaltySeen,
    ask: &RefundAsk,
    by: Option<AccountKey>,
) -> Result<Ruled, LoyaltyError> {
    let before = seen.receipt.as_ref().filter(|receipt| !receipt.is_mark()).ok_or(LoyaltyError::ReceiptNotFound)?;
    let wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
    let refund = before.sums.refund(ask.eligible.unwrap_or(ask.total));
    let share = match before.sums.eligible {
        ..=0 => f64::from(u8::from(refund.restored + refund.revoked > 0)),
        eligible => refund.base as f64 / eligible as f64,
    };
    let decided = only(Refunded { ok: true, share, points_restored: refund.restored, points_revoked: refund.revoked });
    if refund.base == 0 && refund.restored + refund.revoked == 0 {
        return Ok(Ruled { decided, ..Ruled::default() });
    }
    let mut ruled = Ruled { decided, later: Vec::new() };
    let mut receipt = before.clone();
    receipt.sums = before.sums.after(refund);
    let reason = "refund";
    let is_whole = receipt.sums.refunded >= receipt.sums.eligible;
    let point_minor = wallet.club.as_ref().map_or(1, |account| account.point_minor);
    let left_points = receipt.sums.redeemed - receipt.sums.restored;
    let accrued = accrual_of(ground.merchant, &receipt.order, before.sums.refunded);
    ruled.later.push(Later::Reverse { operation: accrued, reason: reason.to_owned() });
    if !is_whole {
        let (total, by_points) = (receipt.sums.eligible - receipt.sums.refunded, left_points.saturating_mul(point_minor));
        let anew = accrual(ground, outside, &wallet, &receipt, by, total, by_points / outside.unit.minor());
        ruled.later.extend(anew);
    }
    if let (Some(hold), true) = (receipt.holds.first(), refund.restored > 0) {
        let taken = redemption_of(*hold, before.sums.restored);
        ruled.later.push(Later::Reverse { operation: taken, reason: reason.to_owned() });
        let again = wallet.club.as_ref().filter(|_| left_points > 0).map(|account| {
            let redemption = Redemption {
                operation: redemption_of(*hold, receipt.sums.restored),
                account: account.account.clone(),
                receipt: receipt.order.clone(),
                points: left_points,
                // They were paid for already: nothing is given on trust.
                worth_minor: 0,
                sum_minor: outside.minor(receipt.sums.eligible),
                confirmation: None,
            };
            Later::Settle { redemption, command: Id::new(IdKind::Command) }
        });
        ruled.later.extend(again);
    }
    let told = json!({
        "schemaVersion": 1, "orderId": ask.order, "customerId": wallet.customer, "merchantId": ground.merchant, "share": share,
        "pointsRestored": refund.restored, "pointsRevoked": refund.revoked, "createdAt": ground.now,
        "outletId": ground.outlet.or(receipt.outlet), "staffId": ground.staff, "requestId": ground.request,
        "receiptId": receipt.id, "club": outside.club.connection,
    });
    let sums = receipt.sums;
    let key = format!("refund/{}/{}/{}/{}", receipt.id, sums.refunded, sums.restored, sums.revoked);
    let fact = of_order(Fact::of(&wallet, kind::LOYALTY_REFUNDED, key, ground.now, told), ground, &ask.order);
    ruled.decided.facts.push(fact);
    ruled.decided.change.wallets.push(wallet);
    ruled.decided.change.receipts.push(receipt);
    Ok(ruled)
}

/// A receipt that came in without a question: a quote and its commit in one; also why nothing is told of it.
pub(crate) fn receipt(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: LoyaltySeen,
    ask: &QuoteAsk,
    commit_ask: &CommitAsk,
) -> Result<(Ruled, Option<String>), LoyaltyError> {
    let (CustomerAsk::Token { customer, .. } | CustomerAsk::Plain(customer)) = &ask.customer;
    let by_phone = || customer.starts_with('+').then(|| AccountKey::Phone(customer.clone()));
    let by = club_quote::named_later(seen.wallet.as_ref()).or_else(by_phone);
    let learnt = Learnt {
        by: by.clone(),
        heard: Heard::Nothing(Silence::LeftAlone),
        hold: Id::new(IdKind::Hold),
        taken: None,
        again: None,
        begun: None,
        settled: Vec::new(),
    };
    let mut quoted = quote_of(ground, outside, &seen, ask, None, &learnt)?;
    let (Some(hold), Some(wallet)) = (quoted.change.holds.pop(), quoted.change.wallets.pop()) else {
        let why = "the customer has neither phone nor card by which the programme could know them".to_owned();
        return Ok((Ruled { decided: Decided { answer: quoted.answer, ..Decided::default() }, ..Ruled::default() }, Some(why)));
    };
    let seen = LoyaltySeen { hold: Some(hold), wallet: Some(wallet), ..seen };
    Ok((commit(ground, outside, &seen, commit_ask, by)?, None))
}

/// What is given back of a hold that was cancelled.
pub(crate) fn cancelled(ground: &Ground<'_>, hold: &Hold) -> Option<Later> {
    let takes = hold.kind == Kind::Redeem && hold.points > 0 && hold.answer["loyalty"]["offline"] != true;
    takes.then(|| Later::Release { operation: redemption(hold.id), hold: Some(hold.id), due_at: ground.now })
}

fn only(answer: impl serde::Serialize) -> Decided {
    Decided { answer: json!(answer), ..Decided::default() }
}
