//! Reviews on the road in: what a guest gave is journalled like any request, and read from there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_model::{Address, Channel, Event, Id, event::kind, id::Kind, phone};
use uzel_store::{Change, Entry, EntryState, Mark, NewEvent, Notice};

use crate::{World, endpoint, read};

/// In the place of a provider in the journal.
pub(crate) const SOURCE: &str = "reviews";

/// The body of such an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) review: Id,
    /// How often it was given or changed, with this time.
    pub(super) given: u32,
    pub(super) stars: u8,
    pub(super) comment: Option<String>,
    /// Whether the comment came with this time.
    pub(super) commented: bool,
    pub(super) outlet: Option<Id>,
    pub(super) flow: Option<Id>,
    pub(super) channel: Channel,
    pub(super) to: Address,
}

/// What follows from such an entry.
pub(crate) fn follow(world: &World, entry: &Entry, now: Timestamp, mark: &mut Mark, change: &mut Change) {
    let left: Left = match serde_json::from_slice(&entry.request.body) {
        Ok(left) => left,
        Err(error) => {
            mark.state = EntryState::Dead;
            return mark.notes.push(format!("this is no review of ours: {error}"));
        }
    };
    let event = event(world, entry, &left);
    let commands = match world.links.get(&entry.connection) {
        Some(link) => read::decide(world, link, &event, now, &mut mark.notes),
        None => Vec::new(),
    };
    if let (true, Some(comment)) = (left.commented, &left.comment) {
        change.notices.push(Notice {
            merchant: entry.merchant,
            connection: entry.connection,
            // One for each review: notices of one kind and day are one.
            kind: format!("comment/{}", left.review),
            text: notice(world, &left, entry.merchant, comment),
        });
    }
    let mut new = NewEvent { event, commands, call_off: None, pending: false };
    let told = endpoint::told(world, &new, now, &mut mark.notes);
    new.commands.extend(told);
    change.events.push(new);
}

fn event(world: &World, entry: &Entry, left: &Left) -> Event {
    let country = world.merchants.get(&entry.merchant).map_or("RU", |(_, merchant)| merchant.country.as_str());
    let phone = match &left.to {
        Address::Phone(phone) => phone::read_text(phone, country).ok(),
        _ => None,
    };
    let source = world.links.get(&entry.connection).map(|link| link.slug.as_str());
    let (kind, key) = match left.given {
        1 => (kind::REVIEW_LEFT, format!("review/{}", left.review)),
        given => (kind::REVIEW_CHANGED, format!("review/{}/{given}", left.review)),
    };
    Event {
        id: Id::new(Kind::Event),
        merchant: entry.merchant,
        connection: entry.connection,
        provider: SOURCE.to_owned(),
        outlet: left.outlet,
        kind: kind.to_owned(),
        subject: format!("review/{}", left.review),
        key,
        weak_key: false,
        at: entry.request.received_at,
        name: None,
        phone,
        phone_error: None,
        refs: vec![left.review.to_string()],
        data: json!({
            "review": left.review, "stars": left.stars, "comment": left.comment, "channel": left.channel, "source": source,
            "flow": left.flow,
        }),
        history: false,
        entry: entry.id,
        trace: entry.trace.clone(),
    }
}

/// What the owner is told at once, in the merchant's language.
fn notice(world: &World, left: &Left, merchant: Id, comment: &str) -> String {
    let (name, language) = world.merchants.get(&merchant).map_or(("", "ru"), |(_, it)| (it.name.as_str(), it.language.as_str()));
    let outlet = left.outlet.and_then(|outlet| world.outlets.get(&outlet)).map_or(name, |(_, _, outlet)| outlet.name.as_str());
    let stars = "★".repeat(left.stars.into()) + &"☆".repeat(5_usize.saturating_sub(left.stars.into()));
    match language {
        "uz" => format!("{outlet}: {stars} – mijoz faqat sizga yozdi: «{comment}»"),
        "en" => format!("{outlet}: {stars} – a guest wrote to you privately: “{comment}”"),
        _ => format!("{outlet}: {stars} – гость написал лично вам: «{comment}»"),
    }
}
