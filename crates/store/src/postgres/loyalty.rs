//! Points: what decisions write, a group of them in a statement for each table. What they read is in `looks`.
//!
//! Wallets are locked before all else, in the order of their ids; then nobody else writes what belongs to them. What two may make
//! at once (an order's receipt, a key, a customer) is looked for, and where both are too quick for that the index refuses the
//! second: then each change of the group is tried alone.

use std::{borrow::Cow, collections::HashMap};

use deadpool_postgres::{GenericClient, Transaction};
use futures::try_join;
use tokio_postgres::{error::SqlState, types::ToSql};
use uuid::Uuid;
use uzel_model::{
    Id, Timestamp,
    loyalty::{Entry, Hold, OrderReceipt, Wallet},
};

use super::{get, journal::text, lanes::Fault, uuid};
use crate::{
    Change, KeptReply, LoyaltyChange, PromoUse, SpentToken, StoreError,
    loyalty::{book_number, move_number, state_number},
    ready::Ready,
};

/// Whether a change of points cannot be committed in one go with others: it may conflict after something has been written.
pub(super) fn stands_alone(change: &Change) -> bool {
    change.loyalty.as_ref().is_some_and(|points| points.promo.is_some() || change.mark.is_some() || change.settlement.is_some())
}

/// Whether the server refused a row since another of points is there: somebody was quicker.
pub(super) fn is_taken(error: &tokio_postgres::Error) -> bool {
    const TABLES: [&str; 6] = ["wallet", "wallet_hold", "order_receipt", "kept_reply", "spent_token", "promo_use"];
    error.code() == Some(&SqlState::UNIQUE_VIOLATION)
        && error.as_db_error().and_then(|error| error.table()).is_some_and(|table| TABLES.contains(&table))
}

/// Answers and tokens that are over and are taken out with each that is put in.
const FORGOTTEN: i64 = 2;

fn owned(value: &str) -> String {
    text(value).into_owned()
}

/// Locks what these changes write, as far as it is there. Gives the places of those that were decided on something else.
pub(super) async fn fence(work: &Transaction<'_>, run: &[&Ready]) -> Result<Vec<usize>, Fault> {
    let all: Vec<(usize, &LoyaltyChange, Timestamp)> = run
        .iter()
        .enumerate()
        .filter_map(|(place, ready)| {
            let points = ready.change.loyalty.as_deref()?;
            Some((place, points, ready.change.now.unwrap_or(Timestamp::UNIX_EPOCH)))
        })
        .collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut late: Vec<usize> = all.iter().filter(|(_, points, _)| points.is_twofold()).map(|(place, ..)| *place).collect();
    let wallets: Vec<(usize, &Wallet)> =
        all.iter().flat_map(|(place, points, _)| points.wallets.iter().map(|wallet| (*place, wallet))).collect();
    let (mut holds, mut receipts) = (Vec::new(), Vec::new());
    for (place, points, _) in &all {
        holds.extend(points.holds.iter().map(|hold| (*place, uuid(hold.id), hold.version)));
        receipts.extend(points.receipts.iter().map(|receipt| (*place, uuid(receipt.id), receipt.version)));
    }
    // Sent one behind the other, in this order, without waiting for answers between them.
    let (known, late_holds, late_receipts, ()) = try_join!(
        lock_wallets(work, wallets.iter().map(|(_, wallet)| uuid(wallet.id)).collect()),
        lock_rows(work, "wallet_hold", holds),
        lock_rows(work, "order_receipt", receipts),
        forget_over(work, &all),
    )?;
    late.extend(late_holds.into_iter().chain(late_receipts));
    let mut named = Named::default();
    for (place, wallet) in &wallets {
        let here = known.get(&uuid(wallet.id));
        if here.map_or(0, |(version, ..)| *version) != wallet.version {
            late.push(*place);
        }
        let (customer, phone) = (text(&wallet.customer), wallet.phone.as_deref().map(text));
        if here.is_none_or(|(_, known, _)| *known != customer)
            || here.is_none_or(|(.., known)| known.as_deref() != phone.as_deref())
        {
            named.add(*place, wallet, &customer, phone.as_deref());
        }
    }
    late.extend(taken(work, &all, &named, &wallets).await?);
    if !named.giving(&known).is_empty() {
        let statement = work.prepare_cached("UPDATE wallet SET phone = NULL WHERE id = ANY($1)").await?;
        let giving: Vec<Uuid> = named.giving(&known);
        // One that gives its phone up in a change that comes too late keeps it: that change stands alone, or is tried so.
        if late.is_empty() {
            work.execute(&statement, &[&giving]).await?;
        }
    }
    for (place, points, _) in &all {
        if let Some(promo) = &points.promo
            && !late.contains(place)
            && !put_promo(work, promo).await?
        {
            late.push(*place);
        }
    }
    Ok(late)
}

type Known = HashMap<Uuid, (i64, String, Option<String>)>;

pub(crate) const LOCK_WALLETS: &str = "SELECT id, version, customer, phone FROM wallet WHERE id = ANY($1) ORDER BY id FOR UPDATE";

async fn lock_wallets(work: &Transaction<'_>, ids: Vec<Uuid>) -> Result<Known, Fault> {
    let mut known = Known::new();
    if ids.is_empty() {
        return Ok(known);
    }
    let statement = work.prepare_cached(LOCK_WALLETS).await?;
    for row in work.query(&statement, &[&ids]).await? {
        known.insert(get(&row, 0)?, (get(&row, 1)?, get(&row, 2)?, get(&row, 3)?));
    }
    Ok(known)
}

/// Wallets whose customer or phone is new.
#[derive(Default)]
struct Named {
    places: Vec<i32>,
    ids: Vec<Uuid>,
    merchants: Vec<Uuid>,
    customers: Vec<String>,
    phones: Vec<Option<String>>,
}

impl Named {
    fn add(&mut self, place: usize, wallet: &Wallet, customer: &str, phone: Option<&str>) {
        self.places.push(place as i32);
        self.ids.push(uuid(wallet.id));
        self.merchants.push(uuid(wallet.merchant));
        self.customers.push(customer.to_owned());
        self.phones.push(phone.map(str::to_owned));
    }

    /// Those that have a phone now and give it up.
    fn giving(&self, known: &Known) -> Vec<Uuid> {
        let gives = |id: &Uuid, new: &Option<String>| known.get(id).is_some_and(|(.., phone)| phone.is_some() && phone != new);
        self.ids.iter().zip(&self.phones).filter(|(id, new)| gives(id, new)).map(|(id, _)| *id).collect()
    }
}

/// Locks rows that are to be written again, in the order of their ids. Gives the places of those that have another version.
async fn lock_rows(work: &Transaction<'_>, table: &'static str, mut rows: Vec<(usize, Uuid, i64)>) -> Result<Vec<usize>, Fault> {
    rows.retain(|(.., version)| *version > 0);
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("SELECT id, version FROM {table} WHERE id = ANY($1) ORDER BY id FOR UPDATE");
    let statement = work.prepare_cached(&sql).await?;
    let ids: Vec<Uuid> = rows.iter().map(|(_, id, _)| *id).collect();
    let mut known = HashMap::new();
    for row in work.query(&statement, &[&ids]).await? {
        known.insert(get::<Uuid>(&row, 0)?, get::<i64>(&row, 1)?);
    }
    Ok(rows.iter().filter(|(_, id, version)| known.get(id) != Some(version)).map(|(place, ..)| *place).collect())
}

/// Takes out answers and tokens that are over: those that are to be put anew, and some others for each that is put.
async fn forget_over(work: &Transaction<'_>, all: &[(usize, &LoyaltyChange, Timestamp)]) -> Result<(), Fault> {
    let (mut replies, mut tokens) = (Vec::new(), Vec::new());
    for (_, points, now) in all {
        replies.extend(points.replies.iter().map(|reply| (reply.key, *now)));
        tokens.extend(points.token.iter().map(|token| (token.key, *now)));
    }
    for (table, mut keys) in [("kept_reply", replies), ("spent_token", tokens)] {
        let Some(now) = keys.iter().map(|(_, now)| *now).max() else { continue };
        keys.sort_unstable();
        let others = FORGOTTEN * keys.len() as i64;
        let (keys, moments): (Vec<Uuid>, Vec<Timestamp>) =
            keys.into_iter().map(|(key, now)| (Uuid::from_bytes(key), now)).unzip();
        work.execute(&work.prepare_cached(&over_sql(table)).await?, &[&keys, &moments, &now, &others]).await?;
    }
    Ok(())
}

/// By their places in the table: the planner would compare keys with all of it.
pub(crate) fn over_sql(table: &str) -> String {
    format!(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY(
             SELECT r.ctid FROM unnest($1::uuid[], $2::timestamptz[]) AS n (key, now) JOIN {table} r ON r.key = n.key AND r.until <= n.now
             UNION ALL SELECT ctid FROM (SELECT ctid FROM {table} WHERE until <= $3 ORDER BY until LIMIT $4 FOR UPDATE SKIP LOCKED) o))"
    )
}

/// The places of changes that make what somebody has made.
pub(crate) const TAKEN: &str = "SELECT place FROM unnest($1::integer[], $2::uuid[], $3::uuid[], $4::text[], $5::text[])
        AS n (place, id, merchant, customer, phone)
    WHERE EXISTS (SELECT 1 FROM wallet w WHERE w.customer = n.customer AND w.merchant = n.merchant AND w.id <> n.id)
        OR EXISTS (SELECT 1 FROM wallet w WHERE w.phone = n.phone AND w.merchant = n.merchant AND w.id <> n.id AND w.id <> ALL($6))
    UNION ALL SELECT place FROM unnest($7::integer[], $8::uuid[], $9::uuid[], $10::text[]) AS n (place, id, merchant, order_id)
    WHERE EXISTS (SELECT 1 FROM order_receipt r WHERE r.merchant = n.merchant AND r.order_id = n.order_id AND r.id <> n.id)
    UNION ALL SELECT place FROM unnest($11::integer[], $12::uuid[]) AS n (place, key)
    WHERE EXISTS (SELECT 1 FROM kept_reply r WHERE r.key = n.key)
    UNION ALL SELECT place FROM unnest($13::integer[], $14::uuid[]) AS n (place, key)
    WHERE EXISTS (SELECT 1 FROM spent_token t WHERE t.key = n.key)";

async fn taken(
    work: &Transaction<'_>,
    all: &[(usize, &LoyaltyChange, Timestamp)],
    named: &Named,
    wallets: &[(usize, &Wallet)],
) -> Result<Vec<usize>, Fault> {
    let (mut orders, mut replies, mut tokens) = ((vec![], vec![], vec![], vec![]), (vec![], vec![]), (vec![], vec![]));
    for (place, points, _) in all {
        let place = *place as i32;
        for receipt in &points.receipts {
            orders.0.push(place);
            orders.1.push(uuid(receipt.id));
            orders.2.push(uuid(receipt.merchant));
            orders.3.push(owned(&receipt.order));
        }
        for reply in &points.replies {
            replies.0.push(place);
            replies.1.push(Uuid::from_bytes(reply.key));
        }
        if let Some(token) = &points.token {
            tokens.0.push(place);
            tokens.1.push(Uuid::from_bytes(token.key));
        }
    }
    if named.places.is_empty() && orders.0.is_empty() && replies.0.is_empty() && tokens.0.is_empty() {
        return Ok(Vec::new());
    }
    let with: Vec<Uuid> = wallets.iter().map(|(_, wallet)| uuid(wallet.id)).collect();
    let values: [&(dyn ToSql + Sync); 14] = [
        &named.places,
        &named.ids,
        &named.merchants,
        &named.customers,
        &named.phones,
        &with,
        &orders.0,
        &orders.1,
        &orders.2,
        &orders.3,
        &replies.0,
        &replies.1,
        &tokens.0,
        &tokens.1,
    ];
    let statement = work.prepare_cached(TAKEN).await?;
    work.query(&statement, &values).await?.iter().map(|row| Ok(get::<i32>(row, 0)? as usize)).collect()
}

/// Whether a promo code has been used as often as was decided on, and not for this order. Such a change stands alone.
async fn put_promo(work: &Transaction<'_>, promo: &PromoUse) -> Result<bool, Fault> {
    let (merchant, code, wallet, was) = (uuid(promo.merchant), owned(&promo.code), uuid(promo.wallet), promo.was);
    let count = "INSERT INTO promo_total VALUES ($1, $2, 0) ON CONFLICT DO NOTHING";
    work.execute(&work.prepare_cached(count).await?, &[&merchant, &code]).await?;
    let count = "UPDATE promo_total SET uses = uses + 1 WHERE merchant = $1 AND code = $2 AND uses = $3";
    if work.execute(&work.prepare_cached(count).await?, &[&merchant, &code, &was.all]).await? == 0 {
        return Ok(false);
    }
    let own = "SELECT count(*) FROM promo_use WHERE merchant = $1 AND code = $2 AND wallet = $3";
    let own = work.query_one(&work.prepare_cached(own).await?, &[&merchant, &code, &wallet]).await?;
    if get::<i64>(&own, 0)? != was.by_customer {
        return Ok(false);
    }
    let put = "INSERT INTO promo_use (merchant, code, order_id, wallet, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
    let put = work.prepare_cached(put).await?;
    Ok(work.execute(&put, &[&merchant, &code, &owned(&promo.order), &wallet, &promo.at]).await? == 1)
}

/// Writes what was not found to be too late; all of it is sent before the first answer.
pub(super) async fn write(work: &Transaction<'_>, going: &[(usize, &Ready)]) -> Result<(), Fault> {
    let (mut wallets, mut holds, mut receipts, mut ledger) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut replies, mut tokens) = (Vec::new(), Vec::new());
    for (_, ready) in going {
        let Some(points) = ready.change.loyalty.as_deref() else { continue };
        let texts = &ready.points;
        wallets.extend(points.wallets.iter().zip(texts.wallets.iter().map(String::as_str)));
        holds.extend(points.holds.iter().zip(texts.holds.iter().map(String::as_str)));
        receipts.extend(points.receipts.iter().zip(texts.receipts.iter().map(String::as_str)));
        ledger.extend(points.ledger.iter().zip(&texts.lots));
        replies.extend(&points.replies);
        tokens.extend(&points.token);
    }
    try_join!(
        put_wallets(work, wallets),
        put_holds(work, holds),
        put_receipts(work, receipts),
        put_ledger(work, ledger),
        put_replies(work, replies),
        put_tokens(work, tokens),
    )?;
    Ok(())
}

async fn put_replies(work: &Transaction<'_>, mut replies: Vec<&KeptReply>) -> Result<(), Fault> {
    if replies.is_empty() {
        return Ok(());
    }
    replies.sort_unstable_by_key(|reply| reply.key);
    let statement = work
        .prepare_cached("INSERT INTO kept_reply SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])")
        .await?;
    let keys: Vec<Uuid> = replies.iter().map(|reply| Uuid::from_bytes(reply.key)).collect();
    let bodies: Vec<Uuid> = replies.iter().map(|reply| Uuid::from_bytes(reply.body)).collect();
    let answers: Vec<Cow<'_, str>> = replies.iter().map(|reply| text(&reply.answer)).collect();
    let until: Vec<Timestamp> = replies.iter().map(|reply| reply.until).collect();
    work.execute(&statement, &[&keys, &bodies, &answers, &until]).await?;
    Ok(())
}

async fn put_tokens(work: &Transaction<'_>, mut tokens: Vec<&SpentToken>) -> Result<(), Fault> {
    if tokens.is_empty() {
        return Ok(());
    }
    tokens.sort_unstable_by_key(|token| token.key);
    let statement =
        work.prepare_cached("INSERT INTO spent_token SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[])").await?;
    let keys: Vec<Uuid> = tokens.iter().map(|token| Uuid::from_bytes(token.key)).collect();
    let holds: Vec<Uuid> = tokens.iter().map(|token| uuid(token.hold)).collect();
    let until: Vec<Timestamp> = tokens.iter().map(|token| token.until).collect();
    work.execute(&statement, &[&keys, &holds, &until]).await?;
    Ok(())
}

/// What was locked, or is new, stands as it was decided on; if not, nothing of all this may be kept.
fn all_written(what: &str, written: u64, wanted: usize) -> Result<(), Fault> {
    if written == wanted as u64 {
        return Ok(());
    }
    Err(StoreError::Failed(format!("{written} of {wanted} {what} were written that were locked")).into())
}

async fn put_wallets(work: &Transaction<'_>, mut rows: Vec<(&Wallet, &str)>) -> Result<(), Fault> {
    rows.sort_unstable_by_key(|(wallet, _)| wallet.id);
    let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(wallet, _)| wallet.version == 0);
    for (rows, sql) in [
        (
            new,
            "INSERT INTO wallet (id, merchant, version, customer, phone, balance, promised, due_at, doc)
             SELECT id, merchant, version + 1, customer, phone, balance, promised, due_at, doc
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::timestamptz[],
                 $9::text[]) AS n (id, merchant, version, customer, phone, balance, promised, due_at, doc)",
        ),
        (known, UPDATE_WALLETS),
    ] {
        if rows.is_empty() {
            continue;
        }
        let statement = work.prepare_cached(sql).await?;
        let ids: Vec<Uuid> = rows.iter().map(|(wallet, _)| uuid(wallet.id)).collect();
        let merchants: Vec<Uuid> = rows.iter().map(|(wallet, _)| uuid(wallet.merchant)).collect();
        let versions: Vec<i64> = rows.iter().map(|(wallet, _)| wallet.version).collect();
        let customers: Vec<Cow<'_, str>> = rows.iter().map(|(wallet, _)| text(&wallet.customer)).collect();
        let phones: Vec<Option<Cow<'_, str>>> = rows.iter().map(|(wallet, _)| wallet.phone.as_deref().map(text)).collect();
        let balances: Vec<i64> = rows.iter().map(|(wallet, _)| wallet.balance()).collect();
        let promised: Vec<i64> = rows.iter().map(|(wallet, _)| wallet.promised()).collect();
        let next_at: Vec<Option<Timestamp>> = rows.iter().map(|(wallet, _)| wallet.next_at()).collect();
        let docs: Vec<&str> = rows.iter().map(|(_, doc)| *doc).collect();
        let values: [&(dyn ToSql + Sync); 9] =
            [&ids, &merchants, &versions, &customers, &phones, &balances, &promised, &next_at, &docs];
        all_written("wallets", work.execute(&statement, &values).await?, ids.len())?;
    }
    Ok(())
}

pub(crate) const UPDATE_WALLETS: &str = "UPDATE wallet w SET version = n.version + 1, customer = n.customer, phone = n.phone,
        balance = n.balance, promised = n.promised, due_at = n.due_at, doc = n.doc
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::timestamptz[],
        $9::text[]) AS n (id, merchant, version, customer, phone, balance, promised, due_at, doc)
    WHERE w.id = n.id AND w.version = n.version";

async fn put_holds(work: &Transaction<'_>, rows: Vec<(&Hold, &str)>) -> Result<(), Fault> {
    let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(hold, _)| hold.version == 0);
    if !new.is_empty() {
        let statement = work
            .prepare_cached(
                "INSERT INTO wallet_hold (id, merchant, wallet, order_id, version, state, at, doc)
                 SELECT id, merchant, wallet, order_id, 1, state, at, doc FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[],
                     $5::smallint[], $6::timestamptz[], $7::text[]) AS n (id, merchant, wallet, order_id, state, at, doc)",
            )
            .await?;
        let ids: Vec<Uuid> = new.iter().map(|(hold, _)| uuid(hold.id)).collect();
        let merchants: Vec<Uuid> = new.iter().map(|(hold, _)| uuid(hold.merchant)).collect();
        let wallets: Vec<Uuid> = new.iter().map(|(hold, _)| uuid(hold.wallet)).collect();
        let orders: Vec<Cow<'_, str>> = new.iter().map(|(hold, _)| text(&hold.order)).collect();
        let states: Vec<i16> = new.iter().map(|(hold, _)| state_number(hold.state).into()).collect();
        let at: Vec<Timestamp> = new.iter().map(|(hold, _)| hold.at).collect();
        let docs: Vec<&str> = new.iter().map(|(_, doc)| *doc).collect();
        work.execute(&statement, &[&ids, &merchants, &wallets, &orders, &states, &at, &docs]).await?;
    }
    if !known.is_empty() {
        let statement = work
            .prepare_cached(
                "UPDATE wallet_hold h SET version = n.version + 1, state = n.state, doc = n.doc
                 FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::text[]) AS n (id, version, state, doc)
                 WHERE h.id = n.id AND h.version = n.version",
            )
            .await?;
        let ids: Vec<Uuid> = known.iter().map(|(hold, _)| uuid(hold.id)).collect();
        let versions: Vec<i64> = known.iter().map(|(hold, _)| hold.version).collect();
        let states: Vec<i16> = known.iter().map(|(hold, _)| state_number(hold.state).into()).collect();
        let docs: Vec<&str> = known.iter().map(|(_, doc)| *doc).collect();
        all_written("holds", work.execute(&statement, &[&ids, &versions, &states, &docs]).await?, ids.len())?;
    }
    Ok(())
}

async fn put_receipts(work: &Transaction<'_>, mut rows: Vec<(&OrderReceipt, &str)>) -> Result<(), Fault> {
    rows.sort_unstable_by(|(one, _), (other, _)| (one.merchant, &one.order).cmp(&(other.merchant, &other.order)));
    let (new, known): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(receipt, _)| receipt.version == 0);
    if !new.is_empty() {
        let statement = work
            .prepare_cached(
                "INSERT INTO order_receipt (id, merchant, order_id, wallet, version, at, doc)
                 SELECT id, merchant, order_id, wallet, 1, at, doc FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[],
                     $5::timestamptz[], $6::text[]) AS n (id, merchant, order_id, wallet, at, doc)",
            )
            .await?;
        let ids: Vec<Uuid> = new.iter().map(|(receipt, _)| uuid(receipt.id)).collect();
        let merchants: Vec<Uuid> = new.iter().map(|(receipt, _)| uuid(receipt.merchant)).collect();
        let orders: Vec<Cow<'_, str>> = new.iter().map(|(receipt, _)| text(&receipt.order)).collect();
        let wallets: Vec<Uuid> = new.iter().map(|(receipt, _)| uuid(receipt.wallet)).collect();
        let at: Vec<Timestamp> = new.iter().map(|(receipt, _)| receipt.at).collect();
        let docs: Vec<&str> = new.iter().map(|(_, doc)| *doc).collect();
        work.execute(&statement, &[&ids, &merchants, &orders, &wallets, &at, &docs]).await?;
    }
    if !known.is_empty() {
        let statement = work
            .prepare_cached(
                "UPDATE order_receipt r SET version = n.version + 1, doc = n.doc, wallet = n.wallet, at = n.at
                 FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::uuid[], $5::timestamptz[])
                     AS n (id, version, doc, wallet, at)
                 WHERE r.id = n.id AND r.version = n.version",
            )
            .await?;
        let ids: Vec<Uuid> = known.iter().map(|(receipt, _)| uuid(receipt.id)).collect();
        let versions: Vec<i64> = known.iter().map(|(receipt, _)| receipt.version).collect();
        let docs: Vec<&str> = known.iter().map(|(_, doc)| *doc).collect();
        let wallets: Vec<Uuid> = known.iter().map(|(receipt, _)| uuid(receipt.wallet)).collect();
        let at: Vec<Timestamp> = known.iter().map(|(receipt, _)| receipt.at).collect();
        all_written("receipts", work.execute(&statement, &[&ids, &versions, &docs, &wallets, &at]).await?, ids.len())?;
    }
    Ok(())
}

async fn put_ledger(work: &Transaction<'_>, rows: Vec<(&Entry, &Option<String>)>) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let ids = |read: fn(&Entry) -> Id| -> Vec<Uuid> { rows.iter().map(|(entry, _)| uuid(read(entry))).collect() };
    let numbers = |read: fn(&Entry) -> u8| -> Vec<i16> { rows.iter().map(|(entry, _)| read(entry).into()).collect() };
    let sums = |read: fn(&Entry) -> i64| -> Vec<i64> { rows.iter().map(|(entry, _)| read(entry)).collect() };
    let texts = |read: fn(&Entry) -> Option<&str>| -> Vec<Option<Cow<'_, str>>> {
        rows.iter().map(|(entry, _)| read(entry).map(text)).collect()
    };
    let at: Vec<Timestamp> = rows.iter().map(|(entry, _)| entry.at).collect();
    let outlets: Vec<Option<Uuid>> = rows.iter().map(|(entry, _)| entry.outlet.map(uuid)).collect();
    let lots: Vec<Option<&str>> = rows.iter().map(|(_, lots)| lots.as_deref()).collect();
    let statement = work
        .prepare_cached(
            "INSERT INTO ledger (id, merchant, wallet, kind, from_book, to_book, points, balance, at, cause, order_id, outlet, staff,
                 reason, lots)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[], $7::bigint[],
                 $8::bigint[], $9::timestamptz[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[], $15::text[])",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 15] = [
        &ids(|entry| entry.id),
        &ids(|entry| entry.merchant),
        &ids(|entry| entry.wallet),
        &numbers(|entry| move_number(entry.kind)),
        &numbers(|entry| book_number(entry.from)),
        &numbers(|entry| book_number(entry.to)),
        &sums(|entry| entry.points),
        &sums(|entry| entry.balance),
        &at,
        &texts(|entry| Some(&entry.cause)),
        &texts(|entry| entry.order.as_deref()),
        &outlets,
        &texts(|entry| entry.staff.as_deref()),
        &texts(|entry| entry.reason.as_deref()),
        &lots,
    ];
    work.execute(&statement, &values).await?;
    Ok(())
}
