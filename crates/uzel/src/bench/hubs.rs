//! What is measured: one hub or several nodes, with the store they work on.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use uzel_servers::{Options, Postgres};

use super::{
    driven::{Driven, Surroundings},
    load::Load,
};

/// Settings of limits, which a benchmark does not measure.
const NO_LIMITS: [&str; 3] = ["UZEL_API_CALLS_PER_MINUTE", "UZEL_LOYALTY_CALLS_PER_MINUTE", "UZEL_LOYALTY_RATE_FACTOR"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Sqlite,
    /// A server is started here, unless `--database` names one.
    Postgres,
}

impl Kind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// Where hubs keep everything, and how many there are.
#[derive(Debug, Args)]
pub(crate) struct On {
    /// Where the hub keeps everything.
    #[arg(long, value_enum, default_value_t = Kind::Sqlite)]
    pub(crate) store: Kind,
    /// An empty PostgreSQL database of your own (`postgres://user:password@host/name`). What is put there stays.
    #[arg(long, env = "UZEL_BENCH_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// Nodes on one database, the load spread over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) nodes: u16,
}

/// A PostgreSQL database, and its server if it was started here.
pub(crate) struct Database {
    pub(crate) url: String,
    _server: Option<Postgres>,
}

impl Database {
    /// The one that is named, or a server of our own, whose data may stay in a folder.
    fn open(on: &On, folder: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(url) = &on.database {
            return Ok(Self { url: url.clone(), _server: None });
        }
        let server = Postgres::start_with(&Options { folder, ..Options::default() })?;
        Ok(Self { url: server.url(), _server: Some(server) })
    }

    /// One of PostgreSQL's own programs, which finds the database by its variables: arguments can be seen by everybody.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<Command> {
        let config: tokio_postgres::Config = self.url.parse().context("--database")?;
        let mut command = Command::new(uzel_servers::program(name)?);
        if let Some(tokio_postgres::config::Host::Tcp(host)) = config.get_hosts().first() {
            command.env("PGHOST", host);
        }
        if let Some(port) = config.get_ports().first() {
            command.env("PGPORT", port.to_string());
        }
        for (variable, value) in [("PGUSER", config.get_user()), ("PGDATABASE", config.get_dbname())] {
            value.map(|value| command.env(variable, value));
        }
        if let Some(password) = config.get_password() {
            command.env("PGPASSWORD", String::from_utf8_lossy(password).into_owned());
        }
        Ok(command)
    }

    /// How large it is.
    pub(crate) fn mib(&self) -> anyhow::Result<u64> {
        let told = self.program("psql")?.args(["-Atc", "SELECT pg_database_size(current_database()) >> 20"]).output()?;
        ensure!(told.status.success(), "psql: {}", String::from_utf8_lossy(&told.stderr));
        String::from_utf8_lossy(&told.stdout).trim().parse().context("psql's answer")
    }
}

/// One hub, or nodes of one database. They end before their server does.
pub(crate) struct Hubs {
    nodes: Vec<Driven>,
    pub(crate) store: Kind,
    pub(crate) database: Option<Database>,
    /// What order numbers begin with: a hub that ran before this benchmark may know those of an earlier one.
    run: String,
}

impl Hubs {
    pub(crate) async fn start(on: &On) -> anyhow::Result<Self> {
        Self::start_in(on, None).await
    }

    /// The same; the data stays in a folder.
    pub(crate) async fn start_in(on: &On, folder: Option<PathBuf>) -> anyhow::Result<Self> {
        ensure!(on.nodes == 1 || on.store == Kind::Postgres, "--nodes: several nodes need --store postgres");
        ensure!(on.database.is_none() || on.store == Kind::Postgres, "--database goes with --store postgres");
        let database = match on.store {
            Kind::Sqlite => None,
            Kind::Postgres => Some(Database::open(on, folder.as_ref().map(|folder| folder.join("postgres")))?),
        };
        let mut around = Surroundings { variables: variables(database.as_ref()), folder, ..Surroundings::default() };
        if on.nodes > 1 {
            around.variables.push(("UZEL_MASTER_KEY", uzel_engine::Master::make().expose().to_owned()));
        }
        let mut nodes = vec![Driven::start_in(around.clone(), None).await?];
        for _ in 1..on.nodes {
            let key = nodes.first().map(Driven::key).map(str::to_owned);
            nodes.push(Driven::start_in(around.clone(), key.as_deref()).await?);
        }
        Ok(Self { nodes, store: on.store, database, run: String::new() })
    }

    /// A hub that runs already; `store` is what its owner says it works on.
    pub(crate) async fn running(address: SocketAddr, key: &str, on: &On) -> anyhow::Result<Self> {
        ensure!(on.nodes == 1, "--nodes: one hub is named by --hub");
        ensure!(
            on.store == Kind::Sqlite || on.database.is_some(),
            "--store postgres: name its --database too, so that pgbench can be run there"
        );
        let database = on.database.is_some().then(|| Database::open(on, None)).transpose()?;
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().to_string();
        Ok(Self { nodes: vec![Driven::running(address, key).await?], store: on.store, database, run })
    }

    /// The one that is asked about all.
    pub(crate) fn first(&self) -> &Driven {
        self.nodes.first().expect("there is at least one")
    }

    pub(crate) fn first_mut(&mut self) -> &mut Driven {
        self.nodes.first_mut().expect("there is at least one")
    }

    pub(crate) fn node_mut(&mut self, place: usize) -> Option<&mut Driven> {
        self.nodes.get_mut(place)
    }

    pub(crate) fn nodes(&self) -> &[Driven] {
        &self.nodes
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// The webhook of the rkeeper connection, spread over the nodes; of the first `noted` it is kept when they were due.
    pub(crate) fn webhook(&self, noted: usize) -> Arc<Load> {
        super::webhook(self.addresses(), &self.run, noted)
    }

    /// Sets up by the first node, and waits until the others have heard of it.
    pub(crate) async fn apply(&self, setup: &Value) -> anyhow::Result<()> {
        self.first().apply(setup).await?;
        let wanted = self.first().get("/api/v1/connections").await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        for node in &self.nodes {
            while node.get("/api/v1/connections").await? != wanted {
                ensure!(Instant::now() < deadline, "the node at {} does not hear what was set up", node.address);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Resident memory of each in MiB.
    pub(crate) fn memory_mib(&self) -> Value {
        match self.nodes.as_slice() {
            [one] => json!(one.memory_mib()),
            nodes => nodes.iter().map(|node| json!(node.memory_mib())).collect(),
        }
    }

    /// The size of the store in MiB.
    pub(crate) fn store_mib(&self) -> anyhow::Result<u64> {
        match &self.database {
            Some(database) => database.mib(),
            None => Ok(std::fs::metadata(self.first().data()?.join("uzel.db"))?.len() >> 20),
        }
    }
}

/// What a node on this database is told. One key asks here for as many tills as there are.
pub(crate) fn variables(database: Option<&Database>) -> Vec<(&'static str, String)> {
    let database = database.map(|database| ("UZEL_DATABASE", database.url.clone()));
    database.into_iter().chain(NO_LIMITS.map(|name| (name, "0".to_owned()))).collect()
}
