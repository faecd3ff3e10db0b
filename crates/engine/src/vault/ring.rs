//! The keys as they lie in memory, out of their envelopes.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use uzel_model::{Id, id::Kind};
use uzel_store::{Envelope, Purpose, Setup};
use zeroize::Zeroizing;

use super::{
    Place, SESSION, VaultError,
    key::{KEY_BYTES, Key, Master},
};

/// The first byte of what was sealed before there were envelopes, and of what is sealed under one.
const BEFORE_ENVELOPES: u8 = 1;
const UNDER_ENVELOPE: u8 = 2;
const ID_BYTES: usize = 16;

#[derive(Clone)]
pub(super) struct Ring {
    /// What wraps new envelopes, and what tells the master key it comes from.
    pub(super) wrapping: Key,
    pub(super) check: Vec<u8>,
    /// Sealed everything before there were envelopes.
    first: Key,
    pub(super) hash: Key,
    /// By the id of the envelope.
    keys: HashMap<Id, Key>,
    /// The newest of each merchant, and the hub's own.
    pub(super) current: HashMap<Option<Id>, Id>,
}

impl Ring {
    /// The keys in the envelopes of a store; and where it has none, those that it should have, to be stored first.
    pub(super) fn of(master: &Master, setup: &Setup) -> Result<(Self, Vec<Envelope>), VaultError> {
        let first = master.before_envelopes("uzel/seal/1");
        // A store from before: the keys that it knows were hashed by what was derived then, and stay good.
        let used = !setup.keys.is_empty() || !setup.rows.is_empty();
        let hash = if used { master.before_envelopes("uzel/hash/1") } else { Key::new() };
        let (wrapping, check) = (master.wrapping(), master.check());
        let mut ring = Self { wrapping, check, first, hash, keys: HashMap::new(), current: HashMap::new() };
        for envelope in &setup.envelopes {
            let key = unwrap(&ring.wrapping, envelope);
            match (envelope.purpose, key) {
                (Purpose::Handover, _) => {}
                (Purpose::Hash, Some(key)) => ring.hash = key,
                (Purpose::Seal, Some(key)) => ring.hold(envelope, key),
                (_, None) => return Err(VaultError::Damaged),
            }
        }
        let mut made = Vec::new();
        if setup.envelopes.is_empty() {
            let sealed = setup.rows.iter().find_map(|row| Some((row.id, row.sealed.as_deref()?)));
            if sealed.is_some_and(|(id, sealed)| ring.unseal_first(id.as_bytes(), sealed).is_err()) {
                return Err(VaultError::Wrong);
            }
            made.push(ring.wrapped(Purpose::Hash, None, &ring.hash));
            made.extend(ring.ensure(None));
            let merchants = setup.rows.iter().filter(|row| row.id.kind() == Kind::Merchant);
            made.extend(merchants.filter_map(|row| ring.ensure(Some(row.id))));
        }
        Ok((ring, made))
    }

    /// The same keys, to be wrapped by another master key.
    pub(super) fn under(&self, master: &Master) -> Self {
        let first = master.before_envelopes("uzel/seal/1");
        Self { wrapping: master.wrapping(), check: master.check(), first, ..self.clone() }
    }

    /// What other nodes have made since, taken up; nothing where nothing was.
    pub(super) fn with(&self, envelopes: &[Envelope]) -> Option<Self> {
        let of_hash = envelopes.iter().find(|envelope| envelope.purpose == Purpose::Hash);
        let is_old = of_hash.is_some_and(|envelope| unwrap(&self.wrapping, envelope).is_none());
        let unknown = |envelope: &&Envelope| envelope.purpose == Purpose::Seal && !self.keys.contains_key(&envelope.id);
        if !is_old && !envelopes.iter().any(|envelope| unknown(&envelope)) {
            return None;
        }
        let mut ring = self.clone();
        if is_old {
            let handed = envelopes.iter().filter(|envelope| envelope.purpose == Purpose::Handover);
            match handed.filter_map(|handover| self.handed_over(handover)).next() {
                Some((wrapping, check)) => (ring.wrapping, ring.check) = (wrapping, check),
                None => tracing::error!("the master key was changed: start this node again with the new one"),
            }
        }
        for envelope in envelopes.iter().filter(unknown) {
            if let Some(key) = unwrap(&ring.wrapping, envelope) {
                ring.hold(envelope, key);
            }
        }
        Some(ring)
    }

    pub(super) fn hold(&mut self, envelope: &Envelope, key: Key) {
        self.keys.insert(envelope.id, key);
        let newest = self.current.entry(envelope.merchant).or_insert(envelope.id);
        *newest = envelope.id.max(*newest);
    }

    /// The same keys wrapped anew, and where a key is not known here, nothing.
    pub(super) fn wrapped_anew(&self, envelope: &Envelope) -> Option<Envelope> {
        let key = match envelope.purpose {
            Purpose::Hash => &self.hash,
            Purpose::Seal => self.keys.get(&envelope.id)?,
            Purpose::Handover => return None,
        };
        Some(Envelope { wrapped: wrap(&self.wrapping, envelope, key), ..envelope.clone() })
    }

    fn wrapped(&self, purpose: Purpose, merchant: Option<Id>, key: &Key) -> Envelope {
        let bare = Envelope { id: Id::new(Kind::Key), purpose, merchant, wrapped: Vec::new() };
        Envelope { wrapped: wrap(&self.wrapping, &bare, key), ..bare }
    }

    /// A new key for a merchant, used from now on.
    pub(super) fn renew(&mut self, merchant: Option<Id>) -> Envelope {
        let key = Key::new();
        let envelope = self.wrapped(Purpose::Seal, merchant, &key);
        self.hold(&envelope, key);
        envelope
    }

    /// The same where the merchant has none.
    pub(super) fn ensure(&mut self, merchant: Option<Id>) -> Option<Envelope> {
        (!self.current.contains_key(&merchant)).then(|| self.renew(merchant))
    }

    /// The keys of another master key, for nodes that have only this ring's keys: sealed by the hub's own.
    pub(super) fn hand_over(&self, next: &Self) -> Option<Envelope> {
        let (_, own) = self.own()?;
        let bare = Envelope { id: Id::new(Kind::Key), purpose: Purpose::Handover, merchant: None, wrapped: Vec::new() };
        let plain = Zeroizing::new([next.wrapping.bytes(), &next.check].concat());
        Some(Envelope { wrapped: own.seal(&about(&bare), &plain), ..bare })
    }

    fn handed_over(&self, handover: &Envelope) -> Option<(Key, Vec<u8>)> {
        let plain = self.keys.values().find_map(|key| key.open(&about(handover), &handover.wrapped))?;
        let (key, check) = plain.split_at_checked(KEY_BYTES)?;
        Some((Key::of(key)?, check.to_vec()))
    }

    pub(super) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let of_merchant = self.current.get(&Some(place.merchant)).and_then(|id| Some((id, self.keys.get(id)?)));
        let (id, key) = of_merchant.or_else(|| self.own()).expect("a ring has the hub's own key from its making on");
        [&[UNDER_ENVELOPE], &id.as_bytes()[..], &key.seal(&place.bytes(), plain)].concat()
    }

    /// What is the hub's own, or a whole row of another kind than connections: bound to a context, under the hub's own key.
    pub(super) fn seal_own(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let (id, key) = self.own().expect("a ring has the hub's own key from its making on");
        [&[UNDER_ENVELOPE], &id.as_bytes()[..], &key.seal(&own_context(context), plain)].concat()
    }

    pub(super) fn open_own(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        if sealed.first() == Some(&BEFORE_ENVELOPES) {
            return self.unseal_first(context, sealed);
        }
        let key = self.keys.get(&envelope_of(sealed).ok_or(VaultError::Spoilt)?).ok_or(VaultError::Unknown)?;
        key.open(&own_context(context), &sealed[1 + ID_BYTES..]).ok_or(VaultError::Spoilt)
    }

    fn own(&self) -> Option<(&Id, &Key)> {
        self.current.get(&None).and_then(|id| Some((id, self.keys.get(id)?)))
    }

    pub(super) fn unseal(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        if sealed.first() == Some(&BEFORE_ENVELOPES) && place.field == SESSION {
            return self.unseal_first(&[place.connection.as_bytes().as_slice(), b"session"].concat(), sealed);
        }
        let key = self.keys.get(&envelope_of(sealed).ok_or(VaultError::Spoilt)?).ok_or(VaultError::Unknown)?;
        key.open(&place.bytes(), &sealed[1 + ID_BYTES..]).ok_or(VaultError::Spoilt)
    }

    fn unseal_first(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        match sealed.split_first() {
            Some((&BEFORE_ENVELOPES, sealed)) => self.first.open(context, sealed).ok_or(VaultError::Spoilt),
            _ => Err(VaultError::Spoilt),
        }
    }

    /// A JSON object: each setting's name, and what it hides, sealed by itself.
    pub(super) fn seal_settings(&self, merchant: Id, connection: Id, settings: &Map<String, Value>) -> Vec<u8> {
        let sealed = settings.iter().map(|(field, value)| {
            let plain = Zeroizing::new(value.to_string());
            let sealed = self.seal(Place { merchant, connection, field }, plain.as_bytes());
            (field.clone(), Value::String(STANDARD.encode(sealed)))
        });
        Value::Object(sealed.collect()).to_string().into_bytes()
    }

    pub(super) fn unseal_settings(&self, merchant: Id, connection: Id, sealed: &[u8]) -> Result<Map<String, Value>, VaultError> {
        if sealed.first() == Some(&BEFORE_ENVELOPES) {
            let plain = self.unseal_first(connection.as_bytes(), sealed)?;
            return serde_json::from_slice(&plain).map_err(|_| VaultError::Spoilt);
        }
        let unseal = |(field, sealed): (String, Vec<u8>)| {
            let plain = self.unseal(Place { merchant, connection, field: &field }, &sealed)?;
            Ok((field, serde_json::from_slice(&plain).map_err(|_| VaultError::Spoilt)?))
        };
        fields(sealed)?.into_iter().map(unseal).collect()
    }

    /// Whether all of it lies under the newest key: of a merchant, or the hub's own.
    pub(super) fn is_current(&self, merchant: Option<Id>, sealed: &[u8]) -> bool {
        let Some(newest) = self.current.get(&merchant) else { return false };
        envelopes_of(sealed).iter().all(|envelope| envelope.as_ref() == Some(newest))
    }
}

impl Place<'_> {
    /// The lengths before the field are fixed, so that no two places look alike.
    fn bytes(&self) -> Vec<u8> {
        let (merchant, connection) = (self.merchant.as_bytes().as_slice(), self.connection.as_bytes().as_slice());
        [b"uzel/field/2", merchant, connection, self.field.as_bytes()].concat()
    }
}

fn own_context(context: &[u8]) -> Vec<u8> {
    [b"uzel/own/2", context].concat()
}

/// What an envelope is, to which the key in it is bound.
fn about(envelope: &Envelope) -> Vec<u8> {
    let purpose: &[u8] = match envelope.purpose {
        Purpose::Seal => b"s",
        Purpose::Hash => b"h",
        Purpose::Handover => b"o",
    };
    let merchant = envelope.merchant.map_or([0; ID_BYTES], |merchant| *merchant.as_bytes());
    [b"uzel/envelope/2", purpose, envelope.id.as_bytes().as_slice(), &merchant].concat()
}

fn wrap(wrapping: &Key, envelope: &Envelope, key: &Key) -> Vec<u8> {
    wrapping.seal(&about(envelope), key.bytes())
}

fn unwrap(wrapping: &Key, envelope: &Envelope) -> Option<Key> {
    Key::of(&wrapping.open(&about(envelope), &envelope.wrapped)?)
}

/// The envelope whose key sealed this.
fn envelope_of(sealed: &[u8]) -> Option<Id> {
    let (version, rest) = sealed.split_first()?;
    let (id, _) = rest.split_first_chunk::<ID_BYTES>()?;
    (*version == UNDER_ENVELOPE).then(|| Id::from_bytes(Kind::Key, *id))
}

fn fields(sealed: &[u8]) -> Result<Vec<(String, Vec<u8>)>, VaultError> {
    let fields: Map<String, Value> = serde_json::from_slice(sealed).map_err(|_| VaultError::Spoilt)?;
    let decode = |value: Value| value.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(VaultError::Spoilt);
    fields.into_iter().map(|(field, value)| Ok((field, decode(value)?))).collect()
}

/// The envelopes of a login, or of settings; none for what was sealed before there were any.
pub(super) fn envelopes_of(sealed: &[u8]) -> Vec<Option<Id>> {
    match fields(sealed) {
        Ok(fields) => fields.iter().map(|(_, sealed)| envelope_of(sealed)).collect(),
        Err(_) => vec![envelope_of(sealed)],
    }
}
