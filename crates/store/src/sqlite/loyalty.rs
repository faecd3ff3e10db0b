//! Points: what a decision reads, and what it writes.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use uzel_model::{
    Id, Timestamp,
    id::Kind,
    loyalty::{Hold, OrderReceipt, Wallet},
};

use super::{doc, id, ms, time};
use crate::{
    KeptReply, LoyaltyChange, LoyaltyLook, LoyaltySeen, Progress, PromoUse, PromoUses, Who,
    loyalty::{PROGRESS, book_number, move_number, state_number},
    ready::PointDocuments,
};

/// Answers and tokens that are over and are taken out with each that is put in.
const FORGOTTEN: i64 = 2;

/// Whether all stands as a decision saw it. Looks only.
pub(super) fn may_change(db: &Connection, change: &LoyaltyChange, now: i64) -> Result<bool> {
    if change.is_twofold() {
        return Ok(false);
    }
    for wallet in &change.wallets {
        if !may_write(db, wallet, &change.wallets)? {
            return Ok(false);
        }
    }
    for hold in &change.holds {
        if version(db, "SELECT version FROM wallet_hold WHERE id = ?1", hold.id)? != hold.version {
            return Ok(false);
        }
    }
    for receipt in &change.receipts {
        let known = version(db, "SELECT version FROM order_receipt WHERE id = ?1", receipt.id)?;
        let taken =
            || {
                db.prepare_cached("SELECT 1 FROM order_receipt WHERE merchant = ?1 AND order_id = ?2 AND id <> ?3")?
                    .exists(params![receipt.merchant.as_bytes(), receipt.order, receipt.id.as_bytes()])
            };
        if known != receipt.version || taken()? {
            return Ok(false);
        }
    }
    for reply in &change.replies {
        if db.prepare_cached("SELECT 1 FROM kept_reply WHERE key = ?1 AND until > ?2")?.exists(params![reply.key, now])? {
            return Ok(false);
        }
    }
    if let Some(token) = &change.token
        && db.prepare_cached("SELECT 1 FROM spent_token WHERE key = ?1 AND until > ?2")?.exists(params![token.key, now])?
    {
        return Ok(false);
    }
    if let Some(promo) = &change.promo {
        let uses = uses(db, promo.merchant, &promo.code, Some(promo.wallet))?;
        let used = db
            .prepare_cached("SELECT 1 FROM promo_use WHERE merchant = ?1 AND code = ?2 AND order_id = ?3")?
            .exists(params![promo.merchant.as_bytes(), promo.code, promo.order])?;
        if used || (uses.all, uses.by_customer) != (promo.was.all, promo.was.by_customer) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The version of a row, or 0.
fn version(db: &Connection, sql: &str, id: Id) -> Result<i64> {
    Ok(db.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?.unwrap_or_default())
}

/// Whether a wallet has this version, and its customer and phone are no other's.
fn may_write(db: &Connection, wallet: &Wallet, with: &[Wallet]) -> Result<bool> {
    let known: Option<(i64, String, Option<String>)> = db
        .prepare_cached("SELECT version, customer, phone FROM wallet WHERE id = ?1")?
        .query_row([wallet.id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let (version, customer, phone) = known.map_or((0, None, None), |(version, customer, phone)| (version, Some(customer), phone));
    if version != wallet.version {
        return Ok(false);
    }
    let other = |sql: &str, value: &str| -> Result<Option<[u8; 16]>> {
        db.prepare_cached(sql)?
            .query_row(params![value, wallet.merchant.as_bytes(), wallet.id.as_bytes()], |row| row.get(0))
            .optional()
    };
    if customer.as_deref() != Some(&wallet.customer)
        && other("SELECT id FROM wallet WHERE customer = ?1 AND merchant = ?2 AND id <> ?3", &wallet.customer)?.is_some()
    {
        return Ok(false);
    }
    let new_phone = wallet.phone.as_deref().filter(|new| phone.as_deref() != Some(*new));
    let Some(new_phone) = new_phone else { return Ok(true) };
    let holder = other("SELECT id FROM wallet WHERE phone = ?1 AND merchant = ?2 AND id <> ?3", new_phone)?;
    // One that is written along with it gives the phone up: two of a change never have the same.
    Ok(holder.is_none_or(|holder| with.iter().any(|wallet| *wallet.id.as_bytes() == holder)))
}

/// Writes what may be written: see [`may_change`].
pub(super) fn write(db: &Connection, change: &LoyaltyChange, documents: &PointDocuments, now: i64) -> Result<()> {
    if change.wallets.len() > 1 {
        for wallet in &change.wallets {
            db.prepare_cached("UPDATE wallet SET phone = NULL WHERE id = ?1 AND phone <> ?2")?
                .execute(params![wallet.id.as_bytes(), wallet.phone.as_deref().unwrap_or_default()])?;
        }
    }
    for (wallet, text) in change.wallets.iter().zip(&documents.wallets) {
        put_wallet(db, wallet, text)?;
    }
    for (hold, text) in change.holds.iter().zip(&documents.holds) {
        put_hold(db, hold, text)?;
    }
    for (receipt, text) in change.receipts.iter().zip(&documents.receipts) {
        put_receipt(db, receipt, text)?;
    }
    for (entry, lots) in change.ledger.iter().zip(&documents.lots) {
        db.prepare_cached(
            "INSERT INTO ledger (id, merchant, wallet, kind, from_book, to_book, points, balance, at, cause, order_id, outlet, staff,
             reason, lots) VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15)",
        )?
        .execute(params![
            entry.id.as_bytes(),
            entry.merchant.as_bytes(),
            entry.wallet.as_bytes(),
            move_number(entry.kind),
            book_number(entry.from),
            book_number(entry.to),
            entry.points,
            entry.balance,
            ms(entry.at),
            entry.cause,
            entry.order,
            entry.outlet.as_ref().map(Id::as_bytes),
            entry.staff,
            entry.reason,
            lots
        ])?;
    }
    for reply in &change.replies {
        put_reply(db, reply, now)?;
    }
    if let Some(token) = &change.token {
        db.prepare_cached(
            "DELETE FROM spent_token WHERE key IN (SELECT key FROM spent_token WHERE until <= ?1 ORDER BY until LIMIT ?2)",
        )?
        .execute([now, FORGOTTEN])?;
        db.prepare_cached("INSERT OR REPLACE INTO spent_token VALUES (?1, ?2, ?3)")?.execute(params![
            token.key,
            token.hold.as_bytes(),
            ms(token.until)
        ])?;
    }
    change.promo.iter().try_for_each(|promo| put_promo(db, promo))
}

fn put_wallet(db: &Connection, wallet: &Wallet, text: &str) -> Result<()> {
    let (id, merchant, next_at) = (wallet.id.as_bytes(), wallet.merchant.as_bytes(), wallet.next_at().map(ms));
    if wallet.version == 0 {
        db.prepare_cached(
            "INSERT INTO wallet (id, merchant, version, customer, phone, balance, promised, due_at, doc)
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            merchant,
            wallet.customer,
            wallet.phone,
            wallet.balance(),
            wallet.promised(),
            next_at,
            text
        ])?;
        return Ok(());
    }
    // Columns of an index are named only where they change: whatever is named is written to its index anew.
    db.prepare_cached("UPDATE wallet SET version = version + 1, balance = ?2, promised = ?3, doc = ?4 WHERE id = ?1")?
        .execute(params![id, wallet.balance(), wallet.promised(), text])?;
    db.prepare_cached("UPDATE wallet SET due_at = ?2 WHERE id = ?1 AND due_at IS NOT ?2")?.execute(params![id, next_at])?;
    db.prepare_cached("UPDATE wallet SET customer = ?2, phone = ?3 WHERE id = ?1 AND (customer <> ?2 OR phone IS NOT ?3)")?
        .execute(params![id, wallet.customer, wallet.phone])?;
    Ok(())
}

fn put_hold(db: &Connection, hold: &Hold, text: &str) -> Result<()> {
    let (id, state) = (hold.id.as_bytes(), state_number(hold.state));
    if hold.version == 0 {
        db.prepare_cached(
            "INSERT INTO wallet_hold (id, merchant, wallet, order_id, version, state, at, doc) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6, ?7)",
        )?
        .execute(params![id, hold.merchant.as_bytes(), hold.wallet.as_bytes(), hold.order, state, ms(hold.at), text])?;
    } else {
        db.prepare_cached("UPDATE wallet_hold SET version = version + 1, state = ?2, doc = ?3 WHERE id = ?1")?
            .execute(params![id, state, text])?;
    }
    Ok(())
}

fn put_receipt(db: &Connection, receipt: &OrderReceipt, text: &str) -> Result<()> {
    let id = receipt.id.as_bytes();
    if receipt.version == 0 {
        db.prepare_cached(
            "INSERT INTO order_receipt (id, merchant, order_id, wallet, version, at, doc) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?6)",
        )?
        .execute(params![
            id,
            receipt.merchant.as_bytes(),
            receipt.order,
            receipt.wallet.as_bytes(),
            ms(receipt.at),
            text
        ])?;
    } else {
        db.prepare_cached("UPDATE order_receipt SET version = version + 1, doc = ?2 WHERE id = ?1")?
            .execute(params![id, text])?;
        // A mark becomes somebody's.
        db.prepare_cached("UPDATE order_receipt SET wallet = ?2, at = ?3 WHERE id = ?1 AND (wallet <> ?2 OR at <> ?3)")?
            .execute(params![id, receipt.wallet.as_bytes(), ms(receipt.at)])?;
    }
    Ok(())
}

fn put_reply(db: &Connection, reply: &KeptReply, now: i64) -> Result<()> {
    db.prepare_cached(
        "DELETE FROM kept_reply WHERE key IN (SELECT key FROM kept_reply WHERE until <= ?1 ORDER BY until LIMIT ?2)",
    )?
    .execute([now, FORGOTTEN])?;
    db.prepare_cached("INSERT OR REPLACE INTO kept_reply VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        reply.key,
        reply.body,
        reply.answer,
        ms(reply.until)
    ])?;
    Ok(())
}

fn put_promo(db: &Connection, promo: &PromoUse) -> Result<()> {
    let merchant = promo.merchant.as_bytes();
    db.prepare_cached("INSERT INTO promo_use (merchant, code, order_id, wallet, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![merchant, promo.code, promo.order, promo.wallet.as_bytes(), ms(promo.at)])?;
    db.prepare_cached("INSERT INTO promo_total VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET uses = uses + 1")?
        .execute(params![merchant, promo.code])?;
    Ok(())
}

/// What a decision needs.
pub(super) fn look(db: &Connection, look: &LoyaltyLook) -> Result<LoyaltySeen> {
    let (merchant, now) = (look.merchant.as_bytes(), ms(look.now));
    let mut seen = LoyaltySeen::default();
    for key in &look.replies {
        let reply = db
            .prepare_cached("SELECT body, answer, until FROM kept_reply WHERE key = ?1 AND until > ?2")?
            .query_row(params![key, now], |row| {
                Ok(KeptReply { key: *key, body: row.get(0)?, answer: row.get(1)?, until: time(2, row)? })
            })
            .optional()?;
        seen.replies.extend(reply);
    }
    let hold: Option<[u8; 16]> = match (look.hold, look.token) {
        (Some(hold), _) => Some(*hold.as_bytes()),
        (None, Some(token)) => db
            .prepare_cached("SELECT hold FROM spent_token WHERE key = ?1 AND until > ?2")?
            .query_row(params![token, now], |row| row.get(0))
            .optional()?,
        (None, None) => None,
    };
    if let Some(hold) = hold {
        seen.hold = db
            .prepare_cached("SELECT version, doc FROM wallet_hold WHERE id = ?1 AND merchant = ?2")?
            .query_row(params![hold, merchant], |row| Ok(Hold { version: row.get(0)?, ..doc(1, row)? }))
            .optional()?;
    }
    if let Some(order) = look.order.as_ref().or(seen.hold.as_ref().map(|hold| &hold.order)) {
        seen.receipt = db
            .prepare_cached("SELECT version, doc FROM order_receipt WHERE merchant = ?1 AND order_id = ?2")?
            .query_row(params![merchant, order], |row| Ok(OrderReceipt { version: row.get(0)?, ..doc(1, row)? }))
            .optional()?;
    }
    let of_hold = seen.hold.as_ref().map(|hold| hold.wallet);
    let whose = look.who.clone().or(of_hold.or(seen.receipt.as_ref().map(|receipt| receipt.wallet)).map(Who::Id));
    seen.wallet = match &whose {
        Some(Who::Id(id)) => {
            one_wallet(db, "SELECT version, doc FROM wallet WHERE id = ?1 AND merchant = ?2", params![id.as_bytes(), merchant])?
        }
        Some(Who::Customer(customer)) => {
            one_wallet(db, "SELECT version, doc FROM wallet WHERE customer = ?1 AND merchant = ?2", params![customer, merchant])?
        }
        Some(Who::Phone(phone)) => {
            one_wallet(db, "SELECT version, doc FROM wallet WHERE phone = ?1 AND merchant = ?2", params![phone, merchant])?
        }
        None => None,
    };
    let wallet = seen.wallet.as_ref().map(|wallet| wallet.id);
    if let (Some(since), Some(wallet)) = (look.since, wallet) {
        seen.progress = progress(db, wallet, since)?;
    }
    if let Some(code) = &look.promo_code {
        seen.promo = uses(db, look.merchant, code, wallet)?;
    }
    Ok(seen)
}

pub(super) fn read_wallet(row: &Row<'_>) -> Result<Wallet> {
    Ok(Wallet { version: row.get(0)?, ..doc(1, row)? })
}

fn one_wallet(db: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Option<Wallet>> {
    db.prepare_cached(sql)?.query_row(values, read_wallet).optional()
}

fn progress(db: &Connection, wallet: Id, since: Timestamp) -> Result<Progress> {
    let (wallet, since) = (wallet.as_bytes(), ms(since));
    let (earned, redeemed) = db
        .prepare_cached(&format!("SELECT {PROGRESS} FROM ledger INDEXED BY ledger_wallet WHERE wallet = ?1 AND at >= ?2"))?
        .query_row(params![wallet, since], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let receipts = db
        .prepare_cached("SELECT count(*) FROM order_receipt WHERE wallet = ?1 AND at >= ?2")?
        .query_row(params![wallet, since], |row| row.get(0))?;
    Ok(Progress { earned, redeemed, receipts })
}

fn uses(db: &Connection, merchant: Id, code: &str, wallet: Option<Id>) -> Result<PromoUses> {
    let merchant = merchant.as_bytes();
    let all = db
        .prepare_cached("SELECT uses FROM promo_total WHERE merchant = ?1 AND code = ?2")?
        .query_row(params![merchant, code], |row| row.get(0))
        .optional()?;
    let mut uses = PromoUses { all: all.unwrap_or_default(), ..PromoUses::default() };
    if let Some(wallet) = wallet {
        (uses.by_customer, uses.last_by_customer_at) = db
            .prepare_cached("SELECT count(*), max(at) FROM promo_use WHERE merchant = ?1 AND code = ?2 AND wallet = ?3")?
            .query_row(params![merchant, code, wallet.as_bytes()], |row| Ok((row.get(0)?, super::maybe_time(1, row)?)))?;
    }
    Ok(uses)
}

/// Answers and tokens that are over by this machine's clock: takes out up to so many of each. Gives whether there may be more.
pub(super) fn forget_ended(db: &Connection, limit: usize) -> Result<bool> {
    let mut most = 0;
    for table in ["kept_reply", "spent_token"] {
        let gone = db
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE key IN (SELECT key FROM {table} WHERE until <= {} ORDER BY until LIMIT ?1)",
                super::NOW
            ))?
            .execute([limit as i64])?;
        most = most.max(gone);
    }
    Ok(most == limit)
}

/// Holds that ended and were made before a moment, up to so many after a place.
pub(super) fn ended_holds(
    db: &Connection,
    merchant: Option<Id>,
    before: Timestamp,
    after: [u8; 16],
    limit: usize,
) -> Result<Vec<[u8; 16]>> {
    db.prepare_cached(
        "SELECT id FROM wallet_hold WHERE id > ?1 AND id < ?2 AND at < ?3 AND (state <> 0 OR doc ->> 'until' < ?6) AND (?4 IS NULL OR merchant = ?4)
         ORDER BY id LIMIT ?5",
    )?
    .query_map(
        params![after, Id::least(Kind::Hold, before).as_bytes(), ms(before), merchant.as_ref().map(Id::as_bytes), limit as i64, before.to_string()],
        |row| row.get(0),
    )?
    .collect()
}

pub(super) fn newest(db: &Connection) -> Result<Option<Id>> {
    let of = |table: &str, kind| {
        db.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| {
            Ok(row.get::<_, Option<[u8; 16]>>(0)?.map(|bytes| (kind, bytes)))
        })
    };
    let newest = of("ledger", Kind::Points)?.into_iter().chain(of("wallet_hold", Kind::Hold)?).max_by_key(|(_, bytes)| *bytes);
    Ok(newest.map(|(kind, bytes)| Id::from_bytes(kind, bytes)))
}

pub(super) fn due(db: &Connection, now: Timestamp, without: &[Id], limit: usize) -> Result<Vec<Wallet>> {
    // Few merchants have wallets and no programme: theirs are passed over.
    let mut rows = db.prepare_cached("SELECT version, doc, merchant FROM wallet WHERE due_at <= ?1 ORDER BY due_at")?;
    let mut rows = rows.query([ms(now)])?;
    let mut due = Vec::new();
    while due.len() < limit
        && let Some(row) = rows.next()?
    {
        if without.is_empty() || !without.contains(&id(Kind::Merchant, 2, row)?) {
            due.push(read_wallet(row)?);
        }
    }
    Ok(due)
}

pub(super) fn wallet_id(row: &Row<'_>, column: usize) -> Result<Id> {
    id(Kind::Customer, column, row)
}
