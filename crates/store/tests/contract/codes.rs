//! Codes: kept within limits, tried so often and no oftener, used once.

use jiff::{SignedDuration, Timestamp};
use uzel_model::{Id, id::Kind};
use uzel_store::{CodeLimit, CodeTry, NewCode};

use super::suite::{World, now, world};

const TRIES_MAX: u32 = 5;

fn after_s(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn code(world: &World, to: u8, at_s: i64) -> NewCode {
    NewCode {
        id: Id::new(Kind::Code),
        merchant: world.merchant,
        to: [to; 16],
        hash: vec![7; 32],
        made_at: after_s(at_s),
        ends_at: after_s(at_s + 600),
    }
}

fn limits() -> Vec<CodeLimit> {
    let limit = |per_address, codes, seconds| CodeLimit { per_address, codes, period: SignedDuration::from_secs(seconds) };
    vec![limit(true, 1, 60), limit(true, 3, 3_600), limit(false, 5, 3_600)]
}

#[tokio::test]
async fn codes_are_kept_while_every_limit_allows_it_and_the_moment_is_told_when_it_does() {
    let world = world().await;
    let put = async |to, at_s| world.store.put_code(code(&world, to, at_s), limits()).await.unwrap();
    assert_eq!(put(1, 0).await, None);
    assert_eq!(put(1, 59).await, Some(after_s(60)), "one a minute to one address");
    assert_eq!(put(2, 59).await, None, "another address");
    assert_eq!((put(1, 60).await, put(1, 120).await), (None, None));
    assert_eq!(put(1, 180).await, Some(after_s(3_600)), "three an hour");
    assert_eq!(put(3, 180).await, None);
    assert_eq!(put(4, 200).await, Some(after_s(3_600)), "five an hour of one merchant");
    let other = NewCode { merchant: Id::new(Kind::Merchant), ..code(&world, 1, 200) };
    assert_eq!(world.store.put_code(other, limits()).await.unwrap(), None, "another merchant's");
    assert_eq!(put(1, 3_600).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_for_a_code_at_once_no_more_get_one_than_may() {
    let world = world().await;
    let tries = (0..16).map(|_| {
        let (store, code) = (world.store.clone(), code(&world, 1, 0));
        tokio::spawn(async move { store.put_code(code, limits()).await.unwrap() })
    });
    let put = futures::future::try_join_all(tries).await.unwrap();
    assert_eq!(put.iter().filter(|wait| wait.is_none()).count(), 1, "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_tries_at_once_no_more_are_counted_than_there_are() {
    let world = world().await;
    let new = code(&world, 1, 0);
    world.store.put_code(new.clone(), limits()).await.unwrap();
    let tries = (0..16).map(|_| {
        let (store, id) = (world.store.clone(), new.id);
        tokio::spawn(async move { store.try_code(id, after_s(1), TRIES_MAX).await.unwrap() })
    });
    let tried = futures::future::try_join_all(tries).await.unwrap();
    let mut left: Vec<u32> = tried.iter().flatten().map(|tried| tried.left).collect();
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
    let wanted = CodeTry { merchant: world.merchant, to: [1; 16], hash: vec![7; 32], left: 0 };
    assert!(tried.into_iter().flatten().all(|tried| CodeTry { left: 0, ..tried } == wanted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_used_once_and_tried_neither_after_that_nor_after_its_end() {
    let world = world().await;
    let (one, other) = (code(&world, 1, 0), code(&world, 2, 0));
    for code in [&one, &other] {
        world.store.put_code(code.clone(), limits()).await.unwrap();
    }
    let uses = (0..16).map(|_| {
        let (store, id) = (world.store.clone(), one.id);
        tokio::spawn(async move { store.spend_code(id).await.unwrap() })
    });
    let used = futures::future::try_join_all(uses).await.unwrap();
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
    assert_eq!(world.store.try_code(one.id, after_s(1), TRIES_MAX).await.unwrap(), None);
    assert!(world.store.try_code(other.id, after_s(599), TRIES_MAX).await.unwrap().is_some());
    assert_eq!(world.store.try_code(other.id, after_s(600), TRIES_MAX).await.unwrap(), None);
    let stranger = Id::new(Kind::Code);
    assert_eq!(world.store.try_code(stranger, after_s(1), TRIES_MAX).await.unwrap(), None);
    assert!(!world.store.spend_code(stranger).await.unwrap());
}
