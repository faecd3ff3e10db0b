//! The nodes and the servers that they share.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use serde_json::{Value, json};
use uzel_servers::{Nats, Postgres};

use super::provider::Provider;
use crate::bench::driven::{Driven, Surroundings};

/// Short ones, so that a run sees many of them end.
pub(super) const CALL_TIMEOUT_MS: u64 = 2_000;
pub(super) const LEASE_MARGIN_MS: u64 = 2_000;
const READING_LEASE_MS: u64 = 2_000;
/// Few, so that they are soon all taken.
pub(super) const READERS: usize = 2;

pub(crate) struct Servers {
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) nats: Arc<Nats>,
}

pub(crate) struct Nodes(pub(super) Vec<Driven>);

impl Nodes {
    pub(crate) async fn start(servers: &Servers, count: usize) -> anyhow::Result<Self> {
        let master = uzel_engine::Master::make().expose().to_owned();
        let mut nodes: Vec<Driven> = Vec::new();
        for number in 1..=count {
            let variables = vec![
                // By its number the history knows it.
                ("UZEL_DATABASE", format!("{}?options=-c%20chaos.node%3D{number}", servers.postgres.url())),
                ("UZEL_DATABASE_CONNECTIONS", READERS.to_string()),
                ("UZEL_NATS", servers.nats.url()),
                ("UZEL_MASTER_KEY", master.clone()),
                ("UZEL_CALL_TIMEOUT_MS", CALL_TIMEOUT_MS.to_string()),
                ("UZEL_LEASE_MARGIN_MS", LEASE_MARGIN_MS.to_string()),
                ("UZEL_READING_LEASE_MS", READING_LEASE_MS.to_string()),
            ];
            let key = nodes.first().map(Driven::key).map(str::to_owned);
            nodes.push(Driven::start_in(Surroundings { variables, ..Surroundings::default() }, key.as_deref()).await?);
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

    /// Two flows that write to the guest of every order, with the order's number: at once, or a second later.
    pub(crate) async fn set_up(&self, provider: &Provider) -> anyhow::Result<()> {
        let mut setup = crate::bench::setup();
        let sms = json!({
            "base_url": format!("http://{}", provider.address), "api_id": "A1B2C3D4-1111-2222-3333-444455556666", "calls_per_s": 100_000
        });
        if let Some(list) = setup["connection"].as_array_mut() {
            list.push(json!({ "merchant": "bench", "outlet": "outlet", "slug": "sms", "provider": "smsru", "settings": sms }));
        }
        let flow = |slug: &str, delay: &str| {
            json!({
                "merchant": "bench", "slug": slug, "on": ["order.completed"], "when": format!("event.data.restaurant == '{slug}'"),
                "ground": "service", "ground_by": "the benchmark", "via": "sms", "text": "Thank you for {{ event.subject }}",
                "delay": delay, "latest": "3650d"
            })
        };
        setup["flow"] = json!([flow("now", "0s"), flow("later", "1s")]);
        self.first()?.apply(&setup).await
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
