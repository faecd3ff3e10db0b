//! What the hub can be connected to: schemas of settings, abilities, and what the merchant has to do at the provider.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uzel_model::{
    Provider,
    words::{AbilityView, HUB_HERE, Language, Said},
};
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
    /// What the hub can do with it.
    abilities: Vec<AbilityView>,
    /// The address to give to the provider, with `YOUR_KEY` in place of a connection's webhook key. Where the provider proves its
    /// requests itself there is no key, and `{connection}` stands for the connection's id. None: it sends no webhooks.
    hook: Option<String>,
    /// What the merchant does at the provider, in order.
    steps: Said<Vec<String>>,
}

fn base(app: &App) -> &str {
    app.engine.options.public_url.as_deref().unwrap_or(HUB_HERE)
}

fn view(app: &App, provider: &Provider) -> ProviderView {
    ProviderView {
        id: provider.id,
        name: provider.name,
        schema: provider.schema().to_value(),
        abilities: provider.words().abilities(),
        hook: provider.hook(base(app), None),
        steps: provider.steps(base(app), None),
    }
}

pub(super) async fn list(ask: Ask) -> Answered<Page<ProviderView>> {
    reply(Page::whole(ask.app.engine.providers.iter().map(|provider| view(&ask.app, provider)).collect()))
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<ProviderView> {
    let found = ask.app.engine.providers.iter().find(|provider| provider.id == ask.path.id);
    reply(view(&ask.app, found.ok_or_else(|| Problem::not_found("no such provider"))?))
}

/// What is left to do for a connection to work.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SetupView {
    /// Id of the provider.
    provider: &'static str,
    /// The merchant's.
    language: Language,
    /// The connection's own address for webhooks, with `YOUR_KEY` in place of the key, which was shown when it was made.
    hook: Option<String>,
    /// What it can do, and what of it is on.
    abilities: Vec<AbilityState>,
    /// What the merchant does at the provider, in order, with this connection's addresses.
    steps: Said<Vec<String>>,
}

/// An ability of a connection.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AbilityState {
    #[serde(flatten)]
    of: AbilityView,
    /// Whether the settings suffice for it.
    on: bool,
}

pub(super) async fn setup(ask: Ask<ById>) -> Answered<SetupView> {
    let link = ask.caller.connection(&ask.app, &ask.path.id)?;
    let (provider, id) = (link.provider, link.id.to_string());
    let world = ask.app.engine.world();
    let language = world.merchants.get(&link.merchant).and_then(|(_, merchant)| merchant.language.parse().ok());
    let state = |of: AbilityView| AbilityState { on: of.ability.is_on(&*link.connector), of };
    reply(SetupView {
        provider: provider.id,
        language: language.unwrap_or(Language::Ru),
        hook: provider.hook(base(&ask.app), Some(&id)),
        abilities: provider.words().abilities().into_iter().map(state).collect(),
        steps: provider.steps(base(&ask.app), Some(&id)),
    })
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
