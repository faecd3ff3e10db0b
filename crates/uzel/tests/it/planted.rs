//! Secrets of every kind are planted, a hub lives through a bad day, and nothing that is left of it holds any of them.
//!
//! The day passes in a process of its own (this test binary once more), so that all that it logs, panics too, is looked through.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use uzel::{
    commands::{keep_panics_quiet, logging},
    hub::{Hub, Parts},
    settings::Settings,
};
use uzel_connectors::PROVIDERS;
use uzel_engine::Master;
use uzel_model::Secret;

use crate::{
    conformance,
    leaky::{ACCESS, LEAKY, REFRESH, TOKEN, echo},
    world::{World, database, free_port, until},
};

const FOLDER: &str = "TEST_PLANTED_FOLDER";
const WEBHOOK_KEY: &str = "pl4nted-webhook-key-of-the-connection";
const OWNER_KEY: &str = "uzel_pl4nted0owner0key0of0the0hub00000000000";
const WRONG_KEY: &str = "pl4nted-wrong-key-that-somebody-tries";
/// What is no secret must be found: else the search finds nothing at all.
const CANARY: &str = "canary-0123456789";

/// Every secret setting of every provider with a value of its own, beside settings that its stand-in takes.
fn connections(sandbox: &str, echo: &str, planted: &mut Vec<String>) -> Vec<Value> {
    let mut connections = vec![json!({ "merchant": CANARY, "slug": "leaky", "provider": "leaky", "poll": true,
        "settings": { "token": TOKEN, "base_url": echo }, "webhook_keys": [WEBHOOK_KEY] })];
    for provider in PROVIDERS {
        let mut settings = conformance::settings(provider, sandbox);
        let properties = provider.schema().as_value()["properties"].as_object().cloned().unwrap_or_default();
        for name in properties.iter().filter(|(_, property)| property["writeOnly"] == true).map(|(name, _)| name) {
            let value = format!("pl4nted/{}+{name}=x", provider.id);
            settings.insert(name.clone(), json!(value));
            planted.push(value);
        }
        let made = provider.open(Value::Object(settings.clone())).map(|connector| connector.made_secrets());
        planted.extend(made.unwrap_or_default().iter().map(|secret| secret.expose().to_owned()));
        let key = format!("pl4nted-webhook-key-of-{}", provider.id);
        connections.push(json!({ "merchant": CANARY, "slug": provider.id, "provider": provider.id, "settings": settings,
            "webhook_keys": [key] }));
        planted.push(key);
    }
    connections
}

/// Where all is written down that the hub ever answers.
struct Heard(PathBuf);

impl Heard {
    fn write(&self, text: &str) {
        let mut all = fs::read_to_string(&self.0).unwrap_or_default();
        all.push_str(text);
        all.push('\n');
        fs::write(&self.0, all).unwrap();
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> u16 {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        self.write(&format!("{status} {headers}\n{}", answer.text().await.unwrap()));
        status
    }
}

async fn day(folder: &Path) {
    let mut planted: Vec<String> = [TOKEN, ACCESS, REFRESH, WEBHOOK_KEY, OWNER_KEY, WRONG_KEY].map(str::to_owned).to_vec();
    let masters = [Master::make(), Master::make()];
    planted.extend(masters.iter().map(|key| key.expose().to_owned()));
    let heard = Heard(folder.join("answers"));
    let data = folder.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("owner.key"), OWNER_KEY).unwrap();
    fs::write(data.join("master.key"), masters[0].expose()).unwrap();
    let mut all = PROVIDERS.to_vec();
    all.push(LEAKY);
    let parts = Parts { providers: Box::leak(all.into_boxed_slice()), ..Parts::default() };
    let database = database().await;
    let mut used = None;
    let world = World::bare(parts, |settings| {
        settings.data.clone_from(&data);
        settings.database.clone_from(&database);
        settings.listen.set_port(free_port());
        settings.public_url = Some(format!("http://{}", settings.listen));
        used = Some(settings.clone());
    })
    .await;
    let echo = echo().await;
    let setup = json!({ "merchant": [{ "slug": CANARY }], "outlet": [{ "merchant": CANARY, "slug": "o", "zone": "Europe/Moscow" }], "connection": connections(&world.sandbox.url(), &echo, &mut planted),
        "flow": [{ "merchant": CANARY, "slug": "f", "on": ["order.completed", "visit.completed", "deal.won"], "ground": "service",
            "ground_by": "t", "via": "smsru", "text": "x", "latest": "3650d" }] });
    let (status, _) = world.ask("/api/v1/apply", &json!({ "setup": setup, "dry_run": true })).await;
    assert_eq!(status, 200);
    world.apply(&setup).await;
    let hooks = world.hub.engine.world().links.values().map(|link| world.hub.engine.hook_url(link).unwrap()).collect::<Vec<_>>();
    planted.extend(hooks.iter().map(|url| url.split("key=").nth(1).unwrap().to_owned()));
    made(&world, &mut planted).await;
    fs::write(folder.join("planted.json"), json!(planted).to_string()).unwrap();

    webhooks(&world, &heard).await;
    commands(&world, &heard).await;
    asked(&world, &heard).await;
    let leaky = world.hub.engine.world().connection("leaky").unwrap().id;
    assert!(world.hub.engine.store.session(leaky).await.unwrap().is_some(), "a login is there to be looked for");
    // Polls, checks and what follows from them.
    for _ in 0..3 {
        world.pass(61);
        let before = world.api("/api/v1/journal?provider=leaky").await.as_array().unwrap().len();
        until("a poll", async || world.api("/api/v1/journal?provider=leaky").await.as_array().unwrap().len() > before).await;
    }
    command_line(&data, &heard, &masters[1], database.is_none().then(|| folder.join("backup.db")));
    asked(&world, &heard).await;
    world.hub.stop().await.unwrap();
    wrong_starts(&used.unwrap(), &heard).await;
    if let Some(url) = database {
        let dump = dump(url.expose()).await;
        assert!(dump.contains(CANARY));
        fs::write(folder.join("dump"), dump).unwrap();
    }
}

/// What the API makes and shows once: keys under an idempotency key, whose answer is kept; what signs for outlets and to an endpoint.
async fn made(world: &World, planted: &mut Vec<String>) {
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode("pl4nted-secret-of-the-endpoint-1"));
    let header = "pl4nted-header-of-the-endpoint";
    let endpoint = json!({ "merchant": CANARY, "slug": "software", "url": format!("{}/hook", world.sandbox.url()), "secret": secret,
        "headers": { "X-Token": header }, "events": ["*"] });
    planted.extend([secret, header.to_owned()]);
    let outlet = format!("/api/v1/merchants/{CANARY}/outlets/o/bridge-secret");
    for (path, body, shown) in [
        ("/api/v1/endpoints", endpoint, None),
        ("/api/v1/endpoints/software/rotate", json!({}), Some("secret")),
        ("/api/v1/keys", json!({ "merchant": CANARY, "role": "till" }), Some("key")),
        ("/api/v1/connections/iiko/webhook-keys", json!({}), Some("key")),
        (outlet.as_str(), json!({}), Some("secret")),
        (&format!("{outlet}/next"), json!({}), Some("secret")),
    ] {
        let post = world.web.post(format!("{}{path}", world.hub.url())).bearer_auth(OWNER_KEY).json(&body);
        let answer = post.header("idempotency-key", "made").send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let answer: Value = answer.json().await.unwrap();
        planted.extend(shown.map(|name| answer[name].as_str().unwrap().to_owned()));
    }
}

/// With the right key in each place, with wrong ones, and with what no reader can read.
async fn webhooks(world: &World, heard: &Heard) {
    let order = json!({ "order": { "id": 1, "status": "Выполнен", "customer": { "phone": "+79991110001" } } });
    for provider in PROVIDERS.iter().map(|provider| provider.id).chain(["leaky"]) {
        let right = if provider == "leaky" { WEBHOOK_KEY.to_owned() } else { format!("pl4nted-webhook-key-of-{provider}") };
        let url = format!("{}/api/webhook/{provider}", world.hub.url());
        for key in [right.as_str(), WRONG_KEY] {
            let post = || world.web.post(&url).json(&order);
            heard.answer(post().query(&[("key", key)])).await;
            heard.answer(post().header("x-api-key", key)).await;
            heard.answer(post().bearer_auth(key).header("cookie", format!("session={key}"))).await;
            heard.answer(world.web.post(&url).query(&[("key", key)]).body("pl4nted nonsense")).await;
            let hook = format!("{}/hooks/{provider}", world.hub.url());
            heard.answer(world.web.post(hook).query(&[("key", key)]).json(&order)).await;
        }
    }
    until("everything to be read", async || {
        let counts = world.api("/api/v1/counts").await;
        counts["entries"].as_array().unwrap().iter().all(|pair| pair[0] != "unread" || pair[1] == 0)
    })
    .await;
}

/// A text for everything that a provider can do.
async fn commands(world: &World, heard: &Heard) {
    for (place, text) in
        ["panic", "200", "400", "401", "403", "429", "500", "503", "302", "unreadable", "lost", "unauthorized"].iter().enumerate()
    {
        let body =
            json!({ "merchant": CANARY, "via": "leaky", "to": format!("+7999222{place:04}"), "text": text, "ground": "service" });
        let post = world.web.post(format!("{}/api/v1/commands", world.hub.url())).bearer_auth(OWNER_KEY);
        assert_eq!(heard.answer(post.header("idempotency-key", *text).json(&body)).await, 202);
    }
    until("every text to be tried", async || {
        world.pass(1);
        world.commands("dead").await + world.commands("unknown").await >= 8
    })
    .await;
}

/// Everything that the API shows and does.
async fn asked(world: &World, heard: &Heard) {
    let url = |path: &str| format!("{}{path}", world.hub.url());
    let mut paths: Vec<String> = [
        "journal?unmasked=true",
        "journal?status=error",
        "journal?status=dead",
        "counts",
        "notices",
        "doctor?calls=true",
        "providers",
        "connections",
        "endpoints",
        "endpoints/software",
        "flows",
        "keys",
        "audit",
        "merchants",
        "commands?unmasked=true&limit=1000",
        "events?unmasked=true",
        "secrets",
        "providers/leaky/refusals?unmasked=true",
        "providers/smsru/refusals?unmasked=true",
    ]
    .map(|path| format!("/api/v1/{path}"))
    .to_vec();
    for row in world.api("/api/v1/journal").await.as_array().unwrap() {
        paths.push(format!("/api/v1/journal/{}?unmasked=true", row["id"].as_str().unwrap()));
    }
    for row in world.api("/api/v1/connections").await.as_array().unwrap() {
        let slug = row["slug"].as_str().unwrap();
        for what in ["health", "balance", "refusals?unmasked=true"] {
            paths.push(format!("/api/v1/connections/{slug}/{what}"));
        }
        for (what, body) in [("subscribe", json!({})), ("cost", json!({ "phone": "+79991110001", "text": "x" }))] {
            let post = world.web.post(url(&format!("/api/v1/connections/{slug}/{what}"))).bearer_auth(OWNER_KEY).json(&body);
            heard.answer(post).await;
        }
    }
    paths.extend(["/metrics", "/healthz", "/readyz"].map(str::to_owned));
    for path in paths {
        heard.answer(world.web.get(url(&path)).bearer_auth(OWNER_KEY)).await;
        heard.answer(world.web.get(url(&path)).bearer_auth(WRONG_KEY)).await;
    }
    heard.answer(world.web.post(url("/api/v1/fsck")).bearer_auth(OWNER_KEY).json(&json!({}))).await;
    // Faults in a setup are told without what was wrong.
    let wrong = json!({ "setup": { "connection": [{ "merchant": "m", "slug": "x", "provider": "smsru",
        "settings": { "api_id": [TOKEN], "no": TOKEN }, "webhook_keys": [WRONG_KEY, 5] }] } });
    assert_eq!(heard.answer(world.web.post(url("/api/v1/apply")).bearer_auth(OWNER_KEY).json(&wrong)).await, 422);
}

/// The same hub asked over its socket; a new master key, and a copy where the database is a file.
fn command_line(data: &Path, heard: &Heard, master: &Secret, copy: Option<PathBuf>) {
    let run = |arguments: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_uzel"))
            .arg("--data")
            .arg(data)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = format!("{} {}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        heard.write(&said);
        assert!(ran.status.success() || ["doctor"].contains(&arguments[0]), "{arguments:?}: {said}");
    };
    for arguments in [
        &["journal", "list"][..],
        &["connections", "list"],
        &["notices"],
        &["counts"],
        &["doctor", "--json"],
        &["secrets", "show"],
    ] {
        run(arguments);
    }
    let new = data.with_file_name("new.key");
    fs::write(&new, master.expose()).unwrap();
    run(&["secrets", "rotate", "--data-keys", "--new-master-key-file", new.to_str().unwrap()]);
    if let Some(copy) = copy {
        run(&["backup", copy.to_str().unwrap()]);
    }
    fs::remove_file(new).unwrap();
}

/// Starts that are refused for their key.
async fn wrong_starts(settings: &Settings, heard: &Heard) {
    let right = fs::read_to_string(settings.data.join("master.key")).unwrap();
    for wrong in [Master::make().expose(), &right[1..], &format!("{right}{right}"), "pl4nted nonsense"] {
        fs::write(settings.data.join("master.key"), wrong).unwrap();
        heard.write(&format!("{:#}", Hub::start(settings, Parts::default()).await.err().unwrap()));
    }
    fs::write(settings.data.join("master.key"), right).unwrap();
    Hub::start(settings, Parts::default()).await.unwrap().stop().await.unwrap();
}

/// A secret as texts, URLs, JSON, base64 (wherever in it the secret begins) and hex carry it.
fn forms(secret: &str) -> Vec<String> {
    let mut forms =
        vec![secret.to_owned(), secret.replace('/', "\\/"), hex(secret.as_bytes(), false), hex(secret.as_bytes(), true)];
    let form = serde_urlencoded::to_string([("", secret)]).unwrap();
    forms.push(form[1..].to_owned());
    forms.push(form[1..].replace('+', "%20"));
    forms.push(form[1..].to_lowercase());
    for before in 0..3 {
        let padded = [&vec![0; before], secret.as_bytes()].concat();
        for text in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            // What stands at the edges depends on the neighbours.
            forms.push(text[[0, 2, 3][before]..text.len() - 1].to_owned());
        }
    }
    if let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(secret) {
        forms.extend([hex(&bytes, false), hex(&bytes, true), String::from_utf8_lossy(&bytes).into_owned()]);
    }
    forms
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
}

/// All files below a folder but those that are there to hold keys.
fn left_of_it(folder: &Path) -> Vec<(String, String)> {
    let mut left = Vec::new();
    for place in [folder.to_owned(), folder.join("data")] {
        for file in fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.starts_with("master.key") && !["owner.key", "planted.json"].contains(&name.as_str()) {
                left.push((name, String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned()));
            }
        }
    }
    left
}

/// All that a database holds. Bytes come in hex, which is one of the forms that are looked for; what they hold comes as text too.
async fn dump(url: &str) -> String {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let tables = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'";
    let mut all = String::new();
    for table in client.query(tables, &[]).await.unwrap() {
        let table: String = table.get(0);
        for row in client.query(&format!("SELECT to_jsonb(row)::text FROM \"{table}\" row"), &[]).await.unwrap() {
            let row: String = row.get(0);
            all.push_str(&row);
            all.extend(row.split('"').filter_map(|part| part.strip_prefix("\\\\x")).map(unhex));
        }
    }
    drop(client);
    connection.await.unwrap().unwrap();
    all
}

fn unhex(text: &str) -> String {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] * 16 + pair.get(1).unwrap_or(&0)) as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned() + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_secret_is_left_in_database_logs_answers_panics_or_copies() {
    let name = "planted::no_planted_secret_is_left_in_database_logs_answers_panics_or_copies";
    if let Some((_, folder)) = uzel::settings::variables().find(|(name, _)| name == FOLDER) {
        logging(true);
        keep_panics_quiet();
        day(Path::new(&folder)).await;
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let log = fs::File::create(folder.join("log")).unwrap();
    let passed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(FOLDER, folder)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    let said = fs::read_to_string(folder.join("log")).unwrap();
    assert!(passed.success(), "{}", said.chars().rev().take(4_000).collect::<String>().chars().rev().collect::<String>());
    let planted: Vec<String> = serde_json::from_str(&fs::read_to_string(folder.join("planted.json")).unwrap()).unwrap();
    assert!(planted.len() > 20, "{planted:?}");
    let left = left_of_it(folder);
    let has = |text: &str| left.iter().any(|(_, held)| held.contains(text));
    assert!(has(CANARY) && has("***") && said.contains("failed inside") && has("is not the one that sealed"));
    for secret in &planted {
        for form in forms(secret) {
            for (name, held) in &left {
                let found = held.find(&form);
                let around =
                    found.map(|at| held[..at].chars().rev().take(300).collect::<String>().chars().rev().collect::<String>());
                assert!(found.is_none(), "{secret} as {form} is in {name}, behind: {}", around.unwrap_or_default());
            }
        }
    }
}
