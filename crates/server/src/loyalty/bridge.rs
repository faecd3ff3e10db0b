//! Signatures by an outlet's bridge: `X-Bridge-Signature: v1,ts={unix seconds},sig={base64}`, where `sig` is the HMAC-SHA256 of
//! `ts + "." + body` with the secret's text for its key.
//!
//! The platform's documents sign the body as it is sent; its program signs what it makes of the fields that it knows. Either is
//! taken, so that no client of it has to be changed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};
use uzel_model::{
    Secret,
    signature::{equal, hmac_sha256},
};

pub(super) const HEADER: &str = "x-bridge-signature";
/// A signature may be so many seconds older or newer than our clock.
const TOLERANCE_S: u64 = 300;
/// Times have no more digits for some thousand years.
const TIME_CHARS_MAX: usize = 12;

/// Fields that the platform signs, in its order.
pub(super) const QUOTE: &[&str] = &[
    "mode",
    "merchantId",
    "userToken",
    "orderId",
    "total",
    "eligibleTotal",
    "outletId",
    "staffId",
    "requestId",
    "category",
    "promoCode",
];
pub(super) const COMMIT: &[&str] = &["merchantId", "holdId", "orderId", "receiptNumber"];
pub(super) const REFUND: &[&str] = &["merchantId", "orderId", "refundTotal", "refundEligibleTotal"];
pub(super) const QR: &[&str] = &["merchantId", "customerId"];

/// The header's two members that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// Seconds, as the text that is signed.
    pub(super) time: String,
    pub(super) sum: String,
}

impl Signature {
    /// Members stand in any order, and others among them mean nothing. `None`: it is no signature, or of another time.
    pub(super) fn read(header: &str, now: Timestamp) -> Option<Self> {
        let members = header.strip_prefix("v1,")?;
        let member = |name: &str| {
            let pairs = members.split(',').filter_map(|member| member.split_once('='));
            pairs.map(|(known, value)| (known.trim(), value.trim())).find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let (time, sum) = (member("ts")?, member("sig")?);
        let sent_at_s: i64 = Some(time).filter(|time| time.len() <= TIME_CHARS_MAX)?.parse().ok()?;
        (sent_at_s.abs_diff(now.as_second()) <= TOLERANCE_S).then(|| Self { time: time.to_owned(), sum: sum.to_owned() })
    }

    /// The one of the secrets that made it for one of the bodies. All are tried, so that the time taken tells nothing.
    pub(super) fn made_by<'a>(&self, secrets: &'a [Secret], bodies: &[&[u8]]) -> Option<&'a Secret> {
        let tried = secrets.iter().flat_map(|secret| bodies.iter().map(move |body| (secret, sum(secret, &self.time, body))));
        tried.fold(None, |found, (secret, wanted)| if equal(&self.sum, &wanted) { Some(secret) } else { found })
    }
}

fn sum(secret: &Secret, time: &str, body: &[u8]) -> String {
    let message = [time.as_bytes(), b".", body].concat();
    STANDARD.encode(hmac_sha256(secret.expose().as_bytes(), &message))
}

/// The body as the platform's program writes it again: the fields that it knows in its order, without blanks, what is not there left
/// out, `null` kept.
pub(super) fn canonical(body: &Map<String, Value>, fields: &[&str]) -> String {
    let known = fields.iter().filter_map(|name| body.get(*name).map(|value| format!("\"{name}\":{}", written(value))));
    format!("{{{}}}", known.collect::<Vec<_>>().join(","))
}

/// A value as JavaScript writes it: numbers in their shortest form.
fn written(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) if whole.unsigned_abs() < 1 << 53 => whole.to_string(),
            (_, Some(0.0)) => "0".to_owned(),
            (_, Some(float)) => float.to_string(),
            _ => number.to_string(),
        },
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_760_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn fields(body: &str) -> Map<String, Value> {
        serde_json::from_str(body).unwrap()
    }

    fn is_good(header: &str, secret: &str, bodies: &[&[u8]]) -> bool {
        Signature::read(header, at(AT)).is_some_and(|signature| signature.made_by(&[Secret::new(secret)], bodies).is_some())
    }

    /// The vectors of the dossier.
    #[test]
    fn signatures_are_those_of_the_platform() {
        let vectors = [
            (
                "brg_test_secret_0001",
                r#"{"mode":"redeem","merchantId":"M-1","userToken":"C-42","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#,
                "R6+2CWpdpKmkl6Lb5XkbFOG8EfpftJiQVi09KtL0Dyk=",
            ),
            (
                "brg_test_secret_0002",
                r#"{"mode":"redeem","merchantId":"M-1","userToken":"C-42","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#,
                "VDVRrRDgH2KC1OLlcO/DD7TdaUJmKpzHIWS6z/kEzwM=",
            ),
            (
                "brg_test_secret_0001",
                r#"{"mode":"redeem","merchantId":"M-1","orderId":"ORD-1001","total":1000,"eligibleTotal":1000,"userToken":"C-42","outletId":"OUT-1"}"#,
                "zXi3AFIZ/I6i66UR/F4W2AfM3nJXvniCWkqpMm2M+TI=",
            ),
            (
                "brg_test_secret_0001",
                r#"{"mode":"earn","merchantId":"M-1","userToken":"C-42","orderId":"Заказ №7","total":1000,"eligibleTotal":1000,"outletId":"OUT-1"}"#,
                "2jIXuxYRJqsCUE93Q9lGXpHVXN7ruLQqQ1NYqXA6wuA=",
            ),
            (
                "brg_test_secret_0001",
                r#"{"merchantId":"M-1","holdId":"hold-7","orderId":"ORD-1001","receiptNumber":"R-15"}"#,
                "zQ1JW+Riv3QY+2rHq5qpQecsIXRL207AFXEaTA3RtAU=",
            ),
            (
                "brg_test_secret_0001",
                r#"{"merchantId":"M-1","orderId":"ORD-1001","refundTotal":250}"#,
                "JwsmXPqyT76z4Q7UtnyX368S+qdOuLxduQ/my7dSqCc=",
            ),
            (
                "brg_test_secret_0001",
                r#"{"merchantId":"M-1","holdId":"5b9f1c52-3f43-4a5e-8a49-0f1e2d3c4b5a","orderId":"ORD-1001","receiptNumber":"R-15"}"#,
                "kpMbSe1bKEtqnIkt4fhxyExnEIPkxFpBPNfoG7lgzCE=",
            ),
        ];
        for (secret, body, sum) in vectors {
            let header = format!("v1,ts={AT},sig={sum}");
            assert!(is_good(&header, secret, &[body.as_bytes()]), "{body}");
            assert!(is_good(&format!("v1,x=1, sig={sum} ,ts={AT}"), secret, &[b"other", body.as_bytes()]), "in any order");
            assert!(!is_good(&header, "brg_test_secret_0003", &[body.as_bytes()]), "another secret");
            assert!(!is_good(&header, secret, &[body.replace("M-1", "M-2").as_bytes(), b""]), "another body");
        }
    }

    #[test]
    fn what_was_sent_with_blanks_and_other_fields_has_the_platforms_signature() {
        let sent = r#"{ "unknown": true, "eligibleTotal": 1000.0, "total": 1.0e3, "orderId": "ORD-1001", "outletId": "OUT-1",
            "userToken": "C-42", "merchantId": "M-1", "mode": "redeem" }"#;
        let body = canonical(&fields(sent), QUOTE);
        assert!(is_good(
            &format!("v1,ts={AT},sig=R6+2CWpdpKmkl6Lb5XkbFOG8EfpftJiQVi09KtL0Dyk="),
            "brg_test_secret_0001",
            &[sent.as_bytes(), body.as_bytes()]
        ));
        let of = |sent: &str| canonical(&fields(sent), REFUND);
        assert_eq!(of(r#"{"refundTotal":99.90,"orderId":null,"x":1}"#), r#"{"orderId":null,"refundTotal":99.9}"#);
        assert_eq!(of(r#"{"refundTotal":-0.0,"orderId":"\u0000\"/\n"}"#), r#"{"orderId":"\u0000\"/\n","refundTotal":0}"#);
        assert_eq!(of("{}"), "{}");
    }

    #[test]
    fn a_signature_is_good_for_five_minutes_before_and_after_its_time() {
        let header = format!("v1,ts={AT},sig=x");
        for (off_s, good) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            assert_eq!(Signature::read(&header, at(AT + off_s)).is_some(), good, "{off_s}");
        }
        for wrong in ["", "v1", "v1,", "v2,ts=1760000000,sig=x", "v1,ts=1760000000", "v1,sig=x", "v1,ts=now,sig=x"] {
            assert_eq!(Signature::read(wrong, at(AT)), None, "{wrong}");
        }
        assert_eq!(Signature::read("v1,ts=99999999999999999999999,sig=x", at(AT)), None);
        let padded = Signature::read("v1,ts=1760000000,sig=ab==", at(AT)).unwrap();
        assert_eq!(padded.sum, "ab==", "split at the first sign");
    }
}
