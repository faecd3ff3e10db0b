use super::*;

const HOUR_MS: i64 = 3_600_000;

struct World {
    folder: tempfile::TempDir,
    key: Key,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: Key::new() }
    }

    fn open(&self) -> Queue {
        Queue::open(&self.folder.path().join("queue"), self.key.clone(), 100, 72, 0).unwrap()
    }
}

fn kept(id: &str, call: Call, order: &str) -> Kept {
    Kept {
        id: id.into(),
        call,
        key: format!("key-{id}"),
        order: order.into(),
        body: "{}".into(),
        staff_key: None,
        language: None,
        reason: "no line".into(),
        at_ms: 0,
        promised: None,
        quote: None,
    }
}

fn sent(queue: &mut Queue, now_ms: i64) -> Option<String> {
    match queue.next(Instant::now(), now_ms) {
        Next::Send(send) => Some(send.0.id),
        _ => None,
    }
}

fn refused() -> Trouble {
    Trouble { status: Some(400), reason: "no".into(), at_ms: 0, settled: false }
}

#[test]
fn calls_of_one_order_go_one_after_another_and_others_beside_them() {
    let world = World::new();
    let mut queue = world.open();
    for (id, call, order) in
        [("1", Call::Commit, "A"), ("2", Call::Commit, "A"), ("3", Call::Refund, "A"), ("4", Call::Refund, "B")]
    {
        queue.put(kept(id, call, order)).unwrap();
    }
    assert_eq!(sent(&mut queue, 0).unwrap(), "1");
    queue.put_off("1", "no line".into(), Instant::now(), None);
    assert_eq!(sent(&mut queue, 0).unwrap(), "4", "its order is another one");
    queue.trouble("1", refused()).unwrap();
    assert_eq!(sent(&mut queue, 0).unwrap(), "2", "a commit does not wait for a person");
    queue.done("2", None, 0).unwrap();
    assert_eq!(sent(&mut queue, 0).unwrap(), "4");
    queue.done("4", None, 0).unwrap();
    assert!(sent(&mut queue, 0).is_none(), "a refund does, behind a commit");
    assert!(queue.is_behind("A", Call::Refund));
    drop(queue);
    let mut queue = world.open();
    assert!(sent(&mut queue, 0).is_none(), "also after a start");
    queue.let_go("1").unwrap();
    assert_eq!(sent(&mut queue, 0).unwrap(), "3");
}

#[test]
fn a_call_is_tried_for_its_hours_and_a_jump_of_the_clock_ends_none_untried() {
    let mut queue = World::new().open();
    queue.put(kept("1", Call::Commit, "A")).unwrap();
    // The clock stood in the past when it was kept.
    assert_eq!(sent(&mut queue, 1_000 * HOUR_MS).unwrap(), "1");
    queue.put_off("1", "the hub is not reached".into(), Instant::now(), Some(Duration::ZERO));
    assert_eq!(sent(&mut queue, 71 * HOUR_MS).unwrap(), "1");
    assert!(sent(&mut queue, 72 * HOUR_MS).is_none());
    let listed = queue.list();
    assert_eq!(listed[0]["state"], "person");
    assert_eq!(listed[0]["reason"], "it was tried for 72 hours; at last: the hub is not reached");
    assert_eq!(queue.retriable(), ["1"]);
    queue.again("1").unwrap();
    assert_eq!(sent(&mut queue, 72 * HOUR_MS).unwrap(), "1", "a person gets a try");
}

#[test]
fn pauses_double_and_end_at_their_limit() {
    for (tries, seconds) in [(1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (u32::MAX, 600)] {
        let pause = pause(tries, PAUSE_MAX).as_secs_f64();
        assert!((0.75..=1.25).contains(&(pause / f64::from(seconds))), "{tries}: {pause}");
    }
}

#[test]
fn what_is_old_beside_the_calls_is_forgotten() {
    let world = World::new();
    let mut queue = world.open();
    let hold = LocalHold {
        id: "off-1".into(),
        mode: crate::wire::Mode::Earn,
        body: "{}".into(),
        user: "C".into(),
        promised: 1,
        at_ms: 0,
    };
    queue.hold(hold).unwrap();
    queue.put(kept("1", Call::Commit, "A")).unwrap();
    let told = Told { key: "key-1".into(), at_ms: 0, status: 201, body: "{}".into() };
    queue.done("1", Some(told), 0).unwrap();
    drop(queue);
    let path = world.folder.path().join("queue");
    let at = |now_ms| {
        let queue = Queue::open(&path, world.key.clone(), 100, 72, now_ms).unwrap();
        (queue.local_hold("off-1").is_some(), queue.told("key-1").is_some())
    };
    assert_eq!(at(HOUR_MS), (true, true));
    assert_eq!(at(24 * HOUR_MS), (false, true));
    assert_eq!(at(72 * HOUR_MS), (false, false));
}
