//! One server process, and the small shell that ends it if we die first.

use std::{
    fs::File,
    io::Write,
    net::TcpListener,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Between two looks at a condition.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// Waits for a line of ours. If the pipe closes without one we are gone: it ends the server, kindly first, and removes its
/// folder unless that is kept.
const WATCH: &str = r#"read -r word && exit 0
kill -s "$2" "$1" 2>/dev/null
looks=0
while kill -0 "$1" 2>/dev/null && [ "$looks" -lt 50 ]; do sleep 0.1; looks=$((looks + 1)); done
kill -s KILL "$1" 2>/dev/null
[ "$4" = kept ] || rm -rf -- "$3""#;

/// A free port below those that the system gives to clients, so that it stays free while a server is down.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1_000 {
        let port = rand::random_range(10_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port")
}

/// A small shell that ends a process of ours, should we die before we have ended it. To be dropped when the process has ended.
pub struct Watch(Child);

impl Watch {
    /// `end_by` is the signal that comes first; after five seconds the process is killed, and its folder removed unless that is
    /// `kept`. The shell is kept out of our process group: a Ctrl-C meant for us must not end it.
    pub fn over(process: u32, end_by: &str, folder: &Path, kept: bool) -> anyhow::Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "watch", &process.to_string(), end_by]).arg(folder);
        shell.arg(if kept { "kept" } else { "temporary" }).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(shell.spawn().context("starting a shell that watches over a process")?))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.0.stdin.take().map(|mut pipe| pipe.write_all(b"ended\n")));
        drop(self.0.wait());
    }
}

/// A server that runs, killed on drop.
pub(crate) struct Process {
    child: Child,
    /// Dropped after the child has ended: were we killed before that, it would still do its work.
    _watch: Watch,
}

impl Process {
    /// Kept out of our process group: a Ctrl-C meant for us must not end the server before we have ended it.
    pub(crate) fn start(mut command: Command, folder: &Path, kept: bool, end_by: &str) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join("log")).context("the server's log")?;
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        match Watch::over(child.id(), end_by, folder, kept) {
            Ok(watch) => Ok(Self { child, _watch: watch }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => status.to_string(),
        })
    }

    /// Sends a signal and waits until it has ended; after `patience` it is killed.
    pub(crate) fn end(mut self, by: &str, patience: Duration) -> anyhow::Result<()> {
        signal(self.id(), by)?;
        let deadline = Instant::now() + patience;
        while self.ended().is_none() {
            if Instant::now() > deadline {
                bail!("the server did not end by {by} in {patience:?} and was killed");
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// By the shell, which always has it, since the standard library can only kill.
pub fn signal(process: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "kill", signal, &process.to_string()]).status()?;
    if !status.success() {
        bail!("process {process} could not be sent {signal}");
    }
    Ok(())
}

/// The end of a server's log, for whoever looks for the reason of an error.
pub(crate) fn last_words(folder: &Path) -> String {
    let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(8).collect();
    lines.into_iter().rev().map(|line| format!("\n  {line}")).collect()
}

/// A program in one of these folders, or on `PATH`.
pub(crate) fn find(program: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(program)).find(|file| file.is_file())
}
