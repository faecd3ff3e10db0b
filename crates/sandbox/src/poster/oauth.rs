//! Access by OAuth: a code for the browser, and the code for a token; and the token of a page in the console.

use serde_json::{Value, json};

use super::{State, fields, md5};
use crate::wire::{self, Answer, Call};

/// OAuth words its refusals without the usual wrapper.
fn oauth_refused(message: &str) -> Answer {
    Answer::json(200, &json!({"code": 400, "error_type": "OAuthException", "error_message": message}))
}

impl State {
    /// The owner is asked, and agrees: the browser goes back with a code. Nothing of a state comes back.
    pub(super) fn consent(&mut self, call: &Call) -> Answer {
        let asked = |name: &str| call.asked(name).unwrap_or_default();
        let id = call.asked("application_id").or_else(|| call.asked("client_id")).unwrap_or_default();
        let redirect = asked("redirect_uri");
        if id != self.settings.application_id.to_string() || !redirect.starts_with("http") || asked("response_type") != "code" {
            return oauth_refused("Application was not found.");
        }
        let code = wire::plain_uuid();
        let join = if redirect.contains('?') { '&' } else { '?' };
        let location = format!("{redirect}{join}code={code}&account={}", self.settings.account);
        self.codes.insert(code, redirect);
        let mut answer = Answer::empty(302);
        answer.headers.push(("location", location));
        answer
    }

    pub(super) fn access_token(&mut self, call: &Call) -> Answer {
        self.exchanges += 1;
        if !call.header("content-type").starts_with("multipart/form-data") {
            return oauth_refused("Only multipart/form-data is taken.");
        }
        let given = fields(call);
        let field = |name: &str| given.get(name).and_then(Value::as_str).unwrap_or_default();
        let ours = field("application_id") == self.settings.application_id.to_string()
            && field("application_secret") == self.settings.application_secret;
        if !ours || field("grant_type") != "authorization_code" {
            return oauth_refused("Application was not found.");
        }
        // A code works once, and only with the address that it was sent to.
        if self.codes.remove(field("code")).is_none_or(|redirect| redirect != field("redirect_uri")) {
            return oauth_refused("Matching code was not found or was already used.");
        }
        Answer::json(200, &self.grant())
    }

    /// `auth/manage`: its refusals have a shape of their own.
    pub(super) fn manage(&mut self, call: &Call) -> Answer {
        let given = fields(call);
        let field = |name: &str| given.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let refused = |code: i64, message: &str, field: &str| {
            Answer::json(200, &json!({"error": code, "message": message, "field": field}))
        };
        for name in ["application_id", "application_secret", "code", "verify"] {
            if field(name).is_none_or(|value| value.is_empty()) {
                return refused(34, "Field is empty", name);
            }
        }
        let (id, secret) = (self.settings.application_id.to_string(), &self.settings.application_secret);
        if field("application_id").as_ref() != Some(&id) || field("application_secret").as_ref() != Some(secret) {
            return refused(143, "Application was not found", "application_id");
        }
        let right = md5(&format!("{id}:{secret}:{}", field("code").unwrap_or_default()));
        if field("verify") != Some(right) {
            return refused(142, "Verify code is not correct", "verify");
        }
        Answer::json(200, &self.grant())
    }

    fn grant(&mut self) -> Value {
        let sample = include_str!("../../samples/poster/oauth_access_token_response.json");
        let mut grant: Value = serde_json::from_str(sample).unwrap_or_default();
        let token = format!("{}:{}", self.settings.account_number, wire::plain_uuid());
        grant["access_token"] = json!(token);
        grant["account_number"] = json!(self.settings.account_number);
        self.tokens.insert(token);
        grant
    }
}
