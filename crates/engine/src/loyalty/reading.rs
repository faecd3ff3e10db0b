//! What the desk did, on the road in: facts are journalled with the answer, in the same change as the points, and become events where
//! the entry is read.

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{
    Event, Id,
    event::kind,
    id::Kind,
    loyalty::{Book, Entry as Movement, Lot, Wallet},
    phone,
};
use uzel_store::{Change, Entry, EntryState, Mark, NewEvent};

use crate::{World, endpoint, read};

/// In the place of a provider in the journal.
pub(crate) const SOURCE: &str = "loyalty";

/// Something that happened to a customer's points, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) kind: String,
    /// The same for every repeat, for ever.
    pub(crate) key: String,
    pub(crate) subject: String,
    pub(crate) at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outlet: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phone: Option<String>,
    pub(crate) refs: Vec<String>,
    pub(crate) data: Value,
}

impl Fact {
    pub(crate) fn of(wallet: &Wallet, kind: &str, key: String, at: Timestamp, data: Value) -> Self {
        Self {
            kind: kind.to_owned(),
            key,
            subject: format!("customer/{}", wallet.id),
            at,
            outlet: None,
            name: wallet.name.clone(),
            phone: wallet.phone.clone(),
            refs: vec![wallet.customer.clone()],
            data,
        }
    }
}

/// Promised points can be spent from now on.
pub(crate) fn activated(wallet: &Wallet, lot: &Lot, at: Timestamp, outlet: Option<Id>) -> Fact {
    let data = json!({
        "merchantId": wallet.merchant, "customerId": wallet.customer, "points": lot.left,
        "earnLotId": lot_name(wallet, lot.id), "activatedAt": at, "outletId": outlet,
    });
    Fact::of(wallet, kind::LOYALTY_EARN_ACTIVATED, format!("activated/{}/{}", wallet.id, lot.id), at, data)
}

/// Points have expired. `entry`: their movement.
pub(crate) fn expired(wallet: &Wallet, entry: Id, points: i64, at: Timestamp, now: Timestamp) -> Fact {
    let data = json!({
        "merchantId": wallet.merchant, "customerId": wallet.customer, "cutoff": at, "amount": points, "computedAt": now,
        "mode": "lots",
    });
    Fact::of(wallet, kind::LOYALTY_EXPIRED, format!("expired/{entry}"), at, data)
}

/// Points will expire soon; nothing where none will. `ttl_days`: how long the programme's points live.
pub(crate) fn preview(wallet: &Wallet, lots: &[&Lot], ttl_days: Option<u32>, now: Timestamp) -> Option<Fact> {
    let first = lots.iter().filter_map(|lot| lot.expires_at).min()?;
    let last = lots.iter().map(|lot| lot.id).max()?;
    let points: i64 = lots.iter().map(|lot| lot.left).sum();
    let data = json!({
        "merchantId": wallet.merchant, "customerId": wallet.customer, "expiringPoints": points, "expiresAt": first,
        "ttlDays": ttl_days, "computedAt": now, "mode": "lots",
    });
    let key = format!("preview/{}/{last}/{}", wallet.id, first.as_second());
    Some(Fact::of(wallet, kind::LOYALTY_TTL_PREVIEW, key, now, data))
}

/// What a movement did to each of its lots, in the platform's words.
pub(crate) fn lots_moved(wallet: &Wallet, moved: &Movement) -> Vec<Fact> {
    let (kind, word) = match (moved.from, moved.to) {
        (Book::Spendable, Book::Redeemed) => (kind::LOYALTY_LOT_CONSUMED, "consumed"),
        (Book::Redeemed, Book::Spendable) => (kind::LOYALTY_LOT_UNCONSUMED, "unconsumed"),
        (Book::Spendable | Book::Promised, Book::Issued) => (kind::LOYALTY_LOT_REVOKED, "revoked"),
        _ => return Vec::new(),
    };
    let facts = moved.lots.iter().map(|taken| {
        let data = json!({
            "merchantId": wallet.merchant, "customerId": wallet.customer, "lotId": lot_name(wallet, taken.lot), word: taken.points,
            "orderId": moved.order, "at": moved.at,
        });
        let mut fact = Fact::of(wallet, kind, format!("{word}/{}/{}", moved.id, taken.lot), moved.at, data);
        if let Some(order) = &moved.order {
            fact.subject = format!("order/{order}");
            fact.refs.push(order.clone());
        }
        fact.outlet = moved.outlet;
        fact
    });
    facts.collect()
}

/// A lot's number is the wallet's own.
fn lot_name(wallet: &Wallet, lot: i64) -> String {
    format!("{}/{lot}", wallet.id)
}

/// The answer of an entry: what was answered, and below it what is told.
pub(super) fn answer(answer: &str, facts: &[Fact]) -> String {
    if facts.is_empty() {
        return answer.to_owned();
    }
    let facts = serde_json::to_string(facts).expect("texts and numbers are JSON");
    format!("{answer}\n{facts}")
}

/// What follows from such an entry.
pub(crate) fn follow(world: &World, entry: &Entry, now: Timestamp, mark: &mut Mark, change: &mut Change) {
    let Some((_, facts)) = entry.answer.split_once('\n') else { return };
    let facts: Vec<Fact> = match serde_json::from_str(facts) {
        Ok(facts) => facts,
        Err(error) => {
            mark.state = EntryState::Dead;
            return mark.notes.push(format!("this is no answer of the loyalty desk: {error}"));
        }
    };
    for fact in facts {
        let event = event(world, entry, fact);
        let commands = match world.origin(event.merchant, event.connection, event.outlet) {
            Some(origin) => read::decide_at(world, &origin, &event, now, &mut mark.notes),
            None => Vec::new(),
        };
        let mut new = NewEvent { event, commands, call_off: None, pending: false };
        let told = endpoint::told(world, &new, now, &mut mark.notes);
        new.commands.extend(told);
        change.events.push(new);
    }
}

fn event(world: &World, entry: &Entry, fact: Fact) -> Event {
    let country = world.merchants.get(&entry.merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    let phone = fact.phone.as_deref().map(|phone| phone::read_text(phone, country));
    let refs = std::iter::once(fact.data["receiptId"].as_str().map(str::to_owned)).flatten().chain(fact.refs);
    Event {
        id: Id::new(Kind::Event),
        merchant: entry.merchant,
        connection: entry.connection,
        provider: SOURCE.to_owned(),
        outlet: fact.outlet,
        kind: fact.kind,
        subject: fact.subject,
        key: fact.key,
        weak_key: false,
        at: fact.at,
        name: fact.name,
        phone_error: phone.as_ref().and_then(|phone| phone.as_ref().err().copied()),
        phone: phone.and_then(Result::ok),
        email: None,
        refs: refs.collect(),
        data: fact.data,
        history: false,
        entry: entry.id,
        trace: entry.trace.clone(),
    }
}

/// Whether a flow or an endpoint of a merchant listens to one of these: of some there are so many that they are told only then.
pub(super) fn is_wanted(world: &World, merchant: Id, kinds: &[&str]) -> bool {
    let by_flow = world.flows_of(merchant).any(|flow| flow.doc.on.iter().any(|on| kinds.contains(&on.as_str())));
    by_flow || world.endpoints_of(merchant).any(|endpoint| kinds.iter().any(|kind| endpoint.names(kind)))
}

/// The day of the week at an outlet, 0 is Sunday.
pub(super) fn weekday(at: Timestamp, zone: &TimeZone) -> u8 {
    zone.to_datetime(at).weekday().to_sunday_zero_offset().unsigned_abs()
}
