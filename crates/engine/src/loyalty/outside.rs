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
    loyalty::{ClubAccount, Held, Hold, HoldState, Kind, Unit, Unsettled, Wallet},
    port::loyalty::{Account, AccountKey, Declined, Scheme, operation_id, operation_of},
    signature::fingerprint,
};
use uzel_store::{LoyaltySeen, SpentToken};

use super::{
    Club, CustomerAsk, EarnQuote, LoyaltyError, QuoteAsk, RedeemQuote,
    club::{Heard, Silence},
    club_words::{self, Note},
    decide::{Decided, Ground, TOKEN_HOLD, TOKEN_KEPT, new_wallet},
    reading::Fact,
};

/// Basis points in the whole.
const WHOLE_BPS: i128 = 10_000;
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
    /// The quote that was stored before its points were taken: it has no answer yet.
    pub(crate) begun: Option<Hold>,
    /// Commands that had told the programme of what was spent without it, before it was heard.
    pub(crate) settled: Vec<Id>,
}

/// What a wallet has spent without the programme, but for what these commands have told it of.
pub(crate) fn unsettled(wallet: Option<&Wallet>, settled: &[Id]) -> Vec<Unsettled> {
    let known = wallet.and_then(|wallet| wallet.club.as_ref()).into_iter().flat_map(|account| &account.unsettled);
    known.filter(|unsettled| !settled.contains(&unsettled.command)).copied().collect()
}

/// A programme, as decisions see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside<'a> {
    pub(crate) club: &'a Club,
    /// As people call it.
    pub(crate) name: &'a str,
    pub(crate) unit: Unit,
}

impl Outside<'_> {
    pub(super) fn minor(&self, units: i64) -> i64 {
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
        let held: i64 =
            wallet.holds.iter().filter(|held| held.kind == Kind::Redeem && held.order != order).map(|held| held.points).sum();
        let spent = account.offline().saturating_add(held);
        self.offer(account, (account.available - spent).min(self.club.offline_limit - spent), eligible)
    }
}

fn gcd(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// The account as it is kept.
pub(crate) fn kept(account: &Account, unsettled: Vec<Unsettled>, now: Timestamp) -> ClubAccount {
    ClubAccount {
        account: account.id.clone(),
        available: account.available,
        point_minor: account.point_minor,
        accrual_bps: account.accrual_bps,
        redeem_max_bps: account.redeem_max_bps,
        heard_at: now,
        unsettled,
    }
}

/// Our id of the operation that tells of an order; after refunds of so much, of the one that tells of the rest.
pub(super) fn accrual_of(merchant: Id, order: &str, refunded: i64) -> String {
    let cause = fingerprint([merchant.as_bytes().as_slice(), order.as_bytes()]);
    operation_id(&format!("accrual after {refunded}"), &cause)
}

/// Our id of the operation that took a hold's points; after refunds of so much, of the one that took the rest again.
pub(super) fn redemption_of(hold: Id, restored: i64) -> String {
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
    let begun = match &seen.hold {
        Some(hold) => match (stands(hold, ground.now), token) {
            (true, None) if hold.answer.is_null() => Some(hold),
            (true, _) => return Ok(Decided { answer: hold.answer.clone(), ..Decided::default() }),
            (false, Some(_)) => return Err(LoyaltyError::TokenUsed),
            (false, None) => return Err(LoyaltyError::Again("another quote of this order came in between".to_owned())),
        },
        None => learnt.begun.as_ref(),
    };
    if let Some(answer) = &learnt.again {
        return Ok(Decided { answer: answer.clone(), ..Decided::default() });
    }
    let wallet = wallet_of(ground, seen, ask, learnt)?;
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
    if let (CustomerAsk::Token { expires_at, .. }, Some(key)) = (&ask.customer, token) {
        decided.change.token = Some(SpentToken { key, hold: learnt.hold, until: *expires_at + TOKEN_KEPT });
    }
    let (wallet, hold) = kept_quote(ground, ask, wallet, learnt.hold, answer.points, body);
    // Once begun it ends when it would have ended: its points are given back by then.
    let (version, until) = begun.map_or((0, hold.until), |begun| (begun.version, begun.until));
    decided.change.holds.push(Hold { version, until, ..hold });
    decided.change.wallets.push(wallet);
    Ok(decided)
}

/// A quote whose points are about to be taken, and the wallet that holds them.
pub(crate) fn begin(
    ground: &Ground<'_>,
    seen: &LoyaltySeen,
    ask: &QuoteAsk,
    learnt: &Learnt,
    points: i64,
) -> Result<(Wallet, Hold), LoyaltyError> {
    let wallet = wallet_of(ground, seen, ask, learnt)?;
    Ok(kept_quote(ground, ask, wallet, learnt.hold, points, Value::Null))
}

pub(crate) fn stands(hold: &Hold, now: Timestamp) -> bool {
    hold.state == HoldState::Pending && hold.until.is_none_or(|until| until > now)
}

/// The guest's wallet with what was heard of their account; a new one where the hub has not met them.
fn wallet_of(ground: &Ground<'_>, seen: &LoyaltySeen, ask: &QuoteAsk, learnt: &Learnt) -> Result<Wallet, LoyaltyError> {
    let mut wallet = match (&seen.wallet, &ask.customer) {
        (Some(wallet), _) => wallet.clone(),
        (None, CustomerAsk::Plain(_)) if !ground.authenticated => return Err(LoyaltyError::WalletNotFound),
        (None, CustomerAsk::Token { customer, .. }) => new_wallet(ground.merchant, Some(customer), ground.now),
        (None, CustomerAsk::Plain(customer)) => match &learnt.by {
            Some(AccountKey::Phone(phone)) => {
                Wallet { phone: Some(phone.clone()), ..new_wallet(ground.merchant, None, ground.now) }
            }
            _ => new_wallet(ground.merchant, Some(customer), ground.now),
        },
    };
    if let Heard::Yes(account) = &learnt.heard {
        wallet.club = Some(kept(account, unsettled(Some(&wallet), &learnt.settled), ground.now));
        wallet.name = wallet.name.or_else(|| account.name.clone());
    }
    Ok(wallet)
}

/// A quote, and the wallet with its points, in the place of an earlier one of the same order.
fn kept_quote(ground: &Ground<'_>, ask: &QuoteAsk, mut wallet: Wallet, id: Id, points: i64, answer: Value) -> (Wallet, Hold) {
    let until = until(ground, ask);
    wallet.holds.retain(|held| held.until.is_none_or(|until| until > ground.now));
    wallet.holds.retain(|held| held.kind != ask.kind || held.order != ask.order);
    if points > 0 {
        wallet.holds.push(Held { hold: id, kind: ask.kind, order: ask.order.clone(), points, until: Some(until) });
    }
    let hold = Hold {
        id,
        merchant: ground.merchant,
        wallet: wallet.id,
        version: 0,
        state: HoldState::Pending,
        kind: ask.kind,
        order: ask.order.clone(),
        points,
        limit: points,
        earning: None,
        total: ask.total,
        eligible: ask.eligible.min(ask.total),
        outlet: ground.outlet,
        staff: ground.staff.map(str::to_owned),
        request: ground.request.map(str::to_owned),
        promo_code: None,
        at: ground.now,
        until: Some(until),
        answer,
    };
    (wallet, hold)
}

/// Until when a quote stands.
pub(crate) fn until(ground: &Ground<'_>, ask: &QuoteAsk) -> Timestamp {
    match &ask.customer {
        CustomerAsk::Token { expires_at, .. } => (*expires_at).max(ground.now + TOKEN_HOLD),
        CustomerAsk::Plain(_) => ground.now + SignedDuration::from_secs(ground.rule.points.hold_ttl_s.into()).min(HOLD_MAX),
    }
}

fn redeem(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    account: &Account,
    eligible: i64,
    ask: &QuoteAsk,
    learnt: &Learnt,
) -> Answer {
    let spoken = |off: i64| club_words::taken(off, ask.total - off, outside.unit, ground.language, ground.currency);
    let plain = |points: i64, off: i64, message: String| Answer { points, off, keeps: true, message, note: None };
    if let Scheme::Discount { bps } = account.scheme {
        let off = i64::try_from(i128::from(eligible) * i128::from(bps) / WHOLE_BPS).unwrap_or_default();
        return plain(0, off, spoken(off));
    }
    match &learnt.taken {
        None => plain(0, 0, club_words::no_points(ground.language)),
        Some(Heard::Yes(points)) => {
            let off = outside.off(&kept(account, Vec::new(), ground.now), *points);
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
    let account = kept(account, Vec::new(), ground.now);
    let off = outside.off(&account, paid_by_points(wallet, seen, &ask.order));
    let points = outside.earns(&account, eligible - off);
    let message = club_words::earned(points, ground.language);
    Answer { points, off: 0, keeps: true, message, note: None }
}

/// Points that an order's receipt has spent, or a quote of it holds.
pub(super) fn paid_by_points(wallet: &Wallet, seen: &LoyaltySeen, order: &str) -> i64 {
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

#[cfg(test)]
mod tests {
    use uzel_model::id::Kind as IdKind;

    use super::*;

    fn account(point_minor: i64, redeem_max_bps: u32, available: i64) -> ClubAccount {
        let heard_at = "2026-11-28T12:00:00Z".parse().unwrap();
        ClubAccount {
            account: "a".to_owned(),
            available,
            point_minor,
            accrual_bps: 500,
            redeem_max_bps,
            heard_at,
            unsettled: vec![],
        }
    }

    fn club(offline_limit: i64) -> Club {
        Club { connection: "c".to_owned(), patience_ms: 800, offline_limit, offline_hours: 24 }
    }

    #[test]
    fn points_pay_no_more_than_the_programme_allows_and_whole_units() {
        let club = club(0);
        let offer = |unit, point_minor, bps, available, eligible| {
            let (outside, account) = (Outside { club: &club, name: "c", unit }, account(point_minor, bps, available));
            let points = outside.offer(&account, account.available, eligible);
            (points, outside.off(&account, points))
        };
        assert_eq!(offer(Unit::Rouble, 100, 3_000, 15_400, 50_000), (15_000, 15_000));
        assert_eq!(offer(Unit::Rouble, 100, 10_000, 400, 50_000), (400, 400));
        assert_eq!(offer(Unit::Kopeck, 100, 3_000, 15_400, 5_000_000), (15_000, 1_500_000));
        // A point and a half: only an even number of them is a whole sum.
        assert_eq!(offer(Unit::Rouble, 150, 10_000, 7, 50_000), (6, 9));
        assert_eq!(offer(Unit::Rouble, 100, 10_000, -5, 50_000), (0, 0));
        assert_eq!(offer(Unit::Rouble, 100, 10_000, i64::MAX, i64::MAX).0, i64::MAX / 100);
    }

    #[test]
    fn little_is_spent_by_a_balance_that_was_heard_lately() {
        let club = club(1_000);
        let outside = Outside { club: &club, name: "c", unit: Unit::Rouble };
        let now = "2026-11-29T11:00:00Z".parse().unwrap();
        let mut wallet = Wallet { club: Some(account(100, 10_000, 700)), ..new_wallet(Id::new(IdKind::Merchant), None, now) };
        let offer = |wallet: &Wallet, now: Timestamp| outside.offline_offer(wallet, 50_000, "o1", now);
        assert_eq!(offer(&wallet, now), 700, "no more than there was");
        if let Some(account) = &mut wallet.club {
            account.available = 5_000;
            account.unsettled = vec![Unsettled { command: Id::new(IdKind::Command), points: 400 }];
        }
        assert_eq!(offer(&wallet, now), 600, "no more than the limit until it is settled");
        wallet.holds.push(Held {
            hold: Id::new(IdKind::Hold),
            kind: Kind::Redeem,
            order: "o2".to_owned(),
            points: 500,
            until: None,
        });
        assert_eq!(offer(&wallet, now), 100, "what another quote holds counts");
        assert_eq!(offer(&wallet, now + SignedDuration::from_hours(2)), 0, "that was too long ago");
        wallet.club = None;
        assert_eq!(offer(&wallet, now), 0);
    }
}
