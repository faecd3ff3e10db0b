//! The master key: where it comes from, and how a file of it is replaced.
//!
//! A file is replaced so that a crash at any moment leaves a hub that starts: the new key is written beside it (`.new`) before
//! anything is wrapped by it, and takes the file's place afterwards. What finds the file's key wrong tries the one beside it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{io::AsyncReadExt, process::Command};
use uzel_engine::{Master, OpenError, Vault, VaultError};
use uzel_model::Secret;
use uzel_store::Store;

use crate::{hub::write_private, settings::Settings};

/// How long a command may take that gives the key, and how much it may print.
const COMMAND_TIME: Duration = Duration::from_secs(30);
const COMMAND_BYTES_MAX: u64 = 4_096;

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File(PathBuf),
    /// A program and its arguments.
    Command(Vec<String>),
    Variable(Secret),
}

impl Source {
    pub(crate) fn of(settings: &Settings, data: &Path) -> Self {
        if let Some(key) = &settings.master_key {
            return Self::Variable(key.clone());
        }
        if let Some(command) = &settings.master_key_command {
            return Self::Command(command.clone());
        }
        Self::File(settings.master_key_file.clone().unwrap_or_else(|| data.join("master.key")))
    }

    /// As people know it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(file) => format!("master key {}", file.display()),
            Self::Command(command) => format!("the command of `master_key_command` ({})", command[0]),
            Self::Variable(_) => "the variable UZEL_MASTER_KEY".to_owned(),
        }
    }

    /// A file of a key may be made only where nothing was sealed yet.
    pub(crate) fn must_be_there(&self) -> anyhow::Result<()> {
        match self {
            Self::File(file) if !file.exists() && !new_beside(file).exists() => bail!(
                "{} is missing: without the key that sealed them the stored secrets cannot be opened; put it back, or name its place \
                 by `master_key_file`, `master_key_command` or UZEL_MASTER_KEY. Nothing was changed",
                file.display()
            ),
            _ => Ok(()),
        }
    }

    /// Makes the file of a new hub's key.
    pub(crate) fn make(&self) -> anyhow::Result<()> {
        match self {
            Self::File(file) if !file.exists() && !new_beside(file).exists() => write_private(file, Master::make().expose()),
            _ => Ok(()),
        }
    }

    pub(crate) async fn read(&self) -> anyhow::Result<Master> {
        let key = match self {
            Self::File(file) => return read_file(file),
            Self::Command(command) => run(command).await?,
            Self::Variable(key) => key.clone(),
        };
        Master::new(&key).with_context(|| self.name())
    }

    /// Opens a store's keys. On the first start a file of a key is made; a rotation that was cut short is ended.
    pub(crate) async fn open(&self, store: &dyn Store) -> anyhow::Result<Vault> {
        let Self::File(file) = self else { return Vault::of(store, &self.read().await?).await.with_context(|| self.name()) };
        let new = new_beside(file);
        if !file.exists() && !new.exists() {
            if store.sealed().await?.check.is_some() {
                self.must_be_there()?;
            }
            self.make()?;
        }
        let opened = if file.exists() { Vault::of(store, &read_file(file)?).await } else { Err(VaultError::Wrong.into()) };
        if matches!(opened, Err(OpenError::Key(VaultError::Wrong | VaultError::Before)))
            && let Ok(key) = read_file(&new)
            && let Ok(vault) = Vault::of(store, &key).await
        {
            replace(file)?;
            tracing::warn!(file = %file.display(), "a change of the master key was cut short: it is ended now");
            return Ok(vault);
        }
        opened.with_context(|| self.name())
    }
}

/// Reads a master key out of a file.
pub(crate) fn read_file(file: &Path) -> anyhow::Result<Master> {
    let name = || format!("master key {}", file.display());
    let key = Secret::new(fs::read_to_string(file).with_context(name)?);
    Master::new(&key).with_context(name)
}

/// What a command prints is the key; what it complains of goes where the hub's own words go.
pub(crate) async fn run(command: &[String]) -> anyhow::Result<Secret> {
    let (program, arguments) = command.split_first().context("`master_key_command` names no program")?;
    let name = || format!("the command that gives the master key ({program})");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(name)?;
    let out = child.stdout.take().with_context(name)?;
    let work = async {
        let mut text = String::new();
        out.take(COMMAND_BYTES_MAX).read_to_string(&mut text).await?;
        let key = Secret::new(text);
        Ok::<_, std::io::Error>((key, child.wait().await?))
    };
    let Ok(ended) = tokio::time::timeout(COMMAND_TIME, work).await else {
        bail!("{} gave no key within {} seconds", name(), COMMAND_TIME.as_secs());
    };
    let (key, status) = ended.with_context(name)?;
    if !status.success() {
        bail!("{} ended with {status}: what it says stands above", name());
    }
    if key.expose().trim().is_empty() {
        bail!("{} printed nothing", name());
    }
    Ok(key)
}

/// The file of the key that is to take a file's place.
pub(crate) fn new_beside(file: &Path) -> PathBuf {
    beside(file, ".new")
}

/// The key beside it takes the file's place; the file's own key is kept under the name that is given back.
pub(crate) fn replace(file: &Path) -> anyhow::Result<Option<PathBuf>> {
    let old = beside(file, &format!(".old-{}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
    let context = || format!("replacing {}", file.display());
    let kept = match fs::hard_link(file, &old) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        linked => Some(linked.map(|()| old).with_context(context)?),
    };
    fs::rename(new_beside(file), file).with_context(context)?;
    sync_folder(file).with_context(context)?;
    Ok(kept)
}

/// Makes a name in a folder last.
pub(crate) fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
