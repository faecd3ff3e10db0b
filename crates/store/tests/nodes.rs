//! Several nodes on one PostgreSQL database: what the contract of stores, which has one of everything, cannot show.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::NoTls;
use uzel_model::{Bytes, Event, Id, Job, Request, id::Kind};
use uzel_store::{
    Change, Command, CommandState, Contact, Entry, EntryState, FeedFrom, Mark, NewCommand, NewEvent, News, Postgres,
    PostgresOptions, Settlement, Setup, SetupRow, Source, Store, StoreError,
};

async fn database() -> String {
    uzel_servers::Postgres::shared().unwrap().database().await.unwrap()
}

async fn node(url: &str) -> Arc<Postgres> {
    let options = PostgresOptions { reading_lease: Duration::from_millis(300), ..PostgresOptions::new(url) };
    Arc::new(Postgres::open(options).await.unwrap())
}

/// Runs SQL beside the nodes.
async fn by_hand(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Business {
    merchant: Id,
    link: Id,
}

impl Business {
    async fn set_up(store: &Postgres) -> Self {
        let own = Self { merchant: Id::new(Kind::Merchant), link: Id::new(Kind::Connection) };
        let row = |id, merchant, slug: &str| SetupRow {
            id,
            merchant,
            slug: slug.to_owned(),
            doc: serde_json::json!({ "provider": "test" }),
            sealed: None,
            version: 0,
        };
        let rows = vec![row(own.merchant, None, "m"), row(own.link, Some(own.merchant), "c")];
        store.put_setup(Setup { rows, ..Setup::default() }).await.unwrap();
        own
    }

    fn entry(&self) -> Entry {
        let request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            received_at: Timestamp::now(),
            peer: None,
            key: None,
        };
        Entry {
            id: Id::new(Kind::Entry),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            request,
            answer: String::new(),
            source: Source::Webhook,
            trace: "t".to_owned(),
        }
    }

    fn event(&self, entry: Id, key: &str, subject: &str) -> Event {
        Event {
            id: Id::new(Kind::Event),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            outlet: None,
            kind: "order.completed".to_owned(),
            subject: subject.to_owned(),
            key: key.to_owned(),
            weak_key: false,
            at: Timestamp::now(),
            name: None,
            phone: None,
            phone_error: None,
            email: None,
            refs: vec![key.to_owned()],
            data: serde_json::json!({}),
            history: false,
            entry,
            trace: "t".to_owned(),
        }
    }

    fn command(&self, event: &Event, ordering_key: &str) -> NewCommand {
        let command = Command {
            id: Id::new(Kind::Command),
            merchant: self.merchant,
            connection: self.link,
            flow: None,
            event: Some(event.id),
            job: Job::LookUp { what: serde_json::json!(ordering_key) },
            due_at: Timestamp::now(),
            latest_at: None,
            source: self.link,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: "t".to_owned(),
        };
        NewCommand { command, ordering_key: ordering_key.to_owned(), subject: event.subject.clone(), held: None, slot: None }
    }

    /// What reading an entry comes to: one event, and one command of this ordering key.
    fn reading(&self, entry: Id, key: &str, subject: &str, ordering_key: &str) -> Change {
        let event = self.event(entry, key, subject);
        let commands = vec![self.command(&event, ordering_key)];
        let mark = Mark { entry, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        let new = NewEvent { event, commands, call_off: None, pending: false };
        Change { mark: Some(mark), events: vec![new], now: Some(Timestamp::now()), ..Change::default() }
    }
}

fn done(command: &Command) -> Change {
    let settlement = Settlement {
        command: command.id,
        lease: command.lease,
        state: CommandState::Done,
        retry_at: None,
        reason: None,
        provider_id: None,
        exchanges: Vec::new(),
        refs: Vec::new(),
        counts: true,
        frees_slot: false,
    };
    Change { settlement: Some(settlement), ..Change::default() }
}

async fn all_done(store: &Postgres, count: usize) -> bool {
    store.counts().await.unwrap().commands.contains(&(CommandState::Done, count as u64))
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_key_go_one_after_another_on_however_many_nodes() {
    const EVENTS: usize = 900;
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await, node(&url).await];
    let business = Arc::new(Business::set_up(&nodes[0]).await);
    // Each node reads its own part, in portions; all of them queue into the same few keys.
    let mut tasks = Vec::new();
    for (place, store) in nodes.iter().cloned().enumerate() {
        let business = business.clone();
        tasks.push(tokio::spawn(async move {
            for portion in 0..EVENTS / 3 / 10 {
                let mut changes = Vec::new();
                for number in 0..10 {
                    let entry = business.entry();
                    store.append(entry.clone()).await.unwrap();
                    let key = format!("{place}/{portion}/{number}");
                    changes.push(business.reading(entry.id, &key, &key, &format!("key {}", number % 7)));
                }
                assert!(store.apply_all(changes).await.iter().all(Result::is_ok));
            }
        }));
    }
    // Meanwhile all of them take and settle, until nothing is left.
    let all_queued: Arc<AtomicBool> = Arc::default();
    let under_way: Arc<parking_lot::Mutex<HashSet<String>>> = Arc::default();
    let mut takers = Vec::new();
    for store in nodes.clone() {
        let (business, under_way, all_queued) = (business.clone(), under_way.clone(), all_queued.clone());
        takers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            let deadline = Instant::now() + Duration::from_secs(120);
            while !all_queued.load(Ordering::Acquire) || !all_done(&store, EVENTS).await {
                assert!(Instant::now() < deadline, "some wait for ever");
                let leased = store.lease(Timestamp::now(), vec![(business.link, 8)], 8, 60_000).await.unwrap();
                let key = |command: &Command| match &command.job {
                    Job::LookUp { what } => what.to_string(),
                    _ => String::new(),
                };
                for command in &leased.commands {
                    assert!(under_way.lock().insert(key(command)), "two commands of {} at once", key(command));
                }
                for command in leased.commands {
                    under_way.lock().remove(&key(&command));
                    store.apply(done(&command)).await.unwrap();
                    taken.push(command.id);
                }
            }
            taken
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    all_queued.store(true, Ordering::Release);
    let mut times: HashMap<Id, usize> = HashMap::new();
    for taker in takers {
        taker.await.unwrap().into_iter().for_each(|id| *times.entry(id).or_default() += 1);
    }
    assert_eq!(times.len(), EVENTS);
    assert!(times.values().all(|times| *times == 1));
    assert_eq!(nodes[1].fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_read_after_its_cancellation_on_another_node_queues_nothing() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let business = Business::set_up(&nodes[0]).await;
    let (order, cancelled) = (business.entry(), business.entry());
    nodes[0].append(order.clone()).await.unwrap();
    nodes[1].append(cancelled.clone()).await.unwrap();
    // The second node is quicker.
    let event = Event { key: "cancelled".to_owned(), ..business.event(cancelled.id, "k", "order/1") };
    let mark = Mark { entry: cancelled.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
    let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    nodes[1].apply(Change { mark: Some(mark), events: vec![new], ..Change::default() }).await.unwrap();
    nodes[0].apply(business.reading(order.id, "completed", "order/1", "guest")).await.unwrap();
    assert_eq!(nodes[0].counts().await.unwrap().held, [("cancelled".to_owned(), 1)]);
    // What comes after the cancellation is a new order of the same number.
    let again = business.entry();
    nodes[0].append(again.clone()).await.unwrap();
    nodes[0].apply(business.reading(again.id, "again", "order/1", "guest")).await.unwrap();
    assert_eq!(nodes[1].lease(Timestamp::now(), vec![(business.link, 9)], 9, 60_000).await.unwrap().commands.len(), 1);
    assert_eq!(nodes[0].fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_is_just_taking_up_is_not_called_off() {
    let url = database().await;
    let node = node(&url).await;
    let business = Business::set_up(&node).await;
    let order = business.entry();
    node.append(order.clone()).await.unwrap();
    node.apply(business.reading(order.id, "completed", "order/1", "guest")).await.unwrap();
    // Another node's lease, in the middle of its statement.
    let (mut other, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lease = other.transaction().await.unwrap();
    let sql = "SELECT 1 FROM waiting FOR UPDATE; INSERT INTO sending SELECT command, 1, now() + interval '1 hour', command FROM waiting";
    lease.batch_execute(sql).await.unwrap();
    let cancelled = business.entry();
    node.append(cancelled.clone()).await.unwrap();
    let event = Event { key: "cancelled".to_owned(), ..business.event(cancelled.id, "k", "order/1") };
    let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    let task = node.clone();
    let called_off = tokio::spawn(async move { task.apply(Change { events: vec![new], ..Change::default() }).await });
    let (watch, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    until("the cancellation to wait for the lease", async || watch.query_opt(sql, &[]).await.unwrap()).await;
    lease.commit().await.unwrap();
    called_off.await.unwrap().unwrap();
    assert_eq!(node.counts().await.unwrap().held, []);
    assert_eq!(node.fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_look_up_is_held_since_its_order_was_cancelled_before_waits_for_nothing() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let business = Business::set_up(&nodes[0]).await;
    nodes[0].publish(true).await.unwrap();
    let (order, cancelled) = (business.entry(), business.entry());
    nodes[0].append(order.clone()).await.unwrap();
    nodes[1].append(cancelled.clone()).await.unwrap();
    let event = Event { key: "cancelled".to_owned(), ..business.event(cancelled.id, "k", "order/1") };
    let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    nodes[1].apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    let event = business.event(order.id, "completed", "order/1");
    let mut look_up = business.command(&event, "order/1");
    look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
    let new = NewEvent { event: event.clone(), commands: vec![look_up], call_off: None, pending: true };
    nodes[0].apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    assert_eq!(nodes[0].counts().await.unwrap().held, [("cancelled".to_owned(), 1)]);
    assert!(nodes[0].unpublished(9).await.unwrap().iter().any(|(_, told)| told.id == event.id), "it is told as it is");
    assert_eq!(nodes[0].fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_had_accepted_is_read_by_another() {
    let url = database().await;
    let (dying, other) = (node(&url).await, node(&url).await);
    let business = Business::set_up(&dying).await;
    assert!(dying.unread(10).await.unwrap().is_empty() && other.unread(10).await.unwrap().is_empty());
    let entry = business.entry();
    dying.append(entry.clone()).await.unwrap();
    assert!(other.unread(10).await.unwrap().is_empty(), "its own node means to read it");
    drop(dying);
    let found = until("the entry to be anybody's", async || other.unread(10).await.unwrap().pop()).await;
    assert_eq!(found.id, entry.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_tell_each_other_what_they_did_and_hear_nothing_of_their_own() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let mut heard = nodes[1].news();
    let business = Business::set_up(&nodes[0]).await;
    let hear = async |wanted: News, heard: &mut tokio::sync::broadcast::Receiver<News>| {
        tokio::time::timeout(Duration::from_secs(30), async { while heard.recv().await.unwrap() != wanted {} }).await.unwrap();
    };
    hear(News::Setup, &mut heard).await;
    nodes[0].put_session(business.link, b"sealed".to_vec()).await.unwrap();
    hear(News::Login(business.link), &mut heard).await;
    nodes[0].put_breaker(business.link, None).await.unwrap();
    hear(News::Breakers, &mut heard).await;
    let entry = business.entry();
    nodes[0].append(entry.clone()).await.unwrap();
    nodes[0].apply(business.reading(entry.id, "k", "order/1", "guest")).await.unwrap();
    hear(News::Due, &mut heard).await;
    // When the line was cut, all of it may have happened.
    uzel_servers::Postgres::shared()
        .unwrap()
        .govern(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN uzel' AND datname = '{}'",
            url.rsplit('/').next().unwrap()
        ))
        .await
        .unwrap();
    hear(News::Setup, &mut heard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_held_by_one_node_until_it_is_given_back_or_its_time_is_over() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let now = Timestamp::now();
    let token = nodes[0].take("poll/1", now, 60_000, 60_000).await.unwrap().expect("nobody holds it");
    assert_eq!(nodes[1].take("poll/1", now, 0, 60_000).await.unwrap(), None, "it is held");
    assert!(nodes[1].take("poll/2", now, 60_000, 60_000).await.unwrap().is_some());
    nodes[1].give_back("poll/1", token + 1).await.unwrap();
    assert_eq!(nodes[1].take("poll/1", now, 0, 60_000).await.unwrap(), None, "a token of somebody else gives nothing back");
    nodes[0].give_back("poll/1", token).await.unwrap();
    assert_eq!(nodes[1].take("poll/1", now, 60_000, 60_000).await.unwrap(), None, "its time has not come");
    let minute = SignedDuration::from_mins(1);
    assert!(nodes[1].take("poll/1", now + minute, 60_000, 1).await.unwrap().is_some());
    until("the hold to be over", async || nodes[0].take("poll/1", now + minute, 0, 60_000).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moments_are_remembered_together() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let names = ["b".to_owned(), "a".to_owned()];
    let mut tasks = Vec::new();
    for store in nodes.clone() {
        let names = names.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                let mut add =
                    |now_ms: i64, windows: &mut [VecDeque<i64>]| windows.iter_mut().for_each(|window| window.push_back(now_ms));
                store.moments(&names, &mut add).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut found = Vec::new();
    nodes[0].moments(&names, &mut |_, windows| found = windows.to_vec()).await.unwrap();
    assert!(found.iter().all(|window| window.len() == 100 && window.iter().is_sorted()), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_decoded_is_a_dead_letter_and_keeps_nobody_back() {
    let url = database().await;
    let (first, other) = (node(&url).await, node(&url).await);
    let business = Business::set_up(&first).await;
    assert!(first.unread(10).await.unwrap().is_empty() && other.unread(10).await.unwrap().is_empty());
    let (broken, good) = (business.entry(), business.entry());
    first.append(broken.clone()).await.unwrap();
    first.append(good.clone()).await.unwrap();
    by_hand(&url, "UPDATE inbox SET headers = 'no JSON' WHERE id = (SELECT min(id::text)::uuid FROM inbox)").await;
    drop(first);
    let found = until("the good one", async || other.unread(10).await.unwrap().pop()).await;
    assert_eq!(found.id, good.id);
    assert_eq!(other.dead(None, None, None).await.unwrap(), [broken.id]);
    assert_eq!(other.fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_whose_time_is_over_is_dropped_with_all_that_followed_from_it() {
    let url = database().await;
    let store = node(&url).await;
    let business = Business::set_up(&store).await;
    for number in 0..20 {
        let entry = business.entry();
        store.append(entry.clone()).await.unwrap();
        store.apply(business.reading(entry.id, &number.to_string(), &number.to_string(), &number.to_string())).await.unwrap();
    }
    let leased = store.lease(Timestamp::now(), vec![(business.link, 20)], 20, 60_000).await.unwrap().commands;
    for command in &leased[1..] {
        store.apply(done(command)).await.unwrap();
    }
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 60);
    let purge = async || while store.purge(later, 5).await.unwrap() > 0 {};
    purge().await;
    assert_eq!(store.counts().await.unwrap().entries, [(EntryState::Read, 1)], "what waits stays, and its entry");
    assert_eq!(store.fsck(false).await.unwrap(), Vec::<String>::new());
    store.apply(done(&leased[0])).await.unwrap();
    purge().await;
    assert_eq!(store.counts().await.unwrap().entries, []);
    assert_eq!(store.counts().await.unwrap().commands, []);
    let entry = business.entry();
    store.append(entry.clone()).await.unwrap();
    let applied = store.apply(business.reading(entry.id, "7", "7", "7")).await.unwrap();
    assert_eq!((applied.new_events, applied.duplicates), (0, 1), "keys are kept for ever");
    assert_eq!(store.fsck(false).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_schema_is_brought_up_to_date_only_where_that_is_allowed_and_a_newer_one_is_refused() {
    let url = database().await;
    let told = async |options: PostgresOptions| match Postgres::open(options).await {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    };
    let by_hand_only = || PostgresOptions { migrate: false, ..PostgresOptions::new(&url) };
    assert!(told(by_hand_only()).await.contains("lacks step 1"));
    assert!(Postgres::migrations(&PostgresOptions::new(&url)).await.unwrap().iter().all(|step| step.applied_at.is_none()));
    assert_eq!(told(PostgresOptions::new(&url)).await, "opened");
    assert_eq!(told(by_hand_only()).await, "opened");
    assert!(Postgres::migrations(&PostgresOptions::new(&url)).await.unwrap().iter().all(|step| step.applied_at.is_some()));
    // A step of a newer program that an older one can live with, and one that it cannot.
    by_hand(&url, "INSERT INTO migration VALUES (900, 'later', 1, now())").await;
    assert_eq!(told(PostgresOptions::new(&url)).await, "opened");
    by_hand(&url, "INSERT INTO migration VALUES (901, 'later still', 901, now())").await;
    assert!(told(PostgresOptions::new(&url)).await.contains("needs a program that knows version 901"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_program_has_become_too_old_takes_up_nothing_new_and_ends_what_it_has_in_hand() {
    let url = database().await;
    let old = node(&url).await;
    let business = Business::set_up(&old).await;
    let entry = business.entry();
    old.append(entry.clone()).await.unwrap();
    old.apply(business.reading(entry.id, "key", "order/1", "o")).await.unwrap();
    let leased = old.lease(Timestamp::now(), vec![(business.link, 1)], 1, 60_000).await.unwrap().commands;
    // What a program of tomorrow does at its start, while this one runs.
    by_hand(&url, "INSERT INTO migration SELECT 1000, 'later', 1000, now()").await;
    let too_old = |error: &StoreError| error.to_string().contains("needs a program that knows version 1000");
    until("the old node to find out", async || old.append(business.entry()).await.err().filter(too_old)).await;
    assert!(old.lease(Timestamp::now(), vec![(business.link, 1)], 1, 60_000).await.is_err_and(|error| too_old(&error)));
    assert!(old.unread(10).await.is_err_and(|error| too_old(&error)));
    // By this `/readyz` is 503, and `uzel doctor` says why.
    assert!(old.health(Vec::new()).await.is_err_and(|error| too_old(&error)));
    assert!(old.writable().await.is_err_and(|error| too_old(&error)));
    old.apply(done(&leased[0])).await.unwrap();
    assert!(all_done(&old, 1).await);
    // The step is taken back (a restored backup): it works again.
    by_hand(&url, "DELETE FROM migration WHERE number = 1000").await;
    until("it to work again", async || old.append(business.entry()).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_a_database_is_never_shown() {
    for url in ["postgres://uzel:hunter22@127.0.0.1:1/uzel", "postgres://uzel:hunter22@[::1/uzel"] {
        let options = PostgresOptions::new(url);
        assert!(!format!("{options:?}").contains("hunter22"));
        let error = Postgres::open(options).await.err().unwrap();
        assert!(!format!("{error} {error:?}").contains("hunter22"), "{error:?}");
    }
}

/// All that the feed tells from a place on, until it has told so many.
async fn follow(store: &Postgres, mut from: FeedFrom, count: usize) -> Vec<Event> {
    let mut told = store.told();
    let mut events = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while events.len() < count && Instant::now() < deadline {
        let page = store.feed(None, Vec::new(), from, 50).await.unwrap();
        from = FeedFrom::After(page.cursor);
        events.extend(page.events.into_iter().map(|stored| stored.event));
        if !page.more {
            // What is committed may be told some moments later.
            drop(tokio::time::timeout(Duration::from_millis(20), told.changed()).await);
        }
    }
    // Nothing more comes.
    let page = store.feed(None, Vec::new(), from, 50).await.unwrap();
    events.extend(page.events.into_iter().map(|stored| stored.event));
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_the_feed_loses_nothing_and_gets_nothing_twice_while_nodes_race() {
    const EVENTS: usize = 600;
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let business = Arc::new(Business::set_up(&nodes[0]).await);
    let start = FeedFrom::After(nodes[0].feed(None, Vec::new(), FeedFrom::Now, 1).await.unwrap().cursor);
    // One reader follows from the beginning, on the node that writes less.
    let live = tokio::spawn({
        let store = nodes[1].clone();
        async move { follow(&store, start, EVENTS).await }
    });
    // A transaction of somebody else's that goes on for a while holds the feed up, and must not make it lose anything.
    let slow = tokio::spawn({
        let url = url.clone();
        async move { by_hand(&url, "BEGIN; CREATE TABLE slow (a integer); SELECT pg_sleep(0.5); COMMIT").await }
    });
    let mut tasks = Vec::new();
    for (place, store) in [&nodes[0], &nodes[0], &nodes[1]].into_iter().cloned().enumerate() {
        let business = business.clone();
        tasks.push(tokio::spawn(async move {
            for portion in 0..EVENTS / 3 / 5 {
                let mut changes = Vec::new();
                for number in 0..5 {
                    let entry = business.entry();
                    store.append(entry.clone()).await.unwrap();
                    let subject = format!("order/{}", (portion + number) % 11);
                    changes.push(business.reading(entry.id, &format!("{place}/{portion}/{number}"), &subject, &subject));
                }
                assert!(store.apply_all(changes).await.iter().all(Result::is_ok));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    slow.await.unwrap();
    let live = live.await.unwrap();
    let ids: HashSet<Id> = live.iter().map(|event| event.id).collect();
    assert_eq!((live.len(), ids.len()), (EVENTS, EVENTS));
    let later = follow(&nodes[0], start, EVENTS).await;
    assert_eq!(later, live, "whoever reads later reads the same in the same order");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_subject_are_told_in_the_order_in_which_they_were_committed() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    let business = Business::set_up(&nodes[0]).await;
    let start = FeedFrom::After(nodes[0].feed(None, Vec::new(), FeedFrom::Now, 1).await.unwrap().cursor);
    let mut committed = Vec::new();
    for number in 0..40_usize {
        // An id may be made long before it is committed.
        let entries = [business.entry(), business.entry()];
        let [early, late] = entries.clone().map(|entry| business.reading(entry.id, &entry.id.to_string(), "order/1", "guest"));
        for (entry, change) in entries.into_iter().zip([late, early]) {
            let store = &nodes[number % 2];
            store.append(entry).await.unwrap();
            committed.push(change.events[0].event.id);
            store.apply(Change { mark: None, ..change }).await.unwrap();
        }
    }
    let told: Vec<Id> = follow(&nodes[1], start, committed.len()).await.into_iter().map(|event| event.id).collect();
    assert_eq!(told, committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_goes_on_where_the_database_was_moved_to_a_server_that_counts_from_lower_numbers() {
    let url = database().await;
    let store = node(&url).await;
    let business = Business::set_up(&store).await;
    let read = async |store: &Postgres, key: &str| {
        let entry = business.entry();
        store.append(entry.clone()).await.unwrap();
        let change = business.reading(entry.id, key, key, key);
        let id = change.events[0].event.id;
        store.apply(change).await.unwrap();
        id
    };
    let start = FeedFrom::After(store.feed(None, Vec::new(), FeedFrom::Now, 1).await.unwrap().cursor);
    let before = read(&store, "before").await;
    // As if a server with many more transactions behind it had written this.
    by_hand(&url, "UPDATE event SET place = place + 1000000").await;
    let moved = node(&url).await;
    let after = read(&moved, "after").await;
    let told: Vec<Id> = follow(&moved, start, 2).await.into_iter().map(|event| event.id).collect();
    assert_eq!(told, [before, after]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_another_has_events() {
    let url = database().await;
    let nodes = [node(&url).await, node(&url).await];
    // Its line is up when it has heard of anything.
    let mut news = nodes[1].news();
    let business = Business::set_up(&nodes[0]).await;
    until("the line between the nodes", async || news.try_recv().ok()).await;
    let mut told = nodes[1].told();
    told.mark_unchanged();
    let entry = business.entry();
    nodes[0].append(entry.clone()).await.unwrap();
    nodes[0].apply(business.reading(entry.id, "k", "order/1", "guest")).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), told.changed()).await.unwrap().unwrap();
}
