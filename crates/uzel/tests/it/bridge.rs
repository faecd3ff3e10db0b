//! `uzel bridge` between a till and a real hub: what is sold with the line and without it comes to the same points.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    loyalty::Shop,
    world::{free_port, until},
};

/// The line between bridge and hub, which may be cut.
struct Line {
    port: u16,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Line {
    async fn to(hub: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, cut) = (listener.local_addr().unwrap().port(), watch::Sender::new(false));
        let (hub, state) = (hub.trim_start_matches("http://").to_owned(), cut.subscribe());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let Ok((mut till, _)) = listener.accept().await else { return };
                let (hub, mut state) = (hub.clone(), state.clone());
                connections.spawn(async move {
                    let passed = async {
                        let mut hub = tokio::net::TcpStream::connect(hub).await?;
                        tokio::io::copy_bidirectional(&mut till, &mut hub).await
                    };
                    tokio::select! {
                        done = passed => drop(done),
                        ended = state.wait_for(|cut| *cut) => drop(ended),
                    }
                });
            }
        });
        Self { port, cut, task }
    }

    /// Ends what is under way as well.
    fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Bridge {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    web: reqwest::Client,
}

impl Bridge {
    async fn start(line: &Line, more: &str) -> Self {
        let web = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let mut bridge = Self { folder: tempfile::tempdir().unwrap(), port: free_port(), child: None, web };
        let settings = format!(
            "hub = 'http://127.0.0.1:{}'\nmerchant = 'm'\noutlet = 'o'\nlisten = '127.0.0.1:{}'\n{more}",
            line.port, bridge.port
        );
        let file = bridge.folder.path().join("bridge.toml");
        std::fs::write(&file, settings).unwrap();
        std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        bridge.restart().await;
        bridge
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uzel"));
        command.arg("bridge").args(arguments).arg("--folder").arg(self.folder.path());
        command
    }

    async fn restart(&mut self) {
        self.kill();
        self.child = Some(self.command(&["run"]).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let health = format!("http://127.0.0.1:{}/health", self.port);
        until("the bridge to answer", async || self.web.get(&health).send().await.is_ok()).await;
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let asked = self.web.post(format!("http://127.0.0.1:{}{path}", self.port)).body(body.to_string());
        let answer = asked.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn drained(&self) {
        until("the queue to be empty", async || {
            let (_, counts) = self.post("/queue/flush", &json!({})).await;
            assert_eq!(counts["person"], 0, "{counts}");
            counts["waiting"] == 0
        })
        .await;
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn secret(shop: &Shop, which: &str) -> String {
    let (status, made) = shop.world.ask(&format!("/merchants/m/outlets/o/bridge-secret{which}"), &json!({})).await;
    assert!((200..300).contains(&status), "{made}");
    made["secret"].as_str().unwrap().to_owned()
}

fn quote(mode: &str, order: &str, total: u64) -> Value {
    json!({ "mode": mode, "userToken": "C-42", "orderId": order, "total": total, "eligibleTotal": total })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bridge_sells_with_the_line_and_without_comes_to_the_same_points() {
    let shop = Shop::new(json!({ "require_bridge_sig": true })).await;
    shop.give("C-42", 150).await;
    let line = Line::to(&shop.world.hub.url()).await;
    let first = secret(&shop, "").await;
    let mut bridge = Bridge::start(&line, &format!("secret = '{first}'\n[offline]\nquotes = 'earn'\n")).await;

    let (status, quoted) = bridge.post("/quote", &quote("redeem", "O-1", 200)).await;
    assert_eq!((status, &quoted["discountToApply"]), (201, &json!(100)), "{quoted}");
    let (status, done) = bridge.post("/commit", &json!({ "holdId": quoted["holdId"], "orderId": "O-1" })).await;
    assert_eq!((status, &done["redeemApplied"]), (201, &json!(100)), "{done}");
    let refund = json!({ "orderId": "O-1", "refundTotal": 50 });
    // Two of one sum in one second: two refunds.
    for _ in 0..2 {
        assert_eq!(bridge.post("/refund", &refund).await.0, 201);
    }
    assert_eq!(shop.balance("C-42").await, 100);
    let (_, quoted) = bridge.post("/quote", &quote("redeem", "Заказ №2", 200)).await;
    let (status, gone) = bridge.post("/cancel", &json!({ "holdId": quoted["holdId"] })).await;
    assert_eq!((status, &gone["ok"]), (201, &json!(true)), "{gone}");

    let (_, held) = bridge.post("/quote", &quote("redeem", "Заказ №3", 100)).await;
    line.cut(true);
    assert_eq!(bridge.post("/commit", &json!({ "holdId": held["holdId"], "orderId": "Заказ №3" })).await.0, 202);
    assert_eq!(bridge.post("/refund", &json!({ "orderId": "Заказ №3", "refundTotal": 50 })).await.0, 202);
    let (_, offline) = bridge.post("/quote", &quote("earn", "O-4", 1_000)).await;
    assert_eq!((&offline["offline"], &offline["pointsToEarn"]), (&json!(true), &json!(50)), "{offline}");
    assert_eq!(bridge.post("/commit", &json!({ "holdId": offline["holdId"], "orderId": "O-4" })).await.0, 202);
    assert_eq!(shop.balance("C-42").await, 100);
    bridge.restart().await;
    line.cut(false);
    bridge.drained().await;
    // 50 spent, half of it given back, 50 earned.
    assert_eq!(shop.balance("C-42").await, 100 - 50 + 25 + 50);
    shop.is_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_changed_while_a_bridge_sells_and_check_tells_a_wrong_one() {
    let shop = Shop::new(json!({})).await;
    shop.give("C-42", 0).await;
    let line = Line::to(&shop.world.hub.url()).await;
    let (first, next) = (secret(&shop, "").await, secret(&shop, "/next").await);
    let bridge = Bridge::start(&line, &format!("secret = '{first}'\nnext_secret = '{next}'\n")).await;
    let sells = async |order: &str| {
        let (_, quoted) = bridge.post("/quote", &quote("earn", order, 1_000)).await;
        bridge.post("/commit", &json!({ "holdId": quoted["holdId"], "orderId": order })).await.0
    };
    let checked = || {
        let out = bridge.command(&["check", "--json"]).output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()
    };
    assert_eq!(sells("O-1").await, 201);
    assert_eq!(checked()["ok"], true, "{}", checked());
    let (status, _) = shop.world.ask("/merchants/m/outlets/o/bridge-secret/promote", &json!({})).await;
    assert_eq!(status, 201);
    assert_eq!(sells("O-2").await, 201, "the first one is refused, the next one is right");
    secret(&shop, "").await;
    assert_eq!(bridge.post("/quote", &quote("earn", "O-3", 1_000)).await.0, 401);
    let found = checked();
    let wrong = found["checks"].as_array().unwrap().iter().find(|line| line["what"] == "signed call").unwrap();
    assert_eq!(wrong["ok"], false, "{found}");
    assert_eq!(shop.balance("C-42").await, 100);
    shop.is_sound().await;
}
