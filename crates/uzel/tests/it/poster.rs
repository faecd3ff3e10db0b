//! Poster's webhooks, and the orders that they make the hub ask for: signed by the stand-in, told many times, behind, and ill.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::Parts;

use crate::world::{KEY, World, setup, until};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const TOKEN: &str = "700001:5d41402abc4b2a76b9719d911017c592";

pub(crate) fn settings(sandbox: &str) -> Value {
    json!({ "base_url": format!("{sandbox}/poster"), "account_url": format!("{sandbox}/poster"), "account": "demo-cafe",
        "application_id": "1234", "application_secret": SECRET, "access_token": TOKEN, "currency": "RUB" })
}

/// A hub with a connection `till` to Poster, and a flow that asks each guest for a review.
async fn world(more: Value) -> World {
    let world = World::bare(Parts::default(), |_| {}).await;
    set_up(&world, more).await;
    world
}

pub(crate) async fn set_up(world: &World, more: Value) {
    let mut setup = setup(&world.sandbox.url(), &json!({}));
    let mut till = json!({ "merchant": "m", "outlet": "o", "slug": "till", "provider": "poster", "webhook_keys": [KEY],
        "settings": settings(&world.sandbox.url()) });
    for (name, value) in more.as_object().unwrap() {
        match name.as_str() {
            "settings" => till["settings"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
            _ => till[name] = value.clone(),
        }
    }
    till["settings"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    setup["connection"].as_array_mut().unwrap().push(till);
    world.apply(&setup).await;
}

/// Has the stand-in send a signed webhook; gives the hub's answer.
pub(crate) async fn told(world: &World, options: Value) -> Value {
    let mut options = options;
    options["url"] = json!(format!("{}/hooks/till", world.hub.url()));
    world.told_by("poster", "webhook", &options).await
}

async fn closed(world: &World, id: u32) {
    let answer = told(world, json!({ "object_id": id })).await;
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!(r#"{"status":"accept"}"#)));
}

/// An order as the stand-in keeps it.
pub(crate) fn order(id: u32, more: Value) -> Value {
    let at = Timestamp::now().as_millisecond();
    let mut order = json!({ "transaction_id": id.to_string(), "date_start": (at - 60_000).to_string(), "date_close": at.to_string(),
        "status": "2", "pay_type": "3", "sum": "3000", "payed_sum": "2500", "payed_cash": "500", "payed_card": "2000",
        "payed_bonus": "300", "payed_cert": "0", "print_fiscal": "1", "spot_id": "1", "client_id": "42", "card_number": "0",
        "client_firstname": "Анна", "client_phone": format!("+7999111{:04}", id % 10_000), "name": "Ольга",
        "products": [{ "product_id": "162", "num": "1.00000", "payed_sum": "2500" }] });
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    order
}

pub(crate) async fn holds(world: &World, orders: &[Value]) {
    world.control("poster/transactions", &json!(orders)).await;
}

/// Events of this kind.
async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.api(&format!("/api/v1/events?type={kind}")).await.as_array().unwrap().clone()
}

async fn entries(world: &World) -> Vec<Value> {
    let rows = world.api("/api/v1/journal?provider=poster&limit=1000").await;
    rows.as_array().unwrap().iter().filter(|row| row["direction"] == "IN").cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_health_is_what_poster_says_of_the_token_and_of_whose_it_is() {
    for (settings, reason) in [
        (json!({}), None),
        (json!({ "account": "other-cafe" }), Some("the access token is of the account demo-cafe")),
        (json!({ "access_token": "700001:0000000000000000" }), Some("Poster does not take the access token")),
    ] {
        let world = world(json!({ "settings": settings })).await;
        let health = world.api("/integrations/poster/health?merchantId=m").await;
        assert_eq!(health["ok"], reason.is_none(), "{health}");
        let told = health["reason"].as_str().unwrap_or_default();
        assert!(told.starts_with(reason.unwrap_or_default()), "{health}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_order_is_asked_for_and_told_once_with_its_sums_its_guest_and_its_spot() {
    let world = world(json!({})).await;
    holds(&world, &[order(16776, json!({}))]).await;
    closed(&world, 16776).await;
    // Again as it is, and again with another time of sending: both are other requests of the same thing.
    closed(&world, 16776).await;
    told(&world, json!({ "object_id": 16776, "time": (Timestamp::now().as_second() + 7).to_string() })).await;
    world.quiet().await;
    let entry = world.newest("poster").await;
    assert_eq!(entry["method"], "POLL", "what Poster told when it was asked is an entry of its own");
    assert_eq!(events(&world, "order.completed").await.len(), 1);
    assert_eq!(world.texts().await, [("79991116776".to_owned(), "Анна: Кафе".to_owned())]);
    let first = entries(&world).await.into_iter().map(|row| row["id"].as_str().unwrap().to_owned());
    let mut of_events = Vec::new();
    for id in first {
        let whole = world.api(&format!("/api/v1/journal/{id}?unmasked=true")).await;
        assert!(!whole.to_string().contains(TOKEN) && !whole.to_string().contains(SECRET), "{whole}");
        of_events.extend(whole["events"].as_array().unwrap().clone());
    }
    let [event] = &of_events[..] else { panic!("{of_events:?}") };
    assert_eq!(
        (&event["kind"], &event["key"], &event["subject"]),
        (&json!("order.completed"), &json!("order/16776/completed"), &json!("order/16776"))
    );
    let data = &event["data"];
    for (name, wanted) in [
        ("order_id", json!("16776")),
        ("sum", json!("28")),
        ("sum_minor", json!(2800)),
        ("eligible_sum", json!("25")),
        ("eligible_sum_minor", json!(2500)),
        ("currency", json!("RUB")),
        ("customer", json!("42")),
        ("spot_id", json!("1")),
    ] {
        assert_eq!(data[name], wanted, "{name}: {data}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_whom_the_order_does_not_name_by_phone_is_looked_up() {
    let world = world(json!({})).await;
    let nameless = json!({ "client_phone": null, "client_firstname": null });
    let unknown = json!({ "client_phone": "", "client_id": "43" });
    let nobody = json!({ "client_phone": null, "client_id": "0" });
    holds(&world, &[order(1, nameless), order(2, unknown), order(3, nobody)]).await;
    for id in [1, 2, 3] {
        closed(&world, id).await;
    }
    world.quiet().await;
    // The client of the stand-in's sample.
    assert_eq!(world.texts().await, [("79990000042".to_owned(), "Анна: Кафе".to_owned())]);
    assert_eq!(world.calls("poster", "/api/clients.getClient").await.len(), 2, "nobody is asked about nobody");
    assert_eq!(events(&world, "order.completed").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_poster_signed_is_taken() {
    let world = world(json!({})).await;
    holds(&world, &[order(1, json!({}))]).await;
    for (what, options) in [
        ("a wrong signature", json!({ "verify": "00000000000000000000000000000000" })),
        ("another secret", json!({ "secret": "another" })),
        ("no signature", json!({ "verify": null })),
        ("an empty one", json!({ "verify": "" })),
        ("a number for one", json!({ "verify": 7 })),
        ("what was changed after signing", json!({ "more": { "object_id": 2 } })),
    ] {
        assert_eq!(told(&world, options).await["status"], 401, "{what}");
    }
    assert_eq!(entries(&world).await.len(), 0, "a stranger's request is not journalled");
    for (what, options) in [
        ("an upper-case signature", json!({ "object_id": 1, "more": {}, "time": 1_760_000_000 })),
        ("an id as text", json!({ "object_id": "1" })),
        ("empty data", json!({ "object_id": 1, "data": "" })),
        (
            "data as an object",
            json!({ "object_id": 1, "action": "changed", "data": { "transactions_history": { "type_history": "close" } }, "data_as_object": true }),
        ),
        ("members that nobody knows", json!({ "object_id": 1, "more": { "_id": { "$oid": "5" } } })),
    ] {
        assert_eq!(told(&world, options).await["status"], 200, "{what}");
    }
    world.quiet().await;
    assert_eq!(events(&world, "order.completed").await.len(), 1);
    // What a key alone proves is kept, and causes nothing; an order that a stranger writes into a webhook is not believed.
    let keyed = format!("{}/api/webhook/poster?key={KEY}", world.hub.url());
    let forged = json!({ "told": "transaction", "transaction": order(9, json!({})), "object": "transaction", "object_id": 9, "action": "closed" });
    for body in [json!({ "event": "order.paid", "id": "poster-1" }), forged] {
        assert_eq!(world.web.post(&keyed).json(&body).send().await.unwrap().status(), 200);
    }
    world.quiet().await;
    let entry = world.newest("poster").await;
    assert!(entry["notes"].to_string().contains("not signed"), "{entry}");
    assert_eq!(events(&world, "order.completed").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_nonsense_become_dead_letters_and_an_empty_one_is_greeted() {
    let world = world(json!({})).await;
    let keyed = format!("{}/api/webhook/poster?key={KEY}", world.hub.url());
    let post = async |url: &str, body: &str| {
        let answer = world.web.post(url).header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for body in ["", " \r\n"] {
        assert_eq!(post(&keyed, body).await, (200, r#"{"status":"accept"}"#.to_owned()), "the console tries the address");
    }
    assert_eq!(entries(&world).await.len(), 0);
    for body in ["{", "[]", "7", "null", "<html>", "\u{feff}", "a=b", r#"["verify"]"#] {
        assert_eq!(post(&keyed, body).await.0, 200, "{body}");
        assert_eq!(post(&format!("{}/hooks/till", world.hub.url()), body).await.0, 401, "{body}");
    }
    world.quiet().await;
    assert_eq!(world.api("/api/v1/journal?provider=poster&status=dead&limit=1000").await.as_array().unwrap().len(), 8);
    // Signed, and still not to be read.
    for options in [json!({ "object_id": 0 }), json!({ "object_id": "x" }), json!({ "object": "" })] {
        assert_eq!(told(&world, options).await["status"], 200);
    }
    world.quiet().await;
    assert_eq!(world.api("/api/v1/journal?provider=poster&status=dead&limit=1000").await.as_array().unwrap().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn most_operations_at_the_till_ask_nothing_and_a_closing_one_does() {
    let world = world(json!({})).await;
    holds(&world, &[order(1, json!({}))]).await;
    let done =
        |word: &str| json!({ "object_id": 1, "action": "changed", "data": { "transactions_history": { "type_history": word } } });
    for word in ["open", "additem", "changeitemcount", "setclient", "print"] {
        told(&world, done(word)).await;
    }
    told(&world, json!({ "object_id": 1, "action": "added" })).await;
    for object in ["dish", "client", "client_ewallet", "loyalty rule", "something_new"] {
        assert_eq!(told(&world, json!({ "object": object, "action": "transformed" })).await["status"], 200, "{object}");
    }
    told(&world, json!({ "object_id": 1, "account": "another-cafe", "account_number": "700002" })).await;
    world.quiet().await;
    assert_eq!(world.calls("poster", "/api/").await.len(), 0);
    for row in entries(&world).await {
        let entry = world.api(&format!("/api/v1/journal/{}", row["id"].as_str().unwrap())).await;
        assert_eq!(entry["notes"].as_array().unwrap().len(), 1, "it says why nothing follows: {entry}");
    }
    told(&world, done("close")).await;
    told(&world, done("something_new")).await;
    world.quiet().await;
    assert_eq!((world.calls("poster", "/api/dash.getTransaction").await.len(), world.texts().await.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_a_removed_and_an_unpaid_order_are_told_as_what_they_are() {
    let world = world(json!({})).await;
    let returned = order(1, json!({ "print_fiscal": "2" }));
    let unpaid = order(3, json!({ "pay_type": "0", "reason": "1", "payed_sum": "0" }));
    holds(&world, &[order(1, json!({})), order(2, json!({ "status": "3" })), unpaid]).await;
    closed(&world, 1).await;
    world.quiet().await;
    holds(&world, &[returned, order(2, json!({ "status": "3" })), order(3, json!({ "pay_type": "0", "reason": "1" }))]).await;
    let returned =
        json!({ "object_id": 1, "action": "changed", "data": { "transactions_history": { "type_history": "returnfiscal" } } });
    told(&world, returned.clone()).await;
    told(&world, returned).await;
    closed(&world, 2).await;
    closed(&world, 3).await;
    for _ in 0..2 {
        told(&world, json!({ "object_id": 4, "action": "removed" })).await;
    }
    world.quiet().await;
    // Out of order: what was closed is told after it was taken back.
    closed(&world, 1).await;
    world.quiet().await;
    let keys = async |kind: &str| {
        let mut subjects: Vec<String> =
            events(&world, kind).await.iter().map(|event| event["subject"].as_str().unwrap().to_owned()).collect();
        subjects.sort();
        subjects
    };
    assert_eq!(keys("order.completed").await, ["order/1"]);
    assert_eq!(keys("order.cancelled").await, ["order/1", "order/2", "order/4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_api_does_not_show_closed_yet_is_asked_for_again() {
    let world = world(json!({})).await;
    holds(&world, &[order(1, json!({}))]).await;
    world.control("poster/settings", &json!({ "reads_behind": 2 })).await;
    closed(&world, 1).await;
    world.in_steps(SignedDuration::from_secs(6), "the order", async || world.texts().await.len() == 1).await;
    assert_eq!(world.calls("poster", "/api/dash.getTransaction").await.len(), 3);
    // What is never closed is asked for no longer than a while.
    world.control("poster/settings", &json!({ "reads_behind": 1_000 })).await;
    told(&world, json!({ "object_id": 1 })).await;
    let given_up = async || {
        let asked = world.calls("poster", "/api/dash.getTransaction").await.len();
        asked >= 5 && world.commands("waiting").await + world.commands("sending").await == 0
    };
    world.in_steps(SignedDuration::from_mins(6), "it to be given up", given_up).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_keeps_poster_from_answering_the_order_is_told_in_the_end() {
    let world = world(json!({})).await;
    let faults = [
        json!({ "kind": "rate_limit", "calls": 1 }),
        json!({ "kind": "status", "status": 500, "calls": 1 }),
        json!({ "kind": "status", "status": 503, "calls": 1 }),
        json!({ "kind": "garbage", "calls": 1 }),
        json!({ "kind": "cut_after", "calls": 1 }),
    ];
    for (id, fault) in faults.iter().enumerate() {
        let id = id as u32 + 1;
        holds(&world, &[order(id, json!({}))]).await;
        world.control("poster/faults", fault).await;
        closed(&world, id).await;
        world.in_steps(SignedDuration::from_secs(31), "the order", async || world.texts().await.len() == id as usize).await;
    }
    assert_eq!(events(&world, "order.completed").await.len(), faults.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_poster_takes_no_more_is_told_of_and_a_new_one_goes_on() {
    let world = world(json!({})).await;
    holds(&world, &[order(1, json!({}))]).await;
    world.control("poster/faults", &json!({ "kind": "token_expiry", "calls": 1 })).await;
    closed(&world, 1).await;
    until("the notice", async || world.notices("unauthorized").await.len() == 1).await;
    assert!(!world.notices("unauthorized").await[0].to_string().contains(TOKEN));
    let renewed = "700001:ffffffffffffffffffffffffffffffff";
    world.control("poster/settings", &json!({ "access_token": renewed })).await;
    set_up(&world, json!({ "settings": { "access_token": renewed } })).await;
    world.in_time("the order", async || world.texts().await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_no_webhook_told_of_are_polled_and_told_once() {
    let world = World::bare(Parts::default(), |_| {}).await;
    set_up(&world, json!({ "poll": true, "settings": { "poll_every_s": 60 } })).await;
    // The first turn only finds out where "now" is.
    let soon = (world.clock.now().as_millisecond() + 600_000).to_string();
    let before = (world.clock.now().as_millisecond() - 3_600_000).to_string();
    let orders = [(1, &soon), (2, &soon), (3, &before)].map(|(id, closed_at)| order(id, json!({ "date_close": closed_at })));
    holds(&world, &orders).await;
    world.in_time("the polled orders", async || world.texts().await.len() == 2).await;
    closed(&world, 1).await;
    world.quiet().await;
    assert_eq!((world.texts().await.len(), events(&world, "order.completed").await.len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_reads_the_spots_that_it_is_set_up_for() {
    let world = world(json!({ "settings": { "spot_ids": ["2"] } })).await;
    holds(&world, &[order(1, json!({})), order(2, json!({ "spot_id": 2 }))]).await;
    closed(&world, 1).await;
    closed(&world, 2).await;
    world.quiet().await;
    assert_eq!(events(&world, "order.completed").await.len(), 1);
    assert_eq!(world.texts().await, [("79991110002".to_owned(), "Анна: Кафе".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reservations_and_incoming_orders_are_asked_for_too() {
    let world = world(json!({})).await;
    let incoming = |id: u32, more: Value| {
        let mut order = json!({ "incoming_order_id": id, "spot_id": 1, "status": 0, "first_name": "Анна", "phone": "79990000042", "updated_at": "2026-11-28 11:52:02" });
        order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        order
    };
    let orders = json!([
        incoming(7, json!({})),
        incoming(8, json!({ "status": 7 })),
        incoming(9, json!({ "date_reservation": "2026-11-29 19:00:00" }))
    ]);
    world.control("poster/incoming_orders", &orders).await;
    for (id, kind) in [(7, 1), (8, 1), (9, 2), (9, 2), (10, 1)] {
        told(&world, json!({ "object": "incoming_order", "object_id": id, "action": "added", "data": { "type": kind } })).await;
    }
    told(&world, json!({ "object": "stock", "object_id": 1201, "action": "changed", "data": { "type": 2, "element_id": "139", "storage_id": "1", "value_relative": -1, "value_absolute": 23 } })).await;
    world.quiet().await;
    let subjects = async |kind: &str| events(&world, kind).await.iter().map(|event| event["subject"].clone()).collect::<Vec<_>>();
    assert_eq!(subjects("order.cancelled").await, ["incoming_order/8"]);
    assert_eq!(subjects("reservation.changed").await, ["incoming_order/9"]);
    assert_eq!(subjects("stock.changed").await, ["stock/1201"]);
}
