//! The server: one task per connection, and a service whose error makes hyper close the connection without an
//! answer, which is how a cut connection is played.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::faults::{Fault, Kind};
use crate::wire::{Answer, Call};
use crate::{Stand, World, control};

const BODY_LIMIT: usize = 64 << 20;

/// Why a connection ends without an answer.
#[derive(Debug)]
struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut")
    }
}

impl std::error::Error for Cut {}

pub(crate) async fn run(listener: TcpListener, world: Arc<World>) {
    // Connections live in the set, so that they end together with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without this, small answers may wait for an acknowledgement.
                    drop(stream.set_nodelay(true));
                    let world = Arc::clone(&world);
                    connections.spawn(async move {
                        let service = service_fn(move |request| handle(Arc::clone(&world), request));
                        let served = http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "a connection ended early");
                        }
                    });
                }
                Err(error) => {
                    // Too many open files, most likely: accepting again at once would only spin.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn handle(world: Arc<World>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_LIMIT).collect().await else {
        return Err(Cut);
    };
    let full = head.uri.path();
    let mut parts = full.trim_start_matches('/').splitn(2, '/');
    let first = parts.next().unwrap_or_default();
    let call = Call {
        method: head.method,
        path: format!("/{}", parts.next().unwrap_or_default()),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
    };
    let answer = if first == "_sandbox" {
        control::answer(&world, &call).await
    } else if let Some(stand) = world.stand(first) {
        play(stand, call).await.ok_or(Cut)?
    } else {
        Answer::json(404, &json!({"error": "no such provider; see /_sandbox"}))
    };
    Ok(response(answer))
}

/// Plays the provider, with the faults that wait for this call; `None` cuts the connection.
async fn play(stand: &Stand, call: Call) -> Option<Answer> {
    let provider = &stand.provider;
    let fault = stand.faults.take(&call.path, provider.is_token_call(&call));
    let Some(fault) = fault else {
        let answer = provider.answer(&call);
        stand.records.note(&call, answer.status);
        return Some(answer);
    };
    let answer = match fault.kind {
        Kind::Latency => Some(provider.answer(&call)),
        Kind::Status => Some(provider.failure(fault.status.unwrap_or(500))),
        Kind::CutBefore => None,
        Kind::CutAfter => {
            provider.answer(&call);
            None
        }
        Kind::Garbage => {
            Some(Answer::new(200, "text/html; charset=utf-8", "<html><body><h1>Welcome to nginx!</h1></body></html>"))
        }
        Kind::RateLimit => Some(provider.limited()),
        Kind::TokenExpiry => {
            provider.expire_tokens();
            Some(provider.token_expired())
        }
    };
    let answer = answer.map(|answer| with_retry_after(answer, &fault));
    // Noted before the wait: the work is done by now, even if the caller does not stay for the answer.
    stand.records.note(&call, answer.as_ref().map_or(0, |answer| answer.status));
    if let Some(ms) = fault.latency_ms {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    answer
}

fn with_retry_after(mut answer: Answer, fault: &Fault) -> Answer {
    if let Some(seconds) = fault.retry_after {
        answer.headers.push(("retry-after", seconds.to_string()));
    }
    answer
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}
