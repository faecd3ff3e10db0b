//! Receipts that come in earn points by themselves, where the merchant's programme names their connection (`earn_from`): for tills
//! that do not ask. A receipt taken back takes its points back.
//!
//! It is a command of the outbox like any other: durable, one after another for each order, to be seen. Nothing is called outward.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel_model::{
    Event, Id, Job, PointsJob, Timestamp,
    event::kind,
    id::Kind as IdKind,
    loyalty::{Held, HoldState, Kind, OrderReceipt, Unit},
    signature::fingerprint,
};
use uzel_store::{Command, CommandState, Contact, KeptReply, LoyaltyLook, LoyaltySeen, NewCommand, StoreError};

use super::{
    CommitAsk, CustomerAsk, LoyaltyAsk, LoyaltyError, LoyaltyProgramme, QuoteAsk, RefundAsk,
    answer::{ground, who},
    club_jobs, club_quote,
    customers::own_ask,
    decide::{self, Decided, Ground, SAME_ORDER},
    outside::Outside,
    outside_sale::{self, Ruled},
};
use crate::{Engine, Link, World, call::Outcome};

/// A command may be found again after a crash for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);
const TRIES_MAX: u32 = 20;

/// Whether the phone of an event is wanted for points.
pub(crate) fn wanted(world: &World, link: &Link, event: &Event) -> bool {
    earning(world, link).is_some() && earns_by(&event.kind)
}

fn earns_by(kind: &str) -> bool {
    matches!(kind, kind::ORDER_COMPLETED | kind::VISIT_COMPLETED)
}

/// The programme that this connection's receipts earn by.
fn earning<'a>(world: &'a World, link: &Link) -> Option<&'a Arc<LoyaltyProgramme>> {
    let programme = world.programme_of(link.merchant)?;
    programme.rule.earn_from.contains(&link.slug).then_some(programme)
}

/// The points of an event, as a command.
pub(crate) fn earns(world: &World, link: &Link, event: &Event, now: Timestamp) -> Option<NewCommand> {
    let programme = earning(world, link).filter(|_| !event.history)?;
    let unit = programme.rule.points.unit;
    let id = event.data["order_id"].as_str().or_else(|| event.subject.split_once('/').map(|(_, id)| id));
    let id = id.filter(|id| *id != "-")?;
    // Orders of two tills may have one number.
    let order = format!("{}:{id}", link.slug);
    let names = [Some(id), event.data["till_order_id"].as_str()];
    let mut till_orders: Vec<String> = names.into_iter().flatten().map(str::to_owned).collect();
    till_orders.dedup();
    let text = |name: &str| event.data[name].as_str().map(str::to_owned);
    let job = match event.kind.as_str() {
        kind if earns_by(kind) => {
            let total = units(event, "sum", unit)?;
            PointsJob {
                order,
                till_orders,
                at: Some(event.at),
                refund: false,
                customer: text("customer"),
                phone: event.phone.as_ref().map(|phone| phone.e164.clone()),
                name: event.name.clone(),
                total: Some(total),
                eligible: units(event, "eligible_sum", unit),
                hold: text("hold_id"),
                number: text("number"),
            }
        }
        kind::ORDER_CANCELLED | kind::VISIT_CANCELLED => {
            PointsJob { order, till_orders, at: Some(event.at), refund: true, ..PointsJob::default() }
        }
        // Of a part the till that sells by itself tells by itself.
        kind::ORDER_REFUNDED => PointsJob { order, refund: true, total: units(event, "sum", unit), ..PointsJob::default() },
        _ => return None,
    };
    if !job.refund && job.customer.is_none() && job.phone.is_none() && job.hold.is_none() {
        return None;
    }
    // What calls an order off calls off its points, but not that they are taken back.
    let subject = if job.refund { format!("points/{}", event.id) } else { event.subject.clone() };
    let command = Command {
        id: Id::new(IdKind::Command),
        merchant: event.merchant,
        connection: link.id,
        flow: None,
        event: Some(event.id),
        job: Job::Points { points: Box::new(job) },
        due_at: now,
        latest_at: None,
        source: event.connection,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: event.trace.clone(),
    };
    let ordering_key = format!("{}/{}", link.id, event.subject);
    Some(NewCommand { command, ordering_key, subject, held: None, slot: None })
}

/// A sum of an event in the programme's units, rounded down: `sum_minor` in minor units, or `sum` as a decimal.
fn units(event: &Event, name: &str, unit: Unit) -> Option<i64> {
    let minor = match &event.data[format!("{name}_minor")] {
        Value::Number(number) => number.as_i64()?,
        Value::String(text) => text.parse().ok()?,
        _ => {
            let sum = match &event.data[name] {
                Value::String(text) => text.trim().replace(',', ".").parse::<rust_decimal::Decimal>().ok()?,
                Value::Number(number) => number.to_string().parse().ok()?,
                _ => return None,
            };
            i64::try_from(sum.checked_mul(100.into())?.trunc()).ok()?
        }
    };
    Some(minor.div_euclid(unit.minor())).filter(|units| *units >= 0)
}

/// Carries such a command out.
pub(crate) async fn take(engine: &Arc<Engine>, link: &Link, command: &Command, job: &PointsJob) -> Outcome {
    let outcome = booked(engine, link, command, job).await;
    match outcome.label {
        "ok" => engine.metrics.request(link.provider.id, "receipt", "ok"),
        "dead" => engine.metrics.request(link.provider.id, "receipt", "error"),
        _ => {}
    }
    outcome
}

async fn booked(engine: &Engine, link: &Link, command: &Command, job: &PointsJob) -> Outcome {
    let key = fingerprint([b"loyalty command".as_slice(), command.id.as_bytes()]);
    let done = match job.refund {
        true => take_back(engine, link, command, job, key).await,
        false => book(engine, link, command, job, key).await,
    };
    match done {
        Ok(said) => Outcome::ended(CommandState::Done, said, "ok"),
        Err(LoyaltyError::Again(why)) => {
            Outcome { counts: false, ..Outcome::again(engine.clock.now() + SignedDuration::from_secs(5), why) }
        }
        // It earned nothing, so there is nothing to take back.
        Err(LoyaltyError::ReceiptNotFound) => {
            Outcome::ended(CommandState::Done, Some("the order had no points".to_owned()), "ok")
        }
        Err(error) => Outcome::ended(CommandState::Dead, Some(error.says(uzel_model::words::Language::En)), "dead"),
    }
}

/// Takes an order back, whoever sold it: what its receipt earned, and what the till has committed of it by itself.
async fn take_back(
    engine: &Engine,
    link: &Link,
    command: &Command,
    job: &PointsJob,
    key: [u8; 16],
) -> Result<Option<String>, LoyaltyError> {
    let own = match book(engine, link, command, job, key).await {
        Err(error) if !matches!(error, LoyaltyError::ReceiptNotFound) => return Err(error),
        own => own,
    };
    let (mut taken, now) = (own.is_ok(), engine.clock.now());
    for receipt in sold_by_till(engine, &LoyaltyLook::new(command.merchant, now), job).await? {
        let is_its = is_of(&receipt, job, now) && (own.is_err() || receipt.earned_as.as_ref() == Some(&job.order));
        if !is_its {
            continue;
        }
        let of_till = PointsJob { order: receipt.order.clone(), ..job.clone() };
        let key = fingerprint([b"loyalty command".as_slice(), command.id.as_bytes(), receipt.order.as_bytes()]);
        book(engine, link, command, &of_till, key).await?;
        taken = true;
    }
    if taken { Ok(None) } else { own }
}

async fn book(
    engine: &Engine,
    link: &Link,
    command: &Command,
    job: &PointsJob,
    key: [u8; 16],
) -> Result<Option<String>, LoyaltyError> {
    for _ in 0..TRIES_MAX {
        let world = engine.world();
        let programme = world.programme_of(command.merchant).ok_or(LoyaltyError::NoProgramme)?;
        let path = if job.refund { "/loyalty/refund" } else { "/loyalty/earn" };
        let asked = json!({ "command": command.id, "order": job.order, "total": job.total });
        let ask = LoyaltyAsk {
            outlet: link.outlet,
            trace: command.trace.clone(),
            ..own_ask(command.merchant, &format!("connection/{}", link.id), path, engine.clock.now(), asked)
        };
        let ground = ground(engine, &world, programme, &ask);
        let customer = job.customer.as_ref().or(job.phone.as_ref());
        let mut look = LoyaltyLook {
            order: Some(job.order.clone()),
            replies: vec![key],
            hold: job.hold.as_ref().and_then(|hold| hold.parse().ok()),
            ..LoyaltyLook::new(command.merchant, ground.now)
        };
        if let Some(customer) = customer.filter(|_| !job.refund && look.hold.is_none()) {
            look.who = Some(who(&world, command.merchant, customer)?);
        }
        if let Some(levels) = &ground.rule.points.levels {
            look.since = ground.now.checked_sub(SignedDuration::from_hours(24 * i64::from(levels.period_days))).ok();
        }
        let mut seen = engine.store.loyalty(look.clone()).await?;
        if !seen.replies.is_empty() {
            return Ok(None);
        }
        let mut job = job.clone();
        let has_club = programme.rule.club.is_some();
        let is_new = seen.receipt.is_none() && !job.refund;
        let sold = if is_new { sold_by_till(engine, &look, &job).await? } else { Vec::new() };
        // An outside programme is told of an order with its first commit, whatever that is of.
        let earned = |it: &&OrderReceipt| is_of(it, &job, ground.now) && (has_club || it.sums.earned > 0);
        if let Some(receipt) = sold.iter().find(earned) {
            return Ok(Some(format!("the till has sold it by itself as order {}: it earns once", receipt.order)));
        }
        if let (Some(hold), false) = (&seen.hold, job.refund)
            && hold.state == HoldState::Committed
            && !seen.receipt.as_ref().is_some_and(|receipt| receipt.holds.contains(&hold.id))
        {
            return Ok(Some("the till has committed its quote by itself: it earns once".to_owned()));
        }
        if let (Some(phone), None, true) = (&job.phone, &seen.wallet, job.customer.is_some() && look.who.is_some()) {
            // The till's own number of a customer whom the merchant knows by the phone.
            let by_phone = LoyaltyLook { who: Some(who(&world, command.merchant, phone)?), ..look.clone() };
            let known = engine.store.loyalty(by_phone.clone()).await?;
            if known.wallet.is_some() {
                (look, seen) = (by_phone, known);
            }
        }
        if !job.refund
            && job.hold.is_none()
            && seen.receipt.is_none()
            && let Some(held) = till_s_own(&seen, &job, has_club, ground.now)
        {
            // The till has asked by itself and may still commit: it is its sale, which stands once.
            (job.hold, job.order) = (Some(held.hold.to_string()), held.order);
            look = LoyaltyLook { hold: Some(held.hold), order: Some(job.order.clone()), ..look };
            seen = engine.store.loyalty(look.clone()).await?;
        }
        let job = &job;
        let (mut decided, said, commands) = match club_quote::outside(&world, programme) {
            Some((outside, club)) => {
                let (ruled, said) = told(&ground, outside, seen, job)?;
                (ruled.decided, said, club_jobs::all(club, ruled.later, &job.order, ground.now, &command.trace)?)
            }
            None => {
                let (decided, said) = match job.refund {
                    true => {
                        let expired = engine.expired_of(&ground, seen.receipt.as_ref()).await?;
                        (decide::refund(&ground, &seen, &expired, &refund_of(job))?, None)
                    }
                    false => earn(engine, &ground, &look, seen, job).await?,
                };
                (decided, said, Vec::new())
            }
        };
        if is_new && decided.change.receipts.iter().any(|receipt| has_club || receipt.sums.earned > 0) {
            decided.change.receipts.extend(marked(&ground, job, &sold));
        }
        let until = ground.now.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        let kept = KeptReply { key, body: key, answer: String::new(), until };
        match engine.put_ruled(programme, &ask, decided, vec![kept], commands).await {
            Ok(_) => return Ok(said),
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(LoyaltyError::Again("too many tills at once with this customer".to_owned()))
}

/// What stands under the names by which the till calls the order: receipts that it has sold by itself, and marks.
async fn sold_by_till(engine: &Engine, look: &LoyaltyLook, job: &PointsJob) -> Result<Vec<OrderReceipt>, LoyaltyError> {
    let mut sold = Vec::new();
    for name in &job.till_orders {
        let look = LoyaltyLook { order: Some(name.clone()), ..LoyaltyLook::new(look.merchant, look.now) };
        sold.extend(engine.store.loyalty(look).await?.receipt);
    }
    Ok(sold)
}

/// Whether the till has sold the order of a receipt by itself.
fn is_of(receipt: &OrderReceipt, job: &PointsJob, now: Timestamp) -> bool {
    !receipt.is_mark() && receipt.at.duration_since(job.at.unwrap_or(now)).abs() <= SAME_ORDER
}

/// Tells the till's own commits that the order has earned, under each name by which the till may call it: whoever comes later, and in
/// the same moment, earns nothing. `sold`: what stands there.
fn marked(ground: &Ground<'_>, job: &PointsJob, sold: &[OrderReceipt]) -> Vec<OrderReceipt> {
    let earned_as = Some(job.order.clone());
    let names = job.till_orders.iter().filter(|name| **name != job.order);
    let one = |name: &String| match sold.iter().find(|receipt| receipt.order == *name) {
        None => Some(decide::mark(ground, name, earned_as.clone())),
        Some(mark) if mark.is_mark() => {
            let new = decide::mark(ground, name, earned_as.clone());
            // Two outlets have an order of this name at once: it is taken for each of them.
            let outlet = new.outlet.filter(|_| mark.outlet == new.outlet || !decide::has_earned(mark, &anywhere(ground)));
            Some(OrderReceipt { id: mark.id, wallet: mark.id, version: mark.version, outlet, ..new })
        }
        Some(receipt) if is_of(receipt, job, ground.now) && receipt.earned_as.is_none() => {
            Some(OrderReceipt { earned_as: earned_as.clone(), ..receipt.clone() })
        }
        Some(_) => None,
    };
    names.filter_map(one).collect()
}

fn anywhere<'a>(ground: &Ground<'a>) -> Ground<'a> {
    Ground { outlet: None, ..*ground }
}

/// The quote of the order that the till has asked for by itself and not committed yet.
fn till_s_own(seen: &LoyaltySeen, job: &PointsJob, has_club: bool, now: Timestamp) -> Option<Held> {
    let stands = |held: &&Held| job.till_orders.contains(&held.order) && held.until.is_none_or(|until| until > now);
    let of = |kind: Kind| seen.wallet.iter().flat_map(|wallet| &wallet.holds).filter(stands).find(|held| held.kind == kind);
    of(Kind::Earn).or_else(|| of(Kind::Redeem).filter(|_| has_club)).cloned()
}

fn refund_of(job: &PointsJob) -> RefundAsk {
    // Without a sum: all of it.
    RefundAsk { order: job.order.clone(), total: job.total.unwrap_or(i64::MAX), eligible: None }
}

/// The same where an outside programme keeps the points: it is told later.
fn told(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    seen: LoyaltySeen,
    job: &PointsJob,
) -> Result<(Ruled, Option<String>), LoyaltyError> {
    if job.refund {
        let by = club_quote::named_later(seen.wallet.as_ref());
        return Ok((outside_sale::refund(ground, outside, &seen, &refund_of(job), by)?, None));
    }
    let commit = CommitAsk {
        hold: job.hold.clone().unwrap_or_default(),
        order: job.order.clone(),
        receipt_number: job.number.clone(),
        promo_code: None,
    };
    if job.hold.is_some() && seen.hold.is_some() {
        let by = club_quote::named_later(seen.wallet.as_ref());
        return Ok((outside_sale::commit(ground, outside, &seen, &commit, by)?, None));
    }
    // A phone is known to the programme; the till's own number of a customer is not.
    let customer = job.phone.clone().or_else(|| job.customer.clone()).ok_or(LoyaltyError::WalletNotFound)?;
    let total = job.total.unwrap_or(0);
    let quote = QuoteAsk {
        kind: Kind::Earn,
        customer: CustomerAsk::Plain(customer),
        order: job.order.clone(),
        total,
        eligible: job.eligible.unwrap_or(total),
        category: None,
        promo_code: None,
    };
    outside_sale::receipt(&Ground { tells_quotes: false, ..*ground }, outside, seen, &quote, &commit)
}

/// A quote and its commit in one; also why nothing was earned.
async fn earn(
    engine: &Engine,
    ground: &Ground<'_>,
    look: &LoyaltyLook,
    seen: LoyaltySeen,
    job: &PointsJob,
) -> Result<(Decided, Option<String>), LoyaltyError> {
    let hold = job.hold.clone().filter(|_| seen.hold.is_some());
    let (seen, quoted) = match &hold {
        // The till has asked, and says now that it was sold.
        Some(_) => (seen, None),
        None => {
            let customer = job.customer.clone().or_else(|| job.phone.clone()).ok_or(LoyaltyError::WalletNotFound)?;
            let total = job.total.unwrap_or(0);
            let quote = QuoteAsk {
                kind: Kind::Earn,
                customer: CustomerAsk::Plain(customer),
                order: job.order.clone(),
                total,
                eligible: job.eligible.unwrap_or(total),
                category: None,
                promo_code: None,
            };
            let mut quoted = decide::quote(&Ground { tells_quotes: false, ..*ground }, look, &seen, &quote)?;
            let (Some(hold), Some(mut wallet)) = (quoted.change.holds.pop(), quoted.change.wallets.pop()) else {
                let why = quoted.answer["message"].as_str().map(str::to_owned);
                return Ok((Decided { answer: quoted.answer, ..Decided::default() }, why));
            };
            if seen.wallet.is_none() {
                wallet.phone = wallet.phone.or_else(|| job.phone.clone());
            }
            wallet.name = wallet.name.or_else(|| job.name.clone());
            (LoyaltySeen { hold: Some(hold.clone()), wallet: Some(wallet), ..seen }, Some(hold))
        }
    };
    let hold = hold.or_else(|| quoted.map(|hold| hold.id.to_string())).unwrap_or_default();
    let commit = CommitAsk { hold, order: job.order.clone(), receipt_number: job.number.clone(), promo_code: None };
    let referrer = engine.referrer(ground, seen.wallet.as_ref()).await?;
    let decided = decide::commit(ground, &seen, referrer.as_ref(), &commit, None)?;
    Ok((decided, None))
}
