//! Every request in `fixtures/` is read as it is, and with each of its parts spoilt: nothing makes a connector panic.

use std::{fs, path::Path};

use serde_json::{Value, json};
use uzel_model::{Connector, Reading, Request};

use crate::{PROVIDERS, provider, testing};

fn open(id: &str) -> Box<dyn Connector> {
    let settings = match id {
        "smsru" => json!({ "api_id": "A1B2C3D4-1111-2222-3333-444455556666" }),
        "resend" => json!({ "api_key": "re_1", "from": "noreply@mail.example.com" }),
        _ => json!({}),
    };
    provider(id).unwrap().open(settings).unwrap()
}

fn request(raw: &str) -> Request {
    let (head, body) = raw.split_once("\r\n\r\n").expect("a blank line ends the head");
    let kind = head.lines().find_map(|line| line.strip_prefix("Content-Type: ")).unwrap_or_default();
    testing::post(kind, body)
}

fn fixture(path: &str) -> Request {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    request(&fs::read_to_string(root.join(path)).unwrap())
}

fn read(path: &str) -> Reading {
    let (id, _) = path.split_once('/').unwrap();
    open(id).parse(&fixture(path)).unwrap()
}

/// The paths of all nodes of a tree.
fn nodes(value: &Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(place, item)| nodes(item, format!("{at}/{place}"), found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| nodes(member, format!("{at}/{name}"), found)),
        _ => {}
    }
}

#[test]
fn nothing_makes_a_connector_panic() {
    let odd = [json!(null), json!([]), json!({}), json!(7), json!(-1.5e300), json!("ё"), json!(true), json!([[{}]])];
    for known in PROVIDERS {
        let connector = open(known.id);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(known.id);
        let files = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
        for file in files.filter(|path| path.extension().is_some_and(|end| end == "http")) {
            let mut request = request(&fs::read_to_string(file).unwrap());
            let try_out = |request: &Request| {
                let read = connector.parse(request).is_ok();
                (connector.verify(request).is_ok(), connector.intake(request), connector.scrub(request), read)
            };
            try_out(&request);
            let Ok(body) = request.json() else { continue };
            let mut paths = Vec::new();
            nodes(&body, String::new(), &mut paths);
            // Each part is spoilt in two ways; over all parts and fixtures every way has its turn.
            for (turn, path) in paths.iter().enumerate() {
                for odd in [&odd[turn % odd.len()], &odd[(turn / odd.len() + 1) % odd.len()]] {
                    let mut spoilt = body.clone();
                    if let Some(node) = spoilt.pointer_mut(path) {
                        *node = odd.clone();
                    }
                    request.body = spoilt.to_string().into();
                    try_out(&request);
                }
            }
        }
    }
}

#[test]
fn an_order_told_twice_has_one_key() {
    let keys = |path| read(path).happenings.into_iter().map(|happening| happening.key.unwrap()).collect::<Vec<_>>();
    let (one, other) = (keys("iiko/array_a_b.http"), keys("iiko/array_b_c.http"));
    assert_eq!((one.len(), other.len()), (2, 2));
    assert_eq!(one[1], other[0]);
    assert_eq!(keys("iiko/webhook_delivery_delivered.http"), keys("iiko/webhook_delivery_closed_same_order.http"));
    assert_eq!(keys("iiko/webhook_delivery_delivered.http"), keys("iiko/webhook_soi_update.http"));
    assert_eq!(keys("yclients/webhook_record_came.http"), keys("yclients/webhook_record_array_wrapped.http"));
}

#[test]
fn a_body_of_many_events_is_read_to_its_end() {
    let many = |event: &dyn Fn(usize) -> Value| Value::Array((0..1_500).map(event).collect()).to_string();
    let one = |path| match fixture(path).json().unwrap() {
        Value::Array(events) => events[0].clone(),
        event => event,
    };
    let (delivery, visit) = (one("iiko/webhook_delivery_delivered.http"), one("yclients/webhook_record_came.http"));
    let deals: Vec<Value> = (0..1_500).map(|id| json!({ "id": id, "status_id": 142 })).collect();
    let bodies = [
        ("iiko", many(&|_| delivery.clone())),
        ("rkeeper", many(&|place| json!({ "order": { "id": place, "status": "Completed" } }))),
        ("yclients", many(&|_| visit.clone())),
        ("amocrm", json!({ "leads": { "status": deals } }).to_string()),
        ("amocrm", many(&|id| json!({ "leads": { "status": { "id": id, "status_id": 142 } } }))),
    ];
    for (id, body) in bodies {
        let reading = open(id).parse(&testing::post("application/json", &body)).unwrap();
        assert_eq!((reading.happenings.len(), reading.skipped.len()), (1_500, 0), "{id}");
    }
}

#[test]
fn a_body_of_nothing_but_nonsense_leaves_a_bounded_number_of_notes() {
    let body = Value::Array(vec![json!(1); 100_000]).to_string();
    for id in ["iiko", "rkeeper", "yclients"] {
        let reading = open(id).parse(&testing::post("application/json", &body)).unwrap();
        assert_eq!(reading.skipped.len(), 1_001, "{id}");
        assert!(reading.skipped[1_000].contains("not noted"), "{id}: {}", reading.skipped[1_000]);
    }
}

#[test]
fn the_methods_of_each_provider_are_told() {
    let methods = |id| open(id).methods();
    for id in ["iiko", "rkeeper", "yclients", "log", "resend"] {
        assert_eq!(methods(id), ["POST"], "{id}");
    }
    for id in ["amocrm", "smsru"] {
        assert_eq!(methods(id), ["POST", "GET"], "{id}");
    }
}

#[test]
fn the_bodies_of_the_seed_are_read() {
    for path in ["iiko/seed_json.http", "iiko/seed_curl.http", "yclients/seed_json.http", "yclients/seed_curl.http"] {
        let reading = read(path);
        assert_eq!(reading.happenings.len(), 1, "{path}");
        assert_eq!(reading.happenings[0].person.phones, [json!("+79991234567")], "{path}");
    }
}
