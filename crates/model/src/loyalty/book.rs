//! What the desk keeps: wallets, holds, receipts and the ledger. The store writes them whole; the desk decides what is in them.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{Account, Earning, Kind, Lot, Receipt, Taken};
use crate::{Id, Named};

/// A customer of a merchant's programme: all that a decision about them reads, in one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wallet {
    pub id: Id,
    pub merchant: Id,
    /// How often it has been written. A change that was decided on another version is a conflict; 0: it is new.
    #[serde(skip)]
    pub version: i64,
    /// The merchant's own id of the customer (`customerId`), unique with the merchant.
    pub customer: String,
    /// In E.164, unique with the merchant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A level that a person or a promo code gave, whatever was bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Who brought them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referred_by: Option<Id>,
    /// Receipts so far.
    #[serde(default)]
    pub receipts: u32,
    pub account: Account,
    /// Number of the newest lot.
    pub last_lot: i64,
    /// Up to when what time does to lots stands in the ledger.
    pub booked_at: Timestamp,
    /// Quotes that stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Held>,
    /// Movements of the last 24 hours, and the last of each kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
    /// So many days before points expire the customer is told; 0: they are not.
    #[serde(default)]
    pub preview_days: u32,
    /// How their account at an outside programme stood when it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub club: Option<ClubAccount>,
    pub made_at: Timestamp,
}

/// An account at an outside programme, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClubAccount {
    /// The programme's own id of it.
    pub account: String,
    /// Points that could be spent.
    pub available: i64,
    /// What one point is worth, in minor units.
    pub point_minor: i64,
    /// What a purchase earns, in hundredths of a percent.
    pub accrual_bps: u32,
    /// How much of a purchase points may pay, in hundredths of a percent.
    pub redeem_max_bps: u32,
    pub heard_at: Timestamp,
    /// What was spent while the programme did not answer, and it was not told of yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled: Vec<Unsettled>,
}

/// Points that were spent, and the command that is to tell of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsettled {
    pub command: Id,
    pub points: i64,
}

impl ClubAccount {
    /// Points that are spent, and that the programme does not know of.
    pub fn offline(&self) -> i64 {
        self.unsettled.iter().fold(0, |sum, unsettled| sum.saturating_add(unsettled.points))
    }

    /// Points that can be spent, by the balance that was heard last.
    pub fn left(&self) -> i64 {
        self.available.saturating_sub(self.offline()).max(0)
    }
}

impl Wallet {
    /// What can be spent, as the ledger has it.
    pub fn balance(&self) -> i64 {
        self.account.balance(self.booked_at)
    }

    /// What was earned and cannot be spent yet, as the ledger has it.
    pub fn promised(&self) -> i64 {
        self.account.promised(self.booked_at)
    }

    /// When it is told that a lot will expire.
    pub fn preview_at(&self, lot: &Lot) -> Option<Timestamp> {
        let before = SignedDuration::from_hours(24 * i64::from(self.preview_days));
        lot.expires_at.filter(|_| self.preview_days > 0).and_then(|at| at.checked_sub(before).ok())
    }

    /// When time does the next thing to it: a lot can be spent, expires or soon will, or a hold ends.
    pub fn next_at(&self) -> Option<Timestamp> {
        let lots = self.account.lots.iter().filter(|lot| lot.left > 0);
        let lots = lots.flat_map(|lot| [Some(lot.active_at), self.preview_at(lot), lot.expires_at]);
        let lots = lots.flatten().filter(|at| *at > self.booked_at);
        lots.chain(self.holds.iter().filter_map(|hold| hold.until)).min()
    }

    /// Takes out what tells who the customer is: the points stay with an id that is random. Says whether there was anything.
    pub fn forget_person(&mut self, phone: &Named) -> bool {
        let is_own = self.phone.as_deref() == Some(phone.key());
        let (is_named, is_called) = (self.name.as_deref().is_some_and(|name| phone.is_in(name)), phone.is_in(&self.customer));
        if is_own {
            self.phone = None;
        }
        if is_own || is_named {
            self.name = None;
        }
        if is_called {
            self.customer = self.id.to_string();
        }
        is_own || is_named || is_called
    }
}

/// A quote that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub hold: Id,
    pub kind: Kind,
    /// Another quote for it, of the same kind, takes its place.
    pub order: String,
    pub points: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// Points that went one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub kind: Kind,
    pub points: i64,
    pub at: Timestamp,
}

/// What a quote holds, until it is committed, cancelled or over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub id: Id,
    pub merchant: Id,
    /// The customer.
    pub wallet: Id,
    /// As of [`Wallet::version`].
    #[serde(skip)]
    pub version: i64,
    pub state: HoldState,
    pub kind: Kind,
    pub order: String,
    pub points: i64,
    /// What the whole order may move this way, what its receipt has moved before included.
    pub limit: i64,
    /// By what it earns, where it does: the commit counts by what the order has paid by points until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earning: Option<Earning>,
    /// After promotions, in units.
    pub total: i64,
    pub eligible: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlet: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promo_code: Option<String>,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// What the quote was answered with, for the same token again.
    pub answer: serde_json::Value,
}

impl Hold {
    /// Blanks texts of the answer that name the phone. Says whether there were any.
    pub fn forget_person(&mut self, phone: &Named) -> bool {
        blank(&mut self.answer, phone)
    }
}

fn blank(value: &mut serde_json::Value, phone: &Named) -> bool {
    use serde_json::Value;
    match value {
        Value::Object(fields) => fields.values_mut().map(|value| blank(value, phone)).filter(|found| *found).count() > 0,
        Value::Array(values) => values.iter_mut().map(|value| blank(value, phone)).filter(|found| *found).count() > 0,
        Value::String(text) if phone.is_in(text) => {
            text.clear();
            true
        }
        Value::Number(number) if phone.is_in(&number.to_string()) => {
            *value = Value::Null;
            true
        }
        _ => false,
    }
}

/// What became of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    Pending,
    Committed,
    Cancelled,
    Expired,
}

/// What was committed of an order: one for each order, for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderReceipt {
    pub id: Id,
    pub merchant: Id,
    pub order: String,
    /// The customer.
    pub wallet: Id,
    /// As of [`Wallet::version`].
    #[serde(skip)]
    pub version: i64,
    pub sums: Receipt,
    /// What was taken of lots and not given back yet, in the order in which it was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Taken>,
    /// The lots that were earned, in the order in which they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "lot", deserialize_with = "lots")]
    pub lots: Vec<Taken>,
    /// By what it has earned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earning: Option<Earning>,
    /// Points that a refund would have taken away, had they not expired before: time took them.
    #[serde(default, skip_serializing_if = "is_none")]
    pub lapsed: i64,
    /// The holds that it came of.
    pub holds: Vec<Id>,
    /// The promo code that was used with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promo_code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlet: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
    pub at: Timestamp,
    /// The receipt that came in and has earned for this order: the order earns no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned_as: Option<String>,
}

impl OrderReceipt {
    /// Nothing was committed of the order yet: it is nobody's, and says only what has earned for it ([`Self::earned_as`]).
    pub fn is_mark(&self) -> bool {
        self.wallet == self.id
    }
}

/// Lots, or the number of the one lot that a receipt named before it told all.
fn lots<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Taken>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lots {
        One(i64),
        All(Vec<Taken>),
    }
    Ok(match Lots::deserialize(from)? {
        Lots::One(lot) => vec![Taken { lot, points: 0, expires_at: None }],
        Lots::All(lots) => lots,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_none(points: &i64) -> bool {
    *points == 0
}

/// Where points lie: each movement takes them from one place to another, so that all together always come to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Book {
    /// The customer's, to be spent.
    Spendable,
    /// The customer's, not to be spent yet.
    Promised,
    /// The merchant's: points that were given, or taken back.
    Issued,
    /// The merchant's: points that were spent, or given back.
    Redeemed,
    /// The merchant's: points that expired.
    Expired,
}

/// Why points moved. The first six are the platform's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MoveKind {
    Earn,
    Redeem,
    Refund,
    /// By a person with a reason, or by an import.
    Adjust,
    /// By a promo code.
    Campaign,
    /// For bringing somebody, or being brought.
    Referral,
    /// Points that were promised can be spent now.
    Activate,
    Expire,
}

/// One movement of points. It is never changed, only countered by another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: Id,
    pub merchant: Id,
    /// The customer.
    pub wallet: Id,
    pub kind: MoveKind,
    pub from: Book,
    pub to: Book,
    /// More than none.
    pub points: i64,
    /// What the customer can spend after it.
    pub balance: i64,
    /// What it follows from: `receipt/rct_…`, `person/key_…`, `promo/CODE`, `import`, `time`.
    pub cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlet: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staff: Option<String>,
    /// What a person gave as the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was put into which lot, or taken of it; what is missing to `points` moved the debt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lots: Vec<Taken>,
    pub at: Timestamp,
}

impl Entry {
    /// What it does to a book.
    pub fn effect(&self, book: Book) -> i64 {
        match (self.from == book, self.to == book) {
            (true, false) => -self.points,
            (false, true) => self.points,
            _ => 0,
        }
    }
}
