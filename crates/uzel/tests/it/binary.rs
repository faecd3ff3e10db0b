//! The real binary in a folder of its own, as a user runs it.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::world::{free_port, until, web};

pub(crate) struct Binary {
    folder: tempfile::TempDir,
    port: u16,
    variables: Vec<(&'static str, String)>,
    child: Option<Child>,
    pub web: reqwest::Client,
}

/// What a command said, and how it ended.
pub(crate) struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

impl Binary {
    /// An empty folder. Nothing of the caller's environment reaches the binary's settings.
    pub(crate) fn new(variables: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut variables: Vec<(&str, String)> = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        variables.push(("UZEL_ALLOW_NETWORKS", "127.0.0.0/8".to_owned()));
        Self { folder, port: free_port(), variables, child: None, web: web() }
    }

    /// Lets the hub know the address by which it is reached.
    pub(crate) fn reachable(mut self) -> Self {
        self.variables.push(("UZEL_PUBLIC_URL", self.url()));
        self
    }

    /// From the next start on without this variable.
    pub(crate) fn unset(&mut self, variable: &str) {
        self.variables.retain(|(name, _)| *name != variable);
    }

    /// From the next start on with this variable.
    pub(crate) fn set(&mut self, variable: &'static str, value: &str) {
        self.variables.push((variable, value.to_owned()));
    }

    pub(crate) fn owner_key(&self) -> String {
        std::fs::read_to_string(self.path().join("uzel-data/owner.key")).unwrap().trim().to_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path().join("uzel-data/uzel.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_uzel"));
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            let needed = |provider: &uzel_model::Provider| provider.variables.needed.iter().any(|(known, _)| *known == name);
            if name.starts_with("UZEL_") || uzel_connectors::PROVIDERS.iter().any(needed) {
                command.env_remove(&*name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn uzel(&self, arguments: &[&str]) -> Ran {
        let out = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }

    /// What a command that must succeed answers as JSON.
    pub(crate) fn asked(&self, arguments: &[&str]) -> Value {
        let ran = self.uzel(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.out, ran.err);
        ran.json()
    }

    /// Starts the hub and waits until it answers.
    pub(crate) async fn serve(&mut self, more: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join("log")).unwrap();
        let listen = format!("127.0.0.1:{}", self.port);
        let arguments = [&["serve", "--listen", &listen], more].concat();
        self.child = Some(self.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let health = format!("{}/healthz", self.url());
        until("the hub to answer", async || self.web.get(&health).send().await.is_ok()).await;
    }

    /// The hub's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("the hub runs").id()
    }

    /// Ends the hub by a signal (`-TERM`, `-KILL`).
    pub(crate) fn signal(&mut self, signal: &str) {
        let mut child = self.child.take().expect("the hub runs");
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
