//! A commit: what a quote holds is moved, and stands in the order's receipt.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uzel_model::{
    Id,
    event::kind,
    id::Kind as IdKind,
    loyalty::{Hold, HoldState, Kind, MoveKind, OrderReceipt, Receipt, Taken, Wallet},
};
use uzel_store::{LoyaltySeen, PromoUse};

use super::{Cause, Decided, Ground, Purse, body, purse::Life};
use crate::loyalty::{CommitAsk, Committed, LoyaltyError, PromoCode, PromoLimit, PromoStatus};

/// A till may count its orders anew: one of the same name from longer ago is another.
pub(crate) const SAME_ORDER: SignedDuration = SignedDuration::from_hours(48);

/// Decides a commit. `promo_code`: the one that was named, by the commit or else by the quote; its uses were looked at. `referrer`:
/// who brought the customer, where that is known.
pub(crate) fn commit(
    ground: &Ground<'_>,
    seen: &LoyaltySeen,
    referrer: Option<&Wallet>,
    ask: &CommitAsk,
    promo_code: Option<&str>,
) -> Result<Decided, LoyaltyError> {
    let hold = seen.hold.as_ref().ok_or(LoyaltyError::HoldNotFound)?;
    // A commit need not say again where it is and who sells.
    let (outlet, staff) = (ground.outlet.or(hold.outlet), ground.staff.or(hold.staff.as_deref()));
    let ground = &Ground { outlet, staff, ..*ground };
    if let Some(receipt) = seen.receipt.as_ref().filter(|receipt| !receipt.is_mark())
        && (receipt.holds.contains(&hold.id) || receipt.wallet != hold.wallet)
    {
        return Ok(Decided::only(answer(receipt, true)));
    }
    match hold.state {
        HoldState::Pending if hold.until.is_some_and(|until| until <= ground.now) => return Err(LoyaltyError::HoldExpired),
        HoldState::Pending => {}
        HoldState::Expired => return Err(LoyaltyError::HoldExpired),
        HoldState::Committed | HoldState::Cancelled => return Err(LoyaltyError::HoldFinished),
    }
    let wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
    let brought_by = wallet.referred_by.filter(|_| wallet.receipts == 0);
    let mut purse = Purse::open(ground, wallet);
    let (mut receipt, is_new) = receipt_of(ground, seen, hold, ask);
    let is_first = purse.wallet.receipts == 0 && is_new;
    let cause = Cause { of: format!("receipt/{}", receipt.id), order: Some(&ask.order), reason: None };

    let before = receipt.sums;
    let matures_at = match hold.kind {
        Kind::Redeem => {
            redeem(ground, &mut purse, hold, &mut receipt, &cause);
            None
        }
        Kind::Earn => earn(ground, &mut purse, hold, &mut receipt, &cause),
    };
    let (redeemed, earned) = (receipt.sums.redeemed - before.redeemed, receipt.sums.earned - before.earned);
    // The order has had all of this kind that it may.
    let is_over = !is_new && (redeemed, earned) == (0, 0);
    receipt.holds.push(hold.id);
    receipt.sums.eligible = receipt.sums.eligible.max(hold.eligible);
    receipt.number = receipt.number.or_else(|| ask.receipt_number.clone());

    let mut change = uzel_store::LoyaltyChange::default();
    let promo = match promo_code.filter(|_| receipt.promo_code.is_none()) {
        Some(code) => match promo(ground, seen, code) {
            // Whoever was refused commits again without the code: the quote's must not refuse them for ever.
            Err(LoyaltyError::PromoUnavailable) if ask.promo_code.is_none() => None,
            found => found?,
        },
        None => None,
    };
    if let Some(promo) = promo {
        give_promo(&mut purse, promo, &ask.order);
        receipt.promo_code = Some(promo.code.clone());
        change.promo = Some(PromoUse {
            merchant: ground.merchant,
            code: key(&promo.code),
            wallet: hold.wallet,
            order: ask.order.clone(),
            at: purse.at,
            was: seen.promo,
        });
    }
    if is_new {
        purse.wallet.receipts += 1;
    }
    if is_first && ground.rule.first_receipt_points > 0 {
        let cause = Cause { of: "first_receipt".to_owned(), ..cause.clone() };
        purse.grant(MoveKind::Campaign, ground.rule.first_receipt_points, 0, Life::OfProgramme, &cause);
    }
    let referral = ground.rule.referral.filter(|rule| is_first && hold.eligible >= rule.min_eligible);
    if let (Some(rule), Some(brought_by)) = (referral, brought_by)
        && rule.points_for_new > 0
    {
        let cause = Cause { of: format!("referral/{brought_by}"), ..cause.clone() };
        purse.grant(MoveKind::Referral, rule.points_for_new, 0, Life::OfProgramme, &cause);
    }

    purse.release(hold.id);
    let told = json!({
        "schemaVersion": 1, "holdId": hold.id, "orderId": ask.order, "customerId": purse.wallet.customer,
        "merchantId": ground.merchant, "redeemApplied": redeemed, "earnApplied": earned, "receiptId": receipt.id,
        "createdAt": purse.at, "outletId": ground.outlet, "staffId": ground.staff, "requestId": ground.request,
        "receiptNumber": receipt.number, "promoCode": receipt.promo_code, "balance": purse.balance(),
    });
    purse.tell(kind::LOYALTY_COMMITTED, format!("commit/{}/{}", receipt.id, hold.id), Some(&ask.order), told);
    if let Some(matures_at) = matures_at {
        let told = json!({
            "holdId": hold.id, "orderId": ask.order, "customerId": purse.wallet.customer, "merchantId": ground.merchant,
            "points": earned, "maturesAt": matures_at, "outletId": ground.outlet, "staffId": ground.staff,
            "promoCode": receipt.promo_code,
        });
        purse.tell(kind::LOYALTY_EARN_SCHEDULED, format!("scheduled/{}/{}", receipt.id, hold.id), Some(&ask.order), told);
    }

    let (wallet, ledger, mut facts) = purse.close();
    change.ledger = ledger;
    if let (Some(rule), Some(referrer)) = (referral, referrer.filter(|it| rule_is_theirs(brought_by, it)))
        && rule.points > 0
    {
        let mut purse = Purse::open(ground, referrer.clone());
        let cause = Cause::new(format!("referral/{}", wallet.id));
        purse.grant(MoveKind::Referral, rule.points, 0, Life::OfProgramme, &cause);
        let told = json!({
            "merchantId": ground.merchant, "customerId": purse.wallet.customer, "points": rule.points, "reason": "referral",
            "balance": purse.balance(), "createdAt": purse.at,
        });
        purse.tell(kind::LOYALTY_ADJUSTED, format!("referral/{}", wallet.id), None, told);
        let (wallet, ledger, more) = purse.close();
        change.ledger.extend(ledger);
        change.wallets.push(wallet);
        facts.extend(more);
    }
    change.wallets.push(wallet);
    change.holds.push(Hold { state: HoldState::Committed, ..hold.clone() });
    let answer = answer(&receipt, is_over);
    change.receipts.push(receipt);
    Ok(Decided { change, facts, answer: body(answer) })
}

fn rule_is_theirs(brought_by: Option<Id>, referrer: &Wallet) -> bool {
    brought_by == Some(referrer.id)
}

pub(crate) fn answer(receipt: &OrderReceipt, already: bool) -> Committed {
    Committed {
        ok: true,
        receipt_id: receipt.id.to_string(),
        redeem_applied: receipt.sums.redeemed,
        earn_applied: receipt.sums.earned,
        already_committed: already.then_some(true),
    }
}

fn new_receipt(ground: &Ground<'_>, hold: &Hold, ask: &CommitAsk) -> OrderReceipt {
    OrderReceipt {
        wallet: hold.wallet,
        sums: Receipt { eligible: hold.eligible, ..Receipt::default() },
        outlet: ground.outlet.or(hold.outlet),
        staff: ground.staff.map(str::to_owned).or_else(|| hold.staff.clone()),
        ..mark(ground, &ask.order, None)
    }
}

/// Says of an order under this name that a receipt that came in has earned for it.
pub(crate) fn mark(ground: &Ground<'_>, order: &str, earned_as: Option<String>) -> OrderReceipt {
    let id = Id::new(IdKind::Receipt);
    OrderReceipt {
        id,
        merchant: ground.merchant,
        order: order.to_owned(),
        wallet: id,
        version: 0,
        sums: Receipt::default(),
        spent: Vec::new(),
        lots: Vec::new(),
        earning: None,
        lapsed: 0,
        holds: Vec::new(),
        promo_code: None,
        number: None,
        outlet: ground.outlet,
        staff: None,
        at: ground.now,
        earned_as,
    }
}

/// The receipt that a commit goes on with, and whether the order is a new one.
pub(crate) fn receipt_of(ground: &Ground<'_>, seen: &LoyaltySeen, hold: &Hold, ask: &CommitAsk) -> (OrderReceipt, bool) {
    match &seen.receipt {
        None => (new_receipt(ground, hold, ask), true),
        Some(mark) if mark.is_mark() => {
            let new = new_receipt(ground, hold, ask);
            let earned_as = mark.earned_as.clone().filter(|_| marks(mark, new.outlet, ground.now));
            let is_new = earned_as.is_none();
            (OrderReceipt { id: mark.id, version: mark.version, earned_as, ..new }, is_new)
        }
        Some(receipt) => (receipt.clone(), false),
    }
}

/// Whether a receipt that came in has earned for the order of this receipt, or mark.
pub(crate) fn has_earned(receipt: &OrderReceipt, ground: &Ground<'_>) -> bool {
    receipt.earned_as.is_some() && (!receipt.is_mark() || marks(receipt, ground.outlet, ground.now))
}

/// Whether a mark is of an order that is sold now and here: tills may count their orders anew.
fn marks(mark: &OrderReceipt, outlet: Option<Id>, now: Timestamp) -> bool {
    let here = mark.outlet.is_none_or(|there| outlet.is_none_or(|outlet| outlet == there));
    here && mark.at.duration_since(now).abs() <= SAME_ORDER
}

/// Whether the programme keeps the two ways apart, and the order has gone the other one.
fn is_apart(ground: &Ground<'_>, other: i64) -> bool {
    !ground.rule.points.earn_with_redeem && other > 0
}

/// What is left of a cap of 24 hours.
fn left_today(purse: &Purse<'_>, kind: Kind, cap: Option<i64>) -> i64 {
    cap.map_or(i64::MAX, |cap| cap - purse.moved_today(kind))
}

fn redeem(ground: &Ground<'_>, purse: &mut Purse<'_>, hold: &Hold, receipt: &mut OrderReceipt, cause: &Cause<'_>) {
    if is_apart(ground, receipt.sums.earned) {
        return;
    }
    let cap = left_today(purse, Kind::Redeem, ground.rule.points.redeem_daily_cap);
    let wanted = hold.points.min(hold.limit - receipt.sums.redeemed).min(cap).max(0);
    let taken = purse.spend(wanted, cause);
    let points: i64 = taken.iter().map(|taken| taken.points).sum();
    if points > 0 {
        purse.note(Kind::Redeem, points);
        receipt.sums.redeemed += points;
        receipt.spent.extend(taken);
        take_back(purse, receipt, cause);
    }
}

/// What points pay earns nothing, also where the order had earned before they did.
fn take_back(purse: &mut Purse<'_>, receipt: &mut OrderReceipt, cause: &Cause<'_>) {
    // Of an order that came back in part nobody can say which part was paid how.
    let Some(earning) = receipt.earning.filter(|_| receipt.sums.refunded == 0) else { return };
    let excess = (receipt.sums.earned - earning.points(receipt.sums.redeemed)).max(0);
    purse.revoke(excess, &receipt.lots, cause);
    receipt.sums.earned -= excess;
}

/// Gives when the points can be spent, where that is later.
fn earn(
    ground: &Ground<'_>,
    purse: &mut Purse<'_>,
    hold: &Hold,
    receipt: &mut OrderReceipt,
    cause: &Cause<'_>,
) -> Option<Timestamp> {
    if receipt.earned_as.is_some() || is_apart(ground, receipt.sums.redeemed) {
        return None;
    }
    let cap = left_today(purse, Kind::Earn, ground.rule.points.earn_daily_cap);
    // What the order has paid by points until now counts, not what it might when it was asked.
    let whole = hold.earning.map_or(hold.limit, |earning| earning.points(receipt.sums.redeemed));
    let points = (whole - receipt.sums.earned).min(cap);
    if points <= 0 {
        return None;
    }
    let lot = purse.grant(MoveKind::Earn, points, ground.rule.points.earn_delay_days, Life::OfProgramme, cause);
    purse.note(Kind::Earn, points);
    receipt.sums.earned += points;
    receipt.earning = hold.earning;
    let lot = purse.wallet.account.lots.iter().find(|it| it.id == lot)?;
    receipt.lots.push(Taken { lot: lot.id, points, expires_at: lot.expires_at });
    Some(lot.active_at).filter(|at| *at > purse.at)
}

/// A promo code as the store knows it: letter case means nothing.
fn key(code: &str) -> String {
    code.trim().to_uppercase()
}

/// The active code of this name, and the form in which its uses are counted.
pub(crate) fn promo_of<'a>(ground: &Ground<'a>, code: &str) -> Option<(&'a PromoCode, String)> {
    let wanted = key(code);
    let found = ground.rule.promo_codes.iter().find(|promo| promo.status == PromoStatus::Active && key(&promo.code) == wanted)?;
    Some((found, wanted))
}

/// What a code gives; nothing where there is no such code, or it does nothing now.
fn promo<'a>(ground: &Ground<'a>, seen: &LoyaltySeen, code: &str) -> Result<Option<&'a PromoCode>, LoyaltyError> {
    let Some((promo, _)) = promo_of(ground, code) else { return Ok(None) };
    let uses = seen.promo;
    let used_up = match promo.limit {
        PromoLimit::Unlimited => false,
        PromoLimit::OnceTotal => uses.all > 0,
        PromoLimit::OncePerCustomer => uses.by_customer > 0,
        PromoLimit::LimitedPerCustomer => uses.by_customer >= i64::from(promo.per_customer),
    };
    let pause = SignedDuration::from_hours(24 * i64::from(promo.cooldown_days));
    let rests_until = uses.last_by_customer_at.map(|at| at.saturating_add(pause).unwrap_or(Timestamp::MAX));
    let rests = promo.cooldown_days > 0 && rests_until.is_some_and(|until| until > ground.now);
    // Receipts were counted since as long ago as the code asks for.
    let unvisited = promo.require_visit && seen.progress.receipts == 0;
    if used_up || rests || unvisited { Err(LoyaltyError::PromoUnavailable) } else { Ok(Some(promo)) }
}

fn give_promo(purse: &mut Purse<'_>, promo: &PromoCode, order: &str) {
    let cause = Cause { of: format!("promo/{}", promo.code), order: Some(order), reason: None };
    if promo.points_amount > 0 {
        let life = promo.points_expire_in_days.map_or(Life::OfProgramme, Life::Days);
        purse.grant(MoveKind::Campaign, promo.points_amount, 0, life, &cause);
    }
    if let Some(level) = &promo.assign_level {
        purse.wallet.level = Some(level.clone());
    }
}
