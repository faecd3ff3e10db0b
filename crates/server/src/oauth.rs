//! Logins that begin with a person in a browser: start with a one-time state, end with the provider's redirect.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use uzel_model::Id;

use crate::{App, Problem, api::caller};

const STATE_LIFE: SignedDuration = SignedDuration::from_mins(20);
const BEGUN_MAX: usize = 1_000;

/// An authorisation under way.
pub(crate) struct Begun {
    connection: Id,
    until: Timestamp,
}

#[derive(Deserialize)]
pub(crate) struct Start {
    connection: String,
    /// A browser cannot send headers: the key may come here on this page only, and is used at once.
    #[serde(default)]
    api_key: Option<String>,
}

pub(crate) async fn start(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    Query(start): Query<Start>,
    mut headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(value) = start.api_key.and_then(|key| format!("Bearer {key}").parse().ok()) {
        headers.insert(header::AUTHORIZATION, value);
    }
    let caller = caller(&app, &headers, false)?;
    let world = app.engine.world();
    let link = world
        .connection(&start.connection)
        .filter(|link| link.provider.id == provider && caller.merchant.is_none_or(|merchant| merchant == link.merchant))
        .ok_or_else(|| Problem::not_found("no such connection of this provider"))?;
    let authorization =
        link.connector.authorization().ok_or_else(|| Problem::bad_request("this provider needs no login in a browser"))?;
    let state = uzel_engine::Vault::new_key("").expose().to_owned();
    let mut logins = app.logins.lock();
    let now = app.engine.clock.now();
    logins.retain(|_, begun| begun.until > now);
    if logins.len() >= BEGUN_MAX {
        return Err(Problem::busy("too many logins are under way"));
    }
    logins.insert(state.clone(), Begun { connection: link.id, until: now + STATE_LIFE });
    Ok((StatusCode::FOUND, [(header::LOCATION, authorization.start_url(&state))]).into_response())
}

pub(crate) async fn callback(
    State(app): State<Arc<App>>,
    Path(provider): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let state = query.iter().find(|(name, _)| name == "state").map(|(_, state)| state.clone()).unwrap_or_default();
    // Taken out at once: a state works once.
    let begun = app.logins.lock().remove(&state).filter(|begun| begun.until > app.engine.clock.now());
    let begun = begun
        .ok_or_else(|| Problem::bad_request("this login was not begun here, or it took more than 20 minutes: begin again"))?;
    let link = app.engine.world().links.get(&begun.connection).cloned().filter(|link| link.provider.id == provider);
    let link = link.ok_or_else(|| Problem::not_found("no such connection of this provider"))?;
    let redirect_url = format!("{}/oauth/{provider}/callback", app.engine.options.public_url.as_deref().unwrap_or_default());
    app.engine.authorize(&link, &query, &redirect_url).await.map_err(Problem::failed)?;
    Ok(Html("<!doctype html><meta charset=utf-8><title>Uzel</title><p>Готово, подключение работает. Tayyor, ulanish ishlayapti. Done, the connection works.").into_response())
}
