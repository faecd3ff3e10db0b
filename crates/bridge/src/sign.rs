//! `X-Bridge-Signature` and `Idempotency-Key`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::secret::Secret;

/// The longest key that is sent; the hub takes 255 bytes.
const KEY_BYTES_MAX: usize = 200;

/// `v1,ts={unix seconds},sig={base64 of HMAC-SHA256 over "{ts}.{body}"}`.
pub(crate) fn signature(secret: &Secret, at_s: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{at_s}.").as_bytes());
    mac.update(body);
    format!("v1,ts={at_s},sig={}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// A key of visible ASCII out of texts of any letters: percent-encoded, and hashed where that is too long.
pub(crate) fn idempotency_key(call: &str, parts: &[&str]) -> String {
    let mut key = call.to_owned();
    for part in parts {
        key.push(':');
        key.push_str(&percent_encoded(part.as_bytes()));
    }
    shortened(key, call)
}

/// The till's own key: as it is where a header can carry it.
pub(crate) fn tills_key(given: &[u8]) -> String {
    match std::str::from_utf8(given) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) => shortened(text.to_owned(), "till"),
        _ => shortened(percent_encoded(given), "till"),
    }
}

fn shortened(key: String, call: &str) -> String {
    if key.len() <= KEY_BYTES_MAX { key } else { format!("{call}:sha256:{}", hex::encode(Sha256::digest(key.as_bytes()))) }
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_platforms_page_fit() {
        let quote = r#"{"mode":"redeem","merchantId":"M-1","userToken":"C-42","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#;
        let bridge = r#"{"mode":"redeem","merchantId":"M-1","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"userToken":"C-42","outletId":"OUT-1"}"#;
        let cyrillic = r#"{"mode":"earn","merchantId":"M-1","userToken":"C-42","orderId":"Заказ №7","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#;
        let commit = r#"{"merchantId":"M-1","holdId":"hold-7","orderId":"ORD-1001","receiptNumber":"R-15"}"#;
        let refund = r#"{"merchantId":"M-1","orderId":"ORD-1001","refundTotal":250}"#;
        for (secret, body, sig) in [
            ("brg_test_secret_0001", quote, "R6+2CWpdpKmkl6Lb5XkbFOG8EfpftJiQVi09KtL0Dyk="),
            ("brg_test_secret_0002", quote, "VDVRrRDgH2KC1OLlcO/DD7TdaUJmKpzHIWS6z/kEzwM="),
            ("brg_test_secret_0001", bridge, "zXi3AFIZ/I6i66UR/F4W2AfM3nJXvniCWkqpMm2M+TI="),
            ("brg_test_secret_0001", cyrillic, "2jIXuxYRJqsCUE93Q9lGXpHVXN7ruLQqQ1NYqXA6wuA="),
            ("brg_test_secret_0001", commit, "zQ1JW+Riv3QY+2rHq5qpQecsIXRL207AFXEaTA3RtAU="),
            ("brg_test_secret_0001", refund, "JwsmXPqyT76z4Q7UtnyX368S+qdOuLxduQ/my7dSqCc="),
        ] {
            let made = signature(&Secret::new(secret), 1_760_000_000, body.as_bytes());
            assert_eq!(made, format!("v1,ts=1760000000,sig={sig}"), "{body}");
        }
    }

    #[test]
    fn a_key_is_visible_ascii_whatever_the_order_is_called() {
        assert_eq!(idempotency_key("commit", &["M-1", "ORD-1001", "h"]), "commit:M-1:ORD-1001:h");
        assert_eq!(idempotency_key("commit", &["M-1", "№7"]), "commit:M-1:%E2%84%967");
        assert_ne!(idempotency_key("commit", &["a:b", "c"]), idempotency_key("commit", &["a", "b:c"]));
        let long = idempotency_key("commit", &["M-1", &"я".repeat(500)]);
        assert!(long.len() <= KEY_BYTES_MAX && long.starts_with("commit:sha256:"), "{long}");
        assert_ne!(long, idempotency_key("commit", &["M-1", &"я".repeat(501)]));
        assert_eq!(tills_key(b"k-1"), "k-1");
        assert_eq!(tills_key("ключ".as_bytes()), "%D0%BA%D0%BB%D1%8E%D1%87");
    }
}
