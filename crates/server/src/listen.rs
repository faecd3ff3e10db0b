//! The listener: connections are bounded in number, and a client that is slow to say what it wants is let go.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt;

/// Connections at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 8_192;

/// Serves until `stop` ends, then lets the requests under way end. A client has `patience` for the head of a request; a
/// connection that is kept open for longer without one is closed.
pub(crate) async fn serve(
    router: Router,
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
        let connection = graceful.watch(converse(router.clone(), stream, peer, patience));
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

type Served<S> = http1::Connection<TokioIo<TcpStream>, TowerToHyperService<S>>;

fn converse(
    router: Router,
    stream: TcpStream,
    peer: SocketAddr,
    patience: Duration,
) -> Served<
    impl tower::Service<Request<Incoming>, Response = axum::response::Response, Error = std::convert::Infallible, Future: Send>
    + Clone,
> {
    // Answers are small: they must not wait for more of them. A stream that refuses this works all the same.
    stream.set_nodelay(true).unwrap_or_default();
    let service = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.map(Body::new)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}
