//! Nothing lost: the real binary is killed at random moments under load, and what it answered "ok" to is counted.
//!
//! The checker shares no code with the hub: it reads the database file by its own SQL and the stand-in by HTTP.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use uzel_sandbox::Sandbox;

use crate::world::{KEY, anywhere, free_port, setup, until, web};

const IN_FLIGHT_MAX: u32 = 64;

struct Binary {
    folder: PathBuf,
    port: u16,
    child: Child,
}

impl Binary {
    fn start(folder: &Path, port: u16) -> Self {
        let child = spawn(folder, port, None);
        Self { folder: folder.to_owned(), port, child }
    }

    fn signal(&mut self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        self.child = spawn(&self.folder, self.port, None);
    }

    fn uzel(&self, arguments: &[&str]) -> Value {
        let out =
            Command::new(env!("CARGO_BIN_EXE_uzel")).current_dir(&self.folder).args(arguments).arg("--json").output().unwrap();
        assert!(
            out.status.success(),
            "{arguments:?}: {}{}",
            String::from_utf8_lossy(&out.stdout),
            String::from_utf8_lossy(&out.stderr)
        );
        serde_json::from_slice(&out.stdout).unwrap()
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts the hub; `file_kib_max` limits the size of its files, as a full disk would.
fn spawn(folder: &Path, port: u16, file_kib_max: Option<u32>) -> Child {
    let binary = env!("CARGO_BIN_EXE_uzel");
    let serve = format!("exec {binary} serve --listen 127.0.0.1:{port}");
    let script = file_kib_max.map_or(serve.clone(), |kib| format!("ulimit -f {kib}; {serve}"));
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("../log")).unwrap();
    Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .env("UZEL_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("UZEL_CALL_TIMEOUT_MS", "3000")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

async fn answers(web: &reqwest::Client, port: u16) {
    until("the hub to answer", async || web.get(format!("http://127.0.0.1:{port}/healthz")).send().await.is_ok()).await;
}

fn phone(order: u32) -> String {
    format!("7999{order:07}")
}

/// Clients that post orders one after another and note which were answered 2xx. Some hang up in the middle.
struct Load {
    stop: Arc<AtomicBool>,
    accepted: Arc<Mutex<BTreeSet<u32>>>,
    posted: Arc<AtomicU32>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(port: u16, orders_max: u32) -> Self {
        let load = Self { stop: Arc::default(), accepted: Arc::default(), posted: Arc::default(), clients: Vec::new() };
        let clients = (0..8).map(|client| {
            let (stop, accepted, posted) = (load.stop.clone(), load.accepted.clone(), load.posted.clone());
            tokio::spawn(async move {
                let web = web();
                let hasty = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(2)).build().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let order = posted.fetch_add(1, Ordering::Relaxed);
                    if order >= orders_max {
                        return;
                    }
                    let body = json!({ "order": { "id": order, "status": "Выполнен", "customer": { "phone": phone(order) } } });
                    let client = if client == 0 { &hasty } else { &web };
                    let url = format!("http://127.0.0.1:{port}/api/webhook/rkeeper?key={KEY}");
                    match client.post(url).json(&body).send().await {
                        Ok(answer) if answer.status().is_success() => {
                            accepted.lock().insert(order);
                        }
                        // Down for a moment: do not spin.
                        Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            })
        });
        let clients = clients.collect();
        Self { clients, ..load }
    }

    async fn end(self) -> BTreeSet<u32> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        Arc::try_unwrap(self.accepted).map(Mutex::into_inner).unwrap_or_default()
    }
}

/// What the database file says, read by SQL of the checker's own.
struct File {
    orders: BTreeSet<u32>,
    unknown: BTreeSet<String>,
    open: i64,
    unread: i64,
}

fn read(folder: &Path) -> File {
    let db = rusqlite::Connection::open(folder.join("uzel-data/uzel.db")).unwrap();
    let mut bodies = db.prepare("SELECT body FROM inbox").unwrap();
    let orders = bodies
        .query_map([], |row| row.get::<_, Vec<u8>>(0))
        .unwrap()
        .filter_map(|body| serde_json::from_slice::<Value>(&body.unwrap()).unwrap()["order"]["id"].as_u64())
        .map(|id| id as u32)
        .collect();
    let mut jobs = db.prepare("SELECT job FROM command WHERE state = 4").unwrap();
    let unknown = jobs
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(|job| {
            serde_json::from_str::<Value>(&job.unwrap()).unwrap()["phone"].as_str().unwrap().trim_start_matches('+').to_owned()
        })
        .collect();
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    File {
        orders,
        unknown,
        open: count("SELECT count(*) FROM command WHERE state = 0"),
        unread: count("SELECT count(*) FROM unread"),
    }
}

async fn sent(web: &reqwest::Client, sandbox: &Sandbox) -> BTreeMap<String, u32> {
    let accepted: Vec<Value> =
        web.get(format!("{}/_sandbox/smsru/accepted", sandbox.url())).send().await.unwrap().json().await.unwrap();
    let mut by_phone = BTreeMap::new();
    for message in accepted {
        *by_phone.entry(message["to"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    by_phone
}

struct Scene {
    web: reqwest::Client,
    sandbox: Sandbox,
    hub: Binary,
    _root: tempfile::TempDir,
}

async fn scene() -> Scene {
    let web = web();
    let sandbox = Sandbox::start(anywhere()).await.unwrap();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("hub");
    std::fs::create_dir(&folder).unwrap();
    let hub = Binary::start(&folder, free_port());
    answers(&web, hub.port).await;
    let mut setup = setup(&sandbox.url(), &json!({}));
    for connection in setup["connection"].as_array_mut().unwrap() {
        connection["webhook_keys"] = json!([KEY]);
    }
    setup["connection"][4]["settings"]["calls_per_s"] = json!(10_000);
    std::fs::write(folder.join("setup.toml"), toml::to_string(&setup).unwrap()).unwrap();
    hub.uzel(&["apply", "setup.toml"]);
    Scene { web, sandbox, hub, _root: root }
}

impl Scene {
    async fn quiet(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let file = read(&self.hub.folder);
            if file.open == 0 && file.unread == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{} commands and {} entries that nobody works on", file.open, file.unread);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every 2xx is in the inbox, every order there led to its text once or stands as unknown, none twice.
    async fn judge(&self, accepted: &BTreeSet<u32>, unknown_max: u32) {
        let file = read(&self.hub.folder);
        let lost: Vec<_> = accepted.difference(&file.orders).collect();
        assert!(lost.is_empty(), "answered 2xx and not in the inbox: {lost:?}");
        let sent = sent(&self.web, &self.sandbox).await;
        let twice: Vec<_> = sent.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "sent twice: {twice:?}");
        let silent: Vec<_> = file
            .orders
            .iter()
            .map(|order| phone(*order))
            .filter(|phone| !sent.contains_key(phone) && !file.unknown.contains(phone))
            .collect();
        assert!(silent.is_empty(), "in the inbox, but neither sent nor unknown: {silent:?}");
        assert!(file.unknown.len() as u32 <= unknown_max, "{} unknown", file.unknown.len());
        println!(
            "{} accepted, {} journalled, {} sent, {} unknown",
            accepted.len(),
            file.orders.len(),
            sent.len(),
            file.unknown.len()
        );
        assert!(!accepted.is_empty(), "the load did something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_killed_at_random_moments_loses_nothing_and_sends_nothing_twice() {
    let kills: u32 = std::env::vars().find(|(name, _)| name == "TEST_KILLS").map_or(20, |(_, kills)| kills.parse().unwrap());
    let mut scene = scene().await;
    let load = Load::start(scene.hub.port, 2_000 * kills / 20);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rand::random_range(20..250))).await;
        scene.hub.signal("-KILL");
        scene.hub.again();
        answers(&scene.web, scene.hub.port).await;
    }
    let accepted = load.end().await;
    scene.quiet().await;
    scene.judge(&accepted, kills * IN_FLIGHT_MAX).await;
    assert_eq!(scene.hub.uzel(&["fsck"])["found"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_asked_to_stop_leaves_nothing_unknown() {
    let mut scene = scene().await;
    let load = Load::start(scene.hub.port, 2_000);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(rand::random_range(50..300))).await;
        scene.hub.signal("-TERM");
        scene.hub.again();
        answers(&scene.web, scene.hub.port).await;
    }
    let accepted = load.end().await;
    scene.quiet().await;
    scene.judge(&accepted, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_gives_no_ok_without_the_bytes() {
    let mut scene = scene().await;
    scene.hub.signal("-TERM");
    scene.hub.child = spawn(&scene.hub.folder, scene.hub.port, Some(2_000));
    answers(&scene.web, scene.hub.port).await;
    let url = format!("http://127.0.0.1:{}/api/webhook/rkeeper?key={KEY}", scene.hub.port);
    let mut accepted = BTreeSet::new();
    let mut refused = 0;
    for order in 0..2_000 {
        let padding = "x".repeat(8_000);
        let body =
            json!({ "order": { "id": order, "status": "Выполнен", "customer": { "phone": phone(order) } }, "padding": padding });
        match scene.web.post(&url).json(&body).send().await {
            Ok(answer) if answer.status().is_success() => drop(accepted.insert(order)),
            Ok(answer) => {
                assert_eq!(answer.status(), 503);
                assert!(answer.headers().contains_key("retry-after"));
                refused += 1;
            }
            Err(error) => panic!("no answer at all: {error}"),
        }
        if refused > 20 {
            break;
        }
    }
    assert!(refused > 0, "the disk was never full");
    scene.hub.signal("-KILL");
    scene.hub.again();
    answers(&scene.web, scene.hub.port).await;
    scene.quiet().await;
    scene.judge(&accepted, IN_FLIGHT_MAX).await;
}
