//! What messages cost.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::check::Fault;
use uzel_store::Spent;

use super::route::{Answered, Ask, ById, reply};
use crate::Problem;

/// Of which month.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(example = serde_json::json!({ "month": "2026-11" }))]
pub(super) struct Month {
    /// In UTC, for instance `2026-11`; without it this month.
    month: Option<String>,
}

/// What messages of one month cost, as far as providers tell.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct CostsView {
    /// In UTC, for instance `2026-11`.
    month: String,
    /// By flow, channel, provider and currency.
    rows: Vec<Cost>,
}

/// One sum.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cost {
    /// The flow by its slug, as long as it is there.
    flow_slug: Option<String>,
    #[serde(flatten)]
    spent: Spent,
}

pub(super) async fn costs(ask: Ask<ById, Month>) -> Answered<CostsView> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let month = match query.month {
        Some(month) if is_month(&month) => month,
        Some(month) => {
            let fault = Fault::new("/month", format!("`{month}` is no month: write `2026-11`"));
            return Err(Problem::unreadable("query", fault));
        }
        None => app.engine.clock.now().to_string().chars().take(7).collect(),
    };
    let spent = app.engine.store.costs(merchant, &month).await?;
    let world = app.engine.world();
    let slug = |spent: &Spent| spent.flow.and_then(|flow| world.flow(flow)).map(|flow| flow.slug.clone());
    let rows = spent.into_iter().map(|spent| Cost { flow_slug: slug(&spent), spent }).collect();
    reply(CostsView { month, rows })
}

fn is_month(text: &str) -> bool {
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2) && ("01"..="12").contains(&month))
}
