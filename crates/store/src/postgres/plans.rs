//! How the server carries out what runs all day: by an index, however large the tables around it are.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::{Client, NoTls};

use super::{Postgres, PostgresOptions, events, figures, handover, journal, ledger, looks, loyalty, outbox, removal};

/// Rows enough that a look at all of them would be seen.
const FILL: &str = "
    INSERT INTO inbox (id, received_at, merchant, connection, provider, source, method, path, query, headers, body, answer, trace)
    SELECT gen_random_uuid(), now(), gen_random_uuid(), gen_random_uuid(), 'test', 0, 'POST', '', '[]', '[]', '{}', '', 't'
    FROM generate_series(1, 20000);
    INSERT INTO unread SELECT id, '-infinity' FROM inbox LIMIT 5000;
    INSERT INTO event (id, entry, pending, doc, merchant, connection, kind, place)
    SELECT gen_random_uuid(), id, false, '{}', merchant, connection, 'order.completed', 1 FROM inbox;
    INSERT INTO command (id, merchant, connection, source, event, entry, job, repeatable, state, due_at, order_key, subject_key, trace)
    SELECT gen_random_uuid(), merchant, connection, connection, NULL, id, '{}', false, 0, now(), hashtext(id::text), hashtext(id::text), 't'
    FROM inbox;
    INSERT INTO waiting SELECT id, ('00000000-0000-0000-0000-0000000000' || lpad((row_number() OVER () % 50)::text, 2, '0'))::uuid,
        order_key, subject_key, due_at, due_at, 0, false FROM command;
    INSERT INTO sending SELECT command, 1, now(), command FROM waiting LIMIT 60;
    INSERT INTO reference SELECT hashtext(id::text), id FROM inbox;
    INSERT INTO seen SELECT gen_random_uuid() FROM generate_series(1, 20000);
    INSERT INTO wallet SELECT gen_random_uuid(), merchant, 1, id::text, id::text, 0, 0, now(), '{}' FROM inbox;
    INSERT INTO wallet_hold SELECT gen_random_uuid(), merchant, id, 'o', 1, 1, now(), '{}' FROM wallet;
    INSERT INTO order_receipt SELECT gen_random_uuid(), merchant, id::text, id, 1, now(), '{}' FROM wallet;
    INSERT INTO ledger SELECT gen_random_uuid(), merchant, id, 0, 2, 0, 1, 1, now(), 'c', NULL, merchant, NULL, NULL, NULL FROM wallet;
    INSERT INTO kept_reply SELECT id, id, '', now() FROM wallet;
    INSERT INTO spent_token SELECT id, id, now() FROM wallet;
    INSERT INTO promo_use SELECT merchant, 'c', id::text, id, now() FROM wallet;
    INSERT INTO promo_total SELECT merchant, 'c', 1 FROM wallet GROUP BY merchant;
    ANALYZE";

/// The tables that grow, and those that hold a backlog.
const LARGE: [&str; 15] = [
    "inbox",
    "event",
    "command",
    "exchange",
    "reference",
    "waiting",
    "seen",
    "wallet",
    "wallet_hold",
    "order_receipt",
    "ledger",
    "kept_reply",
    "spent_token",
    "promo_use",
    "promo_total",
];

/// Tables that a plan reads row by row, or along an index from one end to the other. What a limit ends is no such thing.
fn scanned(plan: &Value, limited: bool, found: &mut BTreeSet<String>) {
    match plan {
        Value::Object(node) => {
            let kind = node.get("Node Type").and_then(Value::as_str).unwrap_or_default();
            let limited = limited || kind == "Limit";
            let along = kind.starts_with("Index") && kind.ends_with("Scan") && !node.contains_key("Index Cond") && !limited;
            if (kind == "Seq Scan" || along)
                && let Some(table) = node["Relation Name"].as_str()
                // The rows lie in the partitions for the rest: the weeks are empty, and an empty table has no quicker way.
                && !table.contains("_20")
            {
                found.insert(table.trim_end_matches("_rest").to_owned());
            }
            node.values().for_each(|part| scanned(part, limited, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| scanned(part, limited, found)),
        _ => {}
    }
}

/// The plan that a prepared statement has once it is used for good, whatever its values are.
async fn plan(client: &Client, name: &str, sql: &str, values: usize) -> Value {
    client.batch_execute(&format!("PREPARE {name} AS {sql}")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let nothing = if values == 0 { String::new() } else { format!("({})", vec!["NULL"; values].join(", ")) };
    let rows = client.query(&format!("EXPLAIN (FORMAT JSON) EXECUTE {name}{nothing}"), &[]).await.unwrap();
    rows[0].get::<_, PlanText>(0).0
}

struct PlanText(Value);

impl<'a> tokio_postgres::types::FromSql<'a> for PlanText {
    fn from_sql(_: &tokio_postgres::types::Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(serde_json::from_slice(raw)?))
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        *kind == tokio_postgres::types::Type::JSON
    }
}

#[tokio::test]
async fn what_runs_all_day_reads_no_large_table_row_by_row() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    drop(Postgres::open(PostgresOptions::new(&url)).await.unwrap());
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(FILL).await.unwrap();
    client.batch_execute("SET plan_cache_mode = force_generic_plan").await.unwrap();
    let entry = format!("SELECT {} FROM inbox WHERE id = $1", journal::ENTRY);
    let mine = handover::entries();
    let newest = format!("SELECT j.id, {} FROM inbox j ORDER BY j.id DESC LIMIT $1", journal::STATE);
    let few = looks::look_sql(looks::Also::default());
    let all = looks::look_sql(looks::Also { progress: true, promo: true, replies: true });
    let (over, over_tokens) = (loyalty::over_sql("kept_reply"), loyalty::over_sql("spent_token"));
    for (name, sql, values) in [
        ("points", &*few, 12),
        ("points_and_all", &all, 12),
        ("wallets_locked", loyalty::LOCK_WALLETS, 1),
        ("wallets_taken", loyalty::TAKEN, 14),
        ("wallets_written", loyalty::UPDATE_WALLETS, 9),
        ("replies_over", &over, 4),
        ("tokens_over", &over_tokens, 4),
        ("wallets_due", ledger::DUE, 3),
        ("movements", "SELECT id FROM ledger WHERE merchant = $1 AND id < $2 ORDER BY id DESC LIMIT $3", 3),
        ("own_movements", "SELECT id FROM ledger WHERE wallet = $1 AND id < $2 ORDER BY id DESC LIMIT $3", 3),
        ("outlets_movements", "SELECT id FROM ledger WHERE outlet = $1 AND id < $2 ORDER BY id DESC LIMIT $3", 3),
        ("points_moved", figures::POINTS, 5),
        ("new_customers", figures::JOINED, 3),
        ("append", journal::APPEND, 19),
        ("entry", &entry, 1),
        ("newest", &newest, 1),
        ("lease", outbox::LEASE, 6),
        ("next", outbox::NEXT, 1),
        ("hold", outbox::HOLD, 1),
        ("hold_subject", outbox::HOLD_SUBJECT, 1),
        ("firsts", outbox::FIRSTS, 1),
        ("forward", outbox::FORWARD, 1),
        ("called_off", outbox::CALLED_OFF, 2),
        ("keys_left", removal::KEYS_LEFT, 1),
        ("left_over", removal::LEFT, 2),
        ("mine", handover::MINE, 2),
        ("mine_whole", &mine, 1),
        ("found", "SELECT entry FROM reference WHERE key = $1::bigint", 1),
        ("feed", events::FEED, 4),
        ("event_page", "SELECT id FROM event WHERE connection = $1 AND kind = $2 AND id < $3 ORDER BY id DESC LIMIT $4", 4),
        ("command_page", "SELECT id FROM command WHERE connection = $1 AND id < $2 ORDER BY id DESC LIMIT $3", 3),
        ("orphans", "SELECT EXISTS (SELECT 1 FROM unread WHERE until <= clock_timestamp())", 0),
    ] {
        let mut tables = BTreeSet::new();
        scanned(&plan(&client, name, sql, values).await, false, &mut tables);
        let large: Vec<&String> = tables.iter().filter(|table| LARGE.contains(&table.as_str())).collect();
        assert!(large.is_empty(), "{name} reads {large:?} row by row");
    }
    // The test can fail: this has no index to go by.
    let mut tables = BTreeSet::new();
    scanned(&plan(&client, "by_trace", "SELECT id FROM inbox WHERE trace = $1::text", 1).await, false, &mut tables);
    assert!(tables.contains("inbox"));
    let mut tables = BTreeSet::new();
    let joined = "SELECT j.id FROM inbox j JOIN inbox k ON k.id = j.id ORDER BY j.id";
    scanned(&plan(&client, "joined", joined, 0).await, false, &mut tables);
    assert!(tables.contains("inbox"));
}
