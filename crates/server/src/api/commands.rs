//! Commands that are asked for: texts to single people, each under a key of the caller's own.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use uzel_engine::{Accepted, CommandRequest, Holder as Asker, Refused};
use uzel_model::check::Fault;

use super::{
    journal::{ByIdOnly, Masking},
    mask::mask_value,
    once,
    route::{Answered, Ask, Reply, reply},
};
use crate::Problem;

const KEY: &str = "Idempotency-Key";

/// Queued; the same again under the same key gives the same command.
pub(super) async fn ask(ask: Ask<(), (), CommandRequest>) -> Answered<Accepted> {
    let Ask { app, caller, body, head, .. } = ask;
    // That it is there and can be read has been looked at.
    let key = head.get(once::HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let holder = Asker { proof: caller.holder.proof(), merchant: caller.merchant, role: caller.role };
    let accepted = app.engine.command(&holder, body, key).await.map_err(|refused| Problem::refused(&refused, KEY))?;
    Ok(Reply::new(accepted).at(&format!("/api/v1/commands/{}", accepted.id)))
}

/// A command with its attempts.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct CommandView(#[schemars(with = "CommandShape")] Value);

/// The shape of what is shown: masked, it is the same.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CommandShape {
    merchant: uzel_model::Id,
    #[serde(flatten)]
    command: uzel_store::TimelineCommand,
}

/// What has become of a command, with its attempts.
pub(super) async fn show(ask: Ask<ByIdOnly, Masking>) -> Answered<CommandView> {
    let Ask { app, caller, path, query, .. } = ask;
    let found = app.engine.store.command(path.id).await?.filter(|(merchant, _)| caller.sees(*merchant));
    let (merchant, command) = found.ok_or_else(|| Problem::not_found("no such command"))?;
    let mut value = json!(command);
    value["merchant"] = json!(merchant);
    if !(query.unmasked && caller.is_owner()) {
        mask_value(&mut value);
    }
    reply(CommandView(value))
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
