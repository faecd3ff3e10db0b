//! Two hubs on one database: what people are told, they are told once.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::{Hub, Parts};

use crate::world::{World, anywhere, setup, until};

/// Two nodes with one clock, and two people who get mail: Anna wants the day's digest and notices, Boris the digest.
async fn nodes() -> (World, Hub) {
    let world = World::on_postgres().await;
    // Nobody's hour has come yet.
    world.pass_until(8);
    let mut file = setup(&world.sandbox.url(), &json!({}));
    let settings = json!({ "api_key": "re_example_key", "from": "noreply@mail.example.com", "calls_per_s": 1_000,
        "base_url": format!("{}/resend", world.sandbox.url()) });
    let mail = json!({ "merchant": "m", "slug": "mail", "provider": "resend", "settings": settings });
    file["connection"].as_array_mut().unwrap().push(mail);
    let person = |slug: &str, wants: Value| {
        let to = format!("{slug}@example.com");
        json!({ "merchant": "m", "slug": slug, "language": "en", "digest_hour": 9, "wants": wants, "addresses": [{ "via": "mail", "to": to }] })
    };
    file["recipient"] = json!([person("anna", json!(["digest_day", "notices"])), person("boris", json!(["digest_day"]))]);
    world.apply(&file).await;
    let beside = uzel::settings::Settings { listen: anywhere(), ..world.beside() };
    let other = Hub::start(&beside, Parts { clock: world.clock.clone(), ..Parts::default() }).await.unwrap();
    until("the other node to know them", async || other.engine.world().recipients().count() == 2).await;
    (world, other)
}

/// Of each mail whom it went to, and its subject.
async fn told(world: &World) -> Vec<(String, String)> {
    let accepted = world.shown("resend/accepted").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    accepted.as_array().unwrap().iter().map(|mail| (text(&mail["to"][0]), text(&mail["subject"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_made_once_for_each_person_however_many_nodes_look_at_the_clock() {
    let (world, other) = nodes().await;
    for _ in 0..4 {
        let now = world.clock.now().in_tz("Europe/Moscow").unwrap();
        let then = now.date().tomorrow().unwrap().at(9, 1, 0, 0).in_tz("Europe/Moscow").unwrap();
        // The hour comes for both at the same moment.
        world.clock.advance(then.timestamp().duration_since(now.timestamp()));
        let day = now.date().strftime("%-d %B %Y").to_string();
        let of_day = async || told(&world).await.iter().filter(|(_, subject)| subject.ends_with(&day)).count();
        until("both digests of the day", async || of_day().await >= 2).await;
    }
    world.quiet().await;
    let sent = told(&world).await;
    let mut once = sent.clone();
    once.sort();
    once.dedup();
    assert_eq!((once.len(), sent.len() >= 8), (sent.len(), true), "{sent:?}");
    let made = world.texts_of("SELECT job FROM command").await;
    let digests = made.iter().filter(|job| job.contains("The day in figures")).count();
    assert_eq!(digests, sent.len(), "nor was one made and not sent");
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_told_once_though_both_nodes_find_what_is_wrong() {
    let (world, other) = nodes().await;
    world.control("smsru/faults", &json!({ "kind": "cut_after", "path": "/sms/send", "calls": 40 })).await;
    // What is lost on either of the nodes is the same trouble of the same connection.
    for id in 0..20 {
        let order = json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
        let url = if id % 2 == 0 { world.hub.url() } else { other.url() };
        let answer =
            world.web.post(format!("{url}/api/webhook/rkeeper?key={}", crate::world::KEY)).json(&order).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    world.in_steps(SignedDuration::from_secs(1), "all to be lost", async || world.commands("unknown").await == 20).await;
    let mails = async || world.shown("resend/accepted").await.as_array().unwrap().len();
    until("the notice", async || mails().await > 0).await;
    // Another trouble is told too: by then both nodes have looked again at the first one.
    world.control("smsru/faults", &json!([])).await;
    let mut file = setup(&world.sandbox.url(), &json!({}));
    file["connection"][4]["settings"]["api_id"] = json!("nomoney");
    world.apply(&file).await;
    for (url, id) in [(world.hub.url(), 100), (other.url(), 101)] {
        let order = json!({ "order": { "id": id, "status": "Completed", "customer": { "phone": format!("+7999000{id:04}") } } });
        world.web.post(format!("{url}/api/webhook/rkeeper?key={}", crate::world::KEY)).json(&order).send().await.unwrap();
    }
    until("the other notice", async || mails().await > 1).await;
    let jobs = world.texts_of("SELECT job FROM command").await;
    assert_eq!((mails().await, jobs.iter().filter(|job| job.contains("\"tell\"")).count()), (2, 2));
    other.stop().await.unwrap();
}
