//! Copies between the stores, where only the stores themselves show what matters.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use serde_json::json;
use uzel_model::{Address, Bytes, Content, Event, Id, Job, Request, Timestamp, id::Kind};
use uzel_store::{
    Change, Command, CommandState, Contact, CopyError, CopyReport, Entry, EntryState, Exchange, JournalFilter, KeptReply,
    LedgerFilter, LoyaltyChange, LoyaltyLook, Mark, NewCommand, NewEvent, Place, Postgres, PostgresOptions, PromoUse, PromoUses,
    Settlement, Setup, SetupRow, Source, SpentToken, Sqlite, Store,
};

/// A server's database, a file, and ids of what is set up in them.
struct World {
    url: String,
    folder: tempfile::TempDir,
    merchant: Id,
    link: Id,
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// Two ids with one `number` and different `tails` have the same ordinal.
fn id_at(kind: Kind, at: Timestamp, number: u128, tail: u128) -> Id {
    let value = (at.as_millisecond() as u128) << 80 | 0x7 << 76 | number << 64 | 0x2 << 62 | tail;
    Id::from_bytes(kind, value.to_be_bytes())
}

impl World {
    async fn new() -> Self {
        let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
        let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
        Self { url, folder: tempfile::tempdir().unwrap(), merchant, link }
    }

    fn file(&self) -> Place {
        Place::Sqlite(self.folder.path().join("uzel.db"))
    }

    fn server(&self) -> Place {
        Place::Postgres(PostgresOptions::new(&self.url))
    }

    async fn open(&self, place: &Place) -> Box<dyn Store> {
        match place {
            Place::Sqlite(path) => Box::new(Sqlite::open(path).unwrap()),
            Place::Postgres(options) => Box::new(Postgres::open(options.clone()).await.unwrap()),
        }
    }

    /// The same with a merchant and a connection.
    async fn begun(&self, place: &Place) -> Box<dyn Store> {
        let store = self.open(place).await;
        let row = |id, slug: &str| SetupRow {
            id,
            merchant: (id != self.merchant).then_some(self.merchant),
            slug: slug.to_owned(),
            doc: json!({}),
            sealed: None,
            version: 0,
        };
        store.put_setup(Setup { rows: vec![row(self.merchant, "m"), row(self.link, "c")], ..Setup::default() }).await.unwrap();
        store
    }

    fn entry(&self, at: Timestamp, tail: u128) -> Entry {
        Entry {
            id: id_at(Kind::Entry, at, 1, tail),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            request: Request {
                method: "POST".to_owned(),
                path: "/".to_owned(),
                query: Vec::new(),
                headers: Vec::new(),
                body: Bytes::from(format!("{{\"tail\":{tail}}}")),
                received_at: at,
                peer: None,
                key: None,
            },
            answer: String::new(),
            source: Source::Webhook,
            trace: "t".to_owned(),
        }
    }

    fn event(&self, entry: &Entry, tail: u128) -> Event {
        Event {
            id: id_at(Kind::Event, entry.request.received_at, 2, tail),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            outlet: None,
            kind: "order.completed".to_owned(),
            subject: "order/1".to_owned(),
            key: format!("key-{tail}"),
            weak_key: false,
            at: entry.request.received_at,
            name: None,
            phone: None,
            phone_error: None,
            email: None,
            refs: vec![format!("order {tail}")],
            data: json!({}),
            history: false,
            entry: entry.id,
            trace: "t".to_owned(),
        }
    }

    fn command(&self, event: &Event, job: Job, tail: u128) -> NewCommand {
        let command = Command {
            id: id_at(Kind::Command, event.at, 3, tail),
            merchant: self.merchant,
            connection: self.link,
            flow: None,
            event: Some(event.id),
            job,
            due_at: now(),
            latest_at: None,
            source: self.link,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: "t".to_owned(),
        };
        NewCommand { command, ordering_key: format!("o{tail}"), subject: event.subject.clone(), held: None, slot: None }
    }

    async fn copy(&self, from: &Place, to: &Place) -> Result<CopyReport, CopyError> {
        uzel_store::copy(from, to, false, &mut |_| {}).await
    }
}

fn text(text: &str) -> Job {
    Job::Send {
        to: Address::Phone("+79991234567".to_owned()),
        content: Content::text(text).into(),
        consent: false,
        repeatable: false,
        batch: None,
    }
}

fn mark(entry: &Entry) -> Option<Mark> {
    Some(Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() })
}

#[tokio::test]
async fn what_two_nodes_made_in_one_moment_becomes_rows_of_their_own_with_all_that_belongs_to_them() {
    let world = World::new().await;
    let store = world.begun(&world.server()).await;
    for tail in [7, 8, 9] {
        let entry = world.entry(now(), tail);
        let event = world.event(&entry, tail);
        let command = world.command(&event, text(&format!("text {tail}")), tail);
        store.append(entry.clone()).await.unwrap();
        let new = NewEvent { event, commands: vec![command], call_off: None, pending: false };
        store.apply(Change { mark: mark(&entry), events: vec![new], now: Some(now()), ..Change::default() }).await.unwrap();
    }
    for command in store.lease(now(), vec![(world.link, 10)], 10, 60_000).await.unwrap().commands {
        let tail = u128::from_be_bytes(*command.id.as_bytes()) & 0xf;
        let exchange = Exchange {
            id: id_at(Kind::Attempt, now(), 4, tail),
            merchant: world.merchant,
            connection: world.link,
            provider: "test".to_owned(),
            at: now(),
            endpoint: format!("/send/{tail}"),
            request: String::new(),
            response: String::new(),
            error: None,
            duration_ms: 1,
            trace: "t".to_owned(),
        };
        let settlement = Settlement {
            command: command.id,
            lease: command.lease,
            state: CommandState::Done,
            retry_at: None,
            reason: None,
            provider_id: None,
            exchanges: vec![exchange],
            refs: Vec::new(),
            counts: true,
            frees_slot: false,
        };
        store.apply(Change { settlement: Some(settlement), ..Change::default() }).await.unwrap();
    }
    store.close().await;

    let report = world.copy(&world.server(), &world.file()).await.unwrap();
    assert!(report.equal, "{report:?}");
    assert_eq!(report.new_ids, 8, "two of three entries, events, commands and exchanges");
    let store = world.open(&world.file()).await;
    for tail in [7_u128, 8, 9] {
        let filter = JournalFilter { reference: Some(format!("order {tail}")), limit: 10, ..JournalFilter::default() };
        let rows = store.journal(filter).await.unwrap();
        let timeline = store.timeline(rows[0].id).await.unwrap().unwrap();
        assert_eq!(timeline.body, format!("{{\"tail\":{tail}}}"));
        assert_eq!((&*timeline.events[0].key, timeline.events[0].entry), (&*format!("key-{tail}"), timeline.entry));
        let command = &timeline.commands[0];
        assert_eq!((&command.job["text"], command.event), (&json!(format!("text {tail}")), Some(timeline.events[0].id)));
        assert_eq!((command.exchanges.len(), &*command.exchanges[0].endpoint), (1, &*format!("/send/{tail}")));
        assert_eq!(store.event(timeline.events[0].id).await.unwrap().unwrap().id, timeline.events[0].id);
    }
    assert_eq!(store.fsck(false).await.unwrap(), Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn what_was_being_sent_when_the_hub_died_is_judged_at_the_target_as_it_would_have_been() {
    for there in [true, false] {
        let world = World::new().await;
        let (from, to) = if there { (world.file(), world.server()) } else { (world.server(), world.file()) };
        let store = world.begun(&from).await;
        let entry = world.entry(now(), 7);
        let event = world.event(&entry, 7);
        let commands = vec![
            world.command(&event, text("hello"), 1),
            NewCommand {
                command: Command {
                    id: Id::new(Kind::Command),
                    ..world.command(&event, Job::LookUp { what: json!({}) }, 2).command
                },
                ..world.command(&event, text(""), 2)
            },
        ];
        store.append(entry.clone()).await.unwrap();
        let new = NewEvent { event: event.clone(), commands, call_off: None, pending: true };
        store.publish(true).await.unwrap();
        store.apply(Change { mark: mark(&entry), events: vec![new], now: Some(now()), ..Change::default() }).await.unwrap();
        assert_eq!(store.lease(now(), vec![(world.link, 10)], 10, 3_600_000).await.unwrap().commands.len(), 2);
        store.close().await;

        assert!(world.copy(&from, &to).await.unwrap().equal);
        let store = world.open(&to).await;
        assert_eq!(store.recover(now()).await.unwrap(), (1, 1), "the look-up goes again, the text is unknown");
        assert_eq!(store.lease(now(), vec![(world.link, 10)], 10, 60_000).await.unwrap().commands.len(), 1);
        // The event waits for its look-up there as it did here, and is then told.
        assert!(store.unpublished(10).await.unwrap().is_empty());
        let resolved = NewEvent { event, commands: Vec::new(), call_off: None, pending: false };
        store.apply(Change { resolved: Some(resolved), ..Change::default() }).await.unwrap();
        assert_eq!(store.unpublished(10).await.unwrap().len(), 1);
        store.close().await;
    }
}

#[tokio::test]
async fn entries_keep_their_order_and_their_weeks_however_long_ago_they_came() {
    let world = World::new().await;
    let store = world.begun(&world.file()).await;
    let long_ago: Timestamp = "2019-03-05T10:00:00Z".parse().unwrap();
    let entries: Vec<Entry> = [long_ago, now(), Timestamp::now()].map(|at| world.entry(at, 7)).into();
    for entry in &entries {
        store.append(entry.clone()).await.unwrap();
    }
    store.close().await;
    assert!(world.copy(&world.file(), &world.server()).await.unwrap().equal);
    let store = world.open(&world.server()).await;
    let unread = store.unread(10).await.unwrap();
    assert_eq!(unread.iter().map(|entry| entry.id).collect::<Vec<_>>(), entries.iter().map(|entry| entry.id).collect::<Vec<_>>());
    store.close().await;
    let (client, connection) = tokio_postgres::connect(&world.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let held: i64 = client.query_one("SELECT count(*) FROM inbox_2019w10", &[]).await.unwrap().get(0);
    assert_eq!(held, 1);
    let in_order: bool = client
        .query_one("SELECT array_agg(id ORDER BY arrival) = array_agg(id ORDER BY id) FROM inbox", &[])
        .await
        .unwrap()
        .get(0);
    assert!(in_order);
}

#[tokio::test]
async fn points_are_carried_over_whole_and_move_on_at_the_target() {
    for there in [true, false] {
        let world = World::new().await;
        let (from, to) = if there { (world.file(), world.server()) } else { (world.server(), world.file()) };
        let store = world.begun(&from).await;
        let (customer, hold) = (Id::new(Kind::Customer), Id::new(Kind::Hold));
        let points = || {
            LoyaltyChange {
            wallets: vec![
                serde_json::from_value(json!({
                    "id": customer, "merchant": world.merchant, "customer": "c-1", "phone": "+79991234567", "last_lot": 1,
                    "account": { "lots": [{ "id": 1, "left": 70, "active_at": now() }], "debt": 0 }, "booked_at": now(),
                    "made_at": now()
                }))
                .unwrap(),
            ],
            holds: vec![
                serde_json::from_value(json!({
                    "id": hold, "merchant": world.merchant, "wallet": customer, "state": "committed", "kind": "redeem",
                    "order": "o-1", "points": 30, "limit": 30, "total": 100, "eligible": 100, "at": now(), "answer": { "ok": true }
                }))
                .unwrap(),
            ],
            receipts: vec![
                serde_json::from_value(json!({
                    "id": Id::new(Kind::Receipt), "merchant": world.merchant, "order": "o-1", "wallet": customer, "holds": [hold],
                    "sums": { "eligible": 100, "redeemed": 30, "earned": 0, "refunded": 0, "restored": 0, "revoked": 0 }, "at": now()
                }))
                .unwrap(),
            ],
            ledger: [("ADJUST", "issued", "spendable", 100), ("REDEEM", "spendable", "redeemed", 30)]
                .map(|(kind, from, to, points)| {
                    serde_json::from_value(json!({
                        "id": Id::new(Kind::Points), "merchant": world.merchant, "wallet": customer, "kind": kind, "from": from,
                        "to": to, "points": points, "balance": 0, "cause": "import", "order": "o-1", "at": now(),
                        "outlet": Id::new(Kind::Outlet), "lots": [{ "lot": 1, "points": points }]
                    }))
                    .unwrap()
                })
                .into(),
            token: Some(SpentToken { key: [1; 16], hold, until: now() }),
            replies: vec![KeptReply { key: [2; 16], body: [3; 16], answer: "{}".to_owned(), until: now() }],
            promo: Some(PromoUse {
                merchant: world.merchant,
                code: "SUMMER".to_owned(),
                wallet: customer,
                order: "o-1".to_owned(),
                at: now(),
                was: PromoUses::default(),
            }),
        }
        };
        store.apply(Change { loyalty: Some(Box::new(points())), now: Some(now()), ..Change::default() }).await.unwrap();
        let look = LoyaltyLook {
            token: Some([1; 16]),
            replies: vec![[2; 16]],
            since: Some(now()),
            promo_code: Some("SUMMER".to_owned()),
            ..LoyaltyLook::new(world.merchant, now() - jiff::SignedDuration::from_secs(1))
        };
        let seen = store.loyalty(look.clone()).await.unwrap();
        assert_eq!((seen.progress.redeemed, seen.promo.all, seen.replies.len()), (30, 1, 1));
        let all = LedgerFilter { limit: 10, ..LedgerFilter::default() };
        let ledger = store.ledger(all.clone()).await.unwrap();
        store.close().await;

        assert!(world.copy(&from, &to).await.unwrap().equal);
        let store = world.open(&to).await;
        assert_eq!(store.loyalty(look.clone()).await.unwrap(), seen);
        assert_eq!(store.ledger(all).await.unwrap(), ledger);
        assert_eq!(store.audit_loyalty(None, None, 10).await.unwrap().findings, []);
        assert!(store.fsck(false).await.unwrap().is_empty());
        let wallets = seen.wallet.into_iter().collect();
        let change = LoyaltyChange { wallets, ..LoyaltyChange::default() };
        store.apply(Change { loyalty: Some(Box::new(change)), ..Change::default() }).await.unwrap();
        assert_eq!(store.loyalty(look).await.unwrap().wallet.unwrap().version, 2);
        store.close().await;
    }
}

#[tokio::test]
async fn what_a_cancellation_is_still_to_hold_back_keeps_a_server_from_being_copied() {
    let world = World::new().await;
    let store = world.begun(&world.server()).await;
    let (order, cancellation) = (world.entry(now(), 7), world.entry(now(), 8));
    for entry in [&order, &cancellation] {
        store.append(entry.clone()).await.unwrap();
    }
    // The cancellation is read before the order that came first.
    let new = NewEvent {
        event: world.event(&cancellation, 8),
        commands: Vec::new(),
        call_off: Some("cancelled".to_owned()),
        pending: false,
    };
    store.apply(Change { mark: mark(&cancellation), events: vec![new], now: Some(now()), ..Change::default() }).await.unwrap();
    store.close().await;
    let refused = world.copy(&world.server(), &world.file()).await.unwrap_err().to_string();
    assert!(refused.contains("1 entries that came before a cancellation are still unread"), "{refused}");
}
