//! Ids: a prefix that says what the thing is, and a UUIDv7 in the TypeID form (`evt_01jd…`), so that ids sort by time.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::Timestamp;

/// What an id belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Merchant,
    Outlet,
    Connection,
    Flow,
    /// A row of the inbox.
    Entry,
    Event,
    Command,
    Attempt,
    Key,
    /// A URL of the merchant's own software that receives webhooks.
    Endpoint,
    /// Who changed what.
    Audit,
    /// One of a merchant's people who gets notices.
    Recipient,
    /// What a guest thought of a visit.
    Review,
    /// A code by which somebody proves an address.
    Code,
    /// A merchant's loyalty programme.
    Programme,
    /// A customer of a programme, with their points.
    Customer,
    /// What a quote holds.
    Hold,
    /// What was committed of an order.
    Receipt,
    /// A movement of points.
    Points,
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::Merchant, "mer"),
    (Kind::Outlet, "out"),
    (Kind::Connection, "con"),
    (Kind::Flow, "flw"),
    (Kind::Entry, "inb"),
    (Kind::Event, "evt"),
    (Kind::Command, "cmd"),
    (Kind::Attempt, "att"),
    (Kind::Key, "key"),
    (Kind::Endpoint, "end"),
    (Kind::Recipient, "rcp"),
    (Kind::Review, "rev"),
    (Kind::Code, "cod"),
    (Kind::Audit, "aud"),
    (Kind::Programme, "prg"),
    (Kind::Customer, "cus"),
    (Kind::Hold, "hld"),
    (Kind::Receipt, "rct"),
    (Kind::Points, "pts"),
];

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The latest ordinal given out: milliseconds since 1970 and, in the last 12 bits, a count within the millisecond.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// How far new ids are ahead of the machine's clock, in milliseconds.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// A prefixed, time-ordered id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    kind: Kind,
    uuid: Uuid,
}

impl Id {
    /// A new id; later ids of one process sort after earlier ones, even when the clock is put back.
    pub fn new(kind: Kind) -> Self {
        let made = Uuid::now_v7().as_u128();
        let now = ((made >> 80) as u64).saturating_add_signed(AHEAD_MS.load(Ordering::Relaxed)) << 12;
        let latest = LATEST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| Some(now.max(latest + 1)));
        let ordinal = u128::from(now.max(latest.unwrap_or_default() + 1));
        // RFC 9562, version 7: the time, our count in the place of `rand_a` (method 1), and what else was made.
        let value = (ordinal >> 12) << 80 | 0x7 << 76 | (ordinal & 0xfff) << 64 | made & u128::from(u64::MAX);
        Self { kind, uuid: Uuid::from_u128(value) }
    }

    /// New ids sort after this ordinal: for a store whose newest row may be ahead of a clock that was put back.
    pub fn start_after(ordinal: i64) {
        LATEST.fetch_max(ordinal.unsigned_abs(), Ordering::Relaxed);
    }

    /// New ids are of a time so far ahead of the machine's clock, which may be wrong: nodes of one store agree by its clock.
    pub fn clock_ahead(ms: i64) {
        AHEAD_MS.store(ms, Ordering::Relaxed);
    }

    /// The id's place in the order of time: 60 bits that no two ids of one process share.
    pub fn ordinal(&self) -> i64 {
        let value = self.uuid.as_u128();
        ((value >> 80) << 12 | (value >> 64) & 0xfff) as i64
    }

    pub fn from_bytes(kind: Kind, bytes: [u8; 16]) -> Self {
        Self { kind, uuid: Uuid::from_bytes(bytes) }
    }

    /// The least id of a moment: ids that are made from then on sort after it.
    pub fn least(kind: Kind, at: Timestamp) -> Self {
        let ms = at.as_millisecond().max(0) as u128;
        Self { kind, uuid: Uuid::from_u128(ms << 80) }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.uuid.as_bytes()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("id", |(_, prefix)| prefix);
        let value = self.uuid.as_u128();
        let mut text = [0u8; 26];
        for (place, byte) in text.iter_mut().enumerate() {
            *byte = ALPHABET[(value >> (125 - 5 * place) & 31) as usize];
        }
        write!(f, "{prefix}_{}", String::from_utf8_lossy(&text))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no id.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is no id: an id looks like `evt_01jd3q…`")]
pub struct NoId(String);

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let no_id = || NoId(text.chars().take(40).collect());
        let (prefix, digits) = text.split_once('_').ok_or_else(no_id)?;
        let (kind, _) = KINDS.iter().find(|(_, known)| *known == prefix).ok_or_else(no_id)?;
        if digits.len() != 26 || digits.as_bytes()[0] > b'7' {
            return Err(no_id());
        }
        let mut value = 0u128;
        for digit in digits.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == digit).ok_or_else(no_id)?;
            value = value << 5 | digit as u128;
        }
        Ok(Self { kind: *kind, uuid: Uuid::from_u128(value) })
    }
}

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let prefixes = KINDS.iter().map(|(_, prefix)| *prefix).collect::<Vec<_>>().join("|");
        json_schema!({ "type": "string", "pattern": format!("^({prefixes})_[0-7][0-9a-hjkmnp-tv-z]{{25}}$") })
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_and_later_ids_sort_after() {
        let first = Id::new(Kind::Event);
        let second = Id::new(Kind::Event);
        assert_eq!(first.to_string().parse::<Id>().unwrap(), first);
        assert!(first.to_string() < second.to_string());
        assert!("evt_zzz".parse::<Id>().is_err());
    }

    #[test]
    fn ordinals_are_unique_and_follow_the_order_of_ids() {
        let ids: Vec<Id> = (0..10_000).map(|_| Id::new(Kind::Event)).collect();
        assert!(ids.windows(2).all(|pair| pair[0].ordinal() < pair[1].ordinal() && pair[0].as_bytes() < pair[1].as_bytes()));
        assert!(ids.iter().all(|id| Uuid::from_bytes(*id.as_bytes()).get_version_num() == 7));
    }
}
