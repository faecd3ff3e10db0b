//! What Meta's codes mean. The code decides, never the words, which are going to be taken out.

use jiff::SignedDuration;
use serde_json::Value;
use uzel_model::{CallError, Refusal, Reply, Timestamp};

use crate::tree;

/// What to do about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Refused(Refusal),
    /// The token is not good.
    Login,
    /// Try again soon, and ever later.
    Soon,
    /// Try again in so many minutes.
    Minutes(i64),
    /// Too many messages to one person: only theirs wait.
    Pair,
}

/// The code of an object like `error`, and its subcode.
fn codes(error: &Value) -> Option<(i64, i64)> {
    Some((tree::integer(&error["code"])?, tree::integer(&error["error_subcode"]).unwrap_or(0)))
}

fn means(code: i64, subcode: i64) -> Means {
    use Refusal::{Account, Command, Content, NotHere, OptOut, Ours};
    match code {
        0 | 190 => Means::Login,
        1 | 2 | 131_000 | 131_016 | 130_429 | 132_069 => Means::Soon,
        4 | 80_007 | 131_057 => Means::Minutes(5),
        131_056 => Means::Pair,
        // A wrong number id looks like a wrong parameter.
        33 => Means::Refused(Account),
        100 if subcode == 33 => Means::Refused(Account),
        3
        | 10
        | 200..=299
        | 368
        | 131_005
        | 131_030
        | 131_031
        | 131_037
        | 131_042
        | 131_044
        | 131_045
        | 131_048
        | 131_063
        | 131_064
        | 133_016 => Means::Refused(Account),
        // Not on WhatsApp, kept out by Meta, not to be written to now.
        130_472 | 130_497 | 131_026 | 131_047 | 131_062 => Means::Refused(NotHere),
        131_050 => Means::Refused(OptOut),
        132_000..=132_068 => Means::Refused(Content),
        100 | 131_008 | 131_009 | 131_051..=131_053 | 135_000 => Means::Refused(Ours),
        // 131021, 131049, 137000, and what is not known yet: no harm but to this message.
        _ => Means::Refused(Command),
    }
}

/// Code and words, for the journal.
pub(super) fn says(error: &Value) -> String {
    let words = [&error["error_data"]["details"], &error["error_data"], &error["message"], &error["title"]];
    let words = words.into_iter().find_map(tree::text).unwrap_or_else(|| "no reason is told".to_owned());
    match codes(error) {
        Some((code, _)) => format!("{code}: {words}"),
        None => words,
    }
}

/// What an answer with an error means for the message.
pub(super) fn refused(reply: &Reply, pair_wait_s: u32, now: Timestamp) -> CallError {
    let body: Value = reply.json().unwrap_or_default();
    let error = &body["error"];
    let Some((code, subcode)) = codes(error) else {
        return CallError::refused(Refusal::Ours, format!("http {}", reply.status), "Meta does not take the request");
    };
    let mut reason = says(error);
    if let Some(trace) = tree::text(&error["fbtrace_id"]) {
        reason.push_str(&format!(" (fbtrace_id {trace})"));
    }
    let after = |wait: SignedDuration| now.checked_add(wait).ok();
    match means(code, subcode) {
        Means::Login => CallError::Unauthorized(reason),
        Means::Soon => CallError::Later { reason, at: None },
        Means::Minutes(minutes) => CallError::Later { reason, at: after(SignedDuration::from_mins(minutes)) },
        Means::Pair => CallError::Later { reason, at: after(SignedDuration::from_secs(i64::from(pair_wait_s))) },
        Means::Refused(Refusal::Command) if tree::flag(&error["is_transient"]) => CallError::Later { reason, at: None },
        Means::Refused(refusal) => CallError::refused(refusal, code, reason),
    }
}

/// Why a message will not come of which a status says that it failed, and its code.
pub(super) fn failure(error: &Value) -> Option<(Refusal, i64)> {
    let (code, subcode) = codes(error)?;
    let refusal = match means(code, subcode) {
        Means::Refused(refusal) => refusal,
        Means::Login => Refusal::Account,
        // It was tried and given up: nobody tries again, another channel may.
        Means::Soon | Means::Minutes(_) | Means::Pair => Refusal::NotHere,
    };
    Some((refusal, code))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uzel_model::Bytes;

    use super::*;

    fn answer(error: &Value) -> CallError {
        let body = Bytes::from(json!({ "error": error }).to_string());
        refused(&Reply { status: 400, headers: Vec::new(), body }, 6, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn every_code_of_the_documents_is_sorted_by_what_to_do() {
        use Refusal::{Account, Command, Content, NotHere, OptOut, Ours};
        let sorted: [(Refusal, &[i64]); 6] = [
            (
                Account,
                &[
                    3, 10, 33, 200, 299, 368, 131005, 131030, 131031, 131037, 131042, 131044, 131045, 131048, 131063, 131064,
                    133016,
                ],
            ),
            (NotHere, &[130472, 130497, 131026, 131047, 131062]),
            (OptOut, &[131050]),
            (Content, &[132000, 132001, 132005, 132007, 132008, 132012, 132015, 132016, 132018, 132068]),
            (Ours, &[100, 131008, 131009, 131051, 131052, 131053, 135000]),
            (Command, &[131021, 131049, 137000, 999999]),
        ];
        for (wanted, codes) in sorted {
            for code in codes {
                // Numbers come as texts where a client in between has made them so.
                for code in [json!(code), json!(code.to_string())] {
                    match answer(&json!({ "message": "m", "type": "OAuthException", "code": code })) {
                        CallError::Refused { refusal, .. } => assert_eq!(refusal, wanted, "{code}"),
                        other => panic!("{code}: {other:?}"),
                    }
                }
            }
        }
        let wrong_number = answer(&json!({ "code": 100, "error_subcode": 33 }));
        assert!(matches!(wrong_number, CallError::Refused { refusal: Account, .. }), "{wrong_number:?}");
        for code in [0, 190] {
            assert!(matches!(answer(&json!({ "code": code })), CallError::Unauthorized(_)), "{code}");
        }
        let at = |time: &str| Some(time.parse::<Timestamp>().unwrap());
        let later: [(Option<Timestamp>, &[i64]); 3] = [
            (None, &[1, 2, 130429, 131000, 131016, 132069]),
            (at("1970-01-01T00:05:00Z"), &[4, 80007, 131057]),
            (at("1970-01-01T00:00:06Z"), &[131056]),
        ];
        for (wanted, codes) in later {
            for code in codes {
                match answer(&json!({ "code": code })) {
                    CallError::Later { at, .. } => assert_eq!(at, wanted, "{code}"),
                    other => panic!("{code}: {other:?}"),
                }
            }
        }
        assert!(matches!(answer(&json!({ "code": 999999, "is_transient": true })), CallError::Later { .. }));
    }

    #[test]
    fn an_error_in_whatever_form_is_told_with_its_code() {
        for (error, wanted) in [
            (json!({ "code": 1, "message": "m", "error_data": { "details": "d" } }), "1: d"),
            (json!({ "code": 1, "message": "m", "error_data": "plain" }), "1: plain"),
            (json!({ "code": 1, "title": "t" }), "1: t"),
            (json!({ "code": 1 }), "1: no reason is told"),
        ] {
            assert_eq!(says(&error), wanted);
        }
        for body in ["<html>403</html>", "null", "[]", r#"{"error":null}"#, r#"{"error":{"code":null}}"#, ""] {
            let reply = Reply { status: 403, headers: Vec::new(), body: Bytes::from(body) };
            let error = refused(&reply, 6, Timestamp::UNIX_EPOCH);
            assert!(matches!(error, CallError::Refused { refusal: Refusal::Ours, .. }), "{body}: {error:?}");
        }
    }
}
