//! Points: wallets, holds, receipts, the ledger, and what was answered before.

use std::collections::BTreeMap;

use uzel_model::{
    Id, Named, Timestamp,
    loyalty::{Entry, Hold, HoldState, OrderReceipt, Wallet},
};

use super::rows::Rows;
use crate::{
    ERASED, KeptReply, LedgerFilter, LoyaltyAudit, LoyaltyChange, LoyaltyLook, LoyaltySeen, PointsFigure, PointsFigures,
    PointsOf, Progress, PromoUse, PromoUses, SpentToken, WalletFilter, Who,
    loyalty::{audit, book, book_number, move_kind, move_number},
};

#[derive(Default)]
pub(super) struct Points {
    wallets: BTreeMap<Id, Wallet>,
    holds: BTreeMap<Id, Hold>,
    receipts: BTreeMap<Id, OrderReceipt>,
    ledger: BTreeMap<Id, Entry>,
    replies: BTreeMap<[u8; 16], KeptReply>,
    tokens: BTreeMap<[u8; 16], SpentToken>,
    promo: Vec<PromoUse>,
}

impl Points {
    fn uses(&self, merchant: Id, code: &str, wallet: Option<Id>) -> PromoUses {
        let mut uses = PromoUses::default();
        for known in self.promo.iter().filter(|known| known.merchant == merchant && known.code == code) {
            uses.all += 1;
            if Some(known.wallet) == wallet {
                uses.by_customer += 1;
                uses.last_by_customer_at = uses.last_by_customer_at.max(Some(known.at));
            }
        }
        uses
    }

    fn is_taken(&self, wallet: &Wallet, with: &[Wallet]) -> bool {
        // Of what is written along with it, the new phone counts.
        let now =
            |known: &'_ Wallet| with.iter().find(|new| new.id == known.id).map_or(known.phone.clone(), |new| new.phone.clone());
        self.wallets
            .values()
            .filter(|known| known.id != wallet.id && known.merchant == wallet.merchant)
            .any(|known| known.customer == wallet.customer || wallet.phone.is_some() && now(known) == wallet.phone)
    }

    fn may_change(&self, change: &LoyaltyChange, now: Timestamp) -> bool {
        let wallet = |new: &Wallet| {
            self.wallets.get(&new.id).map_or(0, |known| known.version) == new.version && !self.is_taken(new, &change.wallets)
        };
        let hold = |new: &Hold| self.holds.get(&new.id).map_or(0, |known| known.version) == new.version;
        let receipt = |new: &OrderReceipt| {
            let same = |known: &OrderReceipt| known.id != new.id && (known.merchant, &known.order) == (new.merchant, &new.order);
            self.receipts.get(&new.id).map_or(0, |known| known.version) == new.version && !self.receipts.values().any(same)
        };
        let promo = |new: &PromoUse| {
            let uses = self.uses(new.merchant, &new.code, Some(new.wallet));
            let same = |known: &PromoUse| (known.merchant, &known.code, &known.order) == (new.merchant, &new.code, &new.order);
            (uses.all, uses.by_customer) == (new.was.all, new.was.by_customer) && !self.promo.iter().any(same)
        };
        !change.is_twofold()
            && change.wallets.iter().all(wallet)
            && change.holds.iter().all(hold)
            && change.receipts.iter().all(receipt)
            && change.replies.iter().all(|new| self.replies.get(&new.key).is_none_or(|known| known.until <= now))
            && change.token.iter().all(|new| self.tokens.get(&new.key).is_none_or(|known| known.until <= now))
            && change.promo.iter().all(promo)
    }

    fn change(&mut self, change: LoyaltyChange) {
        for wallet in change.wallets {
            self.wallets.insert(wallet.id, Wallet { version: wallet.version + 1, ..wallet });
        }
        for hold in change.holds {
            self.holds.insert(hold.id, Hold { version: hold.version + 1, ..hold });
        }
        for receipt in change.receipts {
            self.receipts.insert(receipt.id, OrderReceipt { version: receipt.version + 1, ..receipt });
        }
        self.ledger.extend(change.ledger.into_iter().map(|entry| (entry.id, entry)));
        self.replies.extend(change.replies.into_iter().map(|reply| (reply.key, reply)));
        self.tokens.extend(change.token.into_iter().map(|token| (token.key, token)));
        self.promo.extend(change.promo);
    }

    fn seen(&self, look: &LoyaltyLook) -> LoyaltySeen {
        let replies = look.replies.iter().filter_map(|key| self.replies.get(key)).filter(|reply| reply.until > look.now);
        let by_token = look.token.and_then(|key| self.tokens.get(&key)).filter(|token| token.until > look.now);
        let hold = look.hold.or(by_token.map(|token| token.hold)).and_then(|id| self.holds.get(&id));
        let hold = hold.filter(|hold| hold.merchant == look.merchant);
        let order = look.order.as_ref().or(hold.map(|hold| &hold.order));
        let receipt =
            order.and_then(|order| self.receipts.values().find(|known| known.merchant == look.merchant && known.order == *order));
        let of = self.wallets.values().filter(|wallet| wallet.merchant == look.merchant);
        let wallet = match &look.who {
            Some(Who::Id(id)) => of.clone().find(|wallet| wallet.id == *id),
            Some(Who::Customer(customer)) => of.clone().find(|wallet| wallet.customer == *customer),
            Some(Who::Phone(phone)) => of.clone().find(|wallet| wallet.phone.as_ref() == Some(phone)),
            None => {
                let id = hold.map(|hold| hold.wallet).or(receipt.map(|receipt| receipt.wallet));
                of.clone().find(|wallet| Some(wallet.id) == id)
            }
        };
        let mut progress = Progress::default();
        if let (Some(since), Some(wallet)) = (look.since, wallet) {
            let own = self.ledger.values().filter(|entry| entry.wallet == wallet.id && entry.at >= since);
            own.for_each(|entry| progress.count(entry));
            let receipts = self.receipts.values().filter(|receipt| receipt.wallet == wallet.id && receipt.at >= since);
            progress.receipts = receipts.count() as i64;
        }
        let uses = look.promo_code.as_ref().map(|code| self.uses(look.merchant, code, wallet.map(|wallet| wallet.id)));
        LoyaltySeen {
            replies: replies.cloned().collect(),
            hold: hold.cloned(),
            receipt: receipt.cloned(),
            wallet: wallet.cloned(),
            progress,
            promo: uses.unwrap_or_default(),
        }
    }
}

impl Rows {
    pub(super) fn may_move_points(&self, change: &LoyaltyChange, now: Timestamp) -> bool {
        self.points.may_change(change, now)
    }

    pub(super) fn move_points(&mut self, change: LoyaltyChange) {
        self.points.change(change);
    }

    pub(super) fn loyalty(&self, look: &LoyaltyLook) -> LoyaltySeen {
        self.points.seen(look)
    }

    pub(super) fn ledger(&self, filter: &LedgerFilter) -> Vec<Entry> {
        let wanted = |entry: &&Entry| {
            filter.merchant.is_none_or(|merchant| entry.merchant == merchant)
                && filter.wallet.is_none_or(|wallet| entry.wallet == wallet)
                && filter.outlet.is_none_or(|outlet| entry.outlet == Some(outlet))
                && (filter.staff.is_none() || entry.staff == filter.staff)
                && filter.before.is_none_or(|before| entry.id < before)
                && filter.before_at.is_none_or(|before| entry.at < before)
        };
        self.points.ledger.values().rev().filter(wanted).take(filter.limit).cloned().collect()
    }

    pub(super) fn wallets(&self, filter: &WalletFilter) -> Vec<Wallet> {
        let wanted = |wallet: &&Wallet| {
            filter.merchant.is_none_or(|merchant| wallet.merchant == merchant)
                && (filter.phone.is_none() || wallet.phone == filter.phone)
                && filter.customer.as_ref().is_none_or(|customer| wallet.customer == *customer)
                && filter.after.is_none_or(|after| wallet.id > after)
        };
        self.points.wallets.values().filter(wanted).take(filter.limit).cloned().collect()
    }

    pub(super) fn wallets_due(&self, now: Timestamp, without: &[Id], limit: usize) -> Vec<Wallet> {
        let wallets = self.points.wallets.values().filter(|wallet| !without.contains(&wallet.merchant));
        let due = wallets.filter_map(|wallet| Some((wallet.next_at().filter(|at| *at <= now)?, wallet)));
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(at, wallet)| (*at, wallet.id));
        due.into_iter().take(limit).map(|(_, wallet)| wallet.clone()).collect()
    }

    pub(super) fn points_figures(&self, of: &PointsOf) -> PointsFigures {
        let wanted = |entry: &&Entry| entry.merchant == of.merchant && (of.from..of.to).contains(&entry.at);
        let mut sums = BTreeMap::new();
        for entry in self.points.ledger.values().filter(wanted) {
            let key = (entry.outlet, move_number(entry.kind), book_number(entry.from), book_number(entry.to));
            let (points, count) = sums.entry(key).or_insert((0, 0));
            (*points, *count) = (*points + entry.points, *count + 1);
        }
        let sums = sums.into_iter().map(|((outlet, kind, from, to), (points, count))| PointsFigure {
            outlet,
            kind: move_kind(kind),
            from: book(from),
            to: book(to),
            points,
            count,
        });
        let (first, end) = of.customers();
        let joined = |wallet: &&Wallet| wallet.merchant == of.merchant && (first..end).contains(&wallet.id);
        PointsFigures { sums: sums.collect(), joined: self.points.wallets.values().filter(joined).count() as u64 }
    }

    pub(super) fn audit_loyalty(&self, merchant: Option<Id>, after: Option<Id>, limit: usize) -> LoyaltyAudit {
        let wallets = self.wallets(&WalletFilter { merchant, after, limit, ..WalletFilter::default() });
        let mut audited = LoyaltyAudit { wallets: wallets.len() as u64, ..LoyaltyAudit::default() };
        for wallet in &wallets {
            let of = LedgerFilter { wallet: Some(wallet.id), limit: usize::MAX, ..LedgerFilter::default() };
            let ledger = self.ledger(&of);
            let receipts = self.points.receipts.values().filter(|receipt| receipt.wallet == wallet.id).cloned();
            let found = audit(wallet, (wallet.balance(), wallet.promised()), &ledger, &receipts.collect::<Vec<_>>());
            audited.entries += ledger.len() as u64;
            audited.findings.extend(found.into_iter().map(|finding| (wallet.id, finding)));
        }
        audited.next = wallets.last().filter(|_| wallets.len() == limit).map(|wallet| wallet.id);
        audited
    }

    /// Wallets whose movements do not come to what they say.
    pub(super) fn broken_wallets(&self) -> usize {
        let audited = self.audit_loyalty(None, None, usize::MAX);
        let mut broken: Vec<Id> = audited.findings.into_iter().map(|(wallet, _)| wallet).collect();
        broken.dedup();
        broken.len()
    }

    /// The points stay, under an id that says nothing of the person. Gives how many wallets there were.
    pub(super) fn forget_wallets(&mut self, merchant: Id, phone: &Named) -> u64 {
        let mut forgotten = 0;
        for wallet in self.points.wallets.values_mut().filter(|wallet| wallet.merchant == merchant) {
            if !wallet.forget_person(phone) {
                continue;
            }
            forgotten += 1;
            wallet.version += 1;
            for hold in self.points.holds.values_mut().filter(|hold| hold.wallet == wallet.id) {
                hold.version += i64::from(hold.forget_person(phone));
            }
            let of = self.points.ledger.values_mut().filter(|entry| entry.wallet == wallet.id);
            for reason in of.filter_map(|entry| entry.reason.as_mut()).filter(|reason| phone.is_in(reason)) {
                *reason = ERASED.to_owned();
            }
        }
        forgotten
    }

    /// Answers and tokens that are over by this clock, and holds that ended and are from before a moment.
    pub(super) fn purge_points(&mut self, merchant: Option<Id>, before: Timestamp, clock: Timestamp) {
        let points = &mut self.points;
        points.replies.retain(|_, reply| reply.until > clock);
        points.tokens.retain(|_, token| token.until > clock);
        points.holds.retain(|_, hold| {
            hold.state == HoldState::Pending && hold.until.is_none_or(|until| until >= before)
                || hold.at >= before
                || merchant.is_some_and(|merchant| hold.merchant != merchant)
        });
    }
}
