//! Settings of the hub: `uzel.toml`, over it variables `UZEL_…`; and the requirement's own variables for messages.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Deserialize;
use uzel_engine::{Networks, Options};

/// What an operator may set. Nothing needs to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub data: PathBuf,
    /// The address by which providers reach the hub, for instance `https://hub.example`.
    pub public_url: Option<String>,
    /// Private networks that may be called (`127.0.0.0/8`).
    pub allow_networks: Vec<String>,
    /// How long one call to a provider may take.
    pub call_timeout_ms: u64,
    /// Readiness fails when the oldest entry has waited longer.
    pub ready_age_s: u64,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Prints the texts that no provider is there to send; loopback only.
    pub dev: bool,
    /// SMS.ru's key and sender for merchant `default` (also `SMSRU_API_KEY`, `SMSRU_SENDER`).
    #[serde(skip)]
    pub smsru_api_key: Option<String>,
    #[serde(skip)]
    pub smsru_sender: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("uzel-data"),
            public_url: None,
            allow_networks: Vec::new(),
            call_timeout_ms: 30_000,
            ready_age_s: 300,
            log_json: false,
            dev: false,
            smsru_api_key: None,
            smsru_sender: None,
        }
    }
}

impl Settings {
    /// Of a file (`uzel.toml` here where none is named) and these variables.
    pub fn load(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let mut table = match file {
            Some(file) => read(file)?,
            None if Path::new("uzel.toml").exists() => read(Path::new("uzel.toml"))?,
            None => toml::Table::new(),
        };
        let mut own = (None, None);
        for (name, value) in variables {
            match name.as_str() {
                "SMSRU_API_KEY" if !value.trim().is_empty() => own.0 = Some(value),
                "SMSRU_SENDER" if !value.trim().is_empty() => own.1 = Some(value),
                _ => {
                    if let Some(setting) = name.strip_prefix("UZEL_") {
                        table.insert(setting.to_lowercase(), variable(setting, value));
                    }
                }
            }
        }
        let mut settings: Self = table.try_into().context("the settings (uzel.toml and variables UZEL_…)")?;
        (settings.smsru_api_key, settings.smsru_sender) = own;
        if settings.dev && !settings.listen.ip().is_loopback() {
            bail!("dev prints texts with phones: it works only while the hub listens on loopback, not on {}", settings.listen);
        }
        if let Some(url) = &mut settings.public_url {
            *url = url.trim_end_matches('/').to_owned();
        }
        Ok(settings)
    }

    pub fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            networks: Networks::parse(&self.allow_networks).map_err(anyhow::Error::msg).context("allow_networks")?,
            call_timeout: Duration::from_millis(self.call_timeout_ms),
            public_url: self.public_url.clone(),
            print_texts: self.dev,
            ready_age: Duration::from_secs(self.ready_age_s),
        })
    }
}

/// The environment, without what is no text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn read(file: &Path) -> anyhow::Result<toml::Table> {
    let text = std::fs::read_to_string(file).with_context(|| format!("settings file {}", file.display()))?;
    text.parse().with_context(|| format!("settings file {}", file.display()))
}

/// A variable is a text; numbers, flags and lists are read out of it.
fn variable(name: &str, value: String) -> toml::Value {
    if name.eq_ignore_ascii_case("allow_networks") {
        return toml::Value::Array(value.split(',').map(|part| toml::Value::String(part.trim().to_owned())).collect());
    }
    match (value.parse::<i64>(), value.as_str()) {
        (Ok(number), _) => toml::Value::Integer(number),
        (_, "true") => toml::Value::Boolean(true),
        (_, "false") => toml::Value::Boolean(false),
        _ => toml::Value::String(value),
    }
}
