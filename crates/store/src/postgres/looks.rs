//! Looks at points: all that a decision reads, in one statement, and so of one moment.

use deadpool_postgres::GenericClient;
use tokio_postgres::{
    Row,
    types::{FromSqlOwned, ToSql},
};
use uuid::Uuid;
use uzel_model::{
    Timestamp,
    loyalty::{Hold, OrderReceipt, Wallet},
};

use super::{doc, failed, get, journal::text, uuid};
use crate::{KeptReply, LoyaltyLook, LoyaltySeen, Progress, PromoUses, StoreError, Who, loyalty::PROGRESS};

/// The statement of a look, by how the customer is named; what names them is its ninth value.
pub(crate) fn look_sql(whose: &str) -> String {
    format!(
        "WITH h AS MATERIALIZED (SELECT wallet, order_id, version, doc FROM wallet_hold
             WHERE id = coalesce($2::uuid, (SELECT hold FROM spent_token WHERE key = $3::uuid AND until > $4)) AND merchant = $1),
         r AS MATERIALIZED (SELECT wallet, version, doc FROM order_receipt
             WHERE merchant = $1 AND order_id = coalesce($5::text, (SELECT order_id FROM h))),
         w AS MATERIALIZED (SELECT id, version, doc FROM wallet WHERE merchant = $1 AND {whose})
         SELECT (SELECT version FROM h), (SELECT doc FROM h), (SELECT version FROM r), (SELECT doc FROM r),
             (SELECT version FROM w), (SELECT doc FROM w), p.earned, p.redeemed,
             (SELECT count(*) FROM order_receipt WHERE wallet = (SELECT id FROM w) AND at >= $6),
             (SELECT uses FROM promo_total WHERE merchant = $1 AND code = $7::text),
             u.uses, u.last_at, k.keys, k.bodies, k.answers, k.until
         FROM (SELECT {PROGRESS} FROM ledger WHERE wallet = (SELECT id FROM w) AND at >= $6::timestamptz) AS p (earned, redeemed),
             (SELECT count(*), max(at) FROM promo_use WHERE merchant = $1 AND code = $7::text AND wallet = (SELECT id FROM w))
                 AS u (uses, last_at),
             (SELECT array_agg(key ORDER BY key), array_agg(body ORDER BY key), array_agg(answer ORDER BY key),
                 array_agg(until ORDER BY key) FROM kept_reply WHERE key = ANY($8::uuid[]) AND until > $4)
                 AS k (keys, bodies, answers, until)"
    )
}

/// How the customer is named in a look.
pub(crate) const WHOSE: [&str; 4] =
    ["id = $9::uuid", "customer = $9::text", "phone = $9::text", "id = coalesce((SELECT wallet FROM h), (SELECT wallet FROM r))"];

/// What a decision needs, in one statement.
pub(super) async fn look(client: &impl GenericClient, look: &LoyaltyLook) -> Result<LoyaltySeen, StoreError> {
    let (hold, token) = (look.hold.map(uuid), look.token.map(Uuid::from_bytes));
    let (order, code) = (look.order.as_deref().map(text), look.promo_code.as_deref().map(text));
    let replies: Vec<Uuid> = look.replies.iter().map(|key| Uuid::from_bytes(*key)).collect();
    let named = match &look.who {
        Some(Who::Customer(name) | Who::Phone(name)) => text(name),
        _ => "".into(),
    };
    let id = if let Some(Who::Id(id)) = &look.who { uuid(*id) } else { Uuid::nil() };
    let (whose, name): (&str, Option<&(dyn ToSql + Sync)>) = match &look.who {
        Some(Who::Id(_)) => (WHOSE[0], Some(&id)),
        Some(Who::Customer(_)) => (WHOSE[1], Some(&named)),
        Some(Who::Phone(_)) => (WHOSE[2], Some(&named)),
        None => (WHOSE[3], None),
    };
    let merchant = uuid(look.merchant);
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&merchant, &hold, &token, &look.now, &order, &look.since, &code, &replies];
    values.extend(name);
    let statement = client.prepare_cached(&look_sql(whose)).await.map_err(failed)?;
    let row = client.query_one(&statement, &values).await.map_err(failed)?;
    let uses: Option<i64> = get(&row, 9)?;
    let replies = match get::<Option<Vec<Uuid>>>(&row, 12)? {
        Some(keys) => {
            let rest =
                get::<Vec<Uuid>>(&row, 13)?.into_iter().zip(get::<Vec<String>>(&row, 14)?).zip(get::<Vec<Timestamp>>(&row, 15)?);
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
        hold: versioned(&row, 0)?.map(|(version, hold)| Hold { version, ..hold }),
        receipt: versioned(&row, 2)?.map(|(version, receipt)| OrderReceipt { version, ..receipt }),
        wallet: versioned(&row, 4)?.map(|(version, wallet)| Wallet { version, ..wallet }),
        progress: Progress { earned: get(&row, 6)?, redeemed: get(&row, 7)?, receipts: get(&row, 8)? },
        promo: PromoUses { all: uses.unwrap_or_default(), by_customer: get(&row, 10)?, last_by_customer_at: get(&row, 11)? },
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
