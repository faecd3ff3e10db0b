//! Events: pages of what happened, and the feed, which tells each event once to whoever reads on from its cursor.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_engine::World;
use uzel_model::{Id, check::Fault, cloudevent::CloudEvent};
use uzel_store::{EventFilter, FeedCursor, FeedFrom, StoredEvent};

use super::{
    journal::{ByIdOnly, Masking},
    mask::mask_value,
    page::{LIMIT, Page},
    route::{Answered, Ask, reply},
};
use crate::Problem;

/// How long the feed waits for something to tell, at the most.
const WAIT_S_MAX: u32 = 25;

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// By id or slug.
    merchant: Option<String>,
    /// Types, divided by commas: `order.completed`, or `order.*` for all that begin so.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// What they are about: `order/5001`.
    subject: Option<String>,
    /// By id or slug.
    connection: Option<String>,
    /// Read by the hub from then on.
    from: Option<Timestamp>,
    /// Read by the hub before then.
    to: Option<Timestamp>,
    /// `next` of the page before.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows names and phones whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

/// An event as CloudEvents 1.0 have it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct EventView {
    #[serde(flatten)]
    event: EventDocument,
    /// Whether its guest is still being looked up: a phone may yet come.
    pending: bool,
}

/// The document that is also published to NATS and sent to endpoints.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
struct EventDocument(#[schemars(with = "EventShape")] Value);

/// An event as CloudEvents 1.0 have it.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct EventShape {
    /// `1.0`.
    specversion: String,
    /// Its id.
    id: Id,
    /// `order.completed`, `visit.completed`, …
    #[serde(rename = "type")]
    kind: String,
    /// Path of the merchant and connection that it came by.
    source: String,
    /// What it is about.
    subject: String,
    /// When it happened.
    time: Timestamp,
    /// `application/json`.
    datacontenttype: String,
    /// Slug of the merchant.
    merchant: String,
    /// Slug of the outlet.
    outlet: Option<String>,
    /// Id of the provider.
    provider: String,
    /// The trace that it belongs to (W3C).
    traceparent: String,
    /// The provider gave no id: the same may have been told twice.
    weakkey: bool,
    /// It is from before the connection was set up.
    history: bool,
    /// Key, entry, numbers, person and what the connector read: `docs/nats.md` has every field.
    data: Value,
}

fn view(world: &World, stored: &StoredEvent, unmasked: bool) -> EventView {
    let StoredEvent { event, pending } = stored;
    let merchant = world.merchants.get(&event.merchant).map(|(slug, _)| slug.as_str()).unwrap_or_default();
    let outlet = event.outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, slug, _)| slug.as_str());
    let mut document = json!(CloudEvent::of(event, merchant, outlet));
    if !unmasked {
        mask_value(&mut document);
    }
    EventView { event: EventDocument(document), pending: *pending }
}

fn kinds(text: Option<&str>) -> Vec<String> {
    text.into_iter().flat_map(|text| text.split(',')).map(str::trim).filter(|kind| !kind.is_empty()).map(str::to_owned).collect()
}

pub(super) async fn list(ask: Ask<(), EventsQuery>) -> Answered<Page<EventView>> {
    let Ask { app, caller, query, .. } = ask;
    let limit = LIMIT.read(query.limit)?;
    let connection = query.connection.as_deref().map(|name| caller.connection(&app, name)).transpose()?;
    let filter = EventFilter {
        merchant: caller.scope(&app, query.merchant.as_deref())?,
        kinds: kinds(query.kind.as_deref()),
        subject: query.subject,
        connection: connection.map(|link| link.id),
        from: query.from,
        to: query.to,
        before: query.before,
        limit: limit + 1,
    };
    let unmasked = query.unmasked && caller.is_owner();
    let found = app.engine.store.events(filter).await?;
    let page = Page::new(found, limit, |stored| stored.event.id.to_string());
    let world = app.engine.world();
    reply(Page { items: page.items.iter().map(|stored| view(&world, stored, unmasked)).collect(), next: page.next })
}

pub(super) async fn show(ask: Ask<ByIdOnly, Masking>) -> Answered<EventView> {
    let Ask { app, caller, path, query, .. } = ask;
    let event = app.engine.store.event(path.id).await?.filter(|event| caller.sees(event.merchant));
    let event = event.ok_or_else(|| Problem::not_found("no such event"))?;
    reply(view(&app.engine.world(), &StoredEvent { event, pending: false }, query.unmasked && caller.is_owner()))
}

/// From where the feed is read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// By id or slug.
    merchant: Option<String>,
    /// Types, divided by commas: `order.completed`, or `order.*` for all that begin so.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// `cursor` of the answer before. Without it, and without `since`: what is told from now on.
    after: Option<String>,
    /// What was told since then.
    since: Option<Timestamp>,
    /// Seconds to wait where there is nothing to tell.
    #[serde(default)]
    #[schemars(range(max = 25))]
    wait_s: u32,
    /// Events of an answer.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows names and phones whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

/// What comes next in the feed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FeedView {
    /// In the order in which they became whole.
    items: Vec<EventView>,
    /// Read on from here, also where there were none.
    cursor: String,
    /// There is more already.
    more: bool,
}

pub(super) async fn feed(ask: Ask<(), FeedQuery>) -> Answered<FeedView> {
    let Ask { app, caller, query, .. } = ask;
    let wrong = |field: &str, why: String| Problem::unreadable("query", Fault::new(field, why));
    let from = match (query.after, query.since) {
        (Some(_), Some(_)) => return Err(wrong("since", "stands beside `after`: give one of the two".to_owned())),
        (Some(cursor), None) => {
            let cursor: FeedCursor = cursor.parse().map_err(|error| wrong("after", format!("{error}")))?;
            FeedFrom::After(cursor)
        }
        (None, Some(since)) => FeedFrom::Time(since),
        (None, None) => FeedFrom::Now,
    };
    if query.wait_s > WAIT_S_MAX {
        return Err(wrong("wait_s", format!("may be {WAIT_S_MAX} at the most")));
    }
    let merchant = caller.scope(&app, query.merchant.as_deref())?;
    let limit = LIMIT.read(query.limit)?;
    let wait = Duration::from_secs(u64::from(query.wait_s));
    let page = app.engine.next_events(merchant, &kinds(query.kind.as_deref()), from, limit, wait).await?;
    let unmasked = query.unmasked && caller.is_owner();
    let world = app.engine.world();
    reply(FeedView {
        items: page.events.iter().map(|stored| view(&world, stored, unmasked)).collect(),
        cursor: page.cursor.to_string(),
        more: page.more,
    })
}
