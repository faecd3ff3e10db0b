//! A hub and the stand-ins, for one test.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use serde_json::{Value, json};
use uzel::{
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_engine::{Clock, setup::Leniency};
use uzel_model::Secret;
use uzel_sandbox::Sandbox;

pub(crate) const KEY: &str = "test-key-of-twenty-four-characters";

/// The key that fixtures carry.
pub(crate) const FIXTURE_KEY: &str = "demo-key";

pub(crate) struct World {
    pub hub: Hub,
    pub sandbox: Sandbox,
    pub clock: Clock,
    pub web: reqwest::Client,
    settings: Settings,
    folder: tempfile::TempDir,
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
        let world = Self::bare(parts, |_| {}).await;
        world.apply(&setup(&world.sandbox.url(), &rules)).await;
        world
    }

    /// The same with settings of its own.
    pub(crate) async fn tuned(tweak: impl FnOnce(&mut Settings)) -> Self {
        let world = Self::bare(Parts::default(), tweak).await;
        world.apply(&setup(&world.sandbox.url(), &json!({}))).await;
        world
    }

    /// A hub with nothing set up, and the stand-ins.
    pub(crate) async fn bare(parts: Parts, tweak: impl FnOnce(&mut Settings)) -> Self {
        let web = web();
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(anywhere()).await.unwrap();
        let mut settings = Settings {
            listen: anywhere(),
            data: folder.path().join("data"),
            allow_networks: vec!["127.0.0.0/8".to_owned()],
            call_timeout_ms: 3_000,
            database: database().await,
            ..Settings::default()
        };
        tweak(&mut settings);
        let clock = parts.clock.clone();
        let hub = Hub::start(&settings, parts).await.unwrap();
        Self { hub, sandbox, clock, web, settings, folder }
    }

    /// One node on a PostgreSQL database, whatever the other tests run on.
    pub(crate) async fn on_postgres() -> Self {
        let url = uzel_servers::Postgres::shared().unwrap().database().await.unwrap();
        let world = Self::bare(Parts::default(), |settings| settings.database = Some(Secret::new(url))).await;
        world.apply(&setup(&world.sandbox.url(), &json!({}))).await;
        world
    }

    /// The settings of one more node beside this one, with a data folder of its own.
    pub(crate) fn beside(&self) -> Settings {
        Settings {
            data: self.folder.path().join("beside"),
            master_key_file: Some(self.data().join("master.key")),
            ..self.settings.clone()
        }
    }

    /// A hub that knows the address by which the stand-ins reach it.
    pub(crate) async fn reachable() -> Self {
        Self::bare(Parts::default(), |settings| {
            settings.listen.set_port(free_port());
            settings.public_url = Some(format!("http://{}", settings.listen));
        })
        .await
    }

    /// Stops the hub and starts it again; between the two, `meanwhile` happens.
    pub(crate) async fn restart(self, meanwhile: impl AsyncFnOnce(&Sandbox, &Clock)) -> Self {
        let Self { hub, sandbox, clock, web, settings, folder } = self;
        hub.stop().await.unwrap();
        meanwhile(&sandbox, &clock).await;
        let hub = Hub::start(&settings, Parts { clock: clock.clone(), ..Parts::default() }).await.unwrap();
        Self { hub, sandbox, clock, web, settings, folder }
    }

    /// Stops the hub, and starts one with other settings after `meanwhile`.
    pub(crate) async fn moved(self, tweak: impl FnOnce(&mut Settings), meanwhile: impl AsyncFnOnce(&Path)) -> Self {
        let Self { hub, sandbox, clock, web, mut settings, folder } = self;
        hub.stop().await.unwrap();
        meanwhile(&settings.data).await;
        tweak(&mut settings);
        let hub = Hub::start(&settings, Parts { clock: clock.clone(), ..Parts::default() }).await.unwrap();
        Self { hub, sandbox, clock, web, settings, folder }
    }

    pub(crate) async fn apply(&self, setup: &Value) {
        self.hub.apply(setup, Leniency { short_keys: true }).await.unwrap();
    }

    /// Lets time pass, as the hub's clock counts it.
    pub(crate) fn pass(&self, minutes: i64) {
        self.clock.advance(SignedDuration::from_mins(minutes));
    }

    /// A notice is told once a day: what follows for an hour lies within one.
    pub(crate) fn begin_before_midnight(&self) {
        if self.clock.now().to_zoned(jiff::tz::TimeZone::UTC).hour() == 23 {
            self.pass(60);
        }
    }

    /// Waits for a condition that hangs on a schedule: half a minute passes with each beat of the hub.
    pub(crate) async fn in_time(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        self.in_steps(SignedDuration::from_secs(31), what, condition).await;
    }

    /// The same with another step.
    pub(crate) async fn in_steps(&self, step: SignedDuration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let mut beat = Instant::now();
        until(what, async || {
            if beat.elapsed() > Duration::from_secs(1) {
                beat = Instant::now();
                self.clock.advance(step);
            }
            condition().await
        })
        .await;
    }

    /// Lets time pass until it is this hour in Moscow, today or tomorrow.
    pub(crate) fn pass_until(&self, hour: i8) {
        let now = self.clock.now().in_tz("Europe/Moscow").unwrap();
        let today = now.date().at(hour, 0, 0, 0).in_tz("Europe/Moscow").unwrap();
        let target =
            if today > now { today } else { now.date().tomorrow().unwrap().at(hour, 0, 0, 0).in_tz("Europe/Moscow").unwrap() };
        self.clock.advance(target.timestamp().duration_since(now.timestamp()));
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.settings.data.clone()
    }

    /// One column of texts, by SQL of ours that both stores understand.
    pub(crate) async fn texts_of(&self, sql: &str) -> Vec<String> {
        let Some(url) = &self.settings.database else {
            let db = rusqlite::Connection::open(self.data().join("uzel.db")).unwrap();
            let mut rows = db.prepare(sql).unwrap();
            return rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        };
        let (client, connection) = tokio_postgres::connect(url.expose(), tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let rows = client.query(sql, &[]).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn post(&self, provider: &str, body: &Value) -> reqwest::Response {
        let url = format!("{}/api/webhook/{provider}?key={KEY}", self.hub.url());
        self.web.post(url).json(body).send().await.unwrap()
    }

    pub(crate) async fn control(&self, path: &str, body: &Value) {
        let answer = self.web.put(format!("{}/_sandbox/{path}", self.sandbox.url())).json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    /// What a stand-in shows of itself.
    pub(crate) async fn shown(&self, path: &str) -> Value {
        let answer = self.web.get(format!("{}/_sandbox/{path}", self.sandbox.url())).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// The calls that a stand-in got below this path, oldest first.
    pub(crate) async fn calls(&self, provider: &str, path: &str) -> Vec<Value> {
        let calls = self.shown(&format!("{provider}/calls")).await;
        calls.as_array().unwrap().iter().filter(|call| call["path"].as_str().unwrap().starts_with(path)).cloned().collect()
    }

    /// Has a provider send one of its cases, and gives what the hub answered.
    pub(crate) async fn told_by(&self, provider: &str, case: &str, options: &Value) -> Value {
        let url = format!("{}/_sandbox/{provider}/send/{case}", self.sandbox.url());
        let answer = self.web.post(url).json(options).send().await.unwrap();
        assert!(answer.status().is_success(), "{provider}/{case}: {}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    /// What the API answers; of a list its rows.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let key = self.hub.owner_key().unwrap();
        let answer = self.web.get(format!("{}{path}", self.hub.url())).bearer_auth(key).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        if answer["items"].is_array() { answer["items"].take() } else { answer }
    }

    /// A connection as the API lists it.
    pub(crate) async fn link(&self, slug: &str) -> Value {
        let link = self.ask_link(slug).await;
        assert!(!link.is_null(), "no connection {slug}");
        link
    }

    /// The same, or null.
    pub(crate) async fn ask_link(&self, slug: &str) -> Value {
        let links = self.api("/api/v1/connections").await;
        links.as_array().unwrap().iter().find(|link| link["slug"] == slug).cloned().unwrap_or_default()
    }

    /// Asks the API to do something; gives the status and the answer.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> (u16, Value) {
        let key = self.hub.owner_key().unwrap();
        let answer = self.web.post(format!("{}{path}", self.hub.url())).bearer_auth(key).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The timeline of the newest entry of a provider, unmasked.
    pub(crate) async fn newest(&self, provider: &str) -> Value {
        let rows = self.api(&format!("/api/v1/journal?provider={provider}&limit=1000")).await;
        let entry = rows.as_array().unwrap().iter().find(|row| row["direction"] == "IN").expect("an entry came in");
        self.api(&format!("/api/v1/journal/{}?unmasked=true", entry["id"].as_str().unwrap())).await
    }

    /// Notices of this kind.
    pub(crate) async fn notices(&self, kind: &str) -> Vec<Value> {
        let notices = self.api("/api/v1/notices").await;
        notices.as_array().unwrap().iter().filter(|notice| notice["kind"] == kind).cloned().collect()
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

/// The few tests that know the store they run on: each looks into the embedded store's file, holds its lock, or spoils a row of
/// it.
const EMBEDDED: [&str; 17] = [
    "apply::no_secret_lies_open_in_the_data_folder",
    "bounds::when_too_much_waits_to_be_written_the_answer_is_503_and_what_was_taken_is_written",
    "door::a_forged_x_forwarded_for_changes_nothing_and_a_trusted_proxy_s_does",
    "door::a_refused_request_is_kept_for_its_connection_without_any_credential",
    "erasure::the_files_do_not_hold_the_number_after_a_vacuum",
    "faults::a_hub_that_cannot_journal_is_not_ready_until_it_can_again",
    "faults::a_replay_sends_nothing_for_an_order_that_was_cancelled",
    "faults::a_text_of_unknown_fate_and_a_dead_one_are_found_by_their_status_and_the_dead_one_is_replayed",
    "faults::after_a_start_no_text_goes_before_a_cancellation_that_came_earlier_is_read",
    "faults::bodies_that_wait_to_be_written_do_not_keep_out_what_has_none",
    "faults::one_row_that_cannot_be_decoded_does_not_keep_others_from_being_read_and_sent",
    "loyalty::while_nothing_can_be_written_a_quote_says_so_in_time_and_a_commit_is_put_off",
    "nats::a_hub_that_dies_between_publishing_and_marking_publishes_again_under_the_same_ids",
    "oauth::a_login_by_browser_gives_a_session_that_look_ups_work_with",
    "secrets::a_database_from_before_the_check_of_the_master_key_takes_no_other_key",
    "polls::a_page_and_its_cursor_are_kept_both_or_neither",
    "till_faults::while_nothing_can_be_written_each_path_says_so_in_time_and_nothing_is_lost",
];

/// A database of its own on a PostgreSQL server, where the variable `TEST_STORE` says `postgres`: so that the whole suite
/// runs on both stores.
pub(crate) async fn database() -> Option<Secret> {
    if EMBEDDED.iter().any(|name| std::thread::current().name() == Some(name)) {
        return None;
    }
    let on_postgres = uzel::settings::variables().any(|(name, value)| name == "TEST_STORE" && value == "postgres");
    if !on_postgres {
        return None;
    }
    Some(Secret::new(uzel_servers::Postgres::shared().unwrap().database().await.unwrap()))
}

/// A free port below those that the system gives to clients, so that no client is given it to call from.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = rand::random_range(10_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
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
