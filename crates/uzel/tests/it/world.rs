//! A hub and the stand-ins, for one test.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use uzel::{
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_engine::{Clock, setup::Leniency};
use uzel_sandbox::Sandbox;

pub(crate) const KEY: &str = "test-key-of-twenty-four-characters";

/// The key that fixtures carry.
const FIXTURE_KEY: &str = "demo-key";

pub(crate) struct World {
    pub hub: Hub,
    pub sandbox: Sandbox,
    pub clock: Clock,
    pub web: reqwest::Client,
    folder: tempfile::TempDir,
    settings: Settings,
}

/// Everything but a hub.
pub(crate) struct Stopped {
    pub sandbox: Sandbox,
    pub clock: Clock,
    pub web: reqwest::Client,
    folder: tempfile::TempDir,
    settings: Settings,
}

impl Stopped {
    /// Starts a hub over the same folder.
    pub(crate) async fn start(self) -> World {
        let Self { sandbox, clock, web, folder, settings } = self;
        let hub = Hub::start(&settings, Parts { clock: clock.clone(), ..Parts::default() }).await.unwrap();
        World { hub, sandbox, clock, web, folder, settings }
    }
}

/// A client for tests; the TLS provider is chosen once a process.
pub(crate) fn web() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

pub(crate) fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Merchant `m` with a connection to each provider and a flow with these rules.
pub(crate) fn setup(sandbox: &str, rules: &Value) -> Value {
    let connection = |slug: &str, settings: Value| json!({ "merchant": "m", "outlet": "o", "slug": slug, "provider": slug, "settings": settings, "webhook_keys": [KEY, FIXTURE_KEY] });
    let mut flow = json!({
        "merchant": "m", "slug": "review", "on": ["order.completed", "visit.completed", "deal.won"], "ground": "service",
        "ground_by": "the test", "via": "smsru", "text": "{{ name or 'Hello' }}: {{ outlet }}", "latest": "3650d"
    });
    flow.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    json!({
        "merchant": [{ "slug": "m" }],
        "outlet": [{ "merchant": "m", "slug": "o", "name": "Кафе", "zone": "Europe/Moscow" }],
        "connection": [
            connection("iiko", json!({})),
            connection("rkeeper", json!({})),
            connection("yclients", json!({})),
            connection("amocrm", json!({ "base_url": format!("{sandbox}/amocrm"), "long_lived_token": "long-lived" })),
            connection("smsru", json!({ "base_url": format!("{sandbox}/smsru"), "api_id": "A1B2C3D4-1111-2222-3333-444455556666" })),
        ],
        "flow": [flow]
    })
}

impl World {
    pub(crate) async fn new(rules: Value) -> Self {
        Self::with(rules, Parts::default()).await
    }

    pub(crate) async fn with(rules: Value, parts: Parts) -> Self {
        Self::with_settings(rules, parts, |_| {}).await
    }

    pub(crate) async fn with_settings(rules: Value, parts: Parts, change: impl FnOnce(&mut Settings)) -> Self {
        let web = web();
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(anywhere()).await.unwrap();
        let mut settings = Settings {
            listen: anywhere(),
            data: folder.path().join("data"),
            allow_networks: vec!["127.0.0.0/8".to_owned()],
            call_timeout_ms: 3_000,
            ..Settings::default()
        };
        change(&mut settings);
        let clock = parts.clock.clone();
        let hub = Hub::start(&settings, parts).await.unwrap();
        hub.apply(&setup(&sandbox.url(), &rules), Leniency { short_keys: true }).await.unwrap();
        Self { hub, sandbox, clock, web, folder, settings }
    }

    /// Stops the hub; the stand-ins stay.
    pub(crate) async fn stop(self) -> Stopped {
        let Self { hub, sandbox, clock, web, folder, settings } = self;
        hub.stop().await.unwrap();
        Stopped { sandbox, clock, web, folder, settings }
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) async fn post(&self, provider: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}/api/webhook/{provider}?key={KEY}", self.hub.url());
        self.web.post(url).json(body).send().await.unwrap()
    }

    pub(crate) async fn control(&self, path: &str, body: &Value) {
        let answer = self.web.put(format!("{}/_sandbox/{path}", self.sandbox.url())).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    pub(crate) async fn api(&self, path: &str) -> Value {
        let key = self.hub.owner_key().unwrap();
        self.web.get(format!("{}{path}", self.hub.url())).bearer_auth(key).send().await.unwrap().json().await.unwrap()
    }

    /// A connection as the API lists it.
    pub(crate) async fn link(&self, slug: &str) -> Value {
        let links = self.api("/api/v1/connections").await;
        links.as_array().unwrap().iter().find(|link| link["slug"] == slug).unwrap().clone()
    }

    /// Texts that SMS.ru's stand-in accepted, as (phone, text).
    pub(crate) async fn texts(&self) -> Vec<(String, String)> {
        let url = format!("{}/_sandbox/smsru/accepted", self.sandbox.url());
        let accepted: Vec<Value> = self.web.get(url).send().await.unwrap().json().await.unwrap();
        let text = |message: &Value, name: &str| message[name].as_str().unwrap_or_default().to_owned();
        accepted.iter().map(|message| (text(message, "to"), text(message, "text"))).collect()
    }

    /// How many commands stand in a state.
    pub(crate) async fn commands(&self, state: &str) -> u64 {
        let counts = self.api("/api/v1/counts").await;
        let pairs = counts["commands"].as_array().unwrap().clone();
        pairs.iter().find(|pair| pair[0] == state).map_or(0, |pair| pair[1].as_u64().unwrap())
    }

    /// Until everything is read and no command is open.
    pub(crate) async fn quiet(&self) {
        until("everything to be read and sent", async || {
            let counts = self.api("/api/v1/counts").await;
            let open = |part: &str, states: &[&str]| {
                counts[part].as_array().unwrap().iter().any(|pair| states.contains(&pair[0].as_str().unwrap()) && pair[1] != 0)
            };
            !open("entries", &["unread"]) && !open("commands", &["waiting", "sending"])
        })
        .await;
    }
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited a minute for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
