//! The nodes, and how they are broken.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};
use uzel_servers::{Postgres, Stop, signal};

use super::{Fault, provider::Provider};
use crate::bench::driven::{Driven, Surroundings};

/// Short ones, so that a run sees many of them end.
const CALL_TIMEOUT_MS: u64 = 2_000;
const LEASE_MARGIN_MS: u64 = 2_000;
const READING_LEASE_MS: u64 = 2_000;
/// A node that stood still so long has lost all that it had taken.
const FREEZE: Duration = Duration::from_millis(CALL_TIMEOUT_MS + LEASE_MARGIN_MS + 1_000);
const CLOCKS: [&str; 2] = ["+7m", "-7m"];

pub(crate) struct Nodes(Vec<Driven>);

impl Nodes {
    pub(crate) async fn start(database: &str, count: usize) -> anyhow::Result<Self> {
        let variables = vec![
            ("UZEL_DATABASE", database.to_owned()),
            ("UZEL_MASTER_KEY", uzel_engine::Vault::new_master().expose().to_owned()),
            ("UZEL_CALL_TIMEOUT_MS", CALL_TIMEOUT_MS.to_string()),
            ("UZEL_LEASE_MARGIN_MS", LEASE_MARGIN_MS.to_string()),
            ("UZEL_READING_LEASE_MS", READING_LEASE_MS.to_string()),
        ];
        let around = Surroundings { variables, ..Surroundings::default() };
        let mut nodes = vec![Driven::start_in(around.clone(), None).await?];
        for _ in 1..count {
            let key = nodes.first().map(Driven::key).map(str::to_owned);
            nodes.push(Driven::start_in(around.clone(), key.as_deref()).await?);
        }
        Ok(Self(nodes))
    }

    fn first(&self) -> anyhow::Result<&Driven> {
        self.0.first().context("there is at least one node")
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|node| node.address).collect()
    }

    /// A flow that writes to the guest of every order, with the order's number.
    pub(crate) async fn set_up(&self, provider: &Provider) -> anyhow::Result<()> {
        let mut setup = crate::bench::setup();
        let sms = json!({
            "base_url": format!("http://{}", provider.address), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 100_000
        });
        if let Some(list) = setup["connection"].as_array_mut() {
            list.push(json!({ "merchant": "bench", "outlet": "outlet", "slug": "sms", "provider": "smsru", "settings": sms }));
        }
        setup["flow"] = json!([{
            "merchant": "bench", "slug": "thanks", "on": ["order.completed"], "ground": "service", "ground_by": "the benchmark",
            "via": "sms", "text": "Thank you for {{ event.subject }}", "latest": "3650d"
        }]);
        self.first()?.apply(&setup).await
    }

    /// Breaks something at random, and waits until what was broken is whole again where it does not mend itself.
    pub(crate) async fn suffer(
        &mut self,
        fault: Fault,
        postgres: &Arc<Postgres>,
        random: &mut StdRng,
    ) -> anyhow::Result<&'static str> {
        let place = random.random_range(0..self.0.len());
        let node = self.0.get_mut(place).context("a node")?;
        match fault {
            Fault::Kill => {
                node.kill()?;
                node.answers().await?;
                Ok("kill")
            }
            Fault::Freeze => {
                let process = node.process()?;
                signal(process, "STOP")?;
                tokio::time::sleep(FREEZE).await;
                signal(process, "CONT")?;
                Ok("freeze")
            }
            Fault::Restart => {
                let postgres = postgres.clone();
                tokio::task::spawn_blocking(move || postgres.restart(Stop::Immediate)).await??;
                Ok("restart")
            }
            Fault::Drop => {
                postgres.drop_connections().await?;
                Ok("drop")
            }
            Fault::Pool => {
                fill(postgres).await?;
                Ok("pool")
            }
            Fault::Clock => {
                node.set_clock(Some(CLOCKS[random.random_range(0..CLOCKS.len())]));
                node.kill()?;
                node.answers().await?;
                Ok("clock")
            }
            Fault::All => bail!("a mix is no fault of its own"),
        }
    }

    /// All nodes answer.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        for node in &self.0 {
            node.answers().await?;
        }
        Ok(())
    }

    pub(crate) async fn quiet(&self) -> anyhow::Result<()> {
        self.first()?.quiet().await.map(drop)
    }

    pub(crate) async fn fsck(&self) -> anyhow::Result<Value> {
        self.first()?.post("/api/v1/fsck", &json!({})).await
    }
}

/// Takes connections until none is left, ends the nodes' own so that they must come again, and gives back after a while.
async fn fill(postgres: &Postgres) -> anyhow::Result<()> {
    let mut idle = Vec::new();
    for round in 0..2 {
        if round == 1 {
            postgres.drop_connections().await?;
            idle.clear();
        }
        while let Ok((client, connection)) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await {
            idle.push((client, tokio::spawn(connection)));
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (client, connection) in idle {
        drop(client);
        drop(connection.await);
    }
    Ok(())
}
