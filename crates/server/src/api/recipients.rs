//! Recipients: a merchant's people who get notices, and the chats that they bind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_engine::{
    Stored,
    recipient::{Invited, NotInvited, RecipientDoc, RecipientRule},
    setup::{RecipientPart, Thing},
};
use uzel_model::{Id, Timestamp, id::Kind};

use super::{
    page::Page,
    part::{New, Patch},
    route::{Answered, Ask, ById, Reply, reply},
    setup::{self, OfMerchant, row, rows, stored},
};
use crate::{App, Problem};

/// One of a merchant's people who gets notices.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RecipientView {
    /// The recipient.
    id: Id,
    /// Its unique name.
    slug: String,
    /// Whose it is.
    merchant: Id,
    /// The same, by its slug.
    merchant_slug: String,
    #[serde(flatten)]
    rule: RecipientRule,
    /// Chats and devices that the person bound, the newest first.
    bound: Vec<BoundView>,
    /// Counts up with every change.
    version: i64,
}

/// A chat or device that a person bound.
#[derive(Debug, Serialize, JsonSchema)]
struct BoundView {
    /// By which connection, by its slug.
    via: String,
    /// Without what would let anybody write to it.
    to: String,
    /// When it was bound.
    at: Timestamp,
}

fn view(app: &App, id: Id, row: Stored) -> Result<Reply<RecipientView>, Problem> {
    let unreadable = |_| Problem::conflict("this recipient was stored by another version of the hub");
    let doc: RecipientDoc = serde_json::from_value(row.doc).map_err(unreadable)?;
    let merchant = row.merchant.unwrap_or(id);
    let view = RecipientView {
        id,
        slug: row.slug,
        merchant,
        merchant_slug: app.engine.world().merchants.get(&merchant).map(|(slug, _)| slug.clone()).unwrap_or_default(),
        bound: doc.bound.into_iter().map(|own| BoundView { via: own.via, to: own.to.masked(), at: own.at }).collect(),
        rule: doc.rule,
        version: row.version,
    };
    Ok(Reply::new(view).version(row.version))
}

pub(super) async fn list(ask: Ask<(), OfMerchant>) -> Answered<Page<RecipientView>> {
    let rows = rows(&ask.app, &ask.caller, Kind::Recipient, ask.query.merchant())?;
    let views = rows.into_iter().map(|(id, row)| Ok(view(&ask.app, id, row)?.into_value()));
    reply(Page::whole(views.collect::<Result<_, Problem>>()?))
}

pub(super) async fn show(ask: Ask<ById>) -> Answered<RecipientView> {
    let (id, row) = row(&ask.app, &ask.caller, Kind::Recipient, &ask.path.id)?;
    view(&ask.app, id, row)
}

pub(super) async fn create(ask: Ask<(), (), New<RecipientPart>>) -> Answered<RecipientView> {
    let (app, id, _) = setup::create(ask, Thing::Recipient).await?;
    Ok(view(&app, id, stored(&app, id)?)?.at(&format!("/api/v1/recipients/{id}")))
}

pub(super) async fn change(ask: Ask<ById, (), Patch<RecipientPart>>) -> Answered<RecipientView> {
    let (app, id) = setup::change(ask, Kind::Recipient).await?;
    view(&app, id, stored(&app, id)?)
}

pub(super) async fn remove(ask: Ask<ById>) -> Answered<()> {
    setup::remove(ask, Kind::Recipient).await
}

/// By which connection.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = json!({ "via": "bot" }))]
pub(super) struct LinkRequest {
    /// The connection whose chat is bound, by its slug; by default the first of the addresses whose chats are bound so.
    #[serde(default)]
    via: Option<String>,
}

/// Makes a link that binds a chat; it is in this answer and in no other.
pub(super) async fn link(ask: Ask<ById, (), LinkRequest>) -> Answered<Invited> {
    let Ask { app, caller, path, body, .. } = ask;
    let (id, _) = row(&app, &caller, Kind::Recipient, &path.id)?;
    let invited = app.engine.invite(id, body.via.as_deref(), caller.holder.name()).await;
    reply(invited.map_err(|why| match why {
        NotInvited::Missing => Problem::not_found("no such recipient"),
        NotInvited::Not(why) => Problem::conflict(why),
        NotInvited::Failed(why) => Problem::failed(why),
        NotInvited::Store(error) => Problem::from(error),
    })?)
}
