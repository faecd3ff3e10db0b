//! The owner's digest, to be looked at at any time.

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{ToSpan, civil::Date};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_engine::{Digest, Period, Span};
use uzel_model::{check::Fault, words::Language};

use super::route::{Answered, Ask, ById, reply};
use crate::Problem;

/// Which digest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DigestQuery {
    /// A day, or one of the week, for instance `2026-11-27`; by default yesterday in the zone of the merchant's first outlet.
    day: Option<String>,
    /// `day` or `week`.
    #[serde(default = "day")]
    span: Span,
    /// `ru`, `uz` or `en`; by default the merchant's.
    language: Option<Language>,
    /// Whether the picture comes along.
    #[serde(default)]
    picture: bool,
}

fn day() -> Span {
    Span::Day
}

/// A digest in figures and in words.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DigestView {
    /// The figures.
    figures: Digest,
    /// As an e-mail's subject has it.
    subject: String,
    /// All of it in words.
    text: String,
    /// A PNG, as base64.
    picture: Option<String>,
}

pub(super) async fn show(ask: Ask<ById, DigestQuery>) -> Answered<DigestView> {
    let Ask { app, caller, path, query, .. } = ask;
    let merchant = caller.merchant(&app, &path.id)?;
    let world = app.engine.world();
    let zone = world.zone_of(merchant);
    let today = app.engine.clock.now().to_zoned(zone.clone()).date();
    let day = match &query.day {
        Some(text) => text
            .parse::<Date>()
            .ok()
            .filter(|day| day.to_string() == *text)
            .ok_or_else(|| Problem::unreadable("query", Fault::new("day", "is no day: write it like `2026-11-27`")))?,
        None => today.saturating_sub(1.days()),
    };
    let named = world.merchants.get(&merchant).and_then(|(_, merchant)| merchant.language.parse().ok());
    let language = query.language.or(named).unwrap_or(Language::Ru);
    let figures = app.engine.digest(merchant, Period::with(query.span, day), &zone, &[]).await?;
    let picture = match query.picture {
        true => Some(STANDARD.encode(figures.picture(language).await.map_err(Problem::failed)?)),
        false => None,
    };
    reply(DigestView { subject: figures.subject(language), text: figures.text(language), picture, figures })
}
