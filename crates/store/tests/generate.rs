//! A generated store is the store that a hub would have left behind: row by row.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use uzel_model::{
    Address, Bytes, Content, Event, Id, Job, Request,
    id::Kind,
    phone::{self, Phone},
};
use uzel_store::{
    Change, Command, CommandState, Contact, Entry, Exchange, Generator, Past, Postgres, PostgresOptions, Settlement, Setup,
    SetupRow, Source, Sqlite, Store, Text,
};

const ENTRIES: i64 = 60;

fn start() -> Timestamp {
    "2026-08-03T12:00:00Z".parse().unwrap()
}

fn phone(number: i64) -> Phone {
    phone::read_text(&format!("+7999{:07}", number % 7), "RU").unwrap()
}

/// Some read, some not, some with a text: done, refused, of unknown outcome, put off.
fn pasts(merchant: Id, link: Id) -> Vec<Past> {
    let past = |number: i64| {
        let at = start() + SignedDuration::from_hours(12 * number);
        let id = |kind, place: u64| {
            let ordinal = u128::from(at.as_millisecond().unsigned_abs()) << 12 | u128::from(place);
            let value = (ordinal >> 12) << 80 | 0x7 << 76 | (ordinal & 0xfff) << 64 | 0x8 << 60 | number.unsigned_abs() as u128;
            Id::from_bytes(kind, value.to_be_bytes())
        };
        let entry = Entry {
            id: id(Kind::Entry, 1),
            merchant,
            connection: link,
            provider: "test".to_owned(),
            request: Request {
                method: "POST".to_owned(),
                path: "/hooks/x".to_owned(),
                query: vec![("a".to_owned(), "b".to_owned())],
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: Bytes::from(format!("{{\"order\":{number}}}")),
                received_at: at,
                peer: Some("127.0.0.1".parse().unwrap()),
                key: Some("key_1".to_owned()),
            },
            answer: "200".to_owned(),
            source: Source::Webhook,
            trace: format!("{number:032}"),
        };
        let event = (number % 10 != 9).then(|| Event {
            id: id(Kind::Event, 2),
            merchant,
            connection: link,
            provider: "test".to_owned(),
            outlet: None,
            kind: "order.completed".to_owned(),
            subject: format!("order/{number}"),
            key: format!("order/{number}/completed"),
            weak_key: false,
            at,
            name: Some("Guest".to_owned()),
            phone: Some(phone(number)),
            phone_error: None,
            email: None,
            refs: vec![format!("{number:06}")],
            data: serde_json::json!({ "status": "Completed" }),
            history: false,
            entry: entry.id,
            trace: entry.trace.clone(),
        });
        let text = event.as_ref().filter(|_| number % 3 == 0).map(|event| {
            let state = match number {
                45.. => CommandState::Waiting,
                12 => CommandState::Dead,
                15 => CommandState::Unknown,
                _ => CommandState::Done,
            };
            text(event, link, state, id(Kind::Command, 3), id(Kind::Attempt, 4))
        });
        Past { entry, event, text }
    };
    (0..ENTRIES).map(past).collect()
}

fn text(event: &Event, link: Id, state: CommandState, command: Id, attempt: Id) -> Text {
    let e164 = event.phone.as_ref().unwrap().e164.clone();
    let provider_id = (state == CommandState::Done).then(|| format!("sms-{}", event.subject));
    let exchange = Exchange {
        id: attempt,
        merchant: event.merchant,
        connection: link,
        provider: "test".to_owned(),
        at: event.at,
        endpoint: "POST http://test/send".to_owned(),
        request: "to=…".to_owned(),
        response: "200 {}".to_owned(),
        error: (state != CommandState::Done).then(|| "refused".to_owned()),
        duration_ms: 7,
        trace: event.trace.clone(),
    };
    Text {
        command: Command {
            id: command,
            merchant: event.merchant,
            connection: link,
            flow: Some(Id::new(Kind::Flow)),
            event: Some(event.id),
            job: Job::Send {
                to: Address::Phone(e164.clone()),
                content: Content::text("Thank you!").into(),
                consent: false,
                repeatable: false,
                batch: None,
            },
            due_at: event.at,
            latest_at: event.at.checked_add(SignedDuration::from_hours(24)).ok(),
            source: event.connection,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: event.trace.clone(),
        },
        ordering_key: format!("{link}/{e164}"),
        settlement: Settlement {
            command,
            lease: 0,
            state,
            retry_at: (state == CommandState::Waiting).then(|| event.at + SignedDuration::from_hours(9_000)),
            reason: (state != CommandState::Done).then(|| "refused".to_owned()),
            refs: provider_id.iter().cloned().collect(),
            provider_id,
            exchanges: vec![exchange],
            counts: true,
            frees_slot: false,
        },
    }
}

/// The same by way of a hub's own calls.
async fn live(store: &dyn Store, link: Id, pasts: Vec<Past>) {
    for past in pasts {
        let now = past.entry.request.received_at;
        let reading = past.reading();
        store.append(past.entry).await.unwrap();
        store.apply(reading).await.unwrap();
        let Some(text) = past.text else { continue };
        let leased = store.lease(now, vec![(link, 9)], 9, 60_000).await.unwrap().commands.remove(0);
        let settlement = Settlement { lease: leased.lease, ..text.settlement };
        store.apply(Change { settlement: Some(settlement), ..Change::default() }).await.unwrap();
    }
}

async fn setup(store: &dyn Store) -> (Id, Id) {
    let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
    let row = |id, merchant, slug: &str| SetupRow {
        id,
        merchant,
        slug: slug.to_owned(),
        doc: serde_json::json!({}),
        sealed: None,
        version: 0,
    };
    let rows = vec![row(merchant, None, "m"), row(link, Some(merchant), "c")];
    store.put_setup(Setup { rows, ..Setup::default() }).await.unwrap();
    (merchant, link)
}

const TABLES: [&str; 8] = ["inbox", "unread", "outcome", "seen", "event", "command", "exchange", "sent"];

fn rows_of_file(path: &Path) -> BTreeSet<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let mut all = BTreeSet::new();
    let mut add = |name: &str, sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns).map(|column| row.get_ref(column).unwrap()).collect();
            all.insert(format!("{name} {values:?}"));
        }
    };
    for table in TABLES.into_iter().chain(["sending", "tally"]) {
        // Places in the feed are drawn by the clock.
        let columns = match table {
            "event" => "ordinal, entry, pending, doc, merchant, connection, kind, number IS NULL",
            _ => "*",
        };
        add(table, &format!("SELECT {columns} FROM {table}"));
    }
    add("reference", "SELECT key, entry FROM reference UNION SELECT key, entry FROM reference_new");
    all
}

async fn rows_of_server(url: &str) -> BTreeSet<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut all = BTreeSet::new();
    for table in TABLES.into_iter().chain(["sending", "reference", "waiting", "trouble"]) {
        for row in client.query(&format!("SELECT (to_jsonb(t) - 'arrival' - 'place')::text FROM {table} t"), &[]).await.unwrap() {
            all.insert(format!("{table} {}", row.get::<_, String>(0)));
        }
    }
    let sums = "SELECT what || ' ' || sum(count) FROM tally GROUP BY what HAVING sum(count) <> 0";
    for row in client.query(sums, &[]).await.unwrap() {
        all.insert(format!("tally {}", row.get::<_, String>(0)));
    }
    all
}

/// How many rows there are of each of these, so that nothing is compared with nothing.
fn hold_something(rows: &BTreeSet<String>) {
    for table in ["inbox", "outcome", "seen", "event", "command", "exchange", "sent", "reference", "tally"] {
        assert!(rows.iter().any(|row| row.starts_with(&format!("{table} "))), "no row of {table}");
    }
}

#[tokio::test]
async fn a_generated_file_holds_the_rows_of_a_hub() {
    let folder = tempfile::tempdir().unwrap();
    let (lived, generated) = (folder.path().join("lived.db"), folder.path().join("generated.db"));
    let store = Sqlite::open(&lived).unwrap();
    let (merchant, link) = setup(&store).await;
    let pasts = pasts(merchant, link);
    live(&store, link, pasts.clone()).await;
    store.close().await;
    Sqlite::open(&generated).unwrap().close().await;
    // The store that was closed gives its file back a moment later.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut generator = loop {
        match Generator::sqlite(&generated) {
            Ok(generator) => break generator,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    for portion in pasts.chunks(7) {
        generator.write(portion.to_vec()).await.unwrap();
    }
    generator.finish().await.unwrap();
    let lived = rows_of_file(&lived);
    hold_something(&lived);
    let zero = |row: &&String| !row.ends_with(", Integer(0)]") || !row.starts_with("tally");
    assert_eq!(lived.iter().filter(zero).collect::<Vec<_>>(), rows_of_file(&generated).iter().filter(zero).collect::<Vec<_>>());
    let store = Sqlite::open(&generated).unwrap();
    setup(&store).await;
    assert_eq!(store.counts().await.unwrap().entries.iter().map(|(_, count)| count).sum::<u64>(), ENTRIES as u64);
}

#[tokio::test]
async fn a_generated_database_holds_the_rows_of_a_hub_cut_into_its_weeks() {
    let server = uzel_servers::Postgres::shared().unwrap();
    let (lived, generated) = (server.database().await.unwrap(), server.database().await.unwrap());
    let store = Postgres::open(PostgresOptions::new(&lived)).await.unwrap();
    let (merchant, link) = setup(&store).await;
    let pasts = pasts(merchant, link);
    live(&store, link, pasts.clone()).await;
    store.close().await;
    let end = start() + SignedDuration::from_hours(12 * ENTRIES);
    let mut generator = Generator::postgres(PostgresOptions::new(&generated), start(), end).await.unwrap();
    for portion in pasts.chunks(7) {
        generator.write(portion.to_vec()).await.unwrap();
    }
    generator.finish().await.unwrap();
    let lived = rows_of_server(&lived).await;
    hold_something(&lived);
    assert!(lived.iter().any(|row| row.starts_with("waiting")) && lived.iter().any(|row| row.starts_with("trouble")));
    assert_eq!(lived.iter().collect::<Vec<_>>(), rows_of_server(&generated).await.iter().collect::<Vec<_>>());
    let (client, connection) = tokio_postgres::connect(&generated, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let filled = "SELECT count(DISTINCT tableoid), count(*) FILTER (WHERE tableoid = 'inbox_rest'::regclass) FROM inbox";
    let filled = client.query_one(filled, &[]).await.unwrap();
    assert_eq!((filled.get::<_, i64>(0), filled.get::<_, i64>(1)), (5, 0));
}
