//! Where tills call: HTTP on this machine.
//!
//! A browser on the same machine could be made to call it by any page: whoever names an origin, or another host than this one, is
//! refused.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    routing::{get, post},
};
use bytes::Bytes;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::{net::TcpListener, sync::Semaphore};
use tower::ServiceExt;

use crate::{
    bridge::{Bridge, Caller, Delivery, fault, now_ms, reply},
    client::PROOF_HEADER,
    queue::WishError,
    record::Call,
    remote::Reply,
    sign,
    wire::{self, Cancel, Code, Commit, Faults, Quote, Refund},
};

const BODY_BYTES_MAX: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 256;
/// How long a till may take for a head or a body.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long `/queue/flush` waits for the sender.
const FLUSH_TIME: Duration = Duration::from_secs(20);

type Here = State<Arc<Bridge>>;
type Answer = Response<Body>;

pub(crate) fn router(bridge: Arc<Bridge>) -> Router {
    let mut router = Router::new();
    // As the platform's own bridge has them, and as the hub has them: a till may be pointed at either.
    for before in ["", "/loyalty"] {
        router = router
            .route(&format!("{before}/quote"), post(quote))
            .route(&format!("{before}/commit"), post(commit))
            .route(&format!("{before}/cancel"), post(cancel))
            .route(&format!("{before}/refund"), post(refund))
            .route(&format!("{before}/qr"), post(code));
    }
    router
        .route("/queue/flush", post(flush))
        .route("/queue/status", get(status))
        .route("/queue/list", get(list))
        .route("/queue/{id}/retry", post(again))
        .route("/queue/{id}/drop", post(let_go))
        .route("/config", get(config))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(bridge.clone(), guard))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .fallback(async || finish(fault(404, "there is nothing here", "", &Caller::default())))
        .method_not_allowed_fallback(async || finish(fault(405, "this is asked in another way", "", &Caller::default())))
        .with_state(bridge)
}

/// Serves until `stop` ends, then lets calls under way end.
pub(crate) async fn serve(router: Router, listener: TcpListener, stop: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("a connection cannot be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small: they must not wait for more of them. A stream that refuses this works all the same.
        stream.set_nodelay(true).unwrap_or_default();
        let router = router.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let answer = router.clone().oneshot(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        let connection =
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn guard(State(bridge): Here, request: Request, next: Next) -> Answer {
    let headers = request.headers();
    let refused = if headers.contains_key(header::ORIGIN) {
        Some((403, "web pages may not call the bridge"))
    } else if let Some(key) = &bridge.settings.till_key {
        let given = headers.get("x-till-key").map(|key| key.as_bytes()).unwrap_or_default();
        (!bool::from(given.ct_eq(key.expose().as_bytes()))).then_some((401, "X-Till-Key is missing or wrong"))
    } else {
        (!is_this_machine(headers)).then_some((403, "the Host of the request is not this machine"))
    };
    match refused {
        Some((status, why)) => finish(fault(status, why, "", &Caller::default())),
        None => next.run(request).await,
    }
}

fn is_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(authority) = host.to_str().unwrap_or_default().parse::<axum::http::uri::Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn finish(reply: Reply) -> Answer {
    let mut answer = Response::new(Body::from(reply.body));
    *answer.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().extend(reply.headers.into_iter().map(|(name, value)| (Some(name), value)));
    answer
}

/// A till's call, whole.
struct Asked {
    body: Bytes,
    caller: Caller,
    key: Option<String>,
}

async fn asked(call: &'static str, request: Request) -> Result<Asked, Reply> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let given = |name: &str| text(name).filter(|value| !value.trim().is_empty());
    let caller = Caller {
        staff_key: given("x-staff-key"),
        languages: given("accept-language"),
        request_id: Some(given("x-request-id").unwrap_or_else(|| format!("req_{}", uuid::Uuid::now_v7().simple()))),
    };
    let key = head.headers.get("idempotency-key").map(|key| key.as_bytes()).filter(|key| !key.is_empty()).map(sign::tills_key);
    match tokio::time::timeout(PATIENCE, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => Ok(Asked { body, caller, key }),
        Ok(Err(_)) => Err(fault(413, &format!("the body is larger than {BODY_BYTES_MAX} bytes, or broke off"), call, &caller)),
        Err(_) => Err(fault(408, "the body did not come in time", call, &caller)),
    }
}

/// Does the work to its end, whether or not the till waits for it.
async fn to_the_end(call: &'static str, work: impl Future<Output = Reply> + Send + 'static) -> Answer {
    finish(tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!("a {call} failed inside: {error}");
        fault(500, "the bridge failed inside", call, &Caller::default())
    }))
}

fn unread(bridge: &Bridge, faults: &Faults, call: &'static str, caller: &Caller) -> Answer {
    bridge.metrics.answered(call, "unread");
    finish(fault(400, &faults.text(), call, caller))
}

async fn quote(State(bridge): Here, request: Request) -> Answer {
    let asked = match asked("quote", request).await {
        Ok(asked) => asked,
        Err(refused) => return finish(refused),
    };
    match Quote::read(&asked.body, &bridge.settings) {
        Ok(quote) => to_the_end("quote", bridge.quote(quote, asked.caller)).await,
        Err(faults) => unread(&bridge, &faults, "quote", &asked.caller),
    }
}

async fn commit(State(bridge): Here, request: Request) -> Answer {
    let asked = match asked("commit", request).await {
        Ok(asked) => asked,
        Err(refused) => return finish(refused),
    };
    let commit = match Commit::read(&asked.body, &bridge.settings) {
        Ok(commit) => commit,
        Err(faults) => return unread(&bridge, &faults, "commit", &asked.caller),
    };
    let own = || sign::idempotency_key("commit", &[&commit.merchant_id, &commit.order_id, &commit.hold_id]);
    let delivery = Delivery {
        call: Call::Commit,
        key: asked.key.unwrap_or_else(own),
        order: commit.order_id.clone(),
        body: wire::bytes(&commit),
        hold: Some(commit.hold_id),
        caller: asked.caller,
    };
    to_the_end("commit", bridge.deliver(delivery)).await
}

async fn refund(State(bridge): Here, request: Request) -> Answer {
    let asked = match asked("refund", request).await {
        Ok(asked) => asked,
        Err(refused) => return finish(refused),
    };
    let refund = match Refund::read(&asked.body, &bridge.settings) {
        Ok(refund) => refund,
        Err(faults) => return unread(&bridge, &faults, "refund", &asked.caller),
    };
    let own = || {
        // Without a name of the till's, each request is a refund of its own: two of the same sum must both count.
        let id = refund.own_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        sign::idempotency_key("refund", &[&refund.merchant_id, &refund.order_id, &id])
    };
    let delivery = Delivery {
        call: Call::Refund,
        key: asked.key.unwrap_or_else(own),
        order: refund.order_id.clone(),
        body: wire::bytes(&refund),
        hold: None,
        caller: asked.caller,
    };
    to_the_end("refund", bridge.deliver(delivery)).await
}

async fn cancel(State(bridge): Here, request: Request) -> Answer {
    let asked = match asked("cancel", request).await {
        Ok(asked) => asked,
        Err(refused) => return finish(refused),
    };
    let cancel = match Cancel::read(&asked.body, &bridge.settings) {
        Ok(cancel) => cancel,
        Err(faults) => return unread(&bridge, &faults, "cancel", &asked.caller),
    };
    let key = sign::idempotency_key("cancel", &[&cancel.hold_id]);
    let delivery =
        Delivery { call: Call::Cancel, order: key.clone(), key, hold: None, body: wire::bytes(&cancel), caller: asked.caller };
    let work = async move {
        match bridge.cancel_here(&cancel.hold_id, &delivery.caller).await {
            Some(reply) => reply,
            None => bridge.deliver(delivery).await,
        }
    };
    to_the_end("cancel", work).await
}

async fn code(State(bridge): Here, request: Request) -> Answer {
    let asked = match asked("qr", request).await {
        Ok(asked) => asked,
        Err(refused) => return finish(refused),
    };
    match Code::read(&asked.body, &bridge.settings) {
        Ok(code) => to_the_end("qr", bridge.pass("qr", wire::bytes(&code), asked.caller)).await,
        Err(faults) => unread(&bridge, &faults, "qr", &asked.caller),
    }
}

async fn counts(bridge: &Bridge) -> Value {
    let counts = bridge.queue(|queue| queue.counts(now_ms())).await;
    json!({
        "waiting": counts.waiting, "person": counts.person, "oldestSeconds": counts.oldest_s, "max": counts.max,
        "bytes": counts.bytes, "broken": counts.broken,
    })
}

async fn status(State(bridge): Here) -> Answer {
    finish(reply(200, &counts(&bridge).await))
}

async fn list(State(bridge): Here) -> Answer {
    let items = bridge.queue(|queue| queue.list()).await;
    finish(reply(200, &json!({ "items": items })))
}

/// Tries all that waits now, and tells what is left.
async fn flush(State(bridge): Here) -> Answer {
    let mut rounds = bridge.rounds.subscribe();
    rounds.mark_unchanged();
    bridge.queue(|queue| queue.hurry(std::time::Instant::now())).await;
    bridge.rest.lock().end();
    bridge.wake.notify_one();
    // Whether it ended or not is in the counts.
    drop(tokio::time::timeout(FLUSH_TIME, rounds.changed()).await);
    finish(reply(200, &counts(&bridge).await))
}

fn may_change(bridge: &Bridge, headers: &HeaderMap) -> bool {
    let given = headers.get(PROOF_HEADER).map(|proof| proof.as_bytes()).unwrap_or_default();
    given.ct_eq(bridge.proof.as_bytes()).into()
}

async fn again(State(bridge): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    if !may_change(&bridge, &headers) {
        return forbidden();
    }
    let done = bridge
        .queue(move |queue| {
            let ids = if id == "all" { queue.retriable() } else { vec![id] };
            ids.iter().try_for_each(|id| queue.again(id)).map(|()| ids.len())
        })
        .await;
    bridge.rest.lock().end();
    bridge.wake.notify_one();
    wished(done)
}

async fn let_go(State(bridge): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer {
    if !may_change(&bridge, &headers) {
        return forbidden();
    }
    let done = bridge.queue(move |queue| queue.let_go(&id).map(|()| 1)).await;
    bridge.wake.notify_one();
    wished(done)
}

fn forbidden() -> Answer {
    finish(fault(
        403,
        "only `queue retry` and `queue drop`, which may read the key file, change the queue",
        "queue",
        &Caller::default(),
    ))
}

fn wished(done: Result<usize, WishError>) -> Answer {
    let status = match &done {
        Ok(count) => return finish(reply(200, &json!({ "ok": true, "count": count }))),
        Err(WishError::Unknown(_)) => 404,
        Err(WishError::Waits(_) | WishError::Settled(_)) => 409,
        Err(WishError::Journal(_)) => 503,
    };
    let told = done.map_or_else(|error| error.to_string(), |_| String::new());
    finish(fault(status, &told, "queue", &Caller::default()))
}

async fn health(State(bridge): Here) -> Answer {
    let line = bridge.remote.line();
    let when = |at: Option<jiff::Timestamp>| at.map(|at| crate::queue::when(at.as_millisecond()));
    finish(reply(
        200,
        &json!({
            "ok": true,
            "version": env!("CARGO_PKG_VERSION"),
            "hub": {
                "up": line.is_up(), "answeredAt": when(line.answered_at), "failedAt": when(line.failed_at),
                "failure": line.failure, "clockOffsetSeconds": bridge.remote.clock_offset_s(),
                "usesNextSecret": bridge.remote.uses_next_secret(),
            },
            "queue": counts(&bridge).await,
        }),
    ))
}

/// Ready is a bridge that can keep a commit, with the line or without.
async fn ready(State(bridge): Here) -> Answer {
    let counts = bridge.queue(|queue| queue.counts(now_ms())).await;
    let why = match &counts.broken {
        Some(why) => Some(format!("the queue cannot be written: {why}")),
        None if counts.waiting + counts.person >= counts.max => Some("the queue is full".to_owned()),
        None => None,
    };
    finish(reply(if why.is_none() { 200 } else { 503 }, &json!({ "ready": why.is_none(), "reason": why })))
}

/// The settings without what is secret in them.
async fn config(State(bridge): Here) -> Answer {
    let settings = &bridge.settings;
    finish(reply(
        200,
        &json!({
            "hub": settings.hub, "merchant": settings.merchant, "outlet": settings.outlet, "language": settings.language,
            "listen": settings.listen, "secret": settings.secret.is_some(), "nextSecret": settings.next_secret.is_some(),
            "staffKey": settings.staff_key.is_some(), "tillKey": settings.till_key.is_some(),
            "quoteTimeoutMs": settings.quote_timeout_ms, "commitTimeoutMs": settings.commit_timeout_ms,
            "queueRecordsMax": settings.queue_records_max, "keepHours": settings.keep_hours, "offline": settings.offline,
        }),
    ))
}

async fn metrics(State(bridge): Here) -> Answer {
    let counts = bridge.queue(|queue| queue.counts(now_ms())).await;
    let text = bridge.metrics.text(&counts, &bridge.remote.line(), bridge.remote.clock_offset_s());
    let mut answer = Response::new(Body::from(text));
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
