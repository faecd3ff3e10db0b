//! A PostgreSQL server of our own. Two roles: `postgres`, which governs it, and `uzel`, as which a hub connects: an ordinary
//! role, as a hub has it in earnest.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::process::{self, Process};

const PATIENCE: Duration = Duration::from_secs(60);
/// PostgreSQL takes this signal for an end at once, without a checkpoint.
const IMMEDIATE: &str = "QUIT";

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct Options {
    pub max_connections: u32,
    /// More lines of `postgresql.conf`.
    pub config: Vec<String>,
    /// Where its data stays, instead of a temporary folder; used again if there is a server's data in it.
    pub folder: Option<PathBuf>,
    /// A certificate and its key: then it speaks TLS to whoever asks for it.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max_connections: 200, config: Vec::new(), folder: None, certificate: None }
    }
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Sessions are cut off, as in a crash: at the next start it recovers from its log.
    Immediate,
    /// Sessions are cut off, and what they did is written out first.
    Fast,
}

/// A server, ended on drop.
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    user: Option<User>,
    running: Mutex<Option<Process>>,
    databases: AtomicU32,
    folder: Folder,
}

enum Folder {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn open(kept: Option<&Path>) -> anyhow::Result<Self> {
        let Some(kept) = kept else {
            let folder = tempfile::Builder::new().prefix("uzel-postgres-").tempdir().context("a temporary folder")?;
            return Ok(Self::Temporary(folder));
        };
        fs::create_dir_all(kept).with_context(|| format!("folder {}", kept.display()))?;
        Ok(Self::Kept(fs::canonicalize(kept)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }
}

/// As whom the server runs when we are root, which PostgreSQL refuses.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    group: u32,
}

impl Postgres {
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&Options::default())
    }

    pub fn start_with(options: &Options) -> anyhow::Result<Self> {
        let programs = programs()?;
        let user = user()?;
        let folder = Folder::open(options.folder.as_deref())?;
        if let Some(user) = user {
            std::os::unix::fs::chown(folder.path(), Some(user.id), Some(user.group))?;
        }
        let port = process::free_port()?;
        let server = Self { port, programs, user, running: Mutex::new(None), databases: AtomicU32::new(0), folder };
        if !server.data().join("PG_VERSION").exists() {
            server.set_up(options)?;
        }
        server.start_again()?;
        Ok(server)
    }

    /// One server for all tests of this process; it ends with the process, however that ends. Nobody ends it before, so that it
    /// waits for no disk; and no test is so long that its tables want to be cleaned up.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let config = ["fsync = off", "full_page_writes = off", "checkpoint_timeout = '1h'", "autovacuum = off"];
        let options = Options { max_connections: 500, config: config.map(str::to_owned).into(), ..Options::default() };
        let server = SHARED.get_or_init(|| Self::start_with(&options).map_err(|error| format!("{error:#}")));
        server.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// The URL of a database that is there from the start, and empty.
    pub fn url(&self) -> String {
        self.url_of("uzel")
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> anyhow::Result<String> {
        let name = format!("uzel_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.govern(&format!("CREATE DATABASE {name} OWNER uzel")).await?;
        Ok(self.url_of(&name))
    }

    /// The URL by which the governing role reaches the server; a few connections are kept for it when all others are taken.
    pub fn governing_url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs statements as the governing role, each in a transaction of its own; gives the rows of the last.
    pub async fn govern(&self, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let (client, connection) = tokio_postgres::connect(&self.governing_url(), tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let answer = client.simple_query(sql).await.with_context(|| sql.to_owned())?;
        drop(client);
        connection.await??;
        let mut rows = Vec::new();
        for message in answer {
            if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// Ends every session of hubs; how many there were.
    pub async fn drop_connections(&self) -> anyhow::Result<usize> {
        let rows = self.govern("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'uzel'").await?;
        Ok(rows.len())
    }

    /// Blocks until it has ended.
    pub fn stop(&self, how: Stop) -> anyhow::Result<()> {
        let Some(running) = self.running.lock().take() else { return Ok(()) };
        let by = match how {
            Stop::Immediate => IMMEDIATE,
            Stop::Fast => "INT",
        };
        running.end(by, PATIENCE)
    }

    /// Blocks until it answers, on the same port and data.
    pub fn start_again(&self) -> anyhow::Result<()> {
        let mut running = self.running.lock();
        ensure!(running.is_none(), "the server runs already");
        let mut command = self.command("postgres");
        // Data that was kept has known another port.
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string()]);
        let kept = matches!(self.folder, Folder::Kept(_));
        let mut process = Process::start(command, self.folder.path(), kept, IMMEDIATE)?;
        let deadline = Instant::now() + PATIENCE;
        while !self.ready(process.id()) {
            if let Some(how) = process.ended() {
                bail!("PostgreSQL ended at its start ({how}):{}", process::last_words(self.folder.path()));
            }
            ensure!(Instant::now() < deadline, "PostgreSQL is not ready:{}", process::last_words(self.folder.path()));
            thread::sleep(process::LOOK);
        }
        *running = Some(process);
        Ok(())
    }

    /// Blocks until it answers again.
    pub fn restart(&self, how: Stop) -> anyhow::Result<()> {
        self.stop(how)?;
        self.start_again()
    }

    /// The end of the server's log.
    pub fn last_words(&self) -> String {
        process::last_words(self.folder.path())
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://uzel@127.0.0.1:{}/{database}", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env("TZ", "UTC").env_remove("LC_ALL").env("LANG", "C.UTF-8");
        self.run_as_its_user(&mut command);
        command
    }

    pub(crate) fn run_as_its_user(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user.id).gid(user.group);
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn set_up(&self, options: &Options) -> anyhow::Result<()> {
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--auth", "trust", "--username", "postgres", "--encoding", "UTF8", "--locale", "C.UTF-8"]);
        let made = initdb.arg("-D").arg(self.data()).stdin(Stdio::null()).output().context("initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let config = self.data().join("postgresql.conf");
        let mut lines = fs::read_to_string(&config)?;
        lines += &format!(
            "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = {}\nfsync = on\n\
             synchronous_commit = on\nshared_buffers = '128MB'\n",
            options.max_connections
        );
        if let Some((certificate, key)) = &options.certificate {
            let own = |from: &Path, name: &str| -> anyhow::Result<PathBuf> {
                let to = self.folder.path().join(name);
                fs::copy(from, &to)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600))?;
                if let Some(user) = self.user {
                    std::os::unix::fs::chown(&to, Some(user.id), Some(user.group))?;
                }
                Ok(to)
            };
            let (certificate, key) = (own(certificate, "server.pem")?, own(key, "server.key")?);
            lines += &format!("ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n", certificate.display(), key.display());
        }
        lines.extend(options.config.iter().map(|line| format!("{line}\n")));
        fs::write(&config, lines)?;
        self.alone("CREATE ROLE uzel LOGIN\nCREATE DATABASE uzel OWNER uzel\n")
    }

    /// Statements, one a line, by a server that listens to nobody.
    fn alone(&self, sql: &str) -> anyhow::Result<()> {
        let statements = self.folder.path().join("first.sql");
        fs::write(&statements, sql)?;
        let mut command = self.command("postgres");
        let told = command.arg("--single").arg("-D").arg(self.data()).arg("postgres").stdin(fs::File::open(&statements)?);
        let told = told.output().context("postgres --single")?;
        let words = String::from_utf8_lossy(&told.stderr);
        ensure!(told.status.success() && !words.contains("ERROR"), "postgres --single: {words}");
        Ok(())
    }

    /// What the server writes into its file of locks is what its own `pg_ctl` waits for.
    fn ready(&self, process: u32) -> bool {
        let lines = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = lines.lines().map(str::trim);
        lines.next() == Some(&process.to_string()) && lines.nth(6) == Some("ready")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its sessions are processes of their own, which end with this signal and not when the server is killed.
        if let Some(running) = self.running.lock().take() {
            let (by, patience) = match self.folder {
                Folder::Temporary(_) => (IMMEDIATE, Duration::from_secs(10)),
                // What it holds is written out, so that the next start need not recover it.
                Folder::Kept(_) => ("INT", PATIENCE),
            };
            drop(running.end(by, patience));
        }
    }
}

/// A program of the newest installation: `pgbench`, `psql`.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let program = programs()?.join(name);
    ensure!(program.is_file(), "{} is not installed: apt-get install postgresql", program.display());
    Ok(program)
}

/// Names the folder of another version's programs (`initdb`, `postgres`), to run all tests on it.
const OTHER: &str = "TEST_POSTGRES_PROGRAMS";

/// The newest installation's programs, or those that `TEST_POSTGRES_PROGRAMS` names.
fn programs() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(OTHER).map(PathBuf::from) {
        ensure!(folder.join("initdb").is_file(), "{OTHER}: there is no initdb in {}", folder.display());
        return Ok(fs::canonicalize(folder)?);
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path()).filter(|path| number(path).is_some()).collect();
    folders.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let found = process::find("initdb", folders.into_iter().map(|path| path.join("bin")));
    let found = found.context("PostgreSQL is not installed: apt-get install postgresql")?;
    Ok(fs::canonicalize(found)?.parent().context("the folder of initdb")?.to_owned())
}

fn user() -> anyhow::Result<Option<User>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> = line.context("there is no user postgres: apt-get install postgresql")?.split(':').collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse().ok()).context("/etc/passwd");
    Ok(Some(User { id: number(2)?, group: number(3)? }))
}
