//! Requests under callers' own keys: begun once, answered as before.

use jiff::SignedDuration;
use uzel_model::Timestamp;
use uzel_store::{Begun, KeptAnswer};

use super::suite::{World, world};

const KEY: [u8; 16] = [1; 16];
const BODY: [u8; 16] = [2; 16];
const HOLD_MS: i64 = 60_000;

/// So many seconds after now, which is the same moment in all of a test: what is long over by the server's clock goes.
struct Clock(Timestamp);

impl Clock {
    fn start() -> Self {
        Self(Timestamp::from_millisecond(Timestamp::now().as_millisecond()).unwrap())
    }

    fn after_s(&self, seconds: i64) -> Timestamp {
        self.0 + SignedDuration::from_secs(seconds)
    }

    async fn begin(&self, world: &World, body: [u8; 16], seconds: i64) -> Begun {
        world.store.begin(KEY, body, self.after_s(seconds), HOLD_MS, self.after_s(72 * 3_600)).await.unwrap()
    }
}

fn answer(status: u16, body: &[u8]) -> KeptAnswer {
    KeptAnswer { status, body: body.to_vec() }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_requests_at_once_under_one_key_exactly_one_is_new() {
    let (world, clock) = (world().await, Clock::start());
    for round in 0..5 {
        let tries = (0..16).map(|_| {
            let store = world.store.clone();
            let (now, until) = (clock.after_s(0), clock.after_s(1_000));
            tokio::spawn(async move { store.begin([round; 16], BODY, now, HOLD_MS, until).await.unwrap() })
        });
        let begun: Vec<Begun> = futures::future::try_join_all(tries).await.unwrap();
        assert_eq!(begun.iter().filter(|begun| **begun == Begun::New).count(), 1, "{begun:?}");
        assert_eq!(begun.iter().filter(|begun| **begun == Begun::Running).count(), 15, "{begun:?}");
    }
}

#[tokio::test]
async fn a_request_that_has_ended_gets_its_answer_again_and_another_body_does_not() {
    let (world, clock) = (world().await, Clock::start());
    assert_eq!(clock.begin(&world, BODY, 0).await, Begun::New);
    assert_eq!(clock.begin(&world, BODY, 1).await, Begun::Running);
    assert_eq!(clock.begin(&world, [3; 16], 1).await, Begun::Other);
    let sealed = [0, 255, 10, 0];
    world.store.end(KEY, Some(answer(201, &sealed))).await.unwrap();
    for at in [2, 61, 72 * 3_600 - 1] {
        assert_eq!(clock.begin(&world, BODY, at).await, Begun::Done(answer(201, &sealed)), "{at}");
        assert_eq!(clock.begin(&world, [3; 16], at).await, Begun::Other, "{at}");
    }
    let other_key = world.store.begin([9; 16], BODY, clock.after_s(0), HOLD_MS, clock.after_s(1_000)).await.unwrap();
    assert_eq!(other_key, Begun::New, "a key of its own");
}

#[tokio::test]
async fn a_key_that_was_given_back_is_new() {
    let (world, clock) = (world().await, Clock::start());
    assert_eq!(clock.begin(&world, BODY, 0).await, Begun::New);
    world.store.end(KEY, None).await.unwrap();
    assert_eq!(clock.begin(&world, [3; 16], 1).await, Begun::New, "whatever is asked for");
    world.store.end(KEY, Some(answer(200, b"a"))).await.unwrap();
    world.store.end(KEY, None).await.unwrap();
    assert_eq!(clock.begin(&world, [3; 16], 2).await, Begun::Done(answer(200, b"a")), "an answer is not given back");
}

#[tokio::test]
async fn a_request_whose_doer_is_gone_is_new_when_its_hold_is_over() {
    let (world, clock) = (world().await, Clock::start());
    assert_eq!(clock.begin(&world, BODY, 0).await, Begun::New);
    assert_eq!(clock.begin(&world, BODY, 59).await, Begun::Running);
    assert_eq!(clock.begin(&world, [3; 16], 60).await, Begun::Other, "it may have been half done");
    assert_eq!(clock.begin(&world, BODY, 60).await, Begun::New);
    assert_eq!(clock.begin(&world, BODY, 119).await, Begun::Running, "held anew");
    world.store.end(KEY, Some(answer(200, b"first"))).await.unwrap();
    world.store.end(KEY, Some(answer(500, b"late"))).await.unwrap();
    assert_eq!(clock.begin(&world, BODY, 200).await, Begun::Done(answer(200, b"first")), "the first answer stands");
}

#[tokio::test]
async fn a_key_is_free_when_its_time_is_over() {
    let (world, clock) = (world().await, Clock::start());
    let begin =
        async |body, at, until| world.store.begin(KEY, body, clock.after_s(at), HOLD_MS, clock.after_s(until)).await.unwrap();
    assert_eq!(begin(BODY, 0, 100).await, Begun::New);
    world.store.end(KEY, Some(answer(204, b""))).await.unwrap();
    assert_eq!(begin(BODY, 99, 300).await, Begun::Done(answer(204, b"")));
    assert_eq!(begin([3; 16], 100, 300).await, Begun::New);
    assert_eq!(begin(BODY, 101, 300).await, Begun::Other);
}
