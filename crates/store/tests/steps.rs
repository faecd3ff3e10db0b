//! What a step of the schema may do to nodes of the version before, which work on beside it: nothing but what its file says.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{collections::BTreeMap, fs, path::Path};

use tokio_postgres::{Client, NoTls};

/// The steps by their numbers: each with the least step that a program must know to work beside it, and its SQL.
fn steps() -> BTreeMap<u32, (u32, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/migrations");
    let step = |file: fs::DirEntry| {
        let (name, sql) = (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap());
        let number = |text: &str| text.split(|sign: char| !sign.is_ascii_digit()).next().unwrap().parse::<u32>().unwrap();
        (number(&name), (number(sql.strip_prefix("-- needs ").unwrap()), sql))
    };
    fs::read_dir(folder).unwrap().map(|file| step(file.unwrap())).collect()
}

/// Columns and rules of the tables, by their names.
async fn schema(client: &Client) -> BTreeMap<String, String> {
    let rows = client
        .query(
            "SELECT c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
                 || CASE WHEN a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' THEN ' must be given' ELSE '' END
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
                 AND NOT a.attisdropped
             UNION ALL
             SELECT c.relname || ' rule ' || r.conname, pg_get_constraintdef(r.oid) FROM pg_constraint r JOIN pg_class c ON c.oid = r.conrelid
             WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND r.contype <> 'n'
             UNION ALL
             SELECT c.relname || ' rule ' || i.indexrelid::regclass, 'unique' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
             WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND i.indisunique",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// What a program that knows only `before` stumbles over in `after`.
fn in_the_way(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let table = |name: &str| name.split(['.', ' ']).next().unwrap().to_owned();
    let known = |name: &str| before.keys().any(|old| table(old) == table(name));
    let mut found = Vec::new();
    for (name, what) in before {
        let now = after.get(name);
        // That a rule is gone, or a column may be left out, is in nobody's way.
        let eased = name.contains(" rule ") && now.is_none() || now.is_some_and(|now| *what == format!("{now} must be given"));
        if now != Some(what) && !eased {
            found.push(format!("{name} was {what}, is {now:?}"));
        }
    }
    for (name, what) in after.iter().filter(|(name, _)| !before.contains_key(*name) && known(name)) {
        if name.contains(" rule ") || what.ends_with("must be given") {
            found.push(format!("{name} is new: {what}"));
        }
    }
    found
}

#[tokio::test]
async fn a_step_that_says_older_programs_may_work_beside_it_takes_nothing_from_them_and_asks_nothing_new_of_them() {
    let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut known = BTreeMap::from([(0, schema(&client).await)]);
    let (steps, mut judged, mut least) = (steps(), 0, 0);
    for (number, (needs, sql)) in &steps {
        least = least.max(*needs);
        client.batch_execute(sql).await.unwrap();
        let after = schema(&client).await;
        for before in known.range(least..).map(|(_, before)| before) {
            judged += 1;
            assert_eq!(in_the_way(before, &after), Vec::<String>::new(), "step {number}");
        }
        known.insert(*number, after);
    }
    assert!(judged > steps.len() / 2, "{judged}");
    // The test can fail.
    let newest = known.values().next_back().unwrap();
    for (change, why) in [
        ("ALTER TABLE sent RENAME COLUMN channel TO way", "sent.channel was text"),
        ("ALTER TABLE sent ADD COLUMN colour text NOT NULL", "sent.colour is new"),
        ("ALTER TABLE sent ADD CONSTRAINT paid CHECK (cost_micro > 0)", "sent rule paid is new"),
        ("CREATE UNIQUE INDEX once_only ON command (id, trace)", "command rule once_only is new"),
        ("ALTER TABLE contact ALTER COLUMN refused DROP DEFAULT", "contact.refused was smallint, is"),
        ("DROP TABLE promo_use", "promo_use.code was"),
    ] {
        client.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
        let found = in_the_way(newest, &schema(&client).await);
        client.batch_execute("ROLLBACK").await.unwrap();
        assert!(found.iter().any(|found| found.contains(why)), "{change}: {found:?}");
    }
    client
        .batch_execute("BEGIN; CREATE TABLE later (id uuid PRIMARY KEY); ALTER TABLE sent ADD COLUMN colour text")
        .await
        .unwrap();
    assert_eq!(in_the_way(newest, &schema(&client).await), Vec::<String>::new());
}
