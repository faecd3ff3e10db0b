//! A quote: what a purchase may spend, or would earn.

use jiff::SignedDuration;
use serde_json::Value;
use uzel_model::{
    Id,
    event::kind,
    id::Kind as IdKind,
    loyalty::{Held, Hold, HoldState, Kind, LevelMetric, Offer, Purchase, Refused, Standing, Wallet},
    words::Language,
};
use uzel_store::{LoyaltyLook, LoyaltySeen, Progress, SpentToken, Who};

use super::{Decided, Ground, body, commit::has_earned, new_wallet, purse::moved_today};
use crate::loyalty::{CustomerAsk, EarnQuote, LoyaltyError, QuoteAsk, RedeemQuote, reading::Fact};

/// A hold of a token stands at least so long, whenever the token ends.
pub(crate) const TOKEN_HOLD: SignedDuration = SignedDuration::from_secs(15);
/// A used token is remembered for so long after its end.
pub(crate) const TOKEN_KEPT: SignedDuration = SignedDuration::from_hours(1);
/// Quotes of one customer that keep points at once; of more the oldest keep none any more.
const HELD_MAX: usize = 64;

/// Decides a quote of what was looked for. What time does is not booked here: only the holds of the wallet change.
pub(crate) fn quote(
    ground: &Ground<'_>,
    look: &LoyaltyLook,
    seen: &LoyaltySeen,
    ask: &QuoteAsk,
) -> Result<Decided, LoyaltyError> {
    let token = look.token;
    if token.is_some()
        && let Some(hold) = &seen.hold
    {
        let stands = hold.state == HoldState::Pending && hold.until.is_none_or(|until| until > ground.now);
        return if stands { Ok(Decided::only(&hold.answer)) } else { Err(LoyaltyError::TokenUsed) };
    }
    let wallet = match (&seen.wallet, &look.who) {
        (Some(wallet), _) => wallet.clone(),
        // A token was signed by the hub itself.
        (None, Some(Who::Customer(customer))) if ground.authenticated || token.is_some() => {
            new_wallet(ground.merchant, Some(customer), ground.now)
        }
        (None, Some(Who::Phone(phone))) if ground.authenticated || token.is_some() => {
            Wallet { phone: Some(phone.clone()), ..new_wallet(ground.merchant, None, ground.now) }
        }
        (None, _) => return Err(LoyaltyError::WalletNotFound),
    };
    let purchase = Purchase {
        total: ask.total,
        eligible: ask.eligible.min(ask.total),
        channel: ground.channel,
        category: ask.category.as_deref(),
        weekday: ground.weekday,
        at: ground.now.max(wallet.booked_at),
    };
    let standing = standing(ground, seen, ask, &wallet);
    let points = &ground.rule.points;
    let offer = match ask.kind {
        Kind::Redeem => points.redeem(purchase, &standing),
        Kind::Earn => points.earn(purchase, &standing),
    };
    let promoted = points.promoted(purchase);
    let payable = promoted.total - standing.order_redeemed.min(promoted.total);
    let id = Id::new(IdKind::Hold);
    let keeps = offer.as_ref().map_or_else(|refused| refused.keeps_hold(), |_| true);
    let (count, message) = match offer {
        Ok(offer) => {
            // What the order has paid by points before is paid.
            let offer = Offer { payable: payable - offer.points, ..offer };
            (offer.points, offer.says(ask.kind, points.unit, ground.language, ground.currency))
        }
        Err(refused) => (0, said(refused, ask.kind, ground.language)),
    };
    let answer = answer(ask.kind, count, payable - count, keeps.then_some(id), message);
    let mut decided = Decided { answer: answer.clone(), ..Decided::default() };
    if ground.tells_quotes {
        let data = serde_json::json!({
            "mode": ask.kind, "orderId": ask.order, "customerId": wallet.customer, "merchantId": ground.merchant, "points": count,
            "total": ask.total, "eligibleTotal": ask.eligible, "holdId": keeps.then_some(id), "outletId": ground.outlet,
            "staffId": ground.staff, "requestId": ground.request, "createdAt": ground.now,
        });
        let mut fact = Fact::of(&wallet, kind::LOYALTY_QUOTED, format!("quote/{id}"), ground.now, data);
        (fact.subject, fact.outlet) = (format!("order/{}", ask.order), ground.outlet);
        fact.refs.push(ask.order.clone());
        decided.facts.push(fact);
    }
    if !keeps {
        // A customer that is not there yet is made when there is something to keep.
        return Ok(decided);
    }
    let earning = (ask.kind == Kind::Earn).then(|| points.earning(purchase, standing.progress));
    let limit = match earning {
        Some(earning) => earning.points(0),
        None => points.order_limit(purchase, standing.progress),
    };
    let until = match &ask.customer {
        CustomerAsk::Token { expires_at, .. } => (*expires_at).max(ground.now + TOKEN_HOLD),
        CustomerAsk::Plain(_) => ground.now + SignedDuration::from_secs(points.hold_ttl_s.into()),
    };
    if let (CustomerAsk::Token { expires_at, .. }, Some(key)) = (&ask.customer, token) {
        decided.change.token = Some(SpentToken { key, hold: id, until: *expires_at + TOKEN_KEPT });
    }
    let mut wallet = wallet;
    wallet.preview_days = ground.rule.preview_days;
    wallet.holds.retain(|held| held.kind != ask.kind || held.order != ask.order);
    if count > 0 {
        if wallet.holds.len() >= HELD_MAX {
            wallet.holds.remove(0);
        }
        wallet.holds.push(Held { hold: id, kind: ask.kind, order: ask.order.clone(), points: count, until: Some(until) });
    }
    decided.change.holds.push(Hold {
        id,
        merchant: ground.merchant,
        wallet: wallet.id,
        version: 0,
        state: HoldState::Pending,
        kind: ask.kind,
        order: ask.order.clone(),
        points: count,
        limit,
        earning,
        total: promoted.total,
        eligible: promoted.eligible,
        outlet: ground.outlet,
        staff: ground.staff.map(str::to_owned),
        request: ground.request.map(str::to_owned),
        promo_code: ask.promo_code.clone(),
        at: ground.now,
        until: Some(until),
        answer,
    });
    decided.change.wallets.push(wallet);
    Ok(decided)
}

/// The answer where nothing can be decided now: the sale goes on without points.
pub(crate) fn nothing_now(ask: &QuoteAsk, language: Language) -> Value {
    let message = match (ask.kind, language) {
        (Kind::Redeem, Language::Ru) => "Скидка баллами сейчас недоступна. Продолжайте без неё.",
        (Kind::Redeem, Language::Uz) => "Ball bilan chegirma hozir mavjud emas. Usiz davom eting.",
        (Kind::Redeem, Language::En) => "No discount by points now. Go on without it.",
        (Kind::Earn, Language::Ru) => "Начислить баллы сейчас нельзя. Продолжайте без них.",
        (Kind::Earn, Language::Uz) => "Hozir ball berib bo‘lmaydi. Ularsiz davom eting.",
        (Kind::Earn, Language::En) => "No points can be earned now. Go on without them.",
    };
    answer(ask.kind, 0, ask.total, None, message.to_owned())
}

fn answer(mode: Kind, points: i64, payable: i64, hold: Option<Id>, message: String) -> Value {
    let hold_id = hold.map(|hold| hold.to_string());
    match mode {
        Kind::Redeem => body(RedeemQuote {
            can_redeem: points > 0,
            discount_to_apply: points,
            points_to_burn: points,
            final_payable: payable,
            hold_id,
            message,
            loyalty: None,
        }),
        Kind::Earn => body(EarnQuote { can_earn: points > 0, points_to_earn: points, hold_id, message, loyalty: None }),
    }
}

/// A purchase that is too small to be paid by points has no words of the platform's: it has none of a limit left.
fn said(refused: Refused, mode: Kind, language: Language) -> String {
    match (refused, mode, language) {
        (Refused::TooSmall, Kind::Redeem, Language::Ru) => "Сумма слишком мала для списания.".to_owned(),
        (Refused::TooSmall, Kind::Redeem, Language::Uz) => "Ball yechish uchun summa juda kichik.".to_owned(),
        (Refused::TooSmall, Kind::Redeem, Language::En) => "The sum is too small to be paid by points.".to_owned(),
        _ => refused.says(language),
    }
}

fn standing(ground: &Ground<'_>, seen: &LoyaltySeen, ask: &QuoteAsk, wallet: &Wallet) -> Standing {
    let at = ground.now.max(wallet.booked_at);
    let held = wallet.holds.iter().filter(|held| held.kind == Kind::Redeem && held.until.is_none_or(|until| until > ground.now));
    let (own, others): (Vec<_>, Vec<_>) = held.partition(|held| held.order == ask.order);
    let kept: i64 = others.iter().filter(|_| ground.rule.points.reserve).map(|held| held.points).sum();
    let last = |kind| wallet.moves.iter().filter(|of| of.kind == kind).map(|of| of.at).max();
    let sums = seen.receipt.as_ref().map(|receipt| receipt.sums).unwrap_or_default();
    // What another quote of the same order is about to pay by points earns nothing either.
    let about: i64 = if ask.kind == Kind::Earn { own.iter().map(|held| held.points).sum() } else { 0 };
    Standing {
        available: wallet.account.balance(at) - kept,
        redeemed_in_24_h: moved_today(wallet, Kind::Redeem, at),
        earned_in_24_h: moved_today(wallet, Kind::Earn, at),
        last_redeem_at: last(Kind::Redeem),
        last_earn_at: last(Kind::Earn),
        progress: progress(ground, seen.progress, wallet),
        order_redeemed: sums.redeemed + about,
        order_earned: sums.earned,
        order_redeems: sums.redeemed > 0,
        order_earns: sums.earned > 0,
        is_earned: seen.receipt.as_ref().is_some_and(|receipt| has_earned(receipt, ground)),
    }
}

/// What the levels count: at least as much as the level needs that a person or a code gave.
fn progress(ground: &Ground<'_>, done: Progress, wallet: &Wallet) -> i64 {
    let Some(levels) = &ground.rule.points.levels else { return 0 };
    let counted = match levels.metric {
        LevelMetric::Earn => done.earned,
        LevelMetric::Redeem => done.redeemed,
        LevelMetric::Transactions => done.receipts,
    };
    let given = levels.levels.iter().find(|level| Some(&level.name) == wallet.level.as_ref());
    counted.max(given.map_or(0, |level| level.threshold))
}
