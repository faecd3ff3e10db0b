//! Codes from outside: they reach the person and nobody else, and are good once, for a while, for what they were made for.

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::world::{World, until};

const PHONE: &str = "+79991110001";

/// Merchant `m` with SMS.ru and Resend.
async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    let url = world.sandbox.url();
    let sms = json!({ "base_url": format!("{url}/smsru"), "api_id": "A1B2C3D4-1111-2222-3333-444455556666" });
    let mail = json!({ "base_url": format!("{url}/resend"), "api_key": "re_1", "from": "noreply@mail.example.com" });
    let setup = json!({
        "merchant": [{ "slug": "m", "name": "Кафе <У моста>", "language": "ru" }],
        "connection": [
            { "merchant": "m", "slug": "sms", "provider": "smsru", "settings": sms },
            { "merchant": "m", "slug": "mail", "provider": "resend", "settings": mail },
        ],
    });
    world.apply(&setup).await;
    world
}

async fn send(world: &World, more: Value) -> (u16, Value) {
    let mut body = json!({ "merchant": "m", "to": PHONE });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.ask("/api/v1/codes", &body).await
}

async fn check(world: &World, id: &Value, code: &str, more: Value) -> Value {
    let mut body = json!({ "id": id, "code": code });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = world.ask("/api/v1/codes/check", &body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The six digits in the newest text of SMS.ru's stand-in.
async fn texted(world: &World) -> String {
    world.quiet().await;
    digits(&world.texts().await.last().unwrap().1)
}

fn digits(text: &str) -> String {
    let found = text.split(|sign: char| !sign.is_ascii_digit()).find(|part| part.len() == 6);
    found.unwrap_or_else(|| panic!("no code in {text}")).to_owned()
}

/// Another code than this.
fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_reaches_the_person_and_stands_nowhere_else() {
    let world = world().await;
    let (status, sent) = send(&world, json!({})).await;
    assert_eq!((status, &sent["channel"], &sent["dev"]), (202, &json!("sms"), &Value::Null), "{sent}");
    let code = texted(&world).await;
    let text = world.texts().await[0].1.clone();
    assert_eq!(text, format!("Кафе <У моста>: ваш код {code}. Никому его не сообщайте. Действует 10 минут."));
    let shown = world.api(&format!("/api/v1/commands/{}?unmasked=true", sent["command"].as_str().unwrap())).await;
    assert!(shown["job"]["text"].as_str().unwrap().contains("••••••") && shown["job"]["code"].is_null(), "{shown}");
    assert!(shown["exchanges"][0]["request"].as_str().unwrap().contains("••••••"), "{shown}");
    let mut kept = world.texts_of("SELECT job FROM command").await;
    kept.extend(world.texts_of("SELECT request FROM exchange").await);
    kept.extend(world.texts_of("SELECT response FROM exchange").await);
    kept.push(world.api("/api/v1/journal?limit=100").await.to_string());
    assert!(kept.iter().all(|text| !text.contains(&code)) && !sent.to_string().contains(&code), "{code}: {kept:?}");

    let other = wrong(&code);
    assert_eq!(check(&world, &sent["id"], &other, json!({})).await, json!({ "result": "wrong", "tries_left": 4 }));
    let typed = format!(" {}-{} ", &code[..3], &code[3..]);
    assert_eq!(check(&world, &sent["id"], &typed, json!({})).await, json!({ "result": "ok" }));
    assert_eq!(check(&world, &sent["id"], &code, json!({})).await, json!({ "result": "ended" }), "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_by_email_has_words_in_each_language_and_those_of_the_caller() {
    let world = world().await;
    for (to, language, word) in
        [("a@example.com", "ru", "код"), ("b@example.com", "uz", "kodingiz"), ("c@example.com", "en", "code")]
    {
        let (status, sent) = send(&world, json!({ "to": to, "language": language })).await;
        assert_eq!((status, &sent["channel"]), (202, &json!("email")), "{sent}");
        world.quiet().await;
        let mail = world.shown("resend/accepted").await.as_array().unwrap().last().unwrap().clone();
        let (html, text) = (mail["html"].as_str().unwrap(), mail["text"].as_str().unwrap());
        assert!(html.contains(word) && html.contains("Кафе &lt;У моста&gt;") && digits(text) == digits(html), "{mail}");
        assert!(mail["tags"].to_string().contains("verification") && !mail["subject"].as_str().unwrap().contains(&digits(text)));
        assert_eq!(check(&world, &sent["id"], &digits(text), json!({ "to": to.to_uppercase() })).await["result"], "ok");
    }
    let own = json!({ "to": "d@example.com", "text": "Type {{code}} ({{ code }})", "subject": "Hello" });
    assert_eq!(send(&world, own).await.0, 202);
    world.quiet().await;
    let mail = world.shown("resend/accepted").await.as_array().unwrap().last().unwrap().clone();
    let code = digits(mail["text"].as_str().unwrap());
    assert_eq!((&mail["subject"], &mail["text"]), (&json!("Hello"), &json!(format!("Type {code} ({code})"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_good_for_its_purpose_and_its_address_only() {
    let world = world().await;
    let (_, sent) = send(&world, json!({ "purpose": "order" })).await;
    let code = texted(&world).await;
    for (more, left) in [
        (json!({}), 4),
        (json!({ "purpose": "order", "to": "+79991110002" }), 3),
        (json!({ "purpose": "order", "to": "a@example.com" }), 2),
    ] {
        assert_eq!(check(&world, &sent["id"], &code, more).await, json!({ "result": "wrong", "tries_left": left }));
    }
    assert_eq!(check(&world, &sent["id"], &code, json!({ "purpose": "order", "to": "8 999 111 00 01" })).await["result"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_five_checks_or_ten_minutes_a_code_is_good_no_more() {
    let world = world().await;
    let (_, sent) = send(&world, json!({})).await;
    let code = texted(&world).await;
    let other = wrong(&code);
    // All at once: no more are counted than there are.
    let checks = futures::future::join_all((0..20).map(|_| check(&world, &sent["id"], &other, json!({})))).await;
    let mut left: Vec<u64> = checks.iter().filter_map(|answer| answer["tries_left"].as_u64()).collect();
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3, 4], "{checks:?}");
    assert_eq!(check(&world, &sent["id"], &code, json!({})).await["result"], "ended", "right, and too late");

    world.clock.advance(SignedDuration::from_mins(2));
    let (_, sent) = send(&world, json!({})).await;
    let code = texted(&world).await;
    world.clock.advance(SignedDuration::from_mins(11));
    assert_eq!(check(&world, &sent["id"], &code, json!({})).await["result"], "ended");

    let (_, sent) = send(&world, json!({})).await;
    let code = texted(&world).await;
    let checks = futures::future::join_all((0..5).map(|_| check(&world, &sent["id"], &code, json!({})))).await;
    assert_eq!(
        checks.iter().filter(|answer| answer["result"] == "ok").count(),
        1,
        "of many who type it one is let in: {checks:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_gets_one_code_a_minute_and_five_an_hour() {
    let world = world().await;
    let body = json!({ "merchant": "m", "to": PHONE });
    let ask = async || {
        let request = world.web.post(format!("{}/api/v1/codes", world.hub.url())).bearer_auth(world.hub.owner_key().unwrap());
        let answer = request.json(&body).send().await.unwrap();
        let wait_s = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<i64>().unwrap());
        (answer.status().as_u16(), wait_s, answer.json::<Value>().await.unwrap()["type"].clone())
    };
    for number in 0..5 {
        assert_eq!(ask().await.0, 202, "{number}");
        let (status, wait_s, kind) = ask().await;
        assert_eq!((status, kind), (429, json!("/problems/too-many-codes")));
        let longest = if number == 4 { 3_600 } else { 60 };
        assert!(wait_s.is_some_and(|wait_s| (longest - 300..=longest + 1).contains(&wait_s)), "{number}: {wait_s:?}");
        world.quiet().await;
        world.clock.advance(SignedDuration::from_secs(61));
    }
    assert_eq!(ask().await.0, 429);
    assert_eq!(send(&world, json!({ "to": "+79991110002" })).await.0, 202, "another address");
    world.quiet().await;
    world.clock.advance(SignedDuration::from_mins(56));
    assert_eq!(ask().await.0, 202);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_goes_to_whoever_asked_for_it_but_not_after_its_end() {
    let world = world().await;
    world.ask("/api/v1/consents", &json!({ "merchant": "m", "phone": PHONE, "granted": false, "proof": "-" })).await;
    assert_eq!(send(&world, json!({})).await.0, 202);
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1, "an opt-out is not about what a person asks for");
    world.control("smsru/faults", &json!({ "kind": "status", "status": 503, "for_ms": 600_000 })).await;
    let (_, sent) = send(&world, json!({ "to": "+79991110002" })).await;
    let shown = async || world.api(&format!("/api/v1/commands/{}", sent["command"].as_str().unwrap())).await;
    until("a try", async || shown().await["attempts"] != 0).await;
    world.clock.advance(SignedDuration::from_mins(11));
    world.control("smsru/faults", &json!([])).await;
    world.in_time("the end", async || shown().await["state"] == "held").await;
    assert_eq!(shown().await["reason"], "too_old");
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_channel_to_people_no_code_is_made() {
    let world = world().await;
    let log = json!({ "merchant": "dry", "slug": "sms", "provider": "log" });
    world.apply(&json!({ "merchant": [{ "slug": "dry" }], "connection": [log] })).await;
    for (body, word) in [
        (json!({ "merchant": "dry" }), "sends nothing"),
        (json!({ "merchant": "dry", "to": "a@example.com" }), "sends by `email`"),
        (json!({ "channel": "whatsapp" }), "sends by `whatsapp`"),
        (json!({ "provider": "resend" }), "to `resend`"),
    ] {
        let (status, problem) = send(&world, body).await;
        assert_eq!((status, &problem["type"]), (409, &json!("/problems/no-channel")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
    }
    assert_eq!(world.commands("waiting").await + world.commands("done").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_code_is_told_with_its_field() {
    let world = world().await;
    for (change, places) in [
        (json!({ "merchant": "nobody" }), &["/merchant"][..]),
        (json!({ "to": "12" }), &["/to"]),
        (json!({ "to": "a@b" }), &["/to"]),
        (json!({ "to": 7 }), &["/to"]),
        (json!({ "channel": "telegram" }), &["/channel"]),
        (json!({ "purpose": "Log in" }), &["/purpose"]),
        (json!({ "purpose": "" }), &["/purpose"]),
        (json!({ "language": "fr" }), &["/language"]),
        (json!({ "text": "no place for it" }), &["/text"]),
        (json!({ "template": { "name": "code", "language": "ru", "components": [] } }), &["/template", "/template/components"]),
        (json!({ "connection": "nothing" }), &["/connection"]),
        (json!({ "connection": "mail" }), &["/channel"]),
        (json!({ "code": "123456" }), &["/code"]),
    ] {
        let (status, problem) = send(&world, change.clone()).await;
        let found: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!((status, &found[..]), (422, places), "{change}: {problem}");
    }
    for (change, place) in [
        (json!({ "id": "cmd_01jd9x5zp4e1fsr0m3v5w8q2tn" }), "/id"),
        (json!({ "id": "x" }), "/id"),
        (json!({ "code": 123456 }), "/code"),
    ] {
        let mut body = json!({ "id": "cod_01jd9x5zp4e1fsr0m3v5w8q2tn", "code": "123456" });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, problem) = world.ask("/api/v1/codes/check", &body).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(place)), "{problem}");
    }
    let nobody = check(&world, &json!("cod_01jd9x5zp4e1fsr0m3v5w8q2tn"), "123456", json!({})).await;
    assert_eq!(nobody, json!({ "result": "ended" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_one_merchant_is_nobody_else_s_to_check() {
    let world = world().await;
    world.apply(&json!({ "merchant": [{ "slug": "other" }] })).await;
    let key = world.ask("/api/v1/keys", &json!({ "merchant": "other", "role": "owner", "label": "x" })).await.1["key"].clone();
    let (_, sent) = send(&world, json!({})).await;
    let code = texted(&world).await;
    let request = world.web.post(format!("{}/api/v1/codes/check", world.hub.url())).bearer_auth(key.as_str().unwrap());
    let answer: Value = request.json(&json!({ "id": sent["id"], "code": code })).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({ "result": "ended" }));
    assert_eq!(check(&world, &sent["id"], &code, json!({})).await["result"], "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_development_the_log_shows_the_code_and_the_answer_says_that_nobody_got_it() {
    let mut binary = crate::binary::Binary::new(&[]);
    binary.serve(&[]).await;
    let refused = binary.uzel(&["codes", "send", PHONE]);
    assert!(refused.code == 1 && refused.err.contains("no code goes by it"), "{}", refused.err);
    binary.signal("-TERM");
    binary.serve(&["--dev"]).await;
    let sent = binary.asked(&["codes", "send", PHONE, "--language", "en"]);
    assert_eq!(sent["dev"], true, "{sent}");
    until("the code in the log", async || binary.log().contains("your code is")).await;
    let log = binary.log();
    let code = digits(log.split_once("your code is").unwrap().1);
    let id = sent["id"].as_str().unwrap();
    let journal = binary.uzel(&["journal", "list"]).out;
    assert!(!journal.contains(&code), "{journal}");
    let ran = binary.uzel(&["codes", "check", id, &wrong(&code)]);
    assert_eq!((ran.code, ran.out.as_str()), (1, "wrong; checks left: 4\n"), "{}", ran.err);
    let ran = binary.uzel(&["codes", "check", id, &code, "--to", PHONE]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "right\n"), "{}", ran.err);
}
