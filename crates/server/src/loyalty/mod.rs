//! The loyalty desk as tills see it: the points platform's own paths, bodies, statuses and errors (`/loyalty/*`), and the same through
//! a provider (`/integrations/{provider}/*`).
//!
//! A call is read, proved by whom it is, asked of the engine's desk, and answered in the platform's words. Rules of points stand in the
//! desk; here is only how they are asked for.

mod bridge;
mod call;
mod desk;
mod fields;
mod limits;
mod lists;
mod proof;
mod refusal;
mod tills;
mod token;

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use call::{Call, JSON};
pub(crate) use limits::Limits;
use limits::Room;
use refusal::Refusal;
pub(crate) use refusal::{Asked, PlatformError};
use serde::Serialize;

use crate::App;

/// What is answered.
struct Answer {
    status: StatusCode,
    body: String,
    head: Vec<(HeaderName, String)>,
}

impl Answer {
    fn new(status: StatusCode, body: String) -> Self {
        Self { status, body, head: Vec::new() }
    }

    fn json(status: StatusCode, body: &impl Serialize) -> Self {
        Self::new(status, serde_json::to_string(body).expect("answers are JSON"))
    }
}

/// What a handler gives, beside what is left of the caller's budget.
type Answered = Result<Answer, Refusal>;
type Work<'a> = Pin<Box<dyn Future<Output = Answered> + Send + 'a>>;
/// A handler: a function of the hub and the call. What it learns of the caller's budget it leaves in the last.
type Handler = for<'a> fn(&'a Arc<App>, &'a mut Call, &'a mut Option<Room>) -> Work<'a>;

/// Every path, also below `/api/v1`.
pub(crate) fn router() -> Router<Arc<App>> {
    let routes: [(&str, Vec<(MethodFilter, Handler)>); 16] = [
        ("/loyalty/quote", vec![(MethodFilter::POST, |app, call, room| Box::pin(desk::quote(app, call, room)))]),
        ("/loyalty/commit", vec![(MethodFilter::POST, |app, call, room| Box::pin(desk::commit(app, call, room)))]),
        ("/loyalty/cancel", vec![(MethodFilter::POST, |app, call, room| Box::pin(desk::cancel(app, call, room)))]),
        ("/loyalty/refund", vec![(MethodFilter::POST, |app, call, room| Box::pin(desk::refund(app, call, room)))]),
        ("/loyalty/qr", vec![(MethodFilter::POST, |app, call, room| Box::pin(desk::qr(app, call, room)))]),
        (
            "/loyalty/consent",
            vec![
                (MethodFilter::GET, |app, call, room| Box::pin(lists::consent(app, call, room))),
                (MethodFilter::POST, |app, call, room| Box::pin(lists::record_consent(app, call, room))),
            ],
        ),
        (
            "/loyalty/balance/{merchant}/{customer}",
            vec![(MethodFilter::GET, |app, call, room| Box::pin(lists::balance(app, call, room)))],
        ),
        ("/loyalty/transactions", vec![(MethodFilter::GET, |app, call, room| Box::pin(lists::transactions(app, call, room)))]),
        ("/loyalty/settings/{merchant}", vec![(MethodFilter::GET, |app, call, room| Box::pin(lists::settings(app, call, room)))]),
        ("/loyalty/outlets/{merchant}", vec![(MethodFilter::GET, |app, call, room| Box::pin(lists::outlets(app, call, room)))]),
        ("/loyalty/staff/{merchant}", vec![(MethodFilter::GET, |app, call, room| Box::pin(lists::staff(app, call, room)))]),
        (
            "/integrations/{provider}/register",
            vec![(MethodFilter::POST, |app, call, room| Box::pin(tills::register(app, call, room)))],
        ),
        ("/integrations/{provider}/quote", vec![(MethodFilter::POST, |app, call, room| Box::pin(tills::quote(app, call, room)))]),
        (
            "/integrations/{provider}/commit",
            vec![(MethodFilter::POST, |app, call, room| Box::pin(tills::commit(app, call, room)))],
        ),
        (
            "/integrations/{provider}/webhook",
            vec![(MethodFilter::POST, |app, call, room| Box::pin(tills::webhook(app, call, room)))],
        ),
        (
            "/integrations/{provider}/health",
            vec![(MethodFilter::GET, |app, call, room| Box::pin(tills::health(app, call, room)))],
        ),
    ];
    routes.into_iter().fold(Router::new(), |router, (path, methods)| {
        let served = methods.into_iter().fold(MethodRouter::new().fallback(wrong_method), |served, (method, handler)| {
            served.merge(on(method, move |State(app): State<Arc<App>>, request: Request| serve(app, request, handler)))
        });
        router.route(path, served.clone()).route(&format!("/api/v1{path}"), served)
    })
}

async fn wrong_method(State(app): State<Arc<App>>, request: Request) -> Response {
    let call = Call::of(&app, request).await;
    Refusal::wrong_method().answer(&call.request_id, &call.path, call.at)
}

/// A till that hangs up does not cut the work in two.
async fn serve(app: Arc<App>, request: Request, handler: Handler) -> Response {
    let mut call = Call::of(&app, request).await;
    let (request_id, path, at) = (call.request_id.clone(), call.path.clone(), call.at);
    let work = tokio::spawn(async move {
        let mut room = None;
        let answered = handler(&app, &mut call, &mut room).await;
        (answered, room)
    });
    let (answered, room) = work.await.unwrap_or_else(|_| (Err(Refusal::internal()), None));
    let mut response = match answered {
        Ok(answer) => respond(answer),
        Err(refusal) => refusal.answer(&request_id, &path, at),
    };
    if let Some(room) = room {
        room.tell(response.headers_mut());
    }
    if let Ok(id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

fn respond(Answer { status, body, head }: Answer) -> Response {
    let mut response = (status, [JSON], body).into_response();
    for (name, value) in head {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
