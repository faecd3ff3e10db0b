//! What is kept holds no secret: neither the key of our own URL, nor what a provider repeats in its complaints.

use async_trait::async_trait;
use garde::Validate;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uzel::{
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_model::{
    CallError, Channel, Client, Connector, Malformed, Outbound, Provider, Reading, Refusal, Request, Secret, Timestamp,
    port::{Messages, Page, Polls, Sent},
};

use crate::world::{KEY, World, setup, until};

/// A provider that complains with the secret in its words.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Parrot {
    /// Its token.
    #[garde(skip)]
    token: Secret,
}

impl Connector for Parrot {
    fn parse(&self, _: &Request) -> Result<Reading, Malformed> {
        Ok(Reading::default())
    }

    fn messages(&self) -> Option<&dyn Messages> {
        Some(self)
    }

    fn polls(&self) -> Option<&dyn Polls> {
        Some(self)
    }
}

#[async_trait]
impl Messages for Parrot {
    fn channel(&self) -> Channel {
        Channel::Sms
    }

    async fn send(&self, _: &Client<'_>, _: Outbound<'_>) -> Result<Sent, CallError> {
        Err(CallError::refused(Refusal::Ours, 1, format!("unknown token {}", self.token.expose())))
    }
}

#[async_trait]
impl Polls for Parrot {
    fn every_s(&self) -> u32 {
        60
    }

    async fn poll(&self, _: &Client<'_>, _: Option<&str>, _: Timestamp) -> Result<Page, CallError> {
        Err(CallError::Unreadable("no list at /poll?token=to%2fken%20of%20the%20parrot".to_owned()))
    }
}

const TOKEN: &str = "to/ken of the parrot";
const PARROT: Provider = Provider::new::<Parrot>("parrot", "Parrot");

fn providers() -> &'static [Provider] {
    let mut all = uzel_connectors::PROVIDERS.to_vec();
    all.push(PARROT);
    Box::leak(all.into_boxed_slice())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_holds_no_secret_that_a_provider_repeats() {
    let world = World::bare(Parts { providers: providers(), ..Parts::default() }, |_| {}).await;
    let mut setup = setup(&world.sandbox.url(), &json!({ "via": "parrot" }));
    let parrot = json!({ "merchant": "m", "slug": "parrot", "provider": "parrot", "poll": true, "settings": { "token": TOKEN }, "webhook_keys": [KEY] });
    setup["connection"].as_array_mut().unwrap().push(parrot);
    world.apply(&setup).await;
    let order = json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991110001" } } });
    assert_eq!(world.post("rkeeper", &order).await.status(), 200);
    for (kind, said) in [("fault", "unknown token ***"), ("poll", "/poll?token=***")] {
        until(kind, async || world.notices(kind).await.len() == 1).await;
        let notice = world.notices(kind).await[0]["text"].as_str().unwrap().to_owned();
        assert!(notice.contains(said), "{notice}");
    }
    assert!(!world.newest("rkeeper").await.to_string().contains(TOKEN));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_our_own_url_is_not_journalled_when_a_check_of_it_fails() {
    let world = World::reachable().await;
    world.apply(&setup(&world.sandbox.url(), &json!({}))).await;
    let (status, _) = world.ask("/api/v1/connections/amocrm/subscribe", &json!({})).await;
    assert_eq!(status, 200);
    let registered = world.shown("amocrm/webhooks").await.to_string();
    let key = registered.split("key=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(key.len() >= 24, "{registered}");
    world.control("amocrm/faults", &json!({ "kind": "status", "status": 500, "path": "/api/v4/webhooks" })).await;
    world.in_steps(SignedDuration::from_hours(1), "the check", async || world.notices("check").await.len() == 1).await;
    let rows = world.api("/api/v1/journal?provider=amocrm&unmasked=true").await.to_string();
    assert!(rows.contains("/api/v4/webhooks?") && rows.contains("***"), "{rows}");
    assert!(!rows.contains(&key), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_from_before_the_check_of_the_master_key_takes_no_other_key() {
    let world = World::new(json!({})).await;
    let (data, settings) = (world.data(), world.beside());
    let World { hub, .. } = world;
    hub.stop().await.unwrap();
    let settings = Settings { data: data.clone(), ..settings };
    let forget = || {
        let db = rusqlite::Connection::open(data.join("uzel.db")).unwrap();
        db.execute("DELETE FROM claim", []).unwrap();
    };
    forget();
    let right = std::fs::read(data.join("master.key")).unwrap();
    std::fs::write(data.join("master.key"), uzel_engine::Master::make().expose()).unwrap();
    let error = format!("{:#}", Hub::start(&settings, Parts::default()).await.err().unwrap());
    assert!(error.contains("the master key is not the one that sealed what is stored"), "{error}");
    std::fs::write(data.join("master.key"), right).unwrap();
    Hub::start(&settings, Parts::default()).await.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_short_behind_the_file_of_the_owner_key_goes_on_with_that_key() {
    let world = World::bare(Parts::default(), |settings| {
        std::fs::create_dir_all(&settings.data).unwrap();
        std::fs::write(settings.data.join("owner.key"), "uzel_0123456789012345678901234567890123456789").unwrap();
    })
    .await;
    assert_eq!(world.hub.owner_key().unwrap(), "uzel_0123456789012345678901234567890123456789");
    assert!(world.api("/api/v1/counts").await["entries"].is_array());
}
