//! Chains from outside: what a guest said holds every step of theirs, and a hub that is killed while it sends leaves none standing.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::{
    chains::{commands, is, pairs, serve, states, visit, world},
    world::{World, until},
};

const PHONE: &str = "+79991112233";

async fn says(world: &World, granted: bool, channel: Option<&str>) {
    let mut word = json!({ "merchant": "m", "phone": PHONE, "granted": granted, "proof": "by word of mouth" });
    if let Some(channel) = channel {
        word["channel"] = json!(channel);
    }
    let (status, answer) = world.ask("/api/v1/consents", &word).await;
    assert_eq!(status, 200, "{answer}");
}

fn guest(email: &str) -> Value {
    json!({ "id": 9, "name": "Мария", "phone": PHONE, "email": email })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_by_phone_holds_the_mail_that_waits_for_the_same_guest() {
    let world = world(json!({ "via": ["mail"], "delay": "1h" })).await;
    visit(&world, 1, guest("maria@example.com")).await;
    let other = json!({ "id": 10, "name": "Иван", "phone": "+79990000001", "email": "ivan@example.com" });
    visit(&world, 2, other).await;
    until("both to wait", async || world.commands("waiting").await == 2).await;
    // Words about texts say nothing of mails; words about everything do.
    says(&world, false, Some("sms")).await;
    world.pass(30);
    says(&world, false, None).await;
    world.pass(31);
    until("one to be held", async || (world.commands("held").await, world.commands("done").await) == (1, 1)).await;
    assert_eq!(world.api("/api/v1/counts").await["held"], json!([["opt_out", 1]]));
    says(&world, true, None).await;
    visit(&world, 3, guest("maria@example.com")).await;
    until("the next to wait", async || world.commands("waiting").await == 1).await;
    says(&world, false, Some("sms")).await;
    world.pass(61);
    until("the next to go", async || world.commands("done").await == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_between_two_steps_holds_the_next_one_though_it_goes_to_another_address() {
    let world = world(json!({ "via": ["smsru", "mail"] })).await;
    visit(&world, 1, guest("maria@example.com")).await;
    let stand = async |wanted: &[(&str, &str)]| states(&world, "yclients").await == pairs(wanted);
    until("the mail to wait", async || stand(&[("smsru", "done"), ("mail", "waiting")]).await).await;
    says(&world, false, None).await;
    world.pass(11);
    until("the mail to be held", async || stand(&[("smsru", "done"), ("mail", "held")]).await).await;
    assert_eq!(commands(&world, "yclients").await[1].1["reason"], "opt_out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_being_sent_when_its_hub_died_moves_on_only_where_the_merchant_says_so() {
    for also in [false, true] {
        let world = world(json!({ "via": ["smsru", "whatsapp"], "also_if_unknown": also, "delay": "1h" })).await;
        serve(&world, 1).await;
        is(&world, &[("smsru", "waiting")]).await;
        // Taken to be sent, and never heard of again: what a hub leaves that is killed at that moment.
        let engine = world.hub.engine.clone();
        let link = engine.world().links.values().find(|link| link.slug == "smsru").unwrap().id;
        let due = world.clock.now() + SignedDuration::from_hours(2);
        assert_eq!(engine.store.lease(due, vec![(link, 1)], 1, 1).await.unwrap().commands.len(), 1);
        drop(engine);
        let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(90))).await;
        if !also {
            is(&world, &[("smsru", "unknown")]).await;
            world.pass(30);
            world.quiet().await;
            is(&world, &[("smsru", "unknown")]).await;
            continue;
        }
        is(&world, &[("smsru", "unknown"), ("whatsapp", "done")]).await;
        let told = commands(&world, "rkeeper").await;
        assert_eq!(told[1].1["after"], told[0].1["id"]);
        let why = told[1].1["why"].as_str().unwrap();
        assert!(why.starts_with("nobody knows whether `smsru` sent it: the hub stopped"), "{why}");
        // Another start, and time, change nothing more.
        let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(30))).await;
        world.quiet().await;
        is(&world, &[("smsru", "unknown"), ("whatsapp", "done")]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_called_off_while_its_hub_died_is_followed_by_none() {
    let world = world(json!({ "via": ["smsru", "whatsapp"], "also_if_unknown": true, "delay": "1h" })).await;
    serve(&world, 1).await;
    is(&world, &[("smsru", "waiting")]).await;
    let engine = world.hub.engine.clone();
    let link = engine.world().links.values().find(|link| link.slug == "smsru").unwrap().id;
    let due = world.clock.now() + SignedDuration::from_hours(2);
    assert_eq!(engine.store.lease(due, vec![(link, 1)], 1, 5_000).await.unwrap().commands.len(), 1);
    drop(engine);
    let cancelled = json!({ "order": { "id": 1, "status": "Отменен", "customer": { "phone": "+79995550001" } } });
    assert_eq!(world.post("rkeeper", &cancelled).await.status(), 200);
    until("it to be read", async || world.api("/api/v1/counts").await["entries"] == json!([["read", 2]])).await;
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(90))).await;
    world.in_time("it to be given up", async || world.commands("unknown").await == 1).await;
    world.pass(30);
    world.quiet().await;
    assert_eq!((world.commands("unknown").await, world.commands("done").await, world.commands("waiting").await), (1, 0, 0));
}
