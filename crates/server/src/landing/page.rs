//! The pages as HTML: no script, nothing from elsewhere, a few kilobytes.

use std::sync::LazyLock;

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use uzel_engine::review::{COMMENT_CHARS_MAX, Landing};
use uzel_store::MapService;

use super::words::{Language, Words};

const STYLE: &str = include_str!("style.css");
const STAR: &str = "M12 1.6l3.2 6.6 7.2 1-5.2 5 1.3 7.2L12 18l-6.5 3.4 1.3-7.2-5.2-5 7.2-1z";

/// Only the style that stands in the page is used; forms go to this hub only.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = hex::decode(uzel_model::signature::sha256_hex([STYLE.as_bytes()])).unwrap_or_default();
    format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        STANDARD.encode(digest)
    )
});

/// A page's parts that are its own.
pub(super) struct Page {
    pub(super) language: Language,
    /// Where it is, for the switch of languages.
    pub(super) path: String,
    /// Whose page it is.
    pub(super) place: String,
    pub(super) title: &'static str,
    pub(super) body: String,
}

impl Page {
    pub(super) fn respond(&self, status: StatusCode) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, HeaderValue::try_from(POLICY.as_str()).expect("letters and signs make a header")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow")),
            (header::CONTENT_LANGUAGE, HeaderValue::from_static(self.language.code())),
        ];
        (status, headers, Html(self.html())).into_response()
    }

    fn html(&self) -> String {
        let language = self.language;
        let words = language.words();
        let switch: String = Language::ALL
            .into_iter()
            .map(|other| match other {
                _ if other == language => format!("<b aria-current=\"true\">{}</b>", other.name()),
                _ => format!("<a href=\"{}?lang={code}\" lang=\"{code}\">{}</a>", self.path, other.name(), code = other.code()),
            })
            .collect();
        let place = match self.place.as_str() {
            "" => String::new(),
            place => format!("<p class=\"place\">{}</p>", escape(place)),
        };
        let title = [self.place.as_str(), self.title].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" – ");
        format!(
            "<!doctype html><html lang=\"{code}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"robots\" content=\"noindex,nofollow\"><meta name=\"referrer\" content=\"no-referrer\"><title>{title}</title><meta property=\"og:title\" content=\"{title}\"><style>{STYLE}</style></head><body><main>{place}{body}</main><nav aria-label=\"{languages}\">{switch}</nav></body></html>",
            code = language.code(),
            title = escape(&title),
            body = self.body,
            languages = words.languages,
        )
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn star() -> String {
    format!("<svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"{STAR}\"/></svg>")
}

/// The question, and five stars to tap.
pub(super) fn question(action: &str, words: &Words, warning: Option<&str>) -> String {
    let buttons: String = words
        .stars
        .iter()
        .enumerate()
        .map(|(place, says)| {
            let stars = place + 1;
            format!(
                "<button name=\"stars\" value=\"{stars}\" title=\"{says}\" aria-label=\"{stars} – {says}\">{}</button>",
                star()
            )
        })
        .collect();
    format!(
        "<h1>{}</h1>{}<form method=\"post\" action=\"{action}\"><div class=\"stars\">{buttons}</div></form><p class=\"ends\" aria-hidden=\"true\"><span>{}</span><span>{}</span></p>",
        words.question,
        note(warning.map_or(("soft", words.hint), |warning| ("warn", warning))),
        words.stars[0],
        words.stars[4],
    )
}

fn note((class, text): (&str, &str)) -> String {
    let role = if class == "warn" { " role=\"alert\"" } else { "" };
    format!("<p class=\"{class}\"{role}>{text}</p>")
}

/// What was given, and what comes after: a word to the owner where it was not good, and the maps for everybody.
pub(super) fn given(code: &str, action: &str, words: &Words, landing: &Landing, draft: Option<(&str, &str)>) -> String {
    let Some(review) = &landing.review else { return String::new() };
    let stars = usize::from(review.stars);
    let row: String =
        (1..=5).map(|place| format!("<span{}>{}</span>", if place <= stars { " class=\"on\"" } else { "" }, star())).collect();
    let says = words.stars[stars.clamp(1, 5) - 1];
    let row = format!("<div class=\"given\" role=\"img\" aria-label=\"{stars} – {says}\">{row}</div>");
    let is_low = stars <= 3;
    let asks = is_low && review.comment.is_none() && landing.is_open;
    let (title, hint) = match (is_low, review.comment.is_some()) {
        (_, true) => (words.heard, words.heard_hint),
        (true, false) => (words.sorry, ""),
        (false, false) => (words.thanks, ""),
    };
    let mut body = format!("<h1>{title}</h1>{row}");
    if !hint.is_empty() {
        body.push_str(&note(("soft", hint)));
    }
    if asks {
        let (text, warning) = draft.map_or(("", String::new()), |(text, why)| (text, note(("warn", why))));
        body.push_str(&format!(
            "<form class=\"comment\" method=\"post\" action=\"{action}\"><label for=\"comment\">{}</label><p class=\"soft\">{}</p>{warning}<textarea id=\"comment\" name=\"comment\" required maxlength=\"{COMMENT_CHARS_MAX}\" placeholder=\"{}\">\n{}</textarea><button class=\"act\">{}</button></form>",
            words.comment,
            words.comment_hint,
            words.comment_place,
            escape(text),
            words.send,
        ));
    }
    body.push_str(&maps(code, words, landing, is_low));
    if landing.is_open {
        let join = if action.contains('?') { '&' } else { '?' };
        body.push_str(&format!("<a class=\"change\" href=\"{action}{join}again=1\">{}</a>", words.change));
    }
    body
}

fn maps(code: &str, words: &Words, landing: &Landing, is_low: bool) -> String {
    if landing.maps.is_empty() {
        return String::new();
    }
    let name = |map| match map {
        MapService::Dgis => words.dgis,
        MapService::Yandex => words.yandex,
        MapService::Google => words.google,
    };
    let links: String = MapService::ALL
        .into_iter()
        .filter(|map| landing.maps.url(*map).is_some())
        .map(|map| format!("<a class=\"map\" rel=\"nofollow noreferrer\" href=\"/r/{code}/go/{}\">{}</a>", map.name(), name(map)))
        .collect();
    format!("<div class=\"maps\"><p>{}</p>{links}</div>", if is_low { words.maps } else { words.maps_happy })
}

/// A title and a line, where there is nothing to do.
pub(super) fn told(title: &str, hint: &str) -> String {
    format!("<h1>{title}</h1>{}", note(("soft", hint)))
}

/// One button that ends messages.
pub(super) fn unsubscribe(action: &str, words: &Words, place: &str) -> String {
    format!(
        "<h1>{}</h1><p class=\"soft\">{} {}</p><form class=\"comment\" method=\"post\" action=\"{action}\"><button class=\"act\" name=\"stop\" value=\"1\">{}</button></form>",
        words.unsubscribe,
        words.unsubscribe_hint,
        escape(place),
        words.unsubscribe_button,
    )
}

pub(super) fn unsubscribed(words: &Words, place: &str) -> String {
    format!("<h1>{}</h1><p class=\"soft\">{} {}</p>", words.unsubscribed, words.unsubscribed_hint, escape(place))
}
