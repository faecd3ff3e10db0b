//! A PgBouncer of our own before a PostgreSQL server of ours.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::{
    Postgres,
    process::{self, Process},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client keeps one of the server's sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    Session,
    Transaction,
}

/// A pooler, ended on drop.
pub struct PgBouncer {
    port: u16,
    _running: Process,
    _folder: TempDir,
}

impl PgBouncer {
    /// Blocks until it answers.
    pub fn start(server: &Postgres, pooling: Pooling) -> anyhow::Result<Self> {
        let program = process::find("pgbouncer", [PathBuf::from("/usr/sbin")]);
        let program = program.context("pgbouncer is not installed: apt-get install pgbouncer")?;
        let folder = tempfile::Builder::new().prefix("uzel-pgbouncer-").tempdir().context("a temporary folder")?;
        // It may run as another user than we do.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let port = process::free_port()?;
        let pooling = match pooling {
            Pooling::Session => "session",
            Pooling::Transaction => "transaction",
        };
        let (users, settings) = (folder.path().join("users"), folder.path().join("settings"));
        fs::write(&users, "\"uzel\" \"\"\n")?;
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=uzel\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\nauth_file = {}\npool_mode = {pooling}\ndefault_pool_size = 40\n",
            server.port(),
            users.display()
        );
        fs::write(&settings, text)?;
        let mut command = Command::new(program);
        command.current_dir("/").arg(&settings);
        server.run_as_its_user(&mut command);
        let mut running = Process::start(command, folder.path(), false, "INT")?;
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_err() {
            if let Some(how) = running.ended() {
                bail!("pgbouncer ended at its start ({how}):{}", process::last_words(folder.path()));
            }
            ensure!(Instant::now() < deadline, "pgbouncer is not ready:{}", process::last_words(folder.path()));
            thread::sleep(process::LOOK);
        }
        Ok(Self { port, _running: running, _folder: folder })
    }

    /// The same database, by this pooler.
    pub fn url_of(&self, server_url: &str) -> String {
        format!("postgres://uzel@127.0.0.1:{}/{}", self.port, server_url.rsplit('/').next().unwrap_or_default())
    }
}
