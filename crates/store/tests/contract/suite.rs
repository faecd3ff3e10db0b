//! The contract of stores: what the engine may rely on, whatever stands behind.

#[path = "asks.rs"]
mod asks;
#[path = "batches.rs"]
mod batches;
#[path = "bounces.rs"]
mod bounces;
#[path = "chain.rs"]
mod chain;
#[path = "endpoints.rs"]
mod endpoints;
#[path = "erasures.rs"]
mod erasures;
#[path = "figures.rs"]
mod figures;
#[path = "loyalty.rs"]
mod loyalty;
#[path = "notices.rs"]
mod notices;
#[path = "reviews.rs"]
mod reviews;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Address, Bytes, Content, Event, Id, Job, Request, connector::StatusNews, id::Kind, port::Delivery};
use uzel_store::{
    Change, Command, CommandState, Contact, Cursor, Entry, EntryState, Envelope, Exchange, JournalFilter, KeyRow, Mark,
    NewCommand, NewEvent, Notice, Once, OpenBreaker, Purpose, Refusal, Rekeying, Resealed, Rhythm, Settlement, Setup, SetupRow,
    Slot, Source, Store, StoreError, Told, Verdict,
};

pub(super) struct World {
    pub(super) store: Arc<dyn Store>,
    pub(super) merchant: Id,
    pub(super) link: Id,
    /// Behind the store's back.
    by_hand: super::ByHand,
}

pub(super) async fn world() -> World {
    let (store, by_hand) = super::open().await;
    let (merchant, link) = (Id::new(Kind::Merchant), Id::new(Kind::Connection));
    let row = |id, slug: &str| SetupRow {
        id,
        merchant: (id != merchant).then_some(merchant),
        slug: slug.to_owned(),
        doc: serde_json::json!({}),
        sealed: None,
        version: 0,
    };
    store.put_setup(Setup { rows: vec![row(merchant, "m"), row(link, "c")], ..Setup::default() }).await.unwrap();
    World { store, merchant, link, by_hand }
}

pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn refusal(place: &str, number: usize) -> Refusal {
    Refusal {
        place: place.to_owned(),
        at: now(),
        peer: None,
        method: "POST".to_owned(),
        path: String::new(),
        reason: number.to_string(),
        keys: Vec::new(),
        query: Vec::new(),
        headers: vec![("host".to_owned(), None)],
        body: String::new(),
        cut: false,
    }
}

impl World {
    pub(super) fn entry(&self) -> Entry {
        Entry {
            id: Id::new(Kind::Entry),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            request: Request {
                method: "POST".to_owned(),
                path: String::new(),
                query: Vec::new(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: Bytes::from_static(b"{\"a\":1}"),
                received_at: now(),
                peer: None,
                key: None,
            },
            answer: "200 {}".to_owned(),
            source: Source::Webhook,
            trace: "t".to_owned(),
        }
    }

    pub(super) fn event(&self, entry: Id, key: &str) -> Event {
        Event {
            id: Id::new(Kind::Event),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            outlet: None,
            kind: "order.completed".to_owned(),
            subject: "order/1".to_owned(),
            key: key.to_owned(),
            weak_key: false,
            at: now(),
            name: None,
            phone: None,
            phone_error: None,
            email: None,
            refs: vec!["77".to_owned()],
            data: serde_json::json!({}),
            history: false,
            entry,
            trace: "t".to_owned(),
        }
    }

    pub(super) fn command(&self, event: &Event, key: &str, due_at: Timestamp) -> NewCommand {
        let command = Command {
            id: Id::new(Kind::Command),
            merchant: self.merchant,
            connection: self.link,
            flow: None,
            event: Some(event.id),
            job: Job::Send {
                to: Address::Phone("+79991234567".to_owned()),
                content: Content::text(key).into(),
                consent: false,
                repeatable: false,
                batch: None,
            },
            due_at,
            latest_at: None,
            source: event.connection,
            attempts: 0,
            contact: Contact::default(),
            lease: 0,
            trace: "t".to_owned(),
        };
        NewCommand { command, ordering_key: key.to_owned(), subject: event.subject.clone(), held: None, slot: None }
    }

    pub(super) fn exchange(&self) -> Exchange {
        Exchange {
            id: Id::new(Kind::Attempt),
            merchant: self.merchant,
            connection: self.link,
            provider: "test".to_owned(),
            at: now(),
            endpoint: "POST /send".to_owned(),
            request: String::new(),
            response: String::new(),
            error: None,
            duration_ms: 1,
            trace: "t".to_owned(),
        }
    }

    /// An entry read into one event with these commands.
    pub(super) async fn read(&self, key: &str, commands: impl Fn(&Event) -> Vec<NewCommand>) -> Event {
        let entry = self.entry();
        self.store.append(entry.clone()).await.unwrap();
        let event = self.event(entry.id, key);
        let new = NewEvent { commands: commands(&event), event: event.clone(), call_off: None, pending: false };
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        self.store.apply(Change { mark: Some(mark), events: vec![new], now: Some(now()), ..Change::default() }).await.unwrap();
        event
    }

    pub(super) async fn lease(&self, at: Timestamp) -> Vec<Command> {
        self.store.lease(at, vec![(self.link, 10)], 10, 60_000).await.unwrap().commands
    }

    pub(super) fn settlement(command: &Command, state: CommandState) -> Settlement {
        Settlement {
            command: command.id,
            lease: command.lease,
            state,
            retry_at: None,
            reason: None,
            provider_id: None,
            exchanges: Vec::new(),
            refs: Vec::new(),
            counts: true,
            frees_slot: false,
        }
    }

    pub(super) async fn settle(&self, settlement: Settlement) -> Result<(), StoreError> {
        self.store.apply(Change { settlement: Some(settlement), ..Change::default() }).await.map(drop)
    }
}

#[tokio::test]
async fn what_was_appended_is_unread_until_it_is_marked() {
    let world = world().await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let unread = world.store.unread(10).await.unwrap();
    assert_eq!(unread.len(), 1);
    assert_eq!(unread[0].request, entry.request);
    let mark = Mark { entry: entry.id, again: false, state: EntryState::Dead, notes: vec!["why".to_owned()], refs: Vec::new() };
    world.store.apply(Change { mark: Some(mark), ..Change::default() }).await.unwrap();
    assert!(world.store.unread(10).await.unwrap().is_empty());
    assert_eq!(world.store.dead(None, None, None).await.unwrap(), vec![entry.id]);
}

#[tokio::test]
async fn a_known_key_drops_the_event_and_all_that_follows_from_it() {
    let world = world().await;
    world.read("k", |event| vec![world.command(event, "a", now())]).await;
    world.read("k", |event| vec![world.command(event, "b", now())]).await;
    assert_eq!(world.lease(now()).await.len(), 1);
    let counts = world.store.counts().await.unwrap();
    assert!(counts.entries.contains(&(EntryState::Duplicate, 1)), "{counts:?}");
}

#[tokio::test]
async fn commands_of_one_key_go_one_after_another_and_other_keys_do_not_wait() {
    let world = world().await;
    world
        .read("k", |event| {
            let at = |seconds| now() + SignedDuration::from_secs(seconds);
            vec![world.command(event, "a", at(0)), world.command(event, "a", at(1)), world.command(event, "b", at(1))]
        })
        .await;
    let at = now() + SignedDuration::from_secs(5);
    let first = world.lease(at).await;
    let texts = first.iter().filter_map(|command| command.job.message()).map(|(_, content)| content.text.as_str());
    assert_eq!(texts.collect::<Vec<_>>(), ["a", "b"]);
    assert!(world.lease(at).await.is_empty(), "the second of key a waits for the first");
    world.settle(World::settlement(&first[0], CommandState::Dead)).await.unwrap();
    assert_eq!(world.lease(at).await.len(), 1, "a dead command holds nobody back");
}

#[tokio::test]
async fn a_lost_lease_cannot_settle() {
    let world = world().await;
    world.read("k", |event| vec![world.command(event, "a", now())]).await;
    let old = world.lease(now()).await.remove(0);
    let retry = Settlement { retry_at: Some(now()), ..World::settlement(&old, CommandState::Waiting) };
    world.settle(retry).await.unwrap();
    let new = world.lease(now()).await.remove(0);
    assert!(matches!(world.settle(World::settlement(&old, CommandState::Done)).await, Err(StoreError::Conflict)));
    world.settle(World::settlement(&new, CommandState::Done)).await.unwrap();
}

#[tokio::test]
async fn a_login_ends_with_the_event_that_says_so_and_not_with_its_repeat() {
    let world = world().await;
    world.store.put_session(world.link, b"sealed".to_vec()).await.unwrap();
    let entry = world.entry();
    let told = Change {
        events: vec![NewEvent { event: world.event(entry.id, "off"), commands: Vec::new(), call_off: None, pending: false }],
        ends_login: Some(world.link),
        ..Change::default()
    };
    world.store.append(entry).await.unwrap();
    world.store.apply(told.clone()).await.unwrap();
    assert_eq!(world.store.session(world.link).await.unwrap(), None);
    world.store.put_session(world.link, b"made since".to_vec()).await.unwrap();
    world.store.apply(told).await.unwrap();
    assert_eq!(world.store.session(world.link).await.unwrap(), Some(b"made since".to_vec()));
}

#[tokio::test]
async fn a_slot_lets_one_command_through_until_it_is_free_again() {
    let world = world().await;
    let slot = || Slot {
        places: 1,
        also: None,
        key: [7; 16],
        until: now() + SignedDuration::from_hours(24),
        reason: "asked_recently".to_owned(),
    };
    for key in ["k1", "k2"] {
        world.read(key, |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, key, now()) }]).await;
    }
    assert_eq!(world.lease(now()).await.len(), 1);
    assert_eq!(world.store.counts().await.unwrap().held, [("asked_recently".to_owned(), 1)]);
    let later = now() + SignedDuration::from_hours(25);
    world.read("k3", |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, "k3", later) }]).await;
    assert_eq!(world.lease(later).await.len(), 1);
}

#[tokio::test]
async fn a_cancelled_order_calls_off_what_waits_for_it() {
    let world = world().await;
    world.read("k", |event| vec![world.command(event, "a", now() + SignedDuration::from_hours(2))]).await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let event = world.event(entry.id, "cancelled");
    let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    assert!(world.lease(now() + SignedDuration::from_hours(3)).await.is_empty());
    assert_eq!(world.store.counts().await.unwrap().held, [("cancelled".to_owned(), 1)]);
}

#[tokio::test]
async fn what_is_called_off_while_it_is_sent_is_not_tried_again_and_stays_done_where_it_was_taken() {
    use CommandState::{Dead, Done, Held, Unknown, Waiting};
    for (ends, stands) in [(Waiting, Held), (Dead, Held), (Done, Done), (Unknown, Unknown), (Held, Held)] {
        let world = world().await;
        let later = now() + SignedDuration::from_hours(3);
        let slot = || Slot { places: 1, also: None, key: [7; 16], until: later, reason: "asked_recently".to_owned() };
        world.read("k", |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, "a", now()) }]).await;
        let leased = world.lease(now()).await.remove(0);
        let entry = world.entry();
        world.store.append(entry.clone()).await.unwrap();
        let event = world.event(entry.id, "cancelled");
        let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
        world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
        let (retry_at, reason) = ((ends == Waiting).then(now), Some("its own".to_owned()));
        world.settle(Settlement { retry_at, reason, ..World::settlement(&leased, ends) }).await.unwrap();
        assert!(world.lease(later).await.is_empty(), "{ends:?} was tried again");
        let (_, command) = world.store.command(leased.id).await.unwrap().unwrap();
        let reason = if ends == stands { "its own" } else { "cancelled" };
        assert_eq!((command.state, command.reason.as_deref()), (stands, Some(reason)), "{ends:?}");
        // What never went has asked nobody: the next finds its slot free.
        world.read("next", |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, "b", now()) }]).await;
        assert_eq!(world.lease(later).await.len(), usize::from(ends != stands), "{ends:?}");
        assert!(world.store.fsck(false).await.unwrap().is_empty(), "{ends:?}");
    }
}

#[tokio::test]
async fn a_look_up_that_is_called_off_and_whose_node_is_gone_is_not_made_again() {
    let world = world().await;
    world
        .read("k", |event| {
            let mut look_up = world.command(event, "a", now());
            look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
            vec![look_up, world.command(event, "b", now())]
        })
        .await;
    let leased = world.store.lease(now(), vec![(world.link, 10)], 10, 0).await.unwrap().commands;
    assert_eq!(leased.len(), 2);
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let event = world.event(entry.id, "cancelled");
    let new = NewEvent { event, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    let gone = async || world.store.recover(now()).await.unwrap();
    assert_eq!(gone().await, (0, 1), "of the text nobody knows what became");
    let counts = world.store.counts().await.unwrap();
    assert_eq!(counts.held, [("cancelled".to_owned(), 1)]);
    assert!(world.lease(now() + SignedDuration::from_hours(1)).await.is_empty());
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_follows_from_a_look_up_whose_order_was_called_off_meanwhile() {
    for under_way in [false, true] {
        let world = world().await;
        let entry = world.entry();
        world.store.append(entry.clone()).await.unwrap();
        let event = world.event(entry.id, "k");
        let mut look_up = world.command(&event, "a", now());
        look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
        let new = NewEvent { event: event.clone(), commands: vec![look_up], call_off: None, pending: true };
        world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
        let leased = if under_way { world.lease(now()).await } else { Vec::new() };
        let cancelled = NewEvent {
            event: world.event(entry.id, "cancelled"),
            commands: Vec::new(),
            call_off: Some("cancelled".to_owned()),
            pending: false,
        };
        world.store.apply(Change { events: vec![cancelled], ..Change::default() }).await.unwrap();
        for command in &leased {
            let text = world.command(&event, "b", now());
            let found = NewEvent { event: event.clone(), commands: vec![text], call_off: None, pending: false };
            let settlement = Some(World::settlement(command, CommandState::Done));
            world.store.apply(Change { settlement, resolved: Some(found), ..Change::default() }).await.unwrap();
        }
        assert!(world.lease(now()).await.is_empty(), "under way: {under_way}");
        assert!(world.store.fsck(false).await.unwrap().is_empty(), "under way: {under_way}");
    }
}

#[tokio::test]
async fn a_timeline_is_found_by_the_id_of_anything_in_it_and_tells_what_became_of_a_message() {
    let world = world().await;
    let event = world.read("k", |event| vec![world.command(event, "a", now())]).await;
    let command = world.lease(now()).await.remove(0);
    let exchange = world.exchange();
    let alone = Exchange { id: Id::new(Kind::Attempt), ..exchange.clone() };
    let settlement = Settlement {
        provider_id: Some("p-1".to_owned()),
        exchanges: vec![exchange.clone()],
        ..World::settlement(&command, CommandState::Done)
    };
    world
        .store
        .apply(Change { settlement: Some(settlement), exchanges: vec![alone.clone()], ..Change::default() })
        .await
        .unwrap();
    for id in [event.entry, event.id, command.id, exchange.id] {
        let timeline = world.store.timeline(id).await.unwrap().expect("a timeline");
        assert_eq!((timeline.entry, timeline.commands[0].delivery), (event.entry, Some(Delivery::OnTheWay)), "{id}");
    }
    assert!(world.store.timeline(alone.id).await.unwrap().is_none(), "it follows from no entry");
    assert_eq!(world.store.exchange(alone.id).await.unwrap().map(|found| found.endpoint), Some(alone.endpoint));

    let hour = SignedDuration::from_hours(1);
    let open = async |after, before| world.store.undelivered(world.link, after, before, 10).await.unwrap();
    assert_eq!(open(now(), now() + hour).await, ["p-1"]);
    assert!(open(now() + hour, now() + hour + hour).await.is_empty() && open(now() - hour, now()).await.is_empty());
    let news = |state, code: &str| (world.link, StatusNews::new("p-1", state, code));
    let statuses = vec![news(Delivery::Delivered, "103"), news(Delivery::Failed, "104")];
    world.store.apply(Change { statuses, ..Change::default() }).await.unwrap();
    let told = world.store.timeline(event.id).await.unwrap().unwrap().commands.remove(0);
    assert_eq!((told.delivery, told.delivery_code.as_deref()), (Some(Delivery::Delivered), Some("103")));
    assert!(open(now(), now() + hour).await.is_empty());
}

#[tokio::test]
async fn commands_may_follow_from_an_event_that_was_told_before() {
    let world = world().await;
    let event = world.read("k", |_| Vec::new()).await;
    let commands = vec![world.command(&event, "a", now())];
    let applied = world.store.apply(Change { commands, ..Change::default() }).await.unwrap();
    assert_eq!((applied.queued, applied.new_events), (1, 0));
    assert_eq!(world.lease(now()).await[0].event, Some(event.id));
}

#[tokio::test]
async fn after_a_crash_reads_wait_again_and_sends_are_unknown() {
    let world = world().await;
    world
        .read("k", |event| {
            let mut read = world.command(event, "b", now());
            read.command.job = Job::LookUp { what: serde_json::json!({}) };
            vec![world.command(event, "a", now()), read]
        })
        .await;
    assert_eq!(world.store.lease(now(), vec![(world.link, 10)], 10, 1).await.unwrap().commands.len(), 2);
    let later = now() + SignedDuration::from_secs(1);
    let mut taken_back = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    // Leases end by the store's own clock.
    while taken_back != (1, 1) {
        assert!(Instant::now() < deadline, "taken back: {taken_back:?}");
        let (again, unknown) = world.store.recover(later).await.unwrap();
        taken_back = (taken_back.0 + again, taken_back.1 + unknown);
    }
    assert_eq!(world.lease(later).await.len(), 1);
    assert_eq!(world.store.recover(later).await.unwrap(), (0, 0), "a lease that holds is left alone");
}

#[tokio::test]
async fn of_two_polls_from_one_place_only_the_first_is_committed() {
    let world = world().await;
    let poll = |was: Option<&str>, next: &str| {
        let cursor = Cursor { connection: world.link, was: was.map(str::to_owned), next: next.to_owned() };
        Change { cursor: Some(cursor), entries: vec![Entry { source: Source::Poll, ..world.entry() }], ..Change::default() }
    };
    world.store.apply(poll(None, "1")).await.unwrap();
    assert!(matches!(world.store.apply(poll(None, "2")).await, Err(StoreError::Conflict)));
    world.store.apply(poll(Some("1"), "2")).await.unwrap();
    assert_eq!(world.store.cursor(world.link).await.unwrap().as_deref(), Some("2"));
    assert_eq!(world.store.counts().await.unwrap().entries, [(EntryState::Unread, 2)]);
}

#[tokio::test]
async fn what_was_asked_for_under_a_key_is_done_once_until_the_key_is_free_again() {
    let world = world().await;
    let event = world.read("k", |_| Vec::new()).await;
    let ask = |at: Timestamp| {
        let mut queued = NewCommand { subject: String::new(), ..world.command(&event, "a", at) };
        queued.command.event = None;
        let once = Once { key: [7; 16], body: [1; 16], command: queued.command.id, until: at + SignedDuration::from_hours(72) };
        (once.clone(), Change { commands: vec![queued], once: Some(once), now: Some(at), ..Change::default() })
    };
    let (first, change) = ask(now());
    world.store.apply(change).await.unwrap();
    let (_, again) = ask(now() + SignedDuration::from_hours(71));
    assert!(matches!(world.store.apply(again).await, Err(StoreError::Conflict)));
    assert_eq!(world.store.once([7; 16]).await.unwrap().as_ref(), Some(&first));
    let (merchant, asked) = world.store.command(first.command).await.unwrap().expect("a command without an entry is found");
    assert_eq!((asked.id, asked.state, asked.event, merchant), (first.command, CommandState::Waiting, None, world.merchant));
    assert_eq!(world.store.command(Id::new(Kind::Command)).await.unwrap().map(|(_, command)| command.id), None);
    assert_eq!(world.store.once([8; 16]).await.unwrap(), None);
    let (later, change) = ask(now() + SignedDuration::from_hours(72));
    world.store.apply(change).await.unwrap();
    assert_eq!(world.store.once([7; 16]).await.unwrap(), Some(later));
}

#[tokio::test]
async fn events_are_kept_to_be_published_while_that_is_wanted_and_a_look_up_is_waited_for() {
    let world = world().await;
    world.read("before", |_| Vec::new()).await;
    world.store.publish(true).await.unwrap();
    let told = world.read("told", |_| Vec::new()).await;
    world.read("told", |_| Vec::new()).await;
    let asks = async |key: &str| {
        let entry = world.entry();
        world.store.append(entry.clone()).await.unwrap();
        let event = world.event(entry.id, key);
        let mut look_up = world.command(&event, key, now());
        look_up.command.job = Job::LookUp { what: serde_json::json!({}) };
        let new = NewEvent { event: event.clone(), commands: vec![look_up], call_off: None, pending: true };
        world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
        (event, world.lease(now()).await.remove(0))
    };
    let (found, command) = asks("found").await;
    let named = Event { name: Some("Anna".to_owned()), ..found.clone() };
    let (lost, lost_command) = asks("lost").await;
    let waiting = async || world.store.unpublished(10).await.unwrap();
    assert_eq!(waiting().await.iter().map(|(_, event)| event.id).collect::<Vec<_>>(), [told.id]);
    let resolved = NewEvent { event: named.clone(), commands: Vec::new(), call_off: None, pending: false };
    let settlement = Some(World::settlement(&command, CommandState::Done));
    world.store.apply(Change { settlement, resolved: Some(resolved), ..Change::default() }).await.unwrap();
    world.settle(World::settlement(&lost_command, CommandState::Dead)).await.unwrap();
    let all = waiting().await;
    assert_eq!(all.iter().map(|(_, event)| event.clone()).collect::<Vec<_>>(), [told, named, lost]);
    assert_eq!(world.store.publishing().await.unwrap().0, 3);
    world.store.published(all[..2].iter().map(|(number, _)| *number).collect()).await.unwrap();
    assert_eq!(waiting().await, all[2..]);
    world.store.publish(false).await.unwrap();
    world.read("after", |_| Vec::new()).await;
    assert_eq!(world.store.publishing().await.unwrap(), (0, None));
}

#[tokio::test]
async fn the_journal_finds_an_entry_by_its_order_number() {
    let world = world().await;
    world.read("k", |_| Vec::new()).await;
    world.read("l", |_| Vec::new()).await;
    let filter = |reference: &str| JournalFilter { reference: Some(reference.to_owned()), limit: 10, ..JournalFilter::default() };
    assert_eq!(world.store.journal(filter("77")).await.unwrap().len(), 2);
    assert!(world.store.journal(filter("78")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sound_store_breaks_no_law_and_a_broken_one_is_mended() {
    let world = world().await;
    let event = world.read("k", |event| vec![world.command(event, "a", now())]).await;
    assert!(world.store.fsck(false).await.unwrap().is_empty());
    let mut stray = world.command(&event, "z", now());
    stray.command.connection = Id::new(Kind::Connection);
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let new = NewEvent { event: world.event(entry.id, "other"), commands: vec![stray], call_off: None, pending: false };
    world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    assert_eq!(world.store.fsck(true).await.unwrap().len(), 1);
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_a_place_the_last_twenty_refusals_are_kept_newest_first() {
    let world = world().await;
    for number in 0..3 {
        let group = (0..15).map(|within| refusal("here", number * 15 + within)).chain([refusal("there", number)]);
        world.store.put_refusals(group.collect()).await.unwrap();
    }
    let here = world.store.refusals("here").await.unwrap();
    let numbers: Vec<String> = (25..45).rev().map(|number| number.to_string()).collect();
    assert_eq!(here.iter().map(|refusal| refusal.reason.clone()).collect::<Vec<_>>(), numbers);
    assert_eq!(here[0], refusal("here", 44));
    assert_eq!(world.store.refusals("there").await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_open_breaker_and_a_rhythm_are_kept_until_they_change() {
    let world = world().await;
    let open = OpenBreaker { since: now(), reason: "no answer".to_owned() };
    world.store.put_breaker(world.link, Some(open.clone())).await.unwrap();
    world.store.put_breaker(world.link, Some(open.clone())).await.unwrap();
    assert_eq!(world.store.breakers().await.unwrap(), [(world.link, open)]);
    world.store.put_breaker(world.link, None).await.unwrap();
    assert_eq!(world.store.breakers().await.unwrap(), []);

    let rhythm = Rhythm { first_at: now(), last_at: now(), count: 1, gap_ms: 0, longest_ms: 0 };
    world.store.put_rhythms(vec![(world.link, rhythm)]).await.unwrap();
    let later = Rhythm { last_at: now() + SignedDuration::from_secs(5), count: 2, gap_ms: 5_000, longest_ms: 5_000, ..rhythm };
    world.store.put_rhythms(vec![(world.link, later)]).await.unwrap();
    assert_eq!(world.store.rhythms().await.unwrap(), [(world.link, later)]);
}

#[tokio::test]
async fn an_entry_that_was_read_meanwhile_is_a_conflict_and_a_replay_is_none() {
    let world = world().await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let mark = |again| Mark { entry: entry.id, again, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
    let change = |again| {
        let new = NewEvent { event: world.event(entry.id, "k"), commands: Vec::new(), call_off: None, pending: false };
        Change { mark: Some(mark(again)), events: vec![new], ..Change::default() }
    };
    let ended = world.store.apply_all(vec![change(false), change(false)]).await;
    assert_eq!(ended[0].as_ref().unwrap().new_events, 1);
    assert!(matches!(ended[1], Err(StoreError::Conflict)));
    assert_eq!(world.store.apply(change(true)).await.unwrap().duplicates, 1);
    assert_eq!(world.store.counts().await.unwrap().entries, [(EntryState::Read, 1)], "what was read stays read");
}

#[tokio::test]
async fn a_dead_entry_that_is_read_again_is_dead_no_more() {
    let world = world().await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    for (again, state) in [(false, EntryState::Dead), (true, EntryState::Read)] {
        let mark = Mark { entry: entry.id, again, state, notes: Vec::new(), refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), ..Change::default() }).await.unwrap();
        assert_eq!(world.store.counts().await.unwrap().entries, [(state, 1)]);
    }
    assert!(world.store.dead(None, None, None).await.unwrap().is_empty());
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_backlog_that_memory_does_not_hold_is_handed_out_whole_and_in_order() {
    let world = world().await;
    let mut wanted = Vec::new();
    for _ in 0..5_000 {
        let entry = world.entry();
        wanted.push(entry.id);
        world.store.append(entry).await.unwrap();
    }
    let mut taken = Vec::new();
    loop {
        let entries = world.store.unread(300).await.unwrap();
        if entries.is_empty() {
            break;
        }
        taken.extend(entries.iter().map(|entry| entry.id));
        let marks = entries.iter().map(|entry| {
            let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
            Change { mark: Some(mark), ..Change::default() }
        });
        assert!(world.store.apply_all(marks.collect()).await.iter().all(Result::is_ok));
    }
    assert_eq!(taken, wanted);
}

#[tokio::test]
async fn a_command_that_is_due_earlier_steps_before_one_that_waits_but_not_before_one_that_was_tried() {
    let world = world().await;
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    world.read("late", |event| vec![world.command(event, "a", at(3_600))]).await;
    world.read("early", |event| vec![world.command(event, "a", at(10))]).await;
    let early = world.lease(at(20)).await.remove(0);
    let retry = Settlement { retry_at: Some(at(600)), ..World::settlement(&early, CommandState::Waiting) };
    world.settle(retry).await.unwrap();
    world.read("now", |event| vec![world.command(event, "a", at(5))]).await;
    assert!(world.lease(at(30)).await.is_empty(), "the one that was tried goes first, and it waits");
    let again = world.lease(at(600)).await.remove(0);
    assert_eq!(again.id, early.id);
    world.settle(World::settlement(&again, CommandState::Done)).await.unwrap();
    let next = world.lease(at(600)).await;
    assert_eq!(next.iter().map(|command| command.due_at).collect::<Vec<_>>(), [at(5)]);
    world.settle(World::settlement(&next[0], CommandState::Unknown)).await.unwrap();
    assert_eq!(world.lease(at(3_600)).await.len(), 1);
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

/// While it is being sent nobody steps before it; afterwards those do that are due before it, in their order.
#[tokio::test]
async fn what_was_not_tried_in_the_end_goes_behind_what_is_due_before_it() {
    let world = world().await;
    let at = |seconds| now() + SignedDuration::from_secs(seconds);
    world.read("late", |event| vec![world.command(event, "a", at(10))]).await;
    let late = world.lease(at(20)).await.remove(0);
    world.read("early", |event| vec![world.command(event, "a", at(5))]).await;
    let retry =
        |of: &Command| Settlement { retry_at: Some(at(20)), counts: false, ..World::settlement(of, CommandState::Waiting) };
    world.settle(retry(&late)).await.unwrap();
    world.read("between", |event| vec![world.command(event, "a", at(7))]).await;
    for due in [5, 7, 10] {
        let next = world.lease(at(20)).await;
        assert_eq!(next.iter().map(|command| command.due_at).collect::<Vec<_>>(), [at(due)]);
        world.settle(World::settlement(&next[0], CommandState::Done)).await.unwrap();
    }
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn of_an_entry_with_two_subjects_only_the_cancelled_one_is_called_off() {
    let world = world().await;
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let of = |subject: &str, key: &str| {
        let event = Event { subject: subject.to_owned(), ..world.event(entry.id, key) };
        let command = NewCommand { subject: subject.to_owned(), ..world.command(&event, key, now()) };
        NewEvent { event, commands: vec![command], call_off: None, pending: false }
    };
    world.store.apply(Change { events: vec![of("order/1", "one"), of("order/2", "two")], ..Change::default() }).await.unwrap();
    let later = world.entry();
    world.store.append(later.clone()).await.unwrap();
    let cancelled = Event { subject: "order/1".to_owned(), ..world.event(later.id, "cancelled") };
    let new = NewEvent { event: cancelled, commands: Vec::new(), call_off: Some("cancelled".to_owned()), pending: false };
    world.store.apply(Change { events: vec![new], ..Change::default() }).await.unwrap();
    let due = world.lease(now()).await;
    assert_eq!(due.len(), 1);
    assert!(matches!(&due[0].job, Job::Send { content, .. } if content.text == "two"));
}

#[tokio::test]
async fn references_are_found_before_and_after_they_are_put_in_order() {
    let world = world().await;
    let mut first = None;
    for number in 0..2_100 {
        let entry = world.entry();
        first.get_or_insert(entry.id);
        world.store.append(entry.clone()).await.unwrap();
        let event =
            Event { refs: vec![format!("order-{number}"), "all".to_owned()], ..world.event(entry.id, &number.to_string()) };
        let new = NewEvent { event, commands: Vec::new(), call_off: None, pending: false };
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), events: vec![new], ..Change::default() }).await.unwrap();
    }
    for (number, wanted) in [("order-0", 1), ("order-2099", 1), ("order-2100", 0), ("all", 1_000)] {
        let filter = JournalFilter { reference: Some(number.to_owned()), limit: 1_000, ..JournalFilter::default() };
        assert_eq!(world.store.journal(filter).await.unwrap().len(), wanted, "{number}");
    }
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_piece_that_cannot_be_written_does_not_take_the_others_with_it() {
    let world = world().await;
    let (good, twice) = (world.entry(), world.entry());
    world.store.append(twice.clone()).await.unwrap();
    let (one, other) = tokio::join!(world.store.append(good), world.store.append(twice));
    one.unwrap();
    assert!(matches!(other, Err(StoreError::Failed(_))));
    assert_eq!(world.store.counts().await.unwrap().entries, [(EntryState::Unread, 2)]);
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_consent_ends_an_earlier_opt_out_and_not_a_later_one() {
    let world = world().await;
    let hours = SignedDuration::from_hours;
    let says = async |granted, at| world.store.put_consent(world.merchant, "+79991234567", granted, "form", at).await.unwrap();
    let contact = async |key: &str| {
        world.read(key, |event| vec![world.command(event, key, now())]).await;
        world.lease(now()).await[0].contact
    };
    let (wants, wants_not) =
        (Contact { consented: true, ..Contact::default() }, Contact { opted_out: true, ..Contact::default() });
    assert!(says(false, now()).await);
    assert!(!says(true, now() - hours(1)).await, "an old list that is read in late");
    assert_eq!(contact("1").await, wants_not);
    assert!(says(true, now() + hours(1)).await);
    assert_eq!(contact("2").await, wants);
    // The provider's word is an opt-out too, and one that is told late counts.
    let opt_outs = vec![(world.merchant, "+79991234567".to_owned())];
    world.store.apply(Change { opt_outs, now: Some(now() + hours(2)), ..Change::default() }).await.unwrap();
    assert!(!says(true, now() + hours(1)).await);
    assert!(contact("3").await.opted_out);
    assert!(says(true, now() + hours(3)).await && says(false, now()).await);
    assert_eq!(contact("4").await, wants_not);
    assert!(!says(true, now() + hours(2)).await, "the time of the last word stays");
}

/// An id as one of that time would be.
fn id_of(kind: Kind, at: Timestamp, number: u128) -> Id {
    let value = (at.as_millisecond() as u128) << 80 | 0x7 << 76 | number << 64 | 0x2 << 62;
    Id::from_bytes(kind, value.to_be_bytes())
}

#[tokio::test]
async fn a_purge_forgets_what_is_old_and_ended_and_nothing_else() {
    let world = world().await;
    let days = |days: i64| Timestamp::now() - SignedDuration::from_hours(24 * days);
    // Of each kind an old one, and a new one that is like those that go.
    let made = |number: u128, at: Timestamp| {
        let mut entry = Entry { id: id_of(Kind::Entry, at, number), ..world.entry() };
        entry.request.received_at = at;
        let event = Event {
            id: id_of(Kind::Event, at, number),
            refs: vec![format!("order-{number}")],
            ..world.event(entry.id, &format!("key-{number}"))
        };
        let mut command = world.command(&event, &format!("order-{number}"), at);
        command.command.id = id_of(Kind::Command, at, number);
        command.subject = format!("order/{number}");
        (entry, event, command)
    };
    let exchange = |command: &Command, at: Timestamp, number: u128| Exchange {
        id: id_of(Kind::Attempt, at, number),
        merchant: world.merchant,
        connection: command.connection,
        provider: "test".to_owned(),
        at,
        endpoint: "POST /send".to_owned(),
        request: String::new(),
        response: String::new(),
        error: None,
        duration_ms: 1,
        trace: "t".to_owned(),
    };
    let read = async |entry: &Entry, event: &Event, commands: Vec<NewCommand>, state: EntryState| {
        world.store.append(entry.clone()).await.unwrap();
        let new = NewEvent { event: event.clone(), commands, call_off: None, pending: false };
        let notes = vec!["a note".to_owned()];
        let mark = Mark { entry: entry.id, again: false, state, notes, refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), events: vec![new], ..Change::default() }).await.unwrap()
    };
    let (done, done_event, send) = made(1, days(60));
    let slot = Slot { places: 1, also: None, key: [1; 16], until: days(59), reason: "asked".to_owned() };
    read(&done, &done_event, vec![NewCommand { slot: Some(slot), ..send }], EntryState::Read).await;
    let command = world.lease(Timestamp::now()).await.remove(0);
    let settlement = Settlement {
        provider_id: Some("p-1".to_owned()),
        exchanges: vec![exchange(&command, days(60), 1)],
        refs: vec!["p-1".to_owned()],
        ..World::settlement(&command, CommandState::Done)
    };
    let poll = exchange(&command, days(60), 2);
    world.store.apply(Change { settlement: Some(settlement), exchanges: vec![poll.clone()], ..Change::default() }).await.unwrap();
    let (held, held_event, call_off) = made(3, days(60));
    read(&held, &held_event, vec![NewCommand { held: Some("why".to_owned()), ..call_off }], EntryState::Read).await;
    let (dead, dead_event, _) = made(4, days(60));
    read(&dead, &dead_event, Vec::new(), EntryState::Dead).await;
    let (waiting, waiting_event, mut retry) = made(5, days(60));
    retry.command.due_at = Timestamp::now() + SignedDuration::from_hours(1);
    read(&waiting, &waiting_event, vec![retry], EntryState::Read).await;
    let (unread, ..) = made(6, days(60));
    world.store.append(unread.clone()).await.unwrap();
    let (new, new_event, _) = made(7, days(1));
    read(&new, &new_event, Vec::new(), EntryState::Read).await;
    world.store.publish(true).await.unwrap();
    let (told, told_event, _) = made(8, days(60));
    read(&told, &told_event, Vec::new(), EntryState::Read).await;
    assert_eq!(world.store.unpublished(10).await.unwrap().len(), 1);

    // One at a time, however many rounds it takes; a second round finds nothing.
    let until_over = async |limit| {
        for _ in 0..50 {
            if world.store.purge(days(30), limit).await.unwrap() == 0 {
                return;
            }
        }
        panic!("a purge without an end");
    };
    until_over(1).await;
    until_over(1_000).await;
    for (entry, stays) in [(&done, false), (&held, false), (&dead, false), (&waiting, true), (&unread, true), (&new, true)] {
        assert_eq!(world.store.entry(entry.id).await.unwrap().is_some(), stays, "{}", entry.id);
        assert_eq!(world.store.timeline(entry.id).await.unwrap().is_some(), stays, "{}", entry.id);
    }
    assert!(world.store.entry(told.id).await.unwrap().is_some(), "its event is not published yet");
    let rows =
        |reference: Option<String>| world.store.journal(JournalFilter { reference, limit: 100, ..JournalFilter::default() });
    assert_eq!(rows(None).await.unwrap().len(), 4, "exchanges go too, those of polls as well");
    for (number, found) in [(1, 0), (3, 0), (5, 1), (7, 1)] {
        assert_eq!(rows(Some(format!("order-{number}"))).await.unwrap().len(), found, "order {number}");
    }
    assert!(rows(Some("p-1".to_owned())).await.unwrap().is_empty());
    assert!(world.store.event(done_event.id).await.unwrap().is_none());
    assert!(world.store.exchange(poll.id).await.unwrap().is_none());
    assert!(world.store.undelivered(world.link, days(90), Timestamp::now(), 10).await.unwrap().is_empty());
    let counts = world.store.counts().await.unwrap();
    let mut entries = counts.entries;
    entries.sort_by_key(|(state, _)| *state as u8);
    assert_eq!(entries, [(EntryState::Unread, 1), (EntryState::Read, 3)]);
    assert_eq!(counts.commands, [(CommandState::Waiting, 1)]);
    assert_eq!(counts.held, []);
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);

    let (again, repeat, _) = made(9, days(0));
    let repeat = Event { key: done_event.key.clone(), ..repeat };
    assert_eq!(read(&again, &repeat, Vec::new(), EntryState::Read).await.duplicates, 1, "keys are kept for ever");

    let numbers = world.store.unpublished(10).await.unwrap().iter().map(|(number, _)| *number).collect();
    world.store.published(numbers).await.unwrap();
    until_over(1_000).await;
    assert!(world.store.entry(told.id).await.unwrap().is_none(), "it has been published since");
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn the_journal_tells_rows_by_the_provider_that_they_came_from() {
    let world = world().await;
    let set = async |provider: &str| {
        let row = SetupRow {
            id: world.link,
            merchant: Some(world.merchant),
            slug: "c".to_owned(),
            doc: serde_json::json!({ "provider": provider }),
            sealed: None,
            version: 0,
        };
        world.store.put_setup(Setup { rows: vec![row], ..Setup::default() }).await.unwrap();
    };
    let read = async |provider: &str, key: &str| {
        set(provider).await;
        let entry = Entry { provider: provider.to_owned(), ..world.entry() };
        world.store.append(entry.clone()).await.unwrap();
        let new = NewEvent { event: world.event(entry.id, key), commands: Vec::new(), call_off: None, pending: false };
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), events: vec![new], ..Change::default() }).await.unwrap();
        entry.id
    };
    let old = read("old", "1").await;
    let new = read("new", "2").await;
    let found = async |provider: &str, reference: Option<&str>| {
        let filter = JournalFilter {
            provider: Some(provider.to_owned()),
            reference: reference.map(str::to_owned),
            limit: 10,
            ..JournalFilter::default()
        };
        world.store.journal(filter).await.unwrap().into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(found("new", None).await, [new]);
    assert_eq!((found("old", Some("77")).await, found("new", Some("77")).await), (vec![old], vec![new]));
}

#[tokio::test]
async fn what_is_unknown_is_ended_by_a_persons_word_and_nothing_else_is() {
    use CommandState::{Dead, Done, Unknown};
    let world = world().await;
    let verdict = |command: Id, state| Verdict {
        command,
        state,
        reason: "the provider said so".to_owned(),
        provider_id: None,
        exchange: Exchange { endpoint: "settled by hand".to_owned(), ..world.exchange() },
    };
    let apply = async |verdict| world.store.apply(Change { verdict: Some(verdict), ..Change::default() }).await;
    for (key, ends) in [("a", Done), ("b", Dead)] {
        let slot = || Slot {
            places: 1,
            also: None,
            key: [key.as_bytes()[0]; 16],
            until: now() + SignedDuration::from_hours(9),
            reason: "r".to_owned(),
        };
        world.read(key, |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, key, now()) }]).await;
        let command = world.lease(now()).await.remove(0);
        assert!(matches!(apply(verdict(command.id, ends)).await, Err(StoreError::Conflict)), "it is being sent");
        world.settle(Settlement { exchanges: vec![world.exchange()], ..World::settlement(&command, Unknown) }).await.unwrap();
        apply(verdict(command.id, ends)).await.unwrap();
        assert!(matches!(apply(verdict(command.id, Done)).await, Err(StoreError::Conflict)), "it is known now");
        let (_, shown) = world.store.command(command.id).await.unwrap().unwrap();
        assert_eq!((shown.state, shown.reason.as_deref()), (ends, Some("the provider said so")));
        let endpoints: Vec<_> = shown.exchanges.iter().map(|exchange| exchange.endpoint.as_str()).collect();
        assert_eq!(endpoints, ["POST /send", "settled by hand"]);
        world.read(&format!("{key}2"), |event| vec![NewCommand { slot: Some(slot()), ..world.command(event, key, now()) }]).await;
        let next = world.lease(now()).await;
        assert_eq!(next.len(), usize::from(ends == Dead), "only what went has asked somebody");
        for command in &next {
            world.settle(World::settlement(command, Done)).await.unwrap();
        }
    }
    assert_eq!(world.store.dead(None, None, None).await.unwrap().len(), 1, "what failed may be replayed");
    let counts = world.store.counts().await.unwrap();
    assert!(!counts.commands.iter().any(|(state, count)| *state == Unknown && *count > 0), "{counts:?}");
    assert!(world.store.fsck(false).await.unwrap().is_empty());
    assert!(matches!(apply(verdict(Id::new(Kind::Command), Done)).await, Err(StoreError::Conflict)), "there is none such");
}

#[tokio::test]
async fn a_message_that_was_found_again_is_known_by_its_id_and_is_no_other_commands() {
    use CommandState::{Done, Unknown};
    let world = world().await;
    let mut commands = Vec::new();
    for key in ["a", "b"] {
        world.read(key, |event| vec![world.command(event, key, now())]).await;
        let command = world.lease(now()).await.remove(0);
        world.settle(Settlement { exchanges: vec![world.exchange()], ..World::settlement(&command, Unknown) }).await.unwrap();
        commands.push(command.id);
    }
    let found = async |command: Id, state| {
        let news = StatusNews::new("m-1", state, "delivered");
        let verdict = Verdict {
            command,
            state: Done,
            reason: "found".to_owned(),
            provider_id: Some("m-1".to_owned()),
            exchange: world.exchange(),
        };
        let statuses = vec![(world.link, news)];
        world.store.apply(Change { verdict: Some(verdict), statuses, ..Change::default() }).await
    };
    found(commands[0], Delivery::Delivered).await.unwrap();
    assert!(matches!(found(commands[1], Delivery::Failed).await, Err(StoreError::Conflict)), "it is the other's");
    let (_, shown) = world.store.command(commands[0]).await.unwrap().unwrap();
    assert_eq!((shown.state, shown.provider_id.as_deref(), shown.delivery), (Done, Some("m-1"), Some(Delivery::Delivered)));
    let (_, other) = world.store.command(commands[1]).await.unwrap().unwrap();
    assert_eq!((other.state, other.provider_id, other.delivery), (Unknown, None, None));
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_null_sign_in_what_is_kept_stops_nobody() {
    let world = world().await;
    let other = Id::new(Kind::Connection);
    let row = SetupRow {
        id: other,
        merchant: Some(world.merchant),
        slug: "a\0b".to_owned(),
        doc: serde_json::json!({ "provider": "test", "settings": { "greeting": "a\0b", "path": "c:\\u0000" } }),
        sealed: None,
        version: 0,
    };
    let key = KeyRow {
        hash: vec![1],
        id: "k\0".to_owned(),
        of: None,
        about: "owner\0".to_owned(),
        webhook: false,
        label: "l\0".to_owned(),
        made_at: now(),
        expires_at: None,
        last_used_at: None,
    };
    world.store.put_setup(Setup { rows: vec![row], keys: vec![key], ..Setup::default() }).await.unwrap();
    let mut entry = world.entry();
    entry.connection = other;
    world.store.append(entry.clone()).await.unwrap();
    let filter = JournalFilter { provider: Some("test".to_owned()), limit: 10, ..JournalFilter::default() };
    assert_eq!(world.store.journal(filter).await.unwrap().len(), 1);
    world.store.put_breaker(world.link, Some(OpenBreaker { since: now(), reason: "a\0b".to_owned() })).await.unwrap();
    assert_eq!(world.store.breakers().await.unwrap().len(), 1);
    world.store.put_refusals(vec![refusal("p\0", 1)]).await.unwrap();
    assert_eq!(world.store.refusals("p\0").await.unwrap().len(), 1);
    // A text that a provider's body brought it into is sent, and so is what waits beside it.
    world.read("k", |event| vec![world.command(event, "a\0b", now()), world.command(event, "c", now())]).await;
    let leased = world.lease(now()).await;
    assert_eq!(leased.len(), 2);
    world.settle(World::settlement(&leased[0], CommandState::Dead)).await.unwrap();
    assert_eq!(world.store.dead(Some("te\0st".to_owned()), None, None).await.unwrap(), []);
    assert_eq!(world.store.dead(Some("test".to_owned()), None, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn fsck_says_of_two_first_commands_that_are_both_being_sent_that_they_are_left() {
    let world = world().await;
    world.read("k", |event| vec![world.command(event, "a", now()), world.command(event, "b", now())]).await;
    let leased = world.lease(now()).await;
    if !world.by_hand.one_key_for_all().await {
        return;
    }
    let broken = "1 ordering keys with more than one first command";
    assert_eq!(world.store.fsck(false).await.unwrap(), [format!("{broken} (can be mended by --repair)")]);
    let left = "1 left: what is being sent is not touched, look again when that has ended";
    assert_eq!(world.store.fsck(true).await.unwrap(), [format!("{broken} ({left})")]);
    world.settle(World::settlement(&leased[0], CommandState::Done)).await.unwrap();
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_was_to_be_published_and_is_gone_is_counted_no_more_after_fsck_or_a_purge() {
    for purges in [false, true] {
        let world = world().await;
        world.store.publish(true).await.unwrap();
        for key in ["a", "b"] {
            world.read(key, |_| Vec::new()).await;
        }
        if !world.by_hand.forget_first_event().await {
            return;
        }
        assert_eq!(world.store.publishing().await.unwrap().0, 2);
        if purges {
            while world.store.purge(now() - SignedDuration::from_hours(24), 10).await.unwrap() > 0 {}
        } else {
            let broken = "1 events to be published that are gone";
            assert_eq!(world.store.fsck(false).await.unwrap(), [format!("{broken} (can be mended by --repair)")]);
            assert_eq!(world.store.fsck(true).await.unwrap(), [format!("{broken} (mended)")]);
        }
        assert_eq!(world.store.publishing().await.unwrap().0, 1, "purged: {purges}");
        assert_eq!(world.store.unpublished(10).await.unwrap().len(), 1);
        assert!(world.store.fsck(false).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_keys_that_seal_change_all_at_once_and_only_if_nothing_has_changed_since() {
    let world = world().await;
    let (store, link) = (&world.store, world.link);
    let envelope = |merchant: Option<Id>, wrapped: &[u8]| Envelope {
        id: Id::new(Kind::Key),
        purpose: if merchant.is_none() { Purpose::Hash } else { Purpose::Seal },
        merchant,
        wrapped: wrapped.to_vec(),
    };
    let (hash, seal) = (envelope(None, b"hash"), envelope(Some(world.merchant), b"seal"));
    let row = |sealed: &[u8]| SetupRow {
        id: link,
        merchant: Some(world.merchant),
        slug: "c".to_owned(),
        doc: serde_json::json!({}),
        sealed: Some(sealed.to_vec()),
        version: 0,
    };
    store.put_setup(Setup { rows: vec![row(b"one")], ..Setup::default() }).await.unwrap();
    store.put_session(link, b"login one".to_vec()).await.unwrap();
    let first = Rekeying { check: b"key".to_vec(), envelopes: vec![hash.clone(), seal.clone()], ..Rekeying::default() };
    store.rekey(first.clone()).await.unwrap();
    assert!(matches!(store.rekey(first).await, Err(StoreError::Conflict)));
    let state = async || (store.setup().await.unwrap(), store.sealed().await.unwrap());
    let (setup, sealed) = state().await;
    assert_eq!(setup.envelopes, [hash.clone(), seal.clone()]);
    assert_eq!((sealed.check, sealed.check_before), (Some(b"key".to_vec()), None));
    assert_eq!(sealed.sessions, [(link, b"login one".to_vec())]);

    let resealed = |was: &[u8], now: &[u8]| vec![Resealed { id: link, was: was.to_vec(), now: now.to_vec() }];
    let next = Envelope { wrapped: b"wrapped anew".to_vec(), ..hash.clone() };
    let right = Rekeying {
        was: Some(b"key".to_vec()),
        check: b"next".to_vec(),
        known: vec![seal.id, hash.id],
        envelopes: vec![next.clone()],
        dropped: vec![seal.id],
        settings: resealed(b"one", b"two"),
        sessions: resealed(b"login one", b"login two"),
    };
    for wrong in [
        Rekeying { was: None, ..right.clone() },
        Rekeying { was: Some(b"another".to_vec()), ..right.clone() },
        Rekeying { known: vec![hash.id], ..right.clone() },
        Rekeying { settings: resealed(b"another", b"two"), ..right.clone() },
        Rekeying { sessions: resealed(b"another", b"login two"), ..right.clone() },
    ] {
        assert!(matches!(store.rekey(wrong).await, Err(StoreError::Conflict)));
        let (setup, sealed) = state().await;
        assert_eq!((setup.envelopes, sealed.check), (vec![hash.clone(), seal.clone()], Some(b"key".to_vec())));
        assert_eq!(setup.rows.iter().find(|row| row.id == link).unwrap().sealed.as_deref(), Some(&b"one"[..]));
    }
    store.rekey(right).await.unwrap();
    let (setup, sealed) = state().await;
    assert_eq!(setup.envelopes, [next]);
    assert_eq!(setup.rows.iter().find(|row| row.id == link).unwrap().sealed.as_deref(), Some(&b"two"[..]));
    assert_eq!((sealed.check, sealed.check_before), (Some(b"next".to_vec()), Some(b"key".to_vec())));
    assert_eq!(sealed.sessions, [(link, b"login two".to_vec())]);
}

#[path = "heard.rs"]
mod heard;
#[path = "people.rs"]
mod people;
