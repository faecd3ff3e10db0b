//! E-mail by Resend from outside: what goes, what comes back, and each way in which it goes wrong.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::{
    asked::ask,
    world::{World, anywhere, until},
};

const SECRET: &str = "whsec_Kpjh/OtoRYswQhc0tKZa0eXUc1nZJtmm";

/// Merchant `m` with one connection, to Resend.
async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let settings = json!({
        "api_key": "re_example_key", "from": "Кофейня <noreply@mail.example.com>", "webhook_secret": SECRET, "calls_per_s": 1_000,
        "base_url": format!("{}/resend", world.sandbox.url()),
    });
    let connection = json!({ "merchant": "m", "slug": "mail", "provider": "resend", "settings": settings });
    world.apply(&json!({ "merchant": [{ "slug": "m", "name": "Кофейня" }], "connection": [connection] })).await;
    world
}

fn mail(to: &str) -> Value {
    json!({
        "merchant": "m", "channel": "email", "to": to, "subject": "Чек", "text": "Спасибо", "html": "<p>Спасибо</p>", "ground": "service"
    })
}

/// Asks for a mail, and gives the id of its command.
async fn queue(world: &World, key: &str, body: &Value) -> String {
    let (status, answer) = ask(world, Some(key), body).await;
    assert_eq!(status, 202, "{answer}");
    answer["id"].as_str().unwrap().to_owned()
}

async fn command(world: &World, id: &str) -> Value {
    world.api(&format!("/api/v1/commands/{id}?unmasked=true")).await
}

async fn accepted(world: &World) -> Vec<Value> {
    world.shown("resend/accepted").await.as_array().unwrap().clone()
}

/// Has Resend tell of the last mail; gives the status of the hub's answer.
async fn tell(world: &World, mut options: Value) -> u64 {
    options["url"] = json!(format!("{}{}", world.hub.url(), world.link("mail").await["hook"].as_str().unwrap()));
    let told = world.told_by("resend", "webhook", &options).await;
    world.quiet().await;
    told["status"].as_u64().unwrap()
}

async fn faults(world: &World, faults: Value) {
    world.control("resend/faults", &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_with_all_that_it_says_and_its_webhooks_tell_what_became_of_it() {
    let world = world().await;
    let mut body = mail("Ivan@Example.com");
    body["attachments"] = json!([{ "name": "chek.txt", "media_type": "text/plain", "content": "0JrQvtC0" }]);
    let id = queue(&world, "k", &body).await;
    world.quiet().await;
    let sent = &accepted(&world).await[0];
    assert_eq!((&sent["to"], &sent["subject"], &sent["html"]), (&json!(["ivan@example.com"]), &json!("Чек"), &body["html"]));
    assert_eq!(sent["attachments"][0]["filename"], "chek.txt");
    assert_eq!(sent["tags"], json!([{ "name": "uzel_command", "value": id }]));
    assert_eq!(command(&world, &id).await["provider_id"], sent["id"]);

    // Out of order and again: what is known stays known.
    for (event, delivery) in
        [("delivery_delayed", "on_the_way"), ("delivered", "delivered"), ("sent", "delivered"), ("delivered", "delivered")]
    {
        assert_eq!(tell(&world, json!({ "event": event, "svix_id": format!("msg_{event}") })).await, 200, "{event}");
        assert_eq!(command(&world, &id).await["delivery"], delivery, "{event}");
    }
    // Of a mail that nobody here has sent, and of something else altogether.
    assert_eq!(tell(&world, json!({ "event": "bounced", "email_id": "another", "data": { "to": ["a@b.example"] } })).await, 200);
    assert_eq!(tell(&world, json!({ "event": "received" })).await, 200);
    assert_eq!(command(&world, &id).await["delivery"], "delivered");
    assert_eq!(world.api("/api/v1/counts").await["commands"], json!([["done", 1]]));
    // By the other names of the headers, and with two signatures while a secret is rotated.
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    assert_eq!(tell(&world, json!({ "names": "webhook" })).await, 200);
    assert_eq!(tell(&world, json!({ "secret": other, "old_secret": SECRET })).await, 200);
    for stranger in [json!({ "secret": other }), json!({ "age_s": 301 }), json!({ "age_s": -301 })] {
        assert_eq!(tell(&world, stranger.clone()).await, 401, "{stranger}");
    }
    let rows = world.api("/api/v1/journal?limit=100").await.to_string();
    assert!(!rows.contains("re_example_key") && !rows.contains("ivan@example.com"), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_that_comes_later_says_that_the_mail_failed() {
    let world = world().await;
    let id = queue(&world, "k", &mail("ivan@example.com")).await;
    world.quiet().await;
    let bounce = json!({ "bounce": { "type": "Permanent", "subType": "NoEmail", "message": "550" } });
    assert_eq!(tell(&world, json!({ "event": "bounced", "data": bounce })).await, 200);
    let shown = command(&world, &id).await;
    assert_eq!((&shown["delivery"], &shown["delivery_code"]), (&json!("failed"), &json!("bounced/Permanent/NoEmail")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_lost_or_put_off_is_asked_again_under_the_same_key_and_one_mail_goes() {
    let world = world().await;
    for (number, fault) in [
        json!({ "kind": "cut_after", "path": "/emails" }),
        json!({ "kind": "latency", "latency_ms": 4_000, "path": "/emails" }),
        json!({ "kind": "cut_before", "path": "/emails" }),
        json!({ "kind": "garbage", "path": "/emails" }),
        json!({ "kind": "status", "status": 500, "path": "/emails" }),
        json!({ "kind": "status", "status": 503, "path": "/emails" }),
        json!({ "kind": "rate_limit", "path": "/emails" }),
        json!({ "kind": "rate_limit", "retry_after": 2, "path": "/emails" }),
    ]
    .into_iter()
    .enumerate()
    {
        faults(&world, fault.clone()).await;
        let id = queue(&world, &format!("k{number}"), &mail(&format!("guest{number}@example.com"))).await;
        world.in_time("the mail", async || command(&world, &id).await["state"] == "done").await;
        let (shown, sent) = (command(&world, &id).await, accepted(&world).await);
        assert_eq!((sent.len(), &shown["attempts"]), (number + 1, &json!(2)), "{fault}: {shown}");
        assert_eq!(shown["provider_id"], sent[number]["id"], "{fault}");
    }
    let keys = world.calls("resend", "/emails").await;
    let keys: std::collections::BTreeSet<String> =
        keys.iter().map(|call| call["headers"]["idempotency-key"].as_str().unwrap().to_owned()).collect();
    assert_eq!(keys.len(), 8, "a key a command");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_whose_first_request_is_still_running_waits_for_it() {
    let world = world().await;
    world.control("resend/settings", &json!({ "still_running": true })).await;
    let id = queue(&world, "k", &mail("ivan@example.com")).await;
    until("a try", async || command(&world, &id).await["attempts"] == 1).await;
    let shown = command(&world, &id).await;
    assert!(
        shown["state"] == "waiting" && shown["reason"].as_str().unwrap().contains("concurrent_idempotent_requests"),
        "{shown}"
    );
    world.control("resend/settings", &json!({ "still_running": false })).await;
    world.in_time("the mail", async || command(&world, &id).await["state"] == "done").await;
    assert_eq!(accepted(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_or_a_key_that_is_no_good_keeps_mails_waiting_and_tells_the_merchant_once() {
    let world = world().await;
    for (settings, api_key) in [(json!({ "daily_quota": 0 }), "re_example_key"), (json!({ "daily_quota": null }), "re_suspended")]
    {
        world.control("resend/settings", &settings).await;
        let setup = json!({ "api_key": api_key, "from": "noreply@mail.example.com", "calls_per_s": 1_000,
            "base_url": format!("{}/resend", world.sandbox.url()) });
        world
            .apply(&json!({ "connection": [{ "merchant": "m", "slug": "mail", "provider": "resend", "settings": setup }] }))
            .await;
        let (one, other) = (format!("one-{api_key}@example.com"), format!("other-{api_key}@example.com"));
        let ids = [queue(&world, &one, &mail(&one)).await, queue(&world, &other, &mail(&other)).await];
        for id in ids {
            until("a try", async || command(&world, &id).await["attempts"] == 1).await;
            assert_eq!(command(&world, &id).await["state"], "waiting");
        }
        assert_eq!(world.notices("account").await.len(), 1);
    }
    assert_eq!(accepted(&world).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_resend_will_never_take_is_dead_at_once() {
    let world = world().await;
    for status in [422, 400, 451] {
        faults(&world, json!({ "kind": "status", "status": status, "path": "/emails" })).await;
        let id = queue(&world, &status.to_string(), &mail("ivan@example.com")).await;
        world.quiet().await;
        assert_eq!(command(&world, &id).await["state"], "dead", "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_may_have_gone_is_not_sent_again_when_its_key_is_forgotten() {
    let world = world().await;
    faults(&world, json!([{ "kind": "cut_after", "path": "/emails" }, { "kind": "rate_limit", "for_ms": 600_000 }])).await;
    let mut body = mail("ivan@example.com");
    body["latest_at"] = json!(world.clock.now() + SignedDuration::from_hours(72));
    let id = queue(&world, "k", &body).await;
    until("two tries", async || command(&world, &id).await["attempts"] == 2).await;
    faults(&world, json!([])).await;
    world.clock.advance(SignedDuration::from_hours(23) + SignedDuration::from_mins(1));
    world.in_time("the end", async || command(&world, &id).await["state"] == "unknown").await;
    assert!(command(&world, &id).await["reason"].as_str().unwrap().contains("knows its key no longer"));
    assert_eq!((accepted(&world).await.len(), world.notices("unknown").await.len()), (1, 1));
    // One that was never tried goes, however late.
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_hours(1))).await;
    let mut body = mail("anna@example.com");
    body["due_at"] = json!(world.clock.now() + SignedDuration::from_hours(1));
    body["latest_at"] = json!(world.clock.now() + SignedDuration::from_hours(72));
    let id = queue(&world, "l", &body).await;
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_hours(30))).await;
    world.in_time("the mail", async || command(&world, &id).await["state"] == "done").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_may_have_gone_before_its_sender_was_changed_is_unknown_and_not_dead() {
    let world = world().await;
    faults(&world, json!([{ "kind": "cut_after", "path": "/emails" }, { "kind": "rate_limit", "for_ms": 600_000 }])).await;
    let id = queue(&world, "k", &mail("ivan@example.com")).await;
    until("two tries", async || command(&world, &id).await["attempts"] == 2).await;
    let settings = json!({ "api_key": "re_example_key", "from": "other@mail.example.com", "calls_per_s": 1_000,
        "base_url": format!("{}/resend", world.sandbox.url()) });
    let changed = json!({ "merchant": "m", "slug": "mail", "provider": "resend", "settings": settings });
    world.apply(&json!({ "connection": [changed] })).await;
    faults(&world, json!([])).await;
    world.in_time("the end", async || command(&world, &id).await["state"] == "unknown").await;
    assert!(command(&world, &id).await["reason"].as_str().unwrap().contains("invalid_idempotent_request"));
    assert_eq!((accepted(&world).await.len(), world.notices("unknown").await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_variables_of_the_requirement_set_resend_up() {
    let sandbox = uzel_sandbox::Sandbox::start(anywhere()).await.unwrap();
    let mut binary =
        crate::binary::Binary::new(&[("RESEND_API_KEY", "re_example_key"), ("RESEND_FROM", "noreply@mail.example.com")]);
    binary.serve(&[]).await;
    let channels = binary.asked(&["channels"]);
    assert_eq!((&channels[2]["channel"], &channels[2]["ready"]), (&json!("email"), &json!(true)), "{channels}");
    assert_eq!(channels[2]["connections"][0]["provider"], "resend");
    assert_eq!(channels[0]["why"], "no connection of this merchant sends by `sms`: set one up");
    // To the stand-in: its address cannot be given by a variable.
    let settings =
        format!(r#"{{ api_key = "re_example_key", from = "noreply@mail.example.com", base_url = "{}/resend" }}"#, sandbox.url());
    binary.write(
        "setup.toml",
        &format!("[[connection]]\nmerchant = \"default\"\nslug = \"email\"\nprovider = \"resend\"\nsettings = {settings}\n"),
    );
    assert_eq!(binary.uzel(&["apply", "setup.toml"]).code, 0);
    binary.write("letter.html", "<p>Hello</p>");
    let sent = binary.asked(&["send", "email", "--to", "ivan@example.com", "--subject", "Hello", "--html", "letter.html"]);
    assert_eq!(sent["state"], "waiting", "{sent}");
    until("the mail", async || {
        let accepted = binary.web.get(format!("{}/_sandbox/resend/accepted", sandbox.url())).send().await.unwrap();
        accepted.json::<Value>().await.unwrap()[0]["html"] == "<p>Hello</p>"
    })
    .await;
    binary.write("чек.pdf", "%PDF");
    let with_file = ["send", "email", "--to", "ivan@example.com", "--subject", "Чек", "--text", "Ваш чек", "--attach", "чек.pdf"];
    assert_eq!(binary.asked(&with_file)["state"], "waiting");
    until("the file", async || {
        let accepted = binary.web.get(format!("{}/_sandbox/resend/accepted", sandbox.url())).send().await.unwrap();
        let file = accepted.json::<Value>().await.unwrap()[1]["attachments"][0].clone();
        file == json!({ "filename": "чек.pdf", "content": "JVBERg==", "content_type": "application/pdf" })
    })
    .await;
    let missing = binary.uzel(&[&with_file[..9], &["нет.pdf"]].concat());
    assert!(missing.code == 1 && missing.err.contains("cannot read нет.pdf"), "{}", missing.err);
    let refused = binary.uzel(&["send", "sms", "--to", "+79991234567", "--text", "Hello"]);
    assert!(refused.code == 1 && refused.err.contains("no connection of this merchant sends by `sms`"), "{}", refused.err);
    let half = crate::binary::Binary::new(&[("RESEND_API_KEY", "re_example_key")]).uzel(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(half.code == 1 && half.err.contains("RESEND_FROM"), "{}", half.err);
}
