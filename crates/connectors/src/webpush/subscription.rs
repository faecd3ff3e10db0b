//! What a browser gives when a person allows notices: `{"endpoint":"https://…","keys":{"p256dh":"…","auth":"…"}}`.

use base64::Engine;
use p256::PublicKey;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use uzel_model::{Address, port::Device};

use crate::notice::{BASE64URL, decode};

const ENDPOINT_BYTES_MAX: usize = 2_000;

pub(super) struct Subscription {
    /// Whoever knows it, and the keys, may send to the browser.
    pub(super) endpoint: String,
    /// Scheme, host, and port where it is not the scheme's own.
    pub(super) origin: String,
    pub(super) key: PublicKey,
    /// 16 bytes.
    pub(super) auth: Vec<u8>,
}

#[derive(Deserialize)]
struct Wire {
    endpoint: String,
    keys: Keys,
}

#[derive(Deserialize)]
struct Keys {
    p256dh: String,
    auth: String,
}

impl Subscription {
    /// The error names the field, and holds nothing of what stands in it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wire: Wire = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|error| {
            format!("{}: a subscription of a browser is {{\"endpoint\", \"keys\": {{\"p256dh\", \"auth\"}}}}", error.path())
        })?;
        let url = Url::parse(&wire.endpoint).map_err(|_| "endpoint: is no URL")?;
        if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none() {
            return Err("endpoint: begins with `https://`".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() || wire.endpoint.len() > ENDPOINT_BYTES_MAX {
            return Err(format!("endpoint: holds a name or a password, or more than {ENDPOINT_BYTES_MAX} bytes"));
        }
        let point = decode(&wire.keys.p256dh).filter(|point| point.len() == 65 && point[0] == 4);
        let key = point.and_then(|point| PublicKey::from_sec1_bytes(&point).ok());
        Ok(Self {
            origin: url.origin().ascii_serialization(),
            endpoint: url.into(),
            key: key.ok_or("keys.p256dh: is no point of the curve P-256 in 65 bytes, as base64url")?,
            auth: decode(&wire.keys.auth).filter(|auth| auth.len() == 16).ok_or("keys.auth: is not 16 bytes as base64url")?,
        })
    }

    /// The same browser may come with other keys: its address tells it.
    pub(super) fn device(self) -> Device {
        let keys = json!({ "p256dh": BASE64URL.encode(self.key.to_sec1_bytes()), "auth": BASE64URL.encode(&self.auth) });
        let kept = json!({ "endpoint": self.endpoint, "keys": keys });
        Device { address: Address::Device(kept.to_string()), name: self.endpoint, shown: self.origin }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn sample() -> Value {
        serde_json::from_str(include_str!("../../../sandbox/samples/push/webpush_subscription.json")).unwrap()
    }

    #[test]
    fn a_subscription_is_read_as_browsers_and_their_libraries_write_it() {
        let read = Subscription::read(&sample().to_string()).unwrap();
        assert_eq!((read.origin.as_str(), read.auth.len()), ("https://push.example.net", 16));
        let mut padded = sample();
        padded["keys"]["auth"] = json!("BTBZMqHH6r4Tts7J/aSIgg==");
        let padded = Subscription::read(&padded.to_string()).unwrap();
        assert_eq!(padded.auth, read.auth);
        // Whatever stood beside it, and however it was written: the same browser is kept as the same.
        assert_eq!(padded.device(), read.device());
        for (endpoint, origin) in [
            ("https://push.example.net:443/a?b#c", "https://push.example.net"),
            ("https://Push.Example.net:8443/a", "https://push.example.net:8443"),
            ("https://[2001:db8::1]:8443/a", "https://[2001:db8::1]:8443"),
        ] {
            let mut other = sample();
            other["endpoint"] = json!(endpoint);
            assert_eq!(Subscription::read(&other.to_string()).unwrap().origin, origin);
        }
    }

    #[test]
    fn what_is_wrong_with_a_subscription_is_told_by_its_field() {
        let off_curve = "B".to_owned() + &"A".repeat(86);
        for (place, value, field) in [
            ("/endpoint", json!("push.example.net"), "endpoint"),
            ("/endpoint", json!("ftp://push.example.net/a"), "endpoint"),
            ("/endpoint", json!("https://me:secret@push.example.net/a"), "endpoint"),
            ("/endpoint", json!(7), "endpoint"),
            ("/endpoint", json!(format!("https://push.example.net/{}", "a".repeat(2_000))), "endpoint"),
            ("/keys", json!(null), "keys"),
            ("/keys", json!([]), "keys"),
            ("/keys/p256dh", json!("BCVx"), "keys.p256dh"),
            ("/keys/p256dh", json!(off_curve), "keys.p256dh"),
            ("/keys/auth", json!("BTBZMqHH6r4Tts7J"), "keys.auth"),
            ("/keys/auth", json!("пароль"), "keys.auth"),
        ] {
            let mut wrong = sample();
            *wrong.pointer_mut(place).unwrap() = value;
            let said = Subscription::read(&wrong.to_string()).err().unwrap();
            assert!(said.starts_with(field) && !said.contains("secret"), "{said}");
        }
        for wrong in ["", "null", "[]", "device", "{}"] {
            assert!(Subscription::read(wrong).is_err(), "{wrong}");
        }
    }
}
