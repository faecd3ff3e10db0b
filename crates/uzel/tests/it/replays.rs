//! Replay and readiness: what is taken up again, what is not, and what counts as progress.

use serde_json::{Value, json};

use crate::{
    oauth,
    world::{World, setup, until},
};

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

async fn replay(world: &World, body: Value) -> Value {
    let (status, answer) = world.ask("/api/v1/replay", &body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn replay_newest(world: &World, provider: &str) -> Value {
    let entry = world.newest(provider).await["entry"].clone();
    replay(world, json!({ "entry": entry })).await["outcomes"][0]["outcome"].clone()
}

fn look_ups(timeline: &Value) -> usize {
    timeline["commands"].as_array().unwrap().iter().filter(|command| command["job"]["job"] == "look_up").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_waits_is_not_queued_again_and_one_that_died_is() {
    let world = World::new(json!({})).await;
    oauth::deal(&world, 9001).await;
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 503, "calls": 1_000 })).await;
    oauth::won(&world, 9001).await;
    until("a try", async || !world.calls("amocrm", "/api/v4/leads").await.is_empty()).await;
    let outcome = replay_newest(&world, "amocrm").await;
    assert_eq!((&outcome["queued"], &outcome["known_events"]), (&json!(0), &json!(1)), "{outcome}");
    assert_eq!(look_ups(&world.newest("amocrm").await), 1);

    // amoCRM says that there is no such address: the look-up is dead.
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 404, "calls": 1 })).await;
    until("the look-up to die", async || world.commands("dead").await == 1).await;
    assert_eq!(world.texts().await.len(), 0);
    let outcome = replay_newest(&world, "amocrm").await;
    assert_eq!(outcome["queued"], 1, "{outcome}");
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
    // Now that it was found, nothing is left to be done again.
    let outcome = replay_newest(&world, "amocrm").await;
    assert_eq!(outcome["queued"], 0, "{outcome}");
    world.quiet().await;
    assert_eq!((world.texts().await.len(), look_ups(&world.newest("amocrm").await)), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_replays_at_once_take_a_dead_call_up_once() {
    let world = World::new(json!({})).await;
    oauth::deal(&world, 9001).await;
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 404 })).await;
    oauth::won(&world, 9001).await;
    until("the look-up to die", async || world.commands("dead").await == 1).await;
    let entry = world.newest("amocrm").await["entry"].clone();
    let asked: Vec<_> = (0..16)
        .map(|_| {
            let url = format!("{}/api/v1/replay", world.hub.url());
            let request = world.web.post(url).bearer_auth(world.hub.owner_key().unwrap()).json(&json!({ "entry": entry }));
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 200);
    }
    world.quiet().await;
    // One look-up of the deal, one of its contact, one text.
    assert_eq!((world.texts().await.len(), world.commands("done").await), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_dead_is_sent_by_a_replay_once_its_reason_is_gone() {
    let long = "длинно ".repeat(100);
    let world = World::new(json!({ "text": long })).await;
    world.post("rkeeper", &served(1, "+79991110001")).await;
    world.quiet().await;
    assert_eq!(world.commands("dead").await, 1, "the text is too long for SMS.ru");
    assert_eq!(replay_newest(&world, "rkeeper").await["queued"], 1);
    world.quiet().await;
    assert_eq!(world.commands("dead").await, 2, "it still is");
    world.apply(&setup(&world.sandbox.url(), &json!({ "text": "short" }))).await;
    assert_eq!(replay_newest(&world, "rkeeper").await["queued"], 1);
    world.quiet().await;
    assert_eq!(world.texts().await, [("79991110001".to_owned(), "short".to_owned())]);
    assert_eq!(replay_newest(&world, "rkeeper").await["queued"], 0, "what is done is done");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_read_again_by_provider_and_time_with_their_count_first() {
    let world = World::new(json!({})).await;
    let bad = async |provider: &str| {
        let url = format!("{}/api/webhook/{provider}?key={}", world.hub.url(), crate::world::KEY);
        let answer = world.web.post(url).header("content-type", "application/json").body("{ no json").send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    bad("rkeeper").await;
    bad("yclients").await;
    world.pass(60);
    let between = world.clock.now().to_string();
    world.pass(60);
    bad("rkeeper").await;
    until("three dead letters", async || world.api("/api/v1/journal?status=dead").await.as_array().unwrap().len() == 3).await;
    for (filter, count) in [
        (json!({}), 3),
        (json!({ "provider": "rkeeper" }), 2),
        (json!({ "provider": "rkeeper", "from": between }), 1),
        (json!({ "to": between }), 2),
        (json!({ "provider": "iiko" }), 0),
    ] {
        let mut body = json!({ "dead": true, "dry_run": true });
        body.as_object_mut().unwrap().extend(filter.as_object().unwrap().clone());
        let counted = replay(&world, body.clone()).await;
        assert_eq!((&counted["count"], &counted["outcomes"]), (&json!(count), &json!([])), "{filter}");
        body["dry_run"] = json!(false);
        assert_eq!(replay(&world, body).await["outcomes"].as_array().unwrap().len(), count, "{filter}");
    }
    let (status, _) = world.ask("/api/v1/replay", &json!({ "entry": "inb_00000000000000000000000000" })).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_when_something_waits_too_long_unless_it_is_paused() {
    let ready = async |world: &World| world.web.get(format!("{}/readyz", world.hub.url())).send().await.unwrap().status();
    let world = World::bare(uzel::hub::Parts::default(), |settings| settings.ready_age_s = 120).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["calls_per_s"] = json!(1);
    world.apply(&setup).await;
    // At one text a second this many wait for minutes.
    let orders: Vec<Value> = (0..300)
        .map(|id| {
            json!({ "eventType": "DeliveryOrderUpdate", "organizationId": "o", "eventInfo": { "id": format!("order-{id}"),
            "creationStatus": "Success", "order": { "phone": format!("+7999777{id:04}"), "status": "Closed", "number": id } } })
        })
        .collect();
    world.post("iiko", &json!(orders)).await;
    until("the texts to wait", async || world.commands("waiting").await > 200).await;
    assert_eq!(ready(&world).await, 200, "they have not waited long yet");
    world.pass(3);
    assert_eq!(ready(&world).await, 503);
    let told: Value = world.web.get(format!("{}/readyz", world.hub.url())).send().await.unwrap().json().await.unwrap();
    assert!(told["ready"] == false && told["oldest_waiting_s"].as_u64().unwrap() >= 120, "{told}");
    until("the metric", async || {
        let page = world.web.get(format!("{}/metrics", world.hub.url())).send().await.unwrap().text().await.unwrap();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("uzel_oldest_waiting_seconds "))
            .map(|age| age.parse::<u32>().unwrap());
        line.is_some_and(|age| age >= 120)
    })
    .await;
    // What a person has paused waits on purpose.
    setup["connection"][4]["paused"] = json!(true);
    world.apply(&setup).await;
    assert_eq!(ready(&world).await, 200);
    setup["connection"][4]["paused"] = json!(false);
    world.apply(&setup).await;
    assert_eq!(ready(&world).await, 503);
}
