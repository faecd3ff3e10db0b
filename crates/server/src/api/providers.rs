//! What the hub can be connected to: schemas of settings, abilities, and what the merchant has to do at the provider.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uzel_model::Provider;
use uzel_store::Refusal;

use super::{
    connections::shown,
    journal::Masking,
    page::Page,
    route::{Answered, Ask, ById, reply},
};
use crate::{App, Problem};

/// An outside system.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProviderView {
    /// Its id.
    id: &'static str,
    /// As people call it.
    name: &'static str,
    /// JSON Schema (2020-12) of a connection's `settings`, with titles and help in three languages.
    schema: Value,
}

fn view(provider: &Provider) -> ProviderView {
    ProviderView { id: provider.id, name: provider.name, schema: provider.schema().to_value() }
}

pub(super) async fn list(ask: Ask) -> Answered<Page<ProviderView>> {
    reply(Page::whole(ask.app.engine.providers.iter().map(view).collect()))
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<ProviderView> {
    let found = ask.app.engine.providers.iter().find(|provider| provider.id == ask.path.id);
    reply(view(found.ok_or_else(|| Problem::not_found("no such provider"))?))
}

fn is_known(app: &App, id: &str) -> bool {
    // Commands that came by a message belong to no provider either.
    id == "nats" || app.engine.providers.iter().any(|provider| provider.id == id)
}

/// Requests whose key belongs to no connection, newest first: whose they are nobody knows, so only the hub's owner sees them.
pub(super) async fn refusals(ask: Ask<ById, Masking>) -> Answered<Page<Refusal>> {
    if !is_known(&ask.app, &ask.path.id) {
        return Err(Problem::not_found("no such provider"));
    }
    let refusals = ask.app.engine.store.refusals(&ask.path.id).await?;
    reply(Page::whole(shown(refusals, ask.query.unmasked)))
}
