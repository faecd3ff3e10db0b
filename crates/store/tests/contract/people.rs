//! What people and their programs ask of a store: events and commands by pages, the feed, erasure, retention of one merchant.

use uzel_model::phone;
use uzel_store::{
    Cancelled, CommandFilter, ERASED, Erased, ErasurePlace, EventFilter, FeedCursor, FeedFrom, Refusal, StoredEvent,
};

use super::*;

const PHONE: &str = "+79991234567";

impl World {
    /// One more connection, of another merchant where one is named.
    async fn connect(&self, merchant: Id) -> Id {
        let link = Id::new(Kind::Connection);
        let row = |id: Id, merchant| SetupRow {
            id,
            merchant,
            slug: id.to_string(),
            doc: serde_json::json!({ "provider": "test" }),
            version: 0,
            sealed: None,
        };
        let mut rows = vec![row(link, Some(merchant))];
        if merchant != self.merchant {
            rows.push(row(merchant, None));
        }
        self.store.put_setup(Setup { rows, ..Setup::default() }).await.unwrap();
        link
    }

    /// An event read from an entry of its own, with these commands.
    async fn tell(&self, change: impl FnOnce(&mut Entry, &mut Event), commands: impl Fn(&Event) -> Vec<NewCommand>) -> Event {
        let mut entry = self.entry();
        let mut event = self.event(entry.id, &entry.id.to_string());
        change(&mut entry, &mut event);
        (entry.merchant, entry.connection) = (event.merchant, event.connection);
        self.store.append(entry.clone()).await.unwrap();
        let commands = commands(&event);
        let pending = commands.iter().any(|new| matches!(new.command.job, Job::LookUp { .. }));
        let new = NewEvent { event: event.clone(), commands, call_off: None, pending };
        let mark = Mark { entry: entry.id, again: false, state: EntryState::Read, notes: Vec::new(), refs: Vec::new() };
        self.store.apply(Change { mark: Some(mark), events: vec![new], now: Some(now()), ..Change::default() }).await.unwrap();
        event
    }

    fn look_up(&self, event: &Event) -> NewCommand {
        let mut look_up = self.command(event, &event.key, now());
        look_up.command.job = Job::LookUp { what: serde_json::json!({ "id": 7 }) };
        look_up
    }

    async fn events(&self, filter: EventFilter) -> Vec<Id> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        self.store.events(EventFilter { limit, ..filter }).await.unwrap().into_iter().map(|stored| stored.event.id).collect()
    }

    async fn commands(&self, filter: CommandFilter) -> Vec<Id> {
        let limit = if filter.limit == 0 { 100 } else { filter.limit };
        let found = self.store.commands(CommandFilter { limit, ..filter }).await.unwrap();
        found.into_iter().map(|(_, command)| command.id).collect()
    }

    /// All that the feed tells after a place, one portion after another.
    async fn follow(&self, merchant: Option<Id>, kinds: &[&str], mut from: FeedFrom) -> (Vec<StoredEvent>, FeedCursor) {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let mut events = Vec::new();
        loop {
            let page = self.store.feed(merchant, kinds.clone(), from, 3).await.unwrap();
            events.extend(page.events);
            if !page.more {
                return (events, page.cursor);
            }
            from = FeedFrom::After(page.cursor.to_string().parse().unwrap());
        }
    }

    /// The ids of so many events that the feed tells after a place: what has just been committed may be told some moments later.
    async fn told(&self, merchant: Option<Id>, kinds: &[&str], from: FeedFrom, count: usize) -> Vec<Id> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (events, _) = self.follow(merchant, kinds, from).await;
            if events.len() >= count || Instant::now() > deadline {
                return events.into_iter().map(|stored| stored.event.id).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The place in the feed after all so far.
    async fn here(&self) -> FeedFrom {
        let stored = self.store.events(EventFilter { limit: 100, ..EventFilter::default() }).await.unwrap();
        let Some(oldest) = stored.last().map(|stored| stored.event.id) else {
            return FeedFrom::After(self.store.feed(None, Vec::new(), FeedFrom::Now, 1).await.unwrap().cursor);
        };
        let start = FeedFrom::Time(Timestamp::from_millisecond(oldest.ordinal() >> 12).unwrap());
        self.told(None, &[], start, stored.iter().filter(|stored| !stored.pending).count()).await;
        FeedFrom::After(self.follow(None, &[], start).await.1)
    }

    async fn erase(&self, merchant: Id) -> Erased {
        self.store.hash_phones_by(Arc::new(|merchant, phone| {
            let mut hash = [0; 32];
            let both = [merchant.as_bytes().as_slice(), phone.as_bytes()].concat();
            both.iter().enumerate().for_each(|(place, byte)| hash[place % 32] ^= byte.rotate_left(place as u32 / 32));
            hash
        }));
        let mut all = Erased::default();
        let mut place = Some(ErasurePlace::default());
        while let Some(here) = place {
            let erased = self.store.erase(merchant, PHONE, here, 2).await.unwrap();
            all.add(&erased);
            place = erased.next;
        }
        all
    }
}

async fn heard(news: &mut tokio::sync::watch::Receiver<u64>) {
    tokio::time::timeout(Duration::from_secs(30), news.changed()).await.unwrap().unwrap();
}

#[tokio::test]
async fn events_are_found_by_whom_and_what_they_tell_newest_first() {
    let world = world().await;
    let stranger = Id::new(Kind::Merchant);
    let (other, foreign) = (world.connect(world.merchant).await, world.connect(stranger).await);
    let order = world.tell(|_, event| event.subject = "order/7".to_owned(), |_| Vec::new()).await;
    let deal = world.tell(|_, event| (event.connection, event.kind) = (other, "deal.won".to_owned()), |_| Vec::new()).await;
    let off = world
        .tell(
            |_, event| (event.kind, event.subject) = ("order.cancelled".to_owned(), "order/7".to_owned()),
            |event| vec![world.look_up(event)],
        )
        .await;
    let theirs = world.tell(|_, event| (event.merchant, event.connection) = (stranger, foreign), |_| Vec::new()).await;
    let found = async |filter| world.events(filter).await;
    let own = || EventFilter { merchant: Some(world.merchant), ..EventFilter::default() };
    assert_eq!(found(EventFilter::default()).await, [theirs.id, off.id, deal.id, order.id]);
    assert_eq!(found(own()).await, [off.id, deal.id, order.id]);
    assert_eq!(found(EventFilter { kinds: vec!["order.*".to_owned()], ..own() }).await, [off.id, order.id]);
    let two = vec!["deal.won".to_owned(), "order.completed".to_owned()];
    assert_eq!(found(EventFilter { kinds: two.clone(), ..own() }).await, [deal.id, order.id]);
    assert_eq!(found(EventFilter { kinds: two, ..EventFilter::default() }).await, [theirs.id, deal.id, order.id]);
    assert_eq!(found(EventFilter { connection: Some(other), ..own() }).await, [deal.id]);
    assert_eq!(found(EventFilter { connection: Some(foreign), ..own() }).await, []);
    let subject = |subject: &str| EventFilter { subject: Some(subject.to_owned()), ..own() };
    assert_eq!(found(subject("order/7")).await, [off.id, order.id]);
    assert_eq!(found(EventFilter { kinds: vec!["order.completed".to_owned()], ..subject("order/7") }).await, [order.id]);
    assert_eq!(found(EventFilter { merchant: None, ..subject("order/1") }).await, [theirs.id, deal.id]);
    // A page after another.
    assert_eq!(found(EventFilter { limit: 2, ..own() }).await, [off.id, deal.id]);
    assert_eq!(found(EventFilter { limit: 2, before: Some(deal.id), ..own() }).await, [order.id]);
    assert_eq!(found(EventFilter { before: Some(off.id), ..subject("order/7") }).await, [order.id]);
    let hour = SignedDuration::from_hours(1);
    assert_eq!(
        found(EventFilter { from: Some(Timestamp::now() - hour), to: Some(Timestamp::now() + hour), ..own() }).await.len(),
        3
    );
    assert_eq!(found(EventFilter { from: Some(Timestamp::now() + hour), ..own() }).await, []);
    assert_eq!(found(EventFilter { to: Some(Timestamp::now() - hour), ..own() }).await, []);
    let stored = world.store.events(EventFilter { limit: 3, ..own() }).await.unwrap();
    assert_eq!(stored.iter().map(|stored| stored.pending).collect::<Vec<_>>(), [true, false, false]);
}

#[tokio::test]
async fn the_feed_tells_each_event_once_when_it_is_whole() {
    let world = world().await;
    let mut news = world.store.told();
    let before = world.tell(|_, _| {}, |_| Vec::new()).await;
    heard(&mut news).await;
    let start = world.here().await;
    let pending = world.tell(|_, event| event.key = "found".to_owned(), |event| vec![world.look_up(event)]).await;
    let lost = world.tell(|_, event| event.key = "lost".to_owned(), |event| vec![world.look_up(event)]).await;
    let whole = world.tell(|_, event| event.kind = "deal.won".to_owned(), |_| Vec::new()).await;
    assert_eq!(world.told(None, &[], start, 1).await, [whole.id]);
    let leased = world.lease(now()).await;
    news.mark_unchanged();
    let named = Event { name: Some("Anna".to_owned()), ..pending.clone() };
    let resolved = NewEvent { event: named.clone(), commands: Vec::new(), call_off: None, pending: false };
    for command in &leased {
        let (state, resolved) = match command.event == Some(pending.id) {
            true => (CommandState::Done, Some(resolved.clone())),
            false => (CommandState::Dead, None),
        };
        let settlement = Some(World::settlement(command, state));
        world.store.apply(Change { settlement, resolved, ..Change::default() }).await.unwrap();
    }
    heard(&mut news).await;
    let told = world.told(None, &[], start, 3).await;
    assert_eq!((told[0], told.len()), (whole.id, 3));
    // Twice the same again, from the same place; after its end nothing.
    let (events, end) = world.follow(None, &[], start).await;
    assert_eq!(events.iter().map(|stored| stored.event.id).collect::<Vec<_>>(), told);
    assert!(events.iter().any(|stored| stored.event == named) && events.iter().any(|stored| stored.event.id == lost.id));
    assert!(world.follow(None, &[], FeedFrom::After(end)).await.0.is_empty());
    // A look-up that is found after all, by a replay, tells nothing twice.
    let look_up = NewEvent { commands: vec![world.look_up(&lost)], event: lost.clone(), call_off: None, pending: true };
    world.store.apply(Change { resolved: Some(look_up), ..Change::default() }).await.unwrap();
    let again = world.lease(now()).await.remove(0);
    let resolved = Some(NewEvent { event: lost.clone(), commands: Vec::new(), call_off: None, pending: false });
    let settlement = Some(World::settlement(&again, CommandState::Done));
    world.store.apply(Change { settlement, resolved, ..Change::default() }).await.unwrap();
    let last = world.tell(|_, _| {}, |_| Vec::new()).await;
    assert_eq!(world.told(None, &[], FeedFrom::After(end), 1).await, [last.id]);
    assert_eq!(world.told(None, &["deal.*"], start, 1).await, [whole.id]);
    assert_eq!(world.told(Some(world.merchant), &[], start, 4).await.len(), 4);
    assert!(world.told(Some(Id::new(Kind::Merchant)), &[], start, 0).await.is_empty());
    let all = world.told(None, &[], FeedFrom::Time(Timestamp::now() - SignedDuration::from_hours(1)), 5).await;
    assert_eq!((all[0], all.len()), (before.id, 5));
    let (none, now) = world.follow(None, &[], FeedFrom::Time(Timestamp::now() + SignedDuration::from_hours(1))).await;
    assert!(none.is_empty() && now >= end);
}

#[tokio::test]
async fn a_place_in_the_feed_outlives_the_events_there() {
    let world = world().await;
    let start = world.here().await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(world.tell(|_, _| {}, |_| Vec::new()).await.id);
    }
    assert_eq!(world.told(None, &[], start, 4).await, told);
    let page = world.store.feed(None, Vec::new(), start, 2).await.unwrap();
    // Forgotten: those that were told, and one that was not.
    while world.store.purge(Timestamp::now(), 3).await.unwrap() > 0 {}
    assert!(world.events(EventFilter::default()).await.is_empty());
    let next = world.tell(|_, _| {}, |_| Vec::new()).await;
    assert_eq!(world.told(None, &[], FeedFrom::After(page.cursor), 1).await, [next.id]);
}

#[tokio::test]
async fn commands_are_found_by_what_became_of_them_newest_first() {
    let world = world().await;
    let other = world.connect(world.merchant).await;
    let event = world
        .tell(
            |_, _| {},
            |event| {
                let held = NewCommand { held: Some("opt_out".to_owned()), ..world.command(event, "held", now()) };
                let mut elsewhere = world.command(event, "elsewhere", now());
                elsewhere.command.connection = other;
                vec![world.command(event, "done", now()), held, elsewhere]
            },
        )
        .await;
    let leased = world.lease(now()).await.remove(0);
    world.settle(World::settlement(&leased, CommandState::Done)).await.unwrap();
    let mut asked = world.command(&event, "asked", now());
    asked.command.event = None;
    let asked_id = asked.command.id;
    let later = world.command(&event, "asked", now() + SignedDuration::from_hours(9));
    let later_id = later.command.id;
    world.store.apply(Change { commands: vec![asked, later], ..Change::default() }).await.unwrap();
    let sending = world.lease(now()).await.remove(0);
    assert_eq!(sending.id, asked_id);
    let all = world.commands(CommandFilter::default()).await;
    assert_eq!((all.len(), all.is_sorted_by(|one, next| one > next)), (5, true));
    let own = || CommandFilter { merchant: Some(world.merchant), ..CommandFilter::default() };
    assert_eq!(world.commands(own()).await, all);
    assert_eq!(world.commands(CommandFilter { merchant: Some(Id::new(Kind::Merchant)), ..own() }).await, []);
    assert_eq!(world.commands(CommandFilter { connection: Some(other), ..own() }).await.len(), 1);
    assert_eq!(world.commands(CommandFilter { limit: 2, ..own() }).await, all[..2]);
    assert_eq!(world.commands(CommandFilter { limit: 2, before: Some(all[1]), ..own() }).await, all[2..4]);
    let of_event = world.commands(CommandFilter { event: Some(event.id), ..own() }).await;
    assert_eq!((of_event.len(), of_event.contains(&asked_id)), (4, false));
    let in_state = async |state| world.commands(CommandFilter { state: Some(state), ..own() }).await;
    assert_eq!(in_state(CommandState::Done).await, [leased.id]);
    assert_eq!(in_state(CommandState::Sending).await, [asked_id]);
    assert_eq!(in_state(CommandState::Held).await.len(), 1);
    assert_eq!(in_state(CommandState::Dead).await, []);
    let waiting = in_state(CommandState::Waiting).await;
    assert_eq!((waiting.len(), waiting[0]), (2, later_id), "those behind another are found too");
    let found = world.store.commands(CommandFilter { limit: 1, ..own() }).await.unwrap().remove(0);
    assert_eq!((found.0, found.1.state), (world.merchant, CommandState::Waiting));
    let past = CommandFilter { to: Some(Timestamp::now() - SignedDuration::from_hours(1)), ..own() };
    assert_eq!(world.commands(past).await, []);
}

#[tokio::test]
async fn a_command_is_called_off_only_while_it_waits() {
    let world = world().await;
    let slot = || Slot { key: [7; 16], until: now() + SignedDuration::from_hours(24), reason: "asked_recently".to_owned() };
    let event = world
        .tell(
            |_, _| {},
            |event| {
                let first = NewCommand { slot: Some(slot()), ..world.command(event, "k", now()) };
                vec![first, world.command(event, "k", now() + SignedDuration::from_secs(1))]
            },
        )
        .await;
    let first = world.lease(now()).await.remove(0);
    let cancel = async |id| world.store.cancel(id, "by a person").await.unwrap();
    assert_eq!(cancel(first.id).await, Cancelled::Sending);
    let again = Settlement { retry_at: Some(now()), counts: false, ..World::settlement(&first, CommandState::Waiting) };
    world.settle(again).await.unwrap();
    assert_eq!(cancel(first.id).await, Cancelled::Held);
    assert_eq!(cancel(first.id).await, Cancelled::Ended(CommandState::Held));
    assert_eq!(cancel(Id::new(Kind::Command)).await, Cancelled::Unknown);
    assert_eq!(world.store.counts().await.unwrap().held, [("by a person".to_owned(), 1)]);
    let next = world.lease(now() + SignedDuration::from_secs(5)).await.remove(0);
    assert_ne!(next.id, first.id, "the next of its key steps forward");
    // Its slot is free again.
    let commands = vec![NewCommand { slot: Some(slot()), ..world.command(&event, "l", now()) }];
    world.store.apply(Change { commands, ..Change::default() }).await.unwrap();
    assert_eq!(world.lease(now()).await.len(), 1);
    // An event that waits for a look-up is told as it is.
    let start = world.here().await;
    let pending = world.tell(|_, _| {}, |event| vec![world.look_up(event)]).await;
    let look_up = world.commands(CommandFilter { event: Some(pending.id), ..CommandFilter::default() }).await[0];
    assert_eq!(cancel(look_up).await, Cancelled::Held);
    assert_eq!(world.told(None, &[], start, 1).await, [pending.id]);
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}

#[tokio::test]
async fn dead_letters_of_a_connection_are_read_page_by_page() {
    let world = world().await;
    let other = world.connect(world.merchant).await;
    let mut dead = Vec::new();
    for place in 0..4 {
        let mut entry = world.entry();
        if place == 3 {
            entry.connection = other;
        }
        world.store.append(entry.clone()).await.unwrap();
        let mark =
            Mark { entry: entry.id, again: false, state: EntryState::Dead, notes: vec!["why".to_owned()], refs: Vec::new() };
        world.store.apply(Change { mark: Some(mark), ..Change::default() }).await.unwrap();
        dead.insert(0, entry.id);
    }
    let led = world.tell(|_, _| {}, |event| vec![world.command(event, "k", now())]).await;
    let command = world.lease(now()).await.remove(0);
    world.settle(World::settlement(&command, CommandState::Dead)).await.unwrap();
    world.tell(|_, _| {}, |_| Vec::new()).await;
    dead.insert(0, led.entry);
    let page = async |filter: JournalFilter| {
        let rows = world.store.journal(JournalFilter { merchant: Some(world.merchant), ..filter }).await.unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let all = || JournalFilter { state: Some(EntryState::Dead), limit: 2, ..JournalFilter::default() };
    let first = page(all()).await;
    assert_eq!(first, dead[..2]);
    let second = page(JournalFilter { before: Some(first[1]), ..all() }).await;
    assert_eq!(second, dead[2..4]);
    assert_eq!(page(JournalFilter { before: Some(second[1]), ..all() }).await, dead[4..]);
    assert_eq!(page(JournalFilter { connection: Some(other), ..all() }).await, dead[1..2]);
    assert_eq!(page(JournalFilter { connection: Some(other), limit: 9, ..JournalFilter::default() }).await, dead[1..2]);
    assert_eq!(page(JournalFilter { state: Some(EntryState::Read), limit: 9, ..JournalFilter::default() }).await.len(), 2);
    assert!(page(JournalFilter { state: Some(EntryState::Unread), limit: 9, ..JournalFilter::default() }).await.is_empty());
}

#[tokio::test]
async fn of_an_erased_person_ids_times_and_amounts_stay_and_nothing_else() {
    let world = world().await;
    let stranger = Id::new(Kind::Merchant);
    let foreign = world.connect(stranger).await;
    let phone = || phone::read_text(PHONE, "RU").ok();
    let told_of = |entry: &mut Entry, event: &mut Event| {
        entry.request.body = Bytes::from_static(b"{\"phone\":\"8 (999) 123-45-67\",\"name\":\"Mary\"}");
        (event.phone, event.name) = (phone(), Some("Mary".to_owned()));
        event.data = serde_json::json!({ "sum": "1200.50", "comment": "Mary calls at night" });
    };
    let event = world
        .tell(told_of, |event| {
            vec![world.command(event, "now", now()), world.command(event, "then", now() + SignedDuration::from_hours(1))]
        })
        .await;
    let sent = world.lease(now()).await.remove(0);
    let exchange = |id: Id| Exchange {
        id,
        merchant: world.merchant,
        connection: world.link,
        provider: "test".to_owned(),
        at: now(),
        endpoint: "POST /send".to_owned(),
        request: format!("to={PHONE}&text=Mary"),
        response: String::new(),
        error: None,
        duration_ms: 1,
        trace: "of a poll".to_owned(),
    };
    let (by_command, by_poll, other) = (Id::new(Kind::Attempt), Id::new(Kind::Attempt), Id::new(Kind::Attempt));
    let done = Settlement { exchanges: vec![exchange(by_command)], ..World::settlement(&sent, CommandState::Done) };
    let harmless = Exchange { request: "of nobody".to_owned(), trace: "of another poll".to_owned(), ..exchange(other) };
    let exchanges = vec![exchange(by_poll), harmless];
    world.store.apply(Change { settlement: Some(done), exchanges, ..Change::default() }).await.unwrap();
    // A body of a poll with two people, a body that nobody could read, a look-up, a text that was asked for.
    let two = world.entry();
    let two = Entry { source: Source::Poll, trace: "of a poll".to_owned(), ..two };
    world.store.append(two.clone()).await.unwrap();
    let other_phone = phone::read_text("+79990000001", "RU").ok();
    let his = Event { phone: other_phone, name: Some("Peter".to_owned()), ..world.event(two.id, "his") };
    let hers = Event { phone: phone(), name: Some("Mary".to_owned()), ..world.event(two.id, "hers") };
    let events = [his.clone(), hers.clone()];
    let events = events.map(|event| NewEvent { event, commands: Vec::new(), call_off: None, pending: false }).to_vec();
    let mark = |entry: Id, state| Mark { entry, again: false, state, notes: vec!["of Mary".to_owned()], refs: Vec::new() };
    world.store.apply(Change { mark: Some(mark(two.id, EntryState::Read)), events, ..Change::default() }).await.unwrap();
    let mut unreadable = world.entry();
    unreadable.request.body = Bytes::from_static(b"<tel>+7 999 123-45-67</tel>");
    world.store.append(unreadable.clone()).await.unwrap();
    world.store.apply(Change { mark: Some(mark(unreadable.id, EntryState::Dead)), ..Change::default() }).await.unwrap();
    let looked_up = world
        .tell(|entry, _| entry.request.body = Bytes::from_static(b"{\"name\":\"Mary\"}"), |event| vec![world.look_up(event)])
        .await;
    let look_up = world.lease(now()).await.remove(0);
    let found = Event { phone: phone(), name: Some("Mary".to_owned()), ..looked_up.clone() };
    let resolved = Some(NewEvent { event: found, commands: Vec::new(), call_off: None, pending: false });
    let settlement = Some(World::settlement(&look_up, CommandState::Done));
    world.store.apply(Change { settlement, resolved, ..Change::default() }).await.unwrap();
    let mut asked = world.command(&event, "asked", now() + SignedDuration::from_hours(1));
    asked.command.event = None;
    let asked_id = asked.command.id;
    world.store.apply(Change { commands: vec![asked], ..Change::default() }).await.unwrap();
    // Another merchant's guest with the same phone.
    let theirs = world
        .tell(
            |entry, event| {
                told_of(entry, event);
                (event.merchant, event.connection) = (stranger, foreign);
            },
            |_| Vec::new(),
        )
        .await;
    let refusal = |place: String| Refusal {
        place,
        at: now(),
        peer: None,
        method: "POST".to_owned(),
        path: "/hooks".to_owned(),
        reason: "forged".to_owned(),
        keys: Vec::new(),
        query: Vec::new(),
        headers: Vec::new(),
        body: "tel=89991234567".to_owned(),
        cut: false,
    };
    let places = [world.link.to_string(), foreign.to_string()];
    world.store.put_refusals(places.clone().map(refusal).to_vec()).await.unwrap();
    assert!(world.store.put_consent(world.merchant, PHONE, false, "by word", now()).await.unwrap());

    let erased = world.erase(world.merchant).await;
    assert_eq!((erased.entries, erased.events, erased.commands, erased.contacts, erased.busy), (4, 3, 4, 1, 0), "{erased:?}");
    for entry in [event.entry, two.id, unreadable.id, looked_up.entry] {
        let stored = world.store.entry(entry).await.unwrap().unwrap();
        assert!(stored.is_erased() && stored.request.body.is_empty() && stored.request.headers.is_empty());
        let timeline = format!("{:?}", world.store.timeline(entry).await.unwrap().unwrap());
        assert!(!timeline.contains("Mary") && !timeline.contains("1234567"), "{timeline}");
    }
    let left = world.store.event(event.id).await.unwrap().unwrap();
    assert_eq!((left.id, left.at, &left.refs, &left.subject), (event.id, event.at, &event.refs, &event.subject));
    assert_eq!(left.data, serde_json::json!({ "sum": "1200.50", "comment": null }));
    assert_eq!(world.store.event(his.id).await.unwrap(), Some(his), "another's event stays");
    assert_eq!(world.store.event(theirs.id).await.unwrap(), Some(theirs.clone()), "and another merchant's");
    assert_eq!(world.store.entry(theirs.entry).await.unwrap().unwrap().request.method, "POST");
    for (id, stays) in [(by_command, false), (by_poll, false), (other, true)] {
        assert_eq!(world.store.exchange(id).await.unwrap().unwrap().endpoint != ERASED, stays);
    }
    let waited = world.store.command(asked_id).await.unwrap().unwrap().1;
    assert_eq!((waited.state, waited.reason.as_deref()), (CommandState::Held, Some("erased")));
    assert!(!waited.job.to_string().contains("999") && waited.job.to_string().contains("send"));
    let by_phone = JournalFilter { reference: Some(PHONE.to_owned()), limit: 10, ..JournalFilter::default() };
    let rows = world.store.journal(by_phone).await.unwrap();
    assert_eq!(rows.into_iter().map(|row| row.merchant_id).collect::<Vec<_>>(), [stranger]);
    assert!(world.lease(now() + SignedDuration::from_hours(2)).await.is_empty());
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);

    // Whoever wanted no messages gets none when the phone comes again, unless they agree again later.
    let contact = async |key: &str| {
        world.read(key, |event| vec![world.command(event, key, now())]).await;
        world.lease(now()).await.remove(0).contact
    };
    assert!(contact("again").await.opted_out);
    let hour = SignedDuration::from_hours(1);
    assert!(!world.store.put_consent(world.merchant, PHONE, true, "form", now() - hour).await.unwrap());
    assert!(contact("still").await.opted_out);
    assert!(world.store.put_consent(world.merchant, PHONE, true, "form", now() + hour).await.unwrap());
    assert_eq!(contact("wanted").await, Contact { consented: true, ..Contact::default() });
}

#[tokio::test]
async fn what_is_being_sent_is_left_by_an_erasure_and_erased_by_the_next() {
    let world = world().await;
    let phone = phone::read_text(PHONE, "RU").ok();
    let event = world.tell(|_, event| event.phone = phone.clone(), |event| vec![world.command(event, "k", now())]).await;
    let sending = world.lease(now()).await.remove(0);
    assert!(world.erase(world.merchant).await.busy > 0);
    assert!(world.store.event(event.id).await.unwrap().unwrap().phone.is_some());
    world.settle(World::settlement(&sending, CommandState::Done)).await.unwrap();
    let erased = world.erase(world.merchant).await;
    assert_eq!((erased.entries, erased.commands, erased.busy), (1, 1, 0));
    assert_eq!(world.store.event(event.id).await.unwrap().unwrap().phone, None);
    assert_eq!(world.erase(world.merchant).await, Erased::default(), "nothing is left");
}

#[tokio::test]
async fn a_merchants_entries_may_be_kept_for_less_long_than_others() {
    let world = world().await;
    let stranger = Id::new(Kind::Merchant);
    let foreign = world.connect(stranger).await;
    let old = Timestamp::now() - SignedDuration::from_hours(24 * 9);
    let before = Timestamp::now() - SignedDuration::from_hours(24 * 7);
    let mut made = Vec::new();
    for (number, (merchant, link)) in [(world.merchant, world.link), (stranger, foreign)].into_iter().enumerate() {
        for waits in [false, true] {
            let number = 10 * (number as u128 + 1) + u128::from(waits);
            let event = world
                .tell(
                    |entry, event| {
                        entry.id = id_of(Kind::Entry, old, number);
                        entry.request.received_at = old;
                        (event.entry, event.id) = (entry.id, id_of(Kind::Event, old, number));
                        (event.merchant, event.connection, event.subject) = (merchant, link, format!("order/{number}"));
                    },
                    |event| if waits { vec![world.command(event, "k", Timestamp::now())] } else { Vec::new() },
                )
                .await;
            made.push(event);
        }
    }
    let recent = world.tell(|entry, _| entry.request.received_at = Timestamp::now(), |_| Vec::new()).await;
    for _ in 0..20 {
        if world.store.purge_merchant(world.merchant, before, 1).await.unwrap() == 0 {
            break;
        }
    }
    let stays = async |event: &Event| world.store.entry(event.entry).await.unwrap().is_some();
    assert!(!stays(&made[0]).await);
    assert!(stays(&made[1]).await, "its command waits");
    assert!(stays(&made[2]).await && stays(&made[3]).await, "another merchant's");
    assert!(stays(&recent).await);
    assert!(world.store.event(made[0].id).await.unwrap().is_none());
    assert_eq!(world.store.fsck(false).await.unwrap(), [] as [String; 0]);
}
