//! Keys of the hub and webhook keys of connections.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::{NewKey, Role};
use uzel_model::{Id, check::Fault, id::Kind};
use uzel_store::KeyRow;

use super::{
    caller::Caller,
    page::Page,
    route::{Answered, Ask, ById, Reply, reply},
    setup,
};
use crate::{App, Problem};

/// A key, without itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KeyView {
    /// Its id.
    id: String,
    /// Nothing: the whole hub.
    merchant: Option<Id>,
    /// What it may do.
    role: String,
    /// What people call it.
    label: String,
    /// When it was made.
    made_at: Timestamp,
    /// Until when it is good.
    expires_at: Option<Timestamp>,
    /// To the minute.
    last_used_at: Option<Timestamp>,
    /// The key itself, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A key to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "merchant": "cafe", "role": "till", "label": "till 2", "expires_at": "2027-12-31T00:00:00Z" }))]
pub(super) struct KeyRequest {
    /// By id or slug; without it the key is of the whole hub.
    merchant: Option<String>,
    /// What it may do.
    role: Role,
    /// What people are to call it.
    #[serde(default)]
    label: String,
    /// Until when it is good; for ever where nothing is said.
    expires_at: Option<Timestamp>,
}

/// Which merchant's.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeysQuery {
    /// Only of this merchant, by id or slug.
    merchant: Option<String>,
}

/// A webhook key of a connection, without itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WebhookKeyView {
    /// Its id.
    id: String,
    /// What people call it.
    label: String,
    /// When it was made.
    made_at: Timestamp,
    /// The key itself, shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A webhook key of a connection.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct WebhookKeyPath {
    /// The connection.
    id: String,
    /// Id of the key.
    key: String,
}

fn view(row: KeyRow, key: Option<String>) -> KeyView {
    let role = if row.of.is_none() { Role::Admin.word().to_owned() } else { row.about };
    KeyView {
        id: row.id,
        merchant: row.of,
        role,
        label: row.label,
        made_at: row.made_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        key,
    }
}

/// Keys that a caller sees.
async fn seen(app: &App, caller: &Caller, scope: Option<Id>) -> Result<Vec<KeyRow>, Problem> {
    let rows = app.engine.store.setup().await?.keys;
    let own = |row: &KeyRow| !row.webhook && (caller.merchant.is_none() || row.of == caller.merchant);
    let mut rows: Vec<KeyRow> = rows.into_iter().filter(|row| own(row) && (scope.is_none() || row.of == scope)).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(rows)
}

pub(super) async fn list(ask: Ask<(), KeysQuery>) -> Answered<Page<KeyView>> {
    let scope = ask.caller.scope(&ask.app, ask.query.merchant.as_deref())?;
    let rows = seen(&ask.app, &ask.caller, scope).await?;
    reply(Page::whole(rows.into_iter().map(|row| view(row, None)).collect()))
}

pub(super) async fn create(ask: Ask<(), (), KeyRequest>) -> Answered<KeyView> {
    let Ask { app, caller, body, .. } = ask;
    let merchant = match &body.merchant {
        Some(name) => Some(
            caller
                .merchant(&app, name)
                .map_err(|_| Problem::invalid(vec![Fault::new("/merchant", format!("no merchant `{name}`"))]))?,
        ),
        // Whoever has one merchant means that one.
        None => caller.merchant,
    };
    let new = NewKey { merchant, role: body.role, label: body.label, expires_at: body.expires_at };
    let (row, key) = app.engine.create_key(new, caller.holder.name()).await?;
    let path = format!("/api/v1/keys/{}", row.id);
    Ok(Reply::new(view(row, Some(key.expose().to_owned()))).at(&path))
}

async fn find(app: &App, caller: &Caller, id: &str) -> Result<KeyRow, Problem> {
    let found = seen(app, caller, None).await?.into_iter().find(|row| row.id == id);
    found.ok_or_else(|| Problem::not_found("no such key"))
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<KeyView> {
    reply(view(find(&ask.app, &ask.caller, &ask.path.id).await?, None))
}

pub(super) async fn remove(ask: Ask<ById>) -> Answered<()> {
    let row = find(&ask.app, &ask.caller, &ask.path.id).await?;
    ask.app.engine.remove_key(&row, row.of, ask.caller.holder.name()).await?;
    reply(())
}

async fn webhook_keys(app: &App, connection: Id) -> Result<Vec<KeyRow>, Problem> {
    let rows = app.engine.store.setup().await?.keys;
    Ok(rows.into_iter().filter(|row| row.webhook && row.of == Some(connection)).collect())
}

fn webhook_view(row: KeyRow, key: Option<String>) -> WebhookKeyView {
    WebhookKeyView { id: row.id, label: row.label, made_at: row.made_at, key }
}

pub(super) async fn list_webhook(ask: Ask<ById>) -> Answered<Page<WebhookKeyView>> {
    let (id, _) = setup::row(&ask.app, &ask.caller, Kind::Connection, &ask.path.id)?;
    let rows = webhook_keys(&ask.app, id).await?;
    reply(Page::whole(rows.into_iter().map(|row| webhook_view(row, None)).collect()))
}

/// One more key beside those that are good: whoever has moved to it takes the old one away.
pub(super) async fn create_webhook(ask: Ask<ById>) -> Answered<WebhookKeyView> {
    let (id, _) = setup::row(&ask.app, &ask.caller, Kind::Connection, &ask.path.id)?;
    let (row, key) = ask.app.engine.create_webhook_key(id, ask.caller.holder.name()).await?;
    let path = format!("/api/v1/connections/{id}/webhook-keys/{}", row.id);
    Ok(Reply::new(webhook_view(row, Some(key.expose().to_owned()))).at(&path))
}

pub(super) async fn remove_webhook(ask: Ask<WebhookKeyPath>) -> Answered<()> {
    let (id, connection) = setup::row(&ask.app, &ask.caller, Kind::Connection, &ask.path.id)?;
    let row = webhook_keys(&ask.app, id).await?.into_iter().find(|row| row.id == ask.path.key);
    let row = row.ok_or_else(|| Problem::not_found("no such key"))?;
    ask.app.engine.remove_key(&row, connection.merchant, ask.caller.holder.name()).await?;
    reply(())
}
