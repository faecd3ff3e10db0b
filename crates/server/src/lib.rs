//! The HTTP side: the road in, the public API. Only this crate knows the hub's own status codes and problem documents.

mod api;
mod digest;
mod docs;
mod door;
mod intake;
mod landing;
mod listen;
mod loyalty;
mod meter;
mod oauth;
mod problem;
mod refusals;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub use api::refused_message;
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
pub use door::DoorSettings;
pub use problem::Problem;
use tokio::sync::watch;
use uzel_engine::Engine;

/// What one request may carry.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The state of the HTTP side.
pub struct App {
    pub engine: Arc<Engine>,
    door: door::Door,
    refusals: Arc<refusals::Refusals>,
    logins: oauth::Logins,
    pace: api::Pace,
    limits: loyalty::Limits,
    used: Arc<api::Used>,
    ready: AtomicBool,
}

impl App {
    pub fn new(engine: Arc<Engine>, door: DoorSettings) -> Arc<Self> {
        Arc::new(Self {
            engine,
            pace: api::Pace::new(door.calls_per_minute),
            limits: loyalty::Limits::new(&door),
            used: Arc::default(),
            door: door::Door::new(door),
            refusals: Arc::default(),
            logins: oauth::Logins::default(),
            ready: AtomicBool::new(true),
        })
    }

    /// Tells load balancers that this node is about to stop.
    pub fn leave(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }
}

/// Whether a request came over the machine's own socket, whose file only the hub's user may open.
#[derive(Debug, Clone, Copy)]
pub struct Local;

/// What no route serves is told in the form of the paths that it lies among.
fn unserved(app: &App, request: &Request, problem: Problem) -> Response {
    let path = request.uri().path();
    if path == "/merchants" || path.starts_with("/merchants/") {
        loyalty::Asked::of(request).refused(problem, app.engine.clock.now())
    } else {
        problem.into_response()
    }
}

/// Everything on one port.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/api/webhook/{provider}", any(intake::by_provider))
        .route("/hooks/{connection}", any(intake::by_connection))
        .route("/hooks/{connection}/{*path}", any(intake::below_connection))
        .route("/oauth/{provider}/start", get(oauth::start))
        .route("/oauth/{provider}/callback", get(oauth::callback))
        .route("/r/{code}", get(landing::show).post(landing::leave))
        .route("/r/{code}/go/{map}", get(landing::go))
        .route("/u/{code}", get(landing::ask).post(landing::unsubscribe))
        .route("/d/{recipient}/{span}/{first}/{proof}", get(digest::show))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .route("/problems", get(docs::problems))
        .route("/problems/{kind}", get(docs::problem))
        .merge(api::router())
        .merge(loyalty::router())
        .fallback(|State(app): State<Arc<App>>, request: Request| async move {
            unserved(&app, &request, Problem::not_found("no such path"))
        })
        .method_not_allowed_fallback(|State(app): State<Arc<App>>, request: Request| async move {
            unserved(&app, &request, Problem::method_not_allowed())
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(app.clone(), counted))
        .with_state(app)
}

/// Counts every answer by its route.
async fn counted(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let pattern = route.as_ref().map(MatchedPath::as_str);
    app.engine.metrics.http.answered_at(method.as_str(), pattern, response.status().as_u16());
    response
}

/// Serves until `stop` ends, then lets the requests under way end.
pub async fn serve(
    app: Arc<App>,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (stop_writing, stopped) = watch::channel(false);
    let refusals = tokio::spawn(app.refusals.clone().write(app.engine.clone(), stopped.clone()));
    let used = tokio::spawn(app.used.clone().write(app.engine.clone(), stopped));
    let patience = app.door.patience();
    let engine = app.engine.clone();
    let served = listen::serve(router(app), engine, listener, patience, stop).await;
    stop_writing.send_replace(true);
    refusals.await.map_err(std::io::Error::other)?;
    used.await.map_err(std::io::Error::other)?;
    served
}

/// Serves commands on this machine.
pub async fn serve_local(
    app: Arc<App>,
    listener: tokio::net::UnixListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, local_router(app)).with_graceful_shutdown(stop).await
}

/// The API without keys, for whoever may open the data folder.
pub fn local_router(app: Arc<App>) -> Router {
    router(app).layer(axum::Extension(Local))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let lag = app.engine.lag().await;
    let progress = lag.as_ref().is_ok_and(|lag| *lag < app.engine.options.ready_age);
    let ready = app.ready.load(Ordering::Relaxed) && progress && app.engine.takes_entries().await.is_ok();
    let lag_s = lag.map(|lag| lag.as_secs()).ok();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(serde_json::json!({ "ready": ready, "oldest_waiting_s": lag_s }))).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], app.engine.metrics.page())
        .into_response()
}
