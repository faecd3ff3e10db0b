//! Codes by which people prove an address, and what channels there are for them and for all other messages.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use uzel_engine::{
    ChannelState,
    code::{CodeCheck, CodeChecked, CodeRefused, CodeRequest, CodeSent},
};

use super::route::{Answered, Ask, ById, Reply, reply};
use crate::{Problem, api::commands::asker};

/// Queues the message that brings a code.
pub(super) async fn send(ask: Ask<(), (), CodeRequest>) -> Answered<CodeSent> {
    let Ask { app, caller, body, .. } = ask;
    let sent = app.engine.send_code(&asker(&caller), body).await;
    let sent = sent.map_err(|refused| problem(refused, app.engine.clock.now()))?;
    Ok(Reply::new(sent))
}

/// Whether a person typed the right one.
pub(super) async fn check(ask: Ask<(), (), CodeCheck>) -> Answered<CodeChecked> {
    let Ask { app, caller, body, .. } = ask;
    let checked = app.engine.check_code(&asker(&caller), body).await;
    reply(checked.map_err(|refused| problem(refused, app.engine.clock.now()))?)
}

fn problem(refused: CodeRefused, now: Timestamp) -> Problem {
    match refused {
        CodeRefused::Invalid(faults) => Problem::invalid(faults),
        CodeRefused::NoChannel(why) => Problem::no_channel(why),
        CodeRefused::TooMany(at) => {
            let wait_ms = at.as_millisecond() - now.as_millisecond();
            Problem::too_many_codes(u32::try_from(wait_ms / 1_000 + 1).unwrap_or(1))
        }
        CodeRefused::Store(error) => error.into(),
    }
}

/// What of each channel a merchant has.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChannelsView {
    /// One of each channel.
    items: Vec<ChannelState>,
}

pub(super) async fn channels(ask: Ask<ById>) -> Answered<ChannelsView> {
    let Ask { app, caller, path, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    reply(ChannelsView { items: app.engine.channels(merchant) })
}
