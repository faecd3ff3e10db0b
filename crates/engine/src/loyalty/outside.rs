//! Decisions where an outside programme keeps the points: what was learnt of it, what stands here and the moment give what is
//! written, answered and told it later. No clock, no store, no call.
//!
//! Points are taken there when a quote is made, so that no receipt shows a discount that is not paid for; a commit keeps them, and
//! whatever else becomes of the quote gives them back. Each order is told once, when its first hold is committed. Where nothing could
//! be learnt the sale goes on: "no discount now", or, where the merchant wants it so, a small one by the balance last heard.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{
    Id,
    event::kind,
    id::Kind as IdKind,
    loyalty::{ClubAccount, Held, Hold, HoldState, Kind, OrderReceipt, Receipt, Unit, Wallet},
    port::loyalty::{Account, AccountKey, Accrual, Declined, Redemption, Scheme, operation_id, operation_of},
    signature::fingerprint,
};
use uzel_store::{LoyaltySeen, SpentToken};

use super::{
    Club, CommitAsk, Committed, CustomerAsk, EarnQuote, LoyaltyError, QuoteAsk, RedeemQuote, RefundAsk, Refunded,
    club::{Heard, Silence},
    club_jobs::Later,
    club_quote,
    club_words::{self, Note},
    decide::{Decided, Ground, new_wallet},
    reading::Fact,
};

/// Basis points in the whole.
const WHOLE_BPS: i128 = 10_000;
/// A hold of a token stands at least so long, whenever the token ends.
const TOKEN_HOLD: SignedDuration = SignedDuration::from_secs(15);
/// A used token is remembered for so long after its end.
const TOKEN_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A quote stands no longer than that: its points are gone from the guest's account meanwhile.
const HOLD_MAX: SignedDuration = SignedDuration::from_mins(30);

/// What a quote learnt, and what was done for it already.
#[derive(Debug, Clone)]
pub(crate) struct Learnt {
    /// How the guest was named to the programme; nothing where they cannot be.
    pub(crate) by: Option<AccountKey>,
    pub(crate) heard: Heard<Account>,
    /// The hold that is being made: what was done at the programme hangs on its id.
    pub(crate) hold: Id,
    /// Whether the programme has taken points for it, how many, or why that is not known.
    pub(crate) taken: Option<Heard<i64>>,
    /// The same was asked of the same order before, and that quote still stands: its answer.
    pub(crate) again: Option<Value>,
}

/// A programme, as decisions see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside<'a> {
    pub(crate) club: &'a Club,
    /// As people call it.
    pub(crate) name: &'a str,
    pub(crate) unit: Unit,
}

/// A decision, and what the programme is told later.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ruled {
    pub(crate) decided: Decided,
    pub(crate) later: Vec<Later>,
}

impl Outside<'_> {
    fn minor(&self, units: i64) -> i64 {
        units.saturating_mul(self.unit.minor())
    }

    /// Points that may pay of an eligible sum, so many that what they take off is a whole number of units.
    pub(crate) fn offer(&self, account: &ClubAccount, available: i64, eligible: i64) -> i64 {
        let cap_minor = i128::from(self.minor(eligible)) * i128::from(account.redeem_max_bps) / WHOLE_BPS;
        let most = cap_minor / i128::from(account.point_minor.max(1));
        let points = available.min(i64::try_from(most).unwrap_or(i64::MAX)).max(0);
        let step = self.unit.minor() / gcd(account.point_minor.max(1), self.unit.minor());
        points - points % step.max(1)
    }

    /// What points take off, in units.
    pub(crate) fn off(&self, account: &ClubAccount, points: i64) -> i64 {
        points.saturating_mul(account.point_minor) / self.unit.minor()
    }

    /// What a sum earns, in points.
    fn earns(&self, account: &ClubAccount, units: i64) -> i64 {
        let minor = i128::from(self.minor(units.max(0))) * i128::from(account.accrual_bps) / WHOLE_BPS;
        i64::try_from(minor / i128::from(account.point_minor.max(1))).unwrap_or(i64::MAX)
    }

    /// What may be spent by the balance last heard.
    fn offline_offer(&self, wallet: &Wallet, eligible: i64, order: &str, now: Timestamp) -> i64 {
        let Some(account) = wallet.club.as_ref().filter(|_| self.club.offline_limit > 0) else { return 0 };
        let is_fresh = now.duration_since(account.heard_at) <= SignedDuration::from_hours(self.club.offline_hours.into());
        if !is_fresh {
            return 0;
        }
        let held: i64 = wallet.holds.iter().filter(|held| held.kind == Kind::Redeem && held.order != order).map(|held| held.points).sum();
        let spent = account.offline.saturating_add(held);
        self.offer(account, (account.available - spent).min(self.club.offline_limit - spent), eligible)
    }
}

fn gcd(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// The account as it is kept: what was spent without a connection before is the programme's to know now.
pub(crate) fn kept(account: &Account, now: Timestamp) -> ClubAccount {
    ClubAccount {
        account: account.id.clone(),
        available: account.available,
        point_minor: account.point_minor,
        accrual_bps: account.accrual_bps,
        redeem_max_bps: account.redeem_max_bps,
        heard_at: now,
        offline: 0,
    }
}

/// Our id of the operation that tells of an order; after refunds of so much, of the one that tells of the rest.
fn accrual_of(merchant: Id, order: &str, refunded: i64) -> String {
    let cause = fingerprint([merchant.as_bytes().as_slice(), order.as_bytes()]);
    operation_id(&format!("accrual after {refunded}"), &cause)
}

/// Our id of the operation that took a hold's points; after refunds of so much, of the one that took the rest again.
fn redemption_of(hold: Id, restored: i64) -> String {
    if restored == 0 { redemption(hold) } else { operation_of(&format!("redemption after {restored}"), hold) }
}

/// Our id of the operation that takes a hold's points.
pub(crate) fn redemption(hold: Id) -> String {
    operation_of("redemption", hold)
}

/// What a quote answers, beside its points.
struct Answer {
    points: i64,
    /// In units.
    off: i64,
    keeps: bool,
    message: String,
    note: Option<Note>,
}

/// Decides a quote.
pub(crate) fn quote(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: &LoyaltySeen,
    ask: &QuoteAsk,
    token: Option<[u8; 16]>,
    learnt: &Learnt,
) -> Result<Decided, LoyaltyError> {
    if ground.rule.require_jwt_for_quote && token.is_none() {
        return Err(LoyaltyError::TokenRequired);
    }
    if let Some(hold) = &seen.hold {
        let stands = hold.state == HoldState::Pending && hold.until.is_none_or(|until| until > ground.now);
        return if stands { Ok(Decided { answer: hold.answer.clone(), ..Decided::default() }) } else { Err(LoyaltyError::TokenUsed) };
    }
    if let Some(answer) = &learnt.again {
        return Ok(Decided { answer: answer.clone(), ..Decided::default() });
    }
    let mut wallet = match (&seen.wallet, &ask.customer) {
        (Some(wallet), _) => wallet.clone(),
        (None, CustomerAsk::Plain(_)) if !ground.authenticated => return Err(LoyaltyError::WalletNotFound),
        (None, CustomerAsk::Token { customer, .. }) => new_wallet(ground.merchant, Some(customer), ground.now),
        (None, CustomerAsk::Plain(customer)) => match &learnt.by {
            Some(AccountKey::Phone(phone)) => Wallet { phone: Some(phone.clone()), ..new_wallet(ground.merchant, None, ground.now) },
            _ => new_wallet(ground.merchant, Some(customer), ground.now),
        },
    };
    if let Heard::Yes(account) = &learnt.heard {
        wallet.club = Some(kept(account, ground.now));
        wallet.name = wallet.name.or_else(|| account.name.clone());
    }
    let eligible = ask.eligible.min(ask.total);
    let answer = match (&learnt.heard, ask.kind) {
        (Heard::Yes(account), Kind::Redeem) => redeem(ground, outside, account, eligible, ask, learnt),
        (Heard::Yes(account), Kind::Earn) => earn(ground, outside, account, &wallet, seen, eligible, ask),
        (Heard::No(declined), _) => declined_answer(ground, outside, declined),
        (Heard::Nothing(silence), _) => silent(ground, outside, &wallet, eligible, ask, *silence, learnt),
    };
    let hold = answer.keeps.then_some(learnt.hold);
    let body = answer_body(ask, hold, &answer);
    let mut decided = Decided { answer: body.clone(), ..Decided::default() };
    if ground.tells_quotes {
        let data = json!({
            "mode": ask.kind, "orderId": ask.order, "customerId": wallet.customer, "merchantId": ground.merchant,
            "points": answer.points, "total": ask.total, "eligibleTotal": ask.eligible, "holdId": hold, "outletId": ground.outlet,
            "staffId": ground.staff, "requestId": ground.request, "createdAt": ground.now, "club": answer.note,
        });
        let mut fact = Fact::of(&wallet, kind::LOYALTY_QUOTED, format!("quote/{}", learnt.hold), ground.now, data);
        (fact.subject, fact.outlet) = (format!("order/{}", ask.order), ground.outlet);
        fact.refs.push(ask.order.clone());
        decided.facts.push(fact);
    }
    if hold.is_none() {
        return Ok(decided);
    }
    let until = until(ground, ask);
    if let (CustomerAsk::Token { expires_at, .. }, Some(key)) = (&ask.customer, token) {
        decided.change.token = Some(SpentToken { key, hold: learnt.hold, until: *expires_at + TOKEN_KEPT });
    }
    wallet.holds.retain(|held| held.until.is_none_or(|until| until > ground.now));
    wallet.holds.retain(|held| held.kind != ask.kind || held.order != ask.order);
    if answer.points > 0 {
        wallet.holds.push(Held {
            hold: learnt.hold,
            kind: ask.kind,
            order: ask.order.clone(),
            points: answer.points,
            until: Some(until),
        });
    }
    decided.change.holds.push(Hold {
        id: learnt.hold,
        merchant: ground.merchant,
        wallet: wallet.id,
        version: 0,
        state: HoldState::Pending,
        kind: ask.kind,
        order: ask.order.clone(),
        points: answer.points,
        limit: answer.points,
        total: ask.total,
        eligible,
        outlet: ground.outlet,
        staff: ground.staff.map(str::to_owned),
        request: ground.request.map(str::to_owned),
        promo_code: None,
        at: ground.now,
        until: Some(until),
        answer: body,
    });
    decided.change.wallets.push(wallet);
    Ok(decided)
}

/// Until when a quote stands.
pub(crate) fn until(ground: &Ground<'_>, ask: &QuoteAsk) -> Timestamp {
    match &ask.customer {
        CustomerAsk::Token { expires_at, .. } => (*expires_at).max(ground.now + TOKEN_HOLD),
        CustomerAsk::Plain(_) => {
            ground.now + SignedDuration::from_secs(ground.rule.points.hold_ttl_s.into()).min(HOLD_MAX)
        }
    }
}

fn redeem(ground: &Ground<'_>, outside: Outside<'_>, account: &Account, eligible: i64, ask: &QuoteAsk, learnt: &Learnt) -> Answer {
    let spoken = |off: i64| club_words::taken(off, ask.total - off, outside.unit, ground.language, ground.currency);
    let plain = |points: i64, off: i64, message: String| Answer { points, off, keeps: true, message, note: None };
    if let Scheme::Discount { bps } = account.scheme {
        let off = i64::try_from(i128::from(eligible) * i128::from(bps) / WHOLE_BPS).unwrap_or_default();
        return plain(0, off, spoken(off));
    }
    match &learnt.taken {
        None => plain(0, 0, club_words::no_points(ground.language)),
        Some(Heard::Yes(points)) => {
            let off = outside.off(&kept(account, ground.now), *points);
            plain(*points, off, spoken(off))
        }
        Some(Heard::No(declined)) => Answer { keeps: true, ..declined_answer(ground, outside, declined) },
        Some(Heard::Nothing(silence)) => degraded(ground, outside, ask, *silence, true),
    }
}

fn earn(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    account: &Account,
    wallet: &Wallet,
    seen: &LoyaltySeen,
    eligible: i64,
    ask: &QuoteAsk,
) -> Answer {
    let account = kept(account, ground.now);
    let off = outside.off(&account, paid_by_points(wallet, seen, &ask.order));
    let points = outside.earns(&account, eligible - off);
    let message = club_words::earned(points, ground.language);
    Answer { points, off: 0, keeps: true, message, note: None }
}

/// Points that an order's receipt has spent, or a quote of it holds.
fn paid_by_points(wallet: &Wallet, seen: &LoyaltySeen, order: &str) -> i64 {
    let held = wallet.holds.iter().filter(|held| held.kind == Kind::Redeem && held.order == order);
    let redeemed = seen.receipt.as_ref().map_or(0, |receipt| receipt.sums.redeemed);
    redeemed + held.map(|held| held.points).sum::<i64>()
}

fn declined_answer(ground: &Ground<'_>, outside: Outside<'_>, declined: &Declined) -> Answer {
    let message = club_words::declined(declined.why, outside.name, ground.language);
    let note = Note::declined(declined.why, &message);
    Answer { points: 0, off: 0, keeps: false, message, note: Some(note) }
}

/// Nothing could be learnt: a small discount by the balance last heard, or none.
fn silent(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    wallet: &Wallet,
    eligible: i64,
    ask: &QuoteAsk,
    silence: Silence,
    learnt: &Learnt,
) -> Answer {
    let points = match ask.kind {
        Kind::Redeem => outside.offline_offer(wallet, eligible, &ask.order, ground.now),
        Kind::Earn => 0,
    };
    if let Some(account) = wallet.club.as_ref().filter(|_| points > 0) {
        let off = outside.off(account, points);
        let message = club_words::offline(outside.name, off, ask.total - off, outside.unit, ground.language, ground.currency);
        let operation = accrual_of(ground.merchant, &ask.order, 0);
        let note = Note { applied: true, offline: true, ..Note::degraded(silence, &message, Some(operation)) };
        return Answer { points, off, keeps: true, message, note: Some(note) };
    }
    // A code that a guest shows is good for a moment only: later nobody could be told by it.
    let can_be_told = wallet.club.is_some() || matches!(learnt.by, Some(AccountKey::Phone(_) | AccountKey::Card(_)));
    degraded(ground, outside, ask, silence, can_be_told)
}

fn degraded(ground: &Ground<'_>, outside: Outside<'_>, ask: &QuoteAsk, silence: Silence, can_be_told: bool) -> Answer {
    let message = club_words::silent(outside.name, can_be_told, ground.language);
    let operation = can_be_told.then(|| accrual_of(ground.merchant, &ask.order, 0));
    let note = Note::degraded(silence, &message, operation);
    Answer { points: 0, off: 0, keeps: can_be_told, message, note: Some(note) }
}

fn answer_body(ask: &QuoteAsk, hold: Option<Id>, answer: &Answer) -> Value {
    let hold_id = hold.map(|hold| hold.to_string());
    let (message, loyalty) = (answer.message.clone(), answer.note.clone());
    match ask.kind {
        Kind::Redeem => json!(RedeemQuote {
            can_redeem: answer.off > 0,
            discount_to_apply: answer.off,
            points_to_burn: answer.points,
            final_payable: ask.total - answer.off,
            hold_id,
            message,
            loyalty,
        }),
        Kind::Earn => {
            json!(EarnQuote { can_earn: answer.points > 0, points_to_earn: answer.points, hold_id, message, loyalty })
        }
    }
}

/// Decides a commit. `by`: how the guest can be named to the programme while their account is not known.
pub(crate) fn commit(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: &LoyaltySeen,
    ask: &CommitAsk,
    by: Option<AccountKey>,
) -> Result<Ruled, LoyaltyError> {
    let hold = seen.hold.as_ref().ok_or(LoyaltyError::HoldNotFound)?;
    if let Some(receipt) = &seen.receipt
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
    let mut receipt = seen.receipt.clone().unwrap_or_else(|| new_receipt(ground, hold, ask));
    let mut later = Vec::new();
    let off = hold.answer["discountToApply"].as_i64().unwrap_or_default();
    let (redeemed, earned) = match hold.kind {
        // One order spends once, and earns once.
        Kind::Redeem if receipt.sums.redeemed == 0 => (hold.points, 0),
        Kind::Earn if receipt.sums.earned == 0 => (0, hold.points),
        _ => (0, 0),
    };
    receipt.sums.redeemed += redeemed;
    receipt.sums.earned += earned;
    receipt.sums.eligible = receipt.sums.eligible.max(hold.eligible);
    receipt.number = receipt.number.or_else(|| ask.receipt_number.clone());
    match hold.kind {
        // The one that spends comes first: a refund finds its operation by it.
        Kind::Redeem => receipt.holds.insert(0, hold.id),
        Kind::Earn => receipt.holds.push(hold.id),
    }
    if hold.kind == Kind::Redeem && redeemed == 0 && hold.points > 0 {
        // Taken for nothing: the order has spent before.
        later.push(Later::Release { operation: redemption(hold.id), hold: None, due_at: ground.now });
    }
    if let Some(account) = wallet.club.as_mut().filter(|_| redeemed > 0 && hold.answer["loyalty"]["offline"] == true) {
        account.offline = account.offline.saturating_add(redeemed);
        later.push(Later::Settle(Redemption {
            operation: redemption(hold.id),
            account: account.account.clone(),
            receipt: ask.order.clone(),
            points: redeemed,
            worth_minor: outside.minor(off),
            sum_minor: outside.minor(hold.total),
            confirmation: None,
        }));
    }
    if seen.receipt.is_none() {
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
    let before = seen.receipt.as_ref().ok_or(LoyaltyError::ReceiptNotFound)?;
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
            Later::Settle(Redemption {
                operation: redemption_of(*hold, receipt.sums.restored),
                account: account.account.clone(),
                receipt: receipt.order.clone(),
                points: left_points,
                worth_minor: left_points.saturating_mul(account.point_minor),
                sum_minor: outside.minor(receipt.sums.eligible),
                confirmation: None,
            })
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
    };
    let mut quoted = quote(ground, outside, &seen, ask, None, &learnt)?;
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

fn committed(receipt: &OrderReceipt, already: bool) -> Committed {
    Committed {
        ok: true,
        receipt_id: receipt.id.to_string(),
        redeem_applied: receipt.sums.redeemed,
        earn_applied: receipt.sums.earned,
        already_committed: already.then_some(true),
    }
}

fn only(answer: impl serde::Serialize) -> Decided {
    Decided { answer: json!(answer), ..Decided::default() }
}

fn new_receipt(ground: &Ground<'_>, hold: &Hold, ask: &CommitAsk) -> OrderReceipt {
    OrderReceipt {
        id: Id::new(IdKind::Receipt),
        merchant: ground.merchant,
        order: ask.order.clone(),
        wallet: hold.wallet,
        version: 0,
        sums: Receipt { eligible: hold.eligible, ..Receipt::default() },
        spent: Vec::new(),
        lot: None,
        holds: Vec::new(),
        promo_code: None,
        number: None,
        outlet: ground.outlet.or(hold.outlet),
        staff: ground.staff.map(str::to_owned).or_else(|| hold.staff.clone()),
        at: ground.now,
    }
}
