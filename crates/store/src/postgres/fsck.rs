//! The store's own laws, checked and, where that loses nothing, mended.

use deadpool_postgres::{GenericClient, Object};

use super::{failed, get, journal::looked_into};
use crate::{StoreError, fate};

/// A law: what it says, how to count what breaks it, and how to mend that.
struct Law {
    broken: &'static str,
    count: &'static str,
    mend: Option<&'static str>,
}

/// What the tallies should say.
macro_rules! true_counts {
    () => {
        "SELECT 'entry/' || CASE WHEN u.entry IS NOT NULL THEN 0 ELSE coalesce(o.state, 1) END AS what, count(*) AS count
           FROM inbox j LEFT JOIN unread u ON u.entry = j.id LEFT JOIN outcome o ON o.entry = j.id GROUP BY 1
         UNION ALL SELECT 'command/' || state, count(*) FROM command GROUP BY 1
         UNION ALL SELECT 'held/' || coalesce(reason, ''), count(*) FROM command WHERE state = 5 GROUP BY 1"
    };
}

/// Makes the counts say what the rows say.
pub(super) const RECOUNT: &str =
    concat!("DELETE FROM tally; INSERT INTO tally SELECT what, 0, sum(count) FROM (", true_counts!(), ") t GROUP BY what");

const LAWS: &[Law] = &[
    Law {
        broken: "counts of rows by state that are not what the rows say",
        count: concat!(
            "SELECT count(*) FROM (SELECT what FROM (SELECT what, count FROM tally UNION ALL SELECT what, -count FROM (",
            true_counts!(),
            ") t) b GROUP BY what HAVING sum(count) <> 0) off"
        ),
        mend: Some(RECOUNT),
    },
    Law {
        broken: "commands that wait but have no connection: nobody will ever work on them",
        // What waits for one that was removed is held soon.
        count: "SELECT count(*) FROM waiting WHERE connection NOT IN (SELECT id FROM setup UNION ALL SELECT id FROM removed)",
        mend: Some(
            "WITH lost AS (DELETE FROM waiting
                     WHERE connection NOT IN (SELECT id FROM setup UNION ALL SELECT id FROM removed) RETURNING command),
                 dead AS (UPDATE command c SET state = 3, reason = 'its connection does not exist' FROM lost
                          WHERE c.id = lost.command RETURNING c.id, c.entry, c.subject_key)
             INSERT INTO trouble SELECT id, entry, subject_key, 3 FROM dead ON CONFLICT (command) DO UPDATE SET state = 3",
        ),
    },
    Law {
        broken: "commands that wait without a place in the queue, or have one and do not wait",
        count: "SELECT (SELECT count(*) FROM command c WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.command = c.id))
                + (SELECT count(*) FROM waiting w WHERE NOT EXISTS (SELECT 1 FROM command c WHERE c.id = w.command AND c.state = 0))",
        mend: Some(
            "DELETE FROM waiting w WHERE NOT EXISTS (SELECT 1 FROM command c WHERE c.id = w.command AND c.state = 0);
             INSERT INTO waiting SELECT id, connection, order_key, subject_key, due_at, due_at, attempts, true FROM command c
             WHERE state = 0 AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.command = c.id)",
        ),
    },
    Law {
        broken: "commands that are being sent though they do not wait",
        count: "SELECT count(*) FROM sending WHERE command NOT IN (SELECT command FROM waiting WHERE NOT behind)",
        mend: Some("DELETE FROM sending WHERE command NOT IN (SELECT command FROM waiting WHERE NOT behind)"),
    },
    Law {
        broken: "ordering keys whose waiting commands have no first one: nobody will ever work on them",
        count: "SELECT count(*) FROM (SELECT 1 FROM waiting GROUP BY order_key HAVING bool_and(behind)) k",
        mend: Some(
            "UPDATE waiting SET behind = false WHERE command IN (SELECT DISTINCT ON (order_key) command FROM waiting w
             WHERE NOT EXISTS (SELECT 1 FROM waiting f WHERE f.order_key = w.order_key AND NOT f.behind)
             ORDER BY order_key, due_at, command)",
        ),
    },
    Law {
        broken: "ordering keys with more than one first command",
        count: "SELECT count(*) FROM (SELECT 1 FROM waiting WHERE NOT behind GROUP BY order_key HAVING count(*) > 1) k",
        mend: Some(
            "UPDATE waiting w SET behind = true WHERE NOT behind AND command NOT IN (SELECT command FROM sending) AND EXISTS
             (SELECT 1 FROM waiting f WHERE f.order_key = w.order_key AND NOT f.behind AND f.command <> w.command
              AND ((f.due_at, f.command) < (w.due_at, w.command) OR f.command IN (SELECT command FROM sending)))",
        ),
    },
    Law {
        broken: "commands in trouble that are not listed, or are listed and are in none",
        count: "SELECT count(*) FROM (SELECT id, state FROM command WHERE state >= 3) c
                FULL JOIN trouble t ON t.command = c.id WHERE c.state IS DISTINCT FROM t.state",
        mend: Some(
            "DELETE FROM trouble; INSERT INTO trouble SELECT id, entry, subject_key, state FROM command WHERE state >= 3",
        ),
    },
    Law {
        broken: "unread marks of entries that do not exist",
        count: "SELECT count(*) FROM unread u WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = u.entry)",
        mend: Some("DELETE FROM unread u WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = u.entry)"),
    },
    Law {
        broken: "outcomes of entries that do not exist or are unread",
        count: "SELECT count(*) FROM outcome o WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = o.entry)
                OR entry IN (SELECT entry FROM unread)",
        mend: Some(
            "DELETE FROM outcome o WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = o.entry)
             OR entry IN (SELECT entry FROM unread)",
        ),
    },
    Law {
        broken: "events without the inbox entry they were read from",
        count: "SELECT count(*) FROM event e WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = e.entry)",
        mend: None,
    },
    Law {
        broken: "events to be published that are gone",
        count: "SELECT count(*) FROM unpublished u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.id = u.event)",
        mend: Some("DELETE FROM unpublished u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.id = u.event)"),
    },
    Law {
        broken: "events that wait for a look-up which is not under way",
        count: "SELECT count(*) FROM event e WHERE pending AND NOT EXISTS
                (SELECT 1 FROM command c WHERE c.entry = e.entry AND c.state IN (0, 3, 4))",
        mend: Some(
            "UPDATE event e SET pending = false WHERE pending AND NOT EXISTS
             (SELECT 1 FROM command c WHERE c.entry = e.entry AND c.state IN (0, 3, 4))",
        ),
    },
    Law {
        broken: "slots taken by commands that do not exist",
        count: "SELECT count(*) FROM slot s WHERE NOT EXISTS (SELECT 1 FROM command c WHERE c.id = s.command)",
        mend: Some("DELETE FROM slot s WHERE NOT EXISTS (SELECT 1 FROM command c WHERE c.id = s.command)"),
    },
    Law {
        broken: "references to entries that do not exist",
        count: "SELECT count(*) FROM reference r WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = r.entry)
                AND NOT EXISTS (SELECT 1 FROM purged p WHERE r.entry < p.before)",
        mend: Some(
            "DELETE FROM reference r WHERE NOT EXISTS (SELECT 1 FROM inbox j WHERE j.id = r.entry)
             AND NOT EXISTS (SELECT 1 FROM purged p WHERE r.entry < p.before)",
        ),
    },
    Law {
        broken: "customers whose points are not what their movements come to: see `loyalty audit`",
        count: "SELECT count(*) FROM wallet w LEFT JOIN (SELECT wallet,
                sum(CASE 0 WHEN to_book THEN points WHEN from_book THEN -points ELSE 0 END) AS balance,
                sum(CASE 1 WHEN to_book THEN points WHEN from_book THEN -points ELSE 0 END) AS promised
                FROM ledger WHERE to_book <> from_book GROUP BY wallet) m ON m.wallet = w.id
                WHERE w.balance <> coalesce(m.balance, 0) OR w.promised <> coalesce(m.promised, 0)",
        mend: None,
    },
    Law {
        broken: "movements of no points, or of customers who do not exist",
        count: "SELECT count(*) FROM ledger l WHERE points <= 0 OR NOT EXISTS (SELECT 1 FROM wallet w WHERE w.id = l.wallet)",
        mend: None,
    },
    Law {
        broken: "points spent for orders that have no receipt",
        count: "SELECT count(*) FROM ledger l WHERE kind = 1 AND NOT EXISTS
                (SELECT 1 FROM order_receipt r WHERE r.merchant = l.merchant AND r.order_id = l.order_id AND r.wallet = l.wallet)",
        mend: None,
    },
    Law {
        broken: "receipts that are refunded beyond what they were",
        count: concat!(
            "SELECT count(*) FROM (SELECT ",
            looked_into!("doc"),
            " -> 'sums' AS sums FROM order_receipt) r
             WHERE (sums ->> 'refunded')::bigint > (sums ->> 'eligible')::bigint
                 OR (sums ->> 'restored')::bigint > (sums ->> 'redeemed')::bigint
                 OR (sums ->> 'revoked')::bigint > (sums ->> 'earned')::bigint"
        ),
        mend: None,
    },
    Law {
        broken: "promo codes whose uses are not what is counted",
        count: "SELECT count(*) FROM (SELECT merchant, code FROM (SELECT merchant, code, uses FROM promo_total
                UNION ALL SELECT merchant, code, -1 FROM promo_use) u GROUP BY merchant, code HAVING sum(uses) <> 0) off",
        mend: Some(
            "DELETE FROM promo_total; INSERT INTO promo_total SELECT merchant, code, count(*) FROM promo_use GROUP BY merchant, code",
        ),
    },
];

/// Looked at in one snapshot; what is mended is mended while nothing is queued and nothing ends.
pub(super) async fn check(client: &mut Object, repair: bool) -> Result<Vec<String>, StoreError> {
    let work = client.build_transaction().start().await.map_err(failed)?;
    let how = if repair {
        "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;
         LOCK TABLE waiting, sending, tally, unread IN SHARE ROW EXCLUSIVE MODE"
    } else {
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0"
    };
    work.batch_execute(how).await.map_err(failed)?;
    let found = look(&work, repair).await?;
    work.commit().await.map_err(failed)?;
    Ok(found)
}

pub(super) async fn look(work: &impl GenericClient, repair: bool) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    for law in LAWS {
        let broken: i64 = get(&work.query_one(law.count, &[]).await.map_err(failed)?, 0)?;
        if broken == 0 {
            continue;
        }
        let left = match law.mend {
            Some(mend) if repair => {
                work.batch_execute(mend).await.map_err(failed)?;
                Some(get(&work.query_one(law.count, &[]).await.map_err(failed)?, 0)?)
            }
            _ => None,
        };
        let fate = fate(law.mend.is_some(), left);
        found.push(format!("{broken} {} ({fate})", law.broken));
    }
    if repair && !found.is_empty() {
        // Mended rows stand in other states than before.
        work.batch_execute(RECOUNT).await.map_err(failed)?;
    }
    Ok(found)
}
