//! The store's own laws, checked and, where that loses nothing, mended.

use rusqlite::{Connection, Result};

use crate::fate;

/// A law: what it says, how to count what breaks it, and how to mend that.
struct Law {
    broken: &'static str,
    count: &'static str,
    mend: Option<&'static str>,
}

/// What the tallies should say.
macro_rules! true_counts {
    () => {
        "SELECT 'entry/' || CASE WHEN u.entry IS NOT NULL THEN 0 ELSE ifnull(o.state, 1) END AS what, count(*) AS count
           FROM inbox j LEFT JOIN unread u ON u.entry = j.ordinal LEFT JOIN outcome o ON o.entry = j.ordinal GROUP BY 1
         UNION ALL SELECT 'command/' || state, count(*) FROM command GROUP BY 1
         UNION ALL SELECT 'held/' || ifnull(reason, ''), count(*) FROM command WHERE state = 5 GROUP BY 1"
    };
}

/// Makes the counts say what the rows say.
pub(super) const RECOUNT: &str = concat!(
    "INSERT OR REPLACE INTO tally SELECT what, sum(count) FROM (",
    true_counts!(),
    " UNION ALL SELECT what, 0 FROM tally) GROUP BY what"
);

const LAWS: &[Law] = &[
    Law {
        broken: "counts of rows by state that are not what the rows say",
        count: concat!(
            "SELECT count(*) FROM (SELECT what, sum(count) AS off FROM (",
            "SELECT what, count FROM tally UNION ALL SELECT what, -count FROM (",
            true_counts!(),
            ")) GROUP BY what) WHERE off <> 0"
        ),
        mend: Some(RECOUNT),
    },
    Law {
        broken: "commands that wait but have no connection: nobody will ever work on them",
        // What waits for one that was removed is held soon.
        count: "SELECT count(*) FROM command WHERE state = 0
                AND connection NOT IN (SELECT id FROM setup UNION ALL SELECT id FROM removed)",
        mend: Some(
            "UPDATE command SET state = 3, reason = 'its connection does not exist' WHERE state = 0
             AND connection NOT IN (SELECT id FROM setup UNION ALL SELECT id FROM removed)",
        ),
    },
    Law {
        broken: "commands that are being sent though they do not wait",
        count: "SELECT count(*) FROM sending WHERE command NOT IN (SELECT ordinal FROM command WHERE state = 0 AND behind = 0)",
        mend: Some("DELETE FROM sending WHERE command NOT IN (SELECT ordinal FROM command WHERE state = 0 AND behind = 0)"),
    },
    Law {
        broken: "ordering keys whose waiting commands have no first one: nobody will ever work on them",
        count: "SELECT count(*) FROM (SELECT 1 FROM command WHERE state = 0 GROUP BY order_key HAVING min(behind) = 1)",
        mend: Some(
            "UPDATE command SET behind = 0 WHERE ordinal IN (SELECT ordinal FROM (SELECT ordinal, min(due_at) FROM command
             WHERE state = 0 GROUP BY order_key HAVING min(behind) = 1))",
        ),
    },
    Law {
        broken: "ordering keys with more than one first command",
        count: "SELECT count(*) FROM (SELECT 1 FROM command WHERE state = 0 AND behind = 0 GROUP BY order_key HAVING count(*) > 1)",
        mend: Some(
            "UPDATE command SET behind = 1 WHERE state = 0 AND behind = 0 AND ordinal NOT IN (SELECT command FROM sending) AND EXISTS
             (SELECT 1 FROM command first WHERE first.order_key = command.order_key AND first.state = 0 AND first.behind = 0
              AND first.ordinal <> command.ordinal AND ((first.due_at, first.ordinal) < (command.due_at, command.ordinal)
              OR first.ordinal IN (SELECT command FROM sending)))",
        ),
    },
    Law {
        broken: "unread marks of entries that do not exist",
        count: "SELECT count(*) FROM unread WHERE entry NOT IN (SELECT ordinal FROM inbox)",
        mend: Some("DELETE FROM unread WHERE entry NOT IN (SELECT ordinal FROM inbox)"),
    },
    Law {
        broken: "outcomes of entries that do not exist or are unread",
        count: "SELECT count(*) FROM outcome WHERE entry NOT IN (SELECT ordinal FROM inbox) OR entry IN (SELECT entry FROM unread)",
        mend: Some(
            "DELETE FROM outcome WHERE entry NOT IN (SELECT ordinal FROM inbox) OR entry IN (SELECT entry FROM unread)",
        ),
    },
    Law {
        broken: "events without the inbox entry they were read from",
        count: "SELECT count(*) FROM event WHERE entry NOT IN (SELECT ordinal FROM inbox)",
        mend: None,
    },
    Law {
        broken: "events to be published that are gone",
        count: "SELECT count(*) FROM unpublished u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.ordinal = u.event)",
        mend: Some("DELETE FROM unpublished AS u WHERE NOT EXISTS (SELECT 1 FROM event e WHERE e.ordinal = u.event)"),
    },
    Law {
        broken: "events that wait for a look-up which is not under way",
        count: "SELECT count(*) FROM event e WHERE pending AND NOT EXISTS
                (SELECT 1 FROM command c WHERE c.entry = e.entry AND c.state IN (0, 3, 4))",
        mend: Some(
            "UPDATE event SET pending = 0 WHERE pending AND NOT EXISTS
             (SELECT 1 FROM command c WHERE c.entry = event.entry AND c.state IN (0, 3, 4))",
        ),
    },
    Law {
        broken: "slots taken by commands that do not exist",
        count: "SELECT count(*) FROM slot WHERE command NOT IN (SELECT ordinal FROM command)",
        mend: Some("DELETE FROM slot WHERE command NOT IN (SELECT ordinal FROM command)"),
    },
    Law {
        broken: "references to entries that do not exist",
        count: "SELECT count(*) FROM (SELECT entry FROM reference UNION ALL SELECT entry FROM reference_new)
                WHERE entry NOT IN (SELECT ordinal FROM inbox) AND entry > (SELECT ifnull(max(place), 0) FROM purged)",
        mend: Some(
            "DELETE FROM reference WHERE entry NOT IN (SELECT ordinal FROM inbox);
             DELETE FROM reference_new WHERE entry NOT IN (SELECT ordinal FROM inbox)",
        ),
    },
    Law {
        broken: "customers whose points are not what their movements come to: see `loyalty audit`",
        count: "SELECT count(*) FROM wallet w LEFT JOIN (SELECT wallet,
                sum(iif(to_book = 0, points, 0) - iif(from_book = 0, points, 0)) AS balance,
                sum(iif(to_book = 1, points, 0) - iif(from_book = 1, points, 0)) AS promised
                FROM ledger INDEXED BY ledger_wallet GROUP BY wallet) m ON m.wallet = w.id
                WHERE w.balance <> ifnull(m.balance, 0) OR w.promised <> ifnull(m.promised, 0)",
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
        count: "SELECT count(*) FROM (SELECT doc -> 'sums' AS sums FROM order_receipt) WHERE sums ->> 'refunded' > sums ->> 'eligible'
                OR sums ->> 'restored' > sums ->> 'redeemed' OR sums ->> 'revoked' > sums ->> 'earned'",
        mend: None,
    },
    Law {
        broken: "promo codes whose uses are not what is counted",
        count: "SELECT count(*) FROM (SELECT merchant, code, sum(uses) AS off FROM (SELECT merchant, code, uses FROM promo_total
                UNION ALL SELECT merchant, code, -1 FROM promo_use) GROUP BY merchant, code) WHERE off <> 0",
        mend: Some(
            "DELETE FROM promo_total; INSERT INTO promo_total SELECT merchant, code, count(*) FROM promo_use GROUP BY merchant, code",
        ),
    },
];

pub(super) fn check(db: &Connection, repair: bool) -> Result<Vec<String>> {
    let mut found: Vec<String> = db
        .prepare("PRAGMA quick_check")?
        .query_map([], |row| row.get::<_, String>(0))?
        .filter(|line| !matches!(line, Ok(line) if line == "ok"))
        .map(|line| line.map(|line| format!("the file itself: {line}")))
        .collect::<Result<_>>()?;
    for law in LAWS {
        let broken: i64 = db.query_row(law.count, [], |row| row.get(0))?;
        if broken == 0 {
            continue;
        }
        let left = match law.mend {
            Some(mend) if repair => {
                db.execute_batch(mend)?;
                Some(db.query_row(law.count, [], |row| row.get(0))?)
            }
            _ => None,
        };
        let fate = fate(law.mend.is_some(), left);
        found.push(format!("{broken} {} ({fate})", law.broken));
    }
    if repair && !found.is_empty() {
        // Mended rows stand in other states than before.
        db.execute(RECOUNT, [])?;
    }
    Ok(found)
}
