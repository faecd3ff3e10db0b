//! Messages whose answer was lost, and of which a status tells that brings the command's own key: so they were taken.
//!
//! Such a status may come while the call still waits for its answer: then it is kept with the lease until the call has ended.

use uzel_model::{Id, connector::StatusNews, id::Kind};

use crate::{CommandState, Settlement};

/// Why a command is done though its answer was lost.
pub(crate) const TAKEN: &str = "its answer was lost; a status tells that the provider took it";

/// The command whose key a status brings.
pub(crate) fn command(news: &StatusNews) -> Option<Id> {
    let command: Id = news.key.as_deref()?.parse().ok()?;
    (command.kind() == Kind::Command).then_some(command)
}

impl Settlement {
    /// The same, done under the provider's id.
    pub(crate) fn taken(&self, provider_id: String) -> Self {
        Self {
            state: CommandState::Done,
            retry_at: None,
            reason: Some(TAKEN.to_owned()),
            refs: vec![provider_id.clone()],
            provider_id: Some(provider_id),
            frees_slot: false,
            ..self.clone()
        }
    }
}
