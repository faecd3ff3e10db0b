//! The listener: connections are bounded in number, and a client that is slow to say what it wants is let go.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, response::Response};
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt;
use uzel_engine::{Engine, Route};

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 8_192;

/// Serves until `stop` ends, then lets the requests under way end. A client has `patience` for the head of a request; a
/// connection that is kept open for longer without one is closed.
pub(crate) async fn serve(
    router: Router,
    engine: Arc<Engine>,
    listener: TcpListener,
    patience: Duration,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = std::pin::pin!(stop);
    loop {
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit.map_err(io::Error::other)?,
            () = &mut stop => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // A client that has gone already, or no file handles left for the moment.
                    tracing::warn!("a connection cannot be accepted: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        let connection = graceful.watch(converse(router.clone(), engine.clone(), stream, peer, patience));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(permit);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// One connection with its requests. Each is counted, without a box of its own.
fn converse(
    router: Router,
    engine: Arc<Engine>,
    stream: TcpStream,
    peer: SocketAddr,
    patience: Duration,
) -> http1::Connection<TokioIo<TcpStream>, impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send>>
{
    // Answers are small: they must not wait for more of them. A stream that refuses this works all the same.
    stream.set_nodelay(true).unwrap_or_default();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let route = Route::of(request.uri().path());
        let answer = router.clone().oneshot(request.map(Body::new));
        let engine = engine.clone();
        async move {
            let answer = answer.await?;
            engine.metrics.http.answered(route, answer.status().as_u16());
            Ok(answer)
        }
    });
    http1::Builder::new().timer(TokioTimer::new()).header_read_timeout(patience).serve_connection(TokioIo::new(stream), service)
}
