//! Points, as people look at them: movements, wallets, whether both agree, and what is forgotten of a person.

use rusqlite::{Connection, Result, Row, ToSql, params};
use uzel_model::{
    Id, Named,
    id::Kind,
    loyalty::{Entry, Hold, OrderReceipt, Wallet},
};

use super::{
    doc, id,
    loyalty::{read_wallet, wallet_id},
    maybe_id, ms, time,
};
use crate::{
    ERASED, LedgerFilter, LoyaltyAudit, WalletFilter,
    loyalty::{audit, book, move_kind},
};

const ENTRY: &str =
    "id, merchant, wallet, kind, from_book, to_book, points, balance, at, cause, order_id, outlet, staff, reason, lots";

fn read_entry(row: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        id: id(Kind::Points, 0, row)?,
        merchant: id(Kind::Merchant, 1, row)?,
        wallet: wallet_id(row, 2)?,
        kind: move_kind(row.get(3)?),
        from: book(row.get(4)?),
        to: book(row.get(5)?),
        points: row.get(6)?,
        balance: row.get(7)?,
        at: time(8, row)?,
        cause: row.get(9)?,
        order: row.get(10)?,
        outlet: maybe_id(Kind::Outlet, 11, row)?,
        staff: row.get(12)?,
        reason: row.get(13)?,
        lots: if row.get_ref(14)? == rusqlite::types::ValueRef::Null { Vec::new() } else { doc(14, row)? },
    })
}

/// Conditions, and the values that they name.
#[derive(Default)]
struct Conditions<'a> {
    sql: Vec<String>,
    values: Vec<(&'static str, &'a dyn ToSql)>,
}

impl<'a> Conditions<'a> {
    fn add(&mut self, sql: &str, name: &'static str, value: &'a dyn ToSql) {
        self.sql.push(sql.to_owned());
        self.values.push((name, value));
    }

    fn text(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }
}

/// Movements, newest first.
pub(super) fn page(db: &Connection, filter: &LedgerFilter) -> Result<Vec<Entry>> {
    let (wallet, merchant) = (filter.wallet.map(|id| *id.as_bytes()), filter.merchant.map(|id| *id.as_bytes()));
    let (outlet, before) = (filter.outlet.map(|id| *id.as_bytes()), filter.before.map(|id| *id.as_bytes()));
    let (before_at, limit) = (filter.before_at.map(ms), i64::try_from(filter.limit).unwrap_or(i64::MAX));
    let mut wanted = Conditions::default();
    // What is rarest leads: SQLite has no statistics to tell it by.
    let index = match (&wallet, &outlet, &merchant) {
        (Some(_), ..) => "INDEXED BY ledger_wallet",
        (None, Some(_), _) => "INDEXED BY ledger_outlet",
        (None, None, Some(_)) => "INDEXED BY ledger_merchant",
        (None, None, None) => "",
    };
    if let Some(wallet) = &wallet {
        wanted.add("wallet = :wallet", ":wallet", wallet);
    }
    if let Some(outlet) = &outlet {
        wanted.add("outlet = :outlet", ":outlet", outlet);
    }
    if let Some(merchant) = &merchant {
        wanted.add("merchant = :merchant", ":merchant", merchant);
    }
    if let Some(staff) = &filter.staff {
        wanted.add("staff = :staff", ":staff", staff);
    }
    if let Some(before) = &before {
        wanted.add("id < :before", ":before", before);
    }
    if let Some(before_at) = &before_at {
        wanted.add("at < :before_at", ":before_at", before_at);
    }
    let sql = format!("SELECT {ENTRY} FROM ledger {index} {} ORDER BY id DESC LIMIT :limit", wanted.text());
    wanted.values.push((":limit", &limit));
    db.prepare_cached(&sql)?.query_map(wanted.values.as_slice(), read_entry)?.collect()
}

/// Wallets in the order of their ids, each with its balance and what is promised, as they stand beside it.
fn with_sums(db: &Connection, filter: &WalletFilter) -> Result<Vec<(Wallet, (i64, i64))>> {
    let (merchant, after) = (filter.merchant.map(|id| *id.as_bytes()), filter.after.map(|id| *id.as_bytes()));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut wanted = Conditions::default();
    let index = match (&filter.customer, &filter.phone, &merchant) {
        (Some(_), ..) => "INDEXED BY wallet_customer",
        (None, Some(_), _) => "INDEXED BY wallet_phone",
        (None, None, Some(_)) => "INDEXED BY wallet_merchant",
        (None, None, None) => "",
    };
    if let Some(customer) = &filter.customer {
        wanted.add("customer = :customer", ":customer", customer);
    }
    if let Some(phone) = &filter.phone {
        wanted.add("phone = :phone", ":phone", phone);
    }
    if let Some(merchant) = &merchant {
        wanted.add("merchant = :merchant", ":merchant", merchant);
    }
    if let Some(after) = &after {
        wanted.add("id > :after", ":after", after);
    }
    let sql = format!("SELECT version, doc, balance, promised FROM wallet {index} {} ORDER BY id LIMIT :limit", wanted.text());
    wanted.values.push((":limit", &limit));
    db.prepare_cached(&sql)?
        .query_map(wanted.values.as_slice(), |row| Ok((read_wallet(row)?, (row.get(2)?, row.get(3)?))))?
        .collect()
}

pub(super) fn wallets(db: &Connection, filter: &WalletFilter) -> Result<Vec<Wallet>> {
    Ok(with_sums(db, filter)?.into_iter().map(|(wallet, _)| wallet).collect())
}

/// Holds a portion of wallets against their movements and receipts.
pub(super) fn check(db: &Connection, merchant: Option<Id>, after: Option<Id>, limit: usize) -> Result<LoyaltyAudit> {
    let wallets = with_sums(db, &WalletFilter { merchant, after, limit, ..WalletFilter::default() })?;
    let mut audited = LoyaltyAudit { wallets: wallets.len() as u64, ..LoyaltyAudit::default() };
    for (wallet, cached) in &wallets {
        let ledger: Vec<Entry> = db
            .prepare_cached(&format!("SELECT {ENTRY} FROM ledger INDEXED BY ledger_wallet WHERE wallet = ?1"))?
            .query_map([wallet.id.as_bytes()], read_entry)?
            .collect::<Result<_>>()?;
        let receipts: Vec<OrderReceipt> = db
            .prepare_cached("SELECT version, doc FROM order_receipt WHERE wallet = ?1")?
            .query_map([wallet.id.as_bytes()], |row| Ok(OrderReceipt { version: row.get(0)?, ..doc(1, row)? }))?
            .collect::<Result<_>>()?;
        audited.entries += ledger.len() as u64;
        audited.findings.extend(audit(wallet, *cached, &ledger, &receipts).into_iter().map(|finding| (wallet.id, finding)));
    }
    audited.next = wallets.last().filter(|_| wallets.len() == limit).map(|(wallet, _)| wallet.id);
    Ok(audited)
}

/// Wallets of a merchant that tell of a person. Looks only.
pub(super) fn of_person(db: &Connection, merchant: Id, phone: &Named) -> Result<Vec<Id>> {
    let mut found = Vec::new();
    let mut wallets = db.prepare_cached("SELECT version, doc FROM wallet INDEXED BY wallet_merchant WHERE merchant = ?1")?;
    for wallet in wallets.query_map([merchant.as_bytes()], read_wallet)? {
        let mut wallet = wallet?;
        if wallet.forget_person(phone) {
            found.push(wallet.id);
        }
    }
    Ok(found)
}

/// The points stay, under an id that says nothing of the person. Gives how many wallets told of them.
pub(super) fn forget(db: &Connection, wallets: &[Id], phone: &Named) -> Result<u64> {
    let mut forgotten = 0;
    for id in wallets {
        let id = id.as_bytes();
        let mut wallet = db.prepare_cached("SELECT version, doc FROM wallet WHERE id = ?1")?.query_row([id], read_wallet)?;
        if !wallet.forget_person(phone) {
            continue;
        }
        forgotten += 1;
        let text = serde_json::to_string(&wallet).expect("a wallet is JSON");
        db.prepare_cached("UPDATE wallet SET version = version + 1, customer = ?2, phone = ?3, doc = ?4 WHERE id = ?1")?
            .execute(params![id, wallet.customer, wallet.phone, text])?;
        let holds: Vec<Hold> = db
            .prepare_cached("SELECT doc FROM wallet_hold WHERE wallet = ?1")?
            .query_map([id], |row| doc(0, row))?
            .collect::<Result<_>>()?;
        for mut hold in holds {
            if hold.forget_person(phone) {
                let text = serde_json::to_string(&hold).expect("a hold is JSON");
                db.prepare_cached("UPDATE wallet_hold SET version = version + 1, doc = ?2 WHERE id = ?1")?
                    .execute(params![hold.id.as_bytes(), text])?;
            }
        }
        let reasons: Vec<([u8; 16], String)> = db
            .prepare_cached("SELECT id, reason FROM ledger INDEXED BY ledger_wallet WHERE wallet = ?1 AND reason IS NOT NULL")?
            .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_>>()?;
        for (entry, reason) in reasons {
            if phone.is_in(&reason) {
                db.prepare_cached("UPDATE ledger SET reason = ?2 WHERE id = ?1")?.execute(params![entry, ERASED])?;
            }
        }
    }
    Ok(forgotten)
}
