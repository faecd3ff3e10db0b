//! Batches from outside: many mails by one call, each a message of its own, and each way in which it goes wrong.

use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_sandbox::Sandbox;

use crate::{
    binary::Binary,
    world::{World, anywhere, until},
};

const BATCH: &str = "/api/v1/commands/batch";

fn settings(sandbox: &str) -> Value {
    json!({
        "api_key": "re_example_key", "from": "noreply@mail.example.com", "calls_per_s": 1_000,
        "webhook_secret": "whsec_Kpjh/OtoRYswQhc0tKZa0eXUc1nZJtmm", "base_url": format!("{sandbox}/resend"),
    })
}

async fn connect(world: &World, settings: Value) {
    let connection = json!({ "merchant": "m", "slug": "mail", "provider": "resend", "settings": settings });
    world.apply(&json!({ "merchant": [{ "slug": "m" }], "connection": [connection] })).await;
}

async fn world() -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    connect(&world, settings(&world.sandbox.url())).await;
    world
}

fn mail(to: &str) -> Value {
    json!({ "to": to, "subject": "Новости", "text": format!("Здравствуйте, {to}") })
}

fn batch(to: &[&str]) -> Value {
    let messages: Vec<Value> = to.iter().map(|to| mail(to)).collect();
    json!({ "merchant": "m", "channel": "email", "ground": "service", "messages": messages })
}

async fn post(world: &World, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let request = world.web.post(format!("{}{path}", world.hub.url())).bearer_auth(world.hub.owner_key().unwrap());
    let answer = request.header("Idempotency-Key", key).json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Asks for a batch that must be taken.
async fn queue(world: &World, key: &str, body: &Value) -> Value {
    let (status, answer) = post(world, BATCH, key, body).await;
    assert_eq!(status, 202, "{answer}");
    answer
}

async fn command(world: &World, id: &Value) -> Value {
    world.api(&format!("/api/v1/commands/{}?unmasked=true", id.as_str().unwrap())).await
}

/// State and reason of each message of a batch.
async fn stand(world: &World, batch: &Value) -> Vec<(String, String)> {
    let mut states = Vec::new();
    for message in batch["messages"].as_array().unwrap() {
        let shown = command(world, &message["id"]).await;
        let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
        states.push((text("state"), text("reason")));
    }
    states
}

async fn accepted(world: &World) -> Vec<String> {
    let accepted = world.shown("resend/accepted").await;
    accepted.as_array().unwrap().iter().map(|mail| mail["to"][0].as_str().unwrap().to_owned()).collect()
}

/// Has Resend tell of a mail by its id.
async fn tell(world: &World, event: &str, id: &Value, data: Value) {
    let url = format!("{}{}", world.hub.url(), world.link("mail").await["hook"].as_str().unwrap());
    let options = json!({ "url": url, "event": event, "email_id": id, "data": data });
    assert_eq!(world.told_by("resend", "webhook", &options).await["status"], 200);
    world.quiet().await;
}

async fn faults(world: &World, faults: Value) {
    world.control("resend/faults", &faults).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_by_one_call_without_those_who_want_none_and_each_mail_is_told_of_by_itself() {
    let world = world().await;
    let word = json!({ "merchant": "m", "email": "no@example.com", "granted": false, "how": "spoken", "proof": "said so" });
    assert!(world.ask("/api/v1/consents", &word).await.0 < 300);
    let body = batch(&["Ivan@Example.com", "no@example.com", "anna@example.com", "ivan@example.com", "oleg@example.com"]);
    let mut body = body;
    body["messages"][3] = json!({ "to": "ivan@example.com", "subject": "Новости", "text": "Здравствуйте, Ivan@Example.com" });

    // A look at it queues nothing.
    let (status, looked) = world.ask(&format!("{BATCH}/dry-run"), &body).await;
    assert_eq!((status, &looked["id"], &looked["one_call"]), (200, &Value::Null, &json!(true)), "{looked}");
    let held = |answer: &Value| -> Vec<Value> {
        answer["messages"].as_array().unwrap().iter().map(|message| message["reason"].clone()).collect()
    };
    let wanted = [Value::Null, json!("opt_out"), Value::Null, json!("repeated"), Value::Null];
    assert_eq!(held(&looked), wanted);
    assert_eq!(world.api("/api/v1/counts").await["commands"], json!([]));

    let queued = queue(&world, "k", &body).await;
    assert_eq!((held(&queued), &queued["messages"][1]["to"]), (wanted.to_vec(), &json!("n***@example.com")));
    world.quiet().await;
    let calls = world.calls("resend", "/emails").await;
    assert_eq!((calls.len(), &calls[0]["path"]), (1, &json!("/emails/batch")));
    assert_eq!(calls[0]["headers"]["idempotency-key"], queued["id"]);
    assert_eq!(accepted(&world).await, ["ivan@example.com", "anna@example.com", "oleg@example.com"]);
    let states: Vec<String> = stand(&world, &queued).await.into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["done", "held", "done", "held", "done"]);
    let sent = world.shown("resend/accepted").await;
    let ids = [0, 2, 4].map(|place| queued["messages"][place]["id"].clone());
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(command(&world, id).await["provider_id"], sent[place]["id"]);
    }

    // What becomes of each.
    tell(&world, "delivered", &sent[0]["id"], json!({})).await;
    let bounce = json!({ "bounce": { "type": "Permanent", "subType": "NoEmail" } });
    tell(&world, "bounced", &sent[1]["id"], bounce).await;
    tell(&world, "complained", &sent[2]["id"], json!({})).await;
    let mut told = Vec::new();
    for id in &ids {
        let shown = command(&world, id).await;
        told.push((shown["delivery"].clone(), shown["delivery_code"].clone()));
    }
    let pair = |delivery: &str, code: &str| (json!(delivery), json!(code));
    assert_eq!(
        told,
        [pair("delivered", "delivered"), pair("failed", "bounced/Permanent/NoEmail"), pair("delivered", "complained")]
    );
    let events = world.api("/api/v1/events?limit=100").await;
    let of = |kind: &str| -> Vec<Value> {
        let found = events.as_array().unwrap().iter().filter(|event| event["type"] == kind);
        found.map(|event| event["data"]["details"]["command"].clone()).collect()
    };
    assert_eq!(of("message.failed"), [ids[1].clone()]);
    assert!(of("message.delivered").contains(&ids[0]) && of("message.delivered").contains(&ids[2]), "{events}");
    // Who complained and whose mailbox is gone are left out from now on.
    let again = queue(&world, "l", &batch(&["anna@example.com", "oleg@example.com", "ivan@example.com"])).await;
    assert_eq!(held(&again), [json!("opt_out"), json!("opt_out"), Value::Null]);

    // The same again is the same, and another body under the key is refused.
    let repeated = queue(&world, "k", &body).await;
    assert_eq!((&repeated["id"], &repeated["messages"][0]["id"]), (&queued["id"], &ids[0]));
    let (status, other) = post(&world, BATCH, "k", &batch(&["other@example.com"])).await;
    assert_eq!((status, &other["errors"][0]["pointer"]), (422, &json!("Idempotency-Key")), "{other}");
    world.quiet().await;
    assert_eq!(accepted(&world).await.len(), 4);
    let shown = world.api(&format!("/api/v1/commands/{}", queued["id"].as_str().unwrap())).await;
    assert!(shown["job"]["body"].as_str().unwrap().ends_with(" bytes)") && !shown.to_string().contains("ivan@"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_lost_or_put_off_is_repeated_to_the_byte_under_its_key_and_goes_once() {
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
        let to = [format!("a{number}@example.com"), format!("b{number}@example.com")];
        let queued = queue(&world, &format!("k{number}"), &batch(&[&to[0], &to[1]])).await;
        until("a try", async || command(&world, &queued["id"]).await["attempts"] != 0).await;
        // What is changed meanwhile changes nothing of it.
        let mut other = settings(&world.sandbox.url());
        other["from"] = json!(format!("from{number}@mail.example.com"));
        connect(&world, other).await;
        world.in_time("the batch", async || command(&world, &queued["id"]).await["state"] == "done").await;
        let calls = world.calls("resend", "/emails/batch").await;
        let tries: Vec<&Value> = calls.iter().filter(|call| call["headers"]["idempotency-key"] == queued["id"]).collect();
        assert!(tries.len() == 2 && tries[0]["body"] == tries[1]["body"], "{fault}: {tries:?}");
        assert_eq!(accepted(&world).await.len(), 2 * (number + 1), "{fault}");
        assert_eq!(stand(&world, &queued).await, [("done".to_owned(), String::new()), ("done".to_owned(), String::new())]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_is_refused_keeps_no_other_back_and_of_a_batch_refused_whole_each_goes_by_itself() {
    let world = world().await;
    world.control("resend/settings", &json!({ "invalid_to": ["bad@example.com"] })).await;
    let queued = queue(&world, "k", &batch(&["a@example.com", "bad@example.com", "b@example.com"])).await;
    world.quiet().await;
    let states = stand(&world, &queued).await;
    assert_eq!((&*states[0].0, &*states[1].0, &*states[2].0), ("done", "dead", "done"), "{states:?}");
    assert!(states[1].1.contains("takes no e-mail"), "{states:?}");
    assert_eq!(accepted(&world).await, ["a@example.com", "b@example.com"]);
    assert_eq!(command(&world, &queued["id"]).await["reason"], "1 of its 3 messages were refused");

    faults(&world, json!({ "kind": "status", "status": 422, "path": "/emails/batch" })).await;
    let queued = queue(&world, "l", &batch(&["c@example.com", "bad@example.com", "d@example.com"])).await;
    world.quiet().await;
    let shown = command(&world, &queued["id"]).await;
    assert!(shown["state"] == "dead" && shown["reason"].as_str().unwrap().starts_with("refused as a whole"), "{shown}");
    let states = stand(&world, &queued).await;
    assert_eq!((&*states[0].0, &*states[1].0, &*states[2].0), ("done", "dead", "done"), "{states:?}");
    assert_eq!(accepted(&world).await[2..], ["c@example.com", "d@example.com"]);
    let calls = world.calls("resend", "/emails").await;
    let keys: Vec<&Value> = calls[2..].iter().map(|call| &call["headers"]["idempotency-key"]).collect();
    assert_eq!(keys, [0, 1, 2].map(|place| &queued["messages"][place]["id"]), "each under a key of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_waits_can_be_called_off_whole_and_none_of_its_mails_alone() {
    let world = world().await;
    world.control("resend/settings", &json!({ "daily_quota": 1 })).await;
    let queued = queue(&world, "k", &batch(&["a@example.com", "b@example.com"])).await;
    until("a try", async || command(&world, &queued["id"]).await["attempts"] == 1).await;
    assert_eq!(world.notices("account").await.len(), 1);
    let cancel = async |id: &Value| world.ask(&format!("/api/v1/commands/{}/cancel", id.as_str().unwrap()), &json!({})).await;
    let (status, refused) = cancel(&queued["messages"][0]["id"]).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains(queued["id"].as_str().unwrap()), "{refused}");
    assert_eq!(cancel(&queued["id"]).await.0, 200);
    world.quiet().await;
    let held = ("held".to_owned(), "called off".to_owned());
    assert_eq!(stand(&world, &queued).await, [held.clone(), held], "the quota is a refusal: none has gone");
    // One whose answer was lost may have gone.
    world.control("resend/settings", &json!({ "daily_quota": null })).await;
    faults(&world, json!([{ "kind": "cut_after", "path": "/emails" }, { "kind": "status", "status": 503, "for_ms": 600_000 }]))
        .await;
    let queued = queue(&world, "l", &batch(&["a@example.com", "b@example.com"])).await;
    until("a try", async || command(&world, &queued["id"]).await["attempts"] != 0).await;
    until("the end", async || cancel(&queued["id"]).await.0 == 200).await;
    faults(&world, json!([])).await;
    world.quiet().await;
    assert!(stand(&world, &queued).await.iter().all(|(state, _)| state == "unknown"));
    // What Resend tells of one later settles that one.
    let sent = world.shown("resend/accepted").await;
    tell(&world, "delivered", &sent[1]["id"], json!({})).await;
    let states = stand(&world, &queued).await;
    assert_eq!((&*states[0].0, &*states[1].0), ("unknown", "done"), "{states:?}");
    assert_eq!(accepted(&world).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_may_have_gone_ends_as_unknown_with_all_its_mails_when_its_key_is_forgotten() {
    let world = world().await;
    faults(&world, json!([{ "kind": "cut_after", "path": "/emails" }, { "kind": "rate_limit", "for_ms": 600_000 }])).await;
    let queued = queue(&world, "k", &batch(&["a@example.com", "b@example.com"])).await;
    until("two tries", async || command(&world, &queued["id"]).await["attempts"] == 2).await;
    faults(&world, json!([])).await;
    world.pass(23 * 60 + 1);
    world.in_time("the end", async || command(&world, &queued["id"]).await["state"] == "unknown").await;
    world.quiet().await;
    let states = stand(&world, &queued).await;
    assert!(states.iter().all(|(state, why)| state == "unknown" && why.contains("knows its key no longer")), "{states:?}");
    assert_eq!((accepted(&world).await.len(), world.notices("unknown").await.len()), (2, 1));
    // One that was never tried and is too late is held back with all its mails.
    let id = world.link("mail").await["id"].as_str().unwrap().to_owned();
    assert_eq!(world.ask(&format!("/api/v1/connections/{id}/pause"), &json!({})).await.0, 200);
    let mut body = batch(&["c@example.com", "d@example.com"]);
    body["connection"] = json!("mail");
    body["latest_at"] = json!(world.clock.now() + jiff::SignedDuration::from_hours(1));
    let queued = queue(&world, "l", &body).await;
    world.pass(61);
    assert_eq!(world.ask(&format!("/api/v1/connections/{id}/resume"), &json!({})).await.0, 200);
    world.quiet().await;
    assert_eq!(
        stand(&world, &queued).await,
        [("held".to_owned(), "too_old".to_owned()), ("held".to_owned(), "too_old".to_owned())]
    );
    assert_eq!(accepted(&world).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_provider_takes_no_batches_each_message_goes_by_itself() {
    let world = World::new(json!({})).await;
    let log = json!({ "merchant": "m", "slug": "log", "provider": "log", "settings": { "channel": "email" } });
    world.apply(&json!({ "connection": [log] })).await;
    let queued = queue(&world, "k", &batch(&["a@example.com", "b@example.com"])).await;
    assert_eq!((&queued["one_call"], &queued["dev"]), (&json!(false), &json!(true)), "{queued}");
    let texts = |to: &[&str]| -> Vec<Value> { to.iter().map(|to| json!({ "to": to, "text": "Готово" })).collect() };
    let phones = ["+79995550001", "8 999 555-00-02"];
    let body = json!({ "merchant": "m", "channel": "sms", "ground": "service", "messages": texts(&phones) });
    let sms = queue(&world, "l", &body).await;
    world.quiet().await;
    for batch in [&queued, &sms] {
        assert_eq!(command(&world, &batch["id"]).await["state"], "done");
        assert!(stand(&world, batch).await.iter().all(|(state, _)| state == "done"));
    }
    assert_eq!(world.texts().await.len(), 2);
    // With consent only those who gave it; one that is left alone needs no batch.
    let word = json!({ "merchant": "m", "phone": phones[0], "granted": true, "how": "till", "proof": "said at the till" });
    assert_eq!(world.ask("/api/v1/consents", &word).await.0, 200);
    let mut agreed = body.clone();
    agreed["ground"] = json!("consent");
    let queued = queue(&world, "m", &agreed).await;
    assert_eq!((&queued["messages"][0]["state"], &queued["messages"][1]["reason"]), (&json!("waiting"), &json!("no_consent")));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_batch_names_its_message_and_its_field_and_nothing_is_queued() {
    let world = world().await;
    let pointers = async |body: &Value| -> Vec<String> {
        let (status, answer) = post(&world, BATCH, "k", body).await;
        assert!(status == 422 || status == 400, "{status} {answer}");
        let faults = answer["errors"].as_array().unwrap_or_else(|| panic!("{answer}"));
        faults.iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned()).collect()
    };
    let mut wrong = batch(&["a@example.com", "b", "c@example.com"]);
    wrong["messages"][0]["subject"] = json!("");
    wrong["messages"][2]["html"] = json!(" ");
    assert_eq!(pointers(&wrong).await, ["/messages/0/subject", "/messages/1/to", "/messages/2/html"]);
    assert_eq!(pointers(&batch(&[])).await, ["/messages"]);
    assert_eq!(pointers(&batch(&["a@example.com"; 101])).await, ["/messages"]);
    let mut late = batch(&["a@example.com"]);
    late["latest_at"] = json!("2020-01-01T00:00:00Z");
    assert_eq!(pointers(&late).await, ["/latest_at"]);
    let mut nobody = batch(&["a@example.com"]);
    nobody["merchant"] = json!("x");
    assert_eq!(pointers(&nobody).await, ["/merchant"]);
    let mut attached = batch(&["a@example.com"]);
    attached["messages"][0]["attachments"] = json!([]);
    let (status, answer) = post(&world, BATCH, "k", &attached).await;
    assert!(status == 422 && answer.to_string().contains("attachments"), "{status} {answer}");
    for messages in
        [Value::Null, json!({}), json!("a@example.com"), json!([null]), json!([["a@example.com"]]), json!([{ "to": 7 }])]
    {
        let mut odd = batch(&[]);
        odd["messages"] = messages;
        let (status, answer) = post(&world, BATCH, "k", &odd).await;
        assert!(status == 422 && answer["errors"][0]["pointer"].as_str().unwrap().starts_with("/messages"), "{status} {answer}");
    }
    let no_key = world.ask(BATCH, &batch(&["a@example.com"])).await;
    assert!(no_key.0 == 422 || no_key.0 == 400, "{no_key:?}");
    assert_eq!(world.api("/api/v1/counts").await["commands"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_while_its_batch_is_being_sent_asks_again_and_a_file_that_is_sent_twice_goes_once() {
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let mut binary = Binary::new(&[]);
    binary.write(
        "setup.toml",
        &format!(
            "[[merchant]]\nslug = \"default\"\nname = \"Café\"\n\n[[connection]]\nmerchant = \"default\"\nslug = \"mail\"\nprovider = \"resend\"\n\
             settings = {{ api_key = \"re_example_key\", from = \"noreply@mail.example.com\", base_url = \"{}/resend\" }}\n",
            sandbox.url()
        ),
    );
    binary.serve(&[]).await;
    let applied = binary.uzel(&["apply", "setup.toml"]);
    assert_eq!(applied.code, 0, "{}{}", applied.out, applied.err);
    let accepted = async |binary: &Binary| -> Vec<Value> {
        let url = format!("{}/_sandbox/resend/accepted", sandbox.url());
        binary.web.get(url).send().await.unwrap().json().await.unwrap()
    };
    let rows: Vec<String> = (0..150).map(|number| format!("guest{number}@example.com;\"Hello,\n{number}\"")).collect();
    binary.write("list.csv", &format!("email;text\n{}\n", rows.join("\n")));
    binary.write("wrong.csv", "email;text\na@example.com;x\nnobody;y\n");

    let wrong = binary.uzel(&["send", "email", "--subject", "News", "--batch", "wrong.csv"]);
    assert!(wrong.code == 1 && wrong.err.contains("line 3: to: is no e-mail address"), "{}{}", wrong.out, wrong.err);
    let send = ["send", "email", "--subject", "News", "--batch", "list.csv"];
    let looked = binary.uzel(&[&send[..], &["--dry-run"]].concat());
    assert!(looked.code == 0 && looked.out.contains("150 would go, 0 do not"), "{}{}", looked.out, looked.err);
    assert!(accepted(&binary).await.is_empty());

    // The provider has taken the first batch, and answers late; there the hub dies.
    let slow = json!({ "kind": "latency", "latency_ms": 20_000, "path": "/emails/batch", "calls": 1 });
    let control = format!("{}/_sandbox/resend/faults", sandbox.url());
    assert!(binary.web.put(&control).json(&slow).send().await.unwrap().status().is_success());
    let sent = binary.uzel(&send);
    assert!(sent.code == 0 && sent.out.contains("150 go, 0 do not"), "{}{}", sent.out, sent.err);
    until("the first to be taken", async || accepted(&binary).await.len() >= 100).await;
    binary.signal("-KILL");
    binary.serve(&[]).await;
    until("all to be sent", async || accepted(&binary).await.len() == 150).await;
    let again = binary.asked(&send);
    assert_eq!(again["batches"].as_array().unwrap().len(), 2);
    until("all to be known", async || {
        let counts = binary.asked(&["counts"]);
        counts["commands"] == json!([["done", 152]])
    })
    .await;
    let mails = accepted(&binary).await;
    let distinct: std::collections::BTreeSet<String> = mails.iter().map(|mail| mail["to"][0].to_string()).collect();
    assert_eq!((mails.len(), distinct.len(), &mails[7]["text"]), (150, 150, &json!("Hello,\n7")));
}
