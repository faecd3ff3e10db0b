//! MTS Exolve from outside: statuses by event and by question, refusals of four shapes, what people write, WhatsApp by settings.

use serde_json::{Value, json};

use crate::{
    lost_texts::by_exolve,
    world::{FIXTURE_KEY, World, setup, until},
};

const SEND: &str = "/messaging/v1/SendSMS";

async fn serve(world: &World, id: u32) {
    let order = json!({ "order": { "id": id, "status": "Выполнен", "customer": { "phone": phone(id), "name": "Иван" } } });
    assert_eq!(world.post("rkeeper", &order).await.status(), 200);
}

fn phone(id: u32) -> String {
    format!("+7999555{id:04}")
}

/// The newest command.
async fn text(world: &World) -> Value {
    world.api("/api/v1/commands?unmasked=true").await[0].clone()
}

async fn tell(world: &World, case: &str, options: Value) -> Value {
    let mut options = options;
    options["url"] = json!(format!("{}/hooks/exolvesms?key={FIXTURE_KEY}", world.hub.url()));
    let answer = world.told_by("exolvesms", case, &options).await;
    until("it to be read", async || world.api("/api/v1/journal?status=unread").await == json!([])).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_comes_by_event_once_and_for_good_whatever_follows() {
    let world = by_exolve().await;
    serve(&world, 1).await;
    world.quiet().await;
    let id = text(&world).await["provider_id"].as_str().unwrap().to_owned();
    assert_eq!(id, "439166538239448536");
    let sent = world.shown("exolvesms/accepted").await;
    assert_eq!(sent, json!([{ "message_id": id, "to": "79995550001", "text": "Иван: Кафе", "from": "79580001122" }]));
    let state = async || {
        let text = text(&world).await;
        (text["delivery"].as_str().unwrap().to_owned(), text["delivery_code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(tell(&world, "event", json!({ "message_ids": [id], "state": "TRANSMITTED" })).await["status"], 200);
    assert_eq!(state().await.0, "on_the_way");
    for late in ["DELIVERED", "TRANSMITTED", "DELIVERED", "FAILED"] {
        tell(&world, "event", json!({ "message_ids": [id], "state": late })).await;
        assert_eq!(state().await, ("delivered".to_owned(), "DELIVERED".to_owned()), "{late}");
    }
    // Of a message that is not ours, and what is no event.
    tell(&world, "event", json!({ "message_ids": ["99"], "state": "FAILED" })).await;
    for body in ["", "null", "7", "[]", "{}", r#"{"message_id":null}"#, r#"{"message_id":{},"status":3}"#, "<html>"] {
        let url = format!("{}/hooks/exolvesms?key={FIXTURE_KEY}", world.hub.url());
        let post = world.web.post(url).header("content-type", "application/json").body(body);
        assert_eq!(post.send().await.unwrap().status(), 200, "{body}: a dead letter is answered as received");
    }
    let url = format!("{}/hooks/exolvesms", world.hub.url());
    assert_eq!(world.web.post(url).json(&json!({ "message_id": id, "status": 4 })).send().await.unwrap().status(), 401);
    assert_eq!(state().await.0, "delivered");
    assert_eq!(world.calls("exolvesms", SEND).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_no_event_told_of_is_asked_for() {
    for (names, as_numbers) in [(false, true), (true, false)] {
        let world = by_exolve().await;
        world.control("exolvesms/settings", &json!({ "enums_as_names": names, "ids_as_numbers": as_numbers })).await;
        // Few are asked for one by one, many by the list of what was sent.
        for guests in [1..3, 3..12] {
            for id in guests.clone() {
                serve(&world, id).await;
            }
            world.quiet().await;
            let accepted = world.shown("exolvesms/accepted").await;
            let of = |to: &str| {
                let message = accepted.as_array().unwrap().iter().find(|message| message["to"] == to).unwrap();
                message["message_id"].as_str().unwrap().to_owned()
            };
            world.control("exolvesms/states", &json!({ of(&phone(guests.start)[1..]): "UNDERFUNDED" })).await;
            let known = async || {
                let texts = world.api("/api/v1/commands").await;
                !texts.as_array().unwrap().iter().any(|text| text["delivery"] == "on_the_way")
            };
            world.in_time("all to be known", known).await;
        }
        let texts = world.api("/api/v1/commands").await.to_string();
        assert_eq!((texts.matches(r#""UNDERFUNDED""#).count(), texts.matches(r#""DELIVERED""#).count()), (2, 9));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_ends_or_waits_by_whose_fault_it_is() {
    for shape in ["nested", "flat", "message", "plain"] {
        let world = by_exolve().await;
        world.control("exolvesms/settings", &json!({ "error_shape": shape, "not_permitted": ["79995550001"] })).await;
        serve(&world, 1).await;
        world.quiet().await;
        let refused = text(&world).await;
        assert!(
            refused["state"] == "dead" && refused["reason"].as_str().unwrap().contains("not permitted"),
            "{shape}: {refused}"
        );
        // A trial account: the merchant is told, and nothing is given up.
        world.control("exolvesms/settings", &json!({ "not_permitted": [], "confirmed": "79990000001" })).await;
        serve(&world, 2).await;
        until("the notice", async || world.notices("account").await.len() == 1).await;
        assert_eq!(world.commands("waiting").await, 1);
        world.control("exolvesms/settings", &json!({ "confirmed": null })).await;
        world.pass(11);
        until("the text", async || world.commands("done").await == 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_on_the_way_is_tried_again_only_where_nothing_can_have_been_sent() {
    let world = by_exolve().await;
    let fault = |fault: Value| {
        let mut fault = fault;
        fault["path"] = json!(SEND);
        fault
    };
    // Come back later, when it says so or soon; not there now.
    for (id, told, wait) in [
        (1, json!({ "kind": "rate_limit", "retry_after": 120 }), 115..125),
        (2, json!({ "kind": "rate_limit" }), 0..60),
        (3, json!({ "kind": "status", "status": 503 }), 0..60),
    ] {
        world.control("exolvesms/faults", &fault(told.clone())).await;
        let sent = world.calls("exolvesms", SEND).await.len();
        serve(&world, id).await;
        let tried = async || world.calls("exolvesms", SEND).await.len() == sent + 1 && text(&world).await["attempts"] == 1;
        until("the first try", tried).await;
        let waiting = text(&world).await;
        let time = |name: &str| waiting[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(wait.contains(&time("next_at").duration_since(time("due_at")).as_secs()), "{told}: {waiting}");
        world.pass(3);
        world.quiet().await;
        assert_eq!(text(&world).await["state"], "done", "{told}");
    }
    for (id, open, told) in [(4, 1, json!({ "kind": "status", "status": 500 })), (5, 2, json!({ "kind": "garbage" }))] {
        world.control("exolvesms/faults", &fault(told.clone())).await;
        serve(&world, id).await;
        until("the outcome to be open", async || world.commands("unknown").await == open).await;
    }
    assert_eq!(world.calls("exolvesms", SEND).await.len(), 8);
    // A key that is no good.
    world.control("exolvesms/faults", &fault(json!({ "kind": "status", "status": 401 }))).await;
    serve(&world, 6).await;
    until("the notice", async || !world.notices("unauthorized").await.is_empty()).await;
    let journal = world.api("/api/v1/journal?provider=exolvesms&limit=1000").await.to_string();
    assert!(!journal.contains("key-of-exolve"), "{journal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_writes_is_told_once_by_event_or_by_poll() {
    let world = by_exolve().await;
    tell(&world, "event_incoming", json!({ "count": 2 })).await;
    let received = async || world.api("/api/v1/events?type=message.received&unmasked=true").await;
    let events = received().await;
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(
        (&events[0]["data"]["person"]["phone"], &events[0]["data"]["details"]["text"]),
        (&json!("+79990001122"), &json!("Спасибо!"))
    );
    // The first poll says from when on; what comes after it and is not told of is read by the next.
    until("the first poll", async || {
        let cursors = world.texts_of("SELECT value FROM cursor").await;
        !cursors.is_empty()
    })
    .await;
    let wrote = json!([{ "sender": "79990003344", "receiver": "79580001122", "text": "СТОП" }]);
    world.control("exolvesms/incoming", &wrote).await;
    world.in_time("the poll to bring it", async || received().await.as_array().unwrap().len() == 2).await;
    let asked = world.calls("exolvesms", "/messaging/v1/GetList").await.len();
    world.in_time("another poll", async || world.calls("exolvesms", "/messaging/v1/GetList").await.len() > asked).await;
    assert_eq!(received().await.as_array().unwrap().len(), 2);
}

async fn by_whatsapp(settings: Value) -> World {
    let world = World::new(json!({})).await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "via": "whatsappexolve" }));
    let mut whole = json!({ "api_key": "key-of-exolve", "sender_id": "S1" });
    whole.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    if let Some(path) = settings["send_url"].as_str() {
        whole["send_url"] = json!(format!("{}{path}", world.sandbox.url()));
    }
    setup["connection"].as_array_mut().unwrap().push(json!({ "merchant": "m", "outlet": "o", "slug": "whatsappexolve",
        "provider": "whatsappexolve", "settings": whole, "webhook_keys": [FIXTURE_KEY] }));
    world.apply(&setup).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsapp_by_exolve_goes_where_the_settings_say_and_nowhere_without_an_address() {
    let world = by_whatsapp(json!({ "send_url": "/whatsappexolve/any/path" })).await;
    serve(&world, 1).await;
    world.quiet().await;
    let sent = text(&world).await;
    assert!(sent["state"] == "done" && sent["provider_id"] == "77000001", "{sent}");
    let accepted = world.shown("whatsappexolve/accepted").await;
    assert_eq!(
        accepted,
        json!([{ "sender_id": "S1", "destination": "79995550001", "text": "Иван: Кафе", "message_id": "77000001" }])
    );

    let world = by_whatsapp(json!({})).await;
    serve(&world, 1).await;
    until("the notice", async || world.notices("account").await.len() == 1).await;
    let notices = world.notices("account").await;
    assert!(notices[0]["text"].as_str().unwrap().contains("ask Exolve for the address"), "{notices:?}");
    assert_eq!((world.commands("waiting").await, text(&world).await["state"].clone()), (1, json!("waiting")));
}
