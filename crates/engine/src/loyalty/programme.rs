//! A merchant's programme as it is set up, and as the desk uses it.

use std::fmt;

use jiff::{Timestamp, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uzel_model::{Id, Secret, loyalty::Programme};
use uzel_store::SetupRow;

use crate::{Vault, bridge::Issued};

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
    pub count: u32,
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgrammeDoc {
    #[serde(flatten)]
    pub(crate) rule: ProgrammeRule,
    /// The newest first: the first signs, all verify.
    #[serde(default)]
    pub(crate) qr: Vec<QrKeyDoc>,
    #[serde(default)]
    pub(crate) bridge: Issued,
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
