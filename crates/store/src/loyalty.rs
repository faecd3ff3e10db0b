//! Points: what the loyalty desk reads for one decision, and what a decision writes. The words are `uzel_model::loyalty`'s.

use std::collections::HashSet;

use uzel_model::{
    Id, Timestamp,
    loyalty::{Book, Entry, Hold, HoldState, MoveKind, OrderReceipt, Wallet},
    signature::fingerprint,
};

/// Whose wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Id(Id),
    /// By the merchant's own id of the customer.
    Customer(String),
    /// By a phone in E.164.
    Phone(String),
}

/// What a decision wants to know. All of it is read at one moment.
#[derive(Debug, Clone)]
pub struct LoyaltyLook {
    pub merchant: Id,
    /// Whose. Where it is not said: whose the hold is, else whose the receipt of the order is.
    pub who: Option<Who>,
    /// The order; of the hold, where it is not said.
    pub order: Option<String>,
    /// A hold; one of another merchant is not seen.
    pub hold: Option<Id>,
    /// A customer's token: the hold that it was spent for.
    pub token: Option<[u8; 16]>,
    /// Answers that may have been given before, by their keys.
    pub replies: Vec<[u8; 16]>,
    /// What the customer has done since then is counted.
    pub since: Option<Timestamp>,
    /// Uses of this promo code are counted.
    pub promo_code: Option<String>,
    /// Replies and tokens that ended before this are not seen.
    pub now: Timestamp,
}

impl LoyaltyLook {
    pub fn new(merchant: Id, now: Timestamp) -> Self {
        Self {
            merchant,
            who: None,
            order: None,
            hold: None,
            token: None,
            replies: Vec::new(),
            since: None,
            promo_code: None,
            now,
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoyaltySeen {
    /// In any order; those that are not known are missing.
    pub replies: Vec<KeptReply>,
    /// The hold that was asked for, or the token was spent for.
    pub hold: Option<Hold>,
    pub receipt: Option<OrderReceipt>,
    pub wallet: Option<Wallet>,
    pub progress: Progress,
    pub promo: PromoUses,
}

/// What a customer has done in a while, by the ledger and receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Points earned by receipts, less what refunds took back.
    pub earned: i64,
    /// Points spent, less what refunds gave back.
    pub redeemed: i64,
    pub receipts: i64,
}

/// How often a promo code was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromoUses {
    pub all: i64,
    pub by_customer: i64,
    pub last_by_customer_at: Option<Timestamp>,
}

/// An answer that a repeat gets again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReply {
    pub key: [u8; 16],
    /// Hash of what was asked.
    pub body: [u8; 16],
    pub answer: String,
    pub until: Timestamp,
}

/// A customer's token that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpentToken {
    /// Hash of merchant and `jti`.
    pub key: [u8; 16],
    pub hold: Id,
    pub until: Timestamp,
}

/// A promo code that was used for an order: once for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromoUse {
    pub merchant: Id,
    pub code: String,
    pub wallet: Id,
    pub order: String,
    pub at: Timestamp,
    /// How often it had been used when this was decided, by all and by the customer: another count is a conflict.
    pub was: PromoUses,
}

/// What a decision writes. Each wallet, hold and receipt carries the version that it was decided on and is written as the next
/// one; another version is a conflict, as is a key of `replies` or `token` that is there and not over, an order, customer or phone
/// that another row of the merchant has.
#[derive(Debug, Clone, Default)]
pub struct LoyaltyChange {
    pub wallets: Vec<Wallet>,
    pub holds: Vec<Hold>,
    pub receipts: Vec<OrderReceipt>,
    pub ledger: Vec<Entry>,
    pub token: Option<SpentToken>,
    pub replies: Vec<KeptReply>,
    pub promo: Option<PromoUse>,
}

/// Which movements, newest first.
#[derive(Debug, Clone, Default)]
pub struct LedgerFilter {
    pub merchant: Option<Id>,
    pub wallet: Option<Id>,
    pub outlet: Option<Id>,
    pub staff: Option<String>,
    /// Older than this one.
    pub before: Option<Id>,
    /// Older than this moment.
    pub before_at: Option<Timestamp>,
    pub limit: usize,
}

/// Which wallets, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct WalletFilter {
    pub merchant: Option<Id>,
    pub phone: Option<String>,
    pub customer: Option<String>,
    pub after: Option<Id>,
    pub limit: usize,
}

/// A portion of wallets held against the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoyaltyAudit {
    /// Wallets and movements looked at.
    pub wallets: u64,
    pub entries: u64,
    /// What is not as it must be: whose, and what.
    pub findings: Vec<(Id, String)>,
    /// Where the next portion begins after; nothing at the end.
    pub next: Option<Id>,
}

impl LoyaltyChange {
    /// What no two changes may write at once: ids, keys, and hashes of what is unique with a merchant.
    pub(crate) fn keys(&self) -> impl Iterator<Item = [u8; 16]> {
        let unique = |what: &str, merchant: &Id, value: &str| {
            fingerprint([what.as_bytes(), merchant.as_bytes().as_slice(), value.as_bytes()])
        };
        let wallets = self.wallets.iter().flat_map(move |wallet| {
            let phone = wallet.phone.as_ref().map(|phone| unique("phone", &wallet.merchant, phone));
            [Some(*wallet.id.as_bytes()), Some(unique("customer", &wallet.merchant, &wallet.customer)), phone]
        });
        let holds = self.holds.iter().map(|hold| Some(*hold.id.as_bytes()));
        let receipts = self
            .receipts
            .iter()
            .flat_map(move |receipt| [Some(*receipt.id.as_bytes()), Some(unique("order", &receipt.merchant, &receipt.order))]);
        let replies = self.replies.iter().map(|reply| Some(reply.key));
        let token = self.token.iter().map(|token| Some(fingerprint([b"token".as_slice(), &token.key])));
        wallets.chain(holds).chain(receipts).chain(replies).chain(token).flatten()
    }

    /// Whether it writes one thing twice, which is a conflict with itself.
    pub(crate) fn is_twofold(&self) -> bool {
        let alone = self.wallets.len() < 2 && self.holds.len() < 2 && self.receipts.len() < 2 && self.replies.len() < 2;
        if alone {
            return false;
        }
        let mut seen = HashSet::new();
        !self.keys().all(|key| seen.insert(key))
    }
}

/// The numbers by which words are stored: their places in these lists.
const STATES: [HoldState; 4] = [HoldState::Pending, HoldState::Committed, HoldState::Cancelled, HoldState::Expired];
const BOOKS: [Book; 5] = [Book::Spendable, Book::Promised, Book::Issued, Book::Redeemed, Book::Expired];
const MOVES: [MoveKind; 8] = [
    MoveKind::Earn,
    MoveKind::Redeem,
    MoveKind::Refund,
    MoveKind::Adjust,
    MoveKind::Campaign,
    MoveKind::Referral,
    MoveKind::Activate,
    MoveKind::Expire,
];

fn place<T: PartialEq>(list: &[T], word: &T) -> u8 {
    list.iter().position(|known| known == word).unwrap_or_default() as u8
}

pub(crate) fn state_number(state: HoldState) -> u8 {
    place(&STATES, &state)
}

pub(crate) fn book_number(book: Book) -> u8 {
    place(&BOOKS, &book)
}

pub(crate) fn book(number: u8) -> Book {
    BOOKS.get(usize::from(number)).copied().unwrap_or(Book::Issued)
}

pub(crate) fn move_number(kind: MoveKind) -> u8 {
    place(&MOVES, &kind)
}

pub(crate) fn move_kind(number: u8) -> MoveKind {
    MOVES.get(usize::from(number)).copied().unwrap_or(MoveKind::Adjust)
}

/// What movements come to in [`Progress`], as SQL of both stores: earned and spent.
pub(crate) const PROGRESS: &str = "CAST(coalesce(sum(CASE WHEN kind NOT IN (0, 2) THEN 0 WHEN from_book = 2 THEN points
        WHEN to_book = 2 THEN -points ELSE 0 END), 0) AS bigint),
    CAST(coalesce(sum(CASE WHEN kind NOT IN (1, 2) THEN 0 WHEN to_book = 3 THEN points WHEN from_book = 3 THEN -points ELSE 0 END), 0)
        AS bigint)";

impl Progress {
    #[cfg(feature = "memory")]
    pub(crate) fn count(&mut self, entry: &Entry) {
        if matches!(entry.kind, MoveKind::Earn | MoveKind::Refund) {
            self.earned -= entry.effect(Book::Issued);
        }
        if matches!(entry.kind, MoveKind::Redeem | MoveKind::Refund) {
            self.redeemed += entry.effect(Book::Redeemed);
        }
    }
}

/// What is wrong with a wallet, by all that was written down of it; `cached` is the balance, and what is promised, as they stand
/// beside it.
pub(crate) fn audit(wallet: &Wallet, cached: (i64, i64), ledger: &[Entry], receipts: &[OrderReceipt]) -> Vec<String> {
    let mut found = Vec::new();
    let sums = (Book::Spendable, Book::Promised);
    let sums = (ledger.iter().map(|entry| entry.effect(sums.0)).sum(), ledger.iter().map(|entry| entry.effect(sums.1)).sum());
    for (what, sum, kept, lots) in
        [("the balance", sums.0, cached.0, wallet.balance()), ("what is promised", sums.1, cached.1, wallet.promised())]
    {
        let sum: i64 = sum;
        if sum != kept {
            found.push(format!("{what} stands as {kept}, and its movements come to {sum}"));
        }
        if sum != lots {
            found.push(format!("{what} is {lots} by its lots, and its movements come to {sum}"));
        }
    }
    if wallet.account.debt < 0 || wallet.account.lots.iter().any(|lot| lot.left < 0) {
        found.push("a lot or the debt is below zero".to_owned());
    }
    for entry in ledger {
        if entry.points <= 0 {
            found.push(format!("movement {} moves {} points", entry.id, entry.points));
        }
        if entry.merchant != wallet.merchant {
            found.push(format!("movement {} is another merchant's", entry.id));
        }
        if entry.kind == MoveKind::Redeem && !receipts.iter().any(|receipt| Some(&receipt.order) == entry.order.as_ref()) {
            found.push(format!("movement {} spends points for an order that has no receipt", entry.id));
        }
    }
    for receipt in receipts {
        let sums = &receipt.sums;
        let beyond = [(sums.refunded, sums.eligible), (sums.restored, sums.redeemed), (sums.revoked, sums.earned)]
            .iter()
            .any(|(back, of)| back > of);
        if beyond || [sums.redeemed, sums.earned, sums.refunded, sums.restored, sums.revoked].iter().any(|sum| *sum < 0) {
            found.push(format!("receipt {} is refunded beyond what it was, or below zero", receipt.id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

    use super::*;

    #[test]
    fn every_word_has_a_number_of_its_own_and_comes_back_from_it() {
        for (number, kind) in MOVES.into_iter().enumerate() {
            assert_eq!((move_number(kind), move_kind(number as u8)), (number as u8, kind));
        }
        for (number, of) in BOOKS.into_iter().enumerate() {
            assert_eq!((book_number(of), book(number as u8)), (number as u8, of));
        }
        for (number, state) in STATES.into_iter().enumerate() {
            assert_eq!(state_number(state), number as u8);
        }
    }
}
