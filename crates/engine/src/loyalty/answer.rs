//! One question: read what stands, decide, and commit rows, journal and answer together. Who is faster wins; the other reads again.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::json;
use tokio::sync::Mutex;
use uzel_model::{
    Id,
    check::Fault,
    event::kind,
    id::Kind as IdKind,
    loyalty::{HoldState, MoveKind, OrderReceipt, Taken, Wallet},
    phone,
    signature::fingerprint,
};
use uzel_store::{Change, Entry, KeptReply, LedgerFilter, LoyaltyLook, LoyaltySeen, NewCommand, Source, StoreError, Who};

use super::{
    AdjustAsk, CommitAsk, CustomerAsk, Limit, LoyaltyAnswer, LoyaltyAsk, LoyaltyError, LoyaltyProgramme, QuoteAsk, RefundAsk,
    club_jobs, club_quote,
    decide::{self, Decided, Ground},
    outside::{self, Learnt, Outside},
    outside_sale::{self, Ruled},
    reading::{self, SOURCE},
};
use crate::{Engine, World};

/// How often a decision is made anew since another was faster. Of many tills with one card at least one is done each time.
const TRIES_MAX: u32 = 100;
/// An answer under a caller's own key is given again for so long.
const KEY_KEPT: SignedDuration = SignedDuration::from_hours(72);
/// And one under a signature: longer than the signature is good.
const SIGNATURE_KEPT: SignedDuration = SignedDuration::from_mins(15);
/// Names, numbers and codes that a till gives.
const TEXT_CHARS_MAX: usize = 200;
/// Sums and points beyond this are a mistake, and would not add up.
const SUM_MAX: i64 = 1_000_000_000_000;
/// Movements that are read in one go.
const LEDGER_PAGE: usize = 200;
/// Of more than so many pages that hold few sales (an import, points that expire together) the rest is not looked through: a till waits.
const LIMIT_PAGES_MAX: usize = 20;
const TURNS: usize = 256;

/// Whoever has lost once waits for their turn with this wallet, as far as this node knows.
pub(crate) struct Turns(Vec<Mutex<()>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..TURNS).map(|_| Mutex::default()).collect())
    }
}

impl Turns {
    fn of(&self, wallet: [u8; 16]) -> &Mutex<()> {
        &self.0[usize::from(wallet[15]) % TURNS]
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) enum Question {
    Quote(QuoteAsk),
    Commit(CommitAsk),
    Cancel(String),
    Refund(RefundAsk),
    Adjust(AdjustAsk),
}

impl Question {
    fn word(&self) -> &'static str {
        match self {
            Self::Quote(_) => "quote",
            Self::Commit(_) => "commit",
            Self::Cancel(_) => "cancel",
            Self::Refund(_) => "refund",
            Self::Adjust(_) => "adjust",
        }
    }

    /// A hash of what is asked, by which another question under the same key is known.
    fn hash(&self) -> [u8; 16] {
        let said = match self {
            Self::Quote(ask) => {
                let customer = match &ask.customer {
                    CustomerAsk::Token { jti, .. } => json!({ "jti": jti }),
                    CustomerAsk::Plain(customer) => json!(customer),
                };
                json!([ask.kind, customer, ask.order, ask.total, ask.eligible, ask.category, ask.promo_code])
            }
            Self::Commit(ask) => json!([ask.hold, ask.order, ask.receipt_number, ask.promo_code]),
            Self::Cancel(hold) => json!([hold]),
            Self::Refund(ask) => json!([ask.order, ask.total, ask.eligible]),
            Self::Adjust(ask) => json!([ask.customer, ask.points, ask.reason, ask.expires_at]),
        };
        fingerprint([self.word().as_bytes(), said.to_string().as_bytes()])
    }

    /// What is wrong with it by itself.
    fn check(&self) -> Result<(), LoyaltyError> {
        let mut faults = Vec::new();
        let mut text = |place: &str, text: &str| {
            if text.trim().is_empty() {
                faults.push(Fault::new(place, "is empty"));
            } else if text.chars().count() > TEXT_CHARS_MAX {
                faults.push(Fault::new(place, format!("may have {TEXT_CHARS_MAX} characters at the most")));
            }
        };
        match self {
            Self::Quote(ask) => {
                text("/orderId", &ask.order);
                match &ask.customer {
                    CustomerAsk::Token { customer, .. } | CustomerAsk::Plain(customer) => text("/userToken", customer),
                }
                let optional = [("/category", &ask.category), ("/promoCode", &ask.promo_code)];
                optional.into_iter().for_each(|(place, given)| given.iter().for_each(|given| text(place, given)));
            }
            Self::Commit(ask) => {
                text("/holdId", &ask.hold);
                text("/orderId", &ask.order);
                let optional = [("/receiptNumber", &ask.receipt_number), ("/promoCode", &ask.promo_code)];
                optional.into_iter().for_each(|(place, given)| given.iter().for_each(|given| text(place, given)));
            }
            Self::Cancel(hold) => text("/holdId", hold),
            Self::Refund(ask) => text("/orderId", &ask.order),
            Self::Adjust(ask) => {
                text("/customerId", &ask.customer);
                text("/reason", &ask.reason);
            }
        }
        let mut sum = |place: &str, sum: i64, least: i64| {
            if !(least..=SUM_MAX).contains(&sum) {
                faults.push(Fault::new(place, format!("must be from {least} to {SUM_MAX}")));
            }
        };
        match self {
            Self::Quote(ask) => {
                sum("/total", ask.total, 0);
                sum("/eligibleTotal", ask.eligible, 0);
            }
            Self::Refund(ask) => {
                sum("/refundTotal", ask.total, 0);
                ask.eligible.iter().for_each(|eligible| sum("/refundEligibleTotal", *eligible, 0));
            }
            Self::Adjust(ask) => sum("/points", ask.points, -SUM_MAX),
            Self::Commit(_) | Self::Cancel(_) => {}
        }
        if faults.is_empty() { Ok(()) } else { Err(LoyaltyError::Malformed(faults)) }
    }
}

/// By what an answer is found again.
struct Keys {
    signature: Option<[u8; 16]>,
    own: Option<[u8; 16]>,
    body: [u8; 16],
}

impl Keys {
    fn new(ask: &LoyaltyAsk, question: &Question) -> Self {
        let of = |what: &str, key: &Option<String>| {
            key.as_ref().map(|key| fingerprint([what.as_bytes(), ask.merchant.as_bytes(), key.as_bytes()]))
        };
        // A quote is made anew: what it answers hangs on the moment.
        let own = of("loyalty key", &ask.key).filter(|_| !matches!(question, Question::Quote(_)));
        Self { signature: of("loyalty signature", &ask.signature), own, body: question.hash() }
    }

    fn all(&self) -> Vec<[u8; 16]> {
        [self.signature, self.own].into_iter().flatten().collect()
    }

    /// The answer that was given before.
    fn known(&self, seen: &LoyaltySeen) -> Result<Option<LoyaltyAnswer>, LoyaltyError> {
        let by = |key: Option<[u8; 16]>| seen.replies.iter().find(|reply| Some(reply.key) == key);
        let again = |reply: &KeptReply| LoyaltyAnswer { body: reply.answer.clone(), repeated: true };
        if let Some(reply) = by(self.signature) {
            return Ok(Some(again(reply)));
        }
        match by(self.own) {
            Some(reply) if reply.body != self.body => Err(LoyaltyError::KeyReused),
            found => Ok(found.map(again)),
        }
    }

    /// What is kept of an answer: whether it was committed before is told to whoever asked then.
    fn kept(&self, answer: &serde_json::Value, now: Timestamp) -> Vec<KeptReply> {
        if self.signature.is_none() && self.own.is_none() {
            return Vec::new();
        }
        let mut answer = answer.clone();
        if let Some(members) = answer.as_object_mut() {
            members.remove("alreadyCommitted");
        }
        let keep = |key: Option<[u8; 16]>, kept_for: SignedDuration| {
            key.map(|key| KeptReply { key, body: self.body, answer: answer.to_string(), until: now + kept_for })
        };
        [keep(self.signature, SIGNATURE_KEPT), keep(self.own, KEY_KEPT)].into_iter().flatten().collect()
    }
}

/// Whose wallet a text names: a phone with `+`, an id of ours, or else the merchant's own id.
pub(super) fn who(world: &World, merchant: Id, customer: &str) -> Result<Who, LoyaltyError> {
    let customer = customer.trim();
    if customer.starts_with('+') {
        return read_phone(world, merchant, customer).map(Who::Phone);
    }
    let own = customer.parse::<Id>().ok().filter(|id| id.kind() == IdKind::Customer);
    Ok(own.map_or_else(|| Who::Customer(customer.to_owned()), Who::Id))
}

/// A phone in E.164.
pub(super) fn read_phone(world: &World, merchant: Id, text: &str) -> Result<String, LoyaltyError> {
    let country = world.merchants.get(&merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    let read = phone::read_text(text, country).map(|phone| phone.e164);
    read.map_err(|error| LoyaltyError::Malformed(vec![Fault::new("/phone", error.to_string())]))
}

/// What a merchant's cashier reads after a sum.
pub(crate) fn currency<'a>(world: &World, programme: &'a LoyaltyProgramme) -> &'a str {
    if let Some(own) = &programme.rule.currency {
        return own;
    }
    match world.merchants.get(&programme.merchant).map(|(_, merchant)| merchant.country.as_str()) {
        Some("UZ") => "so‘m",
        Some("KZ") => "₸",
        Some("BY") => "Br",
        _ => "₽",
    }
}

/// Milliseconds are what the platform tells, so a page may end at one.
pub(super) fn whole_ms(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// What stands around a question.
pub(super) fn ground<'a>(engine: &Engine, world: &'a World, programme: &'a LoyaltyProgramme, ask: &'a LoyaltyAsk) -> Ground<'a> {
    let now = whole_ms(engine.clock.now());
    let outlet = ask.outlet.and_then(|id| world.outlets.get(&id)).filter(|(of, ..)| *of == ask.merchant);
    let outlet = outlet.map(|(_, _, outlet)| outlet);
    let zone = outlet.and_then(|outlet| TimeZone::get(&outlet.zone).ok());
    let streams = engine.options.nats.is_some() && programme.rule.details_to_nats;
    Ground {
        merchant: ask.merchant,
        rule: &programme.rule,
        now,
        language: ask.language,
        currency: currency(world, programme),
        outlet: ask.outlet.filter(|_| outlet.is_some()),
        channel: outlet.map_or("VIRTUAL", |outlet| &outlet.pos_type),
        weekday: reading::weekday(now, zone.as_ref().unwrap_or(&programme.zone)),
        staff: ask.staff.as_deref(),
        request: ask.request_id.as_deref(),
        authenticated: ask.authenticated,
        by: &ask.by,
        tells_quotes: streams || reading::is_wanted(world, ask.merchant, &[kind::LOYALTY_QUOTED]),
        tells_lots: streams || reading::is_wanted(world, ask.merchant, &kind::LOYALTY_LOTS),
    }
}

impl Engine {
    /// The answer within the deadline, or that it must be asked again. The work goes on when the asker hangs up: what was decided
    /// must be kept.
    pub(super) async fn in_time(
        self: &Arc<Self>,
        ask: LoyaltyAsk,
        question: Question,
        deadline: Duration,
    ) -> Result<LoyaltyAnswer, LoyaltyError> {
        let engine = self.clone();
        let work = self.tasks.spawn(async move {
            let answered = engine.answer(&ask, &question).await;
            if let Err(error) = &answered {
                engine.journal_refusal(ask, error);
            }
            answered
        });
        let again = |why: &str| Err(LoyaltyError::Again(why.to_owned()));
        match tokio::time::timeout(deadline, work).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => again("this failed inside the hub: its log says more"),
            Err(_) => again("no decision in time"),
        }
    }

    /// Writes down what was refused, when there is time for it: nothing hangs on it.
    fn journal_refusal(self: &Arc<Self>, ask: LoyaltyAsk, error: &LoyaltyError) {
        let programme = self.world().programme_of(ask.merchant).cloned();
        let Some(programme) = programme.filter(|_| ask.authenticated && !matches!(error, LoyaltyError::Again(_))) else { return };
        let answer = json!({ "error": error.says(ask.language) }).to_string();
        let entry = loyalty_entry(&programme, &ask, answer, Source::Question);
        let engine = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = engine.store.append(entry).await {
                tracing::debug!("what the loyalty desk refused was not journalled: {error}");
            }
        });
    }

    async fn answer(self: &Arc<Self>, ask: &LoyaltyAsk, question: &Question) -> Result<LoyaltyAnswer, LoyaltyError> {
        question.check()?;
        let keys = Keys::new(ask, question);
        let learnt = self.learnt(ask, question, &keys).await?;
        let begun = learnt.as_ref().and_then(|learnt| learnt.begun.as_ref()).map(|hold| hold.id);
        let mut turn = None;
        for _ in 0..TRIES_MAX {
            let world = self.world();
            let programme = world.programme_of(ask.merchant).ok_or(LoyaltyError::NoProgramme)?;
            let ground = ground(self, &world, programme, ask);
            let mut look = LoyaltyLook { replies: keys.all(), ..look(&world, &ground, question)? };
            // A quote that another till has answered meanwhile; that of a code is found by the code.
            look.hold = look.hold.or(begun.filter(|_| look.token.is_none()));
            let seen = self.store.loyalty(look.clone()).await?;
            if let Some(known) = keys.known(&seen)? {
                return Ok(known);
            }
            let (decided, commands) = match club_quote::outside(&world, programme) {
                Some((outside, link)) => {
                    let ruled = outside_rules(&ground, outside, question, look.token, &seen, learnt.as_ref())?;
                    let order = seen.receipt.as_ref().map_or_else(|| order(question, &seen), |receipt| &receipt.order);
                    (ruled.decided, club_jobs::all(link, ruled.later, order, ground.now, &ask.trace)?)
                }
                None => (self.decide(&ground, question, look, &seen).await?, Vec::new()),
            };
            let replies = keys.kept(&decided.answer, ground.now);
            match self.put_ruled(programme, ask, decided, replies, commands).await {
                Ok(body) => return Ok(LoyaltyAnswer { body, repeated: false }),
                Err(StoreError::Conflict) if turn.is_none() => {
                    let wallet = seen.wallet.map_or(keys.body, |wallet| *wallet.id.as_bytes());
                    turn = Some(self.loyalty_turns.of(wallet).lock().await);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(LoyaltyError::Again("too many tills at once with this card".to_owned()))
    }

    /// What an outside programme must be asked before a quote is decided.
    async fn learnt(
        self: &Arc<Self>,
        ask: &LoyaltyAsk,
        question: &Question,
        keys: &Keys,
    ) -> Result<Option<Learnt>, LoyaltyError> {
        let Question::Quote(quote) = question else { return Ok(None) };
        let world = self.world();
        let programme = world.programme_of(ask.merchant).ok_or(LoyaltyError::NoProgramme)?;
        let Some((outside, link)) = club_quote::outside(&world, programme) else { return Ok(None) };
        let ground = ground(self, &world, programme, ask);
        let look = LoyaltyLook { replies: keys.all(), ..look(&world, &ground, question)? };
        self.learn(&ground, outside, link, ask, quote, look).await
    }

    async fn decide(
        &self,
        ground: &Ground<'_>,
        question: &Question,
        look: LoyaltyLook,
        seen: &LoyaltySeen,
    ) -> Result<Decided, LoyaltyError> {
        match question {
            Question::Quote(ask) => decide::quote(ground, &look, seen, ask),
            Question::Cancel(_) => decide::cancel(ground, seen),
            Question::Refund(ask) => {
                self.check_limits(ground, seen.wallet.as_ref()).await?;
                let expired = self.expired_of(ground, seen.receipt.as_ref()).await?;
                decide::refund(ground, seen, &expired, ask)
            }
            Question::Adjust(ask) => {
                let wallet = seen.wallet.clone().ok_or(LoyaltyError::WalletNotFound)?;
                decide::adjust(ground, wallet, ask, &format!("person/{}", ground.by))
            }
            Question::Commit(ask) => {
                // What is over moves nothing: a repeat is no movement.
                if seen.hold.as_ref().is_some_and(|hold| hold.state == HoldState::Pending) {
                    self.check_limits(ground, seen.wallet.as_ref()).await?;
                }
                let named = ask.promo_code.clone().or_else(|| seen.hold.as_ref()?.promo_code.clone());
                let again = match &named {
                    // Only now it is known which code the quote had named.
                    Some(code) if ask.promo_code.is_none() => Some(self.store.loyalty(with_promo(ground, look, code)).await?),
                    _ => None,
                };
                let seen = again.as_ref().unwrap_or(seen);
                let referrer = self.referrer(ground, seen.wallet.as_ref()).await?;
                decide::commit(ground, seen, referrer.as_ref(), ask, named.as_deref())
            }
        }
    }

    /// Who brought a customer, where their first receipt gives points for it.
    pub(super) async fn referrer(&self, ground: &Ground<'_>, wallet: Option<&Wallet>) -> Result<Option<Wallet>, LoyaltyError> {
        let brought_by = wallet.filter(|wallet| wallet.receipts == 0).and_then(|wallet| wallet.referred_by);
        let Some(id) = brought_by.filter(|_| ground.rule.referral.is_some()) else { return Ok(None) };
        let look = LoyaltyLook { who: Some(Who::Id(id)), ..LoyaltyLook::new(ground.merchant, ground.now) };
        Ok(self.store.loyalty(look).await?.wallet)
    }

    /// What has expired of the lots that an order earned, by the ledger. Read after the wallet, whose version a later movement
    /// changes.
    pub(super) async fn expired_of(
        &self,
        ground: &Ground<'_>,
        receipt: Option<&OrderReceipt>,
    ) -> Result<Vec<Taken>, LoyaltyError> {
        let Some(receipt) = receipt else { return Ok(Vec::new()) };
        let ends = receipt.lots.iter().filter_map(|lot| lot.expires_at).filter(|end| *end <= ground.now);
        let Some(since) = ends.min() else { return Ok(Vec::new()) };
        let (merchant, wallet) = (Some(ground.merchant), Some(receipt.wallet));
        let mut filter = LedgerFilter { merchant, wallet, limit: LEDGER_PAGE, ..LedgerFilter::default() };
        let mut expired = Vec::new();
        loop {
            let page = self.store.ledger(filter.clone()).await?;
            expired.extend(decide::of_lots(page.iter().filter(|entry| entry.kind == MoveKind::Expire), &receipt.lots));
            match page.last() {
                Some(last) if page.len() == LEDGER_PAGE && last.at >= since => filter.before = Some(last.id),
                _ => return Ok(expired),
            }
        }
    }

    /// Commits and refunds among the newest movements, up to so many since a moment: what time and people do is no sale.
    async fn sales_since(&self, filter: LedgerFilter, since: Timestamp, most: usize) -> Result<Vec<Timestamp>, LoyaltyError> {
        let mut filter = LedgerFilter { limit: most.max(1), ..filter };
        let mut sales = Vec::new();
        for _ in 0..LIMIT_PAGES_MAX {
            let page = self.store.ledger(filter.clone()).await?;
            let is_sale = |kind| matches!(kind, MoveKind::Earn | MoveKind::Redeem | MoveKind::Refund);
            sales.extend(page.iter().filter(|entry| entry.at > since && is_sale(entry.kind)).map(|entry| entry.at));
            sales.truncate(most);
            match page.last() {
                Some(last) if page.len() == filter.limit && last.at > since && sales.len() < most => {
                    (filter.before, filter.limit) = (Some(last.id), LEDGER_PAGE);
                }
                _ => break,
            }
        }
        Ok(sales)
    }

    /// Refuses what is more than a programme takes for likely. Counted before the change, so a few at once may pass.
    async fn check_limits(&self, ground: &Ground<'_>, wallet: Option<&Wallet>) -> Result<(), LoyaltyError> {
        let Some(limits) = ground.rule.limits else { return Ok(()) };
        let filter = LedgerFilter { merchant: Some(ground.merchant), ..LedgerFilter::default() };
        let customer = wallet.map(|wallet| LedgerFilter { wallet: Some(wallet.id), ..filter.clone() });
        let outlet = ground.outlet.map(|outlet| LedgerFilter { outlet: Some(outlet), ..filter.clone() });
        let staff = ground.staff.map(|staff| LedgerFilter { staff: Some(staff.to_owned()), ..filter.clone() });
        let scopes: [(&'static str, Option<Limit>, Option<LedgerFilter>); 4] = [
            ("customer", limits.customer, customer),
            ("outlet", limits.outlet, outlet),
            ("staff", limits.staff, staff),
            ("merchant", limits.merchant, Some(filter)),
        ];
        for (scope, limit, filter) in scopes {
            let (Some(limit), Some(filter)) = (limit, filter) else { continue };
            let since = ground.now - SignedDuration::from_secs(limit.period_s.into());
            let lately = self.sales_since(filter, since, limit.count as usize).await?;
            let count = lately.len() as i64;
            if count >= i64::from(limit.count) {
                let oldest_s = lately.last().map_or(0, |oldest| oldest.duration_since(since).as_secs());
                let retry_after_s = u32::try_from(oldest_s + 1).unwrap_or(limit.period_s);
                return Err(LoyaltyError::Fraud { scope, count, limit: limit.count.into(), retry_after_s });
            }
        }
        Ok(())
    }

    /// Commits a decision with its journal. Gives the body of the answer.
    pub(super) async fn put_decided(
        &self,
        programme: &LoyaltyProgramme,
        ask: &LoyaltyAsk,
        decided: Decided,
        replies: Vec<KeptReply>,
    ) -> Result<String, StoreError> {
        self.put_ruled(programme, ask, decided, replies, Vec::new()).await
    }

    /// The same with what an outside programme is told later.
    pub(super) async fn put_ruled(
        &self,
        programme: &LoyaltyProgramme,
        ask: &LoyaltyAsk,
        decided: Decided,
        replies: Vec<KeptReply>,
        commands: Vec<NewCommand>,
    ) -> Result<String, StoreError> {
        let (queues, jobs) = (!commands.is_empty(), club_jobs::given(&commands));
        let (change, body) = self.ruled(programme, ask, decided, replies, commands);
        self.store.apply(change).await?;
        if queues {
            self.count_given(jobs);
            self.due.notify_one();
        }
        Ok(body)
    }

    /// What a decision writes, its journal included, and the body of its answer.
    pub(super) fn ruled(
        &self,
        programme: &LoyaltyProgramme,
        ask: &LoyaltyAsk,
        decided: Decided,
        replies: Vec<KeptReply>,
        commands: Vec<NewCommand>,
    ) -> (Change, String) {
        let Decided { change: mut points, facts, answer } = decided;
        // What tells something is read once more, by the road that all events come.
        let source = if facts.is_empty() { Source::Question } else { Source::Webhook };
        let body = answer.to_string();
        let entry = loyalty_entry(programme, ask, reading::answer(&body, &facts), source);
        points.replies.extend(replies);
        let change = Change {
            entries: vec![entry],
            loyalty: Some(Box::new(points)),
            commands,
            now: Some(self.clock.now()),
            ..Change::default()
        };
        (change, body)
    }
}

/// The order that a question is about.
fn order<'a>(question: &'a Question, seen: &'a LoyaltySeen) -> &'a str {
    match question {
        Question::Quote(ask) => &ask.order,
        Question::Commit(ask) => &ask.order,
        Question::Refund(ask) => &ask.order,
        Question::Cancel(_) | Question::Adjust(_) => seen.hold.as_ref().map_or("", |hold| &hold.order),
    }
}

/// Decides where an outside programme keeps the points.
fn outside_rules(
    ground: &Ground<'_>,
    outside: Outside<'_>,
    question: &Question,
    token: Option<[u8; 16]>,
    seen: &LoyaltySeen,
    learnt: Option<&Learnt>,
) -> Result<Ruled, LoyaltyError> {
    let again = || LoyaltyError::Again("what was answered before is gone".to_owned());
    let by = || club_quote::named_later(seen.wallet.as_ref());
    match question {
        Question::Quote(ask) => {
            let decided = outside::quote(ground, outside, seen, ask, token, learnt.ok_or_else(again)?)?;
            Ok(Ruled { decided, later: Vec::new() })
        }
        Question::Commit(ask) => outside_sale::commit(ground, outside, seen, ask, by()),
        Question::Refund(ask) => outside_sale::refund(ground, outside, seen, ask, by()),
        Question::Cancel(_) => {
            let decided = decide::cancel(ground, seen)?;
            Ok(Ruled { decided, later: seen.hold.iter().filter_map(|hold| outside_sale::cancelled(ground, hold)).collect() })
        }
        Question::Adjust(_) => Err(LoyaltyError::Malformed(vec![Fault::new("/points", "are kept by an outside programme")])),
    }
}

fn loyalty_entry(programme: &LoyaltyProgramme, ask: &LoyaltyAsk, answer: String, source: Source) -> Entry {
    Entry {
        id: Id::new(IdKind::Entry),
        merchant: ask.merchant,
        connection: programme.id,
        provider: SOURCE.to_owned(),
        request: ask.request.clone(),
        answer,
        source,
        trace: ask.trace.clone(),
    }
}

/// What a question wants to know.
fn look(world: &World, ground: &Ground<'_>, question: &Question) -> Result<LoyaltyLook, LoyaltyError> {
    let mut look = LoyaltyLook::new(ground.merchant, ground.now);
    match question {
        Question::Quote(ask) => {
            let (CustomerAsk::Token { customer, .. } | CustomerAsk::Plain(customer)) = &ask.customer;
            look.who = Some(who(world, ground.merchant, customer)?);
            look.order = Some(ask.order.clone());
            if ground.rule.require_jwt_for_quote && matches!(ask.customer, CustomerAsk::Plain(_)) {
                return Err(LoyaltyError::TokenRequired);
            }
            if let CustomerAsk::Token { jti, .. } = &ask.customer {
                look.token = Some(fingerprint([b"loyalty token".as_slice(), ground.merchant.as_bytes(), jti.as_bytes()]));
            }
            let levels = ground.rule.points.levels.as_ref();
            let far = levels.map(|levels| SignedDuration::from_hours(24 * i64::from(levels.period_days)));
            look.since = far.and_then(|far| ground.now.checked_sub(far).ok());
        }
        Question::Commit(ask) => {
            look.hold = Some(hold(&ask.hold)?);
            look.order = Some(ask.order.clone());
            if let Some(code) = &ask.promo_code {
                look = with_promo(ground, look, code);
            }
        }
        Question::Cancel(id) => look.hold = Some(hold(id)?),
        Question::Refund(ask) => look.order = Some(ask.order.clone()),
        Question::Adjust(ask) => look.who = Some(who(world, ground.merchant, &ask.customer)?),
    }
    Ok(look)
}

fn hold(text: &str) -> Result<Id, LoyaltyError> {
    text.trim().parse::<Id>().ok().filter(|id| id.kind() == IdKind::Hold).ok_or(LoyaltyError::HoldNotFound)
}

/// The same with the uses of a promo code, and visits since as long ago as it asks for.
fn with_promo(ground: &Ground<'_>, look: LoyaltyLook, code: &str) -> LoyaltyLook {
    let Some((promo, key)) = decide::promo_of(ground, code) else { return look };
    let since = ground.now.checked_sub(SignedDuration::from_hours(promo.visit_lookback_hours.into())).ok();
    LoyaltyLook { promo_code: Some(key), since: since.filter(|_| promo.require_visit), ..look }
}
