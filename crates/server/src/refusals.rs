//! Refused requests, kept for whoever has to find out why: a few of each place, without credentials, beside the journal.
//!
//! Nothing waits for this, and a flood costs nothing: what waits to be written is bounded for each place and in all, what does
//! not fit is not even built, and the store is written to twice a second at the most.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uzel_engine::{Engine, Link, Vault};
use uzel_model::{Connector, Id, Request};
use uzel_store::{Change, Notice, Refusal, WrongKey};

/// What one refusal may hold.
const BYTES_MAX: usize = 4 << 10;
const WAITING_MAX: usize = 256;
const WAITING_OF_PLACE_MAX: usize = 20;
const WRITES_APART: Duration = Duration::from_millis(500);
/// Names and values longer than this are cut.
const TEXT_MAX: usize = 100;
const NAMES_MAX: usize = 20;
/// Headers that carry no secrets and tell something.
const PLAIN_HEADERS: [&str; 7] =
    ["content-type", "content-length", "user-agent", "host", "accept", "x-forwarded-for", "traceparent"];

/// Where a refused request was to go.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Connection(&'a Link),
    /// The key told no connection. One of this provider's may know what to take out of its bodies.
    Provider {
        id: &'static str,
        any: Option<&'a Link>,
    },
}

impl Place<'_> {
    fn name(&self) -> String {
        match self {
            Self::Connection(link) => link.id.to_string(),
            Self::Provider { id, .. } => (*id).to_owned(),
        }
    }

    fn connector(&self) -> Option<&dyn Connector> {
        match self {
            Self::Connection(link) => Some(link.connector.as_ref()),
            Self::Provider { any, .. } => any.map(|link| link.connector.as_ref()),
        }
    }
}

/// What waits to be written of one place.
#[derive(Default)]
struct OfPlace {
    /// Merchant and connection, where there is one to tell.
    owner: Option<(Id, Id)>,
    refusals: Vec<Refusal>,
}

#[derive(Default)]
struct Waiting {
    by_place: HashMap<String, OfPlace>,
    count: usize,
}

#[derive(Default)]
pub(crate) struct Refusals {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Refusals {
    /// Keeps a refused request, if there is room. `keys`: what came in the place of a key.
    pub(crate) fn keep(&self, vault: &Vault, place: Place<'_>, request: &Request, keys: &[&str], reason: &str) {
        let name = place.name();
        let has_room = |waiting: &Waiting| {
            let of_place = waiting.by_place.get(&name).map_or(0, |place| place.refusals.len());
            waiting.count < WAITING_MAX && of_place < WAITING_OF_PLACE_MAX
        };
        if !has_room(&self.waiting.lock()) {
            return;
        }
        let refusal = build(vault, &name, place.connector(), request, keys, reason);
        let owner = if let Place::Connection(link) = place { Some((link.merchant, link.id)) } else { None };
        let mut waiting = self.waiting.lock();
        if has_room(&waiting) {
            waiting.count += 1;
            waiting.by_place.entry(name).or_insert_with(|| OfPlace { owner, ..OfPlace::default() }).refusals.push(refusal);
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// Writes what is kept until `stop` says that no more will come.
    pub(crate) async fn write(self: Arc<Self>, engine: Arc<Engine>, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = tokio::select! {
                () = self.filled.notified() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            self.write_what_waits(&engine).await;
            if stopped {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(WRITES_APART) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn write_what_waits(&self, engine: &Engine) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        if waiting.count == 0 {
            return;
        }
        let mut notices = Vec::new();
        let mut refusals = Vec::new();
        for (place, OfPlace { owner, refusals: kept }) in waiting.by_place {
            match owner {
                Some((merchant, connection)) => {
                    let text = "requests are refused: their key or signature is wrong or missing".to_owned();
                    notices.push(Notice { merchant, connection, kind: "refused".to_owned(), text });
                }
                None => tracing::debug!(provider = place, "requests are refused whose key belongs to no connection"),
            }
            refusals.extend(kept);
        }
        let change = Change { notices, now: Some(engine.clock.now()), ..Change::default() };
        let told = if change.notices.is_empty() { Ok(()) } else { engine.store.apply(change).await.map(drop) };
        if let Err(error) = told.and(engine.store.put_refusals(refusals).await) {
            tracing::warn!("refused requests cannot be kept: {error}");
        }
    }
}

fn build(
    vault: &Vault,
    place: &str,
    connector: Option<&dyn Connector>,
    request: &Request,
    keys: &[&str],
    reason: &str,
) -> Refusal {
    let hash = |key: &str| hex::encode(&vault.key_hash("refused", key)[..4]);
    let header = |(name, value): &(String, String)| {
        let plain = PLAIN_HEADERS.contains(&name.as_str());
        (cut(name, TEXT_MAX), plain.then(|| cut(&without(value, keys), TEXT_MAX)))
    };
    // Without a connection of this provider nobody knows which parts of the body are credentials.
    let body = connector.map(|connector| connector.scrub(request).unwrap_or_else(|| request.body.clone())).unwrap_or_default();
    // Twice the room, since a key that is taken out may make it shorter.
    let whole = without(&String::from_utf8_lossy(&body[..body.len().min(2 * BYTES_MAX)]), keys);
    let mut refusal = Refusal {
        place: place.to_owned(),
        at: request.received_at,
        peer: request.peer,
        method: cut(&request.method, TEXT_MAX),
        path: cut(&without(&request.path, keys), TEXT_MAX),
        reason: reason.to_owned(),
        keys: keys.iter().take(4).map(|key| WrongKey { length: key.len(), hash: hash(key) }).collect(),
        query: request.query.iter().take(NAMES_MAX).map(|(name, _)| cut(name, TEXT_MAX)).collect(),
        headers: request.headers.iter().take(NAMES_MAX).map(header).collect(),
        body: String::new(),
        cut: false,
    };
    let bytes = |refusal: &Refusal| serde_json::to_string(refusal).map_or(usize::MAX, |text| text.len());
    let mut room = BYTES_MAX.saturating_sub(bytes(&refusal));
    refusal.body = cut(&whole, room);
    // Escaping makes a text longer.
    while bytes(&refusal) > BYTES_MAX && room > 0 {
        room /= 2;
        refusal.body = cut(&whole, room);
    }
    refusal.cut =
        refusal.body.len() < whole.len() || body.len() > 2 * BYTES_MAX || connector.is_none() && !request.body.is_empty();
    refusal
}

/// A key that came in one place may stand in another as well.
fn without(text: &str, keys: &[&str]) -> String {
    // A very short one would tear the text apart, and is nobody's secret.
    keys.iter().filter(|key| key.len() >= 4).fold(text.to_owned(), |text, key| text.replace(key, "***"))
}

fn cut(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or_default();
    text[..end].to_owned()
}
