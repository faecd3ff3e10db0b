//! The door: whose address a request has, and how fast those may fail who have no right key.
//!
//! Only requests that fail are slowed. All merchants of a provider share its addresses, so a right key is never refused for
//! where it comes from. What is remembered has a fixed size, however many addresses knock.

mod address;
mod gate;

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub(crate) use address::neighbourhood;
use axum::{
    extract::ConnectInfo,
    http::{Extensions, HeaderMap},
};
use gate::Gate;
use uzel_engine::Networks;
use uzel_model::Id;

use crate::Problem;

/// What the operator decides about the door.
#[derive(Debug, Clone)]
pub struct DoorSettings {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// How often one address may fail a minute with one connection, or with keys that begin alike.
    pub failures_per_minute: u32,
    /// How long a client may take to say what it wants: for the head of a request, and again for its body.
    pub patience: Duration,
    /// How often one key may call the API a minute; 0 for no limit.
    pub calls_per_minute: u32,
    /// How often one key, or one outlet's bridge, may ask about points a minute; 0 for no limit.
    pub loyalty_calls_per_minute: u32,
    /// So many times as often as the points platform of the requirement lets it one till may ask; 0 for no limit.
    pub loyalty_rate_factor: u32,
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            trusted_proxies: Networks::default(),
            failures_per_minute: 30,
            patience: Duration::from_secs(30),
            calls_per_minute: 0,
            loyalty_calls_per_minute: 0,
            loyalty_rate_factor: 0,
        }
    }
}

/// What a failed request tried to be let in to.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) enum Guessed<'a> {
    Connection(Id),
    /// The key was to tell the connection.
    Provider {
        provider: &'static str,
        key: &'a str,
    },
    Api {
        key: &'a str,
    },
    /// A short link.
    Link,
}

/// Keys are told apart by so many characters: enough to see two senders behind one address, too few to be of use to a guesser.
const PREFIX_CHARS: usize = 9;
/// One address may fail so many times oftener in all: whoever guesses begins each key anew.
const ADDRESS_FACTOR: u32 = 10;

impl Guessed<'_> {
    fn prefix(self) -> Self {
        let cut = |key: &'_ str| key.char_indices().nth(PREFIX_CHARS).map_or(key.len(), |(end, _)| end);
        match self {
            Self::Connection(id) => Self::Connection(id),
            Self::Link => Self::Link,
            Self::Provider { provider, key } => Self::Provider { provider, key: &key[..cut(key)] },
            Self::Api { key } => Self::Api { key: &key[..cut(key)] },
        }
    }
}

/// How long somebody who failed too often has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub retry_after_s: u32,
}

impl From<TooMany> for Problem {
    fn from(too_many: TooMany) -> Self {
        Self::too_many_failures(too_many.retry_after_s)
    }
}

pub(crate) struct Door {
    proxies: Networks,
    by_subject: Gate,
    by_address: Gate,
    patience: Duration,
}

impl Door {
    pub(crate) fn new(settings: DoorSettings) -> Self {
        Self {
            proxies: settings.trusted_proxies,
            by_subject: Gate::new(settings.failures_per_minute),
            by_address: Gate::new(settings.failures_per_minute.saturating_mul(ADDRESS_FACTOR)),
            patience: settings.patience,
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The address of whoever began the request.
    pub(crate) fn client(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<IpAddr> {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())?;
        Some(address::client(peer, headers, &self.proxies))
    }

    /// Counts a failure. `Err`: it is one too many.
    pub(crate) fn failed(&self, address: Option<IpAddr>, guessed: Guessed<'_>) -> Result<(), TooMany> {
        let from = address.map(neighbourhood);
        let subject = self.by_subject.failed(&(from, guessed.prefix()));
        let whole = self.by_address.failed(&from);
        match subject.max(whole) {
            0 => Ok(()),
            retry_after_s => Err(TooMany { retry_after_s }),
        }
    }
}
