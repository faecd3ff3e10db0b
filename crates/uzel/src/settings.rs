//! Settings of the hub: `uzel.toml`, over it variables `UZEL_…`; and the requirement's own variables for messages.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Deserialize;
use toml::de::DeTable;
use uzel_connectors::PROVIDERS;
use uzel_engine::{NatsOptions, Networks, Options};
use uzel_model::{Provider, Secret};
use uzel_server::DoorSettings;
use uzel_store::PostgresOptions;

use crate::commands::line_and_column;

/// What an operator may set. Nothing needs to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub data: PathBuf,
    /// A PostgreSQL server to keep everything in, shared with other nodes (`postgres://user:password@host/name`); SQLite in the
    /// data folder where none is named.
    pub database: Option<Secret>,
    /// Connections to that server for queries; writing has a few of its own.
    pub database_connections: u16,
    /// Whether a start brings the schema up to date.
    pub migrate: bool,
    /// What people know this node by, among several.
    pub node: Option<String>,
    /// The file with the master key, where it is not in the data folder.
    pub master_key_file: Option<PathBuf>,
    /// A program that prints the master key, with its arguments.
    pub master_key_command: Option<Vec<String>>,
    /// Beyond the time of a call, how long a text is held that is being sent: then other nodes take it for lost.
    pub lease_margin_ms: u64,
    /// How long a node may take to read what it has accepted, before others do.
    pub reading_lease_ms: u64,
    /// How many days entries and what followed from them are kept; for ever if not set.
    pub keep_days: Option<u32>,
    /// The address by which providers reach the hub, for instance `https://hub.example`.
    pub public_url: Option<String>,
    /// Private networks that may be called (`127.0.0.0/8`).
    pub allow_networks: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed (`10.0.0.5/32`).
    pub trusted_proxies: Vec<String>,
    /// How many requests with wrong keys one address may send a minute to one connection, or with keys that begin alike.
    pub failed_auth_per_minute: u32,
    /// How often one key may call the API a minute, on each node; 0 for no limit.
    pub api_calls_per_minute: u32,
    /// How often one key, or one outlet's bridge, may ask about points a minute, on each node; 0 for no limit.
    pub loyalty_calls_per_minute: u32,
    /// So many times as often as the points platform lets it one till may ask about points; 0 for no limit.
    pub loyalty_rate_factor: u32,
    /// How long a client may take for the head of a request, and again for its body.
    pub request_timeout_ms: u64,
    /// How long one call to a provider may take.
    pub call_timeout_ms: u64,
    /// Readiness fails when the oldest entry has waited longer.
    pub ready_age_s: u64,
    /// The NATS server to which events are published, and by which commands may come; the URL may hold a password.
    pub nats: Option<Secret>,
    /// A file with credentials for it.
    pub nats_creds: Option<PathBuf>,
    /// How long events stay in the stream that the hub makes.
    pub nats_keep_h: u64,
    /// After so many days of failures an endpoint gets nothing any more.
    pub endpoint_patience_days: u32,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Prints the texts that no provider is there to send; loopback only.
    pub dev: bool,
    /// The master key itself (`UZEL_MASTER_KEY`), where it is to lie in no file.
    #[serde(skip)]
    pub master_key: Option<Secret>,
    /// What the providers' own variables say (`SMSRU_API_KEY`), by their names: connections of merchant `default`.
    #[serde(skip)]
    pub variables: BTreeMap<&'static str, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("uzel-data"),
            database: None,
            database_connections: 6,
            migrate: true,
            node: None,
            master_key_file: None,
            master_key_command: None,
            lease_margin_ms: 30_000,
            reading_lease_ms: 10_000,
            keep_days: None,
            public_url: None,
            allow_networks: Vec::new(),
            trusted_proxies: Vec::new(),
            failed_auth_per_minute: 30,
            api_calls_per_minute: 12_000,
            loyalty_calls_per_minute: 60_000,
            loyalty_rate_factor: 20,
            request_timeout_ms: 30_000,
            call_timeout_ms: 30_000,
            ready_age_s: 300,
            nats: None,
            nats_creds: None,
            nats_keep_h: 168,
            endpoint_patience_days: 5,
            log_json: false,
            dev: false,
            master_key: None,
            variables: BTreeMap::new(),
        }
    }
}

/// The settings by name, each with a value that would be right.
const EXAMPLES: [(&str, &str); 27] = [
    ("listen", r#""127.0.0.1:8080""#),
    ("data", r#""uzel-data""#),
    ("database", r#""postgres://uzel:password@127.0.0.1:5432/uzel""#),
    ("database_connections", "6"),
    ("migrate", "true"),
    ("node", r#""till-1""#),
    ("master_key_file", r#""/etc/uzel/master.key""#),
    ("master_key_command", r#"["/usr/local/bin/kms", "decrypt", "uzel"]"#),
    ("lease_margin_ms", "30000"),
    ("reading_lease_ms", "10000"),
    ("keep_days", "365"),
    ("public_url", r#""https://hub.example""#),
    ("allow_networks", r#"["127.0.0.0/8"]"#),
    ("trusted_proxies", r#"["10.0.0.5/32"]"#),
    ("failed_auth_per_minute", "30"),
    ("api_calls_per_minute", "12000"),
    ("loyalty_calls_per_minute", "60000"),
    ("loyalty_rate_factor", "20"),
    ("request_timeout_ms", "30000"),
    ("call_timeout_ms", "30000"),
    ("ready_age_s", "300"),
    ("nats", r#""nats://127.0.0.1:4222""#),
    ("nats_creds", r#""/etc/uzel/nats.creds""#),
    ("nats_keep_h", "168"),
    ("endpoint_patience_days", "5"),
    ("log_json", "true"),
    ("dev", "true"),
];

/// The variable of this name that some provider knows.
fn of_a_provider(name: &str) -> Option<&'static str> {
    let known = |provider: &'static Provider| provider.variables.needed.iter().chain(provider.variables.optional);
    PROVIDERS.iter().flat_map(known).map(|(known, _)| *known).find(|known| *known == name)
}

impl Settings {
    /// Of a file (`uzel.toml` here where none is named) and these variables. Every fault is told at once, with its place.
    pub fn load(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        let file = file.or_else(|| Some(Path::new("uzel.toml")).filter(|file| file.exists()));
        let (mut table, mut faults) = file.map(read).transpose()?.unwrap_or_default();
        let mut own = BTreeMap::new();
        let mut master_key = None;
        for (name, value) in variables {
            match name.as_str() {
                "UZEL_MASTER_KEY" if !value.trim().is_empty() => master_key = Some(Secret::new(value)),
                _ => {
                    if let Some(name) = of_a_provider(&name).filter(|_| !value.trim().is_empty()) {
                        own.insert(name, value);
                        continue;
                    }
                    let Some(setting) = name.strip_prefix("UZEL_").map(str::to_lowercase) else { continue };
                    match variable(&setting, value) {
                        Ok(value) => drop(table.insert(setting, value)),
                        Err(fault) => faults.push(format!("variable {name}: {fault}")),
                    }
                }
            }
        }
        if !faults.is_empty() {
            bail!("the settings are not right, and nothing was started:\n{}", faults.join("\n"));
        }
        let mut settings: Self = table.try_into().context("the settings")?;
        settings.variables = own;
        settings.master_key = master_key;
        if settings.master_key_sources() > 1 {
            bail!("the master key comes from one place: set one of master_key_file, master_key_command and UZEL_MASTER_KEY");
        }
        if settings.dev && !settings.listen.ip().is_loopback() {
            bail!("dev prints texts with phones: it works only while the hub listens on loopback, not on {}", settings.listen);
        }
        if let Some(url) = &mut settings.public_url {
            *url = url.trim_end_matches('/').to_owned();
        }
        Ok(settings)
    }

    fn master_key_sources(&self) -> usize {
        let named = [self.master_key.is_some(), self.master_key_file.is_some(), self.master_key_command.is_some()];
        named.iter().filter(|named| **named).count()
    }

    pub fn options(&self) -> anyhow::Result<Options> {
        Ok(Options {
            networks: networks(&self.allow_networks).context("allow_networks")?,
            call_timeout: Duration::from_millis(self.call_timeout_ms),
            public_url: self.public_url.clone(),
            print_texts: self.dev,
            ready_age: Duration::from_secs(self.ready_age_s),
            lease_margin: Duration::from_millis(self.lease_margin_ms),
            keep: self.keep_days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
            endpoint_patience: Duration::from_secs(u64::from(self.endpoint_patience_days) * 86_400),
            nats: self.nats_options().map_err(anyhow::Error::msg)?,
        })
    }

    /// The server to keep everything in, if one is named.
    pub fn postgres(&self) -> anyhow::Result<Option<PostgresOptions>> {
        let Some(url) = &self.database else { return Ok(None) };
        let url = url.expose();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            bail!("must begin with `postgres://`");
        }
        let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        Ok(Some(PostgresOptions {
            node: self.node.clone().unwrap_or_else(|| format!("{}:{}", name(), self.listen.port())),
            reading_lease: Duration::from_millis(self.reading_lease_ms),
            readers: usize::from(self.database_connections),
            migrate: self.migrate,
            ..PostgresOptions::new(url)
        }))
    }

    fn nats_options(&self) -> Result<Option<NatsOptions>, String> {
        let keep = Duration::from_secs(self.nats_keep_h.saturating_mul(3_600));
        let options =
            |urls: &Secret| NatsOptions::new(urls.expose(), self.nats_creds.clone(), keep, uzel_server::refused_message);
        self.nats.as_ref().map(options).transpose()
    }

    pub fn door(&self) -> anyhow::Result<DoorSettings> {
        Ok(DoorSettings {
            trusted_proxies: networks(&self.trusted_proxies).context("trusted_proxies")?,
            failures_per_minute: self.failed_auth_per_minute,
            patience: Duration::from_millis(self.request_timeout_ms),
            calls_per_minute: self.api_calls_per_minute,
            loyalty_calls_per_minute: self.loyalty_calls_per_minute,
            loyalty_rate_factor: self.loyalty_rate_factor,
        })
    }
}

fn networks(list: &[String]) -> anyhow::Result<Networks> {
    Networks::parse(list).map_err(anyhow::Error::msg)
}

/// The environment, without what is no text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The file's settings, and what is wrong with them.
fn read(file: &Path) -> anyhow::Result<(toml::Table, Vec<String>)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("settings file {}", file.display()))?;
    let at = |offset: usize| {
        let (line, column) = line_and_column(&text, offset);
        format!("{}:{line}:{column}", file.display())
    };
    let places = match DeTable::parse(&text) {
        Ok(places) => places,
        Err(error) => bail!("{}: {}", at(error.span().map_or(0, |span| span.start)), error.message()),
    };
    let table: toml::Table = text.parse().with_context(|| format!("settings file {}", file.display()))?;
    let mut found: Vec<(usize, String)> = Vec::new();
    for name in places.get_ref().keys() {
        let value = table.get(name.get_ref().as_ref()).cloned().unwrap_or(toml::Value::Boolean(false));
        if let Err(fault) = check(name.get_ref(), value) {
            found.push((name.span().start, format!("{}: `{}` {fault}", at(name.span().start), name.get_ref())));
        }
    }
    found.sort();
    Ok((table, found.into_iter().map(|(_, fault)| fault).collect()))
}

/// What is wrong with one setting, and what would be right.
fn check(name: &str, value: toml::Value) -> Result<(), String> {
    let Some((_, example)) = EXAMPLES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = EXAMPLES.iter().map(|(known, _)| *known).collect();
        return Err(format!("is not known here: {} are", known.join(", ")));
    };
    let alone = toml::Table::from_iter([(name.to_owned(), value)]);
    let judge = |settings: Settings| -> anyhow::Result<()> {
        settings.options()?;
        settings.door()?;
        settings.postgres()?;
        // In no time at all nothing can be done, and whoever mistypes a key once must be told so.
        if settings.failed_auth_per_minute == 0
            || settings.request_timeout_ms == 0
            || settings.call_timeout_ms == 0
            || settings.ready_age_s == 0
            || settings.database_connections == 0
            || settings.reading_lease_ms == 0
            || settings.keep_days == Some(0)
            || settings.nats_keep_h == 0
            || settings.endpoint_patience_days == 0
        {
            bail!("must be at least 1");
        }
        if settings.master_key_command.as_ref().is_some_and(Vec::is_empty) {
            bail!("names no program");
        }
        match settings.public_url.as_deref().map(reqwest::Url::parse) {
            Some(Ok(url)) if !matches!(url.scheme(), "http" | "https") => bail!("must begin with `https://`"),
            Some(Err(error)) => bail!("is no address: {error}"),
            _ => Ok(()),
        }
    };
    let wrong = match alone.try_into::<Settings>() {
        Ok(settings) => judge(settings).err().map(|error| error.root_cause().to_string()),
        Err(error) => Some(error.message().trim().to_owned()),
    };
    wrong.map_or(Ok(()), |why| Err(format!("is wrong: {why}; right would be, for instance, {example}")))
}

/// A variable is a text; numbers, flags and lists are read out of it.
fn variable(name: &str, value: String) -> Result<toml::Value, String> {
    let text = toml::Value::String(value.clone());
    let read = match (value.parse::<i64>(), value.as_str()) {
        _ if matches!(name, "allow_networks" | "trusted_proxies") => {
            let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
            toml::Value::Array(parts.map(|part| toml::Value::String(part.to_owned())).collect())
        }
        // As a shell would read it.
        _ if name == "master_key_command" => {
            toml::Value::Array(["sh", "-c", &value].map(|part| toml::Value::String(part.to_owned())).to_vec())
        }
        (Ok(number), _) => toml::Value::Integer(number),
        (_, "true") => toml::Value::Boolean(true),
        (_, "false") => toml::Value::Boolean(false),
        _ => text.clone(),
    };
    // A folder may have a number for its name.
    match check(name, read.clone()) {
        Ok(()) => Ok(read),
        Err(fault) => check(name, text.clone()).map(|()| text).map_err(|_| fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("uzel.toml");
        std::fs::write(&file, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = Settings::load(Some(&file), variables);
        loaded.map_or_else(
            |error| format!("{error:#}").replace(&format!("{}/", folder.path().display()), ""),
            |_| "loaded".to_owned(),
        )
    }

    #[test]
    fn every_setting_has_an_example_that_is_right() {
        let text = |of_command: bool| {
            let some = EXAMPLES.iter().filter(|(name, _)| (*name == "master_key_command") == of_command);
            some.map(|(name, example)| format!("{name} = {example}\n")).collect::<String>()
        };
        // The master key comes from one place.
        assert_eq!([load(&text(false), &[]), load(&text(true), &[])], ["loaded", "loaded"]);
        assert!(load(&(text(false) + &text(true)), &[]).contains("comes from one place"));
        let refused = toml::Table::from_iter([("?".to_owned(), toml::Value::Boolean(true))]).try_into::<Settings>().unwrap_err();
        let known = refused.message().matches('`').count() / 2 - 1;
        assert_eq!(known, EXAMPLES.len(), "{refused}");
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place_and_what_would_be_right() {
        let text = "lisen = \"127.0.0.1:80\"\ncall_timeout_ms = \"soon\"\n\n  trusted_proxies = [\"10.0.0.5\"]\npublic_url = \"hub.example\"\n";
        let variables =
            [("UZEL_LISTEN", "8080"), ("UZEL_NAME", "x"), ("UZEL_TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.0/99"), ("HOME", "/")];
        insta::assert_snapshot!(load(text, &variables), @r#"
        the settings are not right, and nothing was started:
        uzel.toml:1:1: `lisen` is not known here: listen, data, database, database_connections, migrate, node, master_key_file, master_key_command, lease_margin_ms, reading_lease_ms, keep_days, public_url, allow_networks, trusted_proxies, failed_auth_per_minute, api_calls_per_minute, loyalty_calls_per_minute, loyalty_rate_factor, request_timeout_ms, call_timeout_ms, ready_age_s, nats, nats_creds, nats_keep_h, endpoint_patience_days, log_json, dev are
        uzel.toml:2:1: `call_timeout_ms` is wrong: invalid type: string "soon", expected u64; right would be, for instance, 30000
        uzel.toml:4:3: `trusted_proxies` is wrong: `10.0.0.5` is no network: write `127.0.0.0/8`; right would be, for instance, ["10.0.0.5/32"]
        uzel.toml:5:1: `public_url` is wrong: is no address: relative URL without a base; right would be, for instance, "https://hub.example"
        variable UZEL_LISTEN: is wrong: invalid type: integer `8080`, expected socket address; right would be, for instance, "127.0.0.1:8080"
        variable UZEL_NAME: is not known here: listen, data, database, database_connections, migrate, node, master_key_file, master_key_command, lease_margin_ms, reading_lease_ms, keep_days, public_url, allow_networks, trusted_proxies, failed_auth_per_minute, api_calls_per_minute, loyalty_calls_per_minute, loyalty_rate_factor, request_timeout_ms, call_timeout_ms, ready_age_s, nats, nats_creds, nats_keep_h, endpoint_patience_days, log_json, dev are
        variable UZEL_TRUSTED_PROXIES: is wrong: `10.0.0.0/99` is no network: write `127.0.0.0/8`; right would be, for instance, ["10.0.0.5/32"]
        "#);
    }

    #[test]
    fn a_number_that_must_not_be_zero_is_told_wherever_it_is_set() {
        for (name, example) in [
            ("failed_auth_per_minute", 30),
            ("request_timeout_ms", 30_000),
            ("call_timeout_ms", 30_000),
            ("ready_age_s", 300),
            ("nats_keep_h", 168),
            ("endpoint_patience_days", 5),
        ] {
            let wrong = format!("is wrong: must be at least 1; right would be, for instance, {example}");
            assert!(load(&format!("{name} = 0\n"), &[]).ends_with(&format!("uzel.toml:1:1: `{name}` {wrong}")), "{name}");
            let variable = format!("UZEL_{}", name.to_uppercase());
            assert!(load("", &[(&variable, "0")]).ends_with(&format!("variable {variable}: {wrong}")), "{name}");
            assert_eq!(load(&format!("{name} = 1\n"), &[]), "loaded", "{name}");
        }
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_its_place() {
        insta::assert_snapshot!(load("listen = \"127.0.0.1:80\"\ndev =\n", &[]), @"uzel.toml:2:6: string values must be quoted, expected literal string");
    }

    #[test]
    fn a_folder_may_have_a_number_for_its_name() {
        assert_eq!(load("", &[("UZEL_DATA", "2026"), ("UZEL_ALLOW_NETWORKS", "")]), "loaded");
    }
}
