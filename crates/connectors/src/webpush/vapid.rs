//! Who sends (RFC 8292): a JWT for the push service, signed with our key.

use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer},
};
use serde_json::json;

use crate::notice::{BASE64URL, decode};

/// Push services refuse what is good for more than a day.
const LASTS: SignedDuration = SignedDuration::from_hours(12);

/// Our key pair, as it stands in the settings: 32 bytes as base64url.
pub(super) fn key(text: &str) -> Option<SecretKey> {
    decode(text).filter(|bytes| bytes.len() == 32).and_then(|bytes| SecretKey::from_slice(&bytes).ok())
}

/// A new key pair as base64url: private, public.
pub(super) fn new_keys() -> (String, String) {
    let key = super::random_key();
    (BASE64URL.encode(key.to_bytes()), public_key(&key))
}

/// As a browser takes it (`applicationServerKey`): 65 bytes as base64url.
pub(super) fn public_key(key: &SecretKey) -> String {
    BASE64URL.encode(key.public_key().to_sec1_bytes())
}

/// The header `Authorization` for a push service. `origin` has the port where it is not the scheme's own.
pub(super) fn authorization(key: &SecretKey, origin: &str, subject: &str, now: Timestamp) -> String {
    let head = BASE64URL.encode(r#"{"typ":"JWT","alg":"ES256"}"#);
    let claims = json!({ "aud": origin, "exp": now.saturating_add(LASTS).map_or(0, Timestamp::as_second), "sub": subject });
    let signed = format!("{head}.{}", BASE64URL.encode(claims.to_string()));
    let signature: Signature = SigningKey::from(key).sign(signed.as_bytes());
    format!("vapid t={signed}.{}, k={}", BASE64URL.encode(signature.to_bytes()), public_key(key))
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::Value;

    use super::*;

    fn is_signed(jwt: &str, public: &str) -> bool {
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(public).unwrap());
        key.verify(signed.as_bytes(), &decode(signature).unwrap()).is_ok()
    }

    #[test]
    fn the_token_is_as_the_vector_has_it_and_its_signature_holds() {
        let vector: Value = serde_json::from_str(include_str!("../../../sandbox/samples/push/vapid_vector.json")).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let key = key(text("private_key_b64url")).unwrap();
        assert_eq!(public_key(&key), text("public_key_b64url"));
        assert!(is_signed(text("jwt_one_valid_signature"), text("public_key_b64url")));

        let now = Timestamp::from_second(vector["claims"]["exp"].as_i64().unwrap() - LASTS.as_secs()).unwrap();
        let header = authorization(&key, "https://push.example.net", "mailto:ops@example.com", now);
        let (jwt, public) = header.strip_prefix("vapid t=").unwrap().split_once(", k=").unwrap();
        assert_eq!(public, text("public_key_b64url"));
        assert!(is_signed(jwt, public));
        let claims: Value = serde_json::from_slice(&decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap();
        assert_eq!(claims, vector["claims"]);
    }

    #[test]
    fn what_is_no_key_is_none() {
        for wrong in ["", "short", "vapid_private_key-example", &"A".repeat(43), &"_".repeat(43)] {
            assert!(key(wrong).is_none(), "{wrong}");
        }
    }
}
