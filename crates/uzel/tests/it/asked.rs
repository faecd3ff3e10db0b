//! Commands that are asked for by the API.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::world::{World, until};

/// Asks for a command under a key; gives the status and the answer.
pub(crate) async fn ask(world: &World, key: Option<&str>, body: &Value) -> (u16, Value) {
    let mut request = world.web.post(format!("{}/api/v1/commands", world.hub.url())).bearer_auth(world.hub.owner_key().unwrap());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let answer = request.json(body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

fn text(to: &str) -> Value {
    json!({ "merchant": "m", "via": "smsru", "to": to, "text": "Ваш заказ готов", "ground": "service" })
}

/// Ids and moments differ every time.
fn without_ids(mut value: Value) -> Value {
    let text = match &mut value {
        Value::Array(items) => return items.drain(..).map(without_ids).collect(),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let moment = matches!(
                    name.as_str(),
                    "at" | "due_at" | "next_at" | "duration_ms" | "trace" | "response" | "endpoint" | "provider_id"
                );
                *member = if moment { json!(format!("<{name}>")) } else { without_ids(member.take()) };
            }
            return value;
        }
        Value::String(text) => text,
        _ => return value,
    };
    match text.split_once('_') {
        Some((prefix @ ("mer" | "con" | "cmd" | "att"), id)) if id.len() == 26 => json!(format!("<{prefix}>")),
        _ => value,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_asked_for_goes_once_however_often_it_is_asked_for() {
    let world = World::new(json!({})).await;
    let (status, first) = ask(&world, Some("order-1"), &text("8 999 111-00-01")).await;
    assert_eq!((status, &first["state"]), (202, &json!("waiting")), "{first}");
    world.quiet().await;
    assert_eq!(world.texts().await, [("79991110001".to_owned(), "Ваш заказ готов".to_owned())]);
    let (status, again) = ask(&world, Some("order-1"), &text("8 999 111-00-01")).await;
    assert_eq!((status, &again), (202, &first), "the answer that was given first");
    let (status, other) = ask(&world, Some("order-1"), &text("8 999 111-00-02")).await;
    assert_eq!((status, other["errors"][0]["pointer"].as_str()), (422, Some("Idempotency-Key")), "{other}");
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
    let shown = world.api(&format!("/api/v1/commands/{}", first["id"].as_str().unwrap())).await;
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_json_snapshot!("asked__command", without_ids(shown));
    });
    // Three days later the key is free again.
    world.clock.advance(SignedDuration::from_hours(73));
    assert_eq!(ask(&world, Some("order-1"), &text("8 999 111-00-02")).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_at_the_same_moment_under_one_key_none_gets_another_command() {
    let world = World::new(json!({})).await;
    let body = text("+79991110001");
    let asked = futures::future::join_all((0..20).map(|_| ask(&world, Some("k"), &body))).await;
    let taken = asked.iter().filter(|(status, _)| *status == 202);
    let ids: BTreeSet<String> = taken.map(|(_, answer)| answer["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{asked:?}");
    // Whoever asks while the first is being taken is told to ask again.
    let busy = asked.iter().filter(|(status, _)| *status != 202);
    assert!(busy.clone().all(|(status, answer)| *status == 409 && answer["type"] == "/problems/in-progress"), "{asked:?}");
    world.quiet().await;
    assert_eq!(world.texts().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_told_by_field_and_queues_nothing() {
    let world = World::new(json!({})).await;
    let mut answers = Vec::new();
    let long = "k".repeat(256);
    for (key, change) in [
        (None, json!({})),
        (Some(""), json!({})),
        (Some(long.as_str()), json!({})),
        (Some("k"), json!({ "merchant": "nobody", "to": "12", "text": " " })),
        (Some("k"), json!({ "via": "rkeeper" })),
        (Some("k"), json!({ "via": "nothing" })),
        (Some("k"), json!({ "via": null })),
        (Some("k"), json!({ "connection": "smsru" })),
        (Some("k"), json!({ "to": "+7 495 123-45-67" })),
        (Some("k"), json!({ "text": "я".repeat(2_049) })),
        (Some("k"), json!({ "latest_at": "2020-01-01T00:00:00Z" })),
        (Some("k"), json!({ "due_at": "2999-01-01T00:00:00Z" })),
        (Some("k"), json!({ "due_at": "soon" })),
        (Some("k"), json!({ "ground": "because" })),
        (Some("k"), json!({ "ground": null })),
        (Some("k"), json!({ "colour": "red" })),
    ] {
        let mut body = text("+79991110001");
        let long = change["text"].as_str().is_some_and(|text| text.len() > 100);
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value.clone();
            }
        }
        let (status, document) = ask(&world, key, &body).await;
        let key = key.map(|key| if key.len() > 255 { format!("{} bytes", key.len()) } else { key.to_owned() });
        let asked = if long { json!("a long text") } else { change };
        answers.push(json!({ "key": key, "asked": asked, "status": status, "document": document }));
    }
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_json_snapshot!("asked__faults", answers);
    });
    assert_eq!(world.commands("waiting").await + world.commands("done").await, 0);
    // A key that nothing was queued under is still free.
    assert_eq!(ask(&world, Some("k"), &text("+79991110001")).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asked_text_keeps_to_what_its_person_has_said_and_to_its_times() {
    let world = World::new(json!({})).await;
    let consent = |phone: &str, granted: bool| json!({ "merchant": "m", "phone": phone, "granted": granted, "proof": "-" });
    let mut agreed = text("+79991110002");
    agreed["ground"] = json!("consent");
    let mut not_agreed = text("+79991110003");
    not_agreed["ground"] = json!("consent");
    let mut late = text("+79991110004");
    late["due_at"] = json!(world.clock.now() + SignedDuration::from_hours(1));
    late["latest_at"] = json!(world.clock.now() + SignedDuration::from_hours(2));
    world.ask("/api/v1/consents", &consent("+79991110001", false)).await;
    world.ask("/api/v1/consents", &consent("+79991110002", true)).await;
    for (key, body) in [("1", text("+79991110001")), ("2", agreed), ("3", not_agreed), ("4", late)] {
        let (status, answer) = ask(&world, Some(key), &body).await;
        assert_eq!(status, 202, "{answer}");
    }
    until("three to end", async || world.commands("held").await == 2 && world.commands("done").await == 1).await;
    assert_eq!((world.texts().await.len(), world.commands("waiting").await), (1, 1));
    let world = world.restart(async |_, clock| clock.advance(SignedDuration::from_hours(3))).await;
    world.quiet().await;
    let mut held = world.api("/api/v1/counts").await["held"].as_array().unwrap().clone();
    held.sort_by_key(Value::to_string);
    assert_eq!(json!(held), json!([["no_consent", 1], ["opt_out", 1], ["too_old", 1]]));
    assert_eq!(world.texts().await[0].0, "79991110002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_unknown_fate_is_ended_by_hand_with_a_note_in_the_journal() {
    let world = World::new(json!({})).await;
    let mut unknown = Vec::new();
    for (key, phone) in [("one", "+79991110001"), ("two", "+79991110002")] {
        world.control("smsru/faults", &json!({ "kind": "cut_after", "path": "/sms/send" })).await;
        let id = ask(&world, Some(key), &text(phone)).await.1["id"].as_str().unwrap().to_owned();
        world.quiet().await;
        unknown.push(id);
    }
    assert_eq!(world.commands("unknown").await, 2);
    let settle = async |id: &str, body: Value| world.ask(&format!("/api/v1/commands/{id}/settle"), &body).await;
    let (status, problem) = settle(&unknown[0], json!({ "outcome": "done", "note": " " })).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/note")));
    assert_eq!(settle(&unknown[0], json!({ "outcome": "perhaps", "note": "n" })).await.0, 422);
    assert_eq!(settle("cmd_01h45ytscbebyvny4gc8cr8ma2", json!({ "outcome": "done", "note": "n" })).await.0, 404);
    for (id, outcome, state) in [(&unknown[0], "done", "done"), (&unknown[1], "failed", "dead")] {
        let body = json!({ "outcome": outcome, "note": "their page of sent texts" });
        assert_eq!(settle(id, body.clone()).await, (200, json!({ "id": id, "state": state })));
        let (status, problem) = settle(id, body).await;
        assert_eq!(status, 422);
        assert!(problem.to_string().contains(&format!("the command is {state}")), "{problem}");
        let shown = world.api(&format!("/api/v1/commands/{id}")).await;
        let last = shown["exchanges"].as_array().unwrap().last().unwrap();
        assert_eq!((&shown["state"], &last["endpoint"]), (&json!(state), &json!("settled by hand")));
        assert_eq!((&last["request"], &last["response"]), (&json!("their page of sent texts"), &json!(outcome)));
        assert!(shown["reason"].as_str().unwrap().contains("by the word of a person (with a key of the API)"), "{shown}");
    }
    let rows = world.api("/api/v1/journal?limit=2").await;
    let rows: Vec<_> = rows.as_array().unwrap().iter().map(|row| (&row["endpoint"], &row["status"])).collect();
    assert_eq!(rows, [(&json!("settled by hand"), &json!("error")), (&json!("settled by hand"), &json!("ok"))]);
    assert_eq!(world.commands("unknown").await, 0);
    assert_eq!(world.ask("/api/v1/fsck", &json!({})).await.1, json!({ "found": [] }));
}
