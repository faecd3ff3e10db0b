//! What FCM answers.

use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::Value;
use uzel_model::{CallError, Refusal, Reply, Timestamp, port::Sent};

use crate::tree;

pub(super) const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";

#[derive(Deserialize)]
struct Taken {
    name: String,
}

pub(super) fn read(reply: &Reply) -> Result<Sent, CallError> {
    if reply.status < 300 {
        return reply.json::<Taken>().map(|taken| Sent::new(taken.name));
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = code(&body).unwrap_or_default();
    let said = tree::text(&body["error"]["message"]).unwrap_or_else(|| "FCM does not say why".to_owned());
    let refused = |refusal, reason: String| Err(CallError::refused(refusal, if code.is_empty() { "FCM" } else { code }, reason));
    match (code, reply.status) {
        ("UNREGISTERED", _) => refused(Refusal::NotHere, "the application is no longer on this device".to_owned()),
        ("SENDER_ID_MISMATCH", _) => {
            refused(Refusal::NotHere, "the device's token belongs to another Firebase project".to_owned())
        }
        ("THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR", _) => {
            refused(Refusal::Account, format!("the key of Apple or of Web Push in the Firebase project is wrong: {said}"))
        }
        (INVALID_ARGUMENT, _) | ("", 400) if is_invalid(&body, code) => {
            Err(CallError::refused(Refusal::Ours, INVALID_ARGUMENT, format!("FCM does not take the message: {said}")))
        }
        (_, 401) => Err(CallError::Unauthorized(said)),
        (_, 403) => refused(
            Refusal::Account,
            format!("the service account may not send, or the API is switched off in its project: {said}"),
        ),
        // Without a word of FCM's own it is the address that is not there, and with it the project.
        (_, 404) => refused(Refusal::Account, format!("is the project's id right? {said}")),
        _ => refused(Refusal::Command, said),
    }
}

fn is_invalid(body: &Value, code: &str) -> bool {
    code == INVALID_ARGUMENT || body["error"]["status"] == INVALID_ARGUMENT
}

/// FCM's own word, wherever it stands among the details.
fn code(body: &Value) -> Option<&str> {
    let details = body["error"]["details"].as_array()?;
    details.iter().find(|detail| detail["@type"] == FCM_ERROR)?["errorCode"].as_str()
}

/// Whether a 401 is about Apple's key in the Firebase project.
pub(super) fn is_third_party(reply: &Reply) -> bool {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    matches!(code(&body), Some("THIRD_PARTY_AUTH_ERROR" | "APNS_AUTH_ERROR"))
}

/// Google asks for a minute where it names no time.
pub(super) fn at_least_a_minute(error: CallError, now: Timestamp) -> CallError {
    match error {
        CallError::Later { reason, at: None } => CallError::Later { reason, at: Some(now + SignedDuration::from_mins(1)) },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &str) -> String {
        match read(&Reply { status, headers: Vec::new(), body: body.to_owned().into() }) {
            Ok(sent) => sent.provider_id,
            Err(CallError::Refused { refusal, code, .. }) => format!("{refusal:?} {code}"),
            Err(error) => format!("{error:?}"),
        }
    }

    fn error(status: &str, code: &str) -> String {
        format!(
            r#"{{"error":{{"status":"{status}","message":"m","details":[{{"@type":"type.googleapis.com/google.rpc.ErrorInfo","errorCode":"x"}},
                {{"@type":"{FCM_ERROR}","errorCode":"{code}"}}]}}}}"#
        )
    }

    #[test]
    fn each_word_of_fcm_has_its_class() {
        assert_eq!(class(404, include_str!("../../../sandbox/samples/push/fcm_error_unregistered.json")), "NotHere UNREGISTERED");
        assert_eq!(class(400, include_str!("../../../sandbox/samples/push/fcm_error_bad_field.json")), "Ours INVALID_ARGUMENT");
        assert_eq!(
            class(400, include_str!("../../../sandbox/samples/push/fcm_error_invalid_token.json")),
            "Ours INVALID_ARGUMENT"
        );
        assert_eq!(class(403, &error("PERMISSION_DENIED", "SENDER_ID_MISMATCH")), "NotHere SENDER_ID_MISMATCH");
        assert_eq!(class(401, &error("UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")), "Account THIRD_PARTY_AUTH_ERROR");
        assert_eq!(class(404, r#"{"error":{"status":"NOT_FOUND","message":"m"}}"#), "Account FCM");
        assert_eq!(class(403, r#"{"error":{"status":"PERMISSION_DENIED","message":"m"}}"#), "Account FCM");
        assert_eq!(class(409, &error("ABORTED", "UNSPECIFIED_ERROR")), "Command UNSPECIFIED_ERROR");
        for odd in ["", "null", "[]", "<html>", r#"{"error":[]}"#, r#"{"error":{"details":{}}}"#, r#"{"error":{"details":[7]}}"#]
        {
            assert_eq!(class(422, odd), "Command FCM", "{odd}");
            assert!(class(200, odd).starts_with("Unreadable"), "{odd}");
        }
    }
}
