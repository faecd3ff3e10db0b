//! A command whose outcome nobody knew, ended by a person who found out at the provider.

use serde::{Deserialize, Serialize};
use uzel_model::{Id, id::Kind};
use uzel_store::{Change, CommandState, Exchange, StoreError, Verdict};

use crate::Engine;

/// What the provider turned out to have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FoundOut {
    Done,
    /// Nothing was done: the command is dead, and may be replayed.
    Failed,
}

/// Why a command was not ended.
#[derive(Debug, Clone)]
pub enum NotSettled {
    /// There is none, or it is not the caller's to see.
    NoSuch,
    /// It is not unknown.
    Is(CommandState),
    Store(StoreError),
}

impl From<StoreError> for NotSettled {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Engine {
    /// Ends a command of unknown outcome as `by` says, with the note in the journal. `merchant`: whose it must be.
    pub async fn settle_by_hand(
        &self,
        command: Id,
        merchant: Option<Id>,
        found_out: FoundOut,
        note: &str,
        by: &str,
    ) -> Result<CommandState, NotSettled> {
        let found = self.store.command(command).await?.filter(|(of, _)| merchant.is_none_or(|own| own == *of));
        let (merchant, known) = found.ok_or(NotSettled::NoSuch)?;
        let provider = self.world().links.get(&known.connection).map_or_else(String::new, |link| link.provider.id.to_owned());
        let (state, word) = match found_out {
            FoundOut::Done => (CommandState::Done, "done"),
            FoundOut::Failed => (CommandState::Dead, "failed"),
        };
        let reason = format!("{word}, by the word of a person ({by}): {note}");
        let now = self.clock.now();
        let exchange = Exchange {
            id: Id::new(Kind::Attempt),
            merchant,
            connection: known.connection,
            provider,
            at: now,
            endpoint: "settled by hand".to_owned(),
            request: note.to_owned(),
            response: word.to_owned(),
            error: (found_out == FoundOut::Failed).then(|| reason.clone()),
            duration_ms: 0,
            trace: crate::tick::new_trace(),
        };
        let verdict = Verdict { command, state, reason, provider_id: None, exchange };
        match self.store.apply(Change { verdict: Some(verdict), now: Some(now), ..Change::default() }).await {
            Ok(_) => Ok(state),
            Err(StoreError::Conflict) => {
                let stands = self.store.command(command).await?.map(|(_, command)| command.state);
                Err(stands.map_or(NotSettled::NoSuch, NotSettled::Is))
            }
            Err(error) => Err(error.into()),
        }
    }
}
