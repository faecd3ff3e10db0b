//! Points, as people look at them: movements, wallets, whether both agree, what is forgotten of a person and what retention takes.

use std::collections::HashMap;

use deadpool_postgres::{GenericClient, Object, Transaction};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;
use uzel_model::{
    Id, Named, Timestamp,
    id::Kind,
    loyalty::{Entry, Hold, OrderReceipt, Wallet},
};

use super::{doc, failed, get, id, journal::text, lanes::Fault, maybe_id, uuid};
use crate::{
    ERASED, LedgerFilter, LoyaltyAudit, StoreError, WalletFilter,
    loyalty::{audit, book, move_kind},
};

const ENTRY: &str =
    "id, merchant, wallet, kind, from_book, to_book, points, balance, at, cause, order_id, outlet, staff, reason, lots";

fn read_entry(row: &Row) -> Result<Entry, StoreError> {
    let number = |column| get::<i16>(row, column).map(|number| number as u8);
    let lots: Option<String> = get(row, 14)?;
    Ok(Entry {
        id: id(Kind::Points, row, 0)?,
        merchant: id(Kind::Merchant, row, 1)?,
        wallet: id(Kind::Customer, row, 2)?,
        kind: move_kind(number(3)?),
        from: book(number(4)?),
        to: book(number(5)?),
        points: get(row, 6)?,
        balance: get(row, 7)?,
        at: get(row, 8)?,
        cause: get(row, 9)?,
        order: get(row, 10)?,
        outlet: maybe_id(Kind::Outlet, row, 11)?,
        staff: get(row, 12)?,
        reason: get(row, 13)?,
        lots: if lots.is_some() { doc(row, 14)? } else { Vec::new() },
    })
}

/// Conditions, and their values.
#[derive(Default)]
struct Conditions<'a> {
    sql: Vec<String>,
    values: Vec<&'a (dyn ToSql + Sync)>,
}

impl<'a> Conditions<'a> {
    /// `sql` ends where the value goes.
    fn add<T: ToSql + Sync>(&mut self, sql: &str, value: &'a Option<T>) {
        if let Some(value) = value {
            self.values.push(value);
            self.sql.push(format!("{sql} ${}", self.values.len()));
        }
    }

    fn text(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }
}

/// Movements, newest first.
pub(super) async fn page(client: &impl GenericClient, filter: &LedgerFilter) -> Result<Vec<Entry>, StoreError> {
    let (merchant, wallet) = (filter.merchant.map(uuid), filter.wallet.map(uuid));
    let (outlet, before) = (filter.outlet.map(uuid), filter.before.map(uuid));
    let (staff, limit) = (filter.staff.as_deref().map(text), i64::try_from(filter.limit).unwrap_or(i64::MAX));
    let mut wanted = Conditions::default();
    wanted.add("wallet =", &wallet);
    wanted.add("outlet =", &outlet);
    wanted.add("merchant =", &merchant);
    wanted.add("staff =", &staff);
    wanted.add("id <", &before);
    wanted.add("at <", &filter.before_at);
    let sql = format!("SELECT {ENTRY} FROM ledger {} ORDER BY id DESC LIMIT {limit}", wanted.text());
    client.query(&sql, &wanted.values).await.map_err(failed)?.iter().map(read_entry).collect()
}

/// Wallets in the order of their ids, each with its balance and what is promised, as they stand beside it.
async fn with_sums(client: &impl GenericClient, filter: &WalletFilter) -> Result<Vec<(Wallet, (i64, i64))>, StoreError> {
    let (merchant, after) = (filter.merchant.map(uuid), filter.after.map(uuid));
    let (customer, phone) = (filter.customer.as_deref().map(text), filter.phone.as_deref().map(text));
    let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
    let mut wanted = Conditions::default();
    wanted.add("customer =", &customer);
    wanted.add("phone =", &phone);
    wanted.add("merchant =", &merchant);
    wanted.add("id >", &after);
    let sql = format!("SELECT version, doc, balance, promised FROM wallet {} ORDER BY id LIMIT {limit}", wanted.text());
    let rows = client.query(&sql, &wanted.values).await.map_err(failed)?;
    rows.iter().map(|row| Ok((read_wallet(row)?, (get(row, 2)?, get(row, 3)?)))).collect()
}

fn read_wallet(row: &Row) -> Result<Wallet, StoreError> {
    Ok(Wallet { version: get(row, 0)?, ..doc(row, 1)? })
}

pub(super) async fn wallets(client: &impl GenericClient, filter: &WalletFilter) -> Result<Vec<Wallet>, StoreError> {
    Ok(with_sums(client, filter).await?.into_iter().map(|(wallet, _)| wallet).collect())
}

pub(crate) const DUE: &str =
    "SELECT version, doc FROM wallet WHERE due_at <= $1 AND merchant <> ALL($2) ORDER BY due_at LIMIT $3";

pub(super) async fn due(
    client: &impl GenericClient,
    now: Timestamp,
    without: &[Id],
    limit: usize,
) -> Result<Vec<Wallet>, StoreError> {
    let statement = client.prepare_cached(DUE).await.map_err(failed)?;
    let without: Vec<Uuid> = without.iter().copied().map(uuid).collect();
    client.query(&statement, &[&now, &without, &(limit as i64)]).await.map_err(failed)?.iter().map(read_wallet).collect()
}

/// Holds a portion of wallets against their movements and receipts, all of one moment.
pub(super) async fn check(
    client: &mut Object,
    merchant: Option<Id>,
    after: Option<Id>,
    limit: usize,
) -> Result<LoyaltyAudit, StoreError> {
    let work = super::snapshot(client).await?;
    let wallets = with_sums(&work, &WalletFilter { merchant, after, limit, ..WalletFilter::default() }).await?;
    let ids: Vec<Uuid> = wallets.iter().map(|(wallet, _)| uuid(wallet.id)).collect();
    let mut ledger: HashMap<Id, Vec<Entry>> = HashMap::new();
    for row in work.query(&format!("SELECT {ENTRY} FROM ledger WHERE wallet = ANY($1)"), &[&ids]).await.map_err(failed)? {
        let entry = read_entry(&row)?;
        ledger.entry(entry.wallet).or_default().push(entry);
    }
    let mut receipts: HashMap<Id, Vec<OrderReceipt>> = HashMap::new();
    for row in work.query("SELECT doc FROM order_receipt WHERE wallet = ANY($1)", &[&ids]).await.map_err(failed)? {
        let receipt: OrderReceipt = doc(&row, 0)?;
        receipts.entry(receipt.wallet).or_default().push(receipt);
    }
    work.commit().await.map_err(failed)?;
    let mut audited = LoyaltyAudit { wallets: wallets.len() as u64, ..LoyaltyAudit::default() };
    for (wallet, cached) in &wallets {
        let (ledger, receipts) = (ledger.remove(&wallet.id).unwrap_or_default(), receipts.remove(&wallet.id).unwrap_or_default());
        audited.entries += ledger.len() as u64;
        audited.findings.extend(audit(wallet, *cached, &ledger, &receipts).into_iter().map(|finding| (wallet.id, finding)));
    }
    audited.next = wallets.last().filter(|_| wallets.len() == limit).map(|(wallet, _)| wallet.id);
    Ok(audited)
}

/// The points stay, under an id that says nothing of the person. Gives how many wallets told of them.
pub(super) async fn forget(work: &Transaction<'_>, merchant: Id, phone: &Named) -> Result<u64, Fault> {
    // The address stands somewhere in the document, or not at all.
    let find = "SELECT version, doc FROM wallet WHERE merchant = $1 AND position($2 IN translate(lower(doc), $3, '')) > 0
         ORDER BY id FOR UPDATE";
    let (wanted, between) = match phone.digits() {
        Some(digits) => (digits, Named::BETWEEN),
        None => (phone.key(), ""),
    };
    let mut forgotten = 0;
    for row in work.query(find, &[&uuid(merchant), &wanted, &between]).await? {
        let mut wallet = read_wallet(&row)?;
        if !wallet.forget_person(phone) {
            continue;
        }
        forgotten += 1;
        let id = uuid(wallet.id);
        let json = serde_json::to_string(&wallet).expect("a wallet is JSON");
        let blank = "UPDATE wallet SET version = version + 1, customer = $2, phone = $3, doc = $4 WHERE id = $1";
        work.execute(blank, &[&id, &text(&wallet.customer), &wallet.phone.as_deref().map(text), &json]).await?;
        for row in work.query("SELECT doc FROM wallet_hold WHERE wallet = $1 ORDER BY id FOR UPDATE", &[&id]).await? {
            let mut hold: Hold = doc(&row, 0)?;
            if hold.forget_person(phone) {
                let json = serde_json::to_string(&hold).expect("a hold is JSON");
                let blank = "UPDATE wallet_hold SET version = version + 1, doc = $2 WHERE id = $1";
                work.execute(blank, &[&uuid(hold.id), &json]).await?;
            }
        }
        for row in work.query("SELECT id, reason FROM ledger WHERE wallet = $1 AND reason IS NOT NULL", &[&id]).await? {
            if phone.is_in(&get::<String>(&row, 1)?) {
                work.execute("UPDATE ledger SET reason = $2 WHERE id = $1", &[&get::<Uuid>(&row, 0)?, &ERASED]).await?;
            }
        }
    }
    Ok(forgotten)
}

/// Holds that ended and were made before a moment, answers and tokens that are over by the server's clock: up to so many of each.
/// Gives how many went.
pub(super) async fn purge(
    work: &impl GenericClient,
    merchant: Option<Id>,
    before: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let mut gone = 0;
    for table in ["kept_reply", "spent_token"] {
        let sql = format!(
            "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE until <= clock_timestamp() ORDER BY until LIMIT $1
                 FOR UPDATE SKIP LOCKED)"
        );
        gone += work.execute(&sql, &[&limit]).await.map_err(failed)?;
    }
    let of = if merchant.is_some() { "merchant = $4" } else { "$4::uuid IS NULL" };
    // A quote that nobody asked about again is over all the same.
    let sql = format!(
        r"DELETE FROM wallet_hold WHERE id IN (SELECT id FROM wallet_hold WHERE {of} AND id < $1 AND at < $2
             AND (state <> 0 OR (replace(doc, '\u0000', '\ufffd')::json ->> 'until')::timestamptz < $2)
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)"
    );
    let least = uuid(Id::least(Kind::Hold, before));
    gone += work.execute(&sql, &[&least, &before, &limit, &merchant.map(uuid)]).await.map_err(failed)?;
    Ok(gone)
}
