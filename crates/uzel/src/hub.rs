//! One hub: its data folder, its engine, its listeners.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{IsTerminal, Write},
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use uzel_connectors::PROVIDERS;
use uzel_engine::{Clock, Engine, Vault, setup::Leniency};
use uzel_model::{Id, Provider, Secret, connector::Variables, id::Kind};
use uzel_server::App;
use uzel_store::{KeyRow, Postgres, Setup, Sqlite, Store};

use crate::{master::Source, settings::Settings};

pub const SOCKET: &str = "uzel.sock";

/// The data folder, held by this process alone.
pub struct Folder {
    pub path: PathBuf,
    /// Held as long as the folder is: the lock goes with the file.
    lock: File,
}

impl Folder {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("data folder {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("data folder {}", path.display()))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("another hub works in {}: stop it first, or name another `data` folder", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).context("locking the data folder"),
        }
    }

    async fn store(&self, settings: &Settings, key: &Source) -> anyhow::Result<Arc<dyn Store>> {
        let Some(options) = settings.postgres().context("database")? else {
            let database = self.path.join("uzel.db");
            if database.exists() {
                key.must_be_there()?;
            }
            if !settings.migrate {
                Sqlite::is_up_to_date(&database).context("the database")?;
            }
            return Ok(Arc::new(Sqlite::open(&database).context("the store")?));
        };
        Ok(Arc::new(Postgres::open(options).await.context("the database")?))
    }
}

pub(crate) fn write_private(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

/// A hub that works.
pub struct Hub {
    pub engine: Arc<Engine>,
    pub app: Arc<App>,
    pub address: SocketAddr,
    folder: Folder,
    stop: watch::Sender<bool>,
    servers: Vec<tokio::task::JoinHandle<std::io::Result<()>>>,
}

/// What a hub is made of beside its settings.
pub struct Parts {
    pub providers: &'static [Provider],
    pub clock: Clock,
}

impl Default for Parts {
    fn default() -> Self {
        Self { providers: uzel_connectors::PROVIDERS, clock: Clock::default() }
    }
}

/// An engine over a folder, not started: what commands use when no hub runs.
pub async fn open(folder: &Folder, settings: &Settings, parts: Parts) -> anyhow::Result<Arc<Engine>> {
    let source = Source::of(settings, &folder.path);
    let store = folder.store(settings, &source).await?;
    let vault = match source.open(store.as_ref()).await {
        Ok(vault) => vault,
        Err(wrong) => {
            store.close().await;
            return Err(wrong);
        }
    };
    Ok(Engine::open(store, parts.providers, vault, parts.clock, settings.options()?).await?)
}

/// Several nodes may start at the same moment on an empty database: one of them makes what is made once.
async fn first_start(folder: &Folder, engine: &Arc<Engine>, settings: &Settings) -> anyhow::Result<()> {
    const HOLD_MS: i64 = 30_000;
    let deadline = Instant::now() + Duration::from_millis(HOLD_MS.unsigned_abs());
    let token = loop {
        match engine.store.take("first-start", engine.clock.now(), 0, HOLD_MS).await? {
            Some(token) => break token,
            None if Instant::now() > deadline => bail!("another node does not end its start"),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    engine.reload().await?;
    let made = async {
        first_key(folder, engine).await?;
        defaults(engine, settings).await
    };
    let made = made.await;
    engine.store.give_back("first-start", token).await?;
    made
}

impl Hub {
    pub async fn start(settings: &Settings, parts: Parts) -> anyhow::Result<Self> {
        let folder = Folder::open(&settings.data)?;
        let engine = open(&folder, settings, parts).await?;
        first_start(&folder, &engine, settings).await?;
        let listener = tokio::net::TcpListener::bind(settings.listen)
            .await
            .with_context(|| format!("cannot listen on {}: set `listen` to a free address", settings.listen))?;
        let address = listener.local_addr()?;
        let socket = folder.path.join(SOCKET);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context("the old socket"),
            _ => {}
        }
        let local = tokio::net::UnixListener::bind(&socket).with_context(|| format!("socket {}", socket.display()))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))?;
        keep_from_dying_of_large_files()?;
        engine.start().await?;
        let app = App::new(engine.clone(), settings.door()?);
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // The sender lives as long as the hub; if it is gone, it is time to stop as well.
            drop(stopped.wait_for(|stop| *stop).await);
        };
        let servers = vec![
            tokio::spawn(uzel_server::serve(app.clone(), listener, until(stopped.clone()))),
            tokio::spawn(uzel_server::serve_local(app.clone(), local, until(stopped))),
        ];
        // The numbering plans load after the port is open: the first request need not wait for them.
        tokio::task::spawn_blocking(uzel_model::phone::warm_up);
        Ok(Self { engine, app, address, folder, stop, servers })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that was made at the first start.
    pub fn owner_key(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.folder.path.join("owner.key")).context("owner.key")?.trim().to_owned())
    }

    /// Checks and carries out a setup.
    pub async fn apply(&self, file: &Value, leniency: Leniency) -> anyhow::Result<()> {
        match self.engine.apply(file, leniency).await? {
            Ok(_) => Ok(()),
            Err(faults) => bail!(
                "{}",
                faults.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("\n")
            ),
        }
    }

    /// Lets requests and calls under way end, writes what is to be written, and lets go of the folder.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.app.leave();
        self.stop.send_replace(true);
        for server in self.servers {
            // A connection that is kept open for nothing must not hold the stop up.
            match tokio::time::timeout(Duration::from_secs(5), server).await {
                Ok(ended) => ended??,
                Err(_) => tracing::warn!("a connection did not end in time"),
            }
        }
        self.engine.stop().await;
        fs::remove_file(self.folder.path.join(SOCKET)).ok();
        self.folder.lock.unlock().context("the data folder's lock")
    }
}

/// A file that may grow no more (`ulimit -f`) is a full disk: told as an error of the write, not by a signal that kills.
fn keep_from_dying_of_large_files() -> anyhow::Result<()> {
    const SIGXFSZ: i32 = 25;
    // Once asked for, a signal stays caught.
    drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(SIGXFSZ)).context("the signal SIGXFSZ")?);
    Ok(())
}

/// The first owner key: kept in a private file, printed only to a person at a terminal.
async fn first_key(folder: &Folder, engine: &Engine) -> anyhow::Result<()> {
    let file = folder.path.join("owner.key");
    let new = !file.exists();
    let known = engine.store.setup().await?.keys.iter().any(|key| !key.webhook && key.of.is_none());
    if known {
        if new && engine.store.shared() {
            tracing::info!("the owner key was made by another node: it lies in that node's data folder");
        }
        if !new || engine.store.shared() {
            return Ok(());
        }
    }
    // The file first: a key that is stored and stands nowhere would be lost.
    if new {
        write_private(&file, Vault::new_key("uzel_").expose())?;
    }
    let key = Secret::new(fs::read_to_string(&file).context("owner.key")?.trim().to_owned());
    let row = KeyRow {
        hash: engine.vault.key_hash("api", key.expose()),
        id: Id::new(Kind::Key).to_string(),
        of: None,
        about: "admin".to_owned(),
        webhook: false,
        label: "made at the first start".to_owned(),
        made_at: engine.clock.now(),
        expires_at: None,
        last_used_at: None,
    };
    engine.store.put_setup(Setup { keys: vec![row], ..Setup::default() }).await?;
    engine.reload().await?;
    let mut terminal = std::io::stderr();
    if new && terminal.is_terminal() {
        writeln!(terminal, "The first owner key, also in {}:\n  {}", file.display(), key.expose())?;
    }
    Ok(())
}

/// Taking a variable away takes no key back: whoever did so should know that messages still go out, and how to end that.
fn tell_kept_key(provider: &Provider) {
    let (slug, (variable, _)) = (provider.variables.slug, provider.variables.needed[0]);
    let name = provider.name;
    tracing::warn!(
        "{variable} is not set, but connection default/{slug} still holds a key of {name} from before: messages are sent with it. \
         To change the key, start with {variable}; to send nothing, apply a setup in which connection `{slug}` of merchant \
         `default` has provider = \"log\""
    );
}

/// Merchant `default`, with the connections that the providers' own variables describe.
async fn defaults(engine: &Arc<Engine>, settings: &Settings) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for provider in PROVIDERS.iter().filter(|provider| !provider.variables.needed.is_empty()) {
        match connection_of(provider, settings)? {
            Some(connection) => connections.push(connection),
            None => {
                let world = engine.world();
                let known = world.merchant("default").and_then(|merchant| world.link_of(merchant, provider.variables.slug));
                if known.is_some_and(|known| known.provider.id == provider.id) {
                    tell_kept_key(provider);
                }
            }
        }
    }
    if connections.is_empty() && engine.world().merchants.is_empty() {
        connections.push(json!({ "merchant": "default", "slug": "sms", "provider": "log" }));
    }
    if connections.is_empty() {
        return Ok(());
    }
    let mut setup = json!({ "connection": connections });
    if engine.world().merchant("default").is_none() {
        setup["merchant"] = json!([{ "slug": "default", "name": "Default" }]);
    }
    match engine.apply(&setup, Leniency::default()).await? {
        Ok(_) => Ok(()),
        Err(faults) => bail!(
            "{}: {}",
            settings.variables.keys().copied().collect::<Vec<_>>().join(", "),
            faults.iter().map(|fault| fault.detail.clone()).collect::<Vec<_>>().join("; ")
        ),
    }
}

/// The connection that a provider's variables describe; `None` where none of them is set.
fn connection_of(provider: &Provider, settings: &Settings) -> anyhow::Result<Option<Value>> {
    let Variables { slug, needed, optional } = provider.variables;
    let set = |(name, _): &&(&str, &str)| settings.variables.contains_key(name);
    if !needed.iter().chain(optional).any(|variable| set(&variable)) {
        return Ok(None);
    }
    if let Some((missing, _)) = needed.iter().find(|variable| !set(variable)) {
        bail!("{missing} is not set: {} needs it beside the variables that are", provider.name);
    }
    let given = needed.iter().chain(optional).filter_map(|(name, setting)| {
        let value = settings.variables.get(name)?;
        Some(text_or_file(value).map(|text| ((*setting).to_owned(), json!(text))).with_context(|| format!("variable {name}")))
    });
    let given = given.collect::<anyhow::Result<Map<String, Value>>>()?;
    Ok(Some(json!({ "merchant": "default", "slug": slug, "provider": provider.id, "settings": given })))
}

/// What a variable says: the content of a file, where it is the whole path of one.
fn text_or_file(value: &str) -> anyhow::Result<String> {
    let path = std::path::Path::new(value.trim());
    if path.is_absolute() && path.is_file() {
        return std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    }
    Ok(value.to_owned())
}
