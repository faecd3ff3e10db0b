//! The hub that is measured: a process of its own, started here or running already, asked only over HTTP.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use uzel_servers::{Watch, free_port};

/// A hub, and where its data is if it was started here.
pub(crate) struct Driven {
    pub(crate) address: SocketAddr,
    key: String,
    web: reqwest::Client,
    own: Option<Own>,
}

struct Own {
    child: Child,
    /// Dropped after the child has ended.
    watch: Watch,
    folder: PathBuf,
    around: Surroundings,
    _temporary: Option<TempDir>,
}

impl Drop for Own {
    fn drop(&mut self) {
        // Its data goes with the folder: nothing is worth a graceful end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How a hub is started beyond its own folder and port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) variables: Vec<(&'static str, String)>,
    /// How far its clock is off, in the words of libfaketime.
    pub(crate) clock: Option<&'static str>,
    /// Where its data stays, instead of a temporary folder.
    pub(crate) folder: Option<PathBuf>,
}

/// The process, and what ends it should we be killed.
fn spawn(folder: &Path, address: SocketAddr, around: &Surroundings) -> anyhow::Result<(Child, Watch)> {
    let program = std::env::current_exe().context("this program's own file")?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
    let mut command = Command::new(program);
    if let Some(clock) = around.clock {
        // Not by the program `faketime`: that one starts ours as a child of its own, which outlives it.
        command.env("LD_PRELOAD", faketime()?).env("FAKETIME", clock).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    let mut child = command
        .current_dir(folder)
        .args(["serve", "--listen", &address.to_string()])
        .env("UZEL_ALLOW_NETWORKS", "127.0.0.0/8")
        .env("RUST_LOG", "warn")
        .envs(around.variables.iter().map(|(name, value)| (*name, value.as_str())))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting the hub")?;
    match Watch::over(child.id(), "KILL", folder, around.folder.is_some()) {
        Ok(watch) => Ok((child, watch)),
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

/// The library that tells a process another time.
fn faketime() -> anyhow::Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok);
    let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    files.find(|file| file.is_file()).context("libfaketime is not installed: apt-get install faketime")
}

impl Driven {
    /// A hub of this program in a temporary folder.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_in(Surroundings::default(), None).await
    }

    /// The same in other surroundings; a node that comes to others goes by their owner key.
    pub(crate) async fn start_in(around: Surroundings, key: Option<&str>) -> anyhow::Result<Self> {
        let (folder, temporary) = match &around.folder {
            Some(folder) => {
                std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
                (std::fs::canonicalize(folder)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("uzel-bench-").tempdir().context("a temporary folder")?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let (child, watch) = spawn(&folder, address, &around)?;
        let own = Own { child, watch, folder, around, _temporary: temporary };
        let mut driven = Self { address, key: String::new(), web: web()?, own: Some(own) };
        driven.answers().await?;
        driven.key = match key {
            Some(key) => key.to_owned(),
            None => std::fs::read_to_string(driven.data()?.join("owner.key")).context("the owner key")?.trim().to_owned(),
        };
        Ok(driven)
    }

    /// A hub that runs already, on this machine.
    pub(crate) async fn running(address: SocketAddr, key: &str) -> anyhow::Result<Self> {
        ensure!(address.ip().is_loopback(), "--hub: only a hub on this machine is put under load: 127.0.0.1:PORT");
        let driven = Self { address, key: key.to_owned(), web: web()?, own: None };
        driven.answers().await?;
        Ok(driven)
    }

    /// The data folder of a hub that was started here.
    pub(crate) fn data(&self) -> anyhow::Result<PathBuf> {
        let own = self.own.as_ref().context("the data folder of a running hub is not known here")?;
        Ok(own.folder.join("uzel-data"))
    }

    /// Waits until the port is answered.
    pub(crate) async fn answers(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let url = format!("http://{}/healthz", self.address);
        while Instant::now() < deadline {
            if self.web.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        bail!("the hub at {} does not answer", self.address)
    }

    /// Kills it at once (SIGKILL) and starts it again on the same data.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("a running hub is not killed by a benchmark")?;
        own.child.kill()?;
        own.child.wait()?;
        (own.child, own.watch) = spawn(&own.folder, self.address, &own.around)?;
        Ok(())
    }

    /// Ends it in order.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("a running hub is not stopped by a benchmark")?;
        uzel_servers::signal(own.child.id(), "TERM")?;
        let status = own.child.wait()?;
        ensure!(status.success(), "the hub ended with {status}{}", self.last_words());
        Ok(())
    }

    /// Starts a stopped one again on the same data, with these variables.
    pub(crate) async fn start_again(&mut self, variables: Vec<(&'static str, String)>) -> anyhow::Result<()> {
        let own = self.own.as_mut().context("a running hub is not started by a benchmark")?;
        own.around.variables = variables;
        (own.child, own.watch) = spawn(&own.folder, self.address, &own.around)?;
        self.answers().await
    }

    /// The clock by which it is started from now on.
    pub(crate) fn set_clock(&mut self, clock: Option<&'static str>) {
        if let Some(own) = &mut self.own {
            own.around.clock = clock;
        }
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The process of a hub that was started here.
    pub(crate) fn process(&self) -> anyhow::Result<u32> {
        Ok(self.own.as_ref().context("the process of a running hub is not known here")?.child.id())
    }

    /// Resident memory in MiB, now and at its highest, of a hub that was started here.
    pub(crate) fn memory_mib(&self) -> Option<Value> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.own.as_ref()?.child.id())).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib / 1024)
        };
        Some(json!({ "now": field("VmRSS:"), "highest": field("VmHWM:") }))
    }

    /// How long the processor has worked for a hub that was started here, by all its threads.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.own.as_ref()?.child.id())).ok()?;
        // Behind the name: the state, and then user's and system's time as the 12th and 13th field, in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    pub(crate) async fn apply(&self, setup: &Value) -> anyhow::Result<()> {
        self.ask(self.web.post(self.url("/api/v1/apply")).json(&json!({ "setup": setup }))).await.map(drop)
    }

    /// The answer to a GET of the API.
    /// What the API answers; of a list its rows.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let mut answer = self.ask(self.web.get(self.url(path))).await?;
        Ok(if answer["items"].is_array() { answer["items"].take() } else { answer })
    }

    /// The same as text.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let answer = self.web.get(self.url(path)).bearer_auth(&self.key).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Asks and takes whatever is answered, as long as it is answered.
    pub(crate) fn asks(&self, path: &str) -> impl Future<Output = anyhow::Result<()>> + use<> {
        let request = self.web.get(self.url(path)).bearer_auth(&self.key);
        async move { Ok(request.send().await.map(drop)?) }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.web.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let answer = request.bearer_auth(&self.key).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status.is_success(), "the hub answers {status}: {body}{}", self.last_words());
        Ok(body)
    }

    /// The end of the log of a hub that was started here, for whoever looks for the reason of an error.
    fn last_words(&self) -> String {
        let log = self.own.as_ref().and_then(|own| std::fs::read_to_string(own.folder.join("log")).ok());
        let lines: Vec<&str> = log.iter().flat_map(|log| log.lines().rev().take(5)).collect();
        lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
    }

    /// How many rows stand in a state, of `entries` or `commands`.
    pub(crate) async fn count(&self, of: &str, state: &str) -> anyhow::Result<u64> {
        Ok(count(&self.get("/api/v1/counts").await?, of, state))
    }

    /// Waits until every entry has been read.
    pub(crate) async fn read(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(600);
        while self.count("entries", "unread").await? > 0 {
            ensure!(Instant::now() < deadline, "the hub has not read all in ten minutes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Waits until the hub has read and sent all; gives how many entries were unread before.
    pub(crate) async fn quiet(&self) -> anyhow::Result<u64> {
        let deadline = Instant::now() + Duration::from_secs(600);
        let mut before = None;
        while Instant::now() < deadline {
            let counts = self.get("/api/v1/counts").await?;
            let unread = count(&counts, "entries", "unread");
            let before = *before.get_or_insert(unread);
            if unread + count(&counts, "commands", "waiting") + count(&counts, "commands", "sending") == 0 {
                return Ok(before);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("the hub has not become quiet in ten minutes")
    }
}

fn count(counts: &Value, of: &str, state: &str) -> u64 {
    let pairs = counts[of].as_array().into_iter().flatten();
    pairs.filter(|pair| pair[0] == state).filter_map(|pair| pair[1].as_u64()).sum()
}

fn web() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?)
}
