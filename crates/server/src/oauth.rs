//! Logins that begin with a person in a browser: a code opens the start page once, a one-time state comes back with the
//! provider's redirect.
//!
//! A browser cannot send the hub's key, and a key does not belong in a URL. So whoever holds a key asks the API for a code, and
//! the URL with that code is opened. Code and state work once, for one connection, and only while the key that began the
//! login is good and an owner's; the browser that opened the start page must be the one that comes back.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Deserialize;
use uzel_engine::{Link, Role, Vault};
use uzel_model::Id;

use crate::{
    App, Problem,
    api::{Caller, Holder, Path, Query},
};

pub(crate) const CODE_LIFE: SignedDuration = SignedDuration::from_mins(10);
const STATE_LIFE: SignedDuration = SignedDuration::from_mins(20);
/// Logins under way; of those that one key began, a tenth.
const BEGUN_MAX: usize = 1_000;
const COOKIE: &str = "uzel_login";

/// A login under way.
struct Begun {
    connection: Id,
    holder: Holder,
    /// What the browser that opened the start page must bring back; `None`: it was no browser.
    cookie: Option<String>,
    until: Timestamp,
}

/// Codes and states that are out, each with what it stands for.
#[derive(Default)]
pub(crate) struct Logins {
    codes: Mutex<HashMap<String, Begun>>,
    states: Mutex<HashMap<String, Begun>>,
}

fn put(begun: &Mutex<HashMap<String, Begun>>, new: Begun, now: Timestamp) -> Result<String, Problem> {
    let mut begun = begun.lock();
    begun.retain(|_, begun| begun.until > now);
    let own = begun.values().filter(|begun| begun.holder == new.holder).count();
    if begun.len() >= BEGUN_MAX || own >= BEGUN_MAX / 10 {
        return Err(Problem::busy("too many logins are under way"));
    }
    let word = random_word();
    begun.insert(word.clone(), new);
    Ok(word)
}

/// Taken out at once: it works once.
fn take(begun: &Mutex<HashMap<String, Begun>>, word: &str, now: Timestamp) -> Option<Begun> {
    begun.lock().remove(word).filter(|begun| begun.until > now)
}

fn random_word() -> String {
    Vault::new_key("").expose().to_owned()
}

/// The URL that a person opens to log a connection in.
pub(crate) fn begin(app: &App, caller: &Caller, link: &Link) -> Result<String, Problem> {
    if link.connector.authorization().is_none() {
        return Err(Problem::bad_request("this provider needs no login in a browser"));
    }
    let public_url = app.engine.options.public_url.as_deref();
    let public_url =
        public_url.ok_or_else(|| Problem::bad_request("the hub does not know its public address: set `public_url`"))?;
    let now = app.engine.clock.now();
    let begun = Begun { connection: link.id, holder: caller.holder.clone(), cookie: None, until: now + CODE_LIFE };
    let code = put(&app.logins.codes, begun, now)?;
    Ok(format!("{public_url}/oauth/{}/start?code={code}", link.provider.id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    /// From the API, for a browser.
    code: Option<String>,
    /// For a program that sends its key in a header.
    connection: Option<String>,
}

pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let Query(start) = Query::<Start>::from_request_parts(&mut parts, &app).await?;
    let now = app.engine.clock.now();
    let (connection, holder, cookie) = match (start.code, start.connection) {
        (Some(code), None) => {
            let begun = take(&app.logins.codes, &code, now).ok_or_else(stale)?;
            (begun.connection, begun.holder, Some(random_word()))
        }
        (None, Some(connection)) => {
            let caller = Caller::from_request_parts(&mut parts, &app).await?;
            (caller.connection(&app, &connection)?.id, caller.holder, None)
        }
        _ => return Err(Problem::bad_request("`uzel connections login` gives the URL to open, with a `code` in it")),
    };
    let link = usable(&app, &provider, connection, &holder)?;
    let authorization =
        link.connector.authorization().ok_or_else(|| Problem::bad_request("this provider needs no login in a browser"))?;
    if cookie.is_none() && !authorization.returns_state() {
        return Err(Problem::bad_request("this login needs a browser: open the URL that `uzel connections login` gives"));
    }
    let state = put(&app.logins.states, Begun { connection, holder, cookie: cookie.clone(), until: now + STATE_LIFE }, now)?;
    let mut answer = (StatusCode::FOUND, [(header::LOCATION, authorization.start_url(&state, &redirect_url(&app, &provider)))])
        .into_response();
    if let Some(cookie) = cookie {
        let secure =
            if app.engine.options.public_url.as_deref().is_some_and(|url| url.starts_with("https:")) { "; Secure" } else { "" };
        let text = format!("{COOKIE}={cookie}; Path=/oauth; Max-Age={}; HttpOnly; SameSite=Lax{secure}", STATE_LIFE.as_secs());
        answer.headers_mut().insert(header::SET_COOKIE, HeaderValue::try_from(text).expect("letters and digits make a header"));
    }
    // The next page must not learn this address.
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(answer)
}

pub(crate) async fn callback(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let now = app.engine.clock.now();
    let begun = match query.iter().find(|(name, _)| name == "state") {
        Some((_, state)) => take(&app.logins.states, state, now),
        None => take_by_cookie(&app, &provider, &headers, now),
    };
    let begun = begun.ok_or_else(stale)?;
    if begun.cookie.is_some_and(|cookie| !brings(&headers, &cookie)) {
        return Err(Problem::bad_request("this login was begun in another browser: begin again"));
    }
    let link = usable(&app, &provider, begun.connection, &begun.holder)?;
    let redirect_url = redirect_url(&app, &provider);
    app.engine.authorize(&link, query, redirect_url).await.map_err(Problem::failed)?;
    Ok(Html("<!doctype html><meta charset=utf-8><title>Uzel</title><p>Готово, подключение работает. Tayyor, ulanish ishlayapti. Done, the connection works.").into_response())
}

/// Where the provider sends the browser back to.
fn redirect_url(app: &App, provider: &str) -> String {
    format!("{}/oauth/{provider}/callback", app.engine.options.public_url.as_deref().unwrap_or_default())
}

/// The login of a provider that gives no state back: the one that this browser began last.
fn take_by_cookie(app: &App, provider: &str, headers: &HeaderMap, now: Timestamp) -> Option<Begun> {
    let world = app.engine.world();
    let stateless = |begun: &Begun| {
        let link = world.links.get(&begun.connection).filter(|link| link.provider.id == provider);
        link.and_then(|link| link.connector.authorization()).is_some_and(|authorization| !authorization.returns_state())
    };
    let is_its = |begun: &Begun| begun.cookie.as_ref().is_some_and(|cookie| brings(headers, cookie)) && stateless(begun);
    let mut states = app.logins.states.lock();
    let state = states.iter().find(|(_, begun)| is_its(begun)).map(|(state, _)| state.clone())?;
    states.remove(&state).filter(|begun| begun.until > now)
}

/// The connection, while whoever began the login is still an owner who sees it: a login replaces the one that stands, so a
/// key that only reads must neither begin nor end one.
fn usable(app: &App, provider: &str, connection: Id, holder: &Holder) -> Result<Arc<Link>, Problem> {
    let world = app.engine.world();
    let sees = |link: &Arc<Link>| match holder {
        Holder::Socket => true,
        Holder::Key { hash, .. } => world.by_api_hash(hash).is_some_and(|key| {
            key.is_good(app.engine.clock.now())
                && matches!(key.role, Role::Admin | Role::Owner)
                && key.of.is_none_or(|merchant| merchant == link.merchant)
        }),
    };
    let link = world.links.get(&connection).filter(|link| link.provider.id == provider && sees(link));
    link.cloned().ok_or_else(|| Problem::not_found("no such connection of this provider"))
}

fn stale() -> Problem {
    Problem::bad_request("this login was not begun here, was used already, or took too long: begin again")
}

fn brings(headers: &HeaderMap, cookie: &str) -> bool {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(name, value)| name == COOKIE && uzel_model::signature::equal(value, cookie))
}
