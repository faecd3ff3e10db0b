//! Firebase Cloud Messaging, HTTP v1, and the address where Google gives tokens for a service account (`/token`).
//!
//! The service account is the throw-away one of the samples. What a registration token holds decides: `unregistered`, `mismatch`,
//! `quota`, `third-party`, `internal`, `malformed`. Another project than `hub-demo` is not there.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Provider;
use crate::token::Tokens;
use crate::wire::{self, Answer, Call};

const PROJECT: &str = "hub-demo";
const EMAIL: &str = "push-sender@hub-demo.iam.gserviceaccount.example";
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const AUDIENCE: &str = "https://oauth2.googleapis.com/token";
const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
/// What stands before the key itself where a key of 2048 bits is told with its kind.
const SPKI_BYTES: usize = 24;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How far Google's clock is ahead of this machine's.
    clock_ahead_s: i64,
}

#[derive(Default)]
struct State {
    settings: Settings,
    tokens: Tokens,
    messages: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct Fcm(Mutex<State>);

fn error(status: u16, word: &str, message: &str, code: Option<&str>) -> Answer {
    let mut error = json!({"code": status, "message": message, "status": word});
    if let Some(code) = code {
        // Other details may stand before it.
        let other = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": code, "domain": "fcm.googleapis.com"});
        error["details"] = json!([other, {"@type": FCM_ERROR, "errorCode": code}]);
    }
    Answer::json(status, &json!({"error": error}))
}

/// The public half of the samples' key, as the signature's check takes it.
fn public_key() -> Option<Vec<u8>> {
    let vector: Value = serde_json::from_str(include_str!("../samples/push/fcm_jwt_vector.json")).ok()?;
    let pem = vector["public_key_pem"].as_str()?;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).ok()?.get(SPKI_BYTES..).map(<[u8]>::to_vec)
}

/// What is wrong with a signed claim.
fn assertion(jwt: &str, now: i64) -> Result<(), &'static str> {
    let (signed, signature) = jwt.rsplit_once('.').ok_or("Bad Request")?;
    let (head, claims) = signed.split_once('.').ok_or("Bad Request")?;
    let part = |part: &str| -> Value {
        URL_SAFE_NO_PAD.decode(part).ok().and_then(|part| serde_json::from_slice(&part).ok()).unwrap_or_default()
    };
    let (head, claims) = (part(head), part(claims));
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key().unwrap_or_default());
    if head["alg"] != "RS256" || key.verify(signed.as_bytes(), &signature).is_err() {
        return Err("Invalid JWT Signature.");
    }
    let (issued, ends) = (claims["iat"].as_i64().unwrap_or(0), claims["exp"].as_i64().unwrap_or(0));
    if (issued - now).abs() > 600 || ends <= now || ends - issued > 3600 {
        return Err("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.");
    }
    if claims["iss"] != EMAIL || claims["aud"] != AUDIENCE {
        return Err("Invalid JWT: Failed audience check.");
    }
    let scope = claims["scope"].as_str().unwrap_or_default();
    // The SDK asks for several.
    if scope.split(' ').any(|one| one == SCOPE || one == "https://www.googleapis.com/auth/cloud-platform") {
        Ok(())
    } else {
        Err("Invalid OAuth scope or ID token audience provided.")
    }
}

impl Fcm {
    fn token(&self, call: &Call) -> Answer {
        let form = Value::Object(wire::object(wire::pairs(&call.body)));
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
            return Answer::json(400, &json!({"error": "unsupported_grant_type"}));
        }
        let now = wire::now() + self.0.lock().settings.clock_ahead_s;
        if let Err(why) = assertion(form["assertion"].as_str().unwrap_or_default(), now) {
            return Answer::json(400, &json!({"error": "invalid_grant", "error_description": why}));
        }
        let token = format!("ya29.c.{}", wire::plain_uuid());
        self.0.lock().tokens.add(token.clone(), 3599);
        Answer::json(200, &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}))
    }

    fn send(&self, project: &str, call: &Call) -> Answer {
        let mut state = self.0.lock();
        if !call.bearer().is_some_and(|token| state.tokens.good(token)) {
            return self.token_expired();
        }
        let invalid = |message: &str| error(400, "INVALID_ARGUMENT", message, Some("INVALID_ARGUMENT"));
        if project != PROJECT {
            return error(404, "NOT_FOUND", "Requested entity was not found.", None);
        }
        let Some(body) = call.json().filter(Value::is_object) else {
            return error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.", None);
        };
        let message = &body["message"];
        let targets: Vec<&Value> =
            ["token", "fid", "topic", "condition"].iter().map(|name| &message[*name]).filter(|value| !value.is_null()).collect();
        let [target] = targets[..] else {
            return invalid("Exactly one of token, fid, topic or condition is required");
        };
        let Some(target) = target.as_str().filter(|target| !target.is_empty()) else {
            return invalid("The registration token is not a valid FCM registration token");
        };
        if let Some((place, _)) =
            message["data"].as_object().into_iter().flatten().enumerate().find(|(_, (_, value))| !value.is_string())
        {
            let said = format!("Invalid value at 'message.data[{place}].value' (TYPE_STRING)");
            return error(400, "INVALID_ARGUMENT", &said, None);
        }
        let reserved = |name: &&String| {
            ["from", "message_type"].contains(&name.as_str())
                || name.starts_with("google.")
                || name.starts_with("gcm.notification.")
        };
        if message["data"].as_object().is_some_and(|data| data.keys().any(|name| reserved(&name))) {
            return invalid("Invalid data payload key");
        }
        if message.to_string().len() > 4096 {
            return invalid("Message too big");
        }
        let told = |word: &str| target.contains(word);
        if told("unregistered") {
            return error(404, "NOT_FOUND", "Requested entity was not found.", Some("UNREGISTERED"));
        } else if told("mismatch") {
            return error(403, "PERMISSION_DENIED", "SenderId mismatch", Some("SENDER_ID_MISMATCH"));
        } else if told("quota") {
            return error(429, "RESOURCE_EXHAUSTED", "Sending limit exceeded for the message target.", Some("QUOTA_EXCEEDED"));
        } else if told("third-party") {
            return error(401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service", Some("THIRD_PARTY_AUTH_ERROR"));
        } else if told("internal") {
            return error(500, "INTERNAL", "Internal error encountered.", Some("INTERNAL"));
        } else if told("malformed") {
            return invalid("The registration token is not a valid FCM registration token");
        }
        // The discovery document has one form, the SDK of Python sends the other.
        if body["validateOnly"] == true || body["validate_only"] == true {
            return Answer::json(200, &json!({"name": format!("projects/{PROJECT}/messages/fake_message_id")}));
        }
        let name = format!("projects/{PROJECT}/messages/0:{}%31bd1c9631bd1c96", wire::now_ms());
        state.messages.push(message.clone());
        Answer::json(200, &json!({"name": name}))
    }
}

impl Provider for Fcm {
    fn answer(&self, call: &Call) -> Answer {
        match (call.method.as_str(), call.segments().as_slice()) {
            ("POST", ["token"]) => self.token(call),
            ("POST", ["v1", "projects", project, "messages:send"]) => self.send(project, call),
            _ => Answer::new(404, "text/html; charset=UTF-8", "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>"),
        }
    }

    fn failure(&self, status: u16) -> Answer {
        let word = match status {
            401 => "UNAUTHENTICATED",
            429 => "RESOURCE_EXHAUSTED",
            503 => "UNAVAILABLE",
            500.. => "INTERNAL",
            _ => "INVALID_ARGUMENT",
        };
        error(status, word, "failure", None)
    }

    fn is_token_call(&self, call: &Call) -> bool {
        call.path == "/token"
    }

    fn expire_tokens(&self) {
        self.0.lock().tokens.clear();
    }

    fn token_expired(&self) -> Answer {
        error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", None)
    }

    fn settings(&self, patch: &Value) -> Result<Value, String> {
        wire::merge(&mut self.0.lock().settings, patch)
    }

    fn show(&self, what: &str) -> Option<Value> {
        (what == "messages").then(|| json!(self.0.lock().messages))
    }

    fn reset(&self) {
        *self.0.lock() = State::default();
    }
}
