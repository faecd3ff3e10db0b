//! Loyalty programmes in a setup file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uzel_model::{Id, Secret, id::Kind};

use super::Planner;
use crate::{
    Vault,
    loyalty::{
        ProgrammeRule, QrKeyDoc,
        programme::{Hidden, ProgrammeDoc, QrSecret, SLUG},
    },
};

/// Keys for customers' codes: one that signs, one that is still good.
const QR_KEYS_MAX: usize = 2;
/// A secret of one's own must be as hard to guess as the hub's.
const SECRET_CHARS_MIN: usize = 24;

/// A merchant's loyalty programme: one for each merchant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[schemars(example = json!({ "merchant": "cafe", "earn_bps": 500, "redeem_limit_bps": 3000, "points_ttl_days": 365 }))]
pub struct ProgrammePart {
    /// The merchant, by its slug; the API takes an id as well.
    pub merchant: String,
    /// Keys of your own for customers' codes, the one that signs first; at most two. Without any the hub makes one.
    #[serde(default, skip_serializing)]
    pub qr_keys: Vec<QrKeyPart>,
    #[serde(flatten)]
    pub rule: ProgrammeRule,
}

/// A key for customers' codes (JWT, HS256).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QrKeyPart {
    /// Its name in a code's header.
    pub kid: String,
    /// At least 24 characters.
    pub secret: Secret,
}

impl Planner<'_> {
    pub(super) fn programme(&mut self, at: &str, part: &ProgrammePart) {
        let merchant = self.merchant(&format!("{at}/merchant"), &part.merchant);
        let twice = self.plan.setup.rows.iter().any(|row| row.id.kind() == Kind::Programme && row.merchant == Some(merchant));
        if twice {
            return self.fault(&format!("{at}/merchant"), "has a programme already: there is one for each merchant");
        }
        for (place, fault) in part.rule.faults() {
            self.fault(&format!("{at}{place}"), fault);
        }
        self.connections_of(at, part, merchant);
        self.qr_faults(at, &part.qr_keys);
        let now = self.engine.clock.now();
        let stored = self.find(Kind::Programme, Some(merchant), SLUG).cloned().map(|row| {
            let hidden = Hidden::open(&row, &self.engine.vault);
            (serde_json::from_value::<ProgrammeDoc>(row.doc).ok(), hidden)
        });
        let (doc, mut hidden) = match stored {
            Some((_, Err(why))) => return self.fault(at, why),
            Some((doc, Ok(hidden))) => (doc, hidden),
            None => (None, Hidden::default()),
        };
        let mut doc = ProgrammeDoc { rule: part.rule.clone(), ..doc.unwrap_or_default() };
        let given: Vec<QrSecret> =
            part.qr_keys.iter().map(|key| QrSecret { kid: key.kid.clone(), secret: key.secret.expose().to_owned() }).collect();
        if !given.is_empty() && given != hidden.qr {
            hidden.qr = given;
        }
        if hidden.qr.is_empty() {
            hidden.qr.push(new_qr_secret());
        }
        let made_at = |kid: &str| doc.qr.iter().find(|known| known.kid == kid).map_or(now, |known| known.made_at);
        doc.qr = hidden.qr.iter().map(|key| QrKeyDoc { kid: key.kid.clone(), made_at: made_at(&key.kid) }).collect();
        let Value::Object(hidden) = json!(hidden) else { return };
        self.put(Kind::Programme, "programme", Some(merchant), SLUG, json!(doc), Some(hidden));
    }

    /// Connections that a programme names must be there.
    fn connections_of(&mut self, at: &str, part: &ProgrammePart, merchant: Id) {
        if self.strangers.contains(&merchant) {
            return;
        }
        let earn_from = part.rule.earn_from.iter().enumerate().map(|(place, slug)| (format!("earn_from/{place}"), slug));
        let club = part.rule.club.iter().map(|club| ("club/connection".to_owned(), &club.connection));
        for (field, slug) in earn_from.chain(club) {
            if self.find(Kind::Connection, Some(merchant), slug).is_none() {
                self.fault(&format!("{at}/{field}"), format!("no connection `{slug}` of merchant `{}`", part.merchant));
            }
        }
    }

    fn qr_faults(&mut self, at: &str, keys: &[QrKeyPart]) {
        if keys.len() > QR_KEYS_MAX {
            self.fault(&format!("{at}/qr_keys"), format!("may be {QR_KEYS_MAX} at the most"));
        }
        for (place, key) in keys.iter().enumerate() {
            let right = (1..=64).contains(&key.kid.len()) && key.kid.bytes().all(|byte| byte.is_ascii_graphic());
            if !right {
                self.fault(&format!("{at}/qr_keys/{place}/kid"), "must be 1 to 64 visible characters of ASCII");
            }
            if keys[..place].iter().any(|known| known.kid == key.kid) {
                self.fault(&format!("{at}/qr_keys/{place}/kid"), "stands twice");
            }
            if key.secret.expose().chars().count() < SECRET_CHARS_MIN && !self.leniency.short_keys {
                let detail = format!("is too short: at least {SECRET_CHARS_MIN} characters, so that nobody guesses it");
                self.fault(&format!("{at}/qr_keys/{place}/secret"), detail);
            }
        }
    }
}

/// A new key for customers' codes.
pub(crate) fn new_qr_secret() -> QrSecret {
    let kid = Id::new(Kind::Key).to_string();
    QrSecret { kid, secret: Vault::new_key("qrs_").expose().to_owned() }
}
