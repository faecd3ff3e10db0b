//! Mails that come back from outside: a mailbox that is full again and again gets no more, until its person says that it works.

use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{asked::ask, world::World};

const MAIL: &str = "ivan@example.com";

async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let settings = json!({
        "api_key": "re_example_key", "from": "noreply@mail.example.com", "calls_per_s": 1_000,
        "webhook_secret": "whsec_Kpjh/OtoRYswQhc0tKZa0eXUc1nZJtmm", "base_url": format!("{}/resend", world.sandbox.url()),
    });
    let connection = json!({ "merchant": "m", "slug": "mail", "provider": "resend", "settings": settings });
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": [connection] })).await;
    world
}

/// Asks for a mail; how its command stands when all is done.
async fn send(world: &World, key: &str) -> Value {
    let body =
        json!({ "merchant": "m", "channel": "email", "to": MAIL, "subject": "Чек", "text": "Спасибо", "ground": "service" });
    let (status, answer) = ask(world, Some(key), &body).await;
    assert_eq!(status, 202, "{answer}");
    world.quiet().await;
    world.api(&format!("/api/v1/commands/{}", answer["id"].as_str().unwrap())).await
}

/// Has Resend tell, as often as `times`, that the last mail came back.
async fn comes_back(world: &World, times: usize) {
    let bounce = json!({ "type": "Transient", "subType": "MailboxFull", "message": "452" });
    let url = format!("{}{}", world.hub.url(), world.link("mail").await["hook"].as_str().unwrap());
    // Signed in the hub's present.
    let ahead_s = world.clock.now().duration_since(jiff::Timestamp::now()).as_secs();
    let options = json!({ "url": url, "event": "bounced", "age_s": -ahead_s, "data": { "bounce": bounce } });
    for _ in 0..times {
        assert_eq!(world.told_by("resend", "webhook", &options).await["status"], 200);
    }
    world.quiet().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_sends_three_mails_back_within_thirty_days_gets_none_until_somebody_says_that_it_works() {
    let world = world().await;
    for (key, days) in [("a", 31), ("b", 10), ("c", 10), ("d", 0)] {
        assert_eq!(send(&world, key).await["state"], "done", "{key}");
        comes_back(&world, 2).await;
        world.pass(days * 24 * 60);
    }
    let held = send(&world, "e").await;
    assert_eq!((&held["state"], &held["reason"]), (&json!("held"), &json!("opt_out")), "{held}");
    let shown = world.api(&format!("/api/v1/consents?merchant=m&address={MAIL}")).await;
    assert!(shown.to_string().contains("came back 3 times within 30 days"), "{shown}");
    let word = json!({ "merchant": "m", "email": MAIL, "granted": true, "how": "spoken", "proof": "he has emptied it" });
    let (status, answer) = world.ask("/api/v1/consents", &word).await;
    assert!(status < 300, "{status} {answer}");
    assert_eq!(send(&world, "f").await["state"], "done");
}
