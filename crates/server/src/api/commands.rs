//! Commands that are asked for: texts to single people, each under a key of the caller's own.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::{Accepted, CommandRequest, FoundOut, Holder as Asker, NotSettled, Refused};
use uzel_model::{Id, check::Fault};

use super::{
    caller::{Caller, Holder},
    journal::Masking,
    mask::mask_value,
    read::{Body, Path, Query},
};
use crate::{App, Problem};

const KEY: &str = "Idempotency-Key";
const NOTE_BYTES_MAX: usize = 1_000;

/// 202 where it was queued now; 200 where it had been asked for before, with what has become of it.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    Body(request): Body<CommandRequest>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let key =
        headers.get(KEY).map(|value| value.to_str().map_err(|_| Refused::NoOnce("must be of visible ASCII signs".to_owned())));
    let key =
        key.unwrap_or_else(|| Err(Refused::NoOnce("is missing: send a key of your own, so that a repeat is known".to_owned())));
    let proof = match caller.holder {
        Holder::Socket => b"socket".to_vec(),
        Holder::Key(hash) => hash,
    };
    let holder = Asker { proof, merchant: caller.merchant, role: caller.role };
    let accepted = match key {
        Ok(key) => app.engine.command(&holder, request, key).await,
        Err(refused) => Err(refused),
    };
    let accepted = accepted.map_err(|refused| Problem::refused(&refused, KEY))?;
    Ok((if accepted.repeated { StatusCode::OK } else { StatusCode::ACCEPTED }, Json(accepted)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    id: Id,
}

/// What has become of a command, with its attempts.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(Named { id }): Path<Named>,
    Query(masking): Query<Masking>,
) -> Result<Json<Value>, Problem> {
    let found = app.engine.store.command(id).await?.filter(|(merchant, _)| caller.sees(*merchant));
    let (merchant, command) = found.ok_or_else(|| Problem::not_found("no such command"))?;
    let mut value = json!(command);
    value["merchant"] = json!(merchant);
    if !(masking.unmasked && caller.is_owner()) {
        mask_value(&mut value);
    }
    Ok(Json(value))
}

/// What a person found out of a command whose outcome is unknown.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settle {
    outcome: FoundOut,
    /// How it was found out; it stands in the journal.
    note: String,
}

/// Ends a command of unknown outcome by the word of a person.
pub(super) async fn settle(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(Named { id }): Path<Named>,
    Body(settle): Body<Settle>,
) -> Result<Json<Value>, Problem> {
    if !caller.is_owner() {
        return Err(Problem::not_found("no such path for this key"));
    }
    let note = settle.note.trim();
    if note.is_empty() || note.len() > NOTE_BYTES_MAX {
        let why = format!("must have 1 to {NOTE_BYTES_MAX} bytes: say how it was found out");
        return Err(Problem::invalid(vec![Fault::new("/note", why)]));
    }
    let by = if caller.holder == Holder::Socket { "on this machine" } else { "with a key of the API" };
    match app.engine.settle_by_hand(id, caller.merchant, settle.outcome, note, by).await {
        Ok(state) => Ok(Json(json!({ "id": id, "state": state }))),
        Err(NotSettled::NoSuch) => Err(Problem::not_found("no such command")),
        Err(NotSettled::Is(state)) => {
            let why = format!(
                "the command is {}: only what is unknown can be settled by hand",
                json!(state).as_str().unwrap_or_default()
            );
            Err(Problem::invalid(vec![Fault::new("", why)]))
        }
        Err(NotSettled::Store(error)) => Err(error.into()),
    }
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
