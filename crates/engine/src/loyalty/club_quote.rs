//! What a quote has to learn of an outside programme, within the cashier's patience, and what must be done there for it.
//!
//! Before points are taken the quote is stored, without an answer yet, and a `Release`: whatever happens then to the till or this node,
//! a till that asks again goes on with the same operation, and points that no sale stands for are given back.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use uzel_model::{
    Id,
    id::Kind as IdKind,
    loyalty::{Hold, HoldState, Kind, Wallet},
    port::loyalty::{Account, AccountKey, Declined, Redemption, Reversal, Scheme, Why},
};
use uzel_store::{Change, CommandState, LoyaltyChange, LoyaltyLook, LoyaltySeen, StoreError, Who};

use super::{
    Balance, CustomerAsk, LoyaltyAsk, LoyaltyError, LoyaltyProgramme, QuoteAsk,
    answer::who,
    club::{Heard, Silence},
    club_jobs::{self, Later},
    decide::Ground,
    outside::{self, Learnt, Outside},
    outside_sale,
};
use crate::{Engine, Link, World, tick};

/// Points are given back so long after the quote's end: a commit at its last moment is seen by then.
const AFTER_END: SignedDuration = SignedDuration::from_mins(1);
/// The shortest number of a card; a code that a guest shows is shorter.
const CARD_DIGITS_MIN: usize = 8;

/// The merchant's outside programme, and the connection to it where that can be used.
pub(super) fn outside<'a>(world: &'a World, programme: &'a LoyaltyProgramme) -> Option<(Outside<'a>, Option<&'a Arc<Link>>)> {
    let club = programme.rule.club.as_ref()?;
    let link = world.links_of(programme.merchant).find(|link| link.slug == club.connection);
    let link = link.filter(|link| link.connector.loyalty().is_some());
    let name = link.map_or(club.connection.as_str(), |link| link.provider.name);
    Some((Outside { club, name, unit: programme.rule.points.unit }, link))
}

/// How a guest is named to a programme: by phone, card, or a code that is good for a moment.
pub(super) fn named(who: &Who, wallet: Option<&Wallet>) -> Option<AccountKey> {
    let phone = wallet.and_then(|wallet| wallet.phone.clone()).map(AccountKey::Phone);
    match who {
        Who::Phone(phone) => Some(AccountKey::Phone(phone.clone())),
        Who::Id(_) => phone.or_else(|| by_text(&wallet?.customer)),
        Who::Customer(text) => phone.or_else(|| by_text(text)),
    }
}

fn by_text(text: &str) -> Option<AccountKey> {
    // An id of ours names nobody elsewhere.
    if text.is_empty() || text.parse::<Id>().is_ok() {
        return None;
    }
    let is_card = text.len() >= CARD_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_digit());
    Some(if is_card { AccountKey::Card(text.to_owned()) } else { AccountKey::Code(text.to_owned()) })
}

/// How the programme can still name the guest later.
pub(super) fn named_later(wallet: Option<&Wallet>) -> Option<AccountKey> {
    let wallet = wallet?;
    named(&Who::Id(wallet.id), Some(wallet)).filter(|by| !matches!(by, AccountKey::Code(_)))
}

impl Engine {
    /// How long a quote of this merchant waits for an outside programme; nothing where none keeps the points.
    pub(super) fn club_patience(&self, merchant: Id) -> Option<Duration> {
        let world = self.world();
        let club = world.programme_of(merchant)?.rule.club.as_ref()?;
        Some(Duration::from_millis(club.patience_ms.into()))
    }

    /// A guest's points as the programme has them; where it does not answer, as it had them when it last did.
    pub(super) async fn club_balance(self: &Arc<Self>, merchant: Id, customer: &str) -> Result<Option<Balance>, LoyaltyError> {
        let world = self.world();
        let programme = world.programme_of(merchant).ok_or(LoyaltyError::NoProgramme)?;
        let Some((outside, link)) = outside(&world, programme) else { return Ok(None) };
        let until = Instant::now() + Duration::from_millis(outside.club.patience_ms.into());
        let who = who(&world, merchant, customer)?;
        let look = LoyaltyLook { who: Some(who.clone()), ..LoyaltyLook::new(merchant, self.clock.now()) };
        let wallet = self.store.loyalty(look).await?.wallet;
        let by = named(&who, wallet.as_ref()).ok_or(LoyaltyError::WalletNotFound)?;
        let settled = self.settled(wallet.as_ref()).await?;
        let heard = match link {
            Some(link) => self.club_account(link, by, &tick::new_trace(), until).await,
            None => Heard::Nothing(Silence::Down),
        };
        let (balance, promised) = match heard {
            Heard::Yes(account) => {
                let unsettled = outside::unsettled(wallet.as_ref(), &settled);
                let left = outside::kept(&account, unsettled, self.clock.now()).left();
                (left, (account.points - account.available).max(0))
            }
            Heard::No(_) => return Err(LoyaltyError::WalletNotFound),
            Heard::Nothing(silence) => match wallet.as_ref().and_then(|wallet| wallet.club.as_ref()) {
                Some(known) => (known.left(), 0),
                None => return Err(LoyaltyError::Again(format!("{} does not answer: {}", outside.name, silence.word()))),
            },
        };
        let customer_id = wallet.map_or_else(|| customer.to_owned(), |wallet| wallet.customer);
        Ok(Some(Balance { merchant_id: merchant.to_string(), customer_id, balance, promised }))
    }

    /// The commands that have told the programme of what was spent without it. Looked for before its balance is asked for: what it
    /// is told in between is taken off twice for a moment, and never counted twice.
    async fn settled(&self, wallet: Option<&Wallet>) -> Result<Vec<Id>, StoreError> {
        let mut settled = Vec::new();
        for unsettled in wallet.and_then(|wallet| wallet.club.as_ref()).into_iter().flat_map(|account| &account.unsettled) {
            let found = self.store.command(unsettled.command).await?;
            if found.is_none_or(|(_, found)| matches!(found.state, CommandState::Done | CommandState::Dead)) {
                settled.push(unsettled.command);
            }
        }
        Ok(settled)
    }

    /// Learns it; nothing where the question was answered before.
    pub(super) async fn learn(
        self: &Arc<Self>,
        ground: &Ground<'_>,
        outside: Outside<'_>,
        link: Option<&Arc<Link>>,
        ask: &LoyaltyAsk,
        quote: &QuoteAsk,
        look: LoyaltyLook,
    ) -> Result<Option<Learnt>, LoyaltyError> {
        let until = Instant::now() + Duration::from_millis(outside.club.patience_ms.into());
        let world = self.world();
        let customer = match &quote.customer {
            CustomerAsk::Token { customer, .. } | CustomerAsk::Plain(customer) => customer,
        };
        let who = who(&world, ask.merchant, customer)?;
        let seen = timeout_at(until, self.store.loyalty(look.clone())).await.map_err(|_| StoreError::Busy)??;
        if !seen.replies.is_empty() {
            return Ok(None);
        }
        let mut learnt = Learnt {
            by: named(&who, seen.wallet.as_ref()),
            heard: Heard::Nothing(Silence::Down),
            hold: Id::new(IdKind::Hold),
            taken: None,
            again: None,
            begun: None,
            settled: timeout_at(until, self.settled(seen.wallet.as_ref())).await.map_err(|_| StoreError::Busy)??,
        };
        if look.token.is_some() && seen.hold.is_some() {
            // The same code again gets what it got.
            return Ok(Some(learnt));
        }
        let (Some(link), Some(by)) = (link, learnt.by.clone()) else {
            if link.is_some() {
                let reason = "this customer has neither phone nor card".to_owned();
                learnt.heard = Heard::No(Declined { why: Why::NotFound, reason });
            }
            return Ok(Some(learnt));
        };
        let question = Asked { engine: self, ground, outside, link, ask, quote, look, until };
        let before = question.before(&seen).await?;
        if let Before::Answered(answer) = before {
            learnt.again = Some(answer);
            return Ok(Some(learnt));
        }
        learnt.heard = self.club_account(link, by, &ask.trace, until).await;
        if let (Heard::Yes(account), Kind::Redeem) = (learnt.heard.clone(), quote.kind) {
            question.take(&account, seen, before, &mut learnt).await?;
        }
        Ok(Some(learnt))
    }
}

/// A quote that is being learnt for.
struct Asked<'a> {
    engine: &'a Arc<Engine>,
    ground: &'a Ground<'a>,
    outside: Outside<'a>,
    link: &'a Arc<Link>,
    ask: &'a LoyaltyAsk,
    quote: &'a QuoteAsk,
    look: LoyaltyLook,
    until: Instant,
}

/// What stands of the same order already.
enum Before {
    Nothing,
    /// A quote whose points are being taken, or may have been by a node that is gone.
    Begun(Box<Hold>),
    /// One that was answered so.
    Answered(Value),
}

impl Asked<'_> {
    /// The quote of the same order that stands, if it spends points. One of another sum is let go.
    async fn before(&self, seen: &LoyaltySeen) -> Result<Before, LoyaltyError> {
        let stands = |until: Option<jiff::Timestamp>| until.is_none_or(|until| until > self.ground.now);
        let held = seen.wallet.iter().flat_map(|wallet| &wallet.holds).find(|held| {
            held.kind == Kind::Redeem && self.quote.kind == Kind::Redeem && held.order == self.quote.order && stands(held.until)
        });
        let Some(held) = held else { return Ok(Before::Nothing) };
        let look = LoyaltyLook { hold: Some(held.hold), ..LoyaltyLook::new(self.ask.merchant, self.ground.now) };
        let found = timeout_at(self.until, self.engine.store.loyalty(look)).await.map_err(|_| StoreError::Busy)??;
        let Some(hold) = found.hold.filter(|hold| outside::stands(hold, self.ground.now)) else { return Ok(Before::Nothing) };
        if hold.total != self.quote.total || hold.eligible != self.quote.eligible.min(self.quote.total) {
            self.let_go(&hold, seen).await?;
            return Ok(Before::Nothing);
        }
        Ok(if hold.answer.is_null() { Before::Begun(Box::new(hold)) } else { Before::Answered(hold.answer) })
    }

    /// Another sum is asked for: the earlier quote is cancelled, and its points go back before others are taken.
    async fn let_go(&self, hold: &Hold, seen: &LoyaltySeen) -> Result<(), LoyaltyError> {
        let mut points =
            LoyaltyChange { holds: vec![Hold { state: HoldState::Cancelled, ..hold.clone() }], ..LoyaltyChange::default() };
        points.wallets.extend(seen.wallet.clone().map(|mut wallet| {
            wallet.holds.retain(|held| held.hold != hold.id);
            wallet
        }));
        let change = Change { loyalty: Some(Box::new(points)), now: Some(self.engine.clock.now()), ..Change::default() };
        timeout_at(self.until, self.engine.store.apply(change)).await.map_err(|_| StoreError::Busy)??;
        if outside_sale::cancelled(self.ground, hold).is_some() {
            let reversal = Reversal::of(&outside::redemption(hold.id), "another sum was asked for");
            // If that is not heard of, its `Release` sees to it.
            drop(self.engine.club_reverse(self.link, reversal, &self.ask.trace, self.until).await);
        }
        Ok(())
    }

    /// Takes the points that may pay; nothing where there are none. Once begun, always the same ones under the same id: whoever asks
    /// again goes on where this node, or one that is gone, has stopped.
    async fn take(&self, account: &Account, seen: LoyaltySeen, before: Before, learnt: &mut Learnt) -> Result<(), LoyaltyError> {
        let begun = match before {
            Before::Begun(hold) => *hold,
            _ => match self.begin(account, seen, learnt).await? {
                Some(hold) => hold,
                None => return Ok(()),
            },
        };
        let redemption = Redemption {
            operation: outside::redemption(begun.id),
            account: account.id.clone(),
            receipt: self.quote.order.clone(),
            points: begun.points,
            worth_minor: begun.points.saturating_mul(account.point_minor),
            sum_minor: self.quote.total.saturating_mul(self.outside.unit.minor()),
            confirmation: None,
        };
        (learnt.hold, learnt.begun) = (begun.id, Some(begun));
        learnt.taken = Some(match self.engine.club_redeem(self.link, redemption, &self.ask.trace, self.until).await {
            Heard::Yes(operation) => Heard::Yes(operation.points),
            Heard::No(declined) => Heard::No(declined),
            Heard::Nothing(silence) => Heard::Nothing(silence),
        });
        Ok(())
    }

    /// Stores the quote that is being made together with what gives its points back if nobody buys by it.
    async fn begin(&self, account: &Account, mut seen: LoyaltySeen, learnt: &mut Learnt) -> Result<Option<Hold>, LoyaltyError> {
        while Instant::now() < self.until {
            let has_spent = seen.receipt.as_ref().is_some_and(|receipt| receipt.sums.redeemed > 0);
            if has_spent || account.scheme != Scheme::Bonus {
                return Ok(None);
            }
            let unsettled = outside::unsettled(seen.wallet.as_ref(), &learnt.settled);
            let kept = outside::kept(account, unsettled, self.ground.now);
            let points = self.outside.offer(&kept, kept.left(), self.quote.eligible.min(self.quote.total));
            if points == 0 {
                return Ok(None);
            }
            let (wallet, hold) = outside::begin(self.ground, &seen, self.quote, learnt, points)?;
            let due_at = outside::until(self.ground, self.quote).saturating_add(AFTER_END).unwrap_or(jiff::Timestamp::MAX);
            let release = Later::Release { operation: outside::redemption(hold.id), hold: Some(hold.id), due_at };
            let now = self.engine.clock.now();
            let commands = vec![club_jobs::queued(self.link, release, None, now, &self.ask.trace)];
            let points = LoyaltyChange { wallets: vec![wallet], holds: vec![hold.clone()], ..LoyaltyChange::default() };
            let change = Change { commands, loyalty: Some(Box::new(points)), now: Some(now), ..Change::default() };
            match timeout_at(self.until, self.engine.store.apply(change)).await {
                Ok(Ok(_)) => return Ok(Some(Hold { version: hold.version + 1, ..hold })),
                Ok(Err(StoreError::Conflict)) => {}
                // Nothing is taken that nobody would give back.
                Ok(Err(_)) | Err(_) => break,
            }
            // Another till was faster with this wallet, or with this very order.
            let Ok(Ok(again)) = timeout_at(self.until, self.engine.store.loyalty(self.look.clone())).await else { break };
            match self.before(&again).await? {
                Before::Nothing => seen = again,
                Before::Begun(hold) => return Ok(Some(*hold)),
                Before::Answered(answer) => {
                    learnt.again = Some(answer);
                    return Ok(None);
                }
            }
        }
        // What was to be stored may be yet, so what is answered now is another quote.
        (learnt.hold, learnt.taken) = (Id::new(IdKind::Hold), Some(Heard::Nothing(Silence::Down)));
        Ok(None)
    }
}
