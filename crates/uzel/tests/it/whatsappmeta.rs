//! WhatsApp by Meta from outside: what goes, what is told of it later, who wrote, and each way in which it goes wrong.

use serde_json::{Map, Value, json};
use uzel::{hub::Parts, settings::Settings};
use uzel_model::{Address, Content, Id, Job, id::Kind, message::Template};
use uzel_store::{Change, Command, Contact, NewCommand};

use crate::{
    conformance,
    world::{World, setup, until},
};

const SECRET: &str = "0f5c1d7e9a3b48c6b2d41e6f7a8095cd";
const WORD: &str = "my-verify-token";
const INBOUND: &str = include_str!("../../../../fixtures/whatsappmeta/webhook_inbound_text.http");

/// The setup with a connection to WhatsApp by which the flow's texts go.
fn with_whatsapp(sandbox: &str, own: Value) -> Value {
    let mut setup = setup(sandbox, &json!({ "via": "whatsappmeta" }));
    let mut settings = conformance::settings(uzel_connectors::provider("whatsappmeta").unwrap(), sandbox);
    settings.extend(own.as_object().cloned().unwrap_or_default());
    settings.retain(|_, value| !value.is_null());
    let connection =
        json!({ "merchant": "m", "outlet": "o", "slug": "whatsappmeta", "provider": "whatsappmeta", "settings": settings });
    setup["connection"].as_array_mut().unwrap().push(connection);
    setup
}

async fn start(tweak: impl FnOnce(&mut Settings)) -> World {
    let world = World::bare(Parts::default(), tweak).await;
    world.apply(&with_whatsapp(&world.sandbox.url(), json!({}))).await;
    // Most tests are not about the window.
    world.control("whatsappmeta/settings", &json!({ "window": false })).await;
    world
}

async fn serve(world: &World, order: u32, phone: &str) {
    let body = json!({ "order": { "id": order, "status": "Выполнен", "customer": { "phone": phone, "name": "Иван" } } });
    assert_eq!(world.post("rkeeper", &body).await.status(), 200);
}

async fn accepted(world: &World) -> Vec<Value> {
    world.shown("whatsappmeta/accepted").await.as_array().unwrap().clone()
}

async fn hook(world: &World) -> String {
    format!("{}{}", world.hub.url(), world.link("whatsappmeta").await["hook"].as_str().unwrap())
}

/// Has Meta tell something, and waits until it is read.
async fn told(world: &World, case: &str, options: Value) {
    let mut options = options;
    options["url"] = json!(hook(world).await);
    assert_eq!(world.told_by("whatsappmeta", case, &options).await["body"], "ok");
    all_read(world).await;
}

async fn all_read(world: &World) {
    until("everything to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
}

/// The command of the newest order.
async fn command(world: &World) -> Value {
    world.newest("rkeeper").await["commands"][0].clone()
}

/// Queues a message as a flow does that has both words and a template.
async fn queue(world: &World, phone: &str, text: &str) {
    let engine = &world.hub.engine;
    let link = engine.world().connection("whatsappmeta").unwrap().clone();
    let now = world.clock.now();
    let parameters = json!({ "type": "body", "parameters": [{ "type": "text", "text": "Кофейня" }] });
    let template = Template { name: "review_request".to_owned(), language: "ru".to_owned(), components: vec![parameters] };
    let content = Content { template: Some(template), ..Content::text(text) };
    let job = Job::Send {
        to: Address::Phone(phone.to_owned()),
        content: content.into(),
        consent: false,
        repeatable: false,
        batch: None,
    };
    let command = Command {
        id: Id::new(Kind::Command),
        merchant: link.merchant,
        connection: link.id,
        flow: None,
        event: None,
        job,
        due_at: now,
        latest_at: None,
        source: link.id,
        attempts: 0,
        contact: Contact::default(),
        lease: 0,
        trace: "00000000000000000000000000000001".to_owned(),
    };
    let new = NewCommand { command, ordering_key: phone.to_owned(), subject: format!("test/{text}"), held: None, slot: None };
    engine.store.apply(Change { commands: vec![new], now: Some(now), ..Change::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn statuses_that_come_late_twice_or_out_of_order_take_nothing_back() {
    let world = start(|_| {}).await;
    serve(&world, 1, "+79995550001").await;
    world.quiet().await;
    let sent = accepted(&world).await.remove(0);
    assert_eq!((&sent["to"], &sent["text"]), (&json!("79995550001"), &json!("Иван: Кафе")));
    let ours = command(&world).await;
    assert_eq!((&ours["id"], &ours["provider_id"]), (&sent["biz_opaque_callback_data"], &sent["id"]));
    assert_eq!((&ours["state"], &ours["delivery"]), (&json!("done"), &json!("on_the_way")));
    told(&world, "statuses", json!({ "message_ids": [sent["id"]], "statuses": ["sent"] })).await;
    assert_eq!(command(&world).await["delivery"], "on_the_way");
    told(&world, "statuses", json!({ "message_ids": [sent["id"]], "statuses": ["read", "delivered", "sent"], "batch": true }))
        .await;
    for again in [json!(["delivered"]), json!(["sent"]), json!(["read"]), json!(["failed"])] {
        told(&world, "statuses", json!({ "message_ids": [sent["id"]], "statuses": again, "count": 2 })).await;
        assert_eq!(command(&world).await["delivery"], "read", "{again}");
    }
    told(&world, "statuses", json!({ "message_ids": ["wamid.of-somebody-else"], "statuses": ["delivered", "failed"] })).await;
    assert_eq!(world.api("/api/v1/journal?status=dead").await, json!([]));
    assert_eq!((accepted(&world).await.len(), world.commands("done").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_told_later_is_known_by_its_code() {
    let world = start(|_| {}).await;
    world.control("whatsappmeta/settings", &json!({ "window": true, "failing": { "79995550002": 131_026 } })).await;
    for (order, phone, code) in [(1, "+79995550001", "131047"), (2, "+79995550002", "131026")] {
        serve(&world, order, phone).await;
        world.quiet().await;
        told(&world, "statuses", json!({})).await;
        let text = command(&world).await;
        assert_eq!((&text["state"], &text["delivery"], &text["delivery_code"]), (&json!("done"), &json!("failed"), &json!(code)));
        assert_eq!(world.newest("whatsappmeta").await["events"][0]["kind"], "message.failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_was_lost_is_done_when_a_status_brings_its_key() {
    for fault in [json!({ "kind": "cut_after" }), json!({ "kind": "status", "status": 500 }), json!({ "kind": "garbage" })] {
        let world = start(|_| {}).await;
        world.control("whatsappmeta/faults", &fault).await;
        serve(&world, 1, "+79995550001").await;
        until("nobody to know", async || world.commands("unknown").await == 1).await;
        let id = command(&world).await["id"].clone();
        // Another connection's key, and none at all, tell nothing.
        told(&world, "statuses", json!({ "message_ids": ["wamid.x"], "callback_data": "msg_1", "statuses": ["sent"] })).await;
        assert_eq!(world.commands("unknown").await, 1);
        let message = accepted(&world).await.pop().map_or(json!("wamid.told"), |message| message["id"].clone());
        told(&world, "statuses", json!({ "message_ids": [message], "callback_data": id, "statuses": ["sent", "delivered"] }))
            .await;
        let text = command(&world).await;
        assert_eq!((&text["state"], &text["delivery"], &text["provider_id"]), (&json!("done"), &json!("delivered"), &message));
        assert_eq!(world.commands("unknown").await, 0);
        world.pass(30);
        world.quiet().await;
        assert_eq!(world.calls("whatsappmeta", "/v23.0").await.len(), 1, "it is not sent again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_comes_before_the_time_is_out_leaves_nothing_unknown() {
    let world = start(|settings| settings.call_timeout_ms = 4_000).await;
    world.control("whatsappmeta/faults", &json!({ "kind": "latency", "latency_ms": 6_000 })).await;
    serve(&world, 1, "+79995550001").await;
    until("the message to be taken", async || accepted(&world).await.len() == 1).await;
    assert_eq!(world.commands("sending").await + world.commands("waiting").await, 1, "its answer is still waited for");
    told(&world, "statuses", json!({ "statuses": ["sent"] })).await;
    world.quiet().await;
    let text = command(&world).await;
    assert_eq!((&text["state"], &text["provider_id"]), (&json!("done"), &accepted(&world).await[0]["id"]), "{text}");
    told(&world, "statuses", json!({ "message_ids": [text["provider_id"]], "statuses": ["delivered"] })).await;
    assert_eq!(command(&world).await["delivery"], "delivered");
    assert_eq!(accepted(&world).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_called_too_often_or_is_away_is_called_again() {
    let world = start(|_| {}).await;
    let faults = [
        json!({ "kind": "rate_limit" }),
        json!({ "kind": "status", "status": 429 }),
        json!({ "kind": "status", "status": 503 }),
        json!({ "kind": "status", "status": 429, "retry_after": 1_200 }),
    ];
    for (order, fault) in (1..).zip(faults) {
        world.control("whatsappmeta/faults", &fault).await;
        serve(&world, order, &format!("+7999555000{order}")).await;
        if fault["retry_after"].is_null() {
            world.in_time("the message", async || accepted(&world).await.len() == order as usize).await;
            continue;
        }
        until("the first try", async || command(&world).await["reason"].as_str().unwrap_or_default().contains("429")).await;
        assert_eq!((accepted(&world).await.len(), world.commands("waiting").await), (3, 1));
        world.pass(21);
        until("the message", async || accepted(&world).await.len() == 4).await;
    }
    world.quiet().await;
    assert_eq!((world.commands("done").await, accepted(&world).await.len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_messages_to_one_person_keep_nobody_else_waiting() {
    let world = start(|_| {}).await;
    world.control("whatsappmeta/settings", &json!({ "pair_burst": 1, "pair_every_ms": 600_000 })).await;
    serve(&world, 1, "+79995550001").await;
    world.quiet().await;
    serve(&world, 2, "+79995550001").await;
    until("the refusal", async || command(&world).await["reason"].as_str().unwrap_or_default().contains("131056")).await;
    for order in 3..8 {
        serve(&world, order, &format!("+7999555000{order}")).await;
    }
    until("the others", async || accepted(&world).await.len() == 6).await;
    assert_eq!((world.commands("waiting").await, world.commands("dead").await), (1, 0));
    assert_eq!(world.api("/api/v1/connections/whatsappmeta/health").await["healthy"], true, "no breaker is open");
    world.control("whatsappmeta/settings", &json!({ "pair_burst": 45 })).await;
    world.in_time("the second message", async || accepted(&world).await.len() == 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_at_fault_keeps_the_queue_and_the_merchant_is_told() {
    for (own, kind, code) in [
        (json!({ "access_token": "wrong" }), "unauthorized", "401"),
        (json!({ "phone_number_id": "79991112233" }), "account", "100"),
    ] {
        let world = start(|_| {}).await;
        world.apply(&with_whatsapp(&world.sandbox.url(), own)).await;
        serve(&world, 1, "+79995550001").await;
        serve(&world, 2, "+79995550002").await;
        until("the refusals", async || world.calls("whatsappmeta", "/v23.0").await.len() == 2).await;
        until("both to wait", async || world.commands("waiting").await == 2).await;
        let notices = world.notices(kind).await;
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(notices[0]["text"].as_str().unwrap().contains(code), "{notices:?}");
        world.apply(&with_whatsapp(&world.sandbox.url(), json!({}))).await;
        world.pass(11);
        until("both", async || accepted(&world).await.len() == 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_day_after_somebody_wrote_words_go_and_later_the_template() {
    let world = start(|_| {}).await;
    world.control("whatsappmeta/settings", &json!({ "window": true })).await;
    let kinds = async || accepted(&world).await.iter().map(|sent| sent["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    queue(&world, "+79995550001", "before").await;
    until("the template", async || kinds().await == ["template"]).await;
    told(&world, "inbound", json!({ "from": "79995550001", "text": "Добрый день" })).await;
    queue(&world, "+79995550001", "within").await;
    until("the words", async || kinds().await == ["template", "text"]).await;
    assert_eq!(accepted(&world).await[1]["text"], "within");
    // Somebody else has not written.
    queue(&world, "+79995550002", "stranger").await;
    until("a template", async || kinds().await == ["template", "text", "template"]).await;
    world.pass(24 * 60);
    queue(&world, "+79995550001", "after").await;
    until("a template again", async || kinds().await == ["template", "text", "template", "template"]).await;
    assert_eq!(accepted(&world).await[3]["text"], "Спасибо, что были в Кофейня! Как всё прошло?");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_writes_is_an_event_once() {
    let world = start(|_| {}).await;
    let reply = json!({ "from": "79995550001", "type": "button", "text": "5", "payload": "RATE_5", "id": "wamid.1", "count": 3 });
    told(&world, "inbound", reply).await;
    let events = world.api("/api/v1/events?type=message.received").await;
    assert_eq!(events.as_array().map(Vec::len), Some(1), "{events}");
    let whole = world.api("/api/v1/journal?provider=whatsappmeta&limit=10").await;
    let first = whole.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let event = world.api(&format!("/api/v1/journal/{first}?unmasked=true")).await["events"][0].clone();
    assert_eq!((&event["phone"]["e164"], &event["name"]), (&json!("+79995550001"), &json!("Иван")));
    assert_eq!((&event["data"]["text"], &event["data"]["payload"]), (&json!("5"), &json!("RATE_5")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_may_not_be_used_is_told_once_a_day() {
    let world = start(|_| {}).await;
    told(&world, "template_status", json!({ "event": "PAUSED", "count": 3 })).await;
    told(&world, "template_status", json!({ "event": "APPROVED", "name": "other" })).await;
    let notices = world.notices("template/review_request/ru").await;
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0]["text"], "WhatsApp (Meta): the template review_request (ru) is PAUSED");
    assert!(world.notices("template/other/ru").await.is_empty());
    assert!(world.newest("whatsappmeta").await["notes"].to_string().contains("APPROVED"));
}

/// Posts bytes with these headers and gives the status.
async fn post(world: &World, url: String, body: &str, signature: Option<&str>) -> u16 {
    let mut request = world.web.post(url).header("content-type", "application/json").body(body.to_owned());
    if let Some(signature) = signature {
        request = request.header("x-hub-signature-256", signature);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_knows_the_secret_or_the_word_is_let_in_and_neither_is_written_down() {
    let world = start(|_| {}).await;
    let url = hook(&world).await;
    let greet = async |query: &str| {
        let answer = world.web.get(format!("{url}?{query}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let right = format!("hub.challenge=0042&hub.verify_token={WORD}&hub.mode=subscribe");
    assert_eq!(greet(&right).await, (200, "0042".to_owned()));
    for wrong in ["hub.mode=subscribe&hub.challenge=1&hub.verify_token=a-wrong-word", "hub.mode=subscribe&hub.challenge=1", ""] {
        let (status, body) = greet(wrong).await;
        assert!(status == 403 && !body.contains('1'), "{wrong}: {body}");
    }
    assert_eq!(world.told_by("whatsappmeta", "verify", &json!({ "url": url })).await["body"], "1158201444");
    let (head, body) = INBOUND.split_once("\r\n\r\n").unwrap();
    let signature = head.lines().find_map(|line| line.strip_prefix("X-Hub-Signature-256: ")).unwrap();
    assert_eq!(post(&world, url.clone(), body, None).await, 401);
    assert_eq!(post(&world, url.clone(), &body.replace("79990001122", "79990001123"), Some(signature)).await, 401);
    assert_eq!(post(&world, url.clone(), body, Some(&signature.replace("sha256=", "sha1="))).await, 401);
    assert_eq!(world.api("/api/v1/journal").await, json!([]), "no stranger is journalled");
    assert_eq!(post(&world, format!("{url}?hub.verify_token={WORD}&a=b"), body, Some(signature)).await, 200);
    all_read(&world).await;
    let entry = world.newest("whatsappmeta").await;
    let kept = entry.to_string();
    assert!(
        kept.contains("79990001122") && !kept.contains(WORD) && !kept.contains(SECRET) && !kept.contains(signature),
        "{kept}"
    );
    let columns = world.texts_of("SELECT query || headers FROM inbox").await.join("\n");
    assert!(columns.contains("\"b\"") && !columns.contains(WORD) && !columns.contains(signature), "{columns}");

    let mute = with_whatsapp(&world.sandbox.url(), json!({ "app_secret": null, "verify_token": null }));
    world.apply(&mute).await;
    assert_eq!(post(&world, url.clone(), body, Some(signature)).await, 401, "without a secret nobody is let in");
    assert_eq!(greet(&right).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_sets_its_address_and_looks_after_templates() {
    let world = World::reachable().await;
    world.apply(&with_whatsapp(&world.sandbox.url(), json!({}))).await;
    let health = async || world.api("/api/v1/connections/whatsappmeta/health").await;
    let (status, answer) = world.ask("/api/v1/connections/whatsappmeta/subscribe", &json!({})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(health().await["healthy"], true, "{}", health().await);
    assert_eq!(world.told_by("whatsappmeta", "verify", &json!({})).await["body"], "1158201444", "Meta greets the address");
    world.told_by("whatsappmeta", "inbound", &json!({})).await;
    all_read(&world).await;
    assert_eq!(world.newest("whatsappmeta").await["events"][0]["kind"], "message.received");
    world.control("whatsappmeta/templates", &json!([{ "name": "review", "language": "ru", "status": "PAUSED" }])).await;
    let ill = health().await;
    assert!(ill["healthy"] == false && ill["detail"].as_str().unwrap().contains("review (ru) is PAUSED"), "{ill}");
    let mut calls = Map::new();
    for call in world.calls("whatsappmeta", "/v23.0").await {
        calls.insert(format!("{} {}", call["method"].as_str().unwrap(), call["path"].as_str().unwrap()), json!(call["status"]));
    }
    let known = [
        "GET /v23.0/102290129340398/message_templates",
        "GET /v23.0/102290129340398/subscribed_apps",
        "POST /v23.0/102290129340398/subscribed_apps",
    ];
    assert_eq!(calls.keys().map(String::as_str).collect::<Vec<_>>(), known);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_its_connection_does_not_list_is_refused_by_its_field_before_anything_goes() {
    let world = start(|_| {}).await;
    let file = |templates: Value, name: &str, language: &str| {
        let mut file = with_whatsapp(&world.sandbox.url(), json!({ "templates": templates }));
        let flow = file["flow"][0].as_object_mut().unwrap();
        flow.remove("via");
        let template = json!({ "name": name, "language": language, "parameters": ["{{ outlet }}"] });
        flow.insert("step".to_owned(), json!([{ "via": "whatsappmeta", "template": template }]));
        file
    };
    // Faults of keys, which are short here, are others.
    let planned = async |file: &Value| {
        let (_, answer) = world.ask("/api/v1/apply", &json!({ "setup": file, "dry_run": true })).await;
        let faults = answer["errors"].as_array().cloned().unwrap_or_default();
        let places = faults.iter().map(|fault| fault["pointer"].as_str().unwrap().to_owned());
        places.filter(|place| place.contains("template")).collect::<Vec<_>>().join(" ")
    };
    let listed = json!(["thanks/ru", "thanks/en_US"]);
    for (templates, name, language, place) in [
        (listed.clone(), "thanks", "ru", ""),
        (Value::Null, "anything", "kk", ""),
        (listed.clone(), "thnks", "ru", "/flow/0/step/0/template/name"),
        (listed.clone(), "thanks", "uz", "/flow/0/step/0/template/language"),
        (json!([]), "thanks", "ru", "/flow/0/step/0/template/name"),
        (json!(["thanks"]), "thanks", "ru", "/flow/0/step/0/template/name"),
        (json!("thanks/ru"), "thanks", "ru", "/connection/5/settings/templates"),
    ] {
        assert_eq!(planned(&file(templates, name, language)).await, place, "{name}/{language}");
    }
    // A flow that is applied later is held against the connection that runs; so is a message by itself.
    world.apply(&file(listed, "thanks", "ru")).await;
    let mut flow = file(Value::Null, "thanks", "uz");
    flow.as_object_mut().unwrap().remove("connection");
    assert_eq!(planned(&flow).await, "/flow/0/step/0/template/language");
    let message = json!({ "merchant": "m", "via": "whatsappmeta", "to": "+79990000001", "ground": "service",
        "template": { "name": "thnks", "language": "ru" } });
    let (status, answer) = crate::asked::ask(&world, Some("k"), &message).await;
    assert_eq!((status, &answer["errors"][0]["pointer"]), (422, &json!("/template/name")), "{answer}");
}
