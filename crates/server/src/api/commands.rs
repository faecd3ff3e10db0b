//! Commands that are asked for: texts to single people, each under a key of the caller's own.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_engine::{Accepted, BatchAccepted, BatchRequest, CommandRequest, FoundOut, Holder as Asker, NotSettled, Refused};
use uzel_model::{Id, check::Fault};
use uzel_store::{Cancelled, CommandFilter, CommandState, TimelineCommand};

use super::{
    caller::Caller,
    journal::{ByIdOnly, Masking},
    mask::{mask_value, shorten_job},
    once,
    page::{LIMIT, Page},
    route::{Answered, Ask, Reply, reply},
};
use crate::{Problem, api::Holder};

const KEY: &str = "Idempotency-Key";
const NOTE_BYTES_MAX: usize = 1_000;

/// Queued; the same again under the same key gives the same command.
pub(super) async fn ask(ask: Ask<(), (), CommandRequest>) -> Answered<Accepted> {
    let Ask { app, caller, body, head, .. } = ask;
    // That it is there and can be read has been looked at.
    let key = head.get(once::HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepted = app.engine.command(&asker(&caller), body, key).await.map_err(|refused| Problem::refused(&refused, KEY))?;
    Ok(Reply::new(accepted).at(&format!("/api/v1/commands/{}", accepted.id)))
}

/// Queued; the same again under the same key gives the same batch.
pub(super) async fn ask_many(ask: Ask<(), (), BatchRequest>) -> Answered<BatchAccepted> {
    let Ask { app, caller, body, head, .. } = ask;
    let key = head.get(once::HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let accepted = app.engine.batch(&asker(&caller), &body, key).await.map_err(|refused| Problem::refused(&refused, KEY))?;
    let place = accepted.id.map(|id| format!("/api/v1/commands/{id}")).unwrap_or_default();
    Ok(Reply::new(accepted).at(&place))
}

/// What would become of a batch.
pub(super) async fn look_at_many(ask: Ask<(), (), BatchRequest>) -> Answered<BatchAccepted> {
    let Ask { app, caller, body, .. } = ask;
    reply(app.engine.batch_dry_run(&asker(&caller), &body).await.map_err(|refused| Problem::refused(&refused, KEY))?)
}

/// A caller, as the engine knows whoever asks.
pub(super) fn asker(caller: &Caller) -> Asker {
    Asker { proof: caller.holder.proof(), merchant: caller.merchant, role: caller.role }
}

/// A command with its attempts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct CommandView(#[schemars(with = "CommandShape")] Value);

/// The shape of what is shown: masked, it is the same.
#[derive(JsonSchema)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
struct CommandShape {
    /// Whose it is.
    merchant: Id,
    #[serde(flatten)]
    command: TimelineCommand,
}

/// What has become of a command, with its attempts.
pub(super) async fn show(ask: Ask<ByIdOnly, Masking>) -> Answered<CommandView> {
    let Ask { app, caller, path, query, .. } = ask;
    let found = app.engine.store.command(path.id).await?.filter(|(merchant, _)| caller.sees(*merchant));
    let (merchant, command) = found.ok_or_else(|| Problem::not_found("no such command"))?;
    reply(view(merchant, &command, query.unmasked && caller.is_owner()))
}

/// Which commands.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandsQuery {
    /// By id or slug.
    merchant: Option<String>,
    /// That makes the call, by id or slug.
    connection: Option<String>,
    /// What became of them.
    state: Option<CommandState>,
    /// Id of the event that led to them.
    event: Option<Id>,
    /// Made from then on.
    from: Option<Timestamp>,
    /// Made before then.
    to: Option<Timestamp>,
    /// `next` of the page before.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Shows phones and texts whole; owners only.
    #[serde(default)]
    unmasked: bool,
}

pub(super) async fn list(ask: Ask<(), CommandsQuery>) -> Answered<Page<CommandView>> {
    let Ask { app, caller, query, .. } = ask;
    let limit = LIMIT.read(query.limit)?;
    let connection = query.connection.as_deref().map(|name| caller.connection(&app, name)).transpose()?;
    let filter = CommandFilter {
        merchant: caller.scope(&app, query.merchant.as_deref())?,
        connection: connection.map(|link| link.id),
        state: query.state,
        event: query.event,
        from: query.from,
        to: query.to,
        before: query.before,
        limit: limit + 1,
    };
    let unmasked = query.unmasked && caller.is_owner();
    let found = app.engine.store.commands(filter).await?;
    let page = Page::new(found, limit, |(_, command)| command.id.to_string());
    reply(Page {
        items: page.items.iter().map(|(merchant, command)| view(*merchant, command, unmasked)).collect(),
        next: page.next,
    })
}

/// Holds a command back that has not been sent yet.
pub(super) async fn cancel(ask: Ask<ByIdOnly>) -> Answered<CommandView> {
    let Ask { app, caller, path, .. } = ask;
    let missing = || Problem::not_found("no such command");
    let found = app.engine.store.command(path.id).await?.filter(|(merchant, _)| caller.sees(*merchant));
    let (merchant, command) = found.ok_or_else(missing)?;
    if let Some(batch) = command.job["batch"].as_str().filter(|_| command.state == CommandState::Waiting) {
        return Err(Problem::conflict(format!("it goes with its batch: call {batch} off, or nothing")));
    }
    match app.engine.cancel(path.id, "called off").await? {
        Cancelled::Held => {}
        Cancelled::Unknown => return Err(missing()),
        Cancelled::Sending => return Err(Problem::conflict("it is being sent: too late")),
        Cancelled::Ended(state) => {
            let state = json!(state);
            return Err(Problem::conflict(format!("it has ended: {}", state.as_str().unwrap_or_default())));
        }
    }
    app.engine.audit(caller.holder.name(), "command.cancel", Some(merchant), path.id, json!({})).await?;
    let (merchant, command) = app.engine.store.command(path.id).await?.ok_or_else(missing)?;
    reply(view(merchant, &command, false))
}

fn view(merchant: Id, command: &TimelineCommand, unmasked: bool) -> CommandView {
    let mut value = json!(command);
    value["merchant"] = json!(merchant);
    // A sealed code is of use to nobody.
    if let Some(job) = value["job"].as_object_mut() {
        job.remove("code");
    }
    shorten_job(&mut value["job"]);
    if !unmasked {
        mask_value(&mut value);
    }
    CommandView(value)
}

/// What a person found out of a command whose outcome is unknown.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "outcome": "done", "note": "the provider's cabinet shows it as delivered" }))]
pub(super) struct SettleRequest {
    /// What the provider says became of it.
    outcome: FoundOut,
    /// How it was found out; it stands in the journal.
    note: String,
}

/// Ends a command of unknown outcome by the word of a person.
pub(super) async fn settle(ask: Ask<ByIdOnly, (), SettleRequest>) -> Answered<SettledView> {
    let Ask { app, caller, path, body, .. } = ask;
    let note = body.note.trim();
    if note.is_empty() || note.len() > NOTE_BYTES_MAX {
        let why = format!("must have 1 to {NOTE_BYTES_MAX} bytes: say how it was found out");
        return Err(Problem::invalid(vec![Fault::new("/note", why)]));
    }
    let by = if caller.holder == Holder::Socket { "on this machine" } else { "with a key of the API" };
    let state =
        app.engine.settle_by_hand(path.id, caller.merchant, body.outcome, note, by).await.map_err(|refused| match refused {
            NotSettled::NoSuch => Problem::not_found("no such command"),
            NotSettled::Is(state) => {
                let state = json!(state);
                let state = state.as_str().unwrap_or_default();
                let why = format!("the command is {state}: only what is unknown can be settled by hand");
                Problem::invalid(vec![Fault::new("", why)])
            }
            NotSettled::Store(error) => error.into(),
        })?;
    let detail = json!({ "state": state, "note": note });
    app.engine.audit(caller.holder.name(), "command.settle", caller.merchant, path.id, detail).await?;
    reply(SettledView { id: path.id, state })
}

/// A command that was settled.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SettledView {
    /// The command.
    id: Id,
    /// How it stands now.
    state: CommandState,
}

impl Problem {
    /// Why a command is not taken; `once` is what the caller's own key is called on the way it came.
    pub(crate) fn refused(refused: &Refused, once: &str) -> Self {
        match refused {
            Refused::NoKey => Self::unauthorized(),
            Refused::Role => Self::not_found("no such path for this key"),
            Refused::NoOnce(why) => Self::unreadable("head", Fault::new(once, why)),
            Refused::TooLarge(bytes_max) => Self::too_large_for(*bytes_max),
            Refused::Unreadable(why) => Self::bad_request(why),
            Refused::Invalid(faults) => Self::invalid(faults.clone()),
            Refused::OtherBody => Self::invalid(vec![Fault::new(once, "was used for another command: take a new one for each")]),
            Refused::Store(error) => Self::from(error.clone()),
        }
    }
}

/// The document by which a command that came by a message is refused.
pub fn refused_message(refused: &Refused) -> Value {
    let problem = Problem::refused(refused, "Nats-Msg-Id");
    let mut document = json!(problem);
    match refused {
        Refused::NoKey => document["detail"] = json!("send a key of the hub in the header `Uzel-Key`"),
        Refused::Role => document["detail"] = json!("this key may not ask for commands"),
        _ => {}
    }
    document
}
