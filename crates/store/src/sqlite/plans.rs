//! How the file is searched by what runs all day: by an index, however large the tables are.
//!
//! The statements are not listed here: the store's own code is run over a small journal, and whatever it prepares is explained.
//! SQLite has no statistics to go by (nothing runs ANALYZE), so the plans are those of a large file.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rusqlite::{
    Connection,
    trace::{TraceEvent, TraceEventCodes},
};
use serde_json::json;
use uzel_model::{Address, Bytes, Content, Event, Id, Job, Request, id::Kind, port::Delivery};

use super::{figures, journal, ledger, loyalty, open, outbox, pages, publication, purge, setup, tally::Tally, timeline, work};
use crate::{
    Change, Command, CommandState, Contact, Cursor, Entry, EntryState, Exchange, JournalFilter, KeptReply, LedgerFilter,
    LoyaltyChange, LoyaltyLook, Mark, NewCommand, NewEvent, Once, PointsFigures, PointsOf, PromoUse, PromoUses, Settlement, Slot,
    Source, SpentToken, WalletFilter, Who, ready::EntryRow,
};

/// What a plan may read row by row: lists that a statement brings along, what is being sent (64 at the most), counts, what is set
/// up, references that are being gathered (4,096 at the most), and what waits to be read or published, from its beginning.
const SMALL: [&str; 14] = [
    "CONSTANT",
    "json_each",
    "g",
    "sending",
    "tally",
    "setup",
    "parts",
    "found",
    "flag",
    "purged",
    "u",
    "unpublished",
    "unread",
    "reference_new",
];

/// Pages and portions read a table in its order, until their limit.
const IN_ORDER: [&str; 2] = ["ORDER BY j.ordinal DESC LIMIT", "ORDER BY ordinal DESC LIMIT"];

/// What of this statement is read row by row.
fn scanned(db: &Connection, sql: &str) -> Vec<String> {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|error| panic!("{sql}: {error}"));
    // The values are not bound: a plan does not depend on them (see `open`).
    let steps: Vec<(i64, String)> =
        statement.raw_query().mapped(|row| Ok((row.get(1)?, row.get(3)?))).map(Result::unwrap).collect();
    let stops = IN_ORDER.iter().any(|order| sql.contains(order)) && !steps.iter().any(|(_, step)| step.contains("TEMP B-TREE"));
    let scans = steps.into_iter().filter(|(within, step)| {
        let Some(what) = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next()) else { return false };
        // An index that holds nothing but what is looked for; the statement itself, not what it looks for within.
        let allowed =
            SMALL.contains(&what) || what.starts_with('(') || step.ends_with("INDEX outcome_dead") || (stops && *within == 0);
        !allowed
    });
    scans.map(|(_, step)| step).collect()
}

struct World {
    db: Connection,
    seen: Arc<Mutex<BTreeSet<String>>>,
    merchant: Id,
    link: Id,
    tally: Tally,
    _folder: tempfile::TempDir,
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut db = open(&folder.path().join("uzel.db"), true).unwrap();
        super::migrate(&db).unwrap();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let kept = seen.clone();
        db.trace_v2(
            TraceEventCodes::SQLITE_TRACE_STMT,
            Some(move |event: TraceEvent<'_>| {
                if let TraceEvent::Stmt(statement, _) = event {
                    kept.lock().insert(statement.sql().into_owned());
                }
            }),
        )
        .unwrap();
        let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
        Self { db, seen, merchant, link, tally: Tally::default(), _folder: folder }
    }

    /// An entry that was appended, and what is read from it.
    fn entry(&mut self, key: &str) -> (Id, Event) {
        let request = Request {
            method: "POST".to_owned(),
            path: String::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::from_static(b"{}"),
            received_at: now(),
            peer: None,
            key: None,
        };
        let entry = Entry {
            id: Id::new(Kind::Entry),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            request,
            answer: "200".to_owned(),
            source: Source::Webhook,
            trace: "t".to_owned(),
        };
        let id = entry.id;
        journal::insert(&self.db, &EntryRow::from(entry), &mut self.tally).unwrap();
        let event = json!({
            "id": Id::new(Kind::Event), "merchant": self.merchant, "connection": self.link, "provider": "test", "outlet": null,
            "kind": "order.completed", "subject": "order/1", "key": key, "weak_key": false, "at": now(), "name": null,
            "phone": null, "phone_error": null, "refs": ["77"], "data": {}, "history": false, "entry": id, "trace": "t"
        });
        (id, serde_json::from_value(event).unwrap())
    }

    fn command(&self, event: &Event, job: Job) -> NewCommand {
        let command = Command {
            id: Id::new(Kind::Command),
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
        let slot = Slot { places: 1, also: None, key: [7; 16], until: now(), reason: "asked_recently".to_owned() };
        NewCommand { command, ordering_key: "a".to_owned(), subject: "order/1".to_owned(), held: None, slot: Some(slot) }
    }

    fn apply(&mut self, change: Change) {
        let change = Change { now: Some(now()), ..change };
        work::apply(&self.db, &change.into(), None, &mut self.tally).unwrap();
    }

    /// An entry that is read into an event with two texts and a look-up.
    fn read(&mut self, key: &str, call_off: Option<&str>) -> Event {
        let (entry, event) = self.entry(key);
        let send = |phone: &str| Job::Send {
            to: Address::Phone(phone.to_owned()),
            content: Content::text("x").into(),
            consent: false,
            repeatable: false,
            batch: None,
        };
        let commands = vec![
            self.command(&event, send("+79991234567")),
            self.command(&event, send("+79991234568")),
            self.command(&event, Job::LookUp { what: json!({}) }),
        ];
        let new = NewEvent { event: event.clone(), commands, call_off: call_off.map(str::to_owned), pending: true };
        let mark = Mark { entry, again: false, state: EntryState::Read, notes: vec!["n".to_owned()], refs: vec!["r".to_owned()] };
        self.apply(Change { mark: Some(mark), events: vec![new], ..Change::default() });
        event
    }

    fn settle(&mut self, state: CommandState) {
        let shares = [(self.link, 9)];
        let leased = outbox::lease(&self.db, now(), &shares, 9, 60_000, None, &mut self.tally).unwrap();
        for command in leased.commands {
            let exchange = json!({ "id": Id::new(Kind::Attempt) });
            let exchange = Exchange {
                id: serde_json::from_value(exchange["id"].clone()).unwrap(),
                merchant: self.merchant,
                connection: self.link,
                provider: "test".to_owned(),
                at: now(),
                endpoint: String::new(),
                request: String::new(),
                response: String::new(),
                error: None,
                duration_ms: 1,
                trace: "t".to_owned(),
            };
            let settlement = Settlement {
                command: command.id,
                lease: command.lease,
                state,
                retry_at: None,
                reason: None,
                provider_id: Some(command.id.to_string()),
                exchanges: vec![exchange],
                refs: vec!["p".to_owned()],
                counts: true,
                frees_slot: true,
            };
            self.apply(Change { settlement: Some(settlement), ..Change::default() });
        }
    }

    /// The loops, a few times round.
    fn work(&mut self) {
        publication::switch(&self.db, true).unwrap();
        let event = self.read("a", None);
        self.settle(CommandState::Done);
        self.settle(CommandState::Dead);
        self.read("a", None);
        self.read("b", None);
        self.read("c", Some("cancelled"));
        let resolved = NewEvent { event: event.clone(), commands: Vec::new(), call_off: None, pending: false };
        self.apply(Change { resolved: Some(resolved), ..Change::default() });
        let news = uzel_model::connector::StatusNews::new("p".to_owned(), Delivery::Delivered, "103".to_owned());
        let once = Once { key: [1; 16], body: [2; 16], command: Id::new(Kind::Command), until: now() };
        let cursor = Cursor { connection: self.link, was: None, next: "1".to_owned() };
        self.apply(Change {
            statuses: vec![(self.link, news)],
            opt_outs: vec![(self.merchant, "+79991234567".to_owned())],
            once: Some(once),
            cursor: Some(cursor),
            ..Change::default()
        });
        let again = Mark { entry: event.entry, again: true, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        self.apply(Change { mark: Some(again), ..Change::default() });
        // So many references that they are put in order.
        let refs = (0..5_000).map(|number| format!("{number}")).collect();
        let (entry, _) = self.entry("d");
        let mark = Mark { entry, again: false, state: EntryState::Dead, notes: Vec::new(), refs };
        self.apply(Change { mark: Some(mark), ..Change::default() });
        outbox::recover(&self.db, now() + SignedDuration::from_hours(1), &mut self.tally).unwrap();
        journal::unread(&self.db, 64).unwrap();
        let numbers: Vec<i64> = publication::unpublished(&self.db, 256).unwrap().into_iter().map(|(number, _)| number).collect();
        publication::published(&self.db, &numbers).unwrap();
        std::mem::take(&mut self.tally).write(&self.db).unwrap();
    }

    /// Points that move, and who asks for them.
    fn points(&mut self) {
        let (merchant, id) = (self.merchant, |kind| Id::new(kind));
        let (wallet, hold, receipt) = (id(Kind::Customer), id(Kind::Hold), id(Kind::Receipt));
        let written = |version: i64| {
            let account = json!({ "lots": [{ "id": 1, "left": 5, "active_at": now() }], "debt": 0 });
            let sums = json!({ "eligible": 0, "redeemed": 0, "earned": 0, "refunded": 0, "restored": 0, "revoked": 0 });
            let mut change = LoyaltyChange {
                wallets: vec![
                    serde_json::from_value(json!({
                        "id": wallet, "merchant": merchant, "customer": "c", "phone": format!("+7999{version}"), "account": account,
                        "last_lot": 1, "booked_at": now(), "made_at": now()
                    }))
                    .unwrap(),
                ],
                holds: vec![
                    serde_json::from_value(json!({
                        "id": hold, "merchant": merchant, "wallet": wallet, "state": "committed", "kind": "redeem", "order": "o",
                        "points": 1, "limit": 1, "total": 1, "eligible": 1, "at": now(), "answer": null
                    }))
                    .unwrap(),
                ],
                receipts: vec![
                    serde_json::from_value(json!({
                        "id": receipt, "merchant": merchant, "order": "o", "wallet": wallet, "sums": sums, "holds": [], "at": now()
                    }))
                    .unwrap(),
                ],
                ledger: vec![
                    serde_json::from_value(json!({
                        "id": Id::new(Kind::Points), "merchant": merchant, "wallet": wallet, "kind": "EARN", "from": "issued",
                        "to": "spendable", "points": 5, "balance": 5, "cause": "c", "reason": "+79991234567", "at": now()
                    }))
                    .unwrap(),
                ],
                token: Some(SpentToken { key: [version as u8; 16], hold, until: now() }),
                replies: vec![KeptReply { key: [version as u8; 16], body: [1; 16], answer: String::new(), until: now() }],
                promo: Some(PromoUse {
                    merchant,
                    code: "p".to_owned(),
                    wallet,
                    order: version.to_string(),
                    at: now(),
                    was: PromoUses { all: version, by_customer: version, last_by_customer_at: None },
                }),
            };
            change.wallets[0].version = version;
            change.holds[0].version = version;
            change.receipts[0].version = version;
            change
        };
        for version in 0..2 {
            self.apply(Change { loyalty: Some(Box::new(written(version))), ..Change::default() });
        }
        let look = LoyaltyLook {
            replies: vec![[1; 16]],
            since: Some(now()),
            promo_code: Some("p".to_owned()),
            ..LoyaltyLook::new(merchant, now() - SignedDuration::from_secs(1))
        };
        for who in [Who::Id(wallet), Who::Customer("c".to_owned()), Who::Phone("+79991".to_owned())] {
            let look = LoyaltyLook { who: Some(who), ..look.clone() };
            assert!(loyalty::look(&self.db, &look).unwrap().wallet.is_some());
        }
        let look = LoyaltyLook { token: Some([1; 16]), ..look };
        assert!(loyalty::look(&self.db, &look).unwrap().receipt.is_some());
        let own =
            LedgerFilter { merchant: Some(merchant), before: Some(Id::new(Kind::Points)), limit: 9, ..LedgerFilter::default() };
        assert_eq!(ledger::page(&self.db, &own).unwrap().len(), 2);
        for filter in [
            LedgerFilter { wallet: Some(wallet), ..own.clone() },
            LedgerFilter { outlet: Some(Id::new(Kind::Outlet)), staff: Some("s".to_owned()), ..own },
        ] {
            ledger::page(&self.db, &filter).unwrap();
        }
        let own =
            WalletFilter { merchant: Some(merchant), after: Some(Id::new(Kind::Customer)), limit: 9, ..WalletFilter::default() };
        ledger::wallets(&self.db, &own).unwrap();
        ledger::wallets(&self.db, &WalletFilter { phone: Some("+79991".to_owned()), ..WalletFilter::default() }).unwrap();
        ledger::check(&self.db, Some(merchant), None, 9).unwrap();
        assert_eq!(loyalty::due(&self.db, now(), &[merchant], 9).unwrap().len(), 0);
        let of = PointsOf { merchant, from: now(), to: now() };
        assert_eq!(figures::points(&self.db, &of).unwrap(), PointsFigures::default());
        loyalty::forget_ended(&self.db, 9).unwrap();
        let phone = uzel_model::Named::new("+79991");
        let of_person = ledger::of_person(&self.db, merchant, &phone).unwrap();
        assert_eq!(ledger::forget(&self.db, &of_person, &phone).unwrap(), 1);
    }

    /// What people and probes ask.
    fn ask(&self) {
        let db = &self.db;
        let all = JournalFilter { limit: 50, ..JournalFilter::default() };
        let newest = pages::list(db, &all).unwrap();
        assert!(!newest.is_empty());
        for filter in [
            JournalFilter { reference: Some("77".to_owned()), ..all.clone() },
            JournalFilter { merchant: Some(self.merchant), ..all.clone() },
            JournalFilter { provider: Some("test".to_owned()), ..all.clone() },
            JournalFilter { from: Some(now()), to: Some(now() + SignedDuration::from_hours(1)), ..all.clone() },
            JournalFilter { before: Some(newest[0].id), ..all.clone() },
            JournalFilter { status: Some("dead".to_owned()), ..all.clone() },
            JournalFilter { status: Some("unknown".to_owned()), ..all.clone() },
            JournalFilter { status: Some("held".to_owned()), ..all.clone() },
        ] {
            pages::list(db, &filter).unwrap();
        }
        for row in &newest {
            timeline::of(db, row.id).unwrap();
            timeline::exchange(db, row.id).unwrap();
        }
        journal::counts(db).unwrap();
        journal::health(db, &[self.link]).unwrap();
        journal::dead(db, None, None, None).unwrap();
        publication::waiting(db).unwrap();
        figures::waiting(db, &[self.link], "loyalty.", 100).unwrap();
        setup::contact(db, self.merchant, "+79991234567", None).unwrap();
        work::undelivered(db, self.link, now(), now(), 100).unwrap();
        work::once(db, [1; 16]).unwrap();
        super::start_ids_after(db).unwrap();
    }

    fn forget(&mut self) {
        let before = now() + SignedDuration::from_hours(10_000);
        let mut place = purge::Place::default();
        loop {
            let portion = purge::find(&self.db, None, before, 100, place).unwrap();
            purge::delete(&self.db, &portion, &mut self.tally).unwrap();
            if portion.last {
                return;
            }
            place = portion.next;
        }
    }
}

#[test]
fn what_runs_all_day_reads_no_large_table_row_by_row() {
    let mut world = World::new();
    world.work();
    world.points();
    world.ask();
    world.forget();
    let statements = std::mem::take(&mut *world.seen.lock());
    let mut explained = 0;
    let mut slow = Vec::new();
    for sql in &statements {
        let verb = sql.trim_start().split(|letter: char| !letter.is_alphabetic()).next().unwrap_or_default();
        if !["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&verb) {
            continue;
        }
        explained += 1;
        let scanned = scanned(&world.db, sql);
        if !scanned.is_empty() {
            slow.push(format!("{scanned:?}: {sql}"));
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
    // The test can fail: all of the store's work was seen, and this has no index to go by.
    assert!(explained > 80, "only {explained} statements were seen");
    assert_eq!(scanned(&world.db, "SELECT id FROM inbox WHERE trace = ?1"), ["SCAN inbox"]);
}
