//! Public pages: the OpenAPI document, the same for people, and what each kind of problem means.

use std::sync::LazyLock;

use axum::{
    extract::Path,
    http::header,
    response::{Html, IntoResponse, Response},
};
use serde_json::Value;

use crate::{Problem, api, problem::Kind};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| api::document(&api::routes()));
static TEXT: LazyLock<String> = LazyLock::new(|| DOCUMENT.to_string());
static PAGE: LazyLock<String> = LazyLock::new(|| page_of(&DOCUMENT));

const STYLE: &str = include_str!("docs/style.css");

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=300")], TEXT.as_str()).into_response()
}

pub(crate) async fn page() -> Response {
    shown(PAGE.clone())
}

pub(crate) async fn problems() -> Response {
    let rows: String = Problem::KINDS.iter().map(section).collect();
    shown(frame(
        "Problems",
        &format!(
            "<main><h1>Problems</h1><p>Errors of the API are documents by RFC 9457. These are their types.</p>{rows}</main>"
        ),
    ))
}

pub(crate) async fn problem(Path(kind): Path<String>) -> Result<Response, Problem> {
    let known = Problem::KINDS.iter().find(|known| known.slug == kind);
    let known = known.ok_or_else(|| Problem::not_found("no such kind of problem"))?;
    Ok(shown(frame(known.title, &format!("<main>{}<p><a href=\"/problems\">All problems</a></p></main>", section(known)))))
}

/// No script runs on these pages, and nothing is loaded from anywhere.
fn shown(html: String) -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "max-age=300")], Html(html)).into_response()
}

fn section(kind: &Kind) -> String {
    format!(
        "<section id=\"{slug}\"><h2><code>/problems/{slug}</code> <small>{status}</small></h2><p><b>{title}.</b> {when}.</p><p>What to do: {todo}.</p></section>",
        slug = kind.slug,
        status = kind.status.as_u16(),
        title = escape(kind.title),
        when = marked(kind.when),
        todo = marked(kind.what_to_do),
    )
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{} – Uzel</title><style>{STYLE}</style></head><body>{body}</body></html>",
        escape(title)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A text in which `words between strokes` are code.
fn marked(text: &str) -> String {
    let parts = escape(text);
    let parts = parts
        .split('`')
        .enumerate()
        .map(|(place, part)| if place % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() });
    parts.collect()
}

/// The document as a page: operations by subject, then the shapes that they name.
fn page_of(document: &Value) -> String {
    let tags: Vec<&str> = document["tags"].as_array().into_iter().flatten().filter_map(|tag| tag["name"].as_str()).collect();
    let operations: Vec<(&str, &str, &Value)> = document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(|(path, methods)| {
            methods.as_object().into_iter().flatten().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect();
    let mut links = String::new();
    let mut body = String::new();
    for tag in tags {
        links.push_str(&format!("<a href=\"#{tag}\">{tag}</a>"));
        body.push_str(&format!("<h2 id=\"{tag}\">{tag}</h2>"));
        for (path, method, operation) in operations.iter().filter(|(_, _, operation)| operation["tags"][0] == tag) {
            body.push_str(&operation_of(document, path, method, operation));
        }
    }
    links.push_str("<a href=\"#shapes\">shapes</a>");
    body.push_str("<h2 id=\"shapes\">Shapes</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().into_iter().flatten() {
        body.push_str(&format!(
            "<details><summary><b>{name}</b> <span class=\"says\">{}</span></summary><div id=\"shape-{name}\">{}</div></details>",
            marked(schema["description"].as_str().unwrap_or_default()),
            fields(schema)
        ));
    }
    let head = format!(
        "<h1>Uzel: the API</h1><p>{}</p><p>For programs: <a href=\"/openapi.json\">/openapi.json</a>. Errors: <a href=\"/problems\">/problems</a>.</p>",
        marked(document["info"]["description"].as_str().unwrap_or_default())
    );
    frame("The API", &format!("<nav>{links}</nav><main>{head}{body}</main>"))
}

fn operation_of(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let text = |name: &str| marked(operation[name].as_str().unwrap_or_default());
    let parameters: String = operation["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parameter| {
            row(
                parameter["name"].as_str().unwrap_or_default(),
                &format!("{} {}", parameter["in"].as_str().unwrap_or_default(), shape(&parameter["schema"])),
                parameter["required"] == true,
                parameter["description"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    let parameters = if parameters.is_empty() { parameters } else { format!("<table>{parameters}</table>") };
    let contents = operation["requestBody"]["content"].as_object().into_iter().flatten();
    let body = contents.map(|(_, content)| &content["schema"]).next().unwrap_or(&Value::Null);
    let body = if body.is_null() { String::new() } else { format!("<p>Body: {}</p>{}", shape(body), example(document, body)) };
    let mut answer = String::new();
    let mut problems = String::new();
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        for slug in
            response["content"]["application/problem+json"]["examples"].as_object().into_iter().flatten().map(|(slug, _)| slug)
        {
            problems.push_str(&format!(" <a href=\"/problems/{slug}\">{status} {slug}</a>"));
        }
        if problems.is_empty() {
            let schema = &response["content"]["application/json"]["schema"];
            let schema = if schema.is_null() { String::new() } else { format!(" {}", shape(schema)) };
            answer = format!("{status}{schema}: {}", marked(response["description"].as_str().unwrap_or_default()));
        }
    }
    format!(
        "<details><summary><span class=\"method\">{method}</span> <code>{}</code> <span class=\"says\">{}</span></summary><div id=\"{}\"><p>{}</p>{parameters}{body}<p>Answer: {answer}</p><p class=\"problems\">Problems:{problems}</p></div></details>",
        escape(path),
        text("summary"),
        text("operationId"),
        text("description"),
    )
}

/// What a body may look like.
fn example(document: &Value, body: &Value) -> String {
    let schema = body["$ref"].as_str().and_then(|path| document.pointer(&path[1..])).unwrap_or(body);
    let Some(example) = schema["examples"].get(0) else { return String::new() };
    format!("<pre>{}</pre>", escape(&format!("{example:#}")))
}

fn row(name: &str, kind: &str, required: bool, says: &str) -> String {
    let required = if required { " <b>required</b>" } else { "" };
    format!("<tr><td><code>{}</code></td><td>{kind}{required}</td><td>{}</td></tr>", escape(name), marked(says))
}

fn fields(schema: &Value) -> String {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows: String = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| {
            row(name, &shape(field), required.contains(&name.as_str()), field["description"].as_str().unwrap_or_default())
        })
        .collect();
    if rows.is_empty() { format!("<p>{}</p>", shape(schema)) } else { format!("<table>{rows}</table>") }
}

/// A schema in few words, with a link to what it names.
fn shape(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#shape-{0}\">{0}</a>", escape(name));
    }
    if let Some(choices) = ["anyOf", "oneOf"].iter().find_map(|name| schema[*name].as_array()) {
        return choices.iter().map(shape).collect::<Vec<_>>().join(" or ");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("<code>{}</code>", escape(&value.to_string()))).collect::<Vec<_>>().join(", ");
    }
    if !schema["const"].is_null() {
        return format!("<code>{}</code>", escape(&schema["const"].to_string()));
    }
    let word = |kind: &Value| match kind.as_str().unwrap_or_default() {
        "array" => format!("list of {}", shape(&schema["items"])),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
        Value::Null => "any JSON".to_owned(),
        kind => match schema["format"].as_str() {
            Some(format) => format!("{} ({})", word(kind), escape(format)),
            None => word(kind),
        },
    }
}
