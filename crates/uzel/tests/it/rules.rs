//! The rules of a flow, seen from outside: who is written to, when, and what holds a text back.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::{KEY, World, until};

fn served(id: u32, phone: &str) -> Value {
    json!({ "order": { "id": id, "status": "Выполнен", "sum": "640.50", "customer": { "phone": phone, "name": "Иван" } } })
}

async fn serve(world: &World, id: u32, phone: &str) {
    assert_eq!(world.post("rkeeper", &served(id, phone)).await.status(), 200);
}

/// The reasons for which texts were held back, and how many of each.
async fn held(world: &World) -> Value {
    let mut held = world.api("/api/v1/counts").await["held"].as_array().unwrap().clone();
    held.sort_by_key(Value::to_string);
    json!(held)
}

async fn phones(world: &World) -> Vec<String> {
    let mut phones: Vec<String> = world.texts().await.into_iter().map(|(phone, _)| phone).collect();
    phones.sort();
    phones
}

async fn consent(world: &World, phone: &str, granted: bool) {
    let record = json!({ "merchant": "m", "phone": phone, "granted": granted, "proof": "form at the desk" });
    let (status, answer) = world.ask("/api/v1/consents", &record).await;
    assert_eq!(status, 200, "{answer}");
    assert!(!answer.to_string().contains(&phone[3..9]), "the answer masks the phone: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_ground_of_consent_only_those_are_written_to_who_agreed() {
    let world = World::new(json!({ "ground": "consent", "delay": "1h" })).await;
    consent(&world, "+79991110001", true).await;
    consent(&world, "8 (999) 111-00-03", true).await;
    consent(&world, "+79991110003", false).await;
    for id in 1..=4 {
        serve(&world, id, &format!("+7999111000{id}")).await;
    }
    until("four texts to wait", async || world.commands("waiting").await == 4).await;
    // What counts is the person's word at the time of sending.
    consent(&world, "+79991110004", true).await;
    world.pass(61);
    world.quiet().await;
    assert_eq!(phones(&world).await, ["79991110001", "79991110004"]);
    assert_eq!(held(&world).await, json!([["no_consent", 1], ["opt_out", 1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_ground_of_service_a_person_who_wants_nothing_gets_nothing() {
    let world = World::new(json!({ "delay": "1h" })).await;
    serve(&world, 1, "+79991110001").await;
    serve(&world, 2, "+79991110002").await;
    until("two texts to wait", async || world.commands("waiting").await == 2).await;
    consent(&world, "+79991110001", false).await;
    world.pass(61);
    world.quiet().await;
    assert_eq!((phones(&world).await, held(&world).await), (vec!["79991110002".to_owned()], json!([["opt_out", 1]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_comes_back_is_written_to_again_and_may_leave_again() {
    let world = World::new(json!({ "ground": "consent" })).await;
    for (id, granted) in [(1, false), (2, true), (3, false)] {
        consent(&world, "+79991110001", granted).await;
        serve(&world, id, "+79991110001").await;
        world.quiet().await;
    }
    assert_eq!((phones(&world).await, held(&world).await), (vec!["79991110001".to_owned()], json!([["opt_out", 2]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_goes_in_quiet_hours_of_the_outlet() {
    let world = World::new(json!({ "quiet_from": "21:00", "quiet_to": "10:00" })).await;
    world.pass_until(22);
    serve(&world, 1, "+79991110001").await;
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    world.clock.advance(SignedDuration::from_mins(11 * 60 + 55));
    // Five minutes before the hour another guest's text is still put off, by hours that end at ten.
    serve(&world, 2, "+79991110002").await;
    until("both to wait", async || world.commands("waiting").await == 2).await;
    assert!(world.texts().await.is_empty());
    let due = world.newest("rkeeper").await["commands"][0]["due_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(due.in_tz("Europe/Moscow").unwrap().strftime("%H:%M").to_string(), "10:00");
    world.pass(6);
    world.quiet().await;
    assert_eq!(phones(&world).await, ["79991110001", "79991110002"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_was_down_over_the_evening_waits_for_the_morning() {
    let world = World::new(json!({ "delay": "1h", "quiet_from": "21:00", "quiet_to": "10:00" })).await;
    world.pass_until(19);
    serve(&world, 1, "+79991110001").await;
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    // Due at eight; the hub comes back at half past ten, when it is quiet.
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(210))).await;
    until("the text to be put off", async || {
        let command = world.newest("rkeeper").await["commands"][0].clone();
        command["next_at"] != command["due_at"] && command["state"] == "waiting"
    })
    .await;
    assert!(world.texts().await.is_empty());
    let command = world.newest("rkeeper").await["commands"][0].clone();
    assert_eq!(command["attempts"], 0, "waiting for the morning is no try");
    world.pass(12 * 60);
    world.quiet().await;
    assert_eq!(phones(&world).await, ["79991110001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_old_after_the_night_is_held_back() {
    // Known when it is decided: the morning comes after the latest time.
    let world = World::new(json!({ "quiet_from": "21:00", "quiet_to": "10:00", "latest": "6h" })).await;
    world.pass_until(23);
    serve(&world, 1, "+79991110001").await;
    world.quiet().await;
    assert_eq!(held(&world).await, json!([["too_old", 1]]));

    // Found out when it is sent: the hub was down over the evening, and in the morning it is too late.
    let world = World::new(json!({ "delay": "1h", "quiet_from": "21:00", "quiet_to": "10:00", "latest": "6h" })).await;
    world.pass_until(19);
    serve(&world, 1, "+79991110001").await;
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_mins(210))).await;
    world.pass(12 * 60);
    world.quiet().await;
    assert_eq!((held(&world).await, world.texts().await.len()), (json!([["too_old", 1]]), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_decides_and_one_that_cannot_be_judged_sends_nothing_and_says_why() {
    for (condition, texts, note) in [
        ("double(event.data.sum) > 500.0", 1, None),
        ("double(event.data.sum) > 5000.0", 0, Some("its condition is not met")),
        ("event.data.no_such_thing > 1", 0, Some("its condition cannot be judged")),
        ("event.data.sum", 0, Some("its condition cannot be judged")),
    ] {
        let world = World::new(json!({ "when": condition })).await;
        serve(&world, 1, "+79991110001").await;
        world.quiet().await;
        let entry = world.newest("rkeeper").await;
        assert_eq!((world.texts().await.len(), entry["state"].as_str()), (texts, Some("read")), "{condition}: {entry}");
        if let Some(note) = note {
            assert!(entry["notes"].to_string().contains(note), "{condition}: {entry}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_asked_once_in_n_days_whatever_provider_told_of_the_visits() {
    let world = World::new(json!({ "once_in_days": 14 })).await;
    let visit = |id: u32| {
        let client = json!({ "phone": "+79991110001", "name": "Иван" });
        json!({ "company_id": 1, "resource": "record", "resource_id": id, "status": "update",
            "data": { "id": id, "visit_id": id, "attendance": 1, "visit_attendance": 1, "deleted": false, "client": client } })
    };
    serve(&world, 1, "8 999 111-00-01").await;
    world.quiet().await;
    world.post("yclients", &visit(1)).await;
    world.pass(13 * 24 * 60);
    serve(&world, 2, "+79991110001").await;
    world.quiet().await;
    assert_eq!((world.texts().await.len(), held(&world).await), (1, json!([["asked_recently", 2]])));
    world.pass(2 * 24 * 60);
    world.post("yclients", &visit(2)).await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_never_went_does_not_count_as_asked() {
    let world = World::new(json!({ "delay": "1h", "once_in_days": 14 })).await;
    serve(&world, 1, "+79991110001").await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Отменен", "customer": { "phone": "+79991110001" } } })).await;
    until("the first to be called off", async || world.commands("held").await == 1).await;
    serve(&world, 2, "+79991110001").await;
    world.pass(61);
    world.quiet().await;
    assert_eq!((phones(&world).await.len(), held(&world).await), (1, json!([["cancelled", 1]])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_while_its_text_is_put_off_gets_none_later() {
    let world = World::new(json!({})).await;
    let later = json!({ "kind": "status", "status": 503, "latency_ms": 700, "path": "/sms/send" });
    world.control("smsru/faults", &later).await;
    serve(&world, 1, "+79991110001").await;
    until("the text to be sent", async || world.commands("sending").await == 1).await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Отменен", "customer": { "phone": "+79991110001" } } })).await;
    until("the text to be held", async || world.commands("held").await == 1).await;
    world.pass(120);
    world.quiet().await;
    assert_eq!((world.texts().await.len(), held(&world).await), (0, json!([["cancelled", 1]])));
}

/// Tells that a deal came to a stage.
async fn deal(world: &World, status: u32) {
    let body = format!("leads[status][0][id]=9001&leads[status][0][status_id]={status}&account[id]=1");
    let url = format!("{}/api/webhook/amocrm?key={KEY}", world.hub.url());
    let answer = world.web.post(url).header("content-type", "application/x-www-form-urlencoded").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_in_the_middle_of_a_look_up_gets_no_text() {
    let world = World::new(json!({})).await;
    crate::oauth::deal(&world, 9001).await;
    world.control("amocrm/faults", &json!({ "kind": "latency", "latency_ms": 700, "path": "/api/v4/contacts" })).await;
    deal(&world, 142).await;
    until("the contact to be asked for", async || !world.calls("amocrm", "/api/v4/contacts").await.is_empty()).await;
    deal(&world, 143).await;
    world.quiet().await;
    assert_eq!((world.commands("done").await, world.texts().await.len()), (2, 0), "the look-ups ended, and nothing followed");
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1, json!({ "found": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_cancelled_while_its_guest_is_looked_up_gets_no_text_and_breaks_no_law() {
    let world = World::new(json!({})).await;
    // The look-up cannot be made for the moment.
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 503, "calls": 100 })).await;
    deal(&world, 142).await;
    until("a try", async || !world.calls("amocrm", "/api/v4/leads").await.is_empty() && world.commands("waiting").await == 1)
        .await;
    deal(&world, 143).await;
    until("the look-up to be called off", async || world.commands("held").await == 1).await;
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1, json!({ "found": [] }));
    assert_eq!(world.texts().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_take_no_text_are_held_back_or_dropped_with_the_reason() {
    let world = World::new(json!({})).await;
    for (id, phone) in [(1, "+7 495 123-45-67"), (2, "8 800 555-35-35"), (3, "123"), (4, "+998 90 123 45 67"), (5, "нет")] {
        serve(&world, id, phone).await;
    }
    world.quiet().await;
    assert_eq!(held(&world).await, json!([["not_mobile", 2]]), "a landline and a free call number");
    // A foreign mobile is tried: whether it can be reached is the provider's to say.
    let to: Vec<String> =
        world.calls("smsru", "/sms/send").await.iter().map(|call| call["body"].as_str().unwrap().to_owned()).collect();
    assert!(to.len() == 1 && to[0].contains("to=998901234567"), "{to:?}");
    assert_eq!((world.commands("dead").await, world.texts().await.len()), (1, 0));
    let entry = world.newest("rkeeper").await;
    assert!(entry["notes"].to_string().contains("no phone"), "{entry}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_template_wants_may_be_missing() {
    let text = "{{ name or 'Здравствуйте' }}! {{ event.data.table.number }}{{ event.data.sum }} {{ nothing.at.all }}{{ outlet }}";
    let world = World::new(json!({ "text": text })).await;
    world.post("rkeeper", &json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991110001" } } })).await;
    world.quiet().await;
    assert_eq!(world.texts().await[0].1, "Здравствуйте!  Кафе");
    // A text of which nothing is left is not sent.
    let world = World::new(json!({ "text": "{{ event.data.nothing }}" })).await;
    serve(&world, 1, "+79991110001").await;
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 0);
    assert!(world.newest("rkeeper").await["notes"].to_string().contains("it is empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_would_follow_and_causes_nothing() {
    let world = World::new(json!({ "once_in_days": 14, "delay": "1h" })).await;
    serve(&world, 1, "+79991110001").await;
    until("the text to wait", async || world.commands("waiting").await == 1).await;
    let state =
        async || (world.api("/api/v1/counts").await, world.api("/api/v1/journal").await, world.api("/api/v1/notices").await);
    let before = state().await;

    let body = served(2, "+79991110002").to_string();
    let (status, told) = world.ask("/api/v1/flows/dry-run", &json!({ "connection": "rkeeper", "body": body })).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["events"][0]["commands"][0]["job"], json!({ "job": "send", "phone": "+7999***0002", "text": "Иван: Кафе" }));
    assert!(!told.to_string().contains("79991110002"), "phones of a body are masked: {told}");

    let entry = world.newest("rkeeper").await["entry"].clone();
    let (status, told) = world.ask("/api/v1/flows/dry-run", &json!({ "entry": entry })).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["events"][0]["event"]["kind"], "order.completed");
    assert!(!told.to_string().contains("79991110001"), "phones of the journal are masked: {told}");

    let (_, told) = world.ask("/api/v1/flows/dry-run", &json!({ "connection": "rkeeper", "body": "{ no json" })).await;
    assert_eq!(told["state"], "dead");
    assert_eq!(state().await, before);
    // The event of the dry run is still new, and the person's place is still free.
    serve(&world, 2, "+79991110002").await;
    until("the second text", async || world.commands("waiting").await == 2).await;
}
