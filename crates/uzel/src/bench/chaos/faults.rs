//! How nodes and servers are broken.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rand::{RngExt, rngs::StdRng};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use uzel_servers::{Postgres, Stop, signal};

use super::{
    Fault,
    nodes::{CALL_TIMEOUT_MS, LEASE_MARGIN_MS, Nodes, READERS, Servers},
};

/// A node that stood still so long has lost all that it had taken.
const FREEZE: Duration = Duration::from_millis(CALL_TIMEOUT_MS + LEASE_MARGIN_MS + 1_000);
/// How long connections are taken, or tables locked.
const HELD: Duration = Duration::from_secs(2);
const CLOCKS: [&str; 2] = ["+7m", "-7m"];
/// What every road of the hub touches.
const TABLES: &str = "inbox, waiting, tally";

impl Nodes {
    /// Breaks something at random, and waits until what was broken is whole again where it does not mend itself.
    pub(crate) async fn suffer(&mut self, fault: Fault, servers: &Servers, random: &mut StdRng) -> anyhow::Result<&'static str> {
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
                let postgres = servers.postgres.clone();
                tokio::task::spawn_blocking(move || postgres.restart(Stop::Immediate)).await??;
                Ok("restart")
            }
            Fault::Drop => {
                servers.postgres.drop_connections().await?;
                Ok("drop")
            }
            Fault::Pool => {
                fill(&servers.postgres).await?;
                Ok("pool")
            }
            Fault::Block => {
                self.block(&servers.postgres).await?;
                Ok("block")
            }
            Fault::Nats => {
                let nats = servers.nats.clone();
                let away = Duration::from_millis(random.random_range(500..2_500));
                nats.kill();
                tokio::time::sleep(away).await;
                tokio::task::spawn_blocking(move || nats.start_again()).await??;
                Ok("nats")
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

    /// Locks the tables and asks the nodes more than they have connections for, so that their pools are full of what waits.
    async fn block(&self, postgres: &Postgres) -> anyhow::Result<()> {
        let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await?;
        let connection = tokio::spawn(connection);
        lock(&client).await?;
        let mut asked = JoinSet::new();
        for node in &self.0 {
            for _ in 0..4 * READERS {
                asked.spawn(node.asks("/api/v1/journal"));
            }
        }
        let deadline = Instant::now() + HELD;
        let mut most = 0;
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let rows = postgres
                .govern("SELECT count(*) FROM pg_stat_activity WHERE usename = 'uzel' AND wait_event_type = 'Lock'")
                .await?;
            let waiting = rows.first().and_then(|row| row.first()?.as_ref()?.parse().ok());
            most = most.max(waiting.unwrap_or(0));
        }
        let all = self.count() * (READERS + 1);
        ensure!(most >= all, "the tables were locked, and only {most} sessions waited for them instead of {all} or more");
        client.batch_execute("ROLLBACK").await?;
        drop(client);
        connection.await??;
        // Whatever they were answered: they must be answered.
        while let Some(answered) = asked.join_next().await {
            answered?.context("asked while the tables were locked")?;
        }
        Ok(())
    }
}

/// Others that hold some of the tables and wait for more may be in the way for a while: then we step back before the server, after
/// a second, would end one of us.
async fn lock(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let locked = client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '900ms'; LOCK TABLE {TABLES}")).await;
        match locked {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error).context("locking the tables"),
            Err(_) => {
                client.batch_execute("ROLLBACK").await?;
                // Whoever waited behind us goes first, and not in the same step with us for ever.
                tokio::time::sleep(Duration::from_millis(rand::random_range(20..500))).await;
            }
        }
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
        while let Ok((client, connection)) = tokio_postgres::connect(&postgres.url(), NoTls).await {
            idle.push((client, tokio::spawn(connection)));
        }
    }
    tokio::time::sleep(HELD).await;
    for (client, connection) in idle {
        drop(client);
        drop(connection.await);
    }
    Ok(())
}
