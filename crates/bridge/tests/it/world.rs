//! The program in a folder of its own, and the till.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::hub::Hub;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bridge {
    folder: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
    pub web: reqwest::Client,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Bridge {
    /// A bridge that is set up for this hub; `more` are further lines of its settings.
    pub(crate) fn new(hub: &Hub, more: &str) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let bridge = Self { folder: tempfile::tempdir().unwrap(), port, child: None, web: reqwest::Client::new() };
        bridge.set(&hub.url(), "secret = 'brg_test_secret_0001'", more);
        bridge
    }

    /// Writes the settings.
    pub(crate) fn set(&self, hub: &str, secrets: &str, more: &str) {
        let listen = format!("127.0.0.1:{}", self.port);
        let text = format!("hub = '{hub}'\nmerchant = 'M-1'\noutlet = 'OUT-1'\nlisten = '{listen}'\n{secrets}\n{more}\n");
        std::fs::write(self.path().join("bridge.toml"), text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(self.path().join("bridge.toml"), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    pub(crate) async fn started(hub: &Hub, more: &str) -> Self {
        let mut bridge = Self::new(hub, more);
        bridge.start().await;
        bridge
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn queue_file(&self) -> PathBuf {
        self.path().join("bridge.queue")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uzel-bridge"));
        command.current_dir(self.path()).args(arguments).env("UZEL_BRIDGE", self.path()).stdin(Stdio::null());
        for name in ["UZEL_BRIDGE_SECRET", "UZEL_BRIDGE_NEXT_SECRET", "UZEL_BRIDGE_STAFF_KEY", "RUST_LOG"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let out = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }

    pub(crate) async fn start(&mut self) {
        let command = self.command(&["run"]);
        self.start_by(command).await;
    }

    /// Starts it by this command and waits until it answers.
    pub(crate) async fn start_by(&mut self, mut command: Command) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join("log")).unwrap();
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let health = format!("{}/health", self.url());
        until("the bridge to answer", async || self.web.get(&health).send().await.is_ok()).await;
    }

    /// Under a shell that says this first.
    pub(crate) async fn start_within(&mut self, shell: &str) {
        let mut command = Command::new("sh");
        command.current_dir(self.path()).env("UZEL_BRIDGE", self.path()).stdin(Stdio::null());
        command.args(["-c", &format!("{shell}; exec \"$0\" run"), env!("CARGO_BIN_EXE_uzel-bridge")]);
        self.start_by(command).await;
    }

    /// As by a power cut, as far as a process can tell.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.start().await;
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The till's call: status and body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with(path, &[], body.to_string()).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> (u16, Value) {
        let mut request = self.web.post(format!("{}{path}", self.url())).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let text = self.web.get(format!("{}{path}", self.url())).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    /// Waits until nothing waits for the line.
    pub(crate) async fn drained(&self) {
        until("the queue to be empty", async || {
            self.post("/queue/flush", &json!({})).await;
            self.get("/queue/status").await["waiting"] == 0
        })
        .await;
    }

    /// Waits until so many calls need a person; gives them.
    pub(crate) async fn troubled(&self, count: usize) -> Vec<Value> {
        until("calls to need a person", async || {
            self.post("/queue/flush", &json!({})).await;
            self.get("/queue/status").await["person"] == count
        })
        .await;
        let list = self.get("/queue/list").await;
        list["items"].as_array().unwrap().iter().filter(|item| item["state"] == "person").cloned().collect()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub(crate) fn quote(mode: &str, order: &str) -> Value {
    json!({ "mode": mode, "userToken": "C-42", "orderId": order, "total": 1000, "eligibleTotal": 1000 })
}

pub(crate) fn commit(order: &str) -> Value {
    json!({ "holdId": format!("h-{order}"), "orderId": order, "receiptNumber": "R-15" })
}
