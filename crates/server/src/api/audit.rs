//! Who changed what.

use schemars::JsonSchema;
use serde::Deserialize;
use uzel_model::Id;
use uzel_store::{Audit, AuditFilter};

use super::{
    page::{LIMIT, Page},
    route::{Answered, Ask, reply},
};

/// Which rows of the audit log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Of one merchant, by id or slug.
    merchant: Option<String>,
    /// Id of what was changed.
    object: Option<String>,
    /// `next` of the page before.
    before: Option<Id>,
    /// Rows of a page.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

pub(super) async fn list(ask: Ask<(), AuditQuery>) -> Answered<Page<Audit>> {
    let Ask { app, caller, query, .. } = ask;
    let merchant = caller.scope(&app, query.merchant.as_deref())?;
    let limit = LIMIT.read(query.limit)?;
    let filter = AuditFilter { merchant, object: query.object, before: query.before, limit: limit + 1 };
    let rows = app.engine.store.audit(filter).await?;
    reply(Page::new(rows, limit, |row| row.id.to_string()))
}
