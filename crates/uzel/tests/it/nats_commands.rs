//! Commands in, by messages.

use async_nats::{HeaderMap, jetstream::Context};
use futures::StreamExt;
use serde_json::{Value, json};
use uzel_model::{Id, id::Kind};
use uzel_store::{KeyRow, Setup};

use crate::{
    nats::{jetstream, world},
    nats_server::{BOTH, Nats, Sync},
    world::{World, until},
};

const OTHERS: &str = "key-of-another-merchant";

struct Bus {
    nats: Nats,
    jetstream: Context,
    world: World,
    owner: String,
}

impl Bus {
    async fn start(sync: Sync) -> Self {
        let nats = Nats::start(sync);
        let jetstream = jetstream(&nats).await;
        let world = world(&nats).await;
        until("the stream of commands", async || jetstream.get_stream("UZEL_COMMANDS").await.is_ok()).await;
        let owner = world.hub.owner_key().unwrap();
        Self { nats, jetstream, world, owner }
    }

    /// Publishes a command; whether the stream knew it already.
    async fn send(&self, merchant: &str, key: Option<&str>, id: Option<&str>, body: Vec<u8>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("Uzel-Key", key);
        }
        if let Some(id) = id {
            headers.insert("Nats-Msg-Id", id);
        }
        let sent = self.jetstream.publish_with_headers(format!("uzel.commands.{merchant}"), headers, body.into()).await;
        sent.unwrap().await.unwrap().duplicate
    }

    async fn waiting(&self) -> u64 {
        let mut stream = self.jetstream.get_stream("UZEL_COMMANDS").await.unwrap();
        stream.info().await.unwrap().state.messages
    }

    /// What was told of refused commands, in its order.
    async fn refused(&self, count: usize) -> Vec<Value> {
        let stream = self.jetstream.get_stream("UZEL_REFUSED").await.unwrap();
        let consumer = stream.create_consumer(async_nats::jetstream::consumer::pull::Config::default()).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        let mut told = Vec::new();
        while told.len() < count {
            let next = tokio::time::timeout(std::time::Duration::from_secs(60), messages.next()).await;
            let message = next.unwrap_or_else(|_| panic!("only {told:?}")).unwrap().unwrap();
            let document: Value = serde_json::from_slice(&message.payload).unwrap();
            told.push(json!({ "subject": message.subject.as_str(), "document": document }));
        }
        told
    }
}

fn text(to: &str) -> Vec<u8> {
    json!({ "via": "smsru", "to": to, "text": "Ваш заказ готов", "ground": "service" }).to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_by_a_message_is_sent_once_also_when_it_comes_again() {
    for sync in BOTH {
        let bus = Bus::start(sync).await;
        assert!(!bus.send("m", Some(&bus.owner), Some("order-1"), text("8 999 111-00-01")).await);
        assert!(bus.send("m", Some(&bus.owner), Some("order-1"), text("8 999 111-00-01")).await, "the stream knows it");
        until("the command to be taken", async || bus.waiting().await == 0).await;
        bus.world.quiet().await;
        assert_eq!(bus.world.texts().await, [("79991110001".to_owned(), "Ваш заказ готов".to_owned())]);

        // The stream has forgotten it, as it does after its window; the hub has not.
        bus.jetstream.delete_stream("UZEL_COMMANDS").await.unwrap();
        until("the stream to be made anew", async || bus.jetstream.get_stream("UZEL_COMMANDS").await.is_ok()).await;
        assert!(!bus.send("m", Some(&bus.owner), Some("order-1"), text("8 999 111-00-01")).await);
        until("the repeat to be taken", async || bus.waiting().await == 0).await;
        // By the API it is the same command, since the same holder asks.
        let mut asked: Value = serde_json::from_slice(&text("8 999 111-00-01")).unwrap();
        asked["merchant"] = json!("m");
        let request = bus.world.web.post(format!("{}/api/v1/commands", bus.world.hub.url())).bearer_auth(&bus.owner);
        let answer = request.header("Idempotency-Key", "order-1").json(&asked).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        // A server that was away brings what came meanwhile.
        bus.nats.kill();
        bus.nats.start_again();
        until("the server", async || {
            let mut headers = HeaderMap::new();
            headers.insert("Uzel-Key", bus.owner.as_str());
            headers.insert("Nats-Msg-Id", "order-2");
            let sent = bus.jetstream.publish_with_headers("uzel.commands.m", headers, text("8 999 111-00-02").into()).await;
            match sent {
                Ok(ack) => ack.await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
        until("the second text", async || bus.world.texts().await.len() == 2).await;
        bus.world.quiet().await;
        assert_eq!(bus.world.texts().await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_with_the_reason_and_comes_no_more() {
    let bus = Bus::start(Sync::Default).await;
    bus.world.apply(&json!({ "merchant": [{ "slug": "other" }] })).await;
    let engine = &bus.world.hub.engine;
    let row = KeyRow {
        hash: engine.vault.key_hash("api", OTHERS),
        id: Id::new(Kind::Key).to_string(),
        of: engine.world().merchant("other"),
        about: "owner".to_owned(),
        webhook: false,
        label: String::new(),
        made_at: engine.clock.now(),
        expires_at: None,
        last_used_at: None,
    };
    engine.store.put_setup(Setup { keys: vec![row], ..Setup::default() }).await.unwrap();
    engine.reload().await.unwrap();
    let owner = Some(bus.owner.as_str());
    let other = |value: Value| {
        let mut body: Value = serde_json::from_slice(&text("+79991110001")).unwrap();
        body.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        body.to_string().into_bytes()
    };
    bus.send("m", owner, Some("taken"), text("+79991110001")).await;
    until("the command to be taken", async || bus.waiting().await == 0).await;
    bus.jetstream.delete_stream("UZEL_COMMANDS").await.unwrap();
    until("the stream to be made anew", async || bus.jetstream.get_stream("UZEL_COMMANDS").await.is_ok()).await;
    let refused = [
        ("m", None, Some("no-key"), text("+79991110001")),
        ("m", Some("a-key-that-nobody-has"), Some("wrong-key"), text("+79991110001")),
        ("m", Some(OTHERS), Some("foreign-merchant"), text("+79991110001")),
        ("m", owner, None, text("+79991110001")),
        ("m", owner, Some("taken"), text("+79991110002")),
        ("m", owner, Some("garbage"), vec![0xff, 0x00, b'{']),
        ("m", owner, Some("list"), b"[1]".to_vec()),
        ("m", owner, Some("other-merchant"), other(json!({ "merchant": "other" }))),
        ("m", owner, Some("field"), other(json!({ "colour": "red" }))),
        ("m", owner, Some("phone"), other(json!({ "to": "12" }))),
        ("m", owner, Some("large"), other(json!({ "text": "x".repeat(65 << 10) }))),
        ("nobody", owner, Some("nobody"), text("+79991110001")),
    ];
    let count = refused.len();
    for (merchant, key, id, body) in refused {
        bus.send(merchant, key, id, body).await;
    }
    let told = bus.refused(count).await;
    until("nothing to wait", async || bus.waiting().await == 0).await;
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../../../../fixtures/snapshots", omit_expression => true }, {
        insta::assert_json_snapshot!("nats__refused", told);
    });
    bus.world.quiet().await;
    assert_eq!(bus.world.texts().await.len(), 1, "only what was right");
    let kept = bus.world.api("/api/v1/providers/nats/refusals").await;
    assert!(!kept.as_array().unwrap().is_empty());
    assert!(!kept.to_string().contains("a-key-that-nobody-has") && !kept.to_string().contains(&bus.owner), "{kept}");
}
