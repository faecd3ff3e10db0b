//! What is set up: versions, conflicts, removals, keys, and who changed what.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel_model::{Id, Job, id::Kind};
use uzel_store::{
    Audit, AuditFilter, CommandState, KeyRow, NewEvent, OpenBreaker, Refusal, Rhythm, Setup, SetupRow, SetupVersion, StoreError,
};

use super::suite::{World, now, world};

impl World {
    fn row(&self, kind: Kind, slug: &str, doc: Value) -> SetupRow {
        let merchant = (kind != Kind::Merchant).then_some(self.merchant);
        SetupRow { id: Id::new(kind), merchant, slug: slug.to_owned(), doc, sealed: None, version: 0 }
    }

    async fn put(&self, rows: Vec<SetupRow>) {
        self.store.put_setup(Setup { rows, ..Setup::default() }).await.unwrap();
    }

    async fn stored(&self, id: Id) -> Option<SetupRow> {
        self.store.setup().await.unwrap().rows.into_iter().find(|row| row.id == id)
    }

    async fn versions(&self, id: Id) -> Vec<SetupVersion> {
        self.store.setup_versions(id, 1_000).await.unwrap()
    }

    async fn key(&self, id: &str) -> Option<KeyRow> {
        self.store.setup().await.unwrap().keys.into_iter().find(|key| key.id == id)
    }
}

fn key(id: &str, of: Option<Id>) -> KeyRow {
    KeyRow {
        hash: id.as_bytes().to_vec(),
        id: id.to_owned(),
        of,
        about: "reader".to_owned(),
        webhook: of.is_some_and(|of| of.kind() == Kind::Connection),
        label: "till 1".to_owned(),
        made_at: now(),
        expires_at: Some(now() + SignedDuration::from_hours(1)),
        last_used_at: None,
    }
}

fn change(object: Id, by: &str, at: Timestamp) -> Audit {
    Audit {
        id: Id::new(Kind::Audit),
        at,
        merchant: None,
        by: by.to_owned(),
        action: "connection.change".to_owned(),
        object: object.to_string(),
        detail: json!({ "fields": ["slug", "\u{0} ё"] }),
    }
}

#[tokio::test]
async fn every_kind_of_row_comes_back_as_it_was_put() {
    let world = world().await;
    let mut rows = Vec::new();
    for kind in [Kind::Merchant, Kind::Outlet, Kind::Connection, Kind::Flow, Kind::Endpoint, Kind::Recipient] {
        let row = SetupRow { sealed: Some(vec![0, 1, 2]), ..world.row(kind, "same-slug", json!({ "b": 1, "a": [null, 1.5] })) };
        rows.push(row);
    }
    world.put(rows.clone()).await;
    for row in rows {
        assert_eq!(world.stored(row.id).await, Some(SetupRow { version: 1, ..row }));
    }
}

#[tokio::test]
async fn a_row_counts_its_changes_and_one_that_is_put_again_as_it_was_keeps_its_version() {
    let world = world().await;
    let first = world.row(Kind::Flow, "f", json!({ "a": 1 }));
    let mut puts = vec![first.clone(), first.clone()];
    puts.push(SetupRow { doc: json!({ "a": 2 }), ..first.clone() });
    puts.push(SetupRow { sealed: Some(vec![1]), version: 77, ..puts[2].clone() });
    puts.push(SetupRow { slug: "g".to_owned(), ..puts[3].clone() });
    puts.push(puts[4].clone());
    for (put, version) in puts.iter().zip([1, 1, 2, 3, 4, 4]) {
        world.put(vec![put.clone()]).await;
        assert_eq!(world.stored(first.id).await, Some(SetupRow { version, ..put.clone() }));
    }
    let told: Vec<_> = world.versions(first.id).await.into_iter().map(|old| (old.version, old.slug, old.doc, old.by)).collect();
    let (hub, f) = ("hub".to_owned(), "f".to_owned());
    let expected = [
        (4, "g".to_owned(), json!({ "a": 2 }), hub.clone()),
        (3, f.clone(), json!({ "a": 2 }), hub.clone()),
        (2, f.clone(), json!({ "a": 2 }), hub.clone()),
        (1, f, json!({ "a": 1 }), hub),
    ];
    assert_eq!(told, expected);
    assert_eq!(world.store.setup_versions(first.id, 2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_last_hundred_versions_are_kept_with_who_made_them_and_when() {
    let world = world().await;
    let row = world.row(Kind::Outlet, "o", json!({}));
    let other = world.row(Kind::Outlet, "p", json!({}));
    for number in 1..=103 {
        let at = now() + SignedDuration::from_secs(number);
        let audit = vec![change(world.link, "key_of_another_row", at), change(row.id, &format!("key_{number}"), at)];
        let rows = vec![other.clone(), SetupRow { doc: json!({ "n": number }), ..row.clone() }];
        world.store.put_setup(Setup { rows, audit, ..Setup::default() }).await.unwrap();
    }
    let versions = world.versions(row.id).await;
    assert_eq!(versions.iter().map(|old| old.version).collect::<Vec<_>>(), (4..=103).rev().collect::<Vec<_>>());
    assert!(versions.iter().all(|old| old.by == format!("key_{}", old.version)));
    assert!(versions.iter().all(|old| old.at == now() + SignedDuration::from_secs(old.version)));
    assert_eq!(world.versions(other.id).await.len(), 1);
    assert_eq!(world.stored(row.id).await.unwrap().version, 103);
}

#[tokio::test]
async fn where_a_version_is_not_as_expected_nothing_at_all_is_changed() {
    let world = world().await;
    let row = world.row(Kind::Flow, "f", json!({}));
    world.store.put_setup(Setup { rows: vec![row.clone()], keys: vec![key("key_1", None)], ..Setup::default() }).await.unwrap();
    world.store.put_session(world.link, vec![1]).await.unwrap();
    let absent = Id::new(Kind::Flow);
    for (id, expected) in [(row.id, 0), (row.id, 2), (absent, 1)] {
        let before = world.store.setup().await.unwrap();
        let attempt = Setup {
            envelopes: Vec::new(),
            rows: vec![SetupRow { doc: json!({ "new": true }), ..row.clone() }, world.row(Kind::Outlet, "o", json!({}))],
            keys: vec![key("key_2", None)],
            ends_logins: vec![world.link],
            ends_cursors: vec![world.link],
            removes: vec![world.link],
            removes_keys: vec!["key_1".to_owned()],
            expects: vec![(world.merchant, 1), (id, expected)],
            audit: vec![change(row.id, "key_1", now())],
        };
        assert!(matches!(world.store.put_setup(attempt).await, Err(StoreError::Conflict)));
        let after = world.store.setup().await.unwrap();
        assert_eq!((after.rows, after.keys), (before.rows, before.keys));
        assert_eq!(world.versions(row.id).await.len(), 1);
        assert_eq!(world.store.session(world.link).await.unwrap(), Some(vec![1]));
        assert_eq!(world.store.audit(AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap(), []);
    }
    let right = Setup {
        rows: vec![SetupRow { doc: json!({ "new": true }), ..row.clone() }],
        expects: vec![(row.id, 1), (absent, 0)],
        ..Setup::default()
    };
    world.store.put_setup(right).await.unwrap();
    assert_eq!(world.stored(row.id).await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_change_one_version_one_succeeds() {
    let world = world().await;
    let row = world.row(Kind::Flow, "f", json!({}));
    for version in 0..5 {
        let tries = (0..8).map(|number| {
            let row = SetupRow { doc: json!({ "version": version, "by": number }), ..row.clone() };
            let setup = Setup { expects: vec![(row.id, version)], rows: vec![row], ..Setup::default() };
            let store = world.store.clone();
            tokio::spawn(async move { store.put_setup(setup).await })
        });
        let ended = futures::future::try_join_all(tries).await.unwrap();
        assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 1, "{ended:?}");
        assert!(ended.iter().all(|ended| matches!(ended, Ok(()) | Err(StoreError::Conflict))), "{ended:?}");
        assert_eq!(world.stored(row.id).await.unwrap().version, version + 1);
    }
}

#[tokio::test]
async fn a_slug_that_another_row_has_is_a_conflict_until_that_row_goes() {
    let world = world().await;
    let row = world.row(Kind::Outlet, "o", json!({}));
    world.put(vec![row.clone()]).await;
    let second = world.row(Kind::Outlet, "o", json!({}));
    let put = async |setup: Setup| world.store.put_setup(setup).await;
    let taken = put(Setup { rows: vec![world.row(Kind::Flow, "x", json!({})), second.clone()], ..Setup::default() }).await;
    assert!(matches!(taken, Err(StoreError::Conflict)), "{taken:?}");
    assert_eq!(world.store.setup().await.unwrap().rows.len(), 3, "merchant, connection, outlet");
    put(Setup { rows: vec![second.clone()], removes: vec![row.id], ..Setup::default() }).await.unwrap();
    assert_eq!((world.stored(row.id).await, world.stored(second.id).await.unwrap().version), (None, 1));

    put(Setup { rows: vec![SetupRow { slug: "old".to_owned(), ..row.clone() }], ..Setup::default() }).await.unwrap();
    assert_eq!(world.stored(row.id).await.unwrap().version, 2, "it is known from before");
}

#[tokio::test]
async fn what_belongs_to_a_connection_goes_with_it_and_its_neighbours_stay() {
    let world = world().await;
    let other = world.row(Kind::Connection, "other", json!({}));
    world.put(vec![other.clone()]).await;
    for link in [world.link, other.id] {
        let keys = vec![key(&format!("key_{link}"), Some(link))];
        world.store.put_setup(Setup { keys, ..Setup::default() }).await.unwrap();
        world.store.put_session(link, vec![1]).await.unwrap();
        let cursor = uzel_store::Cursor { connection: link, was: None, next: "7".to_owned() };
        world.store.apply(uzel_store::Change { cursor: Some(cursor), ..Default::default() }).await.unwrap();
        let open = OpenBreaker { since: now(), reason: "no answer".to_owned() };
        world.store.put_breaker(link, Some(open)).await.unwrap();
        let rhythm = Rhythm { first_at: now(), last_at: now(), count: 1, gap_ms: 0, longest_ms: 0 };
        world.store.put_rhythms(vec![(link, rhythm)]).await.unwrap();
        let refusal = Refusal {
            place: link.to_string(),
            at: now(),
            peer: None,
            method: "POST".to_owned(),
            path: String::new(),
            reason: "no key".to_owned(),
            keys: Vec::new(),
            query: Vec::new(),
            headers: Vec::new(),
            body: String::new(),
            cut: false,
        };
        world.store.put_refusals(vec![refusal]).await.unwrap();
    }
    world.store.put_setup(Setup { removes: vec![world.link], ..Setup::default() }).await.unwrap();
    assert_eq!(world.stored(world.link).await, None);
    for (link, stays) in [(world.link, false), (other.id, true)] {
        assert_eq!(world.key(&format!("key_{link}")).await.is_some(), stays, "{link}");
        assert_eq!(world.store.session(link).await.unwrap().is_some(), stays);
        assert_eq!(world.store.cursor(link).await.unwrap().is_some(), stays);
        assert_eq!(world.store.refusals(&link.to_string()).await.unwrap().len(), usize::from(stays));
    }
    assert_eq!(world.store.breakers().await.unwrap().iter().map(|(link, _)| *link).collect::<Vec<_>>(), [other.id]);
    assert_eq!(world.store.rhythms().await.unwrap().iter().map(|(link, _)| *link).collect::<Vec<_>>(), [other.id]);
    assert_eq!(world.versions(world.link).await.len(), 1, "how it stood is still told");
}

#[tokio::test]
async fn what_waits_for_a_removed_connection_is_held_and_what_is_being_sent_is_held_where_it_would_be_tried_again() {
    let world = world().await;
    let later = now() + SignedDuration::from_hours(2);
    world
        .read("k", |event| {
            let command = |key: &str, due_at| world.command(event, key, due_at);
            // Of the first key one is being sent while another waits behind it.
            let mut commands = vec![command("a", now()), command("a", later), command("b", now()), command("b", later)];
            commands.push(command("c", later));
            commands.extend((0..450).map(|number| command(&format!("many/{}", number % 3), later)));
            commands
        })
        .await;
    let leased = world.lease(now()).await;
    assert_eq!(leased.len(), 2);
    world.store.put_setup(Setup { removes: vec![world.link], ..Setup::default() }).await.unwrap();
    let held = async || world.store.counts().await.unwrap().held;
    assert_eq!(held().await, [("removed".to_owned(), 453)]);
    assert!(world.lease(later).await.is_empty());
    assert!(world.store.fsck(false).await.unwrap().is_empty());

    world.settle(World::settlement(&leased[0], CommandState::Done)).await.unwrap();
    let again = uzel_store::Settlement { retry_at: Some(later), ..World::settlement(&leased[1], CommandState::Waiting) };
    world.settle(again).await.unwrap();
    assert!(world.store.fsck(false).await.unwrap().is_empty(), "it is known that somebody will hold it");
    assert_eq!(world.store.recover(now()).await.unwrap(), (0, 0));
    assert_eq!(held().await, [("removed".to_owned(), 454)]);
    let (_, command) = world.store.command(leased[1].id).await.unwrap().unwrap();
    assert_eq!((command.state, command.reason.as_deref()), (CommandState::Held, Some("removed")));
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_event_whose_look_up_went_with_its_connection_is_told_as_it_is() {
    let world = world().await;
    world.store.publish(true).await.unwrap();
    let entry = world.entry();
    world.store.append(entry.clone()).await.unwrap();
    let event = world.event(entry.id, "k");
    let mut look_up = world.command(&event, "a", now());
    look_up.command.job = Job::LookUp { what: json!({}) };
    let new = NewEvent { event: event.clone(), commands: vec![look_up], call_off: None, pending: true };
    world.store.apply(uzel_store::Change { events: vec![new], ..Default::default() }).await.unwrap();
    assert_eq!(world.store.unpublished(10).await.unwrap(), []);
    world.store.put_setup(Setup { removes: vec![world.link], ..Setup::default() }).await.unwrap();
    let told: Vec<_> = world.store.unpublished(10).await.unwrap().into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, [event]);
    assert!(world.store.fsck(false).await.unwrap().is_empty());
}

#[tokio::test]
async fn keys_go_by_their_ids_and_with_their_merchant() {
    let world = world().await;
    let keys = vec![key("key_1", None), key("key_2", Some(world.merchant)), key("key_3", Some(world.merchant))];
    world.store.put_setup(Setup { keys: keys.clone(), ..Setup::default() }).await.unwrap();
    for key in &keys {
        assert_eq!(world.key(&key.id).await.as_ref(), Some(key));
    }
    world.store.put_setup(Setup { removes_keys: vec!["key_2".to_owned()], ..Setup::default() }).await.unwrap();
    assert_eq!((world.key("key_2").await, world.key("key_3").await.is_some()), (None, true));
    world.store.put_setup(Setup { removes: vec![world.merchant], ..Setup::default() }).await.unwrap();
    let left = world.store.setup().await.unwrap().keys;
    assert_eq!(left, [key("key_1", None)]);
}

#[tokio::test]
async fn the_last_use_of_a_key_never_goes_back() {
    let world = world().await;
    let of_key = key("key_1", None);
    let at = |seconds: i64| now() + SignedDuration::from_secs(seconds);
    world.store.put_setup(Setup { keys: vec![of_key.clone(), key("key_2", None)], ..Setup::default() }).await.unwrap();
    let touch = async |seconds: &[i64]| {
        let used = seconds.iter().map(|seconds| ("key_1".to_owned(), at(*seconds))).chain([("key_0".to_owned(), now())]);
        world.store.touch_keys(used.collect()).await.unwrap();
        world.key("key_1").await.unwrap().last_used_at
    };
    assert_eq!(touch(&[10]).await, Some(at(10)));
    assert_eq!(touch(&[5]).await, Some(at(10)));
    assert_eq!(touch(&[20, 15]).await, Some(at(20)));
    let renamed = KeyRow { label: "till 2".to_owned(), expires_at: None, ..of_key };
    world.store.put_setup(Setup { keys: vec![renamed.clone()], ..Setup::default() }).await.unwrap();
    assert_eq!(world.key("key_1").await, Some(KeyRow { last_used_at: Some(at(20)), ..renamed.clone() }));
    let used = KeyRow { last_used_at: Some(at(30)), ..renamed };
    world.store.put_setup(Setup { keys: vec![used.clone()], ..Setup::default() }).await.unwrap();
    assert_eq!(world.key("key_1").await, Some(used));
    assert_eq!(world.key("key_2").await.unwrap().last_used_at, None);
}

#[tokio::test]
async fn changes_are_told_page_by_page_newest_first_to_whom_they_concern() {
    let world = world().await;
    let others = Id::new(Kind::Merchant);
    let today = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap();
    let mut all = Vec::new();
    for number in 0..25 {
        let merchant = [None, Some(world.merchant), Some(others)][number % 3];
        let object = if number % 2 == 0 { world.link } else { world.merchant };
        all.push(Audit { merchant, ..change(object, &format!("key_{number}"), today) });
    }
    let (alone, along) = all.split_at(20);
    world.store.put_audit(alone.to_vec()).await.unwrap();
    world.store.put_setup(Setup { audit: along.to_vec(), ..Setup::default() }).await.unwrap();
    world.store.put_audit(vec![Audit { by: "somebody else".to_owned(), ..all[3].clone() }]).await.unwrap();
    world.store.put_audit(Vec::new()).await.unwrap();
    all.reverse();

    let wanted = |merchant: Option<Id>, object: Option<Id>| {
        let of = |row: &&Audit| {
            merchant.is_none_or(|merchant| row.merchant == Some(merchant))
                && object.is_none_or(|object| row.object == object.to_string())
        };
        all.iter().filter(of).cloned().collect::<Vec<_>>()
    };
    for merchant in [None, Some(world.merchant), Some(others), Some(Id::new(Kind::Merchant))] {
        for object in [None, Some(world.link)] {
            let (mut told, mut before) = (Vec::new(), None);
            loop {
                let filter = AuditFilter { merchant, object: object.map(|object| object.to_string()), before, limit: 4 };
                let page = world.store.audit(filter).await.unwrap();
                assert!(page.len() <= 4);
                let Some(last) = page.last() else { break };
                before = Some(last.id);
                told.extend(page);
            }
            assert_eq!(told, wanted(merchant, object), "{merchant:?} {object:?}");
        }
    }
}

#[tokio::test]
async fn changes_are_remembered_for_400_days_whatever_is_purged() {
    let world = world().await;
    let today = Timestamp::now();
    let days_ago = |days: i64| change(world.link, &days.to_string(), today - SignedDuration::from_hours(24 * days));
    world.store.put_audit(vec![days_ago(300)]).await.unwrap();
    while world.store.purge(today, 100).await.unwrap() > 0 {}
    let told = async || {
        let rows = world.store.audit(AuditFilter { limit: 10, ..AuditFilter::default() }).await.unwrap();
        rows.into_iter().map(|row| row.by).collect::<Vec<_>>()
    };
    assert_eq!(told().await, ["300"]);
    world.store.put_audit(vec![days_ago(399), days_ago(401), days_ago(0)]).await.unwrap();
    assert_eq!(told().await, ["0", "399", "300"]);
    let of_a_clock_ahead = days_ago(-2_000);
    world.store.put_audit(vec![of_a_clock_ahead]).await.unwrap();
    assert_eq!(told().await.len(), 4);
}
