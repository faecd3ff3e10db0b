//! The page behind the link of a digest's notice. It needs no script and no style, and shows nobody's name but the merchant's.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderName, header},
    response::{Html, IntoResponse, Response},
};
use uzel_model::words::Language;

use crate::{App, Problem};

const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path((recipient, span, first, proof)): Path<(String, String, String, String)>,
) -> Response {
    let page = match app.engine.digest_page(&recipient, &span, &first, &proof).await {
        Ok(Some(page)) => page,
        Ok(None) => return Problem::not_found("no such page").into_response(),
        Err(error) => return Problem::from(error).into_response(),
    };
    let language = match page.language {
        Language::Ru => "ru",
        Language::Uz => "uz",
        Language::En => "en",
    };
    let lines: Vec<String> = page.text.lines().map(escaped).collect();
    let html = format!(
        "<!doctype html>\n<html lang=\"{language}\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{}</title>\n{}<p>{}</p></html>\n",
        escaped(&page.subject),
        page.svg,
        lines.join("<br>\n")
    );
    let head = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-robots-tag"), "noindex"),
    ];
    (head, Html(html)).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
