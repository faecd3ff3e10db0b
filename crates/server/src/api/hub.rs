//! The hub itself: counts, notices, the store's own check, what is well and what is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::Id;
use uzel_store::{CommandState, EntryState, Notice};

use super::{
    mask::mask_text,
    page::Page,
    route::{Answered, Ask, reply},
};
use crate::Problem;

/// How many rows stand in which state.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CountsView {
    /// Entries by state.
    entries: Vec<(EntryState, u64)>,
    /// Commands by state.
    commands: Vec<(CommandState, u64)>,
    /// Reasons of held commands.
    held: Vec<(String, u64)>,
}

pub(super) async fn counts(ask: Ask) -> Answered<CountsView> {
    let counts = ask.app.engine.store.counts().await?;
    reply(CountsView { entries: counts.entries, commands: counts.commands, held: counts.held })
}

/// Something a person should know.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NoticeView {
    /// Whose it is.
    merchant: Id,
    /// What it is about.
    connection: Id,
    /// Notices of one kind replace each other.
    kind: String,
    /// What a person should know.
    text: String,
}

pub(super) async fn notices(ask: Ask) -> Answered<Page<NoticeView>> {
    let Ask { app, caller, .. } = ask;
    let notices = app.engine.store.notices(caller.merchant, 200).await?;
    // A provider's words may repeat the phone that it was given.
    let text = |notice: &Notice| if caller.is_owner() { notice.text.clone() } else { mask_text(&notice.text) };
    let view = |notice: Notice| NoticeView {
        text: text(&notice),
        merchant: notice.merchant,
        connection: notice.connection,
        kind: notice.kind,
    };
    reply(Page::whole(notices.into_iter().map(view).collect()))
}

/// Whether events are published to NATS.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "publish": false }))]
pub(super) struct NatsRequest {
    /// Whether events are kept until they are published.
    publish: bool,
}

/// How publishing ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NatsEnded {
    /// Whether events are published.
    publish: bool,
    /// How many events that waited are published no more.
    forgotten: u64,
}

/// Ends the publishing of events, for all nodes: it begins again with a node whose settings name a server.
pub(super) async fn nats(ask: Ask<(), (), NatsRequest>) -> Answered<NatsEnded> {
    let Ask { app, caller, body, .. } = ask;
    if body.publish {
        return Err(Problem::bad_request("set `nats` in the settings and start the hub again: that begins it"));
    }
    if app.engine.options.nats.is_some() {
        return Err(Problem::bad_request(
            "`nats` is set: take it out of the settings of all nodes, start them again, and then end it",
        ));
    }
    let (forgotten, _) = app.engine.store.publishing().await?;
    app.engine.store.publish(false).await?;
    app.engine.metrics.unpublished_events.set(0);
    app.engine.audit(caller.holder.name(), "nats.end", None, "hub", json!({ "forgotten": forgotten })).await?;
    reply(NatsEnded { publish: false, forgotten })
}

/// What the store is checked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "repair": false }))]
pub(super) struct FsckRequest {
    /// Mends what can be mended.
    #[serde(default)]
    repair: bool,
}

/// What the store's own check found.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FsckFound {
    /// Faults, in words; none where all is well.
    found: Vec<String>,
}

pub(super) async fn fsck(ask: Ask<(), (), FsckRequest>) -> Answered<FsckFound> {
    let Ask { app, caller, body, .. } = ask;
    let found = app.engine.store.fsck(body.repair).await?;
    if body.repair {
        app.engine.audit(caller.holder.name(), "store.repair", None, "hub", json!({ "found": found.len() })).await?;
    }
    reply(FsckFound { found })
}

/// What is looked at.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DoctorQuery {
    /// Whether providers are asked too.
    #[serde(default)]
    calls: bool,
}

/// How the hub is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DoctorReport {
    /// Of the hub.
    version: &'static str,
    /// What was looked at, how it is, and what to do.
    findings: Value,
}

pub(super) async fn doctor(ask: Ask<(), DoctorQuery>) -> Answered<DoctorReport> {
    let findings = ask.app.engine.examine(ask.query.calls).await;
    reply(DoctorReport { version: env!("CARGO_PKG_VERSION"), findings: json!(findings) })
}

/// Who asks, as the hub sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Myself {
    /// The key's id; `local` on the hub's own machine.
    key: String,
    /// What the key may do.
    role: uzel_engine::Role,
    /// Nothing: the whole hub.
    merchant: Option<Id>,
}

pub(super) async fn myself(ask: Ask) -> Answered<Myself> {
    let caller = ask.caller;
    reply(Myself { key: caller.holder.name().to_owned(), role: caller.role, merchant: caller.merchant })
}
