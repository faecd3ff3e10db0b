//! Notices to devices, and the owner's digest, from outside.

use jiff::{SignedDuration, Timestamp, ToSpan, civil::Date};
use serde_json::{Value, json};
use uzel_engine::Clock;
use uzel_sandbox::Sandbox;

use crate::{
    conformance,
    world::{World, setup, until, web},
};

const KEY: &str = "BLcEGW5vDa7YoGBl1w0gtN6U9cBei8ZXgpG45mDWOmzb19ZHOJzRh1gh-XZeqS5-c-PtVvG8VRU8VF60phJCE9c";
pub(crate) const TOKEN: &str = "cGlZ-Rx0TjC4:APA91bE_test_token_invented";

/// Merchant `m` with both connections that reach devices, and a person who wants the day's digest by one of them.
pub(crate) fn with_anna(sandbox: &str, via: &str) -> Value {
    let mut setup = setup(sandbox, &json!({}));
    for id in ["webpush", "fcm"] {
        let settings = conformance::settings(uzel_connectors::provider(id).unwrap(), sandbox);
        let connection = json!({ "merchant": "m", "slug": id, "provider": id, "settings": settings });
        setup["connection"].as_array_mut().unwrap().push(connection);
    }
    setup["recipient"] = json!([anna(via)]);
    setup
}

pub(crate) fn anna(via: &str) -> Value {
    json!({
        "merchant": "m", "slug": "anna", "language": "ru", "wants": ["digest_day"], "addresses": [{ "via": via }]
    })
}

pub(crate) async fn world(via: &str) -> World {
    let world = World::bare(uzel::hub::Parts::default(), |_| {}).await;
    world.apply(&with_anna(&world.sandbox.url(), via)).await;
    world
}

async fn id_of(world: &World, slug: &str) -> String {
    let recipients = world.api("/api/v1/recipients").await;
    let found = recipients.as_array().unwrap().iter().find(|recipient| recipient["slug"] == slug).unwrap().clone();
    found["id"].as_str().unwrap().to_owned()
}

pub(crate) async fn devices(world: &World, slug: &str) -> Vec<Value> {
    let path = format!("/api/v1/recipients/{}/devices", id_of(world, slug).await);
    world.api(&path).await.as_array().unwrap().clone()
}

pub(crate) async fn register(world: &World, slug: &str, via: &str, device: &Value) -> (u16, Value) {
    let path = format!("/api/v1/recipients/{}/devices", id_of(world, slug).await);
    world.ask(&path, &json!({ "via": via, "device": device })).await
}

/// The stand-in's browser at this place of its push service.
pub(crate) async fn browser(world: &World, place: &str) -> Value {
    let mut browser = world.shown("webpush/subscription").await;
    browser["endpoint"] = json!(format!("{}/webpush/wpush/v2/{place}", world.sandbox.url()));
    browser
}

pub(crate) async fn serve(world: &World, ids: std::ops::Range<u32>) {
    for id in ids {
        let phone = format!("+7999555{id:04}");
        let body = json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } });
        assert_eq!(world.post("rkeeper", &body).await.status(), 200);
    }
    world.quiet().await;
}

pub(crate) fn today(world: &World) -> Date {
    world.clock.now().in_tz("Europe/Moscow").unwrap().date()
}

/// Push services refuse whoever lives in another time.
async fn follow(sandbox: &Sandbox, clock: &Clock, step: SignedDuration) {
    let ahead = clock.now().duration_since(Timestamp::now()) + step;
    for provider in ["webpush", "fcm"] {
        let url = format!("{}/_sandbox/{provider}/settings", sandbox.url());
        let answer = web().put(url).json(&json!({ "clock_ahead_s": ahead.as_secs() })).send().await.unwrap();
        assert!(answer.status().is_success());
    }
}

/// So many hours pass while the hub is off.
pub(crate) async fn sleep_for(sandbox: &Sandbox, clock: &Clock, hours: i64) {
    follow(sandbox, clock, SignedDuration::from_hours(hours)).await;
    clock.advance(SignedDuration::from_hours(hours));
}

/// Until it is this hour of the next day in Moscow.
pub(crate) async fn pass_to_tomorrow(world: &World, hour: i8) {
    // The services first: the digest may go at once.
    let now = world.clock.now().in_tz("Europe/Moscow").unwrap();
    let then = now.date().tomorrow().unwrap().at(hour, 1, 0, 0).in_tz("Europe/Moscow").unwrap();
    let step = then.timestamp().duration_since(now.timestamp());
    follow(&world.sandbox, &world.clock, step).await;
    world.clock.advance(step);
}

pub(crate) async fn messages(world: &World, provider: &str) -> Vec<Value> {
    world.shown(&format!("{provider}/messages")).await.as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_was_registered_gets_the_digest_once_and_its_address_shows_nowhere() {
    let world = world("webpush").await;
    let link = world.link("webpush").await["id"].as_str().unwrap().to_owned();
    assert_eq!(world.api(&format!("/api/v1/connections/{link}/push-key")).await["public_key"], KEY);
    world.control("webpush/settings", &json!({ "application_server_key": KEY })).await;
    let (status, device) = register(&world, "anna", "webpush", &browser(&world, "a-capability-of-anna").await).await;
    assert_eq!(status, 200, "{device}");
    assert_eq!(device["service"], json!(world.sandbox.url()));
    serve(&world, 1..4).await;
    let day = today(&world);
    pass_to_tomorrow(&world, 9).await;
    until("the digest", async || !messages(&world, "webpush").await.is_empty()).await;
    world.quiet().await;
    let sent = messages(&world, "webpush").await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    let payload = &sent[0]["payload"];
    assert!(payload["title"].as_str().unwrap().starts_with("Итоги дня: m, "), "{payload}");
    assert_eq!(payload["body"], "Визиты и заказы: 3");
    assert_eq!(sent[0]["topic"], payload["tag"]);
    assert_eq!(sent[0]["vapid"]["aud"], json!(world.sandbox.url()));

    let digest = world.api(&format!("/api/v1/merchants/m/digest?day={day}&picture=true&language=en")).await;
    assert_eq!(digest["figures"]["visits"], 3, "{digest}");
    assert_eq!(digest["figures"]["sent"], 3);
    assert!(digest["text"].as_str().unwrap().contains("Visits and orders: 3"), "{digest}");
    assert!(digest["picture"].as_str().unwrap().starts_with("iVBORw0KGgo"));

    // A restart in the same day makes none again, nor does the next look.
    let world = world.restart(async |sandbox, clock| sleep_for(sandbox, clock, 3).await).await;
    let mut setup = with_anna(&world.sandbox.url(), "webpush");
    let mut boris = anna("webpush");
    boris["slug"] = json!("boris");
    setup["recipient"].as_array_mut().unwrap().push(boris);
    world.apply(&setup).await;
    assert_eq!(register(&world, "boris", "webpush", &browser(&world, "boris").await).await.0, 200);
    until("the other's digest", async || messages(&world, "webpush").await.len() > 1).await;
    world.quiet().await;
    let tokens: Vec<Value> = messages(&world, "webpush").await.iter().map(|sent| sent["token"].clone()).collect();
    assert_eq!(tokens, ["a-capability-of-anna", "boris"]);
    for path in ["/api/v1/journal?limit=1000", "/api/v1/commands", "/api/v1/recipients", "/api/v1/audit"] {
        let shown = world.api(path).await.to_string();
        assert!(!shown.contains("a-capability-of-anna") && !shown.contains("BCVxsr7N"), "{path}: {shown}");
    }
    let journal = world.api("/api/v1/journal?provider=webpush").await;
    assert_eq!(journal[0]["endpoint"], json!(format!("POST {}/***", world.sandbox.url())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_its_push_service_no_longer_knows_is_forgotten() {
    for (via, device, other) in [("webpush", "gone", "missing"), ("fcm", "unregistered", "mismatch")] {
        let world = world(via).await;
        for name in [device, other] {
            let device = match via {
                "webpush" => browser(&world, name).await,
                _ => json!(format!("{TOKEN}-{name}")),
            };
            assert_eq!(register(&world, "anna", via, &device).await.0, 200);
        }
        assert_eq!(devices(&world, "anna").await.len(), 2);
        serve(&world, 1..2).await;
        pass_to_tomorrow(&world, 9).await;
        until("both to be forgotten", async || devices(&world, "anna").await.is_empty()).await;
        world.quiet().await;
        assert_eq!(world.commands("dead").await, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_the_digest_by_fcm_and_a_token_is_of_one_person() {
    let world = world("fcm").await;
    let mut setup = with_anna(&world.sandbox.url(), "fcm");
    let mut boris = anna("fcm");
    (boris["slug"], boris["wants"]) = (json!("boris"), json!([]));
    setup["recipient"].as_array_mut().unwrap().push(boris);
    world.apply(&setup).await;
    assert_eq!(register(&world, "boris", "fcm", &json!(TOKEN)).await.0, 200);
    assert_eq!(register(&world, "anna", "fcm", &json!(format!(" {TOKEN}\n"))).await.0, 200);
    assert_eq!((devices(&world, "boris").await.len(), devices(&world, "anna").await.len()), (0, 1));
    serve(&world, 1..3).await;
    pass_to_tomorrow(&world, 9).await;
    until("the digest", async || !messages(&world, "fcm").await.is_empty()).await;
    let sent = messages(&world, "fcm").await;
    assert_eq!(sent[0]["token"], TOKEN);
    assert_eq!(sent[0]["notification"]["body"], "Визиты и заказы: 2");
    // A token of Google is taken once, however many messages go by it.
    assert_eq!(world.calls("fcm", "/token").await.len(), 1);
    let journal = world.api("/api/v1/journal?provider=fcm").await.to_string();
    assert!(!journal.contains("ya29."), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_apple_that_is_wrong_is_told_once_and_renews_no_token() {
    let world = world("fcm").await;
    assert_eq!(register(&world, "anna", "fcm", &json!(format!("{TOKEN}-third-party"))).await.0, 200);
    serve(&world, 1..2).await;
    pass_to_tomorrow(&world, 9).await;
    until("the notice", async || !world.notices("account").await.is_empty()).await;
    assert!(world.notices("account").await[0]["text"].as_str().unwrap().contains("Apple"));
    assert_eq!(world.calls("fcm", "/token").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_again_with_other_keys_is_one_device_and_can_be_taken_away() {
    let world = world("webpush").await;
    let mut own = browser(&world, "one").await;
    assert_eq!(register(&world, "anna", "webpush", &own).await.0, 200);
    own["keys"]["auth"] = json!("AAAAAAAAAAAAAAAAAAAAAA");
    assert_eq!(register(&world, "anna", "webpush", &own).await.0, 200);
    let known = devices(&world, "anna").await;
    assert_eq!(known.len(), 1, "{known:?}");
    let path = format!("/api/v1/recipients/{}/devices/{}", id_of(&world, "anna").await, known[0]["id"].as_str().unwrap());
    let delete = async || {
        let key = world.hub.owner_key().unwrap();
        world.web.delete(format!("{}{path}", world.hub.url())).bearer_auth(key).send().await.unwrap().status().as_u16()
    };
    assert_eq!(delete().await, 204);
    assert_eq!(delete().await, 404);
    assert!(devices(&world, "anna").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_device_is_told_by_its_field() {
    let world = world("webpush").await;
    let mut off_curve = browser(&world, "one").await;
    off_curve["keys"]["p256dh"] = json!("B".to_owned() + &"A".repeat(86));
    for (via, device, field) in [
        ("webpush", off_curve, "/device"),
        ("webpush", json!("device"), "/device"),
        ("webpush", json!({ "endpoint": 7 }), "/device"),
        ("webpush", json!(null), "/device"),
        ("webpush", json!([]), "/device"),
        ("fcm", json!(TOKEN), "/via"),
        ("nothing", json!(TOKEN), "/via"),
    ] {
        let (status, answer) = register(&world, "anna", via, &device).await;
        assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!(field)), "{device}: {answer}");
    }
    assert!(devices(&world, "anna").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_whose_hour_was_missed_comes_the_same_day_and_not_a_day_later() {
    let world = world("webpush").await;
    assert_eq!(register(&world, "anna", "webpush", &browser(&world, "one").await).await.0, 200);
    serve(&world, 1..3).await;
    // The hub is off from before the hour until the evening.
    pass_to_tomorrow(&world, 7).await;
    let world = world.restart(async |sandbox, clock| sleep_for(sandbox, clock, 14).await).await;
    until("the digest of yesterday", async || messages(&world, "webpush").await.len() == 1).await;
    // Off for two days: the day before yesterday is told of no more, yesterday is.
    let world = world.restart(async |sandbox, clock| sleep_for(sandbox, clock, 48).await).await;
    until("the digest of the next day", async || messages(&world, "webpush").await.len() == 2).await;
    world.quiet().await;
    let sent = messages(&world, "webpush").await;
    let title = |place: usize| sent[place]["payload"]["title"].as_str().unwrap().to_owned();
    assert!(title(0) != title(1), "{sent:?}");
    assert_eq!(sent[1]["payload"]["body"], "Визиты и заказы: 0");
    let yesterday = today(&world).saturating_sub(1.days());
    assert!(title(1).contains(&format!(" {} ", yesterday.day())), "{}", title(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_asked_for_by_day_and_week_and_an_odd_day_is_refused() {
    let world = world("webpush").await;
    serve(&world, 1..3).await;
    let day = today(&world);
    let week = world.api(&format!("/api/v1/merchants/m/digest?day={day}&span=week&language=uz")).await;
    assert_eq!(week["figures"]["visits"], 2, "{week}");
    assert_eq!(week["figures"]["bars"].as_array().unwrap().len(), 7);
    assert!(week["subject"].as_str().unwrap().starts_with("Hafta yakuni"), "{week}");
    assert_eq!(week["picture"], Value::Null);
    for odd in ["2026-13-01", "yesterday", "2026-11-27T00:00:00Z", ""] {
        let answer = world.api(&format!("/api/v1/merchants/m/digest?day={odd}")).await;
        assert_eq!(answer["status"], 400, "{odd}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_tells_what_messages_cost_in_its_days() {
    let world = World::bare(uzel::hub::Parts::default(), |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    setup["connection"][4]["settings"]["ask_cost"] = json!(true);
    world.apply(&setup).await;
    serve(&world, 1..4).await;
    let digest =
        async |day: Date, language: &str| world.api(&format!("/api/v1/merchants/m/digest?day={day}&language={language}")).await;
    let day = today(&world);
    let shown = digest(day, "ru").await;
    assert_eq!(shown["figures"]["costs"], json!([{ "currency": "RUB", "cost": "9.6", "messages": 3 }]), "{shown}");
    assert!(shown["text"].as_str().unwrap().contains("Сообщения стоили: 9,60\u{a0}RUB"), "{shown}");
    assert!(digest(day, "uz").await["text"].as_str().unwrap().contains("Xabarlar narxi: 9,60"));
    let before = digest(day.saturating_sub(1.days()), "en").await;
    assert_eq!(before["figures"]["costs"], json!([]), "{before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_of_a_notice_leads_to_the_digest_and_nobody_guesses_another() {
    let world = World::reachable().await;
    world.apply(&with_anna(&world.sandbox.url(), "webpush")).await;
    assert_eq!(register(&world, "anna", "webpush", &browser(&world, "one").await).await.0, 200);
    serve(&world, 1..3).await;
    pass_to_tomorrow(&world, 9).await;
    until("the digest", async || !messages(&world, "webpush").await.is_empty()).await;
    let link = messages(&world, "webpush").await[0]["payload"]["link"].as_str().unwrap().to_owned();
    let open = async |link: &str| {
        let answer = world.web.get(link).send().await.unwrap();
        let policy = answer.headers().get("content-security-policy").cloned();
        (answer.status().as_u16(), policy, answer.text().await.unwrap())
    };
    let (status, policy, page) = open(&link).await;
    assert_eq!(status, 200, "{page}");
    assert!(policy.unwrap().to_str().unwrap().contains("default-src 'none'"));
    assert!(page.contains("Визиты и заказы: 2") && page.contains("<svg") && !page.contains("<script"), "{page}");
    let other_day = link.replace(&today(&world).saturating_sub(1.days()).to_string(), "2026-01-01");
    assert_ne!(other_day, link);
    let cut = &link[..link.len() - 1];
    for wrong in [other_day.as_str(), cut, &link.replace("/day/", "/week/"), &format!("{link}0")] {
        assert_eq!(open(wrong).await.0, 404, "{wrong}");
    }
    world.pass(63 * 24 * 60);
    assert_eq!(open(&link).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_e_mail_a_digest_brings_its_picture_in_the_reader_s_language() {
    let world = World::bare(uzel::hub::Parts::default(), |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    let mail = json!({ "merchant": "m", "slug": "mail", "provider": "log", "settings": { "channel": "email" } });
    setup["connection"].as_array_mut().unwrap().push(mail);
    setup["recipient"] = json!([{
        "merchant": "m", "slug": "anna", "language": "uz", "digest_hour": 9, "wants": ["digest_day"],
        "addresses": [{ "via": "mail", "to": "anna@example.com" }]
    }]);
    world.apply(&setup).await;
    serve(&world, 1..3).await;
    pass_to_tomorrow(&world, 9).await;
    let mail = world.link("mail").await["id"].as_str().unwrap().to_owned();
    let sent = async || world.api(&format!("/api/v1/commands?connection={mail}")).await;
    until("the digest", async || sent().await.as_array().is_some_and(|sent| sent.len() == 1 && sent[0]["state"] == "done")).await;
    let job = sent().await[0]["job"].clone();
    assert!(job["subject"].as_str().unwrap().starts_with("Kun yakuni: m, "), "{job}");
    assert!(job["text"].as_str().unwrap().contains("Tashrif va buyurtmalar: 2"), "{job}");
    assert_eq!(job["attachments"][0]["media_type"], "image/png");
    let bytes = job["attachments"][0]["content"].as_str().unwrap();
    assert!(bytes.starts_with('(') && bytes.ends_with(" bytes)") && bytes.len() >= "(10000 bytes)".len(), "{bytes}");
}
