//! A refund: of what an order's receipt moved, a part goes back. All refunds of an order together never pass the receipt.

use serde_json::json;
use uzel_model::{event::kind, loyalty::Taken};
use uzel_store::LoyaltySeen;

use super::{Cause, Decided, Ground, Purse, body};
use crate::loyalty::{LoyaltyError, RefundAsk, Refunded};

/// Decides a refund. `expired`: what has expired of the lots that the order earned, by the ledger.
pub(crate) fn refund(
    ground: &Ground<'_>,
    seen: &LoyaltySeen,
    expired: &[Taken],
    ask: &RefundAsk,
) -> Result<Decided, LoyaltyError> {
    let before = seen.receipt.as_ref().filter(|receipt| !receipt.is_mark()).ok_or(LoyaltyError::ReceiptNotFound)?;
    // Where it is not said, it is where it was sold.
    let ground = &Ground { outlet: ground.outlet.or(before.outlet), ..*ground };
    let wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
    let refund = before.sums.refund(ask.eligible.unwrap_or(ask.total));
    let share = match before.sums.eligible {
        ..=0 if refund.restored + refund.revoked > 0 => 1.0,
        ..=0 => 0.0,
        eligible => refund.base as f64 / eligible as f64,
    };
    let answer =
        |lapsed: i64| Refunded { ok: true, share, points_restored: refund.restored, points_revoked: refund.revoked - lapsed };
    if refund.base == 0 && refund.restored + refund.revoked == 0 {
        return Ok(Decided::only(answer(0)));
    }
    let mut receipt = before.clone();
    receipt.sums = before.sums.after(refund);
    let mut purse = Purse::open(ground, wallet);
    let cause = Cause { of: format!("receipt/{}", receipt.id), order: Some(&ask.order), reason: None };
    purse.give_back(refund.restored, &mut receipt.spent, &cause);
    // What has expired was taken already: nobody pays for it twice.
    let gone = expired.iter().map(|taken| taken.points).sum::<i64>() + purse.expired_of(&receipt.lots);
    let lapsed = (gone - receipt.lapsed).clamp(0, refund.revoked);
    receipt.lapsed += lapsed;
    let answer = answer(lapsed);
    purse.revoke(answer.points_revoked, &receipt.lots, &cause);
    let told = json!({
        "schemaVersion": 1, "orderId": ask.order, "customerId": purse.wallet.customer, "merchantId": ground.merchant, "share": share,
        "pointsRestored": answer.points_restored, "pointsRevoked": answer.points_revoked, "createdAt": purse.at,
        "outletId": ground.outlet.or(receipt.outlet), "staffId": ground.staff, "requestId": ground.request,
        "receiptId": receipt.id, "balance": purse.balance(),
    });
    let sums = receipt.sums;
    let key = format!("refund/{}/{}/{}/{}", receipt.id, sums.refunded, sums.restored, sums.revoked);
    purse.tell(kind::LOYALTY_REFUNDED, key, Some(&ask.order), told);
    let (wallet, ledger, facts) = purse.close();
    let mut decided = Decided { answer: body(answer), facts, ..Decided::default() };
    decided.change.wallets.push(wallet);
    decided.change.receipts.push(receipt);
    decided.change.ledger = ledger;
    Ok(decided)
}
