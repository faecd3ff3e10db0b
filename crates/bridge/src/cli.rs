//! The command line.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use tokio::net::TcpListener;

use crate::{
    bridge::{Bridge, now_ms},
    check,
    client::{self, Wish},
    files, install, local,
    place::Place,
    sender,
    settings::Settings,
    setup,
};

/// A log larger than this is put aside at the start.
const LOG_BYTES_MAX: u64 = 5 << 20;

#[derive(Debug, Args)]
pub struct BridgeArgs {
    /// The bridge's folder, with its settings, key and queue; `uzel-bridge` here by default, on Windows in the user's profile.
    #[arg(long, global = true, env = "UZEL_BRIDGE")]
    folder: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run the bridge.
    Run {
        /// Write the log to `bridge.log` in the folder.
        #[arg(long)]
        log_file: bool,
    },
    /// Ask for the settings and write them down.
    Setup(setup::SetupArgs),
    /// Look at settings, hub, clock, secrets and queue, and say what is wrong.
    Check,
    /// Calls that wait for the line, and those that need a person.
    Queue {
        #[command(subcommand)]
        what: QueueCommand,
    },
    /// Let the bridge start with the machine: a service of systemd, or a task of Windows.
    Install {
        /// Only show what would be done.
        #[arg(long)]
        print: bool,
    },
    /// Let it start no more; the folder stays.
    Uninstall {
        /// Only show what would be done.
        #[arg(long)]
        print: bool,
    },
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    List,
    /// Try again what needed a person, under the same key.
    Retry {
        /// An id out of the list, or `all`.
        id: String,
    },
    /// Let a call go for ever: what was sold stays sold, and its points stay as they are.
    Drop {
        id: String,
    },
}

/// Runs a command to its end: exit status 0 if it did what was asked, 1 if not. `words` are those that stand before the command
/// where this is part of a larger program.
pub fn run(args: BridgeArgs, json: bool, words: &[&str]) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(go(args, json, words)));
    done.unwrap_or_else(|error| {
        // The last words of the process; if even they cannot be said, the exit status says it.
        drop(writeln!(std::io::stderr(), "uzel-bridge: {error:#}"));
        ExitCode::FAILURE
    })
}

/// The same within a runtime.
pub async fn go(args: BridgeArgs, json: bool, words: &[&str]) -> anyhow::Result<ExitCode> {
    let place = Place::new(args.folder);
    match args.what {
        What::Run { log_file } => serve(&place, log_file).await,
        What::Setup(args) => setup::run(&place, args, json),
        What::Check => check::run(&place, json).await,
        What::Install { print } => install::install(&place, words, print, json),
        What::Uninstall { print } => install::uninstall(print, json),
        What::Queue { what } => {
            let wish = match what {
                QueueCommand::List => Wish::List,
                QueueCommand::Retry { id } => Wish::Retry(id),
                QueueCommand::Drop { id } => Wish::Drop(id),
            };
            let answer = client::ask(&place, &Settings::load(&place.settings())?, &wish).await?;
            say(&match (json, wish) {
                (true, _) => serde_json::to_string_pretty(&answer)?,
                (false, Wish::List) => client::show(&answer),
                (false, Wish::Retry(_)) => format!("{} will be tried again", answer["count"]),
                (false, Wish::Drop(id)) => format!("{id} is dropped"),
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn serve(place: &Place, log_file: bool) -> anyhow::Result<ExitCode> {
    logging(log_file.then(|| place.log()))?;
    let settings = Settings::load(&place.settings())?;
    if files::is_open_to_others(&place.settings())? {
        tracing::warn!(file = %place.settings().display(), "the settings hold secrets, and others may read them: chmod 600");
    }
    let Some(lock) = place.lock()? else { bail!("another process works in {}", place.folder.display()) };
    let (queue, key) = place.open(&settings, now_ms())?;
    let listen = settings.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let bridge = Arc::new(Bridge::new(settings, queue, key.proof())?);
    let sending = tokio::spawn(sender::run_for_ever(bridge.clone()));
    tracing::info!(%address, folder = %place.folder.display(), "the bridge answers");
    local::serve(local::router(bridge), listener, stop_signal()).await;
    // What is under way is sent again after the next start, under the same key.
    sending.abort();
    tracing::info!("stopped");
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Until somebody asks the process to stop.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
        tokio::select! {
            asked = tokio::signal::ctrl_c() => asked.unwrap_or_default(),
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.unwrap_or_default();
}

fn logging(file: Option<PathBuf>) -> anyhow::Result<()> {
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = fmt().with_env_filter(filter).with_target(false);
    let Some(path) = file else {
        // Twice set is no fault: the first one stays.
        drop(log.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).try_init());
        return Ok(());
    };
    let name = || path.display().to_string();
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
        std::fs::rename(&path, files::beside(&path, ".old")).with_context(name)?;
    }
    let file = files::own().append(true).open(&path).with_context(name)?;
    drop(log.with_writer(Arc::new(file)).with_ansi(false).try_init());
    Ok(())
}

/// A line for the person who asked.
pub(crate) fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
