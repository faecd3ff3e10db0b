//! SMS.ru on a bad day: limits of the day, too many calls, errors and pages in place of answers; and what a price costs.

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::world::{World, setup, until};

async fn serve(world: &World, id: u32) {
    let order = json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": format!("+7999555{id:04}"), "name": "Иван" } } });
    assert_eq!(world.post("rkeeper", &order).await.status(), 200);
}

/// The newest command.
async fn text(world: &World) -> Value {
    world.api("/api/v1/commands?unmasked=true").await[0].clone()
}

async fn sends(world: &World) -> usize {
    world.calls("smsru", "/sms/send").await.len()
}

fn time(text: &Value, name: &str) -> Timestamp {
    text[name].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_day_ends_at_the_next_midnight_in_moscow() {
    for limit in [json!({ "daily_limit": 1 }), json!({ "daily_per_number": 0 })] {
        let world = World::new(json!({})).await;
        if limit["daily_limit"] == 1 {
            serve(&world, 1).await;
            world.quiet().await;
        }
        world.control("smsru/settings", &limit).await;
        serve(&world, 2).await;
        let refused = |text: &Value| text["attempts"] == 1 && text["state"] == "waiting";
        until("the refusal", async || refused(&text(&world).await)).await;
        let waiting = text(&world).await;
        let now = world.clock.now().in_tz("Europe/Moscow").unwrap();
        let midnight = now.date().checked_add(1.day()).unwrap().in_tz("Europe/Moscow").unwrap();
        assert_eq!(time(&waiting, "next_at"), midnight.timestamp(), "{limit}: {waiting}");
        // A restart keeps it, and it goes when the day is over.
        world.control("smsru/settings", &json!({ "daily_limit": 1_000, "daily_per_number": null })).await;
        let world = world.restart(async |_, _| {}).await;
        assert_eq!(world.commands("waiting").await, 1);
        world.pass_until(0);
        world.quiet().await;
        assert_eq!(text(&world).await["state"], "done", "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_says_that_nothing_was_done_is_tried_again_and_what_does_not_say_is_left_open() {
    let world = World::new(json!({})).await;
    let fault = async |fault: Value| {
        let mut fault = fault;
        fault["path"] = json!("/sms/send");
        world.control("smsru/faults", &fault).await;
    };
    for (id, told, wait) in [
        (1, json!({ "kind": "status", "status": 429, "retry_after": 300 }), 295..305),
        (2, json!({ "kind": "status", "status": 429 }), 0..60),
        (3, json!({ "kind": "rate_limit" }), 0..60),
        (4, json!({ "kind": "status", "status": 503 }), 0..60),
    ] {
        fault(told.clone()).await;
        let before = sends(&world).await;
        serve(&world, id).await;
        until("the first try", async || sends(&world).await == before + 1 && text(&world).await["attempts"] == 1).await;
        let waiting = text(&world).await;
        let waits_s = time(&waiting, "next_at").duration_since(time(&waiting, "due_at")).as_secs();
        assert!(wait.contains(&waits_s), "{told}: {waiting}");
        world.pass(6);
        world.quiet().await;
        assert_eq!((&text(&world).await["state"], sends(&world).await), (&json!("done"), before + 2), "{told}");
    }
    for (id, told) in [
        (5, json!({ "kind": "status", "status": 500 })),
        (6, json!({ "kind": "status", "status": 502 })),
        (7, json!({ "kind": "garbage" })),
        (8, json!({ "kind": "cut_before" })),
    ] {
        fault(told.clone()).await;
        let before = sends(&world).await;
        serve(&world, id).await;
        until("the outcome to be open", async || text(&world).await["state"] == "unknown").await;
        world.pass(60);
        serve(&world, 100 + id).await;
        world.quiet().await;
        assert_eq!(sends(&world).await, before + 2, "{told}: not sent again");
    }
    assert_eq!((world.commands("unknown").await, world.texts().await.len()), (4, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_is_asked_before_each_text_where_it_is_wanted_and_its_failure_keeps_none_back() {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["ask_cost"] = json!(true);
    world.apply(&setup).await;
    serve(&world, 1).await;
    world.quiet().await;
    world.control("smsru/faults", &json!({ "kind": "garbage", "path": "/sms/cost" })).await;
    serve(&world, 2).await;
    world.quiet().await;
    assert_eq!((world.texts().await.len(), world.commands("done").await), (2, 2));
    assert_eq!(world.calls("smsru", "/sms/cost").await.len(), 2);
}
