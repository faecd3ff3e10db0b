//! Secrets at rest: sealed with a key of the master key, bound to what they belong to.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use uzel_model::{Secret, signature};

/// The master key, and what is derived from it.
#[derive(Clone)]
pub struct Vault {
    seal: [u8; 32],
    hash: [u8; 32],
}

/// Sealed bytes that this master key does not open.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct VaultError(&'static str);

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(***)")
    }
}

impl Vault {
    /// Of a master key in base64 (32 bytes).
    pub fn new(master: &Secret) -> Result<Self, VaultError> {
        let key = STANDARD.decode(master.expose().trim()).map_err(|_| VaultError("the master key is not base64"))?;
        if key.len() != 32 {
            return Err(VaultError("the master key must be 32 bytes in base64"));
        }
        Ok(Self { seal: signature::hmac_sha256(&key, b"uzel/seal/1"), hash: signature::hmac_sha256(&key, b"uzel/hash/1") })
    }

    /// A new master key, in base64.
    pub fn new_master() -> Secret {
        Secret::new(STANDARD.encode(rand::random::<[u8; 32]>()))
    }

    /// Seals bytes; only [`Vault::open`] with the same context gives them back.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; 24] = rand::random();
        let cipher = XChaCha20Poly1305::new(&self.seal.into());
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context })
            .expect("sealing fails only beyond 256 GiB");
        [&[1u8], &nonce[..], &sealed].concat()
    }

    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        const WRONG: VaultError = VaultError("the master key does not open what is stored: it is not the key that sealed it");
        if sealed.len() < 25 || sealed[0] != 1 {
            return Err(WRONG);
        }
        let nonce: [u8; 24] = sealed[1..25].try_into().map_err(|_| WRONG)?;
        XChaCha20Poly1305::new(&self.seal.into())
            .decrypt(&XNonce::from(nonce), Payload { msg: &sealed[25..], aad: context })
            .map_err(|_| WRONG)
    }

    /// The keyed hash by which keys are looked up.
    pub fn key_hash(&self, about: &str, key: &str) -> Vec<u8> {
        signature::hmac_sha256(&self.hash, format!("{about}\n{key}").as_bytes()).to_vec()
    }

    /// The key in the URL that we register for a connection ourselves: always the same, so that it need not be stored.
    pub fn hook_key(&self, link: &[u8]) -> Secret {
        let mac = signature::hmac_sha256(&self.hash, &[b"hook".as_slice(), link].concat());
        Secret::new(hex::encode(&mac[..20]))
    }

    /// A new key with this prefix, of 160 random bits in lower-case hex (one provider lower-cases our URLs).
    pub fn new_key(prefix: &str) -> Secret {
        Secret::new(format!("{prefix}{}", hex::encode(rand::random::<[u8; 20]>())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_with_its_key_and_in_its_place() {
        let vault = Vault::new(&Vault::new_master()).unwrap();
        let other = Vault::new(&Vault::new_master()).unwrap();
        let sealed = vault.seal(b"here", b"secret");
        assert_eq!(vault.open(b"here", &sealed).unwrap(), b"secret");
        assert!(vault.open(b"there", &sealed).is_err());
        assert!(other.open(b"here", &sealed).is_err());
    }
}
