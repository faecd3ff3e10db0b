//! What the loyalty desk tells: each of its events to a flow, an endpoint and NATS; and what time does to many wallets at once.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uzel::hub::Parts;
use uzel_model::Secret;

use crate::{
    binary::Binary,
    endpoints::SECRET,
    nats::jetstream,
    nats_server::{Nats, Sync},
    receiver::Receiver,
    world::{World, database, setup, until},
};

const PHONE: &str = "+79991234567";
const KINDS: [&str; 11] = [
    "loyalty.quoted",
    "loyalty.committed",
    "loyalty.refunded",
    "loyalty.earn.scheduled",
    "loyalty.earn.activated",
    "loyalty.points_ttl.preview",
    "loyalty.expired",
    "loyalty.adjusted",
    "loyalty.earnlot.consumed",
    "loyalty.earnlot.unconsumed",
    "loyalty.earnlot.revoked",
];

async fn done(world: &World, path: &str, body: &Value) -> Value {
    let (status, answer) = world.ask(path, body).await;
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

async fn quote(world: &World, mode: &str, order: &str) -> Value {
    let body = json!({
        "mode": mode, "merchantId": "m", "userToken": "C-1", "orderId": order, "total": 1_000, "eligibleTotal": 1_000, "outletId": "o",
    });
    done(world, "/loyalty/quote", &body).await
}

async fn buy(world: &World, mode: &str, order: &str) {
    let hold = quote(world, mode, order).await["holdId"].clone();
    done(world, "/loyalty/commit", &json!({ "merchantId": "m", "holdId": hold, "orderId": order })).await;
}

async fn refund(world: &World, order: &str) {
    done(world, "/loyalty/refund", &json!({ "merchantId": "m", "orderId": order, "refundTotal": 400 })).await;
}

/// A hub that publishes, and a customer C-1 with 500 points.
async fn hub(nats: &Nats, programme: Value, more: Value) -> World {
    let url = Secret::new(nats.url());
    let world = World::bare(Parts::default(), |settings| settings.nats = Some(url)).await;
    let mut own = json!({ "merchant": "m", "unit": "rouble", "earn_bps": 1_000 });
    own.as_object_mut().unwrap().extend(programme.as_object().unwrap().clone());
    let mut file = setup(&world.sandbox.url(), &json!({ "on": KINDS, "text": "{{ event.kind }}" }));
    file["programme"] = json!([own]);
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.apply(&file).await;
    done(&world, "/api/v1/merchants/m/customers", &json!({ "customer": "C-1", "phone": PHONE })).await;
    done(&world, "/api/v1/merchants/m/customers/C-1/adjust", &json!({ "points": 500, "reason": "the test" })).await;
    world
}

/// The kinds of events in the stream, until this one has come so many times.
async fn published(nats: &Nats, last: &str, times: usize) -> Vec<String> {
    let jetstream = jetstream(nats).await;
    until("the stream", async || jetstream.get_stream("UZEL").await.is_ok()).await;
    let stream = jetstream.get_stream("UZEL").await.unwrap();
    let consumer = stream.create_consumer(pull::Config { ack_policy: AckPolicy::None, ..Default::default() }).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut kinds: Vec<String> = Vec::new();
    while kinds.iter().filter(|kind| *kind == last).count() < times {
        let next = tokio::time::timeout(Duration::from_secs(60), messages.next()).await;
        let message = next.unwrap_or_else(|_| panic!("{last} did not come, but {kinds:?}")).unwrap().unwrap();
        let event: Value = serde_json::from_slice(&message.payload).unwrap();
        let kind = event["type"].as_str().unwrap().to_owned();
        assert_eq!(message.subject.as_str(), format!("uzel.events.m.{kind}"));
        kinds.push(kind);
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_the_desk_reaches_a_flow_an_endpoint_that_can_verify_it_and_nats() {
    let nats = Nats::start(Sync::Default);
    let receiver = Receiver::start().await;
    let endpoint = json!({ "merchant": "m", "slug": "shop", "url": receiver.url("/hooks"), "secret": SECRET, "events": KINDS });
    let programme = json!({ "earn_delay_days": 1, "points_ttl_days": 10, "preview_days": 3 });
    let world = hub(&nats, programme, json!({ "endpoint": [endpoint] })).await;
    buy(&world, "redeem", "O-1").await;
    refund(&world, "O-1").await;
    buy(&world, "earn", "O-2").await;
    refund(&world, "O-2").await;
    let all: BTreeSet<String> = KINDS.into_iter().map(str::to_owned).collect();
    let told =
        || -> BTreeSet<String> { receiver.got().iter().map(|got| got.json()["type"].as_str().unwrap().to_owned()).collect() };
    world.in_steps(SignedDuration::from_hours(24), "the points' time", async || told() == all).await;
    let merchant = world.api("/api/v1/merchants/m").await["id"].clone();
    for got in receiver.got() {
        let event = got.json();
        assert_eq!(got.header("x-loyalty-signature"), got.loyalty(SECRET), "{event}");
        assert!(got.header("x-signature-key-id").starts_with("key_"), "{event}");
        assert_eq!(
            (got.header("x-merchant-id"), got.header("x-event-id")),
            (merchant.as_str().unwrap(), event["id"].as_str().unwrap())
        );
        assert_eq!(event["data"]["details"]["customerId"], "C-1", "{event}");
    }
    let of = |kind: &str| -> Vec<Value> {
        let events = receiver.got().into_iter().map(|got| got.json()).filter(|event| event["type"] == kind);
        events.map(|event| event["data"]["details"].clone()).collect()
    };
    let [consumed, unconsumed, revoked] = [KINDS[8], KINDS[9], KINDS[10]].map(of);
    let lot = consumed[0]["lotId"].clone();
    assert!(lot.as_str().unwrap().starts_with("cus_"), "{consumed:?}");
    assert_eq!((consumed.len(), &consumed[0]["consumed"], &consumed[0]["orderId"]), (1, &json!(500), &json!("O-1")));
    assert_eq!((unconsumed.len(), &unconsumed[0]["unconsumed"], &unconsumed[0]["lotId"]), (1, &json!(200), &lot));
    assert_eq!((revoked.len(), &revoked[0]["revoked"], &revoked[0]["orderId"]), (1, &json!(40), &json!("O-2")));
    assert!(consumed[0]["at"].as_str().unwrap().parse::<Timestamp>().is_ok());
    world
        .in_time("the flow to have told of all", async || {
            let texts: BTreeSet<String> = world.texts().await.into_iter().map(|(_, text)| text).collect();
            all.is_subset(&texts)
        })
        .await;
    let streamed: BTreeSet<String> = published(&nats, "loyalty.expired", 1).await.into_iter().collect();
    assert!(all.is_subset(&streamed), "{streamed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_and_single_lots_are_published_where_somebody_asks_for_them_and_not_otherwise() {
    let nats = Nats::start(Sync::Default);
    let world = hub(&nats, json!({ "details_to_nats": false }), json!({ "flow": [] })).await;
    buy(&world, "redeem", "O-1").await;
    // What was quoted and spent was decided before it was committed, and would have been published before.
    let kinds = published(&nats, "loyalty.committed", 1).await;
    assert_eq!(kinds, ["loyalty.adjusted", "loyalty.committed"]);

    // An endpoint that takes everything asks for none of them in particular; one that names them does.
    let receiver = Receiver::start().await;
    let endpoint =
        |slug: &str, events: Value| json!({ "merchant": "m", "slug": slug, "url": receiver.url("/hooks"), "events": events });
    done(&world, "/api/v1/endpoints", &endpoint("all", json!(["*"]))).await;
    buy(&world, "earn", "O-2").await;
    assert!(!published(&nats, "loyalty.committed", 2).await.contains(&"loyalty.quoted".to_owned()));
    done(&world, "/api/v1/endpoints", &endpoint("quotes", json!(["loyalty.quoted"]))).await;
    buy(&world, "earn", "O-3").await;
    let kinds = published(&nats, "loyalty.committed", 3).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "loyalty.quoted").count(), 1, "{kinds:?}");
    done(&world, "/api/v1/endpoints", &endpoint("lots", json!(["loyalty.earnlot.*"]))).await;
    refund(&world, "O-3").await;
    let kinds = published(&nats, "loyalty.refunded", 1).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "loyalty.earnlot.revoked").count(), 1, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_while_points_expire_loses_none_and_lets_none_expire_twice() {
    let url = database().await;
    let variables: Vec<(&'static str, &str)> = url.iter().map(|url| ("UZEL_DATABASE", url.expose())).collect();
    let mut binary = Binary::new(&variables);
    binary.write("setup.toml", "[[merchant]]\nslug = \"m\"\n[[programme]]\nmerchant = \"m\"\nunit = \"rouble\"\n");
    assert_eq!(binary.uzel(&["apply", "setup.toml"]).code, 0);
    binary.serve(&[]).await;
    let customers: Vec<String> = (0..400).map(|number| format!("C-{number}")).collect();
    let table = format!("customer\n{}\n", customers.join("\n"));
    let key = binary.owner_key();
    let post = async |path: String, kind: &str, body: String| {
        let request = binary.web.post(format!("{}{path}", binary.url())).bearer_auth(&key).header("content-type", kind);
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("/api/v1/loyalty/import?merchant=m".to_owned(), "text/csv", table).await, 200);
    // So long that all have them before any expire, and no longer than a test may wait.
    let expires_at = Timestamp::now() + SignedDuration::from_secs(15);
    let body = json!({ "points": 10, "reason": "the test", "expires_at": expires_at }).to_string();
    let given = futures::stream::iter(&customers)
        .map(|customer| post(format!("/api/v1/merchants/m/customers/{customer}/adjust"), "application/json", body.clone()))
        .buffer_unordered(32);
    let given = given.filter(|status| std::future::ready(*status == 200)).count().await;
    assert!(given > 0, "all were too late");
    let sums = async |binary: &Binary| -> Value {
        let url = format!("{}/api/v1/merchants/m/digest?span=week&day={}", binary.url(), Timestamp::now().strftime("%F"));
        binary.web.get(url).bearer_auth(&key).send().await.unwrap().json().await.unwrap()
    };
    let expired = async |binary: &Binary| sums(binary).await["figures"]["points"]["expired"].as_i64().unwrap();
    until("points to expire", async || expired(&binary).await > 0).await;
    binary.signal("-KILL");
    binary.serve(&[]).await;
    let all = given as i64 * 10;
    until("all points to have expired", async || expired(&binary).await >= all).await;
    until("each to be told of", async || {
        sums(&binary).await["figures"]["bonuses"]["loyalty.expired"].as_u64() >= Some(given as u64)
    })
    .await;
    let seen = sums(&binary).await;
    assert_eq!(
        (&seen["figures"]["points"]["expired"], &seen["figures"]["bonuses"]["loyalty.expired"]),
        (&json!(all), &json!(given))
    );
    let proof = binary.uzel(&["loyalty", "audit"]);
    assert_eq!(proof.code, 0, "{}{}", proof.out, proof.err);
}
