//! Webhooks out: signatures by Standard Webhooks 1.0.0 (`v1`: HMAC-SHA256, `v1a`: ed25519), and the older one that the loyalty
//! platform of the requirements makes (`X-Loyalty-Signature`). And webhooks in of providers that sign so ([`verify`]).
//!
//! Document: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. A secret is decoded
//! from base64 before it is used as a key; for `X-Loyalty-Signature` its text is the key.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::{
    Rejection, Request, Secret,
    signature::{self, hmac_sha256},
};

/// What the journal calls the provider of an endpoint.
pub const PROVIDER_ID: &str = "endpoint";

const SECRET_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

/// The keys by which one endpoint's webhooks are signed, until they are rotated.
pub struct SigningKey {
    secret: Secret,
    mac: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// Of `whsec_` + base64 of 24 to 64 bytes, and a seed of 32 bytes.
    pub fn new(secret: Secret, seed: &[u8]) -> Result<Self, String> {
        let wrong = || "must be `whsec_` and 24 to 64 bytes in padded base64".to_owned();
        let digits = secret.expose().strip_prefix(SECRET_PREFIX).ok_or_else(wrong)?;
        let mac = STANDARD.decode(digits).map_err(|_| wrong())?;
        if !(24..=64).contains(&mac.len()) {
            return Err(wrong());
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| "a seed has 32 bytes".to_owned())?;
        Ok(Self { secret, mac, pair })
    }

    /// Of any text, as the points platform has its secrets: 16 to 256 visible characters, which are the key as they stand.
    pub fn of_text(secret: Secret, seed: &[u8]) -> Result<Self, String> {
        let text = secret.expose().as_bytes();
        if !(16..=256).contains(&text.len()) || !text.iter().all(u8::is_ascii_graphic) {
            return Err("must have 16 to 256 visible characters of ASCII".to_owned());
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| "a seed has 32 bytes".to_owned())?;
        Ok(Self { mac: text.to_vec(), secret, pair })
    }

    /// The text of a secret of these bytes.
    pub fn secret_of(bytes: &[u8]) -> Secret {
        Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
    }

    /// The seed in a private key (`whsk_` + base64 of seed and public key).
    pub fn seed_of(private: &str) -> Option<Vec<u8>> {
        let bytes = STANDARD.decode(private.strip_prefix(PRIVATE_PREFIX)?).ok()?;
        (bytes.len() == 64).then(|| bytes[..32].to_vec())
    }

    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The public key by which `v1a` is verified: `whpk_` + base64 of 32 bytes.
    pub fn public(&self) -> String {
        format!("{PUBLIC_PREFIX}{}", STANDARD.encode(self.pair.public_key()))
    }

    fn v1(&self, content: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(hmac_sha256(&self.mac, content)))
    }

    fn v1a(&self, content: &[u8]) -> String {
        format!("v1a,{}", STANDARD.encode(self.pair.sign(content)))
    }

    /// The value of `X-Loyalty-Signature` by this key.
    pub fn loyalty(&self, timestamp_s: i64, body: &[u8]) -> String {
        loyalty(&self.secret, timestamp_s, body)
    }
}

/// The value of `X-Loyalty-Signature`: base64 of HMAC-SHA256 over the time and the body, with the secret's text for a key.
pub fn loyalty(secret: &Secret, timestamp_s: i64, body: &[u8]) -> String {
    let content = [timestamp_s.to_string().as_bytes(), b".", body].concat();
    let mac = hmac_sha256(secret.expose().as_bytes(), &content);
    format!("v1,ts={timestamp_s},sig={}", STANDARD.encode(mac))
}

/// The value of `webhook-signature` by all these keys, the newest first. Those of `v1` stand last: some libraries look at the
/// last item only.
pub fn signatures<'a>(keys: impl IntoIterator<Item = &'a SigningKey> + Clone, id: &str, timestamp_s: i64, body: &[u8]) -> String {
    let content = [id.as_bytes(), b".", timestamp_s.to_string().as_bytes(), b".", body].concat();
    let asymmetric = keys.clone().into_iter().map(|key| key.v1a(&content));
    let symmetric = keys.into_iter().map(|key| key.v1(&content));
    asymmetric.chain(symmetric).collect::<Vec<_>>().join(" ")
}

/// A webhook may be so many seconds older or newer than our clock.
const TOLERANCE_S: u64 = 300;

/// Whether a webhook that came is signed by this secret (`v1`), lately. The headers are `svix-id`, `-timestamp` and `-signature`,
/// or `webhook-…`; where both are there the first count. Of several signatures any one is enough: while a secret is rotated there
/// are two.
pub fn verify(request: &Request, secret: &Secret) -> Result<(), Rejection> {
    let part = |prefix: &str, name: &str| request.header(&format!("{prefix}-{name}")).filter(|value| !value.is_empty());
    let prefix = if request.header("svix-id").is_some() { "svix" } else { "webhook" };
    let (Some(id), Some(time), Some(signed)) = (part(prefix, "id"), part(prefix, "timestamp"), part(prefix, "signature")) else {
        return Err(Rejection::Unsigned);
    };
    let digits = secret.expose().strip_prefix(SECRET_PREFIX).unwrap_or(secret.expose());
    let key = STANDARD.decode(digits).ok().filter(|key| !key.is_empty()).ok_or(Rejection::Forged)?;
    let sent_at_s: i64 = time.parse().map_err(|_| Rejection::Forged)?;
    if sent_at_s.abs_diff(request.received_at.as_second()) > TOLERANCE_S {
        return Err(Rejection::Forged);
    }
    let content = [id.as_bytes(), b".", time.as_bytes(), b".", &request.body].concat();
    let wanted = STANDARD.encode(hmac_sha256(&key, &content));
    let mut given = signed.split(' ').filter_map(|item| item.split_once(',')).filter(|(version, _)| *version == "v1");
    if given.any(|(_, given)| signature::equal(given, &wanted)) { Ok(()) } else { Err(Rejection::Forged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(names: &str, id: &str, time: &str, signed: &str, body: &str) -> Request {
        let headers = [("id", id), ("timestamp", time), ("signature", signed)];
        Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: headers.iter().map(|(name, value)| (format!("{names}-{name}"), (*value).to_owned())).collect(),
            body: body.to_owned().into(),
            received_at: jiff::Timestamp::from_second(time.parse().unwrap_or_default()).unwrap(),
            peer: None,
            key: None,
        }
    }

    /// The vectors of the specification and of Svix.
    #[test]
    fn webhooks_of_others_are_verified_by_either_names_of_the_headers() {
        let vectors = [
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "1614265330",
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                "1649367553",
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
        ];
        for (secret, id, time, body, signed) in vectors {
            for names in ["svix", "webhook"] {
                assert_eq!(verify(&came(names, id, time, signed, body), &Secret::new(secret)), Ok(()));
                // Rotated, and with what other versions or nobody can read beside it.
                for beside in [format!("v1,AAAA {signed}"), format!("v1a,AAAA junk {signed}")] {
                    assert_eq!(verify(&came(names, id, time, &beside, body), &Secret::new(secret)), Ok(()));
                }
                for wrong in [signed.replace("v1,", "v2,"), signed.replace("v1,", "v1"), "v1,".to_owned(), "v1,AAAA".to_owned()] {
                    assert_eq!(verify(&came(names, id, time, &wrong, body), &Secret::new(secret)), Err(Rejection::Forged));
                }
                assert_eq!(verify(&came(names, "msg_2", time, signed, body), &Secret::new(secret)), Err(Rejection::Forged));
                for missing in
                    [came(names, "", time, signed, body), came(names, id, time, "", body), came("x", id, time, signed, body)]
                {
                    assert_eq!(verify(&missing, &Secret::new(secret)), Err(Rejection::Unsigned));
                }
            }
        }
    }

    #[test]
    fn a_webhook_is_good_for_five_minutes_before_and_after_its_time() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let mut request = came("svix", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", signed, r#"{"test": 2432232314}"#);
        for (off_s, good) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            request.received_at = jiff::Timestamp::from_second(1_614_265_330 + off_s).unwrap();
            assert_eq!(verify(&request, &secret).is_ok(), good, "{off_s}");
        }
        for time in ["", "now", "1614265330.5", "99999999999999999999"] {
            let request = came("svix", "msg_1", time, signed, "{}");
            assert!(verify(&request, &secret).is_err(), "{time}");
        }
        for secret in ["", "whsec_", "whsec_no base64"] {
            assert_eq!(verify(&request, &Secret::new(secret)), Err(Rejection::Forged));
        }
    }

    const PRIVATE: &str = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";

    fn key(secret: &str) -> SigningKey {
        SigningKey::new(Secret::new(secret), &SigningKey::seed_of(PRIVATE).unwrap()).unwrap()
    }

    /// The vectors of the specification's own libraries.
    #[test]
    fn signatures_are_those_of_the_specification() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(key.public(), "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
        let made = signatures([&key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(
            made,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== \
             v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn while_two_keys_hold_both_sign_the_newest_first_and_v1_last() {
        let (new, old) =
            (key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key("whsec_lmktgjb6r6Jo9jd6UYU0pDQQJVhVeSySSYxxhjiFFEA="));
        let made = signatures([&new, &old], "evt_1", 1, b"{}");
        let versions: Vec<&str> = made.split(' ').map(|item| item.split_once(',').unwrap().0).collect();
        assert_eq!(versions, ["v1a", "v1a", "v1", "v1"]);
        assert!(made.ends_with(&old.v1(b"evt_1.1.{}")));
    }

    /// The vector of the dossier, made with another program.
    #[test]
    fn the_loyalty_signature_takes_the_secrets_text_for_its_key() {
        let body = r#"{"holdId":"5b9f1c52-3f43-4a5e-8a49-0f1e2d3c4b5a","orderId":"ORD-1001","staffId":null,"outletId":"OUT-1","createdAt":"2025-10-09T08:53:20.000Z","receiptId":"cmg9x1rcp0001","requestId":"req_k1","customerId":"C-42","merchantId":"M-1","earnApplied":0,"redeemApplied":100,"schemaVersion":1}"#;
        let mut key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        key.secret = Secret::new("whsec_test_loyalty");
        assert_eq!(
            key.loyalty(1_760_000_000, body.as_bytes()),
            "v1,ts=1760000000,sig=U/egnjU1h7872WHdpGKQ66LOxuv4o13jcqU/ySSYTxI="
        );
    }

    #[test]
    fn a_secret_that_is_too_short_or_no_base64_is_refused() {
        for wrong in ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8G", "whsec_not base64 at all, but long enough"] {
            assert!(SigningKey::new(Secret::new(wrong), &[1; 32]).is_err(), "{wrong}");
        }
    }
}
