//! Who sends a request, and the logins that Evotor asks the hub for.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use uzel_model::{Bytes, Request, Response, Secret, port::Session, signature};

use super::Evotor;
use crate::{scrub, tree};

/// Bodies of logins are small: what is larger is none, wherever it came.
const LOGIN_BYTES_MAX: usize = 8 << 10;

/// What a request is about, as far as its proof goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A user registers.
    Create,
    /// A user logs in.
    Verify,
    /// The cloud's token of a user.
    Token,
    Other,
}

impl Asked {
    /// By the path's end, as Evotor's own addresses have it; else by what the body holds.
    pub(super) fn of(request: &Request) -> Self {
        let path = request.path.trim_end_matches('/');
        for (end, asked) in [("/user/create", Self::Create), ("/user/verify", Self::Verify), ("/user/token", Self::Token)] {
            if path.ends_with(end) {
                return asked;
            }
        }
        if request.body.len() > LOGIN_BYTES_MAX || !names(&request.body, &["password", "token"]) {
            return Self::Other;
        }
        let Ok(body) = request.json() else { return Self::Other };
        match (user(&body), body.get("password"), body.get("token")) {
            (Some(_), Some(_), _) => Self::Verify,
            (Some(_), None, Some(_)) => Self::Token,
            _ => Self::Other,
        }
    }
}

/// Whether one of the names may stand in the body.
fn names(body: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| scrub::mark(body, name).is_some())
}

/// The name of the member, and the user's id in it: older kits write `userUuid`.
fn user(body: &Value) -> Option<(&'static str, String)> {
    ["userId", "userUuid"].into_iter().find_map(|name| Some((name, tree::text(&body[name])?)))
}

/// What stands in `Authorization`, without the word before it: Evotor's own examples leave it out, or write `Basic` before a bare token.
fn given(request: &Request) -> Option<&str> {
    let value = request.header("authorization")?.trim();
    let strip = |word: &str| {
        let start = value.get(..word.len()).filter(|start| start.eq_ignore_ascii_case(word))?;
        value[start.len()..].strip_prefix(' ').map(str::trim)
    };
    Some(strip("bearer").or_else(|| strip("basic")).unwrap_or(value)).filter(|given| !given.is_empty())
}

impl Evotor {
    pub(super) fn proves(&self, request: &Request, asked: Asked) -> bool {
        let is = |token: &Option<Secret>| {
            token.as_ref().zip(given(request)).is_some_and(|(token, given)| signature::equal(token.expose(), given))
        };
        let pair = self.login.as_deref().zip(self.password.as_ref());
        let pair = pair.map(|(login, password)| Secret::new(BASE64_STANDARD.encode(format!("{login}:{}", password.expose()))));
        let application = request.key.is_some() || is(&self.application_token) || is(&pair);
        application || (asked == Asked::Other && is(&self.user_token))
    }

    pub(super) fn created(&self, request: &Request) -> Response {
        match self.asked_for(request) {
            Ok((name, id, token)) => Response::json(200, &json!({ name: id, "token": token.expose() })),
            Err(refusal) => refusal,
        }
    }

    pub(super) fn logged_in(&self, request: &Request) -> Response {
        let (name, id, token) = match self.asked_for(request) {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
        let body = request.json().unwrap_or_default();
        let is = |name: &str, wanted: &str| body[name].as_str().is_some_and(|given| signature::equal(given, wanted));
        let right = match (&self.login, &self.password) {
            (Some(login), Some(password)) => is("username", login) & is("password", password.expose()),
            _ => false,
        };
        match right {
            true => Response::json(200, &json!({ name: id, "hasBilling": false, "token": token.expose() })),
            false => error(401, json!({ "code": 1006 })),
        }
    }

    /// The user who is asked for, and the token to give; or why not.
    fn asked_for(&self, request: &Request) -> Result<(&'static str, String, &Secret), Response> {
        let body = request.json().map_err(|_| error(400, json!({ "code": 2001 })))?;
        let missing = || error(400, json!({ "code": 2002, "reason": "missing", "subject": "userId" }));
        let (name, id) = user(&body).ok_or_else(missing)?;
        let impossible = || error(409, json!({ "code": 2004 }));
        if self.user_id.as_ref().is_some_and(|ours| *ours != id) {
            return Err(impossible());
        }
        Ok((name, id, self.user_token.as_ref().ok_or_else(impossible)?))
    }

    /// The cloud's token, which Evotor hands over after the installation.
    pub(super) fn pushed_login(&self, request: &Request) -> Option<Session> {
        if Asked::of(request) != Asked::Token {
            return None;
        }
        let body = request.json().ok()?;
        let (_, id) = user(&body)?;
        if self.user_id.as_ref().is_some_and(|ours| *ours != id) {
            return None;
        }
        let token = body["token"].as_str().map(str::trim).filter(|token| super::login::fits(token))?;
        Some(Session { access: Secret::new(token), refresh: None, expires_at: None })
    }
}

fn error(status: u16, error: Value) -> Response {
    Response::json(status, &json!({ "errors": [error] }))
}

/// The body without a token or password in it.
pub(super) fn scrub(request: &Request) -> Option<Bytes> {
    if !names(&request.body, &["token", "password"]) || (Asked::of(request) == Asked::Other && request.json().is_ok()) {
        return None;
    }
    let without = |name: &str, body: &Option<Bytes>| {
        let request = Request { body: body.clone().unwrap_or_else(|| request.body.clone()), ..request.clone() };
        scrub::without(&request, name)
    };
    let kept = without("password", &None);
    without("token", &kept).or(kept)
}
