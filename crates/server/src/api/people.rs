//! People: their right to be forgotten.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::ErasureError;
use uzel_model::check::Fault;

use super::route::{Answered, Ask, ById, reply};
use crate::Problem;

/// Who is to be forgotten.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "phone": "+79991234567" }))]
#[schemars(example = json!({ "email": "maria@example.com" }))]
pub(super) struct ErasureRequest {
    /// The person's phone. Exactly one of `phone`, `email` and `chat` is given: what is kept of another address is another erasure.
    phone: Option<String>,
    /// The person's mailbox.
    email: Option<String>,
    /// The number of the person's chat.
    chat: Option<i64>,
}

impl ErasureRequest {
    /// The address, and the field that it stands in.
    fn address(&self) -> Result<(&'static str, String), Problem> {
        match (&self.phone, &self.email, self.chat) {
            // A mailbox in the wrong field is no phone.
            (Some(phone), None, None) => Ok(("/phone", phone.replace(['@', '/'], " "))),
            (None, Some(email), None) if !email.contains('@') => {
                Err(Problem::invalid(vec![Fault::new("/email", "is no e-mail address: write `name@example.com`")]))
            }
            (None, Some(email), None) => Ok(("/email", email.clone())),
            (None, None, Some(chat)) => Ok(("/chat", format!("chat/{chat}"))),
            _ => Err(Problem::invalid(vec![Fault::new("/phone", "give exactly one of `phone`, `email` and `chat`")])),
        }
    }
}

/// What was blanked or deleted.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErasureView {
    /// Entries of the journal.
    entries: u64,
    /// Events.
    events: u64,
    /// Commands.
    commands: u64,
    /// Calls that were kept.
    exchanges: u64,
    /// What was known about the person.
    contacts: u64,
    /// Customers of the loyalty programme, whose points stay.
    wallets: u64,
    /// Refused requests.
    refusals: u64,
    /// Calls under way and entries that nobody has read yet, which are left: ask again later.
    busy: u64,
    /// What no erasure here reaches, in words.
    not_reached: Vec<String>,
}

/// Forgets one person: bodies, names and phones go, numbers, times and ids stay.
pub(super) async fn erase(ask: Ask<ById, (), ErasureRequest>) -> Answered<ErasureView> {
    let Ask { app, caller, path, body, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let (field, address) = body.address()?;
    let done = app.engine.erase(merchant, &address).await.map_err(|error| match error {
        ErasureError::Phone(error) => Problem::invalid(vec![Fault::new(field, error.to_string())]),
        ErasureError::Address(error) => Problem::invalid(vec![Fault::new(field, error)]),
        ErasureError::Store(error) => Problem::from(error),
    })?;
    let erased = done.erased;
    // Who it was is not written down again.
    let detail = json!({ "entries": erased.entries, "commands": erased.commands });
    app.engine.audit(caller.holder.name(), "person.erase", Some(merchant), merchant, detail).await?;
    reply(ErasureView {
        entries: erased.entries,
        events: erased.events,
        commands: erased.commands,
        exchanges: erased.exchanges,
        contacts: erased.contacts,
        wallets: erased.wallets,
        refusals: erased.refusals,
        busy: erased.busy,
        not_reached: done.not_reached,
    })
}
