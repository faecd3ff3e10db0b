//! The key that seals the queue: 32 bytes in a file beside it.

use std::{io, path::Path};

use anyhow::{Context, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::files;

const KEY_BYTES: usize = 32;
pub(crate) const NONCE_BYTES: usize = 24;

/// Wiped from memory when it is let go.
#[derive(Clone)]
pub(crate) struct Key(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

impl Key {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Reads it, or makes it where neither it nor a queue is there yet.
    pub(crate) fn load(file: &Path, queue: &Path) -> anyhow::Result<Self> {
        let name = || format!("key file {}", file.display());
        match std::fs::read_to_string(file) {
            Ok(text) => Self::read(&Zeroizing::new(text)).with_context(name),
            Err(error) if error.kind() == io::ErrorKind::NotFound && queue.exists() => bail!(
                "{} is gone, and without it the queue {} cannot be read: put it back, or move the queue away and lose what waits in it",
                name(),
                queue.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::new();
                files::replace(file, STANDARD.encode(key.0.as_slice()).as_bytes()).with_context(name)?;
                Ok(key)
            }
            Err(error) => Err(error).with_context(name),
        }
    }

    fn read(text: &str) -> anyhow::Result<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).context("it is not base64")?);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            bail!("it must be 32 bytes in base64");
        }
        key.copy_from_slice(&bytes);
        Ok(Self(key))
    }

    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], context: &[u8], plain: &[u8]) -> Vec<u8> {
        XChaCha20Poly1305::new(&(*self.0).into())
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: context })
            .expect("sealing fails only beyond 256 GiB")
    }

    pub(crate) fn open(&self, nonce: [u8; NONCE_BYTES], context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        XChaCha20Poly1305::new(&(*self.0).into())
            .decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: context })
            .ok()
            .map(Zeroizing::new)
    }

    /// What proves to the running bridge that somebody may read this file: wanted of whoever changes the queue.
    pub(crate) fn proof(&self) -> String {
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.0.as_slice()).expect("HMAC takes a key of any length");
        mac.update(b"uzel-bridge/queue/1");
        hex::encode(mac.finalize().into_bytes())
    }
}
