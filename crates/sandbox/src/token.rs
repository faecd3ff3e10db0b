//! Access tokens of the providers that give out some: random texts or JWTs, with an end.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::wire;

/// Tokens with the second at which they end.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<String, i64>);

impl Tokens {
    pub(crate) fn add(&mut self, token: String, seconds: i64) {
        let now = wire::now();
        // Old ones go now and then, so that a long run does not gather them.
        if self.0.len() > 10_000 {
            self.0.retain(|_, end| *end > now);
        }
        self.0.insert(token, now + seconds);
    }

    pub(crate) fn good(&self, token: &str) -> bool {
        self.0.get(token).is_some_and(|end| *end > wire::now())
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A signed JWT; nobody is meant to check the signature, yet clients decode the claims.
pub(crate) fn jwt(claims: &Value) -> String {
    let head = URL_SAFE_NO_PAD.encode(json!({"typ": "JWT", "alg": "HS256"}).to_string());
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    let signed = format!("{head}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(b"sandbox", signed.as_bytes()));
    format!("{signed}.{signature}")
}

pub(crate) fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    // A key of any length is taken, so the error cannot happen; an empty result would fail every check.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| Vec::new(),
        |mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        },
    )
}
