//! A NATS server of our own, with JetStream on disk, in a temporary folder, on loopback and a free port.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::world::free_port;

/// When JetStream writes through to the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sync {
    /// Before every acknowledgement.
    Always,
    /// As it comes: every two minutes.
    Default,
}

pub(crate) const BOTH: [Sync; 2] = [Sync::Always, Sync::Default];

pub(crate) struct Nats {
    port: u16,
    folder: tempfile::TempDir,
    running: Mutex<Option<Child>>,
}

impl Nats {
    pub(crate) fn start(sync: Sync) -> Self {
        Self::with(sync, "")
    }

    pub(crate) fn with(sync: Sync, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let sync = match sync {
            Sync::Always => "sync_interval: always",
            Sync::Default => "",
        };
        let store = folder.path().join("store");
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{\n store_dir: \"{}\"\n {sync}\n}}\n{more}\n", store.display());
        fs::write(folder.path().join("nats.conf"), config).unwrap();
        let server = Self { port, folder, running: Mutex::new(None) };
        server.start_again();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// At once (SIGKILL).
    pub(crate) fn kill(&self) {
        if let Some(mut running) = self.running.lock().take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    /// On the same port and data; blocks until it answers.
    pub(crate) fn start_again(&self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let program = installed("nats-server");
        let mut command = Command::new(program);
        command.arg("-c").arg(self.folder.path().join("nats.conf")).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.answers() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "nats-server ended at its start: {}", log());
            assert!(Instant::now() < deadline, "nats-server is not ready: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        *self.running.lock() = Some(child);
    }

    /// Its first line to every client says whether JetStream is on.
    fn answers(&self) -> bool {
        let Ok(stream) = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port))) else { return false };
        let mut line = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
            && BufReader::new(stream).read_line(&mut line).is_ok()
            && line.contains(r#""jetstream":true"#)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program of the Python environment that `./test` makes.
pub(crate) fn installed(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients/bin").join(name);
    let program = std::env::current_exe().unwrap();
    let beside = program.ancestors().map(|folder| folder.join("clients/bin").join(name));
    let found = beside.chain([here]).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed: ./test does it"))
}
