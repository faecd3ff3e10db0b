//! Answers of the Bot API: `{"ok":true,"result":…}`, or a code and a description. Decided by the code and the parameters; the
//! description only where one code means several things.

use serde_json::Value;
use uzel_model::{CallError, Refusal, Reply};

/// What was asked for, or why not.
pub(super) fn result(reply: &Reply) -> Result<Value, CallError> {
    let mut answer: Value = match reply.json() {
        Ok(answer) => answer,
        // A front end may refuse in a page of its own.
        Err(_) if reply.status >= 400 => return Err(refused(reply.status.into(), "")),
        Err(error) => return Err(error),
    };
    if answer["ok"] == true {
        return Ok(answer["result"].take());
    }
    let code = answer["error_code"].as_i64().unwrap_or(i64::from(reply.status));
    if code < 400 {
        return Err(CallError::Unreadable("the answer is neither a result nor a refusal".to_owned()));
    }
    Err(refused(code, answer["description"].as_str().unwrap_or_default()))
}

/// Whom a refusal concerns.
fn refused(code: i64, description: &str) -> CallError {
    let said = description.to_lowercase();
    let begins = |starts: &[&str]| {
        let said = said.strip_prefix("bad request: ").unwrap_or(&said);
        starts.iter().any(|start| said.starts_with(start))
    };
    let refusal = match code {
        // The token, or a second program that uses it.
        401 | 404 | 409 => Refusal::Account,
        403 => Refusal::NotHere,
        400 if begins(&["chat not found", "user not found", "peer_id_invalid", "not enough rights", "have no rights"]) => {
            Refusal::NotHere
        }
        400 if begins(&["message is too long", "message text is empty", "can't parse", "wrong file", "photo_invalid"]) => {
            Refusal::Ours
        }
        413 => Refusal::Ours,
        _ => Refusal::Command,
    };
    let said = if description.is_empty() { "no reason is told" } else { description };
    CallError::refused(refusal, code, format!("Telegram answers {code}: {said}"))
}

/// Where a group is from now on, as a refusal tells it.
pub(super) fn migrated(reply: &Reply) -> Option<i64> {
    let answer: Value = reply.json().ok()?;
    answer["parameters"]["migrate_to_chat_id"].as_i64()
}

/// Whether our mark-up was at fault: plain, the message can go.
pub(super) fn is_unparsed(reply: &Reply) -> bool {
    let answer: Option<Value> = reply.json().ok();
    let said = answer.and_then(|answer| answer["description"].as_str().map(str::to_lowercase)).unwrap_or_default();
    reply.status == 400 && said.contains("can't parse entities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_is_sorted_by_whom_it_concerns() {
        let judged = |status: u16, body: &str| {
            let reply = Reply { status, headers: Vec::new(), body: body.to_owned().into() };
            match result(&reply) {
                Err(CallError::Refused { refusal, .. }) => refusal,
                other => panic!("{body}: {other:?}"),
            }
        };
        let said = |code: u16, text: &str| {
            judged(code, &serde_json::json!({ "ok": false, "error_code": code, "description": text }).to_string())
        };
        assert_eq!(said(403, "Forbidden: bot was blocked by the user"), Refusal::NotHere);
        assert_eq!(said(400, "BAD REQUEST: Chat Not Found"), Refusal::NotHere);
        assert_eq!(said(400, "Bad Request: message is too long"), Refusal::Ours);
        assert_eq!(said(400, "Bad Request: something new"), Refusal::Command);
        assert_eq!(said(404, "Not Found"), Refusal::Account);
        assert_eq!(said(409, "Conflict: terminated by other getUpdates request"), Refusal::Account);
        assert_eq!(said(413, "Request Entity Too Large"), Refusal::Ours);
        assert_eq!(judged(403, "<html>"), Refusal::NotHere);
        for body in ["<html>", "[]", "null", "{}", r#"{"ok":"true"}"#] {
            let reply = Reply { status: 200, headers: Vec::new(), body: body.to_owned().into() };
            assert!(matches!(result(&reply), Err(CallError::Unreadable(_))), "{body}");
        }
    }
}
