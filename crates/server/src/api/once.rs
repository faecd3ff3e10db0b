//! A caller's own key (`Idempotency-Key`, by the IETF draft of that name): what was done under it is done once, and asked again it
//! gets the same answer.
//!
//! A key belongs to who sent it and to the route. It is kept for three days with what was made; what failed changed nothing, so its
//! key may be used again.

use std::sync::Arc;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::Response,
};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use uzel_model::{check::Fault, signature::fingerprint};
use uzel_store::{Begun, KeptAnswer};

use super::{
    caller::Caller,
    route::{Route, respond},
};
use crate::{App, Problem};

pub(super) const HEADER: &str = "idempotency-key";
const LIFE: SignedDuration = SignedDuration::from_hours(72);
/// After this, whoever began it is taken for gone.
const HOLD_MS: i64 = 60_000;
const KEY_BYTES_MAX: usize = 255;
const CONTEXT: &[u8] = b"answer";

/// Whether a route heeds a caller's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Once {
    No,
    May,
    Must,
}

/// What stands for one request of one caller.
pub(super) struct Key {
    key: [u8; 16],
    body: [u8; 16],
}

impl Key {
    /// `None`: the route heeds none, or none came.
    pub(super) fn of(route: &Route, caller: &Caller, parts: &Parts, body: &[u8]) -> Result<Option<Self>, Problem> {
        let wrong = |why: String| Problem::unreadable("head", Fault::new("Idempotency-Key", why));
        let given = match (route.once, parts.headers.get(HEADER)) {
            (Once::No, _) | (Once::May, None) => return Ok(None),
            (Once::Must, None) => {
                return Err(wrong("is missing: send a key of your own, so that a repeat is known".to_owned()));
            }
            (Once::May | Once::Must, Some(given)) => given,
        };
        let given = given.to_str().map_err(|_| wrong("must be of visible ASCII signs".to_owned()))?.trim();
        if given.is_empty() || given.len() > KEY_BYTES_MAX {
            return Err(wrong(format!("must have 1 to {KEY_BYTES_MAX} bytes, not {}", given.len())));
        }
        let path = parts.uri.path().as_bytes();
        let proof = caller.holder.proof();
        Ok(Some(Self {
            key: fingerprint([proof.as_slice(), b"request", route.method.as_str().as_bytes(), path, given.as_bytes()]),
            body: fingerprint([parts.uri.query().unwrap_or_default().as_bytes(), body]),
        }))
    }
}

/// Gives the answer that was given before, where there is one.
pub(super) async fn begin(app: &App, key: Option<&Key>) -> Result<Option<Response>, Problem> {
    let Some(Key { key, body }) = key else { return Ok(None) };
    let now = app.engine.clock.now();
    match app.engine.store.begin(*key, *body, now, HOLD_MS, now + LIFE).await? {
        Begun::New => Ok(None),
        Begun::Running => Err(Problem::in_progress()),
        Begun::Other => {
            Err(Problem::invalid(vec![Fault::new("Idempotency-Key", "was used for another request: take a new one for each")]))
        }
        Begun::Done(kept) => {
            let unreadable = || Problem::busy("the kept answer cannot be read");
            let status = StatusCode::from_u16(kept.status).map_err(|_| unreadable())?;
            let plain = app.engine.vault.open(CONTEXT, &kept.body).map_err(|_| unreadable())?;
            let Kept { head, body } = serde_json::from_slice(&plain).map_err(|_| unreadable())?;
            let mut response = respond(status, body.into_bytes());
            for (name, value) in head {
                let (name, value) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
                response.headers_mut().extend(name.ok().zip(value.ok()));
            }
            response.headers_mut().insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
            Ok(Some(response))
        }
    }
}

/// An answer as it is sealed: where what was made stands and its version belong to it.
#[derive(Serialize, Deserialize)]
struct Kept {
    head: Vec<(String, String)>,
    body: String,
}

impl Kept {
    fn of((_, head, body): &Done) -> Self {
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let head = head.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Self { head, body: String::from_utf8_lossy(body).into_owned() }
    }
}

/// What was answered: status, headers and body.
pub(super) type Done = (StatusCode, Vec<(HeaderName, HeaderValue)>, Vec<u8>);

/// Keeps what was made, or gives the key back. A store that cannot write leaves the key to its time.
pub(super) async fn end(app: &Arc<App>, key: Option<&Key>, done: Option<&Done>) {
    let Some(Key { key, .. }) = key else { return };
    // An answer may show a key, once.
    let kept = done.map(|done| {
        let plain = serde_json::to_vec(&Kept::of(done)).expect("texts are JSON");
        KeptAnswer { status: done.0.as_u16(), body: app.engine.vault.seal(CONTEXT, &plain) }
    });
    if let Err(error) = app.engine.store.end(*key, kept).await {
        tracing::warn!("the answer under an idempotency key cannot be kept: {error}");
    }
}
