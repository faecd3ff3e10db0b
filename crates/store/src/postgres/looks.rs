//! Looks at points: all that decisions read, many looks in one statement, and so of one moment.
//!
//! What comes while a statement runs is asked by the next: a statement's own cost is paid once for many tills. A few run at a time.

use std::sync::Arc;

use deadpool_postgres::GenericClient;
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_postgres::{
    Row,
    types::{FromSqlOwned, ToSql},
};
use uuid::Uuid;
use uzel_model::{
    Timestamp,
    loyalty::{Hold, OrderReceipt, Wallet},
};

use super::{
    Core, doc, get,
    journal::text,
    lanes::{Fault, Queue},
    uuid,
};
use crate::{KeptReply, LoyaltyLook, LoyaltySeen, Progress, PromoUses, StoreError, Who, loyalty::PROGRESS};

/// Looks that one statement answers.
const GROUP_MAX: usize = 64;
/// Statements at a time.
pub(super) const AT_ONCE: usize = 2;

struct Ask {
    look: LoyaltyLook,
    told: oneshot::Sender<Result<LoyaltySeen, StoreError>>,
}

/// The way to those who look.
pub(super) struct Looks {
    queue: Arc<Queue<Ask>>,
    running: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

impl Looks {
    pub(super) fn start(core: &Arc<Core>) -> Self {
        let queue: Arc<Queue<Ask>> = Arc::default();
        let running = (0..AT_ONCE).map(|_| tokio::spawn(run(core.clone(), queue.clone())));
        Self { running: parking_lot::Mutex::new(running.collect()), queue: queue.clone() }
    }

    pub(super) async fn look(&self, look: LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
        let (told, answer) = oneshot::channel();
        self.queue.push(Ask { look, told }, 0)?;
        answer.await.map_err(|_| StoreError::Failed("nobody looks at points any more".to_owned()))?
    }

    pub(super) async fn close(&self) {
        self.queue.close();
        let running = std::mem::take(&mut *self.running.lock());
        for one in running {
            if one.await.is_err() {
                tracing::error!("a look at points ended badly");
            }
        }
    }
}

async fn run(core: Arc<Core>, queue: Arc<Queue<Ask>>) {
    while let Some(group) = queue.next(GROUP_MAX, |_| (1, 0)).await {
        // Whoever has gone need not be answered.
        let (looks, told): (Vec<LoyaltyLook>, Vec<_>) =
            group.into_iter().filter(|ask| !ask.told.is_closed()).map(|ask| (ask.look, ask.told)).unzip();
        match look_all(&core, &looks).await {
            Ok(seen) => told.into_iter().zip(seen).for_each(|(told, seen)| drop(told.send(seen))),
            // One that the server refuses must not take the others with it.
            Err(fault) if fault.is_rows_fault() && looks.len() > 1 => {
                for (look, told) in looks.iter().zip(told) {
                    let seen = look_all(&core, std::slice::from_ref(look)).await;
                    let none = || Err(StoreError::Failed("a look at points has no answer".to_owned()));
                    drop(told.send(seen.map_err(StoreError::from).and_then(|mut seen| seen.pop().unwrap_or_else(none))));
                }
            }
            Err(fault) => {
                let error = StoreError::from(fault);
                told.into_iter().for_each(|told| drop(told.send(Err(error.clone()))));
            }
        }
    }
}

/// What looks ask for beside wallet, hold and receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Also {
    pub(crate) progress: bool,
    pub(crate) promo: bool,
    pub(crate) replies: bool,
}

/// The statement of looks. What none of them asks for is left out. Each part is looked up for one look after the other, by an
/// index: `OFFSET 0` keeps the planner from joining tables.
pub(crate) fn look_sql(also: Also) -> String {
    let mut columns = String::new();
    let mut parts = String::new();
    let mut part = |wanted: bool, names: &str, none: &str, from: &str| {
        columns.push_str(", ");
        columns.push_str(if wanted { names } else { none });
        if wanted {
            parts.push_str(" CROSS JOIN LATERAL ");
            parts.push_str(from);
        }
    };
    let wallet = "coalesce(c.id, f.id, i.id)";
    part(
        also.progress,
        "p.earned, p.redeemed, n.receipts",
        "0::bigint, 0::bigint, 0::bigint",
        &format!(
            "(SELECT {PROGRESS} FROM ledger WHERE wallet = {wallet} AND at >= q.since AND q.since IS NOT NULL OFFSET 0)
                 AS p (earned, redeemed)
             CROSS JOIN LATERAL (SELECT count(*) FROM order_receipt WHERE wallet = {wallet} AND at >= q.since OFFSET 0) AS n (receipts)"
        ),
    );
    part(
        also.promo,
        "(SELECT uses FROM promo_total t WHERE t.merchant = q.merchant AND t.code = q.code), u.uses, u.last_at",
        "NULL::bigint, 0::bigint, NULL::timestamptz",
        &format!(
            "(SELECT count(*), max(at) FROM promo_use WHERE merchant = q.merchant AND code = q.code AND wallet = {wallet} OFFSET 0)
                 AS u (uses, last_at)"
        ),
    );
    part(
        also.replies,
        "k.keys, k.bodies, k.answers, k.until",
        "NULL::uuid[], NULL::uuid[], NULL::text[], NULL::timestamptz[]",
        "(SELECT array_agg(key ORDER BY key), array_agg(body ORDER BY key), array_agg(answer ORDER BY key),
             array_agg(until ORDER BY key)
             FROM kept_reply WHERE key = ANY(string_to_array(q.keys, ',')::uuid[]) AND until > q.now OFFSET 0)
             AS k (keys, bodies, answers, until)",
    );
    format!(
        "SELECT q.place, h.version, h.doc, r.version, r.doc, coalesce(c.version, f.version, i.version),
             coalesce(c.doc, f.doc, i.doc){columns}
         FROM unnest($1::integer[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::text[], $7::uuid[], $8::text[],
             $9::text[], $10::timestamptz[], $11::text[], $12::text[])
             AS q (place, merchant, hold, token, now, order_id, id, customer, phone, since, code, keys)
         LEFT JOIN LATERAL (SELECT wallet, order_id, version, doc FROM wallet_hold
             WHERE id = coalesce(q.hold, (SELECT hold FROM spent_token WHERE key = q.token AND until > q.now))
                 AND merchant = q.merchant OFFSET 0) h ON true
         LEFT JOIN LATERAL (SELECT wallet, version, doc FROM order_receipt
             WHERE merchant = q.merchant AND order_id = coalesce(q.order_id, h.order_id) OFFSET 0) r ON true
         LEFT JOIN LATERAL (SELECT id, version, doc FROM wallet WHERE customer = q.customer AND merchant = q.merchant OFFSET 0) c
             ON true
         LEFT JOIN LATERAL (SELECT id, version, doc FROM wallet WHERE phone = q.phone AND merchant = q.merchant OFFSET 0) f ON true
         LEFT JOIN LATERAL (SELECT id, version, doc FROM wallet
             WHERE id = CASE WHEN q.customer IS NULL AND q.phone IS NULL THEN coalesce(q.id, h.wallet, r.wallet) END
                 AND merchant = q.merchant OFFSET 0) i ON true{parts}"
    )
}

/// What decisions need, in one statement: an answer for each look, in their order.
async fn look_all(core: &Core, looks: &[LoyaltyLook]) -> Result<Vec<Result<LoyaltySeen, StoreError>>, Fault> {
    if looks.is_empty() {
        return Ok(Vec::new());
    }
    let also = Also {
        progress: looks.iter().any(|look| look.since.is_some()),
        promo: looks.iter().any(|look| look.promo_code.is_some()),
        replies: looks.iter().any(|look| !look.replies.is_empty()),
    };
    let places: Vec<i32> = (0..looks.len() as i32).collect();
    let merchants: Vec<Uuid> = looks.iter().map(|look| uuid(look.merchant)).collect();
    let holds: Vec<Option<Uuid>> = looks.iter().map(|look| look.hold.map(uuid)).collect();
    let tokens: Vec<Option<Uuid>> = looks.iter().map(|look| look.token.map(Uuid::from_bytes)).collect();
    let now: Vec<Timestamp> = looks.iter().map(|look| look.now).collect();
    let orders: Vec<_> = looks.iter().map(|look| look.order.as_deref().map(text)).collect();
    let (mut ids, mut customers, mut phones) = (Vec::new(), Vec::new(), Vec::new());
    for look in looks {
        let (id, customer, phone) = match &look.who {
            Some(Who::Id(id)) => (Some(uuid(*id)), None, None),
            Some(Who::Customer(customer)) => (None, Some(text(customer)), None),
            Some(Who::Phone(phone)) => (None, None, Some(text(phone))),
            None => (None, None, None),
        };
        ids.push(id);
        customers.push(customer);
        phones.push(phone);
    }
    let since: Vec<Option<Timestamp>> = looks.iter().map(|look| look.since).collect();
    let codes: Vec<_> = looks.iter().map(|look| look.promo_code.as_deref().map(text)).collect();
    let keys: Vec<String> = looks
        .iter()
        .map(|look| look.replies.iter().map(|key| Uuid::from_bytes(*key).to_string()).collect::<Vec<_>>().join(","))
        .collect();
    let values: [&(dyn ToSql + Sync); 12] =
        [&places, &merchants, &holds, &tokens, &now, &orders, &ids, &customers, &phones, &since, &codes, &keys];
    let client = core.lane().await?;
    let statement = client.prepare_cached(&look_sql(also)).await?;
    let mut seen: Vec<Result<LoyaltySeen, StoreError>> = looks.iter().map(|_| Ok(LoyaltySeen::default())).collect();
    for row in client.query(&statement, &values).await? {
        if let Some(place) = seen.get_mut(get::<i32>(&row, 0)?.unsigned_abs() as usize) {
            *place = read(&row);
        }
    }
    Ok(seen)
}

fn read(row: &Row) -> Result<LoyaltySeen, StoreError> {
    let uses: Option<i64> = get(row, 10)?;
    let replies = match get::<Option<Vec<Uuid>>>(row, 13)? {
        Some(keys) => {
            let rest =
                get::<Vec<Uuid>>(row, 14)?.into_iter().zip(get::<Vec<String>>(row, 15)?).zip(get::<Vec<Timestamp>>(row, 16)?);
            let reply = |(key, ((body, answer), until)): (Uuid, ((Uuid, String), Timestamp))| KeptReply {
                key: *key.as_bytes(),
                body: *body.as_bytes(),
                answer,
                until,
            };
            keys.into_iter().zip(rest).map(reply).collect()
        }
        None => Vec::new(),
    };
    Ok(LoyaltySeen {
        replies,
        hold: versioned(row, 1)?.map(|(version, hold)| Hold { version, ..hold }),
        receipt: versioned(row, 3)?.map(|(version, receipt)| OrderReceipt { version, ..receipt }),
        wallet: versioned(row, 5)?.map(|(version, wallet)| Wallet { version, ..wallet }),
        progress: Progress { earned: get(row, 7)?, redeemed: get(row, 8)?, receipts: get(row, 9)? },
        promo: PromoUses { all: uses.unwrap_or_default(), by_customer: get(row, 11)?, last_by_customer_at: get(row, 12)? },
    })
}
/// A version, and the document in the next column, where there is one.
fn versioned<T: serde::de::DeserializeOwned>(row: &Row, column: usize) -> Result<Option<(i64, T)>, StoreError> {
    fn there<T: FromSqlOwned>(row: &Row, column: usize) -> Result<Option<T>, StoreError> {
        get(row, column)
    }
    match there::<i64>(row, column)? {
        Some(version) => Ok(Some((version, doc(row, column + 1)?))),
        None => Ok(None),
    }
}
