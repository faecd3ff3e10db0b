//! The pages behind short links in messages: one asks for a review, one ends messages.
//!
//! The code in the path is all that is asked for. What looks ahead (a messenger's preview, a browser that prefetches) gets the page
//! and counts as nobody.

mod page;
mod words;

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use page::Page;
use uzel_engine::review::{COMMENT_CHARS_MAX, Landing, NotLeft};
use uzel_store::{LinkNews, LinkPurpose, MapService, StoreError};
use words::Language;

use crate::{App, door::Guessed};

/// A comment of the longest kind, each sign escaped.
const BODY_BYTES_MAX: usize = 32 << 10;
/// Parts of the names of programs that look at links before people do.
const PREVIEWS: [&str; 22] = [
    "bot",
    "crawl",
    "spider",
    "preview",
    "whatsapp",
    "facebookexternalhit",
    "facebookcatalog",
    "vkshare",
    "viber",
    "skypeuri",
    "slack",
    "discord",
    "embedly",
    "mattermost",
    "snippet",
    "fetch",
    "curl",
    "wget",
    "python",
    "okhttp",
    "go-http",
    "scan",
];

/// Whether a person asks for the page, as far as that can be told.
fn is_person(parts: &Parts) -> bool {
    let text =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let ahead = ["purpose", "sec-purpose", "x-purpose", "x-moz"].iter().any(|name| {
        let value = text(name);
        value.contains("prefetch") || value.contains("preview") || value.contains("prerender")
    });
    let agent = text("user-agent");
    parts.method == Method::GET && !ahead && agent.contains("mozilla/") && !PREVIEWS.iter().any(|name| agent.contains(name))
}

/// What a page's address says beside the code.
struct Wish {
    language: Option<Language>,
    /// To give other stars than before.
    again: bool,
}

impl Wish {
    fn read(parts: &Parts) -> Self {
        let pairs: Vec<_> = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).collect();
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_ref());
        Self { language: value("lang").and_then(Language::read), again: value("again").is_some() }
    }

    /// The language of the page: what was chosen, the merchant's, the browser's.
    fn language(&self, landing: Option<&Landing>, headers: &HeaderMap) -> Language {
        let accepted = || Language::accepted(headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?);
        let of_merchant = landing.and_then(|landing| Language::read(&landing.language));
        self.language.or(of_merchant).or_else(accepted).unwrap_or(Language::Ru)
    }

    /// A path with the language that was chosen.
    fn path(&self, path: &str) -> String {
        self.language.map_or_else(|| path.to_owned(), |language| format!("{path}?lang={}", language.code()))
    }
}

/// A request to one of the pages, and what stands behind its code.
struct Visit {
    parts: Parts,
    wish: Wish,
    language: Language,
    path: String,
    landing: Landing,
}

impl Visit {
    /// A code that leads nowhere counts as a failure of whoever sent it.
    async fn open(app: &App, parts: Parts, code: &str, purpose: LinkPurpose) -> Result<Self, Response> {
        let wish = Wish::read(&parts);
        let bare = |language, status, title, hint: &str| {
            let page = Page { language, path: String::new(), place: String::new(), title, body: page::told(title, hint) };
            page.respond(status)
        };
        let found = app.engine.landing(code, purpose).await;
        let language = wish.language(found.as_ref().ok().and_then(Option::as_ref), &parts.headers);
        let words = language.words();
        let landing = match found {
            Ok(Some(landing)) => landing,
            Ok(None) => {
                let failed = app.door.failed(app.door.client(&parts.headers, &parts.extensions), Guessed::Link);
                return Err(match failed {
                    Ok(()) => bare(language, StatusCode::NOT_FOUND, words.gone, words.gone_hint),
                    Err(too_many) => {
                        let status = StatusCode::TOO_MANY_REQUESTS;
                        waits(bare(language, status, words.later, words.later_hint), too_many.retry_after_s)
                    }
                });
            }
            Err(error) => return Err(waits(bare(language, down(&error), words.later, words.later_hint), 1)),
        };
        let path = match purpose {
            LinkPurpose::Review => format!("/r/{code}"),
            LinkPurpose::Unsubscribe => format!("/u/{code}"),
        };
        Ok(Self { parts, wish, language, path, landing })
    }

    fn page(&self, title: &'static str, body: String) -> Page {
        Page { language: self.language, path: self.path.clone(), place: self.landing.place.clone(), title, body }
    }

    fn told(&self, status: StatusCode, title: &'static str, hint: &str) -> Response {
        self.page(title, page::told(title, hint)).respond(status)
    }

    fn later(&self, error: &StoreError) -> Response {
        let words = self.language.words();
        waits(self.told(down(error), words.later, words.later_hint), 1)
    }

    fn question(&self, status: StatusCode, warning: Option<&str>) -> Response {
        let words = self.language.words();
        self.page(words.question, page::question(&self.wish.path(&self.path), words, warning)).respond(status)
    }

    /// What was given; with a comment that could not be taken, and why.
    fn given(&self, code: &str, status: StatusCode, draft: Option<(&str, &str)>) -> Response {
        let words = self.language.words();
        let body = page::given(code, &self.wish.path(&self.path), words, &self.landing, draft);
        self.page(words.thanks, body).respond(status)
    }
}

fn down(error: &StoreError) -> StatusCode {
    if let StoreError::Failed(why) = error {
        tracing::error!("the store refuses: {why}");
    }
    StatusCode::SERVICE_UNAVAILABLE
}

fn waits(mut response: Response, seconds: u32) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

fn see_other(path: &str) -> Response {
    let headers = [(header::LOCATION, path), (header::CACHE_CONTROL, "no-store"), (header::REFERRER_POLICY, "no-referrer")];
    (StatusCode::SEE_OTHER, headers).into_response()
}

/// `GET /r/{code}`: the question, or what was answered.
pub(crate) async fn show(State(app): State<Arc<App>>, Path(code): Path<String>, request: Request) -> Response {
    let visit = match Visit::open(&app, request.into_parts().0, &code, LinkPurpose::Review).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    if visit.landing.link.opened_at.is_none() && is_person(&visit.parts) {
        app.engine.note_link(visit.landing.link.code, LinkNews::Opened { at: app.engine.clock.now() }).await;
    }
    if visit.landing.review.is_none() || visit.wish.again && visit.landing.is_open {
        return visit.question(StatusCode::OK, None);
    }
    visit.given(&code, StatusCode::OK, None)
}

/// The fields of a form.
async fn form(headers: &HeaderMap, body: Body) -> Result<Vec<(String, String)>, StatusCode> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

/// What a person wrote, without what nobody can see.
fn comment(text: &str) -> String {
    let seen = text.replace("\r\n", "\n");
    seen.chars().filter(|sign| *sign == '\n' || !sign.is_control()).collect::<String>().trim().to_owned()
}

/// `POST /r/{code}`: stars, or a comment.
pub(crate) async fn leave(State(app): State<Arc<App>>, Path(code): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let visit = match Visit::open(&app, parts, &code, LinkPurpose::Review).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let words = visit.language.words();
    let fields = match form(&headers, body).await {
        Ok(fields) => fields,
        Err(StatusCode::PAYLOAD_TOO_LARGE) => {
            return visit.given(&code, StatusCode::PAYLOAD_TOO_LARGE, Some(("", words.too_long)));
        }
        Err(status) => return visit.told(status, words.later, words.later_hint),
    };
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let stars = match field("stars").map(|stars| stars.parse::<u8>().ok().filter(|stars| (1..=5).contains(stars))) {
        Some(None) => return visit.question(StatusCode::UNPROCESSABLE_ENTITY, Some(words.no_stars)),
        stars => stars.flatten(),
    };
    let comment = field("comment").map(comment).filter(|comment| !comment.is_empty());
    if let Some(comment) = &comment
        && comment.chars().count() > COMMENT_CHARS_MAX
    {
        return visit.given(&code, StatusCode::UNPROCESSABLE_ENTITY, Some((comment, words.too_long)));
    }
    match app.engine.leave_review(&code, stars, comment).await {
        Ok(()) => see_other(&visit.wish.path(&visit.path)),
        Err(NotLeft::NoStars) => visit.question(StatusCode::UNPROCESSABLE_ENTITY, Some(words.no_stars)),
        Err(NotLeft::Closed) => visit.told(StatusCode::CONFLICT, words.thanks, words.closed),
        Err(NotLeft::NoSuch) => visit.told(StatusCode::NOT_FOUND, words.gone, words.gone_hint),
        Err(NotLeft::Store(error)) => visit.later(&error),
    }
}

/// `GET /r/{code}/go/{map}`: on to a map.
pub(crate) async fn go(State(app): State<Arc<App>>, Path((code, map)): Path<(String, String)>, request: Request) -> Response {
    let visit = match Visit::open(&app, request.into_parts().0, &code, LinkPurpose::Review).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let map = MapService::ALL.into_iter().find(|known| known.name() == map);
    let Some((map, url)) = map.and_then(|map| Some((map, visit.landing.maps.url(map)?))) else {
        // The merchant has taken it away meanwhile.
        return see_other(&visit.path);
    };
    if is_person(&visit.parts) {
        app.engine.note_link(visit.landing.link.code, LinkNews::Clicked { map, at: app.engine.clock.now() }).await;
    }
    see_other(url)
}

/// `GET /u/{code}`: the button that ends messages.
pub(crate) async fn ask(State(app): State<Arc<App>>, Path(code): Path<String>, request: Request) -> Response {
    let visit = match Visit::open(&app, request.into_parts().0, &code, LinkPurpose::Unsubscribe).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let (link, words) = (&visit.landing.link, visit.language.words());
    match app.engine.store.contact(link.merchant, &link.to.key()).await {
        Ok(contact) if contact.opted_out => unsubscribed(&visit),
        Ok(_) => {
            let body = page::unsubscribe(&visit.wish.path(&visit.path), words, &visit.landing.place);
            visit.page(words.unsubscribe, body).respond(StatusCode::OK)
        }
        Err(error) => visit.later(&error),
    }
}

/// `POST /u/{code}`: ends messages. A mail program does the same by one request (RFC 8058), so the answer is no redirect.
pub(crate) async fn unsubscribe(State(app): State<Arc<App>>, Path(code): Path<String>, request: Request) -> Response {
    let visit = match Visit::open(&app, request.into_parts().0, &code, LinkPurpose::Unsubscribe).await {
        Ok(visit) => visit,
        Err(refusal) => return refusal,
    };
    let words = visit.language.words();
    match app.engine.unsubscribe(&code).await {
        Ok(true) => unsubscribed(&visit),
        Ok(false) => visit.told(StatusCode::NOT_FOUND, words.gone, words.gone_hint),
        Err(error) => visit.later(&error),
    }
}

fn unsubscribed(visit: &Visit) -> Response {
    let words = visit.language.words();
    visit.page(words.unsubscribed, page::unsubscribed(words, &visit.landing.place)).respond(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = axum::http::Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_person(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn what_looks_ahead_is_no_person() {
        let phone = (
            "user-agent",
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
        );
        assert!(asks("GET", &[phone]));
        assert!(!asks("HEAD", &[phone]));
        assert!(!asks("GET", &[]));
        for header in
            [("purpose", "prefetch"), ("sec-purpose", "prefetch;prerender"), ("x-moz", "prefetch"), ("x-purpose", "preview")]
        {
            assert!(!asks("GET", &[phone, header]), "{header:?}");
        }
        for agent in [
            "WhatsApp/2.23.20.0",
            "TelegramBot (like TwitterBot)",
            "facebookexternalhit/1.1",
            "Mozilla/5.0 (compatible; vkShare; +http://vk.com/dev/Share)",
            "Mozilla/5.0 (compatible; YandexBot/3.0)",
            "Mozilla/5.0 SkypeUriPreview Preview/0.5",
            "Slackbot-LinkExpanding 1.0",
        ] {
            assert!(!asks("GET", &[("user-agent", agent)]), "{agent}");
        }
    }

    #[test]
    fn a_comment_keeps_its_lines_and_loses_what_nobody_sees() {
        assert_eq!(comment("  Долго\r\nждали\u{0}\u{7} \n"), "Долго\nждали");
    }
}
