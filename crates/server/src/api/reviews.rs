//! Reviews that guests left by the links of review requests: what they gave, answers to them, and how many came of how many.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::review::NotAnswered;
use uzel_model::{Channel, Id, check::Fault, id::Kind};
use uzel_store::{Review, ReviewCount, ReviewFilter};

use super::{
    journal::{ByIdOnly, Masking},
    mask::mask_text,
    page::{LIMIT, Page},
    route::{Answered, Ask, ById, reply},
};
use crate::{App, Problem};

/// How far a review has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReviewState {
    /// Nobody has answered it.
    New,
    /// The merchant has answered it.
    Answered,
}

/// What a guest gave.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReviewView {
    /// The review.
    id: Id,
    /// Whose it is.
    merchant: Id,
    /// Where the guest was.
    outlet: Option<Id>,
    /// The connection that told of the visit.
    source: Id,
    /// The channel that they were asked by.
    channel: Channel,
    /// The flow that asked.
    flow: Option<Id>,
    /// Who it was, masked; nothing where the person was erased.
    to: Option<String>,
    /// 1 to 5.
    stars: u8,
    /// For the merchant only.
    comment: Option<String>,
    /// When the stars were given.
    left_at: Timestamp,
    /// When it was last changed.
    changed_at: Timestamp,
    /// Whether it was answered.
    state: ReviewState,
    /// What the merchant answered.
    answer: Option<AnswerView>,
}

/// An answer to a review.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AnswerView {
    /// What it says.
    text: String,
    /// Id of the key that was used, or `local`.
    by: String,
    /// When it was given.
    at: Timestamp,
    /// The command that sends it.
    command: Id,
}

fn view(review: Review, unmasked: bool) -> ReviewView {
    let text = |text: String| if unmasked { text } else { mask_text(&text) };
    ReviewView {
        id: review.id,
        merchant: review.merchant,
        outlet: review.outlet,
        source: review.source,
        channel: review.channel,
        flow: review.flow,
        to: review.to.map(|to| if unmasked { to.key() } else { to.masked() }),
        stars: review.stars,
        comment: review.comment.map(text),
        left_at: review.left_at,
        changed_at: review.changed_at,
        state: if review.answer.is_some() { ReviewState::Answered } else { ReviewState::New },
        answer: review.answer.map(|answer| AnswerView {
            text: text(answer.text),
            by: answer.by,
            at: answer.at,
            command: answer.command,
        }),
    }
}

/// Which reviews.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReviewsQuery {
    /// By id or slug.
    merchant: Option<String>,
    /// Where the guest was, by id or slug.
    outlet: Option<String>,
    /// The connection that told of the visit, by id or slug.
    source: Option<String>,
    /// So many stars.
    #[schemars(range(min = 1, max = 5))]
    stars: Option<u8>,
    /// Whether it was answered.
    state: Option<ReviewState>,
    /// `next` of the page before.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows people and texts whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

/// An outlet that a caller sees, by its id, or by its slug where only one has it.
fn outlet(app: &App, scope: Option<Id>, name: &str) -> Result<Id, Problem> {
    let world = app.engine.world();
    let mut found = world
        .outlets
        .iter()
        .filter(|(_, (merchant, ..))| scope.is_none_or(|own| own == *merchant))
        .filter(|(id, (_, slug, _))| slug == name || id.to_string() == name);
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Ok(*id),
        _ => Err(Problem::not_found("no such outlet")),
    }
}

pub(super) async fn list(ask: Ask<(), ReviewsQuery>) -> Answered<Page<ReviewView>> {
    let Ask { app, caller, query, .. } = ask;
    let limit = LIMIT.read(query.limit)?;
    if query.stars.is_some_and(|stars| !(1..=5).contains(&stars)) {
        return Err(Problem::unreadable("query", Fault::new("stars", "must be 1 to 5")));
    }
    let merchant = caller.scope(&app, query.merchant.as_deref())?;
    let filter = ReviewFilter {
        merchant,
        outlet: query.outlet.as_deref().map(|name| outlet(&app, merchant, name)).transpose()?,
        source: query.source.as_deref().map(|name| caller.connection(&app, name)).transpose()?.map(|link| link.id),
        stars: query.stars,
        answered: query.state.map(|state| state == ReviewState::Answered),
        before: query.before,
        limit: limit + 1,
    };
    let found = app.engine.store.reviews(filter).await?;
    let page = Page::new(found, limit, |review| review.id.to_string());
    let unmasked = query.unmasked && caller.is_owner();
    reply(Page { items: page.items.into_iter().map(|review| view(review, unmasked)).collect(), next: page.next })
}

pub(super) async fn show(ask: Ask<ByIdOnly, Masking>) -> Answered<ReviewView> {
    let Ask { app, caller, path, query, .. } = ask;
    let found = if path.id.kind() == Kind::Review { app.engine.store.review(path.id).await? } else { None };
    let review = found.filter(|review| caller.sees(review.merchant)).ok_or_else(|| Problem::not_found("no such review"))?;
    reply(view(review, query.unmasked && caller.is_owner()))
}

/// What the merchant answers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "text": "Thank you! We are sorry about the wait: the next coffee is on us." }))]
pub(super) struct AnswerRequest {
    /// What the guest gets, by the channel that they were asked by.
    text: String,
}

pub(super) async fn answer(ask: Ask<ByIdOnly, (), AnswerRequest>) -> Answered<ReviewView> {
    let Ask { app, caller, path, body, .. } = ask;
    let by = caller.holder.name();
    let answered = app.engine.answer_review(path.id, caller.merchant, &body.text, by).await;
    let review = answered.map_err(|refused| match refused {
        NotAnswered::NoSuch => Problem::not_found("no such review"),
        NotAnswered::Already => Problem::conflict("it has been answered"),
        NotAnswered::Erased => Problem::conflict("nobody knows any more who left it: the person was erased"),
        NotAnswered::Unwanted => Problem::conflict("this person wants no messages, or has not agreed to any"),
        NotAnswered::NoWay => Problem::conflict("the connection that asked is gone, or sends no messages"),
        NotAnswered::Text(why) => Problem::invalid(vec![Fault::new("/text", why)]),
        NotAnswered::Store(error) => error.into(),
    })?;
    app.engine.audit(by, "review.answer", Some(review.merchant), review.id, json!({})).await?;
    reply(view(review, false))
}

/// In which days.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatsQuery {
    /// Requests made from this day on, in the outlet's zone; without it: from the first.
    from: Option<String>,
    /// Requests made until this day, which is included.
    to: Option<String>,
}

/// What came of review requests. All is counted on the day on which the request was made, so that parts are parts of the whole.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct ReviewFigures {
    /// Requests that were sent.
    sent: i64,
    /// Of which the page was opened.
    opened: i64,
    /// To which stars were given.
    left: i64,
    /// How often one, two, three, four and five stars were given.
    stars: [i64; 5],
    /// The stars on average, with two places; nothing where none were given.
    average: Option<String>,
    /// To which a comment was written.
    comments: i64,
    /// From which a map was gone to.
    clicks: Clicks,
}

/// How often each map was gone to.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Clicks {
    /// 2GIS.
    dgis: i64,
    /// Yandex Maps.
    yandex: i64,
    /// Google Maps.
    google: i64,
}

/// What came of the requests of one outlet, source and channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PlaceStats {
    /// Where the guests were.
    outlet: Option<Id>,
    /// The same, by its slug.
    outlet_slug: Option<String>,
    /// The connection that told of the visits.
    source: Id,
    /// The same, by its slug.
    source_slug: Option<String>,
    /// The channel that they were asked by.
    channel: Channel,
    /// How many came of how many.
    figures: ReviewFigures,
}

/// What came of review requests, as a whole and by place.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatsView {
    /// Of all places together.
    total: ReviewFigures,
    /// By outlet, source and channel.
    places: Vec<PlaceStats>,
}

impl ReviewFigures {
    fn add(&mut self, count: &ReviewCount) {
        let by = count.count;
        match count.what.split_once('/') {
            None if count.what == "sent" => self.sent += by,
            None if count.what == "opened" => self.opened += by,
            None if count.what == "comment" => self.comments += by,
            Some(("stars", stars)) => {
                if let Some(place) = stars.parse::<usize>().ok().and_then(|stars| self.stars.get_mut(stars.wrapping_sub(1))) {
                    *place += by;
                    self.left += by;
                }
            }
            Some(("click", "dgis")) => self.clicks.dgis += by,
            Some(("click", "yandex")) => self.clicks.yandex += by,
            Some(("click", "google")) => self.clicks.google += by,
            _ => {}
        }
    }

    fn averaged(mut self) -> Self {
        let sum: i64 = (1..).zip(self.stars).map(|(stars, count)| stars * count).sum();
        self.average = (self.left > 0).then(|| {
            let hundredths = (sum * 200 + self.left) / (self.left * 2);
            format!("{}.{:02}", hundredths / 100, hundredths % 100)
        });
        self
    }
}

fn day(field: &str, text: Option<&str>, default: i32) -> Result<i32, Problem> {
    let Some(text) = text else { return Ok(default) };
    let date: Date =
        text.parse().map_err(|_| Problem::unreadable("query", Fault::new(field, "is no day: write `2026-11-24`")))?;
    let days = date.since(Date::constant(1970, 1, 1)).map(|span| span.get_days());
    days.map_err(|_| Problem::unreadable("query", Fault::new(field, "is too far away")))
}

pub(super) async fn stats(ask: Ask<ById, StatsQuery>) -> Answered<StatsView> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let (from, to) = (day("from", query.from.as_deref(), i32::MIN)?, day("to", query.to.as_deref(), i32::MAX)?);
    let counts = app.engine.store.review_counts(merchant, from, to).await?;
    let mut total = ReviewFigures::default();
    let mut places: BTreeMap<(Option<Id>, Id, Channel), ReviewFigures> = BTreeMap::new();
    for count in &counts {
        total.add(count);
        places.entry((count.outlet, count.source, count.channel)).or_default().add(count);
    }
    let world = app.engine.world();
    let place = |((outlet, source, channel), figures): ((Option<Id>, Id, Channel), ReviewFigures)| PlaceStats {
        outlet,
        outlet_slug: outlet.and_then(|id| world.outlets.get(&id)).map(|(_, slug, _)| slug.clone()),
        source,
        source_slug: world.links.get(&source).map(|link| link.slug.clone()),
        channel,
        figures: figures.averaged(),
    };
    reply(StatsView { total: total.averaged(), places: places.into_iter().map(place).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_is_rounded_to_two_places() {
        let figures = ReviewFigures { left: 3, stars: [0, 0, 0, 1, 2], ..ReviewFigures::default() };
        assert_eq!(figures.averaged().average.as_deref(), Some("4.67"));
        assert_eq!(ReviewFigures::default().averaged().average, None);
    }
}
