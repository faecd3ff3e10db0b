//! What only a store on a server does: several nodes on one database, its schema, its weeks.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may fail loudly")]

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio_postgres::NoTls;
use uzel_model::{Bytes, Event, Id, Request, Timestamp, id::Kind};
use uzel_store::{
    Change, Entry, EntryState, JournalFilter, LoyaltyLook, Mark, NewEvent, News, Postgres, PostgresOptions, Rekeying, Setup,
    SetupRow, Source, Store, StoreError,
};

async fn database() -> String {
    uzel_servers::Postgres::shared().unwrap().database().await.unwrap()
}

async fn node(url: &str) -> Postgres {
    Postgres::open(PostgresOptions::new(url)).await.unwrap()
}

/// A session beside the store's.
async fn session(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn tables(client: &tokio_postgres::Client, like: &str) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r' AND relname LIKE $1 ORDER BY 1";
    client.query(sql, &[&like]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

fn id_at(kind: Kind, at: Timestamp, number: u128) -> Id {
    let value = (at.as_millisecond() as u128) << 80 | 0x7 << 76 | number << 64 | 0x2 << 62;
    Id::from_bytes(kind, value.to_be_bytes())
}

fn monday() -> Timestamp {
    const WEEK_S: i64 = 7 * 86_400;
    let first_monday = 4 * 86_400;
    let second = Timestamp::now().as_second();
    Timestamp::from_second(second - (second - first_monday).rem_euclid(WEEK_S)).unwrap()
}

fn entry(connection: Id, at: Timestamp, number: u128) -> Entry {
    Entry {
        id: id_at(Kind::Entry, at, number),
        merchant: Id::new(Kind::Merchant),
        connection,
        provider: "test".to_owned(),
        request: Request {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            received_at: at,
            peer: None,
            key: None,
        },
        answer: String::new(),
        source: Source::Webhook,
        trace: "t".to_owned(),
    }
}

fn event(entry: &Entry) -> Event {
    Event {
        id: Id::new(Kind::Event),
        merchant: entry.merchant,
        connection: entry.connection,
        provider: "test".to_owned(),
        outlet: None,
        kind: "order.completed".to_owned(),
        subject: "order/1".to_owned(),
        key: "key".to_owned(),
        weak_key: false,
        at: entry.request.received_at,
        name: None,
        phone: None,
        phone_error: None,
        email: None,
        refs: Vec::new(),
        data: json!({}),
        history: false,
        entry: entry.id,
        trace: "t".to_owned(),
    }
}

/// The next news that is `wanted`, past what every node hears when it begins to listen.
async fn hears(news: &mut tokio::sync::broadcast::Receiver<News>, wanted: News) {
    let heard = async { while news.recv().await.unwrap() != wanted {} };
    tokio::time::timeout(Duration::from_secs(20), heard).await.unwrap_or_else(|_| panic!("{wanted:?} was not heard"));
}

#[tokio::test]
async fn of_many_nodes_that_take_one_turn_at_once_one_gets_it() {
    let url = database().await;
    let (one, other) = (node(&url).await, node(&url).await);
    for round in 0..20 {
        let name = format!("turn {round}");
        let now = Timestamp::now();
        let (here, there) = tokio::join!(one.take(&name, now, 0, 60_000), other.take(&name, now, 0, 60_000));
        assert!(here.unwrap().is_some() != there.unwrap().is_some(), "{name}");
    }
}

#[tokio::test]
async fn of_two_nodes_that_make_the_first_keys_at_once_one_does() {
    let url = database().await;
    let (one, other) = (node(&url).await, node(&url).await);
    let first = |check: &[u8]| Rekeying { check: check.to_vec(), ..Rekeying::default() };
    let (here, there) = tokio::join!(one.rekey(first(b"mine")), other.rekey(first(b"yours")));
    assert!(here.is_ok() != there.is_ok());
    assert_eq!(one.sealed().await.unwrap().check.unwrap(), if here.is_ok() { &b"mine"[..] } else { b"yours" });
}

#[tokio::test]
async fn moments_of_calls_that_nodes_put_at_once_are_all_kept() {
    let url = database().await;
    let (one, other) = (node(&url).await, node(&url).await);
    let put = async |store: &Postgres, names: [&str; 2]| {
        for _ in 0..30 {
            let mut push = |now: i64, windows: &mut [VecDeque<i64>]| windows.iter_mut().for_each(|window| window.push_back(now));
            store.moments(&names.map(str::to_owned), &mut push).await.unwrap();
        }
    };
    // Both name them in an order of their own.
    tokio::join!(put(&one, ["a", "b"]), put(&other, ["b", "a"]));
    let mut seen = Vec::new();
    let mut look = |now: i64, windows: &mut [VecDeque<i64>]| {
        assert!(windows.iter().flatten().all(|at| *at <= now));
        seen = windows.iter().map(VecDeque::len).collect();
    };
    one.moments(&["a".to_owned(), "b".to_owned()], &mut look).await.unwrap();
    assert_eq!(seen, [60, 60]);
}

/// Until so many nodes listen on this database.
async fn listening(url: &str, nodes: i64) {
    let by_hand = session(url).await;
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN uzel' AND state = 'idle'";
    let listen = async {
        while by_hand.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) < nodes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listen).await.expect("nobody listens");
}

#[tokio::test]
async fn a_node_that_was_cut_off_is_told_all_that_it_may_have_missed() {
    let server = uzel_servers::Postgres::start().unwrap();
    let store = node(&server.url()).await;
    listening(&server.url(), 1).await;
    let mut news = store.news();
    assert!(server.drop_connections().await.unwrap() > 0);
    for missed in [News::Setup, News::Breakers, News::Due] {
        hears(&mut news, missed).await;
    }
}

#[tokio::test]
async fn what_a_node_leaves_unread_is_read_by_another() {
    let url = database().await;
    let (one, other) = (node(&url).await, node(&url).await);
    let came = entry(Id::new(Kind::Connection), Timestamp::now(), 1);
    one.append(came.clone()).await.unwrap();
    one.close().await;
    let reads = async {
        loop {
            if let Some(read) = other.unread(10).await.unwrap().pop() {
                return read.id;
            }
            other.appended().notified().await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(20), reads).await.expect("nobody reads it"), came.id);
    assert_eq!(other.about().await.unwrap().nodes, 1);
}

#[tokio::test]
async fn an_older_program_works_beside_a_newer_one_until_a_step_needs_the_newer() {
    let url = database().await;
    let store = node(&url).await;
    let known = store.about().await.unwrap().schema_known as i32;
    let by_hand = session(&url).await;
    let step = |number: i32, needs: i32| {
        format!("INSERT INTO migration (number, name, needs, applied_at) VALUES ({number}, 'later', {needs}, now())")
    };
    by_hand.batch_execute(&step(known + 1, known)).await.unwrap();
    assert_eq!(node(&url).await.about().await.unwrap().schema, known as u32 + 1);
    by_hand.batch_execute(&step(known + 2, known + 2)).await.unwrap();
    let refused = Postgres::open(PostgresOptions::new(&url)).await.err().unwrap().to_string();
    assert!(refused.contains(&format!("needs a program that knows version {}", known + 2)), "{refused}");
}

#[tokio::test]
async fn without_a_word_about_tls_a_server_on_this_machine_is_spoken_to_plainly() {
    // What a client says first where it wants TLS: its length and this number.
    const TLS_WANTED: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    for (query, wants_tls) in [("", false), ("?sslmode=disable", false), ("?sslmode=prefer", true), ("?sslmode=require", true)] {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://uzel@{}/uzel{query}", server.local_addr().unwrap());
        let listens = async {
            let (mut client, _) = server.accept().await.unwrap();
            let mut said = [0; 8];
            client.read_exact(&mut said).await.unwrap();
            said
        };
        let (refused, said) = tokio::join!(Postgres::open(PostgresOptions::new(&url)), listens);
        assert!(refused.is_err());
        assert_eq!(said == TLS_WANTED, wants_tls, "{query}");
    }
}

#[tokio::test]
async fn weeks_are_made_ahead_and_a_purge_drops_one_whole() {
    let url = database().await;
    let store = node(&url).await;
    let by_hand = session(&url).await;
    let weeks = tables(&by_hand, "inbox_2%").await;
    assert_eq!(weeks.len(), 6, "{weeks:?}");
    assert_eq!(tables(&by_hand, "reference_rest").await.len(), 1);

    // The last moment of last week, read in this one; and one of this week.
    let (hour, connection) = (Duration::from_secs(3_600), Id::new(Kind::Connection));
    let row = |id: Id| SetupRow {
        id,
        merchant: None,
        slug: "x".to_owned(),
        doc: json!({"provider": "test"}),
        sealed: None,
        version: 0,
    };
    store.put_setup(Setup { rows: vec![row(connection)], ..Setup::default() }).await.unwrap();
    let old = entry(connection, monday() - Duration::from_millis(5), 1);
    let new = entry(connection, Timestamp::now() + hour, 2);
    for (number, entry) in [(1, &old), (2, &new)] {
        store.append(entry.clone()).await.unwrap();
        let event = Event {
            id: id_at(Kind::Event, if number == 1 { monday() } else { entry.request.received_at }, number),
            key: format!("key-{number}"),
            refs: vec![format!("order-{number}")],
            ..event(entry)
        };
        let events = vec![NewEvent { event, commands: Vec::new(), call_off: None, pending: false }];
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        store.apply(Change { mark: Some(mark), events, ..Change::default() }).await.unwrap();
    }
    assert_eq!(store.purge(monday() - hour, 100).await.unwrap(), 0);
    // A reader who takes his time holds it up, but not those who write.
    by_hand.batch_execute("BEGIN; SELECT count(*) FROM inbox").await.unwrap();
    assert!(matches!(store.purge(monday(), 100).await, Err(StoreError::Busy)));
    by_hand.batch_execute("COMMIT").await.unwrap();
    assert_eq!(tables(&by_hand, "inbox_2%").await, weeks);
    assert_eq!(store.purge(monday(), 100).await.unwrap(), 1);
    assert_eq!(tables(&by_hand, "inbox_2%").await, weeks[1..]);
    assert_eq!(tables(&by_hand, "exchange_2%").await.len(), weeks.len() - 1);
    assert_eq!(store.counts().await.unwrap().entries, [(EntryState::Read, 1)]);
    assert!(store.fsck(false).await.unwrap().is_empty());
    let rows = store.journal(JournalFilter { limit: 10, ..JournalFilter::default() }).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [new.id]);
}

#[tokio::test]
async fn a_week_is_dropped_while_entries_come_and_none_of_them_is_refused() {
    let url = database().await;
    let (store, other) = (Arc::new(node(&url).await), node(&url).await);
    let connection = Id::new(Kind::Connection);
    let stop = Arc::new(AtomicBool::new(false));
    let bringers: Vec<_> = (0..8_u128)
        .map(|bringer| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let mut brought = 0;
                while !stop.load(Ordering::Relaxed) {
                    store
                        .append(Entry { id: Id::new(Kind::Entry), ..entry(connection, Timestamp::now(), bringer) })
                        .await
                        .unwrap();
                    brought += 1;
                }
                brought
            })
        })
        .collect();
    // What ends has to be found in whatever week it is.
    for _ in 0..4 {
        let (session, stop) = (session(&url).await, stop.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                session.batch_execute("UPDATE command SET attempts = 1 WHERE id = gen_random_uuid()").await.unwrap();
            }
        });
    }
    let by_hand = session(&url).await;
    let weeks = tables(&by_hand, "inbox_2%").await.len();
    let dropped = async {
        while tables(&by_hand, "inbox_2%").await.len() == weeks {
            let gone = other.purge(monday(), 100).await;
            assert!(matches!(gone, Ok(_) | Err(StoreError::Busy)), "{gone:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), dropped).await.expect("the week is never dropped");
    stop.store(true, Ordering::Relaxed);
    let mut brought = 0;
    for bringer in bringers {
        brought += bringer.await.unwrap();
    }
    assert_eq!(store.counts().await.unwrap().entries, [(EntryState::Unread, brought)]);
    assert!(brought > 0);
}

#[tokio::test]
async fn a_week_with_an_unread_entry_stays_and_only_what_is_over_goes() {
    let url = database().await;
    let store = node(&url).await;
    let by_hand = session(&url).await;
    let weeks = tables(&by_hand, "inbox_2%").await;
    let at = monday() - Duration::from_secs(86_400);
    let (unread, read) = (entry(Id::new(Kind::Connection), at, 1), entry(Id::new(Kind::Connection), at, 2));
    store.append(unread.clone()).await.unwrap();
    store.append(read.clone()).await.unwrap();
    let mark = Mark { entry: read.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: vec!["r".to_owned()] };
    store.apply(Change { mark: Some(mark), ..Change::default() }).await.unwrap();
    assert_eq!(store.purge(monday(), 100).await.unwrap(), 1);
    assert_eq!(tables(&by_hand, "inbox_2%").await, weeks);
    assert!(store.entry(unread.id).await.unwrap().is_some());
    assert!(store.entry(read.id).await.unwrap().is_none());
    let found = JournalFilter { reference: Some("r".to_owned()), limit: 10, ..JournalFilter::default() };
    assert!(store.journal(found).await.unwrap().is_empty());
    assert!(store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_pool_is_busy_and_no_fault() {
    let url = database().await;
    let store = Postgres::open(PostgresOptions { readers: 1, ..PostgresOptions::new(&url) }).await.unwrap();
    let by_hand = session(&url).await;
    by_hand.batch_execute("BEGIN; LOCK TABLE setup IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (first, second) = tokio::join!(store.setup(), store.breakers());
    by_hand.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(second, Err(StoreError::Busy)), "{second:?}");
    assert!(first.is_ok() || matches!(first, Err(StoreError::Failed(_))));
    store.breakers().await.unwrap();
}

/// Elsewhere the server plans each of them anew, once it has seen values for which that seems to pay: a third of its work.
#[tokio::test]
async fn points_are_looked_at_by_connections_whose_statements_are_planned_once() {
    let url = database().await;
    let store = node(&url).await;
    store.loyalty(LoyaltyLook::new(Id::new(Kind::Merchant), Timestamp::now())).await.unwrap();
    let who = "SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'SELECT q.place%'";
    let looked: Vec<String> = session(&url).await.query(who, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(looked, ["uzel lanes"]);
}

#[tokio::test]
async fn a_step_may_take_its_time_says_what_it_needs_and_no_week_lets_writers_wait_for_it() {
    let url = database().await;
    // Only the governing role may look at what others do.
    let governing = uzel_servers::Postgres::shared().unwrap().governing_url();
    let by_hand = session(&(governing.trim_end_matches("postgres").to_owned() + url.rsplit('/').next().unwrap())).await;
    by_hand
        .batch_execute(
            "CREATE TABLE seen_at_work (what text, statements text, locks text);
             CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                 INSERT INTO seen_at_work SELECT object_identity, current_setting('statement_timeout'), current_setting('lock_timeout')
                 FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'; END $$;
             CREATE EVENT TRIGGER see ON ddl_command_end EXECUTE FUNCTION see()",
        )
        .await
        .unwrap();
    let store = node(&url).await;
    let seen = async |like: &str| -> Vec<(String, String)> {
        let sql = "SELECT DISTINCT statements, locks FROM seen_at_work WHERE what LIKE $1";
        by_hand.query(sql, &[&like]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    for table in ["public.command", "public.sending"] {
        assert_eq!(seen(table).await, [("0".to_owned(), "1s".to_owned())], "{table}");
    }
    assert_eq!(seen("public.command_2%").await, [("1min".to_owned(), "100ms".to_owned())]);
    let needs = by_hand.query("SELECT number, needs FROM migration ORDER BY number", &[]).await.unwrap();
    let needs: Vec<(i32, i32)> = needs.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(needs.len(), store.about().await.unwrap().schema_known as usize);
    assert_eq!(needs[..2], [(1, 1), (2, 1)]);
    assert!(needs.iter().all(|(number, needs)| needs <= number), "{needs:?}");
}

#[tokio::test]
async fn a_step_that_somebody_is_in_the_way_of_makes_nobody_wait_behind_it_and_is_taken_in_the_end() {
    let url = database().await;
    node(&url).await.close().await;
    let (reader, writer) = (session(&url).await, session(&url).await);
    reader
        .batch_execute("ALTER TABLE sending DROP COLUMN called_off; DELETE FROM migration WHERE name = 'called_off'")
        .await
        .unwrap();
    reader.batch_execute("BEGIN; SELECT count(*) FROM sending").await.unwrap();
    writer.batch_execute("SET lock_timeout = '5s'").await.unwrap();
    let opened = tokio::spawn({
        let url = url.clone();
        async move { node(&url).await.close().await }
    });
    let waits = async {
        let sql = "SELECT 1 FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                   WHERE c.relname = 'sending' AND NOT l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while writer.query(sql, &[]).await.unwrap().is_empty() {}
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.expect("the step is not tried");
    writer.batch_execute("DELETE FROM sending").await.unwrap();
    assert!(!opened.is_finished());
    reader.batch_execute("COMMIT").await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), opened).await.expect("the step is not taken").unwrap();
    reader.batch_execute("SELECT called_off FROM sending").await.unwrap();
}

#[tokio::test]
async fn a_reader_who_is_in_the_way_of_a_new_week_keeps_no_node_from_its_start() {
    let url = database().await;
    node(&url).await.close().await;
    let by_hand = session(&url).await;
    let weeks = tables(&by_hand, "inbox_2%").await;
    by_hand.batch_execute(&format!("DROP TABLE {}", weeks[weeks.len() - 1])).await.unwrap();
    by_hand.batch_execute("BEGIN; SELECT count(*) FROM inbox").await.unwrap();
    let store = node(&url).await;
    store.append(entry(Id::new(Kind::Connection), Timestamp::now(), 1)).await.unwrap();
    assert_eq!(tables(&session(&url).await, "inbox_2%").await.len(), weeks.len() - 1);
    by_hand.batch_execute("COMMIT").await.unwrap();
    node(&url).await;
    assert_eq!(tables(&by_hand, "inbox_2%").await, weeks);
}
