//! A merchant's programme as it is set up, and as the desk uses it.

use std::{fmt, sync::Arc};

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uzel_model::{Id, Secret, id::Kind, loyalty::Programme};
use uzel_store::{Setup, SetupRow, StoreError};

use crate::{
    Engine, Vault,
    bridge::Issued,
    setup::{Plan, Unchanged, new_qr_secret},
};

/// One programme for each merchant, so it needs no name of its own.
pub(crate) const SLUG: &str = "programme";
/// What an outside programme may take, by default, before a till sells without it.
const PATIENCE_MS: u32 = 800;
const PREVIEW_DAYS: u32 = 7;

/// A programme as a person writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProgrammeRule {
    #[serde(flatten)]
    pub points: Programme,
    /// What a cashier reads after a sum, for instance `₽` or `so‘m`; by default that of the merchant's country.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// A quote needs the customer's code; their id is not enough.
    pub require_jwt_for_quote: bool,
    /// Every quote, commit, refund and code needs an outlet's signature.
    pub require_bridge_sig: bool,
    /// Every call needs a staff key, or a signature.
    pub require_staff_key: bool,
    /// Quotes and commits are taken from anybody, without key and signature. A danger: whoever finds the address spends points.
    pub open_loyalty: bool,
    /// So many days before points expire an event tells of it; 0: none does.
    pub preview_days: u32,
    /// Where the hub publishes to NATS, each quote and each change of a lot goes there too. Without it they are made into events only
    /// where a flow or an endpoint asks for them.
    pub details_to_nats: bool,
    /// Points for the first receipt of a customer.
    #[serde(skip_serializing_if = "is_none")]
    pub first_receipt_points: i64,
    /// Points for bringing somebody, and for being brought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub referral: Option<Referral>,
    /// Codes that give points or a level with a receipt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promo_codes: Vec<PromoCode>,
    /// Connections, by their slugs, whose receipts earn points by themselves: those of tills that do not ask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earn_from: Vec<String>,
    /// More movements than that are refused. Without it: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Points are kept by an outside programme instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub club: Option<Club>,
    /// What the bridge on a shop's own machine may do while the line is down.
    pub offline: Offline,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(points: &i64) -> bool {
    *points == 0
}

/// Days, points and seconds beyond these are a mistake.
const DAYS_MAX: u32 = 36_500;
const POINTS_MAX: i64 = 1_000_000_000;

impl ProgrammeRule {
    /// Everything that is wrong with it, by JSON pointer.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let mut faults = self.points.faults();
        let mut points = |place: String, points: i64| {
            if !(0..=POINTS_MAX).contains(&points) {
                faults.push((place, format!("must be from 0 to {POINTS_MAX}")));
            }
        };
        points("/first_receipt_points".to_owned(), self.first_receipt_points);
        if let Some(referral) = &self.referral {
            points("/referral/points".to_owned(), referral.points);
            points("/referral/points_for_new".to_owned(), referral.points_for_new);
            points("/referral/min_eligible".to_owned(), referral.min_eligible);
        }
        if let Some(club) = &self.club {
            points("/club/offline_limit".to_owned(), club.offline_limit);
        }
        for (place, promo) in self.promo_codes.iter().enumerate() {
            points(format!("/promo_codes/{place}/points_amount"), promo.points_amount);
        }
        let days = [
            ("/earn_delay_days", self.points.earn_delay_days),
            ("/points_ttl_days", self.points.points_ttl_days.unwrap_or(1)),
            ("/preview_days", self.preview_days),
            ("/levels/period_days", self.points.levels.as_ref().map_or(1, |levels| levels.period_days)),
        ];
        for (place, _) in days.into_iter().filter(|(_, days)| *days > DAYS_MAX) {
            faults.push((place.to_owned(), format!("must be {DAYS_MAX} days at the most")));
        }
        if self.currency.as_ref().is_some_and(|word| word.trim().is_empty() || word.chars().count() > 12) {
            faults.push(("/currency".to_owned(), "must have 1 to 12 characters, such as `₽`".to_owned()));
        }
        if self.club.as_ref().is_some_and(|club| !(50..=10_000).contains(&club.patience_ms)) {
            faults.push(("/club/patience_ms".to_owned(), "must be from 50 to 10000".to_owned()));
        }
        if self.club.as_ref().is_some_and(|club| !(1..=168).contains(&club.offline_hours)) {
            faults.push(("/club/offline_hours".to_owned(), "must be from 1 to 168".to_owned()));
        }
        self.promo_faults(&mut faults);
        let limits = self.limits.unwrap_or_default();
        let limits =
            [("customer", limits.customer), ("outlet", limits.outlet), ("staff", limits.staff), ("merchant", limits.merchant)];
        for (scope, limit) in limits {
            if limit.is_some_and(|limit| !(1..=1_000).contains(&limit.count) || !(1..=86_400).contains(&limit.period_s)) {
                faults.push((format!("/limits/{scope}"), "counts 1 to 1000 movements within 1 to 86400 seconds".to_owned()));
            }
        }
        faults
    }

    fn promo_faults(&self, faults: &mut Vec<(String, String)>) {
        for (place, promo) in self.promo_codes.iter().enumerate() {
            let at = format!("/promo_codes/{place}");
            let same = |other: &PromoCode| other.code.trim().to_uppercase() == promo.code.trim().to_uppercase();
            if promo.code.trim().is_empty() || promo.code.chars().count() > 64 {
                faults.push((format!("{at}/code"), "must have 1 to 64 characters".to_owned()));
            } else if self.promo_codes[..place].iter().any(same) {
                faults.push((format!("{at}/code"), "stands twice".to_owned()));
            }
            if promo.limit == PromoLimit::LimitedPerCustomer && promo.per_customer == 0 {
                faults.push((format!("{at}/per_customer"), "must be 1 or more".to_owned()));
            }
            let days =
                [("cooldown_days", promo.cooldown_days), ("points_expire_in_days", promo.points_expire_in_days.unwrap_or(1))];
            for (field, _) in days.into_iter().filter(|(_, days)| *days > DAYS_MAX) {
                faults.push((format!("{at}/{field}"), format!("must be {DAYS_MAX} days at the most")));
            }
            if promo.points_expire_in_days == Some(0) {
                faults.push((format!("{at}/points_expire_in_days"), "must be 1 or more".to_owned()));
            }
            if promo.visit_lookback_hours > DAYS_MAX * 24 {
                faults.push((format!("{at}/visit_lookback_hours"), "is too far back".to_owned()));
            }
            let levels = self.points.levels.iter().flat_map(|levels| &levels.levels);
            if let Some(level) = &promo.assign_level
                && !levels.into_iter().any(|known| known.name == *level)
            {
                faults.push((format!("{at}/assign_level"), format!("`{level}` is no level of the programme")));
            }
        }
    }
}

impl Default for ProgrammeRule {
    fn default() -> Self {
        Self {
            points: Programme::default(),
            currency: None,
            require_jwt_for_quote: false,
            require_bridge_sig: false,
            require_staff_key: false,
            open_loyalty: false,
            preview_days: PREVIEW_DAYS,
            details_to_nats: true,
            first_receipt_points: 0,
            referral: None,
            promo_codes: Vec::new(),
            earn_from: Vec::new(),
            limits: None,
            club: None,
            offline: Offline::default(),
        }
    }
}

/// Points for bringing somebody: given with the first receipt of who was brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Referral {
    /// For who brought them.
    pub points: i64,
    /// For who was brought.
    pub points_for_new: i64,
    /// Only with a receipt of this eligible sum or more, in units.
    pub min_eligible: i64,
}

/// What a promo code's state is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PromoStatus {
    Draft,
    #[default]
    Active,
    Paused,
    Expired,
    Archived,
}

/// How often a promo code works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PromoLimit {
    Unlimited,
    OnceTotal,
    #[default]
    OncePerCustomer,
    LimitedPerCustomer,
}

/// A code that a customer tells the cashier. It works with a commit, once for each order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoCode {
    /// In any letter case.
    pub code: String,
    /// Only `ACTIVE` does anything.
    #[serde(default)]
    pub status: PromoStatus,
    /// How often it works.
    #[serde(default)]
    pub limit: PromoLimit,
    /// For `LIMITED_PER_CUSTOMER`: how often.
    #[serde(default = "one", alias = "perCustomer")]
    pub per_customer: u32,
    /// Days from one use by a customer to the next.
    #[serde(default, alias = "cooldownDays")]
    pub cooldown_days: u32,
    /// Only for who has had a receipt within `visit_lookback_hours`.
    #[serde(default, alias = "requireVisit")]
    pub require_visit: bool,
    /// See `require_visit`.
    #[serde(default = "day_hours", alias = "visitLookbackHours")]
    pub visit_lookback_hours: u32,
    /// Points that it gives.
    #[serde(default, alias = "pointsAmount")]
    pub points_amount: i64,
    /// After so many days these expire; by default as the programme says.
    #[serde(default, alias = "pointsExpireInDays", skip_serializing_if = "Option::is_none")]
    pub points_expire_in_days: Option<u32>,
    /// The level that it gives.
    #[serde(default, alias = "assignTierId", skip_serializing_if = "Option::is_none")]
    pub assign_level: Option<String>,
}

fn one() -> u32 {
    1
}

fn day_hours() -> u32 {
    24
}

/// So many movements within so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// So many movements.
    pub count: u32,
    /// Within so many seconds.
    pub period_s: u32,
}

/// Limits of movements by commits and refunds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Of one customer, for instance `{ count = 5, period_s = 120 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<Limit>,
    /// At one outlet, for instance `{ count = 20, period_s = 600 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlet: Option<Limit>,
    /// By one cashier, for instance `{ count = 60, period_s = 600 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staff: Option<Limit>,
    /// Of the merchant, for instance `{ count = 200, period_s = 3600 }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant: Option<Limit>,
}

/// An outside programme that keeps the points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Club {
    /// The connection, by its slug.
    pub connection: String,
    /// Milliseconds that a quote waits for it; then the sale goes on without points.
    #[serde(default = "patience_ms")]
    pub patience_ms: u32,
    /// Points that may be spent against the last known balance while it does not answer; 0: none.
    #[serde(default)]
    pub offline_limit: i64,
    /// And only if that balance was heard within so many hours.
    #[serde(default = "day_hours")]
    pub offline_hours: u32,
}

fn patience_ms() -> u32 {
    PATIENCE_MS
}

/// What a bridge answers by itself while the hub cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Offline {
    /// Purchases earn: the bridge sends them when the line is back.
    pub earn: bool,
}

impl Default for Offline {
    fn default() -> Self {
        Self { earn: true }
    }
}

/// A key that signs customers' codes (JWT, HS256).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QrSecret {
    pub(crate) kid: String,
    pub(crate) secret: String,
}

/// What of a key is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QrKeyDoc {
    pub kid: String,
    pub made_at: Timestamp,
}

/// A programme as stored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgrammeDoc {
    #[serde(flatten)]
    pub(crate) rule: ProgrammeRule,
    /// The newest first: the first signs, all verify.
    #[serde(default)]
    pub(crate) qr: Vec<QrKeyDoc>,
    #[serde(default)]
    pub(crate) bridge: Issued,
}

impl ProgrammeDoc {
    /// What of it no person writes.
    pub(crate) const OWN: &[&str] = &["qr", "bridge"];

    /// Whether a row is a programme that needs a connection.
    pub(crate) fn names_connection(row: &SetupRow, slug: &str) -> bool {
        let earns = row.doc["earn_from"].as_array().into_iter().flatten().any(|from| from.as_str() == Some(slug));
        row.id.kind() == Kind::Programme && (earns || row.doc["club"]["connection"].as_str() == Some(slug))
    }
}

/// What a programme's row hides.
#[derive(Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hidden {
    #[serde(default)]
    pub(crate) qr: Vec<QrSecret>,
    /// The merchant's bridge secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

impl Hidden {
    pub(crate) fn open(row: &SetupRow, vault: &Vault) -> Result<Self, String> {
        let (Some(sealed), Some(merchant)) = (&row.sealed, row.merchant) else { return Ok(Self::default()) };
        let plain = vault.unseal_settings(merchant, row.id, sealed);
        let plain = plain.map_err(|error| format!("its secrets cannot be read: {error}"))?;
        serde_json::from_value(plain.into()).map_err(|error| format!("its secrets cannot be read: {error}"))
    }
}

/// A key for customers' codes.
#[derive(Debug, Clone)]
pub struct QrKey {
    pub kid: String,
    pub secret: Secret,
}

/// A merchant's programme, ready to be asked.
pub struct LoyaltyProgramme {
    pub id: Id,
    pub merchant: Id,
    pub rule: ProgrammeRule,
    /// The newest first: the first signs, all verify.
    pub qr_keys: Vec<QrKey>,
    /// The merchant's own bridge secrets, current and next: for outlets that have none.
    pub(crate) bridge: Vec<Secret>,
    pub bridge_issued: Issued,
    /// Of the merchant's first outlet.
    pub(crate) zone: TimeZone,
}

impl fmt::Debug for LoyaltyProgramme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoyaltyProgramme({})", self.id)
    }
}

impl LoyaltyProgramme {
    pub(crate) fn open(row: SetupRow, merchant: Id, zone: TimeZone, vault: &Vault) -> Result<Self, (Id, String)> {
        let id = row.id;
        let opened = Hidden::open(&row, vault).and_then(|hidden| {
            let doc: ProgrammeDoc = serde_json::from_value(row.doc).map_err(|error| error.to_string())?;
            Ok((doc, hidden))
        });
        let (doc, hidden) = opened.map_err(|why| (id, why))?;
        let secrets = [hidden.current, hidden.next].into_iter().flatten().map(Secret::new);
        Ok(Self {
            id,
            merchant,
            rule: doc.rule,
            qr_keys: hidden.qr.into_iter().map(|key| QrKey { kid: key.kid, secret: Secret::new(key.secret) }).collect(),
            bridge: secrets.collect(),
            bridge_issued: doc.bridge,
            zone,
        })
    }
}

impl Engine {
    /// Makes a new key for customers' codes. The one before stays good until the next time.
    pub async fn rotate_qr_key(self: &Arc<Self>, merchant: Id, by: &str) -> Result<QrKeyDoc, Unchanged> {
        loop {
            let before = self.store.setup().await?;
            let is_programme = |row: &&SetupRow| row.id.kind() == Kind::Programme && row.merchant == Some(merchant);
            let row = before.rows.iter().find(is_programme).cloned().ok_or(Unchanged::Missing)?;
            let mut hidden = Hidden::open(&row, &self.vault).map_err(StoreError::Failed)?;
            let mut doc: ProgrammeDoc =
                serde_json::from_value(row.doc.clone()).map_err(|error| StoreError::Failed(error.to_string()))?;
            let secret = new_qr_secret();
            let made = QrKeyDoc { kid: secret.kid.clone(), made_at: self.clock.now() };
            hidden.qr.insert(0, secret);
            hidden.qr.truncate(2);
            doc.qr.insert(0, made.clone());
            doc.qr.truncate(2);
            let audit = self.audit_row(by, "qr_key.rotate", Some(merchant), row.id, json!({ "kid": made.kid }));
            let expects = vec![(row.id, row.version)];
            let sealed = self.seal_row(&before, &row, json!(hidden)).await?;
            let row = SetupRow { doc: json!(doc), sealed, ..row };
            let setup = Setup { rows: vec![row], expects, audit: vec![audit], ..Setup::default() };
            match self.carry_out(Plan::of(setup, before)).await {
                Err(StoreError::Conflict) => {}
                done => return Ok(done.map(|()| made)?),
            }
        }
    }
}
