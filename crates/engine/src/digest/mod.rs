//! The owner's digest: a day or a week in figures, with one picture.

mod chart;
mod figures;
mod page;
mod send;
mod words;

use jiff::{Timestamp, tz::TimeZone};
use uzel_model::{Id, id::Kind, words::Language};
use uzel_store::{Figures, FiguresOf, PointsOf, StoreError};

pub(crate) use self::send::run;
pub use self::{
    figures::{Bar, Digest, Period, Points, Span},
    page::DigestPage,
};
use crate::{Engine, World, loyalty};

impl Engine {
    /// What happened at a merchant in a period, and a week before. `outlets`: only these; all, if none is named.
    pub async fn digest(&self, merchant: Id, period: Period, zone: &TimeZone, outlets: &[String]) -> Result<Digest, StoreError> {
        let world = self.world();
        let connections = connections(&world, merchant, outlets);
        let count = async |(from, to): (Timestamp, Timestamp)| -> Result<Figures, StoreError> {
            let (connections, kinds) = (connections.clone(), figures::kinds());
            self.store.figures(FiguresOf { connections, kinds, from, to }).await
        };
        let now = count(period.moments(zone)).await?;
        let before = count(period.week_before().moments(zone)).await?;
        let name = world.merchants.get(&merchant).map_or("", |(_, merchant)| merchant.name.as_str());
        let mut digest = Digest::of(merchant, name, period, zone, &now, &before);
        // Points that an outside programme keeps are not in the ledger.
        if let Some(programme) = world.programme_of(merchant).filter(|programme| programme.rule.club.is_none()) {
            let (from, to) = period.moments(zone);
            let moved = self.store.points_figures(PointsOf { merchant, from, to }).await?;
            let here = |outlet: Option<Id>| {
                let slug = outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, slug, _)| slug);
                outlets.is_empty() || slug.is_none_or(|slug| outlets.contains(slug))
            };
            let currency = loyalty::currency(&world, programme).to_owned();
            digest.points = Some(Points::of(&moved, programme.rule.points.unit, currency, here));
        }
        let days = (figures::day_number(period.first), figures::day_number(period.last()));
        for count in self.store.review_counts(merchant, days.0, days.1).await? {
            let outlet = count.outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, slug, _)| slug);
            if outlets.is_empty() || outlet.is_none_or(|slug| outlets.contains(slug)) {
                digest.hear(&count);
            }
        }
        Ok(digest)
    }
}

impl Digest {
    pub fn subject(&self, language: Language) -> String {
        words::subject(self, language)
    }

    /// All of it as plain text.
    pub fn text(&self, language: Language) -> String {
        words::text(self, language)
    }

    /// A PNG of 1200 × 750 pixels.
    pub async fn picture(&self, language: Language) -> Result<Vec<u8>, String> {
        let digest = self.clone();
        let drawn = tokio::task::spawn_blocking(move || chart::png(&digest, language)).await;
        drawn.map_err(|error| error.to_string())?
    }
}

impl World {
    /// The zone of a merchant's days: that of its first outlet.
    pub fn zone_of(&self, merchant: Id) -> TimeZone {
        let own = self.outlets.iter().filter(|(_, (of, ..))| *of == merchant);
        let first = own.min_by_key(|(id, _)| **id).and_then(|(_, (_, _, outlet))| TimeZone::get(&outlet.zone).ok());
        first.unwrap_or(TimeZone::UTC)
    }
}

/// Those of the outlets, and those that belong to none, such as the programme; also those that cannot be used now.
fn connections(world: &World, merchant: Id, outlets: &[String]) -> Vec<Id> {
    let told = |id: &Id| matches!(id.kind(), Kind::Connection | Kind::Programme);
    let own = world.rows.iter().filter(|(id, row)| told(id) && row.merchant == Some(merchant));
    let heard = own.filter(|(_, row)| {
        let outlet = row.doc["outlet"].as_str().and_then(|id| id.parse::<Id>().ok());
        let slug = outlet.and_then(|outlet| world.outlets.get(&outlet)).map(|(_, slug, _)| slug);
        outlets.is_empty() || slug.is_none_or(|slug| outlets.contains(slug))
    });
    let mut connections: Vec<Id> = heard.map(|(id, _)| *id).collect();
    connections.sort_unstable();
    connections
}
