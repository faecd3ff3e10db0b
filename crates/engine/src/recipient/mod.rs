//! Recipients: a merchant's people who get notices, comments and digests, and the ways by which they are reached.
//!
//! What a person sets up stands in a [`RecipientRule`]. Chats and devices are no addresses that anybody can write down: they are
//! bound by the person themself ([`bind`]), and no file takes them away.

mod bind;
pub(crate) mod chat;
pub(crate) mod device;
pub(crate) mod notices;
pub mod tell;
mod words;

use std::sync::Arc;

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uzel_model::{
    Address, Channel, Id,
    id::Kind,
    message::read_email,
    phone::{self, Kind as PhoneKind},
    words::Language,
};
use uzel_store::SetupRow;

pub use self::bind::{Invited, NotInvited};
use self::device::Devices;
use crate::{Link, World};

/// Addresses of one person.
pub(crate) const ADDRESSES_MAX: usize = 10;
/// Chats and devices that one person may bind.
pub(crate) const BOUND_MAX: usize = 20;
const DIGEST_HOUR: u8 = 9;

/// What a person gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// What is wrong and needs a person.
    Notices,
    /// What guests write of a visit that was not well.
    Comments,
    /// The day in figures.
    DigestDay,
    /// The week in figures.
    DigestWeek,
}

/// One of a merchant's people, as a person writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecipientRule {
    /// As people call them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ru`, `uz` or `en`; by default the merchant's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Time zone by name; by default that of their first outlet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// At which hour of their day a digest comes, 0 to 23.
    #[serde(default = "digest_hour")]
    #[schemars(range(max = 23))]
    pub digest_hour: u8,
    /// What they get. Without it: notices and comments.
    #[serde(default = "wants")]
    pub wants: Vec<Want>,
    /// Slugs of the outlets that they hear of; all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<String>,
    /// How they are reached, the best way first: where one refuses, the next is taken.
    #[serde(default)]
    pub addresses: Vec<Way>,
}

fn digest_hour() -> u8 {
    DIGEST_HOUR
}

fn wants() -> Vec<Want> {
    vec![Want::Notices, Want::Comments]
}

/// One way to reach a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// The connection that sends, by its slug.
    pub via: String,
    /// The phone or e-mail address that it sends to. Chats and devices are bound by the person: `uzel recipients link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Way {
    /// The same with its address as it is kept, or what is wrong with it and in which field. `channel` is the connection's, where
    /// it is known.
    pub(crate) fn read(&self, channel: Option<Channel>, country: &str) -> Result<Self, (&'static str, String)> {
        let bound = channel.is_some_and(|channel| matches!(channel, Channel::Telegram | Channel::Push));
        let to = match (&self.to, bound) {
            (None, true) => None,
            (Some(_), true) => {
                return Err(("to", "cannot be written down: the person binds it, see `uzel recipients link`".to_owned()));
            }
            (None, false) if channel.is_none() => None,
            (None, false) => return Err(("to", "is missing: the phone or e-mail address that it sends to".to_owned())),
            (Some(to), false) => Some(read_address(to, channel, country).map_err(|why| ("to", why))?),
        };
        Ok(Self { via: self.via.clone(), to })
    }

    fn address(&self) -> Option<Address> {
        let to = self.to.clone()?;
        Some(if to.contains('@') { Address::Email(to) } else { Address::Phone(to) })
    }
}

fn read_address(to: &str, channel: Option<Channel>, country: &str) -> Result<String, String> {
    let is_email = channel.map_or_else(|| to.contains('@'), |channel| channel == Channel::Email);
    if is_email {
        return read_email(to);
    }
    let phone = phone::read_text(to, country).map_err(|error| error.to_string())?;
    if phone.kind == PhoneKind::Mobile { Ok(phone.e164) } else { Err("is no mobile number: it takes no text".to_owned()) }
}

/// An address that a person bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// The connection, by its slug.
    pub via: String,
    pub to: Address,
    pub at: Timestamp,
}

/// A link that binds a chat once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Code {
    /// The connection, by its slug.
    pub(crate) via: String,
    /// Keyed, in hex: the code itself is kept nowhere.
    pub(crate) hash: String,
    pub(crate) until: Timestamp,
}

/// A recipient as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecipientDoc {
    #[serde(flatten)]
    pub rule: RecipientRule,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Code>,
}

impl RecipientDoc {
    /// Fields that no file says anything of.
    pub(crate) const OWN: &'static [&'static str] = &["bound", "code"];

    pub(crate) fn names_outlet(row: &SetupRow, slug: &str) -> bool {
        let mut outlets = row.doc["outlets"].as_array().into_iter().flatten();
        row.id.kind() == Kind::Recipient && outlets.any(|outlet| outlet == slug)
    }

    pub(crate) fn names_connection(row: &SetupRow, slug: &str) -> bool {
        let mut ways = row.doc["addresses"].as_array().into_iter().flatten();
        row.id.kind() == Kind::Recipient && ways.any(|way| way["via"] == slug)
    }
}

/// One of a merchant's people, ready to be used.
#[derive(Debug)]
pub struct Recipient {
    pub id: Id,
    pub merchant: Id,
    pub slug: String,
    pub doc: RecipientDoc,
    /// The addresses of devices that are bound.
    pub(crate) devices: Devices,
}

impl Recipient {
    pub(crate) fn new(id: Id, merchant: Id, slug: String, doc: Value, devices: Devices) -> Result<Self, String> {
        let doc = serde_json::from_value(doc).map_err(|error| error.to_string())?;
        Ok(Self { id, merchant, slug, doc, devices })
    }

    pub fn name(&self) -> &str {
        self.doc.rule.name.as_deref().unwrap_or(&self.slug)
    }

    pub fn wants(&self, what: Want) -> bool {
        self.doc.rule.wants.contains(&what)
    }

    pub fn language(&self, world: &World) -> Language {
        let own = self.doc.rule.language.as_deref();
        let merchant = world.merchants.get(&self.merchant).map(|(_, merchant)| merchant.language.as_str());
        own.or(merchant).and_then(|language| language.parse().ok()).unwrap_or(Language::Ru)
    }

    /// Whether they hear of an outlet; of what belongs to none all do.
    pub fn hears_of(&self, world: &World, outlet: Option<Id>) -> bool {
        let Some(outlet) = outlet.filter(|_| !self.doc.rule.outlets.is_empty()) else { return true };
        world.outlets.get(&outlet).is_some_and(|(_, slug, _)| self.doc.rule.outlets.contains(slug))
    }

    /// The zone of their day.
    pub fn zone(&self, world: &World) -> TimeZone {
        if let Some(zone) = self.doc.rule.zone.as_deref().and_then(|zone| TimeZone::get(zone).ok()) {
            return zone;
        }
        let own = world.outlets.iter().filter(|(_, (merchant, slug, _))| {
            *merchant == self.merchant && (self.doc.rule.outlets.is_empty() || self.doc.rule.outlets.contains(slug))
        });
        let first = own.min_by_key(|(id, _)| **id).and_then(|(_, (_, _, outlet))| TimeZone::get(&outlet.zone).ok());
        first.unwrap_or(TimeZone::UTC)
    }

    /// By which connections they are reached and where, the best way first; without those that cannot be used now.
    pub fn ways(&self, world: &World) -> Vec<(Arc<Link>, Address)> {
        let mut ways: Vec<(Arc<Link>, Address)> = Vec::new();
        for way in &self.doc.rule.addresses {
            let Some(link) = world.link_of(self.merchant, &way.via).filter(|link| !link.paused) else { continue };
            let Some(channel) = link.connector.messages().map(uzel_model::port::Messages::channel) else { continue };
            let bound = self.doc.bound.iter().filter(|bound| bound.via == way.via).map(|bound| bound.to.clone());
            for to in way.address().into_iter().chain(bound).filter(|to| channel.takes(to)) {
                if !ways.iter().any(|(known, address)| known.id == link.id && *address == to) {
                    ways.push((link.clone(), to));
                }
            }
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(to: Option<&str>) -> Way {
        Way { via: "x".to_owned(), to: to.map(str::to_owned) }
    }

    #[test]
    fn an_address_is_kept_as_its_channel_knows_it() {
        let read = |to, channel| way(to).read(channel, "UZ").map(|way| way.to);
        assert_eq!(read(Some("90 123-45-67"), Some(Channel::Sms)), Ok(Some("+998901234567".to_owned())));
        assert_eq!(read(Some(" Anna@Example.COM"), Some(Channel::Email)), Ok(Some("anna@example.com".to_owned())));
        assert_eq!(read(None, Some(Channel::Telegram)), Ok(None));
        for (to, channel) in [
            (Some("anna@example.com"), Channel::Sms),
            (Some("+998901234567"), Channel::Email),
            (None, Channel::Sms),
            (Some("12345"), Channel::Telegram),
            (Some(""), Channel::Whatsapp),
        ] {
            assert!(read(to, Some(channel)).is_err(), "{to:?} {channel:?}");
        }
    }
}
