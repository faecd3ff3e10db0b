//! Endpoints that fail, want no more, are slow, hostile, or somewhere that must not be called.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    endpoints::{SECRET, came, endpoint, order, tell, told, with_endpoint},
    receiver::{Answer, Receiver},
    world::{KEY, World, setup, until},
};

async fn recover(world: &World, all: bool) -> Value {
    let since = world.clock.now() - SignedDuration::from_hours(24 * 30);
    let (status, recovered) = world.ask("/api/v1/endpoints/shop/recover", &json!({ "since": since, "all": all })).await;
    assert_eq!(status, 200, "{recovered}");
    recovered
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_sent_again_later_with_the_same_id_and_a_new_time() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer_next([Answer::Cut, Answer::Status(404, ""), Answer::Status(204, "")]);
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    until("its next try to be planned", async || world.newest("rkeeper").await["commands"][0]["attempts"] == 1).await;
    let command = world.newest("rkeeper").await["commands"][0].clone();
    let pause = command["next_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().duration_since(world.clock.now());
    assert!((SignedDuration::from_secs(1)..=SignedDuration::from_secs(6)).contains(&pause), "{pause:?}");
    world.in_time("both tries", async || receiver.count() == 3).await;
    world.quiet().await;
    let got = receiver.got();
    assert!(got.iter().all(|one| one.header("webhook-id") == got[0].header("webhook-id") && one.body == got[0].body));
    assert!(got[2].header("webhook-timestamp") > got[0].header("webhook-timestamp"));
    assert_eq!(got[2].signatures("v1"), [got[2].v1(SECRET)]);
    let exchanges = world.newest("rkeeper").await["commands"][0]["exchanges"].clone();
    let errors: Vec<bool> = exchanges.as_array().unwrap().iter().map(|exchange| exchange["error"].is_string()).collect();
    assert_eq!(errors, [true, true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_asks_to_be_left_alone_is() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer_next([Answer::Status(503, "retry-after: 600\r\n")]);
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    until("its next try to be planned", async || world.newest("rkeeper").await["commands"][0]["attempts"] == 1).await;
    let next_at = world.newest("rkeeper").await["commands"][0]["next_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let pause = next_at.duration_since(world.clock.now());
    assert!((SignedDuration::from_secs(570)..=SignedDuration::from_secs(600)).contains(&pause), "{pause:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_no_more_gets_none_and_what_waits_is_held_until_it_is_recovered() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer(Answer::Status(410, ""));
    tell(&world, &order(1, "Completed", "10")).await;
    until("it to be disabled", async || endpoint(&world).await["disabled"].is_object()).await;
    assert_eq!(world.notices("endpoint_disabled").await.len(), 1);
    let notice = world.notices("endpoint_disabled").await.remove(0);
    assert_eq!(notice["connection"], endpoint(&world).await["id"]);
    // What comes meanwhile is not lost either: it is held back from the start.
    tell(&world, &order(2, "Completed", "10")).await;
    world.quiet().await;
    assert_eq!((receiver.count(), world.commands("held").await), (1, 2));
    assert_eq!(world.api("/api/v1/counts").await["held"][0], json!(["endpoint_disabled", 2]));
    receiver.answer(Answer::Status(200, ""));
    assert_eq!(world.ask("/api/v1/endpoints/shop/enable", &json!({})).await.1["disabled"], Value::Null);
    tell(&world, &order(3, "Completed", "10")).await;
    came(&receiver, 2).await;
    let recovered = recover(&world, false).await;
    assert_eq!((&recovered["events"], &recovered["queued"]), (&json!(3), &json!(2)));
    world.quiet().await;
    assert_eq!(receiver.count(), 4);
    assert_eq!(recover(&world, false).await["queued"], 0, "all of it has got there");
    assert_eq!(recover(&world, true).await["queued"], 3, "and is told again where that is wanted");
    world.quiet().await;
    assert_eq!(receiver.count(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_for_days_is_disabled_with_a_notice() {
    let world = World::bare(Parts::default(), |settings| settings.endpoint_patience_days = 2).await;
    let receiver = Receiver::start().await;
    with_endpoint(&world, &receiver, json!({ "order": "none" })).await;
    receiver.answer(Answer::Status(500, ""));
    for id in 0..6 {
        tell(&world, &order(id, "Completed", "10")).await;
    }
    until("its failing to be known", async || endpoint(&world).await["failing"].is_object()).await;
    world.clock.advance(SignedDuration::from_hours(24));
    let before = receiver.count();
    until("a try", async || receiver.count() > before).await;
    assert_eq!(endpoint(&world).await["disabled"], Value::Null);
    world.clock.advance(SignedDuration::from_hours(25));
    until("it to be disabled", async || endpoint(&world).await["disabled"].is_object()).await;
    assert_eq!(world.notices("endpoint_disabled").await.len(), 1);
    until("all to be held", async || world.commands("held").await == 6).await;
    // A person enables it: the days count from new.
    assert_eq!(world.ask("/api/v1/endpoints/shop/enable", &json!({})).await.0, 200);
    tell(&world, &order(9, "Completed", "10")).await;
    let before = receiver.count();
    until("a try", async || receiver.count() > before).await;
    assert_eq!(endpoint(&world).await["disabled"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_for_three_days_is_dead_told_and_recovered() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer(Answer::Status(500, ""));
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    world.in_steps(SignedDuration::from_hours(7), "it to be given up", async || world.commands("dead").await == 1).await;
    assert!((8..=16).contains(&receiver.count()), "{} tries", receiver.count());
    assert_eq!(world.notices("undelivered").await.len(), 1);
    receiver.answer(Answer::Status(200, ""));
    assert_eq!(recover(&world, false).await["queued"], 1);
    world.quiet().await;
    assert_eq!(world.commands("done").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_webhook_is_taken_up_by_a_replay_once() {
    let (world, receiver) = told(json!({})).await;
    receiver.answer(Answer::Status(500, ""));
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    world.in_steps(SignedDuration::from_hours(7), "it to be given up", async || world.commands("dead").await == 1).await;
    receiver.answer(Answer::Status(200, ""));
    let entry = world.newest("rkeeper").await["entry"].clone();
    let replayed = world.ask("/api/v1/replay", &json!({ "entry": entry })).await.1;
    assert_eq!(replayed["outcomes"][0]["outcome"]["queued"], 1, "{replayed}");
    world.quiet().await;
    assert_eq!(world.ask("/api/v1/replay", &json!({ "entry": entry })).await.1["outcomes"][0]["outcome"]["queued"], 0);
    assert_eq!(world.commands("done").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_an_endless_answer_is_not_read() {
    let (world, receiver) = told(json!({})).await;
    let elsewhere = Receiver::start().await;
    let location: &'static str = Box::leak(format!("location: {}\r\n", elsewhere.url("/")).into_boxed_str());
    receiver.answer_next([Answer::Status(302, location), Answer::Endless]);
    tell(&world, &order(1, "Completed", "10")).await;
    came(&receiver, 1).await;
    world.in_time("the next try", async || receiver.count() == 2).await;
    world.quiet().await;
    assert_eq!((elsewhere.count(), world.commands("done").await), (0, 1), "its status was 200");
    let exchanges = world.newest("rkeeper").await["commands"][0]["exchanges"].clone();
    assert!(exchanges[0]["error"].as_str().unwrap().contains("302"), "{exchanges}");
    assert!(exchanges[1]["response"].as_str().unwrap().len() < 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_called_only_where_the_operator_allows_it() {
    let receiver = Receiver::start().await;
    let world = World::bare(Parts::default(), |settings| settings.allow_networks = Vec::new()).await;
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": [{ "merchant": "m", "slug": "rkeeper", "provider": "rkeeper", "webhook_keys": [KEY] }] })).await;
    let set_up =
        async |url: String| world.ask("/api/v1/endpoints", &json!({ "merchant": "m", "slug": "shop", "url": url })).await;
    for refused in
        [receiver.url("/"), "https://127.0.0.1/".to_owned(), "http://shop.example/".to_owned(), "https://[::1]/".to_owned()]
    {
        let (status, problem) = set_up(refused.clone()).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/url")), "{refused}");
    }
    // A name tells only at connect time where it leads.
    let (status, made) = set_up(format!("https://localhost:{}/", receiver.address.port())).await;
    assert_eq!(status, 201, "{made}");
    let outcome = world.ask("/api/v1/endpoints/shop/test", &json!({})).await.1;
    assert!(
        outcome["error"].as_str().unwrap().contains("its addresses are private")
            || outcome["error"].as_str().unwrap().contains("its address is private"),
        "{outcome}"
    );
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_only_addresses_are_called_that_the_operator_names() {
    // The network is named, so the file is taken; where the name leads is another matter.
    let world = World::bare(Parts::default(), |settings| settings.allow_networks = vec!["10.0.0.0/8".to_owned()]).await;
    let receiver = Receiver::start().await;
    world.apply(&json!({ "merchant": [{ "slug": "m" }] })).await;
    let url = format!("http://localhost:{}/", receiver.address.port());
    assert_eq!(world.ask("/api/v1/endpoints", &json!({ "merchant": "m", "slug": "shop", "url": url })).await.0, 201);
    let outcome = world.ask("/api/v1/endpoints/shop/test", &json!({})).await.1;
    assert!(outcome["error"].as_str().unwrap().contains("without TLS"), "{outcome}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_slows_neither_another_merchants_nor_a_provider() {
    let (world, receiver) = told(json!({ "order": "none", "timeout_ms": 3_000 })).await;
    receiver.answer(Answer::After(Duration::from_secs(2)));
    let quick = Receiver::start().await;
    let key = "another-key-of-twenty-four-characters";
    let mut other = setup(&world.sandbox.url(), &json!({}));
    for part in other.as_object_mut().unwrap().values_mut().flat_map(|parts| parts.as_array_mut().unwrap()) {
        let name = if part["merchant"].is_null() { "slug" } else { "merchant" };
        part[name] = json!("b");
        if part["webhook_keys"].is_array() {
            part["webhook_keys"] = json!([key]);
        }
    }
    other["endpoint"] = json!([{ "merchant": "b", "slug": "own", "url": quick.url("/") }]);
    world.apply(&other).await;
    for id in 0..300 {
        tell(&world, &order(id, "Completed", "10")).await;
    }
    until("the slow one to be busy", async || receiver.count() >= 10).await;
    let url = format!("{}/api/webhook/rkeeper?key={key}", world.hub.url());
    let asked = std::time::Instant::now();
    assert_eq!(world.web.post(url).json(&order(1_000, "Completed", "10")).send().await.unwrap().status(), 200);
    came(&quick, 1).await;
    until("the text", async || world.texts().await.len() == 1).await;
    assert!(asked.elapsed() < Duration::from_millis(1_500), "{:?}", asked.elapsed());
    assert!(receiver.count() < 200, "the slow one is still at it");
}
