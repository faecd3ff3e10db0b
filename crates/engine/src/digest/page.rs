//! A digest behind a link: whoever has the link of a notice sees that one digest, for a while.

use jiff::{SignedDuration, civil::Date, tz::TimeZone};
use uzel_model::{Id, signature, words::Language};
use uzel_store::StoreError;

use super::{Period, Span, chart};
use crate::Engine;

/// How long after its period a digest is shown.
const SHOWN: SignedDuration = SignedDuration::from_hours(62 * 24);

/// A digest as a page shows it.
#[derive(Debug, Clone)]
pub struct DigestPage {
    pub language: Language,
    pub subject: String,
    pub text: String,
    /// The picture, as wide as there is room.
    pub svg: String,
}

fn word(span: Span) -> &'static str {
    match span {
        Span::Day => "day",
        Span::Week => "week",
    }
}

impl Engine {
    /// Where a person's digest of a period is shown, below the hub's public address.
    pub(super) fn digest_path(&self, recipient: Id, period: Period) -> String {
        let name = format!("{recipient}/{}/{}", word(period.span), period.first);
        format!("/d/{name}/{}", self.digest_proof(&name))
    }

    fn digest_proof(&self, name: &str) -> String {
        hex::encode(&self.vault.key_hash("digest", name)[..16])
    }

    /// What stands behind the link; nothing where it is none of ours, or too old, or its reader gets none any more.
    pub async fn digest_page(
        &self,
        recipient: &str,
        span: &str,
        first: &str,
        proof: &str,
    ) -> Result<Option<DigestPage>, StoreError> {
        if !signature::equal(&self.digest_proof(&format!("{recipient}/{span}/{first}")), proof) {
            return Ok(None);
        }
        let world = self.world();
        let found = recipient.parse::<Id>().ok().and_then(|id| world.recipients().find(|known| known.id == id));
        let span = [Span::Day, Span::Week].into_iter().find(|known| word(*known) == span);
        let (Some(reader), Some(span), Ok(first)) = (found, span, first.parse::<Date>()) else { return Ok(None) };
        let period = Period { span, first };
        let zone = reader.zone(&world);
        let (_, end) = period.moments(&TimeZone::UTC);
        if end.saturating_add(SHOWN).is_ok_and(|until| until < self.clock.now()) {
            return Ok(None);
        }
        let digest = self.digest(reader.merchant, period, &zone, &reader.doc.rule.outlets).await?;
        let language = reader.language(&world);
        let (subject, text, svg) = (digest.subject(language), digest.text(language), chart::flexible_svg(&digest, language));
        Ok(Some(DigestPage { language, subject, text, svg }))
    }
}
