//! Recipients in a setup file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_model::id::Kind;

use super::Planner;
use crate::recipient::{ADDRESSES_MAX, RecipientDoc, RecipientRule, Way};

/// One of the merchant's people who gets notices.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[schemars(example = json!({
    "merchant": "cafe", "slug": "anna", "name": "Anna", "language": "ru", "wants": ["notices", "comments", "digest_day"],
    "addresses": [{ "via": "bot" }, { "via": "mail", "to": "anna@example.com" }]
}))]
pub struct RecipientPart {
    /// The merchant, by its slug; the API takes an id as well.
    pub merchant: String,
    /// Unique name of `[a-z0-9-]`.
    pub slug: String,
    #[serde(flatten)]
    pub rule: RecipientRule,
}

impl Planner<'_> {
    pub(super) fn recipient(&mut self, at: &str, part: &RecipientPart) {
        let merchant = self.merchant(&format!("{at}/merchant"), &part.merchant);
        self.slug(&format!("{at}/slug"), &part.slug);
        let known = !self.strangers.contains(&merchant);
        let mut rule = part.rule.clone();
        if rule.language.as_deref().is_some_and(|language| !["ru", "uz", "en"].contains(&language)) {
            self.fault(&format!("{at}/language"), "must be `ru`, `uz` or `en`");
        }
        if rule.zone.as_deref().is_some_and(|zone| jiff::tz::TimeZone::get(zone).is_err()) {
            self.fault(&format!("{at}/zone"), "is no time zone: write a name such as `Europe/Moscow` or `Asia/Tashkent`");
        }
        if rule.digest_hour > 23 {
            self.fault(&format!("{at}/digest_hour"), "must be an hour of the day, 0 to 23");
        }
        for (place, outlet) in rule.outlets.iter().enumerate() {
            if known && self.find(Kind::Outlet, Some(merchant), outlet).is_none() {
                let detail = format!("no outlet `{outlet}` of merchant `{}`", part.merchant);
                self.fault(&format!("{at}/outlets/{place}"), detail);
            }
        }
        if rule.addresses.len() > ADDRESSES_MAX {
            self.fault(&format!("{at}/addresses"), format!("may be {ADDRESSES_MAX} at the most"));
        }
        let country = self.country_of(merchant);
        for (place, way) in rule.addresses.iter_mut().enumerate() {
            let at = format!("{at}/addresses/{place}");
            let link = self.find(Kind::Connection, Some(merchant), &way.via).map(|row| row.id);
            if link.is_none() && known {
                self.fault(&format!("{at}/via"), format!("no connection `{}` of merchant `{}`", way.via, part.merchant));
            }
            let channel = link.and_then(|link| self.channel(link));
            if channel == Some(None) {
                let detail = format!("`{}` sends no messages: name a connection whose provider does", way.via);
                self.fault(&format!("{at}/via"), detail);
            }
            match way.read(channel.flatten(), &country) {
                Ok(read) => *way = read,
                Err((field, why)) => self.fault(&format!("{at}/{field}"), why),
            }
        }
        if let Some(double) = double(&rule.addresses) {
            self.fault(&format!("{at}/addresses/{double}"), "stands twice");
        }
        let before = self.find(Kind::Recipient, Some(merchant), &part.slug);
        let before = before.and_then(|row| serde_json::from_value::<RecipientDoc>(row.doc.clone()).ok());
        let (mut bound, code) = before.map(|before| (before.bound, before.code)).unwrap_or_default();
        // What was bound by a way that is taken away goes with it.
        bound.retain(|bound| rule.addresses.iter().any(|way| way.via == bound.via));
        let code = code.filter(|code| rule.addresses.iter().any(|way| way.via == code.via));
        let doc = RecipientDoc { rule, bound, code };
        self.put(Kind::Recipient, "recipient", Some(merchant), &part.slug, json!(doc), None);
    }
}

fn double(ways: &[Way]) -> Option<usize> {
    (1..ways.len()).find(|place| ways[..*place].contains(&ways[*place]))
}
