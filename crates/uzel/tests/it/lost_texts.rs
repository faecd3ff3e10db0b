//! Texts whose answer was lost after the provider took them: never sent twice, found where the provider can be asked, known by news
//! of a message to the same person at the same time.

use serde_json::{Value, json};

use crate::world::{FIXTURE_KEY, World, setup, until};

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } })
}

async fn serve(world: &World, id: u32, phone: &str) {
    assert_eq!(world.post("rkeeper", &served(id, phone)).await.status(), 200);
}

async fn with_resend(world: &World) {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["resend_lost"] = json!(true);
    world.apply(&setup).await;
}

/// Guests are texted by Exolve.
pub(crate) async fn by_exolve() -> World {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "via": "exolvesms" }));
    let settings =
        json!({ "api_key": "key-of-exolve", "sender": "79580001122", "base_url": format!("{}/exolvesms", world.sandbox.url()) });
    setup["connection"].as_array_mut().unwrap().push(json!({ "merchant": "m", "outlet": "o", "slug": "exolvesms",
        "provider": "exolvesms", "poll": true, "settings": settings, "webhook_keys": [FIXTURE_KEY] }));
    world.apply(&setup).await;
    world
}

async fn commands(world: &World) -> Vec<Value> {
    world.api("/api/v1/commands?unmasked=true").await.as_array().unwrap().clone()
}

async fn calls(world: &World, provider: &str, path: &str) -> usize {
    world.calls(provider, path).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_smsru_took_is_not_sent_again_where_nobody_wants_it() {
    let world = World::new(json!({})).await;
    world.control("smsru/faults", &json!({ "kind": "cut_after", "path": "/sms/send" })).await;
    serve(&world, 1, "+79995550001").await;
    until("the lost answer", async || world.commands("unknown").await == 1).await;
    for _ in 0..3 {
        world.pass(60);
        serve(&world, 2, "+79995550002").await;
        world.quiet().await;
    }
    assert_eq!((calls(&world, "smsru", "/sms/send").await, world.commands("unknown").await), (2, 1));
    assert_eq!(world.notices("unknown").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_resend_lost_the_same_text_goes_once_more_after_a_minute_and_a_known_one_is_done() {
    let world = World::new(json!({})).await;
    with_resend(&world).await;
    world.control("smsru/settings", &json!({ "duplicate_guard": true })).await;
    world.control("smsru/faults", &json!({ "kind": "cut_after", "path": "/sms/send" })).await;
    serve(&world, 1, "+79995550001").await;
    until("the lost answer", async || calls(&world, "smsru", "/sms/send").await == 1 && world.commands("waiting").await == 1)
        .await;
    let waiting = commands(&world).await.remove(0);
    let (due_at, next_at): (jiff::Timestamp, jiff::Timestamp) =
        (waiting["due_at"].as_str().unwrap().parse().unwrap(), waiting["next_at"].as_str().unwrap().parse().unwrap());
    assert!((61..70).contains(&next_at.duration_since(due_at).as_secs()), "{waiting}");
    world.pass(2);
    world.quiet().await;
    let text = commands(&world).await.remove(0);
    assert_eq!((&text["state"], &text["attempts"]), (&json!("done"), &json!(2)), "{text}");
    assert!(text["reason"].as_str().unwrap().contains("231"), "{text}");
    assert_eq!((world.texts().await.len(), calls(&world, "smsru", "/sms/send").await), (1, 2));
    let bodies: Vec<Value> = world.calls("smsru", "/sms/send").await.into_iter().map(|mut call| call["body"].take()).collect();
    assert_eq!(bodies[0], bodies[1], "the same text to the same phone");
    assert!(world.notices("unknown").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_resend_lost_a_text_that_never_came_arrives_and_one_that_is_lost_twice_stays_unknown() {
    let world = World::new(json!({})).await;
    with_resend(&world).await;
    world.control("smsru/faults", &json!({ "kind": "cut_before", "path": "/sms/send" })).await;
    serve(&world, 1, "+79995550001").await;
    until("the lost answer", async || calls(&world, "smsru", "/sms/send").await == 1 && world.commands("waiting").await == 1)
        .await;
    world.pass(2);
    world.quiet().await;
    let text = commands(&world).await.remove(0);
    assert!(text["state"] == "done" && text["provider_id"] == "202647-1000001", "{text}");
    // A second loss is the last one, and a restart forgets nothing of it.
    world.control("smsru/faults", &json!({ "kind": "cut_before", "path": "/sms/send", "calls": 9 })).await;
    serve(&world, 2, "+79995550002").await;
    until("the first loss", async || calls(&world, "smsru", "/sms/send").await == 3 && world.commands("waiting").await == 1)
        .await;
    let world = world.restart(async |_, clock| clock.advance(jiff::SignedDuration::from_mins(2))).await;
    until("the second loss", async || world.commands("unknown").await == 1).await;
    world.pass(24 * 60);
    serve(&world, 3, "+79995550003").await;
    until("another text", async || calls(&world, "smsru", "/sms/send").await == 5).await;
    let bodies: Vec<String> = world.calls("smsru", "/sms/send").await.iter().map(|call| call["body"].to_string()).collect();
    assert_eq!(bodies.iter().filter(|body| body.contains("79995550002")).count(), 2, "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_whose_answer_was_lost_is_found_at_exolve_and_not_sent_again() {
    for fault in ["cut_after", "no id"] {
        let world = by_exolve().await;
        match fault {
            "no id" => world.control("exolvesms/settings", &json!({ "without_id": true })).await,
            kind => world.control("exolvesms/faults", &json!({ "kind": kind, "path": "/messaging/v1/SendSMS" })).await,
        }
        serve(&world, 1, "+79995550001").await;
        until("the lost answer", async || world.commands("unknown").await == 1).await;
        world.in_time("the message to be found", async || world.commands("done").await == 1).await;
        let text = commands(&world).await.remove(0);
        assert_eq!(
            (&text["provider_id"], &text["delivery"]),
            (&json!("439166538239448536"), &json!("delivered")),
            "{fault}: {text}"
        );
        assert!(text["reason"].as_str().unwrap().contains("found at the provider"), "{text}");
        assert_eq!(calls(&world, "exolvesms", "/messaging/v1/SendSMS").await, 1, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_exolve_never_had_stays_unknown_and_is_not_sent_again() {
    let world = by_exolve().await;
    world.control("exolvesms/faults", &json!({ "kind": "cut_before", "path": "/messaging/v1/SendSMS" })).await;
    serve(&world, 1, "+79995550001").await;
    until("the lost answer", async || world.commands("unknown").await == 1).await;
    // A message with the same words to another, and to the same phone with other words.
    for (to, text) in [("79995550002", "Иван: Кафе"), ("79995550001", "Другое")] {
        let body = json!({ "number": "79580001122", "destination": to, "text": text });
        let post = world.web.post(format!("{}/exolvesms/messaging/v1/SendSMS", world.sandbox.url())).bearer_auth("k");
        assert_eq!(post.json(&body).send().await.unwrap().status(), 200);
    }
    let asked = async || {
        world
            .calls("exolvesms", "/messaging/v1/GetList")
            .await
            .iter()
            .filter(|call| call["body"].to_string().contains("79995550001"))
            .count()
    };
    world.in_time("two looks", async || asked().await >= 2).await;
    assert_eq!((world.commands("unknown").await, calls(&world, "exolvesms", "/messaging/v1/SendSMS").await), (1, 3));
}

/// Has Exolve tell of all that it took since the last time.
async fn tell(world: &World, options: Value) {
    let mut options = options;
    options["url"] = json!(format!("{}/hooks/exolvesms?key={FIXTURE_KEY}", world.hub.url()));
    assert_eq!(world.told_by("exolvesms", "event", &options).await["status"], 200);
    until("it to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_a_message_to_the_same_person_at_that_time_settle_it() {
    let world = by_exolve().await;
    let lose = json!({ "kind": "cut_after", "path": "/messaging/v1/SendSMS", "calls": 2 });
    world.control("exolvesms/faults", &lose).await;
    serve(&world, 1, "+79995550001").await;
    serve(&world, 2, "+79995550002").await;
    until("two lost answers", async || world.commands("unknown").await == 2).await;
    // One tells when it was sent, the other does not; a stranger's and one for nobody change nothing.
    tell(&world, json!({ "message_ids": ["439166538239448536"], "state": "DELIVERED" })).await;
    tell(&world, json!({ "message_ids": ["439166538239448537"], "state": "RETRIES_EXCEEDED", "without_date": true })).await;
    tell(&world, json!({ "message_ids": ["1"], "state": "DELIVERED" })).await;
    until("both to be known", async || world.commands("done").await == 2).await;
    let mut ends: Vec<String> =
        commands(&world).await.iter().map(|text| format!("{} {}", text["delivery"], text["delivery_code"])).collect();
    ends.sort();
    assert_eq!(ends, [r#""delivered" "DELIVERED""#, r#""failed" "RETRIES_EXCEEDED""#]);
    assert_eq!(calls(&world, "exolvesms", "/messaging/v1/SendSMS").await, 2);
    // The same news once more, and later ones: the end stays.
    tell(&world, json!({ "message_ids": ["439166538239448536"], "state": "FAILED" })).await;
    assert!(commands(&world).await.iter().any(|text| text["delivery_code"] == "DELIVERED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_may_be_of_two_lost_texts_or_of_one_that_is_known_settle_none() {
    let world = by_exolve().await;
    // The first is known; of the next two to the same phone nobody can say which one it was.
    serve(&world, 1, "+79995550001").await;
    until("the first", async || world.commands("done").await == 1).await;
    world.control("exolvesms/faults", &json!({ "kind": "cut_before", "path": "/messaging/v1/SendSMS" })).await;
    serve(&world, 2, "+79995550001").await;
    until("a lost answer", async || world.commands("unknown").await == 1).await;
    tell(&world, json!({ "message_ids": ["439166538239448536"], "state": "DELIVERED" })).await;
    assert_eq!(world.commands("unknown").await, 1, "that is the first one's");
    world.control("exolvesms/faults", &json!({ "kind": "cut_after", "path": "/messaging/v1/SendSMS" })).await;
    serve(&world, 3, "+79995550001").await;
    until("two lost answers", async || world.commands("unknown").await == 2).await;
    tell(&world, json!({ "message_ids": ["439166538239448537"], "state": "DELIVERED" })).await;
    assert_eq!(world.commands("unknown").await, 2);
}
