//! The OpenAPI 3.1 document, made of the routes.

use axum::http::{Method, StatusCode};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Map, Value, json};

use super::{
    once::Once,
    route::{Route, Shape},
};
use crate::{Problem, loyalty::PlatformError, problem::Kind};

/// Problems that every route of the API may answer with.
const ALWAYS: [&str; 7] =
    ["bad-request", "unauthorized", "forbidden", "too-many-failures", "too-many-requests", "internal", "busy"];

pub(crate) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.transforms.push(Box::new(RecursiveTransform(words)));
    });
    let mut generator = settings.into_generator();
    let problem = json!(generator.subschema_for::<Problem>());
    let platforms = json!(generator.subschema_for::<PlatformError>());
    let mut paths = Map::new();
    for route in routes {
        let shape = (route.shape)(&mut generator);
        let path = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] =
            operation(route, &shape, if route.is_platforms() { &platforms } else { &problem }, generator.definitions());
    }
    let schemas = definitions(&mut generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Uzel",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "An integration hub for shops, restaurants and salons",
            "description": "Everything that a person can do with the hub, for programs. Send a key as `Authorization: Bearer`. \
                Lists have cursors (`next`, given back as `before` or `after`); what is made takes an `Idempotency-Key`; what two people may change has \
                an `ETag` and heeds `If-Match`; errors are problem documents (RFC 9457).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This hub" }],
        "security": [{ "key": [] }],
        "tags": tags(routes),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": { "type": "http", "scheme": "bearer", "description": "A key of the hub: `uzel keys create`, or `POST /api/v1/keys`." },
            },
            "schemas": schemas,
        },
    })
}

fn definitions(generator: &mut SchemaGenerator) -> Map<String, Value> {
    generator.take_definitions(true).into_iter().collect()
}

/// Words of which one is chosen, each described by itself, as a plain list: makers of clients know nothing else.
fn words(schema: &mut Schema) {
    let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let words: Option<Vec<(Vec<Value>, &str)>> = choices
        .map(|choice| {
            let words = choice["enum"].as_array().cloned().or_else(|| choice.get("const").map(|word| vec![word.clone()]))?;
            Some((words, choice["description"].as_str().unwrap_or_default()))
        })
        .collect();
    let Some(words) = words.filter(|words| !words.is_empty()) else { return };
    let told = words.iter().filter(|(_, says)| !says.is_empty());
    let told: Vec<String> = told.map(|(words, says)| format!("`{}`: {says}", words[0].as_str().unwrap_or_default())).collect();
    let says = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let says = format!("{says} {}", told.join(" "));
    let words: Vec<Value> = words.into_iter().flat_map(|(words, _)| words).collect();
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(words));
    schema.insert("description".to_owned(), json!(says.trim()));
}

/// The part of the API that a route belongs to: the first name in its path.
fn tag(route: &Route) -> String {
    let path = route.path.strip_prefix("/api/v1").unwrap_or(route.path);
    path.split('/').nth(1).unwrap_or_default().to_owned()
}

fn tags(routes: &[Route]) -> Value {
    let mut names: Vec<String> = Vec::new();
    for name in routes.iter().map(tag) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.into_iter().map(|name| json!({ "name": name, "description": format!("Paths below `/{name}`.") })).collect()
}

/// Names of operations are unique: the requirement's own paths lead to handlers that have a path below `/api/v1` as well.
fn operation_id(route: &Route) -> String {
    let prefix = if route.path.starts_with("/api/v1/") { "" } else { "platform_" };
    format!("{prefix}{}", route.operation)
}

/// What a schema says, whether in place or by a name.
fn resolved<'a>(schema: &'a Value, definitions: &'a Map<String, Value>) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    name.and_then(|name| definitions.get(name)).unwrap_or(schema)
}

fn operation(route: &Route, shape: &Shape, problem: &Value, definitions: &Map<String, Value>) -> Value {
    let mut parameters = parameters("path", &json!(shape.path));
    for parameter in &mut parameters {
        let name = parameter["name"].as_str().unwrap_or_default();
        if let Some(example) = path_example(&tag(route), name) {
            parameter["example"] = json!(example);
        }
    }
    parameters.extend(self::parameters("query", &json!(shape.query)));
    match route.once {
        Once::No => {}
        once => parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": once == Once::Must,
            "description": "A key of your own for what is made: the same request under the same key, within three days, gets the same answer and makes nothing more.",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 }, "example": "order-1042-thanks",
        })),
    }
    if matches!(route.method, Method::PUT | Method::PATCH | Method::DELETE) {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The `ETag` of what was read: where somebody has changed it since, nothing is done (412).",
            "schema": { "type": "string" }, "example": "\"3\"",
        }));
    }
    let roles: Vec<&str> = route.access.0.iter().map(|role| role.word()).collect();
    let says = format!("{} Roles: {}.", route.says, roles.join(", "));
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [tag(route)],
        "summary": route.summary,
        "description": says.trim(),
        "x-roles": roles,
        "parameters": parameters,
        "responses": responses(route, shape, problem, definitions),
    });
    if let Some(body) = shape.body.as_ref().map(|body| json!(body)) {
        // No body counts as `{}`.
        let needed = resolved(&body, definitions)["required"].as_array().is_some_and(|names| !names.is_empty());
        let kind = if route.csv { "text/csv" } else { "application/json" };
        operation["requestBody"] = json!({ "required": needed || route.csv, "content": { kind: { "schema": body } } });
    }
    operation
}

/// What stands in the tour of `docs/api.md`.
fn path_example(tag: &str, name: &str) -> Option<&'static str> {
    match (tag, name) {
        ("merchants", "id") => Some("cafe"),
        (_, "outlet") => Some("arbat"),
        ("connections", "id") => Some("till"),
        ("flows", "id") => Some("thanks"),
        ("providers", "id") => Some("rkeeper"),
        _ => None,
    }
}

fn parameters(place: &str, schema: &Value) -> Vec<Value> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| {
            let mut property = property.clone();
            let description = property.as_object_mut().and_then(|fields| fields.remove("description"));
            let mut parameter = json!({
                "name": name, "in": place, "required": place == "path" || required.contains(&name.as_str()),
                "schema": plain(property),
            });
            if let Some(description) = description {
                parameter["description"] = description;
            }
            parameter
        })
        .collect()
}

/// A parameter that is not there is not there: `null` is a text like any other in a query.
fn plain(mut schema: Value) -> Value {
    if let Some(kinds) = schema["type"].as_array().cloned() {
        let kinds: Vec<Value> = kinds.into_iter().filter(|kind| kind != "null").collect();
        schema["type"] = if kinds.len() == 1 { kinds[0].clone() } else { json!(kinds) };
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let choices: Vec<&Value> = choices.iter().filter(|choice| choice["type"] != "null").collect();
        if let [only] = choices[..] {
            return only.clone();
        }
    }
    if let Some(fields) = schema.as_object_mut()
        && fields.get("default").is_some_and(Value::is_null)
    {
        fields.remove("default");
    }
    schema
}

/// Kinds of problems that a route may answer with.
fn problems(route: &Route, shape: &Shape) -> Vec<&'static Kind> {
    let mut slugs: Vec<&str> = ALWAYS.to_vec();
    let has = |schema: &schemars::Schema| json!(schema)["properties"].as_object().is_some_and(|fields| !fields.is_empty());
    if has(&shape.path) {
        slugs.push("not-found");
    }
    if has(&shape.query) || has(&shape.path) || shape.body.is_some() || route.once != Once::No {
        slugs.push("bad-request");
    }
    if shape.body.is_some() {
        slugs.extend(["invalid", "unsupported-media-type", "too-large", "too-slow", "not-found"]);
    }
    if has(&shape.query) {
        slugs.push("not-found");
    }
    if route.once != Once::No {
        slugs.extend(["in-progress", "invalid"]);
    }
    if matches!(route.method, Method::PUT | Method::PATCH | Method::DELETE) {
        slugs.extend(["changed-meanwhile", "conflict", "bad-request"]);
    }
    slugs.extend(route.problems);
    Problem::KINDS.iter().filter(|kind| slugs.contains(&kind.slug)).collect()
}

fn responses(route: &Route, shape: &Shape, problem: &Value, definitions: &Map<String, Value>) -> Value {
    let mut responses = Map::new();
    let mut done = json!({ "description": title(route.status), "headers": headers(route, shape, definitions) });
    if let Some(answer) = &shape.answer {
        done["content"] = json!({ "application/json": { "schema": answer } });
    }
    responses.insert(route.status.as_str().to_owned(), done);
    let mut by_status: Vec<(StatusCode, Vec<&Kind>)> = Vec::new();
    for kind in problems(route, shape) {
        // The platform tells faults of a body as 400.
        let also = route.is_platforms() && kind.slug == "invalid" && route.once == Once::No;
        let of = if also { StatusCode::BAD_REQUEST } else { kind.status };
        match by_status.iter_mut().find(|(status, _)| *status == of) {
            Some((_, kinds)) => kinds.push(kind),
            None => by_status.push((of, vec![kind])),
        }
    }
    for (status, kinds) in by_status {
        let description: Vec<String> = kinds.iter().map(|kind| format!("`{}`: {}.", kind.slug, kind.when)).collect();
        let examples: Map<String, Value> =
            kinds.iter().map(|kind| (kind.slug.to_owned(), json!({ "value": example(kind) }))).collect();
        let content = if route.is_platforms() {
            json!({ "application/json": { "schema": problem } })
        } else {
            json!({ "application/problem+json": { "schema": problem, "examples": examples } })
        };
        let mut response = json!({ "description": description.join(" "), "content": content });
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                response["headers"] =
                    json!({ "Retry-After": { "description": "Seconds to wait.", "schema": { "type": "integer" } } });
            }
            StatusCode::UNAUTHORIZED => {
                response["headers"] =
                    json!({ "WWW-Authenticate": { "description": "`Bearer`.", "schema": { "type": "string" } } });
            }
            _ => {}
        }
        responses.insert(status.as_str().to_owned(), response);
    }
    responses.sort_keys();
    Value::Object(responses)
}

fn example(kind: &Kind) -> Value {
    let mut example = json!({
        "type": format!("/problems/{}", kind.slug), "title": kind.title, "status": kind.status.as_u16(), "detail": kind.when,
    });
    if kind.slug == "invalid" {
        example["errors"] = json!([{ "pointer": "/merchant", "detail": "no merchant `cafe`" }]);
    }
    example
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::CREATED => "It was made.",
        StatusCode::ACCEPTED => "It was taken, and is done later.",
        StatusCode::NO_CONTENT => "It was done.",
        _ => "The answer.",
    }
}

fn headers(route: &Route, shape: &Shape, definitions: &Map<String, Value>) -> Value {
    let text = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    let mut headers = json!({
        "RateLimit-Policy": text("How many requests this key has in which window."),
        "RateLimit": text("How many requests are left, and in how many seconds all are there again."),
    });
    if route.once != Once::No {
        headers["Idempotency-Replayed"] = text("`true` where this is the kept answer of an earlier request.");
    }
    let answer = json!(shape.answer);
    if resolved(&answer, definitions)["properties"]["version"]["type"] == "integer" {
        headers["ETag"] = text("The version, as `If-Match` takes it.");
    }
    if matches!(route.status, StatusCode::CREATED | StatusCode::ACCEPTED) {
        headers["Location"] = text("Where it stands.");
    }
    headers
}
