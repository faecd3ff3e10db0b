//! Requests under callers' own keys: begun once, answered as before.

use jiff::SignedDuration;
use uzel_model::Timestamp;
use uzel_store::{Begun, KeptAnswer};

use super::suite::{World, now, world};

const KEY: [u8; 16] = [1; 16];
const BODY: [u8; 16] = [2; 16];
const HOLD_MS: i64 = 60_000;

fn after_s(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

async fn begin(world: &World, body: [u8; 16], at: Timestamp) -> Begun {
    world.store.begin(KEY, body, at, HOLD_MS, after_s(72 * 3_600)).await.unwrap()
}

fn answer(status: u16, body: &[u8]) -> KeptAnswer {
    KeptAnswer { status, body: body.to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_at_once_under_one_key_exactly_one_is_new() {
    let world = world().await;
    for round in 0..5 {
        let tries = (0..16).map(|_| {
            let store = world.store.clone();
            tokio::spawn(async move { store.begin([round; 16], BODY, now(), HOLD_MS, after_s(1_000)).await.unwrap() })
        });
        let begun: Vec<Begun> = futures::future::try_join_all(tries).await.unwrap();
        assert_eq!(begun.iter().filter(|begun| **begun == Begun::New).count(), 1, "{begun:?}");
        assert_eq!(begun.iter().filter(|begun| **begun == Begun::Running).count(), 15, "{begun:?}");
    }
}

#[tokio::test]
async fn a_request_that_has_ended_gets_its_answer_again_and_another_body_does_not() {
    let world = world().await;
    assert_eq!(begin(&world, BODY, now()).await, Begun::New);
    assert_eq!(begin(&world, BODY, after_s(1)).await, Begun::Running);
    assert_eq!(begin(&world, [3; 16], after_s(1)).await, Begun::Other);
    let sealed = [0, 255, 10, 0];
    world.store.end(KEY, Some(answer(201, &sealed))).await.unwrap();
    for at in [after_s(2), after_s(61), after_s(72 * 3_600 - 1)] {
        assert_eq!(begin(&world, BODY, at).await, Begun::Done(answer(201, &sealed)), "{at}");
        assert_eq!(begin(&world, [3; 16], at).await, Begun::Other, "{at}");
    }
    let other_key = world.store.begin([9; 16], BODY, now(), HOLD_MS, after_s(1_000)).await.unwrap();
    assert_eq!(other_key, Begun::New, "a key of its own");
}

#[tokio::test]
async fn a_key_that_was_given_back_is_new() {
    let world = world().await;
    assert_eq!(begin(&world, BODY, now()).await, Begun::New);
    world.store.end(KEY, None).await.unwrap();
    assert_eq!(begin(&world, [3; 16], after_s(1)).await, Begun::New, "whatever is asked for");
    world.store.end(KEY, Some(answer(200, b"a"))).await.unwrap();
    world.store.end(KEY, None).await.unwrap();
    assert_eq!(begin(&world, [3; 16], after_s(2)).await, Begun::Done(answer(200, b"a")), "an answer is not given back");
}

#[tokio::test]
async fn a_request_whose_doer_is_gone_is_new_when_its_hold_is_over() {
    let world = world().await;
    assert_eq!(begin(&world, BODY, now()).await, Begun::New);
    assert_eq!(begin(&world, BODY, after_s(59)).await, Begun::Running);
    assert_eq!(begin(&world, [3; 16], after_s(60)).await, Begun::Other, "it may have been half done");
    assert_eq!(begin(&world, BODY, after_s(60)).await, Begun::New);
    assert_eq!(begin(&world, BODY, after_s(119)).await, Begun::Running, "held anew");
    world.store.end(KEY, Some(answer(200, b"first"))).await.unwrap();
    world.store.end(KEY, Some(answer(500, b"late"))).await.unwrap();
    assert_eq!(begin(&world, BODY, after_s(200)).await, Begun::Done(answer(200, b"first")), "the first answer stands");
}

#[tokio::test]
async fn a_key_is_free_when_its_time_is_over() {
    let world = world().await;
    let begin = async |body, at, until| world.store.begin(KEY, body, at, HOLD_MS, until).await.unwrap();
    assert_eq!(begin(BODY, now(), after_s(100)).await, Begun::New);
    world.store.end(KEY, Some(answer(204, b""))).await.unwrap();
    assert_eq!(begin(BODY, after_s(99), after_s(300)).await, Begun::Done(answer(204, b"")));
    assert_eq!(begin([3; 16], after_s(100), after_s(300)).await, Begun::New);
    assert_eq!(begin(BODY, after_s(101), after_s(300)).await, Begun::Other);
}
