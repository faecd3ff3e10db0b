//! Customers' codes: what a phone shows as a QR and a till reads. A JWT of HS256 and nothing else (RFC 7519).
//!
//! Sixty lines on the hub's own HMAC instead of a crate: one algorithm, one issuer, one audience, and no key whose kind a header could
//! choose.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_engine::loyalty::{CustomerAsk, QrKey};
use uzel_model::signature::{equal_bytes, hmac_sha256};

/// Clocks may differ by so much.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);
const TOKEN_BYTES_MAX: usize = 4_096;
const KIND: &str = "qr";

/// Why a code is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadToken {
    /// No code, or signed by another key, or for something else.
    Bad,
    Expired,
    OtherMerchant,
}

/// Whether it is a code, and not a customer's id.
pub(super) fn is_token(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_base64 = |part: &&str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) && parts.iter().all(is_base64)
}

/// The customer of a code that one of the keys signed for one of these names of the merchant.
pub(super) fn verify(token: &str, keys: &[QrKey], merchant: &[&str], now: Timestamp) -> Result<CustomerAsk, BadToken> {
    let mut parts = token.split('.');
    let (Some(head), Some(claims), Some(sum), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(BadToken::Bad);
    };
    if token.len() > TOKEN_BYTES_MAX {
        return Err(BadToken::Bad);
    }
    let header = json_of(head)?;
    if header["alg"] != "HS256" || header.get("crit").is_some() {
        return Err(BadToken::Bad);
    }
    let kid = match header.get("kid") {
        Some(Value::String(kid)) => Some(kid.as_str()),
        Some(_) => return Err(BadToken::Bad),
        None => None,
    };
    let sum = URL_SAFE_NO_PAD.decode(sum).map_err(|_| BadToken::Bad)?;
    let signed = &token.as_bytes()[..head.len() + 1 + claims.len()];
    let mut tried = keys.iter().filter(|key| kid.is_none_or(|kid| key.kid == kid));
    if !tried.any(|key| equal_bytes(&hmac_sha256(key.secret.expose().as_bytes(), signed), &sum)) {
        return Err(BadToken::Bad);
    }
    read(&json_of(claims)?, merchant, now)
}

fn json_of(part: &str) -> Result<Value, BadToken> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| BadToken::Bad)?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object).ok_or(BadToken::Bad)
}

fn read(claims: &Value, merchant: &[&str], now: Timestamp) -> Result<CustomerAsk, BadToken> {
    let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty()).ok_or(BadToken::Bad);
    let time = |name: &str| claims[name].as_f64().and_then(|at| Timestamp::from_second(at.floor() as i64).ok());
    if text("t")? != KIND {
        return Err(BadToken::Bad);
    }
    let (customer, jti) = (text("sub")?.to_owned(), text("jti")?.to_owned());
    let is_ours = |aud: &Value| aud.as_str().is_some_and(|aud| merchant.contains(&aud));
    let audience = &claims["aud"];
    if !is_ours(audience) && !audience.as_array().is_some_and(|list| list.iter().any(is_ours)) {
        return Err(BadToken::OtherMerchant);
    }
    let expires_at = time("exp").ok_or(BadToken::Bad)?;
    let ends_at = expires_at.saturating_add(TOLERANCE).unwrap_or(Timestamp::MAX);
    if ends_at <= now {
        return Err(BadToken::Expired);
    }
    let begins_later = |name: &str| time(name).is_some_and(|at| at > now.saturating_add(TOLERANCE).unwrap_or(Timestamp::MAX));
    if begins_later("iat") || begins_later("nbf") {
        return Err(BadToken::Bad);
    }
    Ok(CustomerAsk::Token { customer, jti, expires_at: ends_at })
}

/// A code for a customer, good for so long.
pub(super) fn issue(key: &QrKey, customer: &str, merchant: &str, now: Timestamp, ttl_s: i64) -> String {
    let iat = now.as_second();
    let claims = json!({
        "sub": customer, "t": KIND, "iat": iat, "exp": iat + ttl_s,
        "jti": format!("{customer}:{iat}:{}", hex::encode(rand::random::<[u8; 16]>())), "aud": merchant,
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT", "kid": key.kid })), part(&claims));
    let sum = URL_SAFE_NO_PAD.encode(hmac_sha256(key.secret.expose().as_bytes(), signed.as_bytes()));
    format!("{signed}.{sum}")
}

#[cfg(test)]
mod tests {
    use uzel_model::Secret;

    use super::*;

    const VECTOR: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJDLTQyIiwidCI6InFyIiwiaWF0IjoxNzYwMDAwMDAwLCJleHAiOjE3NjAwMDAxMjAsImp0aSI6IkMtNDI6MTc2MDAwMDAwMDoyZjFjMGE3ZS04YTYwLTRmNGItOWE0My03ZDJmNGUxYjVjOTAiLCJhdWQiOiJNLTEifQ.lQUqCFPA_OAouUQupKCHto5Xnquq6J8f-jU5X-GFhZQ";
    const IAT: i64 = 1_760_000_000;

    fn key(kid: &str, secret: &str) -> QrKey {
        QrKey { kid: kid.to_owned(), secret: Secret::new(secret) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn signed(header: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(hmac_sha256(secret.as_bytes(), signed.as_bytes())))
    }

    /// The vector of the dossier.
    #[test]
    fn a_code_of_the_platform_is_read_by_the_next_key_too() {
        let jti = "C-42:1760000000:2f1c0a7e-8a60-4f4b-9a43-7d2f4e1b5c90".to_owned();
        let wanted = CustomerAsk::Token { customer: "C-42".to_owned(), jti, expires_at: at(IAT + 125) };
        let ours = key("k1", "qr_test_secret");
        assert_eq!(verify(VECTOR, &[key("k2", "new"), ours.clone()], &["mer_1", "M-1"], at(IAT)), Ok(wanted));
        let with = |keys: &[QrKey], merchant: &str, now: i64| verify(VECTOR, keys, &[merchant], at(now)).err();
        assert_eq!(with(&[key("k1", "another")], "M-1", IAT), Some(BadToken::Bad));
        assert_eq!(with(&[], "M-1", IAT), Some(BadToken::Bad));
        assert_eq!(with(std::slice::from_ref(&ours), "M-2", IAT), Some(BadToken::OtherMerchant));
        assert_eq!(with(std::slice::from_ref(&ours), "M-1", IAT - 5), None);
        assert_eq!(with(std::slice::from_ref(&ours), "M-1", IAT - 6), Some(BadToken::Bad), "of the future");
        assert_eq!(with(std::slice::from_ref(&ours), "M-1", IAT + 124), None);
        assert_eq!(with(std::slice::from_ref(&ours), "M-1", IAT + 125), Some(BadToken::Expired));
    }

    #[test]
    fn what_is_issued_is_read_again_and_never_twice_the_same() {
        let ours = key("k1", "qr_test_secret");
        let one = issue(&ours, "C-42", "mer_1", at(IAT), 60);
        let other = issue(&ours, "C-42", "mer_1", at(IAT), 60);
        let read = |token: &str| verify(token, std::slice::from_ref(&ours), &["mer_1"], at(IAT)).unwrap();
        assert!(is_token(&one) && read(&one) != read(&other));
        let strange = [key("k2", "qr_test_secret")];
        assert_eq!(verify(&one, &strange, &["mer_1"], at(IAT)), Err(BadToken::Bad), "`kid` chooses the key");
    }

    #[test]
    fn no_other_algorithm_kind_or_audience_is_taken() {
        let good = json!({ "sub": "C-42", "t": "qr", "iat": IAT, "exp": IAT + 60, "jti": "j", "aud": "M-1" });
        let head = json!({ "alg": "HS256", "typ": "JWT" });
        let tried = |head: &Value, claims: &Value| verify(&signed(head, claims, "s"), &[key("k1", "s")], &["M-1"], at(IAT)).err();
        assert_eq!(tried(&head, &good), None);
        for alg in [json!("none"), json!("hs256"), json!("HS512"), json!("RS256"), json!(null), json!(["HS256"])] {
            assert_eq!(tried(&json!({ "alg": alg }), &good), Some(BadToken::Bad), "{alg}");
        }
        assert_eq!(tried(&json!({ "alg": "HS256", "crit": ["x"] }), &good), Some(BadToken::Bad));
        assert_eq!(tried(&json!({ "alg": "HS256", "kid": 1 }), &good), Some(BadToken::Bad));
        for (name, value) in [
            ("t", json!("session")),
            ("t", json!(null)),
            ("sub", json!("")),
            ("sub", json!(42)),
            ("jti", json!(null)),
            ("exp", json!("soon")),
            ("nbf", json!(IAT + 60)),
        ] {
            let mut claims = good.clone();
            claims[name] = value;
            assert_eq!(tried(&head, &claims), Some(BadToken::Bad), "{claims}");
        }
        for (aud, good_for) in [(json!("any"), false), (json!(null), false), (json!(["x"]), false), (json!(["x", "M-1"]), true)] {
            let mut claims = good.clone();
            claims["aud"] = aud;
            assert_eq!(tried(&head, &claims).is_none(), good_for, "{claims}");
        }
        let bare = verify(&VECTOR[..VECTOR.rfind('.').unwrap() + 1], &[key("k1", "")], &["M-1"], at(IAT));
        assert_eq!(bare, Err(BadToken::Bad), "without a signature");
        for text in ["", "C-42", "a.b", "a..c", "a.b.c.d", "+79991234567", "a.б.c"] {
            assert!(!is_token(text), "{text}");
        }
        let long = format!("{}.b.c", "a".repeat(5_000));
        assert_eq!(verify(&long, &[key("k1", "s")], &["M-1"], at(IAT)), Err(BadToken::Bad));
    }
}
