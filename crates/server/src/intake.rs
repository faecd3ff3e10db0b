//! The road in: verify, take the credentials out, append durably, answer in the provider's words.
//!
//! Nothing is answered 2xx before it would survive a power cut, and nothing here waits for an outside call. A stranger's
//! request is refused and counted, never journalled.

use std::{sync::Arc, time::Instant};

use axum::{
    body::{Body, to_bytes},
    extract::{Path, Request as HttpRequest, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response as HttpResponse},
};
use tracing::Instrument;
use uzel_engine::{Link, World, trace};
use uzel_model::{Connector, Intake, Rejection, Request, Response};

use crate::{
    App, BODY_BYTES_MAX, Problem,
    door::{Guessed, TooMany},
    refusals::Place,
};

/// Standard places for a key, beside those a provider has of its own.
const KEY_HEADERS: [&str; 2] = ["x-api-key", "authorization"];
const COOKIE_HEADERS: [&str; 2] = ["cookie", "proxy-authorization"];

/// `/api/webhook/{provider}?key=…`: the key tells whose it is.
pub(crate) async fn by_provider(State(app): State<Arc<App>>, Path(provider): Path<String>, request: HttpRequest) -> HttpResponse {
    let Some(provider) = app.engine.providers.iter().find(|known| known.id == provider) else {
        return Problem::not_found("no such provider").into_response();
    };
    let request = match read(request, &app).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let world = app.engine.world();
    match by_key(&app, provider.id, &request) {
        Some((link, key)) => receive(&app, link, Request { key: Some(key), ..request }).await,
        None => {
            let rejection = if keys(&world, provider.id, &request).is_empty() { Rejection::Unsigned } else { Rejection::Forged };
            let answer = Response::json(401, &serde_json::json!({ "error": rejection.to_string() }));
            let any = world.links.values().find(|link| link.provider.id == provider.id);
            refuse(&app, Place::Provider { id: provider.id, any: any.map(Arc::as_ref) }, &request, rejection, answer)
        }
    }
}

/// `/hooks/{connection id}`: the connection is known, the proof is the connector's matter.
pub(crate) async fn by_connection(
    State(app): State<Arc<App>>,
    Path(connection): Path<String>,
    request: HttpRequest,
) -> HttpResponse {
    hook(app, &connection, None, request).await
}

pub(crate) async fn below_connection(
    State(app): State<Arc<App>>,
    Path((connection, below)): Path<(String, String)>,
    request: HttpRequest,
) -> HttpResponse {
    hook(app, &connection, Some(&below), request).await
}

async fn hook(app: Arc<App>, connection: &str, below: Option<&str>, request: HttpRequest) -> HttpResponse {
    let world = app.engine.world();
    let link = connection.parse().ok().and_then(|id| world.links.get(&id)).or_else(|| world.connection(connection)).cloned();
    let Some(link) = link else { return Problem::not_found("no such connection").into_response() };
    let mut request = match read(request, &app).await {
        Ok(request) => request,
        Err(problem) => return problem.into_response(),
    };
    let in_path = below.filter(|_| link.connector.key_in_path());
    if in_path.is_some() {
        // The path is kept: the key in it never is.
        request.path = format!("/hooks/{connection}/***");
    }
    let key = keys(&world, link.provider.id, &request)
        .into_iter()
        .chain(in_path)
        .find_map(|key| world.by_webhook_key(&app.engine.vault, link.provider.id, key))
        .filter(|(owner, _)| owner.id == link.id)
        .map(|(_, id)| id);
    receive(&app, link, Request { key, ..request }).await
}

/// Everything in the request that may be a webhook key.
fn keys<'a>(world: &World, provider: &str, request: &'a Request) -> Vec<&'a str> {
    let headers = KEY_HEADERS.iter().chain(world.credential_headers(provider));
    let in_headers = headers.filter_map(|name| request.header(name)).map(|value| {
        let bearer = value.get(..7).filter(|start| start.eq_ignore_ascii_case("bearer ")).map(|_| &value[7..]);
        bearer.unwrap_or(value).trim()
    });
    request.query("key").into_iter().chain(in_headers).filter(|key| !key.is_empty()).collect()
}

/// The connection of this provider whose webhook key came with a request, and the key's id.
pub(crate) fn by_key(app: &App, provider: &str, request: &Request) -> Option<(Arc<Link>, String)> {
    let world = app.engine.world();
    keys(&world, provider, request).into_iter().find_map(|key| world.by_webhook_key(&app.engine.vault, provider, key))
}

pub(crate) async fn receive(app: &App, link: Arc<Link>, request: Request) -> HttpResponse {
    let trace = trace_of(request.header("traceparent"));
    let span = trace::webhook(&trace, &link);
    received(app, link, request, trace).instrument(span).await
}

async fn received(app: &App, link: Arc<Link>, mut request: Request, trace: String) -> HttpResponse {
    let began = Instant::now();
    let provider = link.provider.id;
    let metrics = &app.engine.metrics;
    if !link.connector.methods().contains(&request.method.as_str()) {
        metrics.request(provider, "webhook", "method");
        let allow = link.connector.methods().join(", ");
        return ([(header::ALLOW, allow)], Problem::method_not_allowed()).into_response();
    }
    if let Err(rejection) = link.connector.verify(&request) {
        let answer = link.connector.refuse(&request, &rejection);
        return refuse(app, Place::Connection(&link), &request, rejection, answer);
    }
    let intake = link.connector.intake(&request);
    if let Intake::Greets(response) = intake {
        metrics.request(provider, "greeting", "ok");
        return http(response);
    }
    if let Some(session) = link.connector.brings_login(&request)
        && let Err(error) = app.engine.keep_login(&link, session, &trace).await
    {
        // It is told once more.
        metrics.request(provider, "webhook", "busy");
        return trace::failing(&trace, &link).in_scope(|| Problem::from(error)).into_response();
    }
    if let Some(body) = link.connector.scrub(&request) {
        request.body = body;
    }
    take_credentials_out(&mut request, link.connector.as_ref());
    match intake {
        Intake::Tells(response) | Intake::Greets(response) => {
            // The store's writer finishes what it was handed even if the provider hangs up here.
            match app.engine.accept(&link, request, &response, trace.clone()).await {
                Ok(entry) => {
                    tracing::debug!(entry.id = %entry, "a webhook is journalled");
                    app.engine.seen(link.id);
                    metrics.webhook(provider);
                    metrics.request(provider, "webhook", "ok");
                    metrics.http.accepted(began.elapsed());
                    http(response)
                }
                Err(error) => {
                    metrics.request(provider, "webhook", "busy");
                    trace::failing(&trace, &link).in_scope(|| Problem::from(error)).into_response()
                }
            }
        }
    }
}

/// Refuses a stranger: counted, kept for whoever looks for the reason, and slowed when there are too many from one address.
fn refuse(app: &App, place: Place<'_>, request: &Request, rejection: Rejection, answer: Response) -> HttpResponse {
    let world = app.engine.world();
    let (provider, guessed) = match place {
        Place::Connection(link) => (link.provider.id, Guessed::Connection(link.id)),
        Place::Provider { id, .. } => (id, Guessed::Provider { provider: id, key: first_key(&world, id, request) }),
    };
    if let Err(TooMany { retry_after_s }) = app.door.failed(request.peer, guessed) {
        app.engine.metrics.request(provider, "webhook", "limited");
        let words = "too many requests with wrong keys came from this address";
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, retry_after_s)], words).into_response();
    }
    app.engine.metrics.request(provider, "webhook", "refused");
    let keys = keys(&world, provider, request);
    app.refusals.keep(&app.engine.vault, place, request, &keys, &rejection.to_string());
    http(answer)
}

fn first_key<'a>(world: &World, provider: &str, request: &'a Request) -> &'a str {
    keys(world, provider, request).first().copied().unwrap_or_default()
}

/// What proved the request is named by the key's id; the key itself is never journalled.
fn take_credentials_out(request: &mut Request, connector: &dyn Connector) {
    let (own, parameters) = (connector.credential_headers(), connector.credential_parameters());
    request.query.retain(|(name, _)| name != "key" && !parameters.contains(&name.as_str()));
    request.headers.retain(|(name, _)| {
        let name = name.as_str();
        !KEY_HEADERS.contains(&name) && !COOKIE_HEADERS.contains(&name) && !own.contains(&name)
    });
}

/// The trace that the sender began (`traceparent`), or a new one.
pub(crate) fn trace_of(parent: Option<&str>) -> String {
    let given = parent.and_then(|value| value.split('-').nth(1));
    let fits = |trace: &&str| {
        trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()) && trace.bytes().any(|byte| byte != b'0')
    };
    match given.filter(fits) {
        Some(trace) => trace.to_ascii_lowercase(),
        None => format!("{:032x}", rand::random::<u128>() | 1),
    }
}

async fn read(request: HttpRequest, app: &App) -> Result<Request, Problem> {
    let (parts, body): (Parts, Body) = request.into_parts();
    let peer = app.door.client(&parts.headers, &parts.extensions);
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Problem::too_large());
    }
    let body = tokio::time::timeout(app.door.patience(), to_bytes(body, BODY_BYTES_MAX)).await;
    let body = body.map_err(|_| Problem::too_slow())?.map_err(|error| {
        let too_large = std::error::Error::source(&error).is_some_and(|cause| cause.to_string().contains("length limit"));
        if too_large { Problem::too_large() } else { Problem::bad_request("the connection broke before the body was whole") }
    })?;
    let query = parts.uri.query().map(|query| serde_urlencoded::from_str(query).unwrap_or_default()).unwrap_or_default();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Ok(Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query,
        headers,
        body,
        received_at: app.engine.clock.now(),
        peer,
        key: None,
    })
}

fn http(response: Response) -> HttpResponse {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut http =
        (status, [(header::CONTENT_TYPE, HeaderValue::from_static(response.content_type))], response.body).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        http.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    http
}
