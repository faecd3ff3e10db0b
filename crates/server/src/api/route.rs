//! A route of the API says once who may call it, what it reads and what it answers. The router and the OpenAPI document are both
//! made of that, so neither can say what the other does not do.

use std::{any::TypeId, fmt::Debug, future::Future, pin::Pin, sync::Arc};

use axum::{
    body::{Body as HttpBody, Bytes},
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use uzel_engine::Role;

use super::{
    caller::Caller,
    once::{self, Once},
    pace::Room,
    read::{self, Path, Query},
};
use crate::{App, Problem, loyalty::Asked};

/// Which roles may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub &'static [Role]);

/// The hub's own affairs.
pub(crate) const ADMIN: Access = Access(&[Role::Admin]);
/// What changes how a business is set up, and what shows secrets once.
pub(crate) const OWNER: Access = Access(&[Role::Admin, Role::Owner]);
/// What an operator on duty does: repeat, cancel, pause, send.
pub(crate) const OPERATOR: Access = Access(&[Role::Admin, Role::Owner, Role::Operator]);
/// What may be looked at, personal data masked.
pub(crate) const READER: Access = Access(&[Role::Admin, Role::Owner, Role::Operator, Role::Reader]);
/// What every key may ask.
pub(crate) const ANYBODY: Access = Access(&[Role::Admin, Role::Owner, Role::Operator, Role::Reader, Role::Till]);

/// What a handler is given.
pub(crate) struct Ask<P = (), Q = (), B = ()> {
    pub app: Arc<App>,
    pub caller: Caller,
    pub path: P,
    pub query: Q,
    pub body: B,
    pub head: HeaderMap,
}

/// What a handler gives.
pub(crate) type Answered<T> = Result<Reply<T>, Problem>;

/// An answer with the status that its route names.
pub(crate) struct Reply<T> {
    value: T,
    head: Vec<(HeaderName, HeaderValue)>,
}

pub(crate) fn reply<T>(value: T) -> Answered<T> {
    Ok(Reply::new(value))
}

impl<T> Reply<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value, head: Vec::new() }
    }

    pub(crate) fn into_value(self) -> T {
        self.value
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        // Ids, paths and versions are ASCII.
        self.head.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// Where what was made stands.
    pub(crate) fn at(self, path: &str) -> Self {
        self.with(header::LOCATION, path)
    }

    /// The state that an `If-Match` may name.
    pub(crate) fn version(self, version: i64) -> Self {
        self.with(header::ETAG, &format!("\"{version}\""))
    }
}

impl<P, Q, B> Ask<P, Q, B> {
    /// The version that what is changed must have, where the caller names one.
    pub(crate) fn if_match(&self) -> Result<Option<i64>, Problem> {
        let Some(given) = self.head.get(header::IF_MATCH) else { return Ok(None) };
        let given = given.to_str().unwrap_or_default().trim();
        if given == "*" {
            return Ok(None);
        }
        let version = given.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).and_then(|text| text.parse().ok());
        version.map(Some).ok_or_else(|| {
            Problem::unreadable(
                "head",
                uzel_model::check::Fault::new("If-Match", "is no version: send the `ETag` of what was read"),
            )
        })
    }
}

/// What stands in paths of one thing.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(crate) struct ById {
    /// Its id; where it has a slug, that does as well.
    pub id: String,
}

/// A request whose caller may make it, its body read whole.
struct Given {
    app: Arc<App>,
    caller: Caller,
    parts: Parts,
    body: Bytes,
    csv: bool,
}

type Later<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;
/// A handler at work: headers and body of what it answers.
type Work = Later<(Vec<(HeaderName, HeaderValue)>, Vec<u8>)>;

/// One route.
#[derive(Clone)]
pub(crate) struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    /// More of it, in sentences.
    pub says: &'static str,
    pub status: StatusCode,
    /// Kinds of problems beside those that every such route has.
    pub problems: &'static [&'static str],
    /// Name of the operation: the handler's module and name.
    pub operation: String,
    pub body_bytes_max: usize,
    /// Whether a caller's own key must, may, or need not be given.
    pub once: Once,
    /// Whether its body is CSV, and no JSON.
    pub csv: bool,
    /// Whether it is also there without the prefix of the API.
    bare: bool,
    pub shape: fn(&mut SchemaGenerator) -> Shape,
    has_body: bool,
    /// All that is made anew for every handler: the rest stands once, in `serve`.
    read: Arc<dyn Fn(Given) -> Later<Work> + Send + Sync>,
}

/// The schemas of what a route reads and answers.
pub(crate) struct Shape {
    pub path: Schema,
    pub query: Schema,
    pub body: Option<Schema>,
    pub answer: Option<Schema>,
}

fn is_nothing<T: 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<()>()
}

fn shape<P, Q, B, T>(generator: &mut SchemaGenerator) -> Shape
where
    P: JsonSchema,
    Q: JsonSchema,
    B: JsonSchema + 'static,
    T: JsonSchema + 'static,
{
    Shape {
        path: P::json_schema(generator),
        query: Q::json_schema(generator),
        body: (!is_nothing::<B>()).then(|| generator.subschema_for::<B>()),
        answer: (!is_nothing::<T>()).then(|| generator.subschema_for::<T>()),
    }
}

/// Any type that a handler takes its input as.
pub(crate) trait Input: DeserializeOwned + JsonSchema + Send + 'static {}
impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for T {}

pub(crate) fn route<P, Q, B, T, F, Fut>(
    method: Method,
    path: &'static str,
    access: Access,
    summary: &'static str,
    handler: F,
) -> Route
where
    P: Input,
    Q: Input,
    B: Input,
    T: Serialize + JsonSchema + Send + 'static,
    F: Fn(Ask<P, Q, B>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answered<T>> + Send + 'static,
{
    let names: Vec<&str> = std::any::type_name::<F>().rsplit("::").take(2).collect();
    let read = move |given: Given| -> Later<Work> {
        let handler = handler.clone();
        Box::pin(async move {
            let Given { app, caller, mut parts, body, csv } = given;
            let Path(path) = Path::<P>::from_request_parts(&mut parts, &app).await?;
            let Query(query) = Query::<Q>::from_request_parts(&mut parts, &app).await?;
            let body: B = match csv {
                _ if is_nothing::<B>() => read::nothing(),
                true => read::text(&body)?,
                false => read::json(&body)?,
            };
            let ask = Ask { app, caller, path, query, body, head: parts.headers };
            let work = async move { handler(ask).await.map(|reply| (reply.head, encode(&reply.value))) };
            Ok(Box::pin(work) as Work)
        })
    };
    let once = if method == Method::POST { Once::May } else { Once::No };
    Route {
        method,
        path,
        access,
        summary,
        says: "",
        status: if is_nothing::<T>() { StatusCode::NO_CONTENT } else { StatusCode::OK },
        problems: &[],
        operation: names.into_iter().rev().collect::<Vec<_>>().join("_"),
        body_bytes_max: crate::BODY_BYTES_MAX,
        once,
        csv: false,
        bare: false,
        shape: shape::<P, Q, B, T>,
        has_body: !is_nothing::<B>(),
        read: Arc::new(read),
    }
}

/// `get(path, access, summary, handler)` and the like.
macro_rules! methods {
    ($($name:ident $method:ident),*) => {$(
        pub(crate) fn $name<P, Q, B, T, F, Fut>(path: &'static str, access: Access, summary: &'static str, handler: F) -> Route
        where
            P: Input,
            Q: Input,
            B: Input,
            T: Serialize + JsonSchema + Send + 'static,
            F: Fn(Ask<P, Q, B>) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output = Answered<T>> + Send + 'static,
        {
            route(Method::$method, path, access, summary, handler)
        }
    )*};
}
methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE);

impl Route {
    pub(crate) fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    /// Something was made.
    pub(crate) fn creates(self) -> Self {
        Self { status: StatusCode::CREATED, ..self }
    }

    /// It was taken, and is done later.
    pub(crate) fn accepts(self) -> Self {
        Self { status: StatusCode::ACCEPTED, ..self }
    }

    /// A provider is asked, which may not do it.
    pub(crate) fn calls_out(self) -> Self {
        self.or(&["provider"])
    }

    pub(crate) fn or(self, problems: &'static [&'static str]) -> Self {
        Self { problems, ..self }
    }

    pub(crate) fn up_to(self, body_bytes_max: usize) -> Self {
        Self { body_bytes_max, ..self }
    }

    /// Changes nothing, or the same however often it is asked: a caller's own key means nothing here.
    pub(crate) fn repeatable(self) -> Self {
        Self { once: Once::No, ..self }
    }

    /// A caller's own key must be given.
    pub(crate) fn once_only(self) -> Self {
        Self { once: Once::Must, ..self }
    }

    /// Its body is CSV, read as one text.
    pub(crate) fn csv(self) -> Self {
        Self { csv: true, ..self }
    }

    pub(crate) fn also_bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// The same without the prefix, where it is there as well.
    pub(crate) fn without_prefix(&self) -> Option<Self> {
        let path = self.path.strip_prefix("/api/v1").filter(|_| self.bare)?;
        // The platform answers every POST with 201.
        let status = if self.method == Method::POST { StatusCode::CREATED } else { self.status };
        Some(Self { path, status, ..self.clone() })
    }

    /// Whether it is the platform's own path, where errors have its form too.
    pub(crate) fn is_platforms(&self) -> bool {
        !self.path.starts_with("/api/")
    }

    pub(crate) fn handler(self) -> MethodRouter<Arc<App>> {
        let filter = MethodFilter::try_from(self.method.clone()).expect("routes have one of the usual methods");
        on(filter, move |State(app): State<Arc<App>>, request: Request| {
            let route = self.clone();
            async move {
                let asked = route.is_platforms().then(|| Asked::of(&request));
                serve(&app, &route, request).await.unwrap_or_else(|refused| {
                    let Refused { problem, room } = *refused;
                    let mut response = match asked {
                        Some(asked) => asked.refused(problem, app.engine.clock.now()),
                        None => problem.into_response(),
                    };
                    if let Some(room) = room {
                        room.tell(response.headers_mut());
                    }
                    response
                })
            }
        })
    }
}

impl Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.path, self.access)
    }
}

/// Why it is not done, and what is left of the caller's budget.
struct Refused {
    problem: Problem,
    room: Option<Room>,
}

/// Who asks and whether they may comes first: nothing of what a stranger sent is looked at.
async fn serve(app: &Arc<App>, route: &Route, request: Request) -> Result<Response, Box<Refused>> {
    let (mut parts, body) = request.into_parts();
    let alone = |problem| Box::new(Refused { problem, room: None });
    let caller = Caller::from_request_parts(&mut parts, app).await.map_err(alone)?;
    let room = app.pace.admit(&caller.holder).map_err(alone)?;
    let answered = async {
        if !route.access.0.contains(&caller.role) {
            return Err(Problem::forbidden(caller.role, route.access.0));
        }
        let body = if route.has_body {
            if route.csv {
                read::csv_type(&parts.headers)?
            } else {
                read::json_type(&parts.headers)?
            }
            read::bytes(HttpBody::new(body), route.body_bytes_max).await?
        } else {
            Bytes::new()
        };
        // What is wrong with the body is told before what is wrong with the key.
        let key = once::Key::of(route, &caller, &parts, &body);
        let work = (route.read)(Given { app: app.clone(), caller, parts, body, csv: route.csv }).await?;
        let key = key?;
        if let Some(kept) = once::begin(app, key.as_ref()).await? {
            return Ok(kept);
        }
        // A client that hangs up does not cut the work in two.
        let done = tokio::spawn(work).await.unwrap_or_else(|_| Err(Problem::internal()));
        let done = done.map(|(head, bytes)| match route.status {
            StatusCode::NO_CONTENT => (route.status, head, Vec::new()),
            status => (status, head, bytes),
        });
        once::end(app, key.as_ref(), done.as_ref().ok()).await;
        done.map(|(status, head, bytes)| {
            let mut response = respond(status, bytes);
            response.headers_mut().extend(head);
            response
        })
    };
    match answered.await {
        Ok(mut response) => {
            room.tell(response.headers_mut());
            Ok(response)
        }
        Err(problem) => Err(Box::new(Refused { problem, room: Some(room) })),
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("answers are JSON")
}

pub(super) fn respond(status: StatusCode, bytes: Vec<u8>) -> Response {
    if bytes.is_empty() {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
