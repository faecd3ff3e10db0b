//! Commands that are asked for: texts to single people, each under a key of the caller's own.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::{Value, json};
use uzel_engine::{Accepted, CommandRequest, Holder as Asker, Refused};
use uzel_model::{Id, check::Fault};

use super::{
    caller::{Caller, Holder},
    journal::Masking,
    mask::mask_value,
    read::{Body, Path, Query},
};
use crate::{App, Problem};

const KEY: &str = "Idempotency-Key";

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
