//! A push service, with the browser behind it: it checks VAPID (RFC 8292) and the headers of RFC 8030, decrypts what came
//! (RFC 8291) and shows it as `messages`.
//!
//! Any path is a subscription of the one browser, whose keys are those of RFC 8291's example, but for these last parts of a path:
//! `gone` (410), `missing` (404), `forbidden` (403), `busy` (429 with `Retry-After`), `moved` (a redirect).

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use parking_lot::Mutex;
use ring::aead::{self, AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Provider;
use crate::wire::{self, Answer, Call};

const PRIVATE: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
const PUBLIC: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The key with which the browser subscribed; another one is refused. Empty: any.
    application_server_key: String,
    /// How far the service's clock is ahead of this machine's.
    clock_ahead_s: i64,
}

#[derive(Default)]
struct State {
    settings: Settings,
    messages: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct WebPush(Mutex<State>);

/// As Mozilla's service words it.
fn error(status: u16, errno: u16, message: &str) -> Answer {
    Answer::json(status, &json!({"code": status, "errno": errno, "error": message, "message": message}))
}

impl WebPush {
    fn push(&self, call: &Call) -> Answer {
        if call.method != hyper::Method::POST {
            return error(405, 100, "Method Not Allowed");
        }
        let token = call.segments().last().copied().unwrap_or_default().to_owned();
        match token.as_str() {
            "gone" => return error(410, 106, "Gone"),
            "missing" => return error(404, 102, "Not Found"),
            "forbidden" => return error(403, 109, "VAPID public key mismatch"),
            "busy" => {
                let mut answer = error(429, 201, "Too Many Requests");
                answer.headers.push(("retry-after", "7".to_owned()));
                return answer;
            }
            "moved" => {
                let mut answer = Answer::empty(307);
                answer.headers.push(("location", "https://push.example.net/elsewhere".to_owned()));
                return answer;
            }
            _ => {}
        }
        if call.header("content-length").is_empty() {
            return error(411, 100, "Length Required");
        }
        let Ok(ttl) = call.header("ttl").parse::<u32>() else {
            return error(400, 111, "TTL header is missing or no number");
        };
        let urgency = call.header("urgency");
        if !["", "very-low", "low", "normal", "high"].contains(&urgency) {
            return error(400, 112, "Urgency is not one of the four");
        }
        let topic = call.header("topic");
        let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_".contains(sign);
        if topic.len() > 32 || !topic.chars().all(plain) {
            return error(400, 113, "Topic is not up to 32 letters of base64url");
        }
        if call.header("content-encoding") != "aes128gcm" {
            return error(400, 110, "Content-Encoding is not aes128gcm");
        }
        if call.body.len() > 4096 {
            return error(413, 104, "Payload Too Large");
        }
        let mut state = self.0.lock();
        let claims = match vapid(call, &state.settings) {
            Ok(claims) => claims,
            Err(answer) => return answer,
        };
        let text = decrypted(&call.body);
        let payload = text.as_ref().map(|text| {
            let read = serde_json::from_slice(text).ok();
            read.unwrap_or_else(|| Value::String(String::from_utf8_lossy(text).into_owned()))
        });
        state.messages.push(json!({
            "token": token, "ttl": ttl, "urgency": urgency, "topic": topic, "vapid": claims,
            "bytes": call.body.len(), "decrypted": payload.is_some(), "payload": payload,
        }));
        let mut answer = Answer::empty(201);
        answer.headers.push(("location", format!("https://push.example.net/m/{}", wire::plain_uuid())));
        answer
    }
}

/// The claims of the sender, or why they are not believed.
fn vapid(call: &Call, settings: &Settings) -> Result<Value, Answer> {
    let unauthorized = |why: &str| error(401, 109, why);
    let header = call.header("authorization");
    let (scheme, pairs) = header.split_once(' ').ok_or_else(|| unauthorized("Authorization is missing"))?;
    if !scheme.eq_ignore_ascii_case("vapid") {
        return Err(unauthorized("Authorization is not of VAPID"));
    }
    let pair = |name: &str| {
        let mut pairs = pairs.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let (token, key) = pair("t").zip(pair("k")).ok_or_else(|| unauthorized("t or k is missing"))?;
    let point = BASE64.decode(key).ok().filter(|point| point.len() == 65);
    let point = point.ok_or_else(|| unauthorized("k is no public key"))?;
    let (signed, signature) = token.rsplit_once('.').ok_or_else(|| unauthorized("t is no JWT"))?;
    let signature = BASE64.decode(signature).unwrap_or_default();
    let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed.as_bytes(), &signature);
    verified.map_err(|_| unauthorized("the signature is wrong"))?;
    let part = |place: usize| -> Value {
        let part = signed.split('.').nth(place).and_then(|part| BASE64.decode(part).ok());
        part.and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
    };
    if part(0)["alg"] != "ES256" {
        return Err(unauthorized("alg is not ES256"));
    }
    let claims = part(1);
    let host = call.header("host");
    if claims["aud"] != format!("http://{host}") && claims["aud"] != format!("https://{host}") {
        return Err(unauthorized("aud is not this service's origin"));
    }
    let left_s = claims["exp"].as_i64().unwrap_or(0) - wire::now() - settings.clock_ahead_s;
    if !(0..=86_400).contains(&left_s) {
        return Err(unauthorized("exp has passed, or is more than a day ahead"));
    }
    let subject = claims["sub"].as_str().unwrap_or_default();
    if !subject.starts_with("mailto:") && !subject.starts_with("https:") {
        return Err(unauthorized("sub is neither mailto: nor https:"));
    }
    let subscribed = &settings.application_server_key;
    if !subscribed.is_empty() && subscribed != key {
        return Err(error(403, 109, "VAPID public key mismatch"));
    }
    Ok(claims)
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn derived(salt: &[u8], secret: &[u8], info: &[&[u8]], bytes: usize) -> Option<Vec<u8>> {
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    let mut out = vec![0; bytes];
    key.expand(info, Bytes(bytes)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

/// What the browser reads of a message of one record.
fn decrypted(body: &[u8]) -> Option<Vec<u8>> {
    let (salt, rest) = body.split_at_checked(16)?;
    let (_record_size, rest) = rest.split_at_checked(4)?;
    let (length, rest) = rest.split_first()?;
    let (sender, record) = rest.split_at_checked(usize::from(*length))?;
    let public = BASE64.decode(PUBLIC).ok()?;
    let private = p256::SecretKey::from_slice(&BASE64.decode(PRIVATE).ok()?).ok()?;
    let shared = private.diffie_hellman(&p256::PublicKey::from_sec1_bytes(sender).ok()?);
    let auth = BASE64.decode(AUTH).ok()?;
    let secret = derived(&auth, shared.raw_secret_bytes(), &[b"WebPush: info\0", &public, sender], 32)?;
    let key = derived(salt, &secret, &[b"Content-Encoding: aes128gcm\0"], 16)?;
    let nonce = derived(salt, &secret, &[b"Content-Encoding: nonce\0"], aead::NONCE_LEN)?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    let mut record = record.to_vec();
    let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
    let text = key.open_in_place(nonce, Aad::empty(), &mut record).ok()?;
    let end = text.iter().rposition(|byte| *byte != 0)?;
    (text[end] == 2).then(|| text[..end].to_vec())
}

impl Provider for WebPush {
    fn answer(&self, call: &Call) -> Answer {
        self.push(call)
    }

    fn failure(&self, status: u16) -> Answer {
        error(status, 999, "failure")
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn show(&self, what: &str) -> Option<Value> {
        match what {
            "messages" => Some(json!(self.0.lock().messages)),
            // What the browser would give, but for the address, which whoever asks puts in front.
            "subscription" => Some(json!({"endpoint": "/webpush/wpush/v2/browser", "keys": {"p256dh": PUBLIC, "auth": AUTH}})),
            _ => None,
        }
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
