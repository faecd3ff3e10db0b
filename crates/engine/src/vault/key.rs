//! One key of 256 bits: what it seals opens only with it, and in the context it was sealed for.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use uzel_model::{Secret, signature};
use zeroize::Zeroizing;

use super::VaultError;

pub(super) const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Wiped from memory when it is let go.
#[derive(Clone)]
pub(super) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl Key {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        (bytes.len() == KEY_BYTES).then(|| key.copy_from_slice(bytes))?;
        Some(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Another key, for one purpose.
    pub(super) fn derive(&self, purpose: &str) -> Self {
        Self(Zeroizing::new(self.hmac(purpose.as_bytes())))
    }

    pub(super) fn hmac(&self, message: &[u8]) -> [u8; KEY_BYTES] {
        signature::hmac_sha256(self.bytes(), message)
    }

    /// A nonce, and behind it what was sealed.
    pub(super) fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let sealed = XChaCha20Poly1305::new(&(*self.0).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context })
            .expect("sealing fails only beyond 256 GiB");
        [&nonce[..], &sealed].concat()
    }

    pub(super) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        XChaCha20Poly1305::new(&(*self.0).into())
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: context })
            .ok()
            .map(Zeroizing::new)
    }
}

/// The key that seals the keys that seal. It never lies in the store.
#[derive(Clone)]
pub struct Master(Key);

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Master(***)")
    }
}

impl Master {
    /// Of 32 bytes in base64.
    pub fn new(text: &Secret) -> Result<Self, VaultError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.expose().trim()).map_err(|_| VaultError::NoBase64)?);
        Key::of(&bytes).map(Self).ok_or(VaultError::WrongLength)
    }

    /// A new one, in base64.
    pub fn make() -> Secret {
        Secret::new(STANDARD.encode(Key::new().bytes()))
    }

    /// Tells it from others, and gives nothing of it away: eight bytes in hex.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.check())
    }

    /// What a store keeps of it.
    pub(super) fn check(&self) -> Vec<u8> {
        self.before_envelopes("uzel/hash/1").hmac(b"master-key\ncheck").to_vec()
    }

    /// What wraps the keys in envelopes.
    pub(super) fn wrapping(&self) -> Key {
        self.0.derive("uzel/wrap/2")
    }

    /// A key as it was derived before there were envelopes.
    pub(super) fn before_envelopes(&self, purpose: &str) -> Key {
        self.0.derive(purpose)
    }
}

pub(super) fn fingerprint(check: &[u8]) -> String {
    hex::encode(check.get(..8).unwrap_or(check))
}
